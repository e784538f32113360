//! What is posted as a source: a post is a batch of one lane, and is answered when it is settled.

use std::collections::VecDeque;
use std::sync::Arc;

use masterchief_contract::{Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Source, SourceError, Undecodable};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};

/// Posts that wait for the journal; more are told to come again.
const DEPTH: usize = 1024;
/// Posts and bytes that are written at once at most.
const BATCH: usize = 512;
const BYTES: usize = 8 << 20;

/// A verified post on its way to the journal.
pub struct Knock {
    /// The route.
    pub lane: Arc<str>,
    /// The event, or what of it cannot be understood, for the dead letters.
    pub event: Result<Inbound, Undecodable>,
    /// Told what became of it.
    pub settled: oneshot::Sender<Fate>,
    /// Room that its bytes take until it is settled or sent away, whether or not somebody still waits for that.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Who is told, and the room that is free again then.
type Waiting = (oneshot::Sender<Fate>, Option<OwnedSemaphorePermit>);

/// Where posts come in. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Door {
    to: mpsc::Sender<Knock>,
    from: Arc<Mutex<mpsc::Receiver<Knock>>>,
    revives: bool,
}

impl Default for Door {
    fn default() -> Door {
        let (to, from) = mpsc::channel(DEPTH);
        Door { to, from: Arc::new(Mutex::new(from)), revives: false }
    }
}

impl Door {
    /// One whose visitors come a second time on purpose: who presses "redeliver" wants what became a dead letter tried again.
    pub fn reviving() -> Door {
        Door { revives: true, ..Door::default() }
    }

    /// Hands a post over; whether there was room.
    pub fn knock(&self, knock: Knock) -> bool {
        self.to.try_send(knock).is_ok()
    }

    /// The source that brings what is posted to the journal. One at a time reads.
    pub fn source(&self, meter: &Arc<Meter>) -> Box<dyn Source> {
        let from = Arc::clone(&self.from);
        let revives = self.revives;
        Box::new(Posts {
            revives,
            from,
            meter: Arc::clone(meter),
            gathered: Gathered::default(),
            unsettled: VecDeque::new(),
        })
    }
}

struct Posts {
    from: Arc<Mutex<mpsc::Receiver<Knock>>>,
    meter: Arc<Meter>,
    revives: bool,
    /// The next batch. It is kept here because whoever asks for it may stop asking.
    gathered: Gathered,
    /// Whom to tell of the batches that are being written, oldest first.
    unsettled: VecDeque<Settled>,
}

#[derive(Default)]
struct Gathered {
    batch: Batch,
    bytes: usize,
    settled: Settled,
}

/// Whom to tell of a batch.
#[derive(Default)]
struct Settled {
    events: Vec<Waiting>,
    /// Who posted what cannot be understood.
    bad: Vec<Waiting>,
}

impl Settled {
    fn len(&self) -> usize {
        self.events.len() + self.bad.len()
    }
}

impl Gathered {
    fn take(&mut self, knock: Knock) {
        let waiting = (knock.settled, knock.room);
        let event = match knock.event {
            Ok(event) => event,
            Err(bad) => {
                self.bytes += bad.bytes.len();
                self.batch.undecodable.push(bad);
                return self.settled.bad.push(waiting);
            }
        };
        self.bytes += event.body.len() + event.text.len();
        self.settled.events.push(waiting);
        match self.batch.parts.last_mut() {
            Some(part) if part.lane == knock.lane => part.events.push(event),
            _ => self.batch.parts.push(Part { lane: knock.lane, shared: None, events: vec![event], position: None }),
        }
    }

    fn is_full(&self) -> bool {
        self.settled.len() >= BATCH || self.bytes >= BYTES
    }
}

impl Posts {
    /// Whoever is not settled by now is told to come again: the sender is dropped.
    fn send_away(&mut self) {
        self.gathered = Gathered::default();
        self.unsettled.clear();
    }
}

impl Source for Posts {
    /// Whoever posts while others are written need not wait for the end of that.
    fn reads_ahead(&self) -> bool {
        true
    }

    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        self.send_away();
        Box::pin(async { Ok(()) })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let mut from = self.from.lock().await;
            let gathered = &mut self.gathered;
            self.meter.lag(from.len() as u64, "posts");
            if gathered.settled.len() == 0 {
                gathered.take(from.recv().await.ok_or(SourceError::Ended)?);
            }
            let mut waited = 0;
            while !gathered.is_full() {
                match from.try_recv() {
                    Ok(knock) => gathered.take(knock),
                    // To write many costs little more than to write one: whoever is being read now is let in as well.
                    Err(_) if gathered.settled.len() > waited => {
                        waited = gathered.settled.len();
                        tokio::task::yield_now().await;
                    }
                    Err(_) => break,
                }
            }
            self.meter.lag(from.len() as u64, "posts");
            let Gathered { mut batch, settled, .. } = std::mem::take(gathered);
            batch.revives = self.revives;
            self.unsettled.push_back(settled);
            Ok(batch)
        })
    }

    fn settle<'a>(&'a mut self, _: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        let Settled { events, bad } = self.unsettled.pop_front().unwrap_or_default();
        let refused = bad.into_iter().map(|waiting| (waiting, Fate::Refused));
        for ((settled, _), fate) in events.into_iter().zip(fates.iter().copied()).chain(refused) {
            // The sender may have hung up.
            let _ = settled.send(fate);
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.send_away();
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use futures_util::FutureExt;

    use super::*;

    fn knock(text: &str) -> (Knock, oneshot::Receiver<Fate>) {
        let (settled, fate) = oneshot::channel();
        let event = Inbound { key: None, at: Utc::now(), text: text.to_owned(), fields: Vec::new(), body: Vec::new() };
        (Knock { lane: Arc::from("github"), event: Ok(event), settled, room: None }, fate)
    }

    #[tokio::test]
    async fn a_post_is_neither_lost_nor_answered_for_another_when_reading_is_given_up_half_way() {
        let door = Door::default();
        let mut source = door.source(&Arc::default());
        let (first, mut of_first) = knock("first");
        assert!(door.knock(first));
        assert!(source.next().now_or_never().is_none(), "it waits a moment for more");
        let (second, mut of_second) = knock("second");
        assert!(door.knock(second));
        let batch = source.next().await.unwrap();
        let texts: Vec<_> = batch.parts.iter().flat_map(|part| &part.events).map(|event| event.text.clone()).collect();
        assert_eq!(texts, ["first", "second"]);
        // Another is read before those are written.
        let (third, mut of_third) = knock("third");
        assert!(door.knock(third));
        assert_eq!(source.next().await.unwrap().count(), 1);
        source.settle(0, &[Fate::Stored(7), Fate::Duplicate(3)]).await.unwrap();
        assert_eq!(of_first.try_recv(), Ok(Fate::Stored(7)));
        assert_eq!(of_second.try_recv(), Ok(Fate::Duplicate(3)));
        assert!(of_third.try_recv().is_err(), "nothing is known of it yet");
        source.close().await;
        assert_eq!(of_third.try_recv(), Err(oneshot::error::TryRecvError::Closed), "who posted it comes again");
    }
}
