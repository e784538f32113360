//! What can be configured about the partyline.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The `partyline` block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where IRC clients, telnet and bots come in; TLS is recognised on the same port. A bot without networks listens on
    /// 127.0.0.1:6667 (or any free port) if this is left out, one with networks nowhere. Port 0 is any free one.
    pub listen: Option<SocketAddr>,
    /// Whether any free port does if that one is taken.
    #[serde(skip)]
    pub or_any: bool,
    /// Another port that takes TLS only.
    pub tls_listen: Option<SocketAddr>,
    /// A certificate chain in PEM. Without one the bot makes its own and keeps it under the data folder.
    pub cert: Option<PathBuf>,
    /// Its key in PEM; in the same file if left out.
    pub key: Option<PathBuf>,
    /// Whether people from elsewhere than this machine may log in without TLS. Their passwords can then be read on the way.
    pub insecure: bool,
    /// The bot's name here.
    pub nick: String,
    /// Lines that everybody is greeted with.
    pub motd: Vec<String>,
    /// Sessions at once.
    pub sessions: usize,
    /// Connections from one address at once.
    pub per_address: usize,
    /// Wrong passwords from one address within [`Settings::window`]; more are refused without looking.
    pub attempts: u32,
    /// The time in which so many are counted.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long somebody may take to log in.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// Pages whose scripts may connect over the gateway's WebSocket, as in `https://chat.example`. Pages of the gateway's
    /// own host always may.
    pub origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: None,
            or_any: false,
            tls_listen: None,
            cert: None,
            key: None,
            insecure: false,
            nick: "chief".to_owned(),
            motd: Vec::new(),
            sessions: 1024,
            per_address: 64,
            attempts: 5,
            window: Duration::from_secs(60),
            patience: Duration::from_secs(60),
            origins: Vec::new(),
        }
    }
}

impl Settings {
    /// What is wrong beyond the grammar: the key and a sentence.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_[]{}^`|\\".contains(c);
        if self.nick.is_empty() || self.nick.len() > 32 || !self.nick.chars().all(letters) {
            faults.push(("nick", format!("{:?} cannot be a name: 1 to 32 letters and digits", self.nick)));
        }
        if self.key.is_some() && self.cert.is_none() {
            faults.push(("key", "a key needs its certificate: set cert too".to_owned()));
        }
        let zero = [
            ("sessions", self.sessions == 0),
            ("per_address", self.per_address == 0),
            ("attempts", self.attempts == 0),
        ];
        faults
            .extend(zero.into_iter().filter(|(_, zero)| *zero).map(|(key, _)| (key, "must be at least 1".to_owned())));
        if self.patience.is_zero() {
            faults.push(("patience", "must be longer than nothing".to_owned()));
        }
        if self.motd.iter().any(|line| line.contains(['\r', '\n', '\0'])) {
            faults.push(("motd", "one line each, please: a list".to_owned()));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_client_takes_and_a_key_without_certificate_are_told() {
        let wrong =
            Settings { nick: "the chief".to_owned(), key: Some("k".into()), attempts: 0, ..Settings::default() };
        let keys: Vec<&str> = wrong.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["nick", "key", "attempts"]);
        assert!(Settings::default().faults().is_empty());
    }
}
