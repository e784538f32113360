//! What a line demands of us beyond understanding it: joining, coming back, asking for what we missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

use super::comeback::Reason;
use super::history::Page;
use super::message::Message;
use super::network::{Shared, queue_key};
use super::ops::Ops;
use super::regain::Regain;
use super::register::Registration;
use super::settings::Services;
use super::state::WHOX_FIELDS;

/// How long ChanServ may take to tell a key, for its words to be taken for one.
const KEY_PATIENCE: Duration = Duration::from_secs(30);
/// How long NickServ may take before channels are joined all the same.
const IDENTIFY_PATIENCE: Duration = Duration::from_secs(10);
/// How often channels and nick are compared with what is wanted.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(30);

/// What was done lately, and when to look after things again.
pub(super) struct Upkeep {
    /// When channels and nick are next compared with what is wanted.
    pub(super) look_after: Instant,
    regain: Regain,
    ops: Ops,
    /// The channel whose key ChanServ was asked for, and when.
    key_asked: Option<(String, Instant)>,
    /// Where we may be sent without having asked (470), folded.
    sent_to: BTreeSet<String>,
    /// The channels of which what was missed is asked for, folded.
    missed: BTreeMap<String, Missed>,
}

/// What is still to be asked for of what was missed.
struct Missed {
    /// What was said until then is known.
    since: String,
    /// Lines of one page, and of all that are still to come.
    page: usize,
    left: usize,
}

/// What is known of a line beside its words.
pub(super) struct About<'a> {
    /// Whether we are its source.
    pub(super) own: bool,
    /// Whether it is a history's.
    pub(super) old: bool,
    /// What the server and we agreed on.
    pub(super) registration: &'a Registration,
    /// Whether somebody wants to know what we missed.
    pub(super) history: bool,
}

impl Upkeep {
    /// Nothing was done yet.
    pub(super) fn new(look_after: Instant) -> Upkeep {
        Upkeep {
            look_after,
            regain: Regain::default(),
            ops: Ops::default(),
            key_asked: None,
            sent_to: BTreeSet::new(),
            missed: BTreeMap::new(),
        }
    }

    /// Reacts to a line that the picture has already taken in.
    pub(super) fn react(&mut self, message: &Message<'_>, about: &About<'_>, shared: &mut Shared) {
        let now = Instant::now();
        self.regain.react(message, about.own, shared, now);
        if matches!(message.command, "366" | "482" | "MODE") {
            self.ops.look(shared, now);
        }
        match message.command {
            "JOIN" | "PART" | "KICK" => self.channel_changed(message, about, shared, now),
            "366" if shared.state.isupport.has("WHOX") => shared.command("WHO", &[message.param(1), WHOX_FIELDS]),
            // Without WHOX too: who is away, who is a bot, who has which host.
            "366" if shared.state.is_in(message.param(1)) => shared.command("WHO", &[message.param(1)]),
            "470" => self.sent_elsewhere(message, shared, now),
            "900" => self.reconsider(shared, now, |_, reason| reason == Reason::Login),
            "INVITE" if shared.state.is_own(message.param(0)) => {
                let chan = shared.state.fold(message.param(1));
                // Only where we wanted to be anyway: an invitation is no order.
                shared.comeback.invited(&chan);
                self.look_after = self.look_after.min(now);
            }
            "NOTICE" => self.key_told(message, shared, now),
            "RENAME" => renamed(message, shared),
            "FAIL" => {
                tracing::warn!(command = message.param(0), code = message.param(1), words = message.last(), "FAIL")
            }
            numeric => {
                if let Some(reason) = Reason::of(numeric) {
                    self.join_refused(message, reason, shared, now);
                }
            }
        }
        let seen = matches!(message.command, "JOIN" | "PRIVMSG") && !about.own && !about.old;
        if seen && shared.settings.ask_certificates && shared.state.ask_certificate(message.nick()) {
            shared.command("WHOIS", &[message.nick()]);
        }
    }

