//! One network: a handle for those above, and the task behind it that stays connected for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use masterchief_contract::{
    Action, Actor, CaseMap, Class as Urgency, Clock, Inlet, Refused, Secret, Shutdown, Stopper,
};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::around::{Around, Fate};
use super::comeback::Comeback;
use super::dial::Dial;
use super::history::History;
use super::limits;
use super::message::compose;
use super::outgoing::{Class, Line, Outgoing};
use super::receipts::{Receipts, ids};
use super::reconnect::{Ways, keep_connected};
use super::settings::{Budget, Channel, Services, Settings};
use super::speak::{Known, Words};
use super::splits::Splits;
use super::state::{Member, State};
use super::sts::Policies;

/// Bytes of names and keys in one JOIN, well under a line.
const JOIN_ROOM: usize = 400;

/// A network. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Network {
    pub(super) inner: Arc<Inner>,
}

/// What the handle and the task share.
pub(super) struct Inner {
    pub(super) name: Arc<str>,
    /// Whoever keeps account of what is said.
    pub(super) around: Arc<dyn Around>,
    shared: Mutex<Shared>,
    /// Something waits to be sent, or the settings changed.
    pub(super) wake: Notify,
    /// A line left the queue.
    pub(super) room: Notify,
    /// Whether somebody has bound `raw` or `rawt`.
    pub(super) raw: AtomicBool,
    /// Whether somebody has bound `hist`.
    pub(super) history: AtomicBool,
    leave: Stopper,
}

/// Everything that changes. The lock is never held over a wait.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) history: History,
    pub(super) splits: Splits,
    /// When which channel may be tried again, by folded name.
    pub(super) comeback: Comeback,
    /// What was asked of nobody twice: channels that were knocked at, by folded name.
    knocked: BTreeSet<String>,
    /// When something was last said in a channel, by the server's clock and folded name. It outlives connections, and is kept.
    pub(super) seen: BTreeMap<String, DateTime<Utc>>,
    pub(super) receipts: Receipts,
    pub(super) outgoing: Outgoing,
    /// The nicks of which the server is to tell whether they are there, by ASCII lower case.
    pub(super) watched: BTreeMap<String, String>,
    /// The channels to be in, by folded name.
    pub(super) wanted: BTreeMap<String, Channel>,
    /// Whether this connection is one with TLS, whatever the settings say by now.
    pub(super) secure: bool,
    /// Until when words and deeds may leave; always without.
    pub(super) acts_until: Option<Instant>,
    /// The words to leave with, once it is time.
    pub(super) farewell: Option<String>,
    pub(super) status: Status,
}

/// How a network is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name in the configuration.
    pub network: String,
    /// Whether the bot is registered there now.
    pub connected: bool,
    /// The server last tried.
    pub server: String,
    /// Why there is no connection, or was none before this one.
    pub trouble: Option<String>,
    /// The bot's nick there.
    pub nick: String,
    /// The account the bot is logged in to.
    pub account: Option<String>,
    /// The capabilities that the server and the bot have agreed on.
    pub caps: Vec<String>,
    /// The channels it is in.
    pub channels: Vec<String>,
    /// Lines that wait to be sent.
    pub queued: usize,
    /// Connections made so far.
    pub connections: u64,
    /// Lines received.
    pub lines_in: u64,
    /// Lines sent.
    pub lines_out: u64,
    /// Lines received that the street had no room for, or that were longer than any server may send.
    pub dropped: u64,
    /// Lines that were queued and then given up, or that the server refused to pass on.
    pub refused: u64,
    /// Milliseconds that the server took for our last PING.
    pub lag_ms: Option<u64>,
    /// Lines that the server says it passed on, where it says so.
    pub confirmed: u64,
}

impl Network {
    /// Starts the task. It runs until [`Network::disconnect`] and gives its events to `inlet`. `policies` is the book of the servers
    /// that demand TLS, shared by all networks; `around` keeps account of what is said.
    pub fn start(
        name: &str,
        settings: Settings,
        dial: Arc<dyn Dial>,
        inlet: Inlet,
        clock: Clock,
        policies: Policies,
        around: Arc<dyn Around>,
    ) -> (Network, JoinHandle<()>) {
        let (leave, leaving) = Shutdown::new();
        let network = Network { inner: Arc::new(Inner::new(name, settings, leave, around)) };
        let ways = Ways { dial, inlet, clock, policies };
        let task = tokio::spawn(keep_connected(Arc::clone(&network.inner), ways, leaving));
        (network, task)
    }

