//! Which runner does a stage: who has its labels, who waits for one, and where it is tried again.

use super::{Engine, failure};
use crate::executors::{Class, End, Failure, suggest};
use crate::pipelines::model::Resources;
use crate::pipelines::run::{Millis, StageRun};
use crate::pipelines::runners::{Found, Host, How, Offer, Recovery, RunnerRow, recovery};
use crate::pipelines::state::StageState;
use crate::pipelines::words;

/// The pool of stages that name none. What is done elsewhere takes nothing of it.
const UNNAMED: &str = "default";

impl Engine {
    /// Runners came, went, or offer something else.
    pub(super) fn offered(&mut self, offers: Vec<Offer>) {
        self.runners.take(offers);
        self.grant_runners();
    }

    /// All runners, as they are now.
    pub(super) fn runner_rows(&self) -> Vec<RunnerRow> {
        self.runners.rows()
    }

    /// The labels that a stage wants of its runner now; nothing where this bot does it as ever.
    fn wanted(&self, number: i64, at: usize) -> Result<Option<Vec<String>>, String> {
        let Some(live) = self.runs.get(&number) else { return Ok(None) };
        let one = &live.stages[at];
        let stage = &live.pipeline.stages[one.spec];
        let Some(wanted) = stage.runner.as_ref().filter(|wanted| !one.undo || wanted.undo) else { return Ok(None) };
        let facts = self.facts(number, Some(one), wanted.roots().into_iter());
        wanted.filled(&facts).map(Some)
    }

    /// Whether a stage has a runner, or needs none. If not, it waits for one and that is told, or it fails.
    pub(super) fn finds_runner(&mut self, number: i64, at: usize) -> bool {
        let key = (number, at);
        let labels = match self.wanted(number, at) {
            Ok(Some(labels)) => labels,
            Ok(None) => {
                self.seat(key, None);
                return true;
            }
            Err(fault) => {
                self.fail(number, at, failure(Class::Config, fault));
                return false;
            }
        };
        if self.runners.holds(&key) {
            return true;
        }
        let avoid = self.stage_of(key).and_then(|one| one.avoid.clone());
        match self.runners.find(&labels, avoid.as_deref()) {
            Found::Free(host) => {
                self.runners.hold(key, &host.name);
                self.seat(key, Some(host));
                true
            }
            found => {
                self.waits_for_runner(key, &labels, &found);
                false
            }
        }
    }

    fn stage_of(&self, (number, at): (i64, usize)) -> Option<&StageRun> {
        self.runs.get(&number)?.stages.get(at)
    }

