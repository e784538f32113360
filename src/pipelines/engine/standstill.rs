//! Runs that stand still until people decide: those that failed or are unsure, that were paused, or wait for a window: `!pause`, `!resume`,
//! `!skip!`.

use serde_json::json;

use super::ask::{Answer, May, Reply};
use super::finish::no_run;
use super::{Engine, Live, failure, skip};
use crate::executors::Class;
use crate::pipelines::file::stages::SKIPPER;
use crate::pipelines::model::{OnFailure, Skip, Wait};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Halt, Millis, StageRun};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;
use crate::users::FlagMask;

impl Engine {
    /// `!pause 118 why`: what runs goes on to its end, and nothing more begins.
    pub(super) fn pause(&mut self, number: i64, why: &str, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        let live = self.run_of(number)?;
        match (live.run.state, &live.run.paused) {
            (RunState::Running, _) => {}
            (RunState::Paused, Some(halt)) => {
                return Err(Refusal::conflict(words::paused_already(number, words::quiet(&halt.by))));
            }
            (RunState::Paused, None) => {
                return Err(Refusal::conflict(words::waits_anyway(number)));
            }
            (state, _) => {
                return Err(Refusal::conflict(words::only_what_runs(number, state.name().replace('_', " "))));
            }
        }
        let at = self.now;
        let limit = self.settings.pause.as_millis() as Millis;
        self.to(number, RunState::Paused, &who.handle);
        self.due_in(number, limit);
        let Some(live) = self.runs.get_mut(&number) else { return Err(no_run(number)) };
        live.run.paused = Some(Halt { by: who.handle.clone(), at });
        // What waits for a slot does not take one meanwhile.
        let waiting: Vec<usize> =
            (0..live.stages.len()).filter(|at| live.stages[*at].state == StageState::WaitingResources).collect();
        let (run, line) = (live.run.clone(), words::paused(&live.run, &who.handle, why, limit));
        waiting.into_iter().for_each(|at| self.gives_back(number, at, None));
        self.say(number, "start", &line);
        let text = words::log_paused(number, words::cut(why, 400));
        self.incident(&who.handle, (&run.app, &run.env), Some(number), text.trim_end_matches(": "), None);
        Ok(Reply::about(number, Vec::new()))
    }

    /// `!resume 118`.
    pub(super) fn resume_run(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        let now = self.now;
        let live = self.runs.get_mut(&number).ok_or_else(|| no_run(number))?;
        let Some(halt) = live.run.paused.take().filter(|_| live.run.state == RunState::Paused) else {
            let state = live.run.state.name().replace('_', " ");
            return Err(Refusal::conflict(words::nobody_paused(number, state)));
        };
        // The time that it stood still is not its own.
        live.run.deadline = live.run.deadline.map(|at| at + (now - halt.at));
        let (run, line) = (live.run.clone(), words::resumed(&live.run, &who.handle, now - halt.at));
        self.to(number, RunState::Running, &who.handle);
        self.say(number, "start", &line);
        self.incident(&who.handle, (&run.app, &run.env), Some(number), &words::log_goes_on(number), None);
        let Some(live) = self.runs.get(&number) else { return Err(no_run(number)) };
        let waiting: Vec<usize> =
            (0..live.stages.len()).filter(|at| live.stages[*at].state == StageState::WaitingResources).collect();
        let specs = 0..live.of.len();
        // Something may have failed meanwhile about which somebody decides: only now the time for that begins.
        self.hold_again(number);
        waiting.into_iter().for_each(|at| self.again_stage(number, at));
        specs.for_each(|spec| self.begin_more(number, spec));
        self.advance(number);
        Ok(Reply::about(number, Vec::new()))
    }

    /// Only a person can tell how far it came.
    pub(super) fn unsure(&mut self, number: i64, at: usize, why: &str) {
        if self.runs.get(&number).is_some_and(|live| live.run.ending.is_some()) {
            // It is being stopped anyway; that nobody knows how far it came is still said.
            let Some(live) = self.runs.get(&number) else { return };
            let line = words::unsure(&live.run, &live.stages[at], why);
            self.fail(number, at, failure(Class::Unknown, why));
            return self.must_say(number, "failed", &line);
        }
        if let Some(live) = self.runs.get_mut(&number) {
            live.stages[at].failure = Some(failure(Class::Unknown, why));
        }
        self.stage_to(number, at, StageState::NeedsOperator, "bot");
        let Some(live) = self.runs.get_mut(&number) else { return };
        let line = words::unsure(&live.run, &live.stages[at], why);
        match (live.run.state, &live.run.paused) {
            (RunState::Running, _) => {
                self.to(number, RunState::Paused, "bot");
            }
            // What was held waits without a clock from now on: it would end what may be half done.
            (RunState::Paused, None) => live.run.due = None,
            _ => {}
        }
        self.must_say(number, "failed", &line);
    }

