//! What binds hear of the partylines of all linked bots, with a real Eggdrop: who comes, goes, speaks, is away, and what bots say.

use std::time::Duration;

use masterchief::bot::{Bot, Builder};
use masterchief::contract::{Event, Kind, Outcome};
use masterchief::mesh::{BotSettings, NOTE};
use masterchief::partyline;
use tokio::sync::mpsc::{Receiver, channel};

use super::eggdrop::{Egg, Friend};
use super::mesh::settings;
use super::partyline::{Typist, knows};
use super::servers::free_port;

const KINDS: [&str; 12] =
    ["act", "away", "bcst", "bot", "chat", "chjn", "chof", "chon", "chpt", "disc", "link", "nkch"];

/// What binds have heard.
struct Heard(Receiver<(String, i64)>);

impl Heard {
    /// Ready when exactly these were heard, in any order; gives the session of the first.
    async fn all(&mut self, wanted: &[&str]) -> i64 {
        let (mut heard, mut idx) = (Vec::new(), None);
        for _ in wanted {
            let next = tokio::time::timeout(Duration::from_secs(20), self.0.recv()).await;
            let (line, of) = next.unwrap_or_else(|_| panic!("{wanted:?} are not all heard, but {heard:?}")).unwrap();
            heard.push(line);
            idx = idx.or(Some(of).filter(|idx| *idx != 0));
        }
        heard.sort();
        assert_eq!(heard, wanted);
        idx.unwrap_or(0)
    }
}

/// A bot with a bind of each kind, and what those hear.
fn listening() -> (Builder, Heard) {
    let (told, heard) = channel(64);
    let mut builder = Bot::builder();
    for kind in KINDS {
        let told = told.clone();
        let tell = move |ev: Event| {
            let told = told.clone();
            let field = |name: &str| {
                ev.field(name).map(|value| format!(" {name}={value}").replace('"', "")).unwrap_or_default()
            };
            let fields = ["bot", "handle", "channel", "icon", "old", "new", "from"].map(field).concat();
            let idx = ev.field("idx").and_then(|idx| idx.to_string().parse().ok()).unwrap_or(0);
            let line = format!("{kind}{fields} {}", ev.text()).trim_end().to_owned();
            async move { told.send((line, idx)).await.unwrap() }
        };
        let mask = if kind == "bot" { "labcmd" } else { "*" };
        builder = builder.bind(Kind::new(kind), "-|-", mask, tell).unwrap();
    }
    (builder, Heard(heard))
}

