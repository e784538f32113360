//! The connections: one that writes and some that read, each on a thread of its own, or one here and now for records in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::RunsError;
use super::db::Db;
use super::owner::Epoch;
use super::put::Put;

/// Requests that wait for the thread.
const DEPTH: usize = 1024;
/// Groups that are committed together, at most: whoever came first does not wait for all who come later.
const TOGETHER: usize = 1024;
/// The time between two looks at what became of a transaction.
const AGAIN: Duration = Duration::from_millis(200);

/// The records of runs. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Runs {
    place: Place,
    /// Whether they are ours.
    pub(super) epoch: Epoch,
}

#[derive(Clone)]
enum Place {
    Threads {
        write: mpsc::Sender<Work>,
        read: mpsc::Sender<Errand>,
    },
    /// A paused clock does not wait for threads.
    Here(Arc<Mutex<Db>>),
}

type Errand = Box<dyn FnOnce(&Db) + Send>;

enum Work {
    Write(Arc<Vec<Put>>, oneshot::Sender<Result<(), RunsError>>),
    /// Something else that needs the connection that writes, in its turn.
    Other(Errand),
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    /// With one connection that does everything, here and now.
    pub(super) fn here(connection: Db) -> Runs {
        Runs { place: Place::Here(Arc::new(Mutex::new(connection))), epoch: Epoch::default() }
    }

    /// Begins to serve: with other connections that read what is committed, while the first one writes.
    pub(super) fn start(writing: Db, reading: Vec<Db>) -> Result<Runs, RunsError> {
        let epoch = Epoch::default();
        let (write, from) = mpsc::channel(DEPTH);
        let own = epoch.clone();
        thread("runs", move || {
            work(&writing, from, &own);
            writing.close();
        })?;
        let (read, from) = mpsc::channel::<Errand>(DEPTH);
        let from = Arc::new(Mutex::new(from));
        for reading in reading {
            let from = Arc::clone(&from);
            thread("runs-read", move || {
                while let Some(look) = next(&from) {
                    look(&reading);
                }
                reading.close();
            })?;
        }
        Ok(Runs { place: Place::Threads { write, read }, epoch })
    }

    /// Writes all of it in one transaction; ready once that is durable. If it fails, nothing of it is written.
    pub async fn write(&self, puts: Vec<Put>) -> Result<(), RunsError> {
        self.write_shared(Arc::new(puts)).await
    }

    /// The same of what is kept by who may have to write it again.
    pub async fn write_shared(&self, puts: Arc<Vec<Put>>) -> Result<(), RunsError> {
        let done = match &self.place {
            Place::Threads { write, .. } => {
                let (answer, answered) = oneshot::channel();
                write.send(Work::Write(puts, answer)).await.map_err(|_| RunsError::Closed)?;
                answered.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(db) => commit(&db.lock().unwrap_or_else(PoisonError::into_inner), &[puts], &self.epoch),
        };
        match done {
            Err(RunsError::Unsure(transaction)) => self.became(transaction).await,
            done => done,
        }
    }

    /// What became of a transaction whose end was not heard: to write it again could write it twice. As long as the server is away,
    /// nobody knows.
    async fn became(&self, transaction: i64) -> Result<(), RunsError> {
        tracing::warn!(transaction, "The database went away while runs were written; it is asked what became of it");
        loop {
            match self.read(move |db| db.became(transaction)).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => {
                    return Err(RunsError::Lost("PostgreSQL went away before it had written".to_owned()));
                }
                Ok(None) | Err(RunsError::Lost(_)) => tokio::time::sleep(AGAIN).await,
                // It never heard of that transaction: another server is there now.
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Reads something, of what is committed, all of it as it was at one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Db) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        let read = move |db: &Db| db.reading(read);
        match &self.place {
            Place::Threads { read: to, .. } => {
                let (look, looked) = answered(read);
                to.send(look).await.map_err(|_| RunsError::Closed)?;
                looked.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(db) => read(&db.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Changes rows otherwise than by [`Put`], in one transaction, after what waits to be written.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Db) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        let epoch = self.epoch.clone();
        self.alter(move |db| db.writing(|db| epoch.holds(db).and_then(|()| change(db)))).await
    }

    /// Does something with the connection that writes, which begins its own transactions.
    pub(super) async fn alter<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        match &self.place {
            Place::Threads { write, .. } => {
                let (work, done) = answered(work);
                write.send(Work::Other(work)).await.map_err(|_| RunsError::Closed)?;
                done.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(db) => work(&db.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunsError> {
    let named = std::thread::Builder::new().name(name.to_owned());
    named.spawn(work).map(drop).map_err(|fault| RunsError::Database(fault.to_string()))
}

/// What one of several readers does next: one waits for it, the others for their turn to wait.
fn next(from: &Mutex<mpsc::Receiver<Errand>>) -> Option<Errand> {
    from.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

/// Work for a thread, and where its answer comes.
fn answered<T: Send + 'static>(
    work: impl FnOnce(&Db) -> Result<T, RunsError> + Send + 'static,
) -> (Errand, oneshot::Receiver<Result<T, RunsError>>) {
    let (answer, answered) = oneshot::channel();
    let work = move |db: &Db| {
        // Whoever asked may have gone.
        let _ = answer.send(work(db));
    };
    (Box::new(work), answered)
}

/// Does what waits: writes that wait together are committed together.
fn work(db: &Db, mut from: mpsc::Receiver<Work>, epoch: &Epoch) {
    while let Some(first) = from.blocking_recv() {
        let mut next = Some(first);
        let (mut groups, mut answers) = (Vec::new(), Vec::new());
        let mut other = None;
        while let Some(work) = next {
            match work {
                Work::Write(puts, answer) => {
                    groups.push(puts);
                    answers.push(answer);
                }
                Work::Other(work) => {
                    other = Some(work);
                    break;
                }
            }
            next = if groups.len() < TOGETHER { from.try_recv().ok() } else { None };
        }
        if !groups.is_empty() {
            settle(db, groups, answers, epoch);
        }
        if let Some(other) = other {
            other(db);
        }
    }
}

fn settle(db: &Db, groups: Vec<Arc<Vec<Put>>>, answers: Vec<oneshot::Sender<Result<(), RunsError>>>, epoch: &Epoch) {
    let together = commit(db, &groups, epoch);
    // One that cannot be written does not take the others with it; a database that is away takes none of them.
    let alone = matches!(together, Err(RunsError::Database(_))) && groups.len() > 1;
    for (group, answer) in groups.into_iter().zip(answers) {
        let done = if alone { commit(db, std::slice::from_ref(&group), epoch) } else { together.clone() };
        let _ = answer.send(done);
    }
}

fn commit(db: &Db, groups: &[Arc<Vec<Put>>], epoch: &Epoch) -> Result<(), RunsError> {
    db.writing(|db| {
        // Whether they are ours is asked within it, so that nobody takes them in between.
        epoch.holds(db)?;
        groups.iter().flat_map(|group| group.iter()).try_for_each(|put| put.run(db))
    })
}
