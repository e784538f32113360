//! What is known to be lost: an event of its own, which goes to binds whose mask ends in `gap` and to no others.

use chrono::Utc;
use masterchief_contract::{EventData, Inbound, Value};
use serde_json::json;

/// The word of masks, and the name of the field.
pub(crate) const GAP: &str = "gap";

/// So much of something is lost.
pub(crate) fn event(text: String, unit: &str, count: u64) -> Inbound {
    let gap: Value = json!({ unit: count });
    Inbound { key: None, at: Utc::now(), text, fields: vec![(GAP, gap)], body: Vec::new() }
}

/// Whether an event says what is lost.
pub(crate) fn is_of(event: &EventData) -> bool {
    event.field(GAP).is_some()
}
