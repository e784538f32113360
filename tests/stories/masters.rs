//! What the commands of operators do: which line goes to the server, what is told of the bot itself, and what is kept.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use masterchief::bot::{Bot, Builder, Started};
use masterchief::partyline::Settings;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::partyline::{Typist, bot, knows};
use super::wire::{Line, Wire};

/// In this time the bot has done what it does at once.
const SOON: Duration = Duration::from_millis(300);

/// A bot in #ops of the network `story`, of which the story is the server, and olga, its owner, on the partyline.
async fn house(builder: Builder) -> (Started, SocketAddr, Line, Typist) {
    let wire = Wire::plain().await;
    let (bot, at) = bot(builder.network("story", wire.settings()), Settings::default()).await;
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    assert!(line.answers("joined").await.1);
    knows(&bot, "olga", "n").await;
    let olga = Typist::logs_in(at, "olga").await;
    (bot, at, line, olga)
}

/// The next line to the server, but for what the bot asks of its own accord.
async fn sent(line: &mut Line) -> String {
    loop {
        let next = line.next().await.expect("the bot has hung up");
        if !next.starts_with("WHO ") {
            return next;
        }
    }
}

/// The bot sends nothing.
async fn is_silent(line: &mut Line) {
    let (mut heard, still) = line.answers("silent").await;
    heard.extend(line.within(SOON).await);
    heard.retain(|line| !line.starts_with("WHO "));
    assert!(still && heard.is_empty(), "{heard:#?}");
}

/// Somebody says something in #ops and is answered there.
async fn answered(line: &mut Line, words: &str) -> String {
    line.says(&[&format!(":bob!b@h PRIVMSG #ops :{words}")]).await;
    sent(line).await
}

/// What is typed, what is told, and the line to the server.
const LINES: &[(&str, &str, &str)] = &[
    (".say #ops good morning", "Said in story/#ops.", "PRIVMSG #ops :good morning"),
    (".say @#ops to you alone", "Said in story/@#ops.", "PRIVMSG @#ops :to you alone"),
    (".act story/#ops waves to all", "Acted in story/#ops.", "PRIVMSG #ops :\u{1}ACTION waves to all\u{1}"),
    (".msg bob are you there?", "Said to bob.", "PRIVMSG bob :are you there?"),
    (".msg story/alice good night", "Said to story/alice.", "PRIVMSG alice :good night"),
    (".op #ops bob", "Sent.", "MODE #ops +o bob"),
    (".deop #ops bob", "Sent.", "MODE #ops -o bob"),
    (".halfop #ops bob", "Sent.", "MODE #ops +h bob"),
    (".dehalfop #ops bob", "Sent.", "MODE #ops -h bob"),
    (".voice #ops bob", "Sent.", "MODE #ops +v bob"),
    (".devoice story/#ops bob", "Sent.", "MODE #ops -v bob"),
    (".invite #ops carl", "Sent.", "INVITE carl #ops"),
    (".kick #ops bob enough of that", "Sent.", "KICK #ops bob :enough of that"),
    (".kick #ops bob", "Sent.", "KICK #ops bob olga"),
    // As Eggdrop has it.
    (".op bob #ops", "Sent.", "MODE #ops +o bob"),
    (".invite carl story/#ops", "Sent.", "INVITE carl #ops"),
    (".topic #ops on call: bob", "Sent.", "TOPIC #ops :on call: bob"),
];

