//! What changed in a list of things that have a key, or in one thing as a whole.

use std::collections::BTreeMap;

use chrono::Utc;
use masterchief_contract::{Inbound, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Things that are remembered at most.
pub(crate) const KNOWN_MAX: usize = 50_000;

/// What is remembered of what was there: a hash of each, by its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Whether anything was ever looked at.
    pub(crate) looked: bool,
    pub(crate) hashes: BTreeMap<String, String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// `added`, `changed`, `removed`.
    pub(crate) event: &'static str,
    pub(crate) key: String,
    /// The thing; nothing for one that is gone.
    pub(crate) item: Value,
}

impl Difference {
    /// The event that tells it. `source` is the field that says what was looked at.
    pub(crate) fn inbound(self, source: &'static str, name: &str) -> Inbound {
        let Difference { event, key, item } = self;
        let text = match &item {
            Value::String(text) => text.clone(),
            Value::Null => key.clone(),
            item => item.to_string(),
        };
        let mut fields = vec![(source, Value::from(name)), ("event", Value::from(event)), ("key", Value::from(key))];
        if !item.is_null() {
            fields.push(("data", item));
        }
        Inbound { key: None, at: Utc::now(), text, fields, body: Vec::new() }
    }
}

/// A hash that does not depend on the order of keys.
pub(crate) fn hash(value: &Value) -> String {
    fn feed(value: &Value, digest: &mut Sha256) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                digest.update(b"{");
                for key in keys {
                    digest.update(Value::from(key.as_str()).to_string());
                    feed(map.get(key).unwrap_or(&Value::Null), digest);
                }
                digest.update(b"}");
            }
            Value::Array(list) => {
                digest.update(b"[");
                list.iter().for_each(|item| feed(item, digest));
                digest.update(b"]");
            }
            other => digest.update(format!("{other},")),
        }
    }
    let mut digest = Sha256::new();
    feed(value, &mut digest);
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// The key of a thing: the fields that are named, or all of it.
pub(crate) fn key_of(item: &Value, key: &[String]) -> String {
    if key.is_empty() {
        return hash(item);
    }
    let parts = key.iter().map(|name| match item.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    });
    parts.collect::<Vec<_>>().join("/")
}

impl Known {
    /// Looks at a list; what is new, other than it was, or gone, in the list's order. At the first look nothing is a
    /// difference unless `first` says so.
    pub(crate) fn list(&mut self, items: &[Value], key: &[String], first: bool) -> Result<Vec<Difference>, String> {
        if items.len() > KNOWN_MAX {
            return Err(format!(
                "{} things, and {KNOWN_MAX} are compared at most; ask for fewer (only the newest, a page), or read a database with on: cursor",
                items.len()
            ));
        }
        let quiet = !self.looked && !first;
        let mut now = BTreeMap::new();
        let mut out = Vec::new();
        for item in items {
            let (key, hash) = (key_of(item, key), hash(item));
            let event = match self.hashes.get(&key) {
                None => Some("added"),
                Some(before) if *before != hash => Some("changed"),
                Some(_) => None,
            };
            if let Some(event) = event.filter(|_| !quiet && !now.contains_key(&key)) {
                out.push(Difference { event, key: key.clone(), item: item.clone() });
            }
            // Of several with one key the first counts, as above.
            now.entry(key).or_insert(hash);
        }
        let gone = self.hashes.keys().filter(|key| !now.contains_key(*key));
        out.extend(gone.map(|key| Difference { event: "removed", key: key.clone(), item: Value::Null }));
        (self.looked, self.hashes) = (true, now);
        Ok(out)
    }

    /// Looks at one thing as a whole.
    pub(crate) fn whole(&mut self, item: &Value, first: bool) -> Option<Difference> {
        let hash = hash(item);
        let before = self.hashes.insert(String::new(), hash.clone());
        let quiet = !self.looked && !first;
        self.looked = true;
        if quiet || before.as_ref() == Some(&hash) {
            return None;
        }
        let event = if before.is_some() { "changed" } else { "added" };
        Some(Difference { event, key: hash, item: item.clone() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_new_other_or_gone_is_told_and_the_first_look_is_quiet() {
        let key = ["id".to_owned()];
        let told = |known: &mut Known, items: Value, first: bool| {
            let items = items.as_array().unwrap().clone();
            let found = known.list(&items, &key, first).unwrap();
            found.iter().map(|one| format!("{} {}", one.event, one.key)).collect::<Vec<_>>()
        };
        let mut known = Known::default();
        assert!(told(&mut known, json!([{"id": 1, "a": 1}, {"id": 2, "a": 1}]), false).is_empty());
        assert_eq!(
            told(&mut known, json!([{"id": 3}, {"a": 2, "id": 1}]), false),
            ["added 3", "changed 1", "removed 2"]
        );
        assert!(told(&mut known, json!([{"id": 1, "a": 2}, {"id": 3}]), false).is_empty(), "order says nothing");
        assert_eq!(told(&mut Known::default(), json!([{"id": 1}]), true), ["added 1"]);
    }

    #[test]
    fn one_thing_is_compared_whatever_the_order_of_its_keys() {
        let mut known = Known::default();
        assert_eq!(known.whole(&json!({"a": 1, "b": 2}), false), None);
        assert_eq!(known.whole(&json!({"b": 2, "a": 1}), false), None);
        assert_eq!(known.whole(&json!({"b": 3, "a": 1}), false).unwrap().event, "changed");
    }
}
