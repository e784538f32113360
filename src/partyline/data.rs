//! The face for programs in pages: one record of JSON a line, each way. The WebSocket subprotocol `data.masterchief` carries it.
//!
//! What a client sends is an object with `do`, and with an `id` of its own if it wants to hear that it is done:
//!
//! ```json
//! {"do": "login", "handle": "alice", "password": "…", "code": "123456"}
//! {"do": "command", "line": "who", "id": 7}           and, if it matters (`me waves`), the "place" where it was typed
//! {"do": "say", "to": "#ops", "text": "!hello"}       a place, a name, or the bot; "act": true acts
//! {"do": "join", "place": "#1"}  {"do": "part", "place": "#1"}  {"do": "away", "reason": "lunch"}
//! {"do": "names", "place": "#ops"}  {"do": "complete", "line": "wh"}  {"do": "quit", "reason": "home"}
//! ```
//!
//! What it hears is an object with `type`: `hello` first, `welcome` after the login; `done` and `error` with the `id`; `names` and
//! `complete` as answers; and what happens: `said told joined parted came went left away renamed topic log`, each with `n`, `at` and `from`.
//! What the bot answers to a command is `told`, a line each; what `.console` asks for is `log`, with `mode`, `level` and `text`. `ping`
//! wants any line back; `bye` is the last.

use std::sync::Arc;

use chrono::SecondsFormat;
use masterchief_contract::{CaseMap, How, Secret, Shutdown};
use serde::Deserialize;
use serde_json::{Value, json};

use super::gate::{Machine, Refusal};
use super::hall::{Call, Hall, seat_of};
use super::here::Here;
use super::news::{Author, News, What};
use super::party::{LINE_MAX, Party};
use super::place::Place;
use super::pump::{Pipe, Talker, converse};
use super::typed::Meant;

/// Logins that may be tried on one connection.
const TRIES: u32 = 3;
/// The longest record that is taken, in bytes: a line, escaped as far as it can be.
const RECORD_MAX: usize = LINE_MAX * 6 + 200;
/// Words that stand for a tab.
const COMPLETED: usize = 100;

/// The fields of each record, as an error names them.
const ASKS: &[(&str, &str)] = &[
    ("login", "handle, password, and code if one is wanted"),
    ("command", "line, and place if it matters"),
    ("say", "to, text, and act (true or false) if it is to be acted"),
    ("join", "place"),
    ("part", "place, and reason if there is one"),
    ("away", "reason, unless you are back"),
    ("names", "place"),
    ("complete", "line"),
    ("pong", "none"),
    ("quit", "reason, if there is one"),
];

/// What a client asks.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Ask {
    Login {
        handle: String,
        password: Secret,
        #[serde(default)]
        code: Option<String>,
    },
    Command {
        line: String,
        #[serde(default)]
        place: Option<String>,
    },
    Say {
        to: String,
        text: String,
        #[serde(default)]
        act: bool,
    },
    Join {
        place: String,
    },
    Part {
        place: String,
        #[serde(default)]
        reason: String,
    },
    Away {
        #[serde(default)]
        reason: Option<String>,
    },
    Names {
        place: String,
    },
    Complete {
        line: String,
    },
    Pong,
    Quit {
        #[serde(default)]
        reason: String,
    },
}

/// A record that was read: what is asked, and under what number.
fn read(line: &str) -> (Value, Result<Ask, String>) {
    if line.len() > RECORD_MAX {
        return (Value::Null, Err(format!("a record has at most {RECORD_MAX} bytes")));
    }
    let mut record: Value = match serde_json::from_str(line) {
        Ok(record) => record,
        // Where in the text it is wrong, and not what stands there: it may be a password.
        Err(fault) => {
            return (Value::Null, Err(format!("no JSON at line {}, column {}", fault.line(), fault.column())));
        }
    };
    let id = record.as_object_mut().and_then(|object| object.remove("id")).unwrap_or(Value::Null);
    let id = if id.is_string() || id.is_number() { id } else { Value::Null };
    let known = record.get("do").and_then(Value::as_str).and_then(|name| ASKS.iter().find(|(known, _)| *known == name));
    let ask = Ask::deserialize(record).map_err(|_fault| match known {
        // What is missing or too much, and not what stands there: it may be a password.
        Some((name, fields)) => format!("{name} has these fields: {fields}"),
        None => {
            "no such record: there are login, command, say, join, part, away, names, complete, pong and quit".to_owned()
        }
    });
    (id, ask)
}

