//! What a stage leaves, well or not: counts of tests, outputs, files; and what one that needs no files leaves on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use masterchief::bot::{Bot, Started};
use masterchief::contract::Future;
use masterchief::executors::{Class, End, Executor, Hands, Step};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, Run, RunState, Settings, StageRun, StageState};
use serde_json::{Value, json};

use super::cluster::World;
use super::steps::eventually;

/// A bot with these stages for the app `shop`.
async fn bot(data: &Path, stages: &str) -> Started {
    started(Bot::builder(), data, stages).await
}

async fn started(bot: masterchief::bot::Builder, data: &Path, stages: &str) -> Started {
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = bot.data(data).supervisor(supervisor).pipelines(settings).start().await.unwrap();
    let text = format!("app: shop\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages:\n{stages}");
    bot.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    bot
}

async fn deploy(bot: &Started) -> (Run, Vec<StageRun>) {
    let number = ask(bot).await;
    bot.pipelines().ended(number).await.unwrap().unwrap()
}

async fn ask(bot: &Started) -> i64 {
    let prepared = Prepared { app: "shop".to_owned(), unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("test"), may: May::all() };
    bot.pipelines().ask(asked).await.unwrap().run.unwrap()
}

const CASES: &str = "<testsuite><testcase name='a'/><testcase name='b'/><testcase name='c'><failure message='expected 3, got 4, not hunter2-of-prod'/></testcase></testsuite>";

#[tokio::test]
async fn a_test_command_that_fails_says_which_tests_did_and_what_it_left_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "hunter2-of-prod").unwrap();
    std::fs::write(dir.path().join("cases.xml"), CASES).unwrap();
    let script = "mkdir out; cp $CASES out/junit.xml; echo notes > out/notes; echo image=shop:7 >> $MC_OUTPUT; echo Connection refused; exit 1";
    let stages = format!(
        "  test:\n    shell: [sh, -c, \"{script}\"]\n    env: {{KEY: \"${{file:{dir}/key}}\", CASES: \"{dir}/cases.xml\"}}\n    collect: {{junit: \"out/*.xml\", coverage: \"out/cov.xml\", artifacts: [\"out/notes\", \"out/none\"]}}\n    gate: \"failed == 0\"\n    outputs: {{tag: result.image}}\n",
        dir = dir.path().display()
    );
    let bot = bot(&dir.path().join("data"), &stages).await;
    let (run, stages) = deploy(&bot).await;
    assert_eq!(run.state, RunState::Failed);
    let failure = stages[0].failure.as_ref().unwrap();
    assert_eq!(failure.line, "2 passed, 1 failed: c: expected 3, got 4, not ***");
    assert_eq!((failure.class, failure.exit), (Class::TestFailed, Some(1)));
    let wanted = json!({"total": 3, "passed": 2, "failed": 1, "skipped": 0, "image": "shop:7", "tag": "shop:7"});
    assert_eq!(Value::Object(stages[0].outputs.clone()), wanted);
    let kept = bot.pipelines().records().artifacts(run.number).await.unwrap();
    assert_eq!(kept.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["out/notes"]);
    bot.stop("").await;
}

#[tokio::test]
async fn what_fails_before_its_tests_says_so_itself_whatever_an_earlier_attempt_reported() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cases.xml"), CASES).unwrap();
    let script =
        "if test $MC_ATTEMPT = 1; then cp $CASES out.xml; else echo 'shop.c:3:9: error: x undeclared'; fi; exit 1";
    let stages = format!(
        "  test: {{shell: [sh, -c, \"{script}\"], env: {{CASES: \"{}/cases.xml\"}}, collect: {{junit: \"*.xml\"}}, retry: {{times: 1, first: 1ms, on: [test_failed]}}}}\n",
        dir.path().display()
    );
    let bot = bot(&dir.path().join("data"), &stages).await;
    let (_, stages) = deploy(&bot).await;
    let failure = stages[0].failure.as_ref().unwrap();
    assert_eq!((failure.line.as_str(), stages[0].attempt), ("shop.c:3:9: error: x undeclared", 2));
    assert_eq!(failure.class, Class::Compile);
    assert_eq!(stages[0].outputs.get("failed"), None, "what an attempt gave that was made again is not kept");
    bot.stop("").await;
}

#[tokio::test]
async fn a_command_knows_what_it_runs_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo of=$MC_APP/$MC_ENV/$MC_SHA/$MC_REF/$MC_RUN/$MC_STAGE >> $MC_OUTPUT";
    let bot = bot(dir.path(), &format!("  test: {{shell: [sh, -c, \"{script}\"]}}\n")).await;
    let (_, stages) = deploy(&bot).await;
    assert_eq!(stages[0].outputs["of"], "shop/dev///1/test");
    bot.stop("").await;
}

