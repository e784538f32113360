//! A client that is welcome: news as lines, with the tags it took.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use masterchief_contract::How;

use super::caps::{Cap, Caps};
use super::lines::{SERVER, line, tag_value, time_tag};
use super::register::NICK_MAX;
use crate::irc::message::Message;
use crate::irc::split;
use crate::irc::text::as_ctcp;
use crate::partyline::news::{Author, News, What};
use crate::partyline::party::Party;
use crate::partyline::place::Place;

/// The longest line of the protocol, with its end.
const LINELEN: usize = 512;
/// Labels of messages that did not come back yet; older ones are forgotten.
const LABELS: usize = 64;
/// The longest label: <https://ircv3.net/specs/extensions/labeled-response>.
const LABEL_MAX: usize = 64;

/// A client.
pub(super) struct Client {
    pub(super) party: Party,
    pub(super) idx: u32,
    pub(super) caps: Caps,
    nick: Arc<str>,
    motd: Vec<String>,
    /// The label of a message by the number of its news.
    labels: HashMap<u64, String>,
    labelled: VecDeque<u64>,
    batches: u64,
}

impl Client {
    pub(super) fn new(party: Party, idx: u32, caps: Caps, motd: Vec<String>) -> Client {
        let nick = party.session(idx, |session| Arc::clone(&session.nick)).unwrap_or_else(|| Arc::from("*"));
        Client { party, idx, caps, nick, motd, labels: HashMap::new(), labelled: VecDeque::new(), batches: 0 }
    }

    /// Its name.
    pub(super) fn nick(&self) -> &str {
        &self.nick
    }

    /// A numeric of the server.
    pub(super) fn numeric(&self, code: &str, params: &[&str]) -> String {
        let all: Vec<&str> = std::iter::once(&*self.nick).chain(params.iter().copied()).collect();
        line(SERVER, code, &all)
    }

    /// What a new client is told.
    pub(super) fn welcome(&self) -> Vec<String> {
        let version = concat!("masterchief-", env!("CARGO_PKG_VERSION"));
        let bot = self.party.bot();
        let mut lines = vec![
            self.numeric("001", &[&format!("Welcome to the partyline of {bot}, {}", self.nick)]),
            self.numeric("002", &[&format!("Your host is {SERVER}, running {version}")]),
            self.numeric("003", &["Commands begin with a dot: .help lists those you may use"]),
            self.numeric("004", &[SERVER, version, "o", "nt"]),
        ];
        let nicklen = format!("NICKLEN={}", NICK_MAX + 40);
        let network = format!("NETWORK={bot}");
        let tokens: &[&str] = &[
            "CASEMAPPING=rfc1459",
            "CHANTYPES=#",
            "PREFIX=(o)@",
            "CHANMODES=,,,nt",
            "CHANNELLEN=128",
            &nicklen,
            "TOPICLEN=390",
            "AWAYLEN=200",
            "LINELEN=512",
            "MODES=1",
            "UTF8ONLY",
            &network,
            "are supported by this server",
        ];
        lines.push(self.numeric("005", tokens));
        lines.extend(self.motd());
        lines
    }

    /// The message of the day.
    pub(super) fn motd(&self) -> Vec<String> {
        if self.motd.is_empty() {
            return vec![self.numeric("422", &["there is no message of the day"])];
        }
        let mut lines = vec![self.numeric("375", &[&format!("- {SERVER} message of the day")])];
        lines.extend(self.motd.iter().map(|text| self.numeric("372", &[&format!("- {text}")])));
        lines.push(self.numeric("376", &["End of the message of the day"]));
        lines
    }

    /// The lines of one piece of news.
    pub(super) fn render(&mut self, news: &News) -> Vec<String> {
        let own = news.from.idx == Some(self.idx);
        let source = self.source(&news.from);
        match &news.what {
            What::Said { place, text, how } => {
                if own && !self.caps.has(Cap::EchoMessage) {
                    return Vec::new();
                }
                self.words(news, &source, &place.to_string(), text, *how)
            }
            What::Whisper { to, text, how } => {
                let for_me = **to == *self.nick;
                if own && !for_me && !self.caps.has(Cap::EchoMessage) {
                    return Vec::new();
                }
                self.words(news, &source, to, text, *how)
            }
            What::Joined { place } => {
                let joined = self.joined(&source, &news.from, place);
                let mut lines = vec![self.tagged(news, &joined)];
                if own {
                    lines.extend(self.topic(place));
                    lines.extend(self.names(place));
                }
                lines
            }
            What::Parted { place, reason } => vec![self.tagged(news, &parted(&source, place, reason))],
            What::Came { place, who } => {
                let lines = who.iter().map(|one| self.joined(&self.source(one), one, place)).collect::<Vec<_>>();
                lines.iter().map(|text| self.tagged(news, text)).collect()
            }
            What::Went { place, who, reason } => {
                let lines = who.iter().map(|one| parted(&self.source(one), place, reason)).collect::<Vec<_>>();
                lines.iter().map(|text| self.tagged(news, text)).collect()
            }
            What::Left { .. } if own => Vec::new(),
            What::Left { reason } => vec![self.tagged(news, &line(&source, "QUIT", &[reason]))],
            What::Away { .. } if own || !self.caps.has(Cap::AwayNotify) => Vec::new(),
            What::Away { reason: Some(reason) } => vec![self.tagged(news, &line(&source, "AWAY", &[reason]))],
            What::Away { reason: None } => vec![self.tagged(news, &line(&source, "AWAY", &[]))],
            What::Renamed { to } => {
                if own {
                    self.nick = Arc::clone(to);
                }
                vec![self.tagged(news, &line(&source, "NICK", &[to]))]
            }
            What::Topic { place, text } => {
                vec![self.tagged(news, &line(&source, "TOPIC", &[&place.to_string(), text]))]
            }
            What::Log { text, mode, .. } => {
                let nick = Arc::clone(&self.nick);
                self.words(news, &source, &nick, &format!("[{mode}] {text}"), How::Notice)
            }
        }
    }

