//! The bot behind the partyline: what its commands ask of the rest of the house, and who opens it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use masterchief_contract::{Clock, Future, Secret, Shutdown};
use tokio::sync::Notify;

use super::StartError;
use super::audit::Audit;
use super::calls::Calls;
use super::forward::Forward;
use super::ingest::Feeds;
use super::mesh::forget_key;
use super::outbox::{Outbox, Place};
use super::own::is_held;
use super::people::{change_user, touched};
use super::policy::Policy;
use super::scripts::Scripts;
use super::seam;
use super::started::Started;
use super::warden::Warden;
use super::wishes::Wishes;
use super::words;
use crate::dispatch::{Ban, BindTable, Held, Pass};
use crate::executors::unguessable;
use crate::gateway::{Pages, Speaks, Visitor};
use crate::irc::{self, Around as _};
use crate::journal::FeedRow;
use crate::mesh::Mesh;
use crate::partyline::{self, Arrivals, Console, Faces, Gate, Host, LiveLog, Party, Settings, Speech};
use crate::store::Store;
use crate::users::{Book, User};

/// The bot's own password, under the data folder, where it knows nobody yet.
const OWN: &str = "partyline.password";

/// How often it is looked whether everybody who is here may still be.
const SWEEP: Duration = Duration::from_secs(5);

/// The partyline of a running bot.
pub(super) struct Partyline {
    pub(super) party: Party,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    /// The open ports.
    pub(super) faces: Option<Arc<Faces>>,
    /// Bots that call; whoever links them takes it.
    pub(super) arrivals: Option<Arrivals>,
    /// What operators wish; whoever runs the process follows it.
    pub(super) wishes: Wishes,
    /// The bot's own password, where there is one.
    pub(super) own: Option<Secret>,
    /// There is a note for another bot.
    pub(super) notes: Arc<Notify>,
}

/// What the bot tells its partyline.
pub(super) struct Around {
    pub(super) outbox: Outbox,
    pub(super) scripts: Option<Scripts>,
    pub(super) feeds: Feeds,
    pub(super) policy: Policy,
    pub(super) store: Store,
    pub(super) book: Book,
    pub(super) wishes: Wishes,
    pub(super) mesh: Option<Mesh>,
    pub(super) warden: Warden,
    /// Tells that there is a note for another bot.
    pub(super) notes: Arc<Notify>,
    /// Weak, because calls know the partyline.
    pub(super) calls: Weak<Calls>,
    pub(super) table: BindTable,
    pub(super) since: DateTime<Utc>,
    pub(super) clock: Clock,
}

/// What the partyline is opened with.
pub(super) struct Opening<'a> {
    pub(super) console: Option<Console>,
    /// The log, for those who want to see it.
    pub(super) live: Option<LiveLog>,
    pub(super) audit: Audit,
    pub(super) data: Option<&'a Path>,
    /// When the console has shown all there is to show.
    pub(super) until: Shutdown,
    /// Whether pages may come in through the gateway.
    pub(super) web: bool,
    /// What holds channels to what operators have set.
    pub(super) warden: Warden,
}

impl Host for Around {
    fn status(&self) -> Future<Vec<String>> {
        let networks = self.networks();
        let (users, feeds) = (self.book.all().len(), self.feeds.rows());
        let scripts = self.scripts.clone();
        Box::pin(async move {
            let scripts = match scripts {
                Some(scripts) => scripts.status().await.len(),
                None => 0,
            };
            let mut lines = vec![format!(
                "masterchief {}: {} networks, {users} users, {scripts} scripts, {} sources",
                env!("CARGO_PKG_VERSION"),
                networks.len(),
                feeds.len()
            )];
            lines.extend(networks.iter().map(|network| {
                let state = match (&network.trouble, network.connected) {
                    (_, true) => format!("is on {} as {}", network.server, network.nick),
                    (Some(trouble), false) => format!("is not connected: {trouble}"),
                    (None, false) => "is connecting".to_owned(),
                };
                format!(
                    "{} {state}; channels {}; {} lines wait",
                    network.network,
                    network.channels.join(" "),
                    network.queued
                )
            }));
            lines
        })
    }

    fn networks(&self) -> Vec<irc::Status> {
        self.outbox.networks().iter().map(irc::Network::status).collect()
    }

    fn members(&self, network: &str, channel: &str) -> Vec<irc::Member> {
        self.outbox.network(network).map(|network| network.members(channel)).unwrap_or_default()
    }

