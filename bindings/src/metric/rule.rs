//! The engine: what a series was, what it is now, and whether that is worth an event. Prometheus' own alerts are the model
//! (pending until `for` has passed, resolved), with a threshold of its own for being over.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::mask::{NoData, Rule};

/// The labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

/// What a series is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    #[default]
    Ok,
    /// The threshold is crossed, but not for long enough.
    Pending,
    Firing,
    /// It is over, but not for long enough.
    Clearing,
    /// It is gone, and that is an alarm.
    NoData,
}

/// What is remembered of a series over restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) phase: Phase,
    /// Since when it is that.
    since: DateTime<Utc>,
    /// Since when it fires, if it does.
    fired: Option<DateTime<Utc>>,
    pub(super) labels: Labels,
    /// As it is now; not worth remembering.
    #[serde(skip)]
    value: f64,
}

/// Something worth an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// `firing`, `resolved`, `nodata`.
    pub(super) state: &'static str,
    /// What it was before, in the same words.
    pub(super) before: &'static str,
    pub(super) labels: Labels,
    pub(super) value: f64,
    /// Since when what fires, fires.
    pub(super) since: DateTime<Utc>,
}

/// All series of a rule, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    series: BTreeMap<String, Series>,
}

fn name(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    parts.join(",")
}

