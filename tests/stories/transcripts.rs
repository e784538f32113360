//! The transcripts of `tests/transcripts`, played on a real server with services: people type their lines, and all that the bot says is
//! compared with what stands there, whole lines in their order and no others. What ships comes from a real repository; the clock moves by
//! hand, so that also times are the same each day.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use masterchief::bot::{Bot, Started};
use masterchief::contract::Clock;
use masterchief::irc::{ServerAddr, Settings as Network, Tls};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, Settings};
use masterchief::store::runs::Which;
use masterchief::users::User;
use regex::Regex;
use serde_json::{Map, json};

use super::acted::{Acted, humantime};
use super::channel::{BOT, comes};
use super::checkout::Origin;
use super::lab::Lab;
use super::person::Person;
use super::real::joined;
use super::terraform::path;

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What comes later than so long after the last line of a scene is found by the next.
const STILL: Duration = Duration::from_millis(200);
/// People of the channel, and what they may.
const PEOPLE: [(&str, &str); 4] = [("ana", "dDP"), ("raj", "dD"), ("kim", "d"), ("lee", "dP")];

/// What holes stand for.
type Known = BTreeMap<String, String>;

/// A line of a transcript.
#[derive(Debug)]
enum Line<'t> {
    /// Somebody types something in the channel.
    Typed(&'t str, &'t str),
    /// The bot says this in the channel.
    Said(&'t str),
    /// The bot tells somebody this.
    Told(&'t str, &'t str),
    /// Something happens that nobody says.
    Happens(&'t str),
}

fn line(line: &str) -> Line<'_> {
    if let Some(deed) = line.strip_prefix("-- ") {
        return Line::Happens(deed);
    }
    let inner = line.strip_prefix('<').unwrap_or_else(|| panic!("{line}"));
    match inner.split_once(" -> ").filter(|(who, _)| *who == "MC") {
        Some((_, rest)) => {
            let (to, words) = rest.split_once("> ").unwrap_or_else(|| panic!("{line}"));
            Line::Told(to, words)
        }
        None => match inner.split_once("> ").unwrap_or_else(|| panic!("{line}")) {
            ("MC", words) => Line::Said(words),
            (who, words) => Line::Typed(who, words),
        },
    }
}

/// What may stand in a hole of this name: `{n}` is a number, `{new:sha}` a commit.
fn hole(name: &str) -> (&str, &'static str) {
    match name.split_once(':') {
        None => (name, "[0-9]+"),
        Some((name, "sha")) => (name, "[0-9a-f]{7}"),
        Some((name, "code")) => (name, "[0-9a-f]{4}"),
        Some((_, kind)) => panic!("there is no hole for {kind}"),
    }
}

/// A line with what is known of its holes, as an expression for the whole of it, and the names of those that are not known yet.
fn pattern(line: &str, known: &Known) -> (Regex, Vec<String>) {
    let (mut out, mut names, mut rest) = ("^".to_owned(), Vec::new(), line);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or_else(|| panic!("a hole without an end: {line}"));
        out.push_str(&regex::escape(before));
        let (name, form) = hole(name);
        match known.get(name) {
            Some(value) => out.push_str(&regex::escape(value)),
            // That it is the same is looked at when it is known.
            None if names.iter().any(|one| one == name) => out.push_str("[0-9a-z]+"),
            None => {
                out.push_str(&format!("({form})"));
                names.push(name.to_owned());
            }
        }
        rest = after;
    }
    (Regex::new(&format!("{out}{}$", regex::escape(rest))).unwrap(), names)
}

fn filled(line: &str, known: &Known) -> String {
    known.iter().fold(line.to_owned(), |line, (name, value)| line.replace(&format!("{{{name}}}"), value))
}

/// A channel with people, a bot, and somebody who only listens.
struct Channel {
    bot: Started,
    clock: Clock,
    acted: Acted,
    people: BTreeMap<&'static str, Person>,
    eve: Person,
    /// How many lines were read: of the channel, and of what each person was told.
    read: BTreeMap<String, usize>,
    scene: String,
    known: Known,
}

