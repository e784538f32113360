//! How runs end: what went live, what failed, what is undone.

use std::sync::Arc;

use serde_json::Value;

use super::ask::{Answer, May, Reply};
use super::live::{is_out, touched};
use super::{Effect, Engine, Live, same_place};
use crate::pipelines::model::{OnFailure, RollbackMode};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Before, Millis, Run, RunKind, StageRun, shown};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;
use crate::store::runs::{DeploymentRow, LockRow, Put};

impl Engine {
    /// Ends a run whose stages have all ended; before that what is done in any case.
    pub(super) fn finish(&mut self, number: i64) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        if !live.run.state.active() || live.run.state == RunState::Paused || live.open > 0 {
            return;
        }
        // One of those that were held was tried again, and the others still wait to be decided.
        if !live.finally_begun && self.hold_again(number) {
            return;
        }
        let Some(live) = self.runs.get_mut(&number) else { return };
        if !live.finally_begun {
            live.finally_begun = true;
            let specs: Vec<usize> = (0..live.of.len())
                .filter(|spec| live.pipeline.stages[*spec].finally && !live.of[*spec].is_empty())
                .collect();
            if !specs.is_empty() {
                live.fresh.extend(specs);
                return self.advance(number);
            }
        }
        if live.last > 0 {
            return;
        }
        let state = live.becomes();
        let (kind, parent) = (live.run.kind, live.run.parent);
        match kind {
            RunKind::Rollback => self.rolled_back(number, state),
            RunKind::Deploy => self.deployed(number, state),
        }
        // What failed may be tried again, or undone, with the files that are there.
        let good = state == RunState::Succeeded;
        self.effects.push(Effect::Tidy(number, good));
        self.effects.extend(parent.filter(|_| good).map(|parent| Effect::Tidy(parent, true)));
        self.next_turn(number);
    }

    fn deployed(&mut self, number: i64, state: RunState) {
        if !self.to(number, state, "bot") {
            return;
        }
        self.remember_times(number);
        self.learn(number);
        if self.undone_after(number).is_none() {
            // Before anything is offered that would need it.
            self.forget_given_to(number);
        }
        let Some(live) = self.runs.get_mut(&number) else { return };
        let run = live.run.clone();
        // The stage that decided is told by itself.
        run.failed.iter().for_each(|stage| live.progress.told(stage));
        let rest = live.progress.drain(number);
        let path = self.slowest(number);
        match state {
            RunState::Succeeded => {
                if self.went_live(number) {
                    let undo = run.before.is_some()
                        && self.runs.get(&number).is_some_and(|live| {
                            let stages = undoing(live);
                            !stages.is_empty() && lacks(live, &stages).is_none()
                        });
                    let done = words::live(&run, &path, undo);
                    self.say_end(number, rest, "finished", vec![done.clone()]);
                    self.incident("bot", (&run.app, &run.env), Some(number), &words::log_ok(number, run.shown()), None);
                } else {
                    self.say_end(number, None, "finished", vec![words::nothing_went_out(&run)]);
                    let text = words::log_nothing_out(number, run.shown());
                    self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
                }
            }
            RunState::Failed | RunState::TimedOut => self.failed(number, rest),
            _ => {
                let mut line = words::ended(&run, &run.stopped_by);
                if self.undoable(number).is_ok() {
                    line.push_str(&words::undo_rest(&run));
                }
                self.say_end(number, rest, "finished", vec![line]);
                let text = words::log_ended(number, run.shown(), state.name().replace('_', " "));
                self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
            }
        }
    }

    /// A failure is told at once, with what one may do; what happens by itself is begun or set.
    fn failed(&mut self, number: i64, rest: Option<String>) {
        if self.runs.get(&number).is_some_and(is_out) {
            // It is out there, whatever becomes of it now.
            self.went_live(number);
        }
        // Only what can be undone is offered, promised and begun.
        let target = self.undoable(number).ok().map(|(target, _)| target);
        let Some(live) = self.runs.get(&number) else { return };
        let run = live.run.clone();
        let stage = run.failed.as_ref().and_then(|name| live.stages.iter().find(|one| one.name == *name)).cloned();
        let standing = if touched(live) { String::new() } else { words::standing(&run) };
        let rules = self.pipeline_rules(number).cloned();
        let class =
            stage.as_ref().and_then(|stage| stage.failure.as_ref()).map(|failure| failure.class).unwrap_or_default();
        let shown_target = target.as_ref().map(|target| {
            let takes = self.undo_takes(number).map(|takes| format!(", {}", words::about(takes))).unwrap_or_default();
            format!("{}{takes}", shown(&target.version, &target.sha))
        });
        let suggestion = self.suggestion(number, stage.as_ref(), class);
        let to = self.to_whom(number);
        let told = (suggestion.as_str(), standing.as_str(), to.as_deref());
        let lines = words::failed(&run, stage.as_ref(), rules.as_ref(), shown_target.as_deref(), told);
        self.say_end(number, rest, "failed", lines);
        let text = words::log_failed(number, run.shown(), run.failed.as_deref().unwrap_or("nothing"));
        self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
        match self.undone_after(number).filter(|_| target.is_some()) {
            Some(0) => self.undo_by_itself(number),
            Some(after) => {
                if let Some(live) = self.runs.get_mut(&number) {
                    live.run.undo_at = Some(self.now + after);
                    self.dirty_runs.insert(number);
                }
            }
            None => {}
        }
    }

    /// How long after its end a run that failed is undone by itself, if it is.
    fn undone_after(&self, number: i64) -> Option<Millis> {
        let live = self.runs.get(&number)?;
        if !matches!(live.run.state, RunState::Failed | RunState::TimedOut) {
            return None;
        }
        let rollback = &self.pipeline_rules(number)?.rollback;
        let stage = live.run.failed.as_ref().and_then(|name| live.stages.iter().find(|one| one.name == *name));
        let at_once = stage.is_some_and(|one| live.pipeline.stages[one.spec].on_failure == OnFailure::Rollback);
        match (rollback.mode, rollback.auto_after) {
            _ if at_once => Some(0),
            (RollbackMode::Auto, _) => Some(0),
            (RollbackMode::Offer, Some(after)) => Some(after.as_millis() as Millis),
            _ => None,
        }
    }

    /// Has what runs were given in secret forgotten where they have ended and nothing undoes them by itself any more.
    pub(super) fn forget_given(&mut self) {
        let over = |run: &Run| run.keeps && run.state.ended() && run.undo_at.is_none();
        let over: Vec<i64> =
            self.runs.values().map(|live| &live.run).filter(|run| over(run)).map(|run| run.number).collect();
        over.into_iter().for_each(|number| self.forget_given_to(number));
    }

    fn forget_given_to(&mut self, number: i64) {
        // Whatever its pipeline is now, which may not be readable any more.
        let Some(live) = self.runs.get_mut(&number).filter(|live| live.run.keeps) else { return };
        live.run.keeps = false;
        self.dirty_runs.insert(number);
        self.effects.push(Effect::Forget(number));
    }

    /// Undoes a run as it was promised. It is told as a run of its own; if it cannot begin, that is told instead.
    pub(super) fn undo_by_itself(&mut self, number: i64) {
        let Some(live) = self.runs.get(&number) else { return };
        let who = Asker { handle: "bot".to_owned(), nick: "bot".to_owned(), ..live.run.asker.clone() };
        if let Err(fault) = self.roll_back(number, who) {
            let line = words::not_undone(number, &fault.text);
            self.must_say(number, "failed", &line);
        }
    }

    /// How long undoing a run takes, by how long it took before.
    fn undo_takes(&self, number: i64) -> Option<Millis> {
        let live = self.runs.get(&number)?;
        let times = self.times.get(&live.run.app)?;
        let took: Option<f64> = undoing(live).iter().map(|stage| times.get(&stage.name).copied()).sum();
        took.filter(|took| *took > 0.0).map(|took| took as Millis)
    }

    fn rolled_back(&mut self, number: i64, state: RunState) {
        let good = state == RunState::Succeeded;
        if !self.to(number, state, "bot") {
            return;
        }
        let Some(live) = self.runs.get_mut(&number) else { return };
        let run = live.run.clone();
        // The stage that decided is told by itself.
        run.failed.iter().for_each(|stage| live.progress.told(stage));
        let rest = live.progress.drain(number);
        let parent = run.parent.filter(|parent| self.runs.contains_key(parent));
        let aborted = state == RunState::Cancelled;
        let by = if aborted { run.stopped_by.as_str() } else { "bot" };
        if let Some(parent) = parent {
            self.to(parent, if good { RunState::RolledBack } else { RunState::RollbackFailed }, by);
        }
        if aborted {
            self.say_end(number, rest, "rollback", vec![words::undo_aborted(&run, by)]);
            let text = words::log_undo_aborted(number, by);
            self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
            return;
        }
        if !good {
            let stage = self
                .runs
                .get(&number)
                .and_then(|live| live.stages.iter().find(|one| Some(&one.name) == run.failed.as_ref()).cloned());
            let to = self.to_whom(number);
            let lines = words::failed(&run, stage.as_ref(), None, None, ("", "", to.as_deref()));
            self.say_end(number, rest, "failed", lines);
            self.incident("bot", (&run.app, &run.env), Some(number), &words::log_not_undone(number), None);
            return;
        }
        self.went_live(number);
        self.remember_times(number);
        let mut line = words::live(&run, &[], false);
        let locks = self.pipeline_rules(number).is_some_and(|rules| rules.rollback.lock);
        let place = run.place();
        // Somebody's own lock stays as it is.
        if locks && !self.locks.contains_key(&place) {
            let text = words::log_locked("rolled back");
            self.incident(&run.asker.handle, (&run.app, &run.env), Some(number), &text, None);
            let lock = LockRow {
                place: place.clone(),
                handle: run.asker.handle.clone(),
                reason: words::why_rolled_back(&run.asker.handle),
                since: self.now,
                until: None,
                rollback: true,
                said_in: run.places.first().cloned().unwrap_or_default(),
                run: None,
                warned: None,
            };
            self.puts.push(Put::Lock(lock.clone()));
            self.locks.insert(place.clone(), lock);
            line.push_str(&words::rolled_back_lock(&run));
            // Who wants to hear of locks only hears of this one too.
            let told = self.hearers(number, "rollback");
            self.say_place(&place, &line, None, &told);
        }
        self.say_end(number, None, "rollback", vec![line]);
        self.incident("bot", (&run.app, &run.env), Some(number), &words::log_undone(number, run.shown()), None);
    }

    /// What a rollback of a run would go back to: what was live and validated before it.
    pub(super) fn target(&self, number: i64) -> Option<Before> {
        let run = &self.runs.get(&number)?.run;
        let live = self.live.get(&(run.app.clone(), run.env.clone()));
        match live {
            // It never went live: what is live is what was there before.
            Some(row) if row.run != number => self.good_where(number),
            // What is live and did not prove good is nothing to go back to.
            _ => run.good.clone().or_else(|| run.before.clone()),
        }
    }

    /// `!rollback 131`.
    pub(super) fn rollback(&mut self, number: i64, who: &Asker, may: &May) -> Answer {
        let Some(live) = self.runs.get(&number) else { return Err(no_run(number)) };
        self.may_act(number, who, may)?;
        let place = live.run.place();
        if live.run.state.active() {
            return Err(Refusal::conflict(words::abort_first(number)));
        }
        self.may_undo(&place, who)?;
        self.roll_back(number, who.clone())
    }

    /// Whether somebody may undo something there: not under another's lock, which has its reason.
    fn may_undo(&self, place: &str, who: &Asker) -> Result<(), Refusal> {
        match self.locks.get(place) {
            Some(lock) if !lock.rollback && lock.handle != who.handle => {
                Err(Refusal::conflict(words::locked(lock, self.now, None)))
            }
            _ => Ok(()),
        }
    }

    /// What a run would go back to, and the stages that undo it; else why it cannot be undone now.
    fn undoable(&self, parent: i64) -> Result<(Before, Vec<StageRun>), Refusal> {
        let Some(target) = self.target(parent) else {
            return Err(Refusal::conflict(words::nothing_to_go_back_to(parent)));
        };
        let Some(live) = self.runs.get(&parent) else { return Err(no_run(parent)) };
        let group = live.run.group.clone();
        if let Some(row) = self.came_after(parent) {
            return Err(Refusal::conflict(words::undo_the_newer(row.run)));
        }
        if let Some(other) = self.runs.values().find(|other| other.run.group == group && other.run.state.active()) {
            return Err(Refusal::conflict(words::wait_for_the_other(other.run.number)));
        }
        if live.run.kind == RunKind::Rollback {
            return Err(Refusal::conflict(words::rollback_of_rollback(parent, &live.run.app, &live.run.env)));
        }
        if !live.run.state.may(RunState::RollingBack) {
            return Err(Refusal::conflict(words::nothing_to_undo(parent, live.run.state.name().replace('_', " "))));
        }
        let stages = undoing(live);
        if stages.is_empty() {
            return Err(Refusal::conflict(words::no_way_back(
                parent,
                &live.run.app,
                shown(&target.version, &target.sha),
                &live.run.env,
            )));
        }
        if let Some(param) = lacks(live, &stages) {
            return Err(Refusal::conflict(words::given_is_gone(param)));
        }
        Ok((target, stages))
    }

    /// What went live in the same place after a run had ended.
    pub(super) fn came_after(&self, number: i64) -> Option<&DeploymentRow> {
        let run = &self.runs.get(&number)?.run;
        let row = self.live.get(&(run.app.clone(), run.env.clone())).filter(|row| row.run != number)?;
        run.finished.is_some_and(|at| (row.at, row.run) > (at, number)).then_some(row)
    }

    /// Begins a run that undoes another.
    pub(super) fn roll_back(&mut self, parent: i64, who: Asker) -> Answer {
        let (target, stages) = self.undoable(parent)?;
        let Some(live) = self.runs.get_mut(&parent) else { return Err(no_run(parent)) };
        live.run.undo_at = None;
        let pipeline = Arc::clone(&live.pipeline);
        let mut failed = live.run.clone();
        // Who undoes what a program began hears of it too.
        if !who.place.is_empty() && !failed.places.iter().any(|place| same_place(place, &who.place)) {
            failed.places.push(who.place.clone());
        }
        self.to(parent, RunState::RollingBack, &who.handle);
        self.last_run += 1;
        let number = self.last_run;
        let run = Run {
            number,
            kind: RunKind::Rollback,
            state: RunState::Draft,
            seq: 0,
            version: target.version.clone(),
            reference: target.version.clone(),
            sha: target.sha.clone(),
            before: Some(Before {
                run: parent,
                version: failed.version.clone(),
                sha: failed.sha.clone(),
                ..Before::default()
            }),
            target: Some(target),
            deadline: None,
            parent: Some(parent),
            keeps: false,
            keys: Vec::new(),
            onto: None,
            lines: 0,
            spared: 0,
            unsaid: Vec::new(),
            skipped: Vec::new(),
            guarded: Vec::new(),
            risk: None,
            failed: None,
            ending: None,
            stopped_by: String::new(),
            started: None,
            finished: None,
            queued: None,
            queue_end: None,
            not_before: None,
            due: None,
            undo_at: None,
            reason: None,
            created: self.now,
            approvals: Vec::new(),
            asker: who,
            ..failed
        };
        self.open(run, pipeline, stages);
        self.to(number, RunState::Queued, "bot");
        // A rollback waits for nobody: what it undoes has ended.
        self.launch(number);
        Ok(Reply::about(number, Vec::new()))
    }

    /// `!rollback shop prod`.
    pub(super) fn rollback_place(&mut self, app: &str, env: &str, to: Option<&str>, who: &Asker, may: &May) -> Answer {
        let pipeline = self.catalog.get(app)?;
        self.may_deploy(&pipeline, env, who, may)?;
        if let Some(version) = to {
            return Err(Refusal::wrong(words::deploy_that_version(app, version, env)));
        }
        let Some(row) = self.live.get(&(app.to_owned(), env.to_owned())) else {
            return Err(Refusal::conflict(words::nothing_live(app, env)));
        };
        // What came after it and did not go well may be there in part: that is undone first.
        let half = self.runs.range(row.run + 1..).rev().find(|(_, live)| {
            let run = &live.run;
            run.place() == format!("{app}/{env}")
                && run.kind == RunKind::Deploy
                && run.state.may(RunState::RollingBack)
                && run.state != RunState::Succeeded
                && !undoing(live).is_empty()
                && self.came_after(run.number).is_none()
        });
        let number = half.map_or(row.run, |(number, _)| *number);
        if !self.runs.contains_key(&number) {
            return Err(Refusal::conflict(words::too_long_ago(number, app, env)));
        }
        self.may_undo(&format!("{app}/{env}"), who)?;
        self.roll_back(number, who.clone())
    }

    /// The stages that made a run take as long as it did.
    fn slowest(&self, number: i64) -> Vec<String> {
        let Some(live) = self.runs.get(&number) else { return Vec::new() };
        let took = |one: &StageRun| one.started.zip(one.ended).map_or(0.0, |(from, to)| (to - from) as f64);
        let time = |spec: usize| live.of[spec].iter().map(|at| took(&live.stages[*at])).fold(0.0, f64::max);
        let times: Vec<f64> = (0..live.of.len()).map(time).collect();
        let ran = |spec: &usize| times[*spec] > 0.0 && !live.pipeline.stages[*spec].finally;
        live.pipeline
            .graph
            .critical(&times)
            .0
            .into_iter()
            .filter(ran)
            .map(|spec| live.pipeline.stages[spec].name.clone())
            .collect()
    }

    /// How long stages took counts for the next run; how much longer they could have taken is kept.
    fn remember_times(&mut self, number: i64) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let took = |one: &StageRun| one.started.zip(one.ended).map_or(0.0, |(from, to)| (to - from) as f64);
        let time = |spec: usize| live.of[spec].iter().map(|at| took(&live.stages[*at])).fold(0.0, f64::max);
        let times: Vec<f64> = (0..live.of.len()).map(time).collect();
        let slack = live.pipeline.graph.slack(&times);
        for (at, one) in live.stages.iter_mut().enumerate().filter(|(_, one)| one.started.is_some()) {
            let spare = slack[one.spec] + times[one.spec] - took(one);
            let spare = (spare >= 1000.0 && !live.pipeline.stages[one.spec].finally).then_some(spare as Millis);
            if one.slack != spare {
                one.slack = spare;
                self.dirty_stages.insert((number, at));
            }
        }
        let times = self.times.entry(live.run.app.clone()).or_default();
        for one in live.stages.iter().filter(|one| one.state == StageState::Succeeded) {
            if let Some((from, to)) = one.started.zip(one.ended) {
                let took = (to - from) as f64;
                times.entry(one.name.clone()).and_modify(|time| *time = *time * 0.7 + took * 0.3).or_insert(took);
            }
        }
    }
}

