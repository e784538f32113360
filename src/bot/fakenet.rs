//! A network for tests: a small IRC server in memory that the bot really connects to, and its people.
//!
//! It speaks enough IRCv3 to a single client (the bot) that the whole inbound and outbound path is the real one.
//! Time is the caller's, so under tokio's paused clock a minute costs nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use masterchief_contract::{Clock, Future};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, watch};

use super::fakeserver::{SERVER, State};
use crate::irc::{Channel, Dial, DialFault, PaceSettings, ServerAddr, Settings, Stream, Tls, Via};

/// Lines on their way to the bot before a test that sends more has to wait for it.
const WIRE_DEPTH: usize = 4096;
/// Bytes in flight in each direction.
const WIRE_BYTES: usize = 1 << 16;

/// Connects to a [`FakeNet`] whatever the server's name.
pub(crate) struct FakeDial(pub(crate) FakeNet);

impl Dial for FakeDial {
    fn dial(&self, server: &ServerAddr, _tls: &Tls, _via: &Via) -> Future<Result<Stream, DialFault>> {
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

/// The network. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct FakeNet {
    state: Arc<Mutex<State>>,
    clock: Clock,
    changed: watch::Sender<u64>,
}

impl FakeNet {
    /// An empty network whose times are told by `clock`.
    pub fn new(clock: Clock) -> FakeNet {
        let state = State::new();
        FakeNet { state: Arc::new(Mutex::new(state)), clock, changed: watch::Sender::new(0) }
    }

    /// The settings of a bot on this network, in one channel, with no limit on its pace.
    pub(crate) fn settings(channel: &str) -> Settings {
        let server = ServerAddr::new(SERVER, 6667);
        Settings {
            tls: Tls::off(),
            channels: vec![Channel { name: channel.to_owned(), key: None }],
            pace: PaceSettings { burst: 1, interval: Duration::ZERO },
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

    /// The id of the last line of a person.
    pub fn last_id(&self) -> String {
        format!("fake{}", self.lock().messages)
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
        let tail = if extended { format!(" {} :{nick}", account.as_deref().unwrap_or("*")) } else { String::new() };
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
            let host = if person.host.is_empty() { format!("{nick}.test") } else { person.host.clone() };
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
            let tags = if tags.is_empty() { String::new() } else { format!("@{} ", tags.join(";")) };
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
        self.wait_for(within, |state| state.joined.contains(chan).then_some(())).await.is_some()
    }

    /// Waits for something the bot sent after line number `after` that `wanted` accepts; gives its number.
    pub async fn hear(&self, after: usize, within: Duration, wanted: impl Fn(&Heard) -> bool) -> Option<usize> {
        self.wait_for(within, |state| (after..state.heard.len()).find(|at| wanted(&state.heard[*at]))).await
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
                    let answers = self.lock().answer(line.trim_end_matches('\r'));
                    for answer in answers {
                        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    self.changed.send_modify(|n| *n += 1);
                }
            }
        }
    }
}
