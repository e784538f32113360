//! Stories of the partyline: people come in by IRC clients and by telnet, talk, and run the bot.

use std::net::SocketAddr;
use std::time::Duration;

use masterchief::bot::{Bot, Builder, Started};
use masterchief::contract::{Event, Kind, Secret};
use masterchief::partyline::Settings;
use masterchief::users::{PasswordHash, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::person::{PATIENCE, Person};

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";

/// A bot without networks whose partyline listens, and where.
pub(crate) async fn bot(builder: Builder, settings: Settings) -> (Started, SocketAddr) {
    let settings = Settings { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..settings };
    let bot = builder.partyline(settings).start().await.unwrap();
    let at = bot.partyline_at().0.unwrap();
    (bot, at)
}

/// Lets somebody in with these flags.
pub(crate) async fn knows(bot: &Started, handle: &str, flags: &str) {
    let mut user = User::new(handle).unwrap();
    user.change_flags(flags).unwrap();
    user.password = Some(PasswordHash::new(&Secret::new(PASSWORD)).unwrap());
    bot.put_user(user).await.unwrap();
}

/// Somebody who types.
pub(crate) struct Typist {
    stream: TcpStream,
    text: String,
}

impl Typist {
    pub(crate) async fn calls(at: SocketAddr) -> Typist {
        Typist { stream: TcpStream::connect(at).await.unwrap(), text: String::new() }
    }

    /// Comes in with a handle and a password.
    pub(crate) async fn logs_in(at: SocketAddr, handle: &str) -> Typist {
        Typist::logs_in_with(at, handle, PASSWORD).await
    }

    pub(crate) async fn logs_in_with(at: SocketAddr, handle: &str, password: &str) -> Typist {
        let mut typist = Typist::calls(at).await;
        typist.reads("Please enter your handle.").await;
        typist.types(handle).await;
        typist.reads("Enter your password.").await;
        typist.types(password).await;
        typist.reads("Connected to chief").await;
        typist
    }

    pub(crate) async fn types(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// Reads until these words are there; what follows them is read later.
    pub(crate) async fn reads(&mut self, words: &str) -> String {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text.find(words) {
                let rest = self.text.split_off(at + words.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut buffer = [0; 4096];
            match tokio::time::timeout_at(until, self.stream.read(&mut buffer)).await {
                Ok(Ok(count)) if count > 0 => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Ok(_) => panic!("the line was closed before {words:?}: {}", self.text),
                Err(_) => panic!("{words:?} never came: {}", self.text),
            }
        }
    }

    /// Reads until the line is closed.
    pub(crate) async fn reads_to_the_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.unwrap();
        self.text.push_str(&String::from_utf8_lossy(&bytes));
        std::mem::take(&mut self.text)
    }
}

fn greets() -> Builder {
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    Bot::builder().bind(Kind::Pub, "-|-", "!hello", hello).unwrap().bind(Kind::Msg, "-|-", "!hello", hello).unwrap()
}

#[tokio::test]
async fn an_irc_client_with_a_password_sees_the_bot_in_ops_and_is_answered() {
    let (bot, at) = bot(greets(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut alice = Person::logs_in(at.port(), "alice", &format!("alice:{PASSWORD}")).await;
    alice.joins("#ops").await;
    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    alice.says("chief", "!hello");
    let line = alice.waits(|line| line.from == "chief" && line.params.first().is_some_and(|to| to == "alice")).await;
    assert_eq!(line.params.last().map(String::as_str), Some("hi alice"));
    alice.quits();
    bot.stop("").await;
}

#[tokio::test]
async fn where_the_bot_knows_nobody_its_own_password_lets_in_whoever_sits_at_the_machine() {
    let (bot, at) = bot(greets(), Settings::default()).await;
    let own = bot.partyline_password().unwrap().reveal().to_owned();
    let mut ann = Person::logs_in(at.port(), "ann", &own).await;
    ann.says("#ops", "!hello");
    ann.hears("chief", "hi ann").await;
    ann.says("chief", ".whoami");
    ann.hears("chief", "You are console").await;
    // As soon as an owner has a password, the bot's own counts no more.
    knows(&bot, "olga", "n").await;
    let mut typist = Typist::calls(at).await;
    typist.types("NICK bob\r\nUSER b 0 * :Bob\r\n").await;
    typist.reads("464").await;
    let mut typist = Typist::calls(at).await;
    typist.types(&format!("PASS {own}\r\nNICK bob\r\nUSER b 0 * :Bob")).await;
    assert!(typist.reads_to_the_end().await.contains("464"));
    bot.stop("").await;
}

#[tokio::test]
async fn people_talk_across_faces_and_nobody_without_an_account_comes_past_registration() {
    let (bot, at) = bot(greets(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let mut alice = Person::logs_in(at.port(), "alice", &format!("alice:{PASSWORD}")).await;
    alice.waits(|line| line.command == "366" && line.params.iter().any(|param| param == "#partyline")).await;
    let mut bob = Typist::logs_in(at, "bob").await;
    alice.sees_join("bob", "#partyline").await;
    bob.types("good evening").await;
    alice.hears("bob", "good evening").await;
    alice.says("#partyline", "hello bob");
    bob.reads("<alice> hello bob").await;
    bob.types(".me waves").await;
    alice.hears("bob", "ACTION waves").await;
    bob.types("!hello").await;
    bob.reads("[#ops] <chief> hi bob").await;
    alice.says("bob", "psst");
    bob.reads("[alice] psst").await;
    bob.types(".who").await;
    let who = bob.reads("bob ").await;
    assert!(who.contains("2 sessions on chief") && who.contains("alice"), "{who}");
    // A second session of a handle has another name.
    let second = Typist::logs_in(at, "bob").await;
    alice.sees_join("bob~2", "#partyline").await;
    drop(second);
    alice.waits(|line| line.command == "QUIT" && line.from == "bob~2").await;
    bob.types(".quit off home").await;
    alice.waits(|line| line.command == "QUIT" && line.params.last().is_some_and(|words| words == "off home")).await;
    for wrong in ["PASS alice:wrong words", "CAP END", "PASS :"] {
        let mut mallory = Typist::calls(at).await;
        mallory.types(&format!("{wrong}\r\nNICK alice\r\nUSER m 0 * :M\r\nJOIN #ops\r\nPRIVMSG #ops :!hello")).await;
        let answered = mallory.reads_to_the_end().await;
        assert!(answered.contains(" 464 ") && !answered.contains(" 001 "), "{answered}");
    }
    bot.stop("").await;
}

#[tokio::test]
async fn wrong_passwords_are_few_and_written_down() {
    let settings = Settings { attempts: 2, window: Duration::from_secs(600), ..Settings::default() };
    let (bot, at) = bot(greets(), settings).await;
    knows(&bot, "alice", "p").await;
    let mut mallory = Typist::calls(at).await;
    mallory.reads("Please enter your handle.").await;
    for _ in 0..2 {
        mallory.types("alice").await;
        mallory.reads("Enter your password.").await;
        mallory.types("hunter2 hunter2").await;
        mallory.reads("that handle and password do not fit").await;
    }
    let mut alice = Typist::calls(at).await;
    alice.types(&format!("PASS :alice:{PASSWORD}\r\nNICK alice\r\nUSER a 0 * :A")).await;
    assert!(alice.reads_to_the_end().await.contains("too many wrong passwords"));
    let rows = bot.audit_recent(10).await.unwrap();
    let refused = rows.iter().filter(|row| row.mask == "login" && row.action == "refused");
    assert!(refused.clone().count() >= 3, "{rows:?}");
    assert!(rows.iter().all(|row| !row.detail.contains("hunter2")), "{rows:?}");
    bot.stop("").await;
}
