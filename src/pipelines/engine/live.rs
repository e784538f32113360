//! What goes live: whether a run brought its version out, and what is on record as live then.

use serde_json::{Map, Value};

use super::{Engine, Live};
use crate::pipelines::model::Pipeline;
use crate::pipelines::run::RunKind;
use crate::pipelines::state::StageState;
use crate::store::runs::{DeploymentRow, Put};

impl Engine {
    /// What is live now; whether anything is.
    pub(super) fn went_live(&mut self, number: i64) -> bool {
        let Some(live) = self.runs.get(&number) else { return false };
        let validated = !live.stages.iter().any(|one| one.state == StageState::Faulty);
        let undone = live.run.kind == RunKind::Rollback;
        if !undone && !went_out(live) {
            return false;
        }
        let mut outputs = Map::new();
        for one in live.stages.iter().filter(|one| !one.outputs.is_empty()) {
            let name = &live.pipeline.stages[one.spec].name;
            outputs.insert(name.clone(), Value::Object(one.outputs.clone()));
        }
        let place = (live.run.app.clone(), live.run.env.clone());
        if let Some(target) = live.run.target.as_ref().filter(|_| undone) {
            outputs.clone_from(&target.outputs);
        }
        let run = &live.run;
        let row = DeploymentRow {
            app: run.app.clone(),
            env: run.env.clone(),
            run: number,
            version: run.version.clone(),
            sha: run.sha.clone(),
            at: self.now,
            validated,
            replicas: replicas(&outputs),
            outputs: Value::Object(outputs).to_string(),
        };
        // What failed before it is not undone any more: it would undo this.
        let older: Vec<i64> = self
            .runs
            .values()
            .filter(|live| {
                live.run.undo_at.is_some()
                    && (live.run.app.as_str(), live.run.env.as_str()) == (place.0.as_str(), place.1.as_str())
            })
            .map(|live| live.run.number)
            .collect();
        for older in older {
            if let Some(live) = self.runs.get_mut(&older) {
                live.run.undo_at = None;
            }
            self.dirty_runs.insert(older);
        }
        self.puts.push(Put::Deployment(row.clone()));
        self.live.insert(place, row);
        true
    }
}

/// How many of a version run, if a stage said so; of several the one that was counted last.
fn replicas(outputs: &Map<String, Value>) -> Option<i64> {
    let count = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    outputs.values().rev().find_map(|given| count(given.get("replicas")?))
}

/// Whether what brings the version out did so and does not prove good.
pub(super) fn is_out(live: &Live) -> bool {
    let faulty = |at: &usize| live.stages[*at].state == StageState::Faulty;
    bringing(&live.pipeline).iter().any(|spec| live.of[*spec].iter().any(faulty))
}

/// Whether what brings the version out, or anything that has a way back, has begun: then what is out there is not known.
pub(super) fn touched(live: &Live) -> bool {
    let bringing = bringing(&live.pipeline);
    let changes = |spec: usize| bringing.contains(&spec) || live.pipeline.stages[spec].rollback.is_some();
    live.stages.iter().any(|one| one.attempt > 0 && changes(one.spec))
}

/// Whether anything of a run went out: what brings it out was done, or, if nobody left that out, what comes last.
fn went_out(live: &Live) -> bool {
    let stages = &live.pipeline.stages;
    let ran = |spec: &usize| {
        let done = |at: &usize| {
            let one = &live.stages[*at];
            one.good() && one.state != StageState::Skipped || one.state == StageState::Faulty
        };
        live.of[*spec].iter().any(done)
    };
    let all = || (0..live.of.len()).filter(|spec| !stages[*spec].finally);
    let bringing = bringing(&live.pipeline);
    let left_out = |spec: &usize| live.run.skipped.contains(&stages[*spec].name);
    let last = |spec: &usize| live.feeds[*spec].is_empty();
    bringing.iter().any(ran) || !bringing.iter().any(left_out) && all().any(|spec| last(&spec) && ran(&spec))
}

/// The stages that bring a version out: those that say so; else, of those that can be undone or change what runs, the last ones; else
/// those that come last, and of what only looks there what it looks at.
fn bringing(pipeline: &Pipeline) -> Vec<usize> {
    const CHANGE: [&str; 3] = ["kubernetes", "ansible", "terraform"];
    const LOOK: [&str; 5] = ["ci", "health", "http", "scan", "verify"];
    let stages = &pipeline.stages;
    let all = || (0..stages.len()).filter(|spec| !stages[*spec].finally);
    let marked: Vec<usize> = all().filter(|spec| stages[*spec].live).collect();
    if !marked.is_empty() {
        return marked;
    }
    let first = |spec: usize| stages[spec].actions.first().map_or("", |action| action.executor.as_str());
    let changes = |spec: usize| stages[spec].rollback.is_some() || CHANGE.contains(&first(spec));
    // What stands before another such one.
    let (mut before, mut left): (Vec<bool>, Vec<usize>) = (vec![false; stages.len()], Vec::new());
    left.extend(all().filter(|spec| changes(*spec)));
    while let Some(spec) = left.pop() {
        for need in &pipeline.graph.needs[spec] {
            if !std::mem::replace(&mut before[*need], true) {
                left.push(*need);
            }
        }
    }
    let changing: Vec<usize> = all().filter(|spec| changes(*spec) && !before[*spec]).collect();
    if !changing.is_empty() {
        return changing;
    }
    let looks = |spec: usize| stages[spec].wait.is_some() || LOOK.contains(&first(spec));
    let mut seen = vec![false; stages.len()];
    let mut left: Vec<usize> = all().filter(|spec| pipeline.graph.feeds[*spec].is_empty()).collect();
    let mut out = Vec::new();
    while let Some(spec) = left.pop() {
        let needs = &pipeline.graph.needs[spec];
        match std::mem::replace(&mut seen[spec], true) {
            true => {}
            false if looks(spec) && !needs.is_empty() => left.extend(needs),
            false => out.push(spec),
        }
    }
    out
}
