//! The telnet face: a handle, a password, and then lines, as Eggdrop has it.

mod iac;
mod session;

pub(super) use session::serve;
