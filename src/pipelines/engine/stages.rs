//! Stages of a run: which may begin, what they are told, what their end means.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Effect, Ended, Engine, Live, attempt_row, failure};
use crate::executors::{Class, End, Failure};
use crate::pipelines::file::stages::INSTANCES_MAX;
use crate::pipelines::images::pushed;
use crate::pipelines::matrix::{combinations, each_once, instance, one_name};
use crate::pipelines::model::{Approvals, Axis, Form, OnFailure, Stage};
use crate::pipelines::run::{Millis, StageRun};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::{template, words};
use crate::store::runs::{AttemptRow, Put};

/// What a stage that is not tried shows as its end.
enum Turn {
    /// It may begin.
    Begin,
    /// What it needs did not come.
    Skip,
    /// Its condition cannot be told.
    Fault(String),
}

impl Engine {
    /// Goes on with a run as far as it goes now.
    pub(super) fn advance(&mut self, number: i64) {
        loop {
            let Some(live) = self.runs.get_mut(&number) else { return };
            if !live.run.state.active() || live.run.state == RunState::Paused {
                return;
            }
            let Some(spec) = live.fresh.pop_front() else { break };
            self.consider(number, spec);
        }
        self.finish(number);
    }

    /// A stage of the pipeline whose needs have ended.
    fn consider(&mut self, number: i64, spec: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        let finally = live.pipeline.stages[spec].finally;
        if live.run.ending.is_some() && !finally {
            self.all(number, spec, StageState::Cancelled);
            return;
        }
        match self.turn_of(number, spec) {
            Turn::Begin => {}
            Turn::Skip => return self.all(number, spec, StageState::Skipped),
            Turn::Fault(fault) => return self.cannot_begin(number, spec, fault),
        }
        if let Err(fault) = self.fan_out(number, spec).and_then(|()| self.choose(number, spec)) {
            return self.cannot_begin(number, spec, fault);
        }
        if let Some(live) = self.runs.get_mut(&number) {
            live.opened[spec] = true;
        }
        self.begin_more(number, spec);
    }

    /// A stage fails before anything of it began.
    fn cannot_begin(&mut self, number: i64, spec: usize, fault: String) {
        let Some(live) = self.runs.get(&number) else { return };
        let pending = |at: &usize| live.stages[*at].state == StageState::Pending;
        let Some(first) = live.of[spec].iter().copied().find(pending) else { return };
        self.stage_to(number, first, StageState::Ready, "bot");
        self.fail(number, first, failure(Class::Config, fault));
        self.all(number, spec, StageState::Cancelled);
    }

    /// Leaves out the instances for which a condition on `matrix` does not hold.
    fn choose(&mut self, number: i64, spec: usize) -> Result<(), String> {
        let Some(live) = self.runs.get(&number) else { return Ok(()) };
        let stage = &live.pipeline.stages[spec];
        let Some(when) = stage.when.as_ref().filter(|_| asks_each(stage) && !live.stages[live.of[spec][0]].undo) else {
            return Ok(());
        };
        let mut out = Vec::new();
        for at in live.of[spec].iter().copied().filter(|at| live.stages[*at].state == StageState::Pending) {
            let facts = self.facts(number, Some(&live.stages[at]), when.names().iter().map(String::as_str));
            if !when.holds(&facts)? {
                out.push(at);
            }
        }
        out.into_iter().for_each(|at| self.stage_to(number, at, StageState::Skipped, "bot"));
        Ok(())
    }

    /// Begins pending instances of a stage, as many as may run at once.
    pub(super) fn begin_more(&mut self, number: i64, spec: usize) {
        let begins = |live: &&Live| live.opened[spec] && live.run.paused.is_none();
        let Some(live) = self.runs.get(&number).filter(begins) else { return };
        let stage = &live.pipeline.stages[spec];
        let most = stage.matrix.as_ref().and_then(|matrix| matrix.max_parallel).unwrap_or(usize::MAX);
        let of = &live.of[spec];
        let state = |at: &usize| live.stages[*at].state;
        let busy = of.iter().filter(|at| !state(at).ended() && state(at) != StageState::Pending).count();
        let next: Vec<usize> =
            of.iter().copied().filter(|at| state(at) == StageState::Pending).take(most.saturating_sub(busy)).collect();
        for at in next {
            // One that failed meanwhile may have ended the others.
            let still = |live: &Live| live.opened[spec] && live.stages[at].state == StageState::Pending;
            let pending = self.runs.get(&number).is_some_and(still);
            if !pending {
                continue;
            }
            if self.runs.get(&number).is_some_and(|live| live.stages[at].forgiven) {
                self.stage_to(number, at, StageState::Skipped, "bot");
                continue;
            }
            self.stage_to(number, at, StageState::Ready, "bot");
            self.begin(number, at);
        }
    }

