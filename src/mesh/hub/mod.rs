//! The one task that holds the net: it is asked, lets the net decide, and does what that says.

mod giving;
mod links;
mod perform;
mod talkative;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Clock, Secret, Shutdown};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::House;
use super::book::{Member, PeerId};
use super::calls::{self, Calling};
use super::connection::LinkFault;
use super::dialer::Dialer;
use super::handle::{LinkView, View};
use super::link::Out;
use super::login::Known;
use super::message::{self, Message, TEXT_MAX};
use super::name::{Address, BotName, Word};
use super::net::{Effect, Net, Peer, SendFault};
use super::news::{Local, News, Note, Question};
use super::pending::{Pending, Reply};
use super::records::{BotSettings, RecordFault, Records};
use super::settings::Settings;
use super::tls::Tls;
use crate::irc::Fingerprint;

use talkative::Talk;

/// How often it is looked whether somebody should be called.
const LOOK: Duration = Duration::from_millis(250);
/// Notes that wait for the house; the sender of more is told to try again.
const NOTES: usize = 256;
/// Links in all.
const LINKS_MAX: usize = 256;

/// What the hub is asked.
pub(super) enum Ask {
    /// Somebody calls us.
    WhoIs { name: BotName, reply: oneshot::Sender<Option<Looked>> },
    /// We have reached somebody whom we called: may the login go on?
    Reached { name: BotName, reply: oneshot::Sender<bool> },
    /// A login went well.
    Up(Box<Up>),
    /// A line came.
    Line { id: PeerId, message: Message },
    /// A link is encrypted from now on.
    Encrypted { id: PeerId, pin: Option<Fingerprint> },
    /// A link has ended.
    Down { id: PeerId, reason: String },
    /// A call came to nothing.
    Failed { name: BotName, fault: LinkFault, asked: Option<Address> },
    /// The user file of a peer cannot be taken.
    NotTaken { id: PeerId, bot: BotName, fault: String },
    /// What became of a note.
    Noted { to: Address, text: String },
    /// Something happens on our partyline.
    Local { local: Local, reply: oneshot::Sender<Result<(), SendFault>> },
    /// A script sends.
    Script { to: Option<BotName>, code: Word, args: String, reply: oneshot::Sender<Result<(), SendFault>> },
    /// A script calls another of us, and waits.
    Call { bot: BotName, cmd: String, data: String, reply: Reply },
    /// The answer to a call of another.
    Answer { to: BotName, id: u32, result: Result<String, String> },
    /// Somebody here asks others.
    Question { who: Word, sock: u32, question: Question, reply: oneshot::Sender<Result<(), SendFault>> },
    /// Link with a bot, because somebody here says so.
    Link { bot: BotName, asked: Option<Address>, reply: oneshot::Sender<Result<(), RecordFault>> },
    /// End a link.
    Unlink { bot: BotName, reason: String, reply: oneshot::Sender<bool> },
    /// Change the records.
    Record { change: Change, reply: oneshot::Sender<Result<(), RecordFault>> },
    /// Another configuration.
    Configure(Box<Settings>),
}

/// A change of the records.
pub(super) enum Change {
    Put(BotName, Box<BotSettings>),
    /// Only where nothing is known of it.
    Add(BotName, Box<BotSettings>),
    Forget(BotName),
    Remove(BotName),
}

/// What is known of one who calls.
pub(super) struct Looked {
    pub(super) name: BotName,
    pub(super) known: Known,
    pub(super) pins: Vec<Fingerprint>,
    /// Whether it is in the net already.
    pub(super) linked: bool,
}

/// A login that went well.
pub(super) struct Up {
    pub(super) id: PeerId,
    pub(super) peer: Peer,
    pub(super) out: mpsc::Sender<Out>,
    pub(super) stop: oneshot::Sender<()>,
    /// Makes the link read slowly.
    pub(super) hold: Arc<AtomicBool>,
    /// A password that was made.
    pub(super) learned: Option<Secret>,
    /// A certificate that was seen for the first time.
    pub(super) pin: Option<Fingerprint>,
    /// Who is told.
    pub(super) asked: Option<Address>,
}

