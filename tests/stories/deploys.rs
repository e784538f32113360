//! `!deploy` and all that belongs to it, told in a channel on a clock that costs no time. The work of stages is acted.

use std::time::Duration;

use masterchief::bot::{Bot, Builder, CHANNEL, TestBot};
use masterchief::pipelines::{RunState, Settings};
use masterchief::store::runs::Which;
use serde_json::{Map, json};

use super::acted::Acted;
use super::retold::replayed;
use super::retried::copied;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const SHOP: &str = r##"
app: shop
params:
  environment: { type: choice, of: [dev, staging, prod], default: staging }
  ref: { type: ref, default: main }
  bad: { type: int, default: 0 }
policy:
  environments:
    dev: { confirm: never, rollback: auto, require_flag: "-" }
    staging: { confirm: never, require_flag: d }
    prod:
      require_flag: D
      windows: [{ days: mon-fri, from: "08:00", to: "16:00" }]
      rollback: { mode: offer, auto_after: 5m, lock: true }
stages:
  test: { acted: { takes: 130s, summary: 412 passed } }
  build: { needs: [test], acted: { takes: 91s, outputs: { image: "shop:{ref}" } } }
  push: { needs: [build], acted: { takes: 22s } }
  canary:
    needs: [push]
    when: "environment == 'prod'"
    acted: { takes: 5m, tells: ["10%: errors 0.2% (base 0.2%), 5 min left; then rollout"] }
  rollout:
    needs: ["canary?", push]
    acted:
      takes: 60s
      undo: 58s
      fails: "{params.bad}"
      class: app_not_ready
      line: progress deadline exceeded
      world: ["web-7f9c4 CrashLoopBackOff x4: panic: missing env STRIPE_KEY (main.rs:88)", "4 of 12 pods are new and failing, 8 old ones serve."]
    rollback: undo
"##;

pub(crate) fn builder(acted: &Acted) -> Builder {
    Bot::builder().executor("acted", acted.clone()).pipelines(Settings::default())
}

async fn shop() -> (TestBot, Acted) {
    with(SHOP).await
}

pub(crate) async fn with(text: &str) -> (TestBot, Acted) {
    let acted = Acted::default();
    let test = TestBot::start(builder(&acted)).await.unwrap();
    test.started().put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for (nick, flags) in [("ana", "+dDS"), ("raj", "+dD"), ("kim", "+d"), ("lee", "+D")] {
        test.user(nick).with_flags(flags);
    }
    (test, acted)
}

/// Stops the bot. Of no run that ended more was said than two lines beside one for each stage, and what happened in each, told anew from
/// its events, leads to where its rows say it is.
pub(crate) async fn stop(test: &TestBot) {
    let pipelines = test.started().pipelines().clone();
    let runs = pipelines.list(Which { limit: 1000, ..Which::default() }).await.unwrap();
    for (row, _) in &runs {
        replayed(&pipelines, row.number).await;
    }
    for (row, _) in runs.into_iter().filter(|(_, run)| run.state.ended() && run.spared == 0) {
        let mark = format!("PRIVMSG {CHANNEL} [{}] ", row.number);
        let said: Vec<String> = test.transcript().into_iter().filter(|line| line.starts_with(&mark)).collect();
        let (_, stages) = pipelines.run(row.number).await.unwrap().unwrap();
        assert!(said.len() <= stages.len() + 2, "{} stages, and {said:#?}", stages.len());
    }
    drop(pipelines);
    test.stop().await;
}

/// Brings a version to prod.
async fn deployed(test: &TestBot, words: &str) -> i64 {
    test.user("ana").says(CHANNEL, &format!("!deploy {words} to prod")).await;
    let line = test.expect(CHANNEL, "ana: say \"!yes ").await;
    let number: i64 = line.split('"').nth(1).unwrap().trim_start_matches("!yes ").parse().unwrap();
    test.user("ana").says(CHANNEL, &format!("!yes {number}")).await;
    test.expect(CHANNEL, &format!("[{number}] shop")).await;
    test.advance(11 * MINUTE).await;
    test.expect(CHANNEL, "is live on prod").await;
    number
}

