#![no_main]
//! Any text as the user file of an Eggdrop: read, or refused, and nobody in it has more than the letters that are let in. The same text as
//! the lines that change it afterwards: whatever they say, a record here loses nothing.

use libfuzzer_sys::fuzz_target;
use masterchief::users::{Changed, FlagSet, Mirror, Seen, User, Userfile};

fuzz_target!(|text: &str| {
    let letters = FlagSet::parse("vf").expect("letters");
    for text in [text.to_owned(), format!("#4v: eggdrop -- Hub --\n{text}")] {
        let Ok(file) = Userfile::parse(&text) else { continue };
        let mut mirror = Mirror::of(&file);
        let mut mine = User::with_account("carol", "net", "carol", "ox").expect("a record");
        for line in text.lines() {
            let Changed::Person(person) = mirror.take(line) else { continue };
            let Ok((record, _)) = person.record(Some("net"), letters) else { continue };
            let (after, _) = Seen::of(&record).added_to(&mine);
            assert!(mine.flags.without(after.flags).is_empty() && after.flags.without(mine.flags).without(letters).is_empty());
            mine = after;
        }
        for person in &file.people {
            let Ok((user, _)) = person.record(Some("net"), letters) else { continue };
            assert!(user.password.is_none() && user.flags.without(letters).is_empty());
            assert!(user.channels.values().all(|flags| flags.without(letters).is_empty()));
        }
    }
});
