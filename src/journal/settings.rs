//! What can be configured about the journal.

use std::time::Duration;

use serde::Deserialize;

/// The `journal` block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long events that every bind is done with are kept.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Bytes of events that are kept at most; what is not delivered yet counts and is never dropped for it.
    pub keep_bytes: u64,
    /// Bytes of events at which sources have to wait.
    pub max_bytes: u64,
    /// Bytes of events of one stream at which its own source has to wait; half of `max_bytes` where nothing is said.
    pub stream_bytes: Option<u64>,
    /// How long a key is remembered at least, so that a redelivery is known.
    #[serde(with = "humantime_serde")]
    pub remember_keys: Duration,
    /// How long the place of a bind that is gone is remembered.
    #[serde(with = "humantime_serde")]
    pub remember_binds: Duration,
    /// How long dead letters are kept.
    #[serde(with = "humantime_serde")]
    pub keep_dead: Duration,
    /// Bytes of dead letters that are kept at most.
    pub keep_dead_bytes: u64,
    /// A channel (`#ops`, `libera/#ops`) or a nick that is told of dead letters, of what is held, of binds that begin nothing new or are gone for good, and of
    /// streams that have their share.
    pub notify: Option<String>,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keep: HOUR * 24 * 7,
            keep_bytes: 1 << 30,
            max_bytes: 4 << 30,
            stream_bytes: None,
            remember_keys: HOUR * 72,
            remember_binds: HOUR * 72,
            keep_dead: HOUR * 24 * 30,
            keep_dead_bytes: 1 << 30,
            notify: None,
        }
    }
}

impl Settings {
    /// Bytes that one stream may have.
    pub(super) fn share(&self) -> u64 {
        self.stream_bytes.unwrap_or(self.max_bytes / 2).min(self.max_bytes)
    }

    /// What is wrong beyond the grammar: the key and a sentence.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.max_bytes < 1 << 20 {
            faults.push(("max_bytes", "a journal needs at least 1048576 bytes".to_owned()));
        }
        if self.stream_bytes.is_some_and(|bytes| bytes < 1 << 16 || bytes > self.max_bytes) {
            faults.push((
                "stream_bytes",
                "a stream needs at least 65536 bytes, and has no more than max_bytes".to_owned(),
            ));
        }
        if self.keep_bytes > self.max_bytes {
            faults.push(("keep_bytes", "cannot be more than max_bytes".to_owned()));
        }
        faults
    }
}
