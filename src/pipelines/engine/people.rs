//! What people say to runs.

use std::sync::Arc;

use serde_json::json;

use super::ask::{Answer, May, Reply};
use super::finish::no_run;
use super::{Engine, Live, skip};
use crate::pipelines::may::may_deploy;
use crate::pipelines::model::{OnFailure, Pipeline, Rules, Skip, Wait};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Millis};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;

impl Engine {
    pub(super) fn run_of(&self, number: i64) -> Result<&Live, Refusal> {
        self.runs.get(&number).ok_or_else(|| no_run(number))
    }

    /// Whether somebody may deploy there; else what they may, and whom to ask.
    pub(super) fn may_deploy(&self, pipeline: &Pipeline, env: &str, who: &Asker, may: &May) -> Result<(), Refusal> {
        may_deploy(&*self.around, pipeline, env, who, may)
    }

    /// Whether somebody may act on a run: by its environment's flags.
    pub(super) fn may_act(&self, number: i64, who: &Asker, may: &May) -> Result<(), Refusal> {
        let live = self.run_of(number)?;
        // What stands in for a pipeline that cannot be read has the rules of another time.
        if live.unreadable.is_none() {
            self.may_deploy(&live.pipeline, &live.run.env, who, may)?;
        }
        // What was taken away since it began is taken away here too.
        match (self.rules_now(live), &live.unreadable) {
            (Some((pipeline, _)), _) => self.may_deploy(&pipeline, &live.run.env, who, may),
            (None, Some(why)) => Err(Refusal::conflict(words::cannot_go_on(number, why))),
            (None, None) => Ok(()),
        }
    }

    /// The rules of a run's environment as they are now, if its pipeline and its environment are still there.
    pub(super) fn rules_now(&self, live: &Live) -> Option<(Arc<Pipeline>, Rules)> {
        let pipeline = self.catalog.get(&live.run.app).ok()?;
        let rules = pipeline.rules(&live.run.env)?.clone();
        Some((pipeline, rules))
    }

    /// `!yes 118`: only the one who asked, as the same account, with the flags still theirs.
    pub(super) fn yes(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        let live = self.run_of(number)?;
        if live.run.state != RunState::AwaitingConfirm {
            return Err(Refusal::conflict(words::waits_for_no_yes(number, live.run.state.name().replace('_', " "))));
        }
        let asker = &live.run.asker;
        if who.handle != asker.handle || !may.vouched || who.has_other_account(asker) {
            return Err(Refusal::denied(words::only_who_asked(live.run.asker.called(), number)));
        }
        if !may.known_since(live.run.created) {
            return Err(Refusal::denied(words::touched(&who.handle, number)));
        }
        self.may_act(number, who, may)?;
        let Some(live) = self.runs.get(&number) else { return Err(no_run(number)) };
        if live.run.queued.is_some() {
            // It was its turn already; what came in its way meanwhile counts.
            let group = live.run.group.clone();
            self.to(number, RunState::Queued, &who.handle);
            if let Some(live) = self.runs.get_mut(&number) {
                live.run.due = live.run.queue_end;
            }
            if self.agree_anew(number) {
                return Ok(Reply::about(number, Vec::new()));
            }
            if let Some(live) = self.runs.get_mut(&number) {
                // They said yes to what it goes onto.
                live.run.onto = None;
            }
            self.next_in(&group);
        } else {
            self.go_on(number);
        }
        Ok(Reply::about(number, Vec::new()))
    }

