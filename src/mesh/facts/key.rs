//! The key with which a bot signs, and the keys of others, each taken for that bot's when it was first seen.

use std::collections::BTreeMap;

use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{BASE64, Change, Fact};

/// Keys of others that are remembered.
const PINS_MAX: usize = 2000;

/// A key.
pub struct Key {
    pair: Ed25519KeyPair,
    origin: String,
}

/// There is no key.
#[derive(Debug, thiserror::Error)]
#[error("the key with which this bot signs what it tells of people cannot be {0}")]
pub struct KeyFault(&'static str);

impl Key {
    /// A new key, as it is kept.
    pub fn make() -> Result<Vec<u8>, KeyFault> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyFault("made"))?;
        Ok(made.as_ref().to_vec())
    }

    /// The key of the bot of this name.
    pub fn read(kept: &[u8], origin: &str) -> Result<Key, KeyFault> {
        let pair = Ed25519KeyPair::from_pkcs8(kept).map_err(|_| KeyFault("read"))?;
        Ok(Key { pair, origin: origin.to_ascii_lowercase() })
    }

    /// The name of the bot whose key it is.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What others know it by.
    pub fn public(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// A fact by this bot's word.
    pub fn sign(&self, change: Change, version: u64) -> Fact {
        let Change { thing: (handle, about, name), value } = change;
        let origin = self.origin.clone();
        let mut fact = Fact { handle, about, name, value, version, origin, signature: Vec::new() };
        fact.signature = self.pair.sign(&fact.signed_bytes()).as_ref().to_vec();
        fact
    }
}

impl Key {
    /// Signs words that are no fact. What they are for has to stand in them, so that they are taken for nothing else.
    pub fn sign_words(&self, words: &[u8]) -> Vec<u8> {
        self.pair.sign(words).as_ref().to_vec()
    }
}

/// The keys of bots by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    keys: BTreeMap<String, Vec<u8>>,
}

impl Pins {
    /// Takes the key of a bot, if none is known; whether it is the one that is known now.
    pub fn take(&mut self, origin: &str, key: &[u8]) -> bool {
        match self.keys.get(origin) {
            Some(known) => known == key,
            None if self.keys.len() < PINS_MAX && key.len() == 32 => {
                self.keys.insert(origin.to_owned(), key.to_vec());
                true
            }
            None => false,
        }
    }

    /// The key of a bot.
    pub fn of(&self, origin: &str) -> Option<&[u8]> {
        self.keys.get(origin).map(Vec::as_slice)
    }

    /// Whether a fact is by the word of the bot that it names.
    pub fn vouch(&self, fact: &Fact) -> bool {
        let Some(key) = self.keys.get(&fact.origin) else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(&fact.signed_bytes(), &fact.signature).is_ok()
    }

    /// Whether words are signed by a bot.
    pub fn vouch_words(&self, origin: &str, words: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.keys.get(origin) else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(words, signature).is_ok()
    }

    /// As they are kept, and sent.
    pub fn to_text(&self) -> BTreeMap<String, String> {
        self.keys.iter().map(|(origin, key)| (origin.clone(), BASE64.encode(key))).collect()
    }

    /// As they were kept.
    pub fn of_text(text: &BTreeMap<String, String>) -> Pins {
        let read = |(origin, key): (&String, &String)| Some((origin.clone(), BASE64.decode(key).ok()?));
        Pins { keys: text.iter().filter_map(read).take(PINS_MAX).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::About;
    use super::*;

    #[test]
    fn a_fact_is_by_the_word_of_one_bot_and_nobody_can_change_a_letter_of_it() {
        let key = |name: &str| Key::read(&Key::make().unwrap(), name).unwrap();
        let (one, two) = (key("One"), key("Two"));
        let mut pins = Pins::default();
        assert!(pins.take("one", &one.public()) && pins.take("two", &two.public()));
        assert!(!pins.take("one", &two.public()), "the first key stays");
        let change = Change { thing: ("alice".to_owned(), About::Flag, "o".to_owned()), value: Some(String::new()) };
        let fact = one.sign(change, 7);
        assert!(pins.vouch(&fact));
        let changed = [
            Fact { handle: "bob".to_owned(), ..fact.clone() },
            Fact { name: "n".to_owned(), ..fact.clone() },
            Fact { value: None, ..fact.clone() },
            Fact { version: 8, ..fact.clone() },
            Fact { origin: "two".to_owned(), ..fact.clone() },
            Fact { origin: "three".to_owned(), ..fact.clone() },
            Fact { signature: Vec::new(), ..fact.clone() },
        ];
        assert!(changed.iter().all(|fact| !pins.vouch(fact)));
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        assert_eq!(Pins::of_text(&pins.to_text()), pins);
    }
}
