//! What a kind, a source and a handler owe each other. The smallest crate of the house: it knows no one.
//!
//! A kind that lives outside this repository depends on this crate alone. It brings a [`KindSpec`] row, turns
//! what happens into events, and brings them as a [`Source`] to the journal or, where they are dispatched at once,
//! hands them to an [`Inlet`]. A handler takes an [`Event`] and gives an
//! [`Outcome`]; what it wants done meanwhile it asks of the event's [`Outlet`] as an [`Action`].

mod action;
mod backoff;
mod casemap;
mod clock;
mod closest;
mod event;
mod handler;
mod inlet;
mod kind;
mod line;
mod options;
mod secret;
mod shutdown;
mod source;
mod wild;

pub use action::{Action, Future, How, Outlet, Refused};
pub use backoff::Backoff;
pub use casemap::CaseMap;
pub use clock::Clock;
pub use closest::closest;
pub use event::{Actor, Args, Call, Delivery, Event, EventData, Fields, Who, split_place};
pub use handler::{Handler, HandlerError, HandlerResult, IntoOutcome, Outcome, user_error};
pub use inlet::{Bound, Closed, INLET_DEPTH, Inlet, Live, Outlets, Parcel, inlet};
pub use kind::{Filter, FlagScope, Kind, KindSpec, MaskFault, Matching, Returns, Wanted, Wants};
pub use line::{Cause, Class, Mark, Proof, Receipt};
pub use options::{Acts, BindId, BindOptions, Cooldown, DeliveryOptions, Missed, OnCrash, Order};
pub use secret::Secret;
pub use shutdown::{Shutdown, Stopper};
pub use source::{
    BAD_BYTES, BATCH_BYTES, Batch, Borrowed, EVENT_BYTES, Fate, Inbound, Meter, Part, Positions, Promise, Source,
    SourceError, Undecodable, size_of,
};
pub use wild::wild_match;

/// A value of an event's own fields: what JSON can say.
pub use serde_json::Value;
