//! Reads a payload as JSON, but keeps only what is asked about: most of what a forge posts is never looked at, and to take it
//! apart costs more than all the rest of a post.

use std::fmt;

use masterchief_contract::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(out))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while list.next_element::<IgnoredAny>()?.is_some() {
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
    use serde_json::json;

    use super::*;

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
