//! All facts that a bot knows: of each thing the newest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sha2::{Digest, Sha256};

use super::{Change, Fact, Key, Letters, Thing};

/// Facts in all.
const FACTS_MAX: usize = 200_000;
/// Facts about one person.
const OF_ONE_MAX: usize = 500;

/// The facts.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    rows: BTreeMap<Thing, Fact>,
    newest: u64,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more is told of people than is kept here")]
pub struct Full;

impl Ledger {
    /// Takes a fact; whether it is news.
    pub fn take(&mut self, fact: Fact) -> Result<bool, Full> {
        let many = self.rows.len() >= FACTS_MAX || self.of(&fact.handle).count() >= OF_ONE_MAX;
        self.newest = self.newest.max(fact.version);
        match self.rows.entry(fact.thing()) {
            Entry::Occupied(mut known) if known.get().rank() < fact.rank() => {
                known.insert(fact);
                Ok(true)
            }
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(_) if many => Err(Full),
            Entry::Vacant(place) => {
                place.insert(fact);
                Ok(true)
            }
        }
    }

    /// Signs changes, later than everything that is known and no earlier than `now` (Unix milliseconds).
    pub fn sign(&self, key: &Key, changes: Vec<Change>, now: u64) -> Vec<Fact> {
        let from = now.max(self.newest + 1);
        changes.into_iter().zip(from..).map(|(change, version)| key.sign(change, version)).collect()
    }

    /// Whether a fact would be news.
    pub fn is_news(&self, fact: &Fact) -> bool {
        self.rows.get(&fact.thing()).is_none_or(|known| known.rank() < fact.rank())
    }

    /// The facts about somebody, by their handle in lower case; those that are no longer so too.
    pub fn of(&self, handle: &str) -> impl Iterator<Item = &Fact> {
        let first = (handle.to_owned(), super::About::User, String::new());
        let handle = handle.to_owned();
        self.rows.range(first..).map(|(_, fact)| fact).take_while(move |fact| fact.handle == handle)
    }

    /// What is known of some, apart from the rest.
    #[must_use]
    pub fn part<'a>(&self, handles: impl Iterator<Item = &'a String>) -> Ledger {
        let rows = handles.flat_map(|handle| self.of(handle)).map(|fact| (fact.thing(), fact.clone())).collect();
        Ledger { rows, newest: self.newest }
    }

    /// Everybody of whom something is known, behind `after`, in order.
    pub fn handles(&self, after: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for (handle, ..) in self.rows.keys() {
            if handle.as_str() > after && out.last() != Some(handle) {
                out.push(handle.clone());
            }
        }
        out
    }

    /// A number that two bots share if they know the same about somebody, as far as these letters go.
    pub fn sum(&self, handle: &str, letters: Letters) -> String {
        let mut sum = Sha256::new();
        for fact in self.of(handle).filter(|fact| letters.allow(fact)) {
            sum.update(fact.version.to_be_bytes());
            // A signature stands for all that was signed.
            sum.update(&fact.signature);
        }
        sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::About;
    use super::*;

    fn fact(handle: u8, name: u8, live: bool, version: u64, origin: u8) -> Fact {
        let value = live.then(|| "x".to_owned());
        let (handle, origin, name) = (format!("h{handle}"), format!("b{origin}"), format!("{name}"));
        Fact { handle, about: About::Host, name, value, version, origin, signature: vec![version as u8] }
    }

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let one = (0u8..3, 0u8..3, any::<bool>(), 0u64..5, 0u8..3);
        proptest::collection::vec(one.prop_map(|(h, n, l, v, o)| fact(h, n, l, v, o)), 0..40)
    }

    fn ledger(facts: &[Fact]) -> Ledger {
        let mut ledger = Ledger::default();
        for fact in facts {
            ledger.take(fact.clone()).unwrap();
        }
        ledger
    }

    proptest! {
        /// In whatever order and how often facts come, those who have heard the same know the same.
        #[test]
        fn who_has_heard_the_same_knows_the_same(facts in facts(), seed: u64) {
            let mut other = facts.clone();
            other.extend(facts.iter().take(seed as usize % 5).cloned());
            let turn = seed as usize % other.len().max(1);
            other.rotate_left(turn);
            other.reverse();
            prop_assert_eq!(ledger(&facts).rows, ledger(&other).rows);
        }
    }

    #[test]
    fn one_person_can_take_the_room_of_nobody_else() {
        let mut ledger = Ledger::default();
        let mut full = 0;
        for number in 0..1000u64 {
            let fact = Fact { name: format!("{number}"), ..fact(1, 0, true, number, 1) };
            full += usize::from(ledger.take(fact).is_err());
        }
        assert_eq!((ledger.of("h1").count(), full), (OF_ONE_MAX, 1000 - OF_ONE_MAX));
        assert_eq!(ledger.take(fact(2, 0, true, 1, 1)), Ok(true));
        assert_eq!(ledger.handles("h1"), ["h2"]);
    }
}
