//! One step that is done here for another bot: its checkout, its command, its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use masterchief_contract::{Future, Secret};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::host::Host;
use super::reading::piece;
use super::wire::{Ended, How, Order, Progress};
use crate::executors::{
    About, Class, End, Failure, Hands, Keeper, Limits, Masker, Step, StepLog, apart, left_outputs, scrub,
};
use crate::pipelines::WORKSPACE_THERE;

/// The file with what was asked for, without secrets.
pub(super) const ORDER: &str = "order.json";
/// The file of a run that is as old as its newest step.
pub(super) const TOUCHED: &str = "touched";
/// The file of a workspace's run that says which commit is checked out.
const CHECKED_OUT: &str = "checked-out";
/// How often the log is looked at while somebody waits for news.
const LOOK: Duration = Duration::from_millis(100);
/// How much longer than it may a step lasts before it is ended although nobody says so.
const GRACE: Duration = Duration::from_secs(60);
/// The longest end that the mesh carries.
const END_MAX: usize = 60_000;

/// A step.
pub(super) struct Work {
    pub(super) home: String,
    /// Where all steps of its run work.
    run: PathBuf,
    folder: PathBuf,
    pub(super) stop: watch::Sender<bool>,
    /// The newest words for people, with their number.
    told: watch::Sender<(u64, String)>,
    end: watch::Sender<Option<Ended>>,
}

impl Work {
    pub(super) fn new(home: String, run: PathBuf, folder: PathBuf) -> Work {
        let told = watch::Sender::new((0, String::new()));
        Work { home, run, folder, stop: watch::Sender::new(false), told, end: watch::Sender::new(None) }
    }

    /// Whether it has ended, as far as this bot knows.
    pub(super) fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Ready when it has ended.
    pub(super) async fn over(&self) {
        // The sender is ours.
        let _ = self.end.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether its command was begun, also by a bot before this one.
    pub(super) fn has_begun(&self) -> bool {
        self.folder.join("main.pid").exists()
    }

    /// Whether its command has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.folder.join("main.exit").exists()
    }

    /// Writes down what is to be done, without its secrets, so that it can be taken up again.
    pub(super) fn keep(&self, order: &Order) -> Result<(), String> {
        let mask = masker(order);
        let kept = Order {
            settings: mask.hide_all(order.settings.clone()),
            checkpoint: order.checkpoint.clone().map(|value| mask.hide_all(value)),
            env: Vec::new(),
            hide: Vec::new(),
            ..order.clone()
        };
        let text = json!([self.home, kept]).to_string();
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(self.folder.join(ORDER), text))
            .and_then(|()| std::fs::write(self.run.join(TOUCHED), ""));
        written.map_err(|fault| format!("{}: {fault}", self.folder.display()))
    }

    /// It ended: what it left is read, and secrets in it are hidden.
    pub(super) fn ends(&self, end: End, order: &Order) {
        let mask = masker(order);
        let left = if matches!(end, End::Failed(_)) { left_outputs(&self.folder, &mask) } else { Default::default() };
        scrub(&self.folder, &mask);
        let checkpoint = std::fs::read(self.folder.join("checkpoint")).ok();
        let checkpoint = checkpoint.and_then(|text| serde_json::from_slice(&text).ok());
        let ended = Ended { how: hidden(end, &mask).into(), left, checkpoint };
        let long = serde_json::to_string(&ended).is_ok_and(|text| text.len() > END_MAX);
        let ended = if long {
            let line = "its outputs or its checkpoint are longer than the mesh carries; keep large things elsewhere";
            let how = How::Failed(Failure::new(Class::Config, line));
            Ended { how, left: Default::default(), checkpoint: None }
        } else {
            ended
        };
        self.end.send_replace(Some(ended));
    }

    /// How it goes: at once if there is news, else when there is some or the time is over.
    pub(super) async fn news(&self, from: u64, seen: u64, wait: Duration) -> Progress {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        let mut ends = self.end.subscribe();
        loop {
            let ended = self.is_over();
            let (folder, told) = (self.folder.clone(), self.told.borrow().clone());
            let text = apart(move || piece(&folder, from, ended)).await.unwrap_or_default();
            let news = !text.is_empty() || ended || told.0 != seen && seen != u64::MAX;
            if news || over.is_elapsed() || wait.is_zero() {
                // All of the log is told before its end is.
                let end = if ended && text.is_empty() { self.end.borrow().clone() } else { None };
                let next = from.saturating_add(text.len() as u64);
                let text = BASE64.encode(text);
                return Progress { text, next, told: told.1, seen: told.0, end, ..Progress::default() };
            }
            tokio::select! {
                () = &mut over => {}
                () = tokio::time::sleep(LOOK) => {}
                // Ours, so it does not fail.
                _ = ends.wait_for(Option::is_some) => {}
            }
        }
    }
}

/// What hides the secrets of a step.
fn masker(order: &Order) -> Masker {
    let secrets: Vec<Secret> = order.hide.iter().map(Secret::new).collect();
    Masker::new(&secrets)
}

fn hidden(end: End, mask: &Masker) -> End {
    match end {
        End::Failed(failure) => End::Failed(Failure { line: mask.hide(&failure.line), ..failure }),
        End::Unsure(why) => End::Unsure(mask.hide(&why)),
        other => other,
    }
}

