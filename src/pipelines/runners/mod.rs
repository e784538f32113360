//! Runners: the bot itself and other bots that do the work of stages, each with labels and slots. A stage that says
//! `runner: build` goes only to one that has that label.

mod errand;
mod handle;
mod known;
mod recovery;
mod roster;
mod settings;
mod wanted;

use serde::{Deserialize, Serialize};

pub use errand::{Elsewhere, Errand, Nowhere, WORKSPACE_THERE};
pub use known::{Known, known};
pub(super) use recovery::{Recovery, recovery};
pub(super) use roster::{Found, How, Roster};
pub use roster::{Offer, RunnerRow};
pub use settings::Settings;
pub(super) use wanted::is_label;
pub use wanted::{Wanted, unknown_labels};

/// The runner on which an attempt is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name among the bots.
    pub name: String,
    /// Whether it is this bot.
    pub here: bool,
}

/// The name of this bot as a runner where it has none among bots.
pub const HERE: &str = "here";
