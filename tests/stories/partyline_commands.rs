//! What people do on the partyline: they run the bot, look after records, leave notes, watch channels.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, NETWORK, TestBot};
use masterchief::contract::{Event, Kind};
use masterchief::partyline::{
    self, CHAT, CHOF, CHON, Change, DCC, Did, Entry, Face, Modes, Party, Place, Settings, What,
};
use masterchief::users::User;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tracing_subscriber::layer::SubscriberExt;

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::{PATIENCE, Person};

#[tokio::test]
async fn an_owner_makes_people_and_nobody_changes_somebody_above() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    for (handle, flags) in [("olga", "n"), ("mia", "m"), ("alice", "p")] {
        knows(&bot, handle, flags).await;
    }
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".+user bob").await;
    olga.reads("bob has a record").await;
    olga.types(".chattr bob +p").await;
    olga.reads("bob has the flags p").await;
    olga.types(".chpass bob a much better secret").await;
    olga.reads("bob has a new password").await;
    olga.types(".match +p").await;
    olga.reads("of 4 records").await;
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".chattr olga -n").await;
    mia.reads("olga stands above you").await;
    mia.types(".chattr alice +n").await;
    mia.reads("only owners change n").await;
    mia.types(".chattr alice =").await;
    mia.reads("only owners change =").await;
    mia.types(".boot olga").await;
    mia.reads("olga stands above you").await;
    mia.types(".die").await;
    mia.reads("needs the flags n").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".chpass mia taken over now").await;
    alice.reads("needs the flags m").await;
    alice.types(".help").await;
    let help = alice.reads("!help.").await;
    assert!(help.contains(".note") && !help.contains(".chattr"), "{help}");
    // A word may be shortened as long as it is the only one.
    alice.types(".wh").await;
    alice.reads(".wh may be .who or .whoami or .whom").await;
    alice.types(".upt").await;
    alice.reads("Up for 0 days").await;
    alice.types(".nonsense").await;
    alice.reads("there is no command .nonsense").await;
    alice.types(".newpass another good one").await;
    alice.reads("Your password is changed").await;
    // Another handle is one step: whoever asks in between finds one of both.
    alice.types(".handle olga").await;
    alice.reads("there is a olga already").await;
    alice.types(".handle alison").await;
    alice.reads("You are alison now").await;
    assert!(bot.book().get("alice").is_none() && bot.book().get("alison").is_some());
    assert!(bot.store().users().await.unwrap().iter().all(|row| row.handle != "alice"));
    mia.types(".chhandle alison alice").await;
    mia.reads("alison is alice now").await;
    mia.types(".boot alice enough").await;
    alice.reads("you were let go").await;
    // Who loses access is not kept.
    let mut bob = Typist::logs_in_with(at, "bob", "a much better secret").await;
    olga.types(".chattr bob -p").await;
    bob.reads("you were let go").await;
    let rows = bot.audit_recent(100).await.unwrap();
    let words = ["a much better secret", "taken over now", "another good one", PASSWORD];
    assert!(!rows.iter().any(|row| words.iter().any(|secret| row.detail.contains(secret))), "{rows:#?}");
    assert!(rows.iter().any(|row| row.mask == "die" && row.action == "denied"), "{rows:#?}");
    bot.stop("").await;
}

#[tokio::test]
async fn what_begins_with_a_comma_is_for_masters_of_this_bot_alone() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    for (handle, flags) in [("mia", "mp"), ("carl", "mp"), ("alice", "p"), ("bob", "p")] {
        knows(&bot, handle, flags).await;
    }
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(",is anybody there").await;
    alice.reads("nobody has heard it").await;
    let (mut mia, mut bob) = (Typist::logs_in(at, "mia").await, Typist::logs_in(at, "bob").await);
    let mut carl = Person::logs_in(at.port(), "carl", &format!("carl:{PASSWORD}")).await;
    carl.joins("#partyline").await;
    let mut changes = bot.party().changes();
    mia.types(",the root password is xyzzy").await;
    carl.hears("mia", "(to masters) the root password is xyzzy").await;
    carl.says("#partyline", ",me nods");
    mia.reads("(to masters) acts: nods").await;
    // Who is none may be heard by them.
    bob.types(",help me").await;
    mia.reads("(to masters) help me").await;
    mia.types("good night").await;
    for heard in [alice.reads("good night").await, bob.reads("good night").await] {
        assert!(!heard.contains("xyzzy") && !heard.contains("nods"), "{heard}");
    }
    // Linked bots are told of the one line that was for all.
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.extend(matches!(change.what, Did::Said { .. }).then_some(change.what));
    }
    assert!(matches!(told.as_slice(), [Did::Said { text, .. }] if text == "good night"), "{told:?}");
    bot.stop("").await;
}

