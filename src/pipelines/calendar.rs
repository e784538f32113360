//! When changes are frozen: the events of an iCalendar file (RFC 5545), single or repeated. What is not understood is a fault and
//! never left out: a freeze that is overlooked is worse than a file that is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use rrule::{RRule, RRuleSet, Unvalidated};

/// The longest file, in bytes.
const FILE_MAX: usize = 4 << 20;
/// The most events of a file.
const EVENTS_MAX: usize = 2_000;
/// The longest line after unfolding, in bytes.
const LINE_MAX: usize = 64 << 10;
/// The longest freeze, in days.
const DAYS_MAX: i64 = 36_600;
/// How far ahead freezes that follow one another are joined, in days.
const JOINED: i64 = 400;
/// The most repetitions that are looked at.
const TIMES_MAX: usize = 100_000;
/// Years that are believed.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2200;
/// The parts of a rule that are read (RFC 5545, 3.3.10).
const PARTS: &[&str] = &["FREQ", "INTERVAL", "BYDAY", "UNTIL", "COUNT", "WKST", "BYMONTH", "BYMONTHDAY", "BYSETPOS"];
/// What Windows calls the zones of many offices, and what all others call them (CLDR, windowsZones).
const WINDOWS: &[(&str, Tz)] = &[
    ("AUS Eastern Standard Time", Tz::Australia__Sydney),
    ("Central Europe Standard Time", Tz::Europe__Budapest),
    ("Central European Standard Time", Tz::Europe__Warsaw),
    ("Central Standard Time", Tz::America__Chicago),
    ("China Standard Time", Tz::Asia__Shanghai),
    ("Eastern Standard Time", Tz::America__New_York),
    ("FLE Standard Time", Tz::Europe__Kyiv),
    ("GMT Standard Time", Tz::Europe__London),
    ("GTB Standard Time", Tz::Europe__Bucharest),
    ("India Standard Time", Tz::Asia__Kolkata),
    ("Mountain Standard Time", Tz::America__Denver),
    ("Pacific Standard Time", Tz::America__Los_Angeles),
    ("Romance Standard Time", Tz::Europe__Paris),
    ("Russian Standard Time", Tz::Europe__Moscow),
    ("Singapore Standard Time", Tz::Asia__Singapore),
    ("Tokyo Standard Time", Tz::Asia__Tokyo),
    ("W. Europe Standard Time", Tz::Europe__Berlin),
];

/// What is wrong with a calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(super) struct Fault {
    /// The line of the file, from 1; of a folded line its first.
    pub line: usize,
    /// A sentence.
    pub message: String,
}

/// An event of a calendar: a time, or a rule for times, in which changes are frozen.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    /// What the event is called: its summary.
    pub name: String,
    /// The line it begins on.
    pub line: usize,
    zone: Tz,
    /// The first time, as clocks in its zone show it.
    start: NaiveDateTime,
    /// How much clocks move on until its end, and how much time passes after that.
    length: (TimeDelta, TimeDelta),
    /// Its repetitions, in clock time that is written as if it were UTC: a time that the clocks skip must not be lost.
    rule: Option<RRuleSet>,
    /// Times that do not take place.
    except: BTreeSet<DateTime<Utc>>,
}

impl Frozen {
    /// Until when changes are frozen, if they are at this time. Its end is not part of it. Times that touch are joined, up to 400
    /// days ahead.
    pub(super) fn active(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let far = now + TimeDelta::days(JOINED);
        let mut until = None;
        for (start, end) in self.times() {
            if start > until.unwrap_or(now).min(far) {
                break;
            }
            if end > until.unwrap_or(now) {
                until = Some(end);
            }
        }
        until
    }

    /// When the next time begins, after this one.
    #[cfg(test)]
    fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times().map(|(start, _)| start).find(|start| *start > now)
    }

    /// All times, the earliest first: beginning and end.
    fn times(&self) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)> {
        let repeated = self.rule.iter().flat_map(|rule| rule.into_iter().take(TIMES_MAX));
        // The first time takes place also where the rule does not say so.
        let rest = repeated.map(|time| time.naive_utc()).filter(|time| *time != self.start);
        let all = std::iter::once(self.start).chain(rest);
        all.filter_map(|local| {
            let start = instant(self.zone, local)?;
            let end = instant(self.zone, local.checked_add_signed(self.length.0)?)?;
            Some((start, end.checked_add_signed(self.length.1)?))
        })
        .filter(|(start, _)| !self.except.contains(start))
    }
}

