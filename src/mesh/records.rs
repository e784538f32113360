//! What is known of bots: how to reach them, what they may, and what was learned when they first linked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use masterchief_contract::Secret;
use serde::{Deserialize, Serialize};

use super::facts::Letters;
use super::gift::Take;
use super::name::BotName;
use super::trust::Trust;
use crate::irc::Fingerprint;
use crate::store::{BotRow, Store, StoreError};
use crate::users::EggBot;

/// How one bot is linked: a block under `mesh.bots`, or what `.+bot` writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BotSettings {
    /// Where it listens, `host:port`, tried in order. Without one only it can call us.
    pub addresses: Vec<BotAddr>,
    /// What it is to us: `hub` (link with it and stay linked), `alternate` (link with it while no hub can be reached), `leaf`
    /// (may bring no bots), `reject` (turned away), `isolate` (no partyline), `trust` (what it says about who its people are
    /// counts here).
    pub attributes: BTreeSet<Attribute>,
    /// How the link is encrypted.
    pub tls: Encryption,
    /// Allows what can be read on the way: `tls: after` and `tls: none`, and calls of this bot in clear.
    pub insecure: bool,
    /// Lets this bot link for the first time without a password: one is made then. Off again once that has happened.
    pub first_link: bool,
    /// Shares people with this bot, another MasterChief, both ways: who they are and these letters, no more than both name; `-` for
    /// no letters. Whoever holds here a letter or a role beyond them is not changed by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// As the attribute `trust`, but of people who hold no more than these letters here, and no role: what it says about who others
    /// are does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// Takes the user file of this bot, an Eggdrop, when it offers it: who is in it and these letters, with the network before them that
    /// its channels and accounts are of, as in `libera/fov`; `-` for no letters. It only ever adds: whoever is here already and did not
    /// come with it is left alone, and so is whoever holds a letter or a role beyond these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take: Option<String>,
    /// The services accounts under which it is on our networks, as in `libera/spare`: whoever is logged in so is given op in channels
    /// where we are operator, and invited into them, when this bot needs it; and no floods are counted of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// The password of the link. Without one the first link makes one.
    #[serde(skip_serializing)]
    pub password: Option<Secret>,
    /// SHA-256 of its certificate. Without any, the first one that is seen is remembered and no other is taken.
    #[serde(skip_serializing)]
    pub fingerprints: Vec<Fingerprint>,
}

/// How a link that we make is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// From the first byte: what Eggdrop writes `+port`.
    #[default]
    Port,
    /// Before the password: what Eggdrop 1.8 offers on a plain port.
    Starttls,
    /// After the link is up, for Eggdrop 1.9 and later on a plain port. The login can be read.
    After,
    /// Never.
    None,
}

/// What a bot is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attribute {
    /// Linked with always.
    Hub,
    /// Linked with while there is no hub.
    Alternate,
    /// May bring no bots.
    Leaf,
    /// Turned away.
    Reject,
    /// Without partyline.
    Isolate,
    /// What it says about who its people are counts.
    Trust,
}

/// The same, each by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "told at Attribute")]
pub struct Attrs {
    pub hub: bool,
    pub alternate: bool,
    pub leaf: bool,
    pub reject: bool,
    pub isolate: bool,
    pub trust: Trust,
    pub take: bool,
}

