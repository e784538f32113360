//! The settings of one network, as they stand under `networks:` in a configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::outgoing::Pace;
use super::sasl;

/// The port for TLS, RFC 7194.
const TLS_PORT: u16 = 6697;

/// One network.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `host:port`, tried in order, for ever. The port is 6697 where none is given.
    pub servers: Vec<ServerAddr>,
    /// `true`, `false`, or the details of [`Tls`].
    #[serde(default)]
    pub tls: Tls,
    /// The server's password (PASS).
    #[serde(default)]
    pub password: Option<Secret>,
    /// The nick.
    #[serde(default = "default_nick")]
    pub nick: String,
    /// Nicks to take while the first is in use. After them, digits are put behind the first.
    #[serde(default)]
    pub alt_nicks: Vec<String>,
    /// The user name ("ident"). The nick's where none is given.
    #[serde(default)]
    pub username: Option<String>,
    /// What WHOIS shows.
    #[serde(default = "default_realname")]
    pub realname: String,
    /// The services account to log in to.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Channels to be in: `"#ops"`, or `{name: "#secret", key: "..."}`.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// How fast lines may leave.
    #[serde(default)]
    pub pace: PaceSettings,
    /// When silence means that the connection is dead.
    #[serde(default)]
    pub ping: PingSettings,
    /// Asks the server (WHOIS) for the certificate of everybody seen, so that user records can name fingerprints.
    #[serde(default)]
    pub ask_certificates: bool,
}

/// A server's name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddr {
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// TLS, or not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Tls {
    /// Off means that everything, passwords too, is sent in plain text.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether the certificate must be good. Off accepts anybody in the middle.
    #[serde(default = "yes")]
    pub verify: bool,
    /// A PEM file with the only authorities to trust. The system's where none is given.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// SHA-256 of the server's certificate in hex, colons allowed. One that matches is trusted whatever else the
    /// certificate says; with this list nothing else is trusted.
    #[serde(default)]
    pub fingerprints: Vec<Fingerprint>,
    /// A PEM file with our certificate, for SASL EXTERNAL.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// A PEM file with its key. The certificate's own file where none is given.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A SHA-256 fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// How to log in to services.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// Tried in this order, as far as the server offers them.
    #[serde(default = "default_mechanisms")]
    pub mechanisms: Vec<sasl::Mechanism>,
    /// The account's name. Not needed for EXTERNAL.
    #[serde(default)]
    pub account: String,
    /// Its password. Not needed for EXTERNAL.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Whether to stay away rather than be on the network without the account.
    #[serde(default = "yes")]
    pub required: bool,
    /// Sends the password over a connection without TLS too.
    #[serde(default)]
    pub allow_plaintext: bool,
}

/// A channel to be in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Channel {
    /// Its name, with the sign in front.
    pub name: String,
    /// Its key.
    #[serde(default)]
    pub key: Option<Secret>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaceSettings {
    /// Lines that may leave at once after a rest.
    pub burst: u32,
    /// The time that gives one line back, such as `2s`. `0s` means no limit.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

/// Our own PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PingSettings {
    /// How long the server may be silent before it is asked.
    #[serde(with = "humantime_serde")]
    pub after: Duration,
    /// How long it may take to answer before the connection is given up.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Settings {
    /// A network with these servers and the defaults for the rest.
    pub fn new(servers: Vec<ServerAddr>) -> Settings {
        Settings {
            servers,
            tls: Tls::default(),
            password: None,
            nick: default_nick(),
            alt_nicks: Vec::new(),
            username: None,
            realname: default_realname(),
            sasl: None,
            channels: Vec::new(),
            pace: PaceSettings::default(),
            ping: PingSettings::default(),
            ask_certificates: false,
        }
    }

    /// What is wrong with these settings beyond their grammar: each with the key it concerns.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.servers.is_empty() {
            faults.push(("servers", "needs at least one server, such as \"irc.libera.chat:6697\"".to_owned()));
        }
        for nick in std::iter::once(&self.nick).chain(&self.alt_nicks) {
            if !is_word(nick) || nick.starts_with(|c: char| c.is_ascii_digit() || c == '#' || c == ':') {
                faults.push(("nick", format!("{nick:?} is not a nick: one word that does not begin with a digit")));
            }
        }
        for channel in &self.channels {
            if !is_word(&channel.name) || !channel.name.starts_with(|c: char| c.is_ascii_punctuation()) {
                faults.push(("channels", format!("{:?} is not a channel: write \"#{}\"", channel.name, channel.name)));
            }
            if channel.key.as_ref().is_some_and(|key| !is_word(key.reveal())) {
                faults.push(("channels", format!("the key of {} is not one word", channel.name)));
            }
        }
        if self.realname.contains(['\r', '\n', '\0']) {
            faults.push(("realname", "has a line break".to_owned()));
        }
        if self.username.as_ref().is_some_and(|name| !is_word(name)) {
            faults.push(("username", "is not one word".to_owned()));
        }
        if self.password.as_ref().is_some_and(|password| password.reveal().contains(['\r', '\n', '\0'])) {
            faults.push(("password", "has a line break".to_owned()));
        }
        faults.extend(self.sasl_faults().into_iter().map(|fault| ("sasl", fault)));
        if self.pace.burst == 0 {
            faults.push(("pace", "burst must be at least 1".to_owned()));
        }
        if self.ping.after.is_zero() || self.ping.timeout.is_zero() {
            faults.push(("ping", "after and timeout must be longer than nothing".to_owned()));
        }
        faults
    }

    fn sasl_faults(&self) -> Vec<String> {
        let Some(sasl) = &self.sasl else { return Vec::new() };
        let mut faults = Vec::new();
        if sasl.mechanisms.is_empty() {
            faults.push("mechanisms is empty: leave it out, or name PLAIN or EXTERNAL".to_owned());
        }
        for mechanism in &sasl.mechanisms {
            if mechanism.needs_password() && (sasl.account.is_empty() || sasl.password.is_none()) {
                faults.push(format!("{mechanism} needs `account` and `password`"));
            }
            if mechanism.needs_certificate() && self.tls.cert.is_none() {
                faults.push(format!("{mechanism} needs our certificate: set `tls: {{cert: PATH}}`"));
            }
            if mechanism.shows_password() && !self.tls.enabled && !sasl.allow_plaintext {
                faults.push(format!(
                    "{mechanism} would send the password in plain text: set `tls: true`, or `allow_plaintext: true`"
                ));
            }
        }
        faults
    }

    /// The user name to register with.
    pub fn username(&self) -> &str {
        self.username.as_deref().unwrap_or(&self.nick)
    }
}

