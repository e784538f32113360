//! How long a pipeline takes to be read, checked and planned; what a stage costs that does nothing; what one transition costs beside
//! one commit; what a step that writes without end does to memory; how long questions take when there are 100,000 runs.
//!
//! `cargo bench --bench pipelines [-- plan|schedule|log|records]`. Figures are ratios to a floor in the same run where there is one. What is
//! promised of them is asked of a release build: it fails where it is not so.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::contract::Future;
use masterchief::executors::{End, Executor, Executors, Hands, Step};
use masterchief::pipelines::{
    Ask, Asked, Asker, May, Pipelines, Prepared, Run, RunState, Settings, StageRun, StageState, parse,
};
use masterchief::store::runs::{DeploymentRow, PipelineRow, Put, RunRow, Runs, Span, StageRow, Which};
use serde_json::Value;

/// To read, check and plan takes so many times as long as to parse the YAML alone at most…
const PLANNED: f64 = 1.5;
/// …and ten times as many stages so many times as long at most: what grows with the square would take a hundred times.
const LINEAR: f64 = 20.0;
/// How often the same is read and planned; the fastest counts.
const ROUNDS: usize = 7;
/// A stage that does nothing costs so much of one commit at most, where a thousand are ready: 100 us where a commit takes 200.
const STAGE: f64 = 0.5;
/// A lone transition costs so many commits at most.
const LONE: f64 = 2.5;

/// Fails where a promise is not kept. All of them are ratios within one run, for machines differ; a debug build promises nothing.
fn promised(kept: bool, what: &str) {
    assert!(kept || cfg!(debug_assertions), "{what}");
}

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
    if wanted("records") {
        runtime.block_on(records());
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
    let mut ten = Duration::MAX;
    for stages in [1_000, 10_000, 100_000] {
        let text = graph(stages);
        let wide =
            serde_saphyr::options! { budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 16_000_000 } };
        let floor = best(|| {
            serde_saphyr::from_str_with_options::<serde_json::Value>(&text, wide.clone()).unwrap();
        });
        let took = best(|| {
            let pipeline = parse(Path::new("bench.yaml"), &text, &executors).unwrap();
            let order = pipeline.graph.order();
            let critical = pipeline.graph.critical(&vec![1.0; order.len()]);
            assert_eq!((order.len(), critical.0.len()), (stages, stages / 100));
        });
        println!(
            "plan {stages:>7} stages: read, checked, ordered, critical path in {took:.1?}; the YAML alone {floor:.1?}, ratio {:.1}",
            took.as_secs_f64() / floor.as_secs_f64()
        );
        match stages {
            10_000 => {
                ten = took;
                promised(took < floor.mul_f64(PLANNED), "planning takes longer than reading the file");
            }
            100_000 => promised(took < ten.mul_f64(LINEAR), "it does not grow with the stages alone"),
            _ => {}
        }
    }
}

/// The best of some rounds: what else the machine does only ever adds.
fn best(mut round: impl FnMut()) -> Duration {
    let took = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        round();
        begun.elapsed()
    });
    took.min().unwrap_or_default()
}

async fn schedule() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { folder: "".into(), pools: [("default".to_owned(), 100_000)].into(), ..Settings::default() };
    let bot = Bot::builder().executor("nop", Nothing).data(dir.path()).pipelines(settings).start().await.unwrap();
    let mut each = f64::MAX;
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
        let one = took.as_secs_f64() * 1e6 / f64::from(stages);
        println!("schedule {stages:>6} ready stages that do nothing, all durable: {took:.1?}, {one:.1} us each");
        if stages == 1_000 {
            each = each.min(one);
        }
    }
    let lone = lone(&bot).await;
    bot.stop("").await;
    let runs = Runs::open(Some(&dir.path().join("floor.db"))).unwrap();
    let begun = Instant::now();
    for n in 0..200 {
        runs.write(vec![Put::Place { app: format!("a{n}"), repo: None, env: "x".to_owned() }]).await.unwrap();
    }
    let floor = begun.elapsed().as_secs_f64() * 1e6 / 200.0;
    println!("floor: one commit takes {floor:.1} us (the run of one stage above makes five)");
    println!("a lone transition takes {lone:.1} us, {:.1} commits", lone / floor);
    println!("a stage of 1,000 that are ready takes {each:.1} us, {:.2} commits", each / floor);
    promised(each < STAGE * floor, "a stage that does nothing costs nearly a commit of its own");
    promised(lone < LONE * floor, "a lone transition costs more than a few commits");
}

