//! The key with which a bot signs, and the keys of others. What a bot itself says of its key, over a way that proves who it is, counts
//! until it is forgotten; what others say of it counts until it has said so itself.

use std::collections::BTreeMap;

use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{BASE64, Change, Fact};

/// Keys of others that are remembered: by their own word, and by that of others, who cannot fill the room of the first.
const OWN_MAX: usize = 1000;
const HEARD_MAX: usize = 1000;
/// What stands before a key that is kept if its bot itself has told it.
const OWN_MARK: char = '!';

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

/// By whose word a key is a bot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By its own, over a way that proves who it is.
    Itself,
    /// By that of another bot.
    Another,
}

/// The keys of bots by name, each with whether the bot itself has told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    keys: BTreeMap<String, (Vec<u8>, bool)>,
}

impl Pins {
    /// Takes the key of a bot, if none is known that counts as much; whether it is the one that is known now.
    pub fn take(&mut self, origin: &str, key: &[u8], told: Told) -> bool {
        let own = told == Told::Itself;
        let room =
            self.keys.values().filter(|(_, is_own)| *is_own == own).count() < if own { OWN_MAX } else { HEARD_MAX };
        match self.keys.get_mut(origin) {
            Some((known, is_own)) if known == key => {
                *is_own |= own;
                true
            }
            Some((_, true)) => false,
            Some(_) if !own => false,
            _ if room && key.len() == 32 => {
                self.keys.insert(origin.to_owned(), (key.to_vec(), own));
                true
            }
            _ => false,
        }
    }

    /// Forgets the key of a bot: the next that it tells counts. Whether there was one.
    pub fn forget(&mut self, origin: &str) -> bool {
        self.keys.remove(&origin.to_ascii_lowercase()).is_some()
    }

    /// The key of a bot.
    pub fn of(&self, origin: &str) -> Option<&[u8]> {
        self.keys.get(origin).map(|(key, _)| key.as_slice())
    }

    /// Whether a fact is by the word of the bot that it names.
    pub fn vouch(&self, fact: &Fact) -> bool {
        let Some(key) = self.of(&fact.origin) else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(&fact.signed_bytes(), &fact.signature).is_ok()
    }

    /// Whether words are signed by a bot.
    pub fn vouch_words(&self, origin: &str, words: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.of(origin) else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(words, signature).is_ok()
    }

    /// As they are sent.
    pub fn to_text(&self) -> BTreeMap<String, String> {
        self.keys.iter().map(|(origin, (key, _))| (origin.clone(), BASE64.encode(key))).collect()
    }

    /// As they are kept.
    pub fn to_kept(&self) -> BTreeMap<String, String> {
        let kept = |key: &[u8], own: bool| {
            let key = BASE64.encode(key);
            if own { format!("{OWN_MARK}{key}") } else { key }
        };
        self.keys.iter().map(|(origin, (key, own))| (origin.clone(), kept(key, *own))).collect()
    }

    /// As they were kept.
    pub fn of_kept(kept: &BTreeMap<String, String>) -> Pins {
        let read = |(origin, kept): (&String, &String)| {
            let key = kept.strip_prefix(OWN_MARK);
            Some((origin.clone(), (BASE64.decode(key.unwrap_or(kept)).ok()?, key.is_some())))
        };
        Pins { keys: kept.iter().filter_map(read).take(OWN_MAX + HEARD_MAX).collect() }
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
        assert!(pins.take("one", &one.public(), Told::Itself) && pins.take("two", &two.public(), Told::Another));
        assert!(!pins.take("one", &two.public(), Told::Itself), "the first key stays");
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
        assert_eq!(Pins::of_kept(&pins.to_kept()), pins);
        assert!(pins.to_text().values().all(|key| !key.starts_with(OWN_MARK)));
    }

    #[test]
    fn what_others_say_of_a_key_counts_until_the_bot_says_so_itself_and_fills_no_room_of_its_own() {
        let mut pins = Pins::default();
        assert!(pins.take("victim", &[1; 32], Told::Another));
        assert!(!pins.take("victim", &[2; 32], Told::Another), "one word of others is as good as another");
        assert!(pins.take("victim", &[3; 32], Told::Itself));
        assert!(!pins.take("victim", &[1; 32], Told::Another) && !pins.take("victim", &[4; 32], Told::Itself));
        assert!(pins.take("victim", &[3; 32], Told::Another), "the same again");
        assert_eq!(pins.of("victim"), Some(&[3; 32][..]));
        // Who plants keys of bots that nobody has met keeps nobody out.
        let planted = (0..2 * HEARD_MAX).filter(|n| pins.take(&format!("b{n}"), &[5; 32], Told::Another)).count();
        assert_eq!(planted, HEARD_MAX);
        assert!(pins.take("late", &[6; 32], Told::Itself) && pins.take("b0", &[7; 32], Told::Itself));
        // A bot that was set up anew has another key, which counts once the old one is forgotten.
        assert!(pins.forget("Victim") && !pins.forget("victim") && pins.take("victim", &[4; 32], Told::Itself));
        assert!(!pins.take("short", &[1; 31], Told::Itself));
    }
}
