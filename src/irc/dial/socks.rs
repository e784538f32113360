//! Going through a SOCKS5 proxy: RFC 1928, with the names and passwords of RFC 1929.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::irc::settings::{Proxy, ServerAddr};

/// How long the proxy may take; Tor builds a circuit meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const BY_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;

/// Why the proxy did not connect us.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocksFault {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
    #[error("it does not speak SOCKS5")]
    Foreign,
    #[error("it wants another way to log in; set `proxy: {{user, password}}`, or leave them out")]
    Login,
    #[error("it refuses the user or the password")]
    Refused,
    #[error("the name of the server is too long for it")]
    Name,
    #[error("it cannot connect: {0}")]
    Connect(&'static str),
}

/// Has the proxy connect to this server; gives the same stream, through which the server is reached now.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server: &ServerAddr,
    proxy: &Proxy,
) -> Result<S, SocksFault> {
    match tokio::time::timeout(PATIENCE, converse(stream, server, proxy)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(SocksFault::Late),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    server: &ServerAddr,
    proxy: &Proxy,
) -> Result<S, SocksFault> {
    // With a name of our own no other way is offered: the circuit is isolated by it.
    let way = if proxy.user.is_some() { BY_PASSWORD } else { NO_LOGIN };
    stream.write_all(&[VERSION, 1, way]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match chosen {
        [VERSION, chosen] if chosen == way => {}
        [VERSION, _] => return Err(SocksFault::Login),
        _ => return Err(SocksFault::Foreign),
    }
    if let Some((user, password)) = proxy.user.as_ref().zip(proxy.password.as_ref()) {
        let mut login = vec![1];
        for part in [user.as_bytes(), password.reveal().as_bytes()] {
            login.push(u8::try_from(part.len()).map_err(|_| SocksFault::Refused)?);
            login.extend_from_slice(part);
        }
        stream.write_all(&login).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        if answer[1] != 0 {
            return Err(SocksFault::Refused);
        }
    }
    stream.write_all(&request(server)?).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[0] != VERSION {
        return Err(SocksFault::Foreign);
    }
    if head[1] != 0 {
        return Err(SocksFault::Connect(reason(head[1])));
    }
    // Where it connects from; of no use, and in the way.
    let bound = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(SocksFault::Foreign),
    };
    let mut rest = vec![0; bound + 2];
    stream.read_exact(&mut rest).await?;
    Ok(stream)
}

fn request(server: &ServerAddr) -> Result<Vec<u8>, SocksFault> {
    let mut out = vec![VERSION, CONNECT, 0];
    match server.host.parse() {
        Ok(IpAddr::V4(addr)) => {
            out.push(1);
            out.extend_from_slice(&addr.octets());
        }
        Ok(IpAddr::V6(addr)) => {
            out.push(4);
            out.extend_from_slice(&addr.octets());
        }
        Err(_) => {
            out.push(3);
            out.push(u8::try_from(server.host.len()).map_err(|_| SocksFault::Name)?);
            out.extend_from_slice(server.host.as_bytes());
        }
    }
    out.extend_from_slice(&server.port.to_be_bytes());
    Ok(out)
}

/// RFC 1928, section 6.
fn reason(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable, or the name is unknown",
        5 => "the server refuses the connection",
        6 => "the time is up",
        _ => "it failed",
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    fn proxy(user: Option<&str>) -> Proxy {
        Proxy {
            address: ServerAddr::new("127.0.0.1", 9050),
            user: user.map(str::to_owned),
            password: user.map(|_| Secret::new("pw")),
        }
    }

    /// What we said, and how it ended, when the proxy says this.
    async fn told(server: &str, user: Option<&str>, says: &[u8]) -> (Vec<u8>, Result<Vec<u8>, SocksFault>) {
        let (ours, mut theirs) = duplex(4096);
        theirs.write_all(says).await.unwrap();
        let outcome = ask(ours, &ServerAddr::new(server, 6697), &proxy(user)).await;
        let outcome = match outcome {
            Ok(mut stream) => {
                stream.shutdown().await.unwrap();
                let mut rest = vec![0; 2];
                stream.read_exact(&mut rest).await.map(|_| rest).map_err(SocksFault::Io)
            }
            Err(fault) => Err(fault),
        };
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (said, outcome)
    }

    #[tokio::test]
    async fn a_name_is_handed_to_the_proxy_and_not_resolved_here() {
        let (said, rest) = told("abc.onion", None, b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hi").await;
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x03\x09abc.onion\x1a\x29");
        assert_eq!(rest.unwrap(), b"hi", "what follows is the server's");
        let (said, _) = told("127.0.0.1", None, b"\x05\x00\x05\x00\x00\x03\x01x\x00\x00hi").await;
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x1a\x29");
    }

    #[tokio::test]
    async fn a_user_of_ones_own_is_shown_and_nothing_less_is_offered() {
        let (said, rest) = told("h", Some("net1"), b"\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hi").await;
        assert_eq!(said, b"\x05\x01\x02\x01\x04net1\x02pw\x05\x01\x00\x03\x01h\x1a\x29");
        assert!(rest.is_ok());
        assert!(matches!(told("h", Some("net1"), b"\x05\x00").await.1, Err(SocksFault::Login)));
        assert!(matches!(told("h", Some("net1"), b"\x05\x02\x01\x01").await.1, Err(SocksFault::Refused)));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_words() {
        let (_, refused) = told("h", None, b"\x05\x00\x05\x05\x00\x01").await;
        assert_eq!(refused.unwrap_err().to_string(), "it cannot connect: the server refuses the connection");
        assert!(matches!(told("h", None, b"HT").await.1, Err(SocksFault::Foreign)));
    }

    proptest! {
        #[test]
        fn nothing_a_proxy_says_panics(says in prop::collection::vec(any::<u8>(), 0..64), login in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (ours, mut theirs) = duplex(4096);
                theirs.write_all(&says).await.unwrap();
                theirs.shutdown().await.unwrap();
                let _ = ask(ours, &ServerAddr::new("h", 1), &proxy(login.then_some("u"))).await;
            });
        }
    }
}
