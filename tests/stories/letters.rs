//! What becomes of events whose handlers fail, hold or die; and what operators say about them on IRC.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use masterchief::bot::{Bot, Builder, CHANNEL, Started, TestBot};
use masterchief::contract::{
    Batch, BindOptions, DeliveryOptions, Event, Future, HandlerError, Inbound, Kind, OnCrash, Order, Part,
};
use masterchief::journal::{self, Fixture};

use super::resident::resident;

pub(crate) const HOOK: &str = "github/*";

fn event(number: usize, lane: &str) -> Batch {
    let fields = vec![("provider", "github".into()), ("event", "push".into())];
    let inbound = Inbound { key: None, at: Utc::now(), text: format!("{lane} {number}"), fields, body: Vec::new() };
    Batch::one(Arc::from(lane), inbound, 0)
}

pub(crate) async fn happen(started: &Started, numbers: std::ops::Range<usize>, lane: &str) {
    for number in numbers {
        started.journal().append(Kind::Webhook, &Arc::from("webhook"), event(number, lane)).await.unwrap();
    }
}

pub(crate) fn with(delivery: DeliveryOptions) -> BindOptions {
    BindOptions { delivery, ..BindOptions::default() }
}

pub(crate) fn quick() -> DeliveryOptions {
    DeliveryOptions { backoff: Duration::from_millis(5), ..DeliveryOptions::default() }
}

#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, count: usize) {
        for _ in 0..3000 {
            if self.all().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("seen {:?}, and {count} were to come", self.all());
    }
}

pub(crate) async fn start(dir: &tempfile::TempDir, binds: impl FnOnce(Builder) -> Builder) -> Started {
    binds(Bot::builder().data(dir.path())).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_holds_up_its_own_lane_and_no_other() {
    let (dir, seen, failures) = (tempfile::tempdir().unwrap(), Seen::default(), Arc::new(AtomicU32::new(0)));
    let handler = {
        let (seen, failures) = (seen.clone(), Arc::clone(&failures));
        move |event: Event| {
            let (seen, failures) = (seen.clone(), Arc::clone(&failures));
            async move {
                if event.text() == "a 3" && failures.fetch_add(1, Ordering::Relaxed) < 3 {
                    return Err(HandlerError::Retry {
                        after: Some(Duration::from_millis(60)),
                        reason: "not yet".to_owned(),
                    });
                }
                seen.0.lock().unwrap().push(event.text().to_owned());
                Ok(())
            }
        }
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(quick()), handler).unwrap()).await;
    happen(&started, 0..6, "a").await;
    happen(&started, 0..6, "b").await;
    seen.until(12).await;
    let of = |lane: &str| seen.all().into_iter().filter(|text| text.starts_with(lane)).collect::<Vec<_>>();
    assert_eq!(of("a"), (0..6).map(|number| format!("a {number}")).collect::<Vec<_>>(), "in order");
    assert_eq!(of("b").len(), 6);
    let all = seen.all();
    let place = |text: &str| all.iter().position(|seen| seen == text).unwrap();
    assert!(place("b 5") < place("a 3"), "the other lane did not wait: {all:?}");
    assert_eq!(started.journal().status().await.unwrap().waiting, 0);
    started.stop("").await;
}

/// Leaves a journal as a process that died during a call would: claimed, and not done.
async fn died_during(dir: &tempfile::TempDir, numbers: std::ops::Range<usize>, options: DeliveryOptions) {
    let stuck = |_: Event| -> Future<()> { Box::pin(std::future::pending()) };
    let started = start(dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(options), stuck).unwrap()).await;
    happen(&started, numbers, "a").await;
    for _ in 0..500 {
        if started.journal().states("webhook", 1).await.unwrap().iter().any(|(_, state)| state == "being handled") {
            // Its grace is over before the call is; that is as if it had died.
            started.stop("").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it was never begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_running_when_the_process_died_is_tried_again_and_told_so() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), Seen::default());
    died_during(&dir, 0..1, quick()).await;
    let handler = {
        let seen = seen.clone();
        move |event: Event| {
            let delivery = event.delivery();
            seen.0.lock().unwrap().push(format!(
                "{} try {} redelivered {}",
                event.text(),
                delivery.attempt,
                delivery.redelivered
            ));
            async {}
        }
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(quick()), handler).unwrap()).await;
    seen.until(1).await;
    assert_eq!(seen.all(), ["a 0 try 2 redelivered true"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_done_twice_is_held_until_an_operator_decides() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), Seen::default());
    let careful = DeliveryOptions { on_crash: OnCrash::Hold, ..quick() };
    died_during(&dir, 0..1, careful.clone()).await;
    let handler = {
        let seen = seen.clone();
        move |event: Event| {
            seen.0.lock().unwrap().push(event.text().to_owned());
            async {}
        }
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(careful), handler).unwrap()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(seen.all().is_empty());
    let held = started.journal().dead_letters(10).await.unwrap();
    assert_eq!((held.len(), held[0].state), (1, journal::DeadState::Held));
    assert!(started.journal().retry(held.into_iter().next().unwrap()).await.unwrap());
    seen.until(1).await;
    started.stop("").await;
}

