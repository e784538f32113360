//! One suite that every source passes. A world is what the source reads: a folder, a broker, a server. What is asked of it
//! stands in `asks.rs`, and of whom what is asked in `worlds.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Batch, Borrowed, Event, Fate, Kind, Positions, Promise, Source, SourceError};
use masterchief::{gateway, journal};
use tokio::time::Instant;

use super::asks::{
    cut_off, down_at_first, failing, full, in_order, poisoned, some_fail, stopped_and_started, two_bots,
};
use super::worlds::Row;

/// How long anything may take; nothing is decided by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a source reads.
#[allow(async_fn_in_trait, reason = "the suite spawns none of them")]
pub(crate) trait World {
    /// The kind of bind.
    fn kind(&self) -> Kind;
    /// The mask that reads all of it.
    fn mask(&self) -> String;
    /// How its sources are configured.
    fn settings(&self) -> masterchief_bindings::Settings {
        masterchief_bindings::Settings::default()
    }
    /// The gateway, where the world posts to it.
    fn gateway(&self) -> gateway::Settings {
        gateway::Settings::default()
    }
    /// A bot has started.
    fn started(&mut self, _: &Started) {}
    /// Whether the world is kept waiting.
    fn waits(&self, started: &Started) -> bool {
        started.sources().iter().any(|row| row.state == "waiting")
    }
    /// What the suite asks of it. What it asks for is written below; nothing is left out without a word in that table.
    fn row(&self) -> Row;
    /// Things happen, in order.
    async fn publish(&mut self, texts: &[String]);
    /// What a handler hears of a text.
    fn heard_as(&self, text: &str) -> String {
        text.to_owned()
    }
    /// The connection is cut; whoever reads has to connect again.
    async fn cut(&mut self) {
        unwritten("cut");
    }
    /// Something that cannot be understood happens; what is heard of it, where that is an event.
    async fn poison(&mut self) -> Option<String> {
        unwritten("poison")
    }
    /// It is away.
    async fn stop(&mut self) {
        unwritten("stop");
    }
    /// Starts it again.
    async fn start(&mut self) {
        unwritten("start");
    }
    /// How a second bot is configured, which shares with the first.
    fn second(&self) -> masterchief_bindings::Settings {
        unwritten("second")
    }
    /// Whether only one of two bots has it at a time.
    fn has_one_reader(&self) -> bool {
        false
    }
    /// A bot has died long ago: what it was given is nobody's.
    async fn long_ago(&mut self) {}
}

fn unwritten(what: &str) -> ! {
    panic!("worlds.rs says that `{what}` has a meaning here, and nobody wrote it");
}

/// What handlers were given.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) texts: Arc<Mutex<Vec<String>>>,
    /// Whether handlers wait.
    pub(crate) stuck: Arc<AtomicBool>,
    /// Whether its sources are dead: what they read goes with them.
    pub(crate) dead: Arc<AtomicBool>,
    /// Whether something did.
    pub(crate) swallowed: Arc<AtomicBool>,
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<String> {
        self.texts.lock().unwrap().clone()
    }

    /// Each once, in the order in which they were heard first.
    pub(crate) fn once(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for text in self.all() {
            if seen.insert(text.clone()) {
                out.push(text);
            }
        }
        out
    }

    pub(crate) async fn until(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.once().len() < count {
            assert!(Instant::now() < end, "heard {} of {count}: {:?}", self.once().len(), self.once().last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn handler(
        &self,
    ) -> impl Fn(Event) -> masterchief::contract::Future<()> + Send + Sync + 'static + use<> {
        let heard = self.clone();
        move |event: Event| {
            let heard = heard.clone();
            Box::pin(async move {
                while heard.stuck.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                heard.texts.lock().unwrap().push(event.text().trim_end().to_owned());
            })
        }
    }
}

/// Where a source is made to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fail {
    Never,
    /// What was read is thrown away, as if the process had died before it was written.
    BeforeAppend,
    /// What is written is not acknowledged, as if the process had died before it could be.
    BeforeSettle,
    /// It panics, once.
    Panic,
    /// It never fails, but what is written is acknowledged late.
    Slow,
}

/// How late that is.
const LATE: Duration = Duration::from_millis(150);

/// A source with faults, at the second, the fifth and the eighth batch: the waits between grow.
struct Faulty {
    inner: Box<dyn Source>,
    fail: Fail,
    count: Arc<AtomicU32>,
    heard: Heard,
}

impl Faulty {
    fn is_due(&self) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        count % 3 == 1 && count < 9
    }
}

