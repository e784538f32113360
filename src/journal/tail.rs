//! The newest events of each stream in memory, so that a bind that keeps up never reads the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::record::Chunk;

/// Events of one stream that are kept in memory at most.
const EVENTS_MAX: usize = 32_768;
/// Bytes of all streams that are kept in memory at most, about.
const BYTES_MAX: usize = 32 << 20;
/// How long whoever writes much waits for binds that would have to read it from the disk. That costs them more than to handle it.
const BREATH: Duration = Duration::from_millis(100);

/// The tails by stream. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Tails {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<Arc<str>, Tail>,
    bytes: usize,
}

struct Tail {
    chunks: VecDeque<(Arc<Chunk>, usize)>,
    events: usize,
    /// Every event of the stream from this number on is in `chunks`.
    from: u64,
    end: watch::Sender<u64>,
    /// How far the bind is that has been given most.
    given: watch::Sender<u64>,
}

impl Tail {
    fn new(from: u64) -> Tail {
        let (end, given) = (watch::Sender::new(from), watch::Sender::new(from));
        Tail { chunks: VecDeque::new(), events: 0, from, end, given }
    }

    /// Whether so much waits for every bind that soon it would be let go of before any of them has it.
    fn is_far(&self) -> bool {
        let given = *self.given.borrow();
        let waiting = self.chunks.range(self.chunks.partition_point(|(chunk, _)| chunk.end() <= given)..);
        let (events, bytes) =
            waiting.fold((0, 0), |(events, sum), (chunk, bytes)| (events + chunk.events.len(), sum + bytes));
        self.end.receiver_count() > 0 && (events > EVENTS_MAX / 2 || bytes > BYTES_MAX / 2)
    }

    /// Lets go of the oldest; the bytes that are freed.
    fn drop_oldest(&mut self) -> usize {
        let Some((chunk, bytes)) = self.chunks.pop_front() else { return 0 };
        self.events -= chunk.events.len();
        self.from = chunk.end();
        bytes
    }
}

impl Tails {
    /// Follows the end of a stream: a number that grows with it. `next` is the journal's next number.
    pub(super) fn follow(&self, stream: &Arc<str>, next: u64) -> watch::Receiver<u64> {
        self.lock().streams.entry(Arc::clone(stream)).or_insert_with(|| Tail::new(next)).end.subscribe()
    }

