//! One suite that every source passes. A world is what the source reads: a folder, a broker, a server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{
    Batch, BindOptions, Borrowed, DeliveryOptions, Event, Fate, HandlerError, Kind, Order, Positions, Promise, Source,
    SourceError,
};
use masterchief::{gateway, journal};
use tokio::time::Instant;

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Things happen, in order.
    async fn publish(&mut self, texts: &[String]);
    /// The connection is cut; whoever reads has to connect again.
    async fn cut(&mut self) {}
    /// What a handler hears of a text.
    fn heard_as(&self, text: &str) -> String {
        text.to_owned()
    }
    /// Something that cannot be understood happens; whether there is such a thing here.
    async fn poison(&mut self) -> bool {
        false
    }
    /// Whether it can be started after its source.
    async fn stop(&mut self) -> bool {
        false
    }
    /// Starts it again.
    async fn start(&mut self) {}
}

/// What handlers were given.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    texts: Arc<Mutex<Vec<String>>>,
    /// Whether handlers wait.
    pub(crate) stuck: Arc<AtomicBool>,
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
    let count = Arc::<AtomicU32>::default();
    let wrap = move |inner: Box<dyn Source>| -> Box<dyn Source> {
        Box::new(Faulty { inner, fail, count: Arc::clone(&count) })
    };
    let started = Bot::builder()
        .data(data)
        .journal(journal)
        .sources(world.settings())
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

fn as_heard(world: &impl World, texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| world.heard_as(text)).collect()
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
}

pub(crate) async fn in_order(world: &mut impl World) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    reading(&started).await;
    let texts = numbered("in order", 0..1000);
    for some in texts.chunks(137) {
        world.publish(some).await;
    }
    heard.until(1000).await;
    assert_eq!(heard.all(), as_heard(world, &texts), "each once, in order");
    started.stop("").await;
}

pub(crate) async fn failing(world: &mut impl World, fail: Fail) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, fail, journal::Settings::default()).await;
    reading(&started).await;
    let texts = numbered("failing", 0..60);
    for (count, some) in texts.chunks(10).enumerate() {
        world.publish(some).await;
        if count == 0 {
            // A batch of its own: there is a second one, then, which fails.
            heard.until(10).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    heard.until(texts.len()).await;
    let end = Instant::now() + PATIENCE;
    // After a panic it begins with a status of its own.
    while fail != Fail::Panic && started.sources().iter().any(|row| row.opened < 2) {
        assert!(Instant::now() < end, "{fail:?}: it never failed: {:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(heard.once(), as_heard(world, &texts), "{fail:?}: nothing is lost");
    assert_eq!(heard.all().len(), texts.len(), "{fail:?}: what is written is known when it comes again");
    started.stop("").await;
}

pub(crate) async fn cut_off(world: &mut impl World) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    reading(&started).await;
    let texts = numbered("cut", 0..300);
    for some in texts.chunks(100) {
        world.publish(some).await;
        world.cut().await;
    }
    heard.until(texts.len()).await;
    assert_eq!(heard.once().len(), texts.len());
    started.stop("").await;
}

pub(crate) async fn poisoned(world: &mut impl World) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    reading(&started).await;
    world.publish(&numbered("before", 0..3)).await;
    heard.until(3).await;
    let poisoned = world.poison().await;
    world.publish(&numbered("after", 0..3)).await;
    heard.until(6).await;
    let dead = started.journal().dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), usize::from(poisoned), "{dead:?}");
    if let Some(dead) = dead.first() {
        assert!(dead.raw.as_ref().is_some_and(|raw| !raw.is_empty()) && !dead.reason.is_empty(), "{dead:?}");
    }
    started.stop("").await;
}

