//! The side that calls: waits for the first bytes, says its name, proves the password, and is up when both versions are told.

use masterchief_contract::Secret;

use super::super::name::{BotName, HANDLE_MAX};
use super::{LoginFault, MARK, PeerVersion, Step, digest, version_line};

/// A call that becomes a link.
#[derive(Debug)]
pub struct Caller {
    me: BotName,
    about: String,
    password: Option<Secret>,
    /// Whether the line is encrypted by now.
    encrypted: bool,
    /// Whether it may stay in clear.
    insecure: bool,
    /// Whether to begin TLS where it is offered.
    wants_tls: bool,
    spoke: bool,
    /// TLS begins with the challenge.
    begins: bool,
    /// The challenge, kept while TLS begins.
    challenge: Option<String>,
    proven: bool,
    welcome: bool,
    said: Option<u32>,
    ours: bool,
    last_error: String,
}

impl Caller {
    /// Calls as `me`; `about` is our version in words.
    pub fn new(me: BotName, about: &str, password: Option<Secret>) -> Caller {
        Caller {
            me,
            about: about.to_owned(),
            password,
            encrypted: false,
            insecure: false,
            wants_tls: false,
            spoke: false,
            begins: false,
            challenge: None,
            proven: false,
            welcome: false,
            said: None,
            ours: false,
            last_error: String::new(),
        }
    }

    /// The line is encrypted already.
    pub fn encrypted(mut self) -> Caller {
        self.encrypted = true;
        self
    }

    /// The line may stay in clear.
    pub fn insecure(mut self) -> Caller {
        self.insecure = true;
        self
    }

    /// TLS is begun where it is offered.
    pub fn with_starttls(mut self) -> Caller {
        self.wants_tls = true;
        self
    }

    /// Something came, whatever it is: only now an Eggdrop has made room for us.
    pub fn bytes(&mut self) -> Vec<Step> {
        if std::mem::replace(&mut self.spoke, true) {
            return Vec::new();
        }
        vec![Step::Send(format!("{}\n", self.me))]
    }

    /// TLS has begun.
    pub fn tls_is_up(&mut self) -> Vec<Step> {
        self.encrypted = true;
        let challenge = self.challenge.take();
        challenge.map(|challenge| self.prove(&challenge)).into_iter().collect()
    }

    /// It has been silent for a while after its welcome: then we are the first to say our version.
    pub fn silence(&mut self) -> Vec<Step> {
        if self.welcome && self.said.is_none() { vec![self.say_version(HANDLE_MAX as u32)] } else { Vec::new() }
    }

    /// A line came.
    pub fn line(&mut self, line: &str) -> Vec<Step> {
        let (token, rest) = line.split_once(' ').unwrap_or((line, ""));
        match token.to_ascii_lowercase().as_str() {
            "starttls" if !self.proven && self.wants_tls && !self.encrypted && !self.begins => {
                self.begins = true;
                vec![Step::Send("starttls -\n".to_owned())]
            }
            "passreq" if !self.proven => self.asked(rest),
            "*hello!" if self.proven && !self.welcome => {
                self.welcome = true;
                // One of us waits for our version as we would for its own.
                if self.ours { vec![self.say_version(HANDLE_MAX as u32)] } else { Vec::new() }
            }
            "version" | "v" if self.welcome => self.version(rest),
            // Before the password is proven anybody could be speaking.
            "handshake" | "h" if self.welcome && !rest.is_empty() => vec![Step::Learn(Secret::new(rest))],
            "badpass" => {
                let fault = if self.password.is_some() { LoginFault::BadPassword } else { LoginFault::NoPassword };
                vec![Step::Fail(fault)]
            }
            "error" | "e" => {
                self.last_error = rest.to_owned();
                Vec::new()
            }
            "bye" => vec![Step::Fail(self.refused(rest))],
            _ if line.starts_with("You don't have access") => vec![Step::Fail(LoginFault::NoAccess)],
            _ => {
                self.ours |= line.contains(&format!("({MARK} v"));
                Vec::new()
            }
        }
    }

    /// The other side closed: what it said before.
    pub fn closed(&self) -> LoginFault {
        self.refused("it closed the connection")
    }

    fn refused(&self, words: &str) -> LoginFault {
        let words = if self.last_error.is_empty() { words } else { &self.last_error };
        LoginFault::Refused(words.chars().filter(|c| !c.is_control()).take(200).collect())
    }

    fn asked(&mut self, challenge: &str) -> Vec<Step> {
        if !(challenge.contains('<') && challenge.contains('>')) {
            return vec![Step::Fail(LoginFault::NoChallenge)];
        }
        if self.begins && !self.encrypted {
            self.challenge = Some(challenge.to_owned());
            return vec![Step::BeginTls];
        }
        if !self.encrypted && !self.insecure {
            return vec![Step::Fail(LoginFault::NotEncrypted)];
        }
        vec![self.prove(challenge)]
    }

    fn prove(&mut self, challenge: &str) -> Step {
        self.proven = true;
        Step::Send(match &self.password {
            Some(password) => format!("digest {}\n", digest(challenge, password)),
            None => "-\n".to_owned(),
        })
    }

    fn version(&mut self, text: &str) -> Vec<Step> {
        let Some(version) = PeerVersion::parse(text) else {
            return vec![Step::Fail(LoginFault::Unexpected(text.to_owned()))];
        };
        if let Err(fault) = version.check(self.said) {
            return vec![Step::Fail(fault)];
        }
        let mut steps = Vec::new();
        if self.said.is_none() {
            steps.push(self.say_version(version.handlen));
        }
        steps.push(Step::Up(version));
        steps
    }