/// Reads a calendar. Events without a zone, and whole days, are in the calendar's `X-WR-TIMEZONE`, or else in UTC. Cancelled events are
/// left out; a changed repetition takes the place of the one it changes.
pub(super) fn parse(text: &str) -> Result<Vec<Frozen>, Fault> {
    if text.len() > FILE_MAX {
        return Err(fault(1, format!("the calendar is longer than {FILE_MAX} bytes")));
    }
    let mut open: Vec<String> = Vec::new();
    let mut calendars = 0;
    let mut zone = Tz::UTC;
    let mut events: Vec<Event> = Vec::new();
    for (at, line) in unfold(text)? {
        let property = Property::read(at, &line)?;
        match (property.name.as_str(), open.last().map(String::as_str)) {
            ("BEGIN", within) => {
                let kind = property.value.trim().to_ascii_uppercase();
                match (kind.as_str(), within) {
                    ("VCALENDAR", None) => (calendars, zone) = (calendars + 1, Tz::UTC),
                    ("VEVENT", Some("VCALENDAR")) if events.len() < EVENTS_MAX => {
                        events.push(Event { line: at, zone, properties: Vec::new() });
                    }
                    ("VEVENT", Some("VCALENDAR")) => {
                        return Err(fault(at, format!("there are more than {EVENTS_MAX} events")));
                    }
                    (_, None) | ("VEVENT" | "VCALENDAR", _) => {
                        return Err(fault(at, format!("{kind} does not belong here")));
                    }
                    _ => {}
                }
                open.push(kind);
            }
            ("END", within) => {
                if within.is_none_or(|within| !within.eq_ignore_ascii_case(property.value.trim())) {
                    return Err(fault(at, format!("END:{} ends nothing that is open", property.value.trim())));
                }
                open.pop();
            }
            (_, None) => return Err(fault(at, "this is not a calendar; it begins with BEGIN:VCALENDAR")),
            ("X-WR-TIMEZONE", Some("VCALENDAR")) => zone = zone_of(at, &property.value)?,
            (_, Some("VEVENT")) => {
                events.iter_mut().last().into_iter().for_each(|event| event.properties.push(property.clone()))
            }
            _ => {}
        }
    }
    if calendars == 0 || !open.is_empty() {
        let at = text.lines().count().max(1);
        return Err(fault(
            at,
            if calendars == 0 { "this is not a calendar" } else { "the calendar ends in the middle" },
        ));
    }
    frozen(&events)
}

fn fault(line: usize, message: impl Into<String>) -> Fault {
    Fault { line, message: message.into() }
}

/// The events that take place; changed repetitions are taken out of what they change.
fn frozen(events: &[Event]) -> Result<Vec<Frozen>, Fault> {
    let mut all = Vec::new();
    let mut changed: BTreeMap<&str, BTreeSet<DateTime<Utc>>> = BTreeMap::new();
    for event in events {
        if let Some(id) = event.only("RECURRENCE-ID")? {
            let Some(uid) = event.only("UID")? else { return Err(fault(id.line, "RECURRENCE-ID needs a UID")) };
            if id.parameter("RANGE").is_some() {
                return Err(fault(id.line, "RANGE is not understood; change each time by itself"));
            }
            changed.entry(&uid.value).or_default().insert(When::read(id, &id.value, event.zone)?.instant(id.line)?);
        }
    }
    for event in events {
        let cancelled =
            event.only("STATUS")?.is_some_and(|status| status.value.trim().eq_ignore_ascii_case("CANCELLED"));
        if cancelled {
            continue;
        }
        let mut frozen = event.frozen()?;
        if event.only("RECURRENCE-ID")?.is_none()
            && let Some(times) = event.only("UID")?.and_then(|uid| changed.get(uid.value.as_str()))
        {
            frozen.except.extend(times);
        }
        all.push(frozen);
    }
    Ok(all)
}

/// Lines as they were before they were folded, each with its number.
fn unfold(text: &str) -> Result<Vec<(usize, String)>, Fault> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_end_matches('\r');
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, whole))) => whole.push_str(rest),
            _ if line.trim().is_empty() => continue,
            _ => lines.push((at + 1, line.to_owned())),
        }
        if lines.last().is_some_and(|(_, whole)| whole.len() > LINE_MAX) {
            return Err(fault(at + 1, format!("the line is longer than {LINE_MAX} bytes")));
        }
    }
    Ok(lines)
}

/// A line: `NAME;PARAMETER=value:value`.
#[derive(Clone, Debug)]
struct Property {
    line: usize,
    name: String,
    parameters: Vec<(String, String)>,
    value: String,
}

