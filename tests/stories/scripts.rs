//! What scripts see, told by scripts: `tests/lua/` and the shipped ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot, run_tests, test_files};
use masterchief::users;

fn pass(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let results = run_tests(&test_files(&folder), "", &users::Settings::default(), &BTreeMap::new()).unwrap();
    let failed: Vec<String> =
        results.iter().filter_map(|result| Some(format!("{}: {}", result.name, result.failure.as_ref()?))).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    results.len()
}

#[test]
fn every_module_and_every_way_to_answer_works() {
    assert!(pass("tests/lua") >= 28);
}

#[test]
fn the_shipped_scripts_pass_their_tests() {
    assert!(pass("scripts") >= 9);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_was_called_ends_as_fast_as_one_that_was_not_whatever_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let lua = "local last\nbot.bind('pub', '-|-', '!hello', function(ev) last = ev return 'hi' end)";
    std::fs::write(folder.path().join("hello.lua"), lua).unwrap();
    let mut took = Vec::new();
    for called in [false, true] {
        let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
        if called {
            test.user("alice").says(CHANNEL, "!hello").await;
            test.expect(CHANNEL, "hi").await;
        }
        let begun = tokio::time::Instant::now();
        test.stop().await;
        took.push(begun.elapsed());
    }
    assert!(took[1] < took[0] + Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_script_that_cannot_work_is_refused_with_its_line_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("local x = = 1", "bad.lua:1"),
        (
            "\n\nbot.bind('pubb', '-|-', '!x', print)",
            "bad.lua:3: kind: there is no kind \"pubb\"; did you mean \"pub\"?",
        ),
        ("bot.bind('pub', 'm|1', '!x', print)", "bad.lua:1: flags \"m|1\", column 3"),
        (
            "bot.bind('pub', '-|-', '!x', print, { helq = 'x' })",
            "bad.lua:1: bot.bind has no option helq; did you mean help?",
        ),
        ("bot.bind('pub', '-|-', '!x', print, { usage = '<a' })", "usage \"<a\", column 1"),
        (
            "bot.bind('pub', '-|-', '!x')",
            "the handler is missing; write bot.bind(kind, flags, mask, handler [, options])",
        ),
        ("bot.bind('cron', '-|-', '61 * * * *', print)", "mask \"61 * * * *\", column 1"),
        ("bot.bnid('pub', '-|-', '!x', print)", "bad.lua:1: there is no bot.bnid; did you mean bot.bind?"),
        ("bot.caps{ sh = 'deploy' }", "sh of bot.caps is a list of strings"),
        ("bot.caps{ http = { 'https://x.org/foo' } }", "is not a host; write"),
        ("local t = {} while true do table.insert(t, ('x'):rep(100000) .. #t) end", "raise scripts.limits.memory"),
        ("kv.set('x', 1)", "the top level of a script only declares"),
        ("os.execute('id')", "bad.lua:1"),
        ("require('../secret')", "libraries stand in the folder lib"),
        ("require('lib/../../secret')", "libraries stand in the folder lib"),
    ];
    for (text, wanted) in cases {
        std::fs::write(folder.path().join("bad.lua"), text).unwrap();
        let started = Bot::builder().scripts(folder.path()).start().await.unwrap();
        let report = started.reload_scripts().await;
        let told = report.failed.first().map(ToString::to_string).unwrap_or_default();
        assert!(told.contains(wanted), "{text}\n  told: {told}\n  wanted: {wanted}");
        started.stop("").await;
    }
}

#[test]
fn the_script_in_the_readme_passes_the_test_in_the_readme() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```lua\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("deploy.lua"), blocks[0]).unwrap();
    std::fs::write(folder.path().join("deploy_test.lua"), blocks[1]).unwrap();
    let files = test_files(folder.path());
    let results = run_tests(&files, "", &users::Settings::default(), &BTreeMap::new()).unwrap();
    assert_eq!((results.len(), results[0].failure.as_deref()), (1, None));
}
