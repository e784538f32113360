//! When a bind is due. Pure.
//!
//! The mask of a `time` bind may be Eggdrop's own or five-field cron. It is Eggdrop's if every field is made of digits
//! and the wildcards `* ? % ~ \` only and could match Eggdrop's padded value: two digits, and four for the year. So
//! `00 * * * *` and `?0 * * * *` are Eggdrop's, where the month counts from 00 and the fifth field is the year;
//! `*/5 * * * *`, `0 9 * * *` and `0 9 * * mon-fri` can never match there, and are cron.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use masterchief_contract::{CaseMap, MaskFault, wild_match};

/// How far ahead a moment is looked for at once.
const LOOK_AHEAD: TimeDelta = TimeDelta::days(1);
/// The fields of a pattern and what may stand there.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day", "1 to 31 or L"),
    ("month", "1 to 12 or jan to dec"),
    ("weekday", "0 to 7 or sun to sat, 5#2 or 5L"),
];
/// Short names for patterns. Five fields each, so that nothing else has to know them.
const NAMES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A checked mask with its zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
    zone: Tz,
}

#[derive(Clone, Debug)]
enum Rule {
    /// Matched against `MM HH DD mm YYYY` each minute.
    Eggdrop(String),
    Cron(Box<Cron>),
}

/// The next moment at which to look at a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is due then.
    Due(DateTime<Utc>),
    /// It is not due before then; ask again.
    Look(DateTime<Utc>),
    /// It is never due again.
    Never,
}

impl Schedule {
    /// The mask of a `time` bind. The zone is an IANA name; UTC where none is given.
    pub fn for_time(mask: &str, zone: Option<&str>) -> Result<Schedule, MaskFault> {
        if is_eggdrops(mask) {
            return Ok(Schedule { rule: Rule::Eggdrop(mask.to_owned()), zone: parse_zone(zone)? });
        }
        Schedule::for_cron(mask, zone)
    }

    /// The mask of a `cron` bind.
    pub fn for_cron(mask: &str, zone: Option<&str>) -> Result<Schedule, MaskFault> {
        let pattern = expand(mask)?;
        let cron = parse(pattern).map_err(|reason| place_fault(mask, pattern, reason))?;
        let schedule = Schedule { rule: Rule::Cron(Box::new(cron)), zone: parse_zone(zone)? };
        if schedule.next_after(DateTime::UNIX_EPOCH) == Next::Never {
            return Err(MaskFault { column: 1, message: "there is no such day in any year".to_owned() });
        }
        Ok(schedule)
    }

    /// When it is next due after `at`.
    pub fn next_after(&self, at: DateTime<Utc>) -> Next {
        match &self.rule {
            Rule::Cron(cron) => match cron.find_next_occurrence(&at.with_timezone(&self.zone), false) {
                Ok(next) => Next::Due(next.to_utc()),
                Err(_) => Next::Never,
            },
            Rule::Eggdrop(mask) => {
                let mut minute = next_minute(at);
                let end = minute + LOOK_AHEAD;
                while minute < end {
                    if wild_match(mask, &self.moment(minute), CaseMap::Ascii) {
                        return Next::Due(minute);
                    }
                    minute += TimeDelta::minutes(1);
                }
                // One minute back, so that `end` itself is looked at.
                Next::Look(end - TimeDelta::minutes(1))
            }
        }
    }

    /// The moments after `from` up to and with `to`, at most `most` of them: the last ones.
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        let mut out = std::collections::VecDeque::new();
        let mut at = from;
        loop {
            at = match self.next_after(at) {
                Next::Due(due) if due <= to => {
                    if out.len() == most {
                        out.pop_front();
                    }
                    out.push_back(due);
                    due
                }
                Next::Look(later) if later <= to => later,
                _ => return out.into(),
            };
        }
    }

    /// Whether this is Eggdrop's own grammar.
    pub fn is_eggdrops(&self) -> bool {
        matches!(self.rule, Rule::Eggdrop(_))
    }

    /// Eggdrop's text for a moment: minute, hour, day, month from 00, year; in the schedule's zone.
    pub fn moment(&self, at: DateTime<Utc>) -> String {
        let at = at.with_timezone(&self.zone);
        format!("{:02} {:02} {:02} {:02} {:04}", at.minute(), at.hour(), at.day(), at.month0(), at.year())
    }

    /// A moment in the schedule's zone.
    pub fn local(&self, at: DateTime<Utc>) -> DateTime<Tz> {
        at.with_timezone(&self.zone)
    }
}

