//! How the bot is, told to monitors.

use masterchief_contract::Future;

use super::ingest::Feeds;
use super::outbox::Outbox;
use crate::dispatch::BindTable;
use crate::gateway::{Check, Metrics, Vitals};
use crate::irc::Network;
use crate::journal::{FeedRow, Journal};

/// Whoever knows how the bot is.
pub(crate) struct BotVitals {
    pub(crate) journal: Journal,
    pub(crate) feeds: Feeds,
    pub(crate) outbox: Outbox,
    pub(crate) table: BindTable,
}

impl Vitals for BotVitals {
    fn checks(&self) -> Future<Vec<Check>> {
        let journal = self.journal.clone();
        Box::pin(async move {
            let (ok, detail) = match journal.status().await {
                Ok(status) if status.full => (false, "it is full of events that are not delivered yet".to_owned()),
                Ok(_) => (true, String::new()),
                Err(fault) => (false, fault.to_string()),
            };
            vec![Check { name: "journal".to_owned(), ok, detail }]
        })
    }

    fn metrics(&self) -> Future<Metrics> {
        let (journal, feeds) = (self.journal.clone(), self.feeds.rows());
        let networks: Vec<_> = self.outbox.networks().iter().map(Network::status).collect();
        let binds = self.table.rows().len();
        Box::pin(async move {
            let mut out = Metrics::default();
            let one = |value: f64| [(Vec::new(), value)];
            out.family("masterchief_binds", "Binds in the table", "gauge", one(binds as f64));
            type Of = fn(&crate::irc::Status) -> f64;
            let of: [(&str, &str, &str, Of); 5] = [
                ("masterchief_irc_connected", "Whether the bot is registered there", "gauge", |at| {
                    f64::from(at.connected)
                }),
                ("masterchief_irc_lines_in_total", "Lines received", "counter", |at| at.lines_in as f64),
                ("masterchief_irc_lines_out_total", "Lines sent", "counter", |at| at.lines_out as f64),
                ("masterchief_irc_queued", "Lines that wait to be sent", "gauge", |at| at.queued as f64),
                ("masterchief_irc_dropped_total", "Lines received that there was no room for", "counter", |at| {
                    at.dropped as f64
                }),
            ];
            for (name, about, kind, value) in of {
                let rows = networks.iter().map(|at| (vec![("network", at.network.as_str())], value(at)));
                out.family(name, about, kind, rows);
            }
            sources(&mut out, &feeds);
            if let Ok(status) = journal.status().await {
                out.family(
                    "masterchief_journal_bytes",
                    "Bytes of events in the journal",
                    "gauge",
                    one(status.bytes as f64),
                );
                out.family(
                    "masterchief_journal_full",
                    "Whether sources have to wait",
                    "gauge",
                    one(f64::from(status.full)),
                );
                out.family(
                    "masterchief_journal_events_total",
                    "Events written",
                    "counter",
                    one(status.next as f64 - 1.0),
                );
                out.family("masterchief_dead_letters", "Dead letters", "gauge", one(status.dead as f64));
                out.family(
                    "masterchief_deliveries_waiting",
                    "Deliveries that wait for a retry or an operator",
                    "gauge",
                    one(status.waiting as f64),
                );
            }
            if let Ok(streams) = journal.streams().await {
                let rows = streams.iter().flat_map(|stream| {
                    stream.behind.iter().map(|(bind, behind)| (vec![("bind", bind.as_str())], *behind as f64))
                });
                out.family(
                    "masterchief_bind_behind",
                    "Numbers of the journal that a bind has not dealt with",
                    "gauge",
                    rows,
                );
            }
            out
        })
    }
}

fn sources(out: &mut Metrics, feeds: &[FeedRow]) {
    type Of = fn(&FeedRow) -> Option<f64>;
    let of: [(&str, &str, &str, Of); 8] = [
        ("masterchief_source_up", "Whether a source is read", "gauge", |row| Some(f64::from(row.state == "reading"))),
        ("masterchief_source_events_total", "Events written", "counter", |row| Some(row.events as f64)),
        ("masterchief_source_rate", "Events a second over the last minute", "gauge", |row| Some(row.rate)),
        ("masterchief_source_duplicates_total", "Events that came again", "counter", |row| Some(row.duplicates as f64)),
        ("masterchief_source_undecodable_total", "What could not be understood", "counter", |row| {
            Some(row.undecodable as f64)
        }),
        ("masterchief_source_dropped_total", "What was lost before the journal", "counter", |row| {
            Some(row.dropped as f64)
        }),
        ("masterchief_source_opened_total", "How often it was opened", "counter", |row| Some(row.opened as f64)),
        ("masterchief_source_lag", "What waits outside", "gauge", |row| row.lag.map(|lag| lag as f64)),
    ];
    for (name, about, kind, value) in of {
        let rows = feeds
            .iter()
            .filter_map(|row| Some((vec![("kind", row.kind), ("stream", row.stream.as_str())], value(row)?)));
        out.family(name, about, kind, rows);
    }
}
