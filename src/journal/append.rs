//! A batch on its way to the tables: its records are made before the writer has it.

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{Batch, Fate, Fields, Inbound, Kind};

use super::record::{self, BadRecord, Chunk};

/// Records of a part that are more share several rows.
const ROW_MAX: usize = 16 << 20;
/// The biggest event, in bytes of its record. What is bigger goes to the dead letters: refused for ever it would stop its source.
pub(super) const EVENT_MAX: usize = 64 << 20;

/// What was written for one batch, to be shown once it is committed.
#[derive(Default)]
pub(super) struct Appended {
    pub(super) fates: Vec<Fate>,
    /// For each part the number of its first event and its bytes; nothing where nothing was new.
    pub(super) rows: Vec<Option<(u64, usize)>>,
    /// Whether a dead letter waits to be tried again.
    pub(super) revived: bool,
}

impl Appended {
    /// The number after the newest event that was written; 0 if there was none.
    pub(super) fn end(&self) -> u64 {
        let newest = self.fates.iter().rev().find(|fate| matches!(fate, Fate::Stored(_)));
        newest.and_then(|fate| fate.number()).map_or(0, |number| number + 1)
    }
}

/// An append as the writer takes it.
pub(super) struct Append {
    pub(super) kind: &'static str,
    pub(super) stream: Arc<str>,
    pub(super) batch: Batch,
    pub(super) encoded: Vec<Encoded>,
}

/// The records of a part, made before the writer has it.
pub(super) struct Encoded {
    /// Where each record ends.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    pub(super) shared: Option<Vec<u8>>,
}

impl Encoded {
    pub(super) fn of(events: &[Inbound], shared: Option<&Arc<Fields>>) -> Result<Encoded, BadRecord> {
        let mut bytes = Vec::with_capacity(events.iter().map(Inbound::size).sum());
        let mut ends = Vec::with_capacity(events.len());
        for event in events {
            let start = bytes.len();
            record::write(&mut bytes, event)?;
            if bytes.len() - start > EVENT_MAX {
                // What has no bytes goes to the dead letters.
                bytes.truncate(start);
            }
            ends.push(bytes.len());
        }
        let shared = shared.map(|shared| record::write_shared(shared)).transpose()?;
        Ok(Encoded { ends, bytes, shared })
    }

    /// For each record whether it is too big.
    pub(super) fn refused(&self) -> impl Iterator<Item = bool> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start == *end)
    }

    /// The records that are new, in as many rows as they need, each with how many there are.
    pub(super) fn rows(&self, fates: &[Fate]) -> Vec<(u64, Cow<'_, [u8]>)> {
        let stored = fates.iter().filter(|fate| matches!(fate, Fate::Stored(_))).count();
        if stored == fates.len() && self.bytes.len() <= ROW_MAX {
            return vec![(stored as u64, Cow::Borrowed(&self.bytes))];
        }
        let mut out: Vec<(u64, Cow<'_, [u8]>)> = Vec::new();
        let mut start = 0;
        for (end, fate) in self.ends.iter().zip(fates) {
            let record = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            if !matches!(fate, Fate::Stored(_)) {
                continue;
            }
            match out.last_mut() {
                Some((count, row)) if row.len() + record.len() <= ROW_MAX => {
                    *count += 1;
                    row.to_mut().extend_from_slice(record);
                }
                _ => out.push((1, Cow::Owned(record.to_vec()))),
            }
        }
        out
    }
}

