//! Parameters that are secret: the command that needs one has it, and nobody reads it anywhere.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::gateway;
use masterchief::pipelines::{Ask, Asked, Asker, May, RunState, Settings};
use serde_json::{Value, json};

use super::acted::Acted;
use super::retried::files;
use super::steps::{eventually, until};

const CI: &str = "the-token-of-the-ci-server";
/// Fifteen letters.
const SECRET: &str = "hunter2-of-prod";

/// Two stages that say what they were given, each in its turn.
fn pipeline(folder: &Path) -> String {
    let stage = |name: &str, needs: &str| {
        format!(
            "  {name}: {{{needs}shell: [sh, -c, \"echo it is $KEY; printf %s $KEY | wc -c | tr -d ' ' | sed s/^/letters=/ >> $MC_OUTPUT; echo key=$KEY >> $MC_OUTPUT; until test -e {at}/{name}; do sleep 0.05; done; test ! -e {at}/bad\"], env: {{KEY: \"{{params.key}}\"}}}}\n",
            at = folder.display()
        )
    };
    format!(
        "app: shop\nparams: {{key: {{type: string, secret: true, match: \"^hunter\"}}}}\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages:\n{}{}",
        stage("first", ""),
        stage("second", "needs: [first], ")
    )
}

async fn bot(folder: &Path) -> Started {
    let gateway: gateway::Settings =
        serde_json::from_value(json!({"listen": "127.0.0.1:0", "tokens": {"ci": {"token": CI, "flags": "D"}}}))
            .unwrap();
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let bot = Bot::builder().data(&folder.join("data")).supervisor(supervisor).pipelines(settings).gateway(gateway);
    let bot = bot.start().await.unwrap();
    bot.put_pipeline("shop", &pipeline(folder)).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    bot
}

async fn post(bot: &Started, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}/pipelines/{path}", bot.gateway_at().unwrap());
    let answer = reqwest::Client::new().post(url).bearer_auth(CI).body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The files below a folder in which it stands.
fn holds(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    files(folder, &mut all);
    let has = |file: &String| {
        let bytes = std::fs::metadata(file).is_ok_and(|meta| meta.is_file()).then(|| std::fs::read(file));
        bytes
            .and_then(Result::ok)
            .is_some_and(|bytes| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()))
    };
    all.into_iter().filter(has).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_in_secret_is_read_by_its_command_and_by_nobody_else_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let one = bot(dir.path()).await;
    let (status, told) = post(&one, "trigger", json!({"app": "shop", "params": {"key": "other-of-prod"}})).await;
    assert!(status == 422 && !told.to_string().contains("other-of-prod"), "{told}");
    let (status, told) = post(&one, "trigger", json!({"app": "shop", "params": {"key": SECRET}})).await;
    assert_eq!(status, 202, "{told}");
    let began = async |bot: &Started, name: &str| {
        let log = bot.pipelines().tail(1, Some(name), 10).await;
        log.is_ok_and(|(_, lines)| lines.iter().any(|line| line == "it is ***"))
    };
    eventually("the first stage", async || began(&one, "first").await).await;
    let kept = dir.path().join("data/runs/1/.given");
    // While it is needed it is kept in one file, and the command has it in its own.
    let own = dir.path().join("data/runs/1/first/1/output").display().to_string();
    let there: Vec<String> = holds(dir.path()).into_iter().filter(|file| *file != own).collect();
    assert_eq!(there, [kept.display().to_string()]);
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    one.stop("").await;

    let two = bot(dir.path()).await;
    std::fs::write(dir.path().join("first"), "").unwrap();
    eventually("the second stage", async || began(&two, "second").await).await;
    std::fs::write(dir.path().join("second"), "").unwrap();
    let (run, stages) = two.pipelines().ended(1).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
    for stage in &stages {
        assert_eq!((&stage.outputs["letters"], &stage.outputs["key"]), (&json!(SECRET.len()), &json!("***")));
    }
    assert_eq!(run.params["key"], json!("***"));
    until("it is forgotten", || !kept.exists()).await;
    assert_eq!(holds(dir.path()), Vec::<String>::new());
    two.stop("").await;
    assert_eq!(holds(dir.path()), Vec::<String>::new(), "also in records that were folded up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_not_tried_again_without_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let bot = bot(dir.path()).await;
    for name in ["bad", "first", "second"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    post(&bot, "trigger", json!({"app": "shop", "params": {"key": SECRET}})).await;
    let (run, _) = bot.pipelines().ended(1).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Failed);
    until("it is forgotten", || holds(dir.path()).is_empty()).await;
    let asked = Asked { ask: Ask::Retry(1, None), who: Asker::program("ci"), may: May::all() };
    bot.pipelines().ask(asked).await.unwrap();
    let (run, stages) = bot.pipelines().ended(1).await.unwrap().unwrap();
    let line = &stages[0].failure.as_ref().unwrap().line;
    assert!(run.state == RunState::Failed && line.contains("what key was is kept until a run has ended"), "{line}");
    let (status, told) = post(&bot, "1/again", json!({})).await;
    assert!(status == 422 && told["error"].as_str().unwrap().contains("key is missing"), "{told}");
    bot.stop("").await;
}

