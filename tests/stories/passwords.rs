//! Passwords are said to nobody but whom they are for, and never where others can read them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use masterchief::bot::Bot;
use masterchief::irc::{ServerAddr, Services, Settings};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::wire::{Authority, Line, Wire};

fn identifying(nickserv: &str) -> Services {
    Services {
        nickserv: nickserv.to_owned(),
        chanserv: "ChanServ".to_owned(),
        regain: Some("REGAIN".to_owned()),
        password: Some(masterchief::contract::Secret::new("sesame")),
        identify: true,
        let_in: false,
        op: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_for_services_is_said_neither_on_a_connection_that_was_plain_before_a_rehash_nor_to_a_nick_alone() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    // The settings say TLS by now; the connection is the one from before.
    let wire = Wire::plain().await;
    let started = Bot::builder().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates("").await;
    let secure = Settings { tls: authority.trusted(), ..wire.settings() };
    let network = started.network("story").unwrap();
    network.reconfigure(Settings { services: Some(identifying("NickServ@services.test")), ..secure.clone() });
    line.says(&[":s 001 chief1 :hi", ":s 422 chief1 :x", ":s 900 chief1 a!b@c chief :You are now logged in"]).await;
    let heard = until(&mut line, "PRIVMSG NickServ@services.test :REGAIN chief").await;
    assert!(heard.iter().any(|line| line.starts_with("JOIN #ops")), "{heard:?}");
    assert!(!heard.iter().any(|line| line.contains("sesame")), "{heard:?}");
    started.stop("").await;

    let wire = Wire::secure(&authority).await;
    let settings = Settings { services: Some(identifying("NickServ")), tls: authority.trusted(), ..wire.settings() };
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates("").await;
    line.says(&[":s 001 chief1 :hi", ":s 422 chief1 :x", ":s 900 chief1 a!b@c chief :You are now logged in"]).await;
    let heard = until(&mut line, "PRIVMSG NickServ :REGAIN chief").await;
    assert!(!heard.iter().any(|line| line.contains("sesame")), "{heard:?}");
    started.stop("").await;
}

/// All lines up to this one.
async fn until(line: &mut Line, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|one| one != last) {
        heard.push(line.next().await.unwrap());
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_sasl_services_are_told_the_password_before_anything_is_joined() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let wire = Wire::secure(&authority).await;
    let mut settings = Settings { tls: authority.trusted(), ..wire.settings() };
    settings.services = Some(identifying("NickServ@services.test"));
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates("").await;
    line.welcomes("").await;
    line.hears("PRIVMSG NickServ@services.test :IDENTIFY sesame").await;
    line.says(&["PING :joined"]).await;
    assert_eq!(line.next().await.unwrap(), "PONG joined", "not yet");
    line.says(&[":s 900 chief chief!c@host chief :You are now logged in"]).await;
    assert_eq!(line.next().await.unwrap(), "JOIN #ops");
    assert_eq!(started.status().await.networks[0].account.as_deref(), Some("chief"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_demands_tls_over_websocket_is_not_asked_again_and_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Wire::plain().await.settings();
    let port = listener.local_addr().unwrap().port();
    settings.servers = vec![format!("ws://127.0.0.1:{port}/webirc").parse::<ServerAddr>().unwrap()];
    settings.password = Some(masterchief::contract::Secret::new("sesame"));
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    let mut came = 0;
    let asked = tokio::time::timeout(Duration::from_secs(2), async {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            came += 1;
            #[allow(clippy::result_large_err, reason = "the library's own type")]
            let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                response.headers_mut().insert("Sec-WebSocket-Protocol", "text.ircv3.net".parse().unwrap());
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(tcp, choose).await.unwrap();
            socket.next().await.unwrap().unwrap();
            socket.send(Message::text(":s CAP * LS :sts=port=6697")).await.unwrap();
            while let Some(Ok(said)) = socket.next().await {
                assert!(!said.to_string().contains("sesame"), "{said}");
            }
        }
    });
    assert!(asked.await.is_err());
    assert!((1..20).contains(&came), "with a pause each time, not {came} times in two seconds");
    let trouble = started.status().await.networks[0].trouble.clone().unwrap();
    assert!(trouble.contains("write wss://"), "{trouble}");
    started.stop("").await;
}
