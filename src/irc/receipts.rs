//! What became of the words we sent. Where the server takes labels its answer names the line; else its echo or its refusal is told
//! by target and order; else silence means, after a while, that it was passed on.
//! <https://ircv3.net/specs/extensions/labeled-response>, <https://ircv3.net/specs/extensions/echo-message>. Pure; time is handed in.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use masterchief_contract::Class;
use tokio::time::Instant;

use super::message::Message;
use super::multiline::{PART, without_tags};
use super::outgoing::Line;
use super::text::plain;

/// How long an answer may take where the server has promised one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a refusal may take where there is no other answer.
const SILENCE: Duration = Duration::from_secs(3);
/// Lines without an answer that are remembered; the oldest are given up.
const OPEN_MAX: usize = 4096;
/// Batches of answers open at once; more are hostile, and the oldest is forgotten.
const BATCHES_MAX: usize = 64;
/// Refusals of words to a target (RFC 2812 section 5.2, and what servers have added).
const REFUSALS: [&str; 18] = [
    "401", "402", "403", "404", "407", "408", "411", "412", "413", "414", "415", "416", "417", "437", "439", "477",
    "492", "531",
];

/// Refusals that may mean colours, bold and the like (a channel with +c): 408 says so, 404 in words that differ.
const NO_COLOURS: [&str; 2] = ["404", "408"];

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// The line was passed on, as it was or not.
    Passed {
        /// Whom it was for.
        target: String,
        /// Whether it was cut, or has other words. That its colours are gone (a channel with +S) is no change.
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
    /// What is to be said now instead, without colours: what became of it is still open.
    pub(super) again: Vec<Line>,
}

/// A line without an answer yet, or a message in parts.
#[derive(Debug)]
struct Sent {
    label: Option<String>,
    /// The name of its batch, where it is a message in parts.
    batch: Option<String>,
    /// `PRIVMSG` or `NOTICE`; empty until the first part is known.
    command: String,
    target: String,
    /// Its words, or those of the first part, where they come back to us; empty where they do not.
    words: String,
    until: Instant,
    ids: Vec<u64>,
    /// The lines themselves, where they may have to be said again: pages, what has colours, and what stands beside that.
    lines: Vec<Line>,
    /// What the lines of a batch of answers have said so far.
    heard: Option<Receipt>,
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
    /// Lines that are about to leave again without their colours.
    again: BTreeSet<u64>,
    /// Batches of answers that are open, and the label of the line they are about; the oldest first.
    batches: VecDeque<(String, String)>,
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
    /// Remembers a line that leaves as `text`. Gives it with a label in front, where it is words and the server takes labels. A message
    /// in parts has one answer and one label, on the line that opens it.
    pub(super) fn sent(&mut self, line: &Line, text: &str, promises: Promises, now: Instant) -> Option<String> {
        let message = Message::parse(text).ok()?;
        let opens = message.is("BATCH") && message.param(0).starts_with('+');
        let words = matches!(message.command, "PRIVMSG" | "NOTICE");
        for id in ids(line) {
            self.again.remove(&id);
        }
        if !words && !opens || words && self.is_part(line, &message, promises) {
            return None;
        }
        let label = (promises.labels && promises.echo).then(|| {
            self.last += 1;
            format!("mc{}", self.last)
        });
        let out = label.as_ref().map(|label| match text.strip_prefix('@') {
            Some(tagged) => format!("@label={label};{tagged}"),
            None => format!("@label={label} {text}"),
        });
        let (open, time) = if promises.echo { (&mut self.promised, PATIENCE) } else { (&mut self.others, SILENCE) };
        let mut sent = Sent {
            label,
            batch: message.param(0).strip_prefix('+').filter(|_| opens).map(str::to_owned),
            command: String::new(),
            target: message.param(if opens { 2 } else { 0 }).to_owned(),
            words: String::new(),
            until: now + time,
            ids: Vec::new(),
            lines: Vec::new(),
            heard: None,
        };
        if words {
            sent.add(line, &message, promises);
        }
        open.push_back(sent);
        out
    }

    /// Whether a line is part of a message that is open; if so it has no answer of its own.
    fn is_part(&mut self, line: &Line, message: &Message<'_>, promises: Promises) -> bool {
        let Some(name) = message.tags.get("batch") else { return false };
        // Nothing stands between the parts of a message, so it is the newest.
        let newest = [&mut self.promised, &mut self.others].into_iter().filter_map(VecDeque::back_mut);
        let whole = newest.into_iter().find(|sent| sent.batch.as_deref() == Some(&*name));
        whole.map(|whole| whole.add(line, message, promises)).is_some()
    }

