//! The runner: the one loop that feeds a source into the journal, with its back-off, back-pressure and shutdown.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{Backoff, Batch, Fate, Kind, Meter, Promise, Shutdown, Source, SourceError};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::handle::{Journal, JournalError};
use super::writer::Gate;

/// The waits between two tries to open a source.
const FLOOR: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(60);
/// After this long without an error the waits begin anew.
const STABLE: Duration = Duration::from_secs(60);
/// After so many times in a row that something is wrong which somebody has to change, it is tried rarely: within this.
const WRONG_MAX: u32 = 5;
const RARELY: Duration = Duration::from_secs(300);
/// How long opening and acknowledging may take.
const OPEN: Duration = Duration::from_secs(60);
/// How often a source is told that the journal is full.
const IDLE: Duration = Duration::from_secs(1);
/// How long letting go may take.
const CLOSE: Duration = Duration::from_secs(5);
/// After a batch of so many events it is seen to it that binds are not left behind by more than is kept in memory for them.
const MANY: usize = 1000;
/// Batches for which that is not tried again, where it was in vain.
const IN_VAIN: u32 = 10;
/// What the rate is an average over.
const MINUTE: f64 = 60.0;
/// A fault is over when something came since, or when it has been read for so long without another.
const STEADY: Duration = Duration::from_secs(10);

/// A source, and the stream it writes.
pub struct Feed {
    /// The kind of its events.
    pub kind: Kind,
    /// The stream of the journal.
    pub stream: Arc<str>,
    /// What reads.
    pub source: Box<dyn Source>,
    /// What it says of itself.
    pub meter: Arc<Meter>,
}

/// How a source is doing.
#[derive(Debug)]
pub struct FeedStatus {
    /// The kind of its events.
    pub kind: Kind,
    /// The stream it writes.
    pub stream: Arc<str>,
    promise: Promise,
    meter: Arc<Meter>,
    events: AtomicU64,
    duplicates: AtomicU64,
    undecodable: AtomicU64,
    opened: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    state: &'static str,
    /// What it was lost for last, and when.
    fault: Option<(String, DateTime<Utc>)>,
    /// Whether that is over.
    mended: bool,
    opened: Instant,
    rate: f64,
    at: Instant,
}

/// How a source is doing, to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct FeedRow {
    /// The kind of its events.
    pub kind: &'static str,
    /// The stream it writes.
    pub stream: String,
    /// `opening`, `reading`, `troubled` (what it reads from does not answer as it should), `waiting` (the journal is full), `lost`,
    /// `ended`.
    pub state: &'static str,
    /// What it promises.
    pub promise: String,
    /// Events written.
    pub events: u64,
    /// Events a second, over the last minute.
    pub rate: f64,
    /// Events that came again.
    pub duplicates: u64,
    /// What could not be understood.
    pub undecodable: u64,
    /// What was lost (best effort), or cut.
    pub dropped: u64,
    /// What waits outside.
    pub lag: Option<u64>,
    /// In what unit.
    pub lag_unit: &'static str,
    /// How often it was opened.
    pub opened: u64,
    /// What is wrong now.
    pub error: Option<String>,
    /// What went wrong last, be it over or not, and when that began.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<DateTime<Utc>>,
    /// What an operator should know.
    pub note: String,
}

impl FeedRow {
    /// A stream that is wanted and has no source.
    pub fn cannot(kind: Kind, stream: &str, why: &str) -> FeedRow {
        FeedRow {
            kind: kind.name(),
            stream: stream.to_owned(),
            state: "not read",
            promise: String::new(),
            events: 0,
            rate: 0.0,
            duplicates: 0,
            undecodable: 0,
            dropped: 0,
            lag: None,
            lag_unit: "",
            opened: 0,
            error: Some(why.to_owned()),
            last_error: Some(why.to_owned()),
            last_error_at: None,
            note: String::new(),
        }
    }
}

impl FeedStatus {
    /// Nothing has been read yet.
    pub fn new(feed: &Feed) -> Arc<FeedStatus> {
        Arc::new(FeedStatus {
            kind: feed.kind,
            stream: Arc::clone(&feed.stream),
            promise: feed.source.promise(),
            meter: Arc::clone(&feed.meter),
            events: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            now: Mutex::new(Now {
                state: "opening",
                fault: None,
                mended: true,
                opened: Instant::now(),
                rate: 0.0,
                at: Instant::now(),
            }),
        })
    }

