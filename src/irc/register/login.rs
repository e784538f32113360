//! Logging in to services while registering, and again when they come back. <https://ircv3.net/specs/extensions/sasl-3.2>

use super::{Exchange, Mechanism, Registration, Stage};

impl Registration {
    pub(super) fn begin_login_or_end(&mut self) {
        if self.settings.sasl.is_none() {
            self.end();
        } else if self.enabled.contains("sasl") {
            self.stage = Stage::LoggingIn;
            self.begin_login();
        } else {
            self.login_failed("the server offers no SASL");
        }
    }

    /// Services are back and we are registered: logs in, unless we still are or a login is under way.
    pub(super) fn login_again(&mut self) {
        if self.account.is_none() && self.exchange.is_none() {
            self.begin_login();
        }
    }

    /// Lines up the mechanisms that we and the server have, and tries the first.
    fn begin_login(&mut self) {
        let Some(sasl) = &self.settings.sasl else { return };
        let offered = self.value("sasl");
        let known = |mechanism: &Mechanism| offered.is_empty() || is_listed(offered, *mechanism);
        let plaintext = !self.settings.tls.enabled && !sasl.allow_plaintext;
        let safe = |mechanism: &Mechanism| !(plaintext && mechanism.shows_password());
        self.mechanisms = sasl.mechanisms.iter().copied().filter(|one| known(one) && safe(one)).collect();
        self.next_mechanism("the server has none of the configured mechanisms");
    }

    fn next_mechanism(&mut self, otherwise: &str) {
        let mut otherwise = otherwise.to_owned();
        while let Some((mechanism, sasl)) = self.mechanisms.pop_front().zip(self.settings.sasl.as_ref()) {
            match Exchange::begin(mechanism, sasl) {
                Ok(exchange) => {
                    self.exchange = Some(exchange);
                    return self.send("AUTHENTICATE", &[mechanism.name()]);
                }
                Err(reason) => {
                    tracing::warn!(%mechanism, %reason, "A login cannot begin");
                    otherwise = reason;
                }
            }
        }
        self.no_login(&otherwise);
    }

    /// 908: the mechanisms that the server has after all.
    pub(super) fn mechanisms_known(&mut self, list: &str) {
        self.mechanisms.retain(|mechanism| is_listed(list, *mechanism));
    }

    pub(super) fn challenge(&mut self, piece: &str) {
        let Some(exchange) = &mut self.exchange else { return };
        match exchange.take(piece) {
            Ok(answers) => {
                for answer in answers {
                    self.send("AUTHENTICATE", &[&answer]);
                }
            }
            Err(reason) => {
                tracing::warn!(%reason, "A login is given up");
                // Who does not keep to the rules is shown nothing more, least of all the password.
                self.mechanisms.clear();
                self.send("AUTHENTICATE", &["*"]);
            }
        }
    }

    pub(super) fn logged_in(&mut self) {
        match self.exchange.take() {
            Some(exchange) if !exchange.may_end() => {
                return self
                    .fail("the server says that we are logged in and has not proven that it knows the password");
            }
            None if self.stage != Stage::LoggingIn => return,
            _ => {}
        }
        if self.account.is_none() {
            self.account = self.settings.sasl.as_ref().map(|sasl| sasl.account.clone()).filter(|name| !name.is_empty());
        }
        if self.stage == Stage::LoggingIn {
            self.end();
        }
    }

    /// 907: we are logged in already, as where the server knows us by our certificate. That is no proof that it knows the password, so
    /// it counts only where it has told as whom.
    pub(super) fn logged_in_before(&mut self) {
        let tried = self.exchange.take().is_some();
        if !tried && self.stage != Stage::LoggingIn {
            return;
        }
        self.mechanisms.clear();
        if self.account.is_none() {
            return self.no_login("the server says that we are logged in already, and not as whom");
        }
        if self.stage == Stage::LoggingIn {
            self.end();
        }
    }

    /// The server takes the capability back: what is under way is not answered any more.
    pub(super) fn services_gone(&mut self) {
        self.mechanisms.clear();
        if self.stage == Stage::LoggingIn {
            self.login_failed("services went away");
        }
        self.exchange = None;
    }

    /// Services say nothing. They will not say more about another mechanism.
    pub(super) fn login_silent(&mut self) {
        self.send("AUTHENTICATE", &["*"]);
        self.mechanisms.clear();
        self.login_failed("services did not answer the login");
    }

    pub(super) fn login_failed(&mut self, reason: &str) {
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
        if !self.is_ended() {
            self.end();
        }
    }
}

