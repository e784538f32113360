//! Calls that we make and calls that we take, until each is a link.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use masterchief_contract::{Secret, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::book::PeerId;
use super::connection::{Connection, LinkFault, LoggedIn, check_pin};
use super::hub::{Ask, Up};
use super::link::{Ends, Link, QUEUE};
use super::login::{Answerer, Caller};
use super::name::{Address, BotName};
use super::net::{Facts, Peer};
use super::records::{BotAddr, Encryption, Record};
use super::settings::Settings;
use super::tls::Tls;
use crate::irc::{Fingerprint, Stream};

/// How long one address may take to answer, as in Eggdrop's `connect-timeout`.
const CONNECT: Duration = Duration::from_secs(15);
/// Logins that are under way at once; who comes then waits in the system's queue.
const LOGINS: usize = 64;

/// The longest password that an Eggdrop 1.8 keeps; what is longer it cuts off, and knows it no more.
const PASSWORD: usize = 15;

/// The number of the next link.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A call to be made.
pub(super) struct Calling {
    pub(super) me: BotName,
    pub(super) about: String,
    pub(super) record: Record,
    pub(super) tls: Tls,
    pub(super) hub: mpsc::Sender<Ask>,
    /// Who is told what became of it.
    pub(super) asked: Option<Address>,
    pub(super) now: i64,
}

/// A call that was taken.
#[derive(Clone)]
pub(super) struct Taking {
    pub(super) me: BotName,
    pub(super) about: String,
    pub(super) tls: Tls,
    pub(super) hub: mpsc::Sender<Ask>,
    pub(super) clock: masterchief_contract::Clock,
}

/// What we tell of ourselves.
pub(super) fn facts(settings: &Settings, since: i64) -> Facts {
    let motd = settings.motd.lines().map(str::to_owned).collect();
    Facts { about: settings.about(), admin: settings.admin.clone(), motd, since }
}

/// Calls a bot, and serves the link if there is one.
pub(super) async fn call(calling: Calling) {
    let (hub, name, asked) = (calling.hub.clone(), calling.record.name.clone(), calling.asked.clone());
    match reach(calling).await {
        Ok(link) => link.run().await,
        Err(fault) => {
            // The hub may have ended.
            let _ = hub.send(Ask::Failed { name, fault, asked }).await;
        }
    }
}

async fn reach(calling: Calling) -> Result<Link, LinkFault> {
    let Calling { me, about, record, tls, hub, asked, now } = calling;
    let (stream, host, at) = connect(&record.settings.addresses).await?;
    let (reply, free) = oneshot::channel();
    hub.send(Ask::Reached { name: record.name.clone(), reply }).await.map_err(|_| LinkFault::Closing)?;
    if !free.await.map_err(|_| LinkFault::Closing)? {
        return Err(LinkFault::Connect("it is in the net already, over another link".to_owned()));
    }
    let mut connection = Connection::new(stream, &host, &[]);
    connection.at = at;
    let (settings, pins, password) = (&record.settings, record.pins(), record.link_password());
    let had_password = password.is_some();
    let mut machine = Caller::new(me, &about, password);
    match settings.tls {
        Encryption::Port => {
            connection.begin_tls(&tls).await?;
            check_pin(&pins, connection.seen)?;
            machine = machine.encrypted();
        }
        Encryption::Starttls => machine = machine.with_starttls(),
        Encryption::After | Encryption::None => machine = machine.insecure(),
    }
    let logged_in = connection.call(machine, &tls, &pins).await?;
    // It is known by its certificate, or there is nothing to lose.
    let may_rekey = !had_password || connection.encrypted && !pins.is_empty();
    let how = How { name: record.name.clone(), called: true, may_rekey, asked, now, host, pins };
    up(connection, logged_in, how, tls, hub).await
}

/// The first address that answers.
async fn connect(addresses: &[BotAddr]) -> Result<(Stream, String, Option<IpAddr>), LinkFault> {
    let mut last = "no address is known of it".to_owned();
    for BotAddr { host, port } in addresses {
        match tokio::time::timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await {
            Ok(Ok(tcp)) => {
                // A line should leave when it is written; if this cannot be set, it leaves a little later.
                let _ = tcp.set_nodelay(true);
                let at = tcp.peer_addr().ok().map(|at| at.ip());
                return Ok((Box::new(tcp), host.clone(), at));
            }
            Ok(Err(fault)) => last = format!("{host}:{port}: {fault}"),
            Err(_elapsed) => last = format!("{host}:{port}: it does not answer"),
        }
    }
    Err(LinkFault::Connect(last))
}

/// How a link came about.
struct How {
    name: BotName,
    called: bool,
    may_rekey: bool,
    asked: Option<Address>,
    now: i64,
    host: String,
    pins: Vec<Fingerprint>,
}

