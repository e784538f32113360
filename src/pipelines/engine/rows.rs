//! Runs and stages as rows, and what stands for what was shown.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::pipelines::expr::Facts;
use crate::pipelines::run::{Millis, Run, RunKind, StageRun};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;
use crate::store::runs::{AttemptRow, IncidentRow, RunRow, StageRow};

/// The hash of a line of the incident log: over the one before and all its fields.
pub(in crate::pipelines) fn incident_hash(row: &IncidentRow) -> String {
    let fields = json!([row.prev, row.id, row.at, row.handle, row.app, row.env, row.run, row.amends, row.text]);
    hex(&Sha256::digest(fields.to_string().as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Four characters that stand for what was shown: if that changes, so do they.
pub(super) fn code(shown: &Value) -> String {
    hex(&Sha256::digest(shown.to_string().as_bytes()))[..4].to_owned()
}

/// What conditions can ask about a run.
pub(super) fn run_facts(run: &Run) -> Facts {
    let mut facts = Map::new();
    facts.insert("params".to_owned(), Value::Object(run.params.clone()));
    facts.insert("environment".to_owned(), run.env.clone().into());
    facts.insert("app".to_owned(), run.app.clone().into());
    facts.insert("ref".to_owned(), run.reference.clone().into());
    facts.insert("sha".to_owned(), run.sha.clone().into());
    facts.insert("version".to_owned(), run.shown().into());
    facts.insert("requester".to_owned(), run.asker.handle.clone().into());
    facts.insert("event".to_owned(), run.event.clone());
    facts.insert("files".to_owned(), run.files.clone().into());
    // Where it cannot be foretold, what asks about it cannot be told, and whoever has to agree then is asked.
    let risk = run.risk.as_ref().filter(|risk| risk.useful);
    facts.insert("risk".to_owned(), risk.map_or(Value::Null, |risk| risk.risk.into()));
    let kind = if run.kind == RunKind::Rollback { "rollback" } else { "deploy" };
    facts.insert("run".to_owned(), json!({"number": run.number, "kind": kind, "requester": run.asker.handle}));
    facts
}

/// Why a run is in the state that it is in; nothing where the state says it.
pub(super) fn cause_of_run(run: &Run, stages: &[StageRun]) -> Option<String> {
    match run.state {
        RunState::Failed | RunState::TimedOut | RunState::Paused => {
            if let Some(halt) = &run.paused {
                return Some(words::cause_paused(&halt.by));
            }
            let held = |one: &&StageRun| one.state == StageState::NeedsOperator;
            let stage = stages.iter().find(|one| run.failed.as_ref() == Some(&one.name));
            let stage = stage.or_else(|| stages.iter().find(held));
            let Some(stage) = stage else { return run.ending.map(|ending| ending.name().replace('_', " ")) };
            Some(format!("{}: {}", stage.name, cause_of_stage(stage, None).unwrap_or_default()))
        }
        RunState::Cancelling => run.ending.map(|ending| ending.name().replace('_', " ")),
        RunState::AwaitingApproval => Some(words::cause_approval()),
        RunState::Expired => Some(words::cause_expired()),
        RunState::Running => run.overrides().map(|reason| format!("override: {reason}")),
        _ => None,
    }
}

/// Why a stage is in the state that it is in; nothing where the state says it.
pub(super) fn cause_of_stage(stage: &StageRun, ending: Option<RunState>) -> Option<String> {
    match (stage.state, &stage.failure) {
        (StageState::Pending, _) => Some(words::cause_again()),
        (StageState::Cancelled, _) => ending.map(|ending| words::cause_run_is(ending.name().replace('_', " "))),
        (StageState::Skipped, _) if stage.forgiven => Some(stage.summary.clone()),
        (StageState::Skipped, _) => Some(words::cause_skipped()),
        (_, Some(failure)) if !stage.state.ended() || stage.state.bad() => {
            Some(format!("{}: {}", failure.class.name(), failure.line))
        }
        _ => None,
    }
}

pub(super) fn run_row(run: &Run) -> RunRow {
    RunRow {
        number: run.number,
        pipeline: run.pipeline.clone(),
        app: run.app.clone(),
        env: run.env.clone(),
        kind: if run.kind == RunKind::Rollback { "rollback" } else { "deploy" }.to_owned(),
        state: run.state.name().to_owned(),
        ended: run.state.ended(),
        requester: run.asker.handle.clone(),
        idem_key: run.keys.first().cloned(),
        created: run.created,
        started: run.started,
        finished: run.finished,
        detail: serde_json::to_string(run).unwrap_or_default(),
    }
}

pub(super) fn stage_row(run: i64, stage: &StageRun) -> StageRow {
    StageRow {
        run,
        name: stage.name.clone(),
        state: stage.state.name().to_owned(),
        attempt: i64::from(stage.attempt),
        class: stage.failure.as_ref().map(|failure| failure.class.name().to_owned()),
        started: stage.started,
        ended: stage.ended,
        waited: stage.ready.zip(stage.started).map(|(ready, started)| started - ready),
        detail: serde_json::to_string(stage).unwrap_or_default(),
    }
}

pub(super) fn attempt_row(run: i64, stage: &StageRun, begun: Millis) -> AttemptRow {
    AttemptRow { run, stage: stage.name.clone(), n: i64::from(stage.attempt), begun, ..AttemptRow::default() }
}