    /// Does an action. Ready once all of it is queued; it waits while the queue is full.
    pub async fn perform(&self, action: Action) -> Result<(), Refused> {
        let mark = action.mark();
        let (tags, action) = action.untagged();
        match action {
            Action::Say { target, text, how, reply, .. } => {
                let class = mark.class.unwrap_or(if reply { Urgency::Reply } else { Urgency::Chatter });
                let now = tokio::time::Instant::now();
                let (until, worth) = (mark.expires.map(|time| now + time), Some(now + class.worth()));
                self.say(&Words { target: &target, text: &text, how, tags: &tags, class, until, worth, first: 0 }).await
            }
            Action::Join { channel, key, .. } => self.join(&channel, key),
            Action::Part { channel, reason, .. } => self.part(&channel, &reason),
            Action::Send { command, params, .. } => self.send(&command, &params, &tags, Known::default()).await,
            Action::Tagged { .. } | Action::Marked { .. } | Action::Answer { .. } => {
                Err(Refused::new("an IRC network posts no webhooks"))
            }
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The bot's nick there; the configured one while not connected.
    pub fn nick(&self) -> String {
        let shared = self.inner.lock();
        if shared.state.nick.is_empty() { shared.settings.nick.clone() } else { shared.state.nick.clone() }
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let shared = self.inner.lock();
        Status {
            network: self.inner.name.to_string(),
            nick: shared.state.nick.clone(),
            channels: shared.state.channels(),
            queued: shared.outgoing.len(),
            ..shared.status.clone()
        }
    }

    /// How much a channel is told there.
    pub fn budget(&self) -> Budget {
        self.inner.lock().settings.budget
    }

    /// The channels the bot is in.
    pub fn channels(&self) -> Vec<String> {
        self.inner.lock().state.channels()
    }

    /// Whether the bot is an operator in a channel.
    pub fn is_operator(&self, channel: &str) -> bool {
        self.inner.lock().state.is_operator(channel)
    }

    /// The members of a channel the bot is in.
    pub fn members(&self, channel: &str) -> Vec<Member> {
        self.inner.lock().state.members(channel)
    }

    /// The topic and the modes (`+nt`) of a channel the bot is in.
    pub fn channel(&self, channel: &str) -> Option<(String, String)> {
        let shared = self.inner.lock();
        shared.state.channel(channel).map(|channel| (channel.topic.clone(), channel.modes()))
    }

    /// Who somebody whom the bot sees is at this moment: nobody if they are gone. See [`masterchief_contract::Event::actor_now`].
    pub fn now(&self, then: &Actor) -> Option<Actor> {
        self.inner.lock().state.now(then)
    }

    /// Whether channels there have a list of this mode's letter, such as `e` for who no ban keeps out.
    pub fn is_list(&self, letter: char) -> bool {
        self.inner.lock().state.isupport.is_list(letter)
    }

    /// How names are compared there.
    pub fn casemap(&self) -> CaseMap {
        self.inner.lock().state.casemap()
    }

    /// Whether events of kind `raw` and `rawt` are made. Without a bind for them they would be made for nobody.
    pub fn want_raw(&self, wanted: bool) {
        self.inner.raw.store(wanted, Ordering::Relaxed);
    }

    /// Whether the server is asked for what was said while we were away. Without a bind of kind `hist` nobody would hear it.
    pub fn want_history(&self, wanted: bool) {
        self.inner.history.store(wanted, Ordering::Relaxed);
    }

    /// New settings. Channels, nick, pace and patience change at once; the server, its password and the login are
    /// used by the next connection, so that this one is not dropped.
    pub fn reconfigure(&self, settings: Settings) {
        {
            let mut shared = self.inner.lock();
            let shared = &mut *shared;
            shared.outgoing.set_pace(settings.pace.pace());
            let old = shared.wanted_of(&shared.settings.channels.clone());
            let new = shared.wanted_of(&settings.channels);
            for (key, channel) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
                if shared.wanted.remove(key).is_some() {
                    self.inner.leave(shared, &channel.name, "no longer configured");
                }
            }
            for channel in new.values() {
                if !shared.state.is_in(&channel.name) {
                    shared.outgoing.hold(&queue_key(&channel.name));
                    shared.join(channel);
                }
            }
            shared.wanted.extend(new);
            shared.settings = settings;
        }
        self.inner.room.notify_waiters();
        self.inner.wake.notify_one();
    }

    /// Words, and commands that do something to others, never leave after that: another bot acts there from then on.
    pub fn act_until(&self, until: Instant) {
        self.inner.lock().acts_until = Some(until);
    }

    /// A change of what the server says about itself (005) is taken back, as an event of kind `isupport` told it.
    pub fn take_back(&self, token: &str, change: Option<&str>, was: Option<&str>) {
        let mut shared = self.inner.lock();
        if shared.state.take_back(token, change, was) {
            shared.refold();
        }
    }

    /// Sends what is queued for at most two seconds, says goodbye and ends the task.
    pub fn disconnect(&self, reason: &str) {
        self.inner.lock().farewell = Some(reason.to_owned());
        self.inner.leave.stop();
        // Who waits for room waits in vain now, and should hear of it.
        self.inner.room.notify_waiters();
    }

    pub(super) async fn queue(&self, class: Class, key: &str, lines: Vec<Line>) -> Result<(), Refused> {
        let mut lines = lines.into_iter();
        let mut held_back = None;
        loop {
            let room = self.inner.room.notified();
            tokio::pin!(room);
            // Listening before looking, so that no room is missed.
            room.as_mut().enable();
            {
                let mut shared = self.inner.lock();
                if shared.farewell.is_some() {
                    return Err(Refused::new("the bot is going down"));
                }
                loop {
                    let Some(line) = held_back.take().or_else(|| lines.next()) else {
                        drop(shared);
                        self.inner.wake.notify_one();
                        return Ok(());
                    };
                    if let Err(full) = shared.outgoing.push(class, key, line) {
                        held_back = Some(full.0);
                        break;
                    }
                }
            }
            self.inner.wake.notify_one();
            room.await;
        }
    }

    fn join(&self, channel: &str, key: Option<String>) -> Result<(), Refused> {
        {
            let mut shared = self.inner.lock();
            let key = key.map(Secret::new);
            let channel = Channel { name: channel.to_owned(), key };
            let probe = Settings { channels: vec![channel.clone()], ..Settings::new(Vec::new()) };
            if let Some((_, fault)) = probe.faults().into_iter().find(|(key, _)| *key == "channels") {
                return Err(Refused::new(fault));
            }
            let folded = shared.state.fold(&channel.name);
            if !shared.state.is_in(&channel.name) {
                if let Some(why) = limits::no_room(&shared.state.isupport, &channel.name, &shared.state.channels()) {
                    return Err(Refused::new(why));
                }
                shared.outgoing.hold(&queue_key(&channel.name));
                shared.join(&channel);
            }
            shared.wanted.insert(folded, channel);
        }
        self.inner.wake.notify_one();
        Ok(())
    }

    fn part(&self, channel: &str, reason: &str) -> Result<(), Refused> {
        {
            let mut shared = self.inner.lock();
            let key = shared.state.fold(channel);
            shared.wanted.remove(&key);
            self.inner.leave(&mut shared, channel, reason);
        }
        self.inner.room.notify_waiters();
        self.inner.wake.notify_one();
        Ok(())
    }
}

impl Inner {
    pub(super) fn new(name: &str, settings: Settings, leave: Stopper, around: Arc<dyn Around>) -> Inner {
        let mut shared = Shared {
            state: State::default(),
            history: History::default(),
            splits: Splits::default(),
            comeback: Comeback::default(),
            knocked: BTreeSet::new(),
            seen: around.seen(name),
            receipts: Receipts::default(),
            watched: BTreeMap::new(),
            outgoing: Outgoing::new(settings.pace.pace()),
            wanted: BTreeMap::new(),
            secure: false,
            acts_until: None,
            farewell: None,
            status: Status::default(),
            settings,
        };
        shared.wanted = shared.wanted_of(&shared.settings.channels);
        for channel in shared.wanted.values() {
            shared.outgoing.hold(&queue_key(&channel.name));
        }
        Inner {
            name: Arc::from(name),
            around,
            shared: Mutex::new(shared),
            wake: Notify::new(),
            room: Notify::new(),
            raw: AtomicBool::new(false),
            history: AtomicBool::new(false),
            leave,
        }
    }

