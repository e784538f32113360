//! A running bot: everything started in order, reloaded in place, stopped in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use masterchief_bindings::stream::Publishers;
use masterchief_contract::{Clock, Inlet, Outlet, Stopper};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builder::{Rules, rules};
use super::calls::Calls;
use super::follow::{tell_of, want};
use super::ingest::{Feeds, Ingest};
use super::later::Later;
use super::lock::FolderLock;
use super::outbox::{Outbox, Place};
use super::partyline::Partyline;
use super::people::row_of;
use super::policy::{Broken, Policy};
use super::scripts::{Reloaded, Scripts};
use super::start::{Meshed, Passing};
use super::{StartError, deploys, mesh, words};
use crate::config::{self, ConfigFault};
use crate::dispatch::{BindTable, Kinds};
use crate::gateway::Gateway;
use crate::irc::{self, Dial, Network};
use crate::journal::Journal;
use crate::lua::{ScriptSettings, ScriptStatus};
use crate::mesh::{Led, Mesh};
use crate::partyline::NETWORK;
use crate::pipelines::Pipelines;
use crate::store::{AuditRow, Store, StoreError};
use crate::users::{Book, User, UserFault};

/// The journal under the data folder.
pub(crate) const JOURNAL: &str = "journal.db";

/// The folder of runs under the data folder, and with an end the name of their records.
pub(crate) const RUNS: &str = "runs";

/// A running bot.
pub struct Started {
    pub(super) table: BindTable,
    pub(super) book: Book,
    pub(super) store: Store,
    pub(super) outbox: Outbox,
    pub(super) calls: Arc<Calls>,
    pub(super) scripts: Option<Scripts>,
    pub(super) only_script: Option<PathBuf>,
    pub(super) script_settings: Arc<ArcSwap<ScriptSettings>>,
    /// What it keeps of what it was started with.
    pub(super) later: Later,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) journal: Journal,
    pub(super) feeds: Feeds,
    pub(super) source_settings: watch::Sender<Arc<masterchief_bindings::Settings>>,
    pub(super) ingest: Option<Ingest>,
    pub(super) ingest_task: Option<JoinHandle<()>>,
    pub(super) gateway: Option<Gateway>,
    pub(super) partyline: Partyline,
    pub(super) meshed: Meshed,
    pub(super) pipelines: Pipelines,
    /// Who may what, as a table that holds.
    pub(super) policy: Policy,
    pub(super) kinds: Arc<Kinds>,
    /// Ends the engine of pipelines, after everything that may ask for a run; steps that are under way outlive it.
    pub(super) runs_end: Stopper,
    /// How many speak through the control socket.
    pub(super) asking: watch::Sender<usize>,
    pub(super) publishers: Publishers,
    pub(super) inlet: Inlet,
    pub(super) clock: Clock,
    pub(super) dial: Arc<dyn Dial>,
    /// Which servers demand TLS.
    pub(super) policies: irc::Policies,
    pub(super) networks: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Ends the sources: schedules, watchers, the console.
    pub(super) sources: Stopper,
    pub(super) source_tasks: Vec<JoinHandle<()>>,
    /// Ends the street.
    pub(super) street: Stopper,
    pub(super) street_task: JoinHandle<()>,
    /// Ready when the console's input has ended.
    pub(super) console: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other bots away from our records, and what is there only for a bot that keeps nothing; let go when it is closed.
    pub(super) _held: (Option<FolderLock>, Option<Passing>),
    /// Ends the audit's writer.
    pub(super) records: Stopper,
    pub(super) writers: Vec<JoinHandle<()>>,
}

/// How a bot is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The networks.
    pub networks: Vec<irc::Status>,
    /// The scripts.
    pub scripts: Vec<ScriptStatus>,
    /// Users in the book.
    pub users: usize,
    /// Binds in the table.
    pub binds: usize,
    /// Lines that were said, or may be, and could not be written down when that was last tried.
    pub unwritten: usize,
}

impl Started {
    /// The users.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The binds.
    pub fn table(&self) -> &BindTable {
        &self.table
    }

