//! Floods: who says too much is not listened to for a while, and who may say so.

use std::time::Duration;

use masterchief::bot::{Bot, Builder, CHANNEL, NETWORK, Rules, TestBot};
use masterchief::contract::{Action, Event, How, Kind, Outcome};
use masterchief::dispatch::{ChannelRates, Deed, FloodSettings, Rate};

const MINUTE: Duration = Duration::from_secs(60);

fn bot() -> Builder {
    Bot::builder()
        .rules(Rules { floods: Some(FloodSettings::default()), ..Rules::default() })
        .bind(Kind::Pub, "-|-", "!x", |ev: Event| async move { format!("heard {}", ev.nick()) })
        .unwrap()
}

/// How often the bot answered somebody.
fn answers(test: &TestBot, nick: &str) -> usize {
    test.transcript().iter().filter(|line| line.ends_with(&format!("heard {nick}"))).count()
}

async fn floods(test: &TestBot, nick: &str, lines: usize) {
    for _ in 0..lines {
        test.user(nick).says(CHANNEL, "!x").await;
    }
    test.advance(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn who_floods_is_not_heard_for_a_quarter_of_an_hour_and_the_others_are() {
    let test = TestBot::start(bot()).await.unwrap();
    floods(&test, "mallory", 40).await;
    floods(&test, "alice", 3).await;
    assert_eq!((answers(&test, "mallory"), answers(&test, "alice")), (15, 3));
    test.advance(14 * MINUTE).await;
    floods(&test, "mallory", 1).await;
    assert_eq!(answers(&test, "mallory"), 15);
    test.advance(2 * MINUTE).await;
    floods(&test, "mallory", 1).await;
    assert_eq!(answers(&test, "mallory"), 16);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_who_take_turns_are_both_stopped_and_a_friend_is_not() {
    let test = TestBot::start(bot()).await.unwrap();
    test.user("fay").with_flags("+f");
    for _ in 0..30 {
        for nick in ["mallory", "oscar", "fay"] {
            test.user(nick).says(CHANNEL, "!x").await;
        }
    }
    test.advance(Duration::from_secs(1)).await;
    assert_eq!((answers(&test, "mallory"), answers(&test, "oscar")), (15, 15));
    // The channel as a whole had enough for a while, but nobody blames her.
    test.advance(2 * MINUTE).await;
    let before = answers(&test, "fay");
    floods(&test, "fay", 20).await;
    assert_eq!(answers(&test, "fay"), before + 20);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_hears_of_a_flood_and_may_have_mercy() {
    let bot = bot()
        .bind(Kind::Flud, "-|-", "pub", |ev: Event| async move {
            let (network, target) = (NETWORK.to_owned(), "#log".to_owned());
            let text = format!("{} floods {} by {}", ev.nick(), ev.chan().unwrap_or("?"), ev.field_str("type"));
            let say = Action::Say { network, target, text, how: How::Say, reply: false };
            ev.perform(say).await.map_err(masterchief::contract::HandlerError::internal)?;
            let mercy = if ev.nick() == "mo" { Outcome::Stop } else { Outcome::Nothing };
            Ok::<_, masterchief::contract::HandlerError>(mercy)
        })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    floods(&test, "mallory", 20).await;
    floods(&test, "mo", 20).await;
    assert_eq!((answers(&test, "mallory"), answers(&test, "mo")), (15, 20));
    test.expect("#log", "mallory floods #ops by pub").await;
    test.expect("#log", "mo floods #ops by pub").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_may_be_busier_than_the_others_and_who_kicks_many_is_only_told_of() {
    let mut settings = FloodSettings::default();
    let busy = ChannelRates { public: Some(Rate { lines: 30, within: MINUTE }), ..ChannelRates::default() };
    settings.channels.insert("#OPS".to_owned(), busy);
    let tell = |ev: Event| async move {
        let text = format!("{} {}", ev.nick(), ev.field_str("type"));
        let say =
            Action::Say { network: NETWORK.to_owned(), target: "#log".to_owned(), text, how: How::Say, reply: false };
        ev.perform(say).await.map_err(masterchief::contract::HandlerError::internal)
    };
    let bot = bot()
        .rules(Rules { floods: Some(settings), ..Rules::default() })
        .bind(Kind::Flud, "-|-", "kick", tell)
        .unwrap()
        .bind(Kind::Kick, "-|-", "*", |ev: Event| async move {
            ev.say("kicked").await.map_err(masterchief::contract::HandlerError::internal)
        })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    floods(&test, "mallory", 40).await;
    assert_eq!(answers(&test, "mallory"), 30);
    test.user("alice").joins(CHANNEL).await;
    for n in 0..5 {
        test.user(&format!("clone{n}")).joins(CHANNEL).await;
    }
    for n in 0..5 {
        test.net().from_person("alice", &format!("KICK #ops clone{n} :out")).await;
    }
    test.expect("#log", "alice kick").await;
    test.advance(Duration::from_secs(1)).await;
    assert_eq!(test.transcript().iter().filter(|line| line.ends_with("kicked")).count(), 5, "all of them are seen");
    floods(&test, "alice", 1).await;
    assert_eq!(answers(&test, "alice"), 1, "nobody is ignored for it");
    test.stop().await;
}

#[tokio::test]
async fn a_master_says_who_is_not_heard_and_a_restart_remembers() {
    // By the real clock: a paused one does not wait for a database.
    let dir = tempfile::tempdir().unwrap();
    let answered = async |test: &TestBot, nick: &str| {
        test.user(nick).says(CHANNEL, "!x").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        answers(test, nick)
    };
    let test = TestBot::start_in(dir.path(), bot()).await.unwrap();
    test.user("may").with_flags("+m").says(CHANNEL, "!ignore mallory.test 2h spams").await;
    test.expect(CHANNEL, "Not listening to *!*@mallory.test for 2h").await;
    assert_eq!(answered(&test, "mallory").await, 0);
    test.user("may").says(CHANNEL, "!ignore * 2h").await;
    test.expect(CHANNEL, "nearly everybody").await;
    test.user("alice").says(CHANNEL, "!ignore may").await;
    assert_eq!(answered(&test, "alice").await, 1);
    test.stop().await;
    let test = TestBot::start_in(dir.path(), bot()).await.unwrap();
    assert_eq!(answered(&test, "mallory").await, 0);
    test.user("may").with_flags("+m").says(CHANNEL, "!ignores").await;
    test.expect(CHANNEL, "*!*@mallory.test for").await;
    test.user("may").says(CHANNEL, "!unignore *!*@Mallory.TEST").await;
    test.expect(CHANNEL, "Listening to *!*@Mallory.TEST again").await;
    assert_eq!(answered(&test, "mallory").await, 1);
    test.stop().await;
    let test = TestBot::start_in(dir.path(), bot()).await.unwrap();
    assert_eq!(answered(&test, "mallory").await, 1, "however it is written, it is gone from the records too");
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_is_vouched_for_is_heard_whatever_is_ignored() {
    let test = TestBot::start(bot()).await.unwrap();
    test.user("olga").with_flags("+n");
    test.user("fay").with_flags("+f");
    test.user("may").with_flags("+m").says(CHANNEL, "!ignore *!*@*.test 2h").await;
    test.expect(CHANNEL, "Not listening to").await;
    for nick in ["fay", "olga"] {
        test.user(nick).says(CHANNEL, "!x").await;
    }
    test.advance(Duration::from_secs(1)).await;
    assert_eq!((answers(&test, "fay"), answers(&test, "olga")), (0, 1));
    test.user("olga").says(CHANNEL, "!unignore *!*@*.test").await;
    test.expect(CHANNEL, "Listening to").await;
    // Logged out, she is whoever has her nick.
    test.user("olga").says(CHANNEL, "!ignore *!*@*.test 2h").await;
    test.expect(CHANNEL, "Not listening to").await;
    test.net().person("olga", None, None);
    test.net().from_person("olga", "ACCOUNT *").await;
    test.user("olga").says(CHANNEL, "!x").await;
    test.advance(Duration::from_secs(1)).await;
    assert_eq!(answers(&test, "olga"), 1);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_flooded_channel_strangers_command_nothing_and_who_looks_on_sees_it_all() {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&seen);
    let bot = bot()
        .bind(Kind::Pubm, "-|-", "*", move |_: Event| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async { Outcome::Nothing }
        })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    test.user("dora").with_flags("+d");
    for n in 0..200 {
        test.user(&format!("clone{n}")).says(CHANNEL, "!x").await;
    }
    test.user("dora").says(CHANNEL, "!x").await;
    test.advance(Duration::from_secs(1)).await;
    let answered = test.transcript().iter().filter(|line| line.contains("heard clone")).count();
    assert_eq!((answered, answers(&test, "dora")), (90, 1));
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 201);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_it_is_op_the_bot_throws_out_who_floods_if_it_is_told_to() {
    for (deed, wanted) in [
        (Deed::Ignore, &[][..]),
        (Deed::Kick, &["KICK #ops pub flood"]),
        (Deed::Ban, &["MODE #ops *!*@", "KICK #ops banned: pub flood"]),
    ] {
        let rates = ChannelRates { deed: Some(deed), ..ChannelRates::default() };
        let channels = [(CHANNEL.to_owned(), rates)].into();
        let floods_of = FloodSettings { channels, ..FloodSettings::default() };
        let test = TestBot::start(bot().rules(Rules { floods: Some(floods_of), ..Rules::default() })).await.unwrap();
        test.user("oper").joins(CHANNEL).await;
        test.user("mallory").joins(CHANNEL).await;
        test.net().from_person("oper", &format!("MODE {CHANNEL} +o chief")).await;
        test.advance(Duration::from_secs(1)).await;
        floods(&test, "mallory", 20).await;
        let heard = test.net().heard();
        let deeds = heard.iter().filter(|one| matches!(one.command.as_str(), "KICK" | "MODE"));
        let deeds: Vec<String> = deeds.map(|one| format!("{} {} {}", one.command, one.target, one.text)).collect();
        assert_eq!(deeds.len(), wanted.len(), "{deed:?}: {deeds:?}");
        assert!(deeds.iter().zip(wanted).all(|(deed, wanted)| deed.starts_with(wanted)), "{deed:?}: {deeds:?}");
        test.stop().await;
    }
}
