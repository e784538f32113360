//! Kind `out`: what the bot says, as events. A bind may drop a line before it is queued, and sees what has left.

use std::sync::{Arc, Weak};
use std::time::Duration;

use masterchief_contract::{Class, Clock, Event, EventData, Inlet, Kind, Outcome, Value};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::calls::{CALLS_MAX, Calls};
use crate::dispatch::{BindTable, Step, decide};
use crate::users::Standing;

/// How long what is said at once waits for handlers that may drop lines of it: all of it together, however many there are.
const WINDOW: Duration = Duration::from_millis(250);
/// Lines about which handlers are asked at once. More wait for their turn: a call beyond those that a bind may have is left out, and its
/// line would pass unseen. The other half is for calls that went on when their time was over.
const ASKED: usize = CALLS_MAX as usize / 2;
/// The kinds of these events.
const OUT: &[Kind] = &[Kind::Out];

/// Makes events of what is said, where somebody has bound them.
pub(crate) struct Overt {
    table: BindTable,
    /// Weak, because calls know the outbox, which knows this.
    calls: Weak<Calls>,
    inlet: Inlet,
    clock: Clock,
    turns: Semaphore,
}

impl Overt {
    /// Nothing was said yet.
    pub(crate) fn new(table: BindTable, calls: &Arc<Calls>, inlet: Inlet) -> Overt {
        let (calls, clock) = (Arc::downgrade(calls), calls.clock.clone());
        Overt { table, calls, inlet, clock, turns: Semaphore::new(ASKED) }
    }

    /// Whether anybody has bound them.
    pub(super) fn is_wanted(&self) -> bool {
        self.table.has_any(OUT)
    }

    /// The bind that drops a line that is about to be queued, if one does in time.
    pub(super) async fn drops(&self, network: &str, class: Class, line: &str) -> Option<String> {
        let calls = self.calls.upgrade()?;
        let _turn = self.turns.acquire().await;
        let until = Instant::now() + WINDOW;
        let event = self.event(network, queue(class), line, "queued");
        let decision = decide(&self.table.index(), &event, &Standing::default(), calls.rules.load().policy);
        // All are asked at once, so that one that takes its time does not take it from the next.
        let begin = |step: Step| {
            let origin = step.bind.origin();
            (tokio::spawn(Arc::clone(&calls).run(event.clone(), step, Default::default())), origin)
        };
        let asked: Vec<_> = decision.steps.into_iter().map(begin).collect();
        let mut by = None;
        for (mut task, origin) in asked {
            match tokio::time::timeout_at(until, &mut task).await {
                Ok(Ok(Outcome::Stop)) => by = by.or(Some(origin)),
                Ok(_) => {}
                // Who takes longer has no say; the call goes on all the same.
                Err(_) if by.is_none() => tell_if_late(task, origin),
                Err(_) => {}
            }
        }
        by
    }

    /// A line has left. If the street is full, nobody hears of it.
    pub(super) fn left(&self, network: &str, class: Class, line: &str) {
        // A parcel that is given back is dropped.
        let _ = self.inlet.try_put(self.event(network, queue(class), line, "sent").into());
    }

    /// Something has left that never waits.
    pub(super) fn left_at_once(&self, network: &str, line: &str) {
        // As above.
        let _ = self.inlet.try_put(self.event(network, "noqueue", line, "sent").into());
    }

    fn event(&self, network: &str, queue: &str, line: &str, status: &str) -> Event {
        let mut data = EventData::new(OUT, self.clock.now());
        data.network = Arc::from(network);
        data.text = line.to_owned();
        data.fields =
            vec![("queue", Value::from(queue)), ("message", Value::from(line)), ("status", Value::from(status))];
        Event::new(data)
    }
}

/// Says so if a handler would have dropped a line that was let go.
fn tell_if_late(task: JoinHandle<Outcome>, bind: String) {
    tokio::spawn(async move {
        if let Ok(Outcome::Stop) = task.await {
            tracing::warn!(bind, window = ?WINDOW, "A STOP came too late: the line had been let go");
        }
    });
}

/// Eggdrop's name for the queue of a class.
fn queue(class: Class) -> &'static str {
    match class {
        Class::Page => "mode",
        Class::Reply => "server",
        Class::Progress | Class::Chatter => "help",
    }
}
