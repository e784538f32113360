//! The port: who calls is told apart by the first bytes and handed to their face.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::gate::Gate;
use super::guess::{Guess, guess};
use super::hall::{ARRIVALS, Arrivals, Call, Hall};
use super::party::Party;
use super::room::Face;
use super::settings::Settings;
use super::tls::{self, CertFault};
use super::{data, irc, telnet};
use crate::irc::{Stream, fingerprint};

/// How long a caller may be silent before it is greeted as somebody who types. IRC clients speak at once.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long sessions may take to go at shutdown.
const DRAIN: Duration = Duration::from_secs(3);
/// A connection that is silent for so long is asked whether it is there, and so often again while nothing comes back.
const QUIET: Duration = Duration::from_secs(120);
const BEAT: Duration = Duration::from_secs(15);
/// What a browser is told.
const NO_PAGES: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This is a partyline for IRC clients, telnet and bots. Pages connect to /partyline/ws of the gateway.\n";

/// Why the partyline does not open.
#[derive(Debug, thiserror::Error)]
pub enum PartylineError {
    /// The port cannot be had.
    #[error("partyline.{key} {at}: {fault}; free that port, or name another")]
    Port {
        /// The key in the configuration.
        key: &'static str,
        /// Which.
        at: SocketAddr,
        /// Why.
        fault: std::io::Error,
    },
    /// There is no certificate.
    #[error(transparent)]
    Cert(#[from] CertFault),
}

/// The open partyline.
pub struct Faces {
    hall: Arc<Hall>,
    /// Where it listens.
    pub at: Option<SocketAddr>,
    /// Where it listens for TLS only.
    pub tls_at: Option<SocketAddr>,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    shutdown: Shutdown,
    tasks: Vec<JoinHandle<()>>,
}

/// What a client in a page speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// IRC.
    Irc,
    /// A record of JSON a line.
    Data,
}

/// What a connection needs before it is anybody's.
struct Door {
    hall: Arc<Hall>,
    acceptor: TlsAcceptor,
    /// Connections by address.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of an address's connections.
struct Place {
    door: Arc<Door>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.door.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

impl Faces {
    /// Opens the ports of the settings. Bots that call come out of [`Arrivals`].
    pub async fn open(
        party: Party,
        gate: Gate,
        data: Option<&Path>,
        shutdown: Shutdown,
    ) -> Result<(Faces, Arrivals), PartylineError> {
        let settings = gate.settings();
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let version = format!("masterchief {}", env!("CARGO_PKG_VERSION"));
        let hall = Arc::new(Hall { party, gate, arrivals, version });
        let (mut at, mut tls_at, mut tasks, mut fingerprint) = (None, None, Vec::new(), String::new());
        if settings.listen.is_some() || settings.tls_listen.is_some() {
            let offer = tls::offer(&settings, data)?;
            fingerprint = offer.fingerprint;
            let acceptor = TlsAcceptor::from(offer.config);
            let door = Arc::new(Door { hall: Arc::clone(&hall), acceptor, open: Mutex::default() });
            for (key, wanted, only_tls) in
                [("listen", settings.listen, false), ("tls_listen", settings.tls_listen, true)]
            {
                let Some(wanted) = wanted else { continue };
                let listener = match listen(key, wanted).await {
                    Err(_) if settings.or_any && !only_tls => listen(key, SocketAddr::new(wanted.ip(), 0)).await?,
                    listener => listener?,
                };
                let found = listener.local_addr().map_err(|fault| PartylineError::Port { key, at: wanted, fault })?;
                *(if only_tls { &mut tls_at } else { &mut at }) = Some(found);
                tasks.push(tokio::spawn(accept(listener, Arc::clone(&door), only_tls, shutdown.clone())));
                tracing::info!(at = %found, only_tls, %fingerprint, "The partyline listens");
            }
        }
        Ok((Faces { hall, at, tls_at, fingerprint, shutdown, tasks }, arrived))
    }

    /// Serves a client that came in by another door (the gateway's WebSocket) until it goes: from where, and whether nobody can read it on
    /// the way.
    pub async fn meet_web(&self, stream: Stream, (peer, tls): (SocketAddr, bool), speech: Speech) {
        let call = Call { stream, read: Vec::new(), peer, tls, cert: None, face: Face::Web };
        let (hall, shutdown) = (Arc::clone(&self.hall), self.shutdown.clone());
        match speech {
            Speech::Irc => irc::serve(call, hall, shutdown).await,
            Speech::Data => data::serve(call, hall, shutdown).await,
        }
    }

