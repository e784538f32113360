//! Syslog as it is received: UDP (RFC 5426) and TCP (RFC 6587). The sender is not told whether it arrived.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::SyslogSettings;
use super::parse::syslog;

/// Messages that wait for the journal.
const DEPTH: usize = 16_384;
/// Messages of one batch.
const BATCH: usize = 2048;
/// The longest message, in bytes.
const LONGEST: usize = 64 << 10;
/// Connections at once.
const CONNECTIONS: usize = 256;
/// A connection that says nothing is let go of after this.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) fn source(settings: Option<&SyslogSettings>, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let settings = settings
        .filter(|settings| settings.udp.is_some() || settings.tcp.is_some())
        .ok_or("nothing is received: say where, as in sources: {syslog: {udp: \"127.0.0.1:5514\"}}")?;
    Ok(Box::new(Syslog { settings: settings.clone(), meter: Arc::clone(meter), open: None }))
}

struct Syslog {
    settings: SyslogSettings,
    meter: Arc<Meter>,
    open: Option<Open>,
}

struct Open {
    from: mpsc::Receiver<Message>,
    /// Ends the listeners with it.
    _tasks: JoinSet<()>,
}

struct Message {
    bytes: Vec<u8>,
    peer: SocketAddr,
}

impl Source for Syslog {
    fn promise(&self) -> Promise {
        Promise::BestEffort("syslog senders are not told whether a message arrived")
    }

    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let (to, from) = mpsc::channel(DEPTH);
            let mut tasks = JoinSet::new();
            let wrong =
                |what: &str, at: SocketAddr, fault: std::io::Error| SourceError::Wrong(format!("{what} {at}: {fault}"));
            let mut note = Vec::new();
            if let Some(at) = self.settings.udp {
                let socket = UdpSocket::bind(at).await.map_err(|fault| wrong("udp", at, fault))?;
                note.push(format!("udp {}", socket.local_addr().unwrap_or(at)));
                tasks.spawn(udp(socket, to.clone(), Arc::clone(&self.meter)));
            }
            if let Some(at) = self.settings.tcp {
                let listener = TcpListener::bind(at).await.map_err(|fault| wrong("tcp", at, fault))?;
                note.push(format!("tcp {}", listener.local_addr().unwrap_or(at)));
                tasks.spawn(tcp(listener, to, Arc::clone(&self.meter)));
            }
            self.meter.note(format!("listens on {}", note.join(", ")));
            self.open = Some(Open { from, _tasks: tasks });
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let open = self.open.as_mut().ok_or(SourceError::Lost("it is not open".to_owned()))?;
            let mut messages = Vec::new();
            if open.from.recv_many(&mut messages, BATCH).await == 0 {
                return Err(SourceError::Lost("the listeners have ended".to_owned()));
            }
            let lane: Arc<str> = Arc::from("syslog");
            let events = messages.into_iter().map(inbound).collect();
            let part = Part { lane, shared: None, events, position: None };
            Ok(Batch { parts: vec![part], ..Batch::default() })
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.open = None;
        Box::pin(async {})
    }
}

fn inbound(message: Message) -> Inbound {
    let text = String::from_utf8_lossy(&message.bytes);
    let text = text.trim_end_matches(['\n', '\r', '\0']).to_owned();
    let data = syslog(&text);
    let fields = vec![("peer", Value::from(message.peer.ip().to_string())), ("data", Value::Object(data.fields))];
    let body = if std::str::from_utf8(&message.bytes).is_ok() { Vec::new() } else { message.bytes };
    Inbound { key: None, at: data.at.unwrap_or_else(Utc::now), text, fields, body }
}

async fn udp(socket: UdpSocket, to: mpsc::Sender<Message>, meter: Arc<Meter>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                let message = Message { bytes: buffer[..length].to_vec(), peer };
                if to.try_send(message).is_err() {
                    meter.drop_count(1);
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "Syslog over UDP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn tcp(listener: TcpListener, to: mpsc::Sender<Message>, meter: Arc<Meter>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                let (to, meter) = (to.clone(), Arc::clone(&meter));
                connections.spawn(async move {
                    if let Err(fault) = connection(stream, peer, to, &meter).await {
                        tracing::debug!(%peer, %fault, "A syslog connection ended");
                    }
                });
            }
            Ok((_, peer)) => tracing::warn!(%peer, "Too many syslog connections; this one is refused"),
            Err(fault) => {
                tracing::warn!(%fault, "Syslog over TCP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One sender. A full queue makes it wait: TCP carries that back.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    to: mpsc::Sender<Message>,
    meter: &Meter,
) -> std::io::Result<()> {
    let mut from = BufReader::new(stream);
    loop {
        let first = match tokio::time::timeout(IDLE, from.fill_buf()).await {
            Ok(bytes) => bytes?.first().copied(),
            Err(_) => return Ok(()),
        };
        let bytes = match first {
            None => return Ok(()),
            Some(digit) if digit.is_ascii_digit() => counted(&mut from).await?,
            Some(_) => line(&mut from, meter).await?,
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if to.send(Message { bytes, peer }).await.is_err() {
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
