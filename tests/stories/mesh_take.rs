//! An Eggdrop whose user file may be taken: its people arrive with their hostmasks and the letters that are let in, and so does what is
//! added there later. Whoever is here already stays as they are, nobody is ever removed, and a hostile bot does no harm.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::mesh::{Attribute, BotSettings, Encryption, Settings};
use masterchief::partyline;
use masterchief::users::{Given, PasswordHash, User};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::eggdrop::{Egg, Friend, Party};
use super::mesh::{Chief, clear_hub, settings};
use super::mesh_wire::{Forger, Way};
use super::partyline::{Typist, knows};

const PATIENCE: Duration = Duration::from_secs(30);

/// An Eggdrop with people, which gives its file to a bot of ours.
async fn generous() -> (Egg, Party) {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1), Friend("LeafBot", 43_320)]).await;
    let mut owner = egg.owner().await;
    let words = [
        "channel add #lab {+shared}",
        "adduser alice *!*@evil.example",
        "chattr alice +nmo",
        "adduser carol *!carol@*.example.org",
        "setuser carol PASS secret12",
        "chattr carol +fp|+o #lab",
        "adduser dave *!dave@dave.example",
        "newban *!*@bad.example owner spam",
        "botattr Chief +s",
        "botattr Chief +g",
        "tell READY",
    ];
    for words in words {
        owner.says(&format!(".tcl {words}")).await;
    }
    egg.logs("READY").await;
    (egg, owner)
}

/// Us, who take these letters of it, with this wire between.
fn takes(egg: &Egg, port: u16, take: Option<&str>) -> Settings {
    let mut hub = clear_hub(egg);
    hub.addresses = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    hub.take = take.map(str::to_owned);
    let mut known = settings("Chief");
    known.bots.insert(egg.name.clone(), hub);
    known
}

