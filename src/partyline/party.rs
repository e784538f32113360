//! The partyline: one room, whatever people come in by. Cheap to clone; all clones are the same one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use masterchief_contract::{
    Action, Actor, CaseMap, Clock, Event, EventData, How, Inlet, Kind, Outlet, Refused, Shutdown, Value,
};
use tokio::sync::{broadcast, mpsc, watch};
use tracing::Level;

use super::console_lines::{EACH, LETTERS};
use super::events::event_of;
use super::guests::Guest;
use super::here::{Here, actor, here, there, watches};
use super::kinds;
use super::masters::for_masters;
use super::news::{Author, Change, News, What};
use super::place::Place;
use super::room::{Entry, Room, Session, author, bare};
use super::sift::{NoteTaker, Sieve};
use crate::dispatch::BindTable;
use crate::users::{Book, Standing};

/// The name of the partyline among the networks.
pub const NETWORK: &str = crate::users::PARTYLINE;
/// Changes that wait for whoever links bots.
const CHANGES: usize = 4096;
/// The longest line that is taken from somebody, in bytes.
pub const LINE_MAX: usize = 2000;

/// The partyline.
#[derive(Clone)]
pub struct Party {
    inner: Arc<Inner>,
}

struct Inner {
    room: Mutex<Room>,
    book: Book,
    table: BindTable,
    clock: Clock,
    outlet: Arc<dyn Outlet>,
    inlet: OnceLock<Inlet>,
    changes: broadcast::Sender<Change>,
    /// Events that the street had no room for.
    dropped: AtomicU64,
    /// Whether anybody watches a channel of a network.
    watching: AtomicBool,
    /// Whether anybody wants to see what happens on networks, line by line.
    lines: AtomicBool,
    /// Whether somebody wants to see each line of a server.
    raw: watch::Sender<bool>,
    /// Is told the least important level of the log that anybody wants, when that changes.
    level: OnceLock<Box<dyn Fn(Option<Level>) + Send + Sync>>,
    /// What people type goes through it.
    sieve: OnceLock<Sieve>,
    /// Notes go by it first.
    note_taker: OnceLock<NoteTaker>,
}

/// A seat at the partyline. Whoever drops it has left.
pub struct Seat {
    party: Party,
    /// The number of the session.
    pub idx: u32,
    /// What there is to tell.
    pub news: mpsc::Receiver<Arc<News>>,
    /// Ends when the session was ended by somebody else, or reads too slowly.
    pub cut: Shutdown,
    reason: String,
}

impl Seat {
    /// Where it stands.
    pub(super) fn party(&self) -> &Party {
        &self.party
    }

    /// The words with which it leaves.
    pub fn leaves_with(&mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.party.leave(self.idx, &self.reason);
    }
}

impl Party {
    /// An empty room in which the bot is called `nick`. What people say in channels of networks goes to `outlet`.
    pub fn new(nick: &str, book: Book, table: BindTable, outlet: Arc<dyn Outlet>, clock: Clock) -> Party {
        let inner = Inner {
            room: Mutex::new(Room::new(nick)),
            book,
            table,
            clock,
            outlet,
            inlet: OnceLock::new(),
            changes: broadcast::Sender::new(CHANGES),
            dropped: AtomicU64::new(0),
            watching: AtomicBool::new(false),
            lines: AtomicBool::new(false),
            raw: watch::Sender::new(false),
            level: OnceLock::new(),
            sieve: OnceLock::new(),
            note_taker: OnceLock::new(),
        };
        Party { inner: Arc::new(inner) }
    }

    /// From now on what happens becomes events.
    pub fn open(&self, inlet: Inlet) {
        // The first inlet is the only one.
        let _ = self.inner.inlet.set(inlet);
    }

    /// From now on what people type goes through this.
    pub fn sift(&self, sieve: Sieve) {
        // The first is the only one.
        let _ = self.inner.sieve.set(sieve);
    }

    /// From now on notes go by this first.
    pub fn give_notes(&self, taker: NoteTaker) {
        // The first is the only one.
        let _ = self.inner.note_taker.set(taker);
    }

    pub(super) fn note_taker(&self) -> Option<&NoteTaker> {
        self.inner.note_taker.get()
    }

    pub(super) fn sieve(&self) -> Option<&Sieve> {
        self.inner.sieve.get()
    }

