//! The transcripts of `tests/transcripts`, played on a real server with services: people type their lines, and what the bot says is compared
//! line by line, whole lines and no others. What ships comes from a real repository.

use std::collections::BTreeMap;
use std::path::Path;

use masterchief::bot::{Bot, Started};
use masterchief::contract::Clock;
use masterchief::irc::{ServerAddr, Settings as Network, Tls};
use masterchief::pipelines::Settings;
use masterchief::users::User;
use regex::Regex;
use serde_json::json;

use super::acted::Acted;
use super::channel::{BOT, People};
use super::checkout::Origin;
use super::lab::Lab;
use super::person::{Heard, Person};
use super::real::joined;
use super::terraform::path;

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
}

fn line(line: &str) -> Line<'_> {
    let (who, words) = line.trim_start_matches('<').split_once("> ").unwrap_or_else(|| panic!("{line}"));
    // `<chief -> raj>` has an arrow in it.
    match (who.strip_suffix(" -"), words.split_once("> ")) {
        (Some(_), Some((to, words))) => Line::Told(to, words),
        _ if who == BOT => Line::Said(words),
        _ => Line::Typed(who, words),
    }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(line).collect()
}

/// A line with what is known of its holes, as an expression for the whole of it, and the names of those that are not known yet.
fn pattern(line: &str, known: &Known) -> (Regex, Vec<String>) {
    let (mut out, mut names, mut rest) = ("^".to_owned(), Vec::new(), line);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or_else(|| panic!("a hole without an end: {line}"));
        out.push_str(&regex::escape(before));
        match (name, known.get(name)) {
            ("_", _) => out.push_str(".+?"),
            ("*", _) => out.push_str(".*?"),
            (_, Some(value)) => out.push_str(&regex::escape(value)),
            // Within one line it may stand twice.
            (name, None) if names.iter().any(|one| one == name) => out.push_str(".+?"),
            (name, None) => {
                out.push_str("(.+?)");
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

/// The next words of the bot to a channel or to somebody.
async fn next(person: &mut Person, to: &str) -> String {
    let to = to.to_owned();
    let wanted = move |line: &Heard| {
        let said = matches!(line.command.as_str(), "PRIVMSG" | "NOTICE") && line.from == BOT;
        said && line.params.first().is_some_and(|target| target.eq_ignore_ascii_case(&to))
    };
    let heard = person.waits(wanted).await;
    heard.params.last().map(|words| words.replace('\u{200b}', "")).unwrap_or_default()
}

fn fits(scene: &str, line: &str, said: &str, known: &mut Known) {
    let (wanted, names) = pattern(line, known);
    let found = wanted
        .captures(said)
        .unwrap_or_else(|| panic!("{scene}: wanted\n  {line}\nand the bot said\n  {said}\nwith {known:?}"));
    for (at, name) in names.into_iter().enumerate() {
        known.insert(name, found[at + 1].to_owned());
    }
    // What stands twice in a line is the same twice.
    assert!(pattern(line, known).0.is_match(said), "{scene}: {line}\n{said}\n{known:?}");
}

async fn play(scene: &str, text: &str, people: &mut People) {
    let mut known = Known::new();
    for line in lines(text) {
        match line {
            Line::Typed(who, words) => people.named(who).says("#ops", &filled(words, &known)),
            Line::Said(line) => {
                let said = next(&mut people.lee, "#ops").await;
                fits(scene, line, &said, &mut known);
            }
            Line::Told(who, line) => {
                let said = next(people.named(who), who).await;
                fits(scene, line, &said, &mut known);
            }
        }
    }
}

/// A repository with three versions and six commits by three people between the first two.
fn repository() -> Origin {
    let origin = Origin::new();
    origin.git(&["tag", "v2.40.3"]);
    for (author, subject) in [
        ("ana", "Carts have totals"),
        ("raj", "Fewer queries"),
        ("ana", "Totals are right"),
        ("raj", "Fewer still"),
        ("ana", "A test of totals"),
        ("kim", "Empty carts"),
    ] {
        origin.commit_as(author, "a", subject, subject);
    }
    origin.git(&["tag", "v2.41.0"]);
    origin.git(&["branch", "next"]);
    origin.git(&["checkout", "--quiet", "next"]);
    origin.commit_as("kim", "a", "nothing", "Empty carts cost nothing");
    origin.git(&["tag", "v2.41.1"]);
    origin.git(&["checkout", "--quiet", "main"]);
    origin
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name)).unwrap()
}

async fn started(lab: &Lab, dir: &Path, origin: &Origin) -> Started {
    let changes = json!([["create", "a.a"], ["create", "a.b"], ["create", "a.c"], ["update", "a.d"]]);
    std::fs::create_dir_all(dir.join("infra")).unwrap();
    std::fs::write(dir.join("infra/double.json"), json!({"changes": changes}).to_string()).unwrap();
    drop(path(dir));
    let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let groups = [("payments".to_owned(), group(&["lee"])), ("oncall".to_owned(), group(&["raj", "lee"]))].into();
    let link = Some("https://mc.example".to_owned());
    let settings = Settings { folder: "".into(), groups, link, ..Settings::default() };
    let network = Network {
        servers: vec![ServerAddr::new("127.0.0.1", lab.plain)],
        tls: Tls::off(),
        ..super::real::settings(lab, "#ops")
    };
    let bot = Bot::builder().network("lab", network).executor("acted", Acted::default()).pipelines(settings);
    let bot = bot.supervisor(Path::new(env!("CARGO_BIN_EXE_masterchief"))).data(&dir.join("data"));
    // A Monday, shortly before the window opens.
    let bot = bot.clock(Clock::starting("2026-03-02T07:59:40Z".parse().unwrap())).start().await.unwrap();
    let ledger = read("ledger.yaml").replace("{DIR}", &dir.display().to_string());
    for (name, text) in [("shop", read("shop.yaml").replace("{REPO}", &origin.path())), ("ledger", ledger)] {
        bot.put_pipeline(name, &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    }
    for (nick, flags) in [("ana", "dD"), ("raj", "dD"), ("kim", "d"), ("lee", "dD")] {
        bot.put_user(User::with_account(nick, "lab", nick, flags).unwrap()).await.unwrap();
    }
    joined(&bot, "#ops").await;
    bot
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_are_played_line_by_line_in_a_channel_of_a_real_server() {
    let (lab, dir, origin) = (Lab::with_services().await, tempfile::tempdir().unwrap(), repository());
    let mut people = People::come(&lab).await;
    let bot = started(&lab, dir.path(), &origin).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut scenes: Vec<String> =
        std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    scenes.retain(|name| name.ends_with(".txt"));
    scenes.sort();
    assert_eq!(scenes.len(), 11);
    for scene in scenes {
        play(&scene, &read(&scene), &mut people).await;
    }
    bot.stop("").await;
}
