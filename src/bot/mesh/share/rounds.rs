//! Rounds: with each bot that people are shared with it is compared what both know, when something changed and now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::time::Instant;

use super::{Answer, Asking, BYTES, Shared, size_of_fact};
use crate::mesh::facts::Letters;
use crate::mesh::{BotName, SHARE};

/// How often it is looked whether people changed here.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks.
const REST: Duration = Duration::from_millis(200);
/// How often it is compared although nothing changed.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Handles whose numbers stand in one call.
const PAGE: usize = 400;
/// Calls of one round, lest a bot that always says there is more keeps us for ever.
const CALLS: usize = 200;

/// What is known of a bot that people are shared with.
#[derive(Default)]
struct Partner {
    /// The letters that it lets travel, once it has said so.
    letters: Option<Letters>,
    /// What was compared last: how often something had changed here.
    seen: Option<u64>,
    due: Option<Instant>,
}

impl Shared {
    /// Compares until shutdown.
    pub(super) async fn tell(self, mut shutdown: Shutdown) {
        let mut partners: BTreeMap<BotName, Partner> = BTreeMap::new();
        loop {
            let shares = self.inner.mesh.view().records.iter().any(|record| record.settings.share.is_some());
            let generation = if !shares {
                0
            } else {
                let mut state = self.inner.state.lock().await;
                if let Err(fault) = self.absorb(&mut state).await {
                    tracing::error!(%fault, "The people cannot be looked at, and are not shared");
                }
                state.generation
            };
            self.rounds(&mut partners, generation).await;
            tokio::select! {
                () = shutdown.recv() => return,
                () = tokio::time::sleep(REST) => {}
            }
            tokio::select! {
                () = shutdown.recv() => return,
                () = self.inner.news.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// One round with everybody for whom it is time.
    async fn rounds(&self, partners: &mut BTreeMap<BotName, Partner>, generation: u64) {
        let view = self.inner.mesh.view();
        let here = |bot: &BotName| view.bots.iter().any(|row| row.name == *bot && row.is_ours()) && view.is_proven(bot);
        // Who comes back is compared with at once.
        partners.retain(|bot, _| here(bot) && self.letters_of(bot).is_some());
        for record in view.records.iter().filter(|record| here(&record.name)) {
            if self.letters_of(&record.name).is_some() {
                partners.entry(record.name.clone()).or_default();
            }
        }
        let now = Instant::now();
        let due = |partner: &Partner| {
            partner.due.is_none_or(|due| now >= due) || partner.seen.is_some_and(|seen| seen != generation)
        };
        let rounds = partners.iter_mut().filter(|(_, partner)| due(partner)).map(|(bot, partner)| async move {
            match self.round(bot, partner).await {
                Ok(()) => (partner.seen, partner.due) = (Some(generation), Some(Instant::now() + AGAIN)),
                Err(fault) => {
                    tracing::debug!(%bot, fault, "People were not compared with a bot");
                    (partner.seen, partner.due) = (None, Some(Instant::now() + AGAIN / 6));
                }
            }
        });
        futures_util::future::join_all(rounds).await;
    }

    async fn round(&self, bot: &BotName, partner: &mut Partner) -> Result<(), String> {
        let own = self.letters_of(bot).ok_or("nothing is shared with it any more")?;
        let mut after = String::new();
        for _ in 0..CALLS {
            let letters = partner.letters.map_or(own, |theirs| own.common(theirs));
            let (asking, upto) = self.sums(own, letters, &after).await;
            let answer = self.ask(bot, &asking).await?;
            partner.letters = Some(Letters::parse(&answer.letters)?);
            if answer.again {
                continue;
            }
            let taken = self.take(bot, answer.facts, &answer.keys, letters).await;
            let taken = taken.map_err(|fault| fault.to_string())?;
            self.put(bot, own, letters, &answer.want).await?;
            if answer.more && taken > 0 {
                continue;
            }
            match upto {
                Some(upto) => after = upto,
                None => return Ok(()),
            }
        }
        Err("there is no end to what it has to tell".to_owned())
    }

    /// A page of what is known here, in numbers, and its last handle if there are more.
    async fn sums(&self, own: Letters, letters: Letters, after: &str) -> (Asking, Option<String>) {
        let (state, now) = (self.inner.state.lock().await, self.now());
        let mut handles = state.ledger.handles(after);
        let more = handles.len() > PAGE;
        handles.truncate(PAGE);
        let upto = handles.last().filter(|_| more).cloned();
        let asking = Asking::Sums {
            letters: own.to_string(),
            used: letters.to_string(),
            above: state.above(&self.inner.book, letters),
            after: after.to_owned(),
            upto: upto.clone(),
            sums: handles.into_iter().map(|handle| (handle.clone(), state.ledger.sum(&handle, letters, now))).collect(),
        };
        (asking, upto)
    }

    /// Tells all that is known of some.
    async fn put(&self, bot: &BotName, own: Letters, letters: Letters, want: &[String]) -> Result<(), String> {
        let mut parts = vec![Vec::new()];
        {
            let state = self.inner.state.lock().await;
            let mut bytes = 0;
            let now = self.now();
            for fact in want.iter().flat_map(|handle| state.ledger.told(handle, letters, now)) {
                bytes += size_of_fact(fact);
                if bytes > BYTES {
                    (bytes, _) = (size_of_fact(fact), parts.push(Vec::new()));
                }
                if let Some(part) = parts.last_mut() {
                    part.push(fact.clone());
                }
            }
        }
        for facts in parts.into_iter().filter(|part| !part.is_empty()) {
            let keys = self.inner.state.lock().await.keys_of(&facts);
            self.ask(bot, &Asking::Put { letters: own.to_string(), facts, keys }).await?;
        }
        Ok(())
    }

    async fn ask(&self, bot: &BotName, asking: &Asking) -> Result<Answer, String> {
        let asking = serde_json::to_string(asking).map_err(|fault| fault.to_string())?;
        let answer = self.inner.mesh.own(bot, SHARE, &asking, PATIENCE).await.map_err(|fault| fault.to_string())?;
        serde_json::from_str(&answer).map_err(|fault| fault.to_string())
    }
}
