//! Handlers that take their time: who waits for them, and who does not.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::contract::{
    Batch, BindOptions, DeliveryOptions, Event, Future, HandlerError, Inbound, Kind, OnCrash, Order, Part,
};
use masterchief::journal::{self, DeadState};
use tokio::sync::watch;

use super::chance::{Dice, seed};
use super::letters::{HOOK, Seen, happen, quick, start, with};

/// Longer than any story.
fn patient(delivery: DeliveryOptions) -> BindOptions {
    BindOptions { timeout: Some(Duration::from_secs(3600)), ..with(delivery) }
}

/// Notes what it is given, and how; what `is_slow` says waits until it is let go.
fn slow(
    seen: &Seen,
    go: &watch::Receiver<bool>,
    is_slow: fn(&str) -> bool,
) -> impl Fn(Event) -> Future<()> + Send + Sync + use<> {
    let (seen, go) = (seen.clone(), go.clone());
    move |event: Event| {
        let (seen, mut go) = (seen.clone(), go.clone());
        Box::pin(async move {
            if is_slow(event.text()) {
                // The story may be over.
                let _ = go.wait_for(|go| *go).await;
            }
            let delivery = event.delivery();
            let again = if delivery.redelivered { " again" } else { "" };
            seen.0.lock().unwrap().push(format!("{} try {}{again}", event.text(), delivery.attempt));
        })
    }
}

fn of_lane(seen: &Seen, lane: &str) -> Vec<String> {
    seen.all().into_iter().filter(|text| text.starts_with(lane)).collect()
}

fn all_of(lane: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{lane} {number} try 1")).collect()
}

