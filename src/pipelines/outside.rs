//! What others are asked before a run may begin: how its commit fared, how figures are. Each is asked as a stage would be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use masterchief_contract::Future;
use serde_json::Value;
use tokio::sync::watch;

use super::attempt::about;
use super::collect::{hidden, told};
use super::expr::Facts;
use super::model::{Action, Check, Pipeline, Rules};
use super::steps::Steps;
use super::{template, words};
use crate::executors::{Class, End, Hands, Keeper, Limits, Masker, Step, StepLog};

/// How long each of them may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Where they write while they look, below the folder of all runs.
const FOLDER: &str = "checks";

/// How a check that asks outside came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it is called.
    pub name: String,
    /// Why it does not hold, or cannot be told; nothing if it holds.
    pub fault: Option<String>,
}

impl Rules {
    /// What others are asked before a run may begin.
    pub(super) fn asks_outside(&self) -> impl Iterator<Item = (&String, &Action)> {
        self.checks.iter().filter_map(|check| match check {
            Check::Asks(name, action) => Some((name, action)),
            Check::Holds(_) => None,
        })
    }
}

impl Steps {
    /// Asks what the rules of an environment want to know before a run may begin there.
    pub(super) async fn look(&self, pipeline: &Pipeline, env: &str, facts: &Facts) -> Vec<Checked> {
        let mut out = Vec::new();
        for (name, action) in pipeline.rules(env).into_iter().flat_map(|rules| rules.asks_outside()) {
            let fault = self.ask(pipeline, action, facts).await.err();
            let name = template::fill(name, facts).unwrap_or_else(|_| name.clone());
            out.push(Checked { name, fault });
        }
        out
    }

    async fn ask(&self, pipeline: &Pipeline, action: &Action, facts: &Facts) -> Result<(), String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let executor = self.inner.executors.get(&action.executor);
        let executor = Arc::clone(executor.ok_or_else(|| words::no_executor(&action.executor))?);
        let mut secrets = Vec::new();
        let settings = told(&action.settings, facts, &self.inner.project, &mut secrets)?;
        let folder = self.inner.folder.join(FOLDER).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let mask = Masker::new(&secrets);
        let log = StepLog::open(&folder, mask.clone());
        let (stop, stopping) = watch::channel(false);
        let hands = Hands::new(log, mask.clone(), self.inner.supervisor.clone(), stopping, Arc::new(Silent));
        let step = Step {
            run: 0,
            stage: "check".to_owned(),
            attempt: 1,
            settings,
            workspace: folder.clone(),
            folder: folder.clone(),
            env: Vec::new(),
            limits: Limits::default(),
            requester: String::new(),
            about: about(facts, pipeline.repo.clone()),
            noted: None,
            checkpoint: None,
            token: None,
        };
        let mut asked = tokio::spawn(executor.run(step, hands));
        let end = match tokio::time::timeout(ANSWER, &mut asked).await {
            // A fault of an executor is told, it does not end the bot.
            Ok(end) => end.unwrap_or_else(|_| End::failed(Class::Unknown, words::check_fell_over())),
            Err(_elapsed) => {
                stop.send_replace(true);
                End::failed(Class::Timeout, words::check_is_slow(ANSWER.as_secs()))
            }
        };
        // It need not be there.
        let _ = tokio::fs::remove_dir_all(&folder).await;
        match hidden(end, &mask) {
            End::Done { .. } => Ok(()),
            End::Failed(failure) => Err(failure.line),
            End::Stopped => Err(words::check_was_stopped()),
            End::Unsure(why) => Err(why),
        }
    }
}

/// Keeps nothing: who only looks has nothing to remember.
struct Silent;

impl Keeper for Silent {
    fn note(&self, _: Value) -> Future<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn tell(&self, _: String) {}
}
