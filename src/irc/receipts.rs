//! What became of the words we sent. Where the server takes labels its answer names the line; else its echo or its refusal is told
//! by target and order; else silence means, after a while, that it was passed on.
//! <https://ircv3.net/specs/extensions/labeled-response>, <https://ircv3.net/specs/extensions/echo-message>. Pure; time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use masterchief_contract::Class;
use tokio::time::Instant;

use super::message::Message;
use super::outgoing::Line;

/// How long an answer may take where the server has promised one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a refusal may take where there is no other answer.
const SILENCE: Duration = Duration::from_secs(3);
/// Lines without an answer that are remembered; the oldest are given up.
const OPEN_MAX: usize = 4096;
/// Refusals of words to a target (RFC 2812 section 5.2, and what servers have added).
const REFUSALS: [&str; 17] = [
    "401", "402", "403", "404", "407", "411", "412", "413", "414", "415", "416", "417", "437", "439", "477", "492",
    "531",
];

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// The line was passed on, as it was or not.
    Passed {
        /// Whom it was for.
        target: String,
        /// Whether it was cut, or its colours are gone.
        changed: bool,
        /// The network's own id.
        msgid: Option<String>,
    },
    /// It was not.
    Refused {
        /// Whom it was for.
        target: String,
        /// The server's code.
        code: String,
        /// The server's words.
        reason: String,
    },
}

/// The lines an answer is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) receipt: Receipt,
    pub(super) ids: Vec<u64>,
}

/// A line without an answer yet.
#[derive(Debug)]
struct Sent {
    label: Option<String>,
    target: String,
    words: String,
    until: Instant,
    ids: Vec<u64>,
    /// The line itself, where it is said again if it is lost.
    page: Option<Line>,
}

/// The lines of one connection.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    last: u64,
    /// Lines that the server has promised to answer, in order.
    promised: VecDeque<Sent>,
    /// Lines that it only may refuse.
    others: VecDeque<Sent>,
    /// Pages about which nothing was said in their time, with the number of the PING behind them once it is asked: without its
    /// answer nobody knows whether the server has read them at all.
    doubted: VecDeque<(u64, Sent)>,
    /// The number of the last such PING.
    asked: u64,
}

/// What the PING behind pages says, before its number.
const PROOF: &str = "mcpage";

/// What the server promises about our words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Promises {
    /// Answers have our label.
    pub(super) labels: bool,
    /// Our words come back to us.
    pub(super) echo: bool,
}

/// The numbers of all lines that are said with this one.
pub(super) fn ids(line: &Line) -> Vec<u64> {
    std::iter::once(line.id).chain(line.also.iter().copied()).filter(|id| *id != 0).collect()
}

impl Receipts {
    /// Remembers a line that leaves as `text`. Gives it with a label in front, where it is words and the server takes labels.
    pub(super) fn sent(&mut self, line: &Line, text: &str, promises: Promises, now: Instant) -> Option<String> {
        let message = Message::parse(text).ok()?;
        if !matches!(message.command, "PRIVMSG" | "NOTICE") {
            return None;
        }
        // What is part of a message in parts has no answer of its own.
        let alone = message.tags.get("batch").is_none();
        let label = (promises.labels && promises.echo && alone).then(|| {
            self.last += 1;
            format!("mc{}", self.last)
        });
        let out = label.as_ref().map(|label| match text.strip_prefix('@') {
            Some(tagged) => format!("@label={label};{tagged}"),
            None => format!("@label={label} {text}"),
        });
        let answers = label.is_some() || promises.echo && alone;
        let (open, time) = if answers { (&mut self.promised, PATIENCE) } else { (&mut self.others, SILENCE) };
        let words = if answers { message.param(1).to_owned() } else { String::new() };
        let page = (line.class == Some(Class::Page)).then(|| line.clone());
        open.push_back(Sent {
            label,
            target: message.param(0).to_owned(),
            words,
            until: now + time,
            ids: ids(line),
            page,
        });
        out
    }

    /// What a line of the server says about one of ours; nothing where it is no answer.
    pub(super) fn answered(&mut self, message: &Message<'_>, own: bool) -> Option<Answered> {
        let error = REFUSALS.contains(&message.command) || message.command == "FAIL";
        let is_it = |sent: &Sent| match message.tags.get("label") {
            Some(label) => sent.label.as_deref() == Some(&*label),
            None if sent.label.is_some() => false,
            None if error => refuses(message, sent),
            None => own && sent.target.eq_ignore_ascii_case(message.param(0)) && sent.words == message.param(1),
        };
        let answer = error || own || message.tags.get("label").is_some();
        let mut rows = [&mut self.promised, &mut self.others].into_iter().filter(|_| answer);
        let sent = rows.find_map(|row| row.iter().position(is_it).and_then(|at| row.remove(at))).or_else(|| {
            let at = self.doubted.iter().position(|(_, sent)| answer && is_it(sent))?;
            self.doubted.remove(at).map(|(_, sent)| sent)
        })?;
        let Sent { ids, target, words, .. } = sent;
        let failed = error || message.command.starts_with(['4', '5']);
        let receipt = if failed {
            let code = if message.command == "FAIL" { message.param(1) } else { message.command };
            Receipt::Refused { target, code: code.to_owned(), reason: message.last().to_owned() }
        } else {
            let echo = matches!(message.command, "PRIVMSG" | "NOTICE");
            let msgid = message.tags.get("msgid").filter(|id| echo && !id.is_empty()).map(|id| id.to_string());
            // An echo, an ACK, or the beginning of a batch of answers.
            Receipt::Passed { target, changed: echo && message.param(1) != words, msgid }
        };
        Some(Answered { receipt, ids })
    }

