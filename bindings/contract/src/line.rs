//! What is to be known of words that are said, beside the words: how urgent they are, why they are said, what became of them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How urgent words are. Where lines have to wait, the higher class goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Somebody has to act on it. It is on the disk before it is said, and said again, marked, where it may have been lost.
    Page,
    /// Somebody waits for it.
    Reply,
    /// How something goes; worth little when it is old.
    Progress,
    /// Everything else.
    Chatter,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 4] = [Class::Page, Class::Reply, Class::Progress, Class::Chatter];

    /// As scripts and records write it.
    pub fn name(self) -> &'static str {
        ["page", "reply", "progress", "chatter"][self as usize]
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }

    /// How long its lines are worth saying to somebody who could not be reached meanwhile, where nobody says otherwise.
    pub fn worth(self) -> Duration {
        const MINUTE: u64 = 60;
        Duration::from_secs(match self {
            Class::Page => 24 * 60 * MINUTE,
            Class::Reply => 15 * MINUTE,
            Class::Progress => 2 * MINUTE,
            Class::Chatter => 10 * MINUTE,
        })
    }
}

/// What is to be known of words that are said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// How urgent they are.
    pub class: Option<Class>,
    /// How long they are worth saying; what waits longer is not said. Where none is given it is the class's own time, and matters only
    /// where the target could not be reached meanwhile.
    pub expires: Option<Duration>,
    /// Why they are said.
    pub cause: Option<Arc<Cause>>,
    /// Whether they are said where they are meant for, whatever that channel is told at once: a question, whose answer is awaited there.
    pub here: bool,
}

/// Why something is said: what `!why` tells. Whatever is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// The number of the event.
    pub event: u64,
    /// The kind it was matched as.
    pub kind: String,
    /// The mask that matched.
    pub mask: String,
    /// Who wrote the handler: `deploy.lua:12`.
    pub origin: String,
    /// Which version of it: the beginning of the SHA-256 of the script.
    pub version: String,
    /// Who did it, as the server told: `nick!user@host`.
    pub by: String,
    /// The handle of who did it.
    pub handle: String,
    /// Where it happened: `libera/#ops`; the network alone for what was said in private.
    pub place: String,
    /// The words that brought it about; none for what was said in private.
    pub words: String,
    /// The name of the call, as in `error e-7F3K`.
    pub call: String,
    /// The run of a pipeline it is about.
    pub run: i64,
}

/// How sure it is that words arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The server sent them back to us, or confirmed them.
    Echoed,
    /// The server says nothing of what it passes on: it had its time to refuse them, and did not.
    Guessed,
    /// Whoever took them cannot know.
    #[default]
    None,
}

/// What became of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The number of the (last) line, for `!why`; 0 where lines have none.
    pub line: u64,
    /// How sure it is.
    pub proof: Proof,
    /// The network's own id of the message.
    pub msgid: Option<String>,
    /// When that was known.
    pub at: DateTime<Utc>,
}
