//! Builds of Jenkins: stories against a double that python-jenkins, a client of other people, has tested first.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Settings};
use serde_json::{Map, Value, json};

use super::servers::program as tool;
use super::steps::{Bench, eventually, failed};

pub(crate) const TOKEN: &str = "11aabbccddeeff";
const PASSWORD: &str = "correct-horse";

/// The double, ended when dropped.
pub(crate) struct Double {
    child: Child,
    pub(crate) port: u16,
    prefix: String,
}

impl Double {
    /// One with these jobs; `more` goes over the other settings.
    pub(crate) fn start(jobs: Value, more: Value) -> Double {
        let mut config = json!({"users": {
            "bot": {"password": PASSWORD, "token": TOKEN}, "guest": {"token": TOKEN, "may_build": false}}});
        config["jobs"] = jobs;
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        let script = doubles().join("jenkins.py");
        let mut python = Command::new(tool("python3"));
        let mut child = python.arg(script).arg(file.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").unwrap().parse().unwrap();
        let prefix = config["prefix"].as_str().unwrap_or_default().to_owned();
        Double { child, port, prefix }
    }

    pub(crate) fn settings(&self, who: Value) -> Settings {
        let mut main = json!({"url": format!("http://127.0.0.1:{}{}/", self.port, self.prefix), "user": "bot"});
        for (key, value) in who.as_object().unwrap() {
            main[key] = value.clone();
        }
        serde_json::from_value(json!({"jenkins": {"main": main}})).unwrap()
    }

    pub(crate) fn bench(&self) -> Bench {
        Bench::new(&self.settings(json!({"token": TOKEN})))
    }

    pub(crate) async fn control(&self, what: &str, given: Value) -> Value {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://127.0.0.1:{}/_double/{what}", self.port);
        reqwest::Client::new().post(url).json(&given).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn state(&self) -> Value {
        self.control("state", json!({})).await
    }

    /// Requests that begin so.
    pub(crate) async fn requests(&self, begin: &str) -> usize {
        let state = self.state().await;
        state["requests"].as_array().unwrap().iter().filter(|one| one.as_str().unwrap().starts_with(begin)).count()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn doubles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doubles")
}

pub(crate) fn text(name: &str) -> Value {
    json!({"name": name, "type": "StringParameterDefinition"})
}

/// The settings of a job that takes TAG and tells our builds from others.
pub(crate) fn marked(more: Value) -> Value {
    let mut job = json!({"parameters": [text("TAG"), text("MC_RUN_ID")]});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn done(end: End) -> Map<String, Value> {
    match end {
        End::Done { outputs, .. } => outputs,
        other => panic!("{other:?}"),
    }
}

fn count(log: &str, line: &str) -> usize {
    log.lines().filter(|one| *one == line).count()
}

#[test]
fn the_double_is_proven_by_a_client_of_other_people() {
    let out = Command::new(tool("python3")).arg(doubles().join("prove_jenkins.py")).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "proven", "{errors}");
}

#[tokio::test]
async fn a_build_is_triggered_with_parameters_followed_and_its_outputs_come_back_without_a_secret_in_the_log() {
    let job = json!({
        "parameters": [text("TAG"), {"name": "PUSH_KEY", "type": "PasswordParameterDefinition"},
            {"name": "DRY", "type": "BooleanParameterDefinition"},
            {"name": "ENV", "type": "ChoiceParameterDefinition", "choices": ["dev", "prod"]}, text("MC_RUN_ID")],
        "quiet_ms": 2000,
        "steps": [[0, "image ${TAG} for ${ENV}, dry ${DRY}, run ${MC_RUN_ID}"],
            [300, "login with hunter2-of-prod"], [300, "no end\\c"]],
        "artifacts": {"out/mc-output.json": {"IMAGE": "shop:7"}, "report.txt": "fine"},
    });
    let double = Double::start(json!({"team shop/image": job}), json!({"prefix": "/ci"}));
    let mut bench = double.bench();
    bench.secrets.push(Secret::new("hunter2-of-prod"));
    let params = json!({"TAG": 7, "ENV": "prod", "DRY": true, "PUSH_KEY": "hunter2-of-prod"});
    let step = bench.step(json!({"job": "team shop/image", "server": "main", "params": params}));
    let outputs = done(bench.run("jenkins", step).await);
    assert_eq!(
        (&outputs["number"], &outputs["result"], &outputs["duration"]),
        (&json!(1), &json!("SUCCESS"), &json!(1))
    );
    assert_eq!(outputs["artifacts"], json!(["out/mc-output.json", "report.txt"]));
    assert_eq!(outputs["env"], json!({"IMAGE": "shop:7"}));
    assert_eq!(outputs["url"], format!("http://127.0.0.1:{}/ci/job/team%20shop/job/image/1/", double.port));
    let log = bench.log();
    for line in [
        "Started by user bot",
        "image 7 for prod, dry true, run 118/test/1",
        "login with ***",
        "no endFinished: SUCCESS",
    ] {
        assert_eq!(count(&log, line), 1, "{line}\n{log}");
    }
    assert!(!log.contains('\r') && !log.contains("hunter2") && !log.contains(TOKEN), "{log}");
    let told = bench.notes.told.lock().unwrap().clone();
    assert!(told[0].starts_with("in the queue of Jenkins: In the quiet period"), "{told:?}");
    assert_eq!(told[1..], ["build #1 runs"], "a countdown is told once");
    let noted = serde_json::to_string(&*bench.notes.noted.lock().unwrap()).unwrap();
    assert!(noted.starts_with(r#"[{"at":"posting""#) && !noted.contains("hunter2"), "{noted}");
    assert_eq!(double.requests("GET /ci/crumbIssuer").await, 0, "a token needs no crumb");
}

#[tokio::test]
async fn a_job_without_parameters_is_built_and_what_fails_is_named() {
    let steps = json!([[0, "shop.c:3:9: error: x undeclared"], [0, "make: *** [all] Error 2"]]);
    let jobs = json!({
        "bad": {"steps": steps, "result": "FAILURE"}, "shaky": {"result": "UNSTABLE"}, "none": {"result": "NOT_BUILT"},
        "odd": {"artifacts": {"mc-output.json": "[1]"}}, "off": {"buildable": false}});
    let double = Double::start(jobs, json!({}));
    let end = async |job: &str| {
        let bench = double.bench();
        failed(bench.run("jenkins", bench.step(json!({"job": job}))).await)
    };
    let failure = end("bad").await;
    assert_eq!(failure.line, "shop.c:3:9: error: x undeclared");
    assert_eq!(failure.world, [format!("build #1: http://127.0.0.1:{}/job/bad/1/", double.port)]);
    assert_eq!(end("shaky").await.class, Class::TestFailed);
    assert!(end("none").await.line.contains("built nothing"));
    assert!(end("odd").await.line.contains("mc-output.json of build #1 of odd is no JSON object"));
    assert!(end("off").await.line.starts_with("off cannot be built"));
    let failure = end("team/nothing").await;
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.contains("has no job team/nothing"), "{}", failure.line);
}

#[tokio::test]
async fn a_build_that_is_merged_into_a_queued_twin_is_followed_and_left_to_the_others_when_we_stop() {
    let job = json!({"parameters": [text("TAG")], "quiet_ms": 4000, "steps": [[0, "once"]]});
    let double = Double::start(json!({"twin": job}), json!({}));
    let settings = json!({"job": "twin", "params": {"TAG": "7"}});
    let (first, second, third) = (double.bench(), double.bench(), double.bench());
    let running = tokio::spawn(first.executors["jenkins"].run(first.step(settings.clone()), first.hands()));
    eventually("the first in the queue", async || first.log().contains("is in the queue of")).await;
    let merged = tokio::spawn(second.executors["jenkins"].run(second.step(settings.clone()), second.hands()));
    let stopped = tokio::spawn(third.executors["jenkins"].run(third.step(settings), third.hands()));
    eventually("the merge", async || third.log().contains("is merged into an equal build")).await;
    third.stop.send_replace(true);
    assert_eq!(stopped.await.unwrap(), End::Stopped);
    assert_eq!(done(running.await.unwrap())["number"], 1);
    assert_eq!(done(merged.await.unwrap())["number"], 1);
    assert!(second.log().contains("is merged into an equal build"), "{}", second.log());
    assert_eq!(double.state().await["builds"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_job_does_not_take_is_refused_before_anything_is_asked_for() {
    let double = Double::start(json!({"image": marked(json!({})), "plain": {}}), json!({}));
    for (job, params, says) in [
        ("image", json!({"TAGG": "7"}), "image: it has no parameter TAGG, only TAG; did you mean TAG?"),
        ("plain", json!({"TAG": "7"}), "plain: it has no parameter TAG: it takes none"),
    ] {
        let bench = double.bench();
        let failure = failed(bench.run("jenkins", bench.step(json!({"job": job, "params": params}))).await);
        assert_eq!((failure.class, failure.line.as_str()), (Class::Config, says));
        assert!(bench.notes.noted.lock().unwrap().is_empty());
    }
    assert_eq!(double.requests("POST").await, 0);
}

#[tokio::test]
async fn whoever_is_not_let_in_or_may_not_build_reads_which_key_to_look_at() {
    let double = Double::start(json!({"image": marked(json!({}))}), json!({}));
    let end = async |who: Value| {
        let bench = Bench::new(&double.settings(who));
        let failure = failed(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
        assert_eq!(failure.class, Class::Auth);
        assert!(!failure.line.contains("wrong-one") && !bench.log().contains("wrong-one"));
        failure.line
    };
    let host = format!("127.0.0.1:{}", double.port);
    assert_eq!(
        end(json!({"token": "wrong-one"})).await,
        format!("{host} does not accept the token of bot; check executors.jenkins.main.token")
    );
    assert_eq!(double.requests("").await, 1, "what is refused is not tried again");
    assert!(end(json!({"password": "wrong-one"})).await.contains("the password of bot"));
    assert!(
        end(json!({"user": "guest", "token": TOKEN})).await.contains("needs the permission hudson.model.Item.Build")
    );
}

#[tokio::test]
async fn a_password_comes_with_a_crumb_and_its_session_and_both_are_fetched_again_once() {
    let double = Double::start(json!({"image": marked(json!({"hold": true}))}), json!({}));
    let bench = Bench::new(&double.settings(json!({"password": PASSWORD})));
    let running = tokio::spawn(bench.executors["jenkins"].run(bench.step(json!({"job": "image"})), bench.hands()));
    eventually("the start", async || bench.log().contains("Building in workspace")).await;
    assert_eq!(double.requests("GET /crumbIssuer").await, 1);
    // The session ends on the server: the crumb is worth nothing any more.
    double.control("forget_sessions", json!({})).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    assert_eq!(double.requests("GET /crumbIssuer").await, 2);
    assert_eq!(double.requests("POST /job/image/1/stop").await, 2);
    assert_eq!(double.state().await["builds"][0]["result"], "ABORTED");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_said_in_one_sentence_and_soon() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let main = json!({"url": format!("http://127.0.0.1:{port}/"), "user": "bot", "token": TOKEN});
    let bench = Bench::new(&serde_json::from_value(json!({"jenkins": {"main": main}})).unwrap());
    let failure = failed(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
    let says = format!(
        "127.0.0.1:{port} cannot be reached: connection refused; check executors.jenkins.main.url and the network"
    );
    assert_eq!((failure.class, failure.line), (Class::Network, says));
}

#[tokio::test]
async fn lost_requests_fail_no_build_and_lose_no_line_but_a_server_that_stays_away_does() {
    let steps: Vec<Value> = (0..20).map(|n| json!([100, format!("line {n}")])).collect();
    let double = Double::start(json!({"image": marked(json!({"steps": steps, "quiet_ms": 400}))}), json!({}));
    for (path, how, times) in [
        ("queue/item", "close", 2),
        ("queue/item", "503", 1),
        ("progressiveText", "close", 1),
        ("progressiveText", "cut", 2),
        ("progressiveText", "502", 1),
        ("progressiveText", "401", 1),
    ] {
        double.control("fault", json!({"path": path, "how": how, "times": times})).await;
    }
    let bench = double.bench();
    done(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
    let log = bench.log();
    for n in 0..20 {
        assert_eq!(count(&log, &format!("line {n}")), 1, "{log}");
    }
    double.control("fault", json!({"path": "progressiveText", "how": "503", "times": 1000})).await;
    let bench = Bench::new(&double.settings(json!({"token": TOKEN, "patience": "2s"})));
    let failure = failed(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
    assert_eq!(failure.class, Class::Network);
    assert!(failure.line.ends_with("answers 503 Service Unavailable"), "{}", failure.line);
    assert!(failure.world[0].starts_with("the build may go on: http://"), "{:?}", failure.world);
}

#[tokio::test]
async fn an_abort_takes_a_queued_build_out_of_the_queue() {
    let double = Double::start(json!({"image": marked(json!({"quiet_ms": 60000}))}), json!({}));
    let bench = double.bench();
    let running = tokio::spawn(bench.executors["jenkins"].run(bench.step(json!({"job": "image"})), bench.hands()));
    eventually("the queue", async || bench.log().contains("In the quiet period")).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    let state = double.state().await;
    assert_eq!((&state["queue"], &state["builds"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn an_abort_ends_a_running_build_and_waits_until_it_has_ended() {
    let double = Double::start(json!({"image": marked(json!({"hold": true, "abort_ms": 1200}))}), json!({}));
    let bench = double.bench();
    let running = tokio::spawn(bench.executors["jenkins"].run(bench.step(json!({"job": "image"})), bench.hands()));
    eventually("the start", async || bench.log().contains("Building in workspace")).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    assert_eq!(double.state().await["builds"][0]["result"], "ABORTED");
}

#[tokio::test]
async fn what_somebody_ends_in_jenkins_is_called_cancelled() {
    let jobs = json!({"image": marked(json!({"hold": true})), "late": marked(json!({"quiet_ms": 60000}))});
    let double = Double::start(jobs, json!({}));
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", double.port);
    for (job, path, begun) in
        [("image", "job/image/1/stop", "Building in"), ("late", "queue/cancelItem?id=2", "In the quiet")]
    {
        let bench = double.bench();
        let running = tokio::spawn(bench.executors["jenkins"].run(bench.step(json!({"job": job})), bench.hands()));
        eventually("the start", async || bench.log().contains(begun)).await;
        reqwest::Client::new().post(url(path)).basic_auth("bot", Some(TOKEN)).send().await.unwrap();
        let failure = failed(running.await.unwrap());
        assert_eq!(failure.class, Class::Cancelled, "{}", failure.line);
    }
}

#[tokio::test]
async fn a_bot_that_starts_again_finds_its_build_in_the_queue() {
    let double = Double::start(json!({"image": marked(json!({"quiet_ms": 3000}))}), json!({}));
    let bench = double.bench();
    let settings = json!({"job": "image", "params": {"TAG": "7"}});
    let first = tokio::spawn(bench.executors["jenkins"].run(bench.step(settings.clone()), bench.hands()));
    eventually("the queue", async || bench.log().contains("In the quiet period")).await;
    first.abort();
    assert_eq!(done(bench.run("jenkins", bench.step(settings)).await)["number"], 1);
    assert_eq!(double.state().await["builds"].as_array().unwrap().len(), 1);
    assert_eq!(double.requests("POST").await, 1);
}

#[tokio::test]
async fn a_bot_that_starts_again_and_again_writes_every_line_of_a_running_build_once() {
    let mut steps: Vec<Value> = (0..40).map(|n| json!([100, format!("line {n}")])).collect();
    steps.insert(20, json!([0, ""]));
    steps.insert(25, json!([0, "the same"]));
    steps.insert(26, json!([0, "the same"]));
    let double = Double::start(json!({"image": marked(json!({"steps": steps}))}), json!({}));
    let bench = double.bench();
    let settings = json!({"job": "image"});
    for seen in ["line 3", "line 14", "line 26", "line 33"] {
        let run = tokio::spawn(bench.executors["jenkins"].run(bench.step(settings.clone()), bench.hands()));
        eventually(seen, async || count(&bench.log(), seen) > 0).await;
        run.abort();
        let _ = run.await;
    }
    done(bench.run("jenkins", bench.step(settings)).await);
    let log = bench.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let all: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, all, "{log}");
    assert_eq!((count(&log, "the same"), count(&log, "Finished: SUCCESS")), (2, 1), "{log}");
    assert_eq!(double.requests("POST").await, 1);
}

#[tokio::test]
async fn a_bot_that_died_between_the_request_and_its_note_finds_the_one_build_by_its_mark() {
    for (more, quiet) in [(json!({"quiet_ms": 3000}), true), (json!({"hold": true}), false)] {
        let double = Double::start(json!({"team/image": marked(more)}), json!({}));
        let bench = double.bench();
        let settings = json!({"job": "team/image", "params": {"TAG": "7"}});
        let first = tokio::spawn(bench.executors["jenkins"].run(bench.step(settings.clone()), bench.hands()));
        eventually("the request", async || bench.log().contains(if quiet { "In the quiet" } else { "Building in" }))
            .await;
        first.abort();
        let _ = first.await;
        bench.notes.noted.lock().unwrap().truncate(1);
        assert_eq!(bench.notes.noted.lock().unwrap()[0], json!({"at": "posting", "marked": true}));
        let again = tokio::spawn(bench.executors["jenkins"].run(bench.step(settings), bench.hands()));
        eventually("the find", async || bench.log().contains("is found again")).await;
        double.control("release", json!({})).await;
        assert_eq!(done(again.await.unwrap())["number"], 1);
        let state = double.state().await;
        assert_eq!(
            state["builds"],
            json!([{"job": "team/image", "number": 1, "result": "SUCCESS",
            "params": {"TAG": "7", "MC_RUN_ID": "118/test/1"}}])
        );
        assert_eq!(double.requests("POST /job").await, 1);
    }
}

#[tokio::test]
async fn a_bot_that_died_before_its_request_asks_now_and_without_a_mark_it_asks_people() {
    let double = Double::start(json!({"image": marked(json!({})), "plain": {}}), json!({}));
    let bench = double.bench();
    bench.notes.noted.lock().unwrap().push(json!({"at": "posting", "marked": true}));
    assert_eq!(done(bench.run("jenkins", bench.step(json!({"job": "image"}))).await)["number"], 1);
    let bench = double.bench();
    bench.notes.noted.lock().unwrap().push(json!({"at": "posting", "marked": false}));
    let End::Unsure(line) = bench.run("jenkins", bench.step(json!({"job": "plain"}))).await else { panic!() };
    assert!(line.contains("MC_RUN_ID") && line.contains("/job/plain/"), "{line}");
    assert_eq!(double.requests("POST /job/plain").await, 0);
}

#[tokio::test]
async fn a_build_whose_answer_is_lost_on_the_way_is_found_and_not_begun_twice() {
    let double = Double::start(json!({"image": marked(json!({"quiet_ms": 300}))}), json!({}));
    double.control("fault", json!({"path": "buildWithParameters", "how": "503"})).await;
    double.control("fault", json!({"path": "buildWithParameters", "how": "after"})).await;
    let bench = double.bench();
    assert_eq!(done(bench.run("jenkins", bench.step(json!({"job": "image"}))).await)["number"], 1);
    assert!(bench.log().contains("it is not known whether the build was taken"), "{}", bench.log());
    assert_eq!(double.requests("POST").await, 2, "the 503 did nothing and is tried again, the lost one is not");
    assert_eq!(double.state().await["builds"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_item_that_jenkins_has_forgotten_is_found_as_a_build() {
    // One that has our mark, and one that has nothing but the number of its item.
    for job in [marked(json!({"quiet_ms": 300})), json!({"quiet_ms": 300})] {
        let double = Double::start(json!({"image": job}), json!({"left_item_ms": 0}));
        let bench = double.bench();
        let outputs = done(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
        assert_eq!(outputs["number"], 1);
        assert!(bench.log().contains("does not know item 1 any more"), "{}", bench.log());
    }
    let double = Double::start(json!({"image": marked(json!({}))}), json!({}));
    let bench = double.bench();
    bench.notes.noted.lock().unwrap().push(json!({"at": "queued", "item": 77, "shared": false}));
    let failure = failed(bench.run("jenkins", bench.step(json!({"job": "image"}))).await);
    assert_eq!(failure.class, Class::InfraLost);
}