impl Property {
    fn read(line: usize, text: &str) -> Result<Property, Fault> {
        // A colon or a semicolon in quotes belongs to a parameter.
        let mut quoted = false;
        let mut parts = Vec::new();
        let mut begin = 0;
        let mut value = None;
        for (at, letter) in text.char_indices() {
            match letter {
                '"' => quoted = !quoted,
                ';' | ':' if !quoted => {
                    parts.push(&text[begin..at]);
                    begin = at + 1;
                    if letter == ':' {
                        value = Some(text[begin..].to_owned());
                        break;
                    }
                }
                _ => {}
            }
        }
        let (Some(value), Some((name, rest))) = (value, parts.split_first()) else {
            return Err(fault(line, format!("{:.60?} is not NAME:value", text)));
        };
        let parameters = rest.iter().filter_map(|part| part.split_once('='));
        let parameters =
            parameters.map(|(name, value)| (name.to_ascii_uppercase(), value.trim_matches('"').to_owned()));
        Ok(Property { line, name: name.to_ascii_uppercase(), parameters: parameters.collect(), value })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An event as it is written.
struct Event {
    line: usize,
    /// The zone of what names none.
    zone: Tz,
    properties: Vec<Property>,
}

impl Event {
    /// The property of this name, which may stand there once.
    fn only(&self, name: &str) -> Result<Option<&Property>, Fault> {
        let mut all = self.properties.iter().filter(|property| property.name == name);
        let first = all.next();
        match all.next() {
            Some(second) => Err(fault(second.line, format!("{name} stands there twice"))),
            None => Ok(first),
        }
    }

    fn frozen(&self) -> Result<Frozen, Fault> {
        for property in &self.properties {
            if matches!(property.name.as_str(), "RDATE" | "EXRULE") {
                return Err(fault(property.line, format!("{} is not understood; use RRULE and EXDATE", property.name)));
            }
        }
        let Some(begin) = self.only("DTSTART")? else { return Err(fault(self.line, "the event has no DTSTART")) };
        let start = When::read(begin, &begin.value, self.zone)?;
        let length = self.length(&start)?;
        let mut except = BTreeSet::new();
        for property in self.properties.iter().filter(|property| property.name == "EXDATE") {
            for value in property.value.split(',') {
                let when = When::read(property, value, self.zone)?;
                if when.all_day != start.all_day {
                    return Err(fault(property.line, "EXDATE and DTSTART must both be days, or both be times"));
                }
                except.insert(when.instant(property.line)?);
            }
        }
        let rule = self.only("RRULE")?.map(|rule| repeat(rule, &start)).transpose()?;
        let name = self.only("SUMMARY")?.map(|summary| plain(&summary.value)).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "freeze".to_owned());
        Ok(Frozen { name, line: self.line, zone: start.zone, start: start.local, length, rule, except })
    }

    /// How long it takes: in clock time, and in time that passes.
    fn length(&self, start: &When) -> Result<(TimeDelta, TimeDelta), Fault> {
        let none = TimeDelta::zero();
        let (line, length) = match (self.only("DTEND")?, self.only("DURATION")?) {
            (Some(_), Some(second)) => return Err(fault(second.line, "DTEND and DURATION exclude each other")),
            (Some(end), None) => {
                let when = When::read(end, &end.value, self.zone)?;
                let same = when.zone == start.zone;
                let passed = when.instant(end.line)? - start.instant(end.line)?;
                (end.line, if same { (when.local - start.local, none) } else { (none, passed) })
            }
            (None, Some(length)) => (length.line, duration(length)?),
            (None, None) if start.all_day => (self.line, (TimeDelta::days(1), none)),
            (None, None) => return Err(fault(self.line, "the event has no end; give it DTEND or DURATION")),
        };
        let whole = length.0 + length.1;
        if whole <= none || whole > TimeDelta::days(DAYS_MAX) {
            return Err(fault(line, "the event ends before it begins, at once, or never"));
        }
        Ok(length)
    }
}

/// A time as it is written.
struct When {
    local: NaiveDateTime,
    zone: Tz,
    all_day: bool,
}

impl When {
    fn read(property: &Property, value: &str, zone: Tz) -> Result<When, Fault> {
        let line = property.line;
        let zone = property.parameter("TZID").map(|name| zone_of(line, name)).transpose()?.unwrap_or(zone);
        let (local, utc, all_day) = moment(line, value)?;
        if property.parameter("VALUE").is_some_and(|kind| kind.eq_ignore_ascii_case("DATE") != all_day) {
            return Err(fault(line, format!("{value:.40?} is not what VALUE says")));
        }
        Ok(When { local, zone: if utc { Tz::UTC } else { zone }, all_day })
    }

