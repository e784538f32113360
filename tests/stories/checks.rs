//! What others are asked before a run may begin: a forge about its commit, Prometheus about a figure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::contract::{Future, Secret};
use masterchief::executors::{Class, End, Executor, Forge, ForgeKind, Hands, Settings, Step};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::acted::Acted;
use super::deploys::{builder, stop, with};
use super::steps::{Bench, failed};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Says what it is told to say.
#[derive(Clone, Default)]
struct Oracle(Arc<Mutex<Option<String>>>, Arc<Mutex<Vec<Value>>>);

impl Oracle {
    fn says(&self, fault: Option<&str>) {
        *self.0.lock().unwrap() = fault.map(str::to_owned);
    }
}

impl Executor for Oracle {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, step: Step, _: Hands) -> Future<End> {
        self.1.lock().unwrap().push(step.settings);
        let fault = self.0.lock().unwrap().clone();
        Box::pin(async move { fault.map_or_else(End::done, |fault| End::failed(Class::TestFailed, fault)) })
    }
}

const SHOP: &str = r##"
app: shop
policy:
  environments:
    prod:
      require_flag: D
      checks: [ "app == 'shop'", { ci: { status: "ci/unit", commit: "9f3c1e2" } }, { metric: "prometheus:error_rate{app='shop'}<0.01" } ]
    dev: { confirm: never, require_flag: "-", checks: [ { ci: { status: "ci/{environment}", commit: abc } } ] }
stages:
  rollout: { acted: { takes: 5m } }
"##;

async fn asked() -> (TestBot, Oracle, Oracle, Acted) {
    let (acted, ci, metric) = (Acted::default(), Oracle::default(), Oracle::default());
    let builder = builder(&acted).executor("ci", ci.clone()).executor("verify", metric.clone());
    let test = TestBot::start(builder).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("ana").with_flags("+dD");
    test.user("kim").with_flags("+d");
    (test, ci, metric, acted)
}

