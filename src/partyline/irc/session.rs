//! One connection of an IRC client: registration, then lines in and news out until somebody goes.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::client::Client;
use super::lines::{SERVER, line};
use super::register::{Proof, Register, Step};
use crate::irc::Stream;
use crate::irc::decode::LineReader;
use crate::irc::message::Message;
use crate::partyline::gate::{Gate, Machine, Refusal};
use crate::partyline::hall::{Call, Hall, seat_of};
use crate::partyline::pace::Pace;
use crate::partyline::party::{LINE_MAX, Seat};
use crate::partyline::place::Place;
use crate::partyline::room::Face;

/// Silence after which a client is asked whether it is there.
const BEAT: Duration = Duration::from_secs(90);
/// How long it may take to answer, and to take what is sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// To whose session somebody else has ended, after why.
const LET_GO: &str = "you were let go";
/// News that are written together.
const TOGETHER: usize = 64;
/// Passwords that may be tried on one connection.
const TRIES: u32 = 3;

/// Serves one client until it goes.
pub(in crate::partyline) async fn serve(call: Call, hall: Arc<Hall>, mut shutdown: Shutdown) {
    let patience = hall.gate.settings().patience;
    let readable = call.readable(&hall.gate);
    let (read, write) = tokio::io::split(call.stream);
    let mut pipe = Pipe { read, write, lines: LineReader::default(), pace: Pace::default() };
    pipe.lines.feed(&call.read);
    let facts = Facts { peer: call.peer, readable, cert: call.cert, face: call.face };
    let registering = register(&mut pipe, &hall.gate, &facts);
    let registered = tokio::select! {
        registered = tokio::time::timeout(patience, registering) => registered.ok().flatten(),
        () = shutdown.recv() => None,
    };
    let Some(registered) = registered else {
        pipe.farewell("you did not log in").await;
        return;
    };
    let login = registered.login.clone().unwrap_or_default();
    let Some(seat) = seat_of(&hall, &login, &registered.nick, facts.peer, facts.face) else {
        pipe.farewell("the partyline is full").await;
        return;
    };
    let client = Client::new(hall.party.clone(), seat.idx, registered.caps, hall.motd());
    converse(pipe, seat, client, &hall, shutdown).await;
}

/// What is known of a connection.
struct Facts {
    peer: std::net::SocketAddr,
    /// Whether others could read a password on the way.
    readable: bool,
    cert: Option<String>,
    face: Face,
}

/// Both directions of a connection.
struct Pipe {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    lines: LineReader,
    pace: Pace,
}

impl Pipe {
    /// Reads more bytes; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.read.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                self.lines.feed(&buffer[..count]);
                true
            }
            _ => false,
        }
    }

    /// Writes lines; `false` if they are not taken in time.
    async fn send(&mut self, lines: &[String]) -> bool {
        if lines.is_empty() {
            return true;
        }
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 2).sum());
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        let writing = async {
            self.write.write_all(text.as_bytes()).await?;
            self.write.flush().await
        };
        matches!(tokio::time::timeout(PATIENCE, writing).await, Ok(Ok(())))
    }

    async fn farewell(&mut self, reason: &str) {
        self.send(&[line("", "ERROR", &[&format!("Closing link: {reason}")])]).await;
        // Whoever is there hears that nothing more comes.
        let _ = self.write.shutdown().await;
    }
}

/// Until the client may be welcomed; nothing if it may not or goes.
async fn register(pipe: &mut Pipe, gate: &Gate, facts: &Facts) -> Option<Register> {
    let mut register = Register::default();
    let mut tries = 0;
    loop {
        while let Some(text) = pipe.lines.next_line() {
            let text = Some(text.into_owned()).filter(|text| text.len() <= LINE_MAX * 4)?;
            let Ok(message) = Message::parse(&text) else { continue };
            let mut step = register.take(&message);
            if let Step::Judge(proof) = &step {
                tries += 1;
                let judged = judge(gate, facts, proof).await.map_err(|refusal| refusal.to_string());
                step = register.judged(judged);
            }
            match step {
                Step::Say(lines) => {
                    if !pipe.send(&lines).await || tries >= TRIES && register.login.is_none() {
                        return None;
                    }
                }
                Step::Quit => return None,
                Step::Ready if register.login.is_some() => return Some(register),
                Step::Ready => {
                    let judged = last_chance(gate, facts, &register).await;
                    match judged {
                        Ok(handle) => register.login = Some(handle),
                        Err(reason) => {
                            pipe.send(&[line(SERVER, "464", &[register.shown(), &reason])]).await;
                            return None;
                        }
                    }
                    return Some(register);
                }
                Step::Judge(_) => return None,
            }
        }
        if !pipe.more().await {
            return None;
        }
    }
}

