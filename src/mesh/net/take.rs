//! What a line of a peer does: the table of lines, and those that tell of bots.

use super::super::book::{Bot, BotFault, PeerId};
use super::super::message::Message;
use super::super::name::{Address, BotName};
use super::super::news::{News, Note};
use super::{Effect, LEAF, MANY_BOTS, Net, TELL_AGAIN, send};

impl Net {
    /// Takes a line of a link. What comes from a link that is no more is nothing.
    pub(in crate::mesh) fn take(&mut self, id: PeerId, message: Message, now: i64) -> Vec<Effect> {
        self.now = now;
        if self.peers.contains_key(&id) {
            self.decide(id, message);
        }
        std::mem::take(&mut self.effects)
    }

    fn decide(&mut self, id: PeerId, message: Message) {
        match message {
            Message::Bot { .. } | Message::Gone { .. } | Message::Update { .. } => self.of_bots(id, message),
            Message::Zapf { .. } | Message::ZapfBroad { .. } => self.of_scripts(id, message),
            Message::Priv { .. } => self.private(id, message),
            Message::File { .. } => self.of_files(id, message),
            Message::Join { .. }
            | Message::Part { .. }
            | Message::Nick { .. }
            | Message::Away { .. }
            | Message::Idle { .. }
            | Message::Chan { .. }
            | Message::Act { .. }
            | Message::Chat { .. } => self.of_people(id, message),
            Message::Who { .. }
            | Message::Info { .. }
            | Message::Motd { .. }
            | Message::Modules { .. }
            | Message::Trace { .. }
            | Message::Traced { .. }
            | Message::Link { .. }
            | Message::Unlink { .. }
            | Message::Reject { .. } => self.asked(id, message),
            Message::ThisBot(bot) => self.is_this(id, &bot),
            Message::EndLink => {
                if let Some(linked) = self.peers.get_mut(&id) {
                    linked.telling = false;
                }
            }
            Message::Handshake(password) => self.rekey(id, password),
            Message::Share(text) => self.share(id, &text),
            // These concern the connection, which has dealt with them; or a version that we are not.
            Message::Ping
            | Message::Pong
            | Message::Bye(_)
            | Message::ByeBye
            | Message::Error(_)
            | Message::StartTls(_)
            | Message::Unknown(_) => {}
        }
    }

    /// Whether a bot stands behind this link; if not, the peer is told that this cannot be.
    pub(super) fn is_behind(&mut self, id: PeerId, bot: &BotName) -> bool {
        let good = self.book.via(bot) == Some(id);
        if !good {
            self.fake(id, &format!("direction != {bot}"));
        }
        good
    }

    /// Something that cannot be: it is dropped, and the peer told so now and then.
    pub(super) fn fake(&mut self, id: PeerId, what: &str) {
        let now = self.now;
        let Some(linked) = self.peers.get_mut(&id) else { return };
        if linked.told.is_some_and(|told| now - told < TELL_AGAIN) {
            return;
        }
        linked.told = Some(now);
        let peer = linked.peer.bot.clone();
        let text = format!("NOTICE: Fake message rejected ({what})");
        self.effects.push(send(id, &Message::Chat { bot: self.me.clone(), text: text.clone() }, true));
        self.effects.push(Effect::Warn { peer, text });
    }