#[tokio::test]
async fn notes_wait_for_who_is_not_here() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".note bob the disk is full").await;
    alice.reads("Kept for bob").await;
    alice.types(".note nobody x").await;
    alice.reads("there is no nobody").await;
    let mut bob = Person::logs_in(at.port(), "bob", &format!("bob:{PASSWORD}")).await;
    bob.hears("chief", "1 notes wait for you").await;
    bob.says("chief", ".notes read");
    bob.hears("chief", "from alice: the disk is full").await;
    bob.says("chief", ".notes erase");
    bob.hears("chief", "1 erased").await;
    alice.types(".note bob and now?").await;
    alice.reads("bob is here and has it").await;
    bob.hears("chief", "Note from alice: and now?").await;
    bob.sends("AWAY :lunch");
    alice.reads("bob is away: lunch").await;
    alice.types(".note bob later then").await;
    alice.reads("Kept for bob").await;
    bot.stop("").await;
}

#[tokio::test]
async fn the_log_goes_live_to_who_wants_it_and_the_choice_is_kept() {
    let (layer, lines) = partyline::live_log();
    // For this thread alone, on which the whole story runs.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (bot, at) = bot(Bot::builder().live_log(lines), Settings::default()).await;
    knows(&bot, "mia", "m").await;
    let mut mia = Typist::logs_in(at, "mia").await;
    tracing::warn!(target: "masterchief::irc::link", "not seen yet");
    mia.types(".console +s").await;
    mia.reads("You see +s info now").await;
    tracing::warn!(target: "masterchief::irc::link", server = "irc.example", "The server is gone");
    tracing::warn!(target: "masterchief::journal", "not asked for");
    tracing::debug!(target: "masterchief::irc::link", "too fine");
    tracing::error!(target: "masterchief::irc::link", "last");
    let seen = mia.reads("ERROR last").await;
    assert!(seen.contains("WARN The server is gone server=irc.example"), "{seen}");
    assert!(!seen.contains("not seen") && !seen.contains("not asked") && !seen.contains("too fine"), "{seen}");
    drop(mia);
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".console").await;
    mia.reads("You see +s info").await;
    bot.stop("").await;
}