    fn instant(&self, line: usize) -> Result<DateTime<Utc>, Fault> {
        instant(self.zone, self.local).ok_or_else(|| fault(line, "there is no such time"))
    }
}

/// Reads `20261224`, `20261224T180000` or `20261224T180000Z`: clock time, whether it is UTC, whether it is a whole day.
fn moment(line: usize, value: &str) -> Result<(NaiveDateTime, bool, bool), Fault> {
    let value = value.trim();
    let wrong =
        || fault(line, format!("{value:.40?} is not a time such as 20261224T180000Z, nor a day such as 20261224"));
    let (bare, utc) = value.strip_suffix('Z').map_or((value, false), |bare| (bare, true));
    let (day, time) = bare.split_once('T').map_or((bare, None), |(day, time)| (day, Some(time)));
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(day, 8) || time.is_some_and(|time| !digits(time, 6)) || (utc && time.is_none()) {
        return Err(wrong());
    }
    let date = NaiveDate::parse_from_str(day, "%Y%m%d").map_err(|_| wrong())?;
    let clock =
        time.map_or(Ok(NaiveTime::MIN), |time| NaiveTime::parse_from_str(time, "%H%M%S")).map_err(|_| wrong())?;
    if !YEARS.contains(&chrono::Datelike::year(&date)) {
        return Err(fault(line, format!("{value:.40} is not between {} and {}", YEARS.start(), YEARS.end())));
    }
    Ok((date.and_time(clock), utc, time.is_none()))
}

/// When clocks in a zone show a time: the first of two, and for one that they skip what it would have been without the change (RFC
/// 5545, 3.3.5).
fn instant(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Some(time.with_timezone(&Utc)),
        LocalResult::None => (1..=25).find_map(|hours| {
            let before = zone.from_local_datetime(&local.checked_sub_signed(TimeDelta::hours(hours))?).latest()?;
            let offset = before.offset().fix().local_minus_utc();
            Some(local.checked_sub_signed(TimeDelta::seconds(offset.into()))?.and_utc())
        }),
    }
}

/// A zone by its IANA name, also behind a prefix as some programs write it, or by the name that Windows has for it.
fn zone_of(line: usize, name: &str) -> Result<Tz, Fault> {
    let name = name.trim();
    let parts: Vec<&str> = name.rsplitn(3, '/').collect();
    let short = parts.iter().take(2).rev().copied().collect::<Vec<_>>().join("/");
    let known =
        Tz::from_str(name).ok().or_else(|| if name.starts_with('/') { Tz::from_str(&short).ok() } else { None });
    let known = known.or_else(|| WINDOWS.iter().find(|(windows, _)| *windows == name).map(|(_, zone)| *zone));
    known
        .ok_or_else(|| fault(line, format!("the time zone {name:.60?} is not known; use a name such as Europe/Berlin")))
}

/// Reads `P1DT12H` or `P2W`: days are clock time, hours are time that passes.
fn duration(property: &Property) -> Result<(TimeDelta, TimeDelta), Fault> {
    let value = property.value.trim();
    let wrong = || fault(property.line, format!("{value:.40?} is not a duration such as P1D or PT12H"));
    let text = value.trim_start_matches('+').strip_prefix('P').ok_or_else(wrong)?;
    let (days, times) = text.split_once('T').map_or((text, ""), |(days, times)| (days, times));
    let sum = |text: &str, units: &[(char, i64)]| -> Option<TimeDelta> {
        let mut total = 0_i64;
        let mut number = String::new();
        for letter in text.chars() {
            if letter.is_ascii_digit() {
                number.push(letter);
                continue;
            }
            let (_, seconds) = units.iter().find(|(unit, _)| *unit == letter)?;
            total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*seconds)?)?;
            number.clear();
        }
        number.is_empty().then(|| TimeDelta::try_seconds(total.min(2 * DAYS_MAX * 86_400)))?
    };
    let days = sum(days, &[('W', 7 * 86_400), ('D', 86_400)]).ok_or_else(wrong)?;
    let times = sum(times, &[('H', 3600), ('M', 60), ('S', 1)]).ok_or_else(wrong)?;
    Ok((days, times))
}

