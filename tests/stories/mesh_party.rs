//! The partyline and the mesh together: people here and on a real Eggdrop are in one room.

use masterchief::bot::Bot;
use masterchief::mesh::BotSettings;
use masterchief::partyline;

use super::eggdrop::{Egg, Friend};
use super::mesh::settings;
use super::partyline::{PASSWORD, Typist, knows};
use super::person::Person;
use super::servers::free_port;

#[tokio::test]
async fn an_eggdrop_links_at_the_partylines_port_and_its_people_are_in_one_room_with_ours() {
    let port = free_port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut net = settings("Chief");
    net.bots.insert("EggOne".to_owned(), BotSettings { insecure: true, first_link: true, ..BotSettings::default() });
    let party = partyline::Settings { listen: Some(([127, 0, 0, 1], port).into()), ..partyline::Settings::default() };
    let bot = Bot::builder().data(folder.path()).mesh(net).partyline(party).start().await.unwrap();
    let at = bot.partyline_at().0.unwrap();
    knows(&bot, "alice", "p").await;
    knows(&bot, "bob", "p").await;
    // Alice is there before the bots are linked, bob comes afterwards.
    let mut alice = Typist::logs_in(at, "alice").await;
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    owner.says("hello, chief").await;
    alice.reads("owner").await;
    alice.reads("hello, chief").await;
    owner.says(".who Chief").await;
    owner.expect("alice").await;
    alice.types("hello, egg").await;
    owner.expect("<alice@Chief> hello, egg").await;
    let mut bob = Person::logs_in(at.port(), "bob", &format!("bob:{PASSWORD}")).await;
    bob.joins("#partyline").await;
    bob.says("#partyline", "me too");
    owner.expect("<bob@Chief> me too").await;
    owner.says("welcome, bob").await;
    bob.hears("owner/EggOne", "welcome, bob").await;
    // Words for one of them alone are a note there.
    bob.says("owner/EggOne", "a word in your ear");
    owner.expect("a word in your ear").await;
    bob.hears("chief", "owner@EggOne").await;
    alice.types(".tell owner/eggone and one of mine").await;
    owner.expect("and one of mine").await;
    // A note for somebody of ours who is here is shown, one for somebody who is not is kept.
    owner.says(".note alice@Chief mind the gap").await;
    alice.reads("mind the gap").await;
    alice.types(".quit").await;
    owner.expect("alice").await;
    owner.says(".note alice@Chief and the door").await;
    owner.expect("note stored").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".notes read").await;
    alice.reads("and the door").await;
    owner.says(".unlink Chief").await;
    bob.quits();
    bot.stop("").await;
}
