//! What is undone, and to what; and what people may let pass.

use std::time::Duration;

use masterchief::bot::CHANNEL;
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState};
use serde_json::Value;

use super::deploys::{state, stop, with};

const SECOND: Duration = Duration::from_secs(1);

fn shop(rollback: &str, stage: &str) -> String {
    format!(
        "app: shop\nparams: {{bad: {{type: int, default: 0}}}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\", rollback: {rollback}}}}}}}\nstages:\n  rollout: {{acted: {{takes: 5s, undo: 5s, fails: \"{{params.bad}}\", line: it broke}}, rollback: {stage}}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_undone_at_once_where_the_environment_or_the_stage_says_so_and_both_ends_are_told() {
    let by_stage = shop("never", "undo, on_failure: rollback");
    let broken = shop("auto", "{acted: {takes: 5s, fails: 9, line: no way back}}");
    for (text, good) in [(shop("auto", "undo"), true), (by_stage, true), (broken, false)] {
        let (test, _) = with(&text).await;
        test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
        test.advance(6 * SECOND).await;
        test.expect(CHANNEL, "[1] shop v1 is live").await;
        test.user("kim").says(CHANNEL, "!deploy shop/v2 bad=1").await;
        test.advance(6 * SECOND).await;
        test.expect(CHANNEL, "[2] shop v2 -> dev FAILED in rollout").await;
        test.expect(CHANNEL, "[3] rollback shop dev v2 -> v1 started by bot (run 2)").await;
        test.advance(6 * SECOND).await;
        if good {
            test.expect(CHANNEL, "[3] shop v1 is live again on dev").await;
            assert_eq!((state(&test, 2).await, state(&test, 3).await), (RunState::RolledBack, RunState::Succeeded));
        } else {
            let line = test.expect(CHANNEL, "[3] rollback shop dev FAILED in undo-rollout").await;
            assert!(line.contains("no way back"), "{line}");
            assert_eq!((state(&test, 2).await, state(&test, 3).await), (RunState::RollbackFailed, RunState::Failed));
        }
        stop(&test).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_rolled_back_is_never_what_one_goes_back_to() {
    let (test, _) = with(&shop("{mode: never, lock: false}", "undo")).await;
    for (number, words) in [
        (1, "!deploy shop/v1"),
        (2, "!deploy shop/v2"),
        (3, "!rollback 2"),
        (4, "!deploy shop/v3 bad=1"),
        (5, "!rollback 4"),
    ] {
        test.user("kim").says(CHANNEL, words).await;
        test.expect(CHANNEL, &format!("[{number}] ")).await;
        test.advance(6 * SECOND).await;
    }
    test.expect(CHANNEL, "[5] shop v1 is live again on dev").await;
    test.user("kim").says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: dev v1 by").await;
    stop(&test).await;
}

const GATED: &str = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages:\n  test: {acted: {outputs: {failed: 2}}, gate: \"outputs.failed == 0\", on_failure: ask}\n  rollout: {needs: [test], acted: {}}\n";

#[tokio::test(start_paused = true)]
async fn a_gate_that_does_not_hold_is_passed_by_who_may_leave_out_its_stage_and_that_is_written_down() {
    let (test, acted) = with(GATED).await;
    let kim = test.user("kim").with_flags("+d");
    kim.says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "[1] shop test held: ").await;
    kim.says(CHANNEL, "!promote 1").await;
    test.expect(CHANNEL, "kim: the gate of test does not hold, and you may not leave it out; !abort 1").await;
    test.user("ana").with_flags("+dS").says(CHANNEL, "!promote 1").await;
    test.expect(CHANNEL, "[1] shop test promoted by ana, going on.").await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 is live").await;
    assert_eq!(acted.done(), ["test#1", "rollout#1"]);
    test.user("ana").says(CHANNEL, "!sal shop today").await;
    test.expect(CHANNEL, "run 1: test promoted").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_people_rejected_is_not_let_pass_by_who_asked() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages:\n  people: {approve: {count: 1}, on_failure: ask}\n  rollout: {needs: [people], acted: {}}\n").await;
    let kim = test.user("kim").with_flags("+dS");
    kim.says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "[1] shop v2 -> dev by kim needs 1 approval").await;
    test.user("lee").with_flags("+d").says(CHANNEL, "!reject 1 no").await;
    test.expect(CHANNEL, "[1] shop people held: rejected by lee: no.").await;
    kim.says(CHANNEL, "!promote 1").await;
    test.expect(
        CHANNEL,
        "kim: people is decided by people or the clock and cannot be let pass; !retry 1 people asks again",
    )
    .await;
    kim.says(CHANNEL, "!retry 1 people").await;
    test.expect(CHANNEL, "[1] shop v2 -> dev by kim needs 1 approval").await;
    assert!(acted.done().is_empty());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn every_change_has_who_and_why() {
    let (test, _) = with(GATED).await;
    let kim = test.user("kim").with_flags("+d");
    kim.says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "[1] shop test held: ").await;
    kim.says(CHANNEL, "!abort 1").await;
    test.expect(CHANNEL, "[1] shop v2 -> dev aborted").await;
    let events = test.started().pipelines().records().events(1).await.unwrap();
    let told: Vec<(String, Value)> =
        events.iter().map(|row| (row.actor.clone(), serde_json::from_str(&row.data).unwrap())).collect();
    let cause = |to: &str| {
        let (actor, data) = told.iter().find(|(_, data)| data["to"] == to).unwrap_or_else(|| panic!("{told:#?}"));
        format!("{actor}: {}", data["cause"].as_str().unwrap_or_default())
    };
    assert_eq!(cause("draft"), "kim: asked for (irc)");
    assert!(cause("failed").starts_with("bot: ") && cause("failed").contains("outputs.failed == 0"), "{told:#?}");
    assert!(cause("paused").contains("test: "), "{told:#?}");
    assert_eq!(cause("cancelling"), "kim: cancelled");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn an_undoing_that_is_aborted_says_so_and_by_whom_and_can_go_on() {
    let (test, _) = with(&shop("{mode: never, lock: true}", "undo")).await;
    for words in ["!deploy shop/v1", "!deploy shop/v2"] {
        test.user("kim").says(CHANNEL, words).await;
        test.advance(6 * SECOND).await;
        test.expect(CHANNEL, "is live on dev").await;
    }
    test.user("kim").says(CHANNEL, "!rollback 2").await;
    test.expect(CHANNEL, "[3] rollback shop dev v2 -> v1 started by kim (run 2)").await;
    test.advance(2 * SECOND).await;
    test.user("raj").says(CHANNEL, "!abort 3").await;
    test.expect(
        CHANNEL,
        "[3] rollback shop dev v2 -> v1 aborted by raj after 2s; dev may have some of either. Go on: !retry 3 | anew: !rollback 2",
    )
    .await;
    assert!(!test.transcript().iter().any(|line| line.contains("no stage says why")), "{:#?}", test.transcript());
    assert_eq!((state(&test, 2).await, state(&test, 3).await), (RunState::RollbackFailed, RunState::Cancelled));
    let events = test.started().pipelines().records().events(2).await.unwrap();
    assert_eq!(events.last().unwrap().actor, "raj", "the run that is half undone knows by whom");
    test.user("kim").says(CHANNEL, "!retry 3").await;
    test.advance(6 * SECOND).await;
    test.expect(CHANNEL, "[3] shop v1 is live again on dev").await;
    assert_eq!((state(&test, 2).await, state(&test, 3).await), (RunState::RolledBack, RunState::Succeeded));
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_bot_undoes_in_vain_is_offered_to_who_asked_for_the_run_and_to_nobody_where_a_program_did() {
    let broken = shop("auto", "{acted: {takes: 5s, fails: 9, line: no way back}}");
    let (test, _) = with(&broken).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(6 * SECOND).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2 bad=1").await;
    test.advance(12 * SECOND).await;
    test.expect(CHANNEL, "[3] rollback shop dev FAILED in undo-rollout").await;
    test.expect(CHANNEL, "[3] kim: !retry 3 undo-rollout | !tail 3 | leave.").await;
    assert!(!test.transcript().iter().any(|line| line.contains("bot: ")), "{:#?}", test.transcript());
    stop(&test).await;
    let (test, _) =
        with(&broken.replacen("app: shop", &format!("app: shop\nannounce: {{channels: [\"{CHANNEL}\"]}}"), 1)).await;
    let params = serde_json::Map::from_iter([("bad".to_owned(), Value::from(1))]);
    let prepared = Prepared { app: "shop".to_owned(), params, unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("webhook"), may: May::all() };
    test.started().pipelines().ask(asked).await.unwrap();
    test.advance(6 * SECOND).await;
    let line = test.expect(CHANNEL, "!retry 1 rollout | !tail 1 | leave.").await;
    assert!(!line.contains("webhook: "), "{line}");
    stop(&test).await;
}
