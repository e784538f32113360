//! Between facts and people: what of a record is told, and what becomes of it when others tell.

use std::collections::BTreeMap;

use super::{About, Change, Fact, Ledger};
use crate::users::{Book, COMMENT_MAX, FlagSet, Section, User};

/// The letters that may travel between two bots, with all that they bring with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters(FlagSet);

impl Letters {
    /// Reads letters; `-` is none.
    pub fn parse(text: &str) -> Result<Letters, String> {
        let set = FlagSet::parse(text).map_err(|fault| fault.to_string())?;
        let all = letters(set).map(|letter| FlagSet::parse(&letter.to_string()).unwrap_or_default());
        let settled = |one: FlagSet| one.settled(Section::Global, one).union(one.settled(Section::Channel, one));
        Ok(Letters(all.map(settled).fold(set, FlagSet::union)))
    }

    /// Those that both let travel.
    #[must_use]
    pub fn common(self, other: Letters) -> Letters {
        Letters(self.0.common(other.0))
    }

    /// The letters.
    pub fn set(self) -> FlagSet {
        self.0
    }

    /// Whether a letter is among them.
    pub fn has(self, letter: char) -> bool {
        self.0.has(letter)
    }

    /// Whether a fact may travel. What is about no letter may.
    pub fn allow(self, fact: &Fact) -> bool {
        match fact.about {
            About::Flag | About::Chan => fact.letter().is_some_and(|letter| self.0.has(letter)),
            _ => true,
        }
    }

    /// Whether somebody holds more than these by the book, so that whoever may give these only must not touch their record. A role may
    /// be anything, one that is only lent too; and whom pipelines name approves.
    pub fn are_below(self, book: &Book, user: &User) -> bool {
        let global = book.stands(&user.handle).union(user.flags);
        let all = user.channels.values().fold(global, |all, set| all.union(*set));
        let roles = !user.roles.is_empty() || !user.sudo_roles.is_empty();
        !all.without(self.0).is_empty() || roles || book.is_named(&user.handle)
    }
}

impl std::fmt::Display for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn letters(set: FlagSet) -> impl Iterator<Item = char> {
    ('a'..='z').chain('A'..='Z').filter(move |letter| set.has(*letter))
}

/// Everything that is told of a record.
fn told(user: &User) -> BTreeMap<(About, String), String> {
    let mut out = BTreeMap::from([((About::User, String::new()), user.handle.clone())]);
    let mut put = |about: About, name: String| drop(out.insert((about, name), String::new()));
    letters(user.flags).for_each(|letter| put(About::Flag, letter.to_string()));
    for (channel, set) in &user.channels {
        letters(*set).for_each(|letter| put(About::Chan, format!("{channel} {letter}")));
    }
    user.accounts.iter().for_each(|(network, account)| put(About::Account, format!("{network}/{account}")));
    user.certs.iter().for_each(|cert| put(About::Cert, cert.clone()));
    user.hosts.iter().for_each(|host| put(About::Host, host.clone()));
    if !user.comment.is_empty() {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let words: String = user.comment.chars().map(plain).take(COMMENT_MAX).collect();
        out.insert((About::Comment, String::new()), words.trim().to_owned());
    }
    out
}

/// What has to be told so that the facts about somebody are what their record says. Without a record they are no more.
pub fn changes(ledger: &Ledger, handle: &str, user: Option<&User>) -> Vec<Change> {
    let handle = handle.to_ascii_lowercase();
    let mut told = user.map(told).unwrap_or_default();
    let mut out = Vec::new();
    for fact in ledger.of(&handle) {
        let now = told.remove(&(fact.about, fact.name.clone()));
        // How a handle is written is no news.
        let same = match (&fact.value, &now) {
            (Some(before), Some(now)) if fact.about == About::User => before.eq_ignore_ascii_case(now),
            (before, now) => before == now,
        };
        if !same {
            out.push(Change { thing: fact.thing(), value: now });
        }
    }
    out.extend(
        told.into_iter()
            .map(|((about, name), value)| Change { thing: (handle.clone(), about, name), value: Some(value) }),
    );
    out
}

