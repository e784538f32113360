//! The side that answers: asks who it is, gives a challenge, takes the digest, and is up when both versions are told.

use masterchief_contract::Secret;
use subtle::ConstantTimeEq;

use super::super::name::BotName;
use super::{LoginFault, PeerVersion, Step, digest, version_line};

/// What is known of somebody who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The password of the link.
    pub password: Option<Secret>,
    /// Whether one may be made now.
    pub first_link: bool,
    /// Whether it is turned away.
    pub reject: bool,
    /// Whether the line may be in clear.
    pub insecure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said.
    Name,
    /// It is being looked up.
    Looked(BotName),
    /// The challenge is given.
    Challenged(BotName),
    /// The password is proven; its version is waited for.
    Welcome,
    Over,
}

/// A caller who becomes a link.
#[derive(Debug)]
pub struct Answerer {
    me: BotName,
    about: String,
    challenge: String,
    /// A password, if one is to be made.
    fresh: Secret,
    encrypted: bool,
    /// Whether we can begin TLS.
    tls: bool,
    known: Known,
    state: State,
}

impl Answerer {
    /// Answers as `me`. `random` is text that nobody can guess, a new one each time; `fresh` is a password, should one be made.
    pub fn new(me: BotName, about: &str, random: &str, fresh: Secret) -> Answerer {
        Answerer {
            challenge: format!("<{random}@{me}>"),
            me,
            about: about.to_owned(),
            fresh,
            encrypted: false,
            tls: false,
            known: Known::default(),
            state: State::Name,
        }
    }

    /// The line is encrypted already.
    pub fn encrypted(mut self) -> Answerer {
        self.encrypted = true;
        self
    }

    /// TLS can be begun.
    pub fn with_tls(mut self) -> Answerer {
        self.tls = true;
        self
    }

    /// The first words. Without them an Eggdrop does not say who it is.
    pub fn banner(&self) -> Step {
        Step::Send(format!("\r\n{}  ({})\r\n\r\nPlease enter your handle.\r\n", self.me, self.about))
    }

    /// TLS has begun.
    pub fn tls_is_up(&mut self) {
        self.encrypted = true;
    }

    /// A line came.
    pub fn line(&mut self, line: &str) -> Vec<Step> {
        match &self.state {
            State::Name => match line.parse::<BotName>() {
                Ok(name) if name == self.me => {
                    self.over(LoginFault::OurName, "error You cannot link using my botnetnick.\n")
                }
                Ok(name) => {
                    self.state = State::Looked(name.clone());
                    vec![Step::WhoIs(name)]
                }
                Err(_) => self.over(LoginFault::Stranger(line.chars().take(40).collect()), NO_ACCESS),
            },
            State::Looked(_) | State::Over => Vec::new(),
            State::Challenged(name) => {
                let name = name.clone();
                self.proof(&name, line)
            }
            State::Welcome => self.version(line),
        }
    }

    /// What is known of who calls; nothing of a stranger.
    pub fn known(&mut self, known: Option<Known>) -> Vec<Step> {
        let State::Looked(name) = &self.state else { return Vec::new() };
        let name = name.clone();
        let Some(known) = known else {
            return self.over(LoginFault::Stranger(name.to_string()), NO_ACCESS);
        };
        if known.password.is_none() && !known.first_link {
            return self.over(LoginFault::NotPaired(name.to_string()), NO_ACCESS);
        }
        self.known = known;
        self.state = State::Challenged(name);
        let offer = if self.tls && !self.encrypted { "\nstarttls\n" } else { "" };
        vec![Step::Send(format!("{offer}\npassreq {}\n", self.challenge))]
    }

    /// It is linked already, and stays so.
    pub fn duplicate(&mut self) -> Vec<Step> {
        self.over(LoginFault::Duplicate, "error Already connected.\n")
    }

    fn proof(&mut self, name: &BotName, line: &str) -> Vec<Step> {
        if line.starts_with("starttls") {
            let may = self.tls && !self.encrypted;
            return if may { vec![Step::AcceptTls] } else { Vec::new() };
        }
        if !self.encrypted && !self.known.insecure {
            return self.over(LoginFault::NotEncrypted, "error This link has to be encrypted: use TLS.\n");
        }
        let mut steps = Vec::new();
        match &self.known.password {
            Some(password) => {
                // Only a digest: whoever sends the password itself has shown it to others already.
                let proof = line.strip_prefix("digest ").unwrap_or("");
                let right = digest(&self.challenge, password);
                if !bool::from(proof.as_bytes().ct_eq(right.as_bytes())) {
                    return self.over(LoginFault::BadPassword, "badpass\n");
                }
            }
            None => {
                steps.push(Step::Made(self.fresh.clone()));
            }
        }
        if self.known.reject {
            return self.over(LoginFault::Rejected(name.to_string()), "*hello!\nbye rejected\n");
        }
        self.state = State::Welcome;
        steps.push(Step::Send("*hello!\n".to_owned()));
        steps
    }

