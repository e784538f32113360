//! The room: who is here, where, and what each of them is told. It waits for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{CaseMap, How, Stopper};
use tokio::sync::mpsc;

use super::console_modes::Modes;
use super::guests::Guest;
use super::news::{Author, Change, Did, News, What};
use super::place::Place;

/// News that wait for a slow reader; who has more waiting is let go.
pub const QUEUE: usize = 1024;

/// How somebody is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// The terminal.
    Console,
    /// Plain lines.
    Telnet,
    /// An IRC client.
    Irc,
    /// An IRC client in a page.
    Web,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Its number, never used again.
    pub idx: u32,
    /// Its name in this room.
    pub nick: Arc<str>,
    /// Whose.
    pub handle: Arc<str>,
    /// From where.
    pub host: Arc<str>,
    /// How it is connected.
    pub face: Face,
    /// Eggdrop's sign for how much they are.
    pub icon: char,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it last said something.
    pub spoke: DateTime<Utc>,
    /// Why it is away.
    pub away: Option<Arc<str>>,
    /// Where it is.
    pub places: BTreeSet<Place>,
    /// What of the log it sees.
    pub modes: Modes,
    /// How many lines of answers it sees at once, where it is no client that scrolls; 0 is all.
    pub page: usize,
    /// Whether its own words are shown to it, where it is no client that shows them.
    pub echo: bool,
    to: mpsc::Sender<Arc<News>>,
    cut: Stopper,
}

/// Somebody comes in.
#[derive(Debug)]
pub struct Entry {
    /// The name that is wanted.
    pub nick: String,
    /// Whose login it is.
    pub handle: String,
    /// From where.
    pub host: String,
    /// How.
    pub face: Face,
    /// Eggdrop's sign for how much they are.
    pub icon: char,
    /// What of the log they want to see.
    pub modes: Modes,
}

/// Everybody, and what is still to be told to binds and to linked bots.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) bot: Arc<str>,
    sessions: BTreeMap<u32, Session>,
    /// By their bot, in lower case: names of bots have none; and the number of their session there.
    pub(super) guests: BTreeMap<(String, u32), Guest>,
    topics: BTreeMap<Place, String>,
    /// What happened and was not taken yet.
    pub(super) changes: Vec<Change>,
    /// Who had no room for news, and has to go.
    slow: Vec<u32>,
    last_idx: u32,
    last_news: u64,
    let_go: u64,
}

impl Room {
    pub(super) fn new(bot: &str) -> Room {
        Room {
            bot: Arc::from(bot),
            sessions: BTreeMap::new(),
            guests: BTreeMap::new(),
            topics: BTreeMap::new(),
            changes: Vec::new(),
            slow: Vec::new(),
            last_idx: 0,
            last_news: 0,
            let_go: 0,
        }
    }

    /// Lets somebody in; gives the number, and where the news come from.
    pub(super) fn enter(&mut self, entry: Entry, cut: Stopper, now: DateTime<Utc>) -> (u32, mpsc::Receiver<Arc<News>>) {
        let (to, from) = mpsc::channel(QUEUE);
        self.last_idx += 1;
        let idx = self.last_idx;
        let nick = self.free_nick(&entry.nick);
        let host: Arc<str> = Arc::from(entry.host);
        let session = Session {
            idx,
            nick,
            handle: Arc::from(entry.handle),
            host: Arc::clone(&host),
            face: entry.face,
            icon: entry.icon,
            since: now,
            spoke: now,
            away: None,
            places: BTreeSet::new(),
            modes: entry.modes,
            page: 0,
            echo: false,
            to,
            cut,
        };
        self.changed(idx, &session.handle, Did::Entered { host });
        self.sessions.insert(idx, session);
        (idx, from)
    }

    /// A name that nobody has: a second session of a handle is `handle~2`, which no handle can be.
    fn free_nick(&self, wanted: &str) -> Arc<str> {
        let mut nick = wanted.to_owned();
        let mut count = 1;
        while CaseMap::Rfc1459.eq(&nick, &self.bot) || self.find(&nick).is_some() {
            count += 1;
            nick = format!("{wanted}~{count}");
        }
        Arc::from(nick)
    }

    /// Somebody leaves. Nothing happens if they have left already.
    pub(super) fn leave(&mut self, idx: u32, reason: &str, now: DateTime<Utc>) {
        let Some(session) = self.sessions.remove(&idx) else { return };
        let from = author(&session);
        session.cut.stop();
        for channel in session.places.iter().filter_map(Place::number) {
            self.changed(idx, &session.handle, Did::Parted { channel, reason: reason.to_owned() });
        }
        self.changed(idx, &session.handle, Did::Left { reason: reason.to_owned() });
        let neighbours: Vec<u32> = self
            .sessions
            .values()
            .filter(|other| !other.places.is_disjoint(&session.places))
            .map(|other| other.idx)
            .collect();
        let news = self.news(from, What::Left { reason: reason.to_owned() }, now);
        self.spread(&neighbours, &news);
    }

