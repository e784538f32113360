//! People here whose words another bot is doing: where they asked, so that what it says later still reaches them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::Clock;
use serde_json::json;
use tokio::time::Instant;

use super::name::BotName;
use crate::store::Store;

/// Under which name they stand among what scripts keep. No script can have it.
const ROWS: &str = "@at";
/// Letters of the word under which each stands there, so that there are at most 4096: a later one takes the place of an older.
const PLACE: usize = 3;
/// Askers that are remembered here; those before them are looked up.
const THREADS: usize = 1000;
/// How long somebody may still be told something.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Where somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub handle: String,
    /// The network.
    pub network: String,
    /// The channel, or the name of who asked in private.
    pub target: String,
}

#[derive(Debug)]
struct Thread {
    bot: BotName,
    asker: Asker,
    at: Instant,
}

/// Who asked what of whom. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Threads {
    here: Arc<Mutex<BTreeMap<String, Thread>>>,
    /// Where they outlive this process.
    store: Store,
    clock: Clock,
}

impl Threads {
    pub(super) fn new(store: Store, clock: Clock) -> Threads {
        Threads { here: Arc::default(), store, clock }
    }

    /// Remembers somebody who asks something of a bot; gives the word by which that bot can tell them more.
    pub(super) async fn begin(&self, bot: &BotName, asker: Asker) -> Option<String> {
        let mut bytes = [0; 16];
        // Without random numbers anybody could speak to them, and so nobody does.
        getrandom::fill(&mut bytes).ok()?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let Asker { handle, network, target } = &asker;
        let kept = json!({"token": token, "bot": bot.as_str(), "handle": handle, "network": network, "target": target});
        if let Err(fault) = self.store.kv_set(ROWS, place(&token), &kept, Some(self.clock.now() + KEPT)).await {
            tracing::warn!(%fault, %bot, "Where somebody asked another bot cannot be kept; after a restart its answer is lost");
        }
        let mut threads = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        threads.retain(|_, thread| now.duration_since(thread.at) < KEPT);
        while threads.len() >= THREADS {
            let oldest = threads.iter().min_by_key(|(_, thread)| thread.at).map(|(token, _)| token.clone());
            oldest.map(|oldest| threads.remove(&oldest));
        }
        threads.insert(token.clone(), Thread { bot: bot.clone(), asker, at: now });
        Some(token)
    }

    /// Who waits for more of this bot by this word; before a restart they may have begun to.
    pub(super) async fn of(&self, bot: &BotName, token: &str) -> Option<Asker> {
        if let Some(found) = self.here(bot, token) {
            return found;
        }
        let kept = self.store.kv_get(ROWS, place(token), self.clock.now()).await;
        let kept =
            kept.inspect_err(|fault| tracing::warn!(%fault, %bot, "Who asked it something cannot be read")).ok()??;
        let text = |name: &str| Some(kept.get(name)?.as_str()?.to_owned());
        let own = text("token")? == token && text("bot")?.eq_ignore_ascii_case(bot.as_str());
        let asker = Asker { handle: text("handle")?, network: text("network")?, target: text("target")? };
        own.then_some(asker)
    }

    /// The same of this process; nothing where it knows nothing of that word.
    fn here(&self, bot: &BotName, token: &str) -> Option<Option<Asker>> {
        let threads = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = threads.get(token)?;
        Some((thread.bot == *bot && thread.at.elapsed() < KEPT).then(|| thread.asker.clone()))
    }
}

fn place(token: &str) -> &str {
    token.get(..PLACE).unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_bot_that_was_asked_speaks_to_who_asked_and_for_a_day() {
        let (clock, begun) = (Clock::system(), chrono::Utc::now());
        let (threads, one) = (Threads::new(Store::memory(), clock), "One".parse::<BotName>().unwrap());
        let asker = |n: usize| Asker { handle: format!("p{n}"), network: "lab".to_owned(), target: "#ops".to_owned() };
        let token = threads.begin(&one, asker(0)).await.unwrap();
        assert_eq!(threads.of(&one, &token).await, Some(asker(0)));
        let two = "Two".parse().unwrap();
        assert_eq!((threads.of(&two, &token).await, threads.of(&one, "guess").await), (None, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        for n in 0..THREADS {
            threads.begin(&one, asker(n)).await.unwrap();
        }
        assert_eq!(threads.here(&one, &token), None, "the oldest is in the store alone, if at all");
        let last = threads.begin(&one, asker(7)).await.unwrap();
        tokio::time::advance(KEPT).await;
        assert_eq!(threads.of(&one, &last).await, None);
        let row = threads.store.kv_get(ROWS, place(&last), begun + KEPT * 2).await.unwrap();
        assert_eq!(row, None, "the store keeps it no longer");
    }

    #[tokio::test]
    async fn who_asked_before_a_restart_is_known_by_the_same_word() {
        let (store, one) = (Store::memory(), "One".parse::<BotName>().unwrap());
        let asker = Asker { handle: "alice".to_owned(), network: "lab".to_owned(), target: "#ops".to_owned() };
        let before = Threads::new(store.clone(), Clock::system());
        let token = before.begin(&one, asker.clone()).await.unwrap();
        let after = Threads::new(store, Clock::system());
        assert_eq!(after.of(&"ONE".parse().unwrap(), &token).await, Some(asker));
        assert_eq!(after.of(&"Two".parse().unwrap(), &token).await, None);
        let other = format!("{}{}", place(&token), "0".repeat(token.len() - PLACE));
        assert_eq!(after.of(&one, &other).await, None, "a word that only stands in the same place");
    }
}