    /// A stage failed and somebody decides whether it counts.
    pub(super) fn hold(&mut self, number: i64, at: usize) {
        let time = self.settings.decide.as_millis() as Millis;
        let Some(live) = self.runs.get(&number) else { return };
        let after = match live.run.state {
            RunState::Running => Some(time),
            // The clock of who was held before it runs on. Where a person wants it to stand still, or nobody knows how far a stage
            // came, none decides.
            _ => live.run.due.filter(|_| live.run.paused.is_none()).map(|due| (due - self.now).max(0)),
        };
        let line = words::held(&live.run, &live.stages[at], &live.called(at), after);
        if live.run.state == RunState::Running {
            self.to(number, RunState::Paused, "bot");
            self.due_in(number, time);
        }
        if let Some(live) = self.runs.get_mut(&number) {
            let name = live.stages[at].name.clone();
            live.progress.told(&name);
        }
        self.must_say(number, "failed", &line);
    }

    /// A run that goes on is held again if people still have to decide about a stage of it, and they are told; whether it is.
    pub(super) fn hold_again(&mut self, number: i64) -> bool {
        let asks =
            |live: &&Live| live.run.state == RunState::Running && live.run.ending.is_none() && live.asks_people();
        let Some(live) = self.runs.get(&number).filter(asks) else { return false };
        // Where nobody knows how far a stage came, the clock decides nothing.
        let unsure = live.stages.iter().any(|one| one.state == StageState::NeedsOperator);
        let time = Some(self.settings.decide.as_millis() as Millis).filter(|_| !unsure);
        let held = live.held_stages();
        // What was ended with another one is told with that, if that is held still.
        let failed = |at: &usize| live.stages[*at].state != StageState::Cancelled;
        let told: Vec<usize> = held.iter().copied().filter(failed).collect();
        let told = if told.is_empty() && !unsure { held.into_iter().take(1).collect() } else { told };
        let line = |at: usize| words::held(&live.run, &live.stages[at], &live.called(at), time);
        let lines: Vec<String> = told.into_iter().map(line).collect();
        self.to(number, RunState::Paused, "bot");
        if let Some(time) = time {
            self.due_in(number, time);
        }
        lines.iter().for_each(|line| self.must_say(number, "failed", line));
        true
    }

    /// `!skip! 118 [stage] why`: a window, a freeze or a wait that a run waits for is passed.
    pub(super) fn pass(&mut self, number: i64, text: &str, who: &Asker, may: &May) -> Answer {
        self.may_act(number, who, may)?;
        self.reaches(number, may)?;
        let live = self.run_of(number)?;
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let waits = |at: &usize| {
            let one = &live.stages[*at];
            let wait = &live.pipeline.stages[one.spec].wait;
            one.state == StageState::Waiting && matches!(wait, Some(Wait::Pause(_) | Wait::Window(_)))
        };
        let waiting: Vec<usize> = (0..live.stages.len()).filter(waits).collect();
        let named = waiting.iter().copied().find(|at| live.stages[*at].name == first);
        let why = if named.is_some() { rest.trim() } else { text.trim() };
        if why.is_empty() || !may.vouched {
            let text = words::why_pass(number);
            return Err(if may.vouched { Refusal::wrong(text) } else { Refusal::denied(text) });
        }
        match (live.run.state, named.or(waiting.first().copied())) {
            (RunState::AwaitingWindow | RunState::Queued, _) => self.pass_window(number, why, who),
            (state, Some(_)) if named.is_none() && waiting.len() > 1 => {
                let names: Vec<&str> = waiting.iter().map(|at| live.stages[*at].name.as_str()).collect();
                let names = names.join(", ");
                Err(Refusal::conflict(words::which_stage_passes(number, state.name(), names)))
            }
            (_, Some(at)) => self.pass_stage(number, at, why, who, may),
            (state, None) => Err(Refusal::conflict(words::waits_for_no_time(number, state.name().replace('_', " ")))),
        }
    }

