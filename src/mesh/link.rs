//! A link that is up: lines both ways, keepalive, and TLS where the other side or we begin it. One task a link.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::book::PeerId;
use super::connection::{Connection, LinkFault, check_pin};
use super::hub::Ask;
use super::line::LineReader;
use super::message::Message;
use super::tls::Tls;
use crate::irc::decode::encode;
use crate::irc::{Fingerprint, Stream};

/// Lines that wait for one link. Talk is dropped where there is no room; if there is none for anything else, the link ends.
pub(super) const QUEUE: usize = 4096;
/// Bytes that wait to be written before more lines are taken from the queue.
const PENDING: usize = 64 * 1024;
/// A peer that was silent this long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(60);
/// One that then says nothing is gone.
const DEAD: Duration = Duration::from_secs(180);
/// One that takes none of what we write for so long does not read, whatever it says.
const STUCK: Duration = Duration::from_secs(90);
/// Bytes that may wait to be written, answers to its pings included.
const PENDING_MAX: usize = 4 * PENDING;
/// How long the last lines may take.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long the other side may take to begin TLS when we ask for it.
const UPGRADE: Duration = Duration::from_secs(15);

/// Lines that a link may bring at once when it is new: all bots and people that there is room for.
const FIRST: f64 = 50_000.0;
/// Lines at once after that, and a second: far more than calls and events ever were.
const BURST: f64 = 10_000.0;
const RATE: f64 = 5_000.0;
/// How long one is not read that brings more.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after each line one is not read that brings more than others can take.
const SLOW: Duration = Duration::from_millis(100);

/// Why such a link ends.
const STUCK_WORDS: &str = "it reads nothing";

/// What a link is told.
#[derive(Clone, Debug)]
pub(super) enum Out {
    /// Write a line.
    Line(Arc<str>),
    /// Ask for TLS, we as the client.
    StartTls,
    /// Write what waits, and end.
    Close,
}

/// One link.
pub(super) struct Link {
    id: PeerId,
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    reader: LineReader,
    pending: Vec<u8>,
    /// Whether something was written and not flushed.
    dirty: bool,
    encrypted: bool,
    /// The certificates that are taken.
    pins: Vec<Fingerprint>,
    host: String,
    tls: Tls,
    hub: mpsc::Sender<Ask>,
    queue: mpsc::Receiver<Out>,
    /// The hub has let go of us.
    stopped: oneshot::Receiver<()>,
    /// The hub wants us to read slowly.
    hold: Arc<AtomicBool>,
    inflow: Inflow,
    heard: Instant,
    /// When it last took something of what we write, or when there was nothing to take.
    took: Instant,
    /// When it was last asked whether it is there.
    asked: Instant,
    /// Since when we wait for the other side to begin TLS.
    upgrading: Option<Instant>,
}

/// How fast lines are taken from a link.
struct Inflow {
    left: f64,
    at: Instant,
    slow: Option<Slow>,
}

/// One line at a time, as long as after each somebody else is behind.
#[derive(Clone, Copy)]
struct Slow {
    until: Instant,
    /// Whether a line was taken before that.
    took: bool,
}

impl Default for Inflow {
    fn default() -> Inflow {
        Inflow { left: FIRST, at: Instant::now(), slow: None }
    }
}

impl Inflow {
    /// Until when no line is taken, if that is so.
    fn waits(&mut self, hold: &AtomicBool) -> Option<Instant> {
        let now = Instant::now();
        if hold.swap(false, Ordering::Relaxed) {
            self.slow = Some(Slow { until: now + SLOW, took: false });
        }
        match self.slow {
            Some(slow) if now < slow.until => return Some(slow.until),
            Some(slow) if slow.took => self.slow = None,
            Some(_) => return None,
            None => {}
        }
        let back = now.duration_since(self.at).as_secs_f64() * RATE;
        // What was there at the beginning is not filled up again.
        self.left = if self.left >= BURST { self.left } else { (self.left + back).min(BURST) };
        self.at = now;
        (self.left < 1.0).then(|| now + PAUSE)
    }

    /// A line was taken.
    fn took(&mut self) {
        self.left -= 1.0;
        if let Some(slow) = &mut self.slow {
            *slow = Slow { until: Instant::now() + SLOW, took: true };
        }
    }
}

