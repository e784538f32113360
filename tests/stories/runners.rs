//! Stages that name a runner: done by the bot itself or by another MasterChief of the mesh, over links that break and by bots that die.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Builder, CHANNEL, Started, TestBot};
use masterchief::executors::tail;
use masterchief::mesh::{Attribute, BotSettings, Mesh, Settings as MeshSettings, WORK};
use masterchief::pipelines::{
    Ask, Asked, Asker, DeployWords, May, Run, RunState, RunnerRow, RunnerSettings, Settings, StageRun, StageState,
};
use serde_json::{Map, Value, json};

use super::acted::Acted;
use super::checkout::Origin;
use super::cuts::Wire;
use super::deploys::builder;
use super::mesh_chiefs::{called, caller, named};
use super::retried::files;
use super::servers::free_port;
use super::steps::{alive, eventually, until};

const MINUTE: Duration = Duration::from_secs(60);

fn labels(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn doing(own: &[&str], slots: u32, accept: &[&str]) -> RunnerSettings {
    let patience = Duration::from_secs(20);
    RunnerSettings { labels: labels(own), slots, accept_from: labels(accept), patience, ..RunnerSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_stage_goes_only_to_a_runner_with_its_label_and_waits_for_one_that_has_it() {
    let acted = Acted::default();
    let test = TestBot::start(builder(&acted).runner(doing(&["build", "linux"], 1, &[]))).await.unwrap();
    let text = "app: shop\nparams: {os: {type: choice, of: [linux, plan9], default: linux}}\npolicy: {queue_timeout: 10m, environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  build: {runner: [build, \"{params.os}\"], acted: {takes: 60s}}\n  other: {runner: build, acted: {takes: 60s}}\n  train: {needs: [build, other], runner: gpu, acted: {}}\n";
    test.started().put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev started").await;
    test.advance(Duration::from_secs(90)).await;
    let done = acted.done();
    assert_eq!(done, ["build#1"], "there is one slot, and it is the other one's turn now");
    test.user("kim").says(CHANNEL, "!runners").await;
    test.expect(CHANNEL, "here (here): build, linux; 1 of 1 busy; 1 done, 0 failed").await;
    test.advance(Duration::from_secs(40)).await;
    let line = test.expect(CHANNEL, "[1] shop train waits for a runner with the label gpu: nobody has it").await;
    assert!(line.contains("it fails in 10m if none comes. !runners lists them"), "{line}");
    test.advance(11 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 -> dev FAILED in train").await;
    let line = stage(&test.started(), 1, "train").await.failure.unwrap().line;
    assert_eq!(line, "no runner came in time: it waits for a runner with the label gpu: nobody has it");
    assert_eq!(acted.done(), ["build#1", "other#1"]);
    test.user("kim").says(CHANNEL, "!deploy shop/v2 os=plan9").await;
    test.expect(CHANNEL, "waits for a runner with the labels build, plan9: nobody has it").await;
    super::deploys::stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_runner_cannot_do_is_refused_with_its_place() {
    let test = TestBot::start(builder(&Acted::default())).await.unwrap();
    let fault = async |stage: &str| {
        let text = format!("app: shop\npolicy: {{environments: {{dev: {{}}}}}}\nstages:\n  build: {stage}\n");
        let faults = test.started().put_pipeline("shop", &text).await.unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].to_string()
    };
    let told = fault("{http: {url: \"http://a.example\"}, runner: build}").await;
    assert!(
        told.contains("shop.yaml:4:")
            && told.contains("http is done by this bot itself; a runner does acted, scan, shell"),
        "{told}"
    );
    assert!(fault("{wait: 5m, runner: build}").await.contains("which no runner has to do"));
    assert!(fault("{shell: [make], runner: \"a b\"}").await.contains("is no label"));
    assert!(fault("{shell: [make], runner: []}").await.contains("write a label"));
    assert!(fault("{shell: [make], runner: \"{param.os}\"}").await.contains("asks for \"param.os\""));
    let collects = fault("{shell: [make], runner: build, collect: {junit: \"*.xml\"}}").await;
    assert!(collects.contains("those of a runner stay there"), "{collects}");
    assert!(fault("{shell: [\"{project}/x\"], runner: build}").await.contains("put the file into the repository"));
    test.stop().await;
}

/// A bot with real commands.
fn real() -> Builder {
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    Bot::builder().supervisor(supervisor).pipelines(Settings { folder: "".into(), ..Settings::default() })
}

/// A bot that does the work of One, at a port of its own.
async fn runner(name: &str, folder: &Path, port: u16, settings: RunnerSettings) -> Started {
    let begun = Instant::now();
    loop {
        let mesh = named(name, Some(port), &[("One", caller())]);
        match real().data(folder).mesh(mesh).runner(settings.clone()).start().await {
            // Between two bots the port is anybody's, and somebody else's call may have it for a moment.
            Err(fault) if format!("{fault:?}").contains("AddrInUse") && begun.elapsed() < Duration::from_secs(20) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            started => return started.unwrap(),
        }
    }
}

/// The mesh of One, who calls these.
fn calling(others: &[(&str, u16)]) -> MeshSettings {
    let others: Vec<(&str, BotSettings)> =
        others.iter().map(|(name, port)| (*name, called(*port, Attribute::Hub))).collect();
    named("One", None, &others)
}

async fn home(folder: &Path, others: &[(&str, u16)], pipeline: &str) -> Started {
    patient(folder, calling(others), pipeline, Duration::from_secs(20)).await
}

/// The same, which waits so long for a runner that is away.
pub(crate) async fn patient(folder: &Path, mesh: MeshSettings, pipeline: &str, patience: Duration) -> Started {
    let settings = RunnerSettings { patience, ..RunnerSettings::default() };
    let bot = real().data(folder).mesh(mesh).runner(settings).start().await.unwrap();
    bot.put_pipeline("shop", pipeline).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    bot
}

fn ana() -> Asker {
    Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), ..Asker::default() }
}

pub(crate) async fn asks(bot: &Started, ask: Ask) -> Option<i64> {
    bot.pipelines().ask(Asked { ask, who: ana(), may: May::all() }).await.unwrap().run
}

pub(crate) async fn deploy(bot: &Started) -> i64 {
    let words = DeployWords { app: "shop".to_owned(), ..DeployWords::default() };
    let prepared = bot.pipelines().prepare(words, Map::new(), (&ana(), &May::all())).await.unwrap();
    asks(bot, Ask::Deploy(Box::new(prepared))).await.unwrap()
}

pub(crate) async fn ended(bot: &Started, number: i64) -> (Run, Vec<StageRun>) {
    tokio::time::timeout(MINUTE, bot.pipelines().ended(number)).await.expect("it does not end").unwrap().unwrap()
}

pub(crate) async fn stage(bot: &Started, number: i64, name: &str) -> StageRun {
    let (_, stages) = bot.pipelines().run(number).await.unwrap().unwrap();
    stages.into_iter().find(|one| one.name == name).unwrap()
}

pub(crate) async fn row(bot: &Started, name: &str) -> Option<RunnerRow> {
    bot.pipelines().runners().await.0.into_iter().find(|row| row.name == name)
}

/// Ready when a runner is there for a bot.
pub(crate) async fn offers(bot: &Started, name: &str) {
    let there = async || row(bot, name).await.is_some_and(|row| row.there && !row.labels.is_empty());
    eventually(&format!("an offer of {name}"), there).await;
}

fn log(bot: &Started, number: i64, stage: &StageRun) -> Vec<String> {
    tail(&bot.pipelines().step_folder(number, stage), 1000)
}

pub(crate) const POLICY: &str = "policy: {environments: {dev: {confirm: never, rollback: never}}}";

#[tokio::test(flavor = "multi_thread")]
async fn another_bot_checks_out_the_same_commit_and_does_the_stage_and_its_lines_come_home() {
    let (origin, folders) = (Origin::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let sha = origin.commit("thing", "of the shop", "Sell a thing");
    let secret = folders[0].path().join("secret");
    std::fs::write(&secret, "hunter2-of-prod").unwrap();
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 2, &["One"])).await;
    let script = "cat thing; echo; git rev-parse HEAD; echo $TOKEN; test -d {workspace}; pwd > pwd; echo image=shop:7 >> $MC_OUTPUT; echo summary=412 passed >> $MC_OUTPUT";
    let text = format!(
        "app: shop\nrepo: {}\n{POLICY}\nannounce: {{progress: true}}\nstages:\n  test: {{runner: build, env: {{TOKEN: \"${{file:{}}}\"}}, shell: [sh, -c, \"{script}\"]}}\n  show: {{needs: [test], shell: [echo, \"{{test.image}}\"]}}\n",
        origin.path(),
        secret.display()
    );
    let acted = Acted::default();
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let own = builder(&acted).supervisor(supervisor).mesh(calling(&[("Two", port)])).runner(doing(&[], 1, &[]));
    let test = TestBot::start_in(folders[0].path(), own).await.unwrap();
    let one = test.started();
    one.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    offers(&one, "Two").await;
    test.user("kim").with_flags("+dD");
    test.user("kim").says(CHANNEL, "!deploy shop to dev").await;
    // Its repository is asked first.
    eventually("the run", async || one.pipelines().run(1).await.unwrap().is_some()).await;
    let (run, stages) = ended(&one, 1).await;
    assert_eq!((run.state, run.sha.as_str()), (RunState::Succeeded, sha.as_str()), "{stages:#?}");
    let told = log(&one, 1, &stages[0]);
    assert_eq!(told, ["of the shop", sha.as_str(), "***"], "each line once");
    assert_eq!(stages[0].outputs["image"], json!("shop:7"));
    assert_eq!(log(&one, 1, &stages[1]), ["shop:7"], "what the runner gave is known at home");
    let here = stages[1].runner.is_none();
    assert!(here && stages[0].runner.as_ref().is_some_and(|host| host.name == "Two" && !host.here));
    let said =
        || test.transcript().iter().any(|line| line.contains("[1] test ok on Two") && line.contains("412 passed"));
    until("the line in the channel", said).await;
    let (mut found, mut left) = (Vec::new(), Vec::new());
    files(folders[1].path(), &mut found);
    files(&folders[0].path().join("runs"), &mut left);
    assert!(
        found.iter().any(|path| path.ends_with("/workspace/pwd")) && !left.iter().any(|path| path.ends_with("/pwd"))
    );
    for path in found.iter().chain(&left) {
        let bytes = std::fs::read(path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{path} holds the secret");
    }
    let counted = row(&one, "Two").await.unwrap();
    assert_eq!((counted.busy, counted.slots, counted.done, counted.failed), (0, 2, 1, 0));
    eventually("its own count", async || row(&two, "Two").await.is_some_and(|row| row.done == 1 && row.busy == 0))
        .await;
    drop(one);
    test.stop().await;
    two.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_home_stops_it_there_and_leaves_no_process() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 1, &["One"])).await;
    let pid = folders[1].path().join("pid");
    let text = format!(
        "app: shop\n{POLICY}\nstages:\n  test: {{runner: build, shell: [sh, -c, \"sleep 300 & echo $! > {}; wait\"]}}\n",
        pid.display()
    );
    let one = home(folders[0].path(), &[("Two", port)], &text).await;
    offers(&one, "Two").await;
    let number = deploy(&one).await;
    until("the command", || alive(&pid)).await;
    assert_eq!(row(&one, "Two").await.unwrap().busy, 1);
    asks(&one, Ask::Abort(number)).await;
    let (run, stages) = ended(&one, number).await;
    assert_eq!((run.state, stages[0].state), (RunState::Cancelled, StageState::Cancelled));
    assert!(!alive(&pid), "nothing is left of it");
    one.stop("").await;
    two.stop("").await;
}

