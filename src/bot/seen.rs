//! When something was last said in each channel: kept, so that a bot that was away asks for what it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{Clock, Shutdown};
use serde_json::json;
use tokio::sync::Notify;

use crate::store::{Store, StoreError};

/// Under which name it stands among what scripts keep. No script can have it.
const KEPT: &str = "@seen";
/// How often it is written. After a crash so much is told again as missed.
const EVERY: Duration = Duration::from_secs(30);
/// Networks read at the start.
const NETWORKS_MAX: u32 = 256;
/// Channels kept of a network: those in which something was said last.
const CHANNELS_MAX: usize = 500;

type Times = BTreeMap<String, DateTime<Utc>>;

pub(super) struct Seen {
    store: Store,
    clock: Clock,
    state: Mutex<State>,
    /// There is something to write.
    work: Notify,
}

#[derive(Default)]
struct State {
    networks: BTreeMap<String, Times>,
    /// The networks that changed since they were written.
    changed: BTreeSet<String>,
}

impl Seen {
    /// With what the process before this one saw.
    pub(super) async fn open(store: &Store, clock: &Clock) -> Result<Seen, StoreError> {
        let now = clock.now();
        let mut networks = BTreeMap::new();
        for network in store.kv_names(KEPT, "", NETWORKS_MAX, now).await? {
            let kept = store.kv_get(KEPT, &network, now).await?;
            let kept: BTreeMap<String, i64> =
                kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default();
            let time = |(chan, at)| Some((chan, DateTime::from_timestamp_millis(at)?));
            networks.insert(network, kept.into_iter().filter_map(time).collect());
        }
        let state = Mutex::new(State { networks, ..State::default() });
        Ok(Seen { store: store.clone(), clock: clock.clone(), state, work: Notify::new() })
    }

    /// When something was last said in the channels of a network.
    pub(super) fn of(&self, network: &str) -> Times {
        self.state().networks.get(network).cloned().unwrap_or_default()
    }

    /// Something is said in a channel.
    pub(super) fn saw(&self, network: &str, chan: &str, at: DateTime<Utc>) {
        let mut state = self.state();
        let State { networks, changed } = &mut *state;
        // Most lines are of channels that are known, and cost nothing here.
        match networks.get_mut(network).and_then(|times| times.get_mut(chan)) {
            Some(time) => *time = at,
            None => drop(networks.entry(network.to_owned()).or_default().insert(chan.to_owned(), at)),
        }
        if !changed.contains(network) {
            changed.insert(network.to_owned());
            self.work.notify_one();
        }
    }

    /// Writes it now and then, and at last.
    pub(super) async fn keep(&self, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.recv() => break,
                () = self.work.notified() => {}
            }
            tokio::select! {
                () = shutdown.recv() => break,
                () = self.clock.sleep(EVERY) => {}
            }
            self.write().await;
        }
        self.write().await;
    }

    async fn write(&self) {
        let changed: Vec<(String, Times)> = {
            let mut state = self.state();
            let State { networks, changed } = &mut *state;
            let taken = std::mem::take(changed).into_iter();
            taken.filter_map(|name| networks.get(&name).cloned().map(|times| (name, times))).collect()
        };
        for (network, times) in changed {
            let mut newest: Vec<(String, DateTime<Utc>)> = times.into_iter().collect();
            newest.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
            newest.truncate(CHANNELS_MAX);
            let kept: BTreeMap<String, i64> =
                newest.into_iter().map(|(chan, at)| (chan, at.timestamp_millis())).collect();
            if let Err(fault) = self.store.kv_set(KEPT, &network, &json!(kept), None).await {
                tracing::warn!(%fault, network, "When something was last said cannot be written down; a restart asks for less");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_known_to_the_next_process() {
        let (store, clock) = (Store::memory(), Clock::system());
        let at = |second| DateTime::from_timestamp(second, 5_000_000).unwrap();
        let seen = Seen::open(&store, &clock).await.unwrap();
        assert!(seen.of("net").is_empty());
        let (stop, shutdown) = Shutdown::new();
        let writing = async {
            seen.keep(shutdown).await;
        };
        let saying = async {
            seen.saw("net", "#ops", at(1));
            seen.saw("net", "#ops", at(2));
            tokio::time::sleep(2 * EVERY).await;
            let now = Seen::open(&store, &clock).await.unwrap();
            assert_eq!(now.of("net"), BTreeMap::from([("#ops".to_owned(), at(2))]), "a crash costs little");
            seen.saw("net", "#dev", at(3));
            stop.stop();
        };
        tokio::join!(writing, saying);
        let next = Seen::open(&store, &clock).await.unwrap();
        assert_eq!(next.of("net").len(), 2);
        assert!(next.of("other").is_empty());
    }
}
