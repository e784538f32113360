//! After a restart: what the records say is what there is, and what ran is taken up again.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Effect, Engine, Live};
use crate::pipelines::model::Pipeline;
use crate::pipelines::run::{Run, StageRun};
use crate::pipelines::state::StageState;
use crate::store::runs::{Loaded, OutboxRow, Put};

impl Engine {
    /// Takes over what was written. `pipelines` are the versions that open runs were begun with, or why they cannot be read any more.
    pub(in crate::pipelines) fn load(
        &mut self,
        loaded: Loaded,
        pipelines: &HashMap<String, Result<Arc<Pipeline>, String>>,
    ) {
        self.last_run = loaded.last_run;
        self.last_incident = loaded.last_incident.unwrap_or_default();
        self.locks = loaded.locks.into_iter().map(|row| (row.place.clone(), row)).collect();
        self.freezes = loaded.freezes.into_iter().map(|row| (row.scope.clone(), row)).collect();
        self.bookings = loaded.bookings.into_iter().map(|row| (row.id, row)).collect();
        self.last_booking = loaded.last_booking;
        self.live = loaded.live.into_iter().map(|row| ((row.app.clone(), row.env.clone()), row)).collect();
        self.say_again(loaded.unsaid);
        let mut stages: HashMap<i64, Vec<StageRun>> = HashMap::new();
        for row in loaded.stages {
            match serde_json::from_str::<StageRun>(&row.detail) {
                Ok(stage) => stages.entry(row.run).or_default().push(stage),
                Err(fault) => {
                    tracing::error!(run = row.run, stage = %row.name, %fault, "A stage in the records cannot be read")
                }
            }
        }
        for row in loaded.runs {
            let Ok(run) = serde_json::from_str::<Run>(&row.detail) else {
                tracing::error!(run = row.number, "A run in the records cannot be read");
                self.unreadable.insert(row.number);
                continue;
            };
            let mut own = stages.remove(&row.number).unwrap_or_default();
            own.sort_by_key(|one| (if one.undo { usize::MAX - one.spec } else { one.spec }, one.name.clone()));
            let (pipeline, unreadable) = match pipelines.get(&row.pipeline) {
                Some(Ok(pipeline)) => (Arc::clone(pipeline), None),
                other => {
                    let why = other.and_then(|known| known.as_ref().err().cloned());
                    let now = self.catalog.get(&run.app).ok();
                    (Arc::new(Pipeline::stand_in(&run, &own, now.as_deref())), Some(why.unwrap_or_default()))
                }
            };
            let mut live = Live::new(run, pipeline, own);
            live.unreadable = unreadable;
            let secret = live.unreadable.is_some() || live.pipeline.params.iter().any(|param| param.secret);
            if live.run.state.ended() && !live.run.keeps && secret {
                // It was to be forgotten when the bot before us fell.
                self.effects.push(Effect::Forget(row.number));
            }
            for attempt in loaded.attempts.iter().filter(|attempt| attempt.run == row.number) {
                let Some(at) = live.stages.iter().position(|one| one.name == attempt.stage) else { continue };
                live.begun.insert(at, attempt.begun);
                if let Some(note) = attempt.note.as_deref().and_then(|note| serde_json::from_str(note).ok()) {
                    live.notes.insert(at, note);
                }
            }
            live.run.seq = loaded.events.get(&row.number).copied().unwrap_or(live.run.seq);
            self.runs.insert(row.number, live);
        }
    }

    /// What was to be said and was not: of each run the newest to each place, what is older is out of date. What belongs to no run is about
    /// locks and freezes, each line about another: all of it is said.
    fn say_again(&mut self, mut unsaid: Vec<OutboxRow>) {
        unsaid.sort_by_key(|row| (row.at, row.run, row.dedupe.len(), row.dedupe.clone()));
        let newest: HashMap<(i64, String), i64> =
            unsaid.iter().map(|row| ((row.run, row.target.clone()), row.at)).collect();
        for row in unsaid {
            let key = (row.run, row.target);
            // A failure is several lines of one moment.
            let said = key.0 == 0 || newest.get(&key) == Some(&row.at);
            let (dedupe, target, text) = (row.dedupe, key.1, row.text);
            if said {
                self.effects.push(Effect::Say { run: key.0, dedupe, target, text, passing: false });
            } else {
                self.puts.push(Put::Said(dedupe, self.now));
            }
        }
    }

    /// Takes up again what ran: each step finds out by itself how far it came.
    pub(in crate::pipelines) fn resume(&mut self) {
        self.end_unreadable();
        let open: Vec<i64> =
            self.runs.iter().filter(|(_, live)| live.run.state.active()).map(|(number, _)| *number).collect();
        // What runs holds what it uses before anybody else asks.
        for number in &open {
            let Some(live) = self.runs.get(number) else { continue };
            let steps = live.stages.iter().enumerate().filter(|(_, one)| one.state.steps());
            for at in steps.map(|(at, _)| at).collect::<Vec<usize>>() {
                self.keeps_runner(*number, at);
                if let Some(resources) = self.uses(*number, at) {
                    self.pools.hold((*number, at), resources);
                }
            }
        }
        for number in open {
            let Some(live) = self.runs.get_mut(&number) else { continue };
            live.finally_begun = live
                .stages
                .iter()
                .any(|one| live.pipeline.stages[one.spec].finally && one.state != StageState::Pending);
            live.recount();
            let states: Vec<(usize, StageState)> = live.stages.iter().map(|one| one.state).enumerate().collect();
            for (at, state) in states {
                let Some(live) = self.runs.get(&number) else { continue };
                let finally = live.pipeline.stages[live.stages[at].spec].finally;
                match state {
                    state if state.steps() => {
                        let order = self.order(number, at, true);
                        self.effects.extend(order.map(|order| Effect::Start(Box::new(order))));
                        if !finally && live_ending(self, number) {
                            self.effects.push(Effect::Stop(number, at));
                        }
                    }
                    StageState::Ready | StageState::WaitingResources => self.begin_again(number, at, state),
                    _ => {}
                }
            }
            self.advance(number);
        }
        let waiting: Vec<String> =
            self.runs.values().filter(|live| !live.run.state.ended()).map(|live| live.run.group.clone()).collect();
        waiting.iter().for_each(|group| self.next_in(group));
    }

    fn begin_again(&mut self, number: i64, at: usize, state: StageState) {
        if self.runs.get(&number).is_none_or(|live| live.run.paused.is_some()) || !self.finds_runner(number, at) {
            return;
        }
        if self.takes_slots(number, at) {
            self.start(number, at);
        } else if state == StageState::Ready {
            self.stage_to(number, at, StageState::WaitingResources, "bot");
        }
    }
}

fn live_ending(engine: &Engine, number: i64) -> bool {
    engine.runs.get(&number).is_some_and(|live| live.run.ending.is_some())
}
