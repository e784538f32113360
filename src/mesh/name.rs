//! Names in the botnet's lines: bots, words without blanks, and who speaks from where.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The longest handle, as Eggdrop is built since 1.8 (`HANDLEN`).
pub const HANDLE_MAX: usize = 32;
/// The longest word that names somebody: a nick or a place.
const WORD_MAX: usize = 256;
/// What a handle must not begin with (`BADHANDCHARS`).
const BAD_BEGIN: &str = "-,+*=:!.@#;$%&";

/// The name of a bot. Compared without case, as in Eggdrop; cheap to clone.
#[derive(Clone)]
pub struct BotName(Arc<str>);

/// One word: not empty, no blank, nothing that cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Box<str>);

/// Somebody or some bot: `7:alice@HubBot`, `alice@HubBot`, `HubBot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of the session on its bot. Written in decimal here, unlike everywhere else.
    pub sock: Option<u32>,
    /// The person; a bot speaks for itself without.
    pub user: Option<Word>,
    /// Where.
    pub bot: BotName,
}

/// Not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a bot: 1 to {HANDLE_MAX} letters without blanks, @ and :, and not beginning with one of {BAD_BEGIN}"
)]
pub struct BadName(pub String);

impl BotName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BotName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<BotName, BadName> {
        // More than Eggdrop asks: what divides the parts of an address stands in no name.
        let good = (1..=HANDLE_MAX).contains(&text.len())
            && !text.starts_with(|c| BAD_BEGIN.contains(c))
            && !text.contains(|c: char| c <= ' ' || c == '\u{7f}' || matches!(c, '@' | ':'));
        if good { Ok(BotName(Arc::from(text))) } else { Err(BadName(text.to_owned())) }
    }
}

impl PartialEq for BotName {
    fn eq(&self, other: &BotName) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for BotName {}

impl Hash for BotName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl PartialOrd for BotName {
    fn partial_cmp(&self, other: &BotName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BotName {
    fn cmp(&self, other: &BotName) -> Ordering {
        let folded = |name: &BotName| name.0.bytes().map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
        folded(self).cmp(&folded(other))
    }
}

impl fmt::Display for BotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for BotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word {
    /// A word, if this is one.
    pub fn new(text: &str) -> Option<Word> {
        let good = (1..=WORD_MAX).contains(&text.len()) && !text.contains(|c: char| c <= ' ' || c == '\u{7f}');
        good.then(|| Word(text.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Address {
    /// A bot that speaks for itself.
    pub fn bot(bot: BotName) -> Address {
        Address { sock: None, user: None, bot }
    }

    /// A person on a bot.
    pub fn user(user: Word, bot: BotName) -> Address {
        Address { sock: None, user: Some(user), bot }
    }

    /// Reads any of the three forms.
    pub fn parse(text: &str) -> Option<Address> {
        // Eggdrop's people may have an @ in their handle; what follows the last one is a bot's.
        let Some((who, bot)) = text.rsplit_once('@') else {
            return Some(Address::bot(text.parse().ok()?));
        };
        let bot = bot.parse().ok()?;
        let (sock, user) = match who.split_once(':') {
            Some((sock, user)) => (Some(sock.parse().ok()?), user),
            None => (None, who),
        };
        let user = Word::new(user).filter(|user| !user.as_str().contains(':'))?;
        Some(Address { sock, user: Some(user), bot })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            if let Some(sock) = self.sock {
                write!(f, "{sock}:")?;
            }
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.bot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_what_eggdrop_takes_and_no_more() {
        let hub: BotName = "HubBot".parse().unwrap();
        assert_eq!(hub, "hubbot".parse().unwrap());
        assert_eq!(hub.to_string(), "HubBot");
        for bad in ["", "-x", "a b", "a@b", "a:b", "#x", "a\u{7f}", "*hello!", &"x".repeat(33)] {
            assert!(bad.parse::<BotName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_three_forms() {
        for text in ["7:owner@LeafBot", "owner@LeafBot", "LeafBot"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "@", "@LeafBot", "x:owner@LeafBot", "7:@LeafBot", "owner@", "7:a:b@LeafBot"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "([0-9]{1,4}:)?([a-z]{1,8}@)?[A-Za-z][a-z0-9]{0,31}|.{0,60}") {
            if let Some(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
            }
        }
    }
}
