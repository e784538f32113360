//! What stages share: slots of named pools, processors, memory and disk of the machine.

use std::collections::{BTreeMap, VecDeque};

use super::model::Resources;
use super::words;

/// How much there is of something, and of what is counted for the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Slots of each pool; one that is not named has [`Sizes::other`].
    pub pools: BTreeMap<String, u64>,
    /// Slots of pools that are not named.
    pub other: u64,
    /// Thousandths of processors; not counted if `None`.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
}

/// Who holds what, and who waits. Nobody overtakes another who waits for the same pool but a few that are more urgent, and whoever
/// waits for what all pools share is passed by others that take of it a few times only: so nobody waits for ever.
#[derive(Debug, Default)]
pub(super) struct Pools<K> {
    sizes: Sizes,
    held: BTreeMap<K, Resources>,
    /// The sums of what is held: slots by pool, and what is counted for the machine.
    taken: BTreeMap<String, u64>,
    machine: [u64; 3],
    /// Who waits, by pool, in order.
    waiting: BTreeMap<String, VecDeque<Waiting<K>>>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiting<K> {
    key: K,
    wanted: Resources,
    priority: u64,
    /// How many more urgent ones went before it.
    passed: u32,
    /// How many of other pools took of the machine what it waits for.
    beside: u32,
}

/// So many more urgent ones may go before somebody who waits.
const PASSED: u32 = 8;

/// One row of `!slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The pool.
    pub pool: String,
    /// Slots there are.
    pub size: u64,
    /// Slots that are held.
    pub used: u64,
    /// How many stages wait.
    pub waiting: usize,
}

impl<K: Ord + Clone> Pools<K> {
    /// Pools of these sizes.
    pub(super) fn new(sizes: Sizes) -> Pools<K> {
        Pools { sizes, held: BTreeMap::new(), taken: BTreeMap::new(), machine: [0; 3], waiting: BTreeMap::new() }
    }

    /// Takes other sizes. Who holds more than there is now keeps it.
    pub(super) fn resize(&mut self, sizes: Sizes) {
        self.sizes = sizes;
    }

    fn size(&self, pool: &str) -> u64 {
        self.sizes.pools.get(pool).copied().unwrap_or(self.sizes.other)
    }

    /// Whether so much can ever be had; what is too much otherwise.
    pub(super) fn possible(&self, wanted: &Resources) -> Result<(), String> {
        let size = self.size(&wanted.pool);
        if wanted.slots > size {
            return Err(words::too_many_slots(wanted.slots, &wanted.pool, size));
        }
        let limits = [
            ("cpu", wanted.limits.cpu, self.sizes.cpu),
            ("mem", wanted.limits.memory, self.sizes.memory),
            ("disk", wanted.limits.disk, self.sizes.disk),
        ];
        for (name, wanted, size) in limits {
            if let (Some(wanted), Some(size)) = (wanted, size)
                && wanted > size
            {
                return Err(words::too_much(name, wanted, size));
            }
        }
        Ok(())
    }

    /// Asks for something; whether it is held now. If not, it waits, and [`Pools::granted`] gives it later.
    pub(super) fn ask(&mut self, key: K, wanted: Resources, priority: u64) -> bool {
        let behind = self.waiting.get(&wanted.pool).is_some_and(|queue| !queue.is_empty());
        let fits = self.fits(&wanted) && !self.kept(&wanted);
        if !behind && fits {
            self.give(key, wanted);
            return true;
        }
        let queue = self.waiting.entry(wanted.pool.clone()).or_default();
        let mut at = queue.len();
        while at > 0 && queue[at - 1].priority < priority && queue[at - 1].passed < PASSED {
            at -= 1;
            queue[at].passed += 1;
        }
        if at == 0 && fits {
            self.give(key, wanted);
            return true;
        }
        queue.insert(at, Waiting { key, wanted, priority, passed: 0, beside: 0 });
        false
    }

