//! What goes wrong between us and real Eggdrops, and what does not because of it.

use std::collections::BTreeSet;
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::mesh::{Attribute, BotSettings, News, Settings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::mesh_wire::{Forger, Way};

fn knows(bot: &str, how: BotSettings) -> Settings {
    let mut known = settings("Chief");
    known.bots.insert(bot.to_owned(), how);
    known
}

#[tokio::test]
async fn a_wrong_password_and_being_rejected_or_isolated_are_borne() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut owner = egg.owner().await;
    // Wrong.
    owner.says(".tcl setuser Chief PASS geheim").await;
    let wire = Forger::to(egg.port).await;
    let at_the_wire = || {
        let addresses = vec![format!("127.0.0.1:{}", wire.port).parse().unwrap()];
        BotSettings { addresses, ..clear_hub(&egg) }
    };
    let mut wrong = at_the_wire();
    wrong.password = Some(Secret::new("falsch"));
    let chief = Chief::start(folder.path(), knows("EggOne", wrong)).await;
    wire.sees(Way::Back, "badpass").await;
    assert!(chief.mesh.view().links.is_empty());
    // Right, without a restart.
    let mut right = at_the_wire();
    right.password = Some(Secret::new("geheim"));
    chief.mesh.configure(knows("EggOne", right)).await;
    chief.sees("EggOne").await;
    egg.logs("LABLINK Chief").await;
    // Isolated by them: scripts pass, words do not.
    owner.says(".unlink Chief\n.botattr Chief +i").await;
    owner.expect("Bot flags for Chief").await;
    owner.expect("Linked to Chief").await;
    chief.joins(7, "alice").await;
    chief.says(7, "hello").await;
    chief.mesh.broadcast("labcmd", "still here").await.unwrap();
    egg.logs("LABBOT Chief labcmd still here").await;
    assert!(!owner.hears(".whom *").await.contains("alice"));
    // Rejected by them.
    owner.says(".unlink Chief\n.botattr Chief -i+r").await;
    owner.expect("Bot flags for Chief").await;
    wire.sees(Way::Back, "bye rejected").await;
    // And taken again: nobody had to do anything here.
    owner.says(".botattr Chief -r").await;
    chief.sees("EggOne").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn our_own_attributes_hold_for_real_eggdrops() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1), Friend("EggTwo", 1)]).await;
    let two = Egg::start("EggTwo", &[Friend("EggOne", egg.port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = knows("EggOne", clear_hub(&egg));
    let reject = BotSettings { attributes: BTreeSet::from([Attribute::Reject]), ..BotSettings::default() };
    known.bots.insert("EggTwo".to_owned(), reject);
    let mut chief = Chief::start(folder.path(), known).await;
    chief.sees("EggOne").await;
    // One whom we reject comes behind another: its uplink sends it away because we ask for it.
    let mut at_two = two.owner().await;
    at_two.says(".link EggOne").await;
    chief
        .hears("EggTwo", |news| matches!(news, News::Linked { bot, .. } if bot.as_str() == "EggTwo").then_some(()))
        .await;
    chief
        .hears("its end", |news| matches!(news, News::Lost { bot, .. } if bot.as_str() == "EggTwo").then_some(()))
        .await;
    // As a leaf it may bring nobody: then it is not linked with us any more.
    let mut leaf = clear_hub(&egg);
    leaf.attributes = BTreeSet::from([Attribute::Leaf]);
    chief.mesh.configure(knows("EggOne", leaf)).await;
    // As often as it takes: it may not have seen yet that its link has ended.
    let links = async {
        loop {
            at_two.says(".link EggOne").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ends = chief.hears("the leaf's end", |news| {
        matches!(news, News::Lost { bot, .. } if bot.as_str() == "EggOne").then_some(())
    });
    tokio::select! {
        () = links => {}
        () = ends => {}
    }
    chief.bot.stop("").await;
}

#[tokio::test]
async fn whoever_calls_us_and_is_not_known_learns_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut known = knows("EggOne", BotSettings { password: Some(Secret::new("geheim")), ..BotSettings::default() });
    known.listen = Some(([127, 0, 0, 1], 0).into());
    let chief = Chief::start(folder.path(), known).await;
    let port = chief.mesh.ports()[0].unwrap().port();
    let said = async |lines: &'static str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        let mut heard = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut heard)).await.unwrap().unwrap();
        heard
    };
    assert!(said("Stranger\n").await.contains("You don't have access."));
    assert!(said("chief\n").await.contains("You cannot link using my botnetnick."));
    assert!(said("GET / HTTP/1.1\r\n\r\n").await.contains("You don't have access."));
    // The password itself, in clear, is as good as nothing, and so is a digest where TLS is asked for.
    assert!(said("EggOne\ngeheim\n").await.contains("has to be encrypted"));
    assert!(said("EggOne\ndigest 00\n").await.contains("starttls"));
    // Bytes in clear behind the word that begins TLS were put there by somebody between.
    assert!(!said("EggOne\nstarttls -\ndigest 00\n").await.contains("hello"));
    let long = "x".repeat(5000);
    let heard = said(Box::leak(long.into_boxed_str())).await;
    assert!(!heard.contains("passreq"));
    assert!(chief.mesh.view().links.is_empty());
    chief.bot.stop("").await;
}

/// One that listens where an Eggdrop should and says this; gives what it hears.
async fn rogue(lines: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hears = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // It ends when we let go.
        let _ = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut heard)).await;
        String::from_utf8_lossy(&heard).into_owned()
    });
    (port, hears)
}

