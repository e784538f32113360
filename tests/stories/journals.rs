//! The journal from a shell: what came from outside, what was given up, and both given again; of a bot that runs, and of one
//! that does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Batch, Kind, Undecodable};
use masterchief::journal::Fixture;
use serde_json::Value;

use super::runs::masterchief;
use super::steps::eventually;

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(60);

const TILL: &str = r##"
bot.bind("webhook", "-|-", "github/push", function(ev)
  if ev.text == "broken" and not kv.get("fixed") then bot.dead("the till is on fire") end
  return ("handled %s (%d)"):format(ev.text, #(ev.body or ""))
end, { to = "#ops" })
bot.bind("pub", "-|-", "!fix", function() kv.set("fixed", true); return "fixed" end)
"##;

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["config/global", "scripts"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    std::fs::write(dir.path().join("config/global/config.yaml"), "data: data\n").unwrap();
    std::fs::write(dir.path().join("scripts/till.lua"), TILL).unwrap();
    dir
}

async fn bot(project: &Path) -> TestBot {
    let builder = Bot::builder().scripts(&project.join("scripts"));
    TestBot::start_in_at(&project.join("data"), builder, Utc::now()).await.unwrap()
}

async fn push(test: &TestBot, text: &str) {
    let fields = [("provider", "github"), ("event", "push")];
    let fixture = Fixture {
        kind: "webhook".to_owned(),
        lane: "github".to_owned(),
        key: None,
        at: None,
        text: text.to_owned(),
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
        body: None,
        // Two bytes that are no text.
        body_base64: Some("/wA=".to_owned()),
    };
    test.started().happens(fixture).await.unwrap();
}

/// Something comes that cannot be understood.
async fn nonsense(test: &TestBot) {
    let bad =
        Undecodable { lane: Arc::from("github"), bytes: b"\x1b]0;mine\x07".to_vec(), reason: "no JSON".to_owned() };
    let batch = Batch { undecodable: vec![bad], ..Batch::default() };
    test.started().journal().append(Kind::Webhook, &Arc::from("webhook"), batch).await.unwrap();
}

async fn hears(test: &TestBot, text: &str) {
    let heard = test.find(CHANNEL, PATIENCE, |line| line.replace('\u{200b}', "").contains(text)).await;
    assert!(heard.is_ok(), "{CHANNEL} did not hear {text}; the bot said {heard:?}");
}

async fn dead(test: &TestBot, count: u64) {
    eventually("the dead letters", async || test.started().journal().status().await.unwrap().dead == count).await;
}

/// Runs a command that goes well.
fn well(project: &Path, args: &[&str]) -> String {
    let (code, said) = masterchief(project, args);
    assert_eq!(code, Some(0), "{args:?}: {said}");
    said
}

/// Runs a command that must not go well, and must say why.
fn refused(project: &Path, args: &[&str], code: i32, why: &str) {
    let (ended, said) = masterchief(project, args);
    assert!(ended == Some(code) && said.contains(why), "{args:?} ended with {ended:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_empty_or_is_not_there_is_told_with_what_to_do_next() {
    let dir = project();
    let project = dir.path();
    for command in [&["events", "list"][..], &["dlq", "list"], &["sources"], &["events", "replay", "1"]] {
        refused(project, command, 1, "no bot has run here yet; name the project, as in --config PATH");
        refused(&project.join("nowhere"), command, 2, "nowhere");
    }
    bot(project).await.stop().await;
    assert!(well(project, &["events", "list"]).contains("nothing is kept of what came from outside"));
    assert!(well(project, &["events", "list", "log"]).contains("nothing of log is kept"));
    assert!(well(project, &["events", "list", "--last", "0"]).starts_with("EVENT"));
    assert!(well(project, &["dlq", "list", "--last", "18446744073709551615"]).starts_with("ID"));
    assert!(well(project, &["dlq", "retry", "--all"]).contains("there is no dead letter that a bind could try"));
    assert!(well(project, &["dlq", "drop", "--all"]).contains("there are no dead letters"));
    assert!(well(project, &["sources"]).contains("STREAM IN THE JOURNAL"));
    // As a bot tells it whose bind stands still.
    let told = r#"{"at": "2026-03-02T12:00:00Z", "sources": [], "standing_still": [["webhook github/*", 8192]]}"#;
    std::fs::write(project.join("data/sources.json"), told).unwrap();
    assert!(well(project, &["sources"]).contains("webhook github/* begins nothing new: 8192 events wait"));
    assert_eq!(well(project, &["events", "list", "log", "--json"]).lines().next(), Some("[]"));
    refused(project, &["events", "list", "webhok"], 1, "did you mean webhook?");
    const LIST: &str = "`masterchief events list` shows";
    for number in ["1", "9223372036854775807"] {
        refused(project, &["events", "show", number], 1, LIST);
        refused(project, &["events", "replay", number], 1, LIST);
        refused(project, &["events", "replay", number, "--run"], 1, LIST);
    }
    for number in ["x", "-1", "18446744073709551615", "99999999999999999999"] {
        refused(project, &["events", "show", number], 2, LIST);
        refused(project, &["events", "replay", number], 2, LIST);
    }
    const LETTERS: &str = "`masterchief dlq list`";
    for what in ["show", "retry", "drop"] {
        refused(project, &["dlq", what, "9"], 1, LETTERS);
        refused(project, &["dlq", what, "-9"], 1, LETTERS);
        refused(project, &["dlq", what, "x"], 2, LETTERS);
        refused(project, &["dlq", what, "-9223372036854775808"], 2, LETTERS);
    }
    refused(project, &["dlq", "retry"], 2, "--all");
    refused(project, &["dlq", "drop", "9", "--all"], 2, "cannot be used with");
    refused(project, &["events", "replay", "1", "--speak"], 2, "--run");
    refused(project, &["sources", "reset", "webhok"], 1, "no place of webhok is remembered (did you mean webhook?)");
    for beside in ["journal.db-wal", "journal.db-shm"] {
        // They are there as long as somebody has the journal open.
        let _ = std::fs::remove_file(project.join("data").join(beside));
    }
    std::fs::write(project.join("data/journal.db"), "this is no journal at all, but it is long enough to be one")
        .unwrap();
    refused(project, &["events", "list"], 1, "journal.db: file is not a database");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_a_bot_that_is_down_is_shown_tried_dry_and_given_again_by_the_next_one_in_silence() {
    let dir = project();
    let project = dir.path();
    let test = bot(project).await;
    push(&test, "one").await;
    hears(&test, "handled one (2)").await;
    push(&test, "broken").await;
    dead(&test, 1).await;
    push(&test, "two").await;
    hears(&test, "handled two (2)").await;
    nonsense(&test).await;
    dead(&test, 2).await;
    test.stop().await;

    let listed = well(project, &["events", "list"]);
    let texts: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(texts, ["two", "broken", "one"], "newest first");
    assert_eq!(well(project, &["events", "list", "webhook", "--last", "1"]).lines().count(), 2);
    let listed: Value = serde_json::from_str(&well(project, &["events", "list", "--json"])).unwrap();
    assert_eq!((listed[2]["number"].as_u64(), listed[2]["fields"]["event"].as_str()), (Some(1), Some("push")));
    let shown = well(project, &["events", "show", "1"]);
    assert!(shown.contains("provider: \"github\"") && shown.contains("body, 2 bytes"), "{shown}");
    assert!(shown.contains("till.lua") && shown.contains("done, or not wanted"), "{shown}");
    assert!(well(project, &["events", "show", "2"]).contains("dead letter 1: the till is on fire"));

    // Dry: only shown, with what does not load.
    std::fs::write(project.join("scripts/bad.lua"), "local x = = 1\n").unwrap();
    let dry = well(project, &["events", "replay", "1"]);
    assert!(dry.contains("say to #ops: handled one (2)") && dry.contains("nothing was done"), "{dry}");
    assert!(dry.contains("bad.lua:1"), "{dry}");
    std::fs::remove_file(project.join("scripts/bad.lua")).unwrap();
    assert!(well(project, &["events", "replay", "2"]).contains("fails: the till is on fire"));
    assert!(well(project, &["events", "show", "1"]).contains("done, or not wanted"), "it stays what it was");

    let given = well(project, &["events", "replay", "1", "--run"]);
    assert!(given.contains("event 1 is given again to") && given.contains("the next one does"), "{given}");
    refused(project, &["events", "replay", "1", "--run"], 1, "it is tried again anyway");
    assert!(well(project, &["events", "show", "1"]).contains("waiting"));
    let test = bot(project).await;
    eventually("the replay", async || test.started().journal().status().await.unwrap().waiting == 0).await;
    push(&test, "three").await;
    hears(&test, "handled three").await;
    assert_eq!(test.said(), 1, "{:?}", test.transcript());
    test.stop().await;

    // A fixture is a test.
    let fixture = project.join("scripts/push.json");
    let saved = well(project, &["events", "show", "1", "--save-fixture", fixture.to_str().unwrap()]);
    assert!(saved.contains("b:happens(\"push.json\")"), "{saved}");
    let lua = "local t = require 'test'\nt.case('a push that came', function()\n  local b = t.bot{ script = 'till.lua' }\n  b:happens('push.json')\n  b:expect('#ops', 'handled one (2)')\nend)\n";
    std::fs::write(project.join("scripts/till_test.lua"), lua).unwrap();
    assert!(well(project, &["test"]).contains("1 case, 0 failed"));
    let nowhere = project.join("nowhere/push.json");
    refused(project, &["events", "show", "1", "--save-fixture", nowhere.to_str().unwrap()], 1, "cannot be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_bot_that_is_down_are_shown_whole_tried_by_the_next_one_and_dropped() {
    let dir = project();
    let project = dir.path();
    let test = bot(project).await;
    push(&test, "broken").await;
    dead(&test, 1).await;
    nonsense(&test).await;
    dead(&test, 2).await;
    test.stop().await;

    let listed = well(project, &["dlq", "list"]);
    assert!(listed.contains("the till is on fire") && listed.contains("no JSON"), "{listed}");
    assert_eq!(well(project, &["dlq", "list", "--last", "1"]).lines().count(), 2);
    let letter = well(project, &["dlq", "show", "1"]);
    assert!(letter.contains("after 1 try: the till is on fire") && letter.contains("text: broken"), "{letter}");
    let letter: Value = serde_json::from_str(&well(project, &["dlq", "show", "1", "--json"])).unwrap();
    assert_eq!((letter["event"]["text"].as_str(), letter["replay"].as_str()), (Some("broken"), Some("no")));
    let bytes = well(project, &["dlq", "show", "2"]);
    assert!(bytes.contains("9 bytes: \\u{1b}]0;mine\\u{7}"), "what came moves no terminal: {bytes:?}");
    refused(project, &["dlq", "retry", "2"], 1, "no bind that is known could try 2; `masterchief dlq show ID`");

    let tried = well(project, &["dlq", "retry", "1", "1"]);
    assert_eq!(tried.matches("1 is tried again by").count(), 1, "{tried}");
    assert!(tried.contains("the next one does"), "{tried}");
    refused(project, &["dlq", "retry", "1"], 1, "there is no dead letter 1");
    // It is still broken, and dies again.
    let test = bot(project).await;
    dead(&test, 2).await;
    test.user("alice").says(CHANNEL, "!fix").await;
    hears(&test, "fixed").await;
    test.stop().await;
    assert!(
        well(project, &["dlq", "retry", "--all"]).contains("3 is tried again by"),
        "but not what nobody understood"
    );
    let test = bot(project).await;
    hears(&test, "handled broken").await;
    test.stop().await;
    assert_eq!(well(project, &["dlq", "drop", "--all"]).trim(), "2 is dropped");
    assert_eq!(well(project, &["dlq", "list", "--json"]).trim(), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_runs_does_what_a_shell_beside_it_asks_for_and_says_only_what_it_may() {
    let dir = project();
    let project = dir.path();
    let test = bot(project).await;
    push(&test, "one").await;
    hears(&test, "handled one").await;
    assert!(well(project, &["events", "list", "webhook"]).contains("one"));
    assert!(well(project, &["events", "replay", "1"]).contains("say to #ops: handled one"));
    well(project, &["events", "replay", "1", "--run"]);
    eventually("the silent replay", async || well(project, &["events", "show", "1"]).contains("done, or not wanted"))
        .await;
    assert_eq!(test.said(), 1, "{:?}", test.transcript());
    well(project, &["events", "replay", "1", "--run", "--speak"]);
    hears(&test, "handled one").await;

    push(&test, "broken").await;
    dead(&test, 1).await;
    test.user("alice").says(CHANNEL, "!fix").await;
    hears(&test, "fixed").await;
    well(project, &["dlq", "retry", "1"]);
    hears(&test, "handled broken").await;
    nonsense(&test).await;
    well(project, &["dlq", "drop", "2"]);
    dead(&test, 0).await;
    refused(project, &["sources", "reset", "webhook"], 1, "another bot runs with it");
    test.stop().await;
}
