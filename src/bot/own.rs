//! What the bot itself does, as events: it is told something by the system, loads scripts, reads its configuration anew, ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use masterchief_contract::{
    Clock, Event, EventData, FlagScope, Inlet, Kind, KindSpec, MaskFault, Matching, Outcome, Returns, Value, Who,
};

use super::Started;
use super::calls::Calls;
use crate::dispatch::{BindTable, decide};
use crate::lua::called;
use crate::users::Standing;

/// The bot ends.
pub(crate) const DIE: Kind = Kind::new("die");
/// A script is loaded.
const LOAD: Kind = Kind::new("load");
/// A script is gone.
const UNLD: Kind = Kind::new("unld");
/// How long handlers may take that keep the bot from what it does by itself, or do something before it.
const WINDOW: Duration = Duration::from_secs(1);

/// What all rows have.
const OWN: KindSpec = KindSpec {
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
};

/// The list of this room.
pub(crate) const KINDS: &[KindSpec] = &[
    OWN,
    KindSpec {
        kind: LOAD,
        subject: module,
        fields: &["module"],
        about: "a script is loaded, or loaded anew; the mask meets its name; it hears of itself too",
        example: "deploys.lua",
        ..OWN
    },
    KindSpec {
        kind: UNLD,
        subject: module,
        fields: &["module"],
        about: "a script is taken away, because its file is gone",
        example: "deploys.lua",
        ..OWN
    },
];

/// Tells of a script that is there from now on, or not any more.
pub(super) fn tell_of_script(inlet: &Inlet, clock: &Clock, name: &str, there: bool) {
    let mut event = EventData::new(if there { &[LOAD] } else { &[UNLD] }, clock.now());
    event.fields = vec![("module", Value::from(name))];
    if inlet.try_put(Event::new(event).into()).is_err() && !inlet.is_closed() {
        tracing::warn!(script = name, "The street has no room to tell of a script");
    }
}

/// Gives something that has a name to its handlers, now, and waits a while for them: whether one of them keeps the bot from what it does
/// by itself.
pub(super) async fn is_held(calls: &Arc<Calls>, table: &BindTable, name: &str) -> bool {
    let event = named(name, &calls.clock);
    let steps = decide(&table.index(), &event, &Standing::default(), calls.rules.load().policy).steps;
    let calling = steps.into_iter().map(|step| {
        // Who takes longer has no say; the call goes on all the same.
        tokio::time::timeout(WINDOW, tokio::spawn(Arc::clone(calls).run(event.clone(), step, Who::default())))
    });
    let outcomes = join_all(calling).await;
    outcomes.iter().any(|outcome| matches!(outcome, Ok(Ok(Outcome::Stop))))
}

/// Something that has a name, as kind `evnt`.
pub(super) fn named(name: &str, clock: &Clock) -> Event {
    let mut event = EventData::new(&[Kind::Evnt], clock.now());
    event.fields = vec![("type", Value::from(name))];
    Event::new(event)
}

impl Started {
    /// The system tells the bot something, as kind `evnt`: `sighup`, `sigterm`. Whether a handler keeps it from what it does then by
    /// itself; none takes more than a second.
    pub async fn signalled(&self, name: &str) -> bool {
        let held = is_held(&self.calls, &self.table, name).await;
        if held {
            tracing::warn!(signal = name, "A bind of kind evnt keeps the bot from what it does by itself");
        }
        held
    }

    /// Tells binds of kind `evnt` of something that has a name of one's own: Eggdrop's `callevent`. Waits while the street is full.
    pub async fn call_event(&self, name: &str, text: &str) -> Result<(), String> {
        let event = called(name, text, None, self.clock.now())?;
        self.inlet.put(event).await.map_err(|closed| closed.to_string())
    }

    /// What there is to keep is kept: handlers of `evnt` and `save` have their second.
    pub(super) async fn tell_save(&self) {
        is_held(&self.calls, &self.table, "save").await;
    }

    /// Tells the street of something that has a name, as kind `evnt`: `prerehash`, `rehash`, `loaded`.
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

fn module(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.field_str("module"))
}

fn not_empty(mask: &str) -> Result<(), MaskFault> {
    let message = "an empty mask matches nothing; `*` matches all".to_owned();
    if mask.is_empty() { Err(MaskFault { column: 1, message }) } else { Ok(()) }
}
