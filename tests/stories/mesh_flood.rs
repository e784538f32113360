//! A flood of words in the mesh: the bots still call each other, share people, and nothing breaks.

use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Event;
use masterchief::mesh::{Attribute, BOT, BotSettings};
use masterchief::users::User;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::servers::free_port;

/// Words of one who floods.
const WORDS: u32 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_floods_bots_answer_each_other_and_no_link_is_lost() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let share = |bot: BotSettings| BotSettings { share: Some("D".to_owned()), ..bot };
    let hub = named("Hub", Some(port), &[("One", share(caller())), ("Two", share(caller()))]);
    let hub = Chief::start(folders[0].path(), hub).await;
    let answers = Bot::builder().bind(BOT, "-|-", "echo", |ev: Event| async move { ev.text().to_owned() }).unwrap();
    let of_hub = || share(called(port, Attribute::Hub));
    let mut two = Chief::of(answers, folders[2].path(), named("Two", None, &[("Hub", of_hub())])).await;
    let one = Chief::start(folders[1].path(), named("One", None, &[("Hub", of_hub())])).await;
    one.sees("Two").await;
    hub.sees("Two").await;
    one.joins(7, "mallory").await;
    let flood = async {
        for number in 0..WORDS {
            one.says(7, &format!("word {number} {}", "x".repeat(200))).await;
        }
    };
    let calls = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let begun = Instant::now();
            let answer = hub.mesh.call("Two", "echo", &format!("{number}"), Duration::from_secs(10)).await;
            assert_eq!(answer, Ok(number.to_string()));
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let people = async {
        hub.bot.put_user(User::with_account("alice", "libera", "alice", "D").unwrap()).await.unwrap();
        let begun = Instant::now();
        while two.bot.book().get("alice").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "alice is not known at Two");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ((), slowest, ()) = tokio::join!(flood, calls, people);
    assert!(slowest < Duration::from_secs(5), "a call took {slowest:?}");
    for (chief, links) in [(&hub, 2), (&one, 1), (&two, 1)] {
        let view = chief.mesh.view();
        assert_eq!(view.links.len(), links, "{}", chief.mesh.name());
    }
    // What was left out was counted; what came, came at most once each.
    let left_out: u64 =
        [&hub, &one].iter().flat_map(|chief| chief.mesh.view().links.clone()).map(|link| link.dropped).sum();
    two.hears("a word", |news| match news {
        masterchief::mesh::News::Said { text, .. } if text.starts_with("word") => Some(()),
        _ => None,
    })
    .await;
    assert!(left_out < u64::from(WORDS));
    for chief in [one, two, hub] {
        chief.bot.stop("").await;
    }
}
