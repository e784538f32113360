//! One connection of an IRC client: registration, then lines in and news out until somebody goes.

use std::sync::Arc;

use masterchief_contract::Shutdown;

use super::client::Client;
use super::lines::{SERVER, line};
use super::register::{Proof, Register, Step};
use crate::irc::message::Message;
use crate::partyline::gate::{Gate, Machine, Refusal};
use crate::partyline::hall::{Call, Hall, seat_of};
use crate::partyline::news::News;
use crate::partyline::party::LINE_MAX;
use crate::partyline::pump::{Pipe, Talker, converse};
use crate::partyline::room::Face;

/// Passwords that may be tried on one connection.
const TRIES: u32 = 3;

/// Serves one client until it goes.
pub(in crate::partyline) async fn serve(call: Call, hall: Arc<Hall>, mut shutdown: Shutdown) {
    let patience = hall.gate.settings().patience;
    let readable = call.readable(&hall.gate);
    let mut pipe = Pipe::over(call.stream, &call.read);
    let tls = call.tls;
    let facts = Facts { peer: call.peer, readable, cert: call.cert, face: call.face };
    let registering = register(&mut pipe, &hall.gate, &facts);
    let registered = tokio::select! {
        registered = tokio::time::timeout(patience, registering) => registered.ok().flatten(),
        () = shutdown.recv() => None,
    };
    let Some(registered) = registered else {
        pipe.close(&farewell("you did not log in")).await;
        return;
    };
    let login = registered.login.clone().unwrap_or_default();
    let Some(seat) = seat_of(&hall, &login, &registered.nick, (facts.peer, tls), facts.face) else {
        pipe.close(&farewell("the partyline is full")).await;
        return;
    };
    let client = Client::new(hall.party.clone(), seat.idx, registered.caps, hall.motd());
    let welcome = client.welcome();
    converse(pipe, seat, client, welcome, shutdown).await;
}

/// What is known of a connection.
struct Facts {
    peer: std::net::SocketAddr,
    /// Whether others could read a password on the way.
    readable: bool,
    cert: Option<String>,
    face: Face,
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

impl Talker for Client {
    fn render(&mut self, news: &News) -> Vec<String> {
        Client::render(self, news)
    }

    async fn line(&mut self, text: &str) -> (Vec<String>, Option<String>) {
        if without_tags(text).len() > LINE_MAX {
            let too_long = self.numeric("417", &[&format!("a line has at most {LINE_MAX} bytes")]);
            return (vec![too_long], None);
        }
        match Message::parse(text) {
            Ok(message) => self.take(&message).await,
            Err(_) => (Vec::new(), None),
        }
    }

    fn asks(&self) -> String {
        line(SERVER, "PING", &[SERVER])
    }

    fn farewell(&self, reason: &str) -> String {
        farewell(reason)
    }
}

fn farewell(reason: &str) -> String {
    line("", "ERROR", &[&format!("Closing link: {reason}")])
}

fn without_tags(text: &str) -> &str {
    text.strip_prefix('@').and_then(|tagged| tagged.split_once(' ')).map_or(text, |(_, rest)| rest)
}
