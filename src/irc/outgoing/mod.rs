//! The lines on their way out: paced, fair between targets, the urgent first where they have to wait, and none lost without a
//! count. Pure; time is handed in.

mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use masterchief_contract::Class as Urgency;
use tokio::time::Instant;

use words::{CLASSES, Words};

/// Lines that may wait for one target.
pub const TARGET_DEPTH: usize = 16_384;
/// Urgent lines that may wait: a server that asks for more answers than it reads is not well.
pub const URGENT_DEPTH: usize = 1024;
/// Commands that nobody needs any more who is about to leave.
const LOOKS: [&str; 9] = ["CHATHISTORY", "ISON", "JOIN", "MONITOR", "NAMES", "PING", "WATCH", "WHO", "WHOIS"];
/// Commands that do nothing to others: they ask, or concern this connection alone.
const OWN: [&str; 13] = [
    "AWAY",
    "CHATHISTORY",
    "ISON",
    "JOIN",
    "MONITOR",
    "NAMES",
    "NICK",
    "PART",
    "PING",
    "SETNAME",
    "WATCH",
    "WHO",
    "WHOIS",
];
/// Commands that may wait. They have room of their own: a JOIN must get in when the words that wait for it fill the rest.
pub const COMMAND_DEPTH: usize = 4096;
/// Words that may wait in all.
pub const TOTAL_DEPTH: usize = 65_536;

/// Replies in a row while other words wait.
const REPLIES_IN_A_ROW: u32 = 4;
/// The row of replies.
const REPLIES: usize = Urgency::Reply as usize;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What the protocol demands: PONG, registration, QUIT. It never waits, but is counted against the budget, and
    /// is worthless on another connection.
    Urgent,
    /// Commands: JOIN, MODE.
    Command,
    /// Words, by how urgent they are. As long as the pace lets all leave that waits, they leave in order; where lines have to wait,
    /// pages go first, then replies, but no more than four in a row while others wait.
    Words(Urgency),
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
    /// The number it has in the records; 0 for what has none.
    pub id: u64,
    /// The numbers of lines with the same words that are said with it.
    pub also: Vec<u64>,
    /// How urgent it is, where it is words.
    pub class: Option<Urgency>,
    /// Until when it is said at all.
    pub until: Option<Instant>,
    /// Until when it is worth saying to a target that could not be reached for a while. As long as lines only wait for the pace it
    /// does not matter.
    pub worth: Option<Instant>,
    /// Bytes that would still fit into it.
    pub spare: usize,
    /// Whether the connection itself made it: a login, a JOIN with its key. Nothing in it is hidden.
    pub own: bool,
    /// Whether it never waits: a login, a PONG.
    pub at_once: bool,
    /// Whether nobody is told when it leaves.
    pub hush: bool,
}

impl Line {
    /// A line that the connection itself made: a login, a PONG, a JOIN. Nothing in it is hidden.
    pub fn own(text: String) -> Line {
        Line { text, own: true, ..Line::default() }
    }
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
    Line(Line),
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
    /// Replies in a row while others waited.
    in_a_row: u32,
    /// Counts words, so that their order is known.
    order: u64,
    /// Lines that were not worth saying any more, until they are asked for.
    expired: Vec<Line>,
    /// Targets whose words wait until they are released: channels we are not in yet.
    held: BTreeSet<String>,
    /// Targets that can be reached again since their last turn.
    back: BTreeSet<String>,
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
            order: 0,
            expired: Vec::new(),
            held: BTreeSet::new(),
            back: BTreeSet::new(),
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

    /// Puts a line in. `target` is the folded name of who hears it and matters for [`Class::Words`].
    pub fn push(&mut self, class: Class, target: &str, line: impl Into<Line>) -> Result<(), Full> {
        let line = line.into();
        let room = match class {
            Class::Urgent => self.urgent.len() < URGENT_DEPTH,
            Class::Command => self.commands.len() < COMMAND_DEPTH,
            Class::Words(_) => self.has_room(target),
        };
        if !room {
            return Err(Full(line));
        }
        match class {
            Class::Urgent => self.urgent.push_back(Line { at_once: true, ..line }),
            Class::Command => self.commands.push_back(line),
            Class::Words(class) => {
                let words = self.talk.entry(target.to_owned()).or_default();
                if words.is_empty() {
                    self.turns.push_back(target.to_owned());
                }
                self.order += 1;
                words.push(class as usize, self.order, Line { class: Some(class), ..line });
            }
        }
        self.waiting += 1;
        Ok(())
    }

