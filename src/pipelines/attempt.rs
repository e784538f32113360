//! One attempt of a stage: its actions one after the other, each watched until it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::collect::{bytes, told};
use super::engine::{Msg, Order};
use super::expr::Facts;
use super::model::{Action, Stage, Undo};
use super::remote::Ear;
use super::runners::Errand;
use super::steps::Inner;
use super::template;
use super::words;
use crate::executors::{
    About, Class, End, Failure, Hands, Keeper, Masker, Step, StepLog, left_outputs, scrub, step_token,
};

/// How often it is looked whether a step still says something.
const LOOK: Duration = Duration::from_secs(1);
/// How long a step that was told to end may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What this one is told are arguments.
const ARGUMENTS: &str = "shell";

/// What actions of a stage that are done gave.
type Done = Arc<Mutex<Vec<Value>>>;
/// What the first action of a stage noted last.
type First = Arc<Mutex<Option<Value>>>;

/// What a step works with.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) workspace: PathBuf,
    pub(super) env: Vec<(String, Secret)>,
    /// Every secret that was filled in for the stage so far.
    pub(super) secrets: Vec<Secret>,
    /// What the run was given in secret, by the names of its parameters.
    pub(super) given: BTreeMap<String, Secret>,
}

impl Place {
    /// The secret that the run was given and that would be an argument of a command.
    fn as_argument(&self, action: &Action, settings: &Value) -> Option<&str> {
        let told = |value: &Secret| action.executor == ARGUMENTS && holds(settings, value.reveal());
        self.given.iter().find(|(_, value)| told(value)).map(|(name, _)| name.as_str())
    }
}

/// One attempt of a stage.
pub(super) struct Attempt {
    pub(super) inner: Arc<Inner>,
    pub(super) order: Arc<Order>,
    pub(super) place: Place,
    pub(super) ear: Arc<Ear>,
}

/// How one action begins: which of the stage's it is, what it noted before a restart, and what is kept of the others.
struct Turn {
    at: usize,
    noted: Option<Value>,
    done: Done,
    first: First,
}

/// What an order has to do, in this order.
pub(super) fn actions(order: &Order) -> &[Action] {
    order.pipeline.stages[order.spec].deeds(order.undo)
}

impl Stage {
    /// What it does, or what undoes it.
    fn deeds(&self, undo: bool) -> &[Action] {
        match (&self.rollback, undo) {
            (Some(Undo::Action(action)), true) => std::slice::from_ref(action),
            (_, true) => self.actions.get(..1).unwrap_or_default(),
            _ => &self.actions,
        }
    }

    /// Whether what it does, or what undoes it, is told a parameter.
    pub(super) fn wants(&self, param: &str, undo: bool) -> bool {
        let mut texts: Vec<&str> = self.env.iter().map(|(_, text)| text.as_str()).collect();
        self.deeds(undo).iter().for_each(|action| template::texts_of(&action.settings, &mut texts));
        let name = format!("params.{param}");
        // Who is told all of them is told that one.
        let names = |path: &str| path == "params" || path == name || path.starts_with(&format!("{name}."));
        texts.into_iter().any(|text| template::names(text).unwrap_or_default().into_iter().any(names))
    }

    /// Whether people have to agree to what it planned before it is done: Terraform's changes, unless they are applied at once or never.
    pub(super) fn asks_for_plan(&self, given: &Map<String, Value>) -> bool {
        let mode = |action: &Action| action.settings.get("apply").and_then(Value::as_str).map(str::to_owned);
        let asks = |action: &Action| mode(action).is_none_or(|apply| apply == "after_approval");
        // A plan is kept only where it changes something, if only outputs.
        given.contains_key("plan_file")
            && self.actions.iter().any(|action| action.executor == "terraform" && asks(action))
    }
}

/// Whether an order goes the executor's own way back.
fn own_way(order: &Order) -> bool {
    order.undo && matches!(order.pipeline.stages[order.spec].rollback, Some(Undo::Own))
}

