//! A bot that is killed while events flow, and what is counted then. The load program of this folder and the stories both use it:
//! each says how a program is started again as that bot.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::contract::{BindOptions, DeliveryOptions, Event, Order};
use masterchief::journal::DeadRow;

use super::outside::{self, Outside};

/// How often an event that aborts the process is tried.
pub(crate) const TRIES: u32 = 3;
/// How long whatever is left after the last kill may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// The most events that one round of a bind begins: so many are handled again after a kill, at most.
pub(crate) const ROUND: usize = 8192;

/// What is done to a bot.
pub(crate) struct Plan {
    pub(crate) kills: usize,
    pub(crate) events: usize,
    /// What each call takes.
    pub(crate) call: Duration,
    /// Whether each kill waits until its share of the events was handled; else it comes whenever it comes, also while a bot begins.
    pub(crate) in_the_midst: bool,
    /// Starts this program as the bot.
    pub(crate) start: fn(&str, &Path) -> Child,
}

/// What is counted of a source.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) once: usize,
    pub(crate) twice: usize,
    pub(crate) missing: usize,
    pub(crate) kills: usize,
    /// How many were handled again after a kill, at most.
    pub(crate) again: usize,
}

/// A bot on a folder.
pub(crate) async fn bot(source: &str, folder: &Path, aborts: bool) -> Started {
    let heard = OpenOptions::new().create(true).append(true).open(folder.join("heard")).expect("the folder is there");
    let heard = Arc::new(heard);
    let call = fs::read_to_string(folder.join("call")).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let handler = move |event: Event| {
        let heard = Arc::clone(&heard);
        async move {
            if event.text().contains("abort") && aborts {
                std::process::abort();
            }
            if call > 0 {
                tokio::time::sleep(Duration::from_millis(call)).await;
            }
            let line = number_in(event.text()).map(|number| format!("{number}\n")).unwrap_or_default();
            (&*heard).write_all(line.as_bytes())
        }
    };
    let delivery = DeliveryOptions {
        // Somebody may be killed that often while one and the same event is handled.
        max_attempts: if source == "abort" { TRIES } else { 50 },
        backoff: Duration::from_millis(1),
        order: Order::Lane,
        ..DeliveryOptions::default()
    };
    let options = BindOptions { delivery, ..BindOptions::default() };
    let (kind, mask) = outside::mask(source, folder);
    let bot = Bot::builder().data(&folder.join("data")).sources(outside::settings(source, folder));
    let bot = bot.gateway(outside::gateway(source, folder));
    let bot = bot.bind_with(kind, "-|-", &mask, options, handler).expect("the mask is good");
    bot.start().await.expect("the bot starts")
}

/// Runs a bot on the folder until it is killed, or nobody is left to do that.
pub(crate) fn child(source: &str, folder: &Path) {
    let parent = std::os::unix::process::parent_id();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let _started = bot(source, folder, true).await;
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}

/// The last number in a text.
fn number_in(text: &str) -> Option<&str> {
    text.rsplit(|letter: char| !letter.is_ascii_digit()).find(|digits| !digits.is_empty())
}

