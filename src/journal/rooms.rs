//! How much of the journal each stream has, and whose source has to wait: a handler that is stuck fills the share of its own stream,
//! and the others go on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::watch;

use super::rows::ShareRow;

/// Bytes of events by stream, as the tables have them.
#[derive(Default)]
pub(super) struct Held {
    bytes: HashMap<i64, u64>,
    /// Of all of them.
    total: u64,
    /// What the transaction that goes on has changed.
    changed: Vec<(i64, i64)>,
}

impl Held {
    /// What the tables say.
    pub(super) fn read(db: &Connection) -> rusqlite::Result<Held> {
        let mut rows = db.prepare("SELECT stream, sum(bytes) FROM events GROUP BY stream")?;
        let bytes: HashMap<i64, u64> =
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(Held { total: bytes.values().sum(), bytes, changed: Vec::new() })
    }

    /// Of all streams.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Of one.
    pub(super) fn of(&self, stream: i64) -> u64 {
        self.bytes.get(&stream).copied().unwrap_or(0)
    }

    /// By stream.
    pub(super) fn by_stream(&self) -> HashMap<i64, u64> {
        self.bytes.clone()
    }

    /// A transaction begins.
    pub(super) fn begin(&mut self) {
        self.changed.clear();
    }

    /// A row was written, or, with fewer bytes than none, deleted.
    pub(super) fn put(&mut self, stream: i64, bytes: i64) {
        self.changed.push((stream, bytes));
        self.change(stream, bytes);
    }

    /// The transaction is given up.
    pub(super) fn undo(&mut self) {
        for (stream, bytes) in std::mem::take(&mut self.changed) {
            self.change(stream, -bytes);
        }
    }

    fn change(&mut self, stream: i64, bytes: i64) {
        let held = self.bytes.entry(stream).or_default();
        *held = held.saturating_add_signed(bytes);
        self.total = self.total.saturating_add_signed(bytes);
    }
}

/// Whether so much is too much. A little lower for going on than for stopping, so that it does not flutter.
pub(super) fn is_over(bytes: u64, most: u64, was: bool) -> bool {
    bytes >= if was { most / 10 * 9 } else { most }
}

/// The streams that somebody reads or writes, by name.
#[derive(Default)]
pub(super) struct Rooms {
    by_stream: Mutex<BTreeMap<Arc<str>, Room>>,
}

