//! What telnet clients put between the words: options are taken out, lines come out. RFC 854. Pure.

/// The longest line; what is longer is cut.
const LINE_MAX: usize = 2000;
/// Bytes of an option's negotiation that are passed over at most.
const OPTION_MAX: usize = 512;

const IAC: u8 = 255;
const SB: u8 = 250;
const SE: u8 = 240;

/// "I will echo": the client stops showing what is typed. RFC 857.
pub(super) const ECHO_OFF: &[u8] = &[IAC, 251, 1];
/// "I will not": it shows it again.
pub(super) const ECHO_ON: &[u8] = &[IAC, 252, 1];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum At {
    #[default]
    Text,
    Iac,
    Option,
    Negotiation(usize),
    NegotiationIac(usize),
}

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    at: At,
    line: Vec<u8>,
    ready: std::collections::VecDeque<String>,
    after_cr: bool,
    /// The bytes that came after the last whole line.
    rest: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // What never becomes a line is not remembered for ever.
            if self.rest.len() > LINE_MAX * 4 {
                self.rest.clear();
            }
            self.rest.push(*byte);
            self.byte(*byte);
        }
    }

    /// The next whole line.
    pub(super) fn next_line(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    /// What came after the lines that were taken, as it came: for whoever takes the connection over.
    pub(super) fn into_rest(self) -> Vec<u8> {
        let mut out: Vec<u8> = self.ready.iter().flat_map(|line| line.bytes().chain([b'\n'])).collect();
        out.extend(self.rest);
        out
    }

    fn byte(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Text, IAC) => At::Iac,
            (At::Text, byte) => {
                self.text(byte);
                At::Text
            }
            // An escaped 255 is no letter in UTF-8.
            (At::Iac, IAC) => At::Text,
            (At::Iac, SB) => At::Negotiation(0),
            (At::Iac, 251..=254) => At::Option,
            (At::Iac | At::Option, _) => At::Text,
            (At::Negotiation(count), IAC) => At::NegotiationIac(count),
            (At::Negotiation(count) | At::NegotiationIac(count), _) if count >= OPTION_MAX => At::Text,
            (At::NegotiationIac(_), SE) => At::Text,
            (At::Negotiation(count) | At::NegotiationIac(count), _) => At::Negotiation(count + 1),
        };
    }

    fn text(&mut self, byte: u8) {
        let was_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if was_cr => self.rest.clear(),
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                self.rest.clear();
                self.ready.push_back(line);
            }
            // Backspace and delete, where the terminal sends them.
            8 | 127 => while self.line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            b'\t' => self.letter(b' '),
            0..=31 => {}
            byte => self.letter(byte),
        }
    }

    fn letter(&mut self, byte: u8) {
        if self.line.len() < LINE_MAX {
            self.line.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        lines.feed(bytes);
        std::iter::from_fn(|| lines.next_line()).collect()
    }

    #[test]
    fn options_are_taken_out_and_every_line_end_counts_once() {
        assert_eq!(lines(b"\xff\xfd\x01al\xff\xfaxyz\xff\xf0ice\r\npw\r\0.who\n\nx"), ["alice", "pw", ".who", ""]);
        assert_eq!(lines("alicé\u{8}e\u{7f}e\n".as_bytes()), ["alice"]);
        assert_eq!(lines(b"bell\x07\x1b[2J\n"), ["bell[2J"]);
        assert_eq!(lines(&[&[b'x'; 5000][..], b"\n"].concat())[0].len(), LINE_MAX);
    }

    #[test]
    fn what_came_behind_a_line_is_handed_on_as_it_came() {
        let mut lines = Lines::default();
        lines.feed(b"LeafBot\r\nversion 1\nhalf");
        assert_eq!(lines.next_line().as_deref(), Some("LeafBot"));
        assert_eq!(lines.into_rest(), b"version 1\nhalf");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_line_longer_than_a_line_or_one_with_a_control_character(
            bytes in prop::collection::vec(any::<u8>(), 0..4000),
        ) {
            for line in lines(&bytes) {
                // Each byte that is not UTF-8 becomes a character of three.
                prop_assert!(line.len() <= LINE_MAX * 3);
                prop_assert!(!line.bytes().any(|byte| byte < 32));
            }
        }
    }
}
