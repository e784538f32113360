//! What handlers say, as lines that fit and cannot become commands.

use std::sync::atomic::{AtomicU64, Ordering};

use masterchief_contract::{Class as Urgency, How, Refused};
use tokio::time::Instant;

use super::isupport::ISupport;
use super::message::compose;
use super::multiline::{PART, without_tags};
use super::network::{Network, Shared, queue_key};
use super::outgoing::{Class, Line};
use super::{formats, limits, split, text};

/// What user and host may take where they are not known yet and the server does not say (USERLEN and HOSTLEN of common servers).
const MASK_ROOM: (usize, usize) = (10, 64);
/// More than a line has room for is no length of a user or a host.
const LENGTH_MAX: usize = 256;
/// Bytes of tags that a client may send (message-tags, size limit).
const TAGS_ROOM: usize = 4094;

/// What stands in front of words that may have been said before.
pub const AGAIN: &str = "(perhaps said before) ";

/// Words for somebody.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// A channel or a nick.
    pub target: &'a str,
    /// The words; line breaks make several lines.
    pub text: &'a str,
    /// As a message, a notice or an action.
    pub how: How,
    /// Tags for other clients.
    pub tags: &'a [(String, String)],
    /// How urgent they are.
    pub class: Urgency,
    /// Until when they are said at all.
    pub until: Option<Instant>,
    /// Until when they are worth saying where they could not be said before.
    pub worth: Option<Instant>,
    /// The number of the first line in the records, 0 for none. Those behind it have the numbers that follow.
    pub first: u64,
}

/// What whoever keeps account knows of a command already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Its number in the records, 0 for none.
    pub line: u64,
    /// Whether nobody is told when it leaves.
    pub hush: bool,
}

/// The lines of a text, as they are numbered: at line breaks, empty ones left out.
pub fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n', '\0']).filter(|line| !line.is_empty())
}

impl Network {
    /// Says words. Ready once all of it is queued; it waits while the queue is full.
    pub async fn say(&self, words: &Words<'_>) -> Result<(), Refused> {
        let target = words.target;
        if target.is_empty() || target.starts_with(':') || target.contains([' ', ',', '\r', '\n', '\0']) {
            return Err(Refused::new(format!("{target:?} is not a channel or a nick")));
        }
        let text = words.text.replace('\u{1}', "");
        // Secrets are hidden before a long line is cut, which might cut one in two.
        let text = self.inner.around.hide(&text);
        let (key, tags, mut lines) = {
            let shared = self.inner.lock();
            (queue_key(target), tags(words.tags, &shared.state.isupport)?, shared.lines(words, &text))
        };
        if let Some(first) = lines.first_mut() {
            first.text.insert_str(0, &tags);
        }
        self.queue(Class::Words(words.class), &key, lines).await
    }

    /// Sends a command as it stands. Ready once all of it is queued.
    pub async fn send(
        &self,
        command: &str,
        params: &[String],
        with: &[(String, String)],
        known: Known,
    ) -> Result<(), Refused> {
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        let name = self.name();
        let (linelen, tags, commands) = {
            let shared = self.inner.lock();
            if !shared.status.connected {
                return Err(Refused::new(format!("{name} is not connected; the command would be lost")));
            }
            let isupport = &shared.state.isupport;
            let tags = tags(with, isupport)?;
            if command == "TAGMSG" && tags.is_empty() {
                return Err(Refused::new(format!("{name} passes none of these tags on; say it in words")));
            }
            (isupport.linelen(), tags, limits::fitted(isupport, command, &params))
        };
        let mut lines = Vec::with_capacity(commands.len());
        for params in commands {
            let params: Vec<&str> = params.iter().map(String::as_str).collect();
            let line = compose(&[], command, &params).map_err(|fault| Refused::new(fault.to_string()))?;
            if line.len() + 2 > linelen {
                return Err(Refused::new(format!("the line has {} bytes; {name} takes {linelen}", line.len() + 2)));
            }
            lines.push(Line { id: known.line, hush: known.hush, ..Line::from(format!("{tags}{line}")) });
        }
        self.queue(Class::Command, "", lines).await
    }
}

