//! The net as one bot sees it: links, the book, and what a line of a peer does. Pure: it is told what comes and says what to do.
//!
//! No line goes back over the link it came from, and the book stays a tree, so that no line goes round. What names a bot
//! has to come over the link that leads to that bot.

mod asked;
mod local;
mod party;
mod share;
mod take;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use masterchief_contract::Secret;

use super::book::{Book, Bot, BotFault, PeerId};
use super::gift::Offer;
use super::message::{Message, When};
use super::name::{Address, BotName};
use super::news::{News, Note};
use super::records::Attrs;
use super::trust::Trust;

pub use local::SendFault;

/// A peer is told at most this often that it has sent what cannot be (milliseconds).
const TELL_AGAIN: i64 = 10_000;
/// The last words to a leaf that brings others.
const LEAF: &str = "You are supposed to be a leaf!";
/// The last words to one that tells of more bots, or people, than there is room for.
const MANY_BOTS: &str = "There are too many bots.";
const MANY_PEOPLE: &str = "There are too many people.";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mesh) enum Effect {
    /// Send a line.
    Send {
        /// Over which link.
        to: PeerId,
        /// Without its ending.
        line: Arc<str>,
        /// Whether it is talk, which a link that is behind may do without.
        talk: bool,
    },
    /// End a link after what is sent. It is out of the book already.
    Close {
        /// Which.
        peer: PeerId,
        /// Why, for the log.
        reason: String,
    },
    /// Tell the house.
    News(News),
    /// Give a note to somebody here, and answer with what became of it.
    Note(Note),
    /// The password of a link is another from now on.
    Password {
        /// With whom.
        bot: BotName,
        /// What it is.
        password: Secret,
    },
    /// Link with a bot because somebody asked who may.
    Dial {
        /// With which.
        bot: BotName,
        /// Who is told what became of it.
        asked: Address,
    },
    /// Fetch the user file of a peer, which may be taken.
    Fetch {
        /// Whose.
        peer: PeerId,
        /// Where.
        offer: Offer,
    },
    /// What a peer tells of its people behind its file.
    Gives {
        /// Which.
        peer: PeerId,
        /// The line, without what stands before all of these.
        line: String,
    },
    /// Nothing more of the people of a peer is taken.
    GivesNoMore {
        /// Of which.
        peer: PeerId,
    },
    /// Something for the log and the operators.
    Warn {
        /// Of whom.
        peer: BotName,
        /// What.
        text: String,
    },
}

/// What the net has to ask the house.
pub trait Judge: Send + Sync + 'static {
    /// Whether a person of ours by this handle may link and unlink bots and send people off, by the word of a bot that counts of
    /// these people: Eggdrop's botmaster.
    fn is_botmaster(&self, handle: &str, trust: Trust) -> bool;
}

/// What we tell of ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Our version in words: `MasterChief v0.1.0 <net>`.
    pub about: String,
    /// Who is responsible.
    pub admin: String,
    /// The message of the day.
    pub motd: Vec<String>,
    /// When we began: Unix milliseconds.
    pub since: i64,
}

/// A link that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// With whom.
    pub bot: BotName,
    /// Its version.
    pub version: u32,
    /// In words.
    pub about: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its address, where that is known.
    pub at: Option<IpAddr>,
    /// Whether we called.
    pub called: bool,
    /// How many bytes handles have on it.
    pub handlen: usize,
    /// Whether it may give us a new password: it was proven to be who it is, or we had none.
    pub may_rekey: bool,
    /// Since when: Unix milliseconds.
    pub since: i64,
}

struct Linked {
    peer: Peer,
    attrs: Attrs,
    /// Until it has told all.
    telling: bool,
    /// When it was last told that it lies.
    told: Option<i64>,
    /// Its user file.
    giving: share::Giving,
}

