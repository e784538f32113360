//! A running bot: everything started in order, reloaded in place, stopped in order.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use masterchief_bindings::stream::Publishers;
use masterchief_bindings::time::TimeSource;
use masterchief_bindings::webhook;
use masterchief_contract::{Clock, INLET_DEPTH, Inlet, Kind, Live, Matching, Meter, Outlet, Shutdown, Stopper, inlet};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::audit::Audit;
use super::builder::{Builder, RUST, Rules, rules};
use super::calls::Calls;
use super::deliver::{Deliveries, WantedStream};
use super::follow::{RAW, follow_raw, follow_scripts, follow_users, tell_of};
use super::ingest::{Feeds, Ingest};
use super::letters::Desk;
use super::outbox::{Outbox, Place};
use super::people::{PeopleError, read_users, row_of};
use super::schedules::Schedules;
use super::scripts::{Reloaded, Scripts};
use super::street::Street;
use super::{builtin, letters, words};
use crate::config;
use crate::dispatch::{BindFault, BindTable};
use crate::gateway::{Door, Gateway, GatewayError};
use crate::irc::{self, Dial, Network};
use crate::journal::{self, Journal, JournalError};
use crate::lua::{LoadError, Placement, ScriptSettings, ScriptStatus, Services};
use crate::partyline;
use crate::store::{AuditRow, Store, StoreError};
use crate::users::{Book, FlagFault, User, UserFault};

/// The file that says whose the data folder is.
const LOCK: &str = "masterchief.lock";
/// The journal under the data folder.
pub(crate) const JOURNAL: &str = "journal.db";
/// The database under the data folder.
const DATABASE: &str = "masterchief.db";

/// Why a bot does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The records cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder cannot be used.
    #[error("the data folder {}: {reason}", folder.display())]
    Data {
        /// Which.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The users cannot be read.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// A role or the hostmask flags are wrong.
    #[error("users.{key}, {fault}")]
    Flags {
        /// The key in the configuration.
        key: String,
        /// What is wrong.
        fault: FlagFault,
    },
    /// A bind of the bot's own.
    #[error(transparent)]
    Bind(#[from] BindFault),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The gateway's port cannot be opened.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A script that a test needs.
    #[error(transparent)]
    Script(#[from] LoadError),
    /// A network that a test needs.
    #[error("network {network}: {reason}")]
    Network {
        /// Which.
        network: String,
        /// What happened.
        reason: String,
    },
}

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
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) journal: Journal,
    pub(super) feeds: Feeds,
    pub(super) source_settings: watch::Sender<Arc<masterchief_bindings::Settings>>,
    pub(super) ingest: Option<Ingest>,
    pub(super) ingest_task: Option<JoinHandle<()>>,
    pub(super) gateway: Option<Gateway>,
    pub(super) publishers: Publishers,
    pub(super) inlet: Inlet,
    pub(super) clock: Clock,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) networks: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Ends the sources: schedules, watchers, the console.
    pub(super) sources: Stopper,
    pub(super) source_tasks: Vec<JoinHandle<()>>,
    /// Ends the street.
    pub(super) street: Stopper,
    pub(super) street_task: JoinHandle<()>,
    /// Ready when the console's input has ended.
    pub(super) console: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other bots away from our records; let go when it is closed.
    pub(super) _lock: Option<File>,
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
}

