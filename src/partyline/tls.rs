//! The partyline's certificate: the configured one, or one that the bot makes for itself and keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};

use super::settings::Settings;

/// The certificate that the bot makes, under the data folder. The key is in the same file.
const OWN: &str = "partyline.pem";

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum CertFault {
    /// A PEM file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("the certificate of the partyline: {0}")]
    Rustls(#[from] rustls::Error),
    /// None can be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What is offered.
pub(super) struct Offer {
    pub(super) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, lower case hex: what people compare at their first visit.
    pub(super) fingerprint: String,
}

/// The certificate of the settings; else the bot's own, kept in `data` if there is such a folder.
pub(super) fn offer(settings: &Settings, data: Option<&Path>) -> Result<Offer, CertFault> {
    let (chain, key) = match (&settings.cert, data) {
        (Some(cert), _) => read(cert, settings.key.as_deref().unwrap_or(cert))?,
        (None, Some(data)) => {
            let path = data.join(OWN);
            if !path.is_file() {
                keep(&path, &make()?)?;
            }
            read(&path, &path)?
        }
        (None, None) => parse(Path::new(OWN), &make()?)?,
    };
    let fingerprint = chain.first().map(fingerprint).unwrap_or_default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let asks = Arc::new(Anybody { provider: Arc::clone(&provider) });
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(asks)
        .with_single_cert(chain, key)?;
    Ok(Offer { config: Arc::new(config), fingerprint })
}

/// SHA-256 of a certificate, lower case hex.
pub(super) fn fingerprint(cert: &CertificateDer<'_>) -> String {
    Sha256::digest(cert).iter().map(|byte| format!("{byte:02x}")).collect()
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(cert: &Path, key: &Path) -> Result<Pair, CertFault> {
    let fault = |path: &Path, reason: String| CertFault::File { path: path.to_owned(), reason };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).map_err(|reason| fault(cert, reason.to_string()))?.collect();
    let chain = chain.map_err(|reason| fault(cert, reason.to_string()))?;
    if chain.is_empty() {
        return Err(fault(cert, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|reason| fault(key, reason.to_string()))?;
    Ok((chain, key))
}

fn parse(path: &Path, pem: &str) -> Result<Pair, CertFault> {
    let fault = |reason: String| CertFault::File { path: path.to_owned(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|reason| fault(reason.to_string()))?;
    Ok((chain.map_err(|reason| fault(reason.to_string()))?, key))
}

/// A certificate with its key, in PEM.
fn make() -> Result<String, CertFault> {
    let names = vec!["partyline.masterchief".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()))
}

/// Keeps it where only the bot's own account can read it.
fn keep(path: &Path, pem: &str) -> Result<(), CertFault> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()));
    written.map_err(|reason| CertFault::File { path: path.to_owned(), reason: reason.to_string() })
}

/// Takes any certificate: whose it is, its fingerprint says. That they hold its key is proven by the handshake.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
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
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bots_own_certificate_is_made_once_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let first = offer(&Settings::default(), Some(data.path())).unwrap();
        let again = offer(&Settings::default(), Some(data.path())).unwrap();
        assert_eq!((first.fingerprint.len(), &first.fingerprint), (64, &again.fingerprint));
        let mode = std::fs::metadata(data.path().join(OWN)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(offer(&Settings::default(), None).unwrap().fingerprint, first.fingerprint);
        let missing = Settings { cert: Some("none.pem".into()), ..Settings::default() };
        assert!(offer(&missing, None).is_err());
    }
}