pub(crate) async fn state(test: &TestBot, number: i64) -> RunState {
    test.started().pipelines().run(number).await.unwrap().unwrap().0.state
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_understood_confirmed_told_in_few_lines_and_live() {
    let (test, acted) = shop().await;
    deployed(&test, "shop/v1").await;
    let before = test.said();
    test.user("ana").says(CHANNEL, "!deploy shop/v2.41.0 to prod").await;
    let line = test.expect(CHANNEL, "shop -> prod: v2.41.0 replaces v1.").await;
    assert!(line.contains("Plan: test, build, push, canary, rollout. ~10 min."), "{line}");
    test.expect(CHANNEL, "ana: say \"!yes 2\" within 2 min to start").await;
    test.user("raj").says(CHANNEL, "!yes 2").await;
    test.expect(CHANNEL, "raj: only ana can say yes to run 2").await;
    test.user("ana").says(CHANNEL, "!yes 2").await;
    test.expect(CHANNEL, "[2] shop v2.41.0 -> prod started by ana.").await;
    test.advance(5 * MINUTE).await;
    test.expect(CHANNEL, "[2] test ok 2m10s (412 passed)").await;
    test.expect(CHANNEL, "[2] build ok 1m31s").await;
    test.expect(CHANNEL, "canary: 10%: errors 0.2% (base 0.2%)").await;
    test.advance(6 * MINUTE).await;
    let line = test.expect(CHANNEL, "[2] shop v2.41.0 is live on prod. 10m03s").await;
    assert!(line.contains("critical path test>build>push>canary>rollout. Undo: !rollback shop prod"), "{line}");
    let mine: Vec<String> = test.transcript().into_iter().skip(before).filter(|line| line.contains("[2] ")).collect();
    assert!(mine.len() <= 5 + 2, "{mine:#?}");
    assert_eq!(acted.done().len(), 10);
    test.user("raj").says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: dev nothing | staging nothing | prod v2.41.0 by a\u{200b}na").await;
    test.user("raj").says(CHANNEL, "!deploys shop prod 3").await;
    test.expect(CHANNEL, "2 v2.41.0 a\u{200b}na").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_confirms_there_is_a_start_and_an_end() {
    let (test, _) = shop().await;
    test.user("kim").says(CHANNEL, "!deploy shop/fix to staging").await;
    test.expect(CHANNEL, "[1] shop fix -> staging started by kim.").await;
    test.advance(6 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop fix is live on staging.").await;
    assert_eq!(state(&test, 1).await, RunState::Succeeded);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_or_mistypes_is_told_the_way_out_and_nothing_happens() {
    let (test, acted) = shop().await;
    test.user("kim").says(CHANNEL, "!deploy shp to prod").await;
    test.expect(CHANNEL, "kim: no app \"shp\". Did you mean shop?").await;
    test.user("kim").says(CHANNEL, "!deploy shop to prod").await;
    test.expect(CHANNEL, "kim: you may deploy shop to dev, staging, not to prod (needs flag D").await;
    test.user("kim").says(CHANNEL, "!deploy shop to pord").await;
    test.expect(CHANNEL, "environment is one of dev, staging, prod").await;
    test.user("mallory").says(CHANNEL, "!deploy shop to staging").await;
    test.expect(CHANNEL, "mallory: I do not know you").await;
    test.user("mallory").says(CHANNEL, "!lock shop/prod 2h mine").await;
    test.expect(CHANNEL, "mallory: I do not know you").await;
    test.user("kim").says(CHANNEL, "!deploy shop/-x to staging").await;
    test.expect(CHANNEL, "\"-x\" is no branch, tag or commit").await;
    test.advance(MINUTE).await;
    assert!(acted.done().is_empty());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_has_an_owner_a_reason_and_an_end_and_breaking_it_is_loud() {
    let (test, _) = shop().await;
    test.user("raj").says(CHANNEL, "!lock shop/prod 2h replica rebuild, see INC-77").await;
    test.expect(CHANNEL, "shop/prod locked by raj until 14:00 UTC: replica rebuild, see INC-77.").await;
    test.advance(40 * MINUTE).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2 to prod").await;
    let line = test
        .expect(CHANNEL, "ana: shop/prod is locked by raj since 12:00 (1h20m left): replica rebuild, see INC-77.")
        .await;
    assert!(line.contains("Queue behind it: !queue 1."), "{line}");
    test.user("ana").says(CHANNEL, "!queue 1").await;
    test.expect(CHANNEL, "[1] queued for shop/prod, place 1 (locked by raj)").await;
    test.user("lee").says(CHANNEL, "!unlock shop/prod").await;
    test.expect(CHANNEL, "lee: that is raj's lock. Break it with a reason: !unlock! shop/prod <why>").await;
    test.user("lee").says(CHANNEL, "!unlock! shop/prod rebuild done, raj offline").await;
    let line = test
        .expect(CHANNEL, "shop/prod unlocked by lee (was raj's): rebuild done, raj offline. raj has been told.")
        .await;
    assert!(line.contains("Starting 1 for ana in 30 s, \"!abort 1\" to stop"), "{line}");
    test.expect("raj", "lee took your lock away from shop/prod").await;
    test.expect_silence(CHANNEL, 25 * SECOND).await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 -> prod started by ana").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_warned_of_before_it_ends_and_told_when_it_has() {
    let (test, _) = shop().await;
    test.user("raj").says(CHANNEL, "!lock shop/prod 30m rebuild").await;
    test.expect(CHANNEL, "locked by raj until 12:30 UTC").await;
    test.advance(20 * MINUTE + SECOND).await;
    test.expect(CHANNEL, "shop/prod: raj's lock ends in 10 min. Extend: !lock shop/prod +1h").await;
    test.user("raj").says(CHANNEL, "!lock shop/prod +1h").await;
    test.expect(CHANNEL, "locked by raj until 13:30 UTC").await;
    test.advance(70 * MINUTE).await;
    test.expect(CHANNEL, "shop/prod: raj's lock ends in 10 min").await;
    test.expect(CHANNEL, "shop/prod: raj's lock is over (rebuild).").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_network_was_away_only_the_newest_state_is_told() {
    let (test, _) = shop().await;
    test.user("kim").says(CHANNEL, "!deploy shop to staging").await;
    test.expect(CHANNEL, "[1] shop main -> staging started").await;
    test.advance(2 * SECOND).await;
    assert!(test.kill_connection().await);
    test.advance(5 * SECOND).await;
    let line = test.expect(CHANNEL, "[1] shop main -> staging still in ").await;
    assert!(line.contains("I was away"), "{line}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn one_runs_at_a_time_the_next_waits_with_its_place_and_says_yes_to_what_is_there_then() {
    let (test, _) = shop().await;
    deployed(&test, "shop/v1").await;
    for (nick, version) in [("ana", "v2"), ("raj", "v3")] {
        test.user(nick).says(CHANNEL, &format!("!deploy shop/{version} to prod")).await;
        test.expect(CHANNEL, &format!("{nick}: say \"!yes")).await;
    }
    test.user("ana").says(CHANNEL, "!yes 2").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod started by ana").await;
    test.user("raj").says(CHANNEL, "!yes 3").await;
    test.expect(CHANNEL, "[3] queued for shop/prod, place 1 (2 by ana in test").await;
    test.advance(11 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 is live").await;
    test.expect(
        CHANNEL,
        "[3] raj: your turn. v1 is now v2 (2 went in between). !yes 3 within 5 min or I pass to the next.",
    )
    .await;
    test.advance(6 * MINUTE).await;
    test.expect(CHANNEL, "[3] raj did not answer; passed. Re-queue: !again 3").await;
    assert_eq!(state(&test, 3).await, RunState::Expired);
    test.user("raj").says(CHANNEL, "!again 3").await;
    test.expect(CHANNEL, "shop -> prod: v3 replaces v2").await;
    stop(&test).await;
}

const LEDGER: &str = r#"
app: ledger
policy:
  environments:
    prod: { confirm: never, approvals: { count: 1, from: "@payments", expires: 30m } }
stages:
  migrate: { acted: { takes: 10s } }
"#;

#[tokio::test(start_paused = true)]
async fn a_second_person_agrees_to_what_was_shown_and_nobody_else() {
    let acted = Acted::default();
    let groups = [("payments".to_owned(), vec!["lee".to_owned(), "ana".to_owned()])].into();
    let test = TestBot::start(
        Bot::builder().executor("acted", acted.clone()).pipelines(Settings { groups, ..Settings::default() }),
    )
    .await
    .unwrap();
    test.started().put_pipeline("ledger", LEDGER).await.unwrap();
    for nick in ["ana", "lee", "raj"] {
        test.user(nick).with_flags("+D");
    }
    test.user("ana").says(CHANNEL, "!deploy ledger/v9.2").await;
    let line = test.expect(CHANNEL, "[1] ledger v9.2 -> prod by ana needs 1 approval from @payments, not ana.").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    assert!(line.contains("Plan: migrate.") && line.contains("| expires 12:30"), "{line}");
    test.user("ana").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "ana: the one who asked cannot approve 1.").await;
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "raj: 1 needs somebody of @payments").await;
    test.user("lee").says(CHANNEL, "!approve 1 0000").await;
    test.expect(CHANNEL, "lee: that is not the code of what is shown now").await;
    test.user("lee").says(CHANNEL, &format!("!approve 1 {code}")).await;
    let line = test.expect(CHANNEL, "[1] approved by lee (identified as lee, via services). Starting.").await;
    assert!(line.ends_with("Starting. ledger v9.2 -> prod started by ana."), "{line}");
    test.advance(15 * SECOND).await;
    test.expect(CHANNEL, "[1] ledger v9.2 is live on prod").await;

    test.user("ana").says(CHANNEL, "!deploy ledger/v9.3").await;
    test.expect(CHANNEL, "[2] ledger v9.3 -> prod by ana needs 1 approval").await;
    test.user("lee").says(CHANNEL, "!reject 2 not on a Friday").await;
    test.expect(CHANNEL, "[2] ledger v9.3 -> prod rejected by lee: not on a Friday.").await;
    test.user("ana").says(CHANNEL, "!deploy ledger/v9.4").await;
    test.expect(CHANNEL, "[3] ledger v9.4").await;
    test.advance(31 * MINUTE).await;
    test.expect(CHANNEL, "[3] ledger v9.4 -> prod expired").await;
    assert_eq!(acted.done(), ["migrate#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_what_is_wrong_how_things_stand_and_what_one_may_do_and_a_rollback_locks() {
    let (test, acted) = shop().await;
    deployed(&test, "shop/v2.41.0").await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2.41.1 to prod bad=1").await;
    test.expect(CHANNEL, "ana: say \"!yes 2\"").await;
    test.user("ana").says(CHANNEL, "!yes 2").await;
    test.advance(11 * MINUTE).await;
    let line = test.expect(CHANNEL, "[2] shop v2.41.1 -> prod FAILED in rollout after 10m03s: progress deadline exceeded (class: app-not-ready; not retried").await;
    assert!(line.len() < 400, "{line}");
    test.expect(CHANNEL, "[2] | web-7f9c4 CrashLoopBackOff x4: panic: missing env STRIPE_KEY (main.rs:88)").await;
    test.expect(CHANNEL, "[2] 4 of 12 pods are new and failing, 8 old ones serve. ana: !rollback 2 (to v2.41.0) | !retry 2 rollout | !tail 2 | leave. I roll back by myself in 5 min.").await;
    test.user("ana").says(CHANNEL, "!rollback 2").await;
    test.expect(CHANNEL, "[3] rollback shop prod v2.41.1 -> v2.41.0 started by ana (run 2)").await;
    test.advance(MINUTE).await;
    let line = test
        .expect(
            CHANNEL,
            "[3] shop v2.41.0 is live again on prod after 58s. shop/prod is now LOCKED (rolled back by ana).",
        )
        .await;
    assert!(line.contains("Incident notes: !log shop <text>"), "{line}");
    assert_eq!((state(&test, 2).await, state(&test, 3).await), (RunState::RolledBack, RunState::Succeeded));
    assert_eq!(acted.done().last().map(String::as_str), Some("undid undo-rollout#1"));
    test.advance(10 * MINUTE).await;
    test.user("raj").says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "prod v2.41.0 by a\u{200b}na").await;
    test.user("raj").says(CHANNEL, "!deploy shop/v3 to prod").await;
    test.expect(CHANNEL, "raj: shop/prod is locked by ana").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_answers_is_rolled_back_by_itself() {
    let (test, _) = shop().await;
    deployed(&test, "shop/v1").await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2 to prod bad=1").await;
    test.expect(CHANNEL, "!yes 2").await;
    test.user("ana").says(CHANNEL, "!yes 2").await;
    test.advance(11 * MINUTE).await;
    test.expect(CHANNEL, "I roll back by myself in 5 min").await;
    test.advance(5 * MINUTE + SECOND).await;
    test.expect(CHANNEL, "[3] rollback shop prod v2 -> v1 started by bot (run 2)").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[3] shop v1 is live again").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn trouble_on_the_way_is_tried_again_and_told_once() {
    let (test, acted) = with(
        "app: shop\nannounce: {progress: true}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  test:\n    acted: {takes: 5s, fails: 2, class: network, line: registry timed out}\n    retry: {times: 3, first: 8s, factor: 2, jitter: 0}\n  build: {needs: [test], acted: {takes: 40s}}\n  push: {needs: [build], acted: {takes: 40s}}\n  rollout: {needs: [push], acted: {takes: 40s}}\n",
    )
    .await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(26 * SECOND).await;
    test.expect(CHANNEL, "[1] test: attempt 3/4 in 16 s (class network: registry timed out)").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] test ok on attempt 3").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop the newest is live on dev").await;
    assert_eq!(acted.done()[..3], ["test#1", "test#2", "test#3"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn outside_the_window_it_is_refused_booked_or_overridden_with_a_reason() {
    let (test, _) = shop().await;
    test.user("raj").says(CHANNEL, "!freeze staging 1h stocktaking").await;
    test.expect(CHANNEL, "staging frozen by raj until 13:00 UTC: stocktaking.").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2 to staging").await;
    test.expect(CHANNEL, "kim: staging is frozen until 13:00 UTC (stocktaking). !at 13:00 deploy shop/v2 to staging books it; emergency: !deploy! shop/v2 to staging <reason>").await;
    test.user("kim").says(CHANNEL, "!at 13:00 deploy shop/v2 to staging").await;
    test.expect(CHANNEL, "kim: booked: shop to staging at 13:00 UTC").await;
    test.user("kim").says(CHANNEL, "!deploy! shop/hotfix to staging").await;
    test.expect(CHANNEL, "kim: say why").await;
    test.user("kim").says(CHANNEL, "!deploy! shop/hotfix to staging the shop is down").await;
    test.expect(CHANNEL, "[1] shop hotfix -> staging started by kim (override: the shop is down).").await;
    test.advance(10 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop hotfix is live").await;
    test.advance(52 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 -> staging started by kim").await;
    // Prod has a window, and it is noon: five hours later it is closed.
    test.advance(5 * 60 * MINUTE).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v3 to prod").await;
    test.expect(CHANNEL, "ana: prod is frozen until Tue 08:00 UTC (outside its window).").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_held_is_decided_by_people_or_by_the_clock() {
    const CANARY: &str = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  canary:\n    acted: {weight: 25, takes: 5s, fails: 9, class: app_not_ready, line: \"errors 1.9% vs base 0.2% (2 of 3 checks failed, limit 1)\"}\n    on_failure: ask\n  rollout: {needs: [canary], acted: {takes: 10s}}\n";
    let (test, acted) = with(CANARY).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop canary 25% held: errors 1.9% vs base 0.2% (2 of 3 checks failed, limit 1). !promote 1 | !abort 1. Auto-abort in 10 min.").await;
    test.user("ana").says(CHANNEL, "!promote 1").await;
    test.expect(CHANNEL, "[1] shop canary promoted by ana, going on.").await;
    test.advance(12 * SECOND).await;
    test.expect(CHANNEL, "is live on dev").await;
    assert_eq!(acted.done(), ["canary#1", "rollout#1"]);
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(11 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop canary 25% held").await;
    test.expect(CHANNEL, "[2] shop the newest -> dev FAILED in canary").await;
    assert_eq!(acted.done().len(), 3);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_what_runs_and_still_cleans_up() {
    let text = format!("{}\nfinally:\n  cleanup: {{ acted: {{ takes: 1s }} }}\n", SHOP.trim_end());
    let (test, acted) = with(&text).await;
    test.user("kim").says(CHANNEL, "!deploy shop to staging").await;
    test.expect(CHANNEL, "[1] shop main -> staging started").await;
    test.advance(3 * MINUTE).await;
    test.user("kim").says(CHANNEL, "!slots").await;
    let line = test.expect(CHANNEL, "default 1/").await;
    assert!(line.contains(" taken (1 build), 0 wait") && line.contains("memory of commands is "), "{line}");
    test.user("mallory").says(CHANNEL, "!abort 1").await;
    test.expect(CHANNEL, "mallory: I do not know you").await;
    test.user("kim").says(CHANNEL, "!abort 1").await;
    test.expect(CHANNEL, "kim: stopping run 1").await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop main -> staging aborted by kim.").await;
    assert_eq!(acted.done(), ["test#1", "cleanup#1"]);
    assert_eq!(state(&test, 1).await, RunState::Cancelled);
    test.user("kim").says(CHANNEL, "!retry 1").await;
    test.advance(10 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop main is live on staging").await;
    assert_eq!(
        acted.done().iter().filter(|one| one.starts_with("test")).count(),
        1,
        "what went well is not done again"
    );
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_incident_log_is_written_by_all_of_this_and_by_people_and_cannot_be_changed_unseen() {
    let (test, _) = shop().await;
    deployed(&test, "shop/v1").await;
    test.user("ana").says(CHANNEL, "!log shop 10:31 checkout 500s, rolling back").await;
    let line = test.expect(CHANNEL, "ana: logged L-").await;
    let id = line.split("L-").nth(1).unwrap().to_owned();
    test.user("ana").says(CHANNEL, &format!("!log amend L-{id} cause: missing STRIPE_KEY")).await;
    test.expect(CHANNEL, &format!("L-{id} amended (old text kept).")).await;
    test.user("lee").says(CHANNEL, "!sal shop today").await;
    let line = test.expect(CHANNEL, &format!("L-{id} ")).await;
    assert!(line.contains("checkout 500s") && line.contains("deploy 1 v1 ok"), "{line}");
    assert!(test.started().pipelines().audit(None).await.unwrap().unwrap() >= 4);
    stop(&test).await;
}

#[tokio::test]
async fn a_thousand_runs_that_wait_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let acted = Acted::default();
    let start = async || builder(&acted).data(dir.path()).start().await.unwrap();
    let text = "app: shop\npolicy:\n  concurrency: {max_queued: 2000}\n  environments: {dev: {confirm: never, require_flag: \"-\", approvals: {count: 1}}}\nstages: {a: {acted: {}}}\n";
    let bot = start().await;
    bot.put_pipeline("shop", text).await.unwrap();
    use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared};
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let idle = tasks();
    for _ in 0..1000 {
        let prepared = Prepared { app: "shop".to_owned(), params: Map::new(), ..Prepared::default() };
        let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("test"), may: May::all() };
        bot.pipelines().ask(asked).await.unwrap();
    }
    let all = async |bot: &masterchief::bot::Started| {
        let which = Which { limit: 1000, ..Which::default() };
        bot.pipelines().list(which).await.unwrap().into_iter().map(|(_, run)| run).collect::<Vec<_>>()
    };
    let before = all(&bot).await;
    assert!(before.len() == 1000 && before.iter().all(|run| run.state == RunState::AwaitingApproval));
    assert!(tasks() < idle + 50, "who waits costs no task: {} where there were {idle}", tasks());
    // What a kill leaves is what is on disk while it runs.
    let killed = tempfile::tempdir().unwrap();
    copied(dir.path(), killed.path());
    bot.stop("").await;
    let bot = builder(&acted).data(killed.path()).start().await.unwrap();
    assert!(all(&bot).await == before, "each waits as it did, also after a kill");
    bot.stop("").await;
    let bot = start().await;
    assert!(all(&bot).await == before, "each waits as it did");
    let waiting = async |number| bot.pipelines().run(number).await.unwrap().unwrap().0;
    let code = waiting(1000).await.code;
    let lee = Asker { handle: "lee".to_owned(), ..Asker::default() };
    let asked = Asked { ask: Ask::Approve(1000, code), who: lee, may: May::all() };
    bot.pipelines().ask(asked).await.unwrap();
    let (run, _) = bot.pipelines().ended(1000).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(json!(acted.done()), json!(["a#1"]));
    bot.stop("").await;
}
