//! Somebody lends themselves for a while what their record allows, and loses it as soon as nobody vouches for them.

use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, NETWORK, TestBot};
use masterchief::contract::{Event, Kind};
use masterchief::partyline::{Entry, Face, Modes};
use masterchief::users::{Settings, Sudo, User};

const MINUTE: Duration = Duration::from_secs(60);

/// A bot with a command for owners, and alice, who may lend herself +n.
async fn started(sudo: Sudo) -> TestBot {
    let bot = Bot::builder()
        .users(Settings { sudo, ..Settings::default() })
        .bind(Kind::Pub, "n|-", "!wipe", |ev: Event| async move { format!("wiped for {}", ev.handle()) })
        .unwrap();
    let test = TestBot::start(bot).await.unwrap();
    knows(&test, "alice", "+n");
    test
}

fn knows(test: &TestBot, handle: &str, sudo: &str) {
    let mut user = User::with_account(handle, NETWORK, handle, "+o").unwrap();
    user.change_sudo(sudo).unwrap();
    test.started().book().put(user).unwrap();
}

/// Whether the word is done for her now.
async fn may(test: &TestBot, nick: &str) -> bool {
    let before = test.transcript().iter().filter(|line| line.contains("wiped for")).count();
    test.user(nick).says(CHANNEL, "!wipe").await;
    test.advance(Duration::from_secs(1)).await;
    test.transcript().iter().filter(|line| line.contains("wiped for")).count() > before
}

async fn rises(test: &TestBot, nick: &str) {
    test.user(nick).logged_in("alice").says(CHANNEL, "!sudo 15m the disk is full").await;
    test.expect(CHANNEL, "alice is elevated (+jlmnoptx) for 15m: the disk is full. !sudo off ends it.").await;
    assert!(may(test, nick).await);
}

