//! The console: who sits at the terminal is on the partyline, as the owner of the process.

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{How, Shutdown};
use tokio::sync::mpsc;

use super::console_modes::Modes;
use super::news::{News, What, names};
use super::party::{Party, Seat};
use super::place::{CHANNEL, Place};
use super::room::{Entry, Face};
use super::telnet::clean;
use super::typed::Meant;

/// The handle of who types there. It has every flag, as that person can do anything to the process anyway.
pub const HANDLE: &str = "console";
/// Lines read ahead of the street.
const READ_AHEAD: usize = 64;
/// What can be typed with a slash.
const SLASHES: &str = "There are /msg WORDS to speak in private, /msg NICK WORDS and /join #PLACE; .help lists the commands, and everything else is said in the channel.";

/// The terminal. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    nick: Arc<str>,
}

/// What a typed line means.
#[derive(Debug, PartialEq, Eq)]
enum Typed<'a> {
    Nothing,
    Say(&'a str),
    Command(&'a str),
    ToBot(&'a str),
    Whisper(&'a str, &'a str),
    Join(&'a str),
    Unknown,
}

impl Console {
    /// A console that prints to `out`. `nick` is the person's name.
    pub fn new(out: Box<dyn Write + Send>, nick: &str) -> Console {
        Console { out: Arc::new(Mutex::new(out)), nick: Arc::from(nick) }
    }

    /// A console on this process's standard output.
    pub fn stdout() -> Console {
        let nick = std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "you".to_owned());
        Console::new(Box::new(std::io::stdout()), &nick)
    }

    /// Prints a line that nobody says.
    pub fn print(&self, line: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed terminal is no reason to stop the bot.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Sits down at the partyline.
    pub fn sit(&self, party: &Party) -> Seat {
        let entry = Entry {
            nick: self.nick.to_string(),
            handle: HANDLE.to_owned(),
            host: "console".to_owned(),
            face: Face::Console,
            icon: '*',
            modes: Modes::default(),
        };
        let seat = party.enter(entry);
        for place in [Place::Ops, Place::Party(0)] {
            // Both are for everybody.
            let _ = party.join(seat.idx, &place);
        }
        seat
    }

    /// Reads standard input until it ends or it is time. Ready when it has ended.
    pub async fn read(&self, party: Party, idx: u32, mut shutdown: Shutdown) {
        let mut lines = stdin_lines();
        let mut place = Place::Ops;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = shutdown.recv() => return,
            };
            let Some(line) = line else { return };
            if let Err(fault) = self.typed(&party, idx, &mut place, &line).await {
                self.print(&fault);
            }
        }
    }

    /// Prints what there is to tell until it is time, and then what is still there.
    pub async fn show(&self, mut seat: Seat, mut until: Shutdown) {
        loop {
            let news = tokio::select! {
                biased;
                news = seat.news.recv() => news,
                () = until.recv() => seat.news.try_recv().ok(),
            };
            let Some(news) = news else { return };
            if let Some(line) = shown(&news, seat.idx) {
                self.print(&clean(&line));
            }
        }
    }

    async fn typed(&self, party: &Party, idx: u32, place: &mut Place, line: &str) -> Result<(), String> {
        let bot = party.bot();
        let Some(line) = party.sifted(idx, line).await else { return Ok(()) };
        let line = line.as_str();
        match meaning(line, &bot) {
            Typed::Nothing => {}
            Typed::Say(text) => match party.meant(idx, place, text) {
                Meant::Command(command) => party.command_in(idx, Some(place), command).await?,
                Meant::Fault(fault) => return Err(fault),
                Meant::Words => drop(party.say(idx, place, text, How::Say).await?),
            },
            Typed::Command(text) => party.command(idx, text).await?,
            Typed::ToBot(text) => drop(party.say_to_bot(idx, text, How::Say).await?),
            Typed::Whisper(to, text) => {
                if party.whisper(idx, to, text, How::Say).is_none() {
                    // It may be words for the bot that begin with any word.
                    let whole = line.trim_end().strip_prefix("/msg ").unwrap_or(text);
                    party.say_to_bot(idx, whole, How::Say).await?;
                }
            }
            Typed::Join(name) => {
                let to = Place::parse(name)
                    .ok_or_else(|| format!("there is no {name}; there are #ops, #partyline and #1"))?;
                party.join(idx, &to)?;
                self.print(&format!("You speak in {to} now."));
                *place = to;
            }
            Typed::Unknown => self.print(SLASHES),
        }
        Ok(())
    }
}

/// What a typed line means.
fn meaning<'a>(line: &'a str, bot: &str) -> Typed<'a> {
    let line = line.trim_end();
    if line.trim().is_empty() {
        return Typed::Nothing;
    }
    if let Some(text) = line.strip_prefix("/msg ") {
        // IRC clients want a nick there.
        let to_bot = text.strip_prefix(bot).and_then(|rest| rest.strip_prefix(' '));
        let text = to_bot.unwrap_or(text);
        if let Some(command) = text.strip_prefix('.').filter(|rest| !rest.starts_with([' ', '.'])) {
            return Typed::Command(command);
        }
        return match text.split_once(' ') {
            Some((to, words)) if to_bot.is_none() && !to.starts_with(['!', '.']) => Typed::Whisper(to, words),
            _ => Typed::ToBot(text),
        };
    }
    if let Some(name) = line.strip_prefix("/join ") {
        return Typed::Join(name.trim());
    }
    if line.starts_with('/') { Typed::Unknown } else { Typed::Say(line) }
}

