//! An event: something that happened, checked once, and the same for every handler.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::action::{Action, How, Outlet, Refused};
use crate::{BindId, CaseMap, Kind, Mark, Receipt};

/// Something that happened. Cheap to clone.
///
/// A source makes it from [`EventData`]; the street adds a [`Call`] for each handler it is given to.
#[derive(Clone)]
pub struct Event {
    data: Arc<EventData>,
    call: Option<Arc<Call>>,
}

/// What a source knows of an event.
#[derive(Clone, Debug)]
pub struct EventData {
    /// Its number: in the journal for what passed it, else in this process.
    pub id: u64,
    /// The kinds whose binds are offered this event, in this order (`pubm` before `pub`).
    pub kinds: &'static [Kind],
    /// When it happened: the server's time where it says one.
    pub at: DateTime<Utc>,
    /// The network it came from; empty for events of no network.
    pub network: Arc<str>,
    /// How that network compares names.
    pub casemap: CaseMap,
    /// Who did it.
    pub actor: Option<Actor>,
    /// The channel it happened in.
    pub chan: Option<Arc<str>>,
    /// The words, without formatting codes: the line, the reason, the topic, the keyword's argument.
    pub text: String,
    /// IRCv3 message tags, unescaped; the last of a repeated key.
    pub tags: Vec<(String, String)>,
    /// The kind's own fields, by the names in its [`crate::KindSpec::fields`].
    pub fields: Fields,
    /// Fields that many events of one source share, such as the path of a log.
    pub shared: Option<Arc<Fields>>,
    /// The bytes as they came, where there are any beyond `text`.
    pub body: Vec<u8>,
    /// Within a lane order is kept: a file, a partition, a route. Empty for what is dispatched at once.
    pub lane: Arc<str>,
    /// What the source knows it by; the same on every redelivery.
    pub key: Option<Box<str>>,
    /// The one bind this event is for, where its source decides ([`crate::Matching::Named`]).
    pub bind: Option<BindId>,
}

/// The fields of a kind's own.
pub type Fields = Vec<(&'static str, Value)>;

/// Who did it, as the server tells now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The nick; a server's name when there is no `!`.
    pub nick: String,
    /// The user name ("ident").
    pub user: String,
    /// The host as shown.
    pub host: String,
    /// The services account that the server vouches for at this moment.
    pub account: Option<String>,
    /// SHA-256 of the certificate that the server vouches for, lower case hex.
    pub cert: Option<String>,
    /// The handle that the bot itself logged in (the console, the partyline).
    pub login: Option<String>,
    /// Whether the network marks this as a bot.
    pub bot: bool,
    /// Whether this is the bot itself.
    pub own: bool,
    /// Whether the bot sees them, and so hears of it when they leave, log out or are called otherwise.
    pub seen: bool,
}

impl Actor {
    /// `nick!user@host`, the form that hostmasks match.
    pub fn source(&self) -> String {
        format!("{}!{}@{}", self.nick, self.user, self.host)
    }
}

/// Who that is to the bot: filled in when the event is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The handle of the user record; `None` for a stranger.
    pub handle: Option<Arc<str>>,
    /// Whether somebody who can know vouches for it now (account, certificate, login), not a hostmask alone.
    pub vouched: bool,
}

/// The typed arguments of a command, by the names in its usage.
pub type Args = BTreeMap<String, Value>;

/// One handler's share of an event.
pub struct Call {
    /// The bind that matched.
    pub bind: BindId,
    /// The kind it matched as.
    pub kind: Kind,
    /// The mask that matched; Eggdrop's `lastbind`.
    pub mask: Arc<str>,
    /// Who it is to the bot.
    pub who: Who,
    /// Where the handler's text begins in [`EventData::text`]: after the command word for `pub` and `msg`.
    pub text_at: usize,
    /// The arguments, where the bind has a usage.
    pub args: Args,
    /// A short name for this call, in logs and in `error e-7F3K`.
    pub trace: Arc<str>,
    /// Where the handler's actions go.
    pub outlet: Arc<dyn Outlet>,
    /// Where replies go if the event has no channel and nobody stands behind it.
    pub to: Option<Arc<str>>,
    /// How it was delivered, for what passed the journal.
    pub delivery: Option<Delivery>,
}

/// How an event from the journal was delivered to a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Whether the process died during an earlier try: part of the work may be done.
    pub redelivered: bool,
    /// Whether somebody asked for this event again.
    pub replay: bool,
    /// Whether nothing may be done, only said what would be.
    pub dry: bool,
}

