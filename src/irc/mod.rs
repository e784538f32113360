//! The IRC connection: bytes to events, actions to bytes. It knows nothing of binds, scripts or deployments.

mod around;
mod comeback;
pub mod decode;
mod dial;
mod formats;
mod history;
mod identity;
#[cfg(any(test, fuzzing))]
mod inbound;
pub mod isupport;
mod kinds;
mod limits;
mod link;
pub mod message;
mod multiline;
mod network;
mod ops;
pub mod outgoing;
mod peer;
mod react;
mod receipts;
mod reconnect;
mod regain;
mod register;
pub mod sasl;
mod settings;
mod speak;
pub mod split;
mod splits;
mod state;
mod sts;
pub mod text;
mod tls;
mod translate;
mod watched;

#[cfg(any(test, fuzzing))]
pub use inbound::{Inbound, Said, inbound, on_paused_time};

pub use around::{Around, Fate, Nobody};
pub use dial::{Dial, DialFault, NetDial, Stream, Wire};
pub use identity::{Identity, IdentityFault, Own, fingerprint};
pub use kinds::{KINDS, TLS};
pub use network::{Network, Status};
pub use peer::Peer;
pub use settings::{
    Budget, Channel, Fingerprint, PaceSettings, PingSettings, Proxy, Sasl, ServerAddr, Services, Settings, Tls, Via,
    WebPath, Webirc,
};
pub use speak::{AGAIN, Known, Words, lines_of};
pub use state::Member;
pub use sts::{Policies, Sts, StsFault};
pub(crate) use text::plain;
pub use tls::TlsFault;
