//! How much talk a link is given: a burst, then so many lines a second. What is more is left out, so that a flood on one bot is no flood
//! on the links of all others.

use tokio::time::Instant;

/// Lines of talk at once.
pub(super) const BURST: f64 = 2000.0;
/// Lines of talk a second after that, far more than people say.
pub(super) const RATE: f64 = 500.0;

/// A bucket of lines.
#[derive(Debug)]
pub(super) struct Talk {
    left: f64,
    at: Instant,
}

impl Default for Talk {
    fn default() -> Talk {
        Talk { left: BURST, at: Instant::now() }
    }
}

impl Talk {
    /// Whether there is a line to take.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST);
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