    fn joined(&self, source: &str, who: &Author, place: &Place) -> String {
        let name = place.to_string();
        if self.caps.has(Cap::ExtendedJoin) {
            line(source, "JOIN", &[&name, &who.handle, &who.handle])
        } else {
            line(source, "JOIN", &[&name])
        }
    }

    /// Words as lines that fit.
    fn words(&mut self, news: &News, source: &str, target: &str, text: &str, how: How) -> Vec<String> {
        let command = if how == How::Notice { "NOTICE" } else { "PRIVMSG" };
        // What an action is wrapped in takes room too.
        let room =
            split::room(LINELEN, source.len(), command, target).saturating_sub(if how == How::Act { 9 } else { 0 });
        let pieces = split::split(text, room);
        let lines = pieces.into_iter().map(|piece| {
            let piece = if how == How::Act { as_ctcp("ACTION", piece) } else { piece.to_owned() };
            line(source, command, &[target, &piece])
        });
        let lines: Vec<String> = lines.collect();
        lines.iter().map(|text| self.tagged(news, text)).collect()
    }

    /// `nick!user@host`.
    pub(super) fn source(&self, from: &Author) -> String {
        format!("{}!{}@{}", from.nick, from.handle, from.host)
    }

    /// A line with the tags that this client took.
    fn tagged(&mut self, news: &News, text: &str) -> String {
        let mut tags: Vec<String> = Vec::new();
        if news.from.idx == Some(self.idx)
            && let Some(label) = self.labels.remove(&news.id)
        {
            tags.push(format!("label={}", tag_value(&label)));
        }
        if self.caps.has(Cap::ServerTime) {
            tags.push(format!("time={}", time_tag(news.at)));
        }
        if self.caps.has(Cap::AccountTag) && news.from.idx.is_some() {
            tags.push(format!("account={}", tag_value(&news.from.handle)));
        }
        if self.caps.has(Cap::MessageTags) {
            // Unlike the number alone it is another one after a restart.
            tags.push(format!("msgid={:x}-{}", news.at.timestamp_millis(), news.id));
        }
        if tags.is_empty() { text.to_owned() } else { format!("@{} {text}", tags.join(";")) }
    }

    /// Lines that answer a command with a label: one line, a batch, or an acknowledgement.
    pub(super) fn labelled(&mut self, label: &str, lines: Vec<String>) -> Vec<String> {
        let label = tag_value(label);
        match lines.as_slice() {
            [] => vec![format!("@label={label} {}", line(SERVER, "ACK", &[]))],
            [one] => vec![format!("@label={label} {one}")],
            _ => {
                self.batches += 1;
                let name = format!("b{}", self.batches);
                let begin = line(SERVER, "BATCH", &[&format!("+{name}"), "labeled-response"]);
                let mut out = vec![format!("@label={label} {begin}")];
                out.extend(lines.iter().map(|text| format!("@batch={name} {text}")));
                out.push(line(SERVER, "BATCH", &[&format!("-{name}")]));
                out
            }
        }
    }

    /// The label of a command, if this client may give one.
    pub(super) fn label_of(&self, message: &Message<'_>) -> Option<String> {
        let both = self.caps.has(Cap::LabeledResponse) && self.caps.has(Cap::Batch);
        let label = message.tags.get("label").filter(|label| both && !label.is_empty() && label.len() <= LABEL_MAX)?;
        Some(label.into_owned())
    }

    /// Remembers that a message which will come back has a label; whether it will come back.
    pub(super) fn comes_back(&mut self, id: u64, label: &str) -> bool {
        if !self.caps.has(Cap::EchoMessage) {
            return false;
        }
        self.labels.insert(id, label.to_owned());
        self.labelled.push_back(id);
        if self.labelled.len() > LABELS
            && let Some(old) = self.labelled.pop_front()
        {
            self.labels.remove(&old);
        }
        true
    }

    /// The topic of a place, if it has one.
    pub(super) fn topic(&self, place: &Place) -> Option<String> {
        let topic = self.party.topic(place);
        (!topic.is_empty()).then(|| self.numeric("332", &[&place.to_string(), &topic]))
    }

    /// Who is in a place, the bot among them.
    pub(super) fn names(&self, place: &Place) -> Vec<String> {
        let name = place.to_string();
        let long = self.caps.has(Cap::UserhostInNames);
        let bot = self.party.bot();
        let mut all = vec![if long { format!("@{bot}!{bot}@{SERVER}") } else { format!("@{bot}") }];
        all.extend(self.party.here(place).iter().map(|one| {
            let sign = if one.icon == '-' { "" } else { "@" };
            if long { format!("{sign}{}", self.source(&one.author)) } else { format!("{sign}{}", one.author.nick) }
        }));
        let (mut lines, mut row) = (Vec::new(), String::new());
        for one in all {
            if !row.is_empty() && row.len() + one.len() > 350 {
                lines.push(self.numeric("353", &["=", &name, &row]));
                row.clear();
            }
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(&one);
        }
        lines.push(self.numeric("353", &["=", &name, &row]));
        lines.push(self.numeric("366", &[&name, "End of NAMES"]));
        lines
    }
}

fn parted(source: &str, place: &Place, reason: &str) -> String {
    let name = place.to_string();
    let params = [name.as_str(), reason];
    line(source, "PART", if reason.is_empty() { &params[..1] } else { &params[..] })
}
