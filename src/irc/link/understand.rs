//! What a line means: to the picture of the network, to us, and to the street.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use masterchief_contract::{Event, Kind, Parcel};
use tokio::time::Instant;

use super::Link;
use crate::irc::around::Fate;
use crate::irc::history::{Age, time_of};
use crate::irc::message::Message;
use crate::irc::network::{Inner, Shared, queue_key};
use crate::irc::ops;
use crate::irc::outgoing::Line;
use crate::irc::react::About;
use crate::irc::receipts::{Answered, Receipt};
use crate::irc::splits;
use crate::irc::state::State;
use crate::irc::translate::{Context, evnt, need, netsplit, translate};

impl Link<'_> {
    /// What a line means to the picture, to us and to the street.
    pub(super) fn understand(&mut self, message: &Message<'_>) -> Option<Parcel> {
        let inner = self.inner;
        let mut shared = inner.lock();
        let shared = &mut *shared;
        shared.status.lines_in += 1;
        let told = time_of(message);
        let numeric = message.command.starts_with(|c: char| c.is_ascii_digit());
        let since = since(message, &shared.state);
        // A BATCH has an id too where it is a message in parts: it is that message's.
        let judged = !numeric && !message.is("BATCH");
        let age = if judged { shared.history.age(message, told, since) } else { Age::Live };
        let old = matches!(age, Age::Missed | Age::Seen);
        let own = !message.nick().is_empty() && shared.state.is_own(message.nick());
        if let Some(answered) = shared.receipts.answered(message, own) {
            settle(answered, shared, inner);
        }
        let split = split_of(message, shared).filter(|_| !old && !own);
        let back = message.is("JOIN") && !old && !own && is_back(message, shared);
        let actor =
            shared.state.actor(message, self.registration.has("account-tag"), self.registration.has("account-notify"));
        let context = Context {
            actor,
            raw: inner.raw.load(Ordering::Relaxed),
            age,
            split: split.as_deref(),
            back,
            watched: shared.watches(message.nick()),
            ..self.context(&inner.name, &shared.state, told)
        };
        let mut events = translate(message, &context).map_or(Vec::new(), |parcel| parcel.events);
        debug_assert!(age == Age::Live || !events.iter().any(is_command), "an old line became a command");
        let casemap = shared.state.casemap();
        let tagged = self.registration.has("account-tag") && age == Age::Live && message.is("PRIVMSG");
        if let Some(actor) = context.actor.filter(|_| tagged) {
            shared.state.vouched(&actor);
        }
        if !old && age != Age::Part {
            let stake = ops::at_stake(message, shared);
            remember(message, told, split.as_deref(), inner, shared);
            shared.state.take(message, told);
            if let Some(stake) = stake.filter(|stake| ops::lacks(message, *stake, shared)) {
                events.push(Event::new(need(stake.0, "op", &self.context(&inner.name, &shared.state, told))));
            }
        }
        if shared.state.casemap() != casemap {
            shared.refold();
        }
        if shared.status.account.as_deref() != self.registration.account() {
            shared.status.account = self.registration.account().map(str::to_owned);
        }
        if message.is("CAP") {
            shared.status.caps = self.registration.caps();
        }
        let history = inner.history.load(Ordering::Relaxed);
        let about = About { own, old, registration: &self.registration, history };
        if age != Age::Part {
            self.upkeep.react(message, &about, shared);
        }
        if self.up.is_some() && !shared.status.connected {
            shared.status.connected = true;
            shared.status.trouble = None;
            self.upkeep.registered(&inner.name, shared);
            let context = self.context(&inner.name, &shared.state, told);
            events.push(Event::new(evnt("init-server", &shared.status.server, &context)));
        }
        (!events.is_empty()).then_some(Parcel { events })
    }

    /// What is known where nobody stands behind a line.
    fn context<'b>(&self, network: &'b Arc<str>, state: &'b State, told: Option<DateTime<Utc>>) -> Context<'b> {
        let at = told.unwrap_or_else(|| self.ways.clock.now());
        Context::of_nobody(network, state, at)
    }

    /// Tells of splits in which nobody was lost any more for a while.
    pub(super) fn tell_splits(&self, now: Instant) {
        let parcels: Vec<Parcel> = {
            let mut shared = self.inner.lock();
            let reports = shared.splits.ripe(now);
            let context = self.context(&self.inner.name, &shared.state, None);
            reports.iter().map(|report| Event::new(netsplit(report, &context)).into()).collect()
        };
        parcels.into_iter().for_each(|parcel| self.tell(Some(parcel)));
    }
}

