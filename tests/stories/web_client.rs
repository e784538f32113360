//! A library that web clients are made of, as it runs in a page: irc-framework over its WebSocket transport, on the partyline.

use std::net::SocketAddr;
use std::process::Stdio;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::PATIENCE;
use super::servers::tool;

/// A page whose client does what it is told.
struct Page {
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    seen: Vec<Value>,
    _node: Child,
}

impl Page {
    /// Opens one, with a client that connects so.
    async fn opens(gateway: SocketAddr, options: Value) -> Page {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/page.js");
        let modules = tool("node_modules");
        let library = format!("{modules}/irc-framework/dist/browser/src");
        assert!(std::path::Path::new(&library).is_dir(), "{library} is not here; ./test installs it");
        let mut node = Command::new("node")
            .arg(script)
            .env("NODE_PATH", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|fault| panic!("node: {fault}; ./test installs it"));
        let (to, from) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
        let mut page = Page { to, from: BufReader::new(from).lines(), seen: Vec::new(), _node: node };
        let mut all = json!({
            "host": "127.0.0.1", "port": gateway.port(), "path": "/partyline/ws", "tls": false,
            "nick": "alice", "username": "alice", "gecos": "Alice in a page", "auto_reconnect": false,
            "enable_echomessage": true, "enable_setname": true, "enable_chghost": true,
        });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        page.does("connect", [all]).await;
        page
    }

    /// Calls a method of the client.
    async fn does(&mut self, method: &str, args: impl IntoIterator<Item = Value>) {
        let call: Vec<Value> = std::iter::once(json!(method)).chain(args).collect();
        self.to.write_all(format!("{}\n", Value::from(call)).as_bytes()).await.unwrap();
    }

    async fn says(&mut self, target: &str, words: &str) {
        self.does("say", [json!(target), json!(words)]).await;
    }

    /// The next event of this name that has all of this in it.
    async fn sees(&mut self, name: &str, wanted: Value) -> Value {
        let looking = async {
            while let Some(line) = self.from.next_line().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap();
                let of = |key: &String, value: &Value| event[1].get(key) == Some(value);
                let found = event[0] == *name && wanted.as_object().unwrap().iter().all(|(key, value)| of(key, value));
                self.seen.push(event);
                if found {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, looking).await.unwrap_or(false);
        assert!(found, "no {name} with {wanted} in {:#?}", self.seen);
        self.seen.last().unwrap()[1].clone()
    }
}

/// A bot that greets in the channel and in private, with the door for pages.
async fn opened() -> (Started, SocketAddr, SocketAddr) {
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    let gateway = masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let builder = Bot::builder().gateway(gateway).bind(Kind::Pub, "-|-", "!hello", hello).unwrap();
    let settings = Settings { motd: vec!["be kind".to_owned()], ..Settings::default() };
    let (bot, telnet) = bot(builder, settings).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let gateway = bot.gateway_at().unwrap();
    (bot, telnet, gateway)
}

#[tokio::test]
async fn irc_framework_in_a_page_logs_in_talks_with_telnet_and_runs_commands() {
    let (bot, telnet, gateway) = opened().await;
    let mut bob = Typist::logs_in(telnet, "bob").await;
    let mut alice = Page::opens(gateway, json!({"account": {"account": "alice", "password": PASSWORD}})).await;
    alice.sees("loggedin", json!({"account": "alice"})).await;
    alice.sees("registered", json!({"nick": "alice"})).await;
    let options = alice.sees("server options", json!({})).await;
    assert_eq!(options["options"]["CASEMAPPING"], "rfc1459", "{options}");
    let motd = alice.sees("motd", json!({})).await;
    assert!(motd["motd"].as_str().unwrap().contains("be kind"), "{motd}");
    // Both rooms are joined for everybody; another is asked for.
    let names = alice.sees("userlist", json!({"channel": "#partyline"})).await;
    let names: Vec<&str> = names["users"].as_array().unwrap().iter().filter_map(|user| user["nick"].as_str()).collect();
    assert!(["chief", "alice", "bob"].iter().all(|nick| names.contains(nick)), "{names:?}");
    alice.sees("userlist", json!({"channel": "#ops"})).await;
    alice.does("join", [json!("#1")]).await;
    alice.sees("join", json!({"channel": "#1", "nick": "alice", "account": "alice"})).await;
    alice.sees("userlist", json!({"channel": "#1"})).await;
    // People on telnet and in a page hear each other.
    alice.says("#partyline", "ä€😀 from a page").await;
    bob.reads("<alice> ä€😀 from a page").await;
    let echo = alice.sees("privmsg", json!({"target": "#partyline", "message": "ä€😀 from a page"})).await;
    assert_eq!((&echo["nick"], &echo["tags"]["account"]), (&json!("alice"), &json!("alice")), "{echo}");
    bob.types("tea, anybody?").await;
    let heard = alice.sees("privmsg", json!({"nick": "bob", "target": "#partyline", "message": "tea, anybody?"})).await;
    assert!(heard["time"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{heard}");
    bob.types(".me pours").await;
    alice.sees("action", json!({"nick": "bob", "message": "pours"})).await;
    // Words for the bot in the channel are answered there, and a command by its message to whoever gave it, wherever it was given.
    alice.says("#ops", "!hello").await;
    alice.sees("privmsg", json!({"nick": "chief", "target": "#ops", "message": "hi alice"})).await;
    for place in ["chief", "#ops"] {
        alice.says(place, ".whoami").await;
        alice.sees("privmsg", json!({"nick": "alice", "target": place, "message": ".whoami"})).await;
        let answer = alice.sees("privmsg", json!({"nick": "chief", "target": "alice"})).await;
        assert!(answer["message"].as_str().unwrap().starts_with("You are alice with the flags p"), "{answer}");
    }
    alice.says("chief", ".die").await;
    let refused = alice.sees("notice", json!({"nick": "chief", "target": "alice"})).await;
    assert!(refused["message"].as_str().unwrap().contains("flag"), "{refused}");
    alice.does("whois", [json!("bob")]).await;
    alice.sees("whois", json!({"nick": "bob", "account": "bob"})).await;
    bob.types(".away lunch").await;
    alice.sees("away", json!({"nick": "bob", "message": "lunch"})).await;
    alice.does("quit", [json!("off home")]).await;
    bob.reads("alice has left").await;
    alice.sees("close", json!({})).await;
    bot.stop("").await;
}

#[tokio::test]
async fn irc_framework_in_a_page_comes_in_by_the_password_of_the_server_and_not_by_another() {
    let (bot, telnet, gateway) = opened().await;
    let mut bob = Typist::logs_in(telnet, "bob").await;
    let mut alice = Page::opens(gateway, json!({"password": format!("alice:{PASSWORD}")})).await;
    alice.sees("registered", json!({"nick": "alice"})).await;
    bob.reads("alice is in #partyline now").await;
    let mut mallory = Page::opens(gateway, json!({"password": "alice:wrong words"})).await;
    mallory.sees("close", json!({})).await;
    assert!(mallory.seen.iter().all(|event| event[0] != "registered"), "{:#?}", mallory.seen);
    let mut mallory = Page::opens(gateway, json!({"account": {"account": "alice", "password": "wrong words"}})).await;
    mallory.sees("sasl failed", json!({})).await;
    assert!(mallory.seen.iter().all(|event| event[0] != "registered"), "{:#?}", mallory.seen);
    bot.stop("").await;
}
