//! The same on real servers: InspIRCd with a leaf that can be split off, Atheme, ngIRCd.

use std::process::Command;
use std::time::Duration;

use masterchief::bot::{Bot, Builder};
use masterchief::contract::{Action, Event, HandlerError, How, Kind, Secret};
use masterchief::irc::sasl::Mechanism;
use masterchief::irc::{Sasl, ServerAddr, Tls};

use crate::lab::{ACCOUNT, Lab, OldServer};
use crate::person::Person;
use crate::real::{bot_on, joined, settings};

/// Tells alice of every event of these kinds.
fn telling(mut bot: Builder, kinds: &[(Kind, &str)]) -> Builder {
    for (kind, mask) in kinds {
        let tell = |ev: Event| async move {
            let fields: Vec<String> = ev.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = format!("{} {} {} {}", ev.kind(), ev.nick(), fields.join(" "), ev.text());
            let (network, target) = ("lab".to_owned(), "alice".to_owned());
            ev.perform(Action::Say { network, target, text, how: How::Say, reply: false })
                .await
                .map_err(HandlerError::internal)
        };
        bot = bot.bind(*kind, "-|-", mask, tell).unwrap();
    }
    bot
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_netsplit_is_one_event_and_who_returns_did_not_join() {
    let lab = Lab::with_leaf().await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let mut bob = Person::connect(lab.leaf, "bob").await;
    bob.joins("#ops").await;
    let kinds =
        [(Kind::Splt, "*"), (Kind::Rejn, "*"), (Kind::Netsplit, "*"), (Kind::Sign, "*"), (Kind::Join, "* bob!*")];
    let started = telling(bot_on(&lab, "#ops"), &kinds).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.sends("OPER oper operpass");
    alice.waits(|line| line.command == "381").await;
    alice.sends("SQUIT leaf.lab.test :x");
    // The leaf may be back at once, so which of them is told first is chance.
    let mut said = Vec::new();
    for _ in 0..400 {
        said = alice.all_from("chief");
        let told = |start: &str| said.iter().any(|line| line.starts_with(start));
        if told("splt bob") && told("netsplit") && told("rejn bob") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let told = |start: &str, with: &str| said.iter().any(|line| line.starts_with(start) && line.contains(with));
    assert!(told("splt bob", "irc.lab.test leaf.lab.test"), "{said:?}");
    assert!(told("netsplit", "lost=1") && told("rejn bob", ""), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("sign") || line.starts_with("join")), "{said:?}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_take_a_signature_by_our_key() {
    let lab = Lab::with_services().await;
    let key = lab.path("ecdsa.pem");
    let made = Command::new("openssl").args(["ecparam", "-name", "prime256v1", "-genkey", "-out"]).arg(&key).status();
    assert!(made.unwrap().success());
    let public = ["ec", "-pubout", "-conv_form", "compressed", "-outform", "DER", "-in"];
    let public = Command::new("openssl").args(public).arg(&key).output().unwrap().stdout;
    let public = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(&public[public.len() - 33..])
    };
    let mut owner = Person::connect(lab.plain, "owner").await;
    owner.says("NickServ", &format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1));
    owner.waits(|line| line.command == "900").await;
    owner.says("NickServ", &format!("SET PUBKEY {public}"));
    owner.hears("NickServ", "public key").await;
    let mut by_key = settings(&lab, "#ops");
    by_key.sasl = Some(Sasl {
        mechanisms: vec![Mechanism::Ecdsa],
        account: ACCOUNT.0.to_owned(),
        ecdsa_key: Some(Secret::new(std::fs::read_to_string(&key).unwrap())),
        ..Sasl::default()
    });
    let started = Bot::builder().network("lab", by_key).start().await.unwrap();
    joined(&started, "#ops").await;
    assert_eq!(started.status().await.networks[0].account.as_deref(), Some(ACCOUNT.0));
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_chanserv_gives_op_when_it_is_asked() {
    let lab = Lab::with_services().await;
    let mut owner = Person::connect(lab.plain, "owner").await;
    owner.says("NickServ", &format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1));
    owner.waits(|line| line.command == "900").await;
    // By themselves services give nothing then: what is given was asked for.
    owner.says("NickServ", "SET NOOP ON");
    owner.hears("NickServ", "NOOP").await;
    owner.joins("#ops").await;
    owner.says("ChanServ", "REGISTER #ops");
    owner.hears("ChanServ", "registered").await;
    let mut wanted = settings(&lab, "#ops");
    wanted.sasl = Some(Sasl {
        mechanisms: vec![Mechanism::Plain],
        account: ACCOUNT.0.to_owned(),
        password: Some(Secret::new(ACCOUNT.1)),
        ..Sasl::default()
    });
    wanted.services = serde_json::from_str(r#"{"op": true}"#).unwrap();
    wanted.operator_in = vec!["#ops".to_owned()];
    let started = Bot::builder().network("lab", wanted).start().await.unwrap();
    owner.waits(|line| line.command == "MODE" && line.params == ["#ops", "+o", "chief"]).await;
    joined(&started, "#ops").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_inspircd_what_people_do_reaches_the_binds() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let kinds =
        [(Kind::Ircaway, "*"), (Kind::Setname, "*"), (Kind::Chghost, "*"), (Kind::Invt, "*"), (Kind::Wall, "*")];
    let started = telling(bot_on(&lab, "#ops"), &kinds).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.sends("AWAY :lunch");
    alice.hears("chief", "ircaway alice  lunch").await;
    alice.sends("SETNAME :Alice Liddell");
    alice.hears("chief", "setname alice  Alice Liddell").await;
    let bob = Person::connect(lab.plain, "bob").await;
    alice.sends("INVITE bob #ops");
    alice.hears("chief", "invt alice target=\"bob\"").await;
    alice.sends("OPER oper operpass");
    alice.waits(|line| line.command == "381").await;
    alice.sends("CHGHOST alice cloak.test");
    alice.hears("chief", "newhost=\"cloak.test\"").await;
    // The server says which lines it passed on.
    assert!(started.status().await.networks[0].confirmed >= 3);
    started.stop("").await;
    bob.quits();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_websocket_on_inspircd_the_bot_is_at_home() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let mut web = settings(&lab, "#ops");
    web.tls = Tls::off();
    web.servers = vec![format!("ws://127.0.0.1:{}/", lab.web).parse::<ServerAddr>().unwrap()];
    let started = crate::real::hello(Bot::builder().network("lab", web)).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.says("#ops", "!hello grüße");
    alice.hears("chief", "hi alice").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_us_for_a_gateway_shows_whom_we_say() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let mut gate = settings(&lab, "#ops");
    gate.webirc = serde_json::from_str(r#"{"password": "gatepass", "host": "gate.test", "ip": "192.0.2.7"}"#).unwrap();
    let started = Bot::builder().network("lab", gate).start().await.unwrap();
    alice.sees_join("chief", "#ops").await;
    alice.sends("WHO chief");
    let row = alice.waits(|line| line.command == "352").await;
    assert!(["gate.test", "192.0.2.7"].contains(&row.params[3].as_str()), "{:?}", row.params);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_closed_opens_when_we_are_invited() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.sends("MODE #ops +i");
    let started = telling(bot_on(&lab, "#ops"), &[(Kind::Need, "#ops invite")]).start().await.unwrap();
    alice.hears("chief", "need  type=\"invite\"").await;
    alice.sends("INVITE chief #ops");
    alice.sees_join("chief", "#ops").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_ngircd_the_nick_is_asked_for_until_it_is_free() {
    let server = OldServer::start();
    let thief = Person::connect(server.plain, "chief").await;
    let mut settings = masterchief::irc::Settings::new(vec![ServerAddr::new("127.0.0.1", server.plain)]);
    settings.tls = Tls::off();
    settings.alt_nicks = vec!["chief2".to_owned()];
    settings.channels = vec![masterchief::irc::Channel { name: "#ops".to_owned(), key: None }];
    let mut alice = Person::connect(server.plain, "alice").await;
    alice.joins("#ops").await;
    let started = Bot::builder().network("ng", settings).start().await.unwrap();
    alice.sees_join("chief2", "#ops").await;
    thief.quits();
    // It is asked for every half a minute.
    let taken = alice.waits_for(Duration::from_secs(40), |line| line.command == "NICK" && line.from == "chief2").await;
    assert_eq!(taken.unwrap().params, ["chief"]);
    started.stop("").await;
}
