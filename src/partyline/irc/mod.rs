//! The IRC face: for an IRC client the partyline is a small server.

mod asks;
mod caps;
mod client;
mod commands;
mod lines;
mod register;
mod session;

pub(super) use session::serve;

/// Any bytes as those of a client: its registration, and then as one that is welcome.
#[cfg(any(fuzzing, test))]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut lines = crate::irc::decode::LineReader::default();
    let mut register = register::Register::default();
    lines.feed(bytes);
    let mut all = Vec::new();
    while let Some(line) = lines.next_line() {
        if let Ok(message) = crate::irc::message::Message::parse(&line) {
            register.take(&message);
        }
        all.push(line.into_owned());
    }
    assert!(register.login.is_none(), "nobody is logged in by what they say alone");
    welcome(&all);
}

/// Lines of a client that is welcome: whatever it says, what is told to it and to others are whole lines.
#[cfg(any(fuzzing, test))]
fn welcome(lines: &[String]) {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use masterchief_contract::{Action, Clock, Future, Outlet, Refused};

    use super::{Entry, Face, Modes, Party, Place};

    struct Nowhere;
    impl Outlet for Nowhere {
        fn perform(&self, _: Action) -> Future<Result<(), Refused>> {
            Box::pin(std::future::ready(Err(Refused::new("nowhere"))))
        }
    }

    let (book, table) = (crate::users::Book::new(), crate::dispatch::BindTable::new());
    let party = Party::new("chief", book, table, Arc::new(Nowhere), Clock::system());
    let entry = |nick: &str| {
        let (nick, handle, host) = (nick.to_owned(), nick.to_owned(), "h".to_owned());
        Entry { nick, handle, host, face: Face::Irc, icon: '-', modes: Modes::default() }
    };
    let (mut alice, mut bob) = (party.enter(entry("alice")), party.enter(entry("bob")));
    let asked = "server-time message-tags echo-message batch labeled-response extended-join away-notify";
    let caps = caps::Caps::default();
    let mut faces = [alice.idx, bob.idx].map(|idx| {
        let caps = caps.change(asked).unwrap_or(caps);
        client::Client::new(party.clone(), idx, caps, Vec::new())
    });
    for idx in [alice.idx, bob.idx] {
        // Both are for everybody.
        let _ = party.join(idx, &Place::Party(0));
    }
    let whole = |lines: &[String]| {
        for line in lines {
            assert!(!line.contains(['\r', '\n', '\0']) && !line.is_empty(), "{line:?}");
        }
    };
    for line in lines {
        let Ok(message) = crate::irc::message::Message::parse(line) else { continue };
        // Nothing that has to wait is behind this room.
        if let Some((said, _)) = faces[0].take(&message).now_or_never() {
            whole(&said);
        }
    }
    for (seat, face) in [&mut alice, &mut bob].into_iter().zip(&mut faces) {
        while let Ok(news) = seat.news.try_recv() {
            whole(&face.render(&news));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_client_says_others_get_whole_lines(
            lines in prop::collection::vec("(@label=a )?(PRIVMSG|NOTICE|JOIN|PART|TOPIC|AWAY|CAP|WHO|WHOIS|NAMES|MODE|LIST|QUIT|\\PC{0,9})( (#partyline|bob|chief|#ops|REQ|:?\\PC{0,20})){0,4}", 0..12)
        ) {
            super::fuzz(lines.join("\r\n").as_bytes());
            super::fuzz((lines.join("\r\n") + "\r\n").as_bytes());
        }

        #[test]
        fn any_bytes_of_a_client_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::fuzz(&bytes);
        }
    }
}
