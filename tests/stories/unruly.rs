//! A network where everything goes wrong: people take each other's nicks, servers vouch for them in every way and in none, stall, split and
//! die in the middle of a line.

use std::time::Duration;

use crate::chance::Dice;
use crate::reckoned::{AGAIN, Told, numbered};
use crate::wire::{Line, Memory};

const SECOND: Duration = Duration::from_secs(1);
/// Nicks that people take, and take from each other.
const NICKS: &[&str] = &["alice", "alice_", "ALICE2", "bob", "mallory", "root", "nick[a]", "nick{b}"];
/// Lines of one flood.
const FLOOD: usize = 300;

/// By what the server vouches for people on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Vouches {
    /// Every line has the account of who says it.
    Tags,
    /// The account is told when somebody joins, logs in or out, and by WHO.
    Notices,
    /// As tags do, on a server that answers every line by its label, takes messages in parts, and has services to log in to.
    Answers,
    /// Not at all: nobody is anybody.
    No,
}

impl Vouches {
    fn caps(self) -> &'static str {
        match self {
            Vouches::Tags => "message-tags server-time batch account-tag account-notify extended-join",
            Vouches::Answers => {
                "message-tags server-time batch account-tag account-notify extended-join echo-message labeled-response \
                 draft/multiline=max-bytes=4096,max-lines=24 sasl=PLAIN"
            }
            Vouches::Notices => "message-tags server-time batch account-notify extended-join",
            Vouches::No => "multi-prefix",
        }
    }
}

/// Somebody.
#[derive(Clone, Debug)]
struct Person {
    nick: String,
    /// Who they are; the nick says nothing.
    host: &'static str,
    /// The account they have, and whether they are logged in to it now.
    account: &'static str,
    logged_in: bool,
    here: bool,
}

impl Person {
    fn from(&self) -> String {
        format!("{}!u@{}", self.nick, self.host)
    }

    fn account(&self) -> &str {
        if self.logged_in { self.account } else { "*" }
    }
}

/// The network, and the bot's connection to it.
pub(crate) struct Network {
    pub(crate) dice: Dice,
    memory: Memory,
    pub(crate) line: Option<Line>,
    vouches: Vouches,
    /// Whether the accounts of those who were here before the bot are told.
    known: bool,
    /// The bot's nick, and whether it is in the channel.
    nick: String,
    pub(crate) inside: bool,
    people: Vec<Person>,
    last: u64,
    /// Asked for on this connection since the bot last answered a PING.
    asked: Vec<u64>,
    /// A message in parts that is not whole yet: its name, its label and its lines.
    whole: Option<(String, String, Vec<String>)>,
    pub(crate) told: Told,
}

/// What a line of the bot says in front of its words.
fn tag<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (tags, _) = line.strip_prefix('@')?.split_once(' ')?;
    tags.split(';').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
}

/// The line without that.
fn bare(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(tagged) => tagged.split_once(' ').map_or("", |(_, bare)| bare),
        None => line,
    }
}

impl Network {
    pub(crate) fn new(seed: u64, memory: Memory) -> Network {
        let person = |nick: &str, host, account| Person {
            nick: nick.to_owned(),
            host,
            account,
            logged_in: account != "*",
            here: true,
        };
        let people = vec![
            person("alice", "a.test", "alice"),
            person("bob", "b.test", "bob"),
            person("mallory", "evil.test", "*"),
            person("root", "r.test", "*"),
        ];
        Network {
            dice: Dice::new(seed),
            memory,
            line: None,
            vouches: Vouches::Tags,
            known: false,
            nick: "chief".to_owned(),
            inside: false,
            people,
            last: 0,
            asked: Vec::new(),
            whole: None,
            told: Told::default(),
        }
    }

    async fn says(&mut self, text: &str) {
        if let Some(line) = &mut self.line {
            line.writes(format!("{text}\r\n").as_bytes()).await;
        }
    }

    /// Lets the bot in, if it is let in; it may also be hung up on, or left waiting.
    pub(crate) async fn takes_in(&mut self) {
        let mut line = self.memory.accepts().await;
        // The bot may have waited in vain while the server stood still.
        if !line.writes(b"PING :there\r\n").await {
            return;
        }
        self.told.connections += 1;
        self.vouches =
            *self.dice.of(&[Vouches::Tags, Vouches::Answers, Vouches::Answers, Vouches::Notices, Vouches::No]);
        self.whole = None;
        match self.dice.below(24) {
            0 => return drop(line),
            1 => {
                line.says(&["ERROR :Trying to reconnect too fast."]).await;
                return drop(line.closes().await);
            }
            // Nothing comes of it: the bot gives up.
            2 => return drop(line.rest_in_silence().await),
            _ => {}
        }
        if !self.agrees(&mut line).await {
            // It did not wait for the list.
            self.vouches = Vouches::No;
        }
        let casemapping = *self.dice.of(&["ascii", "rfc1459"]);
        line.welcomes(&format!("WHOX CHANTYPES=# CASEMAPPING={casemapping} MONITOR=9")).await;
        (self.nick, self.inside, self.known) = ("chief".to_owned(), false, false);
        self.asked.clear();
        self.line = Some(line);
    }

