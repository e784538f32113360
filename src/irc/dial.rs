//! Reaching a server: name, TCP, TLS. A test dials into memory instead.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::settings::{ServerAddr, Tls};
use super::tls::{self, TlsFault};

/// How long one address may take to answer. All addresses of a name are tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The certificate was not trusted, or the handshake failed otherwise.
    #[error("TLS with {0}: {1}")]
    Handshake(String, io::Error),
    /// TLS cannot be set up with these settings.
    #[error("TLS settings: {0}")]
    Tls(#[from] TlsFault),
}

/// Opens connections.
pub trait Dial: Send + Sync + 'static {
    /// Opens one to this server. It ends by itself within a minute.
    fn dial(&self, server: &ServerAddr, tls: &Tls) -> Future<Result<Stream, DialFault>>;
}

/// The real network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetDial;

impl Dial for NetDial {
    fn dial(&self, server: &ServerAddr, tls: &Tls) -> Future<Result<Stream, DialFault>> {
        let (server, tls) = (server.clone(), tls.clone());
        Box::pin(async move {
            // Before connecting, so that a bad file is told without waiting for the network.
            let config = if tls.enabled { Some(Arc::new(tls::client_config(&tls)?)) } else { None };
            let tcp = connect(&server).await?;
            let Some(config) = config else {
                return Ok(Box::new(tcp) as Stream);
            };
            let fault = |fault| DialFault::Handshake(server.to_string(), fault);
            let name = ServerName::try_from(server.host.clone()).map_err(|bad| fault(io::Error::other(bad)))?;
            let handshake = TlsConnector::from(config).connect(name, tcp);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => Ok(Box::new(stream) as Stream),
                Ok(Err(failed)) => Err(fault(failed)),
                Err(_elapsed) => Err(fault(io::ErrorKind::TimedOut.into())),
            }
        })
    }
}

/// The first address that answers, IPv6 and IPv4 in turn.
async fn connect(server: &ServerAddr) -> Result<TcpStream, DialFault> {
    let resolve = |fault| DialFault::Resolve(server.host.clone(), fault);
    let lookup = tokio::net::lookup_host((server.host.clone(), server.port));
    let found =
        tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await.map_err(|_| resolve(io::ErrorKind::TimedOut.into()))?;
    let (six, four): (Vec<_>, Vec<_>) = found.map_err(resolve)?.partition(|addr| addr.is_ipv6());
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut in_turn = Vec::with_capacity(six.len() + four.len());
    for at in 0..six.len().max(four.len()) {
        in_turn.extend(six.get(at).into_iter().chain(four.get(at)).copied());
    }
    for addr in in_turn {
        match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(addr)).await {
            Ok(Ok(tcp)) => {
                // A line should leave when it is written; if this cannot be set, it leaves a little later.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(fault)) => last = fault,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialFault::Connect(server.to_string(), last))
}
