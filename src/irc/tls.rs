//! Whom to trust on the other end, and who we are to them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};

use super::identity::{Identity, IdentityFault, certificates, file_fault};
use super::peer::Peer;
use super::settings::Tls;

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

/// The TLS configuration for these settings. Reads the PEM files.
pub(super) fn client_config(settings: &Tls) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if !settings.fingerprints.is_empty() {
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