impl EventData {
    /// An event of these kinds, now, with a new number and nothing else.
    pub fn new(kinds: &'static [Kind], at: DateTime<Utc>) -> EventData {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        EventData::numbered(kinds, NEXT.fetch_add(1, Ordering::Relaxed), at)
    }

    /// The same with a number that is known: the journal's.
    pub fn numbered(kinds: &'static [Kind], id: u64, at: DateTime<Utc>) -> EventData {
        EventData {
            id,
            kinds,
            at,
            network: Arc::default(),
            casemap: CaseMap::default(),
            actor: None,
            chan: None,
            text: String::new(),
            tags: Vec::new(),
            fields: Fields::new(),
            shared: None,
            body: Vec::new(),
            lane: Arc::default(),
            key: None,
            bind: None,
        }
    }

    /// A field of the kind's own.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let shared = self.shared.iter().flat_map(|shared| shared.iter());
        self.fields.iter().chain(shared).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A field as text; empty where absent or of another type.
    pub fn field_str(&self, name: &str) -> &str {
        self.field(name).and_then(Value::as_str).unwrap_or("")
    }

    /// All fields of the kind's own.
    pub fn own_fields(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.fields.iter().chain(self.shared.iter().flat_map(|shared| shared.iter()))
    }

    /// The body as JSON, where it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(if self.body.is_empty() { self.text.as_bytes() } else { &self.body }).ok()
    }

    /// A message tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The nick of who did it, or nothing.
    pub fn nick(&self) -> &str {
        self.actor.as_ref().map_or("", |actor| actor.nick.as_str())
    }
}

impl Event {
    /// An event on its way to the street.
    pub fn new(data: EventData) -> Event {
        Event { data: Arc::new(data), call: None }
    }

    /// The same event for one handler.
    pub fn for_call(&self, call: Call) -> Event {
        Event { data: Arc::clone(&self.data), call: Some(Arc::new(call)) }
    }

    /// What only this handler's copy knows; `None` before it is decided.
    pub fn call(&self) -> Option<&Call> {
        self.call.as_deref()
    }

    /// The kind it was matched as, or the first offered.
    pub fn kind(&self) -> Kind {
        match &self.call {
            Some(call) => call.kind,
            None => self.data.kinds.first().copied().unwrap_or(Kind::Raw),
        }
    }

    /// The words for this handler: after the command for `pub` and `msg`, else all of them.
    pub fn text(&self) -> &str {
        let at = self.call.as_ref().map_or(0, |call| call.text_at);
        self.data.text.get(at..).unwrap_or("")
    }

    /// The channel, or nothing in private.
    pub fn chan(&self) -> Option<&str> {
        self.data.chan.as_deref()
    }

    /// Who did it, as they are at this moment: called otherwise, logged out; nobody where they are gone. A handler that takes its time
    /// asks by this whether they still may.
    pub fn actor_now(&self) -> Option<Actor> {
        let then = self.data.actor.as_ref()?;
        match &self.call {
            Some(call) => call.outlet.now(&self.data.network, then),
            None => Some(then.clone()),
        }
    }

    /// Whether it was said to the bot alone.
    pub fn private(&self) -> bool {
        self.data.chan.is_none()
    }

    /// The handle of who did it; `*` for a stranger, as in Eggdrop.
    pub fn handle(&self) -> &str {
        self.call.as_ref().and_then(|call| call.who.handle.as_deref()).unwrap_or("*")
    }

    /// One typed argument.
    pub fn arg(&self, name: &str) -> Option<&Value> {
        self.call.as_ref()?.args.get(name)
    }

    /// A typed argument as text; empty where absent or of another type.
    pub fn arg_str(&self, name: &str) -> &str {
        self.arg(name).and_then(Value::as_str).unwrap_or("")
    }

    /// Where an answer belongs: the channel, else the person.
    pub fn reply_target(&self) -> Option<String> {
        if let Some(chan) = &self.data.chan {
            return Some(chan.to_string());
        }
        let actor = self.data.actor.as_ref().map(|actor| actor.nick.clone()).filter(|nick| !nick.is_empty());
        actor.or_else(|| Some(split_place(self.call.as_ref()?.to.as_deref()?).1.to_owned()))
    }

