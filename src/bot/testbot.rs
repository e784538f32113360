//! A bot for tests: the real one on a network in memory, on tokio's paused clock.
//!
//! ```
//! use masterchief::bot::{Bot, TestBot};
//! use masterchief::contract::{Event, Kind};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bot = Bot::builder().bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.nick()) })?;
//! let test = TestBot::start(bot).await?;
//! test.user("alice").says("#ops", "!hello").await;
//! test.expect("#ops", "hi alice").await;
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use futures_util::FutureExt;
use masterchief_contract::Clock;

use super::fakenet::{FakeNet, Heard};
use super::people::row_of;
use super::{Builder, StartError, Started};
use crate::users::User;

/// The name of the network in memory.
pub const NETWORK: &str = "test";
/// The channel the bot is in from the start. It joins others when somebody speaks in them.
pub const CHANNEL: &str = "#ops";
/// How long [`TestBot::expect`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A started bot and its network.
pub struct TestBot {
    net: FakeNet,
    started: Mutex<Option<Arc<Started>>>,
    clock: Clock,
    /// For each target, up to where its lines were expected.
    read: Mutex<BTreeMap<String, usize>>,
    /// The lines that were expected, by number.
    expected: Mutex<BTreeSet<usize>>,
}

/// A person of the network.
pub struct TestUser<'a> {
    test: &'a TestBot,
    nick: String,
}

impl TestBot {
    /// Starts the bot at noon of 2 March 2026, UTC. Call it under a paused clock.
    pub async fn start(builder: Builder) -> Result<TestBot, StartError> {
        TestBot::begin(builder, noon(), None).await
    }

    /// Starts the bot at noon with its records in a folder, where the next one finds them.
    pub async fn start_in(folder: &Path, builder: Builder) -> Result<TestBot, StartError> {
        TestBot::begin(builder, noon(), Some(folder)).await
    }

    /// Starts the bot at a time of one's own.
    pub async fn start_at(builder: Builder, at: DateTime<Utc>) -> Result<TestBot, StartError> {
        TestBot::begin(builder, at, None).await
    }

    /// The same at a time of one's own: who looks at the folder beside it has a clock, too.
    pub async fn start_in_at(folder: &Path, builder: Builder, at: DateTime<Utc>) -> Result<TestBot, StartError> {
        TestBot::begin(builder, at, Some(folder)).await
    }

    async fn begin(builder: Builder, at: DateTime<Utc>, folder: Option<&Path>) -> Result<TestBot, StartError> {
        let clock = Clock::starting(at);
        let net = FakeNet::new(clock.clone());
        let builder = builder.on_fake_network(NETWORK, CHANNEL, net.clone(), clock.clone());
        let builder = match folder {
            Some(folder) => builder.data(folder),
            None => builder,
        };
        let started = builder.start().await?;
        if !net.joined(CHANNEL, Duration::from_secs(60)).await {
            return Err(StartError::Network { network: NETWORK.to_owned(), reason: "the bot did not join".to_owned() });
        }
        let started = Mutex::new(Some(Arc::new(started)));
        Ok(TestBot { net, started, clock, read: Mutex::default(), expected: Mutex::default() })
    }

    /// The network, for what people do beyond talking.
    pub fn net(&self) -> &FakeNet {
        &self.net
    }