    /// Registered: what is to be done first.
    pub(super) fn registered(&mut self, name: &str, shared: &mut Shared) {
        tracing::info!(network = name, nick = %shared.state.nick, server = %shared.status.server, "Connected");
        shared.outgoing.resume(Instant::now());
        if shared.farewell.is_some() {
            // We are about to leave: what is queued is said, and nothing is joined.
            return;
        }
        // The casemapping may be another than before.
        shared.refold();
        shared.comeback.reconnected();
        let channels: Vec<_> = shared.wanted.values().cloned().collect();
        for channel in &channels {
            shared.outgoing.hold(&queue_key(&channel.name));
        }
        let late =
            shared.settings.services.clone().filter(|services| services.identify && shared.status.account.is_none());
        let told = late.as_ref().and_then(|late| Some((late, shared.sayable(late)?)));
        if late.is_some() && told.is_none() {
            tracing::warn!(
                network = name,
                "NickServ is not told the password: it is said over TLS only, and where `nickserv` names the server too"
            );
        }
        if let Some((services, password)) = told {
            shared.command("PRIVMSG", &[&services.nickserv, &format!("IDENTIFY {}", password.reveal())]);
            self.look_after = Instant::now() + IDENTIFY_PATIENCE;
        } else {
            shared.join_all(&channels);
        }
        if let Some(letter) = shared.state.isupport.bot_letter() {
            let nick = shared.state.nick.clone();
            shared.command("MODE", &[&nick, &format!("+{letter}")]);
        }
        self.regain.begin(shared, Instant::now());
        shared.monitor_all();
    }

    /// Joins what should be joined and may be, and looks after the nick.
    pub(super) fn put_right(&mut self, shared: &mut Shared) {
        let now = Instant::now();
        self.look_after = now + LOOK_AFTER;
        shared.history.forget_open(now);
        let missing = shared
            .wanted
            .iter()
            .filter(|(key, channel)| !shared.state.is_in(&channel.name) && shared.comeback.may(key, now));
        let missing: Vec<_> = missing.map(|(_, channel)| channel.clone()).collect();
        shared.join_all(&missing);
        self.regain.look(shared, now);
        self.ops.look(shared, now);
    }

    fn channel_changed(&mut self, message: &Message<'_>, about: &About<'_>, shared: &mut Shared, now: Instant) {
        let chan = message.param(0);
        let folded = shared.state.fold(chan);
        let ours = shared.wanted.get(&folded).map(|channel| queue_key(&channel.name));
        let kicked = message.command == "KICK" && shared.state.is_own(message.param(1));
        if message.command == "JOIN" && about.own {
            shared.comeback.joined(&folded);
            shared.outgoing.release(&queue_key(chan));
            // The server may write it otherwise than we do.
            ours.iter().for_each(|key| shared.outgoing.release(key));
            if self.sent_to.remove(&folded) && ours.is_none() && !shared.settings.follow_redirects {
                shared.command("PART", &[chan, "not where I wanted to go"]);
            } else {
                self.ask_for_missed(chan, &folded, about, shared);
            }
        } else if kicked || message.command == "PART" && about.own {
            ours.iter().for_each(|key| shared.outgoing.hold(key));
        }
        if kicked {
            let (by, reason) = (message.nick(), message.last());
            let back = shared.comeback.kicked(&folded, now);
            tracing::warn!(channel = chan, by, reason, "Kicked");
            self.look_after = self.look_after.min(back.unwrap_or(self.look_after));
        }
    }

    /// What was said in a channel while we were away, if somebody wants it and the server has it: the newest first.
    /// <https://ircv3.net/specs/extensions/chathistory>
    fn ask_for_missed(&mut self, chan: &str, folded: &str, about: &About<'_>, shared: &mut Shared) {
        let has = |cap| about.registration.has(cap);
        let Some(since) = shared.seen.get(folded).copied() else { return };
        if !about.history || shared.settings.history == 0 || !has("draft/chathistory") || !has("batch") {
            return;
        }
        let most = shared.state.isupport.number("CHATHISTORY").filter(|most| *most > 0).unwrap_or(usize::MAX);
        let left = shared.settings.history;
        let page = left.min(most);
        let since = timestamp(since);
        shared.command("CHATHISTORY", &["LATEST", chan, &since, &page.to_string()]);
        self.missed.insert(folded.to_owned(), Missed { since, page, left });
    }