/// An app whose stage fails where `bad` is there, and what undoes it says what it was given.
async fn put_undone(bot: &Started, app: &str, folder: &Path, rollback: &str) {
    let at = folder.display();
    let text = format!(
        "params: {{key: {{type: string, secret: true}}}}\npolicy: {{environments: {{dev: {{confirm: never, rollback: {rollback}}}}}}}\nstages:\n  rollout:\n    shell: [sh, -c, \"test ! -e {at}/bad\"]\n    env: {{KEY: \"{{params.key}}\"}}\n    rollback: {{shell: [sh, -c, \"echo it was $KEY; printf %s $KEY | wc -c | tr -d ' ' > {at}/undone\"]}}\n"
    );
    bot.put_pipeline(app, &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
}

/// A run with the secret, up to its end.
async fn ended(bot: &Started, app: &str, number: i64) -> RunState {
    let (status, told) = post(bot, "trigger", json!({"app": app, "params": {"key": SECRET}})).await;
    assert_eq!((status, &told["id"]), (202, &json!(number)), "{told}");
    bot.pipelines().ended(number).await.unwrap().unwrap().0.state
}

#[tokio::test(flavor = "multi_thread")]
async fn what_undoes_a_run_by_itself_has_what_that_was_given_and_then_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let bot = bot(dir.path()).await;
    let later = "{mode: offer, auto_after: 1s, lock: false}";
    let apps = [("once", "auto"), ("later", later), ("asked", "{mode: offer, lock: false}")];
    for (number, (app, rollback)) in (1..).zip(apps) {
        put_undone(&bot, app, dir.path(), rollback).await;
        assert_eq!(ended(&bot, app, number).await, RunState::Succeeded);
    }
    until("it is forgotten", || holds(dir.path()).is_empty()).await;
    std::fs::write(dir.path().join("bad"), "").unwrap();
    let is = async |number: i64, wanted: RunState| {
        let found = bot.pipelines().run(number).await.unwrap();
        found.is_some_and(|(run, _)| run.state == wanted)
    };
    for (number, app) in [(4, "once"), (6, "later")] {
        ended(&bot, app, number).await;
        eventually("it is undone", async || is(number, RunState::RolledBack).await).await;
        assert!(is(number + 1, RunState::Succeeded).await);
        let undone = dir.path().join("undone");
        assert_eq!(std::fs::read_to_string(&undone).unwrap().trim(), SECRET.len().to_string());
        std::fs::remove_file(undone).unwrap();
        let (_, said) = bot.pipelines().tail(number + 1, Some("undo-rollout"), 9).await.unwrap();
        assert!(said.iter().any(|line| line == "it was ***"), "{said:#?}");
        until("it is forgotten", || holds(dir.path()).is_empty()).await;
    }
    // What nothing undoes by itself is forgotten at its end, and said to be past undoing.
    assert_eq!(ended(&bot, "asked", 8).await, RunState::Failed);
    until("it is forgotten", || holds(dir.path()).is_empty()).await;
    let asked = Asked { ask: Ask::Rollback(8), who: Asker::program("ci"), may: May::all() };
    let refused = bot.pipelines().ask(asked).await.unwrap_err().text;
    assert!(refused.contains("what key was is kept until a run has ended"), "{refused}");
    assert!(is(8, RunState::Failed).await && bot.pipelines().run(9).await.unwrap().is_none());
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_undone_is_still_given_after_a_restart_and_nobody_promises_what_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let later = "{mode: offer, auto_after: 1h, lock: false}";
    let one = bot(dir.path()).await;
    put_undone(&one, "later", dir.path(), later).await;
    assert_eq!(ended(&one, "later", 1).await, RunState::Succeeded);
    std::fs::write(dir.path().join("bad"), "").unwrap();
    assert_eq!(ended(&one, "later", 2).await, RunState::Failed);
    let promised = one.pipelines().run(2).await.unwrap().unwrap().0;
    assert!(promised.undo_at.is_some(), "{promised:#?}");
    one.stop("").await;

    let two = bot(dir.path()).await;
    put_undone(&two, "later", dir.path(), later).await;
    assert_eq!(holds(dir.path()), [dir.path().join("data/runs/2/.given").display().to_string()]);
    let ask = async |ask: Ask| {
        let asked = Asked { ask, who: Asker::program("ci"), may: May::all() };
        two.pipelines().ask(asked).await.map_err(|refused| refused.text)
    };
    ask(Ask::Rollback(2)).await.unwrap();
    let (run, stages) = two.pipelines().ended(3).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
    until("it is forgotten", || holds(dir.path()).is_empty()).await;
    // What was to happen by itself is called off: then nothing needs it any more.
    assert_eq!(ended(&two, "later", 4).await, RunState::Failed);
    ask(Ask::Abort(4)).await.unwrap();
    until("it is forgotten", || holds(dir.path()).is_empty()).await;
    assert!(ask(Ask::Rollback(4)).await.unwrap_err().contains("what key was is kept until"));
    two.stop("").await;
}

