//! What goes wrong on a network, and how the bot comes back.

use std::time::{Duration, Instant};

use masterchief::contract::{Action, Event, How, Kind};

use crate::lab::Lab;
use crate::person::{PATIENCE, Person};
use crate::real::{bot_on, hello, joined, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_started_again_finds_the_bot_back_in_its_channel_once() {
    let mut lab = Lab::start();
    let started = hello(bot_on(&lab, "#ops")).start().await.unwrap();
    joined(&started, "#ops").await;
    lab.kill_ircd();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!started.status().await.networks[0].connected);
    lab.start_ircd();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    joined(&started, "#ops").await;
    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    assert!(alice.count(|line| line.command == "JOIN" && line.from == "chief") <= 1);
    assert_eq!(alice.all_from("chief"), ["hi alice"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_without_a_word_is_left_and_found_again() {
    let lab = Lab::start();
    let started = hello(bot_on(&lab, "#ops")).start().await.unwrap();
    joined(&started, "#ops").await;
    lab.freeze(true);
    let start = Instant::now();
    while started.status().await.networks[0].connected {
        assert!(start.elapsed() < PATIENCE, "the silence is not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lab.freeze(false);
    joined(&started, "#ops").await;
    let trouble = started.status().await.networks[0].connections;
    assert!(trouble >= 2);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nick_in_use_is_worked_around_and_taken_back_when_it_is_free() {
    let lab = Lab::start();
    let mut thief = Person::connect(lab.plain, "chief").await;
    thief.joins("#ops").await;
    let mut with_alternative = settings(&lab, "#ops");
    with_alternative.alt_nicks = vec!["chief2".to_owned()];
    let started = masterchief::bot::Bot::builder().network("lab", with_alternative).start().await.unwrap();
    thief.sees_join("chief2", "#ops").await;
    let mut watcher = Person::connect(lab.plain, "watcher").await;
    watcher.joins("#ops").await;
    thief.quits();
    watcher.waits(|line| line.command == "NICK" && line.from == "chief2" && line.params == ["chief"]).await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kicked_bot_comes_back_and_says_what_it_had_to_say() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let started = bot_on(&lab, "#ops").start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.sends("KICK #ops chief :out");
    alice.waits(|line| line.command == "KICK").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let outlet = started.outlet();
    let say = Action::Say {
        network: "lab".to_owned(),
        target: "#ops".to_owned(),
        text: "still here".to_owned(),
        how: How::Say,
        reply: false,
    };
    outlet.perform(say).await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.hears("chief", "still here").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_may_not_be_spoken_in_is_counted_and_the_bot_stays() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.sends("MODE #ops +m");
    let started = hello(bot_on(&lab, "#ops")).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.says("#ops", "!hello");
    let start = Instant::now();
    while started.status().await.networks[0].refused == 0 {
        assert!(start.elapsed() < PATIENCE, "the refused line is not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alice.sends("MODE #ops -m");
    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_servers_flood_limit_everything_is_said_in_order_and_nobody_is_cut_off() {
    const LINES: usize = 10_000;
    const HEARD: usize = 12;
    let lab = Lab::start();
    let mut slow = settings(&lab, "#ops");
    slow.servers[0] = masterchief::irc::ServerAddr::new("127.0.0.1", lab.flood);
    slow.tls = masterchief::irc::Tls::off();
    slow.pace = masterchief::irc::PaceSettings::default();
    // Its PINGs cost lines too, so it asks no more often than it does by default.
    slow.ping = masterchief::irc::PingSettings::default();
    let builder = masterchief::bot::Bot::builder()
        .network("lab", slow)
        .bind(Kind::Pub, "-|-", "!flood", |_: Event| async {
            (0..LINES).map(|n| format!("line {n}")).collect::<Vec<_>>()
        })
        .unwrap();
    let started = builder.start().await.unwrap();
    joined(&started, "#ops").await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("#ops", "!flood");
    for n in 0..HEARD {
        let wanted = format!("line {n}");
        let heard =
            alice.waits_for(Duration::from_secs(30), |line| line.from == "chief" && line.command == "PRIVMSG").await;
        assert_eq!(heard.and_then(|line| line.params.last().cloned()), Some(wanted));
    }
    let status = &started.status().await.networks[0];
    assert_eq!((status.connections, status.refused, status.dropped), (1, 0, 0));
    // The rest waits in the queue, to the last line.
    let left = LINES - HEARD;
    assert!((left - 2..=left).contains(&status.queued), "{} lines wait", status.queued);
    started.stop("").await;
}