    /// The pipelines.
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// Other bots, where a mesh is configured.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.meshed.mesh.as_ref()
    }

    /// Who acts on a network that a group of bots shares; nothing where none does.
    pub fn leader(&self, network: &str) -> Option<Led> {
        self.outbox.leads.of(network)
    }

    /// Ready when nobody speaks through the control socket.
    pub async fn nobody_asks(&self) {
        // The sender is ours, so it does not fail.
        let _ = self.asking.subscribe().wait_for(|asking| *asking == 0).await;
    }

    /// Adds a pipeline that is in no file, and the words for it.
    pub async fn put_pipeline(&self, name: &str, text: &str) -> Result<(), Vec<ConfigFault>> {
        self.pipelines.put(name, text).await?;
        self.bind_pipelines();
        Ok(())
    }

    fn bind_pipelines(&self) {
        if let Err(fault) = deploys::bind(&self.kinds, &self.table, &self.pipelines, &self.book) {
            tracing::error!(%fault, "The words for pipelines cannot be bound");
        }
    }

    /// The records.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where actions go: what a handler's event does, from outside a handler.
    pub fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::new(self.outbox.clone())
    }

    /// Writes a user into the book and the records, unless that breaks the policy.
    pub async fn put_user(&self, user: User) -> Result<(), PutError> {
        let _turn = self.book.turn().await;
        self.policy.holds_for_user(&user)?;
        self.book.may_put(&user, None)?;
        self.store.put_user(&row_of(&user)).await?;
        self.book.put(user)?;
        Ok(())
    }

    /// The newest lines of the audit trail, newest first.
    pub async fn audit_recent(&self, count: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.store.audit_recent(count).await
    }

    /// How it is doing.
    pub async fn status(&self) -> Status {
        let scripts = match &self.scripts {
            Some(scripts) => scripts.status().await,
            None => Vec::new(),
        };
        Status {
            networks: self.outbox.networks().iter().map(Network::status).collect(),
            scripts,
            users: self.book.all().len(),
            binds: self.table.rows().len(),
            unwritten: self.outbox.speech.ledger.unwritten(),
        }
    }

    /// An IRC network, by name.
    pub fn network(&self, name: &str) -> Option<Network> {
        self.outbox.network(name)
    }

    /// Loads every script anew; those that fail stay as they were.
    pub async fn reload_scripts(&self) -> Reloaded {
        let Some(scripts) = &self.scripts else {
            return Reloaded::default();
        };
        let report = match &self.only_script {
            None => scripts.reload_all().await,
            Some(path) => {
                let mut report = Reloaded::default();
                scripts.reload_into(path, &mut report).await;
                report
            }
        };
        tell_of(&report);
        report
    }

    /// Takes another configuration without dropping a connection. Scripts are loaded anew if what it says about them
    /// changed. Gives what of it does not count now, a sentence each: what counts from the next start of the process, and pipelines that
    /// cannot be read. The data folder, the scripts' folder and the log stay as they were too.
    pub async fn reconfigure(&self, config: &config::Config) -> Result<Vec<String>, StartError> {
        // What may be refused comes first, so that all of it is taken or nothing.
        let relays = self.meshed.mesh.as_ref();
        let relays = relays.map(|mesh| mesh::Relays::of(&self.kinds, &self.table, mesh, &config.mesh.relay));
        let relays = relays.transpose()?;
        self.policy.take(config)?;
        self.tell("prerehash");
        self.book.configure(&config.users).map_err(|(key, fault)| StartError::Flags { key, fault })?;
        self.rules.store(Arc::new(rules(config)));
        self.outbox.speech.ledger.hide_from_now_on(&config.secrets);
        for network in self.outbox.networks() {
            match config.networks.get(network.name()) {
                Some(settings) => network.reconfigure(settings.clone()),
                None => {
                    network.disconnect("this network is no longer configured");
                    self.outbox.remove(network.name());
                }
            }
        }
        for (name, settings) in &config.networks {
            if self.outbox.network(name).is_none() {
                self.add_network(name, settings.clone());
            }
        }
        let mut later = self.later.of_these(config);
        if let Some(gateway) = &self.gateway {
            if let Some(url) = &config.gateway.url {
                self.outbox.speech.gateway.store(Some(Arc::new(url.trim_end_matches('/').to_owned())));
            }
            later.extend(gateway.configure(config.gateway.clone()));
        } else if config.gateway.listen.is_some() {
            later.push("gateway.listen");
        }
        later.extend(self.partyline.configure(config.partyline.clone()));
        if let Some(mesh) = &self.meshed.mesh {
            mesh.configure(config.mesh.clone()).await;
        }
        if let Some(relays) = relays {
            relays.bind(&self.table);
        }
        let sources = Arc::new(config.sources.clone());
        self.publishers.configure(Arc::clone(&sources)).await;
        self.source_settings.send_if_modified(|now| {
            let changed = **now != *sources;
            *now = sources;
            changed
        });
        if config.pipelines.records != self.pipelines.settings().records {
            later.push("pipelines.records");
        }
        self.meshed.runners.configure(config.runner.clone());
        let mut told: Vec<String> =
            later.iter().map(|name| format!("{name} counts from the next start of the process")).collect();
        let faults = self.pipelines.reload(Some(config.pipelines.clone())).await;
        told.extend(faults.iter().map(|fault| format!("a pipeline cannot be read, the others are there: {fault}")));
        told.iter().for_each(|sentence| tracing::warn!(%sentence, "Not all of the configuration counts"));
        self.bind_pipelines();
        let settings = ScriptSettings { limits: config.scripts.limits, blocks: config.scripts.settings.clone() };
        if **self.script_settings.load() != settings {
            self.script_settings.store(Arc::new(settings));
            self.reload_scripts().await;
        }
        self.tell("rehash");
        Ok(told)
    }

    /// The networks of the start. What waits for others than these expires.
    pub(super) fn add_networks(&self, networks: BTreeMap<String, irc::Settings>) {
        let names: Vec<String> = networks.keys().cloned().collect();
        networks.into_iter().for_each(|(name, settings)| self.add_network(&name, settings));
        self.outbox.speech.ledger.give_up(&names);
    }

    fn add_network(&self, name: &str, settings: irc::Settings) {
        let (dial, inlet, clock) = (Arc::clone(&self.dial), self.inlet.clone(), self.clock.clone());
        let around = Arc::new(self.outbox.speech.ledger.clone());
        let (network, task) = Network::start(name, settings, dial, inlet, clock, self.policies.clone(), around);
        // It ends when all of it is queued, or the network is gone.
        tokio::spawn(self.outbox.speech.clone().resume(network.clone()));
        want(&self.table, &self.partyline.party, &network);
        self.outbox.put(name, Place::Irc(network));
        self.networks.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), task);
    }

    /// Ready when the console's input has ended; never without a console.
    pub async fn console_ended(&self) {
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner).take();
        match console {
            // A panic of the console ends it too.
            Some(reading) => drop(reading.await),
            None => std::future::pending().await,
        }
    }

    /// Stops in order: sources, the street with what is still in it, scripts, networks with what is still queued,
    /// records.
    pub async fn stop(self, reason: &str) {
        self.tell_save().await;
        self.tell_end(reason);
        self.sources.stop();
        if let Some(gateway) = self.gateway {
            gateway.closed().await;
        }
        self.partyline.close().await;
        for task in self.source_tasks.into_iter().chain(self.ingest_task) {
            ended(task).await;
        }
        self.street.stop();
        ended(self.street_task).await;
        self.meshed.end.stop();
        for task in self.meshed.tasks {
            ended(task).await;
        }
        self.runs_end.stop();
        let grace = self.rules.load().grace;
        // No call is left, so nobody needs the binds; the scripts end when they are gone.
        self.table.clear();
        if let Some(scripts) = &self.scripts {
            scripts.stop(grace).await;
        }
        for network in self.outbox.networks() {
            network.disconnect(&words::goodbye(reason));
        }
        let networks = std::mem::take(&mut *self.networks.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, task) in networks {
            ended(task).await;
        }
        self.records.stop();
        for writer in self.writers {
            ended(writer).await;
        }
        // Each knows the other: without this neither would ever be let go.
        self.outbox.watched.store(None);
        self.outbox.remove(NETWORK);
        self.store.close().await;
        self.journal.close().await;
    }
}

/// Why a user was not written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The record is wrong.
    #[error(transparent)]
    User(#[from] UserFault),
    /// Somebody could do what they should not, or could not do what they should.
    #[error(transparent)]
    Policy(#[from] Broken),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Waits for a task. If it panicked, that is said and the rest still stops in order.
async fn ended(task: JoinHandle<()>) {
    if let Err(fault) = task.await {
        tracing::error!(%fault, "A task of the bot did not end well");
    }
}