async fn until_nothing_waits(started: &Started) {
    for _ in 0..1000 {
        if started.journal().status().await.unwrap().waiting == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", started.journal().status().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_its_time_holds_up_its_own_lane_and_no_other() {
    let (dir, seen, (release, go)) = (tempfile::tempdir().unwrap(), Seen::default(), watch::channel(false));
    let handler = slow(&seen, &go, |text| text == "a 0");
    let options = patient(quick());
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await;
    // One is begun, and then others come: behind it, and elsewhere.
    happen(&started, 0..1, "a").await;
    happen(&started, 0..20, "b").await;
    happen(&started, 1..50, "a").await;
    seen.until(20).await;
    happen(&started, 20..40, "b").await;
    happen(&started, 0..20, "c").await;
    seen.until(60).await;
    assert_eq!((of_lane(&seen, "b"), of_lane(&seen, "c")), (all_of("b", 40), all_of("c", 20)));
    assert!(of_lane(&seen, "a").is_empty(), "they wait for the first of their lane");
    release.send_replace(true);
    seen.until(110).await;
    assert_eq!(of_lane(&seen, "a"), all_of("a", 50), "in order, each begun once");
    until_nothing_waits(&started).await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_order_is_kept_a_slow_one_holds_up_nobody_and_as_many_run_as_may() {
    let (dir, seen, (release, go)) = (tempfile::tempdir().unwrap(), Seen::default(), watch::channel(false));
    let handler = slow(&seen, &go, |text| text == "a 3" || text == "a 7");
    let options = patient(DeliveryOptions { order: Order::None, conc: 3, ..quick() });
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await;
    happen(&started, 0..200, "a").await;
    seen.until(198).await;
    release.send_replace(true);
    seen.until(200).await;
    let mut all = seen.all();
    all.sort();
    let mut wanted = all_of("a", 200);
    wanted.sort();
    assert_eq!(all, wanted, "each once");
    until_nothing_waits(&started).await;
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_slow_one_others_are_tried_again() {
    let (dir, seen, failures) = (tempfile::tempdir().unwrap(), Seen::default(), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (seen, failures) = (seen.clone(), Arc::clone(&failures));
        move |event: Event| {
            let (seen, failures) = (seen.clone(), Arc::clone(&failures));
            async move {
                if event.text() == "a 0" {
                    std::future::pending::<()>().await;
                }
                if event.text() == "b 1" && failures.fetch_add(1, Ordering::Relaxed) < 2 {
                    return Err(HandlerError::Retry {
                        after: Some(Duration::from_millis(20)),
                        reason: "not yet".to_owned(),
                    });
                }
                seen.0.lock().unwrap().push(format!("{} try {}", event.text(), event.delivery().attempt));
                Ok(())
            }
        }
    };
    let options = patient(quick());
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await;
    happen(&started, 0..2, "a").await;
    happen(&started, 0..4, "b").await;
    seen.until(4).await;
    assert_eq!(seen.all(), ["b 0 try 1", "b 1 try 3", "b 2 try 1", "b 3 try 1"]);
    started.stop("").await;
}

/// What a second process hears after one died during the first event of a lane, when all of another was done; and how many
/// letters there are.
async fn heard_after_dying(delivery: DeliveryOptions) -> (Vec<String>, Vec<journal::DeadRow>) {
    let (dir, seen, (_release, go)) = (tempfile::tempdir().unwrap(), Seen::default(), watch::channel(false));
    let handler = slow(&seen, &go, |text| text == "a 0");
    let options = patient(delivery);
    let started = {
        let options = options.clone();
        start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await
    };
    happen(&started, 0..3, "a").await;
    happen(&started, 0..20, "b").await;
    seen.until(20).await;
    // Its grace is over before the call is; that is as if it had died.
    started.stop("").await;
    let again = Seen::default();
    let handler = slow(&again, &go, |_| false);
    let started = start(&dir, |bot| bot.bind_with(Kind::Webhook, "-|-", HOOK, options, handler).unwrap()).await;
    let letters = started.journal().dead_letters(9).await.unwrap();
    for held in letters.iter().filter(|row| row.state == DeadState::Held) {
        assert!(started.journal().discard(held.clone()).await.unwrap());
    }
    happen(&started, 0..1, "c").await;
    again.until(if letters.is_empty() { 4 } else { 3 }).await;
    until_nothing_waits(&started).await;
    started.stop("").await;
    let mut heard = again.all();
    heard.sort();
    (heard, letters)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_took_its_time_when_the_process_died_is_done_once_more_and_nothing_else_is() {
    let (heard, letters) = heard_after_dying(quick()).await;
    assert_eq!(heard, ["a 0 try 2 again", "a 1 try 1", "a 2 try 1", "c 0 try 1"]);
    assert!(letters.is_empty());
    let rest = ["a 1 try 1", "a 2 try 1", "c 0 try 1"];
    let (heard, letters) = heard_after_dying(DeliveryOptions { on_crash: OnCrash::Hold, ..quick() }).await;
    assert_eq!((&heard[..], letters.len(), letters[0].state), (&rest.map(str::to_owned)[..], 1, DeadState::Held));
    let (heard, letters) = heard_after_dying(DeliveryOptions { max_attempts: 1, ..quick() }).await;
    assert_eq!((&heard[..], letters.len(), letters[0].state), (&rest.map(str::to_owned)[..], 1, DeadState::Dead));
}

/// Many at once, of one lane.
async fn crowd(started: &Started, lane: &str, numbers: std::ops::Range<usize>) {
    let events = numbers.map(|number| Inbound {
        key: None,
        at: Utc::now(),
        text: format!("{lane} {number}"),
        fields: vec![("provider", "github".into()), ("event", "push".into())],
        body: Vec::new(),
    });
    let part = Part { lane: Arc::from(lane), shared: None, events: events.collect(), position: None };
    let batch = Batch { parts: vec![part], ..Batch::default() };
    started.journal().append(Kind::Webhook, &Arc::from("webhook"), batch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bind_behind_which_too_much_waits_says_so_and_says_what_to_do() {
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |event: Event| {
            let seen = seen.clone();
            async move {
                if event.text() == "a 0" && event.delivery().attempt == 1 {
                    return Err(HandlerError::Retry {
                        after: Some(Duration::from_secs(86_400)),
                        reason: "tomorrow".to_owned(),
                    });
                }
                seen.0.lock().unwrap().push(event.text().to_owned());
                Ok(())
            }
        }
    };
    let notify = journal::Settings { notify: Some("#ops".to_owned()), ..journal::Settings::default() };
    let bot = Bot::builder().journal(notify).bind_with(Kind::Webhook, "-|-", HOOK, patient(quick()), handler).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let started = test.started();
    // So many of one lane hold up no other.
    crowd(&started, "a", 0..5000).await;
    crowd(&started, "b", 0..10).await;
    until(&test, "the other lane is heard", || seen.all().len() == 10).await;
    assert!(started.journal().standing_still().is_empty());
    // Too many do.
    crowd(&started, "a", 5000..10_000).await;
    test.expect(CHANNEL, "begins nothing new: ").await;
    crowd(&started, "b", 10..11).await;
    assert_eq!(started.journal().standing_still().len(), 1);
    test.advance(Duration::from_secs(60)).await;
    assert_eq!(seen.all().len(), 10, "it waits, too");
    test.advance(Duration::from_secs(86_400)).await;
    until(&test, "all is heard", || seen.all().len() == 10_011).await;
    until(&test, "it goes on", || started.journal().standing_still().is_empty()).await;
    drop(started);
    test.stop().await;
}

async fn until(test: &TestBot, what: &str, is_it: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_it() {
            return;
        }
        test.advance(Duration::from_millis(10)).await;
    }
    panic!("{what}: it never was so");
}

/// A bot that dies during its first call, in a time of its own.
fn dies(folder: &std::path::Path, options: &BindOptions) {
    let (folder, options) = (folder.to_owned(), options.clone());
    let died = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async move {
            let stuck = |_: Event| -> Future<()> { Box::pin(std::future::pending()) };
            let bot = Bot::builder().data(&folder).bind_with(Kind::Webhook, "-|-", HOOK, options, stuck).unwrap();
            let started = bot.start().await.unwrap();
            happen(&started, 0..1, "a").await;
            for _ in 0..500 {
                let states = started.journal().states("webhook", 1).await.unwrap();
                if states.iter().any(|(_, state)| state == "being handled") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            started.stop("").await;
        });
    });
    died.join().unwrap();
}

#[tokio::test]
async fn what_is_held_is_told_where_dead_letters_are() {
    // By the real clock: a paused one does not wait for a database.
    let (dir, seen, (_release, go)) = (tempfile::tempdir().unwrap(), Seen::default(), watch::channel(false));
    let careful = patient(DeliveryOptions { on_crash: OnCrash::Hold, ..quick() });
    dies(dir.path(), &careful);
    let notify = journal::Settings { notify: Some("#ops".to_owned()), ..journal::Settings::default() };
    let handler = slow(&seen, &go, |_| false);
    let bot = Bot::builder().journal(notify).bind_with(Kind::Webhook, "-|-", HOOK, careful, handler).unwrap();
    let test = TestBot::start_in(dir.path(), bot).await.unwrap();
    let hears =
        async |text: &str| test.find(CHANNEL, Duration::from_secs(60), |line| line.contains(text)).await.unwrap();
    hears("held: event 1 for webhook github/*").await;
    let status = test.started().journal().status().await.unwrap();
    assert_eq!((status.waiting, status.held), (1, 1));
    let alice = test.user("alice").with_flags("m");
    alice.says(CHANNEL, ".dlq").await;
    hears("-1 held").await;
    alice.says(CHANNEL, ".dlq retry -1").await;
    hears("-1 is tried again").await;
    until(&test, "it is heard", || seen.all() == ["a 0 try 1"]).await;
    test.stop().await;
}

/// What handlers that take any time and fail now and then were given.
#[derive(Default)]
struct Given {
    /// What was done, by lane.
    done: BTreeMap<String, Vec<usize>>,
    /// How often each was begun.
    begun: HashMap<String, u32>,
    running: usize,
    /// What must not be.
    faults: Vec<String>,
}

impl Given {
    fn begins(&mut self, event: &Event, conc: usize) {
        self.running += 1;
        if self.running > conc {
            self.faults.push(format!("{} at once, and {conc} may", self.running));
        }
        let begun = self.begun.entry(event.text().to_owned()).or_default();
        *begun += 1;
        let attempt = event.delivery().attempt;
        if *begun != attempt {
            self.faults.push(format!("{} was begun {begun} times, and this is try {attempt}", event.text()));
        }
    }

    fn ends(&mut self, event: &Event, well: bool) {
        self.running -= 1;
        if let Some((lane, number)) = event.text().split_once(' ').filter(|_| well) {
            self.done.entry(lane.to_owned()).or_default().push(number.parse().unwrap());
        }
    }

    fn count(&self) -> usize {
        self.done.values().map(Vec::len).sum()
    }
}

/// Handlers that take any time and fail now and then: what is done, by lane.
async fn any_times(seed: u64, order: Order) -> BTreeMap<String, Vec<usize>> {
    let (given, dice) = (Arc::<Mutex<Given>>::default(), Arc::new(Mutex::new(Dice::new(seed))));
    let conc = 1 + dice.lock().unwrap().below(5);
    let handler = {
        let (given, dice) = (Arc::clone(&given), Arc::clone(&dice));
        move |event: Event| {
            let (given, dice) = (Arc::clone(&given), Arc::clone(&dice));
            async move {
                given.lock().unwrap().begins(&event, conc);
                let (time, fails) = {
                    let mut dice = dice.lock().unwrap();
                    (*dice.of(&[0, 0, 0, 0, 5, 40, 250, 3000]), dice.one_in(10))
                };
                let time = Duration::from_millis(time);
                if !time.is_zero() {
                    tokio::time::sleep(time).await;
                }
                given.lock().unwrap().ends(&event, !fails);
                match fails {
                    true => Err(HandlerError::Retry { after: Some(time), reason: "not yet".to_owned() }),
                    false => Ok(()),
                }
            }
        }
    };
    let conc = u32::try_from(conc).unwrap();
    let delivery = DeliveryOptions { max_attempts: 1000, order, conc, ..quick() };
    let bot = Bot::builder().bind_with(Kind::Webhook, "-|-", HOOK, patient(delivery), handler).unwrap();
    let test = TestBot::start(bot).await.unwrap();
    let started = test.started();
    let (mut next, mut count) = ([0; 5], 0);
    while count < 400 {
        let (lane, many, pause) = {
            let mut dice = dice.lock().unwrap();
            (dice.below(5), dice.below(12), dice.below(60) as u64)
        };
        happen(&started, next[lane]..next[lane] + many, ["a", "b", "c", "d", "e"][lane]).await;
        next[lane] += many;
        count += many;
        test.advance(Duration::from_millis(pause)).await;
    }
    for _ in 0..20_000 {
        if given.lock().unwrap().count() >= count {
            break;
        }
        test.advance(Duration::from_millis(50)).await;
    }
    for _ in 0..100 {
        test.advance(Duration::from_millis(20)).await;
    }
    let status = started.journal().status().await.unwrap();
    assert_eq!((status.waiting, status.dead), (0, 0), "seed {seed}");
    let behind = started.journal().behind().await.unwrap();
    assert!(behind.iter().all(|(_, behind)| *behind == 0), "seed {seed}: {behind:?}");
    drop(started);
    test.stop().await;
    let given = given.lock().unwrap();
    assert_eq!((given.count(), &given.faults[..]), (count, &[] as &[String]), "seed {seed}");
    given.done.clone()
}

#[tokio::test(start_paused = true)]
async fn whatever_time_handlers_take_each_event_is_done_once_and_each_lane_in_order() {
    let seed = seed();
    for turn in 0..4 {
        let heard = any_times(seed.wrapping_add(turn), Order::Lane).await;
        for (lane, numbers) in &heard {
            assert_eq!(numbers, &(0..numbers.len()).collect::<Vec<_>>(), "seed {seed} turn {turn}: lane {lane}");
        }
        let heard = any_times(seed.wrapping_add(turn), Order::None).await;
        for (lane, mut numbers) in heard {
            numbers.sort_unstable();
            assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "seed {seed} turn {turn}: {lane}");
        }
    }
}