    /// Offers what there is, and lets the bot log in, or not. Whether it asked for anything.
    async fn agrees(&mut self, line: &mut Line) -> bool {
        let mut asked = false;
        while let Some(said) = line.next().await {
            if said == "CAP LS 302" {
                line.says(&[&format!(":s CAP * LS :{}", self.vouches.caps())]).await;
            } else if let Some(caps) = said.strip_prefix("CAP REQ ") {
                line.says(&[&format!(":s CAP * ACK :{}", caps.trim_start_matches(':'))]).await;
                asked = true;
            } else if said == "AUTHENTICATE PLAIN" {
                line.says(&["AUTHENTICATE +"]).await;
            } else if said.starts_with("AUTHENTICATE ") {
                line.says(&[*self.dice.of(&[":s 903 * :ok", ":s 903 * :ok", ":s 904 * :no", ":s CAP * DEL :sasl"])])
                    .await;
            } else if said == "CAP END" {
                break;
            }
        }
        asked
    }

    /// The bot joins, as everybody sees it.
    async fn lets_in(&mut self) {
        let people = self.people.iter().filter(|person| person.here);
        let names: Vec<String> = people.map(|person| person.nick.clone()).collect();
        let nick = self.nick.clone();
        let extended = if self.vouches == Vouches::No { "" } else { " * :bot" };
        self.says(&format!(
            ":{nick}!c@host JOIN #ops{extended}\r\n:s 353 {nick} = #ops :{nick} {}\r\n:s 366 {nick} #ops :End",
            names.join(" ")
        ))
        .await;
        self.inside = true;
        // Of whom it finds there it knows nothing until it has asked.
        self.known = false;
    }

    /// What the bot has said is taken, and answered where a server answers.
    pub(crate) async fn hears(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(mut line) = self.line.take() else { return };
        self.last += 1;
        let (lines, alive) = line.answers(&format!("sync-{}", self.last)).await;
        if alive {
            self.line = Some(line);
            self.told.must.extend(self.asked.drain(..));
        } else {
            self.asked.clear();
        }
        for line in lines {
            self.takes(&line).await;
        }
    }

    async fn takes(&mut self, said: &str) {
        let line = bare(said);
        let label = tag(said, "label").unwrap_or("").to_owned();
        if let Some(name) = line.strip_prefix("BATCH +") {
            let name = name.split(' ').next().unwrap_or("").to_owned();
            self.whole = Some((name, label, Vec::new()));
        } else if tag(said, "batch").is_some() {
            self.whole.as_mut().expect("a part has a whole").2.push(line.to_owned());
        } else if line.starts_with("BATCH -") {
            self.takes_whole().await;
        } else if line.starts_with("NOTICE ") && !label.is_empty() && self.dice.one_in(3) {
            self.says(&format!("@label={label} :s 404 {} nobody :Cannot send", self.nick)).await;
        } else {
            if !label.is_empty() {
                self.echoes(&label, line).await;
            }
            self.obeys(line).await;
        }
    }

    /// A message in parts is passed on as one, or refused as one.
    async fn takes_whole(&mut self) {
        let (name, label, lines) = self.whole.take().expect("it was begun");
        let label = if label.is_empty() { String::new() } else { format!("@label={label} ") };
        if self.dice.one_in(4) {
            return self.says(&format!("{label}:s FAIL BATCH MULTILINE_INVALID :not today")).await;
        }
        let nick = self.nick.clone();
        self.says(&format!("{label}:{nick}!c@host BATCH +e{name} draft/multiline #ops")).await;
        for line in lines {
            self.says(&format!("@batch=e{name} :{nick}!c@host {line}")).await;
            self.obeys(&line).await;
        }
        self.says(&format!(":{nick}!c@host BATCH -e{name}")).await;
    }

    /// The answer to a line that was passed on.
    async fn echoes(&mut self, label: &str, line: &str) {
        let nick = self.nick.clone();
        let text = match self.dice.below(8) {
            0 => format!("@label={label} :s ACK"),
            1 => format!(
                "@label={label} :s BATCH +r{label} labeled-response\r\n@batch=r{label} :s 301 {nick} nobody :Away\r\n\
                 @batch=r{label} :{nick}!c@host {line}\r\n:s BATCH -r{label}"
            ),
            _ => format!("@label={label};msgid={label}-{} :{nick}!c@host {line}", self.last),
        };
        self.says(&text).await;
    }

