//! Kinds `filt`, `note` and `tls`: what people type, and notes, are given to binds before anything else is done with them; they may
//! take them away, and change what was typed.

use masterchief_contract::{Event, EventData, Future, Kind, Value};

use super::kinds::FILT;
use super::party::Party;
use crate::irc::TLS;
use crate::mesh::NOTE;
use crate::users::Standing;

/// What becomes of a line of somebody: other words, or nothing. An empty one is none.
pub type Sieve = Box<dyn Fn(Event, Standing) -> Future<Option<String>> + Send + Sync>;

/// Whether a note is taken by a bind.
pub type NoteTaker = Box<dyn Fn(Event) -> Future<bool> + Send + Sync>;

const TYPED: [Kind; 1] = [FILT];
const ENCRYPTED: [Kind; 1] = [TLS];

impl Party {
    /// A line that somebody typed, as binds let it through. What stands behind `.chpass` and the like is shown to none.
    pub(super) async fn sifted(&self, idx: u32, line: &str) -> Option<String> {
        let as_it_is = || Some(line.to_owned());
        let Some(sieve) = self.sieve().filter(|_| self.table().has_any(&TYPED)) else { return as_it_is() };
        let Some((actor, standing)) = self.person(idx) else { return as_it_is() };
        if self.holds_a_secret(line, &standing) {
            return as_it_is();
        }
        let mut event = self.event_of(&TYPED, actor, line);
        line.clone_into(&mut event.text);
        event.fields = vec![("idx", Value::from(idx))];
        let sifted = sieve(Event::new(event), standing).await?;
        sifted.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Whether a bind takes a note, so that nobody sees it.
    pub(super) async fn takes_note(&self, to: &str, from: &str, words: &str) -> bool {
        let Some(taker) = self.note_taker().filter(|_| self.table().has_any(&[NOTE])) else { return false };
        let mut event = EventData::new(&[NOTE], self.clock().now());
        words.clone_into(&mut event.text);
        event.fields = vec![("from", Value::from(from)), ("to", Value::from(to))];
        taker(Event::new(event)).await
    }

    /// The connection of a session is encrypted: its handshake is over.
    pub(super) fn encrypted(&self, idx: u32) {
        let Some((actor, _)) = self.person(idx) else { return };
        let mut event = self.event_of(&ENCRYPTED, actor, "");
        event.fields = vec![("idx", Value::from(idx))];
        self.try_put(Event::new(event));
    }

    fn holds_a_secret(&self, line: &str, standing: &Standing) -> bool {
        let Some(command) = line.trim_start().strip_prefix('.') else { return false };
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let word = self.word(word, standing).unwrap_or_default();
        super::commands::parted(&word, rest.trim_start()).1.is_some_and(|secret| !secret.is_empty())
    }
}
