//! PLAIN: account and password in one message. RFC 4616.

use super::{Begun, Dialogue, Sasl};

struct Plain(Vec<u8>);

/// Some servers demand that the authorisation identity is the account, so it always is.
pub(super) fn begin(settings: &Sasl) -> Begun {
    let account = &settings.account;
    let password = settings.password.as_ref().map_or("", |password| password.reveal());
    Ok(Box::new(Plain(format!("{account}\0{account}\0{password}").into_bytes())))
}

impl Dialogue for Plain {
    fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, String> {
        Ok(self.0.clone())
    }
}
