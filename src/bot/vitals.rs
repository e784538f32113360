//! How the bot is, told to monitors.

use masterchief_bindings::webhook::STREAM;
use masterchief_contract::Future;

use std::future::Future as Waiting;
use std::time::Duration;

use super::ingest::Feeds;
use super::outbox::Outbox;
use super::words;
use crate::dispatch::BindTable;
use crate::gateway::{Check, Metrics, Vitals};
use crate::irc::Network;
use crate::journal::{FeedRow, Journal, ShareRow};
use crate::pipelines::{Pipelines, StageTimes, Times};
use crate::store::Store;

/// A database that takes longer to answer is not well.
const PATIENCE: Duration = Duration::from_secs(2);
/// Runs that ended are counted so long, in milliseconds.
const DAY: i64 = 86_400_000;

/// Whoever knows how the bot is.
pub(crate) struct BotVitals {
    pub(crate) journal: Journal,
    pub(crate) feeds: Feeds,
    pub(crate) outbox: Outbox,
    pub(crate) table: BindTable,
    pub(crate) store: Store,
    pub(crate) pipelines: Pipelines,
}

/// One check of something that may not answer at all.
async fn check<E: std::fmt::Display>(name: &str, look: impl Waiting<Output = Result<(), E>>) -> Check {
    let detail = match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(())) => String::new(),
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => {
            format!("it does not answer within {} s; look at its disk and at who else has it open", PATIENCE.as_secs())
        }
    };
    Check { name: name.to_owned(), ok: detail.is_empty(), detail }
}

/// Why sources have to wait, and for whom.
async fn full(journal: &Journal) -> String {
    let behind = journal.behind().await.unwrap_or_default();
    let last = behind.into_iter().max_by_key(|(_, behind)| *behind).filter(|(_, behind)| *behind > 0);
    let whose = last.map_or(String::new(), |(bind, behind)| format!(", most of them for {bind}: {behind}"));
    format!("it is full of events that are not delivered yet{whose}")
}

/// Why posts have to wait though the journal has room, if they do.
async fn crowded(journal: &Journal) -> Option<String> {
    journal.shares().into_iter().find(|row| row.full && row.stream == STREAM)?;
    let last = journal.laggard(STREAM).await.unwrap_or_default();
    Some(words::crowded("what is posted", last.as_ref()))
}

impl Vitals for BotVitals {
    fn checks(&self) -> Future<Vec<Check>> {
        let (journal, store, runs) = (self.journal.clone(), self.store.clone(), self.pipelines.records().clone());
        let unwritten = self.outbox.speech.ledger.unwritten();
        Box::pin(async move {
            let journal = check("journal", async {
                match journal.status().await {
                    Ok(status) if status.full => Err(full(&journal).await),
                    Ok(_) => crowded(&journal).await.map_or(Ok(()), Err),
                    Err(fault) => Err(fault.to_string()),
                }
            });
            let people = check("people", async {
                store.check().await.map_err(|fault| fault.to_string())?;
                match unwritten {
                    0 => Ok(()),
                    lines => Err(format!("{lines} lines that were said could not be written down yet")),
                }
            });
            let runs = check("runs", runs.check());
            let (journal, people, runs) = tokio::join!(journal, people, runs);
            vec![journal, people, runs]
        })
    }

    fn metrics(&self) -> Future<Metrics> {
        let (journal, feeds) = (self.journal.clone(), self.feeds.rows());
        let networks: Vec<_> = self.outbox.networks().iter().map(Network::status).collect();
        let binds = self.table.rows().len();
        let pipelines = self.pipelines.clone();
        Box::pin(async move {
            let mut out = Metrics::default();
            out.family("masterchief_binds", "Binds in the table", "gauge", [(Vec::new(), binds as f64)]);
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
            runs(&mut out, &pipelines).await;
            journaled(&mut out, &journal).await;
            out
        })
    }
}

