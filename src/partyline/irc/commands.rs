//! What a client that is welcome may send: talking, coming and going.

use masterchief_contract::How;

use super::caps::{Cap, offered};
use super::client::Client;
use super::lines::{SERVER, line};
use crate::irc::message::Message;
use crate::irc::text::{as_ctcp, ctcp};
use crate::partyline::place::Place;
use crate::partyline::typed::Meant;

/// Targets of one command.
const TARGETS: usize = 10;
/// The longest topic and the longest word about being away, in characters.
const WORDS_MAX: usize = 390;

/// Lines that answer, and the words with which the client goes, if it does.
pub(super) type Taken = (Vec<String>, Option<String>);

impl Client {
    /// Does what a line says.
    pub(super) async fn take(&mut self, message: &Message<'_>) -> Taken {
        let label = self.label_of(message);
        let (lines, goes, echoed) = self.done(message, label.as_deref()).await;
        let lines = match label {
            Some(label) if !echoed => self.labelled(&label, lines),
            _ => lines,
        };
        (lines, goes)
    }

    async fn done(&mut self, message: &Message<'_>, label: Option<&str>) -> (Vec<String>, Option<String>, bool) {
        let command = message.command.to_ascii_uppercase();
        let lines = match command.as_str() {
            "PRIVMSG" | "NOTICE" => {
                let (lines, echoed) = self.talk(message, command == "NOTICE", label).await;
                return (lines, None, echoed);
            }
            "QUIT" => {
                let reason = if message.last().is_empty() { "quit" } else { message.last() };
                return (Vec::new(), Some(cut(reason).to_owned()), false);
            }
            "JOIN" => self.join(message.param(0)),
            "PART" => self.part(message.param(0), message.params().get(1).copied().unwrap_or("")),
            "TOPIC" => self.set_topic(message),
            "AWAY" => self.away(message.param(0)),
            "CAP" => self.cap(message),
            "AUTHENTICATE" => vec![self.numeric("907", &["you are logged in already"])],
            "PASS" | "USER" => vec![self.numeric("462", &["you are registered already"])],
            "NICK" => {
                let same = message.param(0) == self.nick();
                if same { Vec::new() } else { vec![self.numeric("484", &["your nick is your handle here"])] }
            }
            "PING" => vec![line(SERVER, "PONG", &[SERVER, message.last()])],
            "PONG" | "TAGMSG" => Vec::new(),
            "KICK" | "INVITE" => {
                let place = message.params().iter().find(|param| param.starts_with('#')).copied().unwrap_or("*");
                vec![self.numeric("482", &[place, "use .boot, or ask an owner"])]
            }
            "OPER" => vec![self.numeric("491", &["what you may is in your record"])],
            _ => self.ask(&command, message),
        };
        (lines, None, false)
    }

    /// PRIVMSG and NOTICE: answers, and whether the label comes back with the message.
    async fn talk(&mut self, message: &Message<'_>, notice: bool, label: Option<&str>) -> (Vec<String>, bool) {
        let (targets, text) = (message.param(0), message.params().get(1).copied().unwrap_or(""));
        if targets.is_empty() {
            return (vec![self.numeric("411", &["no recipient given"])], false);
        }
        if text.is_empty() {
            return (vec![self.numeric("412", &["no text to send"])], false);
        }
        let (how, text) = match ctcp(text) {
            Some((keyword, rest)) if keyword == "ACTION" && !notice => (How::Act, rest),
            // Other questions of clients to each other are not passed on.
            Some(_) => return (Vec::new(), false),
            None if notice => (How::Notice, text),
            None => (How::Say, text),
        };
        let (mut lines, mut echoed) = (Vec::new(), false);
        for target in targets.split(',').filter(|target| !target.is_empty()).take(TARGETS) {
            match self.talk_to(target, text, how).await {
                Ok(Said::News(id)) => echoed |= label.is_some_and(|label| self.comes_back(id, label)),
                Ok(Said::Nothing) => {}
                Ok(Said::Command) if self.caps.has(Cap::EchoMessage) => lines.push(self.echo(target, text, how)),
                Ok(Said::Command) => {}
                Err((code, reason)) if notice => {
                    tracing::debug!(code, %reason, "A notice on the partyline was not passed on")
                }
                Err((code, reason)) => lines.push(self.numeric(code, &[target, &reason])),
            }
        }
        (lines, echoed)
    }