#[tokio::test]
async fn who_does_not_read_is_let_go_and_nobody_waits_for_them() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    knows(&bot, "sleepy", "p").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut sleepy = socket.connect(at).await.unwrap();
    sleepy.write_all(format!("PASS :sleepy:{PASSWORD}\r\nNICK sleepy\r\nUSER s 0 * :S\r\n").as_bytes()).await.unwrap();
    let mut alice = Person::logs_in(at.port(), "alice", &format!("alice:{PASSWORD}")).await;
    alice.waits(|line| line.command == "366" && line.params.iter().any(|param| param == "#partyline")).await;
    let party: Party = bot.party().clone();
    while party.each(|_| ()).len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // More than a socket and the queue hold.
    let (words, mut said) = ("x".repeat(400), 0);
    while party.each(|_| ()).len() > 1 {
        for _ in 0..200 {
            party.perform(say("#partyline", &words)).unwrap();
        }
        said += 200;
        assert!(said < 200_000, "sleepy is never let go");
        // She keeps up, whatever sleepy does.
        while alice.all_from("chief").len() < said {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(party.lost().0, 1);
    alice
        .waits(|line| line.command == "QUIT" && line.params.last().is_some_and(|words| words == "does not read"))
        .await;
    alice.says("chief", ".uptime");
    alice.hears("chief", "Up for").await;
    drop(sleepy);
    bot.stop("").await;
}

fn say(target: &str, text: &str) -> masterchief::contract::Action {
    masterchief::contract::Action::Say {
        network: partyline::NETWORK.to_owned(),
        target: target.to_owned(),
        text: text.to_owned(),
        how: masterchief::contract::How::Say,
        reply: false,
    }
}

#[tokio::test]
async fn binds_of_the_partyline_are_binds_like_any_other() {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let note = |what: &'static str| {
        let heard = Arc::clone(&heard);
        move |ev: Event| {
            heard.lock().unwrap().push(format!("{what} {} {}", ev.field_str("handle"), ev.text()));
            async {}
        }
    };
    let builder = Bot::builder()
        .bind(DCC, "m", "greet", |ev: Event| async move { format!("{} greets {}", ev.handle(), ev.text()) })
        .unwrap()
        .bind(CHON, "-|-", "*", note("on"))
        .unwrap()
        .bind(CHOF, "-|-", "a*", note("off"))
        .unwrap()
        .bind(CHAT, "-|-", "*tea*", note("chat"))
        .unwrap();
    let (bot, at) = bot(builder, Settings::default()).await;
    knows(&bot, "mia", "m").await;
    knows(&bot, "alice", "p").await;
    let mut mia = Typist::logs_in(at, "mia").await;
    mia.types(".greet the world").await;
    mia.reads("mia greets the world").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".greet x").await;
    alice.reads("needs the flags m").await;
    alice.types("who wants tea?").await;
    mia.reads("<alice> who wants tea?").await;
    alice.types(".quit").await;
    mia.reads("alice has left").await;
    // People on linked bots are members and authors too, and what happens here is told to whoever links bots.
    let mut changes = bot.party().changes();
    let elsewhere = |what| Change { bot: Some(Arc::from("leaf")), idx: 7, handle: Arc::from("zoe"), what };
    bot.party().take(vec![elsewhere(Did::Joined { channel: 0, icon: '@', host: Arc::from("z@host") })]);
    mia.reads("zoe/leaf is in #partyline").await;
    bot.party().take(vec![elsewhere(Did::Said { channel: 0, text: "more tea".to_owned(), act: false })]);
    mia.reads("<zoe/leaf> more tea").await;
    mia.types(".whom 0").await;
    mia.reads("@zoe/leaf").await;
    mia.types("hello leaf").await;
    let said = tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert!(matches!(said.what, Did::Said { channel: 0, ref text, .. } if text == "hello leaf"), "{said:?}");
    bot.party().take(vec![elsewhere(Did::Unlinked { reason: "netsplit".to_owned() })]);
    mia.reads("zoe/leaf has left #partyline").await;
    bot.stop("").await;
    let heard = heard.lock().unwrap().join("\n");
    assert_eq!(heard, "on mia \non alice \nchat alice who wants tea?\noff alice quit\nchat zoe@leaf more tea");
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_a_network_is_watched_and_spoken_in_by_those_who_may() {
    let builder =
        Bot::builder().bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.nick()) });
    let test = TestBot::start(builder.unwrap()).await.unwrap();
    let started = test.started();
    for (handle, flags, there) in [("olga", "po", ""), ("alice", "p", ""), ("opal", "p", "+o")] {
        let mut user = User::new(handle).unwrap();
        user.change_flags(flags).unwrap();
        if !there.is_empty() {
            user.change_channel_flags(&format!("{NETWORK}/#ops"), there).unwrap();
        }
        started.put_user(user).await.unwrap();
    }
    let party = started.party();
    let enter = |handle: &str| {
        let (nick, handle) = (handle.to_owned(), handle.to_owned());
        party.enter(Entry { nick, handle, host: "h".to_owned(), face: Face::Irc, icon: '-', modes: Modes::default() })
    };
    let watched = Place::parse(&format!("#ops@{NETWORK}")).unwrap();
    let (mut olga, alice, opal) = (enter("olga"), enter("alice"), enter("opal"));
    assert!(party.join(alice.idx, &watched).unwrap_err().contains("flag o"));
    assert_eq!(party.join(opal.idx, &watched), Ok(true));
    assert_eq!(party.join(olga.idx, &watched), Ok(true));
    drop(started.outlet());
    test.user("carol").says("#ops", "!hello").await;
    test.expect("#ops", "hi carol").await;
    let mut heard = Vec::new();
    while let Ok(news) = olga.news.try_recv() {
        if let What::Said { text, .. } = &news.what {
            heard.push(format!("{}: {text}", news.from.nick));
        }
    }
    assert_eq!(heard, ["carol: !hello", "chief: hi carol"]);
    party.say(olga.idx, &watched, "who broke it?", masterchief::contract::How::Say).await.unwrap();
    test.expect("#ops", "<olga> who broke it?").await;
    drop((olga, alice, opal, started));
    test.stop().await;
}

