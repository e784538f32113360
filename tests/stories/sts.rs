//! Servers that want to be reached with TLS only.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::Secret;
use masterchief::irc::{Settings, Tls};

use crate::wire::{Authority, Line, Wire};

async fn start(data: &Path, settings: &Settings) -> Started {
    Bot::builder().network("story", settings.clone()).data(data).start().await.unwrap()
}

/// Settings that begin in plain text and would trust the authority.
fn settings(plain: &Wire, authority: &Authority) -> Settings {
    let mut settings = plain.settings();
    settings.tls = Tls { enabled: false, ..authority.trusted() };
    settings.password = Some(Secret::new("server-secret"));
    settings
}

/// The bot is sent to the port with TLS, and has said nothing else before.
async fn sent_away(plain: &Wire, secure: &Wire) {
    let mut line = plain.accepts().await;
    assert_eq!(line.next().await.as_deref(), Some("CAP LS 302"));
    line.says(&[&format!(":s CAP * LS * :batch sts=duration=1,port={},x=y", secure.port())]).await;
    assert_eq!(line.rest().await, [""; 0], "no nick, and above all no password");
}

/// The bot is in, over TLS, and hears for how long that is wanted.
async fn at_home(secure: &Wire, sts: &str) -> Line {
    let mut line = secure.accepts().await;
    line.negotiates(&format!("batch {sts}")).await;
    line.welcomes("").await;
    line.hears("JOIN #ops").await;
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_demands_tls_gets_it_before_any_word_and_a_restart_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (plain, secure) = (Wire::plain().await, Wire::secure(&authority).await);
    let settings = settings(&plain, &authority);
    let started = start(dir.path(), &settings).await;
    sent_away(&plain, &secure).await;
    let line = at_home(&secure, "sts=duration=300,port=1").await;
    started.stop("").await;
    drop(line);
    let started = start(dir.path(), &settings).await;
    let line = at_home(&secure, "sts=duration=0").await;
    assert!(plain.is_left_alone(Duration::from_millis(200)).await);
    started.stop("").await;
    drop(line);
    // It was taken back: the next time begins in plain text, as configured.
    let started = start(dir.path(), &settings).await;
    sent_away(&plain, &secure).await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_with_tls_is_not_tried_without() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (plain, secure) = (Wire::plain().await, Wire::secure(&authority).await);
    let settings = settings(&plain, &authority);
    let started = start(dir.path(), &settings).await;
    sent_away(&plain, &secure).await;
    for _ in 0..3 {
        secure.hangs_up().await;
    }
    assert!(plain.is_left_alone(Duration::from_millis(200)).await);
    let trouble = started.status().await.networks[0].trouble.clone().unwrap();
    assert!(trouble.contains("TLS"), "{trouble}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_counted_from_the_end_of_the_last_connection() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (plain, secure) = (Wire::plain().await, Wire::secure(&authority).await);
    let settings = settings(&plain, &authority);
    let started = start(dir.path(), &settings).await;
    sent_away(&plain, &secure).await;
    let mut line = at_home(&secure, "sts=duration=1").await;
    // Longer than that on the same connection, over which the demand is made again, is no end of it.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    line.says(&[":s CAP chief DEL :sts", ":s CAP chief NEW :sts=duration=2"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(line);
    let line = at_home(&secure, "").await;
    started.stop("").await;
    drop(line);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let started = start(dir.path(), &settings).await;
    sent_away(&plain, &secure).await;
    started.stop("").await;
}
