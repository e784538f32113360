//! Ways to a server, to their end: IPv6, WebSocket behind TLS, and names in another alphabet than UTF-8 with and without UTF8ONLY. And
//! who is a bot there.

use futures_util::{SinkExt, StreamExt};
use masterchief::bot::{Bot, Builder};
use masterchief::contract::{Event, Kind};
use masterchief::irc::ServerAddr;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::wire::{Authority, Memory, Wire};

fn greets() -> Builder {
    Bot::builder().bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.nick()) }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_an_ipv6_address_is_reached_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    for secure in [false, true] {
        let Some(wire) = Wire::at_six(secure.then_some(&authority)).await else {
            println!("this machine has no ::1, so nothing is shown of IPv6");
            return;
        };
        let mut settings = wire.settings();
        settings.servers = vec![format!("[::1]:{}", wire.port()).parse::<ServerAddr>().unwrap()];
        if secure {
            settings.tls = authority.trusted();
        }
        let started = greets().network("story", settings).start().await.unwrap();
        let mut line = wire.accepts().await;
        line.is_joined("", "").await;
        line.says(&[":alice!a@2001:db8::1 PRIVMSG #ops :!hello"]).await;
        assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :hi alice");
        assert!(started.status().await.networks[0].server.contains("[::1]"));
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_websocket_behind_tls_the_bot_is_at_home_and_a_stranger_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let wire = Wire::secure(&authority).await;
    let mut settings = wire.settings();
    settings.servers = vec![format!("wss://localhost:{}/chat", wire.port()).parse::<ServerAddr>().unwrap()];
    settings.tls = authority.trusted();
    let started = greets().network("story", settings.clone()).start().await.unwrap();
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(
            (request.uri().path(), request.headers()["Origin"].to_str().unwrap()),
            ("/chat", "https://localhost")
        );
        response.headers_mut().insert("Sec-WebSocket-Protocol", "text.ircv3.net".parse().unwrap());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(wire.accepts().await.into_stream(), choose).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), "CAP LS 302", "no CRLF in a frame");
    for line in [":s CAP * LS :", ":s 001 chief :Welcome", ":s 422 chief :No MOTD", ":chief!c@h JOIN #ops"] {
        socket.send(Message::text(line)).await.unwrap();
    }
    socket.send(Message::text(":alice!a@h PRIVMSG #ops :!hello")).await.unwrap();
    loop {
        let frame = socket.next().await.unwrap().unwrap().into_data();
        if frame.starts_with(b"PRIVMSG") {
            assert_eq!(frame, "PRIVMSG #ops :hi alice");
            break;
        }
    }
    started.stop("").await;

    // Somebody else's certificate at the same address.
    let other = tempfile::tempdir().unwrap();
    let wire = Wire::secure(&Authority::new(other.path())).await;
    settings.servers = vec![format!("wss://localhost:{}/chat", wire.port()).parse::<ServerAddr>().unwrap()];
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    wire.is_refused().await;
    let end = tokio::time::Instant::now() + crate::person::PATIENCE;
    loop {
        let trouble = started.status().await.networks[0].trouble.clone().unwrap_or_default();
        if trouble.starts_with("TLS with wss://localhost") {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{trouble:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_named_in_another_alphabet_is_answered_as_it_is_named_and_where_only_utf8_is_taken_in_that() {
    for (isupport, wanted) in
        [("X=1", b"PRIVMSG #caf\xe9 :hi".as_slice()), ("UTF8ONLY", b"PRIVMSG #caf\xef\x9f\xa9 :hi")]
    {
        let (mut memory, way) = Memory::new();
        let started = greets().dial(way).network("story", Memory::settings()).start().await.unwrap();
        let mut line = memory.accepts().await;
        line.negotiates("").await;
        line.welcomes(isupport).await;
        line.hears("JOIN #ops").await;
        assert!(line.writes(b":chief!c@h JOIN #caf\xe9\r\n:alice!a@h PRIVMSG #caf\xe9 :!hello\r\n").await);
        let mut stream = line.into_stream();
        let mut said = Vec::new();
        while !said.windows(wanted.len()).any(|part| part == wanted) {
            let mut bytes = [0; 512];
            let read = tokio::time::timeout(crate::person::PATIENCE, stream.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("{isupport}: {}", said.escape_ascii())).unwrap();
            said.extend_from_slice(&bytes[..read]);
        }
        assert_eq!(std::str::from_utf8(&said).is_ok(), isupport == "UTF8ONLY", "{}", said.escape_ascii());
        drop(stream);
        started.stop("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn whom_the_network_marks_as_a_bot_by_a_tag_or_in_who_is_not_obeyed() {
    let (mut memory, way) = Memory::new();
    let started = greets().dial(way).network("story", Memory::settings()).start().await.unwrap();
    let mut line = memory.accepts().await;
    line.negotiates("message-tags").await;
    line.welcomes("BOT=B WHOX").await;
    line.hears("JOIN #ops").await;
    let names = [":s 353 chief = #ops :chief alice robo carl", ":s 366 chief #ops :End"];
    line.says(&[":chief!c@h JOIN #ops", names[0], names[1]]).await;
    let who = line.hears("WHO #ops ").await;
    let token = who.rsplit(',').next().unwrap();
    let row = |nick: &str, flags: &str| format!(":s 354 chief {token} #ops {nick} h {nick} {flags} 0");
    line.says(&[&row("robo", "HB"), &row("alice", "H"), &row("carl", "H"), ":s 315 chief #ops :End"]).await;
    line.says(&[":robo!robo@h PRIVMSG #ops :!hello", "@bot :carl!carl@h PRIVMSG #ops :!hello"]).await;
    line.says(&[":alice!alice@h PRIVMSG #ops :!hello"]).await;
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :hi alice");
    let (said, _) = line.answers("so-far").await;
    assert!(!said.iter().any(|line| line.contains("hi ")), "{said:?}");
    started.stop("").await;
}
