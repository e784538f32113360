//! EXTERNAL: the certificate of the TLS connection says who we are. RFC 4422, appendix A.

use super::{Begun, Dialogue, Sasl};

struct External(Vec<u8>);

/// The authorisation identity stays empty where none is configured: Atheme 7.2.12 refuses the account's own name there.
pub(super) fn begin(settings: &Sasl) -> Begun {
    Ok(Box::new(External(settings.authzid.clone().into_bytes())))
}

impl Dialogue for External {
    fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, String> {
        Ok(std::mem::take(&mut self.0))
    }
}