impl Started {
    pub(crate) async fn start(builder: Builder) -> Result<Started, StartError> {
        let Builder { kinds, binds, networks, dial, clock, data, users, limits, scripts, only_script, .. } = builder;
        // Sources find it by themselves; whoever embeds the bot may have chosen another before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lock = data.as_deref().map(lock_folder).transpose()?;
        let store = match &data {
            Some(folder) => Store::open(&folder.join(DATABASE)).await?,
            None => Store::memory(),
        };
        let book = Book::new();
        book.configure(&users).map_err(|(key, fault)| StartError::Flags { key, fault })?;
        // Before the users are read: what changes meanwhile is then read again.
        let revision = store.users_revision().await?;
        book.fill(read_users(&store).await?);
        let table = BindTable::new();
        let reloadable = Arc::new(OnceLock::new());
        let outbox = Outbox::default();
        let (inlet, parcels) = inlet(INLET_DEPTH);
        let (records, records_end) = Shutdown::new();
        let (audit, audit_writer) = Audit::start(store.clone(), records_end);
        let rules = Arc::new(ArcSwap::from_pointee(builder.rules));
        let calls = Arc::new(Calls::new(Arc::new(outbox.clone()), audit, clock.clone(), Arc::clone(&rules)));
        let journal = journal::open(
            data.as_ref().map(|folder| folder.join(JOURNAL)).as_deref(),
            builder.journal,
            kinds.all().filter(|spec| spec.matching == Matching::Journal),
            clock.clone(),
        )?;
        let desk = Desk { journal: journal.clone(), table: table.clone(), calls: Arc::clone(&calls) };
        let mut own = builtin::binds(&kinds, &table, &book, &reloadable)?;
        own.extend(letters::binds(&kinds, &desk)?);
        table.replace(builtin::OWNER, own);
        table.replace(RUST, binds);
        let street =
            Street { table: table.clone(), book: book.clone(), calls: Arc::clone(&calls), told: Mutex::default() };
        let (street_stopper, street_shutdown) = Shutdown::new();
        let street_task = tokio::spawn(street.run(parcels, street_shutdown, Arc::clone(&rules)));

        let (sources, shutdown) = Shutdown::new();
        let (schedules, schedule_writer) = Schedules::start(store.clone()).await?;
        let time = Box::new(TimeSource::new(Arc::new(schedules)));
        let mut source_tasks = vec![
            tokio::spawn(time.run(table.bound(), inlet.clone(), clock.clone(), shutdown.clone())),
            tokio::spawn(follow_raw(table.clone(), outbox.clone(), shutdown.clone())),
        ];
        source_tasks.push({
            let (journal, shutdown) = (journal.clone(), shutdown.clone());
            tokio::spawn(async move { journal.look_after(shutdown).await })
        });
        let (source_settings, follow_settings) = watch::channel(Arc::new(builder.sources));
        let feeds = Feeds::default();
        let mut makers = builder.makers;
        let door = Door::default();
        let mut always = Vec::new();
        if builder.gateway.listen.is_some() {
            let door = door.clone();
            makers.own.insert(Kind::Webhook, Arc::new(move |_: &str, meter: &Arc<Meter>| Ok(door.source(meter))));
            always.push(WantedStream { kind: Kind::Webhook, stream: Arc::from(webhook::STREAM) });
        }
        let ingest = Ingest {
            always,
            deliveries: Deliveries::new(table.clone(), journal.clone(), Arc::clone(&calls), clock.clone()),
            journal: journal.clone(),
            makers,
            settings: follow_settings,
            rules: Arc::clone(&rules),
            feeds: feeds.clone(),
            clock: clock.clone(),
            data: data.clone(),
            running: BTreeMap::new(),
        };
        if data.is_some() {
            source_tasks.push(tokio::spawn(follow_users(store.clone(), book.clone(), revision, shutdown.clone())));
        }
        let publishers = Publishers::new(source_settings.borrow().clone());
        let script_settings = Arc::new(ArcSwap::from_pointee(ScriptSettings { limits, blocks: builder.blocks }));
        let scripts = scripts.map(|folder| {
            let services = Services {
                outlet: Arc::new(outbox.clone()) as Arc<dyn Outlet>,
                world: Arc::new(outbox.clone()),
                store: store.clone(),
                clock: clock.clone(),
                kinds: Arc::clone(&kinds),
                table: table.clone(),
                book: book.clone(),
                http: builder.http,
                shell: builder.shell,
                streams: builder.streams.unwrap_or_else(|| Arc::new(publishers.clone())),
                settings: Arc::clone(&script_settings),
                folder: folder.clone(),
            };
            Scripts::new(folder, services, table.clone(), builder.placement)
        });
        if let Some(scripts) = &scripts {
            // The first and only time.
            let _ = reloadable.set(scripts.clone());
        }
        let mut started = Started {
            table,
            book,
            store,
            outbox,
            calls,
            scripts,
            only_script,
            script_settings,
            rules,
            journal,
            feeds,
            source_settings,
            ingest: Some(ingest),
            ingest_task: None,
            gateway: None,
            publishers,
            inlet,
            clock,
            dial,
            networks: Mutex::default(),
            sources,
            source_tasks,
            street: street_stopper,
            street_task,
            console: Mutex::new(None),
            _lock: lock,
            records,
            writers: vec![audit_writer, schedule_writer],
        };
        let following = started.load_scripts(builder.placement, shutdown.clone()).await?;
        started.source_tasks.extend(following);
        for (name, settings) in networks {
            started.add_network(&name, settings);
        }
        if let Some(console) = builder.console {
            started.outbox.put(partyline::NETWORK, Place::Console(console.clone()));
            let (inlet, clock) = (started.inlet.clone(), started.clock.clone());
            let until = shutdown.clone();
            let reading = tokio::spawn(async move { console.read(inlet, clock, until).await });
            *started.console.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        }
        // Last: what waited in the journal is handled at once, and may want to speak.
        started.start_ingest(shutdown.clone()).await;
        started.open_gateway(builder.gateway, door, shutdown).await?;
        Ok(started)
    }