impl Shared {
    /// Words as lines that fit; several of them are one message, for servers that take such.
    fn lines(&self, words: &Words<'_>, text: &str) -> Vec<Line> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (target, how) = (words.target, words.how);
        let command = if how == How::Notice { "NOTICE" } else { "PRIVMSG" };
        let (isupport, (user, host)) = (&self.state.isupport, MASK_ROOM);
        let mask = self.state.mask.as_ref().map_or_else(
            || most(isupport.number("USERLEN"), user) + 1 + most(isupport.number("HOSTLEN"), host),
            |(user, host)| user.len() + 1 + host.len(),
        );
        let nick = if self.state.nick.is_empty() { &self.settings.nick } else { &self.state.nick };
        let act = if how == How::Act { text::as_ctcp("ACTION", "x").len() - 1 } else { 0 };
        let room = split::room(self.state.isupport.linelen(), nick.len() + 1 + mask + act, command, target);
        let mut out: Vec<Line> = Vec::new();
        for (number, line) in lines_of(text).enumerate() {
            let id = if words.first == 0 { 0 } else { words.first + number as u64 };
            for (piece, goes_on) in
                formats::pieces(line, room).into_iter().zip(std::iter::once(false).chain(std::iter::repeat(true)))
            {
                let spare = if how == How::Act { 0 } else { room - piece.len().min(room) };
                let said = if how == How::Act { text::as_ctcp("ACTION", &piece) } else { piece.clone().into_owned() };
                let text = format!("{command} {target} :{said}");
                out.push(Line { text, goes_on, id, spare, until: words.until, worth: words.worth, ..Line::default() });
            }
        }
        if out.len() > 1 && how != How::Act {
            let whole = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            out.iter_mut().for_each(|line| line.whole = whole);
        }
        out
    }

    /// Puts pages back that may not have arrived, marked as such.
    pub(super) fn say_again(&mut self, pages: Vec<Line>) {
        let mark = AGAIN.trim_end();
        for mut line in pages.into_iter().rev() {
            if line.text.starts_with(PART) {
                // What it was a part of is over.
                line.text = without_tags(&line.text).to_owned();
            }
            let Some(at) = line.text.find(" :").map(|at| at + 2) else { continue };
            if &line.text[at..] == mark {
                // It stood in front of a page that brings its own.
                continue;
            }
            let unmarked = !line.text[at..].starts_with(AGAIN) && !line.goes_on;
            let fits = line.spare >= AGAIN.len();
            if unmarked && fits {
                line.text.insert_str(at, AGAIN);
                line.spare -= AGAIN.len();
            }
            let head = without_tags(&line.text[..at]).to_owned();
            let (target, class) = (head.split(' ').nth(1).map(queue_key).unwrap_or_default(), line.class);
            self.outgoing.put_back(&target, Line { whole: 0, ..line });
            if unmarked && !fits {
                // What fills its line, and what is no plain words, has the mark in front of it.
                let line = Line { text: format!("{head}{mark}"), class, ..Line::default() };
                self.outgoing.put_back(&target, line);
            }
        }
    }
}

/// A length that the server names, as far as it fits a line.
fn most(named: Option<usize>, otherwise: usize) -> usize {
    named.filter(|most| (1..=LENGTH_MAX).contains(most)).unwrap_or(otherwise)
}

/// Tags as they stand in front of a line, with the blank; nothing where the server passes none of them on.
fn tags(tags: &[(String, String)], isupport: &ISupport) -> Result<String, Refused> {
    if let Some((name, _)) = tags.iter().find(|(name, _)| !name.starts_with('+')) {
        return Err(Refused::new(format!("the tag {name:?} is the server's; those for other clients begin with +")));
    }
    let passed = tags.iter().filter(|(name, _)| limits::passes(isupport, name));
    let pairs: Vec<(&str, &str)> = passed.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if pairs.is_empty() {
        return Ok(String::new());
    }
    let line = compose(&pairs, "X", &[]).map_err(|fault| Refused::new(fault.to_string()))?;
    if line.len() > TAGS_ROOM {
        return Err(Refused::new(format!("the tags have more than {TAGS_ROOM} bytes")));
    }
    Ok(line[..line.len() - 1].to_owned())
}