    async fn obeys(&mut self, line: &str) {
        let nick = self.nick.clone();
        if let Some(deployed) = numbered(line, " :deployed <") {
            match deployed {
                Some(number) => *self.told.confirmed.entry(number).or_default() += 1,
                None => self.told.cut += 1,
            }
        } else if let Some(page) = numbered(line, " page <") {
            // What is not whole is not heard.
            if let Some(number) = page {
                let heard = self.told.pages.entry(number).or_default();
                if line.contains(AGAIN) { heard.1 += 1 } else { heard.0 += 1 }
            }
        } else if line.starts_with("JOIN #ops") && !self.inside {
            self.lets_in().await;
        } else if let Some(wanted) = line.strip_prefix("NICK ") {
            self.says(&format!(":{nick}!c@host NICK {wanted}")).await;
            self.nick = wanted.to_owned();
        } else if line.starts_with("WHO #ops") {
            let rows =
                self.people.iter().filter(|person| person.here).map(|Person { nick: who, host, .. }| (who, host));
            let accounts = self.people.iter().filter(|person| person.here).map(Person::account);
            let rows: Vec<String> = rows
                .zip(accounts)
                .map(|((who, host), account)| {
                    let account = if account == "*" { "0" } else { account };
                    format!(":s 354 {nick} 152 #ops u {host} {who} H {account} :x")
                })
                .collect();
            self.says(&rows.join("\r\n")).await;
            self.known = true;
        } else if let Some(caps) = line.strip_prefix("CAP REQ ") {
            self.says(&format!(":s CAP {nick} ACK :{}", caps.trim_start_matches(':'))).await;
        } else if line == "AUTHENTICATE PLAIN" {
            self.says("AUTHENTICATE +").await;
        } else if line.starts_with("AUTHENTICATE ") {
            let end = *self.dice.of(&["903", "904"]);
            self.says(&format!(":s {end} {nick} :well")).await;
        } else if let Some(token) = line.strip_prefix("PING ") {
            self.says(&format!(":s PONG s :{token}")).await;
        }
    }

    /// The connection ends; what the bot had said before it noticed counts.
    pub(crate) async fn ends(&mut self, last: &str) {
        if let Some(mut line) = self.line.take() {
            line.writes(last.as_bytes()).await;
            for heard in line.closes().await {
                self.takes(&heard).await;
            }
        }
        self.asked.clear();
    }

    /// The server dies with what it had not passed on yet: whatever the bot has said to it since it was heard last. It may have stood
    /// still before, so long that the bot is sure that nothing was refused.
    pub(crate) async fn dies(&mut self) {
        if self.dice.one_in(2) {
            tokio::time::sleep(SECOND * (1 + self.dice.below(80)) as u32).await;
        }
        self.asked.clear();
        self.whole = None;
        let Some(line) = self.line.take() else { return };
        for heard in line.closes().await {
            match numbered(&heard, " :deployed <") {
                Some(Some(number)) => drop(self.told.swallowed.insert(number)),
                Some(None) => self.told.cut += 1,
                None => self.told.swallowed_pages += usize::from(heard.contains(" page <")),
            }
        }
    }

    /// Somebody who is here.
    fn anybody(&mut self) -> Option<usize> {
        let here: Vec<usize> = (0..self.people.len()).filter(|at| self.people[*at].here).collect();
        if here.is_empty() { None } else { Some(*self.dice.of(&here)) }
    }

    /// The words of somebody, as a line.
    fn words(&self, at: usize, text: &str) -> String {
        let person = &self.people[at];
        let tag = match (self.vouches, person.logged_in) {
            (Vouches::Tags | Vouches::Answers, true) => format!("@account={} ", person.account),
            _ => String::new(),
        };
        format!("{tag}:{} PRIVMSG #ops :{text}", person.from())
    }