    /// The shared part. A panic of another holder leaves it as whole as any line does.
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a channel, if we are in it, and gives up what was to be said there.
    fn leave(&self, shared: &mut Shared, channel: &str, reason: &str) {
        const WHY: &str = "the bot is told to leave";
        let key = queue_key(channel);
        let dropped = shared.outgoing.forget(&key);
        shared.outgoing.release(&key);
        shared.gave_up(dropped.len(), channel, WHY);
        for id in dropped.iter().flat_map(ids) {
            self.around.fate(id, Fate::Failed { code: String::new(), reason: WHY.to_owned() });
        }
        if shared.state.is_in(channel) {
            let reason = reason.replace(['\r', '\n', '\0'], " ");
            shared.command("PART", &[channel, &self.around.hide(&reason)]);
        }
    }
}

impl Shared {
    /// Channels by folded name.
    fn wanted_of(&self, channels: &[Channel]) -> BTreeMap<String, Channel> {
        channels.iter().map(|channel| (self.state.fold(&channel.name), channel.clone())).collect()
    }

    /// The names anew, after the server changed its casemapping.
    pub(super) fn refold(&mut self) {
        let channels: Vec<_> = self.wanted.values().cloned().collect();
        self.wanted = self.wanted_of(&channels);
        let casemap = self.state.casemap();
        self.comeback.refold(|chan| casemap.fold(chan));
        let seen = std::mem::take(&mut self.seen);
        self.seen = seen.into_iter().map(|(chan, at)| (casemap.fold(&chan), at)).collect();
    }

