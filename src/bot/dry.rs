//! A dry run: the scripts of a configuration loaded and bound, with nothing they could act on.

use std::sync::Arc;

use super::bench::Stubs;
use super::{Bot, Replayed, StartError};
use crate::config::Config;
use crate::dispatch::BindRow;
use crate::journal::Journal;
use crate::lua::LoadError;

/// What a dry run shows.
#[derive(Debug)]
pub struct DryRun {
    /// Scripts that load.
    pub loaded: Vec<String>,
    /// Scripts that do not, and why.
    pub failed: Vec<LoadError>,
    /// Everything that is bound.
    pub binds: Vec<BindRow>,
}

/// What the scripts of a configuration would do about an event of a journal; nothing if it has none of that number.
pub async fn dry_replay(config: &Config, journal: &Journal, number: u64) -> Result<Option<Vec<Replayed>>, StartError> {
    let stubs = Arc::<Stubs>::default();
    let mut builder = Bot::builder().configured(config).outside(stubs.clone(), stubs.clone(), stubs).without_sources();
    builder.data = None;
    builder.networks.clear();
    let started = builder.start().await?;
    let replayed = started.dry_replay(journal, number).await;
    started.stop("").await;
    Ok(replayed?)
}

/// Loads everything without connecting, keeping or doing anything.
pub async fn dry_run(config: &Config) -> Result<DryRun, StartError> {
    let stubs = Arc::<Stubs>::default();
    let mut builder = Bot::builder().configured(config).outside(stubs.clone(), stubs.clone(), stubs).without_sources();
    builder.data = None;
    builder.networks.clear();
    let started = builder.start().await?;
    let report = started.reload_scripts().await;
    let binds = started.table().rows();
    started.stop("").await;
    Ok(DryRun { loaded: report.loaded, failed: report.failed, binds })
}