    /// What a line of the server says about one of ours; nothing where it is no answer.
    pub(super) fn answered(&mut self, message: &Message<'_>, own: bool) -> Option<Answered> {
        if message.is("BATCH") && message.param(0).starts_with('-') {
            return self.batch_ended(message);
        }
        let label = match message.tags.get("label") {
            Some(label) => Some(label.into_owned()),
            None => self.label_of(message),
        };
        if let (true, Some(label)) = (message.is("BATCH"), &label) {
            self.batch_began(message, label);
            return None;
        }
        let error = REFUSALS.contains(&message.command) || message.is("FAIL");
        let failed = error || message.command.starts_with(['4', '5']) && label.is_some();
        let echo = own && matches!(message.command, "PRIVMSG" | "NOTICE");
        if !(error || echo || label.is_some()) {
            return None;
        }
        let within = message.tags.get("label").is_none() && label.is_some();
        let is_it = |sent: &Sent| match &label {
            Some(label) => sent.label.as_ref() == Some(label),
            None if sent.label.is_some() => false,
            None if error => refuses(message, sent),
            // What was promised no echo has none, whatever we are seen to do.
            None => !sent.words.is_empty() && sent.is_echo(message),
        };
        if within {
            let sent =
                [&mut self.promised, &mut self.others].into_iter().find_map(|row| row.iter_mut().find(|s| is_it(s)))?;
            sent.hear(message, failed, echo);
            return None;
        }
        let sent = self.take(is_it)?;
        let receipt = if failed {
            refused(&sent.target, message)
        } else {
            // An echo, an ACK, or another line of its own.
            passed(&sent, message, echo)
        };
        Some(self.settled(sent, receipt))
    }

    /// Takes out the first line that is the one.
    fn take(&mut self, is_it: impl Fn(&Sent) -> bool) -> Option<Sent> {
        let mut rows = [&mut self.promised, &mut self.others].into_iter();
        let sent = rows.find_map(|row| row.iter().position(&is_it).and_then(|at| row.remove(at)));
        sent.or_else(|| {
            let at = self.doubted.iter().position(|(_, sent)| is_it(sent))?;
            self.doubted.remove(at).map(|(_, sent)| sent)
        })
    }

    /// The answer, for the lines it is about. A long line that left in pieces has passed when the last of them has. What was refused and
    /// has colours is said again without.
    fn settled(&mut self, sent: Sent, receipt: Receipt) -> Answered {
        let mut ids = sent.ids.clone();
        let mut again = Vec::new();
        match &receipt {
            Receipt::Passed { .. } => {
                ids.retain(|id| !self.promised.iter().any(|other| other.ids.contains(id)) && !self.again.contains(id))
            }
            Receipt::Refused { code, .. } if NO_COLOURS.contains(&code.as_str()) => again = sent.without_colours(),
            Receipt::Refused { .. } => {}
        }
        if !again.is_empty() {
            self.again.extend(ids.drain(..));
        }
        Answered { receipt, ids, again }
    }

    /// A batch of answers begins: what its lines say is one answer when it ends.
    fn batch_began(&mut self, message: &Message<'_>, label: &str) {
        let Some(name) = message.param(0).strip_prefix('+') else { return };
        if self.batches.len() >= BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back((name.to_owned(), label.to_owned()));
        let sent = self.promised.iter_mut().find(|sent| sent.label.as_deref() == Some(label));
        // The echo of a message in parts: its id stands here.
        let ours = matches!(message.param(1), "draft/multiline" | "multiline");
        if let Some(sent) = sent.filter(|sent| ours && sent.heard.is_none()) {
            sent.heard = Some(Receipt::Passed { target: sent.target.clone(), changed: false, msgid: msgid(message) });
        }
    }

    /// The end of a batch of answers, if it is one and no other around it is still open.
    fn batch_ended(&mut self, message: &Message<'_>) -> Option<Answered> {
        let name = message.param(0).strip_prefix('-')?;
        let at = self.batches.iter().position(|(open, _)| open == name)?;
        let (_, label) = self.batches.remove(at)?;
        if self.batches.iter().any(|(_, other)| *other == label) {
            return None;
        }
        let mut sent = self.take(|sent| sent.label.as_ref() == Some(&label))?;
        let heard = sent.heard.take();
        let receipt =
            heard.unwrap_or_else(|| Receipt::Passed { target: sent.target.clone(), changed: false, msgid: None });
        Some(self.settled(sent, receipt))
    }

