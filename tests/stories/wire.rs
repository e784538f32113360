//! A server that says what the story wants, on a free loopback port: in plain text, or with TLS by an authority of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masterchief::contract::Future;
use masterchief::irc::{Channel, Dial, DialFault, PaceSettings, ServerAddr, Settings, Stream, Tls, Via};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::person::PATIENCE;

/// Bytes both ways.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A port that a bot connects to.
pub(crate) struct Wire {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// The same in memory, for stories whose time costs none.
pub(crate) struct Memory {
    dialled: mpsc::Receiver<tokio::io::DuplexStream>,
}

/// How a bot gets there.
pub(crate) struct ToMemory(mpsc::Sender<tokio::io::DuplexStream>);

impl Dial for ToMemory {
    fn dial(&self, server: &ServerAddr, _tls: &Tls, _via: &Via) -> Future<Result<Stream, DialFault>> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let refused = DialFault::Connect(server.to_string(), std::io::ErrorKind::ConnectionRefused.into());
        let dialled = self.0.try_send(theirs).map(|()| Box::new(ours) as Stream).map_err(|_| refused);
        Box::pin(std::future::ready(dialled))
    }
}

impl Memory {
    /// A server, and the way to it.
    pub(crate) fn new() -> (Memory, ToMemory) {
        let (to, dialled) = mpsc::channel(1);
        (Memory { dialled }, ToMemory(to))
    }

    /// Settings of a bot that connects here, in #ops, at any pace.
    pub(crate) fn settings() -> Settings {
        Settings {
            tls: Tls::off(),
            channels: vec![Channel { name: "#ops".to_owned(), key: None }],
            pace: PaceSettings { burst: 1, interval: Duration::ZERO },
            ..Settings::new(vec![ServerAddr::new("memory.test", 6667)])
        }
    }

    /// The bot's next connection.
    pub(crate) async fn accepts(&mut self) -> Line {
        let tcp: Box<dyn Bytes> = Box::new(self.dialled.recv().await.expect("the bot is gone"));
        Line { stream: BufReader::new(tcp) }
    }
}

/// One connection of the bot.
pub(crate) struct Line {
    stream: BufReader<Box<dyn Bytes>>,
}

/// An authority for `localhost`, kept in a folder.
pub(crate) struct Authority {
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    path: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "story authority");
        let path = folder.join("story-ca.pem");
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "::1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap().der().clone();
        Authority { cert, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(), path }
    }

    /// What a bot needs to trust it.
    pub(crate) fn trusted(&self) -> Tls {
        Tls { ca: Some(self.path.clone()), ..Tls::default() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            builder.with_no_client_auth().with_single_cert(vec![self.cert.clone()], self.key.clone_key()).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Wire {
    pub(crate) async fn plain() -> Wire {
        Wire { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls: None }
    }

    pub(crate) async fn secure(authority: &Authority) -> Wire {
        Wire { tls: Some(authority.acceptor()), ..Wire::plain().await }
    }

    /// At an IPv6 address of this machine; nothing where it has none.
    pub(crate) async fn at_six(authority: Option<&Authority>) -> Option<Wire> {
        let listener = TcpListener::bind("[::1]:0").await.ok()?;
        Some(Wire { listener, tls: authority.map(Authority::acceptor) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Settings of a bot that connects here in plain text, in #ops, at any pace.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            tls: Tls::off(),
            channels: vec![Channel { name: "#ops".to_owned(), key: None }],
            pace: PaceSettings { burst: 1, interval: Duration::ZERO },
            ..Settings::new(vec![ServerAddr::new("localhost", self.port())])
        }
    }

    /// The bot's next connection.
    pub(crate) async fn accepts(&self) -> Line {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (tcp, _) = accepted.expect("the bot does not connect").unwrap();
        let stream: Box<dyn Bytes> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.accept(tcp).await.unwrap()),
        };
        Line { stream: BufReader::new(stream) }
    }

    /// Whether the bot leaves this port alone for a while.
    pub(crate) async fn is_left_alone(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.listener.accept()).await.is_err()
    }

    /// Takes a connection whose other end does not like our certificate.
    pub(crate) async fn is_refused(&self) {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (tcp, _) = accepted.expect("the bot does not connect").unwrap();
        // With TLS 1.3 that may be heard only by who reads on.
        if let Ok(mut stream) = self.tls.as_ref().expect("TLS").accept(tcp).await {
            let mut bytes = [0; 64];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await;
            assert!(!matches!(read, Ok(1..)), "it says {}", bytes.escape_ascii());
        }
    }

    /// Takes a connection and ends it at once.
    pub(crate) async fn hangs_up(&self) {
        tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("the bot does not connect").unwrap();
    }
}

