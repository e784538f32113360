//! `masterchief db`: the databases: people and what came from outside under the data folder, runs there or on a server.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use masterchief_contract::{Clock, Matching};
use serde::Serialize;

use super::{Common, Done, output, records, runtime};
use crate::bot;
use crate::config::{Config, Secrets};
use crate::journal;
use crate::store::Store;
use crate::store::runs::{At, Runs};

/// Looks after the databases.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings them up to date, as a bot that starts does
    Migrate {
        /// Changes nothing: says what would be done, and exits with 1 if anything would
        #[arg(long)]
        check: bool,
    },
    /// Takes the newest migrations of the records of runs back, so that the masterchief before can use them; no bot may run
    Rollback {
        /// How many
        count: usize,
        /// Records on a server: a copy was made by other means
        #[arg(long)]
        copied: bool,
    },
    /// Takes the records of runs from data/runs.db along to the server that pipelines.records names; no bot may run
    Move,
    /// Forgets runs that are older than pipelines.keep, with their logs, and what pipelines.retention keeps less long, as the bot does by itself
    Clean {
        /// Changes nothing: says what would be forgotten
        #[arg(long)]
        dry_run: bool,
    },
}

/// One migration, or a database as a whole.
#[derive(Serialize)]
struct Step {
    database: &'static str,
    migration: String,
    done: bool,
    fault: Option<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    if !config.data.is_dir() {
        bail!("{} is not there: no bot has run here yet; name the project, as in --config PATH", config.data.display());
    }
    match args.command {
        Command::Migrate { check } => runtime()?.block_on(migrate(common, &config, check)),
        Command::Rollback { count, copied } => runtime()?.block_on(rollback(common, &config, count, copied)),
        Command::Move => runtime()?.block_on(take_along(&config)),
        Command::Clean { dry_run } => runtime()?.block_on(clean(common, &config, dry_run)),
    }
}

