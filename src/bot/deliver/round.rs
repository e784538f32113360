//! One round: events that were claimed are handled, in tracks beside each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use masterchief_contract::{Delivery, Event, Order, Outlet, Shutdown};

use super::super::calls::{Calls, Failure};
use super::super::replay::Silent;
use crate::dispatch::Bind;
use crate::journal::Replay;

/// An event and how it was tried before.
pub(super) struct Try {
    pub(super) event: Event,
    pub(super) attempt: u32,
    pub(super) redelivered: bool,
    pub(super) replay: Replay,
}

/// What came of a track.
#[derive(Default)]
pub(super) struct Ended {
    /// Done with.
    pub(super) done: Vec<u64>,
    /// The one that failed, and which try it was.
    pub(super) failed: Option<(Try, Failure)>,
    /// Those behind it, not begun.
    pub(super) rest: Vec<Try>,
}

/// Sorts events into tracks: by lane where the order is kept, else each on its own.
pub(super) fn tracks(tries: Vec<Try>, order: Order) -> Vec<Vec<Try>> {
    if order == Order::None {
        return tries.into_iter().map(|one| vec![one]).collect();
    }
    let mut tracks: Vec<Vec<Try>> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for one in tries {
        let place = *places.entry(Arc::clone(&one.event.lane)).or_insert(tracks.len());
        match tracks.get_mut(place) {
            Some(track) => track.push(one),
            None => tracks.push(vec![one]),
        }
    }
    tracks
}

/// Handles tracks, at most `conc` at once; at shutdown what is not begun is left. `note_done` asks for the numbers of what was done.
pub(super) async fn run(
    calls: &Arc<Calls>,
    bind: &Arc<Bind>,
    shutdown: &Shutdown,
    tracks: Vec<Vec<Try>>,
    conc: usize,
    limit: Duration,
    note_done: bool,
) -> Vec<Ended> {
    if let [_] = tracks.as_slice() {
        let track = tracks.into_iter().next().unwrap_or_default();
        return vec![one_track(calls, bind, shutdown, track, limit, note_done).await];
    }
    futures_util::stream::iter(tracks)
        .map(|track| one_track(calls, bind, shutdown, track, limit, note_done))
        .buffer_unordered(conc.max(1))
        .collect()
        .await
}

async fn one_track(
    calls: &Arc<Calls>,
    bind: &Arc<Bind>,
    shutdown: &Shutdown,
    track: Vec<Try>,
    limit: Duration,
    note_done: bool,
) -> Ended {
    let mut ended = Ended::default();
    let mut track = track.into_iter();
    while !shutdown.is_shutdown()
        && let Some(one) = track.next()
    {
        let (attempt, redelivered) = (one.attempt, one.redelivered);
        let delivery = Delivery { attempt, redelivered, replay: one.replay != Replay::No, dry: false };
        let done = match one.replay {
            Replay::Quiet => {
                let silent: Arc<dyn Outlet> = Arc::new(Silent { inner: Arc::clone(&calls.outlet) });
                calls.deliver_to(&one.event, bind, delivery, limit, &silent).await
            }
            Replay::No | Replay::Speak => calls.deliver(&one.event, bind, delivery, limit).await,
        };
        match done {
            Ok(()) if note_done => ended.done.push(one.event.id),
            Ok(()) => {}
            Err(failure) => {
                ended.failed = Some((one, failure));
                break;
            }
        }
    }
    ended.rest = track.collect();
    ended
}
