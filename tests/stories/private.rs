//! Commands of the partyline in private on a network and by `.at`: what may be given there is answered, and of the rest it is said
//! where to give it.

use std::collections::BTreeSet;
use std::time::Duration;

use masterchief::bot::{Bot, Rules, TestBot};
use masterchief::contract::{Action, Event, HandlerError, How, Kind};
use masterchief::dispatch::Policy;
use masterchief::mesh::Attribute;
use masterchief::partyline::{DCC, OWNER};

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::partyline::knows;
use super::servers::free_port;

const SHOP: &str = "app: shop\npolicy: {environments: {prod: {confirm: never}}}\nstages: {go: {shell: [\"true\"]}}\n";
/// With which words the README begins to name what is taken on the partyline alone.
const ALONE: &str = "Only on the partyline are those that";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers that are longer than one line come within this time.
const REST: Duration = Duration::from_secs(2);

/// What the README says is taken on the partyline alone.
fn alone() -> BTreeSet<String> {
    let text = include_str!("../../README.md");
    let names = &text[text.find(ALONE).unwrap()..];
    let names = names.split('`').nth(1).unwrap();
    names.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn every_command_answers_in_private_or_says_where_to_give_it_and_strangers_hear_nothing() {
    let test = TestBot::start(Bot::builder().pipelines(masterchief::pipelines::Settings::default())).await.unwrap();
    let alice = test.user("alice").logged_in("alice").with_flags("nmoptD");
    let rows = test.started().table().rows();
    let words: BTreeSet<String> =
        rows.iter().filter(|row| row.kind == DCC && row.origin == OWNER).map(|row| format!(".{}", row.mask)).collect();
    let alone = alone();
    assert!(words.len() > 90 && alone.iter().all(|word| words.contains(word)), "{alone:?} of {words:?}");
    // The last one ends the bot.
    let ends = |word: &&String| word.as_str() == ".die";
    for word in words.iter().filter(|word| !ends(word)).chain(words.iter().filter(ends)) {
        alice.says("chief", word).await;
        let answer = match test.find("alice", PATIENCE, |_| true).await {
            Ok(answer) => answer,
            Err(said) => panic!("{word} is not answered: {said}"),
        };
        let elsewhere = answer.contains("is taken on the partyline only: log in there");
        assert_eq!(elsewhere, alone.contains(word), "{word}: {answer}");
        while !ends(&word) && test.find("alice", REST, |_| true).await.is_ok() {}
    }
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_given_in_private_is_written_down_nowhere_and_strangers_are_not_answered() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    let alice = test.user("alice").logged_in("alice").with_flags("nmp");
    alice.says("chief", ".chpass bob hunter2").await;
    test.expect("alice", "a password that stood behind it was read on its way here, so take another").await;
    let trail = test.started().audit_recent(50).await.unwrap();
    assert!(trail.iter().all(|row| !row.detail.contains("hunter2")), "{trail:?}");
    // No help names what is not taken here.
    alice.says("chief", "!help").await;
    test.expect("alice", ".status").await;
    assert!(!test.transcript().iter().any(|line| line.contains(".totp")), "{:?}", test.transcript());
    for stranger in ["mallory", "carl"] {
        let stranger = test.user(stranger).logged_in(stranger);
        stranger.says("chief", ".away lunch").await;
    }
    test.user("carl").with_flags("v").says("chief", ".away lunch").await;
    test.expect_silence("mallory", REST).await;
    test.expect_silence("carl", REST).await;
    assert!(test.started().table().rows().iter().any(|row| row.kind == Kind::Msg && &*row.mask == ".away"));
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nor_is_what_somebody_gives_who_has_the_flag_d_and_may_give_no_commands() {
    let rules = Rules { policy: Policy { refuse_dk: true, ..Policy::default() }, ..Rules::default() };
    let tell = |ev: Event| async move {
        let (network, target) = (String::new(), "carol".to_owned());
        let told = Action::Say { network, target, text: ev.text().to_owned(), how: How::Say, reply: false };
        ev.perform(told).await.map_err(HandlerError::internal)
    };
    let bot = Bot::builder().rules(rules).bind(Kind::new("log"), "-|-", "* *sesame*", tell).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let alice = test.user("alice").logged_in("alice").with_flags("d");
    alice.says("chief", ".newpass open sesame").await;
    test.expect_silence("carol", REST).await;
    // Words are.
    alice.says("chief", "open sesame").await;
    test.expect("carol", "sesame").await;
    let trail = test.started().audit_recent(50).await.unwrap();
    assert!(trail.iter().all(|row| !row.detail.contains("sesame")), "{trail:?}");
    assert!(trail.iter().any(|row| row.detail.contains("has the flag d or k")), "{trail:?}");
    test.stop().await;
}

#[tokio::test]
async fn what_is_shipped_and_read_is_asked_of_another_bot_by_its_dotted_words_too() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let mut home = caller();
    home.attributes.insert(Attribute::Trust);
    let builder = Bot::builder().pipelines(masterchief::pipelines::Settings::default());
    let one = Chief::of(builder, folders[0].path(), named("One", Some(port), &[("Two", home)])).await;
    let two = Chief::start(folders[1].path(), named("Two", None, &[("One", called(port, Attribute::Hub))])).await;
    one.bot.put_pipeline("shop", SHOP).await.unwrap();
    two.sees("One").await;
    knows(&one.bot, "alice", "nmpD").await;
    for (word, answer) in [
        // Its own line may stand there already, or nobody's does.
        (".audit", ""),
        (".runs", "Nothing has run yet."),
        (".locks", "Nothing is locked."),
        (".pipelines", "shop (prod)"),
        (".sources", "relay relay"),
        (".run 7", "there is no run 7"),
        (".deploy nothing to prod", "nothing"),
        (".deploy shop to prod", "1"),
        (".run 1", "shop"),
        (".dlq", "no dead letters"),
        (".dlq show 9", "there is no dead letter 9"),
        (".trace One", "is taken on the partyline only"),
    ] {
        let said = two.mesh.run("One", "alice", word, Duration::from_secs(10)).await;
        assert!(said.as_ref().is_ok_and(|said| said.contains(answer) && !said.is_empty()), "{word}: {said:?}");
    }
    for chief in [two, one] {
        chief.bot.stop("").await;
    }
}
