//! Whom to trust on the other end, and who we are to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use super::settings::{Fingerprint, Tls};

/// Why TLS cannot be set up. It is found before anything is connected.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A PEM file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not go together, or another contradiction.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// No authority is known.
    #[error("this system has no trusted authorities: install ca-certificates, or set `tls: {{ca: PATH}}`")]
    NoRoots,
}

/// The TLS configuration for these settings. Reads the PEM files.
pub(super) fn client_config(settings: &Tls) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let by_eye = |trust| Arc::new(Peer { trust, provider: Arc::clone(&provider) });
    let builder = if !settings.fingerprints.is_empty() {
        builder.dangerous().with_custom_certificate_verifier(by_eye(Trust::Pinned(settings.fingerprints.clone())))
    } else if !settings.verify {
        builder.dangerous().with_custom_certificate_verifier(by_eye(Trust::Anybody))
    } else {
        let roots = Arc::new(roots(settings.ca.as_deref())?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|fault| rustls::Error::General(fault.to_string()))?;
        builder.with_webpki_verifier(verifier)
    };
    let Some(cert) = &settings.cert else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let key_path = settings.key.as_ref().unwrap_or(cert);
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|fault| file_fault(key_path, fault))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsFault> {
    let mut store = RootCertStore::empty();
    match ca {
        Some(path) => {
            for cert in certificates(path)? {
                store.add(cert).map_err(|fault| file_fault(path, fault))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() { Err(TlsFault::NoRoots) } else { Ok(store) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|fault| file_fault(path, fault))?.collect();
    let certs = certs.map_err(|fault| file_fault(path, fault))?;
    if certs.is_empty() { Err(file_fault(path, "it holds no certificate")) } else { Ok(certs) }
}

fn file_fault(path: &Path, reason: impl ToString) -> TlsFault {
    TlsFault::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Trust that does not come from authorities.
#[derive(Debug)]
enum Trust {
    /// These certificates and no others.
    Pinned(Vec<Fingerprint>),
    /// Whoever answers.
    Anybody,
}

/// Looks at the certificate itself. That the peer holds its key is still proven by the handshake's signature.
#[derive(Debug)]
struct Peer {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
            Trust::Pinned(pins) => {
                let seen: [u8; 32] = Sha256::digest(end_entity).into();
                if pins.iter().any(|pin| pin.0 == seen) {
                    return Ok(ServerCertVerified::assertion());
                }
                tracing::warn!(fingerprint = %Fingerprint(seen), "The server's certificate is not one of the pinned");
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
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
