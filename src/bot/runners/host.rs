//! What this bot does for others: each step once however often it is asked for, in a folder of its own, under a supervisor that
//! outlives the bot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Shared;
use super::wire::{Asked, Key, Offered, Order, Progress, Request, Standing};
use super::work::{ORDER, Work, perform};
use crate::executors::{End, Executors, Supervisor, unguessable};
use crate::mesh::Call;
use crate::pipelines::{Pipelines, folder_name};

/// How long an older attempt of a stage may take to end before a newer one begins.
const OLDER: Duration = Duration::from_secs(30);
/// The longest that somebody is let wait for news.
const WAIT_MAX: u64 = 20;
/// What nobody asked for so long is removed.
const KEEP: Duration = Duration::from_secs(2 * 86_400);

/// What this bot does for others.
pub(super) struct Host {
    pub(super) executors: Executors,
    pub(super) supervisor: Supervisor,
    folder: PathBuf,
    works: Mutex<BTreeMap<(String, Key), Arc<Work>>>,
    /// The newest epoch of each bot that was heard.
    epochs: Mutex<BTreeMap<String, i64>>,
    /// What our records are called.
    instance: OnceLock<String>,
    pipelines: OnceLock<Pipelines>,
    /// Who checks out for which run.
    checkouts: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Host {
    pub(super) fn new(executors: Executors, supervisor: Supervisor, folder: PathBuf) -> Host {
        let (works, epochs, checkouts) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (instance, pipelines) = (OnceLock::new(), OnceLock::new());
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Host { executors, supervisor, folder, works, epochs, instance, pipelines, checkouts, done, failed }
    }

    /// What is held while the files of a run are checked out.
    pub(super) fn lock_of(&self, run: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.checkouts.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(all.entry(run.to_owned()).or_default())
    }

    /// Whose slots are ours too.
    pub(super) fn share_with(&self, pipelines: &Pipelines) {
        // The first and only time.
        let _ = self.pipelines.set(pipelines.clone());
    }

    /// Steps that are done here now for others than this bot; for all others, if it is ours.
    pub(super) fn busy_but(&self, home: &str) -> u32 {
        let works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        works.values().filter(|work| !work.is_over() && !work.home.eq_ignore_ascii_case(home)).count() as u32
    }

    /// How many steps of others went well here, and how many failed.
    pub(super) fn ended(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    pub(super) async fn answer(&self, shared: &Arc<Shared>, call: &Call) -> Result<String, String> {
        let request: Request = serde_json::from_str(&call.data).map_err(|fault| fault.to_string())?;
        let home = call.from.as_str().to_ascii_lowercase();
        let answer = match (request.asked, self.is_newest(&home, request.epoch)) {
            (Asked::Who, _) => serde_json::to_string(&self.offers(shared, &home).await?),
            (_, false) => {
                let why = format!("{} was started anew since, and only that one speaks for its runs", call.from);
                serde_json::to_string(&Progress::standing(Standing::Refused(why)))
            }
            (Asked::Begin(order), true) => serde_json::to_string(&self.begin(shared, home, *order).await?),
            (Asked::Look { key, from, seen, wait }, true) => {
                serde_json::to_string(&self.look(&(home, key), from, seen, wait.min(WAIT_MAX)).await)
            }
            (Asked::Stop { key }, true) => {
                let work = self.find(&(home, key));
                let known = if work.is_some() { Standing::Here } else { Standing::Unknown };
                work.inspect(|work| _ = work.stop.send_replace(true));
                serde_json::to_string(&Progress::standing(known))
            }
        };
        answer.map_err(|fault| fault.to_string())
    }

    /// Whether nobody with a newer epoch was heard of that bot.
    fn is_newest(&self, home: &str, epoch: i64) -> bool {
        let path = self.folder.join(own_folder(home)).join("epoch");
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = || std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let known = epochs.entry(home.to_owned()).or_insert_with(|| kept().unwrap_or(i64::MIN));
        if epoch < *known {
            return false;
        }
        if epoch > *known {
            *known = epoch;
            // Without it an older one is heard after a restart of ours, and fenced by its own records.
            let _ = std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))
                .and_then(|()| std::fs::write(&path, epoch.to_string()));
        }
        true
    }

