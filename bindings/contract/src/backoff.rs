//! Exponential back-off with full jitter.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait before trying again: a random time up to a ceiling that doubles with each failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    cap: Duration,
    stable: Duration,
    failures: u32,
    up_since: Option<Instant>,
}

impl Backoff {
    /// Ceilings from `floor` doubling to `cap`; back to `floor` after `stable` without a failure.
    pub fn new(floor: Duration, cap: Duration, stable: Duration) -> Backoff {
        Backoff { floor, cap, stable, failures: 0, up_since: None }
    }

    /// The work has begun to succeed.
    pub fn up(&mut self) {
        self.up_since = Some(Instant::now());
    }

    /// The work failed: how long to wait. `random` is any number; all of its bits count.
    ///
    /// Never less than half a floor, so that no loop spins.
    pub fn failed(&mut self, random: u64) -> Duration {
        if self.up_since.take().is_some_and(|since| since.elapsed() >= self.stable) {
            self.failures = 0;
        }
        let ceiling = self.floor.saturating_mul(1 << self.failures.min(20)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(share).max(self.floor / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_ceiling_doubles_to_the_cap_and_comes_back_after_a_stable_minute() {
        let mut backoff = Backoff::new(SECOND, 120 * SECOND, 60 * SECOND);
        let ceilings: Vec<u64> = (0..9).map(|_| backoff.failed(u64::MAX).as_secs_f64().round() as u64).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        backoff.up();
        tokio::time::advance(59 * SECOND).await;
        assert_eq!(backoff.failed(u64::MAX).as_secs_f64().round(), 120.0);
        backoff.up();
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(backoff.failed(u64::MAX).as_secs_f64().round(), 1.0);
    }

    #[test]
    fn it_never_spins() {
        let mut backoff = Backoff::new(SECOND, 120 * SECOND, 60 * SECOND);
        assert_eq!(backoff.failed(0), SECOND / 2);
    }
}
