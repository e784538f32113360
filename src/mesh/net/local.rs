//! What happens here, told to the net: our own partyline, our scripts, and what our people ask.

use super::super::book::{Full, Member};
use super::super::message::{Message, TEXT_MAX, When, parts};
use super::super::name::{Address, BotName, Word};
use super::super::news::{Local, Question};
use super::{Effect, Net};

/// Ways that our people have asked for and that may still be told.
const TRACES: usize = 256;

/// Why something is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// Nobody of that name is linked.
    #[error("{0} is not linked; `mesh.bots()` and .bots tell who is")]
    NoSuchBot(BotName),
    /// It does not fit.
    #[error("{0} bytes do not fit into a line, {TEXT_MAX} do; send it in parts")]
    TooLong(usize),
    /// Somebody who is not there.
    #[error("session {0} is not on the partyline; join first")]
    NoSuchSession(u32),
    /// There are too many people in the net.
    #[error("there are too many people in the net")]
    Full,
}

impl Net {
    /// Something happens on our partyline.
    pub(in crate::mesh) fn local(&mut self, local: Local, now: i64) -> Result<Vec<Effect>, SendFault> {
        self.now = now;
        let me = self.me.clone();
        match local {
            Local::Join { sock, nick, chan, icon, host } => {
                let member = Member { bot: me, sock, nick, chan, icon, host, away: None, active: now };
                self.joins(member)?;
            }
            Local::Part { sock, reason } => {
                let member = self.book.part(&me, sock).ok_or(SendFault::NoSuchSession(sock))?;
                if self.is_public(member.chan) {
                    self.part_line(&member, &reason);
                }
            }
            Local::Nick { sock, nick } => {
                let member = self.session(sock)?;
                member.nick = nick.clone();
                let public = member.chan;
                if self.is_public(public) {
                    self.flood(None, true, &Message::Nick { bot: me, sock, nick });
                }
            }
            Local::Away { sock, text } => {
                let member = self.session(sock)?;
                member.away.clone_from(&text);
                let public = member.chan;
                if self.is_public(public) {
                    let text = text.unwrap_or_default();
                    self.flood(None, true, &Message::Away { when: When::Now, bot: me, sock, text });
                }
            }
            Local::Say { sock, text, act } => {
                let member = self.session(sock)?;
                member.active = now;
                let (chan, from) = (member.chan, Address::user(member.nick.clone(), me));
                if self.is_public(chan) {
                    self.say(&from, chan, &text, act);
                }
            }
            Local::Tell { chan: Some(chan), text } if self.is_public(chan) => {
                self.say(&Address::bot(me), chan, &text, false);
            }
            Local::Tell { chan: None, text } => {
                for part in parts(&text, TEXT_MAX) {
                    self.flood(None, true, &Message::Chat { bot: me.clone(), text: part.to_owned() });
                }
            }
            Local::Tell { .. } => {}
        }
        Ok(std::mem::take(&mut self.effects))
    }

    fn session(&mut self, sock: u32) -> Result<&mut Member, SendFault> {
        let me = self.me.clone();
        self.book.member_mut(&me, sock).ok_or(SendFault::NoSuchSession(sock))
    }

    fn joins(&mut self, member: Member) -> Result<(), SendFault> {
        let before = self.book.join(member.clone()).map_err(|Full { .. }| SendFault::Full)?;
        if self.is_public(member.chan) {
            self.flood(None, true, &join_line(&member, When::Now));
        } else if let Some(before) = before.filter(|before| self.is_public(before.chan)) {
            self.part_line(&before, "");
        }
        Ok(())
    }

    fn part_line(&mut self, member: &Member, reason: &str) {
        let (bot, nick, reason) = (member.bot.clone(), member.nick.clone(), first_part(reason));
        self.flood(None, true, &Message::Part { when: When::Now, bot, nick, sock: member.sock, reason });
    }

    fn say(&mut self, from: &Address, chan: u32, text: &str, act: bool) {
        for part in parts(text, TEXT_MAX) {
            let (from, text) = (from.clone(), part.to_owned());
            let message = if act { Message::Act { from, chan, text } } else { Message::Chan { from, chan, text } };
            self.flood(None, true, &message);
        }
    }

