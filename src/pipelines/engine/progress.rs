//! How steps go on, told to whoever follows.

use serde_json::{Map, Value};

use super::{Effect, Engine, Live, News};
use crate::executors::{Class, Failure};
use crate::pipelines::model::Stage;
use crate::pipelines::run::RunKind;
use crate::pipelines::state::StageState;
use crate::pipelines::words;
use crate::store::runs::Put;

impl Engine {
    /// An executor says how it goes: kept nowhere, said when there is room.
    pub(super) fn doing(&mut self, number: i64, at: usize, text: &str) {
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get(at).filter(|one| !one.state.ended()) else { return };
        let stage = &live.pipeline.stages[one.spec];
        let first = stage.actions.first();
        // What only watches for a while says what comes after it.
        let watches = one.state == StageState::Validating || first.is_some_and(|action| action.executor == "verify");
        let last = |spec: &&usize| !live.pipeline.stages[**spec].finally;
        let then = live.feeds[one.spec].iter().filter(|_| watches && !one.undo).filter(last);
        let then: Vec<String> = then.map(|spec| live.pipeline.stages[*spec].name.clone()).collect();
        let (name, words) = (one.name.clone(), words::doing(&live.called(at), text, &then));
        let news = News { text: words.clone(), ..live.news("doing", Some(at)) };
        live.progress.going(&name, words, now);
        self.effects.push(Effect::News(news));
    }
}

impl Engine {
    /// The work of a stage begins.
    pub(super) fn began(&mut self, number: i64, at: usize, attempt: u32) {
        let one = self.runs.get(&number).and_then(|live| live.stages.get(at));
        if one.is_some_and(|one| one.state == StageState::Starting && one.attempt == attempt) {
            self.stage_to(number, at, StageState::Running, "bot");
        }
    }

    /// The work of a stage is done; what proves it good begins.
    pub(super) fn validating(&mut self, number: i64, at: usize, attempt: u32, note: Value) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get(at) else { return };
        if one.state != StageState::Running || one.attempt != attempt {
            return;
        }
        // What is done is not done again, whatever becomes of the bot.
        self.puts.push(Put::Note(number, one.name.clone(), i64::from(attempt), note.to_string()));
        live.notes.insert(at, note);
        self.stage_to(number, at, StageState::Validating, "bot");
    }
}

impl Engine {
    /// Who holds what a stage waits for, where that has a name of its own.
    pub(super) fn tell_holders(&mut self, number: i64, at: usize) {
        let Some(live) = self.runs.get(&number) else { return };
        let pool = &live.pipeline.stages[live.stages[at].spec].resources.pool;
        if pool == UNNAMED {
            return;
        }
        let name = |(number, at): &(i64, usize)| {
            let live = self.runs.get(number)?;
            Some(format!("{number} {}", live.stages.get(*at)?.name))
        };
        let held: Vec<String> = self.pools.holders(pool).into_iter().filter_map(name).take(3).collect();
        let text = match held.as_slice() {
            [] => words::waits_for(pool),
            held => words::waits_for_holders(pool, held.join(", ")),
        };
        let now = self.now;
        let Some(live) = self.runs.get_mut(&number) else { return };
        let one = &mut live.stages[at];
        one.summary.clone_from(&text);
        live.progress.going(&one.name, words::doing(&one.name, &text, &[]), now);
    }
}

/// The pool of stages that name none.
const UNNAMED: &str = "default";
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
        let state = self.runs.get(&number).and_then(|live| live.stages.get(at)).map(|one| one.state);
        // What was being proven good is done, whatever became of the looking.
        let ran = matches!(state, Some(StageState::Starting | StageState::Running));
        if ran && resumed.is_some() && failure.class == Class::InfraLost {
            self.stage_to(number, at, StageState::Lost, "bot");
        }
        self.tried(number, at, failure, resumed);
        let one = self.runs.get_mut(&number).and_then(|live| live.stages.get_mut(at));
        if let Some(one) = one.filter(|one| one.state.ended()) {
            one.outputs.extend(outputs);
            self.dirty_stages.insert((number, at));
        }
    }
}

/// The name of a stage, with its share if it has one.
pub(super) fn with_share(name: &str, stage: &Stage) -> String {
    let first = stage.actions.first();
    match first.and_then(|action| action.settings.get("weight")?.as_u64()) {
        Some(share) => format!("{name} {share}%"),
        None => name.to_owned(),
    }
}

impl Live {
    /// What a stage is called: a canary with its share, `canary 10%`.
    pub(super) fn called(&self, at: usize) -> String {
        let one = &self.stages[at];
        with_share(&one.name, &self.pipeline.stages[one.spec])
    }

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
        // A stage that ends is told of before it is counted.
        let ends = kind == "stage" && one.is_some_and(|stage| stage.state.ended());
        let left = (self.open + self.last).saturating_sub(usize::from(ends));
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
            done: (total.saturating_sub(left), total),
        }
    }
}