#[tokio::test]
async fn flags_everywhere_and_in_a_channel_are_changed_at_once_as_eggdrop_has_it() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    for (handle, flags) in [("olga", "np"), ("bob", "p")] {
        knows(&bot, handle, flags).await;
    }
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".chattr bob v|+lo").await;
    olga.reads("say in which channel").await;
    olga.types(".chattr bob v|+lo libera/#ops").await;
    olga.reads("libera/#ops: lo").await;
    assert_eq!(bot.book().get("bob").unwrap().flags.to_string(), "pv");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_for_channels_is_one_line_to_the_server() {
    let (bot, at, mut line, mut olga) = house(Bot::builder()).await;
    for (typed, told, wanted) in LINES {
        olga.types(typed).await;
        olga.reads(told).await;
        assert_eq!(sent(&mut line).await, *wanted, "{typed}");
    }
    // What is meant otherwise, or not allowed, is no line at all.
    for (typed, told) in [
        (".msg #ops hello all", ".say speaks in channels"),
        (".op nowhere/#ops bob", "there is no network nowhere; channels are written as in story/#ops"),
        (".op bob carl", "\"bob\" is no channel, which is written as in story/#ops"),
        (".say ops good morning", "\"ops\" is no channel"),
        (".topic #ops", "topic <channel> <words...>"),
    ] {
        olga.types(typed).await;
        olga.reads(told).await;
    }
    knows(&bot, "vera", "pv").await;
    let mut vera = Typist::logs_in(at, "vera").await;
    for word in ["op", "deop", "invite", "kick", "topic", "act", "say", "msg", "channel"] {
        vera.types(&format!(".{word} #ops bob")).await;
        vera.reads("needs the flags o").await;
    }
    vera.types(".halfop #ops bob").await;
    vera.reads("needs the flags ").await;
    is_silent(&mut line).await;
    // Signs of those who are less than op are given by those who are less, too.
    vera.types(".voice #ops bob").await;
    vera.reads("Sent.").await;
    assert_eq!(sent(&mut line).await, "MODE #ops +v bob");
    is_silent(&mut line).await;
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_channel_is_told_with_their_signs() {
    let (bot, _, mut line, mut olga) = house(Bot::builder()).await;
    olga.types(".channel").await;
    olga.reads("story: #ops").await;
    olga.types(".channel #ops").await;
    olga.reads("2 in story/#ops:").await;
    assert_eq!(olga.reads("chief").await.trim(), "@alice chief");
    line.says(&[
        ":bob!b@h JOIN #ops",
        ":alice!a@h MODE #ops +v bob",
        ":carl!c@h JOIN #ops",
        ":alice!a@h MODE #ops -o+o alice chief",
    ])
    .await;
    assert!(line.answers("seen").await.1);
    olga.types(".channel story/#ops").await;
    olga.reads("4 in story/#ops:").await;
    assert_eq!(olga.reads("@chief").await.trim(), "alice +bob carl @chief");
    line.says(&[":carl!c@h PART #ops", ":alice!a@h KICK #ops bob :out"]).await;
    assert!(line.answers("left").await.1);
    olga.types(".channel #ops").await;
    olga.reads("2 in story/#ops:").await;
    assert_eq!(olga.reads("@chief").await.trim(), "alice @chief");
    olga.types(".channel #away").await;
    olga.reads("the bot is not in story/#away").await;
    bot.stop("").await;
}

/// Writes the script `greet.lua`. It is always as long and as old as before, so that the bot does not load it of its own accord.
fn writes(folder: &Path, text: &str) {
    let (path, written) = (folder.join("greet.lua"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{text:<400}")).unwrap();
    std::fs::File::options().write(true).open(&new).unwrap().set_modified(written).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A script that greets with this word.
fn greets(folder: &Path, word: &str) {
    writes(
        folder,
        &format!(
            "bot.bind(\"pub\", \"-|-\", \"!hello\", function(ev) return \"{word} \" .. ev.nick end)\nbot.bind(\"pub\", \"o|o\", \"!quiet\", function() end)\n"
        ),
    );
}

/// The fields of the row with these words.
async fn row(olga: &mut Typist, words: &str, until: &str) -> Vec<String> {
    let text = olga.reads(until).await;
    let row = text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words}: {text}"));
    row.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_and_scripts_are_listed_with_how_often_they_were_called() {
    let folder = tempfile::tempdir().unwrap();
    greets(folder.path(), "hi");
    let (bot, _, mut line, mut olga) = house(Bot::builder().scripts(folder.path())).await;
    for (calls, heard) in ["0", "1", "2"].into_iter().zip([None, Some("!hello"), Some("!hello")]) {
        if let Some(words) = heard {
            assert_eq!(answered(&mut line, words).await, "PRIVMSG #ops :hi bob");
        }
        olga.types(".binds pub").await;
        let found = row(&mut olga, " !hello ", " binds").await;
        assert_eq!((found[0].as_str(), found[2].as_str(), found[3].as_str()), ("pub", "!hello", calls));
        assert!(found[4].starts_with("greet.lua"), "{found:?}");
        olga.types(".scripts").await;
        let found = row(&mut olga, "greet.lua", " KiB").await;
        assert_eq!(found[1..9].join(" "), format!("2 binds {calls} calls 0 running 0 faults"));
    }
    olga.types(".binds pub").await;
    let text = olga.reads(" binds").await;
    let (rows, count) = text.trim_start().rsplit_once('\n').unwrap();
    assert!(rows.lines().all(|row| row.starts_with("pub ")), "one kind alone: {text}");
    assert_eq!(count.strip_suffix(" binds").unwrap(), rows.lines().count().to_string());
    let quiet = rows.lines().find(|row| row.contains(" !quiet ")).unwrap();
    assert!(quiet.contains(" o|o ") && quiet.split_whitespace().nth(3) == Some("0"), "{quiet}");
    olga.types(".binds").await;
    let all = olga.reads(" binds").await;
    assert!(all.contains("!hello") && all.lines().any(|row| row.starts_with("dcc ")), "{all}");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_loaded_anew_and_one_that_is_broken_leaves_the_version_before_it() {
    let folder = tempfile::tempdir().unwrap();
    greets(folder.path(), "hi");
    let (bot, at, mut line, mut olga) = house(Bot::builder().scripts(folder.path())).await;
    assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :hi bob");
    greets(folder.path(), "moin");
    assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :hi bob", "nobody has said so yet");
    olga.types(".reload greet").await;
    olga.reads("loaded greet.lua").await;
    assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :moin bob");
    writes(folder.path(), "local word = 1\nbot.bind(\"pub\", oops oops)\n");
    for typed in [".reload greet.lua", ".reload"] {
        olga.types(typed).await;
        let before = olga.reads("greet.lua:2:").await;
        assert!(!before.contains("loaded"), "{before}");
        olga.reads("a version before, if there was one, serves on").await;
        assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :moin bob");
    }
    olga.types(".reload nothing").await;
    olga.reads("there is no script nothing.lua").await;
    greets(folder.path(), "ahoy");
    knows(&bot, "mia", "mp").await;
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".reload greet").await;
    mia.reads("needs the flags n").await;
    assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :moin bob");
    olga.types(".reload").await;
    olga.reads("loaded greet.lua").await;
    assert_eq!(answered(&mut line, "!hello").await, "PRIVMSG #ops :ahoy bob");
    bot.stop("").await;
}

/// What `.traffic` tells of the network: lines in and out.
async fn traffic(olga: &mut Typist) -> (u64, u64) {
    olga.types(".traffic").await;
    olga.reads("story: ").await;
    let told = olga.reads(" connections").await;
    let numbers: Vec<u64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(
        told,
        format!("{} lines in, {} out, 0 wait, 0 dropped, 0 refused, 1 connections", numbers[0], numbers[1])
    );
    olga.reads("partyline: 0 sessions let go because they did not read, 0 events without room").await;
    (numbers[0], numbers[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_in_and_out_are_counted() {
    let (bot, _, mut line, mut olga) = house(Bot::builder()).await;
    is_silent(&mut line).await;
    let before = traffic(&mut olga).await;
    for number in 0..9 {
        line.says(&[&format!(":alice!a@h PRIVMSG #ops :word {number}")]).await;
    }
    assert!(line.answers("counted").await.1);
    // A line may be answered a moment before it is counted.
    let (mut after, mut came) = (before, 0);
    for _ in 0..50 {
        after = traffic(&mut olga).await;
        came = after.0 - before.0;
        if came >= 9 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let left = after.1 - before.1;
    // Nine lines and a PING came in; the bot may have asked something of its own accord.
    assert!((9..12).contains(&came) && (1..4).contains(&left), "{before:?} {after:?}");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bot_is_and_why_it_is_nowhere_is_told_and_a_channel_needs_its_network() {
    let (wire, gone) = (Wire::plain().await, Wire::plain().await);
    let (here, nowhere, port) = (wire.settings(), gone.settings(), gone.port());
    drop(gone);
    let (bot, at) = bot(Bot::builder().network("other", nowhere).network("story", here), Settings::default()).await;
    knows(&bot, "olga", "n").await;
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    assert!(line.answers("joined").await.1);
    let mut olga = Typist::logs_in(at, "olga").await;
    let (tried, is_on) = (
        format!("other: not connected, last tried localhost:{port}: "),
        format!("story: on localhost:{} as chief", wire.port()),
    );
    let mut told = String::new();
    for _ in 0..100 {
        olga.types(".servers").await;
        told = olga.reads(&is_on).await;
        if told.contains(&tried) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(told.contains(&tried), "{told}");
    olga.types(".op #ops bob").await;
    olga.reads("say which network is meant").await;
    is_silent(&mut line).await;
    olga.types(".op story/#ops bob").await;
    olga.reads("Sent.").await;
    assert_eq!(sent(&mut line).await, "MODE #ops +o bob");
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_does_not_stick_any_more_is_set_only_when_somebody_meets_it() {
    const SET: &str = "MODE #ops +b *!*@*.bad.example";
    let (bot, _, mut line, mut olga) = house(Bot::builder()).await;
    line.says(&[":oper!o@h MODE #ops +o chief"]).await;
    olga.types(".+ban *!*@*.bad.example #ops spam").await;
    olga.reads("*!*@*.bad.example is banned story/#ops").await;
    is_silent(&mut line).await;
    olga.types(".stick 1").await;
    olga.reads("*!*@*.bad.example sticks story/#ops.").await;
    assert_eq!(sent(&mut line).await, SET);
    let (echo, lifted) = (format!(":chief!c@host {SET}"), ":oper!o@h MODE #ops -b *!*@*.bad.example");
    line.says(&[&echo, lifted]).await;
    assert_eq!(sent(&mut line).await, SET, "it sticks");
    line.says(&[&echo]).await;
    olga.types(".bans").await;
    olga.reads("(sticks)").await;
    olga.types(".unstick *!*@*.bad.example #ops").await;
    olga.reads("*!*@*.bad.example stands only when somebody meets it, story/#ops.").await;
    line.says(&[lifted]).await;
    is_silent(&mut line).await;
    olga.types(".bans").await;
    let told = olga.reads(": spam").await;
    assert!(told.contains("1. *!*@*.bad.example story/#ops by olga"), "it is kept and sticks no more: {told}");
    line.says(&[":mallory!m@x.bad.example JOIN #ops"]).await;
    assert_eq!(sent(&mut line).await, SET);
    assert!(sent(&mut line).await.starts_with("KICK #ops mallory "));
    bot.stop("").await;
}

#[tokio::test]
async fn comments_and_what_one_sees_of_the_log_are_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let starts = async || bot(Bot::builder().data(folder.path()), Settings::default()).await;
    let (first, at) = starts().await;
    for (handle, flags) in [("olga", "n"), ("mia", "mp"), ("alice", "p")] {
        knows(&first, handle, flags).await;
    }
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".store").await;
    olga.reads("Kept for you: .console -* info, .page 0;").await;
    olga.types(".console +bc warn").await;
    olga.reads("You see +cb warn now").await;
    olga.types(".page 20").await;
    olga.reads("You see 20 lines at once").await;
    olga.types(".store").await;
    olga.reads("Kept for you: .console +cb warn, .page 20; a change is kept at once.").await;
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".comment alice watches the disks").await;
    mia.reads("alice has that comment now").await;
    mia.types(".comment olga is away").await;
    mia.reads("olga stands above you").await;
    mia.types(".store").await;
    mia.reads("Kept for you: .console -* info, .page 0;").await;
    drop((olga, mia));
    first.stop("").await;
    let (again, at) = starts().await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".store").await;
    olga.reads("Kept for you: .console +cb warn, .page 20;").await;
    olga.types(".whois alice").await;
    olga.reads("alice has the flags p").await;
    olga.reads("  watches the disks").await;
    assert_eq!(again.book().get("olga").unwrap().comment, "");
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".store").await;
    alice.reads("Kept for you: .console -* info, .page 0;").await;
    alice.types(".comment alice is the best").await;
    alice.reads("needs the flags m").await;
    olga.types(".comment alice").await;
    olga.reads("alice has no comment any more").await;
    assert_eq!(again.book().get("alice").unwrap().comment, "");
    again.stop("").await;
}

#[tokio::test]
async fn the_tree_of_bots_has_the_version_of_a_real_eggdrop_and_its_greeting_is_asked_for() {
    let egg = Egg::start("HubBot", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.bots.insert("HubBot".to_owned(), clear_hub(&egg));
    let listens = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    let chief = Chief::of(Bot::builder().partyline(listens), folder.path(), known).await;
    chief.sees("HubBot").await;
    knows(&chief.bot, "olga", "n").await;
    let mut olga = Typist::logs_in(chief.bot.partyline_at().0.unwrap(), "olga").await;
    olga.types(".bottree").await;
    olga.reads("`- HubBot  (eggdrop").await;
    olga.types(".vbottree").await;
    olga.reads("`- HubBot 1.8.4  (eggdrop").await;
    olga.types(".botmotd HubBot").await;
    let told = olga.reads("motd of HubBot").await;
    assert!(!told.contains("the house is open"), "that is ours: {told}");
    olga.types(".botmotd").await;
    olga.reads("botmotd <bot>").await;
    chief.bot.stop("").await;
    // Where there are no others there is no tree.
    let (alone, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&alone, "olga", "n").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    for typed in [".vbottree", ".botmotd HubBot"] {
        olga.types(typed).await;
        olga.reads("this bot links with no others").await;
    }
    alone.stop("").await;
}
