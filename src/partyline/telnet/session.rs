//! One connection of somebody who types: banner, handle, password, and then lines both ways.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{How, Secret, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::iac::{ECHO_OFF, ECHO_ON, Lines};
use super::pager::Pager;
use crate::irc::Stream;
use crate::partyline::gate::{Gate, Login, Machine, Refusal};
use crate::partyline::guess::{Guess, guess};
use crate::partyline::hall::{Arrival, Call, Hall, seat_of};
use crate::partyline::news::{News, What, names};
use crate::partyline::pace::Pace;
use crate::partyline::party::{Party, Seat};
use crate::partyline::place::Place;
use crate::partyline::room::Face;

/// How long somebody may take to read what is written.
const PATIENCE: Duration = Duration::from_secs(60);
/// Passwords that may be tried on one connection.
const TRIES: u32 = 3;
/// To whose session somebody else has ended, after why.
const LET_GO: &str = "you were let go";
/// News that are written together.
const TOGETHER: usize = 64;

/// Both directions of a connection.
struct Pipe {
    stream: Stream,
    lines: Lines,
    pace: Pace,
}

impl Pipe {
    /// The next line; nothing at the end.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return Some(line);
            }
            let mut buffer = [0; 2048];
            match self.stream.read(&mut buffer).await {
                Ok(count) if count > 0 => self.lines.feed(&buffer[..count]),
                _ => return None,
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        matches!(tokio::time::timeout(PATIENCE, writing).await, Ok(Ok(())))
    }

    async fn say(&mut self, text: &str) -> bool {
        self.write(format!("{text}\r\n").as_bytes()).await
    }
}

/// Somebody who logs in, a bot that is not for us, or an IRC client that was silent for so long that it was taken for somebody who types.
enum Who {
    Person(Login),
    Bot(String),
    Irc(String),
}

/// Serves one connection until it goes, or gives it back: it is an IRC client's after all.
pub(in crate::partyline) async fn serve(call: Call, hall: Arc<Hall>, mut shutdown: Shutdown) -> Option<Call> {
    let patience = hall.gate.settings().patience;
    let readable = call.readable(&hall.gate);
    let (peer, tls, cert) = (call.peer, call.tls, call.cert.clone());
    let mut pipe = Pipe { stream: call.stream, lines: Lines::default(), pace: Pace::default() };
    pipe.lines.feed(&call.read);
    let greeting = Greeting { hall: &hall, peer, tls, readable, cert: cert.as_deref() };
    let entering = tokio::time::timeout(patience, greeting.enter(&mut pipe));
    let who = tokio::select! {
        who = entering => who.ok().flatten(),
        () = shutdown.recv() => None,
    };
    match who {
        None => {
            // Whoever is still there may read it.
            let _ = pipe.say("Goodbye.").await;
        }
        Some(Who::Bot(handle)) => {
            let arrival = Arrival { stream: pipe.stream, read: pipe.lines.into_rest(), handle, peer, tls, cert };
            if let Err(fault) = hall.arrivals.try_send(arrival) {
                tracing::warn!(%fault, "A bot called and nobody takes it");
            }
        }
        Some(Who::Irc(line)) => {
            let read = [line.as_bytes(), b"\r\n", &pipe.lines.into_rest()].concat();
            return Some(Call { stream: pipe.stream, read, peer, tls, cert, face: Face::Irc });
        }
        Some(Who::Person(login)) => match seat_of(&hall, &login.handle, &login.handle, (peer, tls), Face::Telnet) {
            Some(seat) => converse(pipe, seat, &hall, shutdown).await,
            None => drop(pipe.say("The partyline is full.").await),
        },
    }
    None
}

/// How somebody is met.
struct Greeting<'a> {
    hall: &'a Hall,
    peer: std::net::SocketAddr,
    tls: bool,
    readable: bool,
    cert: Option<&'a str>,
}

