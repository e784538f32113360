//! A pipeline as its file says it, read and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::expr::Expr;
use super::graph::Graph;
use super::runners::Wanted;
use super::window::Window;
use crate::executors::{Class, Limits};
use crate::users::FlagMask;

/// One pipeline file. It never changes: an edited file is another one.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The name of the file without its end; what `!deploy` and `pipeline.run` call it by, unless it has an `app`.
    pub name: String,
    /// What it ships.
    pub app: String,
    /// Where its source is, for `git` stages and to show commits.
    pub repo: Option<String>,
    /// One sentence.
    pub description: String,
    /// SHA-256 of the text, in hex: which version a run ran.
    pub hash: String,
    /// The text.
    pub source: Arc<str>,
    /// The file.
    pub file: PathBuf,
    /// What one may choose.
    pub params: Vec<Param>,
    /// What starts it beside people.
    pub triggers: Vec<Trigger>,
    /// Who may do what, when and how.
    pub policy: Policy,
    /// Where it is talked about.
    pub announce: Announce,
    /// Stages in the order of the file, those of `finally` last.
    pub stages: Vec<Stage>,
    /// What needs what. A stage of `finally` needs none here: it begins when all others have ended.
    pub graph: Graph,
}

/// Something one may choose when a run is started.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub takes: Takes,
    /// What it is unless it is given.
    pub default: Option<Value>,
    /// Whether it may be missing altogether.
    pub optional: bool,
    /// Flags that are needed to give it a value.
    pub needs_flag: Option<FlagMask>,
    /// Whether nobody may see what it is.
    pub secret: bool,
}

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Takes {
    /// One of these.
    Choice(Vec<String>),
    /// Text, of this form if one is given.
    Text(Option<String>),
    /// A branch, tag or commit.
    Ref,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Number,
}

/// What starts a pipeline by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The kind that is bound: `pub` for people, `webhook`, `time`, `file`, `stream`, `log`, `metric`, `rest`, `database`.
    pub kind: String,
    /// Its mask; for people the channels where it may be asked for, parted by blanks.
    pub mask: String,
    /// A condition on `event`.
    pub when: Option<Expr>,
    /// Parameters; texts may hold `{event.field}`.
    pub params: Map<String, Value>,
    /// The zone of a schedule.
    pub tz: Option<String>,
}

/// Who may do what, when and how.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What must not run beside it.
    pub concurrency: Concurrency,
    /// A key that makes equal requests one, and for how long.
    pub idempotency: Option<(String, Duration)>,
    /// How long a run may take once it has begun.
    pub timeout: Option<Duration>,
    /// How long a run may wait for its turn.
    pub queue_timeout: Option<Duration>,
    /// The rules of each environment, in the order of the file.
    pub environments: Vec<(String, Rules)>,
}

/// What must not run at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// A text that is the same for those: `deploy:shop:{environment}`.
    pub group: String,
    /// What happens to one more.
    pub on_busy: OnBusy,
    /// So many may wait.
    pub max_queued: usize,
}

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency { group: "deploy:{app}:{environment}".to_owned(), on_busy: OnBusy::Queue, max_queued: 10 }
    }
}

/// What happens to a run whose group is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBusy {
    /// It waits.
    #[default]
    Queue,
    /// The one that runs is cancelled, and those that wait are dropped.
    CancelOlder,
    /// It is refused.
    Reject,
    /// It waits, and those that waited before it, for their turn or for people, are dropped.
    LatestOnly,
}

/// The rules of an environment.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether the one who asks has to say yes to what was understood.
    pub confirm: bool,
    /// Flags that are needed. `None` stands for `-`: everybody.
    pub flags: Option<FlagMask>,
    /// Who has to agree, if anybody.
    pub approvals: Option<Approvals>,
    /// Who has to agree where somebody overrides a rule; those of `approvals` where nothing is said.
    pub emergency: Option<Approvals>,
    /// When it may run; always if there are none.
    pub windows: Vec<Window>,
    /// Calendars of times when it must not, below the folder that holds the one of the pipelines: `config/`.
    pub freeze: Vec<PathBuf>,
    /// More commits than this are told before the yes.
    pub max_commits: Option<u64>,
    /// What happens after a failure.
    pub rollback: Rollback,
    /// Conditions that must hold before a run may begin.
    pub checks: Vec<Check>,
    /// How urgent its runs are: the more, the sooner they get what stages share.
    pub priority: u64,
}

