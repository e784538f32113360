//! The transcripts of deployments in a channel of a real server: InspIRCd with services, people with clients of their own and accounts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, Started};
use masterchief::irc::{ServerAddr, Settings as Network, Tls};
use masterchief::pipelines::Settings;
use masterchief::users::User;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::acted::Acted;
use super::lab::Lab;
use super::person::{Heard, Person};
use super::real::joined;

const SHOP: &str = r##"
app: shop
params:
  environment: { type: choice, of: [dev, uat, staging, prod], default: staging }
  ref: { type: ref, default: main }
  bad: { type: int, default: 0 }
  hold: { type: string, default: 0s }
policy:
  environments:
    dev: { confirm: never, require_flag: d }
    uat: { require_flag: d }
    staging: { confirm: never, require_flag: d }
    prod: { require_flag: D, rollback: { mode: offer, auto_after: 5m, lock: true } }
stages:
  test: { acted: { takes: "{params.hold}", summary: 412 passed } }
  build: { needs: [test], acted: { takes: 0s } }
  rollout:
    needs: [build]
    acted:
      takes: 0s
      undo: 0s
      fails: "{params.bad}"
      class: app_not_ready
      line: progress deadline exceeded
      world: ["web-7f9c4 CrashLoopBackOff x4: panic: missing env STRIPE_KEY (main.rs:88)", "4 of 12 pods are new and failing, 8 old ones serve."]
    rollback: undo
"##;

const LEDGER: &str = "app: ledger\npolicy: {environments: {prod: {confirm: never, approvals: {count: 1, from: \"@payments\", expires: 30m}}}}\nstages: {migrate: {acted: {takes: 0s}}}\n";
const PASSWORD: &str = "sesame-sesame";
pub(crate) const BOT: &str = "chief";

/// The people of the channel, each with a client and an account.
struct People {
    ana: Person,
    raj: Person,
    kim: Person,
    lee: Person,
}

/// Somebody comes, with an account of their own.
pub(crate) async fn comes(lab: &Lab, nick: &str) -> Person {
    let mut person = Person::connect(lab.plain, nick).await;
    let start = Instant::now();
    loop {
        person.says("NickServ", &format!("REGISTER {PASSWORD} {nick}@lab.test"));
        if person.waits_for(Duration::from_secs(1), |line| line.command == "900").await.is_some() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "services do not answer");
    }
    person.joins("#ops").await;
    person
}

impl People {
    async fn come(lab: &Lab) -> People {
        let (ana, raj, kim, lee) =
            tokio::join!(comes(lab, "ana"), comes(lab, "raj"), comes(lab, "kim"), comes(lab, "lee"));
        People { ana, raj, kim, lee }
    }
}

/// A way to the server that can be cut.
async fn way(to: u16) -> (u16, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, cut) = (listener.local_addr().unwrap().port(), Arc::new(Notify::new()));
    let cutting = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                () = cutting.notified() => {}
            }
        }
    });
    (port, cut)
}

/// Waits for words of the bot that hold `text`; gives all of them. Names are read as people read them: without what keeps them from
/// calling somebody.
async fn hears(person: &mut Person, text: &str) -> String {
    let plain = |words: &String| words.replace('\u{200b}', "");
    let wanted = |line: &Heard| {
        let said = matches!(line.command.as_str(), "PRIVMSG" | "NOTICE") && line.from == BOT;
        said && line.params.last().is_some_and(|words| plain(words).contains(text))
    };
    person.waits(wanted).await.params.last().map(plain).unwrap_or_default()
}

