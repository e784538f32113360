//! What is kept of deployments: who brought what where and what came of it, what was said of it, how long stages waited, what many
//! of them come to; and whose these records are.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::gateway;
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings};
use serde_json::{Value, json};

use super::acted::Acted;
use super::deploys::{stop, with};
use super::runs::{masterchief, project};

const SHOP: &str = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  rollout: {acted: {takes: 1s, fails: \"{params.bad}\", outputs: {replicas: 12}}, rollback: undo}\n";

#[tokio::test(start_paused = true)]
async fn a_deployment_is_on_record_with_what_it_replaced_and_what_came_of_it() {
    let (test, _) = with(SHOP).await;
    for words in ["shop/v1 to dev", "shop/v2 to dev", "shop/v3 to dev bad=1"] {
        test.user("ana").says(CHANNEL, &format!("!deploy {words}")).await;
        let end = if words.contains("bad") { "FAILED" } else { "is live on dev" };
        test.expect(CHANNEL, end).await;
    }
    let bot = test.started();
    let which = masterchief::store::runs::Which { app: Some("shop".to_owned()), limit: 9, ..Default::default() };
    let told = bot.pipelines().deployments(which).await.unwrap();
    let short: Vec<_> = told
        .iter()
        .map(|one| (one.run, one.reference.as_str(), one.previous_version.as_deref(), one.result, one.replicas))
        .collect();
    assert_eq!(
        short,
        [
            (3, "v3", Some("v2"), "failed", None),
            (2, "v2", Some("v1"), "success", Some(12)),
            (1, "v1", None, "success", Some(12)),
        ]
    );
    assert!(told.iter().all(|one| one.who == "ana" && one.origin == "irc" && one.ended.is_some()), "{told:#?}");
    assert_eq!((told[1].validated, told[0].live), (Some(true), None));
    drop(bot);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn each_line_that_was_said_is_on_record_with_its_key_its_place_and_the_event_it_tells_of() {
    let (test, _) = with(SHOP).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to dev").await;
    test.expect(CHANNEL, "is live on dev").await;
    test.advance(Duration::from_secs(1)).await;
    let bot = test.started();
    let records = bot.pipelines().records().clone();
    let notices = records.notices(1).await.unwrap();
    let events = records.events(1).await.unwrap();
    let said: Vec<String> = test.transcript().into_iter().filter(|line| line.contains("[1] ")).collect();
    assert_eq!(notices.len(), said.len(), "{notices:#?} {said:#?}");
    for (row, line) in notices.iter().zip(&said) {
        assert!(line.ends_with(&row.text) && row.target.ends_with(CHANNEL) && row.sent.is_some(), "{row:#?} {line}");
        assert!(row.dedupe.starts_with("1:"), "{row:#?}");
    }
    let of = |seq: Option<i64>| {
        let event = events.iter().find(|event| Some(event.seq) == seq).unwrap();
        serde_json::from_str::<Value>(&event.data).unwrap()["to"].as_str().unwrap().to_owned()
    };
    assert_eq!(of(notices.first().unwrap().event), "running");
    assert_eq!(of(notices.last().unwrap().event), "succeeded");
    let states: Vec<String> = events.iter().map(|event| of(Some(event.seq))).collect();
    assert_eq!(states, ["draft", "queued", "running", "starting", "running", "succeeded", "succeeded"]);
    drop((bot, records));
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn how_long_a_stage_waited_for_a_slot_is_told_apart_from_how_long_it_ran() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  first: {resources: {pool: hosts}, acted: {takes: 40s}}\n  second: {resources: {pool: hosts}, acted: {takes: 5s}}\n";
    let (test, _) = with(text).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to dev").await;
    test.advance(Duration::from_secs(60)).await;
    test.expect(CHANNEL, "is live on dev").await;
    let bot = test.started();
    let told = bot.pipelines().stats("shop").await.unwrap();
    let of = |stage: &str| {
        let times = told.stages[stage];
        (times.waited.unwrap().last / 1000, times.ran.last / 1000)
    };
    assert_eq!((of("first"), of("second")), ((0, 40), (40, 5)));
    assert!(
        told.stages["second"].to_string().contains("last 5s (1 times); waited for its turn: p50 40s"),
        "{}",
        told.stages["second"]
    );
    drop(bot);
    stop(&test).await;
}

const SHELL: &str = "app: shop\nparams: {good: {type: bool, default: true}}\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  rollout: {shell: [sh, -c, \"test {params.good} = true && echo replicas=3 >> $MC_OUTPUT\"]}\n  check: {needs: [rollout], when: \"params.good\", shell: [\"true\"]}\nfinally:\n  tidy: {shell: [\"true\"]}\n";

#[test]
fn a_shell_lists_deployments_and_what_they_come_to_and_draws_a_pipeline() {
    let dir = project(SHELL);
    for (words, wanted) in [(&["shop/v1", "to", "dev"][..], 0), (&["shop/v2", "to", "dev", "good=false"], 1)] {
        let (code, said) = masterchief(dir.path(), &[&["deploy", "--yes"], words].concat());
        assert_eq!(code, Some(wanted), "{said}");
    }
    let (code, said) = masterchief(dir.path(), &["runs", "deployments", "shop", "dev"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(code == Some(0) && lines.len() == 2, "{said}");
    assert!(lines[0].starts_with("2 shop/dev v2 after v1 by console ") && lines[0].ends_with(": failed"), "{said}");
    assert!(lines[1].starts_with("1 shop/dev v1 by console ") && lines[1].ends_with(": succeeded, 3 run"), "{said}");
    let (_, said) = masterchief(dir.path(), &["--json", "runs", "deployments"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&told[0]["result"], &told[0]["ref"], &told[1]["origin"]),
        (&json!("failed"), &json!("v2"), &json!("cli"))
    );
    let (code, said) = masterchief(dir.path(), &["runs", "figures", "shop"]);
    let cells: Vec<&str> = said.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert!(code == Some(0) && cells[2..7] == ["shop/dev", "2", "1", "1", "0"] && cells[7] == "50%", "{said}");
    let (_, said) = masterchief(dir.path(), &["--json", "runs", "figures", "--hourly", "--last", "1d"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    let ended: i64 = told.as_array().unwrap().iter().map(|row| row["ended"].as_i64().unwrap()).sum();
    assert_eq!(ended, 2);
    assert_eq!(masterchief(dir.path(), &["runs", "notices", "9"]).0, Some(1));
    assert_eq!(masterchief(dir.path(), &["runs", "notices", "1"]).0, Some(0));
    let (code, said) = masterchief(dir.path(), &["pipelines", "show", "shop", "--tree"]);
    assert_eq!(
        (code, said.trim_end()),
        (Some(0), "shop\nrollout: shell\n`- check: shell (when params.good)\ntidy: shell (in any case)")
    );
}

#[test]
fn migrations_are_taken_back_when_no_bot_runs_and_a_copy_is_kept() {
    let dir = project(SHELL);
    assert_eq!(masterchief(dir.path(), &["deploy", "--yes", "shop/v1"]).0, Some(0));
    {
        let lock = std::fs::File::open(dir.path().join("data/masterchief.lock")).unwrap();
        lock.lock().unwrap();
        let (code, said) = masterchief(dir.path(), &["db", "rollback", "1"]);
        assert!(code == Some(1) && said.contains("another bot runs with it; stop that one"), "{said}");
    }
    let (code, said) = masterchief(dir.path(), &["db", "rollback", "1"]);
    assert!(code == Some(0) && said.contains(": taken back") && said.contains("runs.before-rollback-"), "{said}");
    let (code, said) = masterchief(dir.path(), &["db", "migrate", "--check"]);
    assert!(code == Some(1) && said.contains("to be done"), "{said}");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v2"]);
    assert_eq!(code, Some(0), "a bot that starts brings them up to date: {said}");
    let (code, said) = masterchief(dir.path(), &["db", "rollback", "99"]);
    assert!(code == Some(1) && said.contains("name how many to take back"), "{said}");
}

async fn bot(data: &std::path::Path) -> Started {
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(settings).data(data).start().await.unwrap();
    bot.put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    bot
}

fn deploy() -> Asked {
    let prepared = Prepared { app: "shop".to_owned(), unattended: true, ..Prepared::default() };
    Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("test"), may: May::all() }
}

#[tokio::test]
async fn of_two_bots_that_got_onto_one_data_folder_the_older_one_writes_nothing_more_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let old = bot(dir.path()).await;
    let second = Bot::builder().data(dir.path()).start().await.map(drop).unwrap_err().to_string();
    assert!(second.contains("another bot runs with it; stop that one"), "{second}");
    // As where files cannot be locked.
    std::fs::remove_file(dir.path().join("masterchief.lock")).unwrap();
    let new = bot(dir.path()).await;
    let refused = old.pipelines().ask(deploy()).await.unwrap_err();
    assert!(refused.text.contains("another bot has these runs now"), "{refused}");
    let number = new.pipelines().ask(deploy()).await.unwrap().run.unwrap();
    let (run, _) = new.pipelines().ended(number).await.unwrap().unwrap();
    assert_eq!((number, run.state), (1, RunState::Succeeded));
    assert!(old.pipelines().records().check().await.is_err(), "it is not ready either");
    old.stop("").await;
    new.stop("").await;
}

#[tokio::test]
async fn programs_ask_for_deployments_notices_and_what_came_of_runs() {
    let settings: gateway::Settings = serde_json::from_value(json!({
        "listen": "127.0.0.1:0", "tokens": {"ci": {"token": "the-token-of-the-ci-server", "flags": "D"}},
    }))
    .unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).gateway(settings);
    let test = TestBot::start(bot).await.unwrap();
    let bot = test.started();
    bot.put_pipeline("shop", SHOP).await.unwrap();
    let number = bot.pipelines().ask(deploy()).await.unwrap().run.unwrap();
    bot.pipelines().ended(number).await.unwrap();
    let base = format!("http://{}", bot.gateway_at().unwrap());
    let get = async |path: &str, token: &str| {
        let sent = reqwest::Client::new().get(format!("{base}{path}")).bearer_auth(token).send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    for path in ["/pipelines/deployments", "/pipelines/rollups", "/pipelines/1/notices", "/metrics/dora"] {
        assert_eq!(get(path, "somebody").await.0, 401, "{path}");
        assert_eq!(get(path, "the-token-of-the-ci-server").await.0, 200, "{path}");
    }
    let told = async |path: &str| get(path, "the-token-of-the-ci-server").await.1;
    let one = told("/pipelines/deployments?app=shop&environment=dev").await;
    assert_eq!(
        (&one[0]["who"], &one[0]["replicas"], &one[0]["previous_sha"]),
        (&json!("test"), &json!(12), &Value::Null)
    );
    let rows = told("/pipelines/rollups?by=hour&app=shop").await;
    assert_eq!((&rows[0]["ended"], &rows[0]["pass_rate"]), (&json!(1), &json!(1.0)), "{rows}");
    let all = told("/metrics/dora?last=7d").await;
    assert_eq!((&all["apps"][0]["app"], &all["apps"][0]["pass_rate"]), (&json!("shop"), &json!(1.0)), "{all}");
    assert_eq!(get("/pipelines/rollups?by=week", "the-token-of-the-ci-server").await.0, 422);
    drop(bot);
    test.stop().await;
}

#[test]
fn a_pipeline_may_be_written_in_toml_and_is_told_its_faults_with_line_and_column() {
    let dir = project(SHELL);
    let tool = "app = \"tool\"\n\n[policy.environments.dev]\nconfirm = \"never\"\n\n[stages.build]\nshell = [\"sh\", \"-c\", \"echo image=tool:7 >> $MC_OUTPUT\"]\n\n[stages.rollout]\nneeds = [\"build\"]\nshell = [\"test\", \"{build.image}\", \"=\", \"tool:7\"]\n";
    let file = dir.path().join("config/pipelines/tool.toml");
    std::fs::write(&file, tool).unwrap();
    assert_eq!(masterchief(dir.path(), &["pipelines", "check"]).1.trim(), "all good: 2 pipelines");
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "tool/v1"]);
    assert_eq!(code, Some(0), "{said}");
    // It is gone from the folder, and what runs began with is still read as what it was.
    std::fs::remove_file(&file).unwrap();
    let (code, said) = masterchief(dir.path(), &["deploy", "--yes", "shop/v1"]);
    assert!(code == Some(0) && !said.contains("cannot be read any more"), "{said}");
    std::fs::write(&file, tool.replace("needs = [\"build\"]", "neds = [\"build\"]\ntimeout = true")).unwrap();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert!(code == Some(1) && said.contains("tool.toml:10:1: ") && said.contains("neds"), "{said}");
    assert!(said.contains("tool.toml:11:11: "), "all faults at once: {said}");
    std::fs::write(&file, "app = \"tool\"\nstages = {\n").unwrap();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert!(code == Some(1) && said.contains("tool.toml:2:"), "{said}");
}

#[tokio::test]
async fn images_are_on_record_by_what_a_stage_pushed_and_by_what_a_registry_tells() {
    const SHIPS: &str = "the-token-of-the-registry";
    const LOOKS: &str = "the-token-that-only-looks";
    let settings: gateway::Settings = serde_json::from_value(json!({
        "listen": "127.0.0.1:0", "tokens": {"hub": {"token": SHIPS, "flags": "D"}, "eye": {"token": LOOKS}},
    }))
    .unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).gateway(settings);
    let bot = bot.start().await.unwrap();
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: D}}}\nstages:\n  push: {acted: {takes: 0s, outputs: {image: \"hub.example/shop:1\", tags: [\"1\", latest], digest: \"sha256:ab\", size: 4096}}}\n";
    bot.put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let number = bot.pipelines().ask(deploy()).await.unwrap().run.unwrap();
    bot.pipelines().ended(number).await.unwrap();
    let base = format!("http://{}/pipelines/images", bot.gateway_at().unwrap());
    let client = reqwest::Client::new();
    let event = |tag: &str, digest: &str| json!({"action": "push", "request": {"host": "hub.example"}, "target": {"repository": "shop", "tag": tag, "digest": digest}});
    let tell = async |token: &str, body: Value| {
        client.post(&base).bearer_auth(token).body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    let events = json!({"events": [event("1", "sha256:ab"), event("2", "sha256:cd"), {"action": "pull"}]});
    assert_eq!(tell("nobody", events.clone()).await, 401);
    assert_eq!(tell(LOOKS, events.clone()).await, 403, "who may deploy nothing tells of no images");
    assert_eq!(tell(SHIPS, events).await, 202);
    assert_eq!(tell(SHIPS, json!({"pushed": true})).await, 422);
    let sent = client.get(format!("{base}?repository=hub.example/shop")).bearer_auth(LOOKS).send().await.unwrap();
    let rows = sent.json::<Value>().await.unwrap();
    let one = |tag: &str| rows.as_array().unwrap().iter().find(|row| row["tag"] == tag).unwrap().clone();
    assert_eq!(rows.as_array().unwrap().len(), 3, "{rows}");
    assert_eq!((&one("1")["size"], &one("1")["run"]), (&json!(4096), &json!(number)), "what is known of it stays");
    assert_eq!((&one("2")["digest"], &one("2")["run"]), (&json!("sha256:cd"), &Value::Null));
    bot.stop("").await;
}

#[test]
fn what_is_kept_less_long_than_runs_goes_without_them() {
    let dir = project(SHELL);
    let configured = |retention: &str| {
        let text = format!("data: data\npipelines: {{retention: {{{retention}}}}}\n");
        std::fs::write(dir.path().join("config/global/config.yaml"), text).unwrap();
    };
    configured("files: 30d, events: 30d");
    assert_eq!(masterchief(dir.path(), &["deploy", "--yes", "shop/v1"]).0, Some(0));
    let db = rusqlite::Connection::open(dir.path().join("data/runs.db")).unwrap();
    db.execute("UPDATE run SET finished = finished - 40 * 86400000", []).unwrap();
    drop(db);
    let files = dir.path().join("data/runs/1");
    let (code, said) = masterchief(dir.path(), &["db", "clean", "--dry-run"]);
    assert!(
        code == Some(0) && said.starts_with("would forget 0 runs and ") && said.contains(" rows would go"),
        "{said}"
    );
    assert!(files.exists(), "looking takes nothing");
    let (code, said) = masterchief(dir.path(), &["db", "clean"]);
    assert!(code == Some(0) && said.contains("files: ") && !files.exists(), "{said}");
    assert_eq!(masterchief(dir.path(), &["runs", "events", "1"]), (Some(0), String::new()));
    assert!(masterchief(dir.path(), &["runs", "show", "1"]).1.contains("succeeded"), "the run is still there");
    for (wrong, why) in [("people: 1d", "none of files, events"), ("events: 1h", "keep it 1d at least")] {
        configured(wrong);
        let (code, said) = masterchief(dir.path(), &["check"]);
        assert!(code != Some(0) && said.contains(why), "{wrong}: {said}");
    }
}