    /// Puts a line back that has left, in front of its class; there is always room for it.
    pub fn put_back(&mut self, target: &str, line: Line) {
        let words = self.talk.entry(target.to_owned()).or_default();
        if words.is_empty() {
            self.turns.push_back(target.to_owned());
        }
        words.push_front(line.class.unwrap_or(Urgency::Reply) as usize, line);
        self.waiting += 1;
    }

    /// Lines that were not worth saying any more when their turn came, since this was last asked.
    pub fn take_expired(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.expired)
    }

    /// Whether words for this target would be taken.
    pub fn has_room(&self, target: &str) -> bool {
        self.words() < TOTAL_DEPTH && self.talk.get(target).is_none_or(|words| words.len() < TARGET_DEPTH)
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
            return Next::Line(line);
        }
        if self.paused || self.sendable() == 0 {
            return Next::Empty;
        }
        if let Some(at) = self.ready_at(now) {
            return Next::At(at);
        }
        let command = self.commands.pop_front().map(|line| vec![line]);
        let mut lines = match command {
            Some(command) => {
                self.waiting -= 1;
                command
            }
            None => self.next_talk(now),
        };
        // What opens and closes the parts is counted too.
        let cost = if lines.len() > 1 { lines.len() + 2 } else { lines.len() };
        (0..cost).for_each(|_| self.spend(now));
        match lines.len() {
            0 => Next::Empty,
            1 => Next::Line(lines.swap_remove(0)),
            _ => Next::Whole(lines),
        }
    }

    /// A command with those behind it that `merge` makes one of it and them: every line costs.
    pub fn with_more(&mut self, mut line: Line, merge: impl Fn(&str, &str) -> Option<String>) -> Line {
        while let Some(both) = self.commands.front().and_then(|next| merge(&line.text, &next.text)) {
            self.commands.pop_front();
            self.waiting -= 1;
            line.text = both;
        }
        line
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
        self.back = self.talk.keys().cloned().collect();
        let empty = now + self.pace.interval * self.pace.burst;
        self.full_at = self.full_at.map(|full| full.min(empty));
    }

    /// We are about to leave: what only asks or looks after things is not waited for.
    pub fn leave(&mut self) {
        let before = self.commands.len();
        self.commands.retain(|line| !LOOKS.contains(&verb(&line.text)));
        self.waiting -= before - self.commands.len();
    }

    /// Keeps the words for a target back until [`Outgoing::release`].
    pub fn hold(&mut self, target: &str) {
        self.held.insert(target.to_owned());
    }

    /// Lets the words for a target go.
    pub fn release(&mut self, target: &str) {
        if self.held.remove(target) && self.talk.contains_key(target) {
            self.back.insert(target.to_owned());
        }
    }

    /// Lines waiting that are not held back.
    pub fn sendable(&self) -> usize {
        let held = self.held.iter().filter_map(|target| self.talk.get(target)).map(Words::len);
        self.waiting - held.sum::<usize>()
    }

    /// Drops the words for a target, for one that is no more. Gives them.
    pub fn forget(&mut self, target: &str) -> Vec<Line> {
        let dropped: Vec<Line> = self.talk.remove(target).map_or(Vec::new(), |words| words.into_lines().collect());
        self.turns.retain(|turn| turn != target);
        self.back.remove(target);
        self.waiting -= dropped.len();
        dropped
    }

    /// Drops all words, and every command that somebody asked for and that does something to others: a KICK, a MODE, a TOPIC. Gives
    /// them.
    pub fn forget_deeds(&mut self) -> Vec<Line> {
        let targets: Vec<String> = self.talk.keys().cloned().collect();
        let mut gone: Vec<Line> = targets.iter().flat_map(|target| self.forget(target)).collect();
        let (stay, deeds): (Vec<Line>, Vec<Line>) = std::mem::take(&mut self.commands)
            .into_iter()
            .partition(|line| line.own || OWN.contains(&verb(&line.text)));
        self.commands = stay.into();
        self.waiting -= deeds.len();
        gone.extend(deeds);
        gone
    }

    /// One line of the target whose turn it is, or as many as are one message; if it has more, its next turn comes after all others.
    fn next_talk(&mut self, now: Instant) -> Vec<Line> {
        let congested = self.sendable() > self.tokens(now);
        while let Some((at, class)) = self.choose(congested) {
            let Some(target) = self.turns.remove(at) else { break };
            let Some(words) = self.talk.get_mut(&target) else { continue };
            let late = words.expire(now, self.back.remove(&target));
            self.waiting -= late.len();
            let chosen_again = !late.is_empty();
            self.expired.extend(late);
            let lines = match words.digest() {
                Some(digest) => vec![digest],
                // What was chosen may have been late.
                None if chosen_again || !words.has(class) => Vec::new(),
                None => {
                    let mut lines = words.take(class, self.most);
                    self.waiting -= lines.len();
                    if let [line] = lines.as_mut_slice()
                        && congested
                        && class != REPLIES
                    {
                        self.waiting -= words.collapse(class, line);
                    }
                    lines
                }
            };
            if words.is_empty() {
                self.talk.remove(&target);
            } else {
                self.turns.push_back(target);
            }
            if !lines.is_empty() {
                return lines;
            }
        }
        Vec::new()
    }

    /// Whose turn it is, by its place in the row, and which class of its words.
    fn choose(&mut self, congested: bool) -> Option<(usize, usize)> {
        let held = &self.held;
        let may = self.turns.iter().enumerate().filter(|(_, target)| !held.contains(*target));
        let mut waiting = may.filter_map(|(at, target)| Some((at, self.talk.get(target)?)));
        if !congested {
            let (at, words) = waiting.next()?;
            return Some((at, words.oldest(0)?.1));
        }
        let waiting: Vec<(usize, &Words)> = waiting.collect();
        let top = (0..CLASSES).find(|class| waiting.iter().any(|(_, words)| words.has(*class)))?;
        if top == REPLIES && self.in_a_row >= REPLIES_IN_A_ROW {
            let others = waiting
                .iter()
                .filter_map(|(at, words)| words.oldest(top + 1).map(|(order, class)| (order, *at, class)));
            if let Some((_, at, class)) = others.min() {
                self.in_a_row = 0;
                return Some((at, class));
            }
        }
        self.in_a_row = if top == REPLIES { self.in_a_row + 1 } else { 0 };
        let (at, _) = waiting.iter().find(|(_, words)| words.has(top))?;
        Some((*at, top))
    }

    /// How many lines may leave at once now.
    fn tokens(&self, now: Instant) -> usize {
        if self.pace.interval.is_zero() {
            return usize::MAX;
        }
        let lacks = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let lacking = lacks.as_nanos().div_ceil(self.pace.interval.as_nanos());
        u128::from(self.pace.burst.max(1)).saturating_sub(lacking) as usize
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

/// The command of a line, behind its tags.
fn verb(line: &str) -> &str {
    let mut words = line.split(' ');
    words.find(|word| !word.starts_with('@') && !word.is_empty()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_would_be_done_to_others_is_forgotten_and_what_concerns_us_alone_is_not() {
        let mut queue = open(Pace { burst: 1, interval: Duration::from_secs(60) });
        let stay = ["JOIN #ops", "NICK chief", "WHO #ops", "PART #old :bye", "AWAY :back soon"];
        let gone = [
            "KICK #ops mallory :flood",
            "MODE #ops +b *!*@h",
            "TOPIC #ops :new",
            "INVITE bob #ops",
            "@a=b TAGMSG #ops",
        ];
        for line in stay.iter().chain(&gone) {
            queue.push(Class::Command, "", (*line).to_owned()).unwrap();
        }
        queue.push(Class::Command, "", Line::own("MODE chief +B".to_owned())).unwrap();
        queue.push(REPLY, "#ops", "PRIVMSG #ops :done".to_owned()).unwrap();
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        let forgotten = texts(queue.forget_deeds());
        assert_eq!(forgotten[0], "PRIVMSG #ops :done");
        assert_eq!(forgotten[1..], gone);
        assert_eq!(queue.len(), stay.len() + 1);
        let left: Vec<String> = drain(&mut queue, Instant::now()).into_iter().map(|(_, line)| line).collect();
        assert_eq!(left[..stay.len()], stay);
    }

    const TALK: Class = Class::Words(Urgency::Chatter);
    const REPLY: Class = Class::Words(Urgency::Reply);

    #[tokio::test(start_paused = true)]
    async fn words_for_a_channel_we_are_not_in_wait_and_hold_nobody_else_up() {
        let mut queue = open(Pace { burst: 9, interval: Duration::ZERO });
        queue.hold("#ops");
        queue.push(TALK, "#ops", "ops".to_owned()).unwrap();
        queue.push(TALK, "#dev", "dev".to_owned()).unwrap();
        let now = Instant::now();
        assert_eq!((queue.sendable(), queue.next(now)), (1, Next::Line(queue_line("dev"))));
        assert_eq!(queue.next(now), Next::Empty);
        queue.release("#ops");
        assert_eq!(queue.next(now), Next::Line(queue_line("ops")));
    }

    /// Words as they come out.
    fn queue_line(text: &str) -> Line {
        Line { text: text.to_owned(), class: Some(Urgency::Chatter), ..Line::default() }
    }

    const PACE: Pace = Pace { burst: 5, interval: Duration::from_secs(2) };

    fn open(pace: Pace) -> Outgoing {
        let mut out = Outgoing::new(pace);
        out.resume(Instant::now());
        out
    }

    fn talk(out: &mut Outgoing, target: &str, line: &str) {
        out.push(TALK, target, line.to_owned()).unwrap();
    }

    /// All lines and the seconds at which they leave.
    fn drain(out: &mut Outgoing, start: Instant) -> Vec<(u64, String)> {
        let (mut now, mut sent) = (start, Vec::new());
        loop {
            match out.next(now) {
                Next::Line(line) => sent.push(((now - start).as_secs(), line.text)),
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
        (0..9).for_each(|n| out.push(REPLY, "#ops", format!("reply {n}")).unwrap());
        let sent: Vec<String> = drain(&mut out, Instant::now()).into_iter().map(|(_, line)| line).collect();
        let first = [
            "reply 0", "reply 1", "reply 2", "reply 3", "news 0", "reply 4", "reply 5", "reply 6", "reply 7", "news 1",
        ];
        assert_eq!(sent[..10], first);
        assert_eq!(sent.len(), 13);
    }

    #[tokio::test]
    async fn a_command_gets_in_when_the_words_that_wait_for_it_fill_the_rest() {
        let mut out = Outgoing::new(PACE);
        for target in ["#a", "#b", "#c", "#d"] {
            out.hold(target);
            (0..TARGET_DEPTH).for_each(|_| talk(&mut out, target, "x"));
        }
        assert!(out.push(TALK, "#e", "y".to_owned()).is_err());
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
                    if line.text == "PONG" {
                        pongs += 1
                    } else {
                        sent += 1
                    }
                    assert!(level <= 5.0 + 1e-6 || line.text == "PONG", "{level} lines at once");
                    if sent % 100 == 50 && line.text != "PONG" {
                        out.push(Class::Urgent, "", "PONG".to_owned()).unwrap();
                        let pong = Line { at_once: true, ..Line::from("PONG".to_owned()) };
                        assert_eq!(out.next(now), Next::Line(pong), "a PONG waits for nothing");
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
    async fn commands_that_wait_may_become_one() {
        let mut out = open(PACE);
        ["+a", "+b", "JOIN", "+c"].iter().for_each(|line| out.push(Class::Command, "", (*line).to_owned()).unwrap());
        let Next::Line(first) = out.next(Instant::now()) else { panic!("nothing is sent") };
        let both = |one: &str, other: &str| other.starts_with('+').then(|| format!("{one}{other}"));
        assert_eq!(out.with_more(first, both).text, "+a+b");
        assert_eq!(out.len(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_line_back_and_words_survive_a_lost_connection() {
        let mut out = open(PACE);
        (0..TARGET_DEPTH).for_each(|_| talk(&mut out, "#a", "x"));
        assert_eq!(out.push(TALK, "#a", "one more".to_owned()), Err(Full("one more".to_owned().into())));
        assert!(out.push(TALK, "#b", "y".to_owned()).is_ok());
        out.push(Class::Urgent, "", "PONG".to_owned()).unwrap();
        out.push(Class::Command, "", "JOIN #a".to_owned()).unwrap();
        out.disconnected();
        assert_eq!(out.next(Instant::now()), Next::Empty, "words wait for the next registration");
        out.resume(Instant::now());
        assert_eq!(out.len(), TARGET_DEPTH + 1);
        assert_eq!(out.forget("#a").len(), TARGET_DEPTH);
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
            out.push(TALK, target, Line { text: text.to_owned(), whole, ..Line::default() }).unwrap();
        }
        // Five at once: two parts with what opens and closes them, and one more.
        assert_eq!(
            drain(&mut out, Instant::now()),
            [(0, "a+b".to_owned()), (0, "x".to_owned()), (2, "c".to_owned()), (4, "y".to_owned())]
        );
        for _ in 0..5 {
            out.push(TALK, "#a", Line { text: "z".to_owned(), whole: 9, ..Line::default() }).unwrap();
        }
        let texts: Vec<String> = drain(&mut out, Instant::now()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["z+z+z", "z+z"], "no more than the server takes");
        assert!(out.is_empty());
        out.set_most(None);
        (0..2).for_each(|_| out.push(TALK, "#a", Line { text: "z".to_owned(), whole: 9, ..Line::default() }).unwrap());
        assert_eq!(drain(&mut out, Instant::now()).len(), 2);
    }

    /// Words of a class, worth saying for so many seconds.
    fn words(out: &mut Outgoing, class: Urgency, text: &str, worth: u64) {
        let worth = Some(Instant::now() + Duration::from_secs(worth));
        let line = Line { text: format!("PRIVMSG #ops :{text}"), worth, spare: 300, ..Line::default() };
        out.push(Class::Words(class), "#ops", line).unwrap();
    }

    fn texts(out: &mut Outgoing) -> Vec<String> {
        let sent = drain(out, Instant::now()).into_iter();
        sent.map(|(_, line)| line.trim_start_matches("PRIVMSG #ops :").to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn as_long_as_nothing_has_to_wait_the_order_is_kept_and_then_the_urgent_goes_first() {
        let mut out = open(PACE);
        words(&mut out, Urgency::Chatter, "one", 99);
        words(&mut out, Urgency::Page, "two", 99);
        assert_eq!(texts(&mut out), ["one", "two"]);
        let mut out = open(PACE);
        for n in 0..3 {
            for class in Urgency::ALL.into_iter().rev() {
                words(&mut out, class, &format!("{} {n}", class.name()), 99);
            }
        }
        let first = ["page 0", "page 1", "page 2", "reply 0", "reply 1", "reply 2", "progress 0", "progress 1"];
        assert_eq!(texts(&mut out)[..8], first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_words_again_are_counted_where_they_wait_and_replies_are_not() {
        let mut out = open(PACE);
        for _ in 0..4 {
            words(&mut out, Urgency::Chatter, "the disk is full", 99);
            words(&mut out, Urgency::Chatter, "so is the other", 99);
            words(&mut out, Urgency::Reply, "yes", 99);
        }
        assert_eq!(
            texts(&mut out),
            ["yes", "yes", "yes", "yes", "the disk is full (\u{d7}4)", "so is the other (\u{d7}4)"]
        );
        assert!(out.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_too_long_becomes_one_line_and_a_page_is_said_all_the_same() {
        let mut out = open(PACE);
        out.hold("#ops");
        for n in 0..30 {
            words(&mut out, Urgency::Chatter, &format!("news {n}"), 60);
        }
        words(&mut out, Urgency::Progress, "half done", 60);
        words(&mut out, Urgency::Page, "the shop is down", 9999);
        tokio::time::advance(Duration::from_secs(120)).await;
        words(&mut out, Urgency::Reply, "hi", 60);
        out.release("#ops");
        let said = texts(&mut out);
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(
            said[0],
            "(31 lines waited too long and were left out: 1 progress, 30 other; the newest: half done)"
        );
        assert_eq!(said[1..], ["the shop is down", "hi"]);
        assert_eq!((out.take_expired().len(), out.take_expired().len()), (31, 0));
        assert!(out.is_empty());
    }
}