    /// Whether nobody follows a stream; then its end is noted and nothing is kept: whoever comes later reads the disk.
    pub(super) fn pass(&self, stream: &Arc<str>, end: u64) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if end == 0 && !inner.streams.contains_key(stream) {
            // Nothing was written; where the stream ends is for whoever follows it to find out.
            return true;
        }
        let tail = inner.streams.entry(Arc::clone(stream)).or_insert_with(|| Tail::new(end));
        if tail.end.receiver_count() > 0 {
            return false;
        }
        while !tail.chunks.is_empty() {
            inner.bytes -= tail.drop_oldest();
        }
        tail.from = tail.from.max(end);
        let from = tail.from;
        // Nobody is there to be told.
        tail.end.send_if_modified(|end| {
            *end = from;
            false
        });
        true
    }

    /// Adds what was just committed to a stream that somebody follows.
    pub(super) fn add(&self, stream: &Arc<str>, chunk: Chunk, bytes: usize) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let tail = inner.streams.entry(Arc::clone(stream)).or_insert_with(|| Tail::new(chunk.first));
        let end = chunk.end();
        tail.events += chunk.events.len();
        tail.chunks.push_back((Arc::new(chunk), bytes));
        inner.bytes += bytes;
        while tail.events > EVENTS_MAX && tail.chunks.len() > 1 {
            inner.bytes -= tail.drop_oldest();
        }
        tail.end.send_replace(end);
        while inner.bytes > BYTES_MAX {
            let longest =
                inner.streams.values_mut().max_by_key(|tail| tail.chunks.iter().map(|(_, bytes)| bytes).sum::<usize>());
            match longest.map(Tail::drop_oldest) {
                Some(freed) if freed > 0 => inner.bytes -= freed,
                _ => break,
            }
        }
    }

    /// Forgets what is in memory: whatever is before `next` is on disk.
    pub(super) fn clear(&self, next: u64) {
        let mut inner = self.lock();
        inner.bytes = 0;
        for tail in inner.streams.values_mut() {
            tail.chunks.clear();
            (tail.events, tail.from) = (0, next);
            tail.end.send_replace(next);
        }
    }

    /// The chunks from this number on, if they are all in memory.
    pub(super) fn since(&self, stream: &str, from: u64) -> Option<Vec<Arc<Chunk>>> {
        let inner = self.lock();
        let tail = inner.streams.get(stream)?;
        if from < tail.from {
            return None;
        }
        let at = tail.chunks.partition_point(|(chunk, _)| chunk.end() <= from);
        let given = tail.chunks.back().map_or(from, |(chunk, _)| chunk.end());
        tail.given.send_if_modified(|known| {
            let is_more = given > *known;
            *known = given.max(*known);
            is_more
        });
        Some(tail.chunks.range(at..).map(|(chunk, _)| Arc::clone(chunk)).collect())
    }

    /// Waits, but not for long, until binds have been given most of what is kept of a stream. Whether they have.
    pub(super) async fn given(&self, stream: &str) -> bool {
        let is_far = || self.lock().streams.get(stream).is_some_and(Tail::is_far);
        let Some(mut given) = self.lock().streams.get(stream).map(|tail| tail.given.subscribe()) else { return true };
        let caught_up = async { while is_far() && given.changed().await.is_ok() {} };
        tokio::time::timeout(BREATH, caught_up).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_to_which_nothing_was_written_is_read_from_the_disk_by_whoever_comes_later() {
        let (tails, stream): (Tails, Arc<str>) = (Tails::default(), Arc::from("webhook"));
        // What was read was known already: nothing is new, and nobody follows.
        assert!(tails.pass(&stream, 0));
        let end = tails.follow(&stream, 100);
        assert_eq!(*end.borrow(), 100);
        assert!(tails.since(&stream, 5).is_none(), "what is before is on the disk");
        assert!(!tails.pass(&stream, 101), "now somebody follows");
    }

    fn chunk(first: u64, count: usize) -> Chunk {
        let event = |number: usize| {
            let data = masterchief_contract::EventData::numbered(
                &[masterchief_contract::Kind::Log],
                first + number as u64,
                chrono::Utc::now(),
            );
            masterchief_contract::Event::new(data)
        };
        Chunk { first, events: (0..count).map(event).collect() }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_writes_much_waits_a_moment_for_binds_that_would_be_left_behind() {
        let (tails, stream): (Tails, Arc<str>) = (Tails::default(), Arc::from("log:app"));
        let began = tokio::time::Instant::now();
        assert!(tails.given(&stream).await, "nobody follows");
        let end = tails.follow(&stream, 1);
        tails.add(&stream, chunk(1, EVENTS_MAX / 2), 100);
        assert!(tails.given(&stream).await, "there is room for as much again");
        tails.add(&stream, chunk(1 + EVENTS_MAX as u64 / 2, 10), 100);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(!tails.given(&stream).await, "nothing is taken");
        assert_eq!(began.elapsed(), BREATH);
        let taken = async {
            tokio::time::sleep(BREATH / 4).await;
            assert_eq!(tails.since(&stream, 1).unwrap().len(), 2);
        };
        assert!(tokio::join!(tails.given(&stream), taken).0);
        assert_eq!(began.elapsed(), BREATH / 4 * 5);
        tails.add(&stream, chunk(11 + EVENTS_MAX as u64 / 2, 10), BYTES_MAX / 2 + 1);
        assert!(!tails.given(&stream).await, "few, but big");
        drop(end);
        assert!(tails.given(&stream).await, "nobody follows any more");
    }
}