/// Letters that cannot be compressed much.
fn noise(seed: &str, length: usize) -> String {
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

pub(crate) async fn full(world: &mut impl World) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let small = journal::Settings { max_bytes: 64 << 10, keep_bytes: 1 << 10, ..journal::Settings::default() };
    let started = bot(world, dir.path(), &heard, Fail::Never, small).await;
    reading(&started).await;
    let texts: Vec<String> =
        numbered("full", 0..400).iter().map(|text| format!("{text} {}", noise(text, 1000))).collect();
    let (first, rest) = texts.split_at(200);
    for some in first.chunks(20) {
        world.publish(some).await;
    }
    // A broker that is slow to begin gives all of it at once; only what comes after that has to wait.
    let end = Instant::now() + PATIENCE;
    while !started.journal().status().await.unwrap().full {
        assert!(Instant::now() < end, "the journal does not fill: {:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for some in rest.chunks(20) {
        world.publish(some).await;
    }
    let end = Instant::now() + PATIENCE;
    while !world.waits(&started) {
        assert!(Instant::now() < end, "the source never had to wait: {:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(heard.all().is_empty());
    let held = started.journal().status().await.unwrap();
    assert!(held.full && held.bytes < 16 << 20, "{held:?}");
    heard.stuck.store(false, Ordering::Relaxed);
    heard.until(texts.len()).await;
    assert_eq!(heard.once(), as_heard(world, &texts), "nothing is lost");
    started.stop("").await;
}

async fn stopped_and_started(world: &mut impl World) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let usual = journal::Settings::default;
    let started = bot(world, dir.path(), &heard, Fail::Never, usual()).await;
    reading(&started).await;
    world.publish(&numbered("first", 0..20)).await;
    heard.until(20).await;
    started.stop("").await;
    world.publish(&numbered("while down", 0..20)).await;
    let started = bot(world, dir.path(), &heard, Fail::Never, usual()).await;
    reading(&started).await;
    world.publish(&numbered("last", 0..20)).await;
    heard.until(60).await;
    let all = [numbered("first", 0..20), numbered("while down", 0..20), numbered("last", 0..20)].concat();
    assert_eq!(heard.all(), as_heard(world, &all), "each once, also what happened while the bot was down");
    started.stop("").await;
}

async fn down_at_first(world: &mut impl World) {
    if !world.stop().await {
        return;
    }
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(started.sources().iter().all(|row| row.state != "reading"), "{:?}", started.sources());
    world.start().await;
    reading(&started).await;
    world.publish(&numbered("late", 0..10)).await;
    heard.until(10).await;
    started.stop("").await;
}

/// A handler that fails for some, and what becomes of them.
pub(crate) async fn some_fail<W: World>(world: &mut W) {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let tries = Arc::<Mutex<Vec<(String, u32)>>>::default();
    let (kind, settings) = (world.kind(), world.settings());
    let handler = {
        let (heard, tries) = (heard.clone(), Arc::clone(&tries));
        move |event: Event| {
            let (heard, tries) = (heard.clone(), Arc::clone(&tries));
            async move {
                let attempt = event.delivery().attempt;
                // `some 00003`, wherever it stands in what this world makes of it.
                let at = event.text().find("some ").unwrap();
                let text = &event.text()[at..at + "some 00000".len()];
                tries.lock().unwrap().push((text.to_owned(), attempt));
                let number: u32 = text["some ".len()..].parse().unwrap();
                match number % 10 {
                    3 => Err(HandlerError::Dead("not for us".to_owned())),
                    5 if attempt < 3 => Err(HandlerError::internal("not yet")),
                    7 => Err(HandlerError::internal("never")),
                    _ => {
                        heard.texts.lock().unwrap().push(event.text().trim_end().to_owned());
                        Ok(())
                    }
                }
            }
        }
    };
    let delivery = DeliveryOptions {
        max_attempts: 4,
        backoff: Duration::from_millis(5),
        order: Order::None,
        ..DeliveryOptions::default()
    };
    let started = Bot::builder()
        .data(dir.path())
        .sources(settings)
        .gateway(world.gateway())
        .bind_with(kind, "-|-", &world.mask(), BindOptions { delivery, ..BindOptions::default() }, handler)
        .unwrap()
        .start()
        .await
        .unwrap();
    world.started(&started);
    reading(&started).await;
    world.publish(&numbered("some", 0..50)).await;
    heard.until(40).await;
    let end = Instant::now() + PATIENCE;
    while started.journal().status().await.unwrap().dead < 10 {
        assert!(Instant::now() < end, "{:?}", started.journal().status().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(heard.all().len(), 40, "each once");
    let tried = |text: &str| tries.lock().unwrap().iter().filter(|(tried, _)| tried == text).count();
    assert_eq!((tried("some 00003"), tried("some 00005"), tried("some 00007")), (1, 3, 4));
    let dead = started.journal().dead_letters(100).await.unwrap();
    assert!(dead.iter().any(|row| row.reason == "not for us" && row.attempts == 1));
    assert!(dead.iter().any(|row| row.reason == "never" && row.attempts == 4));
    started.stop("").await;
}
