//! Starting a bot: its records are opened, then the street, then what comes in.

mod rooms;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use masterchief_bindings::stream::Publishers;
use masterchief_bindings::time::TimeSource;
use masterchief_contract::{INLET_DEPTH, Inlet, Live, Matching, Outlet, Shutdown, Stopper, inlet};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::audit::Audit;
use super::builder::{Builder, RUST, Rules};
use super::calls::Calls;
use super::floodgate::Floodgate;
use super::follow::{follow_raw, follow_scripts, follow_users, tell_of};
use super::ingest::Feeds;
use super::later::Later;
use super::ledger::Ledger;
use super::letters::Desk;
use super::lock::FolderLock;
use super::outbox::Outbox;
use super::overt::Overt;
use super::own::named;
use super::partyline::{Around, Opening as Faces, Partyline};
use super::people::read_users;
use super::policy::Policy;
use super::schedules::Schedules;
use super::scripts::Scripts;
use super::sieve::{note_taker, sieve};
use super::started::Started;
use super::street::Street;
use super::sudo::{self, Sudo};
use super::warden::Warden;
use super::why::Why;
use super::wishes::Wishes;
use super::{JOURNAL, RUNS, StartError, builtin, control, deploys, floodgate, letters, why};
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::executors::unguessable;
use crate::irc::{Policies, StsFault};
use crate::journal::{self, Journal};
use crate::lua::{Guard, Placement, ScriptSettings, Services};
use crate::mesh::Mesh;
use crate::partyline::{self, Party};
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::Book;

pub(super) use rooms::Meshed;
use rooms::Reading;

/// The database under the data folder.
pub(crate) const PEOPLE: &str = "masterchief.db";
/// Which servers demand TLS, under the data folder.
const STS: &str = "sts.json";

/// What everything else stands on: the records, and how calls are made.
struct Ground {
    lock: Option<FolderLock>,
    store: Store,
    book: Book,
    /// What the book was read at.
    revision: i64,
    table: BindTable,
    outbox: Outbox,
    rules: Arc<ArcSwap<Rules>>,
    journal: Journal,
    calls: Arc<Calls>,
    /// What stops floods.
    gate: Floodgate,
    /// Who is elevated.
    sudo: Sudo,
    /// Who did what.
    audit: Audit,
    /// Where operators are.
    party: Party,
    /// What the bot does in channels by itself.
    warden: Warden,
    /// Ends the audit's writer.
    records: Stopper,
    /// The same, for who waits for it.
    records_end: Shutdown,
    audit_writer: JoinHandle<()>,
    ledger_writer: JoinHandle<()>,
}

impl Ground {
    async fn open(builder: &Builder) -> Result<Ground, StartError> {
        // Sources find it by themselves; whoever embeds the bot may have chosen another before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lock = builder.data.as_deref().map(FolderLock::take).transpose()?;
        let store = match &builder.data {
            Some(folder) => Store::open(&folder.join(PEOPLE)).await?,
            None => Store::memory(),
        };
        let book = Book::new();
        book.configure(&builder.users).map_err(|(key, fault)| StartError::Flags { key, fault })?;
        // Before the users are read: what changes meanwhile is then read again.
        let revision = store.users_revision().await?;
        book.fill(read_users(&store).await?);
        let (records, records_end) = Shutdown::new();
        let opening = Ledger::open(store.clone(), builder.clock.clone(), &builder.secrets, records_end.clone());
        let (ledger, ledger_writer) = opening.await?;
        let outbox = Outbox::new(ledger);
        builder.mesh.doubts().iter().for_each(|doubt| tracing::warn!("{doubt}"));
        // Before anything comes in or goes out.
        outbox.leads.govern(builder.mesh.groups.keys());
        let (audit, audit_writer) = Audit::start(store.clone(), records_end.clone());
        let rules = Arc::new(ArcSwap::from_pointee(builder.rules.clone()));
        let clock = builder.clock.clone();
        let calls = Arc::new(Calls::new(&outbox, audit.clone(), clock.clone(), Arc::clone(&rules)));
        let journal = journal::open(
            builder.data.as_ref().map(|folder| folder.join(JOURNAL)).as_deref(),
            builder.journal.clone(),
            builder.kinds.all().filter(|spec| spec.matching == Matching::Journal),
            clock,
        )?;
        let table = BindTable::new();
        let key = "floods".to_owned();
        let gate = Floodgate::open(&store, &builder.clock).await.map_err(|fault| StartError::Flags { key, fault })?;
        let outlet: Arc<dyn Outlet> = Arc::new(outbox.clone());
        let nick = &builder.partyline.nick;
        let party = Party::new(nick, book.clone(), table.clone(), outlet, builder.clock.clone());
        let sudo = Sudo::new(&book, &audit, &outbox, &builder.clock);
        let warden = Warden::open(&store, &builder.clock, &book, &outbox).await?;
        Ok(Ground {
            gate,
            sudo,
            warden,
            party,
            records_end,
            lock,
            store,
            book,
            revision,
            table,
            outbox,
            rules,
            journal,
            calls,
            records,
            audit,
            audit_writer,
            ledger_writer,
        })
    }