/// What the journal holds, and how far binds are with it.
async fn journaled(out: &mut Metrics, journal: &Journal) {
    if let Ok(status) = journal.status().await {
        let of: [(&str, &str, &str, f64); 6] = [
            ("masterchief_journal_bytes", "Bytes of events in the journal", "gauge", status.bytes as f64),
            ("masterchief_journal_full", "Whether sources have to wait", "gauge", f64::from(status.full)),
            ("masterchief_journal_events_total", "Events written", "counter", status.next as f64 - 1.0),
            ("masterchief_dead_letters", "Dead letters", "gauge", status.dead as f64),
            (
                "masterchief_deliveries_waiting",
                "Deliveries that wait for a retry, or behind one that does",
                "gauge",
                status.waiting.saturating_sub(status.held) as f64,
            ),
            (
                "masterchief_deliveries_held",
                "Deliveries that wait for an operator: the process died during their call",
                "gauge",
                status.held as f64,
            ),
        ];
        for (name, about, kind, value) in of {
            out.family(name, about, kind, [(Vec::new(), value)]);
        }
    }
    let shares = journal.shares();
    let of =
        |value: fn(&ShareRow) -> f64| shares.iter().map(move |row| (vec![("stream", row.stream.as_str())], value(row)));
    let rows = of(|row| row.bytes as f64);
    out.family("masterchief_journal_stream_bytes", "Bytes of a stream's events in the journal", "gauge", rows);
    let rows = of(|row| f64::from(row.full));
    let about = "Whether a stream has its share of the journal, so that its source has to wait";
    out.family("masterchief_journal_stream_full", about, "gauge", rows);
    let Ok(binds) = journal.behind().await else { return };
    let rows = binds.iter().map(|(bind, behind)| (vec![("bind", bind.as_str())], *behind as f64));
    out.family("masterchief_bind_behind", "Numbers of the journal that a bind has not dealt with", "gauge", rows);
    let still = journal.standing_still();
    let stands = |bind: &String| still.iter().any(|(other, _)| other == bind);
    let rows = binds.iter().map(|(bind, _)| (vec![("bind", bind.as_str())], f64::from(stands(bind))));
    out.family(
        "masterchief_bind_stands_still",
        "Whether a bind begins nothing new, so much waits behind what fails, is held or takes long",
        "gauge",
        rows,
    );
}

/// Runs, their stages, and what these share. Records that do not answer in time are left out.
async fn runs(out: &mut Metrics, pipelines: &Pipelines) {
    let pools = tokio::time::timeout(PATIENCE, pipelines.pools()).await.unwrap_or_default();
    type Of = fn(&crate::pipelines::PoolRow) -> f64;
    let of: [(&str, &str, Of); 3] = [
        ("masterchief_pool_slots", "Slots of a pool", |row| row.size as f64),
        ("masterchief_pool_used", "Slots that stages hold", |row| row.used as f64),
        ("masterchief_pool_waiting", "Stages that wait for slots", |row| row.waiting as f64),
    ];
    for (name, about, value) in of {
        out.family(name, about, "gauge", pools.iter().map(|row| (vec![("pool", row.pool.as_str())], value(row))));
    }
    runners(out, pipelines).await;
    let records = pipelines.records();
    let counted = async { (records.run_states(pipelines.now() - DAY).await, records.stage_states().await) };
    let Ok((Ok(states), Ok(stages))) = tokio::time::timeout(PATIENCE, counted).await else { return };
    let rows = states.iter().map(|(state, count)| (vec![("state", state.as_str())], *count as f64));
    out.family("masterchief_runs", "Runs that have not ended, and those that ended within a day", "gauge", rows);
    let rows = stages.iter().map(|(state, count)| (vec![("state", state.as_str())], *count as f64));
    out.family("masterchief_stages", "Stages of runs that have not ended", "gauge", rows);
    times(out, pipelines).await;
}

