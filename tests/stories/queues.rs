//! RabbitMQ's queues and who made them: what goes to a queue's own dead-letter exchange and what to ours, and a queue that
//! is not there yet.

use std::sync::Arc;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Batch, Borrowed, Event, Fate, HandlerError, Kind, Positions, Source, SourceError};
use masterchief_bindings::Settings;
use masterchief_bindings::stream::{Message, Publish, Publishers, RabbitSettings};
use tokio::time::Instant;

use super::conformance::{Heard, reading};
use super::servers::{RabbitMq, rabbit_settings};

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source of which the journal takes no event that says so.
struct Picky {
    inner: Box<dyn Source>,
    refused: Vec<bool>,
}

impl Source for Picky {
    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        self.inner.open(positions)
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async {
            let batch = self.inner.next().await?;
            let events = batch.parts.iter().flat_map(|part| &part.events);
            let of_orders = |(name, value): &(&str, serde_json::Value)| *name == "routing_key" && value == "orders";
            self.refused = events.map(|event| event.text == "too big" && event.fields.iter().any(of_orders)).collect();
            Ok(batch)
        })
    }

    fn settle<'a>(&'a mut self, receipt: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let fates = fates.iter().zip(&self.refused);
            let fates: Vec<Fate> = fates.map(|(fate, refused)| if *refused { Fate::Refused } else { *fate }).collect();
            self.inner.settle(receipt, &fates).await
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.inner.close()
    }
}

/// Two connections: of the first, queues have a dead-letter exchange, and what lies in them for a second is dead.
fn with_dead_letters(port: u16, dead: &str) -> Settings {
    let mut settings = rabbit_settings(port);
    let plain = settings.rabbitmq["default"].clone();
    let arguments = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", dead), ("x-message-ttl", "1000")];
    let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    settings.rabbitmq.insert("shop".to_owned(), RabbitSettings { arguments, ..plain });
    settings
}

async fn publish(settings: &Settings, to: &str, text: &str) {
    let publishers = Publishers::new(Arc::new(settings.clone()));
    publishers.publish(Message { to: to.to_owned(), payload: text.into(), ..Message::default() }).await.unwrap();
}

/// Waits until a source says something about why it cannot read.
async fn said(started: &Started, words: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let rows = started.sources();
        if let Some(error) = rows.iter().filter_map(|row| row.error.clone()).find(|error| error.contains(words)) {
            return error;
        }
        assert!(Instant::now() < end, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_refuses_is_our_dead_letter_and_what_the_journal_cannot_take_or_nobody_read_is_the_queues_own() {
    let rabbit = RabbitMq::start().await;
    let settings = with_dead_letters(rabbit.port, "dead");
    let (dir, heard, dead) = (tempfile::tempdir().unwrap(), Heard::default(), Heard::default());
    let reasons = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let start = async |orders_too: bool| {
        let (heard, dead, reasons) = (heard.clone(), dead.handler(), Arc::clone(&reasons));
        let good = heard.handler();
        let orders = move |event: Event| {
            let refused = event.text() == "refused";
            let heard = good(event);
            async move {
                heard.await;
                if refused { Err(HandlerError::Dead("no such shop".to_owned())) } else { Ok(()) }
            }
        };
        let letters = move |event: Event| {
            let headers = event.field("headers").map(ToString::to_string).unwrap_or_default();
            reasons.lock().unwrap().push(headers);
            dead(event)
        };
        let wrap = |inner| -> Box<dyn Source> { Box::new(Picky { inner, refused: Vec::new() }) };
        let bot = Bot::builder().data(dir.path()).sources(settings.clone()).wrap_sources(Arc::new(wrap));
        let mut bot = bot.bind(Kind::Stream, "-|-", "rabbitmq:dead", letters).unwrap();
        if orders_too {
            bot = bot.bind(Kind::Stream, "-|-", "rabbitmq@shop:orders", orders).unwrap();
        }
        bot.start().await.unwrap()
    };
    let started = start(true).await;
    reading(&started).await;
    for text in ["fine", "refused", "too big", "fine too"] {
        publish(&settings, "rabbitmq@shop:orders", text).await;
    }
    dead.until(1).await;
    heard.until(4).await;
    assert_eq!(dead.all(), ["too big"], "only what the journal could not take goes to the queue's own");
    let letters = started.journal().dead_letters(10).await.unwrap();
    assert!(matches!(letters.as_slice(), [letter] if letter.reason == "no such shop"), "{letters:?}");
    started.stop("").await;
    // Nobody reads, and after a second the queue's own rule takes it away.
    publish(&settings, "rabbitmq@shop:orders", "too late").await;
    let started = start(false).await;
    dead.until(2).await;
    assert_eq!(dead.all(), ["too big", "too late"]);
    let reasons = reasons.lock().unwrap().clone();
    assert!(reasons[0].contains("rejected") && reasons[1].contains("expired"), "{reasons:?}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_told_and_read_once_somebody_made_it() {
    let rabbit = RabbitMq::start().await;
    let making = rabbit_settings(rabbit.port);
    let mut settings = making.clone();
    settings.rabbitmq.get_mut("default").unwrap().declare = false;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = Bot::builder().data(dir.path()).sources(settings);
    let bot = bot.bind(Kind::Stream, "-|-", "rabbitmq:later", heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    let told = said(&started, "no queue later").await;
    assert!(told.contains("make it, or write declare: true"), "{told}");
    // Somebody else makes it.
    let (other, nobody) = (tempfile::tempdir().unwrap(), Heard::default());
    let maker = Bot::builder().data(other.path()).sources(making.clone());
    let maker = maker.bind(Kind::Stream, "-|-", "rabbitmq:later", nobody.handler()).unwrap().start().await.unwrap();
    reading(&maker).await;
    maker.stop("").await;
    publish(&making, "rabbitmq:later", "here it is").await;
    heard.until(1).await;
    assert_eq!(heard.all(), ["here it is"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_queue_of_another_shape_are_told_with_what_to_change() {
    let rabbit = RabbitMq::start().await;
    let mut settings = with_dead_letters(rabbit.port, "dead");
    let url = masterchief::contract::Secret::new(format!("amqp://guest:wrong@127.0.0.1:{}/%2f", rabbit.port));
    let wrong = RabbitSettings { url, ..settings.rabbitmq["default"].clone() };
    settings.rabbitmq.insert("wrong".to_owned(), wrong);
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = Bot::builder().data(dir.path()).sources(settings);
    let mut bot = bot.bind(Kind::Stream, "-|-", "rabbitmq:orders", heard.handler()).unwrap();
    bot = bot.bind(Kind::Stream, "-|-", "rabbitmq@wrong:orders", heard.handler()).unwrap();
    let started =
        bot.bind(Kind::Stream, "-|-", "rabbitmq@shop:orders", heard.handler()).unwrap().start().await.unwrap();
    let refused = said(&started, "refuses the user or the password").await;
    assert!(!refused.contains("wrong@"), "{refused}");
    // The one that came second found what the first had made.
    said(&started, "was made with other arguments").await;
    started.stop("").await;
}
