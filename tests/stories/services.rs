//! Accounts: registering, logging in, and what an account allows.

use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Rules, Started};
use masterchief::contract::{Action, Event, How, Kind, Secret};
use masterchief::dispatch::Policy;
use masterchief::irc::sasl::Mechanism;
use masterchief::irc::{Sasl, Services, Settings};
use masterchief::users::User;

use crate::lab::{ACCOUNT, Lab};
use crate::person::Person;
use crate::real::{bot_on, joined, settings};

/// Registers an account, waiting until services are there. A certificate is added to it if given.
pub(crate) async fn register(lab: &Lab, account: &str, password: &str, certificate: Option<&str>) {
    let mut person = Person::connect(lab.plain, account).await;
    let start = Instant::now();
    loop {
        person.says("NickServ", &format!("REGISTER {password} {account}@lab.test"));
        let answer = person.waits_for(Duration::from_secs(1), |line| line.command == "900").await;
        if answer.is_some() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "services do not answer");
    }
    if let Some(fingerprint) = certificate {
        person.says("NickServ", &format!("CERT ADD {fingerprint}"));
        person.hears("NickServ", "fingerprint").await;
    }
    person.quits();
}

fn with_sasl(lab: &Lab, mechanism: Mechanism, password: &str, required: bool) -> Settings {
    let mut settings = settings(lab, "#ops");
    settings.sasl = Some(Sasl {
        mechanisms: vec![mechanism],
        account: ACCOUNT.0.to_owned(),
        password: Some(Secret::new(password)),
        required,
        ..Sasl::default()
    });
    settings
}

async fn start(settings: Settings) -> Started {
    Bot::builder().network("lab", settings).start().await.unwrap()
}

