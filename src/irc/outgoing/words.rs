//! What waits for one target: a row for each class, and what of it was not worth saying any more.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{Line, Most};
use crate::irc::multiline::without_tags;
use crate::irc::split::split;

/// Classes of words.
pub(super) const CLASSES: usize = 4;
/// So many lines of a row are looked through for the same words.
const LOOK: usize = 32;
/// What the classes are called where lines are counted.
const CALLED: [&str; CLASSES] = ["pages", "replies", "progress", "other"];
/// Shorter words of the newest line that was left out are not worth quoting.
const QUOTE: usize = 24;

/// What waits for one target, in order within each class.
#[derive(Debug, Default)]
pub(super) struct Words {
    rows: [VecDeque<(u64, Line)>; CLASSES],
    /// How many of each class were left out since that was last said, and the newest of them.
    left_out: [usize; CLASSES],
    newest: Option<(u64, Line)>,
}

impl Words {
    pub(super) fn push(&mut self, class: usize, order: u64, line: Line) {
        self.rows[class].push_back((order, line));
    }

    pub(super) fn push_front(&mut self, class: usize, line: Line) {
        let order = self.rows[class].front().map_or(0, |(order, _)| *order);
        self.rows[class].push_front((order, line));
    }

    pub(super) fn len(&self) -> usize {
        self.rows.iter().map(VecDeque::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(VecDeque::is_empty)
    }

    pub(super) fn has(&self, class: usize) -> bool {
        !self.rows[class].is_empty()
    }

    /// The class whose first line waits longest, of those from `from` on, and that line's place in the order of all.
    pub(super) fn oldest(&self, from: usize) -> Option<(u64, usize)> {
        let fronts = self.rows.iter().enumerate().skip(from);
        fronts.filter_map(|(class, row)| row.front().map(|(order, _)| (*order, class))).min()
    }

    /// Everything, the most urgent first.
    pub(super) fn into_lines(self) -> impl Iterator<Item = Line> {
        self.rows.into_iter().flatten().map(|(_, line)| line)
    }

    /// Takes out what is not to be said any more; the lines that were. `back` is whether the target could not be reached before.
    pub(super) fn expire(&mut self, now: Instant, back: bool) -> Vec<Line> {
        let mut out = Vec::new();
        for (class, row) in self.rows.iter_mut().enumerate() {
            let past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
            let late = |line: &Line| past(line.until) || back && past(line.worth);
            if !back && !row.front().is_some_and(|(_, line)| late(line)) {
                continue;
            }
            // Mostly those in front, but one may have been given more time than those behind it.
            let (gone, kept): (Vec<_>, Vec<_>) = row.drain(..).partition(|(_, line)| late(line));
            *row = kept.into();
            self.left_out[class] += gone.iter().filter(|(_, line)| !line.goes_on).count();
            let newest = gone.last().filter(|(order, _)| self.newest.as_ref().is_none_or(|(known, _)| known < order));
            self.newest = newest.cloned().or(self.newest.take());
            out.extend(gone.into_iter().map(|(_, line)| line));
        }
        out
    }

    /// One line about what was left out, if anything was.
    pub(super) fn digest(&mut self) -> Option<Line> {
        let (_, newest) = self.newest.take()?;
        let counts = std::mem::take(&mut self.left_out);
        let all: usize = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let kinds: Vec<String> = counts
            .iter()
            .zip(CALLED)
            .filter(|(count, _)| **count > 0)
            .map(|(count, called)| format!("{count} {called}"))
            .collect();
        let bare = without_tags(&newest.text);
        let (head, words) = bare.split_once(" :")?;
        let (lines, were) = if all == 1 { ("line", "was") } else { ("lines", "were") };
        let mut text = format!("{head} :({all} {lines} waited too long and {were} left out: {}", kinds.join(", "));
        let room = (bare.len() + newest.spare).saturating_sub(text.len() + "; the newest: )".len());
        let quoted = split(words, room.max(1)).first().copied().unwrap_or("");
        if room >= QUOTE && !words.starts_with('\u{1}') {
            text.push_str("; the newest: ");
            text.push_str(quoted.trim_end());
        }
        text.push(')');
        Some(Line { text, ..Line::default() })
    }

    /// The first line of a class, and those behind it that are the same message, as far as they may go together.
    pub(super) fn take(&mut self, class: usize, most: Option<Most>) -> Vec<Line> {
        let mut out: Vec<Line> = Vec::new();
        let mut bytes = 0;
        let row = &mut self.rows[class];
        while let Some((_, next)) = row.front() {
            bytes += next.text.len() + 1;
            let same = out.first().is_none_or(|first| {
                most.is_some_and(|most| out.len() < most.lines && bytes <= most.bytes)
                    && first.whole != 0
                    && first.whole == next.whole
            });
            if !same {
                break;
            }
            let Some((_, line)) = row.pop_front() else { break };
            out.push(line);
        }
        out
    }

    /// Takes the lines with the same words as this one out of its row, and puts their count behind it. Gives how many.
    pub(super) fn collapse(&mut self, class: usize, line: &mut Line) -> usize {
        if line.whole != 0 || line.goes_on {
            return 0;
        }
        let row = &mut self.rows[class];
        let same = |other: &Line| other.whole == 0 && other.text == line.text;
        let alike: Vec<usize> =
            row.iter().take(LOOK).enumerate().filter(|(_, (_, l))| same(l)).map(|(at, _)| at).collect();
        let count = format!(" (\u{d7}{})", alike.len() + 1);
        if alike.is_empty() || count.len() > line.spare {
            return 0;
        }
        for at in alike.iter().rev() {
            if let Some((_, other)) = row.remove(*at) {
                line.also.extend(std::iter::once(other.id).chain(other.also));
            }
        }
        line.text.push_str(&count);
        alike.len()
    }
}
