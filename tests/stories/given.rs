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
