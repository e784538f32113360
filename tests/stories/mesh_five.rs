//! Five MasterChiefs, each a process of its own, in one channel of a real server: partitions, kills and what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::lab::Lab;
use super::person::Person;
use super::runs::masterchief;
use super::servers::free_port;

const NAMES: [&str; 5] = ["Ada", "Bea", "Cem", "Dov", "Eva"];
/// How long the others may take to act in the place of one that is gone.
const TAKEOVER: Duration = Duration::from_secs(15);

/// A wire that can be cut: connections to its port reach another port, or nothing.
pub(crate) struct Wire {
    pub(crate) port: u16,
    whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(target: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, cut) = watch::channel(true);
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cut = cut.clone();
                tokio::spawn(async move {
                    if !*cut.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.wait_for(|whole| !*whole) => {}
                    }
                });
            }
        });
        Wire { port, whole, task }
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.whole.send_replace(!cut);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One of the five.
struct Bot {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Bot {
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.arg("--config").arg(self.folder.path()).args(["run", "--no-console"]);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Does `!do N` and says under which epoch it has.
const SCRIPT: &str = r##"
bot.bind("pub", "-|-", "!do", function(ev) return "did " .. ev.text .. " epoch " .. mesh.leader("lab").epoch end)
"##;

struct Five {
    lab: Lab,
    bots: BTreeMap<&'static str, Bot>,
    /// By who calls and who is called.
    wires: BTreeMap<(&'static str, &'static str), Wire>,
}

impl Five {
    /// Ada and Bea are called by all others, Bea and the rest call Ada; where she is gone, they call Bea.
    async fn start() -> Five {
        let lab = Lab::start();
        let ports = BTreeMap::from([("Ada", free_port()), ("Bea", free_port())]);
        let (mut bots, mut wires) = (BTreeMap::new(), BTreeMap::new());
        for name in NAMES {
            let mut known = String::new();
            for other in NAMES.iter().filter(|other| **other != name) {
                let wanted = matches!((name, *other), (_, "Ada") | ("Cem" | "Dov" | "Eva", "Bea"));
                let mut attributes = "trust".to_owned();
                let mut addresses = String::new();
                if wanted && name != "Ada" {
                    let wire = Wire::to(ports[other]).await;
                    addresses = format!("addresses: [\"127.0.0.1:{}\"], ", wire.port);
                    attributes.push_str(if *other == "Ada" { ", hub" } else { ", alternate" });
                    wires.insert((name, *other), wire);
                }
                known.push_str(&format!(
                    "    {other}: {{{addresses}attributes: [{attributes}], password: geheim, share: Df}}\n"
                ));
            }
            let listen = ports.get(name).map_or(String::new(), |port| format!("  listen_tls: \"127.0.0.1:{port}\"\n"));
            let config = format!(
                "data: data\nscripts: {{folder: scripts}}\nreplies: {{floods: {{pub: {{lines: 0, within: 1m}}}}}}\nnetworks:\n  lab:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    nick: {name}\n    channels: [\"#ops\"]\n    pace: {{burst: 100, interval: 0s}}\nmesh:\n  name: {name}\n  retry: 500ms\n{listen}  groups: {{lab: [{}]}}\n  bots:\n{known}",
                lab.plain,
                NAMES.join(", ")
            );
            let folder = tempfile::tempdir().unwrap();
            for sub in ["config/global", "scripts"] {
                std::fs::create_dir_all(folder.path().join(sub)).unwrap();
            }
            std::fs::write(folder.path().join("config/global/config.yaml"), config).unwrap();
            std::fs::write(folder.path().join("scripts/do.lua"), SCRIPT).unwrap();
            let mut bot = Bot { folder, process: None };
            bot.start();
            bots.insert(name, bot);
        }
        Five { lab, bots, wires }
    }

    fn of(&mut self, name: &str) -> &mut Bot {
        self.bots.get_mut(name).unwrap()
    }

    fn folder(&self, name: &str) -> &Path {
        self.bots[name].folder.path()
    }

    /// Cuts or mends all wires at a bot.
    fn apart(&self, name: &str, cut: bool) {
        self.wires.iter().filter(|((from, to), _)| *from == name || *to == name).for_each(|(_, wire)| wire.cut(cut));
    }

