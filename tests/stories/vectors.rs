//! The public vectors of ircdocs/parser-tests, all four files of them that are for clients.

use std::collections::BTreeMap;

use masterchief::contract::{CaseMap, wild_match};
use masterchief::irc::message::{Message, Source, compose};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Tests<T> {
    tests: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Atoms {
    tags: BTreeMap<String, String>,
    source: Option<String>,
    verb: String,
    params: Vec<String>,
    nick: String,
    user: String,
    host: String,
}

#[derive(Deserialize)]
struct Split {
    input: String,
    atoms: Atoms,
}

#[derive(Deserialize)]
struct Join {
    desc: String,
    atoms: Atoms,
    matches: Vec<String>,
}

#[derive(Deserialize)]
struct Userhost {
    source: String,
    atoms: Atoms,
}

#[derive(Deserialize)]
struct Mask {
    mask: String,
    matches: Vec<String>,
    fails: Vec<String>,
}

fn tests<T: DeserializeOwned>(text: &str, many: usize) -> Vec<T> {
    let tests = serde_saphyr::from_str::<Tests<T>>(text).unwrap().tests;
    assert_eq!(tests.len(), many, "all of them are read");
    tests
}

#[test]
fn msg_split() {
    for Split { input, atoms } in tests::<Split>(include_str!("../vectors/msg-split.yaml"), 35) {
        let message = Message::parse(&input).unwrap_or_else(|fault| panic!("{input:?}: {fault}"));
        assert_eq!(message.source, atoms.source.as_deref().map(Source::parse), "{input:?}");
        assert_eq!(message.command, atoms.verb, "{input:?}");
        assert_eq!(message.params(), atoms.params, "{input:?}");
        let tags: BTreeMap<String, String> =
            message.tags.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
        assert_eq!(tags, atoms.tags, "{input:?}");
        for (name, value) in &atoms.tags {
            assert_eq!(message.tags.get(name).as_deref(), Some(value.as_str()), "{input:?}: {name}");
        }
    }
}

/// A client does not say who it is: the source of the vectors is left out on both sides.
#[test]
fn msg_join() {
    for Join { desc, atoms, matches } in tests::<Join>(include_str!("../vectors/msg-join.yaml"), 18) {
        let tags: Vec<(&str, &str)> = atoms.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let params: Vec<&str> = atoms.params.iter().map(String::as_str).collect();
        let line = compose(&tags, &atoms.verb, &params).unwrap_or_else(|fault| panic!("{desc}: {fault}"));
        let source = atoms.source.map_or(String::new(), |source| format!(":{source} "));
        let wanted: Vec<String> = matches.iter().map(|line| line.replacen(&source, "", 1)).collect();
        assert!(wanted.contains(&line), "{desc}: {line:?} is none of {wanted:?}");
    }
}

#[test]
fn userhost_split() {
    for Userhost { source, atoms } in tests::<Userhost>(include_str!("../vectors/userhost-split.yaml"), 7) {
        let Source { nick, user, host } = Source::parse(&source);
        assert_eq!((nick, user, host), (&*atoms.nick, &*atoms.user, &*atoms.host), "{source:?}");
    }
}

#[test]
fn mask_match() {
    for Mask { mask, matches, fails } in tests::<Mask>(include_str!("../vectors/mask-match.yaml"), 6) {
        for casemap in [CaseMap::Ascii, CaseMap::Rfc1459] {
            matches.iter().for_each(|text| assert!(wild_match(&mask, text, casemap), "{mask} and {text}"));
            fails.iter().for_each(|text| assert!(!wild_match(&mask, text, casemap), "{mask} and {text}"));
        }
    }
}
