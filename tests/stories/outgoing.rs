//! Binds of kind `out` hear what leaves, before and after, and may drop it.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Action, Event, HandlerError, How, Kind, Outcome};
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test(start_paused = true)]
async fn a_bind_of_kind_out_drops_a_line_before_it_is_queued_and_sees_what_left() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("pub", "-|-", "!both", function(ev) return { "good", "bad" } end)
        bot.bind("out", "-|-", "* queued", function(ev) if ev.message:find("bad") then return bot.STOP end end)
        bot.bind("out", "-|-", "server sent", function(ev) bot.say("alice", "left: " .. ev.message) end)
    "##;
    std::fs::write(folder.path().join("out.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    test.user("alice").says(CHANNEL, "!both").await;
    test.expect(CHANNEL, "good").await;
    test.expect("alice", "left: PRIVMSG #ops :good").await;
    test.advance(Duration::from_secs(5)).await;
    assert_eq!(test.said(), 2, "{:#?}", test.transcript());
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bind_of_kind_out_may_take_a_quarter_of_a_second_and_a_stop_that_comes_later_is_told() {
    let (layer, lines) = masterchief::partyline::live_log();
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let filter = |ev: Event| async move {
        let takes = match ev.text() {
            text if text.ends_with(":bad") => Duration::from_millis(200),
            text if text.ends_with(":worse") => Duration::from_secs(1),
            _ => return Ok(Outcome::Nothing),
        };
        tokio::time::sleep(takes).await;
        Ok::<_, HandlerError>(Outcome::Stop)
    };
    let tell = |ev: Event| async move {
        let (network, target) = (String::new(), "carol".to_owned());
        let text = format!("logged {}", ev.text());
        let told = Action::Say { network, target, text, how: How::Say, reply: false };
        ev.perform(told).await.map_err(HandlerError::internal)
    };
    let bot = Bot::builder()
        .live_log(lines)
        .bind(Kind::Pub, "-|-", "!all", |_: Event| async {
            vec!["good".to_owned(), "bad".to_owned(), "worse".to_owned()]
        })
        .unwrap()
        .bind(Kind::Out, "-|-", "* queued", filter)
        .unwrap()
        .bind(Kind::new("log"), "-|-", "* *too late*", tell)
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says(CHANNEL, "!all").await;
    test.expect(CHANNEL, "good").await;
    test.expect(CHANNEL, "worse").await;
    let told = test.expect("carol", "A STOP came too late: the line had been let go").await;
    assert!(told.contains("bind="), "{told}");
    assert!(!test.transcript().iter().any(|line| line.ends_with("bad")), "{:#?}", test.transcript());
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_at_once_waits_once_for_binds_of_kind_out_however_long_it_is_and_however_many_they_are() {
    let slow = |_: Event| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, HandlerError>(Outcome::Nothing)
    };
    let filter = |ev: Event| async move {
        Ok::<_, HandlerError>(if ev.text().ends_with(":line 3") { Outcome::Stop } else { Outcome::Nothing })
    };
    let bot = Bot::builder()
        .bind(Kind::Pub, "-|-", "!all", |_: Event| async { (0..4).map(|n| format!("line {n}")).collect::<Vec<_>>() })
        .unwrap()
        .bind(Kind::Out, "-|-", "* queued", slow)
        .unwrap()
        .bind(Kind::Out, "-|-", "* queued", filter)
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let begun = tokio::time::Instant::now();
    test.user("alice").says(CHANNEL, "!all").await;
    test.expect(CHANNEL, "line 0").await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    test.advance(Duration::from_secs(30)).await;
    // Who is quick is heard, whoever is slow beside it.
    let said: Vec<String> =
        test.transcript().into_iter().filter(|line| line.contains(":line") || line.contains(" line")).collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn however_much_is_said_at_once_binds_of_kind_out_are_asked_about_each_line_of_it() {
    let filter = |_: Event| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, HandlerError>(Outcome::Stop)
    };
    let bot = Bot::builder()
        .bind(Kind::Msg, "-|-", "!all", |_: Event| async { (0..1000).map(|n| format!("line {n}")).collect::<Vec<_>>() })
        .unwrap()
        .bind(Kind::Out, "-|-", "* queued", filter)
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says("chief", "!all").await;
    test.advance(Duration::from_secs(3600)).await;
    assert_eq!(test.said(), 0, "{:#?}", test.transcript());
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn commands_are_heard_by_binds_of_kind_out_too_and_who_waits_hears_what_one_drops() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("pub", "-|-", "!do", function(ev)
          bot.raw("MODE", ev.chan, "+v", "alice")
          local ok, why = pcall(bot.raw, "TOPIC", ev.chan, "a bad topic")
          bot.say("carol", `topic {ok} {why}`)
          local said, because = pcall(function() return ev:say("a bad word", { wait = true }) end)
          bot.say("carol", `word {said} {because}`)
          bot.raw("PRIVMSG", ev.chan, "raw words")
        end)
        bot.bind("out", "-|-", "* queued", function(ev) if ev.message:find(":a bad") then return bot.STOP end end)
        bot.bind("out", "-|-", "* sent", function(ev)
          bot.raw("WHOIS", "bob")
          bot.raw("PRIVMSG", "bob", "left: " .. ev.message)
        end)
    "##;
    std::fs::write(folder.path().join("out.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    let alice = test.user("alice").with_flags("o");
    alice.says(CHANNEL, "!do").await;
    test.expect("carol", "topic false").await;
    let told = test.expect("carol", "word false").await;
    assert!(told.contains("dropped by a bind of kind out, out.lua:"), "{told}");
    test.expect("bob", "left: MODE #ops +v alice").await;
    test.expect("bob", "left: PRIVMSG #ops :raw words").await;
    test.advance(Duration::from_secs(5)).await;
    let lines = test.transcript();
    assert!(!lines.iter().any(|line| line.contains("left: PRIVMSG bob") || line.contains("left: WHOIS")), "{lines:#?}");
    // What was only a command before is words on account, with its cause.
    alice.says(CHANNEL, "!why 2").await;
    let dropped = test.expect(CHANNEL, ": a bad word").await;
    assert!(dropped.contains(", failed, dropped by a bind of kind out, out.lua:"), "{dropped}");
    assert!(test.expect(CHANNEL, "because of").await.contains("pub !do"));
    alice.says(CHANNEL, "!why").await;
    test.expect(CHANNEL, ": raw words").await;
    assert!(test.expect(CHANNEL, "because of").await.contains("pub !do"));
    test.stop().await;
}
