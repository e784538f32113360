//! Words with a dot before them: a command, or nothing that anybody hears; and `.me` acts where it is typed.

use masterchief::bot::{Bot, NETWORK, TestBot};
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;

use super::partyline::{PASSWORD, Typist, knows};
use super::person::Person;

/// A bot in #ops of a network, whose partyline listens; alice may speak in that channel too.
async fn started() -> (TestBot, std::net::SocketAddr) {
    let inside = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    let builder = Bot::builder().bind(Kind::Pub, "-|-", ".shipped", |_: Event| async { "three today" }).unwrap();
    let test = TestBot::start(builder.partyline(inside)).await.unwrap();
    for (handle, flags) in [("alice", "mop"), ("bob", "p"), ("carl", "p")] {
        knows(&test.started(), handle, flags).await;
    }
    let at = test.started().partyline_at().0.unwrap();
    (test, at)
}

async fn client(at: std::net::SocketAddr, nick: &str, places: &[&str]) -> Person {
    let mut person = Person::logs_in(at.port(), nick, &format!("{nick}:{PASSWORD}")).await;
    for place in places {
        person.joins(place).await;
    }
    person
}

#[tokio::test]
async fn a_mistyped_command_is_told_to_who_typed_it_and_to_nobody_else() {
    let (test, at) = started().await;
    let watched = format!("#ops@{NETWORK}");
    let mut alice = client(at, "alice", &["#partyline", "#1", &watched]).await;
    let carl = client(at, "carl", &["#partyline", "#1"]).await;
    let mut bob = Typist::logs_in(at, "bob").await;
    let typed = [".chpasss alice newpw", ".ch alice newpw", ".+userr newpw", ".CHPASSS newpw"];
    for place in ["#partyline", "#1", "#ops", &watched] {
        for line in typed {
            alice.says(place, line);
            let told = alice.waits(|heard| heard.command == "404" && heard.params.iter().any(|at| at == place)).await;
            let words = told.params.last().unwrap();
            assert!(words.contains("Nobody has heard it") && !words.contains("newpw"), "{words}");
        }
    }
    // What only looks like one is said.
    for line in ["...", ".5 of them", ". what", "..who", "so .who", " .net is not it"] {
        alice.says("#partyline", line);
        let heard = bob.reads(&format!("<alice> {line}\r\n")).await;
        assert!(!heard.contains("newpw"), "{heard}");
    }
    alice.says(&watched, "... and that is all");
    test.expect("#ops", "<alice> ... and that is all").await;
    // In #ops people speak to the bot, and it may listen to words with a dot.
    alice.says("#ops", ".shipped");
    alice.hears("chief", "three today").await;
    assert!(bob.reads("three today").await.contains("<alice> .shipped"));
    assert!(carl.all_from("alice").iter().all(|line| !line.contains("newpw")), "{:?}", carl.all_from("alice"));
    let rows = test.started().audit_recent(100).await.unwrap();
    assert!(rows.iter().all(|row| !row.detail.contains("newpw")), "{rows:#?}");
    test.stop().await;
}

#[tokio::test]
async fn me_acts_where_it_is_typed() {
    let (test, at) = started().await;
    let watched = format!("#ops@{NETWORK}");
    let alice = client(at, "alice", &["#partyline", "#1", &watched]).await;
    let mut carl = client(at, "carl", &["#partyline", "#1"]).await;
    for (to, place) in [("#1", "#1"), ("#ops", "#ops"), ("#partyline", "#partyline"), ("chief", "#partyline")] {
        alice.says(to, ".me waves");
        let heard = carl.waits(|line| line.from == "alice" && line.command == "PRIVMSG").await;
        assert_eq!(heard.params, [place, "\u{1}ACTION waves\u{1}"], "typed to {to}");
    }
    alice.says(&watched, ".me nods");
    test.expect("#ops", "* alice nods").await;
    test.stop().await;
}