/// News as a line on the terminal, unless it is one's own.
fn shown(news: &News, own: u32) -> Option<String> {
    if news.from.idx == Some(own) {
        return None;
    }
    let nick = &news.from.nick;
    match &news.what {
        What::Said { place, text, how } => {
            let place = if place.to_string() == CHANNEL { String::new() } else { format!("{place} ") };
            Some(said(&place, nick, text, *how))
        }
        What::Whisper { text, how, .. } => Some(said("", nick, text, *how)),
        What::Joined { place } => Some(format!("* {nick} is in {place} now")),
        What::Parted { place, .. } => Some(format!("* {nick} has left {place}")),
        What::Came { place, who } => Some(format!("* {} are in {place} now", names(who))),
        What::Went { place, who, .. } => Some(format!("* {} have left {place}", names(who))),
        What::Left { reason } => Some(format!("* {nick} has left: {reason}")),
        What::Away { reason: Some(reason) } => Some(format!("* {nick} is away: {reason}")),
        What::Away { reason: None } => Some(format!("* {nick} is back")),
        What::Renamed { to } => Some(format!("* {nick} is {to} now")),
        What::Topic { place, text } => Some(format!("* {nick} sets the topic of {place}: {text}")),
        What::Log { text, .. } => Some(text.clone()),
    }
}

fn said(place: &str, nick: &str, line: &str, how: How) -> String {
    match how {
        How::Say => format!("{place}<{nick}> {line}"),
        How::Notice => format!("{place}-{nick}- {line}"),
        How::Act => format!("{place}* {nick} {line}"),
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

    #[test]
    fn a_typed_line_is_said_in_the_channel_and_slash_msg_to_the_bot_alone() {
        let of = |line| meaning(line, "chief");
        assert_eq!(of("!hello\n"), Typed::Say("!hello"));
        assert_eq!(of("/msg !status now"), Typed::ToBot("!status now"));
        assert_eq!(of("/msg chief !status"), Typed::ToBot("!status"));
        assert_eq!(of("/msg chief .who"), Typed::Command("who"));
        assert_eq!(of("/msg bob see you"), Typed::Whisper("bob", "see you"));
        assert_eq!(of("/join #1"), Typed::Join("#1"));
        assert_eq!(of("/nick x"), Typed::Unknown);
        assert_eq!(of("  \n"), Typed::Nothing);
    }

    #[test]
    fn what_is_said_is_shown_as_irc_clients_show_it() {
        assert_eq!(said("", "chief", "one", How::Say), "<chief> one");
        assert_eq!(said("", "chief", "psst", How::Notice), "-chief- psst");
        assert_eq!(said("#dev ", "chief", "waves", How::Act), "#dev * chief waves");
    }
}
