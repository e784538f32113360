//! What is wrong with settings beyond their grammar.

use super::Settings;
use crate::irc::sasl;

impl Settings {
    /// What is wrong with these settings beyond their grammar: each with the key it concerns.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.servers.is_empty() {
            faults.push(("servers", "needs at least one server, such as \"irc.libera.chat:6697\"".to_owned()));
        }
        for nick in std::iter::once(&self.nick).chain(&self.alt_nicks) {
            if !is_word(nick) || nick.starts_with(|c: char| c.is_ascii_digit() || c == '#' || c == ':') {
                faults.push(("nick", format!("{nick:?} is not a nick: one word that does not begin with a digit")));
            }
        }
        for channel in &self.channels {
            if !is_word(&channel.name) || !starts_as_channel(&channel.name) {
                faults.push(("channels", format!("{:?} is not a channel: write \"#{}\"", channel.name, channel.name)));
            }
            if channel.key.as_ref().is_some_and(|key| !is_word(key.reveal())) {
                faults.push(("channels", format!("the key of {} is not one word", channel.name)));
            }
        }
        faults.extend(self.route_faults());
        faults.extend(self.services_faults().into_iter().map(|fault| ("services", fault)));
        for chan in self.operator_in.iter().filter(|chan| !is_word(chan) || !starts_as_channel(chan)) {
            faults.push(("operator_in", format!("{chan:?} is not a channel: write \"#{chan}\"")));
        }
        faults.extend(self.webirc_faults().into_iter().map(|fault| ("webirc", fault)));
        if self.realname.contains(['\r', '\n', '\0']) {
            faults.push(("realname", "has a line break".to_owned()));
        }
        if self.username.as_ref().is_some_and(|name| !is_word(name)) {
            faults.push(("username", "is not one word".to_owned()));
        }
        if self.password.as_ref().is_some_and(|password| password.reveal().contains(['\r', '\n', '\0'])) {
            faults.push(("password", "has a line break".to_owned()));
        }
        faults.extend(self.sasl_faults().into_iter().map(|fault| ("sasl", fault)));
        if self.pace.burst == 0 {
            faults.push(("pace", "burst must be at least 1".to_owned()));
        }
        if self.ping.after.is_zero() || self.ping.timeout.is_zero() {
            faults.push(("ping", "after and timeout must be longer than nothing".to_owned()));
        }
        faults
    }

    fn webirc_faults(&self) -> Vec<String> {
        let Some(webirc) = &self.webirc else { return Vec::new() };
        let mut faults = Vec::new();
        let words = [("password", webirc.password.reveal()), ("gateway", &webirc.gateway), ("host", &webirc.host)];
        for (key, _) in words.iter().filter(|(_, word)| !is_word(word) || word.starts_with(':')) {
            faults.push(format!("{key} is not one word"));
        }
        if !self.tls.enabled && !webirc.allow_plaintext {
            faults.push(
                "the password would be sent in plain text: set `tls: true`, or `allow_plaintext: true`".to_owned(),
            );
        }
        faults
    }

    fn sasl_faults(&self) -> Vec<String> {
        let Some(sasl) = &self.sasl else { return Vec::new() };
        let mut faults = Vec::new();
        if sasl.mechanisms.is_empty() {
            faults.push(
                "mechanisms is empty: leave it out, or name SCRAM-SHA-256, PLAIN, EXTERNAL or ECDSA-NIST256P-CHALLENGE"
                    .to_owned(),
            );
        }
        for mechanism in &sasl.mechanisms {
            if mechanism.needs_password() && (sasl.account.is_empty() || sasl.password.is_none()) {
                faults.push(format!("{mechanism} needs `account` and `password`"));
            }
            if mechanism.needs_certificate() && self.tls.cert.is_none() {
                faults.push(format!("{mechanism} needs our certificate: set `tls: {{cert: PATH}}`"));
            }
            if mechanism.needs_key() {
                let key = sasl.ecdsa_key.as_ref().map_or("", |key| key.reveal());
                if sasl.account.is_empty() {
                    faults.push(format!("{mechanism} needs `account`"));
                }
                faults.extend(sasl::key_fault(key));
            }
            if mechanism.shows_password() && !self.tls.enabled && !sasl.allow_plaintext {
                faults.push(format!(
                    "{mechanism} would send the password in plain text: set `tls: true`, or `allow_plaintext: true`"
                ));
            }
        }
        faults
    }

    /// What cannot be reached that way.
    fn route_faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for server in &self.servers {
            match server.path.as_ref().map(|path| path.secure) {
                Some(true) if !self.tls.enabled => {
                    faults.push(("servers", format!("{server} is reached with TLS, and `tls` is false")));
                }
                Some(false) if self.tls.enabled => {
                    faults.push(("servers", format!("{server} is reached without TLS: write wss://, or `tls: false`")));
                }
                _ => {}
            }
        }
        if let Some(proxy) = &self.proxy {
            let password = proxy.password.as_ref().map_or("", |password| password.reveal());
            if proxy.user.is_some() != proxy.password.is_some() {
                faults.push(("proxy", "needs both `user` and `password`, or neither".to_owned()));
            }
            if proxy.user.as_ref().is_some_and(|user| user.is_empty() || user.len() > 255)
                || password.len() > 255
                || (proxy.user.is_some() && password.is_empty())
            {
                faults.push(("proxy", "user and password have 1 to 255 bytes each (RFC 1929)".to_owned()));
            }
            if self.local_address.is_some() {
                faults.push((
                    "local_address",
                    "the proxy chooses where it connects from; leave one of them out".to_owned(),
                ));
            }
        }
        faults
    }

    fn services_faults(&self) -> Vec<String> {
        let Some(services) = &self.services else { return Vec::new() };
        let mut faults = Vec::new();
        for name in [&services.nickserv, &services.chanserv] {
            if !is_word(name) {
                faults.push(format!("{name:?} is not a nick: write NickServ, or NickServ@services.example"));
            }
        }
        if services
            .regain
            .as_ref()
            .is_some_and(|word| !word.bytes().all(|byte| byte.is_ascii_alphabetic()) || word.is_empty())
        {
            faults.push("regain is one word, such as REGAIN, GHOST or RECOVER".to_owned());
        }
        if services.password.is_some() && !self.tls.enabled {
            faults.push("password would be sent in plain text: set `tls: true`".to_owned());
        }
        if services.password.is_some() && services.sayable().is_none() {
            faults.push(format!(
                "password would be told to whoever has the nick {nick}: write `nickserv: {nick}@SERVER` with the server that \
                 /whois {nick} names, or take the password out and log in by `sasl`",
                nick = services.nickserv.split('@').next().unwrap_or("NickServ")
            ));
        }
        if services.identify && services.password.is_none() {
            faults.push("identify needs `password`".to_owned());
        }
        if services.password.as_ref().is_some_and(|password| !is_word(password.reveal())) {
            faults.push("password is not one word".to_owned());
        }
        faults
    }
}

