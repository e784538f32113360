//! Who of a group acts: a lease that more than half of the group have promised, for a time that ends by itself. Pure; time is
//! handed in.
//!
//! Whoever wants to act asks all members for a promise under an epoch, a number higher than any it has seen. A member that has
//! promised waits [`PROMISE`] by its own clock before it promises anybody else. Whoever asked acts from the moment more than half
//! have promised until [`PROMISE`] less [`MARGIN`] after it *asked*, by its own clock. So its time has ended before any other can
//! have more than half: no clocks are compared, they only have to run equally fast to an eighth. In a group of an even number
//! the first member's promise counts twice, so that one half is more than the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::name::BotName;

/// How long a promise binds whoever gave it.
pub const PROMISE: Duration = Duration::from_secs(8);
/// What the leader leaves of it: clocks may run apart by so much.
pub const MARGIN: Duration = Duration::from_secs(1);
/// How often the leader asks again.
pub const RENEW: Duration = Duration::from_secs(2);
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_millis(1500);
/// How much later each member tries than the one before it in the list.
const STAGGER: Duration = Duration::from_millis(400);

/// The members of a group as one of them sees it, the one that is preferred first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    me: BotName,
    members: Vec<BotName>,
}

/// What a member asks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Would you promise? It binds nobody.
    Would,
    /// Promise.
    Promise,
    /// I do not act any more: be free.
    Release,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whether it promises, or would.
    pub granted: bool,
    /// The highest epoch that it has promised.
    pub epoch: u64,
    /// Whom it has promised, as long as that binds it.
    pub holder: Option<String>,
}

/// What outlives the process of whoever promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The highest epoch.
    pub epoch: u64,
    /// Whom.
    pub holder: String,
}

/// A member as one who promises.
#[derive(Clone, Debug)]
pub struct Voter {
    epoch: u64,
    holder: Option<BotName>,
    until: Instant,
}

/// A member as one who wants to act.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// What it acts under, or did last.
    epoch: u64,
    until: Option<Instant>,
    /// The highest epoch it has heard of.
    seen: u64,
}

impl Group {
    /// A group of which `me` is a member.
    pub fn new(me: BotName, members: Vec<BotName>) -> Result<Group, String> {
        let mut sorted = members.clone();
        sorted.sort();
        sorted.dedup();
        if sorted.len() != members.len() {
            return Err("a bot stands in it twice".to_owned());
        }
        if !members.contains(&me) {
            return Err(format!("{me} is not among them: name this bot too, in the same order on all"));
        }
        Ok(Group { me, members })
    }

    /// All members but this one.
    pub fn others(&self) -> impl Iterator<Item = &BotName> {
        self.members.iter().filter(|bot| **bot != self.me)
    }

    /// Whether a bot is a member.
    pub fn has(&self, bot: &BotName) -> bool {
        self.members.contains(bot)
    }

    /// How long this member lets those before it try first.
    pub fn stagger(&self) -> Duration {
        let place = self.members.iter().position(|bot| *bot == self.me).unwrap_or(0);
        STAGGER * u32::try_from(place).unwrap_or(u32::MAX).min(8)
    }

    /// Whether these members are more than half.
    pub fn is_most<'a>(&self, granted: impl Iterator<Item = &'a BotName>) -> bool {
        let even = self.members.len().is_multiple_of(2);
        let weight = |bot: &BotName| 1 + usize::from(even && self.members.first() == Some(bot));
        let votes: usize = granted.filter(|bot| self.has(bot)).map(weight).sum();
        votes * 2 > self.members.len() + usize::from(even)
    }
}

impl Voter {
    /// One who begins. What it may have promised before it died binds it as if it had been just now.
    pub fn new(kept: Option<Kept>, now: Instant) -> Voter {
        let (epoch, holder) = kept.map_or((0, None), |kept| (kept.epoch, kept.holder.parse().ok()));
        Voter { epoch, holder, until: now + PROMISE }
    }

    /// Whether it is bound to nobody but `who`.
    pub fn is_free_for(&self, who: &BotName, now: Instant) -> bool {
        now >= self.until || self.holder.as_ref() == Some(who)
    }

    /// When it is bound to nobody.
    pub fn free_at(&self) -> Instant {
        self.until
    }

