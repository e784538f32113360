//! A source reads something outside and brings it, in order, to the journal. It is told once that is durable.
//!
//! The runner owns the loop, the back-off, the back-pressure and the shutdown; a source has no retry code of its own:
//!
//! ```text
//! open(positions) -> { next() -> [journal commits] -> settle() }* -> close()
//!                      ^ any error: back-off, then open() again
//! ```

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use crate::event::Fields;

/// A boxed future that borrows.
pub type Borrowed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a source promises about what is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// What was not settled is read again after a crash.
    AtLeastOnce,
    /// What is not in the journal when the process dies is gone; the words say why.
    BestEffort(&'static str),
}

/// One thing read from outside.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// What the outside knows it by: the same on every redelivery. One that the journal has seen is not written again.
    pub key: Option<Box<str>>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The words: a line, a summary.
    pub text: String,
    /// The kind's own fields; each name stands in its [`crate::KindSpec::fields`].
    pub fields: Fields,
    /// The bytes as they came, where there are any beyond `text`.
    pub body: Vec<u8>,
}

impl Inbound {
    /// How many bytes it takes in the journal, about: what batches are bounded by. What stands in it twice, as text and as
    /// a value, counts twice.
    pub fn size(&self) -> usize {
        let key = self.key.as_ref().map_or(0, |key| key.len());
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + size_of(value) + FRAME).sum();
        self.text.len() + self.body.len() + key + fields + 4 * FRAME
    }
}

/// Bytes of one batch, about ([`Batch::size`]): a source that has gathered so many gives them away.
pub const BATCH_BYTES: usize = 4 << 20;

/// The biggest event, in bytes ([`Inbound::size`]). The journal takes one a little bigger; a source refuses it with words of
/// its own, which know what to do.
pub const EVENT_BYTES: usize = 48 << 20;

/// What stands around a value, in bytes, at most.
const FRAME: usize = 5;

/// How many bytes a value takes in the journal, about.
pub fn size_of(value: &Value) -> usize {
    FRAME
        + match value {
            Value::Null | Value::Bool(_) => 0,
            Value::Number(_) => 8,
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(size_of).sum(),
            Value::Object(map) => map.iter().map(|(name, value)| name.len() + FRAME + size_of(value)).sum(),
        }
}

/// Things of one lane, in order.
#[derive(Clone, Debug)]
pub struct Part {
    /// What order is kept in: a partition, a file, a route.
    pub lane: Arc<str>,
    /// Fields that all of them share.
    pub shared: Option<Arc<Fields>>,
    /// The things. May be empty, where only the position moves.
    pub events: Vec<Inbound>,
    /// Where to go on in this lane after them, written in the same transaction. `Some("")` forgets the lane.
    pub position: Option<String>,
}

/// So many bytes are kept of what cannot be understood.
pub const BAD_BYTES: usize = 256 << 10;

/// Bytes that cannot be understood. The first [`BAD_BYTES`] of them are kept in the dead letters, so that reading can go on.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The lane they came in.
    pub lane: Arc<str>,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What is wrong with them, with the place.
    pub reason: String,
}

/// What one read gives. All of it is written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Things to write.
    pub parts: Vec<Part>,
    /// Bytes for the dead letters.
    pub undecodable: Vec<Undecodable>,
    /// Whether what is known already and became a dead letter is tried again: somebody sent it once more on purpose.
    pub revives: bool,
    /// Given back with [`Source::settle`].
    pub receipt: u64,
}

impl Batch {
    /// One thing in a lane.
    pub fn one(lane: Arc<str>, event: Inbound, receipt: u64) -> Batch {
        let part = Part { lane, shared: None, events: vec![event], position: None };
        Batch { parts: vec![part], receipt, ..Batch::default() }
    }

    /// How many things are in it.
    pub fn count(&self) -> usize {
        self.parts.iter().map(|part| part.events.len()).sum()
    }

    /// How many bytes it takes in the journal, about.
    pub fn size(&self) -> usize {
        let events = self.parts.iter().flat_map(|part| &part.events).map(Inbound::size).sum::<usize>();
        events + self.undecodable.iter().map(|bad| bad.bytes.len() + bad.reason.len()).sum::<usize>()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.undecodable.is_empty()
    }
}

/// What became of one thing: durable in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Written under this number.
    Stored(u64),
    /// Written before, under this number.
    Duplicate(u64),
    /// Too big to be handled: its beginning is in the dead letters.
    Refused,
}

impl Fate {
    /// Its number in the journal, if it has one.
    pub fn number(self) -> Option<u64> {
        match self {
            Fate::Stored(number) | Fate::Duplicate(number) => Some(number),
            Fate::Refused => None,
        }
    }
}

/// Where to go on, by lane: what [`Part::position`] said last.
pub type Positions = BTreeMap<String, String>;

/// Why a source cannot go on for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The other side is away or the connection is lost. It is opened again after a back-off.
    #[error("{0}")]
    Lost(String),
    /// It will not work until somebody changes something. It is opened again all the same, rarely.
    #[error("{0}")]
    Wrong(String),
    /// There is nothing more to read.
    #[error("it has ended")]
    Ended,
}

/// How a source is doing, beyond what the runner counts.
#[derive(Debug, Default)]
pub struct Meter {
    /// Things lost before they reached the journal (best effort), or cut.
    dropped: AtomicU64,
    lag: Mutex<Option<Lag>>,
    note: Mutex<String>,
    trouble: Mutex<Trouble>,
    /// Whether nobody has answered yet since it was opened.
    blind: AtomicBool,
}

