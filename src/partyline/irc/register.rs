//! Registration: from the first line of a client to the moment at which it may be welcomed. Pure: a line in, what is to be
//! done out. Nobody comes past it without an account.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use masterchief_contract::Secret;

use super::caps::{Caps, offered};
use super::lines::{SERVER, line};
use crate::irc::message::Message;

/// What a client may send as one SASL answer.
const ANSWER_MAX: usize = 4096;
/// A longer piece is none: <https://ircv3.net/specs/extensions/sasl-3.1>.
const PIECE: usize = 400;
/// The longest nick that is listened to.
pub(super) const NICK_MAX: usize = 32;

/// How somebody wants to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A handle and a password.
    Password { handle: String, password: Secret },
    /// Their connection's certificate.
    Certificate { handle: String },
}

/// What is to be done about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These lines are answered.
    Say(Vec<String>),
    /// This is to be judged; [`Register::judged`] takes what came of it.
    Judge(Proof),
    /// Everything was said: who is not known yet is judged by what they sent as PASS.
    Ready,
    /// They go.
    Quit,
}

/// How far a client is.
#[derive(Debug, Default)]
pub(super) struct Register {
    pub(super) nick: String,
    pub(super) user: String,
    pub(super) caps: Caps,
    pass: Option<Secret>,
    /// Whether CAP is still talked about.
    negotiating: bool,
    sasl: Sasl,
    /// The handle, once it is known.
    pub(super) login: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
enum Sasl {
    #[default]
    No,
    Plain(String),
    External(String),
}

impl Register {
    /// Takes a line.
    pub(super) fn take(&mut self, message: &Message<'_>) -> Step {
        let param = message.param(0);
        match message.command.to_ascii_uppercase().as_str() {
            "CAP" => return self.cap(message),
            "AUTHENTICATE" => return self.authenticate(param),
            "PASS" => self.pass = Some(Secret::new(message.last())),
            "NICK" if !good_nick(param) => {
                return self.say("432", &[if param.is_empty() { "*" } else { param }, "that cannot be a nick here"]);
            }
            "NICK" => param.clone_into(&mut self.nick),
            "USER" if message.params().len() < 4 => return self.say("461", &["USER", "USER wants four words"]),
            "USER" => param.clone_into(&mut self.user),
            "PING" => return Step::Say(vec![line(SERVER, "PONG", &[SERVER, message.last()])]),
            "PONG" | "NOTICE" => return Step::Say(Vec::new()),
            "QUIT" => return Step::Quit,
            _ => return self.say("451", &["log in first: PASS handle:password, or SASL"]),
        }
        self.ready()
    }

    /// What came of a [`Step::Judge`].
    pub(super) fn judged(&mut self, result: Result<String, String>) -> Step {
        let nick = self.shown().to_owned();
        match result {
            Ok(handle) => {
                let source = format!("{nick}!*@*");
                let words = format!("You are logged in as {handle}");
                let lines = vec![
                    line(SERVER, "900", &[&nick, &source, &handle, &words]),
                    line(SERVER, "903", &[&nick, "SASL authentication successful"]),
                ];
                self.login = Some(handle);
                Step::Say(lines)
            }
            Err(reason) => Step::Say(vec![line(SERVER, "904", &[&nick, &reason])]),
        }
    }

    /// What the client sent as PASS: `handle:password`, or the password of the handle it takes as nick or user name.
    pub(super) fn passes(&self) -> Vec<Proof> {
        let Some(pass) = &self.pass else { return Vec::new() };
        let proof = |handle: &str, password: &str| Proof::Password {
            handle: handle.to_owned(),
            password: Secret::new(password),
        };
        if let Some((handle, password)) = pass.reveal().split_once(':')
            && good_nick(handle)
            && !password.is_empty()
        {
            return vec![proof(handle, password)];
        }
        vec![proof(&self.nick, pass.reveal())]
    }

    fn ready(&self) -> Step {
        let whole = !self.nick.is_empty() && !self.user.is_empty() && !self.negotiating;
        if whole { Step::Ready } else { Step::Say(Vec::new()) }
    }

    fn cap(&mut self, message: &Message<'_>) -> Step {
        let asked = message.param(1);
        let nick = self.shown().to_owned();
        match message.param(0).to_ascii_uppercase().as_str() {
            "LS" => {
                self.negotiating = true;
                let version: u32 = asked.parse().unwrap_or(0);
                Step::Say(vec![line(SERVER, "CAP", &[&nick, "LS", &offered(version >= 302)])])
            }
            "LIST" => Step::Say(vec![line(SERVER, "CAP", &[&nick, "LIST", &self.caps.list()])]),
            "REQ" => {
                self.negotiating = true;
                let verdict = match self.caps.change(asked) {
                    Some(caps) => {
                        self.caps = caps;
                        "ACK"
                    }
                    None => "NAK",
                };
                Step::Say(vec![line(SERVER, "CAP", &[&nick, verdict, asked])])
            }
            "END" => {
                self.negotiating = false;
                self.ready()
            }
            _ => self.say("410", &[message.param(0), "there are CAP LS, LIST, REQ and END"]),
        }
    }

