//! The whole way in, from bytes to events and state, for tests that feed it anything: a real connection without its socket.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Backoff, Clock, Event, Inlet, Outlets, Secret, Shutdown, inlet};

use super::around::Nobody;
use super::dial::NetDial;
use super::link::Link;
use super::network::Inner;
use super::reconnect::{Ways, disconnected};
use super::sasl::Mechanism;
use super::settings::{Channel, Sasl, ServerAddr, Services, Settings};
use super::sts::Policies;

/// Parcels of one piece of a stream that are looked at; the rest is dropped and counted, as in a full street.
const PARCELS: usize = 8192;
/// After so many connections it is looked behind every one of so many what is kept.
const EACH: u64 = 50;

/// A bot's end of one network after another: it outlives connections as a network does.
pub struct Inbound {
    inner: Arc<Inner>,
    ways: Ways,
    server: ServerAddr,
    outlets: Outlets,
    connections: u64,
}

/// What a server says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// These bytes, read in pieces of this size.
    Bytes(Vec<u8>, usize),
    /// Nothing, for so long. Virtual time: call it under a paused clock.
    Silence(Duration),
}

impl Inbound {
    /// With settings that make use of all there is: a login, services, channels with and without a key.
    pub fn new() -> Inbound {
        let mut settings = Settings::new(vec![ServerAddr::new("irc.test", 6697)]);
        settings.channels = vec![
            Channel { name: "#ops".to_owned(), key: None },
            Channel { name: "#Secret[1]".to_owned(), key: Some(Secret::new("sesame")) },
        ];
        settings.operator_in = vec!["#ops".to_owned()];
        settings.ask_certificates = true;
        settings.sasl = Some(Sasl {
            mechanisms: vec![Mechanism::ScramSha256, Mechanism::Plain],
            account: "chief".to_owned(),
            password: Some(Secret::new("sesame")),
            required: false,
            ..Sasl::default()
        });
        let services = r#"{"regain": "REGAIN", "password": "sesame", "identify": true, "let_in": true, "op": true}"#;
        settings.services = serde_json::from_str::<Services>(services).ok();
        let (leave, _) = Shutdown::new();
        let inner = Arc::new(Inner::new("net", settings, leave, Arc::new(Nobody)));
        inner.raw.store(true, std::sync::atomic::Ordering::Relaxed);
        inner.history.store(true, std::sync::atomic::Ordering::Relaxed);
        let (inlet, outlets): (Inlet, Outlets) = inlet(PARCELS);
        let ways = Ways { dial: Arc::new(NetDial), inlet, clock: Clock::system(), policies: Policies::memory() };
        Inbound { inner, ways, server: ServerAddr::new("irc.test", 6697), outlets, connections: 0 }
    }

    /// One connection: what the server says, and who hears the events. It ends when the bot hangs up, or the server has said it all.
    /// Gives how many times the server had its say, and how much was kept of it at the end ([`Inbound::held`]; 0 where
    /// it was not looked, which after the first fifty is all but each fiftieth).
    ///
    /// # Panics
    ///
    /// Where something is wrong: that is what it is for.
    pub async fn connection(
        &mut self,
        mut says: impl FnMut() -> Option<Said>,
        mut hear: impl FnMut(&Event),
    ) -> (u64, usize) {
        let settings = self.inner.lock().settings.clone();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(1));
        let mut link = Link::new(&self.inner, &self.ways, &self.server, &settings);
        link.begins();
        let mut times = 0;
        'alive: while let Some(said) = says() {
            times += 1;
            match said {
                Said::Silence(time) => {
                    tokio::time::advance(time).await;
                    if link.later().is_err() {
                        break;
                    }
                }
                Said::Bytes(bytes, piece) => {
                    for part in bytes.chunks(piece.max(1)) {
                        if link.hears(part, &mut backoff).is_err() {
                            break 'alive;
                        }
                        whole_lines(&link.says());
                    }
                }
            }
            while let Ok(parcel) = self.outlets.try_recv() {
                parcel.events.iter().for_each(&mut hear);
            }
        }
        self.connections += 1;
        // What is kept after many is much, and to look at it costs more than the lines themselves.
        let looked = self.connections <= EACH || self.connections.is_multiple_of(EACH);
        let held = if looked { self.held() } else { 0 };
        drop(link);
        disconnected(&self.inner);
        // What was spawned on the way has its turn, or it would pile up.
        tokio::task::yield_now().await;
        (times, held)
    }

    /// What is kept of what servers said, in bytes as it is written out.
    pub fn held(&self) -> usize {
        let shared = self.inner.lock();
        let held = format!(
            "{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
            shared.state,
            shared.history,
            shared.splits,
            shared.comeback,
            shared.seen,
            shared.receipts,
            shared.outgoing,
            shared.wanted
        );
        held.len()
    }
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound::new()
    }
}

