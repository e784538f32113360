//! Whose turn it is: groups, locks, freezes, windows, and everything that is due at a time.

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::json;

use super::begin::before;
use super::skip::asks;
use super::{Engine, Live, code, run_facts};
use crate::executors::Cgroup;
use crate::pipelines::may::rules;
use crate::pipelines::model::{OnBusy, Pipeline, Rules};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Before, Millis, Run, RunKind};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::{calendar, window, words};

/// Whether something else is live than was shown: the same commit once more is not.
fn has_moved(then: Option<&Before>, now: Option<&Before>) -> bool {
    let known = |before: &Before| (before.version.clone(), before.sha.clone());
    let same = then.map(known) == now.map(known) && now.is_some_and(|now| !now.sha.is_empty());
    !same && then.map(|then| then.run) != now.map(|now| now.run)
}

/// How long somebody has to say yes again when their turn comes.
const TURN: Millis = 5 * 60_000;
/// What ended so long before the bot fell may not have been heard.
const JUST: Millis = 60_000;
/// How long after the end of a lock a run that waited begins.
pub(super) const AFTER_LOCK: Millis = 30_000;

impl Engine {
    /// Puts a run into the queue of its group; it begins at once if nothing is in its way.
    pub(super) fn enqueue(&mut self, number: i64) {
        self.to(number, RunState::Queued, "bot");
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.queued = Some(now);
        let (group, busy) = (live.run.group.clone(), live.pipeline.policy.concurrency.on_busy);
        live.run.queue_end = live.pipeline.policy.queue_timeout.map(|time| now + time.as_millis() as Millis);
        live.run.due = live.run.queue_end;
        match busy {
            OnBusy::CancelOlder => {
                self.drop_older(number, &group);
                let older: Vec<i64> = self
                    .runs
                    .values()
                    .filter(|live| {
                        live.run.group == group
                            && live.run.number != number
                            && live.run.kind == RunKind::Deploy
                            && live.run.state.active()
                    })
                    .map(|live| live.run.number)
                    .collect();
                for older in older {
                    self.stop_run(older, RunState::Cancelled, &format!("run {number}"));
                }
            }
            OnBusy::LatestOnly => self.drop_older(number, &group),
            OnBusy::Reject => {
                let holds = |run: &Run| run.group == group && run.number != number && run.state.active();
                let holder = self.runs.values().map(|live| &live.run).find(|run| holds(run)).map(|run| run.number);
                if let Some(holder) = holder {
                    return self.end_waiting(number, RunState::Cancelled, &words::which_runs_there(holder));
                }
            }
            OnBusy::Queue => {}
        }
        self.next_in(&group);
        let Some(live) = self.runs.get(&number).filter(|live| live.run.state == RunState::Queued) else { return };
        let (ahead, place) = self.ahead(&live.run);
        if place > 1 || !ahead.is_empty() {
            let line = words::queued(&live.run, place, &ahead);
            self.say(number, "start", &line);
        }
    }

    /// Drops the runs that were asked for before this one and have not begun.
    fn drop_older(&mut self, number: i64, group: &str) {
        let waits = |run: &Run| match run.state {
            RunState::Queued | RunState::AwaitingWindow | RunState::AwaitingApproval => true,
            RunState::AwaitingConfirm => run.queued.is_some(),
            _ => false,
        };
        let older = |run: &&Run| run.group == group && run.number < number && run.kind == RunKind::Deploy && waits(run);
        let older: Vec<i64> = self.runs.values().map(|live| &live.run).filter(older).map(|run| run.number).collect();
        // None of them begins because another one goes.
        older.into_iter().for_each(|older| self.give_up(older, RunState::Cancelled, &format!("run {number}")));
    }

