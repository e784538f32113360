//! Telling old lines from live ones. A server may replay a channel's history when we join, and a bouncer what we
//! missed; such lines are byte for byte like live ones but for their batch, their time and their id.

use std::collections::{BTreeMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::message::Message;

/// Message ids remembered, over reconnects too.
const IDS_MAX: usize = 8192;
/// Batches open at once; more are hostile.
const BATCHES_MAX: usize = 256;

/// What is remembered to tell them.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Open batches: whether their lines are old.
    batches: BTreeMap<String, bool>,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl History {
    /// Takes a BATCH line: `+ref type …` or `-ref`.
    pub(super) fn batch(&mut self, message: &Message<'_>) {
        let reference = message.param(0);
        if let Some(name) = reference.strip_prefix('+') {
            let kind = message.param(1).to_ascii_lowercase();
            let old = kind.contains("history") || kind.contains("playback") || self.in_old_batch(message);
            if self.batches.len() < BATCHES_MAX {
                self.batches.insert(name.to_owned(), old);
            }
        } else if let Some(name) = reference.strip_prefix('-') {
            self.batches.remove(name);
        }
    }

    /// Whether a line is old. `since` is when we came, by the server's clock; remembers the line's id.
    pub(super) fn is_old(
        &mut self,
        message: &Message<'_>,
        at: Option<DateTime<Utc>>,
        since: Option<DateTime<Utc>>,
    ) -> bool {
        let repeated = message.tags.get("msgid").is_some_and(|id| !self.remember(&id));
        let before = at.zip(since).is_some_and(|(at, since)| at < since);
        repeated || before || self.in_old_batch(message)
    }

    /// A new connection: batches end with the old one, ids do not.
    pub(super) fn reconnected(&mut self) {
        self.batches.clear();
    }

    fn in_old_batch(&self, message: &Message<'_>) -> bool {
        message.tags.get("batch").is_some_and(|name| self.batches.get(&*name).copied().unwrap_or(false))
    }

    /// False if the id is known already.
    fn remember(&mut self, id: &str) -> bool {
        if id.is_empty() {
            return true;
        }
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// A line's own time, if it has one.
pub(super) fn time_of(message: &Message<'_>) -> Option<DateTime<Utc>> {
    let text = message.tags.get("time")?;
    DateTime::parse_from_rfc3339(&text).ok().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(history: &mut History, line: &str, since: Option<&str>) -> bool {
        let message = Message::parse(line).unwrap();
        let since = since.map(|at| DateTime::parse_from_rfc3339(at).unwrap().to_utc());
        history.is_old(&message, time_of(&message), since)
    }

    fn batch(history: &mut History, line: &str) {
        history.batch(&Message::parse(line).unwrap());
    }

    #[test]
    fn lines_of_a_history_batch_and_of_batches_within_are_old() {
        let mut history = History::default();
        batch(&mut history, "BATCH +a chathistory #ops");
        batch(&mut history, "@batch=a BATCH +b netjoin x");
        batch(&mut history, "BATCH +c netjoin x");
        assert!(old(&mut history, "@batch=a PRIVMSG #ops :!deploy", None));
        assert!(old(&mut history, "@batch=b PRIVMSG #ops :!deploy", None));
        assert!(!old(&mut history, "@batch=c PRIVMSG #ops :!deploy", None));
        batch(&mut history, "BATCH -a");
        assert!(!old(&mut history, "@batch=a PRIVMSG #ops :!deploy", None));
    }

    #[test]
    fn a_line_from_before_we_came_is_old() {
        let mut history = History::default();
        let since = Some("2026-03-02T12:00:00.500Z");
        assert!(old(&mut history, "@time=2026-03-02T12:00:00.499Z PRIVMSG #ops :!deploy", since));
        assert!(!old(&mut history, "@time=2026-03-02T12:00:00.500Z PRIVMSG #ops :!deploy", since));
        assert!(!old(&mut history, "PRIVMSG #ops :!deploy", since));
    }

    #[test]
    fn a_repeated_id_is_old_after_a_reconnect_too() {
        let mut history = History::default();
        assert!(!old(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None));
        history.reconnected();
        assert!(old(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None));
        for id in 2..=IDS_MAX + 1 {
            assert!(!old(&mut history, &format!("@msgid={id} PRIVMSG #ops :x"), None));
        }
        assert!(!old(&mut history, "@msgid=1 PRIVMSG #ops :!deploy", None), "memory is bounded");
    }
}
