//! What becomes of runs whose pipeline this program cannot read any more: they end, people are told, and may ask anew.

use super::{Effect, Engine};
use crate::pipelines::run::RunKind;
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;

impl Engine {
    /// Ends those that had not. Nothing is tried again by itself: what they would do is not known.
    pub(super) fn end_unreadable(&mut self) {
        let open = |live: &super::Live| live.unreadable.is_some() && !live.run.state.ended();
        let all: Vec<i64> = self.runs.iter().filter(|(_, live)| open(live)).map(|(number, _)| *number).collect();
        // What is being undone ends with the run that undoes it.
        let (undone, ending): (Vec<i64>, Vec<i64>) = all
            .into_iter()
            .partition(|number| self.runs.get(number).is_some_and(|live| live.run.state == RunState::RollingBack));
        ending.iter().for_each(|number| self.end_one_unreadable(*number));
        for number in undone {
            self.to(number, RunState::RollbackFailed, "bot");
        }
        ending.iter().for_each(|number| self.next_turn(*number));
    }

    fn end_one_unreadable(&mut self, number: i64) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let why = live.unreadable.clone().unwrap_or_default();
        let began = live.run.state.active();
        if !began {
            live.run.stopped_by = "bot".to_owned();
        }
        let states: Vec<StageState> = live.stages.iter().map(|one| one.state).collect();
        for (at, state) in states.into_iter().enumerate().filter(|(_, state)| !state.ended()) {
            if state.steps() {
                let Some(one) = self.runs.get(&number).and_then(|live| live.stages.get(at)) else { continue };
                self.effects.push(Effect::Abandon(number, one.name.clone(), one.attempt));
            }
            let next = if state.may(StageState::Cancelled) { StageState::Cancelled } else { StageState::Failed };
            self.stage_to(number, at, next, "bot");
        }
        self.to(number, if began { RunState::Failed } else { RunState::Cancelled }, "bot");
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.fresh.clear();
        let run = live.run.clone();
        self.must_say(number, "failed", &words::unreadable(&run, &why));
        let what = if run.kind == RunKind::Rollback { "rollback" } else { "deploy" };
        let text = words::log_unreadable(what, number, run.shown());
        self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
        self.effects.push(Effect::Tidy(number, false));
        self.effects.push(Effect::Forget(number));
    }
}
