//! What owners see of the lines of servers and of linked bots, and what nobody sees of them. In a process of its own: whose log goes
//! where is said once for all of a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::eggdrop::{Egg, Friend};
use super::lab::Lab;
use super::mesh_wire::{Forger, Way};
use super::partyline::{PASSWORD, Typist};
use super::person::Person;
use super::servers::free_port;

/// How long the bot may take to be up.
const PATIENCE: Duration = Duration::from_secs(60);
const SCRIPT: &str =
    r#"bot.bind("dcc", "-|-", "shout", function() mesh.broadcast("labcmd", "from-us") return "shouted" end)"#;

/// The process, ended with the story.
struct Chief(Child);

impl Drop for Chief {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bot on a real server, with a partyline, and an owner and a master who have passwords.
async fn started(folder: &Path, lab: &Lab) -> (Chief, SocketAddr) {
    for sub in ["config/global", "scripts"] {
        std::fs::create_dir_all(folder.join(sub)).unwrap();
    }
    let room = free_port();
    let config = format!(
        "data: data\npartyline: {{listen: \"127.0.0.1:{room}\"}}\nscripts: {{folder: scripts}}\nnetworks:\n  lab:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    nick: Chief\n    channels: [\"#ops\"]\nmesh: {{name: Chief, retry: 500ms}}\n",
        lab.plain
    );
    std::fs::write(folder.join("config/global/config.yaml"), config).unwrap();
    std::fs::write(folder.join("scripts/shout.lua"), SCRIPT).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], room));
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.arg("--config").arg(folder).args(["run", "--no-console"]);
    command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let chief = Chief(command.spawn().unwrap());
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(at).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string(folder.join("log")).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The bot's own password makes the people, as long as no owner has one.
    let own = std::fs::read_to_string(folder.join("data/partyline.password")).unwrap();
    let mut operator = Typist::calls(at).await;
    for (asks, answer) in [("Please enter your handle.", "operator"), ("Enter your password.", own.trim())] {
        operator.reads(asks).await;
        operator.types(answer).await;
    }
    operator.reads("Connected to").await;
    for (handle, flags) in [("mia", "mop"), ("olga", "np")] {
        for (typed, answer) in [
            (format!(".+user {handle}"), "has a record"),
            (format!(".chattr {handle} +{flags}"), "has the flags"),
            (format!(".chpass {handle} {PASSWORD}"), "has a new password"),
        ] {
            operator.types(&typed).await;
            operator.reads(answer).await;
        }
    }
    (chief, at)
}

/// Comes in, whatever the bot is called.
async fn logs_in(at: SocketAddr, handle: &str) -> Typist {
    let mut typist = Typist::calls(at).await;
    for (asks, answer) in [("Please enter your handle.", handle), ("Enter your password.", PASSWORD)] {
        typist.reads(asks).await;
        typist.types(answer).await;
    }
    typist.reads("Connected to").await;
    typist
}

#[tokio::test]
async fn owners_see_each_line_of_servers_and_bots_but_no_password_and_others_none() {
    let (lab, folder) = (Lab::start(), tempfile::tempdir().unwrap());
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let (_chief, at) = started(folder.path(), &lab).await;
    let mut bob = Person::connect(lab.plain, "bob").await;
    bob.joins("#ops").await;
    let (mut olga, mut mia) = (logs_in(at, "olga").await, logs_in(at, "mia").await);
    for person in [&mut olga, &mut mia] {
        person.types(".console +rvtu").await;
        person.reads("You see ").await;
    }
    // The first link makes a password, and it is told another one later.
    let wire = Forger::to(egg.port).await;
    olga.types(&format!(".+bot EggOne 127.0.0.1:{} +hcf", wire.port)).await;
    wire.has_linked().await;
    let password = wire.said(Way::Back, "handshake ").or_else(|| wire.said(Way::Back, "h "));
    let password = password.unwrap().split(' ').next_back().unwrap().to_owned();
    wire.says(Way::Back, "h anotherpassword");
    wire.says(Way::Back, "zb EggOne labcmd from-the-egg");
    let mut seen = olga.reads("line=zb EggOne labcmd from-the-egg").await;
    olga.types(".shout").await;
    seen += &olga.reads("line=zb Chief labcmd from-us").await;
    for words in ["From a bot", "To a bot", "line=tb EggOne", "line=tb Chief", "line=el", "line=h\r\n"] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    bob.says("#ops", "a line of a server");
    seen += &olga.reads("a line of a server").await;
    olga.types(".say lab/#ops a line to a server").await;
    bob.hears("Chief", "a line to a server").await;
    seen += &olga.reads("a line to a server").await;
    assert!(seen.contains("<- bob!") && seen.contains("To a server"), "{seen}");
    for secret in [password.as_str(), "anotherpassword"] {
        assert!(!seen.contains(secret), "{seen}");
    }
    // Whoever is no owner sees none of it, whatever they ask for.
    mia.types(".whoami").await;
    let seen = mia.reads("You are mia").await;
    for words in ["From a bot", "To a bot", "To a server", "labcmd", "<- "] {
        assert!(!seen.contains(words), "{words}: {seen}");
    }
}
