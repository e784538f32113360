//! What a configuration says, each value with the place it comes from. Nothing secret is shown.

use std::path::Path;

use masterchief_contract::Secret;
use serde::Serialize;
use serde_json::Value;

use super::{ConfigFault, levels, merged};
use crate::yaml::{Node, What};

/// Names of keys whose values, and all below them, are nobody's business.
const SECRET: [&str; 9] =
    ["password", "passphrase", "token", "secret", "key", "bearer", "headers", "credential", "authorization"];

/// Names of keys whose values are secrets, however they came there.
const WRITTEN: [&str; 7] = ["password", "passphrase", "token", "secret", "secrets", "bearer", "credential"];
/// Names of keys whose values everybody sees: what `${...}` stands for is no secret there.
const SEEN: [&str; 13] = [
    "nick",
    "alt_nicks",
    "realname",
    "username",
    "account",
    "servers",
    "channels",
    "name",
    "listen",
    "url",
    "host",
    "folder",
    "handle",
];

/// One value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its path: `networks.libera.nick`.
    pub path: String,
    /// The value as it is written: what `${...}` stands for is not looked up.
    pub value: Value,
    /// `file:line:column`.
    pub from: String,
}

/// Every value that a configuration sets, after its levels are merged, in order of their paths. What it does not set has its default.
pub fn shown(path: Option<&Path>, environment: Option<&str>) -> Result<Vec<Shown>, ConfigFault> {
    let (tree, _) = merged(&levels(path, environment)?)?;
    let mut out = Vec::new();
    walk(&tree, "", false, &mut out);
    Ok(out)
}

fn walk(node: &Node, path: &str, secret: bool, out: &mut Vec<Shown>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match &node.what {
        What::Map(map) if !map.is_empty() => {
            for (key, (_, value)) in map {
                let lower = key.to_ascii_lowercase();
                // Names of tokens are shown, tokens are not.
                let hidden = secret || path != "gateway" && SECRET.iter().any(|word| lower.contains(word));
                walk(value, &under(key), hidden, out);
            }
        }
        What::List(list) if !list.is_empty() => {
            for (at, value) in list.iter().enumerate() {
                walk(value, &under(&at.to_string()), secret, out);
            }
        }
        what => out.push(Shown { path: path.to_owned(), value: value(what, secret), from: node.spot.to_string() }),
    }
}

/// Every secret in a configuration that is filled in: what came through `${...}`, and what stands under a name such as `password`.
pub(super) fn secrets(tree: &Node) -> Vec<Secret> {
    let mut out = Vec::new();
    gather(tree, false, false, &mut out);
    out
}

/// `written` is whether the name above says that it is one, `seen` whether everybody sees it.
fn gather(node: &Node, written: bool, seen: bool, out: &mut Vec<Secret>) {
    match &node.what {
        What::Map(map) => {
            for (key, (_, value)) in map {
                let lower = key.to_ascii_lowercase();
                // The key of a channel; that of a certificate is a file.
                let key = lower == "key" && matches!(&value.what, What::Text(text) if !text.contains(['/', '.']));
                let written = key || WRITTEN.iter().any(|word| lower.ends_with(word));
                gather(value, written, SEEN.contains(&lower.as_str()), out);
            }
        }
        What::List(list) => list.iter().for_each(|value| gather(value, written, seen, out)),
        What::Secret(text) if written || !seen => out.push(Secret::new(text.as_str())),
        What::Text(text) if written && !seen => out.push(Secret::new(text.as_str())),
        // A password may stand in an address.
        What::Text(text) | What::Secret(text) => {
            let login = text.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()?.rsplit_once('@'));
            let password = login.and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password);
            out.extend(password.map(Secret::new));
        }
        _ => {}
    }
}

fn value(what: &What, secret: bool) -> Value {
    let hidden = || Value::from("***");
    match what {
        // A reference is no secret, and says where the secret is.
        What::Text(text) if only_reference(text) => Value::from(text.clone()),
        _ if secret => hidden(),
        // A password may stand in an address.
        What::Text(text) if text.contains("://") && text.contains(['@', '?']) => hidden(),
        What::Secret(_) => hidden(),
        What::Text(text) => Value::from(text.clone()),
        What::Bool(one) => Value::from(*one),
        What::Int(one) => Value::from(*one),
        What::Number(one) => Value::from(*one),
        What::Null => Value::Null,
        What::List(_) => Value::Array(Vec::new()),
        What::Map(_) => Value::Object(serde_json::Map::new()),
    }
}

/// Whether a text is one `${...}` and nothing else.
fn only_reference(text: &str) -> bool {
    let inner = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['$', '{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_shown_with_its_place_and_no_secret_is() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "config/global/config.yaml",
                "networks:\n  libera: {servers: [\"h:1\"], nick: chief, password: hunter2, channels: [{name: \"#x\", key: hunter3}]}\ngateway: {tokens: {ci: {token: \"${env:CI}\", flags: D}, ana: {token: hunter4hunter4hunter4}}}\nsources: {databases: {shop: {url: \"postgres://u:hunter5@h/d\"}}}\n",
            ),
            ("config/environments/prod.yaml", "networks: {libera: {nick: master}}\n"),
            ("config/scripts/remind.yaml", "longest: 30d\napi_token: hunter6\n"),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let told = shown(Some(dir.path()), Some("prod")).unwrap();
        let find =
            |path: &str| told.iter().find(|one| one.path == path).unwrap_or_else(|| panic!("no {path} in {told:#?}"));
        let nick = find("networks.libera.nick");
        assert_eq!(nick.value, "master");
        assert!(nick.from.ends_with("environments/prod.yaml:1:27"), "{}", nick.from);
        assert!(find("networks.libera.servers.0").from.ends_with("global/config.yaml:2:22"));
        assert_eq!(find("gateway.tokens.ci.token").value, "${env:CI}");
        assert_eq!(find("gateway.tokens.ci.flags").value, "D");
        assert!(find("scripts.settings.remind.longest").from.ends_with("scripts/remind.yaml:1:10"));
        let all = serde_json::to_string(&told).unwrap();
        assert!(!all.contains("hunter"), "{all}");
    }

    #[test]
    fn every_secret_is_gathered_and_what_everybody_sees_is_none() {
        let text = "networks:\n  a: {servers: [\"h:1\"], nick: \"${file:n}\", password: \"${file:p}\", channels: [{name: \"#x\", key: hunter3}]}\ngateway: {tokens: {ci: {token: hunter4, flags: DS}}}\nsources: {databases: {shop: {url: \"postgres://u:hunter5@h/d\"}}}\nmore: [\"${file:m}\"]\n";
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("n", "chief"), ("p", "hunter1"), ("m", "hunter2")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let tree = Node::parse(&dir.path().join("c.yaml"), text).unwrap();
        let tree = tree.filled(dir.path(), crate::yaml::Secrets::Needed).unwrap();
        let mut found: Vec<String> = secrets(&tree).iter().map(|secret| secret.reveal().to_owned()).collect();
        found.sort();
        assert_eq!(found, ["hunter1", "hunter2", "hunter3", "hunter4", "hunter5"]);
    }
}
