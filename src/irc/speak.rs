//! What handlers say, as lines that fit and cannot become commands.

use std::sync::atomic::{AtomicU64, Ordering};

use masterchief_contract::{How, Refused};

use super::message::compose;
use super::network::{Network, Shared, queue_key};
use super::outgoing::{Class, Line};
use super::{split, text};

/// What a `user@host` may take where it is not known yet (USERLEN and HOSTLEN of common servers).
const MASK_ROOM: usize = 10 + 1 + 64;
/// Bytes of tags that a client may send (message-tags, size limit).
const TAGS_ROOM: usize = 4094;

/// Words for somebody.
pub(super) struct Words<'a> {
    pub(super) target: &'a str,
    pub(super) text: &'a str,
    pub(super) how: How,
    pub(super) tags: &'a [(String, String)],
}

impl Network {
    pub(super) async fn say(&self, words: &Words<'_>, class: Class) -> Result<(), Refused> {
        let target = words.target;
        if target.is_empty() || target.starts_with(':') || target.contains([' ', ',', '\r', '\n', '\0']) {
            return Err(Refused::new(format!("{target:?} is not a channel or a nick")));
        }
        let tags = tags(words.tags)?;
        // A CTCP is never made by accident of a text.
        let text = words.text.replace('\u{1}', "");
        let (key, mut lines) = {
            let shared = self.inner.lock();
            (queue_key(target), shared.lines(target, &text, words.how))
        };
        if let Some(first) = lines.first_mut() {
            first.text.insert_str(0, &tags);
        }
        self.queue(class, &key, lines).await
    }

    pub(super) async fn send(
        &self,
        command: &str,
        params: &[String],
        with: &[(String, String)],
    ) -> Result<(), Refused> {
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        let line = compose(&[], command, &params).map_err(|fault| Refused::new(fault.to_string()))?;
        let name = self.name();
        let linelen = {
            let shared = self.inner.lock();
            if !shared.status.connected {
                return Err(Refused::new(format!("{name} is not connected; the command would be lost")));
            }
            shared.state.isupport.linelen()
        };
        if line.len() + 2 > linelen {
            return Err(Refused::new(format!("the line has {} bytes; {name} takes {linelen}", line.len() + 2)));
        }
        let line = format!("{}{line}", tags(with)?);
        self.queue(Class::Command, "", vec![line.into()]).await
    }
}

impl Shared {
    /// Words as lines that fit; several of them are one message, for servers that take such.
    fn lines(&self, target: &str, words: &str, how: How) -> Vec<Line> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let command = if how == How::Notice { "NOTICE" } else { "PRIVMSG" };
        let mask = self.state.mask.as_ref().map_or(MASK_ROOM, |(user, host)| user.len() + 1 + host.len());
        let nick = if self.state.nick.is_empty() { &self.settings.nick } else { &self.state.nick };
        let act = if how == How::Act { text::as_ctcp("ACTION", "x").len() - 1 } else { 0 };
        let room = split::room(self.state.isupport.linelen(), nick.len() + 1 + mask + act, command, target);
        let pieces = split::split(words, room);
        if how == How::Act {
            let act = |piece: &&str| Line::from(format!("{command} {target} :{}", text::as_ctcp("ACTION", piece)));
            return pieces.iter().map(act).collect();
        }
        let whole = if pieces.len() > 1 { LAST.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let mut ended = 0;
        let line = |piece: &str| {
            let at = piece.as_ptr() as usize;
            // Nothing stands between two pieces of one line.
            let goes_on = at == std::mem::replace(&mut ended, at + piece.len());
            Line { text: format!("{command} {target} :{piece}"), whole, goes_on }
        };
        pieces.into_iter().map(line).collect()
    }
}

/// Tags as they stand in front of a line, with the blank; nothing where there are none.
fn tags(tags: &[(String, String)]) -> Result<String, Refused> {
    if tags.is_empty() {
        return Ok(String::new());
    }
    if let Some((name, _)) = tags.iter().find(|(name, _)| !name.starts_with('+')) {
        return Err(Refused::new(format!("the tag {name:?} is the server's; those for other clients begin with +")));
    }
    let pairs: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let line = compose(&pairs, "X", &[]).map_err(|fault| Refused::new(fault.to_string()))?;
    if line.len() > TAGS_ROOM {
        return Err(Refused::new(format!("the tags have more than {TAGS_ROOM} bytes")));
    }
    Ok(line[..line.len() - 1].to_owned())
}
