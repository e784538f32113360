//! Deciding: which handlers an event is for, and whether this person may. It never waits and knows no server.

mod bans;
mod bind;
mod cooldown;
mod decide;
mod flood;
mod kinds;
mod table;
mod usage;

pub use bans::{Ban, Held, Pass, PassSort, place_key};
pub use bind::{Bind, BindFault, NewBind, Turn};
pub use cooldown::Cooldowns;
pub use decide::{Decision, Denied, Policy, Step, decide};
pub use flood::{ChannelRates, Deed, FloodSettings, Floods, Ignore, Rate, Since, Spared, Verdict};
pub use kinds::Kinds;
pub use table::{BindRow, BindTable, Index};
pub use usage::{Usage, UsageError, UsageFault};
