//! What the rest of the house has of the mesh: a handle to ask through, a view of what is, and news of what happens.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Clock, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::House;
use super::book::{Bot, Member};
use super::calls::{self, Taking};
use super::connection::{Connection, LinkFault};
use super::dialer::Dialer;
use super::hub::{Ask, Change, Hub, Lines};
use super::leads::Leads;
use super::name::{Address, BotName, Word};
use super::net::{Net, Peer, SendFault};
use super::news::{Local, News, Question};
use super::pending::{CallFault, Pending};
use super::records::{BotSettings, Record, RecordFault, Records};
use super::settings::Settings;
use super::threads::{Asker, Threads};
use super::tls::{Tls, TlsFault};
use crate::irc::{Fingerprint, Stream};
use crate::store::{Store, StoreError};

/// How commands begin that are the house's own and no script's.
const OWN: &str = "mc:";
/// The command of a call that has a person's words done.
pub const RUN: &str = "mc:run";
/// The command of a call that tells somebody more whose words were done.
pub const SAID: &str = "mc:said";
/// The command of a call about the lease of a group.
pub const LEASE: &str = "mc:lease";
/// The command of a call that tells of an event.
pub const EVENT: &str = "mc:event";
/// The command of a call about the work of a stage.
pub const WORK: &str = "mc:work";
/// The command of a call about people.
pub const SHARE: &str = "mc:share";
/// The command of a call that asks for help in a channel.
pub const NEED: &str = "mc:need";
/// The command of a call about the incident log.
pub const LOG: &str = "mc:log";
/// Things that wait for the hub; links and callers wait while it is full, which is the back-pressure.
const ASKS: usize = 1024;
/// News that wait for a listener; one that is further behind is told how many it missed.
const NEWS: usize = 4096;

/// The mesh. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Mesh {
    me: BotName,
    to: mpsc::Sender<Ask>,
    news: broadcast::Sender<Arc<News>>,
    view: Arc<ArcSwap<View>>,
    taking: Taking,
    ports: [Option<SocketAddr>; 2],
    leads: Leads,
    threads: Threads,
}

/// What is, at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All bots but us.
    pub bots: Vec<Bot>,
    /// The people on other bots' partylines.
    pub members: Vec<Member>,
    /// Our own links.
    pub links: Vec<LinkView>,
    /// What is known of bots, linked or not. Passwords print as `***`.
    pub records: Vec<Record>,
}

impl View {
    /// Whether a bot is the one it says: it is linked with us, or all between are trusted.
    pub fn is_proven(&self, name: &BotName) -> bool {
        let row = |name: &BotName| self.bots.iter().find(|bot| bot.name == *name);
        let trusts = |name: &BotName| {
            self.records.iter().any(|record| record.name == *name && record.settings.attrs().trust.is_any())
        };
        let Some(mut bot) = row(name) else { return false };
        // The uplink of a bot that is linked with us is we, of whom there is no row. A tree has no longer way than its bots are many.
        for _ in 0..self.bots.len() {
            let Some(uplink) = row(&bot.uplink) else { return true };
            if !trusts(&uplink.name) {
                return false;
            }
            bot = uplink;
        }
        false
    }
}

impl View {
    /// The bot whose record names an account of a network that is this one.
    pub fn bot_at(&self, network: &str, is: impl Fn(&str) -> bool) -> Option<&BotName> {
        let has = |record: &&Record| record.settings.accounts_on(network).any(&is);
        self.records.iter().find(has).map(|record| &record.name)
    }

    /// The link of ours that leads to a bot.
    pub fn way_to(&self, name: &BotName) -> Option<&LinkView> {
        let mut bot = self.bots.iter().find(|bot| bot.name == *name)?;
        // As above.
        for _ in 0..self.bots.len() {
            match self.bots.iter().find(|other| other.name == bot.uplink) {
                Some(uplink) => bot = uplink,
                None => break,
            }
        }
        self.links.iter().find(|link| link.peer.bot == bot.name)
    }
}

