//! Any bytes of a bot, fed to whatever reads them: lines, the login of both sides, messages, the net behind a link, frames of ours.

use std::sync::Arc;

use masterchief_contract::Secret;

use super::line::LineReader;
use super::login::{Answerer, Caller, Known, Step};
use super::message::Message;
use super::name::{Address, BotName};
use super::net::{Effect, Net};
use super::{Attrs, Facts, Judge, Peer, Trust, facts, talk};

/// Nobody is a botmaster.
struct Nobody;

impl Judge for Nobody {
    fn is_botmaster(&self, _: &str, _: Trust) -> bool {
        false
    }
}

/// Bytes as a bot might send them.
///
/// # Panics
///
/// When something happens that must not, whatever comes.
pub fn fuzz(bytes: &[u8]) {
    talk::fuzz(bytes);
    facts::fuzz(bytes);
    let (mut net, mut reader) = (linked(), LineReader::default());
    let secret = || Some(Secret::new("geheim"));
    let mut caller = Caller::new(name("Chief"), "MasterChief v0", secret());
    let mut answerer = Answerer::new(name("Chief"), "MasterChief v0", "random", Secret::new("fresh"));
    for (number, part) in bytes.chunks(7).enumerate() {
        reader.feed(part);
        caller.bytes();
        while let Ok(Some(line)) = reader.next_line() {
            assert!(!line.contains(['\n', '\r']));
            for step in caller.line(&line) {
                // In clear nothing is proven, whatever they say.
                assert!(!matches!(step, Step::Up(_)));
                assert!(!format!("{step:?}").contains("geheim"));
            }
            for step in answerer.line(&line) {
                if let Step::WhoIs(_) = step {
                    answerer.known(Some(Known { password: secret(), insecure: true, ..Known::default() }));
                }
                assert!(!matches!(step, Step::Up(_)), "nobody guesses a digest");
            }
            let _ = Address::parse(&line);
            let Ok(message) = Message::parse(&line) else { continue };
            assert_eq!(Message::parse(&message.to_string()).as_ref(), Ok(&message));
            for effect in net.take(1 + number as u64 % 2, message, 1_000_000 + number as i64) {
                passes_on(&effect);
            }
        }
    }
}

/// What is sent on is a line that others can read.
fn passes_on(effect: &Effect) {
    if let Effect::Send { line, .. } = effect {
        assert!(!line.contains(['\n', '\r']));
        assert!(Message::parse(line).is_ok(), "{line:?} is no message");
    }
}

/// Us between two bots.
fn linked() -> Net {
    let facts = Facts { about: "MasterChief v0 <net>".to_owned(), ..Facts::default() };
    let mut net = Net::new(name("Chief"), facts, Arc::new(Nobody));
    // The user file of one of them may be taken.
    let takes = Attrs { take: true, ..Attrs::default() };
    let _ = net.know(std::collections::BTreeMap::from([(name("HubB"), takes)]));
    for (id, bot) in [(1, "HubA"), (2, "HubB")] {
        let peer = Peer {
            bot: name(bot),
            version: 1_080_404,
            about: "eggdrop".to_owned(),
            encrypted: false,
            at: None,
            called: true,
            handlen: 32,
            may_rekey: false,
            since: 0,
        };
        net.up(id, peer, 1_000_000);
    }
    net
}

fn name(text: &str) -> BotName {
    text.parse().expect("a name")
}
