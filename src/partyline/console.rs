//! The console: the terminal stands for a channel, and who types there is the owner of the process.

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Action, Actor, Clock, Event, EventData, How, Inlet, Kind, Refused, Shutdown};
use tokio::sync::mpsc;

/// The name of the console among the networks.
pub const NETWORK: &str = "console";
/// The channel it stands for.
pub const CHANNEL: &str = "#ops";
/// The handle of who types there. It has every flag, as that person can do anything to the process anyway.
pub const HANDLE: &str = "console";
/// Lines read ahead of the street.
const READ_AHEAD: usize = 64;

/// Where the bot's words to the console go. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    nick: Arc<str>,
    bot: Arc<str>,
}

impl Console {
    /// A console that prints to `out`. `nick` is shown for the person, `bot` for the bot.
    pub fn new(out: Box<dyn Write + Send>, nick: &str, bot: &str) -> Console {
        Console { out: Arc::new(Mutex::new(out)), nick: Arc::from(nick), bot: Arc::from(bot) }
    }

    /// A console on this process's standard output.
    pub fn stdout(bot: &str) -> Console {
        let nick = std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "you".to_owned());
        Console::new(Box::new(std::io::stdout()), &nick, bot)
    }

    /// Prints a line that nobody says.
    pub fn print(&self, line: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed terminal is no reason to stop the bot.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Does what a handler asks, on the terminal.
    pub fn perform(&self, action: Action) -> Result<(), Refused> {
        match action.untagged().1 {
            Action::Say { target, text, how, .. } => {
                for line in text.lines().filter(|line| !line.is_empty()) {
                    self.print(&self.said(&target, line, how));
                }
                Ok(())
            }
            Action::Join { .. }
            | Action::Part { .. }
            | Action::Send { .. }
            | Action::Answer { .. }
            | Action::Tagged { .. } => {
                Err(Refused::new("the console is not an IRC network: it has one channel and takes words only"))
            }
        }
    }

    /// Reads standard input until it ends or it is time; each line is an event. Ready when it has ended.
    ///
    /// A line is said in the channel; `/msg TEXT` is said to the bot alone.
    pub async fn read(&self, inlet: Inlet, clock: Clock, mut shutdown: Shutdown) {
        let mut lines = stdin_lines();
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = shutdown.recv() => return,
            };
            let Some(line) = line else { return };
            if let Some(event) = self.event(&line, &clock)
                && inlet.put(event).await.is_err()
            {
                return;
            }
        }
    }

    /// What a typed line means; nothing for an empty one.
    pub fn event(&self, line: &str, clock: &Clock) -> Option<Event> {
        let line = line.trim_end();
        let private = line.strip_prefix("/msg ");
        // IRC clients want a nick there; here there is nobody else.
        let private =
            private.map(|text| text.strip_prefix(&*self.bot).and_then(|rest| rest.strip_prefix(' ')).unwrap_or(text));
        let text = private.unwrap_or(line);
        if private.is_none() && text.starts_with('/') {
            self.print("There is /msg WORDS to speak in private; everything else is said in the channel.");
            return None;
        }
        if text.trim().is_empty() {
            return None;
        }
        let kinds: &'static [Kind] =
            if private.is_some() { &[Kind::Msgm, Kind::Msg] } else { &[Kind::Pubm, Kind::Pub] };
        let mut event = EventData::new(kinds, clock.now());
        event.network = Arc::from(NETWORK);
        event.chan = private.is_none().then(|| Arc::from(CHANNEL));
        event.text = text.to_owned();
        event.actor = Some(Actor {
            nick: self.nick.to_string(),
            user: self.nick.to_string(),
            host: "console".to_owned(),
            login: Some(HANDLE.to_owned()),
            ..Actor::default()
        });
        Some(Event::new(event))
    }

    /// The bot's name on the terminal.
    pub fn bot(&self) -> &str {
        &self.bot
    }

    /// The nick of the person at the terminal.
    pub fn nick(&self) -> &str {
        &self.nick
    }

    fn said(&self, target: &str, line: &str, how: How) -> String {
        let bot = &self.bot;
        let place = if target == CHANNEL || target == &*self.nick { String::new() } else { format!("{target} ") };
        match how {
            How::Say => format!("{place}<{bot}> {line}"),
            How::Notice => format!("{place}-{bot}- {line}"),
            How::Act => format!("{place}* {bot} {line}"),
        }
    }
}

/// The lines of standard input. They are read by a thread of their own, because a read from a terminal cannot be
/// called off; the thread ends with the process.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (to, from) = mpsc::channel(READ_AHEAD);
    let reader = move || {
        let mut line = Vec::new();
        let mut input = std::io::stdin().lock();
        loop {
            line.clear();
            match input.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    if to.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
            }
        }
    };
    if let Err(fault) = std::thread::Builder::new().name("console".to_owned()).spawn(reader) {
        tracing::error!(%fault, "The console cannot read the terminal");
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_typed_line_is_said_in_the_channel_and_slash_msg_to_the_bot_alone() {
        let console = Console::new(Box::new(Paper::default()), "ann", "chief");
        let clock = Clock::system();
        let line = console.event("!hello\n", &clock).unwrap();
        assert_eq!((line.chan(), line.text(), line.nick()), (Some("#ops"), "!hello", "ann"));
        let private = console.event("/msg !status now", &clock).unwrap();
        assert_eq!((private.private(), private.text()), (true, "!status now"));
        assert_eq!(console.event("/msg chief !status", &clock).unwrap().text(), "!status");
        assert!(console.event("/join #x", &clock).is_none());
        assert!(console.event("  \n", &clock).is_none());
    }

    #[test]
    fn what_the_bot_says_is_printed_line_by_line() {
        let paper = Paper::default();
        let console = Console::new(Box::new(paper.clone()), "ann", "chief");
        let say = |target: &str, text: &str, how| {
            let (target, text) = (target.to_owned(), text.to_owned());
            console.perform(Action::Say { network: NETWORK.to_owned(), target, text, how, reply: true }).unwrap();
        };
        say("#ops", "one\ntwo", How::Say);
        say("ann", "psst", How::Notice);
        say("#dev", "waves", How::Act);
        let printed = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(printed, "<chief> one\n<chief> two\n-chief- psst\n#dev * chief waves\n");
    }
}
