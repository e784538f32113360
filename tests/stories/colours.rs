//! Channels that take no colours: nothing is lost, and whoever waits for the receipt has the right one.

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Action, Event, HandlerError, How, Kind, Outcome, Proof};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lab::Lab;
use super::person::{PATIENCE, Person};
use super::real::{bot_on, joined};
use super::wire::{Line, Wire};

/// An alarm in red, with a bold word.
const RED: &str = "\u{3}04the \u{2}shop\u{2} is down\u{3} since 12:00";
/// The same without.
const PLAIN: &str = "the shop is down since 12:00";

fn say(target: &str, text: &str) -> Action {
    let (network, target, text) = (String::new(), target.to_owned(), text.to_owned());
    Action::Say { network, target, text, how: How::Say, reply: false }
}

async fn on(wire: &Wire, caps: &str) -> (Started, Line) {
    let started = Bot::builder().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined(caps, "CHANMODES=b,k,l,cimnpst").await;
    (started, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_with_colours_that_is_refused_is_said_again_without_them_and_the_receipt_is_that_of_the_second() {
    let wire = Wire::plain().await;
    let (started, mut line) = on(&wire, "message-tags batch echo-message labeled-response").await;
    let outlet = started.outlet();
    let (receipt, ()) = tokio::join!(outlet.deliver(say("#ops", RED)), async {
        let said = line.hears("@label=mc1").await;
        assert!(said.ends_with(RED), "{said}");
        line.says(&["@label=mc1 :s 404 chief #ops :Can't send colors to channel (+c is set)"]).await;
        let said = line.hears("@label=mc2").await;
        assert!(said.ends_with(&format!("PRIVMSG #ops :{PLAIN}")), "{said}");
        line.says(&[&format!("@label=mc2;msgid=m :chief!c@host PRIVMSG #ops :{PLAIN}")]).await;
    });
    assert_eq!(receipt.map(|receipt| (receipt.proof, receipt.msgid)), Ok((Proof::Echoed, Some("m".to_owned()))));
    // Where that is refused too, it was not for its colours.
    let (refused, ()) = tokio::join!(outlet.deliver(say("#ops", RED)), async {
        for label in ["mc3", "mc4"] {
            line.hears(&format!("@label={label}")).await;
            line.says(&[&format!("@label={label} :s 404 chief #ops :Cannot send to channel (+m)")]).await;
        }
    });
    let refused = refused.unwrap_err();
    assert_eq!((refused.code.as_deref(), refused.message.contains("(+m)")), (Some("404"), true));
    assert_eq!(started.status().await.networks[0].refused, 1, "what was said after all is not counted");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_only_refuses_the_second_try_is_guessed_and_where_the_mode_is_seen_there_is_no_first() {
    let wire = Wire::plain().await;
    let (started, mut line) = on(&wire, "").await;
    let outlet = started.outlet();
    let (receipt, ()) = tokio::join!(outlet.deliver(say("#ops", RED)), async {
        line.hears(&format!("PRIVMSG #ops :{RED}")).await;
        line.says(&[":s 408 chief #ops :You cannot use colors on this channel"]).await;
        line.hears(&format!("PRIVMSG #ops :{PLAIN}")).await;
    });
    assert_eq!(receipt.map(|receipt| receipt.proof), Ok(Proof::Guessed));
    line.says(&[":alice!a@h MODE #ops +c"]).await;
    assert!(line.answers("seen").await.1);
    let (receipt, ()) = tokio::join!(outlet.deliver(say("#ops", RED)), async {
        assert_eq!(line.hears("PRIVMSG").await, format!("PRIVMSG #ops :{PLAIN}"));
    });
    assert_eq!(receipt.map(|receipt| receipt.proof), Ok(Proof::Guessed));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_colours_are_left_out_no_secret_comes_to_light_and_binds_of_kind_out_see_what_has_left() {
    let (to, mut left) = mpsc::channel(100);
    let tell = move |ev: Event| {
        let _ = to.try_send(ev.text().to_owned());
        async { Ok::<_, HandlerError>(Outcome::Nothing) }
    };
    let wire = Wire::plain().await;
    let bot = Bot::builder().network("story", wire.settings()).bind(Kind::Out, "-|-", "* sent", tell).unwrap();
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "CHANMODES=b,k,l,cimnpst").await;
    line.says(&[":alice!a@h MODE #ops +c"]).await;
    assert!(line.answers("seen").await.1);
    // With a bold letter in its middle it looks like none.
    let words = "it is ghp_0123456789\u{2}abcdefghijABCDEFGHIJ012345";
    started.outlet().perform(say("#ops", words)).await.unwrap();
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :it is ***");
    let said = async {
        loop {
            let text = left.recv().await.unwrap();
            if text.starts_with("PRIVMSG") {
                return text;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, said).await.unwrap(), "PRIVMSG #ops :it is ***");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_inspircd_colours_are_left_out_where_a_channel_blocks_or_strips_them() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.sends("MODE #ops +c");
    let is_set = |mode: &'static str| {
        move |line: &super::person::Heard| line.command == "MODE" && line.params.iter().any(|param| param == mode)
    };
    alice.waits(is_set("+c")).await;
    let started = bot_on(&lab, "#ops").start().await.unwrap();
    joined(&started, "#ops").await;
    let network = started.network("lab").unwrap();
    let seen = |letter| network.channel("#ops").is_some_and(|(_, modes)| modes.contains(letter));
    // Each with whether the bot sees +c and +S then; it was not told of the first.
    for (mode, blocks, strips) in
        [("", false, false), ("-c+S", false, true), ("-S+c", true, false), ("-c", false, false)]
    {
        if !mode.is_empty() {
            alice.sends(&format!("MODE #ops {mode}"));
            alice.waits(is_set(mode)).await;
        }
        let start = std::time::Instant::now();
        while (seen('c'), seen('S')) != (blocks, strips) {
            assert!(start.elapsed() < PATIENCE, "the bot does not see {mode}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let receipt = started.outlet().deliver(say("#ops", RED)).await;
        assert_eq!(receipt.map(|receipt| receipt.proof), Ok(Proof::Echoed), "{mode}");
        let heard = alice.hears("chief", "since 12:00").await;
        assert_eq!(heard, if mode == "-c" { RED } else { PLAIN }, "{mode}");
    }
    assert_eq!(alice.all_from("chief").len(), 4, "nothing twice");
    assert_eq!(started.status().await.networks[0].refused, 0);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_inspircd_long_words_for_the_operators_of_a_channel_arrive_whole() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let started = bot_on(&lab, "#ops").start().await.unwrap();
    joined(&started, "#ops").await;
    for target in ["@#ops", "@+#ops"] {
        let (heard, long) = (alice.all_from("chief").len(), format!("{}€", "x".repeat(1200)));
        let receipt = started.outlet().deliver(say(target, &long)).await;
        assert_eq!(receipt.map(|receipt| receipt.proof), Ok(Proof::Echoed));
        alice.hears("chief", "€").await;
        assert_eq!(alice.all_from("chief")[heard..].concat(), long, "{target}");
    }
    started.stop("").await;
}
