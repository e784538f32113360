//! What people of other bots ask for: who is here, the way, links to be made and ended, people to be sent off.
//!
//! An Eggdrop does what anybody on any bot asks. Here whoever asks has to be a botmaster of ours by the word of bots that
//! are trusted, all the way.

use super::super::book::PeerId;
use super::super::message::Message;
use super::super::name::{Address, BotName};
use super::super::news::News;
use super::{Effect, Net};

/// The longest chain of hops that is carried on, in bytes.
const CHAIN_MAX: usize = 1500;
/// The letter of those who may link and unlink bots and send people off.
const BOTMASTER: char = 't';
/// People of ours that an answer names.
const NAMED: usize = 100;

impl Net {
    pub(super) fn asked(&mut self, id: PeerId, message: Message) {
        // All but the answer to a trace name whoever asks, who has to be behind this link.
        let asks = match &message {
            Message::Who { from, .. }
            | Message::Info { from }
            | Message::Motd { from, .. }
            | Message::Trace { from, .. }
            | Message::Link { from, .. }
            | Message::Unlink { from, .. }
            | Message::Reject { from, .. } => &from.bot,
            Message::Modules { from, .. } => from,
            Message::Traced { to, chain } => return self.traced(id, &to.clone(), chain),
            _ => return,
        };
        if !self.is_behind(id, &asks.clone()) {
            return;
        }
        match &message {
            Message::Info { from } => {
                let text = self.about();
                self.reply(from, &text);
                self.flood(Some(id), false, &message);
            }
            Message::Who { from, to, .. } if *to == self.me => self.tell_who(from),
            Message::Motd { from, to, .. } if *to == self.me => self.tell_motd(from),
            Message::Modules { from, to, who } if *to == self.me => {
                if let Some(to) = Address::parse(&format!("{who}@{from}")) {
                    let text = format!("{} has no modules.", self.facts.about);
                    self.reply(&to, &text);
                }
            }
            Message::Trace { from, to, chain } => self.trace(id, from, to, chain),
            Message::Link { from, via, bot } if *via == self.me => self.may_link(from, bot),
            Message::Unlink { from, via, bot, reason } if *via == self.me => self.may_unlink(from, bot, reason),
            Message::Reject { from, who, reason } => self.rejects(id, from, who, reason, &message),
            Message::Who { to, .. } | Message::Motd { to, .. } | Message::Modules { to, .. } => {
                self.route(Some(id), to, &message);
            }
            Message::Link { via, .. } | Message::Unlink { via, .. } => {
                self.route(Some(id), via, &message);
            }
            _ => {}
        }
    }

    fn about(&self) -> String {
        let minutes = (self.now - self.facts.since).max(0) / 60_000;
        format!("{} [UP {:02}:{:02}]", self.facts.about, minutes / 60, minutes % 60)
    }

    pub(super) fn tell_who(&mut self, to: &Address) {
        let mut lines = vec![format!("Version: {}", self.facts.about)];
        if !self.facts.admin.is_empty() {
            lines.push(format!("Admin: {}", self.facts.admin));
        }
        lines.push("Party line members: (* = owner, + = master, % = botmaster, @ = op, ^ = halfop)".to_owned());
        let members = self.book.of_bot(&self.me).filter(|member| self.is_public(member.chan));
        for member in members.take(NAMED) {
            let away = member.away.as_ref().map(|away| format!(" (away: {away})")).unwrap_or_default();
            lines.push(format!("  {}{:<15} {}{away}", member.icon, member.nick, member.host));
        }
        lines.push("Bots connected:".to_owned());
        for linked in self.peers.values() {
            let arrow = if linked.peer.called { "->" } else { "<-" };
            lines.push(format!("  {arrow} {:<15} {}", linked.peer.bot, linked.peer.about));
        }
        for line in lines {
            self.reply(to, &line);
        }
    }

    pub(super) fn tell_motd(&mut self, to: &Address) {
        for line in self.facts.motd.clone() {
            self.reply(to, &line);
        }
        if self.facts.motd.is_empty() {
            self.reply(to, "There is no message of the day.");
        }
    }

