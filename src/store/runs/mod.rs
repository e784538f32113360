//! The records of runs, in a database of their own: one thread writes whatever waits in one transaction, another one reads.
//!
//! A transition of a run writes several rows at once, and a thousand stages may move together; through the pool of the other
//! records each statement costs tens of microseconds, here a few.

mod db;
mod images;
mod moving;
mod open;
mod owner;
mod places;
mod postgres;
mod put;
mod retention;
mod rollup;
mod rows;
mod schema;
mod server;
mod sql;
mod writer;

use db::{Db, params};

pub use images::ImageRow;
pub use open::At;
pub use places::{ApprovalRow, ArtifactRow, BookingRow, DeploymentRow, FreezeRow, IncidentRow, LockRow};
pub use put::Put;
pub use retention::{Old, kept_apart};
pub use rollup::{RollupRow, Span};
pub use rows::{AttemptRow, EventRow, LogSegmentRow, OutboxRow, PipelineRow, RunRow, StageRow};
pub use server::{Records, Server};
pub use writer::Runs;

/// Why records of runs were not read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunsError {
    /// The database refuses.
    #[error("the records of runs: {0}")]
    Database(String),
    /// It cannot be asked there.
    #[error("pipelines.records: {0}")]
    Address(String),
    /// There are some in a file too.
    #[error(
        "{file} has the records of runs, and pipelines.records names {at}: `masterchief db move` takes them along; to begin anew, give the bot another data folder"
    )]
    Left {
        /// The file.
        file: String,
        /// Where they are to be.
        at: String,
    },
    /// It was made by another version of this program.
    #[error("the records of runs: {0}")]
    Migration(String),
    /// Another bot began with them.
    #[error(
        "another bot ({0}) has begun with the records of runs, and only the newest may write; stop one of the two, or give it another data folder"
    )]
    Taken(String),
    /// Another bot has them, and it is alive.
    #[error(
        "another bot ({0}) has the records of runs; stop it, or give this one another database in pipelines.records. If that one vanished with its machine, PostgreSQL gives them free within a minute"
    )]
    Held(String),
    /// The database is not there now.
    #[error("the records of runs: {0}")]
    Lost(String),
    /// It went away while it committed a transaction, and it is not known yet whether it did.
    #[error("the records of runs: PostgreSQL went away while it wrote transaction {0}")]
    Unsure(i64),
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
    /// The highest number that a booking ever had.
    pub last_booking: i64,
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
    /// Whether rows can be written and read at this moment: it is tried.
    pub async fn check(&self) -> Result<(), RunsError> {
        self.change(|db| db.execute("UPDATE schema_migration SET at = at WHERE version = 1", &[])).await?;
        self.read(|db| db.number("SELECT COUNT(*) FROM schema_migration", &[])).await.map(drop)
    }

    /// What an engine begins with. Runs that ended after `since` come too.
    pub async fn load(&self, since: i64) -> Result<Loaded, RunsError> {
        self.read(move |db| {
            // By time, not by number: what was asked for first may have gone out last.
            const OPEN: &str = "(SELECT number FROM run WHERE ended = 0 OR finished >= ?1
                 UNION SELECT run FROM deployment WHERE run = (SELECT run FROM deployment AS other
                 WHERE other.app = deployment.app AND other.env = deployment.env ORDER BY at DESC, run DESC LIMIT 1))";
            let runs = db.all(&format!("{} WHERE number IN {OPEN} ORDER BY number", RunRow::SELECT), params![since], RunRow::of)?;
            let stages = db.all(&format!("{} WHERE run IN {OPEN} ORDER BY run, name", StageRow::SELECT), params![since], StageRow::of)?;
            let newest = "n = (SELECT attempt FROM stage WHERE stage.run = attempt.run AND stage.name = attempt.stage)";
            let attempts =
                db.all(&format!("{} WHERE run IN {OPEN} AND {newest} ORDER BY run, stage", AttemptRow::SELECT), params![since], AttemptRow::of)?;
            let approvals = db.all(&format!("{} WHERE run IN {OPEN} ORDER BY at, run, code, handle", ApprovalRow::SELECT), params![since], ApprovalRow::of)?;
            let newest = "run = (SELECT run FROM deployment AS other WHERE other.app = deployment.app AND other.env = deployment.env
                 ORDER BY at DESC, run DESC LIMIT 1)";
            Ok(Loaded {
                runs,
                stages,
                attempts,
                approvals,
                locks: db.all(&format!("{} ORDER BY place", LockRow::SELECT), &[], LockRow::of)?,
                freezes: db.all(&format!("{} ORDER BY scope", FreezeRow::SELECT), &[], FreezeRow::of)?,
                bookings: db.all(&format!("{} ORDER BY id", BookingRow::SELECT), &[], BookingRow::of)?,
                last_booking: db.number("SELECT COALESCE(MAX(newest), 0) FROM counter WHERE name = 'booking'", &[])?,
                live: db.all(&format!("{} WHERE {newest} ORDER BY app, env", DeploymentRow::SELECT), &[], DeploymentRow::of)?,
                last_run: db.number("SELECT COALESCE(MAX(number), 0) FROM run", &[])?,
                last_incident: db.one(&format!("{} ORDER BY id DESC LIMIT 1", IncidentRow::SELECT), &[], IncidentRow::of)?,
                unsaid: in_order(db.all(&sql::unsaid(), &[], OutboxRow::of)?),
                events: db
                    .all(
                        &format!("SELECT run, MAX(seq) FROM event WHERE run IN {OPEN} GROUP BY run"),
                        params![since],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )?
                    .into_iter()
                    .collect(),
            })
        })
        .await
    }

    /// The text of a version of a pipeline: its name and its source.
    pub async fn pipeline(&self, hash: &str) -> Result<Option<PipelineRow>, RunsError> {
        let hash = hash.to_owned();
        self.read(move |db| db.one(&format!("{} WHERE hash = ?1", PipelineRow::SELECT), params![hash], PipelineRow::of))
            .await
    }

    /// A run with its stages, as both were at one moment.
    pub async fn run(&self, number: i64) -> Result<Option<(RunRow, Vec<StageRow>)>, RunsError> {
        self.read(move |db| {
            let run = db.one(&sql::run(), params![number], RunRow::of)?;
            let stages = db.all(&sql::stages(), params![number], StageRow::of)?;
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
        self.read(move |db| db.all(&sql::events(), params![run], EventRow::of)).await
    }

    /// All attempts of a run.
    pub async fn attempts(&self, run: i64) -> Result<Vec<AttemptRow>, RunsError> {
        self.read(move |db| db.all(&sql::attempts(), params![run], AttemptRow::of)).await
    }

    /// What is kept of the logs of a run.
    pub async fn log_segments(&self, run: i64) -> Result<Vec<LogSegmentRow>, RunsError> {
        self.read(move |db| db.all(&sql::log_segments(), params![run], LogSegmentRow::of)).await
    }

    /// Runs of an app that have not ended, in order.
    pub async fn open_runs(&self, app: &str) -> Result<Vec<RunRow>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| db.all(&sql::open(), params![app], RunRow::of)).await
    }

    /// The lock on a place.
    pub async fn lock(&self, place: &str) -> Result<Option<LockRow>, RunsError> {
        let place = place.to_owned();
        self.read(move |db| db.one(&sql::lock(), params![place], LockRow::of)).await
    }

    /// How many runs are how far: those that have not ended, and those that ended since then.
    pub async fn run_states(&self, since: i64) -> Result<Vec<(String, i64)>, RunsError> {
        let row = |row: &db::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.read(move |db| {
            let mut out: Vec<(String, i64)> = db.all(sql::OPEN_STATES, &[], row)?;
            out.extend(db.all(sql::ENDED_STATES, params![since], row)?);
            Ok(out)
        })
        .await
    }

    /// How many stages of runs that have not ended are how far.
    pub async fn stage_states(&self) -> Result<Vec<(String, i64)>, RunsError> {
        self.read(|db| db.all(sql::STAGE_STATES, &[], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// What people said to a run.
    pub async fn approvals(&self, run: i64) -> Result<Vec<ApprovalRow>, RunsError> {
        self.read(move |db| db.all(&sql::approvals(), params![run], ApprovalRow::of)).await
    }

    /// What went live in a place, the newest first.
    pub async fn deployments(&self, app: &str, env: &str, limit: u32) -> Result<Vec<DeploymentRow>, RunsError> {
        let (app, env) = (app.to_owned(), env.to_owned());
        self.read(move |db| db.all(&sql::deployments(), params![app, env, limit], DeploymentRow::of)).await
    }

    /// What went live at this moment or later, in one environment or in all, the newest first, twenty at most.
    pub async fn deployed_since(&self, env: Option<&str>, since: i64) -> Result<Vec<DeploymentRow>, RunsError> {
        let env = env.map(str::to_owned);
        self.read(move |db| {
            let sql = format!(
                "{} WHERE at >= ?1 AND (?2 IS NULL OR env = ?2) ORDER BY at DESC LIMIT 20",
                DeploymentRow::SELECT
            );
            db.all(&sql, params![since, env], DeploymentRow::of)
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
            db.all(&sql, params![app, since, limit], IncidentRow::of)
        })
        .await
    }

    /// One line of the incident log.
    pub async fn incident(&self, id: i64) -> Result<Option<IncidentRow>, RunsError> {
        self.read(move |db| db.one(&format!("{} WHERE id = ?1", IncidentRow::SELECT), params![id], IncidentRow::of))
            .await
    }

    /// The whole incident log from a line on, in order.
    pub async fn incidents_from(&self, id: i64, limit: u32) -> Result<Vec<IncidentRow>, RunsError> {
        self.read(move |db| {
            db.all(
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
        self.read(move |db| db.all(sql::TIMES, params![app], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// The apps of which anything ran.
    pub async fn apps(&self) -> Result<Vec<String>, RunsError> {
        const SQL: &str =
            "SELECT name FROM app WHERE EXISTS (SELECT 1 FROM run WHERE run.app = app.name) ORDER BY name";
        self.read(|db| db.all(SQL, &[], |row| row.get(0))).await
    }

    /// How long stages of this app waited for their turn, in milliseconds: name and time, the newest 2,000.
    pub async fn waits(&self, app: &str) -> Result<Vec<(String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| db.all(sql::WAITS, params![app], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    /// Runs that began, the newest first, each with what it brought if it went live.
    pub async fn began(&self, which: Which) -> Result<Vec<(RunRow, Option<DeploymentRow>)>, RunsError> {
        self.read(move |db| {
            let rows = listed(db, &sql::began(&which), which)?;
            let with = |row: RunRow| {
                let brought = db.one(&sql::deployment(), params![row.number], DeploymentRow::of)?;
                Ok((row, brought))
            };
            rows.into_iter().map(with).collect()
        })
        .await
    }

    /// What was said of a run, or is to be, in order.
    pub async fn notices(&self, run: i64) -> Result<Vec<OutboxRow>, RunsError> {
        Ok(in_order(self.read(move |db| db.all(&sql::notices(), params![run], OutboxRow::of)).await?))
    }

    /// Forgets runs that ended before this moment, but for what is live and the fifty deployments before it; their numbers. It goes by
    /// parts, so that runs that are under way are written between them.
    pub async fn purge(&self, before: i64) -> Result<Vec<i64>, RunsError> {
        self.change(move |db| {
            db.execute(&format!("DELETE FROM deployment WHERE {OLD_DEPLOYMENT}"), &[])?;
            db.execute("DELETE FROM outbox WHERE sent < ?1", params![before])
        })
        .await?;
        let mut gone: Vec<i64> = Vec::new();
        loop {
            let some: Vec<i64> = self
                .change(move |db| {
                    let sql = format!("SELECT number FROM run WHERE {OLD_RUN} ORDER BY number LIMIT {PURGE}");
                    let some: Vec<i64> = db.all(&sql, params![before], |row| row.get(0))?;
                    for number in &some {
                        db.execute("DELETE FROM run WHERE number = ?1", params![number])?;
                    }
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
            let sql = format!(
                "SELECT number FROM run WHERE ended = 1 AND finished < ?1 AND number NOT IN ({kept}) ORDER BY number"
            );
            db.all(&sql, params![before], |row| row.get(0))
        })
        .await
    }

    /// Files that were kept of a run.
    pub async fn artifacts(&self, run: i64) -> Result<Vec<ArtifactRow>, RunsError> {
        self.read(move |db| db.all(&sql::artifacts(), params![run], ArtifactRow::of)).await
    }

    /// How often stages failed since then: stage, class and count, the most frequent first.
    pub async fn failures(&self, app: &str, since: i64) -> Result<Vec<(String, String, i64)>, RunsError> {
        let app = app.to_owned();
        self.read(move |db| {
            db.all(sql::FAILURES, params![app, since], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
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

/// The rows of runs that are asked for.
fn listed(db: &Db, sql: &str, which: Which) -> Result<Vec<RunRow>, RunsError> {
    let (since, below) = (which.since.unwrap_or(i64::MIN), which.below.unwrap_or(i64::MAX));
    let env = which.env.filter(|_| which.app.is_some());
    db.all(sql, params![which.app, env, since, below, which.limit], RunRow::of)
}

/// Lines as they are said, one after the other.
fn in_order(mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
    rows.sort_by_key(|row| (row.at, row.event, row.dedupe.len(), row.dedupe.clone()));
    rows
}

#[cfg(test)]
mod tests;
