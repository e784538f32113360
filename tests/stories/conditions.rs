//! When a stage has its turn: how what it needs ended, its condition, and what runs beside it.

use std::time::Duration;

use masterchief::bot::CHANNEL;
use masterchief::pipelines::StageState;

use super::deploys::{stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn each_form_of_need_meets_each_end_as_its_table_says() {
    // How a stage ends, and whether what needs it as `a`, `a?`, `a.failed` and `a.done` runs.
    for (how, wanted) in [
        ("acted: {}", [true, true, false, true]),
        ("acted: {fails: 9}", [false, false, true, true]),
        ("acted: {fails: 9}, on_failure: continue", [true, true, false, true]),
        ("acted: {}, when: \"false\"", [false, true, false, true]),
    ] {
        let text = format!(
            "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  a: {{{how}}}\n  plain: {{needs: [a], acted: {{}}}}\n  optional: {{needs: [\"a?\"], acted: {{}}}}\n  failed: {{needs: [a.failed], acted: {{}}}}\n  done: {{needs: [a.done], acted: {{}}}}\n"
        )
        .replace("  failed:", "  broken:");
        let (test, acted) = with(&text).await;
        test.user("kim").says(CHANNEL, "!deploy shop").await;
        test.advance(10 * SECOND).await;
        let done = acted.done();
        let ran = ["plain#1", "optional#1", "broken#1", "done#1"].map(|name| done.contains(&name.to_owned()));
        assert_eq!(ran, wanted, "{how}: {done:?}");
        let (_, stages) = test.started().pipelines().run(1).await.unwrap().unwrap();
        for (stage, ran) in stages[1..].iter().zip(ran) {
            assert_eq!(
                stage.state,
                if ran { StageState::Succeeded } else { StageState::Skipped },
                "{how}: {}",
                stage.name
            );
        }
        stop(&test).await;
    }
}

#[tokio::test(start_paused = true)]
async fn branches_that_need_nothing_of_each_other_run_at_the_same_time() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  a: {acted: {takes: 30s}}\n  b: {acted: {takes: 30s}}\n  b2: {needs: [b], acted: {takes: 30s}}\n  end: {needs: [a, b2], acted: {}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "is live on dev").await;
    let (run, stages) = test.started().pipelines().run(1).await.unwrap().unwrap();
    let of = |name: &str| {
        stages.iter().find(|one| one.name == name).map(|one| (one.started.unwrap(), one.ended.unwrap())).unwrap()
    };
    assert!(of("a").0 < of("b").1 && of("b").0 < of("a").1, "{stages:#?}");
    assert!(of("b2").0 >= of("b").1 && of("end").0 >= of("b2").1.max(of("a").1));
    assert!(run.finished.unwrap() - run.started.unwrap() < 65_000);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_done_in_any_case_may_still_have_a_condition() {
    let (test, acted) = with("app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  a: {acted: {fails: \"{params.bad}\"}}\nfinally:\n  sorry: {when: \"state == 'failed'\", acted: {}}\n  happy: {when: \"state == 'succeeded'\", acted: {}}\n  always: {acted: {}}\n").await;
    for (words, wanted) in [("", ["a#1", "always#1", "happy#1"]), (" bad=1", ["a#1", "always#1", "sorry#1"])] {
        let before = acted.done().len();
        test.user("kim").says(CHANNEL, &format!("!deploy shop{words}")).await;
        test.advance(10 * SECOND).await;
        let mut done = acted.done()[before..].to_vec();
        done.sort();
        assert_eq!(done, wanted);
    }
    stop(&test).await;
}