#[tokio::test]
async fn what_people_type_goes_through_binds_first_but_for_passwords() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let sift = {
        let seen = Arc::clone(&seen);
        move |ev: Event| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push(ev.text().to_owned());
                match ev.text() {
                    "swallow" => masterchief::contract::Outcome::Stop,
                    "change" => masterchief::contract::Outcome::Reply(vec![".whoami".to_owned()]),
                    _ => masterchief::contract::Outcome::Nothing,
                }
            }
        }
    };
    let kind = masterchief::partyline::FILT;
    let builder = Bot::builder().bind(kind, "-|-", "*", sift).unwrap();
    // Those who may not be sifted are not.
    let never = |_: Event| async { masterchief::contract::Outcome::Stop };
    let builder = builder.bind(kind, "n|-", "*", never).unwrap();
    let (bot, at) = bot(builder, Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types("swallow").await;
    alice.types("change").await;
    alice.reads("You are alice").await;
    alice.types(".newpass a very new one").await;
    alice.reads("Your password is changed").await;
    let mut bob = Person::logs_in(at.port(), "alice", "alice:a very new one").await;
    bob.joins("#partyline").await;
    bob.says("#partyline", "swallow");
    bob.says("#partyline", "hello all");
    let line = alice.reads("hello all").await;
    assert!(!line.contains("swallow"), "{line}");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.contains(&"hello all".to_owned()) && !seen.iter().any(|line| line.contains("very new")), "{seen:?}");
    bob.quits();
    bot.stop("").await;
}

#[tokio::test]
async fn lines_of_the_log_are_told_to_binds_and_what_those_log_is_not() {
    let (layer, lines) = partyline::live_log();
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let folder = tempfile::tempdir().unwrap();
    let lua = r#"
        bot.bind("log", "-|-", "* *Wanted*", function(ev)
          log.info("Wanted again") print(ev.text)
          bot.say("partyline/#ops", `{ev.level} {ev.channel} {ev.text}`)
        end)
        bot.bind("log", "-|-", "/var/log/nowhere.log ~ERROR", function() end)
    "#;
    std::fs::write(folder.path().join("log.lua"), lua).unwrap();
    let (bot, at) = bot(Bot::builder().scripts(folder.path()).live_log(lines), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".chat #ops").await;
    alice.types(".whoami").await;
    alice.reads("You are alice").await;
    tracing::debug!(target: "masterchief::irc", "Wanted but too fine");
    tracing::warn!(target: "masterchief::irc", server = 7, "Wanted");
    alice.reads("s * WARN Wanted server=7").await;
    tracing::warn!(target: "masterchief::gateway", "Wanted too");
    let between = alice.reads("W * WARN Wanted too").await;
    assert!(!between.contains("again") && !between.contains("too fine"), "{between}");
    bot.stop("").await;
}

