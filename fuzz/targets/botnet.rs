#![no_main]
//! Any bytes from a bot: lines, the login of both sides, messages, frames of what MasterChiefs speak among themselves and facts in them.

use libfuzzer_sys::fuzz_target;
use masterchief::contract::Secret;
use masterchief::mesh::line::LineReader;
use masterchief::mesh::login::{Answerer, Caller, Known, Step};
use masterchief::mesh::message::Message;
use masterchief::mesh::name::Address;

fuzz_target!(|bytes: &[u8]| {
    masterchief::mesh::fuzz(bytes);
    let me = || "Chief".parse().expect("a name");
    let secret = || Some(Secret::new("geheim"));
    let mut caller = Caller::new(me(), "MasterChief v0", secret());
    let mut answerer = Answerer::new(me(), "MasterChief v0", "random", Secret::new("fresh"));
    let mut reader = LineReader::default();
    for part in bytes.chunks(7) {
        reader.feed(part);
        caller.bytes();
        while let Ok(Some(line)) = reader.next_line() {
            assert!(!line.contains(['\n', '\r']));
            for step in caller.line(&line) {
                // In clear nothing is proven, whatever they say.
                assert!(!matches!(step, Step::Up(_)));
                assert!(!format!("{step:?}").contains("geheim"));
            }
            for step in answerer.line(&line) {
                if let Step::WhoIs(_) = step {
                    answerer.known(Some(Known { password: secret(), insecure: true, ..Known::default() }));
                }
                assert!(!matches!(step, Step::Up(_)), "nobody guesses a digest");
            }
            let _ = Address::parse(&line);
            let Ok(message) = Message::parse(&line) else { continue };
            let again = Message::parse(&message.to_string());
            assert_eq!(again, Ok(message));
        }
    }
});
