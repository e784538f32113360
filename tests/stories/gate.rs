//! A door in front of a broker of Kafka that asks who comes: the broker that the stories have takes users and forgets them. It does as
//! Kafka's own do: it names the mechanisms it knows, holds the dialogue of RFC 4616 or RFC 5802, and proves with the last word that it
//! knows the password too, which librdkafka wants to see. Afterwards all goes through to the broker.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests")]

use std::io;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What may be asked for before it is known who asks.
const HANDSHAKE: i16 = 17;
const VERSIONS: i16 = 18;
const AUTHENTICATE: i16 = 36;
/// How it says no.
const UNSUPPORTED: i16 = 33;
const FAILED: i16 = 58;
/// As Kafka does it unless told otherwise.
const ROUNDS: u32 = 4096;
const FRAME_MAX: usize = 1 << 20;

/// Who is let through, and how they may prove it.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
    pub(crate) mechanisms: &'static [&'static str],
}

/// The door, shut with the test.
pub(crate) struct Door(JoinHandle<()>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Door {
    /// Opens it: to everybody, or to whoever is the user, through TLS or in plain text.
    pub(crate) fn open(listener: TcpListener, broker: String, tls: Option<TlsAcceptor>, user: Option<User>) -> Door {
        Door(tokio::spawn(async move {
            loop {
                let Ok((here, _)) = listener.accept().await else { continue };
                let (broker, tls) = (broker.clone(), tls.clone());
                tokio::spawn(async move {
                    // Who does not like the certificate goes, and who is not let in too.
                    match tls {
                        None => lead(here, &broker, user).await,
                        Some(tls) => lead(tls.accept(here).await?, &broker, user).await,
                    }
                });
            }
        }))
    }
}

async fn lead(mut here: impl AsyncRead + AsyncWrite + Unpin, broker: &str, user: Option<User>) -> io::Result<()> {
    let mut there = TcpStream::connect(broker).await?;
    if let Some(user) = &user {
        admit(&mut here, &mut there, user).await?;
    }
    tokio::io::copy_bidirectional(&mut here, &mut there).await.map(drop)
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let size = usize::try_from(from.read_i32().await?).map_err(io::Error::other)?;
    if size > FRAME_MAX {
        return Err(io::Error::other("this is not how Kafka speaks"));
    }
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn put(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[&i32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()).await?;
    to.flush().await
}

fn short(text: &[u8]) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// A request, as far as it matters here.
struct Asked<'a> {
    api: i16,
    version: i16,
    /// What its answer begins with.
    correlation: &'a [u8],
    body: &'a [u8],
}

impl Asked<'_> {
    fn read(bytes: &[u8]) -> Option<Asked<'_>> {
        let number = |at: usize| Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let client = usize::try_from(number(8)?).unwrap_or(0);
        Some(Asked {
            api: number(0)?,
            version: number(2)?,
            correlation: bytes.get(4..8)?,
            body: bytes.get(10 + client..)?,
        })
    }
}

/// Lets who proves that they are the user through to the broker, and nobody else.
async fn admit(
    here: &mut (impl AsyncRead + AsyncWrite + Unpin),
    there: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &User,
) -> io::Result<()> {
    let mut dialogue = None;
    loop {
        let request = frame(here).await?;
        let asked = Asked::read(&request).ok_or_else(|| io::Error::other("this is not how Kafka speaks"))?;
        match asked.api {
            VERSIONS => {
                put(there, &request).await?;
                put(here, &frame(there).await?).await?;
            }
            HANDSHAKE => {
                let mechanism = String::from_utf8_lossy(asked.body.get(2..).unwrap_or_default()).into_owned();
                dialogue = user.mechanisms.contains(&mechanism.as_str()).then(|| Dialogue::new(&mechanism));
                let error = if dialogue.is_some() { 0 } else { UNSUPPORTED };
                let count = i32::try_from(user.mechanisms.len()).unwrap().to_be_bytes();
                let names: Vec<u8> = user.mechanisms.iter().flat_map(|name| short(name.as_bytes())).collect();
                put(here, &[asked.correlation, &error.to_be_bytes(), &count, &names].concat()).await?;
            }
            AUTHENTICATE => {
                let said = asked.body.get(4..).unwrap_or_default();
                let answer = dialogue.as_mut().and_then(|dialogue| dialogue.answer(user, said));
                let (error, words) = if answer.is_some() { (0, "") } else { (FAILED, "Authentication failed") };
                let (text, done) = answer.unwrap_or_default();
                let length = i32::try_from(text.len()).unwrap().to_be_bytes();
                let lifetime: &[u8] = if asked.version > 0 { &[0; 8] } else { &[] };
                let head = [asked.correlation, &error.to_be_bytes(), &short(words.as_bytes())].concat();
                put(here, &[head.as_slice(), &length, text.as_bytes(), lifetime].concat()).await?;
                if error != 0 {
                    return Err(io::Error::other("a wrong password"));
                }
                if done {
                    return Ok(());
                }
            }
            _ => return Err(io::Error::other("they want something and have not said who they are")),
        }
    }
}

