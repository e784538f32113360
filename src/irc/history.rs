//! Telling old lines from live ones, and putting together what comes in parts. A server may replay a channel's history when we
//! join, and a bouncer what we missed; such lines are byte for byte like live ones but for their batch, their time and their id.
//! <https://ircv3.net/specs/extensions/batch>

use std::collections::{BTreeMap, HashSet, VecDeque};

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::message::Message;

/// Message ids remembered, over reconnects too.
const IDS_MAX: usize = 8192;
/// The longest id that is remembered; a server that makes longer ones is hostile.
const ID_BYTES_MAX: usize = 512;
/// Batches open at once; more are hostile, and the oldest is forgotten: its lines are then nobody's.
const BATCHES_MAX: usize = 256;
/// How long a batch may stay open. One that is never closed would swallow whatever is said in its name.
const OPEN_MAX: Duration = Duration::from_secs(300);
/// What a message in parts may have at most, in lines and in bytes.
const PARTS_MAX: (usize, usize) = (1000, 64 * 1024);

/// Whether a line is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It happens now.
    Live,
    /// It happened before, and we did not see it.
    Missed,
    /// It is the same that we saw before.
    Seen,
    /// It is a part of something that is understood when it is whole.
    Part,
}

/// What is remembered to tell them.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Open batches.
    batches: BTreeMap<String, Batch>,
    /// Their names with when they were opened, oldest first.
    opened: VecDeque<(String, Instant)>,
    /// The page that ended last, until it is asked for.
    ended: Option<Page>,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Batch {
    /// Whether its lines are old.
    old: bool,
    /// The servers, where it is a netsplit.
    split: Option<String>,
    /// The message in parts, where it is one.
    parts: Option<Parts>,
    /// The page of what was missed, where it is one.
    page: Option<Page>,
}

/// A page of what was said while we were away. <https://ircv3.net/specs/extensions/chathistory>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Where it was said.
    pub(super) target: String,
    /// How many lines it has.
    pub(super) lines: usize,
    /// When the oldest of them was said.
    pub(super) oldest: Option<DateTime<Utc>>,
}

/// A message of several lines. <https://ircv3.net/specs/extensions/multiline>
#[derive(Debug, Default)]
struct Parts {
    /// `@tags :source ` of the line that began it: who said it is not left to the parts.
    head: String,
    target: String,
    command: String,
    text: String,
    lines: usize,
}

impl History {
    /// Takes a BATCH line: `+ref type …` or `-ref`. Gives the line that the batch makes, if it is a message in parts and whole.
    pub(super) fn batch(&mut self, message: &Message<'_>) -> Option<String> {
        let reference = message.param(0);
        if let Some(name) = reference.strip_prefix('+') {
            let batch = self.begun(message);
            if self.batches.insert(name.to_owned(), batch).is_none() {
                self.opened.push_back((name.to_owned(), Instant::now()));
            }
            if self.opened.len() > BATCHES_MAX
                && let Some((oldest, _)) = self.opened.pop_front()
            {
                self.batches.remove(&oldest);
            }
            return None;
        }
        let name = reference.strip_prefix('-')?;
        self.opened.retain(|(open, _)| open != name);
        let batch = self.batches.remove(name)?;
        self.ended = batch.page.or(self.ended.take());
        let Parts { head, target, command, text, lines } = batch.parts?;
        let whole = (lines > 0).then(|| format!("{head}{command} {target} :{text}"))?;
        // What was old in parts is old as a whole: it says so itself, by the batch it stands in.
        let says_so = || Message::parse(&whole).is_ok_and(|whole| self.is_in_old_batch(&whole));
        (!batch.old || says_so()).then_some(whole)
    }

