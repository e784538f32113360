//! Steps: what is begun for a stage once that is written down. Each runs in its own task and tells the engine its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Clock, Secret};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};

use super::attempt::{Attempt, Place};
use super::collect::{checkpoint, collect, collect_failed, hidden, mark, of_instance, segments, variables};
use super::engine::{Ended, Msg, Order, is_lost};
use super::expr::Facts;
use super::model::{Pipeline, Stage};
use super::refusal::Refusal;
use super::remote::{Ear, Told};
use super::run::{Millis, StageRun};
use super::runners::{Elsewhere, WORKSPACE_THERE};
use super::words;
use crate::executors::{
    Class, End, Executors, Masker, Supervisor, apart, end_jobs, forget_given, forget_secrets, given as kept_given,
    keep_given,
};
use crate::store::runs::LogSegmentRow;

/// Where stages of a run work.
const WORKSPACE: &str = "workspace";

/// Begins steps and ends them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Steps {
    pub(super) inner: Arc<Inner>,
}

/// What all steps share.
pub(super) struct Inner {
    pub(super) executors: Executors,
    pub(super) folder: PathBuf,
    pub(super) project: PathBuf,
    pub(super) supervisor: Supervisor,
    pub(super) clock: Clock,
    pub(super) to: mpsc::Sender<Msg>,
    /// Who carries steps to other runners.
    pub(super) elsewhere: Arc<dyn Elsewhere>,
    /// The epoch of our records.
    pub(super) epoch: AtomicI64,
    running: Mutex<BTreeMap<(i64, usize), Arc<Ear>>>,
    /// Runs that are being tidied; it is over when nobody is there to tell any more.
    tidying: Mutex<BTreeMap<i64, watch::Receiver<()>>>,
}