impl Inner {
    /// Whether the work of an order needs files: a folder to work in, and one of its own.
    pub(super) fn works_with_files(&self, order: &Order) -> bool {
        let collects = !order.undo && order.pipeline.stages[order.spec].collect.any();
        let needs = |action: &Action| self.executors.get(&action.executor).is_none_or(|one| one.works_with_files());
        collects || actions(order).iter().any(needs)
    }

    /// Whether the work of an order may simply be done again when it is lost.
    pub(super) fn repeatable(&self, order: &Order) -> bool {
        let again = |action: &Action| self.executors.get(&action.executor).is_some_and(|one| one.repeatable());
        !own_way(order) && actions(order).iter().all(again)
    }
}

impl Attempt {
    /// Does the actions one after the other; those that were done before a restart are not done again. Gives, beside the end, what
    /// a stage that failed gave all the same.
    pub(super) async fn run(&mut self, facts: &mut Facts) -> (End, Map<String, Value>) {
        let (mut outputs, mut summary) = (Map::new(), String::new());
        let order = Arc::clone(&self.order);
        let stage = &order.pipeline.stages[order.spec];
        let noted = |key: &str| order.noted.as_ref().and_then(|noted| noted.get(key));
        let kept = noted("done").and_then(Value::as_array).cloned().unwrap_or_default();
        let done: Done = Arc::new(Mutex::new(kept.clone()));
        let first: First = Arc::new(Mutex::new(noted("first").cloned()));
        for (at, action) in actions(&order).iter().enumerate() {
            if let Some(before) = kept.get(at) {
                let given = before.get("outputs").and_then(Value::as_object).cloned().unwrap_or_default();
                outputs.extend(given);
                summary = before.get("summary").and_then(Value::as_str).unwrap_or("").to_owned();
                facts.insert(stage.name.clone(), Value::Object(outputs.clone()));
                continue;
            }
            // What was known before a restart is written down already.
            if at > 0 && at != kept.len() && !order.undo {
                let did = done.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let first = first.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let note = json!({"done": did, "note": null, "first": first});
                // Should the bot go down now, the next one finds the work done by what it left.
                let _ = self.inner.to.send(Msg::Validating(order.run, order.stage, order.attempt, note)).await;
            }
            let note = noted("note").filter(|note| !note.is_null() && at == kept.len()).cloned();
            let turn = Turn { at, noted: note, done: Arc::clone(&done), first: Arc::clone(&first) };
            let (end, left) = self.action(action, facts, turn).await;
            match end {
                End::Done { outputs: more, summary: words } => {
                    if !words.is_empty() {
                        summary = words.clone();
                    }
                    let mut all = done.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(json!({"outputs": more, "summary": words}));
                    drop(all);
                    outputs.extend(more);
                    // What comes after it can ask about what it gave.
                    facts.insert(stage.name.clone(), Value::Object(outputs.clone()));
                    if order.apply.is_none() && !order.undo && stage.asks_for_plan(&outputs) {
                        // Nothing was done yet that could prove good.
                        break;
                    }
                }
                other => {
                    outputs.extend(left);
                    return (other, outputs);
                }
            }
        }
        (End::Done { outputs, summary }, Map::new())
    }

