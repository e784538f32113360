//! Commands of the partyline by `.at`: what may be given in private on a network is given to another bot too.

use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::mesh::Attribute;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::partyline::knows;
use super::servers::free_port;

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
        (".sources", "relay relay"),
    ] {
        let said = two.mesh.run("One", "alice", word, Duration::from_secs(10)).await;
        assert!(said.as_ref().is_ok_and(|said| said.contains(answer)), "{word}: {said:?}");
    }
    for chief in [two, one] {
        chief.bot.stop("").await;
    }
}