    /// Lines about which nothing was said in their time. A page among them is only doubted: see [`Receipts::asks`].
    pub(super) fn silent(&mut self, now: Instant) -> Vec<u64> {
        let mut out = Vec::new();
        for row in [&mut self.promised, &mut self.others] {
            while row.len() > OPEN_MAX || row.front().is_some_and(|sent| sent.until <= now) {
                let Some(sent) = row.pop_front() else { break };
                if sent.page.is_some() { self.doubted.push_back((0, sent)) } else { out.extend(sent.ids) }
            }
        }
        while self.doubted.len() > OPEN_MAX {
            out.extend(self.doubted.pop_front().into_iter().flat_map(|(_, sent)| sent.ids));
        }
        out
    }

    /// What a PING is to say now, where there are pages that no PING stands behind yet.
    pub(super) fn asks(&mut self) -> Option<String> {
        let asked = self.asked + 1;
        let mut new = self.doubted.iter_mut().filter(|(number, _)| *number == 0).peekable();
        new.peek()?;
        new.for_each(|(number, _)| *number = asked);
        self.asked = asked;
        Some(format!("{PROOF}{asked}"))
    }

    /// A PONG came: a server reads in order, so it has read the pages in front of that PING, and refused none of them.
    pub(super) fn proven(&mut self, token: &str) -> Vec<u64> {
        let Some(proven) = token.strip_prefix(PROOF).and_then(|number| number.parse::<u64>().ok()) else {
            return Vec::new();
        };
        let mut read = Vec::new();
        for (number, sent) in std::mem::take(&mut self.doubted) {
            if (1..=proven).contains(&number) { read.extend(sent.ids) } else { self.doubted.push_back((number, sent)) }
        }
        read
    }

    /// The server has answered our QUIT: it has read all that was in front of it. What it has promised to answer and did not stays open.
    pub(super) fn read_all(&mut self) -> Vec<u64> {
        let doubted = std::mem::take(&mut self.doubted).into_iter().map(|(_, sent)| sent);
        doubted.chain(std::mem::take(&mut self.others)).flat_map(|sent| sent.ids).collect()
    }

    /// When the next line has had its time.
    pub(super) fn due(&self) -> Option<Instant> {
        [&self.promised, &self.others].into_iter().filter_map(|row| row.front()).map(|sent| sent.until).min()
    }

    /// The connection is gone: the pages of which it is not known whether they arrived, and the numbers of the other lines.
    pub(super) fn lost(&mut self) -> (Vec<Line>, Vec<u64>) {
        let (mut pages, mut others) = (Vec::new(), Vec::new());
        let doubted = std::mem::take(&mut self.doubted).into_iter().map(|(_, sent)| sent);
        let rest = std::mem::take(&mut self.promised).into_iter().chain(std::mem::take(&mut self.others));
        for sent in doubted.chain(rest) {
            match sent.page {
                Some(page) => pages.push(page),
                None => others.extend(sent.ids),
            }
        }
        (pages, others)
    }
}

