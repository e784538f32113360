//! The handle: what the rest of the bot knows of pipelines.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Clock, Outlet, Shutdown};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::around::Around;
use super::calendars::Calendars;
use super::catalog::Catalog;
use super::drive::{Drive, medians};
use super::engine::{Answer, Ask, Asked, Engine, Foretold, KEEP, May, Msg, News, PAST};
use super::file;
use super::held::Held;
use super::model::Pipeline;
use super::pools::PoolRow;
use super::prepare::{Fetch, Slow};
use super::refusal::Refusal;
use super::remote::Told;
use super::run::{Asker, Millis, Run, StageRun};
use super::runners::Elsewhere;
use super::settings::Settings;
use super::steps::Steps;
use super::words;
use crate::executors::{Cgroup, Executors, Supervisor, tail};
use crate::store::Anchor;
use crate::store::runs::{Runs, RunsError, Which};
use crate::yaml::ConfigFault;

/// Messages that wait for the engine.
const DEPTH: usize = 4096;
/// News that wait for a slow listener; it misses older ones.
const NEWS: usize = 4096;

/// The file that says that the bot went down in order.
const STOPPED: &str = "stopped";

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
    /// Who carries steps to other runners.
    pub elsewhere: Arc<dyn Elsewhere>,
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
    pub(super) to: mpsc::Sender<Msg>,
    news: broadcast::Sender<Arc<News>>,
    chained: watch::Receiver<Option<Anchor>>,
    clock: Clock,
    pub(super) around: Arc<dyn Around>,
    /// Copies of repositories that are being brought up to date, by app.
    pub(super) fetches: Mutex<BTreeMap<String, Fetch>>,
}

