//! Syslog as it is received: UDP (RFC 5426) and TCP (RFC 6587). The sender is not told whether it arrived.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::SyslogSettings;
use super::parse::syslog;
use crate::overflow::{LOOK, Overflow};

/// Messages that wait for the journal, and their KiB.
const DEPTH: usize = 16_384;
const ROOM: usize = 64 << 10;
/// Messages of one batch.
const BATCH: usize = 2048;
/// The longest message, in bytes.
const LONGEST: usize = 64 << 10;
/// Connections at once.
const CONNECTIONS: usize = 256;
/// A connection that says nothing is let go of after this.
const IDLE: Duration = Duration::from_secs(3600);
/// The rest of a message has to come within this.
const REST: Duration = Duration::from_secs(60);

pub(super) fn source(settings: Option<&SyslogSettings>, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let settings = settings
        .filter(|settings| settings.udp.is_some() || settings.tcp.is_some())
        .ok_or("nothing is received: say where, as in sources: {syslog: {udp: \"127.0.0.1:5514\"}}")?;
    Ok(Box::new(Syslog { settings: settings.clone(), meter: Arc::clone(meter), open: None, unsettled: 0 }))
}

struct Syslog {
    settings: SyslogSettings,
    meter: Arc<Meter>,
    open: Option<Open>,
    /// Messages that were given and are not in the journal yet.
    unsettled: usize,
}

struct Open {
    from: mpsc::Receiver<Message>,
    /// Ends the listeners with it.
    _tasks: JoinSet<()>,
}

struct Message {
    bytes: Vec<u8>,
    peer: SocketAddr,
    /// Gives its room back when it is taken.
    _room: OwnedSemaphorePermit,
}

/// Where messages wait.
#[derive(Clone)]
struct Queue {
    to: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    meter: Arc<Meter>,
}

fn kib(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len() / 1024 + 1).unwrap_or(u32::MAX)
}

impl Queue {
    /// Puts it there if there is room.
    fn offer(&self, bytes: &[u8], peer: SocketAddr) {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(bytes)).ok();
        let sent =
            room.is_some_and(|room| self.to.try_send(Message { bytes: bytes.to_vec(), peer, _room: room }).is_ok());
        if !sent {
            self.meter.drop_count(1);
        }
    }

    /// Puts it there once there is room; whether there still is a queue.
    async fn put(&self, bytes: Vec<u8>, peer: SocketAddr) -> bool {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(kib(&bytes)).await else { return false };
        self.to.send(Message { bytes, peer, _room: room }).await.is_ok()
    }
}

impl Source for Syslog {
    fn promise(&self) -> Promise {
        Promise::BestEffort("syslog senders are not told whether a message arrived")
    }

    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let (to, from) = mpsc::channel(DEPTH);
            let queue = Queue { to, room: Arc::new(Semaphore::new(ROOM)), meter: Arc::clone(&self.meter) };
            let mut tasks = JoinSet::new();
            let wrong =
                |what: &str, at: SocketAddr, fault: std::io::Error| SourceError::Wrong(format!("{what} {at}: {fault}"));
            let mut note = Vec::new();
            if let Some(at) = self.settings.udp {
                let socket = UdpSocket::bind(at).await.map_err(|fault| wrong("udp", at, fault))?;
                note.push(format!("udp {}", socket.local_addr().unwrap_or(at)));
                tasks.spawn(udp(socket, queue.clone()));
            }
            if let Some(at) = self.settings.tcp {
                let listener = TcpListener::bind(at).await.map_err(|fault| wrong("tcp", at, fault))?;
                note.push(format!("tcp {}", listener.local_addr().unwrap_or(at)));
                tasks.spawn(tcp(listener, queue));
            }
            self.meter.note(format!("listens on {}", note.join(", ")));
            self.open = Some(Open { from, _tasks: tasks });
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let open = self.open.as_mut().ok_or(SourceError::Lost("it is not open".to_owned()))?;
            let ended = || SourceError::Lost("the listeners have ended".to_owned());
            self.meter.lag(open.from.len() as u64, "messages");
            let first = open.from.recv().await.ok_or_else(ended)?;
            let events = gather(first, &mut open.from);
            self.meter.lag(open.from.len() as u64, "messages");
            self.unsettled = events.len();
            let lane: Arc<str> = Arc::from("syslog");
            let part = Part { lane, shared: None, events, position: None };
            Ok(Batch { parts: vec![part], ..Batch::default() })
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        self.unsettled = 0;
        Box::pin(async { Ok(()) })
    }

    fn idle<'a>(&'a mut self, _: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        if let Some(open) = &self.open {
            self.meter.lag(open.from.len() as u64, "messages");
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        // Nobody sends it again: what waits, and what the journal did not take, is lost and counted.
        let mut lost = std::mem::take(&mut self.unsettled) as u64;
        if let Some(mut open) = self.open.take() {
            open.from.close();
            while open.from.try_recv().is_ok() {
                lost += 1;
            }
        }
        self.meter.drop_count(lost);
        Box::pin(async {})
    }
}