impl Line {
    /// What is behind it, for who speaks something else than lines.
    pub(crate) fn into_stream(self) -> BufReader<Box<dyn Bytes>> {
        self.stream
    }

    pub(crate) async fn says(&mut self, lines: &[&str]) {
        for line in lines {
            self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        }
        self.stream.flush().await.unwrap();
    }

    /// Some bytes, whatever they are; false when the bot has hung up.
    pub(crate) async fn writes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Says nothing more; gives what the bot has still said until it hung up.
    pub(crate) async fn closes(mut self) -> Vec<String> {
        // It may have hung up before.
        let _ = self.stream.shutdown().await;
        self.rest().await
    }

    /// Everything the bot says until it hangs up for want of an answer.
    pub(crate) async fn rest_in_silence(mut self) -> Vec<String> {
        let mut said = String::new();
        // What is no text has no end either: it is not looked at.
        let _ = tokio::io::AsyncReadExt::read_to_string(&mut self.stream, &mut said).await;
        said.lines().map(str::to_owned).collect()
    }

    /// The lines that the bot has said until it answers this, and whether it did; it did not where it has hung up.
    pub(crate) async fn answers(&mut self, token: &str) -> (Vec<String>, bool) {
        let mut heard = Vec::new();
        if !self.writes(format!("PING :{token}\r\n").as_bytes()).await {
            return (self.rest().await, false);
        }
        let wanted = format!("PONG {token}");
        while let Some(line) = self.next().await {
            if line == wanted {
                return (heard, true);
            }
            heard.push(line);
        }
        (heard, false)
    }

    /// The next line; nothing when the bot has hung up.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("the bot says nothing");
        read.is_ok_and(|bytes| bytes > 0).then(|| line.trim_end().to_owned())
    }

    /// The next line, if one comes within this time.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(time, self.stream.read_line(&mut line)).await.ok()?;
        read.is_ok_and(|bytes| bytes > 0).then(|| line.trim_end().to_owned())
    }

    /// Reads until a line begins like this; gives that line.
    pub(crate) async fn hears(&mut self, beginning: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Some(line) if line.starts_with(beginning) => return line,
                Some(line) => before.push(line),
                None => panic!("waited for {beginning:?} until the bot hung up; heard {before:#?}"),
            }
        }
    }

    /// Everything the bot still says before it hangs up.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(line) = self.next().await {
            out.push(line);
        }
        out
    }

    /// Offers these capabilities, grants what is asked for, and waits for CAP END. Whether anything was asked for.
    pub(crate) async fn negotiates(&mut self, caps: &str) -> bool {
        self.hears("CAP LS 302").await;
        self.says(&[&format!(":s CAP * LS :{caps}")]).await;
        let mut granted = false;
        loop {
            let line = self.hears("CAP ").await;
            match line.strip_prefix("CAP REQ ") {
                Some(asked) => self.says(&[&format!(":s CAP * ACK :{}", asked.trim_start_matches(':'))]).await,
                None => {
                    assert_eq!(line, "CAP END");
                    return granted;
                }
            }
            granted = true;
        }
    }

    /// Takes the bot in, with these tokens of 005.
    pub(crate) async fn welcomes(&mut self, isupport: &str) {
        let tokens = format!(":s 005 chief {isupport} :are supported");
        self.says(&[":s 001 chief :Welcome chief!c@host", &tokens, ":s 422 chief :No MOTD"]).await;
    }

    /// Negotiates, welcomes, and lets the bot into its channel, in which alice is too.
    pub(crate) async fn is_joined(&mut self, caps: &str, isupport: &str) {
        self.negotiates(caps).await;
        self.welcomes(isupport).await;
        self.hears("JOIN #ops").await;
        let names = [":s 353 chief = #ops :chief @alice!a@h", ":s 366 chief #ops :End"];
        self.says(&[":chief!c@host JOIN #ops", names[0], names[1]]).await;
    }
}