/// Serves one client until it goes.
pub(super) async fn serve(call: Call, hall: Arc<Hall>, mut shutdown: Shutdown) {
    let patience = hall.gate.settings().patience;
    let peer = Peer { at: call.peer, readable: call.readable(&hall.gate) };
    let mut pipe = Pipe::over(call.stream, &call.read);
    let logging_in = tokio::time::timeout(patience, login(&mut pipe, &hall, &peer));
    let handle = tokio::select! {
        handle = logging_in => handle.ok().flatten(),
        () = shutdown.recv() => None,
    };
    let Some(handle) = handle else {
        return pipe.close(&bye("you did not log in")).await;
    };
    let Some(seat) = seat_of(&hall, &handle, &handle, (call.peer, call.tls), call.face) else {
        return pipe.close(&bye("the partyline is full")).await;
    };
    let client = Client { party: hall.party.clone(), idx: seat.idx };
    let nick = hall.party.session(seat.idx, |session| session.nick.to_string());
    let places = [Place::Party(0), Place::Ops].map(|place| place.to_string());
    let welcome = json!({"type": "welcome", "nick": nick, "handle": handle, "places": places, "motd": hall.motd()});
    converse(pipe, seat, client, vec![welcome.to_string()], shutdown).await;
}

/// From where somebody comes.
struct Peer {
    at: std::net::SocketAddr,
    /// Whether others could read a password on the way.
    readable: bool,
}

/// Until somebody has logged in; nothing if they do not.
async fn login(pipe: &mut Pipe, hall: &Hall, peer: &Peer) -> Option<String> {
    let hello = json!({"type": "hello", "bot": &*hall.party.bot(), "version": hall.version});
    if !pipe.send(&[hello.to_string()]).await {
        return None;
    }
    let mut tries = 0;
    loop {
        while let Some(line) = pipe.lines.next_line() {
            let (id, ask) = read(&line);
            let fault = match ask {
                Ok(Ask::Login { .. }) if peer.readable => {
                    tries += 1;
                    Refusal::Plain.to_string()
                }
                Ok(Ask::Login { handle, password, code }) => {
                    tries += 1;
                    // Pages come through the gateway, and that may stand behind a proxy.
                    let judging = hall.gate.password(&handle, &password, code.as_deref(), peer.at.ip(), Machine::Any);
                    match judging.await {
                        Ok(login) => return Some(login.handle),
                        Err(Refusal::Code) => "a code is wanted: send it as `code`".to_owned(),
                        Err(refusal) => refusal.to_string(),
                    }
                }
                Ok(Ask::Quit { .. }) => return None,
                Ok(_) => "log in first".to_owned(),
                Err(fault) => fault,
            };
            if !pipe.send(&[error(&id, &fault)]).await || tries >= TRIES {
                return None;
            }
            pipe.pace.take().await;
        }
        if !pipe.more().await {
            return None;
        }
    }
}

/// Somebody who has logged in.
struct Client {
    party: Party,
    idx: u32,
}

impl Talker for Client {
    fn render(&mut self, news: &News) -> Vec<String> {
        vec![record(news).to_string()]
    }

