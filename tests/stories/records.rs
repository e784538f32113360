//! What is kept of runs, and what monitors are told of it: figures, databases that cannot be written, a log that nobody changes unseen.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::gateway;
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings};
use serde_json::{Value, json};

use super::acted::Acted;
use super::runs::{SHELL, masterchief, project};
use super::steps::eventually;

const SHOP: &str = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  test: {acted: {takes: 0s}}\n  rollout: {needs: [test], resources: {pool: hosts}, acted: {takes: 1s}}\n";

async fn bot(data: &Path) -> (Started, String) {
    let settings: gateway::Settings = serde_json::from_value(json!({"listen": "127.0.0.1:0"})).unwrap();
    let pools = [("hosts".to_owned(), 1)].into();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings { pools, ..Settings::default() });
    let bot = bot.gateway(settings).data(data).start().await.unwrap();
    bot.put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let base = format!("http://{}", bot.gateway_at().unwrap());
    (bot, base)
}

fn deploy() -> Asked {
    let prepared = Prepared { app: "shop".to_owned(), unattended: true, ..Prepared::default() };
    Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("test"), may: May::all() }
}

#[tokio::test]
async fn a_bot_whose_records_of_runs_cannot_be_written_is_not_ready_and_runs_wait_until_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let (bot, base) = bot(dir.path()).await;
    let ready = async || {
        let answer = reqwest::get(format!("{base}/health/ready")).await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, told) = ready().await;
    let names: Vec<&str> = told["checks"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((status, names), (200, vec!["journal", "people", "runs"]));
    // Somebody else holds the database.
    let other = rusqlite::Connection::open(dir.path().join("runs.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asking = {
        let pipelines = bot.pipelines().clone();
        tokio::spawn(async move { pipelines.ask(deploy()).await })
    };
    let (status, told) = ready().await;
    assert_eq!(
        (status, &told["checks"][1]["ok"], &told["checks"][2]["ok"]),
        (503, &json!(true), &json!(false)),
        "{told}"
    );
    assert!(told["checks"][2]["detail"].as_str().unwrap().contains("does not answer within 2 s"), "{told}");
    assert_eq!(reqwest::get(format!("{base}/health/live")).await.unwrap().status().as_u16(), 200);
    assert!(!asking.is_finished(), "what is not durable is not answered");
    other.execute_batch("ROLLBACK").unwrap();
    let number = asking.await.unwrap().unwrap().run.unwrap();
    let (run, _) = bot.pipelines().ended(number).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "it waited, and did not fail");
    eventually("readiness", async || ready().await.0 == 200).await;
    bot.stop("").await;
}

#[tokio::test]
async fn records_that_refuse_every_row_keep_runs_waiting_and_nothing_is_begun_that_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (bot, _) = bot(dir.path()).await;
    let other = rusqlite::Connection::open(dir.path().join("runs.db")).unwrap();
    other.execute_batch("CREATE TRIGGER full BEFORE INSERT ON run BEGIN SELECT RAISE(FAIL, 'disk full'); END").unwrap();
    let pipelines = bot.pipelines().clone();
    let asking = tokio::spawn(async move { pipelines.ask(deploy()).await });
    let waited = tokio::time::timeout(Duration::from_secs(1), asking);
    assert!(waited.await.is_err(), "it is neither begun nor refused");
    assert!(bot.pipelines().run(1).await.unwrap().is_none());
    other.execute_batch("DROP TRIGGER full").unwrap();
    eventually("the run", async || {
        bot.pipelines().run(1).await.unwrap().is_some_and(|(run, _)| run.state == RunState::Succeeded)
    })
    .await;
    bot.stop("").await;
}

