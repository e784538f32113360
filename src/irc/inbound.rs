//! The whole way in, from bytes to events and state, for tests that feed it anything. There is no socket and no clock in it.

use std::sync::Arc;

use chrono::DateTime;

use super::decode::LineReader;
use super::history::{Age, History, time_of};
use super::message::Message;
use super::receipts::Receipts;
use super::register::Registration;
use super::sasl::Mechanism;
use super::settings::{Sasl, Settings};
use super::splits::{self, Splits};
use super::state::State;
use super::translate::{Context, translate};

/// More than this of anything that grows with what a server says would be a leak, for the input that tests have.
const MOST: usize = 4096;

/// Takes bytes as a server's, in pieces of this size. Panics where something is wrong.
pub fn inbound(bytes: &[u8], piece: usize) {
    let mut settings = Settings::new(vec![super::ServerAddr::new("irc.test", 6697)]);
    settings.sasl = Some(Sasl {
        mechanisms: vec![Mechanism::ScramSha256, Mechanism::Plain],
        account: "chief".to_owned(),
        password: Some(masterchief_contract::Secret::new("sesame")),
        required: false,
        ..Sasl::default()
    });
    let mut registration = Registration::new(&settings);
    let (mut reader, mut state) = (LineReader::default(), State::default());
    let (mut history, mut splits, mut receipts) = (History::default(), Splits::default(), Receipts::default());
    let network = Arc::from("net");
    let now = tokio::time::Instant::now();
    for part in bytes.chunks(piece.max(1)) {
        reader.feed(part);
        while let Some(line) = reader.next_line() {
            let Ok(message) = Message::parse(&line) else { continue };
            registration.take(&message);
            for line in registration.lines() {
                assert!(!line.contains(['\r', '\n', '\0']), "a line of ours is one line");
                receipts.label(&line, now);
            }
            receipts.answered(&message);
            let told = time_of(&message);
            let age = if message.is("BATCH") { Age::Live } else { history.age(&message, told, state.welcomed) };
            let split = history.split_of(&message).map(str::to_owned);
            let split = split.as_deref().or_else(|| splits::servers(message.param(0)));
            let actor = state.actor(&message, registration.has("account-tag"), registration.has("account-notify"));
            let at = told.unwrap_or(DateTime::UNIX_EPOCH);
            let context = Context { network: &network, state: &state, at, actor, raw: true, age, split, back: false };
            if let Some(parcel) = translate(&message, &context) {
                for event in &parcel.events {
                    let live = matches!(event.kind().name(), "pub" | "msg" | "pubm" | "msgm");
                    assert!(!live || age == Age::Live, "an old line became a command");
                    for kind in event.kinds {
                        let spec = super::KINDS.iter().find(|spec| spec.kind == *kind).expect("every kind has a row");
                        (spec.subject)(event);
                    }
                }
            }
            if let Some(source) = message.source.filter(|_| message.is("QUIT")) {
                splits.lost(split.unwrap_or("a.b c.d"), source.nick, (source.user, source.host), Vec::new(), now);
            }
            if age == Age::Live {
                state.take(&message, told);
            }
            if message.is("BATCH") {
                let whole = history.batch(&message);
                assert!(
                    whole.as_deref().is_none_or(|line| Message::parse(line).is_ok()),
                    "what is put together is a line"
                );
            }
        }
    }
    assert!(state.channels().len() <= MOST);
    for chan in state.channels() {
        state.members(&chan);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words that servers use, so that what is made of them goes deep.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("#ops".to_owned()),
            Just("chief".to_owned()),
            Just("alice".to_owned()),
            Just("*".to_owned()),
            Just("+a".to_owned()),
            Just("-a".to_owned()),
            Just("draft/multiline".to_owned()),
            Just("chathistory".to_owned()),
            Just("netsplit".to_owned()),
            Just("LS".to_owned()),
            Just("ACK".to_owned()),
            Just("NEW".to_owned()),
            Just(":sasl=PLAIN,SCRAM-SHA-256 sts=port=1 draft/multiline=max-bytes=1 message-tags batch".to_owned()),
            Just("CASEMAPPING=ascii".to_owned()),
            Just("PREFIX=(ov)@+".to_owned()),
            Just("+ov-b".to_owned()),
            Just("a.b".to_owned()),
            Just(":\u{1}ACTION x\u{1}".to_owned()),
            "[ -~]{0,12}",
            ":.{0,20}",
        ]
    }

    fn line() -> impl Strategy<Value = String> {
        let command = prop::sample::select(vec![
            "PRIVMSG",
            "NOTICE",
            "TAGMSG",
            "JOIN",
            "PART",
            "QUIT",
            "NICK",
            "KICK",
            "MODE",
            "TOPIC",
            "AWAY",
            "ACCOUNT",
            "CHGHOST",
            "SETNAME",
            "INVITE",
            "BATCH",
            "CAP",
            "AUTHENTICATE",
            "RENAME",
            "REDACT",
            "FAIL",
            "WALLOPS",
            "ERROR",
            "001",
            "005",
            "352",
            "353",
            "354",
            "366",
            "376",
            "396",
            "433",
            "471",
            "730",
            "900",
            "903",
            "904",
            "908",
        ]);
        let tags = prop::sample::select(vec![
            "",
            "@batch=a ",
            "@batch=a;draft/multiline-concat ",
            "@account=al;msgid=1 ",
            "@time=2026-03-02T12:00:00Z ",
            "@+draft/react=x;+reply=1 ",
            "@label=mc1 ",
            "@\\:=;;=\\ ",
        ]);
        let source = prop::sample::select(vec!["", ":s ", ":chief!c@h ", ":alice!a@h ", ":bob "]);
        let words = prop::collection::vec(word(), 0..6);
        (tags, source, command, words)
            .prop_map(|(tags, source, command, words)| format!("{tags}{source}{command} {}", words.join(" ")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 600 } else { 20_000 }))]

        #[test]
        fn whatever_a_server_says_is_borne(lines in prop::collection::vec(line(), 0..40), piece in 1usize..600) {
            inbound(format!("{}\r\n", lines.join("\r\n")).as_bytes(), piece);
        }

        #[test]
        fn whatever_bytes_come_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..600) {
            inbound(&bytes, piece);
        }
    }
}
