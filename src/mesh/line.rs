//! Bytes to the lines of a link. A line ends with LF, CR or both; empty ones, which Eggdrops send between others, are passed over.

use std::borrow::Cow;

use crate::irc::decode::decode;

/// The longest line. Eggdrops write 1,024 bytes at most; whoever writes four times as much means harm.
pub const LINE_MAX: usize = 4096;

/// A line was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {LINE_MAX} bytes")]
pub struct TooLong;

/// Collects bytes into lines. Memory is bounded by the longest line and one read.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    start: usize,
}

impl LineReader {
    /// Begins with bytes that were read already.
    pub fn holding(bytes: &[u8]) -> LineReader {
        LineReader { buffer: bytes.to_vec(), start: 0 }
    }

    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line that is not empty, as text. What is not UTF-8 is kept as `irc::decode` keeps it.
    pub fn next_line(&mut self) -> Result<Option<Cow<'_, str>>, TooLong> {
        loop {
            let rest = &self.buffer[self.start..];
            let Some(at) = memchr::memchr2(b'\n', b'\r', rest) else {
                return if rest.len() > LINE_MAX { Err(TooLong) } else { Ok(None) };
            };
            let (from, end) = (self.start, self.start + at);
            self.start = end + 1;
            if at > LINE_MAX {
                return Err(TooLong);
            }
            if at > 0 {
                return Ok(Some(decode(&self.buffer[from..end])));
            }
        }
    }

    /// What waits beyond the last line, for whoever goes on with the bytes. Line ends before it are no part of it.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.start);
        *self = LineReader::default();
        let begin = rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        rest[begin..].to_vec()
    }

    /// Whether bytes wait beyond the last line: where TLS begins there must be none, for they came in clear.
    pub fn is_empty(&self) -> bool {
        self.buffer[self.start..].iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = LineReader::default();
        let mut out = Vec::new();
        for chunk in chunks {
            reader.feed(chunk);
            while let Ok(Some(line)) = reader.next_line() {
                out.push(line.into_owned());
            }
        }
        out
    }

    #[test]
    fn every_ending_ends_a_line_and_empty_ones_are_passed_over() {
        assert_eq!(lines(&[b"\r\n\r\nHub\r\n\nstar", b"ttls\rpi\n"]), ["Hub", "starttls", "pi"]);
    }

    #[test]
    fn what_waits_beyond_a_line_is_handed_on() {
        let mut reader = LineReader::holding(b"starttls -\r\n\x16\x03rest");
        assert_eq!(reader.next_line().unwrap().unwrap(), "starttls -");
        assert!(!reader.is_empty());
        assert_eq!(reader.take_rest(), b"\x16\x03rest");
        assert!(reader.is_empty() && reader.next_line() == Ok(None));
    }

    #[test]
    fn what_is_too_long_is_refused_with_and_without_an_end() {
        let mut reader = LineReader::default();
        reader.feed(&vec![b'x'; LINE_MAX + 1]);
        assert_eq!(reader.next_line(), Err(TooLong));
        let mut reader = LineReader::holding(&[vec![b'x'; LINE_MAX + 1], vec![b'\n']].concat());
        assert_eq!(reader.next_line(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_lines_are_the_same(text in "[a-c\r\n ]{0,80}", cut in 0usize..80) {
            let cut = cut.min(text.len());
            let (one, two) = text.as_bytes().split_at(cut);
            prop_assert_eq!(lines(&[one, two]), lines(&[text.as_bytes()]));
        }
    }
}
