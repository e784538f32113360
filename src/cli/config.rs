//! `masterchief config`: what the configuration says, and where each value comes from.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Common, Done, WRONG_INPUT, output};
use crate::config;

/// Shows the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every value that is set, with its file and line; the rest is as in config/example.yaml. Secrets are not shown
    Show {
        /// Only what begins with this path: networks.libera
        path: Option<String>,
    },
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let Command::Show { path } = &args.command;
    let shown = match config::shown(common.config.as_deref(), common.env.as_deref()) {
        Ok(shown) => shown,
        Err(fault) => {
            output::fault(&fault.to_string());
            return Ok(ExitCode::from(WRONG_INPUT));
        }
    };
    let meant = |one: &str| match path {
        Some(path) => one == path || one.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.')),
        None => true,
    };
    let shown: Vec<_> = shown.into_iter().filter(|one| meant(&one.path)).collect();
    if common.json {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    for one in &shown {
        let value = one.value.as_str().map_or_else(|| one.value.to_string(), str::to_owned);
        output::line(&format!("{} = {value}  ({})", one.path, one.from))?;
    }
    if shown.is_empty() {
        output::warning("nothing is set there, so it is as in config/example.yaml");
    }
    Ok(ExitCode::SUCCESS)
}
