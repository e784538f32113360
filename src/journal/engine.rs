//! What is done to the tables. It knows one connection and no threads.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{BAD_BYTES, Event, Fate, Inbound, Part, Positions, Undecodable};
use rusqlite::{Connection, OptionalExtension, params};

use super::append::{Append, Appended, EVENT_MAX, Encoded};
use super::maintain;
use super::merge::{Open, Place, Section};
use super::pack::{self, Packer};
use super::record::{self, BadRecord, Chunk, Names, Row};
use super::rooms::Held;
use super::rows::{Advance, Cursor, DeliveryRow, Replay, RowState};
use super::schema::{self, meta, moment};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error("there is no kind {0}")]
    Kind(String),
    #[error("what was read before it could not be written")]
    Before,
    #[error("the writer panicked; the log says where")]
    Panicked,
}

pub(super) type Done<T> = Result<T, EngineError>;

/// The tables and what is known of them.
pub(super) struct Engine {
    pub(super) db: Connection,
    pub(super) names: Names,
    /// The number of the next event.
    pub(super) next: u64,
    /// Bytes of the events of each stream, and of all.
    pub(super) held: Held,
    /// By name.
    streams: HashMap<Arc<str>, i64>,
    /// Which of the two tables of keys is written.
    pub(super) keys: i64,
    /// Binds that are there now: their cursors stay, however long nothing happens.
    pub(super) active: HashSet<String>,
    /// A row that may take more parts.
    open: Option<Open>,
    /// What the last such row was gathered in, to be used again.
    spare: Vec<u8>,
    pub(super) packer: Packer,
    /// Since when all binds that are there have their places. Nothing, as long as some have yet to ask.
    pub(super) since: Option<DateTime<Utc>>,
    /// When any bind was there last, before this process.
    pub(super) seen: i64,
    /// The newest dead letter when they were last counted.
    pub(super) buried: i64,
}

/// What a row costs beside its records, in bytes.
const ROW: usize = 64;

impl Engine {
    pub(super) fn open(path: Option<&Path>, names: Names) -> Done<Engine> {
        Engine::with(schema::open(path)?, names)
    }

    pub(super) fn with(db: Connection, names: Names) -> Done<Engine> {
        let newest: Option<u64> = db.query_row("SELECT max(first + count) FROM events", [], |row| row.get(0))?;
        let noted = meta(&db, "next")?.unwrap_or(1) as u64;
        let held = Held::read(&db)?;
        let keys = meta(&db, "keys")?.unwrap_or(0);
        let seen = db.query_row("SELECT coalesce(max(at), 0) FROM cursors", [], |row| row.get(0))?;
        let mut engine = Engine {
            db,
            names,
            next: noted.max(newest.unwrap_or(1)),
            held,
            streams: HashMap::new(),
            keys,
            active: HashSet::new(),
            open: None,
            spare: Vec::new(),
            packer: Packer::default(),
            since: None,
            seen,
            buried: 0,
        };
        engine.streams = streams(&engine.db)?;
        Ok(engine)
    }

    /// What the tables say, after a transaction that was given up.
    pub(super) fn forget(&mut self, next: u64) -> Done<()> {
        (self.next, self.open) = (next, None);
        self.held.undo();
        self.keys = meta(&self.db, "keys")?.unwrap_or(0);
        self.streams = streams(&self.db)?;
        Ok(())
    }

    pub(super) fn stream(&mut self, kind: &str, name: &Arc<str>) -> Done<i64> {
        if let Some(id) = self.streams.get(name) {
            return Ok(*id);
        }
        self.db.prepare_cached("INSERT INTO streams(kind, name) VALUES (?1, ?2)")?.execute(params![kind, &**name])?;
        let id = self.db.last_insert_rowid();
        self.streams.insert(Arc::clone(name), id);
        Ok(id)
    }

    /// Bytes of the events of a stream.
    pub(super) fn bytes_of(&self, name: &str) -> u64 {
        self.known_stream(name).map_or(0, |stream| self.held.of(stream))
    }

    pub(super) fn known_stream(&self, name: &str) -> Option<i64> {
        self.streams.get(name).copied()
    }