    /// Binds what is the bot's own, and what was bound in Rust.
    fn bind(
        &self,
        kinds: &Kinds,
        binds: Vec<NewBind>,
        pipelines: &Pipelines,
        scripts: Option<&Scripts>,
    ) -> Result<(), StartError> {
        let reloadable = Arc::new(OnceLock::new());
        if let Some(scripts) = scripts {
            // The first and only time.
            let _ = reloadable.set(scripts.clone());
        }
        let desk = Desk { journal: self.journal.clone(), table: self.table.clone(), calls: Arc::clone(&self.calls) };
        let mut own = builtin::binds(kinds, &self.table, &self.book, &reloadable, Arc::clone(&self.rules))?;
        own.extend(floodgate::binds(kinds, &self.gate)?);
        own.extend(sudo::binds(kinds, &self.sudo)?);
        own.extend(letters::binds(kinds, &desk)?);
        let (store, book) = (self.store.clone(), self.book.clone());
        own.extend(why::binds(
            kinds,
            &Why { ledger: self.calls.ledger.clone(), store, book, pipelines: pipelines.clone() },
        )?);
        self.table.replace(builtin::OWNER, own);
        self.table.replace(RUST, binds);
        deploys::bind(kinds, &self.table, pipelines, &self.book)?;
        Ok(())
    }

    /// The partyline's commands, bound; nobody is in yet.
    fn partyline(
        &self,
        kinds: &Kinds,
        settings: partyline::Settings,
        (pipelines, scripts, feeds, policy, meshed): (&Pipelines, Option<&Scripts>, &Feeds, &Policy, &Meshed),
    ) -> Result<Partyline, BindFault> {
        let wishes = Wishes::default();
        let notes = Arc::<Notify>::default();
        let around = Around {
            outbox: self.outbox.clone(),
            scripts: scripts.cloned(),
            feeds: feeds.clone(),
            policy: policy.clone(),
            store: self.store.clone(),
            book: self.book.clone(),
            wishes: wishes.clone(),
            mesh: meshed.mesh.clone(),
            warden: self.warden.clone(),
            notes: Arc::clone(&notes),
            calls: Arc::downgrade(&self.calls),
            table: self.table.clone(),
            since: self.calls.clock.now(),
            clock: self.calls.clock.clone(),
        };
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let desk = Arc::new(partyline::Desk {
            party: self.party.clone(),
            book: self.book.clone(),
            store: self.store.clone(),
            table: self.table.clone(),
            journal: self.journal.clone(),
            pipelines: pipelines.clone(),
            outlet: Arc::new(self.outbox.clone()),
            settings: Arc::clone(&settings),
            host: Arc::new(around),
        });
        self.table.replace(partyline::OWNER, partyline::binds(kinds, &desk)?);
        Ok(Partyline { party: self.party.clone(), settings, faces: None, arrivals: None, wishes, own: None, notes })
    }

    /// Opens the street: what is put into the inlet is decided and called.
    fn open_street(&self) -> (Inlet, Stopper, JoinHandle<()>) {
        let (inlet, parcels) = inlet(INLET_DEPTH);
        // What is said becomes events too.
        self.calls.ledger.tell(Overt::new(self.table.clone(), &self.calls, inlet.clone()));
        self.party.sift(sieve(self.table.clone(), Arc::downgrade(&self.calls)));
        self.party.give_notes(note_taker(self.table.clone(), Arc::downgrade(&self.calls)));
        let street = Street {
            table: self.table.clone(),
            book: self.book.clone(),
            calls: Arc::clone(&self.calls),
            gate: self.gate.clone(),
            sudo: self.sudo.clone(),
            party: self.party.clone(),
            outbox: self.outbox.clone(),
            leads: self.outbox.leads.clone(),
            warden: self.warden.clone(),
            told: Mutex::default(),
        };
        let (stopper, shutdown) = Shutdown::new();
        tokio::spawn(self.sudo.clone().keep_time(shutdown.clone()));
        let task = tokio::spawn(street.run(parcels, shutdown, Arc::clone(&self.rules)));
        (inlet, stopper, task)
    }

