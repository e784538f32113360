//! What may be said about a bind beyond its mask.

use std::time::Duration;

/// The number of a bind: never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindId(pub u64);

/// The options of a bind, the fifth argument of `bot.bind`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BindOptions {
    /// The grammar of the arguments, as in `<app> [env:staging|prod=staging] [--force]`.
    pub usage: Option<String>,
    /// One sentence for `!help`.
    pub help: Option<String>,
    /// Other words that call the same handler (`pub` and `msg` only).
    pub aliases: Vec<String>,
    /// How often it may be called.
    pub cooldown: Cooldown,
    /// The longest a call may take before it is abandoned. `None` is the configured default.
    pub timeout: Option<Duration>,
    /// The zone of a schedule, an IANA name such as `Europe/Lisbon`. `None` is UTC.
    pub tz: Option<String>,
    /// What a schedule does about runs that were missed while the bot was down or asleep.
    pub missed: Missed,
    /// Whether a scheduled run may start while the one before it still runs.
    pub overlap: bool,
}

/// The shortest time between two calls of a bind; `None` does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cooldown {
    /// Between two calls by the same person (account, else user@host).
    pub user: Option<Duration>,
    /// Between two calls in the same channel.
    pub channel: Option<Duration>,
    /// Between any two calls.
    pub global: Option<Duration>,
}

/// What a schedule does about missed runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// Forget them.
    #[default]
    Skip,
    /// Run once for all of them.
    Once,
    /// Run each of them, oldest first, at most 1,000.
    All,
}
