//! The partyline with many sessions: how long words take to all of them, beside bare TCP in the same run, and the memory of
//! one session.
//!
//!     cargo bench --bench partyline                 500 sessions
//!     cargo bench --bench partyline -- 100 2000     so many sessions, so many lines

#![allow(missing_docs)]

#[path = "../tests/stories/resident.rs"]
mod resident;

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Action, How};
use masterchief::partyline::{NETWORK, Settings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use resident::resident;

/// Lines that are said before it is waited for all to have them: fewer than a session's queue holds.
const ROUND: u64 = 200;
/// Marks a line that counts.
const MARK: &str = "line-that-counts";
/// The variable by which a child is told the password.
const PASSWORD: &str = "MASTERCHIEF_BENCH_PASSWORD";

fn said(number: u64) -> String {
    format!("{MARK} {number:>6} {}", "x".repeat(60))
}

/// Counts the lines that count on one connection.
fn count(stream: TcpStream, counted: Arc<AtomicU64>) {
    tokio::spawn(async move {
        let mut lines = BufReader::with_capacity(16 * 1024, stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if !matches!(lines.read_until(b'\n', &mut line).await, Ok(count) if count > 0) {
                return;
            }
            if line.windows(MARK.len()).any(|part| part == MARK.as_bytes()) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

/// Waits until so many were counted.
async fn reaches(counted: &AtomicU64, wanted: u64) -> anyhow::Result<()> {
    let begin = Instant::now();
    while counted.load(Ordering::Relaxed) < wanted {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(120), "not all have heard all");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    Ok(())
}

/// The floor: one task that writes each line to every socket.
async fn bare(sessions: u64, lines: u64) -> anyhow::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (at, counted) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let mut ours = Vec::new();
    for _ in 0..sessions {
        let (there, here) = tokio::try_join!(TcpStream::connect(at), listener.accept())?;
        here.0.set_nodelay(true)?;
        ours.push(here.0);
        count(there, Arc::clone(&counted));
    }
    let begin = Instant::now();
    for first in (0..lines).step_by(usize::try_from(ROUND)?) {
        let round = ROUND.min(lines - first);
        for number in first..first + round {
            let line = format!(":chief!chief@bot PRIVMSG #partyline :{}\r\n", said(number));
            for stream in &mut ours {
                stream.write_all(line.as_bytes()).await?;
            }
        }
        reaches(&counted, (first + round) * sessions).await?;
    }
    Ok(begin.elapsed())
}

/// A bot whose partyline listens, and its own password.
async fn bot() -> anyhow::Result<(Started, SocketAddr, String)> {
    let settings = Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        sessions: 10_000,
        per_address: 10_000,
        ..Settings::default()
    };
    let bot = Bot::builder().partyline(settings).start().await?;
    let at = bot.partyline_at().0.ok_or_else(|| anyhow::anyhow!("the partyline does not listen"))?;
    let password = bot.partyline_password().map(|password| password.reveal().to_owned()).unwrap_or_default();
    Ok((bot, at, password))
}

/// Comes in as an IRC client; ready when it is in both places.
async fn enters(at: SocketAddr, password: &str, number: u64) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("PASS {password}\r\nNICK n{number}\r\nUSER n 0 * :n\r\n").as_bytes()).await?;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("#ops :End of NAMES") {
        let read = stream.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "not let in: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    Ok(stream)
}

async fn ours(sessions: u64, lines: u64) -> anyhow::Result<Duration> {
    let (bot, at, password) = bot().await?;
    let counted = Arc::new(AtomicU64::new(0));
    for number in 0..sessions {
        count(enters(at, &password, number).await?, Arc::clone(&counted));
    }
    let party = bot.party().clone();
    let begin = Instant::now();
    for first in (0..lines).step_by(usize::try_from(ROUND)?) {
        let round = ROUND.min(lines - first);
        for number in first..first + round {
            party.perform(Action::Say {
                network: NETWORK.to_owned(),
                target: "#partyline".to_owned(),
                text: said(number),
                how: How::Say,
                reply: false,
            })?;
        }
        reaches(&counted, (first + round) * sessions).await?;
    }
    let took = begin.elapsed();
    anyhow::ensure!(party.lost() == (0, 0), "somebody was let go: {:?}", party.lost());
    bot.stop("").await;
    Ok(took)
}

/// Resident memory of this process for one session, whose client is another process.
async fn memory(sessions: u64) -> anyhow::Result<u64> {
    let (bot, at, password) = bot().await?;
    // What the first one brings with it is everybody's.
    drop(enters(at, &password, sessions).await?);
    let before = resident();
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["sit", &at.to_string(), &sessions.to_string()])
        .env(PASSWORD, password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let ready = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no pipe"))?;
    let mut line = String::new();
    BufReader::new(ready).read_line(&mut line).await?;
    anyhow::ensure!(line.trim() == "ready", "the clients are not in");
    // What was made for coming in is given back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = resident();
    drop(child.stdin.take());
    child.wait().await?;
    bot.stop("").await;
    Ok(after.saturating_sub(before) * 1024 / sessions)
}

/// The child: sits there with so many sessions until its input ends.
async fn sit(at: SocketAddr, sessions: u64) -> anyhow::Result<()> {
    let (password, counted) = (std::env::var(PASSWORD)?, Arc::new(AtomicU64::new(0)));
    for number in 0..sessions {
        count(enters(at, &password, number).await?, Arc::clone(&counted));
    }
    println!("ready");
    tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new())).await??;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [sitting, at, sessions] = args.as_slice()
        && sitting == "sit"
    {
        return sit(at.parse()?, sessions.parse()?).await;
    }
    let number = |at: usize, otherwise: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(otherwise);
    let (sessions, lines) = (number(0, 500).max(1), number(1, 4000).max(1));
    let each = |took: Duration| took / u32::try_from(lines).unwrap_or(1);
    // First of all: what was allocated and given back would be used again, and count for nothing.
    let memory = memory(sessions).await?;
    let floor = bare(sessions, lines).await?;
    println!("bare TCP to {sessions} sockets         {:?} a line", each(floor));
    let took = ours(sessions, lines).await?;
    let ratio = took.as_secs_f64() / floor.as_secs_f64();
    println!("the partyline to {sessions} sessions   {:?} a line, {ratio:.2} times the floor", each(took));
    println!("memory of a session               {memory} bytes");
    Ok(())
}
