//! The journal as the rest of the house sees it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::{Batch, Clock, Event, Fate, Kind, KindSpec, Positions, Shutdown};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::append::{Append, Appended, Encoded};
use super::engine::{self, Done, Engine};
use super::record::{Chunk, Names};
use super::rows::{Advance, Cursor, DeadRow, DeliveryRow, EventRow, JournalStatus, LetGo, Replay, ShareRow, StreamRow};
use super::schema;
use super::settings::Settings;
use super::writer::{Appending, Gate, Job, Shared, Writer, engine as open_engine};
use super::{gone, maintain};

/// How often what is not needed any more is let go of.
const SWEEP: Duration = Duration::from_secs(10);
/// The same while sources have to wait for room.
const SWEEP_FULL: Duration = Duration::from_millis(200);
/// How often it is looked whether another process (the command line) changed something.
const LOOK: Duration = Duration::from_secs(1);
/// How long writing what waits may take at the end.
const CLOSE: Duration = Duration::from_secs(5);
/// Bytes that are read from the disk at once, about.
const READ: u64 = 1 << 20;

/// Why the journal did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is closed.
    #[error("the journal is closed: the bot is shutting down")]
    Closed,
    /// The disk, or the file.
    #[error("the journal: {0}")]
    Failed(String),
}

/// The journal. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    shared: Arc<Shared>,
    names: Names,
    clock: Clock,
    settings: Settings,
    /// For reading beside the writer; none in memory.
    reader: Option<Arc<Mutex<Connection>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Opens the journal of a folder's `journal.db`, or one in memory.
pub fn open(
    path: Option<&Path>,
    settings: Settings,
    kinds: impl Iterator<Item = &'static KindSpec>,
    clock: Clock,
) -> Result<Journal, JournalError> {
    let names = Names::new(kinds);
    let engine = open_engine(path, names.clone())?;
    let shared = Shared::new(&settings, &engine);
    let failed = |fault: &dyn std::fmt::Display| JournalError::Failed(fault.to_string());
    let (writer, ended, reader) = match path {
        None => (Writer::here(engine), None, None),
        Some(path) => {
            let reader = schema::open_existing(path, false).map_err(|fault| failed(&fault))?;
            let (writer, ended) = Writer::thread(engine, Arc::clone(&shared)).map_err(|fault| failed(&fault))?;
            (writer, Some(ended), Some(Arc::new(Mutex::new(reader))))
        }
    };
    let ended = Mutex::new(ended);
    Ok(Journal { inner: Arc::new(Inner { writer, shared, names, clock, settings, reader, ended }) })
}

/// Opens the journal of a bot that may be running, for the command line.
pub fn peek(
    path: &Path,
    kinds: impl Iterator<Item = &'static KindSpec>,
    clock: Clock,
) -> Result<Journal, JournalError> {
    let failed = |fault: &dyn std::fmt::Display| JournalError::Failed(format!("{}: {fault}", path.display()));
    let names = Names::new(kinds);
    let db = schema::open_existing(path, true).map_err(|fault| failed(&fault))?;
    let engine = Engine::with(db, names.clone()).map_err(|fault| failed(&fault))?;
    let settings = Settings::default();
    let shared = Shared::new(&settings, &engine);
    let ended = Mutex::new(None);
    let inner = Inner { writer: Writer::here(engine), shared, names, clock, settings, reader: None, ended };
    Ok(Journal { inner: Arc::new(inner) })
}

impl Journal {
    /// Writes what a source read, and gives what became of each event once it is durable. Whoever reads waits first
    /// while the journal is [`Journal::full`]; what was read already is taken all the same.
    pub async fn append(&self, kind: Kind, stream: &Arc<str>, batch: Batch) -> Result<Vec<Fate>, JournalError> {
        let mut answer = self.append_soon(kind, stream, batch, None).await?;
        self.appended(&mut answer).await
    }

