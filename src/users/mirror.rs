//! The people of an Eggdrop as they are there: its user file, the lines that change them afterwards, and what of all that is news for
//! a record here. Nothing is ever taken away by it. Pure.

use std::collections::BTreeMap;

use super::eggdrop::{EggBot, EggPerson, Userfile, address, word};
use super::user::OF_ONE;

/// The largest user file, in bytes, and the most people and bots in it.
pub const USERFILE_MAX: u64 = 16 << 20;
/// See there.
pub const PEOPLE_MAX: usize = 10_000;
/// What lines may make of all people of a bot, in bytes: a file is at most half of it.
const HELD_MAX: usize = if cfg!(test) { 1 << 20 } else { 32 << 20 };
/// What a text costs beside its letters.
const TEXT: usize = 32;
/// What stands where there is no hostmask.
const NO_HOST: &str = "none";

/// The people of an Eggdrop.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    people: BTreeMap<String, EggPerson>,
    /// What they cost, in bytes.
    held: usize,
    /// Whether it was said that there is no more room.
    full: bool,
}

/// What a line has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Somebody is there, or is another.
    Person(EggPerson),
    /// A bot is known there.
    Bot(EggBot),
    /// Nobody has this handle any more.
    Gone(String),
    /// Somebody has another handle.
    Renamed(String, EggPerson),
    /// No more room, from this line on: said once. What lines add is not taken until something goes.
    Full,
    /// Nothing that is looked at here.
    Nothing,
}

impl Mirror {
    /// As the file says.
    pub fn of(file: &Userfile) -> Mirror {
        let key = |person: &EggPerson| person.handle.to_ascii_lowercase();
        let people: BTreeMap<_, _> = file.people.iter().map(|person| (key(person), person.clone())).collect();
        let held = people.values().map(cost).sum();
        Mirror { people, held, full: false }
    }

    /// Takes a line: what an Eggdrop says behind `s `.
    pub fn take(&mut self, line: &str) -> Changed {
        let (code, rest) = word(line);
        if self.held > HELD_MAX && !matches!(code, "k" | "h" | "-h" | "-a") {
            return self.is_full();
        }
        let (handle, _) = word(if code == "c" { word(rest).1 } else { rest });
        let before = self.people.get(&handle.to_ascii_lowercase()).map_or(0, cost);
        let changed = self.change(code, rest);
        let after = match &changed {
            Changed::Person(person) | Changed::Renamed(_, person) => cost(person),
            Changed::Gone(_) => 0,
            Changed::Bot(_) | Changed::Full | Changed::Nothing => before,
        };
        self.held = (self.held + after).saturating_sub(before);
        changed
    }

    fn change(&mut self, code: &str, rest: &str) -> Changed {
        match code {
            "n" => self.new_one(rest),
            "k" => {
                let (handle, _) = word(rest);
                let gone = self.people.remove(&handle.to_ascii_lowercase());
                gone.map_or(Changed::Nothing, |person| Changed::Gone(person.handle))
            }
            "h" => self.renamed(rest),
            "c" => self.value(rest),
            "a" | "+h" | "-h" | "+a" | "-a" => {
                let (handle, rest) = word(rest);
                let rest = rest.trim();
                self.with(handle, |person| match code {
                    "a" => flags(person, rest),
                    "+h" => more(&mut person.hosts, rest),
                    "-h" => fewer(&mut person.hosts, rest),
                    "+a" => more(&mut person.accounts, rest),
                    _ => fewer(&mut person.accounts, rest),
                })
            }
            _ => Changed::Nothing,
        }
    }

    fn is_full(&mut self) -> Changed {
        if std::mem::replace(&mut self.full, true) { Changed::Nothing } else { Changed::Full }
    }

    /// Who is there with this change, which tells whether it is one: whatever is said of somebody costs a look at everybody here.
    fn with(&mut self, handle: &str, change: impl FnOnce(&mut EggPerson) -> bool) -> Changed {
        let Some(person) = self.people.get_mut(&handle.to_ascii_lowercase()) else { return Changed::Nothing };
        if change(person) { Changed::Person(person.clone()) } else { Changed::Nothing }
    }

    /// `handle hostmask password flags`. Of one who is there already it says nothing.
    fn new_one(&mut self, rest: &str) -> Changed {
        let (handle, rest) = word(rest);
        let (host, rest) = word(rest);
        let (_password, rest) = word(rest);
        let (flags, _) = word(rest);
        let key = handle.to_ascii_lowercase();
        let bot = flags.contains('b');
        if handle.is_empty() || bot || self.people.contains_key(&key) {
            return Changed::Nothing;
        }
        if self.people.len() >= PEOPLE_MAX {
            return self.is_full();
        }
        let (handle, flags) = (handle.to_owned(), flags.to_owned());
        let mut person = EggPerson { handle, flags, ..EggPerson::default() };
        more(&mut person.hosts, host);
        self.people.insert(key, person.clone());
        Changed::Person(person)
    }

