//! The server behind [`super::FakeNet`]: what it knows, and what it answers to a line of the bot.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::fakenet::Heard;

/// The capabilities it offers.
const CAPS: &str = "message-tags server-time batch account-tag account-notify extended-join multi-prefix \
                    userhost-in-names chghost";
/// The name it gives itself.
pub(super) const SERVER: &str = "irc.fake.test";

/// What it knows.
pub(super) struct State {
    pub(super) nick: String,
    pub(super) host: String,
    pub(super) caps: BTreeSet<String>,
    pub(super) joined: BTreeSet<String>,
    pub(super) people: BTreeMap<String, Person>,
    pub(super) topics: BTreeMap<String, String>,
    pub(super) heard: Vec<Heard>,
    pub(super) line: Option<mpsc::Sender<String>>,
    pub(super) connections: u64,
    pub(super) pongs: u64,
    pub(super) refusing: bool,
    pub(super) registered: bool,
    pub(super) messages: u64,
}

/// A person of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    /// The services account, vouched for by the server.
    pub(super) account: Option<String>,
    /// The host shown; `NICK.test` where empty.
    pub(super) host: String,
    /// The channels they are in.
    pub(super) channels: BTreeSet<String>,
}

impl State {
    /// A server that nobody is on.
    pub(super) fn new() -> State {
        State {
            nick: String::new(),
            host: "bot.test".to_owned(),
            caps: BTreeSet::new(),
            joined: BTreeSet::new(),
            people: BTreeMap::new(),
            topics: BTreeMap::new(),
            heard: Vec::new(),
            line: None,
            connections: 0,
            pongs: 0,
            refusing: false,
            registered: false,
            messages: 0,
        }
    }

    /// What the server says to a line of the bot.
    pub(super) fn answer(&mut self, line: &str) -> Vec<String> {
        let (command, params) = words(line);
        let first = params.first().cloned().unwrap_or_default();
        let last = params.last().cloned().unwrap_or_default();
        let me = if self.nick.is_empty() { "*".to_owned() } else { self.nick.clone() };
        let mut out = Vec::new();
        match command.as_str() {
            "CAP" => out.extend(self.cap(&first, &last, &me)),
            "NICK" if self.registered => {
                out.push(format!(":{me}!bot@{} NICK :{first}", self.host));
                self.nick = first;
            }
            "NICK" => self.nick = first,
            "USER" => {}
            "PONG" => self.pongs += 1,
            "PING" => out.push(format!(":{SERVER} PONG {SERVER} :{last}")),
            "JOIN" => {
                for chan in first.split(',') {
                    out.extend(self.join(chan));
                }
            }
            "PART" => {
                self.joined.remove(&first);
                out.push(format!(":{me}!bot@{} PART {first} :{last}", self.host));
            }
            "WHO" => out.extend(self.who(&first, &last, &me)),
            "QUIT" => {
                out.push(format!("ERROR :Closing link: {last}"));
                self.line = None;
            }
            _ => {}
        }
        if !matches!(command.as_str(), "CAP" | "NICK" | "USER" | "PING" | "PONG" | "WHO") {
            self.heard.push(Heard {
                command: command.clone(),
                target: params.first().cloned().unwrap_or_default(),
                text: last,
            });
        }
        let ends_registration = matches!(command.as_str(), "USER" | "CAP" | "NICK");
        if ends_registration && !self.registered && self.ready(&command, &params) {
            self.registered = true;
            out.extend(self.welcome());
        }
        out
    }

    fn cap(&mut self, verb: &str, last: &str, me: &str) -> Vec<String> {
        match verb {
            "LS" => {
                self.caps.insert(" negotiating".to_owned());
                vec![format!(":{SERVER} CAP {me} LS :{CAPS}")]
            }
            "REQ" => {
                self.caps.extend(last.split_whitespace().map(str::to_owned));
                vec![format!(":{SERVER} CAP {me} ACK :{last}")]
            }
            "END" => {
                self.caps.remove(" negotiating");
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn ready(&mut self, command: &str, params: &[String]) -> bool {
        if command == "USER" {
            self.caps.insert(" user".to_owned());
        }
        let ended = command == "CAP" && params.first().is_some_and(|verb| verb == "END");
        !self.nick.is_empty() && self.caps.contains(" user") && (ended || !self.caps.contains(" negotiating"))
    }

    fn welcome(&self) -> Vec<String> {
        let me = &self.nick;
        vec![
            format!(":{SERVER} 001 {me} :Welcome to FakeNet {me}!bot@{}", self.host),
            format!(
                ":{SERVER} 005 {me} CASEMAPPING=rfc1459 CHANTYPES=# PREFIX=(ov)@+ CHANMODES=beI,k,l,imnpst NICKLEN=30 \
                 NETWORK=FakeNet WHOX LINELEN=512 :are supported by this server"
            ),
            format!(":{SERVER} 422 {me} :MOTD File is missing"),
        ]
    }

    fn join(&mut self, chan: &str) -> Vec<String> {
        if !self.joined.insert(chan.to_owned()) {
            return Vec::new();
        }
        let me = &self.nick;
        let tail = if self.caps.contains("extended-join") { " * :bot" } else { "" };
        let mut names = vec![format!("{me}!bot@{}", self.host)];
        names.extend(self.members(chan).map(|(nick, person)| format!("{nick}!{nick}@{}", person.shown_host(nick))));
        let mut out = vec![format!(":{me}!bot@{} JOIN {chan}{tail}", self.host)];
        if let Some(topic) = self.topics.get(chan) {
            out.push(format!(":{SERVER} 332 {me} {chan} :{topic}"));
        }
        out.push(format!(":{SERVER} 353 {me} = {chan} :{}", names.join(" ")));
        out.push(format!(":{SERVER} 366 {me} {chan} :End of /NAMES list."));
        out
    }

    fn who(&self, chan: &str, fields: &str, me: &str) -> Vec<String> {
        let token = fields.split(',').nth(1).unwrap_or("0");
        let mut out: Vec<String> = self
            .members(chan)
            .map(|(nick, person)| {
                let account = person.account.as_deref().unwrap_or("0");
                format!(":{SERVER} 354 {me} {token} {chan} {nick} {} {nick} H {account}", person.shown_host(nick))
            })
            .collect();
        out.push(format!(":{SERVER} 315 {me} {chan} :End of /WHO list."));
        out
    }

    fn members<'a>(&'a self, chan: &'a str) -> impl Iterator<Item = (&'a String, &'a Person)> {
        self.people.iter().filter(move |(_, person)| person.channels.contains(chan))
    }
}

impl Person {
    fn shown_host(&self, nick: &str) -> String {
        if self.host.is_empty() { format!("{nick}.test") } else { self.host.clone() }
    }
}

/// A line of the bot in words: command in capitals, then parameters.
fn words(line: &str) -> (String, Vec<String>) {
    let line = match line.strip_prefix('@') {
        Some(tagged) => tagged.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    };
    let (head, tail) = match line.split_once(" :") {
        Some((head, tail)) => (head, Some(tail)),
        None => (line, None),
    };
    let mut params: Vec<String> = head.split_whitespace().map(str::to_owned).collect();
    let command = if params.is_empty() { String::new() } else { params.remove(0).to_ascii_uppercase() };
    params.extend(tail.map(str::to_owned));
    (command, params)
}
