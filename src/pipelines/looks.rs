//! What is asked about runs, places and apps: of the records, so the engine is not in the way.

use std::collections::BTreeMap;
use std::path::Path;

use super::collect::ARTIFACTS;
use super::figures::{Dora, Stats, dora, stats};
use super::handle::Pipelines;
use super::refusal::Refusal;
use super::run::{Millis, Run};
use super::words;
use crate::store::Anchor;
use crate::store::runs::{ArtifactRow, DeploymentRow, IncidentRow, RunRow, Runs, RunsError, Which};

/// So many runs tell how long runs take.
const STATS: u32 = 200;
/// So many runs are read at once.
const PAGE: u32 = 500;
/// So many runs at most tell how well an app is deployed.
const DORA_MOST: usize = 20_000;
/// What is where of an app, by environment.
pub type Places = Vec<(String, Option<(DeploymentRow, RunRow)>, bool, Option<(i64, String)>)>;

impl Pipelines {
    /// How long the stages and runs of an app take, over the newest.
    pub async fn stats(&self, app: &str) -> Result<Stats, RunsError> {
        let (times, waits) = (self.inner.runs.times(app).await?, self.inner.runs.waits(app).await?);
        let which = Which { app: Some(app.to_owned()), limit: STATS, ..Which::default() };
        let runs: Vec<Run> = self.list(which).await?.into_iter().map(|(_, run)| run).collect();
        Ok(stats(times, waits, &runs))
    }

    /// A file that was kept of a run, opened: only what the records name, and nothing that is a link.
    pub async fn artifact(
        &self,
        number: i64,
        stage: &str,
        path: &str,
    ) -> Result<(ArtifactRow, std::fs::File), Refusal> {
        let rows = self.inner.runs.artifacts(number).await?;
        let row = rows.into_iter().find(|row| row.stage == stage && row.path == path);
        let row = row.ok_or_else(|| Refusal::unknown(words::keeps_no_file(number, path, stage)))?;
        let found = self.run(number).await?;
        let one = found.and_then(|(_, stages)| stages.into_iter().find(|one| one.name == stage));
        let one = one.ok_or_else(|| Refusal::unknown(words::run_has_no_stage(number, stage)))?;
        let folder = self.step_folder(number, &one);
        let opened = tokio::task::spawn_blocking(move || open_artifact(&folder, &row).map(|file| (row, file)));
        opened.await.map_err(|_| Refusal::unknown(words::CANNOT_BE_READ))?.map_err(Refusal::unknown)
    }

    /// What is where of an app.
    pub async fn places(&self, app: &str) -> Result<Places, Refusal> {
        let pipeline = self.catalog().get(app)?;
        let open = self.inner.runs.open_runs(app).await?;
        let mut out = Vec::new();
        for (env, _) in &pipeline.policy.environments {
            let row = self.inner.runs.deployments(app, env, 1).await?.into_iter().next();
            let live = match row {
                Some(row) => self.inner.runs.run(row.run).await?.map(|(run, _)| (row, run)),
                None => None,
            };
            let locked = self.inner.runs.lock(&format!("{app}/{env}")).await?.is_some();
            let here = open.iter().filter(|run| run.env == *env);
            let running =
                here.filter_map(|row| serde_json::from_str::<Run>(&row.detail).ok()).find(|run| run.state.active());
            out.push((env.clone(), live, locked, running.map(|run| (run.number, run.shown()))));
        }
        Ok(out)
    }

    /// Runs, the newest first, as rows and whole.
    pub async fn list(&self, which: Which) -> Result<Vec<(RunRow, Run)>, RunsError> {
        let rows = self.inner.runs.runs(which).await?;
        Ok(rows.into_iter().filter_map(|row| serde_json::from_str(&row.detail).ok().map(|run| (row, run))).collect())
    }

