//! The records of runs, in a database of their own: one thread writes whatever waits in one transaction, another one reads.
//!
//! A transition of a run writes several rows at once, and a thousand stages may move together; through the pool of the other
//! records each statement costs tens of microseconds, here a few.

mod images;
mod owner;
mod places;
mod put;
mod retention;
mod rollup;
mod rows;
mod schema;
mod sql;
mod writer;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::BRING_UP;

pub use images::ImageRow;
pub use places::{ApprovalRow, ArtifactRow, BookingRow, DeploymentRow, FreezeRow, IncidentRow, LockRow};
pub use put::Put;
pub use retention::{Old, kept_apart};
pub use rollup::{RollupRow, Span};
pub use rows::{AttemptRow, EventRow, LogSegmentRow, OutboxRow, PipelineRow, RunRow, StageRow};
pub use writer::Runs;

/// Why records of runs were not read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunsError {
    /// The database refuses.
    #[error("the records of runs: {0}")]
    Database(String),
    /// It was made by another version of this program.
    #[error("the records of runs: {0}")]
    Migration(String),
    /// Another bot began with them.
    #[error(
        "another bot ({0}) has begun with the records of runs, and only the newest may write; stop one of the two, or give it another data folder"
    )]
    Taken(String),
    /// The thread that writes is gone.
    #[error("the records of runs are closed")]
    Closed,
}

impl From<rusqlite::Error> for RunsError {
    fn from(fault: rusqlite::Error) -> RunsError {
        RunsError::Database(fault.to_string())
    }
}

/// What an engine begins with.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Runs that have not ended, by number, and those that ended so late that something may still be due.
    pub runs: Vec<RunRow>,
    /// Their stages.
    pub stages: Vec<StageRow>,
    /// The newest attempt of each of their stages.
    pub attempts: Vec<AttemptRow>,
    /// Approvals of these runs.
    pub approvals: Vec<ApprovalRow>,
    /// Locks.
    pub locks: Vec<LockRow>,
    /// Freezes.
    pub freezes: Vec<FreezeRow>,
    /// Runs that are booked.
    pub bookings: Vec<BookingRow>,
    /// What is live: the newest deployment of each place.
    pub live: Vec<DeploymentRow>,
    /// The highest number of a run.
    pub last_run: i64,
    /// The newest line of the incident log.
    pub last_incident: Option<IncidentRow>,
    /// What was to be said and was not.
    pub unsaid: Vec<OutboxRow>,
    /// How many events each of these runs has.
    pub events: std::collections::HashMap<i64, i64>,
}

/// Which runs are listed.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Of this app.
    pub app: Option<String>,
    /// In this environment.
    pub env: Option<String>,
    /// Created at this time or later, in Unix milliseconds.
    pub since: Option<i64>,
    /// With numbers below this one.
    pub below: Option<i64>,
    /// So many at most, the newest first.
    pub limit: u32,
}

impl Runs {
    /// Opens the records at `path`; without one they end with the process.
    pub fn open(path: Option<&Path>) -> Result<Runs, RunsError> {
        let writing = match path {
            Some(path) => {
                let connection = Connection::open(path)?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                connection
            }
            None => Connection::open_in_memory()?,
        };
        prepare(&writing)?;
        schema::migrate(&writing)?;
        let reading = path.map(Connection::open).transpose()?;
        if let Some(reading) = &reading {
            prepare(reading)?;
            reading.pragma_update(None, "query_only", true)?;
        }
        Runs::start(writing, reading)
    }

    /// Opens the records at `path` to look at them: nothing is changed, also no older schema, which is refused.
    pub fn look(path: &Path) -> Result<Runs, RunsError> {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        prepare(&db)?;
        if let Some((name, _)) = schema::check(&db)?.into_iter().find(|(_, done)| !done) {
            return Err(RunsError::Migration(format!("they do not have {name} yet; {BRING_UP}")));
        }
        Runs::start(db, None)
    }

    /// Which migrations the records at `path` have: name, and whether it is there. Nothing is changed.
    pub fn migrations(path: &Path) -> Result<Vec<(&'static str, bool)>, RunsError> {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        prepare(&db)?;
        schema::check(&db)
    }