    fn trace(&mut self, id: PeerId, from: &Address, to: &BotName, chain: &str) {
        if chain.len() > CHAIN_MAX {
            return;
        }
        let chain = format!("{chain}:{}", self.me);
        self.route(None, &from.bot, &Message::Traced { to: from.clone(), chain: chain.clone() });
        if *to != self.me {
            self.route(Some(id), to, &Message::Trace { from: from.clone(), to: to.clone(), chain });
        }
    }

    fn traced(&mut self, id: PeerId, to: &Address, chain: &str) {
        if to.bot != self.me {
            self.route(Some(id), &to.bot, &Message::Traced { to: to.clone(), chain: chain.to_owned() });
            return;
        }
        let Some(user) = to.user.clone() else { return };
        let mut hops = chain.trim_start_matches(':').split(':');
        let began = hops.next().and_then(|time| time.parse::<i64>().ok());
        // Whoever was not asked could put any words before anybody.
        let Some(began) =
            began.filter(|began| self.traces.iter().any(|asked| Some(*asked) == to.sock.map(|sock| (sock, *began))))
        else {
            return self.fake(id, "a way nobody asked for");
        };
        let hops: Vec<&str> = hops.collect();
        let secs = (self.now / 1000 - began).max(0);
        let text = format!("Trace result -> {} ({secs} secs, {} hops)", hops.join(":"), hops.len().saturating_sub(1));
        let from = self.me.clone();
        self.news(News::Answer { from, user, sock: to.sock, text });
    }

    fn may_link(&mut self, from: &Address, bot: &BotName) {
        if !self.is_vouched_botmaster(from) {
            return self.reply(from, "You may not make links here.");
        }
        if self.book.bot(bot).is_some() || *bot == self.me {
            return self.reply(from, &format!("{bot} is in the net already."));
        }
        if !self.records.contains_key(bot) {
            return self.reply(from, &format!("{bot} is not known here."));
        }
        self.reply(from, &format!("Attempting to link {bot} ..."));
        self.effects.push(Effect::Dial { bot: bot.clone(), asked: from.clone() });
    }

    fn may_unlink(&mut self, from: &Address, bot: &BotName, reason: &str) {
        if !self.is_vouched_botmaster(from) {
            return self.reply(from, "You may not end links here.");
        }
        let Some(id) = self.peer_of(bot) else {
            return self.reply(from, &format!("{bot} is not linked with me."));
        };
        self.reply(from, &format!("Breaking link with {bot}."));
        let why = if reason.is_empty() { format!("{from} asked for it") } else { reason.to_owned() };
        self.end(id, None, &why);
    }

    /// The link with a bot.
    pub(super) fn peer_of(&self, bot: &BotName) -> Option<PeerId> {
        self.peers.iter().find(|(_, linked)| linked.peer.bot == *bot).map(|(id, _)| *id)
    }

    fn rejects(&mut self, id: PeerId, from: &Address, who: &Address, reason: &str, message: &Message) {
        if self.is_isolated(id) {
            return;
        }
        let here = match &who.user {
            None => self.peer_of(&who.bot),
            Some(_) if who.bot == self.me => None,
            Some(_) => {
                self.route(Some(id), &who.bot, message);
                return;
            }
        };
        if who.user.is_none() && here.is_none() {
            self.route(Some(id), &who.bot, message);
            return;
        }
        // A bot that speaks for itself is a hub which does not want another; a person has to be one who may.
        let may =
            if from.user.is_some() { self.is_vouched_botmaster(from) } else { self.trust(&from.bot).has(BOTMASTER) };
        if !may {
            let text = format!("{from} wants {who} gone and may not ask that here");
            if let Some(linked) = self.peers.get(&id) {
                self.effects.push(Effect::Warn { peer: linked.peer.bot.clone(), text });
            }
            return self.reply(from, &format!("You may not send {who} away."));
        }
        match (here, &who.user) {
            (Some(victim), _) => {
                let why = if reason.is_empty() { format!("rejected by {from}") } else { reason.to_owned() };
                self.end(victim, None, &why);
            }
            (None, Some(user)) => {
                let (from, user, reason) = (from.clone(), user.clone(), reason.to_owned());
                self.news(News::Boot { from, user, reason });
            }
            (None, None) => {}
        }
    }
}
