//! A connection until the link is up: bytes, TLS at the right moment, and the two machines of the login driven over it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use masterchief_contract::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::hub::{Ask, Looked};
use super::line::{LineReader, TooLong};
use super::login::{Answerer, Caller, LoginFault, PeerVersion, Step};
use super::name::BotName;
use super::tls::Tls;
use crate::irc::{Fingerprint, Stream};

/// How long a login may take, as in Eggdrop.
const LOGIN: Duration = Duration::from_secs(60);
/// How long one who has let us in may be silent before we say our version first.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a second link of a bot waits for the end of the first (`dupwait-timeout`).
const DUPLICATE: Duration = Duration::from_secs(5);
/// How often it is looked whether that has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What to do about one that answers TLS with something else.
const NO_TLS: &str = "; that port does not begin with TLS: name the one that does (+PORT), or say `tls: starttls`";

/// Whether somebody answered in clear where TLS should begin.
fn is_clear(fault: &io::Error) -> bool {
    let fault = fault.get_ref().and_then(|fault| fault.downcast_ref::<rustls::Error>());
    matches!(fault, Some(rustls::Error::InvalidMessage(_)))
}

/// Why a connection did not become a link, or a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    /// Nobody answers.
    #[error("{0}")]
    Connect(String),
    /// The connection fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// TLS cannot begin.
    #[error("TLS: {0}{hint}", hint = if is_clear(.0) { NO_TLS } else { "" })]
    Tls(io::Error),
    /// The login fails.
    #[error(transparent)]
    Login(#[from] LoginFault),
    /// The login takes too long.
    #[error("the login took longer than {} s", LOGIN.as_secs())]
    Slow,
    /// A line is too long.
    #[error(transparent)]
    Line(#[from] TooLong),
    /// Something came in clear where TLS begins.
    #[error("there were bytes in clear where TLS should begin; somebody may be between")]
    Smuggled,
    /// Another certificate than before.
    #[error(
        "its certificate is {seen} and not the one that is known; if it has a new one, forget the old one, else somebody is between"
    )]
    Pin {
        /// What it shows.
        seen: Fingerprint,
    },
    /// No certificate where one is known.
    #[error("it shows no certificate, and one is known of it")]
    NoCertificate,
    /// The bot stops.
    #[error("the bot is shutting down")]
    Closing,
}

/// A connection that is no link yet.
pub(super) struct Connection {
    stream: Option<Stream>,
    pub(super) reader: LineReader,
    pub(super) encrypted: bool,
    pub(super) seen: Option<Fingerprint>,
    /// The address of the other side, where that is known.
    pub(super) at: Option<IpAddr>,
    host: String,
}

/// A login that went well.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) version: PeerVersion,
    /// A password that was made for this link.
    pub(super) learned: Option<Secret>,
}

/// The certificate has to be one of these; with none known, it is remembered: `Some`.
pub(super) fn check_pin(pins: &[Fingerprint], seen: Option<Fingerprint>) -> Result<Option<Fingerprint>, LinkFault> {
    match seen {
        Some(seen) if pins.is_empty() => Ok(Some(seen)),
        Some(seen) if pins.contains(&seen) => Ok(None),
        Some(seen) => Err(LinkFault::Pin { seen }),
        None if pins.is_empty() => Ok(None),
        None => Err(LinkFault::NoCertificate),
    }
}

impl Connection {
    /// Over an open stream, of which `read` was read already. `host` is what TLS is told.
    pub(super) fn new(stream: Stream, host: &str, read: &[u8]) -> Connection {
        let (stream, reader) = (Some(stream), LineReader::holding(read));
        Connection { stream, reader, encrypted: false, seen: None, at: None, host: host.to_owned() }
    }

    /// The stream as it is; it is not used here again.
    pub(super) fn into_stream(self) -> io::Result<(Stream, LineReader)> {
        let stream = self.stream.ok_or(io::ErrorKind::NotConnected)?;
        Ok((stream, self.reader))
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads what is there; `false` at the end.
    async fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let read = self.stream()?.read(&mut bytes).await?;
        self.reader.feed(&bytes[..read]);
        Ok(read > 0)
    }

    pub(super) async fn write(&mut self, text: &str) -> io::Result<()> {
        let stream = self.stream()?;
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    }

    fn bare(&mut self) -> Result<Stream, LinkFault> {
        if !self.reader.is_empty() {
            return Err(LinkFault::Smuggled);
        }
        self.stream.take().ok_or_else(|| LinkFault::Io(io::ErrorKind::NotConnected.into()))
    }

    pub(super) async fn begin_tls(&mut self, tls: &Tls) -> Result<(), LinkFault> {
        let stream = self.bare()?;
        let (stream, seen) = tls.connect(stream, &self.host).await.map_err(LinkFault::Tls)?;
        (self.stream, self.seen, self.encrypted) = (Some(stream), seen, true);
        Ok(())
    }

    pub(super) async fn accept_tls(&mut self, tls: &Tls) -> Result<(), LinkFault> {
        let stream = self.stream.take().ok_or_else(|| LinkFault::Io(io::ErrorKind::NotConnected.into()))?;
        let (stream, seen) = tls.accept(stream, self.reader.take_rest()).await.map_err(LinkFault::Tls)?;
        (self.stream, self.seen, self.encrypted) = (Some(stream), seen, true);
        Ok(())
    }

