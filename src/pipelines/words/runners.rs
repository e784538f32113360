//! What is said about runners: who waits for one, and who is one.

use super::format::{cut, list, span};
use crate::pipelines::run::{Millis, Run};
use crate::pipelines::runners::{Found, RunnerRow};

/// What a stage waits for: `waits for a runner with the label build: Two is busy`.
pub(in crate::pipelines) fn waits_for_runner(labels: &[String], found: &Found) -> String {
    let which = match labels {
        [one] => format!("the label {one}"),
        many => format!("the labels {}", many.join(", ")),
    };
    let verb = |all: &[String], one: &str, many: &str| {
        format!("{} {}", list(all, 3), if all.len() == 1 { one } else { many }.to_owned())
    };
    let why = match found {
        Found::Busy(all) => verb(all, "is busy", "are busy"),
        Found::Away(all) => format!(
            "{} but {} linked now",
            verb(all, "has it,", "have it,"),
            if all.len() == 1 { "is not" } else { "are not" }
        ),
        Found::Nobody(none) if none.is_empty() => "nobody has it".to_owned(),
        Found::Nobody(refuse) => format!("nobody has it; {}", verb(refuse, "does no work for us", "do no work for us")),
        Found::Free(host) => format!("{} is free", host.name),
    };
    format!("waits for a runner with {which}: {why}")
}

/// A stage has no runner, and will not get one by itself.
pub(in crate::pipelines) fn lacks_runner(run: &Run, stage: &str, waits: &str, left: Millis) -> String {
    format!(
        "[{}] {} {stage} {waits}; it fails in {} if none comes. !runners lists them",
        run.number,
        run.app,
        span(left)
    )
}

/// Where a stage that failed on a runner is tried again.
pub(in crate::pipelines) fn elsewhere(failed: &str, others: &[String]) -> String {
    match others {
        [] => format!("retry on another runner; there is none but {failed} with its labels now"),
        others => format!("retry on another runner: it goes to {}, not to {failed}", list(others, 3)),
    }
}

/// The runners, a line each.
pub fn runners(rows: &[RunnerRow], now: Millis) -> Vec<String> {
    if rows.is_empty() {
        return vec!["there are no runners; say under runner.labels what this bot can do".to_owned()];
    }
    rows.iter().map(|row| runner(row, now)).collect()
}

fn runner(row: &RunnerRow, now: Millis) -> String {
    let labels = if row.labels.is_empty() { "no labels".to_owned() } else { row.labels.join(", ") };
    let name = if row.here { format!("{} (here)", row.name) } else { row.name.clone() };
    let lost = if row.lost > 0 { format!(", {} lost", row.lost) } else { String::new() };
    let counted = format!("{} done, {} failed{lost}", row.done, row.failed);
    let seen = span(now - row.seen);
    match (&row.refuses, row.there) {
        (Some(why), true) => format!("{name}: {}", cut(why, 200)),
        (_, true) => format!("{name}: {labels}; {} of {} busy; {counted}", row.busy, row.slots),
        (_, false) => format!("{name}: {labels}; not linked, seen {seen} ago; {counted}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_who_could_do_it() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let said = |labels: &[&str], found: Found| waits_for_runner(&names(labels), &found);
        assert_eq!(
            said(&["build"], Found::Busy(names(&["Two"]))),
            "waits for a runner with the label build: Two is busy"
        );
        assert_eq!(
            said(&["build"], Found::Away(names(&["Two"]))),
            "waits for a runner with the label build: Two has it, but is not linked now"
        );
        assert_eq!(
            said(&["gpu", "big"], Found::Nobody(Vec::new())),
            "waits for a runner with the labels gpu, big: nobody has it"
        );
        assert!(said(&["gpu"], Found::Nobody(names(&["Two"]))).ends_with("nobody has it; Two does no work for us"));
    }

    #[test]
    fn a_runner_is_a_line() {
        let row = RunnerRow {
            name: "Two".to_owned(),
            here: false,
            there: true,
            labels: vec!["build".to_owned(), "linux".to_owned()],
            slots: 2,
            busy: 1,
            done: 14,
            failed: 2,
            lost: 1,
            seen: 0,
            refuses: None,
        };
        let line = |row: &RunnerRow| runners(std::slice::from_ref(row), 60_000).remove(0);
        assert_eq!(line(&row), "Two: build, linux; 1 of 2 busy; 14 done, 2 failed, 1 lost");
        let away = RunnerRow { there: false, lost: 0, ..row.clone() };
        assert_eq!(line(&away), "Two: build, linux; not linked, seen 1m ago; 14 done, 2 failed");
        let closed = RunnerRow { refuses: Some("Two does no work of One".to_owned()), ..row };
        assert_eq!(line(&closed), "Two: Two does no work of One");
    }
}