    fn begun(&self, message: &Message<'_>) -> Batch {
        let kind = message.param(1).to_ascii_lowercase();
        let old = kind.contains("history") || kind.contains("playback") || self.is_in_old_batch(message);
        let split = (kind == "netsplit").then(|| format!("{} {}", message.param(2), message.param(3)));
        let multiline = matches!(kind.as_str(), "draft/multiline" | "multiline");
        let parts = multiline.then(|| {
            let head = match message.tags.get("batch").filter(|_| old) {
                // What is put together of old parts stays in the batch that makes it old.
                Some(outer) => in_batch(&outer, &message.head()),
                None => message.head(),
            };
            Parts { head, target: message.param(2).to_owned(), ..Parts::default() }
        });
        let page = (kind == "chathistory").then(|| Page { target: message.param(2).to_owned(), ..Page::default() });
        Batch { old, split, parts, page }
    }

    /// The page that has ended since this was last asked.
    pub(super) fn page(&mut self) -> Option<Page> {
        self.ended.take()
    }

    /// A line of a page; a message in parts counts when it is whole.
    fn count(&mut self, message: &Message<'_>) {
        let Some(name) = message.tags.get("batch") else { return };
        let Some(page) = self.batches.get_mut(&*name).and_then(|batch| batch.page.as_mut()) else { return };
        let at = time_of(message);
        page.lines += 1;
        page.oldest = at.into_iter().chain(page.oldest).min();
    }

    /// How old a line is. `since` is when we came, by the server's clock; remembers the line's id.
    pub(super) fn age(
        &mut self,
        message: &Message<'_>,
        at: Option<DateTime<Utc>>,
        since: Option<DateTime<Utc>>,
    ) -> Age {
        if self.collect(message) {
            return Age::Part;
        }
        self.count(message);
        let repeated = message.tags.get("msgid").is_some_and(|id| !self.remember(&id));
        let before = at.zip(since).is_some_and(|(at, since)| at < since);
        match (repeated, before || self.is_in_old_batch(message)) {
            (true, _) => Age::Seen,
            (false, true) => Age::Missed,
            (false, false) => Age::Live,
        }
    }

    /// The servers, if the line's batch says that it belongs to a netsplit.
    pub(super) fn split_of(&self, message: &Message<'_>) -> Option<&str> {
        let name = message.tags.get("batch")?;
        self.batches.get(&*name)?.split.as_deref()
    }

    /// Forgets batches that have been open for too long: what comes in their name from now on is in a batch that nobody opened.
    pub(super) fn forget_open(&mut self, now: Instant) {
        while self.opened.front().is_some_and(|(_, at)| now.duration_since(*at) >= OPEN_MAX) {
            let Some((name, _)) = self.opened.pop_front() else { return };
            self.batches.remove(&name);
        }
    }

    /// A new connection: batches end with the old one, ids do not.
    pub(super) fn reconnected(&mut self) {
        self.batches.clear();
        self.opened.clear();
    }

    /// Takes a line as a part of a message; false if it is none.
    fn collect(&mut self, message: &Message<'_>) -> bool {
        let Some(name) = message.tags.get("batch") else { return false };
        let Some(parts) = self.batches.get_mut(&*name).and_then(|batch| batch.parts.as_mut()) else { return false };
        let words = matches!(message.command, "PRIVMSG" | "NOTICE");
        if words && parts.lines < PARTS_MAX.0 && parts.text.len() + message.param(1).len() < PARTS_MAX.1 {
            let goes_on = message.tags.get("draft/multiline-concat").is_some();
            if parts.lines > 0 && !goes_on {
                parts.text.push('\n');
            }
            parts.lines += 1;
            parts.command = message.command.to_owned();
            parts.text.push_str(message.param(1));
        }
        true
    }

    /// A line in a batch that was never opened is taken for old: what it is nobody knows.
    fn is_in_old_batch(&self, message: &Message<'_>) -> bool {
        message.tags.get("batch").is_some_and(|name| self.batches.get(&*name).is_none_or(|batch| batch.old))
    }

