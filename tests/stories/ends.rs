//! How a bot is told things by the system and by its people, and how it ends.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, TestBot};
use masterchief::contract::{Event, Kind};

use crate::wire::Wire;

/// How long a bot that is told to end may take, on a machine that writes much else to its disk.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn handlers_hear_that_the_bot_is_there_and_that_it_ends() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut bot = Bot::builder();
    for (kind, mask) in [(Kind::Evnt, "loaded"), (Kind::Evnt, "sigterm"), (Kind::new("die"), "*")] {
        let heard = Arc::clone(&heard);
        let note = move |ev: Event| {
            let heard = Arc::clone(&heard);
            async move {
                // Some last deed that takes its time.
                tokio::time::sleep(Duration::from_millis(300)).await;
                heard.lock().unwrap().push(format!("{} {}{}", ev.kind(), ev.field_str("type"), ev.text()));
            }
        };
        bot = bot.bind(kind, "-|-", mask, note).unwrap();
    }
    let test = TestBot::start(bot).await.unwrap();
    test.started().tell("sigterm");
    test.stop().await;
    assert_eq!(*heard.lock().unwrap(), ["evnt loaded", "evnt sigterm", "die "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_by_the_system_it_says_goodbye_and_is_gone() {
    let wire = Wire::plain().await;
    let folder = tempfile::tempdir().unwrap();
    let script = "bot.bind('evnt', '-|-', 'sighup', function() bot.say('#ops', 'heard it') end)\n";
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("scripts/hup.lua"), script).unwrap();
    let config = format!(
        "networks:\n  story:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    channels: [\"#ops\"]\n\
         data: data\nscripts: {{folder: scripts}}\n",
        wire.port()
    );
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let signal = |name: &str| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    signal("-HUP");
    line.hears("PRIVMSG #ops :heard it").await;
    let start = Instant::now();
    signal("-TERM");
    line.hears("QUIT").await;
    drop(line);
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < SOON, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(child.wait().unwrap().success());
}
