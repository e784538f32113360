//! What a line demands of us beyond understanding it: joining, coming back, taking the nick back.

use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;
use super::network::{Shared, queue_key};
use super::register::fallback_nick;
use super::state::WHOX_FIELDS;

/// How long to wait before coming back after a kick.
const AFTER_KICK: Duration = Duration::from_secs(5);

/// What was done lately, and when to look after things again.
pub(super) struct Upkeep {
    /// When channels and nick are next compared with what is wanted.
    pub(super) look_after: Instant,
    /// Nicks that were refused while we were forced to leave ours.
    nick_tries: usize,
}

impl Upkeep {
    /// Nothing was done yet.
    pub(super) fn new(look_after: Instant) -> Upkeep {
        Upkeep { look_after, nick_tries: 0 }
    }

    /// Reacts to a line that the picture has already taken in. `own` is whether we are its source, `old` whether it
    /// is a history's.
    pub(super) fn react(&mut self, message: &Message<'_>, own: bool, old: bool, shared: &mut Shared) {
        match message.command {
            "JOIN" | "PART" | "KICK" => self.channel_changed(message, own, shared),
            "NICK" | "QUIT" if !own => take_nick_back(message.nick(), shared),
            "NICK" if own => stop_watching(message.param(0), shared),
            // RPL_MONOFFLINE: the nicks that nobody has now.
            "731" => message.last().split(',').for_each(|nick| take_nick_back(nick, shared)),
            "366" if shared.state.isupport.has("WHOX") => shared.command("WHO", &[message.param(1), WHOX_FIELDS]),
            "432" | "433" | "436" | "437" if !shared.state.isupport.is_channel(message.param(1)) => {
                self.nick_refused(shared);
            }
            "403" | "405" | "437" | "471" | "473" | "474" | "475" | "476" | "477" | "489" | "520" => {
                join_refused(message, shared);
            }
            "401" | "404" | "411" | "412" | "415" | "417" | "531" if shared.status.connected => {
                shared.status.refused += 1;
                tracing::warn!(target = message.param(1), reason = message.last(), "The server refused a line");
            }
            _ => {}
        }
        let seen = matches!(message.command, "JOIN" | "PRIVMSG") && !own && !old;
        if seen && shared.settings.ask_certificates && shared.state.ask_certificate(message.nick()) {
            shared.command("WHOIS", &[message.nick()]);
        }
    }

    fn channel_changed(&mut self, message: &Message<'_>, own: bool, shared: &mut Shared) {
        let folded = shared.state.fold(message.param(0));
        let ours = shared.wanted.get(&folded).map(|channel| queue_key(&channel.name));
        let kicked = message.command == "KICK" && shared.state.is_own(message.param(1));
        if message.command == "JOIN" && own {
            shared.outgoing.release(&queue_key(message.param(0)));
            // The server may write it otherwise than we do.
            ours.iter().for_each(|key| shared.outgoing.release(key));
        } else if kicked || message.command == "PART" && own {
            ours.iter().for_each(|key| shared.outgoing.hold(key));
        }
        if kicked {
            let (channel, by, reason) = (message.param(0), message.nick(), message.last());
            tracing::warn!(channel, by, reason, "Kicked");
            self.look_after = self.look_after.min(Instant::now() + AFTER_KICK);
        }
    }

    /// Refused while we have one: we keep it. Only a nick that is an id, which a server forces on us, is left at once.
    fn nick_refused(&mut self, shared: &mut Shared) {
        let forced = shared.state.nick.starts_with(|c: char| c.is_ascii_digit());
        if shared.status.connected && forced {
            let nick = fallback_nick(&shared.settings, self.nick_tries, shared.state.isupport.nicklen());
            self.nick_tries += 1;
            shared.command("NICK", &[&nick]);
        }
    }
}

/// Registered: what is to be done first.
pub(super) fn registered(name: &str, shared: &mut Shared) {
    tracing::info!(network = name, nick = %shared.state.nick, server = %shared.status.server, "Connected");
    shared.outgoing.resume(Instant::now());
    if shared.farewell.is_some() {
        // We are about to leave: what is queued is said, and nothing is joined.
        return;
    }
    // The casemapping may be another than before.
    let channels: Vec<_> = shared.wanted.values().cloned().collect();
    shared.wanted = channels.iter().map(|channel| (shared.state.fold(&channel.name), channel.clone())).collect();
    for channel in &channels {
        shared.outgoing.hold(&queue_key(&channel.name));
    }
    shared.join_all(&channels);
    if let Some(letter) = shared.state.isupport.bot_letter() {
        let nick = shared.state.nick.clone();
        shared.command("MODE", &[&nick, &format!("+{letter}")]);
    }
    let wanted = shared.settings.nick.clone();
    if shared.state.isupport.has("MONITOR") && !shared.state.is_own(&wanted) {
        shared.command("MONITOR", &["+", &wanted]);
    }
}

/// Joins what should be joined and takes the nick back, if it is free.
pub(super) fn put_right(shared: &mut Shared) {
    let missing = shared.wanted.values().filter(|channel| !shared.state.is_in(&channel.name));
    let missing: Vec<_> = missing.cloned().collect();
    shared.join_all(&missing);
    let nick = shared.settings.nick.clone();
    // With MONITOR the server says when it is free, and need not be asked.
    if !shared.state.is_own(&nick) && !shared.state.isupport.has("MONITOR") {
        shared.command("NICK", &[&nick]);
    }
}

/// The nick is ours again.
fn stop_watching(now: &str, shared: &mut Shared) {
    let wanted = shared.settings.nick.clone();
    if shared.state.isupport.has("MONITOR") && shared.state.casemap().eq(now, &wanted) {
        shared.command("MONITOR", &["-", &wanted]);
    }
}

/// Somebody left this nick. If it is the one we want, it is ours.
fn take_nick_back(left: &str, shared: &mut Shared) {
    let wanted = shared.settings.nick.clone();
    if shared.state.casemap().eq(left, &wanted) && !shared.state.is_own(&wanted) {
        shared.command("NICK", &[&wanted]);
    }
}

fn join_refused(message: &Message<'_>, shared: &Shared) {
    if shared.wanted.contains_key(&shared.state.fold(message.param(1))) {
        let (channel, reason) = (message.param(1), message.last());
        tracing::warn!(channel, reason, "Cannot join; trying again");
    }
}
