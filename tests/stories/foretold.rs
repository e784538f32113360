//! How likely a deployment is to fail: told before it begins, once enough is known, and kept as it was told.

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, Settings};
use serde_json::{Map, Value, json};

use super::acted::Acted;

const SHOP: &str = "app: shop\nparams: {bad: {type: int, default: 0}, alone: {type: bool, default: false}}\npolicy: {environments: {dev: {require_flag: \"-\", approvals: {count: 1, from: [raj], when: \"!params.alone && risk > 0.5\"}}}}\nstages:\n  rollout: {acted: {takes: 1s, fails: \"{params.bad}\", class: test_failed, line: it is broken}}\n";

async fn bot() -> TestBot {
    let builder = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default());
    let test = TestBot::start(builder).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("ana").with_flags("+d");
    test
}

/// A run that goes well or not.
async fn ran(bot: &Started, bad: bool) {
    let params =
        Map::from_iter([("bad".to_owned(), json!(if bad { 9 } else { 0 })), ("alone".to_owned(), json!(true))]);
    let prepared = Prepared { app: "shop".to_owned(), params, unattended: true, ..Prepared::default() };
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who: Asker::program("ana"), may: May::all() };
    let number = bot.pipelines().ask(asked).await.unwrap().run.unwrap();
    bot.pipelines().ended(number).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_failures_is_told_its_risk_with_reasons_and_people_are_asked_by_it() {
    let test = bot().await;
    test.user("ana").says(CHANNEL, "!predict shop").await;
    test.expect(CHANNEL, "Risk: not enough history (0 runs of shop, 0 failed).").await;
    // Now and then one fails, and for a while most do.
    for _ in 0..3 {
        for outcome in "SSSSSSFSSSSSSSSSFFFSFFFFSFFF".chars() {
            ran(&test.started(), outcome == 'F').await;
        }
    }
    test.user("ana").says(CHANNEL, "!predict shop dev").await;
    let line = test.expect(CHANNEL, "shop -> dev: Risk ").await;
    assert!(line.contains("% (usual ") && line.contains("failed"), "{line}");
    test.expect(CHANNEL, "forecasts of the last 84 runs of shop: Brier 0.").await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2 to dev").await;
    let tense = test.expect(CHANNEL, "shop -> dev: v2").await;
    assert!(tense.contains("failed") && tense.contains(" such runs failed."), "{tense}");
    test.user("ana").says(CHANNEL, "!yes 85").await;
    test.expect(CHANNEL, "[85] shop v2 -> dev by ana needs 1 approval from raj").await;
    let bot_of = test.started();
    let told = bot_of.pipelines().run(85).await.unwrap().unwrap().0.risk.unwrap();
    assert!(told.useful && told.risk > 0.5 && (1..=3).contains(&told.reasons.len()), "{told:#?}");
    let first = &bot_of.pipelines().records().events(85).await.unwrap()[0];
    let written: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!((written["to"].as_str(), &written["risk"]), (Some("draft"), &json!(told)), "before anything else");
    test.user("ana").says(CHANNEL, "!abort 85").await;
    test.expect(CHANNEL, "[85] shop v2 -> dev aborted by ana").await;
    let (run, _) = bot_of.pipelines().run(85).await.unwrap().unwrap();
    assert_eq!(run.risk, Some(told), "what was told is as it was");
    // It is well again: nobody has to agree.
    for _ in 0..8 {
        ran(&bot_of, false).await;
    }
    test.user("ana").says(CHANNEL, "!deploy shop/v3 to dev").await;
    let calm = test.expect(CHANNEL, "shop -> dev: v3").await;
    assert!(calm.contains(" Risk "), "{calm}");
    test.user("ana").says(CHANNEL, "!yes 94").await;
    test.expect(CHANNEL, "[94] shop v3 is live on dev").await;
    drop(bot_of);
    test.stop().await;
}

#[tokio::test]
async fn a_bot_that_begins_anew_knows_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let begun = async || {
        let settings = Settings { folder: "".into(), ..Settings::default() };
        let builder = Bot::builder().executor("acted", Acted::default()).pipelines(settings).data(dir.path());
        let bot = builder.start().await.unwrap();
        bot.put_pipeline("shop", &SHOP.replace("takes: 1s", "takes: 0s")).await.unwrap();
        bot
    };
    let bot = begun().await;
    for n in 0..45 {
        ran(&bot, n % 10 >= 5).await;
    }
    let before = bot.pipelines().predict("shop", None, "ana").await.unwrap();
    bot.stop("").await;
    let bot = begun().await;
    let after = bot.pipelines().predict("shop", Some("dev"), "ana").await.unwrap();
    assert_eq!(after.report, before.report, "the same past gives the same forecasts");
    assert!(after.report.count == 45 && after.risk.is_some(), "{:#?}", after.report);
    assert!(bot.pipelines().predict("shop", Some("mars"), "ana").await.is_err());
    bot.stop("").await;
}