    /// Writes a batch: events, keys, positions, and what could not be understood.
    pub(super) fn append(&mut self, append: &Append, now: DateTime<Utc>) -> Done<Appended> {
        let stream = self.stream(append.kind, &append.stream)?;
        if self.names.kinds(append.kind).is_none() {
            return Err(EngineError::Kind(append.kind.to_owned()));
        }
        let mut done = Appended { fates: Vec::with_capacity(append.batch.count()), ..Appended::default() };
        for (part, encoded) in append.batch.parts.iter().zip(&append.encoded) {
            if let Some(position) = &part.position {
                self.put_position(stream, &part.lane, position)?;
            }
            let (begin, from) = (self.next, done.fates.len());
            self.number(stream, part, encoded, &mut done.fates)?;
            let (mut first, mut bytes) = (begin, 0);
            for (count, records) in encoded.rows(done.fates.get(from..).unwrap_or_default()) {
                let section = Section { lane: &part.lane, shared: encoded.shared.as_deref(), count, records: &records };
                bytes += section.bytes() + ROW;
                self.put_section(Place { stream, first, count, at: now }, &section)?;
                first += count;
            }
            done.rows.push((self.next > begin).then_some((begin, bytes)));
            for (event, fate) in part.events.iter().zip(done.fates.get(from..).unwrap_or_default()) {
                match fate {
                    Fate::Refused => self.refuse(append, part, event, now)?,
                    Fate::Duplicate(number) if append.batch.revives => {
                        done.revived |= maintain::revive(&self.db, &append.stream, *number, now)?;
                    }
                    Fate::Stored(_) | Fate::Duplicate(_) => {}
                }
            }
        }
        for bad in &append.batch.undecodable {
            self.put_undecodable(append, bad, now)?;
        }
        Ok(done)
    }

    /// Puts a part's records where they belong: into the row that is open, or into one of their own.
    fn put_section(&mut self, place: Place, section: &Section<'_>) -> Done<()> {
        if section.count == 0 {
            return Ok(());
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.takes(place.stream, place.first, section)) {
            return Ok(open.take(section)?);
        }
        self.close_row()?;
        if section.is_big() {
            self.put_row(&place, Some(section.lane), section.shared, section.records)
        } else {
            self.open = Some(Open::new(place, section, std::mem::take(&mut self.spare))?);
            Ok(())
        }
    }

    /// The beginning of an event that nobody could hold, for people to look at.
    fn refuse(&self, append: &Append, part: &Part, event: &Inbound, now: DateTime<Utc>) -> Done<()> {
        let bytes = if event.body.is_empty() { event.text.as_bytes() } else { &event.body };
        let reason = format!(
            "it has {} bytes, and an event of {} MiB is the biggest that is taken; let its source send less at once",
            event.text.len() + event.body.len(),
            EVENT_MAX >> 20
        );
        let bytes = bytes.get(..BAD_BYTES.min(bytes.len())).unwrap_or_default().to_vec();
        self.put_undecodable(append, &Undecodable { lane: Arc::clone(&part.lane), bytes, reason }, now)
    }

    fn put_undecodable(&self, append: &Append, bad: &Undecodable, now: DateTime<Utc>) -> Done<()> {
        let cut = bad.bytes.len() > BAD_BYTES;
        let raw = if cut { bad.bytes.get(..BAD_BYTES).unwrap_or_default() } else { &bad.bytes };
        let reason = match cut {
            true => format!("{} (the first {} KiB of {} bytes are kept)", bad.reason, BAD_BYTES >> 10, bad.bytes.len()),
            false => bad.reason.clone(),
        };
        self.db
            .prepare_cached("INSERT INTO dead(at, stream, bind, attempts, reason, kind, lane, raw) VALUES (?1, ?2, '', 0, ?3, ?4, ?5, ?6)")?
            .execute(params![now.timestamp_millis(), &*append.stream, reason, append.kind, &*bad.lane, raw])?;
        Ok(())
    }

    /// Writes the row that waits for more parts. Whatever reads events in the same transaction comes after this.
    pub(super) fn close_row(&mut self) -> Done<()> {
        match self.open.take() {
            Some(mut open) => {
                let done = self.put_row(&open.place, None, None, &open.sections);
                open.sections.clear();
                self.spare = open.sections;
                done
            }
            None => Ok(()),
        }
    }