    /// Gives what was asked for; first in line of another pool who waits for the same of the machine is passed by that.
    fn give(&mut self, key: K, wanted: Resources) {
        let others = self.waiting.iter().filter(|(pool, _)| **pool != wanted.pool);
        let passed = others.filter(|(_, queue)| queue.front().is_some_and(|one| self.waits_beside(one, &wanted)));
        let passed: Vec<String> = passed.map(|(pool, _)| pool.clone()).collect();
        for pool in passed {
            if let Some(one) = self.waiting.get_mut(&pool).and_then(VecDeque::front_mut) {
                one.beside += 1;
            }
        }
        self.hold(key, wanted);
    }

    /// Whether what is free of the machine is kept for somebody who was passed often enough.
    fn kept(&self, wanted: &Resources) -> bool {
        let mut others = self.waiting.iter().filter(|(pool, _)| **pool != wanted.pool);
        others.any(|(_, queue)| queue.front().is_some_and(|one| one.beside >= PASSED && self.waits_beside(one, wanted)))
    }

    /// Whether somebody waits only for the machine, and for something of it of which this takes too.
    fn waits_beside(&self, one: &Waiting<K>, other: &Resources) -> bool {
        let sizes = [self.sizes.cpu, self.sizes.memory, self.sizes.disk];
        let both = counted(&one.wanted).into_iter().zip(counted(other)).zip(sizes);
        let shares = both.into_iter().any(|((one, other), size)| {
            size.is_some() && one.is_some_and(|one| one > 0) && other.is_some_and(|other| other > 0)
        });
        shares && self.has_slots(&one.wanted) && !self.fits(&one.wanted) && self.possible(&one.wanted).is_ok()
    }

    /// Holds something that was held before a restart, whether or not it fits.
    pub(super) fn hold(&mut self, key: K, wanted: Resources) {
        self.give_back(&key);
        *self.taken.entry(wanted.pool.clone()).or_default() += wanted.slots;
        for (sum, more) in self.machine.iter_mut().zip(counted(&wanted)) {
            *sum += more.unwrap_or(0);
        }
        self.held.insert(key, wanted);
    }

    /// Gives back what is held, and stops waiting.
    pub(super) fn release(&mut self, key: &K) {
        if !self.give_back(key) {
            self.waiting.values_mut().for_each(|queue| queue.retain(|one| one.key != *key));
        }
    }

