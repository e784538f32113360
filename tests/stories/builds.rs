//! Builds of Jenkins as stages of a run: what they tell of themselves over HTTP, and that an abort is heard at once.

use std::path::Path;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::executors::{Class, End};
use masterchief::gateway;
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, Settings};
use serde_json::{Value, json};

use super::jenkins::{Double, TOKEN, marked, text};
use super::steps::{eventually, failed};

const CI: &str = "a-token-of-the-ci-server";

/// A bot with a gateway, and these stages for the app `shop`.
async fn bot(double: &Double, data: &Path, stages: &str) -> Started {
    let gateway: gateway::Settings =
        serde_json::from_value(json!({"listen": "127.0.0.1:0", "tokens": {"ci": {"token": CI, "flags": "D"}}}))
            .unwrap();
    let bot = Bot::builder()
        .data(data)
        .supervisor(Path::new(env!("CARGO_BIN_EXE_masterchief")))
        .executor_settings(double.settings(json!({"token": TOKEN})))
        .pipelines(Settings { folder: "".into(), ..Settings::default() })
        .gateway(gateway);
    let bot = bot.start().await.unwrap();
    let text = format!("app: shop\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages:\n{stages}");
    bot.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let prepared = Prepared { app: "shop".to_owned(), unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("test"), may: May::all() };
    bot.pipelines().ask(asked).await.unwrap();
    bot
}

async fn post(bot: &Started, path: &str, token: &str, body: Value) -> u16 {
    let url = format!("http://{}/pipelines/{path}", bot.gateway_at().unwrap());
    let sent = reqwest::Client::new().post(url).bearer_auth(token).body(body.to_string()).send().await.unwrap();
    sent.status().as_u16()
}

async fn log(bot: &Started, stage: &str) -> String {
    bot.pipelines().tail(1, Some(stage), 1000).await.map(|(_, lines)| lines.join("\n")).unwrap_or_default()
}

fn job(more: Value) -> Value {
    let key = json!({"name": "MC_TOKEN", "type": "PasswordParameterDefinition"});
    let mut job = marked(json!({"parameters": [text("MC_RUN_ID"), key], "hold": true}));
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

/// The parameters of the first build of a job, once it runs.
async fn params(double: &Double, job: &str) -> Value {
    let of = async || {
        let state = double.state().await;
        let builds = state["builds"].as_array().unwrap();
        builds.iter().find(|one| one["job"] == job).map(|one| one["params"].clone())
    };
    eventually("the build", async || of().await.is_some()).await;
    of().await.unwrap()
}

#[tokio::test]
async fn a_build_tells_how_it_goes_with_a_token_that_is_good_for_nothing_else_and_forgotten_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "hunter2-of-prod").unwrap();
    let jobs = json!({"image": job(json!({"steps": [[0, "the token is ${MC_TOKEN}"]]}))});
    let double = Double::start(jobs, json!({}));
    let stages = format!(
        "  other: {{shell: [sleep, \"60\"]}}\n  build: {{jenkins: {{job: image, stage_updates: true}}, env: {{KEY: \"${{file:{}/key}}\"}}}}\n",
        dir.path().display()
    );
    let bot = bot(&double, &dir.path().join("data"), &stages).await;
    let given = params(&double, "image").await;
    let token = given["MC_TOKEN"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    let deploys = json!({"stage": "Deploy", "status": "running", "text": "with hunter2-of-prod"});
    for _ in 0..2 {
        assert_eq!(post(&bot, "stage", &token, deploys.clone()).await, 202);
    }
    assert_eq!(post(&bot, "log", &token, json!({"run": given["MC_RUN_ID"], "line": "GET / 200"})).await, 202);
    eventually("the log", async || log(&bot, "build").await.contains("the token is")).await;
    let told = log(&bot, "build").await;
    assert_eq!(told.matches("Deploy running with ***").count(), 1, "{told}");
    assert!(told.contains("GET / 200") && told.contains("the token is ***"), "{told}");
    assert!(!told.contains(&token) && !told.contains("hunter2"), "{told}");
    assert!(!log(&bot, "other").await.contains("Deploy"), "it is told of the stage whose build it is");
    // One of the house's tokens is heard too, and means the stage that builds elsewhere.
    assert_eq!(post(&bot, "stage", CI, json!({"run": 1, "stage": "Smoke", "status": "running"})).await, 202);
    assert!(log(&bot, "build").await.contains("Smoke running"));
    for (path, body, status) in [
        ("stage", json!({"run": 2, "stage": "Deploy", "status": "done"}), 403),
        ("trigger", json!({"app": "shop"}), 401),
        ("1/abort", json!({}), 401),
    ] {
        assert_eq!(post(&bot, path, &token, body).await, status, "{path}");
    }
    double.control("release", json!({})).await;
    eventually("the end of the build", async || {
        let (_, stages) = bot.pipelines().run(1).await.unwrap().unwrap();
        stages.iter().any(|one| one.name == "build" && one.state.ended())
    })
    .await;
    assert_eq!(post(&bot, "stage", &token, json!({"stage": "Smoke", "status": "done"})).await, 401);
    let (_, stages) = bot.pipelines().run(1).await.unwrap().unwrap();
    assert!(!serde_json::to_string(&stages).unwrap().contains(&token));
    let left = std::process::Command::new("grep").args(["-rl", &token]).arg(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "the token is on the disk");
    bot.stop("").await;
}