    /// The running bot.
    ///
    /// # Panics
    ///
    /// After [`TestBot::stop`].
    pub fn started(&self) -> Arc<Started> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(started.as_ref().expect("the bot is asked before it is stopped"))
    }

    /// Stops the bot, if nobody else holds it.
    pub async fn stop(&self) {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(started) = started.and_then(Arc::into_inner) {
            started.stop("").await;
        }
    }

    /// What the bot did after it had joined that no [`TestBot::expect`] asked for.
    pub fn unexpected(&self) -> Vec<String> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut out = Vec::new();
        for (at, heard) in self.net.heard().into_iter().enumerate() {
            let routine = heard.command == "JOIN" && heard.target == CHANNEL || heard.command == "MODE";
            if !expected.contains(&at) && !routine {
                out.push(format!("{} {} {}", heard.command, heard.target, heard.text));
            }
        }
        out
    }

    /// The time of day in the test.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Somebody, known to the network from now on. Without an account until [`TestUser::logged_in`].
    pub fn user(&self, nick: &str) -> TestUser<'_> {
        if !self.net.knows(nick) {
            self.net.person(nick, None, None);
        }
        TestUser { test: self, nick: nick.to_owned() }
    }

    /// Lets time pass.
    pub async fn advance(&self, time: Duration) {
        // In steps, so that what becomes due meanwhile is done at its own time.
        let step = Duration::from_secs(1);
        let mut left = time;
        while left > Duration::ZERO {
            let now = left.min(step);
            tokio::time::sleep(now).await;
            left -= now;
        }
    }

    /// The bot says something that holds `text` to `target`, within five seconds of virtual time.
    ///
    /// Lines to a target are read in order; what was skipped is not found later. Names that were made quiet, with a zero-width space
    /// in them, are as they are spoken.
    ///
    /// # Panics
    ///
    /// If it does not, with all that was said.
    pub async fn expect(&self, target: &str, text: &str) -> String {
        let spoken = |line: &str| line.replace('\u{200b}', "");
        let text = spoken(text);
        match self.find(target, PATIENCE, |line| spoken(line).contains(&text)).await {
            Ok(line) => line,
            Err(transcript) => panic!("{target} did not hear `{text}`. The bot said:\n{transcript}"),
        }
    }

    /// The bot says nothing to `target` for `time`.
    ///
    /// # Panics
    ///
    /// If it does, with the line.
    pub async fn expect_silence(&self, target: &str, time: Duration) {
        if let Ok(line) = self.find(target, time, |_| true).await {
            panic!("{target} should have heard nothing but heard `{line}`");
        }
    }

    /// The next line to `target` that `wanted` accepts, or all that was said.
    pub async fn find(&self, target: &str, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let after = self.read().get(target).copied().unwrap_or(0);
        let is_it = |heard: &Heard| is_talk(heard) && heard.target == target && wanted(&heard.text);
        match self.net.hear(after, within, is_it).await {
            Some(at) => {
                self.read().insert(target.to_owned(), at + 1);
                self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
                Ok(self.net.heard().swap_remove(at).text)
            }
            None => Err(self.transcript().join("\n")),
        }
    }

    /// Everything the bot said, a line each.
    pub fn transcript(&self) -> Vec<String> {
        let talk = self.net.heard().into_iter().filter(is_talk);
        talk.map(|heard| format!("{} {} {}", heard.command, heard.target, heard.text)).collect()
    }

    /// How many lines the bot said to anybody.
    pub fn said(&self) -> usize {
        self.net.heard().iter().filter(|heard| is_talk(heard)).count()
    }

    /// Cuts the connection and waits until the bot is back in its channel.
    pub async fn kill_connection(&self) -> bool {
        let before = self.net.connections();
        self.net.cut();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.net.connections() > before && self.net.joined(CHANNEL, Duration::from_secs(10)).await {
                return true;
            }
        }
        false
    }

    fn read(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestUser<'_> {
    /// Logs in to a services account.
    pub fn logged_in(self, account: &str) -> Self {
        self.test.net.person(&self.nick, Some(account), None);
        self
    }

    /// Gives the account a record with these flags, as `masterchief users add` would.
    pub fn with_flags(self, flags: &str) -> Self {
        self.test.net.person(&self.nick, Some(&self.nick), None);
        let (started, user) = (self.test.started(), User::with_account(&self.nick, NETWORK, &self.nick, flags));
        let user = user.unwrap_or_else(|fault| panic!("{fault}"));
        let (store, row) = (started.store().clone(), row_of(&user));
        let mut written = Box::pin(async move { store.put_user(&row).await });
        // In memory that takes no time.
        match written.as_mut().now_or_never() {
            None => drop(tokio::spawn(written)),
            Some(done) => done.unwrap_or_else(|fault| panic!("{fault}")),
        }
        started.book().put(user).unwrap_or_else(|fault| panic!("{fault}"));
        self
    }

    /// Sets the host that is shown.
    pub fn from_host(self, host: &str) -> Self {
        self.test.net.person(&self.nick, None, Some(host));
        self
    }

    /// Says something in a channel, or to the bot with its nick as target.
    pub async fn says(&self, target: &str, text: &str) -> &Self {
        self.test.net.says(&self.nick, target, text).await;
        self
    }

    /// Joins a channel.
    pub async fn joins(&self, chan: &str) -> &Self {
        self.test.net.joins(&self.nick, chan).await;
        self
    }
}

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).single().unwrap_or_default()
}

/// Whether people read this.
fn is_talk(heard: &Heard) -> bool {
    matches!(heard.command.as_str(), "PRIVMSG" | "NOTICE")
}