    /// Waits until everybody has gone; after its shutdown.
    pub async fn closed(self) {
        for task in self.tasks {
            if tokio::time::timeout(DRAIN, task).await.is_err() {
                tracing::warn!("Sessions of the partyline were still open at shutdown");
            }
        }
    }
}

async fn listen(key: &'static str, at: SocketAddr) -> Result<TcpListener, PartylineError> {
    TcpListener::bind(at).await.map_err(|fault| PartylineError::Port { key, at, fault })
}

async fn accept(listener: TcpListener, door: Arc<Door>, only_tls: bool, mut shutdown: Shutdown) {
    let mut calls = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = calls.join_next(), if !calls.is_empty() => continue,
            () = shutdown.recv() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = door.place(peer.ip()) else { continue };
                let (door, until) = (Arc::clone(&door), shutdown.clone());
                calls.spawn(async move {
                    meet(stream, peer, door, only_tls, until).await;
                    drop(place);
                });
            }
            Err(fault) => {
                // Too many open files, most likely: those who are here are served on.
                tracing::warn!(%fault, "A connection to the partyline was not taken");
                tokio::time::sleep(SILENCE).await;
            }
        }
    }
    while calls.join_next().await.is_some() {}
}

impl Door {
    fn place(self: &Arc<Door>, peer: IpAddr) -> Option<Place> {
        let most = self.hall.gate.settings().per_address;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let count = open.entry(peer).or_default();
        if *count >= most || all >= self.hall.gate.settings().sessions * 2 {
            if *count == 0 {
                open.remove(&peer);
            }
            return None;
        }
        *count += 1;
        Some(Place { door: Arc::clone(self), peer })
    }
}

/// Who types has no beat of their own: whoever has gone without a word is found by the system.
fn stays_alive(stream: &TcpStream, peer: SocketAddr) {
    let beat = socket2::TcpKeepalive::new().with_time(QUIET).with_interval(BEAT);
    if let Err(fault) = socket2::SockRef::from(stream).set_tcp_keepalive(&beat) {
        tracing::warn!(%fault, %peer, "It will not be noticed if this connection is lost");
    }
}

/// Finds out who calls, and hands them on.
async fn meet(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, only_tls: bool, mut shutdown: Shutdown) {
    // It only makes answers come later.
    let _ = stream.set_nodelay(true);
    stays_alive(&stream, peer);
    let finding = async {
        let mut first = [0; 1];
        // Nothing is said until a TLS port has its handshake.
        let wait = if only_tls { HANDSHAKE } else { SILENCE };
        let looked = tokio::time::timeout(wait, stream.peek(&mut first)).await;
        let tls = only_tls || matches!(looked, Ok(Ok(1)) if first[0] == 0x16);
        if matches!(looked, Ok(Ok(0) | Err(_))) {
            return None;
        }
        if !tls {
            return Some(found(Box::new(stream), peer, None).await);
        }
        let stream = tokio::time::timeout(HANDSHAKE, door.acceptor.accept(stream)).await.ok()?.ok()?;
        let cert = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|cert| fingerprint(cert).to_string());
        Some(found(Box::new(stream), peer, Some(cert)).await)
    };
    let call = tokio::select! {
        call = finding => call.flatten(),
        () = shutdown.recv() => return,
    };
    let Some((mut call, who)) = call else { return };
    match who {
        Guess::Irc => irc::serve(call, Arc::clone(&door.hall), shutdown).await,
        Guess::Telnet | Guess::More => {
            let late = telnet::serve(call, Arc::clone(&door.hall), shutdown.clone()).await;
            if let Some(call) = late {
                irc::serve(call, Arc::clone(&door.hall), shutdown).await;
            }
        }
        Guess::Http | Guess::Tls => {
            // Whoever sent it may have gone.
            let _ = call.stream.write_all(NO_PAGES.as_bytes()).await;
            let _ = call.stream.shutdown().await;
        }
    }
}

/// The first bytes, and who sends such; `tls` is what certificate was shown, if the connection is TLS at all.
async fn found(mut stream: Stream, peer: SocketAddr, tls: Option<Option<String>>) -> Option<(Call, Guess)> {
    let mut read = Vec::new();
    let mut buffer = [0; 1024];
    let until = tokio::time::Instant::now() + SILENCE;
    let mut who = Guess::More;
    while who == Guess::More {
        match tokio::time::timeout_at(until, stream.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => read.extend_from_slice(&buffer[..count]),
            Ok(_) => return None,
            // Whoever is silent is greeted.
            Err(_) => break,
        }
        who = guess(&read);
    }
    let (is_tls, cert) = (tls.is_some(), tls.flatten());
    Some((Call { stream, read, peer, tls: is_tls, cert, face: Face::Irc }, who))
}

/// Where a bot without networks listens, if nothing is configured: the usual port, or any free one if that is taken.
pub fn usual(settings: &Settings) -> Settings {
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 6667)));
    Settings { listen, or_any: true, ..settings.clone() }
}
