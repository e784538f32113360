//! Staying connected: one connection after another, for ever, with a growing pause between those that fail.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Backoff, Clock, Inlet, Shutdown};
use tokio::time::Instant;

use super::dial::Dial;
use super::link::{End, Link};
use super::network::{Inner, queue_key};
use super::state::State;

/// The back-off between connections: full jitter under a ceiling from a second to two minutes, and from the start
/// again after a minute without trouble.
const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(120), Duration::from_secs(60));

/// Stays connected until it is time to leave.
pub(super) async fn keep_connected(
    inner: Arc<Inner>,
    dial: Arc<dyn Dial>,
    inlet: Inlet,
    clock: Clock,
    leaving: Shutdown,
) {
    connect_for_ever(&inner, dial, inlet, clock, leaving).await;
    let mut shared = inner.lock();
    let unsaid = shared.outgoing.words();
    shared.gave_up(unsaid, "everybody", "the bot is going down");
    drop(shared);
    inner.room.notify_waiters();
}

/// Connects, stays, and connects again; one connection at a time.
async fn connect_for_ever(inner: &Arc<Inner>, dial: Arc<dyn Dial>, inlet: Inlet, clock: Clock, mut leaving: Shutdown) {
    let (floor, cap, stable) = BACKOFF;
    let mut backoff = Backoff::new(floor, cap, stable);
    let mut next_server = 0;
    loop {
        let settings = inner.lock().settings.clone();
        let Some(server) = settings.servers.get(next_server % settings.servers.len().max(1)).cloned() else {
            return;
        };
        inner.lock().status.server = server.to_string();
        let dialled = tokio::select! {
            dialled = dial.dial(&server, &settings.tls) => dialled,
            () = leaving.recv() => return,
        };
        let reason = match dialled {
            Err(fault) => fault.to_string(),
            Ok(stream) => {
                let link = Link::new(inner, &inlet, &clock, &settings);
                let ended = link.run(stream, leaving.clone(), &mut backoff).await;
                disconnected(inner);
                match ended.end {
                    End::Left => return,
                    End::Lost(reason) => {
                        // After a good time, the first server is the first choice again.
                        if ended.up.is_some_and(|up| up.elapsed() >= stable) {
                            next_server = usize::MAX;
                        }
                        reason
                    }
                }
            }
        };
        next_server = next_server.wrapping_add(1);
        let pause = backoff.failed(random());
        tracing::warn!(network = %inner.name, %server, %reason, ?pause, "Not connected");
        inner.lock().status.trouble = Some(reason);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = leaving.recv() => return,
        }
    }
}

/// The connection is gone: what belonged to it goes too, words wait for the next.
fn disconnected(inner: &Inner) {
    let mut shared = inner.lock();
    let shared = &mut *shared;
    shared.status.connected = false;
    shared.status.account = None;
    shared.outgoing.disconnected();
    shared.history.reconnected();
    // The casemapping is kept: keys of queues and of wanted channels are folded by it.
    let isupport = std::mem::take(&mut shared.state.isupport);
    shared.state = State::default();
    shared.state.isupport = isupport;
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
