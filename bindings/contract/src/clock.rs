//! The time of day, real or virtual.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Tells the time of day. In tests it starts where it is told and moves with tokio's paused clock.
#[derive(Clone, Debug)]
pub struct Clock {
    virtual_start: Option<(DateTime<Utc>, Instant)>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock { virtual_start: None }
    }

    /// A clock that says `at` now and moves with tokio's clock.
    pub fn starting(at: DateTime<Utc>) -> Clock {
        Clock { virtual_start: Some((at, Instant::now())) }
    }

    /// The time of day.
    pub fn now(&self) -> DateTime<Utc> {
        match self.virtual_start {
            None => Utc::now(),
            Some((at, start)) => at + chrono::Duration::from_std(start.elapsed()).unwrap_or_default(),
        }
    }

    /// Waits; in virtual time, without waiting.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