/// What a handler hears of twenty events of one lane after a process died during the first, and how many letters there are.
async fn heard_after_dying(options: DeliveryOptions) -> (Vec<String>, Vec<journal::DeadRow>) {
    let (dir, seen) = (tempfile::tempdir().unwrap(), Seen::default());
    died_during(&dir, 0..20, options.clone()).await;
    let handler = {
        let seen = seen.clone();
        move |event: Event| {
            seen.0.lock().unwrap().push(event.text().to_owned());
            async {}
        }
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(options), handler).unwrap()).await;
    let held = started.journal().dead_letters(30).await.unwrap();
    for row in &held {
        if row.state == journal::DeadState::Held {
            assert!(started.journal().discard(row.clone()).await.unwrap());
        }
    }
    seen.until(19).await;
    started.stop("").await;
    (seen.all(), held)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_not_begun_when_the_process_died_is_neither_held_nor_dead() {
    let rest: Vec<String> = (1..20).map(|number| format!("a {number}")).collect();
    let (heard, letters) = heard_after_dying(DeliveryOptions { on_crash: OnCrash::Hold, ..quick() }).await;
    assert_eq!((heard, letters.len(), letters[0].state), (rest.clone(), 1, journal::DeadState::Held));
    let (heard, letters) = heard_after_dying(DeliveryOptions { max_attempts: 1, ..quick() }).await;
    assert_eq!((heard, letters.len(), letters[0].state), (rest, 1, journal::DeadState::Dead));
}

