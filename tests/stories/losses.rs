//! What is known to be lost is an event of its own: for whoever binds that, and for nobody else.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::Ordering;

use masterchief::bot::Bot;
use masterchief::contract::Kind;
use masterchief::journal;

use super::conformance::{Heard, noise, reading};
use super::polled::databases;
use super::postgresql::Postgresql;
use super::servers::{Redis, Way, redis_settings};
use super::steps::eventually;

async fn say(redis: &Redis, words: &str) {
    let mut connection = redis.connection().await;
    redis::cmd("PUBLISH").arg("news").arg(words).query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_nobody_listened_to_for_a_while_is_told_to_whoever_asks_for_that() {
    let redis = Redis::start().await;
    let (dir, heard, lost, way) =
        (tempfile::tempdir().unwrap(), Heard::default(), Heard::default(), Way::to(redis.port).await);
    let bot = Bot::builder().data(dir.path()).sources(redis_settings(way.port));
    let bot = bot.bind(Kind::Stream, "-|-", "redis:news", heard.handler()).unwrap();
    let started = bot.bind(Kind::Stream, "-|-", "redis:news gap", lost.handler()).unwrap().start().await.unwrap();
    reading(&started).await;
    say(&redis, "before").await;
    heard.until(1).await;
    way.close();
    eventually("that nobody listens", async || started.sources()[0].state == "lost").await;
    say(&redis, "meanwhile").await;
    assert!(lost.all().is_empty());
    way.open();
    lost.until(1).await;
    say(&redis, "after").await;
    heard.until(2).await;
    assert_eq!(heard.all(), ["before", "after"], "what is lost is no message");
    let told = lost.all();
    assert!(matches!(&told[..], [one] if one.starts_with("nobody listened to news for ")), "{told:?}");
    let sources = started.sources();
    assert_eq!((sources.len(), sources[0].dropped), (1, 1), "one connection, and one gap among the drops");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_postgresql_that_nobody_listened_to_for_a_while_is_told_to_whoever_asks_for_that() {
    let (server, dir) = (Postgresql::start().await, tempfile::tempdir().unwrap());
    let (heard, lost, way) = (Heard::default(), Heard::default(), Way::to(server.port).await);
    let url = format!("postgres://chief@127.0.0.1:{}/postgres", way.port);
    let bot = Bot::builder().data(dir.path()).sources(databases(&url, &[]));
    let bot = bot.bind(Kind::Database, "-|-", "db:listen/jobs", heard.handler()).unwrap();
    let started = bot.bind(Kind::Database, "-|-", "db:listen/jobs gap", lost.handler()).unwrap().start().await.unwrap();
    reading(&started).await;
    server.ask("public", "NOTIFY jobs, 'before'").await;
    heard.until(1).await;
    assert_eq!(started.sources()[0].dropped, 0);
    way.close();
    eventually("that nobody listens", async || started.sources()[0].state == "lost").await;
    server.ask("public", "NOTIFY jobs, 'meanwhile'").await;
    assert!(lost.all().is_empty());
    way.open();
    lost.until(1).await;
    server.ask("public", "NOTIFY jobs, 'after'").await;
    heard.until(2).await;
    assert_eq!(heard.all(), ["before", "after"], "what is lost is no notification");
    let told = lost.all();
    assert!(matches!(&told[..], [one] if one.starts_with("nobody listened to jobs for ")), "{told:?}");
    let sources = started.sources();
    assert_eq!((sources.len(), sources[0].dropped), (1, 1), "one connection, and one gap among the drops");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_before_it_was_read_is_told_to_whoever_asks_for_that() {
    let (dir, heard, lost) = (tempfile::tempdir().unwrap(), Heard::default(), Heard::default());
    let path = dir.path().join("app.log");
    let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mask = path.display().to_string();
    let small = journal::Settings { max_bytes: 64 << 10, keep_bytes: 1 << 10, ..journal::Settings::default() };
    let bot = Bot::builder().data(&dir.path().join("data")).journal(small);
    let bot = bot.bind(Kind::Log, "-|-", &mask, heard.handler()).unwrap();
    let bot = bot.bind(Kind::Log, "-|-", &format!("{mask} gap"), lost.handler()).unwrap();
    heard.stuck.store(true, Ordering::Relaxed);
    let started = bot.start().await.unwrap();
    reading(&started).await;
    let lines: String = (0..2000).map(|number: u32| noise(&number.to_string(), 1000) + "\n").collect();
    log.write_all(lines.as_bytes()).unwrap();
    // Some of it is read, and there is no room for more.
    eventually("that it waits", async || started.sources()[0].state == "waiting").await;
    File::create(&path).unwrap();
    log.write_all(b"new\n").unwrap();
    heard.stuck.store(false, Ordering::Relaxed);
    lost.until(1).await;
    eventually("what is new", async || heard.all().last().is_some_and(|text| text == "new")).await;
    let (told, count) = (lost.all(), heard.all().len());
    assert!(matches!(&told[..], [one] if one.contains("was cut before it was read")), "{told:?}");
    assert!(count < 2000 && started.sources()[0].dropped == 1, "{count} of 2000: {:?}", started.sources());
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_give_over_what_others_left_is_read_all_the_same_and_that_is_noted() {
    // As before 6.2.
    let redis = Redis::start_with(&["--rename-command", "XAUTOCLAIM", ""]).await;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = Bot::builder().data(dir.path()).sources(redis_settings(redis.port));
    let started = bot.bind(Kind::Stream, "-|-", "redis-stream:jobs", heard.handler()).unwrap().start().await.unwrap();
    reading(&started).await;
    let mut connection = redis.connection().await;
    let add = redis::cmd("XADD").arg("jobs").arg("*").arg("data").arg("one").to_owned();
    add.query_async::<String>(&mut connection).await.unwrap();
    heard.until(1).await;
    let row = started.sources().remove(0);
    assert!(row.note.contains("older than Redis 6.2") && row.error.is_none(), "{row:?}");
    started.stop("").await;
}