impl Steps {
    /// `folder` is where runs work and log; paths of secrets begin at `project`.
    pub(super) fn new(
        executors: Executors,
        (folder, project): (PathBuf, PathBuf),
        supervisor: Supervisor,
        clock: Clock,
        (to, elsewhere): (mpsc::Sender<Msg>, Arc<dyn Elsewhere>),
    ) -> Steps {
        // Commands begin in another folder than we.
        let project = std::path::absolute(&project).unwrap_or(project);
        let inner = Inner {
            executors,
            folder,
            project,
            supervisor,
            clock,
            to,
            elsewhere,
            epoch: AtomicI64::new(0),
            running: Mutex::default(),
            tidying: Mutex::default(),
        };
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
        let ear = Arc::new(Ear::new(&order.name, (order.attempt, order.begun)));
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&ear));
        let steps = self.clone();
        tokio::spawn(async move {
            // As below: the engine is gone only when the bot is.
            let _ = steps.inner.to.send(Msg::Began(order.run, order.stage, order.attempt)).await;
            let ended = steps.run(order, ear).await;
            steps.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            // The engine is gone only when the bot is; then the next one asks again.
            let _ = steps.inner.to.send(Msg::Ended(Box::new(ended))).await;
        });
    }

    /// What the stage that checks a repository out has to show there, as far as it can be told before a run.
    pub(super) fn credentials(&self, pipeline: &Pipeline, env: &str) -> Vec<(String, Secret)> {
        let git = |stage: &&Stage| stage.actions.iter().any(|action| action.executor == "git");
        let Some(stage) = pipeline.stages.iter().find(git) else { return Vec::new() };
        let facts = Facts::from_iter([("environment".to_owned(), Value::from(env)), ("params".to_owned(), json!({}))]);
        variables(stage, &facts, &self.inner.project).map(|(env, _)| env).unwrap_or_default()
    }

    /// Keeps what a run was given in secret.
    pub(super) fn keep(&self, run: i64, given: &BTreeMap<String, Secret>) {
        if let Err(fault) = keep_given(&self.run_folder(run), given) {
            // The stage that wants it says so.
            tracing::error!(run, %fault, "What a run was given in secret cannot be kept");
        }
    }

    /// Removes what a run was given in secret.
    pub(super) fn forget(&self, run: i64) {
        forget_given(&self.run_folder(run));
    }

    /// Tells a step to end.
    pub(super) fn stop(&self, run: i64, stage: usize) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ear) = running.get(&(run, stage)) {
            ear.stop.send_replace(true);
        }
    }

    /// Whether this attempt is under way.
    pub(super) fn is_under_way(&self, run: i64, stage: &str, attempt: (u32, Millis)) -> bool {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.range((run, 0)..=(run, usize::MAX)).any(|(_, ear)| ear.name == stage && ear.attempt == attempt)
    }

    /// Ends what a bot before us began of an attempt that nobody can go on with.
    pub(super) fn abandon(&self, run: i64, stage: &str, attempt: u32) {
        let folder = self.folder(run, stage, attempt);
        tokio::spawn(async move { apart(move || end_jobs(&folder)).await });
    }

    /// The run and the stage whose build has this token.
    pub(super) fn of_token(&self, shown: &str) -> Option<(i64, usize)> {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        // All are compared, so that the time tells nothing.
        let known: Vec<(i64, usize)> =
            running.iter().filter(|(_, ear)| ear.knows(shown)).map(|(key, _)| *key).collect();
        known.first().copied()
    }

    /// Takes in what a build elsewhere tells of a run: the stage of ours, and words for people if there are any. `own` is the stage
    /// it is about if that is known; else it is the one that builds elsewhere, and of several the one it names.
    pub(super) fn hear(&self, run: i64, own: Option<usize>, told: &Told) -> Result<(String, Option<String>), Refusal> {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        let of_run: Vec<(usize, Arc<Ear>)> =
            running.range((run, 0)..=(run, usize::MAX)).map(|((_, stage), ear)| (*stage, Arc::clone(ear))).collect();
        drop(running);
        let elsewhere: Vec<_> = of_run.iter().filter(|(_, ear)| ear.is_elsewhere()).collect();
        let named = |ear: &&&(usize, Arc<Ear>)| ear.1.name == told.stage;
        let all: Vec<_> = of_run.iter().collect();
        let found = match own {
            Some(own) => of_run.iter().find(|(stage, _)| *stage == own),
            None => match (elsewhere.as_slice(), all.as_slice()) {
                ([one], _) | ([], [one]) => Some(*one),
                ([], many) | (many, _) => many.iter().find(named).copied(),
            },
        };
        let Some((_, ear)) = found else {
            if of_run.is_empty() {
                return Err(Refusal::conflict(words::nothing_runs(run)));
            }
            let many = if elsewhere.is_empty() { &all } else { &elsewhere };
            let names: Vec<&str> = many.iter().map(|(_, ear)| ear.name.as_str()).collect();
            return Err(Refusal::wrong(words::which_stage_runs(run, names.join(", "))));
        };
        Ok((ear.name.clone(), ear.hear(told)))
    }

    /// Removes what steps left of a run's secrets and, if it is so, what it worked in; its logs stay.
    pub(super) fn tidy(&self, run: i64, whole: bool) {
        let folder = self.run_folder(run);
        let (over, told) = watch::channel(());
        let mut tidying = self.inner.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        tidying.retain(|_, told| told.has_changed().is_ok());
        let before = tidying.insert(run, told);
        drop(tidying);
        tokio::spawn(async move {
            await_over(before).await;
            apart(move || {
                if whole {
                    // It need not be there.
                    let _ = std::fs::remove_dir_all(folder.join(WORKSPACE));
                }
                forget_secrets(&folder);
            })
            .await;
            drop(over);
        });
    }

    /// Removes what runs up to this one worked in, and what they were given in secret, that nobody can try again: those that are not
    /// known any more.
    pub(super) fn sweep(&self, last: i64, known: BTreeSet<i64>) {
        let folder = self.inner.folder.clone();
        tokio::spawn(apart(move || sweep(&folder, last, &known)));
    }

    /// Ready when a run is not being tidied: what is begun for it must not find its files half gone.
    async fn tidied(&self, run: i64) {
        let told = self.inner.tidying.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        await_over(told).await;
    }

    /// Where the stages of an order work: those that undo a run in what that left, if it left anything.
    async fn workspace(&self, order: &Order) -> PathBuf {
        self.tidied(order.run).await;
        if let Some(parent) = order.parent {
            self.tidied(parent).await;
            let left = self.run_folder(parent).join(WORKSPACE);
            if left.is_dir() {
                return left;
            }
        }
        self.run_folder(order.run).join(WORKSPACE)
    }

    async fn run(&self, order: Order, ear: Arc<Ear>) -> Ended {
        let order = Arc::new(order);
        let folder = self.folder(order.run, &order.name, order.attempt);
        let workspace = self.workspace(&order).await;
        let mut ended = ended_by(&order, End::done(), order.resumed.then(|| self.inner.repeatable(&order)));
        let stage = &order.pipeline.stages[order.spec];
        let collects = !order.undo && stage.collect.any();
        // Most of what a stage that only asks and looks costs would be its folders.
        let files = self.inner.works_with_files(&order);
        if files {
            let made = [&folder, &workspace].into_iter().try_for_each(|path| {
                std::fs::create_dir_all(path).map_err(|fault| format!("{}: {fault}", path.display()))
            });
            let made = made.and_then(|()| if collects { mark(&folder) } else { Ok(()) });
            if let Err(fault) = made {
                ended.end = End::failed(Class::DiskFull, fault);
                return ended;
            }
        }
        let mut facts = order.facts.clone();
        facts.insert("project".to_owned(), Value::from(self.inner.project.display().to_string()));
        let shown = workspace.display().to_string();
        let shown = if order.elsewhere.is_some() { WORKSPACE_THERE.to_owned() } else { shown };
        facts.insert("workspace".to_owned(), Value::from(shown));
        let mut mask = Masker::default();
        // What undoes a run has what that was given.
        let given = given_to(&order, &self.run_folder(order.parent.unwrap_or(order.run)), &mut facts);
        let told = given.and_then(|given| Ok((variables(stage, &facts, &self.inner.project)?, given)));
        (ended.end, ended.outputs) = match told {
            Ok(((env, mut secrets), given)) => {
                secrets.extend(given.values().cloned());
                let place = Place { folder: folder.clone(), workspace: workspace.clone(), env, secrets, given };
                let mut attempt = Attempt { inner: Arc::clone(&self.inner), order: Arc::clone(&order), place, ear };
                let end = attempt.run(&mut facts).await;
                mask = Masker::new(&attempt.place.secrets);
                end
            }
            Err(fault) => (End::failed(Class::Config, fault), Map::new()),
        };
        if matches!(&ended.end, End::Failed(failure) if order.elsewhere.is_some() && is_lost(failure)) {
            ended.resumed = Some(self.inner.repeatable(&order));
        }
        if !order.undo {
            if collects {
                ended = reported(&order, (workspace, folder.clone()), facts, ended).await;
            } else {
                report(stage, (&workspace, &folder), &mut facts, &mut ended);
            }
            ended.artifacts.iter_mut().for_each(|row| {
                row.run = order.run;
                row.stage.clone_from(&order.name);
            });
            // Reports name what they want.
            ended.end = hidden(ended.end, &mask);
        }
        // What needs no files has a folder only if it said something.
        if !files && !folder.is_dir() {
            return ended;
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
}

/// Ready when nobody is there to tell any more.
async fn await_over(told: Option<watch::Receiver<()>>) {
    if let Some(mut told) = told {
        while told.changed().await.is_ok() {}
    }
}

/// Fills in what a run was given in secret. What is not kept any more is a fault only of a stage that wants it, and not of one that was
/// begun with it.
fn given_to(order: &Order, folder: &Path, facts: &mut Facts) -> Result<BTreeMap<String, Secret>, String> {
    let mut given = BTreeMap::new();
    if !order.pipeline.params.iter().any(|param| param.secret) {
        return Ok(given);
    }
    let mut kept = kept_given(folder);
    let Some(Value::Object(params)) = facts.get_mut("params") else { return Ok(given) };
    let stage = &order.pipeline.stages[order.spec];
    for param in order.pipeline.params.iter().filter(|param| param.secret) {
        if !params.contains_key(&param.name) {
            continue;
        }
        match kept.remove(&param.name) {
            Some(value) => {
                params.insert(param.name.clone(), value.reveal().into());
                given.insert(param.name.clone(), value);
            }
            None if stage.wants(&param.name, order.undo) && !order.resumed => {
                return Err(words::given_is_gone(&param.name));
            }
            None => {}
        }
    }
    Ok(given)
}

/// A step that ended, with nothing but that.
fn ended_by(order: &Order, end: End, resumed: Option<bool>) -> Ended {
    Ended {
        run: order.run,
        stage: order.stage,
        attempt: order.attempt,
        end,
        outputs: Map::new(),
        resumed,
        checkpoint: None,
        artifacts: Vec::new(),
        log: Vec::new(),
    }
}

/// Takes in what a stage left, which may be a gigabyte of files.
async fn reported(order: &Arc<Order>, at: (PathBuf, PathBuf), mut facts: Facts, mut ended: Ended) -> Ended {
    let (own, resumed) = (Arc::clone(order), ended.resumed);
    let work = move || {
        report(&own.pipeline.stages[own.spec], (&at.0, &at.1), &mut facts, &mut ended);
        ended
    };
    let fell = words::not_taken_in();
    apart(work).await.unwrap_or_else(|| ended_by(order, End::failed(Class::Unknown, fell), resumed))
}

/// Takes in what a stage left, well or not.
fn report(stage: &Stage, at: (&Path, &Path), facts: &mut Facts, ended: &mut Ended) {
    // Most stages are no instance of anything, and read as they are.
    let instance = || facts.get("matrix").and_then(Value::as_object).is_some_and(|matrix| !matrix.is_empty());
    let own = (stage.collect.any() && instance())
        .then(|| Stage { collect: of_instance(&stage.collect, facts), ..stage.clone() });
    let stage = own.as_ref().unwrap_or(stage);
    match &mut ended.end {
        End::Done { outputs, summary } => match collect(stage, at, facts, outputs, summary) {
            Ok(rows) => ended.artifacts = rows,
            Err(failure) => {
                ended.outputs = std::mem::take(outputs);
                ended.artifacts = collect_failed(stage, at, &mut ended.outputs, None);
                ended.end = End::Failed(failure);
            }
        },
        End::Failed(failure) => {
            ended.artifacts = collect_failed(stage, at, &mut ended.outputs, Some(failure));
        }
        End::Stopped | End::Unsure(_) => {}
    }
}

/// The folder of the newest attempt of a stage, under the folder of all runs.
pub fn step_folder(runs: &Path, run: i64, stage: &StageRun) -> PathBuf {
    attempt_folder(&runs.join(run.to_string()), &stage.name, stage.attempt)
}

fn attempt_folder(run: &Path, stage: &str, attempt: u32) -> PathBuf {
    run.join(folder_name(stage)).join(attempt.to_string())
}

/// A name of a stage as a name of a folder.
pub fn folder_name(stage: &str) -> String {
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

fn sweep(folder: &Path, last: i64, known: &BTreeSet<i64>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
        if number.is_some_and(|number| number <= last && !known.contains(&number)) {
            // It need not be there.
            let _ = std::fs::remove_dir_all(entry.path().join(WORKSPACE));
            forget_given(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_were_given_in_secret_that_are_not_known_any_more_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = |number: i64| folder.path().join(number.to_string());
        for number in [1, 2, 3] {
            keep_given(&run(number), &BTreeMap::from([("key".to_owned(), Secret::new("s3cr3t"))])).unwrap();
            std::fs::create_dir(run(number).join(WORKSPACE)).unwrap();
            std::fs::write(run(number).join("log"), "it stays").unwrap();
        }
        // The third has just begun.
        sweep(folder.path(), 2, &BTreeSet::from([2]));
        let left = [1, 2, 3].map(|number| (kept_given(&run(number)).len(), run(number).join(WORKSPACE).exists()));
        assert_eq!(left, [(0, false), (1, true), (1, true)]);
        assert!(run(1).join("log").exists());
    }
}
