//! A network for tests: a small IRC server in memory that the bot really connects to, and its people.
//!
//! It speaks enough IRCv3 to a single client (the bot) that the whole inbound and outbound path is the real one.
//! Time is the caller's, so under tokio's paused clock a minute costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use masterchief_contract::{Clock, Future};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, watch};

use crate::irc::{Channel, Dial, DialFault, PaceSettings, ServerAddr, Settings, Stream, Tls};

/// The capabilities it offers.
const CAPS: &str = "message-tags server-time batch account-tag account-notify extended-join multi-prefix \
                    userhost-in-names chghost";
/// Lines on their way to the bot before a test that sends more has to wait for it.
const WIRE_DEPTH: usize = 4096;
/// Bytes in flight in each direction.
const WIRE_BYTES: usize = 1 << 16;
/// The name it gives itself.
const SERVER: &str = "irc.fake.test";

/// Connects to a [`FakeNet`] whatever the server's name.
pub(crate) struct FakeDial(pub(crate) FakeNet);

impl Dial for FakeDial {
    fn dial(&self, server: &ServerAddr, _tls: &Tls) -> Future<Result<Stream, DialFault>> {
        let refused = DialFault::Connect(server.to_string(), std::io::ErrorKind::ConnectionRefused.into());
        let dialled = self.0.accept().map(|stream| Box::new(stream) as Stream).ok_or(refused);
        Box::pin(std::future::ready(dialled))
    }
}

/// A line the bot sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// `PRIVMSG`, `NOTICE`, `JOIN`…
    pub command: String,
    /// Its first parameter: who or where.
    pub target: String,
    /// Its last parameter.
    pub text: String,
}

/// A person of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Person {
    /// The services account, vouched for by the server.
    account: Option<String>,
    /// The host shown; `NICK.test` where empty.
    host: String,
    /// The channels they are in.
    channels: BTreeSet<String>,
}

/// The network. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct FakeNet {
    state: Arc<Mutex<State>>,
    clock: Clock,
    changed: watch::Sender<u64>,
}

struct State {
    nick: String,
    host: String,
    caps: BTreeSet<String>,
    joined: BTreeSet<String>,
    people: BTreeMap<String, Person>,
    topics: BTreeMap<String, String>,
    heard: Vec<Heard>,
    line: Option<mpsc::Sender<String>>,
    connections: u64,
    pongs: u64,
    refusing: bool,
    registered: bool,
    messages: u64,
}

impl FakeNet {
    /// An empty network whose times are told by `clock`.
    pub fn new(clock: Clock) -> FakeNet {
        let state = State {
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
        };
        FakeNet {
            state: Arc::new(Mutex::new(state)),
            clock,
            changed: watch::Sender::new(0),
        }
    }

    /// The settings of a bot on this network, in one channel, with no limit on its pace.
    pub(crate) fn settings(channel: &str) -> Settings {
        let server = ServerAddr {
            host: SERVER.to_owned(),
            port: 6667,
        };
        Settings {
            tls: Tls::off(),
            channels: vec![Channel {
                name: channel.to_owned(),
                key: None,
            }],
            pace: PaceSettings {
                burst: 1,
                interval: Duration::ZERO,
            },
            ..Settings::new(vec![server])
        }
    }