    /// The password for services, if it can be said on this connection and to nobody else.
    pub(super) fn sayable<'a>(&self, services: &'a Services) -> Option<&'a Secret> {
        services.sayable().filter(|_| self.secure)
    }

    /// Whether a channel was not knocked at yet.
    pub(super) fn comeback_once(&mut self, chan: &str) -> bool {
        self.knocked.insert(chan.to_owned())
    }

    /// Queues a command of our own; dropped when the queue is full, as commands of a dead connection would be.
    pub(super) fn command(&mut self, command: &str, params: &[&str]) {
        match compose(&[], command, params) {
            Ok(line) if self.status.connected => {
                if self.outgoing.push(Class::Command, "", Line::own(line)).is_err() {
                    tracing::warn!(command, "No room for a command");
                }
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(command, %fault, "A command cannot be composed"),
        }
    }

    /// Queues JOINs for these channels, as few as there can be: every line costs. Those with a key come first, because
    /// keys are counted off from the first.
    pub(super) fn join_all(&mut self, channels: &[Channel]) {
        let (keyed, open): (Vec<_>, Vec<_>) = channels.iter().partition(|channel| channel.key.is_some());
        let (mut names, mut keys) = (String::new(), String::new());
        for channel in keyed.into_iter().chain(open) {
            let key = channel.key.as_ref().map_or("", |key| key.reveal());
            let long = names.len() + keys.len() + channel.name.len() + key.len() > JOIN_ROOM;
            let many = names.split(',').count() >= self.state.isupport.targmax("JOIN");
            if !names.is_empty() && (long || many) {
                self.join_line(&std::mem::take(&mut names), &std::mem::take(&mut keys));
            }
            for (list, item) in [(&mut names, channel.name.as_str()), (&mut keys, key)] {
                if !list.is_empty() && !item.is_empty() {
                    list.push(',');
                }
                list.push_str(item);
            }
        }
        if !names.is_empty() {
            self.join_line(&names, &keys);
        }
    }

    fn join_line(&mut self, names: &str, keys: &str) {
        if keys.is_empty() { self.command("JOIN", &[names]) } else { self.command("JOIN", &[names, keys]) }
    }

    /// Queues a JOIN for one channel.
    pub(super) fn join(&mut self, channel: &Channel) {
        self.join_all(std::slice::from_ref(channel));
    }

    /// Counts lines that will never be sent, visibly.
    pub(super) fn gave_up(&mut self, lines: usize, target: &str, reason: &str) {
        if lines > 0 {
            self.status.refused += lines as u64;
            tracing::warn!(lines, target, reason, "Queued lines are given up");
        }
    }
}