/// Takes bytes as a server's, in pieces of this size. Panics where something is wrong.
pub fn inbound(bytes: &[u8], piece: usize) {
    let mut said = Some(Said::Bytes(bytes.to_vec(), piece));
    on_paused_time(async move { Inbound::new().connection(|| said.take(), is_known).await });
}

/// Runs this where time moves only when it is told to.
///
/// # Panics
///
/// Where the system gives no runtime.
pub fn on_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads and sockets").block_on(work)
}

/// Every event is of kinds that have a row, and has what the rows' masks are held against.
fn is_known(event: &Event) {
    for kind in event.kinds {
        let spec = super::KINDS.iter().find(|spec| spec.kind == *kind).expect("every kind has a row");
        (spec.subject)(event);
    }
}

/// What we say is lines, and nothing a server said has made two of one.
fn whole_lines(out: &[u8]) {
    assert!(out.is_empty() || out.ends_with(b"\r\n"), "a line of ours has no end");
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let body = line.strip_suffix(b"\r").expect("a line of ours was broken in two");
        assert!(!body.iter().any(|byte| matches!(byte, b'\r' | 0)), "a line of ours is one line");
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Class as Urgency;
    use proptest::prelude::*;

    use super::super::outgoing::{Class, Line, Next};
    use tokio::time::Instant;

    use super::*;

    /// A server that takes us in, and messages in parts too.
    const WELCOME: &str = ":s CAP * LS :batch message-tags echo-message labeled-response draft/multiline=max-bytes=4096\r\n\
                           :s CAP * ACK :batch message-tags echo-message labeled-response draft/multiline\r\n\
                           :s 001 chief :Welcome\r\n:s 422 chief :No MOTD\r\n:chief!c@host JOIN #ops\r\n";

    #[tokio::test(start_paused = true)]
    async fn what_was_about_to_leave_when_the_connection_broke_waits_for_the_next_in_front_of_all_others() {
        let bot = Inbound::new();
        let settings = bot.inner.lock().settings.clone();
        let mut link = Link::new(&bot.inner, &bot.ways, &bot.server, &settings);
        link.begins();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(1));
        link.hears(WELCOME.as_bytes(), &mut backoff).unwrap();
        let rest = async || tokio::time::advance(Duration::from_secs(60)).await;
        while !bot.inner.lock().outgoing.is_empty() {
            rest().await;
            link.says();
        }
        let say = |text: &str, whole| {
            let line = Line { whole, ..Line::from(format!("PRIVMSG #ops :{text}")) };
            bot.inner.lock().outgoing.push(Class::Words(Urgency::Reply), "#ops", line).unwrap();
        };
        say("done", 0);
        say("one", 7);
        say("two", 7);
        rest().await;
        assert_eq!(link.breaks(), (true, false));
        assert_eq!(bot.inner.lock().outgoing.words(), 3, "nothing is lost");
        // Said to its end, it does not wait any more; what comes behind it does, as one message.
        assert!(String::from_utf8(link.says()).unwrap().contains("PRIVMSG #ops :done\r\n"));
        say("one", 7);
        say("two", 7);
        rest().await;
        assert_eq!(link.breaks(), (true, false));
        rest().await;
        let mut shared = bot.inner.lock();
        let Next::Whole(lines) = shared.outgoing.next(Instant::now()) else { panic!("a message in parts") };
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["PRIVMSG #ops :one", "PRIVMSG #ops :two"]);
        assert!(lines.iter().all(|line| line.hush), "that they leave was told");
        assert!(shared.outgoing.is_empty());
    }

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
