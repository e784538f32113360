//! What bots say to each other about the work of stages, as JSON in calls of the mesh.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::executors::{End, Failure};

/// What is asked of a runner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The epoch of whose records speak: one that is older than another that was heard says nothing any more.
    pub(super) epoch: i64,
    pub(super) asked: Asked,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    /// What it offers, and what it does for the one who asks.
    Who,
    /// A step is to be done. Asked again, it is the same.
    Begin(Box<Order>),
    /// How a step goes: its log from there on. It is answered when there is news, or after so many seconds.
    Look { key: Key, from: u64, seen: u64, wait: u64 },
    /// A step is to end.
    Stop { key: Key },
}

/// One attempt of a stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) run: u64,
    pub(super) stage: String,
    pub(super) attempt: u32,
    /// When it began, by the clock of whose it is.
    pub(super) begun: i64,
}

/// A step, with everything that it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) executor: String,
    pub(super) settings: Value,
    pub(super) env: Vec<(String, String)>,
    /// Secrets among all that.
    pub(super) hide: Vec<String>,
    pub(super) memory: Option<u64>,
    pub(super) cpu: Option<u64>,
    pub(super) disk: Option<u64>,
    /// How long it may take, in seconds.
    pub(super) timeout: u64,
    pub(super) requester: String,
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) sha: String,
    pub(super) reference: String,
    pub(super) repo: Option<String>,
    pub(super) checkpoint: Option<Value>,
    /// The records of the runner that it was begun with, if it was.
    pub(super) instance: Option<String>,
}

/// What a runner offers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) labels: Vec<String>,
    pub(super) slots: u32,
    /// Slots that others than the one who asks take.
    pub(super) others: u32,
    pub(super) instance: String,
    /// What it does for the one who asks.
    pub(super) ours: Vec<Key>,
}

/// How a step stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It runs, or it has ended.
    #[default]
    Here,
    /// There is no slot for it now.
    Full,
    /// Nothing is known of it.
    Unknown,
    /// It was begun with other records of this runner.
    Other,
    /// It is not done.
    Refused(String),
}

/// How a step goes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) standing: Standing,
    /// Its log, in base64, and where it goes on.
    pub(super) text: String,
    pub(super) next: u64,
    /// Its newest words for people, and their number.
    pub(super) told: String,
    pub(super) seen: u64,
    /// How it ended; only when all of its log was told.
    pub(super) end: Option<Ended>,
    pub(super) instance: String,
}

/// How a step ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) how: How,
    /// What it gave although it failed.
    pub(super) left: Map<String, Value>,
    pub(super) checkpoint: Option<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    Done { outputs: Map<String, Value>, summary: String },
    Failed(Failure),
    Stopped,
    Unsure(String),
}

impl From<End> for How {
    fn from(end: End) -> How {
        match end {
            End::Done { outputs, summary } => How::Done { outputs, summary },
            End::Failed(failure) => How::Failed(failure),
            End::Stopped => How::Stopped,
            End::Unsure(why) => How::Unsure(why),
        }
    }
}

impl From<How> for End {
    fn from(how: How) -> End {
        match how {
            How::Done { outputs, summary } => End::Done { outputs, summary },
            How::Failed(failure) => End::Failed(failure),
            How::Stopped => End::Stopped,
            How::Unsure(why) => End::Unsure(why),
        }
    }
}

impl Progress {
    pub(super) fn standing(standing: Standing) -> Progress {
        Progress { standing, ..Progress::default() }
    }
}

impl Key {
    /// Whether both are attempts of one stage of one run.
    pub(super) fn is_same_stage(&self, other: &Key) -> bool {
        self.run == other.run && self.stage == other.stage
    }

    /// Whether it is a later attempt than another.
    pub(super) fn is_after(&self, other: &Key) -> bool {
        (self.begun, self.attempt) > (other.begun, other.attempt)
    }
}
