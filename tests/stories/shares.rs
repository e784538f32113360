//! A handler that is stuck fills the share of its own stream in the journal: what else is read goes on, and people are told.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::Utc;
use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Batch, Clock, Inbound, Kind, Part};
use masterchief::journal::{Advance, Cursor};
use masterchief::{gateway, journal};

use super::conformance::{Heard, noise, numbered, reading};
use super::runs::masterchief;
use super::steps::eventually;
use super::webhooks::client;

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_stuck_handler_one_source_waits_and_the_others_go_on() {
    let (dir, stuck, heard) = (tempfile::tempdir().unwrap(), Heard::default(), Heard::default());
    stuck.stuck.store(true, Ordering::Relaxed);
    let small = journal::Settings { max_bytes: 2 << 20, keep_bytes: 1 << 10, ..journal::Settings::default() };
    let gateway = gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..gateway::Settings::default() };
    let mut logs = ["stuck.log", "fine.log"].map(|name| {
        let path = dir.path().join(name);
        (path.display().to_string(), OpenOptions::new().create(true).append(true).open(path).unwrap())
    });
    let bot = Bot::builder().data(&dir.path().join("data")).journal(small).gateway(gateway);
    let bot = bot.bind(Kind::Log, "-|-", &logs[0].0, stuck.handler()).unwrap();
    let started = bot.bind(Kind::Log, "-|-", &logs[1].0, heard.handler()).unwrap().start().await.unwrap();
    reading(&started).await;
    let texts: Vec<String> =
        numbered("stuck", 0..2000).iter().map(|text| format!("{text} {}", noise(text, 1000))).collect();
    logs[0].1.write_all((texts.join("\n") + "\n").as_bytes()).unwrap();
    let state = |name: &str| started.sources().into_iter().find(|row| row.stream.ends_with(name)).unwrap().state;
    eventually("that one waits", async || state("stuck.log") == "waiting").await;
    for some in numbered("fine", 0..300).chunks(100) {
        logs[1].1.write_all((some.join("\n") + "\n").as_bytes()).unwrap();
        let count = heard.all().len() + 100;
        heard.until(count).await;
    }
    assert_eq!((heard.all(), stuck.all().len()), (numbered("fine", 0..300), 0));
    assert!(!started.journal().status().await.unwrap().full, "there is room for others");
    let url = format!("http://{}/metrics", started.gateway_at().unwrap());
    let told = client().get(url).send().await.unwrap().text().await.unwrap();
    let full = |name: &str, is: u8| {
        let mut lines = told.lines().filter(|line| line.starts_with("masterchief_journal_stream_full{"));
        lines.any(|line| line.contains(name) && line.ends_with(&format!("}} {is}")))
    };
    assert!(full("stuck.log", 1) && full("fine.log", 0) && told.contains("masterchief_journal_full 0"), "{told}");
    let shown = || masterchief(dir.path(), &["sources"]).1;
    eventually("that it is shown", async || shown().contains("stuck.log has its share of the journal")).await;
    stuck.stuck.store(false, Ordering::Relaxed);
    stuck.until(texts.len()).await;
    assert_eq!(stuck.all(), texts, "nothing is lost, and the order is kept");
    eventually("that it waits no more", async || state("stuck.log") == "reading").await;
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn whose_events_have_the_share_of_a_stream_is_told_in_the_channel_once() {
    let heard = Heard::default();
    heard.stuck.store(true, Ordering::Relaxed);
    let notify = Some("#ops".to_owned());
    let small = journal::Settings { max_bytes: 128 << 10, keep_bytes: 1 << 10, notify, ..journal::Settings::default() };
    let bot = Bot::builder().journal(small).bind(Kind::Webhook, "-|-", "github/*", heard.handler()).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    for number in 0..90 {
        let fields = vec![("provider", "github".into()), ("event", "push".into())];
        let text = noise(&number.to_string(), 1000);
        let event = Inbound { key: None, at: Utc::now(), text, fields, body: Vec::new() };
        let batch = Batch::one(Arc::from("github"), event, 0);
        test.started().journal().append(Kind::Webhook, &Arc::from("webhook"), batch).await.unwrap();
    }
    let line = test.expect(CHANNEL, "webhook has its share of the journal").await;
    assert!(line.contains("webhook github/*") && line.contains("behind") && line.contains("others go on"), "{line}");
    test.advance(std::time::Duration::from_secs(20)).await;
    let told = test.transcript().into_iter().filter(|line| line.contains("its share of the journal")).count();
    assert_eq!(told, 1, "once");
    heard.stuck.store(false, Ordering::Relaxed);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bind_that_is_gone_for_good_leaves_dead_letters_and_that_is_told_in_the_channel() {
    let (heard, gone) = (Heard::default(), Heard::default());
    let remember_binds = std::time::Duration::from_secs(2 * 3600);
    let settings =
        journal::Settings { notify: Some("#ops".to_owned()), remember_binds, ..journal::Settings::default() };
    let bot = Bot::builder().journal(settings).bind(Kind::Webhook, "-|-", "gitlab/*", heard.handler()).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let (started, stream, bind) = (test.started(), Arc::from("webhook"), Arc::from("webhook github/* shop.lua"));
    started.journal().cursor(Kind::Webhook, &stream, &bind).await.unwrap();
    started.journal().release(&bind).await.unwrap();
    for from in ["github", "gitlab", "github"] {
        let fields = vec![("provider", from.into()), ("event", "push".into())];
        let event = Inbound { key: None, at: Utc::now(), text: "a push".to_owned(), fields, body: Vec::new() };
        started.journal().append(Kind::Webhook, &stream, Batch::one(Arc::from("a"), event, 0)).await.unwrap();
    }
    heard.until(1).await;
    test.advance(remember_binds + std::time::Duration::from_secs(60)).await;
    let line = test.expect(CHANNEL, "webhook github/* shop.lua is gone for good").await;
    assert!(line.contains("2 events that it had not done are dead letters"), "{line}");
    assert_eq!((started.journal().status().await.unwrap().dead, gone.all().len()), (2, 0));
    drop(gone);
    test.stop().await;
}

/// A handler is stuck and the journal full; the bot is stopped, and begins hours later with scripts that take their time.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_was_away_with_a_full_journal_handles_all_that_waited_when_it_is_back() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let (data, scripts, log) = (dir.path().join("data"), dir.path().join("scripts"), dir.path().join("app.log"));
    let small = journal::Settings { max_bytes: 1 << 20, keep_bytes: 1 << 10, ..journal::Settings::default() };
    let clock = Clock::by_hand(Utc::now());
    std::fs::write(&log, "").unwrap();
    std::fs::create_dir(&scripts).unwrap();
    let start = async || {
        let bot = Bot::builder().data(&data).journal(small.clone()).clock(clock.clone()).scripts(&scripts);
        let rules = masterchief::bot::Rules { grace: std::time::Duration::ZERO, ..masterchief::bot::Rules::default() };
        let bot = bot.rules(rules).bind(Kind::Log, "-|-", &log.display().to_string(), heard.handler()).unwrap();
        bot.start().await.unwrap()
    };
    let started = start().await;
    reading(&started).await;
    let texts: Vec<String> =
        numbered("wait", 0..1500).iter().map(|text| format!("{text} {}", noise(text, 1000))).collect();
    std::fs::write(&log, texts.join("\n") + "\n").unwrap();
    eventually("that its source waits", async || started.sources().iter().any(|row| row.state == "waiting")).await;
    started.stop("").await;
    clock.put_on(std::time::Duration::from_secs(3 * 3600));
    heard.stuck.store(false, Ordering::Relaxed);
    // It loads for longer than a full journal waits to let go of what it can.
    for name in ["one.lua", "two.lua", "three.lua"] {
        std::fs::write(scripts.join(name), "local till = os.clock() + 0.3 while os.clock() < till do end").unwrap();
    }
    let started = start().await;
    heard.until(texts.len()).await;
    let mut all = heard.all();
    all.sort();
    all.dedup();
    assert_eq!(all, texts, "each at least once");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_the_process_died_is_much_and_the_bind_does_not_stand_still() {
    const ROUND: u64 = 8192;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let (stream, bind) = (Arc::from("webhook"), Arc::from("webhook github/* rust"));
    let specs = masterchief_bindings::webhook::KINDS.iter();
    let path = dir.path().join("journal.db");
    let journal = journal::open(Some(&path), journal::Settings::default(), specs, Clock::system()).unwrap();
    let (cursor, _) = journal.cursor(Kind::Webhook, &stream, &bind).await.unwrap();
    let part = |number: u64| {
        let fields = vec![("provider", "github".into()), ("event", "push".into())];
        let event = Inbound { key: None, at: Utc::now(), text: number.to_string(), fields, body: Vec::new() };
        let lane = Arc::from(format!("lane {}", number % 512));
        Part { lane, shared: None, events: vec![event], position: None }
    };
    let parts = (0..ROUND).map(part).collect();
    journal.append(Kind::Webhook, &stream, Batch { parts, ..Batch::default() }).await.unwrap();
    let cursor = Cursor { claimed: cursor.done + ROUND, ..cursor };
    let (put, drop, dead) = (Vec::new(), Vec::new(), Vec::new());
    journal.advance(Advance { bind, stream, cursor, put, drop, dead }).await.unwrap();
    journal.close().await;
    let options = masterchief::contract::BindOptions {
        delivery: masterchief::contract::DeliveryOptions { conc: 512, ..Default::default() },
        ..Default::default()
    };
    let bot = Bot::builder().data(dir.path());
    let bot = bot.bind_with(Kind::Webhook, "-|-", "github/*", options, heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    while heard.all().len() < ROUND as usize {
        assert_eq!(started.journal().standing_still(), []);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    started.stop("").await;
}
