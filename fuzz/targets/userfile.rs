#![no_main]
//! Any text as the user file of an Eggdrop: read, or refused, and nobody in it has more than the letters that are let in.

use libfuzzer_sys::fuzz_target;
use masterchief::users::{FlagSet, Userfile};

fuzz_target!(|text: &str| {
    let letters = FlagSet::parse("vf").expect("letters");
    for text in [text.to_owned(), format!("#4v: eggdrop -- Hub --\n{text}")] {
        let Ok(file) = Userfile::parse(&text) else { continue };
        for person in &file.people {
            let Ok((user, _)) = person.record(Some("net"), letters) else { continue };
            assert!(user.password.is_none() && user.flags.without(letters).is_empty());
            assert!(user.channels.values().all(|flags| flags.without(letters).is_empty()));
        }
    }
});
