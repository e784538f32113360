//! Where this bot acts: everywhere, but on networks that a group shares only while it holds their lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
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
}