/// One link of ours.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// With whom, since when.
    pub peer: Peer,
    /// Lines of talk that were left out because it was behind.
    pub dropped: u64,
}

/// What a mesh is opened with.
pub struct Opening {
    /// The `mesh` block.
    pub settings: Settings,
    /// The records.
    pub store: Store,
    /// Where our certificate is kept.
    pub data: Option<PathBuf>,
    /// The time of day.
    pub clock: Clock,
    /// What the mesh asks of the house.
    pub house: Arc<dyn House>,
    /// Where this bot acts.
    pub leads: Leads,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshFault {
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// A port.
    #[error("mesh.{key}: {address} cannot be listened at: {source}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// The mesh is gone, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    /// The bot is shutting down.
    #[error("the bot is shutting down")]
    Closing,
    /// It cannot be sent.
    #[error(transparent)]
    Send(#[from] SendFault),
    /// The records.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// Not a word.
    #[error("{0:?} is not one word without blanks")]
    NotAWord(String),
}

impl Mesh {
    /// Opens it, if the settings give us a name: the ports, and the hub's task, which ends with `shutdown`.
    pub async fn open(opening: Opening, shutdown: Shutdown) -> Result<Option<(Mesh, Vec<JoinHandle<()>>)>, MeshFault> {
        let Opening { settings, store, data, clock, house, leads } = opening;
        let Some(me) = settings.own_name() else { return Ok(None) };
        let threads = Threads::new(store.clone(), clock.clone());
        let records = Records::open(store, &settings.known()).await?;
        let tls = Tls::new(settings.cert.as_deref(), settings.key.as_deref(), data.as_deref(), me.as_str())?;
        let (to, asks) = mpsc::channel(ASKS);
        let (news, _) = broadcast::channel(NEWS);
        let view = Arc::new(ArcSwap::from_pointee(View::default()));
        let since = clock.now().timestamp_millis();
        let mut net = Net::new(me.clone(), calls::facts(&settings, since), Arc::clone(&house) as _);
        // Nobody is linked yet.
        let _ = net.know(records.attrs());
        let about = settings.about();
        let taking = Taking { me: me.clone(), about, tls: tls.clone(), hub: to.clone(), clock: clock.clone() };
        let mut tasks = Vec::new();
        let mut ports = [None, None];
        let wanted = [("listen", settings.listen, false), ("listen_tls", settings.listen_tls, true)];
        for ((key, address, encrypted), port) in wanted.into_iter().zip(&mut ports) {
            let Some(address) = address else { continue };
            let fault = |source| MeshFault::Listen { key, address, source };
            let listener = TcpListener::bind(address).await.map_err(fault)?;
            *port = Some(listener.local_addr().map_err(fault)?);
            tasks.push(tokio::spawn(calls::listen(listener, encrypted, taking.clone(), shutdown.clone())));
        }
        let hub = Hub {
            me: me.clone(),
            net,
            records,
            dialer: Dialer::new(settings.retry),
            settings,
            tls,
            house,
            clock,
            news: news.clone(),
            view: Arc::clone(&view),
            to_self: to.clone(),
            lines: Lines::default(),
            notes: None,
            pending: Pending::default(),
            overrun: Vec::new(),
            givers: std::collections::BTreeMap::new(),
            changed: false,
        };
        tasks.push(tokio::spawn(hub.run(asks, shutdown)));
        Ok(Some((Mesh { me, to, news, view, taking, ports, leads, threads }, tasks)))
    }

    /// Our name among the bots.
    pub fn name(&self) -> &BotName {
        &self.me
    }

    /// What is now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What happens from now on. A listener that is slow misses news, and is told how many.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    /// Where bots can call us: without and with TLS.
    pub fn ports(&self) -> [Option<SocketAddr>; 2] {
        self.ports
    }

    /// Whether this is the name of a bot that has a record here, so that a login by it belongs to us.
    pub fn knows(&self, name: &str) -> bool {
        let Ok(name) = name.parse::<BotName>() else { return false };
        self.view.load().records.iter().any(|record| record.name == name)
    }

    /// Takes over a connection whose first line was the name of a bot ([`Mesh::knows`]), and serves it until its link has ended.
    ///
    /// `read` are the bytes that came after that line. `encrypted` is whether TLS stands below the stream, and `cert` the
    /// certificate that was shown in it.
    pub async fn adopt(
        &self,
        stream: Stream,
        name: &str,
        read: &[u8],
        encrypted: bool,
        cert: Option<Fingerprint>,
    ) -> Result<(), LinkFault> {
        self.adopt_from(None, stream, name, read, (encrypted, cert)).await
    }

    /// The same, of one whose address is known. `shown` is whether TLS stands below the stream, and the certificate.
    pub async fn adopt_from(
        &self,
        at: Option<IpAddr>,
        stream: Stream,
        name: &str,
        read: &[u8],
        shown: (bool, Option<Fingerprint>),
    ) -> Result<(), LinkFault> {
        let bad = |fault: super::name::BadName| super::login::LoginFault::Stranger(fault.0);
        let name: BotName = name.parse().map_err(bad)?;
        let mut connection = Connection::new(stream, "", read);
        ((connection.encrypted, connection.seen), connection.at) = (shown, at);
        self.taking.take(connection, Some(&name), ()).await
    }

    /// Something happened on our partyline.
    pub async fn tell(&self, local: Local) -> Result<(), AskFault> {
        self.ask(|reply| Ask::Local { local, reply }).await?.map_err(AskFault::from)
    }

    /// Sends to the scripts of one bot: Eggdrop's `putbot`.
    pub async fn send(&self, bot: &str, code: &str, args: &str) -> Result<(), AskFault> {
        let to = bot.parse().map_err(|super::name::BadName(bad)| AskFault::NotAWord(bad))?;
        let (code, args) = (word(code)?, args.to_owned());
        self.ask(|reply| Ask::Script { to: Some(to), code, args, reply }).await?.map_err(AskFault::from)
    }

    /// Sends to the scripts of all bots: Eggdrop's `putallbots`.
    pub async fn broadcast(&self, code: &str, args: &str) -> Result<(), AskFault> {
        let (code, args) = (word(code)?, args.to_owned());
        self.ask(|reply| Ask::Script { to: None, code, args, reply }).await?.map_err(AskFault::from)
    }

    /// Calls the `bot` bind of another of us and waits for what it answers.
    pub async fn call(&self, bot: &str, cmd: &str, data: &str, within: Duration) -> Result<String, CallFault> {
        if cmd.starts_with(OWN) {
            return Err(CallFault::Refused(format!(
                "commands that begin with {OWN} are not for scripts; use mesh.run"
            )));
        }
        self.request(bot, cmd, data, within).await
    }

    /// Has a person's words done by another of us, as if they were said to it. Whoever calls this vouches that it is this
    /// person; the other asks its own book what they may, and takes our word only if it trusts us and all between.
    pub async fn run(&self, bot: &str, handle: &str, words: &str, within: Duration) -> Result<String, CallFault> {
        self.request(bot, RUN, &format!("{handle} {words}"), within).await
    }

    /// The same for somebody to whom it may say more later ([`SAID`]): what a run that they began comes to.
    pub async fn run_from(&self, bot: &str, words: &str, within: Duration, asker: Asker) -> Result<String, CallFault> {
        let handle = asker.handle.clone();
        let token = match bot.parse() {
            Ok(name) => self.threads.begin(&name, asker).await,
            Err(_) => None,
        };
        match token {
            Some(token) => self.request(bot, RUN, &format!("+{token} {handle} {words}"), within).await,
            None => self.run(bot, &handle, words, within).await,
        }
    }

    /// Who waits here for more of a bot by this word of theirs.
    pub async fn asker(&self, bot: &BotName, token: &str) -> Option<Asker> {
        self.threads.of(bot, token).await
    }

    /// Asks another of us something of the house's own.
    pub async fn own(&self, bot: &BotName, cmd: &str, data: &str, within: Duration) -> Result<String, CallFault> {
        self.request(bot.as_str(), cmd, data, within).await
    }

    /// Where this bot acts, on networks that groups share.
    pub fn leads(&self) -> &Leads {
        &self.leads
    }

    async fn request(&self, bot: &str, cmd: &str, data: &str, within: Duration) -> Result<String, CallFault> {
        let bot: BotName =
            bot.parse().map_err(|super::name::BadName(bad)| CallFault::Refused(format!("{bad:?} is no bot")))?;
        let (reply, answer) = oneshot::channel();
        let (cmd, data) = (cmd.to_owned(), data.to_owned());
        let asked = self.to.send(Ask::Call { bot: bot.clone(), cmd, data, reply }).await;
        asked.map_err(|_| CallFault::Closing)?;
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer.unwrap_or(Err(CallFault::Closing)),
            Err(_elapsed) => Err(CallFault::Late(bot)),
        }
    }

    /// Answers a call that came with [`House::called`], with words or with a fault.
    pub async fn answer(&self, to: &BotName, id: u32, result: Result<String, String>) {
        // A hub that has ended has no links to answer over.
        let _ = self.to.send(Ask::Answer { to: to.clone(), id, result }).await;
    }

    /// Somebody on our partyline asks other bots. Answers come as [`News::Answer`] with the same session.
    pub async fn question(&self, who: &str, sock: u32, question: Question) -> Result<(), AskFault> {
        let who = word(who)?;
        self.ask(|reply| Ask::Question { who, sock, question, reply }).await?.map_err(AskFault::from)
    }

    /// Calls a bot that has a record. How it went is told to `asked`, if given, as [`News::Answer`]; whether they may is for
    /// the caller to know.
    pub async fn link(&self, bot: &BotName, asked: Option<(Word, u32)>) -> Result<(), AskFault> {
        let me = self.me.clone();
        let asked = asked.map(|(user, sock)| Address { sock: Some(sock), user: Some(user), bot: me });
        let bot = bot.clone();
        self.ask(|reply| Ask::Link { bot, asked, reply }).await?.map_err(AskFault::from)
    }

    /// Ends a link; whether there was one.
    pub async fn unlink(&self, bot: &BotName, reason: &str) -> Result<bool, AskFault> {
        let (bot, reason) = (bot.clone(), reason.to_owned());
        self.ask(|reply| Ask::Unlink { bot, reason, reply }).await
    }

    /// Writes what is known of a bot that is not in the configuration.
    pub async fn put_bot(&self, bot: &BotName, settings: BotSettings) -> Result<(), AskFault> {
        self.record(Change::Put(bot.clone(), Box::new(settings))).await
    }

    /// Writes what is known of a bot that nobody here knows; whoever is known stays as they are.
    pub async fn add_bot(&self, bot: &BotName, settings: BotSettings) -> Result<(), AskFault> {
        self.record(Change::Add(bot.clone(), Box::new(settings))).await
    }

    /// Forgets the password and the certificate of a bot, so that it can link for the first time again.
    pub async fn forget(&self, bot: &BotName) -> Result<(), AskFault> {
        self.record(Change::Forget(bot.clone())).await
    }

    /// Removes the record of a bot that is not in the configuration.
    pub async fn remove_bot(&self, bot: &BotName) -> Result<(), AskFault> {
        self.record(Change::Remove(bot.clone())).await
    }

    /// Takes another configuration. Links stay; the name and the ports need a restart.
    pub async fn configure(&self, settings: Settings) {
        // A hub that has ended needs none.
        let _ = self.to.send(Ask::Configure(Box::new(settings))).await;
    }

    async fn record(&self, change: Change) -> Result<(), AskFault> {
        self.ask(|reply| Ask::Record { change, reply }).await?.map_err(AskFault::from)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, AskFault> {
        let (reply, answer) = oneshot::channel();
        self.to.send(ask(reply)).await.map_err(|_| AskFault::Closing)?;
        answer.await.map_err(|_| AskFault::Closing)
    }
}

fn word(text: &str) -> Result<Word, AskFault> {
    Word::new(text).ok_or_else(|| AskFault::NotAWord(text.to_owned()))
}