    /// A run goes past its window, or its freeze; who has to agree to an emergency is asked.
    fn pass_window(&mut self, number: i64, why: &str, who: &Asker) -> Answer {
        let live = self.run_of(number)?;
        let rules = live.pipeline.rules(&live.run.env).cloned();
        let closed = rules.as_ref().and_then(|rules| self.closed(&live.run, rules, &live.pipeline));
        if closed.is_none() || live.run.passed.is_some() || live.run.reason.is_some() {
            let (ahead, _) = self.ahead(&live.run);
            let ahead = if ahead.is_empty() { words::its_turn() } else { ahead.join(", ") };
            return Err(Refusal::conflict(words::nothing_holds_it_up(number, ahead)));
        }
        let Some(live) = self.runs.get_mut(&number) else { return Err(no_run(number)) };
        live.run.passed = Some(words::says(why, &who.handle));
        let (run, group) = (live.run.clone(), live.run.group.clone());
        self.dirty_runs.insert(number);
        self.event(number, "run", &who.handle, None, json!({"passed": why}));
        let line = words::passed_window(&run, &who.handle, why);
        let emergency = rules.and_then(|rules| rules.emergency);
        match &emergency {
            // Whom it asks then is said in the same line.
            Some(_) => self.say_with_next(number, line),
            None => self.say(number, "start", &line),
        }
        let text = words::log_passed_window(number, words::cut(why, 400));
        self.incident(&who.handle, (&run.app, &run.env), Some(number), &text, None);
        match emergency {
            Some(emergency) => self.await_approval(number, &emergency),
            None => self.next_in(&group),
        }
        Ok(Reply::about(number, Vec::new()))
    }

    /// A stage that waits for the clock waits no more, if somebody may leave out such a stage.
    fn pass_stage(&mut self, number: i64, at: usize, why: &str, who: &Asker, may: &May) -> Answer {
        let live = self.run_of(number)?;
        let (stage, run) = (&live.pipeline.stages[live.stages[at].spec], live.run.clone());
        // Nobody leaves out a window beforehand; who has the usual flag may pass one, with a reason.
        let usual = Skip::Flags(FlagMask::parse(SKIPPER).ok());
        let skip = if stage.skip == Skip::Never { usual } else { stage.skip.clone() };
        if let Skip::Flags(flags) = &skip
            && !may.has(flags.as_ref())
        {
            return Err(Refusal::denied(words::may_not_pass(&stage.name, skip::flag_of(flags.as_ref()))));
        }
        let name = live.stages[at].name.clone();
        let line = words::passed_stage(&run, &name, &who.handle, why);
        if let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at)) {
            one.summary = words::passed_by(&who.handle, words::cut(why, 200));
        }
        self.stage_to(number, at, StageState::Succeeded, &who.handle);
        self.say(number, "start", &line);
        let text = words::log_passed_stage(number, &name, words::cut(why, 400));
        self.incident(&who.handle, (&run.app, &run.env), Some(number), &text, None);
        self.advance(number);
        Ok(Reply::about(number, Vec::new()))
    }
}

impl Live {
    /// The stages that failed and about which people decide.
    fn held_stages(&self) -> Vec<usize> {
        let held = |at: &usize| {
            let one = &self.stages[*at];
            self.pipeline.stages[one.spec].on_failure == OnFailure::Ask && one.state.bad() && !one.forgiven
        };
        (0..self.stages.len()).filter(held).collect()
    }

    /// The first stage that makes it fail, but for these.
    pub(super) fn failing(&self, but: &[usize]) -> Option<String> {
        let fails = |(at, one): &(usize, &StageRun)| one.state.bad() && !one.forgiven && !but.contains(at);
        self.stages.iter().enumerate().find(fails).map(|(_, one)| one.name.clone())
    }

    /// Whether something failed, or is unsure, about which people decide.
    fn asks_people(&self) -> bool {
        self.stages.iter().any(|one| {
            let asks = self.pipeline.stages[one.spec].on_failure == OnFailure::Ask;
            one.state == StageState::NeedsOperator || asks && one.state.bad() && !one.forgiven
        })
    }
}