    fn modules(&self) -> Vec<String> {
        let kinds = super::kinds();
        kinds.all().map(|spec| format!("{:<10} {}", spec.kind, spec.about)).collect()
    }

    fn scripts(&self) -> Future<Vec<String>> {
        let scripts = self.scripts.clone();
        Box::pin(async move {
            let Some(scripts) = scripts else { return vec![words::no_scripts()] };
            let of = |row: crate::lua::ScriptStatus| {
                format!(
                    "{:<20} {:>3} binds {:>6} calls {:>3} running {:>3} faults {:>6} KiB",
                    row.name,
                    row.binds,
                    row.calls,
                    row.running,
                    row.faults,
                    row.memory / 1024
                )
            };
            scripts.status().await.into_iter().map(of).collect()
        })
    }

    fn reload(&self, name: Option<String>) -> Future<Result<Vec<String>, String>> {
        let scripts = self.scripts.clone();
        Box::pin(async move {
            let scripts = scripts.ok_or_else(words::no_scripts)?;
            let report = match name {
                None => scripts.reload_all().await,
                Some(name) => {
                    let name = if name.ends_with(".lua") { name } else { format!("{name}.lua") };
                    scripts.reload_named(&name).await.ok_or_else(|| words::no_such_script(&name))?
                }
            };
            Ok(words::reloaded(&report))
        })
    }

    fn rehash(&self) -> Future<Result<Vec<String>, String>> {
        let wishes = self.wishes.clone();
        Box::pin(async move { wishes.rehash().await })
    }

    fn end(&self, reason: &str) -> Result<(), String> {
        tracing::warn!(%reason, "An operator ends the bot");
        self.wishes.end()
    }

    fn sources(&self) -> Vec<FeedRow> {
        self.feeds.rows()
    }

    fn policy(&self) -> Vec<String> {
        self.policy.shown()
    }

    fn put_user(&self, before: Option<Arc<User>>, user: User) -> Future<Result<(), String>> {
        let (store, book, policy) = (self.store.clone(), self.book.clone(), self.policy.clone());
        let user = touched(user, before.as_deref(), self.clock.now().timestamp_millis());
        Box::pin(async move {
            let _turn = book.turn().await;
            policy.holds_for_user(&user).map_err(|broken| broken.to_string())?;
            book.may_put(&user, None).map_err(|fault| fault.to_string())?;
            // What the store did not take does not count: it would be gone with the next start.
            let change = change_user(&store, before.as_deref(), Some(&user));
            change.await.map_err(|fault| fault.to_string())?;
            book.put(user).map_err(|fault| fault.to_string())
        })
    }

    fn rename_user(&self, old: &User, user: User) -> Future<Result<(), String>> {
        let (store, book, policy, old) = (self.store.clone(), self.book.clone(), self.policy.clone(), old.clone());
        // Another handle is another name to be known by.
        let user = touched(user, None, self.clock.now().timestamp_millis());
        Box::pin(async move {
            let _turn = book.turn().await;
            policy.holds_without(&old.handle, Some(&user)).map_err(|broken| broken.to_string())?;
            book.may_put(&user, Some(&old.handle)).map_err(|fault| fault.to_string())?;
            change_user(&store, Some(&old), Some(&user)).await.map_err(|fault| fault.to_string())?;
            book.rename(&old.handle, user).map_err(|fault| fault.to_string())
        })
    }

    fn remove_user(&self, user: &User) -> Future<Result<(), String>> {
        let (store, book, policy, user) = (self.store.clone(), self.book.clone(), self.policy.clone(), user.clone());
        Box::pin(async move {
            let _turn = book.turn().await;
            policy.holds_without(&user.handle, None).map_err(|broken| broken.to_string())?;
            change_user(&store, Some(&user), None).await.map_err(|fault| fault.to_string())?;
            book.remove(&user.handle);
            Ok(())
        })
    }

    fn forget_key(&self, bot: &str) -> Future<Result<bool, String>> {
        let (store, bot, now) = (self.store.clone(), bot.to_owned(), self.clock.now());
        Box::pin(async move { forget_key(&store, &bot, now).await.map_err(|fault| fault.to_string()) })
    }

    fn mesh(&self) -> Option<Mesh> {
        self.mesh.clone()
    }

    fn bans(&self) -> Vec<Ban> {
        self.warden.bans()
    }

