//! The handle: what the rest of the bot knows of pipelines.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Clock, Outlet, Shutdown};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::around::Around;
use super::catalog::Catalog;
use super::collect::ARTIFACTS;
use super::drive::{Drive, medians};
use super::engine::{Answer, Asked, Engine, KEEP, May, Msg, News};
use super::figures::{Dora, Stats, dora, stats};
use super::file;
use super::model::Pipeline;
use super::pools::PoolRow;
use super::remote::Told;
use super::run::{Asker, Millis, Run, StageRun};
use super::settings::Settings;
use super::steps::Steps;
use super::words;
use crate::executors::{Executors, Supervisor, tail};
use crate::store::Anchor;
use crate::store::runs::{ArtifactRow, DeploymentRow, RunRow, Runs, RunsError, Which};
use crate::yaml::ConfigFault;

/// Messages that wait for the engine.
const DEPTH: usize = 4096;
/// So many runs tell how long runs take.
const STATS: u32 = 200;
/// News that wait for a slow listener; it misses older ones.
const NEWS: usize = 4096;

/// What pipelines are opened with.
pub struct Opening {
    /// Their records.
    pub runs: Runs,
    /// Their settings.
    pub settings: Settings,
    /// What stages may do.
    pub executors: Executors,
    /// Where runs work and log.
    pub folder: PathBuf,
    /// Where the paths of secrets begin.
    pub project: PathBuf,
    /// Where words go.
    pub outlet: Arc<dyn Outlet>,
    /// The time of day.
    pub clock: Clock,
    /// Where the supervisor of commands is.
    pub supervisor: Supervisor,
    /// The bot.
    pub around: Arc<dyn Around>,
}

/// The pipelines of a bot. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Pipelines {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    catalog: ArcSwap<Catalog>,
    settings: ArcSwap<Settings>,
    executors: Executors,
    pub(super) runs: Runs,
    pub(super) steps: Steps,
    pub(super) folder: PathBuf,
    to: mpsc::Sender<Msg>,
    news: broadcast::Sender<Arc<News>>,
    chained: watch::Receiver<Option<Anchor>>,
    clock: Clock,
    around: Arc<dyn Around>,
}

/// What is where of an app, by environment.
pub type Places = Vec<(String, Option<(DeploymentRow, RunRow)>, bool, Option<(i64, String)>)>;

impl Pipelines {
    /// Opens them: what ran before is taken up again. The task ends at shutdown; steps that are under way outlive it.
    pub async fn open(
        opening: Opening,
        shutdown: Shutdown,
    ) -> Result<(Pipelines, JoinHandle<()>, Vec<ConfigFault>), RunsError> {
        let Opening { runs, settings, executors, folder, project, outlet, clock, supervisor, around } = opening;
        let (catalog, faults) = Catalog::read(&settings.folder, &executors);
        let catalog = Arc::new(catalog);
        let (to, from) = mpsc::channel(DEPTH);
        let (news, _) = broadcast::channel(NEWS);
        let steps = Steps::new(executors.clone(), (folder.clone(), project), supervisor, clock.clone(), to.clone());
        let mut engine = Engine::new(settings.clone(), Arc::clone(&catalog), chance, Arc::clone(&around));
        let since = clock.now().timestamp_millis() - KEEP;
        let loaded = runs.load(since).await?;
        let mut versions: HashMap<String, Arc<Pipeline>> = HashMap::new();
        for row in &loaded.runs {
            if versions.contains_key(&row.pipeline) {
                continue;
            }
            if let Some(version) = version(&runs, &row.pipeline, &settings.folder, &executors).await? {
                versions.insert(row.pipeline.clone(), version);
            }
        }
        for pipeline in catalog.all() {
            engine.times.insert(pipeline.app.clone(), medians(runs.times(&pipeline.app).await?));
        }
        engine.load(loaded, &versions);
        let (chain_end, chained) = watch::channel(None);
        let drive = Drive {
            engine,
            runs: runs.clone(),
            steps: steps.clone(),
            from,
            news: news.clone(),
            outlet,
            clock: clock.clone(),
            around: Arc::clone(&around),
            chained: chain_end,
            speaking: BTreeMap::new(),
        };
        let task = tokio::spawn(drive.run(shutdown));
        let inner = Inner {
            catalog: ArcSwap::new(catalog),
            settings: ArcSwap::from_pointee(settings),
            executors,
            runs,
            steps,
            folder,
            to,
            news,
            chained,
            clock,
            around,
        };
        Ok((Pipelines { inner: Arc::new(inner) }, task, faults))
    }

