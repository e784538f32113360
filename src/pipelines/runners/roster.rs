//! Who can do what now, and who does what.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::run::Millis;
use super::Host;

/// What a runner offers, as it is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Its name among the bots.
    pub name: String,
    /// Whether it is this bot.
    pub here: bool,
    /// Whether it can be reached now.
    pub there: bool,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// How many stages it does at once.
    pub slots: u32,
    /// How many of these slots the stages of other bots take.
    pub others: u32,
    /// Why it does nothing for us, if it says so.
    pub refuses: Option<String>,
    /// When it was seen last.
    pub seen: Millis,
    /// Stages of other bots that went well there and failed there, as far as it is this bot.
    pub ended: (u64, u64),
}

/// A runner, for those who look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnerRow {
    /// Its name.
    pub name: String,
    /// Whether it is this bot.
    pub here: bool,
    /// Whether it can be reached now.
    pub there: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// How many stages it does at once.
    pub slots: u32,
    /// How many it does now.
    pub busy: u32,
    /// Stages that went well there since this bot began.
    pub done: u64,
    /// Stages that failed there.
    pub failed: u64,
    /// Stages that were lost with it.
    pub lost: u64,
    /// When it was seen last.
    pub seen: Millis,
    /// Why it does nothing for us, if it says so.
    pub refuses: Option<String>,
}

/// Who can do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pipelines) enum Found {
    /// This one, now.
    Free(Host),
    /// These, when they have done something else.
    Busy(Vec<String>),
    /// These, when they are linked again.
    Away(Vec<String>),
    /// Nobody who is known; these bots do nothing for us.
    Nobody(Vec<String>),
}

/// How a stage ended on a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipelines) enum How {
    Done,
    Failed,
    Lost,
    /// It was stopped, or never began.
    Otherwise,
}

#[derive(Debug, Default)]
struct Runner {
    offer: Offer,
    done: u64,
    failed: u64,
    lost: u64,
}

/// All runners.
#[derive(Debug, Default)]
pub(in crate::pipelines) struct Roster {
    all: BTreeMap<String, Runner>,
    /// Which stage has a slot where.
    held: BTreeMap<(i64, usize), String>,
    /// Whether it was ever told who offers what: before that nobody is missed.
    pub(in crate::pipelines) told: bool,
    /// Stages that wait for one, in order.
    pub(in crate::pipelines) waiting: Vec<(i64, usize)>,
}

impl Roster {
    /// Takes what runners offer now; those that are not told of are gone.
    pub(in crate::pipelines) fn take(&mut self, offers: Vec<Offer>) {
        self.told = true;
        for runner in self.all.values_mut() {
            runner.offer.there = false;
        }
        for offer in offers {
            let name = offer.name.clone();
            self.all.entry(name).or_default().offer = offer;
        }
    }

    /// Who can do what wants these labels; rather not the one on which it failed last.
    pub(in crate::pipelines) fn find(&self, labels: &[String], avoid: Option<&str>) -> Found {
        let has = |runner: &&Runner| labels.iter().all(|label| runner.offer.labels.contains(label));
        let able: Vec<&Runner> = self.all.values().filter(has).collect();
        let mut there: Vec<&Runner> =
            able.iter().copied().filter(|one| one.offer.there && one.offer.refuses.is_none()).collect();
        // Where there is another one, it is waited for rather than taken where it failed.
        if there.iter().any(|one| avoid != Some(one.offer.name.as_str())) {
            there.retain(|one| avoid != Some(one.offer.name.as_str()));
        }
        let free = |one: &&Runner| one.offer.slots.saturating_sub(self.busy(&one.offer));
        let best = there.iter().filter(|one| free(one) > 0).max_by_key(|one| (free(one), one.offer.here));
        let names = |all: &[&Runner]| all.iter().map(|one| one.offer.name.clone()).collect::<Vec<_>>();
        match best {
            Some(one) => Found::Free(Host { name: one.offer.name.clone(), here: one.offer.here }),
            None if !there.is_empty() => Found::Busy(names(&there)),
            None if !able.is_empty() => Found::Away(names(&able)),
            None => {
                let refuse: Vec<&Runner> =
                    self.all.values().filter(|one| one.offer.there && one.offer.refuses.is_some()).collect();
                Found::Nobody(names(&refuse))
            }
        }
    }

    /// Others than this one that can be reached and have these labels.
    pub(in crate::pipelines) fn others(&self, labels: &[String], than: &str) -> Vec<String> {
        let able = |runner: &&Runner| {
            let offer = &runner.offer;
            offer.there
                && offer.refuses.is_none()
                && offer.name != than
                && labels.iter().all(|label| offer.labels.contains(label))
        };
        self.all.values().filter(able).map(|one| one.offer.name.clone()).collect()
    }

    /// How many slots of a runner are taken, by us and by others.
    fn busy(&self, offer: &Offer) -> u32 {
        let ours = self.held.values().filter(|name| **name == offer.name).count();
        u32::try_from(ours).unwrap_or(u32::MAX).saturating_add(offer.others)
    }

