//! What of IRCv3 this server offers, and what a client took.

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cap {
    AccountTag,
    AwayNotify,
    Batch,
    News,
    EchoMessage,
    ExtendedJoin,
    LabeledResponse,
    MessageTags,
    MultiPrefix,
    Sasl,
    ServerTime,
    UserhostInNames,
}

/// All of them, with the values that version 302 shows. <https://ircv3.net/registry#capabilities>
const CAPS: &[(Cap, &str, &str)] = &[
    (Cap::AccountTag, "account-tag", ""),
    (Cap::AwayNotify, "away-notify", ""),
    (Cap::Batch, "batch", ""),
    (Cap::News, "cap-notify", ""),
    (Cap::EchoMessage, "echo-message", ""),
    (Cap::ExtendedJoin, "extended-join", ""),
    (Cap::LabeledResponse, "labeled-response", ""),
    (Cap::MessageTags, "message-tags", ""),
    (Cap::MultiPrefix, "multi-prefix", ""),
    (Cap::Sasl, "sasl", "PLAIN,EXTERNAL"),
    (Cap::ServerTime, "server-time", ""),
    (Cap::UserhostInNames, "userhost-in-names", ""),
];

/// What a client took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Caps(u32);

impl Caps {
    pub(super) fn has(self, cap: Cap) -> bool {
        self.0 & (1 << cap as u32) != 0
    }

    /// What `CAP REQ` asks for, all or nothing.
    pub(super) fn change(self, asked: &str) -> Option<Caps> {
        let mut caps = self;
        for word in asked.split_whitespace() {
            let (name, on) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
            let (cap, ..) = CAPS.iter().find(|(_, known, _)| *known == name)?;
            let bit = 1 << *cap as u32;
            caps.0 = if on { caps.0 | bit } else { caps.0 & !bit };
        }
        Some(caps)
    }

    /// The names of those that were taken.
    pub(super) fn list(self) -> String {
        CAPS.iter().filter(|(cap, ..)| self.has(*cap)).map(|(_, name, _)| *name).collect::<Vec<_>>().join(" ")
    }
}

/// What is offered, with values for version 302 and later.
pub(super) fn offered(values: bool) -> String {
    let of = |(_, name, value): &(Cap, &str, &str)| match *value {
        value if values && !value.is_empty() => format!("{name}={value}"),
        _ => (*name).to_owned(),
    };
    CAPS.iter().map(of).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_whole_or_not_at_all() {
        let caps = Caps::default().change("sasl server-time").unwrap();
        assert!(caps.has(Cap::Sasl) && caps.has(Cap::ServerTime) && !caps.has(Cap::Batch));
        assert_eq!(caps.change("batch draft/none"), None);
        assert_eq!(caps.change("-sasl batch").unwrap().list(), "batch server-time");
        assert!(offered(true).contains("sasl=PLAIN,EXTERNAL") && !offered(false).contains('='));
    }
}
