//! Rows of Eggdrop's bind table with what their handlers give: scripts that come and go, names of one's own, signals, what is saved,
//! `isupport`, `tls`, `dcc`, and what leaves without waiting.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot, Wish};
use masterchief::contract::{CaseMap, Event, Kind, Outcome, Secret};
use masterchief::irc::Settings;
use masterchief::partyline;
use tracing_subscriber::layer::SubscriberExt;

use crate::partyline::{Typist, bot, knows};
use crate::person::PATIENCE;
use crate::wire::{Authority, Wire};

#[tokio::test(start_paused = true)]
async fn scripts_that_are_loaded_and_taken_away_are_told_to_those_that_want_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("load", "-|-", "o*", function(ev) bot.say("#ops", `{ev.kind} {ev.module}`) end)
        bot.bind("unld", "-|-", "other.lua", function(ev) bot.say("#ops", `{ev.kind} {ev.module}`) end)
    "##;
    std::fs::write(folder.path().join("a.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    let other = folder.path().join("other.lua");
    std::fs::write(&other, "").unwrap();
    test.started().reload_scripts().await;
    test.expect(CHANNEL, "load other.lua").await;
    std::fs::write(&other, "this is no Luau").unwrap();
    test.started().reload_scripts().await;
    test.expect_silence(CHANNEL, Duration::from_secs(1)).await;
    std::fs::remove_file(&other).unwrap();
    test.started().reload_scripts().await;
    test.expect(CHANNEL, "unld other.lua").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_has_a_name_of_ones_own_from_scripts_and_from_rust_and_one_that_calls_itself_ends() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("pub", "-|-", "!go", function(ev)
          bot.callevent("went_out", ev.text)
          return `{pcall(bot.callevent, "two words")}`
        end)
        bot.bind("evnt", "-|-", "went_out", function(ev) bot.say("#ops", `{ev.type}: {ev.text}`) end)
        local count = 0
        bot.bind("evnt", "-|-", "again", function(ev)
          count += 1
          bot.say("#ops", `again {count}`)
          bot.callevent("again")
        end)
    "##;
    std::fs::write(folder.path().join("own.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    test.user("alice").says(CHANNEL, "!go to web").await;
    test.expect(CHANNEL, "false").await;
    test.expect(CHANNEL, "went_out: to web").await;
    test.started().call_event("went_out", "from Rust").await.unwrap();
    test.expect(CHANNEL, "went_out: from Rust").await;
    assert!(test.started().call_event("", "").await.is_err());
    test.started().call_event("again", "").await.unwrap();
    test.expect(CHANNEL, "again 8").await;
    test.expect_silence(CHANNEL, Duration::from_secs(1)).await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn before_records_are_kept_and_before_all_begins_anew_scripts_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        for _, name in { "save", "prerestart" } do
          bot.bind("evnt", "-|-", name, function(ev) bot.say("#ops", `told {ev.type}`) end)
        end
    "##;
    std::fs::write(folder.path().join("kept.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    // Somebody has to follow what operators wish.
    let mut wishes = test.started().wishes();
    let alice = test.user("alice").with_flags("m");
    alice.says("chief", ".save").await;
    test.expect(CHANNEL, "told save").await;
    test.expect("alice", "records are in the data folder").await;
    alice.says("chief", ".restart").await;
    test.expect(CHANNEL, "told prerestart").await;
    wishes.changed().await.unwrap();
    let (number, _) = *wishes.borrow_and_update();
    test.started().rehashed(number, Ok(Vec::new()));
    test.expect("alice", "The configuration is taken").await;
    test.expect("alice", "kept.lua").await;
    alice.says("chief", ".restart").await;
    wishes.changed().await.unwrap();
    let (number, _) = *wishes.borrow_and_update();
    test.started().rehashed(number, Err(vec!["no".to_owned()]));
    test.expect("alice", "the one before stays: no;").await;
    test.expect("alice", "kept.lua").await;
    test.stop().await;
    assert_eq!(test.transcript().iter().filter(|line| line.ends_with("told save")).count(), 2, "at the end, too");
}

#[tokio::test]
async fn who_has_the_configuration_read_anew_is_told_what_came_of_it() {
    let (bot, at) = bot(Bot::builder(), partyline::Settings::default()).await;
    knows(&bot, "olga", "n").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    let mut wishes = bot.wishes();
    let one = || vec!["no".to_owned()];
    for (outcome, told) in [
        (Ok(Vec::new()), "The configuration is taken"),
        (Ok(one()), "But no."),
        (Err(one()), "the one before stays: no;"),
    ] {
        olga.types(".rehash").await;
        tokio::time::timeout(PATIENCE, wishes.changed()).await.unwrap().unwrap();
        let (number, wish) = *wishes.borrow_and_update();
        assert_eq!(wish, Wish::Rehash);
        bot.rehashed(number, outcome);
        olga.reads(told).await;
    }
    bot.stop("").await;
}

#[tokio::test]
async fn what_of_a_configuration_does_not_count_yet_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("config/global/config.yaml", "partyline: {nick: Other}\ngateway: {listen: \"127.0.0.1:0\"}\n");
    let (bot, _) = bot(Bot::builder(), partyline::Settings::default()).await;
    let config = masterchief::config::load(Some(dir.path()), None, masterchief::config::Secrets::Needed).unwrap();
    let told = bot.reconfigure(&config).await.unwrap();
    for name in ["partyline.nick", "gateway.listen"] {
        assert!(told.contains(&format!("{name} counts from the next start of the process")), "{told:?}");
    }
    write("config/pipelines/shop.yaml", "app: [\n");
    let config = masterchief::config::load(Some(dir.path()), None, masterchief::config::Secrets::Needed).unwrap();
    let told = bot.reconfigure(&config).await.unwrap();
    assert!(told.iter().any(|one| one.contains("a pipeline cannot be read") && one.contains("shop.yaml")), "{told:?}");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_stops_a_signal_keeps_the_bot_from_ending_and_from_reading_anew() {
    let wire = Wire::plain().await;
    let folder = tempfile::tempdir().unwrap();
    let script = r##"
        for _, name in { "sigterm", "sighup" } do
          bot.bind("evnt", "-|-", name, function(ev) bot.say("#ops", `not {ev.type}`) return bot.STOP end)
          bot.bind("evnt", "-|-", name, function(ev) bot.say("#ops", `heard {ev.type}`) end)
        end
        bot.bind("evnt", "-|-", "rehash", function() bot.say("#ops", "read anew") end)
    "##;
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("scripts/stays.lua"), script).unwrap();
    let config = format!(
        "networks:\n  story:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    channels: [\"#ops\"]\n\
         data: data\nscripts: {{folder: scripts}}\n",
        wire.port()
    );
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    for name in ["hup", "term"] {
        signal(&format!("-{}", name.to_uppercase()));
        let mut both = [line.hears("PRIVMSG #ops").await, line.hears("PRIVMSG #ops").await];
        both.sort();
        assert_eq!(both, [format!("PRIVMSG #ops :heard sig{name}"), format!("PRIVMSG #ops :not sig{name}")]);
    }
    assert!(line.answers("there").await.1, "it is still there");
    signal("-INT");
    let mut last = line.rest().await;
    assert!(last.pop().is_some_and(|bye| bye.starts_with("QUIT")), "{last:?}");
    assert!(!last.iter().any(|line| line.contains("read anew")), "{last:?}");
    tokio::task::spawn_blocking(move || assert!(child.wait().unwrap().success())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_does_not_want_the_server_to_say_about_itself_is_as_it_was() {
    let wire = Wire::plain().await;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&heard);
    let builder = Bot::builder()
        .bind(Kind::Isupport, "-|-", "CASEMAPPING", |_: Event| async { Outcome::Stop })
        .unwrap()
        .bind(Kind::Isupport, "-|-", "*", move |ev: Event| {
            let note = Arc::clone(&note);
            async move {
                let was = ev.field("was").and_then(|was| was.as_str()).unwrap_or("nothing").to_owned();
                note.lock().unwrap().push(format!("{} {} was {was}", ev.field_str("token"), ev.field_str("value")));
                Outcome::Nothing
            }
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!there", |_: Event| async { "here" })
        .unwrap()
        .network("story", wire.settings());
    let started = builder.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "CASEMAPPING=ascii NICKLEN=20").await;
    let ask = ":alice!a@h PRIVMSG #ops :!there";
    line.says(&[ask]).await;
    line.hears("PRIVMSG #ops :here").await;
    let network = started.network("story").unwrap();
    assert_eq!(network.casemap(), CaseMap::Rfc1459, "as before it was said");
    line.says(&[":s 005 chief CASEMAPPING=ascii NICKLEN=25 -BOGUS :x", ask]).await;
    line.hears("PRIVMSG #ops :here").await;
    assert_eq!(network.casemap(), CaseMap::Rfc1459);
    // The rest of such a line counts.
    let told = heard.lock().unwrap().clone();
    assert_eq!(
        told.iter().filter(|told| told.starts_with("NICKLEN")).collect::<Vec<_>>(),
        ["NICKLEN 20 was nothing", "NICKLEN 25 was 20"]
    );
    started.stop("").await;
}

#[tokio::test]
async fn a_connection_that_is_encrypted_is_told_in_the_log_unless_a_handler_keeps_it_quiet() {
    let (layer, lines) = partyline::live_log();
    // For this thread alone, on which the whole story runs.
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (loud, quiet) = (Wire::secure(&authority).await, Wire::secure(&authority).await);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&told);
    let secure = |wire: &Wire| Settings { tls: authority.trusted(), ..wire.settings() };
    let builder = Bot::builder()
        .live_log(lines)
        .bind(Kind::new("tls"), "-|-", "0", |ev: Event| async move {
            if &*ev.network == "quiet" { Outcome::Stop } else { Outcome::Nothing }
        })
        .unwrap()
        .bind(Kind::new("putlog"), "-|-", "* *encrypted*", move |ev: Event| {
            let note = Arc::clone(&note);
            async move { note.lock().unwrap().push(ev.text().to_owned()) }
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!there", |_: Event| async { "here" })
        .unwrap()
        .network("loud", secure(&loud))
        .network("quiet", secure(&quiet));
    let started = builder.start().await.unwrap();
    let mut lines = Vec::new();
    for wire in [&quiet, &loud] {
        let mut line = wire.accepts().await;
        line.is_joined("", "").await;
        lines.push(line);
    }
    let seen = || told.lock().unwrap().clone();
    while seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is asked now comes behind both.
    for line in &mut lines {
        line.says(&[":alice!a@h PRIVMSG #ops :!there"]).await;
        line.hears("PRIVMSG #ops :here").await;
    }
    let told = seen();
    assert!(told.len() == 1 && told[0].contains("network=loud"), "{told:?}");
    started.stop("").await;
}

#[tokio::test]
async fn a_command_of_the_partyline_that_gives_break_ends_the_session_of_who_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r#"
        bot.bind("dcc", "-|-", "leave", function(ev) return "break" end)
        bot.bind("dcc", "-|-", "say", function(ev) return { "break", "the ice" } end)
    "#;
    std::fs::write(folder.path().join("leave.lua"), lua).unwrap();
    let (bot, at) = bot(Bot::builder().scripts(folder.path()), partyline::Settings::default()).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let (mut alice, mut bob) = (Typist::logs_in(at, "alice").await, Typist::logs_in(at, "bob").await);
    alice.types(".say").await;
    alice.reads("the ice").await;
    alice.types(".leave").await;
    let last = alice.reads_to_the_end().await;
    assert!(!last.contains("break"), "{last}");
    bob.reads("alice").await;
    bob.types(".who").await;
    bob.reads("bob").await;
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_waits_is_heard_as_noqueue_and_no_secret_of_the_login_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let wire = Wire::secure(&authority).await;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&heard);
    let builder = Bot::builder()
        .bind(Kind::Out, "-|-", "noqueue *", move |ev: Event| {
            note.lock().unwrap().push(format!("{} {}", ev.field_str("status"), ev.field_str("message")));
            async {}
        })
        .unwrap()
        .bind(Kind::Pub, "-|-", "!there", |_: Event| async { "here" })
        .unwrap();
    let password = Some(Secret::new("open-sesame"));
    let settings = Settings { password, tls: authority.trusted(), ..wire.settings() };
    let started = builder.network("story", settings).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.hears("CAP LS 302").await;
    line.says(&[":s CAP * LS :"]).await;
    line.hears("PASS open-sesame").await;
    line.welcomes("NICKLEN=20").await;
    line.hears("JOIN #ops").await;
    line.says(&[":chief!c@host JOIN #ops", "PING :are you there"]).await;
    line.hears("PONG").await;
    line.says(&[":alice!a@h PRIVMSG #ops :!there"]).await;
    line.hears("PRIVMSG #ops :here").await;
    let heard = heard.lock().unwrap().clone();
    let has = |wanted: &str| heard.iter().any(|line| line == wanted);
    assert!(has("sent PASS ***") && has("sent PONG :are you there") && has("sent CAP LS 302"), "{heard:#?}");
    assert!(!heard.iter().any(|line| line.contains("sesame") || line.contains("PRIVMSG")), "{heard:#?}");
    started.stop("").await;
}
