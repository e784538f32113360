//! What leaves: the queue's next lines, without secrets, with a label where the server gives receipts.

use std::borrow::Cow;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::{CLOSE, Link};
use crate::irc::around::Fate;
use crate::irc::decode::encode;
use crate::irc::limits;
use crate::irc::message::Message;
use crate::irc::multiline::{self, is_words, without_tags};
use crate::irc::network::{Shared, queue_key};
use crate::irc::outgoing::{Class, Line, Most, Next};
use crate::irc::receipts::{Promises, ids};
use crate::irc::text::plain;

/// The mode of a channel that takes no colours, on every server that has one.
const NO_COLOURS: char = 'c';
/// What a server hears of whom it has not taken in. Why stands in our own log.
const PARTING: &[u8] = b"QUIT :Not staying\r\n";

impl Link<'_> {
    /// Takes the next line of the queue when the last has left. Gives when to look again.
    pub(super) fn fill(&mut self) -> Option<Instant> {
        if !self.out.is_empty() {
            return None;
        }
        let most = self.multiline();
        let mut shared = self.inner.lock();
        let shared = &mut *shared;
        shared.outgoing.set_most(most);
        let now = Instant::now();
        if shared.acts_until.is_some_and(|until| now >= until) {
            const WHY: &str = "another bot of the group acts here now";
            let gone = shared.outgoing.forget_deeds();
            shared.gave_up(gone.len(), "", WHY);
            for id in gone.iter().flat_map(ids) {
                self.inner.around.fate(id, Fate::Failed { code: String::new(), reason: WHY.to_owned() });
            }
        }
        let next = shared.outgoing.next(now);
        for id in shared.outgoing.take_expired().iter().flat_map(ids) {
            self.inner.around.fate(id, Fate::Expired);
        }
        let lines = match next {
            Next::Line(line) => {
                let isupport = &shared.state.isupport;
                let line = shared.outgoing.with_more(line, |one, other| limits::merged(isupport, one, other));
                self.unwritten = if line.class.is_some() { vec![line.clone()] } else { Vec::new() };
                vec![line]
            }
            Next::Whole(lines) => {
                self.unwritten.clone_from(&lines);
                self.wholes.send(lines)
            }
            Next::At(at) => return Some(at),
            Next::Empty => return None,
        };
        lines.into_iter().for_each(|line| self.write(line, shared, now));
        self.inner.room.notify_waiters();
        None
    }

    /// The connection ends before a byte of what was to leave next was written: it waits for the next one, in front of all others.
    pub(super) fn keep_unwritten(&mut self) {
        let lines = std::mem::take(&mut self.unwritten);
        if lines.is_empty() {
            return;
        }
        self.out.clear();
        let mut shared = self.inner.lock();
        shared.receipts.forget(&lines);
        for line in lines.into_iter().rev() {
            ids(&line).into_iter().for_each(|id| self.inner.around.fate(id, Fate::Kept));
            let target = Message::parse(&line.text).map_or(String::new(), |message| queue_key(message.param(0)));
            // That it leaves was told.
            shared.outgoing.put_back(&target, Line { hush: true, ..line });
        }
    }

    /// We do not stay where the registration failed: a QUIT behind the line that is on its way, so that the server need not guess. What
    /// waits is for the next connection.
    pub(super) async fn part(&mut self, write: &mut (impl AsyncWrite + Unpin)) {
        let mut bytes = std::mem::take(&mut self.out);
        bytes.extend_from_slice(PARTING);
        // It may not read any more.
        let _ = tokio::time::timeout(CLOSE, async {
            write.write_all(&bytes).await?;
            write.shutdown().await
        })
        .await;
    }

    /// A line leaves. Whatever it is and whoever said it, no secret is in it but those of a login.
    pub(super) fn write(&mut self, mut line: Line, shared: &mut Shared, now: Instant) {
        let around = &self.inner.around;
        let has = |cap| self.registration.has(cap);
        let mut text = if has("message-tags") { line.text.as_str() } else { without_tags(&line.text) };
        let bare = plain(text);
        if matches!(bare, Cow::Owned(_)) && is_words(text) && takes_no_colours(text, shared) {
            text = &bare;
        }
        // Only then: what was left out may have stood in the middle of one.
        let hidden = if line.own { Cow::Borrowed(text) } else { around.hide(text) };
        let text = &*hidden;
        if !line.own {
            tracing::debug!(target: "masterchief::irc::sent", network = %self.inner.name, line = text, "To a server");
        }
        if line.id == 0 && !line.own && is_words(text) {
            line.id = around.note(&self.inner.name, without_tags(text));
            if let [only] = self.unwritten.as_mut_slice() {
                only.id = line.id;
            }
        }
        let promises = Promises { labels: has("labeled-response"), echo: has("echo-message") };
        let labelled = if line.own { None } else { shared.receipts.sent(&line, text, promises, now) };
        let text = labelled.as_deref().unwrap_or(text);
        if shared.state.isupport.has("UTF8ONLY") {
            self.out.extend_from_slice(text.as_bytes());
        } else {
            self.out.extend_from_slice(&encode(text));
        }
        self.out.extend_from_slice(b"\r\n");
        shared.status.lines_out += 1;
        ids(&line).into_iter().for_each(|id| around.fate(id, Fate::Sent));
        if line.at_once {
            around.left_at_once(&self.inner.name, &without_secrets(&hidden));
        } else if !line.own && !line.hush {
            let class = line.class.unwrap_or(masterchief_contract::Class::Reply);
            around.left(&self.inner.name, line.id, class, without_tags(&hidden));
        }
    }

    /// How long a message in parts may be, where the server takes such.
    pub(super) fn multiline(&self) -> Option<Most> {
        let has = |cap| self.registration.has(cap);
        let takes = !self.no_multiline && has("draft/multiline") && has("batch") && has("message-tags");
        takes.then(|| multiline::most(self.registration.value("draft/multiline"))).flatten()
    }

    /// The server does not want a message in parts: it is said line by line, and so are those that follow.
    pub(super) fn say_apart(&mut self, lines: Vec<Line>) {
        self.no_multiline = true;
        let mut shared = self.inner.lock();
        shared.receipts.forget(&lines);
        for line in lines {
            let target = Message::parse(&line.text).map_or(String::new(), |message| queue_key(message.param(0)));
            let class = Class::Words(line.class.unwrap_or(masterchief_contract::Class::Reply));
            if let Err(full) = shared.outgoing.push(class, &target, Line { whole: 0, ..line }) {
                const WHY: &str = "the server refused it in parts, and the queue is full";
                shared.gave_up(1, &target, WHY);
                for id in ids(&full.0) {
                    self.inner.around.fate(id, Fate::Failed { code: String::new(), reason: WHY.to_owned() });
                }
            }
        }
    }
}

/// Whether words are for a channel of which we have seen that it takes no colours: they would be refused.
fn takes_no_colours(line: &str, shared: &Shared) -> bool {
    let Ok(message) = Message::parse(line) else { return false };
    let state = &shared.state;
    let chan = state.isupport.channel_of(message.param(0)).and_then(|chan| state.channel(chan));
    chan.is_some_and(|chan| chan.has_mode(NO_COLOURS))
}

/// A line of ours that never waits, as others may see it.
fn without_secrets(line: &str) -> Cow<'_, str> {
    match line.split_once(' ') {
        Some((command @ ("PASS" | "AUTHENTICATE" | "WEBIRC" | "OPER"), _)) => Cow::Owned(format!("{command} ***")),
        _ => Cow::Borrowed(line),
    }
}
