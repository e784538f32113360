//! Bytes to lines, and lines to groups: one event is one line, or several that belong together.

use std::time::{Duration, Instant};

use regex::bytes::Regex;

/// Lines of a group at most.
const GROUP_LINES: usize = 1000;

/// How lines belong together.
#[derive(Clone, Debug)]
pub(crate) struct Multiline {
    /// What makes a line begin a group, or go on with one.
    pub(crate) rule: Rule,
    /// How long a group waits for more.
    pub(crate) wait: Duration,
}

/// What tells where a group begins.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// A line that matches begins a group.
    Start(Regex),
    /// A line that matches goes on with the group before it.
    Continue(Regex),
}

/// A line, or a group of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without the line end; lines of a group are joined by LF.
    pub(crate) bytes: Vec<u8>,
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Where the next one begins.
    pub(crate) end: u64,
    /// Whether it was cut for its length, or because no line end came.
    pub(crate) cut: bool,
}

/// Makes lines of one file.
pub(super) struct Lines {
    /// Bytes after the last whole line.
    partial: Vec<u8>,
    /// Where `partial` begins.
    at: u64,
    /// The rest of this line is thrown away.
    skipping: bool,
    group: Option<(Line, usize, Instant)>,
    longest: usize,
}

impl Lines {
    /// Lines from an offset on, each at most `longest` bytes.
    pub(super) fn new(offset: u64, longest: usize) -> Lines {
        Lines { partial: Vec::new(), at: offset, skipping: false, group: None, longest }
    }

    /// Throws away the rest of the line we are in.
    pub(super) fn skip(&mut self) {
        self.skipping = true;
    }

    /// Whether the rest of the line we are in is thrown away.
    pub(super) fn is_skipping(&self) -> bool {
        // It belongs to where the line goes on, not to where a group begins.
        self.skipping && self.group.is_none()
    }

    /// Where to go on after a restart if everything so far is in the journal.
    pub(super) fn delivered(&self) -> u64 {
        self.group.as_ref().map_or(self.at, |(line, ..)| line.offset)
    }

    /// Whether bytes wait for the rest of their line or group.
    pub(super) fn is_waiting(&self) -> bool {
        self.group.is_some() || !self.partial.is_empty()
    }

    /// Takes bytes that follow those before.
    pub(super) fn feed(&mut self, bytes: &[u8], multiline: Option<&Multiline>, out: &mut Vec<Line>) {
        let mut rest = self.past_hole(bytes);
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            let length = self.partial.len() as u64 + at as u64 + 1;
            if self.skipping {
                // The partial part was let go of when it was cut.
                self.skipping = false;
                self.at += at as u64 + 1;
                rest = self.past_hole(after);
                continue;
            }
            let offset = self.at;
            self.at += length;
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            if whole.last() == Some(&b'\r') {
                whole.pop();
            }
            let cut = whole.len() > self.longest;
            if cut {
                whole.truncate(char_boundary(&whole, self.longest));
            }
            self.put(Line { bytes: whole, offset, end: self.at, cut }, multiline, out);
            rest = self.past_hole(after);
        }
        if self.skipping {
            self.at += rest.len() as u64;
            return;
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > self.longest {
            let mut whole = std::mem::take(&mut self.partial);
            let offset = self.at;
            self.at += whole.len() as u64;
            whole.truncate(char_boundary(&whole, self.longest));
            self.skipping = true;
            self.put(Line { bytes: whole, offset, end: self.at, cut: true }, multiline, out);
        }
    }

    /// Zero bytes where a line would begin are no part of it: a file that was cut has a hole before what is written by whoever keeps
    /// their place in it.
    fn past_hole<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.skipping || !self.partial.is_empty() {
            return bytes;
        }
        let hole = bytes.iter().take_while(|byte| **byte == 0).count();
        self.at += hole as u64;
        bytes.get(hole..).unwrap_or_default()
    }

    fn put(&mut self, line: Line, multiline: Option<&Multiline>, out: &mut Vec<Line>) {
        let Some(multiline) = multiline else {
            out.push(line);
            return;
        };
        let goes_on = match &multiline.rule {
            Rule::Start(start) => !start.is_match(&line.bytes),
            Rule::Continue(more) => more.is_match(&line.bytes),
        };
        match &mut self.group {
            Some((group, lines, since))
                if goes_on && *lines < GROUP_LINES && group.bytes.len() + line.bytes.len() < self.longest =>
            {
                group.bytes.push(b'\n');
                group.bytes.extend_from_slice(&line.bytes);
                group.end = line.end;
                group.cut |= line.cut;
                *lines += 1;
                *since = Instant::now();
            }
            _ => {
                out.extend(self.group.take().map(|(group, ..)| group));
                self.group = Some((line, 1, Instant::now()));
            }
        }
    }

    /// Gives the group that has waited long enough.
    pub(super) fn overdue(&mut self, multiline: Option<&Multiline>, out: &mut Vec<Line>) {
        let waited = |(_, _, since): &mut (Line, usize, Instant)| {
            multiline.is_none_or(|multiline| since.elapsed() >= multiline.wait)
        };
        out.extend(self.group.take_if(waited).map(|(group, ..)| group));
    }

    /// Gives everything, whole or not: the file is gone, or written anew.
    pub(super) fn flush(&mut self, multiline: Option<&Multiline>, out: &mut Vec<Line>) {
        if !self.partial.is_empty() {
            let bytes = std::mem::take(&mut self.partial);
            let offset = self.at;
            self.at += bytes.len() as u64;
            self.put(Line { bytes, offset, end: self.at, cut: true }, multiline, out);
        }
        out.extend(self.group.take().map(|(group, ..)| group));
    }
}