    async fn line(&mut self, text: &str) -> (Vec<String>, Option<String>) {
        if text.trim().is_empty() {
            return (Vec::new(), None);
        }
        let (id, ask) = read(text);
        let done = match ask {
            Ok(Ask::Quit { reason }) => {
                return (Vec::new(), Some(if reason.is_empty() { "quit".to_owned() } else { reason }));
            }
            Ok(ask) => self.take(ask).await,
            Err(fault) => Err(fault),
        };
        let lines = match done {
            Ok(Some(mut answer)) => {
                answer["id"] = id;
                vec![answer.to_string()]
            }
            Ok(None) if id.is_null() => Vec::new(),
            Ok(None) => vec![json!({"type": "done", "id": id}).to_string()],
            Err(fault) => vec![error(&id, &fault)],
        };
        (lines, None)
    }

    fn asks(&self) -> String {
        json!({"type": "ping"}).to_string()
    }

    fn farewell(&self, reason: &str) -> String {
        bye(reason)
    }
}

impl Client {
    /// Does what is asked; gives what is answered beyond that it is done.
    async fn take(&self, ask: Ask) -> Result<Option<Value>, String> {
        let (party, idx) = (&self.party, self.idx);
        match ask {
            Ask::Login { .. } => return Err("you are logged in already".to_owned()),
            Ask::Command { line, place } => {
                let place = place.as_deref().map(place_of).transpose()?;
                party.command_in(idx, place.as_ref(), one_line(&line)?.trim_start_matches('.')).await?;
            }
            Ask::Say { to, text, act } => {
                let (text, how) = (one_line(&text)?, if act { How::Act } else { How::Say });
                let sifted = if act { Some(text.to_owned()) } else { party.sifted(idx, text).await };
                let Some(text) = sifted.as_deref() else { return Ok(None) };
                if let Some(place) = Place::parse(&to) {
                    let meant = if act { Meant::Words } else { party.meant(idx, &place, text) };
                    match meant {
                        Meant::Fault(fault) => return Err(fault),
                        // What a page wants done it says with a record of its own.
                        Meant::Command(word) if place != Place::Ops || !party.listens(first(word)) => {
                            return Err(format!(".{} is a command: send it as `command`", first(word)));
                        }
                        _ => drop(party.say(idx, &place, text, how).await?),
                    }
                } else if CaseMap::Rfc1459.eq(&to, &party.bot()) {
                    party.say_to_bot(idx, text, how).await?;
                } else if !party.passes_on(idx, &to, text).await? && party.whisper(idx, &to, text, how).is_none() {
                    return Err(format!("{to} is not on the partyline; .note keeps words for later"));
                }
            }
            Ask::Join { place } => drop(party.join(idx, &place_of(&place)?)?),
            Ask::Part { place, reason } => {
                if !party.part(idx, &place_of(&place)?, one_line(&reason)?) {
                    return Err(format!("you are not in {place}"));
                }
            }
            Ask::Away { reason } => party.away(idx, reason.as_deref().map(one_line).transpose()?),
            Ask::Names { place } => {
                let place = place_of(&place)?;
                let there = party.session(idx, |session| session.places.contains(&place));
                if there != Some(true) {
                    return Err(format!("you are not in {place}"));
                }
                let who: Vec<Value> = party.here(&place).iter().map(person).collect();
                let (place, topic) = (place.to_string(), party.topic(&place));
                return Ok(Some(json!({"type": "names", "place": place, "topic": topic, "who": who})));
            }
            Ask::Complete { line } => {
                let mut words = party.complete(idx, line.trim_start_matches('.'));
                words.truncate(COMPLETED);
                return Ok(Some(json!({"type": "complete", "words": words})));
            }
            Ask::Pong | Ask::Quit { .. } => {}
        }
        Ok(None)
    }
}

fn first(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or(line)
}

/// Words that are one line, and no longer than one.
fn one_line(text: &str) -> Result<&str, String> {
    if text.contains(['\r', '\n', '\0']) || text.len() > LINE_MAX {
        return Err(format!("words are one line of at most {LINE_MAX} bytes"));
    }
    Ok(text)
}

