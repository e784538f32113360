//! `masterchief test`: runs the scripts' tests, on a network in memory and a clock that costs no time.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::{Common, Done, logging, output};
use crate::bot;
use crate::config::{Log, Secrets};

/// Runs tests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project, or test files (`*_test.lua`)
    paths: Vec<PathBuf>,
    /// Only cases with this in their name
    #[arg(long, default_value = "")]
    filter: String,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    logging::start(&Log::default(), "error");
    let (files, projects): (Vec<PathBuf>, Vec<PathBuf>) = args.paths.iter().cloned().partition(|path| path.is_file());
    let config = match common.config_at(projects.first().map(PathBuf::as_path), Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let files = if files.is_empty() { bot::test_files(&config.scripts.folder) } else { files };
    if files.is_empty() {
        bail!("no tests: {} has no file whose name ends with _test.lua", config.scripts.folder.display());
    }
    if let Some(other) = files.iter().find(|file| !file.to_string_lossy().ends_with("_test.lua")) {
        bail!("{} is not a test; the names of tests end with _test.lua", other.display());
    }
    let results = bot::run_tests(&files, &args.filter, &config.users, &config.scripts.settings)?;
    let failed = results.iter().filter(|result| result.failure.is_some()).count();
    if results.is_empty() {
        bail!("no case has {:?} in its name", args.filter);
    }
    if common.json {
        output::json(&results)?;
    } else {
        for result in &results {
            let file = result.file.file_name().unwrap_or_default().to_string_lossy();
            match &result.failure {
                None => output::line(&format!("{} {file}: {}", output::good("ok    "), result.name))?,
                Some(failure) => {
                    output::line(&format!("{} {file}: {}", output::bad("FAILED"), result.name))?;
                    output::line(&format!("       {}", failure.replace('\n', "\n       ")))?;
                }
            }
        }
        output::line(&format!("{}, {failed} failed", output::count(results.len(), "case")))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