/// The stages of a run that undoes another: for each that began and says how it is undone, the last first.
fn undoing(live: &Live) -> Vec<StageRun> {
    let began = |one: &&StageRun| one.attempt > 0 && live.pipeline.stages[one.spec].rollback.is_some();
    let mut stages: Vec<StageRun> = live
        .stages
        .iter()
        .filter(began)
        .map(|one| StageRun {
            name: format!("undo-{}", one.name),
            spec: one.spec,
            matrix: one.matrix.clone(),
            undo: true,
            // What the stage gave is what its undoing goes by.
            outputs: one.outputs.clone(),
            checkpoint: Some(Value::Object(one.outputs.clone())),
            noted: one.noted.clone(),
            ..StageRun::default()
        })
        .collect();
    stages.reverse();
    stages
}

/// The parameter without which a run cannot be undone: it was given in secret, and is forgotten.
fn lacks<'r>(live: &'r Live, stages: &[StageRun]) -> Option<&'r str> {
    let wanted = |name: &str| stages.iter().any(|one| live.pipeline.stages[one.spec].wants(name, true));
    let mut secret = live.pipeline.params.iter().filter(|param| param.secret && !live.run.keeps);
    secret
        .find(|param| live.run.params.contains_key(&param.name) && wanted(&param.name))
        .map(|param| param.name.as_str())
}

pub(super) fn no_run(number: i64) -> Refusal {
    Refusal::unknown(words::nothing_to_do_it_to(number))
}