/// The net.
pub(in crate::mesh) struct Net {
    me: BotName,
    facts: Facts,
    book: Book,
    peers: BTreeMap<PeerId, Linked>,
    records: BTreeMap<BotName, Attrs>,
    /// Whose user file could not be taken, and until when it is not tried again.
    untaken: BTreeMap<BotName, i64>,
    judge: Arc<dyn Judge>,
    /// Ways that our people have asked for, by session and second: nothing else is an answer.
    traces: VecDeque<(u32, i64)>,
    effects: Vec<Effect>,
    now: i64,
}

impl Net {
    /// One that is alone.
    pub(in crate::mesh) fn new(me: BotName, facts: Facts, judge: Arc<dyn Judge>) -> Net {
        let book = Book::new(me.clone());
        let (peers, records, untaken) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let traces = VecDeque::new();
        Net { me, facts, book, peers, records, untaken, judge, traces, effects: Vec::new(), now: 0 }
    }

    /// What is known of bots. Links that are up are held to it from now on: one that is rejected ends, and so does a leaf that has
    /// brought others. One that is isolated from now on, or no more, is made anew, so that both sides know the same.
    pub(in crate::mesh) fn know(&mut self, records: BTreeMap<BotName, Attrs>) -> Vec<Effect> {
        self.records = records;
        let mut ends = Vec::new();
        for (id, linked) in &mut self.peers {
            let attrs = self.records.get(&linked.peer.bot).copied().unwrap_or_default();
            let was = std::mem::replace(&mut linked.attrs, attrs);
            let brings = || self.book.bots().any(|bot| bot.via == *id && bot.name != linked.peer.bot);
            if attrs.reject {
                ends.push((*id, None, "rejected"));
            } else if attrs.leaf && brings() {
                ends.push((*id, Some(LEAF.to_owned()), "Illegal link by leaf"));
            } else if was.isolate != attrs.isolate {
                ends.push((*id, None, "restructure"));
            }
        }
        for (id, error, reason) in ends {
            self.end(id, error, reason);
        }
        self.holds_to_takes();
        std::mem::take(&mut self.effects)
    }

    /// The book.
    pub(in crate::mesh) fn book(&self) -> &Book {
        &self.book
    }