/// A message and those that wait behind it, as many as are one batch.
fn gather(first: Message, from: &mut mpsc::Receiver<Message>) -> Vec<Inbound> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(message) = next {
        let event = inbound(message);
        bytes += event.size();
        events.push(event);
        next = if events.len() < BATCH && bytes < BATCH_BYTES { from.try_recv().ok() } else { None };
    }
    events
}

fn inbound(message: Message) -> Inbound {
    let text = String::from_utf8_lossy(&message.bytes);
    let text = text.trim_end_matches(['\n', '\r', '\0']).to_owned();
    let data = syslog(&text);
    let fields = vec![("peer", Value::from(message.peer.ip().to_string())), ("data", Value::Object(data.fields))];
    let body = if std::str::from_utf8(&message.bytes).is_ok() { Vec::new() } else { message.bytes };
    Inbound { key: None, at: data.at.unwrap_or_else(Utc::now), text, fields, body }
}

async fn udp(socket: UdpSocket, queue: Queue) {
    let mut buffer = vec![0; LONGEST];
    let mut overflow = Overflow::of(&socket);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = look.tick() => {
                queue.meter.drop_count(overflow.more());
                continue;
            }
        };
        match received {
            Ok((length, peer)) => queue.offer(&buffer[..length], peer),
            Err(fault) => {
                tracing::warn!(%fault, "Syslog over UDP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn tcp(listener: TcpListener, queue: Queue) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                let queue = queue.clone();
                connections.spawn(async move {
                    if let Err(fault) = connection(stream, peer, &queue).await {
                        tracing::debug!(%peer, %fault, "A syslog connection ended");
                    }
                });
            }
            Ok((_, peer)) => {
                tracing::warn!(%peer, "Too many syslog connections; this one is refused");
                queue.meter.drop_count(1);
            }
            Err(fault) => {
                tracing::warn!(%fault, "Syslog over TCP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One sender. A full queue makes it wait: TCP carries that back.
async fn connection(stream: TcpStream, peer: SocketAddr, queue: &Queue) -> std::io::Result<()> {
    let mut from = BufReader::new(stream);
    loop {
        let first = match tokio::time::timeout(IDLE, from.fill_buf()).await {
            Ok(bytes) => bytes?.first().copied(),
            Err(_) => return Ok(()),
        };
        let message = async {
            match first {
                Some(digit) if digit.is_ascii_digit() => counted(&mut from).await,
                _ => line(&mut from, &queue.meter).await,
            }
        };
        let bytes = match (first, tokio::time::timeout(REST, message).await) {
            (None, _) => return Ok(()),
            (_, Ok(bytes)) => bytes?,
            (_, Err(_)) => return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "half a message")),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if !queue.put(bytes, peer).await {
            return Ok(());
        }
    }
}

/// `LENGTH SP MESSAGE`
async fn counted(from: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut length = 0_usize;
    loop {
        match from.read_u8().await? {
            b' ' => break,
            digit if digit.is_ascii_digit() && length <= LONGEST => length = length * 10 + usize::from(digit - b'0'),
            _ => return Err(wrong("a count that is no count")),
        }
    }
    if length > LONGEST {
        return Err(wrong("a message that is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Up to LF; what is too long is cut and counted.
async fn line(from: &mut BufReader<TcpStream>, meter: &Meter) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut *from).take(LONGEST as u64).read_until(b'\n', &mut bytes).await?;
    if bytes.len() >= LONGEST && bytes.last() != Some(&b'\n') {
        meter.drop_count(1);
        let mut rest = Vec::new();
        while (&mut *from).take(LONGEST as u64).read_until(b'\n', &mut rest).await? > 0 && rest.last() != Some(&b'\n') {
            rest.clear();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_messages_come_in_several_batches_and_what_nobody_took_is_counted() {
        let meter = Arc::new(Meter::default());
        let (to, from) = mpsc::channel(DEPTH);
        let queue = Queue { to, room: Arc::new(Semaphore::new(ROOM)), meter: Arc::clone(&meter) };
        let long = format!("<13>Jan  1 00:00:00 host app: {}", "x".repeat(LONGEST - 100));
        for _ in 0..100 {
            queue.offer(long.as_bytes(), SocketAddr::from(([127, 0, 0, 1], 514)));
        }
        let settings = SyslogSettings { udp: None, tcp: None };
        let open = Some(Open { from, _tasks: JoinSet::new() });
        let mut source = Syslog { settings, meter: Arc::clone(&meter), open, unsettled: 0 };
        let batch = source.next().await.unwrap();
        let one = batch.count();
        assert!(batch.size() < BATCH_BYTES + 4 * LONGEST && (10..50).contains(&one), "{one} and {}", batch.size());
        source.settle(0, &[]).await.unwrap();
        source.next().await.unwrap();
        // The journal did not take the second, and the source is opened again.
        source.close().await;
        assert_eq!(meter.dropped(), 100 - one as u64);
    }
}
