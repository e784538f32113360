//! What can be configured about the gateway.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use masterchief_bindings::webhook::RouteSettings;
use masterchief_contract::Secret;
use serde::Deserialize;

use super::runs::TokenSettings;
use crate::users::FlagSet;

/// Shorter tokens are guessed.
const TOKEN_MIN: usize = 16;
/// Who acts for the bot itself, or at its machine.
const RESERVED: [&str; 3] = ["bot", "console", "*"];

/// The `gateway` block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it listens; nowhere if it is left out. Port 0 is any free one.
    pub listen: Option<SocketAddr>,
    /// How people reach it, such as `https://bot.example`: what stands in front of links to it. Without it, where it listens.
    pub url: Option<String>,
    /// Proxies in front of it: of their requests `X-Forwarded-For` says who asks. What others say there counts for nothing.
    pub behind: Vec<IpAddr>,
    /// The routes, by the name under `/hooks/`.
    pub routes: BTreeMap<String, RouteSettings>,
    /// Programs that may ask for runs of pipelines, by a name that the records show.
    pub tokens: BTreeMap<String, TokenSettings>,
    /// Posts that are read and written at once, of all routes; more are told to come again.
    pub concurrency: usize,
    /// What `/metrics` wants to see as `Authorization: Bearer`; without it whoever reaches the port may read it.
    pub metrics_token: Option<Secret>,
    /// How long a sender may take for a body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: None,
            url: None,
            behind: Vec::new(),
            routes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            concurrency: 1024,
            metrics_token: None,
            body_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// What is wrong beyond the grammar: the path of the key and a sentence.
    pub fn faults(&self) -> Vec<(Vec<String>, String)> {
        let mut faults = Vec::new();
        if self.url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            faults.push((vec!["url".to_owned()], "must begin with https:// or http://".to_owned()));
        }
        for (name, route) in &self.routes {
            let path = |key: &str| vec!["routes".to_owned(), name.clone(), key.to_owned()];
            let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(letters) {
                faults.push((path(""), format!("{name:?} cannot name a route: letters, digits, - _ and . only")));
            }
            faults.extend(route.faults(name).into_iter().map(|(key, message)| (path(key), message)));
        }
        for (name, token) in &self.tokens {
            let path = |key: &str| vec!["tokens".to_owned(), name.clone(), key.to_owned()];
            if token.token.reveal().len() < TOKEN_MIN {
                faults.push((
                    path("token"),
                    format!("a token has at least {TOKEN_MIN} characters; make one with openssl rand -hex 32"),
                ));
            }
            let called = token.handle.as_deref().unwrap_or(name);
            if RESERVED.iter().any(|own| own.eq_ignore_ascii_case(called)) {
                let text = format!("{name:?} is what the bot calls itself; name the token, or its person, otherwise");
                faults.push((path(""), text));
            }
            if let Err(fault) = FlagSet::parse(&token.flags) {
                faults.push((path("flags"), fault.to_string()));
            }
        }
        if self.metrics_token.as_ref().is_some_and(|token| token.reveal().len() < TOKEN_MIN) {
            let text = format!("a token has at least {TOKEN_MIN} characters; make one with openssl rand -hex 32");
            faults.push((vec!["metrics_token".to_owned()], text));
        }
        if self.concurrency == 0 {
            faults.push((vec!["concurrency".to_owned()], "must be at least 1".to_owned()));
        }
        faults
    }
}