    /// Loads the scripts; gives the task that watches their files.
    async fn load_scripts(
        &self,
        placement: Placement,
        shutdown: Shutdown,
    ) -> Result<Option<JoinHandle<()>>, StartError> {
        let Some(scripts) = &self.scripts else { return Ok(None) };
        if let Some(path) = &self.only_script {
            scripts.reload(path).await?;
            return Ok(None);
        }
        tell_of(&scripts.reload_all().await);
        let watched = placement == Placement::Thread;
        Ok(watched.then(|| tokio::spawn(follow_scripts(scripts.clone(), shutdown))))
    }

    /// The users.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The binds.
    pub fn table(&self) -> &BindTable {
        &self.table
    }

    /// The records.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where actions go: what a handler's event does, from outside a handler.
    pub fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::new(self.outbox.clone())
    }

    /// Writes a user into the book and the records.
    pub async fn put_user(&self, user: User) -> Result<(), PutError> {
        self.book.put(user.clone())?;
        self.store.put_user(&row_of(&user)).await?;
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
    /// changed. The data folder and the scripts' folder stay as they were until a restart.
    pub async fn reconfigure(&self, config: &config::Config) -> Result<(), StartError> {
        self.book.configure(&config.users).map_err(|(key, fault)| StartError::Flags { key, fault })?;
        self.rules.store(Arc::new(rules(config)));
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
        if let Some(gateway) = &self.gateway {
            gateway.configure(config.gateway.clone());
        }
        let sources = Arc::new(config.sources.clone());
        self.publishers.configure(Arc::clone(&sources)).await;
        self.source_settings.send_if_modified(|now| {
            let changed = **now != *sources;
            *now = sources;
            changed
        });
        let settings = ScriptSettings { limits: config.scripts.limits, blocks: config.scripts.settings.clone() };
        if **self.script_settings.load() != settings {
            self.script_settings.store(Arc::new(settings));
            self.reload_scripts().await;
        }
        Ok(())
    }

    fn add_network(&self, name: &str, settings: irc::Settings) {
        let (network, task) =
            Network::start(name, settings, Arc::clone(&self.dial), self.inlet.clone(), self.clock.clone());
        network.want_raw(self.table.has_any(RAW));
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
        self.sources.stop();
        if let Some(gateway) = self.gateway {
            gateway.closed().await;
        }
        for task in self.source_tasks.into_iter().chain(self.ingest_task) {
            ended(task).await;
        }
        self.street.stop();
        ended(self.street_task).await;
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
        self.store.close().await;
        self.journal.close().await;
    }
}

/// Takes the data folder for this process.
fn lock_folder(folder: &Path) -> Result<File, StartError> {
    let fault = |reason: String| StartError::Data { folder: folder.to_owned(), reason };
    // What services post may be nobody else's business.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|failed| fault(failed.to_string()))?;
    let file = File::create(folder.join(LOCK)).map_err(|failed| fault(failed.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(fault("another bot runs with it; stop that one, or name another folder under `data`".to_owned()))
        }
        Err(TryLockError::Error(failed)) => Err(fault(failed.to_string())),
    }
}

/// Why a user was not written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The record is wrong.
    #[error(transparent)]
    User(#[from] UserFault),
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