/// Whether this can stand in the middle of a line.
fn starts_as_channel(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_punctuation())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && !text.contains([' ', ',', '\r', '\n', '\0', '\u{7}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_told_with_their_key() {
        let settings: Settings = serde_json::from_str(
            r##"{"servers":[],"nick":"9lives","tls":false,"channels":["ops","#a b"],
                 "sasl":{"mechanisms":["PLAIN","EXTERNAL"],"account":"chief","password":"x"}}"##,
        )
        .unwrap();
        let keys: Vec<&str> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["servers", "nick", "channels", "channels", "sasl", "sasl"]);
        let password = &settings.sasl.unwrap().password.unwrap();
        assert_eq!(format!("{password:?}"), "***");
    }

    #[test]
    fn what_would_show_a_password_or_cannot_be_reached_is_told() {
        let keys = |json: &str| {
            let settings: Settings = serde_json::from_str(json).unwrap();
            settings.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let at = r#""nickserv":"NickServ@services.h","password""#;
        assert_eq!(keys(&format!(r#"{{"servers":["h"],"tls":false,"services":{{{at}:"x"}}}}"#)), ["services"]);
        assert_eq!(
            keys(&format!(r#"{{"servers":["h"],"services":{{{at}:"x y","regain":"RE GAIN"}}}}"#)),
            ["services"; 2]
        );
        assert_eq!(keys(r#"{"servers":["h"],"services":{"identify":true,"nickserv":""}}"#), ["services"; 2]);
        assert_eq!(keys(r#"{"servers":["ws://h/"]}"#), ["servers"]);
        assert_eq!(keys(r#"{"servers":["wss://h/"],"tls":false}"#), ["servers"]);
        assert_eq!(keys(r#"{"servers":["wss://h/"],"proxy":{"address":"127.0.0.1:9050","user":"a"}}"#), ["proxy"; 2]);
        for nick in ["NickServ", "NickServ@", "@services.h"] {
            let json = format!(r#"{{"servers":["h"],"services":{{"nickserv":"{nick}","password":"x"}}}}"#);
            let settings: Settings = serde_json::from_str(&json).unwrap();
            let told = settings.faults();
            assert!(told.len() == 1 && told[0].1.contains("whoever has the nick"), "{nick}: {told:?}");
        }
        assert_eq!(keys(&format!(r#"{{"servers":["h"],"services":{{{at}:"x"}}}}"#)), [""; 0]);
        let both = r#"{"servers":["h"],"local_address":"::1","proxy":{"address":"127.0.0.1:9050"}}"#;
        assert_eq!(keys(both), ["local_address"]);
        let key = r#"{"servers":["h"],"sasl":{"mechanisms":["ECDSA-NIST256P-CHALLENGE"],"ecdsa_key":"no"}}"#;
        assert_eq!(keys(key), ["sasl"; 2]);
    }
}
