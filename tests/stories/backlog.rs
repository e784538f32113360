//! Events behind a handler that does not let go, in a process of their own: they stay on disk. Then it lets go, and all are handled.
//! A million with `MASTERCHIEF_BACKLOG=1000000`.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{BindOptions, Event, Kind};
use masterchief_bindings::Settings;
use masterchief_bindings::log::{From, LogSettings};
use tokio::time::Instant;

use super::conformance::noise;

/// Where a program that is started again finds how many events there are, and where it tells how far it is.
const COUNT: &str = "count-of-the-backlog";
const TOLD: &str = "told";
/// It lets go once this is there.
const GO: &str = "go";
/// Letters of a line.
const WIDE: usize = 1024;
/// How long it may get on no further.
const STILL: Duration = Duration::from_secs(60);
/// Events that wait, unless the environment says how many. They do not compress.
const USUAL: u64 = 250_000;
/// The most memory it may take, in MiB, however many wait: of a bot with nothing to do some 60.
const MOST: u64 = 200;

/// A bot, killed with the test.
struct Born(Child);

impl Drop for Born {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Born {
    /// Starts this program again, with nothing but the test below.
    fn on(folder: &Path) -> Born {
        let log = fs::File::create(folder.join("stderr")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "backlog::a_bot_with_a_backlog", "--nocapture"]).current_dir(folder);
        Born(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// The most memory it ever took, in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

fn logs(folder: &Path) -> Settings {
    let log = LogSettings {
        path: folder.join("logs/*.log").display().to_string(),
        format: None,
        pattern: None,
        multi: None,
        from: From::Start,
        longest: None,
    };
    Settings { logs: vec![log], ..Settings::default() }
}

/// It is no story of its own: only in a folder that says how many events there are it is that bot, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_with_a_backlog() {
    let Ok(count) = fs::read_to_string(COUNT) else { return };
    let (count, folder) = (count.parse::<u64>().unwrap(), std::env::current_dir().unwrap());
    let parent = std::os::unix::process::parent_id();
    let (heard, wrong) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let handler = {
        let (heard, wrong) = (Arc::clone(&heard), Arc::clone(&wrong));
        let go = folder.join(GO);
        // Of each lane the next number that is to come.
        let next = Arc::<std::sync::Mutex<std::collections::HashMap<String, u64>>>::default();
        move |event: Event| {
            let (heard, wrong, next) = (Arc::clone(&heard), Arc::clone(&wrong), Arc::clone(&next));
            let go = go.clone();
            async move {
                while heard.load(Ordering::Relaxed) == 0 && !go.exists() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let mut next = next.lock().unwrap();
                let due = next.entry(event.lane.to_string()).or_default();
                let number = event.text().split(' ').next().and_then(|number| number.parse::<u64>().ok());
                wrong.fetch_add(u64::from(number != Some(*due)), Ordering::Relaxed);
                *due += 1;
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let bot = Bot::builder().data(&folder.join("data")).sources(logs(&folder));
    let mask = format!("{}/logs/*.log", folder.display());
    // However long it takes to write them: what takes too long is tried again later and later.
    let options = BindOptions { timeout: Some(Duration::from_secs(3600)), ..BindOptions::default() };
    let started = bot.bind_with(Kind::Log, "-|-", &mask, options, handler).unwrap().start().await.unwrap();
    while std::os::unix::process::parent_id() == parent {
        let streams = started.journal().streams().await.unwrap();
        let written: u64 = streams.iter().map(|stream| stream.events).sum();
        let told = format!("{written} {} {}", heard.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
        fs::write(folder.join("part"), told).unwrap();
        fs::rename(folder.join("part"), folder.join(TOLD)).unwrap();
        if heard.load(Ordering::Relaxed) >= count {
            // Whatever would come twice comes now.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many are in the journal, were handled, and were not the next of their lane.
fn told(folder: &Path) -> [u64; 3] {
    let text = fs::read_to_string(folder.join(TOLD)).unwrap_or_default();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Waits until one of the numbers is as high, for as long as it gets on.
async fn until(folder: &Path, which: usize, count: u64) {
    let (mut seen, mut since) = (0, Instant::now());
    while told(folder)[which] < count {
        let now = told(folder)[which];
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < STILL, "{now} of {count}: {}", fs::read_to_string(folder.join("stderr")).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lines in so many files wait, and are handled when the handler lets go.
async fn waits_on_disk(lanes: u64) {
    let all = std::env::var("MASTERCHIEF_BACKLOG").map_or(USUAL, |count| count.parse().unwrap());
    let lines = all / lanes;
    let (dir, count) = (tempfile::tempdir().unwrap(), lanes * lines);
    let folder = dir.path();
    // More of them than a compressor looks back.
    let noises: Vec<String> = (0..997).map(|number: u32| noise(&number.to_string(), WIDE)).collect();
    let mut noises = noises.iter().cycle();
    fs::create_dir(folder.join("logs")).unwrap();
    for lane in 0..lanes {
        let mut log = BufWriter::new(fs::File::create(folder.join(format!("logs/{lane}.log"))).unwrap());
        for number in 0..lines {
            let text = format!("{number} of {lane} ");
            writeln!(log, "{text}{}", &noises.next().unwrap()[text.len()..]).unwrap();
        }
        log.flush().unwrap();
    }
    fs::write(folder.join(COUNT), count.to_string()).unwrap();
    let born = Born::on(folder);
    until(folder, 0, count).await;
    assert_eq!(told(folder), [count, 0, 0], "all wait");
    let (waiting, began) = (born.memory(), Instant::now());
    fs::write(folder.join(GO), "").unwrap();
    until(folder, 1, count).await;
    let took = began.elapsed();
    println!("{count} events in {lanes} lanes: {waiting} MiB, {} MiB when all were handled in {took:?}", born.memory());
    assert_eq!(told(folder)[1..], [count, 0], "each once, in the order of its lane");
    assert!(born.memory() < MOST, "{waiting} MiB while they waited, {} MiB at most", born.memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_one_log_wait_on_disk_and_not_in_memory_and_are_handled_in_order_afterwards() {
    waits_on_disk(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_a_thousand_logs_wait_on_disk_and_not_in_memory_and_are_handled_in_order_afterwards() {
    waits_on_disk(1000).await;
}