    /// One action; and what it gave although it failed.
    async fn action(&mut self, action: &Action, facts: &Facts, turn: Turn) -> (End, Map<String, Value>) {
        let config = |fault: String| (End::failed(Class::Config, fault), Map::new());
        let Some(executor) = self.inner.executors.get(&action.executor).map(Arc::clone) else {
            return config(words::no_executor(&action.executor));
        };
        let mut settings = match told(&action.settings, facts, &self.inner.project, &mut self.place.secrets) {
            Ok(settings) => settings,
            Err(fault) => return config(fault),
        };
        if let Some(name) = self.place.as_argument(action, &settings) {
            return config(words::given_as_argument(name));
        }
        if let (Some(apply), Value::Object(map)) = (&self.order.apply, &mut settings)
            && action.executor == "terraform"
        {
            map.insert("apply_plan".to_owned(), apply.clone());
        }
        // Each action has notes of its own; the log is one.
        let own = if turn.at == 0 { self.place.folder.clone() } else { self.place.folder.join(&action.executor) };
        if executor.works_with_files()
            && let Err(fault) = std::fs::create_dir_all(&own)
        {
            return (End::failed(Class::DiskFull, format!("{}: {fault}", own.display())), Map::new());
        }
        let token = match executor.tells(&settings).then(|| step_token(&own)).transpose() {
            Ok(token) => token,
            Err(fault) => return (End::failed(Class::DiskFull, format!("{}: {fault}", own.display())), Map::new()),
        };
        self.place.secrets.extend(token.clone());
        let mask = Masker::new(&self.place.secrets);
        let log = StepLog::open(&self.place.folder, mask.clone());
        let first = (turn.at == 0, turn.first);
        let keeper = Kept {
            to: self.inner.to.clone(),
            key: (self.order.run, self.order.stage, self.order.attempt),
            done: turn.done,
            first,
            told: Arc::new(Mutex::new((tokio::time::Instant::now(), String::new()))),
        };
        self.ear.listen(&action.executor, log.clone(), mask.clone(), token.clone());
        let spoke = Arc::clone(&keeper.told);
        let supervisor = self.inner.supervisor.clone();
        let hands = Hands::new(log, mask.clone(), supervisor, self.ear.stop.subscribe(), Arc::new(keeper));
        let step = self.step(settings, facts, (own.clone(), turn.noted, token.clone()));
        let elsewhere = self.order.elsewhere.as_ref().filter(|_| executor.runs_elsewhere());
        let work = match elsewhere {
            Some(runner) => {
                let (runner, executor) = (runner.clone(), action.executor.clone());
                let (begun, secrets) = (self.order.begun, self.place.secrets.clone());
                let epoch = self.inner.epoch.load(Ordering::Acquire);
                let timeout = self.order.pipeline.stages[self.order.spec].timeout;
                self.inner.elsewhere.run(Errand { runner, begun, epoch, timeout, executor, step, secrets }, hands)
            }
            None if own_way(&self.order) => executor.undo(step, hands),
            None => executor.run(step, hands),
        };
        // A fault of an executor is the failure of its step, not of the bot.
        let end = self.watch(&own, &spoke, tokio::spawn(work)).await;
        self.ear.forget();
        if token.is_some() {
            // It ended; nobody speaks for it any more.
            let _ = std::fs::remove_file(own.join(crate::executors::TOKEN));
        }
        // What is kept and said of it holds no secret.
        let left = if matches!(end, End::Failed(_)) { left_outputs(&own, &mask) } else { Map::new() };
        if executor.works_with_files() {
            scrub(&own, &mask);
        }
        (super::collect::hidden(end, &mask), left)
    }

    fn step(
        &self,
        settings: Value,
        facts: &Facts,
        (folder, noted, token): (PathBuf, Option<Value>, Option<Secret>),
    ) -> Step {
        let order = &self.order;
        Step {
            run: order.run.unsigned_abs(),
            stage: order.name.clone(),
            attempt: order.attempt,
            settings,
            workspace: self.place.workspace.clone(),
            folder,
            env: self.place.env.clone(),
            limits: order.pipeline.stages[order.spec].resources.limits,
            requester: order.requester.clone(),
            about: about(facts, order.pipeline.repo.clone()),
            noted,
            checkpoint: order.checkpoint.clone(),
            token,
        }
    }

