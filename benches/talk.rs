//! What is said on a network, both ways, over loopback TCP; each beside its floor, in one run:
//!
//! - lines of a channel, one in a hundred of them a command that is answered, with 10 binds and with 10,000;
//! - how long an answer takes while 2,000 lines a second come in, beside a client that reads lines and echoes the commands;
//! - what it costs that each line of ours is on account and on disk, beside a queue that keeps no account, and that a page is on the disk
//!   before it is queued, beside the same bytes written and synced.
//!
//! `cargo bench --bench talk [-- LINES SECONDS]`: a million lines and a minute of load where nothing is said.

#![allow(missing_docs)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Action, Class, Clock, Event, How, Kind, Mark, Outlet, inlet};
use masterchief::irc::decode::LineReader;
use masterchief::irc::message::Message;
use masterchief::irc::{
    Channel, NetDial, Network, Nobody, PaceSettings, PingSettings, Policies, ServerAddr, Settings, Tls,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// One in so many lines is a command.
const ONE_IN: usize = 100;
/// Lines on their way to the bot; fewer than its street has room for, so that none is dropped.
const AHEAD: usize = 800;
/// Lines a second under load.
const RATE: usize = 2_000;
/// Lines that the bot says to see what an account costs.
const SAID: usize = 20_000;
/// Pages, each of which is on the disk before the next is said.
const PAGES: usize = 500;
/// How often that is measured; the best counts.
const TIMES: usize = 3;

/// The server's end of a connection.
struct Wire {
    read: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Wire {
    /// Takes the next connection in and its bot into the channel.
    async fn accept(listener: &TcpListener) -> io::Result<Wire> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let mut wire = Wire { read: BufReader::new(read).lines(), write };
        wire.hears("USER").await?;
        wire.says(
            ":s CAP * LS :\r\n:s 001 chief :Welcome chief!c@host\r\n:s 005 chief CHANTYPES=# :x\r\n:s 422 chief :x\r\n",
        )
        .await?;
        wire.hears("JOIN #ops").await?;
        wire.says(":chief!c@host JOIN #ops\r\n:s 366 chief #ops :End\r\n").await?;
        Ok(wire)
    }

    async fn says(&mut self, text: &str) -> io::Result<()> {
        self.write.write_all(text.as_bytes()).await
    }

    /// The next line that has this in it. A PING is answered.
    async fn hears(&mut self, wanted: &str) -> io::Result<String> {
        loop {
            let line = self.read.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if let Some(token) = line.strip_prefix("PING ") {
                self.says(&format!(":s PONG s :{token}\r\n")).await?;
            }
            if line.contains(wanted) {
                return Ok(line);
            }
        }
    }
}

fn settings(listener: &TcpListener) -> io::Result<Settings> {
    Ok(Settings {
        tls: Tls::off(),
        channels: vec![Channel { name: "#ops".to_owned(), key: None }],
        pace: PaceSettings { burst: 1, interval: Duration::ZERO },
        // Whoever measures may be slow.
        ping: PingSettings { after: Duration::from_secs(600), timeout: Duration::from_secs(600) },
        ..Settings::new(vec![ServerAddr::new("127.0.0.1", listener.local_addr()?.port())])
    })
}

/// A bot with so many commands.
async fn bot(listener: &TcpListener, binds: usize) -> anyhow::Result<(Started, Wire)> {
    let mut builder = Bot::builder().network("bench", settings(listener)?);
    for n in 0..binds {
        let answer = |ev: Event| async move { format!("did {}", ev.text()) };
        builder = builder.bind(Kind::Pub, "-|-", &format!("!command{n}"), answer)?;
    }
    let started = builder.start().await?;
    Ok((started, Wire::accept(listener).await?))
}

/// The line with this number.
fn line(n: usize) -> String {
    if n.is_multiple_of(ONE_IN) {
        format!(":alice!a@h.example.net PRIVMSG #ops :!command7 trip-{n}.\r\n")
    } else {
        format!(":bob!b@h.example.net PRIVMSG #ops :just people talking about the weather of day {n}\r\n")
    }
}

/// The floor: lines and words, and nothing made of them.
fn floor(lines: usize) -> Duration {
    let (mut took, mut reader, mut seen) = (Duration::ZERO, LineReader::default(), 0);
    for part in (0..lines).collect::<Vec<_>>().chunks(AHEAD) {
        let bytes: String = part.iter().map(|n| line(*n)).collect();
        let start = Instant::now();
        reader.feed(bytes.as_bytes());
        while let Some(line) = reader.next_line() {
            seen += usize::from(Message::parse(&line).is_ok());
        }
        took += start.elapsed();
    }
    assert_eq!(seen, lines, "all of them are lines");
    took
}

/// So many lines through a bot; every command is answered, and no line dropped.
async fn through(listener: &TcpListener, binds: usize, lines: usize) -> anyhow::Result<Duration> {
    let (started, mut wire) = bot(listener, binds).await?;
    let start = Instant::now();
    let half = AHEAD / 2;
    for first in (0..lines).step_by(half) {
        let text: String = (first..lines.min(first + half)).map(line).collect();
        wire.says(&text).await?;
        // What was sent before this has gone through when its last command is answered.
        if let Some(before) = first.checked_sub(half) {
            wire.hears(&format!("trip-{}.", before + half - ONE_IN)).await?;
        }
    }
    wire.hears(&format!("trip-{}.", (lines - 1) / ONE_IN * ONE_IN)).await?;
    let took = start.elapsed();
    let status = started.status().await;
    anyhow::ensure!(status.networks[0].dropped == 0, "{} lines were dropped", status.networks[0].dropped);
    drop(wire);
    started.stop("").await;
    Ok(took)
}

async fn throughput(listener: &TcpListener, lines: usize) -> anyhow::Result<()> {
    let bare = floor(lines);
    let few = through(listener, 10, lines).await?;
    let many = through(listener, 10_000, lines).await?;
    let rate = |took: Duration| lines as f64 / took.as_secs_f64();
    let over = |took: Duration| took.as_secs_f64() / bare.as_secs_f64();
    println!("{lines} lines of a channel, 1 in {ONE_IN} a command that is answered");
    println!("floor: lines parsed   {bare:>10.2?}   {:>9.0} lines/s", rate(bare));
    println!("with 10 binds         {few:>10.2?}   {:>9.0} lines/s   {:.1} times the floor", rate(few), over(few));
    println!("with 10,000 binds     {many:>10.2?}   {:>9.0} lines/s   {:.1} times the floor", rate(many), over(many));
    println!("10,000 binds to 10    {:.2}", many.as_secs_f64() / few.as_secs_f64());
    Ok(())
}

/// The floor: a client that says again what is a command, and does nothing else.
async fn echo(addr: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read).lines();
    while let Some(line) = read.next_line().await? {
        if let Some((_, words)) = line.split_once(":!command7 ") {
            write.write_all(format!("PRIVMSG #ops :did {words}\r\n").as_bytes()).await?;
        }
    }
    Ok(())
}

