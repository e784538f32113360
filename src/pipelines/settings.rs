//! What can be configured about pipelines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveTime;
use masterchief_contract::Secret;
use serde::Deserialize;

use super::pools::Sizes;
use crate::executors::is_address;
use crate::store::runs::{Records, kept_apart};
use crate::yaml::SPARE;

/// The `pipelines` block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder with the files; `config/pipelines` where nothing is said.
    pub folder: PathBuf,
    /// Slots of pools, by name. A stage that names none takes one of `default`.
    pub pools: BTreeMap<String, u64>,
    /// Processors that stages may take in all.
    pub cpu: Option<f64>,
    /// Mebibytes of memory that stages may take in all.
    pub memory_mib: Option<u64>,
    /// Mebibytes of disk that stages may take in all.
    pub disk_mib: Option<u64>,
    /// Where people find runs on the web: `https://mc.example`. Lines then end with a link.
    pub link: Option<String>,
    /// How long a requester has to say yes.
    #[serde(with = "humantime_serde")]
    pub confirm: Duration,
    /// How long somebody has to decide about a stage that is held.
    #[serde(with = "humantime_serde")]
    pub decide: Duration,
    /// How long a run that somebody paused stands still before it is aborted.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// When it is told what ran unsaid since the day before, in UTC: `08:00`, or `never`.
    pub digest: String,
    /// Where what belongs to no run is said: the end of a lock, a window that opens. `libera/#ops`.
    pub channels: Vec<String>,
    /// Runs and their logs are kept so long.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Where they are recorded: in a file of the data folder, unless it names a server. Read once, when the bot starts.
    pub records: Records,
    /// What is kept for another time than runs are: `files` (logs and artifacts), `events`, `notices`, `hourly` and `daily` figures,
    /// `images`. Figures and images outlive their runs, for ever where nothing is said.
    pub retention: BTreeMap<String, humantime_serde::Serde<Duration>>,
    /// Where lines about runs are posted, by a name that pipelines announce to: `hook:mattermost`.
    pub hooks: BTreeMap<String, Hook>,
    /// Who gets lines about runs as mail, by a name that pipelines announce to: `mail:oncall`.
    pub mail: Mails,
    /// Groups of people for approvals: `payments: [ana, lee]` is `@payments`. A name that is not here is a role.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// A place outside of IRC: each line is posted there as `{"text": …}`, which Mattermost, Slack and others take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its address; often it is a secret itself.
    pub url: Secret,
    /// With it each post has `X-Masterchief-Signature: sha256=…`, the HMAC of its body.
    #[serde(default)]
    pub secret: Option<Secret>,
}

/// Mail about runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mails {
    /// What takes it as sendmail does: `-i -f FROM -- TO...`, and the message on standard input.
    pub program: PathBuf,
    /// Whose it is: an address.
    pub from: String,
    /// Addresses, by a name.
    pub lists: BTreeMap<String, Vec<String>>,
}

impl Default for Mails {
    fn default() -> Mails {
        Mails {
            program: PathBuf::from("/usr/sbin/sendmail"),
            from: "masterchief@localhost".to_owned(),
            lists: BTreeMap::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            folder: PathBuf::from("config/pipelines"),
            pools: BTreeMap::new(),
            cpu: None,
            memory_mib: None,
            disk_mib: None,
            link: None,
            confirm: Duration::from_secs(120),
            decide: Duration::from_secs(600),
            pause: Duration::from_secs(3600),
            digest: "08:00".to_owned(),
            channels: Vec::new(),
            keep: Duration::from_secs(90 * 86400),
            records: Records::default(),
            retention: BTreeMap::new(),
            hooks: BTreeMap::new(),
            mail: Mails::default(),
            groups: BTreeMap::new(),
        }
    }
}

/// Runs, and what is kept apart from them, are kept so long at least: the engine knows them so long.
const KEEP_LEAST: Duration = Duration::from_secs(86_400);
/// Slots of `default` where nothing is said.
const DEFAULT_SLOTS: u64 = 8;

impl Settings {
    /// What stages share.
    pub(super) fn sizes(&self) -> Sizes {
        let mut pools = self.pools.clone();
        pools.entry("default".to_owned()).or_insert(DEFAULT_SLOTS);
        Sizes {
            pools,
            other: 1,
            cpu: self.cpu.map(|cpu| (cpu * 1000.0) as u64),
            memory: self.memory_mib.map(|mib| mib << 20),
            disk: self.disk_mib.map(|mib| mib << 20),
        }
    }

    /// When it is told what ran unsaid, if it is.
    pub(super) fn digest(&self) -> Option<NaiveTime> {
        NaiveTime::parse_from_str(&self.digest, "%H:%M").ok()
    }

    /// What is wrong beyond the grammar: the key and a sentence.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.pools.values().any(|slots| *slots == 0) {
            faults.push(("pools", "a pool without slots would never let anybody begin".to_owned()));
        }
        if self.cpu.is_some_and(|cpu| !cpu.is_finite() || cpu <= 0.0) {
            faults.push(("cpu", "must be more than nothing".to_owned()));
        }
        if self.link.as_ref().is_some_and(|link| !link.starts_with("http")) {
            faults.push(("link", "is the address of a web page: https://…".to_owned()));
        }
        if self.hooks.values().any(|hook| !hook.url.reveal().starts_with("http")) {
            faults.push(("hooks", "has addresses that begin with https://".to_owned()));
        }
        for (kind, time) in &self.retention {
            if !kept_apart().any(|known| known == kind) {
                let known: Vec<&str> = kept_apart().collect();
                faults.push(("retention", format!("{kind:?} is none of {}", known.join(", "))));
            } else if **time < KEEP_LEAST {
                faults
                    .push(("retention", format!("{kind}: a run may be tried again for a day, so keep it 1d at least")));
            }
        }
        let spare = self.records.url.as_ref().is_some_and(|url| url.reveal() == SPARE);
        faults.extend(self.records.fault().filter(|_| !spare).map(|fault| ("records", fault)));
        let addresses = self.mail.lists.values().flatten().chain([&self.mail.from]);
        if let Some(bad) = addresses.into_iter().find(|address| !is_address(address)) {
            faults.push(("mail", format!("{bad:?} is no address; write name@host")));
        }
        if self.mail.lists.values().any(Vec::is_empty) {
            faults.push(("mail", "a list without addresses would never reach anybody".to_owned()));
        }
        if self.keep < KEEP_LEAST {
            faults.push(("keep", "is a day at least (24h): what ran today may have to be undone".to_owned()));
        }
        if self.digest != "never" && self.digest().is_none() {
            faults.push(("digest", "is a time of day in UTC such as 08:00, or never".to_owned()));
        }
        faults
    }
}
