//! MasterChiefs among themselves: calls with answers, also through an Eggdrop, and a net that heals.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind, Secret, user_error};
use masterchief::mesh::{Attribute, BOT, BotSettings, CallFault, Encryption, Local, News, Settings, Word};

use masterchief::users::User;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::servers::free_port;

/// One that may call, with the password that all share here.
pub(crate) fn caller() -> BotSettings {
    BotSettings { password: Some(Secret::new("geheim")), ..BotSettings::default() }
}

/// One that is called at its TLS port.
pub(crate) fn called(port: u16, attribute: Attribute) -> BotSettings {
    BotSettings {
        addresses: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        attributes: BTreeSet::from([attribute]),
        tls: Encryption::Port,
        ..caller()
    }
}

pub(crate) fn named(name: &str, listen: Option<u16>, bots: &[(&str, BotSettings)]) -> Settings {
    let mut known = settings(name);
    known.listen_tls = listen.map(|port| ([127, 0, 0, 1], port).into());
    known.bots = bots.iter().map(|(name, bot)| ((*name).to_owned(), bot.clone())).collect();
    known
}

/// A bot that answers calls.
async fn answering(folder: &Path, known: Settings) -> Chief {
    let builder = Bot::builder()
        .bind(BOT, "-|-", "echo", |ev: Event| async move { format!("{} said {}", ev.field_str("from"), ev.text()) })
        .unwrap()
        .bind(BOT, "-|-", "no", |_: Event| async { Err::<(), _>(user_error("not today")) })
        .unwrap()
        .bind(BOT, "-|-", "inside", |_: Event| async {
            Err::<(), _>(masterchief::contract::HandlerError::internal("the password is geheim"))
        })
        .unwrap()
        .bind(BOT, "-|-", "never", |_: Event| std::future::pending::<()>())
        .unwrap();
    Chief::of(builder, folder, known).await
}

async fn asks(chief: &Chief, bot: &str, cmd: &str, data: &str) -> Result<String, CallFault> {
    chief.mesh.call(bot, cmd, data, Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_call_is_answered_or_fails_with_words_and_never_hangs() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let one = answering(folders[0].path(), named("One", Some(port), &[("Two", caller())])).await;
    let two = Chief::start(folders[1].path(), named("Two", None, &[("One", called(port, Attribute::Hub))])).await;
    two.sees("One").await;
    one.sees("Two").await;
    assert!(two.mesh.view().links[0].peer.encrypted);
    assert_eq!(asks(&two, "one", "echo", "a  b\nc ä ").await.unwrap(), "Two said a  b\nc ä ");
    assert_eq!(asks(&two, "One", "no", "").await, Err(CallFault::Refused("not today".to_owned())));
    let inside = asks(&two, "One", "inside", "").await.unwrap_err().to_string();
    assert!(!inside.contains("geheim"), "{inside}");
    assert!(asks(&two, "One", "nothing", "").await.unwrap_err().to_string().contains("no bot bind nothing at One"));
    assert!(matches!(asks(&two, "Nobody", "echo", "").await, Err(CallFault::NoSuchBot(_))));
    assert!(matches!(asks(&two, "One", "echo", &"x".repeat(1 << 20)).await, Err(CallFault::TooLong)));
    let late = two.mesh.call("One", "never", "", Duration::from_millis(300)).await;
    assert!(matches!(late, Err(CallFault::Late(_))));
    let lost = asks(&two, "One", "never", "");
    let (lost, _) = tokio::join!(lost, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        one.mesh.unlink(&"Two".parse().unwrap(), "enough").await.unwrap()
    });
    assert!(matches!(lost, Err(CallFault::Lost(_))));
    two.bot.stop("").await;
    one.bot.stop("").await;
}

#[tokio::test]
async fn calls_pass_through_an_eggdrop_and_are_not_sent_to_one() {
    let egg = Egg::start("EggHub", &[Friend("One", 1), Friend("Two", 1)]).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let known = |name: &str| {
        let mut known = settings(name);
        known.bots.insert("EggHub".to_owned(), clear_hub(&egg));
        known
    };
    let one = answering(folders[0].path(), known("One")).await;
    let two = Chief::start(folders[1].path(), known("Two")).await;
    two.sees("One").await;
    let long = "lange Rede ".repeat(500);
    assert_eq!(asks(&two, "One", "echo", &long).await.unwrap(), format!("Two said {long}"));
    assert!(matches!(asks(&two, "EggHub", "echo", "").await, Err(CallFault::NotOurs(_))));
    one.bot.stop("").await;
    two.bot.stop("").await;
}

