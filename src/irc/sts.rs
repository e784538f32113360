//! Strict transport security: servers that want to be reached with TLS only, remembered over restarts.
//! <https://ircv3.net/specs/extensions/sts>

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::settings::{ServerAddr, Tls};

/// Servers remembered; more than anybody configures.
const POLICIES_MAX: usize = 4096;
/// The longest time that is remembered: ten years.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;

/// What a server says about TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sts {
    /// The port with TLS; matters on a connection without.
    pub port: Option<u16>,
    /// For how many seconds to come with TLS only; matters on a connection with TLS. 0 takes it back.
    pub duration: Option<u64>,
}

impl Sts {
    /// Reads the capability's value, `port=6697,duration=300`. What it does not know, it passes over.
    pub fn parse(value: &str) -> Sts {
        let mut sts = Sts::default();
        for (key, value) in value.split(',').filter_map(|pair| pair.split_once('=')) {
            match key {
                "port" => sts.port = value.parse().ok().filter(|port| *port != 0),
                "duration" => sts.duration = value.parse().ok(),
                _ => {}
            }
        }
        sts
    }
}

/// What is remembered of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    /// The port with TLS.
    port: u16,
    /// The time that the server asked for.
    seconds: u64,
    /// When it ends: so long after the last connection was closed.
    until: DateTime<Utc>,
}

/// Why what was remembered cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StsFault {
    /// The file cannot be read. To go on would be to forget who must not be talked to in plain text.
    #[error("{}: {reason}; repair it, or delete it to forget which servers demand TLS", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The servers that want TLS, by host. Cheap to clone; all clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where it is kept.
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By host in lower case.
    kept: BTreeMap<String, Policy>,
    /// Servers that demanded TLS in this process and have not said for how long.
    upgraded: BTreeMap<String, u16>,
    /// Counts changes, so that an older state never overwrites a newer one.
    change: u64,
    written: u64,
}

impl Policies {
    /// A book that ends with the process.
    pub fn memory() -> Policies {
        Policies::default()
    }