    fn renamed(&mut self, rest: &str) -> Changed {
        let (old, rest) = word(rest);
        let new = rest.trim();
        let (from, to) = (old.to_ascii_lowercase(), new.to_ascii_lowercase());
        if new.is_empty() || new.contains(' ') || from != to && self.people.contains_key(&to) {
            return Changed::Nothing;
        }
        if self.people.get(&from).is_some_and(|person| person.handle == new) {
            return Changed::Nothing;
        }
        let Some(mut person) = self.people.remove(&from) else { return Changed::Nothing };
        let old = std::mem::replace(&mut person.handle, new.to_owned());
        self.people.insert(to, person.clone());
        Changed::Renamed(old, person)
    }

    /// `KEY handle value`. A password is not even looked at.
    fn value(&mut self, rest: &str) -> Changed {
        let (name, rest) = word(rest);
        let (handle, rest) = word(rest);
        let value = rest.trim();
        let there = self.people.contains_key(&handle.to_ascii_lowercase());
        match name.to_ascii_uppercase().as_str() {
            "BOTADDR" if !there => {
                let (host, rest) = word(value);
                let (port, _) = word(rest);
                // As in a file, where the colons of an address are written otherwise.
                let address = address(&format!("{}:{port}", host.replace(':', ";")));
                Changed::Bot(EggBot { handle: handle.to_owned(), address, flags: String::new() })
            }
            "COMMENT" => self.with(handle, |person| set(&mut person.comment, value)),
            "ACCOUNT" => self.with(handle, |person| more(&mut person.accounts, value)),
            "FPRINT" => self.with(handle, |person| more(&mut person.certs, value)),
            _ => Changed::Nothing,
        }
    }
}

/// What somebody costs, in bytes.
fn cost(person: &EggPerson) -> usize {
    let marks = person.hosts.iter().chain(&person.accounts).chain(&person.certs);
    let channels = person.channels.iter().map(|(name, flags)| name.len() + flags.len() + TEXT).sum::<usize>();
    let own = person.handle.len() + person.flags.len() + person.comment.len() + TEXT;
    own + channels + marks.map(|mark| mark.len() + TEXT).sum::<usize>()
}

/// `flags [#channel]`: what they are from now on. Tells whether they were others.
fn flags(person: &mut EggPerson, rest: &str) -> bool {
    let (flags, channel) = word(rest);
    let channel = channel.trim();
    if channel.is_empty() {
        return set(&mut person.flags, flags);
    }
    let full = person.channels.len() >= OF_ONE;
    match person.channels.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(channel)) {
        Some((_, held)) => set(held, flags),
        None if full => false,
        None => {
            person.channels.push((channel.to_owned(), flags.to_owned()));
            true
        }
    }
}

fn set(held: &mut String, value: &str) -> bool {
    let other = held != value;
    value.clone_into(held);
    other
}

fn fewer(all: &mut Vec<String>, one: &str) -> bool {
    let before = all.len();
    all.retain(|other| !other.eq_ignore_ascii_case(one));
    all.len() < before
}

