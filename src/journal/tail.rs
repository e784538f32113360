//! The newest events of each stream in memory, so that a bind that keeps up never reads the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::record::Chunk;

/// Events of one stream that are kept in memory at most.
const EVENTS_MAX: usize = 32_768;
/// Bytes of all streams that are kept in memory at most, about.
const BYTES_MAX: usize = 32 << 20;

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
}

impl Tail {
    fn new(from: u64) -> Tail {
        Tail { chunks: VecDeque::new(), events: 0, from, end: watch::Sender::new(from) }
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
        tail.end.send_replace(tail.from);
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
        Some(tail.chunks.range(at..).map(|(chunk, _)| Arc::clone(chunk)).collect())
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
}
