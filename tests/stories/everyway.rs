//! Every word for pipelines is to be had every way: in a channel, from a shell, over HTTP, in a script. `docs/verbs.md` promises it.

use std::collections::BTreeMap;
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::gateway;
use masterchief::pipelines::{SHORT, Settings, Verb, WORDS};
use serde_json::{Value, json};

use super::acted::Acted;
use super::runs::{masterchief, project};
use super::steps::eventually;

const SHOP: &str = "app: shop\npolicy:\n  environments:\n    dev: {confirm: never}\n    prod: {confirm: always, approvals: {count: 1}}\nstages:\n  test: {acted: {takes: 0s}}\n";
/// What a word is tried with: something that makes sense of it, whether or not it may be done.
fn text(word: &str) -> &'static str {
    match word {
        "!deploy" => "shop/v1 to dev",
        "!deploy!" => "shop/v1 to dev it burns",
        "!rollback" => "shop dev",
        "!lock" => "shop/dev 1h a migration",
        "!unlock" | "!thaw" => "shop/dev",
        "!unlock!" | "!freeze" => "shop/dev it is over",
        "!at" => "08:00 deploy shop to dev",
        "!unbook" => "B-1",
        "!log" => "shop it burns",
        "!skip!" => "1 it is urgent",
        "!approve" => "1 0000",
        "!reject" | "!pause" => "1 not now",
        "!whatson" | "!booked" | "!slots" | "!apps" => "",
        "!who" | "!deploys" | "!sal" | "!dora" | "!predict" | "!flaky" => "shop",
        _ => "1",
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_and_a_script_have_every_word() {
    let dir = tempfile::tempdir().unwrap();
    let functions: Vec<&str> = SHORT
        .iter()
        .flat_map(|(_, _, lua)| lua.split(' '))
        .filter(|name| !name.is_empty())
        .map(|name| name.trim_start_matches("pipeline."))
        .collect();
    let lua = format!(
        r#"
        bot.caps{{ pipelines = {{"shop"}} }}
        bot.bind("pub", "-|-", "!word", function(ev)
          local word, rest = ev.text:match("^(%S+) ?(.*)$")
          local ok, told, run = pcall(pipeline.word, word, rest)
          if not ok then return word .. " refused: " .. tostring(told) end
          return word .. " done: " .. table.concat(told, " / ")
        end)
        bot.bind("pub", "-|-", "!functions", function(ev)
          for _, name in {{ {} }} do if type(pipeline[name]) ~= "function" then return "there is no " .. name end end
          return "all functions are there"
        end)
        "#,
        functions.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    );
    std::fs::write(dir.path().join("words.lua"), lua).unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).scripts(dir.path());
    let test = TestBot::start(bot).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap();
    let ana = test.user("ana").with_flags("+DS");
    ana.says(CHANNEL, "!functions").await;
    test.expect(CHANNEL, "all functions are there").await;
    ana.says(CHANNEL, "!deploy shop/v0 to dev").await;
    test.expect(CHANNEL, "[1] shop v0 is live on dev").await;
    for (word, ..) in WORDS {
        ana.says(CHANNEL, &format!("!word {} {}", word.trim_start_matches('!'), text(word))).await;
        let plain = word.trim_start_matches('!');
        let answered = |line: &str| ["done", "refused"].iter().any(|how| line.contains(&format!("{plain} {how}: ")));
        let line = test.find(CHANNEL, Duration::from_secs(10), answered).await.unwrap();
        assert!(
            !line.contains("there is no \"") && !line.contains("write it with") && !line.contains("not declared"),
            "{line}"
        );
        test.advance(Duration::from_secs(2)).await;
    }
    // What is done in words of a script is done: the lock and the freeze are there, and a script that declares nothing does nothing.
    ana.says(CHANNEL, "!word lock shop/prod 1h a migration").await;
    test.expect(CHANNEL, "lock done: shop/prod locked by ana until").await;
    ana.says(CHANNEL, "!word unlock shop/prod").await;
    test.expect(CHANNEL, "unlock done: ").await;
    ana.says(CHANNEL, "!word yess 1").await;
    test.expect(CHANNEL, "there is no \"yess\"; did you mean yes?").await;
    test.user("mallory").says(CHANNEL, "!word lock shop/prod 1h mine").await;
    test.expect(CHANNEL, "I do not know you").await;
    let wiki = "app: wiki\npolicy: {environments: {dev: {require_flag: \"-\"}}}\nstages: {a: {acted: {}}}\n";
    test.started().put_pipeline("wiki", wiki).await.unwrap();
    for words in [
        "lock wiki/dev 1h mine",
        "deploy wiki to dev",
        "freeze * 1h mine",
        "freeze dev 1h mine",
        "who wiki",
        "at 08:00 deploy wiki to dev",
    ] {
        ana.says(CHANNEL, &format!("!word {words}")).await;
        test.expect(CHANNEL, "\"wiki\" is not declared").await;
    }
    test.stop().await;
}