fn more(all: &mut Vec<String>, one: &str) -> bool {
    let known = all.iter().any(|other| other.eq_ignore_ascii_case(one));
    let new = !one.is_empty() && one != NO_HOST && !known && all.len() < OF_ONE;
    if new {
        all.push(one.to_owned());
    }
    new
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::claims::Seen;
    use super::super::flags::FlagSet;
    use super::super::user::User;
    use super::*;

    fn mirror() -> Mirror {
        let text =
            "#4v: eggdrop v1.8.4 -- HubBot -- transmit\ncarol - fp\n! #lab 0 lo\n--HOSTS *!c@one.example\ndave - -\n";
        Mirror::of(&Userfile::parse(text).unwrap())
    }

    fn person(changed: Changed) -> EggPerson {
        match changed {
            Changed::Person(person) | Changed::Renamed(_, person) => person,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_change_who_is_there_as_real_ones_do() {
        let mut all = mirror();
        let frank = person(all.take("n frank *!frank@example.org - -"));
        assert_eq!(
            (frank.flags.as_str(), frank.hosts.as_slice()),
            ("-", ["*!frank@example.org".to_owned()].as_slice())
        );
        assert_eq!(all.take("n FRANK *!other@example.org - n"), Changed::Nothing, "he is there already");
        assert_eq!(person(all.take("a frank lo")).flags, "lo");
        assert_eq!(person(all.take("a frank v #lab")).channels, [("#lab".to_owned(), "v".to_owned())]);
        assert_eq!(person(all.take("+h frank *!frank@other.example")).hosts.len(), 2);
        assert_eq!(person(all.take("-h frank *!FRANK@other.example")).hosts.len(), 1);
        assert_eq!(person(all.take("c COMMENT frank of the night")).comment, "of the night");
        assert_eq!(all.take("c PASS frank newpass1"), Changed::Nothing);
        assert_eq!(all.take("a LeafBot b"), Changed::Nothing);
        assert_eq!(all.take("n Bot *!*@b.example - b"), Changed::Nothing);
        let Changed::Bot(leaf) = all.take("c BOTADDR LeafBot 127.0.0.1 +43320 43320") else { panic!("a bot") };
        assert_eq!(leaf.address, Some(("127.0.0.1".to_owned(), 43_320, true)));
        let Changed::Renamed(old, franky) = all.take("h frank franky") else { panic!("renamed") };
        assert_eq!((old.as_str(), franky.handle.as_str(), franky.flags.as_str()), ("frank", "franky", "lo"));
        assert_eq!(all.take("h carol franky"), Changed::Nothing, "that is another's");
        assert_eq!(all.take("k franky"), Changed::Gone("franky".to_owned()));
        for line in ["k franky", "+b *!*@x 0 p y z", "nc #new", "!", "", "a", "+h", "c", "h x", "n"] {
            assert_eq!(all.take(line), Changed::Nothing, "{line}");
        }
    }

    #[test]
    fn however_much_lines_bring_only_so_much_is_held_of_it_until_something_goes() {
        let mut all = Mirror::default();
        let long = "x".repeat(4000);
        let people = 0..HELD_MAX / 4000 / OF_ONE + 10;
        for one in people.clone() {
            all.take(&format!("n p{one} none - f"));
            (0..OF_ONE).for_each(|mark| drop(all.take(&format!("+h p{one} *!{mark}@{long}"))));
        }
        let cost_of = |all: &Mirror| all.people.values().map(cost).sum::<usize>();
        assert!(cost_of(&all) < HELD_MAX + 8192 && all.held == cost_of(&all), "{} {}", all.held, cost_of(&all));
        assert!(all.full && all.take("+h p0 *!one@more") == Changed::Nothing, "which was said, once");
        // Who is renamed, loses something or goes is heard of.
        assert!(matches!(all.take("h p0 q0"), Changed::Renamed(..)));
        assert!(matches!(all.take(&format!("-h q0 *!0@{long}")), Changed::Person(_)));
        assert!(matches!(all.take("k q0"), Changed::Gone(_)));
        assert_eq!(all.held, cost_of(&all));
        assert!(matches!(all.take("n r0 *!r@host - f"), Changed::Person(_)), "and then there is room again");
        for one in people {
            all.take(&format!("k p{one}"));
        }
        all.take("k r0");
        assert_eq!(all.held, 0);
    }

    #[test]
    fn of_more_people_than_anybody_has_it_is_said_once_that_there_is_no_room() {
        let mut all = Mirror::default();
        let mut full = (0..PEOPLE_MAX + 9).filter(|one| all.take(&format!("n p{one} none - f")) == Changed::Full);
        assert_eq!((full.next(), full.next()), (Some(PEOPLE_MAX), None));
        assert!(matches!(all.take("a p7 fo"), Changed::Person(_)), "who is there is heard of");
    }

    #[test]
    fn a_line_that_changes_nothing_is_nothing() {
        let mut all = mirror();
        for line in [
            "+h carol *!c@two.example",
            "+a carol carol",
            "a carol lo",
            "a carol v #lab",
            "c COMMENT carol of the night",
            "c FPRINT carol ab12",
            "-h carol *!c@two.example",
            "-a carol carol",
            "h carol caroline",
        ] {
            assert_ne!(all.take(line), Changed::Nothing, "{line}");
            assert_eq!(all.take(line), Changed::Nothing, "{line}");
        }
        assert_eq!(all.take("-h caroline *!nobody@there.example"), Changed::Nothing);
        assert_eq!(all.take("h caroline caroline"), Changed::Nothing);
    }

    proptest! {
        #[test]
        fn whatever_lines_say_a_record_loses_nothing_and_gains_no_other_letters(
            lines in prop::collection::vec("(n|k|h|a|\\+h|-h|\\+a|c COMMENT|c FPRINT) (carol|dave|eve)( [a-zA-Z*!@.#|-]{1,8}){0,4}|\\PC{0,30}", 0..20),
            held in "[a-z]{0,4}", there in "[a-z]{0,4}",
        ) {
            let (mut all, letters) = (mirror(), FlagSet::parse("vfol").unwrap());
            let mut mine = User::new("carol").unwrap();
            let _ = mine.change_flags(&held);
            let _ = mine.change_channel_flags("#lab", &there);
            let mut seen = Seen::default();
            for line in &lines {
                let Changed::Person(person) = all.take(line) else { continue };
                let Ok((record, _)) = person.record(None, letters) else { continue };
                let now = Seen::of(&record);
                let (after, _) = now.since(&seen).added_to(&mine);
                prop_assert!(mine.flags.without(after.flags).is_empty());
                prop_assert!(after.flags.without(mine.flags).without(letters).is_empty());
                for (name, flags) in &mine.channels {
                    prop_assert!(flags.without(after.channels.get(name).copied().unwrap_or_default()).is_empty());
                }
                prop_assert!(mine.hosts.iter().all(|host| after.hosts.contains(host)) && after.password.is_none());
                (mine, seen) = (after, now);
            }
        }
    }
}