/// Ready when a bot sees exactly these others, with the people whom it should see.
async fn sees_all(chief: &Chief, others: &[&str], people: usize) {
    let end = tokio::time::Instant::now() + Duration::from_secs(40);
    loop {
        let view = chief.mesh.view();
        let names: BTreeSet<&str> = view.bots.iter().map(|bot| bot.name.as_str()).collect();
        if names == others.iter().copied().collect() && view.members.len() == people {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{} sees {names:?} and {} people, not {others:?} and {people}",
            chief.mesh.name(),
            view.members.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn five_of_us_go_on_when_the_hub_is_gone_and_come_back_to_it() {
    let folders: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let (hub_port, alt_port) = (free_port(), free_port());
    let leaves = ["Ann", "Bob", "Cem"];
    let hub = || called(hub_port, Attribute::Hub);
    let all = |own: &[(&'static str, BotSettings)]| {
        let mut bots: Vec<(&str, BotSettings)> = leaves.iter().map(|leaf| (*leaf, caller())).collect();
        bots.extend(own.iter().cloned());
        bots
    };
    let of_hub = named("Hub", Some(hub_port), &all(&[("Alt", caller())]));
    let of_alt = named("Alt", Some(alt_port), &all(&[("Hub", hub())]));
    let first = Chief::start(folders[0].path(), of_hub.clone()).await;
    let alt = Chief::start(folders[1].path(), of_alt).await;
    let mut bots = Vec::new();
    for (leaf, folder) in leaves.iter().zip(&folders[2..]) {
        let known = named(leaf, None, &[("Hub", hub()), ("Alt", called(alt_port, Attribute::Alternate))]);
        bots.push(Chief::start(folder.path(), known).await);
    }
    for (number, chief) in bots.iter().enumerate() {
        chief.joins(number as u32 + 1, leaves[number]).await;
    }
    sees_all(&bots[0], &["Hub", "Alt", "Bob", "Cem"], 2).await;
    sees_all(&alt, &["Hub", "Ann", "Bob", "Cem"], 3).await;
    // The hub is gone: they meet at the other.
    first.bot.stop("").await;
    for (number, chief) in bots.iter().enumerate() {
        let mut others = vec!["Alt"];
        others.extend(leaves.iter().filter(|leaf| **leaf != leaves[number]));
        sees_all(chief, &others, 2).await;
    }
    // A flood of words is no reason for anything to break.
    for number in 0..5000 {
        bots[0].says(1, &format!("word {number}")).await;
    }
    let last = bots[1].hears("the last word, or a later one than the first thousand", |news| match news {
        News::Said { text, .. } if text.starts_with("word 4") => Some(()),
        _ => None,
    });
    last.await;
    // The hub comes back, and all with it.
    let again = Chief::start(folders[0].path(), of_hub).await;
    sees_all(&again, &["Alt", "Ann", "Bob", "Cem"], 3).await;
    for (number, chief) in bots.iter().enumerate() {
        let mut others = vec!["Hub", "Alt"];
        others.extend(leaves.iter().filter(|leaf| **leaf != leaves[number]));
        sees_all(chief, &others, 2).await;
    }
    bots[2].mesh.tell(Local::Nick { sock: 3, nick: Word::new("Ceminho").unwrap() }).await.unwrap();
    let renamed = bots[0].hears("the new name", |news| match news {
        News::Renamed { member, .. } => Some(member.nick.to_string()),
        _ => None,
    });
    assert_eq!(renamed.await, "Ceminho");
    for chief in bots.into_iter().chain([alt, again]) {
        chief.bot.stop("").await;
    }
}

#[tokio::test]
async fn a_person_has_words_done_by_another_bot_which_asks_its_own_book() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port();
    let begin = async |trusted: bool| {
        let mut other = caller();
        if trusted {
            other.attributes.insert(Attribute::Trust);
        }
        let builder =
            Bot::builder()
                .bind(Kind::Pub, "m|-", "!deploy", |ev: Event| async move {
                    format!("{} deploys {}", ev.handle(), ev.text())
                })
                .unwrap()
                .bind(Kind::Pub, "-|-", "!later", |ev: Event| async move {
                    ev.say("one").await.unwrap();
                    ev.reply("two").await.unwrap();
                })
                .unwrap();
        Chief::of(builder, folders[0].path(), named("One", Some(port), &[("Two", other)])).await
    };
    let one = begin(true).await;
    for (handle, flags) in [("alice", "+m"), ("bob", "+o")] {
        let mut user = User::new(handle).unwrap();
        user.change_flags(flags).unwrap();
        one.bot.put_user(user).await.unwrap();
    }
    let two = Chief::start(folders[1].path(), named("Two", None, &[("One", called(port, Attribute::Hub))])).await;
    two.sees("One").await;
    let run = async |handle: &str, words: &str| {
        let done = two.mesh.run("One", handle, words, Duration::from_secs(10)).await;
        done.map_err(|fault| fault.to_string())
    };
    assert_eq!(run("alice", "!deploy shop v7").await, Ok("alice deploys shop v7".to_owned()));
    assert_eq!(run("alice", "!later").await, Ok("one\nalice: two".to_owned()));
    assert_eq!(run("bob", "!deploy shop").await, Err("bob may not here: it needs m|-".to_owned()));
    assert_eq!(run("mallory", "!later").await, Err("mallory is not known here".to_owned()));
    // Nobody is the console, whatever they call themselves.
    assert_eq!(run("console", "!deploy shop").await, Err("console is not known here".to_owned()));
    assert!(run("alice", "!nothing").await.unwrap_err().contains("nothing here listens"));
    // A script cannot say it in our place.
    let forged = two.mesh.call("One", "mc:run", "alice !deploy shop", Duration::from_secs(5)).await;
    assert!(forged.unwrap_err().to_string().contains("mesh.run"));
    // The audit trail is written behind our back.
    let mut deeds = Vec::new();
    for _ in 0..100 {
        let audit = one.bot.audit_recent(10).await.unwrap();
        deeds = audit.into_iter().map(|row| format!("{} {}", row.action, row.actor)).collect();
        if deeds.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    deeds.sort();
    assert_eq!(deeds, ["denied bob!bob@Two", "ran alice!alice@Two"]);
    one.bot.stop("").await;
    // Without trust its word counts for nothing.
    let one = begin(false).await;
    two.sees("One").await;
    for _ in 0..100 {
        if two.mesh.view().links.iter().any(|link| link.peer.bot.as_str() == "One") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = two.mesh.run("One", "alice", "!deploy shop", Duration::from_secs(10)).await;
    assert!(refused.unwrap_err().to_string().contains("does not count here"));
    two.bot.stop("").await;
    one.bot.stop("").await;
}
