//! The lease of a network that a group of bots shares: this bot promises it to others, asks them for it, and acts only while it has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Clock, Shutdown};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bot::outbox::Outbox;
use crate::mesh::lease::{Candidate, Group, Kept, PATIENCE, RENEW, Vote, Voter, Wish};
use crate::mesh::{BotName, Call, LEASE, Led, Mesh};
use crate::partyline::Party;
use crate::store::Store;

/// Under which name promises stand among what scripts keep. No script can have it.
const KEPT: &str = "@lease";
/// How often it is looked whether this bot could act.
const LOOK: Duration = Duration::from_millis(500);

/// What is asked, as it crosses the mesh.
#[derive(Debug, Serialize, Deserialize)]
struct Asking {
    network: String,
    wish: Wish,
    epoch: u64,
}

/// The leases by network. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Leases {
    rows: Arc<BTreeMap<String, Arc<Lease>>>,
}

struct Lease {
    network: String,
    group: Group,
    mesh: Mesh,
    outbox: Outbox,
    store: Store,
    party: Party,
    voter: Mutex<Voter>,
}

/// What leases stand on.
pub(super) struct Ground {
    pub(super) mesh: Mesh,
    pub(super) outbox: Outbox,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) party: Party,
}

impl Leases {
    /// Takes up what was promised before, and begins to ask; gives the tasks, which end with `shutdown`.
    pub(super) async fn open(
        groups: Vec<(String, Group)>,
        ground: Ground,
        shutdown: &Shutdown,
    ) -> (Leases, Vec<JoinHandle<()>>) {
        let (mut rows, mut tasks) = (BTreeMap::new(), Vec::new());
        for (network, group) in groups {
            let kept = match ground.store.kv_get(KEPT, &network, ground.clock.now()).await {
                Ok(kept) => kept.and_then(|kept| serde_json::from_value::<Kept>(kept).ok()),
                Err(fault) => {
                    tracing::error!(network, %fault, "What was promised before cannot be read; nothing is promised, and nobody leads from here");
                    continue;
                }
            };
            let lease = Arc::new(Lease {
                network: network.clone(),
                group,
                mesh: ground.mesh.clone(),
                outbox: ground.outbox.clone(),
                store: ground.store.clone(),
                party: ground.party.clone(),
                voter: Mutex::new(Voter::new(kept, Instant::now())),
            });
            tasks.push(tokio::spawn(Arc::clone(&lease).run(shutdown.clone())));
            rows.insert(network, lease);
        }
        (Leases { rows: Arc::new(rows) }, tasks)
    }

    /// Answers a member that asks.
    pub(super) async fn answer(&self, call: &Call) -> Result<String, String> {
        let asking: Asking = serde_json::from_str(&call.data).map_err(|fault| fault.to_string())?;
        let Some(lease) = self.rows.get(&asking.network).filter(|lease| lease.group.has(&call.from)) else {
            return Err(format!("{} is in no group of {} here", call.from, asking.network));
        };
        if !call.proven {
            return Err(format!("a bot that is not trusted stands between {} and here", call.from));
        }
        let vote = lease.vote(&call.from, asking.wish, asking.epoch).await;
        serde_json::to_string(&vote).map_err(|fault| fault.to_string())
    }
}

impl Lease {
    /// What this bot answers to whoever wishes something, itself among them.
    async fn vote(&self, who: &BotName, wish: Wish, epoch: u64) -> Vote {
        let mut voter = self.voter.lock().await;
        let now = Instant::now();
        let granted = match wish {
            Wish::Would => voter.would(who, epoch, now),
            Wish::Release => {
                voter.release(who, epoch, now);
                true
            }
            Wish::Promise => {
                let (granted, kept) = voter.promise(who, epoch, now);
                granted && self.keep(kept).await
            }
        };
        voter.vote(granted, now)
    }

    /// A promise that could be forgotten is none.
    async fn keep(&self, kept: Option<Kept>) -> bool {
        let Some(kept) = kept else { return true };
        let Ok(value) = serde_json::to_value(&kept) else { return false };
        match self.store.kv_set(KEPT, &self.network, &value, None).await {
            Ok(()) => true,
            Err(fault) => {
                tracing::error!(network = %self.network, %fault, "A promise cannot be kept and is not given");
                false
            }
        }
    }