/// What a line, or something else, leads to.
enum Next {
    On,
    /// TLS begins: as the client, or as the server.
    Client,
    Server,
    Over(String),
}

/// What [`Link::new`] needs beside the connection.
pub(super) struct Ends {
    pub(super) id: PeerId,
    pub(super) pins: Vec<Fingerprint>,
    pub(super) host: String,
    pub(super) tls: Tls,
    pub(super) hub: mpsc::Sender<Ask>,
    pub(super) queue: mpsc::Receiver<Out>,
    pub(super) stopped: oneshot::Receiver<()>,
    pub(super) hold: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(connection: Connection, ends: Ends) -> io::Result<Link> {
        let encrypted = connection.encrypted;
        let (stream, reader) = connection.into_stream()?;
        let (read, write) = tokio::io::split(stream);
        let Ends { id, pins, host, tls, hub, queue, stopped, hold } = ends;
        let (heard, took, asked) = (Instant::now(), Instant::now(), Instant::now());
        let (pending, dirty, upgrading) = (Vec::new(), false, None);
        Ok(Link {
            id,
            read,
            write,
            reader,
            pending,
            dirty,
            encrypted,
            pins,
            host,
            tls,
            hub,
            queue,
            stopped,
            hold,
            inflow: Inflow::default(),
            heard,
            took,
            asked,
            upgrading,
        })
    }

    /// Runs until the link has ended; tells the hub why.
    pub(super) async fn run(mut self) {
        let (id, hub) = (self.id, self.hub.clone());
        let reason = match self.serve().await {
            Ok(reason) => reason,
            Err(fault) => fault.to_string(),
        };
        // The hub may be gone before us.
        let _ = hub.send(Ask::Down { id, reason }).await;
    }

    async fn serve(&mut self) -> Result<String, LinkFault> {
        loop {
            match self.lines().await? {
                Next::On => {}
                Next::Over(reason) => {
                    // What waits is written, if the other side still reads.
                    let _ = tokio::time::timeout(GOODBYE, self.drain()).await;
                    return Ok(reason);
                }
                Next::Client => {
                    self.drain().await?;
                    self.upgrade(true).await?;
                }
                Next::Server => {
                    self.drain().await?;
                    self.upgrade(false).await?;
                }
            }
            if let Next::Over(reason) = self.turn().await? {
                let _ = tokio::time::timeout(GOODBYE, self.drain()).await;
                return Ok(reason);
            }
        }
    }

    /// Takes the lines that were read.
    async fn lines(&mut self) -> Result<Next, LinkFault> {
        loop {
            if self.inflow.waits(&self.hold).is_some() {
                return Ok(Next::On);
            }
            let Some(line) = self.reader.next_line()? else { return Ok(Next::On) };
            tracing::debug!(target: "masterchief::mesh::heard", link = self.id, line = shown(&line), "From a bot");
            let message = match Message::parse(&line) {
                Ok(message) => message,
                Err(fault) => {
                    tracing::debug!(%fault, link = self.id, "A line of a bot is passed over");
                    continue;
                }
            };
            let next = match message {
                Message::Ping => self.put(&Message::Pong),
                Message::Pong | Message::ByeBye => Next::On,
                Message::Bye(reason) => {
                    self.put(&Message::ByeBye);
                    Next::Over(if reason.is_empty() { "it says goodbye".to_owned() } else { reason })
                }
                Message::Error(text) => {
                    tracing::warn!(link = self.id, %text, "A bot tells of an error");
                    Next::On
                }
                Message::StartTls('s') if !self.encrypted && self.upgrading.is_none() => {
                    self.put(&Message::StartTls('c'));
                    Next::Server
                }
                Message::StartTls('c') if !self.encrypted => Next::Client,
                Message::StartTls(_) => Next::On,
                message => {
                    self.inflow.took();
                    let told = self.hub.send(Ask::Line { id: self.id, message }).await;
                    told.map_err(|_| LinkFault::Closing)?;
                    Next::On
                }
            };
            if !matches!(next, Next::On) {
                return Ok(next);
            }
        }
    }

    fn put(&mut self, message: &Message) -> Next {
        self.pending.extend_from_slice(&encode(&message.to_string()));
        self.pending.push(b'\n');
        Next::On
    }

