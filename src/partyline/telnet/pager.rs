//! Long answers a page at a time: so many lines, and the next ones when an empty line is typed. Pure.

use std::collections::VecDeque;

/// Lines that wait for their page; beyond that the oldest are shown.
const WAIT_MAX: usize = 2000;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Pager {
    /// Lines that were shown since something was typed.
    shown: usize,
    waits: VecDeque<String>,
}

impl Pager {
    /// A line of an answer, with its end; gives what is to be shown now. `page` is how many lines there are to one; 0 is no end.
    pub(super) fn line(&mut self, page: usize, line: String) -> String {
        if page == 0 {
            return self.all() + &line;
        }
        if self.waits.is_empty() && self.shown < page {
            self.shown += 1;
            return line;
        }
        let first = self.waits.is_empty();
        self.waits.push_back(line);
        let old = if self.waits.len() > WAIT_MAX { self.waits.pop_front() } else { None };
        old.or_else(|| first.then(|| "[more: an empty line shows it, .page off shows all]\r\n".to_owned()))
            .unwrap_or_default()
    }

    /// Something was typed: an empty line shows the next page.
    pub(super) fn typed(&mut self, page: usize, line: &str) -> String {
        self.shown = 0;
        if page == 0 {
            return self.all();
        }
        if !line.trim().is_empty() || self.waits.is_empty() {
            return String::new();
        }
        let page: Vec<String> = self.waits.drain(..page.min(self.waits.len())).collect();
        self.shown = page.len();
        let more = if self.waits.is_empty() { String::new() } else { format!("[{} more lines]\r\n", self.waits.len()) };
        page.concat() + &more
    }

    fn all(&mut self) -> String {
        self.waits.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stops_after_a_page_and_goes_on_at_an_empty_line() {
        let mut pager = Pager::default();
        let line = |n: usize| format!("{n}\r\n");
        let shown: String = (1..=5).map(|n| pager.line(2, line(n))).collect();
        assert_eq!(shown, "1\r\n2\r\n[more: an empty line shows it, .page off shows all]\r\n");
        assert_eq!(pager.typed(2, ".who"), "");
        assert_eq!(pager.typed(2, ""), "3\r\n4\r\n[1 more lines]\r\n");
        assert_eq!(pager.line(2, line(6)), "");
        assert_eq!(pager.typed(2, " "), "5\r\n6\r\n");
        assert_eq!((pager.typed(2, ""), pager.line(2, line(7))), (String::new(), line(7)));
        let held: String = (0..=WAIT_MAX + 3).map(|n| pager.line(1, line(n))).collect();
        assert!(held.ends_with("3\r\n"), "{held}");
        let rest = pager.line(0, line(9));
        assert!(rest.lines().count() == WAIT_MAX + 1 && rest.ends_with("9\r\n"));
    }
}
