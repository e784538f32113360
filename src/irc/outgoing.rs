//! The lines on their way out: paced, fair between targets, and none lost without a count. Pure; time is handed in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Lines that may wait for one target.
pub const TARGET_DEPTH: usize = 16_384;
/// Urgent lines that may wait: a server that asks for more answers than it reads is not well.
pub const URGENT_DEPTH: usize = 1024;
/// Commands that may wait. They have room of their own: a JOIN must get in when the words that wait for it fill the rest.
pub const COMMAND_DEPTH: usize = 4096;
/// Words that may wait in all.
pub const TOTAL_DEPTH: usize = 65_536;

/// Lines to targets that wait for a reply before one to a target that does not.
const REPLIES_IN_A_ROW: u32 = 4;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What the protocol demands: PONG, registration, QUIT. It never waits, but is counted against the budget, and
    /// is worthless on another connection.
    Urgent,
    /// Commands: JOIN, MODE.
    Command,
    /// Words that somebody waits for. A target with such words has its turn before those without, but no more than
    /// four times in a row. Within a target the order is kept.
    Reply,
    /// Other words.
    Talk,
}

/// How fast lines may leave: `burst` at once, then one each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Lines that may leave at once after a rest. At least 1.
    pub burst: u32,
    /// The time that gives one line back. Zero means no limit.
    pub interval: Duration,
}

/// A line, without CRLF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its words.
    pub text: String,
    /// Lines with the same number, other than 0, are one message in parts.
    pub whole: u64,
    /// Whether it goes on where the line before it was cut.
    pub goes_on: bool,
}

impl From<String> for Line {
    fn from(text: String) -> Line {
        Line { text, ..Line::default() }
    }
}

/// What a message in parts may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Lines.
    pub lines: usize,
    /// Bytes of all lines, as they are queued.
    pub bytes: usize,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this line, without CRLF.
    Line(String),
    /// Send these together, and nothing between them: a message in parts.
    Whole(Vec<Line>),
    /// Ask again then.
    At(Instant),
    /// Nothing waits.
    Empty,
}

/// There is no room for the line; it is given back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full(pub Line);

/// What waits for one target, in order.
#[derive(Debug, Default)]
struct Words {
    /// Each line, and whether somebody waits for it.
    lines: VecDeque<(Line, bool)>,
    /// How many of them somebody waits for.
    replies: usize,
}

impl Words {
    /// The first line, and those behind it that are the same message, as far as they may go together.
    fn take(&mut self, most: Option<Most>) -> Vec<Line> {
        let mut out: Vec<Line> = Vec::new();
        let mut bytes = 0;
        while let Some((next, _)) = self.lines.front() {
            bytes += next.text.len() + 1;
            let same = out.first().is_none_or(|first| {
                most.is_some_and(|most| out.len() < most.lines && bytes <= most.bytes)
                    && first.whole != 0
                    && first.whole == next.whole
            });
            if !same {
                break;
            }
            let Some((line, reply)) = self.lines.pop_front() else { break };
            self.replies -= usize::from(reply);
            out.push(line);
        }
        out
    }
}

/// The queue of one network. It outlives connections.
#[derive(Debug)]
pub struct Outgoing {
    pace: Pace,
    /// Since when the bucket has been full, moved on by one interval for each line.
    full_at: Option<Instant>,
    urgent: VecDeque<Line>,
    commands: VecDeque<Line>,
    /// Whether messages in parts leave as such, and how long they may be.
    most: Option<Most>,
    /// Words by target; each in order.
    talk: BTreeMap<String, Words>,
    /// Targets with words, the next one first.
    turns: VecDeque<String>,
    /// Whether only what is urgent leaves: we are not registered yet.
    paused: bool,
    /// Turns in a row that went to targets with replies.
    in_a_row: u32,
    /// Targets whose words wait until they are released: channels we are not in yet.
    held: BTreeSet<String>,
    waiting: usize,
}

impl Outgoing {
    /// An empty queue.
    pub fn new(pace: Pace) -> Outgoing {
        Outgoing {
            pace,
            full_at: None,
            urgent: VecDeque::new(),
            commands: VecDeque::new(),
            most: None,
            talk: BTreeMap::new(),
            turns: VecDeque::new(),
            paused: true,
            in_a_row: 0,
            held: BTreeSet::new(),
            waiting: 0,
        }
    }

    /// Whether the server takes messages in parts now.
    pub fn set_most(&mut self, most: Option<Most>) {
        self.most = most;
    }