/// Writes a line twenty times a second, so many.
fn counting(lines: usize, more: &str) -> String {
    let script = format!(
        "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo end=$i >> $MC_OUTPUT"
    );
    format!("app: shop\n{POLICY}\nstages:\n  test: {{runner: build{more}, shell: [sh, -c, \"{script}\"]}}\n")
}

fn each_once(lines: usize) -> Vec<String> {
    (1..=lines).map(|number| format!("line {number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_loses_no_line_and_the_runner_goes_on() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 1, &["One"])).await;
    let wire = Wire::to(port).await;
    let one = home(folders[0].path(), &[("Two", wire.port)], &counting(60, "")).await;
    offers(&one, "Two").await;
    let number = deploy(&one).await;
    let has = async |lines: usize| log(&one, number, &stage(&one, number, "test").await).len() >= lines;
    eventually("its first lines", async || has(5).await).await;
    wire.cut(true);
    eventually("that it is away", async || row(&one, "Two").await.is_some_and(|row| !row.there)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.cut(false);
    let (run, stages) = ended(&one, number).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 1), "{stages:#?}");
    assert_eq!(log(&one, number, &stages[0]), each_once(60));
    assert_eq!(stages[0].outputs["end"], json!(60));
    one.stop("").await;
    two.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_gone_without_a_word_is_found_out_in_a_quarter_of_a_minute() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 1, &["One"])).await;
    let wire = Wire::to(port).await;
    let text =
        format!("app: shop\n{POLICY}\nstages:\n  test: {{runner: build, shell: [sh, -c, \"echo begun; sleep 60\"]}}\n");
    let one = patient(folders[0].path(), calling(&[("Two", wire.port)]), &text, Duration::ZERO).await;
    offers(&one, "Two").await;
    let number = deploy(&one).await;
    // What has not begun there may take longer to begin than what is under way to tell how it goes.
    eventually("its beginning", async || log(&one, number, &stage(&one, number, "test").await) == ["begun"]).await;
    // It is asked every ten seconds, and given four to answer. The link itself would be good for three minutes.
    wire.hold(true);
    let lost = async || {
        let attempts = one.pipelines().records().attempts(number).await.unwrap();
        attempts.first().is_some_and(|attempt| attempt.class.as_deref() == Some("infra_lost"))
    };
    eventually("that it is lost", lost).await;
    wire.hold(false);
    one.stop("").await;
    two.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_bots_may_be_started_anew_and_the_command_runs_once() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let settings = || doing(&["build"], 1, &["One"]);
    let two = runner("Two", folders[1].path(), port, settings()).await;
    let text = counting(100, "");
    let one = home(folders[0].path(), &[("Two", port)], &text).await;
    offers(&one, "Two").await;
    let number = deploy(&one).await;
    let first = stage(&one, number, "test").await;
    until("its first lines", || log(&one, number, &first).len() >= 5).await;
    one.stop("").await;
    two.stop("").await;
    let two = runner("Two", folders[1].path(), port, settings()).await;
    let one = home(folders[0].path(), &[("Two", port)], &text).await;
    let (run, stages) = ended(&one, number).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 1), "{stages:#?}");
    assert_eq!(log(&one, number, &stages[0]), each_once(100));
    one.stop("").await;
    two.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_does_not_accept_says_so_and_the_stage_waits_for_one_that_does() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 1, &["Other"])).await;
    let one = home(folders[0].path(), &[("Two", port)], &counting(1, "")).await;
    let refused = async || row(&one, "Two").await.is_some_and(|row| row.refuses.is_some());
    eventually("the refusal", refused).await;
    let why = row(&one, "Two").await.unwrap().refuses.unwrap();
    assert_eq!(why, "Two does no work for One; its runner.accept_from names for whom it does");
    let number = deploy(&one).await;
    eventually("that it waits", async || {
        stage(&one, number, "test").await.summary
            == "waits for a runner with the label build: nobody has it; Two does no work for us"
    })
    .await;
    asks(&one, Ask::Abort(number)).await;
    assert_eq!(ended(&one, number).await.0.state, RunState::Cancelled);
    one.stop("").await;
    two.stop("").await;
}

