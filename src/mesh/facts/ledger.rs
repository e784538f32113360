//! All facts that a bot knows: of each thing the newest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sha2::{Digest, Sha256};

use super::{Change, Fact, Key, Letters, Thing};

/// Facts in all.
const FACTS_MAX: usize = 200_000;
/// Facts about one person.
const OF_ONE_MAX: usize = 500;

/// That something is no longer so is told for so long (milliseconds); then everybody who can hear it has, and where there is no room it
/// may be forgotten. Whoever was away for longer may bring back what was taken away.
const OLD: u64 = 30 * 86_400_000;

/// The facts.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    rows: BTreeMap<Thing, Fact>,
    newest: u64,
    /// What made room for others, until it is asked for.
    dropped: Vec<Thing>,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more is told of people than is kept here")]
pub struct Full;

impl Ledger {
    /// Takes a fact; whether it is news.
    pub fn take(&mut self, fact: Fact) -> Result<bool, Full> {
        self.newest = self.newest.max(fact.version);
        let known = self.rows.contains_key(&fact.thing());
        if !known && fact.is_past(self.newest) {
            // What was forgotten to make room is not told again by those who had it.
            return Ok(false);
        }
        let many = !known && !self.has_room(&fact.handle);
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

    /// Whether there is room for one more about somebody; what is no longer so, and has long been told, makes room.
    fn has_room(&mut self, handle: &str) -> bool {
        let newest = self.newest;
        let oldest = |facts: &mut dyn Iterator<Item = &Fact>| {
            facts.filter(|fact| fact.is_past(newest)).min_by_key(|fact| fact.version).map(Fact::thing)
        };
        if self.of(handle).count() >= OF_ONE_MAX {
            let Some(thing) = oldest(&mut self.of(handle)) else { return false };
            self.rows.remove(&thing);
            self.dropped.push(thing);
        }
        if self.rows.len() >= FACTS_MAX {
            let Some(thing) = oldest(&mut self.rows.values()) else { return false };
            self.rows.remove(&thing);
            self.dropped.push(thing);
        }
        true
    }

    /// What made room for others since this was last asked.
    pub fn take_dropped(&mut self) -> Vec<Thing> {
        std::mem::take(&mut self.dropped)
    }

    /// What is told of somebody, and compared: all but what has long been no longer so.
    pub fn told(&self, handle: &str, letters: Letters, now: u64) -> impl Iterator<Item = &Fact> {
        self.of(handle).filter(move |fact| letters.allow(fact) && !fact.is_past(now))
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

    /// All facts.
    pub fn all(&self) -> impl Iterator<Item = &Fact> {
        self.rows.values()
    }

    /// What is known of some, apart from the rest.
    #[must_use]
    pub fn part<'a>(&self, handles: impl Iterator<Item = &'a String>) -> Ledger {
        let rows = handles.flat_map(|handle| self.of(handle)).map(|fact| (fact.thing(), fact.clone())).collect();
        Ledger { rows, newest: self.newest, dropped: Vec::new() }
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
    pub fn sum(&self, handle: &str, letters: Letters, now: u64) -> String {
        let mut sum = Sha256::new();
        for fact in self.told(handle, letters, now) {
            sum.update(fact.version.to_be_bytes());
            // A signature stands for all that was signed.
            sum.update(&fact.signature);
        }
        sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Fact {
    /// Whether it says that something is no longer so, and has said it for long.
    fn is_past(&self, now: u64) -> bool {
        self.value.is_none() && self.version.saturating_add(OLD) <= now
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

    #[test]
    fn what_has_long_been_no_longer_so_makes_room_and_is_compared_and_told_no_more() {
        let all = Letters::parse("o").unwrap();
        let one = |name: &str, live: bool, version: u64| Fact { name: name.to_owned(), ..fact(1, 0, live, version, 1) };
        let (mut first, mut second) = (Ledger::default(), Ledger::default());
        for n in 0..OF_ONE_MAX as u64 {
            // In the life of one person many hostmasks come and go.
            assert_eq!(first.take(one(&format!("m{n}"), n == 0, n + 1)), Ok(true));
            second.take(one(&format!("m{n}"), n == 0, n + 1)).unwrap();
        }
        assert_eq!(first.take(one("young", true, 1000)), Err(Full), "they may still be news to somebody");
        let now = OLD + 3;
        assert_eq!(first.take(one("new", true, now)), Ok(true));
        assert_eq!(first.take_dropped(), [one("m1", false, 2).thing()], "the oldest of what is no longer so");
        second.take(one("m0", true, now)).unwrap();
        first.take(one("m0", true, now)).unwrap();
        assert_eq!(second.take(one("new", true, now)), Ok(true));
        assert_eq!(first.take(one("m1", false, 2)), Ok(false), "nobody tells it again");
        second.rows.insert(one("m1", false, 2).thing(), one("m1", false, 2));
        let later = now + OLD;
        assert_eq!(
            first.sum("h1", all, later),
            second.sum("h1", all, later),
            "who forgot and who did not know the same"
        );
        assert_eq!(first.told("h1", all, later).count(), 2);
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