/// What a stream has.
struct Room {
    bytes: u64,
    /// Whether that is its share.
    crowded: bool,
    /// Whether its source has to wait: for that, or because all of the journal is full.
    waits: watch::Sender<bool>,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Room>> {
        self.by_stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the source of a stream has to wait; known from the next commit on.
    pub(super) fn of(&self, stream: &Arc<str>) -> watch::Receiver<bool> {
        let mut rooms = self.lock();
        let room = rooms.entry(Arc::clone(stream)).or_insert_with(|| Room {
            bytes: 0,
            crowded: false,
            waits: watch::Sender::new(false),
        });
        room.waits.subscribe()
    }

    /// Something was committed; whether any stream has its share.
    pub(super) fn note(&self, share: u64, full: bool, bytes: impl Fn(&str) -> u64) -> bool {
        let mut any = false;
        for (stream, room) in self.lock().iter_mut() {
            room.bytes = bytes(stream);
            room.crowded = is_over(room.bytes, share, room.crowded);
            any |= room.crowded;
            let waits = full || room.crowded;
            room.waits.send_if_modified(|was| std::mem::replace(was, waits) != waits);
        }
        any
    }

    /// What each stream has.
    pub(super) fn rows(&self) -> Vec<ShareRow> {
        let row = |(stream, room): (&Arc<str>, &Room)| ShareRow {
            stream: stream.to_string(),
            bytes: room.bytes,
            full: room.crowded,
        };
        self.lock().iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::Utc;
    use masterchief_contract::{Batch, Clock, Inbound, Kind, Matching, Part};

    use crate::journal::{self, Advance, Cursor, Journal, Settings};

    /// Events of a thousand bytes that cannot be compressed.
    fn batch(count: usize, seed: u64) -> Batch {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * seed + 1);
        let mut byte = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 32) as u8
        };
        let mut event = |_| Inbound {
            key: None,
            at: Utc::now(),
            text: String::new(),
            fields: Vec::new(),
            body: (0..1000).map(|_| byte()).collect(),
        };
        let events = (0..count).map(&mut event).collect();
        let part = Part { lane: "a".into(), shared: None, events, position: None };
        Batch { parts: vec![part], ..Batch::default() }
    }

    async fn put(journal: &Journal, stream: &Arc<str>, seed: u64) {
        journal.append(Kind::Stream, stream, batch(20, seed)).await.unwrap();
    }

    fn opened(settings: &Settings) -> Journal {
        let specs = masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        journal::open(None, settings.clone(), specs, Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_that_nobody_deals_with_has_its_share_and_the_others_go_on_until_all_is_full() {
        let settings = Settings { max_bytes: 180_000, stream_bytes: None, keep_bytes: 1000, ..Settings::default() };
        let journal = opened(&settings);
        let [one, two]: [Arc<str>; 2] = ["kafka:one", "kafka:two"].map(Arc::from);
        let waits = [journal.room(&one), journal.room(&two)];
        let waiting = || waits.each_ref().map(|waits| *waits.borrow());
        let (bind, other): (Arc<str>, Arc<str>) = (Arc::from("stream one"), Arc::from("stream two"));
        journal.cursor(Kind::Stream, &one, &bind).await.unwrap();
        journal.cursor(Kind::Stream, &two, &other).await.unwrap();
        for seed in 0..5 {
            assert_eq!(waiting(), [false, false], "{seed}");
            put(&journal, &one, seed).await;
        }
        assert_eq!(waiting(), [true, false], "half of it is its share");
        assert!(!*journal.full().borrow());
        let shares = journal.shares();
        let [of_one, of_two] = &shares[..] else { panic!("{shares:?}") };
        assert!(of_one.full && of_one.bytes >= 90_000 && !of_two.full && of_two.bytes == 0, "{shares:?}");
        assert_eq!(journal.laggard(&one).await.unwrap(), Some(("stream one".to_owned(), 100)));
        for seed in 0..4 {
            assert_eq!((waiting(), *journal.full().borrow()), ([true, false], false), "{seed}");
            put(&journal, &two, seed).await;
        }
        assert_eq!((waiting(), *journal.full().borrow()), ([true, true], true), "together they have all of it");
        assert!(!journal.shares()[1].full, "though the second has less than its share");
        // What is dealt with goes.
        let next = journal.status().await.unwrap().next;
        let (cursor, stream) = (Cursor { done: next, claimed: next }, Arc::clone(&one));
        let done = Advance { bind, stream, cursor, put: Vec::new(), drop: Vec::new(), dead: Vec::new() };
        journal.advance(done).await.unwrap();
        journal.sweep().await;
        assert_eq!((waiting(), *journal.full().borrow()), ([false, false], false));
    }

    #[tokio::test]
    async fn what_is_done_with_is_not_kept_where_a_stream_has_its_share() {
        let settings = Settings { max_bytes: 1 << 30, stream_bytes: Some(60_000), ..Settings::default() };
        let journal = opened(&settings);
        let stream: Arc<str> = Arc::from("kafka:one");
        let waits = journal.room(&stream);
        for seed in 0..4 {
            put(&journal, &stream, seed).await;
        }
        assert!(*waits.borrow(), "nobody reads it, but it is there");
        journal.sweep().await;
        assert!(!*waits.borrow());
        let [share] = &journal.shares()[..] else { panic!("{:?}", journal.shares()) };
        assert!((20_000..60_000).contains(&share.bytes), "the newest are kept for replays: {share:?}");
    }

    #[tokio::test]
    async fn a_journal_that_is_full_of_what_is_done_with_makes_room_for_all_though_it_may_keep_as_much_as_it_may_have()
    {
        let settings = Settings { max_bytes: 100_000, keep_bytes: 100_000, ..Settings::default() };
        let journal = opened(&settings);
        let streams: [Arc<str>; 3] = ["kafka:one", "kafka:two", "kafka:three"].map(Arc::from);
        streams.iter().for_each(|stream| drop(journal.room(stream)));
        for seed in 0..102 {
            let stream = &streams[seed % 3];
            journal.append(Kind::Stream, stream, batch(1, seed as u64)).await.unwrap();
        }
        assert!(*journal.full().borrow() && !journal.shares().iter().any(|share| share.full));
        journal.sweep().await;
        assert!(!*journal.full().borrow(), "{:?}", journal.status().await);
        assert!(journal.status().await.unwrap().bytes > 80_000, "and no more room than that");
    }
}
