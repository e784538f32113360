//! How the bot behaves in a channel: nobody is called who did not ask, nothing is promised that is not so, the log tells it all.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::pipelines::Settings;

use super::deploys::{stop, with};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Two stages, of which the second can be undone, and says a name when it fails.
const SHOP: &str = r##"
app: shop
params:
  bad: { type: int, default: 0 }
policy:
  environments:
    dev: { confirm: never, require_flag: "-" }
    prod: { confirm: never, require_flag: D, rollback: { mode: offer, lock: true } }
stages:
  test: { acted: { takes: 10s } }
  rollout:
    needs: [test]
    acted: { takes: 30s, undo: 20s, fails: "{params.bad}", class: app_not_ready, line: "raj broke kim_2, says Lee" }
    rollback: undo
"##;

async fn says(test: &TestBot, nick: &str, words: &str) {
    test.user(nick).says(CHANNEL, words).await;
}

/// Deploys, and waits for the end.
async fn deploys(test: &TestBot, words: &str) {
    says(test, "ana", &format!("!deploy {words}")).await;
    test.expect(CHANNEL, "started by ana").await;
    test.advance(MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_is_told_whom_to_ask_and_a_stranger_learns_no_names() {
    let (test, _) = with(SHOP).await;
    says(&test, "kim", "!deploy shop to prod").await;
    let line = test.expect(CHANNEL, "kim: you may deploy shop to dev, not to prod (needs flag D on #ops; ask ").await;
    assert!(line.contains("a\u{200b}na") && line.contains("r\u{200b}aj") && !line.contains("raj"), "{line}");
    says(&test, "mallory", "!deploy shop to prod").await;
    let line = test.expect(CHANNEL, "mallory: I do not know you").await;
    assert!(line.contains("ask an owner"), "{line}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn undoing_is_offered_only_where_something_can_be_undone() {
    let (test, _) = with(SHOP).await;
    deploys(&test, "shop/v1 to prod").await;
    let line = test.expect(CHANNEL, "shop v1 is live on prod.").await;
    assert!(!line.contains("Undo"), "{line}");
    deploys(&test, "shop/v2 to prod").await;
    test.expect(CHANNEL, "shop v2 is live on prod. 40s, critical path test>rollout. Undo: !rollback shop prod").await;
    says(&test, "ana", "!rollback shop prod").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "shop v1 is live again on prod").await;
    says(&test, "ana", "!unlock shop/prod").await;
    test.expect(CHANNEL, "unlocked by ana").await;
    // The next time it is known how long that takes.
    deploys(&test, "shop/v3 to prod bad=1").await;
    test.expect(CHANNEL, "ana: !rollback 4 (to v1, ~20s) | !retry 4 rollout | !tail 4 | leave.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn names_in_a_log_call_nobody_who_is_here() {
    let (test, _) = with(SHOP).await;
    for nick in ["raj", "lee"] {
        test.user(nick).joins(CHANNEL).await;
    }
    deploys(&test, "shop/v1 to prod bad=1").await;
    let line = test.expect(CHANNEL, "[1] | raj broke kim_2, says Lee").await;
    assert_eq!(line, "[1] | r\u{200b}aj broke kim_2, says L\u{200b}ee");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_does_not_pass_over_the_lock_of_somebody_else() {
    let (test, _) = with(SHOP).await;
    deploys(&test, "shop/v1 to prod").await;
    deploys(&test, "shop/v2 to prod").await;
    says(&test, "raj", "!lock shop/prod 2h replica rebuild").await;
    test.expect(CHANNEL, "shop/prod locked by raj").await;
    for words in ["!rollback shop prod", "!rollback 2"] {
        says(&test, "ana", words).await;
        test.expect(CHANNEL, "ana: shop/prod is locked by raj").await;
    }
    // Whose lock it is may, and it stays theirs.
    says(&test, "raj", "!rollback 2").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "shop v1 is live again on prod").await;
    says(&test, "ana", "!deploy shop/v3 to prod").await;
    test.expect(CHANNEL, "(1h59m left): replica rebuild.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_holds_a_lock_is_told_only_if_they_are_here() {
    let (test, _) = with(SHOP).await;
    says(&test, "raj", "!lock shop/prod 2h rebuild").await;
    test.expect(CHANNEL, "locked by raj").await;
    test.net().quits("raj", "off").await;
    says(&test, "ana", "!unlock! shop/prod it is done").await;
    test.expect(CHANNEL, "unlocked by ana (was raj's): it is done. raj is not here to be told.").await;
    assert!(!test.transcript().iter().any(|line| line.contains("NOTICE raj")), "{:#?}", test.transcript());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_incident_log_has_the_whole_story() {
    let (test, _) = with(SHOP).await;
    says(&test, "raj", "!lock shop/prod 30m rebuild").await;
    says(&test, "raj", "!lock shop/prod +30m").await;
    test.advance(61 * MINUTE).await;
    deploys(&test, "shop/v1 to prod").await;
    says(&test, "ana", "!deploy shop/v2 to prod").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod started").await;
    says(&test, "ana", "!abort 2").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod aborted by ana").await;
    says(&test, "ana", "!log shop checkout answers 500").await;
    test.expect(CHANNEL, "ana: logged L-").await;
    let rows = test.started().pipelines().records().incidents(Some("shop"), 0, 100).await.unwrap();
    let told: Vec<String> = rows.iter().rev().map(|row| format!("{} {}", row.handle, row.text)).collect();
    let wanted = [
        "raj locked: rebuild",
        "raj the lock lasts longer",
        "bot raj's lock is over",
        "ana run 1 v1 started",
        "bot deploy 1 v1 ok",
        "ana run 2 v2 started",
        "bot deploy 2 v2 cancelled",
        "ana checkout answers 500",
    ];
    assert_eq!(told, wanted);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_line_of_the_log_is_amended_by_who_wrote_it_or_may_deploy_there_and_is_found_with_its_app() {
    let (test, _) = with(SHOP).await;
    says(&test, "raj", "!log shop/prod checkout answers 500").await;
    test.expect(CHANNEL, "raj: logged L-1").await;
    says(&test, "kim", "!log amend L-1 it was nothing").await;
    test.expect(CHANNEL, "kim: L-1 is raj's; ask them, or write a line of your own").await;
    says(&test, "ana", "!log amend L-1 cause: missing STRIPE_KEY").await;
    test.expect(CHANNEL, "ana: L-1 amended (old text kept).").await;
    says(&test, "kim", "!sal shop today").await;
    let line = test.expect(CHANNEL, "amends L-1: cause: missing STRIPE_KEY").await;
    assert!(line.contains("checkout answers 500"), "{line}");
    says(&test, "ana", "!log amend L-77 no").await;
    test.expect(CHANNEL, "there is no L-77").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn however_a_run_is_asked_for_it_is_in_the_audit_trail() {
    let (test, _) = with(SHOP).await;
    deploys(&test, "shop/v1 to prod").await;
    says(&test, "kim", "!deploy shop to prod").await;
    test.expect(CHANNEL, "kim: you may deploy shop to dev").await;
    let rows = test.started().audit_recent(10).await.unwrap();
    let told: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row.actor, row.action, row.detail)).collect();
    assert!(told.iter().any(|row| row.starts_with("ana ran #ops deploy shop/v1 to prod")), "{told:#?}");
    assert!(told.iter().any(|row| row.starts_with("kim failed #ops deploy shop to prod you may deploy")), "{told:#?}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_network_was_away_only_that_network_hears_of_it() {
    let (test, _) = with(SHOP).await;
    says(&test, "ana", "!deploy shop/v1 to prod").await;
    test.expect(CHANNEL, "[1] shop v1 -> prod started").await;
    test.started().pipelines().back("elsewhere", MINUTE).await;
    test.expect_silence(CHANNEL, Duration::from_secs(3)).await;
    stop(&test).await;
}

/// Prod is open on working days from eight to four; two of the people on call agree to what cannot wait.
const HOURS: &str = r##"
app: shop
policy:
  environments:
    prod:
      confirm: never
      require_flag: D
      windows: [{ days: mon-fri, from: "08:00", to: "16:00" }]
      emergency: { count: 2, from: "@oncall" }
stages: { test: { acted: { takes: 5s } }, rollout: { needs: [test], acted: { takes: 10s } } }
"##;

#[tokio::test(start_paused = true)]
async fn outside_of_the_window_the_next_one_is_told_and_what_is_booked_is_announced_when_it_opens() {
    let acted = super::acted::Acted::default();
    let groups = [("oncall".to_owned(), ["raj", "lee", "ana"].map(str::to_owned).to_vec())].into();
    let settings = Settings { groups, channels: vec![CHANNEL.to_owned()], ..Settings::default() };
    let builder = Bot::builder().executor("acted", acted.clone()).pipelines(settings);
    // A Sunday.
    let sunday = "2026-03-01T12:00:00Z".parse().unwrap();
    let test = TestBot::start_at(builder, sunday).await.unwrap();
    test.started().put_pipeline("shop", HOURS).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for nick in ["ana", "raj", "lee"] {
        test.user(nick).with_flags("+D");
    }
    says(&test, "ana", "!deploy shop/v2 to prod").await;
    test.expect(
        CHANNEL,
        "ana: prod is frozen until Mon 08:00 UTC (outside its window). Next window: Mon 08:00-16:00. \
         !at Mon 08:00 deploy shop/v2 to prod books it; emergency: !deploy! shop/v2 to prod <reason>, \
         then 2 approvals from @oncall",
    )
    .await;
    says(&test, "ana", "!at 13:00 deploy shop/v2 to prod").await;
    test.expect(
        CHANNEL,
        "ana: prod is closed then (outside its window); it opens Mon 08:00 UTC: book a time after that",
    )
    .await;
    says(&test, "ana", "!at Mon 08:00 deploy shop/v2 to prod").await;
    test.expect(CHANNEL, "ana: booked: shop to prod at Mon 08:00 UTC").await;
    // What cannot wait needs two others.
    says(&test, "ana", "!deploy! shop/hotfix to prod the shop is down").await;
    let line = test.expect(CHANNEL, "[1] shop hotfix -> prod by ana needs 2 approvals from @oncall, not ana.").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    says(&test, "raj", &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] approved by raj (identified as raj, via services). 1 more needed.").await;
    says(&test, "raj", &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "raj: you approved 1 already").await;
    says(&test, "lee", &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "shop hotfix -> prod started by ana (override: the shop is down).").await;
    test.advance(20 * HOUR).await;
    test.expect(CHANNEL, "prod window open until 16:00. Booked: shop v2 (ana).").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod started by ana.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_lately_is_told_with_the_alerts_since() {
    let (test, _) = with(SHOP).await;
    says(&test, "kim", "!whatson").await;
    test.expect(CHANNEL, "prod at 12:00 UTC nothing changed in the last hour. Alerts since: none.").await;
    deploys(&test, "shop/v1 to prod").await;
    deploys(&test, "shop/v2 to dev").await;
    says(&test, "kim", "!whatson").await;
    test.expect(CHANNEL, "prod at 12:02 UTC changed in the last hour: shop v1 (1). Alerts since: none.").await;
    says(&test, "kim", "!whatson dev 30s").await;
    test.expect(CHANNEL, "dev at 12:02 UTC changed in the last 30s: shop v2 (2).").await;
    test.advance(2 * HOUR).await;
    says(&test, "kim", "!whatson").await;
    test.expect(CHANNEL, "prod at 14:02 UTC nothing changed in the last hour.").await;
    says(&test, "kim", "!whatson nowhere").await;
    test.expect(CHANNEL, "kim: no app has an environment \"nowhere\"").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_aborted_half_way_can_be_undone_and_who_stopped_it_is_told() {
    let (test, acted) = with(SHOP).await;
    deploys(&test, "shop/v1 to prod").await;
    says(&test, "ana", "!deploy shop/v2 to prod").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod started").await;
    test.advance(Duration::from_secs(20)).await;
    says(&test, "raj", "!abort 2").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod aborted by raj. Undo what it did: !rollback 2").await;
    // It is what is there in part, not the version before it, that is undone.
    says(&test, "ana", "!rollback shop prod").await;
    test.expect(CHANNEL, "[3] rollback shop prod v2 -> v1 started by ana (run 2)").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[3] shop v1 is live again on prod").await;
    assert!(acted.done().contains(&"undid undo-rollout#1".to_owned()), "{:?}", acted.done());
    stop(&test).await;
}
