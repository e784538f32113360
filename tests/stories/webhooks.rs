//! Services post to the gateway.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Builder, Started};
use masterchief::contract::{Kind, Secret};
use masterchief::{config, gateway, journal};
use masterchief_bindings::webhook::{Preset, RateSettings, RouteSettings};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::conformance::{self, Heard, World};
use super::worlds::{Row, row};

const SECRET: &str = "hooks-of-the-story";

fn signed(body: &[u8], secret: &str) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let hex: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A client of HTTP, as anybody may have one.
pub(crate) fn client() -> reqwest::Client {
    // It is there already where another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn settings(port: u16) -> gateway::Settings {
    let route = |preset| RouteSettings { preset, secrets: vec![Secret::new(SECRET)], ..RouteSettings::default() };
    let answering = RouteSettings { answer: Duration::from_secs(5), ..route(Some(Preset::Github)) };
    let small = RouteSettings { max_body: Some(1000), ..route(Some(Preset::Github)) };
    let routes = [("github", route(None)), ("answering", answering), ("small", small), ("alertmanager", route(None))];
    gateway::Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        routes: routes.into_iter().map(|(name, route)| (name.to_owned(), route)).collect(),
        ..gateway::Settings::default()
    }
}

/// GitHub, as it posts pushes.
#[derive(Clone)]
struct GitHub {
    at: SocketAddr,
    client: reqwest::Client,
}

impl GitHub {
    fn of(started: &Started) -> GitHub {
        GitHub { at: started.gateway_at().unwrap(), client: client() }
    }

    fn request(&self, route: &str, event: &str, delivery: &str, body: &Value) -> reqwest::RequestBuilder {
        let body = body.to_string();
        self.client
            .post(format!("http://{}/hooks/{route}", self.at))
            .header("X-GitHub-Event", event)
            .header("X-GitHub-Delivery", delivery)
            .header("X-Hub-Signature-256", signed(body.as_bytes(), SECRET))
            .body(body)
    }

