//! What a script may use up. A block of the configuration.

use std::time::Duration;

use serde::Deserialize;

/// Limits of each script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Memory of one script in bytes.
    pub memory: usize,
    /// How long a script may compute without waiting for anything.
    #[serde(with = "humantime_serde")]
    pub slice: Duration,
    /// Loop turns and function calls that one call may take, waits not counted.
    pub budget: u64,
    /// How long a script may take to load.
    #[serde(with = "humantime_serde")]
    pub load: Duration,
}

impl Default for Settings {
    /// 64 MiB, half a second, a hundred million, five seconds.
    fn default() -> Settings {
        Settings {
            memory: 64 << 20,
            slice: Duration::from_millis(500),
            budget: 100_000_000,
            load: Duration::from_secs(5),
        }
    }
}