impl Append {
    /// The events as binds see them, with their bytes, once they are committed.
    pub(super) fn into_chunks(self, kinds: &'static [Kind], done: &Appended) -> Vec<(Chunk, usize)> {
        let mut fates = done.fates.iter();
        let mut chunks = Vec::new();
        for (part, row) in self.batch.parts.into_iter().zip(&done.rows) {
            let fates: Vec<&Fate> = fates.by_ref().take(part.events.len()).collect();
            let Some((first, bytes)) = *row else { continue };
            let events = part.events.into_iter().zip(fates).filter_map(|(event, fate)| match fate {
                Fate::Stored(number) => {
                    Some(record::of_inbound(kinds, *number, &part.lane, part.shared.as_ref(), event))
                }
                Fate::Duplicate(_) | Fate::Refused => None,
            });
            chunks.push((Chunk { first, events: events.collect() }, bytes));
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use masterchief_contract::{Clock, Matching, Part};

    use super::*;
    use crate::journal::{self, Journal, Settings};

    fn open(settings: Settings, clock: Clock) -> Journal {
        let specs = masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        journal::open(None, settings, specs, clock).unwrap()
    }

    fn batch(texts: Vec<String>) -> Batch {
        let event = |text| Inbound { key: None, at: Utc::now(), text, fields: Vec::new(), body: Vec::new() };
        let events = texts.into_iter().map(event).collect();
        Batch { parts: vec![Part { lane: Arc::from("a"), shared: None, events, position: None }], ..Batch::default() }
    }

    #[tokio::test]
    async fn an_event_that_is_too_big_goes_to_the_dead_letters_and_stops_nobody() {
        let journal = open(Settings::default(), Clock::system());
        let stream = Arc::from("redis-stream:a");
        let texts = vec!["before".to_owned(), "x".repeat(EVENT_MAX + 1), "after".to_owned()];
        let fates = journal.append(Kind::Stream, &stream, batch(texts)).await.unwrap();
        assert_eq!(fates, [Fate::Stored(1), Fate::Refused, Fate::Stored(2)]);
        assert_eq!(journal.event(2).await.unwrap().unwrap().1.text, "after");
        let dead = journal.dead_letters(9).await.unwrap();
        assert_eq!((dead.len(), dead[0].raw.as_ref().map(Vec::len)), (1, Some(256 << 10)));
        assert!(dead[0].reason.contains("67108865 bytes"), "{}", dead[0].reason);
    }

    #[tokio::test]
    async fn a_batch_of_any_size_is_written_in_rows_of_sixteen_mebibytes() {
        let journal = open(Settings::default(), Clock::system());
        let stream = Arc::from("redis-stream:a");
        let texts = (0..100).map(|number| format!("{number:04} {}", "x".repeat(1 << 20))).collect();
        let fates = journal.append(Kind::Stream, &stream, batch(texts)).await.unwrap();
        assert_eq!(fates.len(), 100);
        for number in [1_u64, 15, 16, 50, 100] {
            let (_, event) = journal.event(number).await.unwrap().unwrap();
            assert_eq!(event.text[..4], format!("{:04}", number - 1));
        }
        let mut read = 1;
        let mut rows = 0;
        while read <= 100 {
            let chunks = journal.read(&stream, read).await.unwrap();
            rows += chunks.len();
            assert_eq!(chunks[0].first, read);
            read = chunks.last().unwrap().end();
        }
        assert!(rows > 6, "{rows}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_bind_that_never_comes_back_becomes_a_dead_letter() {
        let journal = open(Settings::default(), Clock::starting(Utc::now()));
        let (stream, bind) = (Arc::from("redis-stream:a"), Arc::from("stream redis-stream:a till"));
        journal.cursor(Kind::Stream, &stream, &bind).await.unwrap();
        journal.append(Kind::Stream, &stream, batch(vec!["one".to_owned()])).await.unwrap();
        let given = journal.replay(1, false).await.unwrap().unwrap();
        assert!(given.is_empty(), "it has not got so far");
        let cursor = journal::Cursor { done: 2, claimed: 2 };
        let (put, drop, dead) = (Vec::new(), Vec::new(), Vec::new());
        let advance =
            journal::Advance { bind: Arc::clone(&bind), stream: Arc::clone(&stream), cursor, put, drop, dead };
        journal.advance(advance).await.unwrap();
        assert_eq!(journal.replay(1, false).await.unwrap().unwrap(), [bind.to_string()]);
        journal.release(&bind).await.unwrap();
        journal.placed().await;
        tokio::time::advance(std::time::Duration::from_secs(4 * 86_400)).await;
        journal.sweep().await;
        let dead = journal.dead_letters(9).await.unwrap();
        assert_eq!((dead.len(), &*dead[0].bind, dead[0].number), (1, &*bind, Some(1)));
        assert!(dead[0].reason.contains("its bind is gone"), "{}", dead[0].reason);
        assert!(!journal.retry(dead.into_iter().next().unwrap()).await.unwrap(), "nobody would try it");
        assert_eq!(journal.dead_letters(9).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn dead_letters_are_bounded_in_bytes_and_the_newest_stay() {
        let settings = Settings { keep_dead_bytes: 1000, ..Settings::default() };
        let journal = open(settings, Clock::system());
        let stream = Arc::from("redis-stream:a");
        for number in 0..10 {
            let lane = Arc::from("a");
            let bad = masterchief_contract::Undecodable { lane, bytes: vec![number; 300], reason: "odd".to_owned() };
            let bad = Batch { undecodable: vec![bad], ..Batch::default() };
            journal.append(Kind::Stream, &stream, bad).await.unwrap();
        }
        journal.sweep().await;
        let dead = journal.dead_letters(99).await.unwrap();
        let kept: Vec<u8> = dead.iter().filter_map(|row| row.raw.as_ref()?.first().copied()).collect();
        assert_eq!(kept, [9, 8, 7]);
    }
}