/// Does nothing, with or without files; says what it is told to.
struct Idle {
    files: bool,
}

impl Executor for Idle {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            if let Some(words) = step.settings["says"].as_str() {
                hands.log.line(words);
            }
            End::done()
        })
    }

    fn works_with_files(&self) -> bool {
        self.files
    }
}

#[tokio::test]
async fn a_stage_that_needs_no_files_makes_no_folders_but_for_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Bot::builder().executor("idle", Idle { files: false }).executor("busy", Idle { files: true });
    let stages = "  silent: {idle: {}}\n  loud: {idle: {says: hello}}\n  works: {busy: {}}\n";
    let bot = started(builder, dir.path(), stages).await;
    assert_eq!(deploy(&bot).await.0.state, RunState::Succeeded);
    let run = dir.path().join("runs/1");
    assert!(!run.join("silent").exists());
    assert_eq!(std::fs::read_to_string(run.join("loud/1/log")).unwrap(), "hello\n");
    assert!(run.join("works/1").is_dir());
    let (_, lines) = bot.pipelines().tail(1, Some("silent"), 10).await.unwrap();
    assert_eq!(lines, Vec::<String>::new());
    bot.stop("").await;
}

/// Is lost with the bot the first time, and does its work the next.
#[derive(Clone)]
struct Lost {
    repeatable: bool,
    begun: Arc<AtomicU32>,
}

impl Executor for Lost {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, step: Step, _: Hands) -> Future<End> {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match (begun, step.attempt) {
                (0, _) => std::future::pending().await,
                (_, 1) => End::failed(Class::InfraLost, "it was lost with its supervisor"),
                _ => End::done(),
            }
        })
    }

    fn repeatable(&self) -> bool {
        self.repeatable
    }
}

#[tokio::test]
async fn what_was_lost_at_a_restart_is_done_again_where_that_does_no_harm_and_else_people_are_asked() {
    for (repeatable, wanted, attempts) in [(true, StageState::Succeeded, 2), (false, StageState::NeedsOperator, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let lost = Lost { repeatable, begun: Arc::default() };
        let stages = "  build: {lost: {}, retry: {times: 0, first: 1ms}}\n";
        let bot = started(Bot::builder().executor("lost", lost.clone()), dir.path(), stages).await;
        let number = ask(&bot).await;
        eventually("the start", async || lost.begun.load(Ordering::Relaxed) == 1).await;
        bot.stop("").await;
        let bot = started(Bot::builder().executor("lost", lost.clone()), dir.path(), stages).await;
        let stage = async || bot.pipelines().run(number).await.unwrap().unwrap().1.remove(0);
        eventually("its end", async || stage().await.state == wanted).await;
        assert_eq!(stage().await.attempt, attempts);
        let events = bot.pipelines().records().events(number).await.unwrap();
        let lost: Vec<bool> = events.iter().map(|event| event.data.contains("\"to\":\"lost\"")).collect();
        assert_eq!(lost.iter().filter(|lost| **lost).count(), 1, "{events:#?}");
        bot.stop("").await;
    }
}

#[tokio::test]
async fn a_retry_goes_on_where_the_attempt_before_it_left_off() {
    let dir = tempfile::tempdir().unwrap();
    let script = "done=0; read done < $MC_CHECKPOINT; echo began=$done >> $MC_OUTPUT; for part in 1 2 3; do if test $part -gt $done; then echo $part >> parts; echo $part > $MC_CHECKPOINT; fi; if test $part$MC_ATTEMPT = 21; then echo 'Connection refused'; exit 1; fi; done";
    let stages = format!(
        "  copy: {{shell: [sh, -c, \"{script}\"], retry: {{times: 1, first: 1ms}}, collect: {{artifacts: [parts]}}}}\n"
    );
    let bot = bot(dir.path(), &stages).await;
    let (run, stages) = deploy(&bot).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 2), "{stages:#?}");
    assert_eq!(stages[0].outputs["began"], 2, "the checkpoint of the first attempt");
    let parts = std::fs::read_to_string(dir.path().join("runs/1/copy/2/artifacts/parts")).unwrap();
    assert_eq!(parts, "1\n2\n3\n", "each part once");
    bot.stop("").await;
}