    /// Whether what a stage needs ended as it must, and its condition holds.
    fn turn_of(&self, number: i64, spec: usize) -> Turn {
        let Some(live) = self.runs.get(&number) else { return Turn::Skip };
        let stage = &live.pipeline.stages[spec];
        // What is undone asks for nothing; what is done in any case needs nothing.
        if live.stages.first().is_some_and(|one| one.undo) {
            return Turn::Begin;
        }
        // Neither its list nor its condition is asked for.
        if live.run.skipped.contains(&stage.name) {
            return Turn::Skip;
        }
        for need in stage.needs.iter().filter(|_| !stage.finally) {
            let all: Vec<&StageRun> = live.of[need.stage].iter().map(|at| &live.stages[*at]).collect();
            let good = went_well(&all);
            let failed = all.iter().any(|one| one.state.bad() && !one.forgiven);
            let fits = match need.form {
                Form::Succeeded => good,
                Form::Optional => !failed,
                Form::Failed => failed,
                Form::Done => true,
            };
            if !fits {
                return Turn::Skip;
            }
        }
        match stage.when.as_ref().filter(|_| !asks_each(stage)) {
            None => Turn::Begin,
            Some(when) => match when.holds(&self.facts(number, None, when.names().iter().map(String::as_str))) {
                Ok(true) => Turn::Begin,
                Ok(false) => Turn::Skip,
                Err(fault) => Turn::Fault(fault),
            },
        }
    }

    /// Makes an instance for each value of a list that a stage before gave.
    fn fan_out(&mut self, number: i64, spec: usize) -> Result<(), String> {
        let Some(live) = self.runs.get(&number) else { return Ok(()) };
        let stage = &live.pipeline.stages[spec];
        let Some(matrix) = &stage.matrix else { return Ok(()) };
        let late = live.of[spec].len() == 1 && live.stages[live.of[spec][0]].matrix.is_empty();
        if !late || matrix.axes.iter().all(|(_, axis)| matches!(axis, Axis::Values(_))) {
            return Ok(());
        }
        let mut roots: Vec<&str> = Vec::new();
        for (_, axis) in &matrix.axes {
            if let Axis::From(path) = axis {
                roots.extend(path.split('.').next());
            }
        }
        let facts = self.facts(number, None, roots.into_iter());
        for (name, axis) in &matrix.axes {
            if let Axis::From(path) = axis
                && !template::look_up(path, &facts).is_some_and(Value::is_array)
            {
                return Err(words::no_list(name, path, path.rsplit('.').next().unwrap_or("")));
            }
        }
        let list = |path: &str| template::look_up(path, &facts).and_then(Value::as_array).cloned();
        let all = each_once(combinations(matrix, &list));
        if let Some(fault) = one_name(&all) {
            return Err(format!("matrix: {fault}"));
        }
        if all.len() > INSTANCES_MAX {
            return Err(words::too_many(all.len(), INSTANCES_MAX));
        }
        let stage = stage.clone();
        let Some(live) = self.runs.get_mut(&number) else { return Ok(()) };
        let at = live.of[spec][0];
        let mut more = all.into_iter().map(|combination| instance(&stage, spec, combination));
        let Some(first) = more.next() else {
            // An empty list: there is nothing to do for it.
            live.stages[at].summary = words::nothing_to_do();
            live.stages[at].forgiven = true;
            return Ok(());
        };
        // The first instance takes the place of what stood for all of them.
        let before = std::mem::replace(&mut live.stages[at].name, first.name);
        live.stages[at].matrix = first.matrix;
        self.puts.push(Put::Unstage(number, before));
        for one in more {
            live.stages.push(one);
            let new = live.stages.len() - 1;
            live.of[spec].push(new);
            live.left[spec] += 1;
            if stage.finally {
                live.last += 1;
            } else {
                live.open += 1;
            }
            self.dirty_stages.insert((number, new));
        }
        self.dirty_stages.insert((number, at));
        Ok(())
    }

