//! The beginning of the street: what happens is handed over through an inlet and dispatched at once.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{BindId, BindOptions, Clock, Event, Future, Shutdown};

/// How many parcels wait between the sources and the street before a source has to wait.
pub const INLET_DEPTH: usize = 1024;

/// The events of one thing that happened, in order: a line is `rawt`, `raw` and what it means.
///
/// If a handler of an event in it stops processing ([`crate::Returns::Stop`]), the later ones are not offered.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// In order; never empty.
    pub events: Vec<Event>,
}

impl From<Event> for Parcel {
    fn from(event: Event) -> Parcel {
        Parcel { events: vec![event] }
    }
}

/// The sources' end of the street.
#[derive(Clone, Debug)]
pub struct Inlet {
    to: mpsc::Sender<Parcel>,
}

/// The street's end: what [`inlet`] gives beside the [`Inlet`].
pub type Outlets = mpsc::Receiver<Parcel>;

/// A street's beginning, holding `depth` parcels.
pub fn inlet(depth: usize) -> (Inlet, Outlets) {
    let (to, from) = mpsc::channel(depth);
    (Inlet { to }, from)
}

/// The street is closed: the bot is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bot is shutting down")]
pub struct Closed;

impl Inlet {
    /// Hands a parcel over, waiting for room.
    pub async fn put(&self, parcel: impl Into<Parcel>) -> Result<(), Closed> {
        self.to.send(parcel.into()).await.map_err(|_| Closed)
    }

    /// Whether the street has closed.
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Hands a parcel over if there is room; gives it back if not, for the source to count.
    pub fn try_put(&self, parcel: Parcel) -> Result<(), Parcel> {
        self.to.try_send(parcel).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(parcel) | mpsc::error::TrySendError::Closed(parcel) => parcel,
        })
    }
}

/// A bind as its source sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Its number, to be named in [`crate::EventData::bind`].
    pub bind: BindId,
    /// Its kind; one source may serve several (`time` and `cron`).
    pub kind: crate::Kind,
    /// Its mask, already checked.
    pub mask: Arc<str>,
    /// Its options.
    pub options: BindOptions,
    /// A name that stays the same over reloads and restarts: kind, mask and owner.
    pub key: Arc<str>,
}

/// Something that makes events because binds ask for them, and whose events are dispatched at once: a schedule.
///
/// What is read from outside and must not be lost is a [`crate::Source`] instead, and passes the journal.
pub trait Live: Send + 'static {
    /// Runs until shutdown. `binds` is the set to serve and changes while it runs.
    fn run(
        self: Box<Self>,
        binds: watch::Receiver<Arc<[Bound]>>,
        inlet: Inlet,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Future<()>;
}
