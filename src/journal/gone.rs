//! Binds that are gone for good: their places are forgotten, and what they had not done is kept for people to look at.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{Event, KindSpec, Wanted};
use rusqlite::{OptionalExtension, params};

use super::engine::{Done, Engine};
use super::handle::{Journal, JournalError};
use super::record::{self, Chunk};
use super::rows::LetGo;
use super::settings::Settings;

/// A bind that was not seen for so long is gone for good where its stream needs room: those that are there are seen every hour. None
/// is let go of within so long after a start.
const GONE: Duration = Duration::from_secs(2 * 3600);
/// Events of one bind that become dead letters at most although it never began them.
const LETTERS_MAX: usize = 1000;
/// Bytes of such events, about.
const BYTES_MAX: usize = 16 << 20;
/// Events that are looked at for that at most.
const LOOKED_MAX: u64 = 1_000_000;
/// What is said of what ran when the process died, as of binds that are there.
const DIED: &str = "the process died during the call";
/// Notices that nobody has taken yet are kept up to so many.
pub(super) const UNTOLD_MAX: usize = 100;

/// A bind that is gone, and where it stands.
pub(super) struct Gone {
    bind: String,
    stream: Arc<str>,
    kind: String,
    done: u64,
    /// What is below was given to its handler by a process that died: else it would have noted what came of it.
    claimed: u64,
    /// When it was seen last.
    at: i64,
    /// Whether that is early, because room is needed.
    early: bool,
}

/// What such a bind had no row for: what it had not begun, and what was lost with the process that ran it.
#[derive(Default)]
struct Left {
    letters: Vec<Event>,
    bytes: usize,
    /// What was not looked at begins here.
    rest: Option<u64>,
}

impl Left {
    fn is_full(&self, looked: u64) -> bool {
        self.letters.len() >= LETTERS_MAX || self.bytes >= BYTES_MAX || looked >= LOOKED_MAX
    }

    /// Takes what is wanted of a chunk from a number on.
    fn take(&mut self, chunk: &Chunk, from: u64, wanted: Option<&Wanted>, looked: &mut u64) {
        for event in chunk.events.iter().filter(|event| event.id >= from) {
            if self.is_full(*looked) {
                self.rest.get_or_insert(event.id);
                return;
            }
            *looked += 1;
            if wanted.is_none_or(|wanted| wanted.meets(event)) {
                self.bytes += event.text.len() + event.body.len();
                self.letters.push(event.clone());
            }
        }
    }
}

impl Journal {
    /// Every bind that is there has asked for its place. Those that have not may be let go of when their time is over; before
    /// this none is.
    pub async fn placed(&self) {
        let now = self.clock().now();
        let placed = async {
            self.call(move |engine| engine.pass_over_absence(now)).await?;
            self.call(move |engine| {
                engine.since.get_or_insert(now);
                Ok(())
            })
            .await
        };
        if let Err(fault) = placed.await {
            tracing::error!(%fault, "Places of binds that are gone stay remembered until the next start");
        }
    }

    /// Lets go of binds that are gone for good; whether there were any.
    pub(super) async fn let_go_of_binds(&self, all: Vec<Gone>) -> Result<bool, JournalError> {
        let (now, mut any) = (self.clock().now(), false);
        for gone in all {
            let left = match self.left_by(&gone).await {
                // What cannot be read is told of all the same.
                Err(JournalError::Failed(_)) => Left { rest: Some(gone.done), ..Left::default() },
                left => left?,
            };
            let early = gone.early;
            let Some(told) = self.call(move |engine| engine.let_go(&gone, &left, now)).await? else { continue };
            any = true;
            let LetGo { bind, stream, letters, rest, numbers } = &told;
            if *letters == 0 && *rest == 0 {
                tracing::info!(bind, stream, early, "A bind is gone for good; it had done all it wanted");
                continue;
            }
            tracing::error!(
                bind,
                stream,
                letters,
                rest,
                ?numbers,
                early,
                "A bind is gone for good; what it had not done is dead letters, and nothing where those are too many"
            );
            self.let_go_soon_told(told);
        }
        Ok(any)
    }

    /// What a bind had not begun, read a piece at a time so that nobody waits for all of it.
    async fn left_by(&self, gone: &Gone) -> Result<Left, JournalError> {
        let wanted = self.names().spec(&gone.kind).and_then(|spec| wanted(spec, gone));
        let (mut left, mut at, mut looked) = (Left::default(), gone.done, 0);
        while left.rest.is_none() {
            let chunks = self.read(&gone.stream, at).await?;
            let Some(last) = chunks.last() else { break };
            chunks.iter().for_each(|chunk| left.take(chunk, at, wanted.as_ref(), &mut looked));
            at = last.end();
        }
        Ok(left)
    }
}