    /// The label of the batch of answers that a line belongs to.
    fn label_of(&self, message: &Message<'_>) -> Option<String> {
        let name = message.tags.get("batch")?;
        self.batches.iter().find(|(open, _)| *open == name).map(|(_, label)| label.clone())
    }

    /// These lines are said anew: what they waited for does not come any more.
    pub(super) fn forget(&mut self, lines: &[Line]) {
        let gone: Vec<u64> = lines.iter().flat_map(ids).collect();
        let keep = |sent: &Sent| !sent.ids.iter().any(|id| gone.contains(id));
        self.promised.retain(keep);
        self.others.retain(keep);
        self.doubted.retain(|(_, sent)| keep(sent));
    }

    /// Lines about which nothing was said in their time. A page among them is only doubted: see [`Receipts::asks`].
    pub(super) fn silent(&mut self, now: Instant) -> Vec<u64> {
        let mut out = Vec::new();
        for row in [&mut self.promised, &mut self.others] {
            while row.len() > OPEN_MAX || row.front().is_some_and(|sent| sent.until <= now) {
                let Some(sent) = row.pop_front() else { break };
                if sent.is_page() { self.doubted.push_back((0, sent)) } else { out.extend(sent.ids) }
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
        self.batches.clear();
        for sent in doubted.chain(rest) {
            if sent.is_page() { pages.extend(sent.lines) } else { others.extend(sent.ids) }
        }
        (pages, others)
    }
}

impl Sent {
    /// The line is one of those that have this answer.
    fn add(&mut self, line: &Line, message: &Message<'_>, promises: Promises) {
        if self.command.is_empty() {
            self.command = message.command.to_owned();
            self.words = if promises.echo { message.param(1).to_owned() } else { String::new() };
        }
        self.ids.extend(ids(line));
        if line.class == Some(Class::Page) || self.batch.is_some() || has_colours(message.param(1)) {
            self.lines.push(line.clone());
        }
    }

    /// Whether it is said again where the connection is lost.
    fn is_page(&self) -> bool {
        self.lines.iter().any(|line| line.class == Some(Class::Page))
    }

    /// All of it without colours, bold and the like, where it has any.
    fn without_colours(&self) -> Vec<Line> {
        if !self.lines.iter().any(|line| has_colours(&line.text)) {
            return Vec::new();
        }
        let bare = |line: &Line| {
            // What it was a part of is over.
            let text = if line.text.starts_with(PART) { without_tags(&line.text) } else { &line.text };
            Line { text: plain(text).into_owned(), whole: 0, ..line.clone() }
        };
        self.lines.iter().map(bare).collect()
    }

    /// Whether these are its words.
    fn is_echo(&self, message: &Message<'_>) -> bool {
        let (command, target) = (message.command, message.param(0));
        self.command == command
            && self.target.eq_ignore_ascii_case(target)
            && (self.words == message.param(1) || plain(&self.words) == plain(message.param(1)))
    }

    /// A line of its batch of answers. A refusal is not taken back by what comes behind it.
    fn hear(&mut self, message: &Message<'_>, failed: bool, echo: bool) {
        if failed && !matches!(self.heard, Some(Receipt::Refused { .. })) {
            self.heard = Some(refused(&self.target, message));
        } else if echo && self.heard.is_none() {
            self.heard = Some(passed(self, message, echo));
        }
    }
}

/// What an echo or another good answer says.
fn passed(sent: &Sent, message: &Message<'_>, echo: bool) -> Receipt {
    let changed = echo && plain(message.param(1)) != plain(&sent.words);
    Receipt::Passed { target: sent.target.clone(), changed, msgid: msgid(message).filter(|_| echo) }
}

fn has_colours(text: &str) -> bool {
    matches!(plain(text), Cow::Owned(_))
}

fn refused(target: &str, message: &Message<'_>) -> Receipt {
    let code = if message.is("FAIL") { message.param(1) } else { message.command };
    Receipt::Refused { target: target.to_owned(), code: code.to_owned(), reason: message.last().to_owned() }
}

fn msgid(message: &Message<'_>) -> Option<String> {
    message.tags.get("msgid").filter(|id| !id.is_empty()).map(|id| id.into_owned())
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

    #[tokio::test(start_paused = true)]
    async fn what_we_do_in_a_channel_is_no_echo_of_our_words() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        let page = Line { class: Some(Class::Page), ..line(1) };
        receipts.sent(&page, "PRIVMSG #ops :bye", Promises::default(), now);
        let deeds = [":chief!c@h PART #ops", ":chief!c@h JOIN #ops", ":chief!c@h MODE #ops", ":chief!c@h TOPIC #ops :"];
        for deed in deeds {
            assert_eq!(answer(&mut receipts, deed), None, "{deed}");
        }
        assert_eq!(receipts.lost().0.len(), 1, "the page is said again");
        let echo = Promises { labels: false, echo: true };
        receipts.sent(&line(2), "PRIVMSG #ops :bye", echo, now);
        assert_eq!(answer(&mut receipts, ":chief!c@h PART #ops :bye"), None, "nor with the same words");
        assert_eq!(answer(&mut receipts, ":chief!c@h NOTICE #ops :bye"), None);
        assert_eq!(answer(&mut receipts, ":chief!c@h PRIVMSG #ops :bye"), passed("#ops", false, None));
    }

    /// Says a message of two parts, numbered from `id`; gives the line that opens it.
    fn whole(receipts: &mut Receipts, id: u64, name: &str, promises: Promises) -> Option<String> {
        let now = Instant::now();
        let mut sent = |line: &Line, text: &str| receipts.sent(line, text, promises, now);
        let opening = sent(&Line::default(), &format!("BATCH +{name} draft/multiline #ops"));
        assert_eq!(sent(&line(id), &format!("@batch={name} PRIVMSG #ops :one")), None);
        assert_eq!(sent(&line(id + 1), &format!("@batch={name} PRIVMSG #ops :two")), None);
        assert_eq!(sent(&Line::default(), &format!("BATCH -{name}")), None);
        opening
    }

    fn numbers(receipts: &mut Receipts, line: &str) -> Option<Vec<u64>> {
        let own = line.contains(":chief!");
        receipts.answered(&Message::parse(line).unwrap(), own).map(|answered| answered.ids)
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_in_parts_has_one_label_and_one_answer() {
        let mut receipts = Receipts::default();
        let opening = whole(&mut receipts, 1, "a", ALL);
        assert_eq!(opening.as_deref(), Some("@label=mc1 BATCH +a draft/multiline #ops"));
        assert_eq!(numbers(&mut receipts, "@label=mc1;msgid=m :chief!c@h BATCH +x draft/multiline #ops"), None);
        assert_eq!(numbers(&mut receipts, "@batch=x :chief!c@h PRIVMSG #ops :one"), None);
        assert_eq!(numbers(&mut receipts, "@batch=x :chief!c@h PRIVMSG #ops :two"), None);
        let ended = receipts.answered(&Message::parse("BATCH -x").unwrap(), false).unwrap();
        assert_eq!(Some(ended.receipt), passed("#ops", false, Some("m")));
        assert_eq!(ended.ids, [1, 2]);
        whole(&mut receipts, 3, "b", ALL);
        assert_eq!(numbers(&mut receipts, "@label=mc2 :s 404 chief #ops :Cannot send"), Some(vec![3, 4]));
        // Without labels its echo is told by its first words, and its refusal is of all of it.
        let echo = Promises { labels: false, echo: true };
        assert_eq!(whole(&mut receipts, 5, "c", echo), None);
        assert_eq!(numbers(&mut receipts, "@batch=y :chief!c@h PRIVMSG #ops :one"), Some(vec![5, 6]));
        whole(&mut receipts, 7, "d", Promises::default());
        assert_eq!(numbers(&mut receipts, ":s 404 chief #ops :Cannot send"), Some(vec![7, 8]));
        assert_eq!(receipts.silent(Instant::now() + 10 * PATIENCE), [0; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_does_not_want_in_parts_and_is_said_anew_is_waited_for_anew() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        whole(&mut receipts, 1, "a", Promises::default());
        receipts.forget(&[line(1), line(2)]);
        assert_eq!(receipts.silent(now + SILENCE), [0; 0], "the first try says nothing of the second");
        for id in [1, 2] {
            receipts.sent(&line(id), "PRIVMSG #ops :x", Promises::default(), now + SILENCE);
        }
        assert_eq!(receipts.silent(now + 2 * SILENCE), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_several_lines_is_judged_by_all_of_them() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        (1..=3).for_each(|id| drop(receipts.sent(&line(id), "PRIVMSG bob :hi", ALL, now)));
        let mut hears = |line: &str| answer(&mut receipts, line);
        assert_eq!(hears("@label=mc1 :s BATCH +x labeled-response"), None, "it has only begun");
        assert_eq!(hears("@batch=x :s 301 chief bob :At lunch"), None);
        assert_eq!(hears("@batch=x;msgid=z :chief!c@h PRIVMSG bob :hi"), None);
        assert_eq!(hears(":s BATCH -x"), passed("bob", false, Some("z")));
        assert_eq!(hears("@label=mc2 :s BATCH +y labeled-response"), None);
        assert_eq!(hears("@batch=y :s 404 chief bob :Cannot send"), None);
        assert_eq!(hears("@batch=y :s NOTE PRIVMSG WHY :because"), None);
        assert_eq!(hears(":s BATCH -y"), refused("bob", "404"));
        assert_eq!(hears("@label=mc3 :s BATCH +z labeled-response"), None);
        assert_eq!(hears(":s BATCH -unknown"), None);
        assert_eq!(receipts.lost().1, [3], "an answer that does not end is none");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_has_passed_when_its_last_piece_has() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        for piece in ["one", "two"] {
            receipts.sent(&line(7), &format!("PRIVMSG #ops :{piece}"), ALL, now);
        }
        assert_eq!(numbers(&mut receipts, "@label=mc1 :chief!c@h PRIVMSG #ops :one"), Some(vec![]));
        assert_eq!(numbers(&mut receipts, "@label=mc2 :s 404 chief #ops :Cannot send"), Some(vec![7]));
    }

    fn coloured(id: u64, words: &str) -> (Line, String) {
        let text = format!("PRIVMSG #ops :{words}");
        (Line { text: text.clone(), ..line(id) }, text)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_colours_and_is_refused_is_said_again_without_them_once() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        let refusal = |label: &str| format!("@label={label} :s 404 chief #ops :Cannot send");
        let (red, text) = coloured(1, "\u{3}04red\u{3} alert");
        receipts.sent(&red, &text, ALL, now);
        receipts.sent(&line(1), "PRIVMSG #ops :and more", ALL, now);
        let answered = receipts.answered(&Message::parse(&refusal("mc1")).unwrap(), false).unwrap();
        assert_eq!((answered.ids, answered.again.len()), (vec![], 1));
        let again = &answered.again[0];
        assert_eq!((again.text.as_str(), again.id), ("PRIVMSG #ops :red alert", 1));
        // A piece of the same line that has passed does not settle it.
        assert_eq!(numbers(&mut receipts, "@label=mc2 :chief!c@h PRIVMSG #ops :and more"), Some(vec![]));
        receipts.sent(again, &again.text, ALL, now);
        let answered = receipts.answered(&Message::parse(&refusal("mc3")).unwrap(), false).unwrap();
        assert_eq!((answered.ids, answered.again), (vec![1], vec![]), "it has none any more");
        // Other refusals do not mean colours.
        let (red, text) = coloured(2, "\u{2}bold");
        receipts.sent(&red, &text, ALL, now);
        let gone = receipts.answered(&Message::parse("@label=mc4 :s 403 chief #ops :No such").unwrap(), false).unwrap();
        assert_eq!((gone.ids, gone.again), (vec![2], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_in_parts_of_which_one_has_colours_is_said_again_whole() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        receipts.sent(&Line::default(), "BATCH +a draft/multiline #ops", Promises::default(), now);
        for (id, words) in [(1, "one"), (2, "\u{2}two\u{2}")] {
            let text = format!("@batch=a PRIVMSG #ops :{words}");
            receipts.sent(&Line { text: text.clone(), whole: 1, ..line(id) }, &text, Promises::default(), now);
        }
        let answered = receipts.answered(&Message::parse(":s 408 chief #ops :No colors").unwrap(), false).unwrap();
        let again: Vec<_> = answered.again.iter().map(|line| (line.text.as_str(), line.id, line.whole)).collect();
        assert_eq!(again, [("PRIVMSG #ops :one", 1, 0), ("PRIVMSG #ops :two", 2, 0)]);
        assert_eq!(receipts.silent(now + 10 * PATIENCE), [0; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_without_our_colours_is_the_echo_and_no_change() {
        let mut receipts = Receipts::default();
        let now = Instant::now();
        let echo = Promises { labels: false, echo: true };
        for (promises, label) in [(echo, ""), (ALL, "@label=mc1 ")] {
            let (bold, text) = coloured(1, "\u{2}bold\u{2} words");
            receipts.sent(&bold, &text, promises, now);
            let heard = format!("{label}:chief!c@h PRIVMSG #ops :bold words");
            assert_eq!(answer(&mut receipts, &heard), passed("#ops", false, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batches_of_answers_without_end_cost_no_memory() {
        let mut receipts = Receipts::default();
        for n in 0..10_000 {
            answer(&mut receipts, &format!("@label=x :s BATCH +b{n} labeled-response"));
        }
        assert!(receipts.batches.len() <= BATCHES_MAX);
    }
}
