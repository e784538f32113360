//! The connections: one that writes and one that reads, each on a thread of its own, or one here and now for records in memory.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::RunsError;
use super::owner::Epoch;
use super::put::Put;

/// Requests that wait for the thread.
const DEPTH: usize = 1024;
/// Groups that are committed together, at most: whoever came first does not wait for all who come later.
const TOGETHER: usize = 1024;

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
        read: mpsc::Sender<Reading>,
    },
    /// A paused clock does not wait for threads.
    Here(Arc<Mutex<Connection>>),
}

type Reading = Box<dyn FnOnce(&Connection) + Send>;

enum Work {
    Write(Vec<Put>, oneshot::Sender<Result<(), RunsError>>),
    /// Something else that changes rows, in its turn.
    Change(Reading),
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    /// Begins to serve: with a second connection that reads what is committed, while the first one writes.
    pub(super) fn start(writing: Connection, reading: Option<Connection>) -> Result<Runs, RunsError> {
        let epoch = Epoch::default();
        let Some(reading) = reading else {
            return Ok(Runs { place: Place::Here(Arc::new(Mutex::new(writing))), epoch });
        };
        let (write, from) = mpsc::channel(DEPTH);
        let own = epoch.clone();
        thread("runs", move || work(&writing, from, &own))?;
        let (read, mut from) = mpsc::channel::<Reading>(DEPTH);
        thread("runs-read", move || {
            while let Some(look) = from.blocking_recv() {
                look(&reading);
            }
        })?;
        Ok(Runs { place: Place::Threads { write, read }, epoch })
    }

    /// Writes all of it in one transaction; ready once that is durable. If it fails, nothing of it is written.
    pub async fn write(&self, puts: Vec<Put>) -> Result<(), RunsError> {
        match &self.place {
            Place::Threads { write, .. } => {
                let (answer, answered) = oneshot::channel();
                write.send(Work::Write(puts, answer)).await.map_err(|_| RunsError::Closed)?;
                answered.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(connection) => {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                commit(&connection, &[puts], &self.epoch)
            }
        }
    }

    /// Reads something, of what is committed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        match &self.place {
            Place::Threads { read: to, .. } => {
                let (look, looked) = answered(read);
                to.send(look).await.map_err(|_| RunsError::Closed)?;
                looked.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(connection) => read(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Changes rows otherwise than by [`Put`], after what waits to be written.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        let epoch = self.epoch.clone();
        let change = move |db: &Connection| epoch.holds(db).and_then(|()| change(db));
        match &self.place {
            Place::Threads { write, .. } => {
                let (change, changed) = answered(change);
                write.send(Work::Change(change)).await.map_err(|_| RunsError::Closed)?;
                changed.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(_) => self.read(change).await,
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunsError> {
    let named = std::thread::Builder::new().name(name.to_owned());
    named.spawn(work).map(drop).map_err(|fault| RunsError::Database(fault.to_string()))
}

/// Work for a thread, and where its answer comes.
fn answered<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> Result<T, RunsError> + Send + 'static,
) -> (Reading, oneshot::Receiver<Result<T, RunsError>>) {
    let (answer, answered) = oneshot::channel();
    let work = move |db: &Connection| {
        // Whoever asked may have gone.
        let _ = answer.send(work(db));
    };
    (Box::new(work), answered)
}

/// Does what waits: writes that wait together are committed together.
fn work(db: &Connection, mut from: mpsc::Receiver<Work>, epoch: &Epoch) {
    while let Some(first) = from.blocking_recv() {
        let mut next = Some(first);
        let (mut groups, mut answers) = (Vec::new(), Vec::new());
        let mut change = None;
        while let Some(work) = next {
            match work {
                Work::Write(puts, answer) => {
                    groups.push(puts);
                    answers.push(answer);
                }
                Work::Change(work) => {
                    change = Some(work);
                    break;
                }
            }
            next = if groups.len() < TOGETHER { from.try_recv().ok() } else { None };
        }
        if !groups.is_empty() {
            settle(db, groups, answers, epoch);
        }
        if let Some(change) = change {
            change(db);
        }
    }
}

fn settle(db: &Connection, groups: Vec<Vec<Put>>, answers: Vec<oneshot::Sender<Result<(), RunsError>>>, epoch: &Epoch) {
    let together = commit(db, &groups, epoch);
    let alone = together.is_err() && groups.len() > 1;
    for (group, answer) in groups.into_iter().zip(answers) {
        // One that cannot be written does not take the others with it.
        let done = if alone { commit(db, std::slice::from_ref(&group), epoch) } else { together.clone() };
        let _ = answer.send(done);
    }
}

fn commit(db: &Connection, groups: &[Vec<Put>], epoch: &Epoch) -> Result<(), RunsError> {
    // Whether they are ours is asked within it, so that nobody takes them in between.
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    epoch.holds(&transaction)?;
    for put in groups.iter().flatten() {
        put.run(&transaction)?;
    }
    Ok(transaction.commit()?)
}