    /// Waits for one thing: bytes, room to write, something to say, or time.
    async fn turn(&mut self) -> Result<Next, LinkFault> {
        let mut bytes = [0; 8192];
        let writes = !self.pending.is_empty() || self.dirty;
        // Once we have asked for TLS, what we write in clear would be taken for TLS.
        let takes = self.pending.len() < PENDING && self.upgrading.is_none();
        if self.pending.len() > PENDING_MAX {
            return Ok(Next::Over(STUCK_WORDS.to_owned()));
        }
        if !writes {
            self.took = Instant::now();
        }
        let until = match self.upgrading {
            Some(since) => since + UPGRADE,
            None => (self.heard.max(self.asked) + QUIET).min(self.heard + DEAD),
        };
        let until = if writes { until.min(self.took + STUCK) } else { until };
        // Who sends too fast is not read for a while, which is no silence.
        let waits = self.inflow.waits(&self.hold);
        let until = waits.map_or(until, |waits| waits.min(until));
        tokio::select! {
            _ = &mut self.stopped => return Ok(Next::Over("it was too slow".to_owned())),
            read = self.read.read(&mut bytes), if waits.is_none() => {
                let read = read?;
                if read == 0 {
                    return Ok(Next::Over("it closed the connection".to_owned()));
                }
                self.heard = Instant::now();
                self.reader.feed(&bytes[..read]);
            }
            written = push(&mut self.write, &mut self.pending, &mut self.dirty), if writes => {
                written?;
                self.took = Instant::now();
            }
            out = self.queue.recv(), if takes => match out {
                Some(Out::Line(line)) => {
                    tracing::debug!(target: "masterchief::mesh::told", link = self.id, line = shown(&line), "To a bot");
                    self.pending.extend_from_slice(&encode(&line));
                    self.pending.push(b'\n');
                }
                Some(Out::StartTls) if !self.encrypted => {
                    self.put(&Message::StartTls('s'));
                    self.upgrading = Some(Instant::now());
                }
                Some(Out::StartTls) => {}
                Some(Out::Close) => return Ok(Next::Over(String::new())),
                None => return Ok(Next::Over("the bot is shutting down".to_owned())),
            },
            () = tokio::time::sleep_until(until) => {
                if waits.is_some() {
                    self.heard = Instant::now();
                    return Ok(Next::On);
                }
                if self.upgrading.is_some() {
                    return Ok(Next::Over("it did not begin TLS".to_owned()));
                }
                if writes && self.took.elapsed() >= STUCK {
                    return Ok(Next::Over(STUCK_WORDS.to_owned()));
                }
                if self.heard.elapsed() >= DEAD {
                    return Ok(Next::Over("Ping timeout".to_owned()));
                }
                self.asked = Instant::now();
                self.put(&Message::Ping);
            }
        }
        Ok(Next::On)
    }

    async fn drain(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() || self.dirty {
            push(&mut self.write, &mut self.pending, &mut self.dirty).await?;
        }
        Ok(())
    }

    /// Begins TLS on the link. As the client nothing in clear may have come beyond the line that begins it.
    async fn upgrade(&mut self, client: bool) -> Result<(), LinkFault> {
        if client && !self.reader.is_empty() {
            return Err(LinkFault::Smuggled);
        }
        // The halves are put together; dead ones stand in their places meanwhile.
        let (read, write) = tokio::io::split(Box::new(tokio::io::empty()) as Stream);
        let stream = std::mem::replace(&mut self.read, read).unsplit(std::mem::replace(&mut self.write, write));
        let begun = if client {
            self.tls.connect(stream, &self.host).await
        } else {
            self.tls.accept(stream, self.reader.take_rest()).await
        };
        let (stream, seen) = begun.map_err(LinkFault::Tls)?;
        let new = check_pin(&self.pins, seen)?;
        (self.read, self.write) = tokio::io::split(stream);
        (self.encrypted, self.upgrading) = (true, None);
        let told = self.hub.send(Ask::Encrypted { id: self.id, pin: new }).await;
        told.map_err(|_| LinkFault::Closing)
    }
}

/// A line for the log. Passwords of links, and what people are shared with, are nobody's to read.
fn shown(line: &str) -> &str {
    match line.split(' ').next() {
        Some(secret @ ("h" | "handshake" | "s")) => secret,
        _ => line,
    }
}