/// Reads a rule.
fn repeat(property: &Property, start: &When) -> Result<RRuleSet, Fault> {
    let wrong = |what: String| fault(property.line, format!("the rule {:.80} {what}", property.value.trim()));
    let mut kept = Vec::new();
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    for part in property.value.trim().split(';').filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(wrong(format!("has {part:.20?} without a value")));
        };
        let name = name.trim().to_ascii_uppercase();
        if !PARTS.contains(&name.as_str()) {
            return Err(wrong(format!("has {name:.20}, which is not understood")));
        }
        if name != "UNTIL" {
            kept.push(format!("{name}={}", value.trim().to_ascii_uppercase()));
        }
        if parts.insert(name.clone(), value.trim().to_ascii_uppercase()).is_some() {
            return Err(wrong(format!("has {name} twice")));
        }
    }
    let part = |name: &str| parts.get(name).map(String::as_str);
    let often = part("FREQ").unwrap_or("");
    if !matches!(often, "DAILY" | "WEEKLY" | "MONTHLY" | "YEARLY") {
        return Err(wrong("does not repeat DAILY, WEEKLY, MONTHLY or YEARLY".to_owned()));
    }
    if part("COUNT").is_some() && part("UNTIL").is_some() {
        return Err(wrong("has both COUNT and UNTIL".to_owned()));
    }
    if ["COUNT", "INTERVAL"]
        .into_iter()
        .filter_map(part)
        .any(|number| number.parse::<u16>().is_ok_and(|number| number == 0))
    {
        return Err(wrong("repeats nothing: a number is 0".to_owned()));
    }
    let counted = part("BYDAY").is_some_and(|days| days.bytes().any(|byte| byte.is_ascii_digit()));
    if counted && matches!(often, "DAILY" | "WEEKLY") {
        return Err(wrong("counts days of a month, and repeats more often".to_owned()));
    }
    let mut rule =
        RRule::<Unvalidated>::from_str(&kept.join(";")).map_err(|what| wrong(format!("is not understood: {what}")))?;
    let as_written = |local: NaiveDateTime| local.and_utc().with_timezone(&rrule::Tz::UTC);
    if let Some(until) = part("UNTIL") {
        let (local, utc, all_day) = moment(property.line, until)?;
        let local = if utc { local.and_utc().with_timezone(&start.zone).naive_local() } else { local };
        // The whole of a last day belongs to it.
        let local = if all_day { local + Days::new(1) - TimeDelta::seconds(1) } else { local };
        rule = rule.until(as_written(local));
    }
    let set = rule.build(as_written(start.local)).map_err(|what| wrong(format!("is not understood: {what}")))?.limit();
    if (&set).into_iter().next().is_none() {
        return Err(wrong("never takes place".to_owned()));
    }
    Ok(set)
}