impl From<&BTreeSet<Attribute>> for Attrs {
    fn from(set: &BTreeSet<Attribute>) -> Attrs {
        Attrs {
            hub: set.contains(&Attribute::Hub),
            alternate: set.contains(&Attribute::Alternate),
            leaf: set.contains(&Attribute::Leaf),
            reject: set.contains(&Attribute::Reject),
            isolate: set.contains(&Attribute::Isolate),
            trust: if set.contains(&Attribute::Trust) { Trust::Everybody } else { Trust::Nobody },
            take: false,
        }
    }
}

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BotAddr {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for BotAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<BotAddr, String> {
        let fault =
            || format!("{text:?} is no address: write host:port, or [::1]:port; for a TLS port leave `tls: port`");
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(fault());
        }
        Ok(BotAddr { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for BotAddr {
    type Error = String;

    fn try_from(text: String) -> Result<BotAddr, String> {
        text.parse()
    }
}

impl From<BotAddr> for String {
    fn from(addr: BotAddr) -> String {
        addr.to_string()
    }
}

impl fmt::Display for BotAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl BotSettings {
    /// Its accounts on a network.
    pub fn accounts_on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a str> {
        let of = move |account: &'a String| account.split_once('/').filter(|(of, _)| *of == network);
        self.accounts.iter().filter_map(of).map(|(_, account)| account)
    }

    /// What it is to us.
    pub fn attrs(&self) -> Attrs {
        let attrs = Attrs::from(&self.attributes);
        // What cannot be read is a fault of the settings, and nobody's trust.
        let of = |letters: &String| Letters::parse(letters).map_or(Trust::Nobody, Trust::Below);
        Attrs { trust: self.trust.as_ref().map_or(attrs.trust, of), take: self.takes().is_some(), ..attrs }
    }

    /// What is taken of its user file.
    pub fn takes(&self) -> Option<Take> {
        self.take.as_deref().and_then(|text| Take::parse(text).ok())
    }

    /// Of a bot that an Eggdrop knows.
    pub fn of_eggdrop(bot: &EggBot) -> BotSettings {
        let mut settings = BotSettings::default();
        if let Some((host, port, tls)) = &bot.address {
            settings.addresses.push(BotAddr { host: host.clone(), port: *port });
            // An Eggdrop since 1.8 offers STARTTLS on a plain port.
            settings.tls = if *tls { Encryption::Port } else { Encryption::Starttls };
        }
        // What keeps a bot away is taken, what makes us call it is not.
        let kept = [('l', Attribute::Leaf), ('r', Attribute::Reject), ('i', Attribute::Isolate)];
        settings.attributes.extend(kept.iter().filter(|(letter, _)| bot.flags.contains(*letter)).map(|(_, is)| *is));
        settings
    }

    /// What cannot be, with what to do about it.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if matches!(self.tls, Encryption::After | Encryption::None) && !self.insecure {
            let text =
                "this can be read on the way: say `insecure: true` beside it if that may be, else use its TLS port";
            faults.push(("tls", text.to_owned()));
        }
        let attrs = self.attrs();
        if attrs.trust.is_any() && self.insecure {
            let text = "what it says about its people counts, so nobody may change it on the way: take `trust` or `insecure` out";
            faults.push(("attributes", text.to_owned()));
        }
        if (attrs.hub || attrs.alternate) && self.addresses.is_empty() {
            faults.push(("addresses", "to link with it, say where it listens".to_owned()));
        }
        if (attrs.hub || attrs.alternate) && (attrs.reject || attrs.leaf) {
            faults.push(("attributes", "a hub or an alternate is neither leaf nor rejected".to_owned()));
        }
        if self.password.as_ref().is_some_and(|password| {
            password.reveal().is_empty()
                || password.reveal().len() > 120
                || password.reveal().contains(char::is_whitespace)
        }) {
            faults.push(("password", "1 to 120 letters without blanks".to_owned()));
        }
        let named =
            |account: &&String| account.split_once('/').is_some_and(|(of, name)| !of.is_empty() && !name.is_empty());
        if let Some(bad) = self.accounts.iter().find(|account| !named(account) || account.contains(char::is_whitespace))
        {
            faults.push(("accounts", format!("{bad:?} is no account: write network/account, as in libera/spare")));
        }
        for (key, letters) in [("share", &self.share), ("trust", &self.trust)] {
            if let Some(Err(fault)) = letters.as_deref().map(Letters::parse) {
                faults.push((key, fault));
            }
        }
        if let Some(Err(fault)) = self.take.as_deref().map(Take::parse) {
            faults.push(("take", fault));
        }
        faults
    }
}

/// A bot's record: what is set, and what was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: BotName,
    /// What is set.
    pub settings: BotSettings,
    /// Whether it stands in the configuration, which is not changed from here.
    pub configured: bool,
    /// The password that was agreed on.
    pub password: Option<Secret>,
    /// The certificate that was seen first.
    pub pin: Option<Fingerprint>,
}

impl Record {
    /// The password of the link: what is set, else what was learned.
    pub fn link_password(&self) -> Option<Secret> {
        self.settings.password.clone().or_else(|| self.password.clone())
    }

    /// The certificates that are taken; none means that the next is remembered.
    pub fn pins(&self) -> Vec<Fingerprint> {
        match self.settings.fingerprints.is_empty() {
            true => self.pin.into_iter().collect(),
            false => self.settings.fingerprints.clone(),
        }
    }
}

/// All records, in memory and in the store.
#[derive(Debug)]
pub(super) struct Records {
    store: Store,
    rows: BTreeMap<BotName, Record>,
}

/// A record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is the configuration's.
    #[error("{0} stands in the configuration under mesh.bots; change it there")]
    Configured(BotName),
    /// It is to be a new one, and is none.
    #[error("{0} is known here already")]
    Known(BotName),
    /// Nobody of this name.
    #[error("there is no bot {0} here")]
    Unknown(BotName),
    /// It contradicts itself.
    #[error("{0}")]
    Wrong(String),
}

