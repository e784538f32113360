//! The mesh with real Eggdrops: they call us, and we stand between them.

use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind, Secret};
use masterchief::mesh::{BOT, BotSettings, Local, NOTE, News, Question, Word};
use masterchief::users::User;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::eggdrop::{Egg, Friend, Party};
use super::mesh::{Chief, settings};
use super::mesh_wire::{Forger, Way};
use super::servers::free_port;

/// An Eggdrop that may call us in clear, for the first time without a password.
fn clear_caller() -> BotSettings {
    BotSettings { insecure: true, first_link: true, ..BotSettings::default() }
}

/// We between two Eggdrops, with their owners on their partylines.
struct Between {
    chief: Chief,
    one: (Egg, Party),
    two: (Egg, Party),
    _folder: tempfile::TempDir,
}

async fn between() -> Between {
    let port = free_port();
    let friends = [Friend("Chief", port), Friend("EggOne", 1), Friend("EggTwo", 1)];
    let (one, two) = tokio::join!(Egg::start("EggOne", &friends), Egg::start("EggTwo", &friends));
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], port).into());
    known.bots.insert("EggOne".to_owned(), clear_caller());
    known.bots.insert("EggTwo".to_owned(), clear_caller());
    let builder = Bot::builder()
        .bind(BOT, "-|-", "ping", |ev: Event| async move { format!("{}: {}", ev.field_str("from"), ev.text()) })
        .unwrap()
        .bind(NOTE, "-|-", "*", |_: Event| async {})
        .unwrap();
    let chief = Chief::of(builder, folder.path(), known).await;
    let (mut at_one, mut at_two) = (one.owner().await, two.owner().await);
    for (egg, party) in [(&one, &mut at_one), (&two, &mut at_two)] {
        // We use no TLS here, so that what passes can be seen; it is offered all the same.
        party.says(".link Chief").await;
        party.expect("Linked to Chief").await;
        egg.logs("LABLINK Chief").await;
    }
    one.logs("LABLINK EggTwo Chief").await;
    chief.sees("EggTwo").await;
    Between { chief, one: (one, at_one), two: (two, at_two), _folder: folder }
}

