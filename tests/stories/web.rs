//! Pages of the gateway: who sees them, what they show, how they follow a run, and how a run is asked for there.

use std::collections::HashMap;
use std::path::PathBuf;

use masterchief::bot::{Bot, Started};
use masterchief::config::Config;
use masterchief::gateway;
use masterchief::pipelines::Settings;
use masterchief::users::{FlagSet, User};
use serde_json::{Value, json};

use super::acted::Acted;
use super::steps::eventually;

pub(crate) const SHOP: &str = r#"
app: shop
description: Ships the <b>shop</b>.
params:
  gate: { type: string, default: "" }
  note: { type: string, optional: true }
  db_password: { type: string, optional: true }
  count: { type: int, default: 3 }
  fast: { type: bool, default: false }
  colour: { type: choice, of: [blue, green], default: blue }
policy:
  environments:
    dev: { confirm: never }
    careful: {}
    prod: { confirm: never, approvals: { count: 1, from: [raj] } }
    night: { confirm: never, require_flag: "N" }
stages:
  test:
    shell: [sh, -c, "echo '<script>alert(1)</script>'; echo DB_PASSWORD=hunter2; while [ -n \"$1\" ] && [ ! -e \"$1\" ]; do sleep 0.05; done", sh, "{params.gate}"]
  scan: { acted: { takes: 0s } }
  rollout: { needs: [test, scan], acted: { takes: 0s }, rollback: undo }
"#;

pub(crate) const CI: &str = "the-token-of-the-ci-server";
pub(crate) const ANA: &str = "the-token-of-ana-herself";
pub(crate) const RAJ: &str = "the-token-of-raj-himself";
pub(crate) const EYE: &str = "the-token-that-only-looks";

/// A bot with pages.
pub(crate) struct World {
    pub(crate) bot: Started,
    pub(crate) base: String,
    client: reqwest::Client,
    folder: tempfile::TempDir,
}

/// What was answered.
pub(crate) struct Page {
    pub(crate) status: u16,
    headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|fault| panic!("{fault}: {}", self.text))
    }
}

impl World {
    pub(crate) async fn new() -> World {
        let settings: gateway::Settings = serde_json::from_value(json!({
            "listen": "127.0.0.1:0",
            "tokens": {
                "ci": {"token": CI, "flags": "DS"}, "eye": {"token": EYE},
                "anas": {"token": ANA, "flags": "DN", "handle": "ana"}, "rajs": {"token": RAJ, "flags": "D", "handle": "raj"},
                "gone": {"token": "the-token-of-somebody-gone", "flags": "D", "handle": "zoe"},
            },
        }))
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).gateway(settings);
        let bot = bot.data(folder.path()).start().await.unwrap();
        bot.put_pipeline("shop", SHOP).await.unwrap();
        for handle in ["ana", "raj"] {
            let mut user = User::new(handle).unwrap();
            user.flags = FlagSet::parse("D").unwrap();
            bot.put_user(user).await.unwrap();
        }
        let base = format!("http://{}", bot.gateway_at().unwrap());
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        World { bot, base, client, folder }
    }

    /// A file that a stage waits for.
    pub(crate) fn gate(&self) -> PathBuf {
        self.folder.path().join("gate")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Page { status, headers, text: answer.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, cookie: &str, path: &str) -> Page {
        self.send(self.client.get(format!("{}{path}", self.base)).header("cookie", cookie)).await
    }

    /// Posts as a page of ours does.
    pub(crate) async fn post(&self, cookie: &str, path: &str, body: Value) -> Page {
        let request = self.client.post(format!("{}{path}", self.base)).header("cookie", cookie);
        self.send(request.header("origin", &self.base).body(body.to_string())).await
    }

    async fn try_login(&self, origin: Option<&str>, body: String) -> Page {
        let request = self.client.post(format!("{}/login", self.base)).body(body);
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        self.send(request).await
    }

    /// The cookie that a token gets.
    pub(crate) async fn login(&self, token: &str) -> String {
        let page = self.try_login(Some(&self.base), format!("token={token}&next=%2Fr")).await;
        assert_eq!(page.status, 303, "{}", page.text);
        page.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
    }

    /// Asks for the plan of a run, and starts it: its number.
    pub(crate) async fn begin(&self, cookie: &str, wanted: Value) -> i64 {
        let plan = self.post(cookie, "/deploy/shop/plan", wanted.clone()).await;
        assert_eq!(plan.status, 200, "{}", plan.text);
        let started = self.post(cookie, "/deploy/shop", with(&wanted, &plan.json())).await;
        assert_eq!(started.status, 202, "{}", started.text);
        started.json()["id"].as_i64().unwrap()
    }

    pub(crate) async fn follow(&self, cookie: &str, path: &str) -> Follower {
        self.try_follow(cookie, path).await.unwrap()
    }

    /// Why not, where there is no room.
    async fn try_follow(&self, cookie: &str, path: &str) -> Result<Follower, u16> {
        let answer = self.client.get(format!("{}{path}", self.base)).header("cookie", cookie).send().await.unwrap();
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Ok(Follower { answer, text: String::new(), parts: HashMap::new(), beats: 0, last: Value::Null })
    }
}