/// What waits outside.
#[derive(Clone, Copy, Debug)]
enum Lag {
    /// So many, as the source has counted last.
    Count(u64, &'static str),
    /// Whatever has come since then.
    Since(Instant),
}

/// What is in the way, and what was last.
#[derive(Debug, Default)]
struct Trouble {
    now: Option<String>,
    last: Option<(String, DateTime<Utc>)>,
}

/// What [`Meter::noted`] says of a source that is [`Meter::blind`].
const BLIND: &str = "it has not answered yet";

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Something was lost.
    pub fn drop_count(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// How much waits outside, and in what unit. Told again and again, also while the journal is full: that is when people look.
    pub fn lag(&self, lag: u64, unit: &'static str) {
        *lock(&self.lag) = Some(Lag::Count(lag, unit));
    }

    /// Nobody can say how much waits outside.
    pub fn lag_unknown(&self) {
        *lock(&self.lag) = None;
    }

    /// All that is outside was seen just now. Of what is only looked at now and then, the seconds since are the lag.
    pub fn seen(&self) {
        *lock(&self.lag) = Some(Lag::Since(Instant::now()));
    }

    /// Something an operator should know, such as where it listens.
    pub fn note(&self, text: impl Into<String>) {
        *lock(&self.note) = text.into();
    }

    /// It is open, and nothing can come for now: why. Until [`Meter::well`] it does not count as up.
    pub fn trouble(&self, why: impl Into<String>) {
        let (why, mut trouble) = (why.into(), lock(&self.trouble));
        if trouble.now.as_ref() != Some(&why) {
            trouble.last = Some((why.clone(), Utc::now()));
            trouble.now = Some(why);
        }
    }

    /// What was in the way is gone.
    pub fn well(&self) {
        lock(&self.trouble).now = None;
    }

    /// Why nothing can come for now, if that is so.
    pub fn troubled(&self) -> Option<String> {
        lock(&self.trouble).now.clone()
    }

    /// What was in the way last, and since when.
    pub fn last_trouble(&self) -> Option<(String, DateTime<Utc>)> {
        lock(&self.trouble).last.clone()
    }

    /// It is open, and whether anybody answers is not known: until it is, it counts as little as up as one in trouble.
    pub fn blind(&self, blind: bool) {
        self.blind.store(blind, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_blind(&self) -> bool {
        self.blind.load(Ordering::Relaxed)
    }

    /// What was lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What waits outside, and in what unit; nothing while that is unknown.
    pub fn lagging(&self) -> Option<(u64, &'static str)> {
        let lag = *lock(&self.lag);
        lag.map(|lag| match lag {
            Lag::Count(count, unit) => (count, unit),
            Lag::Since(seen) => (seen.elapsed().as_secs(), "seconds"),
        })
    }

    /// What an operator should know: first of all why nothing comes.
    pub fn noted(&self) -> String {
        if let Some(why) = self.troubled() {
            return why;
        }
        if self.is_blind() {
            return BLIND.to_owned();
        }
        lock(&self.note).clone()
    }
}

/// Something outside that is read into the journal.
///
/// The calls do not overlap. Only what reads ahead is asked for more while a batch is not settled.
pub trait Source: Send + 'static {
    /// What it promises.
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    /// Whether reading blocks the thread (files). Such a source gets a thread of its own.
    fn blocking(&self) -> bool {
        false
    }

    /// Whether `next` may be asked while the batch before is still written: there is one unsettled then, and the one that is read.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Connects, and goes on where `positions` say. Called again after every error.
    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>>;

    /// Reads what is there, waiting for it. Dropping the future must lose nothing.
    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>>;

    /// A batch is durable: acknowledge it outside. Batches are settled in the order in which they were read. `fates`
    /// has one entry for each event of the batch, in order.
    fn settle<'a>(&'a mut self, receipt: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>>;

    /// The journal is full, and nothing will be asked for a while. Called every second until it is not. What waits was read
    /// last and is not written; what is no longer the source's to give may be taken out of it.
    fn idle<'a>(&'a mut self, _waiting: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    /// Lets go. What was not settled stays outside.
    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_looked_at_now_and_then_lags_by_the_time_since() {
        let meter = Meter::default();
        assert_eq!(meter.lagging(), None);
        meter.seen();
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        assert_eq!(meter.lagging(), Some((7, "seconds")));
        meter.lag(3, "files");
        assert_eq!(meter.lagging(), Some((3, "files")));
        meter.lag_unknown();
        assert_eq!(meter.lagging(), None);
    }

    #[test]
    fn what_was_in_the_way_has_a_time_and_an_end() {
        let meter = Meter::default();
        meter.trouble("there is no topic");
        let (why, at) = meter.last_trouble().unwrap();
        assert_eq!((why.as_str(), meter.noted().as_str()), ("there is no topic", "there is no topic"));
        meter.trouble("there is no topic");
        assert_eq!(meter.last_trouble().unwrap().1, at, "it began then");
        meter.well();
        assert_eq!((meter.troubled(), meter.noted()), (None, String::new()));
        assert_eq!(meter.last_trouble(), Some((why, at)), "what it was is still known");
        meter.blind(true);
        assert_eq!((meter.noted().as_str(), meter.troubled()), (BLIND, None), "no answer yet is no fault yet");
    }

    #[test]
    fn what_stands_in_an_event_twice_counts_twice() {
        let wide = "x".repeat(1000);
        let event = Inbound {
            key: Some("k".into()),
            at: Utc::now(),
            text: wide.clone(),
            fields: vec![("data", json!({ &wide: [wide, 1, null] }))],
            body: vec![0; 1000],
        };
        let size = event.size();
        assert!((4000..4100).contains(&size), "{size}");
        let batch = Batch::one(Arc::from("a"), event, 0);
        assert_eq!(batch.size(), size);
    }
}
