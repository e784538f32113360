//! People shared between MasterChiefs: what one writes the others know, as far as each lets it in.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, PolicySettings};
use masterchief::contract::{Event, Kind, Secret};
use masterchief::mesh::{Attribute, BotSettings, Settings};
use masterchief::users::User;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::mesh_chiefs::{called, named};
use super::servers::free_port;

/// One that people are shared with, so many letters of theirs.
pub(crate) fn sharing(bot: BotSettings, letters: &str) -> BotSettings {
    BotSettings { share: Some(letters.to_owned()), password: Some(Secret::new("geheim")), ..bot }
}

pub(crate) fn user(handle: &str, flags: &str) -> User {
    User::with_account(handle, "libera", handle, flags).unwrap()
}

/// Waits until the record of somebody is as it should be; without a record they are given as `None`.
pub(crate) async fn knows(chief: &Chief, handle: &str, wanted: impl Fn(Option<&User>) -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let user = chief.bot.book().get(handle);
        if wanted(user.as_deref()) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{} has {user:?}", chief.mesh.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn has(chief: &Chief, handle: &str, flags: &str) {
    knows(chief, handle, |user| user.is_some_and(|user| user.flags.to_string() == flags)).await;
}

/// One and Two, linked; each shares these letters.
async fn pair(folders: [&Path; 2], letters: [&str; 2]) -> (Chief, Chief, Settings) {
    let port = free_port();
    let one = named("One", Some(port), &[("Two", sharing(BotSettings::default(), letters[0]))]);
    let two = named("Two", None, &[("One", sharing(called(port, Attribute::Hub), letters[1]))]);
    let (one, second) = (Chief::start(folders[0], one).await, Chief::start(folders[1], two.clone()).await);
    second.sees("One").await;
    (one, second, two)
}