/// Whether a refusal without a label means this line: it names its target, or none, and comes soon.
fn refuses(message: &Message<'_>, sent: &Sent) -> bool {
    if message.command == "FAIL" {
        return matches!(message.param(0), "PRIVMSG" | "NOTICE");
    }
    let named = message.param(1);
    let nobody = matches!(message.command, "411" | "412" | "417");
    nobody || sent.target.eq_ignore_ascii_case(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Promises = Promises { labels: true, echo: true };

    fn line(id: u64) -> Line {
        Line { id, ..Line::default() }
    }

    fn answer(receipts: &mut Receipts, line: &str) -> Option<Receipt> {
        receipts.answered(&Message::parse(line).unwrap(), line.contains(":chief!")).map(|answered| answered.receipt)
    }

    fn passed(target: &str, changed: bool, msgid: Option<&str>) -> Option<Receipt> {
        Some(Receipt::Passed { target: target.to_owned(), changed, msgid: msgid.map(str::to_owned) })
    }

    fn refused(target: &str, code: &str) -> Option<Receipt> {
        let reason = "Cannot send".to_owned();
        Some(Receipt::Refused { target: target.to_owned(), code: code.to_owned(), reason })
    }

    #[tokio::test(start_paused = true)]
    async fn each_line_of_words_is_answered_once_by_its_label() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        let mut sent = |text: &str| receipts.sent(&line(7), text, ALL, now);
        assert_eq!(sent("PRIVMSG #ops :hi").as_deref(), Some("@label=mc1 PRIVMSG #ops :hi"));
        assert_eq!(sent("@+reply=x PRIVMSG #a :hello").as_deref(), Some("@label=mc2;+reply=x PRIVMSG #a :hello"));
        assert_eq!(sent("NOTICE #b :3").as_deref(), Some("@label=mc3 NOTICE #b :3"));
        assert_eq!(sent("JOIN #ops"), None);
        let echo = "@label=mc1;msgid=z :chief!c@h PRIVMSG #ops :hi";
        assert_eq!(answer(&mut receipts, echo), passed("#ops", false, Some("z")));
        assert_eq!(answer(&mut receipts, echo), None);
        assert_eq!(answer(&mut receipts, "@label=mc2 :chief!c@h PRIVMSG #a :hel"), passed("#a", true, None));
        assert_eq!(answer(&mut receipts, "@label=mc3 :s 404 chief #b :Cannot send"), refused("#b", "404"));
        receipts.sent(&line(8), "PRIVMSG #b :4", ALL, now);
        assert_eq!(answer(&mut receipts, "@label=mc4 :s ACK"), passed("#b", false, None));
    }

    #[tokio::test(start_paused = true)]
    async fn without_labels_a_refusal_is_told_by_its_target_and_silence_is_a_guess() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        for (id, target) in [(1, "#a"), (2, "#b"), (3, "#a")] {
            receipts.sent(&line(id), &format!("PRIVMSG {target} :{id}"), Promises::default(), now);
        }
        let refusal = Message::parse(":s 404 chief #A :Cannot send").unwrap();
        assert_eq!(receipts.answered(&refusal, false).map(|answered| answered.ids), Some(vec![1]));
        assert_eq!(answer(&mut receipts, ":s 401 chief nobody :No such nick"), None);
        assert_eq!(receipts.silent(now), [0; 0]);
        assert_eq!(receipts.silent(now + SILENCE), [2, 3]);
        assert_eq!(answer(&mut receipts, ":s 404 chief #b :Cannot send"), None, "too late");
        let echo = Promises { labels: false, echo: true };
        receipts.sent(&line(4), "PRIVMSG #ops :hi", echo, now);
        assert_eq!(answer(&mut receipts, ":chief!c@h PRIVMSG #ops :other"), None);
        assert_eq!(answer(&mut receipts, ":chief!c@h PRIVMSG #ops :hi"), passed("#ops", false, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_costs_no_memory_and_a_lost_page_is_given_back() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        for n in 0..10_000 {
            receipts.sent(&line(n + 1), "PRIVMSG #ops :hi", ALL, now + Duration::from_millis(n));
            receipts.silent(now + Duration::from_millis(n));
        }
        assert_eq!(receipts.promised.len(), OPEN_MAX);
        assert_eq!(receipts.silent(now + 10 * PATIENCE).len(), OPEN_MAX);
        let page = Line { class: Some(Class::Page), also: vec![6], ..line(5) };
        receipts.sent(&page, "PRIVMSG #ops :the shop is down", ALL, now);
        receipts.sent(&line(9), "PRIVMSG #ops :hi", ALL, now);
        let (pages, others) = receipts.lost();
        assert_eq!((ids(&pages[0]), others), (vec![5, 6], vec![9]));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_says_nothing_of_a_page_until_the_server_has_answered_a_ping_behind_it() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        let page = |id| Line { class: Some(Class::Page), ..line(id) };
        receipts.sent(&page(1), "PRIVMSG #ops :one", Promises::default(), now);
        receipts.sent(&line(2), "PRIVMSG #ops :two", Promises::default(), now);
        receipts.sent(&page(3), "PRIVMSG #ops :three", ALL, now);
        assert_eq!((receipts.silent(now + SILENCE), receipts.asks()), (vec![2], Some("mcpage1".to_owned())));
        assert_eq!(
            (receipts.due(), receipts.asks()),
            (Some(now + PATIENCE), None),
            "it is not looked at again and again"
        );
        assert_eq!((receipts.silent(now + PATIENCE), receipts.asks()), (vec![], Some("mcpage2".to_owned())));
        assert_eq!((receipts.proven("masterchief"), receipts.proven("mcpage1")), (vec![], vec![1]));
        assert_eq!(answer(&mut receipts, "@label=mc1 :s 404 chief #ops :Cannot send"), refused("#ops", "404"), "late");
        receipts.sent(&page(4), "PRIVMSG #ops :four", Promises::default(), now);
        receipts.silent(now + SILENCE);
        receipts.sent(&page(5), "PRIVMSG #ops :five", ALL, now);
        receipts.sent(&line(6), "PRIVMSG #ops :six", Promises::default(), now);
        assert_eq!(
            receipts.read_all(),
            [4, 6],
            "a QUIT that is answered proves it too, but no promise that was not kept"
        );
        assert_eq!(receipts.lost().0.len(), 1);
    }
}