    /// As it is now.
    pub fn row(&self) -> FeedRow {
        let (trouble, blind) = (self.meter.troubled(), self.meter.is_blind());
        let (state, fault, mended, rate) = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            now.fade();
            now.mend(blind);
            (now.state, now.fault.clone(), now.mended, now.rate)
        };
        let state = if (trouble.is_some() || blind) && state == "reading" { "troubled" } else { state };
        let lost = fault.as_ref().filter(|_| !mended).map(|(fault, _)| fault.clone());
        // Of the two the later one.
        let last = fault.into_iter().chain(self.meter.last_trouble()).max_by_key(|(_, at)| *at);
        let (last_error, last_error_at) = last.unzip();
        let lag = self.meter.lagging();
        FeedRow {
            kind: self.kind.name(),
            stream: self.stream.to_string(),
            state,
            promise: match self.promise {
                Promise::AtLeastOnce => "at least once".to_owned(),
                Promise::BestEffort(why) => format!("best effort: {why}"),
            },
            events: self.events.load(Ordering::Relaxed),
            rate: (rate * 10.0).round() / 10.0,
            duplicates: self.duplicates.load(Ordering::Relaxed),
            undecodable: self.undecodable.load(Ordering::Relaxed),
            dropped: self.meter.dropped(),
            lag: lag.map(|(lag, _)| lag),
            lag_unit: lag.map_or("", |(_, unit)| unit),
            opened: self.opened.load(Ordering::Relaxed),
            error: trouble.or(lost),
            last_error,
            last_error_at,
            note: self.meter.noted(),
        }
    }

    fn state(&self, state: &'static str) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).state = state;
    }

    fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (now.state, now.opened) = ("reading", Instant::now());
    }

    fn lost(&self, fault: &str) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.state = "lost";
        now.fault = Some((fault.to_owned(), Utc::now()));
        now.mended = false;
    }

    fn wrote(&self, fates: &[Fate], undecodable: u64) {
        let new = fates.iter().filter(|fate| matches!(fate, Fate::Stored(_))).count() as u64;
        self.events.fetch_add(new, Ordering::Relaxed);
        self.duplicates.fetch_add(fates.len() as u64 - new, Ordering::Relaxed);
        self.undecodable.fetch_add(undecodable, Ordering::Relaxed);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.fade();
        now.rate += new as f64 / MINUTE;
        now.state = "reading";
        now.mended = true;
    }
}

impl Now {
    /// A fault is over, if it has been read long enough since. Whoever has not answered yet proves nothing.
    fn mend(&mut self, blind: bool) {
        let reads = matches!(self.state, "reading" | "waiting") && self.opened.elapsed() >= STEADY;
        self.mended |= reads && !blind;
    }

    fn fade(&mut self) {
        let passed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        self.rate *= (-passed / MINUTE).exp();
    }
}

/// Why reading stopped.
enum Stop {
    /// It is time.
    Shutdown,
    /// There is nothing more.
    Ended,
    /// Opened again after a back-off.
    Again(String),
    /// Opened again, too; in the end rarely.
    Wrong(String),
}

impl From<SourceError> for Stop {
    fn from(fault: SourceError) -> Stop {
        match fault {
            SourceError::Ended => Stop::Ended,
            SourceError::Wrong(fault) => Stop::Wrong(fault),
            SourceError::Lost(fault) => Stop::Again(fault),
        }
    }
}