    /// Whether rows can be written and read at this moment: it is tried.
    pub async fn check(&self) -> Result<(), RunsError> {
        self.change(|db| {
            let transaction = rusqlite::Transaction::new_unchecked(db, rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute("UPDATE schema_migration SET at = at WHERE version = 1", [])?;
            Ok(transaction.commit()?)
        })
        .await?;
        self.read(|db| Ok(db.query_row("SELECT COUNT(*) FROM schema_migration", [], |_| Ok(()))?)).await
    }

    /// What an engine begins with. Runs that ended after `since` come too.
    pub async fn load(&self, since: i64) -> Result<Loaded, RunsError> {
        self.read(move |db| {
            let _moment = db.unchecked_transaction()?;
            // By time, not by number: what was asked for first may have gone out last.
            const OPEN: &str = "(SELECT number FROM run WHERE ended = 0 OR finished >= ?1
                 UNION SELECT run FROM deployment WHERE run = (SELECT run FROM deployment AS other
                 WHERE other.app = deployment.app AND other.env = deployment.env ORDER BY at DESC, run DESC LIMIT 1))";
            let runs = all(db, &format!("{} WHERE number IN {OPEN} ORDER BY number", RunRow::SELECT), [since], RunRow::of)?;
            let stages = all(db, &format!("{} WHERE run IN {OPEN} ORDER BY run", StageRow::SELECT), [since], StageRow::of)?;
            let newest = "n = (SELECT attempt FROM stage WHERE stage.run = attempt.run AND stage.name = attempt.stage)";
            let attempts =
                all(db, &format!("{} WHERE run IN {OPEN} AND {newest}", AttemptRow::SELECT), [since], AttemptRow::of)?;
            let approvals = all(db, &format!("{} WHERE run IN {OPEN}", ApprovalRow::SELECT), [since], ApprovalRow::of)?;
            let newest = "run = (SELECT run FROM deployment AS other WHERE other.app = deployment.app AND other.env = deployment.env
                 ORDER BY at DESC, run DESC LIMIT 1)";
            Ok(Loaded {
                runs,
                stages,
                attempts,
                approvals,
                locks: all(db, LockRow::SELECT, [], LockRow::of)?,
                freezes: all(db, FreezeRow::SELECT, [], FreezeRow::of)?,
                bookings: all(db, BookingRow::SELECT, [], BookingRow::of)?,
                live: all(db, &format!("{} WHERE {newest}", DeploymentRow::SELECT), [], DeploymentRow::of)?,
                last_run: db.query_row("SELECT COALESCE(MAX(number), 0) FROM run", [], |row| row.get(0))?,
                last_incident: one(db, &format!("{} ORDER BY id DESC LIMIT 1", IncidentRow::SELECT), [], IncidentRow::of)?,
                unsaid: all(db, &sql::unsaid(), [], OutboxRow::of)?,
                events: all(db, &format!("SELECT run, MAX(seq) FROM event WHERE run IN {OPEN} GROUP BY run"), [since], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .into_iter()
                .collect(),
            })
        })
        .await
    }

    /// The text of a version of a pipeline: its name and its source.
    pub async fn pipeline(&self, hash: &str) -> Result<Option<PipelineRow>, RunsError> {
        let hash = hash.to_owned();
        self.read(move |db| one(db, &format!("{} WHERE hash = ?1", PipelineRow::SELECT), [hash], PipelineRow::of)).await
    }

    /// A run with its stages, as both were at one moment.
    pub async fn run(&self, number: i64) -> Result<Option<(RunRow, Vec<StageRow>)>, RunsError> {
        self.read(move |db| {
            let _moment = db.unchecked_transaction()?;
            let run = one(db, &sql::run(), [number], RunRow::of)?;
            let stages = all(db, &sql::stages(), [number], StageRow::of)?;
            Ok(run.map(|run| (run, stages)))
        })
        .await
    }

    /// Runs, the newest first.
    pub async fn runs(&self, which: Which) -> Result<Vec<RunRow>, RunsError> {
        self.read(move |db| {
            let sql = sql::runs(&which);
            listed(db, &sql, which)
        })
        .await
    }

    /// What happened in a run, in order.
    pub async fn events(&self, run: i64) -> Result<Vec<EventRow>, RunsError> {
        self.read(move |db| all(db, &sql::events(), [run], EventRow::of)).await
    }

    /// All attempts of a run.
    pub async fn attempts(&self, run: i64) -> Result<Vec<AttemptRow>, RunsError> {
        self.read(move |db| all(db, &sql::attempts(), [run], AttemptRow::of)).await
    }

    /// What is kept of the logs of a run.
    pub async fn log_segments(&self, run: i64) -> Result<Vec<LogSegmentRow>, RunsError> {
        self.read(move |db| all(db, &sql::log_segments(), [run], LogSegmentRow::of)).await
    }

