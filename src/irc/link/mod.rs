//! One connection, from its first byte to its last: reads lines, answers what the protocol demands, writes the queue.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Backoff, Parcel, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::around::Fate;
use super::decode::{LineReader, encode};
use super::dial::Stream;
use super::message::{Message, compose};
use super::multiline::Wholes;
use super::network::Inner;
use super::outgoing::{Class, Line};
use super::react::{LOOK_AFTER, Upkeep};
use super::reconnect::Ways;
use super::register::{Progress, Registration};
use super::settings::{ServerAddr, Settings};

mod demands;
mod leave;
mod understand;
#[cfg(any(test, fuzzing))]
mod without_socket;

/// What our PING says, to know its answer.
const PING: &str = "masterchief";
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// How long the queue may take to empty when we leave.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the server may take to close after QUIT.
const CLOSE: Duration = Duration::from_secs(1);
/// How long all of the registration may take.
const REGISTRATION: Duration = Duration::from_secs(180);
/// A time that never comes within a connection.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// How a connection ended.
pub(super) enum End {
    /// We left.
    Left,
    /// The server demands TLS on this port.
    Upgrade(u16),
    /// It was lost or refused, and why.
    Lost(String, Trouble),
}

impl End {
    /// In words.
    pub(super) fn reason(&self) -> String {
        match self {
            End::Left => String::new(),
            End::Upgrade(port) => format!("the server demands TLS on port {port}"),
            End::Lost(reason, _) => reason.clone(),
        }
    }
}

/// What kind of end it was: it decides how long we stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Whatever happens to connections.
    Usual,
    /// An oper has ended it (KILL).
    Killed,
    /// We came too often in too short a time.
    Throttled,
    /// The server does not want us (465, K-line and the like).
    Banned,
}

impl Trouble {
    /// What a line says about how this is going to end; nothing where it says nothing.
    fn told_by(message: &Message<'_>, own_nick: bool) -> Option<Trouble> {
        match message.command {
            "465" | "463" => Some(Trouble::Banned),
            "KILL" if own_nick => Some(Trouble::Killed),
            "ERROR" => {
                // There is no code for it; these are the words of the servers there are.
                let words = message.last().to_ascii_lowercase();
                let any = |list: &[&str]| list.iter().any(|word| words.contains(word));
                let lines = ["k-line", "g-line", "z-line", "gz-line", "d-line", "akill", "banned", "k:line", "g:line"];
                let often = ["too fast", "throttl", "too many times", "too many connections", "too many unknown"];
                if any(&lines) { Some(Trouble::Banned) } else { any(&often).then_some(Trouble::Throttled) }
            }
            _ => None,
        }
    }
}

/// What became of a connection.
pub(super) struct Ended {
    pub(super) end: End,
    /// Since when it was registered.
    pub(super) up: Option<Instant>,
}

/// One connection.
pub(super) struct Link<'a> {
    inner: &'a Arc<Inner>,
    ways: &'a Ways,
    server: &'a ServerAddr,
    registration: Registration,
    reader: LineReader,
    /// Bytes on their way out.
    out: Vec<u8>,
    /// The words that they are, as long as not a byte of them was written.
    unwritten: Vec<Line>,
    unflushed: bool,
    up: Option<Instant>,
    born: Instant,
    heard: Instant,
    asked: Option<Instant>,
    /// When the PING left that is not answered yet.
    pinged: Option<Instant>,
    /// Since when the registration waits for its next step.
    step: Instant,
    upkeep: Upkeep,
    /// When it was last remembered that the server demands TLS.
    kept: Instant,
    quit: Option<Instant>,
    trouble: Trouble,
    /// Messages in parts that the server may still refuse.
    wholes: Wholes,
    no_multiline: bool,
}

/// What woke the loop.
enum Woken {
    Read(std::io::Result<usize>),
    Wrote(std::io::Result<usize>),
    Flushed(std::io::Result<()>),
    Wake,
    Time,
    Leave,
}

