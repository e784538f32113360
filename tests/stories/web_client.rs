//! An IRC client of others in a page: irc-framework, run by Node, over the WebSocket of the gateway.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::partyline::Settings;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::partyline::{PASSWORD, Typist, bot, knows};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubles/web_client.js");

/// A page.
struct Page {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    seen: Vec<String>,
}

impl Page {
    fn opens(at: SocketAddr, nick: &str, password: &str) -> Page {
        // `./test` puts it there.
        let tools = std::env::var("MASTERCHIEF_TOOLS")
            .unwrap_or_else(|_| format!("{}/target/tools", env!("CARGO_MANIFEST_DIR")));
        let mut child = Command::new("node")
            .args([SCRIPT, &at.ip().to_string(), &at.port().to_string(), nick, password])
            .env("NODE_PATH", format!("{tools}/node/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Page { _child: child, to, from, seen: Vec::new() }
    }

    async fn does(&mut self, line: &str) {
        self.to.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Ready when it tells of something that begins so; gives the whole line.
    async fn tells(&mut self, begin: &str) -> String {
        let next = async {
            loop {
                let mut line = String::new();
                if self.from.read_line(&mut line).await.unwrap() == 0 {
                    return None;
                }
                self.seen.push(line.trim_end().to_owned());
                if line.starts_with(begin) {
                    return Some(line.trim_end().to_owned());
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), next).await.ok().flatten();
        told.unwrap_or_else(|| panic!("no `{begin}` in {:#?}", self.seen))
    }
}

#[tokio::test]
async fn a_web_client_of_others_logs_in_talks_gives_commands_and_comes_back() {
    let gateway = masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let (bot, typed) = bot(Bot::builder().gateway(gateway), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let at = bot.gateway_at().unwrap();
    let mut wrong = Page::opens(at, "alice", "guessed");
    wrong.tells("refused").await;
    drop(wrong);
    let mut page = Page::opens(at, "alice", PASSWORD);
    page.tells("loggedin alice").await;
    page.tells("registered alice").await;
    page.tells("sees #1 alice,chief").await;
    let mut bob = Typist::logs_in(typed, "bob").await;
    bob.types(".chat 1").await;
    page.tells("joins bob #1").await;
    page.does("say #1 hello from a page: ä€😀").await;
    // It hears itself, with the time at which it was said.
    page.tells("message timed privmsg alice #1 hello from a page: ä€😀").await;
    bob.reads("hello from a page: ä€😀").await;
    bob.types("welcome").await;
    page.tells("message timed privmsg bob #1 welcome").await;
    page.does("act #1 waves").await;
    bob.reads("* alice waves").await;
    page.does("say chief .whoami").await;
    let answer = page.tells("message timed notice chief alice").await;
    assert!(answer.contains("alice"), "{answer}");
    // Its connection is lost: it comes back by itself, and is there again.
    page.does("drop").await;
    page.tells("reconnecting").await;
    page.tells("registered alice").await;
    page.tells("sees #1").await;
    page.does("say #1 back again").await;
    bob.reads("back again").await;
    page.does("quit").await;
    page.tells("closed").await;
    bot.stop("").await;
}
