//! The proof by kill -9: a bot reads from durable sources and is killed at random moments; then every event must have reached
//! its handler, and what was handled twice is counted.
//!
//! `cargo bench --bench kill -- KILLS EVENTS [log] [file] [database] [abort]`; short counts where none are given.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "threads of a load program may sleep")]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Secret;
use masterchief::contract::{BindOptions, DeliveryOptions, Event, Kind, Order};
use masterchief_bindings::Settings;
use masterchief_bindings::database::{DatabaseSettings, On, QuerySettings};
use masterchief_bindings::log::{From, LogSettings};
use sqlx::{ConnectOptions, Connection};

/// What is counted of a source.
#[derive(Default)]
struct Count {
    once: usize,
    twice: usize,
    missing: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if words.first().is_some_and(|word| word == "child") {
        return child(&words[1], Path::new(&words[2]));
    }
    let number = |at: usize, usual: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(usual);
    let (kills, events) = (number(0, 5), number(1, 5_000));
    let all = ["log", "file", "database"];
    let asked: Vec<&str> =
        all.into_iter().filter(|source| words.len() < 3 || words.iter().any(|word| word == source)).collect();
    let mut good = true;
    for source in asked {
        let (count, done) = prove(source, kills, events);
        println!(
            "{source}: {done} kills over {events} events: {} handled once, {} twice or more, {} lost",
            count.once, count.twice, count.missing
        );
        good &= count.missing == 0;
    }
    if words.len() < 3 || words.iter().any(|word| word == "abort") {
        good &= abort();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a bot on the folder until it is killed.
fn child(source: &str, folder: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let heard =
            OpenOptions::new().create(true).append(true).open(folder.join("heard")).expect("the folder is there");
        let heard = Arc::new(heard);
        let handler = move |event: Event| {
            let heard = Arc::clone(&heard);
            async move {
                if event.text().contains("abort") {
                    std::process::abort();
                }
                let line = format!("{}\n", event.text().rsplit("n\":").next().unwrap_or("").trim_end_matches('}'));
                (&*heard).write_all(line.as_bytes())
            }
        };
        let delivery = DeliveryOptions {
            max_attempts: 3,
            backoff: Duration::from_millis(1),
            order: Order::Lane,
            ..DeliveryOptions::default()
        };
        let options = BindOptions { delivery, ..BindOptions::default() };
        let (kind, mask) = mask(source, folder);
        let bot = Bot::builder().data(&folder.join("data")).sources(settings(folder));
        let bot = bot.bind_with(kind, "-|-", &mask, options, handler).expect("the mask is good");
        let _started = bot.start().await.expect("the bot starts");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

fn mask(source: &str, folder: &Path) -> (Kind, String) {
    match source {
        "log" => (Kind::Log, folder.join("in/app.log").display().to_string()),
        "file" => (Kind::File, format!("{}/in/*.csv rows settle=10ms", folder.display())),
        _ => (Kind::Database, "db:query/rows".to_owned()),
    }
}

fn settings(folder: &Path) -> Settings {
    let log = LogSettings {
        path: folder.join("in/app.log").display().to_string(),
        format: None,
        pattern: None,
        multi: None,
        from: From::Start,
        longest: None,
    };
    let query = QuerySettings {
        sql: "SELECT n FROM rows WHERE n > :cursor ORDER BY n".to_owned(),
        every: Duration::from_millis(100),
        on: On::Cursor,
        key: Vec::new(),
        cursor: Some("n".to_owned()),
        start: Some((-1).into()),
        first: false,
        listen: None,
        find: None,
        watch: false,
        rows: 500,
    };
    let database = DatabaseSettings {
        url: Secret::new(format!("sqlite://{}/in/rows.db", folder.display())),
        queries: [("rows".to_owned(), query)].into(),
        read_only: true,
        timeout: Duration::from_secs(10),
    };
    Settings { logs: vec![log], databases: [("default".to_owned(), database)].into(), ..Settings::default() }
}

fn start(source: &str, folder: &Path) -> Child {
    let me = std::env::current_exe().expect("this program has a path");
    let child = Command::new(me).args(["child", source]).arg(folder).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("this program can be started again")
}

fn heard(folder: &Path) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for line in fs::read_to_string(folder.join("heard")).unwrap_or_default().lines() {
        if let Ok(number) = line.parse() {
            *counts.entry(number).or_default() += 1;
        }
    }
    counts
}

/// Kills a bot at random moments while events flow.
fn prove(source: &str, kills: usize, events: usize) -> (Count, usize) {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let folder = dir.path().to_owned();
    fs::create_dir(folder.join("in")).expect("a folder can be made");
    let flowing = {
        let (source, folder) = (source.to_owned(), folder.clone());
        // As many as the kills need: the writer takes about as long as they do.
        let pause = Duration::from_millis(60 * kills as u64 / 100);
        std::thread::spawn(move || flow(&source, &folder, events, pause))
    };
    let mut dice = std::collections::hash_map::RandomState::new();
    let mut done = 0;
    let mut child = start(source, &folder);
    while done < kills {
        std::thread::sleep(Duration::from_millis(20 + random(&mut dice, 130)));
        // It may have ended by itself, which is as good as killed.
        let _ = child.kill();
        let _ = child.wait();
        done += 1;
        child = start(source, &folder);
    }
    flowing.join().expect("the writer does not fail");
    let end = Instant::now() + Duration::from_secs(120);
    while heard(&folder).len() < events && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    let heard = heard(&folder);
    let count = Count {
        once: heard.values().filter(|times| **times == 1).count(),
        twice: heard.values().filter(|times| **times > 1).count(),
        missing: (0..events).filter(|number| !heard.contains_key(number)).count(),
    };
    (count, done)
}

fn random(state: &mut std::collections::hash_map::RandomState, below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    *state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish() % below
}

/// Writes the events in a hundred parts.
fn flow(source: &str, folder: &Path, events: usize, pause: Duration) {
    let log: PathBuf = folder.join("in/app.log");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let url = format!("sqlite://{}/in/rows.db", folder.display());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().expect("the address is good");
    let options = options.create_if_missing(true).journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let mut db = runtime.block_on(options.connect()).expect("the database can be made");
    let run = |db: &mut sqlx::SqliteConnection, sql: String| {
        runtime.block_on(sqlx::query(sqlx::AssertSqlSafe(sql)).execute(db)).expect("the statement is good");
    };
    run(&mut db, "CREATE TABLE rows(n INTEGER PRIMARY KEY)".to_owned());
    for (part, numbers) in (0..events).collect::<Vec<_>>().chunks(events.div_ceil(100)).enumerate() {
        let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
        match source {
            "log" => {
                if part % 10 == 9 {
                    fs::rename(&log, folder.join(format!("in/app.log.{part}"))).expect("it was written before");
                }
                let file = OpenOptions::new().create(true).append(true).open(&log).expect("the folder is there");
                let mut file = BufWriter::new(file);
                file.write_all(lines.as_bytes()).expect("there is room");
            }
            "file" => {
                let to = folder.join(format!("in/{part}.part"));
                fs::write(&to, format!("n\n{lines}")).expect("there is room");
                fs::rename(&to, folder.join(format!("in/{part:03}.csv"))).expect("it was just written");
            }
            _ => {
                let values: Vec<String> = numbers.iter().map(|number| format!("({number})")).collect();
                run(&mut db, format!("INSERT INTO rows(n) VALUES {}", values.join(",")));
            }
        }
        std::thread::sleep(pause);
    }
    runtime.block_on(db.close()).expect("the database closes");
}

/// A handler that aborts the process for one event: that one ends in the dead letters, and the others are handled.
fn abort() -> bool {
    let dir = tempfile::tempdir().expect("a folder can be made");
    fs::create_dir(dir.path().join("in")).expect("a folder can be made");
    let log = dir.path().join("in/app.log");
    let lines: String =
        (0..20).map(|number| if number == 7 { "abort\n".to_owned() } else { format!("{number}\n") }).collect();
    fs::write(&log, lines).expect("there is room");
    let mut starts = 0;
    while heard(dir.path()).len() < 19 && starts < 20 {
        starts += 1;
        let mut child = start("log", dir.path());
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && heard(dir.path()).len() < 19 && child.try_wait().ok().flatten().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It has ended by itself, or is done.
        let _ = child.kill();
        let _ = child.wait();
    }
    let heard = heard(dir.path()).len();
    println!("abort: a handler that aborts the process for one of 20 events: {heard} handled after {starts} starts");
    heard == 19 && starts <= 6
}
