//! A real WeeChat without a screen, told what to type through its own pipe, on the partyline.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;
use tokio::process::{Child, Command};

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::PATIENCE;

/// A running WeeChat.
struct WeeChat {
    folder: tempfile::TempDir,
    child: Child,
}

impl WeeChat {
    /// Starts it for somebody whose record has the password that all have; it logs in by SASL.
    async fn starts(port: u16, handle: &str) -> WeeChat {
        let folder = tempfile::tempdir().unwrap();
        let commands = [
            "/set logger.file.flush_delay 0".to_owned(),
            "/set logger.file.auto_log on".to_owned(),
            format!("/server add lab 127.0.0.1/{port} -notls"),
            format!("/set irc.server.lab.nicks {handle}"),
            "/set irc.server.lab.capabilities \"*\"".to_owned(),
            "/set irc.server.lab.sasl_mechanism plain".to_owned(),
            format!("/set irc.server.lab.sasl_username {handle}"),
            format!("/set irc.server.lab.sasl_password {PASSWORD}"),
            "/connect lab".to_owned(),
        ];
        let mut command = Command::new("weechat-headless");
        command.arg("--dir").arg(folder.path());
        for line in &commands {
            command.args(["-r", line]);
        }
        let child = command
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|fault| panic!("weechat-headless: {fault}; ./test installs it"));
        let weechat = WeeChat { folder, child };
        weechat.until("its pipe", || weechat.pipe().map(|_| ())).await;
        weechat
    }

    /// The pipe it takes commands from.
    fn pipe(&self) -> Option<PathBuf> {
        let id = self.child.id()?;
        let pipe = self.folder.path().join(format!("weechat_fifo_{id}"));
        pipe.exists().then_some(pipe)
    }

    /// Types a line in the window of a place.
    async fn types(&self, place: &str, line: &str) {
        let pipe = self.pipe().expect("it runs");
        let line = format!("irc.{place} *{line}\n");
        tokio::task::spawn_blocking(move || std::fs::write(pipe, line)).await.unwrap().unwrap();
    }

    /// Ready when it has written this into its log of a place.
    async fn logs(&self, place: &str, words: &str) {
        let path = self.folder.path().join(format!("logs/irc.{place}.weechatlog"));
        let text = || std::fs::read_to_string(&path).unwrap_or_default();
        self.until(words, || text().contains(words).then_some(())).await;
    }

    async fn until(&self, what: &str, look: impl Fn() -> Option<()>) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while look().is_none() {
            let logs = self.folder.path().join("logs");
            let all = || {
                let files = std::fs::read_dir(&logs).into_iter().flatten().flatten();
                files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect::<String>()
            };
            assert!(tokio::time::Instant::now() < end, "{what:?} never came: {}", all());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_real_weechat_logs_in_joins_commands_and_sees_the_answers() {
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    let builder = Bot::builder().bind(Kind::Pub, "-|-", "!hello", hello).unwrap();
    let settings = Settings { motd: vec!["be kind".to_owned()], ..Settings::default() };
    let (bot, at) = bot(builder, settings).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let mut bob = Typist::logs_in(at, "bob").await;
    let alice = WeeChat::starts(at.port(), "alice").await;
    bob.reads("alice is in #partyline now").await;
    alice.logs("server.lab", "be kind").await;
    alice.logs("lab.#partyline", "Channel #partyline: 3 nicks").await;
    alice.types("lab.#ops", "!hello").await;
    alice.logs("lab.#ops", "hi alice").await;
    alice.types("server.lab", "/msg chief .whoami").await;
    alice.logs("lab.chief", "You are alice with the flags p").await;
    bob.types("tea, anybody? ä€😀").await;
    alice.logs("lab.#partyline", "tea, anybody? ä€😀").await;
    alice.types("lab.#partyline", "yes, please").await;
    bob.reads("<alice> yes, please").await;
    alice.types("lab.#partyline", "/me waves").await;
    bob.reads("alice waves").await;
    alice.types("server.lab", "/join #1").await;
    alice.logs("lab.#1", "Channel #1: 2 nicks").await;
    alice.types("server.lab", "/away lunch").await;
    bob.reads("alice is away: lunch").await;
    alice.types("server.lab", "/whois bob").await;
    alice.logs("server.lab", "End of WHOIS").await;
    alice.types("server.lab", "/disconnect lab off home").await;
    bob.reads("alice has left").await;
    bot.stop("").await;
}
