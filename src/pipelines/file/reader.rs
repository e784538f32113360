//! Reading parts of a tree without stopping at the first fault.

use std::time::Duration;

use masterchief_contract::closest;
use serde_json::Value;

use super::super::expr::{Expr, Exprs};
use super::super::template;
use super::runner::KEYS;
use super::stages::SKIPPER;
use crate::executors::Executors;
use crate::users::FlagMask;
use crate::yaml::{self, ConfigFault, Entry, Node, Spot, What};

/// Gathers what is wrong.
pub(super) struct Reader<'e> {
    pub(super) faults: Vec<ConfigFault>,
    pub(super) executors: &'e Executors,
    exprs: Exprs,
    /// The flag that leaving out a stage needs where the stage names none.
    pub(super) skipper: Option<FlagMask>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(executors: &'e Executors) -> Reader<'e> {
        let skipper = FlagMask::parse(SKIPPER).ok();
        Reader { faults: Vec::new(), executors, exprs: Exprs::default(), skipper }
    }

    pub(super) fn fault(&mut self, node: &Node, message: impl Into<String>) {
        self.fault_at(&node.spot, message);
    }

    pub(super) fn fault_at(&mut self, spot: &Spot, message: impl Into<String>) {
        self.faults.push(ConfigFault { spot: Some(spot.clone()), message: message.into() });
    }

    pub(super) fn is_text(&self, node: &Node) -> bool {
        matches!(node.what, What::Text(_))
    }

    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.what {
            What::Text(text) => Some(text.clone()),
            _ => {
                self.fault(node, "this is a text; write it in quotes if it looks like a number or a truth");
                None
            }
        }
    }

    /// A name without blanks.
    pub(super) fn word(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node)?;
        if is_name(&text) {
            return Some(text);
        }
        self.fault(node, format!("{what}: {text:?} is no name: letters, digits, - and _, a letter first"));
        None
    }

    pub(super) fn bool(&mut self, node: &Node) -> Option<bool> {
        match node.what {
            What::Bool(value) => Some(value),
            _ => {
                self.fault(node, "this is true or false");
                None
            }
        }
    }

    pub(super) fn int(&mut self, node: &Node) -> Option<i64> {
        match node.what {
            What::Int(value) => Some(value),
            _ => {
                self.fault(node, "this is a whole number");
                None
            }
        }
    }

    /// A whole number from 0 on.
    pub(super) fn count(&mut self, node: &Node) -> Option<u64> {
        let value = self.int(node)?;
        let count = u64::try_from(value).ok();
        if count.is_none() {
            self.fault(node, "this is a whole number, 0 or more");
        }
        count
    }

    pub(super) fn number(&mut self, node: &Node) -> Option<f64> {
        match node.what {
            What::Int(value) => Some(value as f64),
            What::Number(value) if value.is_finite() => Some(value),
            _ => {
                self.fault(node, "this is a number");
                None
            }
        }
    }

    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        let text = match &node.what {
            What::Text(text) => text.as_str(),
            _ => "",
        };
        let read = humantime_serde::re::humantime::parse_duration(text).ok();
        if read.is_none() {
            self.fault(node, "this is a time with its unit, such as 20s, 15m or 1h30m");
        }
        read
    }

    /// Bytes: `512MiB`, `1GiB`, `5GB`, a number.
    pub(super) fn bytes(&mut self, node: &Node) -> Option<u64> {
        let read = match &node.what {
            What::Int(value) => u64::try_from(*value).ok(),
            What::Text(text) => bytes(text),
            _ => None,
        };
        if read.is_none() {
            self.fault(node, "this is a size, such as 512MiB or 2GiB");
        }
        read
    }

    /// A list; one thing that is no list counts as a list of it.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> Vec<&'n Node> {
        match &node.what {
            What::List(list) => list.iter().collect(),
            _ => vec![node],
        }
    }

    pub(super) fn texts(&mut self, node: &Node) -> Vec<String> {
        self.list(node).into_iter().filter_map(|item| self.text(item)).collect()
    }

    /// One word out of a few.
    pub(super) fn choice<'w>(&mut self, node: &Node, words: &[&'w str]) -> Option<&'w str> {
        let text = self.text(node)?;
        let found = words.iter().find(|word| **word == text);
        if found.is_none() {
            let hint = match closest(&text, words.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("there are {}", words.join(", ")),
            };
            self.fault(node, format!("{text:?} is none of the choices; {hint}"));
        }
        found.copied()
    }

    pub(super) fn choices<'w>(&mut self, node: &Node, words: &[&'w str]) -> Vec<&'w str> {
        self.list(node).into_iter().filter_map(|item| self.choice(item, words)).collect()
    }

    pub(super) fn expr(&mut self, node: &Node) -> Option<Expr> {
        let text = match &node.what {
            What::Bool(true) => "true",
            What::Bool(false) => "false",
            What::Text(text) => text,
            _ => return self.text(node).and(None),
        };
        match self.exprs.parse(text) {
            Ok(expr) => Some(expr),
            Err(fault) => {
                self.fault(node, format!("column {} of the text: {}", fault.column, fault.message));
                None
            }
        }
    }

    /// Flags that are needed, `D` for global or the channel's; `-` is everybody.
    pub(super) fn flags(&mut self, node: &Node) -> Option<Option<FlagMask>> {
        let text = self.text(node)?;
        match flags(&text) {
            Ok(mask) => Some(mask),
            Err(fault) => {
                self.fault(node, fault);
                None
            }
        }
    }

    /// A value as JSON; its texts are checked for what is to be filled in.
    pub(super) fn value(&mut self, node: &Node) -> Value {
        match &node.what {
            What::Null => Value::Null,
            What::Bool(value) => Value::from(*value),
            What::Int(value) => Value::from(*value),
            What::Number(value) => Value::from(*value),
            What::Text(text) | What::Secret(text) => {
                if let Err(fault) = template::names(text) {
                    self.fault(node, format!("column {} of the text: {}", fault.column, fault.message));
                }
                Value::from(text.clone())
            }
            What::List(list) => list.iter().map(|item| self.value(item)).collect(),
            What::Map(map) => {
                let entries = in_file_order(map).into_iter();
                Value::Object(entries.map(|(key, (_, node))| (key.clone(), self.value(node))).collect())
            }
        }
    }

    pub(super) fn object(&mut self, node: &Node) -> serde_json::Map<String, Value> {
        match self.value(node) {
            Value::Object(map) => map,
            _ => {
                self.fault(node, "this is a map of names and values");
                serde_json::Map::new()
            }
        }
    }

    /// The entries of a map, as they stand in the file.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n String, &'n Spot, &'n Node)> {
        match &node.what {
            What::Map(map) => in_file_order(map).into_iter().map(|(key, (spot, node))| (key, spot, node)).collect(),
            _ => {
                self.fault(node, format!("{what} is a map of names"));
                Vec::new()
            }
        }
    }
}

