//! A server that demands TLS is remembered, while we are there and after.

use std::time::Duration;

use tokio::time::Instant;

use super::Link;
use crate::irc::reconnect::Ways;

/// How often it is remembered anew while we are there: the time it asked for begins when we go, however we go.
const KEEP_AGAIN: Duration = Duration::from_secs(3600);

impl Link<'_> {
    /// The time for which the server wants TLS has not begun yet.
    pub(super) fn keep_again(&mut self, now: Instant) {
        if now < self.kept + KEEP_AGAIN || !self.inner.lock().secure {
            return;
        }
        self.kept = now;
        let Ways { policies, clock, .. } = self.ways;
        policies.closed(&self.server.host, clock.now());
        let policies = policies.clone();
        tokio::spawn(async move { policies.save().await });
    }

    /// The server wants to be reached with TLS only, for so long.
    pub(super) fn keep(&self, seconds: u64) {
        let Ways { policies, clock, .. } = self.ways;
        policies.keep(&self.server.host, self.server.port, seconds, clock.now());
        // Written in a task of its own: the disk must not hold up a PONG. What is newer is never overwritten by it.
        let policies = policies.clone();
        tokio::spawn(async move { policies.save().await });
    }
}
