//! The records of runs for commands that look at them, whether or not a bot runs.

use std::path::PathBuf;

use anyhow::bail;

use crate::bot;
use crate::config::Config;
use crate::store::runs::{At, Runs};
use crate::yaml::SPARE;

/// Where they are if no server is named.
pub(super) fn file(config: &Config) -> PathBuf {
    config.data.join(format!("{}.db", bot::RUNS))
}

/// Where they are.
pub(super) fn at(config: &Config) -> anyhow::Result<At> {
    let records = &config.pipelines.records;
    if records.url.as_ref().is_some_and(|url| url.reveal() == SPARE) {
        bail!("pipelines.records.url is not known here: give this shell the variable or the file that it names");
    }
    Ok(records.at(Some(&file(config)))?)
}

/// Opens them to look at them.
pub(super) async fn look(config: &Config) -> anyhow::Result<Runs> {
    let at = at(config)?;
    if !at.is_there() {
        bail!("{at} is not there: nothing was run here yet; name the project, as in --config PATH");
    }
    Ok(Runs::look(&at).await?)
}