/// What a bind wanted, by its key: kind, mask, owner, and a number where there were several.
fn wanted(spec: &KindSpec, gone: &Gone) -> Option<Wanted> {
    let key = gone.bind.strip_prefix(spec.kind.name())?.trim_start();
    let key = match key.rsplit_once(" #") {
        Some((key, nth)) if nth.parse::<u32>().is_ok() => key,
        _ => key,
    };
    // An owner may have spaces in its name: the longest mask that reads this stream is right.
    let masks = key.rmatch_indices(' ').filter_map(|(at, _)| key.get(..at));
    let mut wanted = masks.filter_map(|mask| spec.wants?(mask).ok());
    wanted.find(|wanted| wanted.stream == gone.stream)
}

impl Engine {
    /// What the bot was away is no time in which binds could have been there.
    fn pass_over_absence(&mut self, now: DateTime<Utc>) -> Done<()> {
        let away = now.timestamp_millis() - self.seen;
        if self.since.is_none() && away > 0 {
            self.db.execute("UPDATE cursors SET at = at + ?1 WHERE at <= ?2", params![away, self.seen])?;
        }
        Ok(())
    }

    /// The binds that may be let go of: those whose time is over, and, early, those of streams that need room. What nobody needs any more
    /// has to be gone before.
    pub(super) fn gone(&mut self, settings: &Settings, now: DateTime<Utc>) -> Done<Vec<Gone>> {
        let before = |age: Duration| now.timestamp_millis() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        for bind in &self.active {
            let touched = params![bind, now.timestamp_millis()];
            self.db
                .prepare_cached("UPDATE cursors SET at = ?2 WHERE bind = ?1 AND at < ?2 - 3600000")?
                .execute(touched)?;
        }
        if self.since.is_none_or(|since| since.timestamp_millis() > before(GONE)) {
            return Ok(Vec::new());
        }
        let old = before(settings.remember_binds);
        let mut gone = self.db.prepare_cached(
            "SELECT bind, name, kind, done, claimed, at FROM cursors JOIN streams ON streams.id = cursors.stream WHERE at < ?1",
        )?;
        let gone = gone.query_map([old.max(before(GONE))], |row| {
            let (stream, at): (String, i64) = (row.get(1)?, row.get(5)?);
            let (stream, early) = (Arc::from(stream), at >= old);
            let (done, claimed) = (row.get(3)?, row.get(4)?);
            Ok(Gone { bind: row.get(0)?, stream, kind: row.get(2)?, done, claimed, at, early })
        })?;
        let gone: Vec<Gone> = gone.collect::<Result<_, _>>()?;
        let goes =
            |gone: &Gone| !self.active.contains(&gone.bind) && (!gone.early || self.is_tight(settings, &gone.stream));
        Ok(gone.into_iter().filter(goes).collect())
    }

    /// Forgets the place of a bind, unless it came back meanwhile. What it had begun and not done becomes dead letters, and so does
    /// what it had not begun, as far as that was read; each says which it is, for whoever tries it again does it twice, or not.
    fn let_go(&mut self, gone: &Gone, left: &Left, now: DateTime<Utc>) -> Done<Option<LetGo>> {
        let bind = &gone.bind;
        if self.active.contains(bind) {
            return Ok(None);
        }
        let forgotten = self
            .db
            .prepare_cached("DELETE FROM cursors WHERE bind = ?1 AND done = ?2 AND at = ?3")?
            .execute(params![bind, gone.done, gone.at])?;
        if forgotten == 0 {
            return Ok(None);
        }
        let mut letters = self
            .db
            .prepare_cached(
                "INSERT INTO dead(at, stream, number, bind, attempts, reason, kind, lane, record, replay)
                 SELECT ?2, ?3, number, bind, attempts,
                        'its bind is gone' || CASE WHEN crashed AND state = 'waiting' THEN ', and before that: ' || ?4
                            WHEN error = '' THEN '' ELSE ', and before that: ' || error END, kind, '', record, replay
                 FROM deliveries WHERE bind = ?1",
            )?
            .execute(params![bind, now.timestamp_millis(), &*gone.stream, DIED])?;
        let mut begun = self.db.prepare_cached("SELECT 1 FROM deliveries WHERE bind = ?1 AND number = ?2")?;
        let mut put = self.db.prepare_cached(
            "INSERT INTO dead(at, stream, number, bind, attempts, reason, kind, lane, record, replay)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)",
        )?;
        let died = format!("its bind is gone, and before that: {DIED}");
        for event in &left.letters {
            if !begun.exists(params![bind, event.id])? {
                let (at, record) = (now.timestamp_millis(), record::write_alone(event)?);
                let (attempts, reason) = match event.id < gone.claimed {
                    true => (1, died.as_str()),
                    false => (0, "its bind is gone and had not begun it"),
                };
                let (kind, lane) = (event.kind().name(), &*event.lane);
                let row = params![at, &*gone.stream, event.id, bind, attempts, reason, kind, lane, record];
                letters += put.execute(row)?;
            }
        }
        drop((begun, put));
        self.db.prepare_cached("DELETE FROM deliveries WHERE bind = ?1")?.execute([bind])?;
        let (rest, numbers) = left.rest.map_or(Ok((0, None)), |from| self.from(&gone.stream, from))?;
        Ok(Some(LetGo { bind: bind.clone(), stream: gone.stream.to_string(), letters: letters as u64, rest, numbers }))
    }

