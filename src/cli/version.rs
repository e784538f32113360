//! `masterchief version`.

use std::process::ExitCode;

use super::{Common, Done, output};

/// Tells the version.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(common: &Common, _args: &Args) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    if common.json {
        output::json(&serde_json::json!({ "name": "masterchief", "version": version }))?;
    } else {
        output::line(&format!("masterchief {version}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
