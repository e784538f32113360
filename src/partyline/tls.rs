//! The partyline's certificate: the configured one, or one that the bot makes for itself and keeps.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use super::settings::Settings;
use crate::irc::{Identity, IdentityFault, Own, Peer};

/// The certificate that the bot makes, under the data folder. The key is in the same file.
const OWN: &str = "partyline.pem";

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum CertFault {
    /// There is none.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// Certificate and key do not go together.
    #[error("the certificate of the partyline: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What is offered.
pub(super) struct Offer {
    pub(super) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, lower case hex: what people compare at their first visit.
    pub(super) fingerprint: String,
}

/// The certificate of the settings; else the bot's own, kept in `data` if there is such a folder.
pub(super) fn offer(settings: &Settings, data: Option<&Path>) -> Result<Offer, CertFault> {
    let identity = match &settings.cert {
        Some(cert) => Identity::read(cert, settings.key.as_deref())?,
        None => Identity::own(&Own {
            kept: data.map(|data| data.join(OWN)),
            names: &["partyline.masterchief", "localhost"],
            common: None,
        })?,
    };
    let fingerprint = identity.fingerprint().map(|seen| seen.to_string()).unwrap_or_default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let asks = Peer::anybody(&provider);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(asks)
        .with_single_cert(identity.chain, identity.key)?;
    Ok(Offer { config: Arc::new(config), fingerprint })
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
