//! The sources that binds want: started, stopped, restarted when their settings change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_bindings::Settings;
use masterchief_contract::{Bound, Clock, Kind, Meter, Shutdown, Source, Stopper};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builder::Rules;
use super::deliver::{Deliveries, WantedStream};
use crate::journal::{self, Feed, FeedRow, FeedStatus, Journal, ShareRow};

/// The file that other commands read how the sources are doing from.
pub(crate) const STATUS_FILE: &str = "sources.json";
/// How often it is written.
const TELL: Duration = Duration::from_secs(2);
/// How long a source may take to let go.
const END: Duration = Duration::from_secs(7);

/// Makes the source of a stream of a kind, or says in one sentence why there is none.
pub type SourceMaker = Arc<dyn Fn(&str, &Arc<Meter>) -> Result<Box<dyn Source>, String> + Send + Sync>;

/// Puts something around a source.
pub type SourceWrap = Arc<dyn Fn(Box<dyn Source>) -> Box<dyn Source> + Send + Sync>;

/// Who makes sources.
#[derive(Clone, Default)]
pub(crate) struct Makers {
    /// Sources of one's own, by kind.
    pub(crate) own: BTreeMap<Kind, SourceMaker>,
    /// Whether the kinds that ship with the bot are read.
    pub(crate) shipped: bool,
    /// What is put around each.
    pub(crate) wrap: Option<SourceWrap>,
}

/// What is known of the sources. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Feeds {
    rows: Arc<Mutex<BTreeMap<Arc<str>, Known>>>,
}

enum Known {
    Runs(Arc<FeedStatus>),
    /// There is no source, and why.
    Cannot(Kind, String),
}

impl Feeds {
    /// How each is doing.
    pub(crate) fn rows(&self) -> Vec<FeedRow> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(stream, known): (&Arc<str>, &Known)| match known {
            Known::Runs(status) => status.row(),
            Known::Cannot(kind, why) => FeedRow::cannot(*kind, stream, why),
        };
        rows.iter().map(row).collect()
    }

    fn put(&self, stream: &Arc<str>, known: Known) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(stream), known);
    }

    fn remove(&self, stream: &str) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
    }
}

/// What other commands are told.
#[derive(Serialize)]
struct Told {
    at: chrono::DateTime<chrono::Utc>,
    pid: u32,
    sources: Vec<FeedRow>,
    /// Binds that begin nothing new, and how many events wait for each.
    standing_still: Vec<(String, u64)>,
    /// Streams that have their share of the journal.
    crowded: Vec<ShareRow>,
}

/// Keeps the sources and the consumers as the binds want them.
pub(crate) struct Ingest {
    /// Streams that are read whether anybody wants them or not.
    pub(crate) always: Vec<WantedStream>,
    pub(crate) deliveries: Deliveries,
    pub(crate) journal: Journal,
    pub(crate) makers: Makers,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) rules: Arc<ArcSwap<Rules>>,
    pub(crate) feeds: Feeds,
    pub(crate) clock: Clock,
    /// Where [`STATUS_FILE`] is written.
    pub(crate) data: Option<PathBuf>,
    pub(crate) running: BTreeMap<WantedStream, Running>,
}

pub(crate) struct Running {
    stop: Stopper,
    /// Nothing, once it has ended by itself.
    task: Option<JoinHandle<()>>,
}

impl Ingest {
    /// Runs until shutdown. `ready` is told when the binds that are there at the beginning have their place.
    pub(crate) async fn run(
        mut self,
        mut bound: watch::Receiver<Arc<[Bound]>>,
        ready: tokio::sync::oneshot::Sender<()>,
        mut shutdown: Shutdown,
    ) {
        let mut ready = Some(ready);
        let mut tell = tokio::time::interval(TELL);
        loop {
            bound.mark_unchanged();
            self.take().await;
            if let Some(ready) = ready.take() {
                self.journal.placed().await;
                // Whoever starts the bot may have given up.
                let _ = ready.send(());
            }
            loop {
                tokio::select! {
                    () = shutdown.recv() => return self.end().await,
                    changed = bound.changed() => {
                        if changed.is_err() {
                            return self.end().await;
                        }
                        break;
                    }
                    Ok(()) = self.settings.changed() => {
                        tracing::info!("The settings of the sources changed; they are opened again");
                        self.stop_all().await;
                        break;
                    }
                    _ = tell.tick() => {
                        self.tell();
                        self.deliveries.tell_crowded().await;
                        self.deliveries.tell_let_go();
                        self.look_after().await;
                    }
                }
            }
        }
    }

