//! A real irssi, driven in a terminal of its own, on the partyline.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::PATIENCE;

/// A running irssi, with what its terminal has shown.
struct Irssi {
    folder: tempfile::TempDir,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    _child: Child,
}

impl Irssi {
    /// Starts it for somebody whose record has the password that all have; it logs in by SASL.
    fn starts(port: u16, handle: &str) -> Irssi {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let config = format!(
            r#"servers = ( {{ address = "127.0.0.1"; chatnet = "lab"; port = "{port}"; autoconnect = "yes"; }} );
chatnets = {{ lab = {{ type = "IRC"; nick = "{handle}"; sasl_mechanism = "PLAIN"; sasl_username = "{handle}"; sasl_password = "{PASSWORD}"; }}; }};
settings = {{
  core = {{ real_name = "{handle}"; user_name = "{handle}"; nick = "{handle}"; }};
  "fe-common/core" = {{ autolog = "yes"; autolog_level = "all"; autolog_path = "{home}/logs/$0.log"; }};
}};
"#
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        // `script` gives it a terminal; without a size it would draw nothing.
        let command = format!("stty cols 160 rows 40; exec irssi --home='{home}'");
        let mut child = Command::new("script")
            .args(["-q", "-f", "-c", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // With its end the terminal is gone, and irssi with it.
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|fault| panic!("script: {fault}; ./test installs it and irssi"));
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::<Mutex<String>>::default();
        let seen = Arc::clone(&shown);
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(count) = screen.read(&mut bytes).await {
                if count == 0 {
                    return;
                }
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Irssi { folder, keys, shown, _child: child }
    }

    async fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\r").as_bytes()).await.unwrap();
    }

    /// Ready when this stands on the screen.
    async fn shows(&self, words: &str) {
        self.until(words, || plain(&self.shown.lock().unwrap())).await;
    }

    /// Ready when irssi has written this into its log of a place.
    async fn logs(&self, place: &str, words: &str) {
        let path = self.folder.path().join(format!("logs/{place}.log"));
        self.until(words, || std::fs::read_to_string(&path).unwrap_or_default()).await;
    }

    async fn until(&self, words: &str, look: impl Fn() -> String) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = look();
            if text.contains(words) {
                return;
            }
            let screen = plain(&self.shown.lock().unwrap());
            assert!(tokio::time::Instant::now() < end, "{words:?} never came: {text}\nthe screen: {screen}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a terminal shows, without what moves and colours it.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            // What chooses a set of letters has one more behind it.
            '\u{1b}' => {
                if chars.next().is_some_and(|c| "()".contains(c)) {
                    chars.next();
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[tokio::test]
async fn a_real_irssi_joins_commands_and_sees_the_answers() {
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    let builder = Bot::builder().bind(Kind::Pub, "-|-", "!hello", hello).unwrap();
    let settings = Settings { motd: vec!["be kind".to_owned()], ..Settings::default() };
    let (bot, at) = bot(builder, settings).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let mut bob = Typist::logs_in(at, "bob").await;
    let mut alice = Irssi::starts(at.port(), "alice");
    bob.reads("alice is in #partyline now").await;
    alice.shows("be kind").await;
    alice.logs("#ops", "chief").await;
    alice.types("/msg #ops !hello").await;
    alice.logs("#ops", "hi alice").await;
    // A command in a channel and one to the bot alone; each is answered to alice alone.
    alice.types("/msg chief .whoami").await;
    alice.logs("chief", "You are alice with the flags p").await;
    bob.types("tea, anybody? ä€😀").await;
    alice.logs("#partyline", "tea, anybody? ä€😀").await;
    alice.types("/join #1").await;
    alice.logs("#1", "chief").await;
    alice.types(".uptime").await;
    alice.logs("chief", "Up for 0 days").await;
    alice.types("/msg #partyline yes, please").await;
    bob.reads("<alice> yes, please").await;
    alice.types("/me waves").await;
    alice.types("/away lunch").await;
    bob.reads("alice is away: lunch").await;
    alice.types("/whois bob").await;
    // It is shown in the first window.
    alice.types("/window 1").await;
    alice.shows("End of WHOIS").await;
    alice.types("/quit off home").await;
    bob.reads("alice has left: off home").await;
    bot.stop("").await;
}