    /// How many events a stream has from a number on, and the first and the last of them.
    fn from(&self, stream: &str, from: u64) -> Done<(u64, Option<(u64, u64)>)> {
        let Some(id) = self.known_stream(stream) else { return Ok((0, None)) };
        let sql = "SELECT coalesce(sum(first + count - max(first, ?2)), 0), max(first + count - 1) FROM events
             WHERE stream = ?1 AND first >= coalesce((SELECT max(first) FROM events WHERE stream = ?1 AND first <= ?2), 0)";
        let found = self.db.prepare_cached(sql)?.query_row(params![id, from], |row| {
            let last: Option<u64> = row.get(1)?;
            Ok((row.get(0)?, last.map(|last| (from, last))))
        });
        Ok(found.optional()?.unwrap_or((0, None)))
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::{Batch, Clock, Inbound, Kind, Matching, Part};

    use super::*;
    use crate::journal::{self, Advance, Cursor, DeliveryRow, Replay, RowState};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn open(path: Option<&std::path::Path>, settings: Settings, clock: &Clock) -> Journal {
        let specs = masterchief_bindings::stream::KINDS.iter().chain(masterchief_bindings::webhook::KINDS);
        let specs = specs.filter(|spec| spec.matching == Matching::Journal);
        journal::open(path, settings, specs, clock.clone()).unwrap()
    }

    fn bind() -> (Arc<str>, Arc<str>) {
        (Arc::from("redis-stream:jobs/till"), Arc::from("stream redis-stream:jobs/till the till"))
    }

    async fn put(journal: &Journal, kind: Kind, stream: &Arc<str>, events: Vec<Inbound>) {
        let part = Part { lane: Arc::from("a"), shared: None, events, position: None };
        journal.append(kind, stream, Batch { parts: vec![part], ..Batch::default() }).await.unwrap();
    }

    fn event(text: String, provider: &str) -> Inbound {
        let fields = vec![("provider", provider.into()), ("event", "push".into())];
        Inbound { key: None, at: Utc::now(), text, fields, body: Vec::new() }
    }

    fn events(count: usize, size: usize) -> Vec<Inbound> {
        (0..count).map(|number| event(format!("{number} {}", "x".repeat(size)), "")).collect()
    }

    async fn place(journal: &Journal) -> u64 {
        let (stream, bind) = bind();
        journal.cursor(Kind::Stream, &stream, &bind).await.unwrap().0.done
    }

    #[tokio::test]
    async fn a_start_with_a_full_journal_forgets_no_place_however_long_the_bot_was_away_and_its_scripts_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let settings = Settings { max_bytes: 200, keep_bytes: 200, ..Settings::default() };
        let clock = Clock::by_hand(Utc::now());
        let journal = open(Some(&path), settings.clone(), &clock);
        let begin = place(&journal).await;
        put(&journal, Kind::Stream, &bind().0, events(100, 9)).await;
        assert!(*journal.full().borrow());
        journal.close().await;
        clock.put_on(10 * DAY);
        let journal = open(Some(&path), settings, &clock);
        assert!(*journal.full().borrow());
        for _ in 0..3 {
            // As it is swept while scripts load, and they take their time.
            journal.sweep().await;
            clock.put_on(HOUR);
        }
        assert_eq!(place(&journal).await, begin);
        journal.placed().await;
        // It goes again, and comes back in time.
        journal.release(&bind().1).await.unwrap();
        clock.put_on(HOUR);
        journal.sweep().await;
        assert_eq!((place(&journal).await, journal.let_go()), (begin, Vec::new()));
    }

