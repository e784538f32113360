//! `masterchief completions`: a script for a shell.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use super::{Cli, Done};

/// Prints a completion script.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "masterchief", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
