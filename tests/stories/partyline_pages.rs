//! Long answers a page at a time, records of JSON for pages, and what is told of who may do what.

use futures_util::{SinkExt, StreamExt};
use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::{PATIENCE, Person};

#[tokio::test]
async fn a_long_answer_comes_a_page_at_a_time_to_who_wants_that() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "n").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".page 3").await;
    alice.reads("You see 3 lines at once").await;
    drop(alice);
    // It is kept, and clients that scroll are left alone.
    let mut alice = Typist::logs_in(at, "alice").await;
    let mut client = Person::logs_in(at.port(), "alice", &format!("alice:{PASSWORD}")).await;
    alice.types(".modules").await;
    let first = alice.reads("[more: an empty line shows it").await;
    assert!(first.lines().filter(|line| line.contains("  ")).count() <= 4, "{first}");
    client.says("#partyline", "talk does not wait");
    alice.reads("talk does not wait").await;
    alice.types("").await;
    alice.reads("more lines]").await;
    alice.types(".page off").await;
    alice.reads("You see whole answers").await;
    client.says("chief", ".modules");
    client.hears("chief", "webhook").await;
    bot.stop("").await;
}

/// A page that speaks JSON.
struct Page(WebSocketStream<TcpStream>);

impl Page {
    async fn sends(&mut self, record: Value) {
        self.0.send(Message::text(record.to_string())).await.unwrap();
    }

    /// The next record that is wanted.
    async fn hears(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut passed = Vec::new();
        let search = async {
            while let Some(Ok(frame)) = self.0.next().await {
                let Ok(text) = frame.into_text() else { continue };
                let record: Value = serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"));
                if wanted(&record) {
                    return Some(record);
                }
                passed.push(record);
            }
            None
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(Some(record)) => record,
            _ => panic!("it never came; there was {passed:#?}"),
        }
    }

    async fn hears_type(&mut self, kind: &str) -> Value {
        self.hears(|record| record["type"] == kind).await
    }
}

#[tokio::test]
async fn a_page_gets_what_happens_as_data_and_gives_commands_the_same_way() {
    let gateway = masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    let builder = Bot::builder().gateway(gateway).bind(Kind::Pub, "-|-", "!hello", hello).unwrap();
    let (bot, at) = bot(builder, Settings::default()).await;
    knows(&bot, "mia", "m").await;
    let gateway = bot.gateway_at().unwrap();
    let connect = async || {
        let mut request = format!("ws://{gateway}/partyline/ws").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "data.masterchief".parse().unwrap());
        let stream = TcpStream::connect(gateway).await.unwrap();
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "data.masterchief");
        Page(socket)
    };
    let mut page = connect().await;
    assert_eq!(page.hears_type("hello").await["bot"], "chief");
    page.sends(json!({"do": "say", "to": "#ops", "text": "let me in", "id": 1})).await;
    assert_eq!(page.hears_type("error").await["error"], "log in first");
    page.sends(json!({"do": "login", "handle": "mia", "password": "wrong words"})).await;
    assert!(page.hears_type("error").await["error"].as_str().unwrap().contains("do not fit"));
    page.sends(json!({"do": "login", "handle": "mia", "password": PASSWORD})).await;
    assert_eq!(page.hears_type("welcome").await["nick"], "mia");
    page.sends(json!({"do": "say", "to": "#ops", "text": "!hello", "id": "x"})).await;
    let said = page.hears(|record| record["type"] == "said" && record["from"]["nick"] == "chief").await;
    assert_eq!((&said["text"], &said["place"], &said["how"]), (&json!("hi mia"), &json!("#ops"), &json!("say")));
    page.sends(json!({"do": "command", "line": "whoami", "id": 7})).await;
    let told = page.hears(|record| record["type"] == "told" && record["from"]["nick"] == "chief").await;
    assert!(told["text"].as_str().unwrap().starts_with("You are mia"), "{told}");
    // A command that is said as words is heard by nobody, whether it is one or not.
    for (line, fault) in [(".chpasss mia newpw", "there is no command"), (".newpass newpw", "send it as `command`")] {
        page.sends(json!({"do": "say", "to": "#partyline", "text": line})).await;
        let told = page.hears_type("error").await["error"].as_str().unwrap().to_owned();
        assert!(told.contains(fault) && !told.contains("newpw"), "{told}");
    }
    page.sends(json!({"do": "complete", "line": ".who", "id": 8})).await;
    let complete = page.hears_type("complete").await;
    assert_eq!((&complete["words"], &complete["id"]), (&json!(["who", "whoami", "whois", "whom"]), &json!(8)));
    // Others come and talk, and the log is data too.
    let mut bob = {
        knows(&bot, "bob", "p").await;
        Typist::logs_in(at, "bob").await
    };
    let joined = page.hears(|record| record["type"] == "joined" && record["from"]["handle"] == "bob").await;
    assert!(joined["n"].is_u64() && joined["at"].as_str().unwrap().ends_with('Z'), "{joined}");
    bob.types("good evening").await;
    page.hears(|record| record["type"] == "said" && record["text"] == "good evening").await;
    page.sends(json!({"do": "names", "place": "#ops"})).await;
    assert!(page.hears_type("names").await["who"].as_array().unwrap().len() >= 2);
    page.sends(json!({"do": "command", "line": "console +b"})).await;
    page.hears(|record| record["text"].as_str().is_some_and(|text| text.contains("You see +b"))).await;
    bot.party().log('b', tracing::Level::WARN, "a bot is slow");
    let log = page.hears_type("log").await;
    assert_eq!((&log["mode"], &log["level"], &log["text"]), (&json!("b"), &json!("warn"), &json!("a bot is slow")));
    for (record, fields) in [
        (json!({"do": "say", "text": "x"}), "say has these fields: to, text"),
        (json!({"do": "sing"}), "there are login"),
    ] {
        page.sends(record).await;
        let told = page.hears_type("error").await["error"].as_str().unwrap().to_owned();
        assert!(told.contains(fields), "{told}");
    }
    page.0.send(Message::text("{no json")).await.unwrap();
    assert!(page.hears_type("error").await["error"].as_str().unwrap().starts_with("no JSON"));
    page.sends(json!({"do": "quit", "reason": "home"})).await;
    assert_eq!(page.hears_type("bye").await["reason"], "home");
    bob.reads("mia has left: home").await;
    bot.stop("").await;
}

