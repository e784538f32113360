//! When schedules last ran: in memory for the source that asks, and behind its back in the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use masterchief_bindings::time::LastRuns;
use tokio::sync::mpsc;

use crate::store::{Store, StoreError};

/// Notes that wait for the disk. A lost one costs a repeated catch-up after a crash.
const DEPTH: usize = 1024;

/// The notes.
pub(crate) struct Schedules {
    known: Mutex<BTreeMap<String, DateTime<Utc>>>,
    to: mpsc::Sender<(String, DateTime<Utc>)>,
}

impl Schedules {
    /// Reads what is stored and starts the writer, which ends when the notes are dropped.
    pub(crate) async fn start(store: Store) -> Result<(Schedules, tokio::task::JoinHandle<()>), StoreError> {
        let known = store.clock().await?.into_iter().collect();
        let (to, mut from) = mpsc::channel::<(String, DateTime<Utc>)>(DEPTH);
        let writer = tokio::spawn(async move {
            while let Some((key, at)) = from.recv().await {
                if let Err(fault) = store.clock_ran(&key, at).await {
                    tracing::error!(%fault, schedule = %key, "It could not be noted that a schedule ran");
                }
            }
        });
        Ok((Schedules { known: Mutex::new(known), to }, writer))
    }
}

impl LastRuns for Schedules {
    fn last(&self, key: &str) -> Option<DateTime<Utc>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn ran(&self, key: &str, at: DateTime<Utc>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), at);
        if self.to.try_send((key.to_owned(), at)).is_err() {
            tracing::warn!(schedule = key, "It is noted in memory only that a schedule ran");
        }
    }
}