impl<'a> Link<'a> {
    /// A new connection with these settings.
    pub(super) fn new(inner: &'a Arc<Inner>, ways: &'a Ways, server: &'a ServerAddr, settings: &Settings) -> Link<'a> {
        let now = Instant::now();
        inner.lock().secure = settings.tls.enabled;
        Link {
            inner,
            ways,
            server,
            registration: Registration::new(settings),
            reader: LineReader::default(),
            out: Vec::new(),
            unwritten: Vec::new(),
            unflushed: false,
            up: None,
            born: now,
            heard: now,
            asked: None,
            pinged: None,
            step: now,
            upkeep: Upkeep::new(now + LOOK_AFTER),
            kept: now,
            quit: None,
            trouble: Trouble::Usual,
            wholes: Wholes::default(),
            no_multiline: false,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self, stream: Stream, leaving: Shutdown, backoff: &mut Backoff) -> Ended {
        let end = self.drive(stream, leaving, backoff).await;
        Ended { end, up: self.up }
    }

    async fn drive(&mut self, stream: Stream, mut leaving: Shutdown, backoff: &mut Backoff) -> End {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut buffer = vec![0; READ_BYTES];
        self.inner.lock().status.connections += 1;
        self.send_registration();
        let mut left = false;
        loop {
            let queue = self.fill();
            let due = self.due(queue);
            // What is cancelled here has done nothing: a write that is not ready has written nothing.
            let woken = tokio::select! {
                () = leaving.recv(), if !left => Woken::Leave,
                got = read.read(&mut buffer) => Woken::Read(got),
                wrote = write_or_flush(&mut write, &self.out), if !self.out.is_empty() || self.unflushed => wrote,
                () = self.inner.wake.notified() => Woken::Wake,
                () = tokio::time::sleep_until(due) => Woken::Time,
            };
            let went = match woken {
                Woken::Leave => {
                    left = true;
                    self.inner.lock().outgoing.leave();
                    self.quit = Some(Instant::now() + DRAIN);
                    Ok(())
                }
                Woken::Read(Ok(0)) => Err("the server closed the connection".to_owned()),
                Woken::Read(Ok(bytes)) => self.received(&buffer[..bytes], backoff),
                Woken::Wrote(Ok(bytes)) => {
                    self.out.drain(..bytes);
                    self.unwritten.clear();
                    self.unflushed = true;
                    Ok(())
                }
                Woken::Flushed(Ok(())) => {
                    self.unflushed = false;
                    Ok(())
                }
                Woken::Read(Err(fault)) | Woken::Wrote(Err(fault)) | Woken::Flushed(Err(fault)) => {
                    Err(format!("the connection broke: {fault}"))
                }
                Woken::Wake => Ok(()),
                Woken::Time => self.timer(),
            };
            if let Err(reason) = went {
                self.keep_unwritten();
                // A line that was on its way may have arrived or not; to send it again could be twice.
                let on_its_way = usize::from(!self.out.is_empty());
                self.inner.lock().gave_up(on_its_way, &self.inner.name, "the connection broke while a line was sent");
                if matches!(self.registration.progress(), Progress::Failed(_)) && !left {
                    self.part(&mut write).await;
                }
                return match self.registration.progress() {
                    _ if left => End::Left,
                    Progress::Upgrade(port) => End::Upgrade(*port),
                    _ => End::Lost(reason, self.trouble),
                };
            }
            if left && self.ready_to_quit() {
                self.goodbye(&mut read, &mut write).await;
                return End::Left;
            }
        }
    }

    /// The next moment at which something is to be done.
    fn due(&self, queue: Option<Instant>) -> Instant {
        let never = self.heard + NEVER;
        let ping = self.inner.lock().settings.ping;
        let liveness = match self.asked {
            Some(asked) => asked + ping.timeout,
            None => self.heard + ping.after,
        };
        let step = self.registration.patience().map_or(never, |patience| self.step + patience);
        let look = if self.up.is_some() { self.upkeep.look_after } else { self.born + REGISTRATION };
        let (splits, receipts) = {
            let shared = self.inner.lock();
            (shared.splits.due().unwrap_or(never), shared.receipts.due().unwrap_or(never))
        };
        let quit = self.quit.unwrap_or(never).min(splits).min(receipts);
        liveness.min(step).min(look).min(quit).min(queue.unwrap_or(never))
    }

    /// Something may be due.
    fn timer(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let ping = self.inner.lock().settings.ping;
        if self.registration.patience().is_some_and(|patience| now >= self.step + patience) {
            self.registration.late();
            self.step = now;
            self.after_step()?;
        }
        match self.asked {
            Some(asked) if now >= asked + ping.timeout => {
                return Err(format!("the server has been silent for {} s", (now - self.heard).as_secs()));
            }
            None if now >= self.heard + ping.after => {
                self.asked = Some(now);
                self.pinged = Some(now);
                self.urgent("PING", &[PING])?;
            }
            _ => {}
        }
        if self.up.is_none() && now >= self.born + REGISTRATION {
            return Err(format!("not registered after {} s", REGISTRATION.as_secs()));
        }
        if self.up.is_some() && now >= self.upkeep.look_after {
            self.upkeep.put_right(&mut self.inner.lock());
            self.keep_again(now);
        }
        self.tell_splits(now);
        let (silent, doubt) = {
            let mut shared = self.inner.lock();
            (shared.receipts.silent(now), shared.receipts.asks())
        };
        self.guessed(silent);
        doubt.map_or(Ok(()), |token| self.urgent("PING", &[&token]))
    }

    /// Bytes came in.
    fn received(&mut self, bytes: &[u8], backoff: &mut Backoff) -> Result<(), String> {
        self.heard = Instant::now();
        self.asked = None;
        let dropped = self.reader.dropped();
        self.reader.feed(bytes);
        let mut reader = std::mem::take(&mut self.reader);
        let mut result = Ok(());
        while let Some(line) = reader.next_line() {
            result = self.line(&line, backoff);
            if result.is_err() {
                break;
            }
        }
        self.inner.lock().status.dropped += reader.dropped() - dropped;
        self.reader = reader;
        result
    }

    /// One line.
    fn line(&mut self, line: &str, backoff: &mut Backoff) -> Result<(), String> {
        let Ok(message) = Message::parse(line) else {
            return Ok(());
        };
        if let Some(line) = message.in_capitals(line) {
            return self.line(&line, backoff);
        }
        if message.is("PING") {
            return self.urgent("PONG", message.params());
        }
        if message.is("PONG") {
            self.ponged(message.last());
        }
        let told_of_changes = self.registration.has("account-notify");
        self.registration.take(&message);
        let follows = self.registration.has("account-notify");
        if told_of_changes != follows {
            self.inner.lock().state.follow_accounts(follows);
        }
        if self.registration.is_step(&message) {
            self.step = Instant::now();
        }
        if let Some(trouble) = self.told_trouble(&message) {
            self.trouble = trouble;
        }
        if let Some(seconds) = self.registration.keep() {
            self.keep(seconds);
        }
        self.after_step()?;
        if self.up.is_none() && self.registration.progress() == &Progress::Ready {
            self.up = Some(Instant::now());
            backoff.up();
        }
        if let Some(refused) = self.wholes.take(&message) {
            self.say_apart(refused);
        }
        let parcel = self.understand(&message);
        self.tell(parcel);
        if message.is("BATCH") {
            // A message in parts is one when its batch ends.
            let whole = {
                let mut shared = self.inner.lock();
                let whole = shared.history.batch(&message);
                let page = shared.history.page();
                page.into_iter().for_each(|page| self.upkeep.page_ended(&page, &mut shared));
                whole
            };
            let whole = whole.as_deref().and_then(|line| Message::parse(line).ok());
            let parcel = whole.and_then(|whole| self.understand(&whole));
            self.tell(parcel);
        }
        Ok(())
    }

    /// The server answers a PING of ours.
    fn ponged(&mut self, token: &str) {
        if token == PING {
            let took = self.pinged.take().map(|at| at.elapsed().as_millis());
            self.inner.lock().status.lag_ms = took.and_then(|took| u64::try_from(took).ok());
        }
        let proven = self.inner.lock().receipts.proven(token);
        self.guessed(proven);
    }

    /// The server has had its time to refuse these lines.
    fn guessed(&self, lines: Vec<u64>) {
        lines.into_iter().for_each(|id| self.inner.around.fate(id, Fate::Guessed));
    }

    /// Hands over what there is to tell. The connection never waits for the street, so a PING is always answered.
    fn tell(&self, parcel: Option<Parcel>) {
        if let Some(parcel) = parcel
            && self.ways.inlet.try_put(parcel).is_err()
            && !self.ways.inlet.is_closed()
        {
            self.dropped();
        }
    }

    fn told_trouble(&self, message: &Message<'_>) -> Option<Trouble> {
        Trouble::told_by(message, message.is("KILL") && self.inner.lock().state.is_own(message.param(0)))
    }

    fn dropped(&self) {
        let mut shared = self.inner.lock();
        shared.status.dropped += 1;
        // Each power of two, so that a flood does not flood the log.
        if shared.status.dropped.is_power_of_two() {
            tracing::warn!(network = %self.inner.name, dropped = shared.status.dropped, "The street is full: lines are dropped");
        }
    }

    /// What the registration wants sent, and whether it has failed.
    fn after_step(&mut self) -> Result<(), String> {
        self.send_registration();
        match self.registration.progress() {
            Progress::Failed(reason) => Err(reason.clone()),
            Progress::Upgrade(port) => Err(format!("the server demands TLS on port {port}")),
            Progress::Going | Progress::Ready => Ok(()),
        }
    }

    fn send_registration(&mut self) {
        let lines = self.registration.lines();
        let mut shared = self.inner.lock();
        for line in lines {
            // A dozen lines at most; there is room.
            let _ = shared.outgoing.push(Class::Urgent, "", Line::own(line));
        }
    }

    fn urgent(&self, command: &str, params: &[&str]) -> Result<(), String> {
        let Ok(line) = compose(&[], command, params) else { return Ok(()) };
        let pushed = self.inner.lock().outgoing.push(Class::Urgent, "", Line::own(line));
        pushed.map_err(|_| "the server asks for answers and reads none".to_owned())
    }

    /// Whether everything said before we leave is sent, or has had its time.
    fn ready_to_quit(&self) -> bool {
        let waiting = self.inner.lock().outgoing.sendable();
        let drained = waiting == 0 && self.out.is_empty() && !self.unflushed;
        drained || self.quit.is_some_and(|at| Instant::now() >= at)
    }

    /// Bytes that came in after our QUIT: what became of the last lines is noted, so that the next start says none of them
    /// again. Nothing else is done for them.
    fn account(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
        let mut reader = std::mem::take(&mut self.reader);
        while let Some(line) = reader.next_line() {
            let Ok(message) = Message::parse(&line) else { continue };
            if message.is("ERROR") {
                let read = self.inner.lock().receipts.read_all();
                self.guessed(read);
            }
            self.understand(&message);
        }
        self.reader = reader;
    }

    async fn goodbye<R, W>(&mut self, read: &mut R, write: &mut W)
    where
        R: AsyncReadExt + Unpin,
        W: AsyncWriteExt + Unpin,
    {
        let reason = self.inner.lock().farewell.clone().unwrap_or_default().replace(['\r', '\n', '\0'], " ");
        let unsent = self.inner.lock().outgoing.words();
        let reason = self.inner.around.hide(&reason);
        let bye = compose(&[], "QUIT", &[&reason]).unwrap_or_else(|_| "QUIT".to_owned());
        self.out.extend_from_slice(&encode(&bye));
        self.out.extend_from_slice(b"\r\n");
        let out = std::mem::take(&mut self.out);
        let farewell = async {
            write.write_all(&out).await?;
            write.flush().await?;
            let mut rest = [0; READ_BYTES];
            loop {
                match read.read(&mut rest).await? {
                    0 => return std::io::Result::Ok(()),
                    bytes => self.account(&rest[..bytes]),
                }
            }
        };
        // However it ends, it ends.
        let _ = tokio::time::timeout(CLOSE, farewell).await;
        tracing::info!(network = %self.inner.name, unsent, "Left");
    }
}

/// Writes some of what is left; flushes when nothing is.
async fn write_or_flush<W: AsyncWriteExt + Unpin>(write: &mut W, out: &[u8]) -> Woken {
    if out.is_empty() { Woken::Flushed(write.flush().await) } else { Woken::Wrote(write.write(out).await) }
}