    /// Changes the pace from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Puts a line in. `target` is the folded name of who hears it and matters for [`Class::Talk`].
    pub fn push(&mut self, class: Class, target: &str, line: impl Into<Line>) -> Result<(), Full> {
        let line = line.into();
        let room = match class {
            Class::Urgent => self.urgent.len() < URGENT_DEPTH,
            Class::Command => self.commands.len() < COMMAND_DEPTH,
            Class::Reply | Class::Talk => self.has_room(target),
        };
        if !room {
            return Err(Full(line));
        }
        match class {
            Class::Urgent => self.urgent.push_back(line),
            Class::Command => self.commands.push_back(line),
            Class::Reply | Class::Talk => {
                let words = self.talk.entry(target.to_owned()).or_default();
                if words.lines.is_empty() {
                    self.turns.push_back(target.to_owned());
                }
                words.replies += usize::from(class == Class::Reply);
                words.lines.push_back((line, class == Class::Reply));
            }
        }
        self.waiting += 1;
        Ok(())
    }

    /// Whether words for this target would be taken.
    pub fn has_room(&self, target: &str) -> bool {
        self.words() < TOTAL_DEPTH && self.talk.get(target).is_none_or(|words| words.lines.len() < TARGET_DEPTH)
    }

    /// Lines waiting.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Words waiting, those held back too.
    pub fn words(&self) -> usize {
        self.waiting - self.urgent.len() - self.commands.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The next line to send now, if the pace allows one.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(line) = self.urgent.pop_front() {
            self.waiting -= 1;
            self.spend(now);
            return Next::Line(line.text);
        }
        if self.paused || self.sendable() == 0 {
            return Next::Empty;
        }
        if let Some(at) = self.ready_at(now) {
            return Next::At(at);
        }
        let command = self.commands.pop_front().map(|line| vec![line]);
        let mut lines = command.unwrap_or_else(|| self.next_talk());
        self.waiting -= lines.len();
        // What opens and closes the parts is counted too.
        let cost = if lines.len() > 1 { lines.len() + 2 } else { lines.len() };
        (0..cost).for_each(|_| self.spend(now));
        match lines.len() {
            0 => Next::Empty,
            1 => Next::Line(lines.swap_remove(0).text),
            _ => Next::Whole(lines),
        }
    }

    /// The connection is gone: what only it could use goes with it. The bucket of the next one is full.
    pub fn disconnected(&mut self) {
        self.waiting -= self.urgent.len() + self.commands.len();
        self.urgent.clear();
        self.commands.clear();
        self.full_at = None;
        self.paused = true;
    }

    /// Registered: everything may leave. What the registration said has emptied the bucket at most: a server that took
    /// more lines at once bears them.
    pub fn resume(&mut self, now: Instant) {
        self.paused = false;
        let empty = now + self.pace.interval * self.pace.burst;
        self.full_at = self.full_at.map(|full| full.min(empty));
    }

    /// Keeps the words for a target back until [`Outgoing::release`].
    pub fn hold(&mut self, target: &str) {
        self.held.insert(target.to_owned());
    }

    /// Lets the words for a target go.
    pub fn release(&mut self, target: &str) {
        self.held.remove(target);
    }

    /// Lines waiting that are not held back.
    pub fn sendable(&self) -> usize {
        let held = self.held.iter().filter_map(|target| self.talk.get(target)).map(|words| words.lines.len());
        self.waiting - held.sum::<usize>()
    }

    /// Drops the words for a target, for one that is no more. Gives how many.
    pub fn forget(&mut self, target: &str) -> usize {
        let dropped = self.talk.remove(target).map_or(0, |words| words.lines.len());
        self.turns.retain(|turn| turn != target);
        self.waiting -= dropped;
        dropped
    }

    /// One line of the target whose turn it is, or as many as are one message; if it has more, its next turn comes after all others.
    fn next_talk(&mut self) -> Vec<Line> {
        self.turn().unwrap_or_default()
    }

    fn turn(&mut self) -> Option<Vec<Line>> {
        let may = |target: &&String| !self.held.contains(*target);
        let awaited = |target: &&String| self.talk.get(*target).is_some_and(|words| words.replies > 0);
        let first = self.turns.iter().position(|target| may(&target))?;
        let reply = self.turns.iter().position(|target| may(&target) && awaited(&target));
        let other = self.turns.iter().position(|target| may(&target) && !awaited(&target));
        let at = match (reply, other) {
            (Some(_), Some(other)) if self.in_a_row >= REPLIES_IN_A_ROW => other,
            (Some(reply), _) => reply,
            (None, _) => first,
        };
        self.in_a_row = if reply == Some(at) { self.in_a_row + 1 } else { 0 };
        let target = self.turns.remove(at)?;
        let words = self.talk.get_mut(&target)?;
        let lines = words.take(self.most);
        if words.lines.is_empty() {
            self.talk.remove(&target);
        } else {
            self.turns.push_back(target);
        }
        Some(lines)
    }