impl Greeting<'_> {
    async fn enter(&self, pipe: &mut Pipe) -> Option<Who> {
        let (gate, bot) = (&self.hall.gate, self.hall.party.bot());
        pipe.say(&format!("\r\n{bot}  ({})\r\n\r\nPlease enter your handle.", self.hall.version)).await;
        for again in 0..TRIES {
            let line = pipe.line().await?;
            if again == 0 && guess(line.as_bytes()) == Guess::Irc {
                return Some(Who::Irc(line));
            }
            let handle = line.trim();
            if handle.is_empty() {
                continue;
            }
            if gate.is_bot(handle) {
                return Some(Who::Bot(handle.to_owned()));
            }
            if let Some(cert) = self.cert
                && let Ok(login) = gate.certificate(cert, Some(handle), self.peer.ip())
            {
                return Some(Who::Person(login));
            }
            if self.readable {
                pipe.say(&Refusal::Plain.to_string()).await;
                return None;
            }
            match self.ask(pipe, gate, handle).await? {
                Ok(login) => return Some(Who::Person(login)),
                Err(refusal) => {
                    pipe.say(&refusal.to_string()).await;
                    if matches!(refusal, Refusal::Later(_) | Refusal::NoAccess) {
                        return None;
                    }
                    pipe.say("Please enter your handle.").await;
                }
            }
        }
        None
    }

    /// Asks for the password, and for a code if the record wants one.
    async fn ask(&self, pipe: &mut Pipe, gate: &Gate, handle: &str) -> Option<Result<Login, Refusal>> {
        pipe.say("Enter your password.").await;
        let password = Secret::new(self.hidden(pipe).await?);
        let code = if gate.wants_code(handle) {
            pipe.say("Enter the code of your authenticator.").await;
            Some(self.hidden(pipe).await?)
        } else {
            None
        };
        Some(gate.password(handle, &password, code.as_deref(), self.peer.ip(), Machine::This).await)
    }

    /// A line that is not shown while it is typed.
    async fn hidden(&self, pipe: &mut Pipe) -> Option<String> {
        // Terminals that speak telnet do it in clear only; others (openssl s_client) would show the bytes.
        if !self.tls {
            pipe.write(ECHO_OFF).await;
        }
        let line = pipe.line().await;
        if !self.tls {
            pipe.write(ECHO_ON).await;
        }
        line
    }
}

/// Lines in, news out.
async fn converse(mut pipe: Pipe, mut seat: Seat, hall: &Hall, mut shutdown: Shutdown) {
    let party = &hall.party;
    // Nowhere after `.chat off`.
    let mut place = Some(Place::Party(0));
    let mut text = hall.motd().iter().fold(String::new(), |text, line| text + line + "\r\n");
    text.push_str(&format!(
        "Connected to {}, in {}. Commands begin with a dot: .help lists them.\r\n",
        party.bot(),
        Place::Party(0)
    ));
    for place in [Place::Party(0), Place::Ops] {
        // Both are for everybody.
        let _ = party.join(seat.idx, &place);
    }
    let mut pager = Pager::default();
    let reason = loop {
        for _ in 0..TOGETHER {
            let Ok(news) = seat.news.try_recv() else { break };
            text.push_str(&paged(&mut pager, party, &news, seat.idx, place.as_ref()));
        }
        let sent = tokio::select! {
            biased;
            sent = pipe.write(text.as_bytes()) => sent,
            () = seat.cut.recv() => break LET_GO.to_owned(),
        };
        text.clear();
        if !sent {
            break "does not read".to_owned();
        }
        tokio::select! {
            line = pipe.line() => {
                let Some(line) = line else { break "connection closed".to_owned() };
                pipe.pace.take().await;
                text.push_str(&pager.typed(page_of(party, seat.idx), &line));
                match typed(party, seat.idx, &mut place, line.trim_end()).await {
                    Ok(Some(reason)) => break reason,
                    Ok(None) => {}
                    Err(fault) => text.push_str(&format!("{fault}\r\n")),
                }
            }
            news = seat.news.recv() => match news {
                Some(news) => text.push_str(&paged(&mut pager, party, &news, seat.idx, place.as_ref())),
                None => break LET_GO.to_owned(),
            },
            () = seat.cut.recv() => break LET_GO.to_owned(),
            () = shutdown.recv() => break "the bot is going down".to_owned(),
        }
    };
    while let Ok(news) = seat.news.try_recv() {
        text.extend(shown(&news, (seat.idx, false), place.as_ref()));
    }
    text.push_str(&format!("*** {reason}\r\n"));
    let until = Instant::now() + Duration::from_secs(2);
    // Whoever does not read is not waited for.
    let _ = tokio::time::timeout_at(until, pipe.write(text.as_bytes())).await;
    seat.leaves_with(&reason);
}

/// News as text, answers a page at a time. What people say does not wait behind a long answer.
fn paged(pager: &mut Pager, party: &Party, news: &News, own: u32, place: Option<&Place>) -> String {
    // Asked of one's own words only: the others come by the hundred.
    let echo = news.from.idx == Some(own) && party.session(own, |session| session.echo).unwrap_or_default();
    let line = shown(news, (own, echo), place).unwrap_or_default();
    let answer = news.from.idx.is_none() && matches!(news.what, What::Whisper { .. });
    if answer { pager.line(page_of(party, own), line) } else { line }
}

/// How many lines somebody sees at once, at this moment.
fn page_of(party: &Party, idx: u32) -> usize {
    party.session(idx, |session| session.page).unwrap_or_default()
}

