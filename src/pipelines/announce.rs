//! What is said about a run while it goes on: gathered, the newest wins, few lines.

use super::run::Millis;
use super::words;

/// The shortest time between two lines of progress of one run.
const APART: Millis = 10_000;
/// How long what ends is gathered where nothing else is said.
pub(super) const COALESCE: Millis = 20_000;

/// What waits to be said about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// What ended, in order.
    ended: Vec<String>,
    /// How things go, by stage; the newest of each.
    going: Vec<(String, String)>,
    /// When the first of these came.
    since: Option<Millis>,
    /// When the last line was said.
    last: Option<Millis>,
    /// Lines of progress so far.
    lines: usize,
    coalesce: Millis,
    /// So many lines of progress at most.
    most: usize,
}

impl Progress {
    /// For a run of so many stages. With the start and the end, which may take three lines, there are never more than two and
    /// one a stage.
    pub(super) fn new(stages: usize, coalesce: Millis) -> Progress {
        Progress { most: stages.saturating_sub(2), coalesce, ..Progress::default() }
    }

    /// A stage ended.
    pub(super) fn ended(&mut self, stage: &str, text: String, now: Millis) {
        self.going.retain(|(name, _)| name != stage);
        self.ended.push(text);
        self.since.get_or_insert(now);
    }

    /// A stage goes on; what was known of it before is out of date.
    pub(super) fn going(&mut self, stage: &str, text: String, now: Millis) {
        self.going.retain(|(name, _)| name != stage);
        self.going.push((stage.to_owned(), text));
        self.since.get_or_insert(now);
    }

    /// When there is something to be said next.
    pub(super) fn due(&self) -> Option<Millis> {
        if self.lines >= self.most {
            return None;
        }
        let apart = self.last.map_or(0, |last| last + APART);
        self.since.map(|since| (since + self.coalesce).max(apart))
    }

    /// The line that is due.
    pub(super) fn take(&mut self, number: i64, now: Millis) -> Option<String> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let line = self.drain(number);
        self.last = Some(now);
        self.lines += 1;
        line
    }

    /// What waits, for a line that is said anyway; nothing if nothing ended.
    pub(super) fn drain(&mut self, number: i64) -> Option<String> {
        self.since = None;
        let mut parts = std::mem::take(&mut self.ended);
        parts.extend(std::mem::take(&mut self.going).into_iter().map(|(_, text)| text));
        (!parts.is_empty()).then(|| words::stages(number, &parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_twenty_seconds_shares_a_line_and_the_newest_status_wins() {
        let mut progress = Progress::new(6, COALESCE);
        progress.ended("test", "test ok 2s".to_owned(), 1_000);
        progress.going("build", "build: 10%".to_owned(), 2_000);
        progress.going("build", "build: 20%".to_owned(), 9_000);
        assert_eq!((progress.due(), progress.take(7, 20_000)), (Some(21_000), None));
        assert_eq!(progress.take(7, 21_000).as_deref(), Some("[7] test ok 2s | build: 20%"));
        progress.ended("build", "build ok".to_owned(), 22_000);
        assert_eq!(progress.take(7, 42_000).as_deref(), Some("[7] build ok"));
        assert_eq!(progress.due(), None);
    }

    #[test]
    fn a_run_of_few_stages_says_its_start_and_its_end_and_a_long_one_no_more_than_its_stages() {
        let mut short = Progress::new(2, COALESCE);
        short.ended("a", "a ok".to_owned(), 0);
        assert_eq!(short.due(), None);
        let mut long = Progress::new(5, COALESCE);
        let mut lines = 0;
        for n in 0..100 {
            long.going("a", format!("{n}%"), n * 30_000);
            lines += usize::from(long.take(1, n * 30_000 + 25_000).is_some());
        }
        assert_eq!(lines, 3);
    }
}