    /// A script sends to one bot.
    pub(in crate::mesh) fn zapf(
        &mut self,
        to: &BotName,
        code: Word,
        args: &str,
        now: i64,
    ) -> Result<Vec<Effect>, SendFault> {
        fits(&code, args)?;
        self.frame(to, code, args, now)
    }

    /// The same for what has its own size.
    pub(in crate::mesh) fn frame(
        &mut self,
        to: &BotName,
        code: Word,
        args: &str,
        now: i64,
    ) -> Result<Vec<Effect>, SendFault> {
        self.now = now;
        let message = Message::Zapf { from: self.me.clone(), to: to.clone(), code, args: args.to_owned() };
        match self.route(None, to, &message) {
            true => Ok(std::mem::take(&mut self.effects)),
            false => Err(SendFault::NoSuchBot(to.clone())),
        }
    }

    /// A script sends to all bots; gives to how many.
    pub(in crate::mesh) fn zapf_broad(&mut self, code: Word, args: &str, now: i64) -> Result<Vec<Effect>, SendFault> {
        self.now = now;
        fits(&code, args)?;
        self.flood(None, false, &Message::ZapfBroad { from: self.me.clone(), code, args: args.to_owned() });
        Ok(std::mem::take(&mut self.effects))
    }

    /// Somebody here asks something of others.
    pub(in crate::mesh) fn ask(
        &mut self,
        who: Word,
        sock: u32,
        question: Question,
        now: i64,
    ) -> Result<Vec<Effect>, SendFault> {
        self.now = now;
        let from = Address { sock: Some(sock), user: Some(who), bot: self.me.clone() };
        let to = match &question {
            Question::Who(bot) | Question::Motd(bot) | Question::Trace(bot) | Question::Modules(bot) => {
                Some(bot.clone())
            }
            Question::Link { via, .. } | Question::Unlink { via, .. } => Some(via.clone()),
            Question::Boot { bot, .. } | Question::Note { bot, .. } => Some(bot.clone()),
            Question::Info => None,
        };
        let messages = match question {
            Question::Who(to) => vec![Message::Who { from, to, chan: 0 }],
            Question::Motd(to) => vec![Message::Motd { bold: None, from, to }],
            Question::Info => vec![Message::Info { from }],
            Question::Modules(to) => {
                let who = Address { bot: to.clone(), ..from.clone() }.to_string();
                let who = who.rsplit_once('@').map_or_else(String::new, |(who, _)| who.to_owned());
                vec![Message::Modules { from: from.bot, to, who }]
            }
            Question::Trace(to) => {
                self.traces.push_back((sock, now / 1000));
                if self.traces.len() > TRACES {
                    self.traces.pop_front();
                }
                let chain = format!(":{}:{}", now / 1000, self.me);
                vec![Message::Trace { from, to, chain }]
            }
            Question::Link { via, bot } => vec![Message::Link { from, via, bot }],
            Question::Unlink { via, bot, reason } => {
                vec![Message::Unlink { from, via, bot, reason: first_part(&reason) }]
            }
            Question::Boot { user, bot, reason } => {
                let (from, reason) = (Address { sock: None, ..from }, first_part(&reason));
                vec![Message::Reject { from, who: Address::user(user, bot), reason }]
            }
            Question::Note { user, bot, text } => {
                let to = Address::user(user, bot);
                let one = |part: &&str| Message::Priv { from: from.clone(), to: to.clone(), text: (*part).to_owned() };
                parts(&text, TEXT_MAX).iter().map(one).collect()
            }
        };
        for message in &messages {
            match &to {
                None => self.flood(None, false, message),
                Some(bot) if !self.route(None, bot, message) => return Err(SendFault::NoSuchBot(bot.clone())),
                Some(_) => {}
            }
        }
        Ok(std::mem::take(&mut self.effects))
    }
}

/// The line that says that somebody is on a channel.
pub(super) fn join_line(member: &Member, when: When) -> Message {
    let Member { bot, sock, nick, chan, icon, host, .. } = member.clone();
    Message::Join { when, bot, nick, chan, icon, sock, host }
}

fn fits(code: &Word, args: &str) -> Result<(), SendFault> {
    let len = code.as_str().len() + 1 + args.len();
    if len > TEXT_MAX { Err(SendFault::TooLong(len)) } else { Ok(()) }
}

fn first_part(text: &str) -> String {
    parts(text, TEXT_MAX).first().copied().unwrap_or("").to_owned()
}
