//! `masterchief sources`: what is read from outside, and how that is going.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use masterchief_contract::closest;
use serde::Serialize;
use serde_json::Value;

use super::{Common, Done, output};
use crate::bot;
use crate::config::Config;
use crate::journal::{Journal, StreamRow};

/// Shows sources, as a running bot told last, and the streams they write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forgets where a source is, so that it begins anew; only while no bot runs
    Reset {
        /// The stream
        stream: String,
    },
}

#[derive(Serialize)]
struct Shown {
    /// When a bot told last.
    at: Option<DateTime<Utc>>,
    sources: Vec<Value>,
    /// Binds that begin nothing new, and how many events wait for each.
    standing_still: Vec<Value>,
    /// Streams that have their share of the journal.
    crowded: Vec<Value>,
    streams: Vec<StreamRow>,
}

pub(super) fn run(common: &Common, args: Args) -> Done {
    common.with_journal(async |config, journal| {
        if let Some(Command::Reset { stream }) = args.command {
            return reset(&config, &journal, &stream).await;
        }
        let told: Option<Value> = std::fs::read(config.data.join(bot::STATUS_FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let at = told.as_ref().and_then(|told| told.get("at")?.as_str()?.parse::<DateTime<Utc>>().ok());
        let list = |name| told.as_ref().and_then(|told| told.get(name)?.as_array().cloned()).unwrap_or_default();
        let [sources, standing_still, crowded] = ["sources", "standing_still", "crowded"].map(list);
        let shown = Shown { at, sources, standing_still, crowded, streams: journal.streams().await? };
        if common.json {
            output::json(&shown)?;
        } else {
            show(&shown)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn reset(config: &Config, journal: &Journal, stream: &str) -> Done {
    // A bot that runs would go on where it is and write that down again.
    let _held = bot::FolderLock::take(&config.data)?;
    let forgotten = journal.forget_positions(stream).await?;
    if forgotten == 0 {
        let streams = journal.streams().await?;
        let close = closest(stream, streams.iter().map(|row| row.name.as_str()));
        let hint = close.map(|close| format!(" (did you mean {close}?)")).unwrap_or_default();
        bail!("no place of {stream} is remembered{hint}; `masterchief sources` shows the streams");
    }
    output::line(&format!("{stream}: {} forgotten; the next bot begins it anew", output::count(forgotten, "place")))?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong, or what was and is over.
fn fault(text: impl Fn(&str) -> String) -> String {
    let (now, last) = (text("error"), text("last_error"));
    let at = text("last_error_at").parse::<DateTime<Utc>>().ok();
    match at.map(|at| at.format("%F %T")) {
        Some(at) if now == "-" => format!("over: {last} ({at})"),
        Some(at) if now == last => format!("{now} ({at})"),
        _ => now,
    }
}

fn show(shown: &Shown) -> anyhow::Result<()> {
    match shown.at {
        None => output::warning("no bot has told yet how its sources are doing"),
        Some(at) => {
            let old = (Utc::now() - at).num_seconds();
            if old > 10 {
                output::warning(&format!("no bot runs here now; this is from {}", at.format("%F %T UTC")));
            }
        }
    }
    for row in &shown.standing_still {
        if let Some((bind, waiting)) = row.get(0).and_then(Value::as_str).zip(row.get(1)) {
            output::warning(&format!(
                "{bind} begins nothing new: {waiting} events wait behind ones that fail, are held or take long; `masterchief dlq list` shows what is held"
            ));
        }
    }
    for row in &shown.crowded {
        if let Some((stream, bytes)) = row.get("stream").and_then(Value::as_str).zip(row.get("bytes")) {
            output::warning(&format!(
                "{stream} has its share of the journal ({bytes} bytes), so its source waits for its binds; journal.stream_bytes says how much that is"
            ));
        }
    }
    let text = |row: &Value, name: &str| match row.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let rows: Vec<Vec<String>> = shown
        .sources
        .iter()
        .map(|row| {
            let lag = match text(row, "lag").as_str() {
                "-" => "-".to_owned(),
                lag => format!("{lag} {}", text(row, "lag_unit")),
            };
            // What is in the way now is both.
            let note = Some(text(row, "note")).filter(|note| *note != text(row, "error"));
            let notes = [Some(fault(|name| text(row, name))), note].into_iter().flatten();
            let notes: Vec<String> = notes.filter(|note| note != "-" && !note.is_empty()).collect();
            let names = ["stream", "state", "events", "rate", "duplicates", "undecodable", "dropped"];
            let mut cells: Vec<String> = names.iter().map(|name| text(row, name)).collect();
            cells.extend([lag, text(row, "promise"), output::tame(&notes.join("; "))]);
            cells
        })
        .collect();
    let head = ["SOURCE", "STATE", "EVENTS", "PER S", "AGAIN", "BAD", "DROPPED", "LAG", "PROMISE", "ERRORS, NOTES"];
    output::table(&head, &rows)?;
    output::line("")?;
    let streams: Vec<Vec<String>> = shown
        .streams
        .iter()
        .map(|row| {
            let newest = row.newest.map_or("-".to_owned(), |at| at.format("%F %T").to_string());
            let behind = row.behind.iter().map(|(bind, behind)| format!("{bind}: {behind}"));
            vec![
                row.name.clone(),
                row.events.to_string(),
                row.bytes.to_string(),
                newest,
                behind.collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    output::table(&["STREAM IN THE JOURNAL", "EVENTS", "BYTES", "NEWEST (UTC)", "BEHIND"], &streams)?;
    Ok(())
}
