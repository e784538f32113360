//! The words that only look: a channel where an app is deployed reads them; anywhere else it takes the flags of the app.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::{Asker, Catalog};

use super::acted::Acted;
use super::deploys::{builder, stop, with};

const SHOP: &str = "app: shop\npolicy:\n  environments:\n    staging: {confirm: never, require_flag: d}\n    prod: {confirm: never, require_flag: D}\nstages:\n  test: {acted: {takes: 5s}}\n";
/// What looks at an app or at a run of it.
const OF_AN_APP: &[&str] = &[
    "!who shop",
    "!deploys shop",
    "!queue shop",
    "!run 1",
    "!diff 1",
    "!tail 1",
    "!sal shop",
    "!dora shop",
    "!predict shop",
    "!flaky shop",
];
/// What looks at all of them.
const OF_ALL: &[&str] =
    &["!whatson", "!whatson prod 1h", "!slots", "!apps", "!booked", "!run 99", "!who shp", "!booked shop"];
const STRANGER: &str = "I do not know you: log in to services.";

async fn shop(text: &str) -> TestBot {
    let (test, _) = with(text).await;
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop/v1 to staging").await;
    test.advance(Duration::from_secs(10)).await;
    test.expect(CHANNEL, "[1] shop v1 is live on staging").await;
    test
}

#[tokio::test(start_paused = true)]
async fn in_private_a_stranger_sees_nothing_and_is_told_what_to_do() {
    let test = shop(SHOP).await;
    let shown =
        "shop is shown to who may deploy it, and in a channel where it is deployed from; ask there, or ask an owner.";
    for word in OF_AN_APP {
        test.user("mallory").says("chief", word).await;
        let line = test.expect("mallory", STRANGER).await;
        assert!(line.ends_with(shown), "{word}: {line}");
        // Who is known and may deploy nothing is no better off.
        test.user("zed").with_flags("+x").says("chief", word).await;
        let line = test.expect("zed", "shop is shown").await;
        assert!(line.ends_with(shown) && !line.contains("I do not know you"), "{word}: {line}");
    }
    for word in OF_ALL {
        test.user("mallory").says("chief", word).await;
        let line = test.expect("mallory", STRANGER).await;
        assert!(line.contains("all this is shown to who may deploy"), "{word}: {line}");
        assert!(!line.contains("Did you mean") && !line.contains("shop"), "nothing there is is named: {line}");
    }
    for word in ["!log shop it burns", "!queue 1", "!again 1"] {
        test.user("mallory").says("chief", word).await;
        test.advance(Duration::from_secs(1)).await;
    }
    let said = test.transcript();
    let told = said.iter().filter(|line| line.contains(" mallory "));
    assert!(!told.clone().any(|line| line.contains("v1") || line.contains("kim")), "{:#?}", told.collect::<Vec<_>>());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_deploy_anywhere_looks_in_private_and_everybody_in_the_channel() {
    let test = shop(SHOP).await;
    for (word, hears) in [
        ("!who shop", "shop: staging v1 by "),
        ("!deploys shop", "1 v1 "),
        ("!queue shop", "nobody waits for shop"),
        ("!run 1", "[1] shop v1 -> staging: succeeded"),
        ("!diff 1", "[1] no commits are known"),
        ("!sal shop", "deploy 1 v1 ok"),
        ("!apps", "shop (staging, prod)"),
        ("!slots", "memory of commands is "),
        ("!whatson", "prod at 12:"),
        ("!booked", "nothing is booked"),
        ("!who shp", "no app \"shp\". Did you mean shop?"),
    ] {
        test.user("kim").says("chief", word).await;
        test.expect("kim", hears).await;
        let target = if word.starts_with("!diff") { "mallory" } else { CHANNEL };
        test.user("mallory").says(CHANNEL, word).await;
        test.expect(target, hears).await;
    }
    // A log shows more than what became of it.
    test.user("mallory").says(CHANNEL, "!tail 1").await;
    test.expect(CHANNEL, "mallory: the log of run 1 is for those who may deploy shop/staging").await;
    // Who asked for a run sees it, whatever became of their flags.
    let user = masterchief::users::User::with_account("kim", "test", "kim", "").unwrap();
    test.started().book().put(user).unwrap();
    test.user("kim").says("chief", "!run 1").await;
    test.expect("kim", "[1] shop v1 -> staging: succeeded").await;
    test.user("kim").says("chief", "!who shop").await;
    test.expect("kim", "shop is shown to who may deploy it").await;
    // What is asked for counts as no line of the run.
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_names_its_channels_is_shown_there_and_where_it_is_told() {
    let text = SHOP.replace("policy:", "triggers: [{irc: {channels: [\"#shop\"]}}]\npolicy:");
    let (test, _) = with(&text).await;
    for word in ["!who shop", "!deploys shop"] {
        test.user("mallory").says(CHANNEL, word).await;
        test.expect(CHANNEL, "shop is shown to who may deploy it, and in #shop; ask there, or ask an owner.").await;
    }
    test.user("mallory").says(CHANNEL, "!apps").await;
    test.expect(CHANNEL, "all this is shown to who may deploy").await;
    test.user("kim").with_flags("+d").says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: staging nothing").await;
    stop(&test).await;

    let text = text.replace("stages:", &format!("announce: {{channels: [\"{CHANNEL}\"]}}\nstages:"));
    let (test, _) = with(&text).await;
    test.user("mallory").says(CHANNEL, "!who shop").await;
    test.expect(CHANNEL, "shop: staging nothing").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_everybody_may_deploy_is_shown_to_everybody_and_others_are_not_with_it() {
    let test = shop(SHOP).await;
    let wiki =
        "app: wiki\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages: {a: {acted: {}}}\n";
    test.started().put_pipeline("wiki", wiki).await.unwrap();
    test.user("mallory").says("chief", "!apps").await;
    let line = test.expect("mallory", "wiki (dev)").await;
    assert!(!line.contains("shop"), "{line}");
    test.user("mallory").says("chief", "!whatson").await;
    let line = test.expect("mallory", "nothing changed").await;
    assert!(!line.contains("shop"), "{line}");
    test.user("mallory").says("chief", "!who shop").await;
    test.expect("mallory", STRANGER).await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn the_table_of_who_may_what_knows_it_too() {
    use masterchief::pipelines::{May, permits};
    let test = TestBot::start(builder(&Acted::default())).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap();
    let catalog: std::sync::Arc<Catalog> = test.started().pipelines().catalog();
    let stranger = |place: &str| Asker {
        handle: "*".to_owned(),
        place: place.to_owned(),
        origin: "irc".to_owned(),
        ..Asker::default()
    };
    let may = |word: &str, place: &str| {
        permits(&catalog, &Default::default(), (word, "shop"), (&stranger(place), &May::nothing())).is_ok()
    };
    for word in ["!who", "!deploys", "!sal", "!apps", "!run"] {
        assert!(may(word, "test/#ops") && !may(word, "test/mallory"), "{word}");
    }
    test.stop().await;
}