/// Ready when somebody's record is so; gives it.
async fn is(chief: &Chief, handle: &str, so: impl Fn(&User) -> bool) -> User {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let user = chief.bot.book().get(handle);
        if let Some(user) = user.as_ref().filter(|user| so(user)) {
            let mut user = User::clone(user);
            // The records have them in an order of their own.
            user.hosts.sort();
            return user;
        }
        assert!(tokio::time::Instant::now() < end, "{handle} is {user:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn alice() -> User {
    let mut alice = User::with_account("alice", "libera", "alice", "n").unwrap();
    alice.password = Some(PasswordHash::stored("kept".to_owned()));
    alice
}

#[tokio::test]
async fn people_of_an_eggdrop_arrive_over_the_link_and_nobody_here_loses_anything() {
    let (egg, mut owner) = generous().await;
    let folder = tempfile::tempdir().unwrap();
    let wire = Forger::to(egg.port).await;
    let chief = Chief::start(folder.path(), takes(&egg, wire.port, None)).await;
    chief.bot.put_user(alice()).await.unwrap();
    let before = chief.bot.book().get("alice").unwrap();
    // Nothing is taken unless that is named; from then on it is, when it is offered next.
    wire.sees(Way::Out, "s un I take no user files.").await;
    assert_eq!(chief.bot.book().all().len(), 1);
    chief.mesh.configure(takes(&egg, wire.port, Some("libera/fov"))).await;
    owner.says(".unlink Chief").await;
    let carol = is(&chief, "carol", |_| true).await;
    assert_eq!((carol.flags.to_string(), carol.channels["libera/#lab"].to_string()), ("f".to_owned(), "lo".to_owned()));
    assert_eq!((carol.hosts.as_slice(), &carol.password), (["*!carol@*.example.org".to_owned()].as_slice(), &None));
    let dave = is(&chief, "dave", |_| true).await;
    assert!(dave.flags.is_empty() && dave.given_by == Some(Given::by("EggOne")));
    assert_eq!(is(&chief, "owner", |_| true).await.flags.to_string(), "lo");
    assert_eq!(chief.bot.book().get("alice").unwrap(), before);
    is_known(&chief, "LeafBot").await;

    // What is added there arrives, also by whom is new; what is removed there stays.
    owner.says(".+host carol *!c@new.example").await;
    owner.says(".chattr carol +v").await;
    owner.says(".+user erin *!e@erin.example").await;
    owner.says(".chattr erin +o").await;
    let carol = is(&chief, "carol", |user| user.flags.has('v')).await;
    assert!(carol.hosts.contains(&"*!c@new.example".to_owned()), "{carol:?}");
    owner.says(".-host carol *!c@new.example").await;
    owner.says(".chattr carol -f").await;
    owner.says(".-user dave").await;
    owner.says(".+host alice *!*@worse.example").await;
    owner.says(".chattr erin +f").await;
    let erin = is(&chief, "erin", |user| user.flags.has('f') && user.flags.has('o')).await;
    assert_eq!(erin.hosts, ["*!e@erin.example"]);
    assert_eq!(is(&chief, "carol", |_| true).await, carol);
    assert_eq!(is(&chief, "dave", |_| true).await, dave);
    assert_eq!(chief.bot.book().get("alice").unwrap(), before);

    // Linked again it sends the whole again, whatever it kept back; what was taken away here is not given anew, and nobody twice.
    chief.bot.store().remove_user("erin").await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while chief.bot.book().get("erin").is_some() {
        assert!(tokio::time::Instant::now() < end, "the bot does not see that erin was removed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut less = is(&chief, "carol", |_| true).await;
    less.change_flags("-v").unwrap();
    chief.bot.put_user(less.clone()).await.unwrap();
    wire.is_honest();
    owner.says(".unlink Chief").await;
    wire.sees(Way::Back, "s r?").await;
    wire.sees(Way::Out, "s uy ").await;
    wire.sees(Way::Back, "s !").await;
    owner.says(".+user frank *!f@frank.example").await;
    is(&chief, "frank", |_| true).await;
    assert_eq!(is(&chief, "carol", |_| true).await, less);
    let all: Vec<String> = chief.bot.book().all().iter().map(|user| user.handle.clone()).collect();
    assert_eq!(all, ["alice", "bob", "carol", "dave", "frank", "owner"]);
    let trail = chief.bot.audit_recent(100).await.unwrap();
    let of = |handle: &str| trail.iter().filter(|row| row.mask == handle && row.actor == "EggOne").count();
    assert_eq!((of("carol") > 1, of("frank"), of("alice"), of("LeafBot")), (true, 1, 0, 1), "{trail:?}");
    frank_is_renamed(&chief, &mut owner).await;
    // It never hears a word of ours about people, and has lost nobody.
    owner.says(".match *").await;
    // Two bots and all its people but dave, whom it has removed itself.
    owner.expect("Found 8 matches").await;
    chief.bot.stop("").await;
}

/// Who has another handle there has it here, with what we know of him besides.
async fn frank_is_renamed(chief: &Chief, owner: &mut Party) {
    let mut frank = is(chief, "frank", |_| true).await;
    frank.add_account("libera/frank").unwrap();
    chief.bot.put_user(frank).await.unwrap();
    owner.says(".chhandle frank franky").await;
    owner.says(".chattr franky +o").await;
    let franky = is(chief, "franky", |user| user.flags.has('o')).await;
    assert!(franky.accounts.len() == 1 && chief.bot.book().get("frank").is_none(), "{franky:?}");
}

async fn is_known(chief: &Chief, bot: &str) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !chief.mesh.view().records.iter().any(|record| record.name.as_str() == bot) {
        assert!(tokio::time::Instant::now() < end, "{bot} is not known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn over_tls_the_file_comes_with_tls_and_operators_are_told_of_it() {
    let (egg, mut owner) = generous().await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = takes(&egg, egg.tls, Some("f"));
    let hub = known.bots.get_mut("EggOne").unwrap();
    (hub.tls, hub.insecure) = (Encryption::Port, false);
    let party = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let chief = Chief::of(Bot::builder().partyline(party), folder.path(), settings("Chief")).await;
    knows(&chief.bot, "alice", "nmop").await;
    let mut typist = Typist::logs_in(chief.bot.partyline_at().0.unwrap(), "alice").await;
    typist.types(".console +b").await;
    typist.reads("You see").await;
    chief.mesh.configure(known).await;
    typist.reads("EggOne: its user file is taken: ").await;
    typist.reads("EggOne: by a hostmask alone nobody has more than users.hostmask_flags").await;
    typist.reads("left alone: alice is here already").await;
    let carol = is(&chief, "carol", |_| true).await;
    assert!(carol.flags.has('f') && carol.channels.is_empty(), "{carol:?}");
    owner.says(".+host carol *!c@new.example").await;
    typist.reads("EggOne: taken: carol (the hostmask *!c@new.example)").await;
    owner.says(".-host carol *!c@new.example").await;
    typist.reads("EggOne: what is removed there stays here, which is said once: carol").await;
    chief.bot.stop("").await;
}

/// A bot that links as an Eggdrop does and says these lines; the last that it was told.
async fn hostile(lines: &[String]) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, lines) = (listener.local_addr().unwrap().port(), lines.to_vec());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let begin = "Hub\npassreq <1@Hub>\n*hello!\nversion 1080404 32 eggdrop v1.8.4 <labnet>\n";
        stream.write_all(begin.as_bytes()).await.unwrap();
        hears(&mut stream, "el").await;
        stream.write_all(b"tb Hub\nel\n").await.unwrap();
        let mut last = String::new();
        for line in lines {
            match line.strip_prefix("hears ") {
                Some(begin) => last = hears(&mut stream, begin).await,
                None => stream.write_all(format!("{line}\n").as_bytes()).await.unwrap(),
            }
        }
        // The link lasts until the bot ends it: a file is fetched for nobody else.
        tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        last
    });
    (port, task)
}