    /// Whether it would promise.
    pub fn would(&self, who: &BotName, epoch: u64, now: Instant) -> bool {
        let again = epoch == self.epoch && self.holder.as_ref() == Some(who);
        again || epoch > self.epoch && self.is_free_for(who, now)
    }

    /// Promises, if it may. What it promised anew has to be kept before it is told: `Some`.
    pub fn promise(&mut self, who: &BotName, epoch: u64, now: Instant) -> (bool, Option<Kept>) {
        if !self.would(who, epoch, now) {
            return (false, None);
        }
        let new = epoch != self.epoch;
        (self.epoch, self.holder, self.until) = (epoch, Some(who.clone()), now + PROMISE);
        (true, new.then(|| Kept { epoch, holder: who.to_string() }))
    }

    /// Whoever was promised something does not act any more.
    pub fn release(&mut self, who: &BotName, epoch: u64, now: Instant) {
        if epoch == self.epoch && self.holder.as_ref() == Some(who) {
            self.until = now;
        }
    }

    /// What it tells of itself.
    pub fn vote(&self, granted: bool, now: Instant) -> Vote {
        let holder = self.holder.as_ref().filter(|_| now < self.until).map(ToString::to_string);
        Vote { granted, epoch: self.epoch, holder }
    }
}

impl Candidate {
    /// Until when it acts, if it does now, and under which epoch.
    pub fn leads(&self, now: Instant) -> Option<(u64, Instant)> {
        self.until.filter(|until| now < *until).map(|until| (self.epoch, until))
    }

    /// The epoch to ask for: the one it acts under, or a new one.
    pub fn epoch(&self, own: &Voter, now: Instant) -> u64 {
        match self.leads(now) {
            Some((epoch, _)) => epoch,
            None => self.seen.max(own.epoch).max(self.epoch) + 1,
        }
    }

