//! Everything that is due at a time.

use chrono::DateTime;
use serde_json::Value;

use super::{Engine, same_place};
use crate::pipelines::model::Wait;
use crate::pipelines::run::{Asker, Millis};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::{window, words};
use crate::store::runs::{LockRow, Put};

/// How long before its end a lock is warned of.
const WARN: Millis = 10 * 60_000;

impl Engine {
    /// The next moment at which something is due.
    pub(in crate::pipelines) fn next_due(&self) -> Option<Millis> {
        let runs = self.runs.values().flat_map(|live| {
            let ended = live.run.state.ended();
            let still = ended || live.run.paused.is_some();
            let stages = live.timed.iter().filter(move |_| !still).filter_map(|at| live.stages[*at].due);
            let progress = live.progress.due(live.room()).filter(|_| !ended);
            let due = live.run.due.filter(|_| !ended);
            due.into_iter()
                .chain(live.run.undo_at)
                .chain(
                    live.run
                        .not_before
                        .filter(|_| matches!(live.run.state, RunState::Queued | RunState::AwaitingWindow)),
                )
                .chain(progress)
                .chain(stages)
        });
        let locks = self.locks.values().flat_map(|lock| {
            let warning = lock.until.map(|until| until - WARN).filter(|_| !self.warned_of(lock));
            lock.until.into_iter().chain(warning)
        });
        let freezes = self.freezes.values().filter_map(|freeze| freeze.until);
        let bookings = self.bookings.values().map(|booking| booking.at);
        runs.chain(locks).chain(freezes).chain(bookings).chain(self.digest_at).chain(self.calendars_due()).min()
    }

    /// Does what is due.
    pub(in crate::pipelines) fn tick(&mut self) {
        // Somebody who waited first may have gone.
        if self.pools.busy() {
            self.grant();
        }
        self.look_at_calendars();
        self.windows_open();
        self.digest();
        let due: Vec<i64> = self
            .runs
            .values()
            .filter(|live| live.run.due.is_some_and(|due| due <= self.now) && !live.run.state.ended())
            .map(|live| live.run.number)
            .collect();
        for number in due {
            self.run_due(number);
        }
        let undo: Vec<i64> = self
            .runs
            .values()
            .filter(|live| live.run.undo_at.is_some_and(|at| at <= self.now))
            .map(|live| live.run.number)
            .collect();
        for number in undo {
            let Some(live) = self.runs.get_mut(&number) else { continue };
            live.run.undo_at = None;
            self.dirty_runs.insert(number);
            self.undo_by_itself(number);
        }
        self.stages_due();
        self.places_due();
        let mut waiting: Vec<String> = Vec::new();
        for live in self.runs.values_mut() {
            let waits = matches!(live.run.state, RunState::Queued | RunState::AwaitingWindow);
            if waits && live.run.not_before.is_some_and(|at| at <= self.now) {
                live.run.not_before = None;
                self.dirty_runs.insert(live.run.number);
                waiting.push(live.run.group.clone());
            }
        }
        waiting.iter().for_each(|group| self.next_in(group));
        let mut lines: Vec<(i64, &str, String)> = Vec::new();
        for (number, live) in self.runs.iter_mut().filter(|(_, live)| !live.run.state.ended()) {
            let (room, class) = (live.room(), if live.progress.urgent() { "failed" } else { "progress" });
            lines.extend(live.progress.take(*number, self.now, room).map(|line| (*number, class, line)));
        }
        for (number, class, line) in lines {
            self.say_passing(number, class, &line);
        }
    }

    /// A window that opens now is told, with the runs that waited for it.
    fn windows_open(&mut self) {
        let mut opened: Vec<(String, String, Millis, Vec<String>)> = Vec::new();
        let waiting = self.runs.values().filter(|live| {
            live.run.state == RunState::AwaitingWindow && live.run.due.is_some_and(|due| due <= self.now)
        });
        let waiting = waiting.map(|live| {
            let words = words::waiting(&live.run.app, live.run.shown(), words::quiet(live.run.asker.called()));
            (live.run.app.clone(), live.run.env.clone(), words, live.run.asker.channel().map(str::to_owned))
        });
        let booked = self.bookings.values().filter(|booking| booking.at <= self.now).filter_map(|booking| {
            let detail: Value = serde_json::from_str(&booking.detail).ok()?;
            let (app, env) = (detail.get("app")?.as_str()?.to_owned(), detail.get("env")?.as_str()?.to_owned());
            let what = detail.get("ref").and_then(Value::as_str).unwrap_or(words::NEWEST);
            let words = words::waiting(&app, what, words::quiet(&booking.handle));
            let who: Option<Asker> = serde_json::from_value(detail.get("who")?.clone()).ok();
            Some((app, env, words, who.and_then(|who| who.channel().map(str::to_owned))))
        });
        // Each place hears of what it hears of anyway, and of what was asked for there.
        for (app, env, words, asked_in) in waiting.chain(booked).collect::<Vec<_>>() {
            let Some(until) = self.just_opened(&app, &env) else { continue };
            let mut targets = self.ears(&format!("{app}/{env}"));
            if let Some(place) = asked_in {
                // The name with the network is the one that its run is told by: lines to one place keep their order.
                targets.retain(|target| !same_place(target, &place));
                targets.push(place);
            }
            for target in targets {
                let known = opened.iter_mut().find(|row| row.0 == env && same_place(&row.1, &target));
                match known {
                    Some(row) => row.3.push(words.clone()),
                    None => opened.push((env.clone(), target, until, vec![words.clone()])),
                }
            }
        }
        for (env, target, until, booked) in opened {
            let key = format!("window-{env}:{}:{target}", self.now);
            self.outbox(0, key, target, &words::window_open(&env, until, self.now, &booked), false);
        }
    }

