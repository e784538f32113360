//! What the engine asks of the bot around it: who somebody is now, who is there, and where deeds are written down.

use std::collections::BTreeSet;

use masterchief_contract::Future;

use super::engine::May;
use super::run::{Asker, Millis};
use crate::store::runs::IncidentRow;
use crate::users::FlagMask;

/// The bot around the engine.
pub trait Around: Send + Sync {
    /// What somebody may who is not here to ask, on the channel they asked in then: for runs that were booked.
    fn may(&self, who: &Asker) -> May;

    /// Whether the network of a place such as `libera/#ops` is there now.
    fn present(&self, place: &str) -> bool;

    /// Handles that pipelines name, so that whoever has one may approve; with `more`, beside those that were told before.
    fn names(&self, handles: &BTreeSet<String>, more: bool);

    /// The handles of those who have these flags at a place.
    fn who_may(&self, flags: &FlagMask, place: &str) -> Vec<String>;

    /// Where somebody with this handle is now, vouched for: network and nick.
    fn find(&self, handle: &str) -> Option<(String, String)>;

    /// The nicks in a channel; none where it is no channel that we are in.
    fn nicks(&self, place: &str) -> Vec<String>;

    /// Alerts that began at this moment or later, the newest first: when, and a few words.
    fn alerts(&self, since: Millis) -> Future<Vec<(Millis, String)>>;

    /// Lines of the incident logs of other bots about an app since then, the newest first, each with its bot.
    fn told(&self, app: &str, since: Millis, limit: u32) -> Future<Vec<(String, IncidentRow)>>;

    /// A line without the secrets in it, for places that are no IRC network.
    fn hide(&self, text: &str) -> String;

    /// Writes into the audit trail who asked for what, and why it was not done if it was not.
    fn note(&self, who: &Asker, deed: &str, refused: Option<&str>);
}
