//! The mesh: bots linked with each other as Eggdrops are, leaf or hub, in the botnet's own protocol.
//!
//! Pure: `number` `name` `line` `message` (the wire), `login` (how a link begins), `book` (the tree), `net` (what a line does),
//! `dialer` (whom to call), `lease` and `leads` (who of a group acts), `facts`
//! (what bots tell each other of people). What does input and output: `connection` and `link` (one socket), `calls` (who calls whom), `tls`,
//! `records`, and `hub`, the one task that holds the net. [`Mesh`] is the handle.
//!
//! A partyline joins it with two calls. What happens on it goes in by [`Mesh::tell`] as [`Local`], plain data with session
//! numbers of the partyline's own. What happens elsewhere comes out of [`Mesh::news`] as [`News`]; a listener that fell behind
//! takes [`Mesh::view`], which has all bots and people. What people ask of other bots is [`Mesh::question`].

mod book;
mod calls;
mod connection;
mod dialer;
pub mod facts;
#[cfg(any(test, fuzzing))]
mod fed;
mod gift;
mod handle;
mod hub;
mod kinds;
mod leads;
pub mod lease;
pub mod line;
mod link;
pub mod login;
pub mod message;
pub mod name;
mod net;
mod news;
pub mod number;
mod pending;
mod records;
mod settings;
mod talk;
mod threads;
mod tls;
mod trust;

use masterchief_contract::Future;

pub use book::{Bot, Member, PeerId};
pub use connection::LinkFault;
#[cfg(any(test, fuzzing))]
pub use fed::fuzz;
pub use gift::{Gift, Take};
pub use handle::{AskFault, EVENT, LEASE, LOG, LinkView, Mesh, MeshFault, NEED, Opening, RUN, SAID, SHARE, View, WORK};
pub use kinds::{BOT, DISC, KINDS, LINK, NOTE, RELAY, RELAYED};
pub use leads::{Leads, Led};
pub use message::{TEXT_MAX, When};
pub use name::{Address, BotName, Word};
pub use net::{Facts, Judge, Peer, SendFault};
pub use news::{Call, LOCAL_CHANNELS, Local, News, Note, Noted, Question};
pub use pending::CallFault;
pub use records::{Attribute, Attrs, BotAddr, BotSettings, Encryption, Record, RecordFault};
pub use settings::{RelaySettings, Settings};
pub use talk::DATA_MAX;
pub use threads::Asker;
pub use tls::TlsFault;
pub use trust::Trust;

/// The name that stands for the mesh where others have an IRC network: no network may be called so.
pub const NETWORK: &str = "mesh";

/// What the mesh asks of the house.
pub trait House: Judge {
    /// A note for a person here: shown, kept, or refused. One at a time.
    fn note(&self, note: Note) -> Future<Noted>;
    /// One of us calls; whether there is room for it. It must not wait.
    fn called(&self, call: Call) -> bool;
    /// A bot whose user file may be taken has given it, or told what changed in it; a fault where nothing more is taken of it.
    fn given(&self, bot: BotName, gift: Gift) -> Future<Result<(), String>>;
    /// Something for the operators about a bot.
    fn warn(&self, bot: &BotName, text: &str);
}
