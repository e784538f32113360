//! The one thread that writes: it takes all that waits, commits once, and then answers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use masterchief_contract::{Clock, Fate};
use tokio::sync::{mpsc, oneshot, watch};

use super::append::{Append, Appended};
use super::engine::{Done, Engine, EngineError};
use super::handle::JournalError;
use super::rooms::{Rooms, is_over};
use super::rows::LetGo;
use super::schema::put_meta;
use super::settings::Settings;
use super::tail::Tails;

/// Requests that wait for the writer.
const DEPTH: usize = 4096;
/// How long a group is gathered at most; it is committed at once when nothing more waits.
const GATHER: Duration = Duration::from_millis(5);
/// How many requests are committed at once at most.
const GROUP: usize = 4096;

/// What everybody may know of the journal without asking the writer.
pub(super) struct Shared {
    pub(super) tails: Tails,
    pub(super) next: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Whether sources have to wait.
    pub(super) full: watch::Sender<bool>,
    /// Whether that is so, or any stream has its share.
    pub(super) tight: watch::Sender<bool>,
    pub(super) rooms: Rooms,
    max_bytes: u64,
    share: u64,
    /// Changes when somebody beside the binds has changed what waits for them.
    pub(super) changed: watch::Sender<u64>,
    /// Binds that begin nothing new, with how many events waited.
    pub(super) still: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Binds that were let go of with something undone, until somebody tells of it.
    pub(super) let_go: Mutex<Vec<LetGo>>,
}

impl Shared {
    pub(super) fn new(settings: &Settings, engine: &Engine) -> Arc<Shared> {
        let shared = Shared {
            tails: Tails::default(),
            next: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            full: watch::Sender::new(false),
            tight: watch::Sender::new(false),
            rooms: Rooms::default(),
            max_bytes: settings.max_bytes,
            share: settings.share(),
            changed: watch::Sender::new(0),
            still: Mutex::default(),
            let_go: Mutex::default(),
        };
        shared.note(engine);
        Arc::new(shared)
    }

    fn note(&self, engine: &Engine) {
        self.next.store(engine.next, Ordering::Release);
        let bytes = engine.held.total();
        self.bytes.store(bytes, Ordering::Relaxed);
        let full = is_over(bytes, self.max_bytes, *self.full.borrow());
        self.full.send_if_modified(|was| std::mem::replace(was, full) != full);
        let tight = self.rooms.note(self.share, full, |stream| engine.bytes_of(stream)) || full;
        self.tight.send_if_modified(|was| std::mem::replace(was, tight) != tight);
    }
}

/// Something the writer does. It may be tried twice, if what was to be committed with it fails.
pub(super) trait Work: Send {
    fn run(&mut self, engine: &mut Engine) -> Done<()>;
    /// It is committed, or why not.
    fn finish(self: Box<Self>, done: Result<(), JournalError>, engine: &Engine, shared: &Shared);
}

/// Where work is done.
#[derive(Clone)]
pub(super) enum Writer {
    /// On its own thread; nothing is the end of it, whoever else could still give it work.
    Thread(mpsc::Sender<Option<Box<dyn Work>>>),
    /// Here and now, for a journal in memory: a paused clock does not wait for threads.
    Here(Arc<Mutex<Engine>>),
}

impl Writer {
    pub(super) fn here(engine: Engine) -> Writer {
        Writer::Here(Arc::new(Mutex::new(engine)))
    }

    /// Starts the thread; the receiver is ready when it has ended.
    pub(super) fn thread(mut engine: Engine, shared: Arc<Shared>) -> std::io::Result<(Writer, oneshot::Receiver<()>)> {
        let (to, mut from) = mpsc::channel::<Option<Box<dyn Work>>>(DEPTH);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Some(first) = from.blocking_recv() {
                let Some(first) = first else {
                    // What was taken before is done.
                    from.close();
                    continue;
                };
                let group = gather(first, &mut from);
                commit(&mut engine, group, &shared);
            }
            // Whoever is told has the file to themselves.
            drop((from, engine));
            // Nobody waits for the end of a journal that is dropped without closing.
            let _ = end.send(());
        })?;
        Ok((Writer::Thread(to), ended))
    }

    /// Whether nobody takes work any more.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Writer::Thread(to) => to.is_closed(),
            Writer::Here(_) => false,
        }
    }

    /// Takes no more work.
    pub(super) async fn end(&self) {
        if let Writer::Thread(to) = self {
            // It may have ended already.
            let _ = to.send(None).await;
        }
    }

    pub(super) async fn put(&self, work: Box<dyn Work>, shared: &Shared) -> Result<(), JournalError> {
        match self {
            Writer::Thread(to) => to.send(Some(work)).await.map_err(|_| JournalError::Closed),
            Writer::Here(engine) => {
                let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
                commit(&mut engine, vec![work], shared);
                Ok(())
            }
        }
    }
}