    /// Ends all instances of a stage that have not begun.
    fn all(&mut self, number: i64, spec: usize, state: StageState) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.opened[spec] = false;
        let pending: Vec<usize> =
            live.of[spec].iter().copied().filter(|at| live.stages[*at].state == StageState::Pending).collect();
        for at in pending {
            self.stage_to(number, at, state, "bot");
        }
    }

    /// A stage that is ready: it asks for what it uses, or waits for people and clocks.
    fn begin(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        let stage = Arc::clone(&live.pipeline);
        let stage = &stage.stages[live.stages[at].spec];
        if let Some(wait) = stage.wait.as_ref().filter(|_| !live.stages[at].undo) {
            return self.wait(number, at, wait);
        }
        if let Err(fault) = self.pools.possible(&stage.resources)
            && stage.runner.is_none()
        {
            return self.fail(number, at, failure(Class::Config, fault));
        }
        self.again_stage(number, at);
    }

    /// An attempt begins: it is written down first.
    pub(super) fn start(&mut self, number: i64, at: usize) {
        self.stage_to(number, at, StageState::Starting, "bot");
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let one = &mut live.stages[at];
        one.attempt += 1;
        one.failure = None;
        one.started.get_or_insert(now);
        if !one.summary.is_empty() {
            // What it waited for is out of date.
            one.summary.clear();
            live.progress.forget(&one.name);
        }
        live.notes.remove(&at);
        live.begun.insert(at, now);
        let row = attempt_row(number, one, now);
        self.puts.push(Put::Attempt(row));
        let order = self.order(number, at, false);
        self.effects.extend(order.map(|order| Effect::Start(Box::new(order))));
    }

    /// A step ended.
    pub(super) fn step_ended(&mut self, ended: Ended) {
        let (number, at) = (ended.run, ended.stage);
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get_mut(at) else { return };
        if !one.state.steps() || one.attempt != ended.attempt {
            return;
        }
        let begun = live.begun.remove(&at).unwrap_or(self.now);
        let note = live.notes.remove(&at);
        one.noted = note.as_ref().and_then(|note| note.get("first")).cloned().or(one.noted.take());
        one.checkpoint = ended.checkpoint.or(one.checkpoint.take());
        let mut row = AttemptRow {
            ended: Some(self.now),
            bytes: Some(ended.log.iter().map(|part| part.ends - part.begins).sum()),
            note: note.map(|note| note.to_string()),
            ..attempt_row(number, one, begun)
        };
        if let End::Failed(failure) = &ended.end {
            row.class = Some(failure.class.name().to_owned());
            row.exit = failure.exit.map(i64::from);
            row.line = Some(failure.line.clone());
        }
        self.puts.push(Put::Attempt(row));
        self.puts.extend(ended.log.into_iter().map(Put::LogSegment));
        self.puts.extend(ended.artifacts.into_iter().map(Put::Artifact));
        self.gives_back(number, at, Some(&ended.end));
        match ended.end {
            End::Done { outputs, summary } => self.done(number, at, outputs, summary),
            End::Failed(failure) => self.attempt_failed((number, at), failure, ended.resumed, ended.outputs),
            End::Stopped => self.stage_to(number, at, StageState::Cancelled, "bot"),
            End::Unsure(why) => self.unsure(number, at, &why),
        }
        self.grant();
        self.advance(number);
    }

    fn done(&mut self, number: i64, at: usize, outputs: Map<String, Value>, summary: String) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let one = &mut live.stages[at];
        let applied = !one.code.is_empty();
        if !one.undo {
            self.puts.extend(pushed(number, &outputs, self.now).into_iter().map(Put::Image));
        }
        one.outputs.extend(outputs);
        one.summary = summary;
        let stage = &live.pipeline.stages[one.spec];
        if !applied && stage.asks_for_plan(&one.outputs) {
            let plan = one.summary.clone();
            let approvals =
                live.pipeline.rules(&live.run.env).and_then(|rules| rules.asks(live.run.overrides()).cloned());
            let approvals = approvals.unwrap_or(Approvals {
                count: 1,
                from: Vec::new(),
                not_requester: true,
                expires: std::time::Duration::from_secs(30 * 60),
                when: None,
            });
            self.stage_to(number, at, StageState::Waiting, "bot");
            return self.stage_approval(number, at, &approvals, &plan);
        }
        self.stage_to(number, at, StageState::Succeeded, "bot");
    }

    /// An attempt failed: again, or for good. One that was begun before the bot says whether it may simply be done again.
    pub(super) fn tried(&mut self, number: i64, at: usize, failure: Failure, resumed: Option<bool>) {
        let Some(live) = self.runs.get(&number) else { return };
        let (one, stage) = (&live.stages[at], &live.pipeline.stages[live.stages[at].spec]);
        let lost = resumed.filter(|_| failure.class == Class::InfraLost);
        if lost == Some(false) && !stage.idempotent {
            return self.unsure(number, at, &self.lost_words(number, at, &failure));
        }
        let more = one.retries < stage.retry.times && stage.retry.allows(failure.class)
            || lost.is_some() && one.retries < stage.retry.times.max(1);
        if !more || live.run.ending.is_some() {
            return self.fail(number, at, failure);
        }
        let wait = stage.retry.wait(one.retries + 1, (self.chance)()).as_millis() as Millis;
        let text = words::retrying(one, stage.retry.times + 1, wait, &failure);
        if let Some(live) = self.runs.get_mut(&number) {
            live.stages[at].failure = Some(failure);
        }
        self.stage_to(number, at, StageState::RetryWait, "bot");
        let (now, Some(live)) = (self.now, self.runs.get_mut(&number)) else { return };
        let one = &mut live.stages[at];
        one.retries += 1;
        one.due = Some(now + wait);
        live.timed.insert(at);
        let name = one.name.clone();
        live.progress.going(&name, text, now);
    }

    /// A stage failed for good.
    pub(super) fn fail(&mut self, number: i64, at: usize, failure: Failure) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let spec = live.stages[at].spec;
        let stage: Stage = live.pipeline.stages[spec].clone();
        let timed_out = failure.class == Class::Timeout;
        live.stages[at].failure = Some(failure);
        live.stages[at].forgiven = stage.on_failure == OnFailure::Continue;
        let name = live.stages[at].name.clone();
        let state = match live.stages[at].state {
            StageState::Validating => StageState::Faulty,
            StageState::Ready => StageState::Failed,
            _ if timed_out => StageState::TimedOut,
            _ => StageState::Failed,
        };
        if stage.on_failure != OnFailure::Continue {
            live.run.failed.get_or_insert(name);
            self.dirty_runs.insert(number);
        }
        let others =
            stage.matrix.as_ref().is_some_and(|matrix| matrix.fail_fast) && stage.on_failure != OnFailure::Continue;
        if let Some(live) = self.runs.get_mut(&number).filter(|_| others) {
            live.opened[spec] = false;
        }
        self.stage_to(number, at, state, "bot");
        if stage.matrix.as_ref().is_some_and(|matrix| matrix.fail_fast) && stage.on_failure != OnFailure::Continue {
            self.all(number, spec, StageState::Cancelled);
            let Some(live) = self.runs.get(&number) else { return };
            let running: Vec<usize> =
                live.of[spec].iter().copied().filter(|one| *one != at && !live.stages[*one].state.ended()).collect();
            running.into_iter().for_each(|one| self.stop_stage(number, one));
        }
        if stage.on_failure == OnFailure::Ask && self.runs.get(&number).is_some_and(|live| live.run.ending.is_none()) {
            self.hold(number, at);
        }
    }

    /// Ends a stage that has not ended, whatever it does.
    pub(super) fn stop_stage(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        match live.stages[at].state {
            state if state.steps() => self.effects.push(Effect::Stop(number, at)),
            state if state.ended() => {}
            _ => {
                self.gives_back(number, at, None);
                self.stage_to(number, at, StageState::Cancelled, "bot");
            }
        }
    }

    /// All instances of a stage may have ended now.
    pub(super) fn stage_over(&mut self, number: i64, at: usize) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let spec = live.stages[at].spec;
        if live.pipeline.stages[spec].finally {
            live.last = live.last.saturating_sub(1);
        } else {
            live.open = live.open.saturating_sub(1);
        }
        live.left[spec] = live.left[spec].saturating_sub(1);
        let one = &live.stages[at];
        if matches!(one.state, StageState::Failed | StageState::TimedOut | StageState::Faulty) {
            live.progress.failed(&one.name, words::stage(one), now);
        } else if one.started.is_some() {
            live.progress.ended(&one.name, words::stage(one), now);
        }
        if live.left[spec] > 0 {
            return self.begin_more(number, spec);
        }
        for next in live.feeds[spec].clone() {
            live.unmet[next] = live.unmet[next].saturating_sub(1);
            if live.unmet[next] == 0 && !live.of[next].is_empty() && !live.pipeline.stages[next].finally {
                live.fresh.push_back(next);
            }
        }
    }

    /// Stages that waited for what others gave back.
    pub(super) fn grant(&mut self) {
        for (number, at) in self.pools.granted() {
            let waits =
                self.runs.get(&number).is_some_and(|live| live.stages[at].state == StageState::WaitingResources);
            if waits {
                self.start(number, at);
            } else {
                self.gives_back(number, at, None);
            }
        }
        self.grant_runners();
    }
}

/// Whether the condition of a stage asks about each combination of its matrix.
fn asks_each(stage: &Stage) -> bool {
    stage.matrix.is_some() && stage.when.as_ref().is_some_and(|when| when.names().contains("matrix"))
}

/// Whether all instances of a stage that were not passed over went well. If all were, the stage was.
pub(super) fn went_well(all: &[&StageRun]) -> bool {
    let passed_over = |one: &StageRun| one.state == StageState::Skipped && !one.forgiven;
    all.is_empty() || all.iter().all(|one| one.good() || passed_over(one)) && all.iter().any(|one| one.good())
}
