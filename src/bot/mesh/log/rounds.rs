//! Rounds: with each bot that people are shared with it is compared how far both know each log, when lines came and now and then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::time::Instant;

use super::{Answer, Asking, Ground, Logs, of_wire, to_wire};
use crate::mesh::{BotName, LOG};

/// The least time between two looks: lines that come together are told together.
const REST: Duration = Duration::from_millis(500);
/// How often it is compared although nothing came.
const AGAIN: Duration = Duration::from_secs(30);
/// After a round that went wrong.
const SOON: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody came.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls of one round, lest a bot that always says there is more keeps us for ever.
const CALLS: usize = 100;

/// What was known when a bot was compared with: how often lines came, and our own newest one.
type Mark = (u64, i64);

/// Since when a bot is known, and what it was compared at.
#[derive(Default)]
struct Partner {
    seen: Option<Mark>,
    due: Option<Instant>,
}

impl Logs {
    /// Compares until shutdown.
    pub(super) async fn tell(self, mut shutdown: Shutdown) {
        let mut partners: BTreeMap<BotName, Partner> = BTreeMap::new();
        let mut chained = self.inner.ground.pipelines.chained();
        loop {
            let own = chained.borrow_and_update().as_ref().map_or(0, |newest| newest.id);
            self.rounds(&mut partners, (self.inner.generation.load(Ordering::Relaxed), own)).await;
            tokio::select! {
                () = shutdown.recv() => return,
                () = tokio::time::sleep(REST) => {}
            }
            tokio::select! {
                () = shutdown.recv() => return,
                () = self.inner.news.notified() => {}
                // The runs may end before the mesh does.
                Ok(()) = chained.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn rounds(&self, partners: &mut BTreeMap<BotName, Partner>, mark: Mark) {
        let Ground { mesh, shared, .. } = &self.inner.ground;
        let view = mesh.view();
        let here = |bot: &BotName| {
            view.bots.iter().any(|row| row.name == *bot && row.is_ours())
                && view.is_proven(bot)
                && shared.shares_with(bot)
        };
        // Who comes back is compared with at once.
        partners.retain(|bot, _| here(bot));
        for record in view.records.iter().filter(|record| here(&record.name)) {
            partners.entry(record.name.clone()).or_default();
        }
        let now = Instant::now();
        let due = |partner: &Partner| {
            partner.due.is_none_or(|due| now >= due) || partner.seen.is_some_and(|seen| seen != mark)
        };
        let rounds = partners.iter_mut().filter(|(_, partner)| due(partner)).map(|(bot, partner)| async move {
            match self.round(bot).await {
                Ok(()) => (partner.seen, partner.due) = (Some(mark), Some(Instant::now() + AGAIN)),
                Err(fault) => {
                    tracing::debug!(%bot, fault, "Incident logs were not compared with a bot");
                    (partner.seen, partner.due) = (None, Some(Instant::now() + SOON));
                }
            }
        });
        futures_util::future::join_all(rounds).await;
    }

    async fn round(&self, bot: &BotName) -> Result<(), String> {
        for _ in 0..CALLS {
            let (heads, yours) = (to_wire(self.heads().await?), self.newest_of(bot).await?);
            let answer = self.ask(bot, &Asking::Heads { heads, yours }).await?;
            let theirs = of_wire(answer.heads);
            self.compare(bot, &theirs, answer.yours).await?;
            let taken = self.take(bot, answer.lines, &answer.keys).await?;
            let telling = self.telling(bot, &theirs).await?;
            let mut told = 0;
            if !telling.lines.is_empty() {
                let keys = self.keys(&telling.lines).await;
                told = self.ask(bot, &Asking::Lines { lines: telling.lines, keys }).await?.taken;
            }
            // What is not taken is not told again at once.
            if !(answer.more && taken > 0 || telling.more && told > 0) {
                return Ok(());
            }
        }
        Err("there is no end to what it has to tell".to_owned())
    }

    async fn ask(&self, bot: &BotName, asking: &Asking) -> Result<Answer, String> {
        let asking = serde_json::to_string(asking).map_err(|fault| fault.to_string())?;
        let answer =
            self.inner.ground.mesh.own(bot, LOG, &asking, PATIENCE).await.map_err(|fault| fault.to_string())?;
        serde_json::from_str(&answer).map_err(|fault| fault.to_string())
    }
}
