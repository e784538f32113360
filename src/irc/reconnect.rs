//! Staying connected: one connection after another, for ever, with a growing pause between those that fail.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Backoff, Clock, Event, EventData, Inlet, Kind, Shutdown, Value};
use tokio::time::Instant;

use super::around::Fate;
use super::dial::Dial;
use super::kinds::TLS;
use super::link::{End, Ended, Link, Trouble};
use super::network::{Inner, queue_key};
use super::receipts::Receipts;
use super::settings::{ServerAddr, Tls};
use super::sts::Policies;
use super::translate::{Context, evnt};

/// The back-off between connections: full jitter under a ceiling from a second to two minutes, and from the start
/// again after a minute without trouble.
const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(120), Duration::from_secs(60));

/// How long the street may take to hear that a connection is gone.
const ROOM: Duration = Duration::from_secs(30);
/// The least pause after an oper has killed us: to come back at once is to ask for more.
const AFTER_KILL: Duration = Duration::from_secs(60);
/// The least pause after a server said that we come too often: each try before its time is over makes it longer.
const AFTER_THROTTLE: Duration = Duration::from_secs(30);
/// The pauses after a ban from the network: it doubles up to an hour, because nobody waits for us.
const BANNED: (Duration, Duration, Duration) =
    (Duration::from_secs(300), Duration::from_secs(3600), Duration::from_secs(600));

const ENCRYPTED: [Kind; 1] = [TLS];

/// What connections are made with.
pub(super) struct Ways {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) inlet: Inlet,
    pub(super) clock: Clock,
    /// Which servers demand TLS.
    pub(super) policies: Policies,
}

/// Stays connected until it is time to leave.
pub(super) async fn keep_connected(inner: Arc<Inner>, ways: Ways, leaving: Shutdown) {
    connect_for_ever(&inner, &ways, leaving).await;
    let mut shared = inner.lock();
    let unsaid = shared.outgoing.words();
    shared.gave_up(unsaid, "everybody", "the bot is going down");
    drop(shared);
    inner.room.notify_waiters();
}

/// Connects, stays, and connects again; one connection at a time.
async fn connect_for_ever(inner: &Arc<Inner>, ways: &Ways, mut leaving: Shutdown) {
    let (floor, cap, stable) = BACKOFF;
    let mut backoff = Backoff::new(floor, cap, stable);
    let (floor, cap, after) = BANNED;
    let mut banned = Backoff::new(floor, cap, after);
    let mut next_server = 0;
    loop {
        let mut settings = inner.lock().settings.clone();
        let Some(wanted) = settings.servers.get(next_server % settings.servers.len().max(1)).cloned() else {
            return;
        };
        let (server, tls) = ways.policies.apply(&wanted, &settings.tls, ways.clock.now());
        settings.tls = tls;
        inner.lock().status.server = server.to_string();
        tell(inner, ways, "connect-server", &server.to_string());
        inner.around.dialling(&inner.name).await;
        let dialled = tokio::select! {
            dialled = ways.dial.dial(&server, &settings.tls, &settings.via()) => dialled,
            () = leaving.recv() => return,
        };
        let (reason, trouble) = match dialled {
            Err(fault) => {
                inner.around.gone(&inner.name);
                tell(inner, ways, "fail-server", &fault.to_string());
                (fault.to_string(), Trouble::Usual)
            }
            Ok(stream) => {
                if settings.tls.enabled {
                    tell_encrypted(inner, ways, &server);
                }
                tell(inner, ways, "preinit-server", &server.to_string());
                let link = Link::new(inner, ways, &server, &settings);
                let ended = link.run(stream, leaving.clone(), &mut backoff).await;
                disconnected(inner);
                tell_end(inner, ways, &ended, &mut leaving).await;
                if settings.tls.enabled {
                    ways.policies.closed(&server.host, ways.clock.now());
                    ways.policies.save().await;
                }
                match ended.end {
                    End::Left => return,
                    End::Upgrade(port) if upgraded(inner, ways, &wanted, &settings.tls, port) => continue,
                    // To come again as before is to be sent away again.
                    End::Upgrade(_) => (cannot_upgrade(inner, ways, &server), Trouble::Usual),
                    End::Lost(reason, trouble) => {
                        // After a good time, the first server is the first choice again.
                        if ended.up.is_some_and(|up| up.elapsed() >= stable) {
                            next_server = usize::MAX;
                        }
                        (reason, trouble)
                    }
                }
            }
        };
        next_server = next_server.wrapping_add(1);
        let pause = match trouble {
            Trouble::Usual => backoff.failed(random()),
            Trouble::Killed => backoff.failed(random()) + AFTER_KILL,
            Trouble::Throttled => backoff.failed(random()) + AFTER_THROTTLE,
            Trouble::Banned => banned.failed(random()),
        };
        tracing::warn!(network = %inner.name, %server, %reason, ?pause, "Not connected");
        inner.lock().status.trouble = Some(reason);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = leaving.recv() => return,
        }
    }
}