/// A step as it is asked for.
fn begin(epoch: i64, attempt: u32, script: &str) -> String {
    let key = json!({"run": 7, "stage": "test", "attempt": attempt, "begun": 1000 + attempt});
    let order = json!({"key": key, "executor": "shell", "settings": ["sh", "-c", script], "env": [], "hide": [], "memory": null,
        "cpu": null, "disk": null, "timeout": 60, "requester": "ana", "app": "shop", "environment": "dev", "sha": "", "reference": "",
        "repo": null, "checkpoint": null, "instance": null});
    json!({"epoch": epoch, "asked": {"begin": order}}).to_string()
}

async fn standing(mesh: &Mesh, text: &str) -> Value {
    let answer = mesh.own(&"Two".parse().unwrap(), WORK, text, Duration::from_secs(40)).await.unwrap();
    serde_json::from_str::<Value>(&answer).unwrap()["standing"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_twice_begins_once_and_who_was_replaced_is_not_heard() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let two = runner("Two", folders[1].path(), port, doing(&["build"], 1, &["One"])).await;
    let one = home(folders[0].path(), &[("Two", port)], &counting(1, "")).await;
    offers(&one, "Two").await;
    let (mesh, begun) = (one.mesh().unwrap(), folders[1].path().join("begun"));
    let script = format!("echo $$ >> {}; sleep 300", begun.display());
    let pids =
        || -> Vec<String> { std::fs::read_to_string(&begun).unwrap_or_default().lines().map(str::to_owned).collect() };
    let epoch = one.pipelines().epoch();
    let first = begin(epoch, 1, &script);
    let asked = tokio::join!(standing(mesh, &first), standing(mesh, &first), standing(mesh, &first));
    assert_eq!(asked, (json!("here"), json!("here"), json!("here")));
    until("the command", || pids().len() == 1).await;
    let old = standing(mesh, &begin(epoch - 1, 2, &script)).await;
    assert!(old["refused"].as_str().unwrap().contains("only that one speaks for its runs"), "{old}");
    // A later attempt ends the one before it; that one is not begun again.
    assert_eq!(standing(mesh, &begin(epoch, 2, &script)).await, json!("here"));
    until("the second", || pids().len() == 2).await;
    let is_alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(!is_alive(&pids()[0]));
    assert_eq!(standing(mesh, &first).await, json!("here"), "it has ended, and is known");
    // Nobody here wants it, so it is ended.
    until("that it is ended", || !is_alive(&pids()[1])).await;
    assert_eq!(pids().len(), 2);
    one.stop("").await;
    two.stop("").await;
}
