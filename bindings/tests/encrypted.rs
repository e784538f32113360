//! Kafka behind TLS and SASL: `cargo test -p masterchief-bindings --features kafka-tls --test encrypted`.
//! `./test` runs it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "for tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masterchief_bindings::stream::{Message, Publish, Publishers};
use masterchief_bindings::{Settings, source};
use masterchief_contract::{Kind, Meter, Positions, Secret, Source, SourceError};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[path = "../../tests/stories/gate.rs"]
mod gate;
#[path = "../../tests/stories/servers.rs"]
mod servers;

use gate::{Door, User};
use servers::{Tansu, kafka_settings};

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who may come where it is asked.
const CHIEF: User =
    User { name: "chief", password: "pencil, sharp=1", mechanisms: &["SCRAM-SHA-256", "SCRAM-SHA-512"] };

/// A broker that is reached through a door only.
struct Guarded {
    _broker: Tansu,
    dir: tempfile::TempDir,
    port: u16,
    _door: Door,
}

impl Guarded {
    /// One that shows a certificate for a name, which it signed itself: `own.pem`; `other.pem` is somebody else's.
    async fn named(name: &str) -> Guarded {
        Guarded::asking(name, true, None).await
    }

    /// The same, or one without TLS, and it may ask who comes.
    async fn asking(name: &str, tls: bool, user: Option<User>) -> Guarded {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = || rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (own, other, dir) = (made(), made(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("own.pem"), own.cert.pem()).unwrap();
        std::fs::write(dir.path().join("other.pem"), other.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![own.cert.der().clone()], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Tansu::start_with(Some(&format!("localhost:{port}")), &[]).await;
        let door = Door::open(listener, broker.address.clone(), tls.then_some(acceptor), user);
        Guarded { _broker: broker, dir, port, _door: door }
    }

    /// A way in for who trusts what is in a file.
    fn trusting(&self, file: &str) -> Settings {
        let mut settings = kafka_settings(&format!("localhost:{}", self.port), "chief");
        let kafka = settings.kafka.get_mut("default").unwrap();
        let file: PathBuf = self.dir.path().join(file);
        kafka.tls = true;
        kafka.options.insert("ssl.ca.location".to_owned(), file.display().to_string());
        kafka.options.insert("broker.address.family".to_owned(), "v4".to_owned());
        settings
    }

    /// A way in for somebody who says that they know the password, with or without TLS.
    fn knowing(&self, mechanism: &str, password: &str, tls: bool) -> Settings {
        let mut settings = self.trusting("own.pem");
        let kafka = settings.kafka.get_mut("default").unwrap();
        if !tls {
            kafka.tls = false;
            kafka.options.remove("ssl.ca.location");
        }
        kafka.username = Some(CHIEF.name.to_owned());
        kafka.password = Some(Secret::new(password));
        kafka.mechanism = Some(mechanism.to_owned());
        settings
    }
}

async fn tell(settings: &Settings, words: &str) -> Result<String, String> {
    let message = Message { to: "kafka:deploys".to_owned(), payload: words.into(), ..Message::default() };
    let publishing = Publishers::new(Arc::new(settings.clone())).publish(message);
    tokio::time::timeout(PATIENCE, publishing).await.unwrap().map_err(|fault| fault.to_string())
}

async fn opened(settings: &Settings) -> Result<Box<dyn Source>, SourceError> {
    let mut source = source(settings, Kind::Stream, "kafka:deploys", &Arc::new(Meter::default())).unwrap();
    source.open(&Positions::default()).await?;
    Ok(source)
}

async fn next(source: &mut dyn Source) -> String {
    loop {
        let batch = tokio::time::timeout(PATIENCE, source.next()).await.unwrap().unwrap();
        if let Some(event) = batch.parts.iter().flat_map(|part| &part.events).next() {
            return event.text.clone();
        }
    }
}

/// Why it is not opened, in words.
async fn refused(settings: &Settings) -> String {
    match opened(settings).await {
        Err(SourceError::Wrong(why)) => why,
        Err(other) => panic!("it is tried again, which is of no use: {other:?}"),
        Ok(_) => panic!("it is open"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_through_tls_is_read_through_tls() {
    let guarded = Guarded::named("localhost").await;
    let settings = guarded.trusting("own.pem");
    tell(&settings, "shop 1.4 is out").await.unwrap();
    let mut source = opened(&settings).await.unwrap();
    assert_eq!(next(source.as_mut()).await, "shop 1.4 is out");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_the_certificate_of_a_stranger_are_not_spoken_to() {
    let guarded = Guarded::named("localhost").await;
    let why = refused(&guarded.trusting("other.pem")).await;
    assert!(why.contains("ssl.ca.location"), "{why}");
    // And nobody looks further than the system's own authorities, where no file is named.
    let mut settings = guarded.trusting("own.pem");
    settings.kafka.get_mut("default").unwrap().options.remove("ssl.ca.location");
    let why = refused(&settings).await;
    assert!(why.contains("ssl.ca.location"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_a_certificate_for_another_name_are_not_spoken_to() {
    let guarded = Guarded::named("kafka.example").await;
    let why = refused(&guarded.trusting("own.pem")).await;
    assert!(why.contains("the names that it bears"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_proves_that_they_know_the_password_publishes_and_reads_by_either_scram() {
    for (mechanism, tls) in [("SCRAM-SHA-256", false), ("SCRAM-SHA-512", false), ("SCRAM-SHA-512", true)] {
        let guarded = Guarded::asking("localhost", tls, Some(CHIEF)).await;
        let settings = guarded.knowing(mechanism, CHIEF.password, tls);
        tell(&settings, mechanism).await.unwrap();
        let mut source = opened(&settings).await.unwrap();
        assert_eq!(next(source.as_mut()).await, mechanism, "over TLS: {tls}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_is_told_what_to_change_when_they_read_and_when_they_publish() {
    const WORDS: &str = "put right username, password or mechanism of the connection under sources.kafka";
    let only = User { mechanisms: &["SCRAM-SHA-512"], ..CHIEF };
    for (user, mechanism, password, tls) in [
        (CHIEF, "SCRAM-SHA-256", "wrong", false),
        (CHIEF, "SCRAM-SHA-512", "wrong", true),
        // The right password in a way that the brokers do not take.
        (only, "SCRAM-SHA-256", CHIEF.password, true),
    ] {
        let guarded = Guarded::asking("localhost", tls, Some(user)).await;
        let settings = guarded.knowing(mechanism, password, tls);
        let (read, told) = tokio::join!(refused(&settings), tell(&settings, "shop 1.4 is out"));
        for why in [read, told.unwrap_err()] {
            assert!(why.contains(WORDS), "{mechanism}, over TLS: {tls}: {why}");
            assert!(user.mechanisms.len() > 1 || why.contains("SCRAM-SHA-512"), "which they take: {why}");
        }
    }
}