#[tokio::test]
async fn monitors_are_told_of_pools_of_runs_by_state_and_of_how_long_stages_take_and_runs_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (bot, base) = bot(dir.path()).await;
    let number = bot.pipelines().ask(deploy()).await.unwrap().run.unwrap();
    let metrics = async || reqwest::get(format!("{base}/metrics")).await.unwrap().text().await.unwrap();
    eventually("a stage that holds a slot", async || {
        let text = metrics().await;
        text.contains("masterchief_pool_used{pool=\"hosts\"} 1")
            && text.contains("masterchief_runs{state=\"running\"} 1")
    })
    .await;
    assert!(metrics().await.contains("masterchief_pool_slots{pool=\"hosts\"} 1"));
    bot.pipelines().ended(number).await.unwrap();
    let text = metrics().await;
    for line in [
        "masterchief_pool_used{pool=\"hosts\"} 0",
        "masterchief_pool_waiting{pool=\"hosts\"} 0",
        "masterchief_runs{state=\"succeeded\"} 1",
        "masterchief_stage_seconds{app=\"shop\",stage=\"rollout\",quantile=\"0.95\"} 1",
        "masterchief_run_wait_seconds{app=\"shop\",quantile=\"0.5\"} 0",
        "masterchief_run_seconds{app=\"shop\",quantile=\"0.5\"} 1",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    assert!(!text.contains("state=\"running\""), "{text}");
    bot.stop("").await;
}

#[test]
fn a_line_of_the_incident_log_that_is_edited_and_an_end_that_is_cut_off_are_both_noticed() {
    let dir = project(SHELL);
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v2", "to", "dev"]);
    assert_eq!(code, Some(0), "{said}");
    let verify = || masterchief(dir.path(), &["audit", "verify"]);
    assert_eq!(verify().0, Some(0), "{}", verify().1);
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(dir.path().join("data/runs.db")).unwrap();
        db.execute_batch(sql).unwrap();
    };
    let kept = dir.path().join("kept.db");
    change(&format!("VACUUM INTO '{}'", kept.display()));
    let restore = || {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("data/runs.db{end}")));
        }
        std::fs::copy(&kept, dir.path().join("data/runs.db")).unwrap();
    };
    change("UPDATE incident SET text = 'nothing happened' WHERE id = 1");
    let (code, said) = verify();
    assert!(code == Some(1) && said.contains("L-1 is not as it was written"), "{said}");
    restore();
    assert_eq!(verify().0, Some(0));
    change("DELETE FROM incident WHERE id = (SELECT MAX(id) FROM incident)");
    let (code, said) = verify();
    assert!(code == Some(1) && said.contains("lines at its end are gone"), "{said}");
    // A bot that goes on with it does not make it good.
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v3", "to", "dev"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = verify();
    assert!(code == Some(1) && said.contains("is not as it was written"), "{said}");
    restore();
    change("DELETE FROM incident");
    assert_eq!(verify().0, Some(1), "{}", verify().1);
}

#[test]
fn a_shell_sees_how_long_stages_take_and_what_a_run_kept() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  build: {shell: [sh, -c, \"mkdir out; printf bytes > out/a.txt; echo built\"], collect: {artifacts: [\"out/*\"]}}\n";
    let dir = project(text);
    let (code, said) = masterchief(dir.path(), &["pipelines", "stats", "shop"]);
    assert!(code == Some(1) && said.contains("nothing was run here yet"), "{said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = masterchief(dir.path(), &["pipelines", "stats", "shop"]);
    assert!(code == Some(0) && said.contains("build: p50 ") && said.contains("waited for a turn: p50 "), "{said}");
    let (_, said) = masterchief(dir.path(), &["--json", "pipelines", "stats", "shop"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["stages"]["build"]["count"], &told["waited"]["count"]), (&json!(1), &json!(1)));
    let (code, said) = masterchief(dir.path(), &["runs", "artifacts", "1"]);
    assert!(code == Some(0) && said.starts_with("build/out/a.txt  5 bytes  "), "{said}");
    assert_eq!(masterchief(dir.path(), &["runs", "artifacts", "1", "build/out/a.txt"]), (Some(0), "bytes".to_owned()));
    let (code, said) = masterchief(dir.path(), &["runs", "artifacts", "1", "build/../log"]);
    assert!(code == Some(1) && said.contains("keeps no build/../log"), "{said}");
    let (_, said) = masterchief(dir.path(), &["pipelines", "advise", "shop"]);
    assert!(said.contains("the critical path is build"), "{said}");
    let (code, said) = masterchief(dir.path(), &["--json", "pipelines", "show", "shop"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &told["stages"][0]["name"], &told["stages"][0]["does"]),
        (Some(0), &json!("build"), &json!(["shell"]))
    );
    std::fs::write(dir.path().join("config/pipelines/bad.yaml"), "app: bad\nstages: {a: {needs: [b], shell: [x]}}\n")
        .unwrap();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert!(code == Some(1) && said.contains("bad.yaml:2:"), "{said}");
}
