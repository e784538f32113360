//! Lines of a peer that tell of people: who comes, goes and speaks on other partylines.

use super::super::book::{Full, Member, PeerId};
use super::super::message::{Message, When};
use super::super::name::{Address, BotName, Word};
use super::super::news::News;
use super::{MANY_PEOPLE, Net};

impl Net {
    /// Somebody on another partyline. Nothing of this passes where a link is isolated.
    pub(super) fn of_people(&mut self, id: PeerId, message: Message) {
        let bot = match &message {
            Message::Join { bot, .. }
            | Message::Part { bot, .. }
            | Message::Nick { bot, .. }
            | Message::Away { bot, .. }
            | Message::Idle { bot, .. }
            | Message::Chat { bot, .. } => bot,
            Message::Chan { from, .. } | Message::Act { from, .. } => &from.bot,
            _ => return,
        };
        let bot = bot.clone();
        if self.is_isolated(id) || !self.is_behind(id, &bot) {
            return;
        }
        // What is told while a link comes up is not announced, whether it says so or not.
        let telling = self.peers.get(&id).is_some_and(|linked| linked.telling);
        let real = |when: When| if telling { When::Before } else { when };
        let passes = match message.clone() {
            Message::Join { when, nick, chan, icon, sock, host, .. } => {
                let active = self.now;
                let member = Member { bot, sock, nick, chan, icon, host, away: None, active };
                self.comes(id, member, real(when))
            }
            Message::Part { when, sock, reason, .. } => self.goes(&bot, sock, reason, real(when)),
            Message::Nick { sock, nick, .. } => self.is_renamed(id, &bot, sock, nick),
            Message::Away { when, sock, text, .. } => self.is_away(id, &bot, sock, &text, real(when)),
            Message::Idle { sock, secs, away, .. } => self.is_idle(&bot, sock, secs, &away),
            Message::Chan { from, chan, text } => self.says(id, &from, chan, text, false),
            Message::Act { from, chan, text } => self.says(id, &from, chan, text, true),
            Message::Chat { text, .. } => {
                self.news(News::BotSaid { bot, chan: None, text });
                true
            }
            _ => false,
        };
        if passes {
            self.flood(Some(id), true, &message);
        }
    }

    fn comes(&mut self, id: PeerId, member: Member, when: When) -> bool {
        let public = self.is_public(member.chan);
        let before = loop {
            match self.book.join(member.clone()) {
                Ok(_) if !public => return false,
                Ok(before) => break before,
                Err(Full { pays: Some(pays) }) if pays != id => self.ends_for_many(pays, MANY_PEOPLE),
                Err(Full { .. }) => {
                    self.ends_for_many(id, MANY_PEOPLE);
                    return false;
                }
            }
        };
        match before {
            Some(before) if before.chan != member.chan => {
                let from = before.chan;
                let member = Member { away: before.away, ..member };
                if let Some(now) = self.book.member_mut(&member.bot, member.sock) {
                    now.away.clone_from(&member.away);
                }
                self.news(News::Moved { member, from });
            }
            // The same again is no news, but may be somebody else in the session of one whose end was not told.
            Some(before) if before.nick == member.nick => {}
            _ => self.news(News::Joined { member, when }),
        }
        true
    }

    fn goes(&mut self, bot: &BotName, sock: u32, reason: String, when: When) -> bool {
        let Some(member) = self.book.part(bot, sock) else { return false };
        self.news(News::Left { member, reason, when });
        true
    }

    fn is_renamed(&mut self, id: PeerId, bot: &BotName, sock: u32, nick: Word) -> bool {
        let Some(member) = self.book.member_mut(bot, sock) else {
            self.fake(id, &format!("sock# != {sock}"));
            return false;
        };
        let old = std::mem::replace(&mut member.nick, nick);
        let member = member.clone();
        self.news(News::Renamed { member, old });
        true
    }

    fn is_away(&mut self, id: PeerId, bot: &BotName, sock: u32, text: &str, when: When) -> bool {
        let Some(member) = self.book.member_mut(bot, sock) else {
            self.fake(id, &format!("sock# != {sock}"));
            return false;
        };
        member.away = (!text.is_empty()).then(|| text.to_owned());
        let member = member.clone();
        self.news(News::Away { member, when });
        true
    }

    fn is_idle(&mut self, bot: &BotName, sock: u32, secs: u32, away: &str) -> bool {
        let now = self.now;
        let Some(member) = self.book.member_mut(bot, sock) else { return false };
        member.active = now - i64::from(secs) * 1000;
        if !away.is_empty() {
            member.away = Some(away.to_owned());
        }
        true
    }

    /// Words of a person whom its bot has told of, or of a bot.
    fn says(&mut self, id: PeerId, from: &Address, chan: u32, text: String, act: bool) -> bool {
        if !self.is_public(chan) {
            return false;
        }
        let Some(user) = &from.user else {
            self.news(News::BotSaid { bot: from.bot.clone(), chan: Some(chan), text });
            return true;
        };
        let Some(sock) = self.book.named(&from.bot, user.as_str()).map(|member| member.sock) else {
            self.fake(id, &format!("user != {user}"));
            return false;
        };
        let now = self.now;
        if let Some(member) = self.book.member_mut(&from.bot, sock) {
            member.active = now;
            let member = member.clone();
            self.news(News::Said { member, chan, text, act });
        }
        true
    }
}
