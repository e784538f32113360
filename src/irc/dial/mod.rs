//! Reaching a server: name, TCP or a proxy, TLS, WebSocket. A test dials into memory instead.

mod race;
mod socks;
mod web;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::settings::{ServerAddr, Tls, Via};
use super::tls::{self, TlsFault};

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

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
    let tcp = match &via.proxy {
        None => race::connect(server, via.local_address).await?,
        Some(proxy) => {
            let through = race::connect(&proxy.address, None).await?;
            let fault = |fault: socks::SocksFault| DialFault::Proxy(proxy.address.to_string(), fault.to_string());
            socks::ask(through, server, proxy).await.map_err(fault)?
        }
    };
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
}
