//! What comes from outside, each beside a floor in the same run: journal appends, log lines from file to a Rust handler,
//! webhooks, messages of Kafka, packets of StatsD.
//!
//! `cargo bench --bench ingest [-- journal log webhook kafka statsd --strict]`
//!
//! What is aimed at stands at the end with what came of it. Machines differ, so only with `--strict` a run that falls short has failed.

#![allow(missing_docs)]

#[path = "../../tests/stories/servers.rs"]
mod servers;

mod journal;
mod kafka;
mod log;
mod statsd;
mod webhook;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Something that is aimed at.
struct Aim {
    what: String,
    figure: f64,
    least: f64,
}

impl Aim {
    fn is_met(&self) -> bool {
        self.figure >= self.least
    }
}

fn main() -> Fallible<()> {
    let (options, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    let strict = options.iter().any(|option| option == "--strict");
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let aims = runtime.block_on(async {
        let mut aims = Vec::new();
        if wanted("journal") {
            aims.extend(journal::appends().await?);
        }
        if wanted("log") {
            aims.extend(log::lines().await?);
        }
        if wanted("webhook") {
            aims.extend(webhook::posts().await?);
        }
        if wanted("kafka") {
            aims.extend(kafka::messages().await?);
        }
        if wanted("statsd") {
            statsd::packets().await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(aims)
    })?;
    for aim in &aims {
        let met = if aim.is_met() { "met" } else { "missed" };
        println!("{}: {:.2}, at least {:.2} is aimed at: {met}", aim.what, aim.figure, aim.least);
    }
    let missed = aims.iter().filter(|aim| !aim.is_met()).count();
    if strict && missed > 0 {
        return Err(format!("{missed} of {} aims are missed", aims.len()).into());
    }
    Ok(())
}

/// What is written in a run: the same again and again, of which the journal keeps next to nothing once it has compressed it, or texts in
/// which nothing is like anything else. Real ones are in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    Alike,
    Different,
}

impl Texts {
    const BOTH: [Texts; 2] = [Texts::Alike, Texts::Different];

    fn named(self) -> &'static str {
        match self {
            Texts::Alike => "all alike",
            Texts::Different => "nothing alike",
        }
    }

    /// Texts of a length, to be taken in turn: more bytes than a compressor looks back.
    fn of(self, length: usize) -> Vec<String> {
        match self {
            Texts::Alike => vec!["x".repeat(length)],
            Texts::Different => (0..(1 << 20) / length as u64).map(|number| noise(number, length)).collect(),
        }
    }
}

/// Letters by chance, the same for the same number.
fn noise(number: u64, length: usize) -> String {
    let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        // Neither a quote nor a backslash: it stands in JSON as it is.
        char::from(b'#' + (dice >> 32) as u8 % 57)
    };
    std::iter::repeat_with(letter).take(length).collect()
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