/// Text without its escapes, on one line (RFC 5545, 3.3.11).
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n' | 'N') => out.push(' '),
                Some(other) => out.push(other),
                None => {}
            },
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn calendar(events: &[&str]) -> String {
        let events: Vec<String> = events.iter().map(|event| format!("BEGIN:VEVENT\n{event}\nEND:VEVENT\n")).collect();
        format!("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{}END:VCALENDAR\n", events.concat())
    }

    fn one(event: &str) -> Frozen {
        parse(&calendar(&[event])).unwrap().remove(0)
    }

    fn refused(event: &str) -> String {
        parse(&calendar(&[event])).unwrap_err().to_string()
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}:00Z")).unwrap().with_timezone(&Utc)
    }

    /// Until when it is frozen at each of these times, `-` where it is not.
    fn states(frozen: &Frozen, times: &[&str]) -> Vec<String> {
        let state =
            |time: &&str| frozen.active(at(time)).map_or("-".to_owned(), |end| end.format("%FT%H:%M").to_string());
        times.iter().map(state).collect()
    }

    /// When it begins, so many times from a time on.
    fn begins(frozen: &Frozen, from: &str, count: usize) -> Vec<String> {
        let mut now = at(from);
        let next = || {
            now = frozen.next(now)?;
            Some(now.format("%FT%H:%M").to_string())
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn an_event_in_utc_freezes_from_its_start_until_its_end() {
        let frozen = one("SUMMARY:Inventory\\, part 1\\nof 2\nDTSTART:20261224T180000Z\nDTEND:20261227T060000Z");
        assert_eq!((frozen.name.as_str(), frozen.line), ("Inventory, part 1 of 2", 4));
        let times = ["2026-12-24T17:59", "2026-12-24T18:00", "2026-12-27T05:59", "2026-12-27T06:00"];
        assert_eq!(states(&frozen, &times), ["-", "2026-12-27T06:00", "2026-12-27T06:00", "-"]);
        assert_eq!(begins(&frozen, "2026-01-01T00:00", 3), ["2026-12-24T18:00"]);
    }

    #[test]
    fn whole_days_are_in_the_zone_of_the_calendar() {
        let event = "DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227";
        assert_eq!(states(&one(event), &["2026-12-24T00:00", "2026-12-23T23:30"]), ["2026-12-27T00:00", "-"]);
        let zoned = calendar(&[event]).replace("PRODID:x", "X-WR-TIMEZONE:Europe/Berlin");
        let frozen = parse(&zoned).unwrap().remove(0);
        assert_eq!(states(&frozen, &["2026-12-23T23:30", "2026-12-26T23:00"]), ["2026-12-26T23:00", "-"]);
        let single = one("DTSTART;VALUE=DATE:20261224");
        assert_eq!(states(&single, &["2026-12-24T12:00"]), ["2026-12-25T00:00"]);
    }

    #[test]
    fn zones_have_many_names() {
        for zone in
            ["Europe/Berlin", "\"Europe/Berlin\"", "W. Europe Standard Time", "/mozilla.org/20050126_1/Europe/Berlin"]
        {
            let frozen = one(&format!("DTSTART;TZID={zone}:20260701T080000\nDURATION:PT1H30M"));
            assert_eq!(states(&frozen, &["2026-07-01T06:00"]), ["2026-07-01T07:30"], "{zone}");
        }
        assert_eq!(
            refused("DTSTART;TZID=Custom 1:20260701T080000\nDURATION:PT1H"),
            "line 5: the time zone \"Custom 1\" is not known; use a name such as Europe/Berlin"
        );
    }

    #[test]
    fn a_weekend_that_repeats_keeps_its_clock_time_when_the_clocks_change() {
        let frozen = one(
            "DTSTART;TZID=Europe/Berlin:20260102T180000\nDTEND;TZID=Europe/Berlin:20260105T080000\nRRULE:FREQ=WEEKLY;BYDAY=FR",
        );
        let times =
            ["2026-03-27T17:00", "2026-03-27T16:59", "2026-03-30T05:59", "2026-03-30T06:00", "2026-07-03T16:00"];
        assert_eq!(states(&frozen, &times), ["2026-03-30T06:00", "-", "2026-03-30T06:00", "-", "2026-07-06T06:00"]);
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_not_lost() {
        let frozen = one("DTSTART;TZID=Europe/Berlin:20260328T023000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3");
        assert_eq!(
            begins(&frozen, "2026-01-01T00:00", 9),
            ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]
        );
    }

    #[test]
    fn rules_repeat_as_they_say() {
        let rule = |start: &str, rule: &str| {
            begins(&one(&format!("DTSTART:{start}\nDURATION:PT1H\nRRULE:{rule}")), "2026-01-01T00:00", 4)
        };
        assert_eq!(
            rule("20260105T100000Z", "FREQ=DAILY;INTERVAL=2;COUNT=3"),
            ["2026-01-05T10:00", "2026-01-07T10:00", "2026-01-09T10:00"]
        );
        assert_eq!(
            rule("20260105T100000Z", "FREQ=DAILY;UNTIL=20260106T100000Z"),
            ["2026-01-05T10:00", "2026-01-06T10:00"]
        );
        assert_eq!(rule("20260105T100000Z", "FREQ=DAILY;UNTIL=20260106"), ["2026-01-05T10:00", "2026-01-06T10:00"]);
        assert_eq!(
            rule("20260105T100000Z", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU"),
            ["2026-01-05T10:00", "2026-01-07T10:00", "2026-01-19T10:00", "2026-01-21T10:00"]
        );
        assert_eq!(
            rule("20260130T100000Z", "FREQ=MONTHLY;BYDAY=-1FR"),
            ["2026-01-30T10:00", "2026-02-27T10:00", "2026-03-27T10:00", "2026-04-24T10:00"]
        );
        assert_eq!(
            rule("20260131T100000Z", "FREQ=MONTHLY"),
            ["2026-01-31T10:00", "2026-03-31T10:00", "2026-05-31T10:00", "2026-07-31T10:00"]
        );
        assert_eq!(
            rule("20261126T100000Z", "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"),
            ["2026-11-26T10:00", "2027-11-25T10:00", "2028-11-23T10:00", "2029-11-22T10:00"]
        );
        assert_eq!(
            rule("20240229T100000Z", "FREQ=YEARLY"),
            ["2028-02-29T10:00", "2032-02-29T10:00", "2036-02-29T10:00", "2040-02-29T10:00"]
        );
    }

    #[test]
    fn a_last_day_is_meant_in_the_zone_of_the_event() {
        let frozen = one(
            "DTSTART;TZID=America/New_York:20260105T200000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20260107T010000Z",
        );
        assert_eq!(begins(&frozen, "2026-01-01T00:00", 9), ["2026-01-06T01:00", "2026-01-07T01:00"]);
    }

    #[test]
    fn exceptions_and_changed_repetitions_do_not_take_place() {
        let master = "UID:a\nDTSTART;TZID=Europe/Berlin:20260105T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=5\nEXDATE;TZID=Europe/Berlin:20260106T100000,20260107T100000";
        assert_eq!(
            begins(&one(master), "2026-01-01T00:00", 9),
            ["2026-01-05T09:00", "2026-01-08T09:00", "2026-01-09T09:00"]
        );
        let moved = "UID:a\nRECURRENCE-ID;TZID=Europe/Berlin:20260108T100000\nDTSTART:20260108T200000Z\nDURATION:PT2H";
        let cancelled = "UID:a\nSTATUS:CANCELLED\nRECURRENCE-ID:20260109T090000Z\nDTSTART:20260109T090000Z";
        let all = parse(&calendar(&[master, moved, cancelled])).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(begins(&all[0], "2026-01-01T00:00", 9), ["2026-01-05T09:00"]);
        assert_eq!(states(&all[1], &["2026-01-08T21:00"]), ["2026-01-08T22:00"]);
    }

    #[test]
    fn days_that_follow_one_another_are_one_freeze() {
        let frozen = one("DTSTART;VALUE=DATE:20261221\nRRULE:FREQ=DAILY;COUNT=5");
        assert_eq!(states(&frozen, &["2026-12-22T10:00"]), ["2026-12-26T00:00"]);
        let always = one("DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=DAILY");
        assert!(always.active(at("2026-01-01T10:00")).unwrap() > at("2027-01-01T00:00"));
    }

    #[test]
    fn cancelled_events_alarms_and_zones_of_their_own_do_not_matter() {
        let text = "BEGIN:VCALENDAR\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\nBEGIN:STANDARD\r\nDTSTART:16010101T030000\r\nRRULE:FREQ=YEARLY;BYHOUR=3\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nSTATUS:CANCELLED\r\nDTSTART:20260101T000000Z\r\nRRULE:FREQ=HOURLY\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nDTSTART;TZID=Europe/Berl\r\n in:20260101T000000\r\nDURATION:P1D\r\nSUMMARY;LANGUAGE=\"a:b;c\":New\r\n  Year\r\nBEGIN:VALARM\r\nDURATION:PT5M\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name.as_str(), all[0].line), ("New Year", 14));
        assert_eq!(states(&all[0], &["2025-12-31T23:00", "2026-01-01T23:00"]), ["2026-01-01T23:00", "-"]);
    }

    #[test]
    fn what_is_not_understood_is_a_fault_with_its_line() {
        let begin = "DTSTART:20260101T000000Z\nDURATION:PT1H";
        let cases = [
            (format!("{begin}\nRRULE:FREQ=HOURLY"), "line 7: the rule FREQ=HOURLY does not repeat"),
            (format!("{begin}\nRRULE:FREQ=DAILY;BYHOUR=3"), "which is not understood"),
            (format!("{begin}\nRRULE:FREQ=DAILY;COUNT=0"), "a number is 0"),
            (format!("{begin}\nRRULE:FREQ=DAILY;INTERVAL=x"), "is not understood"),
            (format!("{begin}\nRRULE:FREQ=DAILY;COUNT=3;UNTIL=20270101"), "both COUNT and UNTIL"),
            (format!("{begin}\nRRULE:FREQ=WEEKLY;BYDAY=1MO"), "counts days of a month"),
            (format!("{begin}\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "never takes place"),
            (format!("{begin}\nRRULE:FREQ=DAILY;UNTIL=20250101"), "is not understood"),
            (format!("{begin}\nRRULE:FREQ=DAILY\nRRULE:FREQ=DAILY"), "line 8: RRULE stands there twice"),
            (format!("{begin}\nRDATE:20260201T000000Z"), "RDATE is not understood"),
            (format!("{begin}\nEXDATE;VALUE=DATE:20260101"), "both be days"),
            (format!("{begin}\nDTEND:20260102T000000Z"), "exclude each other"),
            (format!("{begin}\nnonsense"), "is not NAME:value"),
            (format!("{begin}\nUID:a\nRECURRENCE-ID;RANGE=THISANDFUTURE:20260101T000000Z"), "RANGE is not understood"),
            ("SUMMARY:x".to_owned(), "line 4: the event has no DTSTART"),
            ("DTSTART:20260101T000000Z".to_owned(), "has no end"),
            ("DTSTART:20260101T000000Z\nDTEND:20260101T000000Z".to_owned(), "ends before it begins, at once"),
            ("DTSTART:20260230\nDURATION:P1D".to_owned(), "is not a time"),
            ("DTSTART;VALUE=DATE:20260203T100000\nDURATION:P1D".to_owned(), "not what VALUE says"),
            ("DTSTART:99990101\nDURATION:P1D".to_owned(), "is not between"),
            ("DTSTART:20260101\nDURATION:-P1D".to_owned(), "is not a duration"),
            ("DTSTART:20260101\nDURATION:P99999999999999999999D".to_owned(), "is not a duration"),
            ("DTSTART:20260101\nDURATION:P9999999999D".to_owned(), "or never"),
        ];
        for (event, words) in cases {
            let said = refused(&event);
            assert!(said.contains(words), "{event}\n{said}");
        }
    }

    #[test]
    fn a_file_that_is_no_calendar_or_ends_early_is_refused() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert!(said("").contains("not a calendar") && said("<html>").contains("NAME:value"));
        assert!(said("BEGIN:VEVENT\nEND:VEVENT").contains("does not belong here"));
        assert!(said("BEGIN:VCALENDAR\nBEGIN:VEVENT\n").contains("ends in the middle"));
        assert!(said("BEGIN:VCALENDAR\nEND:VEVENT\n").contains("ends nothing"));
        assert!(said("SUMMARY:x").contains("begins with BEGIN:VCALENDAR"));
        assert!(said(&"x".repeat(FILE_MAX + 1)).contains("longer than"));
        assert_eq!(parse("BEGIN:VCALENDAR\nEND:VCALENDAR").unwrap().len(), 0);
    }

    #[test]
    fn a_rule_that_is_old_or_fills_a_lifetime_is_followed_in_time() {
        let began = Instant::now();
        let daily = one("DTSTART:19700101T000000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY");
        assert_eq!(states(&daily, &["2026-11-21T00:30"]), ["2026-11-21T01:00"]);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn whatever_a_file_holds_it_is_read_or_refused(lines in proptest::collection::vec(
            "(DTSTART|DTEND|EXDATE|RECURRENCE-ID)(;VALUE=DATE|;TZID=Europe/Berlin|)[:;](19|20|21)[0-9]{2}(01|02|12)[0-3][0-9](T[0-2][0-9]0000Z?|)|DURATION:P[0-9]{1,12}[WDTHMS]|RRULE:FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(;(COUNT|INTERVAL|BYMONTHDAY|BYMONTH|BYSETPOS)=-?[0-9]{1,5}|;BYDAY=-?[0-9]{0,2}(MO|SU)|;UNTIL=20300101){0,3}|UID:[ab]|BEGIN:VALARM|END:VALARM|.{0,20}", 0..6))
        {
            if let Ok(all) = parse(&calendar(&[&lines.join("\n")])) {
                for frozen in all {
                    let now = at("2026-11-21T00:30");
                    prop_assert!(frozen.active(now).is_none_or(|end| end > now));
                    prop_assert!(frozen.next(now).is_none_or(|start| start > now));
                }
            }
        }

        #[test]
        fn a_rule_that_is_taken_gives_times_in_order(rule in "FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(;(COUNT|INTERVAL)=[1-9][0-9]{0,3}|;BYMONTHDAY=-?[1-3][0-9]?|;BYMONTH=1?[0-2]|;BYDAY=-?[1-5]?(MO|SU)|;BYSETPOS=-?[1-4]|;WKST=SU){0,3}", day in "20[0-4][0-9](01|02|12)[0-2][1-8]") {
            let event = format!("DTSTART;TZID=America/New_York:{day}T023000\nDURATION:P1D\nRRULE:{rule}");
            if let Ok(all) = parse(&calendar(&[&event])) {
                let times: Vec<_> = all[0].times().take(20).collect();
                prop_assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0), "{rule}: {times:?}");
                for (start, end) in times.iter().take(3) {
                    prop_assert!(all[0].active(*start) >= Some(*end));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_frozen_exactly_between_start_and_end(day in 0i64..20_000, minute in 0i64..1440, length in 1i64..10_000, off in 0i64..10_000) {
            let start = at("1990-01-01T00:00") + TimeDelta::days(day) + TimeDelta::minutes(minute);
            let frozen = one(&format!("DTSTART:{}\nDURATION:PT{length}M", start.format("%Y%m%dT%H%M%SZ")));
            let end = start + TimeDelta::minutes(length);
            let inside = off < length;
            prop_assert_eq!(frozen.active(start + TimeDelta::minutes(off)), inside.then_some(end));
            prop_assert_eq!(frozen.active(start - TimeDelta::seconds(1)), None);
        }
    }
}
