//! How many lines a link is given, or gives: a burst, then so many a second. Talk beyond that is left out, so that a flood on one bot
//! is no flood on the links of all others. Other lines cannot be left out: whoever sends more of them than is fair is read slowly
//! while a link that they go to is behind.

use tokio::time::Instant;

/// Lines of talk at once.
pub(super) const BURST: f64 = 2000.0;
/// Lines of talk a second after that, far more than people say.
pub(super) const RATE: f64 = 500.0;

/// Lines for others at once that are fair: fewer than a half-empty queue has room for.
pub(super) const FAIR_BURST: f64 = 1000.0;
/// Lines for others a second that are fair.
pub(super) const FAIR_RATE: f64 = 100.0;

/// A bucket of lines.
#[derive(Debug)]
pub(super) struct Talk {
    left: f64,
    burst: f64,
    rate: f64,
    at: Instant,
}

impl Default for Talk {
    fn default() -> Talk {
        Talk::new(BURST, RATE)
    }
}

impl Talk {
    /// A full one.
    pub(super) fn new(burst: f64, rate: f64) -> Talk {
        Talk { left: burst, burst, rate, at: Instant::now() }
    }

    /// What is fair to give to others.
    pub(super) fn fair() -> Talk {
        Talk::new(FAIR_BURST, FAIR_RATE)
    }

    /// Whether there is a line to take.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.rate).min(self.burst);
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_and_then_so_many_lines_a_second() {
        let mut talk = Talk::default();
        let mut told = |lines: usize| (0..lines).filter(|_| talk.take()).count();
        assert_eq!(told(10_000), BURST as usize);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(told(10_000), 2 * RATE as usize);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(told(10_000), BURST as usize);
    }
}
