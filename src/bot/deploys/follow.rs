//! What changes beside the words: files of pipelines, networks that come and go.

use super::super::outbox::Outbox;
use super::bind;
use crate::dispatch::{BindTable, Kinds};
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::Book;
use masterchief_contract::{Inlet, Shutdown};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// How often the folder of pipelines is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often old runs are looked for.
const PURGE: Duration = Duration::from_secs(6 * 3600);
/// The name under which the records of people know the end of the incident log.
pub(crate) const ANCHOR: &str = "incidents";
/// So often a network is looked at that has us in no channel, before what is to be said is said there.
const PATIENCE: u32 = 10;
/// How often networks are looked at.
const NETWORKS: Duration = Duration::from_secs(1);

/// Reads the folder anew whenever a file in it changes, until it is time.
pub(crate) async fn follow(
    kinds: Arc<Kinds>,
    table: BindTable,
    pipelines: Pipelines,
    book: Book,
    mut shutdown: Shutdown,
) {
    let mut before = fingerprint(&pipelines.settings().folder);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.recv() => return,
        }
        let now = fingerprint(&pipelines.settings().folder);
        if now == before {
            continue;
        }
        before = now;
        for fault in pipelines.reload(None).await {
            tracing::error!(%fault, "A pipeline cannot be read; the others are there");
        }
        if let Err(fault) = bind(&kinds, &table, &pipelines, &book) {
            tracing::error!(%fault, "The words for pipelines cannot be bound");
        }
        tracing::info!(pipelines = pipelines.catalog().all().count(), "Pipelines were read anew");
    }
}

/// Forgets old runs, from time to time.
pub(crate) async fn purge(pipelines: Pipelines, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PURGE) => {}
            () = shutdown.recv() => return,
        }
        match pipelines.purge().await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "Old runs were forgotten"),
            Err(fault) => tracing::warn!(%fault, "Old runs cannot be forgotten"),
        }
    }
}

/// Keeps the newest line of the incident log in the records of people too, so that its end cannot be cut off unseen. A log that does
/// not agree with what is known is told, and what is known stays.
pub(crate) async fn anchor(pipelines: Pipelines, store: Store) {
    let mut chained = pipelines.chained();
    let known = match store.anchor(ANCHOR).await {
        Ok(known) => known,
        Err(fault) => return tracing::error!(%fault, "The end of the incident log is kept nowhere else"),
    };
    match pipelines.audit(known.as_ref()).await {
        Ok(Ok(_)) => {}
        Ok(Err(tampered)) => {
            return tracing::error!(%tampered, "The incident log was changed; masterchief audit verify tells what is wrong");
        }
        Err(fault) => return tracing::error!(%fault, "The incident log cannot be read"),
    }
    // The last one is taken too when the runs have ended.
    while chained.changed().await.is_ok() {
        let newest = chained.borrow_and_update().clone();
        let Some(newest) = newest else { continue };
        if let Err(fault) = store.put_anchor(ANCHOR, &newest).await {
            tracing::error!(%fault, "The end of the incident log could not be kept elsewhere");
        }
    }
}

/// Makes an event of everything that changes in runs, for binds of kind `pipeline`.
pub(crate) async fn tell_binds(pipelines: Pipelines, inlet: Inlet, mut shutdown: Shutdown) {
    let mut news = pipelines.news();
    loop {
        let one = tokio::select! {
            one = news.recv() => one,
            () = shutdown.recv() => return,
        };
        match one {
            Ok(one) if one.kind != "doing" => {
                if inlet.put(one.event(pipelines.now())).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "Changes of runs came faster than binds took them")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// The files of a folder, with when they were changed and how long they are.
pub(crate) fn fingerprint(folder: &Path) -> Vec<(OsString, Option<SystemTime>, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((entry.file_name(), meta.modified().ok(), meta.len()))
        })
        .collect();
    files.sort();
    files
}

/// Tells the pipelines when a network is back.
pub(crate) async fn watch_networks(outbox: Outbox, pipelines: Pipelines, mut shutdown: Shutdown) {
    // How often each was connected, and when it was seen so last.
    let mut seen: BTreeMap<String, (u64, Instant)> = BTreeMap::new();
    // How often each was seen without a channel.
    let mut bare: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(NETWORKS) => {}
            () = shutdown.recv() => return,
        }
        for network in outbox.networks() {
            let status = network.status();
            if !status.connected {
                bare.remove(network.name());
                continue;
            }
            // Nobody hears what is said before we are in.
            let looks = bare.entry(network.name().to_owned()).or_default();
            *looks += 1;
            if network.channels().is_empty() && *looks < PATIENCE {
                continue;
            }
            let now = (status.connections, Instant::now());
            match seen.insert(network.name().to_owned(), now) {
                None => pipelines.here(network.name()).await,
                Some((connections, last)) if connections < status.connections => {
                    pipelines.back(network.name(), last.elapsed()).await;
                }
                Some(_) => {}
            }
        }
    }
}
