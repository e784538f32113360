//! What passes between the mesh and the rest of the house, as plain data: what happened elsewhere, and what happens here.

use super::book::{Member, PeerId};
use super::message::When;
use super::name::{Address, BotName, Word};
use super::trust::Trust;

/// Channels of a partyline from here on are local: they never cross a link.
pub const LOCAL_CHANNELS: u32 = 100_000;

/// Something happened in the net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A bot is there.
    Linked {
        /// Which.
        bot: BotName,
        /// The bot it is linked to.
        via: BotName,
    },
    /// A bot is gone. Those behind it are told first.
    Lost {
        /// Which.
        bot: BotName,
        /// Why.
        reason: String,
    },
    /// Somebody is on a channel of another bot's partyline.
    Joined {
        /// Who, where.
        member: Member,
        /// Whether this is news.
        when: When,
    },
    /// Somebody went to another channel.
    Moved {
        /// As it is now.
        member: Member,
        /// From where.
        from: u32,
    },
    /// Somebody left.
    Left {
        /// As it was.
        member: Member,
        /// Why.
        reason: String,
        /// Whether this is news.
        when: When,
    },
    /// Somebody has another name.
    Renamed {
        /// As it is now.
        member: Member,
        /// The name before.
        old: Word,
    },
    /// Somebody is away, or back.
    Away {
        /// As it is now.
        member: Member,
        /// Whether this is news.
        when: When,
    },
    /// Somebody says something, or acts.
    Said {
        /// Who, where.
        member: Member,
        /// To which channel.
        chan: u32,
        /// The words.
        text: String,
        /// Whether it is an action.
        act: bool,
    },
    /// A bot says something.
    BotSaid {
        /// Which.
        bot: BotName,
        /// To which channel; to all without.
        chan: Option<u32>,
        /// The words.
        text: String,
    },
    /// A bot answers what somebody here has asked.
    Answer {
        /// Which.
        from: BotName,
        /// Who asked.
        user: Word,
        /// In which session, where that is known.
        sock: Option<u32>,
        /// The line.
        text: String,
    },
    /// A script of another bot has sent something.
    Script {
        /// Which.
        from: BotName,
        /// What about.
        code: Word,
        /// The rest.
        args: String,
    },
    /// Somebody who may asks that a person leave our partyline.
    Boot {
        /// Who asks.
        from: Address,
        /// Whom.
        user: Word,
        /// Why.
        reason: String,
    },
}

/// One of us calls and waits for an answer, to be given with [`super::Mesh::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who calls.
    pub from: BotName,
    /// Over which link.
    pub via: PeerId,
    /// Of whom what it says about who its people are counts here, by the words of it and of all bots between.
    pub trust: Trust,
    /// Whether it is the one it says: it is linked with us, or all bots between are trusted.
    pub proven: bool,
    /// The number of the call, to be said back.
    pub id: u32,
    /// What about.
    pub cmd: String,
    /// The rest.
    pub data: String,
}

/// A note of somebody to a person of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who wrote it.
    pub from: Address,
    /// To whom.
    pub to: Word,
    /// The words.
    pub text: String,
}

/// What became of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It was shown.
    Shown,
    /// It is kept until they come.
    Stored,
    /// They are away; it is kept.
    StoredAway,
    /// There is nobody of this name.
    Nobody,
    /// A bind has it, and nobody else.
    Taken,
    /// It is not taken, for this reason.
    Refused(String),
}

/// Something happens on our own partyline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Somebody comes, or goes to another channel.
    Join {
        /// The number of the session; the same until they part. Below 2^24.
        sock: u32,
        /// The name.
        nick: Word,
        /// The channel; from [`LOCAL_CHANNELS`] on, nobody else hears of it.
        chan: u32,
        /// As [`Member::icon`].
        icon: char,
        /// `user@host`.
        host: String,
    },
    /// Somebody leaves.
    Part {
        /// Whose session.
        sock: u32,
        /// Why.
        reason: String,
    },
    /// Another name.
    Nick {
        /// Whose session.
        sock: u32,
        /// The name.
        nick: Word,
    },
    /// Away, or back.
    Away {
        /// Whose session.
        sock: u32,
        /// Words of one who is away.
        text: Option<String>,
    },
    /// Words or an action.
    Say {
        /// Whose session.
        sock: u32,
        /// The words.
        text: String,
        /// Whether it is an action.
        act: bool,
    },
    /// The bot speaks.
    Tell {
        /// To a channel; to all without.
        chan: Option<u32>,
        /// The words.
        text: String,
    },
}

/// Something that somebody here asks of other bots. Answers come as [`News::Answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who is on this bot?
    Who(BotName),
    /// Its message of the day.
    Motd(BotName),
    /// Which modules has it loaded?
    Modules(BotName),
    /// What are all bots?
    Info,
    /// The way to a bot.
    Trace(BotName),
    /// Let one bot link with another.
    Link {
        /// The one.
        via: BotName,
        /// The other.
        bot: BotName,
    },
    /// Let one bot end its link with another.
    Unlink {
        /// The one.
        via: BotName,
        /// The other.
        bot: BotName,
        /// Why.
        reason: String,
    },
    /// Let a bot send somebody off its partyline.
    Boot {
        /// Whom.
        user: Word,
        /// Where.
        bot: BotName,
        /// Why.
        reason: String,
    },
    /// A note to a person there.
    Note {
        /// To whom.
        user: Word,
        /// Where.
        bot: BotName,
        /// The words.
        text: String,
    },
}

impl Noted {
    /// What the one who wrote it is told, in Eggdrop's words.
    pub fn words(&self, to: &Word) -> String {
        match self {
            Noted::Shown => format!("Note sent to {to}."),
            Noted::Stored => format!("{to} is not on the party line; note stored."),
            Noted::StoredAway => format!("{to} is away; note stored."),
            Noted::Nobody => format!("No such user {to}."),
            Noted::Taken => format!("{to} rejected your note."),
            Noted::Refused(why) => format!("The note to {to} is not taken: {why}"),
        }
    }
}