/// What waits, and is committed together.
fn gather(first: Box<dyn Work>, from: &mut mpsc::Receiver<Option<Box<dyn Work>>>) -> Vec<Box<dyn Work>> {
    let mut group = vec![first];
    let began = Instant::now();
    while group.len() < GROUP && (group.len() % 64 != 0 || began.elapsed() < GATHER) {
        match from.try_recv() {
            Ok(Some(more)) => group.push(more),
            Ok(None) => from.close(),
            Err(_) => break,
        }
    }
    group
}

/// One transaction for all; if that fails, one for each, so that one that is wrong does not spoil the others.
fn commit(engine: &mut Engine, mut group: Vec<Box<dyn Work>>, shared: &Shared) {
    let done = transaction(engine, &mut group);
    if done.is_err() && group.len() > 1 {
        for work in group {
            let mut one = vec![work];
            let done = transaction(engine, &mut one);
            finish(one, done, engine, shared);
        }
        return;
    }
    finish(group, done, engine, shared);
}

fn finish(group: Vec<Box<dyn Work>>, done: Result<(), JournalError>, engine: &Engine, shared: &Shared) {
    shared.note(engine);
    for work in group {
        let told = catch_unwind(AssertUnwindSafe(|| work.finish(done.clone(), engine, shared)));
        if told.is_err() {
            tracing::error!(
                "The journal's writer panicked after a commit; what is in memory is read from the disk again"
            );
            shared.tails.clear(engine.next);
        }
    }
}

fn transaction(engine: &mut Engine, group: &mut [Box<dyn Work>]) -> Result<(), JournalError> {
    let next = engine.next;
    engine.held.begin();
    // One fault of ours must not end everything that goes through here.
    let done = catch_unwind(AssertUnwindSafe(|| -> Done<()> {
        engine.db.execute_batch("BEGIN IMMEDIATE")?;
        for work in group {
            work.run(engine)?;
        }
        engine.close_row()?;
        if engine.next != next {
            put_meta(&engine.db, "next", i64::try_from(engine.next).unwrap_or(i64::MAX))?;
        }
        let began = Instant::now();
        engine.db.execute_batch("COMMIT")?;
        engine.packer.committed(began.elapsed());
        Ok(())
    }))
    .unwrap_or(Err(EngineError::Panicked));
    done.map_err(|fault| {
        give_up(engine, next);
        JournalError::Failed(fault.to_string())
    })
}

/// Ends a transaction as if it had never begun.
fn give_up(engine: &mut Engine, next: u64) {
    if !engine.db.is_autocommit()
        && let Err(fault) = engine.db.execute_batch("ROLLBACK")
    {
        tracing::error!(%fault, "A transaction of the journal could not be given up");
    }
    if let Err(fault) = engine.forget(next) {
        tracing::error!(%fault, "The journal's streams cannot be read");
    }
}

/// Appends of one source that are handed over before the one before is durable. It is shut by the first that fails: a position
/// that is written must not pass over events that are not.
#[derive(Clone, Default)]
pub(super) struct Gate {
    shut: Arc<AtomicBool>,
}

/// An append and whoever waits for it.
pub(super) struct Appending {
    pub(super) append: Append,
    pub(super) clock: Clock,
    pub(super) gate: Option<Gate>,
    pub(super) done: Appended,
    pub(super) answer: oneshot::Sender<Result<Vec<Fate>, JournalError>>,
}

impl Work for Appending {
    fn run(&mut self, engine: &mut Engine) -> Done<()> {
        if self.gate.as_ref().is_some_and(|gate| gate.shut.load(Ordering::Acquire)) {
            return Err(EngineError::Before);
        }
        self.done = engine.append(&self.append, self.clock.now())?;
        Ok(())
    }

    fn finish(self: Box<Self>, done: Result<(), JournalError>, engine: &Engine, shared: &Shared) {
        let Appending { append, done: appended, answer, gate, .. } = *self;
        if let (Some(gate), Err(_)) = (gate, &done) {
            gate.shut.store(true, Ordering::Release);
        }
        if done.is_ok()
            && !shared.tails.pass(&append.stream, appended.end())
            && let Some(kinds) = engine.names.kinds(append.kind)
        {
            let stream = Arc::clone(&append.stream);
            for (chunk, bytes) in append.into_chunks(kinds, &appended) {
                shared.tails.add(&stream, chunk, bytes);
            }
        }
        if done.is_ok() && appended.revived {
            shared.changed.send_modify(|number| *number += 1);
        }
        // Whoever asked may have gone; what is written is written.
        let _ = answer.send(done.map(|()| appended.fates));
    }
}

/// Anything else, and whoever waits for it.
pub(super) struct Job<T, F> {
    pub(super) work: F,
    pub(super) value: Option<T>,
    pub(super) answer: Option<oneshot::Sender<Result<T, JournalError>>>,
}

impl<T, F> Work for Job<T, F>
where
    T: Send,
    F: FnMut(&mut Engine) -> Done<T> + Send,
{
    fn run(&mut self, engine: &mut Engine) -> Done<()> {
        engine.close_row()?;
        self.value = Some((self.work)(engine)?);
        Ok(())
    }

    fn finish(self: Box<Self>, done: Result<(), JournalError>, _: &Engine, _: &Shared) {
        let value = self.value.ok_or(JournalError::Closed);
        let Some(answer) = self.answer else {
            if let Err(fault) = done {
                tracing::error!(%fault, "The journal could not note how far a bind is");
            }
            return;
        };
        // Whoever asked may have gone.
        let _ = answer.send(done.and(value));
    }
}