    fn put_row(&mut self, place: &Place, lane: Option<&str>, shared: Option<&[u8]>, records: &[u8]) -> Done<()> {
        let Place { stream, first, count, at } = place;
        let (records, length) =
            self.packer.pack(*stream, records).map_or((records, 0), |packed| (packed, records.len()));
        let bytes = records.len() + shared.map_or(0, <[u8]>::len) + ROW;
        self.db
            .prepare_cached(
                "INSERT INTO events(first, count, stream, lane, at, bytes, shared, records, packed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![first, count, stream, lane, at.timestamp_millis(), bytes, shared, records, length])?;
        self.held.put(*stream, i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Gives each event its number, and those that are known the one they have.
    fn number(&mut self, stream: i64, part: &Part, encoded: &Encoded, fates: &mut Vec<Fate>) -> Done<()> {
        for (event, refused) in part.events.iter().zip(encoded.refused()) {
            let fate = match &event.key {
                _ if refused => Fate::Refused,
                Some(key) => self.put_key(stream, key, self.next)?,
                None => Fate::Stored(self.next),
            };
            self.next += u64::from(matches!(fate, Fate::Stored(_)));
            fates.push(fate);
        }
        Ok(())
    }

    fn put_position(&self, stream: i64, lane: &str, position: &str) -> Done<()> {
        if position.is_empty() {
            self.db
                .prepare_cached("DELETE FROM positions WHERE stream = ?1 AND lane = ?2")?
                .execute(params![stream, lane])?;
            return Ok(());
        }
        self.db
            .prepare_cached("INSERT OR REPLACE INTO positions(stream, lane, position) VALUES (?1, ?2, ?3)")?
            .execute(params![stream, lane, position])?;
        Ok(())
    }

    /// Remembers a key, unless it is known.
    fn put_key(&self, stream: i64, key: &str, number: u64) -> Done<Fate> {
        let (now, before) = if self.keys == 0 { ("keys_0", "keys_1") } else { ("keys_1", "keys_0") };
        let known = |table: &str| -> Done<Option<u64>> {
            let sql = format!("SELECT number FROM {table} WHERE stream = ?1 AND key = ?2");
            Ok(self.db.prepare_cached(&sql)?.query_row(params![stream, key], |row| row.get(0)).optional()?)
        };
        if let Some(number) = known(before)? {
            return Ok(Fate::Duplicate(number));
        }
        let sql = format!("INSERT OR IGNORE INTO {now}(stream, key, number) VALUES (?1, ?2, ?3)");
        if self.db.prepare_cached(&sql)?.execute(params![stream, key, number])? == 1 {
            return Ok(Fate::Stored(number));
        }
        Ok(Fate::Duplicate(known(now)?.unwrap_or(number)))
    }

    pub(super) fn positions(&self, stream: &str) -> Done<Positions> {
        let mut rows = self.db.prepare_cached(
            "SELECT lane, position FROM positions JOIN streams ON streams.id = positions.stream WHERE streams.name = ?1",
        )?;
        let rows = rows.query_map([stream], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A bind's cursor, made at the end of the journal if there is none.
    pub(super) fn cursor(&mut self, kind: &str, stream: &Arc<str>, bind: &str, now: DateTime<Utc>) -> Done<Cursor> {
        let id = self.stream(kind, stream)?;
        let known = self
            .db
            .prepare_cached("SELECT done, claimed FROM cursors WHERE bind = ?1 AND stream = ?2")?
            .query_row(params![bind, id], |row| Ok(Cursor { done: row.get(0)?, claimed: row.get(1)? }))
            .optional()?;
        let cursor = known.unwrap_or(Cursor { done: self.next, claimed: self.next });
        self.put_cursor(id, bind, cursor, now)?;
        self.active.insert(bind.to_owned());
        Ok(cursor)
    }

    fn put_cursor(&self, stream: i64, bind: &str, cursor: Cursor, now: DateTime<Utc>) -> Done<()> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors(bind, stream, done, claimed, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![bind, stream, cursor.done, cursor.claimed, now.timestamp_millis()])?;
        Ok(())
    }

    pub(super) fn advance(&mut self, advance: &Advance, now: DateTime<Utc>) -> Done<()> {
        let Some(stream) = self.known_stream(&advance.stream) else { return Ok(()) };
        self.put_cursor(stream, &advance.bind, advance.cursor, now)?;
        for row in &advance.put {
            self.put_delivery(&advance.bind, row)?;
        }
        for number in &advance.drop {
            self.drop_delivery(&advance.bind, *number)?;
        }
        for dead in &advance.dead {
            self.drop_delivery(&advance.bind, dead.event.id)?;
            let record = record::write_alone(&dead.event)?;
            self.db
                .prepare_cached(
                    "INSERT INTO dead(at, stream, number, bind, attempts, reason, kind, lane, record, replay) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    now.timestamp_millis(),
                    &*advance.stream,
                    dead.event.id,
                    &*advance.bind,
                    dead.attempts,
                    dead.reason,
                    dead.event.kind().name(),
                    &*dead.event.lane,
                    record,
                    dead.replay.number()
                ])?;
        }
        Ok(())
    }

    fn drop_delivery(&self, bind: &str, number: u64) -> Done<()> {
        self.db
            .prepare_cached("DELETE FROM deliveries WHERE bind = ?1 AND number = ?2")?
            .execute(params![bind, number])?;
        Ok(())
    }

    pub(super) fn put_delivery(&self, bind: &str, row: &DeliveryRow) -> Done<()> {
        let state = if row.state == RowState::Held { "held" } else { "waiting" };
        let record = record::write_alone(&row.event)?;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO deliveries(bind, number, state, attempts, due, crashed, error, kind, record, replay)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                bind,
                row.event.id,
                state,
                row.attempts,
                row.due.timestamp_millis(),
                row.crashed,
                row.error,
                row.event.kind().name(),
                record,
                row.replay.number()
            ])?;
        Ok(())
    }

    /// What did not go the straight way for a bind, oldest first.
    pub(super) fn deliveries(&self, bind: &str) -> Done<Vec<DeliveryRow>> {
        let mut rows = self.db.prepare_cached(
            "SELECT number, state, attempts, due, crashed, error, kind, record, replay FROM deliveries WHERE bind = ?1 ORDER BY number",
        )?;
        let mut rows = rows.query([bind])?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let (number, kind, record): (u64, String, Vec<u8>) = (row.get(0)?, row.get(6)?, row.get(7)?);
            out.push(DeliveryRow {
                event: record::read_alone(&self.names, &kind, number, &record)?,
                state: if row.get_ref(1)?.as_str() == Ok("held") { RowState::Held } else { RowState::Waiting },
                attempts: row.get(2)?,
                due: moment(row.get(3)?),
                crashed: row.get(4)?,
                error: row.get(5)?,
                replay: Replay::of(row.get(8)?),
            });
        }
        Ok(out)
    }

