//! Steps: what is begun for a stage once that is written down. Each runs in its own task and tells the engine its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::{Clock, Future, Secret};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::collect::{bytes, checkpoint, collect, hidden, segments, told, variables};
use super::engine::{Ended, Msg, Order};
use super::expr::Facts;
use super::model::{Action, Stage, Undo};
use super::run::StageRun;
use crate::executors::{Class, End, Executors, Failure, Hands, Keeper, Masker, Step, StepLog, Supervisor};
use crate::store::runs::LogSegmentRow;

/// How often it is looked whether a step still says something.
const LOOK: Duration = Duration::from_secs(1);
/// How long a step that was told to end may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What actions of a stage that are done gave.
type Done = Arc<Mutex<Vec<Value>>>;
/// What the first action of a stage noted last.
type First = Arc<Mutex<Option<Value>>>;
/// Tells a step to end.
type Stop = Arc<watch::Sender<bool>>;

/// Begins steps and ends them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Steps {
    inner: Arc<Inner>,
}

struct Inner {
    executors: Executors,
    folder: PathBuf,
    project: PathBuf,
    supervisor: Supervisor,
    clock: Clock,
    to: mpsc::Sender<Msg>,
    running: Mutex<BTreeMap<(i64, usize), Stop>>,
}

impl Steps {
    /// `folder` is where runs work and log; paths of secrets begin at `project`.
    pub(super) fn new(
        executors: Executors,
        (folder, project): (PathBuf, PathBuf),
        supervisor: Supervisor,
        clock: Clock,
        to: mpsc::Sender<Msg>,
    ) -> Steps {
        // Commands begin in another folder than we.
        let project = std::path::absolute(&project).unwrap_or(project);
        let inner = Inner { executors, folder, project, supervisor, clock, to, running: Mutex::default() };
        Steps { inner: Arc::new(inner) }
    }

    /// The folder of a run.
    pub(super) fn run_folder(&self, run: i64) -> PathBuf {
        self.inner.folder.join(run.to_string())
    }

    /// The folder of an attempt.
    pub(super) fn folder(&self, run: i64, stage: &str, attempt: u32) -> PathBuf {
        attempt_folder(&self.run_folder(run), stage, attempt)
    }

