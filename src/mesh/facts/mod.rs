//! What bots tell each other of their people, fact by fact: alice is known, she holds `o`, this account is hers. Each fact is signed
//! by the bot on which it became so, and has a version; of two about the same thing the newer one counts everywhere. What is no
//! longer so is a fact too. Nothing is ever replaced as a whole. Pure.

mod key;
mod ledger;
mod people;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

pub use key::{Key, KeyFault, Pins, Told};
pub use ledger::{Full, Ledger};
pub use people::{Letters, changes, merged};

/// The longest name of a fact: a hostmask.
const NAME_MAX: usize = 512;
/// The longest value: words of the operators.
const VALUE_MAX: usize = 1000;
/// How far a version may be ahead of the time of day, so that nobody can have the last word for ever (milliseconds).
const AHEAD: u64 = 86_400_000;

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// That there is somebody of this handle; the value is the handle as it is written.
    User,
    /// A letter that they hold everywhere, by its name.
    Flag,
    /// Letters that they hold on a channel: `net/#chan o`.
    Chan,
    /// A services account: `network/account`.
    Account,
    /// A certificate.
    Cert,
    /// A hostmask.
    Host,
    /// Words of the operators, the value.
    Comment,
}

/// One thing about somebody, since when, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Of whom, in lower case.
    #[serde(rename = "h")]
    pub handle: String,
    /// What.
    #[serde(rename = "k")]
    pub about: About,
    /// Which; empty where there is one only.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is; nothing where it is no longer so.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Unix milliseconds at which it became so, or a little more, where more than one thing became so then.
    #[serde(rename = "t")]
    pub version: u64,
    /// The bot on which it became so, in lower case.
    #[serde(rename = "o")]
    pub origin: String,
    /// That bot's signature.
    #[serde(rename = "s", with = "in_base64")]
    pub signature: Vec<u8>,
}

/// What a fact is of, whatever it says.
pub type Thing = (String, About, String);

/// What is to be told, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub thing: Thing,
    /// What it is from now on.
    pub value: Option<String>,
}

impl About {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            About::User => "user",
            About::Flag => "flag",
            About::Chan => "chan",
            About::Account => "account",
            About::Cert => "cert",
            About::Host => "host",
            About::Comment => "comment",
        }
    }

    /// As it was stored.
    pub fn parse(text: &str) -> Option<About> {
        let all = [About::User, About::Flag, About::Chan, About::Account, About::Cert, About::Host, About::Comment];
        all.into_iter().find(|about| about.as_str() == text)
    }
}

impl Fact {
    /// What it is of.
    pub fn thing(&self) -> Thing {
        (self.handle.clone(), self.about, self.name.clone())
    }

    /// What decides between two: the version, and where that is the same, names and values, which are the same everywhere.
    fn rank(&self) -> (u64, &str, Option<&str>) {
        (self.version, &self.origin, self.value.as_deref())
    }

    /// The letter it gives or takes, if it is about one.
    pub fn letter(&self) -> Option<char> {
        let letter = match self.about {
            About::Flag => &self.name,
            About::Chan => self.name.rsplit_once(' ')?.1,
            _ => return None,
        };
        let mut chars = letter.chars();
        chars.next().filter(|_| chars.next().is_none())
    }

    /// What is signed: every part behind its length, so that no two facts have the same bytes.
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"masterchief fact 1".to_vec();
        let (some, value) = self.value.as_deref().map_or(("0", ""), |value| ("1", value));
        for part in [&self.handle, self.about.as_str(), &self.name, some, value, &self.origin] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }

    /// Whether it can be one at all, at this time of day (Unix milliseconds).
    pub fn is_sane(&self, now: u64) -> bool {
        let plain = |text: &str| !text.contains(char::is_control) && text == text.trim();
        let lower =
            |text: &str| !text.is_empty() && text.len() <= 32 && !text.contains(|c: char| c.is_ascii_uppercase());
        let alone = matches!(self.about, About::User | About::Comment);
        lower(&self.handle)
            && lower(&self.origin)
            && plain(&self.name)
            && self.name.len() <= NAME_MAX
            && alone == self.name.is_empty()
            && self.value.as_deref().is_none_or(|value| value.len() <= VALUE_MAX && plain(value))
            && self.version <= now.saturating_add(AHEAD)
            && (!matches!(self.about, About::Flag | About::Chan) || self.letter().is_some())
    }
}

/// Bytes as facts that a bot tells, and what they would make of somebody.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let Ok(facts) = serde_json::from_slice::<Vec<Fact>>(bytes) else { return };
    let (mut ledger, pins) = (Ledger::default(), Pins::default());
    for fact in facts.into_iter().filter(|fact| fact.is_sane(1)) {
        assert!(!pins.vouch(&fact), "nobody's key is known");
        let again = serde_json::to_string(&fact).ok().and_then(|text| serde_json::from_str(&text).ok());
        assert_eq!(again.as_ref(), Some(&fact));
        let handle = fact.handle.clone();
        let _ = ledger.take(fact);
        if let Some(user) = merged(&ledger, &handle, None) {
            assert!(user.password.is_none() && user.roles.is_empty());
        }
    }
}

mod in_base64 {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{BASE64, Engine};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
