//! How long a pipeline takes to be read, checked and planned; what a stage costs that does nothing; what one transition costs beside
//! one commit; what a step that writes without end does to memory.
//!
//! `cargo bench --bench pipelines [-- plan|schedule|log]`. Figures are ratios to a floor in the same run where there is one.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Future;
use masterchief::executors::{End, Executor, Executors, Hands, Step};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings, parse};
use masterchief::store::runs::{Put, Runs};
use serde_json::Value;

/// Does nothing.
struct Nothing;

impl Executor for Nothing {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, _: Step, _: Hands) -> Future<End> {
        Box::pin(async { End::done() })
    }

    fn works_with_files(&self) -> bool {
        false
    }
}

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("plan") {
        plan();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if wanted("schedule") {
        runtime.block_on(schedule());
    }
    if wanted("log") {
        runtime.block_on(log());
    }
}

/// Layers of a hundred stages; each needs two of the layer before.
fn graph(stages: usize) -> String {
    let mut text = "policy: {environments: {dev: {confirm: never}}}\nstages:\n".to_owned();
    for n in 0..stages {
        let needs = if n < 100 {
            String::new()
        } else {
            format!("needs: [s{}, s{}], ", n - 100, n - n % 100 - 100 + (n + 1) % 100)
        };
        text.push_str(&format!(
            "  s{n}: {{{needs}when: \"environment == 'dev'\", nop: {{with: \"{{environment}}\"}}}}\n"
        ));
    }
    text
}

fn plan() {
    let executors: Executors = [("nop".to_owned(), Arc::new(Nothing) as Arc<dyn Executor>)].into();
    for stages in [1_000, 10_000, 100_000] {
        let text = graph(stages);
        let begun = Instant::now();
        let wide =
            serde_saphyr::options! { budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 16_000_000 } };
        let read: serde_json::Value = serde_saphyr::from_str_with_options(&text, wide).unwrap();
        let floor = begun.elapsed();
        drop(read);
        let begun = Instant::now();
        let pipeline = parse(Path::new("bench.yaml"), &text, &executors).unwrap();
        let order = pipeline.graph.order();
        let times = vec![1.0; order.len()];
        let critical = pipeline.graph.critical(&times);
        let took = begun.elapsed();
        assert_eq!((order.len(), critical.0.len()), (stages, stages / 100));
        println!(
            "plan {stages:>7} stages: read, checked, ordered, critical path in {took:.1?}; the YAML alone {floor:.1?}, ratio {:.1}",
            took.as_secs_f64() / floor.as_secs_f64()
        );
    }
}

async fn schedule() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { folder: "".into(), pools: [("default".to_owned(), 100_000)].into(), ..Settings::default() };
    let bot = Bot::builder().executor("nop", Nothing).data(dir.path()).pipelines(settings).start().await.unwrap();
    for stages in [1, 1_000, 1_000, 10_000] {
        let name = format!("flat{stages}");
        let mut text = format!("app: {name}\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages:\n");
        (0..stages).for_each(|n| text.push_str(&format!("  s{n}: {{nop: {{}}}}\n")));
        // The second time it is there already.
        let _ = bot.put_pipeline(&name, &text).await;
        let prepared = Prepared { app: name, unattended: true, ..Prepared::default() };
        let begun = Instant::now();
        let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("bench"), may: May::all() };
        let number = bot.pipelines().ask(asked).await.unwrap().run.unwrap();
        let (run, _) = bot.pipelines().ended(number).await.unwrap().unwrap();
        let took = begun.elapsed();
        assert_eq!(run.state, RunState::Succeeded);
        println!(
            "schedule {stages:>6} ready stages that do nothing, all durable: {took:.1?}, {:.1} us each",
            took.as_secs_f64() * 1e6 / f64::from(stages)
        );
    }
    bot.stop("").await;
    let runs = Runs::open(Some(&dir.path().join("floor.db"))).unwrap();
    let begun = Instant::now();
    for n in 0..200 {
        runs.write(vec![Put::Place { app: format!("a{n}"), repo: None, env: "x".to_owned() }]).await.unwrap();
    }
    println!(
        "floor: one commit takes {:.1} us (the run of one stage above makes five)",
        begun.elapsed().as_secs_f64() * 1e6 / 200.0
    );
}

/// A step that writes a gigabyte: what is kept of it, and what we need meanwhile.
async fn log() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let program = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = Bot::builder().data(dir.path()).supervisor(program).pipelines(settings).start().await.unwrap();
    let text = "app: loud\npolicy: {environments: {dev: {confirm: never}}}\nstages: {a: {shell: [sh, -c, \"yes a line of a build that is not short | head -c 1000000000\"]}}\n";
    bot.put_pipeline("loud", text).await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let before = resident();
    let begun = Instant::now();
    let prepared = Prepared { app: "loud".to_owned(), unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("bench"), may: May::all() };
    let number = bot.pipelines().ask(asked).await.unwrap().run.unwrap();
    let watch = tokio::spawn(async {
        let mut most = 0;
        loop {
            most = most.max(resident());
            tokio::time::sleep(Duration::from_millis(50)).await;
            MOST.store(most, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let (run, _) = bot.pipelines().ended(number).await.unwrap().unwrap();
    watch.abort();
    assert_eq!(run.state, RunState::Succeeded);
    let most = MOST.load(std::sync::atomic::Ordering::Relaxed);
    let folder = dir.path().join(format!("runs/{number}/a/1"));
    let kept: u64 = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum();
    println!(
        "log: 1 GB in {:.1?}; the bot had {:.1} MB before and {:.1} MB at most; {:.1} MB are kept",
        begun.elapsed(),
        before as f64 / 1e6,
        most as f64 / 1e6,
        kept as f64 / 1e6
    );
    bot.stop("").await;
}

static MOST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
