//! `masterchief events`: what came from outside, beside a running bot or without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::Utc;
use clap::Subcommand;
use masterchief_contract::{Event, Matching, closest};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Common, Done, event_number, output};
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
        #[arg(allow_negative_numbers = true, value_parser = event_number)]
        number: u64,
        /// Writes it to a file that script tests can let happen again
        #[arg(long, value_name = "FILE")]
        save_fixture: Option<PathBuf>,
    },
    /// Shows what binds would do about one; with --run a running bot does it
    Replay {
        /// Its number
        #[arg(allow_negative_numbers = true, value_parser = event_number)]
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
                    bail!(
                        "nobody is given event {number} again: no bind has read it, or it is tried again anyway; `masterchief events show {number}` tells"
                    );
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
    if rows.is_empty() && last > 0 {
        nothing(journal, of).await?;
    }
    let rows: Vec<Shown> = rows.into_iter().map(|row| shown(row, Vec::new())).collect();
    if common.json {
        return output::json(&rows);
    }
    let cells = rows.iter().map(|row| {
        let text: String = row.text.lines().next().unwrap_or("").chars().take(100).collect();
        let at = row.at.format("%F %T").to_string();
        vec![row.number.to_string(), at, row.stream.clone(), output::tame(&row.lane), output::tame(&text)]
    });
    output::table(&["EVENT", "AT (UTC)", "STREAM", "LANE", "TEXT"], &cells.collect::<Vec<_>>())?;
    Ok(())
}

/// Says why nothing is listed: nothing came, or there is no such thing.
async fn nothing(journal: &Journal, of: &str) -> anyhow::Result<()> {
    let (streams, kinds) = (journal.streams().await?, bot::kinds());
    let kinds: Vec<&str> =
        kinds.all().filter(|spec| spec.matching == Matching::Journal).map(|spec| spec.kind.name()).collect();
    if of.is_empty() {
        output::warning("nothing is kept of what came from outside; `masterchief sources` shows what is read");
    } else if kinds.contains(&of) || streams.iter().any(|row| row.name == of) {
        output::warning(&format!("nothing of {of} is kept; `masterchief sources` shows what is read"));
    } else {
        let known = || streams.iter().map(|row| row.name.as_str()).chain(kinds.iter().copied());
        let hint = closest(of, known()).map(|close| format!(" (did you mean {close}?)")).unwrap_or_default();
        bail!(
            "there is no kind and no stream {of}{hint}; the kinds are {}; `masterchief sources` shows the streams",
            kinds.join(", ")
        );
    }
    Ok(())
}

async fn show(common: &Common, journal: &Journal, number: u64, save: Option<PathBuf>) -> anyhow::Result<()> {
    let (stream, event) = journal.event(number).await?.with_context(|| missing(number))?;
    if let Some(file) = save {
        return save_fixture(&file, &event);
    }
    let states = journal.states(&stream, number).await?;
    let body = event.body.clone();
    let row = shown(EventRow { stream, event }, states);
    if common.json {
        return output::json(&row);
    }
    let lane = output::tame(&row.lane);
    output::line(&format!("event {number}  {}  {}  lane {lane}", row.at.to_rfc3339(), row.stream))?;
    if let Some(key) = &row.key {
        output::line(&output::tame(&format!("key {key}")))?;
    }
    for (name, value) in &row.fields {
        output::line(&output::tame(&format!("{name}: {value}")))?;
    }
    output::line(&output::tame(&format!("text: {}", row.text)))?;
    if !body.is_empty() {
        output::line(&output::tame(&format!("body, {} bytes: {}", body.len(), String::from_utf8_lossy(&body))))?;
    }
    for bind in &row.binds {
        output::line(&output::tame(&format!("{}: {}", bind.bind, bind.state)))?;
    }
    Ok(())
}

/// Tests look for it beside themselves.
fn save_fixture(file: &Path, event: &Event) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&Fixture::of(event))?;
    std::fs::write(file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    output::line(&format!(
        "{} holds event {}; in a test beside it, b:happens({name:?}) lets it happen",
        file.display(),
        event.id
    ))?;
    Ok(())
}

async fn dry(common: &Common, mut config: Config, journal: &Journal, number: u64) -> anyhow::Result<()> {
    super::run::bring_scripts(&mut config)?;
    let (replayed, failed) = bot::dry_replay(&config, journal, number).await?;
    let replayed = replayed.with_context(|| missing(number))?;
    // Its binds would be among those that are asked.
    failed.iter().for_each(|fault| output::warning(&fault.to_string()));
    if common.json {
        return output::json(&replayed);
    }
    for one in &replayed {
        output::line(&one.bind)?;
        for line in &one.lines {
            output::line(&output::tame(&format!("  {line}")))?;
        }
    }
    if replayed.is_empty() {
        output::line(&format!("no script wants event {number} now; `masterchief binds` shows what is bound"))?;
    } else {
        output::warning("nothing was done; with --run a bot does it, and says it with --speak too");
    }
    Ok(())
}
