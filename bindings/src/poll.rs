//! Something that is looked at again and again. What it was stands in the journal beside what was told, so that a restart
//! neither forgets a change nor tells it twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// What one look found.
pub(crate) struct Found<M> {
    /// What is worth an event.
    pub(crate) events: Vec<Inbound>,
    /// What is to be remembered.
    pub(crate) memory: M,
    /// When to look again, where that is not the usual time.
    pub(crate) again: Option<Duration>,
    /// Whether there is more outside that it did not see: nobody said what, or it was too much at once.
    pub(crate) partial: bool,
}

/// How to look.
pub(crate) trait Look: Send + 'static {
    /// What is remembered from one look to the next, and over restarts.
    type Memory: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send;

    /// The lane of its events, which its memory stands beside.
    const LANE: &'static str = "";

    /// See [`Source::promise`].
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    /// How often.
    fn every(&self) -> Duration;

    /// Connects.
    fn open(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    /// Ready when there is a reason to look before it is time.
    fn woken(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(std::future::pending())
    }

    /// Looks. One that fails leaves everything as it was. Looks never overlap.
    fn look(&mut self, memory: Self::Memory) -> Borrowed<'_, Result<Found<Self::Memory>, SourceError>>;

    /// Whether two memories differ in nothing that is worth writing.
    fn same(one: &Self::Memory, other: &Self::Memory) -> bool {
        one == other
    }

    /// Lets go.
    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async {})
    }
}

/// The source.
pub(crate) struct Polled<L: Look> {
    look: L,
    memory: L::Memory,
    /// What stands in the journal.
    noted: L::Memory,
    /// What was found and is not all written yet, with what is to be remembered then.
    next: Option<(VecDeque<Inbound>, L::Memory)>,
    due: Instant,
    meter: Arc<Meter>,
}

/// What wakes us comes in bursts: so long is waited for more.
const BURST: Duration = Duration::from_millis(100);

impl<L: Look> Polled<L> {
    pub(crate) fn new(look: L, meter: &Arc<Meter>) -> Polled<L> {
        let (memory, noted) = (L::Memory::default(), L::Memory::default());
        // Until it has been looked at there is no other time to count from.
        meter.seen();
        Polled { look, memory, noted, next: None, due: Instant::now(), meter: Arc::clone(meter) }
    }

