//! Passwords: argon2id, each with a salt of its own.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash as Parsed, PasswordHasher, PasswordVerifier, SaltString};
use masterchief_contract::Secret;

/// The shortest password that is taken.
pub const PASSWORD_MIN: usize = 8;

/// What is kept of a password. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Too short.
    #[error("a password has at least {PASSWORD_MIN} characters")]
    Short,
    /// The system gives no random numbers, or argon2 fails.
    #[error("the password could not be hashed; is /dev/urandom there?")]
    Hashing,
}

impl PasswordHash {
    /// Hashes a password. Takes some ten milliseconds of CPU: call it where that may be.
    pub fn new(password: &Secret) -> Result<PasswordHash, PasswordFault> {
        if password.reveal().chars().count() < PASSWORD_MIN {
            return Err(PasswordFault::Short);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| PasswordFault::Hashing)?;
        let salt = SaltString::encode_b64(&salt).map_err(|_| PasswordFault::Hashing)?;
        let hash = Argon2::default().hash_password(password.reveal().as_bytes(), &salt);
        Ok(PasswordHash(hash.map_err(|_| PasswordFault::Hashing)?.to_string()))
    }

    /// A hash as it was stored.
    pub fn stored(text: String) -> PasswordHash {
        PasswordHash(text)
    }

    /// For storing.
    pub fn as_stored(&self) -> &str {
        &self.0
    }

    /// Whether this is the password. Takes as long as hashing.
    pub fn verify(&self, password: &Secret) -> bool {
        let Ok(parsed) = Parsed::new(&self.0) else { return false };
        Argon2::default().verify_password(password.reveal().as_bytes(), &parsed).is_ok()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hash = PasswordHash::new(&Secret::new("correct horse")).unwrap();
        let stored = PasswordHash::stored(hash.as_stored().to_owned());
        assert!(stored.verify(&Secret::new("correct horse")));
        assert!(!stored.verify(&Secret::new("correct hors")));
        assert!(stored.as_stored().starts_with("$argon2id$"));
        assert_ne!(hash, PasswordHash::new(&Secret::new("correct horse")).unwrap(), "salts differ");
        assert_eq!(PasswordHash::new(&Secret::new("short")), Err(PasswordFault::Short));
        assert!(!PasswordHash::stored("damaged".to_owned()).verify(&Secret::new("x")));
    }
}