    /// The same without waiting for the disk. What is handed over after this with the same gate is written after it, and
    /// not at all if this could not be.
    pub(super) async fn append_soon(
        &self,
        kind: Kind,
        stream: &Arc<str>,
        batch: Batch,
        gate: Option<&Gate>,
    ) -> Result<oneshot::Receiver<Result<Vec<Fate>, JournalError>>, JournalError> {
        let parts = batch.parts.iter().map(|part| Encoded::of(&part.events, part.shared.as_ref()));
        let encoded = parts.collect::<Result<Vec<_>, _>>().map_err(|fault| JournalError::Failed(fault.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let append = Append { kind: kind.name(), stream: Arc::clone(stream), batch, encoded };
        let clock = self.inner.clock.clone();
        let gate = gate.cloned();
        let work = Box::new(Appending { append, clock, gate, done: Appended::default(), answer });
        self.inner.writer.put(work, &self.inner.shared).await?;
        Ok(answered)
    }

    /// Waits until what was handed over is durable.
    pub(super) async fn appended(
        &self,
        answer: &mut oneshot::Receiver<Result<Vec<Fate>, JournalError>>,
    ) -> Result<Vec<Fate>, JournalError> {
        answer.await.unwrap_or_else(|_| Err(self.unanswered()))
    }

    /// Where a source is to go on.
    pub async fn positions(&self, stream: &str) -> Result<Positions, JournalError> {
        let stream = stream.to_owned();
        self.call(move |engine| engine.positions(&stream)).await
    }

    /// Forgets where a source is: it begins anew.
    pub async fn forget_positions(&self, stream: &str) -> Result<usize, JournalError> {
        let stream = stream.to_owned();
        self.call(move |engine| {
            let sql = "DELETE FROM positions WHERE stream IN (SELECT id FROM streams WHERE name = ?1)";
            Ok(engine.db.execute(sql, [&stream])?)
        })
        .await
    }

    /// A bind's cursor and what did not go the straight way; a new bind begins at the journal's end.
    pub async fn cursor(
        &self,
        kind: Kind,
        stream: &Arc<str>,
        bind: &Arc<str>,
    ) -> Result<(Cursor, Vec<DeliveryRow>), JournalError> {
        // What the stream has is told from now on.
        drop(self.room(stream));
        let (stream, bind, clock) = (Arc::clone(stream), Arc::clone(bind), self.inner.clock.clone());
        self.call(move |engine| {
            let cursor = engine.cursor(kind.name(), &stream, &bind, clock.now())?;
            Ok((cursor, engine.deliveries(&bind)?))
        })
        .await
    }

    /// A bind is gone: its place is remembered for a while, and then forgotten.
    pub async fn release(&self, bind: &Arc<str>) -> Result<(), JournalError> {
        let bind = Arc::clone(bind);
        self.call(move |engine| {
            engine.active.remove(&*bind);
            Ok(())
        })
        .await
    }

    /// What did not go the straight way for a bind.
    pub async fn deliveries(&self, bind: &Arc<str>) -> Result<Vec<DeliveryRow>, JournalError> {
        let bind = Arc::clone(bind);
        self.call(move |engine| engine.deliveries(&bind)).await
    }

    /// Notes how far a bind is, and waits until that is durable.
    pub async fn advance(&self, advance: Advance) -> Result<(), JournalError> {
        let clock = self.inner.clock.clone();
        self.call(move |engine| engine.advance(&advance, clock.now())).await
    }

    /// Notes how far a bind is, soon.
    pub async fn advance_soon(&self, advance: Advance) -> Result<(), JournalError> {
        let clock = self.inner.clock.clone();
        let work = move |engine: &mut Engine| engine.advance(&advance, clock.now());
        self.inner.writer.put(Box::new(Job { work, value: None, answer: None }), &self.inner.shared).await
    }

    /// A number that grows with a stream: the number after its newest event, or later.
    pub fn follow(&self, stream: &Arc<str>) -> watch::Receiver<u64> {
        self.inner.shared.tails.follow(stream, self.inner.shared.next.load(Ordering::Acquire))
    }

    /// Waits a moment until binds have been given most of what is in memory of a stream. Whether they have.
    pub(super) async fn given(&self, stream: &str) -> bool {
        self.inner.shared.tails.given(stream).await
    }

    /// Events of a stream from a number on: what is at hand, not all of it. Empty at its end.
    pub async fn read(&self, stream: &Arc<str>, from: u64) -> Result<Vec<Arc<Chunk>>, JournalError> {
        if let Some(chunks) = self.inner.shared.tails.since(stream, from) {
            return Ok(chunks);
        }
        let Some(reader) = &self.inner.reader else {
            let stream = Arc::clone(stream);
            return self.call(move |engine| engine.read(&stream, from, READ)).await;
        };
        let (reader, names, stream) = (Arc::clone(reader), self.inner.names.clone(), Arc::clone(stream));
        let read = tokio::task::spawn_blocking(move || {
            let db = reader.lock().unwrap_or_else(PoisonError::into_inner);
            engine::read(&db, &names, &stream, from, READ)
        });
        read.await.map_err(|_| JournalError::Closed)?.map_err(|fault| JournalError::Failed(fault.to_string()))
    }

    /// Whether all sources have to wait; changes.
    pub fn full(&self) -> watch::Receiver<bool> {
        self.inner.shared.full.subscribe()
    }

    /// Whether the source of a stream has to wait, because that has its share or for all of the journal; changes.
    pub fn room(&self, stream: &Arc<str>) -> watch::Receiver<bool> {
        self.inner.shared.rooms.of(stream)
    }

    /// What each stream that is read has of the journal.
    pub fn shares(&self) -> Vec<ShareRow> {
        self.inner.shared.rooms.rows()
    }

    /// The bind of a stream that is most behind, and by how many numbers.
    pub async fn laggard(&self, stream: &str) -> Result<Option<(String, u64)>, JournalError> {
        let stream = stream.to_owned();
        self.call(move |engine| maintain::laggard(&engine.db, &stream)).await
    }

    /// Changes when another process has changed something.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.shared.changed.subscribe()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(super) fn names(&self) -> &Names {
        &self.inner.names
    }

    /// What is configured.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How it is doing.
    pub async fn status(&self) -> Result<JournalStatus, JournalError> {
        let full = *self.inner.shared.full.borrow();
        self.call(move |engine| {
            let count = |sql: &str| engine.db.query_row(sql, [], |row| row.get::<_, u64>(0));
            Ok(JournalStatus {
                next: engine.next,
                bytes: engine.held.total(),
                dead: count("SELECT count(*) FROM dead")?,
                waiting: count("SELECT count(*) FROM deliveries")?,
                held: count("SELECT count(*) FROM deliveries WHERE state = 'held'")?,
                full,
            })
        })
        .await
    }

    /// One event by its number, with its stream.
    pub async fn event(&self, number: u64) -> Result<Option<(String, Event)>, JournalError> {
        self.call(move |engine| engine.event(number)).await
    }

    /// How each bind is with an event, in words.
    pub async fn states(&self, stream: &str, number: u64) -> Result<Vec<(String, String)>, JournalError> {
        let (stream, clock) = (stream.to_owned(), self.inner.clock.clone());
        self.call(move |engine| maintain::states(&engine.db, &stream, number, clock.now())).await
    }

    /// The newest events, newest first; of a kind or a stream, or of all where `of` is empty.
    pub async fn newest(&self, of: &str, count: usize) -> Result<Vec<EventRow>, JournalError> {
        let of = of.to_owned();
        self.call(move |engine| maintain::newest(&engine.db, &engine.names, &of, count)).await
    }

    /// Dead letters and what is held, newest first.
    pub async fn dead_letters(&self, count: usize) -> Result<Vec<DeadRow>, JournalError> {
        self.call(move |engine| maintain::dead_letters(&engine.db, &engine.names, count)).await
    }

    /// One of them.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadRow>, JournalError> {
        self.call(move |engine| maintain::dead_letter(&engine.db, &engine.names, id)).await
    }

