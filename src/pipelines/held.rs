//! Lines for places whose network is away: of each run the newest to each place, until it is back.

use std::collections::BTreeMap;

use masterchief_contract::split_place;

use super::announce::NOTICE;
use super::run::Millis;

/// So many lines wait for one place; what is older is given up.
const MOST: usize = 200;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Held {
    places: BTreeMap<String, Vec<Line>>,
}

/// A line that is to be said.
#[derive(Debug)]
pub(super) struct Line {
    /// The run it is about; 0 where it is about none.
    pub(super) run: i64,
    /// When it came up.
    pub(super) at: Millis,
    /// The key under which it is noted as said.
    pub(super) dedupe: String,
    /// The words.
    pub(super) text: String,
    /// Whether it is of how a run goes, which only those who are there want to know.
    pub(super) passing: bool,
}

impl Held {
    /// Keeps a line. What was said of the same run before is out of date; lines of one moment belong together, and those of no run
    /// are each about another thing. Gives the keys of those that are not said any more.
    pub(super) fn keep(&mut self, target: &str, line: Line) -> Vec<String> {
        let lines = self.places.entry(target.to_owned()).or_default();
        let outdated = |old: &mut Line| line.run != 0 && old.run == line.run && old.at != line.at;
        let mut gone: Vec<Line> = lines.extract_if(.., outdated).collect();
        if lines.len() >= MOST {
            gone.push(lines.remove(0));
        }
        lines.push(line);
        gone.into_iter().map(|line| line.dedupe).collect()
    }

    /// What waits for a place, in order.
    pub(super) fn take(&mut self, target: &str) -> Vec<Line> {
        self.places.remove(target).unwrap_or_default()
    }

    /// The places of a network for which something waits. A place without a network is on the only one there is.
    pub(super) fn on(&self, network: &str) -> Vec<String> {
        let there = |target: &&String| {
            let (name, _) = split_place(target.trim_start_matches(NOTICE));
            name == network || name.is_empty()
        };
        self.places.keys().filter(there).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: i64, at: Millis, text: &str) -> Line {
        Line { run, at, dedupe: format!("key of {text}"), text: text.to_owned(), passing: false }
    }

    fn taken(held: &mut Held, target: &str) -> Vec<String> {
        held.take(target).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn of_a_run_the_newest_moment_waits_and_of_everything_else_all() {
        let mut held = Held::default();
        let mut gone = Vec::new();
        for (run, at, text) in [
            (1, 10, "started"),
            (0, 10, "locked"),
            (2, 11, "queued"),
            (1, 20, "FAILED"),
            (1, 20, "why"),
            (0, 30, "open"),
        ] {
            gone.extend(held.keep("lab/#shop", line(run, at, text)));
        }
        assert_eq!(gone, ["key of started"]);
        held.keep("#shop", line(1, 20, "FAILED"));
        held.keep("other/#shop", line(1, 20, "FAILED"));
        assert_eq!(held.on("lab"), ["#shop", "lab/#shop"]);
        assert_eq!(taken(&mut held, "lab/#shop"), ["locked", "queued", "FAILED", "why", "open"]);
        assert!(held.take("lab/#shop").is_empty());
    }

    #[test]
    fn a_network_that_stays_away_fills_no_memory() {
        let mut held = Held::default();
        let gone: usize = (0..1000).map(|run| held.keep("lab/#shop", line(run, run, &run.to_string())).len()).sum();
        assert_eq!(gone, 1000 - MOST);
        let lines = taken(&mut held, "lab/#shop");
        assert_eq!((lines.len(), lines[0].as_str()), (MOST, "800"));
    }
}