    async fn post(&self, route: &str, event: &str, delivery: &str, body: &Value) -> (u16, Value) {
        let answer = self.request(route, event, delivery, body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("http://{}{path}", self.at)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn push(text: &str) -> Value {
    json!({
        "ref": "refs/heads/main",
        "repository": {"full_name": "acme/shop"},
        "sender": {"login": "alice"},
        "head_commit": {"message": text},
        "commits": [{}],
    })
}

/// Posts a body in pieces, whose length nobody knows beforehand; the status.
async fn chunked(at: SocketAddr, path: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let signature = signed(body, SECRET);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for part in body.chunks(100) {
        let piece = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        // It may hang up before it has read everything.
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

async fn start(dir: &tempfile::TempDir, binds: impl FnOnce(Builder) -> Builder) -> Started {
    binds(Bot::builder().data(dir.path()).gateway(settings(0))).start().await.unwrap()
}

/// A sender that posts one after the other, and again while it is told to.
struct HookWorld {
    to: mpsc::Sender<String>,
    at: Arc<Mutex<Option<SocketAddr>>>,
    waits: Arc<AtomicBool>,
    port: u16,
}

static DELIVERY: AtomicU16 = AtomicU16::new(0);

impl HookWorld {
    async fn new() -> HookWorld {
        let (to, mut from) = mpsc::channel::<String>(4096);
        let (at, waits) = (Arc::<Mutex<Option<SocketAddr>>>::default(), Arc::<AtomicBool>::default());
        let (known, told) = (Arc::clone(&at), Arc::clone(&waits));
        let run = DELIVERY.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let client = client();
            let mut number = 0;
            while let Some(text) = from.recv().await {
                number += 1;
                loop {
                    let at = *known.lock().unwrap();
                    if let Some(at) = at {
                        let github = GitHub { at, client: client.clone() };
                        let body = push(&text);
                        let sent = github.request("github", "push", &format!("{run}-{number}"), &body).send().await;
                        match sent.map(|answer| answer.status().as_u16()) {
                            Ok(200..=299) => break,
                            Ok(503) => told.store(true, Ordering::Relaxed),
                            _ => {}
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        // A port that was free a moment ago, so that the sender finds the gateway again after a restart.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        HookWorld { to, at, waits, port }
    }
}

impl World for HookWorld {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn mask(&self) -> String {
        "github/push:acme/*#main".to_owned()
    }

    fn gateway(&self) -> gateway::Settings {
        settings(self.port)
    }

    fn started(&mut self, started: &Started) {
        *self.at.lock().unwrap() = started.gateway_at();
    }

    fn waits(&self, _: &Started) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    fn row(&self) -> Row {
        row("webhook")
    }

    /// A sender hangs up in the middle of a post, which is none then.
    async fn cut(&mut self) {
        let at = self.at.lock().unwrap().unwrap();
        let mut half = TcpStream::connect(at).await.unwrap();
        let head = "POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: push\r\nContent-Length: 1000\r\n\r\n{";
        half.write_all(head.as_bytes()).await.unwrap();
    }

    async fn poison(&mut self) -> Option<String> {
        let at = self.at.lock().unwrap().unwrap();
        let post = client().post(format!("http://{at}/hooks/github")).header("X-GitHub-Event", "push");
        let sent = post.header("X-Hub-Signature-256", signed(b"{", SECRET)).body("{").send().await.unwrap();
        assert_eq!(sent.status().as_u16(), 202);
        None
    }

    fn heard_as(&self, text: &str) -> String {
        let cut: String = format!("acme/shop main push by alice: 1 commit: {text}").chars().take(300).collect();
        cut
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            self.to.send(text.clone()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_pass_the_suite() {
    conformance::passes(HookWorld::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_answered_once_it_is_durable_and_handled_once_however_often_it_is_delivered() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = start(&dir, |bot| bot.bind(Kind::Webhook, "-|-", "github/push", heard.handler()).unwrap()).await;
    let github = GitHub::of(&started);
    let (status, answer) = github.post("github", "push", "d-1", &push("fix the till")).await;
    assert_eq!((status, &answer), (202, &json!({"event": 1})));
    let (status, answer) = github.post("github", "push", "d-1", &push("fix the till")).await;
    assert_eq!((status, answer), (200, json!({"event": 1, "duplicate": true})));
    heard.until(1).await;
    assert_eq!(heard.all(), ["acme/shop main push by alice: 1 commit: fix the till"]);
    let (status, _) = github.post("github", "fork", "d-2", &push("")).await;
    assert_eq!(status, 202, "an authentic event nobody bound is no fault of the sender");
    let (_, event) = started.journal().event(1).await.unwrap().unwrap();
    assert_eq!(event.field_str("repo"), "acme/shop");
    assert_eq!(event.json().unwrap()["sender"]["login"], "alice");
    let headers = event.field("headers").unwrap();
    assert!(headers.get("x-github-event").is_some() && headers.get("x-hub-signature-256").is_none(), "{headers}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_headers_may_be_written_in_any_case() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = start(&dir, |bot| bot.bind(Kind::Webhook, "-|-", "github/push", heard.handler()).unwrap()).await;
    let (at, body) = (started.gateway_at().unwrap(), push("fix the till").to_string());
    for signature in ["x-hub-signature-256", "X-HUB-SIGNATURE-256", "x-Hub-signature-256"] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = format!(
            "POST /hooks/github HTTP/1.1\r\nhost: x\r\nx-gitHUB-event: push\r\nX-GITHUB-DELIVERY: {signature}\r\n{signature}: {}\r\ncontent-LENGTH: {}\r\n\r\n{body}",
            signed(body.as_bytes(), SECRET),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..12], b"202", "{signature}");
    }
    heard.until(1).await;
    assert_eq!(started.journal().newest("", 10).await.unwrap().len(), 3, "each is another delivery");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_prove_who_they_are_is_refused_and_told_nothing() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = start(&dir, |bot| bot.bind(Kind::Webhook, "-|-", "*/*", heard.handler()).unwrap()).await;
    let github = GitHub::of(&started);
    let url = |route: &str| format!("http://{}/hooks/{route}", github.at);
    let status = |request: reqwest::RequestBuilder| async move {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (code, text) = status(github.client.post(url("github")).body("{}")).await;
    assert_eq!((code, text.contains("sha256")), (403, false));
    let wrong = github.client.post(url("github")).header("X-Hub-Signature-256", signed(b"{}", "guess")).body("{}");
    assert_eq!(status(wrong).await.0, 403);
    assert_eq!(status(github.client.post(url("nowhere")).body("{}")).await.0, 404);
    assert!([404, 405].contains(&status(github.client.put(url("github")).body("{}")).await.0));
    let big = vec![b' '; 2000];
    let too_big = |request: reqwest::RequestBuilder| request.header("X-Hub-Signature-256", signed(&big, SECRET));
    assert_eq!(status(too_big(github.client.post(url("small"))).body(big.clone())).await.0, 413);
    assert_eq!(chunked(github.at, "/hooks/small", &big).await, 413, "however it is sent");
    let broken = github.client.post(url("github")).header("X-Hub-Signature-256", signed(b"{", SECRET)).body("{");
    let (code, text) = status(broken).await;
    assert_eq!((code, text.contains(".dlq")), (202, true), "it is from GitHub, so it is kept: {text}");
    assert!(started.journal().newest("", 10).await.unwrap().is_empty());
    let dead = started.journal().dead_letters(10).await.unwrap();
    assert_eq!((dead.len(), &*dead[0].lane, dead[0].raw.as_deref()), (1, "github", Some(&b"{"[..])));
    assert!(dead[0].reason.contains("column 1"), "{}", dead[0].reason);
    let told = github.client.get(format!("http://{}/metrics", github.at)).send().await.unwrap().text().await.unwrap();
    for line in ["outcome=\"dead\"} 1", "outcome=\"unread\"} 2", "outcome=\"refused\"} 2"] {
        assert!(told.contains(&format!("masterchief_gateway_posts_total{{{line}")), "{line}: {told}");
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_whoever_posts_and_one_that_says_nothing_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let scripts = tempfile::tempdir().unwrap();
    std::fs::write(
        scripts.path().join("hooks.lua"),
        r#"bot.bind("webhook", "-|-", "github/issue_comment/created", function(ev)
            ev:respond{ status = 201, json = { said = ev.data.comment, on = ev.repo, try = ev.attempt } }
        end)"#,
    )
    .unwrap();
    let started = start(&dir, |bot| bot.scripts(scripts.path())).await;
    let github = GitHub::of(&started);
    let comment = json!({"action": "created", "comment": "/deploy", "repository": {"full_name": "acme/shop"}});
    let (status, answer) = github.post("answering", "issue_comment", "c-1", &comment).await;
    assert_eq!((status, answer), (201, json!({"said": "/deploy", "on": "acme/shop", "try": 1})));
    let (status, _) = github.post("github", "issue_comment", "c-2", &comment).await;
    assert_eq!(status, 202, "this route does not wait, and the handler's answer goes nowhere");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_waited_for_takes_no_room_from_the_others() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let narrow = RouteSettings { concurrency: 1, ..settings(0).routes["answering"].clone() };
    let mut room = gateway::Settings { concurrency: 1, ..settings(0) };
    room.routes.insert("answering".to_owned(), narrow);
    let started = start(&dir, |bot| {
        bot.gateway(room.clone()).bind(Kind::Webhook, "-|-", "github/push", heard.handler()).unwrap()
    })
    .await;
    let github = GitHub::of(&started);
    let waiting = tokio::spawn(github.request("answering", "push", "w-1", &push("waits")).send());
    while started.journal().newest("", 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = github.request("answering", "push", "w-2", &push("next")).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    // The gateway's one turn is free while a handler thinks: from the moment that the first is written and known to be.
    while github.request("github", "push", "w-3", &push("other")).send().await.unwrap().status() != 202 {
        assert!(!waiting.is_finished(), "nobody gets in before the first has been answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!waiting.is_finished());
    waiting.abort();
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_posts_faster_than_a_route_takes_is_told_when_to_come_again_and_strangers_use_nothing_up() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let mut slow = settings(0);
    // A minute for each: none comes back while this is told.
    let rate = RateSettings { posts: 2, within: Duration::from_secs(120) };
    slow.routes.get_mut("github").unwrap().rate = Some(rate);
    let started =
        start(&dir, |bot| bot.gateway(slow).bind(Kind::Webhook, "-|-", "github/push", heard.handler()).unwrap()).await;
    let github = GitHub::of(&started);
    let forged = || github.client.post(format!("http://{}/hooks/github", github.at)).header("X-GitHub-Event", "push");
    for _ in 0..5 {
        let forged = forged().header("X-Hub-Signature-256", "sha256=00").body(push("forged").to_string());
        assert_eq!(forged.send().await.unwrap().status().as_u16(), 403);
    }
    for (delivery, text) in [("r-1", "first"), ("r-2", "second")] {
        assert_eq!(github.post("github", "push", delivery, &push(text)).await.0, 202);
    }
    let refused = github.request("github", "push", "r-3", &push("third")).send().await.unwrap();
    let again: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    assert!((1..=60).contains(&again), "{again}");
    assert_eq!(github.post("small", "push", "r-4", &push("elsewhere")).await.0, 202, "another route");
    heard.until(3).await;
    assert_eq!(started.journal().newest("", 10).await.unwrap().len(), 3, "what was sent away is nowhere");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_for_who_shows_their_token_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let closed = gateway::Settings { metrics_token: Some(Secret::new("0123456789abcdef")), ..settings(0) };
    let started = start(&dir, |bot| bot.gateway(closed.clone())).await;
    let github = GitHub::of(&started);
    let (status, text) = github.get("/metrics").await;
    assert!(status == 401 && text.contains("gateway.metrics_token"), "{text}");
    let asked = |token: &str| github.client.get(format!("http://{}/metrics", github.at)).bearer_auth(token).send();
    assert_eq!(asked("0123456789abcdee").await.unwrap().status(), 401);
    assert_eq!(asked("0123456789abcdef").await.unwrap().status(), 200);
    assert_eq!(github.get("/health/live").await.0, 200, "who asks whether it lives needs none");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_sends_posts_away_and_monitors_see_it() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let small = journal::Settings {
        max_bytes: 32 << 10,
        stream_bytes: Some(32 << 10),
        keep_bytes: 1 << 10,
        ..journal::Settings::default()
    };
    let started =
        start(&dir, |bot| bot.journal(small).bind(Kind::Webhook, "-|-", "github/push", heard.handler()).unwrap()).await;
    let github = GitHub::of(&started);
    assert_eq!(github.get("/health/ready").await.0, 200);
    let mut number = 0;
    let refused = loop {
        number += 1;
        let body = push(&"x".repeat(5000));
        let answer = github.request("github", "push", &format!("f-{number}"), &body).send().await.unwrap();
        if answer.status() != 202 {
            break answer;
        }
        assert!(number < 100, "it is never full");
    };
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    let (status, text) = github.get("/health/ready").await;
    assert!(status == 503 && text.contains("not delivered yet, most of them for webhook github/push"), "{text}");
    assert_eq!(github.get("/health/live").await.0, 200);
    let (status, text) = github.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "masterchief_journal_full 1",
        "masterchief_gateway_posts_total{outcome=\"full\"} 1",
        "masterchief_source_up{kind=\"webhook\",stream=\"webhook\"}",
        "masterchief_bind_stands_still{bind=\"webhook github/push",
        "masterchief_deliveries_held 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    heard.stuck.store(false, Ordering::Relaxed);
    heard.until(1).await;
    for _ in 0..500 {
        if github.get("/health/ready").await.0 == 200 {
            started.stop("").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the journal never had room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_is_brought_in_and_the_old_one_taken_out_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let started = start(&dir, |bot| bot).await;
    let github = GitHub::of(&started);
    let with = |secrets: &str| {
        let text = format!(
            "data: {}\ngateway:\n  listen: 127.0.0.1:0\n  routes:\n    github: {{secrets: [{secrets}]}}\n",
            dir.path().display()
        );
        config::parse(&dir.path().join("config.yaml"), &text).unwrap()
    };
    started.reconfigure(&with(&format!("new-secret, {SECRET}"))).await.unwrap();
    assert_eq!(github.post("github", "ping", "p-1", &json!({})).await.0, 202);
    started.reconfigure(&with("new-secret")).await.unwrap();
    assert_eq!(github.post("github", "ping", "p-2", &json!({})).await.0, 403);
    started.stop("").await;
}