    /// The book in a file, which need not exist.
    pub fn open(path: &Path) -> Result<Policies, StsFault> {
        let fault = |reason: String| StsFault::Unreadable { path: path.to_owned(), reason };
        let kept = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|bad| fault(bad.to_string()))?,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(other) => return Err(fault(other.to_string())),
        };
        let known = Known { kept, ..Known::default() };
        Ok(Policies { inner: Arc::new(Inner { path: Some(path.to_owned()), known: Mutex::new(known) }) })
    }

    /// How this server is to be reached now: with TLS on the port it named, if it demands that, else as configured.
    pub fn apply(&self, server: &ServerAddr, tls: &Tls, now: DateTime<Utc>) -> (ServerAddr, Tls) {
        let as_configured = || (server.clone(), tls.clone());
        // Over WebSocket the page's own address says it all.
        if tls.enabled || server.path.is_some() {
            return as_configured();
        }
        let known = self.lock();
        let host = server.host.to_ascii_lowercase();
        let kept = known.kept.get(&host).filter(|policy| policy.until > now).map(|policy| policy.port);
        match kept.or_else(|| known.upgraded.get(&host).copied()) {
            Some(port) => (ServerAddr { port, ..server.clone() }, Tls { enabled: true, ..tls.clone() }),
            None => as_configured(),
        }
    }

    /// The server demands TLS on this port, said without TLS: believed until it is reached there and says for how long.
    pub(super) fn upgrade(&self, host: &str, port: u16) {
        let mut known = self.lock();
        if known.upgraded.len() < POLICIES_MAX {
            known.upgraded.insert(host.to_ascii_lowercase(), port);
        }
    }

    /// The server, reached with TLS on this port, says for how long it wants that.
    pub(super) fn keep(&self, host: &str, port: u16, seconds: u64, now: DateTime<Utc>) {
        let mut known = self.lock();
        let host = host.to_ascii_lowercase();
        let seconds = seconds.min(SECONDS_MAX);
        known.upgraded.remove(&host);
        if seconds == 0 {
            known.kept.remove(&host);
        } else if known.kept.len() < POLICIES_MAX || known.kept.contains_key(&host) {
            known.kept.insert(host, Policy { port, seconds, until: ends(now, seconds) });
        }
        known.change += 1;
    }

    /// A connection with TLS has ended: the time is counted from now.
    pub(super) fn closed(&self, host: &str, now: DateTime<Utc>) {
        let mut known = self.lock();
        if let Some(policy) = known.kept.get_mut(&host.to_ascii_lowercase()) {
            policy.until = ends(now, policy.seconds);
            known.change += 1;
        }
    }

    /// Writes what changed, if there is a file. Ready when it is durable, or has failed and that was logged.
    pub(super) async fn save(&self) {
        let book = self.clone();
        let writing = tokio::task::spawn_blocking(move || book.write());
        if let Ok(Err(fault)) = writing.await {
            tracing::error!(%fault, "Which servers demand TLS cannot be written down; a restart forgets it");
        }
    }

    /// Beside the old file first, so that there is always a whole one.
    fn write(&self) -> std::io::Result<()> {
        let Some(path) = &self.inner.path else { return Ok(()) };
        // Held while it is written: two connections that end together take turns.
        let mut known = self.lock();
        if known.written == known.change {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&known.kept)?;
        let beside = path.with_extension("json.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        if let Some(folder) = path.parent() {
            std::fs::File::open(folder)?.sync_all()?;
        }
        known.written = known.change;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends(now: DateTime<Utc>, seconds: u64) -> DateTime<Utc> {
    now + TimeDelta::seconds(i64::try_from(seconds.min(SECONDS_MAX)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    /// The port and whether TLS is used.
    fn reached(book: &Policies, host: &str, now: i64) -> (u16, bool) {
        let server = ServerAddr { port: 6667, ..host.parse().unwrap() };
        let (server, tls) = book.apply(&server, &Tls::off(), at(now));
        (server.port, tls.enabled)
    }

    #[test]
    fn the_value_is_read_and_what_is_unknown_is_passed_over() {
        let sts = |port, duration| Sts { port, duration };
        assert_eq!(Sts::parse("port=6697,duration=300"), sts(Some(6697), Some(300)));
        assert_eq!(Sts::parse("preload,duration=0,x=y"), sts(None, Some(0)));
        assert_eq!(Sts::parse("port=0,duration=-1"), sts(None, None));
        assert_eq!(Sts::parse(""), Sts::default());
    }

    #[test]
    fn a_demand_holds_until_its_time_after_the_last_connection_is_over() {
        let book = Policies::memory();
        book.keep("IRC.test", 6697, 300, at(0));
        assert_eq!(reached(&book, "irc.test", 299), (6697, true));
        assert_eq!(reached(&book, "irc.test", 300), (6667, false));
        assert_eq!(reached(&book, "other.test", 0), (6667, false));
        book.closed("irc.TEST", at(1000));
        assert_eq!(reached(&book, "irc.test", 1299), (6697, true));
        book.keep("irc.test", 6697, 0, at(1001));
        assert_eq!(reached(&book, "irc.test", 1002), (6667, false));
    }

    #[test]
    fn what_was_demanded_once_is_not_asked_for_in_plain_text_again() {
        let book = Policies::memory();
        book.upgrade("irc.test", 6697);
        assert_eq!(reached(&book, "irc.test", 0), (6697, true));
        book.closed("irc.test", at(1));
        assert_eq!(reached(&book, "irc.test", 99_999), (6697, true), "it was never reached to say for how long");
        book.keep("irc.test", 6697, 0, at(2));
        assert_eq!(reached(&book, "irc.test", 2), (6667, false));
    }

    #[test]
    fn with_tls_configured_its_own_port_stays() {
        let book = Policies::memory();
        book.keep("irc.test", 6697, 300, at(0));
        let server = ServerAddr { port: 7000, ..("irc.test".parse().unwrap()) };
        assert_eq!(book.apply(&server, &Tls::default(), at(0)).0.port, 7000);
    }

    #[tokio::test]
    async fn it_is_kept_over_a_restart_and_a_file_that_is_none_is_not_overlooked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sts.json");
        let book = Policies::open(&path).unwrap();
        book.keep("irc.test", 6697, 300, at(0));
        book.save().await;
        assert_eq!(reached(&Policies::open(&path).unwrap(), "irc.test", 10), (6697, true));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::write(&path, "{").unwrap();
        assert!(Policies::open(&path).unwrap_err().to_string().contains("delete it"));
    }

    proptest! {
        #[test]
        fn nothing_a_server_says_panics(value in any::<String>(), seconds in any::<u64>()) {
            Sts::parse(&value);
            Policies::memory().keep(&value, 1, seconds, at(0));
        }
    }
}
