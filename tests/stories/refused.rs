//! A Kafka that wants to know who comes.

use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Kind, Secret};
use masterchief_bindings::Settings;
use tokio::time::Instant;

use super::conformance::Heard;
use super::servers::{Tansu, kafka_settings};

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(90);

async fn bot(dir: &tempfile::TempDir, settings: &Settings, heard: &Heard) -> Started {
    let bot = Bot::builder().data(dir.path()).sources(settings.clone());
    bot.bind(Kind::Stream, "-|-", "kafka:deployments", heard.handler()).unwrap().start().await.unwrap()
}

/// Waits until a source says why it cannot read.
async fn said(started: &Started, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let rows = started.sources();
        if rows.iter().any(|row| row.error.as_ref().is_some_and(|error| error.contains(words))) {
            return;
        }
        assert!(Instant::now() < end, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_refuse_a_password_are_told_with_what_to_change() {
    let tansu = Tansu::start_with(None, &["--authentication"]).await;
    let mut settings = kafka_settings(&tansu.address, "chief");
    let kafka = settings.kafka.get_mut("default").unwrap();
    (kafka.username, kafka.password) = (Some("chief".to_owned()), Some(Secret::new("wrong".to_owned())));
    let dir = tempfile::tempdir().unwrap();
    let started = bot(&dir, &settings, &Heard::default()).await;
    said(&started, "put right username, password or mechanism").await;
    started.stop("").await;
}