    /// A stage takes a slot, whether or not there is one: it may have had it before a restart.
    pub(in crate::pipelines) fn hold(&mut self, key: (i64, usize), name: &str) {
        self.waiting.retain(|one| *one != key);
        self.held.insert(key, name.to_owned());
    }

    /// Whether a stage has a slot.
    pub(in crate::pipelines) fn holds(&self, key: &(i64, usize)) -> bool {
        self.held.contains_key(key)
    }

    /// How many slots the stages of this bot take here.
    pub(in crate::pipelines) fn held_here(&self) -> u32 {
        let here = |name: &String| self.all.get(name).is_some_and(|one| one.offer.here);
        u32::try_from(self.held.values().filter(|name| here(name)).count()).unwrap_or(u32::MAX)
    }

    /// A stage gives its slot back, and waits for none any more.
    pub(in crate::pipelines) fn release(&mut self, key: &(i64, usize), how: How) {
        self.waiting.retain(|one| one != key);
        let Some(runner) = self.held.remove(key).and_then(|name| self.all.get_mut(&name)) else { return };
        match how {
            How::Done => runner.done += 1,
            How::Failed => runner.failed += 1,
            How::Lost => runner.lost += 1,
            How::Otherwise => {}
        }
    }

    /// All of them, this bot first.
    pub(in crate::pipelines) fn rows(&self) -> Vec<RunnerRow> {
        let row = |runner: &Runner| {
            let offer = &runner.offer;
            RunnerRow {
                name: offer.name.clone(),
                here: offer.here,
                there: offer.there,
                labels: offer.labels.iter().cloned().collect(),
                slots: offer.slots,
                busy: self.busy(offer),
                done: runner.done + offer.ended.0,
                failed: runner.failed + offer.ended.1,
                lost: runner.lost,
                seen: offer.seen,
                refuses: offer.refuses.clone(),
            }
        };
        let mut rows: Vec<RunnerRow> = self.all.values().map(row).collect();
        rows.sort_by_key(|row| (!row.here, row.name.to_ascii_lowercase()));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, labels: &[&str], slots: u32) -> Offer {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Offer { name: name.to_owned(), there: true, labels, slots, ..Offer::default() }
    }

    fn wants(roster: &Roster, label: &str, avoid: Option<&str>) -> Found {
        roster.find(&[label.to_owned()], avoid)
    }

    fn free(name: &str, here: bool) -> Found {
        Found::Free(Host { name: name.to_owned(), here })
    }

    #[test]
    fn only_who_has_all_labels_is_taken_and_each_slot_once() {
        let mut roster = Roster::default();
        let own = Offer { here: true, ..offer("One", &["linux"], 2) };
        roster.take(vec![own, offer("Two", &["build", "linux"], 1)]);
        assert_eq!(wants(&roster, "build", None), free("Two", false));
        assert_eq!(roster.find(&["linux".to_owned(), "gpu".to_owned()], None), Found::Nobody(Vec::new()));
        roster.hold((1, 0), "Two");
        assert_eq!(wants(&roster, "build", None), Found::Busy(vec!["Two".to_owned()]));
        assert_eq!(wants(&roster, "linux", None), free("One", true));
        roster.release(&(1, 0), How::Done);
        assert_eq!(wants(&roster, "build", None), free("Two", false));
        assert_eq!(
            roster.rows().iter().map(|row| (row.name.as_str(), row.done)).collect::<Vec<_>>(),
            [("One", 0), ("Two", 1)]
        );
    }

    #[test]
    fn where_it_failed_it_goes_only_if_there_is_no_other() {
        let mut roster = Roster::default();
        roster.take(vec![offer("Two", &["build"], 4), offer("Three", &["build"], 1)]);
        assert_eq!(wants(&roster, "build", Some("Two")), free("Three", false));
        roster.hold((1, 0), "Three");
        assert_eq!(wants(&roster, "build", Some("Two")), Found::Busy(vec!["Three".to_owned()]));
        roster.take(vec![offer("Two", &["build"], 4)]);
        assert_eq!(wants(&roster, "build", Some("Two")), free("Two", false));
        roster.take(Vec::new());
        assert_eq!(wants(&roster, "build", None), Found::Away(vec!["Three".to_owned(), "Two".to_owned()]));
    }

    #[test]
    fn who_refuses_is_named_where_nobody_else_is_known() {
        let mut roster = Roster::default();
        roster.take(vec![Offer { refuses: Some("no".to_owned()), ..offer("Two", &[], 0) }]);
        assert_eq!(wants(&roster, "build", None), Found::Nobody(vec!["Two".to_owned()]));
        assert!(roster.others(&["build".to_owned()], "One").is_empty());
    }

    #[test]
    fn the_slots_that_others_take_are_not_given_again() {
        let mut roster = Roster::default();
        roster.take(vec![Offer { others: 2, ..offer("Two", &["build"], 2) }]);
        assert_eq!(wants(&roster, "build", None), Found::Busy(vec!["Two".to_owned()]));
        assert_eq!(roster.rows()[0].busy, 2);
    }
}