struct Line {
    out: mpsc::Sender<Out>,
    bot: BotName,
    called: bool,
    /// How much talk it is given.
    talk: Talk,
    /// How many lines for others it may give before it has to wait for those who are behind.
    fair: Talk,
    hold: Arc<AtomicBool>,
    /// Lines of talk that were left out.
    dropped: u64,
    /// The link ends at once when this is gone.
    _stop: oneshot::Sender<()>,
}

/// The hub.
pub(super) struct Hub {
    pub(super) me: BotName,
    pub(super) net: Net,
    pub(super) records: Records,
    pub(super) settings: Settings,
    pub(super) tls: Tls,
    pub(super) house: Arc<dyn House>,
    pub(super) clock: Clock,
    pub(super) news: broadcast::Sender<Arc<News>>,
    pub(super) view: Arc<ArcSwap<View>>,
    pub(super) to_self: mpsc::Sender<Ask>,
    pub(super) lines: Lines,
    pub(super) dialer: Dialer,
    pub(super) notes: Option<mpsc::Sender<Note>>,
    pub(super) pending: Pending,
    /// Links that had no room for a line: they are lost.
    pub(super) overrun: Vec<PeerId>,
    /// Who gives us what its people are: where that goes.
    pub(super) givers: BTreeMap<PeerId, mpsc::Sender<String>>,
    pub(super) changed: bool,
}

/// The links by number.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<PeerId, Line>);

