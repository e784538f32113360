//! Ways into the partyline: TLS and certificates, SASL, authenticators, pages; and what is no way in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use masterchief::bot::{Bot, Started};
use masterchief::contract::{Event, Kind};
use masterchief::partyline::Settings;
use masterchief::users::{Totp, User};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::partyline::{PASSWORD, Typist, bot, knows};
use super::person::PATIENCE;
use super::wire::{Authority, Wire};

/// A client that speaks lines, over whatever.
struct Lines<S> {
    stream: BufReader<S>,
    seen: Vec<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    fn over(stream: S) -> Lines<S> {
        Lines { stream: BufReader::new(stream), seen: Vec::new() }
    }

    async fn sends(&mut self, lines: &str) {
        let lines = lines.replace('\n', "\r\n");
        self.stream.get_mut().write_all(format!("{lines}\r\n").as_bytes()).await.unwrap();
    }

    /// The next line with these words.
    async fn hears(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let reading = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line));
            let count = reading.await.unwrap_or_else(|_| panic!("{words:?} never came: {:#?}", self.seen)).unwrap_or(0);
            assert!(count > 0, "closed before {words:?}: {:#?}", self.seen);
            self.seen.push(line.trim_end().to_owned());
            if line.contains(words) {
                return line.trim_end().to_owned();
            }
        }
    }
}

async fn plain(at: SocketAddr) -> Lines<TcpStream> {
    Lines::over(TcpStream::connect(at).await.unwrap())
}

