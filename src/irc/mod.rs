//! The IRC connection: bytes to events, actions to bytes. It knows nothing of binds, scripts or deployments.

pub mod decode;
mod dial;
mod history;
pub mod isupport;
mod kinds;
mod link;
pub mod message;
mod network;
pub mod outgoing;
mod react;
mod reconnect;
mod register;
pub mod sasl;
mod settings;
pub mod split;
mod state;
pub mod text;
mod tls;
mod translate;

pub use dial::{Dial, DialFault, NetDial, Stream, Wire};
pub use kinds::KINDS;
pub use network::{Network, Status};
pub use settings::{Channel, Fingerprint, PaceSettings, PingSettings, Sasl, ServerAddr, Settings, Tls};
pub use state::Member;
pub use tls::TlsFault;
