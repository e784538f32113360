//! SCRAM-SHA-256: the password is proven to both sides and shown to none. RFC 5802, RFC 7677.

use std::fmt::Write;
use std::num::NonZeroU32;

use base64::Engine;
use ring::{hmac, pbkdf2};
use sha2::{Digest, Sha256};

use super::{BASE64, Begun, Dialogue, Sasl};

/// Fewer rounds than this make a stolen record cheap to guess (RFC 7677, section 4): a server that asks for fewer may be
/// somebody in the middle.
const ROUNDS_MIN: u32 = 4096;
/// More keep us busy for longer than a login is worth.
const ROUNDS_MAX: u32 = 1_000_000;
/// Bytes of randomness in our nonce.
const NONCE_BYTES: usize = 18;
/// No channel binding: `n,,` in base64.
const UNBOUND: &str = "biws";

/// Where the conversation stands.
enum Step {
    First,
    /// The server's nonce, salt and rounds are awaited.
    Asked,
    /// The server's own proof is awaited; what it has to be.
    Proven([u8; 32]),
    /// The server has proven that it knows the password.
    Done,
    /// It has not, and will not be believed.
    Failed,
}

struct Scram {
    step: Step,
    password: String,
    nonce: String,
    /// `n=…,r=…`, which both proofs cover.
    first_bare: String,
}

pub(super) fn begin(settings: &Sasl) -> Begun {
    let mut random = [0; NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|fault| format!("there is no randomness for a nonce: {fault}"))?;
    let password = settings.password.as_ref().map_or("", |password| password.reveal());
    Ok(Box::new(Scram::new(&settings.account, password, BASE64.encode(random))))
}

impl Scram {
    fn new(account: &str, password: &str, nonce: String) -> Scram {
        let name = prepared(account).replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={name},r={nonce}");
        Scram { step: Step::First, password: prepared(password), nonce, first_bare }
    }

    /// The proof of the password, and what the server must answer with.
    fn prove(&self, challenge: &str) -> Result<(String, [u8; 32]), String> {
        let [nonce, salt, rounds] = fields(challenge, ["r", "s", "i"])?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's nonce does not go on from ours".to_owned());
        }
        let salt = BASE64.decode(salt).map_err(|_| "the server's salt is not base64".to_owned())?;
        let rounds: u32 = rounds.parse().map_err(|_| "the server's count of rounds is no number".to_owned())?;
        let rounds = NonZeroU32::new(rounds).filter(|rounds| (ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds.get()));
        let rounds =
            rounds.ok_or_else(|| format!("the server asks for other than {ROUNDS_MIN} to {ROUNDS_MAX} rounds"))?;
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, self.password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let without_proof = format!("c={UNBOUND},r={nonce}");
        let covered = format!("{},{challenge},{without_proof}", self.first_bare);
        let signature = sign(&stored_key, covered.as_bytes());
        let mut proof = client_key;
        proof.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let expected = sign(&sign(&salted, b"Server Key"), covered.as_bytes());
        let mut answer = without_proof;
        // Writing to a String cannot fail.
        let _ = write!(answer, ",p={}", BASE64.encode(proof));
        Ok((answer, expected))
    }
}

impl Dialogue for Scram {
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(challenge).map_err(|_| "the server's words are not UTF-8".to_owned())?;
        match std::mem::replace(&mut self.step, Step::Failed) {
            Step::First if text.is_empty() => {
                self.step = Step::Asked;
                Ok(format!("n,,{}", self.first_bare).into_bytes())
            }
            Step::First => Err("the server speaks first, which is not its turn".to_owned()),
            Step::Asked => {
                let (answer, expected) = self.prove(text)?;
                self.step = Step::Proven(expected);
                Ok(answer.into_bytes())
            }
            Step::Proven(expected) => {
                if let Some(reason) = text.strip_prefix("e=") {
                    return Err(format!("the server refuses the proof: {reason}"));
                }
                let [signature] = fields(text, ["v"])?;
                let signature = BASE64.decode(signature).map_err(|_| "the server's proof is not base64".to_owned())?;
                if !bool::from(subtle::ConstantTimeEq::ct_eq(signature.as_slice(), expected.as_slice())) {
                    return Err("the server does not know the password: somebody may stand in the middle".to_owned());
                }
                self.step = Step::Done;
                Ok(Vec::new())
            }
            Step::Done | Step::Failed => Err("the server goes on after the end".to_owned()),
        }
    }

    /// Only once the server has proven that it knows the password too.
    fn may_end(&self) -> bool {
        matches!(self.step, Step::Done)
    }
}

/// The values of these fields, which come first and in this order. An extension that must be understood (`m=`) is refused, because
/// it stands where another field should.
fn fields<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[&'a str; N], String> {
    let mut values = [""; N];
    let mut parts = text.split(',');
    for (value, name) in values.iter_mut().zip(names) {
        let part = parts.next().and_then(|part| part.strip_prefix(name)?.strip_prefix('='));
        *value = part.filter(|part| !part.is_empty()).ok_or_else(|| format!("the server's words lack {name}="))?;
    }
    Ok(values)
}

/// SASLprep; what it does not allow is taken as it is, which is what servers without it do.
fn prepared(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), |prepared| prepared.into_owned())
}

fn sign(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The conversation of RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn vector() -> Scram {
        Scram::new("user", "pencil", NONCE.to_owned())
    }

    fn say(scram: &mut Scram, text: &str) -> Result<String, String> {
        scram.answer(text.as_bytes()).map(|answer| String::from_utf8(answer).unwrap())
    }

    /// What is said to the server's first words.
    fn asked(first: &str) -> Result<String, String> {
        let mut scram = vector();
        say(&mut scram, "").unwrap();
        let answer = say(&mut scram, first);
        assert!(answer.is_ok() || scram.answer(FINAL.as_bytes()).is_err());
        answer
    }

    #[test]
    fn the_conversation_of_the_rfc_goes_word_for_word() {
        let mut scram = vector();
        assert_eq!(say(&mut scram, "").unwrap(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            say(&mut scram, FIRST).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.may_end(), "the server has proven nothing yet");
        assert_eq!(say(&mut scram, FINAL).unwrap(), "");
        assert!(scram.may_end());
        assert!(say(&mut scram, FINAL).is_err());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        for wrong in
            ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=AAAA", "v=", "", "e=invalid-proof", "x=1", "v=!"]
        {
            let mut scram = vector();
            say(&mut scram, "").unwrap();
            say(&mut scram, FIRST).unwrap();
            assert!(say(&mut scram, wrong).is_err(), "{wrong}");
            assert!(!scram.may_end(), "nor when it then says that we are logged in: {wrong}");
        }
    }

    #[test]
    fn a_servers_first_words_have_to_go_on_from_ours_within_bounds() {
        assert!(asked(FIRST).is_ok());
        for wrong in [
            "r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,i=4096,s=W22ZaJ0SNY7soEsUEjb6gQ==",
            "m=new,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_with_signs_of_the_grammar_are_escaped_and_what_looks_alike_is_the_same() {
        let mut scram = Scram::new("a=b,c", "x", "n".to_owned());
        assert_eq!(say(&mut scram, "").unwrap(), "n,,n=a=3Db=2Cc,r=n");
        assert_eq!(prepared("\u{2168}"), "IX");
        assert_eq!(prepared("\u{7}"), "\u{7}");
    }

    proptest! {
        #[test]
        fn no_server_makes_it_panic_or_believe(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let mut scram = vector();
            for word in &words {
                if scram.answer(word).is_err() {
                    break;
                }
            }
            prop_assert!(!scram.may_end());
        }
    }
}
