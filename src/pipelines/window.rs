//! Windows: times of the week when something may run.

use chrono::{DateTime, Datelike, Duration, NaiveTime, TimeZone, Utc, Weekday};
use chrono_tz::Tz;

/// Some hours on some days of the week, in a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The days on which it opens, Monday first.
    pub days: [bool; 7],
    /// When it opens.
    pub from: NaiveTime,
    /// When it closes; on the next day if that is not later.
    pub to: NaiveTime,
    /// Whose clock counts.
    pub tz: Tz,
}

impl Window {
    /// Whether it is open, and until when.
    pub fn open(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(&self.tz).date_naive();
        let spans = [today - Duration::days(1), today].into_iter().filter_map(|day| self.span(day));
        spans.filter(|(from, to)| *from <= now && now < *to).map(|(_, to)| to).max()
    }

    /// When it opens next, after now.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(&self.tz).date_naive();
        (0..=8)
            .filter_map(|ahead| self.span(today + Duration::days(ahead)))
            .map(|(from, _)| from)
            .find(|from| *from > now)
    }

    /// From when to when it is open if it opens on this day.
    fn span(&self, day: chrono::NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        if !self.days[day.weekday().num_days_from_monday() as usize] {
            return None;
        }
        let last = if self.to > self.from { day } else { day + Duration::days(1) };
        Some((self.moment(day, self.from)?, self.moment(last, self.to)?))
    }

    /// A moment of the zone's clock; where the clock is set forward over it, the first that exists.
    fn moment(&self, day: chrono::NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
        let wanted = day.and_time(time);
        (0..=4)
            .find_map(|halves| self.tz.from_local_datetime(&(wanted + Duration::minutes(30 * halves))).earliest())
            .map(|at| at.to_utc())
    }
}

/// Reads days: `mon-fri`, `sat,sun`, `mon-wed,fri`, `daily`.
pub(super) fn days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',').map(str::trim) {
        if part == "daily" {
            return Some([true; 7]);
        }
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let index = |name: &str| name.trim().parse::<Weekday>().ok().map(|day| day.num_days_from_monday() as usize);
        let (from, to) = (index(from)?, index(to)?);
        let mut day = from;
        loop {
            days[day] = true;
            if day == to {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Some(days)
}

/// Until when some window is open; `None` if all are closed. Without windows it is always open, until `now`.
pub(super) fn open(windows: &[Window], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if windows.is_empty() { Some(now) } else { windows.iter().filter_map(|window| window.open(now)).max() }
}

/// The window that is open then, or the next one: from when to when.
pub(super) fn after(windows: &[Window], at: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    if let Some(until) = windows.iter().filter_map(|window| window.open(at)).max() {
        return Some((at, until));
    }
    let from = next(windows, at)?;
    Some((from, open(windows, from)?))
}

/// When the next window opens.
pub(super) fn next(windows: &[Window], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    windows.iter().filter_map(|window| window.next(now)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn window(text: &str, from: &str, to: &str, tz: &str) -> Window {
        Window {
            days: days(text).unwrap(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            tz: tz.parse().unwrap(),
        }
    }

    #[test]
    fn a_window_is_open_on_its_days_between_its_hours() {
        let office = window("mon-fri", "08:00:00", "16:00:00", "UTC");
        // 2026-03-02 is a Monday.
        assert_eq!(office.open(at("2026-03-02T08:00:00Z")), Some(at("2026-03-02T16:00:00Z")));
        assert_eq!(office.open(at("2026-03-02T16:00:00Z")), None);
        assert_eq!(office.next(at("2026-03-06T16:00:00Z")), Some(at("2026-03-09T08:00:00Z")));
        assert_eq!(office.next(at("2026-03-02T07:00:00Z")), Some(at("2026-03-02T08:00:00Z")));
    }

    #[test]
    fn a_window_may_pass_midnight_and_belongs_to_the_day_it_opens_on() {
        let night = window("fri", "22:00:00", "04:00:00", "UTC");
        assert_eq!(night.open(at("2026-03-07T03:59:00Z")), Some(at("2026-03-07T04:00:00Z")));
        assert_eq!(night.open(at("2026-03-06T03:00:00Z")), None);
    }

    #[test]
    fn the_zone_keeps_its_own_summer() {
        let berlin = window("daily", "08:00:00", "09:00:00", "Europe/Berlin");
        assert!(berlin.open(at("2026-03-28T07:30:00Z")).is_some());
        assert!(berlin.open(at("2026-03-30T06:30:00Z")).is_some());
        assert_eq!(days("sat-mon"), Some([true, false, false, false, false, true, true]));
        assert_eq!(days("someday"), None);
    }
}