    /// The rows of a stream from a number on, as many as hold about `most` bytes.
    pub(super) fn read(&self, stream: &str, from: u64, most: u64) -> Done<Vec<Arc<Chunk>>> {
        read(&self.db, &self.names, stream, from, most)
    }

    /// One event by its number, with its stream.
    pub(super) fn event(&self, number: u64) -> Done<Option<(String, Event)>> {
        let found = self
            .db
            .prepare_cached(
                "SELECT streams.name, kind, first, count, lane, shared, records, packed FROM events JOIN streams ON streams.id = stream
                 WHERE first <= ?1 AND first + count > ?1 ORDER BY first DESC LIMIT 1",
            )?
            .query_row([number], |row| {
                let name: String = row.get(0)?;
                Ok((name, chunk(&self.names, row)))
            })
            .optional()?;
        let Some((name, chunk)) = found else { return Ok(None) };
        let event = chunk?.events.into_iter().find(|event| event.id == number);
        Ok(event.map(|event| (name, event)))
    }
}

fn streams(db: &Connection) -> Done<HashMap<Arc<str>, i64>> {
    let mut rows = db.prepare("SELECT name, id FROM streams")?;
    let known = rows.query_map([], |row| Ok((Arc::from(row.get::<_, String>(0)?), row.get(1)?)))?;
    Ok(known.collect::<Result<_, _>>()?)
}

/// The rows of a stream from a number on, on any connection.
pub(super) fn read(db: &Connection, names: &Names, stream: &str, from: u64, most: u64) -> Done<Vec<Arc<Chunk>>> {
    let id: Option<i64> = db
        .prepare_cached("SELECT id FROM streams WHERE name = ?1")?
        .query_row([stream], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(Vec::new()) };
    let mut rows = db.prepare_cached(
        "SELECT ?3, kind, first, count, lane, shared, records, packed, events.bytes FROM events JOIN streams ON streams.id = stream
         WHERE stream = ?1
           AND first >= coalesce((SELECT max(first) FROM events WHERE stream = ?1 AND first <= ?2), 0)
         ORDER BY first LIMIT 256",
    )?;
    let mut rows = rows.query(params![id, from, stream])?;
    let (mut out, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let chunk = chunk(names, row)?;
        if chunk.end() <= from {
            continue;
        }
        out.push(Arc::new(chunk));
        bytes += row.get::<_, u64>(8)?;
        if bytes >= most {
            break;
        }
    }
    Ok(out)
}

/// `_, kind, first, count, lane, shared, records, packed`
pub(super) fn chunk(names: &Names, row: &rusqlite::Row<'_>) -> Done<Chunk> {
    let (kind, lane): (String, Option<String>) = (row.get(1)?, row.get(4)?);
    let (shared, records): (Option<Vec<u8>>, Vec<u8>) = (row.get(5)?, row.get(6)?);
    let records = pack::unpacked(records, row.get(7)?)?;
    let row = Row {
        kind: &kind,
        lane: lane.as_deref(),
        first: row.get(2)?,
        count: row.get(3)?,
        shared: shared.as_deref(),
        records: &records,
    };
    Ok(record::read_row(names, &row)?)
}
