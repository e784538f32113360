//! What comes from outside, each beside a floor in the same run: journal appends, log lines from file to a Rust handler, webhooks.
//!
//! `cargo bench --bench ingest [-- journal log webhook]`

#![allow(missing_docs)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Buf;
use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt};
use masterchief::bot::Bot;
use masterchief::contract::{Batch, Clock, Event, Inbound, Kind, Matching, Secret};
use masterchief::{bot, gateway, journal};
use masterchief_bindings::Settings;
use masterchief_bindings::log::{From, LogSettings};
use masterchief_bindings::webhook::RouteSettings;
use ring::hmac;
use warp::Filter;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if wanted("journal") {
            appends().await?;
        }
        if wanted("log") {
            lines().await?;
        }
        if wanted("webhook") {
            posts().await?;
        }
        Ok(())
    })
}

/// Durable appends of one event each, from many tasks.
async fn appends() -> Fallible<()> {
    const TASKS: usize = 2000;
    const EACH: usize = 200;
    let dir = tempfile::tempdir()?;
    let kinds = bot::kinds();
    let specs = kinds.all().filter(|spec| spec.matching == Matching::Journal);
    let journal =
        journal::open(Some(&dir.path().join("journal.db")), journal::Settings::default(), specs, Clock::system())?;
    let stream: Arc<str> = Arc::from("webhook");
    let began = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let (journal, stream) = (journal.clone(), Arc::clone(&stream));
        tokio::spawn(async move {
            let lane: Arc<str> = Arc::from(format!("lane {task}"));
            for _ in 0..EACH {
                let event =
                    Inbound { key: None, at: Utc::now(), text: "x".repeat(300), fields: Vec::new(), body: Vec::new() };
                let written = journal.append(Kind::Webhook, &stream, Batch::one(Arc::clone(&lane), event, 0)).await;
                assert!(written.is_ok(), "{written:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await?;
    }
    let rate = (TASKS * EACH) as f64 / began.elapsed().as_secs_f64();
    println!("journal: {rate:.0} durable appends/s of 300 bytes, one event each, from {TASKS} tasks");
    let floor = floor_of_appends(dir.path())?;
    println!(
        "journal: {:.2} of the floor, which is {floor:.0}/s: the same rows in transactions of {TASKS}, without anything else",
        rate / floor
    );
    journal.close().await;
    Ok(())
}

/// The same bytes into a table of SQLite with the same settings, in transactions as big as the tasks are many.
fn floor_of_appends(folder: &Path) -> Fallible<f64> {
    let db = rusqlite::Connection::open(folder.join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE events(first INTEGER PRIMARY KEY, records BLOB NOT NULL)")?;
    let bytes = vec![b'x'; 320];
    let began = Instant::now();
    let mut count = 0_u64;
    while count < 200_000 {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..2000 {
            count += 1;
            db.prepare_cached("INSERT INTO events(first, records) VALUES (?1, ?2)")?
                .execute(rusqlite::params![count, bytes])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Lines of 100 bytes from a file to a handler in Rust, each through the journal.
async fn lines() -> Fallible<()> {
    const LINES: u64 = 3_000_000;
    let (dir, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = dir.path().join("app.log");
    let line = format!("{}\n", "x".repeat(99));
    std::fs::write(&path, line.repeat(LINES as usize))?;
    let began = Instant::now();
    let text = std::fs::read(&path)?;
    let counted = text
        .split(|byte| *byte == b'\n')
        .filter(|line| std::str::from_utf8(line).is_ok_and(|line| !line.is_empty()))
        .count();
    let floor = counted as f64 / began.elapsed().as_secs_f64();
    drop(text);
    let heard = Arc::<AtomicU64>::default();
    let handler = {
        let heard = Arc::clone(&heard);
        move |event: Event| {
            heard.fetch_add(u64::from(!event.text().is_empty()), Ordering::Relaxed);
            async {}
        }
    };
    let log = LogSettings {
        path: path.display().to_string(),
        format: None,
        pattern: None,
        multi: None,
        from: From::Start,
        longest: None,
    };
    let settings = Settings { logs: vec![log], ..Settings::default() };
    let cpu = cpu_seconds();
    let began = Instant::now();
    let bot = Bot::builder().data(data.path()).sources(settings);
    let started = bot.bind(Kind::Log, "-|-", &path.display().to_string(), handler)?.start().await?;
    while heard.load(Ordering::Relaxed) < LINES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "log: {:.0} lines/s by the clock, {:.0} lines a second of processor time",
        LINES as f64 / wall,
        LINES as f64 / cpu
    );
    println!("log: the floor, reading and splitting the file, is {floor:.0} lines/s");
    started.stop("").await;
    Ok(())
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

const SECRET: &str = "bench";

fn signature(body: &[u8]) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body);
    format!("sha256={}", mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Posts of 8 KB with an HMAC: the gateway, and a bare warp server that verifies and throws away.
async fn posts() -> Fallible<()> {
    // It is there already where another part of this run was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::tempdir()?;
    let body = format!("{{\"ref\": \"refs/heads/main\", \"text\": \"{}\"}}", "x".repeat(8 << 10));
    let route = RouteSettings { secrets: vec![Secret::new(SECRET)], dedupe: false, ..RouteSettings::default() };
    let settings = gateway::Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        routes: [("github".to_owned(), route)].into(),
        ..gateway::Settings::default()
    };
    let started = Bot::builder().data(data.path()).gateway(settings).start().await?;
    let at = started.gateway_at().ok_or("the gateway does not listen")?;
    let bare = warp::post().and(warp::header::<String>("x-hub-signature-256")).and(warp::body::stream()).then(
        |given: String, stream| async move {
            let parts: Result<Vec<_>, warp::Error> = TryStreamExt::try_collect(stream).await;
            let mut bytes = Vec::new();
            for mut part in parts.unwrap_or_default() {
                let part: &mut dyn Buf = &mut part;
                bytes.extend_from_slice(&part.copy_to_bytes(part.remaining()));
            }
            if signature(&bytes) == given {
                warp::http::StatusCode::ACCEPTED
            } else {
                warp::http::StatusCode::FORBIDDEN
            }
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let floor_at = listener.local_addr()?;
    tokio::spawn(warp::serve(bare).incoming(listener).run());
    // One to warm up, and then turn by turn, so that what else runs on the machine meets both.
    load(floor_at, &body, 500).await?;
    load(at, &body, 500).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        floor.push(load(floor_at, &body, 10_000).await?);
        ours.push(load(at, &body, 10_000).await?);
    }
    let best = |of: &[(f64, f64)]| {
        of.iter().copied().fold((0.0, 0.0), |best: (f64, f64), one| if one.0 > best.0 { one } else { best })
    };
    let (ours, floor) = (best(&ours), best(&floor));
    println!("webhook: {:.0} posts/s of 8 KB, verified and durable, p99 {:.1} ms", ours.0, ours.1);
    println!(
        "webhook: {:.2} of a bare warp that verifies and throws away: {:.0} posts/s, p99 {:.1} ms",
        ours.0 / floor.0,
        floor.0,
        floor.1
    );
    started.stop("").await;
    Ok(())
}

/// Posts over 64 connections; posts a second, and the 99th percentile in milliseconds.
async fn load(at: SocketAddr, body: &str, count: usize) -> Fallible<(f64, f64)> {
    let client = reqwest::Client::new();
    let (url, signature) = (format!("http://{at}/hooks/github"), signature(body.as_bytes()));
    let began = Instant::now();
    let times: Vec<Duration> = futures_util::stream::iter(0..count)
        .map(|_| {
            let request = client
                .post(&url)
                .header("X-Hub-Signature-256", &signature)
                .header("X-GitHub-Event", "push")
                .body(body.to_owned());
            async move {
                let began = Instant::now();
                let answer = request.send().await?;
                assert_eq!(answer.status().as_u16(), 202);
                answer.bytes().await?;
                Ok::<_, reqwest::Error>(began.elapsed())
            }
        })
        .buffer_unordered(64)
        .try_collect()
        .await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let mut times = times;
    times.sort();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Ok((rate, p99.as_secs_f64() * 1000.0))
}