fn in_file_order(map: &yaml::Map) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = map.iter().collect();
    entries.sort_by_key(|(_, (spot, _))| (spot.line, spot.column));
    entries
}

/// The keys of a map, taken one by one; what is left is unknown.
pub(super) struct Fields<'n> {
    map: &'n yaml::Map,
    spot: &'n Spot,
    path: String,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The keys of a node, which is at `path` in the file.
    pub(super) fn of(reader: &mut Reader, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        match &node.what {
            What::Map(map) => {
                let known = Vec::with_capacity(KEYS.len() + 1);
                Some(Fields { map, spot: &node.spot, path: path.to_owned(), known })
            }
            _ => {
                let what = if path.is_empty() { "a pipeline" } else { path };
                reader.fault(node, format!("{what} is a map of keys"));
                None
            }
        }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.map.get(key).map(|(_, node)| node).filter(|node| !matches!(node.what, What::Null))
    }

    pub(super) fn need(&mut self, reader: &mut Reader, key: &'static str) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            reader.fault_at(self.spot, format!("{}: the key {key:?} is missing", self.path));
        }
        found
    }

    /// The keys that were not taken.
    pub(super) fn rest(&self) -> Vec<(&'n String, &'n Spot, &'n Node)> {
        let rest = self.map.iter().filter(|(key, _)| !self.known.contains(&key.as_str()));
        let mut rest: Vec<_> = rest.map(|(key, (spot, node))| (key, spot, node)).collect();
        rest.sort_by_key(|(_, spot, _)| (spot.line, spot.column));
        rest
    }

    /// Says what is left.
    pub(super) fn done(self, reader: &mut Reader) {
        for (key, spot, _) in self.rest() {
            let hint = match closest(key, self.known.iter().copied()) {
                Some(close) => format!("did you mean {close:?}?"),
                None => format!("there are {}", self.known.join(", ")),
            };
            reader.fault_at(spot, format!("there is no key {key:?} here; {hint}"));
        }
    }
}

/// Whether this can name an app, a stage, a parameter.
pub(super) fn is_name(text: &str) -> bool {
    let letters = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.starts_with(|c: char| c.is_alphabetic()) && text.chars().all(letters) && text.len() <= 64
}

/// Flags that are needed: `D`, `D|D`, `n|-`. A letter alone counts globally and on the channel. `-` is everybody.
fn flags(text: &str) -> Result<Option<FlagMask>, String> {
    if text == "-" {
        return Ok(None);
    }
    let mask = if text.contains(['|', '&']) { text.to_owned() } else { format!("{text}|{text}") };
    FlagMask::parse(&mask).map(Some).map_err(|fault| format!("{text:?} are no flags: {fault}"))
}

/// A size in bytes.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let (unit, size) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number * size as f64) as u64)
}