async fn migrate(common: &Common, config: &Config, check: bool) -> Done {
    let (people, runs) = (config.data.join(bot::PEOPLE), records::at(config)?);
    if !check {
        Store::open(&people).await?.close().await;
        Runs::begin(&runs).await?;
    }
    let mut steps = Vec::new();
    if people.is_file() {
        add(&mut steps, "people", Store::migrations(&people).await);
    }
    if runs.is_there() {
        let known = Runs::migrations(&runs).await;
        add(
            &mut steps,
            "runs",
            known.map(|known| known.into_iter().map(|(name, done)| (name.to_owned(), done)).collect()),
        );
    }
    if let Some(step) = journal_step(&config.data.join(bot::JOURNAL)) {
        steps.push(step);
    }
    let well = steps.iter().all(|step| step.done);
    if common.json {
        output::json(&steps)?;
    } else {
        for step in &steps {
            let how = match (&step.fault, step.done) {
                (Some(fault), _) => output::bad(fault),
                (None, true) => output::good("done"),
                (None, false) => "to be done; masterchief db migrate does it, and so does a bot that starts".to_owned(),
            };
            output::line(&format!("{} {}: {how}", step.database, step.migration))?;
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a migration brought is gone with it, so a copy is kept beside the records; one of a server is for its own tools.
async fn rollback(common: &Common, config: &Config, count: usize, copied: bool) -> Done {
    let at = records::at(config)?;
    if !at.is_there() {
        bail!("{at} is not there: nothing was run here yet");
    }
    let _lock = bot::FolderLock::take(&config.data)?;
    let copy = match &at {
        At::File(path) => {
            let time = chrono::Utc::now().format("%Y%m%dT%H%M%S");
            let named = |more: String| path.with_extension(format!("before-rollback-{time}{more}.db"));
            // Two may be made within one second.
            let mut copy = named(String::new());
            for number in 2.. {
                if !copy.exists() {
                    break;
                }
                copy = named(format!("-{number}"));
            }
            Runs::copy(path, &copy)?;
            Some(copy)
        }
        _ if copied => None,
        _ => bail!(
            "the records are in {at}, and what a migration brought is gone with it: make a copy with `pg_dump --format=custom --file=runs.dump`, then say --copied; pg_restore brings it back"
        ),
    };
    let gone = Runs::rollback(&at, count).await?;
    if common.json {
        output::json(&serde_json::json!({"taken_back": gone, "copy": copy}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in gone {
        output::line(&format!("runs {name}: taken back"))?;
    }
    let before = copy.map_or("in your copy".to_owned(), |copy| copy.display().to_string());
    output::line(&format!("as they were before: {before}; the next bot of this version brings them up to date again"))?;
    Ok(ExitCode::SUCCESS)
}

/// The file keeps what it had, under another name, so that it is never taken for the records again.
async fn take_along(config: &Config) -> Done {
    let (at, file) = (records::at(config)?, records::file(config));
    if !matches!(at, At::Server(_)) {
        bail!("pipelines.records.url names no server, so the records stay in {at}");
    }
    if !file.is_file() {
        bail!("{} is not there: there is nothing to take along", file.display());
    }
    let _lock = bot::FolderLock::take(&config.data)?;
    let rows = Runs::take_along(&file, &at).await?;
    let aside = file.with_extension(format!("moved-{}.db", chrono::Utc::now().format("%Y%m%dT%H%M%S")));
    std::fs::rename(&file, &aside)?;
    output::line(&format!("{} are in {at} now; as they were: {}", output::count(rows, "row"), aside.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn add<E: std::fmt::Display>(steps: &mut Vec<Step>, database: &'static str, known: Result<Vec<(String, bool)>, E>) {
    match known {
        Ok(known) => {
            let step = |(migration, done)| Step { database, migration, done, fault: None };
            steps.extend(known.into_iter().map(step));
        }
        Err(fault) => {
            steps.push(Step { database, migration: "all".to_owned(), done: false, fault: Some(fault.to_string()) })
        }
    }
}

/// The journal has one version, which the bot that made it wrote.
fn journal_step(path: &Path) -> Option<Step> {
    if !path.is_file() {
        return None;
    }
    let kinds = bot::kinds();
    let journalled = kinds.all().filter(|spec| spec.matching == Matching::Journal);
    let fault = journal::peek(path, journalled, Clock::system()).err().map(|fault| fault.to_string());
    Some(Step { database: "journal", migration: "tables".to_owned(), done: fault.is_none(), fault })
}

async fn clean(common: &Common, config: &Config, dry_run: bool) -> Done {
    let at = records::at(config)?;
    if !at.is_there() {
        bail!("{at} is not there: nothing was run here yet");
    }
    let runs = if dry_run { Runs::look(&at).await? } else { Runs::begin(&at).await? };
    let keep = i64::try_from(config.pipelines.keep.as_millis()).unwrap_or(i64::MAX);
    let before = chrono::Utc::now().timestamp_millis().saturating_sub(keep);
    let gone = if dry_run { runs.old(before).await? } else { runs.purge(before).await? };
    let (mut apart, mut folders) = (Vec::new(), gone.clone());
    for (kind, time) in &config.pipelines.retention {
        let keep = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let before = chrono::Utc::now().timestamp_millis().saturating_sub(keep);
        let old = runs.expire(kind, before, !dry_run).await?;
        folders.extend(old.folders);
        apart.push((kind.clone(), old.rows));
    }
    folders.sort_unstable();
    folders.dedup();
    let mut bytes = 0;
    for number in &folders {
        let folder = config.data.join(bot::RUNS).join(number.to_string());
        bytes += size(&folder);
        if !dry_run {
            // It need not be there.
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    if common.json {
        let apart: serde_json::Map<_, _> = apart.into_iter().map(|(kind, rows)| (kind, rows.into())).collect();
        output::json(&serde_json::json!({"runs": gone, "rows": apart, "bytes": bytes, "forgotten": !dry_run}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!("{} and {bytes} bytes of their logs and files", output::count(gone.len(), "run"));
    output::line(&match dry_run {
        true => format!("would forget {what}; nothing is changed"),
        false => format!("forgot {what}"),
    })?;
    for (kind, rows) in apart {
        output::line(&format!(
            "{kind}: {} {}",
            output::count(usize::try_from(rows)?, "row"),
            if dry_run { "would go" } else { "gone" }
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |meta| meta.len()),
        })
        .sum()
}