/// How long the bare client takes.
async fn bare_latency(listener: &TcpListener, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let client = tokio::spawn(echo(listener.local_addr()?));
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let times = answered(Wire { read: BufReader::new(read).lines(), write }, seconds).await?;
    client.await??;
    Ok(times)
}

/// How long a bot with so many binds takes.
async fn latency(listener: &TcpListener, binds: usize, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let (started, wire) = bot(listener, binds).await?;
    let times = answered(wire, seconds).await?;
    started.stop("").await;
    Ok(times)
}

/// How long answers take, in order, while lines come in at [`RATE`].
async fn answered(wire: Wire, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let Wire { mut read, mut write } = wire;
    let total = RATE * usize::try_from(seconds)?;
    let (told, mut sent) = tokio::sync::mpsc::channel::<Instant>(RATE);
    let reading = tokio::spawn(async move {
        let mut times = Vec::with_capacity(total / ONE_IN);
        while times.len() < total / ONE_IN {
            let Some(line) = read.next_line().await? else { break };
            if line.contains("trip-") {
                let Some(at) = sent.recv().await else { break };
                times.push(at.elapsed());
            }
        }
        io::Result::Ok(times)
    });
    let begun = Instant::now();
    for n in 0..total {
        if n.is_multiple_of(ONE_IN) {
            // Whoever reads may have given up.
            let _ = told.try_send(Instant::now());
        }
        write.write_all(line(n).as_bytes()).await?;
        // Every 10 ms what is due by then.
        if (n + 1).is_multiple_of(RATE / 100) {
            let due = Duration::from_secs_f64((n + 1) as f64 / RATE as f64);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    let mut times = tokio::time::timeout(Duration::from_secs(30), reading).await???;
    anyhow::ensure!(times.len() == total / ONE_IN, "{} of {} answers came", times.len(), total / ONE_IN);
    times.sort();
    Ok(times)
}

/// Says how long answers took, beside the floor.
fn tell(who: &str, times: &[Duration], bare: &[Duration]) {
    let over = |share| at(times, share).as_secs_f64() / at(bare, share).as_secs_f64();
    println!(
        "{who}: p50 {:.2?} ({:.1} times the floor), p99 {:.2?} ({:.1} times), the longest of {} {:.2?}",
        at(times, 0.5),
        over(0.5),
        at(times, 0.99),
        over(0.99),
        times.len(),
        at(times, 1.0)
    );
}

/// The floor of a page: its bytes at the end of a file, synced.
fn synced() -> anyhow::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::with_capacity(PAGES);
    for n in 0..PAGES {
        let start = Instant::now();
        writeln!(file, "page {n}.")?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

fn say(class: Class, text: String) -> Action {
    let (network, target) = (String::new(), "#ops".to_owned());
    Action::Say { network, target, text, how: How::Say, reply: false }
        .marked(Mark { class: Some(class), ..Mark::default() })
}

/// Says lines; gives how long it took until the server had all of them.
async fn said(outlet: &Arc<dyn Outlet>, wire: &mut Wire) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let outlet = Arc::clone(outlet);
    let saying = tokio::spawn(async move {
        for n in 0..SAID {
            outlet.perform(say(Class::Chatter, format!("line {n}."))).await?;
        }
        Ok::<_, masterchief::contract::Refused>(())
    });
    wire.hears(&format!("line {}.", SAID - 1)).await?;
    let took = start.elapsed();
    saying.await??;
    Ok(took)
}

/// A queue that keeps no account.
struct Plain(Network);

impl Outlet for Plain {
    fn perform(&self, action: Action) -> masterchief::contract::Future<Result<(), masterchief::contract::Refused>> {
        let network = self.0.clone();
        Box::pin(async move { network.perform(action).await })
    }
}

async fn plain(listener: &TcpListener) -> anyhow::Result<Duration> {
    let (inlet, mut street) = inlet(1024);
    tokio::spawn(async move { while street.recv().await.is_some() {} });
    let (network, task) = Network::start(
        "bench",
        settings(listener)?,
        Arc::new(NetDial),
        inlet,
        Clock::system(),
        Policies::memory(),
        Arc::new(Nobody),
    );
    let mut wire = Wire::accept(listener).await?;
    let outlet: Arc<dyn Outlet> = Arc::new(Plain(network.clone()));
    let took = said(&outlet, &mut wire).await?;
    drop(wire);
    network.disconnect("");
    task.await?;
    Ok(took)
}

/// With an account: in memory, or on the disk. Also how long a page takes to be on it.
async fn accounted(listener: &TcpListener, disk: bool) -> anyhow::Result<(Duration, Vec<Duration>)> {
    let folder = tempfile::tempdir()?;
    let builder = Bot::builder().network("bench", settings(listener)?);
    let builder = if disk { builder.data(folder.path()) } else { builder };
    let started = builder.start().await?;
    let mut wire = Wire::accept(listener).await?;
    let outlet = started.outlet();
    let took = said(&outlet, &mut wire).await?;
    let mut pages = Vec::with_capacity(PAGES);
    for n in 0..PAGES {
        let start = Instant::now();
        outlet.perform(say(Class::Page, format!("page {n}."))).await?;
        pages.push(start.elapsed());
    }
    wire.hears(&format!("page {}.", PAGES - 1)).await?;
    pages.sort();
    drop(wire);
    started.stop("").await;
    Ok((took, pages))
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn account(listener: &TcpListener) -> anyhow::Result<()> {
    let (mut bare, mut memory, mut disk, mut pages) = (Duration::MAX, Duration::MAX, Duration::MAX, Vec::new());
    for _ in 0..TIMES {
        bare = bare.min(plain(listener).await?);
        memory = memory.min(accounted(listener, false).await?.0);
        let (took, written) = accounted(listener, true).await?;
        (disk, pages) = (disk.min(took), written);
    }
    let rate = |took: Duration| SAID as f64 / took.as_secs_f64();
    let over = |took: Duration| took.as_secs_f64() / bare.as_secs_f64();
    println!("{SAID} lines said");
    println!("floor: no account      {bare:>10.2?}   {:>9.0} lines/s", rate(bare));
    println!(
        "an account in memory   {memory:>10.2?}   {:>9.0} lines/s   {:.2} times the floor",
        rate(memory),
        over(memory)
    );
    println!("an account on the disk {disk:>10.2?}   {:>9.0} lines/s   {:.2} times the floor", rate(disk), over(disk));
    let bare = synced()?;
    println!("floor: {PAGES} lines written and synced: p50 {:.2?}, p99 {:.2?}", at(&bare, 0.5), at(&bare, 0.99));
    tell("a page, on the disk before it is queued", &pages, &bare);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize, otherwise: usize| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(otherwise);
    // Whole batches, so that each ends with a command that is answered.
    let lines = number(0, 1_000_000).div_ceil(AHEAD) * AHEAD;
    let seconds = number(1, 60) as u64;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    throughput(&listener, lines).await?;
    let bare = bare_latency(&listener, seconds).await?;
    println!(
        "an answer under {RATE} lines/s; floor, a bare echo: p50 {:.2?}, p99 {:.2?}",
        at(&bare, 0.5),
        at(&bare, 0.99)
    );
    for binds in [10, 10_000] {
        tell(&format!("with {binds} binds"), &latency(&listener, binds, seconds).await?, &bare);
    }
    account(&listener).await
}
