//! What becomes of places is told where their apps are told, whichever way it was said.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::{Asker, May};

use super::acted::Acted;
use super::deploys::{builder, stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// An app that is told in #ops, and of which lee hears what becomes of its places, and kim what fails.
const SHOP: &str = r##"
app: shop
announce: { channels: ["#ops", { name: "test/lee", only: [lock] }, { name: "test/kim", only: [failed] }] }
policy:
  environments:
    dev: { confirm: never, require_flag: "-" }
    prod: { confirm: never, require_flag: D, rollback: { mode: offer, lock: true }, windows: [{ days: mon-fri, from: "08:00", to: "16:00" }] }
stages:
  rollout: { acted: { takes: 5s, undo: 5s }, rollback: undo }
"##;

/// Somebody at the machine, by a page or with a token says a word.
async fn says(test: &TestBot, who: &str, word: &str, text: &str) -> Vec<String> {
    let who = Asker { person: true, origin: "http".to_owned(), ..Asker::program(who) };
    let said = test.started().pipelines().word(word, text, (&who, &May::all())).await.unwrap();
    said.reply.public
}

fn times(test: &TestBot, line: &str) -> usize {
    test.transcript().iter().filter(|said| said.contains(line)).count()
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_told_once_in_each_place_whichever_way_it_was_made_and_broken() {
    let (test, _) = with(SHOP).await;
    test.user("raj").says(CHANNEL, "!lock shop/prod 2h replica rebuild").await;
    let line = "shop/prod locked by raj until 14:00 UTC: replica rebuild.";
    test.expect(CHANNEL, line).await;
    test.expect("lee", line).await;
    test.advance(SECOND).await;
    assert_eq!(times(&test, line), 2, "{:#?}", test.transcript());
    // Breaking it in private is as loud.
    test.user("ana").says("chief", "!unlock! shop/prod raj is asleep").await;
    let line = "shop/prod unlocked by ana (was raj's): raj is asleep";
    for target in ["ana", CHANNEL, "lee"] {
        test.expect(target, line).await;
    }
    // By a program of hers, or at the machine.
    let told = says(&test, "lee", "lock", "shop/prod 30m a migration").await;
    assert_eq!(told, ["shop/prod locked by lee until 12:30 UTC: a migration."]);
    for target in [CHANNEL, "lee"] {
        test.expect(target, &told[0]).await;
    }
    says(&test, "lee", "lock", "shop/prod +30m").await;
    test.expect("lee", "shop/prod locked by lee until 13:00 UTC").await;
    test.advance(50 * MINUTE + SECOND).await;
    test.expect(CHANNEL, "shop/prod: lee's lock ends in 10 min. Extend: !lock shop/prod +1h").await;
    test.advance(10 * MINUTE).await;
    for target in [CHANNEL, "lee"] {
        test.expect(target, "shop/prod: lee's lock is over (a migration).").await;
    }
    assert!(!test.transcript().iter().any(|line| line.contains(" kim ")), "{:#?}", test.transcript());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn freezes_their_ends_and_windows_are_told_where_the_apps_are_told() {
    let (test, _) = with(SHOP).await;
    says(&test, "lee", "freeze", "prod 1h stocktaking").await;
    test.expect(CHANNEL, "prod frozen by lee until 13:00 UTC: stocktaking.").await;
    says(&test, "lee", "thaw", "prod").await;
    test.expect(CHANNEL, "prod is open again, says lee.").await;
    says(&test, "lee", "freeze", "* 1h an audit").await;
    test.expect("lee", "everything frozen by lee").await;
    test.advance(61 * MINUTE).await;
    test.expect(CHANNEL, "The freeze of * is over (an audit).").await;
    // Monday noon it is: the window of tomorrow opens for what was booked in private.
    test.user("ana").says("chief", "!at Tue 08:00 deploy shop/v2 to prod").await;
    test.expect("ana", "booked: shop to prod at Tue 08:00 UTC").await;
    test.advance(19 * 60 * MINUTE).await;
    for target in [CHANNEL, "lee"] {
        test.expect(target, "prod window open until 16:00. Booked: shop v2 (ana).").await;
    }
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_hears_of_locks_only_hears_of_the_one_that_a_rollback_makes() {
    let (test, _) = with(SHOP).await;
    for (version, words) in [("v1", "shop v1 is live"), ("v2", "shop v2 is live")] {
        test.user("ana").says(CHANNEL, &format!("!deploy shop/{version} to prod")).await;
        test.advance(6 * SECOND).await;
        test.expect(CHANNEL, words).await;
    }
    test.user("ana").says(CHANNEL, "!rollback 2").await;
    test.advance(6 * SECOND).await;
    for target in [CHANNEL, "lee"] {
        test.expect(target, "shop/prod is now LOCKED (rolled back by ana)").await;
    }
    assert_eq!(times(&test, "is now LOCKED"), 2, "{:#?}", test.transcript());
    stop(&test).await;
}

#[tokio::test]
async fn that_a_lock_ends_soon_is_told_once_however_often_the_bot_starts() {
    let (dir, acted) = (tempfile::tempdir().unwrap(), Acted::default());
    let noon: chrono::DateTime<chrono::Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
    let minutes = chrono::Duration::minutes;
    let start = async |after: i64| {
        let test = TestBot::start_in_at(dir.path(), builder(&acted), noon + minutes(after)).await.unwrap();
        test.started().put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        test
    };
    let test = start(0).await;
    test.user("raj").with_flags("+D").says(CHANNEL, "!lock shop/prod 1h rebuild").await;
    test.expect(CHANNEL, "shop/prod locked by raj until 13:00 UTC").await;
    test.stop().await;
    // It was away at the moment for it: it tells how much is left.
    let test = start(53).await;
    test.expect(CHANNEL, "shop/prod: raj's lock ends in 7 min. Extend: !lock shop/prod +1h").await;
    test.stop().await;
    let test = start(57).await;
    test.expect_silence(CHANNEL, SECOND).await;
    test.user("raj").with_flags("+D").says(CHANNEL, "!lock shop/prod +20m").await;
    test.expect(CHANNEL, "locked by raj until 13:20 UTC").await;
    test.stop().await;
    // Its new end is another one.
    let test = start(72).await;
    test.expect(CHANNEL, "shop/prod: raj's lock ends in 8 min").await;
    test.stop().await;
}
