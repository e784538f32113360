//! The time of day, real or virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Tells the time of day. In tests it starts where it is told and moves with tokio's paused clock, or only when it is put on.
#[derive(Clone, Debug)]
pub struct Clock {
    tells: Tells,
}

#[derive(Clone, Debug)]
enum Tells {
    Real,
    Virtual(DateTime<Utc>, Instant),
    /// Unix milliseconds.
    ByHand(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock { tells: Tells::Real }
    }

    /// A clock that says `at` now and moves with tokio's clock.
    pub fn starting(at: DateTime<Utc>) -> Clock {
        Clock { tells: Tells::Virtual(at, Instant::now()) }
    }

    /// A clock that says `at` until it is put on, also where time passes: for tests among programs that have clocks of their own.
    pub fn by_hand(at: DateTime<Utc>) -> Clock {
        Clock { tells: Tells::ByHand(Arc::new(AtomicI64::new(at.timestamp_millis()))) }
    }

    /// Puts a clock on that moves by hand; every other moves by itself.
    pub fn put_on(&self, time: Duration) {
        if let Tells::ByHand(millis) = &self.tells {
            millis.fetch_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX), Ordering::AcqRel);
        }
    }

    /// The time of day.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.tells {
            Tells::Real => Utc::now(),
            Tells::Virtual(at, start) => *at + chrono::Duration::from_std(start.elapsed()).unwrap_or_default(),
            Tells::ByHand(millis) => {
                DateTime::from_timestamp_millis(millis.load(Ordering::Acquire)).unwrap_or_default()
            }
        }
    }

    /// Waits; in virtual time, without waiting.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_moves_by_hand_stands_still_until_then_and_its_clones_are_the_same_one() {
        let noon: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
        let clock = Clock::by_hand(noon);
        let other = clock.clone();
        assert_eq!(other.now(), noon);
        clock.put_on(Duration::from_secs(90));
        assert_eq!(other.now(), noon + chrono::Duration::seconds(90));
        Clock::system().put_on(Duration::from_secs(1));
    }
}
