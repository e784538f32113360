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
    /// Where replies to events of no channel go: `#ops`, `alice`, `libera/#ops`.
    pub to: Option<String>,
    /// Which bots call it, where several share a network.
    pub acts: Acts,
    /// How an event from the journal is delivered.
    pub delivery: DeliveryOptions,
}

/// Which bots call a bind that nobody stands behind, where a group of them shares a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acts {
    /// A schedule is called by the one that acts, everything else by whoever reads it.
    #[default]
    Usual,
    /// All of them.
    All,
    /// The one that acts on this network.
    On(String),
}

/// How events from the journal are delivered to a bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// How often an event is tried before it is a dead letter. At least 1.
    pub max_attempts: u32,
    /// The ceiling of the first wait between two tries; it doubles to five minutes, with full jitter.
    pub backoff: Duration,
    /// How many calls may run at once. At least 1; within a lane one at a time where the order is kept.
    pub conc: u32,
    /// Whether the order within a lane (a file, a partition, a route) is kept.
    pub order: Order,
    /// What becomes of a call during which the process died.
    pub on_crash: OnCrash,
}

impl Default for DeliveryOptions {
    fn default() -> DeliveryOptions {
        DeliveryOptions {
            max_attempts: 5,
            backoff: Duration::from_secs(1),
            conc: 8,
            order: Order::Lane,
            on_crash: OnCrash::Retry,
        }
    }
}

/// Whether order is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Within a lane one event after the other; one that fails holds up those behind it until it is done or dead.
    #[default]
    Lane,
    /// Whichever comes.
    None,
}

/// What becomes of a call during which the process died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCrash {
    /// It is tried again.
    #[default]
    Retry,
    /// It is held for an operator: right for what must not be done twice.
    Hold,
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
