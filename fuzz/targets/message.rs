#![no_main]
//! Any bytes from a server: lines, messages, tags, modes.

use libfuzzer_sys::fuzz_target;
use masterchief::irc::decode::{LineReader, decode, encode};
use masterchief::irc::isupport::ISupport;
use masterchief::irc::message::{Message, compose};

fuzz_target!(|bytes: &[u8]| {
    let mut reader = LineReader::default();
    let mut isupport = ISupport::default();
    for part in bytes.chunks(7) {
        reader.feed(part);
        while let Some(line) = reader.next_line() {
            assert!(!line.contains(['\n', '\0']));
            let Ok(message) = Message::parse(&line) else { continue };
            message.tags.iter().for_each(drop);
            isupport.take(message.params());
            isupport.modes(message.param(0), message.params());
            if let Ok(line) = compose(&[], message.command, message.params()) {
                let again = Message::parse(&line).expect("what is composed is parsed");
                assert_eq!(again.params(), message.params());
            }
        }
    }
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, 0 | b'\r' | b'\n')).collect();
    let _ = encode(&decode(&line));
});
