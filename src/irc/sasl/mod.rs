//! SASL: logging in to services before joining anything. <https://ircv3.net/specs/extensions/sasl-3.2>

mod ecdsa;
mod external;
mod plain;
mod scram;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::settings::Sasl;

/// A payload is sent in pieces of this many bytes; a shorter piece ends it.
const PIECE: usize = 400;
/// What a server may send before we take it for hostile.
const CHALLENGE_MAX: usize = 16 * 1024;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// Account and password, neither shown and both sides proven. RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A key of ours on the curve NIST P-256 signs what services ask.
    #[serde(rename = "ECDSA-NIST256P-CHALLENGE")]
    Ecdsa,
    /// Account and password. RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// The certificate of the TLS connection. RFC 4422, appendix A.
    #[serde(rename = "EXTERNAL")]
    External,
}

/// One row of [`MECHANISMS`].
struct Row {
    mechanism: Mechanism,
    name: &'static str,
    needs_password: bool,
    needs_certificate: bool,
    needs_key: bool,
    shows_password: bool,
    begin: fn(&Sasl) -> Begun,
}

/// A mechanism's side of a conversation, or why it cannot begin.
type Begun = Result<Box<dyn Dialogue>, String>;

/// The mechanisms. A new one is a file beside this one, a variant and a row.
const MECHANISMS: &[Row] = &[
    Row {
        mechanism: Mechanism::ScramSha256,
        name: "SCRAM-SHA-256",
        needs_password: true,
        needs_certificate: false,
        needs_key: false,
        shows_password: false,
        begin: scram::begin,
    },
    Row {
        mechanism: Mechanism::Ecdsa,
        name: "ECDSA-NIST256P-CHALLENGE",
        needs_password: false,
        needs_certificate: false,
        needs_key: true,
        shows_password: false,
        begin: ecdsa::begin,
    },
    Row {
        mechanism: Mechanism::Plain,
        name: "PLAIN",
        needs_password: true,
        needs_certificate: false,
        needs_key: false,
        shows_password: true,
        begin: plain::begin,
    },
    Row {
        mechanism: Mechanism::External,
        name: "EXTERNAL",
        needs_password: false,
        needs_certificate: true,
        needs_key: false,
        shows_password: false,
        begin: external::begin,
    },
];

/// The client's side of a mechanism: a challenge in, a response out. `Err` says why we stop.
pub(super) trait Dialogue: Send {
    /// Answers one challenge, both without base64. The first is empty.
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, String>;

    /// Whether the server may say now that we are logged in. A mechanism in which the server has to prove something too says no
    /// until it has.
    fn may_end(&self) -> bool {
        true
    }
}

/// One attempt with one mechanism.
pub(super) struct Exchange {
    dialogue: Box<dyn Dialogue>,
    incoming: String,
}

impl Mechanism {
    fn row(self) -> &'static Row {
        MECHANISMS.iter().find(|row| row.mechanism == self).expect("every mechanism has a row")
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether it needs an account and a password.
    pub fn needs_password(self) -> bool {
        self.row().needs_password
    }

    /// Whether it needs our certificate.
    pub fn needs_certificate(self) -> bool {
        self.row().needs_certificate
    }

    /// Whether it needs `ecdsa_key`.
    pub fn needs_key(self) -> bool {
        self.row().needs_key
    }

    /// Whether who listens on the wire learns the password.
    pub fn shows_password(self) -> bool {
        self.row().shows_password
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Exchange {
    /// Begins; `AUTHENTICATE NAME` is the first line to send.
    pub(super) fn begin(mechanism: Mechanism, settings: &Sasl) -> Result<Exchange, String> {
        Ok(Exchange { dialogue: (mechanism.row().begin)(settings)?, incoming: String::new() })
    }

    /// Whether the server may say now that we are logged in.
    pub(super) fn may_end(&self) -> bool {
        self.dialogue.may_end()
    }

    /// Takes the parameter of an AUTHENTICATE line and gives the parameters to answer with; none while the challenge
    /// is incomplete.
    pub(super) fn take(&mut self, piece: &str) -> Result<Vec<String>, String> {
        if piece != "+" {
            self.incoming.push_str(piece);
        }
        if self.incoming.len() > CHALLENGE_MAX {
            return Err("the server's challenge has no end".to_owned());
        }
        if piece.len() == PIECE {
            return Ok(Vec::new());
        }
        let challenge = BASE64.decode(&self.incoming).map_err(|_| "the server's challenge is not base64".to_owned())?;
        self.incoming.clear();
        Ok(pieces(&self.dialogue.answer(&challenge)?))
    }
}

/// What is wrong with a key for ECDSA, if anything.
pub(super) fn key_fault(pem: &str) -> Option<String> {
    ecdsa::key(pem).err()
}

/// A payload in pieces of base64; a last `+` where the pieces come out even, and for an empty one.
fn pieces(payload: &[u8]) -> Vec<String> {
    let text = BASE64.encode(payload);
    let mut out: Vec<String> =
        text.as_bytes().chunks(PIECE).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
    if text.len().is_multiple_of(PIECE) {
        out.push("+".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;

    use super::*;

    fn settings(password: &str) -> Sasl {
        Sasl {
            mechanisms: vec![Mechanism::Plain],
            account: "chief".to_owned(),
            password: Some(Secret::new(password)),
            ..Sasl::default()
        }
    }

    #[test]
    fn plain_sends_account_and_password_in_utf8() {
        let mut exchange = Exchange::begin(Mechanism::Plain, &settings("pässword")).unwrap();
        let answer = exchange.take("+").unwrap();
        assert_eq!(BASE64.decode(&answer[0]).unwrap(), "chief\0chief\0pässword".as_bytes());
    }

    #[test]
    fn external_sends_nothing_but_a_plus() {
        assert_eq!(Exchange::begin(Mechanism::External, &settings("")).unwrap().take("+").unwrap(), ["+"]);
    }

    #[test]
    fn payloads_are_cut_at_400_and_an_even_one_ends_with_a_plus() {
        let lengths = |bytes: usize| pieces(&vec![b'x'; bytes]).iter().map(String::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [1]);
        assert_eq!(lengths(299), [400, 1]);
        assert_eq!(lengths(300), [400, 1]);
        assert_eq!(lengths(301), [400, 4]);
        assert_eq!(lengths(600), [400, 400, 1]);
    }

    #[test]
    fn a_long_challenge_is_collected_and_an_endless_one_refused() {
        let mut exchange = Exchange::begin(Mechanism::Plain, &settings("x")).unwrap();
        assert_eq!(exchange.take(&"A".repeat(400)), Ok(Vec::new()));
        assert!(!exchange.take("+").unwrap().is_empty());
        let piece = "A".repeat(400);
        assert!((0..50).any(|_| exchange.take(&piece).is_err()));
    }
}
