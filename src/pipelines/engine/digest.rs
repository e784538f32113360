//! Once a day: what ran without a word. Runs that the clock starts tell of failures and recoveries only; of the rest this does.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};

use super::{Engine, Live};
use crate::pipelines::run::Millis;
use crate::pipelines::state::RunState;
use crate::pipelines::words::{self, Day};

/// So far back it looks.
const DAY: Millis = 86_400_000;

impl Engine {
    /// Tells it, if it is time. What was due while the bot was away is left out: it would be about another day.
    pub(super) fn digest(&mut self) {
        if self.digest_at.is_some_and(|at| at > self.now) {
            return;
        }
        let Some(time) = self.settings.digest() else {
            self.digest_at = Some(Millis::MAX);
            return;
        };
        let due = self.digest_at.is_some();
        let now = DateTime::from_timestamp_millis(self.now).unwrap_or_default();
        let today = now.date_naive().and_time(time).and_utc();
        let next = if today > now { today } else { today + TimeDelta::days(1) };
        self.digest_at = Some(next.timestamp_millis());
        if !due {
            return;
        }
        for (target, days) in self.days() {
            let key = format!("digest:{}:{target}", self.now);
            self.outbox(0, key, target, &words::digest(&days), false);
        }
    }

    /// What ran in the last day, by where it is talked about; only where something ran without a word.
    fn days(&self) -> BTreeMap<String, Vec<Day>> {
        let since = self.now - DAY;
        let mut all: BTreeMap<String, BTreeMap<String, Day>> = BTreeMap::new();
        let ended = |live: &&Live| live.run.finished.is_some_and(|at| at > since) && live.run.state.ended();
        for live in self.runs.values().filter(ended) {
            let run = &live.run;
            for target in &run.places {
                let day = all.entry(target.clone()).or_default().entry(run.place()).or_default();
                day.place = run.place();
                match run.state {
                    RunState::Succeeded if run.lines == 0 => day.unsaid += 1,
                    RunState::Succeeded => day.well += 1,
                    RunState::Cancelled | RunState::Rejected | RunState::Expired => {}
                    _ => day.failed.push(run.number),
                }
            }
        }
        all.into_iter()
            .map(|(target, days)| (target, days.into_values().filter(|day| day.unsaid > 0).collect::<Vec<_>>()))
            .filter(|(_, days)| !days.is_empty())
            .collect()
    }
}
