//! The IRC face: for an IRC client the partyline is a small server.

mod asks;
mod caps;
mod client;
mod commands;
mod lines;
mod register;
mod session;

pub(super) use session::serve;