#[tokio::test(start_paused = true)]
async fn checks_that_hold_are_in_the_plan_and_one_that_does_not_is_named_with_the_ways_out() {
    let (test, ci, metric, _) = asked().await;
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.expect(
        CHANNEL,
        "shop -> prod: v1 is the first there. Checks: ci/unit ok, error_rate{app='shop'}<0.01 ok. Plan: rollout.",
    )
    .await;
    assert_eq!(ci.1.lock().unwrap()[0], json!({"status": "ci/unit", "commit": "9f3c1e2", "wait": "0s"}));
    assert_eq!(
        metric.1.lock().unwrap()[0]["checks"],
        json!(["prometheus:error_rate{app='shop'}<0.01"]),
        "braces around labels are none of ours"
    );
    ci.says(Some("ci/unit of 9f3c1e2 is not green (failure)"));
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.expect(CHANNEL, "ana: shop/prod: a check does not hold: ci/unit of 9f3c1e2 is not green (failure). Mend it and ask again, or override: !deploy! shop/v1 to prod <reason>").await;
    metric.says(Some("Prometheus does not answer"));
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.expect(CHANNEL, "checks do not hold: ci/unit of 9f3c1e2 is not green (failure), error_rate{app='shop'}<0.01: Prometheus does not answer.").await;
    test.user("kim").says(CHANNEL, "!deploy shop to prod").await;
    test.expect(CHANNEL, "kim: you may deploy shop to dev, not to prod").await;
    // Who overrides sees what is overridden.
    test.user("ana").says(CHANNEL, "!deploy! shop/v1 to prod it burns").await;
    test.expect(CHANNEL, "Checks: ci/unit FAILED (overridden), error_rate{app='shop'}<0.01 FAILED (overridden).").await;
    test.user("ana").says(CHANNEL, "!yes 2").await;
    test.expect(CHANNEL, "[2] shop v1 -> prod started by ana (override: it burns).").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_asks_again_before_it_begins() {
    let (test, ci, _, acted) = asked().await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1 to dev").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev started by kim").await;
    assert_eq!(ci.1.lock().unwrap()[0]["status"], "ci/dev");
    test.user("kim").says(CHANNEL, "!deploy shop/v2 to dev").await;
    test.expect(CHANNEL, "[2] queued for shop/dev, place 1").await;
    ci.says(Some("ci/dev of abc is not green (failure)"));
    test.advance(6 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    test.expect(CHANNEL, "[2] v2 did not begin. shop/dev: a check does not hold: ci/dev of abc is not green (failure). Mend it and ask again, or override: !deploy! shop/v2 to dev <reason>").await;
    assert_eq!(acted.done(), ["rollout#1"]);
    // Once more is asked about anew, and what was booked too.
    ci.says(None);
    test.user("kim").says(CHANNEL, "!again 2").await;
    test.expect(CHANNEL, "[3] shop v2 -> dev started by kim").await;
    test.advance(6 * MINUTE).await;
    test.user("kim").says(CHANNEL, "!at 13:00 deploy shop/v3 to dev").await;
    test.expect(CHANNEL, "kim: booked: shop to dev at 13:00 UTC").await;
    ci.says(Some("red"));
    test.advance(60 * MINUTE).await;
    test.expect(CHANNEL, "[4] v3 did not begin. shop/dev: a check does not hold: ci/dev: red.").await;
    stop(&test).await;
}

/// A forge that knows two commits, and what it was asked.
async fn forge(pages: BTreeMap<&'static str, Value>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<Mutex<Vec<String>>>::default());
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 65536];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            kept.lock().unwrap().push(request);
            let page = pages.iter().rev().find(|(begin, _)| path.starts_with(**begin));
            let (status, body) = page.map_or((404, "{}".to_owned()), |(_, body)| (200, body.to_string()));
            let answer =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn knows(kind: ForgeKind, url: &str) -> Bench {
    let forge = Forge { kind, url: url.to_owned(), token: Some(Secret::new("forge-token-7")) };
    Bench::new(&Settings { forges: BTreeMap::from([("main".to_owned(), forge)]), ..Settings::default() })
}

async fn ci(bench: &Bench, settings: Value) -> End {
    assert_eq!(bench.executors["ci"].check(&settings), []);
    bench.run("ci", bench.step(settings)).await
}

fn line(end: End) -> String {
    failed(end).line
}

#[tokio::test]
async fn github_is_asked_for_statuses_and_for_check_runs() {
    let statuses = json!({"state": "failure", "statuses": [
        {"context": "ci/unit", "state": "success"}, {"context": "ci/ui", "state": "failure", "target_url": "https://ci.example/7"},
        {"context": "ci/load", "state": "pending"}]});
    let runs = json!({"check_runs": [{"id": 2, "name": "build", "status": "completed", "conclusion": "success"},
        {"id": 1, "name": "build", "status": "completed", "conclusion": "failure"}]});
    let pages = BTreeMap::from([
        ("/repos/acme/shop/commits/9f3c1e2/status?per_page=100&limit=100&page=1", statuses),
        ("/repos/acme/shop/commits/9f3c1e2/status", json!({"statuses": []})),
        ("/repos/acme/shop/commits/9f3c1e2/check-runs?check_name=build", runs),
        ("/repos/acme/shop/commits/9f3c1e2/check-runs", json!({"check_runs": []})),
    ]);
    let (url, asked) = forge(pages).await;
    let bench = knows(ForgeKind::Github, &url);
    let End::Done { summary, .. } = ci(&bench, json!("ci/unit")).await else { panic!() };
    assert_eq!(summary, "ci/unit is green");
    assert!(asked.lock().unwrap()[0].to_lowercase().contains("authorization: bearer forge-token-7"));
    let End::Done { .. } = ci(&bench, json!({"status": "build", "wait": "0s"})).await else { panic!() };
    let red = ci(&bench, json!({"status": "ci/ui", "wait": "0s"})).await;
    assert_eq!(line(red), "ci/ui of 9f3c1e2 is not green (failure, see https://ci.example/7)");
    let open = ci(&bench, json!({"status": "ci/load", "wait": "0s"})).await;
    assert_eq!(line(open), "ci/load of 9f3c1e2 is pending; ask again when it has ended");
    let none = ci(&bench, json!({"status": "ci/x", "wait": "0s"})).await;
    assert_eq!(line(none), "there is no ci/x of 9f3c1e2; is the commit pushed, and does CI know this name?");
    let lost = ci(&bench, json!({"status": "ci/unit", "commit": "abcdef0", "wait": "0s"})).await;
    assert!(line(lost).starts_with("main knows no commit abcdef0 of acme/shop; is it pushed"));
    let away = knows(ForgeKind::Github, "http://127.0.0.1:1");
    let away = ci(&away, json!({"status": "ci/unit", "wait": "0s"})).await;
    assert!(line(away).starts_with("main does not answer: "));
}

#[tokio::test]
async fn gitea_and_gitlab_are_asked_in_their_own_way() {
    let gitea = BTreeMap::from([(
        "/api/v1/repos/acme/shop/commits/9f3c1e2/status?",
        json!({"statuses": [{"context": "ci/unit", "status": "success"}, {"context": "ci/ui", "status": "error"}]}),
    )]);
    let (url, asked) = forge(gitea).await;
    let bench = knows(ForgeKind::Gitea, &url);
    assert!(matches!(ci(&bench, json!("ci/unit")).await, End::Done { .. }));
    assert!(asked.lock().unwrap()[0].to_lowercase().contains("authorization: token forge-token-7"));
    assert_eq!(line(ci(&bench, json!("ci/ui")).await), "ci/ui of 9f3c1e2 is not green (error)");
    let gitlab = BTreeMap::from([(
        "/api/v4/projects/team%2Fshop/repository/commits/9f3c1e2/statuses?name=unit",
        json!([{"id": 1, "name": "unit", "status": "failed"}, {"id": 5, "name": "unit", "status": "success"}]),
    )]);
    let (url, asked) = forge(gitlab).await;
    let bench = knows(ForgeKind::Gitlab, &url);
    assert!(matches!(ci(&bench, json!({"status": "unit", "project": "team/shop"})).await, End::Done { .. }));
    assert!(asked.lock().unwrap()[0].to_lowercase().contains("private-token: forge-token-7"));
}

#[tokio::test]
async fn a_stage_waits_until_its_status_is_there_and_can_be_stopped() {
    let (url, asked) =
        forge(BTreeMap::from([("/repos/", json!({"statuses": [{"context": "a", "state": "pending"}]}))])).await;
    let bench = knows(ForgeKind::Github, &url);
    let waiting =
        tokio::spawn(bench.executors["ci"].run(bench.step(json!({"status": "a", "every": "1s"})), bench.hands()));
    super::steps::until("it looks twice", || asked.lock().unwrap().len() > 1).await;
    assert_eq!(bench.notes.told.lock().unwrap().as_slice(), ["a of 9f3c1e2 is pending"]);
    bench.stop.send_replace(true);
    assert_eq!(tokio::time::timeout(5 * SECOND, waiting).await.unwrap().unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_told_is_overridden_like_one_that_does_not_hold() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\", checks: [\"size(files) < 100\"]}}}\nstages: {rollout: {acted: {takes: 5s}}}\n").await;
    // Nothing is live there, so nobody knows what changes.
    test.user("kim").says(CHANNEL, "!deploy shop to dev").await;
    let line = test.expect(CHANNEL, "kim: shop/dev: a check cannot be told: `size(files) < 100`").await;
    assert!(line.ends_with("; override with !deploy! and a reason"), "{line}");
    test.user("kim").says(CHANNEL, "!deploy! shop to dev the first time").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev started by kim (override: the first time).").await;
    stop(&test).await;
}
