//! Five MasterChiefs, each a process of its own, in one channel of a real server: partitions, kills and what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::cuts::Wire;
use super::lab::Lab;
use super::mesh_desk::{Calling, Desk, floods};
use super::person::Person;
use super::runs::masterchief;
use super::servers::free_port;

const NAMES: [&str; 5] = ["Ada", "Bea", "Cem", "Dov", "Eva"];
/// How long the others may take to act in the place of one that is gone.
const TAKEOVER: Duration = Duration::from_secs(15);

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

/// Does `!do N` and says under which epoch it has. `.call BOT ID` has another bot write that name down, which says when it has.
const SCRIPT: &str = r##"
bot.bind("pub", "-|-", "!do", function(ev) return "did " .. ev.text .. " epoch " .. mesh.leader("lab").epoch end)
bot.bind("bot", "-|-", "keep", function(ev) return "at " .. kv.incr("kept:" .. ev.text) end)
bot.bind("dcc", "-|-", "call", function(ev)
  local good, said = pcall(mesh.call, ev.args.bot, "keep", ev.args.id, { timeout = "5s" })
  return (good and "kept " or "lost ") .. ev.args.id .. " " .. tostring(said)
end, { usage = "<bot> <id>" })
"##;
/// What is logged of, at each of them.
const SHOP: &str = "app: shop\npolicy: {environments: {prod: {require_flag: D}}}\nstages: {go: {shell: [\"true\"]}}\n";
/// What a link is given of talk: a burst, then so many lines a second; and the most that one takes, TLS and all.
const TALK: (u64, u64) = (2000, 500);
const BYTES: u64 = 300;
/// Lines that one says who floods, and the bytes of them that somebody has to have been told.
const WORDS: u64 = 30_000;
const TOLD: u64 = 600_000;
/// What else crosses a wire here, both ways: logins, people and logs; and in a second, calls of five bots, and leases.
const REST: (u64, u64) = (400_000, 60_000);
/// How long what is acknowledged may take to be true everywhere.
const PATIENCE: Duration = Duration::from_secs(60);

