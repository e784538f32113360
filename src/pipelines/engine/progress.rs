//! How steps go on, told to whoever follows.

use super::{Effect, Engine, News};
use crate::pipelines::words;

impl Engine {
    /// An executor says how it goes: kept nowhere, said when there is room.
    pub(super) fn doing(&mut self, number: i64, at: usize, text: &str) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get(at).filter(|one| !one.state.ended()) else { return };
        let (name, words) = (one.name.clone(), words::doing(&one.name, text));
        let total = live.stages.len();
        let news = News {
            run: number,
            seq: live.run.seq,
            app: live.run.app.clone(),
            env: live.run.env.clone(),
            state: live.run.state,
            stage: Some(name.clone()),
            stage_state: Some(one.state),
            kind: "doing",
            text: words.clone(),
            line: None,
            requester: live.run.asker.handle.clone(),
            version: live.run.shown(),
            done: (total - live.open.min(total), total),
        };
        live.progress.going(&name, words, now);
        self.effects.push(Effect::News(news));
    }
}