    fn put_ban(&self, ban: Ban) -> Future<Result<(), String>> {
        let warden = self.warden.clone();
        Box::pin(async move { warden.ban(ban).await.map_err(|fault| fault.to_string()) })
    }

    fn lift_ban(&self, place: Option<String>, mask: &str) -> Future<Result<bool, String>> {
        let (warden, mask) = (self.warden.clone(), mask.to_owned());
        Box::pin(async move {
            let lifted = warden.unban(place.as_deref(), &mask).await;
            lifted.map(|ban| ban.is_some()).map_err(|fault| fault.to_string())
        })
    }

    fn passes(&self) -> Vec<Pass> {
        self.warden.passes()
    }

    fn without_list(&self, pass: &Pass) -> Vec<String> {
        self.warden.without_list(pass)
    }

    fn put_pass(&self, pass: Pass) -> Future<Result<(), String>> {
        let warden = self.warden.clone();
        Box::pin(async move { warden.pass(pass).await.map_err(|fault| fault.to_string()) })
    }

    fn lift_pass(&self, pass: Pass) -> Future<Result<(), String>> {
        let warden = self.warden.clone();
        Box::pin(async move { warden.unpass(&pass).await.map_err(|fault| fault.to_string()) })
    }

    fn held(&self, place: &str) -> Held {
        self.warden.of(place)
    }

    fn hold(&self, place: &str, held: Held) -> Future<Result<(), String>> {
        let (warden, place) = (self.warden.clone(), place.to_owned());
        Box::pin(async move { warden.hold(&place, held).await.map_err(|fault| fault.to_string()) })
    }

    fn notes_go(&self) {
        self.notes.notify_one();
    }

    fn announce(&self, name: &'static str) -> Future<()> {
        let (calls, table) = (self.calls.clone(), self.table.clone());
        Box::pin(async move {
            if let Some(calls) = calls.upgrade() {
                is_held(&calls, &table, name).await;
            }
        })
    }

    fn started(&self) -> DateTime<Utc> {
        self.since
    }
}

impl Partyline {
    /// Takes other settings. Where it listens, its certificate and the bot's name stay as they were.
    pub(super) fn configure(&self, settings: Settings) -> Vec<&'static str> {
        let now = self.settings.load();
        let (listen, tls_listen, nick) = (now.listen, now.tls_listen, now.nick.clone());
        let (cert, key, or_any) = (now.cert.clone(), now.key.clone(), now.or_any);
        let others = [
            // One that is left out may have been chosen at the start.
            ("partyline.listen", settings.listen != listen && (settings.listen.is_some() || !or_any)),
            ("partyline.tls_listen", settings.tls_listen != tls_listen),
            ("partyline.nick", settings.nick != nick),
            ("partyline.cert", settings.cert != cert || settings.key != key),
        ];
        self.settings.store(Arc::new(Settings { listen, or_any, tls_listen, nick, cert, key, ..settings }));
        others.into_iter().filter(|(_, other)| *other).map(|(name, _)| name).collect()
    }

    /// Waits until everybody has gone.
    pub(super) async fn close(self) {
        if let Some(faces) = self.faces.and_then(Arc::into_inner) {
            faces.closed().await;
        }
    }
}

/// Clients in pages come in through the gateway.
struct Web {
    faces: Arc<Faces>,
    settings: Arc<ArcSwap<Settings>>,
}

impl Pages for Web {
    fn welcomes(&self, origin: &str) -> bool {
        self.settings.load().origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    fn meet(&self, stream: irc::Stream, visitor: Visitor, speaks: Speaks) -> Future<()> {
        let faces = Arc::clone(&self.faces);
        let speech = match speaks {
            Speaks::Irc => Speech::Irc,
            Speaks::Data => Speech::Data,
        };
        Box::pin(async move { faces.meet_web(stream, (visitor.peer, visitor.tls), speech).await })
    }
}

impl Started {
    /// Who serves IRC clients in pages.
    pub(super) fn pages(&self) -> Option<Arc<dyn Pages>> {
        let faces = Arc::clone(self.partyline.faces.as_ref()?);
        Some(Arc::new(Web { faces, settings: Arc::clone(&self.partyline.settings) }))
    }

    /// The partyline.
    pub fn party(&self) -> &Party {
        &self.partyline.party
    }

    /// Bots that call the partyline of a bot without a mesh; the first who asks gets them.
    pub fn arrivals(&mut self) -> Option<Arrivals> {
        self.partyline.arrivals.take()
    }