#[tokio::test]
async fn what_is_said_stands_in_the_log_of_its_channel_unless_a_command_answers_or_a_handler_keeps_it_out() {
    let (layer, lines) = partyline::live_log();
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        bot.bind("pub", "-|-", "!quiet", function(ev) return bot.STOP end)
        bot.bind("pub", "-|-", "!plain", function(ev) end)
        bot.bind("msg", "-|-", "quiet", function(ev) return bot.STOP end)
        bot.bind("pubm", "-|-", "*hush*", function(ev) return bot.STOP end)
        bot.bind("msgm", "-|-", "*hush*", function(ev) return bot.STOP end)
        bot.bind("notc", "-|-", "*hush*", function(ev) return bot.STOP end)
        bot.bind("wall", "-|-", "*hush*", function(ev) return bot.STOP end)
        bot.bind("dcc", "-|-", "nod", function(ev) return bot.STOP end)
        bot.bind("log", "-|-", "#ops *marked*", function(ev) bot.say("story/bob", `{ev.level} {ev.channel} {ev.text}`) end)
    "##;
    std::fs::write(folder.path().join("log.lua"), lua).unwrap();
    let wire = crate::wire::Wire::plain().await;
    let with = Bot::builder().scripts(folder.path()).live_log(lines).network("story", wire.settings());
    let (bot, at) = bot(with, Settings::default()).await;
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    knows(&bot, "alice", "n").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".console +cmpw").await;
    alice.types(".whoami").await;
    alice.reads("You are alice").await;
    for (says, reads) in [
        (":bob!b@h PRIVMSG #ops :hello there", "[story/#ops] <bob> hello there"),
        (":bob!b@h PRIVMSG #ops :\u{1}ACTION waves\u{1}", "[story/#ops] * bob waves"),
        (":bob!b@h NOTICE #ops :look", "[story/#ops] -bob- look"),
        (":bob!b@h PRIVMSG chief :psst", "[bob!b@h] psst"),
        (":bob!b@h NOTICE chief :psst", "-bob!b@h- psst"),
        (":oper!o@h WALLOPS :the server goes down", "!oper!o@h! the server goes down"),
        (":bob!b@h PRIVMSG #ops :!quiet and so on", "<<bob>> !*! !quiet and so on"),
        (":bob!b@h PRIVMSG chief :quiet please", "(bob!b@h) !*! quiet please"),
    ] {
        line.says(&[says]).await;
        alice.reads(reads).await;
    }
    alice.types(".nod off").await;
    alice.reads("#alice# nod off").await;
    line.says(&[
        ":bob!b@h PRIVMSG #ops :!plain and simple",
        ":bob!b@h PRIVMSG #ops :hush now",
        ":bob!b@h PRIVMSG chief :hush now",
        ":bob!b@h NOTICE #ops :hush now",
        ":oper!o@h WALLOPS :hush now",
        ":bob!b@h PRIVMSG #ops :this is marked",
    ])
    .await;
    let between = alice.reads("<bob> this is marked").await;
    assert!(!between.contains("hush") && !between.contains("!plain") && !between.contains("> !quiet"), "{between}");
    assert_eq!(line.hears("PRIVMSG bob").await, "PRIVMSG bob :p #ops [story/#ops] <bob> this is marked");
    bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn the_console_shows_what_eggdrops_letters_show_and_to_nobody_more_than_they_may_see() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    let started = test.started();
    for (handle, flags) in [("olga", "n"), ("mia", "m"), ("opal", "po"), ("pat", "p")] {
        let mut user = User::new(handle).unwrap();
        user.change_flags(flags).unwrap();
        started.put_user(user).await.unwrap();
    }
    // Flags on a channel of some network are enough for what happens there.
    let mut chan = User::new("chan").unwrap();
    chan.change_flags("p").unwrap();
    chan.change_channel_flags("test/#dev", "+o").unwrap();
    started.put_user(chan).await.unwrap();
    let party = started.party();
    let enter = |handle: &str| {
        let (nick, handle) = (handle.to_owned(), handle.to_owned());
        party.enter(Entry { nick, handle, host: "h".to_owned(), face: Face::Irc, icon: '-', modes: Modes::default() })
    };
    let mut seats: Vec<_> = ["olga", "mia", "opal", "pat", "chan"].into_iter().map(enter).collect();
    for seat in &seats {
        party.command(seat.idx, "console +mpjkrv").await.unwrap();
    }
    test.advance(Duration::from_secs(1)).await;
    test.user("ana").joins("#ops").await;
    test.user("ana").says("#ops", "hello ops").await;
    test.user("ana").says("#dev", "hello dev").await;
    test.user("ana").says("chief", "a word in private").await;
    test.advance(Duration::from_secs(1)).await;
    let mut seen = |at: usize| {
        let mut lines = Vec::new();
        while let Ok(news) = seats[at].news.try_recv() {
            if let What::Log { mode, text, .. } = &news.what {
                lines.push(format!("{mode} {text}"));
            }
        }
        lines
    };
    let (olga, mia, opal, pat, chan) = (seen(0), seen(1), seen(2), seen(3), seen(4));
    let has = |lines: &[String], words: &str| lines.iter().any(|line| line.contains(words));
    for words in
        ["p [test/#ops] <ana> hello ops", "p [test/#dev] <ana> hello dev", "j [test/#ops] ana!", "a word in private"]
    {
        assert!(has(&olga, words) && has(&mia, words), "{words}: {olga:#?} {mia:#?}");
    }
    assert!(has(&opal, "hello ops") && !has(&opal, "in private"), "{opal:#?}");
    assert_eq!(pat, [""; 0]);
    assert_eq!(chan, ["j [test/#dev] ana!ana@ana.test joined", "p [test/#dev] <ana> hello dev"]);
    // One channel, and no more than that.
    party.command(seats[0].idx, "console -rv info test/#dev").await.unwrap();
    test.advance(Duration::from_secs(1)).await;
    test.user("ana").says("#ops", "more ops").await;
    test.user("ana").says("#dev", "more dev").await;
    test.advance(Duration::from_secs(1)).await;
    let mut lines = Vec::new();
    while let Ok(news) = seats[0].news.try_recv() {
        if let What::Log { text, .. } = &news.what {
            lines.push(text.clone());
        }
    }
    assert_eq!(lines, ["[test/#dev] <ana> more dev"]);
    drop((seats, started));
    test.stop().await;
}