impl Channel {
    /// What the bot said to a target so far, but for that it takes its time: that goes by the real clock. What keeps names from calling
    /// people is a dot.
    fn said(&self, to: &str) -> Vec<String> {
        let hears = self.people.get(to).unwrap_or(&self.eve);
        let all = hears.words_of(BOT).into_iter().filter(|(target, _)| target.eq_ignore_ascii_case(to));
        let slow = |words: &String| words.contains(": looking at the repository of ") && words.ends_with("; a moment.");
        all.map(|(_, words)| words.replace('\u{200b}', "·")).filter(|words| !slow(words)).collect()
    }

    /// The next line to a target is this one.
    async fn hears(&mut self, to: &str, wanted: &str) {
        let at = self.read.get(to).copied().unwrap_or(0);
        let start = Instant::now();
        let said = loop {
            if let Some(said) = self.said(to).into_iter().nth(at) {
                break said;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: nobody said to {to}\n  {wanted}\nwith {:?}; so far\n{:#?}",
                self.scene,
                self.known,
                self.said(to)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.read.insert(to.to_owned(), at + 1);
        let (form, names) = pattern(wanted, &self.known);
        let found = form.captures(&said);
        for (at, name) in names.into_iter().enumerate() {
            self.known.extend(found.as_ref().map(|found| (name, found[at + 1].to_owned())));
        }
        let is_it = found.is_some() && pattern(wanted, &self.known).0.is_match(&said);
        assert!(is_it, "{}: wanted\n  {wanted}\nand {to} heard\n  {said}\nwith {:?}", self.scene, self.known);
    }

    /// Waits until nothing happens any more before the clock is put on.
    async fn is_quiet(&self) {
        let pipelines = self.bot.pipelines();
        let start = Instant::now();
        loop {
            // Refused, and answered when all that was due is written.
            let asked = Asked { ask: Ask::Yes(0), who: Asker::program("test"), may: May::all() };
            assert!(pipelines.ask(asked).await.is_err());
            let mut busy = Vec::new();
            for (row, run) in pipelines.list(Which { limit: 4, ..Which::default() }).await.unwrap() {
                if run.state.active() {
                    let (_, stages) = pipelines.run(row.number).await.unwrap().unwrap();
                    let works = |name: &String| !self.acted.takes_its_time(row.number, name);
                    busy.extend(stages.into_iter().filter(|one| one.state.steps()).map(|one| one.name).filter(works));
                }
            }
            if busy.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{}: {busy:?} do not end", self.scene);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How far the clock is put on at once: where something comes soon by seconds, else further.
    fn step(&self, time: Duration) -> Duration {
        let soon = |due: DateTime<Utc>| due - self.clock.now() < chrono::Duration::seconds(20);
        Duration::from_secs(match time.as_secs() {
            0..1200 if self.acted.next().is_none_or(soon) => 1,
            0..1200 => 5,
            1200..7200 => 60,
            _ => 600,
        })
    }

    /// Time passes.
    async fn passes(&self, time: Duration) {
        let mut left = time;
        self.is_quiet().await;
        while left > Duration::ZERO {
            let now = left.min(self.step(time));
            self.clock.put_on(now);
            left -= now;
            self.is_quiet().await;
        }
    }

    async fn happens(&self, deed: &str) {
        if let Some((who, flags)) = deed.split_once(" has ") {
            self.bot.put_user(User::with_account(who, "lab", who, flags).unwrap()).await.unwrap();
            return;
        }
        if let Some(text) = deed.strip_prefix("alert ") {
            let fields = json!({"provider": "alertmanager", "event": "firing", "route": "alerts", "delivery": text});
            let alert = json!({"kind": "webhook", "lane": "alerts", "key": text, "text": text, "fields": fields});
            self.bot.happens(serde_json::from_value(alert).unwrap()).await.unwrap();
            return;
        }
        let now = self.clock.now();
        let Some((day, at)) = deed.split_once(' ') else { return self.passes(humantime(deed)).await };
        let is_it = |then: &DateTime<Utc>| then.format("%a %H:%M").to_string() == format!("{day} {at}");
        let minutes = (1..8 * 1440).map(|minutes| now + chrono::Duration::minutes(minutes));
        // Times of transcripts are whole minutes.
        let whole = |then: DateTime<Utc>| then - chrono::Duration::seconds(then.timestamp() % 60);
        let then = minutes.map(whole).find(is_it).unwrap_or_else(|| panic!("{deed} is no time"));
        self.passes((then - now).to_std().unwrap()).await;
    }

    async fn plays(&mut self, scene: &str) {
        self.scene = scene.to_owned();
        self.known.clear();
        let text = read(scene);
        for one in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(line) {
            match one {
                Line::Typed(who, words) => self.people[who].says("#ops", &filled(words, &self.known)),
                Line::Said(line) => self.hears("#ops", line).await,
                Line::Told(who, line) => self.hears(who, line).await,
                Line::Happens(deed) => self.happens(deed).await,
            }
        }
        self.is_quiet().await;
        tokio::time::sleep(STILL).await;
        let all = self.people.keys().map(|who| (*who).to_owned()).chain(["#ops".to_owned()]);
        for to in all {
            let more = self.said(&to).split_off(self.read.get(&to).copied().unwrap_or(0));
            assert!(more.is_empty(), "{scene}: and {to} heard {more:#?}");
        }
    }

    /// What was said so far is no part of any scene.
    async fn begins(&mut self) {
        tokio::time::sleep(STILL).await;
        for to in self.people.keys().copied().chain(["#ops"]) {
            self.read.insert(to.to_owned(), self.said(to).len());
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// A repository with a few versions; six commits of three people lie between two of them.
fn repository() -> Origin {
    let origin = Origin::new();
    origin.git(&["tag", "v2.40.2"]);
    origin.commit_by("raj", "Fewer queries for a cart", Some("v2.40.3"));
    for (author, subject) in [
        ("kim", "Empty carts"),
        ("raj", "Fewer queries"),
        ("ana", "Carts have totals"),
        ("raj", "Fewer still"),
        ("raj", "Migrate carts"),
    ] {
        if subject == "Migrate carts" {
            let folder = Path::new(&origin.path()).join("migrations");
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("0007_carts.sql"), subject).unwrap();
            origin.git(&["add", "migrations"]);
        }
        origin.commit_by(author, subject, None);
    }
    origin.commit_by("ana", "Totals are right", Some("v2.41.0"));
    origin.git(&["checkout", "--quiet", "-b", "next"]);
    origin.commit_by("kim", "Pay by card", None);
    origin.commit_by("kim", "Cards expire", Some("v2.41.1"));
    origin.git(&["checkout", "--quiet", "-b", "fix-cart"]);
    origin.commit_by("kim", "Mend the cart", None);
    origin.commit_by("kim", "Test the cart", None);
    origin.git(&["checkout", "--quiet", "next"]);
    origin.commit_by("raj", "Read STRIPE_KEY", Some("v2.41.2"));
    origin.git(&["checkout", "--quiet", "main"]);
    origin
}

/// The pipelines, their calendar, and what the double of OpenTofu is to plan.
fn files(dir: &Path, origin: &Origin) {
    for name in ["infra", "pipelines"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    let changes = json!([["create", "a.a"], ["create", "a.b"], ["create", "a.c"], ["update", "a.d"]]);
    std::fs::write(dir.join("infra/double.json"), json!({"changes": changes}).to_string()).unwrap();
    drop(path(dir));
    for name in ["shop.yaml", "ship-api.yaml", "ledger.yaml"] {
        let text = read(name).replace("{REPO}", &origin.path()).replace("{DIR}", &dir.display().to_string());
        std::fs::write(dir.join("pipelines").join(name), text).unwrap();
    }
    std::fs::write(dir.join("company.ics"), read("company.ics").replace('\n', "\r\n")).unwrap();
}

impl Channel {
    /// Everybody is there, on a Friday.
    async fn opens(lab: &Lab, dir: &Path) -> Channel {
        let clock = Clock::by_hand("2026-02-27T08:05:00Z".parse().unwrap());
        let acted = Acted::on(&clock);
        let mut people = BTreeMap::new();
        for (nick, _) in PEOPLE {
            people.insert(nick, comes(lab, nick).await);
        }
        let mut eve = Person::connect(lab.plain, "eve").await;
        eve.joins("#ops").await;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let groups = [("payments".to_owned(), names(&["lee"])), ("oncall".to_owned(), names(&["raj", "lee"]))].into();
        let link = Some("https://mc.example".to_owned());
        let settings =
            Settings { folder: dir.join("pipelines"), groups, link, digest: "never".to_owned(), ..Settings::default() };
        let network = Network {
            servers: vec![ServerAddr::new("127.0.0.1", lab.plain)],
            tls: Tls::off(),
            ..super::real::settings(lab, "#ops")
        };
        let bot =
            Bot::builder().network("lab", network).pipelines(settings).clock(clock.clone()).data(&dir.join("data"));
        // What is watched is acted, too.
        let bot = bot.executor("acted", acted.clone()).executor("verify", acted.clone());
        let bot = bot.supervisor(Path::new(env!("CARGO_BIN_EXE_masterchief"))).start().await.unwrap();
        for (nick, flags) in PEOPLE {
            bot.put_user(User::with_account(nick, "lab", nick, flags).unwrap()).await.unwrap();
        }
        joined(&bot, "#ops").await;
        let (read, known) = (BTreeMap::new(), Known::new());
        Channel { bot, clock, acted, people, eve, read, scene: "before".to_owned(), known }
    }

    /// What was there before: tests of which some failed, so that something can be foretold, and two versions, of which the newer was undone.
    async fn has_a_past(&self, origin: &Origin) {
        let ask = async |ask: Ask| {
            let asked = Asked { ask, who: Asker::program("test"), may: May::all() };
            self.bot.pipelines().ask(asked).await.unwrap()
        };
        // Of late those that change the database fail.
        let tests = "SSSSSSFSSSSSSSSSFFFSFFFFSFFF".repeat(3) + &"SSM".repeat(30) + &"S".repeat(14);
        for outcome in tests.chars() {
            let prepared = Prepared {
                app: "shop".to_owned(),
                environment: Some("dev".to_owned()),
                params: Map::from_iter([("broken".to_owned(), json!(u8::from(outcome != 'S')))]),
                files: Some(vec![if outcome == 'M' { "migrations/0001.sql" } else { "cart" }.to_owned()]),
                only: vec!["test".to_owned()],
                unattended: true,
                ..Prepared::default()
            };
            ask(Ask::Deploy(Box::new(prepared))).await;
            self.is_quiet().await;
            self.clock.put_on(humantime("2m10s"));
            self.is_quiet().await;
        }
        for version in ["v2.40.2", "v2.40.3"] {
            let prepared = Prepared {
                app: "shop".to_owned(),
                environment: Some("prod".to_owned()),
                reference: Some(version.to_owned()),
                version: version.to_owned(),
                sha: origin.git(&["rev-parse", version]),
                unattended: true,
                ..Prepared::default()
            };
            ask(Ask::Deploy(Box::new(prepared))).await;
            self.passes(humantime("11m")).await;
        }
        ask(Ask::RollbackPlace("shop".to_owned(), "prod".to_owned(), None)).await;
        self.passes(humantime("1m")).await;
        ask(Ask::Unlock("shop/prod".to_owned(), None)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_are_played_line_by_line_in_a_channel_of_a_real_server() {
    let (lab, dir, origin) = (Lab::with_services().await, tempfile::tempdir().unwrap(), repository());
    files(dir.path(), &origin);
    let mut channel = Channel::opens(&lab, dir.path()).await;
    channel.has_a_past(&origin).await;
    channel.begins().await;
    let mut scenes: Vec<String> =
        std::fs::read_dir(folder()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    scenes.retain(|name| name.ends_with(".txt"));
    scenes.sort();
    assert_eq!(scenes.len(), 11);
    for scene in scenes {
        channel.plays(&scene).await;
    }
    channel.bot.stop("").await;
}

#[test]
fn a_transcript_is_whole_lines_with_holes_that_mean_the_same_from_then_on() {
    let mut known = Known::new();
    let (wanted, names) = pattern("[{n}] shop ({new:sha}) -> prod.", &known);
    assert_eq!(names, ["n", "new"]);
    assert!(wanted.is_match("[118] shop (9f3c1e2) -> prod."));
    for other in ["[118] shop (9f3c1e2) -> prod. More", "[118] shop (main) -> prod.", "> [118] shop (9f3c1e2) -> prod."]
    {
        assert!(!wanted.is_match(other), "{other}");
    }
    known.insert("n".to_owned(), "118".to_owned());
    assert!(!pattern("!yes {n}", &known).0.is_match("!yes 119"));
    assert_eq!(filled("!yes {n}", &known), "!yes 118");
    assert!(matches!(line("<MC -> raj> hi"), Line::Told("raj", "hi")));
    assert!(matches!(line("<MC> shop -> prod: v1"), Line::Said("shop -> prod: v1")));
    assert!(matches!(line("<ana> !yes {n}"), Line::Typed("ana", "!yes {n}")));
}