    /// What members told.
    pub fn heard<'a>(&mut self, votes: impl Iterator<Item = &'a Vote>) {
        // Nobody is so far ahead; whoever says so would have us run out of numbers.
        let sane = |epoch: &u64| *epoch < u64::MAX / 2;
        self.seen = votes.map(|vote| vote.epoch).filter(sane).fold(self.seen, u64::max);
    }

    /// More than half have promised what was asked for at `asked`.
    pub fn won(&mut self, epoch: u64, asked: Instant) {
        (self.epoch, self.until) = (epoch, Some(asked + PROMISE - MARGIN));
    }

    /// It does not act any more; the epoch it acted under, if it did.
    pub fn stop(&mut self) -> Option<u64> {
        self.until.take().map(|_| self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<BotName> {
        (0..count).map(|n| format!("B{n}").parse().unwrap()).collect()
    }

    #[test]
    fn more_than_half_are_most_and_of_two_halves_the_first_ones() {
        let most = |of: usize, who: &[usize]| {
            let all = names(of);
            let group = Group::new(all[0].clone(), all.clone()).unwrap();
            group.is_most(who.iter().map(|n| &all[*n]))
        };
        assert!(most(3, &[0, 1]) && most(3, &[1, 2]) && !most(3, &[0]));
        assert!(most(2, &[0]) && !most(2, &[1]) && most(2, &[0, 1]));
        assert!(most(4, &[0, 1]) && !most(4, &[2, 3]) && most(4, &[1, 2, 3]));
        assert!(most(1, &[0]) && !most(5, &[0, 1]) && most(5, &[2, 3, 4]));
        let stranger: BotName = "Stranger".parse().unwrap();
        let group = Group::new(names(3)[0].clone(), names(3)).unwrap();
        assert!(!group.is_most([&names(3)[0], &stranger].into_iter()), "strangers have no vote");
        assert!(Group::new(stranger, names(3)).is_err());
    }

    #[test]
    fn a_promise_binds_until_its_time_has_passed_also_over_a_restart() {
        let (all, now) = (names(3), Instant::now());
        let mut voter = Voter::new(None, now);
        assert!(!voter.would(&all[0], 1, now), "it may have promised before it began");
        let later = now + PROMISE;
        let (granted, kept) = voter.promise(&all[0], 1, later);
        assert!(granted && kept == Some(Kept { epoch: 1, holder: "B0".to_owned() }));
        assert!(!voter.would(&all[1], 2, later + PROMISE - Duration::from_millis(1)));
        assert_eq!(voter.promise(&all[0], 1, later + RENEW), (true, None), "the same again is nothing to keep");
        assert!(!voter.would(&all[1], 1, later + 3 * PROMISE), "an epoch is nobody else's");
        assert!(voter.would(&all[1], 2, later + RENEW + PROMISE));
        let again = Voter::new(kept, later);
        assert!(!again.would(&all[1], 2, later + PROMISE / 2) && again.would(&all[1], 2, later + PROMISE));
        voter.release(&all[1], 1, later + RENEW);
        assert!(!voter.would(&all[1], 2, later + RENEW), "only whoever holds it lets it go");
        voter.release(&all[0], 1, later + RENEW);
        assert!(voter.would(&all[1], 2, later + RENEW));
    }

    /// What happens in a world of members whose clocks run differently, whose words are lost and who die.
    #[derive(Clone, Debug)]
    enum Happens {
        Pass(u16),
        Ask(usize),
        Die(usize),
        /// Who hears whom, as bits, from now on.
        Part(u32),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (1u16..3000).prop_map(Happens::Pass),
            6 => (0usize..5).prop_map(Happens::Ask),
            1 => (0usize..5).prop_map(Happens::Die),
            1 => any::<u32>().prop_map(Happens::Part),
        ]
    }

    struct Member {
        voter: Voter,
        candidate: Candidate,
        kept: Option<Kept>,
        /// How fast its clock runs, in thousandths.
        rate: u32,
    }

    proptest! {
        /// Whatever is lost and whoever dies, no two act at the same moment, and epochs grow.
        #[test]
        fn no_two_ever_act_at_once(
            count in 1usize..6,
            rates in proptest::collection::vec(950u32..1050, 5),
            story in proptest::collection::vec(happens(), 0..200),
        ) {
            let (all, start) = (names(count), Instant::now());
            let groups: Vec<Group> = all.iter().map(|me| Group::new(me.clone(), all.clone()).unwrap()).collect();
            let mut members: Vec<Member> = rates.iter().take(count).map(|rate| Member {
                voter: Voter::new(None, start), candidate: Candidate::default(), kept: None, rate: *rate,
            }).collect();
            let (mut true_ms, mut hears, mut acted) = (0u64, u32::MAX, 0u64);
            let clock = |member: &Member, ms: u64| start + Duration::from_millis(ms * u64::from(member.rate) / 1000);
            for step in story {
                match step {
                    Happens::Pass(ms) => true_ms += u64::from(ms),
                    Happens::Part(bits) => hears = bits,
                    Happens::Die(who) => if let Some(member) = members.get_mut(who) {
                        let now = clock(member, true_ms);
                        (member.voter, member.candidate) = (Voter::new(member.kept.clone(), now), Candidate::default());
                    },
                    Happens::Ask(who) if who < count => {
                        let asked = clock(&members[who], true_ms);
                        let epoch = members[who].candidate.epoch(&members[who].voter, asked);
                        let mut granted = Vec::new();
                        for other in 0..count {
                            // Each answer takes a while, in which time passes for all.
                            true_ms += 37;
                            if other != who && hears >> (who * 5 + other) & 1 == 0 {
                                continue;
                            }
                            let now = clock(&members[other], true_ms);
                            let (yes, kept) = members[other].voter.promise(&all[who], epoch, now);
                            members[other].kept = kept.or(members[other].kept.take());
                            let vote = members[other].voter.vote(yes, now);
                            members[who].candidate.heard([&vote].into_iter());
                            if yes { granted.push(all[other].clone()); }
                        }
                        if groups[who].is_most(granted.iter()) {
                            members[who].candidate.won(epoch, asked);
                        }
                    }
                    Happens::Ask(_) => {}
                }
                let acting: Vec<u64> = members.iter()
                    .filter_map(|member| member.candidate.leads(clock(member, true_ms))).map(|(epoch, _)| epoch).collect();
                prop_assert!(acting.len() <= 1, "{acting:?}");
                for epoch in acting {
                    prop_assert!(epoch >= acted, "an older epoch acts again");
                    acted = epoch;
                }
            }
        }
    }
}
