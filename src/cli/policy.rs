//! `masterchief policy`: who may what where, as a table that is tried and shown.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::run::bring_scripts;
use super::{Common, Done, WRONG_INPUT, output, runtime};
use crate::bot::{self, PolicyTable, Tested};
use crate::config::{Config, Secrets};
use crate::store::Store;
use crate::users::User;

/// Tries and shows who may what where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Holds a table of who may what against the configuration, the scripts, the pipelines and the people
    Test {
        /// The table; config/policy.yaml if it is left out
        file: Option<PathBuf>,
    },
    /// Shows who may what, and the rows of the table
    Show,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let mut config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    bring_scripts(&mut config)?;
    let (file, show) = match &args.command {
        Command::Test { file } => (file.clone(), false),
        Command::Show => (None, true),
    };
    let path = file.unwrap_or_else(|| config.source.policy.clone());
    let table = match (path.exists(), show) {
        (false, true) => PolicyTable::default(),
        (false, false) => bail!("{} is not there: write a table, or name one", path.display()),
        (true, _) => match PolicyTable::read(&path) {
            Ok(table) => table,
            Err(faults) => {
                faults.iter().for_each(|fault| output::fault(&fault.to_string()));
                return Ok(ExitCode::from(WRONG_INPUT));
            }
        },
    };
    let tested = runtime()?.block_on(try_it(&config, &table))?;
    if show { told(common, &tested) } else { judged(common, &tested) }
}

/// What breaks the table of a configuration, if it has one.
pub(super) fn faults(config: &Config) -> anyhow::Result<Vec<String>> {
    let path = &config.source.policy;
    if !path.exists() {
        return Ok(Vec::new());
    }
    match PolicyTable::read(path) {
        Ok(table) => Ok(runtime()?.block_on(try_it(config, &table))?.faults),
        Err(faults) => Ok(faults.iter().map(ToString::to_string).collect()),
    }
}

/// What these people would break of the table of a configuration, if it has one, that those before them do not.
pub(super) async fn broken_by(config: &Config, before: Vec<User>, after: Vec<User>) -> anyhow::Result<Vec<String>> {
    let path = &config.source.policy;
    if !path.exists() {
        return Ok(Vec::new());
    }
    let table = match PolicyTable::read(path) {
        Ok(table) => table,
        Err(faults) => return Ok(faults.iter().map(ToString::to_string).collect()),
    };
    let mut config = config.clone();
    bring_scripts(&mut config)?;
    Ok(bot::try_people(&config, &table, before, after).await?)
}

async fn try_it(config: &Config, table: &PolicyTable) -> anyhow::Result<Tested> {
    let database = config.data.join(bot::PEOPLE);
    let users = match database.is_file() {
        true => {
            let store = Store::look(&database).await?;
            let users = bot::read_users(&store).await;
            store.close().await;
            users?
        }
        // Nobody is known yet.
        false => Vec::new(),
    };
    Ok(bot::try_policy(config, table, users).await?)
}

fn told(common: &Common, tested: &Tested) -> Done {
    if common.json {
        output::json(&tested.lines)?;
    } else {
        for line in &tested.lines {
            output::line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn judged(common: &Common, tested: &Tested) -> Done {
    if common.json {
        output::json(&json!({"ok": tested.faults.is_empty(), "judged": tested.judged, "faults": tested.faults}))?;
    } else {
        tested.faults.iter().for_each(|fault| output::fault(fault));
        if tested.faults.is_empty() {
            output::line(&format!("{}: {}", output::good("it holds"), output::count(tested.judged, "sentence")))?;
        }
    }
    Ok(if tested.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