/// Looks at the certificate and remembers whose it is.
#[derive(Debug)]
struct Pinned(String);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if hex(cert) == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("another certificate".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("old".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        rustls::crypto::verify_tls13_signature(message, cert, signature, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects by TLS, showing a certificate of one's own.
async fn secure(
    bot: &Started,
    at: SocketAddr,
    mine: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> Lines<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(mine.signing_key.serialize_der()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(bot.partyline_fingerprint().to_owned())))
        .with_client_auth_cert(vec![mine.cert.der().clone()], key)
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(at).await.unwrap();
    Lines::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
}

#[tokio::test]
async fn the_same_port_takes_tls_and_a_certificate_is_a_login() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    let mine = rcgen::generate_simple_self_signed(vec!["alice".to_owned()]).unwrap();
    let mut alice = User::new("alice").unwrap();
    alice.change_flags("p").unwrap();
    alice.add_cert(&hex(mine.cert.der())).unwrap();
    bot.put_user(alice).await.unwrap();
    let mut client = secure(&bot, at, &mine).await;
    client.sends("CAP LS 302\nNICK someone\nUSER a 0 * :A\nCAP REQ :sasl\nAUTHENTICATE EXTERNAL").await;
    client.hears("AUTHENTICATE +").await;
    client.sends("AUTHENTICATE +").await;
    client.hears(" 903 ").await;
    client.sends("CAP END").await;
    let welcome = client.hears(" 001 ").await;
    assert!(welcome.contains("001 alice"), "whose record it is says what they are called: {welcome}");
    // Without SASL the certificate is enough too, and another one is not.
    let mut client = secure(&bot, at, &mine).await;
    client.sends("NICK alice\nUSER a 0 * :A").await;
    client.hears(" 001 ").await;
    let other = rcgen::generate_simple_self_signed(vec!["alice".to_owned()]).unwrap();
    let mut client = secure(&bot, at, &other).await;
    client.sends("NICK alice\nUSER a 0 * :A").await;
    client.hears(" 464 ").await;
    bot.stop("").await;
}

#[tokio::test]
async fn a_port_of_its_own_takes_tls_and_nothing_in_clear() {
    let settings = Settings { tls_listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    let (bot, at) = bot(Bot::builder(), settings).await;
    let tls_at = bot.partyline_at().1.unwrap();
    assert_ne!(at, tls_at);
    knows(&bot, "alice", "p").await;
    let words = format!("PASS :alice:{PASSWORD}\nNICK alice\nUSER a 0 * :A");
    let mine = rcgen::generate_simple_self_signed(vec!["alice".to_owned()]).unwrap();
    let mut client = secure(&bot, tls_at, &mine).await;
    client.sends(&words).await;
    client.hears(" 001 ").await;
    let sessions = || bot.party().each(|_| ()).len();
    assert_eq!(sessions(), 1);
    // The same words in clear end the connection; on the other port they are a login.
    let mut refused = plain(tls_at).await;
    refused.sends(&words).await;
    let mut heard = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(PATIENCE, refused.stream.read_to_end(&mut heard)).await.expect("it is still open");
    let clear = |heard: &[u8]| heard.is_empty() || heard[0] == 0x15;
    assert!(clear(&heard), "at most an alert of TLS: {}", heard.escape_ascii());
    assert_eq!(sessions(), 1);
    let mut taken = plain(at).await;
    taken.sends(&words).await;
    taken.hears(" 001 ").await;
    assert_eq!(sessions(), 2);
    // Who is silent is greeted there, and here not.
    let (mut silent, mut greeted) = (plain(tls_at).await, plain(at).await);
    greeted.hears("Please enter your handle.").await;
    let mut byte = [0; 1];
    let asked = tokio::time::timeout(Duration::from_millis(500), silent.stream.read(&mut byte)).await;
    assert!(asked.is_err(), "{asked:?} {}", byte.escape_ascii());
    bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_connection_is_encrypted_is_told_with_its_session_and_for_a_server_as_0() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let tell = {
        let told = Arc::clone(&told);
        move |ev: Event| {
            let told = Arc::clone(&told);
            async move { told.lock().unwrap().push(format!("{}/{} {}", ev.network, ev.nick(), ev.field("idx").unwrap())) }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let wire = Wire::secure(&authority).await;
    let network = masterchief::irc::Settings { tls: authority.trusted(), ..wire.settings() };
    let builder = Bot::builder().network("story", network).bind(masterchief::irc::TLS, "-|-", "*", tell).unwrap();
    let (bot, at) = bot(builder, Settings::default()).await;
    let mut line = wire.accepts().await;
    line.is_joined("", "").await;
    let mine = rcgen::generate_simple_self_signed(vec!["alice".to_owned()]).unwrap();
    let mut alice = User::new("alice").unwrap();
    alice.change_flags("p").unwrap();
    alice.add_cert(&hex(mine.cert.der())).unwrap();
    bot.put_user(alice).await.unwrap();
    knows(&bot, "bob", "p").await;
    let _bob = Typist::logs_in(at, "bob").await;
    let mut client = secure(&bot, at, &mine).await;
    client.sends("NICK alice\nUSER a 0 * :A").await;
    client.hears(" 001 ").await;
    let sessions = bot.party().each(|session| (session.handle.to_string(), session.idx));
    let idx = sessions.iter().find(|(handle, _)| handle == "alice").unwrap().1;
    let wanted = ["story/ 0".to_owned(), format!("partyline/alice {idx}")];
    while told.lock().unwrap().len() < wanted.len() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(*told.lock().unwrap(), wanted);
    drop(line);
    bot.stop("").await;
}

#[tokio::test]
async fn sasl_lets_in_with_a_password_and_the_code_of_an_authenticator_which_counts_once() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "olga", "n").await;
    let totp = Totp::new().unwrap();
    let olga = User::clone(&bot.book().get("olga").unwrap());
    bot.put_user(User { totp: Some(totp.clone()), ..olga }).await.unwrap();
    let attempt = async |password: String| {
        let mut client = plain(at).await;
        client.sends("CAP REQ :sasl\nNICK olga\nUSER o 0 * :O\nAUTHENTICATE PLAIN").await;
        client.hears("AUTHENTICATE +").await;
        let words = BASE64.encode(format!("\0olga\0{password}"));
        client.sends(&format!("AUTHENTICATE {words}\nCAP END")).await;
        client.hears(" 90").await
    };
    assert!(attempt(PASSWORD.to_owned()).await.contains("a code is wanted"));
    assert!(attempt(format!("{PASSWORD}:000")).await.contains(" 904 "));
    let code = code_of(&totp);
    assert!(attempt(format!("{PASSWORD}:{code}")).await.contains(" 900 "));
    assert!(attempt(format!("{PASSWORD}:{code}")).await.contains(" 904 "), "it was used");
    bot.stop("").await;
}

#[tokio::test]
async fn an_irc_client_that_was_silent_at_first_is_let_in_all_the_same() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut client = plain(at).await;
    client.hears("your handle.").await;
    client.sends(&format!("PASS :alice:{PASSWORD}\nNICK Alice\nUSER a 0 * :A")).await;
    client.hears(" 001 ").await;
    bot.stop("").await;
}

#[tokio::test]
async fn a_new_authenticator_is_told_its_secret_in_full_and_asked_for_from_then_on() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "olga", "n").await;
    let mut olga = Typist::logs_in(at, "olga").await;
    olga.types(".totp new").await;
    olga.reads("Put this into your authenticator: ").await;
    let told = olga.reads("&issuer=chief").await;
    let (secret, link) = told.split_once('\r').unwrap();
    assert!(link.contains(&format!("otpauth://totp/chief:olga?secret={secret}&")), "{told}");
    olga.types(&format!(".totp {}", code_of(&Totp::stored(secret)))).await;
    olga.reads("Your logins want a code from now on").await;
    bot.stop("").await;
}

