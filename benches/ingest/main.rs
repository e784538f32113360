//! What comes from outside, each beside a floor in the same run: journal appends, log lines from file to a Rust handler,
//! webhooks, messages of Kafka, packets of StatsD.
//!
//! `cargo bench --bench ingest [-- journal log webhook kafka statsd]`

#![allow(missing_docs)]

#[path = "../../tests/stories/servers.rs"]
mod servers;

mod journal;
mod kafka;
mod log;
mod statsd;
mod webhook;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if wanted("journal") {
            journal::appends().await?;
        }
        if wanted("log") {
            log::lines().await?;
        }
        if wanted("webhook") {
            webhook::posts().await?;
        }
        if wanted("kafka") {
            kafka::messages().await?;
        }
        if wanted("statsd") {
            statsd::packets().await?;
        }
        Ok(())
    })
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