struct Five {
    lab: Lab,
    bots: BTreeMap<&'static str, Bot>,
    /// By who calls and who is called.
    wires: BTreeMap<(&'static str, &'static str), Wire>,
    /// Where the partylines listen, and where bots come in clear.
    rooms: BTreeMap<&'static str, u16>,
    doors: BTreeMap<&'static str, u16>,
    /// What was acknowledged: notes by whose bot keeps them in the end, lines of logs by the bot that wrote them.
    notes: Vec<(&'static str, String)>,
    logged: Vec<(&'static str, String)>,
}

impl Five {
    /// Ada and Bea are called by all others, Bea and the rest call Ada; where she is gone, they call Bea.
    async fn start() -> Five {
        let lab = Lab::start();
        let ports = BTreeMap::from([("Ada", free_port()), ("Bea", free_port())]);
        let doors = BTreeMap::from([("Ada", free_port()), ("Bea", free_port())]);
        let (mut bots, mut wires, mut rooms) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
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
            let mut listen = String::new();
            if let (Some(port), Some(door)) = (ports.get(name), doors.get(name)) {
                listen = format!("  listen_tls: \"127.0.0.1:{port}\"\n  listen: \"127.0.0.1:{door}\"\n");
                known.push_str("    Evil: {insecure: true, first_link: true}\n");
            }
            let room = free_port();
            rooms.insert(name, room);
            let config = format!(
                "data: data\npartyline: {{listen: \"127.0.0.1:{room}\"}}\nscripts: {{folder: scripts}}\nreplies: {{floods: {{pub: {{lines: 0, within: 1m}}}}}}\nnetworks:\n  lab:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    nick: {name}\n    channels: [\"#ops\"]\n    pace: {{burst: 100, interval: 0s}}\nmesh:\n  name: {name}\n  retry: 500ms\n{listen}  groups: {{lab: [{}]}}\n  bots:\n{known}",
                lab.plain,
                NAMES.join(", ")
            );
            let folder = tempfile::tempdir().unwrap();
            for sub in ["config/global", "config/pipelines", "scripts"] {
                std::fs::create_dir_all(folder.path().join(sub)).unwrap();
            }
            std::fs::write(folder.path().join("config/global/config.yaml"), config).unwrap();
            std::fs::write(folder.path().join("scripts/do.lua"), SCRIPT).unwrap();
            std::fs::write(folder.path().join("config/pipelines/shop.yaml"), SHOP).unwrap();
            let mut bot = Bot { folder, process: None };
            bot.start();
            bots.insert(name, bot);
        }
        Five { lab, bots, wires, rooms, doors, notes: Vec::new(), logged: Vec::new() }
    }

    async fn desk(&self, name: &str) -> Desk {
        let begun = Instant::now();
        loop {
            if let Some(desk) = Desk::sit(self.folder(name), self.rooms[name]).await {
                return desk;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody can sit down at {name}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// At a bot something is written into its log, and a note for dave at another one is given to it.
    async fn writes(&mut self, at: &'static str, to: &'static str, what: &str) {
        let mut desk = self.desk(at).await;
        let (line, note) = (format!("{at} logs: {what}"), format!("{at} to {to}: {what}"));
        let said = desk.asks(&format!("!log shop {line}"), &["L-"]).await;
        assert!(said.is_some(), "{line} is not logged\n{}", self.logs());
        let said = desk.asks(&format!(".note dave@{to} {note}"), &["On its way to", "kept until it is"]).await;
        assert!(said.is_some(), "{note} is not taken\n{}", self.logs());
        self.logged.push((at, line));
        self.notes.push((to, note));
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

impl Five {
    /// What stands in the records of a bot.
    fn column(&self, name: &str, db: &str, sql: &str) -> Vec<String> {
        let path = self.folder(name).join("data").join(db);
        let db = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut rows = db.prepare(sql).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Which notes are not where they should be, and which lines of logs are not there once. A note whose answer was lost with a
    /// link is sent again: there may be two of it.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (at, note) in &self.notes {
            let notes = self.column(at, "masterchief.db", "SELECT text FROM note WHERE recipient = 'dave'");
            let count = notes.iter().filter(|text| text.ends_with(note.as_str())).count();
            missing.extend((count == 0).then(|| format!("the note {note:?} is not at {at}")));
        }
        for name in NAMES {
            let own = self.column(name, "runs.db", "SELECT text FROM incident");
            let told = self.column(name, "masterchief.db", "SELECT origin || ' ' || text FROM told");
            for (at, line) in &self.logged {
                let count = match *at == name {
                    true => own.iter().filter(|text| *text == line).count(),
                    false => told.iter().filter(|text| **text == format!("{} {line}", at.to_lowercase())).count(),
                };
                missing.extend((count != 1).then(|| format!("the line {line:?}: {count} at {name}")));
            }
        }
        missing
    }

    /// All that was acknowledged is there: each call at the one that was called, once, and by nobody else; notes and lines as soon
    /// as they are told.
    async fn has_kept(&self, kept: &[(&'static str, String)]) {
        let mut done: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in NAMES {
            let sql = "SELECT substr(name, 6) || ' ' || CAST(CAST(value AS REAL) AS INTEGER) FROM kv WHERE name LIKE 'kept:%'";
            for row in self.column(name, "masterchief.db", sql) {
                let (id, times) = row.split_once(' ').unwrap();
                done.entry(id.to_owned()).or_default().push(format!("{times} at {name}"));
            }
        }
        let twice: Vec<_> = done.iter().filter(|(_, by)| by.len() > 1 || !by[0].starts_with("1 at ")).collect();
        assert!(twice.is_empty(), "done twice: {twice:?}\n{}", self.logs());
        let lost = |(to, id): &&(&str, String)| done.get(id).is_none_or(|by| by[0] != format!("1 at {to}"));
        let lost: Vec<_> = kept.iter().filter(lost).collect();
        assert!(lost.is_empty(), "answered, and not done: {lost:?}\n{}", self.logs());
        let begun = Instant::now();
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{missing:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
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

/// Ends all calling, once each has been answered by all others again; what was answered with Ok.
async fn answered(calling: [Calling; 5], five: &Five) -> Vec<(&'static str, String)> {
    let (before, begun) = (calling.each_ref().map(Calling::count), Instant::now());
    while calling.iter().zip(before).any(|(calling, before)| calling.count() < before + 2 * NAMES.len()) {
        let now = calling.each_ref().map(Calling::count);
        assert!(begun.elapsed() < PATIENCE, "{before:?} answers, and then {now:?}\n{}", five.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut calls, mut kept) = (0, Vec::new());
    for calling in calling {
        let (count, answered) = calling.end().await;
        calls += count;
        kept.extend(answered);
    }
    println!("{} of {calls} calls were answered", kept.len());
    kept
}

/// Ready when all know the same people, so many, and this one among them.
async fn all_know(five: &Five, count: usize, is: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let known: Vec<BTreeSet<String>> = NAMES.iter().map(|name| users(five, name)).collect();
        if known.iter().all(|one| *one == known[0] && one.len() == count && one.iter().any(|row| is(row))) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{known:?}\n{}", five.logs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A bot says as much as it can at a hub; no wire carries more of it than a link is given, whoever is cut off.
async fn flooded(five: &Five, hub: &str) {
    let crossed = || -> Vec<u64> { five.wires.values().map(|wire| wire.crossed()).collect() };
    let (before, begun) = (crossed(), Instant::now());
    let bytes = || -> Vec<u64> { crossed().iter().zip(&before).map(|(now, before)| now - before).collect() };
    let lines = floods(five.doors[hub], |lines| {
        assert!(begun.elapsed() < 2 * PATIENCE, "{lines} lines, and nobody is told: {:?}\n{}", bytes(), five.logs());
        lines >= WORDS && bytes().iter().any(|bytes| *bytes > TOLD)
    })
    .await;
    let bytes = bytes();
    let secs = begun.elapsed().as_secs() + 1;
    // A link that is made anew has a burst of its own: those of a hub that was cut off are.
    let most = (2 * TALK.0 + TALK.1 * secs) * BYTES + REST.0 + REST.1 * secs;
    println!("{lines} lines in {secs} s: {bytes:?} bytes on the wires, at most {most}");
    assert!(bytes.iter().all(|bytes| *bytes <= most), "{bytes:?} bytes for {lines} lines in {secs} s, not {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_act_as_one_through_partitions_and_kills_and_know_the_same_people_in_the_end() {
    let mut five = Five::start().await;
    let mut alice = Person::connect(five.lab.plain, "alice").await;
    alice.joins("#ops").await;
    let asking = Asking::begin(alice);
    let first = asking.acts(&[], &five).await;
    let (code, said) = masterchief(five.folder("Ada"), &["users", "add", "dave", "--flags", "f"]);
    assert_eq!(code, Some(0), "{said}");
    all_know(&five, 1, |row| row.starts_with("dave ")).await;
    let others = |name: &str| NAMES.into_iter().filter(|other| *other != name).collect::<Vec<_>>();
    let calling = NAMES.map(|name| Calling::begin(name, others(name), five.folder(name), five.rooms[name]));
    // The one that acts is cut off from the others, and still in the channel with them. A bot floods the others.
    five.apart(first, true);
    let (code, said) = masterchief(five.folder(first), &["users", "add", "carol", "--flags", "D"]);
    assert_eq!(code, Some(0), "{said}");
    let apart = others(first);
    let second = asking.acts(&[first], &five).await;
    flooded(&five, if first == "Ada" { "Bea" } else { "Ada" }).await;
    five.writes(first, apart[1], "cut off").await;
    five.writes(apart[1], first, "without it").await;
    let (code, said) = masterchief(five.folder(second), &["users", "add", "bob", "--flags", "f"]);
    assert_eq!(code, Some(0), "{said}");
    five.apart(first, false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Who acts now dies, and comes back; then one that only looked on.
    five.of(second).kill();
    let third = asking.acts(&[second], &five).await;
    five.writes(third, second, "while it is dead").await;
    five.of(second).start();
    five.writes(second, third, "back again").await;
    let looking = *NAMES.iter().find(|name| **name != third && **name != second).unwrap();
    five.of(looking).kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    five.of(looking).start();
    // The hub of all dies, whoever it is by now.
    five.of("Ada").kill();
    asking.acts(&["Ada"], &five).await;
    five.writes("Dov", "Ada", "without a hub").await;
    // What is acknowledged here has to be true everywhere in the end.
    bob_gets_d(&five, "Cem").await;
    five.of("Ada").start();
    five.writes("Ada", "Eva", "the hub is back").await;
    all_know(&five, 3, |row| row.starts_with("bob ") && row.contains('D')).await;
    five.has_kept(&answered(calling, &five).await).await;
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