#[tokio::test]
async fn a_rollout_that_takes_too_long_says_whose_limit_it_was_and_what_ails_its_pods() {
    let (world, dir) = (World::new(2), tempfile::tempdir().unwrap());
    let stages =
        "  rollout: {timeout: 9s, kubernetes: {context: prod, deployment: shop, image: \"registry/shop:bad\"}}\n";
    let bot = started(Bot::builder().executor_settings(world.settings.clone()), dir.path(), stages).await;
    let (_, stages) = deploy(&bot).await;
    let failure = stages[0].failure.as_ref().unwrap();
    assert_eq!((failure.class, stages[0].state), (Class::Timeout, StageState::TimedOut));
    let line = &failure.line;
    assert!(
        line.starts_with("rollout took longer than its 9s, last: ") && line.ends_with("CrashLoopBackOff x4"),
        "{line}"
    );
    bot.stop("").await;
}

const GOOD: &str = "<testsuite><testcase name='a'/></testsuite>";

/// A stage that copies the report of its suite to where its instances all write, or to where only they do.
fn suites(dir: &Path, glob: &str, out: &str) -> String {
    std::fs::write(dir.join("unit.xml"), GOOD).unwrap();
    std::fs::write(
        dir.join("api.xml"),
        GOOD.replace("<testcase name='a'/>", "<testcase name='b'/><testcase name='c'/>"),
    )
    .unwrap();
    let script = format!(
        "mkdir -p {out}; cp {dir}/{{matrix.suite}}.xml {out}/{{matrix.suite}}.xml; sleep 0.1",
        dir = dir.display()
    );
    format!(
        "  test:\n    matrix: {{suite: [unit, api]}}\n    shell: [sh, -c, \"{script}\"]\n    collect: {{junit: \"{glob}\"}}\n    gate: \"failed == 0\"\n"
    )
}

#[tokio::test]
async fn each_instance_of_a_matrix_has_the_reports_that_it_wrote_itself() {
    for (glob, out, turns) in [("out/*.xml", "out", true), ("{matrix.suite}/*.xml", "{matrix.suite}", false)] {
        let dir = tempfile::tempdir().unwrap();
        let bot = bot(&dir.path().join("data"), &suites(dir.path(), glob, out)).await;
        let (run, stages) = deploy(&bot).await;
        assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
        let mut told: Vec<(&str, &str)> = stages.iter().map(|one| (one.name.as_str(), one.summary.as_str())).collect();
        told.sort_unstable();
        assert_eq!(told, [("test[api]", "2 passed"), ("test[unit]", "1 passed")], "{glob}");
        let mut spans: Vec<_> = stages.iter().map(|one| (one.started.unwrap(), one.ended.unwrap())).collect();
        spans.sort_unstable();
        assert!(!turns || spans[0].1 <= spans[1].0, "nobody could tell whose a report is: {spans:?}");
        bot.stop("").await;
    }
}

#[tokio::test]
async fn an_attempt_that_went_well_is_not_judged_by_what_an_earlier_one_reported() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cases.xml"), CASES).unwrap();
    std::fs::write(dir.path().join("good.xml"), GOOD).unwrap();
    let script =
        "if test $MC_ATTEMPT = 1; then cp $D/cases.xml first.xml; sleep 0.1; exit 1; fi; cp $D/good.xml second.xml";
    let stages = format!(
        "  test: {{shell: [sh, -c, \"{script}\"], env: {{D: \"{}\"}}, collect: {{junit: \"*.xml\"}}, gate: \"failed == 0\", retry: {{times: 1, first: 1ms, on: [test_failed]}}}}\n",
        dir.path().display()
    );
    let bot = bot(&dir.path().join("data"), &stages).await;
    let (run, stages) = deploy(&bot).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 2), "{stages:#?}");
    assert_eq!((&stages[0].outputs["total"], &stages[0].outputs["failed"]), (&json!(1), &json!(0)));
    bot.stop("").await;
}

#[tokio::test]
async fn reports_that_were_there_before_are_no_reports_of_a_stage() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("good.xml"), GOOD).unwrap();
    let stages = format!(
        "  old: {{shell: [cp, \"{}/good.xml\", out.xml]}}\n  wait: {{needs: [old], shell: [sleep, \"0.1\"]}}\n  test: {{needs: [wait], shell: [\"true\"], collect: {{junit: \"*.xml\"}}}}\n",
        dir.path().display()
    );
    let bot = bot(&dir.path().join("data"), &stages).await;
    let (run, stages) = deploy(&bot).await;
    assert_eq!(run.state, RunState::Failed);
    let failure = stages.iter().find(|one| one.name == "test").unwrap().failure.as_ref().unwrap();
    assert!(
        failure.class == Class::Config && failure.line.contains("only what was there before this attempt"),
        "{failure:?}"
    );
    bot.stop("").await;
}