impl Records {
    /// Reads the store, with the configuration laid over it.
    pub(super) async fn open(store: Store, configured: &BTreeMap<BotName, BotSettings>) -> Result<Records, StoreError> {
        let mut records = Records { store, rows: BTreeMap::new() };
        for row in records.store.bots().await? {
            // A name or settings of another version are left alone in the store.
            let Ok(name) = row.handle.parse::<BotName>() else { continue };
            let settings = row.settings.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let record = Record {
                name: name.clone(),
                settings: settings.unwrap_or_default(),
                configured: false,
                password: row.password.map(Secret::new),
                pin: row.fingerprint.and_then(|text| text.parse().ok()),
            };
            records.rows.insert(name, record);
        }
        records.configure(configured);
        Ok(records)
    }

    /// Lays another configuration over what is stored. A bot that is no longer in it keeps what was learned, and no more.
    pub(super) fn configure(&mut self, configured: &BTreeMap<BotName, BotSettings>) {
        for record in self.rows.values_mut().filter(|record| record.configured) {
            record.configured = false;
            record.settings = BotSettings::default();
        }
        for (name, settings) in configured {
            let blank = || Record {
                name: name.clone(),
                settings: BotSettings::default(),
                configured: true,
                password: None,
                pin: None,
            };
            let record = self.rows.entry(name.clone()).or_insert_with(blank);
            record.settings = settings.clone();
            record.configured = true;
        }
    }

    /// One of them.
    pub(super) fn get(&self, name: &BotName) -> Option<&Record> {
        self.rows.get(name)
    }