/// Who does stages that name a runner.
async fn runners(out: &mut Metrics, pipelines: &Pipelines) {
    let (rows, _) = tokio::time::timeout(PATIENCE, pipelines.runners()).await.unwrap_or_default();
    type Of = fn(&crate::pipelines::RunnerRow) -> f64;
    let of: [(&str, &str, &str, Of); 7] = [
        ("masterchief_runner_up", "Whether a runner can be reached and does our work", "gauge", |row| {
            f64::from(row.there && row.refuses.is_none())
        }),
        ("masterchief_runner_slots", "Stages that a runner does at once", "gauge", |row| f64::from(row.slots)),
        ("masterchief_runner_busy", "Stages that a runner does now", "gauge", |row| f64::from(row.busy)),
        ("masterchief_runner_done_total", "Stages that went well on a runner", "counter", |row| row.done as f64),
        ("masterchief_runner_failed_total", "Stages that failed on a runner", "counter", |row| row.failed as f64),
        ("masterchief_runner_lost_total", "Stages that were lost with a runner", "counter", |row| row.lost as f64),
        ("masterchief_runner_seen_seconds", "When a runner was seen last: Unix time", "gauge", |row| {
            row.seen as f64 / 1000.0
        }),
    ];
    for (name, about, kind, value) in of {
        out.family(name, about, kind, rows.iter().map(|row| (vec![("runner", row.name.as_str())], value(row))));
    }
}

/// How long stages and runs take, and how long these wait, by app.
async fn times(out: &mut Metrics, pipelines: &Pipelines) {
    let mut all = Vec::new();
    for pipeline in pipelines.catalog().all() {
        if let Ok(Ok(stats)) = tokio::time::timeout(PATIENCE, pipelines.stats(&pipeline.app)).await {
            all.push((pipeline.app.clone(), stats));
        }
    }
    type Rows<'a> = Vec<(Vec<(&'a str, &'a str)>, Times)>;
    let family = |out: &mut Metrics, name: &str, about: &str, rows: &Rows| {
        let rows = rows.iter().flat_map(|(labels, times)| {
            [("0.5", times.p50), ("0.95", times.p95)].map(|(quantile, time)| {
                let labels = labels.iter().copied().chain([("quantile", quantile)]).collect();
                (labels, time as f64 / 1000.0)
            })
        });
        out.family(name, about, "gauge", rows);
    };
    let stages = |of: fn(&StageTimes) -> Option<Times>| -> Rows {
        let labels = |app, stage| vec![("app", app), ("stage", stage)];
        let rows =
            all.iter().flat_map(|(app, stats)| stats.stages.iter().map(move |(stage, times)| (app, stage, times)));
        rows.filter_map(|(app, stage, times)| Some((labels(app.as_str(), stage.as_str()), of(times)?))).collect()
    };
    let took = stages(|times| Some(times.ran));
    family(out, "masterchief_stage_seconds", "How long stages take that go well", &took);
    let waited = stages(|times| times.waited);
    family(out, "masterchief_stage_wait_seconds", "How long stages wait for their turn", &waited);
    let runs = |of: fn(&crate::pipelines::Stats) -> Option<Times>| -> Rows {
        all.iter().filter_map(|(app, stats)| Some((vec![("app", app.as_str())], of(stats)?))).collect()
    };
    let waited = runs(|stats| stats.waited);
    family(out, "masterchief_run_wait_seconds", "How long runs wait for their turn", &waited);
    family(out, "masterchief_run_seconds", "How long runs take once they have begun", &runs(|stats| stats.ran));
}

fn sources(out: &mut Metrics, feeds: &[FeedRow]) {
    type Of = fn(&FeedRow) -> Option<f64>;
    let of: [(&str, &str, &str, Of); 9] = [
        // What it was stands in `sources`: whoever may ask here may not see everything.
        ("masterchief_source_faulty", "Whether something is wrong with a source", "gauge", |row| {
            Some(f64::from(row.error.is_some()))
        }),
        (
            "masterchief_source_last_error_timestamp_seconds",
            "When something went wrong with a source last: Unix time",
            "gauge",
            |row| row.last_error_at.map(|at| at.timestamp_millis() as f64 / 1000.0),
        ),
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
    ];
    fn labels(row: &FeedRow) -> Vec<(&str, &str)> {
        vec![("kind", row.kind), ("stream", row.stream.as_str())]
    }
    for (name, about, kind, value) in of {
        let rows = feeds.iter().filter_map(|row| Some((labels(row), value(row)?)));
        out.family(name, about, kind, rows);
    }
    let lags = feeds.iter().filter_map(|row| {
        let unit = [("unit", row.lag_unit)];
        Some((labels(row).into_iter().chain(unit).collect(), row.lag? as f64))
    });
    let about = "What waits outside, in the unit it is counted in; seconds since the last good look, where one looks now and then";
    out.family("masterchief_source_lag", about, "gauge", lags);
}