    /// What somebody may who is not here to ask.
    pub fn may(&self, who: &Asker) -> May {
        self.inner.around.may(who)
    }

    /// The pipelines there are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.load_full()
    }

    /// Reads the folder anew. Runs that are under way keep the version they began with. Gives what is wrong with files; of
    /// those that are wrong the version before is not kept, so that what runs is always what stands there.
    pub async fn reload(&self, settings: Option<Settings>) -> Vec<ConfigFault> {
        if let Some(settings) = settings {
            self.inner.settings.store(Arc::new(settings));
        }
        let settings = self.inner.settings.load_full();
        let (catalog, faults) = Catalog::read(&settings.folder, &self.inner.executors);
        let catalog = Arc::new(catalog);
        self.inner.catalog.store(Arc::clone(&catalog));
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Configure(catalog, Box::new(Settings::clone(&settings)))).await;
        faults
    }

    /// Adds a pipeline that is in no file: for tests and for programs that embed the bot.
    pub async fn put(&self, name: &str, text: &str) -> Result<(), Vec<ConfigFault>> {
        let path = self.inner.settings.load().folder.join(format!("{name}.yaml"));
        let pipeline = file::parse(&path, text, &self.inner.executors)?;
        let mut catalog = Catalog::clone(&self.inner.catalog.load());
        if let Some(fault) = catalog.put(pipeline) {
            return Err(vec![fault]);
        }
        let catalog = Arc::new(catalog);
        self.inner.catalog.store(Arc::clone(&catalog));
        let settings = Settings::clone(&self.inner.settings.load());
        let _ = self.inner.to.send(Msg::Configure(catalog, Box::new(settings))).await;
        Ok(())
    }

    /// Asks for something; ready once what came of it is durable.
    pub async fn ask(&self, asked: Asked) -> Answer {
        let (to, answered) = oneshot::channel();
        let gone = || "the bot is going down; ask again in a minute".to_owned();
        let (who, deed) = (asked.who.clone(), asked.ask.deed());
        self.inner.to.send(Msg::Ask(Box::new(asked), to)).await.map_err(|_| gone())?;
        let answer = answered.await.map_err(|_| gone())?;
        self.inner.around.note(&who, &deed, answer.as_ref().err().map(String::as_str));
        answer
    }

    /// What a remote build tells of a run that is under way: for those who may deploy there.
    pub async fn remote(&self, number: i64, may: &May, told: &Told) -> Result<(), String> {
        let found = self.run(number).await.map_err(|fault| fault.to_string())?;
        let Some((run, _)) = found else { return Err(format!("there is no run {number}")) };
        let pipeline = self.catalog().get(&run.app)?;
        if !pipeline.rules(&run.env).is_some_and(|rules| may.has(rules.flags.as_ref())) {
            return Err(format!("this token may not speak for {}", run.place()));
        }
        self.heard(number, None, told).await
    }

    /// The run and the stage whose build shows this token; it may tell how they go, and nothing else.
    pub fn of_token(&self, shown: &str) -> Option<(i64, usize)> {
        self.inner.steps.of_token(shown)
    }

    /// What the build of a stage tells that showed the stage's own token.
    pub async fn remote_own(&self, (number, stage): (i64, usize), told: &Told) -> Result<(), String> {
        self.heard(number, Some(stage), told).await
    }

    async fn heard(&self, number: i64, stage: Option<usize>, told: &Told) -> Result<(), String> {
        if let (name, Some(text)) = self.inner.steps.hear(number, stage, told)? {
            // At shutdown nobody needs it any more.
            let _ = self.inner.to.send(Msg::Told(number, name, text)).await;
        }
        Ok(())
    }

    /// Forgets runs that are older than they are kept, with their logs; how many.
    pub async fn purge(&self) -> Result<usize, RunsError> {
        let keep = self.inner.settings.load().keep.as_millis() as Millis;
        let gone = self.inner.runs.purge(self.now() - keep).await?;
        for number in &gone {
            // It need not be there.
            let _ = tokio::fs::remove_dir_all(self.inner.steps.run_folder(*number)).await;
        }
        Ok(gone.len())
    }

    /// A network is back after so long: what goes on is told as it is now.
    pub async fn back(&self, network: &str, away: Duration) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Back(network.to_owned(), away.as_millis() as Millis)).await;
    }

    /// What stages share, a line a pool.
    pub async fn slots(&self) -> Vec<String> {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Slots(to)).await;
        told.await.unwrap_or_default()
    }

    /// What stages share, as figures.
    pub async fn pools(&self) -> Vec<PoolRow> {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Pools(to)).await;
        told.await.unwrap_or_default()
    }

    /// How long the stages and runs of an app take, over the newest.
    pub async fn stats(&self, app: &str) -> Result<Stats, RunsError> {
        let times = self.inner.runs.times(app).await?;
        let which = Which { app: Some(app.to_owned()), limit: STATS, ..Which::default() };
        let runs: Vec<Run> = self.list(which).await?.into_iter().map(|(_, run)| run).collect();
        Ok(stats(times, &runs))
    }

    /// What happens from now on.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.inner.news.subscribe()
    }

    /// Waits until a run has ended, and gives it.
    pub async fn ended(&self, number: i64) -> Result<Option<(Run, Vec<StageRun>)>, RunsError> {
        let mut news = self.news();
        loop {
            let found = self.run(number).await?;
            if found.as_ref().is_none_or(|(run, _)| run.state.ended()) {
                return Ok(found);
            }
            loop {
                match news.recv().await {
                    Ok(news) if news.run == number && news.state.ended() => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return self.run(number).await,
                }
            }
        }
    }

    /// A run and its stages, as they were written down.
    pub async fn run(&self, number: i64) -> Result<Option<(Run, Vec<StageRun>)>, RunsError> {
        let Some((row, rows)) = self.inner.runs.run(number).await? else { return Ok(None) };
        let Ok(run) = serde_json::from_str::<Run>(&row.detail) else { return Ok(None) };
        let mut stages: Vec<StageRun> = rows.iter().filter_map(|row| serde_json::from_str(&row.detail).ok()).collect();
        stages.sort_by_key(|one| (if one.undo { usize::MAX - one.spec } else { one.spec }, one.name.clone()));
        Ok(Some((run, stages)))
    }

    /// The records, for questions of all kinds.
    pub fn records(&self) -> &Runs {
        &self.inner.runs
    }

    /// Where a run worked and logged.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The present moment.
    pub fn now(&self) -> Millis {
        self.inner.clock.now().timestamp_millis()
    }

    /// How long a run that is under way still takes, by how long its stages took before.
    pub async fn left(&self, number: i64) -> Option<Millis> {
        let (to, told) = oneshot::channel();
        self.inner.to.send(Msg::Left(number, to)).await.ok()?;
        told.await.ok()?
    }

    /// Somebody of a network left, or has another nick now: what waits for their yes waits no more.
    pub async fn gone(&self, network: &str, nick: &str) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Gone(network.to_owned(), nick.to_owned())).await;
    }

    /// The last lines of a stage's log; of the stage that failed, runs, or ran last, if none is named.
    pub async fn tail(&self, number: i64, stage: Option<&str>, count: usize) -> Result<(String, Vec<String>), String> {
        let found = self.run(number).await.map_err(|fault| fault.to_string())?;
        let Some((run, stages)) = found else { return Err(format!("there is no run {number}")) };
        let one = chosen(&run, &stages, stage)?;
        let folder = self.inner.steps.folder(number, &one.name, one.attempt);
        let (name, count) = (one.name.clone(), count.min(1000));
        let lines = tokio::task::spawn_blocking(move || tail(&folder, count)).await.unwrap_or_default();
        Ok((name, lines))
    }

    /// A file that was kept of a run, opened: only what the records name, and nothing that is a link.
    pub async fn artifact(&self, number: i64, stage: &str, path: &str) -> Result<(ArtifactRow, std::fs::File), String> {
        let rows = self.inner.runs.artifacts(number).await.map_err(|fault| fault.to_string())?;
        let row = rows.into_iter().find(|row| row.stage == stage && row.path == path);
        let row = row.ok_or_else(|| format!("run {number} keeps no {path} of {stage}"))?;
        let found = self.run(number).await.map_err(|fault| fault.to_string())?;
        let one = found.and_then(|(_, stages)| stages.into_iter().find(|one| one.name == stage));
        let one = one.ok_or_else(|| format!("run {number} has no stage {stage}"))?;
        let folder = self.step_folder(number, &one);
        let opened = tokio::task::spawn_blocking(move || open_artifact(&folder, &row).map(|file| (row, file)));
        opened.await.map_err(|_| "it cannot be read".to_owned())?
    }

    /// The folder of the newest attempt of a stage.
    pub fn step_folder(&self, number: i64, stage: &StageRun) -> PathBuf {
        self.inner.steps.folder(number, &stage.name, stage.attempt)
    }

    /// What is where of an app.
    pub async fn places(&self, app: &str) -> Result<Places, String> {
        let pipeline = self.catalog().get(app)?;
        let told = |fault: RunsError| fault.to_string();
        let open = self.inner.runs.open_runs(app).await.map_err(told)?;
        let mut out = Vec::new();
        for (env, _) in &pipeline.policy.environments {
            let row = self.inner.runs.deployments(app, env, 1).await.map_err(told)?.into_iter().next();
            let live = match row {
                Some(row) => self.inner.runs.run(row.run).await.map_err(told)?.map(|(run, _)| (row, run)),
                None => None,
            };
            let locked = self.inner.runs.lock(&format!("{app}/{env}")).await.map_err(told)?.is_some();
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

    /// What changed somewhere in the time before now, and the alerts since then; production where none is named.
    pub async fn whatson(&self, env: Option<&str>, time: Millis) -> Result<String, String> {
        let known = |wanted: &str| self.catalog().all().any(|pipeline| pipeline.rules(wanted).is_some());
        let env = match env {
            Some(env) if !known(env) => return Err(format!("no app has an environment {env:?}; !apps lists them")),
            Some(env) => Some(env),
            None => Some("prod").filter(|env| known(env)),
        };
        let now = self.now();
        let rows = self.inner.runs.deployed_since(env, now - time).await.map_err(|fault| fault.to_string())?;
        let since = rows.last().map_or(now - time, |row| row.at);
        let alerts = self.inner.around.alerts(since).await;
        Ok(words::whatson(env, &rows, &alerts, time, now))
    }

    /// Lines about who waits for an app.
    pub async fn queue(&self, app: &str) -> Result<Vec<String>, String> {
        self.catalog().get(app)?;
        let rows = self.inner.runs.open_runs(app).await.map_err(|fault| fault.to_string())?;
        let runs: Vec<Run> = rows.iter().filter_map(|row| serde_json::from_str(&row.detail).ok()).collect();
        let line = |run: &Run| {
            format!(
                "{} {} {} -> {} {}",
                run.number,
                words::quiet(&run.asker.handle),
                run.shown(),
                run.env,
                run.state.name().replace('_', " ")
            )
        };
        let lines: Vec<String> = runs.iter().map(line).collect();
        Ok(if lines.is_empty() { vec![format!("nobody waits for {app}")] } else { vec![lines.join(" | ")] })
    }

    /// The newest line of the incident log, whenever there is a newer one; it ends with the runs.
    pub fn chained(&self) -> watch::Receiver<Option<Anchor>> {
        self.inner.chained.clone()
    }

    /// Whether the incident log is as it was written: how many lines there are, or what is wrong with it.
    pub async fn audit(&self, anchor: Option<&Anchor>) -> Result<Result<u64, Tampered>, RunsError> {
        verify_incidents(&self.inner.runs, anchor).await
    }

    /// The four figures of DORA for an app since then.
    pub async fn dora(&self, app: &str, since: Millis) -> Result<Dora, String> {
        self.catalog().get(app)?;
        let which = Which { app: Some(app.to_owned()), since: Some(since), limit: 100_000, ..Which::default() };
        let runs = self.list(which).await.map_err(|fault| fault.to_string())?;
        let runs: Vec<Run> = runs.into_iter().map(|(_, run)| run).collect();
        Ok(dora(app, &runs, since, self.now()))
    }

    /// What stages share, and who holds it.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.load_full()
    }

    /// The news of each kind of failure in an app since then.
    pub async fn flaky(&self, app: &str, since: Millis) -> Result<Vec<String>, String> {
        self.catalog().get(app)?;
        let rows = self.inner.runs.failures(app, since).await.map_err(|fault| fault.to_string())?;
        let mut by_class: BTreeMap<String, i64> = BTreeMap::new();
        rows.iter().for_each(|(_, class, count)| *by_class.entry(class.clone()).or_default() += count);
        if rows.is_empty() {
            return Ok(vec![format!("{app}: no attempt failed")]);
        }
        let stages: Vec<String> =
            rows.iter().take(6).map(|(stage, class, count)| format!("{stage} {class} x{count}")).collect();
        let classes: Vec<String> = by_class.iter().map(|(class, count)| format!("{class} {count}")).collect();
        Ok(vec![format!("{app}: {} | in all {}", stages.join(", "), classes.join(", "))])
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

/// Opens a file that was kept, below the folder of its attempt.
pub fn open_artifact(folder: &Path, row: &ArtifactRow) -> Result<std::fs::File, String> {
    let path = folder.join(ARTIFACTS).join(&row.path);
    let gone = || format!("{} is not there any more: a later attempt, or somebody, took its place", row.path);
    let (root, file) = (folder.join(ARTIFACTS).canonicalize(), path.canonicalize());
    let (Ok(root), Ok(file)) = (root, file) else { return Err(gone()) };
    if !file.starts_with(&root) || !file.is_file() {
        return Err(gone());
    }
    std::fs::File::open(file).map_err(|_| gone())
}

/// The stage whose log is meant: the one that is named, else the one that failed, runs, or ran last.
pub fn chosen<'s>(run: &Run, stages: &'s [StageRun], name: Option<&str>) -> Result<&'s StageRun, String> {
    let began = || stages.iter().filter(|one| one.attempt > 0);
    let found = match name {
        Some(name) => began().find(|one| one.name == name),
        None => began()
            .find(|one| run.failed.as_ref() == Some(&one.name))
            .or_else(|| began().find(|one| !one.state.ended()))
            .or_else(|| began().max_by_key(|one| one.ended)),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = began().map(|one| one.name.as_str()).collect();
        match names.as_slice() {
            [] => format!("no stage of run {} has begun", run.number),
            names => format!("run {} has logs of {}", run.number, names.join(", ")),
        }
    })
}

/// A version of a pipeline that is in no file any more.
async fn version(
    runs: &Runs,
    hash: &str,
    folder: &Path,
    executors: &Executors,
) -> Result<Option<Arc<Pipeline>>, RunsError> {
    let Some(row) = runs.pipeline(hash).await? else { return Ok(None) };
    let path = folder.join(format!("{}.yaml", row.name));
    match file::parse(&path, &row.source, executors) {
        Ok(pipeline) => Ok(Some(Arc::new(pipeline))),
        Err(faults) => {
            tracing::error!(%hash, fault = %faults[0], "A pipeline that runs began with cannot be read any more");
            Ok(None)
        }
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without it every wait has the middle of its range.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