#[tokio::test(start_paused = true)]
async fn it_is_announced_written_down_and_ends_at_its_time_or_by_a_word() {
    let test = started(Sudo::default()).await;
    test.user("alice").logged_in("alice");
    assert!(!may(&test, "alice").await);
    test.expect("alice", "!sudo 15m WHY lends you +jlmnoptx").await;
    rises(&test, "alice").await;
    test.advance(14 * MINUTE).await;
    assert!(may(&test, "alice").await);
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "alice is not elevated any more: the time is over.").await;
    assert!(!may(&test, "alice").await);
    rises(&test, "alice").await;
    test.user("alice").says(CHANNEL, "!sudo off").await;
    test.expect(CHANNEL, "alice is not elevated any more: they said so.").await;
    assert!(!may(&test, "alice").await);
    test.user("alice").says(CHANNEL, "!sudo off").await;
    test.expect(CHANNEL, "alice: you are not elevated here").await;
    let trail = test.started().audit_recent(100).await.unwrap();
    let told: Vec<String> = trail
        .iter()
        .rev()
        .filter(|row| row.kind == "sudo")
        .map(|row| format!("{} {} {}", row.action, row.handle.as_deref().unwrap_or("-"), row.detail))
        .collect();
    let up = "elevated alice #ops +jlmnoptx for 900 s: the disk is full";
    assert_eq!(told, [up, "lowered alice #ops the time is over", up, "lowered alice #ops they said so"]);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_than_may_be_is_told_what_to_write() {
    let test = started(Sudo { max: 30 * MINUTE, announce: Vec::new() }).await;
    knows(&test, "bob", "");
    let asks = async |nick: &str, words: &str, hears: &str| {
        test.user(nick).says(CHANNEL, words).await;
        test.expect(CHANNEL, hears).await;
    };
    asks("mallory", "!sudo 15m because", "log in to services first").await;
    test.user("bob").logged_in("bob");
    asks("bob", "!sudo 15m because", "masterchief users sudo bob +FLAGS").await;
    test.user("alice").logged_in("alice");
    asks("alice", "!sudo 2h because", "30m at most").await;
    asks("alice", "!sudo soon because", "30m at most").await;
    asks("alice", "!sudo 0s because", "30m at most").await;
    asks("alice", "!sudo 15m", "say why").await;
    test.user("alice").says("chief", "!sudo 15m in secret").await;
    test.expect("alice", "say it in a channel").await;
    assert!(!may(&test, "alice").await);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_private_it_is_announced_where_the_configuration_says() {
    let test = started(Sudo { announce: vec![format!("{NETWORK}/#audit")], ..Sudo::default() }).await;
    test.user("alice").logged_in("alice").says("chief", "!sudo 1h alone here").await;
    test.expect("#audit", "alice is elevated").await;
    assert!(may(&test, "alice").await);
    test.advance(61 * MINUTE).await;
    test.expect("#audit", "alice is not elevated any more: the time is over.").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_lost_with_what_vouched_for_it() {
    let test = started(Sudo::default()).await;
    let lost = async |why: &str, nick: &str| {
        test.advance(Duration::from_secs(1)).await;
        test.expect(CHANNEL, &format!("alice is not elevated any more: {why}.")).await;
        assert!(!may(&test, nick).await, "{why}");
    };
    // Logged out.
    rises(&test, "alice").await;
    test.net().person("alice", None, None);
    test.net().from_person("alice", "ACCOUNT *").await;
    lost("nobody vouches for them any more", "alice").await;
    // Words without the account: the notice of it was lost.
    rises(&test, "alice").await;
    test.net().person("alice", None, None);
    test.user("alice").says(CHANNEL, "hello").await;
    lost("nobody vouches for them any more", "alice").await;
    // Another nick of the same account is she; whoever takes the old one is not.
    rises(&test, "alice").await;
    test.net().from_person("alice", "NICK ali").await;
    test.user("ali").logged_in("alice");
    assert!(may(&test, "ali").await);
    test.net().person("alice", Some("alice"), None);
    assert!(!may(&test, "alice").await, "another client of hers did not ask");
    // Lost in a netsplit, back, and not elevated.
    test.net().from_person("ali", "QUIT :hub.test leaf.test").await;
    lost("they left", "ali").await;
    // Gone from all channels: nobody would hear of a logout.
    rises(&test, "carol").await;
    test.net().parts("carol", CHANNEL, "bye").await;
    lost("nobody sees them any more", "carol").await;
    rises(&test, "dave").await;
    test.net().quits("dave", "bye").await;
    lost("they left", "dave").await;
    // The network itself was away: whoever is there now has to ask again.
    rises(&test, "erin").await;
    assert!(test.kill_connection().await);
    lost("the network is away", "erin").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_could_lend_themselves_more_is_not_taken_over_by_somebody_below() {
    let test = started(Sudo::default()).await;
    test.user("may").with_flags("+m").says("chief", ".+host alice *!x@may.example").await;
    test.expect("may", "alice stands above you").await;
    test.stop().await;
}

/// Asks whether somebody may, at once and half a minute later; what happens in between is told by `meanwhile`.
async fn still(test: &TestBot, target: &str, meanwhile: &[&str]) -> String {
    test.user("dana").with_flags("n").says(target, "!slow").await;
    test.expect("#log", "dana may: true").await;
    for line in meanwhile {
        test.net().from_person("dana", line).await;
    }
    test.advance(Duration::from_secs(31)).await;
    test.expect("#log", "dana may now: ").await
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_its_time_asks_anew_whether_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let lua = r##"
        local function slow(ev)
          bot.say("#log", `{ev.nick} may: {ev:can("n")}`)
          time.sleep("30s")
          bot.say("#log", `{ev.nick} may now: {ev:can("n")} {ev:can("-")}`)
        end
        bot.bind("pub", "-|-", "!slow", slow)
        bot.bind("msg", "-|-", "!slow", slow)
    "##;
    std::fs::write(folder.path().join("slow.lua"), lua).unwrap();
    let test = TestBot::start(Bot::builder().scripts(folder.path())).await.unwrap();
    for target in [CHANNEL, "chief"] {
        let cases: [(&[&str], bool); 5] = [
            (&["PRIVMSG #ops :just talking"], true),
            (&["NICK dana_"], true),
            (&["ACCOUNT *"], false),
            (&["QUIT :hub.test leaf.test"], false),
            (&["PART #ops :bye"], false),
        ];
        for (meanwhile, may) in cases {
            test.user("dana").with_flags("n").joins(CHANNEL).await;
            let said = still(&test, target, meanwhile).await;
            assert!(said.ends_with(&format!("{may} true")), "{target} {meanwhile:?}: {said}");
            // Whoever it was comes anew, as it was.
            test.net().quits("dana", "bye").await;
            test.net().from_person("dana_", "QUIT :bye").await;
        }
    }
    // Somebody else with the nick, and a record that was taken away, are no more either.
    test.user("dana").with_flags("n").joins(CHANNEL).await;
    test.user("dana").says(CHANNEL, "!slow").await;
    test.expect("#log", "dana may: true").await;
    test.net().quits("dana", "bye").await;
    test.net().person("dana", Some("mallory"), Some("evil.test"));
    test.net().joins("dana", CHANNEL).await;
    test.advance(Duration::from_secs(31)).await;
    test.expect("#log", "dana may now: false").await;
    test.stop().await;
}

/// An operator removes a record, or gives it another handle.
#[tokio::test(start_paused = true)]
async fn it_ends_with_the_record_or_its_handle() {
    let test = started(Sudo::default()).await;
    let operators = test.started();
    let mut olga = User::new("olga").unwrap();
    olga.change_flags("n").unwrap();
    operators.put_user(olga).await.unwrap();
    let (nick, handle, host) = ("olga".to_owned(), "olga".to_owned(), "h".to_owned());
    let olga = Entry { nick, handle, host, face: Face::Irc, icon: '*', modes: Modes::default() };
    let seat = operators.party().enter(olga);
    for command in ["chhandle alice alicia", "-user alice"] {
        let mut alice = User::with_account("alice", NETWORK, "alice", "+o").unwrap();
        alice.change_sudo("+n").unwrap();
        operators.put_user(alice).await.unwrap();
        rises(&test, "alice").await;
        operators.party().command(seat.idx, command).await.unwrap();
        let line = "alice is not elevated any more: their record is gone, or has another handle.";
        test.expect(CHANNEL, line).await;
        assert!(!may(&test, "alice").await, "after {command}");
        operators.party().command(seat.idx, "-user alicia").await.unwrap();
        test.advance(Duration::from_secs(1)).await;
    }
}
