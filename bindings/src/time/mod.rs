//! `time` and `cron`: moments of a schedule.

mod schedule;
mod source;

use std::borrow::Cow;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Returns};

pub use schedule::Schedule;
pub use source::{LastRuns, TimeSource};

/// What a handler's event holds.
const FIELDS: &[&str] = &["min", "hour", "day", "month", "year", "weekday", "scheduled", "missed"];

/// The rows.
pub static KINDS: &[KindSpec] = &[
    KindSpec {
        kind: Kind::Time,
        matching: Matching::Named,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject: moment,
        check: |mask| Schedule::for_time(mask, None).map(drop),
        fields: FIELDS,
        about: "a moment comes: five-field cron, or Eggdrop's `MM HH DD mm YYYY` mask",
        example: "*/5 * * * *",
        wants: None,
    },
    KindSpec {
        kind: Kind::Cron,
        matching: Matching::Named,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject: moment,
        check: |mask| Schedule::for_cron(mask, None).map(drop),
        fields: FIELDS,
        about: "a moment comes, in five-field cron",
        example: "0 9 * * mon-fri",
        wants: None,
    },
];

fn moment(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}