impl Hub {
    /// Runs until shutdown, then says goodbye to all.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        let (notes, waiting) = mpsc::channel(NOTES);
        self.notes = Some(notes);
        tasks.spawn(give_notes(waiting, Arc::clone(&self.house), self.to_self.clone()));
        let mut look = tokio::time::interval(LOOK.min(self.settings.retry / 2));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.publish();
        loop {
            tokio::select! {
                biased;
                () = shutdown.recv() => break,
                // Before what is asked, which under a flood never ends.
                _ = look.tick() => {
                    self.look(&mut tasks);
                    if self.changed {
                        self.publish();
                    }
                }
                ask = asks.recv() => match ask {
                    Some(ask) => self.take(ask, &mut tasks).await,
                    None => break,
                },
                Some(_) = tasks.join_next() => {}
            }
            // Once for all that waits: under a flood the view is made anew when it is looked around, not for each line.
            if self.changed && asks.is_empty() {
                self.publish();
            }
        }
        self.say_goodbye(asks, tasks).await;
    }

    /// Ends all links, and waits a little for their last lines.
    async fn say_goodbye(mut self, mut asks: mpsc::Receiver<Ask>, mut tasks: JoinSet<()>) {
        let ids: Vec<PeerId> = self.net.peers().map(|(id, _)| id).collect();
        for id in ids {
            let effects = self.net.cut(id, "shutting down", self.now());
            self.perform(effects, &mut tasks).await;
        }
        self.publish();
        self.notes = None;
        let gone = async {
            // Links that end have a last word for us; nobody is left to hear it.
            let drained = async { while asks.recv().await.is_some() {} };
            tokio::select! {
                () = drained => {}
                () = async { while tasks.join_next().await.is_some() {} } => {}
            }
        };
        // Whoever is still connecting is left behind.
        let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_millis()
    }

    async fn take(&mut self, ask: Ask, tasks: &mut JoinSet<()>) {
        let now = self.now();
        let effects = match ask {
            Ask::Line { id, message } => {
                self.changed |= changes_view(&message);
                let effects = self.net.take(id, message, now);
                self.weigh(id, &effects);
                effects
            }
            Ask::Noted { to, text } => self.net.answer(&to, &text, now),
            Ask::Local { local, reply } => answered(self.net.local(local, now), reply),
            Ask::Script { to: Some(to), code, args, reply } => answered(self.net.zapf(&to, code, &args, now), reply),
            Ask::Script { to: None, code, args, reply } => answered(self.net.zapf_broad(code, &args, now), reply),
            Ask::Question { who, sock, question, reply } => answered(self.net.ask(who, sock, question, now), reply),
            Ask::Call { bot, cmd, data, reply } => self.calls(bot, cmd, data, reply),
            Ask::Answer { to, id, result } => self.answers(&to, id, result),
            Ask::Up(up) => self.up(*up).await,
            Ask::Down { id, reason } => {
                self.givers.remove(&id);
                self.down(id, &reason)
            }
            Ask::NotTaken { id, bot, fault } => self.net.not_taken(id, bot, &fault, now),
            Ask::Unlink { bot, reason, reply } => {
                let id = self.net.peers().find(|(_, peer)| peer.bot == bot).map(|(id, _)| id);
                // Whoever asked may have gone.
                let _ = reply.send(id.is_some());
                self.changed = true;
                id.map(|id| self.net.cut(id, &reason, now)).unwrap_or_default()
            }
            other => return self.manage(other, tasks).await,
        };
        self.perform(effects, tasks).await;
    }

    /// What concerns records and calls rather than the net.
    async fn manage(&mut self, ask: Ask, tasks: &mut JoinSet<()>) {
        self.changed = true;
        match ask {
            Ask::WhoIs { name, reply } => {
                // The login that asked may have ended.
                let _ = reply.send(self.look_up(&name));
            }
            Ask::Reached { name, reply } => {
                let effects = self.make_way(&name);
                let free = self.net.book().bot(&name).is_none();
                let _ = reply.send(free);
                self.perform(effects, tasks).await;
            }
            Ask::Encrypted { id, pin } => {
                let bot = self.net.encrypted(id);
                if let (Some(bot), Some(_)) = (bot, pin) {
                    self.learn(&bot, None, pin).await;
                }
            }
            Ask::Failed { name, fault, asked } => {
                let wait = self.dialer.failed(&name, random());
                tracing::warn!(bot = %name, %fault, again_in = ?wait, "A bot cannot be linked");
                if let Some(asked) = asked {
                    let effects = self.net.answer(&asked, &format!("Failed to link {name}: {fault}"), self.now());
                    self.perform(effects, tasks).await;
                }
            }
            Ask::Link { bot, asked, reply } => {
                let known = self.records.get(&bot).map(|_| ()).ok_or(RecordFault::Unknown(bot.clone()));
                let linked = self.net.book().bot(&bot).is_some();
                let known = known.and_then(|()| match linked {
                    true => Err(RecordFault::Wrong(format!("{bot} is in the net already"))),
                    false => Ok(()),
                });
                if known.is_ok() {
                    self.call(&bot, asked, tasks);
                }
                let _ = reply.send(known);
            }
            Ask::Record { change, reply } => {
                let done = match change {
                    Change::Put(name, settings) => self.records.put(&name, *settings).await,
                    Change::Add(name, settings) => self.records.add(&name, *settings).await,
                    Change::Forget(name) => self.records.forget(&name).await,
                    Change::Remove(name) => self.records.remove(&name).await,
                };
                let effects = self.net.know(self.records.attrs());
                self.perform(effects, tasks).await;
                // Whoever asked looks at the view next.
                self.publish();
                let _ = reply.send(done);
            }
            Ask::Configure(settings) => {
                self.records.configure(&settings.known());
                let effects = self.net.know(self.records.attrs());
                self.net.tell_of(calls::facts(&settings, self.net.since()));
                self.settings = *settings;
                self.perform(effects, tasks).await;
            }
            _ => {}
        }
    }

    fn look_up(&self, name: &BotName) -> Option<Looked> {
        let record = self.records.get(name)?;
        let known = Known {
            password: record.link_password(),
            first_link: record.settings.first_link,
            reject: record.settings.attrs().reject,
            insecure: record.settings.insecure,
        };
        let linked = self.net.book().bot(name).is_some();
        Some(Looked { name: record.name.clone(), known, pins: record.pins(), linked })
    }

    /// A hub that answers and can be reached over another link already: that link ends, so that it can be linked.
    fn make_way(&mut self, name: &BotName) -> Vec<Effect> {
        let hub = self.records.get(name).is_some_and(|record| record.settings.attrs().hub);
        let via = self.net.book().via(name).filter(|_| hub);
        let now = self.now();
        let direct = self.net.peers().any(|(_, peer)| peer.bot == *name);
        match via {
            Some(via) if !direct => self.net.cut(via, "restructure", now),
            _ => Vec::new(),
        }
    }

    async fn learn(&mut self, bot: &BotName, password: Option<Secret>, pin: Option<Fingerprint>) {
        if let Some(pin) = pin {
            tracing::info!(%bot, %pin, "The certificate of a bot is remembered");
        }
        if let Err(fault) = self.records.learn(bot, password, pin).await {
            tracing::error!(%bot, %fault, "What was learned of a bot cannot be kept; it will not link again by itself");
        }
    }

    fn look(&mut self, tasks: &mut JoinSet<()>) {
        let linked: BTreeSet<BotName> = self.net.peers().map(|(_, peer)| peer.bot.clone()).collect();
        if let Some(bot) = self.dialer.due(&self.records.attrs(), &linked, Instant::now()) {
            self.dialer.begins(&bot);
            self.call(&bot, None, tasks);
        }
    }

    fn call(&mut self, bot: &BotName, asked: Option<Address>, tasks: &mut JoinSet<()>) {
        let Some(record) = self.records.get(bot) else { return };
        let calling = Calling {
            me: self.me.clone(),
            about: self.settings.about(),
            record: record.clone(),
            tls: self.tls.clone(),
            hub: self.to_self.clone(),
            asked,
            now: self.now(),
        };
        tasks.spawn(calls::call(calling));
    }

    pub(super) fn publish(&mut self) {
        self.changed = false;
        let links = self.net.peers().map(|(id, peer)| LinkView {
            peer: peer.clone(),
            dropped: self.lines.0.get(&id).map_or(0, |line| line.dropped),
        });
        let view = View {
            bots: self.net.book().bots().cloned().collect(),
            members: self.net.book().members().filter(|member| member.bot != self.me).cloned().collect::<Vec<Member>>(),
            links: links.collect(),
            records: self.records.all().cloned().collect(),
        };
        self.view.store(Arc::new(view));
    }
}