/// The beginning of the minute after this moment.
fn next_minute(at: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = at.timestamp().div_euclid(60) * 60 + 60;
    DateTime::from_timestamp(seconds, 0).unwrap_or(at)
}

/// Whether each field could match Eggdrop's padded value.
fn is_eggdrops(mask: &str) -> bool {
    let fields: Vec<&str> = mask.split(' ').collect();
    let could_match = |field: &str, width: usize| {
        let wild = field.contains(['*', '?', '%', '~', '\\']);
        !field.is_empty()
            && field.chars().all(|c| c.is_ascii_digit() || "*?%~\\".contains(c))
            && (wild || field.len() == width)
    };
    fields.len() == 5 && fields[..4].iter().all(|field| could_match(field, 2)) && could_match(fields[4], 4)
        // `*` alone everywhere means the same in both.
        && fields.iter().any(|field| *field != "*")
}

fn parse_zone(zone: Option<&str>) -> Result<Tz, MaskFault> {
    let Some(zone) = zone else { return Ok(Tz::UTC) };
    zone.parse().map_err(|_| MaskFault {
        column: 1,
        message: format!("{zone:?} is not a zone; write an IANA name such as Europe/Lisbon"),
    })
}

fn expand(mask: &str) -> Result<&str, MaskFault> {
    if !mask.starts_with('@') {
        return Ok(mask);
    }
    let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(mask));
    found.map(|(_, pattern)| *pattern).ok_or_else(|| {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        MaskFault { column: 1, message: format!("there is no {mask}; there are {}", names.join(" ")) }
    })
}

fn parse(pattern: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(pattern).map_err(|fault| fault.to_string())
}