/// Under which name words wait. Folded by ASCII only, which no server's casemapping changes.
pub(super) fn queue_key(target: &str) -> String {
    target.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use masterchief_contract::{Future, How, Kind, Outlets, inlet};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, split};
    use tokio::sync::mpsc;

    use super::*;
    use crate::irc::around::Nobody;
    use crate::irc::dial::{DialFault, Stream};
    use crate::irc::settings::{PaceSettings, ServerAddr, Tls, Via};

    const SECOND: Duration = Duration::from_secs(1);

    /// Hands our end of each connection to the test, with the server that was dialled. So many bytes are on their way at once.
    struct ToTest(mpsc::Sender<(String, DuplexStream)>, usize);

    impl Dial for ToTest {
        fn dial(&self, server: &ServerAddr, _tls: &Tls, _via: &Via) -> Future<Result<Stream, DialFault>> {
            let (ours, theirs) = tokio::io::duplex(self.1);
            let refused = DialFault::Connect(server.to_string(), std::io::ErrorKind::ConnectionRefused.into());
            let taken = server.host != "refuses" && self.0.try_send((server.host.clone(), theirs)).is_ok();
            Box::pin(std::future::ready(if taken { Ok(Box::new(ours) as Stream) } else { Err(refused) }))
        }
    }

    /// The server's end, played by the test.
    struct Server {
        name: String,
        read: Lines<BufReader<ReadHalf<DuplexStream>>>,
        write: WriteHalf<DuplexStream>,
    }

    impl Server {
        async fn says(&mut self, lines: &[&str]) {
            for line in lines {
                self.write.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            }
        }

        /// The next line, if one comes within this time.
        async fn within(&mut self, time: Duration) -> Option<String> {
            tokio::time::timeout(time, self.read.next_line()).await.ok()?.ok()?
        }

        /// Reads until this line comes; gives those before it.
        async fn hears(&mut self, wanted: &str) -> Vec<String> {
            let mut before = Vec::new();
            loop {
                match self.within(100 * SECOND).await {
                    Some(line) if line == wanted => return before,
                    Some(line) => before.push(line),
                    None => panic!("waited for {wanted:?} in vain; heard {before:?}"),
                }
            }
        }

        /// Takes the client in, with the capabilities that history needs.
        async fn welcomes(&mut self) {
            self.hears("USER chief 0 * MasterChief").await;
            self.says(&[":s CAP * LS :batch server-time message-tags"]).await;
            self.hears("CAP REQ :batch message-tags server-time").await;
            self.says(&[":s CAP * ACK :batch message-tags server-time"]).await;
            self.hears("CAP END").await;
            self.says(&["@time=2026-03-02T12:00:00.000Z :s 001 chief :Welcome chief!c@host", ":s 422 chief :No MOTD"])
                .await;
        }
    }

    struct World {
        network: Network,
        task: JoinHandle<()>,
        dialled: mpsc::Receiver<(String, DuplexStream)>,
        out: Outlets,
    }

    impl World {
        fn new(servers: &[&str]) -> World {
            World::of(servers, Tls::off(), Clock::system(), Policies::memory())
        }

        fn of(servers: &[&str], tls: Tls, clock: Clock, policies: Policies) -> World {
            World::narrow(servers, tls, clock, policies, 1 << 16)
        }

        fn narrow(servers: &[&str], tls: Tls, clock: Clock, policies: Policies, bytes: usize) -> World {
            let (to, dialled) = mpsc::channel(4);
            let (inlet, out) = inlet(16);
            let servers = servers.iter().map(|name| ServerAddr::new(name, 6667));
            let settings = Settings {
                tls,
                channels: vec![Channel { name: "#ops".to_owned(), key: None }],
                pace: PaceSettings { burst: 1, interval: Duration::ZERO },
                ..Settings::new(servers.collect())
            };
            let (network, task) =
                Network::start("net", settings, Arc::new(ToTest(to, bytes)), inlet, clock, policies, Arc::new(Nobody));
            World { network, task, dialled, out }
        }

        async fn server(&mut self) -> Server {
            let (name, stream) = self.dialled.recv().await.unwrap();
            let (read, write) = split(stream);
            Server { name, read: BufReader::new(read).lines(), write }
        }

        /// What was said to the street so far, the connection's own news left out.
        async fn told(&mut self) -> Vec<String> {
            tokio::time::sleep(SECOND / 10).await;
            let mut out = Vec::new();
            while let Ok(parcel) = self.out.try_recv() {
                let events = parcel.events.iter().filter(|event| event.kind() != Kind::Evnt);
                out.extend(events.map(|event| format!("{} {}", event.kind(), event.text())));
            }
            out
        }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_are_tried_in_order_for_ever_with_a_growing_pause() {
        let mut world = World::new(&["refuses", "one", "two"]);
        let mut names = Vec::new();
        for _ in 0..6 {
            let mut server = world.server().await;
            server.says(&["ERROR :Closing link: too many"]).await;
            names.push(server.name);
        }
        assert_eq!(names, ["one", "two", "one", "two", "one", "two"]);
        assert!(world.network.status().trouble.unwrap().contains("too many"));
        world.network.disconnect("");
        world.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_slow_about_capabilities_or_never_done_does_not_hang_us() {
        let mut world = World::new(&["slow"]);
        let mut server = world.server().await;
        let start = Instant::now();
        server.hears("CAP END").await;
        assert_eq!(start.elapsed().as_secs(), 15);
        // And then it is silent: another connection is tried.
        let mut again = world.server().await;
        assert!(world.network.status().trouble.unwrap().contains("did not finish"));
        again.says(&["PING :early"]).await;
        again.hears("PONG early").await;
        again.says(&[":s 465 chief :You are banned"]).await;
        world.server().await;
        assert!(world.network.status().trouble.unwrap().contains("465"));
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_server_demands_tls_is_on_the_disk_as_of_the_last_hour_whenever_the_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sts.json");
        let begun = chrono::DateTime::UNIX_EPOCH;
        let mut world = World::of(&["one"], Tls::default(), Clock::starting(begun), Policies::open(&path).unwrap());
        let mut server = world.server().await;
        server.hears("USER chief 0 * MasterChief").await;
        server.says(&[":s CAP * LS :sts=duration=7200"]).await;
        server.hears("CAP END").await;
        server.says(&[":s 001 chief :Welcome chief!c@host", ":s 422 chief :No MOTD"]).await;
        let start = Instant::now();
        while start.elapsed() < 5 * 3600 * SECOND {
            if server.within(60 * SECOND).await.is_some_and(|line| line.starts_with("PING")) {
                server.says(&[":s PONG s masterchief"]).await;
            }
        }
        // It is told nothing, and tells nobody. What it has begun to write takes real time.
        world.task.abort();
        tokio::time::resume();
        let demanded = |hours: i64| {
            let kept = Policies::open(&path).unwrap();
            kept.apply(&ServerAddr::new("one", 6667), &Tls::off(), begun + chrono::TimeDelta::hours(hours)).1.enabled
        };
        let end = std::time::Instant::now() + 10 * SECOND;
        while !demanded(6) {
            assert!(std::time::Instant::now() < end, "two hours count from when it was first said");
            tokio::time::sleep(SECOND / 50).await;
        }
        assert!(!demanded(8));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_asked_and_then_left() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("PING masterchief").await;
        tokio::time::sleep(SECOND / 4).await;
        server.says(&[":s PONG s masterchief"]).await;
        server.hears("PING masterchief").await;
        assert_eq!(world.network.status().lag_ms, Some(250));
        assert!(world.network.status().connected);
        let second = world.server().await;
        assert!(!world.network.status().connected);
        assert!(world.network.status().trouble.unwrap().contains("silent for 90 s"));
        drop(second);
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn channels_are_joined_once_after_each_welcome_and_words_wait_for_it() {
        let mut world = World::new(&["one"]);
        let say = |text: &str| {
            let (network, target) = (String::new(), "#ops".to_owned());
            Action::Say { network, target, text: text.to_owned(), how: How::Say, reply: false }
        };
        world.network.perform(say("early")).await.unwrap();
        for round in 0..2 {
            let mut server = world.server().await;
            server.welcomes().await;
            server.hears("JOIN #ops").await;
            assert_eq!(server.within(SECOND).await, None, "words wait until we are in");
            server.says(&[":chief!c@host JOIN #ops"]).await;
            if round == 0 {
                server.hears("PRIVMSG #ops :early").await;
            }
            world.network.perform(say("now")).await.unwrap();
            assert_eq!(
                server.within(SECOND).await.as_deref(),
                Some("PRIVMSG #ops :now"),
                "nothing else, no second JOIN"
            );
        }
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_from_before_our_join_or_out_of_a_history_is_no_command() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        server
            .says(&[
                "@time=2026-03-02T12:00:05.000Z :chief!c@host JOIN #ops",
                "@time=2026-03-02T12:00:04.999Z :alice!a@h PRIVMSG #ops :!deploy old",
                "BATCH +1 chathistory #ops",
                "@batch=1;time=2026-03-02T12:00:09.000Z :alice!a@h PRIVMSG #ops :!deploy batch",
                "BATCH -1",
                "@time=2026-03-02T11:59:59.000Z :alice!a@h PRIVMSG chief :!deploy missed",
                "@time=2026-03-02T12:00:06.000Z;msgid=7 :alice!a@h PRIVMSG #ops :!deploy live",
                "@time=2026-03-02T12:00:06.000Z;msgid=7 :alice!a@h PRIVMSG #ops :!deploy live",
            ])
            .await;
        let hist = ["hist !deploy old", "hist !deploy batch"];
        let told = ["join ", hist[0], hist[1], "hist !deploy missed", "pubm !deploy live"];
        assert_eq!(world.told().await, told);
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_street_that_is_full_costs_counted_lines_and_no_pong() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        world.told().await;
        for n in 0..22 {
            server.says(&[&format!(":alice!a@h PRIVMSG chief :{n}")]).await;
        }
        server.says(&["PING :still"]).await;
        server.hears("PONG still").await;
        assert_eq!(world.network.status().dropped, 6);
        assert_eq!(world.told().await.len(), 16);
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_in_small_letters_is_the_same_command() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        server.says(&[":chief!c@host join #ops", "@time=x :alice!a@h PrivMsg #ops :!deploy Web", "ping :Case"]).await;
        server.hears("PONG Case").await;
        assert_eq!(world.told().await, ["join ", "pubm !deploy Web"]);
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn modes_that_wait_leave_together_and_texts_are_cut_to_what_the_server_says() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        server.says(&[":s 005 chief MODES=4 TOPICLEN=5 CHANLIMIT=#:1 CLIENTTAGDENY=*,-reply :x"]).await;
        server.says(&[":chief!c@host JOIN #ops", "PING :in"]).await;
        server.hears("PONG in").await;
        let network = world.network.clone();
        let send = async |command: &str, params: &[&str]| {
            let params = params.iter().map(|param| (*param).to_owned()).collect();
            network
                .perform(Action::Send { network: String::new(), command: command.to_owned(), params })
                .await
                .unwrap();
        };
        let slow = PaceSettings { burst: 1, interval: SECOND };
        let mut settings = network.inner.lock().settings.clone();
        settings.pace = slow;
        network.reconfigure(settings);
        send("MODE", &["#ops", "+o", "a"]).await;
        for nick in ["b", "c", "d", "e", "f"] {
            send("MODE", &["#ops", "+v", nick]).await;
        }
        send("TOPIC", &["#ops", "all is well"]).await;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.starts_with("TOPIC")) {
            heard.push(server.within(5 * SECOND).await.unwrap());
        }
        assert_eq!(heard, ["MODE #ops +ovvv a b c d", "MODE #ops +vv e f", "TOPIC #ops :all i"]);
        let (channel, key) = ("#dev".to_owned(), None);
        let full = network.perform(Action::Join { network: String::new(), channel, key }).await.unwrap_err();
        assert!(full.message.contains("allows 1"), "{full}");
        let said = |tags: &[&str]| Action::Tagged {
            tags: tags.iter().map(|tag| ((*tag).to_owned(), "7".to_owned())).collect(),
            action: Box::new(Action::Say {
                network: String::new(),
                target: "#ops".to_owned(),
                text: "hi".to_owned(),
                how: How::Say,
                reply: true,
            }),
        };
        network.perform(said(&["+reply", "+draft/reply"])).await.unwrap();
        assert_eq!(server.within(5 * SECOND).await.unwrap(), "@+reply=7 PRIVMSG #ops :hi");
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_sent_is_refused_with_a_reason() {
        let mut world = World::new(&["one"]);
        let network = world.network.clone();
        let refused = async |action| network.perform(action).await.unwrap_err().message;
        let send = |command: &str, param: &str| {
            let (network, command) = (String::new(), command.to_owned());
            Action::Send { network, command, params: vec![param.to_owned()] }
        };
        assert!(refused(send("TOPIC", "x")).await.contains("not connected"));
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        assert!(refused(send("TOPIC", "x\r\nQUIT")).await.contains("line break"));
        assert!(refused(send("TOPIC", &"x".repeat(600))).await.contains("takes 512"));
        let say = |target: &str| {
            let (network, target, text) = (String::new(), target.to_owned(), "x\r\nQUIT :y\u{1}".to_owned());
            Action::Say { network, target, text, how: How::Say, reply: false }
        };
        assert!(refused(say("#a,#b")).await.contains("not a channel"));
        network.perform(say("alice")).await.unwrap();
        server.hears("PRIVMSG alice :x").await;
        server.hears("PRIVMSG alice :QUIT :y").await;
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn words_for_a_person_wait_until_we_are_registered() {
        let mut world = World::new(&["one"]);
        let (target, text) = ("alice".to_owned(), "early".to_owned());
        let say = Action::Say { network: String::new(), target, text, how: How::Say, reply: false };
        world.network.perform(say).await.unwrap();
        let mut server = world.server().await;
        let before = server.hears("USER chief 0 * MasterChief").await;
        assert_eq!(before, ["CAP LS 302", "NICK chief"]);
        assert_eq!(server.within(SECOND).await, None);
        server.says(&[":s CAP * LS :", ":s 001 chief :hi", ":s 422 chief :No MOTD"]).await;
        server.hears("PRIVMSG alice :early").await;
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_of_which_a_part_was_written_is_not_said_twice_and_what_waits_behind_it_is_said_once() {
        let mut world = World::narrow(&["one"], Tls::off(), Clock::system(), Policies::memory(), 64);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        server.says(&[":chief!c@host JOIN #ops"]).await;
        for words in ["first ".repeat(40), "second".to_owned()] {
            let say =
                Action::Say { network: "net".into(), target: "#ops".into(), text: words, how: How::Say, reply: false };
            world.network.perform(say).await.unwrap();
        }
        tokio::time::sleep(SECOND).await;
        // A part of it is on its way, nobody reads it, and the connection dies.
        drop(server);
        let mut server = world.server().await;
        server.welcomes().await;
        server.hears("JOIN #ops").await;
        server.says(&[":chief!c@host JOIN #ops"]).await;
        let before = server.hears("PRIVMSG #ops :second").await;
        assert!(!before.iter().any(|line| line.contains("first")), "{before:?}");
        world.network.disconnect("");
        while let Some(line) = server.within(SECOND).await {
            assert!(!line.contains("PRIVMSG"), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_nick_in_use_is_watched_and_taken_when_the_server_says_it_is_free() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.hears("NICK chief").await;
        server.says(&[":s 433 * chief :Nickname is already in use"]).await;
        server.hears("NICK chief1").await;
        server.says(&[":s CAP * LS :", ":s 001 chief1 :hi", ":s 005 chief1 MONITOR=30 :x", ":s 376 chief1 :End"]).await;
        server.hears("MONITOR + chief").await;
        server.says(&[":s 731 chief1 :chief"]).await;
        server.hears("NICK chief").await;
        server.says(&[":chief1!c@host NICK chief"]).await;
        server.hears("MONITOR - chief").await;
        assert_eq!(world.network.nick(), "chief");
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn channels_are_joined_in_few_lines_those_with_a_key_first() {
        let mut world = World::new(&["one"]);
        let channel = |name: String, key: Option<&str>| Channel { name, key: key.map(Secret::new) };
        let mut settings = world.network.inner.lock().settings.clone();
        settings.channels = (0..30).map(|n| channel(format!("#channel-number-{n:02}"), None)).collect();
        settings.channels.push(channel("#secret".to_owned(), Some("sesame")));
        world.network.reconfigure(settings);
        let mut server = world.server().await;
        server.welcomes().await;
        let first = server.within(SECOND).await.unwrap();
        assert!(first.starts_with("JOIN #secret,#channel-number-00,") && first.ends_with(" sesame"), "{first}");
        let second = server.within(SECOND).await.unwrap();
        assert!(second.starts_with("JOIN #channel-number-") && second.ends_with("-29"), "{second}");
        assert_eq!(server.within(SECOND).await, None);
        world.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn goodbye_comes_after_what_is_queued() {
        let mut world = World::new(&["one"]);
        let mut server = world.server().await;
        server.welcomes().await;
        let (target, text) = ("alice".to_owned(), "last words".to_owned());
        let say = Action::Say { network: String::new(), target, text, how: How::Say, reply: true };
        world.network.perform(say).await.unwrap();
        world.network.disconnect("until tomorrow");
        server.hears("PRIVMSG alice :last words").await;
        server.hears("QUIT :until tomorrow").await;
        drop(server);
        world.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_killed_waits_a_minute_who_was_banned_five_and_who_came_too_often_half_of_one() {
        for (says, least, most) in [
            (":oper!o@h KILL chief :go away", 60, 62),
            ("ERROR :Closing link: (c@host) [G-Lined: spam]", 150, 300),
            ("ERROR :Closing Link: host (Trying to reconnect too fast.)", 30, 32),
            ("ERROR :Closing link: (c@host) [Your host is throttled]", 30, 32),
            ("ERROR :Closing link: (c@host) [Quit]", 0, 2),
        ] {
            let mut world = World::new(&["one"]);
            let mut server = world.server().await;
            server.welcomes().await;
            let start = Instant::now();
            server.says(&[says]).await;
            drop(server);
            world.server().await;
            let took = start.elapsed().as_secs();
            assert!((least..=most).contains(&took), "{says}: {took} s");
            world.task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_refuses_us_is_tried_again_at_its_own_pace() {
        for (numeric, seconds) in [("437", 6), ("471", 60), ("474", 120), ("520", 600)] {
            let mut world = World::new(&["one"]);
            let mut server = world.server().await;
            server.welcomes().await;
            server.hears("JOIN #ops").await;
            let start = Instant::now();
            server.says(&[&format!(":s {numeric} chief #ops :Cannot join")]).await;
            loop {
                let line = server.within(1000 * SECOND).await.unwrap();
                if line == "PING masterchief" {
                    server.says(&[":s PONG s masterchief"]).await;
                } else if line == "JOIN #ops" {
                    break;
                }
            }
            let took = start.elapsed().as_secs();
            assert!((seconds..seconds + 31).contains(&took), "{numeric}: {took} s");
            world.task.abort();
        }
    }
}
