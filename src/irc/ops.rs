//! Being an operator where the bot should be one: services are asked, and seldom, so that no war of modes comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;
use super::network::Shared;

/// How long services are left alone after they were asked for a channel.
const AGAIN: Duration = Duration::from_secs(600);

/// When ChanServ was last asked, by folded channel, on one connection.
#[derive(Debug, Default)]
pub(super) struct Ops {
    asked: BTreeMap<String, Instant>,
}

impl Ops {
    /// Asks for what we lack, where that is configured.
    pub(super) fn look(&mut self, shared: &mut Shared, now: Instant) {
        let Some(services) = shared.settings.services.clone().filter(|services| services.op) else { return };
        for chan in shared.settings.operator_in.clone() {
            let folded = shared.state.fold(&chan);
            let lately = self.asked.get(&folded).is_some_and(|at| now.duration_since(*at) < AGAIN);
            if lately || !shared.state.is_named(&chan) || shared.state.is_operator(&chan) {
                continue;
            }
            self.asked.insert(folded, now);
            let nick = shared.state.nick.clone();
            shared.command("PRIVMSG", &[&services.chanserv, &format!("OP {chan} {nick}")]);
        }
    }
}

/// A channel in which a line may take our status away, and whether we have it before.
pub(super) fn at_stake<'a>(message: &Message<'a>, shared: &Shared) -> Option<(&'a str, bool)> {
    let chan = match message.command {
        "366" => message.param(1),
        "MODE" => message.param(0),
        _ => return None,
    };
    shared.state.is_in(chan).then(|| (chan, shared.state.is_operator(chan)))
}

/// Whether what was at stake is lacking now: the status was taken from us, or we came where we should have it and have it not.
pub(super) fn lacks(message: &Message<'_>, (chan, before): (&str, bool), shared: &Shared) -> bool {
    let should = || {
        let casemap = shared.state.casemap();
        shared.settings.operator_in.iter().any(|name| casemap.eq(name, chan))
    };
    !shared.state.is_operator(chan) && (before || message.command == "366" && should())
}
