//! A configuration file as a tree in which every part knows where it stands.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::map::Map;
use super::quick;

/// Values in a file: a pipeline of a hundred thousand stages has about a million.
pub(super) const NODES_MAX: usize = 4_000_000;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1.
    pub line: u64,
    /// Its column, from 1.
    pub column: u64,
}

/// What stands for something that `${...}` stands for, is not there, and is not needed.
pub const SPARE: &str = "x";

/// Whether what `${...}` stands for must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// To connect.
    Needed,
    /// To look at scripts and people, which must not take the production's passwords.
    Spare,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", spot.as_ref().map(|spot| format!("{spot}: ")).unwrap_or_default())]
pub struct ConfigFault {
    /// The place, if there is one.
    pub spot: Option<Spot>,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// A part of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub spot: Spot,
    /// What it is.
    pub what: What,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A text that came from outside the file and may be a secret: no message shows it.
    Secret(String),
    /// Several in order.
    List(Vec<Node>),
    /// Several by name, with the place of each name.
    Map(Map),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

impl ConfigFault {
    /// A fault with its place.
    pub fn at(spot: &Spot, message: impl Into<String>) -> ConfigFault {
        ConfigFault { spot: Some(spot.clone()), message: message.into() }
    }
}

impl Node {
    /// Reads a file's text, by its name YAML or TOML. An empty one is an empty map.
    pub fn parse(file: &Path, text: &str) -> Result<Node, ConfigFault> {
        if file.extension().is_some_and(|end| end == "toml") {
            return super::toml::read(file, text);
        }
        let file: Arc<Path> = Arc::from(file);
        let nothing = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if nothing {
            let start = Spot { file, line: 1, column: 1 };
            return Ok(Node { spot: start, what: What::Map(Map::new()) });
        }
        match quick::read(&file, text) {
            Some(node) => Ok(node),
            None => Node::parse_all(file, text),
        }
    }

    /// Reads whatever YAML allows, or says what is wrong.
    fn parse_all(file: Arc<Path>, text: &str) -> Result<Node, ConfigFault> {
        let budget = serde_saphyr::budget! { max_nodes: NODES_MAX, max_events: 4 * NODES_MAX };
        let options = serde_saphyr::options! { budget: budget };
        let parsed: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
            let start = Spot { file: Arc::clone(&file), line: 1, column: 1 };
            let spot =
                fault.location().map(|at| Spot { file: Arc::clone(&file), line: at.line(), column: at.column() });
            ConfigFault { spot: Some(spot.unwrap_or(start)), message: without_place(&fault.to_string()) }
        })?;
        Ok(placed(&file, parsed))
    }

    /// An empty map of no file.
    pub fn empty(name: &Path) -> Node {
        let spot = Spot { file: Arc::from(name), line: 1, column: 1 };
        Node { spot, what: What::Map(Map::new()) }
    }

    /// This under another: maps are merged, everything else is replaced.
    pub fn merged(self, over: Node) -> Node {
        match (self.what, over.what) {
            (What::Map(below), What::Map(above)) => {
                let mut above = above.into_iter().peekable();
                let mut all = Vec::with_capacity(below.len() + above.len());
                for (key, (place, old)) in below {
                    while let Some(part) = above.next_if(|(name, _)| *name < key) {
                        all.push(part);
                    }
                    all.push(match above.next_if(|(name, _)| *name == key) {
                        Some((key, (spot, value))) => (key, (spot, old.merged(value))),
                        None => (key, (place, old)),
                    });
                }
                all.extend(above);
                Node { spot: over.spot, what: What::Map(all.into_iter().collect()) }
            }
            (_, what) => Node { spot: over.spot, what },
        }
    }

    /// Puts a value under a path of keys, merging it with what is there.
    pub fn put(self, path: &[&str], value: Node) -> Node {
        let wrapped = path.iter().rev().fold(value, |inner, key| {
            let spot = inner.spot.clone();
            Node { spot: spot.clone(), what: What::Map(Map::from_iter([((*key).to_owned(), (spot, inner))])) }
        });
        self.merged(wrapped)
    }

    /// Where the value of a path stands; of the nearest part above it where it is missing.
    pub fn spot_of(&self, path: &[&str]) -> Spot {
        let Some((key, rest)) = path.split_first() else {
            return self.spot.clone();
        };
        match &self.what {
            What::Map(map) => match map.get(key) {
                Some((spot, _)) if rest.is_empty() => spot.clone(),
                Some((_, node)) => node.spot_of(rest),
                None => self.spot.clone(),
            },
            _ => self.spot.clone(),
        }
    }

    /// Replaces `${env:NAME}` and `${file:PATH}` in all texts. Paths are relative to `folder`. What is missing is a
    /// fault where secrets are needed, else something in its place.
    pub fn filled(self, folder: &Path, secrets: Secrets) -> Result<Node, ConfigFault> {
        let spot = self.spot;
        let what = match self.what {
            What::Text(text) if text.contains("${") => match (fill(&text, folder), secrets) {
                (Ok(filled), _) => What::Secret(filled),
                (Err(_), Secrets::Spare) => What::Secret(SPARE.to_owned()),
                (Err(message), Secrets::Needed) => return Err(ConfigFault::at(&spot, message)),
            },
            What::List(list) => {
                What::List(list.into_iter().map(|node| node.filled(folder, secrets)).collect::<Result<_, _>>()?)
            }
            What::Map(map) => {
                let mut out = Map::new();
                for (key, (at, node)) in map {
                    out.insert(key, (at, node.filled(folder, secrets)?));
                }
                What::Map(out)
            }
            other => other,
        };
        Ok(Node { spot, what })
    }
}

