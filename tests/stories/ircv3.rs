//! What modern servers tell beyond words, by a server that plays its part: the lab has none that can do all of it.

use std::time::Duration;

use masterchief::bot::{Bot, Builder, Started};
use masterchief::contract::{Action, Event, HandlerError, How, Kind, Outcome};
use masterchief::irc::{ServerAddr, Services, Settings};

use crate::wire::{Authority, Line, Wire};

/// What is offered where a story does not need less.
pub(crate) const CAPS: &str = "message-tags server-time batch account-tag account-notify extended-join away-notify chghost setname \
                    invite-notify multi-prefix userhost-in-names draft/chathistory draft/multiline standard-replies";

/// A bot that says of every event of these kinds, to alice, what it was.
pub(crate) fn telling(kinds: &[(Kind, &str)]) -> Builder {
    let mut bot = Bot::builder();
    for (kind, mask) in kinds {
        let tell = |ev: Event| async move {
            let fields: Vec<String> = ev.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let place = ev.chan().unwrap_or("-").to_owned();
            let text = format!("{} {place} {} [{}] {}", ev.kind(), ev.nick(), fields.join(" "), ev.text());
            let say =
                Action::Say { network: String::new(), target: "alice".to_owned(), text, how: How::Say, reply: false };
            ev.perform(say).await.map_err(HandlerError::internal)
        };
        bot = bot.bind(*kind, "-|-", mask, tell).unwrap();
    }
    bot
}

pub(crate) async fn joined(bot: Builder, wire: &Wire, caps: &str, isupport: &str) -> (Started, Line) {
    let started = bot.network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined(caps, isupport).await;
    (started, line)
}

