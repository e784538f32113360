//! What every connection needs, and how somebody who has logged in is seated.

use std::net::SocketAddr;

use masterchief_contract::{Actor, CaseMap};
use tokio::sync::mpsc;

use super::console_modes::Modes;
use super::gate::Gate;
use super::here::{icon, is_console};
use super::party::{NETWORK, Party, Seat};
use super::room::{Entry, Face};
use crate::irc::Stream;

/// Bots that called and were not taken yet; more are told to come again.
pub const ARRIVALS: usize = 64;
/// The setting of a record that keeps console modes.
pub(super) const CONSOLE_SETTING: &str = "console";
/// The setting of a record that keeps how many lines are shown at once.
pub(super) const PAGE_SETTING: &str = "page";

/// The setting of a record that keeps whether one's own words are shown.
pub(super) const ECHO_SETTING: &str = "echo";
/// The setting of a record that keeps what somebody says of themselves.
pub(super) const INFO_SETTING: &str = "info";

/// Somebody has connected.
pub(super) struct Call {
    /// Bytes both ways.
    pub(super) stream: Stream,
    /// What was read already.
    pub(super) read: Vec<u8>,
    /// From where.
    pub(super) peer: SocketAddr,
    /// Whether nobody can read it on the way.
    pub(super) tls: bool,
    /// SHA-256 of the certificate they showed, lower case hex.
    pub(super) cert: Option<String>,
    /// How they are connected.
    pub(super) face: Face,
}

impl Call {
    /// Whether others could read a password on the way, and that is not wanted.
    pub(super) fn readable(&self, gate: &Gate) -> bool {
        !self.tls && !self.peer.ip().to_canonical().is_loopback() && !gate.settings().insecure
    }
}

/// A bot has called: its record has the flag `b`. It told its handle and nothing else yet, and was shown the banner and asked
/// for its handle.
pub struct Arrival {
    /// Bytes both ways.
    pub stream: Stream,
    /// What was read behind the handle.
    pub read: Vec<u8>,
    /// The handle, as the caller wrote it.
    pub handle: String,
    /// From where.
    pub peer: SocketAddr,
    /// Whether nobody can read it on the way.
    pub tls: bool,
    /// SHA-256 of the certificate it showed, lower case hex.
    pub cert: Option<String>,
}

/// Where bots that call are taken.
pub type Arrivals = mpsc::Receiver<Arrival>;

/// What every connection needs.
pub(super) struct Hall {
    pub(super) party: Party,
    pub(super) gate: Gate,
    pub(super) arrivals: mpsc::Sender<Arrival>,
    /// The version that is shown.
    pub(super) version: String,
}

impl Hall {
    /// The lines that people are greeted with.
    pub(super) fn motd(&self) -> Vec<String> {
        self.gate.settings().motd.clone()
    }
}

impl Party {
    /// What somebody sees of the log from now on.
    pub fn set_modes(&self, idx: u32, modes: Modes) {
        self.change(|room, _| {
            if let Some(session) = room.session_mut(idx) {
                session.modes = modes;
            }
        });
    }

    /// How many lines of answers somebody sees at once from now on; 0 is all.
    pub fn set_page(&self, idx: u32, lines: usize) {
        self.change(|room, _| {
            if let Some(session) = room.session_mut(idx) {
                session.page = lines;
            }
        });
    }

    /// Whether somebody is shown their own words from now on.
    pub fn set_echo(&self, idx: u32, echo: bool) {
        self.change(|room, _| {
            if let Some(session) = room.session_mut(idx) {
                session.echo = echo;
            }
        });
    }
}

/// Seats somebody who has logged in; nothing if there is no room. Whose record it is says what they are called; with the bot's
/// own password it is what they chose. `tls` tells whether the connection is encrypted.
pub(super) fn seat_of(
    hall: &Hall,
    login: &str,
    wanted: &str,
    (peer, tls): (SocketAddr, bool),
    face: Face,
) -> Option<Seat> {
    let count = hall.party.each(|_| ()).len();
    if count >= hall.gate.settings().sessions {
        return None;
    }
    let actor = Actor { login: Some(login.to_owned()), ..Actor::default() };
    let standing = hall.party.book().recognise(Some(&actor), NETWORK, CaseMap::Rfc1459);
    let user = hall.party.book().get(login);
    let setting = |name: &str| user.as_ref().and_then(|user| user.settings.get(name).cloned());
    let kept = setting(CONSOLE_SETTING).and_then(|kept| Modes::parse(&kept));
    let nick = if is_console(login) { wanted } else { login };
    let entry = Entry {
        nick: nick.to_owned(),
        handle: login.to_owned(),
        host: peer.ip().to_canonical().to_string(),
        face,
        icon: icon(&standing),
        // What they may may have changed since they chose.
        modes: kept.unwrap_or_default().only(hall.party.most_of(&standing)),
    };
    let seat = hall.party.enter(entry);
    if tls {
        hall.party.encrypted(seat.idx);
    }
    if let Some(page) = setting(PAGE_SETTING).and_then(|page| page.parse().ok()) {
        hall.party.set_page(seat.idx, page);
    }
    hall.party.set_echo(seat.idx, setting(ECHO_SETTING).is_some_and(|echo| echo == "on"));
    Some(seat)
}