    /// As much of what was found as is written at once. What is to be remembered is written with the last of it: whoever
    /// dies before finds it all again.
    fn batch(&mut self) -> Result<Batch, SourceError> {
        let Some((waiting, memory)) = &mut self.next else { return Ok(Batch::default()) };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(event) = waiting.pop_front() {
            bytes += event.size();
            events.push(event);
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        let position = if waiting.is_empty() {
            let text = serde_json::to_string(memory);
            Some(text.map_err(|fault| SourceError::Wrong(format!("what it is cannot be remembered: {fault}")))?)
        } else {
            None
        };
        let part = Part { lane: Arc::from(L::LANE), shared: None, events, position };
        Ok(Batch { parts: vec![part], ..Batch::default() })
    }
}

impl<L: Look> Source for Polled<L> {
    fn promise(&self) -> Promise {
        self.look.promise()
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let noted = positions.get(L::LANE).map(|text| serde_json::from_str(text)).transpose();
            self.noted = noted
                .unwrap_or_else(|fault| {
                    tracing::error!(%fault, "What is remembered of a source cannot be read; it begins anew");
                    None
                })
                .unwrap_or_default();
            self.memory = self.noted.clone();
            self.next = None;
            self.due = Instant::now();
            self.look.open().await?;
            // Opening it need not mean that anybody answers.
            self.meter.blind(true);
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            while self.next.is_none() {
                tokio::select! {
                    () = tokio::time::sleep_until(self.due) => {}
                    woken = self.look.woken() => {
                        woken?;
                        tokio::time::sleep(BURST).await;
                        while let Some(woken) = tokio::task::unconstrained(self.look.woken()).now_or_never() {
                            woken?;
                        }
                    }
                }
                self.due = Instant::now() + self.look.every();
                let Found { events, memory, again, partial } = self.look.look(self.memory.clone()).await?;
                self.meter.blind(false);
                if !partial {
                    self.meter.seen();
                }
                if let Some(again) = again {
                    self.due = Instant::now() + again;
                }
                if events.is_empty() && L::same(&memory, &self.noted) {
                    self.memory = memory;
                    continue;
                }
                self.next = Some((events.into(), memory));
            }
            self.batch()
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        if let Some((_, memory)) = self.next.take_if(|(events, _)| events.is_empty()) {
            self.noted = memory.clone();
            self.memory = memory;
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.meter.blind(false);
        self.look.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its looks; every third is worth an event, and the fifth fails.
    #[derive(Default)]
    struct Counting {
        looks: u32,
    }

    impl Look for Counting {
        type Memory = u32;

        fn every(&self) -> Duration {
            Duration::from_secs(60)
        }

        fn look(&mut self, memory: u32) -> Borrowed<'_, Result<Found<u32>, SourceError>> {
            Box::pin(async move {
                self.looks += 1;
                if self.looks == 5 {
                    return Err(SourceError::Lost("gone".to_owned()));
                }
                let text = format!("look {}", self.looks);
                let event = Inbound { key: None, at: chrono::Utc::now(), text, fields: Vec::new(), body: Vec::new() };
                let events = if self.looks.is_multiple_of(3) { vec![event] } else { Vec::new() };
                let again = (self.looks == 3).then_some(Duration::from_secs(600));
                let memory = memory + u32::try_from(events.len()).unwrap();
                Ok(Found { memory, events, again, partial: self.looks == 7 })
            })
        }
    }

    fn position(batch: &Batch) -> Option<&str> {
        batch.parts[0].position.as_deref()
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_at_its_time_and_remembers_what_was_settled() {
        let mut polled = Polled::new(Counting::default(), &Arc::default());
        let began = Instant::now();
        polled.open(&Positions::from([(String::new(), "7".to_owned())])).await.unwrap();
        let batch = polled.next().await.unwrap();
        assert_eq!((batch.parts[0].events[0].text.as_str(), position(&batch)), ("look 3", Some("8")));
        assert_eq!(began.elapsed().as_secs(), 120);
        polled.settle(0, &[]).await.unwrap();
        // It asked for ten minutes, and the look after that fails.
        assert!(polled.next().await.is_err());
        assert_eq!(began.elapsed().as_secs(), 120 + 600 + 60);
        let batch = polled.next().await.unwrap();
        assert_eq!((batch.parts[0].events[0].text.as_str(), position(&batch)), ("look 6", Some("9")));
        // Never settled: it is found again.
        polled.open(&Positions::from([(String::new(), "8".to_owned())])).await.unwrap();
        let batch = polled.next().await.unwrap();
        assert_eq!(position(&batch), Some("9"));
    }

    /// Finds as much at once as no batch holds.
    struct Heap;

    impl Look for Heap {
        type Memory = bool;

        fn every(&self) -> Duration {
            Duration::from_secs(60)
        }

        fn look(&mut self, memory: bool) -> Borrowed<'_, Result<Found<bool>, SourceError>> {
            let text = |number: usize| format!("{number} {}", "x".repeat(2 << 20));
            let event = |number| Inbound {
                key: None,
                at: chrono::Utc::now(),
                text: text(number),
                fields: Vec::new(),
                body: Vec::new(),
            };
            let events = if memory { Vec::new() } else { (0..10).map(event).collect() };
            Box::pin(async { Ok(Found { events, memory: true, again: None, partial: false }) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_much_comes_in_several_batches_and_is_remembered_with_the_last() {
        let mut polled = Polled::new(Heap, &Arc::default());
        polled.open(&Positions::new()).await.unwrap();
        let (mut count, mut batches) = (0, 0);
        while count < 10 {
            let batch = polled.next().await.unwrap();
            polled.settle(0, &[]).await.unwrap();
            (count, batches) = (count + batch.count(), batches + 1);
            assert_eq!(position(&batch).is_some(), count == 10, "{count}");
        }
        assert_eq!(batches, 5);
        let more = tokio::time::timeout(Duration::from_secs(3600), polled.next()).await;
        assert!(more.is_err(), "there is nothing more");
    }

    #[tokio::test(start_paused = true)]
    async fn it_counts_as_up_once_it_has_answered_and_not_as_soon_as_it_is_opened() {
        let meter = Arc::<Meter>::default();
        let mut polled = Polled::new(Counting { looks: 3 }, &meter);
        polled.open(&Positions::new()).await.unwrap();
        assert!(meter.is_blind());
        // The fourth look goes well and finds nothing, the fifth fails.
        assert!(polled.next().await.is_err());
        assert!(!meter.is_blind());
        polled.open(&Positions::new()).await.unwrap();
        assert!(meter.is_blind());
        polled.close().await;
        assert!(!meter.is_blind(), "why it was lost is told then");
        // What else is in the way is not taken for that.
        polled.open(&Positions::new()).await.unwrap();
        meter.trouble("503");
        polled.next().await.unwrap();
        assert_eq!(meter.troubled().as_deref(), Some("503"));
    }

    #[tokio::test(start_paused = true)]
    async fn its_lag_is_the_time_since_a_look_that_went_well() {
        let meter = Arc::<Meter>::default();
        // The fourth look finds nothing, the fifth fails, the sixth has an event, the seventh does not see all.
        let mut polled = Polled::new(Counting { looks: 3 }, &meter);
        let lag = || meter.lagging().map(|(lag, _)| lag);
        let wait = Duration::from_secs(20);
        tokio::time::advance(wait).await;
        assert_eq!(lag(), Some(20), "nobody has looked since it was made");
        polled.open(&Positions::new()).await.unwrap();
        assert!(tokio::time::timeout(wait, polled.next()).await.is_err());
        assert_eq!(lag(), Some(20), "the fourth");
        assert!(polled.next().await.is_err());
        assert_eq!(lag(), Some(60), "the fifth");
        polled.close().await;
        polled.open(&Positions::new()).await.unwrap();
        polled.next().await.unwrap();
        assert_eq!(lag(), Some(0), "the sixth");
        // And nobody looks while the journal takes nothing.
        tokio::time::advance(wait).await;
        assert_eq!(lag(), Some(20));
        polled.settle(0, &[]).await.unwrap();
        assert!(tokio::time::timeout(3 * wait, polled.next()).await.is_err());
        assert_eq!(lag(), Some(80), "the seventh");
    }

    #[tokio::test(start_paused = true)]
    async fn a_memory_that_cannot_be_read_begins_anew() {
        let mut polled = Polled::new(Counting::default(), &Arc::default());
        polled.open(&Positions::from([(String::new(), "{".to_owned())])).await.unwrap();
        assert_eq!(position(&polled.next().await.unwrap()), Some("1"));
    }
}
