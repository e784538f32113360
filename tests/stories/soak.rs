//! A day on a network in virtual time: events without end, connections that are lost, and nothing that grows.
//!
//!     MASTERCHIEF_SOAK=1000000 cargo test --release --test stories soak:: -- --nocapture

use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Clock, Event, Kind};

use crate::chance::{Dice, number, seed};
use crate::resident::resident;
use crate::wire::{Line, Memory};

/// What the server offers.
const CAPS: &str = "message-tags server-time batch account-tag account-notify extended-join away-notify chghost setname multi-prefix echo-message \
     labeled-response draft/multiline=max-bytes=4096,max-lines=24";
/// From one event to the next: a million of them are a day.
const GAP: Duration = Duration::from_micros(86_400);
/// Events where no number is asked for: a few minutes.
const EVENTS: u64 = 10_000;
/// A connection is lost after so many events: 500 in a million.
const LOST_EVERY: u64 = 2_000;
/// After so many events the bot is heard.
const ROUND: u64 = 50;

/// What a process has of what could run out.
#[derive(Clone, Copy, Debug)]
struct Held {
    kib: u64,
    tasks: usize,
    descriptors: usize,
}

impl Held {
    fn now() -> Held {
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Held { kib: resident(), tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(), descriptors }
    }
}

/// Who is in the channel, by number: everybody is somebody else after a while.
struct Town {
    dice: Dice,
    people: Vec<u64>,
    born: u64,
    said: u64,
}

impl Town {
    fn new(seed: u64) -> Town {
        Town { dice: Dice::new(seed), people: Vec::new(), born: 0, said: 0 }
    }

    /// Everybody who is there when the bot comes back.
    fn names(&mut self) -> String {
        self.people = (self.born..self.born + 40).collect();
        self.born += 40;
        let names: Vec<String> = self.people.iter().map(|n| format!("n{n}!u@h{n}.test")).collect();
        format!(":s 353 chief = #ops :chief!c@host {}\r\n:s 366 chief #ops :End\r\n", names.join(" "))
    }

    /// One thing that happens; the words that the bot is to answer with, if any.
    fn event(&mut self, clock: &Clock) -> (String, Option<String>) {
        self.said += 1;
        let at = self.dice.below(self.people.len());
        let (who, said) = (self.people[at], self.said);
        let tags = format!("@time={};msgid=m{said}", clock.now().format("%Y-%m-%dT%H:%M:%S%.3fZ"));
        let from = format!("{tags} :n{who}!u@h{who}.test");
        let line = match self.dice.below(100) {
            0..2 => return (format!("{from} PRIVMSG #ops :!echo {said}."), Some(format!("echo {said}."))),
            2..5 => {
                self.born += 1;
                let new = self.born;
                self.people[at] = new;
                format!("{from} QUIT :bye\r\n{tags} :n{new}!u@h{new}.test JOIN #ops acc{new} :Somebody")
            }
            5..7 => {
                self.born += 1;
                self.people[at] = self.born;
                // The host stays the old one's; who they are is told anew when they speak.
                format!("{from} NICK n{}", self.born)
            }
            7 => format!(
                "BATCH +s{said} netsplit a.test b.test\r\n@batch=s{said} :n{who}!u@h{who}.test QUIT :a.test b.test\r\n\
                 BATCH -s{said}\r\n{tags} :n{who}!u@h{who}.test JOIN #ops * :Back"
            ),
            8 => format!("{from} MODE #ops +o-o+b n{who} n{who} *!*@{said}.test"),
            9 => format!("{from} TOPIC #ops :number {said}"),
            10 => format!("{from} AWAY :{said}\r\n{from} AWAY"),
            11 => format!("{from} ACCOUNT a{said}"),
            12 => format!("@+typing=active;{} TAGMSG #ops", &from[1..]),
            13 => format!("{from} PRIVMSG chief :\u{1}VERSION\u{1}"),
            14 => format!(":s 005 chief NETWORK=n{said} :are supported"),
            15 => format!(
                "BATCH +h{said} chathistory #ops\r\n@batch=h{said};msgid=o{said} :x!y@z PRIVMSG #ops :!echo no\r\nBATCH -h{said}"
            ),
            _ => format!("{from} PRIVMSG #ops :just people talking, line {said}"),
        };
        (line, None)
    }
}

/// Takes the bot in again.
async fn at_home(memory: &mut Memory, town: &mut Town) -> Line {
    loop {
        let mut line = memory.accepts().await;
        line.negotiates(CAPS).await;
        line.welcomes("WHOX CHANTYPES=# PREFIX=(ov)@+").await;
        line.hears("JOIN #ops").await;
        let names = town.names();
        if line.writes(format!(":chief!c@host JOIN #ops * :x\r\n{names}").as_bytes()).await {
            return line;
        }
    }
}