    /// Notes where a stage is done.
    fn seat(&mut self, (number, at): (i64, usize), host: Option<Host>) {
        let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at)) else { return };
        if one.runner != host {
            one.runner = host;
            self.dirty_stages.insert((number, at));
        }
        if one.state == StageState::WaitingResources && one.due.take().is_some() {
            // It may still wait for a slot of a pool, and nothing ends that.
            self.dirty_stages.insert((number, at));
            if let Some(live) = self.runs.get_mut(&number) {
                live.timed.remove(&at);
            }
        }
    }

    /// A stage waits for a runner: who could do it is told, and when it fails for want of one.
    fn waits_for_runner(&mut self, key: (i64, usize), labels: &[String], found: &Found) {
        let (number, at) = key;
        let first = !self.runners.waiting.contains(&key);
        if first {
            self.runners.waiting.push(key);
        }
        if self.stage_of(key).is_some_and(|one| one.state == StageState::Ready) {
            self.stage_to(number, at, StageState::WaitingResources, "bot");
        }
        let (now, usual) = (self.now, self.own.wait);
        let Some(live) = self.runs.get_mut(&number) else { return };
        let patience = live.pipeline.policy.queue_timeout.unwrap_or(usual).as_millis() as Millis;
        let one = &mut live.stages[at];
        let due = *one.due.get_or_insert(now + patience);
        live.timed.insert(at);
        if !self.runners.told {
            // Just begun: who is there is known in a moment.
            return;
        }
        let text = words::waits_for_runner(labels, found);
        if one.summary == text {
            return;
        }
        one.summary.clone_from(&text);
        let name = one.name.clone();
        self.dirty_stages.insert(key);
        if matches!(found, Found::Busy(_)) {
            live.progress.going(&name, words::doing(&name, &text, &[]), now);
        } else {
            // Nobody does it before somebody does something.
            let line = words::lacks_runner(&live.run, &name, &text, due - now);
            self.say(number, "start", &line);
        }
    }

    /// Stages that waited for a runner and have one now.
    pub(super) fn grant_runners(&mut self) {
        for key in self.runners.waiting.clone() {
            let (number, at) = key;
            let waits = self.stage_of(key).is_some_and(|one| one.state == StageState::WaitingResources);
            let still = self.runs.get(&number).is_none_or(|live| live.run.paused.is_some());
            if !waits || still {
                self.runners.release(&key, How::Otherwise);
                continue;
            }
            if self.finds_runner(number, at) && self.takes_slots(number, at) {
                self.start(number, at);
            }
            // What it is called may have been a fault.
            self.advance(number);
        }
    }

    /// Whether a stage has the slots of pools that it takes; else it waits for them.
    pub(super) fn takes_slots(&mut self, number: i64, at: usize) -> bool {
        let Some(resources) = self.uses(number, at) else { return true };
        let priority = self.runs.get(&number).map_or(0, super::Live::priority);
        self.pools.ask((number, at), resources, priority)
    }

    /// What a stage takes of what this bot shares out. What another runner does takes nothing of this machine, and of pools only what it
    /// names.
    pub(super) fn uses(&self, number: i64, at: usize) -> Option<Resources> {
        let live = self.runs.get(&number)?;
        let one = live.stages.get(at)?;
        let resources = live.pipeline.stages[one.spec].resources.clone();
        match &one.runner {
            Some(host) if !host.here => {
                (resources.pool != UNNAMED).then(|| Resources { limits: Default::default(), ..resources })
            }
            _ => Some(resources),
        }
    }

    /// A stage gives back what it has, and waits for nothing any more.
    pub(super) fn gives_back(&mut self, number: i64, at: usize, end: Option<&End>) {
        let how = match end {
            Some(End::Done { .. }) => How::Done,
            Some(End::Failed(failure)) if is_lost(failure) => How::Lost,
            Some(End::Failed(_) | End::Unsure(_)) => How::Failed,
            Some(End::Stopped) | None => How::Otherwise,
        };
        self.pools.release(&(number, at));
        self.runners.release(&(number, at), how);
        let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at)) else { return };
        match how {
            How::Failed | How::Lost => one.avoid = one.runner.as_ref().map(|host| host.name.clone()),
            How::Done => one.avoid = None,
            How::Otherwise => {}
        }
    }

    /// What ran before a restart has its runner still.
    pub(super) fn keeps_runner(&mut self, number: i64, at: usize) {
        let Some(host) = self.stage_of((number, at)).and_then(|one| one.runner.clone()) else { return };
        self.runners.hold((number, at), &host.name);
    }

    /// No runner came in time.
    pub(super) fn no_runner_came(&mut self, number: i64, at: usize) {
        self.gives_back(number, at, None);
        let waited = self.stage_of((number, at)).map(|one| one.summary.clone()).unwrap_or_default();
        let line = words::no_runner_came(waited);
        if let Some(one) = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at)) {
            one.summary.clear();
        }
        self.fail(number, at, failure(Class::InfraLost, line));
    }

    /// What is told of a stage that was lost and that only a person can decide about.
    pub(super) fn lost_words(&self, number: i64, at: usize, failure: &Failure) -> String {
        let away = self.stage_of((number, at)).and_then(|one| one.runner.as_ref()).is_some_and(|host| !host.here);
        if !away {
            return words::restarted_while(&failure.line);
        }
        format!("{}; {}", failure.line, self.elsewhere(number, at).unwrap_or_default())
    }

    /// Where a stage that failed on a runner would be tried again.
    fn elsewhere(&self, number: i64, at: usize) -> Option<String> {
        let host = self.stage_of((number, at))?.runner.as_ref()?;
        let labels = self.wanted(number, at).ok().flatten()?;
        Some(words::elsewhere(&host.name, &self.runners.others(&labels, &host.name)))
    }

    /// What helps against the failure of a stage.
    pub(super) fn suggestion(&self, number: i64, stage: Option<&StageRun>, class: Class) -> String {
        let at = stage.and_then(|one| self.runs.get(&number)?.stages.iter().position(|other| other.name == one.name));
        let elsewhere = at.filter(|_| recovery(class) == Recovery::RetryElsewhere);
        elsewhere.and_then(|at| self.elsewhere(number, at)).unwrap_or_else(|| suggest(class).to_owned())
    }
}

/// Whether a step was lost with what did it: a command that ended has a code.
pub(in crate::pipelines) fn is_lost(failure: &Failure) -> bool {
    failure.class == Class::InfraLost && failure.exit.is_none()
}
