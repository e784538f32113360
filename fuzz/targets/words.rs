#![no_main]
//! Any words to be said: the pieces fit and are the words.

use libfuzzer_sys::fuzz_target;
use masterchief::irc::{split, text};

fuzz_target!(|input: (u8, &str)| {
    let (room, words) = input;
    let room = usize::from(room).max(4);
    let pieces = split::split(words, room);
    let whole: String = words.split(['\r', '\n', '\0']).collect();
    assert_eq!(pieces.concat(), whole);
    for piece in pieces {
        assert!(!piece.is_empty());
    }
    let _ = text::plain(words);
    let _ = text::ctcp(words);
});
