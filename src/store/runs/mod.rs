//! The records of runs, in a database of their own: one thread writes whatever waits in one transaction.
//!
//! A transition of a run writes several rows at once, and a thousand stages may move together; through the pool of the other
//! records each statement costs tens of microseconds, here a few.

mod places;
mod put;
mod rows;
mod schema;
mod writer;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

pub use places::{ApprovalRow, ArtifactRow, BookingRow, DeploymentRow, FreezeRow, IncidentRow, LockRow};
pub use put::Put;
pub use rows::{AttemptRow, EventRow, OutboxRow, PipelineRow, RunRow, StageRow};
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
        let connection = match path {
            Some(path) => {
                let connection = Connection::open(path)?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                connection.busy_timeout(std::time::Duration::from_secs(10))?;
                connection
            }
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::migrate(&connection)?;
        Runs::start(connection, path.is_some())
    }

    /// What an engine begins with. Runs that ended after `since` come too.
    pub async fn load(&self, since: i64) -> Result<Loaded, RunsError> {
        self.read(move |db| {
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
                unsaid: all(db, &format!("{} WHERE sent IS NULL ORDER BY at", OutboxRow::SELECT), [], OutboxRow::of)?,
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

    /// A run with its stages.
    pub async fn run(&self, number: i64) -> Result<Option<(RunRow, Vec<StageRow>)>, RunsError> {
        self.read(move |db| {
            let run = one(db, &format!("{} WHERE number = ?1", RunRow::SELECT), [number], RunRow::of)?;
            let stages = all(db, &format!("{} WHERE run = ?1", StageRow::SELECT), [number], StageRow::of)?;
            Ok(run.map(|run| (run, stages)))
        })
        .await
    }

    /// Runs, the newest first.
    pub async fn runs(&self, which: Which) -> Result<Vec<RunRow>, RunsError> {
        self.read(move |db| {
            // Each form has an index of its own.
            let place = match (&which.app, &which.env) {
                (Some(_), Some(_)) => "app = ?1 AND env = ?2",
                (Some(_), None) => "app = ?1 AND ?2 IS NULL",
                _ => "?1 IS NULL AND ?2 IS NULL",
            };
            let sql = format!(
                "{} WHERE {place} AND created >= ?3 AND number < ?4 ORDER BY number DESC LIMIT ?5",
                RunRow::SELECT
            );
            let (since, below) = (which.since.unwrap_or(i64::MIN), which.below.unwrap_or(i64::MAX));
            let env = which.env.filter(|_| which.app.is_some());
            all(db, &sql, params![which.app, env, since, below, which.limit], RunRow::of)
        })
        .await
    }

    /// What happened in a run, in order.
    pub async fn events(&self, run: i64) -> Result<Vec<EventRow>, RunsError> {
        self.read(move |db| all(db, &format!("{} WHERE run = ?1 ORDER BY seq", EventRow::SELECT), [run], EventRow::of))
            .await
    }

    /// All attempts of a run.
    pub async fn attempts(&self, run: i64) -> Result<Vec<AttemptRow>, RunsError> {
        self.read(move |db| {
            all(db, &format!("{} WHERE run = ?1 ORDER BY begun", AttemptRow::SELECT), [run], AttemptRow::of)
        })
        .await
    }

    /// What went live in a place, the newest first.
    pub async fn deployments(&self, app: &str, env: &str, limit: u32) -> Result<Vec<DeploymentRow>, RunsError> {
        let (app, env) = (app.to_owned(), env.to_owned());
        self.read(move |db| {
            let sql =
                format!("{} WHERE app = ?1 AND env = ?2 ORDER BY at DESC, run DESC LIMIT ?3", DeploymentRow::SELECT);
            all(db, &sql, params![app, env, limit], DeploymentRow::of)
        })
        .await
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
        self.read(move |db| {
            let sql = "SELECT stage.name, stage.ended - stage.started FROM run JOIN stage ON stage.run = run.number
                 WHERE run.app = ?1 AND stage.state = 'succeeded' AND stage.started IS NOT NULL AND stage.ended IS NOT NULL
                 ORDER BY run.number DESC LIMIT 2000";
            all(db, sql, [app], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }

    /// Forgets runs that ended before this moment, but for what is live and the fifty deployments before it; their numbers.
    pub async fn purge(&self, before: i64) -> Result<Vec<i64>, RunsError> {
        self.read(move |db| {
            let transaction = db.unchecked_transaction()?;
            let sql = "DELETE FROM deployment WHERE run NOT IN (
                 SELECT run FROM deployment AS other WHERE other.app = deployment.app AND other.env = deployment.env
                 ORDER BY at DESC, run DESC LIMIT 50)";
            transaction.execute(sql, [])?;
            let old = "ended = 1 AND finished < ?1 AND number NOT IN (SELECT run FROM deployment)";
            let gone = all(&transaction, &format!("SELECT number FROM run WHERE {old}"), [before], |row| row.get(0))?;
            transaction.execute(&format!("DELETE FROM run WHERE {old}"), [before])?;
            transaction.execute("DELETE FROM outbox WHERE sent < ?1", [before])?;
            transaction.commit()?;
            Ok(gone)
        })
        .await
    }

    /// Files that were kept of a run.
    pub async fn artifacts(&self, run: i64) -> Result<Vec<ArtifactRow>, RunsError> {
        self.read(move |db| all(db, &format!("{} WHERE run = ?1", ArtifactRow::SELECT), [run], ArtifactRow::of)).await
    }

    /// How often stages failed since then: stage, class and count, the most frequent first.
    pub async fn failures(&self, app: &str, since: i64) -> Result<Vec<(String, String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| {
            let sql = "SELECT attempt.stage, attempt.class, COUNT(*) FROM run JOIN attempt ON attempt.run = run.number
                 WHERE run.app = ?1 AND run.created >= ?2 AND attempt.class IS NOT NULL
                 GROUP BY attempt.stage, attempt.class ORDER BY COUNT(*) DESC, attempt.stage LIMIT 20";
            all(db, sql, params![app, since], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        })
        .await
    }
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
