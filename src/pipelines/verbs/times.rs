//! Words and times as people type them: `2h`, `today`, `Mon 08:00`.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};

use crate::pipelines::run::Millis;

/// A day in milliseconds.
pub(super) const DAY: Millis = 86_400_000;
/// An hour in milliseconds.
pub(super) const HOUR: Millis = 3_600_000;

/// The first word and the rest.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(first, rest)| (first, rest.trim()))
}

/// How long something is to last.
pub(super) fn duration(text: &str) -> Option<Millis> {
    let time = humantime_serde::re::humantime::parse_duration(text).ok()?;
    Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4))
}

/// A time at the beginning of a text, if there is one.
pub(super) fn timed(text: &str) -> (Option<Millis>, &str) {
    let (first, rest) = split(text);
    match duration(first) {
        Some(time) => (Some(time), rest),
        None => (None, text),
    }
}

/// The moment that is meant by `today` or by a time before now.
pub(super) fn since(now: Millis, text: &str, default: Millis) -> Millis {
    match text {
        "today" => now - now.rem_euclid(DAY),
        text => now - duration(text).unwrap_or(default),
    }
}

/// The next moment that is meant by `08:00`, `Mon 08:00` or `2026-03-02 08:00`, in UTC.
pub(super) fn moment_of(now: DateTime<Utc>, when: &str) -> Option<Millis> {
    let (day, time) = when.rsplit_once(' ').map_or(("", when), |(day, time)| (day.trim(), time));
    let time = NaiveTime::parse_from_str(time, "%H:%M").ok()?;
    if let Ok(date) = day.parse::<NaiveDate>() {
        let at = Utc.from_utc_datetime(&date.and_time(time));
        return (at > now).then(|| at.timestamp_millis());
    }
    let weekday = if day.is_empty() { None } else { Some(day.parse::<Weekday>().ok()?) };
    let days = (0..=7).map(|ahead| now.date_naive() + chrono::Duration::days(ahead));
    let mut fitting = days.filter(|date| weekday.is_none_or(|weekday| date.weekday() == weekday));
    let at = fitting.find_map(|date| Some(Utc.from_utc_datetime(&date.and_time(time))).filter(|at| *at > now))?;
    Some(at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_has_a_clock_and_may_have_a_day() {
        // A Friday.
        let now = DateTime::parse_from_rfc3339("2026-02-27T09:30:00Z").unwrap().to_utc();
        let told = |when: &str| moment_of(now, when).map(|at| crate::pipelines::words::moment(at, 0));
        assert_eq!(told("10:00").as_deref(), Some("2026-02-27 10:00 UTC"));
        assert_eq!(told("09:30").as_deref(), Some("2026-02-28 09:30 UTC"));
        assert_eq!(told("Mon 08:00").as_deref(), Some("2026-03-02 08:00 UTC"));
        assert_eq!(told("fri 09:00").as_deref(), Some("2026-03-06 09:00 UTC"));
        assert_eq!(told("2026-03-09 08:00").as_deref(), Some("2026-03-09 08:00 UTC"));
        for wrong in ["2026-02-01 08:00", "someday 08:00", "25:00", ""] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
    }
}