/// Gives notes to the house, one after the other.
async fn give_notes(mut waiting: mpsc::Receiver<Note>, house: Arc<dyn House>, hub: mpsc::Sender<Ask>) {
    while let Some(note) = waiting.recv().await {
        let (to, user) = (note.from.clone(), note.to.clone());
        let text = house.note(note).await.words(&user);
        let text = message::parts(&text, TEXT_MAX).first().map(|part| (*part).to_owned()).unwrap_or_default();
        if hub.send(Ask::Noted { to, text }).await.is_err() {
            return;
        }
    }
}

/// Tells whoever asked how it went, and gives what is to be done.
fn answered(done: Result<Vec<Effect>, SendFault>, reply: oneshot::Sender<Result<(), SendFault>>) -> Vec<Effect> {
    let (effects, result) = match done {
        Ok(effects) => (effects, Ok(())),
        Err(fault) => (Vec::new(), Err(fault)),
    };
    // Whoever asked may have gone.
    let _ = reply.send(result);
    effects
}

/// Whether a line may change who is where.
fn changes_view(message: &Message) -> bool {
    !matches!(
        message,
        Message::Chan { .. } | Message::Act { .. } | Message::Chat { .. } | Message::Priv { .. } | Message::Zapf { .. }
    )
}

/// Any number.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers all bots wait the same time, which is no harm here.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