    /// Lets somebody in who has logged in.
    pub fn enter(&self, entry: Entry) -> Seat {
        let (stopper, cut) = Shutdown::new();
        let (idx, news) = self.change(|room, now| room.enter(entry, stopper, now));
        Seat { party: self.clone(), idx, news, cut, reason: "gone".to_owned() }
    }

    /// Somebody leaves.
    pub fn leave(&self, idx: u32, reason: &str) {
        self.change(|room, now| room.leave(idx, reason, now));
    }

    /// Somebody leaves a place; whether they were there.
    pub fn part(&self, idx: u32, place: &Place, reason: &str) -> bool {
        self.change(|room, now| room.part(idx, place, reason, now))
    }

    /// Somebody is away, or back.
    pub fn away(&self, idx: u32, reason: Option<&str>) {
        self.change(|room, now| room.away(idx, reason, now));
    }

    /// Sets the topic of a place.
    pub fn set_topic(&self, idx: u32, place: &Place, text: &str) {
        self.change(|room, now| {
            if let Some(from) = room.session(idx).map(author) {
                room.set_topic(place, text, from, now);
            }
        });
    }

    /// The topic of a place.
    pub fn topic(&self, place: &Place) -> String {
        self.lock().topic(place).to_owned()
    }

    /// Ends a session; its name, if there was one.
    pub fn boot(&self, idx: u32, reason: &str) -> Option<Arc<str>> {
        let nick = self.lock().session(idx).map(|session| Arc::clone(&session.nick))?;
        self.tell(idx, reason);
        self.leave(idx, reason);
        Some(nick)
    }