fn passed(since: DateTime<Utc>, now: DateTime<Utc>, time: Duration) -> bool {
    now - since >= TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

impl Known {
    /// Takes a look at the world: the series there are, with their values. What changes is told; the rest is remembered.
    pub(super) fn look(&mut self, rule: &Rule, found: Vec<(Labels, f64)>, now: DateTime<Utc>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen = HashSet::new();
        let nothing = found.is_empty();
        for (labels, value) in found {
            let name = name(&labels);
            let series = self.series.entry(name.clone()).or_insert_with(|| Series {
                phase: Phase::Ok,
                since: now,
                fired: None,
                labels,
                value,
            });
            series.value = value;
            changes.extend(series.step(rule, now));
            seen.insert(name);
        }
        for (name, series) in &mut self.series {
            if name.is_empty() && series.phase == Phase::NoData && !nothing && !seen.contains(name) {
                // The alarm that there was nothing at all: there is something again.
                changes.extend(series.step(rule, now));
            } else if !seen.contains(name) {
                changes.extend(series.gone(rule, now));
            }
        }
        if nothing && rule.nodata == NoData::Fire && self.series.is_empty() {
            let mut series =
                Series { phase: Phase::Ok, since: now, fired: None, labels: Labels::new(), value: f64::NAN };
            changes.extend(series.gone(rule, now));
            self.series.insert(String::new(), series);
        }
        // What is well and not there any more need not be remembered.
        self.series.retain(|name, series| seen.contains(name) || series.phase != Phase::Ok);
        changes
    }

    /// What is not simply well, with what it is and since when.
    pub(super) fn troubled(&self) -> impl Iterator<Item = (&String, Phase, DateTime<Utc>)> {
        let troubled = self.series.iter().filter(|(_, series)| series.phase != Phase::Ok);
        troubled.map(|(name, series)| (name, series.phase, series.since))
    }

    /// Series that fire now.
    pub(super) fn firing(&self) -> usize {
        self.series.values().filter(|series| matches!(series.phase, Phase::Firing | Phase::Clearing)).count()
    }
}

impl Series {
    fn is(&mut self, phase: Phase, now: DateTime<Utc>) {
        (self.phase, self.since) = (phase, now);
    }

    fn step(&mut self, rule: &Rule, now: DateTime<Utc>) -> Option<Change> {
        let over = rule.cmp.holds(self.value, rule.threshold);
        let well = match rule.clear {
            Some((cmp, value)) => cmp.holds(self.value, value),
            // What is no number says nothing, in neither direction.
            None => !over && !self.value.is_nan(),
        };
        match self.phase {
            Phase::NoData => {
                self.is(Phase::Ok, now);
                let back = self.change("resolved", "nodata", now);
                self.fired = None;
                if over && rule.hold.is_zero() {
                    return self.fire(now);
                }
                if over {
                    self.is(Phase::Pending, now);
                }
                Some(back)
            }
            Phase::Ok if over && rule.hold.is_zero() => self.fire(now),
            Phase::Ok if over => {
                self.is(Phase::Pending, now);
                None
            }
            Phase::Ok => None,
            Phase::Pending if !over => {
                self.is(Phase::Ok, now);
                None
            }
            Phase::Pending if passed(self.since, now, rule.hold) => self.fire(now),
            Phase::Pending => None,
            Phase::Firing if well && rule.clear_hold.is_zero() => self.resolve(now),
            Phase::Firing if well => {
                self.is(Phase::Clearing, now);
                None
            }
            Phase::Firing => None,
            Phase::Clearing if !well => {
                self.is(Phase::Firing, now);
                None
            }
            Phase::Clearing if passed(self.since, now, rule.clear_hold) => self.resolve(now),
            Phase::Clearing => None,
        }
    }

    fn gone(&mut self, rule: &Rule, now: DateTime<Utc>) -> Option<Change> {
        match (rule.nodata, self.phase) {
            (NoData::Keep, Phase::Pending) => {
                self.is(Phase::Ok, now);
                None
            }
            (NoData::Keep, _) | (_, Phase::NoData) => None,
            (NoData::Ok, Phase::Firing | Phase::Clearing) => self.resolve(now),
            (NoData::Ok, _) => {
                self.is(Phase::Ok, now);
                None
            }
            (NoData::Fire, phase) => {
                let before = if matches!(phase, Phase::Firing | Phase::Clearing) { "firing" } else { "ok" };
                self.is(Phase::NoData, now);
                self.fired = Some(now);
                Some(self.change("nodata", before, now))
            }
        }
    }

    fn fire(&mut self, now: DateTime<Utc>) -> Option<Change> {
        self.is(Phase::Firing, now);
        self.fired = Some(now);
        Some(self.change("firing", "ok", now))
    }

    fn resolve(&mut self, now: DateTime<Utc>) -> Option<Change> {
        self.is(Phase::Ok, now);
        let change = self.change("resolved", "firing", now);
        self.fired = None;
        Some(change)
    }

    fn change(&self, state: &'static str, before: &'static str, now: DateTime<Utc>) -> Change {
        Change { state, before, labels: self.labels.clone(), value: self.value, since: self.fired.unwrap_or(now) }
    }
}

impl Change {
    /// The same for the same change, also when it is seen again after a restart.
    pub(super) fn key(&self) -> String {
        format!("{} {} {}", name(&self.labels), self.state, self.since.timestamp_micros())
    }

    /// One line for people.
    pub(super) fn words(&self, rule: &Rule) -> String {
        let labels = name(&self.labels);
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match self.state {
            "nodata" => format!("NODATA {}{labels}", rule.query),
            state => format!(
                "{} {}{labels} is {} ({} {})",
                state.to_uppercase(),
                rule.query,
                self.value,
                rule.cmp.sign(),
                rule.threshold
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a minute; gives what is told, with the minute.
    fn told(mask: &str, values: &[Option<f64>]) -> Vec<(usize, &'static str)> {
        let rule = Rule::parse(mask).unwrap();
        let mut known = Known::default();
        let mut out = Vec::new();
        for (minute, value) in values.iter().enumerate() {
            let now = DateTime::UNIX_EPOCH + TimeDelta::minutes(minute as i64);
            let found = value.map(|value| (Labels::new(), value)).into_iter().collect();
            let changes = known.look(&rule, found, now);
            out.extend(changes.iter().map(|change| (minute, change.state)));
            // As if it had been restarted in between.
            known = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        }
        out
    }

    #[test]
    fn it_fires_once_and_resolves_once() {
        assert_eq!(told("prometheus:a>5", &[1.0, 6.0, 7.0, 8.0, 2.0, 1.0].map(Some)), [(1, "firing"), (4, "resolved")]);
    }

    #[test]
    fn a_peak_shorter_than_for_is_no_alarm_and_the_time_goes_on_over_a_restart() {
        assert_eq!(
            told("prometheus:a>5 for 3m", &[6.0, 6.0, 1.0, 6.0, 6.0, 6.0, 6.0, 1.0].map(Some)),
            [(6, "firing"), (7, "resolved")]
        );
    }

    #[test]
    fn a_hundred_thousand_series_take_a_moment_and_no_minute() {
        let rule = Rule::parse("prometheus:a>5").unwrap();
        let series = |value: f64| {
            let labels =
                |number| Labels::from([("instance".to_owned(), format!("a-host-of-a-long-name-{number}:9100"))]);
            (0..100_000).map(|number| (labels(number), value)).collect::<Vec<_>>()
        };
        let (mut known, began) = (Known::default(), std::time::Instant::now());
        let told = [6.0, 1.0].map(|value| known.look(&rule, series(value), DateTime::UNIX_EPOCH).len());
        assert_eq!((told, known.look(&rule, Vec::new(), DateTime::UNIX_EPOCH).len()), ([100_000; 2], 0));
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[test]
    fn between_the_two_thresholds_nothing_changes() {
        let values = [11.0, 7.0, 11.0, 4.0, 7.0, 4.0, 4.0, 4.0].map(Some);
        assert_eq!(told("prometheus:a>10 clear <5 for 2m", &values), [(0, "firing"), (7, "resolved")]);
    }

    #[test]
    fn a_series_that_is_gone_is_what_the_mask_says() {
        let values = [Some(6.0), None, None, Some(6.0), Some(1.0)];
        assert_eq!(told("prometheus:a>5", &values), [(0, "firing"), (4, "resolved")]);
        assert_eq!(
            told("prometheus:a>5 nodata ok", &values),
            [(0, "firing"), (1, "resolved"), (3, "firing"), (4, "resolved")]
        );
        assert_eq!(
            told("prometheus:a>5 nodata fire", &values),
            [(0, "firing"), (1, "nodata"), (3, "firing"), (4, "resolved")]
        );
        assert_eq!(told("prometheus:a>5 nodata fire", &[None, None, Some(1.0)]), [(0, "nodata"), (2, "resolved")]);
        let rule = Rule::parse("prometheus:a>5 nodata fire").unwrap();
        let mut known = Known::default();
        assert_eq!(known.look(&rule, Vec::new(), DateTime::UNIX_EPOCH)[0].state, "nodata");
        let back =
            known.look(&rule, vec![(Labels::from([("host".to_owned(), "a".to_owned())]), 1.0)], DateTime::UNIX_EPOCH);
        assert_eq!((back.len(), back[0].state), (1, "resolved"), "any series ends the alarm that there was none");
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        assert_eq!(told("prometheus:a>5", &[6.0, f64::NAN, 6.0, 1.0].map(Some)), [(0, "firing"), (3, "resolved")]);
    }

    #[test]
    fn each_series_is_on_its_own() {
        let rule = Rule::parse("prometheus:a>5").unwrap();
        let of = |host: &str, value: f64| (Labels::from([("host".to_owned(), host.to_owned())]), value);
        let mut known = Known::default();
        let changes = known.look(&rule, vec![of("a", 6.0), of("b", 1.0)], DateTime::UNIX_EPOCH);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].words(&rule), "FIRING a{host=\"a\"} is 6 (> 5)");
        assert_eq!(known.firing(), 1);
    }
}
