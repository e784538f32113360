//! A round trip over loopback TCP: a line to the bot and its answer, beside the floor: the same bytes through a bare
//! echo client. Also the load: how many lines a second are answered, with reloads, for as long as is said.
//!
//!     cargo bench --bench roundtrip                       the comparison
//!     cargo bench --bench roundtrip -- soak 60 2000       a minute at 2,000 lines a second

#![allow(missing_docs)]

#[path = "../tests/stories/resident.rs"]
mod resident;

use std::io;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Event, Kind};
use masterchief::irc::{Channel, PaceSettings, ServerAddr, Settings, Tls};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use resident::resident;

/// Round trips measured of each.
const TRIPS: usize = 20_000;

/// The server's end of a connection.
struct Wire {
    read: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Wire {
    async fn says(&mut self, line: &str) -> io::Result<()> {
        self.write.write_all(line.as_bytes()).await
    }

    /// The next line that has this in it.
    async fn hears(&mut self, wanted: &str) -> io::Result<String> {
        loop {
            match self.read.next_line().await? {
                Some(line) if line.contains(wanted) => return Ok(line),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<Wire> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok(Wire { read: BufReader::new(read).lines(), write })
}

/// A bot that is registered with us and in #ops.
async fn bot(listener: &TcpListener, scripts: Option<&std::path::Path>) -> anyhow::Result<(Started, Wire)> {
    let server = ServerAddr::new("127.0.0.1", listener.local_addr()?.port());
    let settings = Settings {
        tls: Tls::off(),
        channels: vec![Channel { name: "#ops".to_owned(), key: None }],
        pace: PaceSettings { burst: 1, interval: Duration::ZERO },
        ..Settings::new(vec![server])
    };
    let mut builder = Bot::builder().network("bench", settings);
    builder = builder.bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.text()) })?;
    if let Some(folder) = scripts {
        builder = builder.scripts(folder);
    }
    let started = builder.start().await?;
    let mut wire = accept(listener).await?;
    wire.hears("USER").await?;
    wire.says(":s CAP * LS :message-tags\r\n").await?;
    wire.hears("CAP REQ").await?;
    wire.says(":s CAP * ACK :message-tags\r\n").await?;
    wire.hears("CAP END").await?;
    wire.says(
        ":s 001 chief :Welcome chief!c@host\r\n:s 005 chief CHANTYPES=# :are supported\r\n:s 422 chief :No MOTD\r\n",
    )
    .await?;
    wire.hears("JOIN #ops").await?;
    wire.says(":chief!c@host JOIN #ops\r\n:s 366 chief #ops :End\r\n").await?;
    Ok((started, wire))
}

/// The middle of many round trips.
async fn trips(wire: &mut Wire, ask: impl Fn(usize) -> String) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(TRIPS);
    for n in 0..TRIPS {
        let line = ask(n);
        let wanted = format!("trip-{n}.");
        let start = Instant::now();
        wire.says(&line).await?;
        wire.hears(&wanted).await?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

async fn compare() -> anyhow::Result<()> {
    let ask = |n| format!(":alice!a@h PRIVMSG #ops :!hello trip-{n}.\r\n");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let echo = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            write.write_all(format!("{line}\r\n").as_bytes()).await?;
        }
        io::Result::Ok(())
    });
    let mut wire = accept(&listener).await?;
    trips(&mut wire, ask).await?;
    let floor = trips(&mut wire, ask).await?;
    drop(wire);
    echo.await??;
    let (started, mut wire) = bot(&listener, None).await?;
    trips(&mut wire, ask).await?;
    let ours = trips(&mut wire, ask).await?;
    println!("floor: echo client   p50 {floor:?}");
    println!("the bot, in Rust     p50 {ours:?}   {:.2} times the floor", ours.as_secs_f64() / floor.as_secs_f64());
    drop(wire);
    started.stop("").await;
    Ok(())
}

/// `rate` lines a second for `seconds`, a script reloaded every second: every line must be answered once.
async fn soak(seconds: u64, rate: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let script =
        |n: u64| format!("local n = {n}\nbot.bind('pub', '-|-', '!lua', function(ev) return 'hi ' .. ev.text end)\n");
    std::fs::write(folder.path().join("soak.lua"), script(0))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (started, wire) = bot(&listener, Some(folder.path())).await?;
    let Wire { mut read, mut write } = wire;
    let total = seconds * rate;
    let counting = tokio::spawn(async move {
        let mut seen = vec![0u8; total as usize];
        let mut left = total;
        while left > 0 {
            let Some(line) = read.next_line().await? else { break };
            let number =
                line.rsplit_once("trip-").and_then(|(_, rest)| rest.trim_end_matches('.').parse::<usize>().ok());
            if let Some(count) = number.and_then(|number| seen.get_mut(number)) {
                *count += 1;
                left -= u64::from(*count == 1);
            }
        }
        io::Result::Ok(seen)
    });
    let (mut sent, start) = (0, Instant::now());
    let mut memory = Vec::new();
    for second in 0..seconds {
        for part in 0..20 {
            for _ in 0..rate / 20 {
                let word = if sent % 2 == 0 { "!hello" } else { "!lua" };
                write.write_all(format!(":alice!a@h PRIVMSG #ops :{word} trip-{sent}.\r\n").as_bytes()).await?;
                sent += 1;
            }
            let due = Duration::from_millis(second * 1000 + part * 50 + 50);
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        }
        std::fs::write(folder.path().join("soak.lua"), script(second + 1))?;
        started.reload_scripts().await;
        memory.push(resident());
    }
    let seen = tokio::time::timeout(Duration::from_secs(20), counting).await???;
    let sent = sent as usize;
    let lost = seen[..sent].iter().filter(|count| **count == 0).count();
    let twice = seen[..sent].iter().filter(|count| **count > 1).count();
    let (early, late) = (memory.get(memory.len() / 4), memory.last());
    println!("{sent} lines in {seconds} s with {seconds} reloads: {lost} unanswered, {twice} answered twice");
    println!("resident: {early:?} KiB after a quarter, {late:?} KiB at the end");
    started.stop("").await;
    anyhow::ensure!(lost == 0 && twice == 0, "not every line was answered once");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    match args.first().map(String::as_str) {
        Some("soak") => {
            let number = |at: usize, otherwise: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(otherwise);
            soak(number(1, 60), number(2, 2000)).await
        }
        _ => compare().await,
    }
}
