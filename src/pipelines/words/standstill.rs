//! What is said of runs that stand still: paused, before a window; and of what ran without a word.

use super::format::{cut, minutes, moment, quiet, span};
use super::listed;
use crate::pipelines::run::{Millis, Run};

/// Somebody paused a run.
pub fn paused(run: &Run, by: &str, why: &str, limit: Millis) -> String {
    let why = if why.is_empty() { String::new() } else { format!(": {}", cut(why, 120)) };
    let n = run.number;
    format!(
        "[{n}] {} {} -> {} paused by {by}{why}. Nothing more begins. !resume {n} | !abort {n}. Auto-abort in {}.",
        run.app,
        run.shown(),
        run.env,
        minutes(limit)
    )
}

/// It goes on.
pub fn resumed(run: &Run, by: &str, time: Millis) -> String {
    format!(
        "[{}] {} {} -> {} goes on, says {by}; it stood still for {}.",
        run.number,
        run.app,
        run.shown(),
        run.env,
        span(time)
    )
}

/// Why something cannot be done to a run that somebody paused.
pub fn stands_still(number: i64, by: &str) -> String {
    format!("run {number} is paused by {}; !resume {number} first", quiet(by))
}

/// A run waits for its window, or for a freeze to end.
pub fn waits_for_window(run: &Run, why: &str, until: Option<Millis>, now: Millis) -> String {
    let until = until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let n = run.number;
    format!(
        "[{n}] {} {} waits: {} is closed{until} ({}). !abort {n} | pass it: !skip! {n} <why>",
        run.app,
        run.shown(),
        run.env,
        cut(why, 100)
    )
}

/// A stage waits for its window.
pub fn stage_waits(run: &Run, stage: &str, until: Option<Millis>, now: Millis) -> String {
    let until = until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let n = run.number;
    format!(
        "[{n}] {} {} -> {}: {stage} waits for its window{until}. !abort {n} | pass it: !skip! {n} {stage} <why>",
        run.app,
        run.shown(),
        run.env
    )
}

/// Somebody brought a run past its window.
pub fn passed_window(run: &Run, by: &str, why: &str) -> String {
    let n = run.number;
    format!("[{n}] {} {} -> {}: {by} does not let it wait: {}.", run.app, run.shown(), run.env, cut(why, 150))
}

/// Somebody brought a stage past what it waited for.
pub fn passed_stage(run: &Run, stage: &str, by: &str, why: &str) -> String {
    let n = run.number;
    format!("[{n}] {} {} -> {}: {stage} passed by {by}: {}.", run.app, run.shown(), run.env, cut(why, 150))
}

/// What became of the runs of one place within a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// `shop/prod`.
    pub place: String,
    /// Runs that went well without a word.
    pub unsaid: usize,
    /// Others that went well.
    pub well: usize,
    /// Runs that did not.
    pub failed: Vec<i64>,
}

/// What ran since the day before: `Last 24 h by the clock: shop/dev 24 ok | ledger/prod 1 ok, 2 others ok, 1 FAILED (131)`.
pub fn digest(days: &[Day]) -> String {
    let one = |day: &Day| {
        let mut text = format!("{} {} ok", day.place, day.unsaid);
        if day.well > 0 {
            text.push_str(&format!(", {} other{} ok", day.well, if day.well == 1 { "" } else { "s" }));
        }
        if let Some(last) = day.failed.last() {
            text.push_str(&format!(", {} FAILED (last {last})", day.failed.len()));
        }
        text
    };
    let all: Vec<String> = days.iter().map(one).collect();
    format!("Last 24 h by the clock: {}", listed(&all))
}
