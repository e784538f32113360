//! What is foretold of runs, and what is learned from how they end.

use super::Engine;
use crate::pipelines::run::{Millis, Risk, Run, RunKind};
use crate::pipelines::state::RunState;
use crate::predict::{History, Outcome, Past, PreRun, Report, replay};

/// So many of the newest runs of an app are lived through again when the bot begins.
pub(in crate::pipelines) const PAST: u32 = 500;

/// What is foretold of a run that nobody has asked for, and how good forecasts for its app were.
#[derive(Clone, Debug, PartialEq)]
pub struct Foretold {
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// What is foretold; nothing where too little is known.
    pub risk: Option<Risk>,
    /// How good forecasts were.
    pub report: Report,
}

impl Engine {
    /// Takes in the runs of an app that were before the bot was, in any order.
    pub(in crate::pipelines) fn lived(&mut self, app: &str, runs: &[Run]) {
        let past: Vec<Past> = runs.iter().filter(|run| run.kind == RunKind::Deploy).map(past).collect();
        let (history, open) = replay(&past);
        self.foretold.extend(open);
        self.histories.insert(app.to_owned(), history);
    }

    /// Foretells how a run that is asked for will end.
    pub(super) fn foretell(&mut self, run: &mut Run) {
        let history = self.histories.entry(run.app.clone()).or_default();
        let place = (run.env.as_str(), run.asker.handle.as_str());
        let known = history.before(place, run.commit_count, run.files.as_deref(), run.created);
        run.risk = risk(history, &known);
        let told = history.foretell(&known).risk;
        self.foretold.insert(run.number, (known, told));
    }

    /// What would be foretold of a run of nothing new.
    pub(super) fn would_foretell(&self, app: &str, env: &str, who: &str) -> Foretold {
        let none = History::default();
        let history = self.histories.get(app).unwrap_or(&none);
        let known = history.before((env, who), 0, None, self.now);
        Foretold {
            app: app.to_owned(),
            environment: env.to_owned(),
            risk: risk(history, &known),
            report: history.report(),
        }
    }

    /// A run ended: it is learned from once. What somebody stopped tells nothing.
    pub(super) fn learn(&mut self, number: i64) {
        let Some((known, risk)) = self.foretold.remove(&number) else { return };
        let Some(run) = self.runs.get(&number).map(|live| &live.run) else { return };
        let Some((_, failed)) = outcome(run) else { return };
        let outcome = Outcome { known, risk, env: run.env.clone(), who: run.asker.handle.clone(), failed };
        self.histories.entry(run.app.clone()).or_default().ended(&outcome);
    }
}

fn risk(history: &History, known: &PreRun) -> Option<Risk> {
    let told = history.foretell(known);
    history.enough().then(|| Risk {
        risk: told.risk,
        usual: told.usual,
        reasons: told.reasons,
        alike: told.alike,
        useful: history.report().useful(),
    })
}

/// When a run ended, and whether badly; nothing of one that goes on, or was called off.
fn outcome(run: &Run) -> Option<(Millis, bool)> {
    let failed = match run.state {
        RunState::Succeeded => false,
        RunState::Failed | RunState::TimedOut | RunState::RolledBack | RunState::RollbackFailed => true,
        _ => return None,
    };
    Some((run.finished.filter(|_| run.started.is_some())?, failed))
}

fn past(run: &Run) -> Past {
    Past {
        run: run.number,
        env: run.env.clone(),
        who: run.asker.handle.clone(),
        commits: run.commit_count,
        files: run.files.clone(),
        asked: run.created,
        ended: outcome(run),
    }
}