/// Writes some of what waits, or flushes. If it is given up before it is ready, nothing is lost.
async fn push(write: &mut WriteHalf<Stream>, pending: &mut Vec<u8>, dirty: &mut bool) -> io::Result<()> {
    if pending.is_empty() {
        write.flush().await?;
        *dirty = false;
        return Ok(());
    }
    let written = write.write(pending).await?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    pending.drain(..written);
    *dirty = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link over a pipe that holds little, with the hub's end of its queue.
    fn link(stream: Stream) -> (Link, mpsc::Sender<Out>, oneshot::Sender<()>, mpsc::Receiver<Ask>) {
        let (out, queue) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let (hub, asks) = mpsc::channel(QUEUE);
        let tls = Tls::new(None, None, None, "Chief").unwrap();
        let ends =
            Ends { id: 1, pins: Vec::new(), host: String::new(), tls, hub, queue, stopped, hold: Arc::default() };
        (Link::new(Connection::new(stream, "", &[]), ends).unwrap(), out, stop, asks)
    }

    async fn ended(mut asks: mpsc::Receiver<Ask>) -> String {
        loop {
            match asks.recv().await {
                Some(Ask::Down { reason, .. }) => return reason,
                Some(_) => {}
                None => return String::new(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_whether_we_are_there_and_reads_nothing_is_let_go() {
        let (near, mut far) = tokio::io::duplex(64);
        let (link, out, _stop, asks) = link(Box::new(near));
        let running = tokio::spawn(link.run());
        out.send(Out::Line(
            "ct Chief something that waits to be read by somebody who never does, ever and ever".into(),
        ))
        .await
        .unwrap();
        let pings = tokio::spawn(async move {
            while far.write_all(b"pi\n").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let begun = Instant::now();
        assert_eq!(ended(asks).await, STUCK_WORDS);
        assert!(begun.elapsed() < DEAD);
        running.await.unwrap();
        pings.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_pings_that_nobody_reads_do_not_fill_the_memory() {
        let (near, mut far) = tokio::io::duplex(64);
        let (link, _out, _stop, asks) = link(Box::new(near));
        let running = tokio::spawn(link.run());
        let pings = tokio::spawn(async move { while far.write_all(b"pi\n").await.is_ok() {} });
        assert_eq!(ended(asks).await, STUCK_WORDS);
        running.await.unwrap();
        pings.await.unwrap();
    }

    /// How many lines come to the hub until no more do, and when the last did; after each, `then` is done.
    async fn taken(asks: &mut mpsc::Receiver<Ask>, mut then: impl FnMut(usize)) -> (usize, Duration) {
        let (mut count, begun, mut last) = (0, Instant::now(), Duration::ZERO);
        while let Ok(Some(ask)) = tokio::time::timeout(Duration::from_secs(5), asks.recv()).await {
            if matches!(ask, Ask::Line { .. }) {
                count += 1;
                last = begun.elapsed();
                then(count);
            }
        }
        (count, last)
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_without_end_is_read_at_a_pace_and_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(65_536);
        let (link, _out, _stop, mut asks) = link(Box::new(near));
        let running = tokio::spawn(link.run());
        let lines = FIRST as usize + 4 * RATE as usize;
        let floods = tokio::spawn(async move {
            far.write_all("zb Hub x\n".repeat(lines).as_bytes()).await.unwrap();
            far
        });
        let (count, last) = taken(&mut asks, |_| ()).await;
        assert_eq!(count, lines);
        assert!(last > Duration::from_secs(3) && last < Duration::from_secs(6), "{last:?}");
        drop(floods.await.unwrap());
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_more_than_others_can_take_is_read_a_line_at_a_time_until_they_can() {
        let (near, mut far) = tokio::io::duplex(65_536);
        let (link, _out, _stop, mut asks) = link(Box::new(near));
        let hold = Arc::clone(&link.hold);
        hold.store(true, Ordering::Relaxed);
        let running = tokio::spawn(link.run());
        far.write_all("zb Hub x\n".repeat(1000).as_bytes()).await.unwrap();
        let begun = Instant::now();
        let mut held = Duration::ZERO;
        let behind = |count| {
            if count <= 50 {
                hold.store(true, Ordering::Relaxed);
                held = begun.elapsed();
            }
        };
        let (count, last) = taken(&mut asks, behind).await;
        assert_eq!(count, 1000);
        assert!(held > SLOW * 50 && last < held + SLOW * 4, "{held:?} {last:?}");
        drop(far);
        running.await.unwrap();
    }
}