impl PaceSettings {
    /// As the queue wants it.
    pub fn pace(self) -> Pace {
        Pace { burst: self.burst, interval: self.interval }
    }
}

impl Default for PaceSettings {
    /// Four lines, then one every two seconds: what the strictest of the common servers bear.
    fn default() -> PaceSettings {
        PaceSettings { burst: 4, interval: Duration::from_secs(2) }
    }
}

impl Default for PingSettings {
    fn default() -> PingSettings {
        PingSettings { after: Duration::from_secs(60), timeout: Duration::from_secs(30) }
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls { enabled: true, verify: true, ca: None, fingerprints: Vec::new(), cert: None, key: None }
    }
}

impl Tls {
    /// Reads the files that are named.
    pub fn check(&self) -> Result<(), super::TlsFault> {
        if self.enabled { super::tls::client_config(self).map(drop) } else { Ok(()) }
    }

    /// No TLS.
    pub fn off() -> Tls {
        Tls { enabled: false, ..Tls::default() }
    }
}

impl FromStr for ServerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerAddr, String> {
        let fault = || format!("{text:?} is not a server: write host:port, such as \"irc.libera.chat:6697\"");
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']').ok_or_else(fault)?;
            (host, rest.strip_prefix(':'))
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?,
            None => TLS_PORT,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/,".contains(c)) {
            return Err(fault());
        }
        Ok(ServerAddr { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for ServerAddr {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ServerAddr, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut out = [0; 32];
        let good = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
        if !good {
            return Err(format!("{text:?} is not a SHA-256 fingerprint: 64 hex digits, colons allowed"));
        }
        for (at, pair) in hex.chunks_exact(2).enumerate() {
            let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
            out[at] = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Fingerprint(out))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tls, D::Error> {
        struct BoolOrMap;
        impl<'de> Visitor<'de> for BoolOrMap {
            type Value = Tls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or {verify, ca, fingerprints, cert, key}")
            }

            fn visit_bool<E>(self, enabled: bool) -> Result<Tls, E> {
                Ok(Tls { enabled, ..Tls::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tls, A::Error> {
                Tls::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(BoolOrMap)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Channel, D::Error> {
        struct NameOrMap;
        impl<'de> Visitor<'de> for NameOrMap {
            type Value = Channel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a channel's name, or {name, key}")
            }

            fn visit_str<E>(self, name: &str) -> Result<Channel, E> {
                Ok(Channel { name: name.to_owned(), key: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Channel, A::Error> {
                Channel::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(NameOrMap)
    }
}

/// Whether this can stand in the middle of a line.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && !text.contains([' ', ',', '\r', '\n', '\0', '\u{7}'])
}

fn yes() -> bool {
    true
}

fn default_nick() -> String {
    "chief".to_owned()
}

fn default_realname() -> String {
    "MasterChief".to_owned()
}

fn default_mechanisms() -> Vec<sasl::Mechanism> {
    vec![sasl::Mechanism::Plain]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_or_an_address_with_a_port() {
        let read = |text: &str| text.parse::<ServerAddr>().map(|addr| (addr.host.clone(), addr.port));
        assert_eq!(read("irc.libera.chat:6697"), Ok(("irc.libera.chat".to_owned(), 6697)));
        assert_eq!(read("irc.libera.chat"), Ok(("irc.libera.chat".to_owned(), 6697)));
        assert_eq!(read("[::1]:6667"), Ok(("::1".to_owned(), 6667)));
        assert_eq!(read("::1"), Ok(("::1".to_owned(), 6697)));
        for bad in ["", ":6697", "host:", "host:0", "host:99999", "a b:1", "[::1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_is_a_word_or_a_map_and_an_unknown_key_is_refused() {
        let read = |json: &str| serde_json::from_str::<Settings>(&format!(r#"{{"servers":["h"],"tls":{json}}}"#));
        assert_eq!(read("true").unwrap().tls, Tls::default());
        assert_eq!(read("false").unwrap().tls, Tls::off());
        let pinned = read(&format!(r#"{{"fingerprints":["{}"]}}"#, "AB:".repeat(32).trim_end_matches(':'))).unwrap();
        assert_eq!(pinned.tls.fingerprints, [Fingerprint([0xAB; 32])]);
        assert!(read(r#"{"fingerprint":[]}"#).unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn settings_that_cannot_work_are_told_with_their_key() {
        let settings: Settings = serde_json::from_str(
            r##"{"servers":[],"nick":"9lives","tls":false,"channels":["ops","#a b"],
                 "sasl":{"mechanisms":["PLAIN","EXTERNAL"],"account":"chief","password":"x"}}"##,
        )
        .unwrap();
        let keys: Vec<&str> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["servers", "nick", "channels", "channels", "sasl", "sasl"]);
        let password = &settings.sasl.unwrap().password.unwrap();
        assert_eq!(format!("{password:?}"), "***");
    }
}
