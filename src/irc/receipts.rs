//! What became of the words we sent: each line has a label, and the server's answer names it.
//! <https://ircv3.net/specs/extensions/labeled-response>, <https://ircv3.net/specs/extensions/echo-message>. Pure; time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines without an answer that are remembered; the oldest are given up.
const OPEN_MAX: usize = 4096;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// The line was passed on as it was.
    Passed,
    /// It was passed on, but not as we sent it: cut, or with its colours gone.
    Changed {
        /// Whom it was for.
        target: String,
    },
    /// It was not.
    Refused {
        /// Whom it was for.
        target: String,
        /// The server's words.
        reason: String,
    },
}

/// A line without an answer yet.
#[derive(Debug)]
struct Sent {
    label: String,
    target: String,
    words: String,
    at: Instant,
}

/// The lines of one connection.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    last: u64,
    open: VecDeque<Sent>,
}

impl Receipts {
    /// The line with a label in front, if it is words for somebody.
    pub(super) fn label(&mut self, line: &str, now: Instant) -> Option<String> {
        let message = Message::parse(line).ok()?;
        if !matches!(message.command, "PRIVMSG" | "NOTICE") || message.tags.get("batch").is_some() {
            return None;
        }
        self.last += 1;
        let label = format!("mc{}", self.last);
        let out = match line.strip_prefix('@') {
            Some(tagged) => format!("@label={label};{tagged}"),
            None => format!("@label={label} {line}"),
        };
        let (target, words) = (message.param(0).to_owned(), message.param(1).to_owned());
        self.open.push_back(Sent { label, target, words, at: now });
        let late = |sent: &Sent| now.duration_since(sent.at) >= PATIENCE;
        while self.open.len() > OPEN_MAX || self.open.front().is_some_and(late) {
            self.open.pop_front();
        }
        Some(out)
    }

    /// What a line of the server says about one of ours; nothing where it is no answer.
    pub(super) fn answered(&mut self, message: &Message<'_>) -> Option<Receipt> {
        let label = message.tags.get("label")?;
        let at = self.open.iter().position(|sent| sent.label == *label)?;
        let sent = self.open.remove(at)?;
        let error = message.command == "FAIL" || message.command.starts_with(['4', '5']);
        Some(match message.command {
            _ if error => Receipt::Refused { target: sent.target, reason: message.last().to_owned() },
            "PRIVMSG" | "NOTICE" if message.param(1) != sent.words => Receipt::Changed { target: sent.target },
            // The echo, an ACK, or the beginning of a batch of answers.
            _ => Receipt::Passed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(receipts: &mut Receipts, line: &str) -> Option<Receipt> {
        receipts.answered(&Message::parse(line).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_line_of_words_is_answered_once_by_its_label() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        assert_eq!(receipts.label("PRIVMSG #ops :hi", now).as_deref(), Some("@label=mc1 PRIVMSG #ops :hi"));
        assert_eq!(
            receipts.label("@+reply=x PRIVMSG #a :hello", now).as_deref(),
            Some("@label=mc2;+reply=x PRIVMSG #a :hello")
        );
        assert_eq!(receipts.label("NOTICE #b :3", now).as_deref(), Some("@label=mc3 NOTICE #b :3"));
        assert_eq!(receipts.label("JOIN #ops", now), None);
        assert_eq!(answer(&mut receipts, "@label=mc1 :chief!c@h PRIVMSG #ops :hi"), Some(Receipt::Passed));
        assert_eq!(answer(&mut receipts, "@label=mc1 :chief!c@h PRIVMSG #ops :hi"), None);
        let cut = Some(Receipt::Changed { target: "#a".to_owned() });
        assert_eq!(answer(&mut receipts, "@label=mc2 :chief!c@h PRIVMSG #a :hel"), cut);
        let refused = Receipt::Refused { target: "#b".to_owned(), reason: "Cannot send".to_owned() };
        assert_eq!(answer(&mut receipts, "@label=mc3 :s 404 chief #b :Cannot send"), Some(refused));
        receipts.label("PRIVMSG #b :4", now);
        assert_eq!(answer(&mut receipts, "@label=mc4 :s ACK"), Some(Receipt::Passed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_costs_no_memory() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        for n in 0..10_000 {
            receipts.label("PRIVMSG #ops :hi", now + Duration::from_millis(n));
        }
        assert_eq!(receipts.open.len(), OPEN_MAX);
        receipts.label("PRIVMSG #ops :hi", now + 10 * PATIENCE);
        assert_eq!(receipts.open.len(), 1);
    }
}
