//! A known secret and one that only looks like one, on every way out of the bot: neither leaves by any of them.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Action, How, Secret};
use masterchief::gateway;
use masterchief::irc::Budget;
use serde_json::json;

use super::wire::Wire;

fn say(target: &str, text: &str) -> Action {
    let (network, target, text) = (String::new(), target.to_owned(), text.to_owned());
    Action::Say { network, target, text, how: How::Say, reply: false }
}

/// A secret of the configuration, and something that looks like one.
const KNOWN: &str = "canary-4242-never-said";
const SHAPED: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

fn is_clean(what: &str, text: &str) {
    assert!(text.contains("***"), "{what}: {text}");
    for secret in [KNOWN, SHAPED, "4242-never", "23456789abcdefgh"] {
        assert!(!text.contains(secret), "{secret} left by {what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_with_the_words_of_a_farewell_or_on_a_page() {
    let wire = Wire::plain().await;
    let settings: gateway::Settings = serde_json::from_value(json!({"listen": "127.0.0.1:0"})).unwrap();
    let mut network = wire.settings();
    network.budget = Budget { lines: 3, ..Budget::default() };
    let bot = Bot::builder().gateway(settings).secrets([Secret::new(KNOWN)]).network("story", network);
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    let both = format!("{KNOWN} {SHAPED}");
    let nine: Vec<&str> = std::iter::repeat_n(both.as_str(), 9).collect();
    started.outlet().perform(say("#ops", &nine.join("\n"))).await.unwrap();
    let last = line.hears("PRIVMSG #ops :7 more lines").await;
    let address = last.split(' ').find(|word| word.starts_with("http://")).unwrap();
    is_clean("the page", &reqwest::get(address).await.unwrap().text().await.unwrap());
    let (_, quit) = tokio::join!(started.stop(&both), line.hears("QUIT"));
    is_clean("QUIT", &quit);
}

#[tokio::test(start_paused = true)]
async fn no_secret_leaves_with_a_line_of_a_pipeline_or_its_log() {
    let acted = super::acted::Acted::default();
    let settings = masterchief::pipelines::Settings::default();
    let bot = Bot::builder().secrets([Secret::new(KNOWN)]).executor("acted", acted).pipelines(settings);
    let test = TestBot::start(bot).await.unwrap();
    let shop = format!(
        "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  rollout: \
         {{acted: {{fails: 9, class: app_not_ready, line: \"{KNOWN} {SHAPED}\"}}}}\n"
    );
    test.started().put_pipeline("shop", &shop).await.unwrap();
    test.user("ana").says(CHANNEL, "!deploy shop to dev").await;
    let failed = test.expect(CHANNEL, "FAILED in rollout").await;
    is_clean("a pipeline", &failed);
    test.user("ana").says(CHANNEL, "!run 1").await;
    test.advance(Duration::from_secs(5)).await;
    is_clean("everything", &format!("{:?}", test.net().heard()));
    test.stop().await;
}

#[tokio::test]
async fn no_secret_leaves_on_the_partyline_or_in_its_live_log() {
    use tracing_subscriber::layer::SubscriberExt;
    let (layer, lines) = masterchief::partyline::live_log();
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let bot = Bot::builder().secrets([Secret::new(KNOWN)]).live_log(lines);
    let (bot, at) = super::partyline::bot(bot, masterchief::partyline::Settings::default()).await;
    super::partyline::knows(&bot, "alice", "n").await;
    let mut alice = super::partyline::Typist::logs_in(at, "alice").await;
    alice.types(".console +*").await;
    alice.reads("info").await;
    alice.types(".chat #ops").await;
    alice.types(".who").await;
    let mut seen = alice.reads("alice").await;
    tracing::info!(target: "masterchief::story", secret = KNOWN, "Logged {SHAPED}");
    seen += &alice.reads("Logged ").await;
    for (target, network) in [("#ops", "partyline"), ("alice", "partyline")] {
        let (network, target) = (network.to_owned(), target.to_owned());
        let text = format!("said {KNOWN} {SHAPED} to {target}.");
        bot.outlet().perform(Action::Say { network, target, text, how: How::Say, reply: false }).await.unwrap();
        seen += &alice.reads(&format!("to {}.", if seen.contains("to #ops.") { "alice" } else { "#ops" })).await;
    }
    is_clean("the partyline", &seen);
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_of_the_process() {
    let wire = Wire::plain().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    let script = format!(
        "bot.bind('pub', '-|-', '!log', function() log.warn('{KNOWN} {SHAPED}') error('{KNOWN}') end)\n\
         bot.bind('pub', '-|-', '!hello', function() return 'hi' end)\n"
    );
    std::fs::write(folder.path().join("scripts/log.lua"), script).unwrap();
    for format in ["text", "json"] {
        let config = format!(
            "networks:\n  story:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    channels: [\"#ops\"]\n    \
             password: \"${{env:CANARY}}\"\ndata: data\nscripts: {{folder: scripts}}\nlog: {{level: debug, format: {format}}}\n",
            wire.port()
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let log = folder.path().join("log");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder.path());
        command.env("CANARY", KNOWN).env_remove("RUST_LOG").stdin(std::process::Stdio::null());
        let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut line = wire.accepts().await;
        line.is_joined("", "").await;
        line.says(&[":alice!a@h PRIVMSG #ops :!log", ":alice!a@h PRIVMSG #ops :!hello"]).await;
        line.hears("PRIVMSG #ops :hi").await;
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        line.hears("QUIT").await;
        drop(line);
        child.wait().unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains("log.lua"), "{log}");
        is_clean(&format!("a log in {format}"), &log);
    }
}
