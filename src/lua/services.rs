//! What a script is given to act with. The bot fills it in; a test fills in doubles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use masterchief_bindings::stream::Publish;
use masterchief_contract::{Clock, Inlet, Outlet};
use serde_json::Value;

use super::asks::Asks;
use super::settings::Settings;
use crate::dispatch::{BindTable, Index, Kinds};
use crate::executors::{Http, Shell};
use crate::irc::Member;
use crate::mesh::Mesh;
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::Book;

/// Everything a script may reach.
#[derive(Clone)]
pub struct Services {
    /// Where actions go.
    pub outlet: Arc<dyn Outlet>,
    /// Where events go that scripts call.
    pub inlet: Inlet,
    /// What is known of the networks.
    pub world: Arc<dyn World>,
    /// What scripts keep.
    pub store: Store,
    /// The time of day.
    pub clock: Clock,
    /// The kinds that can be bound.
    pub kinds: Arc<Kinds>,
    /// Where binds made while running go.
    pub table: BindTable,
    /// Who people are.
    pub book: Book,
    /// HTTP for those who declare hosts.
    pub http: Arc<dyn Http>,
    /// Commands for those who declare them.
    pub shell: Arc<dyn Shell>,
    /// Pipelines, for those who declare them.
    pub pipelines: Option<Pipelines>,
    /// Questions to people that wait for an answer.
    pub asks: Asks,
    /// Other bots, where there are any.
    pub mesh: Option<Mesh>,
    /// Messages to brokers.
    pub streams: Arc<dyn Publish>,
    /// What the configuration says about scripts. A script has what it said when the script was loaded.
    pub settings: Arc<ArcSwap<ScriptSettings>>,
    /// Where `require` looks.
    pub folder: PathBuf,
    /// Judges what scripts bind while they run.
    pub guard: Guard,
}

/// Whether a table may be as a script would make it while it runs; nobody judges until somebody is set. Cheap to clone.
#[derive(Clone, Default)]
pub struct Guard {
    judge: Arc<OnceLock<Judge>>,
}

/// Says why a table may not be like that.
type Judge = Box<dyn Fn(&Index) -> Result<(), String> + Send + Sync>;

impl Guard {
    /// From now on this judges; only the first one counts.
    pub fn set(&self, judge: impl Fn(&Index) -> Result<(), String> + Send + Sync + 'static) {
        // Whoever comes second is not heard.
        let _ = self.judge.set(Box::new(judge));
    }

    /// Whether a table may be so; it is made only if somebody judges.
    pub fn allows(&self, index: impl FnOnce() -> Index) -> Result<(), String> {
        self.judge.get().map_or(Ok(()), |judge| judge(&index()))
    }
}

/// What the configuration says about scripts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScriptSettings {
    /// The limits of each.
    pub limits: Settings,
    /// The blocks that belong to scripts, by file name without `.lua`.
    pub blocks: BTreeMap<String, Value>,
}

/// What is known of the networks. An empty network name means the only one there is.
pub trait World: Send + Sync + 'static {
    /// The networks' names.
    fn networks(&self) -> Vec<String>;
    /// The bot's nick on a network.
    fn nick(&self, network: &str) -> Option<String>;
    /// The channels the bot is in.
    fn channels(&self, network: &str) -> Vec<String>;
    /// The members of a channel.
    fn members(&self, network: &str, channel: &str) -> Vec<Member>;
    /// Words without any secret.
    fn hide(&self, text: &str) -> String {
        text.to_owned()
    }
    /// The topic and modes of a channel the bot is in.
    fn channel(&self, network: &str, channel: &str) -> Option<(String, String)>;
}
