//! EXTERNAL: the certificate of the TLS connection says who we are. RFC 4422, appendix A.

use super::{Begun, Dialogue, Sasl};

struct External;

/// The authorisation identity stays empty: Atheme 7.2.12 refuses the account's own name there.
pub(super) fn begin(_settings: &Sasl) -> Begun {
    Ok(Box::new(External))
}

impl Dialogue for External {
    fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
}
