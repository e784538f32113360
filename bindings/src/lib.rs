//! The event sources, one file or folder a kind. Each brings its rows for [`KINDS`] and a [`Source`], or, where its events
//! are dispatched at once, a [`Live`].
//!
//! [`Live`]: masterchief_contract::Live

#[cfg(test)]
mod canned;
#[cfg(feature = "sql")]
pub mod database;
mod diff;
mod faults;
pub mod file;
mod gap;
pub mod log;
mod mask;
#[cfg(test)]
mod masks;
pub mod metric;
mod overflow;
mod overlap;
mod paths;
mod poll;
pub mod rest;
mod settings;
pub mod stream;
pub mod time;
mod unread;
pub mod webhook;

use std::collections::BTreeSet;
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

/// Who asks, in requests over HTTP: some servers refuse whoever does not say.
pub(crate) const AGENT: &str = concat!("masterchief/", env!("CARGO_PKG_VERSION"));

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

/// Why two binds would take away from each other what they read, if they would; a sentence that says what to do.
pub fn collision(
    settings: &Settings,
    (kind, one): (Kind, &str),
    (other_kind, other): (Kind, &str),
) -> Option<&'static str> {
    const FOLLOWED: &str =
        "one of them puts away the files whose lines the other reads; keep them, or narrow a pattern";
    match (kind, other_kind) {
        (Kind::File, Kind::File) if file::collide(one, other) => Some(
            "they may read the same files, and one of them puts them away; narrow the patterns, or bind once and call \
             both handlers from there",
        ),
        (Kind::File, Kind::Log) if file::takes_log(one, other) => Some(FOLLOWED),
        (Kind::Log, Kind::File) if file::takes_log(other, one) => Some(FOLLOWED),
        (Kind::Stream, Kind::Stream) => stream::collide(settings, one, other),
        _ => None,
    }
}

/// What stands under `sources.logs` and says nothing: of logs that none of these masks names, and what is said twice.
pub fn idle_logs<'a>(settings: &Settings, masks: impl Iterator<Item = &'a str>) -> Vec<String> {
    let named: Vec<String> = masks.filter_map(log::path_of).collect();
    let mut said = BTreeSet::new();
    let mut doubt = |log: &log::LogSettings| {
        if !said.insert(log.path.clone()) {
            return Some(format!(
                "sources.logs: {} stands there twice, and only the first entry counts; make one of them",
                log.path
            ));
        }
        let idle = !named.contains(&log.path);
        idle.then(|| {
            format!(
                "sources.logs: no bind reads {}, so its entry says nothing; a path stands there as it stands in a mask",
                log.path
            )
        })
    };
    settings.logs.iter().filter_map(&mut doubt).collect()
}

fn no_gateway(_: &Settings, _: &str, _: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    Err("nobody can post: say where to listen, as in gateway: {listen: \"127.0.0.1:8686\"}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_log_that_nobody_reads_is_told() {
        let logs = serde_json::json!({"logs": [
            {"path": "/var/log/app.log", "format": "json"}, {"path": "/var/log/nginx/access.log", "format": "nginx"},
        ]});
        let settings: Settings = serde_json::from_value(logs).unwrap();
        let idle = idle_logs(&settings, ["/var/log/app.log ~x", "/var/log/nginx/*.log", "syslog"].into_iter());
        assert!(matches!(&idle[..], [one] if one.contains("/var/log/nginx/access.log")), "{idle:?}");
    }

    #[test]
    fn what_is_said_twice_of_a_log_is_told() {
        let logs = serde_json::json!({"logs": [
            {"path": "/var/log/app.log", "format": "json"}, {"path": "/var/log/app.log", "format": "nginx"},
        ]});
        let settings: Settings = serde_json::from_value(logs).unwrap();
        let idle = idle_logs(&settings, ["/var/log/app.log"].into_iter());
        assert!(matches!(&idle[..], [one] if one.contains("/var/log/app.log stands there twice")), "{idle:?}");
    }
}
