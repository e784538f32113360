//! Stages that people or the clock do instead of an executor.

use serde_json::{Value, json};

use super::{Engine, code, failure};
use crate::executors::Class;
use crate::pipelines::model::{Approvals, Wait};
use crate::pipelines::run::Millis;
use crate::pipelines::state::StageState;
use crate::pipelines::{window, words};
use crate::store::runs::{LockRow, Put};

/// How often a stage that waits for a lock looks again.
const LOOK: Millis = 30_000;

impl Engine {
    /// A stage that people or the clock have to do.
    pub(super) fn wait(&mut self, number: i64, at: usize, wait: &Wait) {
        let began = self.now;
        let one = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at));
        if let Some(one) = one.filter(|_| !matches!(wait, Wait::Nothing)) {
            one.started = Some(began);
        }
        match wait {
            Wait::Nothing => self.stage_to(number, at, StageState::Succeeded, "bot"),
            Wait::Unlock => self.give_lock(number, at),
            Wait::Lock(..) => {
                self.stage_to(number, at, StageState::Waiting, "bot");
                self.take_lock(number, at);
            }
            Wait::Pause(time) => {
                self.stage_to(number, at, StageState::Waiting, "bot");
                self.stage_due(number, at, self.now + time.as_millis() as Millis);
            }
            Wait::Window(windows) => {
                let now = chrono::DateTime::from_timestamp_millis(self.now).unwrap_or_default();
                if window::open(windows, now).is_some() {
                    return self.stage_to(number, at, StageState::Succeeded, "bot");
                }
                self.stage_to(number, at, StageState::Waiting, "bot");
                let next = window::next(windows, now).map(|next| next.timestamp_millis());
                self.stage_due(number, at, next.unwrap_or(self.now + 86_400_000));
                let Some(live) = self.runs.get(&number) else { return };
                let line = words::stage_waits(&live.run, &live.stages[at].name, next, self.now);
                self.say(number, "start", &line);
            }
            Wait::Approve(approvals) if !self.has_to_agree(number, at, approvals) => {
                self.stage_done(number, at, words::nobody_has_to_agree());
            }
            Wait::Approve(approvals) => {
                self.stage_to(number, at, StageState::Waiting, "bot");
                self.stage_approval(number, at, approvals, "");
            }
        }
    }

    /// Whether the condition of an approval holds. One that cannot be told asks people.
    fn has_to_agree(&self, number: i64, at: usize, approvals: &Approvals) -> bool {
        let (Some(when), Some(live)) = (&approvals.when, self.runs.get(&number)) else { return true };
        let facts = self.facts(number, Some(&live.stages[at]), when.names().iter().map(String::as_str));
        when.holds(&facts).unwrap_or(true)
    }

    /// A stage locks the place of its run for who asked for it. While somebody else has it locked, it looks again.
    pub(super) fn take_lock(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        let stage = &live.pipeline.stages[live.stages[at].spec];
        let Some(Wait::Lock(time, why)) = stage.wait.clone() else { return };
        let (run, place) = (live.run.clone(), live.run.place());
        let patience = live.stages[at].started.unwrap_or(self.now) + stage.timeout.as_millis() as Millis;
        // A lock that somebody made by hand, also who asked, has its own reason and end.
        match self.locks.get(&place).filter(|lock| lock.run != Some(number)) {
            Some(lock) if patience <= self.now => {
                let line = words::locked(lock, self.now, None);
                return self.fail(number, at, failure(Class::StateLock, line));
            }
            Some(lock) => {
                let look = lock.until.unwrap_or(Millis::MAX).min(self.now + LOOK).min(patience);
                return self.stage_due(number, at, look.max(self.now + 1));
            }
            None => {}
        }
        let lock = LockRow {
            place: place.clone(),
            handle: run.asker.handle.clone(),
            reason: words::why_stage_locks(words::cut(&why, 400), number),
            since: self.now,
            until: time.map(|time| self.now + time.as_millis() as Millis),
            rollback: false,
            said_in: run.places.first().cloned().unwrap_or_default(),
            run: Some(number),
            warned: None,
        };
        self.puts.push(Put::Lock(lock.clone()));
        self.locks.insert(place.clone(), lock.clone());
        self.incident(&run.asker.handle, (&run.app, &run.env), Some(number), &words::log_locked(&why), None);
        // Where one hears how the run goes one hears of it there.
        let told = self.hearers(number, "progress");
        self.say_place(&place, &words::lock_made(&lock, self.now, 0), None, &told);
        self.stage_done(number, at, words::is_locked_now(&place));
    }

    /// A stage takes away the lock of who asked for its run. What somebody else has locked meanwhile stays locked.
    fn give_lock(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        let (run, place) = (live.run.clone(), live.run.place());
        if self.locks.get(&place).is_none_or(|lock| lock.run != Some(number)) {
            return self.stage_done(number, at, words::was_not_locked(&place));
        }
        let Some(lock) = self.locks.remove(&place) else { return };
        self.puts.push(Put::Unlock(place.clone()));
        self.incident(&run.asker.handle, (&run.app, &run.env), Some(number), &words::log_unlocked_own(), None);
        let told = self.hearers(number, "progress");
        self.say_place(&place, &words::unlocked(&lock, &lock.handle, "", false, None), None, &told);
        self.after_lock(&place);
        self.stage_done(number, at, words::is_open_again(&place));
    }

    fn stage_done(&mut self, number: i64, at: usize, summary: String) {
        if let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at)) {
            one.summary = summary;
        }
        self.stage_to(number, at, StageState::Succeeded, "bot");
    }

    /// People have to agree to a stage: to its plan, if it has one.
    pub(super) fn stage_approval(&mut self, number: i64, at: usize, approvals: &Approvals, plan: &str) {
        let until = self.now + approvals.expires.as_millis() as Millis;
        self.stage_due(number, at, until);
        let Some(live) = self.runs.get_mut(&number) else { return };
        let (one, run) = (&mut live.stages[at], &live.run);
        let planned = one.outputs.get("plan").and_then(Value::as_str).map(str::to_owned);
        one.code = planned.unwrap_or_else(|| code(&json!([run.number, one.name, run.sha, run.params, one.outputs])));
        one.approvals.clear();
        let plan = if plan.is_empty() { words::stage_is(&one.name) } else { words::plan_is(plan) };
        let line = words::needs_approval(&live.run, approvals, &plan, &live.stages[at].code.clone(), until, self.now);
        self.dirty_stages.insert((number, at));
        self.must_say(number, "start", &line);
    }

    fn stage_due(&mut self, number: i64, at: usize, due: Millis) {
        if let Some(live) = self.runs.get_mut(&number) {
            live.stages[at].due = Some(due);
            live.timed.insert(at);
            self.dirty_stages.insert((number, at));
        }
    }
}