    /// A page of what was missed has come. If it is full there may be more before it.
    pub(super) fn page_ended(&mut self, page: &Page, shared: &mut Shared) {
        let chan = shared.state.fold(&page.target);
        let Some(missed) = self.missed.get_mut(&chan) else { return };
        missed.left = missed.left.saturating_sub(page.lines);
        let next = missed.page.min(missed.left);
        let full = page.lines >= missed.page;
        if full && next == 0 {
            let (network, lines) = (&shared.status.network, shared.settings.history);
            tracing::warn!(network, channel = page.target, lines, "More was missed than `history` asks for");
        }
        match page.oldest.filter(|_| full && next > 0) {
            Some(oldest) => {
                missed.page = next;
                let params = ["BETWEEN", &page.target, &timestamp(oldest), &missed.since, &next.to_string()];
                shared.command("CHATHISTORY", &params);
            }
            None => drop(self.missed.remove(&chan)),
        }
    }

    /// 470: full, and we are sent to another one.
    fn sent_elsewhere(&mut self, message: &Message<'_>, shared: &mut Shared, now: Instant) {
        let (wanted, other) = (message.param(1), message.param(2));
        if self.sent_to.len() < shared.wanted.len().max(1) {
            self.sent_to.insert(shared.state.fold(other));
        }
        tracing::warn!(wanted, other, "A channel is full and sends us to another");
        self.join_refused(message, Reason::Full, shared, now);
    }

    fn join_refused(&mut self, message: &Message<'_>, reason: Reason, shared: &mut Shared, now: Instant) {
        let chan = message.param(1);
        let folded = shared.state.fold(chan);
        if !shared.wanted.contains_key(&folded) || shared.state.is_in(chan) {
            return;
        }
        let services = shared.settings.services.clone().filter(|services| services.let_in);
        let help = services.zip(reason.chanserv()).filter(|_| shared.comeback.is_first(&folded));
        let again = shared.comeback.refused(&folded, reason, help.is_some(), now);
        tracing::warn!(channel = chan, reason = message.last(), again = ?again.map(|at| at - now), "Cannot join");
        self.look_after = self.look_after.min(again.unwrap_or(self.look_after));
        if let Some((services, word)) = help {
            if reason == Reason::Key {
                self.key_asked = Some((folded, now));
            }
            shared.command("PRIVMSG", &[&services.chanserv, &format!("{word} {chan}")]);
        } else if reason == Reason::Uninvited && shared.state.isupport.has("KNOCK") && shared.comeback_once(&folded) {
            shared.command("KNOCK", &[chan]);
        }
    }

    /// What stood in the way of some channels may be gone.
    fn reconsider(&mut self, shared: &mut Shared, now: Instant, matters: impl Fn(&str, Reason) -> bool) {
        shared.comeback.reconsider(matters);
        self.look_after = self.look_after.min(now);
    }

    /// ChanServ tells the key that we asked for, as `Channel #x key is: K` and in like words.
    fn key_told(&mut self, message: &Message<'_>, shared: &mut Shared, now: Instant) {
        let Some(Services { chanserv, .. }) = &shared.settings.services else { return };
        let nick = chanserv.split('@').next().unwrap_or("");
        let Some((chan, at)) = &self.key_asked else { return };
        if !shared.state.casemap().eq(message.nick(), nick) || now.duration_since(*at) > KEY_PATIENCE {
            return;
        }
        let words = super::text::plain(message.last()).into_owned();
        if !words.split(' ').any(|word| shared.state.fold(word) == *chan) || !words.contains("key") {
            return;
        }
        let key = words.rsplit(' ').next().unwrap_or("").trim_end_matches('.').to_owned();
        let Some(wanted) = shared.wanted.get(chan).cloned() else { return };
        self.key_asked = None;
        if !key.is_empty() && !key.contains(',') {
            shared.join(&super::Channel { key: Some(masterchief_contract::Secret::new(key)), ..wanted });
        }
    }
}

/// A time as the server takes it.
fn timestamp(at: DateTime<Utc>) -> String {
    format!("timestamp={}", at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// A channel has another name: we want it by that. <https://ircv3.net/specs/extensions/channel-rename>
fn renamed(message: &Message<'_>, shared: &mut Shared) {
    let (old, new) = (message.param(0), message.param(1));
    if let Some(mut channel) = shared.wanted.remove(&shared.state.fold(old)) {
        tracing::warn!(old, new, "A channel was renamed: change the configuration too");
        channel.name = new.to_owned();
        shared.wanted.insert(shared.state.fold(new), channel);
    }
}
