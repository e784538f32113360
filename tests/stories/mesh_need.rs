//! What a bot lacks in a channel another of us gives it, if it is there who its record says.

use std::time::Duration;

use masterchief::bot::{Bot, Rules};
use masterchief::contract::{Event, Kind};
use masterchief::dispatch::FloodSettings;
use masterchief::irc::Settings;
use masterchief::mesh::{Attribute, BotSettings, NEED};

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::servers::free_port;
use crate::wire::{Line, Memory};

const CAPS: &str = "account-notify extended-join";

/// Says the lines of a server, and waits until the bot has understood them.
async fn tells(line: &mut Line, lines: &[&str]) {
    line.says(lines).await;
    let (_, there) = line.answers("understood").await;
    assert!(there);
}

#[tokio::test]
async fn a_bot_is_given_op_and_invited_by_one_that_sees_it_under_the_account_that_is_written_down() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let friend = BotSettings { accounts: vec!["story/sparrow".to_owned()], ..caller() };
    let ((mut ours, way), (mut theirs, back)) = (Memory::new(), Memory::new());
    let says = |ev: Event| async move { format!("heard {}", ev.text()) };
    let rules = Rules { floods: Some(FloodSettings::default()), ..Rules::default() };
    let builder = Bot::builder().dial(way).network("story", Memory::settings()).rules(rules);
    let builder = builder.bind(Kind::Pub, "-|-", "!x", says).unwrap();
    let one = Chief::of(builder, folders[0].path(), named("One", Some(port), &[("Two", friend)])).await;
    let settings = Settings { nick: "spare".to_owned(), operator_in: vec!["#ops".to_owned()], ..Memory::settings() };
    let known = named("Two", None, &[("One", called(port, Attribute::Hub))]);
    let two = Chief::of(Bot::builder().dial(back).network("story", settings), folders[1].path(), known).await;
    two.sees("One").await;

    let mut at_one = ours.accepts().await;
    at_one.negotiates(CAPS).await;
    at_one.welcomes("PREFIX=(ov)@+").await;
    at_one.hears("JOIN #ops").await;
    let joined = [":chief!c@h JOIN #ops * :x", ":s 353 chief = #ops :@chief", ":s 366 chief #ops :End"];
    tells(&mut at_one, &joined).await;
    tells(&mut at_one, &[":spare!spare@h JOIN #ops mallory :x"]).await;

    // Whoever is not who the record says is given nothing, nor is anybody where we are nobody.
    let one_name = "One".parse().unwrap();
    let asks =
        async |need: &str| two.mesh.own(&one_name, NEED, need, Duration::from_secs(10)).await.unwrap_err().to_string();
    assert!(asks("story #ops op spare").await.contains("spare is not logged in as sparrow"));
    assert!(asks("story #ops op alice").await.contains("alice is not seen by One"));
    assert!(asks("story #dev op spare").await.contains("One is no operator in #dev"));
    assert!(asks("other #ops op spare").await.contains("no account of Two on other"));
    tells(&mut at_one, &[":spare!spare@h ACCOUNT sparrow"]).await;
    assert!(asks("story #ops chocolate spare").await.contains("nobody here knows how to give chocolate"));
    let (said, _) = at_one.answers("so-far").await;
    assert!(!said.iter().any(|line| line.starts_with("MODE #ops +") || line.starts_with("INVITE")), "{said:?}");

    // Floods are counted of everybody but it.
    let mut heard = async |nick: &str| {
        for number in 0..40 {
            at_one.says(&[&format!(":{nick}!{nick}@h PRIVMSG #ops :!x {nick}{number}")]).await;
        }
        let mut count = 0;
        while let Some(line) = at_one.within(Duration::from_secs(1)).await {
            count += usize::from(line.contains(" :heard "));
        }
        count
    };
    assert_eq!((heard("spare").await, heard("mallory").await), (40, 15));
    // Both are on one host, which is ignored now: that is not for it.
    assert_eq!((heard("spare").await, heard("mallory").await), (40, 0));

    // It comes without op where it should have it, and may not come where it wants to.
    let mut at_two = theirs.accepts().await;
    at_two.negotiates("").await;
    at_two.says(&[":s 001 spare :Welcome spare!s@h", ":s 005 spare PREFIX=(ov)@+ :x", ":s 422 spare :No MOTD"]).await;
    at_two.hears("JOIN #ops").await;
    at_two.says(&[":spare!s@h JOIN #ops", ":s 353 spare = #ops :@chief spare", ":s 366 spare #ops :End"]).await;
    assert_eq!(at_one.hears("MODE #ops +").await, "MODE #ops +o spare");
    at_two.says(&[":s 473 spare #ops :Cannot join (+i)"]).await;
    assert_eq!(at_one.hears("INVITE").await, "INVITE spare #ops");
    // Who asks another bot for it without being known there at all is told so.
    let unknown = one.mesh.own(&"Two".parse().unwrap(), NEED, "story #ops op chief", Duration::from_secs(10)).await;
    assert!(unknown.unwrap_err().to_string().contains("no account of One on story"));
    two.bot.stop("").await;
    one.bot.stop("").await;
}