    /// Somebody goes to a place; whether they were not there yet.
    pub(super) fn join(&mut self, idx: u32, place: &Place, now: DateTime<Utc>) -> bool {
        let Some(session) = self.sessions.get_mut(&idx) else { return false };
        if !session.places.insert(place.clone()) {
            return false;
        }
        let from = author(session);
        if let Some(channel) = place.number() {
            let (handle, host, icon) = (Arc::clone(&session.handle), Arc::clone(&session.host), session.icon);
            self.changed(idx, &handle, Did::Joined { channel, icon, host });
        }
        self.tell_place(place, from, What::Joined { place: place.clone() }, now);
        true
    }

    /// Somebody leaves a place; whether they were there.
    pub(super) fn part(&mut self, idx: u32, place: &Place, reason: &str, now: DateTime<Utc>) -> bool {
        let Some(session) = self.sessions.get(&idx).filter(|session| session.places.contains(place)) else {
            return false;
        };
        let (from, handle) = (author(session), Arc::clone(&session.handle));
        if let Some(channel) = place.number() {
            self.changed(idx, &handle, Did::Parted { channel, reason: reason.to_owned() });
        }
        // They hear of it themselves too.
        let what = What::Parted { place: place.clone(), reason: reason.to_owned() };
        self.tell_place(place, from, what, now);
        if let Some(session) = self.sessions.get_mut(&idx) {
            session.places.remove(place);
        }
        true
    }

    /// Somebody says something in a place they are in; the number of the news.
    pub(super) fn say(&mut self, idx: u32, place: &Place, text: &str, how: How, now: DateTime<Utc>) -> Option<u64> {
        let session = self.sessions.get_mut(&idx).filter(|session| session.places.contains(place))?;
        session.spoke = now;
        let (from, handle) = (author(session), Arc::clone(&session.handle));
        if let Some(channel) = place.number() {
            self.changed(idx, &handle, Did::Said { channel, text: text.to_owned(), act: how == How::Act });
        }
        Some(self.tell_place(place, from, What::Said { place: place.clone(), text: text.to_owned(), how }, now))
    }

    /// Words for one person; the number of the news, or nothing if nobody has this name. Who speaks hears it too.
    pub(super) fn whisper(&mut self, from: Author, to: &str, text: &str, how: How, now: DateTime<Utc>) -> Option<u64> {
        let (target, nick) = self.find(to).map(|session| (session.idx, Arc::clone(&session.nick)))?;
        let own = from.idx.filter(|idx| *idx != target);
        if let Some(session) = from.idx.and_then(|idx| self.sessions.get_mut(&idx)) {
            session.spoke = now;
        }
        let news = self.news(from, What::Whisper { to: nick, text: text.to_owned(), how }, now);
        let both: Vec<u32> = std::iter::once(target).chain(own).collect();
        self.spread(&both, &news);
        Some(news.id)
    }

    /// Words of a person for the bot: only the person hears them again.
    pub(super) fn for_bot(&mut self, idx: u32, text: &str, how: How, now: DateTime<Utc>) -> Option<u64> {
        let session = self.sessions.get_mut(&idx)?;
        session.spoke = now;
        let from = author(session);
        let what = What::Whisper { to: Arc::clone(&self.bot), text: text.to_owned(), how };
        let news = self.news(from, what, now);
        self.spread(&[idx], &news);
        Some(news.id)
    }

    /// Something happens in a place, for everybody there.
    pub(super) fn tell_place(&mut self, place: &Place, from: Author, what: What, now: DateTime<Utc>) -> u64 {
        let there: Vec<u32> = self
            .sessions
            .values()
            .filter(|session| session.places.contains(place))
            .map(|session| session.idx)
            .collect();
        let news = self.news(from, what, now);
        self.spread(&there, &news);
        news.id
    }

    /// Something that everybody hears.
    pub(super) fn tell_all(&mut self, from: Author, what: What, now: DateTime<Utc>) {
        let all: Vec<u32> = self.sessions.keys().copied().collect();
        let news = self.news(from, what, now);
        self.spread(&all, &news);
    }

    /// Something that one session hears; its number.
    pub(super) fn tell(&mut self, idx: u32, from: Author, what: What, now: DateTime<Utc>) -> u64 {
        let news = self.news(from, what, now);
        self.spread(&[idx], &news);
        news.id
    }

