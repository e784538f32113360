//! The settings of one network, as they stand under `networks:` in a configuration.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::outgoing::Pace;
use super::sasl;

mod check;
mod route;

pub use route::{Proxy, ServerAddr, Via, WebPath, Webirc};

/// One network.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `host:port`, tried in order, for ever. The port is 6697 where none is given. Or `wss://host/path`, IRC over WebSocket.
    pub servers: Vec<ServerAddr>,
    /// A SOCKS5 proxy to go through, such as Tor's.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// The address of this machine to connect from. The system chooses where none is given.
    #[serde(default)]
    pub local_address: Option<IpAddr>,
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
    /// How much a channel is told in what time. Without it thirty lines a minute, as far as there is somewhere else for the rest.
    #[serde(default = "Budget::usual")]
    pub budget: Budget,
    /// When silence means that the connection is dead.
    #[serde(default)]
    pub ping: PingSettings,
    /// Asks the server (WHOIS) for the certificate of everybody seen, so that user records can name fingerprints.
    #[serde(default)]
    pub ask_certificates: bool,
    /// What services may be asked for when SASL is not enough.
    #[serde(default)]
    pub services: Option<Services>,
    /// Channels in which the bot should be an operator. Where it is none, a bind of kind `need` hears of it and, with
    /// `services: {op: true}`, ChanServ is asked.
    #[serde(default)]
    pub operator_in: Vec<String>,
    /// Says who we are to a server that takes us for a gateway (WEBIRC), before everything else.
    #[serde(default)]
    pub webirc: Option<Webirc>,
    /// Whether to stay in a channel that a full one sends us to (470). The one we wanted is tried again all the same.
    #[serde(default)]
    pub follow_redirects: bool,
    /// Lines of a channel's history to ask for after we were away, where a bind of kind `hist` wants them and the server has them.
    #[serde(default = "default_history")]
    pub history: usize,
}

/// Commands to services. A nick is nobody's proof, so a password is only said to `nick@server`, which a server hands to nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Whom to talk to about nicks: `NickServ@services.example`, with the server that WHOIS names. Without a password `NickServ` will do.
    #[serde(default = "default_nickserv")]
    pub nickserv: String,
    /// Whom to talk to about channels.
    #[serde(default = "default_chanserv")]
    pub chanserv: String,
    /// The word that takes our nick back from whoever has it: `REGAIN`, `GHOST`, `RECOVER`. None is sent without it.
    #[serde(default)]
    pub regain: Option<String>,
    /// The password to say behind that, for services that do not go by our login, and to identify with. It is said over TLS only, and
    /// only where `nickserv` names the server.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Whether NickServ is told the password where we are not logged in by SASL. Channels are joined once it has answered, or after ten
    /// seconds.
    #[serde(default)]
    pub identify: bool,
    /// Whether ChanServ is asked for what keeps us out of a channel: INVITE, UNBAN, GETKEY.
    #[serde(default)]
    pub let_in: bool,
    /// Whether ChanServ is asked for our status in the channels of `operator_in`: OP, at most every ten minutes.
    #[serde(default)]
    pub op: bool,
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
    /// Whom to be logged in as by EXTERNAL, where services want it said or several accounts share a certificate. Usually it is left
    /// out: the certificate says it.
    #[serde(default)]
    pub authzid: String,
    /// Its password, for SCRAM-SHA-256 and PLAIN.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A PEM text with our key on NIST P-256, for ECDSA-NIST256P-CHALLENGE: `"${file:chief.ecdsa.pem}"`.
    #[serde(default)]
    pub ecdsa_key: Option<Secret>,
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

/// How much a channel is told. What is more stands on a page of the gateway, or goes to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Lines to one channel. Pages are always said. 0 means no limit.
    pub lines: u32,
    /// In this time.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// How long a page with the rest can be read.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Whether what has nowhere else to go is said all the same: nobody has asked for a limit.
    #[serde(skip)]
    pub lenient: bool,
}

impl Default for Budget {
    /// Thirty lines a minute.
    fn default() -> Budget {
        Budget { lines: 30, per: Duration::from_secs(60), keep: Duration::from_secs(3600), lenient: false }
    }
}

impl Budget {
    /// Where a configuration says nothing of it: no line is left out for it.
    pub fn usual() -> Budget {
        Budget { lenient: true, ..Budget::default() }
    }

    /// No limit.
    pub fn none() -> Budget {
        Budget { lines: 0, ..Budget::default() }
    }
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
            budget: Budget::none(),
            ping: PingSettings::default(),
            ask_certificates: false,
            proxy: None,
            local_address: None,
            services: None,
            operator_in: Vec::new(),
            webirc: None,
            follow_redirects: false,
            history: default_history(),
        }
    }

    /// The user name to register with.
    pub fn username(&self) -> &str {
        self.username.as_deref().unwrap_or(&self.nick)
    }
}

impl Settings {
    /// How a connection gets out of this machine.
    pub(super) fn via(&self) -> Via {
        Via { proxy: self.proxy.clone(), local_address: self.local_address }
    }
}

impl Services {
    /// The password, if nobody but services can be told it: whoever has their nick has not their server.
    pub(super) fn sayable(&self) -> Option<&Secret> {
        let named = self.nickserv.split_once('@').is_some_and(|(nick, server)| !nick.is_empty() && !server.is_empty());
        self.password.as_ref().filter(|_| named)
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

impl Default for Sasl {
    fn default() -> Sasl {
        Sasl {
            mechanisms: default_mechanisms(),
            account: String::new(),
            authzid: String::new(),
            password: None,
            ecdsa_key: None,
            required: true,
            allow_plaintext: false,
        }
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

fn yes() -> bool {
    true
}

fn default_nick() -> String {
    "chief".to_owned()
}

fn default_history() -> usize {
    100
}

fn default_nickserv() -> String {
    "NickServ".to_owned()
}

fn default_chanserv() -> String {
    "ChanServ".to_owned()
}

fn default_realname() -> String {
    "MasterChief".to_owned()
}

fn default_mechanisms() -> Vec<sasl::Mechanism> {
    vec![sasl::Mechanism::ScramSha256, sasl::Mechanism::Plain]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_a_word_or_a_map_and_an_unknown_key_is_refused() {
        let read = |json: &str| serde_json::from_str::<Settings>(&format!(r#"{{"servers":["h"],"tls":{json}}}"#));
        assert_eq!(read("true").unwrap().tls, Tls::default());
        assert_eq!(read("false").unwrap().tls, Tls::off());
        let pinned = read(&format!(r#"{{"fingerprints":["{}"]}}"#, "AB:".repeat(32).trim_end_matches(':'))).unwrap();
        assert_eq!(pinned.tls.fingerprints, [Fingerprint([0xAB; 32])]);
        assert!(read(r#"{"fingerprint":[]}"#).unwrap_err().to_string().contains("unknown field"));
    }
}
