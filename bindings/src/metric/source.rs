//! The source of `metric`: asks, compares, and tells what changed. What each series is stands in the journal beside what was
//! told, so that a restart neither forgets an alarm nor repeats it.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::influx::Influx;
use super::mask::{Origin, Rule};
use super::prometheus::Prometheus;
use super::rule::{Change, Known, Labels};
use super::statsd::{Listener, Selector};

/// Whom it asks.
pub(super) enum Ask {
    Prometheus(Prometheus),
    Influx(Influx),
    Statsd(Arc<Listener>, Selector),
}

pub(super) struct Rules {
    rule: Rule,
    ask: Ask,
    meter: Arc<Meter>,
    known: Known,
    /// What is in the journal.
    noted: String,
    ticks: Option<tokio::time::Interval>,
    /// What was found and is not settled.
    next: Option<Known>,
}

impl Rules {
    pub(super) fn new(rule: Rule, ask: Ask, meter: &Arc<Meter>) -> Rules {
        let meter = Arc::clone(meter);
        Rules { rule, ask, meter, known: Known::default(), noted: String::new(), ticks: None, next: None }
    }

    async fn ask(&mut self) -> Result<Vec<(Labels, f64)>, SourceError> {
        match &mut self.ask {
            Ask::Prometheus(prometheus) => prometheus.ask().await,
            Ask::Influx(influx) => influx.ask().await,
            Ask::Statsd(listener, selector) => Ok(listener.ask(selector)),
        }
    }

    fn every(&self) -> Duration {
        match (&self.ask, self.rule.origin) {
            (Ask::Statsd(listener, _), Origin::Statsd) => listener.window(),
            _ => self.rule.every,
        }
    }

    fn inbound(&self, change: Change) -> Inbound {
        let text = change.words(&self.rule);
        let key = change.key().into_boxed_str();
        let fields = vec![
            ("state", Value::from(change.state)),
            ("before", Value::from(change.before)),
            // JSON has no word for what is no number.
            ("value", if change.value.is_finite() { json!(change.value) } else { Value::Null }),
            ("threshold", json!(self.rule.threshold)),
            ("labels", json!(change.labels)),
            ("query", Value::from(self.rule.query.as_str())),
            ("since", Value::from(change.since.to_rfc3339())),
        ];
        Inbound { key: Some(key), at: Utc::now(), text, fields, body: Vec::new() }
    }
}

const LANE: &str = "series";

impl Source for Rules {
    fn promise(&self) -> Promise {
        match self.ask {
            Ask::Statsd(..) => {
                Promise::BestEffort("what is sent by UDP may be lost, and what is counted is not kept over a restart")
            }
            _ => Promise::AtLeastOnce,
        }
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.noted = positions.get(LANE).cloned().unwrap_or_default();
            self.known = serde_json::from_str(&self.noted).unwrap_or_default();
            self.next = None;
            if let Ask::Statsd(listener, _) = &self.ask {
                let at = listener.open().await.map_err(SourceError::Wrong)?;
                self.meter.note(format!("listens on {at}"));
            }
            let mut ticks = tokio::time::interval_at(Instant::now(), self.every());
            // A slow answer is no reason to ask twice.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.ticks = Some(ticks);
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            loop {
                let ticks = self.ticks.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
                ticks.tick().await;
                // A look that fails leaves everything as it was.
                let found = self.ask().await?;
                let mut known = self.known.clone();
                let changes = known.look(&self.rule, found, Utc::now());
                self.meter.note(format!("{} firing", known.firing()));
                let position = serde_json::to_string(&known).unwrap_or_default();
                // A value that moves without a change is not worth writing.
                if changes.is_empty() && same_phases(&position, &self.noted) {
                    self.known = known;
                    continue;
                }
                let events = changes.into_iter().map(|change| self.inbound(change)).collect();
                self.next = Some(known);
                self.noted.clone_from(&position);
                let part = Part { lane: Arc::from(LANE), shared: None, events, position: Some(position) };
                return Ok(Batch { parts: vec![part], ..Batch::default() });
            }
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        self.known = self.next.take().unwrap_or_else(|| self.known.clone());
        Box::pin(async { Ok(()) })
    }
}

/// Whether two states differ in series that are well only.
fn same_phases(left: &str, right: &str) -> bool {
    let phases = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(series) = value.get_mut("series").and_then(Value::as_object_mut) {
            let well = |one: &Value| one.get("phase").and_then(Value::as_str) == Some("ok");
            series.retain(|_, one| !well(one));
        }
        value
    };
    phases(left) == phases(right) || (right.is_empty() && phases(left) == json!({"series": {}}))
}
