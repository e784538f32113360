//! One struct a table, and the statements that write and read it.

use super::RunsError;
use super::db::{Db, Row, params};

/// A version of a pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineRow {
    /// SHA-256 of the source, in hex.
    pub hash: String,
    /// The file's name.
    pub name: String,
    /// What it ships.
    pub app: String,
    /// The text.
    pub source: String,
    /// When it was first used.
    pub created: i64,
}

impl PipelineRow {
    pub(super) const SELECT: &str = "SELECT hash, name, app, source, created FROM pipeline";

    pub(super) fn of(row: &Row<'_>) -> Result<PipelineRow, RunsError> {
        Ok(PipelineRow {
            hash: row.get(0)?,
            name: row.get(1)?,
            app: row.get(2)?,
            source: row.get(3)?,
            created: row.get(4)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO pipeline (hash, name, app, source, created)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (hash) DO NOTHING";
        db.execute(SQL, params![self.hash, self.name, self.app, self.source, self.created,])
    }
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRow {
    /// Its number.
    pub number: i64,
    /// The version of the pipeline.
    pub pipeline: String,
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// `deploy`, `rollback` or `task`.
    pub kind: String,
    /// How far it is.
    pub state: String,
    /// Whether nothing more happens by itself.
    pub ended: bool,
    /// Who asked: a handle.
    pub requester: String,
    /// The key that makes equal requests one.
    pub idem_key: Option<String>,
    /// When it was asked for.
    pub created: i64,
    /// When its first stage began.
    pub started: Option<i64>,
    /// When it ended.
    pub finished: Option<i64>,
    /// All the rest, as JSON.
    pub detail: String,
}

impl RunRow {
    pub(super) const SELECT: &str = "SELECT number, pipeline, app, env, kind, state, ended, requester, idem_key, created, started, finished, detail FROM run";

    pub(super) fn of(row: &Row<'_>) -> Result<RunRow, RunsError> {
        Ok(RunRow {
            number: row.get(0)?,
            pipeline: row.get(1)?,
            app: row.get(2)?,
            env: row.get(3)?,
            kind: row.get(4)?,
            state: row.get(5)?,
            ended: row.get(6)?,
            requester: row.get(7)?,
            idem_key: row.get(8)?,
            created: row.get(9)?,
            started: row.get(10)?,
            finished: row.get(11)?,
            detail: row.get(12)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO run (number, pipeline, app, env, kind, state, ended, requester, idem_key, created, started, finished, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (number) DO UPDATE SET state = excluded.state, ended = excluded.ended, started = excluded.started, finished = excluded.finished, detail = excluded.detail";
        db.execute(
            SQL,
            params![
                self.number,
                self.pipeline,
                self.app,
                self.env,
                self.kind,
                self.state,
                self.ended,
                self.requester,
                self.idem_key,
                self.created,
                self.started,
                self.finished,
                self.detail,
            ],
        )
    }
}

/// A stage of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageRow {
    /// The run.
    pub run: i64,
    /// Its name, with its place in a matrix.
    pub name: String,
    /// How far it is.
    pub state: String,
    /// The newest attempt.
    pub attempt: i64,
    /// The class of its failure.
    pub class: Option<String>,
    /// When its first attempt began.
    pub started: Option<i64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// How long it waited for its turn before it began.
    pub waited: Option<i64>,
    /// All the rest, as JSON.
    pub detail: String,
}

impl StageRow {
    pub(super) const SELECT: &str =
        "SELECT run, name, state, attempt, class, started, ended, waited, detail FROM stage";

    pub(super) fn of(row: &Row<'_>) -> Result<StageRow, RunsError> {
        Ok(StageRow {
            run: row.get(0)?,
            name: row.get(1)?,
            state: row.get(2)?,
            attempt: row.get(3)?,
            class: row.get(4)?,
            started: row.get(5)?,
            ended: row.get(6)?,
            waited: row.get(7)?,
            detail: row.get(8)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO stage (run, name, state, attempt, class, started, ended, waited, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, class = excluded.class, started = excluded.started, ended = excluded.ended, waited = excluded.waited, detail = excluded.detail";
        db.execute(
            SQL,
            params![
                self.run,
                self.name,
                self.state,
                self.attempt,
                self.class,
                self.started,
                self.ended,
                self.waited,
                self.detail,
            ],
        )
    }
}

/// An attempt of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptRow {
    /// The run.
    pub run: i64,
    /// The stage.
    pub stage: String,
    /// Which, from 1.
    pub n: i64,
    /// What its executor noted last, as JSON.
    pub note: Option<String>,
    /// When it began.
    pub begun: i64,
    /// When it ended.
    pub ended: Option<i64>,
    /// The class of its failure.
    pub class: Option<String>,
    /// The exit code of its command.
    pub exit: Option<i64>,
    /// The line that says why it failed.
    pub line: Option<String>,
    /// Bytes of its log that are kept.
    pub bytes: Option<i64>,
}

impl AttemptRow {
    pub(super) const SELECT: &str = "SELECT run, stage, n, note, begun, ended, class, exit, line, bytes FROM attempt";

    pub(super) fn of(row: &Row<'_>) -> Result<AttemptRow, RunsError> {
        Ok(AttemptRow {
            run: row.get(0)?,
            stage: row.get(1)?,
            n: row.get(2)?,
            note: row.get(3)?,
            begun: row.get(4)?,
            ended: row.get(5)?,
            class: row.get(6)?,
            exit: row.get(7)?,
            line: row.get(8)?,
            bytes: row.get(9)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO attempt (run, stage, n, note, begun, ended, class, exit, line, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (run, stage, n) DO UPDATE SET note = excluded.note, begun = excluded.begun, ended = excluded.ended, class = excluded.class, exit = excluded.exit, line = excluded.line, bytes = excluded.bytes";
        db.execute(
            SQL,
            params![
                self.run, self.stage, self.n, self.note, self.begun, self.ended, self.class, self.exit, self.line,
                self.bytes,
            ],
        )
    }
}

/// A part of an attempt's log that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSegmentRow {
    /// The run.
    pub run: i64,
    /// The stage.
    pub stage: String,
    /// Which attempt, from 1.
    pub attempt: i64,
    /// Its place in the order in which they are read, from 1.
    pub part: i64,
    /// The file in the attempt's folder.
    pub file: String,
    /// Where it begins in what is kept.
    pub begins: i64,
    /// Where it ends.
    pub ends: i64,
}

impl LogSegmentRow {
    pub(super) const SELECT: &str = "SELECT run, stage, attempt, part, file, begins, ends FROM log_segment";

    pub(super) fn of(row: &Row<'_>) -> Result<LogSegmentRow, RunsError> {
        Ok(LogSegmentRow {
            run: row.get(0)?,
            stage: row.get(1)?,
            attempt: row.get(2)?,
            part: row.get(3)?,
            file: row.get(4)?,
            begins: row.get(5)?,
            ends: row.get(6)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO log_segment (run, stage, attempt, part, file, begins, ends)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (run, stage, attempt, part) DO UPDATE SET file = excluded.file, begins = excluded.begins, ends = excluded.ends";
        db.execute(SQL, params![self.run, self.stage, self.attempt, self.part, self.file, self.begins, self.ends,])
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRow {
    /// The run.
    pub run: i64,
    /// Which, from 1.
    pub seq: i64,
    /// When.
    pub at: i64,
    /// What kind: `run` or `stage`.
    pub kind: String,
    /// Who: a handle, or `bot`.
    pub actor: String,
    /// What, as JSON.
    pub data: String,
}

impl EventRow {
    pub(super) const SELECT: &str = "SELECT run, seq, at, kind, actor, data FROM event";

    pub(super) fn of(row: &Row<'_>) -> Result<EventRow, RunsError> {
        Ok(EventRow {
            run: row.get(0)?,
            seq: row.get(1)?,
            at: row.get(2)?,
            kind: row.get(3)?,
            actor: row.get(4)?,
            data: row.get(5)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO event (run, seq, at, kind, actor, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        db.execute(SQL, params![self.run, self.seq, self.at, self.kind, self.actor, self.data,])
    }
}

/// A line that is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// run:seq:target.
    pub dedupe: String,
    /// The run; 0 for a line about a place.
    pub run: i64,
    /// The event of the run that it tells of.
    pub event: Option<i64>,
    /// Where: `network/#channel`.
    pub target: String,
    /// The words.
    pub text: String,
    /// When it was written down.
    pub at: i64,
    /// When it was handed to the network.
    pub sent: Option<i64>,
}

impl OutboxRow {
    pub(super) const SELECT: &str = "SELECT dedupe, COALESCE(run, 0), event, target, text, at, sent FROM outbox";

    pub(super) fn of(row: &Row<'_>) -> Result<OutboxRow, RunsError> {
        Ok(OutboxRow {
            dedupe: row.get(0)?,
            run: row.get(1)?,
            event: row.get(2)?,
            target: row.get(3)?,
            text: row.get(4)?,
            at: row.get(5)?,
            sent: row.get(6)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO outbox (dedupe, run, event, target, text, at, sent)
         VALUES (?1, NULLIF(?2, 0), ?3, ?4, ?5, ?6, ?7) ON CONFLICT (dedupe) DO UPDATE SET run = excluded.run, event = excluded.event, target = excluded.target, text = excluded.text, at = excluded.at, sent = excluded.sent";
        db.execute(SQL, params![self.dedupe, self.run, self.event, self.target, self.text, self.at, self.sent])
    }
}
