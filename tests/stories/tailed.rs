//! Words that only look or end something, each with what it shows: `!tail`, `!drop`, `!dora`, `!flaky`, `!whatson`, `!thaw`.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::contract::Future;
use masterchief::executors::{End, Executor, Hands, Step};
use masterchief::pipelines::RunState;
use serde_json::{Value, json};

use super::acted::Acted;
use super::deploys::{builder, state, stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Writes thirty lines into its log, each with what it was told.
struct Talks;

impl Executor for Talks {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let own = step.env.first().map(|(_, value)| value.reveal().to_owned()).unwrap_or_default();
            (1..=30).for_each(|line| hands.log.line(&format!("step {line} with {own}")));
            End::done()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_log_comes_in_private_slowly_and_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "hunter2-of-prod").unwrap();
    let test = TestBot::start(builder(&Acted::default()).executor("talks", Talks)).await.unwrap();
    let text = format!(
        "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: d}}}}}}\nstages: {{build: {{talks: {{}}, env: {{KEY: \"${{file:{}/key}}\"}}}}}}\n",
        dir.path().display()
    );
    test.started().put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[1] shop the newest is live").await;
    let before = test.said();
    test.user("kim").says(CHANNEL, "!tail 1").await;
    let heard = || -> Vec<String> {
        let after = test.transcript().into_iter().skip(before);
        after.filter(|line| line.contains("step ") || line.contains(" kim ")).collect()
    };
    test.expect("kim", "[1] build, the last 19 lines:").await;
    assert!(heard().len() <= 2, "one a second: {:#?}", heard());
    test.advance(5 * SECOND).await;
    assert!((5..=8).contains(&heard().len()), "one a second: {:#?}", heard());
    test.advance(25 * SECOND).await;
    let heard = heard();
    assert_eq!(heard.len(), 20, "{heard:#?}");
    assert!(heard.iter().all(|line| line.starts_with("NOTICE kim ")), "{heard:#?}");
    assert_eq!(heard.last().unwrap(), "NOTICE kim step 30 with ***");
    assert!(heard[1].starts_with("NOTICE kim step 12 "), "{heard:#?}");
    stop(&test).await;
}

const SHOP: &str = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {prod: {confirm: never, require_flag: d}}}\nstages: {rollout: {acted: {takes: 30s, fails: \"{params.bad}\", class: network, line: registry timed out}}}\n";

#[tokio::test(start_paused = true)]
async fn what_waits_is_dropped_by_its_word() {
    let (test, acted) = with(SHOP).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(CHANNEL, "[1] shop v1 -> prod started").await;
    test.user("raj").says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "[2] queued for shop/prod, place 1 (1 by kim in rollout). !queue shop, !drop 2").await;
    test.user("raj").says(CHANNEL, "!drop 2").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod aborted by raj.").await;
    test.advance(MINUTE).await;
    assert_eq!((state(&test, 2).await, acted.done()), (RunState::Cancelled, vec!["rollout#1".to_owned()]));
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn how_an_app_does_and_what_fails_most_is_told_in_the_channel() {
    let (test, _) = with(SHOP).await;
    for (number, words) in
        [(1, "!deploy shop/v1"), (2, "!deploy shop/v2 bad=9"), (3, "!deploy shop/v3 bad=9"), (4, "!deploy shop/v4")]
    {
        test.user("kim").says(CHANNEL, words).await;
        test.advance(MINUTE).await;
        assert!(state(&test, number).await.ended());
    }
    test.user("kim").says(CHANNEL, "!flaky shop").await;
    test.expect(CHANNEL, "rollout network x2").await;
    test.user("kim").says(CHANNEL, "!dora shop 30d").await;
    let line = test.expect(CHANNEL, "shop, 30 days: ").await;
    assert!(line.contains("(2 ok, 2 failed)") && line.contains("change failure rate 50%"), "{line}");
    assert!(line.contains("time to restore "), "{line}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_alerts_since_are_told_and_a_freeze_is_ended_by_its_word() {
    let alerts = "app: shop\ntriggers: [{webhook: {bind: alerts/firing, when: \"false\"}}]\n";
    let (test, _) = with(&SHOP.replace("app: shop\n", alerts)).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(MINUTE).await;
    // Webhooks of Alertmanager have a bind; that it starts nothing is no matter here.
    test.advance(2 * SECOND).await;
    let fields = json!({"provider": "alertmanager", "event": "firing", "route": "alerts", "delivery": "a1"});
    let alert = json!({"kind": "webhook", "lane": "alerts", "key": "a1", "text": "HighErrors shop", "fields": fields});
    test.started().happens(serde_json::from_value(alert).unwrap()).await.unwrap();
    test.user("kim").says(CHANNEL, "!whatson").await;
    test.expect(
        CHANNEL,
        "prod at 12:01 UTC changed in the last hour: shop v1 (1). Alerts since: HighErrors shop 12:01.",
    )
    .await;
    test.user("kim").says(CHANNEL, "!freeze prod 2d stocktaking").await;
    test.expect(CHANNEL, "prod frozen by kim").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "kim: prod is frozen until").await;
    test.user("kim").says(CHANNEL, "!thaw prod").await;
    test.expect(CHANNEL, "prod is open again, says kim.").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "[2] shop v2 -> prod started by kim").await;
    test.advance(MINUTE).await;
    stop(&test).await;
}
