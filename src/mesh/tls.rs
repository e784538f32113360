//! TLS of links, both ways. Bots have certificates that nobody signed: each is known by its fingerprint, pinned by the
//! configuration or on first use, on the connection that was proven to be the bot's.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::irc::{Fingerprint, Identity, IdentityFault, Own, Peer, Stream, fingerprint};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// The file with our own certificate under the data folder, where none is configured.
const OWN: &str = "mesh.pem";

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// There is no certificate.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// Certificate and key do not go together.
    #[error("the certificate of the mesh: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Both sides of TLS, with our certificate.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// With the certificate of these files; else with one of our own, which is kept in `data` if there is such a folder.
    pub(super) fn new(
        cert: Option<&Path>,
        key: Option<&Path>,
        data: Option<&Path>,
        name: &str,
    ) -> Result<Tls, TlsFault> {
        let Identity { chain, key } = match cert {
            Some(cert) => Identity::read(cert, key)?,
            // A handle need not be a name of DNS; what matters is the fingerprint.
            None => Identity::own(&Own {
                kept: data.map(|data| data.join(OWN)),
                names: &["masterchief.invalid"],
                common: Some(name),
            })?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anybody = Peer::anybody(&provider);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Peer>::clone(&anybody))
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        // An Eggdrop refuses a session that is taken up again at another of its ports.
        client.resumption = rustls::client::Resumption::disabled();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(anybody)
            .with_single_cert(chain, key)?;
        Ok(Tls { connector: TlsConnector::from(Arc::new(client)), acceptor: TlsAcceptor::from(Arc::new(server)) })
    }

    /// Begins TLS as the client; gives the certificate of the other side.
    pub(super) async fn connect(&self, stream: Stream, host: &str) -> io::Result<(Stream, Option<Fingerprint>)> {
        // The name is told, not checked: whose certificate it is, its fingerprint says.
        let name = ServerName::try_from(host.to_owned()).or_else(|_| ServerName::try_from("mesh"));
        let name = name.map_err(io::Error::other)?;
        let tls = in_time(self.connector.connect(name, stream)).await?;
        let seen = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(fingerprint);
        Ok((Box::new(tls), seen))
    }

    /// Begins TLS as the server; gives the certificate of the other side, if it shows one. `read` is what was read of it already:
    /// who asks for TLS may send its first words with the question. It is taken as TLS, and as nothing else.
    pub(super) async fn accept(&self, stream: Stream, read: Vec<u8>) -> io::Result<(Stream, Option<Fingerprint>)> {
        let (reads, writes) = tokio::io::split(stream);
        let stream = tokio::io::join(io::Cursor::new(read).chain(reads), writes);
        let tls = in_time(self.acceptor.accept(stream)).await?;
        let seen = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(fingerprint);
        Ok((Box::new(tls), seen))
    }
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(HANDSHAKE, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_side_sees_the_certificate_of_the_other_which_stays_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let one = Tls::new(None, None, Some(folder.path()), "One").unwrap();
        let again = Tls::new(None, None, Some(folder.path()), "One").unwrap();
        let two = Tls::new(None, None, None, "Two*").unwrap();
        let mut seen = Vec::new();
        for server in [one, again] {
            let (a, b) = tokio::io::duplex(65_536);
            let (client, accepted) =
                tokio::join!(two.connect(Box::new(a), "127.0.0.1"), server.accept(Box::new(b), Vec::new()));
            seen.push((client.unwrap().1.unwrap(), accepted.unwrap().1.unwrap()));
        }
        assert_eq!(seen[0], seen[1]);
        assert_ne!(seen[0].0, seen[0].1);
    }
}