/// What is said to and fro until it is known who comes.
enum Dialogue {
    Plain,
    Scram(Scram),
}

impl Dialogue {
    fn new(mechanism: &str) -> Dialogue {
        let hash = match mechanism {
            "PLAIN" => return Dialogue::Plain,
            "SCRAM-SHA-256" => SHA256,
            _ => SHA512,
        };
        let mut own = [0; 24];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut own).unwrap();
        let (nonce, salt) = own.split_at(12);
        Dialogue::Scram(Scram { hash, own: STANDARD.encode(nonce), salt: salt.to_vec(), begun: None })
    }

    /// The answer, and whether that was the last word; nothing if they do not know the password.
    fn answer(&mut self, user: &User, said: &[u8]) -> Option<(String, bool)> {
        let said = std::str::from_utf8(said).ok()?;
        match self {
            Dialogue::Plain => {
                let mut parts = said.split('\0').skip(1);
                (parts.next()? == user.name && parts.next()? == user.password).then(|| (String::new(), true))
            }
            Dialogue::Scram(scram) if scram.begun.is_none() => Some((scram.challenge(user, said)?, false)),
            Dialogue::Scram(scram) => Some((scram.judge(user, said)?, true)),
        }
    }
}

/// A hash with all that is made of it.
#[derive(Clone, Copy)]
struct Hash {
    digest: &'static digest::Algorithm,
    mac: hmac::Algorithm,
    salted: pbkdf2::Algorithm,
}

const SHA256: Hash = Hash { digest: &digest::SHA256, mac: hmac::HMAC_SHA256, salted: pbkdf2::PBKDF2_HMAC_SHA256 };
const SHA512: Hash = Hash { digest: &digest::SHA512, mac: hmac::HMAC_SHA512, salted: pbkdf2::PBKDF2_HMAC_SHA512 };

impl Hash {
    fn sign(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.mac, key), text).as_ref().to_vec()
    }
}

/// The server's side of RFC 5802, without channel binding.
struct Scram {
    hash: Hash,
    /// Our half of the nonce.
    own: String,
    salt: Vec<u8>,
    /// What was said so far, and the whole nonce.
    begun: Option<(String, String)>,
}

impl Scram {
    fn challenge(&mut self, user: &User, said: &str) -> Option<String> {
        let first = said.strip_prefix("n,,")?;
        let (name, nonce) = first.strip_prefix("n=")?.split_once(",r=")?;
        if name != user.name || nonce.is_empty() {
            return None;
        }
        let nonce = format!("{nonce}{}", self.own);
        let challenge = format!("r={nonce},s={},i={ROUNDS}", STANDARD.encode(&self.salt));
        self.begun = Some((format!("{first},{challenge}"), nonce));
        Some(challenge)
    }

    fn judge(&self, user: &User, said: &str) -> Option<String> {
        let (before, nonce) = self.begun.as_ref()?;
        let (without, proof) = said.rsplit_once(",p=")?;
        let proof = STANDARD.decode(proof).ok()?;
        let mut salted = vec![0; self.hash.digest.output_len()];
        let rounds = NonZeroU32::new(ROUNDS).unwrap();
        pbkdf2::derive(self.hash.salted, rounds, &self.salt, user.password.as_bytes(), &mut salted);
        let client = self.hash.sign(&salted, b"Client Key");
        let covered = format!("{before},{without}");
        let stored = digest::digest(self.hash.digest, &client);
        let mask = self.hash.sign(stored.as_ref(), covered.as_bytes());
        let shown: Vec<u8> = proof.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect();
        let server = self.hash.sign(&salted, b"Server Key");
        let knows = without == format!("c=biws,r={nonce}") && shown == client;
        knows.then(|| format!("v={}", STANDARD.encode(self.hash.sign(&server, covered.as_bytes()))))
    }
}

#[test]
fn the_door_speaks_as_rfc_7677_has_it_and_believes_no_other_proof() {
    let user = User { name: "user", password: "pencil", mechanisms: &[] };
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let mut door = Scram { hash: SHA256, own: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(), salt, begun: None };
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let challenge = door.challenge(&user, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(challenge, format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    let proof = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let word = door.judge(&user, &proof).unwrap();
    assert_eq!(word, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(door.judge(&user, &proof.replace("p=dH", "p=eH")), None);
    assert_eq!(door.judge(&User { password: "pen", ..user }, &proof), None);
    assert_eq!(door.challenge(&user, "n,,n=other,r=x"), None);
}