    fn logs(&self) -> String {
        self.bots.iter().map(|(name, bot)| format!("== {name}\n{}", bot.log())).collect()
    }
}

/// Says commands all the time, each with a number of its own.
struct Asking {
    person: Arc<Person>,
    on: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Asking {
    fn begin(person: Person) -> Asking {
        let (person, on) = (Arc::new(person), Arc::new(AtomicBool::new(true)));
        let (asks, going) = (Arc::clone(&person), Arc::clone(&on));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while going.load(Ordering::Relaxed) {
                number += 1;
                asks.says("#ops", &format!("!do {number}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            number
        });
        Asking { person, on, task }
    }

    /// What was done so far: who did which number, and under which epoch.
    fn done(&self) -> Vec<(&'static str, u32, u64)> {
        let mut done = Vec::new();
        for name in NAMES {
            for line in self.person.all_from(name) {
                let words: Vec<&str> = line.split(' ').collect();
                if let ["did", number, "epoch", epoch] = words[..] {
                    done.push((name, number.parse().unwrap(), epoch.parse().unwrap()));
                }
            }
        }
        done
    }

    /// Waits until one other than these does something that was asked from now on; gives who.
    async fn acts(&self, but: &[&str], five: &Five) -> &'static str {
        let (begun, newest) = (Instant::now(), self.newest());
        loop {
            if let Some((name, ..)) =
                self.done().iter().find(|(name, number, _)| *number > newest && !but.contains(name))
            {
                return name;
            }
            assert!(begun.elapsed() < TAKEOVER, "nobody acts\n{}", five.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest number that was done.
    fn newest(&self) -> u32 {
        self.done().iter().map(|(_, number, _)| *number).max().unwrap_or(0)
    }

    async fn end(self) -> (u32, Vec<(&'static str, u32, u64)>) {
        self.on.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let done = self.done();
        (self.task.await.unwrap(), done)
    }
}

fn users(five: &Five, name: &str) -> BTreeSet<String> {
    let (code, said) = masterchief(five.folder(name), &["--json", "users", "list"]);
    assert_eq!(code, Some(0), "{said}");
    let rows: serde_json::Value = serde_json::from_str(&said).unwrap();
    let row =
        |row: &serde_json::Value| format!("{} {}", row["handle"].as_str().unwrap(), row["flags"].as_str().unwrap());
    rows.as_array().unwrap().iter().map(row).collect()
}

/// Gives bob a letter at a bot, as soon as he is known there.
async fn bob_gets_d(five: &Five, name: &str) {
    let begun = Instant::now();
    loop {
        let (code, said) = masterchief(five.folder(name), &["users", "chattr", "bob", "+D"]);
        if code == Some(0) {
            return;
        }
        assert!(said.contains("bob") && begun.elapsed() < Duration::from_secs(60), "{said}\n{}", five.logs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_act_as_one_through_partitions_and_kills_and_know_the_same_people_in_the_end() {
    let mut five = Five::start().await;
    let mut alice = Person::connect(five.lab.plain, "alice").await;
    alice.joins("#ops").await;
    let asking = Asking::begin(alice);
    let first = asking.acts(&[], &five).await;
    // The one that acts is cut off from the others, and still in the channel with them.
    five.apart(first, true);
    let (code, said) = masterchief(five.folder(first), &["users", "add", "carol", "--flags", "D"]);
    assert_eq!(code, Some(0), "{said}");
    let second = asking.acts(&[first], &five).await;
    let (code, said) = masterchief(five.folder(second), &["users", "add", "bob", "--flags", "f"]);
    assert_eq!(code, Some(0), "{said}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    five.apart(first, false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Who acts now dies, and comes back; then one that only looked on.
    five.of(second).kill();
    let third = asking.acts(&[second], &five).await;
    five.of(second).start();
    let looking = *NAMES.iter().find(|name| **name != third && **name != second).unwrap();
    five.of(looking).kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    five.of(looking).start();
    // The hub of all dies, whoever it is by now.
    five.of("Ada").kill();
    asking.acts(&["Ada"], &five).await;
    // What is acknowledged here has to be true everywhere in the end.
    bob_gets_d(&five, "Cem").await;
    five.of("Ada").start();
    let begun = Instant::now();
    loop {
        let known: Vec<BTreeSet<String>> = NAMES.iter().map(|name| users(&five, name)).collect();
        let is_told = |one: &BTreeSet<String>| one.iter().any(|row| row.starts_with("bob ") && row.contains('D'));
        if known.iter().all(|one| *one == known[0] && one.len() == 2 && is_told(one)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{known:?}\n{}", five.logs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // All together again: nothing that is said now is lost.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let from = asking.newest();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let to = asking.newest();
    let (asked, done) = asking.end().await;
    let mut times: BTreeMap<u32, Vec<(&str, u64)>> = BTreeMap::new();
    for (name, number, epoch) in &done {
        times.entry(*number).or_default().push((name, *epoch));
    }
    let twice: Vec<_> = times.iter().filter(|(_, by)| by.len() > 1).collect();
    assert!(twice.is_empty(), "acted on twice: {twice:?}\n{}", five.logs());
    assert!(from + 10 < to && to <= asked);
    let lost: Vec<u32> = (from + 1..=to).filter(|number| !times.contains_key(number)).collect();
    assert!(lost.is_empty(), "lost while all were there: {lost:?}\n{}", five.logs());
    // Whoever acts later acts under a later epoch: an old leader has never come back as one.
    let mut last: (u32, u64) = (0, 0);
    for (number, by) in &times {
        assert!(by[0].1 >= last.1, "{number} was done under {by:?}, after {last:?}");
        last = (*number, by[0].1);
    }
    assert!(times.values().map(|by| by[0].1).collect::<BTreeSet<u64>>().len() >= 3, "there were takeovers");
}
