//! Scripts that misbehave, and scripts that are reloaded while people talk.

use std::path::Path;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};

use crate::lab::Lab;
use crate::person::Person;
use crate::real::{bot_on, joined, settings};

/// How often a script is reloaded under traffic. The full count is 500: `MASTERCHIEF_RELOADS=500`.
fn reloads() -> usize {
    std::env::var("MASTERCHIEF_RELOADS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

fn script(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

async fn with_scripts(lab: &Lab, scripts: &[(&str, &str)]) -> (Started, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in scripts {
        script(folder.path(), name, text);
    }
    let started = Bot::builder().network("lab", settings(lab, "#ops")).scripts(folder.path()).start().await.unwrap();
    joined(&started, "#ops").await;
    (started, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_scripts_hold_nobody_up_and_are_named() {
    let lab = Lab::start();
    let bad = r##"
        bot.bind("pub", "-|-", "!loop", function() while true do end end)
        bot.bind("pub", "-|-", "!pcall", function() while true do pcall(function() while true do end end) end end)
        bot.bind("pub", "-|-", "!big", function() return #string.rep("x", 1024 * 1024 * 1024) end)
        bot.bind("pub", "-|-", "!hoard", function() local t = {} while true do table.insert(t, ("x"):rep(1000) .. #t) end end)
        bot.bind("pub", "-|-", "!bomb", function() return string.find(("a"):rep(200000), ("a*"):rep(30) .. "b") end)
        bot.bind("pub", "-|-", "!sleep", function() time.sleep(30) return "late" end, { timeout = "1s" })
        bot.bind("pub", "-|-", "!deep", function() local function f() return 1 + f() end return f() end)
        bot.bind("pub", "-|-", "!fine", function() return "still fine" end)"##;
    let good = r#"bot.bind("pub", "-|-", "!good", function(ev) return "good " .. ev.text end)"#;
    let (started, _folder) = with_scripts(&lab, &[("bad.lua", bad), ("good.lua", good)]).await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let mut mallory = Person::connect(lab.plain, "mallory").await;
    mallory.joins("#ops").await;
    let mut waits = Vec::new();
    for word in ["!loop", "!pcall", "!big", "!hoard", "!bomb", "!sleep", "!deep"] {
        mallory.says("#ops", word);
        for n in 0..20 {
            let asked = Instant::now();
            alice.says("#ops", &format!("!good {word} {n}"));
            alice.hears("chief", &format!("good {word} {n}")).await;
            waits.push(asked.elapsed());
        }
        let wanted = if word == "!sleep" { "gave up after 1 s" } else { "error e-" };
        mallory.hears("chief", wanted).await;
    }
    waits.sort();
    // Had the others waited for the offender, each first question of twenty would have taken half a second or more.
    let p95 = waits[waits.len() * 95 / 100];
    assert!(p95 < Duration::from_millis(400), "others waited {p95:?}");
    mallory.says("#ops", "!fine");
    mallory.hears("chief", "still fine").await;
    assert_eq!(started.status().await.networks[0].connections, 1);
    let faults: u64 = started
        .status()
        .await
        .scripts
        .iter()
        .filter(|script| script.name == "bad.lua")
        .map(|script| script.faults)
        .sum();
    assert!(faults >= 6, "{faults} faults counted");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_traffic_give_exactly_one_reply_to_each_trigger() {
    let lab = Lab::start();
    let version = |n: usize| {
        format!(
            "local n = {n}\nbot.bind('pub', '-|-', '!n', function(ev) if tonumber(ev.text) % 3 == 0 then time.sleep(0.01) end return 'reply ' .. ev.text end)"
        )
    };
    let (started, folder) = with_scripts(&lab, &[("n.lua", &version(0))]).await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let (reloads, per_reload) = (reloads(), 10);
    for reload in 0..reloads {
        for n in 0..per_reload {
            alice.says("#ops", &format!("!n {}", reload * per_reload + n));
        }
        script(folder.path(), "n.lua", &version(reload + 1));
        let report = started.reload_scripts().await;
        assert_eq!((report.loaded.len(), report.failed.len()), (1, 0));
    }
    let total = reloads * per_reload;
    let start = Instant::now();
    while alice.all_from("chief").len() < total && start.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut replies: Vec<usize> = alice
        .all_from("chief")
        .iter()
        .map(|words| words.strip_prefix("reply ").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX))
        .collect();
    replies.sort_unstable();
    assert_eq!(replies, (0..total).collect::<Vec<_>>());
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_script_is_loaded_at_once_and_a_broken_one_leaves_the_old_version_serving() {
    let lab = Lab::start();
    let answer = |text: &str| format!("bot.bind('pub', '-|-', '!v', function() return '{text}' end)");
    let (started, folder) = with_scripts(&lab, &[("v.lua", &answer("one"))]).await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("#ops", "!v");
    alice.hears("chief", "one").await;
    script(folder.path(), "v.lua", &answer("two"));
    let start = Instant::now();
    loop {
        alice.says("#ops", "!v");
        if alice.hears("chief", "").await == "two" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the saved script is not loaded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for broken in [
        "bot.bind('pub', '-|-', '!v', function( end",
        "bot.bind('pub', '-|1', '!v', print)",
        "while true do end",
        "bot.say('#ops', 'x')",
    ] {
        script(folder.path(), "v.lua", broken);
        let report = started.reload_scripts().await;
        assert_eq!(report.failed.len(), 1, "{broken}");
        assert!(report.failed[0].to_string().starts_with("v.lua:1"), "{}", report.failed[0]);
        alice.says("#ops", "!v");
        alice.hears("chief", "two").await;
    }
    std::fs::remove_file(folder.path().join("v.lua")).unwrap();
    assert_eq!(started.reload_scripts().await.removed, ["v.lua"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_leaves_behind_is_what_the_next_version_gets() {
    let lab = Lab::start();
    let text = r##"
        local state = { count = 0 }
        bot.on_load(function() if bot.carried then state = bot.carried end end)
        bot.on_unload(function() return state end)
        bot.on_load(function() bot.bind("pubm", "-|-", "#ops *twice?*", function(ev) ev:say("heard " .. ev.text) end) end)
        bot.bind("pub", "-|-", "!count", function() state.count = state.count + 1 return "count " .. state.count end)"##;
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), "count.lua", text);
    let started = bot_on(&lab, "#ops").scripts(folder.path()).start().await.unwrap();
    joined(&started, "#ops").await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    for n in 1..=3 {
        alice.says("#ops", "!count");
        alice.hears("chief", &format!("count {n}")).await;
        started.reload_scripts().await;
    }
    // A version that cannot begin leaves the one before as it was.
    script(folder.path(), "count.lua", &format!("{text}\nbot.on_load(function() error('no') end)"));
    assert_eq!(started.reload_scripts().await.failed.len(), 1);
    alice.says("#ops", "!count");
    alice.hears("chief", "count 4").await;
    alice.says("#ops", "twice?!");
    alice.hears("chief", "heard twice?!").await;
    alice.says("#ops", "!count");
    alice.hears("chief", "count 5").await;
    assert_eq!(alice.all_from("chief").iter().filter(|words| words.starts_with("heard")).count(), 1);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripts_own_block_of_the_configuration_reaches_it_when_it_changes() {
    let lab = Lab::start();
    let (started, folder) = with_scripts(
        &lab,
        &[("app.lua", "bot.bind('pub', '-|-', '!app', function() return 'app ' .. (bot.config and bot.config.name or 'none') end)")],
    )
    .await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("#ops", "!app");
    alice.hears("chief", "app none").await;
    let text = format!(
        "networks: {{lab: {{servers: [\"localhost:{}\"], channels: [\"#ops\"], pace: {{interval: 0s}}}}}}\nscripts: {{settings: {{app: {{name: web}}}}}}\n",
        lab.tls
    );
    let config = masterchief::config::parse(&folder.path().join("config.yaml"), &text).unwrap();
    started.reconfigure(&config).await.unwrap();
    alice.says("#ops", "!app");
    alice.hears("chief", "app web").await;
    assert_eq!(started.status().await.networks[0].connections, 1, "the connection was kept");
    started.stop("").await;
}
