//! What client and server agree on: capabilities, login, the nick. Pure: a line in, lines out.
//!
//! It begins with the connection and lives as long, because capabilities come and go (CAP NEW, CAP DEL).
//! <https://ircv3.net/specs/extensions/capability-negotiation>

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::message::{Message, compose};
use super::sasl::{Exchange, Mechanism};
use super::settings::Settings;

/// The capabilities we know what to do with. `sasl` is asked for only where an account is configured.
const WANTED: &[&str] = &[
    "account-notify",
    "account-tag",
    "batch",
    "cap-notify",
    "chghost",
    "extended-join",
    "message-tags",
    "multi-prefix",
    "server-time",
    "userhost-in-names",
];
/// Bytes of capabilities in one request, well under a line.
const REQUEST_ROOM: usize = 400;
/// Capabilities remembered of a server's list; more are hostile.
const OFFERED_MAX: usize = 512;
/// How long the server may take for the next step before we go on without it.
const STEP_PATIENCE: Duration = Duration::from_secs(15);
/// How long services may take to answer a login.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// What NICK falls back to is cut to this before the server says its own limit (RFC 1459).
const NICK_ROOM: usize = 9;

/// Where the registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not there yet.
    Going,
    /// Registered (376 or 422) and, where demanded, logged in: channels may be joined.
    Ready,
    /// It cannot succeed on this connection, and why.
    Failed(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// CAP LS is under way.
    Listing,
    /// Requests are unanswered.
    Requesting,
    /// A login is under way.
    LoggingIn,
    /// CAP END is sent; the server's welcome is awaited.
    Welcome,
    /// Registered.
    Done,
}

/// One connection's negotiation.
pub(super) struct Registration {
    settings: Settings,
    stage: Stage,
    progress: Progress,
    offered: BTreeMap<String, String>,
    enabled: BTreeSet<String>,
    unanswered: Vec<String>,
    exchange: Option<Exchange>,
    mechanisms: VecDeque<Mechanism>,
    account: Option<String>,
    nick: String,
    nick_tries: usize,
    out: Vec<String>,
}

impl Registration {
    /// Begins; the first lines to send are in [`Registration::lines`].
    pub(super) fn new(settings: &Settings) -> Registration {
        let mut new = Registration {
            settings: settings.clone(),
            stage: Stage::Listing,
            progress: Progress::Going,
            offered: BTreeMap::new(),
            enabled: BTreeSet::new(),
            unanswered: Vec::new(),
            exchange: None,
            mechanisms: VecDeque::new(),
            account: None,
            nick: settings.nick.clone(),
            nick_tries: 0,
            out: Vec::new(),
        };
        new.send("CAP", &["LS", "302"]);
        if let Some(password) = &settings.password {
            new.send("PASS", &[password.reveal()]);
        }
        new.send("NICK", &[&settings.nick]);
        new.send("USER", &[settings.username(), "0", "*", &settings.realname]);
        new
    }

