//! Replays: an event of the journal given again to the binds that want it, dry unless asked, and never into a channel by
//! accident.

use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Action, Delivery, Event, Future, How, Outlet, Refused};
use serde::Serialize;

use super::calls::Calls;
use crate::dispatch::{Bind, BindTable};
use crate::journal::{Journal, JournalError};

/// Lines that are shown of one handler at most.
const LINES: usize = 20;

/// Writes down what would be done.
#[derive(Default)]
struct Recorder {
    lines: Mutex<Vec<String>>,
}

impl Outlet for Recorder {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(shown(&action));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Does what is asked, but says nothing in channels or to people.
pub(super) struct Silent {
    pub(super) inner: Arc<dyn Outlet>,
}

impl Outlet for Silent {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        if matches!(action.bare(), Action::Say { .. } | Action::Send { .. }) {
            tracing::info!(action = %shown(&action), "A replay would have said this");
            return Box::pin(std::future::ready(Ok(())));
        }
        self.inner.perform(action)
    }
}

fn shown(action: &Action) -> String {
    let at = |network: &str, target: &str| {
        if network.is_empty() { target.to_owned() } else { format!("{network}/{target}") }
    };
    match action {
        Action::Say { network, target, text, how, .. } => {
            let verb = match how {
                How::Say => "say to",
                How::Notice => "notice",
                How::Act => "act in",
            };
            format!("{verb} {}: {text}", at(network, target))
        }
        Action::Join { network, channel, .. } => format!("join {}", at(network, channel)),
        Action::Part { network, channel, .. } => format!("part {}", at(network, channel)),
        Action::Send { network, command, params } => format!("send {}: {}", at(network, command), params.join(" ")),
        Action::Answer { status, .. } => format!("answer the post with {status}"),
        Action::Tagged { action, .. } | Action::Marked { action, .. } => shown(action),
    }
}

/// What would come of one bind.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// Kind, mask, where it is written.
    pub bind: String,
    /// What it would do, or what would go wrong.
    pub lines: Vec<String>,
}

/// The binds that want an event of this stream.
pub(crate) fn wanting(table: &BindTable, stream: &str, event: &Event) -> Vec<Arc<Bind>> {
    let wanted = table.wanted().into_iter();
    let meeting = wanted.filter(|(_, _, wanted)| &*wanted.stream == stream && wanted.meets(event));
    meeting.map(|(_, bind, _)| bind).collect()
}

/// Gives an event to its binds without doing anything; nothing if there is no such event.
pub(crate) async fn dry(
    calls: &Arc<Calls>,
    table: &BindTable,
    journal: &Journal,
    number: u64,
) -> Result<Option<Vec<Replayed>>, JournalError> {
    let Some((stream, event)) = journal.event(number).await? else { return Ok(None) };
    let mut out = Vec::new();
    for bind in wanting(table, &stream, &event) {
        let recorder = Arc::<Recorder>::default();
        let outlet: Arc<dyn Outlet> = Arc::clone(&recorder) as Arc<dyn Outlet>;
        let delivery = Delivery { attempt: 1, redelivered: false, replay: true, dry: true };
        let done = calls.deliver_to(&event, &bind, delivery, calls.limit(&bind), &outlet).await;
        let mut lines = std::mem::take(&mut *recorder.lines.lock().unwrap_or_else(PoisonError::into_inner));
        lines.truncate(LINES);
        if lines.is_empty() {
            lines.push("nothing to say or do".to_owned());
        }
        if let Err(failure) = done {
            lines.push(format!("fails: {}", failure.reason));
        }
        out.push(Replayed { bind: format!("{} {} ({})", bind.kind(), bind.mask, bind.origin()), lines });
    }
    Ok(Some(out))
}