async fn account(started: &Started) -> Option<String> {
    started.status().await.networks[0].account.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bot_logs_in_by_password_and_by_certificate_and_stays_away_when_refused() {
    let lab = Lab::with_services().await;
    let by_password = start(with_sasl(&lab, Mechanism::Plain, ACCOUNT.1, true)).await;
    joined(&by_password, "#ops").await;
    assert_eq!(account(&by_password).await.as_deref(), Some(ACCOUNT.0));
    by_password.stop("").await;

    let mut settings = with_sasl(&lab, Mechanism::External, "", true);
    settings.tls.cert = Some(lab.path("client.pem"));
    settings.tls.key = Some(lab.path("client.key"));
    let by_certificate = start(settings).await;
    joined(&by_certificate, "#ops").await;
    assert_eq!(account(&by_certificate).await.as_deref(), Some(ACCOUNT.0));
    by_certificate.stop("").await;

    let mut watcher = Person::connect(lab.plain, "watcher").await;
    watcher.joins("#ops").await;
    let refused = start(with_sasl(&lab, Mechanism::Plain, "wrong", true)).await;
    assert!(
        watcher
            .waits_for(Duration::from_secs(4), |line| line.command == "JOIN" && line.from == "chief")
            .await
            .is_none()
    );
    let status = refused.status().await;
    let trouble = status.networks[0].trouble.clone().unwrap_or_default();
    assert!(trouble.contains("required"), "{trouble}");
    refused.stop("").await;

    let without = start(with_sasl(&lab, Mechanism::Plain, "wrong", false)).await;
    joined(&without, "#ops").await;
    assert_eq!(account(&without).await, None);
    without.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_somebody_the_server_vouches_for_may_deploy_and_only_while_it_does() {
    let lab = Lab::with_services().await;
    let builder =
        bot_on(&lab, "#ops")
            .bind(Kind::Pub, "D|-", "!deploy", |ev: Event| async move {
                format!("deploying {} for {}", ev.text(), ev.handle())
            })
            .unwrap();
    let started = builder.start().await.unwrap();
    started.put_user(User::with_account("boss", "lab", ACCOUNT.0, "D").unwrap()).await.unwrap();
    joined(&started, "#ops").await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;

    alice.says("#ops", "!deploy web");
    alice.hears("chief", "!deploy needs the flags D|-, and I do not know you. Log in to services").await;

    alice.says("NickServ", &format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1));
    alice.waits(|line| line.command == "900").await;
    alice.says("#ops", "!deploy web");
    alice.hears("chief", "deploying web for boss").await;

    alice.says("NickServ", "LOGOUT");
    alice.waits(|line| line.command == "901").await;
    alice.says("#ops", "!deploy db");
    assert!(
        alice
            .waits_for(Duration::from_secs(2), |line| line.from == "chief"
                && line.params.last().is_some_and(|words| words.contains("deploying db")))
            .await
            .is_none()
    );
    let audit = started.audit_recent(10).await.unwrap();
    let told: Vec<(&str, Option<&str>)> =
        audit.iter().map(|row| (row.action.as_str(), row.handle.as_deref())).collect();
    assert_eq!(told, [("denied", None), ("ran", Some("boss")), ("denied", None)]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_server_vouches_for_is_as_good_as_an_account() {
    let lab = Lab::start();
    let mut asking = settings(&lab, "#ops");
    asking.ask_certificates = true;
    let policy = Policy { answer_bots: true, ..Policy::default() };
    let builder = Bot::builder()
        .network("lab", asking)
        .rules(Rules { policy, ..Rules::default() })
        .bind(Kind::Pub, "D|-", "!deploy", |ev: Event| async move { format!("deploying for {}", ev.handle()) })
        .unwrap();
    let started = builder.start().await.unwrap();
    let mut boss = User::new("boss").unwrap();
    boss.add_cert(&lab.fingerprint("client")).unwrap();
    boss.change_flags("D").unwrap();
    started.put_user(boss).await.unwrap();
    joined(&started, "#ops").await;
    let mut watcher = Person::connect(lab.plain, "watcher").await;
    watcher.joins("#ops").await;

    // The person with the certificate is another bot: the people's client cannot show one.
    let mut certified = settings(&lab, "#ops");
    certified.nick = "bossy".to_owned();
    certified.tls.cert = Some(lab.path("client.pem"));
    certified.tls.key = Some(lab.path("client.key"));
    let person = Bot::builder().network("lab", certified).start().await.unwrap();
    watcher.sees_join("bossy", "#ops").await;
    let start = Instant::now();
    loop {
        let text = "!deploy web".to_owned();
        let say =
            Action::Say { network: "lab".to_owned(), target: "#ops".to_owned(), text, how: How::Say, reply: false };
        person.outlet().perform(say).await.unwrap();
        let heard =
            watcher.waits_for(Duration::from_secs(1), |line| line.from == "chief" && line.command == "PRIVMSG").await;
        if let Some(line) = heard {
            assert_eq!(line.params.last().map(String::as_str), Some("deploying for boss"));
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the certificate is not asked for");
    }
    watcher.says("#ops", "!deploy web");
    watcher.hears("chief", "I do not know you").await;
    person.stop("").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_told_a_password_where_only_they_can_hear_it() {
    let lab = Lab::with_services().await;
    let mut settings = settings(&lab, "#ops");
    settings.nick = ACCOUNT.0.to_owned();
    settings.services = Some(Services {
        nickserv: "NickServ@services.lab.test".to_owned(),
        chanserv: "ChanServ".to_owned(),
        regain: None,
        password: Some(Secret::new(ACCOUNT.1)),
        identify: true,
        let_in: false,
        op: false,
    });
    let started = start(settings).await;
    joined(&started, "#ops").await;
    let start = Instant::now();
    while account(&started).await.as_deref() != Some(ACCOUNT.0) {
        assert!(start.elapsed() < Duration::from_secs(15), "NickServ@services.lab.test is not NickServ");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elevation_ends_when_services_log_somebody_out() {
    let lab = Lab::with_services().await;
    let wipe = |ev: Event| async move { format!("wiped for {}", ev.handle()) };
    let started = bot_on(&lab, "#ops").bind(Kind::Pub, "n|-", "!wipe", wipe).unwrap().start().await.unwrap();
    let mut boss = User::with_account("boss", "lab", ACCOUNT.0, "o").unwrap();
    boss.change_sudo("+n").unwrap();
    started.put_user(boss).await.unwrap();
    joined(&started, "#ops").await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("NickServ", &format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1));
    alice.waits(|line| line.command == "900").await;
    alice.says("#ops", "!wipe");
    alice.hears("chief", "!sudo 15m WHY lends you").await;
    alice.says("#ops", "!sudo 15m the disk is full");
    alice.hears("chief", "boss is elevated").await;
    alice.says("#ops", "!wipe");
    alice.hears("chief", "wiped for boss").await;
    alice.says("NickServ", "LOGOUT");
    alice.hears("chief", "boss is not elevated any more: nobody vouches for them any more.").await;
    alice.says("NickServ", &format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1));
    alice.waits(|line| line.command == "900").await;
    alice.says("#ops", "!sudo 15m the disk is full");
    alice.hears("chief", "boss is elevated").await;
    let mut watcher = Person::connect(lab.plain, "watcher").await;
    watcher.joins("#ops").await;
    alice.quits();
    watcher.hears("chief", "boss is not elevated any more: they left.").await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_stop_under_a_living_bot_take_nobodys_word_along_and_give_it_back_when_they_return() {
    let mut lab = Lab::with_services().await;
    let deploy = |ev: Event| async move { format!("deploying {} for {}", ev.text(), ev.handle()) };
    let bot = Bot::builder().network("lab", with_sasl(&lab, Mechanism::Plain, ACCOUNT.1, false));
    let started = bot.bind(Kind::Pub, "D|-", "!deploy", deploy).unwrap().start().await.unwrap();
    started.put_user(User::with_account("boss", "lab", ACCOUNT.0, "D").unwrap()).await.unwrap();
    joined(&started, "#ops").await;
    assert_eq!(account(&started).await.as_deref(), Some(ACCOUNT.0));
    let identify = format!("IDENTIFY {} {}", ACCOUNT.0, ACCOUNT.1);
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.says("NickServ", &identify);
    alice.waits(|line| line.command == "900").await;
    alice.says("#ops", "!deploy one");
    alice.hears("chief", "deploying one for boss").await;

    lab.stop_services();
    // Whom the network has vouched for it goes on to vouch for; who comes anew is nobody, the bot too.
    alice.says("#ops", "!deploy two");
    alice.hears("chief", "deploying two for boss").await;
    alice.quits();
    let mut watcher = Person::connect(lab.plain, "watcher").await;
    watcher.joins("#ops").await;
    let mut alice = Person::connect(lab.plain, "alice2").await;
    alice.joins("#ops").await;
    alice.says("#ops", "!deploy three");
    alice.hears("chief", "I do not know you").await;
    watcher.sends("OPER oper operpass");
    watcher.waits(|line| line.command == "381").await;
    watcher.sends("SAQUIT chief :see you");
    watcher.sees_join("chief", "#ops").await;
    assert_eq!(account(&started).await, None);

    lab.start_services();
    let start = Instant::now();
    loop {
        alice.says("NickServ", &identify);
        if alice.waits_for(Duration::from_secs(1), |line| line.command == "900").await.is_some() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "services are not back");
    }
    alice.says("#ops", "!deploy four");
    alice.hears("chief", "deploying four for boss").await;
    // InspIRCd tells nobody that what it offered is there again: with its next connection the bot has its account.
    watcher.sends("SAQUIT chief :see you again");
    watcher.sees_join("chief", "#ops").await;
    assert_eq!(account(&started).await.as_deref(), Some(ACCOUNT.0));
    started.stop("").await;
}
