//! Few lines, and failures at once.

use std::time::Duration;

use masterchief::bot::CHANNEL;

use super::deploys::{stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_stage_that_fails_beside_a_long_one_is_told_at_once() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  lint: {acted: {takes: 3s}}\n  test: {acted: {takes: 5s, fails: 9, class: test_failed, line: \"cart: expected 3, got 4\"}}\n  long: {acted: {takes: 10m}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started").await;
    test.advance(5 * SECOND).await;
    let found = test.find(CHANNEL, 2 * SECOND, |line| line.contains("test FAILED")).await.unwrap();
    assert_eq!(found, "[1] test FAILED 5s (class test-failed: cart: expected 3, got 4) | lint ok 3s");
    test.advance(10 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in test").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_failure_that_ends_a_run_is_told_once() {
    let (test, _) = with("app: shop\nannounce: {progress: true}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  lint: {acted: {takes: 1s}}\n  test: {needs: [lint], acted: {takes: 5s, fails: 9, line: no disk}}\n  push: {needs: [test], acted: {}}\n  rollout: {needs: [push], acted: {}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "[1] lint ok 1s").await;
    let failed: Vec<String> = test.transcript().into_iter().filter(|line| line.contains("FAILED")).collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0].contains("[1] shop the newest -> dev FAILED in test after 6s"), "{failed:#?}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn one_stage_that_is_agreed_to_and_fails_takes_three_lines() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\", approvals: {count: 1, not_requester: false}}}}\nstages: {a: {acted: {fails: 9, class: config, line: no such file, world: [\"disk: full\", \"All else is well.\"]}}}\n").await;
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop").await;
    let line = test.expect(CHANNEL, "[1] shop the newest -> dev by kim needs 1 approval").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    test.user("kim").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.advance(5 * SECOND).await;
    test.expect(
        CHANNEL,
        "[1] approved by kim (identified as kim, via services). Starting. shop the newest -> dev started by kim.",
    )
    .await;
    let line = test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in a after 1s").await;
    assert!(line.contains("no such file") && line.ends_with("!retry 1 a | !tail 1 | leave."), "{line}");
    assert!(line.len() < 400, "{line}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn however_much_happens_to_a_run_it_says_no_more_than_it_may() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  first: {acted: {takes: 5s, fails: 9, line: held up}, on_failure: ask}\n  second: {needs: [first], acted: {takes: 30s, fails: 1, class: network, line: lost}, retry: {times: 2, first: 30s}}\n  third: {needs: [first], acted: {takes: 2m, fails: 9, line: broken}}\n";
    let (test, _) = with(text).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.user("raj").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[2] queued").await;
    for number in [1, 2] {
        let held = format!("[{number}] shop first held: held up");
        test.find(CHANNEL, 3 * MINUTE, |line| line.contains(&held)).await.unwrap();
        test.user("ana").says(CHANNEL, &format!("!promote {number}")).await;
        let failed = format!("[{number}] shop the newest -> dev FAILED in third");
        test.find(CHANNEL, 3 * MINUTE, |line| line.contains(&failed)).await.unwrap();
    }
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn of_what_the_clock_starts_only_trouble_and_its_end_is_told() {
    let at = |minute: u8, fails: u8| format!("time: {{cron: \"{minute} 12 * * *\", params: {{bad: {fails}}}}}");
    let text = format!(
        "app: shop\ntriggers: [{{{}}}, {{{}}}, {{{}}}, {{{}}}]\nparams: {{bad: {{type: int, default: 0}}}}\nannounce: {{channels: [\"test/{CHANNEL}\"]}}\npolicy: {{environments: {{dev: {{}}}}}}\nstages: {{a: {{acted: {{fails: \"{{params.bad}}\", line: no disk}}}}}}\n",
        at(10, 0),
        at(20, 9),
        at(30, 0),
        at(40, 0)
    );
    let (test, acted) = with(&text).await;
    test.expect_silence(CHANNEL, 15 * MINUTE).await;
    assert_eq!(acted.done(), ["a#1"]);
    test.find(CHANNEL, 10 * MINUTE, |line| line.contains("[2] shop the newest -> dev FAILED in a")).await.unwrap();
    test.find(CHANNEL, 12 * MINUTE, |line| line.contains("[3] shop the newest is live on dev")).await.unwrap();
    test.expect_silence(CHANNEL, 15 * MINUTE).await;
    assert_eq!(acted.done().len(), 4);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_has_to_say_yes_a_run_is_its_beginning_and_its_end() {
    let stages = "stages:\n  test: {acted: {takes: 2m, tells: [half]}}\n  build: {needs: [test], acted: {takes: 90s}}\n  rollout: {needs: [build], acted: {takes: 60s}}\n";
    for (announce, lines) in [("", 2), ("announce: {progress: true}\n", 4)] {
        let text = format!(
            "app: shop\n{announce}policy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\n{stages}"
        );
        let (test, _) = with(&text).await;
        test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
        test.advance(6 * MINUTE).await;
        test.expect(CHANNEL, "[1] shop v1 is live on dev. 4m30s").await;
        let said: Vec<String> = test.transcript().into_iter().filter(|line| line.contains("[1] ")).collect();
        assert!(if announce.is_empty() { said.len() == lines } else { said.len() >= lines }, "{said:#?}");
        stop(&test).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_trigger_does_not_get_is_told_once_an_hour() {
    let text = format!(
        "app: shop\ntriggers: [{{time: {{cron: \"*/20 * * * *\"}}}}]\nannounce: {{channels: [\"test/{CHANNEL}\"]}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages: {{a: {{acted: {{}}}}}}\n"
    );
    let (test, acted) = with(&text).await;
    test.user("ana").says(CHANNEL, "!freeze dev stocktaking").await;
    test.expect(CHANNEL, "dev frozen by ana: stocktaking.").await;
    let before = test.said();
    for _ in 0..12 {
        test.advance(10 * MINUTE).await;
    }
    let said: Vec<String> = test.transcript().into_iter().skip(before).collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    let line = "shop was not started by its trigger (time): dev is frozen (stocktaking).";
    assert!(said.iter().all(|one| one.contains(line)), "{said:#?}");
    assert!(acted.done().is_empty());
    stop(&test).await;
}
