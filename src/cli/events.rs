//! `masterchief events`: what came from outside, beside a running bot or without one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::Utc;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Common, Done, output};
use crate::bot;
use crate::config::Config;
use crate::journal::{EventRow, Fixture, Journal};

/// Lists, shows and replays events.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the newest, newest first
    List {
        /// A kind (webhook) or a stream (kafka:deployments); all where it is left out
        #[arg(default_value = "")]
        of: String,
        /// How many
        #[arg(long, default_value_t = 20)]
        last: usize,
    },
    /// Shows one, and how each bind is with it
    Show {
        /// Its number
        number: u64,
        /// Writes it to a file that script tests can let happen again
        #[arg(long, value_name = "FILE")]
        save_fixture: Option<PathBuf>,
    },
    /// Shows what binds would do about one; with --run a running bot does it
    Replay {
        /// Its number
        number: u64,
        /// Does it, instead of only showing it
        #[arg(long)]
        run: bool,
        /// Says in channels what the handlers say
        #[arg(long, requires = "run")]
        speak: bool,
    },
}

#[derive(Serialize)]
struct Shown {
    number: u64,
    at: chrono::DateTime<Utc>,
    kind: &'static str,
    stream: String,
    lane: String,
    key: Option<String>,
    text: String,
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    binds: Vec<BindState>,
}

#[derive(Serialize)]
struct BindState {
    bind: String,
    state: String,
}

pub(super) fn run(common: &Common, args: Args) -> Done {
    common.with_journal(async |config, journal| {
        match args.command {
            Command::List { of, last } => list(common, &journal, &of, last).await?,
            Command::Show { number, save_fixture } => show(common, &journal, number, save_fixture).await?,
            Command::Replay { number, run: false, .. } => dry(common, config, &journal, number).await?,
            Command::Replay { number, speak, .. } => {
                let binds = journal.replay(number, speak).await?.with_context(|| missing(number))?;
                for bind in &binds {
                    output::line(&format!("event {number} is given again to {bind}"))?;
                }
                if binds.is_empty() {
                    bail!("no bind has read event {number} yet");
                }
                output::warning("a running bot takes it within a second; where none runs, the next one does");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn missing(number: u64) -> String {
    format!("event {number} is not in the journal; `masterchief events list` shows what is")
}

fn shown(row: EventRow, binds: Vec<(String, String)>) -> Shown {
    let event = row.event;
    Shown {
        number: event.id,
        at: event.at,
        kind: event.kind().name(),
        stream: row.stream,
        lane: event.lane.to_string(),
        key: event.key.as_deref().map(str::to_owned),
        text: event.text.clone(),
        fields: event.own_fields().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        binds: binds.into_iter().map(|(bind, state)| BindState { bind, state }).collect(),
    }
}

async fn list(common: &Common, journal: &Journal, of: &str, last: usize) -> anyhow::Result<()> {
    let rows = journal.newest(of, last).await?;
    let rows: Vec<Shown> = rows.into_iter().map(|row| shown(row, Vec::new())).collect();
    if common.json {
        return output::json(&rows);
    }
    let cells = rows.iter().map(|row| {
        let text: String = row.text.lines().next().unwrap_or("").chars().take(100).collect();
        vec![row.number.to_string(), row.at.format("%F %T").to_string(), row.stream.clone(), row.lane.clone(), text]
    });
    output::table(&["EVENT", "AT (UTC)", "STREAM", "LANE", "TEXT"], &cells.collect::<Vec<_>>())?;
    Ok(())
}

async fn show(common: &Common, journal: &Journal, number: u64, save: Option<PathBuf>) -> anyhow::Result<()> {
    let (stream, event) = journal.event(number).await?.with_context(|| missing(number))?;
    if let Some(file) = save {
        let text = serde_json::to_string_pretty(&Fixture::of(&event))?;
        std::fs::write(&file, text + "\n").with_context(|| file.display().to_string())?;
        output::line(&format!(
            "{} holds event {number}; b:happens(\"{}\") lets it happen in a test",
            file.display(),
            file.display()
        ))?;
        return Ok(());
    }
    let states = journal.states(&stream, number).await?;
    let body = event.body.clone();
    let row = shown(EventRow { stream, event }, states);
    if common.json {
        return output::json(&row);
    }
    output::line(&format!("event {number}  {}  {}  lane {}", row.at.to_rfc3339(), row.stream, row.lane))?;
    if let Some(key) = &row.key {
        output::line(&format!("key {key}"))?;
    }
    for (name, value) in &row.fields {
        output::line(&format!("{name}: {value}"))?;
    }
    output::line(&format!("text: {}", row.text))?;
    if !body.is_empty() {
        output::line(&format!("body, {} bytes: {}", body.len(), String::from_utf8_lossy(&body)))?;
    }
    for bind in &row.binds {
        output::line(&format!("{}: {}", bind.bind, bind.state))?;
    }
    Ok(())
}

async fn dry(common: &Common, mut config: Config, journal: &Journal, number: u64) -> anyhow::Result<()> {
    super::run::bring_scripts(&mut config)?;
    let replayed = bot::dry_replay(&config, journal, number).await?.with_context(|| missing(number))?;
    if common.json {
        return output::json(&replayed);
    }
    for one in &replayed {
        output::line(&one.bind)?;
        for line in &one.lines {
            output::line(&format!("  {line}"))?;
        }
    }
    if replayed.is_empty() {
        output::line(&format!("no script wants event {number} now"))?;
    }
    Ok(())
}