/// The last place at or before `at` where a UTF-8 character may end.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let mut at = at.min(bytes.len());
    let low = at.saturating_sub(3);
    while at > low && bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    fn java() -> Multiline {
        Multiline { rule: Rule::Start(Regex::new(r"^\S").unwrap()), wait: Duration::from_secs(3600) }
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one_line() {
        let (mut lines, mut out) = (Lines::new(0, 100), Vec::new());
        lines.feed(b"hel", None, &mut out);
        lines.feed(b"lo ", None, &mut out);
        assert!(out.is_empty());
        assert_eq!(lines.delivered(), 0);
        lines.feed(b"world\r\nnext\nrest", None, &mut out);
        assert_eq!(texts(&out), ["hello world", "next"]);
        assert_eq!((out[1].offset, out[1].end, lines.delivered()), (13, 18, 18));
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_is_whole() {
        let (mut lines, mut out) = (Lines::new(0, 4), Vec::new());
        lines.feed("ääää".as_bytes(), None, &mut out);
        lines.feed(b"and more\nok\n", None, &mut out);
        assert_eq!(texts(&out), ["ää", "ok"]);
        assert!(out[0].cut && !out[1].cut);
        assert_eq!(lines.delivered(), 20);
        // The rest of it comes after a restart.
        lines.feed(b"too long", None, &mut out);
        assert!(lines.is_skipping());
        let mut lines = Lines::new(lines.delivered(), 4);
        lines.skip();
        lines.feed(b" still\nnext\n", None, &mut out);
        assert_eq!(texts(&out)[2..], ["too ", "next"]);
    }

    #[test]
    fn a_hole_before_a_line_is_no_part_of_it_however_big_it_is() {
        let (mut lines, mut out) = (Lines::new(0, 8), Vec::new());
        lines.feed(&[0; 1000], None, &mut out);
        assert!(out.is_empty() && !lines.is_waiting());
        lines.feed(b"\0\0one\n\0\0\0two\0\n", None, &mut out);
        assert_eq!(texts(&out), ["one", "two\0"]);
        assert_eq!((out[0].offset, out[0].end, out[1].offset, lines.delivered()), (1002, 1006, 1009, 1014));
    }

    #[test]
    fn lines_of_a_group_wait_for_the_next_group_and_are_not_delivered_before() {
        let (mut lines, mut out) = (Lines::new(0, 1000), Vec::new());
        lines.feed(b"Exception\n  at a\n  at b\n", Some(&java()), &mut out);
        assert!(out.is_empty());
        assert_eq!(lines.delivered(), 0);
        lines.feed(b"ok\n", Some(&java()), &mut out);
        assert_eq!(texts(&out), ["Exception\n  at a\n  at b"]);
        assert_eq!(lines.delivered(), 24);
        lines.flush(Some(&java()), &mut out);
        assert_eq!(texts(&out)[1], "ok");
        assert!(!lines.is_waiting());
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_into_reads_the_lines_are_the_same(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(0xC3u8), Just(b'\r'), Just(0u8)], 0..200),
            cuts in proptest::collection::vec(1usize..20, 0..20),
        ) {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            let mut lines = Lines::new(0, 1000);
            lines.feed(&bytes, None, &mut whole);
            lines.flush(None, &mut whole);
            let mut lines = Lines::new(0, 1000);
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                lines.feed(now, None, &mut pieces);
                rest = later;
            }
            lines.feed(rest, None, &mut pieces);
            lines.flush(None, &mut pieces);
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(lines.delivered(), bytes.len() as u64);
        }
    }
}
