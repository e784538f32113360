//! A linked bot that wishes us no good, on a real socket beside an honest one: it costs the honest one, and people who log in, nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Event;
use masterchief::mesh::{Attribute, BOT, BotSettings, number};
use masterchief::partyline;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::partyline::{Typist, knows};
use super::servers::free_port;

/// How long it goes on.
const FLOOD: Duration = Duration::from_secs(6);
/// People that may be behind one link.
const PEOPLE: usize = 10_000;
/// How long a call or a login may take beside it.
const SOON: Duration = Duration::from_secs(20);

/// Logs in as a bot that may link once without a password.
pub(crate) async fn evil(port: u16) -> BufReader<TcpStream> {
    let mut evil = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    for (says, hears) in [("Evil\n", "passreq"), ("-\n", "*hello!")] {
        evil.write_all(says.as_bytes()).await.unwrap();
        let mut line = String::new();
        while !line.starts_with(hears) {
            line.clear();
            assert!(evil.read_line(&mut line).await.unwrap() > 0, "it closed before {hears}");
        }
    }
    evil.write_all(b"version 1080404 32 eggdrop\ntb Evil\nel\n").await.unwrap();
    evil
}

/// Whatever makes others work: messages for all, questions to all, names that change, and people who come in crowds.
fn noise(number: u32) -> String {
    let sock = number::encode(number % 1000 + 1);
    format!(
        "zb Evil noise {number} {}\ni? {sock}:mallory@Evil\nw {sock}:mallory@Evil Two A\nnc Evil {sock} m{number}\nt {sock}:mallory@Evil Two :0:Evil\n",
        "x".repeat(200)
    )
}

fn joins(number: u32) -> String {
    format!("j Evil m{number} A *{} u@h\n", number::encode(number))
}

/// Says noise until it is over, and then brings as many people as there are places for all links together.
async fn floods(mut says: OwnedWriteHalf, over: Arc<AtomicBool>, counted: Arc<AtomicU64>) -> OwnedWriteHalf {
    // Those first who change their names later.
    for number in 1..=1000 {
        says.write_all(joins(number).as_bytes()).await.unwrap();
    }
    for number in 0.. {
        if over.load(Ordering::Relaxed) || says.write_all(noise(number).as_bytes()).await.is_err() {
            break;
        }
        counted.fetch_add(5, Ordering::Relaxed);
    }
    for number in 1..=20_000 {
        // For so many it may be let go.
        if says.write_all(joins(number).as_bytes()).await.is_err() {
            break;
        }
    }
    says
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_floods_us_holds_up_neither_an_honest_one_nor_people_who_log_in() {
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let stranger = BotSettings { insecure: true, first_link: true, ..BotSettings::default() };
    let mut known = named("Chief", Some(port), &[("Two", caller()), ("Evil", stranger)]);
    known.listen = Some(([127, 0, 0, 1], 0).into());
    let inside = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let echo = |ev: Event| async move { ev.text().to_owned() };
    let builder = Bot::builder().partyline(inside).bind(BOT, "-|-", "echo", echo).unwrap();
    let chief = Chief::of(builder, folders[0].path(), known).await;
    let two = Chief::start(folders[1].path(), named("Two", None, &[("Chief", called(port, Attribute::Hub))])).await;
    two.sees("Chief").await;
    chief.sees("Two").await;
    knows(&chief.bot, "alice", "p").await;
    let since = two.mesh.view().links[0].peer.since;
    let at = chief.bot.partyline_at().0.unwrap();
    // It reads what it is told, or it would be let go for that.
    let (mut hears, says) = evil(chief.mesh.ports()[0].unwrap().port()).await.into_inner().into_split();
    chief.sees("Evil").await;
    tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        while hears.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    });
    let (ends, said) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
    let (over, counted) = (Arc::clone(&ends), Arc::clone(&said));
    let flood = tokio::spawn(floods(says, over, counted));
    let (begun, mut slowest, mut number) = (Instant::now(), Duration::ZERO, 0);
    while begun.elapsed() < FLOOD {
        number += 1;
        let asked = Instant::now();
        let answer = two.mesh.call("Chief", "echo", &number.to_string(), SOON).await;
        assert_eq!(answer, Ok(number.to_string()), "after {} lines", said.load(Ordering::Relaxed));
        let mut alice = Typist::logs_in(at, "alice").await;
        alice.types(".whoami").await;
        alice.reads("You are alice").await;
        slowest = slowest.max(asked.elapsed());
    }
    ends.store(true, Ordering::Relaxed);
    let lines = said.load(Ordering::Relaxed);
    let _says = tokio::time::timeout(Duration::from_secs(60), flood).await.unwrap().unwrap();
    println!("{lines} lines of Evil; {number} rounds of an honest bot and a person, the slowest {slowest:?}");
    assert!(lines > 5000, "only {lines} lines: no flood");
    assert!(slowest < SOON, "a round took {slowest:?}");
    // The crowd is no larger than one link may bring, and the honest link is the one it was.
    let answer = two.mesh.call("Chief", "echo", "still there", SOON).await;
    assert_eq!(answer, Ok("still there".to_owned()));
    let of_evil = chief.mesh.view().members.iter().filter(|member| member.bot.as_str() == "Evil").count();
    assert!(of_evil <= PEOPLE, "{of_evil} people of Evil");
    assert_eq!(two.mesh.view().links[0].peer.since, since, "the link was made anew");
    for chief in [two, chief] {
        chief.bot.stop("").await;
    }
}