impl Rules {
    /// Who has to agree to a run; `reason` is why rules are overridden, if they are.
    pub fn asks(&self, reason: Option<&str>) -> Option<&Approvals> {
        let emergency = reason.and(self.emergency.as_ref());
        emergency.or(self.approvals.as_ref())
    }
}

/// Something that must hold before a run may begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A condition on what is known of the run.
    Holds(Expr),
    /// Somebody outside is asked: what it is called, and how.
    Asks(String, Action),
}

/// Who has to agree.
#[derive(Clone, Debug)]
pub struct Approvals {
    /// How many.
    pub count: usize,
    /// Who: handles, or `@role`. Empty is everybody who may deploy there.
    pub from: Vec<String>,
    /// Whether the one who asked does not count.
    pub not_requester: bool,
    /// How long there is for it.
    pub expires: Duration,
    /// Only then.
    pub when: Option<Expr>,
}

/// What happens after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// Nothing, an offer, or at once.
    pub mode: RollbackMode,
    /// An offer that nobody answers is taken after this time.
    pub auto_after: Option<Duration>,
    /// Whether the environment is locked afterwards.
    pub lock: bool,
}

/// How a rollback comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollbackMode {
    /// Only if somebody asks.
    #[default]
    Never,
    /// It is offered.
    Offer,
    /// It happens.
    Auto,
}

/// Where a pipeline is talked about.
#[derive(Clone, Debug, Default)]
pub struct Announce {
    /// The places. None: where it was asked for.
    pub places: Vec<AnnouncePlace>,
    /// How long what ends is gathered into one line.
    pub coalesce: Option<Duration>,
    /// Whether it is told how runs go, beside their beginning and their end; where nothing is said, if people confirm them.
    pub progress: Option<bool>,
}

/// A place, and what it hears.
#[derive(Clone, Debug)]
pub struct AnnouncePlace {
    /// `#ops`, `libera/#ops`.
    pub target: String,
    /// Only these kinds of news: `start failed finished rollback lock`. Empty is all.
    pub only: Vec<String>,
    /// Only then.
    pub when: Option<Expr>,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its line in the file.
    pub line: u64,
    /// What must have ended before, and how.
    pub needs: Vec<Need>,
    /// Only then.
    pub when: Option<Expr>,
    /// What it is done for, one instance each.
    pub matrix: Option<Matrix>,
    /// What it does, one after the other: the work, then `verify`, then `health`.
    pub actions: Vec<Action>,
    /// What a person or the clock has to do instead of an executor.
    pub wait: Option<Wait>,
    /// How it is undone.
    pub rollback: Option<Undo>,
    /// Variables for commands, as they are written; `${...}` in them is a secret.
    pub env: Vec<(String, String)>,
    /// How it is tried again.
    pub retry: Retry,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How long it may say nothing.
    pub idle_timeout: Option<Duration>,
    /// What it uses.
    pub resources: Resources,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Whether it may simply run again if the bot died while it ran.
    pub idempotent: bool,
    /// Reports that are read when it has ended.
    pub collect: Collect,
    /// What must hold for it to have succeeded.
    pub gate: Option<Expr>,
    /// Outputs by another name: `image: "result.env.IMAGE"`.
    pub outputs: Vec<(String, String)>,
    /// Whether it stands under `finally`.
    pub finally: bool,
    /// Who may leave it out.
    pub skip: Skip,
    /// Whether it is what brings the version out, so that nothing went live without it.
    pub live: bool,
    /// What its runner must have; this bot does it where nothing is said.
    pub runner: Option<Wanted>,
}

/// Who may leave a stage out with `--skip` or `--only`.
#[derive(Clone, Debug, PartialEq)]
pub enum Skip {
    /// Who has these flags; `None` stands for `-`: all who may deploy there.
    Flags(Option<FlagMask>),
    /// Nobody: people have to agree, or the clock has to.
    Never,
}

/// What must have ended, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The stage, by its place.
    pub stage: usize,
    /// How it must have ended.
    pub form: Form,
}

/// How a needed stage must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `a`: well. If it was skipped, so is what needs it.
    Succeeded,
    /// `a?`: well, or skipped.
    Optional,
    /// `a.failed`: badly.
    Failed,
    /// `a.done`: in whatever way.
    Done,
}

/// What a stage is done for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Names and their values; every combination is one instance.
    pub axes: Vec<(String, Axis)>,
    /// Combinations that are left out.
    pub exclude: Vec<Map<String, Value>>,
    /// So many at once; all if `None`.
    pub max_parallel: Option<usize>,
    /// Whether the others are cancelled when one fails.
    pub fail_fast: bool,
}