    /// `!abort 118`.
    pub(super) fn abort(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        let live = self.run_of(number)?;
        if who.handle != live.run.asker.handle || !may.vouched {
            self.may_act(number, who, may)?;
        }
        self.reaches(number, may)?;
        let live = self.run_of(number)?;
        let state = live.run.state;
        if state.ended() {
            // What would happen by itself is called off.
            let Some(live) = self.runs.get_mut(&number) else { return Err(no_run(number)) };
            if live.run.undo_at.take().is_some() {
                self.dirty_runs.insert(number);
                return Ok(Reply::about(number, vec![words::left_as_it_is(number)]));
            }
            return Err(Refusal::conflict(words::is_over(number, state.name().replace('_', " "))));
        }
        if state == RunState::RollingBack {
            return Err(Refusal::conflict(words::being_undone(number)));
        }
        if state.active() {
            self.stop_run(number, RunState::Cancelled, &who.handle);
            return Ok(Reply::about(number, vec![words::stopping(number)]));
        }
        self.end_waiting(number, RunState::Cancelled, &who.handle);
        Ok(Reply::about(number, Vec::new()))
    }

    /// `!retry 131 [stage]`: goes on where it failed; what went well stays.
    pub(super) fn retry(&mut self, number: i64, stage: Option<&str>, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        let live = self.run_of(number)?;
        if let Some(why) = &live.unreadable {
            return Err(Refusal::conflict(words::cannot_go_on(number, why)));
        }
        let held = |state: StageState| state.bad() || state == StageState::NeedsOperator;
        if let Some(name) = stage
            && !live.stages.iter().any(|one| one.name == name && held(one.state))
        {
            let names: Vec<&str> =
                live.stages.iter().filter(|one| held(one.state)).map(|one| one.name.as_str()).collect();
            return Err(Refusal::wrong(match names.as_slice() {
                [] => words::nothing_failed(name, number),
                names => words::did_not_fail(name, number, names.join(", ")),
            }));
        }
        let state = live.run.state;
        let again = matches!(state, RunState::Failed | RunState::TimedOut | RunState::Cancelled | RunState::Paused);
        if let Some(halt) = &live.run.paused {
            return Err(Refusal::conflict(words::stands_still(number, &halt.by)));
        }
        if !again {
            return Err(Refusal::conflict(words::nothing_to_retry(number, state.name().replace('_', " "))));
        }
        if state.ended() {
            if live.run.started.is_none() {
                // Nobody said yes to it, nobody approved it, or its turn never came: to ask again is to be asked again.
                return Err(Refusal::conflict(words::never_began(number)));
            }
            self.may_go_on(number)?;
        }
        let live = self.run_of(number)?;
        let spec = live.stages.iter().find(|one| stage == Some(one.name.as_str())).map(|one| one.spec);
        let reset: Vec<usize> = (0..live.stages.len())
            .filter(|at| {
                let one = &live.stages[*at];
                // What was ended because that failed goes on with it.
                let with_it = one.state == StageState::Cancelled && spec == Some(one.spec);
                held(one.state) && stage.is_none_or(|name| one.name == name || with_it || state.ended())
                    || one.state == StageState::Skipped && !one.forgiven && state.ended()
            })
            .collect();
        if let Some(live) = self.runs.get_mut(&number)
            && !who.place.is_empty()
            && !live.run.places.iter().any(|place| super::same_place(place, &who.place))
        {
            live.run.places.push(who.place.clone());
        }
        self.reset(number, &reset, &who.handle);
        self.dirty_stages.extend(reset.iter().map(|at| (number, *at)));
        self.event(number, "run", &who.handle, None, json!({"retry": stage}));
        let again: Vec<usize> = reset
            .into_iter()
            .filter(|at| self.runs.get(&number).is_some_and(|live| live.stages[*at].state == StageState::NeedsOperator))
            .collect();
        for at in again {
            self.stage_to(number, at, StageState::Ready, &who.handle);
            self.again_stage(number, at);
        }
        self.advance(number);
        // Another one may still wait to be decided.
        self.hold_again(number);
        Ok(Reply::about(number, vec![words::goes_on(number)]))
    }

