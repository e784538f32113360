//! What can be configured about the mesh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::kinds::RELAY;
use super::lease::Group;
use super::login::MARK;
use super::name::BotName;
use super::records::BotSettings;

/// The `mesh` block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Our name among the bots, at most 32 letters. Without one there is no mesh.
    pub name: Option<String>,
    /// The name of the IRC network that others are told; what Eggdrop calls `network`.
    pub network: String,
    /// Who is responsible, for those who ask `.who`.
    pub admin: String,
    /// The message of the day for people on other bots.
    pub motd: String,
    /// Where bots may call in clear, to encrypt the line before the password or, where they are `insecure`, not at all.
    pub listen: Option<SocketAddr>,
    /// Where bots may call with TLS: what Eggdrop dials as `+port`.
    pub listen_tls: Option<SocketAddr>,
    /// Our certificate, PEM. Without one, one is made and kept under the data folder.
    pub cert: Option<PathBuf>,
    /// Its key; in the same file if it is left out.
    pub key: Option<PathBuf>,
    /// How long to wait, at the least, before calling again. Doubles up to five minutes.
    #[serde(with = "humantime_serde")]
    pub retry: Duration,
    /// The bots that are known, by name.
    pub bots: BTreeMap<String, BotSettings>,
    /// IRC networks that several of us share, each with the bots that do, the preferred one first, the same on all. Only the one
    /// that holds the lease acts there; the others look on. Needs a restart.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Events of ours that others of us are told of.
    pub relay: Vec<RelaySettings>,
}

/// Which events are told to which bots.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// Their kind, as it is bound.
    pub kind: String,
    /// Their mask, as it is bound.
    pub mask: String,
    /// The bots, which need `trust` for this one.
    pub to: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: None,
            network: String::new(),
            admin: String::new(),
            motd: String::new(),
            listen: None,
            listen_tls: None,
            cert: None,
            key: None,
            retry: Duration::from_secs(10),
            bots: BTreeMap::new(),
            groups: BTreeMap::new(),
            relay: Vec::new(),
        }
    }
}

impl Settings {
    /// What is wrong beyond the grammar: the path of the key and a sentence.
    pub fn faults(&self) -> Vec<(Vec<String>, String)> {
        let mut faults = Vec::new();
        let own = self.name.as_deref().map(str::parse::<BotName>);
        match &own {
            Some(Err(bad)) => faults.push((vec!["name".to_owned()], bad.to_string())),
            None if !self.bots.is_empty()
                || !self.groups.is_empty()
                || self.listen.is_some()
                || self.listen_tls.is_some() =>
            {
                faults.push((vec!["name".to_owned()], "give this bot a name among the bots".to_owned()));
            }
            _ => {}
        }
        for (name, bot) in &self.bots {
            let path = |key: &str| vec!["bots".to_owned(), name.clone(), key.to_owned()];
            match name.parse::<BotName>() {
                Err(bad) => faults.push((path(""), bad.to_string())),
                Ok(other) if own == Some(Ok(other.clone())) => {
                    faults.push((path(""), format!("{other} is this bot itself")));
                }
                Ok(_) => {}
            }
            faults.extend(bot.faults().into_iter().map(|(key, text)| (path(key), text)));
        }
        for network in self.groups.keys() {
            if let Err(fault) = self.group(network) {
                faults.push((vec!["groups".to_owned(), network.clone()], fault));
            }
        }
        for (number, relay) in self.relay.iter().enumerate() {
            let path = |key: &str| vec!["relay".to_owned(), number.to_string(), key.to_owned()];
            if relay.kind == RELAY.name() {
                faults
                    .push((path("kind"), "what another bot has told is not told on, or it would go round".to_owned()));
            }
            let bad = relay.to.iter().filter_map(|name| name.parse::<BotName>().err());
            faults.extend(bad.map(|bad| (path("to"), bad.to_string())));
        }
        if self.key.is_some() && self.cert.is_none() {
            faults.push((vec!["key".to_owned()], "say `cert` too".to_owned()));
        }
        if self.retry < Duration::from_millis(100) {
            faults.push((vec!["retry".to_owned()], "must be at least 100ms".to_owned()));
        }
        faults
    }

