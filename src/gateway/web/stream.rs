//! What changes, as it happens: Server-Sent Events for a page.
//!
//! First comes the whole state, then the parts that changed. A page that takes nothing more has nothing waiting for it: what it is told
//! next is made when it has room, and is the state of that moment. One that takes nothing for long is let go; it comes back by itself
//! and is told the whole state first.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use masterchief_contract::Shutdown;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use warp::Reply as _;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::html::{guarded, shown};
use super::lists::{self, Filter};
use super::run::{self, Logs, Part};
use super::session::{self, Visitor};
use super::{FOLLOWERS, problem};
use crate::gateway::looks::Query;
use crate::gateway::server::Shared;
use crate::pipelines::{News, Pipelines, Refusal};

/// How long a page may take to take something.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page hears so often that it is still connected, and twice that without a word is too long for it.
const BEAT: Duration = Duration::from_secs(15);
/// Changes that come closer together are told together.
const PACE: Duration = Duration::from_millis(150);
/// How often it is looked whether the logs of a run that goes on have grown.
const LOOK: Duration = Duration::from_secs(2);
/// When a page that lost us comes back, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";

/// What is followed.
pub(super) enum What {
    /// One run.
    Run(i64),
    /// The newest of them.
    Runs(Filter),
}

impl What {
    pub(super) fn runs(query: &Query) -> What {
        What::Runs(Filter::read(query))
    }

    fn means(&self, news: &News) -> bool {
        match self {
            What::Run(number) => news.run == *number,
            What::Runs(filter) => filter.means(&news.app, &news.env),
        }
    }
}

/// A page that follows.
struct Follower {
    shared: Arc<Shared>,
    pipelines: Pipelines,
    key: [u8; 32],
    what: What,
    logs: Logs,
    /// What it was told, by the name of the part.
    told: HashMap<String, String>,
    order: Vec<String>,
    /// Whether it is worth looking without news.
    goes_on: bool,
    _turns: [OwnedSemaphorePermit; 2],
}

/// Lets a page follow.
pub(super) fn open(
    shared: &Arc<Shared>,
    pipelines: &Pipelines,
    visitor: &Visitor,
    what: What,
    until: Shutdown,
) -> Response {
    let one = Arc::clone(&shared.web.followers).try_acquire_owned();
    let own = Arc::clone(&visitor.follows).try_acquire_owned();
    let (Ok(one), Ok(own)) = (one, own) else {
        let text = format!("{FOLLOWERS} pages follow already, or too many of yours; close some, or come again later");
        return problem(Refusal::busy(text));
    };
    // What waits for a page is one chunk.
    let (to, from) = mpsc::channel(1);
    let follower = Follower {
        shared: Arc::clone(shared),
        pipelines: pipelines.clone(),
        key: visitor.key,
        what,
        logs: Logs::new(),
        told: HashMap::new(),
        order: Vec::new(),
        goes_on: false,
        _turns: [one, own],
    };
    tokio::spawn(follow(follower, pipelines.news(), to, until));
    let body = unfold(from, |mut from: mpsc::Receiver<Bytes>| async move {
        from.recv().await.map(|chunk| (Ok::<_, Infallible>(chunk), from))
    });
    let mut out = guarded(warp::reply::stream(body).into_response());
    out.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    out.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What stands in front of us passes it on at once.
    out.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    out
}

/// What a page follows.
trait State {
    /// What is not as it was told; nothing if all is. A fault ends it.
    async fn changed(&mut self) -> Result<Option<Bytes>, String>;

    /// Whether this is news of it.
    fn means(&self, news: &News) -> bool;

    /// Whether it is worth looking without news.
    fn goes_on(&self) -> bool;

    /// Whether who follows still may.
    fn may(&self) -> bool;
}

