//! Bytes to lines and back, whatever the bytes are.
//!
//! A line in UTF-8 is taken as it is. In any other, the last parameter (words for people) is read as Windows-1252,
//! which shows what old clients meant. In what names somebody (the source, the parameters before the last) each byte
//! that is not UTF-8 becomes a private-use character, U+F700 plus the byte, and [`encode`] turns it back, so that a
//! channel or nick in another encoding can still be answered.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// Where the characters for undecodable bytes begin: U+F780 to U+F7FF.
const ESCAPE: u32 = 0xF700;
/// The longest tag section a client must accept, with `@` and blank.
/// <https://ircv3.net/specs/extensions/message-tags#size-limit>
const TAGS_MAX: usize = 8191;
/// What may follow the tags. Twice the classic 512, since some servers allow more.
const REST_MAX: usize = 8192;
/// The longest line that is kept.
const LINE_MAX: usize = TAGS_MAX + REST_MAX;

/// Collects bytes into lines. Memory is bounded by the longest line and one read.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    /// How far the buffer is used up.
    start: usize,
    /// How far it has been searched for a line end.
    searched: usize,
    skipping: bool,
    dropped: u64,
}

impl LineReader {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its ending, if there is one. Ends at LF; a CR before it goes; empty lines are
    /// passed over, and lines that are too long are dropped and counted.
    pub fn next_line(&mut self) -> Option<Cow<'_, str>> {
        loop {
            let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                if self.buffer.len() - self.start > LINE_MAX {
                    self.drop_unfinished();
                }
                return None;
            };
            let (from, end) = (self.start, self.searched + at);
            self.start = end + 1;
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let mut to = end;
            while to > from && self.buffer[to - 1] == b'\r' {
                to -= 1;
            }
            if to - from > LINE_MAX {
                self.dropped += 1;
                continue;
            }
            if to > from {
                return Some(decode(&self.buffer[from..to]));
            }
        }
    }

    /// How many lines were too long and dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_unfinished(&mut self) {
        if !self.skipping {
            self.dropped += 1;
            self.skipping = true;
        }
        self.buffer.clear();
        self.start = 0;
        self.searched = 0;
    }
}

/// A line as text. NUL, which no server should send, becomes U+FFFD.
pub fn decode(line: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(line) {
        Ok(text) if memchr(0, line).is_none() => Cow::Borrowed(text),
        Ok(text) => Cow::Owned(text.replace('\0', "\u{FFFD}")),
        Err(_) => {
            let words_at = words_at(line);
            let mut out = String::with_capacity(line.len() + 16);
            keep_bytes(&line[..words_at], &mut out);
            match std::str::from_utf8(&line[words_at..]) {
                Ok(text) => out.push_str(text),
                Err(_) => out.extend(line[words_at..].iter().map(|byte| windows_1252(*byte))),
            }
            Cow::Owned(out.replace('\0', "\u{FFFD}"))
        }
    }
}

/// Text as bytes for the wire: UTF-8, with the bytes that [`decode`] kept put back.
pub fn encode(text: &str) -> Cow<'_, [u8]> {
    // The escapes are U+F780 to U+F7FF, in UTF-8 EF 9E 80 to EF 9F BF.
    let escaped = |c: char| (ESCAPE + 0x80..=ESCAPE + 0xFF).contains(&u32::from(c));
    if memmem::find(text.as_bytes(), b"\xEF\x9E").is_none() && memmem::find(text.as_bytes(), b"\xEF\x9F").is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            out.push((u32::from(c) - ESCAPE) as u8);
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Cow::Owned(out)
}

/// Where the last parameter's text begins: after the first ` :` beyond tags and source, else the end.
fn words_at(line: &[u8]) -> usize {
    let mut from = 0;
    for mark in [b'@', b':'] {
        if line.get(from) == Some(&mark) {
            from += memchr(b' ', &line[from..]).map_or(line.len() - from, |at| at + 1);
        }
    }
    memmem::find(&line[from..], b" :").map_or(line.len(), |at| from + at + 2)
}

fn keep_bytes(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(ESCAPE + u32::from(*byte))));
    }
}

/// Windows-1252, with the five undefined bytes as Latin-1 controls.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => HIGH[usize::from(byte - 0x80)],
        byte => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(reads: &[&[u8]]) -> Vec<String> {
        let mut reader = LineReader::default();
        let mut out = Vec::new();
        for read in reads {
            reader.feed(read);
            while let Some(line) = reader.next_line() {
                out.push(line.into_owned());
            }
        }
        out
    }

    #[test]
    fn lines_end_at_a_bare_lf_too_and_empty_ones_are_nothing() {
        assert_eq!(lines(&[b"PING a\r\n\r\n\nPI", b"NG b\nPING c\r", b"\nrest"]), ["PING a", "PING b", "PING c"]);
    }

    #[test]
    fn a_line_without_end_is_dropped_in_bounded_memory_and_the_next_one_is_read() {
        let mut reader = LineReader::default();
        for _ in 0..1024 {
            reader.feed(&[b'x'; 1024]);
            assert!(reader.next_line().is_none());
            assert!(reader.buffer.capacity() < 64 * 1024);
        }
        reader.feed(b"tail\r\nPING a\r\n");
        assert_eq!(reader.next_line().as_deref(), Some("PING a"));
        assert_eq!(reader.dropped(), 1);
    }

    #[test]
    fn the_largest_tags_and_a_full_line_are_accepted() {
        let line = format!("@a={} PRIVMSG #c :{}\r\n", "x".repeat(8187), "y".repeat(497));
        assert_eq!(lines(&[line.as_bytes()]), [line.trim_end()]);
    }

    #[test]
    fn words_in_latin1_are_readable_and_names_in_it_can_be_answered() {
        let line = b":b\xF6b!b@h PRIVMSG #caf\xE9 :\x80 gr\xFC\xDFe";
        let text = decode(line);
        assert!(text.ends_with(":€ grüße"), "{text}");
        let chan = text.split(' ').nth(2).unwrap();
        assert_eq!(&*encode(&format!("PRIVMSG {chan} :ja")), b"PRIVMSG #caf\xE9 :ja");
    }

    proptest! {
        #[test]
        fn any_bytes_make_lines_without_line_breaks(reads in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
            for line in lines(&reads) {
                prop_assert!(!line.contains(['\n', '\0']) && !line.is_empty());
            }
        }

        #[test]
        fn how_bytes_are_cut_into_reads_does_not_matter(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let at = cut.index(bytes.len() + 1);
            prop_assert_eq!(lines(&[&bytes]), lines(&[&bytes[..at], &bytes[at..]]));
        }

        #[test]
        fn names_keep_their_bytes(name in prop::collection::vec(1u8..=255, 1..40)) {
            prop_assume!(!name.iter().any(|byte| b" \r\n:@".contains(byte)));
            prop_assume!(memmem::find(&name, b"\xEF\x9E").is_none() && memmem::find(&name, b"\xEF\x9F").is_none());
            let mut line = b"JOIN ".to_vec();
            line.extend(&name);
            let text = decode(&line);
            prop_assert_eq!(&*encode(&text), &line[..]);
        }
    }
}
