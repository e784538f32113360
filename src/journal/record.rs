//! Events as bytes: MessagePack, one value after the other.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{Event, EventData, Fields, Inbound, Kind, KindSpec, Value};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use super::merge::Section;

/// Events of one row, in order: `first` is the number of the first, and the others follow.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The number of the first.
    pub first: u64,
    /// The events.
    pub events: Vec<Event>,
}

impl Chunk {
    /// The number after the last.
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// An event as it is written. Short names cost nothing here: it is written as an array.
#[derive(Serialize)]
struct Written<'a> {
    at: i64,
    key: Option<&'a str>,
    text: &'a str,
    fields: &'a Fields,
    #[serde(with = "serde_bytes")]
    body: &'a [u8],
}

#[derive(Deserialize)]
struct Read {
    at: i64,
    key: Option<Box<str>>,
    text: String,
    fields: Vec<(String, Value)>,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

/// An event that stands alone, with what its row would share.
#[derive(Serialize)]
struct WrittenAlone<'a> {
    lane: &'a str,
    shared: &'a Fields,
    event: Written<'a>,
}

#[derive(Deserialize)]
struct ReadAlone {
    lane: String,
    shared: Vec<(String, Value)>,
    event: Read,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the journal cannot be read: {0}")]
pub(super) struct BadRecord(pub(super) String);

/// The kinds whose events are in the journal; their field names are static.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    kinds: HashMap<&'static str, &'static KindSpec>,
}

impl Names {
    pub(super) fn new(specs: impl Iterator<Item = &'static KindSpec>) -> Names {
        Names { kinds: specs.map(|spec| (spec.kind.name(), spec)).collect() }
    }

    pub(super) fn kinds(&self, kind: &str) -> Option<&'static [Kind]> {
        self.kinds.get(kind).map(|spec| std::slice::from_ref(&spec.kind))
    }

    /// What is known of a kind.
    pub(super) fn spec(&self, kind: &str) -> Option<&'static KindSpec> {
        self.kinds.get(kind).copied()
    }

    /// Fields with static names. What this version does not know any more is left out.
    fn fields(&self, kind: &str, read: Vec<(String, Value)>) -> Fields {
        let known = self.kinds.get(kind).map_or(&[][..], |spec| spec.fields);
        let named =
            |(name, value): (String, Value)| known.iter().find(|known| ***known == *name).map(|known| (*known, value));
        read.into_iter().filter_map(named).collect()
    }
}

/// Appends one event.
pub(super) fn write(out: &mut Vec<u8>, event: &Inbound) -> Result<(), BadRecord> {
    let written = Written {
        at: event.at.timestamp_micros(),
        key: event.key.as_deref(),
        text: &event.text,
        fields: &event.fields,
        body: &event.body,
    };
    rmp_serde::encode::write(out, &written).map_err(|fault| BadRecord(fault.to_string()))
}

/// Fields that the events of a row share.
pub(super) fn write_shared(shared: &Fields) -> Result<Vec<u8>, BadRecord> {
    rmp_serde::to_vec(shared).map_err(|fault| BadRecord(fault.to_string()))
}

/// An event with everything that is needed to read it alone.
pub(super) fn write_alone(event: &Event) -> Result<Vec<u8>, BadRecord> {
    let none = Fields::new();
    let written = WrittenAlone {
        lane: &event.lane,
        shared: event.shared.as_deref().unwrap_or(&none),
        event: Written {
            at: event.at.timestamp_micros(),
            key: event.key.as_deref(),
            text: &event.text,
            fields: &event.fields,
            body: &event.body,
        },
    };
    rmp_serde::to_vec(&written).map_err(|fault| BadRecord(fault.to_string()))
}

/// A part in a row that holds several.
#[derive(Serialize)]
struct WrittenSection<'a> {
    lane: &'a str,
    shared: Option<&'a Bytes>,
    count: u64,
    records: &'a Bytes,
}

#[derive(Deserialize)]
struct ReadSection {
    lane: String,
    shared: Option<ByteBuf>,
    count: u64,
    records: ByteBuf,
}

