//! People here whose words another bot is doing: where they asked, so that what it says later still reaches them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::name::BotName;

/// Askers that are remembered; then the oldest is forgotten.
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
#[derive(Clone, Debug, Default)]
pub(super) struct Threads(Arc<Mutex<BTreeMap<String, Thread>>>);

impl Threads {
    /// Remembers somebody who asks something of a bot; gives the word by which that bot can tell them more.
    pub(super) fn begin(&self, bot: &BotName, asker: Asker) -> Option<String> {
        let mut bytes = [0; 16];
        // Without random numbers anybody could speak to them, and so nobody does.
        getrandom::fill(&mut bytes).ok()?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        threads.retain(|_, thread| now.duration_since(thread.at) < KEPT);
        while threads.len() >= THREADS {
            let oldest = threads.iter().min_by_key(|(_, thread)| thread.at).map(|(token, _)| token.clone());
            oldest.map(|oldest| threads.remove(&oldest));
        }
        threads.insert(token.clone(), Thread { bot: bot.clone(), asker, at: now });
        Some(token)
    }

    /// Who waits for more of this bot by this word.
    pub(super) fn of(&self, bot: &BotName, token: &str) -> Option<Asker> {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = threads.get(token).filter(|thread| thread.bot == *bot && thread.at.elapsed() < KEPT)?;
        Some(thread.asker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_bot_that_was_asked_speaks_to_who_asked_and_for_a_day() {
        let (threads, one) = (Threads::default(), "One".parse::<BotName>().unwrap());
        let asker = |n: usize| Asker { handle: format!("p{n}"), network: "lab".to_owned(), target: "#ops".to_owned() };
        let token = threads.begin(&one, asker(0)).unwrap();
        assert_eq!(threads.of(&one, &token), Some(asker(0)));
        assert_eq!((threads.of(&"Two".parse().unwrap(), &token), threads.of(&one, "guess")), (None, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        for n in 0..THREADS {
            threads.begin(&one, asker(n)).unwrap();
        }
        assert_eq!(threads.of(&one, &token), None, "the oldest was forgotten");
        let last = threads.begin(&one, asker(7)).unwrap();
        tokio::time::advance(KEPT).await;
        assert_eq!(threads.of(&one, &last), None);
    }
}