    /// All.
    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.rows.values()
    }

    /// What each is to us.
    pub(super) fn attrs(&self) -> BTreeMap<BotName, Attrs> {
        self.rows.iter().map(|(name, record)| (name.clone(), record.settings.attrs())).collect()
    }

    /// Writes what is set of a bot that is not the configuration's.
    pub(super) async fn put(&mut self, name: &BotName, settings: BotSettings) -> Result<(), RecordFault> {
        if let Some((key, text)) = settings.faults().into_iter().next() {
            return Err(RecordFault::Wrong(format!("{key}: {text}")));
        }
        let before = self.rows.get(name);
        // The row in the store has the name as it was written first.
        let name = before.map_or(name, |record| &record.name);
        if before.is_some_and(|record| record.configured) {
            return Err(RecordFault::Configured(name.clone()));
        }
        let (password, pin) = before.map(|record| (record.password.clone(), record.pin)).unwrap_or_default();
        // What is given with the settings is kept as if it had been learned: the settings in the store hold no secrets.
        let (password, pin) = (settings.password.clone().or(password), settings.fingerprints.first().copied().or(pin));
        let settings = BotSettings { password: None, fingerprints: Vec::new(), ..settings };
        let record = Record { name: name.clone(), settings, configured: false, password, pin };
        self.write(record).await
    }

    /// Writes what is set of a bot of which nothing is known yet.
    pub(super) async fn add(&mut self, name: &BotName, settings: BotSettings) -> Result<(), RecordFault> {
        match self.rows.get(name) {
            Some(record) => Err(RecordFault::Known(record.name.clone())),
            None => self.put(name, settings).await,
        }
    }

    /// Changes what was learned.
    pub(super) async fn learn(
        &mut self,
        name: &BotName,
        password: Option<Secret>,
        pin: Option<Fingerprint>,
    ) -> Result<(), RecordFault> {
        let Some(record) = self.rows.get(name) else { return Err(RecordFault::Unknown(name.clone())) };
        let mut record = record.clone();
        if password.is_some() {
            record.password = password;
            record.settings.first_link &= record.configured;
        }
        record.pin = pin.or(record.pin);
        self.write(record).await
    }

    /// Forgets what was learned, so that the next link is a first one.
    pub(super) async fn forget(&mut self, name: &BotName) -> Result<(), RecordFault> {
        let Some(record) = self.rows.get(name) else { return Err(RecordFault::Unknown(name.clone())) };
        let record = Record { password: None, pin: None, ..record.clone() };
        self.write(record).await
    }

    /// Removes a bot that is not the configuration's.
    pub(super) async fn remove(&mut self, name: &BotName) -> Result<(), RecordFault> {
        match self.rows.get(name) {
            None => return Err(RecordFault::Unknown(name.clone())),
            Some(record) if record.configured => return Err(RecordFault::Configured(name.clone())),
            Some(record) => self.store.remove_bot(record.name.as_str()).await?,
        };
        self.rows.remove(name);
        Ok(())
    }

    async fn write(&mut self, record: Record) -> Result<(), RecordFault> {
        let settings = (!record.configured).then(|| serde_json::to_string(&record.settings)).transpose();
        let row = BotRow {
            handle: record.name.as_str().to_owned(),
            settings: settings.map_err(|fault| RecordFault::Wrong(fault.to_string()))?,
            password: record.password.as_ref().map(|password| password.reveal().to_owned()),
            fingerprint: record.pin.map(|pin| pin.to_string()),
        };
        self.store.put_bot(&row).await?;
        self.rows.insert(record.name.clone(), record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BotName {
        text.parse().unwrap()
    }

    #[test]
    fn what_can_be_read_on_the_way_has_to_be_named_so() {
        let read = |json: &str| serde_json::from_str::<BotSettings>(json).unwrap().faults();
        assert_eq!(read(r#"{"addresses": ["h:1"], "tls": "none"}"#).len(), 1);
        assert_eq!(read(r#"{"addresses": ["h:1"], "tls": "none", "insecure": true}"#), []);
        assert_eq!(read(r#"{"attributes": ["hub"]}"#)[0].0, "addresses");
        assert_eq!(read(r#"{"addresses": ["h:1"], "attributes": ["hub", "reject"]}"#)[0].0, "attributes");
        assert_eq!(read(r#"{"share": "o1"}"#)[0].0, "share");
        assert_eq!(read(r#"{"trust": "o1"}"#)[0].0, "trust");
        assert_eq!(read(r#"{"take": "libera/o1"}"#)[0].0, "take");
        assert_eq!(read(r#"{"accounts": ["libera/spare", "spare"]}"#)[0].0, "accounts");
        assert_eq!(read(r#"{"trust": "D", "insecure": true}"#)[0].0, "attributes");
        for bad in ["h", "h:0", ":1", "h:x", "a b:1"] {
            assert!(bad.parse::<BotAddr>().is_err(), "{bad}");
        }
        assert_eq!("[::1]:3333".parse::<BotAddr>().unwrap().to_string(), "[::1]:3333");
    }

    #[tokio::test]
    async fn what_was_learned_stays_and_secrets_are_not_among_the_settings() {
        let store = Store::memory();
        let configured = BTreeMap::from([(name("Hub"), BotSettings::default())]);
        let mut records = Records::open(store.clone(), &configured).await.unwrap();
        assert!(matches!(records.put(&name("hub"), BotSettings::default()).await, Err(RecordFault::Configured(_))));
        let own = BotSettings { first_link: true, ..BotSettings::default() };
        records.put(&name("Leaf"), own).await.unwrap();
        let pin = Fingerprint([7; 32]);
        records.learn(&name("Leaf"), Some(Secret::new("geheim")), Some(pin)).await.unwrap();
        records.learn(&name("HUB"), Some(Secret::new("auch")), None).await.unwrap();
        let rows = store.bots().await.unwrap();
        assert!(rows.iter().all(|row| !row.settings.clone().unwrap_or_default().contains("geheim")));
        let again = Records::open(store, &BTreeMap::new()).await.unwrap();
        let leaf = again.get(&name("leaf")).unwrap();
        assert_eq!((leaf.link_password(), leaf.pins()), (Some(Secret::new("geheim")), vec![pin]));
        assert!(!leaf.settings.first_link, "the first link was made");
        assert_eq!(again.get(&name("Hub")).unwrap().link_password(), Some(Secret::new("auch")));
        records.forget(&name("leaf")).await.unwrap();
        assert_eq!(records.get(&name("leaf")).unwrap().link_password(), None);
        let other: BotSettings = serde_json::from_str(r#"{"addresses": ["other.example:1"]}"#).unwrap();
        let before = (leaf.settings.clone(), leaf.pin);
        for known in ["LEAF", "hub"] {
            assert!(matches!(records.add(&name(known), other.clone()).await, Err(RecordFault::Known(_))));
        }
        let leaf = records.get(&name("leaf")).unwrap();
        assert_eq!((leaf.settings.clone(), leaf.name.as_str()), (before.0, "Leaf"), "what is there is never replaced");
        records.add(&name("Spare"), other.clone()).await.unwrap();
        assert_eq!(records.get(&name("spare")).unwrap().settings, other);
        records.remove(&name("leaf")).await.unwrap();
        assert!(records.get(&name("leaf")).is_none());
    }
}
