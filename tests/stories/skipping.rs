//! What may be left out, where it may be asked for, and who has to be there.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};

use super::acted::Acted;
use super::deploys::{builder, stop, with};

const SECOND: Duration = Duration::from_secs(1);

const SHOP: &str = r##"
app: shop
policy: { environments: { dev: { confirm: never, require_flag: d }, prod: { require_flag: d } } }
stages:
  test: { acted: {} }
  scan: { acted: {}, skip_flag: V }
  docs: { acted: {}, skip_flag: "-" }
  people: { needs: ["test?"], approve: { count: 1, expires: 5m, not_requester: false } }
  rollout: { needs: [people], acted: {} }
finally:
  cleanup: { acted: {} }
"##;

#[tokio::test(start_paused = true)]
async fn leaving_out_a_stage_needs_a_flag_and_everybody_reads_of_it() {
    let (test, acted) = with(SHOP).await;
    let kim = test.user("kim").with_flags("+d");
    kim.says(CHANNEL, "!deploy shop to dev --skip test").await;
    test.expect(CHANNEL, "kim: you may not leave out test (needs flag S); ask without --skip or --only").await;
    kim.says(CHANNEL, "!deploy shop to dev --skip docs,scan").await;
    test.expect(CHANNEL, "kim: you may not leave out scan (needs flag V)").await;
    kim.says(CHANNEL, "!deploy shop to dev --only rollout").await;
    test.expect(CHANNEL, "kim: you may not leave out test").await;
    kim.says(CHANNEL, "!at 13:00 deploy shop to dev --skip test").await;
    test.expect(CHANNEL, "kim: you may not leave out test").await;
    let ana = test.user("ana").with_flags("+dSV");
    ana.says(CHANNEL, "!deploy shop to dev --skip people").await;
    test.expect(CHANNEL, "ana: people cannot be left out: people or the clock decide there").await;
    ana.says(CHANNEL, "!deploy shop to dev --only rollout").await;
    test.expect(CHANNEL, "ana: people cannot be left out").await;
    ana.says(CHANNEL, "!deploy shop to dev --skip cleanup").await;
    test.expect(CHANNEL, "ana: cleanup is done in any case").await;
    ana.says(CHANNEL, "!deploy shop to dev --skip tset").await;
    test.expect(CHANNEL, "no stage \"tset\"; did you mean test?").await;
    assert!(acted.done().is_empty());

    ana.says(CHANNEL, "!deploy shop/v2 to prod --skip test,scan").await;
    test.expect(CHANNEL, "Plan: docs, people, rollout, skipping test, scan.").await;
    ana.says(CHANNEL, "!yes 1").await;
    test.expect(CHANNEL, "[1] shop v2 -> prod started by ana, skipping test, scan.").await;
    let line = test.expect(CHANNEL, "[1] shop v2 -> prod by ana needs 1 approval").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    ana.says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 is live on prod").await;
    let mut done = acted.done();
    done.sort();
    assert_eq!(done, ["cleanup#1", "docs#1", "rollout#1"]);
    ana.says(CHANNEL, "!sal shop today").await;
    test.expect(CHANNEL, "run 1 v2 started, skipping test, scan").await;
    // Once more is the whole of it.
    ana.says(CHANNEL, "!again 1").await;
    test.expect(CHANNEL, "Plan: test, scan, docs, people, rollout.").await;
    kim.says(CHANNEL, "!deploy shop to dev --skip docs").await;
    test.expect(CHANNEL, "started by kim, skipping docs.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_needs_a_flag_is_told_too() {
    let text = "app: shop\nparams: {skip_tests: {type: bool, default: false, needs_flag: S}}\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages:\n  test: {when: \"!params.skip_tests\", acted: {}}\n  rollout: {needs: [\"test?\"], acted: {}}\n";
    let (test, acted) = with(text).await;
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop skip_tests=yes").await;
    test.expect(CHANNEL, "kim: you may not set skip_tests (needs the flags S").await;
    test.user("ana").with_flags("+dS").says(CHANNEL, "!deploy shop skip_tests=yes").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started by ana, with skip_tests=true.").await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop the newest is live").await;
    assert_eq!(acted.done(), ["rollout#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_script_leaves_out_what_the_person_behind_it_may_and_it_is_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let script = "bot.caps{ pipelines = {\"shop\"} }\nbot.bind(\"pub\", \"-|-\", \"!ship\", function(ev)\n  pipeline.start(\"shop\", { env = \"dev\", skip = { \"test\" } })\nend)\n";
    std::fs::write(dir.path().join("ship.lua"), script).unwrap();
    let acted = Acted::default();
    let test = TestBot::start(builder(&acted).scripts(dir.path())).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap();
    test.user("kim").with_flags("+d").says(CHANNEL, "!ship").await;
    test.expect(CHANNEL, "kim: you may not leave out test (needs flag S)").await;
    test.user("ana").with_flags("+dS").says(CHANNEL, "!ship").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started by ana, skipping test.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_risk_that_nobody_foretells_asks_people() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\", approvals: {count: 1, when: \"risk > 0.3\"}}}}\nstages: {a: {acted: {}}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev by kim needs 1 approval").await;
    assert!(acted.done().is_empty());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_names_channels_is_asked_for_there_or_in_private() {
    let text = SHOP.replace("policy:", "triggers: [{ irc: { channels: [\"#shop\"] } }]\npolicy:");
    let (test, _) = with(&text).await;
    let kim = test.user("kim").with_flags("+d");
    kim.joins("#shop").await;
    kim.says(CHANNEL, "!deploy shop to prod").await;
    test.expect(CHANNEL, "kim: shop is deployed from #shop; ask there").await;
    kim.says(CHANNEL, "!deploy! shop to prod it burns").await;
    test.expect(CHANNEL, "kim: shop is deployed from #shop; ask there").await;
    kim.says(CHANNEL, "!at 13:00 deploy shop to prod").await;
    test.expect(CHANNEL, "kim: shop is deployed from #shop; ask there").await;
    kim.says("#shop", "!deploy shop to prod").await;
    test.expect("#shop", "kim: say \"!yes 1\"").await;
    kim.says("chief", "!deploy shop to prod").await;
    test.expect("kim", "say \"!yes 2\"").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_or_takes_another_nick_does_not_say_yes_any_more() {
    let (test, acted) = with(SHOP).await;
    for (number, line) in [(1, None), (2, Some("NICK kimberly"))] {
        let kim = test.user("kim").with_flags("+d");
        kim.joins(CHANNEL).await;
        kim.says(CHANNEL, "!deploy shop/v2 to prod").await;
        test.expect(CHANNEL, &format!("kim: say \"!yes {number}\"")).await;
        match line {
            None => test.net().quits("kim", "bye").await,
            Some(line) => test.net().from_person("kim", line).await,
        }
        let off = format!("[{number}] shop v2 -> prod is off: kim left before saying yes. Ask again: !again {number}");
        test.expect(CHANNEL, &off).await;
        test.user("kim").with_flags("+d").says(CHANNEL, &format!("!yes {number}")).await;
        test.expect(CHANNEL, &format!("kim: run {number} waits for no yes; it is expired")).await;
    }
    assert!(acted.done().is_empty());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_brings_the_version_out_and_was_left_out_did_not_go_live() {
    let shop = |rollout: &str, smoke: &str| {
        format!(
            "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: d}}}}}}\nstages:\n  test: {{acted: {{}}}}\n  rollout: {{needs: [test], acted: {{}}{rollout}}}\n  smoke: {{needs: [rollout], {smoke}}}\n"
        )
    };
    for (rollout, smoke) in [(", rollback: undo", "acted: {}"), (", live: true", "acted: {}"), ("", "nothing: true")] {
        let (test, acted) = with(&shop(rollout, smoke)).await;
        let ana = test.user("ana").with_flags("+dS");
        ana.says(CHANNEL, "!deploy shop/v1 --skip test").await;
        test.advance(5 * SECOND).await;
        test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
        ana.says(CHANNEL, "!deploy shop/v2 --skip rollout").await;
        test.advance(5 * SECOND).await;
        test.expect(CHANNEL, "[2] shop v2 -> dev: nothing went out").await;
        ana.says(CHANNEL, "!who shop").await;
        test.expect(CHANNEL, "shop: dev v1 by").await;
        assert!(acted.done().contains(&"rollout#1".to_owned()));
        stop(&test).await;
    }
}
