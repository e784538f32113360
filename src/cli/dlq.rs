//! `masterchief dlq`: events that were given up, and those that are held for an operator.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;

use super::{Common, Done, letter_number, output};
use crate::journal::{DeadRow, DeadState, Fixture, Journal, Replay};

/// Lists dead letters, shows one, tries them again or drops them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the newest, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
    /// Shows one whole
    Show {
        /// Its number in the list
        #[arg(allow_negative_numbers = true, value_parser = letter_number)]
        id: i64,
    },
    /// Tries some again: a running bot does it within a second
    Retry {
        /// Their numbers in the list
        #[arg(required_unless_present = "all", conflicts_with = "all", allow_negative_numbers = true, value_parser = letter_number)]
        ids: Vec<i64>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Drops some
    Drop {
        /// Their numbers in the list
        #[arg(required_unless_present = "all", conflicts_with = "all", allow_negative_numbers = true, value_parser = letter_number)]
        ids: Vec<i64>,
        /// All of them, and what is held
        #[arg(long)]
        all: bool,
    },
}

/// Letters that `--all` means at most.
const ALL: usize = 100_000;

pub(super) fn run(common: &Common, args: Args) -> Done {
    common.with_journal(async |_, journal| {
        match args.command {
            Command::List { last } => list(common, &journal, last).await?,
            Command::Show { id } => show(common, &find(&journal, id).await?)?,
            Command::Retry { ids, all } => {
                let mut rows = meant(&journal, ids, all).await?;
                // What could not be understood has no bind. Whoever names it is told so.
                rows.retain(|row| !all || !row.bind.is_empty());
                retry(&journal, rows).await?;
            }
            Command::Drop { ids, all } => {
                let rows = meant(&journal, ids, all).await?;
                if rows.is_empty() {
                    output::line("there are no dead letters")?;
                }
                for row in rows {
                    let id = row.id;
                    // A bot that runs may have been faster: it is gone in any case.
                    journal.discard(row).await?;
                    output::line(&format!("{id} is dropped"))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// All of them, or those with these numbers, each once.
async fn meant(journal: &Journal, mut ids: Vec<i64>, all: bool) -> anyhow::Result<Vec<DeadRow>> {
    if all {
        return Ok(journal.dead_letters(ALL).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        rows.push(find(journal, id).await?);
    }
    Ok(rows)
}

async fn retry(journal: &Journal, rows: Vec<DeadRow>) -> anyhow::Result<()> {
    let (mut again, mut left) = (0, Vec::new());
    for row in rows {
        let (id, bind) = (row.id, row.bind.clone());
        if journal.retry(row).await? {
            output::line(&format!("{id} is tried again by {bind}"))?;
            again += 1;
        } else {
            left.push(id.to_string());
        }
    }
    match again {
        0 if left.is_empty() => output::line("there is no dead letter that a bind could try")?,
        0 => {}
        _ => output::warning("a running bot does it within a second; where none runs, the next one does"),
    }
    if !left.is_empty() {
        bail!(
            "no bind that is known could try {}; `masterchief dlq show ID` shows one, `masterchief dlq drop ID` drops it",
            left.join(" ")
        );
    }
    Ok(())
}

async fn find(journal: &Journal, id: i64) -> anyhow::Result<DeadRow> {
    journal
        .dead_letter(id)
        .await?
        .with_context(|| format!("there is no dead letter {id}; `masterchief dlq list` lists them"))
}

async fn list(common: &Common, journal: &Journal, last: usize) -> anyhow::Result<()> {
    let rows = journal.dead_letters(last).await?;
    if common.json {
        return output::json(&rows);
    }
    let cells = rows.iter().map(|row| {
        let state = if row.state == DeadState::Held { "held" } else { "dead" };
        let whose = if row.bind.is_empty() { &row.stream } else { &row.bind };
        let reason: String = row.reason.lines().next().unwrap_or("").chars().take(100).collect();
        let event = row.number.map_or("-".to_owned(), |number| number.to_string());
        vec![
            row.id.to_string(),
            state.to_owned(),
            row.at.format("%F %T").to_string(),
            event,
            row.attempts.to_string(),
            output::tame(whose),
            output::tame(&reason),
        ]
    });
    output::table(
        &["ID", "STATE", "AT (UTC)", "EVENT", "TRIES", "BIND OR STREAM", "REASON"],
        &cells.collect::<Vec<_>>(),
    )?;
    Ok(())
}

/// A letter whole, for programs.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: &'a DeadRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Fixture>,
    /// What could not be understood, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

fn show(common: &Common, row: &DeadRow) -> anyhow::Result<()> {
    let raw = row.raw.as_ref().map(|raw| String::from_utf8_lossy(raw).into_owned());
    if common.json {
        return output::json(&Whole { row, event: row.event.as_ref().map(Fixture::of), raw });
    }
    let line = |text: String| output::line(&output::tame(&text));
    let tries = if row.attempts == 1 { "1 try".to_owned() } else { format!("{} tries", row.attempts) };
    line(format!("{} at {} after {tries}: {}", row.id, row.at.to_rfc3339(), row.reason))?;
    if !row.stream.is_empty() {
        line(format!("stream {}, lane {}", row.stream, row.lane))?;
    }
    if !row.bind.is_empty() {
        line(format!("bind {}", row.bind))?;
    }
    match row.replay {
        Replay::No => {}
        Replay::Quiet => line("a replay, which says nothing in channels".to_owned())?,
        Replay::Speak => line("a replay, which says in channels what its handler says".to_owned())?,
    }
    if let Some(event) = &row.event {
        line(format!("event {}", event.id))?;
        for (name, value) in event.own_fields() {
            line(format!("{name}: {value}"))?;
        }
        line(format!("text: {}", event.text))?;
        if !event.body.is_empty() {
            line(format!("body, {} bytes: {}", event.body.len(), String::from_utf8_lossy(&event.body)))?;
        }
    }
    if let Some(raw) = raw {
        line(format!("{} bytes: {raw}", row.raw.as_ref().map_or(0, Vec::len)))?;
    }
    Ok(())
}
