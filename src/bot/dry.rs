//! A dry run: the scripts of a configuration loaded and bound, with nothing they could act on.

use std::sync::Arc;

use masterchief_contract::Kind;

use super::bench::Stubs;
use super::policy::Table;
use super::{Bot, Replayed, StartError, Started};
use crate::config::Config;
use crate::dispatch::{Bind, BindRow};
use crate::journal::Journal;
use crate::lua::LoadError;
use crate::users::User;

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

/// What the scripts of a configuration would do about an event of a journal, nothing if it has none of that number; and the
/// scripts that do not load.
pub async fn dry_replay(
    config: &Config,
    journal: &Journal,
    number: u64,
) -> Result<(Option<Vec<Replayed>>, Vec<LoadError>), StartError> {
    let started = start(config).await?;
    let report = started.reload_scripts().await;
    let replayed = started.dry_replay(journal, number).await;
    started.stop("").await;
    Ok((replayed?, report.failed))
}

/// Loads everything without connecting, keeping or doing anything.
pub async fn dry_run(config: &Config) -> Result<DryRun, StartError> {
    let started = start(config).await?;
    let report = started.reload_scripts().await;
    let binds = started.table().rows();
    let (unread, doubts) = outside(&started, config);
    started.stop("").await;
    Ok(DryRun { loaded: report.loaded, failed: report.failed, binds, unread, doubts })
}

/// What a policy comes to.
#[derive(Debug)]
pub struct Tested {
    /// The rows that do not hold, and scripts that do not load.
    pub faults: Vec<String>,
    /// How many words were judged.
    pub judged: usize,
    /// Everything for people to read.
    pub lines: Vec<String>,
}

/// Holds a table against a configuration and these people, without connecting, keeping or doing anything.
pub async fn try_policy(config: &Config, table: &Table, users: Vec<User>) -> Result<Tested, StartError> {
    let started = start(config).await?;
    let report = started.reload_scripts().await;
    started.book().fill(users);
    let mut faults: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
    faults.extend(started.policy.faults(table).iter().map(ToString::to_string));
    let judged = table.rows.iter().map(|row| row.words.len()).sum();
    let lines = started.policy.lines(table);
    started.stop("").await;
    Ok(Tested { faults, judged, lines })
}

/// What a change of people would break of a table that holds without it.
pub async fn try_people(
    config: &Config,
    table: &Table,
    before: Vec<User>,
    after: Vec<User>,
) -> Result<Vec<String>, StartError> {
    let started = start(config).await?;
    started.reload_scripts().await;
    let faults_of = |users: Vec<User>| {
        started.book().fill(users);
        started.policy.faults(table)
    };
    let known = faults_of(before);
    let faults = faults_of(after).into_iter().filter(|fault| !known.contains(fault));
    let faults = faults.map(|fault| fault.to_string()).collect();
    started.stop("").await;
    Ok(faults)
}

async fn start(config: &Config) -> Result<Started, StartError> {
    let stubs = Arc::<Stubs>::default();
    let mut builder = Bot::builder().configured(config).outside(stubs.clone(), stubs.clone(), stubs).without_sources();
    builder.data = None;
    // Nobody is known in a dry run.
    builder.policy.file = None;
    builder.networks.clear();
    builder.start().await
}

/// What is bound outside and cannot be read, and files that two binds want to put away.
fn outside(started: &Started, config: &Config) -> (Vec<String>, Vec<String>) {
    let (mut unread, mut doubts) = (Vec::new(), Vec::new());
    let mut read: Vec<Arc<Bind>> = Vec::new();
    for (_, bind, wanted) in started.table().wanted() {
        let origin = bind.origin();
        let gateway = bind.kind() == Kind::Webhook && config.gateway.listen.is_some();
        if !gateway
            && let Err(fault) =
                masterchief_bindings::source(&config.sources, bind.kind(), &wanted.stream, &Arc::default())
        {
            unread.push(format!("{origin}: {} {}: {fault}", bind.kind(), bind.mask));
        }
        doubts.extend(read.iter().filter_map(|other| {
            let doubt = {
                let (one, two) = ((bind.kind(), &*bind.mask), (other.kind(), &*other.mask));
                masterchief_bindings::collision(&config.sources, one, two)?
            };
            Some(format!("{origin}: {} {} and {}: {doubt}", bind.kind(), bind.mask, other.mask))
        }));
        read.push(bind);
    }
    let logs = read.iter().filter(|bind| bind.kind() == Kind::Log).map(|bind| &*bind.mask);
    doubts.extend(masterchief_bindings::idle_logs(&config.sources, logs));
    (unread, doubts)
}
