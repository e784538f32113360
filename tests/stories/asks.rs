//! What the suite asks of every world, a function a row. Whether a row has a meaning in a world is said in `worlds.rs`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{BindOptions, DeliveryOptions, Event, HandlerError, Kind, Order};
use masterchief::journal;
use tokio::time::Instant;

use super::conformance::{Fail, Heard, PATIENCE, World, bot, bot_with, noise, numbered, reading};
use super::worlds::{Cell, Nonsense};

fn as_heard(world: &impl World, texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| world.heard_as(text)).collect()
}

/// What was heard, in the order that is promised. Series have none: who is asked for all of them may know those first that were written
/// last.
fn in_its_order(world: &impl World, heard: Vec<String>) -> Vec<String> {
    let mut heard = heard;
    if world.kind() == Kind::Metric {
        heard.sort();
    }
    heard
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
    assert_eq!(in_its_order(world, heard.all()), as_heard(world, &texts), "each once, in order");
    started.stop("").await;
}

pub(crate) async fn failing(world: &mut impl World, fail: Fail) {
    let asked = if fail == Fail::BeforeSettle { world.row().settle } else { world.row().append };
    if asked != Cell::Yes {
        return;
    }
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
    assert_eq!(in_its_order(world, heard.once()), as_heard(world, &texts), "{fail:?}: nothing is lost");
    assert_eq!(heard.all().len(), texts.len(), "{fail:?}: what is written is known when it comes again");
    started.stop("").await;
}

/// Waits until a source was opened again.
async fn opened_again(started: &Started, times: u64) {
    let end = Instant::now() + PATIENCE;
    while !started.sources().iter().all(|row| row.opened > times && row.state == "reading") {
        assert!(Instant::now() < end, "{:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn cut_off(world: &mut impl World) {
    let asked = world.row().cut;
    if matches!(asked, Cell::No(_)) {
        return;
    }
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    reading(&started).await;
    let texts = numbered("cut", 0..300);
    for (times, some) in texts.chunks(100).enumerate() {
        world.publish(some).await;
        if asked == Cell::Gap {
            // What was said before is heard; what is said meanwhile is not.
            heard.until(100 * (times + 1)).await;
        }
        world.cut().await;
        if asked == Cell::Gap {
            opened_again(&started, times as u64 + 1).await;
        }
    }
    heard.until(texts.len()).await;
    assert_eq!(heard.once().len(), texts.len());
    started.stop("").await;
}

pub(crate) async fn poisoned(world: &mut impl World) {
    let asked = world.row().nonsense;
    if matches!(asked, Nonsense::No(_)) {
        return;
    }
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(world, dir.path(), &heard, Fail::Never, journal::Settings::default()).await;
    reading(&started).await;
    world.publish(&numbered("before", 0..3)).await;
    heard.until(3).await;
    let said = world.poison().await;
    assert_eq!(said.is_some(), asked == Nonsense::Event);
    world.publish(&numbered("after", 0..3)).await;
    heard.until(6 + usize::from(said.is_some())).await;
    let all = heard.all();
    assert!(said.iter().all(|said| all.contains(said)), "{said:?} in {all:?}");
    let dead = started.journal().dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), usize::from(asked == Nonsense::Letter), "{dead:?}");
    if let Some(dead) = dead.first() {
        assert!(dead.raw.as_ref().is_some_and(|raw| !raw.is_empty()) && !dead.reason.is_empty(), "{dead:?}");
    }
    started.stop("").await;
}

pub(crate) async fn full(world: &mut impl World) {
    if world.row().full != Cell::Yes {
        return;
    }
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let small = journal::Settings {
        max_bytes: 64 << 10,
        stream_bytes: Some(64 << 10),
        keep_bytes: 1 << 10,
        ..journal::Settings::default()
    };
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
    // What waited in several lanes is handled side by side.
    let (mut once, mut wanted) = (heard.once(), as_heard(world, &texts));
    once.sort();
    wanted.sort();
    assert_eq!(once, wanted, "nothing is lost");
    started.stop("").await;
}

pub(crate) async fn stopped_and_started(world: &mut impl World) {
    let asked = world.row().restart;
    if matches!(asked, Cell::No(_)) {
        return;
    }
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let usual = journal::Settings::default;
    let started = bot(world, dir.path(), &heard, Fail::Never, usual()).await;
    reading(&started).await;
    world.publish(&numbered("first", 0..20)).await;
    heard.until(20).await;
    started.stop("").await;
    let mut all = numbered("first", 0..20);
    if asked == Cell::Yes {
        world.publish(&numbered("while down", 0..20)).await;
        all.extend(numbered("while down", 0..20));
    }
    let started = bot(world, dir.path(), &heard, Fail::Never, usual()).await;
    reading(&started).await;
    world.publish(&numbered("last", 0..20)).await;
    all.extend(numbered("last", 0..20));
    heard.until(all.len()).await;
    assert_eq!(heard.all(), as_heard(world, &all), "each once, also what happened while the bot was down");
    started.stop("").await;
}

pub(crate) async fn down_at_first(world: &mut impl World) {
    if world.row().down != Cell::Yes {
        return;
    }
    world.stop().await;
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

/// What two bots heard together of what was sent.
struct Pair {
    heard: [Heard; 2],
    sent: usize,
}

impl Pair {
    async fn some(&mut self, world: &mut impl World) {
        let texts = numbered("shared", self.sent..self.sent + 10);
        self.sent += texts.len();
        world.publish(&texts).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    /// Waits until each thing was heard by one of them.
    async fn until_all(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.heard.each_ref().map(Heard::all).concat();
            let once: std::collections::BTreeSet<&String> = all.iter().collect();
            if once.len() == self.sent {
                return;
            }
            assert!(Instant::now() < end, "heard {} of {}", once.len(), self.sent);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Two bots share what there is. One dies with something that it was given and never wrote down: the other hears that.
pub(crate) async fn two_bots(world: &mut impl World) {
    if world.row().two != Cell::Yes {
        return;
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut pair = Pair { heard: Default::default(), sent: 0 };
    let mut bots = Vec::new();
    for (at, settings) in [world.settings(), world.second()].into_iter().enumerate() {
        let usual = (Fail::Never, journal::Settings::default());
        let started = bot_with(world, settings, dirs[at].path(), &pair.heard[at], usual).await;
        reading(&started).await;
        bots.push(started);
    }
    let end = Instant::now() + PATIENCE;
    let count = |pair: &Pair| pair.heard.each_ref().map(|heard| heard.all().len());
    let enough = if world.has_one_reader() { 1 } else { 2 };
    while count(&pair).iter().filter(|count| **count > 0).count() < enough {
        assert!(Instant::now() < end, "one of them is given nothing: {:?}", count(&pair));
        pair.some(world).await;
    }
    pair.until_all().await;
    let [one, two] = count(&pair);
    let dies = usize::from(two > one);
    let heard = pair.heard[dies].clone();
    heard.dead.store(true, Ordering::Relaxed);
    while !heard.swallowed.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "it is given nothing more");
        pair.some(world).await;
    }
    bots.remove(dies).stop("").await;
    world.long_ago().await;
    pair.some(world).await;
    pair.until_all().await;
    bots.remove(0).stop("").await;
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
