//! How the records are opened: where they are, and who only looks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::db::Db;
use super::postgres::Postgres;
use super::server::Server;
use super::writer::Runs;
use super::{RunsError, schema};
use crate::store::BRING_UP;

/// Where records of runs are.
#[derive(Clone, Debug)]
pub enum At {
    /// With this process, and gone with it.
    Memory,
    /// In a file of SQLite.
    File(PathBuf),
    /// In a database of PostgreSQL.
    Server(Server),
}

impl At {
    /// Refuses to begin on a server while runs are in a file: numbers would come again, and with them folders of steps that are over.
    pub fn is_all(&self, file: Option<&Path>) -> Result<(), RunsError> {
        match (self, file) {
            (At::Server(_), Some(file)) if file.is_file() => {
                Err(RunsError::Left { file: file.display().to_string(), at: self.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Whether there may be any. A file that is not there has none; a server is asked.
    pub fn is_there(&self) -> bool {
        match self {
            At::Memory => false,
            At::File(path) => path.is_file(),
            At::Server(_) => true,
        }
    }
}

/// For people, without secrets.
impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Memory => f.write_str("memory"),
            At::File(path) => path.display().fmt(f),
            At::Server(server) => server.fmt(f),
        }
    }
}

impl Runs {
    /// Opens the records, wherever they are, and brings them up to date.
    pub async fn begin(at: &At) -> Result<Runs, RunsError> {
        match at {
            At::Memory => Runs::open(None),
            At::File(path) => Runs::open(Some(path)),
            At::Server(server) => {
                let runs = Runs::connect(server)?;
                runs.alter(schema::migrate).await?;
                Ok(runs)
            }
        }
    }

    /// Opens the records at `path`; without one they end with the process.
    pub fn open(path: Option<&Path>) -> Result<Runs, RunsError> {
        let writing = match path {
            Some(path) => {
                let connection = Connection::open(path)?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                // A thousand stages that change together fit, in KiB, so that they go to the disk once.
                connection.pragma_update(None, "cache_size", -8_000)?;
                connection
            }
            None => Connection::open_in_memory()?,
        };
        let writing = prepared(writing)?;
        schema::migrate(&writing)?;
        let Some(path) = path else { return Ok(Runs::here(writing)) };
        let reading = Connection::open(path)?;
        reading.pragma_update(None, "query_only", true)?;
        let reading = prepared(reading)?;
        Runs::start(writing, vec![reading])
    }

    /// Opens the records to look at them: nothing is changed, also no older schema, which is refused.
    pub async fn look(at: &At) -> Result<Runs, RunsError> {
        let runs = match at {
            At::Memory => return Runs::open(None),
            At::File(path) => Runs::here(file(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?),
            At::Server(server) => Runs::connect(server)?,
        };
        if let Some((name, _)) = runs.read(schema::check).await?.into_iter().find(|(_, done)| !done) {
            return Err(RunsError::Migration(format!("they do not have {name} yet; {BRING_UP}")));
        }
        Ok(runs)
    }

    /// Which migrations the records have: name, and whether it is there. Nothing is changed.
    pub async fn migrations(at: &At) -> Result<Vec<(&'static str, bool)>, RunsError> {
        match at {
            At::Memory => Runs::open(None)?.read(schema::check).await,
            At::File(path) => schema::check(&file(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?),
            At::Server(server) => Runs::connect(server)?.read(schema::check).await,
        }
    }

    /// Takes the newest migrations of the records back, all of them or none; their names. No bot may run with them.
    pub async fn rollback(at: &At, count: usize) -> Result<Vec<&'static str>, RunsError> {
        match at {
            At::Memory => Runs::open(None)?.alter(move |db| schema::rollback(db, count)).await,
            At::File(path) => schema::rollback(&file(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, count),
            At::Server(server) => {
                let runs = Runs::connect(server)?;
                runs.alone(Duration::ZERO).await?;
                let done = runs.alter(move |db| schema::rollback(db, count)).await;
                runs.release().await;
                done
            }
        }
    }

    /// Writes a copy of the records in the file at `path`, as they are at this moment.
    pub fn copy(path: &Path, to: &Path) -> Result<(), RunsError> {
        let Db::Sqlite(db) = file(path, OpenFlags::SQLITE_OPEN_READ_ONLY)? else { return Err(RunsError::Closed) };
        db.execute("VACUUM INTO ?1", [to.display().to_string()])?;
        Ok(())
    }

    /// Connections to a server: each is made when it is needed first.
    fn connect(server: &Server) -> Result<Runs, RunsError> {
        let connection = || Ok(Db::Postgres(Box::new(Postgres::new(server.clone())?)));
        let reading = (0..READERS).map(|_| connection()).collect::<Result<Vec<Db>, RunsError>>()?;
        Runs::start(connection()?, reading)
    }
}

/// Connections that read from a server, beside the one that writes.
const READERS: usize = 3;

pub(super) fn file(path: &Path, how: OpenFlags) -> Result<Db, RunsError> {
    prepared(Connection::open_with_flags(path, how)?)
}

/// What every connection to a file needs.
fn prepared(connection: Connection) -> Result<Db, RunsError> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(Db::Sqlite(connection))
}
