//! The IRC connection: bytes to events, actions to bytes. It knows nothing of binds, scripts or deployments.

pub mod decode;
pub mod isupport;
pub mod message;
pub mod outgoing;
pub mod split;
pub mod text;