const CI: &str = "the-token-of-the-ci-server";
const EYE: &str = "the-token-that-only-looks";

/// A bot with a gateway, and a program that asks it.
struct Site {
    bot: Started,
    client: reqwest::Client,
}

impl Site {
    async fn new() -> Site {
        let settings: gateway::Settings = serde_json::from_value(json!({
            "listen": "127.0.0.1:0",
            "tokens": {"ci": {"token": CI, "flags": "DS"}, "eye": {"token": EYE}},
        }))
        .unwrap();
        let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).gateway(settings);
        let site = Site { bot: bot.start().await.unwrap(), client: reqwest::Client::new() };
        site.bot.put_pipeline("shop", SHOP).await.unwrap();
        let (status, told) = site.post("words/deploy", CI, &json!({"text": "shop/v0 to dev"})).await;
        assert_eq!((status, &told["id"]), (202, &json!(1)));
        eventually("the end", async || site.get("1").await.1["status"] == "success").await;
        site
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/pipelines/{path}", self.bot.gateway_at().unwrap())
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let sent = self.client.post(self.url(path)).bearer_auth(token).body(body.to_string()).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let sent = self.client.get(self.url(path)).bearer_auth(EYE).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }
}

#[tokio::test]
async fn over_http_every_word_is_there_and_what_looks_does_nothing() {
    let site = Site::new().await;
    for (word, _, _, verb) in WORDS {
        let (plain, text) = (word.trim_start_matches('!'), text(word));
        let (status, told) = site.post(&format!("words/{plain}"), CI, &json!({"text": text})).await;
        let refused = told["error"].as_str().unwrap_or("").to_owned();
        let understood = !refused.contains("there is no \"") && !refused.contains("write it with");
        assert!(understood && status != 500, "{word}: {status} {told}");
        let (status, told) = site.get(&format!("words/{plain}?text={}", text.replace(' ', "%20"))).await;
        match *verb == Verb::Look {
            true if *word != "!tail" => assert_eq!(status, 200, "{word}: {told}"),
            true => assert_eq!(status, 403, "a log is for who may deploy: {told}"),
            false => assert_eq!(status, 422, "{word} is nothing to GET: {told}"),
        }
    }
    assert_eq!(site.get("words/nothing").await.0, 422);
    assert_eq!(site.post("words/lock", EYE, &json!({"text": "shop/dev 1h mine"})).await.0, 403);
    assert_eq!(site.post("words/yes", CI, &json!({"text": "1"})).await.0, 409);
    site.bot.stop("").await;
}

#[tokio::test]
async fn the_shorter_ways_over_http_are_there_too() {
    let site = Site::new().await;
    let place = json!({"place": "shop/dev", "scope": "shop/dev", "reason": "so"});
    let bodies: BTreeMap<&str, Value> = [
        ("trigger", json!({"app": "shop", "environment": "dev"})),
        ("rollback", json!({"app": "shop", "environment": "dev"})),
        ("extend", json!({"place": "shop/dev", "for": "1h"})),
        ("incidents", json!({"app": "shop", "text": "it burns"})),
    ]
    .into();
    for (word, http, _) in SHORT {
        for part in http.split(", ").filter(|part| !part.is_empty()) {
            let (method, paths) = part.split_once(' ').unwrap();
            for path in paths.split(' ') {
                let route = path.replace("RUN", "1");
                let (status, told) = match method {
                    "POST" => site.post(&route, CI, bodies.get(path).unwrap_or(&place)).await,
                    _ => site.get(&format!("{route}?app=shop")).await,
                };
                assert!(told["error"] != "there is nothing here" && status < 500, "{word} {part}: {status} {told}");
            }
        }
    }
    site.bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_every_word() {
    let dir = project(
        "app: shop\npolicy: {environments: {dev: {confirm: never}, prod: {}}}\nstages: {a: {shell: [\"true\"]}}\n",
    );
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.arg("--config").arg(dir.path()).args(["run", "--no-console"]).kill_on_drop(true);
    let mut bot = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = dir.path().join("data/control.sock");
    eventually("the bot", async || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    for (word, ..) in WORDS {
        let mut args = vec!["runs", word.trim_start_matches('!')];
        args.extend(text(word).split(' ').filter(|part| !part.is_empty()));
        let (code, said) = masterchief(dir.path(), &args);
        assert!(
            !said.contains("there is no \"") && !said.contains("write it with") && code != Some(101),
            "{word}: {code:?} {said}"
        );
    }
    bot.kill().await.unwrap();
}