#[tokio::test]
async fn what_was_written_apart_is_known_on_both_sides_and_nobody_is_replaced() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two, known) = pair([folders[0].path(), folders[1].path()], ["Dfv", "Dfv"]).await;
    one.bot.put_user(user("alice", "D")).await.unwrap();
    two.bot.put_user(user("bob", "f")).await.unwrap();
    has(&two, "alice", "D").await;
    has(&one, "bob", "f").await;
    // Apart, both write about her, and one writes bob off.
    two.bot.stop("").await;
    let mut here = user("alice", "Df");
    here.add_host("*!alice@one.example").unwrap();
    one.bot.put_user(here).await.unwrap();
    one.bot.book().remove("bob");
    one.bot.store().remove_user("bob").await.unwrap();
    let two = {
        let alone = Settings { bots: Default::default(), name: None, ..known.clone() };
        let offline = masterchief::bot::Bot::builder().data(folders[1].path()).mesh(alone).start().await.unwrap();
        let mut there = User::clone(&offline.book().get("alice").unwrap());
        there.add_host("*!alice@two.example").unwrap();
        there.comment = "night shift".to_owned();
        offline.put_user(there).await.unwrap();
        offline.stop("").await;
        Chief::start(folders[1].path(), known).await
    };
    let whole = |user: Option<&User>| {
        user.is_some_and(|user| {
            user.hosts.len() == 2 && user.comment == "night shift" && user.flags.to_string() == "fD"
        })
    };
    knows(&one, "alice", whole).await;
    knows(&two, "alice", whole).await;
    knows(&two, "bob", |user| user.is_none()).await;
    // What came is in the records, not in the memory alone.
    let stored = two.bot.store().users().await.unwrap();
    assert!(stored.iter().any(|row| row.handle == "alice" && row.marks.len() == 3), "{stored:?}");
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn letters_that_one_side_does_not_name_stay_at_home_and_whoever_holds_more_is_not_touched() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two, _) = pair([folders[0].path(), folders[1].path()], ["Dfv", "Df"]).await;
    two.bot.put_user(user("owner", "n")).await.unwrap();
    let mut owner = user("owner", "D");
    owner.accounts = vec![("libera".to_owned(), "mallory".to_owned())];
    one.bot.put_user(owner).await.unwrap();
    one.bot.put_user(user("carol", "Dmv")).await.unwrap();
    // Of carol's letters one may travel, by the word of both sides.
    has(&two, "carol", "D").await;
    let owner = two.bot.book().get("owner").unwrap();
    assert!(owner.flags.has('n') && !owner.flags.has('D'), "{owner:?}");
    assert_eq!(owner.accounts, [("libera".to_owned(), "owner".to_owned())], "an owner is not changed from there");
    // Taken away over there she is taken away here, the owner is not.
    for handle in ["carol", "owner"] {
        one.bot.book().remove(handle);
        one.bot.store().remove_user(handle).await.unwrap();
    }
    knows(&two, "carol", |user| user.is_none()).await;
    assert!(two.bot.book().get("owner").is_some());
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn an_account_that_is_somebodys_here_is_nobody_elses_by_anothers_word() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two, _) = pair([folders[0].path(), folders[1].path()], ["D", "D"]).await;
    two.bot.put_user(user("alice", "m")).await.unwrap();
    let mut aaa = user("aaa", "D");
    aaa.accounts.push(("libera".to_owned(), "Alice".to_owned()));
    one.bot.put_user(aaa).await.unwrap();
    has(&two, "aaa", "D").await;
    assert_eq!(two.bot.book().get("aaa").unwrap().accounts, [("libera".to_owned(), "aaa".to_owned())]);
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn through_an_eggdrop_people_are_shared_only_if_it_is_trusted() {
    let egg = Egg::start("EggHub", &[Friend("One", 1), Friend("Two", 1)]).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let known = |name: &str, other: &str, trusted: bool| {
        let mut known = settings(name);
        let mut hub = clear_hub(&egg);
        if trusted {
            hub.attributes = BTreeSet::from([Attribute::Hub, Attribute::Trust]);
        }
        known.bots.insert("EggHub".to_owned(), hub);
        known.bots.insert(other.to_owned(), sharing(BotSettings::default(), "Df"));
        known
    };
    let one = Chief::start(folders[0].path(), known("One", "Two", true)).await;
    let two = Chief::start(folders[1].path(), known("Two", "One", false)).await;
    two.sees("One").await;
    one.sees("Two").await;
    one.bot.put_user(user("alice", "D")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(two.bot.book().get("alice").is_none());
    two.mesh.configure(known("Two", "One", true)).await;
    has(&two, "alice", "D").await;
    // Many of them, in lines that an Eggdrop passes on.
    for number in 0..60 {
        one.bot.put_user(user(&format!("user{number}"), "f")).await.unwrap();
    }
    has(&two, "user59", "f").await;
    assert_eq!(two.bot.book().all().len(), 61);
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn what_another_bot_tells_of_somebody_is_not_taken_where_the_policy_would_break() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let one = named("One", Some(port), &[("Two", sharing(BotSettings::default(), "Dfv"))]);
    let two = named("Two", None, &[("One", sharing(called(port, Attribute::Hub), "Dfv"))]);
    let file = folders[2].path().join("policy.yaml");
    std::fs::write(&file, "rows:\n  - {who: libera/mallory, in: \"libera/#ops\", may_not: \"!x\"}\n").unwrap();
    let policy = PolicySettings { file: Some(file), networks: vec!["libera".to_owned()] };
    let guarded = Bot::builder().policy(policy).bind(Kind::Pub, "D", "!x", |_: Event| async {}).unwrap();
    let one = Chief::of(guarded, folders[0].path(), one).await;
    let two = Chief::start(folders[1].path(), two).await;
    two.sees("One").await;
    two.bot.put_user(user("mallory", "D")).await.unwrap();
    two.bot.put_user(user("bob", "D")).await.unwrap();
    has(&one, "bob", "D").await;
    assert!(one.bot.book().get("mallory").is_none(), "nobody may who should not");
    assert!(one.bot.store().users().await.unwrap().iter().all(|row| row.handle != "mallory"), "nor after a restart");
    two.bot.put_user(user("mallory", "v")).await.unwrap();
    has(&one, "mallory", "v").await;
    two.bot.stop("").await;
    one.bot.stop("").await;
}
