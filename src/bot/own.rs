//! What the bot itself does, as events: it is told something by the system, reads its configuration anew, ends.

use std::borrow::Cow;

use masterchief_contract::{Clock, Event, EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Returns, Value};

use super::Started;

/// The bot ends.
pub(crate) const DIE: Kind = Kind::new("die");

/// The list of this room.
pub(crate) const KINDS: &[KindSpec] = &[KindSpec {
    kind: DIE,
    matching: Matching::Mask,
    flags: FlagScope::Nobody,
    returns: Returns::Ignored,
    stackable: true,
    subject: reason,
    check: not_empty,
    fields: &["text"],
    about: "the bot ends in order, with this reason; handlers have the grace of running calls",
    example: "*",
    wants: None,
}];

/// Something that has a name, as kind `evnt`.
pub(super) fn named(name: &str, clock: &Clock) -> Event {
    let mut event = EventData::new(&[Kind::Evnt], clock.now());
    event.fields = vec![("type", Value::from(name))];
    Event::new(event)
}

impl Started {
    /// Tells the street of something that has a name, as kind `evnt`: `sighup`, `sigterm`, `prerehash`, `rehash`, `loaded`.
    pub fn tell(&self, name: &str) {
        self.put(&[Kind::Evnt], "", &[("type", name)]);
    }

    /// Tells the street that it ends.
    pub(super) fn tell_end(&self, reason: &str) {
        self.put(&[DIE], reason, &[]);
    }

    fn put(&self, kinds: &'static [Kind], text: &str, fields: &[(&'static str, &str)]) {
        let mut event = EventData::new(kinds, self.clock.now());
        event.text = text.to_owned();
        event.fields = fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        if self.inlet.try_put(Event::new(event).into()).is_err() {
            tracing::warn!(kind = %kinds[0], "The street has no room for what the bot does itself");
        }
    }
}

fn reason(event: &EventData) -> Cow<'_, str> {
    // A mask never meets nothing, and an end without a word is an end too.
    Cow::Borrowed(if event.text.is_empty() { " " } else { &event.text })
}

fn not_empty(mask: &str) -> Result<(), MaskFault> {
    let message = "an empty mask matches nothing; `*` matches every end".to_owned();
    if mask.is_empty() { Err(MaskFault { column: 1, message }) } else { Ok(()) }
}
