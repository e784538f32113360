//! From a line in a channel of a real server to pods that run: checkout, tests with a gate, a Jenkins build, an image in a registry, a
//! rollout that is looked at, each with the real tool or a double that its own client has proven.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use masterchief::executors::Settings as ExecutorSettings;
use masterchief::pipelines::Settings;
use serde_json::json;

use super::cluster::World;
use super::images::{Hub, PASSWORD};
use super::jenkins::{Double, TOKEN};
use super::lab::Lab;
use super::person::Person;
use super::real::{bot_on, joined};

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

/// A repository with tests that say `failed` of three fail.
fn repository(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let junit = "<testsuite><testcase name='a'/><testcase name='b'/><testcase name='c'>FAIL</testcase></testsuite>";
    let good = junit.replace("FAIL", "");
    let bad = junit.replace("FAIL", "<failure message='expected 3, got 4'/>");
    for (file, text) in [
        ("Dockerfile", "FROM scratch\nCOPY version /version\n"),
        ("version", "1\n"),
        ("good.xml", &good),
        ("bad.xml", &bad),
        // As a runner of tests does: it says what failed in its report, and fails itself.
        ("test.sh", "mkdir -p out && cp \"$1.xml\" out/junit.xml && test \"$1\" = good\n"),
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

/// The pipeline: each stage needs the one before.
fn pipeline(repo: &Path, storage: &Path, at: &Path, well: u16) -> String {
    format!(
        r##"
app: shop
repo: {repo}
params:
  ref: {{ type: ref, default: main }}
  suite: {{ type: choice, of: [good, bad], default: good }}
policy:
  environments: {{ prod: {{ confirm: never, require_flag: "-" }} }}
defaults:
  timeout: 2m
  env: {{ CONTAINERS_STORAGE_CONF: "{storage}", TMPDIR: "{at}", HOME: "{at}" }}
stages:
  checkout: {{ git: {{ repo: "{{repo}}", ref: "{{ref}}" }}, idempotent: true }}
  test:
    needs: [checkout]
    shell: [sh, test.sh, "{{params.suite}}"]
    collect: {{ junit: "out/*.xml" }}
    gate: "failed == 0"
  build: {{ needs: [test], jenkins: {{ job: shop, params: {{ GIT_SHA: "{{checkout.sha}}" }} }} }}
  image: {{ needs: [build], docker: {{ build: ".", image: shop, tags: ["{{run.number}}", "{{environment}}-latest"], registry: hub, push: true }} }}
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

#[tokio::test(flavor = "multi_thread")]
async fn ten_points_from_a_channel_to_pods_that_run_and_a_gate_that_stops_what_is_bad() {
    let lab = Lab::start();
    let (hub, world) = (Hub::start().await, World::new(3));
    let text = |name: &str| json!({"name": name, "type": "StringParameterDefinition"});
    let job = json!({"parameters": [text("GIT_SHA"), text("MC_RUN_ID")], "steps": [[50, "compiling ${GIT_SHA}"]]});
    let jenkins = Double::start(json!({"shop": job}), json!({}));
    let settings = ExecutorSettings {
        jenkins: jenkins.settings(json!({"token": TOKEN})).jenkins,
        registries: hub.settings(PASSWORD).registries,
        kubernetes: world.settings.kubernetes.clone(),
        ..ExecutorSettings::default()
    };
    let data = tempfile::tempdir().unwrap();
    let repo = data.path().join("shop.git");
    repository(&repo);
    let storage = data.path().join("storage.conf");
    let at = data.path().display();
    let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/images\"\nrunroot = \"{at}/running\"\n");
    std::fs::write(&storage, conf).unwrap();
    let pipeline = pipeline(&repo, &storage, data.path(), well());
    let mut ana = Person::connect(lab.plain, "ana").await;
    ana.joins("#ops").await;
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = bot_on(&lab, "#ops").data(&data.path().join("data")).supervisor(supervisor).executor_settings(settings);
    let bot = bot.pipelines(Settings { folder: "".into(), ..Settings::default() }).start().await.unwrap();
    bot.put_pipeline("shop", &pipeline).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    joined(&bot, "#ops").await;

    ana.says("#ops", "!deploy shop to prod");
    ana.hears("chief", "[1] shop main -> prod started by").await;
    let line = ana.hears("chief", "[1] shop main is live on prod.").await;
    assert!(line.contains("critical path checkout>test>build>image>rollout"), "{line}");
    let (run, stages) = bot.pipelines().run(1).await.unwrap().unwrap();
    let head = git(&repo, &["rev-parse", "HEAD"]);
    assert_eq!(run.sha, head);
    let output = |stage: &str, name: &str| stages.iter().find(|one| one.name == stage).unwrap().outputs[name].clone();
    assert_eq!((output("checkout", "author"), output("test", "passed")), (json!("Raj"), json!(3)));
    assert_eq!(
        (output("build", "result"), output("rollout", "previous_image")),
        (json!("SUCCESS"), json!("registry/shop:6"))
    );
    let image = format!("127.0.0.1:{}/team/shop", hub.port);
    assert_eq!(output("image", "digest"), hub.skopeo(&["inspect", &format!("docker://{image}:1")])["Digest"]);
    let running = world.deployment("shop");
    assert_eq!(running["spec"]["template"]["spec"]["containers"][0]["image"], format!("{image}:1"));

    git(&repo, &["commit", "-q", "--allow-empty", "-m", "Break the cart"]);
    ana.says("#ops", "!deploy shop to prod suite=bad");
    let line = ana.hears("chief", "[2] shop main -> prod FAILED in test").await;
    assert!(line.contains("class: test-failed"), "{line}");
    ana.hears("chief", "2 passed, 1 failed: c: expected 3, got 4").await;
    let (run, _) = bot.pipelines().run(2).await.unwrap().unwrap();
    assert_eq!((run.commit_count, run.commits[0].subject.as_str()), (1, "Break the cart"));
    assert!(run.first_commit.is_some_and(|at| at <= run.created), "{:?}", run.first_commit);
    assert_eq!(world.deployment("shop")["spec"]["template"]["spec"]["containers"][0]["image"], format!("{image}:1"));
    bot.stop("").await;
}