    /// Whether a run that ended may go on: nothing newer is there, nothing runs there, and nothing forbids it.
    fn may_go_on(&self, number: i64) -> Result<(), Refusal> {
        let live = self.run_of(number)?;
        if self.runs.values().any(|other| other.run.group == live.run.group && other.run.state.active()) {
            return Err(Refusal::conflict(words::another_is_under_way(&live.run.app)));
        }
        if let Some(row) = self.came_after(number) {
            return Err(Refusal::conflict(words::newer_is_live(row.run, number)));
        }
        let (run, pipeline) = (live.run.clone(), Arc::clone(&live.pipeline));
        if let (true, Some(rules)) = (run.reason.is_none(), pipeline.rules(&run.env))
            && let Some((why, until)) = self.closed(&run, rules, &pipeline)
        {
            return Err(Refusal::conflict(words::closed(&run.env, &why, until, &run.app, rules, self.now)));
        }
        let live = self.run_of(number)?;
        // A lock that the run made itself is no hindrance to it.
        let lock = self.locks.get(&live.run.place());
        if let Some(lock) = lock.filter(|lock| lock.run != Some(number)) {
            return Err(Refusal::conflict(words::locked(lock, self.now, None)));
        }
        Ok(())
    }

    /// A run goes on; these stages are as if they had not begun, but for those of which nobody knows how far they came.
    fn reset(&mut self, number: i64, reset: &[usize], by: &str) {
        let now = self.now;
        let resumed = self.runs.get(&number).is_some_and(|live| live.run.state == RunState::Paused);
        let (now_live, good) = (self.live_where(number), self.good_where(number));
        self.to(number, RunState::Running, by);
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.finished = None;
        live.run.deadline = live.pipeline.policy.timeout.map(|time| now + time.as_millis() as Millis);
        live.run.due = live.run.deadline;
        live.run.ending = None;
        live.run.failed = live.failing(reset);
        live.run.undo_at = None;
        if !resumed {
            if now_live.as_ref().is_none_or(|before| before.run != number) {
                live.run.before = now_live;
                live.run.good = good;
            }
            // Somebody wants to hear of it again.
            live.run.spared = live.run.lines;
        }
        live.finally_begun = false;
        for at in reset {
            let unsure = self.runs.get(&number).is_some_and(|live| live.stages[*at].state == StageState::NeedsOperator);
            if !(resumed && unsure) {
                self.stage_to(number, *at, StageState::Pending, by);
            }
            let Some(live) = self.runs.get_mut(&number) else { return };
            let one = &mut live.stages[*at];
            one.ended = None;
            one.due = None;
            one.retries = 0;
            one.failure = None;
            // What somebody left out stays left out.
            one.forgiven = live.run.skipped.contains(&live.pipeline.stages[one.spec].name);
            if one.state == StageState::Pending {
                one.code.clear();
            }
        }
        let Some(live) = self.runs.get(&number) else { return };
        let locked = self.locks.get(&live.run.place()).is_some_and(|lock| lock.run == Some(number));
        let once_more = |at: &usize| {
            let one = &live.stages[*at];
            let stage = &live.pipeline.stages[one.spec];
            // What the run has given back since it locked it is locked again.
            let again = matches!(stage.wait, Some(Wait::Lock(..))) && !locked && one.state == StageState::Succeeded;
            stage.finally && one.state.ended() || again
        };
        let last: Vec<usize> = (0..live.stages.len()).filter(once_more).collect();
        self.as_if_not_begun(number, &last, by);
        if let Some(live) = self.runs.get_mut(&number) {
            live.recount();
        }
    }

