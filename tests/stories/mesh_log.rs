//! The incident log in the mesh: what one bot writes the others know, and nobody takes it back unseen.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use masterchief::mesh::{Attribute, BotSettings, LOG};
use masterchief::pipelines::{Ask, Asked, Asker, May};
use masterchief::users::User;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::runs::masterchief;
use super::servers::free_port;

const SHOP: &str = "app: shop\npolicy: {environments: {prod: {require_flag: D}}}\nstages: {go: {shell: [\"true\"]}}\n";

fn sharing(bot: BotSettings) -> BotSettings {
    let mut attributes = bot.attributes.clone();
    attributes.insert(Attribute::Trust);
    BotSettings { share: Some("D".to_owned()), attributes, ..bot }
}

/// A bot that ships the shop, in the folder `data` of a project.
async fn chief(folder: &Path, known: masterchief::mesh::Settings) -> Chief {
    let chief = Chief::start(&folder.join("data"), known).await;
    chief.bot.put_pipeline("shop", SHOP).await.unwrap();
    chief
}

async fn logs(chief: &Chief, text: &str) {
    let who = Asker { handle: "ana".to_owned(), ..Asker::program("cli") };
    let ask = Ask::Log("shop".to_owned(), String::new(), text.to_owned());
    chief.bot.pipelines().ask(Asked { ask, who, may: May::all() }).await.unwrap();
}

