//! Runs over HTTP: the words of the channel for programs and people that have a token, and what can be looked at.

use masterchief::bot::{Bot, Started};
use masterchief::gateway;
use masterchief::pipelines::Settings;
use masterchief::users::{FlagSet, User};
use serde_json::{Value, json};

use super::acted::Acted;
use super::steps::{eventually, until};

const SHOP: &str = r#"
app: shop
params: { bad: { type: int, default: 0 }, hold: { type: string, default: 0s } }
policy:
  environments:
    dev: { confirm: never }
    prod: { confirm: never, approvals: { count: 1, from: [raj] } }
    night: { confirm: never, require_flag: "N" }
stages:
  test: { acted: { takes: "{params.hold}", outputs: { image: "shop:7" }, fails: "{params.bad}", line: it is broken, class: test_failed } }
  scan: { acted: { takes: 0s } }
  rollout: { needs: [test, scan], acted: { takes: 0s }, rollback: undo }
"#;

/// A bot with a gateway, and what it was asked.
struct World {
    bot: Started,
    acted: Acted,
    base: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

const CI: &str = "the-token-of-the-ci-server";
const ANA: &str = "the-token-of-ana-herself";
const RAJ: &str = "the-token-of-raj-himself";
const RAJ_READS: &str = "the-token-of-raj-that-only-looks";
const EYE: &str = "the-token-that-only-looks";

impl World {
    async fn new(text: &str) -> World {
        let settings: gateway::Settings = serde_json::from_value(json!({
            "listen": "127.0.0.1:0",
            "tokens": {
                "ci": {"token": CI, "flags": "DS"}, "eye": {"token": EYE},
                "anas": {"token": ANA, "flags": "DN", "handle": "ANA"}, "rajs": {"token": RAJ, "flags": "D", "handle": "raj"},
                "raj reads": {"token": RAJ_READS, "handle": "raj"},
                "gone": {"token": "the-token-of-somebody-gone", "flags": "D", "handle": "zoe"},
                "kim": {"token": "the-token-called-like-kim", "flags": "D"},
            },
        }))
        .unwrap();
        let acted = Acted::default();
        let folder = tempfile::tempdir().unwrap();
        let bot = Bot::builder().executor("acted", acted.clone()).pipelines(Settings::default()).gateway(settings);
        let bot = bot.data(folder.path()).start().await.unwrap();
        bot.put_pipeline("shop", text).await.unwrap();
        for (handle, flags) in [("ana", "D"), ("raj", "D"), ("kim", "D")] {
            let mut user = User::new(handle).unwrap();
            user.flags = FlagSet::parse(flags).unwrap();
            bot.put_user(user).await.unwrap();
        }
        let base = format!("http://{}", bot.gateway_at().unwrap());
        World { bot, acted, base, client: reqwest::Client::new(), _folder: folder }
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let sent = self.client.post(format!("{}/pipelines/{path}", self.base)).bearer_auth(token);
        let answer = sent.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let sent = self.client.get(format!("{}{path}", self.base)).bearer_auth(EYE).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    async fn begin(&self, token: &str, body: Value) -> i64 {
        let (status, told) = self.post(token, "trigger", body).await;
        assert_eq!(status, 202, "{told}");
        told["id"].as_i64().unwrap()
    }

    async fn becomes(&self, run: i64, state: &str) {
        eventually(state, async || self.get(&format!("/pipelines/{run}")).await.1["state"] == state).await;
    }
}

fn error(answer: &(u16, Value)) -> &str {
    answer.1["error"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_approval_by_http_needs_a_person_who_did_not_ask_and_the_code_of_what_was_shown() {
    let world = World::new(SHOP).await;
    let run = world.begin(ANA, json!({"app": "shop", "environment": "prod"})).await;
    world.becomes(run, "awaiting_approval").await;
    assert_eq!(world.get(&format!("/pipelines/{run}")).await.1["requester"], "ana", "however the token writes her");
    let approve =
        async |token: &str, code: &str| world.post(token, &format!("{run}/approve"), json!({"code": code})).await;
    let own = approve(ANA, "").await;
    assert_eq!((own.0, error(&own)), (403, "the one who asked cannot approve 1."));
    let program = approve(CI, "").await;
    assert!(program.0 == 403 && error(&program).contains("only somebody I know can approve"), "{program:?}");
    let asked = approve(RAJ, "").await;
    assert!(
        asked.0 == 422 && error(&asked).contains("!run 1 shows it"),
        "who is told the code need not look: {asked:?}"
    );
    let (_, shown) = world.get(&format!("/pipelines/{run}")).await;
    let code = shown["codes"][0].as_str().unwrap().to_owned();
    assert!(!error(&asked).contains(&code));
    assert_eq!(approve(CI, &code).await.0, 403, "the code alone is no person");
    assert_eq!(approve(ANA, &code).await.0, 403);
    // A token may what its flags allow, also one of somebody who may approve.
    let reading = approve(RAJ_READS, &code).await;
    assert!(reading.0 == 403 && error(&reading).contains("this token may not act on shop/prod"), "{reading:?}");
    assert_eq!(world.post(RAJ_READS, &format!("{run}/reject"), json!({"reason": "no"})).await.0, 403);
    assert_eq!(approve(RAJ, &code).await.0, 202);
    world.becomes(run, "succeeded").await;
    let (_, told) = world.get(&format!("/pipelines/{run}")).await;
    assert_eq!((&told["approvals"][0]["handle"], &told["approvals"][0]["code"]), (&json!("raj"), &json!(code)));

    let run = world.begin(CI, json!({"app": "shop", "environment": "prod"})).await;
    world.becomes(run, "awaiting_approval").await;
    let reject =
        async |token: &str, why: &str| world.post(token, &format!("{run}/reject"), json!({"reason": why})).await;
    assert_eq!(reject(CI, "no").await.0, 403);
    assert_eq!(reject(RAJ, "").await.0, 422, "without a reason it is not rejected");
    assert_eq!(reject(RAJ, "not on a Friday").await.0, 202);
    world.becomes(run, "rejected").await;
    world.bot.stop("").await;
}

#[tokio::test]
async fn a_token_may_what_its_flags_allow_and_no_more_than_its_person_may() {
    let world = World::new(SHOP).await;
    let dev = json!({"app": "shop", "environment": "dev"});
    let night = world.post(ANA, "trigger", json!({"app": "shop", "environment": "night"})).await;
    assert_eq!(night.0, 403, "the token has N, and ana has not: {night:?}");
    let gone = world.post("the-token-of-somebody-gone", "trigger", dev.clone()).await;
    assert!(gone.0 == 403 && error(&gone).contains("zoe's, who is not known any more"), "{gone:?}");
    let like = world.post("the-token-called-like-kim", "trigger", dev.clone()).await;
    assert!(like.0 == 403 && error(&like).contains("say whose it is with `handle`"), "{like:?}");
    let run = world.begin(CI, json!({"app": "shop", "environment": "dev", "params": {"hold": "60s"}})).await;
    world.becomes(run, "running").await;
    for (word, body) in [
        (format!("{run}/abort"), json!({})),
        (format!("{run}/retry"), json!({})),
        (format!("{run}/rollback"), json!({})),
        (format!("{run}/promote"), json!({})),
        ("rollback".to_owned(), json!({"app": "shop", "environment": "dev"})),
        ("lock".to_owned(), json!({"place": "shop/dev", "reason": "mine"})),
        ("unlock".to_owned(), json!({"place": "shop/dev", "reason": "mine"})),
        ("freeze".to_owned(), json!({"scope": "*", "reason": "mine"})),
        ("thaw".to_owned(), json!({"scope": "dev"})),
    ] {
        let answer = world.post(EYE, &word, body).await;
        assert!(answer.0 == 403 || answer.0 == 409 && word == "unlock", "{word}: {answer:?}");
    }
    // What a build tells needs the same flags, whatever is in its words.
    let spoken = world.post(EYE, "stage", json!({"run": run, "stage": "Deploy", "status": "running"})).await;
    assert!(spoken.0 == 403 && error(&spoken).contains("may not speak for shop/dev"), "{spoken:?}");
    assert_eq!(world.post(CI, "stage", json!({"run": 777, "stage": "there is no run"})).await.0, 404);
    let unknown = world.post(CI, "trigger", json!({"app": "shoop", "environment": "dev"})).await;
    assert!(unknown.0 == 404 && unknown.1["kind"] == "unknown", "{unknown:?}");
    let nowhere = world.post(CI, "trigger", json!({"app": "shop", "environment": "you may not"})).await;
    assert_eq!(nowhere.0, 404, "a status is not read out of words: {nowhere:?}");
    assert_eq!(world.post(EYE, &format!("{run}/dance"), json!({})).await.0, 404);
    assert_eq!(world.post(CI, "777/abort", json!({})).await.0, 404);
    assert_eq!(
        world.post(CI, &format!("{run}/abort"), json!({"wy": 1})).await.0,
        422,
        "a word that is not known is told"
    );
    assert_eq!(world.post(CI, &format!("{run}/abort"), json!({})).await.0, 202);
    world.becomes(run, "cancelled").await;
    assert_eq!(world.post(EYE, &format!("{run}/again"), json!({})).await.0, 403);
    assert!(!world.acted.done().iter().any(|done| done.starts_with("test")), "{:?}", world.acted.done());
    world.bot.stop("").await;
}

#[tokio::test]
async fn what_failed_is_tried_again_undone_and_asked_for_once_more_and_places_are_locked_and_frozen() {
    let world = World::new(SHOP).await;
    let run = world.begin(CI, json!({"app": "shop", "environment": "dev", "params": {"bad": 1}})).await;
    world.becomes(run, "failed").await;
    let (_, told) = world.get(&format!("/runs/{run}/summary")).await;
    assert_eq!((&told["failed"], &told["stages"]["failed"]), (&json!("test"), &json!(1)), "{told}");
    assert_eq!(told["failure"]["line"], "it is broken");
    assert!(told["lines"][0].as_str().unwrap().contains("shop") && told["took"].is_i64(), "{told}");
    let wrong = world.post(CI, &format!("{run}/retry"), json!({"stage": "rollout"})).await;
    assert!(wrong.0 == 422 && error(&wrong).contains("these did: test"), "{wrong:?}");
    assert_eq!(world.post(CI, &format!("{run}/retry"), json!({"stage": "test"})).await.0, 202);
    world.becomes(run, "succeeded").await;
    let (_, told) = world.get(&format!("/pipelines/{run}")).await;
    let test = told["stages"].as_array().unwrap().iter().find(|one| one["name"] == "test").unwrap().clone();
    let attempts = test["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[0]["class"], &test["outputs"]["image"]),
        (2, &json!("test_failed"), &json!("shop:7"))
    );
    let (_, events) = world.get(&format!("/pipelines/{run}/events")).await;
    assert!(events.as_array().unwrap().len() > 5 && events[0]["seq"] == 1, "{events}");

    let (status, told) = world.post(CI, &format!("{run}/again"), json!({})).await;
    assert_eq!(status, 202, "{told}");
    let again = told["id"].as_i64().unwrap();
    world.becomes(again, "failed").await;
    let place = json!({"place": "shop/dev", "for": "2h", "reason": "replica rebuild"});
    assert_eq!(world.post(CI, "extend", json!({"place": "shop/dev"})).await.0, 422);
    let (status, told) = world.post(CI, "lock", place).await;
    assert!(status == 202 && told["lines"][0].as_str().unwrap().contains("shop/dev locked by ci"), "{told}");
    let waiting = world.begin(RAJ, json!({"app": "shop", "environment": "dev"})).await;
    world.becomes(waiting, "queued").await;
    let (_, queue) = world.get("/pipelines/queue?app=shop").await;
    assert!(queue["lines"][0].as_str().unwrap().contains(&format!("{waiting} ")), "{queue}");
    let (status, told) = world.post(RAJ, &format!("{waiting}/queue"), json!({})).await;
    assert!(status == 202 && told["lines"][0].as_str().unwrap().contains("has place"), "{told}");
    let other = world.post(RAJ, "unlock", json!({"place": "shop/dev"})).await;
    assert!(other.0 == 409 && error(&other).contains("ci's lock"), "{other:?}");
    assert_eq!(world.post(CI, "unlock", json!({"place": "shop/dev"})).await.0, 202);
    assert_eq!(world.post(RAJ, &format!("{waiting}/abort"), json!({})).await.0, 202);
    world.becomes(waiting, "cancelled").await;
    assert_eq!(world.post(CI, "freeze", json!({"scope": "shop/dev", "for": "1d", "reason": "fair"})).await.0, 202);
    let frozen = world.post(CI, "trigger", json!({"app": "shop", "environment": "dev"})).await;
    assert!(frozen.0 == 409 && error(&frozen).contains("fair") && frozen.1["kind"] == "conflict", "{frozen:?}");
    assert_eq!(world.post(CI, "thaw", json!({"scope": "shop/dev"})).await.0, 202);
    let (status, told) = world.post(CI, &format!("{run}/rollback"), json!({})).await;
    assert_eq!(status, 409, "what came after it was asked for first: {told}");
    world.bot.stop("").await;
}

#[tokio::test]
async fn a_trigger_leaves_out_what_it_is_told_to_and_deploys_a_tag() {
    let world = World::new(SHOP).await;
    let body = json!({"app": "shop", "environment": "dev", "skip_tests": true, "skip_security_scan": true, "deploy_tag": "v2"});
    let run = world.begin(CI, body).await;
    world.becomes(run, "succeeded").await;
    assert_eq!(world.acted.done(), ["rollout#1"]);
    assert_eq!(world.get(&format!("/pipelines/{run}")).await.1["version"], "v2");
    let declared = "app: tool\nparams: {skip_tests: {type: bool, default: false}, deploy_tag: {type: string, default: none}}\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  check: {when: \"!params.skip_tests\", acted: {takes: 0s}}\n  ship: {needs: [\"check?\"], acted: {takes: 0s, outputs: {tag: \"{params.deploy_tag}\"}}}\n";
    world.bot.put_pipeline("tool", declared).await.unwrap();
    let run = world.begin(CI, json!({"app": "tool", "skip_tests": true, "deploy_tag": "v3"})).await;
    world.becomes(run, "succeeded").await;
    let (_, told) = world.get(&format!("/pipelines/{run}")).await;
    assert_eq!((&told["stages"][0]["status"], &told["stages"][1]["outputs"]["tag"]), (&json!("skipped"), &json!("v3")));
    let nothing = world.post(CI, "trigger", json!({"app": "tool", "skip_security_scan": true})).await;
    assert!(nothing.0 == 422 && error(&nothing).contains("nothing to leave out"), "{nothing:?}");
    let (_, dora) = world.get("/pipelines/dora?app=shop&last=7d").await;
    assert_eq!((&dora["good"], &dora["bands"][2]), (&json!(1), &json!("elite")), "{dora}");
    assert_eq!(world.get("/metrics/dora?app=shop&last=7d").await.1["good"], 1);
    assert_eq!(world.get("/pipelines/dora?app=shop&last=soon").await.0, 422);
    let (_, who) = world.get("/pipelines/who?app=shop").await;
    assert!(who["lines"][0].as_str().unwrap().contains("dev v2 by ci"), "{who}");
    let (_, page) = world.get(&format!("/pipelines/?limit=1&below={run}")).await;
    assert_eq!((page.as_array().unwrap().len(), &page[0]["id"]), (1, &json!(run - 1)));
    world.bot.stop("").await;
}

#[tokio::test]
async fn what_a_run_kept_is_listed_and_fetched_by_those_who_may_deploy_there_and_nothing_else_is() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n  build: {shell: [sh, -c, \"mkdir -p out/a; printf 'the bytes' > 'out/a/b c.txt'; echo secret > kept-back\"], collect: {artifacts: [\"out/**\"]}}\n";
    let world = World::new(text).await;
    let run = world.begin(CI, json!({"app": "shop"})).await;
    world.becomes(run, "succeeded").await;
    let (_, kept) = world.get(&format!("/pipelines/{run}/artifacts")).await;
    assert_eq!(
        (kept.as_array().unwrap().len(), &kept[0]["path"], &kept[0]["bytes"]),
        (1, &json!("out/a/b c.txt"), &json!(9))
    );
    let fetch = async |token: &str, path: &str| {
        let url = format!("{}/pipelines/{run}/artifacts/{path}", world.base);
        let answer = world.client.get(url).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(fetch(CI, "build/out/a/b%20c.txt").await, (200, "the bytes".to_owned()));
    assert_eq!(fetch(EYE, "build/out/a/b%20c.txt").await.0, 403);
    for path in [
        "build/kept-back",
        "build/out/a/..%2f..%2f..%2f..%2fworkspace%2fkept-back",
        "build/%2fetc%2fpasswd",
        "..%2fbuild/log",
    ] {
        assert_eq!(fetch(CI, path).await.0, 404, "{path}");
    }
    // A link in its place is not followed out of the folder.
    let file = world.bot.pipelines().folder().join(format!("{run}/build/1/artifacts/out/a/b c.txt"));
    until("the file", || file.is_file()).await;
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    assert_eq!(fetch(CI, "build/out/a/b%20c.txt").await.0, 404);
    world.bot.stop("").await;
}

#[tokio::test]
async fn who_has_a_token_hears_of_runs_as_they_change_until_it_is_taken_away() {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::tungstenite::{Error, Message};

    let world = World::new(SHOP).await;
    let host = world.base.strip_prefix("http://").unwrap().to_owned();
    let listen = async |path: &str, token: &str| {
        let mut request = format!("ws://{host}/pipelines/ws{path}").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
    };
    let refused = listen("", "wrong").await;
    assert!(matches!(&refused, Err(Error::Http(answer)) if answer.status() == 401), "{refused:?}");
    assert_eq!(world.get("/pipelines/ws").await.0, 426, "it is no page");
    let mut all = listen("?app=shop", EYE).await.unwrap();
    let mut other = listen("?app=tool", EYE).await.unwrap();
    let run = world.begin(CI, json!({"app": "shop", "environment": "dev"})).await;
    let mut heard = Vec::new();
    while let Some(Ok(message)) = all.next().await {
        let Message::Text(text) = message else { continue };
        let news: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&news["run"], &news["app"]), (&json!(run), &json!("shop")));
        heard.push(format!(
            "{} {}",
            news["stage"].as_str().unwrap_or("run"),
            news["stage_state"].as_str().unwrap_or("")
        ));
        if news["state"] == "succeeded" {
            break;
        }
    }
    for wanted in ["test running", "scan succeeded", "rollout succeeded"] {
        assert!(heard.iter().any(|one| one == wanted), "no {wanted} in {heard:?}");
    }
    let first = tokio::time::timeout(std::time::Duration::from_millis(200), async {
        loop {
            if let Some(Ok(Message::Text(text))) = other.next().await {
                return text;
            }
        }
    });
    assert!(first.await.is_err(), "what is not meant is not told");
    // The token is taken away: whoever listens with it hears nothing more.
    let without = serde_json::from_value(json!({"tokens": {"ci": {"token": CI, "flags": "D"}}})).unwrap();
    let config = masterchief::config::Config { gateway: without, ..masterchief::config::Config::default() };
    world.bot.reconfigure(&config).await.unwrap();
    world.bot.put_pipeline("shop", SHOP).await.unwrap();
    world.begin(CI, json!({"app": "shop", "environment": "dev"})).await;
    let last = loop {
        match all.next().await {
            Some(Ok(Message::Close(why))) => break why,
            Some(Ok(Message::Text(text))) => panic!("it hears {text}"),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last.map(|why| u16::from(why.code)), Some(4401));
    world.bot.stop("").await;
}
