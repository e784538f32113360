//! Events for other MasterChiefs: what is configured is told to a bot until that bot has it in its journal; there it is an event of kind
//! `relay`, with where it comes from. One of that kind is never told on, so that nothing goes round.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use masterchief_contract::{
    BindOptions, DeliveryOptions, Event, Fate, Future, Handler, HandlerError, HandlerResult, Inbound, KindSpec,
    Matching, Outcome, Value,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::gateway::{Door, Knock};
use crate::mesh::{BotName, Call, CallFault, EVENT, Mesh, RelaySettings};

/// How the owners of these binds begin; the name of the bot stands behind it.
const OWNER: &str = "relay:";
/// How long a bot may take to write an event down.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for this one; whoever sent it asks again.
const WRITTEN: Duration = Duration::from_secs(8);
/// How long until a bot that could not be told is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The largest event, as it is sent.
const BYTES: usize = 60_000;

/// An event as it crosses the mesh.
#[derive(Debug, Serialize, Deserialize)]
struct Relayed {
    kind: String,
    subject: String,
    /// Its number where it comes from.
    id: u64,
    at: DateTime<Utc>,
    #[serde(default)]
    network: String,
    #[serde(default)]
    chan: String,
    #[serde(default)]
    nick: String,
    text: String,
    fields: Value,
    /// In base64.
    #[serde(default)]
    body: String,
}

/// Binds of what is to be told to whom, by owner; of those who are told nothing any more there are none.
#[derive(Debug)]
pub(in crate::bot) struct Relays(Vec<(String, Vec<NewBind>)>);

impl Relays {
    /// Those of a configuration, none of them bound yet: a fault leaves everything as it was.
    pub(in crate::bot) fn of(
        kinds: &Kinds,
        table: &BindTable,
        mesh: &Mesh,
        relay: &[RelaySettings],
    ) -> Result<Relays, BindFault> {
        let known: BTreeSet<Arc<str>> = table.rows().into_iter().map(|row| row.owner).collect();
        let mut owners: BTreeSet<String> =
            known.iter().filter(|owner| owner.starts_with(OWNER)).map(|owner| owner.to_string()).collect();
        let targets: BTreeSet<&String> = relay.iter().flat_map(|row| &row.to).collect();
        let mut all = Vec::new();
        for target in targets {
            // It was proven when the configuration was read.
            let Ok(to) = target.parse::<BotName>() else { continue };
            let mut binds = Vec::new();
            for row in relay.iter().filter(|row| row.to.contains(target)) {
                binds.push(one(kinds, mesh, row, &to)?);
            }
            let owner = format!("{OWNER}{}", target.to_ascii_lowercase());
            owners.remove(&owner);
            all.push((owner, binds));
        }
        all.extend(owners.into_iter().map(|owner| (owner, Vec::new())));
        Ok(Relays(all))
    }

    /// Binds them, and unbinds what no longer is.
    pub(in crate::bot) fn bind(self, table: &BindTable) {
        for (owner, binds) in self.0 {
            table.replace(&owner, binds);
        }
    }
}

fn one(kinds: &Kinds, mesh: &Mesh, row: &RelaySettings, to: &BotName) -> Result<NewBind, BindFault> {
    let spec = kinds.get(&row.kind);
    let mut options = BindOptions { timeout: Some(PATIENCE + AGAIN), ..BindOptions::default() };
    if spec.is_some_and(|spec| spec.matching == Matching::Journal) {
        // As long as the journal keeps it: a bot that is away is not a fault of the event.
        options.delivery = DeliveryOptions { max_attempts: u32::MAX, ..DeliveryOptions::default() };
    }
    let handler = Arc::new(Relay { mesh: mesh.clone(), to: to.clone(), spec });
    NewBind::parse(kinds, &row.kind, "-|-", &row.mask, options, handler)
}

/// Tells a bot of events.
struct Relay {
    mesh: Mesh,
    to: BotName,
    spec: Option<&'static KindSpec>,
}

impl Handler for Relay {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let (mesh, to) = (self.mesh.clone(), self.to.clone());
        let relayed = self.spec.map(|spec| relayed(&event, spec));
        Box::pin(async move {
            let text = relayed.map(|relayed| serde_json::to_string(&relayed)).transpose();
            let text = text.map_err(HandlerError::internal)?.unwrap_or_default();
            if text.len() > BYTES {
                let reason = format!("{} bytes are too many to be told to {to}; {BYTES} are not", text.len());
                return Err(HandlerError::Dead(reason));
            }
            match mesh.own(&to, EVENT, &text, PATIENCE).await {
                Ok(_) => Ok(Outcome::Nothing),
                Err(fault @ CallFault::TooLong) => Err(HandlerError::Dead(fault.to_string())),
                Err(fault) => {
                    Err(HandlerError::Retry { after: Some(AGAIN), reason: format!("{to} was not told: {fault}") })
                }
            }
        })
    }

    fn origin(&self) -> String {
        format!("mesh.relay to {}", self.to)
    }
}

fn relayed(event: &Event, spec: &KindSpec) -> Relayed {
    let fields = event.own_fields().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Relayed {
        kind: spec.kind.name().to_owned(),
        subject: (spec.subject)(event).into_owned(),
        id: event.id,
        at: event.at,
        network: event.network.to_string(),
        chan: event.chan().unwrap_or("").to_owned(),
        nick: event.nick().to_owned(),
        text: event.text.clone(),
        fields: Value::Object(fields.collect()),
        body: BASE64.encode(&event.body),
    }
}

/// Takes an event that a bot tells; it is told once that is written down.
pub(super) async fn receive(door: &Door, call: &Call) -> Result<String, String> {
    let from = &call.from;
    if !call.trust.is_any() {
        return Err(format!("events of {from} are not taken here; give it `trust`"));
    }
    let relayed: Relayed = serde_json::from_str(&call.data).map_err(|fault| fault.to_string())?;
    let body = BASE64.decode(&relayed.body).map_err(|fault| fault.to_string())?;
    let lane: Arc<str> = Arc::from(from.as_str().to_ascii_lowercase());
    let key = format!("{lane} {} {} {}", relayed.kind, relayed.id, relayed.at.timestamp_micros());
    let fields = vec![
        ("from", Value::from(from.as_str())),
        ("kind", Value::from(relayed.kind)),
        ("subject", Value::from(relayed.subject)),
        ("network", Value::from(relayed.network)),
        ("chan", Value::from(relayed.chan)),
        ("nick", Value::from(relayed.nick)),
        ("fields", relayed.fields),
    ];
    let event = Inbound { key: Some(key.into()), at: relayed.at, text: relayed.text, fields, body };
    let (settled, fate) = oneshot::channel();
    if !door.knock(Knock { lane, event: Ok(event), settled, room: None }) {
        return Err("too many events wait there; try again later".to_owned());
    }
    match tokio::time::timeout(WRITTEN, fate).await {
        Ok(Ok(Fate::Stored(_))) => Ok("stored".to_owned()),
        Ok(Ok(Fate::Duplicate(_))) => Ok("known".to_owned()),
        // To send it again would change nothing.
        Ok(Ok(Fate::Refused)) => Ok("too big, and a dead letter there".to_owned()),
        // It may be written later; then it is known when it comes again.
        Ok(Err(_)) | Err(_) => Err("it was not written down in time; try again later".to_owned()),
    }
}