#[tokio::test]
async fn a_rogue_who_answers_in_place_of_a_bot_gets_no_password() {
    let cases = [
        ("Hub\npassreq\n", "Chief\n"),
        ("Hub\npassreq Hub\n", "Chief\n"),
        ("*hello!\nversion 1080404 32 x\ntb Hub\nel\n", "Chief\n"),
        ("starttls\nHub\nhandshake mallory\n", "Chief\n"),
    ];
    for (says, hears) in cases {
        let (port, heard) = rogue(says).await;
        let folder = tempfile::tempdir().unwrap();
        let mut hub = BotSettings {
            addresses: vec![format!("127.0.0.1:{port}").parse().unwrap()],
            attributes: BTreeSet::from([Attribute::Hub]),
            tls: masterchief::mesh::Encryption::None,
            insecure: true,
            password: Some(Secret::new("geheim")),
            ..BotSettings::default()
        };
        hub.first_link = true;
        let mut known = knows("Hub", hub);
        known.retry = Duration::from_secs(60);
        let chief = Chief::start(folder.path(), known).await;
        assert_eq!(heard.await.unwrap(), hears, "{says}");
        assert!(chief.mesh.view().links.is_empty());
        chief.bot.stop("").await;
    }
}

/// Ready when a line that begins so comes.
async fn line(stream: &mut BufReader<TcpStream>, begin: &str) -> String {
    let next = async {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "it closed before `{begin}`");
            if line.starts_with(begin) {
                return line.trim_end().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap_or_else(|_| panic!("`{begin}` does not come"))
}

#[tokio::test]
async fn a_hub_that_comes_another_way_while_it_is_called_is_called_again_once_it_has_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hub = BotSettings {
        addresses: vec![listener.local_addr().unwrap().to_string().parse().unwrap()],
        attributes: BTreeSet::from([Attribute::Hub]),
        tls: masterchief::mesh::Encryption::None,
        insecure: true,
        ..BotSettings::default()
    };
    let mut known = knows("Hub", hub);
    known.listen = Some(([127, 0, 0, 1], 0).into());
    known.bots.insert("Other".to_owned(), BotSettings { insecure: true, first_link: true, ..BotSettings::default() });
    let mut chief = Chief::start(folder.path(), known).await;
    // The hub welcomes us, gives us a password, and then takes its time.
    let mut slow = BufReader::new(listener.accept().await.unwrap().0);
    slow.write_all(b"Hub\r\npassreq <1@Hub>\n").await.unwrap();
    line(&mut slow, "-").await;
    slow.write_all(b"*hello!\nhandshake neuesgeheimnis\n").await.unwrap();
    // Meanwhile another bot brings it.
    let port = chief.mesh.ports()[0].unwrap().port();
    let mut other = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    other.write_all(b"Other\n").await.unwrap();
    line(&mut other, "passreq").await;
    other.write_all(b"-\n").await.unwrap();
    line(&mut other, "*hello!").await;
    other.write_all(b"version 1080404 32 eggdrop\ntb Other\nn Hub Other !EHxU\nel\n").await.unwrap();
    chief.sees("Hub").await;
    slow.write_all(b"version 1080404 32 eggdrop\n").await.unwrap();
    assert_eq!(line(&mut slow, "e ").await, "e it is in the net already, and teaches us nothing");
    line(&mut slow, "bye").await;
    drop((slow, other));
    let lost = |news: &News| matches!(news, News::Lost { bot, .. } if bot.as_str() == "Hub").then_some(());
    chief.hears("its end", lost).await;
    let again = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await;
    assert!(again.is_ok(), "it is never called again");
    chief.bot.stop("").await;
}