/// The number of the run that a line is about.
fn numbered(line: &str) -> String {
    line.trim_start_matches('[').chars().take_while(char::is_ascii_digit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_in_a_channel_of_a_real_server_with_services() {
    let lab = Lab::with_services().await;
    let mut people = People::come(&lab).await;
    let groups = [("payments".to_owned(), vec!["lee".to_owned(), "ana".to_owned()])].into();
    let settings = Settings { folder: "".into(), groups, ..Settings::default() };
    let (port, cut) = way(lab.plain).await;
    let network = Network {
        servers: vec![ServerAddr::new("127.0.0.1", port)],
        tls: Tls::off(),
        ..super::real::settings(&lab, "#ops")
    };
    let bot = Bot::builder().network("lab", network).executor("acted", Acted::default()).pipelines(settings);
    let bot = bot.start().await.unwrap();
    for (name, text) in [("shop", SHOP), ("ledger", LEDGER)] {
        bot.put_pipeline(name, text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    }
    for (nick, flags) in [("ana", "dD"), ("raj", "dD"), ("kim", "d"), ("lee", "D")] {
        bot.put_user(User::with_account(nick, "lab", nick, flags).unwrap()).await.unwrap();
    }
    joined(&bot, "#ops").await;
    confirmed(&lab, &mut people).await;
    refused(&lab, &mut people).await;
    approved(&mut people).await;
    failed_and_undone(&mut people).await;
    locked(&mut people).await;
    queued(&mut people).await;
    away(&mut people, &cut).await;
    few_lines(&bot, &people).await;
    bot.stop("").await;
}

/// A deployment that its own account confirms, and nobody else, whatever their nick.
async fn confirmed(lab: &Lab, people: &mut People) {
    let People { ana, raj, .. } = people;
    ana.says("#ops", "!deploy shop/v2.40.3 to prod");
    let line = hears(ana, "shop -> prod: v2.40.3 is the first there.").await;
    assert!(line.contains("Plan: test, build, rollout."), "{line}");
    hears(ana, "ana: say \"!yes 1\" within 2 min to start").await;
    raj.says("#ops", "!yes 1");
    hears(raj, "raj: only ana can say yes to run 1").await;
    let mut mallory = Person::connect(lab.plain, "ana_").await;
    mallory.joins("#ops").await;
    mallory.says("#ops", "!yes 1");
    hears(&mut mallory, "only ana can say yes to run 1").await;
    mallory.quits();
    // The nick is nothing without its account.
    ana.says("NickServ", "LOGOUT");
    ana.waits(|line| line.command == "901").await;
    ana.says("#ops", "!yes 1");
    hears(ana, "only ana can say yes to run 1").await;
    ana.says("NickServ", &format!("IDENTIFY ana {PASSWORD}"));
    ana.waits(|line| line.command == "900").await;
    ana.says("#ops", "!yes 1");
    hears(ana, "[1] shop v2.40.3 -> prod started by ana.").await;
    let line = hears(raj, "[1] shop v2.40.3 is live on prod.").await;
    assert!(!line.contains("Undo"), "there is nothing to go back to: {line}");
    raj.says("#ops", "!who shop");
    hears(raj, "prod v2.40.3 by ana").await;
}

/// Who may not, or mistypes, is told the way out; a stranger is told nothing in private.
async fn refused(lab: &Lab, people: &mut People) {
    let kim = &mut people.kim;
    kim.says("#ops", "!deploy shp to prod");
    hears(kim, "kim: no app \"shp\". Did you mean shop?").await;
    kim.says("#ops", "!deploy shop to prod");
    let line =
        hears(kim, "kim: you may deploy shop to dev, uat, staging, not to prod (needs flag D on #ops; ask ").await;
    assert!(line.contains("ana") && line.contains("raj"), "{line}");
    let mut mallory = Person::connect(lab.plain, "mallory").await;
    mallory.says(BOT, "!who shop");
    hears(&mut mallory, "I do not know you: log in to services. shop is shown to who may deploy it").await;
    mallory.says("NickServ", &format!("IDENTIFY kim {PASSWORD}"));
    mallory.waits(|line| line.command == "900").await;
    mallory.says(BOT, "!who shop");
    hears(&mut mallory, "shop: dev nothing | uat nothing | staging nothing | prod v2.40.3").await;
    mallory.quits();
}

/// Another person agrees to what was shown.
async fn approved(people: &mut People) {
    let People { ana, raj, lee, .. } = people;
    ana.says("#ops", "!deploy ledger/v9.2 to prod");
    let line = hears(ana, "ledger v9.2 -> prod by ana needs 1 approval from @payments, not ana.").await;
    let run = numbered(&line);
    let code = line.split(&format!("!approve {run} ")).nth(1).unwrap().split(' ').next().unwrap().to_owned();
    ana.says("#ops", &format!("!approve {run} {code}"));
    hears(ana, &format!("ana: the one who asked cannot approve {run}.")).await;
    raj.says("#ops", &format!("!approve {run} {code}"));
    hears(raj, &format!("raj: {run} needs somebody of @payments")).await;
    lee.says("#ops", &format!("!approve {run} 0000"));
    hears(lee, "lee: that is not the code of what is shown now").await;
    lee.says("#ops", &format!("!approve {run} {code}"));
    hears(lee, &format!("[{run}] approved by lee (identified as lee, via services). Starting.")).await;
    hears(lee, &format!("[{run}] ledger v9.2 is live on prod")).await;
}

/// A failure says what, how things stand and what one may do; what is rolled back is locked.
async fn failed_and_undone(people: &mut People) {
    let People { ana, raj, .. } = people;
    ana.says("#ops", "!deploy shop/v2.41.1 to prod bad=1");
    hears(ana, "shop -> prod: v2.41.1 replaces v2.40.3.").await;
    let line = hears(ana, "ana: say \"!yes ").await;
    let run = line.split("!yes ").nth(1).unwrap().split('"').next().unwrap().to_owned();
    ana.says("#ops", &format!("!yes {run}"));
    let line = hears(ana, &format!("[{run}] shop v2.41.1 -> prod FAILED in rollout after ")).await;
    assert!(line.contains("progress deadline exceeded (class: app-not-ready; not retried"), "{line}");
    hears(ana, &format!("[{run}] | web-7f9c4 CrashLoopBackOff x4: panic: missing env STRIPE_KEY (main.rs:88)")).await;
    let world = format!("[{run}] 4 of 12 pods are new and failing, 8 old ones serve. ana: !rollback {run} (to v2.40.3");
    let line = hears(ana, &world).await;
    assert!(
        line.contains(&format!("| !retry {run} rollout | !tail {run} | leave. I roll back by myself in 5 min.")),
        "{line}"
    );
    ana.says("#ops", &format!("!rollback {run}"));
    let line = hears(ana, "rollback shop prod v2.41.1 -> v2.40.3 started by ana").await;
    assert!(line.contains(&format!("(run {run})")), "{line}");
    let line = hears(ana, "shop v2.40.3 is live again on prod after ").await;
    assert!(line.contains("shop/prod is now LOCKED (rolled back by ana)."), "{line}");
    raj.says("#ops", "!deploy shop/v3 to prod");
    hears(raj, "raj: shop/prod is locked by ana").await;
    raj.says("#ops", "!who shop");
    hears(raj, "LOCKED").await;
}

/// A lock has an owner, a reason and an end; breaking it is loud.
async fn locked(people: &mut People) {
    let People { raj, kim, lee, .. } = people;
    raj.says("#ops", "!lock shop/staging 2h replica rebuild, see INC-77");
    hears(raj, "shop/staging locked by raj until ").await;
    kim.says("#ops", "!deploy shop/v3 to staging");
    let line = hears(kim, "kim: shop/staging is locked by raj since ").await;
    assert!(line.contains(" left): replica rebuild, see INC-77. Queue behind it: !queue "), "{line}");
    let run = line.split("!queue ").nth(1).unwrap().split('.').next().unwrap().to_owned();
    kim.says("#ops", &format!("!queue {run}"));
    hears(kim, &format!("[{run}] queued for shop/staging, place 1 (locked by raj)")).await;
    kim.says("#ops", "!unlock shop/staging");
    hears(kim, "kim: that is raj's lock. Break it with a reason: !unlock! shop/staging <why>").await;
    kim.says("#ops", "!unlock! shop/staging rebuild done, raj offline");
    let line =
        hears(lee, "shop/staging unlocked by kim (was raj's): rebuild done, raj offline. raj has been told.").await;
    assert!(line.contains(&format!("Starting {run} for kim in 30 s, \"!abort {run}\" to stop")), "{line}");
    hears(raj, "kim took your lock away from shop/staging").await;
    kim.says("#ops", &format!("!abort {run}"));
    hears(kim, &format!("[{run}] shop v3 -> staging aborted by kim.")).await;
}

/// One at a time; the next has its place, and says yes to what is there when it is its turn.
async fn queued(people: &mut People) {
    let People { raj, kim, .. } = people;
    let mut runs = Vec::new();
    for (who, version, hold) in [(&mut *kim, "v4", "5s"), (&mut *raj, "v5", "0s")] {
        who.says("#ops", &format!("!deploy shop/{version} to uat hold={hold}"));
        let asked = format!("{}: say \"!yes ", who.nick);
        let line = hears(who, &asked).await;
        runs.push(line.split("!yes ").nth(1).unwrap().split('"').next().unwrap().to_owned());
    }
    let (first, second) = (&runs[0], &runs[1]);
    kim.says("#ops", &format!("!yes {first}"));
    hears(kim, &format!("[{first}] shop v4 -> uat started by kim.")).await;
    raj.says("#ops", &format!("!yes {second}"));
    hears(raj, &format!("[{second}] queued for shop/uat, place 1 ({first} by kim in test")).await;
    raj.says("#ops", "!queue shop");
    hears(raj, &format!("{second} raj v5 -> uat queued")).await;
    hears(raj, &format!("[{first}] shop v4 is live on uat.")).await;
    let turn =
        format!("[{second}] raj: your turn. nothing is now v4 ({first} went in between). !yes {second} within 5 min");
    hears(raj, &turn).await;
    raj.says("#ops", &format!("!yes {second}"));
    hears(raj, &format!("[{second}] shop v5 is live on uat.")).await;
}

/// When the network is back it hears of a run how it is now, and nothing of what was missed.
async fn away(people: &mut People, cut: &Notify) {
    let kim = &mut people.kim;
    kim.says("#ops", "!deploy shop/v6 to staging hold=100s");
    let run = numbered(&hears(kim, "shop v6 -> staging started by kim.").await);
    cut.notify_one();
    kim.waits(|line| line.command == "QUIT" && line.from == BOT).await;
    kim.sees_join(BOT, "#ops").await;
    let line = hears(kim, &format!("[{run}] ")).await;
    assert!(line.contains("shop v6 -> staging still in test, I was away "), "{line}");
    kim.says("#ops", &format!("!abort {run}"));
    hears(kim, &format!("[{run}] shop v6 -> staging aborted by kim.")).await;
    let told =
        kim.all_from(BOT).iter().filter(|line| line.contains(&format!("[{run}] shop v6 -> staging started"))).count();
    assert_eq!(told, 1, "what was said before is not said again");
}

/// Of no run more was said than two lines beside one for each stage, and no line is longer than the protocol bears.
async fn few_lines(bot: &Started, people: &People) {
    let said = people.lee.all_from(BOT);
    assert!(said.iter().all(|line| line.len() < 420), "{said:#?}");
    for (row, run) in
        bot.pipelines().list(masterchief::store::runs::Which { limit: 100, ..Default::default() }).await.unwrap()
    {
        let (_, stages) = bot.pipelines().run(row.number).await.unwrap().unwrap();
        let lines: Vec<&String> = said.iter().filter(|line| line.starts_with(&format!("[{}] ", row.number))).collect();
        assert!(run.spared > 0 || lines.len() <= stages.len() + 2, "{lines:#?}");
    }
}
