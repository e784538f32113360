//! A channel of 10,000: what NAMES and WHO tell of them becomes the picture of the channel, beside the floor, which is the same bytes
//! read as lines and parsed. Both in one run.
//!
//!     cargo bench --bench crowd

#![allow(missing_docs)]

use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Future;
use masterchief::irc::decode::LineReader;
use masterchief::irc::message::Message;
use masterchief::irc::{Channel, Dial, DialFault, Network, PaceSettings, ServerAddr, Settings, Stream, Tls, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

/// Members of the channel.
const MEMBERS: usize = 10_000;
/// How often each is measured; the best counts.
const TIMES: usize = 5;

/// Hands the other end over, once.
struct Once(Mutex<Option<oneshot::Sender<DuplexStream>>>);

impl Dial for Once {
    fn dial(&self, server: &ServerAddr, _tls: &Tls, _via: &Via) -> Future<Result<Stream, DialFault>> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let to = self.0.lock().ok().and_then(|mut to| to.take());
        let handed = to.is_some_and(|to| to.send(theirs).is_ok());
        let refused = DialFault::Connect(server.to_string(), std::io::ErrorKind::ConnectionRefused.into());
        Box::pin(std::future::ready(if handed { Ok(Box::new(ours) as Stream) } else { Err(refused) }))
    }
}

/// What a server says of everybody: NAMES, then WHOX.
fn burst() -> String {
    let mut out = String::new();
    for twenty in (0..MEMBERS).collect::<Vec<_>>().chunks(20) {
        let names: Vec<String> = twenty.iter().map(|n| format!("n{n}!user@host{n}.example.net")).collect();
        // Writing to a String cannot fail.
        let _ = write!(out, ":s 353 chief = #big :{}\r\n", names.join(" "));
    }
    out.push_str(":s 366 chief #big :End\r\n");
    for n in 0..MEMBERS {
        let _ = write!(out, ":s 354 chief 152 #big user host{n}.example.net n{n} H account{n} :Somebody {n}\r\n");
    }
    out
}

/// The floor: lines and words, and nothing made of them.
fn floor(bytes: &[u8]) -> (Duration, usize) {
    let (start, mut lines, mut reader) = (Instant::now(), 0, LineReader::default());
    for part in bytes.chunks(16 * 1024) {
        reader.feed(part);
        while let Some(line) = reader.next_line() {
            lines += usize::from(Message::parse(&line).is_ok_and(|message| !message.params().is_empty()));
        }
    }
    (start.elapsed(), lines)
}

fn settings() -> Settings {
    Settings {
        tls: Tls::off(),
        channels: vec![Channel { name: "#big".to_owned(), key: None }],
        pace: PaceSettings { burst: 1, interval: Duration::ZERO },
        ..Settings::new(vec![ServerAddr::new("memory.test", 6667)])
    }
}

/// Until a PING that comes behind is answered: then everything before it is taken in.
async fn picture(bytes: &[u8]) -> anyhow::Result<Duration> {
    let (to, wire) = oneshot::channel();
    let bot = Bot::builder().dial(Once(Mutex::new(Some(to)))).network("bench", settings()).start().await?;
    let mut wire = wire.await?;
    let welcome = ":s CAP * LS :\r\n:s 001 chief :Welcome chief!c@h\r\n:s 005 chief CHANTYPES=# WHOX :x\r\n:s 422 chief :x\r\n\
                   :chief!c@h JOIN #big\r\nPING :ready\r\n";
    wire.write_all(welcome.as_bytes()).await?;
    until(&mut wire, "PONG ready").await?;
    let start = Instant::now();
    wire.write_all(bytes).await?;
    wire.write_all(b"PING :taken\r\n").await?;
    until(&mut wire, "PONG taken").await?;
    let took = start.elapsed();
    let network: Network = bot.network("bench").ok_or_else(|| anyhow::anyhow!("no network"))?;
    let known = network.members("#big").iter().filter(|member| member.account.is_some()).count();
    anyhow::ensure!(known == MEMBERS, "{known} members have an account");
    drop(wire);
    bot.stop("").await;
    Ok(took)
}

async fn until(wire: &mut DuplexStream, wanted: &str) -> anyhow::Result<()> {
    let (mut heard, mut buffer) = (String::new(), vec![0; 4096]);
    while !heard.contains(wanted) {
        let read = wire.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the bot hung up");
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let bytes = burst();
    let lines = bytes.lines().count();
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    for _ in 0..TIMES {
        let (took, read) = floor(bytes.as_bytes());
        anyhow::ensure!(read == lines, "{read} lines of {lines}");
        bare = bare.min(took);
        ours = ours.min(picture(bytes.as_bytes()).await?);
    }
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{MEMBERS} members, {lines} lines, {} KiB", bytes.len() / 1024);
    println!("floor: lines parsed        {bare:?}");
    println!("the picture of the channel {ours:?}   {ratio:.1} times the floor");
    Ok(())
}