#[tokio::test]
async fn people_of_two_eggdrops_meet_through_us() {
    let Between { chief, one: (one, mut at_one), two: (_two, mut at_two), .. } = between().await;
    at_one.says("hello, two").await;
    at_two.expect("<owner@EggOne> hello, two").await;
    at_two.says(".me waves").await;
    at_one.expect("owner@EggTwo waves").await;
    at_two.says(".away lunch").await;
    at_one.expect("owner is now away: lunch").await;
    at_two.says(".back").await;
    at_one.expect("is no longer away").await;
    at_two.says(".handle boss").await;
    at_one.expect("boss").await;
    at_two.says(".handle owner").await;
    at_one.expect("owner").await;
    at_one.says(".whom *").await;
    at_one.expect("EggTwo").await;
    at_one.says(".who EggTwo").await;
    at_one.expect("-> Chief").await;
    at_one.says(".trace EggTwo").await;
    at_one.expect("EggOne:Chief:EggTwo").await;
    at_one.says(".motd EggTwo").await;
    at_one.expect("motd of EggTwo").await;
    at_one.says(".motd Chief").await;
    at_one.expect("the house is open").await;
    at_one.says(".botinfo").await;
    at_one.expect("MasterChief v").await;
    at_one.says(".bottree").await;
    at_one.expect("EggTwo").await;
    // A note from the one to the other, and back what became of it.
    at_one.says(".note owner@EggTwo see you").await;
    at_two.expect("see you").await;
    at_one.expect("Note sent to owner").await;
    // Where one leaves, all hear of it.
    at_two.says(".quit bye").await;
    at_one.expect("owner").await;
    one.logs("LABLINK Chief").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn scripts_of_all_bots_reach_each_other() {
    let Between { chief, one: (one, mut at_one), two: (two, _at_two), .. } = between().await;
    at_one.says(".tcl putbot EggTwo \"labcmd one two\"").await;
    two.logs("LABBOT EggOne labcmd one two").await;
    at_one.says(".tcl putallbots \"labcmd to all\"").await;
    two.logs("LABBOT EggOne labcmd to all").await;
    chief.mesh.send("eggtwo", "labcmd", "of ours").await.unwrap();
    two.logs("LABBOT Chief labcmd of ours").await;
    chief.mesh.broadcast("labcmd", "to both").await.unwrap();
    one.logs("LABBOT Chief labcmd to both").await;
    two.logs("LABBOT Chief labcmd to both").await;
    let mut chief = chief;
    at_one.says(".tcl putbot Chief \"ping are you there\"").await;
    let script = chief.hears("the script", |news| match news {
        News::Script { from, code, args } if code.as_str() == "ping" => Some(format!("{from} {args}")),
        _ => None,
    });
    assert_eq!(script.await, "EggOne are you there");
    assert!(chief.mesh.send("Nobody", "labcmd", "").await.unwrap_err().to_string().contains("Nobody is not linked"));
    chief.bot.stop("").await;
}

#[tokio::test]
async fn our_people_ask_and_are_asked() {
    let Between { mut chief, one: (_one, mut at_one), two: (_two, mut at_two), .. } = between().await;
    chief.bot.put_user(User::new("alice").unwrap()).await.unwrap();
    chief.joins(7, "alice").await;
    at_two.expect("alice").await;
    let bot = |name: &str| name.parse().unwrap();
    let user = Word::new("owner").unwrap();
    let questions = [
        (Question::Who(bot("EggTwo")), "*owner"),
        (Question::Trace(bot("EggTwo")), "Chief:EggTwo"),
        (Question::Info, "eggdrop v1.8"),
        (Question::Note { user, bot: bot("EggOne"), text: "a note of ours".to_owned() }, "Note sent to owner"),
    ];
    for (question, wanted) in questions {
        chief.mesh.question("alice", 7, question).await.unwrap();
        let answer = chief.hears(wanted, |news| match news {
            News::Answer { user, text, .. } if text.contains(wanted) => Some(user.to_string()),
            _ => None,
        });
        assert_eq!(answer.await, "alice");
    }
    at_one.expect("a note of ours").await;
    // To somebody whom we know, and to nobody.
    at_one.says(".note alice@Chief hello alice").await;
    at_one.expect("alice is not on the party line; note stored.").await;
    at_one.says(".note mallory@Chief hello").await;
    at_one.expect("No such user mallory.").await;
    chief.mesh.tell(Local::Away { sock: 7, text: Some("night".to_owned()) }).await.unwrap();
    at_one.expect("night").await;
    chief.mesh.tell(Local::Part { sock: 7, reason: "home".to_owned() }).await.unwrap();
    at_one.expect("home").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn strangers_who_command_do_no_harm_and_an_end_is_told_to_those_who_remain() {
    let Between { chief, one: (one, mut at_one), two: (two, _at_two), .. } = between().await;
    // They have no right here, whatever they are at home.
    at_one.says(".unlink EggTwo").await;
    at_one.expect("You may not end links here.").await;
    at_one.says(".boot nobody@Chief x").await;
    at_one.expect("You may not send").await;
    // An end of a link is told to those who remain.
    chief.mesh.unlink(&"EggOne".parse().unwrap(), "enough").await.unwrap();
    two.logs("LABDISC EggOne").await;
    one.logs("LABDISC EggTwo").await;
    assert!(two.log().lines().filter(|line| line.starts_with("LABDISC")).count() == 1, "{}", two.log());
    chief.bot.stop("").await;
}

#[tokio::test]
async fn a_circle_that_really_closes_is_opened_again_and_all_meet_on_one_way() {
    let port = free_port();
    let two = Egg::start("EggTwo", &[Friend("Chief", port), Friend("EggOne", 1)]).await;
    let (to_us, between) = (Forger::to(port).await, Forger::to(two.port).await);
    let one = Egg::start("EggOne", &[Friend("Chief", to_us.port), Friend("EggTwo", between.port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], port).into());
    for egg in ["EggOne", "EggTwo"] {
        known.bots.insert(egg.to_owned(), clear_caller());
    }
    let chief = Chief::start(folder.path(), known).await;
    // Neither of the two ends hears of the other, so that both agree to a link which they would refuse.
    let of_us = |line: &str| line.starts_with("n Chief ") || line.starts_with("un Chief ");
    between.forges(move |_, line| (!of_us(line)).then(|| line.to_owned()));
    to_us.forges(|way, line| (way == Way::Back || !line.starts_with("n EggTwo ")).then(|| line.to_owned()));
    let (mut at_one, mut at_two) = (one.owner().await, two.owner().await);
    at_one.says(".link EggTwo").await;
    at_one.expect("Linked to EggTwo").await;
    at_one.says(".link Chief").await;
    at_one.expect("Linked to Chief").await;
    chief.sees("EggOne").await;
    assert_eq!(chief.mesh.view().bots.len(), 1, "the other end is not known");
    at_two.says(".link Chief").await;
    // Who hears of a bot by a second way ends that.
    to_us.sees(Way::Out, "Loop").await;
    one.logs("LABDISC Chief").await;
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !chief.mesh.view().bots.is_empty() {
        assert!(tokio::time::Instant::now() < end, "{:?}", chief.mesh.view().bots);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What the two have to say of that to each other is said.
    tokio::time::sleep(Duration::from_secs(1)).await;
    between.is_honest();
    to_us.is_honest();
    at_one.says(".link Chief").await;
    to_us.has_linked().await;
    chief.sees("EggTwo").await;
    let ways = |bot: &masterchief::mesh::Bot| format!("{} by {}", bot.name, bot.uplink);
    let ways: Vec<String> = chief.mesh.view().bots.iter().map(ways).collect();
    assert_eq!(ways, ["EggOne by Chief", "EggTwo by EggOne"]);
    chief.joins(7, "alice").await;
    chief.says(7, "one way again").await;
    at_two.expect("<alice@Chief> one way again").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn people_survive_every_kind_of_sharing_that_is_offered() {
    let Between { chief, one: (_one, mut at_one), .. } = between().await;
    chief.bot.put_user(User::new("alice").unwrap()).await.unwrap();
    // The one who gives offers when the link comes up, and each minute.
    at_one.says(".unlink Chief\n.botattr Chief +sg").await;
    at_one.expect("Bot flags for Chief").await;
    at_one.says(".link Chief").await;
    at_one.expect("I take no user files.").await;
    at_one.says(".unlink Chief\n.botattr Chief -sg+p").await;
    at_one.expect("Bot flags for Chief").await;
    at_one.says(".link Chief").await;
    at_one.expect("Linked to Chief").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(chief.bot.book().get("alice").is_some() && chief.bot.book().all().len() == 1);
    at_one.says(".match *").await;
    at_one.expect("bob").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn a_bind_hears_who_comes_and_goes() {
    let (heard, mut hears) = tokio::sync::mpsc::channel(16);
    let tell = move |ev: Event| {
        let heard = heard.clone();
        async move {
            let line = format!("{} {} {}", ev.kind(), ev.field_str("bot"), ev.field_str("via"));
            heard.send(line).await.unwrap();
        }
    };
    let port = free_port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], port).into());
    known.bots.insert("EggOne".to_owned(), clear_caller());
    let builder = Bot::builder()
        .bind(Kind::new("link"), "-|-", "egg*", tell.clone())
        .unwrap()
        .bind(Kind::new("disc"), "-|-", "*", tell)
        .unwrap();
    let chief = Chief::of(builder, folder.path(), known).await;
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    assert_eq!(hears.recv().await.unwrap(), "link EggOne Chief");
    owner.says(".unlink Chief").await;
    assert_eq!(hears.recv().await.unwrap(), "disc EggOne ");
    chief.bot.stop("").await;
}

#[tokio::test]
async fn another_listener_hands_a_caller_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.bots.insert("EggOne".to_owned(), clear_caller());
    let chief = Chief::start(folder.path(), known).await;
    let mesh = chief.mesh.clone();
    let hands = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"\r\nwho is there?\r\n").await.unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            stream.read_buf(&mut bytes).await.unwrap();
        };
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        assert!(mesh.knows(&name) && !mesh.knows("alice"));
        mesh.adopt(Box::new(stream), &name, &bytes[end + 1..], false, None).await.unwrap();
    });
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    chief.sees("EggOne").await;
    chief.joins(7, "alice").await;
    chief.says(7, "through the other door").await;
    owner.expect("<alice@Chief> through the other door").await;
    chief.bot.stop("").await;
    hands.await.unwrap();
}

