//! Records of runs on a real PostgreSQL: a deployment from a channel, a bot that is killed, a server that goes away and comes back.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::gateway;
use masterchief::pipelines::{RunState, Settings};
use masterchief::store::runs::Records;
use serde_json::{Value, json};

use super::lab::Lab;
use super::person::{Heard, Person};
use super::postgresql::Postgresql;
use super::real::{bot_on, hello, joined};
use super::runs::masterchief;
use super::steps::eventually;

/// Three stages that write down that they ran; the second one waits for a file.
fn pipeline(folder: &Path) -> String {
    let at = folder.display();
    format!(
        "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  a: {{shell: [sh, -c, \"echo a >> {at}/ran\"]}}\n  b: {{needs: [a], shell: [sh, -c, \"echo b >> {at}/ran; until test -e {at}/go; do sleep 0.05; done\"]}}\n  c: {{needs: [b], shell: [sh, -c, \"echo c >> {at}/ran\"]}}\n"
    )
}

/// A project whose runs are recorded there; `network` is its part of the configuration.
fn project(url: &str, network: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["config/pipelines", "config/global"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let config = format!("data: data\npipelines: {{records: {{url: \"{url}\"}}}}\n{network}");
    std::fs::write(dir.path().join("config/global/config.yaml"), config).unwrap();
    std::fs::write(dir.path().join("config/pipelines/shop.yaml"), pipeline(dir.path())).unwrap();
    dir
}

fn start(project: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.arg("--config").arg(project).args(["run", "--no-console"]);
    let log = std::fs::File::options().create(true).append(true).open(project.join("bot.log")).unwrap();
    command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn ran(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Words of the bot about run 1.
fn about(line: &Heard) -> bool {
    line.from == "chief" && line.params.last().is_some_and(|words| words.contains("[1]"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_from_a_channel_is_recorded_on_postgresql_and_goes_on_after_kill_9() {
    let (lab, server) = (Lab::start(), Postgresql::start().await);
    let url = server.schema("shop").await;
    let network = format!(
        "networks:\n  lab:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    nick: chief\n    channels: [\"#ops\"]\n    pace: {{burst: 100, interval: 0s}}\n",
        lab.plain
    );
    let dir = project(&url, &network);
    let mut ana = Person::connect(lab.plain, "ana").await;
    ana.joins("#ops").await;
    let mut bot = start(dir.path());
    ana.sees_join("chief", "#ops").await;
    ana.says("#ops", "!deploy shop to dev");
    ana.hears("chief", "[1] shop").await;
    eventually("the second stage", async || ran(dir.path()) == ["a", "b"]).await;
    bot.kill().unwrap();
    bot.wait().unwrap();

    // The new one finds the run, although the server may still think that the old one is there.
    let mut bot = start(dir.path());
    ana.sees_join("chief", "#ops").await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    let line = ana.hears("chief", "is live on dev").await;
    assert!(line.starts_with("[1]"), "{line}");
    assert_eq!(ran(dir.path()), ["a", "b", "c"], "each stage ran once");
    assert!(!dir.path().join("data/runs.db").exists(), "nothing of it is in a file");
    eventually("the end of the run", async || {
        masterchief(dir.path(), &["--json", "runs", "show", "1"]).1.contains("\"succeeded\"")
    })
    .await;
    let told = masterchief(dir.path(), &["--json", "runs", "show", "1"]).1;
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|fault| panic!("{fault}: {told}"));
    assert_eq!((&told["run"]["state"], told["stages"].as_array().map(Vec::len)), (&json!("succeeded"), Some(3)));
    let unsaid = server.ask("shop", "SELECT dedupe FROM outbox WHERE sent IS NULL").await;
    assert!(unsaid.is_empty(), "what was to be said was said");
    assert_eq!(ana.count(|line| about(line) && line.params.iter().any(|words| words.contains("is live"))), 1);

    // A second bot with another folder does not take the records of one that is alive.
    let other = project(&url, "");
    let (code, said) = masterchief(other.path(), &["run", "--no-console"]);
    assert!(code == Some(1) && said.contains("has the records of runs; stop it"), "{code:?} {said}");

    bot.kill().unwrap();
    bot.wait().unwrap();
    commands(dir.path(), &server).await;
    moved(&server).await;
}

/// Runs that are in a file already are not forgotten, nor is their number given again.
async fn moved(server: &Postgresql) {
    let url = server.schema("moved").await;
    let dir = project(&url, "");
    std::fs::write(dir.path().join("go"), "").unwrap();
    let file = dir.path().join("config/global/config.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "data: data\n").unwrap();
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v1", "to", "dev"]);
    assert_eq!(code, Some(0), "{said}");
    std::fs::write(&file, config).unwrap();
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v2", "to", "dev"]);
    assert!(code == Some(1) && said.contains("`masterchief db move` takes them along"), "{code:?} {said}");
    let (code, said) = masterchief(dir.path(), &["db", "move"]);
    assert!(code == Some(0) && said.contains("PostgreSQL's database postgres on 127.0.0.1"), "{code:?} {said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v2", "to", "dev"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = masterchief(dir.path(), &["runs", "list"]);
    assert!(said.contains("shop/dev 2 v2") && said.contains("shop/dev 1 v1"), "{said}");
    let (code, said) = masterchief(dir.path(), &["audit", "verify"]);
    assert!(code == Some(0) && said.contains("each as it was written"), "{said}");
}

/// What looks after the records does it there, or says what does.
async fn commands(project: &Path, server: &Postgresql) {
    let (code, said) = masterchief(project, &["audit", "verify"]);
    assert!(code == Some(0) && said.contains("each as it was written"), "{said}");
    let (code, said) = masterchief(project, &["db", "migrate", "--check"]);
    assert!(code == Some(0) && said.contains("runs 0008_counter: done"), "{said}");
    let (code, said) = masterchief(project, &["db", "clean", "--dry-run"]);
    assert!(code == Some(0) && said.contains("would forget 0 runs"), "{said}");
    let (code, said) = masterchief(project, &["db", "rollback", "1"]);
    assert!(code == Some(1) && said.contains("pg_dump") && said.contains("--copied"), "{code:?} {said}");
    let (code, said) = masterchief(project, &["db", "rollback", "1", "--copied"]);
    assert!(code == Some(0) && said.contains("runs 0008_counter: taken back"), "{code:?} {said}");
    let table = "SELECT 1 FROM information_schema.tables WHERE table_name = 'counter'";
    assert!(server.ask("shop", table).await.is_empty());
    let (code, said) = masterchief(project, &["runs", "list"]);
    assert!(code == Some(1) && said.contains("do not have 0008_counter yet"), "{code:?} {said}");
    let (code, said) = masterchief(project, &["db", "migrate"]);
    assert!(code == Some(0) && said.contains("runs 0008_counter: done"), "{said}");
    let (code, said) = masterchief(project, &["db", "clean"]);
    assert!(code == Some(0) && said.contains("forgot 0 runs"), "{said}");
    let (_, said) = masterchief(project, &["runs", "list"]);
    assert!(said.contains("shop/dev 1"), "{said}");
    let (_, said) = masterchief(project, &["config", "show"]);
    assert!(said.contains("pipelines.records.url"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_while_postgresql_is_away_and_the_bot_talks_on() {
    let (lab, mut server) = (Lab::start(), Postgresql::start().await);
    let dir = tempfile::tempdir().unwrap();
    let records = Records { url: Some(Secret::new(server.url("public"))), insecure: false };
    let listen: gateway::Settings = serde_json::from_value(json!({"listen": "127.0.0.1:0"})).unwrap();
    let mut ana = Person::connect(lab.plain, "ana").await;
    ana.joins("#ops").await;
    let bot = hello(bot_on(&lab, "#ops"))
        .data(&dir.path().join("data"))
        .supervisor(Path::new(env!("CARGO_BIN_EXE_masterchief")))
        .pipelines(Settings { folder: "".into(), records, ..Settings::default() })
        .gateway(listen)
        .start()
        .await
        .unwrap();
    bot.put_pipeline("shop", &pipeline(dir.path())).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    joined(&bot, "#ops").await;
    let base = format!("http://{}", bot.gateway_at().unwrap());
    let ready = async || {
        let answer = reqwest::get(format!("{base}/health/ready")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready().await.0, 200);
    ana.says("#ops", "!deploy shop to dev");
    ana.hears("chief", "[1] shop").await;
    eventually("the second stage", async || ran(dir.path()) == ["a", "b"]).await;
    eventually("a stage that is written", async || {
        let (_, stages) = bot.pipelines().run(1).await.unwrap().unwrap();
        stages[1].started.is_some()
    })
    .await;

    server.stop().await;
    let (status, told) = ready().await;
    assert!(status == 503 && told.contains("the records of runs"), "{status} {told}");
    assert_eq!(reqwest::get(format!("{base}/health/live")).await.unwrap().status().as_u16(), 200);
    let said = ana.count(about);
    // The second stage ends, and that cannot be written.
    std::fs::write(dir.path().join("go"), "").unwrap();
    ana.says("#ops", "!hello");
    ana.hears("chief", "hi ana").await;
    let early = ana.waits_for(Duration::from_secs(2), about).await;
    assert!(early.is_none(), "nothing is told that is not committed: {early:?}");
    assert_eq!(ran(dir.path()), ["a", "b"], "and nothing is begun");
    assert_eq!(ready().await.0, 503);

    server.begin().await;
    ana.hears("chief", "is live on dev").await;
    let (run, stages) = bot.pipelines().ended(1).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
    assert!(stages.iter().all(|stage| stage.attempt == 1), "it waited, and did not fail: {stages:#?}");
    assert_eq!(ran(dir.path()), ["a", "b", "c"]);
    eventually("readiness", async || ready().await.0 == 200).await;
    let live = |line: &Heard| about(line) && line.params.iter().any(|words| words.contains("is live"));
    assert!(ana.count(live) == 1 && ana.count(about) > said);
    let ends = "SELECT seq FROM event WHERE run = 1 AND kind = 'run' AND data LIKE '%succeeded%'";
    assert_eq!(server.ask("public", ends).await.len(), 1, "it ended once");
    bot.stop("").await;
}
