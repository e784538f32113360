//! A real browser looks at the pages: `chromium-headless-shell`, which `./test` installs.

use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::steps::eventually;
use super::web::{ANA, World};

const PROGRAM: &str = "chromium-headless-shell";
/// How long it may take to begin, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What it says where it can be driven.
const LISTENS: &str = "DevTools listening on ws://";

/// A page of a browser, driven by its DevTools.
struct Browser {
    socket: WebSocketStream<TcpStream>,
    session: Option<String>,
    calls: u64,
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let child = Command::new(PROGRAM)
            .args(["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", &folder, "about:blank"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = child.unwrap_or_else(|fault| panic!("{PROGRAM}: {fault}; ./test installs it"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(at) = line.strip_prefix(LISTENS) {
                    return at.to_owned();
                }
            }
            panic!("{PROGRAM} ended before it listened");
        };
        let at = tokio::time::timeout(PATIENCE, listens).await.unwrap();
        // It says more, and must not be stopped by that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let host = at.split('/').next().unwrap_or_default().to_owned();
        let stream = TcpStream::connect(&host).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{at}"), stream).await.unwrap();
        let mut browser = Browser { socket, session: None, calls: 0, child, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({})).await;
        let watch =
            "window.violations = 0; document.addEventListener('securitypolicyviolation', () => window.violations++);";
        browser.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": watch})).await;
        browser
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        let answer = async {
            loop {
                let Some(Ok(Message::Text(text))) = self.socket.next().await else { panic!("the browser is gone") };
                let told: Value = serde_json::from_str(&text).unwrap();
                if told["id"] == self.calls {
                    return told["result"].clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    }

    async fn go(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address})).await;
    }

    /// What an expression is there; nothing while a page is on its way.
    async fn see(&mut self, expression: &str) -> Value {
        let told = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true})).await;
        told["result"]["value"].clone()
    }

    async fn until(&mut self, expression: &str, wanted: impl Into<Value>) {
        let (wanted, mut seen) = (wanted.into(), Value::Null);
        let what = format!("{expression} is {wanted}");
        eventually(&what, async || {
            seen = self.see(expression).await;
            seen == wanted
        })
        .await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // What is called is a script; the browser is a child of it, and has children.
        if let Some(group) = self.child.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
        }
    }
}

fn state(part: &str) -> String {
    format!("document.querySelector('[data-part=\"{part}\"] .state')?.textContent")
}

#[tokio::test]
async fn a_browser_plans_starts_and_sees_stages_change_without_a_reload() {
    let mut browser = Browser::start().await;
    let world = World::new().await;
    let form = format!("{}/deploy/shop", world.base);
    browser.go(&form).await;
    browser.until("document.querySelector('form.login') !== null", true).await;
    browser.see(&format!("document.querySelector('[name=token]').value = '{ANA}'; document.querySelector('form.login').requestSubmit()")).await;
    browser.until("document.querySelector('#ask') !== null", true).await;
    browser.until("document.querySelector('#live').textContent", "live").await;
    assert_eq!(browser.see("document.querySelector('#start').disabled").await, true, "there is no plan yet");
    let gate = world.gate();
    let fill = format!(
        "document.querySelector('[name=\"param:gate\"]').value = {:?}; document.querySelector('#ask').requestSubmit()",
        gate.display().to_string()
    );
    browser.see(&fill).await;
    browser.until("document.querySelector('#start').disabled", false).await;
    assert_eq!(browser.see("document.querySelectorAll('#plan li').length").await, 3);
    // What is changed has to be looked at again.
    browser.see("document.querySelector('#ask').dispatchEvent(new Event('input'))").await;
    assert_eq!(browser.see("document.querySelector('#start').disabled").await, true);
    browser.see(&fill).await;
    browser.until("document.querySelector('#start').disabled", false).await;
    browser.see("document.querySelector('#start').click()").await;

    browser.until("location.pathname", "/r/1").await;
    browser.until(&state("stage:test"), "running").await;
    browser.see("window.mark = 7").await;
    std::fs::write(&gate, "").unwrap();
    browser.until(&state("stage:rollout"), "succeeded").await;
    browser.until(&state("head"), "succeeded").await;
    assert_eq!(browser.see("window.mark").await, 7, "it is the same page still");
    assert_eq!(browser.see("window.violations").await, 0);
    assert_eq!(browser.see("document.scripts.length").await, 1, "what a log says is no script");
    for (width, height) in [(375, 700), (1440, 900)] {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let fits = browser.see("document.documentElement.scrollWidth <= window.innerWidth").await;
        assert_eq!(fits, true, "at a width of {width}");
    }

    // Without a connection that tells how it goes, nothing is started.
    browser.go(&form).await;
    browser.until("document.querySelector('#live')?.textContent", "live").await;
    browser.see("document.querySelector('#ask').requestSubmit()").await;
    browser.until("document.querySelector('#start').disabled", false).await;
    world.bot.stop("").await;
    browser.until("document.querySelector('#live').textContent", "not connected").await;
    assert_eq!(browser.see("document.querySelector('#start').disabled").await, true);
}
