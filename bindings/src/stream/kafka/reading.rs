//! What is read of a partition, and what is known of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{Fields, Inbound, Part, Value};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::group::{Place, lane};
use crate::stream::words;

/// What is known of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// The next offset that is not in the journal.
    pub(super) next: i64,
    /// What was committed when that was written.
    pub(super) committed: i64,
    /// Whether something of it was read since it was assigned.
    pub(super) read: bool,
}

impl Known {
    /// As the journal keeps it.
    pub(super) fn parse(text: &str) -> Option<Known> {
        let (next, committed) = text.split_once(':')?;
        Some(Known { next: next.parse().ok()?, committed: committed.parse().ok()?, read: false })
    }
}

/// What was read of a partition.
pub(super) struct Reading {
    pub(super) place: Place,
    pub(super) known: Known,
    /// The next offset.
    pub(super) next: i64,
    events: Vec<Inbound>,
}

impl Reading {
    pub(super) fn new(place: Place, known: Known) -> Reading {
        Reading { place, known, next: 0, events: Vec::new() }
    }

    pub(super) fn is_of(&self, message: &BorrowedMessage<'_>) -> bool {
        self.place.1 == message.partition() && self.place.0 == message.topic()
    }

    /// How many bytes it brought.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let offset = message.offset();
        let again = offset < self.known.next && offset >= self.known.committed;
        if !self.known.read && offset < self.known.committed {
            // Somebody set the group back: what comes again is wanted again.
            self.known.next = offset;
        }
        self.known.read = true;
        self.next = offset + 1;
        if again {
            return 0;
        }
        let event = inbound(message);
        let bytes = event.size();
        self.events.push(event);
        bytes
    }

    /// What came again moves nothing back.
    pub(super) fn end(&mut self) {
        self.known.next = self.known.next.max(self.next);
    }

    pub(super) fn part(self) -> Part {
        let position = Some(format!("{}:{}", self.known.next, self.known.committed));
        Part { lane: Arc::from(lane(&self.place)), shared: Some(shared(&self.place)), events: self.events, position }
    }
}

fn shared(place: &Place) -> Arc<Fields> {
    Arc::new(vec![
        ("broker", Value::from("kafka")),
        ("topic", Value::from(place.0.as_str())),
        ("partition", Value::from(place.1)),
    ])
}

fn inbound(message: &BorrowedMessage<'_>) -> Inbound {
    let mut fields = Fields::with_capacity(2);
    fields.push(("offset", Value::from(message.offset())));
    if let Some(key) = message.key() {
        fields.push(("key", Value::from(String::from_utf8_lossy(key))));
    }
    if let Some(headers) = message.headers() {
        let headers = headers.iter().map(|header| {
            let value = header.value.map_or(Value::Null, |value| Value::from(String::from_utf8_lossy(value)));
            (header.key.to_owned(), value)
        });
        fields.push(("headers", Value::Object(headers.collect())));
    }
    if message.payload().is_none() {
        fields.push(("tombstone", Value::Bool(true)));
    }
    let at = message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis).unwrap_or_else(Utc::now);
    let (text, body) = words(message.payload().unwrap_or_default().to_vec());
    Inbound { key: None, at, text, fields, body }
}
