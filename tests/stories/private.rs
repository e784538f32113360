//! Commands of the partyline in private on a network: what may be given there is answered there, by `/msg` and by `.at`.

use std::collections::BTreeSet;
use std::time::Duration;

use masterchief::bot::{Bot, TestBot};
use masterchief::contract::Kind;
use masterchief::mesh::Attribute;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::partyline::knows;
use super::servers::free_port;

/// What answers nobody, since nobody is left who could.
const ENDS: [&str; 2] = [".die", ".restart"];

#[tokio::test(start_paused = true)]
async fn every_command_that_is_taken_in_private_answers_who_gives_it_and_nobody_else() {
    let test = TestBot::start(Bot::builder().pipelines(masterchief::pipelines::Settings::default())).await.unwrap();
    let alice = test.user("alice").logged_in("alice").with_flags("nmoD");
    let rows = test.started().table().rows();
    let words: BTreeSet<String> = rows
        .iter()
        .filter(|row| row.kind == Kind::Msg && row.mask.starts_with('.'))
        .map(|row| row.mask.to_string())
        .collect();
    for word in [".runs", ".run", ".deploy", ".dlq", ".locks", ".sources", ".events", ".audit", ".ignores", ".+ignore"]
    {
        assert!(words.contains(word), "{word} is not taken in private");
    }
    for word in words.iter().filter(|word| !ENDS.contains(&word.as_str())) {
        alice.says("chief", word).await;
        let answer = test.find("alice", Duration::from_secs(30), |_| true).await;
        assert!(answer.is_ok(), "{word} is not answered: {answer:?}");
        // Longer answers end before the next begins.
        while test.find("alice", Duration::from_secs(2), |_| true).await.is_ok() {}
    }
    test.user("mallory").says("chief", ".audit").await;
    assert!(test.find("mallory", Duration::from_secs(5), |text| text.contains("login")).await.is_err());
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
    two.sees("One").await;
    knows(&one.bot, "alice", "nmp").await;
    for (word, answer) in [
        (".runs", "Nothing has run yet."),
        (".locks", "Nothing is locked."),
        (".pipelines", "There are no pipelines."),
        (".sources", "Nothing is read from outside."),
        (".events", "Nothing came yet."),
        (".run 7", ""),
        (".deploy nothing", ""),
        (".dlq", ""),
        (".audit", ""),
    ] {
        let said = two.mesh.run("One", "alice", word, Duration::from_secs(10)).await;
        assert!(said.as_ref().is_ok_and(|said| said.contains(answer)), "{word}: {said:?}");
        // What has nothing to tell says so, but for the trail of those who were refused.
        assert!(word == ".audit" || said != Ok(String::new()), "{word}");
    }
    for chief in [two, one] {
        chief.bot.stop("").await;
    }
}