    /// Runs of an app that have not ended, in order.
    pub async fn open_runs(&self, app: &str) -> Result<Vec<RunRow>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| all(db, &sql::open(), [app], RunRow::of)).await
    }

    /// The lock on a place.
    pub async fn lock(&self, place: &str) -> Result<Option<LockRow>, RunsError> {
        let place = place.to_owned();
        self.read(move |db| one(db, &sql::lock(), [place], LockRow::of)).await
    }

    /// How many runs are how far: those that have not ended, and those that ended since then.
    pub async fn run_states(&self, since: i64) -> Result<Vec<(String, i64)>, RunsError> {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.read(move |db| {
            let mut out: Vec<(String, i64)> = all(db, sql::OPEN_STATES, [], row)?;
            out.extend(all(db, sql::ENDED_STATES, [since], row)?);
            Ok(out)
        })
        .await
    }

    /// How many stages of runs that have not ended are how far.
    pub async fn stage_states(&self) -> Result<Vec<(String, i64)>, RunsError> {
        self.read(|db| all(db, sql::STAGE_STATES, [], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// What people said to a run.
    pub async fn approvals(&self, run: i64) -> Result<Vec<ApprovalRow>, RunsError> {
        self.read(move |db| all(db, &sql::approvals(), [run], ApprovalRow::of)).await
    }

    /// What went live in a place, the newest first.
    pub async fn deployments(&self, app: &str, env: &str, limit: u32) -> Result<Vec<DeploymentRow>, RunsError> {
        let (app, env) = (app.to_owned(), env.to_owned());
        self.read(move |db| all(db, &sql::deployments(), params![app, env, limit], DeploymentRow::of)).await
    }

    /// What went live at this moment or later, in one environment or in all, the newest first, twenty at most.
    pub async fn deployed_since(&self, env: Option<&str>, since: i64) -> Result<Vec<DeploymentRow>, RunsError> {
        let env = env.map(str::to_owned);
        self.read(move |db| {
            let sql = format!(
                "{} WHERE at >= ?1 AND (?2 IS NULL OR env = ?2) ORDER BY at DESC LIMIT 20",
                DeploymentRow::SELECT
            );
            all(db, &sql, params![since, env], DeploymentRow::of)
        })
        .await
    }

    /// Lines of the incident log, the newest first.
    pub async fn incidents(&self, app: Option<&str>, since: i64, limit: u32) -> Result<Vec<IncidentRow>, RunsError> {
        let app = app.map(str::to_owned);
        self.read(move |db| {
            let sql = format!(
                "{} WHERE (?1 IS NULL OR app = ?1) AND at >= ?2 ORDER BY id DESC LIMIT ?3",
                IncidentRow::SELECT
            );
            all(db, &sql, params![app, since, limit], IncidentRow::of)
        })
        .await
    }

    /// One line of the incident log.
    pub async fn incident(&self, id: i64) -> Result<Option<IncidentRow>, RunsError> {
        self.read(move |db| one(db, &format!("{} WHERE id = ?1", IncidentRow::SELECT), [id], IncidentRow::of)).await
    }

    /// The whole incident log from a line on, in order.
    pub async fn incidents_from(&self, id: i64, limit: u32) -> Result<Vec<IncidentRow>, RunsError> {
        self.read(move |db| {
            all(
                db,
                &format!("{} WHERE id >= ?1 ORDER BY id LIMIT ?2", IncidentRow::SELECT),
                params![id, limit],
                IncidentRow::of,
            )
        })
        .await
    }

    /// How long stages of this app took when they went well, in milliseconds: name and time, the newest 2,000.
    pub async fn times(&self, app: &str) -> Result<Vec<(String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| all(db, sql::TIMES, [app], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// The apps of which anything ran.
    pub async fn apps(&self) -> Result<Vec<String>, RunsError> {
        const SQL: &str =
            "SELECT name FROM app WHERE EXISTS (SELECT 1 FROM run WHERE run.app = app.name) ORDER BY name";
        self.read(|db| all(db, SQL, [], |row| row.get(0))).await
    }

    /// How long stages of this app waited for their turn, in milliseconds: name and time, the newest 2,000.
    pub async fn waits(&self, app: &str) -> Result<Vec<(String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| all(db, sql::WAITS, [app], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// Runs that began, the newest first, each with what it brought if it went live.
    pub async fn began(&self, which: Which) -> Result<Vec<(RunRow, Option<DeploymentRow>)>, RunsError> {
        self.read(move |db| {
            let _moment = db.unchecked_transaction()?;
            let rows = listed(db, &sql::began(&which), which)?;
            let with = |row: RunRow| {
                let brought = one(db, &sql::deployment(), [row.number], DeploymentRow::of)?;
                Ok((row, brought))
            };
            rows.into_iter().map(with).collect()
        })
        .await
    }

    /// What was said of a run, or is to be, in order.
    pub async fn notices(&self, run: i64) -> Result<Vec<OutboxRow>, RunsError> {
        let mut rows = self.read(move |db| all(db, &sql::notices(), [run], OutboxRow::of)).await?;
        rows.sort_by_key(|row| (row.at, row.event, row.dedupe.len(), row.dedupe.clone()));
        Ok(rows)
    }

    /// Writes a copy of the records at `path`, as they are at this moment.
    pub fn copy(path: &Path, to: &Path) -> Result<(), RunsError> {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        prepare(&db)?;
        db.execute("VACUUM INTO ?1", [to.display().to_string()])?;
        Ok(())
    }

    /// Takes the newest migrations of the records at `path` back, all of them or none; their names. No bot may run there.
    pub fn rollback(path: &Path, count: usize) -> Result<Vec<&'static str>, RunsError> {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare(&db)?;
        schema::rollback(&db, count)
    }

    /// Forgets runs that ended before this moment, but for what is live and the fifty deployments before it; their numbers. It goes by
    /// parts, so that runs that are under way are written between them.
    pub async fn purge(&self, before: i64) -> Result<Vec<i64>, RunsError> {
        self.change(move |db| {
            let transaction = db.unchecked_transaction()?;
            transaction.execute(&format!("DELETE FROM deployment WHERE {OLD_DEPLOYMENT}"), [])?;
            transaction.execute("DELETE FROM outbox WHERE sent < ?1", [before])?;
            Ok(transaction.commit()?)
        })
        .await?;
        let mut gone: Vec<i64> = Vec::new();
        loop {
            let some: Vec<i64> = self
                .change(move |db| {
                    let transaction = db.unchecked_transaction()?;
                    let sql = format!("SELECT number FROM run WHERE {OLD_RUN} ORDER BY number LIMIT {PURGE}");
                    let some: Vec<i64> = all(&transaction, &sql, [before], |row| row.get(0))?;
                    for number in &some {
                        transaction.prepare_cached("DELETE FROM run WHERE number = ?1")?.execute([number])?;
                    }
                    transaction.commit()?;
                    Ok(some)
                })
                .await?;
            if some.is_empty() {
                return Ok(gone);
            }
            gone.extend(some);
        }
    }

    /// What [`Runs::purge`] would forget: the numbers of runs. Nothing is changed.
    pub async fn old(&self, before: i64) -> Result<Vec<i64>, RunsError> {
        self.read(move |db| {
            let kept = format!("SELECT run FROM deployment WHERE NOT ({OLD_DEPLOYMENT})");
            let sql = format!("SELECT number FROM run WHERE ended = 1 AND finished < ?1 AND number NOT IN ({kept})");
            all(db, &sql, [before], |row| row.get(0))
        })
        .await
    }

    /// Files that were kept of a run.
    pub async fn artifacts(&self, run: i64) -> Result<Vec<ArtifactRow>, RunsError> {
        self.read(move |db| all(db, &sql::artifacts(), [run], ArtifactRow::of)).await
    }

    /// How often stages failed since then: stage, class and count, the most frequent first.
    pub async fn failures(&self, app: &str, since: i64) -> Result<Vec<(String, String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| {
            all(db, sql::FAILURES, params![app, since], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        })
        .await
    }
}

/// So many runs are forgotten at once.
const PURGE: usize = 100;
/// Deployments that are older than the fifty newest of their place.
const OLD_DEPLOYMENT: &str = "run NOT IN (
     SELECT run FROM deployment AS other WHERE other.app = deployment.app AND other.env = deployment.env
     ORDER BY at DESC, run DESC LIMIT 50)";
/// Runs that ended before `?1` and are no deployment that is kept.
const OLD_RUN: &str = "ended = 1 AND finished < ?1 AND number NOT IN (SELECT run FROM deployment)";

/// What every connection needs.
fn prepare(connection: &Connection) -> Result<(), RunsError> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The rows of runs that are asked for.
fn listed(db: &Connection, sql: &str, which: Which) -> Result<Vec<RunRow>, RunsError> {
    let (since, below) = (which.since.unwrap_or(i64::MIN), which.below.unwrap_or(i64::MAX));
    let env = which.env.filter(|_| which.app.is_some());
    all(db, sql, params![which.app, env, since, below, which.limit], RunRow::of)
}

fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    of: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, RunsError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params, of)?;
    Ok(rows.collect::<rusqlite::Result<Vec<T>>>()?)
}

fn one<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    of: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, RunsError> {
    Ok(db.prepare_cached(sql)?.query_row(params, of).optional()?)
}

#[cfg(test)]
mod tests;
