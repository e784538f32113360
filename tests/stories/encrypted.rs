//! A Kafka that wants to know who comes, and one behind TLS.

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

#[cfg(feature = "kafka-tls")]
mod tls {
    use std::sync::Arc;

    use masterchief_bindings::stream::{Message, Publish, Publishers};
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

    use super::*;
    use crate::wire::Authority;

    /// A broker that is reached through TLS only, by the name of localhost.
    async fn behind(authority: &Authority) -> (Tansu, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let tansu = Tansu::start_with(Some(&address), &[]).await;
        let (acceptor, broker) = (authority.acceptor(), tansu.address.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, broker) = (acceptor.clone(), broker.clone());
                tokio::spawn(async move {
                    let mut inner = tokio::net::TcpStream::connect(broker).await.unwrap();
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    // Either side may end it.
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                });
            }
        });
        (tansu, address)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_behind_tls_is_read_and_one_whose_authority_nobody_knows_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path());
        let (_tansu, address) = behind(&authority).await;
        let mut settings = kafka_settings(&address, "chief");
        let kafka = settings.kafka.get_mut("default").unwrap();
        kafka.tls = true;
        // The system's authorities have never heard of it.
        let strange = settings.clone();
        let path = authority.path().display().to_string();
        kafka.options.insert("ssl.ca.location".to_owned(), path.clone());
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &address).set("security.protocol", "ssl").set("ssl.ca.location", path);
        let admin: AdminClient<_> = config.create().unwrap();
        let new = NewTopic::new("deployments", 1, TopicReplication::Fixed(1));
        admin.create_topics(&[new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let (dir, other, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
        let started = bot(&dir, &settings, &heard).await;
        let publishers = Publishers::new(Arc::new(settings));
        let message = Message { to: "kafka:deployments".to_owned(), payload: b"shop 1.2".into(), ..Message::default() };
        publishers.publish(message).await.unwrap();
        heard.until(1).await;
        assert_eq!(heard.all(), ["shop 1.2"]);
        started.stop("").await;
        let started = bot(&other, &strange, &Heard::default()).await;
        said(&started, "ssl.ca.location").await;
        started.stop("").await;
    }
}