    /// Somebody is away, or back.
    pub(super) fn away(&mut self, idx: u32, reason: Option<&str>, now: DateTime<Utc>) {
        let reason: Option<Arc<str>> = reason.filter(|reason| !reason.is_empty()).map(Arc::from);
        let Some(session) = self.sessions.get_mut(&idx).filter(|session| session.away != reason) else { return };
        session.away.clone_from(&reason);
        let (from, handle, places) = (author(session), Arc::clone(&session.handle), session.places.clone());
        self.changed(idx, &handle, Did::Away { reason: reason.clone() });
        let near = |session: &&Session| session.idx == idx || !session.places.is_disjoint(&places);
        let near: Vec<u32> = self.sessions.values().filter(near).map(|session| session.idx).collect();
        let news = self.news(from, What::Away { reason }, now);
        self.spread(&near, &news);
    }

    /// A record has another handle: its sessions follow.
    pub(super) fn rename(&mut self, moves: &[(String, String)], now: DateTime<Utc>) {
        // Whose each is before any has changed: one may take the handle that another leaves.
        let to = |handle: &str| moves.iter().find(|(old, _)| old.eq_ignore_ascii_case(handle));
        let theirs = self.sessions.values().filter_map(|one| to(&one.handle).map(|(_, new)| (one.idx, new)));
        for (idx, new) in theirs.collect::<Vec<_>>() {
            let nick = self.free_nick(new);
            let Some(session) = self.sessions.get_mut(&idx) else { continue };
            let (from, before) = (author(session), Arc::clone(&session.handle));
            (session.handle, session.nick) = (Arc::from(new.as_str()), Arc::clone(&nick));
            let handle = Arc::clone(&session.handle);
            self.changed(idx, &handle, Did::Renamed { old: before });
            self.tell_all(from, What::Renamed { to: nick }, now);
        }
    }

    pub(super) fn set_topic(&mut self, place: &Place, text: &str, from: Author, now: DateTime<Utc>) {
        self.topics.insert(place.clone(), text.to_owned());
        self.tell_place(place, from, What::Topic { place: place.clone(), text: text.to_owned() }, now);
    }

    pub(super) fn topic(&self, place: &Place) -> &str {
        self.topics.get(place).map_or("", String::as_str)
    }

    /// The session of a name.
    pub(super) fn find(&self, nick: &str) -> Option<&Session> {
        self.sessions.values().find(|session| CaseMap::Rfc1459.eq(&session.nick, nick))
    }

    pub(super) fn session(&self, idx: u32) -> Option<&Session> {
        self.sessions.get(&idx)
    }

    pub(super) fn session_mut(&mut self, idx: u32) -> Option<&mut Session> {
        self.sessions.get_mut(&idx)
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// How many were let go because they did not read.
    pub(super) fn let_go(&self) -> u64 {
        self.let_go
    }

    /// The least important level of the log that anybody wants.
    pub(super) fn wanted_level(&self) -> Option<tracing::Level> {
        self.sessions.values().filter(|session| !session.modes.is_empty()).map(|session| session.modes.level()).max()
    }

    /// Whether anybody wants any of these letters.
    pub(super) fn wants_any(&self, letters: &str) -> bool {
        self.sessions.values().any(|session| session.modes.wants_any(letters))
    }

    /// What happened since this was last asked.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn changed(&mut self, idx: u32, handle: &Arc<str>, what: Did) {
        self.changes.push(Change { bot: None, idx, handle: Arc::clone(handle), what });
    }

    fn news(&mut self, from: Author, what: What, now: DateTime<Utc>) -> Arc<News> {
        self.last_news += 1;
        Arc::new(News { id: self.last_news, at: now, from, what })
    }

    /// Gives news to sessions. Who has no room left for it reads too slowly and has to go; the others do not wait.
    fn spread(&mut self, to: &[u32], news: &Arc<News>) {
        for idx in to {
            let Some(session) = self.sessions.get(idx) else { continue };
            if session.to.try_send(Arc::clone(news)).is_err() && !self.slow.contains(idx) {
                self.slow.push(*idx);
            }
        }
    }

    /// Lets those go who had no room. What is told about one may be too much for another: each time one fewer is here.
    pub(super) fn let_slow_go(&mut self, now: DateTime<Utc>) {
        while let Some(idx) = self.slow.pop() {
            self.let_go += 1;
            self.leave(idx, "does not read", now);
        }
    }
}

/// A session as others see it.
pub(super) fn author(session: &Session) -> Author {
    Author {
        idx: Some(session.idx),
        nick: Arc::clone(&session.nick),
        handle: Arc::clone(&session.handle),
        host: Arc::clone(&session.host),
    }
}

/// A bot as people see it.
pub(super) fn bare(bot: &Arc<str>) -> Author {
    Author { idx: None, nick: Arc::clone(bot), handle: Arc::clone(bot), host: Arc::from("bot") }
}