    fn authenticate(&mut self, param: &str) -> Step {
        if self.login.is_some() {
            return self.say("907", &["you are logged in already"]);
        }
        if param == "*" {
            self.sasl = Sasl::No;
            return self.say("906", &["SASL authentication aborted"]);
        }
        if param.len() > PIECE {
            self.sasl = Sasl::No;
            return self.say("905", &["SASL message too long"]);
        }
        if self.sasl == Sasl::No {
            self.sasl = match param.to_ascii_uppercase().as_str() {
                "PLAIN" => Sasl::Plain(String::new()),
                "EXTERNAL" => Sasl::External(String::new()),
                _ => {
                    let mut lines =
                        vec![line(SERVER, "908", &[self.shown(), "PLAIN,EXTERNAL", "are available SASL mechanisms"])];
                    lines.push(line(SERVER, "904", &[self.shown(), "there are PLAIN and EXTERNAL"]));
                    return Step::Say(lines);
                }
            };
            return Step::Say(vec!["AUTHENTICATE +".to_owned()]);
        }
        let (Sasl::Plain(held) | Sasl::External(held)) = &mut self.sasl else { return Step::Say(Vec::new()) };
        if param != "+" {
            held.push_str(param);
        }
        if held.len() > ANSWER_MAX {
            self.sasl = Sasl::No;
            return self.say("905", &["SASL message too long"]);
        }
        if param.len() == PIECE {
            return Step::Say(Vec::new());
        }
        let proof = match std::mem::take(&mut self.sasl) {
            Sasl::Plain(text) => plain(&text),
            Sasl::External(text) => {
                let decoded = BASE64.decode(&text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                decoded.map(|handle| Proof::Certificate { handle })
            }
            Sasl::No => None,
        };
        proof.map_or_else(|| self.say("904", &["that is no answer of this mechanism"]), Step::Judge)
    }

    /// The nick as it stands in replies.
    pub(super) fn shown(&self) -> &str {
        if self.nick.is_empty() { "*" } else { &self.nick }
    }

    fn say(&self, numeric: &str, params: &[&str]) -> Step {
        let all: Vec<&str> = std::iter::once(self.shown()).chain(params.iter().copied()).collect();
        Step::Say(vec![line(SERVER, numeric, &all)])
    }
}

/// RFC 4616: who they act for, who they are, the password. Acting for somebody else is nobody's right here.
fn plain(text: &str) -> Option<Proof> {
    let decoded = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    let mut parts = decoded.split('\0');
    let (acts, handle, password) = (parts.next()?, parts.next()?, parts.next()?);
    let good = parts.next().is_none() && (acts.is_empty() || acts == handle) && !handle.is_empty();
    good.then(|| Proof::Password { handle: handle.to_owned(), password: Secret::new(password) })
}

/// Whether this can be a name here. The sign of second sessions and linked bots cannot be in it.
pub(super) fn good_nick(nick: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_[]{}^`|\\".contains(c);
    !nick.is_empty()
        && nick.len() <= NICK_MAX
        && nick.chars().all(letters)
        && !nick.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(register: &mut Register, text: &str) -> Step {
        register.take(&Message::parse(text).unwrap())
    }

    #[test]
    fn nobody_is_ready_before_nick_user_and_the_end_of_cap() {
        let mut register = Register::default();
        assert!(matches!(told(&mut register, "CAP LS 302"), Step::Say(lines) if lines[0].contains("sasl=PLAIN")));
        told(&mut register, "NICK alice");
        assert_eq!(told(&mut register, "USER a 0 * :Alice"), Step::Say(Vec::new()));
        assert!(matches!(told(&mut register, "JOIN #ops"), Step::Say(lines) if lines[0].contains(" 451 ")));
        assert_eq!(told(&mut register, "CAP END"), Step::Ready);
        assert_eq!(register.passes(), []);
        told(&mut register, "PASS :bob:secret words");
        assert!(matches!(&register.passes()[0], Proof::Password { handle, .. } if handle == "bob"));
    }

    #[test]
    fn sasl_plain_is_read_in_pieces_and_acts_for_nobody_else() {
        let mut register = Register::default();
        assert_eq!(told(&mut register, "AUTHENTICATE PLAIN"), Step::Say(vec!["AUTHENTICATE +".to_owned()]));
        let long = "x".repeat(295);
        let text = BASE64.encode(format!("\0al\0{long}"));
        let (one, two) = text.split_at(PIECE);
        assert_eq!(told(&mut register, &format!("AUTHENTICATE {one}")), Step::Say(Vec::new()));
        let two = if two.is_empty() { "+" } else { two };
        let Step::Judge(Proof::Password { handle, password }) = told(&mut register, &format!("AUTHENTICATE {two}"))
        else {
            panic!("no proof")
        };
        assert_eq!((handle.as_str(), password.reveal()), ("al", long.as_str()));
        assert_eq!(plain(&BASE64.encode("root\0alice\0x")), None);
        assert_eq!(plain("not base64"), None);
    }

    proptest! {
        #[test]
        fn no_line_ends_registration_without_a_nick(lines in prop::collection::vec("(CAP|NICK|USER|PASS|AUTHENTICATE|\\PC{0,9})( \\PC{0,20}){0,4}", 0..12)) {
            let mut register = Register::default();
            for text in &lines {
                let Ok(message) = Message::parse(text) else { continue };
                if register.take(&message) == Step::Ready {
                    prop_assert!(good_nick(&register.nick) && !register.user.is_empty());
                }
                prop_assert_eq!(&register.login, &None, "nobody is logged in by what they say alone");
            }
        }
    }
}