const SCRIPT: &str = r#"
bot.bind("link", "-|-", "*", function(ev) mesh.broadcast("labcmd", ev.bot .. " is linked to " .. ev.via) end)
bot.bind("bot", "-|-", "labcmd", function(ev)
  local names = {}
  for _, bot in mesh.bots() do table.insert(names, bot.bot .. (bot.ours and "!" or "")) end
  mesh.send(ev.from, "labcmd", table.concat(names, ",") .. " " .. ev.text)
  local good, fault = pcall(mesh.call, ev.from, "status")
  mesh.broadcast("labcmd", tostring(good) .. " " .. tostring(fault))
  mesh.broadcast("labcmd", "a secret canary-4242-never-said ghp_0123456789abcdefghijABCDEFGHIJ012345")
end)
"#;

#[tokio::test]
async fn a_script_speaks_with_an_eggdrop() {
    let port = free_port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let (folder, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(scripts.path().join("speak.lua"), SCRIPT).unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], port).into());
    known.bots.insert("EggOne".to_owned(), clear_caller());
    let builder = Bot::builder().scripts(scripts.path()).secrets([Secret::new("canary-4242-never-said")]);
    let chief = Chief::of(builder, folder.path(), known).await;
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    egg.logs("LABBOT Chief labcmd EggOne is linked to Chief").await;
    owner.says(".tcl putbot Chief \"labcmd one two\"").await;
    egg.logs("LABBOT Chief labcmd EggOne one two").await;
    egg.logs("EggOne is an Eggdrop and answers no calls").await;
    egg.logs("LABBOT Chief labcmd a secret *** ***").await;
    chief.bot.stop("").await;
}