    /// Who is before a run: words for each, and its place.
    pub(super) fn ahead(&self, run: &Run) -> (Vec<String>, usize) {
        let mut words = Vec::new();
        let same = |other: &&Run| other.group == run.group && other.number != run.number;
        for live in self.runs.values().filter(|live| same(&&live.run) && live.run.state.active()) {
            let doing = live
                .stages
                .iter()
                .find(|one| one.state.steps())
                .map_or_else(String::new, |one| words::in_stage(&one.name));
            let left = self
                .left(live.run.number)
                .map(|left| format!(" {}", crate::pipelines::words::about(left)))
                .unwrap_or_default();
            words.push(words::ahead_runs(live.run.number, words::quiet(live.run.asker.called()), doing, left));
        }
        let waiting = self.queue_of(&run.group);
        let mine = waiting.iter().position(|number| *number == run.number).unwrap_or(waiting.len());
        for number in &waiting[..mine] {
            if let Some(live) = self.runs.get(number) {
                words.push(words::ahead_next(number, words::quiet(live.run.asker.called())));
            }
        }
        if let Some(lock) = self.locks.get(&run.place()) {
            words.push(words::ahead_lock(words::quiet(&lock.handle)));
        }
        (words, mine + 1)
    }

    /// The runs that wait for a group, the most urgent first, then in order.
    fn queue_of(&self, group: &str) -> Vec<i64> {
        let waits = |run: &Run| run.group == group && matches!(run.state, RunState::Queued | RunState::AwaitingWindow);
        let mut all: Vec<&Live> = self.runs.values().filter(|live| waits(&live.run)).collect();
        all.sort_by_key(|live| (Reverse(live.priority()), live.run.queued, live.run.number));
        all.into_iter().map(|live| live.run.number).collect()
    }

    /// How long a run still takes, by how long its stages took before.
    pub(super) fn left(&self, number: i64) -> Option<Millis> {
        let live = self.runs.get(&number)?;
        let times = self.times.get(&live.run.app)?;
        let left = |spec: usize| {
            let one = |at: &usize| {
                let one = &live.stages[*at];
                let all = times.get(&one.name).copied().unwrap_or(0.0);
                let ran = one.started.map_or(0.0, |from| (self.now - from) as f64);
                if one.state.ended() { 0.0 } else { (all - ran).max(0.0) }
            };
            live.of[spec].iter().map(one).fold(0.0, f64::max)
        };
        let times: Vec<f64> = (0..live.of.len()).map(left).collect();
        let total = live.pipeline.graph.critical(&times).1;
        (total > 0.0).then_some(total as Millis)
    }

    /// A run ended or went away: it is the next one's turn.
    pub(super) fn next_turn(&mut self, number: i64) {
        let Some(group) = self.runs.get(&number).map(|live| live.run.group.clone()) else { return };
        self.next_in(&group);
    }

    /// Gives the turn in a group to the first that may have it.
    pub(super) fn next_in(&mut self, group: &str) {
        let taken = |run: &Run| {
            run.group == group && (run.state.active() || run.state == RunState::AwaitingConfirm && run.queued.is_some())
        };
        if self.runs.values().any(|live| taken(&live.run)) {
            return;
        }
        let Some(number) = self.queue_of(group).first().copied() else { return };
        let Some(live) = self.runs.get(&number) else { return };
        let run = live.run.clone();
        if run.not_before.is_some_and(|at| at > self.now)
            || run.reason.is_none() && self.locks.contains_key(&run.place())
        {
            return;
        }
        let pipeline = std::sync::Arc::clone(&live.pipeline);
        let closed = match pipeline.rules(&run.env) {
            Some(rules) if run.overrides().is_none() => self.closed(&run, rules, &pipeline),
            _ => None,
        };
        if let Some((why, until)) = closed {
            if run.state == RunState::Queued {
                self.to(number, RunState::AwaitingWindow, "bot");
                let line = words::waits_for_window(&run, &why, until, self.now);
                self.say(number, "start", &line);
            }
            let look = until.unwrap_or(self.now + 3_600_000).max(self.now + 1000);
            return self.due_at(number, run.queue_end.map_or(look, |end| look.min(end)));
        }
        // Whether it waited for its turn, for people or for the yes: what it was shown against is not there any more.
        let now_live = self.live_where(number);
        let moved = has_moved(run.before.as_ref(), now_live.as_ref());
        if moved && run.reason.is_none() {
            return self.ask_again(number, now_live);
        }
        if let Some(live) = self.runs.get_mut(&number).filter(|_| moved) {
            live.run.onto = Some(words::went_between(live.run.before.as_ref(), now_live.as_ref()));
        }
        self.launch_checked(number);
    }

