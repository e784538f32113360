//! Retention, and what operators list and change. All of it works on any connection, a running bot's or the command
//! line's beside it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::engine::{Done, Engine, chunk};
use super::record::{self, Names};
use super::rooms::is_over;
use super::rows::{DeadRow, DeadState, DeliveryRow, EventRow, Replay, RowState, StreamRow};
use super::schema::{meta, moment, put_meta};
use super::settings::Settings;

/// Rows that are deleted at once at most, so that nobody waits long for the writer.
const SWEEP: usize = 256;

/// Dead letters that are kept at most: they are for people to look at, and nobody reads more.
const DEAD_MAX: i64 = 100_000;

impl Engine {
    /// Lets go of what is not needed any more; whether there may be more to let go of.
    pub(super) fn sweep(&mut self, settings: &Settings, now: DateTime<Utc>) -> Done<bool> {
        let before = |age: Duration| now.timestamp_millis() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        self.turn_keys(settings, now)?;
        let (mut bytes, mut held) = (self.held.total(), self.held.by_stream());
        self.bury(settings, before(settings.keep_dead))?;
        let mut done_with = self.done_with()?;
        done_with.sort_unstable();
        done_with.retain(|(_, size, at, stream)| {
            let of_stream = held.entry(*stream).or_default();
            let goes = *at < before(settings.keep)
                || bytes > settings.keep_bytes
                || is_full(settings, bytes)
                || has_its_share(settings, *of_stream);
            let less = if goes { *size } else { 0 };
            (bytes, *of_stream) = (bytes.saturating_sub(less), of_stream.saturating_sub(less));
            goes
        });
        done_with.truncate(SWEEP);
        let rows = done_with;
        for (first, size, _, stream) in &rows {
            self.db.prepare_cached("DELETE FROM events WHERE first = ?1")?.execute([first])?;
            self.held.put(*stream, -i64::try_from(*size).unwrap_or(i64::MAX));
        }
        Ok(rows.len() == SWEEP)
    }

    /// Whether a stream needs room: it has its share of the journal, or that is full.
    pub(super) fn is_tight(&self, settings: &Settings, stream: &str) -> bool {
        is_full(settings, self.held.total()) || has_its_share(settings, self.bytes_of(stream))
    }

    /// Lets go of dead letters that are too old, too many or too big together.
    fn bury(&mut self, settings: &Settings, since: i64) -> Done<()> {
        self.db.execute("DELETE FROM dead WHERE at < ?1", [since])?;
        let newest: i64 = self.db.query_row("SELECT coalesce(max(id), 0) FROM dead", [], |row| row.get(0))?;
        if newest == self.buried {
            return Ok(());
        }
        self.buried = newest;
        let mut letters = self.db.prepare_cached(
            "SELECT id, coalesce(length(record), 0) + coalesce(length(raw), 0) FROM dead ORDER BY id DESC",
        )?;
        let mut letters = letters.query([])?;
        let (mut count, mut bytes) = (0, 0_u64);
        while let Some(row) = letters.next()? {
            count += 1;
            bytes += row.get::<_, u64>(1)?;
            if count > DEAD_MAX || bytes > settings.keep_dead_bytes {
                let over = self.db.execute("DELETE FROM dead WHERE id <= ?1", [row.get::<_, i64>(0)?])?;
                tracing::error!(
                    over,
                    "There are more dead letters than journal.keep_dead_bytes or {DEAD_MAX}; the oldest are gone"
                );
                break;
            }
        }
        Ok(())
    }