    /// What changed somewhere in the time before now, and the alerts since then; production where none is named. Only of apps of which
    /// `shows` says so.
    pub async fn whatson(
        &self,
        env: Option<&str>,
        time: Millis,
        shows: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<String, Refusal> {
        let known = |wanted: &str| self.catalog().all().any(|pipeline| pipeline.rules(wanted).is_some());
        let env = match env {
            Some(env) if !known(env) => {
                return Err(Refusal::unknown(words::no_such_environment(env)));
            }
            Some(env) => Some(env),
            None => Some("prod").filter(|env| known(env)),
        };
        let now = self.now();
        let mut rows = self.inner.runs.deployed_since(env, now - time).await?;
        rows.retain(|row| shows(&row.app));
        let since = rows.last().map_or(now - time, |row| row.at);
        let alerts = self.inner.around.alerts(since).await;
        Ok(words::whatson(env, &rows, &alerts, time, now))
    }

    /// Lines about who waits for an app.
    pub async fn queue(&self, app: &str) -> Result<Vec<String>, Refusal> {
        self.catalog().get(app)?;
        let rows = self.inner.runs.open_runs(app).await?;
        let runs: Vec<Run> = rows.iter().filter_map(|row| serde_json::from_str(&row.detail).ok()).collect();
        Ok(vec![words::queue(app, &runs)])
    }

    /// Whether the incident log is as it was written: how many lines there are, or what is wrong with it.
    pub async fn audit(&self, anchor: Option<&Anchor>) -> Result<Result<u64, Tampered>, RunsError> {
        verify_incidents(&self.inner.runs, anchor).await
    }

    /// Lines of the incident log about an app since then, the newest first; those of other bots with their names.
    pub async fn logged(
        &self,
        app: &str,
        since: Millis,
        limit: u32,
    ) -> Result<Vec<(Option<String>, IncidentRow)>, RunsError> {
        let own = self.inner.runs.incidents(Some(app), since, limit).await?;
        let told = self.inner.around.told(app, since, limit).await;
        let mut rows: Vec<(Option<String>, IncidentRow)> = own.into_iter().map(|row| (None, row)).collect();
        rows.extend(told.into_iter().map(|(bot, row)| (Some(bot), row)));
        // Stable, so that lines of one bot stay in their order.
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.at));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    /// The four figures of DORA for an app since then.
    pub async fn dora(&self, app: &str, since: Millis) -> Result<Dora, Refusal> {
        self.catalog().get(app)?;
        let mut runs: Vec<Run> = Vec::new();
        let mut below = None;
        // Page by page, without what takes room and tells nothing here.
        while runs.len() < DORA_MOST {
            let which = Which { app: Some(app.to_owned()), since: Some(since), limit: PAGE, below, ..Which::default() };
            let page = self.list(which).await?;
            let Some((last, _)) = page.last() else { break };
            below = Some(last.number);
            runs.extend(page.into_iter().map(|(_, run)| Run {
                commits: Vec::new(),
                files: None,
                params: Default::default(),
                event: Default::default(),
                before: None,
                target: None,
                ..run
            }));
        }
        Ok(dora(app, &runs, since, self.now()))
    }

    /// The news of each kind of failure in an app since then.
    pub async fn flaky(&self, app: &str, since: Millis) -> Result<Vec<String>, Refusal> {
        self.catalog().get(app)?;
        let rows = self.inner.runs.failures(app, since).await?;
        let mut by_class: BTreeMap<String, i64> = BTreeMap::new();
        rows.iter().for_each(|(_, class, count)| *by_class.entry(class.clone()).or_default() += count);
        if rows.is_empty() {
            return Ok(vec![words::no_failures(app)]);
        }
        let stages: Vec<String> =
            rows.iter().take(6).map(|(stage, class, count)| format!("{stage} {class} x{count}")).collect();
        let classes: Vec<String> = by_class.iter().map(|(class, count)| format!("{class} {count}")).collect();
        Ok(vec![words::failures(app, stages.join(", "), classes.join(", "))])
    }
}

/// What is wrong with an incident log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    /// This line, or one before it.
    #[error("L-{0} is not as it was written, or a line before it is gone")]
    Line(i64),
    /// Lines at its end are gone, or all of it was made anew.
    #[error("the log ends with L-{kept}, and L-{known} was there: lines at its end are gone, or it was made anew")]
    Cut {
        /// The newest line there is.
        kept: i64,
        /// The newest line that is known elsewhere.
        known: i64,
    },
}

/// Whether an incident log is as it was written: how many lines there are, or what is wrong. `anchor` is what is known of its end
/// elsewhere: without it, nobody can tell whether lines at its end are gone.
pub async fn verify_incidents(runs: &Runs, anchor: Option<&Anchor>) -> Result<Result<u64, Tampered>, RunsError> {
    let (mut last, mut next) = (String::new(), 1);
    loop {
        let rows = runs.incidents_from(next, 1000).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if row.id != next || row.prev != last || super::engine::incident_hash(&row) != row.hash {
                return Ok(Err(Tampered::Line(next)));
            }
            last = row.hash;
            next += 1;
        }
    }
    let Some(anchor) = anchor else { return Ok(Ok(next.unsigned_abs() - 1)) };
    match runs.incident(anchor.id).await? {
        Some(row) if row.hash == anchor.hash => Ok(Ok(next.unsigned_abs() - 1)),
        Some(_) => Ok(Err(Tampered::Line(anchor.id))),
        None => Ok(Err(Tampered::Cut { kept: next - 1, known: anchor.id })),
    }
}

/// The hash of a line of an incident log, over the one before and all its fields.
pub fn hash_of_line(row: &IncidentRow) -> String {
    super::engine::incident_hash(row)
}

/// Opens a file that was kept, below the folder of its attempt.
pub fn open_artifact(folder: &Path, row: &ArtifactRow) -> Result<std::fs::File, String> {
    let path = folder.join(ARTIFACTS).join(&row.path);
    let gone = || words::file_is_gone(&row.path);
    let (root, file) = (folder.join(ARTIFACTS).canonicalize(), path.canonicalize());
    let (Ok(root), Ok(file)) = (root, file) else { return Err(gone()) };
    if !file.starts_with(&root) || !file.is_file() {
        return Err(gone());
    }
    std::fs::File::open(file).map_err(|_| gone())
}
