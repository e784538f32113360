//! What a run would be, for who looks before they ask: the same rules, and nothing is begun.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::Engine;
use super::ask::{May, Prepared};
use super::begin::planned;
use super::rows::{hex, run_facts};
use super::skip::asks;
use crate::pipelines::model::Pipeline;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Run};
use crate::pipelines::state::RunState;
use crate::pipelines::words;

/// Characters of the code that stands for a plan.
const CODE: usize = 16;

/// A run as it would be.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The run; its number is not given to it yet.
    pub run: Run,
    /// What it would run.
    pub pipeline: Arc<Pipeline>,
    /// What the channel would be shown.
    pub line: String,
    /// Stands for what is shown here; `Prepared::shown` asks for this and nothing else.
    pub code: String,
    /// Whether who asks has to say yes to it afterwards.
    pub confirm: bool,
    /// Who has to agree before it begins, if anybody has to.
    pub approvals: Option<String>,
    /// Who has the place locked, if somebody has.
    pub lock: Option<String>,
    /// Runs that go before it.
    pub ahead: Vec<i64>,
}

impl Engine {
    pub(super) fn preview(&mut self, prepared: &Prepared, who: Asker, may: &May) -> Result<Preview, Refusal> {
        let (pipeline, rules, run) = self.considered(prepared, who, may)?;
        // No run has this number yet.
        self.foretold.remove(&run.number);
        self.busy(&pipeline, &run)?;
        let eta = self.eta(&run, &pipeline);
        let line = words::plan(&run, &planned(&run, &pipeline), eta, &rules, &prepared.checks);
        let approvals =
            asks(&run, &rules, &run_facts(&run)).map(|approvals| words::wanted_but(&approvals, run.asker.called()));
        let lock = self.locks.get(&run.place()).filter(|_| run.reason.is_none());
        let waits = |state: RunState| !state.ended() && state != RunState::Draft && state != RunState::AwaitingConfirm;
        let same = self.runs.values().filter(|live| live.run.group == run.group && waits(live.run.state));
        Ok(Preview {
            line,
            code: plan_code(&run),
            confirm: rules.confirm && !prepared.unattended,
            approvals,
            lock: lock.map(|lock| words::locked(lock, self.now, None)),
            ahead: same.map(|live| live.run.number).collect(),
            pipeline,
            run,
        })
    }
}

/// Stands for what would be done: what goes out, what it replaces, where, by which version of the pipeline, with which choices.
pub(super) fn plan_code(run: &Run) -> String {
    let before = run.before.as_ref().map(|before| before.run);
    let shown = json!([run.app, run.env, run.sha, run.version, before, run.params, run.pipeline, run.skipped]);
    hex(&Sha256::digest(shown.to_string().as_bytes()))[..CODE].to_owned()
}
