//! Two people are two people: whoever asks, agrees and says yes is held by what they are known by, not by a name they can change.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::pipelines::{RunState, Settings};

use super::acted::Acted;

const SHOP: &str = "app: shop\npolicy:\n  environments:\n    prod: {confirm: never, approvals: {count: 1}}\n    dev: {confirm: always}\nstages:\n  rollout: {acted: {takes: 5s}}\n";
const SECOND: Duration = Duration::from_secs(1);

async fn started() -> TestBot {
    let test = TestBot::start(Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()));
    let test = test.await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap();
    for nick in ["ana", "lee", "raj"] {
        test.user(nick).with_flags("+mD");
        test.net().joins(nick, CHANNEL).await;
    }
    test.advance(SECOND).await;
    test
}

#[tokio::test(start_paused = true)]
async fn whom_pipelines_and_groups_name_is_known_to_the_bot_with_a_record_or_without() {
    let groups = std::collections::BTreeMap::from([("payments".to_owned(), vec!["Ana".to_owned()])]);
    let settings = Settings { groups, ..Settings::default() };
    let test = TestBot::start(Bot::builder().executor("acted", Acted::default()).pipelines(settings)).await.unwrap();
    let named = || {
        let mut all: Vec<String> = test.started().book().named().iter().cloned().collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(named(), "ana");
    let shop = "app: shop\npolicy:\n  environments:\n    prod: {confirm: never, approvals: {count: 1, from: [lee, \"@oncall\"]}, emergency: {count: 1, from: [raj]}}\nstages:\n  check: {approve: {count: 1, from: [mia]}}\n  rollout: {acted: {takes: 5s}}\n";
    test.started().put_pipeline("shop", shop).await.unwrap();
    assert_eq!(named(), "ana lee mia raj", "a role is nobody's name");
    // Nobody takes such a handle by themselves: whoever has it approves.
    test.user("mallory").with_flags("+p").says("chief", ".handle ana").await;
    test.expect("mallory", "pipelines name ana, so only who has the flag m gives that handle").await;
    assert!(test.started().book().get("ana").is_none());
    test.user("mallory").says("chief", ".handle mal").await;
    test.expect("mallory", "mal").await;
    test.user("max").with_flags("+m").says("chief", ".chhandle mal Ana").await;
    test.expect("max", "mal is Ana now").await;
    test.stop().await;
}

/// A run that waits for somebody else; its code.
async fn asks(test: &TestBot, number: u32) -> String {
    test.user("ana").says(CHANNEL, "!deploy shop to prod").await;
    let line = test.expect(CHANNEL, "needs 1 approval").await;
    let code = line.split(&format!("!approve {number} ")).nth(1).unwrap().split(' ').next().unwrap();
    test.advance(SECOND).await;
    code.to_owned()
}

#[tokio::test(start_paused = true)]
async fn who_renames_themselves_agrees_to_nothing_they_asked_for() {
    let test = started().await;
    let code = asks(&test, 1).await;
    test.user("ana").says("chief", ".chhandle ana other").await;
    test.expect("ana", "ana is other now").await;
    test.user("ana").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "the one who asked cannot approve 1").await;
    // Another account in the same record is the same person.
    test.user("ana").says("chief", ".+host other test/ana2").await;
    test.expect("ana", "other is known by test/ana2 too").await;
    test.user("ana2").logged_in("ana2").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "what other is known by was changed after run 1 was asked for").await;
    // Nor does who was let into somebody else's record.
    test.user("ana").says("chief", ".+host raj test/ana3").await;
    test.expect("ana", "raj is known by test/ana3 too").await;
    test.user("ana3").logged_in("ana3").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "what raj is known by was changed after run 1 was asked for").await;
    // Somebody who was somebody else all the time does.
    test.user("lee").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] approved by lee").await;
    // What is asked for afterwards is theirs again.
    test.advance(Duration::from_secs(10)).await;
    let code = asks(&test, 2).await;
    test.user("raj").says(CHANNEL, &format!("!approve 2 {code}")).await;
    test.expect(CHANNEL, "[2] approved by raj").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_nick_that_is_a_handle_is_not_let_into_its_record() {
    let test = started().await;
    test.user("boss").with_flags("+o");
    test.net().quits("boss", "bye").await;
    test.net().person("boss", Some("mallory"), None);
    test.net().joins("boss", CHANNEL).await;
    test.advance(SECOND).await;
    test.user("ana").says("chief", ".adduser boss").await;
    test.expect("ana", "there is a boss already; .+host boss NETWORK/ACCOUNT lets an account in there").await;
    assert_eq!(test.started().book().get("boss").unwrap().accounts, [("test".to_owned(), "boss".to_owned())]);
    test.user("ana").says("chief", ".adduser boss mallory").await;
    test.expect("ana", "mallory is known as test/mallory").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_yes_stands_still_while_a_netsplit_has_who_asked() {
    let test = started().await;
    let state = async |number: i64| test.started().pipelines().run(number).await.unwrap().unwrap().0.state;
    test.user("ana").says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "!yes 1").await;
    test.advance(60 * SECOND).await;
    test.net().from_person("ana", "QUIT :hub.test leaf.test").await;
    test.expect(CHANNEL, "[1] ana was lost in a netsplit: the time for a yes stands still").await;
    // Much longer than there was.
    test.advance(300 * SECOND).await;
    assert_eq!(state(1).await, RunState::AwaitingConfirm);
    // Whoever has the nick meanwhile neither says it nor calls it off.
    test.net().person("ana", None, None);
    test.net().from_person("ana", &format!("JOIN {CHANNEL} * :x")).await;
    test.user("ana").says(CHANNEL, "!yes 1").await;
    test.expect(CHANNEL, "only ana can say yes to run 1").await;
    test.net().from_person("ana", "NICK nobody").await;
    test.advance(SECOND).await;
    assert_eq!(state(1).await, RunState::AwaitingConfirm);
    // She is back under another nick, and logs in.
    test.net().person("ana_", None, None);
    test.net().from_person("ana_", &format!("JOIN {CHANNEL} * :x")).await;
    test.net().person("ana_", Some("ana"), None);
    test.net().from_person("ana_", "ACCOUNT ana").await;
    test.expect(CHANNEL, "[1] ana_ is back, with").await;
    test.user("ana_").says(CHANNEL, "!yes 1").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started by ana").await;
    test.advance(30 * SECOND).await;

    // What was left goes on, and no more.
    test.user("ana_").says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "!yes 2").await;
    test.advance(90 * SECOND).await;
    test.net().from_person("ana_", "QUIT :hub.test leaf.test").await;
    test.expect(CHANNEL, "[2] ana_ was lost").await;
    test.advance(60 * SECOND).await;
    test.net().from_person("ana_", &format!("JOIN {CHANNEL} ana :x")).await;
    test.expect(CHANNEL, "[2] ana_ is back").await;
    test.advance(20 * SECOND).await;
    assert_eq!(state(2).await, RunState::AwaitingConfirm);
    test.advance(15 * SECOND).await;
    assert_eq!(state(2).await, RunState::Expired);

    // Who never comes back holds nothing up for ever.
    test.user("ana_").says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "!yes 3").await;
    test.net().from_person("ana_", "QUIT :hub.test leaf.test").await;
    test.advance(601 * SECOND).await;
    test.expect(CHANNEL, "[3] shop the newest -> dev is off: ana_ left before saying yes").await;
    assert_eq!(state(3).await, RunState::Expired);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_whose_command_is_taken_back_waits_for_no_yes() {
    let test = started().await;
    test.user("ana").says(CHANNEL, "!deploy shop to dev").await;
    let id = test.net().last_id();
    test.expect(CHANNEL, "!yes 1").await;
    test.net().from_person("lee", &format!("REDACT {CHANNEL} fake1 :something else")).await;
    test.expect_silence(CHANNEL, 5 * SECOND).await;
    test.net().from_person("ana", &format!("REDACT {CHANNEL} {id} :the wrong one")).await;
    test.expect(CHANNEL, "[1] shop the newest -> dev is off: ana's words were taken back before anybody said yes.")
        .await;
    test.user("ana").says(CHANNEL, "!yes 1").await;
    test.expect(CHANNEL, "ana: ").await;
    assert_eq!(test.started().pipelines().run(1).await.unwrap().unwrap().0.state, RunState::Expired);
    test.stop().await;
}
