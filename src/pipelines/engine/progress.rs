//! How steps go on, told to whoever follows.

use serde_json::{Map, Value};

use super::{Effect, Engine, Live, News};
use crate::executors::Failure;
use crate::pipelines::run::RunKind;
use crate::pipelines::words;

impl Engine {
    /// An executor says how it goes: kept nowhere, said when there is room.
    pub(super) fn doing(&mut self, number: i64, at: usize, text: &str) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get(at).filter(|one| !one.state.ended()) else { return };
        let (name, words) = (one.name.clone(), words::doing(&one.name, text));
        let news = News { text: words.clone(), ..live.news("doing", Some(at)) };
        live.progress.going(&name, words, now);
        self.effects.push(Effect::News(news));
    }
}

/// What undoes something goes before everything else.
const UNDOING: u64 = 1000;
impl Engine {
    /// An attempt failed. What it gave is kept, unless it is made again.
    pub(super) fn attempt_failed(
        &mut self,
        (number, at): (i64, usize),
        failure: Failure,
        resumed: Option<bool>,
        outputs: Map<String, Value>,
    ) {
        self.tried(number, at, failure, resumed);
        let one = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at));
        if let Some(one) = one.filter(|one| one.state.ended()) {
            one.outputs.extend(outputs);
            self.dirty_stages.insert((number, at));
        }
    }
}

impl Live {
    /// How urgent it is: what is more urgent goes first where slots are scarce.
    pub(super) fn priority(&self) -> u64 {
        if self.run.kind == RunKind::Rollback {
            return UNDOING;
        }
        self.pipeline.rules(&self.run.env).map_or(0, |rules| rules.priority)
    }

    /// What is told of a run, or of one of its stages, as it is now.
    pub(super) fn news(&self, kind: &'static str, stage: Option<usize>) -> News {
        let one = stage.and_then(|stage| self.stages.get(stage));
        let total = self.stages.len();
        // The end of a stage is told before it is counted.
        let ends = one.filter(|stage| stage.state.ended() && !self.pipeline.stages[stage.spec].finally);
        let open = self.open.saturating_sub(usize::from(ends.is_some()));
        News {
            run: self.run.number,
            seq: self.run.seq,
            app: self.run.app.clone(),
            env: self.run.env.clone(),
            state: self.run.state,
            stage: one.map(|stage| stage.name.clone()),
            stage_state: one.map(|stage| stage.state),
            kind,
            text: one.filter(|stage| stage.state.ended()).map(words::stage).unwrap_or_default(),
            line: one.filter(|stage| stage.state.bad()).and_then(|stage| Some(stage.failure.as_ref()?.line.clone())),
            requester: self.run.asker.handle.clone(),
            version: self.run.shown(),
            done: (total - open.min(total), total),
        }
    }
}
