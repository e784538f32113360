//! What operators have done on another bot: their words go there, what it says comes back, then and later.

use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::mesh::Attribute;
use masterchief::partyline;
use masterchief::pipelines;

use super::acted::Acted;
use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::partyline::{PASSWORD, Typist, knows};
use super::person::Person;
use super::servers::free_port;

const SHOP: &str = "app: shop\npolicy:\n  environments:\n    prod: {confirm: never, approvals: {count: 1}}\n    dev: {confirm: never}\nstages:\n  rollout: {acted: {takes: 1s}}\n";

#[tokio::test]
async fn a_pipeline_of_another_bot_is_asked_for_approved_and_heard_of_to_its_end_from_at_home() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let mut home = caller();
    home.attributes.insert(Attribute::Trust);
    let builder = Bot::builder().executor("acted", Acted::default()).pipelines(pipelines::Settings::default());
    let one = Chief::of(builder, folders[0].path(), named("One", Some(port), &[("Two", home.clone())])).await;
    one.bot.put_pipeline("shop", SHOP).await.unwrap();
    let inside = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let known = named("Two", None, &[("One", called(port, Attribute::Hub))]);
    let two = Chief::of(Bot::builder().partyline(inside), folders[1].path(), known).await;
    two.sees("One").await;
    // What they may is what One knows of them: at home all are alike.
    for (handle, flags) in [("alice", "mDp"), ("bob", "mDp"), ("carl", "p")] {
        knows(&one.bot, handle, flags).await;
        knows(&two.bot, handle, "p").await;
    }
    let at = two.bot.partyline_at().0.unwrap();
    let (mut alice, mut carl) = (Typist::logs_in(at, "alice").await, Typist::logs_in(at, "carl").await);
    let bob = Person::logs_in(at.port(), "bob", &format!("bob:{PASSWORD}")).await;
    alice.types(".at One !deploy shop to dev").await;
    alice.reads("(One) ").await;
    alice.reads("is live on dev").await;

    // Who asked does not agree, who may not is told so, who may does from at home too.
    alice.types(".at One !deploy shop to prod").await;
    alice.reads("!approve 2 ").await;
    let code = alice.reads("\n").await.split([' ', '"', '\r']).next().unwrap().to_owned();
    alice.types(&format!(".at One !approve 2 {code}")).await;
    alice.reads("cannot approve 2").await;
    carl.types(".at One !deploy shop to prod").await;
    bob.says("chief", &format!(".at One !approve 2 {code}"));
    alice.reads("approved by bob").await;
    alice.reads("is live on prod").await;
    let (run, _) = one.bot.pipelines().run(2).await.unwrap().unwrap();
    assert_eq!(run.state, pipelines::RunState::Succeeded);

    // Commands of its partyline, as far as they are for who is not there.
    alice.types(".at One .modules").await;
    alice.reads("(One) ").await;
    carl.types(".at One .chattr carl +n").await;
    carl.reads("it needs m|m").await;
    carl.types(".at Nobody .status").await;
    carl.reads("Nobody").await;
    // Where its word counts of some only, nobody who holds more is believed to be who it says, whatever they ask.
    let mut known = named("One", Some(port), &[("Two", caller())]);
    known.bots.get_mut("Two").unwrap().trust = Some("Dp".to_owned());
    one.mesh.configure(known).await;
    knows(&one.bot, "dora", "Dp").await;
    knows(&two.bot, "dora", "p").await;
    let mut dora = Typist::logs_in(at, "dora").await;
    dora.types(".at One !deploy shop to dev").await;
    dora.reads("is live on dev").await;
    alice.types(".at One !runs").await;
    alice.reads("alice holds more here than the letters for which the word of Two counts").await;
    one.mesh.configure(named("One", Some(port), &[("Two", home)])).await;
    // Who has gone home finds the rest in their notes.
    alice.types(".at One !deploy shop to dev").await;
    alice.reads("(One) ").await;
    alice.types(".quit").await;
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !two.bot.store().notes("alice").await.unwrap().iter().any(|note| note.text.contains("is live on dev")) {
        assert!(tokio::time::Instant::now() < end, "{:?}", two.bot.store().notes("alice").await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(one.bot.pipelines().run(5).await.unwrap().is_none(), "carl has begun nothing");
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn what_comes_of_at_is_a_note_for_who_asked_although_their_bot_was_started_anew() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let mut home = caller();
    home.attributes.insert(Attribute::Trust);
    let builder = Bot::builder().executor("acted", Acted::default()).pipelines(pipelines::Settings::default());
    let one = Chief::of(builder, folders[0].path(), named("One", Some(port), &[("Two", home)])).await;
    one.bot.put_pipeline("shop", SHOP).await.unwrap();
    let inside = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let known = named("Two", None, &[("One", called(port, Attribute::Hub))]);
    let two = Chief::of(Bot::builder().partyline(inside), folders[1].path(), known.clone()).await;
    two.sees("One").await;
    for handle in ["alice", "bob"] {
        knows(&one.bot, handle, "mDp").await;
        knows(&two.bot, handle, "p").await;
    }
    let mut alice = Typist::logs_in(two.bot.partyline_at().0.unwrap(), "alice").await;
    alice.types(".at One !deploy shop to prod").await;
    alice.reads("!approve 1 ").await;
    let code = alice.reads("\n").await.split([' ', '"', '\r']).next().unwrap().to_owned();
    drop(alice);
    two.bot.stop("").await;
    let two = Chief::start(folders[1].path(), known).await;
    two.sees("One").await;
    two.mesh.run("One", "bob", &format!("!approve 1 {code}"), Duration::from_secs(10)).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(40);
    while !two.bot.store().notes("alice").await.unwrap().iter().any(|note| note.text.contains("is live on prod")) {
        assert!(tokio::time::Instant::now() < end, "{:?}", two.bot.store().notes("alice").await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    two.bot.stop("").await;
    one.bot.stop("").await;
}