    /// A new connection from the bot: gives its end of the wire, or nothing while the server is away.
    pub fn accept(&self) -> Option<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(WIRE_BYTES);
        let (line, lines) = mpsc::channel(WIRE_DEPTH);
        {
            let mut state = self.lock();
            if state.refusing {
                return None;
            }
            state.connections += 1;
            state.line = Some(line);
            state.nick.clear();
            state.joined.clear();
            state.caps.clear();
            state.registered = false;
        }
        tokio::spawn(self.clone().serve(ours, lines));
        Some(theirs)
    }

    /// Adds a person, or changes the account and host of one.
    pub fn person(&self, nick: &str, account: Option<&str>, host: Option<&str>) {
        let mut state = self.lock();
        let person = state.people.entry(nick.to_owned()).or_default();
        person.account = account.map(str::to_owned);
        if let Some(host) = host {
            person.host = host.to_owned();
        }
    }

    /// Whether the network knows this nick.
    pub fn knows(&self, nick: &str) -> bool {
        self.lock().people.contains_key(nick)
    }

    /// A person says something in a channel (which they join if need be) or to the bot.
    pub async fn says(&self, nick: &str, target: &str, text: &str) {
        if target.starts_with('#') {
            self.joins(nick, target).await;
        }
        self.from_person(nick, &format!("PRIVMSG {target} :{text}")).await;
    }

    /// A person joins a channel.
    pub async fn joins(&self, nick: &str, chan: &str) {
        let account = {
            let mut state = self.lock();
            let person = state.people.entry(nick.to_owned()).or_default();
            if !person.channels.insert(chan.to_owned()) {
                return;
            }
            person.account.clone()
        };
        let extended = self.has_cap("extended-join");
        let tail = if extended {
            format!(" {} :{nick}", account.as_deref().unwrap_or("*"))
        } else {
            String::new()
        };
        self.from_person(nick, &format!("JOIN {chan}{tail}")).await;
    }

    /// A person leaves a channel.
    pub async fn parts(&self, nick: &str, chan: &str, reason: &str) {
        self.from_person(nick, &format!("PART {chan} :{reason}")).await;
        if let Some(person) = self.lock().people.get_mut(nick) {
            person.channels.remove(chan);
        }
    }

    /// A person quits.
    pub async fn quits(&self, nick: &str, reason: &str) {
        self.from_person(nick, &format!("QUIT :{reason}")).await;
        self.lock().people.remove(nick);
    }

    /// Any other line from a person, such as `NICK bob` or `TOPIC #ops :hello`.
    pub async fn from_person(&self, nick: &str, line: &str) {
        let prefix = {
            let mut state = self.lock();
            state.messages += 1;
            let id = state.messages;
            let person = state.people.entry(nick.to_owned()).or_default();
            let host = if person.host.is_empty() {
                format!("{nick}.test")
            } else {
                person.host.clone()
            };
            let account = person.account.clone();
            let mut tags = Vec::new();
            if state.caps.contains("server-time") {
                tags.push(format!("time={}", self.clock.now().format("%Y-%m-%dT%H:%M:%S%.3fZ")));
            }
            if state.caps.contains("message-tags") {
                tags.push(format!("msgid=fake{id}"));
            }
            if let (true, Some(account)) = (state.caps.contains("account-tag"), account) {
                tags.push(format!("account={account}"));
            }
            let tags = if tags.is_empty() {
                String::new()
            } else {
                format!("@{} ", tags.join(";"))
            };
            format!("{tags}:{nick}!{nick}@{host} ")
        };
        self.raw(&format!("{prefix}{line}")).await;
    }

    /// A line from the server as it is, without CRLF. Lost while the bot is not connected.
    pub async fn raw(&self, line: &str) {
        let to = self.lock().line.clone();
        if let Some(to) = to {
            // A closed wire is the connection going away: what was said then was said to nobody.
            let _ = to.send(line.to_owned()).await;
        }
    }

    /// Cuts the connection without a word.
    pub fn cut(&self) {
        self.lock().line = None;
        self.changed.send_modify(|n| *n += 1);
    }

    /// Refuses connections from now on, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        self.lock().refusing = refuse;
    }

    /// How often the bot has connected.
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// How often the bot has answered a PING.
    pub fn pongs(&self) -> u64 {
        self.lock().pongs
    }

    /// Everything the bot sent, in order, over all connections.
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    /// Waits until the bot is registered and in `chan`.
    pub async fn joined(&self, chan: &str, within: Duration) -> bool {
        self.wait_for(within, |state| state.joined.contains(chan).then_some(()))
            .await
            .is_some()
    }

    /// Waits for something the bot sent after line number `after` that `wanted` accepts; gives its number.
    pub async fn hear(&self, after: usize, within: Duration, wanted: impl Fn(&Heard) -> bool) -> Option<usize> {
        self.wait_for(within, |state| {
            (after..state.heard.len()).find(|at| wanted(&state.heard[*at]))
        })
        .await
    }

    async fn wait_for<T>(&self, within: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut changed = self.changed.subscribe();
        let search = async {
            loop {
                if let Some(found) = look(&self.lock()) {
                    return Some(found);
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(within, search).await.ok().flatten()
    }

    fn has_cap(&self, cap: &str) -> bool {
        self.lock().caps.contains(cap)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, until either side ends it.
    async fn serve(self, wire: DuplexStream, mut lines: mpsc::Receiver<String>) {
        let (read, mut write) = tokio::io::split(wire);
        let mut read = BufReader::new(read).lines();
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else { return };
                    if write.write_all(format!("{line}\r\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
                line = read.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    for answer in self.answer(line.trim_end_matches('\r')) {
                        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    self.changed.send_modify(|n| *n += 1);
                }
            }
        }
    }

    /// What the server says to a line of the bot.
    fn answer(&self, line: &str) -> Vec<String> {
        let (command, params) = words(line);
        let mut state = self.lock();
        let first = params.first().cloned().unwrap_or_default();
        let last = params.last().cloned().unwrap_or_default();
        let me = if state.nick.is_empty() {
            "*".to_owned()
        } else {
            state.nick.clone()
        };
        let mut out = Vec::new();
        match command.as_str() {
            "CAP" => out.extend(state.cap(&first, &last, &me)),
            "NICK" if state.registered => {
                out.push(format!(":{me}!bot@{} NICK :{first}", state.host));
                state.nick = first;
            }
            "NICK" => state.nick = first,
            "USER" => {}
            "PONG" => state.pongs += 1,
            "PING" => out.push(format!(":{SERVER} PONG {SERVER} :{last}")),
            "JOIN" => {
                for chan in first.split(',') {
                    out.extend(state.join(chan));
                }
            }
            "PART" => {
                state.joined.remove(&first);
                out.push(format!(":{me}!bot@{} PART {first} :{last}", state.host));
            }
            "WHO" => out.extend(state.who(&first, &last, &me)),
            "QUIT" => {
                out.push(format!("ERROR :Closing link: {last}"));
                state.line = None;
            }
            _ => {}
        }
        if !matches!(command.as_str(), "CAP" | "NICK" | "USER" | "PING" | "PONG" | "WHO") {
            state.heard.push(Heard {
                command: command.clone(),
                target: params.first().cloned().unwrap_or_default(),
                text: last,
            });
        }
        let ends_registration = matches!(command.as_str(), "USER" | "CAP" | "NICK");
        if ends_registration && !state.registered && state.ready(&command, &params) {
            state.registered = true;
            out.extend(state.welcome());
        }
        out
    }
}

impl State {
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
                ":{SERVER} 005 {me} CASEMAPPING=rfc1459 CHANTYPES=# PREFIX=(ov)@+ CHANMODES=b,k,l,imnpst NICKLEN=30 \
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
        let tail = if self.caps.contains("extended-join") {
            " * :bot"
        } else {
            ""
        };
        let mut names = vec![format!("{me}!bot@{}", self.host)];
        names.extend(
            self.members(chan)
                .map(|(nick, person)| format!("{nick}!{nick}@{}", person.shown_host(nick))),
        );
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
                format!(
                    ":{SERVER} 354 {me} {token} {chan} {nick} {} {nick} H {account}",
                    person.shown_host(nick)
                )
            })
            .collect();
        out.push(format!(":{SERVER} 315 {me} {chan} :End of /WHO list."));
        out
    }

    fn members<'a>(&'a self, chan: &'a str) -> impl Iterator<Item = (&'a String, &'a Person)> {
        self.people
            .iter()
            .filter(move |(_, person)| person.channels.contains(chan))
    }
}

impl Person {
    fn shown_host(&self, nick: &str) -> String {
        if self.host.is_empty() {
            format!("{nick}.test")
        } else {
            self.host.clone()
        }
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
    let command = if params.is_empty() {
        String::new()
    } else {
        params.remove(0).to_ascii_uppercase()
    };
    params.extend(tail.map(str::to_owned));
    (command, params)
}