    fn say_version(&mut self, handlen: u32) -> Step {
        self.said = Some(handlen);
        Step::Send(version_line(handlen, &self.about))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANNER: [&str; 2] =
        ["HubBot  (Eggdrop v1.8.4 (C) 1997 Robey Pointer (C) 2010-2018 Eggheads)", "Please enter your nickname."];

    fn caller(password: Option<&str>) -> Caller {
        Caller::new("LeafBot".parse().unwrap(), "MasterChief v0", password.map(Secret::new))
    }

    /// All that is done about these lines.
    fn hears(caller: &mut Caller, lines: &[&str]) -> Vec<Step> {
        let mut steps = caller.bytes();
        for line in BANNER.iter().chain(lines) {
            steps.extend(caller.line(line));
        }
        steps
    }

    fn send(text: &str) -> Step {
        Step::Send(text.to_owned())
    }

    #[test]
    fn a_link_is_made_and_made_again_as_a_real_leaf_does() {
        let version = PeerVersion { number: 1_080_404, handlen: 9, about: "eggdrop v1.8.4 <labnet>".to_owned() };
        let up = [send("version 1080499 9 MasterChief v0\n"), Step::Up(version)];
        let mut first = caller(None).insecure();
        let lines = ["passreq <53a36b00f42d@HubBot>", "*hello!", "version 1080404 9 eggdrop v1.8.4 <labnet>"];
        assert_eq!(hears(&mut first, &lines), [&[send("LeafBot\n"), send("-\n")], up.as_slice()].concat());
        assert_eq!(first.line("handshake d32h39adg34qqc9"), [Step::Learn(Secret::new("d32h39adg34qqc9"))]);
        let mut again = caller(Some("d32h39adg34qqc9")).insecure();
        let steps = hears(&mut again, &["passreq <53a36b00f451@HubBot>"]);
        assert_eq!(steps, [send("LeafBot\n"), send("digest 2798b8f10c0584cdfca45b0163f00fc6\n")]);
        // The version of one who has not let us in is nothing.
        assert_eq!(again.line("version 1080404 9 x"), []);
    }

    #[test]
    fn a_peer_that_omits_the_challenge_gets_no_password() {
        for passreq in ["passreq", "passreq HubBot", "passreq <half"] {
            let steps = hears(&mut caller(Some("geheim")).insecure(), &[passreq]);
            assert_eq!(steps, [send("LeafBot\n"), Step::Fail(LoginFault::NoChallenge)]);
        }
    }

    #[test]
    fn nothing_is_proven_in_clear_unless_the_line_may_be_clear() {
        let steps = hears(&mut caller(Some("geheim")), &["passreq <1@HubBot>"]);
        assert_eq!(steps, [send("LeafBot\n"), Step::Fail(LoginFault::NotEncrypted)]);
        // Who could strip the offer gets as little.
        let steps = hears(&mut caller(Some("geheim")).with_starttls(), &["passreq <1@HubBot>"]);
        assert_eq!(steps[1], Step::Fail(LoginFault::NotEncrypted));
        let mut caller = caller(None).with_starttls();
        let steps = hears(&mut caller, &["starttls", "passreq <1@HubBot>"]);
        assert_eq!(steps, [send("LeafBot\n"), send("starttls -\n"), Step::BeginTls]);
        assert_eq!(caller.tls_is_up(), [send("-\n")]);
    }

    #[test]
    fn every_refusal_has_its_words() {
        let end = |lines: &[&str], password: Option<&str>| {
            hears(&mut caller(password).insecure(), lines).pop().unwrap_or_else(|| send(""))
        };
        let passreq = "passreq <1@HubBot>";
        assert_eq!(end(&[passreq, "badpass"], Some("x")), Step::Fail(LoginFault::BadPassword));
        assert_eq!(end(&[passreq, "badpass"], None), Step::Fail(LoginFault::NoPassword));
        assert_eq!(end(&["You don't have access."], None), Step::Fail(LoginFault::NoAccess));
        let rejected = Step::Fail(LoginFault::Refused("rejected".to_owned()));
        assert_eq!(end(&[passreq, "*hello!", "bye rejected"], None), rejected);
        let handlen = Step::Fail(LoginFault::HandleLength { theirs: 40 });
        assert_eq!(end(&[passreq, "*hello!", "version 1080404 40 x"], None), handlen);
        let old = Step::Fail(LoginFault::TooOld(1_010_000));
        assert_eq!(end(&[passreq, "*hello!", "version 1010000 9 x"], None), old);
        assert!(matches!(end(&[passreq, "*hello!", "version x y"], None), Step::Fail(LoginFault::Unexpected(_))));
        let mut own = caller(None);
        hears(&mut own, &["error You cannot link using my botnetnick."]);
        assert_eq!(own.closed(), LoginFault::Refused("You cannot link using my botnetnick.".to_owned()));
    }

    #[test]
    fn one_of_us_need_not_be_waited_for() {
        let mut ours = caller(None).encrypted();
        let steps = hears(&mut ours, &["HubBot  (MasterChief v0.1.0)", "passreq <1@HubBot>", "*hello!"]);
        assert_eq!(steps.last(), Some(&send("version 1080499 32 MasterChief v0\n")));
        let mut silent = caller(None).encrypted();
        assert_eq!(silent.silence(), []);
        hears(&mut silent, &["passreq <1@HubBot>", "*hello!"]);
        assert_eq!(silent.silence(), [send("version 1080499 32 MasterChief v0\n")]);
        assert_eq!(silent.silence(), []);
    }
}