/// What was handled, in order.
fn heard(folder: &Path) -> Vec<usize> {
    let text = fs::read_to_string(folder.join("heard")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn once(heard: &[usize]) -> usize {
    heard.iter().collect::<HashSet<_>>().len()
}

fn is_gone(child: &mut Child) -> bool {
    child.try_wait().ok().flatten().is_some()
}

fn kill(child: &mut Child, folder: &Path) {
    assert!(
        !is_gone(child),
        "the bot ended by itself: {}",
        fs::read_to_string(folder.join("stderr")).unwrap_or_default()
    );
    child.kill().and_then(|()| child.wait()).expect("it runs");
}

/// Kills a bot again and again while events flow.
pub(crate) fn prove(source: &str, plan: &Plan) -> Count {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let folder = dir.path().to_owned();
    fs::create_dir(folder.join("in")).expect("a folder can be made");
    fs::write(folder.join("call"), plan.call.as_millis().to_string()).expect("there is room");
    // A bot that joins a group waits until who was killed is out of it; it is to get something done before it is killed.
    let longest = if source == "kafka" && !plan.in_the_midst { 3000 } else { 130 };
    let (ready, world) = mpsc::channel();
    let (heard_all, finished) = mpsc::channel::<()>();
    let flowing = {
        let (source, folder, events) = (source.to_owned(), folder.clone(), plan.events);
        // As many as the kills need: the writer takes about as long as they do.
        let pause = Duration::from_millis((longest / 2 + 20) * plan.kills as u64 / 100);
        std::thread::spawn(move || flow(&source, &folder, events, pause, (ready, finished)))
    };
    world.recv().expect("the world begins");
    let mut child = (plan.start)(source, &folder);
    let mut killed_at = Vec::new();
    while killed_at.len() < plan.kills {
        let share = plan.events * (killed_at.len() + 1) / (plan.kills + 1);
        let end = Instant::now() + PATIENCE;
        while plan.in_the_midst && once(&heard(&folder)) < share {
            assert!(Instant::now() < end, "{source}: {} of {share}", once(&heard(&folder)));
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(20 + random(longest)));
        kill(&mut child, &folder);
        killed_at.push(heard(&folder).len());
        child = (plan.start)(source, &folder);
    }
    world.recv().expect("the writer does not fail");
    let end = Instant::now() + PATIENCE;
    while once(&heard(&folder)) < plan.events && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    // What comes again comes soon.
    std::thread::sleep(Duration::from_millis(200));
    kill(&mut child, &folder);
    // It waits for this, or is gone.
    let _ = heard_all.send(());
    flowing.join().expect("the writer does not fail");
    let count = counted(&heard(&folder), plan.events, &killed_at);
    if count.missing > 0 {
        // Left for whoever looks for the reason.
        println!("{source}: {} are missing; see {}", count.missing, dir.keep().display());
    }
    count
}

fn counted(heard: &[usize], events: usize, killed_at: &[usize]) -> Count {
    let mut times: HashMap<usize, usize> = HashMap::new();
    let (mut again, mut most, mut kills) = (0, 0, killed_at.iter().peekable());
    for (at, number) in heard.iter().enumerate() {
        while kills.next_if(|kill| **kill <= at).is_some() {
            again = 0;
        }
        let time = times.entry(*number).or_default();
        *time += 1;
        again += usize::from(*time > 1);
        most = most.max(again);
    }
    Count {
        once: times.values().filter(|times| **times == 1).count(),
        twice: times.values().filter(|times| **times > 1).count(),
        missing: (0..events).filter(|number| !times.contains_key(number)).count(),
        kills: killed_at.len(),
        again: most,
    }
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
        // What we serve is asked for until everything is heard.
        let _ = tokio::task::spawn_blocking(move || finished.recv()).await;
    });
}

/// What came of a handler that aborts the process for one of twenty events.
#[derive(Debug)]
pub(crate) struct Aborted {
    /// Other events that were handled.
    pub(crate) others: usize,
    /// How often the bot had to be started.
    pub(crate) starts: usize,
    /// What is in the list of dead letters then.
    pub(crate) letters: Vec<DeadRow>,
}

/// A handler that aborts the process for the eighth of twenty events.
pub(crate) fn abort(start: fn(&str, &Path) -> Child) -> Aborted {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let folder = dir.path();
    fs::create_dir(folder.join("in")).expect("a folder can be made");
    let lines: String =
        (0..20).map(|number| if number == 7 { "abort\n".to_owned() } else { format!("{number}\n") }).collect();
    fs::write(folder.join("in/app.log"), lines).expect("there is room");
    let mut starts = 0;
    while once(&heard(folder)) < 19 && starts < 20 {
        starts += 1;
        let mut child = start("abort", folder);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && once(&heard(folder)) < 19 && !is_gone(&mut child) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It has ended by itself, or is done.
        let _ = child.kill();
        let _ = child.wait();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let letters = runtime.expect("a runtime can be made").block_on(async {
        let started = bot("abort", folder, false).await;
        let letters = started.journal().dead_letters(100).await.expect("the journal can be read");
        started.stop("").await;
        letters
    });
    Aborted { others: once(&heard(folder)), starts, letters }
}