    /// The scripts, not loaded yet.
    fn scripts(
        &self,
        builder: &Builder,
        publishers: &Publishers,
        pipelines: &Pipelines,
        mesh: Option<Mesh>,
        inlet: &Inlet,
        settings: &Arc<ArcSwap<ScriptSettings>>,
    ) -> Option<Scripts> {
        let folder = builder.scripts.clone()?;
        let services = Services {
            outlet: Arc::new(self.outbox.clone()) as Arc<dyn Outlet>,
            inlet: inlet.clone(),
            world: Arc::new(self.outbox.clone()),
            store: self.store.clone(),
            clock: builder.clock.clone(),
            kinds: Arc::clone(&builder.kinds),
            table: self.table.clone(),
            book: self.book.clone(),
            http: Arc::clone(&builder.http),
            shell: Arc::clone(&builder.shell),
            pipelines: Some(pipelines.clone()),
            asks: self.calls.asks.clone(),
            mesh,
            streams: builder.streams.clone().unwrap_or_else(|| Arc::new(publishers.clone())),
            settings: Arc::clone(settings),
            folder: folder.clone(),
            guard: Guard::default(),
        };
        Some(Scripts::new(folder, services, self.table.clone(), builder.placement))
    }
}

impl Started {
    pub(crate) async fn start(builder: Builder) -> Result<Started, StartError> {
        let ground = Ground::open(&builder).await?;
        let (source_settings, settings) = watch::channel(Arc::new(builder.sources.clone()));
        let publishers = Publishers::new(source_settings.borrow().clone());
        let (script_settings, later) = (builder.script_settings(), Later::of(&builder));
        let (runs_end, runs_shutdown) = Shutdown::new();
        let (pipelines, pipelines_task, runners) = ground.pipelines(&builder, runs_shutdown).await?;
        let (inlet, street, street_task) = ground.open_street();
        let meshed = ground.mesh(&builder, &inlet, &pipelines, &runners).await?;
        let scripts = ground.scripts(&builder, &publishers, &pipelines, meshed.mesh.clone(), &inlet, &script_settings);
        let Builder { kinds, binds, networks, dial, clock, data, only_script, console, live, .. } = builder;
        ground.bind(&kinds, binds, &pipelines, scripts.as_ref())?;
        let ((sources, shutdown), listens) = (Shutdown::new(), builder.gateway.listen.is_some());
        let relayed = meshed.door.clone();
        let (ingest, feeds, door) =
            ground.ingest(Reading { makers: builder.makers, settings, data: data.clone(), listens, relayed });
        let policy = Policy::open(builder.policy, &ground.table, &ground.book, &pipelines)?;
        let known = (&pipelines, scripts.as_ref(), &feeds, &policy, &meshed);
        let partyline = ground.partyline(&kinds, builder.partyline, known)?;
        let (audit, until, warden) = (ground.audit.clone(), ground.records_end.clone(), ground.warden.clone());
        let mut started = Started {
            table: ground.table,
            book: ground.book,
            store: ground.store,
            outbox: ground.outbox,
            calls: ground.calls,
            scripts,
            only_script,
            script_settings,
            later,
            rules: ground.rules,
            journal: ground.journal,
            feeds,
            source_settings,
            ingest: Some(ingest),
            ingest_task: None,
            gateway: None,
            partyline,
            meshed,
            _held: (ground.lock, Passing::of(data.as_deref(), pipelines.folder())),
            pipelines,
            policy,
            kinds,
            runs_end,
            asking: watch::Sender::new(0),
            publishers,
            inlet,
            clock,
            dial,
            policies: policies(data.as_deref())?,
            networks: Mutex::default(),
            sources,
            source_tasks: Vec::new(),
            street,
            street_task,
            console: Mutex::new(None),
            records: ground.records,
            writers: vec![ground.audit_writer, ground.ledger_writer, pipelines_task],
        };
        started.follow(data.as_ref().map(|_| ground.revision), &shutdown).await?;
        started.load_scripts(builder.placement, shutdown.clone()).await?;
        started.follow_pipelines(data.as_deref(), &shutdown);
        started.add_networks(networks);
        let faces = Faces { console, live, audit, data: data.as_deref(), until, web: listens, warden };
        started.open_partyline(faces, &shutdown).await?;
        started.start_ingest(shutdown.clone()).await;
        started.open_gateway(builder.gateway, door, shutdown).await?;
        Ok(started)
    }