#[tokio::test]
async fn no_secret_becomes_an_argument() {
    let dir = tempfile::tempdir().unwrap();
    let bot = bot(dir.path()).await;
    let text = "app: other\nparams: {key: {type: string, secret: true}}\npolicy: {environments: {dev: {confirm: never}}}\nstages: {a: {shell: [echo, \"it is {params.key}\"]}}\n";
    bot.put_pipeline("other", text).await.unwrap();
    post(&bot, "trigger", json!({"app": "other", "params": {"key": SECRET}})).await;
    let (_, stages) = bot.pipelines().ended(1).await.unwrap().unwrap();
    let line = &stages[0].failure.as_ref().unwrap().line;
    assert_eq!(
        line,
        "key is secret, and arguments of commands are seen by all; hand it over as env: {NAME: \"{params.key}\"}"
    );
    let faults =
        bot.put_pipeline("third", &text.replace("secret: true", "secret: true, default: x")).await.unwrap_err();
    assert!(faults[0].message.contains("what is secret is a string without a default"), "{faults:#?}");
    bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn who_says_a_secret_in_a_channel_is_told_to_change_it_and_nothing_begins() {
    let test = TestBot::start(Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default())).await;
    let test = test.unwrap();
    let text = "app: shop\nparams: {key: {type: string, secret: true}}\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages: {a: {acted: {}}}\n";
    test.started().put_pipeline("shop", text).await.unwrap();
    test.user("kim").with_flags("+d").says(CHANNEL, &format!("!deploy shop key={SECRET}")).await;
    let line = test.expect(CHANNEL, "kim: key is secret, and this was read by others: change it").await;
    assert!(!line.contains(SECRET), "{line}");
    for row in test.started().audit_recent(10).await.unwrap() {
        assert!(!row.detail.contains(SECRET), "{row:?}");
    }
    assert!(test.started().pipelines().run(1).await.unwrap().is_none());
    test.stop().await;
}