fn place_of(name: &str) -> Result<Place, String> {
    Place::parse(name).ok_or_else(|| format!("there is no {name}; there are #ops, #partyline, #1 and #channel@network"))
}

fn error(id: &Value, fault: &str) -> String {
    json!({"type": "error", "id": id, "error": fault}).to_string()
}

fn bye(reason: &str) -> String {
    json!({"type": "bye", "reason": reason}).to_string()
}

fn author(who: &Author) -> Value {
    json!({"nick": &*who.nick, "handle": &*who.handle, "host": &*who.host})
}

fn person(one: &Here) -> Value {
    let mut who = author(&one.author);
    who["icon"] = json!(one.icon);
    who["away"] = json!(one.away.as_deref());
    who["bot"] = json!(one.bot.as_deref());
    who
}

/// News as a record.
fn record(news: &News) -> Value {
    let how = |how: &How| match how {
        How::Say => "say",
        How::Notice => "notice",
        How::Act => "act",
    };
    let crowd = |who: &[Author]| who.iter().map(author).collect::<Vec<_>>();
    let mut record = match &news.what {
        What::Said { place, text, how: said } => {
            json!({"type": "said", "place": place.to_string(), "text": text, "how": how(said)})
        }
        What::Whisper { to, text, how: said } => json!({"type": "told", "to": &**to, "text": text, "how": how(said)}),
        What::Joined { place } => json!({"type": "joined", "place": place.to_string()}),
        What::Parted { place, reason } => json!({"type": "parted", "place": place.to_string(), "reason": reason}),
        What::Came { place, who } => json!({"type": "came", "place": place.to_string(), "who": crowd(who)}),
        What::Went { place, who, reason } => {
            json!({"type": "went", "place": place.to_string(), "who": crowd(who), "reason": reason})
        }
        What::Left { reason } => json!({"type": "left", "reason": reason}),
        What::Away { reason } => json!({"type": "away", "reason": reason.as_deref()}),
        What::Renamed { to } => json!({"type": "renamed", "to": &**to}),
        What::Topic { place, text } => json!({"type": "topic", "place": place.to_string(), "text": text}),
        What::Log { mode, level, text } => {
            json!({"type": "log", "mode": mode, "level": level.as_str().to_ascii_lowercase(), "text": text})
        }
    };
    record["n"] = json!(news.id);
    record["at"] = json!(news.at.to_rfc3339_opts(SecondsFormat::Millis, true));
    record["from"] = author(&news.from);
    record
}

/// Any bytes as what a page sends.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let (id, ask) = read(&String::from_utf8_lossy(bytes));
    assert!(id.is_null() || id.is_string() || id.is_number());
    if let Ok(Ask::Say { text, .. }) = ask {
        let _ = one_line(&text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_says_what_is_asked_and_a_bad_one_repeats_nothing_of_itself() {
        let (id, ask) = read(r##"{"do": "say", "to": "#ops", "text": "hi", "id": 7}"##);
        assert!(id == json!(7) && matches!(ask, Ok(Ask::Say { act: false, .. })));
        for bad in [
            r#"{"do": "login", "handle": "alice", "password": "hunter2", "shell": true}"#,
            r#"{"do": "login", "password": "hunter2"}"#,
            r#"{"do": "login", "handle": "alice", "password": "hunter2""#,
            r#"["hunter2"]"#,
            r#"{"id": {"x": 1}}"#,
        ] {
            let (id, ask) = read(bad);
            let fault = ask.unwrap_err();
            assert!(id.is_null() && !fault.contains("hunter2"), "{fault}");
        }
        assert!(one_line("a\nb").is_err() && one_line(&"x".repeat(LINE_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(line in "\\PC{0,200}") {
            let (id, _) = read(&line);
            prop_assert!(id.is_null() || id.is_string() || id.is_number());
        }
    }
}
