//! A handler that is stuck fills the share of its own stream in the journal: what else is read goes on, and people are told.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::Utc;
use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Batch, Inbound, Kind};
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
