//! `masterchief repl`: the scripts on the terminal, without a network, keeping nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::run::bring_scripts;
use super::{Common, Done, logging, output, runtime};
use crate::bot::Bot;
use crate::config::Secrets;
use crate::partyline::Console;

/// Tries scripts.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project whose scripts to try
    project: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let mut config = match common.config_at(args.project.as_deref(), Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    // On the terminal alone.
    logging::hide(&config.secrets);
    let _ = logging::start(&config.log, logging::CONSOLE);
    bring_scripts(&mut config)?;
    config.networks.clear();
    runtime()?.block_on(async {
        let console = Console::stdout();
        let mut builder = Bot::builder().configured(&config).console(console);
        builder = builder.partyline(Default::default());
        builder.data = None;
        let started = builder.start().await?;
        output::line(&format!(
            "The scripts of {} are here; a saved one is loaded at once. Type !help. End with Ctrl-D.",
            config.scripts.folder.display()
        ))?;
        tokio::select! {
            () = started.console_ended() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        started.stop("").await;
        Ok(ExitCode::SUCCESS)
    })
}