    /// Somebody says something in a place. Waits while the street is full. Gives the number of the news.
    pub async fn say(&self, idx: u32, place: &Place, text: &str, how: How) -> Result<Option<u64>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        if let Some(words) = for_masters(place, text, how) {
            return self.say_to_masters(idx, words).map(Some);
        }
        let (actor, standing) = self.person(idx).ok_or("you have left")?;
        if let Place::Watched { channel, network } = place {
            if !watches(&standing, network, channel) {
                return Err(format!("to speak in {place} needs the flag o there; ask an owner"));
            }
            let words =
                if how == How::Act { format!("* {} {text}", actor.nick) } else { format!("<{}> {text}", actor.nick) };
            let (network, target) = (network.clone(), channel.clone());
            let say = Action::Say { network, target, text: words, how: How::Say, reply: true };
            self.inner.outlet.perform(say).await.map_err(|refused| refused.message)?;
            // What the bot says there comes back to all who watch.
            return Ok(None);
        }
        let id = self.change(|room, now| room.say(idx, place, text, how, now));
        if id.is_none() {
            return Err(format!("you are not in {place}; join it first"));
        }
        if *place == Place::Ops && how != How::Notice {
            let mut event = self.event_of(&PUBLIC, actor, text);
            event.chan = Some(Arc::from(Place::Ops.to_string()));
            if how == How::Act {
                event.kinds = &[Kind::Ctcp];
                let dest = Value::from(Place::Ops.to_string());
                event.fields = vec![("keyword", Value::from("ACTION")), ("dest", dest)];
            }
            self.put(event).await?;
        }
        Ok(id)
    }

    /// Somebody says something to the bot alone. Waits while the street is full.
    pub async fn say_to_bot(&self, idx: u32, text: &str, how: How) -> Result<Option<u64>, String> {
        let (actor, _) = self.person(idx).ok_or("you have left")?;
        let id = self.change(|room, now| room.for_bot(idx, text, how, now));
        if how == How::Say && !text.trim().is_empty() {
            self.put(self.event_of(&PRIVATE, actor, text)).await?;
        }
        Ok(id)
    }

    /// Somebody says something to somebody else.
    pub fn whisper(&self, idx: u32, to: &str, text: &str, how: How) -> Option<u64> {
        self.change(|room, now| {
            let from = room.session(idx).map(author)?;
            room.whisper(from, to, text, how, now)
        })
    }

    /// Does what a handler asks.
    pub fn perform(&self, action: Action) -> Result<(), Refused> {
        let Action::Say { target, text, how, .. } = action.untagged().1 else {
            return Err(Refused::new("the partyline is not an IRC network: it takes words only"));
        };
        let lines = text.split(['\r', '\n', '\0']).filter(|line| !line.is_empty());
        let heard = self.change(|room, now| {
            let from = bare(&room.bot);
            let mut heard = true;
            for line in lines {
                match Place::parse(&target) {
                    Some(place) => {
                        let what = What::Said { place: place.clone(), text: line.to_owned(), how };
                        room.tell_place(&place, from.clone(), what, now);
                    }
                    None => heard &= room.whisper(from.clone(), &target, line, how, now).is_some(),
                }
            }
            heard
        });
        if heard { Ok(()) } else { Err(Refused::new(format!("{target} is not on the partyline"))) }
    }

    /// What was said in a channel of a network, for those who watch it. Costs next to nothing if nobody does.
    pub fn overhear(&self, network: &str, channel: &str, nick: &str, text: &str, how: How) {
        if !self.watched() {
            return;
        }
        let Some(place) = Place::parse(&format!("{channel}@{network}")) else { return };
        let nick: Arc<str> = Arc::from(nick);
        let from = Author { idx: None, handle: Arc::clone(&nick), nick, host: Arc::from(network) };
        self.change(|room, now| {
            if room.sessions().any(|session| session.places.contains(&place)) {
                room.tell_place(&place, from, What::Said { place: place.clone(), text: text.to_owned(), how }, now);
            }
        });
    }

    /// From now on somebody watches a channel of a network.
    pub(super) fn watches(&self) {
        self.inner.watching.store(true, Ordering::Relaxed);
    }

    /// Whether anybody watches channels of networks.
    pub fn watched(&self) -> bool {
        self.inner.watching.load(Ordering::Relaxed)
    }

    /// A line of the log, for those who want to see it.
    pub fn log(&self, mode: char, level: Level, text: &str) {
        self.change(|room, now| {
            let from = bare(&room.bot);
            let wants = |session: &&Session| session.modes.wants(mode, level);
            let to: Vec<u32> = room.sessions().filter(wants).map(|session| session.idx).collect();
            for idx in to {
                room.tell(idx, from.clone(), What::Log { mode, level, text: text.to_owned() }, now);
            }
        });
    }

    /// A line of the log, of a channel or `*`, for binds of kind `putlog`.
    pub fn logged(&self, mode: char, channel: &str, text: &str) {
        if !self.inner.table.has_any(&LOGGED) {
            return;
        }
        let mut event = EventData::new(&LOGGED, self.inner.clock.now());
        event.text = text.to_owned();
        event.fields = vec![("level", Value::from(mode.to_string())), ("channel", Value::from(channel))];
        self.try_put(Event::new(event));
    }

    /// Binds have changed: perhaps others want to see the log now.
    pub(super) fn look_again(&self) {
        self.change(|_, _| ());
    }

    /// Words of the bot for one session.
    pub fn tell(&self, idx: u32, text: &str) {
        self.change(|room, now| {
            let Some(to) = room.session(idx).map(|session| Arc::clone(&session.nick)) else { return };
            let from = bare(&room.bot);
            room.tell(idx, from, What::Whisper { to, text: text.to_owned(), how: How::Notice }, now);
        });
    }

    /// Whether anybody wants to see what happens on networks.
    pub fn wants_lines(&self) -> bool {
        self.inner.lines.load(Ordering::Relaxed)
    }

    /// Whether somebody wants to see each line of a server, now and whenever that changes.
    pub fn wants_raw(&self) -> watch::Receiver<bool> {
        self.inner.raw.subscribe()
    }

    /// Tells which level of the log is wanted, now and whenever that changes.
    pub(super) fn watch_level(&self, tell: impl Fn(Option<Level>) + Send + Sync + 'static) {
        // The first who asks is the only one.
        let _ = self.inner.level.set(Box::new(tell));
        self.change(|_, _| ());
    }

    /// Records have other handles, all at once: each the one before and the one now.
    pub fn renamed(&self, moves: &[(String, String)]) {
        self.change(|room, now| room.rename(moves, now));
        for (old, new) in moves {
            let mut event = EventData::new(&[kinds::NKCH], self.inner.clock.now());
            event.network = Arc::from(NETWORK);
            event.fields = vec![("old", Value::from(old.as_str())), ("new", Value::from(new.as_str()))];
            self.try_put(Event::new(event));
        }
    }

    /// What happens here that linked bots should know. Whoever falls behind is told so and reads the room anew.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Takes what linked bots tell ([`Change::bot`] is the name), in order.
    pub fn take(&self, changes: Vec<Change>) {
        self.change(|room, now| room.take(changes, now));
    }

    /// People on linked bots.
    pub fn guests(&self) -> Vec<Guest> {
        self.lock().guests().cloned().collect()
    }

    /// Somebody on a linked bot by the name under which they are shown here, as `handle@bot`.
    pub(super) fn guest(&self, nick: &str) -> Option<String> {
        let room = self.lock();
        let found = room.guests().find(|guest| CaseMap::Rfc1459.eq(&guest.author().nick, nick));
        found.map(|guest| format!("{}@{}", guest.handle, guest.bot))
    }

    /// Looks at every session.
    pub fn each<T>(&self, of: impl FnMut(&Session) -> T) -> Vec<T> {
        self.lock().sessions().map(of).collect()
    }

    /// Looks at one session.
    pub fn session<T>(&self, idx: u32, of: impl FnOnce(&Session) -> T) -> Option<T> {
        self.lock().session(idx).map(of)
    }

    /// Who is in a place, people on linked bots too; the bot itself is not in the list.
    pub fn here(&self, place: &Place) -> Vec<Here> {
        let room = self.lock();
        let ours = room.sessions().filter(|session| session.places.contains(place)).map(here);
        let guests = room.guests().filter(|guest| place.number() == Some(guest.channel)).map(there);
        ours.chain(guests).collect()
    }

    /// Somebody by name.
    pub fn find(&self, nick: &str) -> Option<Here> {
        self.lock().find(nick).map(here)
    }

    /// The bot's name here.
    pub fn bot(&self) -> Arc<str> {
        Arc::clone(&self.lock().bot)
    }

    /// The time of day.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The binds.
    pub(super) fn table(&self) -> &BindTable {
        &self.inner.table
    }

    /// Who people are.
    pub fn book(&self) -> &Book {
        &self.inner.book
    }

    /// How many sessions were let go because they did not read, and how many events the street had no room for.
    pub fn lost(&self) -> (u64, u64) {
        (self.lock().let_go(), self.inner.dropped.load(Ordering::Relaxed))
    }

    /// Who somebody is, and what they may.
    pub fn standing(&self, idx: u32) -> Option<Standing> {
        self.person(idx).map(|(_, standing)| standing)
    }

    pub(super) fn person(&self, idx: u32) -> Option<(Actor, Standing)> {
        let actor = self.session(idx, actor)?;
        let standing = self.inner.book.recognise(Some(&actor), NETWORK, CaseMap::Rfc1459);
        Some((actor, standing))
    }

    pub(super) fn event_of(&self, kinds: &'static [Kind], actor: Actor, text: &str) -> EventData {
        let mut event = EventData::new(kinds, self.inner.clock.now());
        event.network = Arc::from(NETWORK);
        event.text = crate::irc::text::plain(text).into_owned();
        event.actor = Some(actor);
        event
    }

    /// Gives an event to the street. Waits while it is full.
    pub(super) async fn pass_on(&self, event: Event) -> Result<(), String> {
        let inlet = self.inner.inlet.get().ok_or("the bot is not up yet; try again")?;
        inlet.put(event).await.map_err(|closed| closed.to_string())
    }

    pub(super) async fn put(&self, event: EventData) -> Result<(), String> {
        self.pass_on(Event::new(event)).await
    }

    pub(super) fn try_put(&self, event: Event) {
        let Some(inlet) = self.inner.inlet.get() else { return };
        if inlet.try_put(event.into()).is_err() {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does something to the room, and tells binds and linked bots what came of it, in order.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Room, chrono::DateTime<chrono::Utc>) -> T) -> T {
        let now = self.inner.clock.now();
        let mut room = self.lock();
        let out = work(&mut room, now);
        room.let_slow_go(now);
        self.inner.lines.store(room.wants_any(LETTERS), Ordering::Relaxed);
        let raw = room.wants_any(EACH);
        self.inner.raw.send_if_modified(|wanted| std::mem::replace(wanted, raw) != raw);
        if let Some(tell) = self.inner.level.get() {
            let bound = self.inner.table.has_any(&LOGGED).then_some(Level::INFO);
            tell(room.wanted_level().max(bound));
        }
        for change in room.changes() {
            if let Some(event) = event_of(&change, &room.bot, now) {
                self.try_put(Event::new(event));
            }
            if change.bot.is_none() {
                // Nobody may be linked.
                let _ = self.inner.changes.send(change);
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.inner.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const LOGGED: [Kind; 1] = [kinds::PUTLOG];
const PUBLIC: [Kind; 2] = [Kind::Pubm, Kind::Pub];
const PRIVATE: [Kind; 2] = [Kind::Msgm, Kind::Msg];
