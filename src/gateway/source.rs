//! What is posted as a source: a post is a batch of one lane, and is answered when it is settled.

use std::sync::Arc;

use masterchief_contract::{Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Source, SourceError};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Posts that wait for the journal; more are told to come again.
const DEPTH: usize = 1024;
/// Posts and bytes that are written at once at most.
const BATCH: usize = 512;
const BYTES: usize = 8 << 20;

/// A verified post on its way to the journal.
pub struct Knock {
    /// The route.
    pub lane: Arc<str>,
    /// The event.
    pub event: Inbound,
    /// Told what became of it.
    pub settled: oneshot::Sender<Fate>,
}

/// Where posts come in. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Door {
    to: mpsc::Sender<Knock>,
    from: Arc<Mutex<mpsc::Receiver<Knock>>>,
}

impl Default for Door {
    fn default() -> Door {
        let (to, from) = mpsc::channel(DEPTH);
        Door { to, from: Arc::new(Mutex::new(from)) }
    }
}

impl Door {
    /// Hands a post over if there is room.
    pub(super) fn knock(&self, knock: Knock) -> bool {
        self.to.try_send(knock).is_ok()
    }

    /// The source that brings what is posted to the journal. One at a time reads.
    pub fn source(&self, meter: &Arc<Meter>) -> Box<dyn Source> {
        Box::new(Posts { from: Arc::clone(&self.from), meter: Arc::clone(meter), unsettled: Vec::new() })
    }
}

struct Posts {
    from: Arc<Mutex<mpsc::Receiver<Knock>>>,
    meter: Arc<Meter>,
    unsettled: Vec<oneshot::Sender<Fate>>,
}

impl Source for Posts {
    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        self.unsettled.clear();
        Box::pin(async { Ok(()) })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            // Whoever is not settled by now is told to come again: the sender is dropped.
            self.unsettled.clear();
            let mut from = self.from.lock().await;
            let Some(mut knock) = from.recv().await else { return Err(SourceError::Ended) };
            let mut batch = Batch::default();
            let mut bytes = 0;
            let mut waited = 0;
            loop {
                bytes += knock.event.body.len() + knock.event.text.len();
                self.unsettled.push(knock.settled);
                let (lane, events) = (knock.lane, vec![knock.event]);
                match batch.parts.last_mut() {
                    Some(part) if part.lane == lane => part.events.extend(events),
                    _ => batch.parts.push(Part { lane, shared: None, events, position: None }),
                }
                if self.unsettled.len() >= BATCH || bytes >= BYTES {
                    break;
                }
                knock = match from.try_recv() {
                    Ok(next) => next,
                    // To write many costs little more than to write one: whoever is being read now is let in as well.
                    Err(_) if self.unsettled.len() > waited => {
                        waited = self.unsettled.len();
                        tokio::task::yield_now().await;
                        match from.try_recv() {
                            Ok(next) => next,
                            Err(_) => break,
                        }
                    }
                    Err(_) => break,
                };
            }
            self.meter.lag(from.len() as u64, "posts");
            Ok(batch)
        })
    }

    fn settle<'a>(&'a mut self, _: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        for (settled, fate) in self.unsettled.drain(..).zip(fates) {
            // The sender may have hung up.
            let _ = settled.send(*fate);
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.unsettled.clear();
        Box::pin(async {})
    }
}
