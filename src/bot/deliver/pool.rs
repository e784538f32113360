//! The calls of one bind that are under way: events that were claimed are handled, in tracks beside each other.
//!
//! A track that takes its time stays here while the next round begins: it holds up its own lane and no other.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use masterchief_contract::{Delivery, Event, Future, Order, Outlet, Shutdown};
use tokio::time::Instant;

use super::super::calls::{Calls, Failure};
use super::super::replay::Silent;
use crate::dispatch::Bind;
use crate::journal::Replay;

/// An event and how it was tried before.
#[derive(Clone)]
pub(super) struct Try {
    pub(super) event: Event,
    pub(super) attempt: u32,
    pub(super) redelivered: bool,
    pub(super) replay: Replay,
}

/// What came of a track.
#[derive(Default)]
pub(super) struct Ended {
    /// How many were handled.
    pub(super) handled: usize,
    /// Those that are done with and have rows.
    pub(super) done: Vec<u64>,
    /// The one that failed, and which try it was.
    pub(super) failed: Option<(Try, Failure)>,
    /// Those behind it, not begun.
    pub(super) rest: Vec<Try>,
}

impl Ended {
    /// Whether there is something to note: what goes well on the straight way is not.
    pub(super) fn is_noted(&self) -> bool {
        self.failed.is_some() || !self.done.is_empty() || !self.rest.is_empty()
    }
}

/// What is handled at this moment.
#[derive(Default)]
pub(super) struct Busy {
    pub(super) lanes: HashSet<Arc<str>>,
    pub(super) numbers: HashSet<u64>,
}

/// Events that are handled one after the other.
struct Track {
    tries: Vec<Try>,
    /// Which of them is handled, and the first that is not this track's any more.
    at: AtomicUsize,
    end: AtomicUsize,
    /// Whether they have rows.
    kept: AtomicBool,
    /// When the one that is handled began.
    since: Mutex<Instant>,
}

impl Track {
    fn new(tries: Vec<Try>, kept: bool) -> Track {
        Track {
            at: AtomicUsize::new(0),
            end: AtomicUsize::new(tries.len()),
            kept: AtomicBool::new(kept),
            since: Mutex::new(Instant::now()),
            tries,
        }
    }

    fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    fn begin(&self, at: usize) {
        self.at.store(at, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_slow(&self, limit: Duration) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= limit
    }

    /// The one that is handled, and those behind it.
    fn left(&self) -> &[Try] {
        self.tries.get(self.at.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// How a round's calls are made.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) bind: Arc<Bind>,
    pub(super) limit: Duration,
    /// How many run at once.
    pub(super) conc: usize,
}

/// What is under way. Whoever has it polls it: between two polls nothing moves.
pub(super) struct Pool {
    calls: Arc<Calls>,
    shutdown: Shutdown,
    running: FuturesUnordered<Future<(u64, Ended)>>,
    /// Those that run, by a number of their own.
    tracks: BTreeMap<u64, Arc<Track>>,
    /// Those of the newest round for which there is no turn yet.
    queue: VecDeque<Arc<Track>>,
    way: Option<Way>,
    next: u64,
    /// The newest round's first.
    round: u64,
}

impl Pool {
    pub(super) fn new(calls: &Arc<Calls>, shutdown: &Shutdown) -> Pool {
        Pool {
            calls: Arc::clone(calls),
            shutdown: shutdown.clone(),
            running: FuturesUnordered::new(),
            tracks: BTreeMap::new(),
            queue: VecDeque::new(),
            way: None,
            next: 0,
            round: 0,
        }
    }

    /// Begins a round. `kept` says whether its events have rows.
    pub(super) fn begin(&mut self, way: Way, tracks: Vec<Vec<Try>>, kept: bool) {
        self.round = self.next;
        self.way = Some(way);
        self.queue.extend(tracks.into_iter().map(|tries| Arc::new(Track::new(tries, kept))));
        self.fill();
    }

    fn fill(&mut self) {
        let Some(way) = &self.way else { return };
        while self.tracks.len() < way.conc
            && let Some(track) = self.queue.pop_front()
        {
            let number = self.next;
            self.next += 1;
            let (calls, shutdown, way) = (Arc::clone(&self.calls), self.shutdown.clone(), way.clone());
            self.tracks.insert(number, Arc::clone(&track));
            track.begin(0);
            self.running.push(Box::pin(async move { (number, handle(&calls, &shutdown, &way, &track).await) }));
        }
    }

    /// Waits until a track has ended; nothing where none runs. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        let (number, ended) = self.running.next().await?;
        self.tracks.remove(&number);
        self.fill();
        Some(ended)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// How many tracks of the newest round have not ended.
    pub(super) fn left(&self) -> usize {
        self.queue.len() + self.tracks.range(self.round..).count()
    }

    /// Whether some of the newest round wait for their turn.
    pub(super) fn is_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many may begin now beside those that run.
    pub(super) fn free(&self, conc: usize) -> usize {
        if self.queue.is_empty() { conc.saturating_sub(self.tracks.len()) } else { 0 }
    }

    /// Whether something without a row is under way: a bind's cursor cannot pass it.
    pub(super) fn is_straight(&self) -> bool {
        self.tracks.values().chain(&self.queue).any(|track| !track.is_kept())
    }

    /// Whether all that has no row is at an event for so long.
    pub(super) fn is_slow(&self, limit: Duration) -> bool {
        self.tracks.values().filter(|track| !track.is_kept()).all(|track| track.is_slow(limit))
    }

    /// For each track without rows, the one that is handled and those behind it.
    pub(super) fn straight(&self) -> impl Iterator<Item = &[Try]> {
        self.tracks.values().filter(|track| !track.is_kept()).map(|track| track.left())
    }

    /// What [`Pool::straight`] gave has rows now: each track ends with the event it is at.
    pub(super) fn keep(&self) {
        for track in self.tracks.values().filter(|track| !track.is_kept()) {
            track.end.store(track.at.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            track.kept.store(true, Ordering::Relaxed);
        }
    }

    /// What is handled at this moment.
    pub(super) fn busy(&self) -> Busy {
        // A track is of one lane, or of one event.
        let first = || self.tracks.values().chain(&self.queue).filter_map(|track| track.left().first());
        Busy {
            lanes: first().map(|one| Arc::clone(&one.event.lane)).collect(),
            numbers: first().map(|one| one.event.id).collect(),
        }
    }
}

/// Sorts events into tracks: by lane where the order is kept, else each on its own.
pub(super) fn tracks(tries: Vec<Try>, order: Order) -> Vec<Vec<Try>> {
    if order == Order::None {
        return tries.into_iter().map(|one| vec![one]).collect();
    }
    let mut tracks: Vec<Vec<Try>> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    let mut last = 0;
    for one in tries {
        let track = tracks.get(last).and_then(|track| track.last());
        // Those of one lane come many at once.
        if track.is_none_or(|before| !Arc::ptr_eq(&before.event.lane, &one.event.lane)) {
            last = *places.entry(Arc::clone(&one.event.lane)).or_insert(tracks.len());
        }
        match tracks.get_mut(last) {
            Some(track) => track.push(one),
            None => tracks.push(vec![one]),
        }
    }
    tracks
}

/// Handles a track; at shutdown what is not begun is left.
async fn handle(calls: &Arc<Calls>, shutdown: &Shutdown, way: &Way, track: &Track) -> Ended {
    let Way { bind, limit, .. } = way;
    let mut ended = Ended::default();
    let mut at = 0;
    while !shutdown.is_shutdown()
        && at < track.end.load(Ordering::Relaxed)
        && let Some(one) = track.tries.get(at)
    {
        track.begin(at);
        let (attempt, redelivered) = (one.attempt, one.redelivered);
        let delivery = Delivery { attempt, redelivered, replay: one.replay != Replay::No, dry: false };
        let done = match one.replay {
            Replay::Quiet => {
                let silent: Arc<dyn Outlet> = Arc::new(Silent { inner: Arc::clone(&calls.outlet) });
                calls.deliver_to(&one.event, bind, delivery, *limit, &silent).await
            }
            Replay::No | Replay::Speak => calls.deliver(&one.event, bind, delivery, *limit).await,
        };
        at += 1;
        ended.handled += 1;
        match done {
            Ok(()) if track.is_kept() => ended.done.push(one.event.id),
            Ok(()) => {}
            Err(failure) => {
                ended.failed = Some((one.clone(), failure));
                break;
            }
        }
    }
    ended.rest = track.tries.get(at..track.end.load(Ordering::Relaxed)).unwrap_or_default().to_vec();
    ended
}

#[cfg(test)]
mod tests {
    use masterchief_contract::{EventData, Kind};

    use super::*;
    use crate::bot::deliver::state::first_try;

    #[test]
    fn each_lane_is_one_track_in_order_whoever_holds_its_name() {
        let event = |(number, lane): (usize, &str)| {
            let mut data = EventData::numbered(&[Kind::Log], number as u64, chrono::Utc::now());
            data.lane = Arc::from(lane);
            Event::new(data)
        };
        let events: Vec<Event> = ["a", "a", "b", "a", "c", "b", "b"].into_iter().enumerate().map(event).collect();
        let mut shared = EventData::numbered(&[Kind::Log], 7, chrono::Utc::now());
        shared.lane = Arc::clone(&events[6].lane);
        let tries = || events.iter().chain([&Event::new(shared.clone())]).map(first_try).collect();
        let numbers = |order| -> Vec<Vec<u64>> {
            let tracks = tracks(tries(), order);
            tracks.iter().map(|track| track.iter().map(|one| one.event.id).collect()).collect()
        };
        assert_eq!(numbers(Order::Lane), [vec![0, 1, 3], vec![2, 5, 6, 7], vec![4]]);
        assert_eq!(numbers(Order::None).len(), 8);
    }
}