    /// Gives a dead or held one another round of tries. It is not, if no bind stands behind it.
    pub async fn retry(&self, row: DeadRow) -> Result<bool, JournalError> {
        let clock = self.inner.clock.clone();
        let done = self.call(move |engine| maintain::retry(engine, &row, clock.now())).await?;
        self.inner.shared.changed.send_modify(|number| *number += 1);
        Ok(done)
    }

    /// Gives an event again to every bind that reads its stream; their names. Nothing if there is no such event.
    pub async fn replay(&self, number: u64, speak: bool) -> Result<Option<Vec<String>>, JournalError> {
        let clock = self.inner.clock.clone();
        let how = if speak { Replay::Speak } else { Replay::Quiet };
        let done = self.call(move |engine| maintain::replay(engine, number, how, clock.now())).await?;
        self.inner.shared.changed.send_modify(|number| *number += 1);
        Ok(done)
    }

    /// Throws a dead or held one away.
    pub async fn discard(&self, row: DeadRow) -> Result<bool, JournalError> {
        let done = self.call(move |engine| maintain::discard(&engine.db, &row)).await?;
        self.inner.shared.changed.send_modify(|number| *number += 1);
        Ok(done)
    }

    /// How many numbers each bind is behind its stream. It does not trouble the writer.
    pub async fn behind(&self) -> Result<Vec<(String, u64)>, JournalError> {
        let Some(reader) = self.inner.reader.clone() else {
            return self.call(|engine| maintain::behind(&engine.db)).await;
        };
        let asked = tokio::task::spawn_blocking(move || {
            maintain::behind(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        asked.await.map_err(|_| JournalError::Closed)?.map_err(|fault| JournalError::Failed(fault.to_string()))
    }

    /// A bind begins nothing new because so many events wait; or it does again.
    pub fn stands_still(&self, bind: &Arc<str>, waiting: Option<u64>) {
        let mut still = self.inner.shared.still.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting {
            Some(waiting) => still.insert(Arc::clone(bind), waiting),
            None => still.remove(bind),
        };
    }

    /// The binds that begin nothing new, and how many events waited when they stopped.
    pub fn standing_still(&self) -> Vec<(String, u64)> {
        let still = self.inner.shared.still.lock().unwrap_or_else(PoisonError::into_inner);
        still.iter().map(|(bind, waiting)| (bind.to_string(), *waiting)).collect()
    }

    /// Keeps what is to be told of a bind that was let go of.
    pub(super) fn let_go_soon_told(&self, told: LetGo) {
        let mut untold = self.inner.shared.let_go.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() < gone::UNTOLD_MAX {
            untold.push(told);
        }
    }

    /// Binds that were let go of since this was asked last, and had not done all that they wanted.
    pub fn let_go(&self) -> Vec<LetGo> {
        std::mem::take(&mut self.inner.shared.let_go.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The streams.
    pub async fn streams(&self) -> Result<Vec<StreamRow>, JournalError> {
        self.call(|engine| maintain::streams(&engine.db, engine.next)).await
    }

    /// Lets go of what is not needed, and notices what another process does, until shutdown.
    pub async fn look_after(&self, mut shutdown: Shutdown) {
        let mut look = tokio::time::interval(LOOK);
        let mut tight = self.inner.shared.tight.subscribe();
        let mut version = None;
        let mut swept = tokio::time::Instant::now();
        loop {
            let pause = if *tight.borrow_and_update() { SWEEP_FULL } else { SWEEP };
            tokio::select! {
                () = shutdown.recv() => return,
                () = tokio::time::sleep_until(swept + pause) => {
                    self.sweep().await;
                    swept = tokio::time::Instant::now();
                }
                _ = tight.changed() => {}
                _ = look.tick(), if self.inner.reader.is_some() => {
                    let now = self.data_version().await;
                    if version.replace(now) != Some(now) {
                        self.inner.shared.changed.send_modify(|number| *number += 1);
                    }
                }
            }
        }
    }

    /// Lets go of what is not needed: of events first, and of binds that are gone where that is not enough.
    pub async fn sweep(&self) {
        loop {
            match self.sweep_once().await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) | Err(JournalError::Closed) => return,
                Err(fault) => {
                    tracing::error!(%fault, "What is not needed any more could not be let go of");
                    return;
                }
            }
        }
    }

    /// Whether there may be more to let go of.
    async fn sweep_once(&self) -> Result<bool, JournalError> {
        let (settings, now) = (self.inner.settings.clone(), self.inner.clock.now());
        let swept = self.call(move |engine| match engine.sweep(&settings, now)? {
            true => Ok(None),
            // In one transaction: nothing that is written in between makes it look as if there were no room.
            false => engine.gone(&settings, now).map(Some),
        });
        match swept.await? {
            None => Ok(true),
            Some(gone) => self.let_go_of_binds(gone).await,
        }
    }

    async fn data_version(&self) -> i64 {
        // The writer's connection sees only what others do.
        self.call(|engine| Ok(engine.db.pragma_query_value(None, "data_version", |row| row.get(0))?)).await.unwrap_or(0)
    }

    /// Waits until everything is written. Nothing can be written afterwards, through no clone.
    pub async fn close(self) {
        let ended = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ended) = ended else { return };
        let closed = async {
            self.inner.writer.end().await;
            // It is ready in any case once the writer is gone.
            let _ = ended.await;
        };
        if tokio::time::timeout(CLOSE, closed).await.is_err() {
            tracing::warn!("The journal did not close in time; what waits is written as long as the process lives");
        }
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Engine) -> Done<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Job { work, value: None, answer: Some(answer) });
        self.inner.writer.put(job, &self.inner.shared).await?;
        answered.await.unwrap_or_else(|_| Err(self.unanswered()))
    }

    /// Why the writer did not answer.
    fn unanswered(&self) -> JournalError {
        if self.inner.writer.is_closed() {
            return JournalError::Closed;
        }
        JournalError::Failed("its writer stumbled over this, and the log says how".to_owned())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("next", &self.inner.shared.next).finish_non_exhaustive()
    }
}
