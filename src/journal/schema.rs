//! The tables, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

/// The version of the tables below, kept in `user_version`.
const VERSION: i64 = 2;
/// How long we wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// `first` is the number of the first event of a row, which holds `count` events in a row of numbers. A row without a lane
/// holds several parts, each with its own. Records that are `packed` are compressed, and have so many bytes when they are not.
const TABLES: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE streams(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL UNIQUE);
CREATE TABLE events(
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, stream INTEGER NOT NULL, lane TEXT,
    at INTEGER NOT NULL, bytes INTEGER NOT NULL, shared BLOB, records BLOB NOT NULL, packed INTEGER NOT NULL);
CREATE INDEX events_of_stream ON events(stream, first);
CREATE TABLE positions(
    stream INTEGER NOT NULL, lane TEXT NOT NULL, position TEXT NOT NULL, PRIMARY KEY(stream, lane)) WITHOUT ROWID;
CREATE TABLE keys_0(stream INTEGER NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(stream, key)) WITHOUT ROWID;
CREATE TABLE keys_1(stream INTEGER NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(stream, key)) WITHOUT ROWID;
CREATE TABLE cursors(
    bind TEXT PRIMARY KEY, stream INTEGER NOT NULL, done INTEGER NOT NULL, claimed INTEGER NOT NULL,
    at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deliveries(
    bind TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, due INTEGER NOT NULL,
    crashed INTEGER NOT NULL, error TEXT NOT NULL, kind TEXT NOT NULL, replay INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL,
    PRIMARY KEY(bind, number)) WITHOUT ROWID;
CREATE TABLE dead(
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, stream TEXT NOT NULL, number INTEGER, bind TEXT NOT NULL,
    attempts INTEGER NOT NULL, reason TEXT NOT NULL, kind TEXT NOT NULL, lane TEXT NOT NULL, record BLOB, raw BLOB,
    replay INTEGER NOT NULL DEFAULT 0);
";

/// Opens the file and makes the tables where there are none.
pub(super) fn open(path: Option<&Path>) -> rusqlite::Result<Connection> {
    let db = match path {
        Some(path) => Connection::open(path)?,
        None => Connection::open_in_memory()?,
    };
    prepare(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // 64 MiB between checkpoints: fewer and longer ones. The file is cut back to that after a burst.
    db.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
    }
    check_version(&db)?;
    complete(&db)?;
    Ok(db)
}

/// Opens an existing file beside whoever writes it.
pub(super) fn open_existing(path: &Path, write: bool) -> rusqlite::Result<Connection> {
    let access = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let db = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&db)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    check_version(&db)?;
    if write {
        complete(&db)?;
    }
    Ok(db)
}

/// What came into the tables later. An older masterchief does not miss it, so their version stays what it is.
fn complete(db: &Connection) -> rusqlite::Result<()> {
    const MARKED: &str = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('dead') WHERE name = 'replay')";
    if db.query_row(MARKED, [], |row| row.get(0))? {
        return Ok(());
    }
    match db.execute_batch("ALTER TABLE dead ADD COLUMN replay INTEGER NOT NULL DEFAULT 0") {
        // Somebody else was faster.
        Err(_) if db.query_row(MARKED, [], |row| row.get(0))? => Ok(()),
        done => done,
    }
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "cache_size", -16_384)
}

fn check_version(db: &Connection) -> rusqlite::Result<()> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let message = format!(
        "its tables are of version {version}, and this is version {VERSION}; use the masterchief that wrote it"
    );
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA), Some(message)))
}

pub(super) fn meta(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn put_meta(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES (?1, ?2)")?.execute(params![name, value])?;
    Ok(())
}

pub(super) fn moment(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_from_before_dead_letters_were_marked_is_completed_by_whoever_opens_it_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let before = || {
            let db = open(Some(&path)).unwrap();
            db.execute_batch("ALTER TABLE dead DROP COLUMN replay").unwrap();
        };
        let marked = "SELECT count(*) FROM dead WHERE replay = 0";
        before();
        open_existing(&path, true).unwrap().query_row(marked, [], |_| Ok(())).unwrap();
        before();
        open(Some(&path)).unwrap().query_row(marked, [], |_| Ok(())).unwrap();
    }
}
