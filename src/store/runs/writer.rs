//! The one connection: on a thread of its own, or here and now for records in memory.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::RunsError;
use super::put::Put;

/// Requests that wait for the thread.
const DEPTH: usize = 1024;

/// The records of runs. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Runs {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Thread(mpsc::Sender<Work>),
    /// A paused clock does not wait for threads.
    Here(Arc<Mutex<Connection>>),
}

type Reading = Box<dyn FnOnce(&Connection) + Send>;

enum Work {
    Write(Vec<Put>, oneshot::Sender<Result<(), RunsError>>),
    Read(Reading),
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    pub(super) fn start(connection: Connection, thread: bool) -> Result<Runs, RunsError> {
        if !thread {
            return Ok(Runs { place: Place::Here(Arc::new(Mutex::new(connection))) });
        }
        let (to, from) = mpsc::channel(DEPTH);
        let named = std::thread::Builder::new().name("runs".to_owned());
        named.spawn(move || work(&connection, from)).map_err(|fault| RunsError::Database(fault.to_string()))?;
        Ok(Runs { place: Place::Thread(to) })
    }

    /// Writes all of it in one transaction; ready once that is durable. If it fails, nothing of it is written.
    pub async fn write(&self, puts: Vec<Put>) -> Result<(), RunsError> {
        match &self.place {
            Place::Thread(to) => {
                let (answer, answered) = oneshot::channel();
                to.send(Work::Write(puts, answer)).await.map_err(|_| RunsError::Closed)?;
                answered.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(connection) => {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                commit(&connection, &[puts])
            }
        }
    }

    /// Reads something.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, RunsError> + Send + 'static,
    ) -> Result<T, RunsError> {
        match &self.place {
            Place::Thread(to) => {
                let (answer, answered) = oneshot::channel();
                let work = Box::new(move |db: &Connection| {
                    // Whoever asked may have gone.
                    let _ = answer.send(read(db));
                });
                to.send(Work::Read(work)).await.map_err(|_| RunsError::Closed)?;
                answered.await.map_err(|_| RunsError::Closed)?
            }
            Place::Here(connection) => read(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Does what waits: writes that wait together are committed together.
fn work(db: &Connection, mut from: mpsc::Receiver<Work>) {
    while let Some(first) = from.blocking_recv() {
        let mut next = Some(first);
        let (mut groups, mut answers) = (Vec::new(), Vec::new());
        let mut reading = None;
        while let Some(work) = next {
            match work {
                Work::Write(puts, answer) => {
                    groups.push(puts);
                    answers.push(answer);
                }
                // What was written before it is there when it is read.
                Work::Read(read) => {
                    reading = Some(read);
                    break;
                }
            }
            next = from.try_recv().ok();
        }
        if !groups.is_empty() {
            settle(db, groups, answers);
        }
        if let Some(read) = reading {
            read(db);
        }
    }
}

fn settle(db: &Connection, groups: Vec<Vec<Put>>, answers: Vec<oneshot::Sender<Result<(), RunsError>>>) {
    let together = commit(db, &groups);
    let alone = together.is_err() && groups.len() > 1;
    for (group, answer) in groups.into_iter().zip(answers) {
        // One that cannot be written does not take the others with it.
        let done = if alone { commit(db, std::slice::from_ref(&group)) } else { together.clone() };
        let _ = answer.send(done);
    }
}

fn commit(db: &Connection, groups: &[Vec<Put>]) -> Result<(), RunsError> {
    let transaction = db.unchecked_transaction()?;
    for put in groups.iter().flatten() {
        put.run(&transaction)?;
    }
    Ok(transaction.commit()?)
}
