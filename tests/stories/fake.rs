//! Stories on a network in memory, on a clock that costs no time.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, NETWORK, Rules, TestBot};
use masterchief::contract::{BindOptions, Cooldown, Event, HandlerError, Kind, Outcome, user_error};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_fault_is_a_name_in_the_channel_and_words_for_the_person_are_words() {
    let bot = Bot::builder()
        .bind(Kind::Pub, "-|-", "!fault", |_: Event| async {
            Err::<(), _>(HandlerError::internal("the password is hunter2"))
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!panic", |ev: Event| async move {
            assert!(ev.text().is_empty() && ev.nick().is_empty(), "a handler may be wrong");
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!sorry", |_: Event| async { Err::<(), _>(user_error("there is no such app")) })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says(CHANNEL, "!fault").await;
    let said = test.expect(CHANNEL, "error e-").await;
    assert_eq!(said.len(), "error e-7F3K".len());
    test.user("alice").says(CHANNEL, "!panic").await;
    test.expect(CHANNEL, "error e-").await;
    test.user("alice").says(CHANNEL, "!sorry").await;
    test.expect(CHANNEL, "alice: there is no such app").await;
    assert!(!test.transcript().iter().any(|line| line.contains("hunter2")));
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_given_up_and_the_others_answer_meanwhile() {
    let slow = BindOptions { timeout: Some(20 * SECOND), ..BindOptions::default() };
    let bot = Bot::builder()
        .bind_with(Kind::Pub, "-|-", "!slow", slow, |_: Event| async {
            tokio::time::sleep(60 * SECOND).await;
            "never"
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!quick", |_: Event| async { "here" })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says(CHANNEL, "!slow").await;
    test.user("alice").says(CHANNEL, "!quick").await;
    test.expect(CHANNEL, "here").await;
    test.advance(21 * SECOND).await;
    test.expect(CHANNEL, "alice: !slow: gave up after 20 s").await;
    test.expect_silence(CHANNEL, 60 * SECOND).await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cooldown_is_told_and_a_pass_goes_to_the_bind_before() {
    let cool =
        BindOptions { cooldown: Cooldown { user: Some(10 * SECOND), ..Cooldown::default() }, ..BindOptions::default() };
    let bot = Bot::builder()
        .bind(Kind::Pub, "-|-", "!x", |_: Event| async { "the older" })
        .unwrap()
        .bind_with(Kind::Pub, "-|-", "!x", cool, |ev: Event| async move {
            if ev.text() == "pass" { Outcome::Pass } else { Outcome::Reply(vec!["the newer".to_owned()]) }
        })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says(CHANNEL, "!x pass").await;
    test.expect(CHANNEL, "the older").await;
    test.user("bob").says(CHANNEL, "!x").await;
    test.expect(CHANNEL, "the newer").await;
    test.user("bob").says(CHANNEL, "!x").await;
    test.expect(CHANNEL, "bob: !x: try again in 10 s").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_rawt_hides_the_line_from_everybody_else() {
    let bot = Bot::builder()
        .bind(Kind::Rawt, "-|-", "PRIVMSG", |ev: Event| async move {
            if ev.text().contains("secret") { Outcome::Stop } else { Outcome::Nothing }
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!say", |ev: Event| async move { format!("said {}", ev.text()) })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("alice").says(CHANNEL, "!say secret").await;
    test.expect_silence(CHANNEL, SECOND).await;
    test.user("alice").says(CHANNEL, "!say hello").await;
    test.expect(CHANNEL, "said hello").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn joins_kicks_modes_nicks_topics_and_quits_reach_their_binds() {
    let mut bot = Bot::builder();
    for (kind, mask) in [
        (Kind::Join, "* alice!*@*"),
        (Kind::Part, "#ops *"),
        (Kind::Sign, "* *"),
        (Kind::Kick, "#ops bob *"),
        (Kind::Mode, "#ops +o"),
        (Kind::Nick, "* Alicia"),
        (Kind::Topc, "#ops *deploy*"),
    ] {
        bot = bot
            .bind(kind, "-|-", mask, |ev: Event| async move {
                let fields: Vec<String> =
                    ev.fields.iter().map(|(_, value)| value.as_str().unwrap_or("?").to_owned()).collect();
                ev.say(format!("{} {} [{}] {}", ev.kind(), ev.nick(), fields.join(","), ev.text()))
                    .await
                    .map_err(HandlerError::internal)
            })
            .unwrap();
    }
    let test = TestBot::start(bot).await.unwrap();
    let net = test.net();
    test.user("alice").joins(CHANNEL).await;
    test.expect(CHANNEL, "join alice [] ").await;
    test.user("bob").joins(CHANNEL).await;
    net.from_person("alice", "MODE #ops +ov-o bob bob bob").await;
    test.expect(CHANNEL, "mode alice [+o,bob]").await;
    net.from_person("alice", "TOPIC #ops :no deploys today").await;
    test.expect(CHANNEL, "topc alice [] no deploys today").await;
    net.from_person("alice", "KICK #ops bob :out").await;
    test.expect(CHANNEL, "kick alice [bob] out").await;
    net.from_person("alice", "NICK Alicia").await;
    test.expect(CHANNEL, "nick alice [Alicia]").await;
    test.user("carol").joins(CHANNEL).await;
    net.parts("carol", CHANNEL, "bye").await;
    test.expect(CHANNEL, "part carol [] bye").await;
    test.user("dave").joins(CHANNEL).await;
    net.quits("dave", "gone").await;
    test.expect(CHANNEL, "sign dave [] gone").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_and_schedules_go_on_meanwhile() {
    let bot = Bot::builder()
        .bind(Kind::Cron, "-|-", "*/5 * * * *", |ev: Event| async move {
            let say = masterchief::contract::Action::Say {
                network: NETWORK.to_owned(),
                target: CHANNEL.to_owned(),
                text: format!("it is {}", ev.at.format("%H:%M")),
                how: masterchief::contract::How::Say,
                reply: false,
            };
            ev.perform(say).await.map_err(HandlerError::internal)
        })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.advance(301 * SECOND).await;
    test.expect(CHANNEL, "it is 12:05").await;
    test.net().refuse(true);
    test.net().cut();
    test.advance(300 * SECOND).await;
    test.net().refuse(false);
    test.advance(150 * SECOND).await;
    // What was said while the network was away waited for it.
    test.expect(CHANNEL, "it is 12:10").await;
    assert!(test.net().connections() >= 2);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_lines_leave_at_the_servers_pace_in_order_and_a_ping_is_answered_at_once() {
    const LINES: usize = 10_000;
    let lines = |_: Event| async { (0..LINES).map(|n| format!("line {n}")).collect::<Vec<_>>() };
    let patient = Rules { timeout: 30_000 * SECOND, ..Rules::default() };
    let bot = Bot::builder().rules(patient).bind(Kind::Pub, "-|-", "!flood", lines).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let mut slow = masterchief::irc::Settings::new(vec!["irc.fake.test".parse().unwrap()]);
    slow.tls = masterchief::irc::Tls::off();
    slow.channels = vec![masterchief::irc::Channel { name: CHANNEL.to_owned(), key: None }];
    slow.pace = masterchief::irc::PaceSettings { burst: 5, interval: 2 * SECOND };
    test.started().network(NETWORK).unwrap().reconfigure(slow);
    test.user("alice").says(CHANNEL, "!flood").await;
    tokio::time::sleep(SECOND).await;
    let before = test.said();
    assert!((4..=5).contains(&before), "{before} lines left at once");
    test.advance(1000 * SECOND).await;
    let after = test.said() - before;
    // The bot's own PINGs, one a minute, are lines too.
    assert!((480..=500).contains(&after), "{after} lines left in 1,000 s");
    let pongs = test.net().pongs();
    test.net().raw("PING :are-you-there").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(test.net().pongs(), pongs + 1, "the PONG waited behind words");
    test.advance(20_000 * SECOND).await;
    let said: Vec<String> = test.transcript();
    let expected: Vec<String> = (0..LINES).map(|n| format!("PRIVMSG {CHANNEL} line {n}")).collect();
    assert_eq!(said, expected);
    assert_eq!(test.net().connections(), 1);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn help_shows_what_this_person_may_run_here() {
    let described = |help: &str| BindOptions {
        help: Some(help.to_owned()),
        usage: Some("<app>".to_owned()),
        ..BindOptions::default()
    };
    let bot = Bot::builder()
        .bind_with(Kind::Pub, "D|-", "!deploy", described("Deploys an app"), |_: Event| async {})
        .unwrap()
        .bind(Kind::Pub, "-|-", "!hello", |_: Event| async {})
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("mallory").says(CHANNEL, "!help").await;
    test.expect(CHANNEL, "Commands for you here: !hello !help").await;
    test.user("mallory").says(CHANNEL, "!help deploy").await;
    test.expect(CHANNEL, "There is no deploy for you here").await;
    test.user("alice").with_flags("D").says(CHANNEL, "!help deploy").await;
    test.expect(CHANNEL, "!deploy <app> - Deploys an app").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ctcp_is_answered_in_private_and_not_in_a_flood() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    test.user("alice").says("chief", "\u{1}PING 12345\u{1}").await;
    test.expect("alice", "\u{1}PING 12345\u{1}").await;
    test.user("alice").says("chief", "\u{1}VERSION\u{1}").await;
    test.expect("alice", "\u{1}VERSION masterchief").await;
    for (asked, answer) in [
        ("TIME", "Mon, 2 Mar 2026 12:00:"),
        ("SOURCE", concat!(env!("CARGO_PKG_REPOSITORY"), "\u{1}")),
        ("CLIENTINFO", "ACTION CLIENTINFO PING SOURCE TIME VERSION\u{1}"),
    ] {
        test.user("alice").says("chief", &format!("\u{1}{asked}\u{1}")).await;
        test.expect("alice", &format!("\u{1}{asked} {answer}")).await;
    }
    test.user("alice").says("chief", "\u{1}NOSUCH\u{1}").await;
    for _ in 0..50 {
        test.user("mallory").says("chief", "\u{1}VERSION\u{1}").await;
    }
    tokio::time::sleep(SECOND).await;
    let answers = test.transcript().iter().filter(|line| line.starts_with("NOTICE mallory")).count();
    assert!(answers <= 10, "{answers} answers to 50 queries");
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_reloads_a_script_by_word_and_hears_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("v.lua");
    let answer = |text: &str| format!("bot.bind('pub', '-|-', '!v', function() return '{text}' end)");
    std::fs::write(&script, answer("one")).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    std::fs::write(&script, answer("two")).unwrap();
    test.user("mallory").says(CHANNEL, "!reload").await;
    test.expect("mallory", "!reload needs the flags n|-").await;
    test.user("mallory").says(CHANNEL, "!v").await;
    test.expect(CHANNEL, "one").await;
    let owner = test.user("olga").with_flags("n");
    owner.says(CHANNEL, "!reload v").await;
    test.expect(CHANNEL, "loaded v.lua").await;
    owner.says(CHANNEL, "!v").await;
    test.expect(CHANNEL, "two").await;
    std::fs::write(&script, "bot.bind('pub', '-|-', '!v'").unwrap();
    owner.says("chief", "!reload").await;
    test.expect("olga", "v.lua:1:").await;
    owner.says(CHANNEL, "!reload nothing").await;
    test.expect(CHANNEL, "olga: there is no script nothing.lua").await;
    owner.says(CHANNEL, "!v").await;
    test.expect(CHANNEL, "two").await;
    test.stop().await;
}