    /// Whether people's lines pass between a link and us.
    pub(super) fn is_isolated(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|linked| linked.attrs.isolate)
    }

    fn of_bots(&mut self, id: PeerId, message: Message) {
        match &message {
            Message::Bot { bot, uplink, share, version } => self.new_bot(id, bot, uplink, *share, *version, &message),
            Message::Gone { bot, text } => {
                // Its own end a peer tells by ending; of what nobody knows there is nothing to tell.
                let own = self.peers.get(&id).is_some_and(|linked| linked.peer.bot == *bot);
                if self.book.bot(bot).is_none() || own || !self.is_behind(id, bot) {
                    return;
                }
                self.lose(bot, text);
                self.flood(Some(id), false, &message);
            }
            // An Eggdrop that gives its user file says so of whom it gives it.
            Message::Update { bot, .. } if *bot == self.me => {}
            Message::Update { bot, share, version } if self.is_behind(id, bot) => {
                self.book.update(bot, *share, *version);
                self.flood(Some(id), false, &message);
            }
            _ => {}
        }
    }

    fn new_bot(&mut self, id: PeerId, bot: &BotName, uplink: &BotName, share: char, version: u32, message: &Message) {
        let Some(linked) = self.peers.get(&id) else { return };
        if linked.attrs.leaf {
            return self.end(id, Some(LEAF.to_owned()), "Illegal link by leaf");
        }
        // A link whose handles are shorter could not speak of it: the net would not be the same on both sides.
        if let Some(short) = self.peers.values().find(|linked| linked.peer.handlen < bot.as_str().len()) {
            let error = format!("{bot} is longer than the handles of {}", short.peer.bot);
            return self.end(id, Some(error), "bad handlen");
        }
        let row = Bot { name: bot.clone(), via: id, uplink: uplink.clone(), version, share: plain(share) };
        let error = loop {
            break match self.book.put_behind(row.clone()) {
                Ok(()) => None,
                Err(BotFault::Loop) => Some(format!("Loop ({bot})")),
                Err(BotFault::Bogus) => Some(format!("Bogus link notice from ({uplink} -> {bot})")),
                Err(BotFault::TooMany(pays)) if pays != id => {
                    self.ends_for_many(pays, MANY_BOTS);
                    continue;
                }
                Err(BotFault::TooMany(_)) => return self.ends_for_many(id, MANY_BOTS),
            };
        };
        if error.is_some() {
            return self.end(id, error, "Illegal link by leaf");
        }
        self.flood(Some(id), false, message);
        self.news(News::Linked { bot: bot.clone(), via: uplink.clone() });
        if self.records.get(bot).is_some_and(|attrs| attrs.reject) {
            let (from, who) = (Address::bot(self.me.clone()), Address::bot(bot.clone()));
            self.effects.push(send(id, &Message::Reject { from, who, reason: String::new() }, false));
        }
    }

    fn is_this(&mut self, id: PeerId, bot: &BotName) {
        let known = self.peers.get(&id).is_some_and(|linked| linked.peer.bot == *bot);
        if !known {
            self.end(id, None, "imposter");
        }
    }

    /// A new password for a link of ours. Only from one who is proven to be who it is, and only to those who called.
    fn rekey(&mut self, id: PeerId, password: masterchief_contract::Secret) {
        let Some(linked) = self.peers.get_mut(&id) else { return };
        let bot = linked.peer.bot.clone();
        if std::mem::take(&mut linked.peer.may_rekey) {
            self.effects.push(Effect::Password { bot, password });
        } else {
            let text = "it wants another password for this link, which is not taken; if you have set it anew there, \
                        forget it here and link again"
                .to_owned();
            self.effects.push(Effect::Warn { peer: bot, text });
        }
    }

    fn of_scripts(&mut self, id: PeerId, message: Message) {
        match message {
            Message::Zapf { from, to, code, args } if self.is_behind(id, &from) => {
                if to == self.me {
                    self.news(News::Script { from, code, args });
                } else {
                    let at = to.clone();
                    self.route(Some(id), &at, &Message::Zapf { from, to, code, args });
                }
            }
            Message::ZapfBroad { from, code, args } if self.is_behind(id, &from) => {
                self.flood(
                    Some(id),
                    false,
                    &Message::ZapfBroad { from: from.clone(), code: code.clone(), args: args.clone() },
                );
                self.news(News::Script { from, code, args });
            }
            _ => {}
        }
    }

    /// Eggdrops that have a file area ask each other through us; here there is none.
    fn of_files(&mut self, id: PeerId, message: Message) {
        let Message::File { code, from, to, words } = &message else { return };
        if !self.is_behind(id, from) {
            return;
        }
        if *to != self.me {
            self.route(Some(id), to, &message);
            return;
        }
        if let (&'r', Some((who, path))) = (code, words.split_once(' ')) {
            let words = format!("{} {who} I have no files.", path.trim());
            let (from, to) = (self.me.clone(), from.clone());
            self.route(None, &to.clone(), &Message::File { code: '!', from, to, words });
        }
    }

    fn private(&mut self, id: PeerId, message: Message) {
        let Message::Priv { from, to, text } = message else { return };
        if !self.is_behind(id, &from.bot) {
            return;
        }
        if to.bot != self.me {
            let at = to.bot.clone();
            self.route(Some(id), &at, &Message::Priv { from, to, text });
            return;
        }
        let Some(user) = to.user else { return };
        if from.user.is_none() {
            self.news(News::Answer { from: from.bot, user, sock: to.sock, text });
        } else {
            self.effects.push(Effect::Note(Note { from, to: user, text }));
        }
    }
}

/// The share flag of a bot that has just linked is that of any other.
fn plain(share: char) -> char {
    if share == '+' { '+' } else { '-' }
}
