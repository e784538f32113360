//! An event as a file, so that tests can let it happen again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use masterchief_contract::{Event, Fields, Inbound, KindSpec, Value};
use serde::{Deserialize, Serialize};
use serde_json::Map;

/// An event outside the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Its kind.
    pub kind: String,
    /// The lane it came in.
    #[serde(default)]
    pub lane: String,
    /// What the outside knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// The words.
    #[serde(default)]
    pub text: String,
    /// The kind's own fields.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl Fixture {
    /// An event as a fixture.
    pub fn of(event: &Event) -> Fixture {
        let (body, body_base64) = match std::str::from_utf8(&event.body) {
            _ if event.body.is_empty() => (None, None),
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(BASE64.encode(&event.body))),
        };
        Fixture {
            kind: event.kind().name().to_owned(),
            lane: event.lane.to_string(),
            key: event.key.as_deref().map(str::to_owned),
            at: Some(event.at),
            text: event.text.clone(),
            fields: event.own_fields().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            body,
            body_base64,
        }
    }

    /// A fixture as something that happens now. A field that the kind does not have is told.
    pub fn into_inbound(self, spec: &KindSpec, now: DateTime<Utc>) -> Result<Inbound, String> {
        let mut fields = Fields::new();
        for (name, value) in self.fields {
            let known = spec.fields.iter().find(|known| **known == name);
            let known = known.ok_or_else(|| {
                format!("a {} event has no field {name:?}; it has {}", spec.kind, spec.fields.join(", "))
            })?;
            fields.push((*known, value));
        }
        let body = match (self.body, self.body_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(text)) => BASE64.decode(text).map_err(|fault| format!("body_base64: {fault}"))?,
            (None, None) => Vec::new(),
        };
        // Without its key: what happens again in a test is no redelivery.
        Ok(Inbound { key: None, at: self.at.unwrap_or(now), text: self.text, fields, body })
    }
}
