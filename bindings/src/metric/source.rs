//! How a metric is looked at: asked for, compared, and what changed is told.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{Borrowed, Inbound, Meter, Promise, SourceError, Value};
use serde_json::json;

use super::influx::Influx;
use super::mask::{Origin, Rule};
use super::prometheus::Prometheus;
use super::rule::{Change, Known, Labels};
use super::statsd::{Listener, Selector};
use crate::poll::{Found, Look};

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
    /// What the listener had left out when that was last told.
    dropped: u64,
}

impl Rules {
    pub(super) fn new(rule: Rule, ask: Ask, meter: &Arc<Meter>) -> Rules {
        Rules { rule, ask, meter: Arc::clone(meter), dropped: 0 }
    }

    /// The series there are. Nothing, where nobody can say yet.
    async fn ask(&mut self) -> Result<Option<Vec<(Labels, f64)>>, SourceError> {
        match &mut self.ask {
            Ask::Prometheus(prometheus) => prometheus.ask().await.map(Some),
            Ask::Influx(influx) => influx.ask().await.map(Some),
            Ask::Statsd(listener, selector) => Ok(listener.ask(selector)),
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

impl Look for Rules {
    type Memory = Known;

    const LANE: &'static str = "series";

    fn promise(&self) -> Promise {
        match self.ask {
            Ask::Statsd(..) => {
                Promise::BestEffort("what is sent by UDP may be lost, and what is counted is not kept over a restart")
            }
            _ => Promise::AtLeastOnce,
        }
    }

    fn every(&self) -> Duration {
        match (&self.ask, self.rule.origin) {
            (Ask::Statsd(listener, _), Origin::Statsd) => listener.window(),
            _ => self.rule.every,
        }
    }

    fn open(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async move {
            if let Ask::Statsd(listener, _) = &self.ask {
                let at = listener.open().await.map_err(SourceError::Wrong)?;
                self.meter.note(format!("listens on {at}"));
                self.dropped = listener.dropped();
            }
            Ok(())
        })
    }

    fn look(&mut self, mut known: Known) -> Borrowed<'_, Result<Found<Known>, SourceError>> {
        Box::pin(async move {
            let found = self.ask().await?;
            let mut again = None;
            if let Ask::Statsd(listener, _) = &self.ask {
                let dropped = listener.dropped();
                self.meter.drop_count(dropped.saturating_sub(self.dropped));
                self.dropped = dropped;
                // Each window once, soon after it is over.
                again = Some(listener.next());
            }
            let Some(found) = found else {
                return Ok(Found { events: Vec::new(), memory: known, again, partial: false });
            };
            let changes = known.look(&self.rule, found, Utc::now());
            self.meter.note(format!("{} firing", known.firing()));
            let events = changes.into_iter().map(|change| self.inbound(change)).collect();
            Ok(Found { events, memory: known, again, partial: false })
        })
    }

    /// A value that moves without a change is not worth writing.
    fn same(one: &Known, other: &Known) -> bool {
        one.troubled().eq(other.troubled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::StatsdSettings;
    use crate::metric::statsd::listener;

    #[tokio::test]
    async fn what_statsd_leaves_out_is_counted_where_people_look() {
        let at = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = StatsdSettings { udp: at, tcp: None, window: Duration::from_millis(150) };
        let (meter, listener) = (Arc::new(Meter::default()), listener(&settings));
        let rule = Rule::parse("statsd:jobs>5").unwrap();
        let selector = Selector::parse(&rule.query).unwrap();
        let mut rules = Rules::new(rule, Ask::Statsd(Arc::clone(&listener), selector), &meter);
        rules.open().await.unwrap();
        let to = meter.noted().rsplit(' ').next().unwrap().to_owned();
        let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        from.send_to(b"nonsense\njobs:1|c\nmore of it\n", &to).unwrap();
        while listener.dropped() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..2 {
            rules.look(Known::default()).await.unwrap();
            assert_eq!(meter.dropped(), 2, "once each");
        }
    }
}
