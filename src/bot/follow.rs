//! What a bot follows while it runs: who wants raw lines, what another process did to the users, which scripts changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Kind, Shutdown};

use super::outbox::Outbox;
use super::people::read_users;
use super::scripts::{Reloaded, Scripts};
use super::watch;
use crate::dispatch::BindTable;
use crate::irc::Network;
use crate::store::Store;
use crate::users::Book;

/// How often a running bot looks whether `masterchief users` changed somebody.
const USERS_LOOK: Duration = Duration::from_secs(2);

/// The kinds that are made only if somebody wants them.
const RAW: &[Kind] = &[Kind::Raw, Kind::Rawt];

/// The kind that the server is asked for only if somebody wants it.
const HISTORY: &[Kind] = &[Kind::Hist];

/// Tells a network whether anybody wants raw lines, what was missed, and of which nicks they want to know whether they are there: those
/// that binds of kind `monitor` name without wildcards.
pub(super) fn want(table: &BindTable, network: &Network) {
    network.want_raw(table.has_any(RAW));
    network.want_history(table.has_any(HISTORY));
    let named = |mask: &Arc<str>| (!mask.contains(['*', '?', '%', '~', '\\', ' ', ','])).then(|| mask.to_string());
    let nicks: Vec<String> = table.masks(Kind::Monitor).iter().filter_map(named).collect();
    network.want_watched(&nicks);
}

/// Tells the networks what anybody wants, whenever that changes.
pub(super) async fn follow_raw(table: BindTable, outbox: Outbox, mut shutdown: Shutdown) {
    let mut changes = table.changes();
    loop {
        for network in outbox.networks() {
            want(&table, &network);
        }
        tokio::select! {
            () = shutdown.recv() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Takes over what another process did to the users, and tells that it did.
pub(super) async fn follow_users(
    store: Store,
    book: Book,
    mut known: i64,
    tell: impl Fn() + Send,
    mut shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            () = shutdown.recv() => return,
            () = tokio::time::sleep(USERS_LOOK) => {}
        }
        let now = match store.users_revision().await {
            Ok(now) => now,
            Err(fault) => {
                tracing::warn!(%fault, "The users cannot be looked at");
                continue;
            }
        };
        if now == known {
            continue;
        }
        match read_users(&store).await {
            Ok(users) => {
                tracing::info!(users = users.len(), "Users read again");
                book.fill(users);
                known = now;
                tell();
            }
            Err(fault) => tracing::error!(%fault, "The users cannot be read; those known before stay"),
        }
    }
}

/// Reloads scripts whose files change.
pub(super) async fn follow_scripts(scripts: Scripts, shutdown: Shutdown) {
    let folder = scripts.folder().to_owned();
    let list = {
        let scripts = scripts.clone();
        move || scripts.files()
    };
    let changed = move |paths: Vec<PathBuf>| {
        let scripts = scripts.clone();
        async move { tell_of(&scripts.reload_changed(&paths).await) }
    };
    watch::watch(vec![folder.join("lib"), folder], list, changed, shutdown).await;
}

pub(super) fn tell_of(report: &Reloaded) {
    for fault in &report.failed {
        tracing::error!(%fault, "A script is not loaded; where there was an older version, it still serves");
    }
}
