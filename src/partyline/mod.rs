//! The partyline: the operators' own room, and the faces by which they come in: the terminal, telnet, IRC clients, pages.

mod commands;
mod console;
mod console_lines;
mod console_modes;
mod data;
mod events;
mod gate;
pub mod guess;
mod guests;
mod hall;
mod here;
mod irc;
mod kinds;
mod listener;
mod live;
mod masters;
mod news;
mod pace;
mod party;
mod place;
mod pump;
mod room;
mod settings;
mod sift;
mod telnet;
mod tls;
mod typed;

pub use commands::{Command, Desk, ELSEWHERE, Host, Left, OWNER, binds, deliver_note, leave_note, word_for};
pub use console::{Console, HANDLE};
pub use console_modes::{MODES, Modes};
pub use gate::{Bots, Gate, Login, Machine, Refusal, Trail};
pub use guests::Guest;
pub use hall::{ARRIVALS, Arrival, Arrivals};
pub use here::Here;
pub use kinds::{ACT, AWAY, BCST, CHAT, CHJN, CHOF, CHON, CHPT, DCC, FILT, KINDS, NKCH, PUTLOG};
pub use listener::{Faces, PartylineError, Speech, usual};
pub use live::{LiveLog, live_log};
pub use news::{Author, Change, Did, News, What};
pub use party::{LINE_MAX, NETWORK, Party, Seat};
pub use place::{CHANNEL, LOBBY, Place};
pub use room::{Entry, Face, QUEUE, Session};
pub use settings::Settings;
pub use sift::{NoteTaker, Sieve};
pub use tls::CertFault;

/// Bytes as they may come from anybody: first as a caller, then as lines of an IRC client and of a terminal.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    guess::guess(bytes);
    irc::fuzz(bytes);
    data::fuzz(bytes);
    telnet::fuzz(bytes);
}