    /// Events that are not compressed, each in a row of its own: sixty have more than 20,000 bytes.
    async fn fill(journal: &Journal, stream: &Arc<str>, count: usize) {
        for _ in 0..count {
            put(journal, Kind::Stream, stream, events(1, 300)).await;
        }
    }

    /// Gone for longer than binds are away whose streams need room.
    async fn go(journal: &Journal, binds: &[&Arc<str>], clock: &Clock) {
        for bind in binds {
            journal.release(bind).await.unwrap();
        }
        clock.put_on(3 * HOUR);
        journal.sweep().await;
    }

    #[tokio::test]
    async fn a_stream_that_is_full_of_what_its_binds_are_done_with_costs_none_of_them_its_place() {
        let clock = Clock::by_hand(Utc::now());
        let settings = Settings { stream_bytes: Some(20_000), ..Settings::default() };
        let journal = open(None, settings, &clock);
        let (stream, bind) = bind();
        place(&journal).await;
        journal.placed().await;
        fill(&journal, &stream, 60).await;
        assert!(*journal.room(&stream).borrow());
        let next = journal.status().await.unwrap().next;
        let cursor = Cursor { done: next, claimed: next };
        let (put, drop, dead) = (Vec::new(), Vec::new(), Vec::new());
        let done = Advance { bind: Arc::clone(&bind), stream: Arc::clone(&stream), cursor, put, drop, dead };
        journal.advance(done).await.unwrap();
        fill(&journal, &stream, 2).await;
        go(&journal, &[&bind], &clock).await;
        assert!(!*journal.room(&stream).borrow(), "there is room again");
        assert_eq!((place(&journal).await, journal.let_go()), (next, Vec::new()));
    }

    #[tokio::test]
    async fn a_place_is_let_go_of_early_where_its_own_stream_needs_room_or_the_whole_journal_is_full() {
        let clock = Clock::by_hand(Utc::now());
        let settings =
            Settings { stream_bytes: Some(20_000), max_bytes: 100_000, keep_bytes: 100_000, ..Settings::default() };
        let journal = open(None, settings, &clock);
        let (stream, away) = bind();
        let begin = place(&journal).await;
        let named = |at: usize| Arc::<str>::from(format!("redis-stream:{at}"));
        for at in 0..6 {
            // Each is there, and stuck.
            let bind = Arc::from(format!("stream {} stuck", named(at)));
            journal.cursor(Kind::Stream, &named(at), &bind).await.unwrap();
        }
        let gone: Arc<str> = Arc::from("stream redis-stream:0 gone");
        journal.cursor(Kind::Stream, &named(0), &gone).await.unwrap();
        journal.placed().await;
        put(&journal, Kind::Stream, &stream, events(3, 9)).await;
        fill(&journal, &named(0), 60).await;
        go(&journal, &[&gone, &away], &clock).await;
        let told: Vec<String> = journal.let_go().into_iter().map(|gone| gone.bind).collect();
        assert_eq!(told, [gone.to_string()]);
        assert_eq!(place(&journal).await, begin, "there is room enough for what it waits for");
        for at in 1..6 {
            fill(&journal, &named(at), 45).await;
        }
        assert!(*journal.full().borrow());
        go(&journal, &[&away], &clock).await;
        let told: Vec<String> = journal.let_go().into_iter().map(|gone| gone.bind).collect();
        assert_eq!(told, [away.to_string()]);
        assert!(place(&journal).await > begin);
    }

