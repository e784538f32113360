//! Tells by the first bytes who is calling. Pure: bytes in, a guess out.

/// What is coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// A ClientHello.
    Tls,
    /// A registration of IRC.
    Irc,
    /// A browser, or somebody who was sent here by one.
    Http,
    /// Somebody who types, or a bot that tells its handle.
    Telnet,
    /// It cannot be told yet.
    More,
}

/// How a registration of IRC begins.
const IRC: &[&str] = &["CAP", "NICK", "USER", "PASS", "AUTHENTICATE", "PING", "QUIT"];
/// How a request of HTTP begins; it is written in capitals.
const HTTP: &[&str] = &["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI"];
/// The longest first word that is waited for.
const WORD_MAX: usize = 12;

/// Guesses. Nothing is ever told apart by more than the first word, and a first word that is none of IRC's or HTTP's is
/// somebody's handle.
pub fn guess(bytes: &[u8]) -> Guess {
    match bytes {
        [] => return Guess::More,
        // A handshake record of any version: RFC 8446, section 5.1.
        [0x16, 0x03, ..] => return Guess::Tls,
        [0x16] => return Guess::More,
        _ => {}
    }
    // Clients may send empty lines first.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let end = bytes.iter().position(|byte| byte.is_ascii_whitespace());
    let word = &bytes[..end.unwrap_or(bytes.len())];
    let is = |name: &&&str| word.eq_ignore_ascii_case(name.as_bytes());
    match end {
        // A handle stands alone in its line; all of these have something behind them.
        Some(at) if bytes[at] == b' ' && HTTP.iter().any(|name| word == name.as_bytes()) => Guess::Http,
        Some(at) if bytes[at] == b' ' && IRC.iter().any(|name| is(&name)) => Guess::Irc,
        Some(_) => Guess::Telnet,
        None => {
            let begins =
                |name: &&str| name.as_bytes().get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word));
            let may_be = word.len() <= WORD_MAX && (IRC.iter().any(begins) || HTTP.iter().any(begins));
            if may_be || word.is_empty() { Guess::More } else { Guess::Telnet }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_are_told_apart_by_their_first_word() {
        let of = |text: &str| guess(text.as_bytes());
        assert_eq!(guess(&[0x16, 0x03, 0x01, 0x02]), Guess::Tls);
        for irc in ["CAP LS 302\r\n", "NICK alice\r\n", "pass x\r\n", "USER a 0 * :b\r\n", "\r\nNICK a\r\n"] {
            assert_eq!(of(irc), Guess::Irc, "{irc}");
        }
        for http in ["GET / HTTP/1.1\r\n", "POST /x", "PRI * HTTP/2.0"] {
            assert_eq!(of(http), Guess::Http, "{http}");
        }
        for telnet in ["alice\r\n", "LeafBot\n", "nick\r\n", "get off my lawn", "pass\n", "capo", "\u{ff}\u{fb}"] {
            assert_eq!(of(telnet), Guess::Telnet, "{telnet}");
        }
        assert_eq!(guess(&[0xff, 0xfb, 0x05]), Guess::Telnet);
        for more in ["", "C", "CAP", "nic", "G", "\r\n"] {
            assert_eq!(of(more), Guess::More, "{more}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_guess(bytes in prop::collection::vec(any::<u8>(), 0..40), more in prop::collection::vec(any::<u8>(), 0..10)) {
            let first = guess(&bytes);
            let both = [bytes, more].concat();
            if first != Guess::More {
                prop_assert_eq!(guess(&both), first);
            }
        }

        #[test]
        fn nobody_is_waited_for_longer_than_a_word(bytes in prop::collection::vec(any::<u8>(), 20..60)) {
            let only_breaks = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            prop_assert!(guess(&bytes) != Guess::More || only_breaks || bytes[0] == b'\r' || bytes[0] == b'\n');
        }
    }
}
