//! What is written, and how.

use super::RunsError;
use super::db::{Db, params};
use super::images::ImageRow;
use super::places::{ApprovalRow, ArtifactRow, BookingRow, DeploymentRow, FreezeRow, IncidentRow, LockRow};
use super::rollup;
use super::rows::{AttemptRow, EventRow, LogSegmentRow, OutboxRow, PipelineRow, RunRow, StageRow};

/// Something to be written. A row that is there already is replaced, unless its kind never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// An app and one of its environments are known.
    Place {
        /// The app.
        app: String,
        /// Where its source is.
        repo: Option<String>,
        /// The environment.
        env: String,
    },
    /// A version of a pipeline file.
    Pipeline(PipelineRow),
    /// A run.
    Run(RunRow),
    /// A stage of a run.
    Stage(StageRow),
    /// An attempt of a stage.
    Attempt(AttemptRow),
    /// A part of an attempt's log.
    LogSegment(LogSegmentRow),
    /// Something that happened in a run.
    Event(EventRow),
    /// A line that is to be said.
    Outbox(OutboxRow),
    /// What went live somewhere.
    Deployment(DeploymentRow),
    /// What somebody said to a run.
    Approval(ApprovalRow),
    /// A lock on an environment.
    Lock(LockRow),
    /// A freeze.
    Freeze(FreezeRow),
    /// A line of the incident log.
    Incident(IncidentRow),
    /// A file that was kept.
    Artifact(ArtifactRow),
    /// A run that is booked.
    Booking(BookingRow),
    /// A tag that was pushed to a registry.
    Image(ImageRow),
    /// A line was said at this time.
    Said(String, i64),
    /// An executor's note about an attempt: run, stage, attempt, note.
    Note(i64, String, i64, String),
    /// A stage that stood for several is gone: run and name.
    Unstage(i64, String),
    /// A lock is gone.
    Unlock(String),
    /// A freeze is gone.
    Thaw(String),
    /// A booking is gone.
    Unbook(i64),
}

impl Put {
    pub(super) fn run(&self, db: &Db) -> Result<(), RunsError> {
        match self {
            Put::Place { app, repo, env } => {
                let sql = "INSERT INTO app (name, repo) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET repo = excluded.repo";
                db.execute(sql, params![app, repo])?;
                let sql = "INSERT INTO environment (app, name, place) VALUES (?1, ?2, ?1 || '/' || ?2) ON CONFLICT (app, name) DO NOTHING";
                db.execute(sql, params![app, env])
            }
            Put::Pipeline(row) => row.put(db),
            Put::Run(row) => {
                rollup::count(db, row)?;
                row.put(db)
            }
            Put::Stage(row) => row.put(db),
            Put::Attempt(row) => row.put(db),
            Put::LogSegment(row) => row.put(db),
            Put::Event(row) => row.put(db),
            Put::Outbox(row) => row.put(db),
            Put::Deployment(row) => row.put(db),
            Put::Approval(row) => row.put(db),
            Put::Lock(row) => row.put(db),
            Put::Freeze(row) => row.put(db),
            Put::Incident(row) => row.put(db),
            Put::Artifact(row) => row.put(db),
            Put::Booking(row) => row.put(db),
            Put::Image(row) => row.put(db),
            Put::Said(dedupe, at) => db.execute("UPDATE outbox SET sent = ?2 WHERE dedupe = ?1", params![dedupe, at]),
            Put::Note(run, stage, attempt, note) => {
                let sql = "UPDATE attempt SET note = ?4 WHERE run = ?1 AND stage = ?2 AND n = ?3";
                db.execute(sql, params![run, stage, attempt, note])
            }
            Put::Unstage(run, name) => db.execute("DELETE FROM stage WHERE run = ?1 AND name = ?2", params![run, name]),
            Put::Unlock(place) => db.execute("DELETE FROM env_lock WHERE place = ?1", params![place]),
            Put::Thaw(scope) => db.execute("DELETE FROM \"freeze\" WHERE scope = ?1", params![scope]),
            Put::Unbook(id) => db.execute("DELETE FROM booking WHERE id = ?1", params![id]),
        }?;
        Ok(())
    }
}