/// A login went well: the hub takes the link in.
async fn up(
    connection: Connection,
    logged_in: LoggedIn,
    how: How,
    tls: Tls,
    hub: mpsc::Sender<Ask>,
) -> Result<Link, LinkFault> {
    let LoggedIn { version, learned } = logged_in;
    let How { name, called, may_rekey, asked, now, host, pins } = how;
    let id: PeerId = NEXT.fetch_add(1, Ordering::Relaxed);
    let (out, queue) = mpsc::channel(QUEUE);
    let (stop, stopped) = oneshot::channel();
    let hold = Arc::new(AtomicBool::new(false));
    let pin = connection.seen.filter(|_| pins.is_empty());
    // From here on it is the one it was, even if nothing was known before.
    let pins = if pins.is_empty() { pin.into_iter().collect() } else { pins };
    let taken = !called || may_rekey;
    if learned.is_some() && !taken {
        tracing::warn!(bot = %name, "It has made another password for this link, which is not taken since nothing proves that it is the one it was; if it was set anew there, forget the password here");
    }
    let learned: Option<Secret> = learned.filter(|_| taken);
    let peer = Peer {
        bot: name,
        version: version.number,
        encrypted: connection.encrypted,
        at: connection.at,
        called,
        handlen: version.handlen as usize,
        may_rekey: called && may_rekey && learned.is_none(),
        since: now,
        about: version.about,
    };
    let link =
        Link::new(connection, Ends { id, pins, host, tls, hub: hub.clone(), queue, stopped, hold: Arc::clone(&hold) })?;
    let told = hub.send(Ask::Up(Box::new(Up { id, peer, out, stop, hold, learned, pin, asked }))).await;
    told.map_err(|_| LinkFault::Closing)?;
    Ok(link)
}

impl Taking {
    /// Takes a connection until its link has ended. `name` was said already where the connection comes from another listener;
    /// `place` is free again when the login is over.
    pub(super) async fn take<P: Send>(
        &self,
        mut connection: Connection,
        name: Option<&BotName>,
        place: P,
    ) -> Result<(), LinkFault> {
        let mut machine = self.answerer()?;
        machine = if connection.encrypted { machine.encrypted() } else { machine.with_tls() };
        let (bot, logged_in) = connection.answer(machine, &self.tls, &self.hub, name).await?;
        let pins = self.pins(&bot).await?;
        if connection.encrypted {
            // It may have been learned while this login was under way.
            check_pin(&pins, connection.seen)?;
        }
        let now = self.clock.now().timestamp_millis();
        let host = bot.to_string();
        let how = How { name: bot, called: false, may_rekey: false, asked: None, now, host, pins };
        let link = up(connection, logged_in, how, self.tls.clone(), self.hub.clone()).await?;
        drop(place);
        link.run().await;
        Ok(())
    }

    async fn pins(&self, bot: &BotName) -> Result<Vec<Fingerprint>, LinkFault> {
        let (reply, answer) = oneshot::channel();
        self.hub.send(Ask::WhoIs { name: bot.clone(), reply }).await.map_err(|_| LinkFault::Closing)?;
        Ok(answer.await.map_err(|_| LinkFault::Closing)?.map(|looked| looked.pins).unwrap_or_default())
    }

    fn answerer(&self) -> Result<Answerer, LinkFault> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|fault| LinkFault::Connect(format!("no random numbers: {fault}")))?;
        let (challenge, password) = bytes.split_at(16);
        let challenge: String = challenge.iter().map(|byte| format!("{byte:02x}")).collect();
        let fresh = Secret::new(fresh_password(password));
        Ok(Answerer::new(self.me.clone(), &self.about, &challenge, fresh))
    }
}

/// A password of a link: letters and digits, as many as an Eggdrop 1.8 keeps (77 bits).
fn fresh_password(random: &[u8]) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    random.iter().take(PASSWORD).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Takes calls at a port until shutdown.
pub(super) async fn listen(listener: TcpListener, encrypted: bool, taking: Taking, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(LOGINS));
    let mut tasks = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = shutdown.recv() => break,
            Some(_) = tasks.join_next() => continue,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = shutdown.recv() => break,
            accepted = listener.accept() => accepted,
        };
        let (Ok(place), (tcp, from)) = (
            place,
            match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::warn!(%fault, "A call of a bot cannot be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        ) else {
            break;
        };
        let taking = taking.clone();
        tasks.spawn(async move { take_one(tcp, from, encrypted, taking, place).await });
    }
    // Links end with the hub's queues, logins now.
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
}

async fn take_one(
    tcp: TcpStream,
    from: SocketAddr,
    encrypted: bool,
    taking: Taking,
    place: tokio::sync::OwnedSemaphorePermit,
) {
    let _ = tcp.set_nodelay(true);
    let mut connection = Connection::new(Box::new(tcp), "", &[]);
    connection.at = Some(from.ip());
    let done = async {
        if encrypted {
            connection.accept_tls(&taking.tls).await?;
        }
        taking.take(connection, None, place).await
    };
    if let Err(fault) = done.await {
        tracing::warn!(%from, %fault, "Somebody called and is not linked");
    }
}
