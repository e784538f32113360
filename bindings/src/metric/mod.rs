//! `metric`: a number crosses a threshold. Prometheus, InfluxDB and StatsD under one engine: the comparison is made here, so
//! that a series that is gone is not taken for one that is well.

mod influx;
mod mask;
mod prometheus;
mod rule;
mod settings;
mod source;
mod statsd;

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Source, Wanted};

use crate::Settings;
use crate::poll::Polled;
use mask::{Origin, Rule};
use source::{Ask, Rules};

pub use settings::{InfluxSettings, PrometheusSettings, StatsdSettings};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Metric,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: words,
    check: |mask| Rule::parse(mask).map(drop),
    fields: &["state", "before", "value", "threshold", "labels", "query", "since"],
    about: "a metric crosses a threshold: `state` is firing, resolved or nodata",
    example: "prometheus:cpu_usage>80 for 5m clear <70",
    wants: Some(|mask| Rule::parse(mask).map(|rule| Wanted::all(rule.text))),
}];

fn words(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let rule = Rule::parse(stream).map_err(|fault| fault.to_string())?;
    let missing = |broker: &str| {
        format!(
            "there is no connection {}; add it, as in sources: {{{broker}: {{{}: {{url: ...}}}}}}",
            rule.conn, rule.conn
        )
    };
    let ask = match rule.origin {
        Origin::Prometheus => {
            let settings = settings.prometheus.get(&rule.conn).ok_or_else(|| missing("prometheus"))?;
            Ask::Prometheus(prometheus::Prometheus::new(settings, &rule.query)?)
        }
        Origin::Influx => {
            let settings = settings.influxdb.get(&rule.conn).ok_or_else(|| missing("influxdb"))?;
            Ask::Influx(influx::Influx::new(settings, &rule.query)?)
        }
        Origin::Statsd => {
            let settings = settings
                .statsd
                .as_ref()
                .ok_or("nothing is received: say where, as in sources: {statsd: {udp: \"127.0.0.1:8125\"}}")?;
            Ask::Statsd(statsd::listener(settings), statsd::Selector::parse(&rule.query)?)
        }
    };
    Ok(Box::new(Polled::new(Rules::new(rule, ask, meter), meter)))
}

/// Any text as a packet and as a selector, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(text: &str) {
    for sample in text.lines().flat_map(statsd::parse) {
        assert!(sample.rate > 0.0 && sample.rate <= 1.0);
    }
    let _ = statsd::Selector::parse(text);
}
