//! What a network tells of the lines it says, and what it asks before they leave.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use masterchief_contract::{Class, Future};

/// What became of a line. A line in several parts has one fate: the worst of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was handed to the connection.
    Sent,
    /// The connection ended before a byte of it was written: it waits again.
    Kept,
    /// The server passed it on: it said so.
    Echoed {
        /// The network's own id of the message.
        msgid: Option<String>,
    },
    /// The server says nothing of what it passes on, and had its time to refuse it.
    Guessed,
    /// The connection was lost before the server could say anything.
    Unknown,
    /// It was not said, or not passed on.
    Failed {
        /// The server's code; empty where it was not the server.
        code: String,
        /// Why.
        reason: String,
    },
    /// It waited longer than it was worth saying.
    Expired,
}

/// Whoever keeps account of what is said. Nothing here may wait, but what gives a future.
pub trait Around: Send + Sync + 'static {
    /// The same words with every secret hidden. Never longer than before.
    fn hide<'a>(&self, text: &'a str) -> Cow<'a, str>;
    /// Something became of a line.
    fn fate(&self, line: u64, fate: Fate);
    /// Words have left: `text` is what was sent.
    fn left(&self, network: &str, line: u64, class: Class, text: &str);
    /// Something has left that never waits: PING, PONG, a part of the login, without its secrets.
    fn left_at_once(&self, network: &str, text: &str);
    /// The network says something by itself: the number of that line. `line` is what is sent, `PRIVMSG #ops :words`.
    fn note(&self, network: &str, line: &str) -> u64;
    /// A connection is about to be made: from now on lines may leave. Ready once that would be known after a crash.
    fn dialling(&self, network: &str) -> Future<()>;
    /// The connection is gone: until the next one nothing leaves.
    fn gone(&self, network: &str);
    /// When something was last said in channels of a network, by folded name, as far as an earlier process has told.
    fn seen(&self, network: &str) -> BTreeMap<String, DateTime<Utc>>;
    /// Something is said in a channel, by the server's clock.
    fn saw(&self, network: &str, chan: &str, at: DateTime<Utc>);
}

/// Nobody keeps account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Around for Nobody {
    fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn fate(&self, _: u64, _: Fate) {}

    fn left(&self, _: &str, _: u64, _: Class, _: &str) {}

    fn left_at_once(&self, _: &str, _: &str) {}

    fn note(&self, _: &str, _: &str) -> u64 {
        0
    }

    fn dialling(&self, _: &str) -> Future<()> {
        Box::pin(std::future::ready(()))
    }

    fn gone(&self, _: &str) {}

    fn seen(&self, _: &str) -> BTreeMap<String, DateTime<Utc>> {
        BTreeMap::new()
    }

    fn saw(&self, _: &str, _: &str, _: DateTime<Utc>) {}
}
