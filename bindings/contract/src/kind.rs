//! A kind is a table of binds: its name, how its masks are matched, and what its handlers may rely on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::EventData;

/// The name of a bind table, such as `pub` or `cron`.
///
/// The set is open: a kind outside this tree makes its own with [`Kind::new`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(&'static str);

#[allow(non_upper_case_globals, reason = "read as variants: Kind::Pub")]
impl Kind {
    /// A channel line whose first word is the mask.
    pub const Pub: Kind = Kind("pub");
    /// Any channel line.
    pub const Pubm: Kind = Kind("pubm");
    /// A private line whose first word is the mask.
    pub const Msg: Kind = Kind("msg");
    /// Any private line.
    pub const Msgm: Kind = Kind("msgm");
    /// Somebody joins.
    pub const Join: Kind = Kind("join");
    /// Somebody leaves a channel.
    pub const Part: Kind = Kind("part");
    /// Somebody quits, once for each channel shared.
    pub const Sign: Kind = Kind("sign");
    /// Somebody is kicked.
    pub const Kick: Kind = Kind("kick");
    /// Somebody changes nick, once for each channel shared.
    pub const Nick: Kind = Kind("nick");
    /// One mode of a channel changes.
    pub const Mode: Kind = Kind("mode");
    /// A topic changes.
    pub const Topc: Kind = Kind("topc");
    /// A notice to the bot or a channel.
    pub const Notc: Kind = Kind("notc");
    /// A CTCP request.
    pub const Ctcp: Kind = Kind("ctcp");
    /// A CTCP reply.
    pub const Ctcr: Kind = Kind("ctcr");
    /// Any line of the server, by command.
    pub const Raw: Kind = Kind("raw");
    /// The same with message tags, before `raw`.
    pub const Rawt: Kind = Kind("rawt");
    /// Somebody is lost in a netsplit, once for each channel shared.
    pub const Splt: Kind = Kind("splt");
    /// Somebody lost in a netsplit is back.
    pub const Rejn: Kind = Kind("rejn");
    /// A whole netsplit, told once.
    pub const Netsplit: Kind = Kind("netsplit");
    /// The bot cannot do what it should in a channel: it lacks op, an invitation, a key…
    pub const Need: Kind = Kind("need");
    /// Somebody floods.
    pub const Flud: Kind = Kind("flud");
    /// Somebody is invited.
    pub const Invt: Kind = Kind("invt");
    /// Somebody goes away or comes back.
    pub const Ircaway: Kind = Kind("ircaway");
    /// Somebody logs in to services or out.
    pub const Account: Kind = Kind("account");
    /// Somebody's user name or host changes.
    pub const Chghost: Kind = Kind("chghost");
    /// Somebody's real name changes.
    pub const Setname: Kind = Kind("setname");
    /// A nick that is watched comes or goes.
    pub const Monitor: Kind = Kind("monitor");
    /// The server says something new about itself.
    pub const Isupport: Kind = Kind("isupport");
    /// A WALLOPS.
    pub const Wall: Kind = Kind("wall");
    /// The connection, named as Eggdrop does: `init-server`, `disconnect-server`…
    pub const Evnt: Kind = Kind("evnt");
    /// The bot says something: before it is queued, and when it has left.
    pub const Out: Kind = Kind("out");
    /// A line from before we were there.
    pub const Hist: Kind = Kind("hist");
    /// A message that is nothing but tags.
    pub const Tagmsg: Kind = Kind("tagmsg");
    /// A reaction to a message, or its end.
    pub const React: Kind = Kind("react");
    /// A message is taken back.
    pub const Redact: Kind = Kind("redact");
    /// The server says FAIL, WARN or NOTE.
    pub const Fail: Kind = Kind("fail");
    /// A schedule: Eggdrop's time mask, or five-field cron.
    pub const Time: Kind = Kind("time");
    /// A schedule in five-field cron.
    pub const Cron: Kind = Kind("cron");

