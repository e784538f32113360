//! Reaching a server: name, TCP or a proxy, TLS, WebSocket. A test dials into memory instead.

mod race;
mod socks;
mod web;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::settings::{ServerAddr, Tls, Via};
use super::tls::{Secure, TlsFault};

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take to be closed to a server that is a stranger.
const CLOSE: Duration = Duration::from_secs(1);
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
    let secure = if tls.enabled { Some(Secure::new(tls)?) } else { None };
    let Some(proxy) = &via.proxy else {
        let addrs = race::addresses(server, via.local_address).await?;
        return open_one(server, addrs, via.local_address, secure.as_ref()).await;
    };
    let through = race::connect(&proxy.address, None).await?;
    let fault = |fault: socks::SocksFault| DialFault::Proxy(proxy.address.to_string(), fault.to_string());
    let tcp = socks::ask(through, server, proxy).await.map_err(fault)?;
    secured(server, tcp, secure.as_ref()).await
}

/// A connection to the first of these addresses that takes one. Where TLS fails at one the next are tried: one machine behind a name may
/// be the only one that is ill.
async fn open_one(
    server: &ServerAddr,
    mut addrs: Vec<SocketAddr>,
    from: Option<IpAddr>,
    secure: Option<&Secure>,
) -> Result<Stream, DialFault> {
    let mut failed = None;
    for _ in 0..HANDSHAKES {
        let (at, tcp) = match race::first(server, &addrs, from).await {
            Ok(won) => won,
            // What was wrong where somebody answered says more.
            Err(fault) => return Err(failed.unwrap_or(fault)),
        };
        match secured(server, tcp, secure).await {
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
async fn secured(server: &ServerAddr, tcp: impl Wire + 'static, secure: Option<&Secure>) -> Result<Stream, DialFault> {
    let Some(secure) = secure else {
        return Ok(Box::new(tcp) as Stream);
    };
    let fault = |fault| DialFault::Handshake(server.to_string(), fault);
    let name = ServerName::try_from(server.host.clone()).map_err(|bad| fault(io::Error::other(bad)))?;
    let handshake = TlsConnector::from(Arc::clone(&secure.config)).connect(name, tcp);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(mut stream)) => {
            let Err(stranger) = secure.judge(stream.get_ref().1.peer_certificates()) else {
                return Ok(Box::new(stream) as Stream);
            };
            // Whether a stranger hears the end of it is all the same.
            let _ = tokio::time::timeout(CLOSE, stream.shutdown()).await;
            Err(fault(io::Error::other(stranger)))
        }
        Ok(Err(failed)) => Err(fault(failed)),
        Err(_elapsed) => Err(fault(io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::irc::identity::fingerprint;

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
        let (server, secure) = (ServerAddr::new("localhost", 1), Secure::new(&trusted).unwrap());
        let Ok(mut stream) = open_one(&server, addrs.to_vec(), None, Some(&secure)).await else { panic!("no stream") };
        let mut said = [0; 10];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"PING :you\r");
        let Err(fault) = open_one(&server, addrs[..2].to_vec(), None, Some(&secure)).await else { panic!("a stream") };
        assert!(matches!(fault, DialFault::Handshake(..)), "{fault}");
    }

    /// A server that notes the name it is asked for.
    #[derive(Debug)]
    struct Names {
        own: Arc<CertifiedKey>,
        asked: Mutex<Vec<Option<String>>>,
    }

    impl ResolvesServerCert for Names {
        fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            self.asked.lock().unwrap().push(hello.server_name().map(str::to_owned));
            Some(Arc::clone(&self.own))
        }
    }

    /// Such a server, for `localhost` and its address.
    async fn server() -> (Arc<Names>, TcpListener, TlsAcceptor, rcgen::CertifiedKey<rcgen::KeyPair>) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let key = Arc::new(CertifiedKey::new(vec![own.cert.der().clone()], key));
        let names = Arc::new(Names { own: key, asked: Mutex::default() });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Names>::clone(&names);
        let config = builder.unwrap().with_no_client_auth().with_cert_resolver(resolver);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (names, listener, TlsAcceptor::from(Arc::new(config)), own)
    }

    /// What the server reads of the next connection, if its handshake ends well.
    async fn hears(listener: &TcpListener, acceptor: &TlsAcceptor) -> Result<usize, io::Error> {
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        stream.read(&mut [0; 16]).await
    }

    #[tokio::test]
    async fn a_server_is_asked_for_by_its_name_and_an_address_is_no_name() {
        let (names, listener, acceptor, own) = server().await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("own.pem");
        std::fs::write(&ca, own.cert.pem()).unwrap();
        let trusted = Tls { ca: Some(ca), ..Tls::default() };
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "LocalHost"] {
            let server = ServerAddr::new(host, port);
            let via = Via::default();
            let (dialled, _) = tokio::join!(NetDial.dial(&server, &trusted, &via), async {
                acceptor.accept(listener.accept().await.unwrap().0).await.unwrap()
            });
            assert!(dialled.is_ok(), "{host}");
        }
        let asked = names.asked.lock().unwrap().clone();
        let asked: Vec<Option<String>> = asked.into_iter().map(|name| name.map(|name| name.to_lowercase())).collect();
        assert_eq!(asked, [Some("localhost".to_owned()), None, Some("localhost".to_owned())]);
    }

    #[tokio::test]
    async fn a_stranger_hears_the_end_of_the_connection_and_no_word_and_never_sees_a_certificate_of_ours() {
        let (_, listener, acceptor, own) = server().await;
        let server = ServerAddr::new("127.0.0.1", listener.local_addr().unwrap().port());
        let seen = fingerprint(own.cert.der());
        let (pinned, other) = (Tls { fingerprints: vec![seen], ..Tls::default() }, crate::irc::Fingerprint([7; 32]));
        let via = Via::default();
        let (known, heard) = tokio::join!(
            async { NetDial.dial(&server, &pinned, &via).await.map(drop).map_err(|fault| fault.to_string()) },
            hears(&listener, &acceptor)
        );
        assert!(known.is_ok() && !matches!(heard, Ok(1..)), "{known:?} {heard:?}");

        let stranger = Tls { fingerprints: vec![other], ..Tls::default() };
        let (refused, heard) = tokio::join!(NetDial.dial(&server, &stranger, &via), hears(&listener, &acceptor));
        let Err(refused) = refused else { panic!("it is trusted") };
        assert!(refused.to_string().contains(&format!("not one of the pinned: {seen}")), "{refused}");
        assert_eq!(heard.unwrap(), 0, "closed in order");

        let folder = tempfile::tempdir().unwrap();
        let cert = folder.path().join("ours.pem");
        std::fs::write(&cert, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
        let showing = Tls { cert: Some(cert), ..stranger };
        let (refused, heard) = tokio::join!(NetDial.dial(&server, &showing, &via), hears(&listener, &acceptor));
        let Err(refused) = refused else { panic!("it is trusted") };
        assert!(refused.to_string().contains("certificate"), "{refused}");
        assert!(heard.is_err(), "the handshake does not end well");
    }
}
