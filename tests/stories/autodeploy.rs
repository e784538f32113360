//! The ten points of an automatic deployment, from a line in a channel of a real server to pods that run, each with the real tool or a double
//! that its own client has proven: somebody asks, the bot takes it, Jenkins builds, after a checkout and tests with a gate, an image is built
//! and pushed, rolled out and looked at; all of it is tracked, and heard live in the channel and over a WebSocket.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use masterchief::bot::Started;
use masterchief::executors::Settings as ExecutorSettings;
use masterchief::gateway;
use masterchief::pipelines::Settings;
use masterchief::users::User;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::channel::comes;
use super::cluster::World;
use super::images::{Hub, PASSWORD};
use super::jenkins::{Double, TOKEN, text};
use super::lab::Lab;
use super::person::Person;
use super::real::{bot_on, joined};
use super::steps::until;

const EYE: &str = "the-token-that-only-looks";

fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args([
        "-c",
        "user.name=Raj",
        "-c",
        "user.email=raj@example.net",
        "-c",
        "init.defaultBranch=main",
    ]);
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with tests that say `failed` of three fail, and how much they covered.
fn repository(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let junit = "<testsuite><testcase name='a'/><testcase name='b'/><testcase name='c'>FAIL</testcase></testsuite>";
    let good = junit.replace("FAIL", "");
    let bad = junit.replace("FAIL", "<failure message='expected 3, got 4'/>");
    for (file, text) in [
        ("Dockerfile", "FROM scratch\nARG BUILT\nLABEL built=$BUILT\nCOPY version /version\n"),
        ("version", "1\n"),
        ("good.xml", &good),
        ("bad.xml", &bad),
        ("cov.xml", "<coverage line-rate=\"0.87\" lines-covered=\"87\" lines-valid=\"100\"></coverage>"),
        // As a runner of tests does: it says what failed in its report, and fails itself.
        ("test.sh", "mkdir -p out && cp \"$1.xml\" out/junit.xml && cp cov.xml out/cov.xml && test \"$1\" = good\n"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    git(folder, &["init", "-q"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "The shop"]);
}

/// A service that is well.
fn well() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    port
}

/// The pipeline: each stage needs the one before, and what that gave.
fn pipeline(repo: &Path, storage: &Path, at: &Path, well: u16) -> String {
    format!(
        r##"
app: shop
repo: {repo}
params:
  ref: {{ type: ref, default: main }}
  suite: {{ type: choice, of: [good, bad], default: good }}
policy:
  environments: {{ prod: {{ confirm: always, require_flag: D }} }}
announce: {{ progress: true, coalesce: 2s }}
defaults:
  timeout: 2m
  env: {{ CONTAINERS_STORAGE_CONF: "{storage}", TMPDIR: "{at}", HOME: "{at}" }}
stages:
  checkout: {{ git: {{ repo: "{{repo}}", ref: "{{ref}}" }}, idempotent: true }}
  test:
    needs: [checkout]
    shell: [sh, test.sh, "{{params.suite}}"]
    collect: {{ junit: "out/junit.xml", coverage: "out/cov.xml" }}
    gate: "failed == 0 && coverage >= 0.8"
  build:
    needs: [test]
    jenkins: {{ job: shop, params: {{ GIT_SHA: "{{checkout.sha}}" }}, stage_updates: true }}
  image:
    needs: [build]
    docker: {{ build: ".", image: shop, args: {{ BUILT: "{{build.env.BUILT}}" }}, tags: ["{{checkout.short}}", "{{run.number}}", latest, "{{environment}}-latest"], registry: hub, push: true }}
  rollout:
    needs: [image]
    kubernetes: {{ context: prod, deployment: shop, image: "{{image.image}}" }}
    health: {{ url: "http://127.0.0.1:{well}/health", expect: 200, times: 2, every: 100ms }}
    rollback: undo
"##,
        repo = repo.display(),
        storage = storage.display(),
        at = at.display(),
    )
}

/// The job of Jenkins: it takes the commit, tells of its stages, waits, and gives something back.
fn job() -> Value {
    let key = json!({"name": "MC_TOKEN", "type": "PasswordParameterDefinition"});
    let given = json!({"mc-output.json": {"BUILT": "by-jenkins"}});
    json!({"parameters": [text("GIT_SHA"), text("MC_RUN_ID"), key], "steps": [[0, "compiling ${GIT_SHA}"]], "hold": true, "artifacts": given})
}

/// All that is told of runs over a WebSocket: `build running`, `run succeeded`.
async fn listens(bot: &Started) -> Arc<Mutex<Vec<String>>> {
    let host = bot.gateway_at().unwrap().to_string();
    let mut request = format!("ws://{host}/pipelines/ws?app=shop").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {EYE}").parse().unwrap());
    let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let news: Value = serde_json::from_str(&text).unwrap();
            let of = |key: &str| news[key].as_str().unwrap_or_default().to_owned();
            let line = match news["stage"].as_str() {
                Some(stage) => format!("{stage} {} {}", of("stage_state"), of("text")),
                None => format!("run {}", of("state")),
            };
            hears.lock().unwrap().push(format!("{} {}", news["run"], line.trim()));
        }
    });
    heard
}

