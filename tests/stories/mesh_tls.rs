//! Links with real Eggdrops that are encrypted: from the first byte, before the password, after the link is up.

use std::collections::BTreeSet;

use masterchief::irc::Fingerprint;
use masterchief::mesh::{Attribute, BotSettings, Encryption, News, Record, Settings, Word};

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, settings};
use super::servers::free_port;

/// How one Eggdrop is called.
fn calls(port: u16, tls: Encryption) -> BotSettings {
    BotSettings {
        addresses: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        attributes: BTreeSet::from([Attribute::Hub]),
        tls,
        insecure: tls == Encryption::After,
        ..BotSettings::default()
    }
}

fn knows(bot: &str, how: BotSettings) -> Settings {
    let mut known = settings("Chief");
    known.bots.insert(bot.to_owned(), how);
    known
}

/// Ready when the link with a bot is encrypted and its certificate remembered; gives its record.
async fn encrypted(chief: &Chief, bot: &str) -> Record {
    chief.sees(bot).await;
    for _ in 0..200 {
        let view = chief.mesh.view();
        let link = view.links.iter().find(|link| link.peer.bot.as_str() == bot);
        let record = view.records.iter().find(|record| record.name.as_str() == bot).unwrap();
        if link.is_some_and(|link| link.peer.encrypted) && record.pin.is_some() {
            return record.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the link with {bot} is not encrypted");
}

#[tokio::test]
async fn we_call_with_tls_in_all_three_ways_and_know_the_certificate_again() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let ways = [(egg.tls, Encryption::Port), (egg.port, Encryption::Starttls), (egg.port, Encryption::After)];
    let mut pins = BTreeSet::new();
    for (port, tls) in ways {
        let chief = Chief::start(folder.path(), knows("EggOne", calls(port, tls))).await;
        let mut record = encrypted(&chief, "EggOne").await;
        // The first link makes one, soon after it is up.
        while record.password.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            record = encrypted(&chief, "EggOne").await;
        }
        pins.insert(record.pin.unwrap().to_string());
        chief.joins(7, "alice").await;
        let mut owner = egg.owner().await;
        chief.says(7, "in secret").await;
        owner.expect("<alice@Chief> in secret").await;
        chief.bot.stop("").await;
        egg.logs("LABDISC Chief").await;
    }
    assert_eq!(pins.len(), 1, "one certificate, remembered once");
    // Another certificate than the one that is known: nothing is proven to it.
    let mut wrong = calls(egg.tls, Encryption::Port);
    wrong.fingerprints = vec![Fingerprint([7; 32])];
    let links = egg.log().matches("LABLINK").count();
    let mut chief = Chief::start(folder.path(), knows("EggOne", wrong)).await;
    let asked = Some((Word::new("alice").unwrap(), 7));
    chief.mesh.link(&"EggOne".parse().unwrap(), asked).await.unwrap();
    let why = chief.hears("why it is not linked", |news| match news {
        News::Answer { text, .. } => Some(text.clone()),
        _ => None,
    });
    let why = why.await;
    assert!(why.starts_with("Failed to link EggOne") && why.contains("certificate"), "{why}");
    assert!(chief.mesh.view().links.is_empty());
    assert_eq!(egg.log().matches("LABLINK").count(), links);
    chief.bot.stop("").await;
}

#[tokio::test]
async fn eggdrops_call_us_with_tls_at_both_ports() {
    let (clear, tls) = (free_port(), free_port());
    let (one_friends, two_friends) = ([Friend("Chief", 1)], [Friend("Chief", clear)]);
    let (one, two) = tokio::join!(Egg::start("EggOne", &one_friends), Egg::start("EggTwo", &two_friends));
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], clear).into());
    known.listen_tls = Some(([127, 0, 0, 1], tls).into());
    for bot in ["EggOne", "EggTwo"] {
        known.bots.insert(bot.to_owned(), BotSettings { first_link: true, ..BotSettings::default() });
    }
    let chief = Chief::start(folder.path(), known).await;
    for (egg, name) in [(&one, "EggOne"), (&two, "EggTwo")] {
        let mut owner = egg.owner().await;
        if name == "EggOne" {
            owner.says(&format!(".chaddr Chief 127.0.0.1 +{tls}")).await;
        }
        for round in 0..2 {
            owner.says(".link Chief").await;
            let record = encrypted(&chief, name).await;
            assert!(record.password.is_some(), "round {round}");
            egg.logs("LABLINK Chief").await;
            owner.says(".unlink Chief").await;
            owner.expect("Chief").await;
            for _ in 0..100 {
                if chief.mesh.view().links.is_empty() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    chief.bot.stop("").await;
}