/// Whether a list of the server names this mechanism.
fn is_listed(list: &str, mechanism: Mechanism) -> bool {
    list.split(',').any(|name| name.eq_ignore_ascii_case(mechanism.name()))
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;

    use super::super::Progress;
    use super::*;
    use crate::irc::message::Message;
    use crate::irc::settings::{Sasl, Settings};

    /// The first word of what is said to each line, from the server's list on.
    fn login(required: bool, lines: &[&str]) -> (Registration, Vec<String>) {
        let mut settings = Settings::new(vec!["irc.test".parse().unwrap()]);
        let password = Some(Secret::new("pencil"));
        settings.sasl = Some(Sasl { account: "user".to_owned(), password, required, ..Sasl::default() });
        let mut reg = Registration::new(&settings);
        let opening = [":s CAP * LS :sasl=PLAIN,SCRAM-SHA-256", ":s CAP * ACK :sasl"];
        opening.iter().for_each(|line| reg.take(&Message::parse(line).unwrap()));
        reg.lines();
        let mut heard = Vec::new();
        for line in lines {
            reg.take(&Message::parse(line).unwrap());
            heard.extend(reg.lines());
        }
        (reg, heard)
    }

    #[test]
    fn without_an_order_of_ones_own_the_password_is_proven_before_it_is_shown() {
        let (_, heard) = login(true, &["AUTHENTICATE +", ":s 904 user :failed"]);
        assert!(heard[0].starts_with("AUTHENTICATE biwsbj11c2VyLHI9"), "{heard:?}");
        assert_eq!(heard[1], "AUTHENTICATE PLAIN");
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_not_told_the_password_in_another_way() {
        let (reg, heard) = login(true, &["AUTHENTICATE +", "AUTHENTICATE bm90IG15IG5vbmNl", ":s 906 user :aborted"]);
        assert_eq!(heard[1..], ["AUTHENTICATE *"]);
        assert!(matches!(reg.progress(), Progress::Failed(_)));
        let (reg, heard) = login(false, &["AUTHENTICATE +", "AUTHENTICATE !!!", ":s 904 user :failed"]);
        assert_eq!(heard[1..], ["AUTHENTICATE *", "CAP END"]);
        assert_eq!(reg.progress(), &Progress::Going);
    }

    #[test]
    fn a_server_that_skips_its_own_proof_is_left() {
        let (reg, _) = login(false, &["AUTHENTICATE +", ":s 900 user u!u@h user :hi", ":s 903 user :ok"]);
        assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("proven")));
    }

    #[test]
    fn who_is_logged_in_already_goes_on_where_the_server_says_as_whom() {
        let (reg, heard) = login(true, &[":s 900 user u!u@h user :hi", ":s 907 user :You are already logged in"]);
        assert_eq!(
            (heard, reg.account(), reg.progress()),
            (vec!["CAP END".to_owned()], Some("user"), &Progress::Going)
        );
        let (reg, heard) = login(false, &[":s 907 user :You are already logged in"]);
        assert_eq!((heard, reg.account()), (vec!["CAP END".to_owned()], None));
        let (reg, _) = login(true, &["AUTHENTICATE +", ":s 907 user :You are already logged in"]);
        assert!(matches!(reg.progress(), Progress::Failed(reason) if reason.contains("not as whom")));
    }

    #[test]
    fn mechanisms_that_the_server_has_not_after_all_are_not_tried() {
        let (reg, heard) = login(false, &[":s 908 user SCRAM-SHA-256,external :are available", ":s 904 user :no"]);
        assert_eq!(heard, ["CAP END"]);
        assert_eq!(reg.account(), None);
    }

    #[test]
    fn services_that_are_silent_are_asked_once() {
        let (mut reg, _) = login(false, &["AUTHENTICATE +"]);
        reg.late();
        assert_eq!(reg.lines(), ["AUTHENTICATE *", "CAP END"]);
        reg.take(&Message::parse(":s 906 user :aborted").unwrap());
        assert_eq!(reg.lines(), [""; 0]);
    }

    #[test]
    fn who_was_logged_out_logs_in_again_when_services_are_back() {
        let (mut reg, _) = login(false, &[":s 904 user :no", "AUTHENTICATE +", ":s 903 user :ok"]);
        for line in [":s 001 user :hi", ":s 376 user :End", ":s 901 user u!u@h :logged out"] {
            reg.take(&Message::parse(line).unwrap());
        }
        assert_eq!((reg.account(), reg.progress()), (None, &Progress::Ready));
        reg.lines();
        reg.take(&Message::parse(":s CAP user NEW :sasl=PLAIN").unwrap());
        assert_eq!(reg.lines(), ["AUTHENTICATE PLAIN"], "the capability was never taken away");
        reg.take(&Message::parse(":s CAP user NEW :sasl=PLAIN").unwrap());
        assert_eq!(reg.lines(), [""; 0], "one at a time");
    }
}