#[tokio::test]
async fn operators_see_who_may_do_what_and_whom_the_bot_ignores() {
    let (bot, at) =
        bot(Bot::builder().bind(Kind::Pub, "o|o", "!fire", |_: Event| async { "bang" }).unwrap(), Settings::default())
            .await;
    for (handle, flags) in [("mia", "m"), ("opal", "po"), ("alice", "p")] {
        knows(&bot, handle, flags).await;
    }
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".policy !fire").await;
    mia.reads("pub !fire: needs o|o; mia, opal may").await;
    mia.types(".policy .die").await;
    mia.reads("dcc die: needs n|-; nobody may").await;
    mia.types(".policy alice").await;
    let may = mia.reads(".whom").await;
    assert!(may.contains("alice has the flags p") && !may.contains(".rehash"), "{may}");
    mia.types(".policy nonsense").await;
    mia.reads("no word of a bind, no handle and no app").await;
    mia.types(".caps").await;
    mia.reads("The bot is on no network").await;
    mia.types(".+ignore mallory 1h noise").await;
    mia.reads("Not listening to mallory!*@* for 1h").await;
    mia.types(".ignores").await;
    mia.reads("mallory!*@* for").await;
    mia.types(".-ignore mallory").await;
    mia.reads("Listening to mallory!*@* again").await;
    mia.types(".help ign").await;
    mia.reads(".ignores").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".ignores").await;
    alice.reads("needs the flags m").await;
    bot.stop("").await;
}

/// Behind a proxy all pages come from one address: it says whom it speaks for, and one who mistypes locks nobody else out.
#[tokio::test]
async fn behind_a_proxy_of_ours_wrong_passwords_count_for_whom_it_speaks_for() {
    let behind = vec![[127, 0, 0, 1].into()];
    let gateway =
        masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), behind, ..Default::default() };
    let (bot, _) = bot(Bot::builder().gateway(gateway), Settings { attempts: 2, ..Settings::default() }).await;
    knows(&bot, "alice", "p").await;
    let at = bot.gateway_at().unwrap();
    let comes = async |from: &'static str, password: &str| {
        let mut request = format!("ws://{at}/partyline/ws").into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
        request.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        for line in [&format!("PASS :alice:{password}"), "NICK alice", "USER a 0 * :A"] {
            socket.send(Message::text(line.to_owned())).await.unwrap();
        }
        let mut heard = String::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, socket.next()).await {
            heard.push_str(&String::from_utf8_lossy(&frame.into_data()));
            if heard.contains(" 001 alice ") || heard.contains("too many wrong passwords") {
                break;
            }
        }
        heard
    };
    for _ in 0..2 {
        assert!(comes("203.0.113.66", "hunter2").await.contains(" 464 "));
    }
    // What stands before the hop that the proxy saw is hers to write.
    let locked = comes("203.0.113.7, 203.0.113.66", PASSWORD).await;
    assert!(locked.contains("too many wrong passwords"), "{locked}");
    assert!(comes("203.0.113.7", PASSWORD).await.contains(" 001 alice "));
    bot.stop("").await;
}
