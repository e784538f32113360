//! Reaching a server: name, TCP or a proxy, TLS, WebSocket. A test dials into memory instead.

mod race;
mod socks;
mod web;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::settings::{ServerAddr, Tls, Via};
use super::tls::{self, TlsFault};

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Addresses of a name at which TLS may fail until that is the answer.
const HANDSHAKES: usize = 3;

/// Bytes both ways.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open connection.
pub type Stream = Box<dyn Wire>;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    /// The name has no address.
    #[error("no address for {0}: {1}")]
    Resolve(String, io::Error),
    /// No address took the connection.
    #[error("{0}: {1}")]
    Connect(String, io::Error),
    /// The proxy would not, or is none.
    #[error("the proxy {0}: {1}")]
    Proxy(String, String),
    /// The certificate was not trusted, or the handshake failed otherwise.
    #[error("TLS with {0}: {1}")]
    Handshake(String, io::Error),
    /// TLS cannot be set up with these settings.
    #[error("TLS settings: {0}")]
    Tls(#[from] TlsFault),
    /// No WebSocket is spoken there.
    #[error("WebSocket with {0}: {1}")]
    Web(String, String),
}

/// Opens connections.
pub trait Dial: Send + Sync + 'static {
    /// Opens one to this server by this way. It ends by itself within a minute or two.
    fn dial(&self, server: &ServerAddr, tls: &Tls, via: &Via) -> Future<Result<Stream, DialFault>>;
}

/// The real network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetDial;

impl Dial for NetDial {
    fn dial(&self, server: &ServerAddr, tls: &Tls, via: &Via) -> Future<Result<Stream, DialFault>> {
        let (server, tls, via) = (server.clone(), tls.clone(), via.clone());
        Box::pin(async move {
            let Some(web) = &server.path else { return open(&server, &tls, &via).await };
            // What servers call it differs, and one that knows none of the names is refused by the library: ask again by other names.
            let mut names = web::NAMES.iter();
            loop {
                let stream = open(&server, &tls, &via).await?;
                match (web::upgrade(stream, &server, web, names.next().copied().unwrap_or(&[])).await, names.len()) {
                    (Err(web::WebFault::OtherName), 1..) => {}
                    (Ok(stream), _) => return Ok(stream),
                    (Err(fault), _) => return Err(DialFault::Web(server.to_string(), fault.to_string())),
                }
            }
        })
    }
}

/// A connection over TCP or the proxy, with TLS if wanted.
async fn open(server: &ServerAddr, tls: &Tls, via: &Via) -> Result<Stream, DialFault> {
    // Before connecting, so that a bad file is told without waiting for the network.
    let config = if tls.enabled { Some(Arc::new(tls::client_config(tls)?)) } else { None };
    let Some(proxy) = &via.proxy else {
        let addrs = race::addresses(server, via.local_address).await?;
        return open_one(server, addrs, via.local_address, config.as_ref()).await;
    };
    let through = race::connect(&proxy.address, None).await?;
    let fault = |fault: socks::SocksFault| DialFault::Proxy(proxy.address.to_string(), fault.to_string());
    let tcp = socks::ask(through, server, proxy).await.map_err(fault)?;
    secured(server, tcp, config.as_ref()).await
}

/// A connection to the first of these addresses that takes one. Where TLS fails at one the next are tried: one machine behind a name may
/// be the only one that is ill.
async fn open_one(
    server: &ServerAddr,
    mut addrs: Vec<SocketAddr>,
    from: Option<IpAddr>,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Stream, DialFault> {
    let mut failed = None;
    for _ in 0..HANDSHAKES {
        let (at, tcp) = match race::first(server, &addrs, from).await {
            Ok(won) => won,
            // What was wrong where somebody answered says more.
            Err(fault) => return Err(failed.unwrap_or(fault)),
        };
        match secured(server, tcp, config).await {
            Ok(stream) => return Ok(stream),
            Err(fault) => {
                tracing::debug!(%server, %at, %fault, "TLS fails at this address");
                addrs.retain(|addr| *addr != at);
                failed = failed.or(Some(fault));
            }
        }
        if addrs.is_empty() {
            break;
        }
    }
    Err(failed.unwrap_or_else(|| DialFault::Connect(server.to_string(), io::ErrorKind::NotFound.into())))
}

/// TLS on a connection, if wanted.
async fn secured(
    server: &ServerAddr,
    tcp: impl Wire + 'static,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Stream, DialFault> {
    let Some(config) = config else {
        return Ok(Box::new(tcp) as Stream);
    };
    let fault = |fault| DialFault::Handshake(server.to_string(), fault);
    let name = ServerName::try_from(server.host.clone()).map_err(|bad| fault(io::Error::other(bad)))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream) as Stream),
        Ok(Err(failed)) => Err(fault(failed)),
        Err(_elapsed) => Err(fault(io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A certificate for `localhost`, by nobody.
    fn acceptor(folder: &std::path::Path, name: &str) -> (TlsAcceptor, Tls) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, own.cert.pem()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
        (TlsAcceptor::from(Arc::new(config.unwrap())), Tls { ca: Some(path), ..Tls::default() })
    }

    #[tokio::test]
    async fn where_tls_fails_at_one_address_of_a_name_the_next_is_tried_and_the_first_fault_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let ((good, trusted), (other, _)) = (acceptor(folder.path(), "good.pem"), acceptor(folder.path(), "other.pem"));
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ill, strange, well) = (listen().await, listen().await, listen().await);
        let addrs = [&ill, &strange, &well].map(|listener| listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                // One hangs up, one is somebody else.
                tokio::select! {
                    taken = ill.accept() => drop(taken),
                    taken = strange.accept() => drop(other.accept(taken.unwrap().0).await),
                }
            }
        });
        tokio::spawn(async move {
            let mut stream = good.accept(well.accept().await.unwrap().0).await.unwrap();
            stream.write_all(b"PING :you\r\n").await.unwrap();
            stream.flush().await.unwrap();
        });
        let (server, config) = (ServerAddr::new("localhost", 1), Arc::new(tls::client_config(&trusted).unwrap()));
        let Ok(mut stream) = open_one(&server, addrs.to_vec(), None, Some(&config)).await else { panic!("no stream") };
        let mut said = [0; 10];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"PING :you\r");
        let Err(fault) = open_one(&server, addrs[..2].to_vec(), None, Some(&config)).await else { panic!("a stream") };
        assert!(matches!(fault, DialFault::Handshake(..)), "{fault}");
    }
}