    /// The name of our records: who asks knows by it whether they are still the same.
    fn instance(&self) -> Result<String, String> {
        if let Some(known) = self.instance.get() {
            return Ok(known.clone());
        }
        let path = self.folder.join("instance");
        let read = || std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty());
        let made = || -> std::io::Result<String> {
            std::fs::create_dir_all(&self.folder)?;
            let name = unguessable()?;
            std::fs::write(&path, &name)?;
            Ok(name)
        };
        let name = match read() {
            Some(name) => name,
            None => made().map_err(|fault| format!("{}: {fault}", path.display()))?,
        };
        Ok(self.instance.get_or_init(|| name).clone())
    }

    async fn offers(&self, shared: &Shared, home: &str) -> Result<Offered, String> {
        let settings = shared.settings.load_full();
        let ours = {
            let works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
            let of = works.iter().filter(|((one, _), work)| *one == home && !work.is_over());
            of.map(|((_, key), _)| key.clone()).collect()
        };
        let others = self.busy_but(home) + self.own().await;
        let (labels, slots) = (settings.labels.iter().cloned().collect(), settings.slots);
        Ok(Offered { labels, slots, others, instance: self.instance()?, ours })
    }

    /// Slots that the stages of this bot itself take.
    async fn own(&self) -> u32 {
        match self.pipelines.get() {
            Some(pipelines) => pipelines.runners().await.1,
            None => 0,
        }
    }

    fn find(&self, key: &(String, Key)) -> Option<Arc<Work>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Where a bot's run is worked for, and in it one attempt.
    fn folders(&self, home: &str, key: &Key) -> (PathBuf, PathBuf) {
        let run = self.folder.join(own_folder(home)).join(key.run.to_string());
        let own = run.join(own_folder(&key.stage)).join(format!("{}-{}", key.attempt, key.begun));
        (run, own)
    }

    /// Begins a step, unless it was begun before.
    async fn begin(&self, shared: &Arc<Shared>, home: String, order: Order) -> Result<Progress, String> {
        let instance = self.instance()?;
        if order.instance.as_ref().is_some_and(|known| *known != instance) {
            return Ok(Progress::standing(Standing::Other));
        }
        let id = (home.clone(), order.key.clone());
        if self.find(&id).is_none() {
            self.end_older(&id).await;
            let (run, folder) = self.folders(&home, &order.key);
            let own = self.own().await;
            let slots = shared.settings.load().slots;
            let work = Arc::new(Work::new(home, run, folder));
            work.keep(&order)?;
            {
                let mut works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
                let newer =
                    works.keys().any(|(of, key)| *of == id.0 && key.is_same_stage(&id.1) && key.is_after(&id.1));
                if newer {
                    let why = "a newer attempt of it was begun here".to_owned();
                    return Ok(Progress::standing(Standing::Refused(why)));
                }
                let running = works.values().filter(|work| !work.is_over()).count() as u32 + own;
                if !works.contains_key(&id) {
                    // What was begun before a restart of ours has its slot.
                    if running >= slots && !work.has_begun() {
                        return Ok(Progress::standing(Standing::Full));
                    }
                    works.insert(id.clone(), Arc::clone(&work));
                    drop(works);
                    self.spawn(shared, work, order);
                }
            }
        }
        Ok(Progress { instance, ..Progress::default() })
    }

    /// Ends attempts that came before, so that no two work in one folder.
    async fn end_older(&self, (home, key): &(String, Key)) {
        let older: Vec<Arc<Work>> = {
            let works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
            let before = |(of, other): &(String, Key)| of == home && key.is_same_stage(other) && key.is_after(other);
            works.iter().filter(|(id, work)| before(id) && !work.is_over()).map(|(_, work)| Arc::clone(work)).collect()
        };
        for work in older {
            work.stop.send_replace(true);
            // One that does not end is told by its own log; the newer one begins all the same.
            let _ = tokio::time::timeout(OLDER, work.over()).await;
        }
    }

    fn spawn(&self, shared: &Arc<Shared>, work: Arc<Work>, order: Order) {
        let shared = Arc::clone(shared);
        shared.changed.notify_one();
        tokio::spawn(async move {
            let end = perform(&shared.host, &work, &order).await;
            match &end {
                End::Done { .. } => _ = shared.host.done.fetch_add(1, Ordering::Relaxed),
                End::Failed(_) | End::Unsure(_) => _ = shared.host.failed.fetch_add(1, Ordering::Relaxed),
                End::Stopped => {}
            }
            work.ends(end, &order);
            shared.changed.notify_one();
        });
    }

    /// How a step goes: at once if there is news, else when there is some or the time is over.
    async fn look(&self, id: &(String, Key), from: u64, seen: u64, wait: u64) -> Progress {
        match self.find(id) {
            Some(work) => work.news(from, seen, Duration::from_secs(wait)).await,
            None => Progress::standing(Standing::Unknown),
        }
    }

    /// Takes up again what ran for others when this bot went down, and removes what nobody asks for any more.
    pub(super) async fn take_up(&self, shared: &Arc<Shared>) {
        let folder = self.folder.clone();
        let found = crate::executors::apart(move || {
            forget_old(&folder);
            left_running(&folder)
        });
        for (work, order) in found.await.unwrap_or_default() {
            let id = (work.home.clone(), order.key.clone());
            let work = Arc::new(work);
            let known = self.works.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&work));
            if known.is_none() {
                self.spawn(shared, work, order);
            }
        }
    }
}

/// How the folders of bots and stages begin: whatever their name, they are no others.
const OF: &str = "of-";

fn own_folder(name: &str) -> String {
    format!("{OF}{}", folder_name(name))
}

/// The folders in a folder.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Steps whose command was begun and has not ended, as far as is written down.
fn left_running(folder: &Path) -> Vec<(Work, Order)> {
    let mut out = Vec::new();
    for run in folders(folder).iter().flat_map(|home| folders(home)) {
        // What stands in the workspace is not ours.
        let is_stage = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(OF));
        for own in folders(&run).iter().filter(is_stage).flat_map(|stage| folders(stage)) {
            let order = std::fs::read_to_string(own.join(ORDER)).ok();
            let Some((home, order)) = order.and_then(|text| serde_json::from_str::<(String, Order)>(&text).ok()) else {
                continue;
            };
            let work = Work::new(home, run.clone(), own);
            if work.has_begun() && !work.has_ended() {
                out.push((work, order));
            }
        }
    }
    out
}

/// Removes what runs worked in that nobody asked for in a long time.
fn forget_old(folder: &Path) {
    for run in folders(folder).iter().flat_map(|home| folders(home)) {
        let touched = std::fs::metadata(run.join(super::work::TOUCHED)).and_then(|meta| meta.modified());
        if touched.is_ok_and(|at| at.elapsed().is_ok_and(|time| time > KEEP)) {
            // It is tried again at the next start.
            let _ = std::fs::remove_dir_all(run);
        }
    }
}