    fn version(&mut self, line: &str) -> Vec<Step> {
        let (token, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !matches!(token, "version" | "v") {
            // 1.8 says more here before its version: nothing of it matters.
            return Vec::new();
        }
        let Some(version) = PeerVersion::parse(rest) else {
            return self.over(LoginFault::Unexpected(line.chars().take(80).collect()), "bye bad version\n");
        };
        if let Err(fault) = version.check(None) {
            let words = format!("error {fault}\nbye bad handlen\n");
            return self.over(fault, &words);
        }
        self.state = State::Over;
        let mut last = version_line(version.handlen, &self.about);
        if self.known.password.is_none() {
            // Not before our version: until then an Eggdrop passes over it.
            last.push_str(&format!("handshake {}\n", self.fresh.reveal()));
        }
        vec![Step::Send(last), Step::Up(version)]
    }

    fn over(&mut self, fault: LoginFault, words: &str) -> Vec<Step> {
        self.state = State::Over;
        vec![Step::Send(words.to_owned()), Step::Fail(fault)]
    }
}

/// What Eggdrop says to those it does not know.
const NO_ACCESS: &str = "You don't have access.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn answerer() -> Answerer {
        Answerer::new("PyHub".parse().unwrap(), "MasterChief v0", "2da6b00f6fa", Secret::new("3e72e314b1aa"))
    }

    fn send(text: &str) -> Step {
        Step::Send(text.to_owned())
    }

    fn paired() -> Known {
        Known { password: Some(Secret::new("geheim")), insecure: true, ..Known::default() }
    }

    /// All that is done about these lines, with what is known of the one who sends them.
    fn hears(answerer: &mut Answerer, known: Option<Known>, lines: &[&str]) -> Vec<Step> {
        let mut steps = Vec::new();
        for line in lines {
            for step in answerer.line(line) {
                match step {
                    Step::WhoIs(_) => steps.extend(answerer.known(known.clone())),
                    step => steps.push(step),
                }
            }
        }
        steps
    }

    #[test]
    fn a_first_link_makes_a_password_where_that_is_allowed() {
        let known = Known { first_link: true, insecure: true, ..Known::default() };
        let lines = ["LeafBot", "-", "version 1080404 9 eggdrop v1.8.4 <labnet>"];
        let steps = hears(&mut answerer(), Some(known), &lines);
        let version = PeerVersion { number: 1_080_404, handlen: 9, about: "eggdrop v1.8.4 <labnet>".to_owned() };
        let wanted = [
            send("\npassreq <2da6b00f6fa@PyHub>\n"),
            Step::Made(Secret::new("3e72e314b1aa")),
            send("*hello!\n"),
            send("version 1080499 9 MasterChief v0\nhandshake 3e72e314b1aa\n"),
            Step::Up(version),
        ];
        assert_eq!(steps, wanted);
        let shut = hears(&mut answerer(), Some(Known { insecure: true, ..Known::default() }), &lines);
        assert_eq!(shut, [send(NO_ACCESS), Step::Fail(LoginFault::NotPaired("LeafBot".to_owned()))]);
    }

    #[test]
    fn only_the_digest_opens() {
        let right = digest("<2da6b00f6fa@PyHub>", &Secret::new("geheim"));
        let steps = hears(&mut answerer(), Some(paired()), &["LeafBot", &format!("digest {right}")]);
        assert_eq!(steps.last(), Some(&send("*hello!\n")));
        for wrong in ["digest 00", "geheim", "-", "digest", &format!("digest {}x", right)] {
            let steps = hears(&mut answerer(), Some(paired()), &["LeafBot", wrong]);
            assert_eq!(steps[1..], [send("badpass\n"), Step::Fail(LoginFault::BadPassword)], "{wrong}");
        }
    }

    #[test]
    fn strangers_our_own_name_and_the_rejected_are_turned_away() {
        let steps = hears(&mut answerer(), None, &["Stranger"]);
        assert_eq!(steps, [send(NO_ACCESS), Step::Fail(LoginFault::Stranger("Stranger".to_owned()))]);
        let steps = hears(&mut answerer(), None, &["pyhub"]);
        assert_eq!(steps[1], Step::Fail(LoginFault::OurName));
        assert!(matches!(hears(&mut answerer(), None, &["GET / HTTP/1.1"])[1], Step::Fail(LoginFault::Stranger(_))));
        let right = format!("digest {}", digest("<2da6b00f6fa@PyHub>", &Secret::new("geheim")));
        let rejected = Known { reject: true, ..paired() };
        let steps = hears(&mut answerer(), Some(rejected.clone()), &["LeafBot", &right]);
        assert_eq!(
            steps[1..],
            [send("*hello!\nbye rejected\n"), Step::Fail(LoginFault::Rejected("LeafBot".to_owned()))]
        );
        // Who does not know the password does not learn that the bot is rejected.
        assert_eq!(hears(&mut answerer(), Some(rejected), &["LeafBot", "-"])[1], send("badpass\n"));
    }

    #[test]
    fn a_line_in_clear_is_enough_only_for_those_who_may() {
        let known = Known { insecure: false, ..paired() };
        let steps = hears(&mut answerer().with_tls(), Some(known.clone()), &["LeafBot", "digest 00"]);
        assert_eq!(steps[0], send("\nstarttls\n\npassreq <2da6b00f6fa@PyHub>\n"));
        assert_eq!(steps[2], Step::Fail(LoginFault::NotEncrypted));
        let mut answerer = answerer().with_tls();
        let steps = hears(&mut answerer, Some(known), &["LeafBot", "starttls -"]);
        assert_eq!(steps[1], Step::AcceptTls);
        answerer.tls_is_up();
        let right = format!("digest {}", digest("<2da6b00f6fa@PyHub>", &Secret::new("geheim")));
        assert_eq!(answerer.line(&right), [send("*hello!\n")]);
    }

    #[test]
    fn handles_of_another_length_are_agreed_on_or_refused() {
        let right = format!("digest {}", digest("<2da6b00f6fa@PyHub>", &Secret::new("geheim")));
        for (handlen, good) in [(9, true), (32, true), (8, false), (33, false)] {
            let version = format!("version 1080404 {handlen} eggdrop");
            let steps = hears(&mut answerer(), Some(paired()), &["LeafBot", &right, &version]);
            assert_eq!(matches!(steps.last(), Some(Step::Up(_))), good, "{handlen}");
        }
    }
}