    /// False if the id is known already.
    fn remember(&mut self, id: &str) -> bool {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return true;
        }
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// A head with the tag `batch`.
fn in_batch(name: &str, head: &str) -> String {
    match head.strip_prefix('@') {
        Some(tagged) => format!("@batch={name};{tagged}"),
        None => format!("@batch={name} {head}"),
    }
}

/// A line's own time, if it has one.
pub(super) fn time_of(message: &Message<'_>) -> Option<DateTime<Utc>> {
    let text = message.tags.get("time")?;
    DateTime::parse_from_rfc3339(&text).ok().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(history: &mut History, line: &str, since: Option<&str>) -> Age {
        let message = Message::parse(line).unwrap();
        let since = since.map(|at| DateTime::parse_from_rfc3339(at).unwrap().to_utc());
        history.age(&message, time_of(&message), since)
    }

    fn batch(history: &mut History, line: &str) -> Option<String> {
        history.batch(&Message::parse(line).unwrap())
    }

    #[test]
    fn lines_of_a_history_batch_and_of_batches_within_are_old() {
        let mut history = History::default();
        batch(&mut history, "BATCH +a chathistory #ops");
        batch(&mut history, "@batch=a BATCH +b netjoin x");
        batch(&mut history, "BATCH +c netjoin x");
        assert_eq!(age(&mut history, "@batch=a PRIVMSG #ops :!deploy", None), Age::Missed);
        assert_eq!(age(&mut history, "@batch=b PRIVMSG #ops :!deploy", None), Age::Missed);
        assert_eq!(age(&mut history, "@batch=c PRIVMSG #ops :!deploy", None), Age::Live);
        batch(&mut history, "BATCH -a");
        assert_eq!(age(&mut history, "@batch=a PRIVMSG #ops :!deploy", None), Age::Missed, "nobody knows what a is");
        assert_eq!(age(&mut history, "PRIVMSG #ops :!deploy", None), Age::Live);
    }

    #[test]
    fn a_server_that_opens_batches_without_end_costs_no_memory_and_makes_no_old_line_live() {
        let mut history = History::default();
        batch(&mut history, "BATCH +old chathistory #ops");
        for n in 0..10_000 {
            batch(&mut history, &format!("BATCH +b{n} netjoin x"));
        }
        assert!(history.batches.len() <= BATCHES_MAX && history.opened.len() <= BATCHES_MAX);
        assert_eq!(age(&mut history, "@batch=old PRIVMSG #ops :!deploy", None), Age::Missed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_never_closed_is_forgotten_and_what_comes_in_its_name_is_old() {
        let mut history = History::default();
        batch(&mut history, ":alice!a@h BATCH +m draft/multiline #ops");
        batch(&mut history, "BATCH +n netjoin x");
        tokio::time::advance(OPEN_MAX / 2).await;
        batch(&mut history, "BATCH +late netjoin x");
        history.forget_open(Instant::now());
        assert_eq!(age(&mut history, "@batch=m :alice!a@h PRIVMSG #ops :!deploy", None), Age::Part);
        assert_eq!(age(&mut history, "@batch=n PRIVMSG #ops :!deploy", None), Age::Live);
        tokio::time::advance(OPEN_MAX / 2).await;
        history.forget_open(Instant::now());
        assert_eq!(age(&mut history, "@batch=m :alice!a@h PRIVMSG #ops :!deploy", None), Age::Missed);
        assert_eq!(age(&mut history, "@batch=n PRIVMSG #ops :!deploy", None), Age::Missed);
        assert_eq!(age(&mut history, "@batch=late PRIVMSG #ops :!deploy", None), Age::Live);
        assert_eq!(batch(&mut history, "BATCH -m"), None);
        assert_eq!((history.batches.len(), history.opened.len()), (1, 1));
    }

    #[test]
    fn a_message_in_parts_is_one_when_it_is_whole_and_is_said_by_who_began_it() {
        let mut history = History::default();
        batch(&mut history, "@account=alice;msgid=1 :alice!a@h BATCH +m draft/multiline #ops");
        assert_eq!(age(&mut history, "@batch=m :alice!a@h PRIVMSG #ops :!note one", None), Age::Part);
        assert_eq!(age(&mut history, "@batch=m :mallory!m@h PRIVMSG #ops :two ", None), Age::Part);
        let goes_on = "@batch=m;draft/multiline-concat :alice!a@h PRIVMSG #ops :goes on";
        assert_eq!(age(&mut history, goes_on, None), Age::Part);
        let whole = batch(&mut history, "BATCH -m").unwrap();
        assert_eq!(whole, "@account=alice;msgid=1 :alice!a@h PRIVMSG #ops :!note one\ntwo goes on");
        batch(&mut history, ":alice!a@h BATCH +n draft/multiline #ops");
        assert_eq!(batch(&mut history, "BATCH -n"), None, "nothing was said");
    }

    #[test]
    fn parts_of_something_old_are_old_and_those_without_end_are_cut() {
        let mut history = History::default();
        batch(&mut history, "BATCH +h chathistory #ops");
        batch(&mut history, "@batch=h :alice!a@h BATCH +m draft/multiline #ops");
        age(&mut history, "@batch=m :alice!a@h PRIVMSG #ops :!deploy", None);
        let whole = batch(&mut history, "BATCH -m").unwrap();
        assert_eq!(whole, "@batch=h :alice!a@h PRIVMSG #ops :!deploy");
        assert_eq!(age(&mut history, &whole, None), Age::Missed);
        batch(&mut history, "@batch=h :alice!a@h BATCH +m draft/multiline #ops");
        age(&mut history, "@batch=m :alice!a@h PRIVMSG #ops :!deploy", None);
        batch(&mut history, "BATCH -h");
        batch(&mut history, "BATCH +h netjoin x");
        assert_eq!(batch(&mut history, "BATCH -m"), None, "the batch it stood in is another");
        batch(&mut history, ":alice!a@h BATCH +n draft/multiline #ops");
        for _ in 0..5000 {
            age(&mut history, &format!("@batch=n PRIVMSG #ops :{}", "x".repeat(400)), None);
        }
        assert!(batch(&mut history, "BATCH -n").unwrap().len() < PARTS_MAX.1 + 1000);
    }

    #[test]
    fn a_netsplit_names_its_servers() {
        let mut history = History::default();
        batch(&mut history, "BATCH +s netsplit irc.hub other.host");
        let quit = Message::parse("@batch=s :alice!a@h QUIT :irc.hub other.host").unwrap();
        assert_eq!(history.split_of(&quit), Some("irc.hub other.host"));
        assert_eq!(history.split_of(&Message::parse("QUIT :irc.hub other.host").unwrap()), None);
    }

    #[test]
    fn a_line_from_before_we_came_is_old() {
        let mut history = History::default();
        let since = Some("2026-03-02T12:00:00.500Z");
        assert_eq!(age(&mut history, "@time=2026-03-02T12:00:00.499Z PRIVMSG #ops :!deploy", since), Age::Missed);
        assert_eq!(age(&mut history, "@time=2026-03-02T12:00:00.500Z PRIVMSG #ops :!deploy", since), Age::Live);
        assert_eq!(age(&mut history, "PRIVMSG #ops :!deploy", since), Age::Live);
    }

    #[test]
    fn a_repeated_id_is_old_after_a_reconnect_too() {
        let mut history = History::default();
        assert_eq!(age(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None), Age::Live);
        history.reconnected();
        assert_eq!(age(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None), Age::Seen);
        for id in 2..=IDS_MAX + 1 {
            assert_eq!(age(&mut history, &format!("@msgid={id} PRIVMSG #ops :x"), None), Age::Live);
        }
        assert_eq!(age(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None), Age::Live, "memory is bounded");
    }
}
