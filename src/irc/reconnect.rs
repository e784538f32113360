//! Staying connected: one connection after another, for ever, with a growing pause between those that fail.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Backoff, Clock, Event, Inlet, Shutdown};
use tokio::time::Instant;

use super::dial::Dial;
use super::history::Age;
use super::link::{End, Link, Trouble};
use super::network::{Inner, queue_key};
use super::receipts::Receipts;
use super::sts::Policies;
use super::translate::{Context, evnt};

/// The back-off between connections: full jitter under a ceiling from a second to two minutes, and from the start
/// again after a minute without trouble.
const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(120), Duration::from_secs(60));

/// The least pause after an oper has killed us: to come back at once is to ask for more.
const AFTER_KILL: Duration = Duration::from_secs(60);
/// The pauses after a ban from the network: it doubles up to an hour, because nobody waits for us.
const BANNED: (Duration, Duration, Duration) =
    (Duration::from_secs(300), Duration::from_secs(3600), Duration::from_secs(600));

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
        let dialled = tokio::select! {
            dialled = ways.dial.dial(&server, &settings.tls, &settings.via()) => dialled,
            () = leaving.recv() => return,
        };
        let (reason, trouble) = match dialled {
            Err(fault) => {
                tell(inner, ways, "fail-server", &fault.to_string());
                (fault.to_string(), Trouble::Usual)
            }
            Ok(stream) => {
                tell(inner, ways, "connect-server", &server.to_string());
                let link = Link::new(inner, ways, &server, &settings);
                let ended = link.run(stream, leaving.clone(), &mut backoff).await;
                disconnected(inner);
                if settings.tls.enabled {
                    ways.policies.closed(&server.host, ways.clock.now());
                    ways.policies.save().await;
                }
                match ended.end {
                    End::Left => return,
                    End::Upgrade(port) => {
                        tracing::info!(network = %inner.name, %server, port, "The server demands TLS");
                        ways.policies.upgrade(&server.host, port);
                        continue;
                    }
                    End::Lost(reason, trouble) => {
                        tell(
                            inner,
                            ways,
                            if ended.up.is_some() { "disconnect-server" } else { "fail-server" },
                            &reason,
                        );
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

/// Tells the street of the connection. If it has no room, the status says the same.
fn tell(inner: &Inner, ways: &Ways, name: &str, about: &str) {
    let shared = inner.lock();
    let (network, state, at) = (&inner.name, &shared.state, ways.clock.now());
    let context = Context { network, state, at, actor: None, raw: false, age: Age::Live, split: None, back: false };
    // A parcel that is given back is dropped.
    let _ = ways.inlet.try_put(Event::new(evnt(name, about, &context)).into());
}

/// The connection is gone: what belonged to it goes too, words wait for the next.
fn disconnected(inner: &Inner) {
    let mut shared = inner.lock();
    let shared = &mut *shared;
    shared.status.connected = false;
    shared.status.account = None;
    shared.outgoing.disconnected();
    shared.history.reconnected();
    shared.receipts = Receipts::default();
    shared.state.disconnected();
    for channel in shared.wanted.values() {
        shared.outgoing.hold(&queue_key(&channel.name));
    }
}

/// Any number. Without randomness every client would come back at the same moment, which is all that is lost.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => Instant::now().elapsed().as_nanos() as u64,
    }
}
