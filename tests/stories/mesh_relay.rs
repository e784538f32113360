//! Events told to another MasterChief: written down there once, also when the link breaks or a bot dies between.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, Builder};
use masterchief::contract::{Event, Kind};
use masterchief::mesh::{Attribute, BotSettings, RELAY, RelaySettings, Settings};
use tokio::sync::mpsc;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::servers::free_port;

/// A log whose lines are told to Two.
fn telling(port: u16, log: &Path) -> Settings {
    let mut known = named("One", None, &[("Two", called(port, Attribute::Hub))]);
    known.relay =
        vec![RelaySettings { kind: "log".to_owned(), mask: log.display().to_string(), to: vec!["Two".to_owned()] }];
    known
}

fn trusting() -> BotSettings {
    BotSettings { attributes: BTreeSet::from([Attribute::Trust]), ..caller() }
}

/// A bot whose handler tells the story what it heard.
fn hearing(mask: &str) -> (Builder, mpsc::Receiver<String>) {
    let (heard, hears) = mpsc::channel(1000);
    let tell = move |ev: Event| {
        let heard = heard.clone();
        async move {
            let line = format!("{} {} {}", ev.field_str("from"), ev.field_str("kind"), ev.text());
            heard.send(line).await.unwrap();
        }
    };
    (Bot::builder().bind(RELAY, "-|-", mask, tell).unwrap(), hears)
}

fn writes(log: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(log).unwrap();
    writeln!(file, "{text}").unwrap();
}

/// Waits until a bot reads its log: what was written before is not for it.
async fn reads(folder: &Path) {
    let begun = std::time::Instant::now();
    loop {
        let told = std::fs::read_to_string(folder.join("sources.json")).unwrap_or_default();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        let open = |row: &serde_json::Value| row["kind"] == "log" && row["opened"].as_u64() > Some(0);
        if told["sources"].as_array().is_some_and(|rows| rows.iter().any(open)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_log_are_events_on_another_bot_each_once_though_the_link_breaks_and_bots_go_down() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let log = folders[0].path().join("app.log");
    writes(&log, "before");
    let port = free_port();
    let listening = named("Two", Some(port), &[("One", trusting())]);
    let (builder, mut hears) = hearing("One/log/*");
    let two = Chief::of(builder, folders[1].path(), listening.clone()).await;
    let one = Chief::start(folders[0].path(), telling(port, &log)).await;
    one.sees("Two").await;
    reads(folders[0].path()).await;
    let mut next = async || tokio::time::timeout(Duration::from_secs(30), hears.recv()).await.unwrap().unwrap();
    for number in 0..5 {
        writes(&log, &format!("line {number}"));
        assert_eq!(next().await, format!("One log line {number}"));
    }
    // Nobody is there to be told; the one who tells goes down with it, too.
    two.bot.stop("").await;
    for number in 5..10 {
        writes(&log, &format!("line {number}"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    one.bot.stop("").await;
    let (builder, mut hears) = hearing("One/log/*");
    let two = Chief::of(builder, folders[1].path(), listening).await;
    let one = Chief::start(folders[0].path(), telling(port, &log)).await;
    let mut next = async || tokio::time::timeout(Duration::from_secs(30), hears.recv()).await.unwrap().unwrap();
    for number in 5..10 {
        assert_eq!(next().await, format!("One log line {number}"));
    }
    // The link breaks while lines are told.
    for number in 10..60 {
        writes(&log, &format!("line {number}"));
        if number % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            two.mesh.unlink(&"One".parse().unwrap(), "a cut").await.unwrap();
        }
    }
    for number in 10..60 {
        assert_eq!(next().await, format!("One log line {number}"));
    }
    let more = tokio::time::timeout(Duration::from_secs(7), hears.recv()).await;
    assert!(more.is_err(), "{more:?}");
    one.bot.stop("").await;
    two.bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_not_trusted_fills_no_journal_and_what_was_told_is_not_told_on() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let log = folders[0].path().join("app.log");
    writes(&log, "before");
    let port = free_port();
    let (builder, mut hears) = hearing("*");
    let two = Chief::of(builder, folders[1].path(), named("Two", Some(port), &[("One", caller())])).await;
    let one = Chief::start(folders[0].path(), telling(port, &log)).await;
    one.sees("Two").await;
    reads(folders[0].path()).await;
    writes(&log, "line");
    assert!(tokio::time::timeout(Duration::from_secs(3), hears.recv()).await.is_err());
    // Trusted from now on, what waited is told.
    two.mesh.configure(named("Two", Some(port), &[("One", trusting())])).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), hears.recv()).await.unwrap().unwrap();
    assert_eq!(heard, "One log line");
    let mut round = telling(port, &log);
    round.relay[0].kind = RELAY.name().to_owned();
    assert!(round.faults().iter().any(|(path, text)| path.join(".") == "relay.0.kind" && text.contains("round")));
    assert!(Bot::builder().bind(RELAY, "-|-", "One", |_: Event| async {}).is_err());
    assert!(Bot::builder().bind(Kind::Log, "-|-", "/x", |_: Event| async {}).is_ok());
    one.bot.stop("").await;
    two.bot.stop("").await;
}
