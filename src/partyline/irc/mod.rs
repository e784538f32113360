//! The IRC face: for an IRC client the partyline is a small server.

mod asks;
mod caps;
mod client;
mod commands;
mod lines;
mod register;
mod session;

pub(super) use session::serve;

/// Any bytes as the registration of a client.
#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut lines = crate::irc::decode::LineReader::default();
    let mut register = register::Register::default();
    lines.feed(bytes);
    while let Some(line) = lines.next_line() {
        if let Ok(message) = crate::irc::message::Message::parse(&line) {
            register.take(&message);
        }
    }
    assert!(register.login.is_none(), "nobody is logged in by what they say alone");
}
