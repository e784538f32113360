//! `masterchief dlq`: events that were given up, and those that are held for an operator.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{Common, Done, output};
use crate::journal::{DeadRow, DeadState, Journal};

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
        #[arg(allow_negative_numbers = true)]
        id: i64,
    },
    /// Tries some again: a running bot does it within a second
    Retry {
        /// Their numbers in the list
        #[arg(required_unless_present = "all", allow_negative_numbers = true)]
        ids: Vec<i64>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Drops some
    Drop {
        /// Their numbers in the list
        #[arg(required_unless_present = "all", allow_negative_numbers = true)]
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
                let mut rows = Vec::new();
                if all {
                    rows = journal.dead_letters(ALL).await?;
                    rows.retain(|row| !row.bind.is_empty());
                }
                for id in ids {
                    rows.push(find(&journal, id).await?);
                }
                let mut left = Vec::new();
                for row in rows {
                    let (id, bind) = (row.id, row.bind.clone());
                    if journal.retry(row).await? {
                        output::line(&format!("{id} is tried again by {bind}"))?;
                    } else {
                        left.push(id.to_string());
                    }
                }
                if !left.is_empty() {
                    bail!(
                        "no bind that is known could try {}; `masterchief dlq show ID` shows one, `masterchief dlq drop ID` drops it",
                        left.join(" ")
                    );
                }
            }
            Command::Drop { ids, all } => {
                let mut rows = if all { journal.dead_letters(ALL).await? } else { Vec::new() };
                for id in ids {
                    rows.push(find(&journal, id).await?);
                }
                for row in rows {
                    let id = row.id;
                    journal.discard(row).await?;
                    output::line(&format!("{id} is dropped"))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
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
            whose.clone(),
            reason,
        ]
    });
    output::table(
        &["ID", "STATE", "AT (UTC)", "EVENT", "TRIES", "BIND OR STREAM", "REASON"],
        &cells.collect::<Vec<_>>(),
    )?;
    Ok(())
}

fn show(common: &Common, row: &DeadRow) -> anyhow::Result<()> {
    if common.json {
        return output::json(row);
    }
    output::line(&format!("{} at {} after {} tries: {}", row.id, row.at.to_rfc3339(), row.attempts, row.reason))?;
    output::line(&format!("stream {}, lane {}", row.stream, row.lane))?;
    if !row.bind.is_empty() {
        output::line(&format!("bind {}", row.bind))?;
    }
    if let Some(event) = &row.event {
        output::line(&format!("event {}", event.id))?;
        for (name, value) in event.own_fields() {
            output::line(&format!("{name}: {value}"))?;
        }
        output::line(&format!("text: {}", event.text))?;
        if !event.body.is_empty() {
            output::line(&format!("body, {} bytes: {}", event.body.len(), String::from_utf8_lossy(&event.body)))?;
        }
    }
    if let Some(raw) = &row.raw {
        output::line(&format!("{} bytes: {}", raw.len(), String::from_utf8_lossy(raw)))?;
    }
    Ok(())
}
