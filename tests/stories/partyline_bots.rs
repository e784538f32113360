//! What botmasters do on the partyline: they add bots, link and unlink them, and leave notes for people there.

use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::partyline::Settings;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::partyline::{Typist, knows};

/// A bot with a mesh and a partyline that listens, in this folder.
async fn chief(folder: &std::path::Path) -> (Chief, std::net::SocketAddr) {
    let listens = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    let chief = Chief::of(Bot::builder().partyline(listens), folder, settings("Chief")).await;
    let at = chief.bot.partyline_at().0.unwrap();
    (chief, at)
}

#[tokio::test]
async fn a_botmaster_adds_a_real_eggdrop_links_it_and_it_is_known_after_a_restart() {
    let egg = Egg::start("HubBot", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let (chief_, at) = chief(folder.path()).await;
    knows(&chief_.bot, "olga", "n").await;
    knows(&chief_.bot, "tom", "t").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".link HubBot").await;
    olga.reads("there is no bot HubBot here").await;
    // What can be read on the way is for owners to say.
    let mut tom = Typist::logs_in(at, "tom").await;
    tom.types(&format!(".+bot HubBot 127.0.0.1:{} +c", egg.port)).await;
    tom.reads("only owners give +c").await;
    tom.types(".+bot olga 127.0.0.1:1").await;
    tom.reads("olga is a person here").await;
    olga.types(&format!(".+bot HubBot 127.0.0.1:{} +c", egg.port)).await;
    olga.reads(".link HubBot calls it").await;
    olga.types(".botattr HubBot").await;
    olga.reads("in clear (+c); password none").await;
    olga.types(".link HubBot").await;
    olga.reads("Linked with HubBot").await;
    olga.types(".bots").await;
    olga.reads("2: Chief HubBot").await;
    olga.types(".bottree").await;
    olga.reads("`- HubBot  (eggdrop").await;
    olga.types(".trace HubBot").await;
    olga.reads("Chief:HubBot").await;
    olga.types(".who HubBot").await;
    olga.reads("(HubBot)").await;
    olga.types(".unlink HubBot enough for now").await;
    olga.reads("The link with HubBot is ended").await;
    egg.logs("LABDISC Chief").await;
    olga.types(".botattr HubBot +h").await;
    olga.reads("hub (+h)").await;
    chief_.sees("HubBot").await;
    drop((olga, tom));
    chief_.bot.stop("").await;
    // The record is kept, and what the first link has agreed on.
    let (again, at) = chief(folder.path()).await;
    again.sees("HubBot").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".-bot HubBot").await;
    olga.reads("HubBot is forgotten, and its link ended").await;
    olga.types(".botattr HubBot").await;
    olga.reads("there is no bot HubBot here").await;
    drop(olga);
    again.bot.stop("").await;
}

#[tokio::test]
async fn a_note_for_somebody_on_another_bot_waits_until_that_bot_is_linked() {
    let egg = Egg::start("HubBot", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let (chief_, at) = chief(folder.path()).await;
    knows(&chief_.bot, "olga", "n").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".note owner@Nowhere hello").await;
    olga.reads("neither linked nor known here").await;
    olga.types(&format!(".+bot HubBot 127.0.0.1:{} +c", egg.port)).await;
    olga.reads("HubBot is known").await;
    olga.types(".note owner@HubBot the disk is full").await;
    olga.reads("HubBot is not linked now; kept until it is").await;
    drop(olga);
    chief_.bot.stop("").await;
    // It outlives the bot.
    let mut owner = egg.owner().await;
    let (again, at) = chief(folder.path()).await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".link HubBot").await;
    owner.expect("the disk is full").await;
    olga.reads("Note sent to owner").await;
    olga.types(".note bob@HubBot and you?").await;
    olga.reads("On its way to bob@HubBot").await;
    olga.reads("(HubBot)").await;
    olga.types(".note nobody@HubBot x").await;
    olga.reads("No such user").await;
    assert!(again.bot.store().notes_afar().await.unwrap().is_empty(), "what was answered waits no more");
    again.bot.stop("").await;
}

#[tokio::test]
async fn a_hub_in_the_configuration_is_changed_there_and_its_people_come_as_one_crowd() {
    let egg = Egg::start("HubBot", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.bots.insert("HubBot".to_owned(), clear_hub(&egg));
    let listens = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    let (_one, _two) = (egg.owner().await, egg.owner().await);
    let chief = Chief::of(Bot::builder().partyline(listens), folder.path(), known).await;
    knows(&chief.bot, "olga", "n").await;
    let mut olga = Typist::logs_in(chief.bot.partyline_at().0.unwrap(), "olga").await;
    chief.sees("HubBot").await;
    olga.types(".-bot HubBot").await;
    olga.reads("change it there").await;
    // They may have come before she did.
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while chief.bot.party().guests().len() < 2 {
        assert!(tokio::time::Instant::now() < end, "the people of the Eggdrop are not seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    olga.types(".whom 0").await;
    olga.reads("owner/HubBot").await;
    olga.types(".boot nobody@HubBot x").await;
    chief.mesh.unlink(&"HubBot".parse().unwrap(), "a test").await.unwrap();
    let gone = olga.reads("have left #partyline").await;
    assert!(gone.contains("owner/HubBot, owner/HubBot"), "{gone}");
    drop(olga);
    chief.bot.stop("").await;
}
