//! How a network compares names (ISUPPORT CASEMAPPING).

use std::fmt;

/// One of the mappings that servers announce. Without a word from the server it is `rfc1459`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaseMap {
    /// A to Z.
    Ascii,
    /// A to Z and `[ ] \ ~` with `{ } | ^`.
    #[default]
    Rfc1459,
    /// A to Z and `[ ] \` with `{ } |`.
    Rfc1459Strict,
}

impl CaseMap {
    /// Reads the ISUPPORT value; an unknown one is `None` and best treated as ASCII.
    pub fn parse(value: &str) -> Option<CaseMap> {
        match value.to_ascii_lowercase().as_str() {
            "ascii" => Some(CaseMap::Ascii),
            "rfc1459" => Some(CaseMap::Rfc1459),
            "rfc1459-strict" | "strict-rfc1459" => Some(CaseMap::Rfc1459Strict),
            _ => None,
        }
    }

    /// The lower form of one byte.
    #[inline]
    pub const fn fold_byte(self, byte: u8) -> u8 {
        match (byte, self) {
            (b'A'..=b'Z', _) => byte + 32,
            (b'[', CaseMap::Rfc1459 | CaseMap::Rfc1459Strict) => b'{',
            (b']', CaseMap::Rfc1459 | CaseMap::Rfc1459Strict) => b'}',
            (b'\\', CaseMap::Rfc1459 | CaseMap::Rfc1459Strict) => b'|',
            (b'~', CaseMap::Rfc1459) => b'^',
            _ => byte,
        }
    }

    /// The lower form of one character. Only ASCII has one.
    #[inline]
    pub fn fold_char(self, c: char) -> char {
        if c.is_ascii() { char::from(self.fold_byte(c as u8)) } else { c }
    }

    /// The lower form of a name: what to key a map with.
    pub fn fold(self, name: &str) -> String {
        name.chars().map(|c| self.fold_char(c)).collect()
    }

    /// Whether two names are the same on this network.
    pub fn eq(self, a: &str, b: &str) -> bool {
        a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| self.fold_byte(a) == self.fold_byte(b))
    }
}

impl fmt::Display for CaseMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CaseMap::Ascii => "ascii",
            CaseMap::Rfc1459 => "rfc1459",
            CaseMap::Rfc1459Strict => "rfc1459-strict",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_the_same_exactly_when_they_fold_to_the_same(
            one in r"[a-cA-C\[\]{}|\\~^é]{0,4}", other in r"[a-cA-C\[\]{}|\\~^é]{0,4}",
        ) {
            for casemap in [CaseMap::Ascii, CaseMap::Rfc1459, CaseMap::Rfc1459Strict] {
                prop_assert_eq!(casemap.eq(&one, &other), casemap.fold(&one) == casemap.fold(&other));
                prop_assert_eq!(casemap.fold(&casemap.fold(&one)), casemap.fold(&one));
                prop_assert!(casemap.eq(&one, &casemap.fold(&one)));
            }
        }
    }

    #[test]
    fn brackets_are_letters_under_rfc1459_only() {
        assert!(CaseMap::Rfc1459.eq("#Ops[1]~", "#ops{1}^"));
        assert!(CaseMap::Rfc1459Strict.eq("#Ops[1]", "#ops{1}"));
        assert!(!CaseMap::Rfc1459Strict.eq("~", "^"));
        assert!(!CaseMap::Ascii.eq("[a]", "{a}"));
        assert!(CaseMap::Ascii.eq("ÄB", "Äb") && !CaseMap::Ascii.eq("Ä", "ä"));
    }
}