/// What alice is told next.
pub(crate) async fn told(line: &mut Line) -> String {
    line.hears("PRIVMSG alice :").await["PRIVMSG alice :".len()..].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_netsplit_is_told_once_and_those_who_come_back_did_not_join() {
    let wire = Wire::plain().await;
    let kinds = [(Kind::Splt, "*"), (Kind::Rejn, "*"), (Kind::Netsplit, "*"), (Kind::Sign, "*"), (Kind::Join, "*")];
    let (started, mut line) = joined(telling(&kinds), &wire, CAPS, "").await;
    assert!(told(&mut line).await.starts_with("join #ops chief"));
    for nick in ["bob", "carol", "dave"] {
        line.says(&[&format!(":{nick}!u@h JOIN #ops * :x")]).await;
        told(&mut line).await;
    }
    line.says(&[
        ":s BATCH +b netsplit hub.test leaf.test",
        "@batch=b :bob!u@h QUIT :hub.test leaf.test",
        "@batch=b :carol!u@h QUIT :*.net *.split",
        ":s BATCH -b",
        ":dave!u@h QUIT :Quit: hub.test leaf.test",
    ])
    .await;
    assert_eq!(told(&mut line).await, "splt #ops bob [servers=\"hub.test leaf.test\"]");
    assert_eq!(told(&mut line).await, "splt #ops carol [servers=\"hub.test leaf.test\"]");
    assert_eq!(told(&mut line).await, "sign #ops dave [] Quit: hub.test leaf.test");
    assert_eq!(told(&mut line).await, "netsplit -  [servers=\"hub.test leaf.test\" lost=2]");
    line.says(&[":bob!u@h JOIN #ops * :x", ":carol!u@elsewhere JOIN #ops * :x", ":bob!u@h JOIN #ops * :x"]).await;
    assert!(told(&mut line).await.starts_with("rejn #ops bob"));
    assert!(told(&mut line).await.starts_with("join #ops carol"), "another host: another person, for all we know");
    assert!(told(&mut line).await.starts_with("join #ops bob"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_parts_is_one_command() {
    let wire = Wire::plain().await;
    let kinds = [(Kind::Pub, "!note"), (Kind::Pubm, "*")];
    let (started, mut line) = joined(telling(&kinds), &wire, CAPS, "").await;
    line.says(&[
        "@msgid=9 :alice!a@h BATCH +m draft/multiline #ops",
        "@batch=m :alice!a@h PRIVMSG #ops :!note first",
        "@batch=m;draft/multiline-concat :alice!a@h PRIVMSG #ops : line",
        "@batch=m :alice!a@h PRIVMSG #ops :!note second",
        ":alice!a@h BATCH -m",
    ])
    .await;
    assert_eq!(told(&mut line).await, "pubm #ops alice [] !note first line");
    assert_eq!(told(&mut line).await, "!note second", "the same words, said as two lines");
    assert_eq!(told(&mut line).await, "pub #ops alice [] first line");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watched_nick_does_is_told_where_no_channel_is_shared_with_it() {
    let wire = Wire::plain().await;
    let kinds = [
        (Kind::Monitor, "bob"),
        (Kind::Ircaway, "\\* bob!*"),
        (Kind::Account, "* bob!* bb"),
        (Kind::Chghost, "*"),
        (Kind::Setname, "*"),
    ];
    let caps = format!("{CAPS} extended-monitor");
    let (started, mut line) = joined(telling(&kinds), &wire, &caps, "MONITOR=100").await;
    line.hears("MONITOR + bob").await;
    line.says(&[":carol!c@h AWAY :nobody asked", ":carol!c@h SETNAME :Carol"]).await;
    for (says, wanted) in [
        (":bob!b@h AWAY :lunch", "ircaway - bob [] lunch"),
        (":bob!b@h ACCOUNT bb", "account - bob [newaccount=\"bb\"]"),
        (":bob!b@h CHGHOST b cloak.test", "chghost - bob [newuser=\"b\" newhost=\"cloak.test\"]"),
        (":bob!b@cloak.test SETNAME :Bob B.", "setname - bob [] Bob B."),
    ] {
        line.says(&[says]).await;
        assert_eq!(told(&mut line).await.trim_end(), wanted, "{says}");
    }
    // Who is in a channel too is told of there, once.
    line.says(&[
        ":bob!b@cloak.test JOIN #ops",
        ":bob!b@cloak.test CHGHOST b other.test",
        ":bob!b@other.test PART #ops",
    ])
    .await;
    assert_eq!(told(&mut line).await.trim_end(), "chghost #ops bob [newuser=\"b\" newhost=\"other.test\"]");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_are_marked_as_a_bot_where_there_is_a_mark() {
    let wire = Wire::plain().await;
    let started = Bot::builder().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates(CAPS).await;
    line.welcomes("BOT=B").await;
    line.hears("JOIN #ops").await;
    assert_eq!(line.hears("MODE").await, "MODE chief +B");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_words_notices_answers_and_warnings_reach_their_binds_and_stop_keeps_our_own_answer_back() {
    let wire = Wire::plain().await;
    let kinds = [
        (Kind::Msgm, "*"),
        (Kind::Notc, "*"),
        (Kind::Ctcr, "VERSION"),
        (Kind::Fail, "WARN * *"),
        (Kind::Fail, "NOTE * *"),
    ];
    let bot = telling(&kinds).bind(Kind::Ctcp, "-|-", "VERSION", |_: Event| async { Outcome::Stop }).unwrap();
    let (started, mut line) = joined(bot, &wire, CAPS, "").await;
    for (says, wanted) in [
        (":bob!b@h PRIVMSG chief :hello you", "msgm - bob [] hello you"),
        (":bob!b@h NOTICE chief :in private", "notc - bob [dest=\"chief\"] in private"),
        (":bob!b@h NOTICE #ops :for all", "notc #ops bob [dest=\"#ops\"] for all"),
        (":bob!b@h NOTICE chief :\u{1}VERSION irssi\u{1}", "ctcr - bob [dest=\"chief\" keyword=\"VERSION\"] irssi"),
        (
            ":s WARN REHASH CERTS_EXPIRED :Certificate expired",
            "fail -  [level=\"WARN\" command=\"REHASH\" code=\"CERTS_EXPIRED\" context=\"\"] Certificate expired",
        ),
        (
            ":s NOTE * OPER_MESSAGE :Hello all",
            "fail -  [level=\"NOTE\" command=\"*\" code=\"OPER_MESSAGE\" context=\"\"] Hello all",
        ),
    ] {
        line.says(&[says]).await;
        assert_eq!(told(&mut line).await, wanted, "{says}");
    }
    line.says(&[":bob!b@h PRIVMSG chief :\u{1}VERSION\u{1}", ":bob!b@h PRIVMSG chief :\u{1}PING 8\u{1}"]).await;
    assert_eq!(line.hears("NOTICE").await, "NOTICE bob :\u{1}PING 8\u{1}", "VERSION was stopped");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_the_server_tells_of_people_and_of_itself_reaches_its_bind() {
    let wire = Wire::plain().await;
    let kinds = [
        (Kind::Ircaway, "#ops alice!*"),
        (Kind::Account, "#ops * al"),
        (Kind::Chghost, "#ops *!*@cloak.test"),
        (Kind::Setname, "*"),
        (Kind::Invt, "#ops bob"),
        (Kind::Monitor, "bob"),
        (Kind::Isupport, "TOPICLEN"),
        (Kind::Wall, "*soon*"),
        (Kind::React, "#ops ok"),
        (Kind::Redact, "#ops *"),
        (Kind::Fail, "FAIL REDACT *"),
        (Kind::Need, "#ops op"),
        (Kind::Evnt, "hidden-host"),
        (Kind::Tagmsg, "chief"),
    ];
    let (started, mut line) = joined(telling(&kinds), &wire, CAPS, "").await;
    for (says, wanted) in [
        (":alice!a@h AWAY :lunch", "ircaway #ops alice [] lunch"),
        (":alice!a@h ACCOUNT al", "account #ops alice [newaccount=\"al\"]"),
        (":alice!a@h CHGHOST al cloak.test", "chghost #ops alice [newuser=\"al\" newhost=\"cloak.test\"]"),
        (":alice!al@cloak.test SETNAME :Alice L.", "setname #ops alice [] Alice L."),
        (":alice!al@cloak.test INVITE bob #ops", "invt #ops alice [target=\"bob\"]"),
        (":s 730 chief :bob!b@h", "monitor - bob [online=true]"),
        (":s 005 chief TOPICLEN=9 :x", "isupport - [token=\"TOPICLEN\" value=\"9\" isset=true was=null]"),
        (":oper!o@h WALLOPS :down soon", "wall -  [from=\"oper!o@h\"] down soon"),
        (
            "@+draft/react=ok;+reply=m7 :alice!al@cloak.test TAGMSG #ops",
            "react #ops alice [reaction=\"ok\" msgid=\"m7\" removed=false]",
        ),
        (":alice!al@cloak.test REDACT #ops m7 :oops", "redact #ops alice [msgid=\"m7\"] oops"),
        (
            ":s FAIL REDACT UNKNOWN_MSGID #ops m8 :no such",
            "fail -  [level=\"FAIL\" command=\"REDACT\" code=\"UNKNOWN_MSGID\" context=\"#ops m8\"] no such",
        ),
        (":s 482 chief #ops :You're not channel operator", "need #ops  [type=\"op\"]"),
        (":s 396 chief cloak.bot :is now your displayed host", "evnt -  [type=\"hidden-host\"] cloak.bot"),
        ("@+typing=active :alice!al@cloak.test TAGMSG chief", "tagmsg - alice [dest=\"chief\"]"),
    ] {
        line.says(&[says]).await;
        let heard = told(&mut line).await;
        assert_eq!(heard.replace("isupport -  [", "isupport - ["), wanted, "{says}");
    }
    // What a bot has no use for does no harm.
    line.says(&[
        ":s MARKREAD #ops timestamp=2026-03-02T12:00:00.000Z",
        ":s METADATA #ops url * :x",
        ":s 761 chief alice url * :x",
        "@batch=unknown :x!y@z PRIVMSG #ops :!x",
        ":s BATCH +z x/unknown",
        "@batch=z :alice!al@cloak.test AWAY",
        ":s BATCH -z",
    ])
    .await;
    assert_eq!(told(&mut line).await, "ircaway #ops alice []");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_labelled_and_what_becomes_of_them_is_counted() {
    let wire = Wire::plain().await;
    let caps = format!("{CAPS} echo-message labeled-response");
    let (started, mut line) = joined(telling(&[(Kind::Pubm, "*")]), &wire, &caps, "").await;
    for (n, answer) in [
        (1, "@label=mc1 :chief!c@host PRIVMSG alice :TEXT"),
        (2, "@label=mc2 :s 401 chief alice :No such nick"),
        (3, "@label=mc3 :s ACK"),
    ] {
        line.says(&[":alice!a@h PRIVMSG #ops :hello"]).await;
        let said = line.hears(&format!("@label=mc{n} PRIVMSG alice :")).await;
        let text = said.split(" :").nth(1).unwrap();
        line.says(&[&answer.replace("TEXT", text)]).await;
    }
    // What comes back is ours, and no command.
    line.says(&["@label=mc99 :chief!c@host PRIVMSG #ops :!hello", "PING :done"]).await;
    assert_eq!(line.next().await.as_deref(), Some("PONG done"));
    let status = started.status().await.networks[0].clone();
    assert_eq!((status.confirmed, status.refused), (2, 1));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_casemapping_that_changes_does_not_lose_the_channel() {
    let wire = Wire::plain().await;
    let mut settings = wire.settings();
    settings.channels[0].name = "#Ops[1]".to_owned();
    let bot = telling(&[(Kind::Pub, "!x")]).network("story", settings);
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates(CAPS).await;
    line.welcomes("CASEMAPPING=rfc1459").await;
    line.hears("JOIN #Ops[1]").await;
    line.says(&[":chief!c@host JOIN #ops{1} * :x", ":s 005 chief CASEMAPPING=ascii :x"]).await;
    line.says(&[":alice!a@h PRIVMSG #ops{1} :!x", ":alice!a@h KICK #OPS{1} chief :out"]).await;
    assert_eq!(told(&mut line).await, "pub #ops{1} alice []");
    line.says(&[":s 005 chief -CASEMAPPING :x"]).await;
    // Five seconds after the kick.
    assert_eq!(line.hears("JOIN").await, "JOIN #Ops[1]");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_asked_to_help_only_where_that_is_configured() {
    let services = Services {
        nickserv: "NickServ@services.test".to_owned(),
        chanserv: "ChanServ".to_owned(),
        regain: Some("REGAIN".to_owned()),
        password: Some(masterchief::contract::Secret::new("sesame")),
        identify: false,
        let_in: true,
        op: false,
    };
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    for configured in [true, false] {
        let wire = Wire::secure(&authority).await;
        let mut settings = Settings { tls: authority.trusted(), ..wire.settings() };
        settings.services = configured.then(|| services.clone());
        let started = Bot::builder().network("story", settings).start().await.unwrap();
        let mut line = wire.accepts().await;
        line.negotiates("").await;
        line.says(&[":s 001 chief1 :hi", ":s 005 chief1 MONITOR=9 :x", ":s 422 chief1 :x", "PING :one"]).await;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "PONG two") {
            match line.next().await.unwrap() {
                join if join.starts_with("JOIN") => line.says(&[":s 475 chief1 #ops :Cannot join", "PING :two"]).await,
                other => heard.push(other),
            }
        }
        if !configured {
            assert_eq!(heard, ["PONG one", "MONITOR + chief", "PONG two"]);
            started.stop("").await;
            continue;
        }
        assert!(heard.contains(&"PRIVMSG NickServ@services.test :REGAIN chief sesame".to_owned()), "{heard:?}");
        let asked = "PRIVMSG ChanServ :GETKEY #ops";
        if !heard.iter().any(|line| line == asked) {
            line.hears(asked).await;
        }
        line.says(&[":ChanServ!s@services.test NOTICE chief1 :Channel \u{2}#ops\u{2} key is: sekrit"]).await;
        assert_eq!(line.hears("JOIN").await, "JOIN #ops sekrit");
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nick_is_asked_for_where_nobody_tells_that_it_is_free_and_an_invitation_opens_only_what_we_wanted() {
    let wire = Wire::plain().await;
    let (started, mut line) = joined(Bot::builder(), &wire, "", "WATCH=128").await;
    line.says(&[":chief!c@host NICK Guest1"]).await;
    assert_eq!(line.hears("WATCH").await, "WATCH +chief");
    line.says(&[":s 605 Guest1 chief * * 0 :is offline"]).await;
    line.hears("NICK chief").await;
    line.says(&[":Guest1!c@host NICK chief"]).await;
    line.hears("WATCH -chief").await;
    line.says(&[":x!y@z INVITE chief #elsewhere", ":chief!c@host PART #ops", ":x!y@z INVITE chief #ops"]).await;
    assert_eq!(line.hears("JOIN").await, "JOIN #ops");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_sends_us_elsewhere_is_not_taken_for_the_other() {
    let wire = Wire::plain().await;
    let started = Bot::builder().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates("").await;
    line.welcomes("").await;
    line.hears("JOIN #ops").await;
    line.says(&[":s 470 chief #ops #overflow :Forwarding to another channel", ":chief!c@host JOIN #overflow"]).await;
    assert!(line.hears("PART").await.starts_with("PART #overflow"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_websocket_a_line_is_a_frame_and_an_old_servers_names_are_spoken_too() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

    // A server that knows the first names, one that knows only the old, one that answers without any.
    for knows in ["text.ircv3.net", "binary.inspircd.org", ""] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Wire::plain().await.settings();
        let port = listener.local_addr().unwrap().port();
        settings.servers = vec![format!("ws://127.0.0.1:{port}/webirc").parse::<ServerAddr>().unwrap()];
        let started = telling(&[(Kind::Pub, "!x")]).network("story", settings).start().await.unwrap();
        let mut socket = loop {
            let (tcp, _) = listener.accept().await.unwrap();
            #[allow(clippy::result_large_err, reason = "the library's own type")]
            let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                assert_eq!(request.uri().path(), "/webirc");
                assert_eq!(request.headers()["Origin"], "http://127.0.0.1");
                let asked = request.headers().get("Sec-WebSocket-Protocol").map_or("", |value| value.to_str().unwrap());
                if !knows.is_empty() && asked.contains(knows) {
                    response.headers_mut().insert("Sec-WebSocket-Protocol", knows.parse().unwrap());
                }
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(tcp, choose).await.unwrap();
            if let Some(Ok(first)) = socket.next().await {
                assert_eq!(first.is_binary(), knows.starts_with("binary"), "{knows}");
                assert_eq!(first.into_data(), "CAP LS 302", "no CRLF in a frame");
                break socket;
            }
        };
        let mut send = async |text: &str| socket.send(Message::text(text)).await.unwrap();
        send(":s CAP * LS :").await;
        send(":s 001 chief :Welcome").await;
        send(":s 422 chief :No MOTD\r\n").await;
        send(":alice!a@h PRIVMSG chief :hello").await;
        send(":alice!a@h PRIVMSG #ops :!x grüße").await;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.starts_with("PRIVMSG alice")) {
            heard.push(String::from_utf8(socket.next().await.unwrap().unwrap().into_data().to_vec()).unwrap());
        }
        assert!(heard.last().unwrap().ends_with("grüße"), "{heard:?}");
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_socks_proxy_the_server_is_reached_by_its_name_and_as_who_we_say() {
    use masterchief::irc::Proxy;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

    let wire = Wire::plain().await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = wire.settings();
    settings.servers[0].host = "secret-name.onion".to_owned();
    settings.proxy = Some(Proxy {
        address: ServerAddr::new("127.0.0.1", proxy.local_addr().unwrap().port()),
        user: Some("circuit-7".to_owned()),
        password: Some(masterchief::contract::Secret::new("x")),
    });
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    let (mut client, _) = proxy.accept().await.unwrap();
    let mut said = [0; 3];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(said, [5, 1, 2]);
    client.write_all(&[5, 2]).await.unwrap();
    let mut login = [0; 13];
    client.read_exact(&mut login).await.unwrap();
    assert_eq!(&login, b"\x01\x09circuit-7\x01x");
    client.write_all(&[1, 0]).await.unwrap();
    let mut request = [0; 24];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(&request[..5], [5, 1, 0, 3, 17]);
    assert_eq!(&request[5..22], b"secret-name.onion");
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", wire.port())).await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_banned_does_not_knock_again_at_once() {
    let wire = Wire::plain().await;
    let started = Bot::builder().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.hears("USER").await;
    line.says(&[":s 465 * :You are banned from this server", "ERROR :Closing link: K-Lined"]).await;
    line.rest().await;
    assert!(wire.is_left_alone(Duration::from_secs(3)).await, "an ordinary pause is a second at most");
    assert!(started.status().await.networks[0].trouble.clone().unwrap().contains("465"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_words_are_one_message_where_the_server_takes_such_and_an_answer_names_what_it_answers() {
    let wire = Wire::plain().await;
    let long = |_: Event| async { format!("one\ntwo {}", "x".repeat(600)) };
    let bot = Bot::builder().bind(Kind::Pub, "-|-", "!long", long).unwrap();
    let bot = bot
        .bind(Kind::Pub, "-|-", "!up", |ev: Event| async move {
            ev.react("\u{1f44d}").await.map_err(HandlerError::internal)
        })
        .unwrap();
    let caps = CAPS.replace("draft/multiline", "draft/multiline=max-bytes=4096,max-lines=24");
    let (started, mut line) = joined(bot, &wire, &caps, "").await;
    line.says(&["@msgid=m1 :alice!a@h PRIVMSG #ops :!long"]).await;
    assert_eq!(line.hears("@").await, "@+reply=m1;+draft/reply=m1 BATCH +mc1 draft/multiline #ops");
    assert_eq!(line.next().await.unwrap(), "@batch=mc1 PRIVMSG #ops :one");
    assert!(line.next().await.unwrap().starts_with("@batch=mc1 PRIVMSG #ops :two xxx"));
    assert!(line.next().await.unwrap().starts_with("@batch=mc1;draft/multiline-concat PRIVMSG #ops :xxx"));
    assert_eq!(line.next().await.unwrap(), "BATCH -mc1");
    assert_eq!(line.next().await.unwrap(), "PING mc1", "what comes before its answer is about this message");
    // A server that does not want it after all is told line by line.
    line.says(&[":s FAIL BATCH MULTILINE_MAX_BYTES 9 :Too long"]).await;
    assert_eq!(line.next().await.unwrap(), "@+reply=m1;+draft/reply=m1 PRIVMSG #ops :one");
    assert!(line.next().await.unwrap().starts_with("PRIVMSG #ops :two xxx"));
    line.hears("PRIVMSG #ops :xxx").await;
    line.says(&["@msgid=m2 :alice!a@h PRIVMSG #ops :!up"]).await;
    let react = "@+draft/react=\u{1f44d};+reply=m2;+draft/reply=m2 TAGMSG #ops";
    assert_eq!(line.hears("@").await, react);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tags_is_sent_none() {
    let wire = Wire::plain().await;
    let bot = Bot::builder().bind(Kind::Pub, "-|-", "!x", |_: Event| async { "y" }).unwrap();
    let (started, mut line) = joined(bot, &wire, "", "").await;
    line.says(&["@msgid=m1 :alice!a@h PRIVMSG #ops :!x"]).await;
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :y");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_private_names_its_channel_unless_the_server_would_drop_that() {
    for (isupport, tag) in [("", "@+channel-context=#ops "), ("CLIENTTAGDENY=*,-reply", "")] {
        let wire = Wire::plain().await;
        let bot = Bot::builder().bind(Kind::Pub, "D|D", "!deploy", |_: Event| async { "done" }).unwrap();
        let (started, mut line) = joined(bot, &wire, CAPS, isupport).await;
        line.says(&[":mallory!m@h PRIVMSG #ops :!deploy web"]).await;
        let told = loop {
            let line = line.next().await.unwrap();
            if line.contains("NOTICE mallory :") {
                break line;
            }
        };
        assert!(told.starts_with(&format!("{tag}NOTICE mallory :!deploy needs the flags D|D")), "{told}");
        started.stop("").await;
    }
}
