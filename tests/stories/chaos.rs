//! An hour on a network where everything goes wrong, in virtual time: no reply is lost but with the server that had it, no page at all,
//! and nobody gets to do what they may not.
//!
//!     MASTERCHIEF_CHAOS=100 cargo test --test stories chaos:: -- --nocapture       so many hours
//!     MASTERCHIEF_SEED=N cargo test --test stories chaos:: -- --nocapture         the same hour again

use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Action, Class, Event, How, Kind, Mark, Outlet, Secret};
use masterchief::irc::Sasl;
use masterchief::irc::sasl::Mechanism;
use masterchief::users::User;

use crate::chance::{number, seed};
use crate::reckoned::{judge, judge_pages};
use crate::unruly::Network;
use crate::wire::Memory;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn bot(way: crate::wire::ToMemory, ran: &Arc<Mutex<Vec<u64>>>) -> Started {
    let ran = Arc::clone(ran);
    let deploy = move |ev: Event| {
        let ran = Arc::clone(&ran);
        async move {
            let number = ev.text().trim().parse().unwrap_or(0);
            ran.lock().unwrap().push(number);
            // Some take their time, so that connections end under them.
            tokio::time::sleep(SECOND * (number % 4) as u32).await;
            format!("deployed <{number}>")
        }
    };
    let mut settings = Memory::settings();
    settings.sasl = Some(Sasl {
        mechanisms: vec![Mechanism::Plain],
        account: "chief".to_owned(),
        password: Some(Secret::new("sesame")),
        required: false,
        allow_plaintext: true,
        ..Sasl::default()
    });
    let bot = Bot::builder().dial(way).network("chaos", settings);
    let bot = bot.bind(Kind::Pub, "D|-", "!deploy", deploy.clone()).unwrap();
    let started = bot.bind(Kind::Msg, "D|-", "!deploy", deploy).unwrap().start().await.unwrap();
    started.put_user(User::with_account("alice", "chaos", "alice", "D").unwrap()).await.unwrap();
    started
}

/// Something that somebody must hear. It is said whatever the connection is like now.
fn page(outlet: &Arc<dyn Outlet>, number: u64) {
    // Some are messages in parts, where the server takes such.
    let more = if number.is_multiple_of(3) { "\nand more of it" } else { "" };
    let (network, target, text) = (String::new(), "#ops".to_owned(), format!("a page <{number}>{more}"));
    let say = Action::Say { network, target, text, how: How::Say, reply: false };
    let said = outlet.perform(say.marked(Mark { class: Some(Class::Page), ..Mark::default() }));
    tokio::spawn(async move { said.await.expect("a page is taken") });
}

/// One hour.
async fn an_hour(seed: u64) {
    let (memory, way) = Memory::new();
    let ran = Arc::default();
    let started = bot(way, &ran).await;
    let outlet = started.outlet();
    let mut network = Network::new(seed, memory);
    let mut pages = 0;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < HOUR {
        if network.dice.one_in(8) {
            page(&outlet, pages);
            pages += 1;
        }
        if network.line.is_none() {
            network.takes_in().await;
        }
        network.happens().await;
        if network.dice.one_in(60) && network.inside {
            // It has them, says nothing for longer than a refusal takes, and dies with them.
            for _ in 0..3 {
                page(&outlet, pages);
                pages += 1;
            }
            tokio::time::sleep(SECOND * 10).await;
            network.dies().await;
        }
        if network.dice.one_in(2) {
            tokio::time::sleep(Duration::from_millis(network.dice.below(2000) as u64)).await;
        }
        if !network.dice.one_in(4) {
            network.hears().await;
        }
    }
    // Then all is well, and what waits is said.
    network.ends("").await;
    for _ in 0..60 {
        while network.line.is_none() {
            network.takes_in().await;
        }
        network.hears().await;
        tokio::time::sleep(10 * SECOND).await;
    }
    let refused = started.status().await.networks[0].refused;
    judge(&network.told, &ran.lock().unwrap(), refused, seed);
    judge_pages(&network.told, pages, seed);
    started.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn in_an_hour_of_chaos_no_page_and_no_reply_is_lost_and_nobody_gets_to_do_what_they_may_not() {
    let first = seed();
    for hour in 0..number("MASTERCHIEF_CHAOS").unwrap_or(1) {
        an_hour(first.wrapping_add(hour)).await;
    }
}
