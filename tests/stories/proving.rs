//! A stage whose work is done and that does not prove good; a canary's progress.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::StageState;

use super::acted::Acted;
use super::deploys::{builder, stop};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// `health` and `verify` are acted too.
async fn with(text: &str) -> (TestBot, Acted) {
    let acted = Acted::default();
    let builder = builder(&acted).executor("health", acted.clone()).executor("verify", acted.clone());
    let test = TestBot::start(builder).await.unwrap();
    test.started().put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("ana").with_flags("+dD");
    (test, acted)
}

const SHOP: &str = r##"
app: shop
params: { bad: { type: int, default: 0 }, broken: { type: int, default: 0 } }
policy: { environments: { dev: { confirm: never, require_flag: "-", rollback: { mode: offer, lock: false } } } }
stages:
  build: { acted: { takes: 10s } }
  rollout:
    needs: [build]
    acted: { takes: 60s, undo: 5s, fails: "{params.broken}", line: no image }
    health: { takes: 30s, fails: "{params.bad}", class: app_not_ready, line: "/health answers 503" }
    rollback: undo
"##;

async fn stage(test: &TestBot, run: i64, name: &str) -> StageState {
    let (_, stages) = test.started().pipelines().run(run).await.unwrap().unwrap();
    stages.into_iter().find(|one| one.name == name).unwrap().state
}

#[tokio::test(start_paused = true)]
async fn what_is_out_and_does_not_prove_good_is_faulty_and_nothing_to_go_back_to() {
    let (test, acted) = with(SHOP).await;
    let ana = test.user("ana");
    ana.says(CHANNEL, "!deploy shop/v1").await;
    test.advance(15 * SECOND).await;
    assert_eq!(stage(&test, 1, "rollout").await, StageState::Running);
    test.advance(60 * SECOND).await;
    assert_eq!(stage(&test, 1, "rollout").await, StageState::Validating);
    ana.says(CHANNEL, "!run 1").await;
    test.expect(CHANNEL, "rollout validating ").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    assert_eq!(stage(&test, 1, "rollout").await, StageState::Succeeded);

    ana.says(CHANNEL, "!deploy shop/v2 bad=9").await;
    test.advance(2 * MINUTE).await;
    let line = test.expect(CHANNEL, "[2] shop v2 -> dev FAULTY in rollout after 1m40s").await;
    assert!(line.contains("class: app-not-ready"), "{line}");
    test.expect(CHANNEL, "[2] | /health answers 503").await;
    test.expect(CHANNEL, "!rollback 2 (to v1").await;
    assert_eq!(stage(&test, 2, "rollout").await, StageState::Faulty);
    ana.says(CHANNEL, "!who shop").await;
    let line = test.expect(CHANNEL, "shop: dev v2 by a\u{200b}na").await;
    assert!(line.ends_with("(2) FAULTY"), "{line}");

    // What comes after it replaces it, and is undone to what was good.
    ana.says(CHANNEL, "!deploy shop/v3 bad=9").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "!rollback 3 (to v1").await;
    ana.says(CHANNEL, "!rollback 3").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[4] shop v1 is live again on dev").await;
    assert!(acted.done().contains(&"undid undo-rollout#1".to_owned()), "{:?}", acted.done());
    ana.says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: dev v1 by ").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_never_went_out_is_no_fault_of_what_is_live() {
    let (test, _) = with(SHOP).await;
    let ana = test.user("ana");
    ana.says(CHANNEL, "!deploy shop/v1").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    ana.says(CHANNEL, "!deploy shop/v2 broken=9").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 -> dev FAILED in rollout").await;
    ana.says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: dev v1 by ").await;
    // The next try of what failed proves good.
    ana.says(CHANNEL, "!deploy shop/v3 bad=1").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[3] shop v3 -> dev FAULTY in rollout").await;
    ana.says(CHANNEL, "!retry 3").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[3] shop v3 is live on dev").await;
    ana.says(CHANNEL, "!who shop").await;
    let line = test.expect(CHANNEL, "shop: dev v3 by ").await;
    assert!(!line.contains("FAULTY"), "{line}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_tells_its_share_its_figures_the_time_that_is_left_and_what_comes_then() {
    let text = "app: shop\npolicy: {environments: {prod: {require_flag: \"-\"}}}\nstages:\n  build: {acted: {}}\n  canary:\n    needs: [build]\n    acted: {weight: 10}\n    verify: {takes: 5m, tells: [\"errors 0.2% (base 0.2%), p95 181 ms (base 178 ms), 5 min left\"]}\n  rollout: {needs: [canary], acted: {}}\n";
    let (test, _) = with(text).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "ana: say \"!yes 1\"").await;
    test.user("ana").says(CHANNEL, "!yes 1").await;
    test.advance(MINUTE).await;
    let line = test.expect(CHANNEL, "canary 10%: ").await;
    assert!(
        line.ends_with("canary 10%: errors 0.2% (base 0.2%), p95 181 ms (base 178 ms), 5 min left; then rollout"),
        "{line}"
    );
    test.advance(6 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v2 is live").await;
    stop(&test).await;
}