fn fill(text: &str, folder: &Path) -> Result<String, String> {
    fill_with(text, folder, |_| ())
}

/// Replaces `${env:NAME}` and `${file:PATH}` in a text; each value is shown to `secret`. Paths are relative to `folder`.
pub fn fill_with(text: &str, folder: &Path, mut secret: impl FnMut(&str)) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or("a `${` is not closed by `}`")?;
        let (scheme, name) = inner[..end]
            .split_once(':')
            .ok_or_else(|| format!("${{{}}} is not ${{env:NAME}} or ${{file:PATH}}", &inner[..end]))?;
        let value = match scheme {
            "env" => std::env::var(name)
                .map_err(|_| format!("the environment has no variable {name}; set it, or use ${{file:PATH}}"))?,
            "file" => {
                let path = folder.join(PathBuf::from(name));
                let read = std::fs::read_to_string(&path).map_err(|fault| format!("{}: {fault}", path.display()))?;
                read.trim_end_matches(['\r', '\n']).to_owned()
            }
            other => {
                return Err(format!("there is no ${{{other}:...}}; there are ${{env:NAME}} and ${{file:PATH}}"));
            }
        };
        secret(&value);
        out.push_str(&value);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The parser's own words, without the place, which is told already.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or("").trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let placed = line.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let words = placed.map_or(line, |(_, words)| words);
    // What follows is advice to programmers.
    let words = words.split(", set ").next().unwrap_or(words);
    if let Some(key) = words.strip_prefix("duplicate mapping key: ") {
        return format!("the key {key} stands here twice");
    }
    let hint = if words.contains("comment") { "; a name with # is written in quotes, as in \"#ops\"" } else { "" };
    format!("{words}{hint}")
}

/// A value as the YAML parser gives it.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Raw, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Raw, D::Error> {
        from.deserialize_any(AnyValue)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Raw, E> {
        i64::try_from(value).map(Raw::Int).map_err(|_| E::custom("this number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Raw::Map(entries))
    }
}

/// What a text without quotes stands for, unless it is more than one value.
pub(super) fn scalar(text: &str) -> Option<What> {
    if text.is_empty() {
        return Some(What::Null);
    }
    match serde_saphyr::from_str(text).ok()? {
        Raw::Null => Some(What::Null),
        Raw::Bool(value) => Some(What::Bool(value)),
        Raw::Int(value) => Some(What::Int(value)),
        Raw::Number(value) => Some(What::Number(value)),
        Raw::Text(value) => Some(What::Text(value)),
        Raw::List(_) | Raw::Map(_) => None,
    }
}

fn placed(file: &Arc<Path>, raw: Spanned<Raw>) -> Node {
    let at = |location: serde_saphyr::Location| Spot {
        file: Arc::clone(file),
        line: location.line(),
        column: location.column(),
    };
    let spot = at(raw.referenced);
    let what = match raw.value {
        Raw::Null => What::Null,
        Raw::Bool(value) => What::Bool(value),
        Raw::Int(value) => What::Int(value),
        Raw::Number(value) => What::Number(value),
        Raw::Text(value) => What::Text(value),
        Raw::List(list) => What::List(list.into_iter().map(|item| placed(file, item)).collect()),
        Raw::Map(map) => What::Map(
            map.into_iter().map(|(key, value)| (key.value, (at(key.referenced), placed(file, value)))).collect(),
        ),
    };
    Node { spot, what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the quick way reads is what the other reads, with every place.
    fn same(text: &str) -> Result<bool, TestCaseError> {
        let file: Arc<Path> = Arc::from(Path::new("x.yaml"));
        let Some(quick) = quick::read(&file, text) else { return Ok(false) };
        prop_assert_eq!(Ok(quick), Node::parse_all(file, text), "{}", text);
        Ok(true)
    }

    const USUAL: &str = "# a comment\nserver: irc.example:6697 # more\nlist: [1, -2, 0x1f, 0o17, 010, 1_000, 3.5, .5, 1e3, ~, null, yes, no, on, Off, y, TRUE, nan, inf]\nnested:\n  - a: {b: c, d: \"e\\n\", 'f': ''}\n    g:\n  -\n  - - 2024-01-01\n    - a plain text\n      over lines\n  - |\n    literal\n     text\n  - >-\n    folded\n    text\nempty: {}\nnone: []\ntime: 12:30\nänder: ärger\nmask: \"*!*@*\"\npath: /a/b\nminus: -x\n";

    #[test]
    fn the_usual_file_is_read_the_quick_way_and_the_same() {
        for text in [
            USUAL,
            include_str!("../../config/example.yaml"),
            "a: 1",
            "- a\n- 2",
            "word",
            "\"<<\": {a: 1}",
            "\"1\": a",
            "---\na: b\n...\n",
        ] {
            assert!(same(text).unwrap(), "{text}");
        }
        for other in
            ["a: 1\na: 2", "a: &x 1\nb: *x", "a: !!str 1", "<<: {a: 1}", "a: [", "a: b: c", "1: a", "a: 1\n---\nb: 2"]
        {
            assert!(!same(other).unwrap(), "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_file_has_become_both_ways_read_the_same(
            cuts in proptest::collection::vec((0..USUAL.len(), 0usize..20, "[ a-z0-9{}:\\[\\]\"',.?&*!%@~<|>#\n-]{0,6}"), 0..6),
            from in 0..USUAL.len(),
        ) {
            let mut text: Vec<char> = USUAL.chars().skip(from).collect();
            for (at, less, more) in cuts {
                let from = at.min(text.len());
                let to = (from + less).min(text.len());
                text.splice(from..to, more.chars());
            }
            same(&text.into_iter().collect::<String>())?;
        }
    }
}