    async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut candidate = Candidate::default();
        loop {
            let wait = self.step(&mut candidate).await;
            tokio::select! {
                () = shutdown.recv() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        // What is still queued leaves while the lease lasts; those who promised wait that long.
    }

    /// One look: renews, or tries, or waits. Gives when to look again.
    async fn step(&self, candidate: &mut Candidate) -> Duration {
        let (now, me) = (Instant::now(), self.mesh.name());
        let leading = candidate.leads(now).is_some();
        if !leading {
            self.show(candidate).await;
        }
        if !self.could_act() {
            if let Some(epoch) = candidate.stop() {
                self.show(candidate).await;
                self.ask(Wish::Release, epoch).await;
            }
            return LOOK;
        }
        let (epoch, free_at) = {
            let voter = self.voter.lock().await;
            let free_at = if voter.is_free_for(me, now) { now } else { voter.free_at() + self.group.stagger() };
            (candidate.epoch(&voter, now), free_at)
        };
        if !leading {
            if now < free_at {
                return (free_at - now).min(LOOK);
            }
            let votes = self.ask(Wish::Would, epoch).await;
            candidate.heard(votes.values());
            if !self.is_most(&votes) {
                return LOOK + jitter();
            }
        }
        let asked = Instant::now();
        let votes = self.ask(Wish::Promise, epoch).await;
        candidate.heard(votes.values());
        if self.is_most(&votes) {
            candidate.won(epoch, asked);
            self.show(candidate).await;
            return RENEW.saturating_sub(asked.elapsed());
        }
        if !leading {
            // Those who did promise are free for somebody else.
            self.ask(Wish::Release, epoch).await;
        }
        LOOK + jitter()
    }

    /// Whether there is anything to act on: somebody who is not connected leaves it to the others.
    fn could_act(&self) -> bool {
        self.outbox.network(&self.network).is_some_and(|network| network.status().connected)
    }

    fn is_most(&self, votes: &BTreeMap<BotName, Vote>) -> bool {
        self.group.is_most(votes.iter().filter(|(_, vote)| vote.granted).map(|(bot, _)| bot))
    }

    /// Asks all members, this one too.
    async fn ask(&self, wish: Wish, epoch: u64) -> BTreeMap<BotName, Vote> {
        let me = self.mesh.name();
        let mut votes = BTreeMap::from([(me.clone(), self.vote(me, wish, epoch).await)]);
        let asking = Asking { network: self.network.clone(), wish, epoch };
        let Ok(asking) = serde_json::to_string(&asking) else { return votes };
        let asking = &asking;
        let others = self.group.others().map(|bot| async move {
            // Who is not linked, or between whom and us somebody stands who is not trusted, has no vote.
            if !self.mesh.view().is_proven(bot) {
                return None;
            }
            let answer = self.mesh.own(bot, LEASE, asking, PATIENCE).await.ok()?;
            Some((bot.clone(), serde_json::from_str::<Vote>(&answer).ok()?))
        });
        votes.extend(futures_util::future::join_all(others).await.into_iter().flatten());
        votes
    }

    /// Lets everybody here know who acts.
    async fn show(&self, candidate: &Candidate) {
        let now = Instant::now();
        let (epoch, until) = candidate.leads(now).map_or((0, None), |(epoch, until)| (epoch, Some(until)));
        let leader = match until {
            Some(_) => Some(self.mesh.name().clone()),
            None => self.voter.lock().await.vote(false, now).holder.and_then(|holder| holder.parse().ok()),
        };
        let before = self.outbox.leads.of(&self.network).unwrap_or_default();
        let led = Led { until, epoch: epoch.max(before.epoch), leader };
        self.outbox.leads.put(&self.network, &led);
        if let Some(network) = self.outbox.network(&self.network) {
            network.act_until(until.unwrap_or(now));
        }
        if before.until.is_some() != led.until.is_some() || before.leader != led.leader {
            self.tell(&led);
        }
    }

    fn tell(&self, led: &Led) {
        let network = &self.network;
        let text = match &led.leader {
            Some(leader) if led.until.is_some() => {
                format!("{leader} acts on {network} from now on (epoch {})", led.epoch)
            }
            Some(leader) => format!("{leader} is promised {network}"),
            None => format!("nobody is known to act on {network}"),
        };
        tracing::info!(network, epoch = led.epoch, leader = ?led.leader, ours = led.until.is_some(), "The lease of a network");
        self.party.log('b', tracing::Level::INFO, &text);
    }
}

/// A little time, so that two who failed do not try again together.
fn jitter() -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers they try together, and the order of the group decides later.
    let _ = getrandom::fill(&mut bytes);
    Duration::from_millis(u64::from(u16::from_le_bytes(bytes)) % 500)
}
