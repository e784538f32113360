//! Logging in to services on a server that plays all its parts: the good one, the forgetful one and the bad ones.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use masterchief::bot::{Bot, Started};
use masterchief::contract::Secret;
use masterchief::irc::sasl::Mechanism;
use masterchief::irc::{Sasl, Settings, Tls};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::pkcs8::DecodePrivateKey;
use rcgen::{CertificateParams, KeyPair};
use ring::{hmac, pbkdf2};

use crate::wire::{Authority, Line, Memory, Wire};

/// What a server hears where the bot does not stay.
const PARTING: &str = "QUIT :Not staying";

const SALT: &[u8] = b"sixteen bytes 16";
const ROUNDS: u32 = 4096;

fn with_login(wire: &Wire, mechanisms: &[Mechanism], password: &str, required: bool) -> Settings {
    let mut settings = wire.settings();
    settings.sasl = Some(Sasl {
        mechanisms: mechanisms.to_vec(),
        account: "chief".to_owned(),
        password: Some(Secret::new(password)),
        required,
        allow_plaintext: true,
        ..Sasl::default()
    });
    settings
}

async fn start(settings: Settings) -> Started {
    Bot::builder().network("story", settings).start().await.unwrap()
}

/// Up to the mechanism's name.
async fn begins(line: &mut Line, offer: &str) {
    line.hears("CAP LS 302").await;
    line.says(&[&format!(":s CAP * LS :{offer}")]).await;
    line.hears("CAP REQ sasl").await;
    line.says(&[":s CAP * ACK :sasl"]).await;
}

/// The words of one answer, put together and without base64.
async fn answer(line: &mut Line) -> String {
    let mut text = String::new();
    loop {
        let piece = line.hears("AUTHENTICATE ").await["AUTHENTICATE ".len()..].to_owned();
        if piece != "+" {
            text.push_str(&piece);
        }
        if piece.len() != 400 {
            return String::from_utf8(BASE64.decode(text).unwrap()).unwrap();
        }
    }
}

/// A challenge, in pieces of 400 bytes; one that comes out even is ended by a `+`.
async fn asks(line: &mut Line, challenge: &[u8]) {
    let text = BASE64.encode(challenge);
    for piece in text.as_bytes().chunks(400) {
        line.says(&[&format!("AUTHENTICATE {}", std::str::from_utf8(piece).unwrap())]).await;
    }
    if text.len().is_multiple_of(400) {
        line.says(&["AUTHENTICATE +"]).await;
    }
}

/// Everything that was said to the bot is taken in.
async fn settled(line: &mut Line) {
    line.says(&["PING :settled"]).await;
    line.hears("PONG settled").await;
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The server's side of SCRAM. Gives whether the client has proven the password, and the server's own proof.
async fn scram(
    line: &mut Line,
    password: &str,
    nonce_of: impl Fn(&str) -> String,
    rounds: u32,
) -> Option<(bool, String)> {
    assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE SCRAM-SHA-256");
    line.says(&["AUTHENTICATE +"]).await;
    let first = answer(line).await;
    let bare = first.strip_prefix("n,,").expect("no authorisation identity");
    let nonce = nonce_of(bare.split("r=").nth(1).unwrap());
    let challenge = format!("r={nonce},s={},i={rounds}", BASE64.encode(SALT));
    asks(line, challenge.as_bytes()).await;
    let mut text = String::new();
    loop {
        let piece = line.hears("AUTHENTICATE ").await["AUTHENTICATE ".len()..].to_owned();
        match piece.as_str() {
            "*" => return None,
            "+" => {}
            piece => text.push_str(piece),
        }
        if piece.len() != 400 {
            break;
        }
    }
    let proof = String::from_utf8(BASE64.decode(text).unwrap()).unwrap();
    let (without, proof) = proof.split_once(",p=").unwrap();
    assert_eq!(without, format!("c=biws,r={nonce}"));
    let mut salted = [0; 32];
    let rounds = NonZeroU32::new(ROUNDS).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, SALT, password.as_bytes(), &mut salted);
    let covered = format!("{bare},{challenge},{without}");
    let client_key = keyed(&salted, "Client Key");
    let stored = ring::digest::digest(&ring::digest::SHA256, &client_key);
    let mask = keyed(stored.as_ref(), &covered);
    let wanted: Vec<u8> = client_key.iter().zip(mask).map(|(key, mask)| key ^ mask).collect();
    let server_proof = keyed(&keyed(&salted, "Server Key"), &covered);
    Some((BASE64.decode(proof).unwrap() == wanted, format!("v={}", BASE64.encode(server_proof))))
}