    /// What is not wrong, but perhaps not meant.
    pub fn doubts(&self) -> Vec<String> {
        let two = self.groups.iter().filter(|(_, members)| members.len() == 2);
        let doubt = |(network, members): (&String, &Vec<String>)| {
            let (first, second) = (&members[0], &members[1]);
            format!(
                "mesh.groups.{network}: a group of two acts on only while {first} lives: without {first}, {second} may not tell whether it is alone. \
                 Name a third, which may be a witness: a bot of its own machine that is not on {network}"
            )
        };
        let open = |(name, bot): (&String, &BotSettings)| {
            (bot.take.is_some() && bot.insecure).then(|| {
                format!("mesh.bots.{name}: its people are taken over a link that may be read and changed on the way; use its TLS port")
            })
        };
        two.map(doubt).chain(self.bots.iter().filter_map(open)).collect()
    }

    /// Our name, if there is a mesh.
    pub fn own_name(&self) -> Option<BotName> {
        self.name.as_deref().and_then(|name| name.parse().ok())
    }

    /// The group that shares a network.
    pub fn group(&self, network: &str) -> Result<Group, String> {
        let members = self.groups.get(network).into_iter().flatten();
        let members = members.map(|name| name.parse::<BotName>()).collect::<Result<Vec<BotName>, _>>();
        let me = self.own_name().ok_or("give this bot a name among the bots")?;
        Group::new(me, members.map_err(|bad| bad.to_string())?)
    }

    /// The bots by name.
    pub(super) fn known(&self) -> BTreeMap<BotName, BotSettings> {
        let named = self.bots.iter().filter_map(|(name, bot)| Some((name.parse().ok()?, bot.clone())));
        named.collect()
    }

    /// Our version in words, as others are told.
    pub(super) fn about(&self) -> String {
        let network = if self.network.is_empty() { "unknown-net" } else { &self.network };
        format!("{MARK} v{} <{network}>", env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_told_with_its_key() {
        let json =
            r##"{"bots": {"Hub": {"tls": "none"}, "#x": {}}, "listen": "127.0.0.1:0", "retry": "1ms", "key": "k"}"##;
        let settings: Settings = serde_json::from_str(json).unwrap();
        let keys: Vec<String> = settings.faults().into_iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(keys, ["name", "bots.#x.", "bots.Hub.tls", "key", "retry"]);
        let own: Settings = serde_json::from_str(r#"{"name": "Chief", "bots": {"chief": {}}}"#).unwrap();
        assert_eq!(own.faults().len(), 1);
        let both = r#"{"name": "Chief", "bots": {"Hub": {"attributes": ["trust"], "insecure": true}}}"#;
        let both: Settings = serde_json::from_str(both).unwrap();
        assert!(both.faults()[0].1.contains("take `trust` or `insecure` out"), "{:?}", both.faults());
        assert!(serde_json::from_str::<Settings>(r#"{"hubs": []}"#).is_err());
        let groups = r#"{"name": "Chief", "groups": {"a": ["Chief", "Spare"], "b": ["Spare"], "c": ["x y", "Chief"]}}"#;
        let groups: Settings = serde_json::from_str(groups).unwrap();
        let keys: Vec<String> = groups.faults().into_iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(keys, ["groups.b", "groups.c"]);
    }

    #[test]
    fn of_a_group_of_two_it_is_said_what_it_cannot_and_what_would_help() {
        let json = r#"{"name": "Chief", "groups": {"one": ["Chief", "Spare"], "two": ["Chief", "Spare", "Witness"]}}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert!(settings.faults().is_empty());
        let doubts = settings.doubts();
        assert!(doubts.len() == 1 && doubts[0].starts_with("mesh.groups.one:"), "{doubts:?}");
        assert!(doubts[0].contains("without Chief, Spare") && doubts[0].contains("witness"), "{doubts:?}");
    }
}