/// What an authenticator shows now, made as RFC 6238 says: to try all codes may take longer than one counts.
fn code_of(totp: &Totp) -> String {
    let (mut secret, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in totp.as_stored().bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
        (held, bits) = ((held << 5 | value as u32) & 0xffff, bits + 5);
        if bits >= 8 {
            bits -= 8;
            secret.push((held >> bits & 0xff) as u8);
        }
    }
    let step = (chrono::Utc::now().timestamp() / 30).cast_unsigned();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let tag = ring::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 0xf);
    let four = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", four % 1_000_000)
}

#[tokio::test]
async fn tags_times_echoes_and_labels_come_as_a_client_asked() {
    let hello = |ev: Event| async move { format!("hi {}", ev.nick()) };
    let (bot, at) = bot(Bot::builder().bind(Kind::Pub, "-|-", "!hello", hello).unwrap(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut client = plain(at).await;
    client.sends("CAP LS 302\nCAP REQ :server-time message-tags echo-message batch labeled-response account-tag extended-join userhost-in-names").await;
    client.hears("ACK").await;
    client.sends(&format!("PASS :alice:{PASSWORD}\nNICK Alice\nUSER a 0 * :A\nCAP END")).await;
    client.hears(" 005 ").await;
    let joined = client.hears("JOIN #ops alice").await;
    assert!(joined.starts_with("@time=") && joined.contains("account=alice"), "{joined}");
    let names = client.hears(" 353 ").await;
    assert!(names.contains("@chief!chief@") && names.contains("alice!alice@127.0.0.1"), "{names}");
    client.sends("@label=x1 PRIVMSG #ops :!hello").await;
    let echo = client.hears("PRIVMSG #ops !hello").await;
    assert!(echo.contains("label=x1") && echo.contains("msgid="), "{echo}");
    client.hears("PRIVMSG #ops :hi alice").await;
    client.sends("@label=x2 WHOIS alice").await;
    let batch = client.hears("labeled-response").await;
    assert!(batch.starts_with("@label=x2 ") && batch.contains("BATCH +"), "{batch}");
    let account = client.hears(" 330 ").await;
    assert!(account.starts_with("@batch="), "{account}");
    client.sends("@label=x3 PONG x").await;
    client.hears("@label=x3 :partyline.masterchief ACK").await;
    client.sends("WHO #ops\nMODE #ops\nTOPIC #ops :on call: bob\nLIST\nMOTD\nMODE alice +i\nISON chief nobody").await;
    client.hears(" 352 ").await;
    client.hears("324 alice #ops +nt").await;
    client.hears("TOPIC #ops :on call: bob").await;
    client.hears("303 alice chief").await;
    client.sends(&format!("PRIVMSG #ops :{}", "x".repeat(3000))).await;
    client.hears(" 417 ").await;
    client.sends("PRIVMSG nobody :psst\nJOIN #nowhere\nFOO\nPRIVMSG #1 :hi").await;
    for numeric in [" 401 ", " 403 ", " 421 ", " 404 "] {
        client.hears(numeric).await;
    }
    bot.stop("").await;
}

#[tokio::test]
async fn a_page_comes_in_through_the_gateway_if_its_origin_may() {
    let gateway = masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let settings = Settings { origins: vec!["https://chat.example".to_owned()], ..Settings::default() };
    let (bot, _) = bot(Bot::builder().gateway(gateway), settings).await;
    knows(&bot, "alice", "p").await;
    let at = bot.gateway_at().unwrap();
    let ask = |origin: &'static str| {
        let mut request = format!("ws://{at}/partyline/ws").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "binary.ircv3.net, text.ircv3.net".parse().unwrap());
        headers.insert("origin", origin.parse().unwrap());
        request
    };
    let connect = async |request| {
        let stream = TcpStream::connect(at).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await
    };
    assert!(connect(ask("https://evil.example")).await.is_err());
    let (mut socket, answer) = connect(ask("https://chat.example")).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "binary.ircv3.net");
    for line in [&format!("PASS :alice:{PASSWORD}"), "NICK alice", "USER a 0 * :A"] {
        socket.send(Message::binary(line.as_bytes().to_vec())).await.unwrap();
    }
    let mut seen = Vec::new();
    let joined = async {
        while let Some(Ok(frame)) = socket.next().await {
            let line = String::from_utf8_lossy(&frame.into_data()).into_owned();
            assert!(!line.contains(['\r', '\n']), "one line a frame: {line:?}");
            let done = line.contains("366 alice #ops");
            seen.push(line);
            if done {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, joined).await.unwrap_or(false), "{seen:#?}");
    bot.stop("").await;
}

