//! Channels that are closed to the bot, and what opens them: in virtual time, by a server that plays its part.

use std::time::Duration;

use masterchief::bot::{Bot, Builder, Started};
use masterchief::contract::{Action, Event, HandlerError, How, Kind};
use masterchief::irc::{Services, Settings};

use crate::wire::{Line, Memory};

const SECOND: Duration = Duration::from_secs(1);

/// A bot with these settings that says of each `need` to alice what it was.
async fn welcomed(bot: Builder, settings: Settings, isupport: &str) -> (Started, Memory, Line) {
    let tell = |ev: Event| async move {
        let text = format!("{} {}", ev.chan().unwrap_or("-"), ev.field_str("type"));
        let (network, target) = (String::new(), "alice".to_owned());
        ev.perform(Action::Say { network, target, text, how: How::Say, reply: false })
            .await
            .map_err(HandlerError::internal)
    };
    let (mut memory, way) = Memory::new();
    let bot = bot.dial(way).bind(Kind::Need, "-|-", "#ops *", tell).unwrap();
    let started = bot.network("story", settings).start().await.unwrap();
    let mut line = memory.accepts().await;
    line.negotiates("").await;
    line.welcomes(isupport).await;
    (started, memory, line)
}

/// The seconds until a line begins like this, while the server answers PINGs; nothing where an hour is not enough.
async fn seconds(line: &mut Line, beginning: &str) -> Option<u64> {
    let start = tokio::time::Instant::now();
    while start.elapsed() < 3600 * SECOND {
        let Some(said) = line.within(60 * SECOND).await else { continue };
        if said.starts_with(beginning) {
            return Some(start.elapsed().as_secs());
        }
        if said.starts_with("PING") {
            line.says(&[":s PONG s :masterchief"]).await;
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn each_way_of_not_getting_in_is_told_and_tried_again_at_its_own_pace() {
    for (numeric, need, again) in [
        ("437", None, Some(6)),
        ("495", None, Some(6)),
        ("471", Some("limit"), Some(60)),
        ("473", Some("invite"), Some(120)),
        ("474", Some("unban"), Some(120)),
        ("475", Some("key"), Some(120)),
        ("477", None, Some(120)),
        ("480", None, Some(600)),
        ("489", None, Some(600)),
        ("520", None, Some(600)),
        ("403", None, None),
        ("405", None, None),
        ("407", None, None),
        ("476", None, None),
        ("479", None, None),
    ] {
        let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "").await;
        line.hears("JOIN #ops").await;
        line.says(&[&format!(":s {numeric} chief #ops :Cannot join")]).await;
        if let Some(need) = need {
            assert_eq!(line.hears("PRIVMSG alice").await, format!("PRIVMSG alice :#ops {need}"), "{numeric}");
        }
        let took = seconds(&mut line, "JOIN #ops").await;
        // Channels are looked after twice a minute.
        let good = took.zip(again).map_or(took == again, |(took, again)| (again..again + 31).contains(&took));
        assert!(good, "{numeric}: after {took:?} s instead of {again:?}");
        started.stop("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_the_way_is_gone_and_the_bot_comes_at_once() {
    for (refusal, opens, joins) in [
        (":s 477 chief #ops :Log in first (+r)", ":s 900 chief chief!c@host chief :You are logged in", "JOIN #ops"),
        (":s 473 chief #ops :Cannot join (+i)", ":alice!a@h INVITE chief #ops", "JOIN #ops"),
        (":s 471 chief #ops :Cannot join (+l)", ":alice!a@h INVITE chief #OPS", "JOIN #ops"),
    ] {
        let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "").await;
        line.hears("JOIN #ops").await;
        line.says(&[refusal, opens]).await;
        assert_eq!(seconds(&mut line, joins).await, Some(0), "{refusal}");
        started.stop("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_sent_away_more_than_once_comes_back_at_once_when_invited() {
    let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "").await;
    line.hears("JOIN #ops").await;
    for pause in [5, 20, 80] {
        line.says(&[":chief!c@h JOIN #ops", ":alice!a@h KICK #ops chief :out"]).await;
        if pause == 80 {
            line.says(&[":alice!a@h INVITE chief #ops"]).await;
            assert_eq!(seconds(&mut line, "JOIN #ops").await, Some(0));
        } else {
            assert_eq!(seconds(&mut line, "JOIN #ops").await, Some(pause));
        }
    }
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn services_are_asked_once_for_what_keeps_us_out_and_a_closed_door_is_knocked_at_once() {
    let services: Services = serde_json::from_str(r#"{"let_in": true}"#).unwrap();
    for (numeric, asked) in [
        ("471", Some("PRIVMSG ChanServ :INVITE #ops")),
        ("473", Some("PRIVMSG ChanServ :INVITE #ops")),
        ("474", Some("PRIVMSG ChanServ :UNBAN #ops")),
        ("475", Some("PRIVMSG ChanServ :GETKEY #ops")),
        ("477", None),
    ] {
        let settings = Settings { services: Some(services.clone()), ..Memory::settings() };
        let (started, _memory, mut line) = welcomed(Bot::builder(), settings, "").await;
        let refusal = format!(":s {numeric} chief #ops :Cannot join");
        line.hears("JOIN #ops").await;
        line.says(&[&refusal]).await;
        if let Some(asked) = asked {
            line.hears(asked).await;
        }
        seconds(&mut line, "JOIN #ops").await.unwrap();
        line.says(&[&refusal]).await;
        let (said, _) = line.answers("second").await;
        assert!(!said.iter().any(|line| line.starts_with("PRIVMSG ChanServ")), "{numeric}: {said:?}");
        started.stop("").await;
    }
    let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "KNOCK").await;
    line.hears("JOIN #ops").await;
    line.says(&[":s 473 chief #ops :Cannot join (+i)"]).await;
    line.hears("KNOCK #ops").await;
    seconds(&mut line, "JOIN #ops").await.unwrap();
    line.says(&[":s 473 chief #ops :Cannot join (+i)"]).await;
    let (said, _) = line.answers("second").await;
    assert!(!said.iter().any(|line| line.starts_with("KNOCK")), "{said:?}");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hears_of_a_need_can_see_to_it() {
    let key = |ev: Event| async move {
        let (network, channel) = (ev.network.to_string(), ev.chan().unwrap_or("").to_owned());
        ev.perform(Action::Join { network, channel, key: Some("sesame".to_owned()) })
            .await
            .map_err(HandlerError::internal)
    };
    let bot = Bot::builder().bind(Kind::Need, "-|-", "#ops key", key).unwrap();
    let (started, _memory, mut line) = welcomed(bot, Memory::settings(), "").await;
    line.hears("JOIN #ops").await;
    line.says(&[":s 475 chief #ops :Cannot join (+k)"]).await;
    line.hears("JOIN #ops sesame").await;
    line.says(&[":chief!c@host JOIN #ops"]).await;
    assert!(line.answers("in").await.1);
    assert_eq!(started.status().await.networks[0].channels, ["#ops"]);
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn op_is_asked_of_services_where_it_is_wanted_and_no_war_comes_of_it() {
    let settings = Settings {
        services: serde_json::from_str(r#"{"op": true}"#).unwrap(),
        operator_in: vec!["#OPS".to_owned()],
        ..Memory::settings()
    };
    let (started, _memory, mut line) = welcomed(Bot::builder(), settings, "PREFIX=(ohv)@%+").await;
    line.hears("JOIN #ops").await;
    line.says(&[":chief!c@host JOIN #ops", ":s 353 chief = #ops :@alice!a@h %chief", ":s 366 chief #ops :End"]).await;
    let both = [line.hears("PRIVMSG").await, line.hears("PRIVMSG").await];
    assert!(both.contains(&"PRIVMSG ChanServ :OP #OPS chief".to_owned()), "{both:?}");
    assert!(both.contains(&"PRIVMSG alice :#ops op".to_owned()), "{both:?}");
    line.says(&[":ChanServ!s@services MODE #ops +o chief", ":alice!a@h MODE #ops -o chief"]).await;
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG alice :#ops op", "told each time");
    // And asked again when ten minutes are over, not at once.
    let took = seconds(&mut line, "PRIVMSG ChanServ").await.unwrap();
    assert!((570..=630).contains(&took), "{took} s");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn who_is_no_operator_where_nobody_wants_it_needs_nothing_until_it_is_taken_away() {
    let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "").await;
    line.hears("JOIN #ops").await;
    line.says(&[":chief!c@host JOIN #ops", ":s 353 chief = #ops :@alice!a@h chief", ":s 366 chief #ops :End"]).await;
    let (said, _) = line.answers("in").await;
    assert!(!said.iter().any(|line| line.starts_with("PRIVMSG")), "{said:?}");
    line.says(&[":alice!a@h MODE #ops +v-v chief chief", ":alice!a@h MODE #ops +o chief"]).await;
    line.says(&[":alice!a@h MODE #ops -o chief"]).await;
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG alice :#ops op");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn a_nick_that_is_forced_on_us_is_left_and_one_that_is_refused_is_let_alone_for_a_while() {
    let (started, _memory, mut line) = welcomed(Bot::builder(), Memory::settings(), "NICKLEN=9").await;
    line.hears("JOIN #ops").await;
    line.says(&[":chief!c@host NICK 836AAAAAB"]).await;
    // No MONITOR here: it is asked for, twice a minute.
    assert!(seconds(&mut line, "ISON chief").await.unwrap() <= 30);
    line.says(&[":s 303 836AAAAAB :"]).await;
    line.hears("NICK chief").await;
    line.says(&[":s 437 836AAAAAB chief :Nick is temporarily unavailable"]).await;
    assert_eq!(line.hears("NICK").await, "NICK chief1", "an id is no nick to keep");
    line.says(&[":836AAAAAB!c@host NICK chief1"]).await;
    let start = tokio::time::Instant::now();
    loop {
        let said = line.within(60 * SECOND).await.unwrap();
        if said == "ISON chief" {
            line.says(&[":s 303 chief1 :"]).await;
        } else if said == "NICK chief" {
            break;
        }
    }
    assert!((30..=60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    line.says(&[":chief1!c@host NICK chief"]).await;
    assert!(line.answers("own").await.1);
    assert_eq!(started.network("story").unwrap().nick(), "chief");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn nicks_that_binds_name_are_watched_on_every_connection_and_so_is_our_own() {
    let tell = |ev: Event| async move {
        let online = ev.field("online").and_then(|online| online.as_bool()).unwrap_or_default();
        let (network, target) = (String::new(), "#ops".to_owned());
        let text = format!("{} {online}", ev.nick());
        ev.perform(Action::Say { network, target, text, how: How::Say, reply: false })
            .await
            .map_err(HandlerError::internal)
    };
    let mut bot = Bot::builder();
    for nick in ["bob", "carol", "b*"] {
        bot = bot.bind(Kind::Monitor, "-|-", nick, tell).unwrap();
    }
    let (started, mut memory, mut line) = welcomed(bot, Memory::settings(), "MONITOR=3").await;
    line.hears("JOIN #ops").await;
    assert_eq!(line.hears("MONITOR").await, "MONITOR + bob,carol");
    line.says(&[":chief!c@host JOIN #ops", ":s 366 chief #ops :End", ":s 730 chief :bob!b@h"]).await;
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :bob true");
    // Twice: the mask with a wildcard is met too, but names nobody.
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :bob true");
    drop(line);
    // Meanwhile somebody took our nick.
    let mut line = memory.accepts().await;
    line.negotiates("").await;
    line.says(&[":s 001 chief1 :hi", ":s 005 chief1 MONITOR=3 CHANTYPES=# :x", ":s 422 chief1 :x"]).await;
    let asked = [line.hears("MONITOR").await, line.hears("MONITOR").await];
    assert_eq!(asked, ["MONITOR + chief", "MONITOR + bob,carol"]);
    line.says(&[":s 731 chief1 :chief"]).await;
    line.hears("NICK chief").await;
    line.says(&[":chief1!c@host NICK chief"]).await;
    assert_eq!(line.hears("MONITOR").await, "MONITOR - chief");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn the_way_onto_a_network_is_told_step_by_step() {
    let tell = |ev: Event| async move {
        let (network, target) = (String::new(), "alice".to_owned());
        let text = format!("{} {}", ev.field_str("type"), ev.text());
        ev.perform(Action::Say { network, target, text, how: How::Say, reply: false })
            .await
            .map_err(HandlerError::internal)
    };
    let bot = Bot::builder().bind(Kind::Evnt, "-|-", "*-server", tell).unwrap();
    let (started, mut memory, mut line) = welcomed(bot, Memory::settings(), "").await;
    line.hears("PRIVMSG alice :connect-server memory.test:6667").await;
    line.hears("PRIVMSG alice :preinit-server memory.test:6667").await;
    line.hears("PRIVMSG alice :init-server memory.test:6667").await;
    drop(line);
    let mut line = memory.accepts().await;
    line.negotiates("").await;
    line.welcomes("").await;
    line.hears("PRIVMSG alice :disconnect-server the server closed the connection").await;
    started.stop("").await;
}
