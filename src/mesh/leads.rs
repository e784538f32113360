//! Where this bot acts: everywhere, but on networks that a group shares only while it holds their lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use masterchief_contract::Acts;
use tokio::time::Instant;

use super::name::BotName;

/// What is known of the groups. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Leads {
    rows: Arc<ArcSwap<BTreeMap<String, Led>>>,
}

/// Who acts on a network that a group shares, as far as this bot knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Led {
    /// Until when this bot acts there, by its own clock, if it does.
    pub until: Option<Instant>,
    /// What it acts under; of a later leader it is higher.
    pub epoch: u64,
    /// Who acts, if somebody is known to.
    pub leader: Option<BotName>,
}

impl Leads {
    /// On these networks nobody acts until a lease says so.
    pub fn govern<'a>(&self, networks: impl Iterator<Item = &'a String>) {
        self.rows.store(Arc::new(networks.map(|network| (network.clone(), Led::default())).collect()));
    }

    /// Whether this bot may act on a network at this moment.
    pub fn may_act(&self, network: &str) -> bool {
        self.rows.load().get(network).is_none_or(|led| led.until.is_some_and(|until| Instant::now() < until))
    }

    /// Whether this bot calls a bind that nobody stands behind: a schedule is for the one that acts, where its words go or, where they
    /// go to no network of a group, on the first one, so that of several bots one does it.
    pub fn may_call(&self, acts: &Acts, schedule: bool, to: Option<&str>) -> bool {
        match acts {
            Acts::All => true,
            Acts::On(network) => self.may_act(network),
            Acts::Usual if !schedule => true,
            Acts::Usual => {
                let rows = self.rows.load();
                let there = to.filter(|to| rows.contains_key(*to)).or(rows.keys().next().map(String::as_str));
                there.is_none_or(|network| self.may_act(network))
            }
        }
    }

    /// What is known of a network; nothing where no group shares it.
    pub fn of(&self, network: &str) -> Option<Led> {
        self.rows.load().get(network).cloned()
    }

    /// The networks that groups share.
    pub fn networks(&self) -> Vec<String> {
        self.rows.load().keys().cloned().collect()
    }

    /// Another state of a network that is governed.
    pub fn put(&self, network: &str, led: &Led) {
        self.rows.rcu(|rows| {
            let mut rows = BTreeMap::clone(rows);
            if let Some(row) = rows.get_mut(network) {
                row.clone_from(led);
            }
            rows
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn on_a_network_that_is_shared_nobody_acts_without_a_lease_or_after_it() {
        let leads = Leads::default();
        assert!(leads.may_act("libera"));
        leads.govern(["libera".to_owned()].iter());
        assert!(!leads.may_act("libera") && leads.may_act("other"));
        let until = Some(Instant::now() + Duration::from_secs(7));
        leads.put("libera", &Led { until, epoch: 3, leader: None });
        assert!(leads.may_act("libera"));
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(!leads.may_act("libera"));
        leads.put("other", &Led { until, epoch: 3, leader: None });
        assert_eq!(leads.of("other"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_is_for_one_of_a_group_and_what_is_read_is_for_whoever_reads_it() {
        let leads = Leads::default();
        assert!(leads.may_call(&Acts::Usual, true, None), "there is no group");
        leads.govern(["libera".to_owned(), "oftc".to_owned()].iter());
        let until = Some(Instant::now() + Duration::from_secs(7));
        leads.put("oftc", &Led { until, epoch: 3, leader: None });
        // On the first one somebody else acts.
        assert!(!leads.may_call(&Acts::Usual, true, None) && leads.may_call(&Acts::Usual, false, None));
        assert!(
            leads.may_call(&Acts::Usual, true, Some("oftc")) && !leads.may_call(&Acts::Usual, true, Some("libera"))
        );
        assert!(!leads.may_call(&Acts::Usual, true, Some("elsewhere")));
        assert!(leads.may_call(&Acts::All, true, None));
        let on = |network: &str| leads.may_call(&Acts::On(network.to_owned()), false, None);
        assert!(on("oftc") && !on("libera"));
    }
}