/// What the double knows of its only build so far, once it runs.
async fn build(all: &Factory, ana: &Person) -> Value {
    for _ in 0..1200 {
        if let Some(build) = all.jenkins.state().await["builds"].as_array().unwrap().first() {
            return build.clone();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("Jenkins builds nothing: {:#?}", ana.all_from("chief"));
}

/// The build tells of a stage of its own.
async fn tells(bot: &Started, build: &Value, stage: &str, status: &str) {
    let url = format!("http://{}/pipelines/stage", bot.gateway_at().unwrap());
    let token = build["params"]["MC_TOKEN"].as_str().unwrap();
    let told = json!({"run": build["params"]["MC_RUN_ID"], "stage": stage, "status": status});
    let sent = reqwest::Client::new().post(url).bearer_auth(token).body(told.to_string()).send().await.unwrap();
    assert_eq!(sent.status().as_u16(), 202);
}

/// Says what is to be deployed, and yes to the plan.
async fn deploys(ana: &mut Person, number: i64, words: &str) -> String {
    ana.says("#ops", words);
    let plan = ana.hears("chief", "shop -> prod: ").await;
    ana.hears("chief", &format!("ana: say \"!yes {number}\" within 2 min to start")).await;
    ana.says("#ops", &format!("!yes {number}"));
    ana.hears("chief", &format!("[{number}] shop main -> prod started by ana.")).await;
    plan
}

/// All servers and doubles, and a bot that knows them.
struct Factory {
    hub: Hub,
    world: World,
    jenkins: Double,
    data: tempfile::TempDir,
    bot: Started,
    _lab: Lab,
}

impl Factory {
    async fn opens() -> (Factory, Person) {
        let lab = Lab::with_services().await;
        let (hub, world) = (Hub::start().await, World::new(3));
        let jenkins = Double::start(json!({"shop": job()}), json!({}));
        let settings = ExecutorSettings {
            jenkins: jenkins.settings(json!({"token": TOKEN})).jenkins,
            registries: hub.settings(PASSWORD).registries,
            kubernetes: world.settings.kubernetes.clone(),
            ..ExecutorSettings::default()
        };
        let data = tempfile::tempdir().unwrap();
        let (repo, storage) = (data.path().join("shop.git"), data.path().join("storage.conf"));
        repository(&repo);
        let at = data.path().display();
        let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/images\"\nrunroot = \"{at}/running\"\n");
        std::fs::write(&storage, conf).unwrap();
        let pipeline = pipeline(&repo, &storage, data.path(), well());
        let ana = comes(&lab, "ana").await;
        let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
        let tokens = json!({"listen": "127.0.0.1:0", "tokens": {"eye": {"token": EYE}}});
        let gateway: gateway::Settings = serde_json::from_value(tokens).unwrap();
        let bot =
            bot_on(&lab, "#ops").data(&data.path().join("data")).supervisor(supervisor).executor_settings(settings);
        let bot = bot.pipelines(Settings { folder: "".into(), ..Settings::default() }).gateway(gateway);
        let bot = bot.start().await.unwrap();
        bot.put_pipeline("shop", &pipeline).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot.put_user(User::with_account("ana", "lab", "ana", "D").unwrap()).await.unwrap();
        joined(&bot, "#ops").await;
        (Factory { hub, world, jenkins, data, bot, _lab: lab }, ana)
    }

    fn running(&self) -> String {
        let image = self.world.deployment("shop")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        image.as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_points_from_a_channel_to_pods_that_run_and_a_gate_that_stops_what_is_bad() {
    let (all, mut ana) = Factory::opens().await;
    let (bot, repo) = (&all.bot, all.data.path().join("shop.git"));
    let heard = listens(bot).await;
    // 1 and 2: somebody asks, sees what it would be, and says yes to it.
    let plan = deploys(&mut ana, 1, "!deploy shop to prod").await;
    assert!(plan.contains("Plan: checkout, test, build, image, rollout."), "{plan}");
    // 3, 4, 5: checked out and tested, then Jenkins builds that commit and tells how it goes: there, here, and to who listens.
    let first = build(&all, &ana).await;
    let head = git(&repo, &["rev-parse", "HEAD"]);
    assert_eq!(first["params"]["GIT_SHA"], json!(head));
    tells(bot, &first, "Compile", "running").await;
    let said = |part: &str| ana.all_from("chief").iter().any(|line| line.starts_with("[1] ") && line.contains(part));
    until("the progress", || said("test ok") && said("(3 passed") && said("build: Compile running")).await;
    let told = |line: &str| heard.lock().unwrap().iter().any(|one| one.starts_with(line));
    until("the news", || told("1 test succeeded") && told("1 build running build: Compile running")).await;
    all.jenkins.control("release", json!({})).await;
    // 6, 7, 8: an image of it with its tags, pushed, and pods that run it.
    let line = ana.hears("chief", "[1] shop main is live on prod.").await;
    assert!(line.contains("critical path checkout>test>build>image>rollout"), "{line}");
    let image = format!("127.0.0.1:{}/team/shop", all.hub.port);
    assert_eq!(all.running(), format!("{image}:{}", &head[..7]));
    let inspected = all.hub.skopeo(&["inspect", &format!("docker://{image}:{}", &head[..7])]);
    assert_eq!(inspected["Labels"]["built"], "by-jenkins", "what one stage gives the next one takes: {inspected:#}");
    for tag in ["1", "latest", "prod-latest"] {
        assert_eq!(all.hub.skopeo(&["inspect", &format!("docker://{image}:{tag}")])["Digest"], inspected["Digest"]);
    }
    // 9: all of it is in the records.
    let (run, stages) = bot.pipelines().run(1).await.unwrap().unwrap();
    let output = |stage: &str, name: &str| stages.iter().find(|one| one.name == stage).unwrap().outputs[name].clone();
    assert_eq!((run.sha.as_str(), output("checkout", "author")), (head.as_str(), json!("Raj")));
    assert_eq!((output("test", "passed"), output("test", "coverage")), (json!(3), json!(0.87)));
    assert_eq!(output("build", "result"), json!("SUCCESS"));
    assert_eq!(output("rollout", "previous_image"), json!("registry/shop:6"));
    assert_eq!(output("image", "digest"), inspected["Digest"]);
    let pushed = bot.pipelines().records().images(None, 10).await.unwrap();
    assert!(pushed.iter().any(|row| row.digest == inspected["Digest"].as_str().unwrap()), "{pushed:#?}");
    // 10: and who listened heard every stage of it.
    until("the end", || told("1 run succeeded")).await;
    for stage in ["checkout", "test", "build", "image", "rollout"] {
        assert!(told(&format!("1 {stage} running")) && told(&format!("1 {stage} succeeded")), "{heard:#?}");
    }
    refused(&all, &mut ana, &repo).await;
    all.bot.stop("").await;
}

/// What the tests find goes nowhere.
async fn refused(all: &Factory, ana: &mut Person, repo: &Path) {
    let before = all.running();
    git(repo, &["commit", "-q", "--allow-empty", "-m", "Break the cart"]);
    let plan = deploys(ana, 2, "!deploy shop to prod suite=bad").await;
    assert!(plan.contains("1 commit by R"), "{plan}");
    let line = ana.hears("chief", "[2] shop main -> prod FAILED in test").await;
    assert!(line.contains("class: test-failed"), "{line}");
    ana.hears("chief", "2 passed, 1 failed: c: expected 3, got 4").await;
    let (run, _) = all.bot.pipelines().run(2).await.unwrap().unwrap();
    assert_eq!((run.commit_count, run.commits[0].subject.as_str()), (1, "Break the cart"));
    assert!(run.first_commit.is_some_and(|at| at <= run.created), "{:?}", run.first_commit);
    assert_eq!(all.running(), before);
    assert_eq!(all.jenkins.state().await["builds"].as_array().unwrap().len(), 1, "nobody builds it");
}
