//! `masterchief scripts`: the scripts of a project, and whether they load.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::run::bring_scripts;
use super::{Common, Done, output, runtime};
use crate::bot;
use crate::config::Secrets;

/// Lists scripts.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project
    project: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    script: String,
    binds: usize,
    fault: Option<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let mut config = match common.config_at(args.project.as_deref(), Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    bring_scripts(&mut config)?;
    let dry = runtime()?.block_on(bot::dry_run(&config))?;
    let mut rows = Vec::new();
    for script in &dry.loaded {
        let binds = dry.binds.iter().filter(|bind| *bind.owner == **script).count();
        rows.push(Row { script: script.clone(), binds, fault: None });
    }
    for fault in &dry.failed {
        rows.push(Row { script: fault.script.clone(), binds: 0, fault: Some(fault.message.clone()) });
    }
    if common.json {
        output::json(&rows)?;
    } else {
        let shown: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                vec![row.script.clone(), row.binds.to_string(), row.fault.clone().unwrap_or_else(|| output::good("ok"))]
            })
            .collect();
        output::table(&["SCRIPT", "BINDS", "STATE"], &shown)?;
    }
    Ok(if dry.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
