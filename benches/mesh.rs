//! How long a script's message takes over one link, and through a hub to another leaf, over TLS as bots are linked; beside it the same
//! bytes over a bare loopback TCP connection, and through a bare relay, in the same run.
//!
//!     cargo bench --bench mesh
//!     cargo bench --bench mesh -- 500      so many messages of each

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use masterchief::bot::{Bot, Started};
use masterchief::contract::Secret;
use masterchief::mesh::{Attribute, BotSettings, Mesh, News, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;

/// Messages of each.
const TRIPS: usize = 5_000;
/// Some before, that are not counted.
const WARM: usize = 200;
/// What is said.
const WORDS: &str = "deploy_done shop v7 to prod in 41 s, 12 of 12 pods are ready";

/// A bot of this name that knows these; it listens if it is given a port.
async fn chief(name: &str, port: Option<u16>, bots: Vec<(&str, BotSettings)>) -> anyhow::Result<(Started, Mesh)> {
    let settings = Settings {
        name: Some(name.to_owned()),
        listen_tls: port.map(|port| ([127, 0, 0, 1], port).into()),
        retry: Duration::from_millis(200),
        bots: bots.into_iter().map(|(name, bot)| (name.to_owned(), bot)).collect(),
        ..Settings::default()
    };
    let bot = Bot::builder().mesh(settings).start().await?;
    let mesh = bot.mesh().context("there is no mesh")?.clone();
    Ok((bot, mesh))
}

async fn sees(mesh: &Mesh, bot: &str) -> anyhow::Result<()> {
    for _ in 0..1000 {
        if mesh.view().bots.iter().any(|other| other.name.as_str() == bot) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{} does not see {bot}", mesh.name())
}

/// Until the other has the message.
async fn one(from: &Mesh, to: &str, heard: &mut Receiver<Arc<News>>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    from.send(to, "bench", WORDS).await?;
    loop {
        if matches!(&*heard.recv().await?, News::Script { code, .. } if code.as_str() == "bench") {
            return Ok(begun.elapsed());
        }
    }
}

async fn over_the_mesh(from: &Mesh, to: &Mesh, trips: usize) -> anyhow::Result<Vec<Duration>> {
    let (mut heard, mut times) = (to.news(), Vec::with_capacity(trips));
    for trip in 0..WARM + trips {
        let time = one(from, to.name().as_str(), &mut heard).await?;
        if trip >= WARM {
            times.push(time);
        }
    }
    Ok(times)
}

/// Passes on whatever comes, as one that reads nothing of it.
async fn relay(listener: TcpListener, to: u16) -> std::io::Result<()> {
    let (mut near, _) = listener.accept().await?;
    let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy(&mut near, &mut far).await.map(drop)
}

/// The same bytes over bare connections, through a relay if wanted.
async fn over_tcp(through: bool, trips: usize) -> anyhow::Result<Vec<Duration>> {
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let mut port = sink.local_addr()?.port();
    if through {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let to = std::mem::replace(&mut port, listener.local_addr()?.port());
        tokio::spawn(relay(listener, to));
    }
    let mut out = TcpStream::connect(("127.0.0.1", port)).await?;
    out.set_nodelay(true)?;
    let (mut read, _) = sink.accept().await?;
    let line = format!("z One Two bench {WORDS}\n");
    let mut bytes = vec![0; line.len()];
    let mut times = Vec::with_capacity(trips);
    for trip in 0..WARM + trips {
        let begun = Instant::now();
        out.write_all(line.as_bytes()).await?;
        read.read_exact(&mut bytes).await?;
        if trip >= WARM {
            times.push(begun.elapsed());
        }
    }
    Ok(times)
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_secs_f64() * 1e6;
    println!("{what:<34} p50 {:>8.1} us   p99 {:>8.1} us   p99.9 {:>8.1} us", at(500), at(990), at(999));
}

async fn run(trips: usize) -> anyhow::Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let caller = || BotSettings { password: Some(Secret::new("geheim")), ..BotSettings::default() };
    let hub = || -> anyhow::Result<BotSettings> {
        let address = format!("127.0.0.1:{port}").parse().map_err(anyhow::Error::msg)?;
        Ok(BotSettings { addresses: vec![address], attributes: BTreeSet::from([Attribute::Hub]), ..caller() })
    };
    let (hub_bot, hub_mesh) = chief("Hub", Some(port), vec![("One", caller()), ("Two", caller())]).await?;
    let (one_bot, one) = chief("One", None, vec![("Hub", hub()?)]).await?;
    let (two_bot, two) = chief("Two", None, vec![("Hub", hub()?)]).await?;
    sees(&one, "Two").await?;
    sees(&two, "One").await?;
    show("bare TCP, one hop", over_tcp(false, trips).await?);
    show("the mesh, one hop over TLS", over_the_mesh(&one, &hub_mesh, trips).await?);
    show("bare TCP, through a relay", over_tcp(true, trips).await?);
    show("the mesh, through a hub over TLS", over_the_mesh(&one, &two, trips).await?);
    for bot in [one_bot, two_bot, hub_bot] {
        bot.stop("").await;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let trips = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(TRIPS);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(trips))
}