/// Does what a line says; gives the words with which somebody goes.
async fn typed(party: &Party, idx: u32, place: &mut Option<Place>, line: &str) -> Result<Option<String>, String> {
    let Some(line) = party.sifted(idx, line).await.filter(|line| !line.is_empty()) else { return Ok(None) };
    let line = line.as_str();
    let Some(command) = line.strip_prefix('.').filter(|rest| !rest.is_empty() && !rest.starts_with([' ', '.'])) else {
        // Who speaks in #ops speaks to the bot; everywhere else to people.
        match line.split_at_checked(1) {
            // Eggdrop's words for everybody on this bot are said where this bot's people are; those for masters only begin
            // with a comma, wherever they are typed.
            Some(("'", rest)) => drop(party.say(idx, &Place::Ops, rest, How::Say).await?),
            _ if line.starts_with('!') => drop(party.say(idx, &Place::Ops, line, How::Say).await?),
            _ => drop(party.say(idx, somewhere(place.as_ref())?, line, How::Say).await?),
        }
        return Ok(None);
    };
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    match word.to_ascii_lowercase().as_str() {
        "quit" => return Ok(Some(if rest.is_empty() { "quit".to_owned() } else { rest.to_owned() })),
        "me" => drop(party.say(idx, somewhere(place.as_ref())?, rest, How::Act).await?),
        "chat" if rest.trim().eq_ignore_ascii_case("off") => {
            party.goes_off(idx);
            *place = None;
        }
        "chat" => {
            let to = Place::parse(rest.trim()).or_else(|| Place::parse(&format!("#{}", rest.trim())));
            let to = match rest.trim() {
                "" | "0" => Some(Place::Party(0)),
                _ => to,
            };
            let to = to.ok_or(
                "write .chat 0 for the partyline, .chat 1 for channel 1, .chat *1 for one of this bot alone, .chat #ops, .chat #channel@network, or .chat off",
            )?;
            party.join(idx, &to)?;
            if let Some(from) = place.replace(to.clone()).filter(|from| *from != to && *from != Place::Ops) {
                party.part(idx, &from, "");
            }
        }
        _ => party.command_in(idx, place.as_ref(), command).await?,
    }
    Ok(None)
}

/// Where words go that are typed.
fn somewhere(place: Option<&Place>) -> Result<&Place, String> {
    place.ok_or_else(|| "You are in no channel, and nobody hears you; .chat 0 is the partyline.".to_owned())
}

/// News as a line for a terminal. What the bot says to this person alone stands without its name; their own words are shown to
/// whoever wants that.
fn shown(news: &News, (own, echo): (u32, bool), place: Option<&Place>) -> Option<String> {
    if news.from.idx == Some(own) && !(echo && matches!(news.what, What::Said { .. })) {
        return None;
    }
    let nick = &news.from.nick;
    let at = |other: &Place| if Some(other) == place { String::new() } else { format!("[{other}] ") };
    let line = match &news.what {
        What::Said { place, text, how: How::Act } => format!("{}* {nick} {text}", at(place)),
        What::Said { place, text, how: How::Notice } => format!("{}-{nick}- {text}", at(place)),
        What::Said { place, text, how: How::Say } => format!("{}<{nick}> {text}", at(place)),
        What::Whisper { text, .. } if news.from.idx.is_none() => text.clone(),
        What::Whisper { text, how: How::Act, .. } => format!("* {nick} {text} (to you)"),
        What::Whisper { text, .. } => format!("[{nick}] {text}"),
        What::Joined { place } => format!("*** {nick} is in {place} now."),
        What::Parted { place, .. } => format!("*** {nick} has left {place}."),
        What::Came { place, who } => format!("*** {} are in {place} now.", names(who)),
        What::Went { place, who, .. } => format!("*** {} have left {place}.", names(who)),
        What::Left { reason } => format!("*** {nick} has left: {reason}"),
        What::Away { reason: Some(reason) } => format!("*** {nick} is away: {reason}"),
        What::Away { reason: None } => format!("*** {nick} is back."),
        What::Renamed { to } => format!("*** {nick} is {to} now."),
        What::Topic { place, text } => format!("*** {nick} sets the topic of {place}: {text}"),
        What::Log { text, .. } => text.clone(),
    };
    Some(format!("{}\r\n", clean(&line)))
}

/// Without what a terminal would obey: other people's words come here.
pub(in crate::partyline) fn clean(line: &str) -> String {
    crate::irc::text::plain(line).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_on_anothers_terminal() {
        assert_eq!(clean("a\u{1b}[2J\u{9b}b\r\n\u{3}04red"), "a[2Jbred");
    }
}