    /// The network an answer belongs to; empty means the only one there is.
    pub fn reply_network(&self) -> &str {
        if self.data.chan.is_some() || self.data.actor.is_some() {
            return &self.data.network;
        }
        self.call.as_ref().and_then(|call| call.to.as_deref()).map_or(&self.data.network, |to| split_place(to).0)
    }

    /// How it was delivered; the default for what did not pass the journal.
    pub fn delivery(&self) -> Delivery {
        self.call.as_ref().and_then(|call| call.delivery).unwrap_or_default()
    }

    /// Answers where it was said; in a channel with the person's nick in front.
    pub async fn reply(&self, text: impl Into<String>) -> Result<(), Refused> {
        let text = text.into();
        match self.chan() {
            Some(_) => self.tell(format!("{}: {text}", self.nick()), How::Say).await,
            None => self.tell(text, How::Say).await,
        }
    }

    /// Says it where the event happened.
    pub async fn say(&self, text: impl Into<String>) -> Result<(), Refused> {
        self.tell(text.into(), How::Say).await
    }

    /// Says it as a notice where the event happened.
    pub async fn notice(&self, text: impl Into<String>) -> Result<(), Refused> {
        self.tell(text.into(), How::Notice).await
    }

    /// Says it as an action (`/me`) where the event happened.
    pub async fn act(&self, text: impl Into<String>) -> Result<(), Refused> {
        self.tell(text.into(), How::Act).await
    }

    /// Asks the bot to do something on this event's behalf.
    pub async fn perform(&self, action: Action) -> Result<(), Refused> {
        match &self.call {
            Some(call) => call.outlet.perform(action).await,
            None => Err(undispatched()),
        }
    }

    /// Says it where the event happened, and waits until it is known what became of it. What the server refuses (no such channel,
    /// `+m`, banned) is an error.
    pub async fn deliver(&self, text: impl Into<String>, how: How, mark: Mark) -> Result<Receipt, Refused> {
        let action = self.answer(text.into(), how)?.marked(mark);
        match &self.call {
            Some(call) => call.outlet.deliver(action).await,
            None => Err(undispatched()),
        }
    }

    async fn tell(&self, text: String, how: How) -> Result<(), Refused> {
        self.perform(self.answer(text, how)?).await
    }

    /// Words for where the event happened, as an action.
    pub fn answer(&self, text: String, how: How) -> Result<Action, Refused> {
        let Some(target) = self.reply_target() else {
            return Err(Refused::new(
                "this event has neither a channel nor a person; name a target with bot.say, or with `to` where it is bound",
            ));
        };
        let say = Action::Say { network: self.reply_network().to_owned(), target, text, how, reply: true };
        Ok(self.answering(say))
    }

    /// The action marked as an answer to this event's message, where it has an id.
    /// <https://ircv3.net/specs/client-tags/reply>
    pub fn answering(&self, action: Action) -> Action {
        let Some(id) = self.tag("msgid").filter(|id| !id.is_empty()) else { return action };
        // Both names, while servers and clients are old.
        let tags = ["+reply", "+draft/reply"].map(|name| (name.to_owned(), id.to_owned()));
        Action::Tagged { tags: tags.to_vec(), action: Box::new(action) }
    }

    /// Reacts to this event's message, with an emoji or a word.
    /// <https://ircv3.net/specs/client-tags/react>
    pub async fn react(&self, reaction: impl Into<String>) -> Result<(), Refused> {
        let reaction = reaction.into();
        let Some((target, _)) = self.reply_target().zip(self.tag("msgid")) else {
            return Err(Refused::new("this message has no id to react to; the network may have no message tags"));
        };
        let (network, command) = (self.reply_network().to_owned(), "TAGMSG".to_owned());
        let send = self.answering(Action::Send { network, command, params: vec![target] });
        let tags = vec![("+draft/react".to_owned(), reaction)];
        self.perform(Action::Tagged { tags, action: Box::new(send) }).await
    }
}

fn undispatched() -> Refused {
    Refused::new("this event was not dispatched, so there is nobody to act for it")
}

/// `libera/#ops` as network and target; a network that is not named is empty.
pub fn split_place(place: &str) -> (&str, &str) {
    match place.split_once('/') {
        // A channel's name may hold a slash; a network's name comes before the channel's sign.
        Some((network, target)) if !network.is_empty() && !network.starts_with(['#', '&', '+', '!']) => {
            (network, target)
        }
        _ => ("", place),
    }
}

impl Deref for Event {
    type Target = EventData;

    fn deref(&self) -> &EventData {
        &self.data
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind()).field("data", &self.data).finish()
    }
}
