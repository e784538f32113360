//! ECDSA-NIST256P-CHALLENGE: a key of ours signs what services ask. Atheme's own, `modules/saslserv/ecdsa-nist256p-challenge`.

use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::{Begun, Dialogue, Sasl};

/// Bytes of a challenge. It is signed as it is, as if it were a digest.
const CHALLENGE: usize = 32;

struct Ecdsa {
    /// What is said first, until it is said.
    account: Option<String>,
    key: SigningKey,
    signed: bool,
}

pub(super) fn begin(settings: &Sasl) -> Begun {
    let pem = settings.ecdsa_key.as_ref().map_or("", |key| key.reveal());
    Ok(Box::new(Ecdsa { account: Some(settings.account.clone()), key: key(pem)?, signed: false }))
}

/// The key in a PEM text: SEC1, as `openssl ecparam -genkey` writes it after the curve's parameters, or PKCS#8.
pub(crate) fn key(pem: &str) -> Result<SigningKey, String> {
    let fault = "`ecdsa_key` is no key on the curve NIST P-256 in PEM; make one with \
                 `openssl ecparam -name prime256v1 -genkey -noout`";
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| fault.to_owned())?;
    let key = match &der {
        PrivateKeyDer::Sec1(key) => SecretKey::from_sec1_der(key.secret_sec1_der()).ok(),
        PrivateKeyDer::Pkcs8(key) => SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
        _ => None,
    };
    key.map(|key| SigningKey::from(&key)).ok_or_else(|| fault.to_owned())
}

impl Dialogue for Ecdsa {
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        if let Some(account) = self.account.take() {
            return Ok(account.into_bytes());
        }
        if challenge.len() != CHALLENGE || self.signed {
            return Err(format!(
                "the server's challenge has {} bytes, not {CHALLENGE}, or is a second",
                challenge.len()
            ));
        }
        self.signed = true;
        let signature: DerSignature =
            self.key.sign_prehash(challenge).map_err(|_| "the challenge cannot be signed".to_owned())?;
        Ok(signature.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::hazmat::PrehashVerifier;

    use super::*;

    /// As openssl writes it, the parameters first.
    const SEC1: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4foAoGCCqGSM49\nAwEHoUQDQgAEelkxgIYMQDfIPBJ0mEXI7hQk3Sl/rcuJXjWCVdLH0rKoyiVYDyYm\n/leQYv8bmf+RwkoNoG+zK1viAUjJJJ9WUA==\n-----END EC PRIVATE KEY-----\n";

    fn settings(pem: &str) -> Sasl {
        Sasl { account: "chief".to_owned(), ecdsa_key: Some(Secret::new(pem)), ..Sasl::default() }
    }

    #[test]
    fn the_challenge_is_signed_as_it_is_and_only_once() {
        let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for pem in [SEC1, &pkcs8] {
            let mut dialogue = begin(&settings(pem)).unwrap();
            assert_eq!(dialogue.answer(b"").unwrap(), b"chief");
            let signature = DerSignature::from_bytes(&dialogue.answer(&[7; 32]).unwrap()).unwrap();
            let verifying = VerifyingKey::from(&key(pem).unwrap());
            assert!(verifying.verify_prehash(&[7; 32], &signature).is_ok());
            assert!(dialogue.answer(&[7; 32]).is_err());
        }
    }

    #[test]
    fn a_challenge_of_another_length_and_a_key_that_is_none_are_refused() {
        let mut dialogue = begin(&settings(SEC1)).unwrap();
        dialogue.answer(b"").unwrap();
        assert!(dialogue.answer(&[7; 31]).is_err());
        for bad in ["", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            assert!(begin(&settings(bad)).err().unwrap().contains("openssl"));
        }
    }
}
