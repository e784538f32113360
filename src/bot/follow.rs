//! What a bot follows while it runs: who wants raw lines, what another process did to the users, which scripts changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Kind, Shutdown};

use super::outbox::Outbox;
use super::people::read_users;
use super::policy::Broken;
use super::scripts::{Reloaded, Scripts};
use super::watch;
use crate::dispatch::BindTable;
use crate::irc::Network;
use crate::partyline::Party;
use crate::store::Store;
use crate::users::{Book, User};

/// How often a running bot looks whether `masterchief users` changed somebody.
const USERS_LOOK: Duration = Duration::from_secs(2);

/// The kinds that are made only if somebody wants them.
const RAW: &[Kind] = &[Kind::Raw, Kind::Rawt];

/// The kind that the server is asked for only if somebody wants it.
const HISTORY: &[Kind] = &[Kind::Hist];

/// Tells a network whether anybody wants raw lines, what was missed, and of which nicks they want to know whether they are there: those
/// that binds of kind `monitor` name without wildcards.
pub(super) fn want(table: &BindTable, party: &Party, network: &Network) {
    network.want_raw(*party.wants_raw().borrow() || table.has_any(RAW));
    network.want_history(table.has_any(HISTORY));
    let named = |mask: &Arc<str>| (!mask.contains(['*', '?', '%', '~', '\\', ' ', ','])).then(|| mask.to_string());
    let nicks: Vec<String> = table.masks(Kind::Monitor).iter().filter_map(named).collect();
    network.want_watched(&nicks);
}

/// Tells the networks what anybody wants, whenever that changes.
pub(super) async fn follow_raw(table: BindTable, party: Party, outbox: Outbox, mut shutdown: Shutdown) {
    let (mut changes, mut raw) = (table.changes(), party.wants_raw());
    loop {
        raw.borrow_and_update();
        for network in outbox.networks() {
            want(&table, &party, &network);
        }
        tokio::select! {
            () = shutdown.recv() => return,
            changed = changes.changed() => if changed.is_err() { return },
            // The party is ours as long as we look.
            Ok(()) = raw.changed() => {}
        }
    }
}

/// Takes over what another process did to the users, unless it breaks the policy, and tells that it did.
pub(super) async fn follow_users(
    store: Store,
    book: Book,
    mut known: i64,
    holds: impl Fn(Vec<User>) -> Result<(), Broken> + Send,
    tell: impl Fn() + Send,
    mut shutdown: Shutdown,
) {
    // What is not taken is looked at again: the policy may be another by then.
    let mut refused: Option<Broken> = None;
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
        if now == known && refused.is_none() {
            continue;
        }
        let _turn = book.turn().await;
        match read_users(&store).await {
            Ok(users) => {
                known = now;
                if let Err(broken) = holds(users.clone()) {
                    if refused.as_ref() != Some(&broken) {
                        tracing::error!(%broken, "The users were changed and are not taken; those known before stay");
                    }
                    refused = Some(broken);
                    continue;
                }
                tracing::info!(users = users.len(), "Users read again");
                refused = None;
                book.fill(users);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bot::people::row_of;
    use crate::config::ConfigFault;
    use crate::yaml::Spot;

    #[tokio::test(start_paused = true)]
    async fn people_that_break_the_policy_are_not_taken_over_until_they_do_not() {
        let (store, book) = (Store::memory(), Book::new());
        let put = async |flags: &str| {
            let user = User::with_account("bob", "net", "bob", flags).unwrap();
            store.put_user(&row_of(&user)).await.unwrap();
        };
        let flags = || book.get("bob").map(|user| user.flags.to_string());
        let spot = Spot { file: Path::new("policy.yaml").into(), line: 1, column: 1 };
        let holds = move |users: Vec<User>| match users.iter().any(|user| user.flags.to_string().contains('n')) {
            true => Err(Broken(vec![ConfigFault::at(&spot, "bob may !die")])),
            false => Ok(()),
        };
        let (stop, shutdown) = Shutdown::new();
        let known = store.users_revision().await.unwrap();
        let following = tokio::spawn(follow_users(store.clone(), book.clone(), known, holds, || (), shutdown));
        put("D").await;
        tokio::time::sleep(2 * USERS_LOOK).await;
        assert_eq!(flags().as_deref(), Some("D"));
        put("n").await;
        tokio::time::sleep(2 * USERS_LOOK).await;
        assert_eq!(flags().as_deref(), Some("D"), "who was known before stays");
        put("v").await;
        tokio::time::sleep(2 * USERS_LOOK).await;
        assert_eq!(flags().as_deref(), Some("v"));
        stop.stop();
        following.await.unwrap();
    }
}