    /// Where the partyline listens, and for TLS only; nowhere if it does not.
    pub fn partyline_at(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        self.partyline.faces.as_ref().map_or((None, None), |faces| (faces.at, faces.tls_at))
    }

    /// SHA-256 of the certificate that the partyline shows.
    pub fn partyline_fingerprint(&self) -> &str {
        self.partyline.faces.as_ref().map_or("", |faces| &faces.fingerprint)
    }

    /// The password that lets anybody from this machine in, where the bot knows nobody yet.
    pub fn partyline_password(&self) -> Option<&Secret> {
        self.partyline.own.as_ref()
    }

    /// Opens the partyline, and seats the console.
    pub(super) async fn open_partyline(&mut self, opening: Opening<'_>, shutdown: &Shutdown) -> Result<(), StartError> {
        let Opening { console, live, audit, data, until, web, warden } = opening;
        self.source_tasks.push(tokio::spawn(warden.run(shutdown.clone())));
        let party = self.partyline.party.clone();
        party.open(self.inlet.clone());
        let listens = {
            let settings = self.partyline.settings.load();
            settings.listen.is_some() || settings.tls_listen.is_some()
        };
        if console.is_some() || listens || web {
            self.outbox.put(partyline::NETWORK, Place::Party(party.clone()));
        }
        self.outbox.watched.store(Some(Arc::new(party.clone())));
        let (sweeping, mut over) = (party.clone(), shutdown.clone());
        self.source_tasks.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = over.recv() => return,
                    () = tokio::time::sleep(SWEEP) => sweeping.sweep(),
                }
            }
        }));
        if let Some(live) = live {
            let (party, mut shutdown) = (party.clone(), shutdown.clone());
            let ledger = self.outbox.speech.ledger.clone();
            self.source_tasks.push(tokio::spawn(async move {
                tokio::select! {
                    () = live.tell(party, |text| ledger.hide(text).into_owned()) => {}
                    () = shutdown.recv() => {}
                }
            }));
        }
        if let Some(console) = console {
            let seat = console.sit(&party);
            let (idx, showing) = (seat.idx, console.clone());
            self.writers.push(tokio::spawn(async move { showing.show(seat, until).await }));
            let (party, shutdown) = (party.clone(), shutdown.clone());
            let reading = tokio::spawn(async move { console.read(party, idx, shutdown).await });
            *self.console.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reading);
        }
        if listens {
            self.partyline.own = own_password(&self.book, data)
                .map_err(|reason| StartError::Data { folder: data.map(Path::to_owned).unwrap_or_default(), reason })?;
        }
        let trail: partyline::Trail = Arc::new(move |row| audit.write(row));
        let settings = Arc::clone(&self.partyline.settings);
        let gate = Gate::new(self.book.clone(), settings, trail, self.clock.clone(), self.partyline.own.clone());
        let mut gate = gate.keeping(self.store.clone());
        if let Some(mesh) = self.meshed.mesh.clone() {
            gate = gate.with_bots(Arc::new(move |name| mesh.knows(name)));
        }
        let (faces, arrivals) = Faces::open(party.clone(), gate, data, shutdown.clone()).await?;
        self.partyline.faces = Some(Arc::new(faces));
        match &self.meshed.mesh {
            Some(mesh) => {
                self.source_tasks.extend(seam::join(&party, mesh, arrivals, shutdown));
                let (store, wake) = (self.store.clone(), Arc::clone(&self.partyline.notes));
                let forward = Forward { mesh: mesh.clone(), party, store, wake };
                self.source_tasks.push(tokio::spawn(forward.run(shutdown.clone())));
            }
            None => self.partyline.arrivals = Some(arrivals),
        }
        Ok(())
    }
}

/// The bot's own password, as long as nobody has one of their own who could let others in.
fn own_password(book: &Book, data: Option<&Path>) -> Result<Option<Secret>, String> {
    if book.all().iter().any(|user| user.password.is_some() && book.stands(&user.handle).has('n')) {
        return Ok(None);
    }
    let path = data.map(|data| data.join(OWN));
    if let Some(text) = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) {
        let text = text.trim();
        if text.len() >= 16 {
            return Ok(Some(Secret::new(text)));
        }
    }
    let made = unguessable().map_err(|fault| fault.to_string())?;
    if let Some(path) = path {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        opened.and_then(|mut file| writeln!(file, "{made}")).map_err(|fault| fault.to_string())?;
    }
    Ok(Some(Secret::new(made)))
}