    async fn talk_to(&self, target: &str, text: &str, how: How) -> Result<Said, (&'static str, String)> {
        let sifted = if how == How::Say { self.party.sifted(self.idx, text).await } else { Some(text.to_owned()) };
        let Some(text) = sifted.as_deref() else { return Ok(Said::Nothing) };
        let command = text.strip_prefix('.').filter(|_| how == How::Say);
        if let Some(place) = Place::parse(target) {
            let meant = if how == How::Say { self.party.meant(self.idx, &place, text) } else { Meant::Words };
            match meant {
                Meant::Command(command) => {
                    self.party.command_in(self.idx, Some(&place), command).await.map_err(|fault| ("404", fault))?;
                    return Ok(Said::Command);
                }
                Meant::Fault(fault) => return Err(("404", fault)),
                Meant::Words => {}
            }
            let id = self.party.say(self.idx, &place, text, how).await.map_err(|fault| ("404", fault))?;
            return Ok(id.map_or(Said::Nothing, Said::News));
        }
        if target.starts_with(['#', '&', '$']) {
            return Err(("403", "there is no such channel here".to_owned()));
        }
        if masterchief_contract::CaseMap::Rfc1459.eq(target, &self.party.bot()) {
            if let Some(command) = command.filter(|rest| !rest.starts_with([' ', '.']) && !rest.is_empty()) {
                if let Err(fault) = self.party.command(self.idx, command).await {
                    self.party.tell(self.idx, &fault);
                }
                return Ok(Said::Command);
            }
            let id = self.party.say_to_bot(self.idx, text, how).await.map_err(|fault| ("404", fault))?;
            return Ok(id.map_or(Said::Nothing, Said::News));
        }
        if self.party.passes_on(self.idx, target, text).await.map_err(|fault| ("404", fault))? {
            return Ok(Said::Command);
        }
        let id = self.party.whisper(self.idx, target, text, how);
        id.map(Said::News).ok_or_else(|| ("401", "is not on the partyline; .note keeps words for later".to_owned()))
    }

    /// One's own words as they would come back.
    fn echo(&self, target: &str, text: &str, how: How) -> String {
        let source =
            self.party.session(self.idx, |session| format!("{}!{}@{}", session.nick, session.handle, session.host));
        let text = if how == How::Act { as_ctcp("ACTION", text) } else { text.to_owned() };
        line(&source.unwrap_or_default(), "PRIVMSG", &[target, &text])
    }

    fn join(&mut self, names: &str) -> Vec<String> {
        if names.is_empty() {
            return vec![self.numeric("461", &["JOIN", "name a channel: #partyline, #ops or #1"])];
        }
        let mut lines = Vec::new();
        for name in names.split(',').filter(|name| !name.is_empty()).take(TARGETS) {
            match Place::parse(name) {
                // Their own JOIN comes with the news, and with it who is there.
                Some(place) => match self.party.join(self.idx, &place) {
                    Ok(_) => {}
                    Err(reason) => lines.push(self.numeric("473", &[name, &reason])),
                },
                None if name == "0" => {
                    let places = self.party.session(self.idx, |session| session.places.clone()).unwrap_or_default();
                    for place in places {
                        self.party.part(self.idx, &place, "");
                    }
                }
                None => {
                    let reason = "there are #partyline, #ops, #1 to #99999, and #channel@network";
                    lines.push(self.numeric("403", &[name, reason]));
                }
            }
        }
        lines
    }

    fn part(&mut self, names: &str, reason: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for name in names.split(',').filter(|name| !name.is_empty()).take(TARGETS) {
            let was = Place::parse(name).is_some_and(|place| self.party.part(self.idx, &place, cut(reason)));
            if !was {
                lines.push(self.numeric("442", &[name, "you are not there"]));
            }
        }
        lines
    }

    fn set_topic(&mut self, message: &Message<'_>) -> Vec<String> {
        let name = message.param(0);
        let there =
            |place: &Place| self.party.session(self.idx, |session| session.places.contains(place)).unwrap_or(false);
        let Some(place) = Place::parse(name).filter(there) else {
            return vec![self.numeric("442", &[name, "you are not there"])];
        };
        match message.params().get(1) {
            None => vec![self.topic(&place).unwrap_or_else(|| self.numeric("331", &[name, "no topic is set"]))],
            Some(_) if matches!(place, Place::Watched { .. }) => {
                vec![self.numeric("482", &[name, "use .topic to set it on the network"])]
            }
            Some(text) => {
                self.party.set_topic(self.idx, &place, cut(text));
                Vec::new()
            }
        }
    }

    fn away(&mut self, reason: &str) -> Vec<String> {
        self.party.away(self.idx, Some(cut(reason)).filter(|reason| !reason.is_empty()));
        let (code, words) = if reason.is_empty() { ("305", "you are back") } else { ("306", "you are away") };
        vec![self.numeric(code, &[words])]
    }

    fn cap(&mut self, message: &Message<'_>) -> Vec<String> {
        let asked = message.param(1);
        let nick = self.nick().to_owned();
        match message.param(0).to_ascii_uppercase().as_str() {
            "LS" => vec![line(SERVER, "CAP", &[&nick, "LS", &offered(asked.parse::<u32>().unwrap_or(0) >= 302)])],
            "LIST" => vec![line(SERVER, "CAP", &[&nick, "LIST", &self.caps.list()])],
            "REQ" => {
                let changed = self.caps.change(asked);
                self.caps = changed.unwrap_or(self.caps);
                vec![line(SERVER, "CAP", &[&nick, if changed.is_some() { "ACK" } else { "NAK" }, asked])]
            }
            "END" => Vec::new(),
            other => vec![self.numeric("410", &[other, "there are CAP LS, LIST, REQ and END"])],
        }
    }
}

/// What came of words.
enum Said {
    /// News of this number.
    News(u64),
    /// A command, which nobody else hears.
    Command,
    Nothing,
}

/// Words that are kept, not longer than they may be.
fn cut(text: &str) -> &str {
    text.char_indices().nth(WORDS_MAX).map_or(text, |(at, _)| &text[..at])
}
