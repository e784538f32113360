//! Groups of bots in a channel: of two with a witness either may die, and a schedule is done by one.

use std::collections::BTreeSet;
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{Action, Acts, BindOptions, Event, Kind};
use masterchief::irc;
use masterchief::mesh::{Attribute, BotSettings, Settings};

use super::lab::Lab;
use super::mesh::{Chief, settings};
use super::mesh_chiefs::{called, caller, named};
use super::person::Person;
use super::servers::free_port;

fn trusted(bot: BotSettings) -> BotSettings {
    let mut attributes = bot.attributes.clone();
    attributes.insert(Attribute::Trust);
    BotSettings { attributes, ..bot }
}

/// Waits until a bot acts on the network, or acts no more.
async fn acts(chief: &Chief, wanted: bool) {
    let begun = std::time::Instant::now();
    while chief.mesh.leads().may_act("lab") != wanted {
        let led = chief.mesh.leads().of("lab");
        assert!(begun.elapsed() < Duration::from_secs(20), "{}: {led:?}", chief.mesh.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_witness_that_is_on_no_network_either_of_two_may_die() {
    let lab = Lab::start();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let group = ["One", "Two", "Witness"].map(str::to_owned).to_vec();
    let grouped = |known: Settings| Settings { groups: [("lab".to_owned(), group.clone())].into(), ..known };
    let network = |nick: &str| {
        let json = format!(
            r##"{{"servers": ["127.0.0.1:{}"], "tls": false, "nick": "{nick}", "channels": ["#ops"]}}"##,
            lab.plain
        );
        Bot::builder().network("lab", serde_json::from_str::<irc::Settings>(&json).unwrap())
    };
    let witness = named("Witness", Some(port), &[("One", trusted(caller())), ("Two", trusted(caller()))]);
    let witness = Chief::start(folders[0].path(), grouped(witness)).await;
    let leaf = |name: &str, other: &str| {
        grouped(named(
            name,
            None,
            &[("Witness", trusted(called(port, Attribute::Hub))), (other, trusted(BotSettings::default()))],
        ))
    };
    let one = Chief::of(network("One"), folders[1].path(), leaf("One", "Two")).await;
    acts(&one, true).await;
    let two = Chief::of(network("Two"), folders[2].path(), leaf("Two", "One")).await;
    two.sees("One").await;
    assert!(!two.mesh.leads().may_act("lab") && !witness.mesh.leads().may_act("lab"));
    one.bot.stop("").await;
    acts(&two, true).await;
    assert_eq!(two.mesh.leads().of("lab").unwrap().leader.unwrap().as_str(), "Two");
    // Without the witness nobody knows whether it is alone.
    witness.bot.stop("").await;
    acts(&two, false).await;
    two.bot.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_a_lease_ends_is_never_done() {
    let lab = Lab::start();
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let group = ["One", "Two", "Witness"].map(str::to_owned).to_vec();
    let grouped = |known: Settings| Settings { groups: [("lab".to_owned(), group.clone())].into(), ..known };
    let json = format!(
        r##"{{"servers": ["127.0.0.1:{}"], "tls": false, "nick": "One", "channels": ["#ops"], "pace": {{"burst": 1, "interval": "1s"}}}}"##,
        lab.plain
    );
    let network = Bot::builder().network("lab", serde_json::from_str::<irc::Settings>(&json).unwrap());
    let witness = named("Witness", Some(port), &[("One", trusted(caller()))]);
    let witness = Chief::start(folders[0].path(), grouped(witness)).await;
    let known = named("One", None, &[("Witness", trusted(called(port, Attribute::Hub)))]);
    let one = Chief::of(network, folders[1].path(), grouped(known)).await;
    acts(&one, true).await;
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    // Sixty deeds, one a second.
    let outlet = one.bot.outlet();
    for number in 0..60 {
        let params = vec!["#ops".to_owned(), format!("deed {number}")];
        let deed = Action::Send { network: "lab".to_owned(), command: "TOPIC".to_owned(), params };
        outlet.perform(deed).await.unwrap();
    }
    alice.waits(|line| line.command == "TOPIC" && line.params.iter().any(|param| param == "deed 1")).await;
    // Its lease is not renewed any more. When it has ended another could act, and so nothing more is done here.
    witness.bot.stop("").await;
    acts(&one, false).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let deeds = || alice.count(|line| line.command == "TOPIC");
    let done = deeds();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!((2..40).contains(&done) && deeds() == done, "{done} and then {}", deeds());
    drop(outlet);
    one.bot.stop("").await;
}

/// A bot with a schedule of each sort, in a group of these.
async fn scheduled(members: &[&str]) -> TestBot {
    let mut known = settings("Chief");
    known.groups = [("test".to_owned(), members.iter().map(|name| (*name).to_owned()).collect())].into();
    let bind = |bot: masterchief::bot::Builder, to: &str, acts: Acts| {
        let options = BindOptions { to: Some(to.to_owned()), acts, ..BindOptions::default() };
        let words = to.to_owned();
        bot.bind_with(Kind::Cron, "-|-", "* * * * *", options, move |_: Event| {
            let words = words.clone();
            async move {
                SEEN.lock().unwrap().insert(words.clone());
                words
            }
        })
        .unwrap()
    };
    let bot = bind(Bot::builder(), CHANNEL, Acts::Usual);
    let bot = bind(bot, "test/#ops", Acts::Usual);
    let bot = bind(bot, "console/#all", Acts::All);
    let bot = bind(bot, "console/#elsewhere", Acts::On("elsewhere".to_owned()));
    TestBot::start(bot.mesh(known)).await.unwrap()
}

static SEEN: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());

#[tokio::test(start_paused = true)]
async fn a_schedule_in_a_group_is_called_by_the_one_that_acts_unless_it_says_otherwise() {
    let seen = || std::mem::take(&mut *SEEN.lock().unwrap());
    let test = scheduled(&["Spare", "Chief", "Witness"]).await;
    test.advance(Duration::from_secs(125)).await;
    let all = ["console/#all", "console/#elsewhere"].map(str::to_owned);
    assert_eq!(seen(), BTreeSet::from(all.clone()), "nobody has promised it anything");
    test.stop().await;
    let test = scheduled(&["Chief"]).await;
    test.advance(Duration::from_secs(125)).await;
    let mut wanted = BTreeSet::from(all);
    wanted.extend([CHANNEL, "test/#ops"].map(str::to_owned));
    assert_eq!(seen(), wanted);
    test.expect(CHANNEL, CHANNEL).await;
    test.stop().await;
}