fn died() -> SourceError {
    SourceError::Lost("the test lets it fail here".to_owned())
}

impl Source for Faulty {
    fn promise(&self) -> Promise {
        self.inner.promise()
    }

    fn blocking(&self) -> bool {
        self.inner.blocking()
    }

    fn reads_ahead(&self) -> bool {
        self.inner.reads_ahead()
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        self.inner.open(positions)
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async {
            let batch = self.inner.next().await?;
            if batch.count() > 0 && self.heard.dead.load(Ordering::Relaxed) {
                self.heard.swallowed.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            assert!(
                self.fail != Fail::Panic || self.count.fetch_add(1, Ordering::Relaxed) != 1,
                "the test lets it fall over here"
            );
            if self.fail == Fail::BeforeAppend && self.is_due() { Err(died()) } else { Ok(batch) }
        })
    }

    fn settle<'a>(&'a mut self, receipt: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        if self.fail == Fail::BeforeSettle && self.is_due() {
            return Box::pin(async { Err(died()) });
        }
        if self.fail == Fail::Slow {
            return Box::pin(async move {
                tokio::time::sleep(LATE).await;
                self.inner.settle(receipt, fates).await
            });
        }
        self.inner.settle(receipt, fates)
    }

    fn idle<'a>(&'a mut self, waiting: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        self.inner.idle(waiting)
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.inner.close()
    }
}

/// A bot that hears a world.
pub(crate) async fn bot(
    world: &mut impl World,
    data: &Path,
    heard: &Heard,
    fail: Fail,
    journal: journal::Settings,
) -> Started {
    let settings = world.settings();
    bot_with(world, settings, data, heard, (fail, journal)).await
}

pub(crate) async fn bot_with(
    world: &mut impl World,
    settings: masterchief_bindings::Settings,
    data: &Path,
    heard: &Heard,
    (fail, journal): (Fail, journal::Settings),
) -> Started {
    let (count, told) = (Arc::<AtomicU32>::default(), heard.clone());
    let wrap = move |inner: Box<dyn Source>| -> Box<dyn Source> {
        Box::new(Faulty { inner, fail, count: Arc::clone(&count), heard: told.clone() })
    };
    let started = Bot::builder()
        .data(data)
        .journal(journal)
        .sources(settings)
        .gateway(world.gateway())
        .wrap_sources(Arc::new(wrap))
        .bind(world.kind(), "-|-", &world.mask(), heard.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    world.started(&started);
    started
}

/// Waits until a source is at work.
pub(crate) async fn reading(started: &Started) {
    let end = Instant::now() + PATIENCE;
    while !started.sources().iter().all(|row| row.state == "reading") {
        assert!(Instant::now() < end, "{:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn numbered(what: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{what} {number:05}")).collect()
}

/// Letters that cannot be compressed much.
pub(crate) fn noise(seed: &str, length: usize) -> String {
    let mut dice = seed
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mut letter = || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        char::from(b'!' + (dice % 90) as u8)
    };
    (0..length).map(|_| letter()).collect()
}

/// The whole suite, with all rows at once: for worlds that share nothing they cut or stop.
pub(crate) async fn passes_at_once<W: World>(mut make: impl AsyncFnMut() -> W) {
    let [mut one, mut two, mut three, mut four] = [make().await, make().await, make().await, make().await];
    let [mut five, mut six, mut seven, mut eight] = [make().await, make().await, make().await, make().await];
    tokio::join!(
        Box::pin(in_order(&mut one)),
        Box::pin(failing(&mut two, Fail::BeforeAppend)),
        Box::pin(failing(&mut three, Fail::BeforeSettle)),
        Box::pin(cut_off(&mut four)),
        Box::pin(poisoned(&mut five)),
        Box::pin(full(&mut six)),
        Box::pin(stopped_and_started(&mut seven)),
        Box::pin(down_at_first(&mut eight)),
    );
    two_bots(&mut make().await).await;
    some_fail(&mut make().await).await;
}

/// The whole suite, for a world with one lane. `make` makes a new world each time.
pub(crate) async fn passes<W: World>(mut make: impl AsyncFnMut() -> W) {
    in_order(&mut make().await).await;
    failing(&mut make().await, Fail::BeforeAppend).await;
    failing(&mut make().await, Fail::BeforeSettle).await;
    cut_off(&mut make().await).await;
    poisoned(&mut make().await).await;
    full(&mut make().await).await;
    stopped_and_started(&mut make().await).await;
    down_at_first(&mut make().await).await;
    two_bots(&mut make().await).await;
    some_fail(&mut make().await).await;
}
