//! A table of who may do what where: rows of YAML, read strictly.

use std::path::Path;

use masterchief_contract::split_place;
use serde::Deserialize;

use crate::yaml::{self, ConfigFault, Node, Spot, What};

/// Rows of one table.
const ROWS_MAX: usize = 10_000;

/// A table, in the order it is written.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its rows.
    pub rows: Vec<Row>,
}

/// One row: somebody somewhere, and what they may or may not say there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub spot: Spot,
    /// Who.
    pub who: Person,
    /// The network.
    pub network: String,
    /// The channel; in private without.
    pub channel: Option<String>,
    /// As if they had said `!sudo`.
    pub elevated: bool,
    /// What they say, and whether it is to be done.
    pub words: Vec<(String, bool)>,
    /// Why it is so, for who breaks it.
    pub why: Option<String>,
}

/// Somebody, by what is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Person {
    /// Nothing.
    Stranger,
    /// The services account.
    Account(String),
    /// A login on the partyline.
    Login(String),
    /// A hostmask alone: nick, user, host.
    Host(String, String, String),
}

/// A row as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    who: String,
    #[serde(rename = "in")]
    place: String,
    #[serde(default)]
    may: Words,
    #[serde(default)]
    may_not: Words,
    #[serde(default)]
    elevated: bool,
    #[serde(default)]
    why: Option<String>,
}

/// One text, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Words {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Vec<String> {
        match words {
            Words::None => Vec::new(),
            Words::One(word) => vec![word],
            Words::Several(words) => words,
        }
    }
}

impl Table {
    /// Reads a file. All faults that can be found at once are given.
    pub fn read(path: &Path) -> Result<Table, Vec<ConfigFault>> {
        let text = std::fs::read_to_string(path)
            .map_err(|fault| vec![ConfigFault { spot: None, message: format!("{}: {fault}", path.display()) }])?;
        Table::parse(path, &text)
    }

