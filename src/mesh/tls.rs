//! TLS of links, both ways. Bots have certificates that nobody signed: each is known by its fingerprint, pinned by the
//! configuration or on first use, on the connection that was proven to be the bot's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::irc::{Fingerprint, Stream};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// The file with our own certificate under the data folder, where none is configured.
const OWN: &str = "mesh.pem";

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("the certificate of the mesh: {0}")]
    Rustls(#[from] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate for the mesh cannot be made: {0}")]
    Make(#[from] rcgen::Error),
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
        let own = data.map(|data| data.join(OWN));
        let (chain, key) = match (cert, own) {
            (Some(cert), _) => read(cert, key.unwrap_or(cert))?,
            (None, Some(own)) => {
                if !own.exists() {
                    write_private(&own, &make(name)?)?;
                }
                read(&own, &own)?
            }
            (None, None) => parse(make(name)?.as_bytes(), Path::new(OWN))?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anybody = Arc::new(Anybody { provider: Arc::clone(&provider) });
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&anybody) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
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

fn fingerprint(cert: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(cert).into())
}

/// A certificate and its key, PEM.
fn make(name: &str) -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    // A handle need not be a name of DNS; what matters is the fingerprint.
    let mut params = rcgen::CertificateParams::new(vec!["masterchief.invalid".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let cert = params.self_signed(&key)?;
    Ok(format!("{}{}", cert.pem(), key.serialize_pem()))
}

/// Writes what only we may read.
fn write_private(path: &Path, text: &str) -> Result<(), TlsFault> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|fault| file_fault(path, fault))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(cert: &Path, key: &Path) -> Result<Pair, TlsFault> {
    let chain = std::fs::read(cert).map_err(|fault| file_fault(cert, fault))?;
    let key_text = std::fs::read(key).map_err(|fault| file_fault(key, fault))?;
    parse(&[chain.as_slice(), b"\n", &key_text].concat(), cert)
}

fn parse(pem: &[u8], path: &Path) -> Result<Pair, TlsFault> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let mut chain = chain.map_err(|fault| file_fault(path, fault))?;
    // Certificate and key may be one file, which was then read twice.
    chain.dedup();
    if chain.is_empty() {
        return Err(file_fault(path, "it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|fault| file_fault(path, fault))?;
    Ok((chain, key))
}

fn file_fault(path: &Path, reason: impl ToString) -> TlsFault {
    TlsFault::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Takes any certificate, whose key the handshake proves; the fingerprint is looked at when it is over.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl Anybody {
    fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
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