    /// Begins again what a fault of ours has ended: it must not be silent for ever.
    async fn look_after(&mut self) {
        let streams: Vec<WantedStream> = self.running.keys().cloned().collect();
        for stream in streams {
            let Some(running) = self.running.get_mut(&stream) else { continue };
            let Some(task) = running.task.take_if(|task| task.is_finished()) else { continue };
            if let Err(fault) = task.await {
                tracing::error!(source = %stream.stream, %fault, "A source fell over; it is begun again");
                self.running.remove(&stream);
                if let Some(running) = self.start(&stream) {
                    self.running.insert(stream, running);
                }
            }
        }
        if self.deliveries.clear_fallen().await {
            self.take().await;
        }
    }

    async fn take(&mut self) {
        let mut wanted = self.deliveries.take().await;
        wanted.extend(self.always.iter().cloned());
        wanted.sort();
        wanted.dedup();
        let gone: Vec<WantedStream> = self.running.keys().filter(|stream| !wanted.contains(stream)).cloned().collect();
        for stream in gone {
            if let Some(running) = self.running.remove(&stream) {
                running.end(&stream.stream).await;
            }
            self.feeds.remove(&stream.stream);
        }
        for stream in wanted {
            if !self.running.contains_key(&stream)
                && let Some(running) = self.start(&stream)
            {
                self.running.insert(stream, running);
            }
        }
    }

    fn start(&self, wanted: &WantedStream) -> Option<Running> {
        let meter = Arc::<Meter>::default();
        let stream = &wanted.stream;
        let made = match self.makers.own.get(&wanted.kind) {
            Some(maker) => maker(stream, &meter),
            None if self.makers.shipped => {
                masterchief_bindings::source(&self.settings.borrow(), wanted.kind, stream, &meter)
            }
            None => return None,
        };
        let source = match made {
            Ok(source) => source,
            Err(fault) => {
                tracing::error!(source = %stream, %fault, "This is bound, but there is nothing to read it from");
                self.feeds.put(stream, Known::Cannot(wanted.kind, fault));
                return None;
            }
        };
        let source = match &self.makers.wrap {
            Some(wrap) => wrap(source),
            None => source,
        };
        let blocking = source.blocking();
        let feed = Feed { kind: wanted.kind, stream: Arc::clone(stream), source, meter };
        let status = FeedStatus::new(&feed);
        self.feeds.put(stream, Known::Runs(Arc::clone(&status)));
        let (stop, shutdown) = Shutdown::new();
        let run = journal::feed(feed, self.journal.clone(), status, shutdown);
        let task = if blocking {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(run))
        } else {
            tokio::spawn(run)
        };
        Some(Running { stop, task: Some(task) })
    }

    async fn stop_all(&mut self) {
        let running = std::mem::take(&mut self.running);
        // All at once, so that many slow ones take no longer than one.
        let ending = running.into_iter().map(|(stream, running)| async move { running.end(&stream.stream).await });
        futures_util::future::join_all(ending).await;
    }

    async fn end(mut self) {
        self.stop_all().await;
        let grace = self.rules.load().grace;
        self.deliveries.stop(grace).await;
        self.tell();
    }

    fn tell(&self) {
        let Some(folder) = &self.data else { return };
        let (sources, standing_still) = (self.feeds.rows(), self.journal.standing_still());
        let crowded = self.journal.shares().into_iter().filter(|row| row.full).collect();
        let told = Told { at: self.clock.now(), pid: std::process::id(), sources, standing_still, crowded };
        let written = serde_json::to_vec_pretty(&told).map_err(std::io::Error::other).and_then(|bytes| {
            let part = folder.join(format!("{STATUS_FILE}.part"));
            std::fs::write(&part, bytes)?;
            std::fs::rename(part, folder.join(STATUS_FILE))
        });
        if let Err(fault) = written {
            tracing::debug!(%fault, "How the sources are doing could not be written");
        }
    }
}

impl Running {
    async fn end(self, stream: &str) {
        self.stop.stop();
        let Some(task) = self.task else { return };
        if tokio::time::timeout(END, task).await.is_err() {
            tracing::warn!(source = %stream, "A source does not let go; it is left to itself");
        }
    }
}