#[tokio::test]
async fn a_token_is_the_same_after_a_restart_and_of_several_builds_the_one_that_is_named_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(json!({"image": job(json!({})), "docs": job(json!({}))}), json!({}));
    let stages = "  build: {jenkins: {job: image, stage_updates: true}}\n  docs: {jenkins: {job: docs}}\n";
    let bot1 = bot(&double, dir.path(), stages).await;
    let token = params(&double, "image").await["MC_TOKEN"].as_str().unwrap().to_owned();
    assert_eq!(params(&double, "docs").await.get("MC_TOKEN"), Some(&json!("")), "it did not ask for one");
    assert_eq!(post(&bot1, "stage", CI, json!({"run": 1, "stage": "Deploy", "status": "running"})).await, 422);
    assert_eq!(post(&bot1, "stage", CI, json!({"run": 1, "stage": "docs", "status": "running"})).await, 202);
    eventually("the note", async || log(&bot1, "docs").await.contains("docs running")).await;
    bot1.stop("").await;
    let bot2 = bot(&double, dir.path(), stages).await;
    eventually("the step", async || {
        post(&bot2, "stage", &token, json!({"stage": "Late", "status": "done"})).await == 202
    })
    .await;
    assert!(log(&bot2, "build").await.contains("Late done"));
    double.control("release", json!({})).await;
    bot2.stop("").await;
}

#[tokio::test]
async fn an_abort_is_heard_though_jenkins_gives_no_answer() {
    // A question, the log of a build, and the request for one: that one may have been taken, and is looked for.
    for (path, taken) in [("GET /job/image/api", false), ("progressiveText", true), ("buildWithParameters", true)] {
        let double = Double::start(json!({"image": marked(json!({"hold": true}))}), json!({}));
        double.control("fault", json!({"path": path, "how": "hang"})).await;
        let bench = double.bench();
        let step = bench.step(json!({"job": "image"}));
        let running = tokio::spawn(bench.executors["jenkins"].run(step, bench.hands()));
        eventually("the request", async || {
            double.state().await["requests"].to_string().contains(path.trim_start_matches("GET "))
        })
        .await;
        let told = Instant::now();
        bench.stop.send_replace(true);
        assert_eq!(running.await.unwrap(), End::Stopped, "{path}");
        assert!(told.elapsed() < Duration::from_secs(8), "{path}: it took {:?}", told.elapsed());
        let builds = double.state().await["builds"].clone();
        let results: Vec<&Value> = builds.as_array().unwrap().iter().map(|one| &one["result"]).collect();
        assert_eq!(results, if taken { vec!["ABORTED"] } else { vec![] }, "{path}");
    }
}

#[tokio::test]
async fn a_job_that_declares_no_parameter_for_a_token_gets_none() {
    let double = Double::start(json!({"image": marked(json!({"result": "UNSTABLE"}))}), json!({}));
    let bench = double.bench();
    let mut step = bench.step(json!({"job": "image", "stage_updates": true}));
    step.token = Some(masterchief::contract::Secret::new("a-token-of-a-step"));
    assert_eq!(failed(bench.run("jenkins", step).await).class, Class::TestFailed);
    assert!(bench.log().contains("declares no parameter MC_TOKEN"), "{}", bench.log());
    assert_eq!(double.state().await["builds"][0]["params"].get("MC_TOKEN"), None);
}

#[tokio::test]
async fn a_token_is_handed_over_where_jenkins_hides_it_and_nowhere_else() {
    for (kind, hides) in [
        ("StringParameterDefinition", false),
        ("TextParameterDefinition", false),
        ("PasswordParameterDefinition", true),
    ] {
        let declared = json!({"parameters": [text("MC_RUN_ID"), {"name": "MC_TOKEN", "type": kind}]});
        let double = Double::start(json!({"image": marked(declared)}), json!({}));
        let bench = double.bench();
        let mut step = bench.step(json!({"job": "image", "stage_updates": true}));
        step.token = Some(masterchief::contract::Secret::new("a-token-of-a-step"));
        let end = bench.run("jenkins", step).await;
        let builds = double.state().await["builds"].clone();
        if hides {
            assert_eq!(builds[0]["params"]["MC_TOKEN"], "a-token-of-a-step", "{end:?}");
            continue;
        }
        let failure = failed(end);
        assert_eq!(failure.class, Class::Config);
        assert!(failure.line.contains("MC_TOKEN is no Password parameter"), "{}", failure.line);
        assert_eq!(builds.as_array().map(Vec::len), Some(0), "nothing is begun that could show it");
    }
}