    /// Until when a place is open whose window opened within the last minute.
    fn just_opened(&self, app: &str, env: &str) -> Option<Millis> {
        let pipeline = self.catalog.get(app).ok()?;
        let windows = &pipeline.rules(env)?.windows;
        let at = |millis: Millis| DateTime::from_timestamp_millis(millis);
        let before = window::open(windows, at(self.now - 60_000)?);
        if windows.is_empty() || before.is_some() {
            return None;
        }
        Some(window::open(windows, at(self.now)?)?.timestamp_millis())
    }

    pub(super) fn run_due(&mut self, number: i64) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.due = None;
        self.dirty_runs.insert(number);
        match live.run.state {
            RunState::AwaitingConfirm if live.run.away.is_some() => self.nobody_says_yes(number),
            RunState::AwaitingConfirm if live.run.queued.is_some() => {
                let line = words::passed(&live.run);
                self.to(number, RunState::Expired, "bot");
                self.must_say(number, "finished", &line);
                self.next_turn(number);
            }
            RunState::Draft | RunState::AwaitingConfirm => {
                self.to(number, RunState::Expired, "bot");
            }
            RunState::AwaitingApproval | RunState::Queued => self.end_waiting(number, RunState::Expired, "bot"),
            RunState::AwaitingWindow if live.run.queue_end.is_some_and(|end| end <= self.now) => {
                self.end_waiting(number, RunState::Expired, "bot");
            }
            RunState::AwaitingWindow => {
                // If it is another's turn, what is left is how long it may wait.
                live.run.due = live.run.queue_end;
                let group = live.run.group.clone();
                self.next_in(&group);
            }
            RunState::Running => self.stop_run(number, RunState::TimedOut, "bot"),
            RunState::Paused if live.run.paused.is_some() => self.stop_run(number, RunState::Cancelled, "bot"),
            RunState::Paused => self.stop_run(number, RunState::Failed, "bot"),
            _ => {}
        }
    }

    pub(super) fn stages_due(&mut self) {
        let due = |live: &super::Live| -> Vec<usize> {
            live.timed.iter().copied().filter(|at| live.stages[*at].due.is_some_and(|due| due <= self.now)).collect()
        };
        let all: Vec<(i64, Vec<usize>)> = self
            .runs
            .iter()
            .filter(|(_, live)| live.run.state.active() && live.run.paused.is_none())
            .map(|(number, live)| (*number, due(live)))
            .filter(|(_, due)| !due.is_empty())
            .collect();
        for (number, stages) in all {
            for at in stages {
                let Some(live) = self.runs.get(&number) else { continue };
                match live.stages[at].state {
                    StageState::RetryWait => {
                        self.stage_to(number, at, StageState::Ready, "bot");
                        self.again_stage(number, at);
                    }
                    StageState::WaitingResources => self.no_runner_came(number, at),
                    StageState::Waiting => match live.pipeline.stages[live.stages[at].spec].wait {
                        Some(Wait::Pause(_) | Wait::Window(_)) => {
                            self.stage_to(number, at, StageState::Succeeded, "bot")
                        }
                        Some(Wait::Lock(..)) => self.take_lock(number, at),
                        _ => {
                            let line = words::nobody_agreed();
                            self.fail(number, at, super::failure(crate::executors::Class::Timeout, line));
                        }
                    },
                    _ => {}
                }
            }
            self.advance(number);
        }
    }

    /// Whether it was told that a lock ends soon; one that was made for less is not told at all.
    fn warned_of(&self, lock: &LockRow) -> bool {
        lock.until.is_some_and(|until| lock.warned == Some(until) || until - lock.since <= WARN)
    }

    /// That it was told is written with the lock, so that the next bot does not tell it again.
    fn warn_of(&mut self, lock: LockRow, until: Millis) {
        let lock = LockRow { warned: Some(until), ..lock };
        self.say_place(&lock.place, &words::lock_ends(&lock, until - self.now), Some(&lock.said_in), &[]);
        self.puts.push(Put::Lock(lock.clone()));
        self.locks.insert(lock.place.clone(), lock);
    }

    pub(super) fn places_due(&mut self) {
        for lock in self.locks.values().cloned().collect::<Vec<_>>() {
            let Some(until) = lock.until else { continue };
            if until <= self.now {
                self.locks.remove(&lock.place);
                self.puts.push(Put::Unlock(lock.place.clone()));
                let (app, env) = lock.place.split_once('/').unwrap_or((&lock.place, ""));
                self.incident("bot", (app, env), None, &words::log_lock_over(&lock.handle), None);
                self.say_place(&lock.place, &words::lock_over(&lock), Some(&lock.said_in), &[]);
                self.after_lock(&lock.place);
            } else if until - WARN <= self.now && !self.warned_of(&lock) {
                self.warn_of(lock, until);
            }
        }
        for freeze in self.freezes.values().cloned().collect::<Vec<_>>() {
            if freeze.until.is_some_and(|until| until <= self.now) {
                self.freezes.remove(&freeze.scope);
                self.puts.push(Put::Thaw(freeze.scope.clone()));
                let (app, env) = freeze.scope.split_once('/').unwrap_or(("", &freeze.scope));
                self.incident("bot", (app, env), None, &words::log_freeze_over(), None);
                self.say_place(&freeze.scope, &words::thawed(&freeze), None, &[]);
                self.next_everywhere();
            }
        }
        let booked: Vec<i64> =
            self.bookings.values().filter(|booking| booking.at <= self.now).map(|booking| booking.id).collect();
        for id in booked {
            self.booked(id);
        }
    }
}
