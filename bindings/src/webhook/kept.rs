//! Reads a payload as JSON, but keeps only what is asked about: most of what a forge posts is never looked at, and to take it
//! apart costs more than all the rest of a post.

use std::fmt;

use masterchief_contract::Value;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The parts that are kept.
#[derive(Default)]
pub(super) struct Kept {
    /// This, with all that is in it.
    whole: bool,
    below: Vec<(&'static str, Kept)>,
}

impl Kept {
    /// By pointers, as in `/repository/full_name`. Of a list that ends with a `/`, as in `/commits/`, the length alone is kept.
    pub(super) fn of(pointers: &[&'static str]) -> Kept {
        let mut root = Kept::default();
        for pointer in pointers {
            let mut at = &mut root;
            for name in pointer.split('/').skip(1) {
                let known = at.below.iter().position(|(one, _)| *one == name).unwrap_or(at.below.len());
                if known == at.below.len() {
                    at.below.push((name, Kept::default()));
                }
                at = &mut at.below[known].1;
            }
            at.whole = true;
        }
        root
    }

    /// The parts of a text that are kept; all of it is read, and what is wrong with it is told as ever.
    pub(super) fn read(&self, text: &[u8]) -> serde_json::Result<Value> {
        // What is passed over is not looked at closely enough.
        let Ok(text) = std::str::from_utf8(text) else { return serde_json::from_slice(text) };
        let mut from = serde_json::Deserializer::from_str(text);
        let value = self.deserialize(&mut from)?;
        from.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Kept {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        if self.whole { serde::Deserialize::deserialize(from) } else { from.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for &Kept {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = serde_json::Map::new();
        while let Some(found) = map.next_key_seed(Name(&self.below))? {
            match found {
                Some((name, kept)) => {
                    let value = map.next_value_seed(kept)?;
                    out.insert((*name).to_owned(), value);
                }
                None => _ = map.next_value::<Passed>()?,
            }
        }
        Ok(Value::Object(out))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while list.next_element::<Passed>()?.is_some() {
            out.push(Value::Null);
        }
        Ok(Value::Array(out))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A value that is passed over. It is looked at as closely as what is kept, for a text is as good as its worst part: what serde
/// ignores may hold halves of characters and numbers that are none, and is as deep as it likes.
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Passed, D::Error> {
        from.deserialize_any(Passed)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Passed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Passed, A::Error> {
        while map.next_key::<Key>()?.is_some() {
            map.next_value::<Passed>()?;
        }
        Ok(Passed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Passed, A::Error> {
        while list.next_element::<Passed>()?.is_some() {}
        Ok(Passed)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Passed, E> {
        Ok(Passed)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Passed, E> {
        Ok(Passed)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Passed, E> {
        Ok(Passed)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Passed, E> {
        Ok(Passed)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Passed, E> {
        Ok(Passed)
    }

    fn visit_unit<E: Error>(self) -> Result<Passed, E> {
        Ok(Passed)
    }
}

/// The key of such a value.
struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        from.deserialize_str(Passed).map(|_| Key)
    }
}

/// Finds a key among those that are kept.
struct Name<'a>(&'a [(&'static str, Kept)]);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a (&'static str, Kept)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a (&'static str, Kept)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(known, _)| *known == name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Pieces of JSON, and of what is nearly JSON.
    const PIECES: [&str; 40] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "null",
        "true",
        "fals",
        "0",
        "-0",
        "01",
        "1.5",
        "1e5",
        "1e999",
        "-1e-999",
        "18446744073709551616",
        "\"ref\"",
        "\"repository\"",
        "\"full_name\"",
        "\"x\"",
        "\"\"",
        "\"a",
        "\\",
        "\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83dx\"",
        "\"\\u00\"",
        "\"\\u0072ef\"",
        "\"\\q\"",
        "\"\\n\"",
        "\"\u{1}\"",
        "\"é\"",
        "\u{feff}",
        "\"ref\":1,",
        "{\"x\":",
    ];

    fn kept() -> Kept {
        Kept::of(&["/ref", "/repository/full_name", "/commits/", "/sender"])
    }

    /// Ours takes what serde_json takes, and names the same place where it does not.
    fn same(text: &[u8]) {
        match (kept().read(text), serde_json::from_slice::<Value>(text)) {
            (Ok(ours), Ok(theirs)) => {
                for pointer in ["/ref", "/repository/full_name", "/sender"] {
                    assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{}", String::from_utf8_lossy(text));
                }
            }
            (Err(ours), Err(theirs)) => {
                assert_eq!((ours.line(), ours.column()), (theirs.line(), theirs.column()), "{ours}, {theirs}");
            }
            (ours, theirs) => panic!("{}: {ours:?}, {theirs:?}", String::from_utf8_lossy(text)),
        }
    }

    /// Any JSON, with strings as they may be written.
    fn value() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(&PIECES[8..]).prop_map(str::to_owned);
        leaf.prop_recursive(6, 40, 5, |inner| {
            let key = prop::sample::select(&PIECES[19..36]);
            let pair = (key, inner.clone()).prop_map(|(key, value)| format!("{key}: {value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(|parts| format!("[{}]", parts.join(","))),
                prop::collection::vec(pair, 0..5).prop_map(|parts| format!("{{{}}}", parts.join(", "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_as_if_all_of_it_were_read(text in value()) {
            same(text.as_bytes());
        }

        #[test]
        fn any_heap_of_pieces_is_too(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12)) {
            same(pieces.concat().as_bytes());
        }
    }

    #[test]
    fn what_is_passed_over_is_looked_at_as_closely_as_the_rest() {
        for part in ["\"\\ud800\"", "1e999", &format!("{}1{}", "[".repeat(200), "]".repeat(200)), "{\"\\udc00\": 1}"] {
            same(format!("{{\"files\": {part}}}").as_bytes());
            same(format!("{{\"commits\": [{part}]}}").as_bytes());
            same(format!("{{\"repository\": {{\"id\": {part}, \"full_name\": 1}}}}").as_bytes());
        }
    }

    #[test]
    fn what_is_asked_about_is_kept_and_the_rest_is_read_all_the_same() {
        let kept = Kept::of(&["/ref", "/repository/full_name", "/commits", "/sender"]);
        let text = br#"{"ref": "a", "repository": {"id": 7, "full_name": "acme/shop", "owner": {"x": [1, {}]}},
            "commits": [{"id": 1}], "sender": {"login": "ana"}, "files": [1, 2], "r\u0065f": "b", "n": -1.5e3}"#;
        let wanted = json!({"ref": "b", "repository": {"full_name": "acme/shop"}, "commits": [{"id": 1}],
            "sender": {"login": "ana"}});
        assert_eq!(kept.read(text).unwrap(), wanted);
        for wrong in
            [&b"{\"ref\": }"[..], b"{\"files\": [1,]}", b"{\"ref\": 1} x", b"{\"n\": tru}", b"", b"{\"n\": \"\xff\"}"]
        {
            let (ours, theirs) = (kept.read(wrong).unwrap_err(), serde_json::from_slice::<Value>(wrong).unwrap_err());
            assert_eq!((ours.line(), ours.column()), (theirs.line(), theirs.column()), "{ours}, {theirs}");
        }
        assert_eq!(
            Kept::of(&["/commits/"]).read(br#"{"commits": [{}, 2], "x": []}"#).unwrap(),
            json!({"commits": [null, null]})
        );
    }
}
