//! Where a server is, and by which way it is reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use masterchief_contract::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// The port for TLS, RFC 7194.
const TLS_PORT: u16 = 6697;

/// A server's name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddr {
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Where it is reached over WebSocket; `None` for ordinary IRC.
    pub path: Option<WebPath>,
}

/// The rest of a `wss://` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPath {
    /// `wss://`, not `ws://`.
    pub secure: bool,
    /// From the slash on.
    pub path: String,
}

/// A SOCKS5 proxy. Names are resolved by it, so that `.onion` works and nothing is asked of the local resolver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Where it listens: `127.0.0.1:9050`.
    pub address: ServerAddr,
    /// Whom to be to it. Tor gives each name a circuit of its own: two networks with different names cannot be told to be one bot.
    #[serde(default)]
    pub user: Option<String>,
    /// The password that belongs to it.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// What a gateway says first: whom the connection is for. <https://ircv3.net/specs/extensions/webirc>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webirc {
    /// What the server knows the gateway by.
    pub password: Secret,
    /// The gateway's name.
    #[serde(default = "default_gateway")]
    pub gateway: String,
    /// The host to be shown with.
    pub host: String,
    /// The address that belongs to it.
    pub ip: IpAddr,
    /// Whether the way to the gateway is encrypted too.
    #[serde(default)]
    pub secure: bool,
    /// Sends the password over a connection without TLS, such as to a server on this machine.
    #[serde(default)]
    pub allow_plaintext: bool,
}

/// How a connection gets out of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via {
    /// Through this proxy.
    pub proxy: Option<Proxy>,
    /// From this address.
    pub local_address: Option<IpAddr>,
}

impl FromStr for ServerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerAddr, String> {
        let web = [("wss://", true, 443), ("ws://", false, 80)];
        for (scheme, secure, port) in web {
            if let Some(rest) = text.strip_prefix(scheme) {
                let at = rest.find('/').unwrap_or(rest.len());
                let path = if at == rest.len() { "/" } else { &rest[at..] };
                let good =
                    path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>'));
                if !good {
                    return Err(format!("{text:?} is not an address: write wss://host/path"));
                }
                let path = Some(WebPath { secure, path: path.to_owned() });
                return Ok(ServerAddr { path, ..host_and_port(&rest[..at], port)? });
            }
        }
        host_and_port(text, TLS_PORT)
    }
}

impl Webirc {
    /// The parameters of the line, in order.
    pub(in crate::irc) fn params(&self) -> Vec<String> {
        let ip = self.ip.to_string();
        // What begins with a colon would be the last parameter.
        let ip = if ip.starts_with(':') { format!("0{ip}") } else { ip };
        let mut params = vec![self.password.reveal().to_owned(), self.gateway.clone(), self.host.clone(), ip];
        if self.secure {
            params.push("secure".to_owned());
        }
        params
    }
}

fn default_gateway() -> String {
    "masterchief".to_owned()
}

fn host_and_port(text: &str, usual: u16) -> Result<ServerAddr, String> {
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
        None => usual,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/,".contains(c)) {
        return Err(fault());
    }
    Ok(ServerAddr { host: host.to_owned(), port, path: None })
}

impl ServerAddr {
    /// Ordinary IRC on this port.
    pub fn new(host: &str, port: u16) -> ServerAddr {
        ServerAddr { host: host.to_owned(), port, path: None }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(web) = &self.path {
            f.write_str(if web.secure { "wss://" } else { "ws://" })?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        self.path.as_ref().map_or(Ok(()), |web| f.write_str(&web.path))
    }
}

impl<'de> Deserialize<'de> for ServerAddr {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ServerAddr, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
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
        for bad in
            ["", ":6697", "host:", "host:0", "host:99999", "a b:1", "[::1", "wss://", "wss://h/a b", "wss://h/#x"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_web_address_has_a_port_and_a_path_of_its_own() {
        let read = |text: &str| text.parse::<ServerAddr>().unwrap().to_string();
        assert_eq!(read("wss://irc.example/webirc?x=1"), "wss://irc.example:443/webirc?x=1");
        assert_eq!(read("ws://[::1]:8097"), "ws://[::1]:8097/");
    }
}