#[tokio::test(flavor = "multi_thread")]
async fn github_sends_a_dead_one_again_and_it_is_tried_again() {
    let (dir, seen, broken) = (tempfile::tempdir().unwrap(), Seen::default(), Arc::new(AtomicU32::new(1)));
    let handler = {
        let (seen, broken) = (seen.clone(), Arc::clone(&broken));
        move |event: Event| {
            let (seen, broken) = (seen.clone(), Arc::clone(&broken));
            async move {
                seen.0.lock().unwrap().push(event.text().to_owned());
                match broken.load(Ordering::Relaxed) {
                    0 => Ok(()),
                    _ => Err(HandlerError::Dead("the till is on fire".to_owned())),
                }
            }
        }
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(quick()), handler).unwrap()).await;
    let delivered = |revives: bool| {
        let mut batch = event(7, "a");
        batch.parts[0].events[0].key = Some("delivery 1".into());
        batch.revives = revives;
        batch
    };
    let stream = Arc::from("webhook");
    started.journal().append(Kind::Webhook, &stream, delivered(true)).await.unwrap();
    for _ in 0..500 {
        if started.journal().status().await.unwrap().dead == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(started.journal().dead_letters(9).await.unwrap().len(), 1);
    broken.store(0, Ordering::Relaxed);
    // A source that reads it once more by itself wakes no dead.
    started.journal().append(Kind::Webhook, &stream, delivered(false)).await.unwrap();
    assert_eq!(started.journal().dead_letters(9).await.unwrap().len(), 1);
    started.journal().append(Kind::Webhook, &stream, delivered(true)).await.unwrap();
    seen.until(2).await;
    assert!(started.journal().dead_letters(9).await.unwrap().is_empty());
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_given_up_and_tried_again() {
    let (dir, tries) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU32::new(0)));
    let handler = {
        let tries = Arc::clone(&tries);
        move |_: Event| -> Future<()> {
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                Box::pin(std::future::pending())
            } else {
                Box::pin(async {})
            }
        }
    };
    let options = BindOptions {
        timeout: Some(Duration::from_millis(50)),
        ..with(DeliveryOptions { order: Order::None, ..quick() })
    };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await;
    happen(&started, 0..1, "a").await;
    for _ in 0..500 {
        if tries.load(Ordering::Relaxed) == 2 {
            started.stop("").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it was not tried again");
}

#[tokio::test(start_paused = true)]
async fn masters_see_dead_letters_and_replay_on_irc_and_a_replay_says_nothing_by_accident() {
    let scripts = tempfile::tempdir().unwrap();
    let lua = r##"
        local broken = true
        bot.bind("webhook", "-|-", "github/push", function(ev)
          if broken then broken = false; bot.dead("the till is on fire") end
          if not ev.dry then kv.incr("handled") end
          return "handled " .. ev.text
        end, { to = "#ops" })"##;
    std::fs::write(scripts.path().join("till.lua"), lua).unwrap();
    let notify = journal::Settings { notify: Some("#ops".to_owned()), ..journal::Settings::default() };
    let test = TestBot::start(Bot::builder().scripts(scripts.path()).journal(notify)).await.unwrap();
    let alice = test.user("alice").with_flags("m");
    let fixture = Fixture {
        kind: "webhook".to_owned(),
        lane: "github".to_owned(),
        key: None,
        at: None,
        text: "a push".to_owned(),
        fields: [("provider".to_owned(), "github".into()), ("event".to_owned(), "push".into())].into_iter().collect(),
        body: None,
        body_base64: None,
    };
    test.started().happens(fixture).await.unwrap();
    test.expect(CHANNEL, "dead letter: event 1").await;
    alice.says(CHANNEL, ".dlq").await;
    test.expect(CHANNEL, "the till is on fire").await;
    alice.says(CHANNEL, "!replay 1").await;
    test.expect(CHANNEL, "dry: nothing is done").await;
    test.expect(CHANNEL, "say to #ops: handled a push").await;
    alice.says(CHANNEL, "!replay 1 --run").await;
    test.expect(CHANNEL, "what it would say goes to the log").await;
    test.advance(Duration::from_secs(2)).await;
    alice.says(CHANNEL, "!replay 1 --run --speak").await;
    test.expect(CHANNEL, "handled a push").await;
    alice.says(CHANNEL, ".dlq retry 1").await;
    test.expect(CHANNEL, "1 is tried again").await;
    test.expect(CHANNEL, "handled a push").await;
    alice.says(CHANNEL, ".dlq").await;
    test.expect(CHANNEL, "no dead letters").await;
    let mallory = test.user("mallory");
    mallory.says(CHANNEL, ".dlq drop 1").await;
    test.expect("mallory", "needs the flags").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_died_stays_a_replay_and_says_nothing_when_it_is_tried_again() {
    let scripts = tempfile::tempdir().unwrap();
    let lua = r##"
        local broken = true
        bot.bind("webhook", "-|-", "github/*", function(ev)
          if broken then bot.dead("the till is on fire") end
          kv.incr("handled")
          return "handled " .. ev.text
        end, { to = "#ops" })
        bot.bind("pub", "-|-", "!fix", function() broken = false return "fixed" end)
        bot.bind("pub", "-|-", "!count", function() return "handled: " .. (kv.get("handled") or 0) end)"##;
    std::fs::write(scripts.path().join("till.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(scripts.path())).await.unwrap();
    let alice = test.user("alice").with_flags("m");
    test.started().journal().append(Kind::Webhook, &Arc::from("webhook"), event(1, "push")).await.unwrap();
    let until = async |what: &str, is_it: fn(journal::JournalStatus) -> bool| {
        for _ in 0..1000 {
            if is_it(test.started().journal().status().await.unwrap()) {
                return;
            }
            test.advance(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", test.started().journal().status().await);
    };
    until("a dead letter", |status| status.dead == 1).await;
    alice.says(CHANNEL, "!replay 1 --run").await;
    until("another", |status| status.dead == 2).await;
    alice.says(CHANNEL, "!fix").await;
    test.expect(CHANNEL, "fixed").await;
    alice.says(CHANNEL, ".dlq retry 2").await;
    test.expect(CHANNEL, "2 is tried again").await;
    until("the next try", |status| status.waiting == 0).await;
    test.advance(Duration::from_secs(2)).await;
    alice.says(CHANNEL, "!count").await;
    test.expect(CHANNEL, "handled: 1").await;
    assert!(!test.transcript().iter().any(|line| line.contains("handled push")), "{:?}", test.transcript());
    alice.says(CHANNEL, ".dlq retry 1").await;
    test.expect(CHANNEL, "handled push 1").await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_behind_a_stuck_handler_stay_on_disk() {
    const COUNT: usize = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let stuck = |_: Event| -> Future<()> { Box::pin(std::future::pending()) };
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, with(quick()), stuck).unwrap()).await;
    let before = resident();
    for chunk in 0..COUNT / 1000 {
        let events = (0..1000).map(|number| Inbound {
            key: None,
            at: Utc::now(),
            text: format!("event {}", chunk * 1000 + number),
            fields: vec![("provider", "github".into()), ("event", "push".into())],
            body: Vec::new(),
        });
        let part = Part { lane: Arc::from("a"), shared: None, events: events.collect(), position: None };
        let batch = Batch { parts: vec![part], ..Batch::default() };
        started.journal().append(Kind::Webhook, &Arc::from("webhook"), batch).await.unwrap();
    }
    let grown = resident().saturating_sub(before) / 1024;
    let streams = started.journal().streams().await.unwrap();
    assert_eq!(streams.iter().map(|stream| stream.events).sum::<u64>(), COUNT as u64);
    assert!(grown < 400, "{grown} MiB for a million events that wait");
    started.stop("").await;
}
