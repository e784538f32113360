//! What can be configured about executors: where Jenkins, registries and clusters are, and who we are there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;

/// The `executors` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Jenkins servers, by a name that stages use: `server: main`.
    pub jenkins: BTreeMap<String, Jenkins>,
    /// Registries of images, by a name that stages use: `registry: hub`.
    pub registries: BTreeMap<String, Registry>,
    /// Kubernetes clusters, by a name that stages use: `context: prod`.
    pub kubernetes: BTreeMap<String, Cluster>,
    /// The Prometheus of a `verify` that names none.
    pub prometheus: Option<Prometheus>,
    /// Forges that know how the tests of a commit went, by a name that checks use: `forge: main`.
    pub forges: BTreeMap<String, Forge>,
}

/// A forge: where commits are kept, with what was found out about them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forge {
    /// Whose API it speaks; Forgejo speaks Gitea's.
    pub kind: ForgeKind,
    /// Its address: `https://api.github.com`, `https://git.example`.
    pub url: String,
    /// A token that may read statuses, shown to this address only.
    #[serde(default)]
    pub token: Option<Secret>,
}

/// Whose API a forge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// GitHub; its address is that of the API.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

/// A Prometheus.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// Its address, with the path it is under, if any.
    pub url: String,
    /// A bearer token, shown to this address only.
    #[serde(default)]
    pub token: Option<Secret>,
}

/// A Jenkins server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jenkins {
    /// Its address, `https://ci.example/`, with the folder it is under, if any.
    pub url: String,
    /// Who we are there.
    pub user: String,
    /// An API token: no crumb is needed.
    #[serde(default)]
    pub token: Option<Secret>,
    /// A password instead; a crumb and its session are fetched.
    #[serde(default)]
    pub password: Option<Secret>,
    /// How long it may be away while a build is waited for, before the stage fails.
    #[serde(default = "patience", with = "humantime_serde")]
    pub patience: Duration,
}

fn patience() -> Duration {
    Duration::from_secs(10 * 60)
}

/// A registry of images.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Host, port and the path that names begin with: `registry.example:5000/team`.
    pub address: String,
    /// Who we are there; nobody where it is left out.
    #[serde(default)]
    pub user: Option<String>,
    /// The password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Whether it speaks HTTP without TLS. Name it only for one on this machine.
    #[serde(default)]
    pub insecure: bool,
}

/// A Kubernetes cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// The kubeconfig; kubectl's own where it is left out.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; the name of this cluster where it is left out.
    pub context: Option<String>,
    /// The namespace, where a stage names none.
    pub namespace: Option<String>,
}
