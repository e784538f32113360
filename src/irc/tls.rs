//! Whom to trust on the other end, and who we are to them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use super::identity::{Identity, IdentityFault, certificates, file_fault, fingerprint};
use super::peer::Peer;
use super::settings::{Fingerprint, Tls};

/// Why TLS cannot be set up. It is found before anything is connected.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A PEM file cannot be read.
    #[error(transparent)]
    File(#[from] IdentityFault),
    /// Certificate and key do not go together, or another contradiction.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// No authority is known.
    #[error("this system has no trusted authorities: install ca-certificates, or set `tls: {{ca: PATH}}`")]
    NoRoots,
}

/// How TLS is spoken with a server.
#[derive(Clone)]
pub(super) struct Secure {
    pub(super) config: Arc<ClientConfig>,
    /// What the certificate is held against when the handshake is over, before a word is said: so a server is closed to in order, as
    /// it is by other clients, and whoever it is has proven to hold the key of the fingerprint that is told. Nothing where we have a
    /// certificate to show, which no stranger sees: then it is looked at within the handshake.
    pins: Vec<Fingerprint>,
}

impl Secure {
    /// For these settings. Reads the PEM files.
    pub(super) fn new(settings: &Tls) -> Result<Secure, TlsFault> {
        let pins = if settings.cert.is_some() { Vec::new() } else { settings.fingerprints.clone() };
        Ok(Secure { config: Arc::new(client_config(settings)?), pins })
    }

    /// Whether the server may hear anything. It gives the fingerprint that is not pinned.
    pub(super) fn judge(&self, certs: Option<&[CertificateDer<'_>]>) -> Result<(), Stranger> {
        let seen = certs.and_then(<[_]>::first).map(fingerprint);
        if self.pins.is_empty() || seen.is_some_and(|seen| self.pins.contains(&seen)) {
            Ok(())
        } else {
            Err(Stranger(seen))
        }
    }
}

/// A server with another certificate than those that are pinned.
#[derive(Debug, thiserror::Error)]
#[error("its certificate is not one of the pinned: {}", .0.map_or("none".to_owned(), |seen| seen.to_string()))]
pub(super) struct Stranger(Option<Fingerprint>);

/// The TLS configuration for these settings. Reads the PEM files.
pub(super) fn client_config(settings: &Tls) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if !settings.fingerprints.is_empty() && settings.cert.is_none() {
        builder.dangerous().with_custom_certificate_verifier(Peer::anybody(&provider))
    } else if !settings.fingerprints.is_empty() {
        builder.dangerous().with_custom_certificate_verifier(Peer::pinned(settings.fingerprints.clone(), &provider))
    } else if !settings.verify {
        builder.dangerous().with_custom_certificate_verifier(Peer::anybody(&provider))
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
    let Identity { chain, key } = Identity::read(cert, settings.key.as_deref())?;
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
