//! What client and server agree on: capabilities, login, the nick. Pure: a line in, lines out.
//!
//! It begins with the connection and lives as long, because capabilities come and go (CAP NEW, CAP DEL).
//! <https://ircv3.net/specs/extensions/capability-negotiation>

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::message::{Message, compose};
use super::sasl::{Exchange, Mechanism};
use super::settings::Settings;
use super::sts::Sts;

mod login;

/// The capabilities we know what to do with. `sasl` is asked for only where an account is configured, and `sts` never: it says
/// something and cannot be switched on.
const WANTED: &[&str] = &[
    "account-notify",
    "account-tag",
    "away-notify",
    "batch",
    "cap-notify",
    "chghost",
    "draft/channel-rename",
    "draft/chathistory",
    "draft/message-redaction",
    "draft/multiline",
    "echo-message",
    "extended-join",
    "extended-monitor",
    "inspircd.org/standard-replies",
    "invite-notify",
    "labeled-response",
    "message-tags",
    "multi-prefix",
    "server-time",
    "setname",
    "standard-replies",
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
    /// The server demands TLS on this port: nothing more may be said on this connection.
    Upgrade(u16),
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
    /// Whether PASS, NICK and USER wait for the server's list, because it may demand TLS before the password is shown.
    held: bool,
    /// Whether the server has finished its welcome while a login is still under way.
    early: bool,
    /// For how many seconds the server wants to be reached with TLS only; told since last asked.
    keep: Option<u64>,
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
            held: !settings.tls.enabled && settings.password.is_some(),
            early: false,
            keep: None,
            out: Vec::new(),
        };
        if let Some(webirc) = &settings.webirc {
            let params = webirc.params();
            new.send("WEBIRC", &params.iter().map(String::as_str).collect::<Vec<_>>());
        }
        new.send("CAP", &["LS", "302"]);
        if !new.held {
            new.introduce();
        }
        new
    }

    /// Says who we are.
    fn introduce(&mut self) {
        self.held = false;
        if let Some(password) = &self.settings.password {
            let password = password.clone();
            self.send("PASS", &[password.reveal()]);
        }
        let Settings { nick, realname, .. } = self.settings.clone();
        let username = self.settings.username().to_owned();
        self.send("NICK", &[&nick]);
        self.send("USER", &[&username, "0", "*", &realname]);
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

    /// The capabilities that are on, in order.
    pub(super) fn caps(&self) -> Vec<String> {
        self.enabled.iter().cloned().collect()
    }

    /// The value of a capability that the server offers; empty where it has none.
    pub(super) fn value(&self, cap: &str) -> &str {
        self.offered.get(cap).map_or("", String::as_str)
    }

    /// For how many seconds the server now wants to be reached with TLS only, if it just said so. 0 takes that back.
    pub(super) fn keep(&mut self) -> Option<u64> {
        self.keep.take()
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
            Stage::Done if self.exchange.is_some() => Some(LOGIN_PATIENCE),
            Stage::Done => (!self.unanswered.is_empty()).then_some(STEP_PATIENCE),
        }
    }

    /// Whether a line is a step of what is negotiated: the patience begins anew with it. What people say is none.
    pub(super) fn is_step(&self, message: &Message<'_>) -> bool {
        let login = message.command.len() == 3 && message.command.starts_with("90");
        !self.is_done() || login || message.is("CAP") || message.is("AUTHENTICATE")
    }

    /// The patience is over: goes on without the step, or fails.
    pub(super) fn late(&mut self) {
        match self.stage {
            // It may demand TLS, and has not had its say: a password that was shown cannot be taken back.
            Stage::Listing if self.held => self.fail(&format!(
                "the server did not say within {} s whether it demands TLS, so it was not shown the password; set `tls: true`, or take \
                 `password` out",
                STEP_PATIENCE.as_secs()
            )),
            Stage::Listing | Stage::Requesting => {
                self.unanswered.clear();
                self.begin_login_or_end();
            }
            Stage::Done if self.exchange.is_none() => self.unanswered.clear(),
            Stage::LoggingIn | Stage::Done => self.login_silent(),
            Stage::Welcome => self.fail("the server did not finish the registration"),
        }
    }

    /// Takes one line of the server.
    pub(super) fn take(&mut self, message: &Message<'_>) {
        if matches!(self.progress, Progress::Upgrade(_) | Progress::Failed(_)) {
            return;
        }
        match message.command {
            // A server without CAP: it knows nothing of TLS to be demanded either.
            "421" | "451" | "410" if self.held => self.introduce(),
            "001" => self.welcomed(message),
            "376" | "422" => self.registered(),
            "432" | "433" | "436" | "437" if !self.is_done() => self.next_nick(),
            "FAIL" if !self.is_done() && message.param(1).starts_with("ACCOUNT_REQUIRED") => {
                self.fail(&format!("the server takes only who logs in, so configure `sasl`: {}", message.last()));
            }
            "464" | "465" | "466" if !self.is_done() => self.fail(&server_says(message)),
            "900" => self.account = Some(message.param(2).to_owned()),
            "901" => self.account = None,
            "903" => self.logged_in(),
            "907" => self.logged_in_before(),
            "902" | "904" | "905" | "906" => self.login_failed(message.last()),
            "908" => self.mechanisms_known(message.param(1)),
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

    /// Whether nothing of the negotiation waits for a login any more, so that one may begin by itself.
    fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Welcome | Stage::Done)
    }

    fn cap(&mut self, message: &Message<'_>) {
        let verb = message.param(1).to_ascii_uppercase();
        let list: Vec<String> = message.last().split(' ').filter(|cap| !cap.is_empty()).map(str::to_owned).collect();
        match verb.as_str() {
            "LS" => {
                self.offer(&list);
                if self.heed_sts(&list) {
                    return;
                }
                let more = message.param(2) == "*" && message.params().len() > 3;
                if !more && self.stage == Stage::Listing {
                    if self.held {
                        self.introduce();
                    }
                    self.request_wanted();
                }
            }
            "NEW" => {
                self.offer(&list);
                if self.heed_sts(&list) {
                    return;
                }
                let names: Vec<&str> = list.iter().map(|cap| cap_name(cap)).collect();
                let wanted = self.wanted().into_iter().filter(|cap| names.contains(&cap.as_str())).collect();
                self.request(wanted);
                // It was never taken away, but services are back.
                if self.is_ended() && names.contains(&"sasl") && self.enabled.contains("sasl") {
                    self.login_again();
                }
            }
            "DEL" => {
                // A demand for TLS is not taken back this way.
                for cap in list.iter().map(|cap| cap_name(cap)).filter(|cap| *cap != "sts") {
                    self.offered.remove(cap);
                    self.enabled.remove(cap);
                    self.unanswered.retain(|asked| asked != cap);
                    if cap == "sasl" {
                        self.services_gone();
                    }
                }
                self.all_answered();
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

    /// What the server demands about TLS; whether this connection is over for it.
    /// <https://ircv3.net/specs/extensions/sts>
    fn heed_sts(&mut self, list: &[String]) -> bool {
        let Some(value) = list.iter().find_map(|cap| cap.strip_prefix("sts=")) else { return false };
        let sts = Sts::parse(value);
        if self.settings.tls.enabled {
            self.keep = sts.duration.or(self.keep);
            return false;
        }
        let Some(port) = sts.port else { return false };
        self.out.clear();
        self.progress = Progress::Upgrade(port);
        true
    }

    /// What we want of what there is and is not on yet.
    fn wanted(&self) -> Vec<String> {
        let sasl = (self.settings.sasl.is_some() && self.account.is_none()).then_some("sasl");
        let all = WANTED.iter().copied().chain(sasl);
        let asked = |cap: &&str| self.enabled.contains(*cap) || self.unanswered.iter().any(|asked| asked == cap);
        all.filter(|cap| self.offered.contains_key(*cap) && !asked(cap)).map(str::to_owned).collect()
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
        let ended = self.is_ended();
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
        if ended && self.enabled.contains("sasl") && list.iter().any(|cap| cap == "sasl") {
            self.login_again();
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

    fn end(&mut self) {
        self.send("CAP", &["END"]);
        self.stage = Stage::Welcome;
        if self.early {
            self.registered();
        }
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
        // It did not wait for the login that is under way: what needs an account does.
        self.early |= self.stage == Stage::LoggingIn;
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
            ..Sasl::default()
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
    fn a_gateway_says_first_whom_it_speaks_for() {
        let mut settings = settings(None);
        let webirc = r#"{"password":"pw","host":"chief.test","ip":"::1","secure":true}"#;
        settings.webirc = Some(serde_json::from_str(webirc).unwrap());
        assert_eq!(settings.faults(), []);
        let first = Registration::new(&settings).lines();
        assert_eq!(first[..2], ["WEBIRC pw masterchief chief.test 0::1 secure", "CAP LS 302"]);
        settings.tls = Tls::off();
        assert!(settings.faults()[0].1.contains("plain text"));
    }

    #[test]
    fn a_server_that_takes_only_accounts_is_told_apart_and_one_that_repeats_itself_is_asked_once() {
        let mut reg = begun(&settings(None));
        assert_eq!(say(&mut reg, &[":s CAP * LS :", ":s CAP * NEW :batch"]), ["CAP END", "CAP REQ batch"]);
        assert_eq!(say(&mut reg, &[":s CAP * NEW :batch", ":s CAP * NEW :batch"]), [""; 0]);
        say(&mut reg, &[":s FAIL * ACCOUNT_REQUIRED_TO_CONNECT :Log in first"]);
        assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("configure `sasl`")));
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

    /// With a login by password over TLS, up to what these lines of the server bring it to.
    fn with_login(required: bool, lines: &[&str]) -> Registration {
        let mut settings = settings(Some((&[Mechanism::Plain], required)));
        settings.tls = Tls::default();
        let mut reg = begun(&settings);
        say(&mut reg, lines);
        reg
    }

    #[test]
    fn services_that_come_between_the_end_of_the_negotiation_and_the_welcome_are_logged_in_to() {
        let before = [":s CAP * LS :batch", ":s CAP * ACK :batch", ":s 001 chief :hi"];
        let mut reg = with_login(false, &before);
        assert_eq!(say(&mut reg, &[":s CAP chief NEW :sasl=PLAIN"]), ["CAP REQ sasl"]);
        assert_eq!(say(&mut reg, &[":s CAP chief ACK :sasl"]), ["AUTHENTICATE PLAIN"]);
        say(&mut reg, &[":s 376 chief :End"]);
        assert_eq!(reg.progress(), &Progress::Ready);
        say(&mut reg, &["AUTHENTICATE +", ":s 900 chief chief!c@h chief :in", ":s 903 chief :ok"]);
        assert_eq!(reg.account(), Some("chief"));
        let mut reg = with_login(false, &before);
        say(&mut reg, &[":s CAP chief NEW :sasl=PLAIN", ":s CAP chief ACK :sasl"]);
        assert_eq!(
            say(&mut reg, &["AUTHENTICATE +", ":s 904 chief :no"]).len(),
            1,
            "there is one CAP END, and it was sent"
        );
        say(&mut reg, &[":s 376 chief :End"]);
        assert_eq!((reg.progress(), reg.account()), (&Progress::Ready, None));
    }

    #[test]
    fn a_server_that_welcomes_us_in_the_middle_of_a_login_is_registered_with_when_the_login_is_over() {
        for (end, required, ready) in
            [(":s 903 * :ok", true, true), (":s 904 * :no", false, true), (":s 904 * :no", true, false)]
        {
            let mut reg = with_login(required, &[":s CAP * LS :sasl", ":s CAP * ACK :sasl", "AUTHENTICATE +"]);
            say(&mut reg, &[":s 001 chief :hi", ":s 376 chief :End"]);
            assert_eq!(reg.progress(), &Progress::Going, "what needs an account waits for it");
            say(&mut reg, &[end]);
            assert_eq!(reg.progress() == &Progress::Ready, ready, "{end} {required}");
        }
    }

    #[test]
    fn a_request_that_is_never_answered_stands_in_nobodys_way() {
        let mut reg = with_login(false, &[":s CAP * LS :", ":s 001 chief :hi", ":s 376 chief :End"]);
        assert_eq!(
            (say(&mut reg, &[":s CAP chief NEW :batch"]), reg.patience()),
            (vec!["CAP REQ batch".to_owned()], Some(STEP_PATIENCE))
        );
        assert!(!reg.is_step(&Message::parse(":a!a@h PRIVMSG #ops :hi").unwrap()));
        reg.late();
        assert_eq!((reg.patience(), reg.progress()), (None, &Progress::Ready));
        assert_eq!(say(&mut reg, &[":s CAP chief NEW :batch"]), ["CAP REQ batch"]);
        assert_eq!(say(&mut reg, &[":s CAP chief DEL :batch", ":s CAP chief NEW :batch"]), ["CAP REQ batch"]);
    }

    #[test]
    fn services_that_go_in_the_middle_of_a_login_end_it() {
        let begun = [":s CAP * LS :sasl batch", ":s CAP * ACK :sasl batch", "AUTHENTICATE +"];
        let mut reg = with_login(false, &begun);
        assert_eq!(say(&mut reg, &[":s CAP * DEL :sasl"]), ["CAP END"]);
        assert!(matches!(
            with_login(true, &[&begun[..], &[":s CAP * DEL :sasl"]].concat()).progress(),
            Progress::Failed(_)
        ));
        say(&mut reg, &[":s 001 chief :hi", ":s 376 chief :End", ":s CAP chief NEW :sasl", ":s CAP chief ACK :sasl"]);
        say(&mut reg, &[":s CAP chief DEL :sasl"]);
        assert_eq!(reg.patience(), None);
        let again = say(&mut reg, &[":s CAP chief NEW :sasl", ":s CAP chief ACK :sasl"]);
        assert_eq!(again, ["CAP REQ sasl", "AUTHENTICATE PLAIN"]);
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
    fn a_password_waits_for_what_the_server_has_to_say_about_tls_and_is_not_shown_to_one_that_is_silent() {
        let plain = Settings { password: Some(Secret::new("sesame")), tls: Tls::off(), ..settings(None) };
        let mut reg = Registration::new(&plain);
        assert_eq!(reg.lines(), ["CAP LS 302"]);
        assert_eq!(say(&mut reg, &[":s NOTICE * :Looking up", ":s CAP * LS * :batch"]), [""; 0]);
        reg.late();
        assert_eq!(reg.lines(), [""; 0]);
        assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("tls: true")));
        let late = [":s CAP * LS :sts=port=6697", ":s 421 * CAP :Unknown"];
        assert_eq!(say(&mut reg, &late), [""; 0], "nor afterwards");
        let mut reg = Registration::new(&plain);
        reg.lines();
        assert_eq!(say(&mut reg, &[":s 421 * CAP :Unknown command"])[0], "PASS sesame");
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