/// Whether it is one that gives orders.
fn is_command(event: &Event) -> bool {
    event.kinds.iter().any(|kind| matches!(*kind, Kind::Pub | Kind::Pubm | Kind::Msg | Kind::Msgm))
}

/// What the server says of lines of ours.
fn settle(answered: Answered, shared: &mut Shared, inner: &Inner) {
    let Answered { receipt, ids, again } = answered;
    if !again.is_empty() {
        return say_without_colours(again, shared);
    }
    let fate = count(receipt, shared);
    ids.into_iter().for_each(|id| inner.around.fate(id, fate.clone()));
}

/// A channel takes no colours (+c): what was refused is said without them, before what waits for that channel.
fn say_without_colours(lines: Vec<Line>, shared: &mut Shared) {
    for line in lines.into_iter().rev() {
        let target = Message::parse(&line.text).map_or(String::new(), |message| queue_key(message.param(0)));
        tracing::info!(target, "A line with colours was refused, and is said again without them");
        shared.outgoing.put_back(&target, line);
    }
}

/// What the server says of a line of ours: counted, and as its fate.
fn count(receipt: Receipt, shared: &mut Shared) -> Fate {
    match receipt {
        Receipt::Passed { target, changed, msgid } => {
            shared.status.confirmed += 1;
            if changed {
                tracing::warn!(%target, "The server passed a line on that is not as we said it");
            }
            Fate::Echoed { msgid }
        }
        Receipt::Refused { target, code, reason } => {
            shared.status.refused += 1;
            tracing::warn!(%target, %code, %reason, "The server refused a line");
            Fate::Failed { code, reason }
        }
    }
}

/// The servers, where a QUIT is a netsplit's: by its batch, or by its words.
fn split_of(message: &Message<'_>, shared: &Shared) -> Option<String> {
    if !message.is("QUIT") {
        return None;
    }
    shared.history.split_of(message).or_else(|| splits::servers(message.param(0))).map(str::to_owned)
}

/// Whether a JOIN is somebody who was lost in a netsplit and is back.
fn is_back(message: &Message<'_>, shared: &mut Shared) -> bool {
    let Some(source) = message.source else { return false };
    let (nick, chan) = (shared.state.fold(source.nick), shared.state.fold(message.param(0)));
    shared.splits.is_back(&nick, (source.user, source.host), &chan, Instant::now())
}

/// What is to be known later about a line, before the picture changes by it.
fn remember(
    message: &Message<'_>,
    told: Option<DateTime<Utc>>,
    split: Option<&str>,
    inner: &Inner,
    shared: &mut Shared,
) {
    if let Some((servers, source)) = split.zip(message.source) {
        let channels: Vec<String> =
            shared.state.channels_of(source.nick).iter().map(|chan| shared.state.fold(chan)).collect();
        if !channels.is_empty() {
            let nick = shared.state.fold(source.nick);
            shared.splits.lost(servers, &nick, (source.user, source.host), channels, Instant::now());
        }
    }
    if let Some((chan, at)) = said_at(message, told, shared) {
        inner.around.saw(&inner.name, &chan, at);
        shared.seen.insert(chan, at);
    }
}

/// In which channel a line says something that could be asked for later, and when.
fn said_at(message: &Message<'_>, told: Option<DateTime<Utc>>, shared: &Shared) -> Option<(String, DateTime<Utc>)> {
    let at = told.filter(|_| matches!(message.command, "PRIVMSG" | "NOTICE"))?;
    let chan = shared.state.fold(message.param(0));
    shared.wanted.contains_key(&chan).then_some((chan, at))
}

/// From when on words to this target are live: since we joined the channel, or since we were welcomed. Clocks of
/// linked servers differ, so the other commands, which only a history batch can repeat, are not judged by their time.
fn since(message: &Message<'_>, state: &State) -> Option<DateTime<Utc>> {
    if !matches!(message.command, "PRIVMSG" | "NOTICE" | "TAGMSG") {
        return None;
    }
    let chan = state.isupport.channel_of(message.param(0));
    chan.and_then(|chan| state.channel(chan)).map_or(state.welcomed, |channel| channel.joined)
}