    /// The oldest rows of each stream that every bind is done with: first number, bytes, when, and the stream.
    fn done_with(&self) -> Done<Vec<(u64, u64, i64, i64)>> {
        let mut streams = self.db.prepare_cached(
            "SELECT id, (SELECT min(done) FROM cursors WHERE cursors.stream = streams.id) FROM streams",
        )?;
        let mut streams = streams.query([])?;
        let mut out = Vec::new();
        while let Some(row) = streams.next()? {
            let (id, low): (i64, Option<u64>) = (row.get(0)?, row.get(1)?);
            let low = low.unwrap_or(self.next);
            let mut rows = self.db.prepare_cached(
                "SELECT first, bytes, at, count FROM events WHERE stream = ?1 AND first < ?2 ORDER BY first LIMIT ?3",
            )?;
            let mut rows = rows.query(params![id, low, SWEEP])?;
            while let Some(row) = rows.next()? {
                let (first, count): (u64, u64) = (row.get(0)?, row.get(3)?);
                if first + count <= low {
                    out.push((first, row.get(1)?, row.get(2)?, id));
                }
            }
        }
        Ok(out)
    }

    /// Two tables of keys take turns: the older one is emptied when the newer one is old enough.
    fn turn_keys(&mut self, settings: &Settings, now: DateTime<Utc>) -> Done<()> {
        let age = i64::try_from(settings.remember_keys.as_millis()).unwrap_or(i64::MAX);
        let since = meta(&self.db, "keys_since")?;
        match since {
            None => put_meta(&self.db, "keys_since", now.timestamp_millis())?,
            Some(since) if now.timestamp_millis() - since >= age => {
                let next = 1 - self.keys;
                self.db.execute(if next == 0 { "DELETE FROM keys_0" } else { "DELETE FROM keys_1" }, [])?;
                self.keys = next;
                put_meta(&self.db, "keys", next)?;
                put_meta(&self.db, "keys_since", now.timestamp_millis())?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// A little less than all of it: who waits for room goes on only below this.
fn has_its_share(settings: &Settings, held: u64) -> bool {
    is_over(held, settings.share(), true)
}

/// The same of the whole journal.
fn is_full(settings: &Settings, held: u64) -> bool {
    is_over(held, settings.max_bytes, true)
}

/// The newest events, newest first, of the streams whose kind or name is `of` (all where it is empty).
pub(super) fn newest(db: &Connection, names: &Names, of: &str, count: usize) -> Done<Vec<EventRow>> {
    let mut rows = db.prepare(
        "SELECT streams.name, kind, first, count, lane, shared, records, packed FROM events JOIN streams ON streams.id = stream
         WHERE ?1 = '' OR streams.name = ?1 OR streams.kind = ?1 ORDER BY first DESC",
    )?;
    let mut rows = rows.query([of])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let stream: String = row.get(0)?;
        let events = chunk(names, row)?.events.into_iter().rev();
        out.extend(events.take(count - out.len()).map(|event| EventRow { stream: stream.clone(), event }));
        if out.len() >= count {
            break;
        }
    }
    Ok(out)
}

/// How each bind that reads an event's stream is with it, in words.
pub(super) fn states(db: &Connection, stream: &str, number: u64, now: DateTime<Utc>) -> Done<Vec<(String, String)>> {
    let mut rows = db.prepare(
        "SELECT bind, done, claimed FROM cursors JOIN streams ON streams.id = cursors.stream WHERE streams.name = ?1 ORDER BY bind",
    )?;
    let mut rows = rows.query([stream])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (bind, done, claimed): (String, u64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let waiting = db
            .query_row(
                "SELECT state, attempts, due, error FROM deliveries WHERE bind = ?1 AND number = ?2",
                params![bind, number],
                |row| {
                    let (state, attempts, due, error): (String, u32, i64, String) =
                        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                    let due = moment(due);
                    let when = if state == "waiting" && due > now {
                        format!(" until {}", due.format("%F %T"))
                    } else {
                        String::new()
                    };
                    let error = if error.is_empty() { String::new() } else { format!(": {error}") };
                    Ok(format!("{state}{when} after {attempts} tries{error}"))
                },
            )
            .optional()?;
        let dead: Option<(i64, String)> = db
            .query_row("SELECT id, reason FROM dead WHERE bind = ?1 AND number = ?2", params![bind, number], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let state = match (waiting, dead) {
            (Some(waiting), _) => waiting,
            (None, Some((id, reason))) => format!("dead letter {id}: {reason}"),
            (None, None) if number < done => "done, or not wanted".to_owned(),
            (None, None) if number < claimed => "being handled".to_owned(),
            (None, None) => "not begun".to_owned(),
        };
        out.push((bind, state));
    }
    Ok(out)
}

/// What is held, in the columns of [`DEAD`]; its number has a minus in front.
const HELD: &str = "SELECT -number, due, '', number, bind, attempts, error, '', kind, record, NULL, replay FROM deliveries WHERE state = 'held'";
const DEAD: &str = "SELECT id, at, stream, number, bind, attempts, reason, lane, kind, record, raw, replay FROM dead";

/// Dead letters and what is held, newest first.
pub(super) fn dead_letters(db: &Connection, names: &Names, count: usize) -> Done<Vec<DeadRow>> {
    let mut out = Vec::new();
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut held = db.prepare(&format!("{HELD} ORDER BY number DESC LIMIT ?1"))?;
    let mut rows = held.query([count])?;
    while let Some(row) = rows.next()? {
        out.push(DeadRow { state: DeadState::Held, ..dead_row(names, row)? });
    }
    let mut dead = db.prepare(&format!("{DEAD} ORDER BY id DESC LIMIT ?1"))?;
    let mut rows = dead.query([count])?;
    while let Some(row) = rows.next()? {
        out.push(dead_row(names, row)?);
    }
    Ok(out)
}

/// A dead letter by its number, or what is held by the event's number with a minus in front.
pub(super) fn dead_letter(db: &Connection, names: &Names, id: i64) -> Done<Option<DeadRow>> {
    let sql = if id < 0 { format!("{HELD} AND number = -?1") } else { format!("{DEAD} WHERE id = ?1") };
    let mut found = db.prepare(&sql)?;
    let mut found = found.query([id])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let state = if id < 0 { DeadState::Held } else { DeadState::Dead };
    Ok(Some(DeadRow { state, ..dead_row(names, row)? }))
}

fn dead_row(names: &Names, row: &rusqlite::Row<'_>) -> Done<DeadRow> {
    let (number, kind): (Option<u64>, String) = (row.get(3)?, row.get(8)?);
    let record: Option<Vec<u8>> = row.get(9)?;
    let event = match (record, number) {
        // A kind that this build does not know: the row is shown all the same.
        (Some(record), Some(number)) => record::read_alone(names, &kind, number, &record).ok(),
        _ => None,
    };
    let lane: String = row.get(7)?;
    Ok(DeadRow {
        id: row.get(0)?,
        state: DeadState::Dead,
        at: moment(row.get(1)?),
        stream: row.get(2)?,
        number,
        bind: row.get(4)?,
        attempts: row.get(5)?,
        reason: row.get(6)?,
        lane: if lane.is_empty() {
            event.as_ref().map(|event| event.lane.to_string()).unwrap_or_default()
        } else {
            lane
        },
        event,
        raw: row.get(10)?,
        replay: Replay::of(row.get(11)?),
    })
}

/// Gives a dead or held one another round of tries; whether there was one with a bind. A bot that runs knows its binds; beside
/// one, or without, a bind whose place is remembered is believed to come back, and if it does not the letter is dead again.
pub(super) fn retry(engine: &Engine, row: &DeadRow, now: DateTime<Utc>) -> Done<bool> {
    let db = &engine.db;
    let read: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM cursors WHERE bind = ?1)", [&row.bind], |row| row.get(0))?;
    if !read || (!engine.active.is_empty() && !engine.active.contains(&row.bind)) {
        return Ok(false);
    }
    let done = match row.state {
        DeadState::Held => db.execute(
            "UPDATE deliveries SET state = 'waiting', due = ?3, attempts = 0, crashed = 0 WHERE bind = ?1 AND number = ?2 AND state = 'held'",
            params![row.bind, row.number, now.timestamp_millis()],
        )?,
        DeadState::Dead => {
            raise(db, row.id, now)?
        }
    };
    Ok(done > 0)
}

/// Gives a dead letter back to its bind; how many that were.
fn raise(db: &Connection, id: i64, now: DateTime<Utc>) -> Done<usize> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO deliveries(bind, number, state, attempts, due, crashed, error, kind, record, replay)
         SELECT bind, number, 'waiting', 0, ?2, 0, reason, kind, record, replay FROM dead WHERE id = ?1 AND record IS NOT NULL",
    )?
    .execute(params![id, now.timestamp_millis()])?;
    Ok(db.prepare_cached("DELETE FROM dead WHERE id = ?1 AND record IS NOT NULL")?.execute([id])?)
}

/// An event was sent once more on purpose: where it became a dead letter it is tried again, by binds that are remembered. Whether it did.
pub(super) fn revive(db: &Connection, stream: &str, number: u64, now: DateTime<Utc>) -> Done<bool> {
    let mut dead = db.prepare_cached(
        "SELECT id FROM dead WHERE stream = ?1 AND number = ?2 AND bind IN (SELECT bind FROM cursors)",
    )?;
    let dead: Vec<i64> = dead.query_map(params![stream, number], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // Whoever sends it asks for no replay, even if it died in one.
    db.execute("UPDATE dead SET replay = 0 WHERE stream = ?1 AND number = ?2", params![stream, number])?;
    for id in &dead {
        raise(db, *id, now)?;
    }
    Ok(!dead.is_empty())
}

/// Gives an event again to every bind that reads its stream, from where the binds are: what is not wanted is passed by.
pub(super) fn replay(engine: &Engine, number: u64, how: Replay, now: DateTime<Utc>) -> Done<Option<Vec<String>>> {
    let Some((stream, event)) = engine.event(number)? else { return Ok(None) };
    let mut binds = engine.db.prepare(
        "SELECT bind FROM cursors JOIN streams ON streams.id = cursors.stream WHERE streams.name = ?1 AND done > ?2 ORDER BY bind",
    )?;
    let binds: Vec<String> = binds.query_map(params![stream, number], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut given = Vec::new();
    for bind in binds {
        let waits: bool = engine.db.query_row(
            "SELECT EXISTS (SELECT 1 FROM deliveries WHERE bind = ?1 AND number = ?2)",
            params![bind, number],
            |row| row.get(0),
        )?;
        if waits {
            // It is tried again, or held, anyway: that stays what it is.
            continue;
        }
        let row = DeliveryRow {
            event: event.clone(),
            state: RowState::Waiting,
            attempts: 0,
            due: now,
            crashed: false,
            error: String::new(),
            replay: how,
        };
        engine.put_delivery(&bind, &row)?;
        given.push(bind);
    }
    Ok(Some(given))
}

/// Throws a dead or held one away.
pub(super) fn discard(db: &Connection, row: &DeadRow) -> Done<bool> {
    let done = match row.state {
        DeadState::Held => db.execute(
            "DELETE FROM deliveries WHERE bind = ?1 AND number = ?2 AND state = 'held'",
            params![row.bind, row.number],
        )?,
        DeadState::Dead => db.execute("DELETE FROM dead WHERE id = ?1", [row.id])?,
    };
    Ok(done > 0)
}

/// The streams, with how far their binds are behind.
pub(super) fn streams(db: &Connection, next: u64) -> Done<Vec<StreamRow>> {
    let mut rows = db.prepare(
        "SELECT streams.id, kind, name, coalesce(sum(count), 0), coalesce(sum(bytes), 0), max(at), coalesce(max(first + count), 0)
         FROM streams LEFT JOIN events ON events.stream = streams.id GROUP BY streams.id ORDER BY name",
    )?;
    let mut rows = rows.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, end): (i64, u64) = (row.get(0)?, row.get(6)?);
        let newest: Option<i64> = row.get(5)?;
        let mut binds = db.prepare_cached("SELECT bind, done FROM cursors WHERE stream = ?1 ORDER BY bind")?;
        let behind = binds.query_map([id], |row| {
            let done: u64 = row.get(1)?;
            Ok((row.get(0)?, end.min(next).saturating_sub(done)))
        })?;
        out.push(StreamRow {
            kind: row.get(1)?,
            name: row.get(2)?,
            events: row.get(3)?,
            bytes: row.get(4)?,
            newest: newest.map(moment),
            behind: behind.collect::<Result<_, _>>()?,
        });
    }
    Ok(out)
}

/// The bind of a stream that is most behind, and by how many numbers.
pub(super) fn laggard(db: &Connection, stream: &str) -> Done<Option<(String, u64)>> {
    let sql = "SELECT bind, coalesce((SELECT first + count FROM events WHERE events.stream = cursors.stream ORDER BY first DESC LIMIT 1), 0) - done
         FROM cursors JOIN streams ON streams.id = cursors.stream WHERE streams.name = ?1 ORDER BY done LIMIT 1";
    let found = db.query_row(sql, [stream], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?;
    Ok(found.map(|(bind, behind)| (bind, u64::try_from(behind).unwrap_or(0))))
}

/// How many numbers each bind is behind its stream. Only indexes are read: monitors ask often.
pub(super) fn behind(db: &Connection) -> Done<Vec<(String, u64)>> {
    let mut rows = db.prepare_cached(
        "SELECT bind, done, coalesce((SELECT first + count FROM events WHERE events.stream = cursors.stream ORDER BY first DESC LIMIT 1), 0)
         FROM cursors ORDER BY bind",
    )?;
    let rows = rows.query_map([], |row| {
        let (done, end): (u64, u64) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, end.saturating_sub(done)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use masterchief_contract::{Batch, Clock, Inbound, Kind, Matching};

    use crate::journal::{self, Advance, Cursor, Journal, Settings};

    async fn put(journal: &Journal, text: &str) {
        let event =
            Inbound { key: None, at: chrono::Utc::now(), text: text.repeat(9), fields: Vec::new(), body: Vec::new() };
        journal.append(Kind::Stream, &Arc::from("kafka:a"), Batch::one(Arc::from("a"), event, 0)).await.unwrap();
    }

    async fn kept(journal: &Journal) -> usize {
        journal.sweep().await;
        journal.newest("", 99).await.unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_binds_are_done_with_is_kept_for_its_time_and_bytes_and_the_rest_for_as_long_as_it_takes() {
        let (stream, bind): (Arc<str>, Arc<str>) = (Arc::from("kafka:a"), Arc::from("stream kafka:a"));
        let open = |settings: Settings| {
            let specs = masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
            journal::open(None, settings, specs, Clock::starting(chrono::Utc::now())).unwrap()
        };
        let done = |number: u64| Advance {
            bind: Arc::clone(&bind),
            stream: Arc::clone(&stream),
            cursor: Cursor { done: number, claimed: number },
            put: Vec::new(),
            drop: Vec::new(),
            dead: Vec::new(),
        };
        let day = Duration::from_secs(86_400);
        let journal = open(Settings { keep: 7 * day, ..Settings::default() });
        journal.cursor(Kind::Stream, &stream, &bind).await.unwrap();
        for text in ["one", "two", "three"] {
            put(&journal, text).await;
        }
        journal.advance(done(3)).await.unwrap();
        tokio::time::advance(6 * day).await;
        assert_eq!(kept(&journal).await, 3, "they are young");
        put(&journal, "four").await;
        tokio::time::advance(2 * day).await;
        assert_eq!(kept(&journal).await, 2, "two are done with and old; one waits, one is young");
        tokio::time::advance(30 * day).await;
        assert_eq!(kept(&journal).await, 2, "nobody has dealt with them");
        journal.advance(done(5)).await.unwrap();
        assert_eq!(kept(&journal).await, 0);

        let journal = open(Settings { keep_bytes: 250, ..Settings::default() });
        journal.cursor(Kind::Stream, &stream, &bind).await.unwrap();
        for _ in 0..10 {
            put(&journal, "a word").await;
        }
        assert_eq!(kept(&journal).await, 10, "nobody has dealt with them");
        journal.advance(done(11)).await.unwrap();
        let left = kept(&journal).await;
        assert!((1..5).contains(&left), "{left} of 10");
        assert!(journal.status().await.unwrap().bytes <= 250);
    }
}