    /// The links.
    pub(in crate::mesh) fn peers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().map(|(id, linked)| (*id, &linked.peer))
    }

    /// A link has come up: everything is told to it, and of it to the others.
    pub(in crate::mesh) fn up(&mut self, id: PeerId, peer: Peer, now: i64) -> Vec<Effect> {
        self.now = now;
        let attrs = self.records.get(&peer.bot).copied().unwrap_or_default();
        if let Err(reason) = self.fits(&peer).and_then(|()| self.takes(&peer, id)) {
            self.effects.extend(Net::refuse(id, &reason));
            return std::mem::take(&mut self.effects);
        }
        let (bot, version) = (peer.bot.clone(), peer.version);
        self.effects.push(send(id, &Message::ThisBot(self.me.clone()), false));
        let news = Message::Bot { bot: bot.clone(), uplink: self.me.clone(), share: '!', version };
        self.flood(None, false, &news);
        self.peers.insert(id, Linked { peer, attrs, telling: true, told: None, giving: share::Giving::default() });
        self.dump(id, &bot, attrs);
        self.news(News::Linked { bot, via: self.me.clone() });
        self.effects.push(send(id, &Message::EndLink, false));
        std::mem::take(&mut self.effects)
    }

    /// The last words to one that is not linked.
    pub(in crate::mesh) fn refuse(id: PeerId, reason: &str) -> Vec<Effect> {
        let words = [Message::Error(reason.to_owned()), Message::Bye(reason.to_owned())];
        let close = Effect::Close { peer: id, reason: reason.to_owned() };
        words.iter().map(|word| send(id, word, false)).chain([close]).collect()
    }

    /// Whether a link can speak of all bots there are.
    fn fits(&self, peer: &Peer) -> Result<(), String> {
        let all = self.book.bots().map(|bot| &bot.name).chain([&self.me]);
        match all.into_iter().find(|name| name.as_str().len() > peer.handlen) {
            Some(long) => Err(format!("Non-matching handle length: {long} is longer than {}", peer.handlen)),
            None => Ok(()),
        }
    }

    fn takes(&mut self, peer: &Peer, id: PeerId) -> Result<(), String> {
        loop {
            match self.book.link(peer.bot.clone(), id, peer.version) {
                Ok(()) => return Ok(()),
                Err(BotFault::TooMany(pays)) if pays != id => self.ends_for_many(pays, MANY_BOTS),
                Err(BotFault::TooMany(_)) => return Err(MANY_BOTS.to_owned()),
                Err(BotFault::Loop | BotFault::Bogus) => {
                    return Err(format!("Loop ({}): it is in the net already", peer.bot));
                }
            }
        }
    }

    /// A link that tells of more than there is room for is ended, so that others find room.
    fn ends_for_many(&mut self, pays: PeerId, words: &str) {
        if let Some(linked) = self.peers.get(&pays) {
            let (peer, text) = (linked.peer.bot.clone(), format!("it is not linked any more: {words}"));
            self.effects.push(Effect::Warn { peer, text });
        }
        self.end(pays, Some(words.to_owned()), words);
    }

    /// Tells a new link of all bots and people.
    fn dump(&mut self, id: PeerId, to: &BotName, attrs: Attrs) {
        let mut lines: Vec<Message> = Vec::new();
        for bot in self.book.parents_first().into_iter().filter(|bot| bot.name != *to) {
            let (bot, uplink, share, version) = (bot.name.clone(), bot.uplink.clone(), bot.share, bot.version);
            lines.push(Message::Bot { bot, uplink, share, version });
        }
        let members = self.book.members().filter(|member| !attrs.isolate && self.is_public(member.chan));
        for member in members {
            let when = if member.bot == self.me { When::Before } else { When::Now };
            lines.push(local::join_line(member, when));
            let secs = u32::try_from((self.now - member.active) / 1000).unwrap_or(0);
            let (bot, sock, away) = (member.bot.clone(), member.sock, member.away.clone().unwrap_or_default());
            lines.push(Message::Idle { bot, sock, secs, away });
        }
        self.effects.extend(lines.iter().map(|line| send(id, line, false)));
    }

    fn is_public(&self, chan: u32) -> bool {
        chan < super::news::LOCAL_CHANNELS
    }

    /// What we tell of ourselves is another from now on.
    pub(in crate::mesh) fn tell_of(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// When we began: Unix milliseconds.
    pub(in crate::mesh) fn since(&self) -> i64 {
        self.facts.since
    }

    /// A link is encrypted from now on; gives with whom.
    pub(in crate::mesh) fn encrypted(&mut self, id: PeerId) -> Option<BotName> {
        let linked = self.peers.get_mut(&id)?;
        linked.peer.encrypted = true;
        Some(linked.peer.bot.clone())
    }

    /// A link has ended: what was behind it is gone.
    pub(in crate::mesh) fn down(&mut self, id: PeerId, reason: &str, now: i64) -> Vec<Effect> {
        self.now = now;
        self.remove(id, reason);
        std::mem::take(&mut self.effects)
    }

    /// Ends a link with a goodbye.
    pub(in crate::mesh) fn cut(&mut self, id: PeerId, reason: &str, now: i64) -> Vec<Effect> {
        self.now = now;
        self.end(id, None, reason);
        std::mem::take(&mut self.effects)
    }

    /// Ends a link, with an error told before it.
    fn end(&mut self, id: PeerId, error: Option<String>, reason: &str) {
        if !self.peers.contains_key(&id) {
            return;
        }
        if let Some(error) = &error {
            self.effects.push(send(id, &Message::Error(error.clone()), false));
        }
        self.effects.push(send(id, &Message::Bye(reason.to_owned()), false));
        let why = error.unwrap_or_else(|| reason.to_owned());
        self.effects.push(Effect::Close { peer: id, reason: why.clone() });
        self.remove(id, &why);
    }

    /// Takes a link out of the book and tells everybody.
    fn remove(&mut self, id: PeerId, reason: &str) {
        let Some(linked) = self.peers.remove(&id) else { return };
        self.lose(&linked.peer.bot, reason);
        self.flood(None, false, &Message::Gone { bot: linked.peer.bot, text: reason.to_owned() });
    }

    /// Takes a bot and what is behind it out of the book, and tells the house.
    fn lose(&mut self, bot: &BotName, reason: &str) {
        let (bots, members) = self.book.cut(bot);
        for member in members {
            self.news(News::Left { member, reason: reason.to_owned(), when: When::Now });
        }
        for gone in bots {
            self.news(News::Lost { bot: gone.name, reason: reason.to_owned() });
        }
    }

    /// What became of something that was asked for: a line to whoever asked.
    pub(in crate::mesh) fn answer(&mut self, to: &Address, text: &str, now: i64) -> Vec<Effect> {
        self.now = now;
        self.reply(to, text);
        std::mem::take(&mut self.effects)
    }

    /// An answer of ours, wherever who asked is.
    fn reply(&mut self, to: &Address, text: &str) {
        let Some(user) = to.user.clone() else { return };
        if to.bot == self.me {
            self.news(News::Answer { from: self.me.clone(), user, sock: to.sock, text: text.to_owned() });
            return;
        }
        let from = Address::bot(self.me.clone());
        self.route(None, &to.bot, &Message::Priv { from, to: to.clone(), text: text.to_owned() });
    }

    /// Sends to all links but one; `iso` lines not to those that are isolated.
    fn flood(&mut self, except: Option<PeerId>, iso: bool, message: &Message) {
        let line: Arc<str> = Arc::from(message.to_string());
        // Who is where has to arrive; what they say need not.
        let talk = matches!(message, Message::Chan { .. } | Message::Act { .. } | Message::Chat { .. });
        for (id, linked) in &self.peers {
            if Some(*id) != except && !(iso && linked.attrs.isolate) {
                self.effects.push(Effect::Send { to: *id, line: Arc::clone(&line), talk });
            }
        }
    }

    /// Sends towards a bot, never back to where it came from; whether there is a way.
    fn route(&mut self, from: Option<PeerId>, to: &BotName, message: &Message) -> bool {
        match self.book.via(to) {
            Some(via) if Some(via) != from => {
                self.effects.push(send(via, message, false));
                true
            }
            _ => false,
        }
    }

    fn news(&mut self, news: News) {
        self.effects.push(Effect::News(news));
    }

    /// Whether every bot between a person and us is trusted to say who that is, the person is on its partyline, and may.
    fn is_vouched_botmaster(&self, who: &Address) -> bool {
        let Some(user) = &who.user else { return false };
        self.book.named(&who.bot, user.as_str()).is_some()
            && self.judge.is_botmaster(user.as_str(), self.trust(&who.bot))
    }

    /// Of whom the word of a bot counts here, as that of it and of all between it and us does.
    pub(in crate::mesh) fn trust(&self, bot: &BotName) -> Trust {
        let of = |name: &&BotName| self.records.get(*name).map_or(Trust::Nobody, |attrs| attrs.trust);
        self.book.way(bot).iter().map(of).reduce(Trust::through).unwrap_or_default()
    }

    /// Whether a bot is the one it says: it is linked with us, or all between are trusted.
    pub(in crate::mesh) fn is_proven(&self, bot: &BotName) -> bool {
        let trusted = |name: &&BotName| self.records.get(*name).is_some_and(|attrs| attrs.trust.is_any());
        self.book.way(bot).split_first().is_some_and(|(_, between)| between.iter().all(trusted))
    }

    /// Whether a bot and all between it and us are of us.
    pub(in crate::mesh) fn is_ours_all_the_way(&self, bot: &BotName) -> bool {
        self.book.way(bot).iter().all(|name| self.book.bot(name).is_some_and(Bot::is_ours))
    }
}

/// One line for one link.
fn send(to: PeerId, message: &Message, talk: bool) -> Effect {
    Effect::Send { to, line: Arc::from(message.to_string()), talk }
}

#[cfg(test)]
mod tests;