#[tokio::test]
async fn binds_hear_what_people_on_a_linked_eggdrop_do_as_its_own_scripts_would() {
    let port = free_port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut net = settings("Chief");
    net.bots.insert("EggOne".to_owned(), BotSettings { insecure: true, first_link: true, ..BotSettings::default() });
    let (builder, mut binds) = listening();
    let party = partyline::Settings { listen: Some(([127, 0, 0, 1], port).into()), ..partyline::Settings::default() };
    let bot = builder.data(folder.path()).mesh(net).partyline(party).start().await.unwrap();

    // Whoever is there when the link comes up has come, as far as we know.
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    let idx = binds.all(&["chjn bot=EggOne handle=owner@EggOne channel=0 icon=*", "link bot=EggOne"]).await;
    assert!(idx > 0);
    // To another channel is out of the one and into the other.
    owner.says(".chat 5").await;
    let there =
        ["chjn bot=EggOne handle=owner@EggOne channel=5 icon=*", "chpt bot=EggOne handle=owner@EggOne channel=0"];
    assert_eq!(binds.all(&there).await, idx);
    owner.says("hello there").await;
    binds.all(&["chat bot=EggOne handle=owner@EggOne channel=5 hello there"]).await;
    owner.says(".me waves").await;
    binds.all(&["act bot=EggOne handle=owner@EggOne channel=5 waves"]).await;
    owner.says(".away lunch").await;
    assert_eq!(binds.all(&["away bot=EggOne handle=owner@EggOne lunch"]).await, idx);
    owner.says(".back").await;
    binds.all(&["away bot=EggOne handle=owner@EggOne"]).await;
    owner.says(".tcl dccputchan 5 {words of a bot}").await;
    binds.all(&["bcst bot=EggOne channel=5 words of a bot"]).await;
    owner.says(".tcl dccbroadcast {to everybody}").await;
    binds.all(&["bcst bot=EggOne channel=-1 to everybody"]).await;
    owner.says(".tcl putallbots {labcmd one two}").await;
    binds.all(&["bot from=EggOne one two"]).await;
    // Another name there is no other handle of a record here.
    owner.says(".handle boss").await;
    owner.says("it is me").await;
    binds.all(&["chat bot=EggOne handle=boss@EggOne channel=5 it is me"]).await;

    // Who leaves has left their channel, and one only.
    owner.says(".chattr bob +o").await;
    owner.expect("bob").await;
    let mut bob = egg.party("bob", "bobpw").await;
    binds.all(&["chjn bot=EggOne handle=bob@EggOne channel=0 icon=@"]).await;
    bob.says(".quit home").await;
    binds.all(&["chpt bot=EggOne handle=bob@EggOne channel=0 home"]).await;

    // People here, and a record with another handle.
    let at = bot.partyline_at().0.unwrap();
    knows(&bot, "alice", "mp").await;
    knows(&bot, "ben", "p").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    binds.all(&["chjn bot=chief handle=alice channel=0 icon=+", "chon bot=chief handle=alice"]).await;
    alice.types(".chhandle ben benny").await;
    binds.all(&["nkch old=ben new=benny"]).await;
    alice.types(".quit").await;
    binds.all(&["chof bot=chief handle=alice quit", "chpt bot=chief handle=alice channel=0 quit"]).await;

    // With a bot all leave who were on it.
    owner.says(".unlink Chief").await;
    let lost = binds.0.recv().await.unwrap().0;
    let lost = [lost, binds.0.recv().await.unwrap().0];
    assert!(lost.iter().any(|line| line.starts_with("chpt bot=EggOne handle=boss@EggOne channel=5")), "{lost:?}");
    assert!(lost.iter().any(|line| line.starts_with("disc bot=EggOne")), "{lost:?}");
    bot.stop("").await;
    assert!(binds.0.try_recv().is_err(), "nothing is told twice");
}

#[tokio::test]
async fn a_bind_takes_a_note_before_anybody_sees_it_wherever_it_comes_from() {
    let port = free_port();
    let egg = Egg::start("EggOne", &[Friend("Chief", port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut net = settings("Chief");
    net.bots.insert("EggOne".to_owned(), BotSettings { insecure: true, first_link: true, ..BotSettings::default() });
    let party = partyline::Settings { listen: Some(([127, 0, 0, 1], port).into()), ..partyline::Settings::default() };
    let (told, mut heard) = channel(8);
    let builder = Bot::builder().bind(NOTE, "-|-", "alice", move |ev: Event| {
        let told = told.clone();
        let taken = ev.text().contains("for the bot");
        let line = format!("{} to {}: {}", ev.field_str("from"), ev.field_str("to"), ev.text());
        async move {
            told.send(line).await.unwrap();
            if taken { Outcome::Stop } else { Outcome::Nothing }
        }
    });
    let bot = builder.unwrap().data(folder.path()).mesh(net).partyline(party).start().await.unwrap();
    let at = bot.partyline_at().0.unwrap();
    knows(&bot, "alice", "p").await;
    knows(&bot, "ben", "p").await;
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    owner.says(".note alice@Chief for the bot, from afar").await;
    owner.expect("alice rejected your note.").await;
    owner.says(".note alice@Chief for her, from afar").await;
    owner.expect("note stored").await;
    let mut ben = Typist::logs_in(at, "ben").await;
    ben.types(".note alice for the bot").await;
    ben.reads("A bind has taken the note to alice.").await;
    ben.types(".note alice for her").await;
    ben.reads("Kept for alice.").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    alice.types(".notes read").await;
    let notes = alice.reads("erases them").await;
    assert!(
        notes.contains("for her, from afar") && notes.contains("for her") && !notes.contains("for the bot"),
        "{notes}"
    );
    bot.stop("").await;
    let mut lines = Vec::new();
    while let Ok(line) = heard.try_recv() {
        lines.push(line);
    }
    let wanted = [
        "owner@EggOne to alice: for the bot, from afar",
        "owner@EggOne to alice: for her, from afar",
        "ben to alice: for the bot",
        "ben to alice: for her",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:?}");
    assert!(
        lines.iter().zip(wanted).all(|(line, wanted)| line.ends_with(&wanted[wanted.find(' ').unwrap()..])),
        "{lines:?}"
    );
}
