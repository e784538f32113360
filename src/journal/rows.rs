//! What the journal takes and gives, beside events.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::Event;
use serde::Serialize;

/// How far a bind is with its stream. It has dealt with every event below `done`, except those that have a
/// [`DeliveryRow`]; those from `done` to `claimed` were being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The first number it is not done with.
    pub done: u64,
    /// The first number whose handling was not begun.
    pub claimed: u64,
}

/// An event that did not go the straight way for a bind.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// The event.
    pub event: Event,
    /// What it waits for.
    pub state: RowState,
    /// Tries so far.
    pub attempts: u32,
    /// When it is tried next.
    pub due: DateTime<Utc>,
    /// Whether the process died during a try.
    pub crashed: bool,
    /// What went wrong last.
    pub error: String,
    /// Whether somebody asked for it again.
    pub replay: Replay,
}

/// Whether somebody asked for an event again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replay {
    /// Nobody did.
    #[default]
    No,
    /// Yes, and nothing of it is said in channels.
    Quiet,
    /// Yes, and what it says is said.
    Speak,
}

impl Replay {
    /// As it stands in the tables.
    pub(super) fn number(self) -> u8 {
        match self {
            Replay::No => 0,
            Replay::Quiet => 1,
            Replay::Speak => 2,
        }
    }

    /// What is not known says nothing.
    pub(super) fn of(number: u8) -> Replay {
        match number {
            0 => Replay::No,
            2 => Replay::Speak,
            _ => Replay::Quiet,
        }
    }
}

/// What a delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// To be tried when it is due, or when those before it in its lane are done.
    Waiting,
    /// An operator.
    Held,
}

/// What a bind has done and is about to do, written at once.
#[derive(Clone, Debug)]
pub struct Advance {
    /// Whose.
    pub bind: Arc<str>,
    /// The stream it reads.
    pub stream: Arc<str>,
    /// Where it is.
    pub cursor: Cursor,
    /// Rows to write or to change.
    pub put: Vec<DeliveryRow>,
    /// Rows that are done with.
    pub drop: Vec<u64>,
    /// Rows that become dead letters.
    pub dead: Vec<NewDead>,
}

/// A delivery that is given up.
#[derive(Clone, Debug)]
pub struct NewDead {
    /// The event.
    pub event: Event,
    /// Tries.
    pub attempts: u32,
    /// Why.
    pub reason: String,
    /// Whether somebody asked for it again: if it is tried once more it stays that.
    pub replay: Replay,
}

/// A dead letter, or a delivery that is held.
#[derive(Clone, Debug, Serialize)]
pub struct DeadRow {
    /// Its number among the dead letters; for a held one the event's number with a minus in front.
    pub id: i64,
    /// Whether it is dead or held.
    pub state: DeadState,
    /// When it died.
    pub at: DateTime<Utc>,
    /// The stream it came in.
    pub stream: String,
    /// The event's number; none where the bytes could not be understood.
    pub number: Option<u64>,
    /// The bind: kind, mask and owner. Empty where the bytes could not be understood.
    pub bind: String,
    /// Tries.
    pub attempts: u32,
    /// Why.
    pub reason: String,
    /// The lane it came in.
    pub lane: String,
    /// Whether it was a replay.
    pub replay: Replay,
    /// The event.
    #[serde(skip)]
    pub event: Option<Event>,
    /// The bytes that could not be understood.
    #[serde(skip)]
    pub raw: Option<Vec<u8>>,
}

/// Dead or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadState {
    /// Given up.
    Dead,
    /// The process died during its call, and its bind wants an operator to decide.
    Held,
}

/// An event as it is listed.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The stream it came in.
    pub stream: String,
    /// The event.
    pub event: Event,
}

/// A stream as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct StreamRow {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Events kept.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest was written.
    pub newest: Option<DateTime<Utc>>,
    /// For each bind, how many numbers it is behind.
    pub behind: Vec<(String, u64)>,
}

/// How the journal is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JournalStatus {
    /// The number the next event will have.
    pub next: u64,
    /// Bytes of events it holds.
    pub bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that wait: for a retry, behind another, or for an operator.
    pub waiting: u64,
    /// Those of them that wait for an operator.
    pub held: u64,
    /// Whether sources have to wait.
    pub full: bool,
}

/// What of the journal a stream has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareRow {
    /// The stream.
    pub stream: String,
    /// Bytes of its events.
    pub bytes: u64,
    /// Whether that is all it may have, so that its source has to wait.
    pub full: bool,
}

/// What a bind had not done whose place is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetGo {
    /// Whose.
    pub bind: String,
    /// The stream it read.
    pub stream: String,
    /// Events that are dead letters now.
    pub letters: u64,
    /// Events behind those that it may have wanted. They are in the journal as long as that keeps them, and nobody handles them.
    pub rest: u64,
    /// The first and the last of those.
    pub numbers: Option<(u64, u64)>,
}
