//! One struct a table, and the statements that write and read it.

use rusqlite::{Connection, Row, params};

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

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<PipelineRow> {
        Ok(PipelineRow {
            hash: row.get(0)?,
            name: row.get(1)?,
            app: row.get(2)?,
            source: row.get(3)?,
            created: row.get(4)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO pipeline (hash, name, app, source, created)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (hash) DO NOTHING";
        db.prepare_cached(SQL)?.execute(params![self.hash, self.name, self.app, self.source, self.created,])
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

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<RunRow> {
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

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO run (number, pipeline, app, env, kind, state, ended, requester, idem_key, created, started, finished, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (number) DO UPDATE SET pipeline = excluded.pipeline, app = excluded.app, env = excluded.env, kind = excluded.kind, state = excluded.state, ended = excluded.ended, requester = excluded.requester, idem_key = excluded.idem_key, created = excluded.created, started = excluded.started, finished = excluded.finished, detail = excluded.detail";
        db.prepare_cached(SQL)?.execute(params![
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
        ])
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
    /// All the rest, as JSON.
    pub detail: String,
}

impl StageRow {
    pub(super) const SELECT: &str = "SELECT run, name, state, attempt, class, started, ended, detail FROM stage";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<StageRow> {
        Ok(StageRow {
            run: row.get(0)?,
            name: row.get(1)?,
            state: row.get(2)?,
            attempt: row.get(3)?,
            class: row.get(4)?,
            started: row.get(5)?,
            ended: row.get(6)?,
            detail: row.get(7)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO stage (run, name, state, attempt, class, started, ended, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, class = excluded.class, started = excluded.started, ended = excluded.ended, detail = excluded.detail";
        db.prepare_cached(SQL)?.execute(params![
            self.run,
            self.name,
            self.state,
            self.attempt,
            self.class,
            self.started,
            self.ended,
            self.detail,
        ])
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

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
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

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO attempt (run, stage, n, note, begun, ended, class, exit, line, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (run, stage, n) DO UPDATE SET note = excluded.note, begun = excluded.begun, ended = excluded.ended, class = excluded.class, exit = excluded.exit, line = excluded.line, bytes = excluded.bytes";
        db.prepare_cached(SQL)?.execute(params![
            self.run, self.stage, self.n, self.note, self.begun, self.ended, self.class, self.exit, self.line,
            self.bytes,
        ])
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

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<EventRow> {
        Ok(EventRow {
            run: row.get(0)?,
            seq: row.get(1)?,
            at: row.get(2)?,
            kind: row.get(3)?,
            actor: row.get(4)?,
            data: row.get(5)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO event (run, seq, at, kind, actor, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        db.prepare_cached(SQL)?.execute(params![self.run, self.seq, self.at, self.kind, self.actor, self.data,])
    }
}

/// A line that is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// run:seq:target.
    pub dedupe: String,
    /// The run.
    pub run: i64,
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
    pub(super) const SELECT: &str = "SELECT dedupe, run, target, text, at, sent FROM outbox";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
        Ok(OutboxRow {
            dedupe: row.get(0)?,
            run: row.get(1)?,
            target: row.get(2)?,
            text: row.get(3)?,
            at: row.get(4)?,
            sent: row.get(5)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO outbox (dedupe, run, target, text, at, sent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (dedupe) DO UPDATE SET run = excluded.run, target = excluded.target, text = excluded.text, at = excluded.at, sent = excluded.sent";
        db.prepare_cached(SQL)?.execute(params![self.dedupe, self.run, self.target, self.text, self.at, self.sent,])
    }
}

/// What went live somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentRow {
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// The run that did it.
    pub run: i64,
    /// What people call it.
    pub version: String,
    /// The commit.
    pub sha: String,
    /// When.
    pub at: i64,
    /// Whether everything after it went well too.
    pub validated: bool,
    /// What its stages gave, as JSON, for a rollback to it.
    pub outputs: String,
}

impl DeploymentRow {
    pub(super) const SELECT: &str = "SELECT app, env, run, version, sha, at, validated, outputs FROM deployment";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<DeploymentRow> {
        Ok(DeploymentRow {
            app: row.get(0)?,
            env: row.get(1)?,
            run: row.get(2)?,
            version: row.get(3)?,
            sha: row.get(4)?,
            at: row.get(5)?,
            validated: row.get(6)?,
            outputs: row.get(7)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO deployment (app, env, run, version, sha, at, validated, outputs)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (app, env, run) DO UPDATE SET version = excluded.version, sha = excluded.sha, at = excluded.at, validated = excluded.validated, outputs = excluded.outputs";
        db.prepare_cached(SQL)?.execute(params![
            self.app,
            self.env,
            self.run,
            self.version,
            self.sha,
            self.at,
            self.validated,
            self.outputs,
        ])
    }
}

/// What somebody said to a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalRow {
    /// The run.
    pub run: i64,
    /// The code of what was shown.
    pub code: String,
    /// Who.
    pub handle: String,
    /// Whether they agree.
    pub yes: bool,
    /// Why.
    pub reason: String,
    /// When.
    pub at: i64,
}

impl ApprovalRow {
    pub(super) const SELECT: &str = "SELECT run, code, handle, yes, reason, at FROM approval";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<ApprovalRow> {
        Ok(ApprovalRow {
            run: row.get(0)?,
            code: row.get(1)?,
            handle: row.get(2)?,
            yes: row.get(3)?,
            reason: row.get(4)?,
            at: row.get(5)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO approval (run, code, handle, yes, reason, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (run, code, handle) DO UPDATE SET yes = excluded.yes, reason = excluded.reason, at = excluded.at";
        db.prepare_cached(SQL)?.execute(params![self.run, self.code, self.handle, self.yes, self.reason, self.at,])
    }
}

/// A lock on an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRow {
    /// `app/env`.
    pub place: String,
    /// Whose.
    pub handle: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// Until when.
    pub until: Option<i64>,
    /// Whether a rollback made it.
    pub rollback: bool,
}

impl LockRow {
    pub(super) const SELECT: &str = "SELECT place, handle, reason, since, until, rollback FROM env_lock";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<LockRow> {
        Ok(LockRow {
            place: row.get(0)?,
            handle: row.get(1)?,
            reason: row.get(2)?,
            since: row.get(3)?,
            until: row.get(4)?,
            rollback: row.get(5)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO env_lock (place, handle, reason, since, until, rollback)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (place) DO UPDATE SET handle = excluded.handle, reason = excluded.reason, since = excluded.since, until = excluded.until, rollback = excluded.rollback";
        db.prepare_cached(SQL)?.execute(params![
            self.place,
            self.handle,
            self.reason,
            self.since,
            self.until,
            self.rollback,
        ])
    }
}

/// A freeze.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreezeRow {
    /// `*`, an environment, or `app/env`.
    pub scope: String,
    /// Whose.
    pub handle: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// Until when.
    pub until: Option<i64>,
}

impl FreezeRow {
    pub(super) const SELECT: &str = "SELECT scope, handle, reason, since, until FROM freeze";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<FreezeRow> {
        Ok(FreezeRow {
            scope: row.get(0)?,
            handle: row.get(1)?,
            reason: row.get(2)?,
            since: row.get(3)?,
            until: row.get(4)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO freeze (scope, handle, reason, since, until)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (scope) DO UPDATE SET handle = excluded.handle, reason = excluded.reason, since = excluded.since, until = excluded.until";
        db.prepare_cached(SQL)?.execute(params![self.scope, self.handle, self.reason, self.since, self.until,])
    }
}

/// A line of the incident log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentRow {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: i64,
    /// Who wrote it: a handle, or `bot`.
    pub handle: String,
    /// About which app.
    pub app: String,
    /// About which environment; may be empty.
    pub env: String,
    /// About which run.
    pub run: Option<i64>,
    /// Which line it amends.
    pub amends: Option<i64>,
    /// The words.
    pub text: String,
    /// The hash of the line before.
    pub prev: String,
    /// The hash of this line and that one.
    pub hash: String,
}

impl IncidentRow {
    pub(super) const SELECT: &str = "SELECT id, at, handle, app, env, run, amends, text, prev, hash FROM incident";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<IncidentRow> {
        Ok(IncidentRow {
            id: row.get(0)?,
            at: row.get(1)?,
            handle: row.get(2)?,
            app: row.get(3)?,
            env: row.get(4)?,
            run: row.get(5)?,
            amends: row.get(6)?,
            text: row.get(7)?,
            prev: row.get(8)?,
            hash: row.get(9)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO incident (id, at, handle, app, env, run, amends, text, prev, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        db.prepare_cached(SQL)?.execute(params![
            self.id,
            self.at,
            self.handle,
            self.app,
            self.env,
            self.run,
            self.amends,
            self.text,
            self.prev,
            self.hash,
        ])
    }
}

/// A file that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactRow {
    /// The run.
    pub run: i64,
    /// The stage.
    pub stage: String,
    /// Its path in the workspace.
    pub path: String,
    /// Its size.
    pub bytes: i64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

impl ArtifactRow {
    pub(super) const SELECT: &str = "SELECT run, stage, path, bytes, sha256 FROM artifact";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<ArtifactRow> {
        Ok(ArtifactRow {
            run: row.get(0)?,
            stage: row.get(1)?,
            path: row.get(2)?,
            bytes: row.get(3)?,
            sha256: row.get(4)?,
        })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO artifact (run, stage, path, bytes, sha256)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run, stage, path) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256";
        db.prepare_cached(SQL)?.execute(params![self.run, self.stage, self.path, self.bytes, self.sha256,])
    }
}

/// A run that is booked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingRow {
    /// Its number.
    pub id: i64,
    /// When it is due.
    pub at: i64,
    /// Who booked it.
    pub handle: String,
    /// What, as JSON.
    pub detail: String,
}

impl BookingRow {
    pub(super) const SELECT: &str = "SELECT id, at, handle, detail FROM booking";

    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<BookingRow> {
        Ok(BookingRow { id: row.get(0)?, at: row.get(1)?, handle: row.get(2)?, detail: row.get(3)? })
    }

    fn put(&self, db: &Connection) -> rusqlite::Result<usize> {
        const SQL: &str = "INSERT INTO booking (id, at, handle, detail)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET at = excluded.at, handle = excluded.handle, detail = excluded.detail";
        db.prepare_cached(SQL)?.execute(params![self.id, self.at, self.handle, self.detail,])
    }
}

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
    pub(super) fn run(&self, db: &Connection) -> rusqlite::Result<()> {
        match self {
            Put::Place { app, repo, env } => {
                let sql = "INSERT INTO app (name, repo) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET repo = excluded.repo";
                db.prepare_cached(sql)?.execute(params![app, repo])?;
                let sql = "INSERT INTO environment (app, name) VALUES (?1, ?2) ON CONFLICT (app, name) DO NOTHING";
                db.prepare_cached(sql)?.execute(params![app, env])
            }
            Put::Pipeline(row) => row.put(db),
            Put::Run(row) => row.put(db),
            Put::Stage(row) => row.put(db),
            Put::Attempt(row) => row.put(db),
            Put::Event(row) => row.put(db),
            Put::Outbox(row) => row.put(db),
            Put::Deployment(row) => row.put(db),
            Put::Approval(row) => row.put(db),
            Put::Lock(row) => row.put(db),
            Put::Freeze(row) => row.put(db),
            Put::Incident(row) => row.put(db),
            Put::Artifact(row) => row.put(db),
            Put::Booking(row) => row.put(db),
            Put::Said(dedupe, at) => {
                db.prepare_cached("UPDATE outbox SET sent = ?2 WHERE dedupe = ?1")?.execute(params![dedupe, at])
            }
            Put::Note(run, stage, attempt, note) => {
                let sql = "UPDATE attempt SET note = ?4 WHERE run = ?1 AND stage = ?2 AND n = ?3";
                db.prepare_cached(sql)?.execute(params![run, stage, attempt, note])
            }
            Put::Unstage(run, name) => {
                db.prepare_cached("DELETE FROM stage WHERE run = ?1 AND name = ?2")?.execute(params![run, name])
            }
            Put::Unlock(place) => db.prepare_cached("DELETE FROM env_lock WHERE place = ?1")?.execute([place]),
            Put::Thaw(scope) => db.prepare_cached("DELETE FROM freeze WHERE scope = ?1")?.execute([scope]),
            Put::Unbook(id) => db.prepare_cached("DELETE FROM booking WHERE id = ?1")?.execute([id]),
        }?;
        Ok(())
    }
}