    /// A number that nobody has asked for yet.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    async fn commands(&mut self) {
        let Some(at) = self.anybody() else { return };
        let number = self.number();
        if self.people[at].account() == "alice" {
            self.told.may.insert(number);
            let vouched = match self.vouches {
                Vouches::Tags | Vouches::Answers => true,
                Vouches::Notices => self.known,
                Vouches::No => false,
            };
            if vouched {
                self.asked.push(number);
            }
        }
        self.says(&self.words(at, &format!("!deploy {number}"))).await;
    }

    /// A line that is a command and must never be one: said long ago, or not whole.
    async fn pretends(&mut self) {
        let number = self.number();
        let mut old = self.people[0].clone();
        old.nick = "alice".to_owned();
        let words = format!("@account=alice;batch=h{number} :{} PRIVMSG #ops :!deploy {number}", old.from());
        match self.dice.below(6) {
            0..3 if self.vouches != Vouches::No => {
                self.says(&format!(":s BATCH +h{number} chathistory #ops\r\n{words}\r\n:s BATCH -h{number}")).await;
            }
            3..5 => {
                let long = format!(":{} PRIVMSG #ops :{}\u{1}", old.from(), "x".repeat(40_000));
                self.says(&format!("{long} !deploy {number}")).await;
            }
            _ => {
                let half = format!("@account=alice :{} PRIVMSG #ops :!deploy {number}", old.from());
                let half = half[..half.len() - self.dice.below(4)].to_owned();
                self.ends(&half).await;
            }
        }
    }

    async fn renames(&mut self) {
        let Some(at) = self.anybody() else { return };
        let new = *self.dice.of(NICKS);
        if self.people.iter().any(|person| person.nick.eq_ignore_ascii_case(new)) {
            return;
        }
        self.says(&format!(":{} NICK {new}", self.people[at].from())).await;
        self.people[at].nick = new.to_owned();
    }

    async fn logs_in_or_out(&mut self) {
        let Some(at) = self.anybody().filter(|at| self.people[*at].account != "*") else { return };
        self.people[at].logged_in = !self.people[at].logged_in;
        if self.vouches != Vouches::No {
            self.says(&format!(":{} ACCOUNT {}", self.people[at].from(), self.people[at].account())).await;
        }
    }

    async fn splits(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            let Some(at) = self.anybody() else { return };
            let reason = *self.dice.of(&["hub.test leaf.test", "*.net *.split", "Quit: gone"]);
            self.says(&format!(":{} QUIT :{reason}", self.people[at].from())).await;
            self.people[at].here = false;
            // Who is away may be logged out, and the nick is free for others.
            if self.dice.one_in(3) {
                self.people[at].logged_in = false;
            }
            self.people[at].nick = format!("gone{at}");
        }
    }

    async fn comes_back(&mut self) {
        let Some(at) = (0..self.people.len()).find(|at| !self.people[*at].here) else { return };
        let free = |nick: &&&str| !self.people.iter().any(|person| person.nick.eq_ignore_ascii_case(nick));
        let free: Vec<&str> = NICKS.iter().filter(free).copied().collect();
        self.people[at].nick = (*self.dice.of(&free)).to_owned();
        self.people[at].here = true;
        let extended =
            if self.vouches == Vouches::No { String::new() } else { format!(" {} :x", self.people[at].account()) };
        self.says(&format!(":{} JOIN #ops{extended}", self.people[at].from())).await;
    }

    /// One thing that happens.
    pub(crate) async fn happens(&mut self) {
        let nick = self.nick.clone();
        match self.dice.below(100) {
            0..25 if self.inside => {
                if let Some(at) = self.anybody() {
                    self.says(&self.words(at, "just talking")).await;
                }
            }
            25..55 if self.inside => self.commands().await,
            55..62 if self.inside => self.renames().await,
            62..67 if self.inside => self.logs_in_or_out().await,
            67..72 if self.inside => self.splits().await,
            72..80 if self.inside => self.comes_back().await,
            80..82 if self.inside => {
                for n in 0..FLOOD {
                    self.says(&format!(":flood{n}!f@{n}.test PRIVMSG {nick} :!deploy 0")).await;
                }
            }
            82..84 if self.dice.one_in(4) => {
                // The server stands still, long enough to be given up or not.
                let time = SECOND * (5 + self.dice.below(200)) as u32;
                tokio::time::sleep(time).await;
            }
            84..87 if self.inside => self.pretends().await,
            87..89 if self.dice.one_in(2) => {
                let down = "ERROR :Closing link: the server goes down\r\n";
                let killed = ":oper!o@o KILL chief :enough\r\nERROR :Killed\r\n";
                let last = *self.dice.of(&["", "", down, down, down, killed]);
                self.ends(last).await;
            }
            89..91 => {
                self.says(&format!(":{nick}!c@host NICK Guest7")).await;
                self.nick = "Guest7".to_owned();
            }
            91..93 if self.inside && self.dice.one_in(10) => {
                self.says(&format!(":oper!o@o KICK #ops {nick} :out")).await;
                self.inside = false;
            }
            93..96 => {
                let casemapping = *self.dice.of(&["ascii", "rfc1459", "rfc1459-strict"]);
                self.says(&format!(":s 005 {nick} CASEMAPPING={casemapping} :are supported")).await;
            }
            96..97 if self.dice.one_in(3) => self.dies().await,
            97..99 if self.vouches == Vouches::Answers => {
                self.says(&format!(":s CAP {nick} DEL :sasl\r\n:s CAP {nick} NEW :sasl=PLAIN")).await;
            }
            _ => {}
        }
    }
}