/// The next line that begins so.
async fn hears(stream: &mut BufReader<TcpStream>, begin: &str) -> String {
    let next = async {
        let mut passed = Vec::new();
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "it closed before `{begin}`: {passed:?}");
            if line.starts_with(begin) {
                return line.trim_end().to_owned();
            }
            passed.push(line);
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("`{begin}` does not come"))
}

/// A port that gives this to whoever calls, and counts them.
async fn gives(at: &str, file: &str) -> (u16, Arc<Mutex<usize>>) {
    // Where it is somebody else's, it is nobody's where the bot is.
    let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = match at {
        "127.0.0.1" => here,
        at => TcpListener::bind((at, here.local_addr().unwrap().port())).await.unwrap(),
    };
    let (port, calls, file) = (listener.local_addr().unwrap().port(), Arc::<Mutex<usize>>::default(), file.to_owned());
    let count = Arc::clone(&calls);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *count.lock().unwrap() += 1;
            // Who does not want more hangs up.
            let _ = stream.write_all(file.as_bytes()).await;
            let mut acks = [0; 64];
            let _ = stream.read(&mut acks).await;
        }
    });
    (port, calls)
}

#[tokio::test]
async fn a_hostile_bot_that_offers_what_cannot_be_does_no_harm() {
    let begin = "#4v: eggdrop v1.8.4 -- Hub -- transmit\n";
    let evil = format!(
        "{begin}mallory - nmo\n--HOSTS *!*@*\n--HOSTS *!m@evil.example\nalice - n\n--HOSTS *!a@evil.example\n--PASS x\n"
    );
    let (short, _) = gives("127.0.0.1", begin).await;
    let (none, _) = gives("127.0.0.1", "GET / HTTP/1.0\r\n\r\n").await;
    // Somebody else's port: the same number is nobody's where the bot is.
    let (other, others) = gives("127.0.0.2", &evil).await;
    let (good, _) = gives("127.0.0.1", &evil).await;
    let (never, unheard) = gives("127.0.0.1", &evil).await;
    let us = |port: u16, length: usize| format!("s us 2130706434 {port} {length}");
    let offers = |line: String| ["s u?", "hears s uy ", &line, "hears s e "].map(str::to_owned).to_vec();
    let asked_for =
        |line: String| ["s u?", "hears s uy ", &line, "s n frank *!f@frank.example - f"].map(str::to_owned).to_vec();
    let first = us(never, evil.len());
    let unasked = [first.as_str(), "s n eve *!e@evil.example - f", "s a alice n", "s e x", "pi", "hears po"];
    let cases = [
        (unasked.map(str::to_owned).to_vec(), "po"),
        (offers(us(never, 1 << 30)), "larger than"),
        (offers(us(22, evil.len())), "the port of the file"),
        (offers(us(none, 18)), "no user file"),
        (offers(us(short, 5_000)), "broke off"),
        (offers(us(other, evil.len())), "cannot be reached"),
        (asked_for(us(good, evil.len())), ""),
    ];
    for (lines, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        let chief = Chief::start(folder.path(), settings("Chief")).await;
        chief.bot.put_user(alice()).await.unwrap();
        let before = chief.bot.book().get("alice").unwrap();
        let (port, told) = hostile(&lines).await;
        let mut known = settings("Chief");
        known.bots.insert("Hub".to_owned(), hub(port));
        chief.mesh.configure(known).await;
        let told = told.await.unwrap();
        assert!(told.contains(words), "{words}: {told}");
        if words.is_empty() {
            is(&chief, "frank", |user| user.flags.has('f')).await;
            let mallory = is(&chief, "mallory", |_| true).await;
            assert!(mallory.flags.is_empty() && mallory.hosts == ["*!m@evil.example"], "{mallory:?}");
        }
        let people = chief.bot.book().all().len();
        assert_eq!((chief.bot.book().get("alice").unwrap(), people), (before, if words.is_empty() { 3 } else { 1 }));
        chief.bot.stop("").await;
    }
    assert_eq!((*unheard.lock().unwrap(), *others.lock().unwrap()), (0, 0));
}

/// A bot whose file may be taken, at a port in clear.
fn hub(port: u16) -> BotSettings {
    BotSettings {
        addresses: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        attributes: BTreeSet::from([Attribute::Hub]),
        tls: Encryption::None,
        insecure: true,
        take: Some("fv".to_owned()),
        ..BotSettings::default()
    }
}
