//! A Kafka that wants to know who comes.

use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Kind, Secret};
use masterchief_bindings::Settings;
use masterchief_bindings::stream::Message;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::conformance::Heard;
use super::gate::{Door, User};
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

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_know_the_password_are_read_and_published_to_and_a_wrong_one_is_told_to_who_publishes_too() {
    let user = User { name: "chief", password: "pencil", mechanisms: &["PLAIN"] };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let tansu = Tansu::start_with(Some(&address), &[]).await;
    let _door = Door::open(listener, tansu.address.clone(), None, Some(user));
    let knowing = |password: &str| {
        let mut settings = kafka_settings(&address, "chief");
        let kafka = settings.kafka.get_mut("default").unwrap();
        (kafka.username, kafka.password) = (Some(user.name.to_owned()), Some(Secret::new(password)));
        settings
    };
    let message = || Message { to: "kafka:deployments".to_owned(), payload: b"shop 1.4".into(), ..Message::default() };
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = bot(&dir, &knowing("wrong"), &heard).await;
    let words = "put right username, password or mechanism";
    said(&started, words).await;
    let fault = started.publish(message()).await.unwrap_err();
    assert!(fault.to_string().contains(words), "{fault}");
    started.stop("").await;
    let started = bot(&dir, &knowing(user.password), &heard).await;
    started.publish(message()).await.unwrap();
    heard.until(1).await;
    assert_eq!(heard.all(), ["shop 1.4"]);
    started.stop("").await;
}