/// How long one transition takes that nobody shares a commit with, in microseconds: runs that nobody confirmed are aborted, one by one.
async fn lone(bot: &Started) -> f64 {
    let text = "app: lone\npolicy: {environments: {dev: {}}}\nstages: {a: {nop: {}}}\n";
    bot.put_pipeline("lone", text).await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let ask = async |ask: Ask| {
        let asked = Asked { ask, who: Asker::program("bench"), may: May::all() };
        bot.pipelines().ask(asked).await.unwrap().run.unwrap()
    };
    let mut numbers = Vec::new();
    for _ in 0..200 {
        let prepared = Prepared { app: "lone".to_owned(), ..Prepared::default() };
        numbers.push(ask(Ask::Deploy(Box::new(prepared))).await);
    }
    let begun = Instant::now();
    for number in &numbers {
        ask(Ask::Abort(*number)).await;
    }
    begun.elapsed().as_secs_f64() * 1e6 / numbers.len() as f64
}

/// A step that writes a gigabyte, or `MASTERCHIEF_LOG_MB`: what is kept of it, and what the bot and the step's supervisor need
/// meanwhile. Neither may grow with what is written.
async fn log() {
    let megabytes: u64 = std::env::var("MASTERCHIEF_LOG_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let program = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = Bot::builder().data(dir.path()).supervisor(program).pipelines(settings).start().await.unwrap();
    let text = format!(
        "app: loud\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages: {{a: {{shell: [sh, -c, \"yes a line of a build that is not short | head -c {megabytes}000000\"]}}}}\n"
    );
    bot.put_pipeline("loud", &text).await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let before = resident("self");
    let begun = Instant::now();
    let prepared = Prepared { app: "loud".to_owned(), unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("bench"), may: May::all() };
    let number = bot.pipelines().ask(asked).await.unwrap().run.unwrap();
    let watch = tokio::spawn(async {
        loop {
            MOST.fetch_max(resident("self"), Ordering::Relaxed);
            SUPERVISOR.fetch_max(supervisor(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (run, _) = bot.pipelines().ended(number).await.unwrap().unwrap();
    watch.abort();
    assert_eq!(run.state, RunState::Succeeded);
    let (most, beside) = (MOST.load(Ordering::Relaxed), SUPERVISOR.load(Ordering::Relaxed));
    let folder = dir.path().join(format!("runs/{number}/a/1"));
    let kept: u64 = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum();
    println!(
        "log: {megabytes} MB in {:.1?}; the bot had {:.1} MB before and {:.1} MB at most, the supervisor {:.1} MB; {:.1} MB are kept",
        begun.elapsed(),
        before as f64 / 1e6,
        most as f64 / 1e6,
        beside as f64 / 1e6,
        kept as f64 / 1e6
    );
    assert!(most - before < 50_000_000 && beside < 50_000_000, "memory grows with what is written");
    bot.stop("").await;
}

/// So many runs are in the records.
const RUNS: i64 = 100_000;

/// A hundred thousand runs of ten apps in two environments: what the newest runs, what is where and who waits cost, also while
/// another task writes.
async fn records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let begun = Instant::now();
    {
        let runs = Runs::open(Some(&path)).unwrap();
        let mut puts = Vec::new();
        for n in 1..=RUNS {
            puts.extend(one_run(n));
            if n % 2000 == 0 {
                runs.write(std::mem::take(&mut puts)).await.unwrap();
            }
        }
    }
    let size = std::fs::metadata(&path).unwrap().len();
    println!("records: {RUNS} runs of 5 stages written in {:.1?}, {:.0} MB", begun.elapsed(), size as f64 / 1e6);
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let begun = Instant::now();
    let bot = Bot::builder().executor("nop", Nothing).data(dir.path()).pipelines(settings).start().await.unwrap();
    println!("records: a bot that begins with them is there in {:.1?}", begun.elapsed());
    let text =
        "app: app3\npolicy: {environments: {dev: {confirm: never}, prod: {confirm: never}}}\nstages: {a: {nop: {}}}\n";
    bot.put_pipeline("app3", text).await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let pipelines = bot.pipelines();
    asked(pipelines).await;
    bot.stop("").await;
}

/// The questions that are asked all day, with and without another who writes.
async fn asked(pipelines: &Pipelines) {
    for writing in [false, true] {
        let runs = pipelines.records().clone();
        let other = writing.then(|| {
            tokio::spawn(async move {
                for n in 0_i64.. {
                    let place = Put::Place { app: format!("w{n}"), repo: None, env: "x".to_owned() };
                    runs.write(vec![place]).await.unwrap();
                }
            })
        });
        let how = if writing { " while another writes" } else { "" };
        let of_one = |env: Option<&str>| Which {
            app: Some("app3".to_owned()),
            env: env.map(str::to_owned),
            limit: 20,
            ..Which::default()
        };
        timed(&format!("one run with its stages{how}"), async || {
            pipelines.run(RUNS / 2).await.unwrap().map_or(0, |_| 1)
        })
        .await;
        timed(&format!("the newest 20{how}"), async || {
            pipelines.list(Which { limit: 20, ..Which::default() }).await.unwrap().len()
        })
        .await;
        timed(&format!("the newest 20 of an app{how}"), async || pipelines.list(of_one(None)).await.unwrap().len())
            .await;
        timed(&format!("the newest 20 of a place{how}"), async || {
            pipelines.list(of_one(Some("prod"))).await.unwrap().len()
        })
        .await;
        timed(&format!("who deployed what is where{how}"), async || pipelines.places("app3").await.unwrap().len())
            .await;
        timed(&format!("who waits{how}"), async || pipelines.queue("app3").await.unwrap().len()).await;
        timed(&format!("the newest 20 deployments of a place{how}"), async || {
            pipelines.deployments(of_one(Some("prod"))).await.unwrap().len()
        })
        .await;
        timed(&format!("what came of runs by the day{how}"), async || {
            let month =
                pipelines.records().rollups(Span::Day, Some("app3"), 1_700_000_000_000 + (RUNS - 43_200) * 60_000);
            month.await.unwrap().len()
        })
        .await;
        timed(&format!("how long stages take{how}"), async || pipelines.stats("app3").await.unwrap().stages.len())
            .await;
        if let Some(other) = other {
            other.abort();
        }
    }
}

/// A run that ended, with its stages and what it brought.
fn one_run(number: i64) -> Vec<Put> {
    let (app, env) = (format!("app{}", number % 10), if number % 3 == 0 { "prod" } else { "dev" }.to_owned());
    let at = 1_700_000_000_000 + number * 60_000;
    let run = Run {
        number,
        app: app.clone(),
        env: env.clone(),
        state: RunState::Succeeded,
        version: format!("v{number}"),
        asker: Asker::program("ana"),
        created: at,
        started: Some(at),
        finished: Some(at + 60_000),
        ..Run::default()
    };
    let row = RunRow {
        number,
        pipeline: format!("p{app}"),
        app: app.clone(),
        env: env.clone(),
        kind: "deploy".to_owned(),
        state: "succeeded".to_owned(),
        ended: true,
        requester: "ana".to_owned(),
        created: at,
        started: Some(at),
        finished: Some(at + 60_000),
        detail: serde_json::to_string(&run).unwrap(),
        ..RunRow::default()
    };
    let version =
        PipelineRow { hash: format!("p{app}"), name: app.clone(), app: app.clone(), ..PipelineRow::default() };
    let live = DeploymentRow {
        app: app.clone(),
        env: env.clone(),
        run: number,
        at,
        validated: true,
        outputs: "{}".to_owned(),
        ..DeploymentRow::default()
    };
    let mut puts = vec![Put::Place { app, repo: None, env }, Put::Pipeline(version), Put::Run(row)];
    puts.extend((0..5).map(|n| {
        let name = format!("s{n}");
        let one = StageRun { name: name.clone(), state: StageState::Succeeded, attempt: 1, ..StageRun::default() };
        let detail = serde_json::to_string(&one).unwrap();
        let (started, ended) = (Some(at), Some(at + 1000 * (n + 1)));
        Put::Stage(StageRow {
            run: number,
            name,
            state: "succeeded".to_owned(),
            attempt: 1,
            started,
            ended,
            detail,
            ..StageRow::default()
        })
    }));
    puts.push(Put::Deployment(live));
    puts
}

/// How long a question takes, asked two hundred times.
async fn timed(what: &str, mut ask: impl AsyncFnMut() -> usize) {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        assert!(ask().await > 0, "{what} finds nothing");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    // The first question of all, one run by its number, is the floor.
    let floor = *FLOOR.get_or_init(|| times[100]);
    let ratio = times[100].as_secs_f64() / floor.as_secs_f64();
    println!("records: {what}: p50 {:.2?}, p99 {:.2?}, {ratio:.1} times the floor", times[100], times[198]);
}

/// What one run by its number takes.
static FLOOR: OnceLock<Duration> = OnceLock::new();
/// The most that the bot, and the supervisor of its step, had.
static MOST: AtomicU64 = AtomicU64::new(0);
static SUPERVISOR: AtomicU64 = AtomicU64::new(0);

/// Bytes of memory that a process has; none if it is gone.
fn resident(pid: &str) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Bytes of memory that the supervisors have which this process started.
fn supervisor() -> u64 {
    let own = std::process::id().to_string();
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent == Some(own.as_str())
    };
    pids.filter(ours).map(|pid| resident(&pid)).sum()
}
