//! How many lines a channel may be told in what time. Pure; time is handed in.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::irc::Budget;

/// Channels that are remembered; those that were quiet longest are forgotten.
const CHANNELS: usize = 4096;

/// What channels were told lately.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    tabs: BTreeMap<String, Tab>,
}

#[derive(Debug)]
struct Tab {
    /// Lines that may still be said.
    left: f64,
    at: Instant,
    over: Option<Over>,
}

/// More was said than may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Over {
    /// Since when.
    since: Instant,
    /// The page on which it stands, where there is one.
    pub(super) page: Option<String>,
    /// Lines that were left out and not yet counted in the channel.
    pub(super) left_out: usize,
}

/// How much of some lines may be said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Share {
    /// So many of them.
    pub(super) fit: usize,
    /// Whether the channel is to be told where the rest is.
    pub(super) tell: bool,
    /// The page that the rest belongs to.
    pub(super) page: Option<String>,
    /// Lines that were left out before and are to be told of now.
    pub(super) left_out: usize,
}

impl Budgets {
    /// Takes `lines` off the budget of a channel. `page` names a new page, where there can be one.
    pub(super) fn spend(
        &mut self,
        channel: &str,
        lines: usize,
        budget: Budget,
        now: Instant,
        page: impl FnOnce() -> Option<String>,
    ) -> Share {
        if budget.lines == 0 {
            return Share { fit: lines, ..Share::default() };
        }
        let most = f64::from(budget.lines);
        let tab = self.tab(channel, budget, now);
        // Once over it, half of the budget must be back: else each line that becomes free would be said and the next one not.
        if let Some(over) = &tab.over
            && (tab.left >= most / 2.0 && tab.left >= lines as f64 || now.duration_since(over.since) >= budget.keep)
        {
            let left_out = tab.over.take().map_or(0, |over| if over.page.is_none() { over.left_out } else { 0 });
            let share = self.spend(channel, lines, budget, now, page);
            return Share { left_out, ..share };
        }
        if let Some(over) = &mut tab.over {
            over.left_out += lines;
            return Share { page: over.page.clone(), ..Share::default() };
        }
        if lines as f64 <= tab.left {
            tab.left -= lines as f64;
            return Share { fit: lines, ..Share::default() };
        }
        // One is kept for the line that says where the rest is.
        let fit = (tab.left - 1.0).max(0.0) as usize;
        tab.left = 0.0;
        let over = Over { since: now, page: page(), left_out: lines - fit };
        let share = Share { fit, tell: true, page: over.page.clone(), left_out: 0 };
        tab.over = Some(over);
        share
    }

    /// Takes lines off that are said whatever is left.
    pub(super) fn said(&mut self, channel: &str, lines: usize, budget: Budget, now: Instant) {
        if budget.lines > 0 {
            let tab = self.tab(channel, budget, now);
            tab.left = (tab.left - lines as f64).max(0.0);
        }
    }

    /// What a channel bears, with what has come back since.
    fn tab(&mut self, channel: &str, budget: Budget, now: Instant) -> &mut Tab {
        let most = f64::from(budget.lines);
        if self.tabs.len() >= CHANNELS && !self.tabs.contains_key(channel) {
            self.tabs.retain(|_, tab| now.duration_since(tab.at) < budget.per);
        }
        let tab = self.tabs.entry(channel.to_owned()).or_insert(Tab { left: most, at: now, over: None });
        let back = now.duration_since(tab.at).as_secs_f64() / budget.per.as_secs_f64().max(0.001) * most;
        (tab.left, tab.at) = ((tab.left + back).min(most), now);
        tab
    }

    /// What was left out went elsewhere: nothing is to be told of it later.
    pub(super) fn told(&mut self, channel: &str) {
        if let Some(over) = self.tabs.get_mut(channel).and_then(|tab| tab.over.as_mut()) {
            over.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BUDGET: Budget =
        Budget { lines: 10, per: Duration::from_secs(60), keep: Duration::from_secs(3600), lenient: false };

    #[tokio::test(start_paused = true)]
    async fn who_says_more_than_a_channel_bears_is_told_once_and_may_again_when_half_of_it_is_back() {
        let mut budgets = Budgets::default();
        let now = Instant::now();
        let mut spend = |lines, secs| budgets.spend("#ops", lines, BUDGET, now + Duration::from_secs(secs), || None);
        assert_eq!(spend(4, 0), Share { fit: 4, ..Share::default() });
        assert_eq!(spend(30, 0), Share { fit: 5, tell: true, ..Share::default() }, "one is for where the rest is");
        assert_eq!(spend(2, 6), Share::default(), "a line is back, but not half of them");
        assert_eq!(spend(1, 40), Share { fit: 1, left_out: 27, ..Share::default() });
        assert_eq!(spend(1, 40).fit, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_goes_to_one_page_and_a_budget_of_nothing_is_none() {
        let mut budgets = Budgets::default();
        let now = Instant::now();
        let page = |name: &'static str| move || Some(name.to_owned());
        let first = budgets.spend("#ops", 30, BUDGET, now, page("a"));
        assert_eq!((first.fit, first.tell, first.page.as_deref()), (9, true, Some("a")));
        let second = budgets.spend("#ops", 30, BUDGET, now, page("b"));
        assert_eq!((second.fit, second.tell, second.page.as_deref()), (0, false, Some("a")));
        let third = budgets.spend("#ops", 30, BUDGET, now + BUDGET.keep, page("c"));
        assert_eq!((third.fit, third.tell, third.page.as_deref()), (9, true, Some("c")), "the first page is gone");
        assert_eq!(budgets.spend("#dev", 3, BUDGET, now, page("d")).fit, 3);
        budgets.said("#dev", 5, BUDGET, now);
        assert_eq!(budgets.spend("#dev", 3, BUDGET, now, page("e")).fit, 1, "what is said whatever is left costs too");
        let none = Budget { lines: 0, ..BUDGET };
        assert_eq!(budgets.spend("#ops", 999, none, now, page("e")).fit, 999);
    }
}
