//! Rows of places and people: what is live, locks, approvals, the incident log.

use super::RunsError;
use super::db::{Db, Row, params};

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
    /// How many of it run, where that is known.
    pub replicas: Option<i64>,
    /// What its stages gave, as JSON, for a rollback to it.
    pub outputs: String,
}

impl DeploymentRow {
    pub(super) const SELECT: &str =
        "SELECT app, env, run, version, sha, at, validated, replicas, outputs FROM deployment";

    pub(super) fn of(row: &Row<'_>) -> Result<DeploymentRow, RunsError> {
        Ok(DeploymentRow {
            app: row.get(0)?,
            env: row.get(1)?,
            run: row.get(2)?,
            version: row.get(3)?,
            sha: row.get(4)?,
            at: row.get(5)?,
            validated: row.get(6)?,
            replicas: row.get(7)?,
            outputs: row.get(8)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO deployment (app, env, run, version, sha, at, validated, replicas, outputs)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (app, env, run) DO UPDATE SET version = excluded.version, sha = excluded.sha, at = excluded.at, validated = excluded.validated, replicas = excluded.replicas, outputs = excluded.outputs";
        db.execute(
            SQL,
            params![
                self.app,
                self.env,
                self.run,
                self.version,
                self.sha,
                self.at,
                self.validated,
                self.replicas,
                self.outputs,
            ],
        )
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

    pub(super) fn of(row: &Row<'_>) -> Result<ApprovalRow, RunsError> {
        Ok(ApprovalRow {
            run: row.get(0)?,
            code: row.get(1)?,
            handle: row.get(2)?,
            yes: row.get(3)?,
            reason: row.get(4)?,
            at: row.get(5)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO approval (run, code, handle, yes, reason, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (run, code, handle) DO UPDATE SET yes = excluded.yes, reason = excluded.reason, at = excluded.at";
        db.execute(SQL, params![self.run, self.code, self.handle, self.yes, self.reason, self.at,])
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
    /// Where it was made: what becomes of it is told there.
    pub said_in: String,
    /// The run of which a stage made it, if one did.
    pub run: Option<i64>,
    /// For which end it was told that it is near.
    pub warned: Option<i64>,
}

impl LockRow {
    pub(super) const SELECT: &str =
        "SELECT place, handle, reason, since, until, rollback, said_in, run, warned FROM env_lock";

    pub(super) fn of(row: &Row<'_>) -> Result<LockRow, RunsError> {
        Ok(LockRow {
            place: row.get(0)?,
            handle: row.get(1)?,
            reason: row.get(2)?,
            since: row.get(3)?,
            until: row.get(4)?,
            rollback: row.get(5)?,
            said_in: row.get(6)?,
            run: row.get(7)?,
            warned: row.get(8)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO env_lock (place, handle, reason, since, until, rollback, said_in, run, warned)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (place) DO UPDATE SET handle = excluded.handle, reason = excluded.reason, since = excluded.since, until = excluded.until, rollback = excluded.rollback, said_in = excluded.said_in, run = excluded.run, warned = excluded.warned";
        db.execute(
            SQL,
            params![
                self.place,
                self.handle,
                self.reason,
                self.since,
                self.until,
                self.rollback,
                self.said_in,
                self.run,
                self.warned,
            ],
        )
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
    pub(super) const SELECT: &str = "SELECT scope, handle, reason, since, until FROM \"freeze\"";

    pub(super) fn of(row: &Row<'_>) -> Result<FreezeRow, RunsError> {
        Ok(FreezeRow {
            scope: row.get(0)?,
            handle: row.get(1)?,
            reason: row.get(2)?,
            since: row.get(3)?,
            until: row.get(4)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO \"freeze\" (scope, handle, reason, since, until)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (scope) DO UPDATE SET handle = excluded.handle, reason = excluded.reason, since = excluded.since, until = excluded.until";
        db.execute(SQL, params![self.scope, self.handle, self.reason, self.since, self.until,])
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

    pub(super) fn of(row: &Row<'_>) -> Result<IncidentRow, RunsError> {
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

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO incident (id, at, handle, app, env, run, amends, text, prev, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        db.execute(
            SQL,
            params![
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
            ],
        )
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

    pub(super) fn of(row: &Row<'_>) -> Result<ArtifactRow, RunsError> {
        Ok(ArtifactRow {
            run: row.get(0)?,
            stage: row.get(1)?,
            path: row.get(2)?,
            bytes: row.get(3)?,
            sha256: row.get(4)?,
        })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO artifact (run, stage, path, bytes, sha256)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run, stage, path) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256";
        db.execute(SQL, params![self.run, self.stage, self.path, self.bytes, self.sha256,])
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

    pub(super) fn of(row: &Row<'_>) -> Result<BookingRow, RunsError> {
        Ok(BookingRow { id: row.get(0)?, at: row.get(1)?, handle: row.get(2)?, detail: row.get(3)? })
    }

    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO booking (id, at, handle, detail)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET at = excluded.at, handle = excluded.handle, detail = excluded.detail";
        const COUNT: &str = "INSERT INTO counter (name, newest) VALUES ('booking', ?1)
         ON CONFLICT (name) DO UPDATE SET newest = excluded.newest WHERE counter.newest < excluded.newest";
        db.execute(COUNT, params![self.id])?;
        db.execute(SQL, params![self.id, self.at, self.handle, self.detail,])
    }
}
