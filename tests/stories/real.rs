//! The street on real servers: people talk, the bot answers.

use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Builder, Started};
use masterchief::contract::{Action, Event, How, Kind, Outcome};
use masterchief::irc::{Channel, PaceSettings, PingSettings, ServerAddr, Settings, Tls};

use crate::lab::{Lab, OldServer};
use crate::person::{PATIENCE, Person};

/// Settings for the lab over TLS with its own authority, without limits on the pace.
pub(crate) fn settings(lab: &Lab, channel: &str) -> Settings {
    let mut settings = Settings::new(vec![ServerAddr::new("localhost", lab.tls)]);
    settings.tls = Tls { ca: Some(lab.ca()), ..Tls::default() };
    settings.channels = vec![Channel { name: channel.to_owned(), key: None }];
    settings.pace = PaceSettings { burst: 100, interval: Duration::ZERO };
    settings.ping = PingSettings { after: Duration::from_secs(2), timeout: Duration::from_secs(2) };
    settings
}

/// A bot on the lab, in a channel.
pub(crate) fn bot_on(lab: &Lab, channel: &str) -> Builder {
    Bot::builder().network("lab", settings(lab, channel))
}

/// Waits until the bot is in a channel.
pub(crate) async fn joined(started: &Started, channel: &str) {
    let start = Instant::now();
    while !started.status().await.networks.iter().any(|network| network.channels.iter().any(|name| name == channel)) {
        assert!(start.elapsed() < PATIENCE, "the bot does not join {channel}: {:?}", started.status().await.networks);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `!hello`, answered by Rust.
pub(crate) fn hello(builder: Builder) -> Builder {
    builder
        .bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.nick()) })
        .unwrap()
        .bind(Kind::Msg, "-|-", "!hello", |ev: Event| async move { format!("psst {}", ev.nick()) })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_inspircd_over_tls_luau_and_rust_answer_in_channels_and_in_private() {
    let lab = Lab::start();
    let scripts = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("pub", "-|-", "!lua", function(ev) return { "one " .. ev.nick, "two " .. ev.text } end)
        bot.bind("msg", "-|-", "!lua", function(ev) ev:act("nods"); bot.say("#ops", "psst from " .. ev.nick) end)
        bot.bind("join", "-|-", "#ops *", function(ev) if not ev.own then ev:notice("welcome " .. ev.nick) end end)
        bot.bind("pub", "-|-", "!who", function(ev)
          local names = {}
          for _, user in bot.users(ev.chan) do table.insert(names, user.status .. user.nick) end
          table.sort(names)
          return table.concat(names, " ")
        end)"##;
    std::fs::write(scripts.path().join("story.lua"), lua).unwrap();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let started = hello(bot_on(&lab, "#ops")).scripts(scripts.path()).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    let mut bob = Person::connect(lab.plain, "bob").await;
    bob.joins("#ops").await;
    bob.hears("chief", "welcome bob").await;

    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    alice.says("chief", "!HELLO there");
    alice.hears("chief", "psst alice").await;
    alice.says("#ops", "\u{2}!lua\u{2} Grüße");
    alice.hears("chief", "one alice").await;
    alice.hears("chief", "two Grüße").await;
    alice.says("chief", "!lua");
    alice.hears("chief", "\u{1}ACTION nods\u{1}").await;
    bob.hears("chief", "psst from alice").await;
    alice.says("#ops", "!who");
    alice.hears("chief", "@alice bob chief").await;
    started.stop("until tomorrow").await;
    alice
        .waits(|line| line.command == "QUIT" && line.params.iter().any(|words| words.contains("until tomorrow")))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_ngircd_over_tls_a_server_of_the_old_kind_is_as_good() {
    let server = OldServer::start();
    let mut settings = Settings::new(vec![ServerAddr::new("127.0.0.1", server.tls)]);
    settings.tls = Tls { ca: Some(server.ca()), ..Tls::default() };
    settings.nick = "masterchief".to_owned();
    settings.alt_nicks = vec!["chief".to_owned()];
    settings.channels = vec![Channel { name: "#ops".to_owned(), key: None }];
    let started = hello(Bot::builder().network("ng", settings)).start().await.unwrap();
    joined(&started, "#ops").await;
    // `masterchief` is longer than the nine letters this server takes: 432.
    assert_eq!(started.status().await.networks[0].nick, "chief");
    let mut alice = Person::connect(server.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    alice.says("chief", "!hello");
    alice.hears("chief", "psst alice").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_networks_live_in_one_process_and_a_target_names_its_network() {
    let (lab, old) = (Lab::start(), OldServer::start());
    let mut other = Settings::new(vec![ServerAddr::new("127.0.0.1", old.plain)]);
    other.tls = Tls::off();
    other.channels = vec![Channel { name: "#ops".to_owned(), key: None }];
    let builder = bot_on(&lab, "#ops").network("ng", other);
    let relay = builder
        .bind(Kind::Pubm, "-|-", "#ops *", |ev: Event| async move {
            let to = if &*ev.network == "lab" { "ng" } else { "lab" };
            let text = format!("<{}> {}", ev.nick(), ev.text());
            let say =
                Action::Say { network: to.to_owned(), target: "#ops".to_owned(), text, how: How::Say, reply: false };
            ev.perform(say).await.map_err(masterchief::contract::HandlerError::internal)?;
            Ok::<_, masterchief::contract::HandlerError>(Outcome::Nothing)
        })
        .unwrap();
    let started = relay.start().await.unwrap();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let mut nina = Person::connect(old.plain, "nina").await;
    nina.joins("#ops").await;
    let both = async || started.status().await.networks.iter().all(|network| !network.channels.is_empty());
    while !both().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alice.says("#ops", "anybody there?");
    nina.hears("chief", "<alice> anybody there?").await;
    nina.says("#ops", "here!");
    alice.hears("chief", "<nina> here!").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_words_arrive_whole_to_the_last_byte() {
    let lab = Lab::start();
    let texts =
        ["x".repeat(2000), "€".repeat(700), "👩‍👩‍👧‍👦".repeat(150), "word ".repeat(300), "a\r\nQUIT :gone\nb".to_owned()];
    let long: Vec<String> = texts.to_vec();
    let builder = bot_on(&lab, "#ops")
        .bind(Kind::Pub, "-|-", "!long", move |ev: Event| {
            let at: usize = ev.text().trim().parse().unwrap_or(0);
            let text = long[at].clone();
            async move { text }
        })
        .unwrap();
    let started = builder.start().await.unwrap();
    joined(&started, "#ops").await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    for (at, text) in texts.iter().enumerate() {
        alice.says("#ops", &format!("!long {at}"));
        let wanted: String = text.replace(['\r', '\n'], "");
        let start = Instant::now();
        let mut got = String::new();
        while got.len() < wanted.len() {
            got.push_str(&alice.hears("chief", "").await);
            assert!(start.elapsed() < PATIENCE);
        }
        assert_eq!(got, wanted);
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lines_that_a_server_replays_are_no_commands() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.sends("MODE #ops +H 50:1h");
    alice.says("#ops", "!hello");
    alice.says("#ops", "!hello again");
    alice.waits_for(Duration::from_millis(300), |_| false).await;
    let started = hello(bot_on(&lab, "#ops")).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.says("#ops", "!hello now");
    alice.hears("chief", "hi alice").await;
    alice.waits_for(Duration::from_millis(500), |_| false).await;
    assert_eq!(alice.all_from("chief"), ["hi alice"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_certificate_is_refused_unless_it_is_pinned() {
    let lab = Lab::start();
    let mut bad = settings(&lab, "#ops");
    bad.servers[0].port = lab.stranger;
    let started = Bot::builder().network("lab", bad.clone()).start().await.unwrap();
    let start = Instant::now();
    let trouble = loop {
        if let Some(trouble) = started.status().await.networks[0].trouble.clone() {
            break trouble;
        }
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(trouble.contains("certificate"), "{trouble}");
    started.stop("").await;

    bad.tls.fingerprints = vec![lab.fingerprint("server").parse().unwrap()];
    let wrong_pin = Bot::builder().network("lab", bad.clone()).start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!wrong_pin.status().await.networks[0].connected);
    wrong_pin.stop("").await;

    bad.tls.fingerprints = vec![lab.fingerprint("stranger").parse().unwrap()];
    let pinned = Bot::builder().network("lab", bad).start().await.unwrap();
    joined(&pinned, "#ops").await;
    pinned.stop("").await;
}
