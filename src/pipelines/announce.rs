//! What is said about a run while it goes on: gathered, the newest wins, few lines.

use super::run::Millis;
use super::words;

/// What the name of a place begins with where lines are notices: `notice:libera/#ops`.
pub(super) const NOTICE: &str = "notice:";
/// The shortest time between two lines of progress of one run.
const APART: Millis = 10_000;
/// So many lines the end of a run may take.
const END: usize = 3;
/// How long what ends is gathered where nothing else is said.
pub(super) const COALESCE: Millis = 20_000;

/// What waits to be said about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// What ended, in order, and first what failed.
    ended: Vec<Ended>,
    /// How things go, by stage; the newest of each.
    going: Vec<(String, String)>,
    /// When the first of these came.
    since: Option<Millis>,
    /// When the last line was said.
    last: Option<Millis>,
    coalesce: Millis,
}

/// A stage that ended, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    stage: String,
    failed: bool,
    text: String,
}

impl Progress {
    /// What ends within `coalesce` shares a line.
    pub(super) fn new(coalesce: Millis) -> Progress {
        Progress { coalesce, ..Progress::default() }
    }

    /// A stage ended.
    pub(super) fn ended(&mut self, stage: &str, text: String, now: Millis) {
        self.going.retain(|(name, _)| name != stage);
        self.ended.push(Ended { stage: stage.to_owned(), failed: false, text });
        self.since.get_or_insert(now);
    }

    /// A stage failed: that is said at once, before what else there is.
    pub(super) fn failed(&mut self, stage: &str, text: String, now: Millis) {
        self.going.retain(|(name, _)| name != stage);
        self.ended.insert(0, Ended { stage: stage.to_owned(), failed: true, text });
        self.since.get_or_insert(now);
    }

    /// The failure of this stage is told in another line.
    pub(super) fn told(&mut self, stage: &str) {
        self.ended.retain(|one| !one.failed || one.stage != stage);
        self.rest();
    }

    /// Whether something failed that nobody was told of.
    pub(super) fn urgent(&self) -> bool {
        self.ended.iter().any(|one| one.failed)
    }

    /// A stage goes on; what was known of it before is out of date.
    pub(super) fn going(&mut self, stage: &str, text: String, now: Millis) {
        self.going.retain(|(name, _)| name != stage);
        self.going.push((stage.to_owned(), text));
        self.since.get_or_insert(now);
    }

    /// What was known of how a stage goes is out of date.
    pub(super) fn forget(&mut self, stage: &str) {
        self.going.retain(|(name, _)| name != stage);
        self.rest();
    }

    /// Where nothing waits, nothing is due.
    fn rest(&mut self) {
        if self.ended.is_empty() && self.going.is_empty() {
            self.since = None;
        }
    }

    /// When there is something to be said next, where so many lines are left. The end may take three.
    pub(super) fn due(&self, room: usize) -> Option<Millis> {
        if self.urgent() && room > 1 {
            return self.since;
        }
        if room <= END {
            return None;
        }
        let apart = self.last.map_or(0, |last| last + APART);
        self.since.map(|since| (since + self.coalesce).max(apart))
    }

    /// The line that is due.
    pub(super) fn take(&mut self, number: i64, now: Millis, room: usize) -> Option<String> {
        if self.due(room).is_none_or(|due| due > now) {
            return None;
        }
        self.last = Some(now);
        self.drain(number)
    }

    /// What waits, for a line that is said anyway; nothing if nothing ended.
    pub(super) fn drain(&mut self, number: i64) -> Option<String> {
        self.since = None;
        let ended = std::mem::take(&mut self.ended).into_iter().map(|one| one.text);
        let going = std::mem::take(&mut self.going).into_iter().map(|(_, text)| text);
        let parts: Vec<String> = ended.chain(going).collect();
        (!parts.is_empty()).then(|| words::stages(number, &parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_twenty_seconds_shares_a_line_and_the_newest_status_wins() {
        let mut progress = Progress::new(COALESCE);
        progress.ended("test", "test ok 2s".to_owned(), 1_000);
        progress.going("build", "build: 10%".to_owned(), 2_000);
        progress.going("build", "build: 20%".to_owned(), 9_000);
        assert_eq!((progress.due(7), progress.take(7, 20_000, 7)), (Some(21_000), None));
        assert_eq!(progress.take(7, 21_000, 7).as_deref(), Some("[7] test ok 2s | build: 20%"));
        progress.ended("build", "build ok".to_owned(), 22_000);
        assert_eq!(progress.take(7, 42_000, 6).as_deref(), Some("[7] build ok"));
        assert_eq!(progress.due(5), None);
    }

    #[test]
    fn what_fails_is_said_at_once_and_first_unless_only_the_last_line_is_left() {
        let mut progress = Progress::new(COALESCE);
        progress.ended("lint", "lint ok 2s".to_owned(), 1_000);
        progress.failed("test", "test FAILED 3s".to_owned(), 2_000);
        assert_eq!(progress.due(1), None);
        assert_eq!(progress.take(7, 2_000, 2).as_deref(), Some("[7] test FAILED 3s | lint ok 2s"));
        assert!(!progress.urgent());
    }

    #[test]
    fn what_was_told_by_itself_is_not_told_once_more_but_what_failed_beside_it_is() {
        let mut progress = Progress::new(COALESCE);
        progress.failed("canary", "canary FAILED 3s".to_owned(), 2_000);
        progress.failed("lint", "lint FAILED 1s".to_owned(), 2_000);
        progress.told("canary");
        assert_eq!((progress.urgent(), progress.due(4)), (true, Some(2_000)));
        progress.told("lint");
        assert_eq!((progress.urgent(), progress.due(4), progress.drain(7)), (false, None, None));
    }

    #[test]
    fn what_goes_well_leaves_room_for_the_end() {
        let mut progress = Progress::new(COALESCE);
        progress.ended("a", "a ok".to_owned(), 0);
        assert_eq!((progress.due(3), progress.due(4)), (None, Some(20_000)));
    }
}