/// Waits until all lines that a bot knows are these, the newest first.
async fn knows(chief: &Chief, wanted: &[(&str, &str)]) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let rows = chief.bot.pipelines().logged("shop", 0, 50).await.unwrap();
        let known: BTreeSet<(String, String)> =
            rows.into_iter().map(|(bot, row)| (bot.unwrap_or_default(), row.text)).collect();
        if known == wanted.iter().map(|(bot, text)| ((*bot).to_owned(), (*text).to_owned())).collect() {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{} knows {known:?}", chief.mesh.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What `audit verify` says in a project.
fn verify(folder: &Path) -> (Option<i32>, String) {
    std::fs::create_dir_all(folder.join("config/global")).unwrap();
    std::fs::write(folder.join("config/global/config.yaml"), "data: data\n").unwrap();
    masterchief(folder, &["audit", "verify"])
}

#[tokio::test]
async fn what_one_bot_logs_is_known_to_all_and_shown_with_its_name() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let hub = named("Hub", Some(port), &[("One", sharing(caller())), ("Two", sharing(caller()))]);
    let hub = chief(folders[0].path(), hub).await;
    let leaf = |name: &str| named(name, None, &[("Hub", sharing(called(port, Attribute::Hub)))]);
    // It has written before it ever met anybody.
    let one = chief(folders[1].path(), leaf("One")).await;
    logs(&one, "checkout answers 500").await;
    one.sees("Hub").await;
    let two = chief(folders[2].path(), leaf("Two")).await;
    two.sees("One").await;
    knows(&two, &[("one", "checkout answers 500")]).await;
    for number in 0..300 {
        logs(&two, &format!("attempt {number}")).await;
    }
    let rows = async |chief: &Chief| chief.bot.store().told_heads().await.unwrap().get("two").map(|head| head.id);
    let begun = std::time::Instant::now();
    while rows(&one).await != Some(300) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", rows(&one).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // People read it with the word that writes it.
    hub.bot.put_user(User::with_account("ana", "libera", "ana", "D").unwrap()).await.unwrap();
    let begun = std::time::Instant::now();
    let said = loop {
        match two.mesh.run("Hub", "ana", "!log shop", Duration::from_secs(10)).await {
            Ok(said) if said.contains("@two") => break said,
            other => assert!(begun.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(said.contains("L-300@two") && said.contains("attempt 299"), "{said}");
    for chief in [one, two, hub] {
        chief.bot.stop("").await;
    }
    let (code, said) = verify(folders[0].path());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("one: 1 lines, each as it told them") && said.contains("two: 300 lines"), "{said}");
}

#[tokio::test]
async fn a_line_that_was_told_is_neither_changed_nor_cut_off_unseen_on_either_side() {
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let known = [
        named("One", Some(port), &[("Two", sharing(caller()))]),
        named("Two", None, &[("One", sharing(called(port, Attribute::Hub)))]),
    ];
    let start = async |at: usize| chief(folders[at].path(), known[at].clone()).await;
    let (one, two) = (start(0).await, start(1).await);
    for text in ["first", "second", "third"] {
        logs(&one, text).await;
    }
    let all = [("one", "first"), ("one", "second"), ("one", "third")];
    knows(&two, &all).await;
    one.bot.stop("").await;
    // Somebody takes the end of it away, also from where it stands beside.
    let change = |at: usize, db: &str, sql: &str| {
        let db = rusqlite::Connection::open(folders[at].path().join("data").join(db)).unwrap();
        db.execute_batch(sql).unwrap();
    };
    change(0, "runs.db", "DELETE FROM incident WHERE id > 1");
    change(0, "masterchief.db", "DELETE FROM anchor");
    assert_eq!(verify(folders[0].path()).0, Some(0), "here alone nobody can tell");
    let one = start(0).await;
    two.sees("One").await;
    let noticed = async |chief: &Chief| {
        let begun = std::time::Instant::now();
        loop {
            let now = chrono::Utc::now();
            if let Some(why) = chief.bot.store().kv_get("@log", "one", now).await.unwrap() {
                return why.as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{} notices nothing", chief.mesh.name());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(noticed(&one).await.contains("L-3 is not here as Two was told it"));
    // It goes on writing, in the place of what was there: that is no line of the same log.
    for text in ["nothing happened", "nothing at all", "all is well"] {
        logs(&one, text).await;
    }
    noticed(&two).await;
    knows(&two, &all).await;
    for chief in [one, two] {
        chief.bot.stop("").await;
    }
    for (folder, wanted) in folders.iter().zip(["one: L-3 is not here as Two was told it", "one: "]) {
        let (code, said) = verify(folder.path());
        assert!(code == Some(1) && said.contains(wanted), "{said}");
    }
    // What is kept here is proven too.
    let (code, said) = masterchief(folders[1].path(), &["audit", "forget", "One"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(verify(folders[1].path()).0, Some(0));
    let (one, two) = (start(0).await, start(1).await);
    knows(&two, &[("one", "first"), ("one", "nothing happened"), ("one", "nothing at all"), ("one", "all is well")])
        .await;
    for chief in [one, two] {
        chief.bot.stop("").await;
    }
    change(1, "masterchief.db", "UPDATE told SET text = 'nothing' WHERE id = 2");
    let (code, said) = verify(folders[1].path());
    assert!(code == Some(1) && said.contains("one: L-2 is not as it was written"), "{said}");
}

#[tokio::test]
async fn what_a_partner_says_of_our_log_without_our_signature_is_its_word_alone() {
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let one = named("One", Some(port), &[("Two", sharing(caller()))]);
    let two = named("Two", None, &[("One", sharing(called(port, Attribute::Hub)))]);
    let (one, two) = (chief(folders[0].path(), one).await, chief(folders[1].path(), two).await);
    logs(&one, "checkout answers 500").await;
    knows(&two, &[("one", "checkout answers 500")]).await;
    let heads = r#""op": "heads", "heads": {"one": [99999999, "x"], "two": [0, ""]}"#;
    let forged = r#"{"o": "one", "i": 99999999, "t": 1, "h": "ana", "a": "shop", "x": "never", "s": "c2lnbmVk"}"#;
    for said in [format!("{{{heads}}}"), format!("{{{heads}, \"yours\": {forged}}}")] {
        let answer = two.mesh.own(&"One".parse().unwrap(), LOG, &said, Duration::from_secs(10)).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
    let now = chrono::Utc::now();
    assert_eq!(one.bot.store().kv_get("@log", "one", now).await.unwrap(), None);
    for chief in [one, two] {
        chief.bot.stop("").await;
    }
    let (code, said) = verify(folders[0].path());
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn bots_that_share_nothing_tell_each_other_nothing_of_their_logs() {
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let trusted = |bot: BotSettings| BotSettings { share: None, ..sharing(bot) };
    let one = named("One", Some(port), &[("Two", sharing(caller()))]);
    let two = named("Two", None, &[("One", trusted(called(port, Attribute::Hub)))]);
    let (one, two) = (chief(folders[0].path(), one).await, chief(folders[1].path(), two).await);
    logs(&one, "checkout answers 500").await;
    two.sees("One").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(two.bot.store().told_heads().await.unwrap().is_empty());
    for chief in [one, two] {
        chief.bot.stop("").await;
    }
}
