//! Parts that come one after the other in a transaction are put into one row: a row costs more than what is in it.

use chrono::{DateTime, Utc};

use super::record::{self, BadRecord};

/// A part with more bytes has a row of its own.
const PART: usize = 32 << 10;
/// A row takes no more parts once it has this many bytes.
const ROW: usize = 256 << 10;

/// A part as it is written.
pub(super) struct Section<'a> {
    pub(super) lane: &'a str,
    pub(super) shared: Option<&'a [u8]>,
    pub(super) count: u64,
    pub(super) records: &'a [u8],
}

impl Section<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.records.len() + self.shared.map_or(0, <[u8]>::len)
    }

    pub(super) fn is_big(&self) -> bool {
        self.bytes() > PART
    }
}

/// Where a row belongs.
pub(super) struct Place {
    pub(super) stream: i64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) at: DateTime<Utc>,
}

/// A row that may take more parts.
pub(super) struct Open {
    pub(super) place: Place,
    pub(super) sections: Vec<u8>,
}

impl Open {
    /// Gathers in an empty buffer.
    pub(super) fn new(place: Place, section: &Section<'_>, mut sections: Vec<u8>) -> Result<Open, BadRecord> {
        record::write_section(&mut sections, section)?;
        Ok(Open { place, sections })
    }

    /// Whether a part that begins with this number can be taken.
    pub(super) fn takes(&self, stream: i64, first: u64, section: &Section<'_>) -> bool {
        let Place { stream: ours, first: begin, count, .. } = self.place;
        ours == stream && begin + count == first && !section.is_big() && self.sections.len() <= ROW
    }

    pub(super) fn take(&mut self, section: &Section<'_>) -> Result<(), BadRecord> {
        self.place.count += section.count;
        record::write_section(&mut self.sections, section)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use masterchief_contract::{Batch, Clock, Inbound, Kind, Matching, Part, Value};

    use super::*;
    use crate::journal::{self, Settings};

    fn part(lane: &str, texts: &[String], shared: Option<&str>) -> Part {
        let event = |text: &String| Inbound {
            key: None,
            at: Utc::now(),
            text: text.clone(),
            fields: Vec::new(),
            body: Vec::new(),
        };
        let shared = shared.map(|path| Arc::new(vec![("path", Value::from(path))]));
        Part { lane: Arc::from(lane), shared, events: texts.iter().map(event).collect(), position: None }
    }

    #[tokio::test]
    async fn small_parts_share_a_row_and_each_event_is_read_back_as_it_was() {
        let specs = masterchief_bindings::log::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        let journal = journal::open(None, Settings::default(), specs, Clock::system()).unwrap();
        let stream: Arc<str> = Arc::from("log:app");
        let (small, big) = (|text: &str| vec![text.to_owned()], vec!["x".repeat(40 << 10)]);
        let parts = vec![
            part("a", &small("one"), None),
            part("b", &[small("two"), small("three")].concat(), Some("/b")),
            part("c", &big, Some("/c")),
            part("a", &small("four"), None),
        ];
        let batch = Batch { parts, ..Batch::default() };
        journal.append(Kind::Log, &stream, batch).await.unwrap();
        let mut seen = Vec::new();
        for number in 1..=5 {
            let (_, event) = journal.event(number).await.unwrap().unwrap();
            let text: String = event.text.chars().take(5).collect();
            seen.push(format!("{number} {} {text} {}", event.lane, event.field_str("path")));
        }
        assert_eq!(seen, ["1 a one ", "2 b two /b", "3 b three /b", "4 c xxxxx /c", "5 a four "]);
        assert!(journal.event(6).await.unwrap().is_none());
        let newest = journal.newest("log", 2).await.unwrap();
        assert_eq!(newest.iter().map(|row| row.event.id).collect::<Vec<_>>(), [5, 4]);
    }
}