/// Tells the street that a connection is over.
async fn tell_end(inner: &Inner, ways: &Ways, ended: &Ended, leaving: &mut Shutdown) {
    match (&ended.end, ended.up) {
        (End::Left, _) | (End::Upgrade(_), None) => {}
        (End::Lost(reason, _), None) => tell(inner, ways, "fail-server", reason),
        (end, Some(_)) => {
            // Nothing has to be answered now, so it waits for room: who is elevated there must not stay so.
            let gone = event_of(inner, ways, "disconnect-server", &end.reason());
            tokio::select! {
                // The street has ended: nobody is elevated either.
                _ = ways.inlet.put(gone) => {}
                () = leaving.recv() => {}
                () = tokio::time::sleep(ROOM) => {
                    tracing::warn!(network = %inner.name, "The street is full: it is not told that the connection is gone");
                }
            }
        }
    }
}

/// Notes that a server demands TLS; whether it is reached with TLS now.
fn upgraded(inner: &Inner, ways: &Ways, wanted: &ServerAddr, tls: &Tls, port: u16) -> bool {
    tracing::info!(network = %inner.name, server = %wanted, port, "The server demands TLS");
    if wanted.path.is_none() {
        ways.policies.upgrade(&wanted.host, port);
    }
    ways.policies.apply(wanted, tls, ways.clock.now()).1.enabled
}

/// Tells that a server demands TLS that the configuration does not give it; gives the reason.
fn cannot_upgrade(inner: &Inner, ways: &Ways, server: &ServerAddr) -> String {
    let reason = format!("the server demands TLS: write wss:// instead of {server}");
    tell(inner, ways, "fail-server", &reason);
    reason
}

/// Tells the street that a connection is one with TLS.
fn tell_encrypted(inner: &Inner, ways: &Ways, server: &ServerAddr) {
    let mut event = EventData::new(&ENCRYPTED, ways.clock.now());
    event.network = Arc::clone(&inner.name);
    event.text = server.to_string();
    event.fields = vec![("idx", Value::from(0))];
    // As below.
    let _ = ways.inlet.try_put(Event::new(event).into());
}

/// Tells the street of the connection. If it has no room, the status says the same.
fn tell(inner: &Inner, ways: &Ways, name: &str, about: &str) {
    // A parcel that is given back is dropped.
    let _ = ways.inlet.try_put(event_of(inner, ways, name, about).into());
}

fn event_of(inner: &Inner, ways: &Ways, name: &str, about: &str) -> Event {
    let shared = inner.lock();
    let context = Context::of_nobody(&inner.name, &shared.state, ways.clock.now());
    Event::new(evnt(name, about, &context))
}

/// The connection is gone: what belonged to it goes too, words wait for the next.
pub(super) fn disconnected(inner: &Inner) {
    let mut shared = inner.lock();
    let shared = &mut *shared;
    shared.status.connected = false;
    shared.status.account = None;
    shared.status.caps.clear();
    shared.outgoing.disconnected();
    shared.history.reconnected();
    let (pages, unknown) = shared.receipts.lost();
    unknown.into_iter().for_each(|id| inner.around.fate(id, Fate::Unknown));
    shared.say_again(pages);
    shared.receipts = Receipts::default();
    shared.state.disconnected();
    for channel in shared.wanted.values() {
        shared.outgoing.hold(&queue_key(&channel.name));
    }
    inner.around.gone(&inner.name);
}

/// Any number. Without randomness every client would come back at the same moment, which is all that is lost.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => Instant::now().elapsed().as_nanos() as u64,
    }
}
