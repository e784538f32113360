//! The questions that are asked all day, as they are asked; a test has each of them explained.

use super::Which;
use super::places::{ApprovalRow, ArtifactRow, DeploymentRow, LockRow};
use super::rows::{AttemptRow, EventRow, LogSegmentRow, OutboxRow, RunRow, StageRow};

/// How long stages of an app took when they went well, the newest first.
pub(super) const TIMES: &str = "SELECT stage.name, stage.ended - stage.started
     FROM run CROSS JOIN stage
     WHERE stage.run = run.number AND run.app = ?1 AND stage.state = 'succeeded' AND stage.started IS NOT NULL AND stage.ended IS NOT NULL
     ORDER BY run.number DESC LIMIT 2000";
/// How long stages of an app waited for their turn, the newest first.
pub(super) const WAITS: &str = "SELECT stage.name, stage.waited
     FROM run CROSS JOIN stage
     WHERE stage.run = run.number AND run.app = ?1 AND stage.waited IS NOT NULL
     ORDER BY run.number DESC LIMIT 2000";
/// How often stages of an app failed since then.
pub(super) const FAILURES: &str = "SELECT attempt.stage, attempt.class, COUNT(*)
     FROM run JOIN attempt ON attempt.run = run.number
     WHERE run.app = ?1 AND run.created >= ?2 AND attempt.class IS NOT NULL
     GROUP BY attempt.stage, attempt.class ORDER BY COUNT(*) DESC, attempt.stage, attempt.class LIMIT 20";
/// How many runs that have not ended are how far.
pub(super) const OPEN_STATES: &str = "SELECT state, COUNT(*) FROM run WHERE ended = 0 GROUP BY state";
/// How many runs ended how since then.
pub(super) const ENDED_STATES: &str =
    "SELECT state, COUNT(*) FROM run WHERE finished >= ?1 AND ended = 1 GROUP BY state";
/// How many stages of runs that have not ended are how far.
pub(super) const STAGE_STATES: &str = "SELECT stage.state, COUNT(*) FROM run CROSS JOIN stage
     WHERE stage.run = run.number AND run.ended = 0 GROUP BY stage.state";

pub(super) fn run() -> String {
    format!("{} WHERE number = ?1", RunRow::SELECT)
}

pub(super) fn stages() -> String {
    format!("{} WHERE run = ?1 ORDER BY name", StageRow::SELECT)
}

/// Runs of an app that have not ended.
pub(super) fn open() -> String {
    format!("{} WHERE ended = 0 AND app = ?1 ORDER BY number", RunRow::SELECT)
}

/// Runs, the newest first. Each form has an index of its own.
pub(super) fn runs(which: &Which) -> String {
    let place = match (&which.app, &which.env) {
        (Some(_), Some(_)) => "app = ?1 AND env = ?2",
        (Some(_), None) => "app = ?1 AND ?2 IS NULL",
        _ => "?1 IS NULL AND ?2 IS NULL",
    };
    format!("{} WHERE {place} AND created >= ?3 AND number < ?4 ORDER BY number DESC LIMIT ?5", RunRow::SELECT)
}

/// Runs that began, the newest first.
pub(super) fn began(which: &Which) -> String {
    runs(which).replace(" ORDER BY", " AND started IS NOT NULL ORDER BY")
}

/// What a run brought, if it went live.
pub(super) fn deployment() -> String {
    format!("{} WHERE run = ?1", DeploymentRow::SELECT)
}

/// What was said of a run.
pub(super) fn notices() -> String {
    format!("{} WHERE run = ?1", OutboxRow::SELECT)
}

pub(super) fn events() -> String {
    format!("{} WHERE run = ?1 ORDER BY seq", EventRow::SELECT)
}

pub(super) fn attempts() -> String {
    format!("{} WHERE run = ?1 ORDER BY begun, stage, n", AttemptRow::SELECT)
}

pub(super) fn log_segments() -> String {
    format!("{} WHERE run = ?1 ORDER BY stage, attempt, part", LogSegmentRow::SELECT)
}

pub(super) fn approvals() -> String {
    format!("{} WHERE run = ?1 ORDER BY at, code, handle", ApprovalRow::SELECT)
}

pub(super) fn artifacts() -> String {
    format!("{} WHERE run = ?1 ORDER BY stage, path", ArtifactRow::SELECT)
}

/// What went live in a place, the newest first.
pub(super) fn deployments() -> String {
    format!("{} WHERE app = ?1 AND env = ?2 ORDER BY at DESC, run DESC LIMIT ?3", DeploymentRow::SELECT)
}

pub(super) fn lock() -> String {
    format!("{} WHERE place = ?1", LockRow::SELECT)
}

pub(super) fn unsaid() -> String {
    format!("{} WHERE sent IS NULL ORDER BY at", OutboxRow::SELECT)
}

/// All of them, with values for what is asked.
#[cfg(test)]
pub(super) fn all() -> Vec<String> {
    let app = || Some("a".to_owned());
    let which = [
        Which::default(),
        Which { app: app(), ..Which::default() },
        Which { app: app(), env: app(), ..Which::default() },
    ];
    let mut out: Vec<String> = which.iter().flat_map(|which| [runs(which), began(which)]).collect();
    out.extend([run(), stages(), open(), events(), attempts(), log_segments(), approvals(), artifacts()]);
    out.extend([deployments(), deployment(), notices(), lock(), unsaid()]);
    out.extend([TIMES, WAITS, FAILURES, OPEN_STATES, ENDED_STATES, STAGE_STATES].map(str::to_owned));
    out
}
