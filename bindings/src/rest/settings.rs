//! What can be configured about what is polled.

use std::collections::BTreeMap;
use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;

/// Something that is polled.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestSettings {
    /// Where it is.
    pub url: String,
    /// GET where nothing is said.
    #[serde(default = "get")]
    pub method: String,
    /// Headers. What is secret in them comes from `${env:...}` or `${file:...}`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// What is sent, where something is.
    pub body: Option<String>,
    /// How we prove who we are.
    #[serde(default)]
    pub auth: AuthSettings,
    /// How often.
    #[serde(default = "minute", with = "humantime_serde")]
    pub every: Duration,
    /// How long an answer may take.
    #[serde(default = "ten_seconds", with = "humantime_serde")]
    pub timeout: Duration,
    /// What is an event.
    #[serde(default)]
    pub on: On,
    /// A JSON pointer to the part that counts.
    pub pointer: Option<String>,
    /// A JMESPath expression over that part: <https://jmespath.org>.
    pub transform: Option<String>,
    /// The fields that tell items of a list apart.
    #[serde(default)]
    pub key: Vec<String>,
    /// Whether what is there at the first look is an event.
    #[serde(default)]
    pub first: bool,
    /// A JSON pointer to the address of the next page; `link` for the header `Link: <...>; rel="next"`. What has several
    /// pages, or may have, is asked for in full each time: that the first is the same says nothing of the others.
    pub next: Option<String>,
    /// Pages that are read at most.
    #[serde(default = "pages")]
    pub pages: usize,
}

/// What is an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Any change of what counts.
    #[default]
    Change,
    /// An item of a list is new, other than it was, or gone.
    Items,
    /// An item of a list is new.
    New,
}

/// How we prove who we are. One of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// A bearer token.
    pub bearer: Option<Secret>,
    /// A user, with `password`.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Secret>,
    /// OAuth2 client credentials: where tokens are given.
    pub token_url: Option<String>,
    /// The client's name.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scope: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn pages() -> usize {
    20
}
