//! What the engine is told, and what is to happen because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use masterchief_contract::Secret;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::ask::{Answer, Asked, May, Prepared};
use super::preview::Preview;
use super::risk::Foretold;
use crate::executors::End;
use crate::pipelines::calendars::Calendars;
use crate::pipelines::catalog::Catalog;
use crate::pipelines::expr::Facts;
use crate::pipelines::model::Pipeline;
use crate::pipelines::outside::Checked;
use crate::pipelines::pools::PoolRow;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Millis};
use crate::pipelines::runners::{Offer, RunnerRow, Settings as RunnerSettings};
use crate::pipelines::settings::Settings;
use crate::pipelines::state::{RunState, StageState};
use crate::store::runs::{ArtifactRow, LogSegmentRow};

/// What is told to the engine.
pub(in crate::pipelines) enum Msg {
    /// Somebody asks for something.
    Ask(Box<Asked>, oneshot::Sender<Answer>),
    /// A step ended.
    Ended(Box<Ended>),
    /// An executor keeps a note: run, stage, attempt.
    Note(i64, usize, u32, Value, oneshot::Sender<Result<(), String>>),
    /// The work of a stage begins, or is taken up again: run, stage, attempt.
    Began(i64, usize, u32),
    /// The work of a stage is done, and it is looked whether it proves good: run, stage, attempt, what is noted of it.
    Validating(i64, usize, u32, Value),
    /// An executor says how it goes.
    Doing(i64, usize, String),
    /// A remote build says how the stage of this name goes.
    Told(i64, String, String),
    /// A network is there: back after so long, or for the first time since the bot was started.
    Back(String, Option<Millis>),
    /// Somebody of a network left, or has another nick now: network, nick.
    Gone(String, String),
    /// Somebody of a network was lost in a netsplit: network, nick.
    Lost(String, String),
    /// Words of a network were taken back: network, the network's own id of them.
    Redacted(String, String),
    /// Somebody for whom a network vouches is there.
    Found(Box<Asker>),
    /// How long a run still takes.
    Left(i64, oneshot::Sender<Option<Millis>>),
    /// What would be foretold of a run: app, environment, who asks.
    Predict(String, String, String, oneshot::Sender<Foretold>),
    /// What a run would be, without asking for it: for whom, and what they may.
    Preview(Box<Prepared>, Box<(Asker, May)>, oneshot::Sender<Result<Preview, Refusal>>),
    /// What stages share, and who holds it.
    Slots(oneshot::Sender<Vec<String>>),
    /// What is booked.
    Booked(oneshot::Sender<Vec<String>>),
    /// The same as figures.
    Pools(oneshot::Sender<Vec<PoolRow>>),
    /// What is configured of this bot as a runner, and what all runners offer now.
    Offered(Box<RunnerSettings>, Vec<Offer>),
    /// All runners, and how many slots the stages of this bot take here.
    Runners(oneshot::Sender<(Vec<RunnerRow>, u32)>),
    /// What others said who were asked whether a run may begin.
    Checked(i64, Vec<Checked>),
    /// Calendars that were read anew.
    Calendars(Box<Calendars>),
    /// Other pipelines and settings.
    Configure(Arc<Catalog>, Box<Settings>),
}

/// How a step ended.
pub(in crate::pipelines) struct Ended {
    pub(in crate::pipelines) run: i64,
    pub(in crate::pipelines) stage: usize,
    pub(in crate::pipelines) attempt: u32,
    pub(in crate::pipelines) end: End,
    /// What it gave although it failed.
    pub(in crate::pipelines) outputs: Map<String, Value>,
    /// If it was begun before the bot was: whether it may simply be done again should it have been lost.
    pub(in crate::pipelines) resumed: Option<bool>,
    pub(in crate::pipelines) checkpoint: Option<Value>,
    pub(in crate::pipelines) artifacts: Vec<ArtifactRow>,
    /// What is kept of its log.
    pub(in crate::pipelines) log: Vec<LogSegmentRow>,
}

/// What is to happen once all is written.
pub(in crate::pipelines) enum Effect {
    /// A step begins, or goes on.
    Start(Box<Order>),
    /// A step is to end.
    Stop(i64, usize),
    /// What runs of a stage that nobody can go on with is ended: run, stage, attempt.
    Abandon(i64, String, u32),
    /// Others are asked whether a run may begin.
    Look(i64, Arc<Pipeline>, String, Facts),
    /// It is looked whether these calendars changed.
    Calendars(Calendars, BTreeSet<PathBuf>),
    /// A line is said to a place, and noted as said under this key.
    /// How it goes is not worth saying any more once the network is back; the rest is.
    Say { run: i64, dedupe: String, target: String, text: String, passing: bool },
    /// Words for one person, kept nowhere.
    Tell { place: String, nick: String, text: String },
    /// Something changed.
    News(News),
    /// Somebody is answered.
    Answer(oneshot::Sender<Answer>, Answer),
    /// A note is kept.
    Noted(oneshot::Sender<Result<(), String>>),
    /// What a run was given in secret is kept.
    Keep(i64, BTreeMap<String, Secret>),
    /// It is not needed any more.
    Forget(i64),
    /// What steps of a run left of secrets is not needed any more; and if it is so, neither is what it worked in.
    Tidy(i64, bool),
}

/// What a step is told.
#[derive(Clone, Debug)]
pub(in crate::pipelines) struct Order {
    pub(in crate::pipelines) run: i64,
    pub(in crate::pipelines) stage: usize,
    pub(in crate::pipelines) attempt: u32,
    pub(in crate::pipelines) name: String,
    pub(in crate::pipelines) spec: usize,
    pub(in crate::pipelines) undo: bool,
    pub(in crate::pipelines) pipeline: Arc<Pipeline>,
    pub(in crate::pipelines) facts: Facts,
    pub(in crate::pipelines) requester: String,
    /// The run that is undone, if one is.
    pub(in crate::pipelines) parent: Option<i64>,
    pub(in crate::pipelines) noted: Option<Value>,
    pub(in crate::pipelines) checkpoint: Option<Value>,
    /// Whether it was begun before the bot was.
    pub(in crate::pipelines) resumed: bool,
    pub(in crate::pipelines) begun: Millis,
    /// Who does it, if it is another runner.
    pub(in crate::pipelines) elsewhere: Option<String>,
    /// The plan that people agreed to.
    pub(in crate::pipelines) apply: Option<Value>,
}

/// A run or a stage changed; for whoever follows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct News {
    /// The run.
    pub run: i64,
    /// Which event of it.
    pub seq: i64,
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// How far the run is.
    pub state: RunState,
    /// The stage it is about, if it is about one.
    pub stage: Option<String>,
    /// How far that is.
    pub stage_state: Option<StageState>,
    /// What happened: `run`, `stage` or `doing`.
    pub kind: &'static str,
    /// Words for people.
    pub text: String,
    /// Why the stage failed, if it did.
    pub line: Option<String>,
    /// Who asked for the run.
    pub requester: String,
    /// What goes out.
    pub version: String,
    /// Stages that ended, and all there are.
    pub done: (usize, usize),
}