    /// Logs in as the one who calls. `pins` are the certificates that are taken.
    pub(super) async fn call(
        &mut self,
        mut machine: Caller,
        tls: &Tls,
        pins: &[Fingerprint],
    ) -> Result<LoggedIn, LinkFault> {
        let login = async {
            let mut learned = None;
            loop {
                while let Some(line) = self.reader.next_line()? {
                    let steps = machine.line(&line);
                    if let Some(version) = self.do_call(&mut machine, steps, tls, pins, &mut learned).await? {
                        return Ok(LoggedIn { version, learned });
                    }
                }
                let steps = match tokio::time::timeout(SILENCE, self.read()).await {
                    Ok(read) => match read? {
                        true => machine.bytes(),
                        false => return Err(machine.closed().into()),
                    },
                    Err(_silent) => machine.silence(),
                };
                self.do_call(&mut machine, steps, tls, pins, &mut learned).await?;
            }
        };
        tokio::time::timeout(LOGIN, login).await.unwrap_or(Err(LinkFault::Slow))
    }

    async fn do_call(
        &mut self,
        machine: &mut Caller,
        steps: Vec<Step>,
        tls: &Tls,
        pins: &[Fingerprint],
        learned: &mut Option<Secret>,
    ) -> Result<Option<PeerVersion>, LinkFault> {
        let mut left: std::collections::VecDeque<Step> = steps.into();
        while let Some(step) = left.pop_front() {
            match step {
                Step::Send(text) => self.write(&text).await?,
                Step::BeginTls => {
                    self.begin_tls(tls).await?;
                    // Before anything is proven to it.
                    check_pin(pins, self.seen)?;
                    left.extend(machine.tls_is_up());
                }
                Step::Learn(password) | Step::Made(password) => *learned = Some(password),
                Step::Up(version) => return Ok(Some(version)),
                Step::Fail(fault) => return Err(fault.into()),
                Step::AcceptTls | Step::WhoIs(_) => {}
            }
        }
        Ok(None)
    }

    /// Logs in as the one who answers. `name` was said already if the connection was taken over.
    pub(super) async fn answer(
        &mut self,
        machine: Answerer,
        tls: &Tls,
        hub: &mpsc::Sender<Ask>,
        name: Option<&BotName>,
    ) -> Result<(BotName, LoggedIn), LinkFault> {
        let mut answering =
            Answering { connection: self, machine, tls, hub, bot: None, learned: None, pins: Vec::new() };
        let login = answering.run(name);
        tokio::time::timeout(LOGIN, login).await.unwrap_or(Err(LinkFault::Slow))
    }
}

/// An answer that is under way.
struct Answering<'a> {
    connection: &'a mut Connection,
    machine: Answerer,
    tls: &'a Tls,
    hub: &'a mpsc::Sender<Ask>,
    bot: Option<BotName>,
    learned: Option<Secret>,
    pins: Vec<Fingerprint>,
}