/// Tells a page what changes, until it goes.
async fn follow(
    mut state: impl State,
    mut news: broadcast::Receiver<Arc<News>>,
    to: mpsc::Sender<Bytes>,
    mut until: Shutdown,
) {
    let (mut beat, mut look) = (tokio::time::interval(BEAT), tokio::time::interval(LOOK));
    // What was missed while the page took nothing is not made up for.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fresh = true;
    loop {
        if fresh {
            let Some(room) = room(&to, &mut until).await else { return };
            // What happened until now is in what is told now.
            drain(&mut news);
            match state.changed().await {
                Ok(Some(chunk)) => room.send(chunk),
                Ok(None) => {}
                Err(why) => return room.send(event("bye", &json!({"error": why}))),
            }
            tokio::time::sleep(PACE).await;
        }
        fresh = tokio::select! {
            one = news.recv() => match one {
                Ok(one) => state.means(&one),
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => state.goes_on(),
            _ = beat.tick() => {
                let Some(room) = room(&to, &mut until).await else { return };
                room.send(event("beat", &json!({})));
                // Who may no longer look hears so within a beat.
                !state.may()
            }
            () = to.closed() => return,
            () = until.recv() => return,
        };
    }
}

impl State for Follower {
    async fn changed(&mut self) -> Result<Option<Bytes>, String> {
        let visitor = session::again(&self.shared, &self.pipelines, &self.key).ok_or("log in again")?;
        let hide = &self.shared.web.hide;
        let (parts, title) = match &self.what {
            What::Run(number) => {
                let seen = run::look(&self.pipelines, &visitor.caller, *number, &mut self.logs).await;
                let seen = seen.map_err(|refusal| shown(hide, &refusal.text))?;
                self.goes_on = seen.goes_on();
                (seen.parts(hide, &self.logs), shown(hide, &seen.title()))
            }
            What::Runs(filter) => {
                let rows = lists::rows(&self.pipelines, filter, hide).await;
                (vec![rows.map_err(|refusal| shown(hide, &refusal.text))?], String::new())
            }
        };
        let first = self.order.is_empty();
        let order: Vec<String> = parts.iter().map(|part| part.id.clone()).collect();
        let mut changed = Vec::new();
        for Part { id, folds, html } in parts {
            let html = html.into_string();
            if self.told.get(&id) != Some(&html) {
                changed.push(json!([id, folds, html]));
                self.told.insert(id, html);
            }
        }
        if changed.is_empty() && order == self.order {
            return Ok(None);
        }
        self.told.retain(|id, _| order.contains(id));
        let chunk = event("parts", &json!({"parts": changed, "all": order, "title": title}));
        self.order = order;
        if !first {
            return Ok(Some(chunk));
        }
        let mut whole = RETRY.as_bytes().to_vec();
        whole.extend_from_slice(&chunk);
        Ok(Some(Bytes::from(whole)))
    }

    fn means(&self, news: &News) -> bool {
        self.what.means(news)
    }

    fn goes_on(&self) -> bool {
        self.goes_on
    }

    fn may(&self) -> bool {
        session::again(&self.shared, &self.pipelines, &self.key).is_some()
    }
}

/// Waits until the page takes something; nothing if it does not, or all ends.
async fn room<'t>(to: &'t mpsc::Sender<Bytes>, until: &mut Shutdown) -> Option<mpsc::Permit<'t, Bytes>> {
    tokio::select! {
        room = tokio::time::timeout(PATIENCE, to.reserve()) => room.ok()?.ok(),
        () = until.recv() => None,
    }
}

fn drain(news: &mut broadcast::Receiver<Arc<News>>) {
    loop {
        match news.try_recv() {
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// JSON has no line ends of its own, so it is one line of data.
fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::pipelines::RunState;

    struct Counted {
        now: Arc<AtomicU64>,
        told: u64,
    }

    impl State for Counted {
        async fn changed(&mut self) -> Result<Option<Bytes>, String> {
            let now = self.now.load(Ordering::Relaxed);
            let changed = std::mem::replace(&mut self.told, now) != now;
            Ok(changed.then(|| event("parts", &json!(now))))
        }

        fn means(&self, _: &News) -> bool {
            true
        }

        fn goes_on(&self) -> bool {
            false
        }

        fn may(&self) -> bool {
            true
        }
    }

    fn news() -> Arc<News> {
        let text = String::new;
        let (stage, stage_state, line) = (None, None, None);
        let state = RunState::Running;
        Arc::new(News {
            run: 1,
            seq: 1,
            app: text(),
            env: text(),
            state,
            stage,
            stage_state,
            kind: "run",
            text: text(),
            line,
            requester: text(),
            version: text(),
            done: (0, 1),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_nothing_hears_the_newest_next_and_is_let_go_after_a_while() {
        let (now, (to, mut from), (say, hear)) = (Arc::new(AtomicU64::new(1)), mpsc::channel(1), broadcast::channel(4));
        let (_stopper, until) = Shutdown::new();
        let task = tokio::spawn(follow(Counted { now: Arc::clone(&now), told: 0 }, hear, to, until));
        for n in 2..=100 {
            tokio::time::sleep(PACE).await;
            now.store(n, Ordering::Relaxed);
            // It may not listen yet.
            let _ = say.send(news());
        }
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| *last != event("parts", &json!(100))) {
            heard.push(from.recv().await.unwrap());
        }
        // A beat may stand before either.
        heard.retain(|chunk| *chunk != event("beat", &json!({})));
        assert_eq!(heard, [event("parts", &json!(1)), event("parts", &json!(100))]);
        // Now it takes nothing any more.
        tokio::time::sleep(BEAT * 2 + PATIENCE).await;
        task.await.unwrap();
        assert!(from.recv().await.is_some() && from.recv().await.is_none(), "one chunk waited for it");
    }
}