async fn judge(gate: &Gate, facts: &Facts, proof: &Proof) -> Result<String, Refusal> {
    // Pages come through the gateway, and that may stand behind a proxy.
    let machine = if facts.face == Face::Web { Machine::Any } else { Machine::This };
    match proof {
        Proof::Password { .. } if facts.readable => Err(Refusal::Plain),
        Proof::Password { handle, password } => {
            gate.password(handle, password, None, facts.peer.ip(), machine).await.map(|login| login.handle)
        }
        Proof::Certificate { handle } => {
            let cert = facts.cert.as_deref().ok_or(Refusal::Wrong)?;
            gate.certificate(cert, Some(handle), facts.peer.ip()).map(|login| login.handle)
        }
    }
}

/// Who has not logged in by SASL: the certificate, then what was sent as PASS.
async fn last_chance(gate: &Gate, facts: &Facts, register: &Register) -> Result<String, String> {
    let mut why = "this is a partyline: log in with PASS handle:password, SASL or a certificate".to_owned();
    for proof in register.passes() {
        match judge(gate, facts, &proof).await {
            Ok(handle) => return Ok(handle),
            Err(refusal) => why = refusal.to_string(),
        }
    }
    if let Some(cert) = &facts.cert
        && let Ok(login) = gate.certificate(cert, None, facts.peer.ip())
    {
        return Ok(login.handle);
    }
    Err(why)
}

/// Lines in, news out.
async fn converse(mut pipe: Pipe, mut seat: Seat, mut client: Client, hall: &Hall, mut shutdown: Shutdown) {
    let mut lines = client.welcome();
    for place in [Place::Party(0), Place::Ops] {
        // Both are for everybody.
        let _ = hall.party.join(seat.idx, &place);
    }
    let mut heard = Instant::now();
    let mut asked = false;
    let reason = loop {
        while let Ok(news) = seat.news.try_recv() {
            lines.extend(client.render(&news));
            if lines.len() >= TOGETHER {
                break;
            }
        }
        let sent = tokio::select! {
            biased;
            sent = pipe.send(&lines) => sent,
            () = seat.cut.recv() => break LET_GO.to_owned(),
        };
        lines.clear();
        if !sent {
            break "does not read".to_owned();
        }
        match next_line(&mut pipe, &mut client, &mut lines).await {
            Next::Goes(reason) => break reason,
            Next::Done => continue,
            Next::Nothing => {}
        }
        let beat = heard + if asked { BEAT + PATIENCE } else { BEAT };
        tokio::select! {
            more = pipe.more() => {
                if !more {
                    break "connection closed".to_owned();
                }
                (heard, asked) = (Instant::now(), false);
            }
            news = seat.news.recv() => match news {
                Some(news) => lines.extend(client.render(&news)),
                None => break LET_GO.to_owned(),
            },
            () = seat.cut.recv() => break LET_GO.to_owned(),
            () = shutdown.recv() => break "the bot is going down".to_owned(),
            () = tokio::time::sleep_until(beat) => {
                if asked {
                    break "no answer to PING".to_owned();
                }
                asked = true;
                lines.push(line(SERVER, "PING", &[SERVER]));
            }
        }
    };
    while let Ok(news) = seat.news.try_recv() {
        lines.extend(client.render(&news));
    }
    let goes = async {
        pipe.send(&lines).await;
        pipe.farewell(&reason).await;
    };
    // Whoever does not read is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), goes).await;
    seat.leaves_with(&reason);
}

/// What came of looking for a line.
enum Next {
    /// None was there.
    Nothing,
    /// One was taken, and there may be more.
    Done,
    /// The client goes, with these words.
    Goes(String),
}

/// Does what the next line says, if there is one.
async fn next_line(pipe: &mut Pipe, client: &mut Client, lines: &mut Vec<String>) -> Next {
    let Some(text) = pipe.lines.next_line() else { return Next::Nothing };
    let text = text.into_owned();
    pipe.pace.take().await;
    if without_tags(&text).len() > LINE_MAX {
        lines.push(line(SERVER, "417", &[client.nick(), &format!("a line has at most {LINE_MAX} bytes")]));
        return Next::Done;
    }
    let Ok(message) = Message::parse(&text) else { return Next::Done };
    let (said, goes) = client.take(&message).await;
    lines.extend(said);
    goes.map_or(Next::Done, Next::Goes)
}

fn without_tags(text: &str) -> &str {
    text.strip_prefix('@').and_then(|tagged| tagged.split_once(' ')).map_or(text, |(_, rest)| rest)
}