async fn account(started: &Started) -> Option<String> {
    started.status().await.networks[0].account.clone()
}

/// Waits until the network has this trouble.
async fn trouble(started: &Started) -> String {
    loop {
        if let Some(trouble) = started.status().await.networks[0].trouble.clone() {
            return trouble;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_proven_by_scram_and_the_server_proves_it_too() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::ScramSha256], "p=ä,ss", true)).await;
    let mut line = wire.accepts().await;
    begins(&mut line, "sasl=SCRAM-SHA-256,PLAIN").await;
    let (proven, proof) = scram(&mut line, "p=ä,ss", |ours| format!("{ours}theirs"), ROUNDS).await.unwrap();
    assert!(proven);
    line.says(&[&format!("AUTHENTICATE {}", BASE64.encode(proof))]).await;
    assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE +");
    line.says(&[":s 900 * chief!c@h chief :You are now logged in", ":s 903 * :SASL authentication successful"]).await;
    line.hears("CAP END").await;
    line.welcomes("").await;
    line.hears("JOIN #ops").await;
    assert_eq!(account(&started).await.as_deref(), Some("chief"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_falls_back_to_the_next_mechanism_in_the_configured_order() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::ScramSha256, Mechanism::Plain], "wrong", false)).await;
    let mut line = wire.accepts().await;
    begins(&mut line, "sasl=PLAIN,SCRAM-SHA-256").await;
    let (proven, _) = scram(&mut line, "right", |ours| format!("{ours}x"), ROUNDS).await.unwrap();
    assert!(!proven);
    line.says(&[":s 904 * :SASL authentication failed"]).await;
    assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE PLAIN");
    line.says(&["AUTHENTICATE +"]).await;
    assert_eq!(answer(&mut line).await, "chief\0chief\0wrong");
    line.says(&[":s 904 * :SASL authentication failed"]).await;
    line.hears("CAP END").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_are_told_to_stop_and_are_never_shown_the_password() {
    let nonces: [fn(&str) -> String; 3] = [|_| "mine".to_owned(), str::to_owned, |ours| format!("x{ours}")];
    for nonce in nonces {
        let wire = Wire::plain().await;
        let mechanisms = [Mechanism::ScramSha256, Mechanism::Plain];
        let started = start(with_login(&wire, &mechanisms, "sesame", true)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl").await;
        assert_eq!(scram(&mut line, "sesame", nonce, ROUNDS).await, None, "the bot gives up");
        line.says(&[":s 906 * :aborted"]).await;
        assert_eq!(line.rest().await, [PARTING], "it says nothing more");
        assert!(trouble(&started).await.contains("required"));
        started.stop("").await;
    }
    for rounds in [1, 4095, 1_000_001] {
        let wire = Wire::plain().await;
        let started = start(with_login(&wire, &[Mechanism::ScramSha256], "sesame", true)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl").await;
        assert_eq!(scram(&mut line, "sesame", |ours| format!("{ours}x"), rounds).await, None, "{rounds} rounds");
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_prove_that_it_knows_the_password_is_left() {
    for last in ["v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "e=other-error", ""] {
        let wire = Wire::plain().await;
        let mechanisms = [Mechanism::ScramSha256, Mechanism::Plain];
        let started = start(with_login(&wire, &mechanisms, "sesame", true)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl").await;
        scram(&mut line, "sesame", |ours| format!("{ours}x"), ROUNDS).await.unwrap();
        let last = if last.is_empty() { "+".to_owned() } else { BASE64.encode(last) };
        line.says(&[&format!("AUTHENTICATE {last}")]).await;
        assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE *", "{last}");
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_passwords_are_sent_in_pieces_of_four_hundred_bytes() {
    // Account twice and two NULs are 12 bytes: base64 of 300 and of 600 bytes comes out even.
    for (letters, pieces) in
        [(600 - 12, vec![400, 400, 1]), (300 - 12, vec![400, 1]), (301 - 12, vec![400, 4]), (5, vec![24])]
    {
        let wire = Wire::plain().await;
        let password = "x".repeat(letters);
        let started = start(with_login(&wire, &[Mechanism::Plain], &password, true)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl=PLAIN").await;
        line.hears("AUTHENTICATE PLAIN").await;
        line.says(&["AUTHENTICATE +"]).await;
        for length in pieces {
            let piece = line.hears("AUTHENTICATE ").await;
            assert_eq!(piece.len() - "AUTHENTICATE ".len(), length, "{letters} letters");
        }
        line.says(&[":s 903 * :ok"]).await;
        line.hears("CAP END").await;
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_mechanism_is_shared_the_capability_is_asked_for_all_the_same_and_then_the_policy_decides() {
    for required in [true, false] {
        let wire = Wire::plain().await;
        let started = start(with_login(&wire, &[Mechanism::Plain], "sesame", required)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl=X-UNKNOWN").await;
        if required {
            assert_eq!(line.rest().await, [PARTING]);
            assert!(trouble(&started).await.contains("none of the configured mechanisms"));
        } else {
            line.hears("CAP END").await;
        }
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_come_back_are_logged_in_to_again() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::Plain], "sesame", false)).await;
    let mut line = wire.accepts().await;
    line.negotiates("batch").await;
    line.welcomes("").await;
    line.hears("JOIN #ops").await;
    for _ in 0..2 {
        line.says(&[":s CAP chief DEL :sasl", ":s CAP chief NEW :sasl=PLAIN,EXTERNAL"]).await;
        line.hears("CAP REQ sasl").await;
        line.says(&[":s CAP chief ACK :sasl"]).await;
        line.hears("AUTHENTICATE PLAIN").await;
        line.says(&["AUTHENTICATE +"]).await;
        answer(&mut line).await;
        line.says(&[":s 900 chief chief!c@h chief :in", ":s 903 chief :ok", ":s 901 chief chief!c@h :out"]).await;
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_of_exactly_four_hundred_bytes_is_whole_with_the_plus_behind_it() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::ScramSha256], "sesame", true)).await;
    let mut line = wire.accepts().await;
    begins(&mut line, "sasl=SCRAM-SHA-256").await;
    // `r=NONCE,s=` and 24 bytes of salt and `,i=4096` are 300 bytes, which are 400 in base64.
    let nonce = |ours: &str| format!("{ours}{}", "x".repeat(300 - 36 - ours.len()));
    let (proven, proof) = scram(&mut line, "sesame", nonce, ROUNDS).await.unwrap();
    assert!(proven);
    asks(&mut line, proof.as_bytes()).await;
    assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE +");
    line.says(&[":s 903 * :ok"]).await;
    line.hears("CAP END").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_logs_us_in_and_where_it_is_not_known_the_next_mechanism_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["chief".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = folder.path().join("chief.pem");
    std::fs::write(&path, format!("{}{}", cert.pem(), key.serialize_pem())).unwrap();
    for (known, authzid) in [(true, ""), (true, "ops"), (false, "")] {
        let wire = Wire::secure(&authority).await;
        let mut settings = with_login(&wire, &[Mechanism::External, Mechanism::Plain], "sesame", true);
        settings.tls = Tls { cert: Some(path.clone()), ..authority.trusted() };
        settings.sasl.as_mut().unwrap().authzid = authzid.to_owned();
        let started = start(settings).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl=PLAIN,EXTERNAL").await;
        assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE EXTERNAL");
        line.says(&["AUTHENTICATE +"]).await;
        assert_eq!(answer(&mut line).await, authzid);
        if known {
            line.says(&[":s 900 * chief!c@h chief :in", ":s 903 * :ok"]).await;
            line.hears("CAP END").await;
        } else {
            line.says(&[":s 904 * :no such certificate"]).await;
            assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE PLAIN");
        }
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_what_services_ask_and_nothing_of_another_length() {
    let key = KeyPair::generate().unwrap();
    let secret = p256::SecretKey::from_pkcs8_der(&key.serialize_der()).unwrap();
    let signing = p256::ecdsa::SigningKey::from(&secret);
    for (bytes, known) in [(32, true), (32, false), (31, true), (33, true)] {
        let wire = Wire::plain().await;
        let mut settings = with_login(&wire, &[Mechanism::Ecdsa, Mechanism::Plain], "sesame", true);
        settings.sasl.as_mut().unwrap().ecdsa_key = Some(Secret::new(key.serialize_pem()));
        let started = start(settings).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl=PLAIN,ECDSA-NIST256P-CHALLENGE").await;
        assert_eq!(line.hears("AUTHENTICATE").await, "AUTHENTICATE ECDSA-NIST256P-CHALLENGE");
        line.says(&["AUTHENTICATE +"]).await;
        assert_eq!(answer(&mut line).await, "chief");
        let challenge = vec![7; bytes];
        asks(&mut line, &challenge).await;
        let said = line.hears("AUTHENTICATE ").await["AUTHENTICATE ".len()..].to_owned();
        if bytes != 32 {
            assert_eq!(said, "*", "{bytes} bytes");
            line.says(&[":s 906 * :aborted"]).await;
            assert_eq!(line.rest().await, [PARTING], "who breaks the rules is not shown the password either");
        } else {
            let signature = p256::ecdsa::DerSignature::from_bytes(&BASE64.decode(said).unwrap()).unwrap();
            signing.verifying_key().verify_prehash(&challenge, &signature).unwrap();
            line.says(&[if known { ":s 903 * :ok" } else { ":s 904 * :no such key" }]).await;
            line.hears(if known { "CAP END" } else { "AUTHENTICATE PLAIN" }).await;
        }
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_refusal_of_a_login_comes_what_is_left_to_try() {
    let in_already = ":s 907 * :You have already authenticated";
    for (says, next, account_is) in [
        (&[":s 902 * :You must use a nick assigned to you"][..], "AUTHENTICATE PLAIN", None),
        (&[":s 904 * :SASL authentication failed"], "AUTHENTICATE PLAIN", None),
        (&[":s 905 * :SASL message too long"], "AUTHENTICATE PLAIN", None),
        (&[":s 906 * :SASL authentication aborted"], "AUTHENTICATE PLAIN", None),
        (&[":s 908 * EXTERNAL,X-OTHER :are available SASL mechanisms", ":s 904 * :failed"], "CAP END", None),
        (&[":s 908 * EXTERNAL,PLAIN :are available SASL mechanisms", ":s 904 * :failed"], "AUTHENTICATE PLAIN", None),
        (&[in_already], "CAP END", None),
        (&[":s 900 * chief!c@h ops :You are now logged in as ops", in_already], "CAP END", Some("ops")),
    ] {
        let wire = Wire::plain().await;
        let started = start(with_login(&wire, &[Mechanism::ScramSha256, Mechanism::Plain], "sesame", false)).await;
        let mut line = wire.accepts().await;
        begins(&mut line, "sasl").await;
        line.hears("AUTHENTICATE SCRAM-SHA-256").await;
        line.says(says).await;
        assert_eq!(line.next().await.as_deref(), Some(next), "{says:?}");
        if next == "CAP END" {
            line.welcomes("").await;
            line.hears("JOIN #ops").await;
            assert_eq!(account(&started).await.as_deref(), account_is, "{says:?}");
        }
        started.stop("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn services_that_say_nothing_are_given_up_and_the_policy_decides() {
    for required in [false, true] {
        let (mut memory, way) = Memory::new();
        let mut settings = Memory::settings();
        settings.sasl =
            with_login(&Wire::plain().await, &[Mechanism::ScramSha256, Mechanism::Plain], "sesame", required).sasl;
        let started = Bot::builder().dial(way).network("story", settings).start().await.unwrap();
        let mut line = memory.accepts().await;
        begins(&mut line, "sasl").await;
        line.hears("AUTHENTICATE SCRAM-SHA-256").await;
        let asked = tokio::time::Instant::now();
        let said = line.within(Duration::from_secs(60)).await;
        assert_eq!(asked.elapsed().as_secs(), 30);
        if required {
            assert_eq!(said.as_deref(), Some(PARTING), "nothing else is left to say");
            assert!(trouble(&started).await.contains("services did not answer"));
        } else {
            assert_eq!(said.as_deref(), Some("AUTHENTICATE *"));
            assert_eq!(line.next().await.as_deref(), Some("CAP END"));
            line.welcomes("").await;
            line.hears("JOIN #ops").await;
        }
        started.stop("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn services_that_go_silent_while_people_talk_are_given_up_all_the_same() {
    let (mut memory, way) = Memory::new();
    let mut settings = Memory::settings();
    settings.sasl = with_login(&Wire::plain().await, &[Mechanism::Plain], "sesame", false).sasl;
    let started = Bot::builder().dial(way).network("story", settings).start().await.unwrap();
    let mut line = memory.accepts().await;
    line.is_joined("batch", "").await;
    line.says(&[":s CAP chief NEW :sasl=PLAIN"]).await;
    line.hears("CAP REQ sasl").await;
    line.says(&[":s CAP chief ACK :sasl"]).await;
    line.hears("AUTHENTICATE PLAIN").await;
    let asked = tokio::time::Instant::now();
    loop {
        line.says(&[":alice!a@h PRIVMSG #ops :hello"]).await;
        let said = line.within(Duration::from_secs(5)).await;
        if said.as_deref() == Some("AUTHENTICATE *") {
            break;
        }
        assert!(asked.elapsed().as_secs() < 120, "it waits for ever");
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_survives_capabilities_that_are_refused_and_that_come_and_go() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::Plain], "sesame", false)).await;
    let mut line = wire.accepts().await;
    line.hears("CAP LS 302").await;
    line.says(&[":s CAP * LS * :batch", ":s CAP * LS :sasl=PLAIN"]).await;
    line.hears("CAP REQ :batch sasl").await;
    line.says(&[":s CAP * NAK :batch sasl"]).await;
    line.hears("CAP REQ batch").await;
    line.hears("CAP REQ sasl").await;
    line.says(&[":s CAP * NAK :batch", ":s CAP * ACK :sasl"]).await;
    line.hears("AUTHENTICATE PLAIN").await;
    // Services go in the middle of it, and come back before the welcome is over.
    line.says(&[":s CAP * DEL :sasl"]).await;
    line.hears("CAP END").await;
    line.says(&[":s 001 chief :Welcome chief!c@host", ":s CAP chief NEW :sasl=PLAIN"]).await;
    line.hears("CAP REQ sasl").await;
    line.says(&[":s CAP chief ACK :sasl"]).await;
    line.hears("AUTHENTICATE PLAIN").await;
    line.says(&[":s 422 chief :No MOTD"]).await;
    line.hears("JOIN #ops").await;
    line.says(&["AUTHENTICATE +"]).await;
    assert_eq!(answer(&mut line).await, "chief\0chief\0sesame");
    line.says(&[":s 900 chief chief!c@host chief :in", ":s 903 chief :ok"]).await;
    settled(&mut line).await;
    assert_eq!(account(&started).await.as_deref(), Some("chief"));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_wait_for_the_login_is_not_left_for_it() {
    let wire = Wire::plain().await;
    let started = start(with_login(&wire, &[Mechanism::Plain], "sesame", true)).await;
    let mut line = wire.accepts().await;
    begins(&mut line, "sasl=PLAIN").await;
    line.hears("AUTHENTICATE PLAIN").await;
    line.welcomes("").await;
    line.says(&["AUTHENTICATE +"]).await;
    let said = line.hears("").await;
    assert!(said.starts_with("AUTHENTICATE "), "nothing is joined before: {said}");
    line.says(&[":s 900 chief chief!c@host chief :in", ":s 903 chief :ok"]).await;
    line.hears("JOIN #ops").await;
    assert_eq!(account(&started).await.as_deref(), Some("chief"));
    started.stop("").await;
}