/// As irc-framework of a web client does it, over its WebSocket transport: one line a text frame, `CAP LS 302` first, SASL, and then what
/// it asks by itself.
#[tokio::test]
async fn a_web_client_of_others_registers_as_it_does_everywhere() {
    let gateway = masterchief::gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let (bot, _) = bot(Bot::builder().gateway(gateway), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let at = bot.gateway_at().unwrap();
    let mut request = format!("ws://{at}/partyline/ws").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "text.ircv3.net".parse().unwrap());
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "text.ircv3.net");
    let plain = format!("alice\0alice\0{PASSWORD}");
    let plain = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, plain.as_bytes());
    let proof = format!("AUTHENTICATE {plain}");
    // What is said, and what has to come before the next.
    let talk: [(&[&str], &str); 7] = [
        (&["CAP LS 302", "NICK alice", "USER alice 0 * :Alice in a browser"], " LS "),
        (&["CAP REQ :sasl message-tags server-time echo-message batch labeled-response multi-prefix away-notify"], ""),
        (
            &["CAP REQ :sasl message-tags server-time echo-message batch away-notify", "AUTHENTICATE PLAIN"],
            "AUTHENTICATE +",
        ),
        (&[&proof], " 903 "),
        (&["CAP END"], " 001 alice "),
        (&["JOIN #1", "WHO #1", "MODE #1", "PING 1763800000"], "1763800000"),
        (&["@+typing=active TAGMSG #1", "PRIVMSG #1 :ä€😀 from a browser"], "PRIVMSG #1 :ä€😀 from a browser"),
    ];
    let mut seen = Vec::new();
    for (lines, wanted) in talk {
        for line in lines {
            socket.send(Message::text(*line)).await.unwrap();
        }
        let came = async {
            while !wanted.is_empty() {
                let Some(Ok(frame)) = socket.next().await else { return false };
                let Message::Text(line) = frame else { continue };
                assert!(!line.contains(['\r', '\n']), "one line a frame: {line:?}");
                seen.push(line.to_string());
                if line.contains(wanted) {
                    break;
                }
            }
            true
        };
        assert!(tokio::time::timeout(PATIENCE, came).await.unwrap_or(false), "no {wanted:?} in {seen:#?}");
    }
    let tagged = seen.last().unwrap();
    assert!(tagged.starts_with("@") && tagged.contains("time="), "{tagged}");
    bot.stop("").await;
}

#[tokio::test]
async fn browsers_are_sent_away_and_bots_are_handed_on() {
    let (mut bot, at) = bot(Bot::builder(), Settings::default()).await;
    let mut browser = Typist::calls(at).await;
    browser.types("POST / HTTP/1.1\r\nHost: x\r\n\r\nPASS alice:x\r\nNICK alice").await;
    let answer = browser.reads_to_the_end().await;
    assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("464"), "{answer}");
    let mut leaf = User::new("LeafBot").unwrap();
    leaf.change_flags("b").unwrap();
    bot.put_user(leaf).await.unwrap();
    let mut arrivals = bot.arrivals().unwrap();
    let mut caller = Typist::calls(at).await;
    caller.reads("Please enter your handle.").await;
    caller.types("leafbot\nversion 1").await;
    let mut arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!((arrival.handle.as_str(), arrival.read.starts_with(b"version 1")), ("leafbot", true));
    arrival.stream.write_all(b"passreq <1@chief>\n").await.unwrap();
    caller.reads("passreq <1@chief>").await;
    drop(arrival);
    bot.stop("").await;
}

#[tokio::test]
async fn bytes_that_mean_nothing_harm_nobody() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let mut alice = Typist::logs_in(at, "alice").await;
    let mut seed = 7u64;
    for round in 0..40 {
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            bytes.extend(format!("PASS :alice:{PASSWORD}\r\nNICK alice\r\nUSER a 0 * :A\r\n").into_bytes());
        }
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((seed >> 33) as u8);
        }
        let mut stream = TcpStream::connect(at).await.unwrap();
        // The bot may have closed already.
        let _ = stream.write_all(&bytes).await;
        let mut answer = [0; 512];
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), stream.read(&mut answer)).await;
    }
    alice.types(".whoami").await;
    alice.reads("You are alice with the flags p").await;
    bot.stop("").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn somebody_at_a_telnet_whose_other_end_is_lost_is_missed_by_the_system() {
    let (bot, at) = bot(Bot::builder(), Settings::default()).await;
    knows(&bot, "alice", "p").await;
    let _alice = Typist::logs_in(at, "alice").await;
    // Our end of it has a keepalive that runs: timer 2 in the system's table. Each line: number, here, there, state, queues, timer.
    let port = format!(":{:04X}", at.port());
    let beats = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() > 5 && words[1].ends_with(&port) && words[3] == "01" && words[5].starts_with("02:")
    };
    let begun = std::time::Instant::now();
    // What was just written may still be on its way, which is another timer.
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(beats).count() != 1 {
        assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string("/proc/net/tcp").unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bot.stop("").await;
}