/// The engine of a journal at this path, or in memory.
pub(super) fn engine(path: Option<&Path>, names: super::record::Names) -> Result<Engine, JournalError> {
    Engine::open(path, names).map_err(|fault| match path {
        Some(path) => JournalError::Failed(format!("{}: {fault}", path.display())),
        None => JournalError::Failed(fault.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use masterchief_contract::{Batch, Inbound, Kind, Matching, Part};

    use super::*;
    use crate::journal;

    fn batch(texts: &[&str], position: &str) -> Batch {
        let event = |text: &&str| Inbound {
            key: None,
            at: Utc::now(),
            text: text.repeat(20 << 10),
            fields: Vec::new(),
            body: Vec::new(),
        };
        let events = texts.iter().map(event).collect();
        let part = Part { lane: Arc::from("a"), shared: None, events, position: Some(position.to_owned()) };
        Batch { parts: vec![part], ..Batch::default() }
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_not_written_when_what_came_before_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let specs = masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        let journal = journal::open(Some(&path), Settings::default(), specs, Clock::system()).unwrap();
        let outside = rusqlite::Connection::open(&path).unwrap();
        outside.execute_batch("CREATE TRIGGER no BEFORE INSERT ON events WHEN new.count = 2 BEGIN SELECT RAISE(ABORT, 'the disk is full'); END").unwrap();
        let (stream, gate): (Arc<str>, Gate) = (Arc::from("kafka:a"), Gate::default());
        let mut answers = Vec::new();
        for one in [batch(&["a", "b"], "2:0"), batch(&["c"], "3:0")] {
            answers.push(journal.append_soon(Kind::Stream, &stream, one, Some(&gate)).await.unwrap());
        }
        let mut faults = Vec::new();
        for answer in &mut answers {
            faults.push(journal.appended(answer).await.unwrap_err().to_string());
        }
        assert!(faults[0].contains("the disk is full") && faults[1].contains("before"), "{faults:?}");
        assert!(journal.positions("kafka:a").await.unwrap().is_empty());
        // Whoever opens again has a gate of his own, and reads all of it again.
        outside.execute_batch("DROP TRIGGER no").unwrap();
        journal.append(Kind::Stream, &stream, batch(&["a", "b"], "2:0")).await.unwrap();
        journal.append(Kind::Stream, &stream, batch(&["c"], "3:0")).await.unwrap();
        assert_eq!(journal.positions("kafka:a").await.unwrap()["a"], "3:0");
        journal.close().await;
    }

    #[test]
    fn who_is_alone_is_written_at_once_and_those_who_wait_are_written_together() {
        struct Nothing;
        impl Work for Nothing {
            fn run(&mut self, _: &mut Engine) -> Done<()> {
                Ok(())
            }
            fn finish(self: Box<Self>, _: Result<(), JournalError>, _: &Engine, _: &Shared) {}
        }
        let (to, mut from) = mpsc::channel::<Option<Box<dyn Work>>>(DEPTH);
        let began = Instant::now();
        for _ in 0..1000 {
            assert_eq!(gather(Box::new(Nothing), &mut from).len(), 1);
        }
        assert!(began.elapsed() < 1000 * GATHER, "nobody waits for company: {:?}", began.elapsed());
        (0..DEPTH).for_each(|_| to.try_send(Some(Box::new(Nothing))).unwrap_or_else(|_| panic!("there is room")));
        let (mut groups, mut all) = (0, 0);
        while let Ok(Some(first)) = from.try_recv() {
            let group = gather(first, &mut from);
            assert!(group.len() <= GROUP);
            (groups, all) = (groups + 1, all + group.len());
        }
        // It may be kept from working for longer than it gathers; then 64 are together.
        assert!(all == DEPTH && groups <= DEPTH / 64, "{groups} groups of {all}");
    }

    #[tokio::test]
    async fn a_journal_is_closed_at_once_though_somebody_holds_a_clone_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let specs = || masterchief_bindings::stream::KINDS.iter().filter(|spec| spec.matching == Matching::Journal);
        let journal = journal::open(Some(&path), Settings::default(), specs(), Clock::system()).unwrap();
        let (held, stream, began) = (journal.clone(), Arc::from("kafka:a"), Instant::now());
        held.append(Kind::Stream, &stream, batch(&["a"], "1:0")).await.unwrap();
        journal.close().await;
        assert!(began.elapsed() < Duration::from_secs(4), "nothing has to time out: {:?}", began.elapsed());
        assert_eq!(held.status().await.unwrap_err(), JournalError::Closed);
        let journal = journal::open(Some(&path), Settings::default(), specs(), Clock::system()).unwrap();
        assert_eq!(journal.positions("kafka:a").await.unwrap()["a"], "1:0");
        journal.close().await;
    }
}