/// A bot that we call in clear, to be played.
async fn plays(attribute: Attribute) -> (TcpListener, BotSettings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = BotSettings {
        addresses: vec![listener.local_addr().unwrap().to_string().parse().unwrap()],
        attributes: BTreeSet::from([attribute]),
        tls: masterchief::mesh::Encryption::None,
        insecure: true,
        ..BotSettings::default()
    };
    (listener, settings)
}

/// It takes our call, up to our version.
async fn takes(listener: &TcpListener, name: &str, handles: u32) -> BufReader<TcpStream> {
    let mut bot = BufReader::new(listener.accept().await.unwrap().0);
    bot.write_all(format!("{name}\r\npassreq <1@{name}>\n").as_bytes()).await.unwrap();
    line(&mut bot, "-").await;
    bot.write_all(format!("*hello!\nversion 1080404 {handles} eggdrop\n").as_bytes()).await.unwrap();
    line(&mut bot, &format!("version 1080499 {handles} ")).await;
    bot
}

#[tokio::test]
async fn a_hub_that_we_call_and_whose_handles_are_too_short_is_not_linked_and_what_stands_in_for_it_stays() {
    let (hub_at, hub) = plays(Attribute::Hub).await;
    let (alt_at, alternate) = plays(Attribute::Alternate).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = knows("Hub", hub);
    known.bots.insert("Alt".to_owned(), alternate);
    // Whom it calls again by itself comes too late for this story.
    known.retry = Duration::from_secs(600);
    let mut chief = Chief::start(folder.path(), known).await;
    drop(hub_at.accept().await.unwrap());
    let mut alt = takes(&alt_at, "Alt", 32).await;
    alt.write_all(b"tb Alt\nn LongerNamed Alt -EHxU\nel\n").await.unwrap();
    chief.sees("LongerNamed").await;
    let who = masterchief::mesh::Word::new("alice").unwrap();
    chief.mesh.link(&"Hub".parse().unwrap(), Some((who, 7))).await.unwrap();
    let mut hub = takes(&hub_at, "Hub", 9).await;
    assert_eq!(line(&mut hub, "e ").await, "e Non-matching handle length: LongerNamed is longer than 9");
    line(&mut hub, "bye").await;
    let told = chief.hears("what became of it", |news| match news {
        News::Answer { text, .. } if text.contains("ink") => Some(text.clone()),
        _ => None,
    });
    assert_eq!(told.await, "Failed to link Hub: Non-matching handle length: LongerNamed is longer than 9");
    // The last thing that it would hear stands before this.
    alt.write_all(b"pi\n").await.unwrap();
    let mut heard = String::new();
    while !heard.contains("\npo") {
        assert!(alt.read_line(&mut heard).await.unwrap() > 0, "it was let go: {heard}");
    }
    assert!(!heard.contains("bye"), "{heard}");
    assert_eq!(chief.mesh.view().links.len(), 1);
    chief.bot.stop("").await;
}