    #[tokio::test]
    async fn only_time_in_which_the_bot_was_there_counts_for_a_bind_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let clock = Clock::by_hand(Utc::now());
        let other: Arc<str> = Arc::from("stream redis-stream:jobs/till other");
        let journal = open(Some(&path), Settings::default(), &clock);
        let begin = place(&journal).await;
        put(&journal, Kind::Stream, &bind().0, events(1, 9)).await;
        journal.close().await;
        for day in 1..=3 {
            // Away for longer than places are remembered, then there for a good day, every hour.
            clock.put_on(30 * DAY);
            let journal = open(Some(&path), Settings::default(), &clock);
            journal.cursor(Kind::Stream, &bind().0, &other).await.unwrap();
            journal.placed().await;
            for _ in 0..30 {
                journal.sweep().await;
                clock.put_on(HOUR);
            }
            let dead = journal.dead_letters(9).await.unwrap();
            assert_eq!(dead.len(), usize::from(day > 2), "day {day}: {dead:?}");
            journal.close().await;
        }
        let journal = open(Some(&path), Settings::default(), &clock);
        assert!(place(&journal).await > begin, "it is forgotten");
    }

    #[tokio::test]
    async fn what_a_bind_that_is_gone_had_not_begun_becomes_dead_letters_and_the_rest_is_told_by_its_numbers() {
        let clock = Clock::by_hand(Utc::now());
        let journal = open(None, Settings::default(), &clock);
        let (stream, bind) = bind();
        let first = place(&journal).await;
        journal.placed().await;
        put(&journal, Kind::Stream, &stream, events(1500, 9)).await;
        put(&journal, Kind::Stream, &Arc::from("redis-stream:other"), events(7, 9)).await;
        // One waits to be tried again and one was being tried when the process died, one is done; and three had just been begun.
        let cursor = Cursor { done: first + 3, claimed: first + 6 };
        let chunks = journal.read(&stream, first + 1).await.unwrap();
        let event = chunks[0].events.iter().find(|event| event.id == first + 1).unwrap().clone();
        let row = DeliveryRow {
            event,
            state: RowState::Waiting,
            attempts: 2,
            due: clock.now(),
            crashed: true,
            error: "it failed".to_owned(),
            replay: Replay::No,
        };
        let (put, drop, dead) = (vec![row], Vec::new(), Vec::new());
        let advance = Advance { bind: Arc::clone(&bind), stream: Arc::clone(&stream), cursor, put, drop, dead };
        journal.advance(advance).await.unwrap();
        journal.replay(first, false).await.unwrap();
        journal.release(&bind).await.unwrap();
        clock.put_on(4 * DAY);
        journal.sweep().await;
        let told = LetGo {
            bind: bind.to_string(),
            stream: stream.to_string(),
            letters: 1002,
            rest: 497,
            numbers: Some((first + 1003, first + 1499)),
        };
        assert_eq!(journal.let_go(), [told]);
        let dead = journal.dead_letters(9999).await.unwrap();
        assert_eq!((dead.len(), dead[0].number, dead[1001].number), (1002, Some(first + 1002), Some(first)));
        assert!(dead.iter().all(|row| row.event.is_some()));
        let row = |number: u64| dead.iter().find(|row| row.number == Some(first + number)).unwrap();
        let told = |number: u64| (row(number).attempts, row(number).reason.as_str());
        let died = "its bind is gone, and before that: the process died during the call";
        assert_eq!([0, 1, 3, 5].map(told), [(0, "its bind is gone"), (2, died), (1, died), (1, died)]);
        assert_eq!([6, 1002].map(told), [(0, "its bind is gone and had not begun it"); 2]);
        // Whoever comes back begins at the end, and may have its letters.
        assert!(place(&journal).await > first + 1499);
        assert!(journal.retry(dead.into_iter().next().unwrap()).await.unwrap());
    }

    #[tokio::test]
    async fn of_what_others_read_too_only_that_becomes_dead_letters_that_the_bind_wanted() {
        let clock = Clock::by_hand(Utc::now());
        let journal = open(None, Settings::default(), &clock);
        let stream: Arc<str> = Arc::from("webhook");
        for bind in ["webhook github/* till.lua", "webhook gitlab/* till.lua #1", "webhook jenkins/* my till.lua"] {
            let bind = Arc::from(bind);
            journal.cursor(Kind::Webhook, &stream, &bind).await.unwrap();
            journal.release(&bind).await.unwrap();
        }
        journal.placed().await;
        let posts = ["github", "gitlab", "github", "pagerduty"];
        put(&journal, Kind::Webhook, &stream, posts.map(|from| event(from.to_owned(), from)).into()).await;
        clock.put_on(4 * DAY);
        journal.sweep().await;
        let dead = journal.dead_letters(9).await.unwrap();
        let mut dead: Vec<String> =
            dead.into_iter().map(|row| format!("{} {}", row.bind, row.event.unwrap().text)).collect();
        dead.sort();
        assert_eq!(
            dead,
            [
                "webhook github/* till.lua github",
                "webhook github/* till.lua github",
                "webhook gitlab/* till.lua #1 gitlab"
            ]
        );
        assert_eq!(journal.let_go().len(), 2, "the third wanted nothing of it");
    }
}