impl Pipelines {
    /// Opens them: what ran before is taken up again. The task ends at shutdown; steps that are under way outlive it.
    pub async fn open(
        opening: Opening,
        shutdown: Shutdown,
    ) -> Result<(Pipelines, JoinHandle<()>, Vec<ConfigFault>), RunsError> {
        let Opening { runs, settings, executors, folder, project, outlet, clock, supervisor, around, elsewhere } =
            opening;
        let (catalog, faults) = Catalog::read(&settings.folder, &executors);
        let catalog = Arc::new(catalog);
        catalog.tell_named(&settings.groups, &*around);
        let (to, from) = mpsc::channel(DEPTH);
        let (news, _) = broadcast::channel(NEWS);
        let at = (folder.clone(), project);
        let steps = Steps::new(executors.clone(), at, supervisor, clock.clone(), (to.clone(), elsewhere));
        let mut engine = Engine::new(settings.clone(), Arc::clone(&catalog), chance, Arc::clone(&around));
        let since = clock.now().timestamp_millis() - KEEP;
        let epoch = runs.claim(&words::this_process(env!("CARGO_PKG_VERSION"), std::process::id())).await?;
        steps.inner.epoch.store(epoch, Ordering::Release);
        let loaded = runs.load(since).await?;
        let mut versions: HashMap<String, Result<Arc<Pipeline>, String>> = HashMap::new();
        for row in &loaded.runs {
            if !versions.contains_key(&row.pipeline) {
                let version = version(&runs, &row.pipeline, &settings.folder, &executors).await?;
                versions.insert(row.pipeline.clone(), version);
            }
        }
        for pipeline in catalog.all() {
            engine.times.insert(pipeline.app.clone(), medians(runs.times(&pipeline.app).await?));
        }
        live_through(&mut engine, &runs).await?;
        engine.load(loaded, &versions);
        engine.calendars = Calendars::of(&engine.calendar_files());
        // Supervisors that were killed left groups behind.
        Cgroup::sweep();
        // Who went down in order leaves word; who fell could not.
        engine.fell = tokio::fs::remove_file(folder.join(STOPPED)).await.is_err();
        engine.begun = (clock.now().timestamp_millis(), engine.last_run);
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
            posting: BTreeMap::new(),
            mailing: None,
            held: Held::default(),
            stopped: folder.join(STOPPED),
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
            fetches: Mutex::default(),
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

    /// The pipelines there would be with other settings.
    pub fn catalog_of(&self, settings: &Settings) -> Catalog {
        Catalog::read(&settings.folder, &self.inner.executors).0
    }

    /// Reads the folder anew. Runs that are under way keep the version they began with. Gives what is wrong with files; of
    /// those that are wrong the version before is not kept, so that what runs is always what stands there.
    pub async fn reload(&self, settings: Option<Settings>) -> Vec<ConfigFault> {
        if let Some(settings) = settings {
            self.inner.settings.store(Arc::new(settings));
        }
        let settings = self.inner.settings.load_full();
        let (catalog, faults) = Catalog::read(&settings.folder, &self.inner.executors);
        catalog.tell_named(&settings.groups, &*self.inner.around);
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
        let settings = Settings::clone(&self.inner.settings.load());
        catalog.tell_named(&settings.groups, &*self.inner.around);
        let catalog = Arc::new(catalog);
        self.inner.catalog.store(Arc::clone(&catalog));
        let _ = self.inner.to.send(Msg::Configure(catalog, Box::new(settings))).await;
        Ok(())
    }

    /// Asks for something; ready once what came of it is durable.
    pub async fn ask(&self, asked: Asked) -> Answer {
        self.ask_telling(asked, &|_| ()).await
    }

    /// The same; whoever waits for it is told that it is under way.
    pub(super) async fn ask_telling(&self, asked: Asked, slow: Slow<'_>) -> Answer {
        let (who, deed) = (asked.who.clone(), asked.ask.deed());
        let answer = self.answer(asked, slow).await;
        self.inner.around.note(&who, &deed, answer.as_ref().err().map(|refusal| refusal.text.as_str()));
        answer
    }

    async fn answer(&self, mut asked: Asked, slow: Slow<'_>) -> Answer {
        if let Ask::Again(number) = asked.ask {
            let prepared = self.anew(number, (&asked.who, &asked.may), slow).await?;
            asked.ask = Ask::Deploy(Box::new(prepared));
        }
        let (to, answered) = oneshot::channel();
        let gone = || match self.inner.runs.taken() {
            true => Refusal::conflict(words::TAKEN_OVER),
            false => Refusal::busy(words::GOING_DOWN),
        };
        self.inner.to.send(Msg::Ask(Box::new(asked), to)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// What a remote build tells of a run that is under way: for those who may deploy there.
    pub async fn remote(&self, number: i64, may: &May, told: &Told) -> Result<(), Refusal> {
        let found = self.run(number).await?;
        let Some((run, _)) = found else { return Err(Refusal::unknown(words::no_such_run(number))) };
        let pipeline = self.catalog().get(&run.app)?;
        if !pipeline.rules(&run.env).is_some_and(|rules| may.has(rules.flags.as_ref())) {
            return Err(Refusal::denied(words::token_may_not_speak(run.place())));
        }
        self.heard(number, None, told).await
    }

    /// The run and the stage whose build shows this token; it may tell how they go, and nothing else.
    pub fn of_token(&self, shown: &str) -> Option<(i64, usize)> {
        self.inner.steps.of_token(shown)
    }

    /// What the build of a stage tells that showed the stage's own token.
    pub async fn remote_own(&self, (number, stage): (i64, usize), told: &Told) -> Result<(), Refusal> {
        self.heard(number, Some(stage), told).await
    }

    async fn heard(&self, number: i64, stage: Option<usize>, told: &Told) -> Result<(), Refusal> {
        if let (name, Some(text)) = self.inner.steps.hear(number, stage, told)? {
            // At shutdown nobody needs it any more.
            let _ = self.inner.to.send(Msg::Told(number, name, text)).await;
        }
        Ok(())
    }

    /// Forgets runs that are older than they are kept, with their logs, and what is kept less long than they; how many runs.
    pub async fn purge(&self) -> Result<usize, RunsError> {
        let settings = self.inner.settings.load_full();
        let before =
            |time: Duration| self.now().saturating_sub(Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX));
        let gone = self.inner.runs.purge(before(settings.keep)).await?;
        let mut folders = gone.clone();
        for (kind, time) in &settings.retention {
            folders.extend(self.inner.runs.expire(kind, before(**time), true).await?.folders);
        }
        for number in &folders {
            // It need not be there.
            let _ = tokio::fs::remove_dir_all(self.inner.steps.run_folder(*number)).await;
        }
        Ok(gone.len())
    }

    /// A network is back after so long: what goes on is told as it is now.
    pub async fn back(&self, network: &str, away: Duration) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Back(network.to_owned(), Some(away.as_millis() as Millis))).await;
    }