    /// What a run was asked for on is not there any more: the one who asked has to say yes to what it is now, and those who agreed have
    /// to agree to that; where nobody has to, it is said.
    fn ask_again(&mut self, number: i64, now_live: Option<Before>) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let was = live.run.before.take();
        let between = now_live.as_ref().map_or(0, |before| before.run);
        // Of what was to go out some may have gone; where what is live is none of it, nobody knows how many are left.
        let left = now_live.as_ref().and_then(|live_now| {
            let at = live.run.commits.iter().position(|commit| commit.sha == live_now.sha);
            at.filter(|_| !live_now.sha.is_empty())
        });
        live.run.commits.truncate(left.unwrap_or(0));
        live.run.commit_count = left.map_or(0, |left| left as u64);
        live.run.onto = Some(words::went_between(was.as_ref(), now_live.as_ref()));
        live.run.before = now_live;
        if !live.run.approvals.is_empty() {
            // They agreed to something else.
            let run = &mut live.run;
            run.approvals.clear();
            run.code = code(&json!([number, run.sha, run.params, run.pipeline, run.env, run.skipped, between]));
        }
        let confirm = live.pipeline.rules(&live.run.env).is_none_or(|rules| rules.confirm) && !live.run.unattended;
        self.dirty_runs.insert(number);
        if !confirm {
            if !self.agree_anew(number) {
                self.launch_checked(number);
            }
            return;
        }
        let queued = live.run.queued;
        if live.run.state == RunState::AwaitingWindow {
            self.to(number, RunState::Queued, "bot");
        }
        self.to(number, RunState::AwaitingConfirm, "bot");
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.queued = queued;
        let line = words::your_turn(&live.run, was.as_ref(), between, live.run.commit_count);
        self.due_in(number, TURN);
        self.must_say(number, "start", &line);
    }

    /// Asks people to agree to a run to which nobody has agreed as it is now; whether there are such people.
    pub(super) fn agree_anew(&mut self, number: i64) -> bool {
        let Some(live) = self.runs.get(&number).filter(|live| live.run.approvals.is_empty()) else { return false };
        let facts = run_facts(&live.run);
        let Some(approvals) = live.pipeline.rules(&live.run.env).and_then(|rules| asks(&live.run, rules, &facts))
        else {
            return false;
        };
        self.await_approval(number, &approvals);
        true
    }

    /// What is live where a run goes.
    pub(super) fn live_where(&self, number: i64) -> Option<Before> {
        let run = &self.runs.get(&number)?.run;
        self.live.get(&(run.app.clone(), run.env.clone())).map(before)
    }

    /// What is live there and has proven good; else what was before that.
    pub(super) fn good_where(&self, number: i64) -> Option<Before> {
        let run = &self.runs.get(&number)?.run;
        let row = self.live.get(&(run.app.clone(), run.env.clone()))?;
        if row.validated { Some(before(row)) } else { self.runs.get(&row.run)?.run.good.clone() }
    }

    /// A run begins.
    pub(super) fn launch(&mut self, number: i64) {
        self.to(number, RunState::Running, "bot");
        let now = self.now;
        let (now_live, good) = (self.live_where(number), self.good_where(number));
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.started.get_or_insert(now);
        if live.run.kind == RunKind::Deploy {
            // What is there now, not what was there when it was asked for, is what undoing it goes back to.
            live.run.before = now_live;
            live.run.good = good;
        }
        live.run.deadline = live.pipeline.policy.timeout.map(|time| now + time.as_millis() as Millis);
        live.run.due = live.run.deadline;
        live.recount();
        let run = live.run.clone();
        let line = words::started(&run, self.settings.link.as_deref());
        let class = if run.kind == RunKind::Rollback { "rollback" } else { "start" };
        self.say(number, class, &line);
        self.incident(
            &run.asker.handle,
            (&run.app, &run.env),
            Some(number),
            &words::log_started(number, run.shown(), words::skipping(&run)),
            None,
        );
        self.advance(number);
    }

    /// Why nothing may begin there now, and until when.
    pub(super) fn closed(&self, run: &Run, rules: &Rules, pipeline: &Pipeline) -> Option<(String, Option<Millis>)> {
        self.closed_at(&run.env, rules, pipeline, self.now)
    }

    /// The same at another moment.
    pub(super) fn closed_at(
        &self,
        env: &str,
        rules: &Rules,
        pipeline: &Pipeline,
        at: Millis,
    ) -> Option<(String, Option<Millis>)> {
        let scopes = ["*".to_owned(), env.to_owned(), format!("{}/{env}", pipeline.app)];
        let freezes = scopes.iter().filter_map(|scope| self.freezes.get(scope));
        let freezes = freezes.filter(|freeze| freeze.until.is_none_or(|until| until > at));
        let mut closed: Vec<(String, Option<Millis>)> =
            freezes.map(|freeze| (freeze.reason.clone(), freeze.until)).collect();
        let now = DateTime::from_timestamp_millis(at).unwrap_or_default();
        for file in &rules.freeze {
            let path = pipeline.calendar(file);
            match self.calendars.get(&path) {
                // A calendar that cannot be read may freeze everything: whoever knows better says so with an override.
                None => closed.push((words::calendar_unread(&path.display()), None)),
                Some(Err(fault)) => closed.push((format!("{}: {fault}", path.display()), None)),
                Some(Ok(frozen)) => {
                    let named = |one: &calendar::Frozen| match one.name.as_str() {
                        "" => words::line_of(file.display(), one.line),
                        name => name.to_owned(),
                    };
                    let active = |one: &calendar::Frozen| Some((named(one), Some(one.active(now)?.timestamp_millis())));
                    closed.extend(frozen.iter().filter_map(active));
                }
            }
        }
        // Of several the one that ends last counts: until then nothing begins.
        let last = |(_, until): &(String, Option<Millis>)| Reverse(until.unwrap_or(Millis::MAX));
        if let Some(last) = closed.into_iter().min_by_key(last) {
            return Some(last);
        }
        if window::open(&rules.windows, now).is_none() {
            let next = window::next(&rules.windows, now).map(|next| next.timestamp_millis());
            return Some((words::outside_its_window(), next));
        }
        None
    }

    pub(super) fn next_everywhere(&mut self) {
        let mut groups: Vec<String> = self
            .runs
            .values()
            .filter(|live| matches!(live.run.state, RunState::Queued | RunState::AwaitingWindow))
            .map(|live| live.run.group.clone())
            .collect();
        groups.sort();
        groups.dedup();
        groups.iter().for_each(|group| self.next_in(group));
    }

    /// A lock is gone: the first run that waits for the place begins in a while. Gives its number and who asked.
    pub(super) fn after_lock(&mut self, place: &str) -> Option<(i64, String)> {
        let waits =
            |run: &&mut Run| run.place() == place && matches!(run.state, RunState::Queued | RunState::AwaitingWindow);
        let now = self.now;
        let mut all: Vec<&mut Run> = self.runs.values_mut().map(|live| &mut live.run).filter(waits).collect();
        all.sort_by_key(|run| (run.queued, run.number));
        for run in &mut all {
            run.not_before = Some(now + AFTER_LOCK);
        }
        let numbers: Vec<i64> = all.iter().map(|run| run.number).collect();
        let first = all.first().map(|run| (run.number, run.asker.handle.clone()));
        self.dirty_runs.extend(numbers);
        first
    }

    /// Ends a run that has not begun, and says so.
    pub(super) fn end_waiting(&mut self, number: i64, state: RunState, by: &str) {
        self.give_up(number, state, by);
        self.next_turn(number);
    }

    fn give_up(&mut self, number: i64, state: RunState, by: &str) {
        self.to(number, state, by);
        let Some(live) = self.runs.get(&number).filter(|live| live.run.state == state) else { return };
        let (line, run) = (words::ended(&live.run, by), live.run.clone());
        self.must_say(number, "finished", &line);
        let text = words::log_given_up(number, state.name().replace('_', " "), by);
        self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
    }

    /// Stops a run that is under way. What is done in any case is still done.
    pub(super) fn stop_run(&mut self, number: i64, state: RunState, by: &str) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        if !live.run.state.active() || live.run.ending.is_some() {
            return;
        }
        live.run.ending = Some(state);
        live.run.paused = None;
        by.clone_into(&mut live.run.stopped_by);
        self.to(number, RunState::Cancelling, by);
        let Some(live) = self.runs.get(&number) else { return };
        let finally = |at: &usize| live.pipeline.stages[live.stages[*at].spec].finally;
        let open: Vec<usize> =
            (0..live.stages.len()).filter(|at| !live.stages[*at].state.ended() && !finally(at)).collect();
        if let Some(live) = self.runs.get_mut(&number) {
            let pipeline = Arc::clone(&live.pipeline);
            // What is done in any case goes on.
            live.opened.iter_mut().zip(&pipeline.stages).for_each(|(open, stage)| *open &= stage.finally);
        }
        open.into_iter().for_each(|at| self.stop_stage(number, at));
        self.advance(number);
    }

    /// Whether an environment of an app is known.
    pub(super) fn known_place(&self, place: &str) -> Result<(String, String), Refusal> {
        let (app, env) = place.split_once('/').ok_or_else(|| words::no_place(place))?;
        let pipeline = self.catalog.get(app)?;
        rules(&pipeline, env)?;
        Ok((app.to_owned(), env.to_owned()))
    }

    /// Words that were said while the network was away are not worth saying any more; the newest state is. The first time a network is
    /// there after a start nobody was away, but we were: also what ended just before we fell is told.
    pub(in crate::pipelines) fn back(&mut self, network: &str, away: Option<Millis>) {
        let (begun, newest) = self.begun;
        let missed = |run: &Run| away.is_some() || run.number <= newest;
        let open = self.runs.values().filter(|live| live.run.state.active() && missed(&live.run));
        let open: Vec<i64> = open.map(|live| live.run.number).collect();
        let just = |at: Millis| (begun - JUST..=begun).contains(&at);
        let over = self.runs.values().filter(|live| live.run.state.ended() && live.run.finished.is_some_and(just));
        let over: Vec<i64> = over.filter(|_| self.fell && away.is_none()).map(|live| live.run.number).collect();
        for number in over {
            let Some(live) = self.runs.get(&number) else { continue };
            let line = words::ended_before(&live.run);
            self.say_back(number, network, &line);
        }
        for number in open {
            let Some(live) = self.runs.get(&number) else { continue };
            let running: Vec<&str> = live
                .stages
                .iter()
                .filter(|one| !one.state.ended() && one.state != StageState::Pending)
                .map(|one| one.name.as_str())
                .collect();
            let doing = if running.is_empty() { words::its_last_stages() } else { running.join(", ") };
            let line = match away {
                Some(away) => words::away(&live.run, &doing, away),
                None => words::anew(&live.run, &doing),
            };
            self.say_back(number, network, &line);
        }
    }

    /// What stages share: each pool, what is taken of it and by whom, and how many wait.
    pub(super) fn slots(&self) -> Vec<String> {
        let line = |row: crate::pipelines::pools::PoolRow| {
            let name = |(number, at): &(i64, usize)| {
                let live = self.runs.get(number)?;
                Some(format!("{number} {}", live.stages.get(*at)?.name))
            };
            let held: Vec<String> = self.pools.holders(&row.pool).into_iter().filter_map(name).take(8).collect();
            let held = if held.is_empty() { String::new() } else { format!(" ({})", held.join(", ")) };
            words::pool(row.pool, row.used, row.size, held, row.waiting)
        };
        let mut lines: Vec<String> = self.pools.rows().into_iter().map(line).collect();
        lines.extend(words::limited(Cgroup::available(), self.pools.machine()));
        lines
    }
}