    /// The lines to send now, without CRLF. They hold secrets: never log them.
    pub(super) fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out)
    }

    /// Where it stands.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether a capability is on.
    pub(super) fn has(&self, cap: &str) -> bool {
        self.enabled.contains(cap)
    }

    /// The account we are logged in to.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// How long to wait for the server's next step; nothing to wait for gives `None`.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self.stage {
            Stage::Listing | Stage::Requesting => Some(STEP_PATIENCE),
            Stage::LoggingIn => Some(LOGIN_PATIENCE),
            Stage::Welcome => Some(2 * LOGIN_PATIENCE),
            Stage::Done => self.exchange.is_some().then_some(LOGIN_PATIENCE),
        }
    }

    /// The patience is over: goes on without the step, or fails.
    pub(super) fn late(&mut self) {
        match self.stage {
            Stage::Listing | Stage::Requesting => {
                self.unanswered.clear();
                self.begin_login_or_end();
            }
            Stage::LoggingIn | Stage::Done => {
                self.send("AUTHENTICATE", &["*"]);
                self.login_failed("services did not answer the login");
            }
            Stage::Welcome => self.fail("the server did not finish the registration"),
        }
    }

    /// Takes one line of the server.
    pub(super) fn take(&mut self, message: &Message<'_>) {
        match message.command {
            "001" => self.welcomed(message),
            "376" | "422" => self.registered(),
            "432" | "433" | "436" | "437" if !self.is_done() => self.next_nick(),
            "464" | "465" | "466" if !self.is_done() => self.fail(&server_says(message)),
            "900" => self.account = Some(message.param(2).to_owned()),
            "901" => self.account = None,
            "903" | "907" => self.logged_in(),
            "902" | "904" | "905" | "906" => self.login_failed(message.last()),
            "908" => {
                let known: Vec<&str> = message.param(1).split(',').collect();
                self.mechanisms.retain(|mechanism| known.contains(&mechanism.name()));
            }
            command if command.eq_ignore_ascii_case("CAP") => self.cap(message),
            command if command.eq_ignore_ascii_case("AUTHENTICATE") => self.challenge(message.param(0)),
            command if command.eq_ignore_ascii_case("ERROR") => self.fail(&server_says(message)),
            _ => {}
        }
    }

    /// Whether the server took us in.
    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn cap(&mut self, message: &Message<'_>) {
        let verb = message.param(1).to_ascii_uppercase();
        let list: Vec<String> = message.last().split(' ').filter(|cap| !cap.is_empty()).map(str::to_owned).collect();
        match verb.as_str() {
            "LS" => {
                self.offer(&list);
                let more = message.param(2) == "*" && message.params().len() > 3;
                if !more && self.stage == Stage::Listing {
                    self.request_wanted();
                }
            }
            "NEW" => {
                self.offer(&list);
                let names: Vec<&str> = list.iter().map(|cap| cap_name(cap)).collect();
                let wanted = self.wanted().into_iter().filter(|cap| names.contains(&cap.as_str())).collect();
                self.request(wanted);
            }
            "DEL" => {
                for cap in &list {
                    self.offered.remove(cap_name(cap));
                    self.enabled.remove(cap_name(cap));
                }
            }
            "ACK" => self.acknowledged(&list),
            "NAK" => self.refused(&list),
            _ => {}
        }
    }

    fn offer(&mut self, list: &[String]) {
        for cap in list {
            let (name, value) = cap.split_once('=').unwrap_or((cap, ""));
            if self.offered.len() < OFFERED_MAX {
                self.offered.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// What we want of what there is and is not on yet.
    fn wanted(&self) -> Vec<String> {
        let sasl = (self.settings.sasl.is_some() && self.account.is_none()).then_some("sasl");
        let all = WANTED.iter().copied().chain(sasl);
        all.filter(|cap| self.offered.contains_key(*cap) && !self.enabled.contains(*cap)).map(str::to_owned).collect()
    }

    fn request_wanted(&mut self) {
        let wanted = self.wanted();
        if wanted.is_empty() {
            self.begin_login_or_end();
        } else {
            self.stage = Stage::Requesting;
            self.request(wanted);
        }
    }

    fn request(&mut self, caps: Vec<String>) {
        let mut line = String::new();
        for cap in &caps {
            if line.len() + cap.len() > REQUEST_ROOM {
                self.send("CAP", &["REQ", line.trim_end()]);
                line.clear();
            }
            line.push_str(cap);
            line.push(' ');
        }
        if !line.is_empty() {
            self.send("CAP", &["REQ", line.trim_end()]);
        }
        self.unanswered.extend(caps);
    }

    fn acknowledged(&mut self, list: &[String]) {
        for cap in list {
            match cap.strip_prefix('-') {
                Some(off) => {
                    self.enabled.remove(off);
                }
                // What nobody asked for is not on.
                None if self.unanswered.iter().any(|asked| asked == cap_name(cap)) => {
                    self.enabled.insert(cap_name(cap).to_owned());
                }
                None => {}
            }
        }
        self.unanswered.retain(|cap| !list.iter().any(|answer| answer.trim_start_matches('-') == cap));
        self.all_answered();
        if self.is_done() && list.iter().any(|cap| cap == "sasl") {
            self.begin_login();
        }
    }

    /// A request is granted or refused as a whole, so what was refused together is asked for one by one.
    fn refused(&mut self, list: &[String]) {
        let asked: Vec<String> = list.iter().filter(|cap| self.unanswered.contains(cap)).cloned().collect();
        self.unanswered.retain(|cap| !asked.contains(cap));
        if asked.len() > 1 {
            for cap in asked {
                self.request(vec![cap]);
            }
        }
        self.all_answered();
    }

    fn all_answered(&mut self) {
        if self.stage == Stage::Requesting && self.unanswered.is_empty() {
            self.begin_login_or_end();
        }
    }

    fn begin_login_or_end(&mut self) {
        if self.settings.sasl.is_none() {
            self.end();
        } else if self.enabled.contains("sasl") {
            self.stage = Stage::LoggingIn;
            self.begin_login();
        } else {
            self.login_failed("the server offers no SASL");
        }
    }

    /// Lines up the mechanisms that we and the server have, and tries the first.
    fn begin_login(&mut self) {
        let Some(sasl) = &self.settings.sasl else { return };
        let offered = self.offered.get("sasl").map(String::as_str).unwrap_or("");
        let known = |mechanism: &Mechanism| {
            offered.is_empty() || offered.split(',').any(|name| name.eq_ignore_ascii_case(mechanism.name()))
        };
        let plaintext = !self.settings.tls.enabled && !sasl.allow_plaintext;
        let safe = |mechanism: &Mechanism| !(plaintext && mechanism.shows_password());
        self.mechanisms = sasl.mechanisms.iter().copied().filter(|one| known(one) && safe(one)).collect();
        self.next_mechanism("the server has none of the configured mechanisms");
    }

    fn next_mechanism(&mut self, otherwise: &str) {
        let next = self.mechanisms.pop_front();
        let Some((mechanism, sasl)) = next.zip(self.settings.sasl.as_ref()) else {
            return self.no_login(otherwise);
        };
        self.exchange = Some(Exchange::begin(mechanism, sasl));
        self.send("AUTHENTICATE", &[mechanism.name()]);
    }

    fn challenge(&mut self, piece: &str) {
        let Some(exchange) = &mut self.exchange else { return };
        match exchange.take(piece) {
            Ok(answers) => {
                for answer in answers {
                    self.send("AUTHENTICATE", &[&answer]);
                }
            }
            Err(reason) => {
                tracing::warn!(%reason, "A login is given up");
                self.send("AUTHENTICATE", &["*"]);
            }
        }
    }

    fn logged_in(&mut self) {
        if self.exchange.take().is_none() && self.stage != Stage::LoggingIn {
            return;
        }
        if self.account.is_none() {
            self.account = self.settings.sasl.as_ref().map(|sasl| sasl.account.clone()).filter(|name| !name.is_empty());
        }
        if self.stage == Stage::LoggingIn {
            self.end();
        }
    }

    fn login_failed(&mut self, reason: &str) {
        let trying = self.exchange.take().is_some();
        if !trying && !matches!(self.stage, Stage::LoggingIn | Stage::Listing | Stage::Requesting) {
            return;
        }
        self.next_mechanism(reason);
    }

    /// No mechanism is left.
    fn no_login(&mut self, reason: &str) {
        let required = self.settings.sasl.as_ref().is_some_and(|sasl| sasl.required);
        if required {
            return self
                .fail(&format!("not logged in to services, which `sasl: {{required: true}}` demands: {reason}"));
        }
        tracing::warn!(%reason, "Not logged in to services; going on without");
        if !self.is_done() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.send("CAP", &["END"]);
        self.stage = Stage::Welcome;
    }

    fn welcomed(&mut self, message: &Message<'_>) {
        self.nick = message.param(0).to_owned();
        // A server without CAP welcomes us while we still wait for its list; one may also ignore CAP END.
        if matches!(self.stage, Stage::Listing | Stage::Requesting) {
            let required = self.settings.sasl.as_ref().is_some_and(|sasl| sasl.required);
            if required {
                return self.fail("the server took us in without SASL, which `sasl: {required: true}` demands");
            }
            self.stage = Stage::Welcome;
        }
    }

    fn registered(&mut self) {
        if self.progress == Progress::Going && self.stage == Stage::Welcome {
            self.stage = Stage::Done;
            self.progress = Progress::Ready;
        }
    }

    /// The next of the alternative nicks; after them the first with digits behind it.
    fn next_nick(&mut self) {
        let nick = fallback_nick(&self.settings, self.nick_tries, NICK_ROOM);
        self.nick_tries += 1;
        if self.nick_tries > self.settings.alt_nicks.len() + 20 {
            return self.fail("every nick is in use or refused: set `alt_nicks`");
        }
        self.nick.clone_from(&nick);
        self.send("NICK", &[&nick]);
    }

    fn fail(&mut self, reason: &str) {
        self.progress = Progress::Failed(reason.to_owned());
    }

    fn send(&mut self, command: &str, params: &[&str]) {
        match compose(&[], command, params) {
            Ok(line) => self.out.push(line),
            // The settings were checked, so this is a server's doing. The fault may quote a secret: it is not logged.
            Err(_) => self.fail(&format!("a {command} line cannot be composed from the settings")),
        }
    }
}

/// The nick to try after `tries` were refused: the alternatives in order, then the first with a number behind it.
pub(super) fn fallback_nick(settings: &Settings, tries: usize, room: usize) -> String {
    if let Some(nick) = settings.alt_nicks.get(tries) {
        return nick.clone();
    }
    let number = (tries - settings.alt_nicks.len() + 1).to_string();
    let keep = room.max(number.len() + 1) - number.len();
    let stem: String = settings.nick.chars().take(keep).collect();
    format!("{stem}{number}")
}

fn cap_name(cap: &str) -> &str {
    cap.split_once('=').map_or(cap, |(name, _)| name)
}

fn server_says(message: &Message<'_>) -> String {
    format!("the server says {}: {}", message.command, message.last())
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;

    use super::*;
    use crate::irc::settings::{Sasl, Tls};

    fn settings(sasl: Option<(&[Mechanism], bool)>) -> Settings {
        let mut settings = Settings::new(vec!["irc.test".parse().unwrap()]);
        settings.alt_nicks = vec!["chief_".to_owned()];
        settings.sasl = sasl.map(|(mechanisms, required)| Sasl {
            mechanisms: mechanisms.to_vec(),
            account: "chief".to_owned(),
            password: Some(Secret::new("pw")),
            required,
            allow_plaintext: false,
        });
        settings
    }

    fn begun(settings: &Settings) -> Registration {
        let mut registration = Registration::new(settings);
        assert_eq!(registration.lines(), ["CAP LS 302", "NICK chief", "USER chief 0 * MasterChief"]);
        registration
    }

    /// The server says these lines; what the client answers.
    fn say(registration: &mut Registration, lines: &[&str]) -> Vec<String> {
        for line in lines {
            registration.take(&Message::parse(line).unwrap());
        }
        registration.lines()
    }

    #[test]
    fn a_list_over_several_lines_is_awaited_and_only_known_capabilities_are_requested() {
        let mut reg = begun(&settings(None));
        assert_eq!(say(&mut reg, &[":s CAP * LS * :batch inspircd.org/poison sts=port=6697"]), [""; 0]);
        assert_eq!(say(&mut reg, &[":s CAP * LS :server-time sasl=PLAIN "]), ["CAP REQ :batch server-time"]);
        assert_eq!(say(&mut reg, &[":s CAP * ACK :batch server-time "]), ["CAP END"]);
        say(&mut reg, &[":s 001 chief :hi"]);
        assert_eq!(reg.progress(), &Progress::Going);
        say(&mut reg, &[":s 376 chief :End"]);
        assert_eq!((reg.progress(), reg.has("batch"), reg.has("sasl")), (&Progress::Ready, true, false));
    }

    #[test]
    fn an_empty_list_ends_at_once() {
        let mut reg = begun(&settings(None));
        assert_eq!(say(&mut reg, &[":s CAP * LS :"]), ["CAP END"]);
    }

    #[test]
    fn a_refused_request_is_repeated_one_by_one() {
        let mut reg = begun(&settings(None));
        say(&mut reg, &[":s CAP * LS :batch server-time"]);
        assert_eq!(say(&mut reg, &[":s CAP * NAK :batch server-time"]), ["CAP REQ batch", "CAP REQ server-time"]);
        assert_eq!(say(&mut reg, &[":s CAP * NAK :batch"]), [""; 0]);
        assert_eq!(say(&mut reg, &[":s CAP * ACK :server-time"]), ["CAP END"]);
        assert!(reg.has("server-time") && !reg.has("batch"));
    }

    #[test]
    fn a_server_without_cap_is_fine_unless_a_login_is_demanded() {
        let mut reg = begun(&settings(None));
        say(&mut reg, &[":s 421 * CAP :Unknown command", ":s 001 chief :hi", ":s 422 chief :No MOTD"]);
        assert_eq!(reg.progress(), &Progress::Ready);
        let mut reg = begun(&settings(Some((&[Mechanism::Plain], true))));
        say(&mut reg, &[":s 001 chief :hi"]);
        assert!(matches!(reg.progress(), Progress::Failed(_)));
    }

    #[test]
    fn a_login_is_made_before_cap_end() {
        let mut reg = begun(&settings(Some((&[Mechanism::Plain], true))));
        assert_eq!(say(&mut reg, &[":s CAP * LS :sasl=EXTERNAL,PLAIN"]), ["CAP REQ sasl"]);
        assert_eq!(say(&mut reg, &[":s CAP * ACK :sasl"]), ["AUTHENTICATE PLAIN"]);
        assert_eq!(say(&mut reg, &["AUTHENTICATE :+"]), ["AUTHENTICATE Y2hpZWYAY2hpZWYAcHc="]);
        let done = [":s 900 * chief!u@h chief :You are now logged in", ":s 903 * :ok"];
        assert_eq!(say(&mut reg, &done), ["CAP END"]);
        assert_eq!(reg.account(), Some("chief"));
    }

    #[test]
    fn a_refused_login_tries_the_next_mechanism_and_then_fails_or_goes_on_as_configured() {
        for required in [true, false] {
            let mut settings = settings(Some((&[Mechanism::External, Mechanism::Plain], required)));
            settings.tls = Tls::default();
            let mut reg = begun(&settings);
            say(&mut reg, &[":s CAP * LS :sasl", ":s CAP * ACK :sasl"]);
            assert_eq!(say(&mut reg, &[":s 904 * :failed"]), ["AUTHENTICATE PLAIN"]);
            let end = say(&mut reg, &["AUTHENTICATE +", ":s 904 * :failed"]);
            if required {
                assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("required")));
            } else {
                assert_eq!(end.last().unwrap(), "CAP END");
            }
        }
    }

    #[test]
    fn a_password_is_not_sent_in_plain_text() {
        let mut settings = settings(Some((&[Mechanism::Plain], true)));
        settings.tls = Tls::off();
        let mut reg = begun(&settings);
        assert_eq!(say(&mut reg, &[":s CAP * LS :sasl", ":s CAP * ACK :sasl"]), ["CAP REQ sasl"]);
        assert!(matches!(reg.progress(), Progress::Failed(_)));
    }

    #[test]
    fn services_that_come_later_are_logged_in_to_and_a_lost_capability_is_forgotten() {
        let mut settings = settings(Some((&[Mechanism::Plain], false)));
        settings.tls = Tls::default();
        let mut reg = begun(&settings);
        let lines = [":s CAP * LS :batch", ":s CAP * ACK :batch", ":s 001 chief :hi", ":s 376 chief :End"];
        assert_eq!(say(&mut reg, &lines).last().unwrap(), "CAP END");
        assert_eq!(reg.progress(), &Progress::Ready);
        assert_eq!(say(&mut reg, &[":s CAP chief DEL :sasl batch"]), [""; 0]);
        assert!(!reg.has("batch"));
        assert_eq!(say(&mut reg, &[":s CAP chief NEW :sasl=PLAIN"]), ["CAP REQ sasl"]);
        assert_eq!(say(&mut reg, &[":s CAP chief ACK :sasl"]), ["AUTHENTICATE PLAIN"]);
        assert_eq!(say(&mut reg, &["AUTHENTICATE +", ":s 903 chief :ok"]).len(), 1);
        assert_eq!((reg.account(), reg.progress()), (Some("chief"), &Progress::Ready));
    }

    #[test]
    fn silence_does_not_hang_it() {
        let mut reg = begun(&settings(None));
        assert_eq!(reg.patience(), Some(STEP_PATIENCE));
        reg.late();
        assert_eq!(reg.lines(), ["CAP END"]);
        reg.late();
        assert!(matches!(reg.progress(), Progress::Failed(_)));
        let mut settings = settings(Some((&[Mechanism::Plain], true)));
        settings.tls = Tls::default();
        let mut reg = begun(&settings);
        say(&mut reg, &[":s CAP * LS :sasl", ":s CAP * ACK :sasl"]);
        reg.late();
        assert_eq!(reg.lines(), ["AUTHENTICATE *"]);
        assert!(matches!(reg.progress(), Progress::Failed(_)));
    }

    #[test]
    fn nicks_in_use_or_refused_lead_to_the_next_within_the_limit() {
        let mut settings = settings(None);
        settings.nick = "masterchief".to_owned();
        let mut reg = Registration::new(&settings);
        reg.lines();
        let taken = ":s 433 * masterchief :Nickname is already in use";
        assert_eq!(say(&mut reg, &[taken]), ["NICK chief_"]);
        assert_eq!(say(&mut reg, &[":s 432 * chief_ :Erroneous Nickname"]), ["NICK masterch1"]);
        assert_eq!(say(&mut reg, &[taken]), ["NICK masterch2"]);
        for _ in 0..30 {
            say(&mut reg, &[taken]);
        }
        assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("alt_nicks")));
    }

    #[test]
    fn a_wrong_password_and_a_ban_are_told_with_the_servers_words() {
        let mut reg = begun(&settings(None));
        say(&mut reg, &[":s 464 * :Password incorrect"]);
        assert_eq!(reg.progress(), &Progress::Failed("the server says 464: Password incorrect".to_owned()));
    }
}