    /// Starts what looks after the records and the time. Users that change in the records are followed from `revision`.
    async fn follow(&mut self, revision: Option<i64>, shutdown: &Shutdown) -> Result<(), StartError> {
        let (schedules, schedule_writer) = Schedules::start(self.store.clone()).await?;
        self.writers.push(schedule_writer);
        let time = Box::new(TimeSource::new(Arc::new(schedules)));
        let (journal, until) = (self.journal.clone(), shutdown.clone());
        self.source_tasks = vec![
            tokio::spawn(time.run(self.table.bound(), self.inlet.clone(), self.clock.clone(), shutdown.clone())),
            tokio::spawn(follow_raw(
                self.table.clone(),
                self.partyline.party.clone(),
                self.outbox.clone(),
                shutdown.clone(),
            )),
            tokio::spawn(async move { journal.look_after(until).await }),
        ];
        if let Some(revision) = revision {
            let (inlet, clock) = (self.inlet.clone(), self.clock.clone());
            let tell = move || drop(inlet.try_put(named("userfile-loaded", &clock).into()));
            let policy = self.policy.clone();
            let holds = move |users| policy.holds_for_people(users);
            let (store, book) = (self.store.clone(), self.book.clone());
            let following = follow_users(store, book, revision, holds, tell, shutdown.clone());
            self.source_tasks.push(tokio::spawn(following));
        }
        Ok(())
    }

    /// What looks after pipelines: their files, networks that come back, the control socket.
    fn follow_pipelines(&mut self, data: Option<&Path>, shutdown: &Shutdown) {
        self.writers.push(tokio::spawn(deploys::anchor(self.pipelines.clone(), self.store.clone())));
        let telling = deploys::tell_binds(self.pipelines.clone(), self.inlet.clone(), shutdown.clone());
        self.source_tasks.push(tokio::spawn(telling));
        let mesh = self.meshed.mesh.clone();
        let offering = self.meshed.runners.clone().follow(self.pipelines.clone(), mesh, shutdown.clone());
        self.source_tasks.push(tokio::spawn(offering));
        self.source_tasks.push(tokio::spawn(deploys::purge(self.pipelines.clone(), shutdown.clone())));
        let watching = deploys::watch_networks(self.outbox.clone(), self.pipelines.clone(), shutdown.clone());
        self.source_tasks.push(tokio::spawn(watching));
        if let Some(listener) = data.and_then(control::open) {
            let serving = control::serve(listener, self.pipelines.clone(), self.asking.clone(), shutdown.clone());
            self.source_tasks.push(tokio::spawn(serving));
        }
        if !self.pipelines.settings().folder.as_os_str().is_empty() {
            let (kinds, table, book) = (Arc::clone(&self.kinds), self.table.clone(), self.book.clone());
            let following = deploys::follow(kinds, table, self.pipelines.clone(), book, shutdown.clone());
            self.source_tasks.push(tokio::spawn(following));
        }
    }

    /// Loads the scripts, and follows their files. Everything is bound by then, and nobody is listened to yet: now the policy has to
    /// hold.
    async fn load_scripts(&mut self, placement: Placement, shutdown: Shutdown) -> Result<(), StartError> {
        let Some(scripts) = &self.scripts else {
            self.policy.holds()?;
            self.meshed.guard(&self.policy);
            return Ok(());
        };
        if let Some(path) = &self.only_script {
            scripts.reload(path).await?;
            return Ok(());
        }
        tell_of(&scripts.reload_all().await);
        self.policy.holds()?;
        scripts.guard(self.policy.clone());
        self.meshed.guard(&self.policy);
        if placement == Placement::Thread {
            self.source_tasks.push(tokio::spawn(follow_scripts(scripts.clone(), shutdown)));
        }
        Ok(())
    }
}

/// Which servers demand TLS, as far as it is kept.
fn policies(data: Option<&Path>) -> Result<Policies, StsFault> {
    data.map_or(Ok(Policies::memory()), |folder| Policies::open(&folder.join(STS)))
}

/// The folder of a bot that keeps nothing; it goes with the bot.
pub(super) struct Passing(PathBuf);

impl Passing {
    fn of(data: Option<&Path>, runs: &Path) -> Option<Passing> {
        runs.parent().filter(|_| data.is_none()).map(|folder| Passing(folder.to_owned()))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Nothing may ever have run.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where the runs of a bot work that keeps nothing: a name that no other bot has, and that nobody can guess and be there before.
fn passing_folder() -> Result<PathBuf, StartError> {
    let folder = std::env::temp_dir();
    let name = unguessable().map_err(|fault| StartError::Data { folder: folder.clone(), reason: fault.to_string() })?;
    Ok(folder.join(format!("masterchief-{name}")).join(RUNS))
}
