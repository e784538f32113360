//! What people decide about stages that are held: one after the other, and each told once.

use std::time::Duration;

use masterchief::bot::CHANNEL;
use masterchief::pipelines::{Ask, Asked, Asker, May, RunState, StageState};

use super::deploys::{state, stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn two(a: &str, b: &str) -> String {
    format!(
        "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  a: {{acted: {{takes: 5s, fails: {a}, line: a broke}}, on_failure: ask}}\n  b: {{acted: {{takes: 6s, fails: 9, line: b broke}}, on_failure: {b}}}\n  c: {{acted: {{takes: 7s}}}}\n  d: {{acted: {{takes: 8s}}}}\n  end: {{needs: [a, b], acted: {{takes: 5s}}}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn of_two_that_are_held_one_is_tried_again_and_the_other_still_waits_to_be_decided() {
    for promoted in [true, false] {
        let (test, acted) = with(&two("1", "ask")).await;
        test.user("kim").says(CHANNEL, "!deploy shop").await;
        test.advance(9 * SECOND).await;
        test.expect(CHANNEL, "[1] shop a held: a broke. !promote 1 | !abort 1. Auto-abort in 10 min.").await;
        test.expect(CHANNEL, "[1] shop b held: b broke.").await;
        test.user("kim").says(CHANNEL, "!retry 1 a").await;
        test.expect(CHANNEL, "kim: run 1 goes on").await;
        test.expect(CHANNEL, "[1] shop b held: b broke. !promote 1 | !abort 1. Auto-abort in 10 min.").await;
        test.advance(6 * SECOND).await;
        let (run, stages) = test.started().pipelines().run(1).await.unwrap().unwrap();
        let found = (run.state, run.failed.as_deref(), stages[0].state, stages[1].state);
        assert_eq!(found, (RunState::Paused, Some("b"), StageState::Succeeded, StageState::Failed));
        if promoted {
            test.user("kim").says(CHANNEL, "!promote 1").await;
            test.expect(CHANNEL, "[1] shop b promoted by kim, going on.").await;
            test.advance(6 * SECOND).await;
            test.expect(CHANNEL, "is live on dev").await;
            assert_eq!(acted.done(), ["a#1", "b#1", "c#1", "d#1", "a#2", "end#1"]);
        } else {
            test.advance(10 * MINUTE).await;
            test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in b").await;
            assert_eq!(state(&test, 1).await, RunState::Failed);
        }
        stop(&test).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_beside_one_that_people_let_pass_is_named_at_the_end() {
    let (test, _) = with(&two("9", "fail")).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(9 * SECOND).await;
    test.expect(CHANNEL, "[1] shop a held: a broke.").await;
    test.user("kim").says(CHANNEL, "!promote 1").await;
    test.expect(CHANNEL, "[1] shop a promoted by kim, going on.").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in b").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_told_as_held_is_not_told_as_failed_once_it_is_promoted() {
    let text = "app: shop\npolicy: {environments: {dev: {require_flag: \"-\"}}}\nstages:\n  canary: {acted: {takes: 5s, fails: 9, line: errors 1.9%}, on_failure: ask}\n  rollout: {needs: [canary], acted: {takes: 10s}}\n";
    let (test, _) = with(text).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.user("kim").says(CHANNEL, "!yes 1").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop canary held: errors 1.9%.").await;
    test.user("ana").says(CHANNEL, "!promote 1").await;
    test.expect(CHANNEL, "[1] shop canary promoted by ana, going on.").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "is live on dev").await;
    assert!(!test.transcript().iter().any(|line| line.contains("FAILED")), "{:#?}", test.transcript());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_first_that_is_held_is_told_of_the_second_too() {
    let (test, _) = with(&two("9", "ask").replace("takes: 6s", "takes: 65s")).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop a held: a broke. !promote 1 | !abort 1. Auto-abort in 10 min.").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop b held: b broke. !promote 1 | !abort 1. Auto-abort in 9 min.").await;
    test.advance(9 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in a").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_ended_with_one_of_a_matrix_goes_on_with_it_when_that_is_tried_again() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  test: {matrix: {os: [deb, mac, win], max_parallel: 1}, acted: {takes: 5s, fails: 1, line: it broke}, on_failure: ask}\n";
    let (test, acted) = with(text).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[1] shop test[deb] held: it broke.").await;
    test.user("kim").says(CHANNEL, "!retry 1 test[deb]").await;
    test.expect(CHANNEL, "kim: run 1 goes on").await;
    test.advance(MINUTE).await;
    // The next one fails its first time too, and is held as the first was.
    test.expect(CHANNEL, "[1] shop test[mac] held: it broke.").await;
    test.user("kim").says(CHANNEL, "!retry 1").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop test[win] held: it broke.").await;
    test.user("kim").says(CHANNEL, "!retry 1").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop the newest is live on dev").await;
    assert_eq!(
        acted.done(),
        ["test[deb]#1", "test[deb]#2", "test[mac]#1", "test[mac]#2", "test[win]#1", "test[win]#2"]
    );
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_channel_hears_that_a_run_is_held_again_wherever_it_was_tried_again_from() {
    let (test, _) = with(&two("1", "ask")).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(9 * SECOND).await;
    test.expect(CHANNEL, "[1] shop b held: b broke.").await;
    let retry = Asked { ask: Ask::Retry(1, Some("a".to_owned())), who: Asker::program("page"), may: May::all() };
    let told = test.started().pipelines().ask(retry).await.unwrap();
    assert_eq!(told.lines, ["run 1 goes on"]);
    test.expect(CHANNEL, "[1] shop b held: b broke. !promote 1 | !abort 1. Auto-abort in 10 min.").await;
    stop(&test).await;
}
