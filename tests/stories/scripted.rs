//! Runs from scripts: the words of the channel as functions, how a run goes in few lines, and what a script may where nobody stands
//! behind an event.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::pipelines::{RunState, Settings};

use super::acted::Acted;

const SHOP: &str = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy:\n  environments:\n    dev: {confirm: never}\n    open: {confirm: never, require_flag: \"-\"}\n    prod: {confirm: never, approvals: {count: 1}}\nstages:\n  test: {acted: {takes: 70s, fails: \"{params.bad}\", class: test_failed, line: it is broken}}\n  rollout: {needs: [test], acted: {takes: 50s}, rollback: undo}\n";

async fn scripted(lua: &str) -> (TestBot, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ship.lua"), lua).unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).scripts(dir.path());
    let test = TestBot::start(bot).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap();
    (test, dir)
}

#[tokio::test(start_paused = true)]
async fn a_run_drives_the_progress_of_an_event_in_few_lines_and_its_end_is_said_once() {
    let lua = r#"
        bot.caps{ pipelines = {"shop"} }
        bot.bind("pub", "-|-", "!ship", function(ev)
          local p = ev:progress("shipping")
          local r = pipeline.run("shop", { env = "dev", params = { bad = tonumber(ev.args.bad) }, on_step = p })
          p:step("nobody hears this so soon")
          return r.ok and p:done(r.version) or p:fail(r.line)
        end, { usage = "[bad]", timeout = "10m" })
    "#;
    let (test, _dir) = scripted(lua).await;
    test.user("ana").with_flags("+D").says(CHANNEL, "!ship 0").await;
    test.advance(Duration::from_secs(75)).await;
    test.expect(CHANNEL, "shipping: 1/2, test succeeded").await;
    test.advance(Duration::from_secs(60)).await;
    test.expect(CHANNEL, "shipping: done, the newest").await;
    test.advance(Duration::from_secs(60)).await;
    let said: Vec<String> = test.transcript().into_iter().filter(|line| line.contains("shipping:")).collect();
    assert_eq!(said.len(), 3, "one when each stage ended, and the end; nothing of how they began: {said:#?}");
    test.user("ana").says(CHANNEL, "!ship 9").await;
    test.advance(Duration::from_secs(300)).await;
    test.expect(CHANNEL, "shipping: FAILED, it is broken").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_what_follows_a_run_ends_neither_the_run_nor_the_script() {
    for on_step in [
        "error(\"no table\")",
        "n.nothing.there = 1",
        "bot.say(\"nowhere\", string.rep(\"x\", -1), 7, {})",
        "while true do end",
    ] {
        let lua = format!(
            "bot.caps{{ pipelines = {{\"shop\"}} }}\nbot.bind(\"pub\", \"-|-\", \"!ship\", function(ev)\n  local r = pipeline.run(\"shop\", {{ env = \"dev\", on_step = function(n) {on_step} end }})\n  return `run {{r.run}} {{r.state}}`\nend, {{ timeout = \"10m\" }})\n"
        );
        let (test, _dir) = scripted(&lua).await;
        test.user("ana").with_flags("+D").says(CHANNEL, "!ship").await;
        test.advance(Duration::from_secs(180)).await;
        test.expect(CHANNEL, "run 1 succeeded").await;
        test.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_without_a_person_may_what_it_was_granted_and_approves_nothing() {
    let after = |caps: &str, work: &str| {
        format!(
            "bot.caps{{ pipelines = {{\"shop\"}}{caps} }}\nbot.bind(\"pipeline\", \"-|-\", \"shop/open/succeeded\", function(ev)\n  local ok, why = pcall(function() {work} end)\n  bot.say(\"{CHANNEL}\", `tried: {{ok}} {{why}}`)\nend)\n"
        )
    };
    let start = |caps: &str| after(caps, "pipeline.start(\"shop\", { env = \"dev\" })");
    for (lua, hears) in [
        (start(""), "you may deploy shop to open, not to dev (needs flag D"),
        (start(", flags = \"d\""), "(needs flag D"),
        (start(", flags = \"D\""), "tried: true"),
        (after(", flags = \"D\"", "pipeline.approve(1, \"0000\")"), "waits for no approval"),
        (
            after(", flags = \"D\"", "pipeline.approve(pipeline.start(\"shop\", { env = \"prod\" }), \"0000\")"),
            "only somebody I know can approve",
        ),
        (
            after(", flags = \"D\"", "pipeline.reject(pipeline.start(\"shop\", { env = \"prod\" }), \"no\")"),
            "log in to services first",
        ),
    ] {
        let (test, _dir) = scripted(&lua).await;
        test.advance(Duration::from_secs(1)).await;
        test.user("kim").says(CHANNEL, "!deploy shop to open").await;
        test.advance(Duration::from_secs(180)).await;
        test.expect(CHANNEL, hears).await;
        test.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_of_the_channel_are_functions_and_the_person_needs_the_same_rights() {
    let lua = r#"
        bot.caps{ pipelines = {"shop"} }
        bot.bind("pub", "-|-", "!do", function(ev)
          local word, a, b, c = table.unpack(ev.text:gsub("^!do ", ""):split(" "))
          local got = pipeline[word](tonumber(a) or a, b, c)
          return `{word} gave {got}`
        end)
    "#;
    let (test, _dir) = scripted(lua).await;
    test.user("ana").with_flags("+D").says(CHANNEL, "!deploy shop to prod").await;
    let line = test.expect(CHANNEL, "needs 1 approval").await;
    let code = line.split("!approve 1 ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    test.user("ana").says(CHANNEL, &format!("!do approve 1 {code}")).await;
    test.expect(CHANNEL, "the one who asked cannot approve 1.").await;
    test.user("mallory").says(CHANNEL, &format!("!do approve 1 {code}")).await;
    test.expect(CHANNEL, "log in to services first").await;
    test.user("raj").with_flags("+D").says(CHANNEL, &format!("!do approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] approved by raj").await;
    test.advance(Duration::from_secs(150)).await;
    test.expect(CHANNEL, "[1] shop the newest is live on prod").await;
    test.user("raj").says(CHANNEL, "!do lock shop/prod fair 2h").await;
    test.expect(CHANNEL, "lock gave nil").await;
    test.user("ana").says(CHANNEL, "!do unlock shop/prod").await;
    test.expect(CHANNEL, "that is raj's lock").await;
    test.user("ana").says(CHANNEL, "!do unlock shop/prod urgent").await;
    test.expect(CHANNEL, "unlock gave nil").await;
    test.user("ana").says(CHANNEL, "!deploy shop to dev bad=1").await;
    test.advance(Duration::from_secs(80)).await;
    test.user("ana").says(CHANNEL, "!do retry 2 test").await;
    test.expect(CHANNEL, "retry gave 2").await;
    test.user("ana").says(CHANNEL, "!do abort 2").await;
    test.expect(CHANNEL, "abort gave 2").await;
    test.advance(Duration::from_secs(5)).await;
    assert_eq!(test.started().pipelines().run(2).await.unwrap().unwrap().0.state, RunState::Cancelled);
    test.user("ana").says(CHANNEL, "!do again 2").await;
    test.expect(CHANNEL, "again gave 3").await;
    test.user("ana").says(CHANNEL, "!do rollback other dev").await;
    test.expect(CHANNEL, "error e-").await;
    test.stop().await;
}