async fn bot(clock: &Clock) -> (Started, Memory) {
    let (memory, way) = Memory::new();
    let bot = Bot::builder()
        .clock(clock.clone())
        .dial(way)
        .network("soak", Memory::settings())
        .bind(Kind::Pub, "-|-", "!echo", |ev: Event| async move { format!("echo {}", ev.text()) })
        .unwrap()
        .bind(Kind::Join, "-|-", "* *", |_: Event| async {})
        .unwrap()
        .bind(Kind::Raw, "-|-", "MODE", |_: Event| async {})
        .unwrap();
    (bot.start().await.unwrap(), memory)
}

/// Everything the bot has said, when it has nothing more to do; what was to be answered is gone from `due`.
async fn heard(line: &mut Line, round: u64, due: &mut Vec<String>) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (lines, alive) = line.answers(&format!("round-{round}")).await;
    assert!(alive, "the bot has hung up: {lines:?}");
    // What has a label comes back to it, but now and then: then it waits for its answer in vain.
    let echoed = lines.iter().filter_map(|line| line.strip_prefix("@label=")?.split_once(' ')).enumerate();
    let echoes = echoed.filter(|(n, _)| n % 16 != 15).map(|(_, (label, words))| {
        let label = label.split(';').next().unwrap_or("");
        format!("@label={label};msgid=own{round}-{label} :chief!c@host {words}\r\n")
    });
    let echoes: String = echoes.collect();
    assert!(line.writes(echoes.as_bytes()).await, "the bot has hung up");
    for line in lines {
        if let Some((_, text)) = line.split_once("PRIVMSG #ops :") {
            let at = due.iter().position(|wanted| wanted == text);
            due.swap_remove(at.unwrap_or_else(|| panic!("nobody asked for {text:?}, or it was said before")));
        }
    }
    assert!(due.is_empty(), "not answered: {due:?}");
}

#[tokio::test(start_paused = true)]
async fn a_day_of_events_and_lost_connections_leaves_nothing_behind() {
    let asked = number("MASTERCHIEF_SOAK");
    let events = asked.unwrap_or(EVENTS);
    let clock = Clock::starting("2026-03-02T00:00:00Z".parse().unwrap());
    let (started, mut memory) = bot(&clock).await;
    let mut town = Town::new(seed());
    let mut line = at_home(&mut memory, &mut town).await;
    let (mut due, mut answered, mut lost, mut early) = (Vec::new(), 0, 0, None);
    let begun = std::time::Instant::now();
    for n in 1..=events {
        let (says, answer) = town.event(&clock);
        assert!(line.writes(format!("{says}\r\n").as_bytes()).await, "the bot has hung up");
        answered += usize::from(answer.is_some());
        due.extend(answer);
        tokio::time::sleep(GAP).await;
        let lose = n % LOST_EVERY == LOST_EVERY / 2;
        if n % ROUND == 0 || lose {
            heard(&mut line, n, &mut due).await;
        }
        if lose {
            if town.dice.one_in(2) {
                line.writes(b"ERROR :Closing link: the server is restarted\r\n").await;
            }
            drop(line);
            line = at_home(&mut memory, &mut town).await;
            lost += 1;
        }
        if n == events / 4 {
            early = Some(Held::now());
        }
    }
    heard(&mut line, 0, &mut due).await;
    let (early, late) = (early.unwrap(), Held::now());
    let status = started.status().await.networks[0].clone();
    println!(
        "{events} events in {:.1} virtual hours, {lost} connections lost, {answered} answers: {:.0} s; after a quarter {early:?}, \
         at the end {late:?}",
        (GAP * u32::try_from(events).unwrap_or(u32::MAX)).as_secs_f64() / 3600.0,
        begun.elapsed().as_secs_f64()
    );
    assert_eq!((status.dropped, status.refused, status.connections), (0, 0, lost + 1), "{status:?}");
    assert!(late.tasks <= early.tasks + 2, "tasks pile up: {early:?}, {late:?}");
    // Other stories have memory and descriptors of the same process; alone they are this one's.
    if asked.is_some() {
        assert!(late.descriptors <= early.descriptors + 2, "descriptors pile up: {early:?}, {late:?}");
        assert!(late.kib <= early.kib + early.kib / 10 + 8192, "memory grows: {early:?}, {late:?}");
    }
    started.stop("").await;
}
