//! What people who come from Eggdrop type by habit on the partyline, and what comes of it.

use masterchief::bot::Bot;
use masterchief::partyline::{Did, Settings};

use super::partyline::{Typist, bot, knows};

#[tokio::test]
async fn channels_of_this_bot_alone_are_heard_there_only_and_who_is_off_hears_and_says_nothing() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    let mut told = bot.party().changes();
    for handle in ["alice", "bob", "carl"] {
        knows(&bot, handle, "p").await;
    }
    let mut alice = Typist::logs_in(at, "alice").await;
    let mut bob = Typist::logs_in(at, "bob").await;
    let mut carl = Typist::logs_in(at, "carl").await;
    for person in [&mut alice, &mut bob] {
        person.types(".chat *5").await;
        person.types(".whoami").await;
        person.reads("You are ").await;
    }
    alice.types("among us").await;
    bob.reads("<alice> among us").await;
    alice.types(".whom *5").await;
    alice.reads("#*5:").await;
    alice.reads("bob ").await;
    alice.types(".chat 0").await;
    alice.types("for all").await;
    let heard = carl.reads("<alice> for all").await;
    assert!(!heard.contains("among us"), "{heard}");
    // Who is off is in no channel: they say nothing, hear nothing, and still have their commands.
    bob.types(".chat off").await;
    bob.types("is anybody there").await;
    bob.reads("You are in no channel, and nobody hears you; .chat 0 is the partyline.").await;
    bob.types(".me waves").await;
    bob.reads("You are in no channel").await;
    alice.types("while bob is off").await;
    carl.reads("<alice> while bob is off").await;
    alice.types(".whom").await;
    alice.reads("#partyline:").await;
    let whom = alice.reads("carl ").await;
    bob.types(".whoami").await;
    let heard = bob.reads("You are bob").await;
    assert!(!heard.contains("while bob is off") && !whom.contains("bob"), "{heard} {whom}");
    bob.types(".chat 0").await;
    bob.types("I am back").await;
    alice.reads("<bob> I am back").await;
    // No linked bot has heard of the channel, nor of words in it.
    let mut said = Vec::new();
    while let Ok(change) = told.try_recv() {
        match change.what {
            Did::Said { text, .. } => said.push(text),
            Did::Joined { channel, .. } | Did::Parted { channel, .. } => assert_eq!(channel, 0),
            _ => {}
        }
    }
    assert_eq!(said, ["for all", "while bob is off", "I am back"]);
    bot.stop("").await;
}

#[tokio::test]
async fn one_sees_ones_own_words_by_echo_and_says_of_oneself_by_info_what_whois_shows() {
    let settings = Settings { motd: vec!["be kind".to_owned()], ..Settings::default() };
    let (bot, at) = bot(Bot::builder(), settings).await;
    knows(&bot, "alice", "po").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types("unseen").await;
    alice.types(".echo on").await;
    let before = alice.reads("Your own words are shown to you.").await;
    assert!(!before.contains("unseen"), "{before}");
    alice.types("seen").await;
    alice.reads("<alice> seen").await;
    drop(alice);
    // It is kept.
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types("seen again").await;
    alice.reads("<alice> seen again").await;
    alice.types(".echo off").await;
    alice.reads("not shown any more").await;
    alice.types("unseen again").await;
    alice.types(".motd").await;
    let after = alice.reads("be kind").await;
    assert!(!after.contains("unseen again"), "{after}");
    alice.types(".info keeps the lights on").await;
    alice.reads("You say of yourself: keeps the lights on").await;
    alice.types(".whois alice").await;
    alice.reads("info: keeps the lights on").await;
    alice.types(".info none").await;
    alice.reads("nothing of yourself any more").await;
    alice.types(".whois alice").await;
    let shown = alice.reads("sessions here").await;
    assert!(!shown.contains("info:"), "{shown}");
    alice.types(&format!(".info {}", "x".repeat(81))).await;
    alice.reads("at most 80 characters").await;
    bot.stop("").await;
}

#[tokio::test]
async fn whose_notes_one_does_not_take_are_told_so_and_nothing_is_kept() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    for handle in ["alice", "bob", "carl"] {
        knows(&bot, handle, "p").await;
    }
    let mut alice = Typist::logs_in(at, "alice").await;
    let mut bob = Typist::logs_in(at, "bob").await;
    for (typed, answered) in [
        (".noteigns", "You take notes of everybody."),
        (".+noteign bo?", "You take no notes of bo? any more."),
        (".+noteign bo?", "you take no notes of bo? already"),
        (".noteigns", "You take no notes of bo?."),
    ] {
        alice.types(typed).await;
        alice.reads(answered).await;
    }
    bob.types(".note alice psst").await;
    bob.reads("alice takes no notes of yours").await;
    assert_eq!(bot.store().notes("alice").await.unwrap().len(), 0);
    let mut carl = Typist::logs_in(at, "carl").await;
    carl.types(".note alice hello").await;
    carl.reads("alice is here and has it").await;
    let heard = alice.reads("Note from carl: hello").await;
    assert!(!heard.contains("psst"), "{heard}");
    alice.types(".-noteign nobody").await;
    alice.reads("there is no nobody").await;
    alice.types(".-noteign bo?").await;
    alice.reads("You take notes of bo? again.").await;
    bob.types(".note alice now then").await;
    alice.reads("Note from bob: now then").await;
    bot.stop("").await;
}
