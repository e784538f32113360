//! A dry run: the scripts of a configuration loaded and bound, with nothing they could act on.

use std::sync::Arc;

use masterchief_contract::Kind;

use super::bench::Stubs;
use super::{Bot, Replayed, StartError, Started};
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
    /// What is bound outside and cannot be read, with the reason.
    pub unread: Vec<String>,
    /// What cannot be meant.
    pub doubts: Vec<String>,
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
    let (unread, doubts) = outside(&started, config);
    started.stop("").await;
    Ok(DryRun { loaded: report.loaded, failed: report.failed, binds, unread, doubts })
}

/// What is bound outside and cannot be read, and files that two binds want to put away.
fn outside(started: &Started, config: &Config) -> (Vec<String>, Vec<String>) {
    let (mut unread, mut doubts) = (Vec::new(), Vec::new());
    let bound = started.table().bound().borrow().clone();
    let mut files: Vec<(String, String)> = Vec::new();
    for bind in bound.iter().filter_map(|bound| started.table().named(bound.bind)) {
        let Some(Ok(wanted)) = bind.spec().wants.map(|wants| wants(&bind.mask)) else { continue };
        let origin = bind.origin();
        let gateway = bind.kind() == Kind::Webhook && config.gateway.listen.is_some();
        if !gateway
            && let Err(fault) =
                masterchief_bindings::source(&config.sources, bind.kind(), &wanted.stream, &Arc::default())
        {
            unread.push(format!("{origin}: {} {}: {fault}", bind.kind(), bind.mask));
        }
        if bind.kind() == Kind::File {
            let path = bind.mask.split(" then=").next().unwrap_or("").split(' ').next().unwrap_or("").to_owned();
            let puts_away = bind.mask.contains(" then=move") || bind.mask.contains(" then=delete");
            if let Some((_, other)) =
                files.iter().find(|(known, other)| *known == path && (puts_away || other.contains(" then=")))
            {
                doubts.push(format!(
                    "{origin}: file {} and {other} read the same files, and one of them puts them away",
                    bind.mask
                ));
            }
            files.push((path, bind.mask.to_string()));
        }
    }
    (unread, doubts)
}
