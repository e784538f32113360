//! The event sources, one file or folder a kind. Each brings its rows for [`KINDS`] and a [`Source`], or, where its events
//! are dispatched at once, a [`Live`].
//!
//! [`Live`]: masterchief_contract::Live

#[cfg(feature = "sql")]
pub mod database;
mod diff;
pub mod file;
pub mod log;
mod mask;
pub mod metric;
mod paths;
mod poll;
pub mod rest;
mod settings;
pub mod stream;
pub mod time;
pub mod webhook;

use std::sync::Arc;

use masterchief_contract::{Kind, KindSpec, Meter, Source};

pub use settings::Settings;

/// The kinds of this crate, a list for each source.
pub static KINDS: &[&[KindSpec]] = &[
    time::KINDS,
    file::KINDS,
    log::KINDS,
    stream::KINDS,
    metric::KINDS,
    webhook::KINDS,
    rest::KINDS,
    #[cfg(feature = "sql")]
    database::KINDS,
];

/// Makes the source of a stream, or says in one sentence why there is none.
type Factory = fn(&Settings, &str, &Arc<Meter>) -> Result<Box<dyn Source>, String>;

/// Who reads the streams of a kind.
const FACTORIES: &[(Kind, Factory)] = &[
    (Kind::File, file::source),
    (Kind::Log, log::source),
    (Kind::Stream, stream::source),
    (Kind::Metric, metric::source),
    (Kind::Rest, rest::source),
    #[cfg(feature = "sql")]
    (Kind::Database, database::source),
    (Kind::Webhook, no_gateway),
];

/// The source of a stream that a bind wants. The fault is for operators: it says what to configure.
pub fn source(settings: &Settings, kind: Kind, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let factory = FACTORIES.iter().find(|(known, _)| *known == kind).map(|(_, factory)| factory);
    factory.ok_or_else(|| format!("nothing reads {kind} streams"))?(settings, stream, meter)
}

/// Why two binds of a kind would take away from each other what they read, if they would; a sentence that says what to do.
pub fn collision(kind: Kind, one: &str, other: &str) -> Option<&'static str> {
    match kind {
        Kind::File if file::collide(one, other) => Some(
            "they read the same files, and one of them puts them away; bind once, and call both handlers from there",
        ),
        Kind::Stream if stream::collide(one, other) => Some(
            "both read a topic with one group, so that each message goes to one of them; name a second connection with \
             a group of its own",
        ),
        _ => None,
    }
}

fn no_gateway(_: &Settings, _: &str, _: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    Err("nobody can post: say where to listen, as in gateway: {listen: \"127.0.0.1:8686\"}".to_owned())
}
