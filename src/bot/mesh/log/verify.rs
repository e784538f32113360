//! Whether the logs of other bots that are kept here are as those told them; from a shell, without the bot.

use chrono::Utc;

use super::super::share::{forget_key, kept_pins};
use super::chain::fault;
use super::{FAULTS, PAGE};
use crate::store::{Store, StoreError};

/// What is kept of the log of a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The bot, in lower case.
    pub(crate) origin: String,
    /// How many lines.
    pub(crate) lines: u64,
    /// What is wrong with it: here, or as the bot that runs has noticed.
    pub(crate) faults: Vec<String>,
}

/// Looks at all of them, and at what was noticed of our own.
pub(crate) async fn verify_told(store: &Store) -> Result<Vec<Kept>, StoreError> {
    let now = Utc::now();
    let pins = kept_pins(store, now).await?;
    let heads = store.told_heads().await?;
    let mut origins: Vec<String> = heads.into_keys().collect();
    for name in store.kv_names(FAULTS, "", 1000, now).await? {
        if !origins.contains(&name) {
            origins.push(name);
        }
    }
    let mut out = Vec::new();
    for origin in origins {
        let (mut lines, mut last, mut faults) = (0, None, Vec::new());
        let mut from = 0;
        loop {
            let rows = store.told_from(&origin, from, PAGE).await?;
            let Some(newest) = rows.last() else { break };
            from = newest.row.id + 1;
            lines += rows.len() as u64;
            if let Some(tampered) = fault(rows.iter(), &pins, &mut last) {
                faults.push(tampered.to_string());
                break;
            }
        }
        let noticed = store.kv_get(FAULTS, &origin, now).await?;
        faults.extend(noticed.and_then(|why| why.as_str().map(str::to_owned)));
        out.push(Kept { origin, lines, faults });
    }
    Ok(out)
}

/// Forgets what is kept of the log of a bot, what was noticed of it, and its key; whether there was anything.
pub(crate) async fn forget_told(store: &Store, origin: &str) -> Result<bool, StoreError> {
    let origin = origin.to_ascii_lowercase();
    let noticed = store.kv_delete(FAULTS, &origin).await?;
    let had_key = forget_key(store, &origin, Utc::now()).await?;
    Ok(store.forget_told(&origin).await? || noticed || had_key)
}
