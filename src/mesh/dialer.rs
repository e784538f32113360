//! Whom to call, and when: hubs always, alternates while no hub can be reached, others when they are asked for. As Eggdrop
//! does it, one call at a time, and with back-off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use masterchief_contract::Backoff;
use tokio::time::Instant;

use super::name::BotName;
use super::records::Attrs;

/// The longest wait between two calls of one bot.
const CAP: Duration = Duration::from_secs(300);
/// A call that has told nothing for so long is taken for lost: no login takes half of that.
const LOST: Duration = Duration::from_secs(600);
/// A link that held this long makes its bot one that can be reached.
const STABLE: Duration = Duration::from_secs(60);

struct Called {
    backoff: Backoff,
    next: Instant,
    failures: u32,
}

/// The calls.
pub(super) struct Dialer {
    floor: Duration,
    called: BTreeMap<BotName, Called>,
    /// The one that is being called, and since when.
    now: Option<(BotName, Instant)>,
}

impl Dialer {
    /// With the shortest wait between two calls of one bot.
    pub(super) fn new(floor: Duration) -> Dialer {
        Dialer { floor, called: BTreeMap::new(), now: None }
    }

    /// Whom to call now, if anybody. `linked` are those that are linked with us.
    pub(super) fn due(
        &mut self,
        records: &BTreeMap<BotName, Attrs>,
        linked: &BTreeSet<BotName>,
        now: Instant,
    ) -> Option<BotName> {
        let is = |name: &BotName, what: fn(&Attrs) -> bool| records.get(name).is_some_and(what);
        let calls = self.now.as_ref().is_some_and(|(_, since)| now.duration_since(*since) < LOST);
        if calls || linked.iter().any(|name| is(name, |attrs| attrs.hub)) {
            return None;
        }
        let of = |what: fn(&Attrs) -> bool| records.iter().filter(move |(_, attrs)| what(attrs)).map(|(name, _)| name);
        let may = |name: &&BotName| self.called.get(*name).is_none_or(|called| called.next <= now);
        // The one that has waited longest.
        let oldest = |name: &&BotName| self.called.get(*name).map(|called| called.next);
        if let Some(hub) = of(|attrs| attrs.hub).filter(may).min_by_key(oldest) {
            return Some(hub.clone());
        }
        let failed = |name: &BotName| self.called.get(name).is_some_and(|called| called.failures > 0);
        if !of(|attrs| attrs.hub).all(failed) || linked.iter().any(|name| is(name, |attrs| attrs.alternate)) {
            return None;
        }
        of(|attrs| attrs.alternate).filter(may).min_by_key(oldest).cloned()
    }

    /// A call begins.
    pub(super) fn begins(&mut self, name: &BotName) {
        self.now = Some((name.clone(), Instant::now()));
    }

    /// A call has failed, or its link has ended; gives how long to wait.
    pub(super) fn failed(&mut self, name: &BotName, random: u64) -> Duration {
        self.ends(name);
        let floor = self.floor;
        let called = self.called.entry(name.clone()).or_insert_with(|| Called {
            backoff: Backoff::new(floor, CAP.max(floor), STABLE),
            next: Instant::now(),
            failures: 0,
        });
        let wait = called.backoff.failed(random);
        called.next = Instant::now() + wait;
        called.failures = called.failures.saturating_add(1);
        wait
    }

    /// A link is up.
    pub(super) fn is_up(&mut self, name: &BotName) {
        self.ends(name);
        if let Some(called) = self.called.get_mut(name) {
            called.backoff.up();
            called.failures = 0;
        }
    }

    fn ends(&mut self, name: &BotName) {
        if self.now.as_ref().is_some_and(|(called, _)| called == name) {
            self.now = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BotName {
        text.parse().unwrap()
    }

    fn records() -> BTreeMap<BotName, Attrs> {
        let hub = Attrs { hub: true, ..Attrs::default() };
        let alternate = Attrs { alternate: true, ..Attrs::default() };
        BTreeMap::from([
            (name("HubA"), hub),
            (name("HubB"), hub),
            (name("Alt"), alternate),
            (name("Other"), Attrs::default()),
        ])
    }

    #[tokio::test(start_paused = true)]
    async fn hubs_come_first_alternates_while_none_answers_and_others_never_by_themselves() {
        let (records, nobody) = (records(), BTreeSet::new());
        let mut dialer = Dialer::new(Duration::from_secs(10));
        let due = |dialer: &mut Dialer, linked: &BTreeSet<BotName>| dialer.due(&records, linked, Instant::now());
        assert_eq!(due(&mut dialer, &nobody), Some(name("HubA")));
        dialer.begins(&name("HubA"));
        assert_eq!(due(&mut dialer, &nobody), None, "one call at a time");
        dialer.failed(&name("HubA"), u64::MAX);
        assert_eq!(due(&mut dialer, &nobody), Some(name("HubB")));
        dialer.failed(&name("HubB"), u64::MAX);
        assert_eq!(due(&mut dialer, &nobody), Some(name("Alt")));
        dialer.is_up(&name("Alt"));
        let on_alternate = BTreeSet::from([name("Alt")]);
        assert_eq!(due(&mut dialer, &on_alternate), None);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(due(&mut dialer, &on_alternate), Some(name("HubA")), "the hub is wanted all the same");
        assert_eq!(due(&mut dialer, &BTreeSet::from([name("hubb")])), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_which_nothing_is_heard_any_more_does_not_end_all_calling() {
        let (records, nobody) = (records(), BTreeSet::new());
        let mut dialer = Dialer::new(Duration::from_secs(10));
        dialer.begins(&name("HubA"));
        tokio::time::advance(LOST - Duration::from_secs(1)).await;
        assert_eq!(dialer.due(&records, &nobody, Instant::now()), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(dialer.due(&records, &nobody, Instant::now()), Some(name("HubA")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bot_that_does_not_answer_is_called_less_and_less() {
        let mut dialer = Dialer::new(Duration::from_secs(10));
        let waits: Vec<u64> =
            (0..7).map(|_| dialer.failed(&name("Hub"), u64::MAX).as_secs_f64().round() as u64).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }
}