/// The place of a fault: the first field that is wrong by itself.
fn place_fault(mask: &str, pattern: &str, reason: String) -> MaskFault {
    let fault = |column, message| MaskFault { column, message };
    let count = pattern.split_whitespace().count();
    if count != 5 {
        let message = format!("a schedule has five fields, minute hour day month weekday; this one has {count}");
        return fault(mask.chars().count().max(1), message);
    }
    let mut column = 1;
    for (at, field) in pattern.split(' ').enumerate() {
        let mut alone = ["*"; 5];
        if let Some(place) = alone.get_mut(at) {
            *place = field;
        }
        if parse(&alone.join(" ")).is_err() {
            let (name, range) = FIELDS.get(at).copied().unwrap_or_default();
            return fault(column, format!("{field:?} is no {name}: write {range}, with * , - and /"));
        }
        column += field.chars().count() + 1;
    }
    fault(1, reason)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn next(mask: &str, zone: Option<&str>, at: &str) -> String {
        match Schedule::for_time(mask, zone).unwrap().next_after(utc(at)) {
            Next::Due(due) => due.to_rfc3339(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn eggdrops_masks_and_cron_are_told_apart() {
        let eggdrops = |mask: &str| Schedule::for_time(mask, None).map(|schedule| schedule.is_eggdrops());
        for mask in ["00 * * * *", "?0 * * * *", "30 12 * * *", "* * 21 * *", "00 00 * 11 2026", "%0 * * * *"] {
            assert_eq!(eggdrops(mask), Ok(true), "{mask}");
        }
        for mask in ["*/5 * * * *", "0 9 * * *", "30 9 * * 1-5", "0 0 * * mon", "@daily", "* * * * *", "0 0 L * *"] {
            assert_eq!(eggdrops(mask), Ok(false), "{mask}");
        }
    }

    #[test]
    fn a_bad_schedule_is_refused_with_its_place() {
        let column = |mask: &str| Schedule::for_time(mask, None).unwrap_err().column;
        assert_eq!(column("61 * * * 1-5"), 1);
        assert_eq!(column("0 25 * * *"), 3);
        assert_eq!(column("0 0 * foo *"), 7);
        assert_eq!(column("@fortnightly"), 1);
        assert_eq!(column("* * *"), 5);
        assert_eq!(column(""), 1);
        assert!(Schedule::for_cron("0 0 * * *", Some("Mars/Olympus")).is_err());
    }

    #[test]
    fn eggdrops_masks_fire_as_eggdrop_does() {
        assert_eq!(next("?5 * * * *", None, "2026-03-02T12:00:00Z"), "2026-03-02T12:05:00+00:00");
        assert_eq!(next("00 12 * * *", None, "2026-03-02T12:00:00Z"), "2026-03-03T12:00:00+00:00");
        // The month counts from 00.
        assert_eq!(next("* * * 02 *", None, "2026-03-02T12:00:30Z"), "2026-03-02T12:01:00+00:00");
        let rare = Schedule::for_time("00 00 29 01 2028", None).unwrap();
        assert_eq!(
            rare.between(utc("2027-12-01T00:00:00Z"), utc("2028-12-01T00:00:00Z"), 9),
            [utc("2028-02-29T00:00:00Z")]
        );
    }

    #[test]
    fn cron_counts_days_and_weekdays_as_alternatives_and_knows_names() {
        assert_eq!(next("0 9 * * mon-fri", None, "2026-03-06T10:00:00Z"), "2026-03-09T09:00:00+00:00");
        assert_eq!(next("0 0 13 * fri", None, "2026-03-06T00:00:00Z"), "2026-03-13T00:00:00+00:00");
        assert_eq!(next("0 0 L * *", None, "2026-02-02T00:00:00Z"), "2026-02-28T00:00:00+00:00");
        assert_eq!(next("0 0 * * 5#2", None, "2026-03-01T00:00:00Z"), "2026-03-13T00:00:00+00:00");
        assert_eq!(next("0 0 * * 7", None, "2026-03-02T00:00:00Z"), "2026-03-08T00:00:00+00:00");
        assert!(Schedule::for_time("0 0 31 2 *", None).is_err(), "there is no 31 February");
    }

    #[test]
    fn a_run_in_the_hour_that_is_skipped_comes_after_it_and_one_in_the_hour_that_repeats_comes_once() {
        let zone = Some("Europe/Berlin");
        assert_eq!(next("30 2 * * 0-6", zone, "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00+00:00");
        let schedule = Schedule::for_time("30 2 * * 0-6", zone).unwrap();
        let runs = schedule.between(utc("2026-10-24T12:00:00Z"), utc("2026-10-26T12:00:00Z"), 9);
        assert_eq!(runs, [utc("2026-10-25T00:30:00Z"), utc("2026-10-26T01:30:00Z")]);
    }

    /// Three years of every minute against the fields themselves, over six changes of the clock.
    #[test]
    fn every_minute_of_three_years_agrees_with_the_fields() {
        type Rule = fn(&DateTime<Tz>) -> bool;
        let rules: [(&str, Rule); 4] = [
            ("*/15 * * * *", |at| at.minute() % 15 == 0),
            ("*/7 8-18/2 * * *", |at| at.minute() % 7 == 0 && (8..=18).contains(&at.hour()) && at.hour() % 2 == 0),
            ("* */3 1,15 * *", |at| at.hour() % 3 == 0 && matches!(at.day(), 1 | 15)),
            ("5-10 * 13 * fri", |at| {
                (5..=10).contains(&at.minute()) && (at.day() == 13 || at.weekday() == chrono::Weekday::Fri)
            }),
        ];
        for zone in [Tz::Europe__Berlin, Tz::America__New_York] {
            for (pattern, rule) in rules {
                let schedule = Schedule::for_cron(pattern, Some(zone.name())).unwrap();
                let start = zone.with_ymd_and_hms(2025, 1, 1, 0, 0, 0).unwrap().to_utc();
                let minutes = (0..3 * 365 * 24 * 60).map(|n| start + TimeDelta::minutes(n));
                let expected: Vec<_> = minutes.filter(|at| rule(&at.with_timezone(&zone))).collect();
                let (from, to) = (start - TimeDelta::minutes(1), start + TimeDelta::minutes(3 * 365 * 24 * 60 - 1));
                let runs = schedule.between(from, to, usize::MAX);
                let wrong = runs.iter().zip(&expected).find(|(run, want)| run != want);
                assert_eq!((wrong, runs.len()), (None, expected.len()), "{pattern} in {zone}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_schedule_or_a_fault(mask in any::<String>(), near in "[0-9*?/,#L@a-z -]{0,20}") {
            for mask in [mask, near] {
                if let Ok(schedule) = Schedule::for_time(&mask, None) {
                    let at = utc("2026-03-02T12:00:00Z");
                    if let Next::Due(due) | Next::Look(due) = schedule.next_after(at) {
                        prop_assert!(due > at);
                    }
                }
            }
        }
    }
}