/// Feeds a source into the journal until shutdown, or until it has ended.
pub async fn feed(feed: Feed, journal: Journal, status: Arc<FeedStatus>, shutdown: Shutdown) {
    let Feed { kind, stream, source, .. } = feed;
    let room = journal.room(&stream);
    let mut runner = Runner { kind, stream, source, journal, room, status, shutdown, breathless: 0 };
    let mut backoff = Backoff::new(FLOOR, CAP, STABLE);
    let random = RandomState::new();
    let (mut tries, mut wrong) = (0, 0);
    loop {
        let began = Instant::now();
        let stop = runner.once(&mut backoff).await;
        if let Stop::Again(fault) | Stop::Wrong(fault) = &stop {
            runner.status.lost(fault);
        }
        // A source that does not let go in time is left; what it holds goes with it.
        let _ = tokio::time::timeout(CLOSE, runner.source.close()).await;
        if !matches!(stop, Stop::Wrong(_)) || began.elapsed() >= STABLE {
            wrong = 0;
        }
        let fault = match stop {
            Stop::Shutdown => return,
            Stop::Ended => {
                runner.status.state("ended");
                return;
            }
            Stop::Again(fault) => fault,
            Stop::Wrong(fault) => {
                wrong += 1;
                fault
            }
        };
        tries += 1;
        let random = {
            let mut hasher = random.build_hasher();
            hasher.write_u64(tries);
            hasher.finish()
        };
        let wait = match backoff.failed(random) {
            wait if wrong <= WRONG_MAX => wait,
            wait => wait.max(RARELY / 2 + (RARELY / 2).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)),
        };
        tracing::warn!(source = %runner.stream, %fault, ?wait, "A source is lost and will be opened again");
        tokio::select! {
            () = runner.shutdown.recv() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl From<JournalError> for Stop {
    fn from(fault: JournalError) -> Stop {
        match fault {
            JournalError::Closed => Stop::Shutdown,
            // What was read is read again.
            fault => Stop::Again(fault.to_string()),
        }
    }
}

/// A batch that the journal has and that is not durable yet.
struct Writing {
    receipt: u64,
    undecodable: u64,
    answer: oneshot::Receiver<Result<Vec<Fate>, JournalError>>,
}

/// What became of the oldest batch, which stays where it is.
async fn written(journal: &Journal, writing: &mut VecDeque<Writing>) -> Result<Vec<Fate>, JournalError> {
    match writing.front_mut() {
        Some(Writing { answer, .. }) => journal.appended(answer).await,
        None => Ok(Vec::new()),
    }
}

struct Runner {
    kind: Kind,
    stream: Arc<str>,
    source: Box<dyn Source>,
    journal: Journal,
    /// Whether it has to wait.
    room: watch::Receiver<bool>,
    status: Arc<FeedStatus>,
    shutdown: Shutdown,
    /// For how many big batches binds are not waited for.
    breathless: u32,
}

impl Runner {
    /// Opens it and reads until something stops it.
    async fn once(&mut self, backoff: &mut Backoff) -> Stop {
        self.status.state("opening");
        let positions = match self.journal.positions(&self.stream).await {
            Ok(positions) => positions,
            Err(fault) => return fault.into(),
        };
        let opened = tokio::select! {
            () = self.shutdown.recv() => return Stop::Shutdown,
            opened = tokio::time::timeout(OPEN, self.source.open(&positions)) => opened,
        };
        match opened {
            Err(_) => return Stop::Again(format!("it did not open within {} s", OPEN.as_secs())),
            Ok(Err(fault)) => return fault.into(),
            Ok(Ok(())) => {}
        }
        self.status.opened();
        backoff.up();
        let most = if self.source.reads_ahead() { 2 } else { 1 };
        let mut writing = VecDeque::with_capacity(most);
        let gate = Gate::default();
        loop {
            let read = tokio::select! {
                biased;
                () = self.shutdown.recv() => {
                    // What is on its way to the disk is still settled: somebody waits for it.
                    return self.settle_all(&mut writing).await.err().unwrap_or(Stop::Shutdown);
                }
                fates = written(&self.journal, &mut writing), if !writing.is_empty() => Err(fates),
                batch = self.source.next(), if writing.len() < most => Ok(batch),
            };
            let done = match read {
                Err(fates) => self.settle_written(&mut writing, fates).await,
                Ok(Ok(batch)) => self.write(batch, &gate, &mut writing).await,
                Ok(Err(fault)) => Err(fault.into()),
            };
            if let Err(stop) = done {
                return stop;
            }
        }
    }

    /// Hands a batch to the journal, waiting while that is full.
    async fn write(&mut self, mut batch: Batch, gate: &Gate, writing: &mut VecDeque<Writing>) -> Result<(), Stop> {
        let full = *self.room.borrow();
        if full || batch.is_empty() {
            // In order, and nobody outside waits for what is written.
            self.settle_all(writing).await?;
        }
        let (receipt, undecodable) = (batch.receipt, batch.undecodable.len() as u64);
        self.wait_for_room(&mut batch).await?;
        if batch.is_empty() {
            return self.settle(receipt, &[]).await;
        }
        let count = batch.count();
        let answer = self.journal.append_soon(self.kind, &self.stream, batch, Some(gate)).await?;
        writing.push_back(Writing { receipt, undecodable, answer });
        self.breathe(count).await;
        Ok(())
    }

    /// Lets binds keep up with what is read at full speed. A handler that is slow holds nothing up, and what would be lost waits for
    /// nobody.
    async fn breathe(&mut self, count: usize) {
        if count < MANY || self.source.promise() != Promise::AtLeastOnce {
            return;
        }
        match self.breathless.checked_sub(1) {
            Some(less) => self.breathless = less,
            None if self.journal.given(&self.stream).await => {}
            None => self.breathless = IN_VAIN,
        }
    }

    async fn settle_all(&mut self, writing: &mut VecDeque<Writing>) -> Result<(), Stop> {
        while !writing.is_empty() {
            let fates = written(&self.journal, writing).await;
            self.settle_written(writing, fates).await?;
        }
        Ok(())
    }

    /// The oldest batch is written, or could not be.
    async fn settle_written(
        &mut self,
        writing: &mut VecDeque<Writing>,
        fates: Result<Vec<Fate>, JournalError>,
    ) -> Result<(), Stop> {
        let fates = fates?;
        let Some(Writing { receipt, undecodable, .. }) = writing.pop_front() else { return Ok(()) };
        self.settle(receipt, &fates).await?;
        self.status.wrote(&fates, undecodable);
        Ok(())
    }

    async fn settle(&mut self, receipt: u64, fates: &[Fate]) -> Result<(), Stop> {
        match tokio::time::timeout(OPEN, self.source.settle(receipt, fates)).await {
            Ok(settled) => Ok(settled?),
            Err(_) => Err(Stop::Again(format!("it did not acknowledge within {} s", OPEN.as_secs()))),
        }
    }

    /// Back-pressure: nothing is asked of the source while the journal is full.
    async fn wait_for_room(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        let mut full = self.room.clone();
        while *full.borrow_and_update() && !batch.is_empty() {
            self.status.state("waiting");
            tokio::select! {
                () = self.shutdown.recv() => return Err(Stop::Shutdown),
                changed = full.changed() => if changed.is_err() { return Err(Stop::Shutdown) },
                () = tokio::time::sleep(IDLE) => self.source.idle(batch).await?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::{Borrowed, Clock, Matching, Positions};

    use super::*;
    use crate::journal;

    /// Tells when it is opened, and fails.
    struct Failing {
        fault: SourceError,
        opened: Arc<Mutex<Vec<Instant>>>,
    }

    impl Source for Failing {
        fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
            self.opened.lock().unwrap().push(Instant::now());
            Box::pin(async { Err(self.fault.clone()) })
        }

        fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
            Box::pin(std::future::pending())
        }

        fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
            Box::pin(async { Ok(()) })
        }
    }

    /// How often a source that fails is opened within an hour, and the longest time between two.
    async fn opened(fault: SourceError) -> (usize, Duration) {
        let specs = masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        let journal = journal::open(None, journal::Settings::default(), specs, Clock::system()).unwrap();
        let opened = Arc::<Mutex<Vec<Instant>>>::default();
        let source = Box::new(Failing { fault, opened: Arc::clone(&opened) });
        let source = Feed { kind: Kind::Stream, stream: Arc::from("kafka:a"), source, meter: Arc::default() };
        let status = FeedStatus::new(&source);
        let (_stop, shutdown) = Shutdown::new();
        let hour =
            tokio::time::timeout(Duration::from_secs(3600), feed(source, journal, Arc::clone(&status), shutdown));
        hour.await.unwrap_err();
        assert_eq!(status.row().state, "lost");
        let opened = opened.lock().unwrap();
        let longest = opened.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        (opened.len(), longest)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_until_somebody_changes_something_is_tried_rarely() {
        let (lost, longest) = opened(SourceError::Lost("the line is cut".to_owned())).await;
        assert!(lost > 70 && longest <= CAP, "{lost} times, {longest:?} at most");
        let (wrong, longest) = opened(SourceError::Wrong("there is no such user".to_owned())).await;
        assert!((15..35).contains(&wrong), "{wrong} times, {longest:?} at most");
        assert!(longest <= RARELY, "{longest:?}");
    }
}