    /// Reads a text; `file` is its name in faults.
    pub fn parse(file: &Path, text: &str) -> Result<Table, Vec<ConfigFault>> {
        let tree = Node::parse(file, text).map_err(|fault| vec![fault])?;
        let What::Map(map) = &tree.what else {
            return Err(vec![ConfigFault::at(&tree.spot, "this is no policy: write `rows:` and rows below it")]);
        };
        let (mut table, mut faults) = (Table::default(), Vec::new());
        for (key, (spot, node)) in map {
            match (key.as_str(), &node.what) {
                ("rows", What::List(rows)) if rows.len() > ROWS_MAX => {
                    faults.push(ConfigFault::at(spot, format!("these are more than {ROWS_MAX} rows")));
                }
                ("rows", What::List(rows)) => {
                    for row in rows {
                        match Row::read(row) {
                            Ok(row) => table.rows.push(row),
                            Err(fault) => faults.push(fault),
                        }
                    }
                }
                ("rows", _) => faults.push(ConfigFault::at(spot, "rows: write `- {who: …, in: …, may: …}` below it")),
                _ => faults.push(ConfigFault::at(spot, format!("there is no key {key:?}; did you mean \"rows\"?"))),
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }
}

impl Row {
    fn read(node: &Node) -> Result<Row, ConfigFault> {
        let written: Written = yaml::read(node)?;
        let fault = |key: &str, message: String| ConfigFault::at(&node.spot_of(&[key]), message);
        let (network, channel) = match split_place(&written.place) {
            ("", network) => (network, None),
            (network, channel) => (network, Some(channel.to_owned())),
        };
        if network.starts_with(['#', '&', '+', '!']) || network.is_empty() || written.place.contains(' ') {
            let message = format!("{:?} is no place: write NETWORK/#channel, or NETWORK for in private", written.place);
            return Err(fault("in", message));
        }
        let who = person(&written.who, network).map_err(|message| fault("who", message))?;
        let (may, may_not): (Vec<String>, Vec<String>) = (written.may.into(), written.may_not.into());
        let words: Vec<(String, bool)> =
            may.into_iter().map(|words| (words, true)).chain(may_not.into_iter().map(|words| (words, false))).collect();
        if words.is_empty() {
            return Err(ConfigFault::at(&node.spot, "this row says nothing: add `may:` or `may_not:` with words"));
        }
        if let Some((bad, may)) = words.iter().find(|(words, _)| words.trim().is_empty() || words.starts_with(' ')) {
            let key = if *may { "may" } else { "may_not" };
            return Err(fault(
                key,
                format!("{bad:?} is nothing that anybody says: write a command, as in \"!reload\""),
            ));
        }
        let network = network.to_owned();
        Ok(Row { spot: node.spot.clone(), who, network, channel, elevated: written.elevated, words, why: written.why })
    }
}

/// `stranger`, `login:HANDLE`, `host:NICK!USER@HOST` or `NETWORK/ACCOUNT`.
fn person(text: &str, network: &str) -> Result<Person, String> {
    if text == "stranger" {
        return Ok(Person::Stranger);
    }
    if let Some(handle) = text.strip_prefix("login:").filter(|handle| !handle.is_empty()) {
        return Ok(Person::Login(handle.to_owned()));
    }
    if let Some(mask) = text.strip_prefix("host:") {
        let parts = mask.split_once('!').and_then(|(nick, rest)| Some((nick, rest.split_once('@')?)));
        return match parts {
            Some((nick, (user, host))) if ![nick, user, host].contains(&"") => {
                Ok(Person::Host(nick.to_owned(), user.to_owned(), host.to_owned()))
            }
            _ => Err(format!("{text:?} is no hostmask: write host:nick!user@host")),
        };
    }
    match text.split_once('/') {
        Some((home, account)) if !home.is_empty() && !account.is_empty() => {
            if home != network {
                return Err(format!("an account of {home} is nobody's on {network}: name one of {network}"));
            }
            Ok(Person::Account(account.to_owned()))
        }
        _ => Err(format!("{text:?} is nobody: write NETWORK/ACCOUNT, login:HANDLE, host:nick!user@host or stranger")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = Table::parse(Path::new("policy.yaml"), text).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_are_read_with_their_places() {
        let text = "rows:\n  - {who: libera/bob, in: \"libera/#ops\", may: \"!a\", may_not: [\"!b\", \"!c\"]}\n  - {who: stranger, in: libera, may_not: .die, why: nobody knows them}\n";
        let table = Table::parse(Path::new("policy.yaml"), text).unwrap();
        assert_eq!(table.rows[0].who, Person::Account("bob".to_owned()));
        assert_eq!(table.rows[0].words, [("!a".into(), true), ("!b".into(), false), ("!c".into(), false)]);
        assert_eq!((table.rows[1].channel.clone(), table.rows[1].spot.line), (None, 3));
        assert!(Table::parse(Path::new("policy.yaml"), "# nothing yet\n").unwrap().rows.is_empty());
    }

    #[test]
    fn every_fault_is_told_at_once_with_line_and_column() {
        let text = "rows:\n  - {who: bob, in: libera, may: x}\n  - {who: oftc/bob, in: libera, may: x}\n  - {who: stranger, in: \"#ops\", may: x}\n  - {who: stranger, in: libera}\n  - {who: stranger, in: libera, mai: x}\n  - {who: \"host:a@b\", in: libera, may: x}\n  - {who: stranger, in: libera, may_not: \"\"}\n";
        let told = faults(text);
        let ends = [
            ("policy.yaml:2:", "is nobody: write NETWORK/ACCOUNT"),
            ("policy.yaml:3:", "an account of oftc is nobody's on libera"),
            ("policy.yaml:4:", "is no place"),
            ("policy.yaml:5:", "says nothing"),
            ("policy.yaml:6:", "did you mean \"may\"?"),
            ("policy.yaml:7:", "is no hostmask"),
            ("policy.yaml:8:", "nothing that anybody says"),
        ];
        assert_eq!(told.len(), ends.len(), "{told:#?}");
        for (fault, (place, words)) in told.iter().zip(ends) {
            assert!(fault.starts_with(place) && fault.contains(words), "{fault}");
        }
        assert!(faults("row: []\n")[0].contains("did you mean \"rows\""));
        assert!(faults("- x\n")[0].starts_with("policy.yaml:1:"));
    }
}