/// The record of somebody as the facts say, with what no fact tells (password, roles, settings) as it is in `base`. Nothing if there
/// is nobody of this handle.
pub fn merged(ledger: &Ledger, handle: &str, base: Option<&User>) -> Option<User> {
    let live: Vec<&Fact> = ledger.of(handle).filter(|fact| fact.value.is_some()).collect();
    let known = live.iter().find(|fact| fact.about == About::User)?;
    let name = base.map_or(known.value.as_deref().unwrap_or(handle), |base| &base.handle);
    let blank = User::new(name).ok().filter(|user| user.handle.eq_ignore_ascii_case(handle))?;
    let base = base.cloned().unwrap_or(blank);
    let mut user = User {
        flags: FlagSet::NONE,
        channels: BTreeMap::new(),
        accounts: Vec::new(),
        certs: Vec::new(),
        hosts: Vec::new(),
        comment: String::new(),
        ..base
    };
    let mut flags = String::new();
    let mut channels: BTreeMap<&str, String> = BTreeMap::new();
    for fact in live {
        // What is no account, no mask and so on here is none: a newer version of us may know better.
        match fact.about {
            About::User => {}
            About::Flag => flags.push_str(&fact.name),
            About::Chan => {
                if let Some((channel, letter)) = fact.name.rsplit_once(' ') {
                    channels.entry(channel).or_default().push_str(letter);
                }
            }
            About::Account => drop(user.add_account(&fact.name)),
            About::Cert => drop(user.add_cert(&fact.name)),
            About::Host => drop(user.add_host(&fact.name)),
            About::Comment => user.comment = fact.value.clone().unwrap_or_default(),
        }
    }
    drop(user.change_flags(&flags));
    for (channel, letters) in channels {
        drop(user.change_channel_flags(channel, &letters));
    }
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    struct Bot {
        ledger: Ledger,
        key: Key,
        user: Option<User>,
    }

    fn bot(name: &str) -> Bot {
        Bot { ledger: Ledger::default(), key: Key::read(&Key::make().unwrap(), name).unwrap(), user: None }
    }

    impl Bot {
        fn writes(&mut self, user: Option<User>, now: u64) {
            self.user = user;
            for fact in self.ledger.sign(&self.key, changes(&self.ledger, "alice", self.user.as_ref()), now) {
                assert!(fact.is_sane(now + 10_000), "{fact:?}");
                self.ledger.take(fact).unwrap();
            }
        }

        fn hears(&mut self, other: &Bot) {
            for fact in other.ledger.of("alice").cloned().collect::<Vec<_>>() {
                self.ledger.take(fact).unwrap();
            }
            self.user = merged(&self.ledger, "alice", self.user.as_ref());
            let told = changes(&self.ledger, "alice", self.user.as_ref());
            // What was heard is not told anew; but of one who is gone everything else goes too.
            assert!(told.iter().all(|change| self.user.is_none() && change.value.is_none()), "{told:?}");
            self.writes(self.user.clone(), 0);
        }
    }

    fn alice(flags: &str) -> User {
        let mut user = User::with_account("Alice", "libera", "alice", flags).unwrap();
        user.add_host("*!a@host.example").unwrap();
        user.change_channel_flags("#ops", "+v").unwrap();
        user.comment = "of the night shift".to_owned();
        user
    }

    #[test]
    fn what_two_wrote_while_they_were_apart_is_all_there_when_they_meet() {
        let (mut one, mut two) = (bot("One"), bot("Two"));
        one.writes(Some(alice("f")), 1000);
        two.hears(&one);
        assert_eq!(two.user, one.user);
        // Apart: one gives a letter and a mask, the other takes the account and writes a word.
        let mut here = one.user.clone().unwrap();
        here.change_flags("+D").unwrap();
        here.add_host("*!b@host.example").unwrap();
        one.writes(Some(here), 2000);
        let mut there = two.user.clone().unwrap();
        (there.accounts, there.comment) = (Vec::new(), "of the day shift".to_owned());
        two.writes(Some(there), 3000);
        one.hears(&two);
        two.hears(&one);
        assert_eq!(one.user, two.user);
        let user = one.user.clone().unwrap();
        assert!(user.flags.has('D') && user.flags.has('f') && user.hosts.len() == 2 && user.accounts.is_empty());
        assert_eq!(user.comment, "of the day shift");
        // Gone is gone, whatever was written of her elsewhere before that is heard.
        let mut there = two.user.clone().unwrap();
        there.change_flags("+x").unwrap();
        two.writes(Some(there), 5000);
        one.writes(None, 4000);
        one.hears(&two);
        two.hears(&one);
        assert_eq!((&one.user, &two.user), (&None, &None));
        one.writes(Some(User::new("alice").unwrap()), 6000);
        two.hears(&one);
        assert!(two.user.clone().unwrap().flags.is_empty(), "she begins anew");
    }

    #[test]
    fn letters_that_may_not_travel_do_not_and_whoever_holds_one_is_above() {
        let letters = Letters::parse("o").unwrap();
        let mut one = bot("One");
        one.writes(Some(alice("on")), 1000);
        let travels: Vec<String> = one
            .ledger
            .of("alice")
            .filter(|fact| letters.allow(fact))
            .filter_map(Fact::letter)
            .map(String::from)
            .collect();
        assert_eq!(travels.concat(), "lo");
        let book = Book::new();
        assert!(letters.are_below(&book, &alice("on")) && letters.are_below(&book, &alice("o")));
        let mut plain = alice("o");
        plain.channels.clear();
        assert!(!letters.are_below(&book, &plain));
        let roles = vec!["deployer".to_owned()];
        assert!(letters.are_below(&book, &User { roles: roles.clone(), ..plain.clone() }), "a role may be anything");
        let lent = User { sudo_roles: roles, ..plain.clone() };
        assert!(letters.are_below(&book, &lent), "whoever takes her over lends it to themselves");
        book.name(&std::collections::BTreeSet::from(["alice".to_owned()]));
        assert!(letters.are_below(&book, &plain), "she approves, whatever her letters are");
        assert_eq!(letters.common(Letters::parse("-").unwrap()), Letters::default());
        assert!(Letters::parse("1").is_err());
    }

    #[test]
    fn a_fact_that_cannot_be_is_none() {
        let mut one = bot("One");
        one.writes(Some(alice("f")), 1000);
        let good = one.ledger.of("alice").find(|fact| fact.about == About::Flag).unwrap().clone();
        for bad in [
            Fact { handle: "Alice".to_owned(), ..good.clone() },
            Fact { name: "oo".to_owned(), ..good.clone() },
            Fact { name: String::new(), ..good.clone() },
            Fact { value: Some("a\nb".to_owned()), ..good.clone() },
            Fact { version: u64::MAX, ..good.clone() },
            Fact { name: "x".repeat(600), about: About::Host, ..good.clone() },
        ] {
            assert!(!bad.is_sane(1000), "{bad:?}");
        }
        assert!(good.is_sane(1000));
    }
}