/// Appends one part to a row that holds several.
pub(super) fn write_section(out: &mut Vec<u8>, section: &Section<'_>) -> Result<(), BadRecord> {
    let written = WrittenSection {
        lane: section.lane,
        shared: section.shared.map(Bytes::new),
        count: section.count,
        records: Bytes::new(section.records),
    };
    rmp_serde::encode::write(out, &written).map_err(|fault| BadRecord(fault.to_string()))
}

/// What events of a row have in common.
pub(super) struct Row<'a> {
    pub(super) kind: &'a str,
    /// Nothing, if the row holds several parts.
    pub(super) lane: Option<&'a str>,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) shared: Option<&'a [u8]>,
    pub(super) records: &'a [u8],
}

/// The events of a row.
pub(super) fn read_row(names: &Names, row: &Row<'_>) -> Result<Chunk, BadRecord> {
    let bad = |fault: rmp_serde::decode::Error| BadRecord(fault.to_string());
    let kinds = names.kinds(row.kind).ok_or_else(|| BadRecord(format!("there is no kind {}", row.kind)))?;
    let Some(lane) = row.lane else {
        let (mut events, mut from, mut first) = (Vec::new(), Cursor::new(row.records), row.first);
        while events.len() < usize::try_from(row.count).unwrap_or(usize::MAX) {
            let section: ReadSection = rmp_serde::from_read(&mut from).map_err(bad)?;
            let (shared, records) = (section.shared.as_ref().map(|shared| &***shared), &*section.records);
            let (lane, count) = (Some(&*section.lane), section.count);
            events.extend(read_row(names, &Row { kind: row.kind, lane, first, count, shared, records })?.events);
            first += count;
        }
        return Ok(Chunk { first: row.first, events });
    };
    let lane: Arc<str> = Arc::from(lane);
    let shared = match row.shared {
        None => None,
        Some(bytes) => Some(Arc::new(names.fields(row.kind, rmp_serde::from_slice(bytes).map_err(bad)?))),
    };
    let mut events = Vec::new();
    let mut from = Cursor::new(row.records);
    for at in 0..row.count {
        let read: Read = rmp_serde::from_read(&mut from).map_err(bad)?;
        events.push(event(names, row.kind, kinds, row.first + at, Arc::clone(&lane), shared.clone(), read));
    }
    Ok(Chunk { first: row.first, events })
}

/// An event that was written alone.
pub(super) fn read_alone(names: &Names, kind: &str, number: u64, bytes: &[u8]) -> Result<Event, BadRecord> {
    let kinds = names.kinds(kind).ok_or_else(|| BadRecord(format!("there is no kind {kind}")))?;
    let alone: ReadAlone = rmp_serde::from_slice(bytes).map_err(|fault| BadRecord(fault.to_string()))?;
    let shared = names.fields(kind, alone.shared);
    let shared = (!shared.is_empty()).then(|| Arc::new(shared));
    Ok(event(names, kind, kinds, number, Arc::from(alone.lane), shared, alone.event))
}

/// The same from what a source gave, without the way through bytes.
pub(super) fn of_inbound(
    kinds: &'static [Kind],
    number: u64,
    lane: &Arc<str>,
    shared: Option<&Arc<Fields>>,
    from: Inbound,
) -> Event {
    let mut data = EventData::numbered(kinds, number, from.at);
    data.text = from.text;
    data.fields = from.fields;
    data.shared = shared.cloned();
    data.body = from.body;
    data.lane = Arc::clone(lane);
    data.key = from.key;
    Event::new(data)
}

fn event(
    names: &Names,
    kind: &str,
    kinds: &'static [Kind],
    number: u64,
    lane: Arc<str>,
    shared: Option<Arc<Fields>>,
    read: Read,
) -> Event {
    let at = DateTime::<Utc>::from_timestamp_micros(read.at).unwrap_or_default();
    let inbound =
        Inbound { key: read.key, at, text: read.text, fields: names.fields(kind, read.fields), body: read.body };
    of_inbound(kinds, number, &lane, shared.as_ref(), inbound)
}