/// Does a step, or goes on with one that was begun before this bot was.
pub(super) async fn perform(host: &Host, work: &Arc<Work>, order: &Order) -> End {
    let Some(executor) = host.executors.get(&order.executor).filter(|one| one.runs_elsewhere()).cloned() else {
        return End::failed(Class::Config, format!("{} is nothing that is done for others", order.executor));
    };
    let workspace = work.run.join("workspace");
    if let Err(fault) = std::fs::create_dir_all(&workspace).and_then(|()| std::fs::create_dir_all(&work.folder)) {
        return End::failed(Class::DiskFull, format!("{}: {fault}", workspace.display()));
    }
    let mask = masker(order);
    let told = Arc::new(Told(Arc::clone(work)));
    let step = step(work, order, &workspace.display().to_string());
    if !work.has_begun()
        && let Err(end) = check_out(host, work, order, &step, &mask).await
    {
        return end;
    }
    let log = StepLog::open(&work.folder, mask.clone());
    let hands = Hands::new(log, mask, host.supervisor.clone(), work.stop.subscribe(), told);
    let limit = tokio::time::sleep(Duration::from_secs(order.timeout) + GRACE);
    tokio::pin!(limit);
    let mut task = tokio::spawn(executor.run(step, hands));
    loop {
        tokio::select! {
            end = &mut task => {
                return end.unwrap_or_else(|_| End::failed(Class::Unknown, "it fell over; its fault is in the log of its runner"));
            }
            // Whose it is would have said so, unless it is gone for good.
            () = &mut limit, if !*work.stop.borrow() => drop(work.stop.send_replace(true)),
        }
    }
}

fn step(work: &Work, order: &Order, workspace: &str) -> Step {
    let there = |text: &str| text.replace(WORKSPACE_THERE, workspace);
    let env = order.env.iter().map(|(name, value)| (name.clone(), Secret::new(there(value))));
    Step {
        run: order.key.run,
        stage: order.key.stage.clone(),
        attempt: order.key.attempt,
        settings: placed(order.settings.clone(), &there),
        workspace: PathBuf::from(workspace),
        folder: work.folder.clone(),
        env: env.collect(),
        limits: Limits { memory: order.memory, cpu: order.cpu, disk: order.disk },
        requester: order.requester.clone(),
        about: About {
            app: order.app.clone(),
            env: order.environment.clone(),
            sha: order.sha.clone(),
            reference: order.reference.clone(),
            repo: order.repo.clone(),
        },
        noted: None,
        checkpoint: order.checkpoint.clone(),
        token: None,
    }
}

/// The same value with the folder in it that is here.
fn placed(value: Value, there: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(there(&text)),
        Value::Array(list) => list.into_iter().map(|item| placed(item, there)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, item)| (key, placed(item, there))).collect(),
        other => other,
    }
}

/// Checks out what the run is about, once for all its steps here: the same commit that its own bot has.
async fn check_out(host: &Host, work: &Arc<Work>, order: &Order, step: &Step, mask: &Masker) -> Result<(), End> {
    let Some(repo) = order.repo.clone() else { return Ok(()) };
    let wanted = if order.sha.is_empty() { &order.reference } else { &order.sha };
    let wanted = if wanted.is_empty() { "HEAD" } else { wanted };
    // One after the other: two in one folder would meet.
    let lock = host.lock_of(&work.run);
    let _held = lock.lock().await;
    let marker = work.run.join(CHECKED_OUT);
    if std::fs::read_to_string(&marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let Some(git) = host.executors.get("git").cloned() else { return Ok(()) };
    let folder = work.folder.join("checkout");
    if let Err(fault) = std::fs::create_dir_all(&folder) {
        return Err(End::failed(Class::DiskFull, format!("{}: {fault}", folder.display())));
    }
    let log = StepLog::open(&folder, mask.clone());
    let told = Arc::new(Told(Arc::clone(work)));
    let hands = Hands::new(log, mask.clone(), host.supervisor.clone(), work.stop.subscribe(), told);
    let step = Step { settings: json!({"repo": repo, "ref": wanted}), folder, ..step.clone() };
    let mut end = git.run(step.clone(), hands.clone()).await;
    if matches!(&end, End::Failed(failure) if failure.class == Class::InfraLost && failure.exit.is_none()) {
        // It was lost with a bot before this one. To check out again harms nothing.
        let _ = std::fs::remove_dir_all(&step.folder);
        if let Err(fault) = std::fs::create_dir_all(&step.folder) {
            return Err(End::failed(Class::DiskFull, format!("{}: {fault}", step.folder.display())));
        }
        end = git.run(step, hands).await;
    }
    match end {
        End::Done { .. } => {
            // Without it the next step checks out once more.
            let _ = std::fs::write(&marker, wanted);
            Ok(())
        }
        End::Failed(failure) => {
            let line = format!("its runner cannot check out {repo}: {}", failure.line);
            Err(End::Failed(Failure { line, ..failure }))
        }
        other => Err(other),
    }
}

/// Hands words on to who looks. Nothing is noted: whoever asks again asks for the same.
struct Told(Arc<Work>);

impl Keeper for Told {
    fn note(&self, _: Value) -> Future<Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn tell(&self, words: String) {
        self.0.told.send_modify(|(number, told)| {
            *number += 1;
            *told = words;
        });
    }
}