    /// A network is there for the first time since the bot was started: what goes on is told as it is now.
    pub async fn here(&self, network: &str) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Back(network.to_owned(), None)).await;
    }

    /// What would be foretold of a run that somebody asks for now, of nothing new.
    pub async fn predict(&self, app: &str, env: Option<&str>, who: &str) -> Result<Foretold, Refusal> {
        let pipeline = self.catalog().get(app)?;
        let usual = || {
            let param = pipeline.params.iter().find(|param| param.name == "environment");
            let named = param.and_then(|param| param.default.as_ref()?.as_str());
            named.or(pipeline.only_environment()).or(pipeline.policy.environments.first().map(|(env, _)| env.as_str()))
        };
        let env = env.or_else(usual).unwrap_or_default();
        if pipeline.rules(env).is_none() {
            return Err(Refusal::unknown(words::no_environment_of(app, env)));
        }
        let (to, told) = oneshot::channel();
        let asked = Msg::Predict(app.to_owned(), env.to_owned(), who.to_owned(), to);
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(asked).await;
        told.await.map_err(|_| Refusal::busy(words::GOING_DOWN))
    }

    /// What stages share, a line a pool.
    pub async fn slots(&self) -> Vec<String> {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Slots(to)).await;
        told.await.unwrap_or_default()
    }

    /// What is booked, a line each, the next first.
    pub async fn booked(&self) -> Vec<String> {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Booked(to)).await;
        told.await.unwrap_or_default()
    }

    /// What stages share, as figures.
    pub async fn pools(&self) -> Vec<PoolRow> {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Pools(to)).await;
        told.await.unwrap_or_default()
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

    /// Somebody of a network was lost in a netsplit: the time for their yes stands still.
    pub async fn lost(&self, network: &str, nick: &str) {
        // At shutdown nobody waits for it.
        let _ = self.inner.to.send(Msg::Lost(network.to_owned(), nick.to_owned())).await;
    }

    /// Somebody for whom a network vouches is there: if they were lost, their time goes on.
    pub async fn found(&self, who: Asker) {
        // As above.
        let _ = self.inner.to.send(Msg::Found(Box::new(who))).await;
    }

    /// Somebody of a network left, or has another nick now: what waits for their yes waits no more.
    pub async fn gone(&self, network: &str, nick: &str) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Gone(network.to_owned(), nick.to_owned())).await;
    }

    /// Words of a network were taken back: a run that they asked for and that waits for a yes waits no more.
    pub async fn redacted(&self, network: &str, msgid: &str) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Redacted(network.to_owned(), msgid.to_owned())).await;
    }

    /// The last lines of a stage's log; of the stage that failed, runs, or ran last, if none is named.
    pub async fn tail(&self, number: i64, stage: Option<&str>, count: usize) -> Result<(String, Vec<String>), Refusal> {
        let found = self.run(number).await?;
        let Some((run, stages)) = found else { return Err(Refusal::unknown(words::no_such_run(number))) };
        let one = chosen(&run, &stages, stage)?;
        let folder = self.inner.steps.folder(number, &one.name, one.attempt);
        let (name, count) = (one.name.clone(), count.min(1000));
        let lines = tokio::task::spawn_blocking(move || tail(&folder, count)).await.unwrap_or_default();
        Ok((name, lines))
    }

    /// The folder of the newest attempt of a stage.
    pub fn step_folder(&self, number: i64, stage: &StageRun) -> PathBuf {
        self.inner.steps.folder(number, &stage.name, stage.attempt)
    }

    /// The newest line of the incident log, whenever there is a newer one; it ends with the runs.
    pub fn chained(&self) -> watch::Receiver<Option<Anchor>> {
        self.inner.chained.clone()
    }

    /// What stages share, and who holds it.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.load_full()
    }
}

/// The stage whose log is meant: the one that is named, else the one that failed, runs, or ran last.
pub fn chosen<'s>(run: &Run, stages: &'s [StageRun], name: Option<&str>) -> Result<&'s StageRun, Refusal> {
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
            [] => Refusal::conflict(words::nothing_has_begun(run.number)),
            names => Refusal::unknown(words::has_logs_of(run.number, names.join(", "))),
        }
    })
}

/// Lives through the newest runs of all apps again, also of those whose file comes later.
async fn live_through(engine: &mut Engine, runs: &Runs) -> Result<(), RunsError> {
    for app in runs.apps().await? {
        let which = Which { app: Some(app.clone()), limit: PAST, ..Which::default() };
        let rows = runs.runs(which).await?;
        let past: Vec<Run> = rows.iter().filter_map(|row| serde_json::from_str(&row.detail).ok()).collect();
        engine.lived(&app, &past);
    }
    Ok(())
}

/// A version of a pipeline that may be in no file any more; else why it cannot be read.
async fn version(
    runs: &Runs,
    hash: &str,
    folder: &Path,
    executors: &Executors,
) -> Result<Result<Arc<Pipeline>, String>, RunsError> {
    let Some(row) = runs.pipeline(hash).await? else { return Ok(Err(words::not_in_the_records())) };
    // A name without an end is of the time when there was YAML alone.
    let path = folder.join(if row.name.ends_with(".toml") { row.name } else { format!("{}.yaml", row.name) });
    match file::parse(&path, &row.source, executors) {
        Ok(pipeline) => Ok(Ok(Arc::new(pipeline))),
        Err(faults) => {
            tracing::error!(%hash, fault = %faults[0], "A pipeline that runs began with cannot be read any more; those that are open end");
            // Where it stood in a file that is another one by now is of no use.
            Ok(Err(faults[0].message.clone()))
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