    /// Whether something was held.
    fn give_back(&mut self, key: &K) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        if let Some(taken) = self.taken.get_mut(&held.pool) {
            *taken -= held.slots;
        }
        for (sum, less) in self.machine.iter_mut().zip(counted(&held)) {
            *sum -= less.unwrap_or(0);
        }
        true
    }

    /// Those who waited and hold something now.
    pub(super) fn granted(&mut self) -> Vec<K> {
        let mut out = Vec::new();
        let pools: Vec<String> = self.waiting.keys().cloned().collect();
        for pool in pools {
            // Who stands first in a queue is not overtaken.
            let may = |one: &Waiting<K>| self.fits(&one.wanted) && !self.kept(&one.wanted);
            let mut next = self.waiting.get(&pool).and_then(|queue| queue.front()).is_some_and(may);
            while next {
                let Some(one) = self.waiting.get_mut(&pool).and_then(VecDeque::pop_front) else { break };
                self.give(one.key.clone(), one.wanted);
                out.push(one.key);
                let may = |one: &Waiting<K>| self.fits(&one.wanted) && !self.kept(&one.wanted);
                next = self.waiting.get(&pool).and_then(|queue| queue.front()).is_some_and(may);
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        out
    }

    /// What is counted for the whole machine and is limited: its name, what is held of it, and what there is.
    pub(super) fn machine(&self) -> Vec<(&'static str, u64, u64)> {
        let sizes = [("cpu", self.sizes.cpu), ("mem", self.sizes.memory), ("disk", self.sizes.disk)];
        let some = sizes.into_iter().zip(self.machine).filter_map(|((name, size), held)| Some((name, held, size?)));
        some.collect()
    }

    /// Who holds slots of a pool.
    pub(super) fn holders(&self, pool: &str) -> Vec<&K> {
        self.held.iter().filter(|(_, held)| held.pool == pool).map(|(key, _)| key).collect()
    }

    /// The pools that are in use or have a size of their own.
    pub(super) fn rows(&self) -> Vec<PoolRow> {
        let used = self.taken.iter().filter(|(_, taken)| **taken > 0).map(|(pool, _)| pool);
        let mut names: Vec<&String> = self.sizes.pools.keys().chain(used).chain(self.waiting.keys()).collect();
        names.sort();
        names.dedup();
        let row = |pool: &String| PoolRow {
            pool: pool.clone(),
            size: self.size(pool),
            used: self.taken.get(pool).copied().unwrap_or(0),
            waiting: self.waiting.get(pool).map_or(0, VecDeque::len),
        };
        names.into_iter().map(row).collect()
    }

    /// Whether anybody waits.
    pub(super) fn busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn has_slots(&self, wanted: &Resources) -> bool {
        self.taken.get(&wanted.pool).copied().unwrap_or(0) + wanted.slots <= self.size(&wanted.pool)
    }

    fn fits(&self, wanted: &Resources) -> bool {
        let sizes = [self.sizes.cpu, self.sizes.memory, self.sizes.disk];
        let room = |((size, taken), wanted): ((Option<u64>, u64), Option<u64>)| match (size, wanted) {
            (Some(size), Some(wanted)) => taken + wanted <= size,
            _ => true,
        };
        self.has_slots(wanted) && sizes.into_iter().zip(self.machine).zip(counted(wanted)).all(room)
    }
}

/// What is counted for the whole machine: processors, memory, disk.
fn counted(wanted: &Resources) -> [Option<u64>; 3] {
    [wanted.limits.cpu, wanted.limits.memory, wanted.limits.disk]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots(pool: &str, slots: u64) -> Resources {
        Resources { pool: pool.to_owned(), slots, ..Resources::default() }
    }

    fn pools(default: u64) -> Pools<u32> {
        Pools::new(Sizes { pools: BTreeMap::from([("default".to_owned(), default)]), other: 1, ..Sizes::default() })
    }

    #[test]
    fn who_asks_for_much_is_not_overtaken_for_ever() {
        let mut pools = pools(4);
        assert!(pools.ask(1, slots("default", 3), 0));
        assert!(!pools.ask(2, slots("default", 4), 0));
        assert!(!pools.ask(3, slots("default", 1), 0), "there is one slot, and it is not this one's turn");
        assert!(pools.ask(4, slots("hosts", 1), 0), "another pool has a queue of its own");
        pools.release(&1);
        assert_eq!(pools.granted(), [2]);
        pools.release(&2);
        assert_eq!(pools.granted(), [3]);
        assert!(pools.possible(&slots("default", 5)).is_err() && pools.possible(&slots("hosts", 1)).is_ok());
        assert_eq!(pools.rows()[0], PoolRow { pool: "default".to_owned(), size: 4, used: 1, waiting: 0 });
    }

    #[test]
    fn what_is_urgent_and_fits_begins_although_something_big_waits() {
        let mut pools = pools(4);
        assert!(pools.ask(1, slots("default", 3), 0));
        assert!(!pools.ask(2, slots("default", 4), 0));
        assert!(pools.ask(3, slots("default", 1), 1000));
    }

    #[test]
    fn what_is_urgent_goes_first_and_what_waits_is_passed_a_few_times_only() {
        let mut pools = pools(1);
        assert!(pools.ask(0, slots("default", 1), 0));
        for key in [1, 2] {
            assert!(!pools.ask(key, slots("default", 1), 0));
        }
        for key in 10..30 {
            assert!(!pools.ask(key, slots("default", 1), 5));
        }
        let order: Vec<u32> = (0..22)
            .scan(0, |held, _| {
                pools.release(held);
                *held = pools.granted()[0];
                Some(*held)
            })
            .collect();
        let wanted: Vec<u32> = (10..18).chain([1, 2]).chain(18..30).collect();
        assert_eq!(order, wanted);
    }

    #[test]
    fn who_wants_much_of_the_machine_is_not_passed_for_ever_by_other_pools() {
        let sizes = BTreeMap::from([("default".to_owned(), 4), ("hosts".to_owned(), 4), ("zoo".to_owned(), 4)]);
        let mut pools: Pools<u32> = Pools::new(Sizes { pools: sizes, other: 1, cpu: Some(4000), ..Sizes::default() });
        let cpu = |pool: &str, cpu: u64| {
            let mut wanted = slots(pool, 1);
            wanted.limits.cpu = Some(cpu);
            wanted
        };
        let mut running: VecDeque<u32> = (10..14).collect();
        for key in 10..14 {
            assert!(pools.ask(key, cpu("hosts", 1000), 0));
        }
        assert!(!pools.ask(1, cpu("default", 4000), 0));
        assert!(pools.ask(2, slots("zoo", 1), 0), "what takes nothing of it is not held up");
        // One of each other pool ends and another begins, again and again.
        for key in 100..200 {
            let Some(ended) = running.pop_front() else { break };
            pools.release(&ended);
            let granted = pools.granted();
            if granted.contains(&1) {
                assert!(key - 100 <= PASSED + 4, "it took {} of others", key - 100);
                return;
            }
            running.extend(granted);
            if pools.ask(key, cpu(if key % 2 == 0 { "hosts" } else { "zoo" }, 1000), 0) {
                running.push_back(key);
            }
        }
        assert!(pools.granted().contains(&1), "it waits for ever");
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_in_the_end_everybody_had_a_turn(
            asks in proptest::collection::vec((1u64..4, (0u64..3, 0u64..3, 0u64..3), 0usize..3), 1..=64),
            killed in proptest::collection::vec(any::<bool>(), 64),
        ) {
            let sizes = ["a", "b", "c"].map(|pool| (pool.to_owned(), 4));
            let mut pools: Pools<usize> = Pools::new(Sizes {
                pools: BTreeMap::from(sizes), other: 1, cpu: Some(2000), memory: Some(2 << 30), disk: Some(2 << 30),
            });
            let wanted: Vec<Resources> = asks.iter().map(|(count, (cpu, memory, disk), pool)| {
                let mut wanted = slots(["a", "b", "c"][*pool], *count);
                let limits = &mut wanted.limits;
                (limits.cpu, limits.memory, limits.disk) = (Some(cpu * 1000), Some(memory << 30), Some(disk << 30));
                wanted
            }).collect();
            let mut running: VecDeque<usize> = VecDeque::new();
            for (key, wanted) in wanted.iter().enumerate() {
                if pools.ask(key, wanted.clone(), asks[key].0 % 2) {
                    running.push_back(key);
                }
            }
            let mut done = 0;
            // Some are ended before their turn comes, and some in the middle of it.
            for key in (0..wanted.len()).filter(|key| killed[*key]) {
                running.retain(|one| *one != key);
                pools.release(&key);
                running.extend(pools.granted());
                done += 1;
            }
            loop {
                for pool in ["a", "b", "c"] {
                    let held = running.iter().filter(|key| wanted[**key].pool == pool);
                    prop_assert!(held.map(|key| wanted[*key].slots).sum::<u64>() <= 4);
                }
                let sum = |of: fn(&Resources) -> Option<u64>| running.iter().filter_map(|key| of(&wanted[*key])).sum::<u64>();
                prop_assert!(sum(|one| one.limits.cpu) <= 2000);
                prop_assert!(sum(|one| one.limits.memory) <= 2 << 30 && sum(|one| one.limits.disk) <= 2 << 30);
                let Some(key) = running.pop_front() else { break };
                done += 1;
                pools.release(&key);
                running.extend(pools.granted());
            }
            prop_assert_eq!(done, wanted.len());
        }
    }
}
