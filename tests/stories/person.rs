//! People on a real server, played by another IRC client than ours.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use irc::client::prelude::{Client, Command, Config, Sender};
use irc::proto::{CapSubCommand, Prefix};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a person waits for something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody with a client.
pub(crate) struct Person {
    pub(crate) nick: String,
    sender: Sender,
    heard: Arc<Mutex<Vec<Heard>>>,
    changed: watch::Receiver<usize>,
    reading: JoinHandle<()>,
    /// Lines up to here were waited for.
    read: usize,
}

/// A line that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The nick it came from.
    pub(crate) from: String,
    /// `PRIVMSG`, `JOIN`, `433`…
    pub(crate) command: String,
    /// Its parameters.
    pub(crate) params: Vec<String>,
}

impl Person {
    /// Connects in plain text and waits for the welcome.
    pub(crate) async fn connect(port: u16, nick: &str) -> Person {
        Person::with(Config { port: Some(port), ..Config::default() }, nick).await
    }

    /// The same with a password for the server.
    pub(crate) async fn logs_in(port: u16, nick: &str, password: &str) -> Person {
        let password = Some(password.to_owned());
        Person::with(Config { port: Some(port), password, ..Config::default() }, nick).await
    }

    async fn with(config: Config, nick: &str) -> Person {
        let config = Config {
            server: Some("127.0.0.1".to_owned()),
            nickname: Some(nick.to_owned()),
            username: Some(nick.to_owned()),
            use_tls: Some(false),
            // The crate's own limit is read nowhere; this says that none is wanted.
            max_messages_in_burst: Some(100_000),
            ..config
        };
        let mut client = Client::from_config(config).await.unwrap();
        let sender = client.sender();
        sender.send_cap_req(&[irc::proto::Capability::MultiPrefix]).unwrap();
        sender.send(Command::CAP(None, CapSubCommand::END, None, None)).unwrap();
        client.identify().unwrap();
        let mut stream = client.stream().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (tell, changed) = watch::channel(0);
        let lines = Arc::clone(&heard);
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let from = match &message.prefix {
                    Some(Prefix::Nickname(nick, _, _)) => nick.clone(),
                    Some(Prefix::ServerName(name)) => name.clone(),
                    None => String::new(),
                };
                let line = String::from(&message.command);
                let (head, tail) =
                    line.split_once(" :").map_or((line.as_str(), None), |(head, tail)| (head, Some(tail)));
                let mut words = head.split(' ').map(str::to_owned);
                let command = words.next().unwrap_or_default();
                let params: Vec<String> = words.chain(tail.map(str::to_owned)).collect();
                let mut lines = lines.lock().unwrap();
                lines.push(Heard { from, command, params });
                tell.send_replace(lines.len());
            }
        });
        let mut person = Person { nick: nick.to_owned(), sender, heard, changed, reading, read: 0 };
        person.waits(|line| matches!(line.command.as_str(), "376" | "422")).await;
        person
    }

    /// Sends a line as it is.
    pub(crate) fn sends(&self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (head, tail) = rest.split_once(':').map_or((rest, None), |(head, tail)| (head, Some(tail)));
        let mut params: Vec<String> = head.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        params.extend(tail.map(str::to_owned));
        self.sender.send(Command::Raw(command.to_owned(), params)).unwrap();
    }

    /// Joins a channel and waits until in it.
    pub(crate) async fn joins(&mut self, chan: &str) {
        self.sends(&format!("JOIN {chan}"));
        self.waits(|line| line.command == "366" && line.params.iter().any(|param| param == chan)).await;
    }

    /// Says something to a channel or a nick.
    pub(crate) fn says(&self, target: &str, text: &str) {
        self.sender.send_privmsg(target, text).unwrap();
    }

    /// Waits for words from somebody, in a channel or in private, that hold `text`; gives all of them.
    pub(crate) async fn hears(&mut self, from: &str, text: &str) -> String {
        let wanted = |line: &Heard| {
            line.from == from
                && matches!(line.command.as_str(), "PRIVMSG" | "NOTICE")
                && line.params.last().is_some_and(|words| words.contains(text))
        };
        self.waits(wanted).await.params.pop().unwrap_or_default()
    }

    /// Waits until somebody has joined a channel.
    pub(crate) async fn sees_join(&mut self, who: &str, chan: &str) {
        self.waits(|line| {
            line.command == "JOIN" && line.from == who && line.params.first().is_some_and(|name| name == chan)
        })
        .await;
    }

    /// Waits for a line after those waited for before.
    pub(crate) async fn waits(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        match self.waits_for(PATIENCE, wanted).await {
            Some(line) => line,
            None => panic!("{} waited in vain. Heard: {:#?}", self.nick, self.heard.lock().unwrap()),
        }
    }

    /// The same for a while, without a fuss.
    pub(crate) async fn waits_for(&mut self, time: Duration, wanted: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let mut changed = self.changed.clone();
        let search = async {
            loop {
                changed.borrow_and_update();
                {
                    let heard = self.heard.lock().unwrap();
                    if let Some(at) = (self.read..heard.len()).find(|at| wanted(&heard[*at])) {
                        return (at, heard[at].clone());
                    }
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let (at, line) = tokio::time::timeout(time, search).await.ok()?;
        self.read = at + 1;
        Some(line)
    }

    /// Everything said by somebody so far.
    pub(crate) fn all_from(&self, from: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let theirs = heard.iter().filter(|line| line.from == from && line.command == "PRIVMSG");
        theirs.filter_map(|line| line.params.last().cloned()).collect()
    }

    /// All words of somebody so far, loud or quiet: to whom, and what.
    pub(crate) fn words_of(&self, from: &str) -> Vec<(String, String)> {
        let heard = self.heard.lock().unwrap();
        let said = |line: &&Heard| line.from == from && matches!(line.command.as_str(), "PRIVMSG" | "NOTICE");
        let part = |part: Option<&String>| part.cloned().unwrap_or_default();
        heard.iter().filter(said).map(|line| (part(line.params.first()), part(line.params.last()))).collect()
    }

    /// How often a line like this came.
    pub(crate) fn count(&self, wanted: impl Fn(&Heard) -> bool) -> usize {
        self.heard.lock().unwrap().iter().filter(|line| wanted(line)).count()
    }

    /// Quits.
    pub(crate) fn quits(self) {
        // The server may be gone already.
        let _ = self.sender.send_quit("bye");
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