    /// Stages that ended are pending once more.
    fn as_if_not_begun(&mut self, number: i64, stages: &[usize], by: &str) {
        for at in stages {
            self.stage_to(number, *at, StageState::Pending, by);
            if let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(*at)) {
                one.ended = None;
            }
        }
    }

    /// A stage that is ready once more begins.
    pub(super) fn again_stage(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        if live.run.paused.is_some() {
            // It asks when the run goes on.
            if live.stages[at].state == StageState::Ready {
                self.stage_to(number, at, StageState::WaitingResources, "bot");
            }
            return;
        }
        if !self.finds_runner(number, at) {
            return;
        }
        if self.takes_slots(number, at) {
            self.start(number, at);
        } else if self.runs.get(&number).is_some_and(|live| live.stages[at].state == StageState::Ready) {
            self.stage_to(number, at, StageState::WaitingResources, "bot");
            self.tell_holders(number, at);
        }
    }

    /// `!promote 140`: what is held counts as done.
    pub(super) fn promote(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        let live = self.run_of(number)?;
        if live.run.state != RunState::Paused {
            return Err(Refusal::conflict(words::nothing_is_held(number)));
        }
        if let Some(halt) = &live.run.paused {
            return Err(Refusal::conflict(words::stands_still(number, &halt.by)));
        }
        let unsure: Vec<usize> =
            (0..live.stages.len()).filter(|at| live.stages[*at].state == StageState::NeedsOperator).collect();
        let asks = |at: &usize| live.pipeline.stages[live.stages[*at].spec].on_failure == OnFailure::Ask;
        let failed: Vec<usize> = (0..live.stages.len())
            .filter(|at| live.stages[*at].state.bad() && !live.stages[*at].forgiven && asks(at))
            .collect();
        let passed: Vec<usize> = failed.iter().chain(&unsure).copied().collect();
        self.may_promote(live, &passed, may)?;
        let (app, env) = (live.run.app.clone(), live.run.env.clone());
        self.to(number, RunState::Running, &who.handle);
        for at in &unsure {
            self.stage_to(number, *at, StageState::Succeeded, &who.handle);
        }
        let Some(live) = self.runs.get_mut(&number) else { return Err(no_run(number)) };
        for at in &failed {
            live.stages[*at].forgiven = true;
        }
        live.run.failed = live.failing(&unsure);
        // What was passed over because of it is looked at again.
        let skipped: Vec<usize> = (0..live.stages.len())
            .filter(|at| live.stages[*at].state == StageState::Skipped && !live.stages[*at].forgiven)
            .collect();
        self.dirty_stages.extend(failed.iter().map(|at| (number, *at)));
        self.as_if_not_begun(number, &skipped, &who.handle);
        if let Some(live) = self.runs.get_mut(&number) {
            live.recount();
        }
        let stages: Vec<String> = failed
            .iter()
            .chain(&unsure)
            .filter_map(|at| self.runs.get(&number).map(|live| live.stages[*at].name.clone()))
            .collect();
        let stages = stages.join(", ");
        let Some(live) = self.runs.get(&number) else { return Err(no_run(number)) };
        let line = words::promoted(&live.run, &stages, &who.handle);
        self.say(number, "start", &line);
        self.incident(&who.handle, (&app, &env), Some(number), &words::log_promoted(number, &stages), None);
        self.advance(number);
        Ok(Reply::about(number, Vec::new()))
    }

    /// Whether somebody may go on although stages failed. What people decide stands; a gate may be passed by who may leave it out.
    fn may_promote(&self, live: &Live, failed: &[usize], may: &May) -> Result<(), Refusal> {
        for at in failed {
            let stage = &live.pipeline.stages[live.stages[*at].spec];
            if stage.skip == Skip::Never {
                return Err(Refusal::denied(words::cannot_be_let_pass(&stage.name, live.run.number)));
            }
            if stage.gate.is_some() && skip::may_skip(stage, may).is_err() {
                return Err(Refusal::denied(words::gate_does_not_hold(&stage.name, live.run.number)));
            }
        }
        Ok(())
    }

    /// `!queue 121`: behind a lock.
    pub(super) fn queue(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        let live = self.run_of(number)?;
        if live.run.asker.handle != who.handle {
            return Err(Refusal::denied(words::is_anothers(number, live.run.asker.called())));
        }
        if self.run_of(number)?.run.state != RunState::Draft {
            let (ahead, place) = self.ahead(&self.run_of(number)?.run);
            return Ok(Reply::about(
                number,
                vec![match ahead.as_slice() {
                    [] => words::is_next(number, place),
                    ahead => words::has_place(number, place, ahead.join(", ")),
                }],
            ));
        }
        self.go_on(number);
        Ok(Reply::about(number, Vec::new()))
    }
}