    /// Waits for a step; ends it when it takes too long or says nothing for too long.
    async fn watch(
        &self,
        folder: &Path,
        told: &Mutex<(tokio::time::Instant, String)>,
        mut task: tokio::task::JoinHandle<End>,
    ) -> End {
        let (order, stop) = (&self.order, &self.ear.stop);
        let stage = &order.pipeline.stages[order.spec];
        let ran = (self.inner.clock.now().timestamp_millis() - order.begun).max(0).unsigned_abs();
        let wall = tokio::time::sleep(stage.timeout.saturating_sub(Duration::from_millis(ran)));
        tokio::pin!(wall);
        let (mut size, mut last) = (0, tokio::time::Instant::now());
        let mut why: Option<Failure> = None;
        let mut stopping = stop.subscribe();
        let mut patience: Option<tokio::time::Instant> = None;
        loop {
            let given_up = async {
                match patience {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                end = &mut task => {
                    let end = end.unwrap_or_else(|_| End::failed(Class::Unknown, words::fell_over(&stage.name)));
                    // Why we ended it says more than that it ended.
                    return match (end, why) {
                        (End::Stopped, Some(failure)) => End::Failed(failure),
                        (end, _) => end,
                    };
                }
                () = &mut wall, if why.is_none() => {
                    let last = last_words(told);
                    why = Some(Failure::new(Class::Timeout, words::took_too_long(&stage.name, humantime(stage.timeout), last)));
                    stop.send_replace(true);
                }
                () = tokio::time::sleep(LOOK), if stage.idle_timeout.is_some() && why.is_none() => {
                    let now = bytes(folder);
                    let spoke = told.lock().unwrap_or_else(PoisonError::into_inner).0;
                    if now != size {
                        (size, last) = (now, tokio::time::Instant::now());
                    }
                    let idle = stage.idle_timeout.unwrap_or(Duration::MAX);
                    if last.max(spoke).elapsed() >= idle {
                        why = Some(Failure::new(Class::Timeout, words::said_nothing(&stage.name, humantime(idle))));
                        stop.send_replace(true);
                    }
                }
                // A sender that is gone never stops anybody; ours is held above.
                _ = stopping.wait_for(|stop| *stop), if patience.is_none() => {
                    patience = Some(tokio::time::Instant::now() + grace(stage));
                }
                () = given_up => {
                    task.abort();
                    return End::Failed(why.unwrap_or_else(|| Failure::new(Class::InfraLost, words::did_not_end(&stage.name))));
                }
            }
        }
    }
}

/// Whether a text is somewhere in settings.
fn holds(settings: &Value, text: &str) -> bool {
    match settings {
        Value::String(own) => !text.is_empty() && own.contains(text),
        Value::Array(all) => all.iter().any(|one| holds(one, text)),
        Value::Object(all) => all.values().any(|one| holds(one, text)),
        _ => false,
    }
}

/// What a step is about, by what is known of its run.
pub(super) fn about(facts: &Facts, repo: Option<String>) -> About {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    About { app: text("app"), env: text("environment"), sha: text("sha"), reference: text("ref"), repo }
}

/// What a step said last, for who asks why it took so long: `, last: 2 of 4 pods new and ready; shop-7f9c4 CrashLoopBackOff x4`.
fn last_words(told: &Mutex<(tokio::time::Instant, String)>) -> String {
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.1.is_empty() { String::new() } else { words::said_last(&told.1) }
}

fn grace(stage: &Stage) -> Duration {
    let grace = stage
        .actions
        .iter()
        .filter_map(|action| action.settings.get("grace")?.as_str())
        .filter_map(|text| humantime_serde::re::humantime::parse_duration(text).ok())
        .max();
    PATIENCE + grace.unwrap_or_default()
}

fn humantime(time: Duration) -> String {
    humantime_serde::re::humantime::format_duration(time).to_string()
}

/// Hands notes and words on to the engine.
struct Kept {
    to: mpsc::Sender<Msg>,
    key: (i64, usize, u32),
    done: Done,
    /// What the first action noted last, and whether this is that action.
    first: (bool, First),
    /// When it said something last, and what.
    told: Arc<Mutex<(tokio::time::Instant, String)>>,
}

impl Keeper for Kept {
    fn note(&self, note: Value) -> Future<Result<(), String>> {
        let (to, (run, stage, attempt)) = (self.to.clone(), self.key);
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut first = self.first.1.lock().unwrap_or_else(PoisonError::into_inner);
        if self.first.0 {
            *first = Some(note.clone());
        }
        let first = first.clone();
        Box::pin(async move {
            let (answer, kept) = oneshot::channel();
            let note = json!({"done": done, "note": note, "first": first});
            to.send(Msg::Note(run, stage, attempt, note, answer)).await.map_err(|_| words::going_down())?;
            kept.await.map_err(|_| words::going_down())?
        })
    }

    fn tell(&self, words: String) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = (tokio::time::Instant::now(), words.clone());
        // The newest wins; one that finds no room is not worth waiting for.
        let _ = self.to.try_send(Msg::Doing(self.key.0, self.key.1, words));
    }
}
