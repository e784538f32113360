//! Runs from everywhere but a channel: webhooks, scripts, programs with a token, a shell.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::gateway;
use masterchief::journal::Fixture;
use masterchief::pipelines::Settings;
use serde_json::{Value, json};

use super::acted::Acted;
use super::steps::eventually;

const DEV: &str = "app: shop\ntriggers:\n  - webhook: {bind: github/push, when: \"event.ref == 'refs/heads/main'\", params: {environment: dev}}\npolicy: {idempotency: {key: \"{event.delivery}\", window: 1h}, environments: {dev: {confirm: never}, prod: {}}}\nstages: {test: {acted: {outputs: {image: \"shop:7\"}}}, rollout: {needs: [test], acted: {}}}\n";

#[tokio::test(start_paused = true)]
async fn a_push_starts_what_its_file_says_once_and_a_bind_hears_of_it() {
    let acted = Acted::default();
    let bot = Bot::builder()
        .executor("acted", acted.clone())
        .pipelines(Settings::default())
        .bind(
            masterchief::pipelines::KIND,
            "-|-",
            "shop/dev/succeeded",
            |ev: masterchief::contract::Event| async move {
                let _ = ev
                    .perform(masterchief::contract::Action::Say {
                        network: String::new(),
                        target: CHANNEL.to_owned(),
                        text: format!("heard of {} {}", ev.field_str("app"), ev.field("run").unwrap()),
                        how: masterchief::contract::How::Say,
                        reply: false,
                    })
                    .await;
            },
        )
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.started().put_pipeline("shop", DEV).await.unwrap();
    // The bind takes its place in the journal.
    test.advance(Duration::from_secs(1)).await;
    let push = |branch: &str, delivery: &str| -> Fixture {
        let body = json!({"ref": format!("refs/heads/{branch}"), "repository": {"full_name": "acme/shop"}});
        serde_json::from_value(json!({
            "kind": "webhook", "lane": "github", "key": delivery, "text": body.to_string(),
            "fields": {"provider": "github", "event": "push", "route": "github", "repo": "acme/shop", "ref": branch, "delivery": delivery},
        }))
        .unwrap()
    };
    for (branch, delivery) in [("feature", "1"), ("main", "2"), ("main", "2")] {
        test.started().happens(push(branch, delivery)).await.unwrap();
    }
    test.expect(CHANNEL, "heard of shop 1").await;
    test.advance(Duration::from_secs(60)).await;
    assert_eq!(
        acted.done(),
        ["test#1", "rollout#1"],
        "a branch that is not meant and a delivery that came twice start nothing"
    );
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_script_starts_a_run_follows_it_and_may_what_the_person_may() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("ship.lua"),
        "bot.caps{ pipelines = {\"shop\"} }\nbot.bind(\"pub\", \"-|-\", \"!ship\", function(ev)\n  local steps = 0\n  local r = pipeline.run(\"shop\", { env = \"dev\", on_step = function(n) if n.stage then steps += 1 end end })\n  return `{r.ok} {r.state} {r.outputs.test.image} {steps > 1} {pipeline.status(r.run).env}`\nend, { timeout = \"10m\" })\n",
    )
    .unwrap();
    let acted = Acted::default();
    let bot = Bot::builder().executor("acted", acted.clone()).pipelines(Settings::default()).scripts(dir.path());
    let test = TestBot::start(bot).await.unwrap();
    test.started().put_pipeline("shop", DEV).await.unwrap();
    test.user("mallory").says(CHANNEL, "!ship").await;
    test.expect(
        CHANNEL,
        "mallory: I do not know you: log in to services. you may not deploy shop to dev (needs flag D",
    )
    .await;
    test.user("ana").with_flags("+D").says(CHANNEL, "!ship").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started by ana.").await;
    test.advance(Duration::from_secs(10)).await;
    test.expect(CHANNEL, "true succeeded shop:7 true dev").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_can_be_done_by_a_script() {
    let dir = tempfile::tempdir().unwrap();
    let lua = "bot.bind(\"step\", \"-|-\", \"count\", function(ev)\n  if ev.data.days > 5 then bot.fail(\"too many days\") end\n  return { \"3 orders\", \"orders=3\" }\nend)\n";
    std::fs::write(dir.path().join("steps.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().pipelines(Settings::default()).scripts(dir.path())).await.unwrap();
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nparams: {days: {type: int, default: 3}}\nstages: {count: {luau: {call: count, args: {days: \"{params.days}\"}}}}\n";
    test.started().put_pipeline("shop", text).await.unwrap();
    test.user("ana").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[1] shop the newest is live on dev").await;
    let (_, stages) = test.started().pipelines().run(1).await.unwrap().unwrap();
    assert_eq!((stages[0].summary.as_str(), &stages[0].outputs["orders"]), ("3 orders", &json!(3)));
    test.user("ana").says(CHANNEL, "!deploy shop days=7").await;
    test.expect(CHANNEL, "| too many days").await;
    test.stop().await;
}

#[tokio::test]
async fn a_program_with_a_token_starts_a_run_and_sees_how_it_goes_and_one_without_does_not() {
    let settings: gateway::Settings = serde_json::from_value(json!({
        "listen": "127.0.0.1:0",
        "tokens": {"ci": {"token": "a-token-of-the-ci-server", "flags": "D"}, "eye": {"token": "a-token-that-only-looks"}},
    }))
    .unwrap();
    let acted = Acted::default();
    let bot = Bot::builder()
        .executor("acted", acted.clone())
        .pipelines(Settings::default())
        .gateway(settings)
        .start()
        .await
        .unwrap();
    bot.put_pipeline("shop", &DEV.replace("{outputs", "{takes: 5s, outputs")).await.unwrap();
    let base = format!("http://{}/pipelines", bot.gateway_at().unwrap());
    let client = reqwest::Client::new();
    let post = async |path: &str, token: &str, body: Value| {
        let sent =
            client.post(format!("{base}/{path}")).bearer_auth(token).body(body.to_string()).send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    let get = async |path: &str| {
        let sent = client.get(format!("{base}/{path}")).bearer_auth("a-token-that-only-looks").send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    let asked = json!({"app": "shop", "environment": "dev"});
    assert_eq!(post("trigger", "wrong", asked.clone()).await.0, 401);
    assert_eq!(client.get(format!("{base}/1")).send().await.unwrap().status().as_u16(), 401);
    assert_eq!(post("trigger", "a-token-that-only-looks", asked.clone()).await.0, 403);
    assert_eq!(post("trigger", "a-token-of-the-ci-server", json!({"app": "shop", "colour": 1})).await.0, 422);
    let (status, told) = post("trigger", "a-token-of-the-ci-server", asked).await;
    assert_eq!((status, &told["id"]), (202, &json!(1)));
    // What a build elsewhere tells is taken as long as a stage runs, and refused once none does.
    let compiles = async || {
        post("stage", "a-token-of-the-ci-server", json!({"run": 1, "stage": "compile", "status": "running"})).await
    };
    eventually("a stage runs", async || get("1").await.1["stages"][0]["status"] == "running").await;
    let (status, told) = compiles().await;
    assert_eq!(status, 202, "{told}");
    eventually("the end", async || get("1").await.1["status"] == "success").await;
    let (status, told) = compiles().await;
    assert_eq!(status, 409, "{told}");
    let (_, told) = get("1").await;
    assert_eq!((&told["requester"], &told["stages"][0]["status"]), (&json!("ci"), &json!("success")));
    assert_eq!(get("?limit=1").await.1.as_array().unwrap().len(), 1);
    assert_eq!((get("?limit=101").await.0, get("7").await.0), (422, 404));
    bot.stop("").await;
}

/// A project with one pipeline of real commands.
pub(crate) fn project(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("config/pipelines")).unwrap();
    std::fs::create_dir_all(dir.path().join("config/global")).unwrap();
    std::fs::write(dir.path().join("config/global/config.yaml"), "data: data\n").unwrap();
    std::fs::write(dir.path().join("config/pipelines/shop.yaml"), text).unwrap();
    dir
}

#[test]
fn a_binary_by_another_name_starts_commands_too() {
    let dir =
        project("app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages: {test: {shell: [\"true\"]}}\n");
    let chief = dir.path().join("chief");
    std::fs::copy(env!("CARGO_BIN_EXE_masterchief"), &chief).unwrap();
    let output = Command::new(chief).arg("--config").arg(dir.path()).args(["deploy", "shop"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn what_runs_of_a_bot_that_keeps_nothing_have_left_goes_with_it() {
    let bot = Bot::builder().start().await.unwrap();
    let folder = bot.pipelines().folder().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    bot.stop("").await;
    assert!(!folder.parent().unwrap().exists());
}

/// A secret that reads as a number.
const PIN: &str = "738291746650";

pub(crate) fn masterchief(project: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command
        .arg("--config")
        .arg(project)
        .args(args)
        .stdin(Stdio::null())
        .env("THE_TOKEN", "hunter2-of-prod")
        .env("THE_PIN", PIN);
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

pub(crate) const SHELL: &str = "app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  test: {shell: [sh, -c, \"echo 412 tests; echo token $TOKEN; echo summary=412 passed >> $MC_OUTPUT\"], env: {TOKEN: \"${env:THE_TOKEN}\"}}\n  build: {needs: [test], when: \"params.good == true\", shell: [sh, -c, \"echo building; echo image=shop:7 >> $MC_OUTPUT\"]}\n  rollout: {needs: [build], shell: [sh, -c, \"test {build.image} = shop:7\"]}\nparams: {good: {type: bool, default: true}, fail: {type: bool, default: false}}\n";

#[test]
fn a_shell_deploys_looks_and_hears_how_it_ended() {
    let dir = project(SHELL);
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert_eq!((code, said.trim()), (Some(0), "all good: 1 pipeline"));
    for (words, refused) in
        [("shoop to dev", 6), ("shop/-x to dev", 2), ("shop to prod", 6), ("shop to dev colour=1", 2)]
    {
        let (code, said) = masterchief(dir.path(), &["deploy", "--yes", words]);
        assert_eq!(code, Some(refused), "{words}: {said}");
    }
    let (code, said) = masterchief(dir.path(), &["deploy", "shop/v2", "to", "dev"]);
    assert_eq!(code, Some(3), "nobody is there to say yes: {said}");
    assert!(said.contains("shop -> dev: v2 is the first there. Plan: test, build, rollout."), "{said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v2", "to", "dev"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("test ok") && said.contains("(412 passed)") && said.contains("shop dev succeeded"), "{said}");
    let (_, said) = masterchief(dir.path(), &["runs", "list"]);
    assert!(said.starts_with("shop/dev 2 v2 console"), "{said}");
    let (_, said) = masterchief(dir.path(), &["runs", "logs", "2", "test"]);
    assert!(said.contains("412 tests") && said.contains("token ***") && !said.contains("hunter2"), "{said}");
    let (_, said) = masterchief(dir.path(), &["runs", "show", "2"]);
    assert!(said.contains("rollout ok"), "{said}");
    let (code, said) = masterchief(dir.path(), &["audit", "verify"]);
    assert!(code == Some(0) && said.contains("each as it was written"), "{said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v3", "to", "dev", "good=no"]);
    assert_eq!(code, Some(0), "what is skipped is no failure, and it is told: {said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "shp"]);
    assert!(code == Some(6) && said.contains("Did you mean shop?"), "{said}");
    let (_, said) = masterchief(dir.path(), &["pipelines", "show", "shop", "--dot"]);
    assert!(said.contains("\"test\" -> \"build\""), "{said}");
    let (code, said) = masterchief(dir.path(), &["runs", "who", "shop"]);
    assert!(code == Some(1) && said.contains("no bot runs on"), "{said}");
}

#[test]
fn what_comes_from_outside_is_never_read_as_a_secret() {
    let text = "app: shop\nparams: {note: {type: string, default: none}}\npolicy: {environments: {dev: {}}}\nstages:\n  a: {shell: [sh, -c, \"echo got $NOTE '{params.note}' | rev; echo x=$TOKEN >> $MC_OUTPUT\"], env: {NOTE: \"{params.note}\", TOKEN: \"${env:THE_TOKEN}\"}}\n  b: {needs: [a], shell: [sh, -c, \"echo '{a.x}'\"]}\n";
    let dir = project(text);
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop", "note=${env:THE_TOKEN}"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = masterchief(dir.path(), &["runs", "logs", "1", "a"]);
    assert!(said.contains("NEKOT_EHT") && !said.contains("dorp-fo-2retnuh"), "{said}");
    let (_, said) = masterchief(dir.path(), &["--json", "runs", "show", "1"]);
    assert!(said.contains("***") && !said.contains("hunter2"), "{said}");
}

#[test]
fn no_secret_is_left_in_the_folder_of_the_bot_also_where_it_is_a_number_or_a_name() {
    let text = "app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  a: {shell: [sh, -c, \"echo pin=$PIN >> $MC_OUTPUT; echo k$PIN=1 >> $MC_OUTPUT; echo token=$TOKEN >> $MC_OUTPUT; echo [$PIN] > $MC_CHECKPOINT\"], env: {PIN: \"${env:THE_PIN}\", TOKEN: \"${env:THE_TOKEN}\"}}\n  b: {needs: [a], shell: [sh, -c, \"echo pin=$PIN >> $MC_OUTPUT; exit 3\"], env: {PIN: \"${env:THE_PIN}\"}}\n";
    let dir = project(text);
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop"]);
    assert!(code == Some(1) && said.contains("b FAILED"), "{code:?} {said}");
    let (_, said) = masterchief(dir.path(), &["--json", "runs", "show", "1"]);
    assert!(said.contains("\"pin\"") && said.contains("***"), "{said}");
    let mut files = Vec::new();
    super::retried::files(dir.path(), &mut files);
    assert!(files.iter().any(|file| file.ends_with("/a/1/output")), "{files:#?}");
    // The socket by which words come in is no file.
    files.retain(|file| std::fs::metadata(file).unwrap().is_file());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for secret in ["hunter2-of-prod", PIN] {
            let there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!there, "{secret} is in {file}");
        }
    }
}

#[test]
fn a_whole_pipeline_as_teams_write_it_is_accepted() {
    let dir = project(include_str!("shop.yaml"));
    let config = dir.path().join("config");
    std::fs::create_dir_all(config.join("calendar")).unwrap();
    let calendar = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:ours\r\nEND:VCALENDAR\r\n";
    std::fs::write(config.join("calendar/company.ics"), calendar).unwrap();
    let settings = "data: data\nexecutors:\n  jenkins: {main: {url: \"https://ci.example/\", user: bot, token: a-token}}\n  registries: {hub: {address: registry.example/team}}\n  kubernetes: {prod: {}, staging: {}, dev: {}}\n  prometheus: {url: \"https://prometheus.example\"}\n";
    std::fs::write(config.join("global/config.yaml"), settings).unwrap();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert_eq!((code, said.trim()), (Some(0), "all good: 1 pipeline"));
    std::fs::remove_file(config.join("calendar/company.ics")).unwrap();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert!(
        code != Some(0) && said.contains("company.ics") && said.contains("is frozen until it can be read"),
        "{said}"
    );
}