    /// Begins a step, or goes on with one.
    pub(super) fn start(&self, order: Order) {
        let key = (order.run, order.stage);
        let stop = Arc::new(watch::Sender::new(false));
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&stop));
        let steps = self.clone();
        tokio::spawn(async move {
            let ended = steps.run(order, stop).await;
            steps.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            // The engine is gone only when the bot is; then the next one asks again.
            let _ = steps.inner.to.send(Msg::Ended(Box::new(ended))).await;
        });
    }

    /// Tells a step to end.
    pub(super) fn stop(&self, run: i64, stage: usize) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = running.get(&(run, stage)) {
            stop.send_replace(true);
        }
    }

    /// Removes what a run worked in; its logs stay.
    pub(super) fn tidy(&self, run: i64) {
        let folder = self.run_folder(run).join(WORKSPACE);
        tokio::task::spawn_blocking(move || {
            // It need not be there.
            let _ = std::fs::remove_dir_all(folder);
        });
    }

    async fn run(&self, order: Order, stop: Stop) -> Ended {
        let mut ended = Ended {
            run: order.run,
            stage: order.stage,
            attempt: order.attempt,
            end: End::done(),
            resumed: order.resumed,
            checkpoint: None,
            artifacts: Vec::new(),
            log: Vec::new(),
        };
        let folder = self.folder(order.run, &order.name, order.attempt);
        let workspace = self.run_folder(order.run).join(WORKSPACE);
        for path in [&folder, &workspace] {
            if let Err(fault) = std::fs::create_dir_all(path) {
                ended.end = End::failed(Class::DiskFull, format!("{}: {fault}", path.display()));
                return ended;
            }
        }
        let stage = &order.pipeline.stages[order.spec];
        let mut facts = order.facts.clone();
        facts.insert("project".to_owned(), Value::from(self.inner.project.display().to_string()));
        facts.insert("workspace".to_owned(), Value::from(workspace.display().to_string()));
        let mut mask = Masker::default();
        ended.end = match variables(stage, &facts, &self.inner.project) {
            Ok((env, secrets)) => {
                mask = Masker::new(&secrets);
                let place = Place { folder: folder.clone(), workspace: workspace.clone(), env, secrets };
                self.actions(&order, stage, &mut facts, &place, &stop).await
            }
            Err(fault) => End::failed(Class::Config, fault),
        };
        if let End::Done { outputs, summary } = &mut ended.end
            && !order.undo
        {
            match collect(stage, &workspace, &folder, &mut facts, outputs, summary) {
                Ok(kept) => {
                    ended.artifacts = kept
                        .into_iter()
                        .map(|mut row| {
                            row.run = order.run;
                            row.stage.clone_from(&order.name);
                            row
                        })
                        .collect()
                }
                Err(failure) => ended.end = End::Failed(failure),
            }
        }
        ended.checkpoint = checkpoint(&folder, &mask);
        let of = LogSegmentRow {
            run: order.run,
            stage: order.name.clone(),
            attempt: i64::from(order.attempt),
            ..LogSegmentRow::default()
        };
        ended.log = segments(&folder, &of);
        ended
    }

    /// The actions of a stage, one after the other; those that were done before a restart are not done again.
    async fn actions(&self, order: &Order, stage: &Stage, facts: &mut Facts, place: &Place, stop: &Stop) -> End {
        let (mut outputs, mut summary) = (Map::new(), String::new());
        let undo = match (&stage.rollback, order.undo) {
            (Some(Undo::Action(action)), true) => Some(vec![action.clone()]),
            (_, true) => Some(stage.actions.iter().take(1).cloned().collect()),
            _ => None,
        };
        let own_way = order.undo && matches!(stage.rollback, Some(Undo::Own));
        let actions = undo.unwrap_or_else(|| stage.actions.clone());
        let kept = order
            .noted
            .as_ref()
            .and_then(|noted| noted.get("done"))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let done: Done = Arc::new(Mutex::new(kept.clone()));
        let first = order.noted.as_ref().and_then(|noted| noted.get("first")).cloned();
        let first = Arc::new(Mutex::new(first));
        for (at, action) in actions.iter().enumerate() {
            if let Some(before) = kept.get(at) {
                let given = before.get("outputs").and_then(Value::as_object).cloned().unwrap_or_default();
                outputs.extend(given);
                summary = before.get("summary").and_then(Value::as_str).unwrap_or("").to_owned();
                facts.insert(stage.name.clone(), Value::Object(outputs.clone()));
                continue;
            }
            let noted = order
                .noted
                .as_ref()
                .and_then(|noted| noted.get("note"))
                .filter(|note| !note.is_null() && at == kept.len());
            let end = self
                .action(order, stage, action, facts, place, stop, (at, noted.cloned(), own_way, (&done, &first)))
                .await;
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
                }
                other => return other,
            }
        }
        End::Done { outputs, summary }
    }

    #[expect(clippy::too_many_arguments, reason = "one call, from one place")]
    async fn action(
        &self,
        order: &Order,
        stage: &Stage,
        action: &Action,
        facts: &Facts,
        place: &Place,
        stop: &Stop,
        (at, noted, own_way, (done, first)): (usize, Option<Value>, bool, (&Done, &First)),
    ) -> End {
        let Some(executor) = self.inner.executors.get(&action.executor) else {
            return End::failed(Class::Config, format!("there is no executor {}", action.executor));
        };
        let mut secrets = place.secrets.clone();
        let mut settings = match told(&action.settings, facts, &self.inner.project, &mut secrets) {
            Ok(settings) => settings,
            Err(fault) => return End::failed(Class::Config, fault),
        };
        if let (Some(apply), Value::Object(map)) = (&order.apply, &mut settings)
            && action.executor == "terraform"
        {
            map.insert("apply_plan".to_owned(), apply.clone());
        }
        // Each action has notes of its own; the log is one.
        let folder = if at == 0 { place.folder.clone() } else { place.folder.join(&action.executor) };
        if let Err(fault) = std::fs::create_dir_all(&folder) {
            return End::failed(Class::DiskFull, format!("{}: {fault}", folder.display()));
        }
        let mask = Masker::new(&secrets);
        let step = Step {
            run: order.run.unsigned_abs(),
            stage: order.name.clone(),
            attempt: order.attempt,
            settings,
            workspace: place.workspace.clone(),
            folder: folder.clone(),
            env: place.env.clone(),
            limits: stage.resources.limits,
            requester: order.requester.clone(),
            noted,
            checkpoint: order.checkpoint.clone(),
        };
        let told = Arc::new(Mutex::new(tokio::time::Instant::now()));
        let keeper = Kept {
            to: self.inner.to.clone(),
            key: (order.run, order.stage, order.attempt),
            done: Arc::clone(done),
            first: (at == 0, Arc::clone(first)),
            told: Arc::clone(&told),
        };
        let hands = Hands::new(
            StepLog::open(&place.folder, mask.clone()),
            mask,
            self.inner.supervisor.clone(),
            stop.subscribe(),
            Arc::new(keeper),
        );
        let hide = hands.mask.clone();
        let work = if own_way { executor.undo(step, hands) } else { executor.run(step, hands) };
        // A fault of an executor is the failure of its step, not of the bot.
        let task = tokio::spawn(work);
        // What is kept and said of it holds no secret.
        hidden(self.watch(order, stage, &folder, stop, &told, task).await, &hide)
    }

    /// Waits for a step; ends it when it takes too long or says nothing for too long.
    async fn watch(
        &self,
        order: &Order,
        stage: &Stage,
        folder: &Path,
        stop: &Stop,
        told: &Arc<Mutex<tokio::time::Instant>>,
        mut task: tokio::task::JoinHandle<End>,
    ) -> End {
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
                    let end = end.unwrap_or_else(|_| End::failed(Class::Unknown, format!("{} fell over; its fault is in the bot's log", stage.name)));
                    // Why we ended it says more than that it ended.
                    return match (end, why) {
                        (End::Stopped, Some(failure)) => End::Failed(failure),
                        (end, _) => end,
                    };
                }
                () = &mut wall, if why.is_none() => {
                    why = Some(Failure::new(Class::Timeout, format!("{} took longer than its {}", stage.name, humantime(stage.timeout))));
                    stop.send_replace(true);
                }
                () = tokio::time::sleep(LOOK), if stage.idle_timeout.is_some() && why.is_none() => {
                    let now = bytes(folder);
                    let spoke = *told.lock().unwrap_or_else(PoisonError::into_inner);
                    if now != size {
                        (size, last) = (now, tokio::time::Instant::now());
                    }
                    let idle = stage.idle_timeout.unwrap_or(Duration::MAX);
                    if last.max(spoke).elapsed() >= idle {
                        why = Some(Failure::new(Class::Timeout, format!("{} said nothing for {}", stage.name, humantime(idle))));
                        stop.send_replace(true);
                    }
                }
                // A sender that is gone never stops anybody; ours is held above.
                _ = stopping.wait_for(|stop| *stop), if patience.is_none() => {
                    patience = Some(tokio::time::Instant::now() + stage_grace(stage));
                }
                () = given_up => {
                    task.abort();
                    return End::Failed(why.unwrap_or_else(|| Failure::new(Class::InfraLost, format!("{} did not end when it was told to; look what is left of it", stage.name))));
                }
            }
        }
    }
}

