//! From the journal to the handlers: each bind of an ingested kind is a consumer with a cursor of its own.

mod consumer;
mod note;
mod parked;
mod pool;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{BindId, Clock, Shutdown, Stopper, Wanted};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::calls::Calls;
use super::words;
use crate::dispatch::{Bind, BindTable};
use crate::journal::Journal;

use consumer::Consumer;

/// How long a bind may take to find its place before its source is opened all the same.
const PLACE: Duration = Duration::from_secs(5);

/// The consumers that run.
pub(crate) struct Deliveries {
    table: BindTable,
    journal: Journal,
    calls: Arc<Calls>,
    clock: Clock,
    running: BTreeMap<Arc<str>, Running>,
    /// Those that are gone but still finish what they began.
    ending: BTreeMap<Arc<str>, JoinHandle<()>>,
    /// Streams of which it is told that they have their share of the journal.
    crowded: BTreeSet<String>,
}

struct Running {
    id: BindId,
    bind: watch::Sender<Arc<Bind>>,
    stop: Stopper,
    task: JoinHandle<()>,
}

/// A stream that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WantedStream {
    /// The kind of its events.
    pub(crate) kind: masterchief_contract::Kind,
    /// Its name.
    pub(crate) stream: Arc<str>,
}

impl Deliveries {
    pub(crate) fn new(table: BindTable, journal: Journal, calls: Arc<Calls>, clock: Clock) -> Deliveries {
        let (running, ending, crowded) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Deliveries { table, journal, calls, clock, running, ending, crowded }
    }

    /// Takes the binds as they are now; gives the streams they want. Each new bind has its place in the journal when
    /// this is ready, so that nothing its source brings is missed.
    pub(crate) async fn take(&mut self) -> Vec<WantedStream> {
        let mut streams = Vec::new();
        let mut old = std::mem::take(&mut self.running);
        let mut seen: HashMap<Arc<str>, u32> = HashMap::new();
        let mut finding = Vec::new();
        for (bound, bind, wanted) in self.table.wanted() {
            streams.push(WantedStream { kind: bind.kind(), stream: Arc::clone(&wanted.stream) });
            let nth = seen.entry(Arc::clone(&bound.key)).or_default();
            let key = if *nth == 0 { Arc::clone(&bound.key) } else { Arc::from(format!("{} #{nth}", bound.key)) };
            *nth += 1;
            let running = match old.remove(&key) {
                Some(mut running) => {
                    if running.id != bound.bind {
                        running.id = bound.bind;
                        running.bind.send_replace(bind);
                    }
                    running
                }
                None => {
                    let (running, placed) = self.start(&key, bind, wanted);
                    finding.push(placed);
                    running
                }
            };
            self.running.insert(key, running);
        }
        // An error means that it has ended already: the journal is closed. A journal that fails keeps nobody waiting.
        let _ = tokio::time::timeout(PLACE, futures_util::future::join_all(finding)).await;
        for (key, gone) in old {
            gone.stop.stop();
            self.ending.insert(key, gone.task);
        }
        self.ending.retain(|_, task| !task.is_finished());
        streams.sort();
        streams.dedup();
        streams
    }

    /// Lets go of those that fell over, to be begun again with the next [`Deliveries::take`]; whether there were any.
    pub(crate) async fn clear_fallen(&mut self) -> bool {
        let ended: Vec<Arc<str>> =
            self.running.iter().filter(|(_, one)| one.task.is_finished()).map(|(key, _)| Arc::clone(key)).collect();
        for key in &ended {
            if let Some(running) = self.running.remove(key)
                && let Err(fault) = running.task.await
            {
                tracing::error!(bind = %key, %fault, "What delivers to a bind fell over; it is begun again");
            }
        }
        !ended.is_empty()
    }

    /// Tells, once each, of streams that have their share of the journal, and that they have less again.
    pub(crate) async fn tell_crowded(&mut self) {
        let full = self.journal.shares().into_iter().filter(|row| row.full);
        let crowded: BTreeSet<String> = full.map(|row| row.stream).collect();
        for stream in crowded.difference(&self.crowded) {
            // Whose events they are is good to know, and no more than that.
            let last = self.journal.laggard(stream).await.unwrap_or_default();
            tracing::error!(%stream, ?last, "A stream has its share of the journal (journal.stream_bytes); its source waits, others go on");
            note::tell(&self.journal, &self.calls, words::crowded(stream, last.as_ref()));
        }
        for stream in self.crowded.difference(&crowded) {
            tracing::info!(%stream, "A stream has less than its share of the journal again");
        }
        self.crowded = crowded;
    }

    /// Tells of binds that are gone for good, and of what they had not done.
    pub(crate) fn tell_let_go(&self) {
        for gone in self.journal.let_go() {
            note::tell(&self.journal, &self.calls, words::let_go(&gone));
        }
    }

    /// Starts a consumer; the receiver is ready when it has its place.
    fn start(&mut self, key: &Arc<str>, bind: Arc<Bind>, wanted: Wanted) -> (Running, oneshot::Receiver<()>) {
        let (stop, shutdown) = Shutdown::new();
        let id = bind.id;
        let (bind, follow) = watch::channel(bind);
        let (ready, placed) = oneshot::channel();
        let consumer = Consumer {
            key: Arc::clone(key),
            wanted,
            bind: follow,
            journal: self.journal.clone(),
            calls: Arc::clone(&self.calls),
            clock: self.clock.clone(),
            shutdown,
        };
        let task = tokio::spawn(consumer.run(ready, self.ending.remove(key)));
        (Running { id, bind, stop, task }, placed)
    }

    /// Ends all of them; each finishes what it is at.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        let running = std::mem::take(&mut self.running);
        let mut tasks: Vec<JoinHandle<()>> = std::mem::take(&mut self.ending).into_values().collect();
        for (_, running) in running {
            running.stop.stop();
            tasks.push(running.task);
        }
        let deadline = tokio::time::Instant::now() + grace;
        for mut task in tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("A call from the journal still ran at shutdown; its event is delivered again");
                task.abort();
            }
        }
    }
}
