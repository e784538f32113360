//! One step: what an executor is given, what it does meanwhile, what it gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::class::Failure;
use super::log::StepLog;
use super::mask::Masker;
use super::process::Supervisor;

/// A way to do the work of a stage: a file in this folder and a row in `EXECUTORS`.
pub trait Executor: Send + Sync + 'static {
    /// Refuses settings that can never work: the path of the key (`params.TAG`, empty for all of it) and a sentence. Called
    /// when a pipeline is read, so texts may still hold `{stage.output}`.
    fn check(&self, settings: &Value) -> Vec<(String, String)>;

    /// Does the work, or goes on with it: see [`Step::noted`]. It returns soon after [`Hands::stopping`], with nothing left
    /// behind that it started. Every fault is a [`Failure`] with one plain sentence; it never panics on what comes from outside.
    fn run(&self, step: Step, hands: Hands) -> Future<End>;

    /// Undoes what a finished step did, for a rollback. What cannot be undone says so.
    fn undo(&self, step: Step, hands: Hands) -> Future<End> {
        let _ = (step, hands);
        Box::pin(async { End::failed(super::Class::Config, "this kind of stage has no way back of its own") })
    }

    /// Whether [`Executor::undo`] is more than saying that it cannot be.
    fn undoes(&self) -> bool {
        false
    }

    /// Whether its steps work with files: a workspace, a folder of their own. Where they do not, neither is made; a log that is
    /// written to makes its own.
    fn works_with_files(&self) -> bool {
        true
    }

    /// Whether what a step with these settings starts elsewhere tells how it goes, with a token of its own: see [`Step::token`].
    fn tells(&self, settings: &Value) -> bool {
        let _ = settings;
        false
    }

    /// Whether its steps can be done by another bot: they need nothing but a checkout and what they are told.
    fn runs_elsewhere(&self) -> bool {
        false
    }

    /// What becomes of a step that was running when the bot died, if its executor cannot tell by itself: whether it may
    /// simply run again.
    fn repeatable(&self) -> bool {
        false
    }
}

/// One attempt of a stage.
#[derive(Clone, Debug)]
pub struct Step {
    /// The number of the run: `118`.
    pub run: u64,
    /// The stage, with its place in a matrix: `test`, `test[unit]`.
    pub stage: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What the pipeline says under the executor's name, with everything in braces filled in.
    pub settings: Value,
    /// Where the stages of a run work, one after the other. It exists if [`Executor::works_with_files`].
    pub workspace: PathBuf,
    /// This attempt's own folder: its log, its processes' notes. It exists if [`Executor::works_with_files`].
    pub folder: PathBuf,
    /// Variables for commands, secret or not.
    pub env: Vec<(String, Secret)>,
    /// What a command may use up.
    pub limits: Limits,
    /// Who asked, for change causes and the like: a handle.
    pub requester: String,
    /// What the run is about.
    pub about: About,
    /// What was noted last about this attempt ([`Hands::note`]), if the bot was restarted meanwhile. `None` means that nothing
    /// was begun.
    pub noted: Option<Value>,
    /// What the attempt before this one left as a checkpoint, for what can go on where it was.
    pub checkpoint: Option<Value>,
    /// What lets a build elsewhere tell how it goes, while this step runs and of nothing else; if [`Executor::tells`].
    pub token: Option<Secret>,
}

/// What a run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// The commit, if it is known.
    pub sha: String,
    /// What was asked for: a branch, a tag.
    pub reference: String,
    /// Where its source is, if the pipeline says so.
    pub repo: Option<String>,
}

/// What a command may use up. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Bytes of disk: of what it adds to the workspace, and of any one file.
    pub disk: Option<u64>,
}

impl Step {
    /// The name of this attempt in worlds outside: a Jenkins parameter, an annotation, a tag. The same after a restart.
    pub fn marker(&self) -> String {
        format!("{}/{}/{}", self.run, self.stage, self.attempt)
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It is done.
    Done {
        /// What later stages can use.
        outputs: Map<String, Value>,
        /// A few words for the channel, such as `412 passed`; may be empty.
        summary: String,
    },
    /// It failed.
    Failed(Failure),
    /// It was stopped because [`Hands::stopping`] said so, and nothing of it is left running.
    Stopped,
    /// It may be half done, and only a person can tell: a sentence that says what to look at.
    Unsure(String),
}

impl End {
    /// Done, with nothing to tell.
    pub fn done() -> End {
        End::Done { outputs: Map::new(), summary: String::new() }
    }

    /// Failed, with its class and a sentence.
    pub fn failed(class: super::Class, line: impl Into<String>) -> End {
        End::Failed(Failure::new(class, line))
    }
}

/// What an executor can do while it works. Cheap to clone.
#[derive(Clone)]
pub struct Hands {
    /// The log of this attempt; what is written is masked.
    pub log: StepLog,
    /// Hides the secrets of this run.
    pub mask: Masker,
    /// Where the supervisor of commands is.
    pub supervisor: Supervisor,
    stop: watch::Receiver<bool>,
    keeper: Arc<dyn Keeper>,
}

/// Keeps what an executor must not forget.
pub trait Keeper: Send + Sync + 'static {
    /// Keeps a note about this attempt; ready once it is durable.
    fn note(&self, note: Value) -> Future<Result<(), String>>;
    /// A few words about how it goes, for people: `canary 25%`, `waiting for an agent`. The newest wins.
    fn tell(&self, words: String);
}

impl Hands {
    /// Hands for one attempt. `stop` becomes true when it is to end.
    pub fn new(
        log: StepLog,
        mask: Masker,
        supervisor: Supervisor,
        stop: watch::Receiver<bool>,
        keeper: Arc<dyn Keeper>,
    ) -> Hands {
        Hands { log, mask, supervisor, stop, keeper }
    }

    /// Keeps what must be known after a restart; ready once it is durable. Call it *before* what cannot be taken back, and
    /// again with what came of it. A note that cannot be kept is a reason to stop: whoever goes on would not be found again.
    pub async fn note(&self, note: Value) -> Result<(), Failure> {
        let kept = self.keeper.note(self.mask.hide_all(note)).await;
        kept.map_err(|fault| Failure::new(super::Class::Unknown, format!("the bot cannot keep its records: {fault}")))
    }

    /// Tells people how it goes. The newest wins; it need not be said at all.
    pub fn tell(&self, words: impl Into<String>) {
        self.keeper.tell(self.mask.hide(&words.into()));
    }

    /// Ready when the step is to end: somebody aborted it, or its time is over.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        // A sender that is gone will never stop anybody.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the step is to end.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, unless the step is to end; whether it is.
    pub async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stopping() => true,
            () = tokio::time::sleep(time) => self.is_stopping(),
        }
    }
}
