//! How fast somebody may talk: a burst, then so many lines a second. Who is faster waits.

use std::time::Duration;

use tokio::time::Instant;

/// Lines at once.
const BURST: f64 = 50.0;
/// Lines a second after that.
const RATE: f64 = 20.0;

/// A bucket of lines.
#[derive(Debug)]
pub(super) struct Pace {
    left: f64,
    at: Instant,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { left: BURST, at: Instant::now() }
    }
}

impl Pace {
    /// Takes one line; waits until there is one to take.
    pub(super) async fn take(&mut self) {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        self.left -= 1.0;
        if self.left < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-self.left / RATE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_at_once_and_the_rest_waits() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..50 {
            pace.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            pace.take().await;
        }
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(950) && taken < Duration::from_millis(1100), "{taken:?}");
    }
}
