//! Trust that does not come from authorities: certificates are looked at themselves, on either side of a connection.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::fingerprint;
use super::settings::Fingerprint;

/// Whom to trust.
#[derive(Debug)]
enum Trust {
    /// These certificates and no others.
    Pinned(Vec<Fingerprint>),
    /// Whoever it is; a fingerprint may be looked at when the handshake is over.
    Anybody,
}

/// Looks at the certificate itself. That the peer holds its key is still proven by the handshake's signature.
#[derive(Debug)]
pub struct Peer {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Peer {
    /// Takes these certificates and no others.
    pub fn pinned(pins: Vec<Fingerprint>, provider: &Arc<CryptoProvider>) -> Arc<Peer> {
        Arc::new(Peer { trust: Trust::Pinned(pins), provider: Arc::clone(provider) })
    }

    /// Takes any certificate, and on the side of a server also none.
    pub fn anybody(provider: &Arc<CryptoProvider>) -> Arc<Peer> {
        Arc::new(Peer { trust: Trust::Anybody, provider: Arc::clone(provider) })
    }

    fn judge(&self, cert: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let Trust::Pinned(pins) = &self.trust else { return Ok(()) };
        let seen = fingerprint(cert);
        if pins.contains(&seen) {
            return Ok(());
        }
        tracing::warn!(fingerprint = %seen, "The certificate of the other side is not one of the pinned");
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

/// The signature over the handshake is proven in the same way on both sides.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
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
        self.judge(end_entity).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Peer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        matches!(self.trust, Trust::Pinned(_))
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}
