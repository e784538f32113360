//! A stage whose work is done and that does not prove good; a canary's progress.

use std::time::Duration;

use masterchief::bot::Started;
use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, StageState};

use super::acted::Acted;
use super::deploys::{builder, stop};
use super::steps::eventually;

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
        line.ends_with("canary 10%: errors 0.2% (base 0.2%), p95 181 ms (base 178 ms), 5 min left; then rollout."),
        "{line}"
    );
    test.advance(6 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v2 is live").await;
    stop(&test).await;
}

/// The clock is real here: the bot ends and another takes up what it left.
#[tokio::test]
async fn after_a_restart_what_is_done_is_not_done_again_and_what_is_paused_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    // The steps of a bot that ended go on here, in the same process.
    let (acted, looks) = (Acted::default(), Acted::default());
    let text = "app: shop\npolicy: {concurrency: {group: \"{run.number}\"}, environments: {dev: {confirm: never}}}\nstages:\n  rollout: {acted: {takes: 1s}, health: {takes: 3s}}\n  wait: {wait: 2s}\n  after: {needs: [rollout, wait], acted: {takes: 1s}}\n";
    let start = async || {
        let builder = builder(&acted).executor("health", looks.clone()).data(dir.path());
        let bot = builder.start().await.unwrap();
        bot.put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot
    };
    let ask = async |bot: &Started, ask: Ask| {
        let who = Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), ..Asker::default() };
        bot.pipelines().ask(Asked { ask, who, may: May::all() }).await.unwrap().run
    };
    let stage = async |bot: &Started, run: i64, name: &str| {
        let (_, stages) = bot.pipelines().run(run).await.unwrap().unwrap();
        stages.into_iter().find(|one| one.name == name).unwrap().state
    };
    let bot = start().await;
    for _ in 0..2 {
        let prepared = Prepared { app: "shop".to_owned(), ..Prepared::default() };
        ask(&bot, Ask::Deploy(Box::new(prepared))).await.unwrap();
    }
    ask(&bot, Ask::Pause(2, "why not".to_owned())).await;
    for run in [1, 2] {
        eventually("it is looked at", async || stage(&bot, run, "rollout").await == StageState::Validating).await;
    }
    bot.stop("").await;

    let bot = start().await;
    for run in [1, 2] {
        eventually("it proves good", async || stage(&bot, run, "rollout").await == StageState::Succeeded).await;
    }
    let (run, _) = bot.pipelines().ended(1).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(stage(&bot, 2, "wait").await, StageState::Waiting, "its clock stands still too");
    assert_eq!(stage(&bot, 2, "after").await, StageState::Pending);
    assert_eq!(bot.pipelines().run(2).await.unwrap().unwrap().0.state, RunState::Paused);
    ask(&bot, Ask::Resume(2)).await;
    let (run, _) = bot.pipelines().ended(2).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded);
    let count = |name: &str| acted.done().iter().filter(|done| *done == name).count();
    assert_eq!((count("rollout#1"), count("after#1")), (2, 2), "{:?}", acted.done());
    bot.stop("").await;
}
