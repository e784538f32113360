//! A known secret and one that only looks like one, on every way out of the bot: neither leaves by any of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt;
use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Action, How, Secret};
use masterchief::irc::Budget;
use masterchief::pipelines::{Hook, Mails};
use masterchief::{gateway, pipelines};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::steps::until;
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

/// A server that takes whatever is posted and keeps it.
async fn takes_posts() -> (String, Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heard: Arc<Mutex<String>> = Arc::default();
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut buffer, mut read) = (vec![0; 65536], 0);
            while !String::from_utf8_lossy(&buffer[..read]).ends_with("\"}") {
                read += stream.read(&mut buffer[read..]).await.unwrap();
            }
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    });
    (url, heard)
}

/// A program that keeps each mail as `mail0`, `mail1`, …
fn takes_mail(folder: &Path) -> Mails {
    let (program, at) = (folder.join("sendmail"), folder.display());
    let script = format!("#!/bin/sh\nn=$(ls {at} | grep -c '^mail')\ncat > {at}/part\nmv {at}/part {at}/mail$n\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lists = [("oncall".to_owned(), vec!["ana@example.org".to_owned()])].into();
    Mails { program, from: "chief@example.org".to_owned(), lists }
}

/// The words of a mail.
fn words(mail: &Path) -> String {
    let text = std::fs::read_to_string(mail).unwrap();
    let body: String = text.split_once("\n\n").unwrap().1.lines().collect();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_by_a_hook_by_mail_over_http_or_to_who_listens_there() {
    const TOKEN: &str = "the-token-of-the-canary";
    let folder = tempfile::tempdir().unwrap();
    let (url, posts) = takes_posts().await;
    let hooks = [("team".to_owned(), Hook { url: Secret::new(url), secret: None })].into();
    let pipelines = pipelines::Settings { hooks, mail: takes_mail(folder.path()), ..pipelines::Settings::default() };
    let settings = json!({"listen": "127.0.0.1:0", "tokens": {"ci": {"token": TOKEN, "flags": "D"}}});
    let settings: gateway::Settings = serde_json::from_value(settings).unwrap();
    let bot = Bot::builder().gateway(settings).secrets([Secret::new(KNOWN)]);
    let bot = bot.executor("acted", super::acted::Acted::default()).pipelines(pipelines).start().await.unwrap();
    let shop = format!(
        "app: shop\nannounce: {{channels: [\"hook:team\", {{name: \"mail:oncall\", only: [failed]}}]}}\npolicy: {{environments: \
         {{dev: {{confirm: never}}}}}}\nstages:\n  rollout: {{acted: {{fails: 9, class: test_failed, line: \"{KNOWN} {SHAPED}\"}}}}\n"
    );
    bot.put_pipeline("shop", &shop).await.unwrap();
    let host = bot.gateway_at().unwrap().to_string();
    let mut request = format!("ws://{host}/pipelines/ws").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let (mut live, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let client = reqwest::Client::new();
    let post = client.post(format!("http://{host}/pipelines/trigger")).bearer_auth(TOKEN);
    let body = json!({"app": "shop", "environment": "dev"}).to_string();
    let answer = post.body(body).send().await.unwrap();
    let (status, told) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 202, "{told}");
    until("the mail", || folder.path().join("mail0").exists()).await;
    is_clean("mail", &words(&folder.path().join("mail0")));
    until("the hook", || posts.lock().unwrap().contains("FAILED")).await;
    is_clean("a hook", &posts.lock().unwrap());
    for path in ["1", "1/events", "1/summary", "1/notices", "incidents?app=shop", ""] {
        let asked = client.get(format!("http://{host}/pipelines/{path}")).bearer_auth(TOKEN);
        let answer = asked.send().await.unwrap().text().await.unwrap();
        assert!(!answer.contains(KNOWN) && !answer.contains(SHAPED), "{path}: {answer}");
        assert!(answer.contains("***") || !["1", "1/events"].contains(&path), "{path}: {answer}");
    }
    let mut told = String::new();
    while let Ok(Some(Ok(news))) = tokio::time::timeout(Duration::from_secs(1), live.next()).await {
        told += &news.into_text().unwrap_or_default();
    }
    assert!(told.contains("\"failed\"") && !told.contains(KNOWN) && !told.contains(SHAPED), "{told}");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_with_the_words_of_a_farewell_or_on_a_page() {
    let wire = Wire::plain().await;
    let settings: gateway::Settings = serde_json::from_value(json!({"listen": "127.0.0.1:0"})).unwrap();
    let mut network = wire.settings();
    network.budget = Budget { lines: 4, ..Budget::default() };
    let bot = Bot::builder().gateway(settings).secrets([Secret::new(KNOWN)]).network("story", network);
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    // With a bold letter in its middle it looks like none, and is read as one.
    let (one, other) = SHAPED.split_at(20);
    started.outlet().perform(say("#ops", &format!("it is {one}\u{2}{other}"))).await.unwrap();
    is_clean("bold", &line.hears("PRIVMSG #ops :it is").await);
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