/// The values of one name.
#[derive(Clone, Debug, PartialEq)]
pub enum Axis {
    /// As they are written.
    Values(Vec<Value>),
    /// A list that a stage before gives: `{discover.hosts}`.
    From(String),
}

/// A thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The executor's name.
    pub executor: String,
    /// What it is told; texts may hold `{...}`.
    pub settings: Value,
}

/// What a person or the clock has to do.
#[derive(Clone, Debug)]
pub enum Wait {
    /// People agree.
    Approve(Approvals),
    /// Time passes.
    Pause(Duration),
    /// A window opens.
    Window(Vec<Window>),
    /// The place is locked, once nobody else has it locked: for how long, and why.
    Lock(Option<Duration>, String),
    /// The lock of who asked for the run is taken away.
    Unlock,
    /// Nothing: it is done at once. For what only holds other stages together.
    Nothing,
}

/// How a stage is undone.
#[derive(Clone, Debug, PartialEq)]
pub enum Undo {
    /// By its executor's own way back.
    Own,
    /// By another thing to do.
    Action(Action),
}

/// How a stage is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// So many more attempts.
    pub times: u32,
    /// The first wait.
    pub first: Duration,
    /// What each wait is multiplied by.
    pub factor: f64,
    /// The longest wait.
    pub max: Duration,
    /// How far a wait may differ, as a part of it.
    pub jitter: f64,
    /// Only for these failures; for all if empty.
    pub on: Vec<Class>,
    /// Never for these.
    pub unless: Vec<Class>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            times: 0,
            first: Duration::from_secs(2),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter: 0.2,
            on: vec![Class::Network, Class::InfraLost, Class::Quota],
            unless: Vec::new(),
        }
    }
}

impl Retry {
    /// Whether a failure of this class is tried again.
    pub fn allows(&self, class: Class) -> bool {
        class != Class::Cancelled && !self.unless.contains(&class) && (self.on.is_empty() || self.on.contains(&class))
    }

    /// How long to wait before the attempt after this one; `chance` from 0 to 1 decides about the jitter.
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let plain = (self.first.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let differs = plain * (1.0 + self.jitter * (2.0 * chance - 1.0));
        Duration::from_secs_f64(differs.clamp(0.0, self.max.as_secs_f64()))
    }
}

/// What a stage uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Slots of a pool: `default`, where nothing else is named.
    pub pool: String,
    /// How many of them.
    pub slots: u64,
    /// Thousandths of a processor, bytes of memory and of disk: counted against what the bot may use, and enforced for commands.
    pub limits: Limits,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources { pool: "default".to_owned(), slots: 1, limits: Limits::default() }
    }
}

/// What the failure of a stage means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on as if it had succeeded.
    Continue,
    /// Somebody decides.
    Ask,
    /// What was done is undone.
    Rollback,
}

/// Reports that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collect {
    /// A glob of JUnit files.
    pub junit: Option<String>,
    /// A glob of coverage reports.
    pub coverage: Option<String>,
    /// Globs of files to keep.
    pub artifacts: Vec<String>,
}

impl Collect {
    /// Whether anything is read or kept.
    pub fn any(&self) -> bool {
        self.junit.is_some() || self.coverage.is_some() || !self.artifacts.is_empty()
    }
}

impl Pipeline {
    /// A stage by its name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Where a calendar is that a rule names.
    pub fn calendar(&self, file: &Path) -> PathBuf {
        self.file.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join(file)
    }

    /// The environment, where there is one only.
    pub fn only_environment(&self) -> Option<&str> {
        let [(only, _)] = self.policy.environments.as_slice() else { return None };
        Some(only)
    }

    /// The rules of an environment.
    pub fn rules(&self, environment: &str) -> Option<&Rules> {
        self.policy.environments.iter().find(|(name, _)| name == environment).map(|(_, rules)| rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_the_jitter_alone() {
        let retry = Retry { first: Duration::from_secs(1), max: Duration::from_secs(6), ..Retry::default() };
        let waits: Vec<f64> = (1..=5).map(|attempt| retry.wait(attempt, 0.5).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 6.0, 6.0]);
        assert!(
            (retry.wait(1, 0.0).as_secs_f64() - 0.8).abs() < 1e-9
                && (retry.wait(1, 1.0).as_secs_f64() - 1.2).abs() < 1e-9
        );
        assert_eq!(retry.wait(9, 1.0), Duration::from_secs(6), "no wait is longer than the longest");
        assert!(retry.wait(9, 0.0) < Duration::from_secs(5));
        assert!(retry.allows(Class::Network) && !retry.allows(Class::TestFailed) && !retry.allows(Class::Cancelled));
    }
}
