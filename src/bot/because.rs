//! Why something is said: whatever a call says carries who and what brought it about, for `!why`.

use std::sync::{Arc, Weak};

use masterchief_contract::{Action, Actor, Cause, Event, Future, Kind, Outlet, Receipt, Refused, Who};

use crate::dispatch::Bind;

/// The outlet of one call. The cause is put together when something is said, not before.
pub(super) struct Because {
    pub(super) outlet: Arc<dyn Outlet>,
    /// Without its call, which holds this.
    pub(super) event: Event,
    pub(super) mask: Arc<str>,
    /// Weak, because a script may keep its event, and a script that is held by what it keeps itself would never end.
    pub(super) bind: Weak<Bind>,
    pub(super) kind: Kind,
    pub(super) who: Who,
    pub(super) call: Arc<str>,
}

impl Because {
    fn marked(&self, action: Action) -> Action {
        let does = matches!(
            action.bare(),
            Action::Say { .. } | Action::Send { .. } | Action::Join { .. } | Action::Part { .. }
        );
        if does { action.because(Arc::new(self.cause())) } else { action }
    }

    fn cause(&self) -> Cause {
        let (event, bind) = (&self.event, self.bind.upgrade());
        let run = event.field("run").and_then(masterchief_contract::Value::as_i64).unwrap_or(0);
        Cause {
            event: event.id,
            kind: self.kind.name().to_owned(),
            mask: self.mask.to_string(),
            origin: bind.as_ref().map(|bind| bind.origin()).unwrap_or_default(),
            version: bind.map(|bind| bind.version()).unwrap_or_default(),
            by: event.actor.as_ref().map(|actor| actor.source()).unwrap_or_default(),
            handle: self.who.handle.as_deref().unwrap_or("").to_owned(),
            place: match event.chan() {
                Some(chan) => format!("{}/{chan}", event.network),
                None => event.network.to_string(),
            },
            words: if event.chan().is_some() { event.text.clone() } else { String::new() },
            call: self.call.to_string(),
            run,
        }
    }
}

impl Outlet for Because {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        self.outlet.perform(self.marked(action))
    }

    fn deliver(&self, action: Action) -> Future<Result<Receipt, Refused>> {
        self.outlet.deliver(self.marked(action))
    }

    fn now(&self, network: &str, then: &Actor) -> Option<Actor> {
        self.outlet.now(network, then)
    }
}
