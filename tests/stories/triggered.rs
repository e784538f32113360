//! What starts runs beside people: the clock, files, streams.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::journal::Fixture;
use masterchief::store::runs::Which;
use serde_json::{Value, json};

use super::acted::Acted;
use super::deploys::{builder, stop};

const SHOP: &str = r##"
app: shop
triggers:
  - time: { cron: "30 12 * * *", params: { environment: nightly } }
  - file: { bind: "/srv/drop/*.json", params: { note: "{event.name}" } }
  - stream: { bind: "kafka:releases", when: "event.go", params: { note: "{event.version}" } }
params: { environment: { type: choice, of: [dev, nightly], default: dev }, note: { type: string, default: none } }
policy: { environments: { dev: {}, nightly: {} } }
stages: { a: { acted: {} } }
"##;

async fn started() -> (TestBot, Acted) {
    let acted = Acted::default();
    let test = TestBot::start(builder(&acted)).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    // The binds take their places in the journal.
    test.advance(Duration::from_secs(2)).await;
    (test, acted)
}

fn happens(event: Value) -> Fixture {
    serde_json::from_value(event).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_clock_a_file_and_a_message_each_start_a_run() {
    let (test, acted) = started().await;
    let fields = json!({"path": "/srv/drop/orders.json", "name": "orders.json", "event": "created", "size": 2});
    let file = json!({"kind": "file", "lane": "/srv/drop/orders.json", "key": "f1", "text": "{}", "fields": fields});
    test.started().happens(happens(file)).await.unwrap();
    for (key, go) in [("s1", false), ("s2", true)] {
        let body = json!({"go": go, "version": "v7"});
        let fields = json!({"broker": "kafka", "topic": "releases", "partition": 0, "offset": 1});
        let event =
            json!({"kind": "stream", "lane": "kafka:releases", "key": key, "text": body.to_string(), "fields": fields});
        test.started().happens(happens(event)).await.unwrap();
    }
    test.advance(Duration::from_secs(10)).await;
    let run = async |number| test.started().pipelines().run(number).await.unwrap().map(|(run, _)| run);
    assert_eq!(
        run(1).await.map(|run| (run.asker.origin, run.params["note"].clone())),
        Some(("file".to_owned(), json!("orders.json")))
    );
    assert_eq!(
        run(2).await.map(|run| (run.asker.origin, run.params["note"].clone())),
        Some(("stream".to_owned(), json!("v7")))
    );
    assert_eq!(run(3).await, None, "what does not meet its condition starts nothing");
    test.user("root").with_flags("+m").says(CHANNEL, "!replay 3").await;
    test.expect(CHANNEL, "a run of shop is left out: this replay is dry").await;
    assert_eq!(run(3).await, None, "a replay that only looks starts nothing");
    test.advance(Duration::from_secs(31 * 60)).await;
    assert_eq!(run(3).await.map(|run| (run.asker.origin, run.env)), Some(("time".to_owned(), "nightly".to_owned())));
    assert_eq!(acted.done().len(), 3);
    test.expect_silence(CHANNEL, Duration::from_secs(1)).await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_finds_the_queue_full_is_asked_for_again_and_what_makes_no_sense_is_not() {
    let (test, acted) = started().await;
    let crowded = SHOP.replace("environments:", "concurrency: {on_busy: queue, max_queued: 1}, environments:");
    let slow = crowded.replace("app: shop", "app: slow").replace("acted: {}", "acted: {takes: 20s}");
    let slow =
        slow.replace("kafka:releases", "kafka:slow").replace("/srv/drop/", "/srv/slow/").replace("30 12", "30 11");
    test.started().put_pipeline("slow", &slow).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.advance(Duration::from_secs(2)).await;
    for key in ["s1", "s2", "s3"] {
        let body = json!({"go": true, "version": "v7"});
        let fields = json!({"broker": "kafka", "topic": "slow", "partition": 0, "offset": 1});
        let event =
            json!({"kind": "stream", "lane": "kafka:slow", "key": key, "text": body.to_string(), "fields": fields});
        test.started().happens(happens(event)).await.unwrap();
    }
    test.advance(Duration::from_secs(10)).await;
    let slow = async || {
        let which = Which { app: Some("slow".to_owned()), limit: 10, ..Which::default() };
        test.started().pipelines().list(which).await.unwrap().len()
    };
    assert_eq!(slow().await, 2, "one runs, one waits");
    test.advance(Duration::from_secs(300)).await;
    assert_eq!(slow().await, 3, "the third came in when there was room");
    assert!(acted.done().len() >= 3, "{:?}", acted.done());
    stop(&test).await;
}
