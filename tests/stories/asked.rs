//! A script asks somebody something, and the answer is that person's.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};

const ASKS: &str = r##"
bot.bind("pub", "-|-", "!wipe", function(ev)
  local answer, why = ev:ask("wipe the disk?", { timeout = "5m", choices = { "yes", "no" } })
  ev:say(`{ev.nick} said {answer or "nothing"} {why or ""}`)
end, { timeout = "30s" })
bot.bind("pub", "-|-", "!name", function(ev)
  local answer, why = ev:ask("which app?")
  return `app {answer} {why}`
end)
bot.bind("msg", "-|-", "!quiet", function(ev)
  return `quietly {ev:ask("sure?")}`
end)
bot.bind("pub", "-|-", "yes", function(ev) return "yes is a command too" end)
bot.bind("pubm", "-|-", "* yes", function(ev) log.info("heard") bot.say("#log", "heard yes") end)
"##;

async fn started(script: &str) -> (TestBot, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("asks.lua"), script).unwrap();
    let test = TestBot::start(Bot::builder().scripts(dir.path())).await.unwrap();
    for nick in ["alice", "mallory"] {
        test.user(nick).logged_in(nick);
        test.net().joins(nick, CHANNEL).await;
    }
    (test, dir)
}

async fn says(test: &TestBot, nick: &str, words: &str) {
    test.user(nick).says(CHANNEL, words).await;
    test.advance(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_the_same_persons_in_the_same_place_and_one_of_the_choices() {
    let (test, _dir) = started(ASKS).await;
    says(&test, "alice", "!wipe").await;
    test.expect(CHANNEL, "alice: wipe the disk? (yes/no)").await;
    says(&test, "mallory", "yes").await;
    test.expect(CHANNEL, "yes is a command too").await;
    says(&test, "alice", "hm, let me see").await;
    test.user("alice").says("chief", "yes").await;
    // Much longer than the handler itself may take.
    test.advance(Duration::from_secs(120)).await;
    assert!(!test.transcript().iter().any(|line| line.contains("alice said") || line.contains("gave up")));
    // With another nick she is the same account; whoever has the old one is not.
    test.net().from_person("alice", "NICK ali").await;
    test.user("ali").logged_in("alice");
    test.user("alice").logged_in("oscar");
    says(&test, "alice", "yes").await;
    test.expect(CHANNEL, "yes is a command too").await;
    says(&test, "ali", "chief: YES").await;
    test.expect(CHANNEL, "alice said yes").await;
    test.expect("#log", "heard yes").await;
    says(&test, "ali", "yes").await;
    test.expect(CHANNEL, "yes is a command too").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn words_that_are_commands_answer_nothing_and_a_second_question_is_not_asked() {
    let (test, _dir) = started(ASKS).await;
    says(&test, "alice", "!name").await;
    test.expect(CHANNEL, "alice: which app?").await;
    says(&test, "alice", "!help").await;
    test.expect(CHANNEL, "Commands for you here").await;
    says(&test, "alice", "!name").await;
    test.expect(CHANNEL, "app nil busy").await;
    says(&test, "alice", "chief, the shop").await;
    test.expect(CHANNEL, "app the shop nil").await;
    test.user("alice").says("chief", "!quiet").await;
    test.expect("alice", "sure?").await;
    says(&test, "alice", "in public").await;
    test.user("alice").says("chief", "quite").await;
    test.expect("alice", "quietly quite").await;
    says(&test, "alice", "!name").await;
    test.expect(CHANNEL, "which app?").await;
    test.advance(Duration::from_secs(121)).await;
    test.expect(CHANNEL, "app nil timeout").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_answers_by_the_same_address_and_who_logs_out_does_not_answer_for_an_account() {
    let (test, _dir) = started(ASKS).await;
    test.user("guest").from_host("here.test");
    says(&test, "guest", "!wipe").await;
    test.expect(CHANNEL, "guest: wipe the disk?").await;
    test.user("guest").from_host("there.test");
    says(&test, "guest", "no").await;
    test.user("guest").from_host("here.test");
    says(&test, "guest", "no").await;
    test.expect(CHANNEL, "guest said no").await;
    says(&test, "alice", "!wipe").await;
    test.expect(CHANNEL, "alice: wipe the disk?").await;
    test.net().person("alice", None, None);
    says(&test, "alice", "yes").await;
    test.expect(CHANNEL, "yes is a command too").await;
    test.net().person("alice", Some("alice"), None);
    test.net().quits("alice", "bye").await;
    test.expect(CHANNEL, "alice said nothing gone").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_stands_still_while_a_netsplit_has_who_was_asked_but_not_for_ever() {
    let (test, _dir) = started(ASKS).await;
    says(&test, "alice", "!wipe").await;
    test.advance(Duration::from_secs(240)).await;
    test.net().from_person("alice", "QUIT :hub.test leaf.test").await;
    test.advance(Duration::from_secs(500)).await;
    test.net().person("alice", None, None);
    test.net().from_person("alice", &format!("JOIN {CHANNEL} * :x")).await;
    says(&test, "alice", "yes").await;
    test.expect(CHANNEL, "yes is a command too").await;
    test.net().person("alice_", Some("alice"), None);
    test.net().from_person("alice_", &format!("JOIN {CHANNEL} alice :x")).await;
    test.advance(Duration::from_secs(30)).await;
    says(&test, "alice_", "no").await;
    test.expect(CHANNEL, "alice said no").await;

    says(&test, "mallory", "!wipe").await;
    test.expect(CHANNEL, "mallory: wipe the disk?").await;
    test.net().from_person("mallory", "QUIT :hub.test leaf.test").await;
    test.advance(Duration::from_secs(590)).await;
    assert!(!test.transcript().iter().any(|line| line.contains("mallory said")));
    test.advance(Duration::from_secs(15)).await;
    test.expect(CHANNEL, "mallory said nothing gone").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_questions_and_a_script_only_asks_where_somebody_can_answer() {
    let (test, dir) = started(ASKS).await;
    says(&test, "alice", "!wipe").await;
    test.expect(CHANNEL, "alice: wipe the disk?").await;
    std::fs::write(dir.path().join("asks.lua"), format!("{ASKS}\n-- newer\n")).unwrap();
    assert!(test.started().reload_scripts().await.failed.is_empty());
    test.expect(CHANNEL, "alice said nothing reloaded").await;
    let bad = r##"
        bot.bind("cron", "-|-", "* * * * *", function(ev)
          local ok, why = pcall(function() return ev:ask("anybody?") end)
          bot.say("#log", tostring(why))
        end)
        bot.bind("pub", "-|-", "!bad", function(ev)
          for _, options in { { timeout = "2h" }, { choices = { " " } }, { chioces = {} } } do
            local ok, why = pcall(function() return ev:ask("what?", options) end)
            ev:say(tostring(why))
          end
        end)
    "##;
    std::fs::write(dir.path().join("asks.lua"), bad).unwrap();
    assert!(test.started().reload_scripts().await.failed.is_empty());
    test.advance(Duration::from_secs(61)).await;
    test.expect("#log", "nobody stands behind a cron event").await;
    says(&test, "alice", "!bad").await;
    test.expect(CHANNEL, "timeout is between 1 and 3600 s").await;
    test.expect(CHANNEL, "choices are up to 20 words").await;
    test.expect(CHANNEL, "chioces").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_their_command_back_is_not_waited_for() {
    let (test, _dir) = started(ASKS).await;
    for nick in ["alice", "mallory"] {
        // Whatever else is taken back is not the command.
        says(&test, "alice", "!wipe").await;
        test.expect(CHANNEL, "alice: wipe the disk?").await;
        let id = if nick == "alice" { test.net().last_id() } else { "fake1".to_owned() };
        test.net().from_person(nick, &format!("REDACT {CHANNEL} {id} :oops")).await;
        test.advance(Duration::from_secs(1)).await;
        if nick == "alice" {
            test.expect(CHANNEL, "alice said nothing redacted").await;
        } else {
            says(&test, "alice", "yes").await;
            test.expect(CHANNEL, "alice said yes").await;
        }
    }
    test.stop().await;
}