/// Where stages of a run work.
const WORKSPACE: &str = "workspace";

fn stage_grace(stage: &Stage) -> Duration {
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

/// The folder of the newest attempt of a stage, under the folder of all runs.
pub fn step_folder(runs: &Path, run: i64, stage: &StageRun) -> PathBuf {
    attempt_folder(&runs.join(run.to_string()), &stage.name, stage.attempt)
}

fn attempt_folder(run: &Path, stage: &str, attempt: u32) -> PathBuf {
    run.join(file_name(stage)).join(attempt.to_string())
}

/// A name of a stage as a name of a folder.
fn file_name(stage: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = stage.chars().map(|c| if good(c) { c } else { '_' }).take(80).collect();
    if plain == stage {
        return plain;
    }
    // Two names that differ in what is replaced here differ in this.
    let sum = stage
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{plain}-{sum:016x}")
}

/// What a step works with.
struct Place {
    folder: PathBuf,
    workspace: PathBuf,
    env: Vec<(String, Secret)>,
    secrets: Vec<Secret>,
}

/// Hands notes and words on to the engine.
struct Kept {
    to: mpsc::Sender<Msg>,
    key: (i64, usize, u32),
    done: Done,
    /// What the first action noted last, and whether this is that action.
    first: (bool, First),
    told: Arc<Mutex<tokio::time::Instant>>,
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
            to.send(Msg::Note(run, stage, attempt, note, answer))
                .await
                .map_err(|_| "the bot is going down".to_owned())?;
            kept.await.map_err(|_| "the bot is going down".to_owned())?
        })
    }

    fn tell(&self, words: String) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
        // The newest wins; one that finds no room is not worth waiting for.
        let _ = self.to.try_send(Msg::Doing(self.key.0, self.key.1, words));
    }
}