    /// When a line may leave, if not now.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        // With `burst` tokens, one is there as soon as the bucket lacks no more than `burst - 1`.
        let at = self.full_at?.checked_sub(self.pace.interval * self.pace.burst.max(1).saturating_sub(1))?;
        (at > now).then_some(at)
    }

    fn spend(&mut self, now: Instant) {
        let from = self.full_at.filter(|at| *at > now).unwrap_or(now);
        self.full_at = Some(from + self.pace.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_for_a_channel_we_are_not_in_wait_and_hold_nobody_else_up() {
        let mut queue = open(Pace { burst: 9, interval: Duration::ZERO });
        queue.hold("#ops");
        queue.push(Class::Talk, "#ops", "ops".to_owned()).unwrap();
        queue.push(Class::Talk, "#dev", "dev".to_owned()).unwrap();
        let now = Instant::now();
        assert_eq!((queue.sendable(), queue.next(now)), (1, Next::Line("dev".to_owned())));
        assert_eq!(queue.next(now), Next::Empty);
        queue.release("#ops");
        assert_eq!(queue.next(now), Next::Line("ops".to_owned()));
    }

    const PACE: Pace = Pace { burst: 5, interval: Duration::from_secs(2) };

    fn open(pace: Pace) -> Outgoing {
        let mut out = Outgoing::new(pace);
        out.resume(Instant::now());
        out
    }

    fn talk(out: &mut Outgoing, target: &str, line: &str) {
        out.push(Class::Talk, target, line.to_owned()).unwrap();
    }

    /// All lines and the seconds at which they leave.
    fn drain(out: &mut Outgoing, start: Instant) -> Vec<(u64, String)> {
        let (mut now, mut sent) = (start, Vec::new());
        loop {
            match out.next(now) {
                Next::Line(line) => sent.push(((now - start).as_secs(), line)),
                Next::Whole(lines) => {
                    let texts = lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
                    sent.push(((now - start).as_secs(), texts.join("+")));
                }
                Next::At(at) => {
                    assert!(at > now, "asked to wait for the past");
                    now = at;
                }
                Next::Empty => return sent,
            }
        }
    }

    #[tokio::test]
    async fn five_lines_leave_at_once_and_then_one_every_two_seconds() {
        let mut out = open(PACE);
        (0..8).for_each(|n| talk(&mut out, "#a", &n.to_string()));
        let times: Vec<u64> = drain(&mut out, Instant::now()).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [0, 0, 0, 0, 0, 2, 4, 6]);
    }

    #[tokio::test]
    async fn who_waits_for_a_reply_is_served_first_and_nobody_is_forgotten_over_it() {
        let mut out = open(PACE);
        (0..3).for_each(|n| talk(&mut out, "#news", &format!("news {n}")));
        talk(&mut out, "#ops", "an announcement");
        (0..9).for_each(|n| out.push(Class::Reply, "#ops", format!("reply {n}")).unwrap());
        let sent: Vec<String> = drain(&mut out, Instant::now()).into_iter().map(|(_, line)| line).collect();
        assert_eq!(sent[..6], ["an announcement", "reply 0", "reply 1", "reply 2", "news 0", "reply 3"]);
        assert_eq!(sent.len(), 13);
    }

    #[tokio::test]
    async fn a_command_gets_in_when_the_words_that_wait_for_it_fill_the_rest() {
        let mut out = Outgoing::new(PACE);
        for target in ["#a", "#b", "#c", "#d"] {
            out.hold(target);
            (0..TARGET_DEPTH).for_each(|_| talk(&mut out, target, "x"));
        }
        assert!(out.push(Class::Talk, "#e", "y".to_owned()).is_err());
        assert_eq!(out.push(Class::Command, "", "JOIN #a".to_owned()), Ok(()));
    }

    #[tokio::test]
    async fn a_talkative_target_does_not_starve_a_quiet_one() {
        let mut out = open(PACE);
        (0..1000).for_each(|n| talk(&mut out, "#loud", &n.to_string()));
        talk(&mut out, "#quiet", "psst");
        let sent = drain(&mut out, Instant::now());
        assert_eq!(sent.iter().position(|(_, line)| line == "psst"), Some(1));
        let loud: Vec<&String> = sent.iter().map(|(_, line)| line).filter(|line| *line != "psst").collect();
        assert!(loud.iter().enumerate().all(|(n, line)| **line == n.to_string()), "order within a target");
    }

    #[tokio::test]
    async fn ten_thousand_lines_never_break_the_servers_limit_and_none_is_lost() {
        let mut out = open(PACE);
        for n in 0..10_000 {
            talk(&mut out, &format!("#c{}", n % 7), &n.to_string());
        }
        let start = Instant::now();
        let (mut now, mut sent, mut pongs, mut level, mut last) = (start, 0, 0, 0.0_f64, start);
        loop {
            match out.next(now) {
                Next::Line(line) => {
                    // The server's own count: one line drips away every two seconds, more than five are too many.
                    level = (level - (now - last).as_secs_f64() / 2.0).max(0.0) + 1.0;
                    last = now;
                    if line == "PONG" {
                        pongs += 1
                    } else {
                        sent += 1
                    }
                    assert!(level <= 5.0 + 1e-6 || line == "PONG", "{level} lines at once");
                    if sent % 100 == 50 && line != "PONG" {
                        out.push(Class::Urgent, "", "PONG".to_owned()).unwrap();
                        assert_eq!(out.next(now), Next::Line("PONG".to_owned()), "a PONG waits for nothing");
                        level += 1.0;
                        pongs += 1;
                    }
                }
                Next::At(at) => now = at,
                Next::Whole(_) => panic!("nothing is in parts"),
                Next::Empty => break,
            }
        }
        assert_eq!((sent, pongs), (10_000, 100));
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_line_back_and_words_survive_a_lost_connection() {
        let mut out = open(PACE);
        (0..TARGET_DEPTH).for_each(|_| talk(&mut out, "#a", "x"));
        assert_eq!(out.push(Class::Talk, "#a", "one more".to_owned()), Err(Full("one more".to_owned().into())));
        assert!(out.push(Class::Talk, "#b", "y".to_owned()).is_ok());
        out.push(Class::Urgent, "", "PONG".to_owned()).unwrap();
        out.push(Class::Command, "", "JOIN #a".to_owned()).unwrap();
        out.disconnected();
        assert_eq!(out.next(Instant::now()), Next::Empty, "words wait for the next registration");
        out.resume(Instant::now());
        assert_eq!(out.len(), TARGET_DEPTH + 1);
        assert_eq!(out.forget("#a"), TARGET_DEPTH);
        assert_eq!(drain(&mut out, Instant::now()), [(0, "y".to_owned())]);
        assert!(out.is_empty());
    }

    #[tokio::test]
    async fn without_an_interval_nothing_waits() {
        let mut out = open(Pace { burst: 1, interval: Duration::ZERO });
        (0..100).for_each(|n| talk(&mut out, "#a", &n.to_string()));
        assert!(drain(&mut out, Instant::now()).iter().all(|(at, _)| *at == 0));
    }

    #[tokio::test]
    async fn a_message_in_parts_leaves_together_and_costs_what_its_lines_cost() {
        let mut out = open(PACE);
        out.set_most(Some(Most { lines: 3, bytes: 100 }));
        for (target, whole, text) in [("#a", 1, "a"), ("#b", 0, "x"), ("#a", 1, "b"), ("#a", 2, "c"), ("#b", 0, "y")] {
            out.push(Class::Talk, target, Line { text: text.to_owned(), whole, goes_on: false }).unwrap();
        }
        // Five at once: two parts with what opens and closes them, and one more.
        assert_eq!(
            drain(&mut out, Instant::now()),
            [(0, "a+b".to_owned()), (0, "x".to_owned()), (2, "c".to_owned()), (4, "y".to_owned())]
        );
        for _ in 0..5 {
            out.push(Class::Talk, "#a", Line { text: "z".to_owned(), whole: 9, goes_on: false }).unwrap();
        }
        let texts: Vec<String> = drain(&mut out, Instant::now()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["z+z+z", "z+z"], "no more than the server takes");
        assert!(out.is_empty());
        out.set_most(None);
        (0..2).for_each(|_| {
            out.push(Class::Talk, "#a", Line { text: "z".to_owned(), whole: 9, goes_on: false }).unwrap()
        });
        assert_eq!(drain(&mut out, Instant::now()).len(), 2);
    }
}
