//! What changes beside the words: files of pipelines, networks that come and go.

use super::super::outbox::Outbox;
use super::bind;
use crate::dispatch::{BindTable, Kinds};
use crate::pipelines::{Pipelines, Present};
use crate::users::Book;
use masterchief_contract::{Inlet, Shutdown, split_place};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// How often the folder of pipelines is looked at.
const LOOK: Duration = Duration::from_secs(2);
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

/// Whether the network of a place is there now; what is no network of IRC always is.
pub(crate) fn present(outbox: &Outbox) -> Present {
    let outbox = outbox.clone();
    Arc::new(move |place| outbox.network(split_place(place).0).is_none_or(|network| network.status().connected))
}

/// Tells the pipelines when a network is back.
pub(crate) async fn watch_networks(outbox: Outbox, pipelines: Pipelines, mut shutdown: Shutdown) {
    let mut away: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(NETWORKS) => {}
            () = shutdown.recv() => return,
        }
        for network in outbox.networks() {
            let name = network.name().to_owned();
            if !network.status().connected {
                away.entry(name).or_insert_with(Instant::now);
            } else if let Some(since) = away.remove(&name) {
                pipelines.back(since.elapsed()).await;
            }
        }
    }
}
