//! Output that can be trusted: what is said is accounted for, outlives the bot, is kept to what a channel bears, tells no secret, and
//! can be asked about.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, Builder, CHANNEL, NETWORK, Started, TestBot};
use masterchief::contract::{Action, Class, Event, HandlerError, How, Kind, Mark, Proof, Refused, Secret};
use masterchief::gateway;
use masterchief::irc::{Budget, Channel, PaceSettings};
use serde_json::json;

use super::lab::Lab;
use super::person::Person;
use super::real::{bot_on, joined};
use super::wire::{Line, Wire};

const CAPS: &str = "message-tags batch echo-message labeled-response";
const MINUTE: Duration = Duration::from_secs(60);

fn say(target: &str, text: &str) -> Action {
    let (network, target, text) = (String::new(), target.to_owned(), text.to_owned());
    Action::Say { network, target, text, how: How::Say, reply: false }
}

fn of(class: Class, target: &str, text: &str) -> Action {
    say(target, text).marked(Mark { class: Some(class), ..Mark::default() })
}

async fn on(wire: &Wire, bot: Builder, caps: &str) -> (Started, Line) {
    let started = bot.network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined(caps, "").await;
    (started, line)
}

fn script(text: &str) -> (tempfile::TempDir, Builder) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tell.lua"), text).unwrap();
    let bot = Bot::builder().scripts(folder.path());
    (folder, bot)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_waits_for_the_receipt_and_hears_what_the_server_refuses() {
    let wire = Wire::plain().await;
    let (_folder, bot) = script(
        r#"
        bot.bind("pub", "-|-", "!tell", function(ev)
          local got = ev:say("first", { wait = true })
          bot.say("alice", `{got.proof} {got.msgid} {got.line > 0}`)
          local ok, why = pcall(function() return ev:say("second", { wait = true, as = "notice" }) end)
          bot.say("alice", `{ok} {why}`)
          return ev:say("third", { wait = true, class = "page" })
        end)
    "#,
    );
    let (started, mut line) = on(&wire, bot, CAPS).await;
    line.says(&["@msgid=q :alice!a@h PRIVMSG #ops :!tell"]).await;
    let said = line.hears("@label=").await;
    assert!(said.ends_with("PRIVMSG #ops :first"), "{said}");
    line.says(&["@label=mc1;msgid=abc :chief!c@host PRIVMSG #ops :first"]).await;
    let said = line.hears("@label=mc2").await;
    assert!(said.ends_with("PRIVMSG alice :echoed abc true"), "{said}");
    let said = line.hears("@label=mc3").await;
    assert!(said.ends_with("NOTICE #ops :second"), "{said}");
    line.says(&["@label=mc3 :s 404 chief #ops :Cannot send to channel (+m)"]).await;
    let said = line.hears("@label=mc4").await;
    assert!(said.contains("PRIVMSG alice :false") && said.contains("Cannot send to channel (+m) (404)"), "{said}");
    line.hears("@label=mc5").await;
    line.says(&["@label=mc5 :chief!c@host PRIVMSG #ops :third"]).await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_nothing_gives_a_guess_that_says_so_and_a_refusal_all_the_same() {
    let wire = Wire::plain().await;
    let (started, mut line) = on(&wire, Bot::builder(), "").await;
    let outlet = started.outlet();
    let (first, second) = tokio::join!(outlet.deliver(say("#ops", "one")), async {
        line.hears("PRIVMSG #ops :one").await;
        let refused = outlet.deliver(say("nobody", "two"));
        let answer = async {
            line.hears("PRIVMSG nobody :two").await;
            line.says(&[":s 401 chief nobody :No such nick"]).await;
        };
        tokio::join!(refused, answer).0
    });
    assert_eq!(first.map(|receipt| receipt.proof), Ok(Proof::Guessed));
    let refused: Refused = second.unwrap_err();
    assert_eq!((refused.code.as_deref(), refused.message.contains("No such nick")), (Some("401"), true));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_inspircd_a_handler_gets_receipts_and_refusals_of_a_moderated_channel_and_of_nobody() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let started = bot_on(&lab, "#ops").start().await.unwrap();
    joined(&started, "#ops").await;
    let receipt = started.outlet().deliver(say("#ops", "can you hear me")).await.unwrap();
    assert_eq!(receipt.proof, Proof::Echoed);
    alice.hears("chief", "can you hear me").await;
    alice.sends("MODE #ops +m");
    alice.waits(|line| line.command == "MODE" && line.params.iter().any(|param| param == "+m")).await;
    let refused = started.outlet().deliver(say("#ops", "and now")).await.unwrap_err();
    assert_eq!(refused.code.as_deref(), Some("404"), "{refused}");
    alice.sends("MODE #ops -m+b *!*@*");
    alice
        .waits(|line| line.command == "MODE" && line.params.iter().any(|param| param.contains("+b") || param == "-m+b"))
        .await;
    let refused = started.outlet().deliver(say("#ops", "banned?")).await.unwrap_err();
    assert_eq!(refused.code.as_deref(), Some("404"), "{refused}");
    let refused = started.outlet().deliver(say("nobody-here", "hello?")).await.unwrap_err();
    assert_eq!(refused.code.as_deref(), Some("401"), "{refused}");
    started.stop("").await;
}

/// A bot whose process dies: its tasks end where they are.
fn dying(work: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    let ended = std::thread::spawn(move || {
        runtime.block_on(work);
        runtime.shutdown_timeout(Duration::from_millis(1));
    });
    ended.join().unwrap();
}

async fn restarted(folder: &Path, wire: &Wire) -> (Started, Line) {
    on(wire, Bot::builder().data(folder), CAPS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_the_bot_is_stopped_is_said_by_the_next_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire::plain().await;
    {
        // A server that never lets it in.
        let started = Bot::builder().data(folder.path()).network("story", wire.settings()).start().await.unwrap();
        let _line = wire.accepts().await;
        for (class, text) in [(Class::Page, "the shop is down"), (Class::Reply, "hi"), (Class::Chatter, "news")] {
            started.outlet().perform(of(class, "#ops", text)).await.unwrap();
        }
        let old = of(Class::Chatter, "#ops", "old").marked(Mark::default());
        let old =
            Action::Marked { mark: Mark { expires: Some(Duration::ZERO), ..Mark::default() }, action: Box::new(old) };
        started.outlet().perform(old).await.unwrap();
        started.stop("").await;
    }
    let (started, mut line) = restarted(folder.path(), &wire).await;
    let mut said = Vec::new();
    for _ in 0..4 {
        let heard = line.hears("@label=").await;
        said.push(heard.split_once(" :").unwrap().1.to_owned());
    }
    assert_eq!(said[..3], ["the shop is down", "hi", "news"]);
    assert_eq!(said[3], "(1 line from before I went down was left out; the newest: old)");
    line.says(&["@label=mc1 :chief!c@host PRIVMSG #ops :the shop is down"]).await;
    started.stop("").await;
    let (started, mut line) = restarted(folder.path(), &wire).await;
    started.outlet().perform(say("#ops", "fresh")).await.unwrap();
    let heard = line.hears("@label=").await;
    assert!(heard.ends_with(":fresh"), "nothing is said twice: {heard}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_dies_loses_no_page_and_says_what_it_may_have_said_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire::plain().await;
    let settings = wire.settings();
    let data = folder.path().to_owned();
    let (told, until) = std::sync::mpsc::channel::<()>();
    let server = tokio::spawn(async move {
        let mut line = wire.accepts().await;
        line.is_joined(CAPS, "").await;
        line.hears("@label=mc2").await;
        told.send(()).unwrap();
        (wire, line)
    });
    tokio::task::spawn_blocking(move || {
        dying(async move {
            let started = Bot::builder().data(&data).network("story", settings).start().await.unwrap();
            started.outlet().perform(of(Class::Page, "#ops", "the shop is down")).await.unwrap();
            started.outlet().perform(of(Class::Page, "#dev", "and so is the warehouse")).await.unwrap();
            tokio::task::spawn_blocking(move || until.recv().unwrap()).await.unwrap();
        });
    })
    .await
    .unwrap();
    let (wire, line) = server.await.unwrap();
    drop(line);
    let (started, mut line) = restarted(folder.path(), &wire).await;
    let mut said = Vec::new();
    for _ in 0..2 {
        said.push(line.hears("@label=").await.split_once(" PRIVMSG ").unwrap().1.to_owned());
    }
    said.sort();
    let again = ["#dev :(perhaps said before) and so is the warehouse", "#ops :(perhaps said before) the shop is down"];
    assert_eq!(said, again);
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_channel_hears_what_matters_and_one_line_about_the_rest() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    test.net().refuse(true);
    test.net().cut();
    test.advance(Duration::from_secs(5)).await;
    for n in 0..40 {
        let class = if n % 4 == 0 { Class::Progress } else { Class::Chatter };
        test.started().outlet().perform(of(class, CHANNEL, &format!("news {n}"))).await.unwrap();
    }
    test.started().outlet().perform(of(Class::Page, CHANNEL, "the shop is down")).await.unwrap();
    test.advance(Duration::from_secs(1200)).await;
    test.net().refuse(false);
    test.advance(Duration::from_secs(300)).await;
    let said: Vec<String> = test.transcript().into_iter().map(|line| line.replace("PRIVMSG #ops ", "")).collect();
    let digest = "(40 lines waited too long and were left out: 10 progress, 30 other; the newest: news 39)";
    assert_eq!(said, [digest, "the shop is down"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_than_a_channel_bears_stands_on_a_page_that_expires() {
    let wire = Wire::plain().await;
    let settings: gateway::Settings = serde_json::from_value(json!({"listen": "127.0.0.1:0"})).unwrap();
    let mut network = wire.settings();
    network.budget = Budget { lines: 5, keep: Duration::from_secs(2), ..Budget::default() };
    let long: Vec<String> = (0..50).map(|n| format!("row {n}")).collect();
    let bot = Bot::builder().gateway(settings).secrets([Secret::new("row 49")]).network("story", network);
    let bot = bot
        .bind(Kind::Pub, "-|-", "!list", move |_: Event| {
            let long = long.clone();
            async move { long }
        })
        .unwrap();
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    line.says(&[":alice!a@h PRIVMSG #ops :!list"]).await;
    let mut heard = Vec::new();
    while !heard.last().is_some_and(|line: &String| line.contains("http")) {
        heard.push(line.hears("PRIVMSG #ops :").await);
    }
    assert!(heard.len() <= 5, "{heard:#?}");
    let last = heard.pop().unwrap();
    let address = last.split(' ').find(|word| word.starts_with("http://")).unwrap().to_owned();
    assert!(last.ends_with("(for 2s)"), "{last}");
    assert!(address.rsplit('/').next().unwrap().len() >= 32, "nobody guesses it: {address}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let page = reqwest::get(&address).await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/plain; charset=utf-8");
    let page = page.text().await.unwrap();
    assert!(page.contains("row 48\n***\n"), "with the rest of it, and no secret: {page}");
    assert_eq!(page.lines().count() + heard.len(), 50);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reqwest::get(&address).await.unwrap().status(), 404);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_the_rest_goes_to_who_asked_and_what_nobody_asked_for_is_counted() {
    let wire = Wire::plain().await;
    let mut network = wire.settings();
    network.budget = Budget { lines: 4, keep: Duration::from_secs(60), ..Budget::default() };
    let rows = |ev: Event| async move {
        ev.deliver("a\nb\nc\nd\ne", How::Say, Mark::default()).await.map(drop).map_err(HandlerError::internal)
    };
    let bot = Bot::builder().network("story", network).bind(Kind::Pub, "-|-", "!list", rows).unwrap();
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    line.says(&[":alice!a@h PRIVMSG #ops :!list"]).await;
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(line.hears("PRIVMSG").await);
    }
    // Each place reads in order.
    heard.sort_by_key(|line| line.contains("PRIVMSG alice"));
    let wanted = ["#ops :a", "#ops :b", "#ops :c", "#ops :2 more lines, in private to alice", "alice :d", "alice :e"];
    assert_eq!(heard, wanted.map(|wanted| format!("PRIVMSG {wanted}")));
    started.outlet().perform(say("#ops", "nobody asked")).await.unwrap();
    started.outlet().perform(of(Class::Page, "#ops", "but this is a page")).await.unwrap();
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :but this is a page");
    // So is what is asked: whoever answers does so here.
    let here = Mark { here: true, ..Mark::default() };
    started.outlet().perform(say("#ops", "sure? (yes/no)").marked(here)).await.unwrap();
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG #ops :sure? (yes/no)");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_set_a_budget_the_rest_of_a_long_answer_goes_to_who_asked_and_nothing_is_left_out() {
    let wire = Wire::plain().await;
    let configured: masterchief::irc::Settings = serde_json::from_value(json!({"servers": ["localhost"]})).unwrap();
    let network = masterchief::irc::Settings { budget: configured.budget, ..wire.settings() };
    let rows = |_: Event| async move { (0..40).map(|n| format!("row {n}")).collect::<Vec<_>>() };
    let bot = Bot::builder().network("story", network).bind(Kind::Pub, "-|-", "!list", rows).unwrap();
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    let news: Vec<String> = (0..40).map(|n| format!("news {n}")).collect();
    started.outlet().perform(say("#ops", &news.join("\n"))).await.unwrap();
    for n in 0..40 {
        assert_eq!(line.hears("PRIVMSG").await, format!("PRIVMSG #ops :news {n}"));
    }
    line.says(&[":alice!a@h PRIVMSG #ops :!list"]).await;
    let mut heard = Vec::new();
    for _ in 0..41 {
        heard.push(line.hears("PRIVMSG").await);
    }
    let (private, public): (Vec<_>, Vec<_>) = heard.iter().partition(|line| line.contains("PRIVMSG alice"));
    assert_eq!((private.len(), public.len()), (11, 30), "{heard:#?}");
    assert_eq!(public[29], "PRIVMSG #ops :11 more lines, in private to alice");
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn no_secret_leaves_whichever_way_it_is_said() {
    const CANARY: &str = "canary-4242-never-said";
    let shaped = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    let folder = tempfile::tempdir().unwrap();
    let lua = format!(
        r##"
        local both = "{CANARY} {shaped}"
        bot.bind("pub", "-|-", "!leak", function(ev)
          ev:reply(both) ev:say(both) ev:notice(both) ev:act(both)
          bot.say("{CHANNEL}", both) bot.notice("alice", both) bot.act("{CHANNEL}", both)
          bot.say("{CHANNEL}", both, {{ class = "page" }})
          bot.raw("TOPIC", "{CHANNEL}", both)
          bot.raw("PRIVMSG", "alice", both)
          bot.raw("NOTICE", "alice", "\1VERSION " .. both .. "\1")
          bot.raw("KICK", "{CHANNEL}", "bob", both)
          bot.raw("AWAY", both)
          bot.say("{CHANNEL}", string.rep("x", 420) .. both)
          ev:progress(both):done(both)
          bot.join("#other") bot.part("#other", both)
          bot.fail(both)
        end)
        bot.bind("pub", "-|-", "!list", function(ev) return {{ both, "token=" .. both }} end)
        bot.bind("pub", "-|-", "!crash", function(ev) error(both) end)
    "##
    );
    std::fs::write(folder.path().join("leak.lua"), lua).unwrap();
    let bot = Bot::builder().scripts(folder.path()).secrets([Secret::new(CANARY)]);
    let test = TestBot::start(bot).await.unwrap();
    let alice = test.user("alice").with_flags("n");
    for word in ["!leak", "!list", "!crash"] {
        alice.says(CHANNEL, word).await;
    }
    test.advance(Duration::from_secs(30)).await;
    let heard = test.net().heard();
    assert!(heard.iter().any(|line| line.command == "TOPIC"), "{heard:#?}");
    assert!(heard.iter().filter(|line| line.text.contains("***")).count() >= 12, "{heard:#?}");
    let all = format!("{heard:?}");
    for secret in [CANARY, shaped, "4242-never", "23456789abcdefgh"] {
        assert!(!all.contains(secret), "{secret} left: {heard:#?}");
    }
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_ctcp_is_on_account_with_its_cause() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    test.user("alice").with_flags("o").says("chief", "\u{1}VERSION\u{1}").await;
    test.expect("alice", "VERSION").await;
    test.user("alice").says("chief", "!why").await;
    let line = test.expect("alice", "L").await;
    assert!(line.contains(", reply, ") && line.contains("VERSION masterchief"), "{line}");
    assert!(test.expect("alice", "because of").await.contains("as ctcp VERSION"));
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_asks_why_and_is_led_to_who_asked_and_to_the_script() {
    let folder = tempfile::tempdir().unwrap();
    let lua = "bot.bind(\"pub\", \"-|-\", \"!hello\", function(ev) return \"hi \" .. ev.nick end)\n";
    std::fs::write(folder.path().join("greet.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    test.user("bob").says(CHANNEL, "!hello there").await;
    test.expect(CHANNEL, "hi bob").await;
    test.user("bob").says(CHANNEL, "!why").await;
    test.expect("bob", "!why").await;
    let alice = test.user("alice").with_flags("o");
    alice.says(CHANNEL, "!why").await;
    let line = test.expect(CHANNEL, "hi bob").await;
    assert!(line.starts_with('L') && line.contains(&format!("to {NETWORK}/{CHANNEL} at 2026-03-02 ")), "{line}");
    let because = test.expect(CHANNEL, "because of bob!").await;
    for part in ["a stranger", "\"!hello there\"", "pub !hello", "greet.lua:1 version ", "call "] {
        assert!(because.contains(part), "{part}: {because}");
    }
    let number = line.split(' ').next().unwrap().to_owned();
    for asked in [format!("!why {number}"), "!why 1".to_owned()] {
        alice.says(CHANNEL, &asked).await;
        assert!(test.expect(CHANNEL, ": hi bob").await.starts_with(&number));
    }
    alice.says(CHANNEL, "!why L999999").await;
    test.expect(CHANNEL, "no line L999999").await;
    test.stop().await;
}

/// What `!why` tells of the last line with these words.
async fn why(test: &TestBot, oper: &str, words: &str) -> String {
    for nth in 1..=5 {
        test.user(oper).says(CHANNEL, &format!("!why {nth}")).await;
        let line = test.expect(CHANNEL, &format!(" to {NETWORK}/{CHANNEL} at 2026-03-02 ")).await;
        let because = test.expect(CHANNEL, "because of ").await;
        if line.contains(words) {
            return because;
        }
    }
    panic!("{words}: {:#?}", test.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_line_about_a_run_leads_to_that_run_and_to_who_asked_for_it() {
    let shop = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}, staging: {confirm: never, require_flag: d}}}\nstages:\n  rollout: {acted: {takes: 5s, fails: \"{params.bad}\", class: app_not_ready, line: not ready}}\n";
    let (test, _) = super::deploys::with(shop).await;
    test.user("oper").with_flags("o");
    test.user("kim").says(CHANNEL, "!deploy shop/v1 to dev").await;
    test.find(CHANNEL, MINUTE, |line| line.contains("[1] shop v1 is live on dev")).await.unwrap();
    let because = why(&test, "oper", "[1] shop v1 is live on dev").await;
    assert_eq!(because, "because of pipelines; run 1 of shop v1 to dev, asked for by kim");
    test.user("raj").says(CHANNEL, "!deploy shop/v2 to staging bad=1").await;
    test.find(CHANNEL, MINUTE, |line| line.contains("[2] shop v2 -> staging FAILED")).await.unwrap();
    test.advance(Duration::from_secs(5)).await;
    let because = why(&test, "oper", "[2] shop v2 -> staging FAILED").await;
    assert_eq!(because, "because of pipelines; run 2 of shop v2 to staging, asked for by raj");
    // What was said of the first is still of the first.
    let because = why(&test, "oper", "[1] shop v1 is live on dev").await;
    assert!(because.ends_with("run 1 of shop v1 to dev, asked for by kim"), "{because}");
    super::deploys::stop(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_urgent_goes_first_where_lines_have_to_wait_and_the_same_words_are_counted() {
    let wire = Wire::plain().await;
    let mut settings = wire.settings();
    settings.pace = PaceSettings { burst: 1, interval: Duration::from_millis(20) };
    settings.channels = vec![Channel { name: "#ops".to_owned(), key: None }];
    let started = Bot::builder().network("story", settings).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.negotiates("").await;
    for _ in 0..9 {
        started.outlet().perform(say("#ops", "the disk is full")).await.unwrap();
    }
    started.outlet().perform(of(Class::Reply, "#ops", "yes")).await.unwrap();
    started.outlet().perform(of(Class::Page, "#ops", "the shop is down")).await.unwrap();
    line.welcomes("").await;
    line.hears("JOIN #ops").await;
    line.says(&[":chief!c@host JOIN #ops", ":s 366 chief #ops :End"]).await;
    for wanted in ["the shop is down", "yes", "the disk is full (×9)"] {
        assert_eq!(line.hears("PRIVMSG").await, format!("PRIVMSG #ops :{wanted}"));
    }
    started.stop("").await;
}
