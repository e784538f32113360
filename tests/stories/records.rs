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

#[test]
fn databases_are_checked_cleaned_and_brought_up_to_date_from_a_shell() {
    let dir = project(SHELL);
    let (code, said) = masterchief(dir.path(), &["db", "migrate", "--check"]);
    assert!(code == Some(1) && said.contains("no bot has run here yet"), "{said}");
    std::fs::create_dir_all(dir.path().join("data")).unwrap();
    let old = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/fixtures/0001.sql"));
    let runs = dir.path().join("data/runs.db");
    rusqlite::Connection::open(&runs).unwrap().execute_batch(old).unwrap();
    for _ in 0..2 {
        let (code, said) = masterchief(dir.path(), &["db", "migrate", "--check"]);
        assert!(code == Some(1) && said.contains("runs 0001_runs: done"), "{said}");
        assert!(said.contains("runs 0002_logs_keys: to be done"), "a look changes nothing: {said}");
    }
    for words in
        [&["db", "clean", "--dry-run"][..], &["audit", "verify"], &["runs", "list"], &["runs", "artifacts", "1"]]
    {
        let (code, said) = masterchief(dir.path(), words);
        assert!(
            code == Some(1) && said.contains("`masterchief db migrate` brings them up to date"),
            "{words:?}: {said}"
        );
    }
    let (code, said) = masterchief(dir.path(), &["users", "list"]);
    assert!(code == Some(0) && !dir.path().join("data/masterchief.db").exists(), "a look makes nothing: {said}");
    let (_, said) = masterchief(dir.path(), &["db", "migrate", "--check"]);
    assert!(said.contains("runs 0002_logs_keys: to be done"), "whoever looks changes nothing: {said}");
    // Two runs are older than they are kept; what is live, and what has not ended, stays.
    rusqlite::Connection::open(&runs)
        .unwrap()
        .execute_batch("INSERT INTO run SELECT number + 10, pipeline, app, env, kind, state, ended, requester, idem_key, created, started, finished, detail FROM run")
        .unwrap();
    let (code, said) = masterchief(dir.path(), &["db", "migrate"]);
    assert!(code == Some(0) && said.contains("runs 0002_logs_keys: done") && said.contains("people 0001"), "{said}");
    assert_eq!(masterchief(dir.path(), &["db", "migrate", "--check"]).0, Some(0));
    std::fs::create_dir_all(dir.path().join("data/runs/11/test/1")).unwrap();
    std::fs::write(dir.path().join("data/runs/11/test/1/log"), "0123456789").unwrap();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("data/runs.db{end}")));
    }
    let before = std::fs::read(&runs).unwrap();
    for words in [&["runs", "list"][..], &["runs", "show", "1"], &["users", "list"], &["pipelines", "stats", "shop"]] {
        let (code, said) = masterchief(dir.path(), words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
    }
    // Its lines were made up.
    assert!(masterchief(dir.path(), &["audit", "verify"]).1.contains("L-1 is not as it was written"));
    let dry = masterchief(dir.path(), &["db", "clean", "--dry-run"]);
    assert!(std::fs::read(&runs).unwrap() == before, "the records are as they were");
    assert_eq!(
        dry,
        (Some(0), "would forget 1 run and 10 bytes of their logs and files; nothing is changed\n".to_owned())
    );
    assert!(dir.path().join("data/runs/11").exists());
    let (_, said) = masterchief(dir.path(), &["db", "clean"]);
    assert_eq!(said, "forgot 1 run and 10 bytes of their logs and files\n");
    assert!(!dir.path().join("data/runs/11").exists());
    rusqlite::Connection::open(&runs).unwrap().execute_batch("UPDATE schema_migration SET checksum = 'x'").unwrap();
    let (code, said) = masterchief(dir.path(), &["db", "migrate", "--check"]);
    assert!(code == Some(1) && said.contains("migration 0001_runs is not the one that made them"), "{said}");
}

#[test]
fn the_configuration_is_shown_with_the_place_of_each_value() {
    let dir = project(SHELL);
    let text = "data: data\nnetworks: {libera: {servers: [\"h\"], password: hunter2}}\n";
    std::fs::write(dir.path().join("config/global/config.yaml"), text).unwrap();
    let (code, said) = masterchief(dir.path(), &["config", "show"]);
    assert!(
        code == Some(0) && said.contains("global/config.yaml:1:7)") && said.contains("networks.libera.password = ***"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let (_, said) = masterchief(dir.path(), &["config", "show", "networks.libera.servers"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_demonstration_ships_fails_and_is_there_to_be_played_with() {
    let dir = tempfile::tempdir().unwrap();
    let shop = dir.path().join("shop");
    let (code, said) = masterchief(dir.path(), &["new", "--demo", &shop.display().to_string()]);
    assert!(code == Some(0) && said.contains("deploy --yes shop/v1 to prod"), "{said}");
    assert_eq!(masterchief(&shop, &["pipelines", "check"]).1.trim(), "all good: 1 pipeline");
    let (code, said) = masterchief(&shop, &["deploy", "--yes", "shop/v1", "to", "prod"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(std::fs::read_to_string(shop.join("live/prod/image")).unwrap(), "shop v1\n");
    let (code, said) = masterchief(&shop, &["deploy", "--yes", "shop/v2", "to", "prod"]);
    assert!(code == Some(1) && said.contains("missing env STRIPE_KEY"), "{said}");
}
