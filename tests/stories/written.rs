//! The lines that the bot was promised with work as they are written, in Lua and in Rust.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Event, Kind};
use masterchief::journal::Fixture;
use serde_json::json;

use super::steps::eventually;

const LINES: &str = r##"
bot.bind("pub",     "-|-", "!deploy",                   deploy_handler)
bot.bind("msg",     "-|-", "!status",                   status_handler)
bot.bind("time",    "-|-", "*/5 * * * *",               cron_handler)
bot.bind("webhook", "-|-", "github/push",               handle_github_push)
bot.bind("file",    "-|-", "/data/*.json",              handle_json_files)
bot.bind("stream",  "-|-", "kafka:deployments",         handle_deployments)
bot.bind("log",     "-|-", "/var/log/app.log",          handle_app_logs)
bot.bind("metric",  "-|-", "prometheus:cpu_usage>80",   handle_high_cpu)
"##;

/// What happens outside, one of each kind: its words, and what it is.
const OUTSIDE: [(Kind, &str, &str); 5] = [
    (Kind::Webhook, "github/push", "alice pushed"),
    (Kind::File, "/data/*.json", "{\"total\": 7}"),
    (Kind::Stream, "kafka:deployments", "shop 1.4"),
    (Kind::Log, "/var/log/app.log", "the till is open"),
    (Kind::Metric, "prometheus:cpu_usage>80", "FIRING cpu_usage"),
];

#[tokio::test(start_paused = true)]
async fn each_line_works_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let handlers =
        ["handle_github_push", "handle_json_files", "handle_deployments", "handle_app_logs", "handle_high_cpu"]
            .map(|name| format!("local {name} = function(ev) bot.say(\"{CHANNEL}\", \"{name}: \" .. ev.text) end\n"));
    let own = format!(
        "local function deploy_handler(ev) return \"deploying\" end\nlocal function status_handler(ev) return \"all is well\" end\nlocal function cron_handler(ev) bot.say(\"{CHANNEL}\", \"five minutes\") end\n"
    );
    std::fs::write(dir.path().join("lines.lua"), own + &handlers.concat() + LINES).unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let mut builder = Bot::builder().scripts(dir.path());
    for (kind, mask, _) in OUTSIDE {
        let heard = Arc::clone(&heard);
        let handler = move |event: Event| {
            heard.lock().unwrap().push(format!("{kind} {}", event.text()));
            async {}
        };
        builder = builder.bind(kind, "-|-", mask, handler).unwrap();
    }
    let test = TestBot::start(builder).await.unwrap();
    // The binds take their places in the journal.
    test.advance(Duration::from_secs(1)).await;
    let ana = test.user("ana");
    ana.says(CHANNEL, "!deploy").await;
    test.expect(CHANNEL, "deploying").await;
    ana.says("chief", "!status").await;
    test.expect("ana", "all is well").await;
    let names = ["github_push", "json_files", "deployments", "app_logs", "high_cpu"];
    for ((kind, _, words), name) in OUTSIDE.into_iter().zip(names) {
        let webhook = json!({"provider": "github", "event": "push"});
        let fields = if kind.name() == "webhook" { webhook } else { json!({}) };
        let fixture: Fixture = serde_json::from_value(json!({
            "kind": kind.name(), "lane": "one", "text": words, "fields": fields,
        }))
        .unwrap();
        test.started().happens(fixture).await.unwrap();
        let told = format!("handle_{name}: {words}");
        test.find(CHANNEL, Duration::from_secs(60), |said| said.contains(&told)).await.unwrap();
    }
    eventually("that Rust hears of each", async || heard.lock().unwrap().len() == OUTSIDE.len()).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    let mut all = OUTSIDE.map(|(kind, _, words)| format!("{kind} {words}"));
    all.sort();
    assert_eq!(heard, all);
    test.advance(Duration::from_secs(300)).await;
    test.find(CHANNEL, Duration::from_secs(60), |said| said.contains("five minutes")).await.unwrap();
    test.stop().await;
}
