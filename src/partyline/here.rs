//! Somebody on the partyline, as lists show them.

use std::sync::Arc;

use masterchief_contract::{Actor, CaseMap, FlagScope};

use super::console::HANDLE;
use super::guests::Guest;
use super::news::Author;
use super::party::NETWORK;
use super::place::Place;
use super::room::{Session, author};
use crate::users::{FlagMask, Standing};

/// Who may watch a channel of a network, and speak in it.
const WATCHERS: &str = "o|o";

/// Somebody on the partyline, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The name in this room, and whose it is.
    pub author: Author,
    /// Eggdrop's sign for how much they are.
    pub icon: char,
    /// Why they are away.
    pub away: Option<Arc<str>>,
    /// The linked bot they are on.
    pub bot: Option<Arc<str>>,
}

pub(super) fn here(session: &Session) -> Here {
    Here { author: author(session), icon: session.icon, away: session.away.clone(), bot: None }
}

/// Somebody on a linked bot.
pub(super) fn there(guest: &Guest) -> Here {
    Here { author: guest.author(), icon: guest.icon, away: guest.away.clone(), bot: Some(Arc::clone(&guest.bot)) }
}

/// Eggdrop's sign for how much somebody is.
pub(super) fn icon(standing: &Standing) -> char {
    let (global, _) = standing.flags(NETWORK, None, CaseMap::Rfc1459);
    let of = [('n', '*'), ('m', '+'), ('t', '%'), ('o', '@')];
    of.into_iter().find(|(flag, _)| global.has(*flag)).map_or('-', |(_, icon)| icon)
}

/// Whether a handle is the terminal's, or that of whoever has the bot's own password.
pub(super) fn is_console(handle: &str) -> bool {
    handle == HANDLE
}

/// A session as the street sees it: the bot itself vouches for it.
pub(super) fn actor(session: &Session) -> Actor {
    Actor {
        nick: session.nick.to_string(),
        user: session.handle.to_string(),
        host: session.host.to_string(),
        login: Some(session.handle.to_string()),
        ..Actor::default()
    }
}

/// Whether somebody may watch a channel of a network, and speak in it.
pub(super) fn watches(standing: &Standing, network: &str, channel: &str) -> bool {
    let Ok(mask) = FlagMask::parse(WATCHERS) else { return false };
    standing.allows(&mask, FlagScope::Channel, network, Some(channel), CaseMap::Rfc1459)
}

/// Whether somebody may be in a place where they are.
pub(super) fn hears(standing: &Standing, place: &Place) -> bool {
    match place {
        Place::Watched { network, channel } => watches(standing, network, channel),
        Place::Party(_) | Place::Own(_) | Place::Ops => true,
    }
}