    /// Somebody posts to the gateway.
    pub const Webhook: Kind = Kind("webhook");
    /// A file is created or changes.
    pub const File: Kind = Kind("file");
    /// A message of Kafka, RabbitMQ or Redis.
    pub const Stream: Kind = Kind("stream");
    /// A line of a log.
    pub const Log: Kind = Kind("log");
    /// A metric crosses a threshold.
    pub const Metric: Kind = Kind("metric");
    /// Something that is polled over HTTP changes.
    pub const Rest: Kind = Kind("rest");
    /// A query's rows change.
    pub const Database: Kind = Kind("database");

    /// A kind of one's own. Lower case letters, at most 16.
    pub const fn new(name: &'static str) -> Kind {
        Kind(name)
    }

    /// The name as it is bound: `pub`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// How a mask of this kind meets the subject of an event. The rules are Eggdrop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// The whole first word, case folded, no wildcards.
    Word,
    /// The whole subject, case folded, with `*`, `?`, `%` (a run without blanks), `~` (one or more blanks) and `\`.
    Mask,
    /// `#chan +o`: like [`Matching::Mask`] for the channel, but the mode is compared with its case.
    ModeMask,
    /// The kind's source decides and names the bind in [`EventData::bind`].
    Named,
    /// The event comes from the journal; [`KindSpec::wants`] says from which stream, and what of it.
    Journal,
}

/// Whose flags a bind of this kind asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagScope {
    /// Global flags and those of the event's channel.
    Channel,
    /// Global flags and the union of the flags on every channel.
    AnyChannel,
    /// Global flags alone.
    Global,
    /// Nobody stands behind the event; only `-|-` makes sense.
    Nobody,
}

/// What a handler's [`crate::Outcome::Stop`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Writes the line to the command log.
    Log,
    /// Keeps the line out of the channel log; the other handlers still run.
    Quiet,
    /// Ends the stack, and the bot's own handling of this event.
    Stop,
    /// Keeps the bot from what it does by itself; the other handlers still run.
    Hold,
    /// Nothing.
    Ignored,
}

/// A fault in a mask, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct MaskFault {
    /// Where it is wrong: characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// What a bind of an ingested kind wants, made from its mask.
#[derive(Clone)]
pub struct Wanted {
    /// The stream that its source writes to the journal. Binds that can share a source want the same stream.
    pub stream: Arc<str>,
    /// What of that stream; everything where there is no filter.
    pub filter: Option<Filter>,
}

/// Reads a mask of an ingested kind.
pub type Wants = fn(&str) -> Result<Wanted, MaskFault>;

/// Whether an event is wanted.
pub type Filter = Arc<dyn Fn(&EventData) -> bool + Send + Sync>;

impl Wanted {
    /// Everything of a stream.
    pub fn all(stream: impl Into<Arc<str>>) -> Wanted {
        Wanted { stream: stream.into(), filter: None }
    }

    /// Whether this event of the stream is wanted.
    pub fn meets(&self, event: &EventData) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(event))
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stream, if self.filter.is_some() { " (filtered)" } else { "" })
    }
}

/// One row of a list of kinds.
pub struct KindSpec {
    /// The name.
    pub kind: Kind,
    /// How masks meet subjects.
    pub matching: Matching,
    /// Whose flags count.
    pub flags: FlagScope,
    /// Whether several handlers may stand behind the same mask. If not, the newest serves.
    pub stackable: bool,
    /// What `bot.STOP` means here.
    pub returns: Returns,
    /// The text that masks are matched against.
    pub subject: fn(&EventData) -> Cow<'_, str>,
    /// Refuses a mask that can never work. Called when a bind is made.
    pub check: fn(&str) -> Result<(), MaskFault>,
    /// What the handler's event holds, in the order of Eggdrop's arguments.
    pub fields: &'static [&'static str],
    /// One sentence: when it fires.
    pub about: &'static str,
    /// What a mask looks like.
    pub example: &'static str,
    /// Which stream of the journal a mask wants ([`Matching::Journal`] only).
    pub wants: Option<Wants>,
}

impl MaskFault {
    /// A fault at a byte of the mask.
    pub fn at(mask: &str, byte: usize, message: impl Into<String>) -> MaskFault {
        let before = mask.get(..byte).unwrap_or(mask);
        MaskFault { column: before.chars().count() + 1, message: message.into() }
    }
}

impl fmt::Debug for KindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindSpec").field("kind", &self.kind).finish_non_exhaustive()
    }
}