impl Answering<'_> {
    async fn run(&mut self, name: Option<&BotName>) -> Result<(BotName, LoggedIn), LinkFault> {
        let steps = match name {
            Some(name) => self.machine.line(name.as_str()),
            None => vec![self.machine.banner()],
        };
        let mut up = self.perform(steps).await?;
        loop {
            if let (Some(version), Some(bot)) = (up.take(), self.bot.clone()) {
                return Ok((bot, LoggedIn { version, learned: self.learned.take() }));
            }
            let steps = self.connection.reader.next_line()?.map(|line| self.machine.line(&line));
            match steps {
                Some(steps) => up = self.perform(steps).await?,
                None if self.connection.read().await? => {}
                None => return Err(LoginFault::Refused("it closed the connection".to_owned()).into()),
            }
        }
    }

    async fn perform(&mut self, steps: Vec<Step>) -> Result<Option<PeerVersion>, LinkFault> {
        let mut left: std::collections::VecDeque<Step> = steps.into();
        let mut up = None;
        while let Some(step) = left.pop_front() {
            match step {
                Step::Send(text) => self.connection.write(&text).await?,
                Step::AcceptTls => {
                    self.connection.accept_tls(self.tls).await?;
                    check_pin(&self.pins, self.connection.seen)?;
                    self.machine.tls_is_up();
                }
                Step::WhoIs(name) => left.extend(self.look(name).await?),
                Step::Learn(password) | Step::Made(password) => self.learned = Some(password),
                Step::Up(version) => up = Some(version),
                Step::Fail(fault) => return Err(fault.into()),
                Step::BeginTls => {}
            }
        }
        Ok(up)
    }

    /// What is known of one who calls. While an older link of it is there, it waits a little for its end.
    async fn look(&mut self, name: BotName) -> Result<Vec<Step>, LinkFault> {
        let end = tokio::time::Instant::now() + DUPLICATE;
        loop {
            let (reply, answer) = oneshot::channel();
            let asked = self.hub.send(Ask::WhoIs { name: name.clone(), reply }).await;
            asked.map_err(|_| LinkFault::Closing)?;
            let looked: Option<Looked> = answer.await.map_err(|_| LinkFault::Closing)?;
            let Some(looked) = looked else { return Ok(self.machine.known(None)) };
            if looked.linked && tokio::time::Instant::now() < end {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            if looked.linked {
                return Ok(self.machine.duplicate());
            }
            if self.connection.encrypted {
                check_pin(&looked.pins, self.connection.seen)?;
            }
            self.pins = looked.pins;
            self.bot = Some(looked.name);
            return Ok(self.machine.known(Some(looked.known)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::super::login::Known;
    use super::*;

    fn tls(name: &str) -> Tls {
        Tls::new(None, None, None, name).unwrap()
    }

    #[tokio::test]
    async fn a_port_that_does_not_begin_with_tls_is_told_from_other_trouble() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"\r\nHubBot  (Eggdrop v1.9.5)\r\n").await.unwrap();
        let Err(fault) = tls("Chief").connect(Box::new(ours), "hub.example").await else { panic!("TLS began") };
        assert!(LinkFault::Tls(fault).to_string().contains("`tls: starttls`"));
        let other = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(!LinkFault::Tls(other).to_string().contains("starttls"));
    }

    fn caller() -> Caller {
        Caller::new("Chief".parse().unwrap(), "MasterChief v0", Some(Secret::new("geheim"))).with_starttls()
    }

    /// A connection, and its other end.
    fn pair() -> (Connection, DuplexStream) {
        let (near, far) = tokio::io::duplex(65_536);
        (Connection::new(Box::new(near), "", &[]), far)
    }

    async fn all(mut far: DuplexStream) -> String {
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn bytes_in_clear_behind_the_beginning_of_tls_end_the_call() {
        let (mut connection, mut far) = pair();
        far.write_all(b"starttls\npassreq <1@Hub>\n*hello!\n").await.unwrap();
        let done = connection.call(caller(), &tls("Chief"), &[]).await;
        assert!(matches!(done, Err(LinkFault::Smuggled)));
        drop(connection);
        assert_eq!(all(far).await, "Chief\nstarttls -\n");
    }

    #[tokio::test]
    async fn one_with_another_certificate_gets_no_proof() {
        let (mut connection, mut far) = pair();
        let rogue = tokio::spawn(async move {
            far.write_all(b"starttls\npassreq <1@Hub>\n").await.unwrap();
            let mut said = [0; 17];
            far.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"Chief\nstarttls -\n");
            let mut heard = Vec::new();
            // Who hangs up at once may be gone before its last words are written.
            let Ok((mut stream, _)) = tls("Rogue").accept(Box::new(far), Vec::new()).await else { return heard };
            // It ends without a goodbye.
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        let done = connection.call(caller(), &tls("Chief"), &[Fingerprint([7; 32])]).await;
        assert!(matches!(done, Err(LinkFault::Pin { .. })));
        drop(connection);
        assert_eq!(rogue.await.unwrap(), b"");
    }

    /// A hub that knows everybody by the password `geheim`, and says so many times that they are linked already.
    fn hub(mut linked: usize) -> mpsc::Sender<Ask> {
        let (to, mut asks) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(Ask::WhoIs { name, reply }) = asks.recv().await {
                let known = Known { password: Some(Secret::new("geheim")), insecure: true, ..Known::default() };
                let looked = Looked { name, known, pins: Vec::new(), linked: linked > 0 };
                linked = linked.saturating_sub(1);
                assert!(reply.send(Some(looked)).is_ok());
            }
        });
        to
    }

    fn answerer() -> Answerer {
        Answerer::new("Chief".parse().unwrap(), "MasterChief v0", "1", Secret::new("fresh"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_link_waits_a_little_for_the_end_of_the_first() {
        let (mut connection, mut far) = pair();
        far.write_all(b"Leaf\n").await.unwrap();
        let done = connection.answer(answerer(), &tls("Chief"), &hub(1000), None).await;
        assert!(matches!(done, Err(LinkFault::Login(LoginFault::Duplicate))));
        drop(connection);
        assert!(all(far).await.ends_with("error Already connected.\n"));
        // The first has ended meanwhile, and the login goes on.
        let (mut connection, mut far) = pair();
        let proof = super::super::login::digest("<1@Chief>", &Secret::new("geheim"));
        far.write_all(format!("Leaf\ndigest {proof}\nversion 1080404 32 eggdrop\n").as_bytes()).await.unwrap();
        let (bot, done) = connection.answer(answerer(), &tls("Chief"), &hub(5), None).await.unwrap();
        assert_eq!((bot.as_str(), done.version.number), ("Leaf", 1_080_404));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_takes_too_long_ends() {
        let (mut connection, _far) = pair();
        let done = connection.call(caller(), &tls("Chief"), &[]).await;
        assert!(matches!(done, Err(LinkFault::Slow)));
        let (mut connection, _far) = pair();
        let done = connection.answer(answerer(), &tls("Chief"), &hub(0), None).await;
        assert!(matches!(done, Err(LinkFault::Slow)));
    }
}