/// What was wanted, with the plan that was shown.
pub(crate) fn with(wanted: &Value, plan: &Value) -> Value {
    let mut wanted = wanted.clone();
    wanted["code"] = plan["code"].clone();
    wanted["key"] = plan["key"].clone();
    wanted
}

pub(crate) fn error(page: &Page) -> String {
    page.json()["error"].as_str().unwrap_or_default().to_owned()
}

/// A page that follows, without a browser.
#[derive(Debug)]
pub(crate) struct Follower {
    answer: reqwest::Response,
    text: String,
    pub(crate) parts: HashMap<String, String>,
    beats: usize,
    last: Value,
}

impl Follower {
    /// The next thing it is told.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let Some(event) = line("event: ") else { continue };
                self.last = serde_json::from_str(&line("data: ").unwrap_or_default()).unwrap();
                match event.as_str() {
                    "beat" => self.beats += 1,
                    "parts" => {
                        for part in self.last["parts"].as_array().unwrap() {
                            let text = |at: usize| part[at].as_str().unwrap_or_default().to_owned();
                            self.parts.insert(text(0), text(2));
                        }
                    }
                    _ => {}
                }
                return Some(event);
            }
            let chunk = self.answer.chunk().await.ok()??;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// The state of a stage, or of the run (`head`), as it stands on the page.
    pub(crate) fn state(&self, part: &str) -> &str {
        let html = self.parts.get(part).map_or("", String::as_str);
        let state = html.split_once("class=\"state ").and_then(|(_, rest)| rest.split_once('>'));
        state.and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default()
    }

    pub(crate) async fn until(&mut self, part: &str, state: &str) {
        let wait = async {
            while self.state(part) != state {
                assert!(self.next().await.is_some(), "it ends before {part} is {state}");
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{part} is not {state}: {:?}", self.parts);
    }
}

#[tokio::test]
async fn nobody_sees_a_page_without_a_login_and_no_other_site_logs_anybody_in() {
    let world = World::new().await;
    for path in ["/", "/r", "/r/1", "/a", "/a/shop/prod", "/log/L-1", "/deploy", "/deploy/shop", "/login"] {
        let page = world.get("", path).await;
        assert!(page.status == 401 && page.text.contains("name=\"token\""), "{path}: {}", page.text);
        assert!(!page.text.contains("Ships") && !page.text.contains("Log out"), "{path}: {}", page.text);
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"), "{path}");
    }
    for path in ["/r/events", "/r/1/events", "/session"] {
        assert_eq!(world.get("", path).await.status, 401, "{path}");
    }
    assert_eq!(world.post("", "/r/1/abort", json!({})).await.status, 401);
    assert_eq!(world.post("", "/deploy/shop/plan", json!({})).await.status, 401);
    let guess = world.get("__Host-masterchief=0000000000000000000000000000000000000000000000000000000000000000", "/r");
    assert_eq!(guess.await.status, 401);

    let right = format!("token={ANA}&next=%2Fr%2F1");
    for origin in [None, Some("https://evil.example"), Some("null"), Some("http://127.0.0.1"), Some("http://")] {
        assert_eq!(world.try_login(origin, right.clone()).await.status, 403, "{origin:?}");
    }
    let own = Some(world.base.as_str());
    let wrong = world.try_login(own, "token=something-else-entirely&next=%2Fr".to_owned()).await;
    assert!(wrong.status == 401 && wrong.header("set-cookie").is_empty(), "{}", wrong.text);
    let gone = world.try_login(own, "token=the-token-of-somebody-gone".to_owned()).await;
    assert!(gone.status == 401 && gone.header("set-cookie").is_empty(), "{}", gone.text);
    let away = world.try_login(own, format!("token={ANA}&next=%2F%2Fevil.example")).await;
    assert_eq!(away.header("location"), "/r");
    let inside = world.try_login(own, right).await;
    assert_eq!((inside.status, inside.header("location")), (303, "/r/1"));
    let cookie = inside.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-masterchief=") && cookie.ends_with("; Secure; HttpOnly; SameSite=Strict"));
    world.bot.stop("").await;
}

#[tokio::test]
async fn no_other_site_acts_with_a_login_and_it_ends_with_its_token() {
    let world = World::new().await;
    let ana = world.login(ANA).await;
    let run = world.begin(&ana, json!({"environment": "dev", "params": {"gate": world.gate()}})).await;
    let page = world.get(&ana, "/r").await;
    assert!(page.status == 200 && page.text.contains("Log out ana") && page.text.contains("shop/dev"), "{}", page.text);
    assert!(
        page.text.matches("<script").count() == 1 && page.text.contains("<script defer src=\"/page/"),
        "none inline"
    );
    assert!(!page.text.contains(" style=") && !page.text.contains(" onclick="), "{}", page.text);
    // Another site may send what it wants with her browser: nothing comes of it.
    for origin in [None, Some("https://evil.example"), Some("null")] {
        let request = world.client.post(format!("{}/r/{run}/abort", world.base)).header("cookie", &ana).body("{}");
        let request = origin.map(|origin| request.try_clone().unwrap().header("origin", origin)).unwrap_or(request);
        assert_eq!(world.send(request).await.status, 403, "{origin:?}");
    }
    // A cookie is for pages, a token for programs.
    assert_eq!(world.get(&ana, "/pipelines/").await.status, 401);
    let bearer = world.client.get(format!("{}/r", world.base)).bearer_auth(ANA);
    assert_eq!(world.send(bearer).await.status, 401);
    assert_eq!(world.post(&ana, &format!("/r/{run}/again"), json!({})).await.status, 404, "what no page offers");
    assert_eq!(world.post(&ana, &format!("/r/{run}/abort"), json!({})).await.status, 202);

    let raj = world.login(RAJ).await;
    assert_eq!(world.post(&raj, "/logout", json!({})).await.status, 303);
    assert_eq!(world.get(&raj, "/r").await.status, 401);
    // The token is changed: the cookie it got is worth nothing.
    let mut follower = world.follow(&ana, "/r/events").await;
    let changed = json!({"tokens": {"anas": {"token": "another-token-of-ana", "flags": "D", "handle": "ana"}, "ci": {"token": CI, "flags": "D"}}});
    let config = Config { gateway: serde_json::from_value(changed).unwrap(), ..Config::default() };
    world.bot.reconfigure(&config).await.unwrap();
    assert_eq!(world.get(&ana, "/r").await.status, 401);
    world.bot.put_pipeline("shop", SHOP).await.unwrap();
    let ci = world.login(CI).await;
    world.begin(&ci, json!({"environment": "dev"})).await;
    while let Some(event) = follower.next().await {
        if event == "bye" {
            break;
        }
    }
    assert_eq!(follower.last["error"], "log in again");
    world.bot.stop("").await;
}

#[tokio::test]
async fn the_page_of_a_run_tells_all_of_it_and_nothing_that_is_a_secret_or_a_script() {
    let world = World::new().await;
    let ana = world.login(ANA).await;
    let wanted =
        json!({"environment": "prod", "params": {"note": "<img src=x onerror=alert(2)>", "db_password": "swordfish"}});
    let run = world.begin(&ana, wanted).await;
    let page = world.get(&ana, &format!("/r/{run}")).await;
    assert!(
        page.text.contains("It needs 1 approval from raj") && page.text.contains("data-post=\"/r/1/approve\""),
        "{}",
        page.text
    );
    let code =
        page.text.split("name=\"code\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let approve = async |cookie: &str| world.post(cookie, &format!("/r/{run}/approve"), json!({"code": code})).await;
    let own = approve(&ana).await;
    assert_eq!((own.status, error(&own).as_str()), (403, "the one who asked cannot approve 1."));
    let (raj, eye) = (world.login(RAJ).await, world.login(EYE).await);
    assert_eq!(approve(&eye).await.status, 403);
    assert_eq!(approve(&raj).await.status, 202);
    let mut follower = world.follow(&ana, &format!("/r/{run}/events")).await;
    follower.until("head", "succeeded").await;

    let page = world.get(&ana, &format!("/r/{run}")).await;
    assert_eq!((page.status, page.header("x-frame-options"), page.header("cache-control")), (200, "DENY", "no-store"));
    for shown in [
        "asked for by ana",
        "raj agreed to",
        "note=&lt;img src=x onerror=alert(2)&gt;",
        "db_password=***",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "DB_PASSWORD=***",
        "data-part=\"stage:rollout\"",
    ] {
        assert!(page.text.contains(shown), "no {shown} in {}", page.text);
    }
    for hidden in ["swordfish", "hunter2", "<img", "<script>"] {
        assert!(!page.text.contains(hidden), "{hidden} in {}", page.text);
    }
    // Who only looks reads no logs, as with !tail.
    let page = world.get(&eye, &format!("/r/{run}")).await;
    assert!(page.text.contains("Its log is for who asked") && !page.text.contains("alert(1)"), "{}", page.text);
    // Where the other links lead.
    assert!(world.get(&eye, "/a").await.text.contains("run 1</a>"));
    for path in ["/a/shop", "/a/shop/prod", "/r?app=shop&environment=prod"] {
        let page = world.get(&eye, path).await;
        assert!(page.status == 200 && page.text.contains("<a href=\"/r/1\">1</a>"), "{path}: {}", page.text);
    }
    let logged = world.client.post(format!("{}/pipelines/incidents", world.base)).bearer_auth(ANA);
    let logged = world.send(logged.body(json!({"app": "shop", "text": "<i>checkout</i> 500s"}).to_string())).await;
    assert_eq!(logged.status, 202, "{}", logged.text);
    let number =
        logged.text.split("L-").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()).unwrap();
    let page = world.get(&eye, &format!("/log/L-{number}")).await;
    assert!(page.status == 200 && page.text.contains("&lt;i&gt;checkout&lt;/i&gt; 500s"), "{}", page.text);
    for path in ["/r/777", "/r/x", "/a/nothing", "/log/L-777", "/log/x", "/r/1/2"] {
        assert_eq!(world.get(&eye, path).await.status, 404, "{path}");
    }
    world.bot.stop("").await;
}

#[tokio::test]
async fn a_page_hears_of_stages_as_they_move_and_one_that_comes_back_hears_all_first() {
    let world = World::new().await;
    let ana = world.login(ANA).await;
    let mut list = world.follow(&ana, "/r/events?app=shop").await;
    let run = world.begin(&ana, json!({"environment": "dev", "params": {"gate": world.gate()}})).await;
    let path = format!("/r/{run}/events");
    let mut first = world.follow(&ana, &path).await;
    first.until("stage:test", "running").await;
    first.until("stage:scan", "succeeded").await;
    assert_eq!(first.state("stage:rollout"), "pending");
    list.until("rows", "running").await;
    // It hears that somebody is there.
    while first.beats == 0 {
        assert!(first.next().await.is_some());
    }
    drop(first);
    let mut again = world.follow(&ana, &path).await;
    assert_eq!(again.next().await.as_deref(), Some("parts"));
    assert_eq!(again.last["all"], json!(["head", "words", "stage:test", "stage:scan", "stage:rollout", "foot"]));
    assert_eq!(again.last["parts"].as_array().unwrap().len(), 6, "all of it, at once: {}", again.last);
    assert_eq!((again.state("head"), again.state("stage:scan")), ("running", "succeeded"));
    std::fs::write(world.gate(), "").unwrap();
    again.until("head", "succeeded").await;
    assert_eq!((again.state("stage:test"), again.state("stage:rollout")), ("succeeded", "succeeded"));
    assert!(
        !again.last["parts"].as_array().unwrap().iter().any(|part| part[0] == "stage:scan"),
        "what stayed is not told again"
    );
    list.until("rows", "succeeded").await;

    // So many at once and no more; one that goes makes room.
    drop(again);
    drop(list);
    let mut open = Vec::new();
    let refused = loop {
        match world.try_follow(&ana, &path).await {
            Ok(follower) => open.push(follower),
            Err(status) => break status,
        }
        assert!(open.len() <= 16, "more than sixteen pages of one login follow");
    };
    assert_eq!(refused, 503);
    open.clear();
    let mut last = Err(503);
    eventually("room", async || {
        last = world.try_follow(&ana, &path).await;
        last.is_ok()
    })
    .await;
    // The bot goes down: nobody is kept waiting by pages that follow.
    let mut last = last.unwrap();
    let World { bot, .. } = world;
    bot.stop("").await;
    while last.next().await.is_some() {}
}
