//! What people on the partyline are told, and what linked bots are: plain data.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::How;

use super::place::Place;

/// Somebody who says or does something, as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The session; nothing for the bot and for people on linked bots.
    pub idx: Option<u32>,
    /// The name in this room: a handle, `handle~2` for a second session, `handle/bot` elsewhere.
    pub nick: Arc<str>,
    /// The handle.
    pub handle: Arc<str>,
    /// Where they come from.
    pub host: Arc<str>,
}

/// One thing that sessions are told. Shared between all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Its number.
    pub id: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub from: Author,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Words in a place.
    Said {
        /// Where.
        place: Place,
        /// The words.
        text: String,
        /// As a message, a notice or an action.
        how: How,
    },
    /// Words for one person.
    Whisper {
        /// Whom.
        to: Arc<str>,
        /// The words.
        text: String,
        /// As a message, a notice or an action.
        how: How,
    },
    /// Somebody came into a place.
    Joined {
        /// Which.
        place: Place,
    },
    /// Somebody left a place.
    Parted {
        /// Which.
        place: Place,
        /// With these words.
        reason: String,
    },
    /// People of a linked bot, which is the author, are in a place, all at once.
    Came {
        /// Which.
        place: Place,
        /// Who.
        who: Vec<Author>,
    },
    /// People of a linked bot left a place, all at once.
    Went {
        /// Which.
        place: Place,
        /// Who.
        who: Vec<Author>,
        /// With these words.
        reason: String,
    },
    /// Somebody left altogether.
    Left {
        /// With these words.
        reason: String,
    },
    /// Somebody is away, or back.
    Away {
        /// Why; nothing when back.
        reason: Option<Arc<str>>,
    },
    /// Somebody has another name now.
    Renamed {
        /// Which.
        to: Arc<str>,
    },
    /// A topic was set.
    Topic {
        /// Where.
        place: Place,
        /// The words.
        text: String,
    },
    /// A line of the log.
    Log {
        /// The console mode it belongs to.
        mode: char,
        /// How much it matters.
        level: tracing::Level,
        /// The line.
        text: String,
    },
}

/// Names of a crowd that are written out.
const NAMED: usize = 20;

/// A crowd as a line of text: who they are, as far as that is short.
pub(super) fn names(who: &[Author]) -> String {
    let named: Vec<&str> = who.iter().take(NAMED).map(|one| &*one.nick).collect();
    let more = who.len().saturating_sub(NAMED);
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

/// Something that linked bots should know, or that one of them tells. The room gives its own with [`Change::bot`] empty
/// ([`super::Party::changes`]) and takes others' with their name in it ([`super::Party::take`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The bot it happened on; nothing for this one.
    pub bot: Option<Arc<str>>,
    /// The session there.
    pub idx: u32,
    /// Whose session; for a bot's own words its name.
    pub handle: Arc<str>,
    /// What.
    pub what: Did,
}

/// What a [`Change`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Somebody logged in. Linked bots are told of [`Did::Joined`] only.
    Entered {
        /// From where.
        host: Arc<str>,
    },
    /// Somebody left altogether, after a [`Did::Parted`] for each channel.
    Left {
        /// With these words.
        reason: String,
    },
    /// Somebody is in a channel.
    Joined {
        /// Its number.
        channel: u32,
        /// Eggdrop's sign for how much they are: `*` owner, `+` master, `%` botnet master, `@` op, `-` anybody.
        icon: char,
        /// From where.
        host: Arc<str>,
    },
    /// Somebody left a channel.
    Parted {
        /// Its number.
        channel: u32,
        /// With these words.
        reason: String,
    },
    /// Words in a channel.
    Said {
        /// Its number.
        channel: u32,
        /// The words.
        text: String,
        /// Whether it is an action.
        act: bool,
    },
    /// A bot itself speaks: in a channel, or to everybody.
    Told {
        /// The channel; nothing for everybody.
        channel: Option<u32>,
        /// The words.
        text: String,
    },
    /// Somebody is away, or back.
    Away {
        /// Why; nothing when back.
        reason: Option<Arc<str>>,
    },
    /// A session has another handle.
    Renamed {
        /// The one before.
        old: Arc<str>,
    },
    /// The bot is not linked any more, and everybody on it is gone.
    Unlinked {
        /// With these words.
        reason: String,
    },
}
