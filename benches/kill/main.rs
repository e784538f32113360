//! The proof by kill -9: a bot reads from durable sources and is killed at random moments; then every event must have reached
//! its handler, and what was handled twice is counted.
//!
//! `cargo bench --bench kill -- KILLS EVENTS [log] [file] [database] [rest] [webhook] [redis] [rabbitmq] [kafka]
//! [abort]`; short counts where none are given.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "threads of a load program may sleep")]

#[path = "../../tests/stories/servers.rs"]
mod servers;

mod outside;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::{BindOptions, DeliveryOptions, Event, Order};

use outside::{Outside, SOURCES};

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
    let asked = SOURCES.iter().filter(|source| words.len() < 3 || words.iter().any(|word| word == *source));
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
                let line = number_in(event.text()).map(|number| format!("{number}\n")).unwrap_or_default();
                (&*heard).write_all(line.as_bytes())
            }
        };
        let delivery = DeliveryOptions {
            // Somebody may be killed that often while one and the same event is handled.
            max_attempts: if source == "abort" { 3 } else { 50 },
            backoff: Duration::from_millis(1),
            order: Order::Lane,
            ..DeliveryOptions::default()
        };
        let options = BindOptions { delivery, ..BindOptions::default() };
        let (kind, mask) = outside::mask(source, folder);
        let bot = Bot::builder().data(&folder.join("data")).sources(outside::settings(source, folder));
        let bot = bot.gateway(outside::gateway(source, folder));
        let bot = bot.bind_with(kind, "-|-", &mask, options, handler).expect("the mask is good");
        let _started = bot.start().await.expect("the bot starts");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// The last number in a text.
fn number_in(text: &str) -> Option<&str> {
    text.rsplit(|letter: char| !letter.is_ascii_digit()).find(|digits| !digits.is_empty())
}

fn start(source: &str, folder: &Path) -> Child {
    let me = std::env::current_exe().expect("this program has a path");
    let stderr = fs::File::create(folder.join("stderr")).expect("the folder is there");
    let child = Command::new(me).args(["child", source]).arg(folder).stdin(Stdio::null()).stderr(stderr).spawn();
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
    // A bot that joins a group waits until who was killed is out of it; it is to get something done before it is killed.
    let longest = if source == "kafka" { 3000 } else { 130 };
    let (ready, world) = mpsc::channel();
    let (heard_all, finished) = mpsc::channel::<()>();
    let flowing = {
        let (source, folder) = (source.to_owned(), folder.clone());
        // As many as the kills need: the writer takes about as long as they do.
        let pause = Duration::from_millis((longest / 2 + 20) * kills as u64 / 100);
        std::thread::spawn(move || flow(&source, &folder, events, pause, (ready, finished)))
    };
    world.recv().expect("the world begins");
    let mut done = 0;
    let mut child = start(source, &folder);
    while done < kills {
        std::thread::sleep(Duration::from_millis(20 + random(longest)));
        if child.try_wait().ok().flatten().is_some() {
            panic!("the bot ended by itself: {}", fs::read_to_string(folder.join("stderr")).unwrap_or_default());
        }
        child.kill().and_then(|()| child.wait()).expect("it runs");
        done += 1;
        child = start(source, &folder);
    }
    world.recv().expect("the writer does not fail");
    let end = Instant::now() + Duration::from_secs(180);
    while heard(&folder).len() < events && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    // It waits for this, or is gone.
    let _ = heard_all.send(());
    flowing.join().expect("the writer does not fail");
    let heard = heard(&folder);
    let missing: Vec<usize> = (0..events).filter(|number| !heard.contains_key(number)).collect();
    if !missing.is_empty() {
        // Left for whoever looks for the reason.
        println!("{source}: missing {:?}; see {}", &missing[..missing.len().min(20)], dir.keep().display());
    }
    let count = Count {
        once: heard.values().filter(|times| **times == 1).count(),
        twice: heard.values().filter(|times| **times > 1).count(),
        missing: missing.len(),
    };
    (count, done)
}

fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

/// Lets the events happen in a hundred parts. Says when the world has begun and when all have happened; the world ends when
/// it is told.
fn flow(
    source: &str,
    folder: &Path,
    events: usize,
    pause: Duration,
    (ready, finished): (mpsc::Sender<()>, mpsc::Receiver<()>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let mut outside = Outside::start(source, folder).await;
        ready.send(()).expect("somebody waits");
        for (part, numbers) in (0..events).collect::<Vec<_>>().chunks(events.div_ceil(100)).enumerate() {
            outside.write(part, numbers).await;
            tokio::time::sleep(pause).await;
        }
        outside.done().await;
        ready.send(()).expect("somebody waits");
        // It is gone only when the program ends.
        let _ = finished.recv();
    });
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
        let mut child = start("abort", dir.path());
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
