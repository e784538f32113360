#![no_main]
//! Any output with any secrets, cut anywhere: no secret is in what is shown, and the cuts change nothing.

use libfuzzer_sys::fuzz_target;
use masterchief::contract::Secret;
use masterchief::executors::Masker;

fuzz_target!(|input: (Vec<String>, Vec<Vec<u8>>)| {
    let (secrets, pieces) = input;
    let secrets: Vec<Secret> = secrets.into_iter().take(4).map(Secret::new).collect();
    let masker = Masker::new(&secrets);
    let hidden = |pieces: &[Vec<u8>]| {
        let mut out = Vec::new();
        let mut stream = masker.stream();
        for piece in pieces {
            stream.push(piece, &mut out);
        }
        stream.finish(&mut out);
        out
    };
    let cut = hidden(&pieces);
    assert_eq!(cut, hidden(&[pieces.concat()]));
    for secret in &secrets {
        let word = secret.reveal().as_bytes();
        // What is made of the stars themselves cannot be told from them.
        if word.len() >= 4 && !word.contains(&b'*') && !word.contains(&b'\n') && !word.contains(&b'\r') {
            assert!(!cut.windows(word.len()).any(|part| part == word));
        }
    }
});
