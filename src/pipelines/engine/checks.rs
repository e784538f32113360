//! Others are asked whether a run may begin: when it is asked for, and once more before it begins if that was a while ago.

use super::begin::asked_words;
use super::{Effect, Engine, run_facts};
use crate::pipelines::outside::Checked;
use crate::pipelines::run::{Millis, RunKind};
use crate::pipelines::state::RunState;
use crate::pipelines::words;

/// How long what others said counts.
const FRESH: Millis = 60_000;

impl Engine {
    /// A run begins, unless others have to be asked first; then its turn stays its own.
    pub(super) fn launch_checked(&mut self, number: i64) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        if live.looking {
            return;
        }
        let run = &live.run;
        let asks = live.pipeline.rules(&run.env).is_some_and(|rules| rules.asks_outside().next().is_some());
        let fresh = run.checked.is_some_and(|at| at + FRESH > now);
        if !asks || fresh || run.reason.is_some() || run.kind == RunKind::Rollback {
            return self.launch(number);
        }
        live.looking = true;
        let look = Effect::Look(number, live.pipeline.clone(), run.env.clone(), run_facts(run));
        self.effects.push(look);
    }

    /// What they said: the run begins, or it does not and that is told.
    pub(super) fn checked(&mut self, number: i64, checks: &[Checked]) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.looking = false;
        if !matches!(live.run.state, RunState::Queued | RunState::AwaitingWindow) {
            return;
        }
        let faults = |check: &Checked| Some((check.name.clone(), check.fault.clone()?));
        let faults: Vec<(String, String)> = checks.iter().filter_map(faults).collect();
        let (run, group) = (live.run.clone(), live.run.group.clone());
        if faults.is_empty() {
            live.run.checked = Some(now);
            self.dirty_runs.insert(number);
            return self.next_in(&group);
        }
        self.to(number, RunState::Rejected, "bot");
        let line = words::unchecked(&run.place(), &faults, &asked_words(&run));
        self.must_say(number, "failed", &words::did_not_begin(number, run.shown(), line));
        let names: Vec<&str> = faults.iter().map(|(name, _)| name.as_str()).collect();
        let text = words::log_did_not_begin(number, names.join(", "));
        self.incident("bot", (&run.app, &run.env), Some(number), &text, None);
        self.next_turn(number);
    }
}
