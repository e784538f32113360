//! The IRC connection: bytes to events, actions to bytes. It knows nothing of binds, scripts or deployments.

mod comeback;
pub mod decode;
mod dial;
mod history;
#[cfg(any(test, fuzzing))]
mod inbound;
pub mod isupport;
mod kinds;
mod link;
pub mod message;
mod multiline;
mod network;
pub mod outgoing;
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

#[cfg(any(test, fuzzing))]
pub use inbound::inbound;

pub use dial::{Dial, DialFault, NetDial, Stream, Wire};
pub use kinds::KINDS;
pub use network::{Network, Status};
pub use settings::{
    Channel, Fingerprint, PaceSettings, PingSettings, Proxy, Sasl, ServerAddr, Services, Settings, Tls, Via, WebPath,
};
pub use state::Member;
pub use sts::{Policies, Sts, StsFault};
pub use tls::TlsFault;
