//! What conditions and texts can ask about.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::begin::before;
use super::stages::went_well;
use super::{Engine, Live, Order, run_facts};
use crate::pipelines::expr::Facts;
use crate::pipelines::model::{Stage, Undo};
use crate::pipelines::run::StageRun;
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::template;

impl Live {
    /// What becomes of a run whose stages have ended; before that, how far it is.
    pub(super) fn becomes(&self) -> RunState {
        let failed = || self.stages.iter().any(|one| one.state.bad() && !one.forgiven);
        match self.run.ending {
            Some(state) => state,
            None if self.open > 0 => self.run.state,
            None if failed() => RunState::Failed,
            None => RunState::Succeeded,
        }
    }
}

impl Engine {
    /// What conditions and texts can ask about: the run, and those of its stages that are named.
    pub(super) fn facts<'n>(&self, number: i64, own: Option<&StageRun>, names: impl Iterator<Item = &'n str>) -> Facts {
        let Some(live) = self.runs.get(&number) else { return Facts::new() };
        let mut facts = run_facts(&live.run);
        if let Some(own) = own {
            facts.insert("matrix".to_owned(), Value::Object(own.matrix.clone()));
        }
        facts.insert("state".to_owned(), live.becomes().name().into());
        let place = (live.run.app.clone(), live.run.env.clone());
        let before =
            live.run.target.clone().or_else(|| self.live.get(&place).filter(|_| live.run.before.is_some()).map(before));
        if let Some(before) = before {
            let mut previous = before.outputs;
            previous.insert("version".to_owned(), before.version.into());
            previous.insert("sha".to_owned(), before.sha.into());
            facts.insert("previous".to_owned(), Value::Object(previous));
        }
        for name in names {
            if name == "plan" {
                let planned = live.stages.iter().rev().find(|one| one.outputs.contains_key("destroy"));
                facts.insert("plan".to_owned(), planned.map_or(Value::Null, |one| Value::Object(one.outputs.clone())));
            } else if let Some(spec) = live.pipeline.stages.iter().position(|stage| stage.name == name) {
                facts.insert(name.to_owned(), stage_facts(live.of[spec].iter().map(|at| &live.stages[*at])));
            }
        }
        facts
    }

    /// What the step of a stage is told.
    pub(super) fn order(&self, number: i64, at: usize, resumed: bool) -> Option<Order> {
        let live = self.runs.get(&number)?;
        let one = live.stages.get(at)?;
        let stage = &live.pipeline.stages[one.spec];
        let mut roots: Vec<String> = stage.gate.iter().flat_map(|gate| gate.names().iter().cloned()).collect();
        roots.extend(roots_of(stage, one.undo));
        let mut facts = self.facts(number, Some(one), roots.iter().map(String::as_str));
        facts.insert("repo".to_owned(), live.pipeline.repo.clone().map_or(Value::Null, Value::from));
        // An executor that undoes its own work goes by what it noted then.
        let own_way = one.undo && matches!(stage.rollback, Some(Undo::Own)) && one.noted.is_some();
        let planned = !one.code.is_empty() && one.outputs.contains_key("plan_file");
        let apply =
            planned.then(|| json!({"file": one.outputs.get("plan_file"), "sha256": one.outputs.get("plan_sha256")}));
        Some(Order {
            run: number,
            stage: at,
            attempt: one.attempt,
            name: one.name.clone(),
            spec: one.spec,
            undo: one.undo,
            pipeline: Arc::clone(&live.pipeline),
            facts,
            requester: live.run.asker.handle.clone(),
            parent: live.run.parent,
            noted: live.notes.get(&at).cloned().or_else(|| own_way.then(|| json!({"done": [], "note": one.noted}))),
            checkpoint: one.checkpoint.clone(),
            resumed,
            begun: live.begun.get(&at).copied().unwrap_or(self.now),
            elsewhere: one.runner.as_ref().filter(|host| !host.here).map(|host| host.name.clone()),
            apply,
        })
    }
}

/// What is known of the instances of a stage: the outputs of one, or of several by what they are for.
fn stage_facts<'s>(all: impl Iterator<Item = &'s StageRun>) -> Value {
    let all: Vec<&StageRun> = all.collect();
    let result = match all.as_slice() {
        all if all.iter().any(|one| one.state.bad() && !one.forgiven) => "failed",
        all if all.iter().all(|one| one.state == StageState::Skipped) => "skipped",
        all if went_well(all) => "succeeded",
        _ => "running",
    };
    let mut facts = Map::new();
    for one in &all {
        facts.extend(one.outputs.clone());
    }
    if let [one] = all.as_slice()
        && let Some(failure) = &one.failure
    {
        facts.insert("class".to_owned(), failure.class.name().into());
        facts.insert("line".to_owned(), failure.line.clone().into());
    }
    if all.len() > 1 {
        let each = all.iter().map(|one| (one.name.clone(), Value::Object(one.outputs.clone())));
        facts.insert("each".to_owned(), Value::Object(each.collect()));
    }
    facts.insert("result".to_owned(), result.into());
    Value::Object(facts)
}

/// The names that the texts of a stage ask about.
fn roots_of(stage: &Stage, undo: bool) -> Vec<String> {
    fn add(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                let names = template::names(text).unwrap_or_default();
                out.extend(names.into_iter().filter_map(|name| Some(name.split('.').next()?.to_owned())));
            }
            Value::Array(list) => list.iter().for_each(|item| add(item, out)),
            Value::Object(map) => map.values().for_each(|item| add(item, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    stage.actions.iter().for_each(|action| add(&action.settings, &mut out));
    if let Some(Undo::Action(action)) = stage.rollback.as_ref().filter(|_| undo) {
        add(&action.settings, &mut out);
    }
    for (_, text) in stage.env.iter().chain(&stage.outputs) {
        add(&Value::from(text.clone()), &mut out);
    }
    out.sort();
    out.dedup();
    out
}
