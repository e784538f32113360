//! Messages of Kafka, from a broker with everything in memory: to a handler, and to a bare consumer.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::servers::{Tansu, kafka_settings};
use crate::{Aim, Fallible, cpu_seconds};

const MESSAGES: u64 = 100_000;
/// Messages that are made durable, and committed, at once.
const GROUP: u64 = 4000;

/// Messages of 1 KB from the beginning of a topic.
pub(crate) async fn messages() -> Fallible<Vec<Aim>> {
    let tansu = Tansu::start().await;
    let (brokers, topic) = (tansu.address.clone(), tansu.topic(1).await);
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("queue.buffering.max.messages", "1000000")
        .set("linger.ms", "5")
        .create()?;
    for part in 0..MESSAGES / 10_000 {
        let sent =
            (0..10_000).map(|number| {
                let key = format!("{part} {number}");
                let producer = producer.clone();
                let (payload, topic) = (payload(part * 10_000 + number), &topic);
                async move {
                    producer.send(FutureRecord::to(topic).key(&key).payload(&payload), Duration::from_secs(60)).await
                }
            });
        for sent in join_all(sent).await {
            sent.map_err(|(fault, _)| fault)?;
        }
    }
    // Turn by turn, and the best of each: what else runs on the machine meets both.
    let (mut ours, mut floor, mut file, mut sqlite) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    let mut cpu = (0.0, 0.0);
    for turn in 0..3 {
        let began = cpu_seconds();
        floor = floor.max(bare(&brokers, &topic, &format!("bare{turn}"), None).await?);
        let between = cpu_seconds();
        ours = ours.max(to_a_handler(&brokers, &topic, turn).await?);
        cpu = (cpu.0 + between - began, cpu.1 + cpu_seconds() - between);
        file = file.max(bare(&brokers, &topic, &format!("file{turn}"), Some(in_a_file()?)).await?);
        sqlite = sqlite.max(bare(&brokers, &topic, &format!("sqlite{turn}"), Some(in_sqlite()?)).await?);
    }
    let cpu = (cpu.0 / 3.0 / MESSAGES as f64 * 1e6, cpu.1 / 3.0 / MESSAGES as f64 * 1e6);
    println!("kafka: {:.1} us of processors a message, the bare consumer {:.1} us", cpu.1, cpu.0);
    println!("kafka: {ours:.0} messages/s of 1 KB, durable and handled");
    println!("kafka: {:.2} of a bare consumer that throws them away: {floor:.0}/s", ours / floor);
    let keeps = |what: &str, rate: f64| {
        println!(
            "kafka: a bare consumer with a thread that keeps them {what}, {GROUP} at a time, has {:.2} of itself: {rate:.0}/s; ours {:.2} of that",
            rate / floor,
            ours / rate
        );
    };
    keeps("in a file, synced", file);
    keeps("in a table of SQLite with the journal's settings", sqlite);
    Ok(vec![Aim { what: "kafka, of a bare consumer".to_owned(), figure: ours / floor, least: 0.7 }])
}

/// A message of 1,024 bytes: JSON with words that differ from one to the next.
fn payload(number: u64) -> String {
    const WORDS: [&str; 16] = [
        "deploy", "shop", "prod", "staging", "done", "failed", "canary", "rollback", "api", "worker", "till", "alice",
        "bob", "restart", "queue", "timeout",
    ];
    let mut text = format!("{{\"id\":{number},\"words\":\"");
    let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() < 1000 {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        text.push_str(WORDS[(dice % 16) as usize]);
        text.push_str(&format!(" {} ", dice % 997));
    }
    text.truncate(1022);
    text.push_str(&"x".repeat(1022 - text.len()));
    text + "\"}"
}

/// Makes what it is given durable.
type Keep = Box<dyn FnMut(&[u8]) -> Fallible<()> + Send>;

/// From the first message to the last, and until the last is kept.
async fn bare(brokers: &str, topic: &str, group: &str, keep: Option<Keep>) -> Fallible<f64> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    // One group is kept while the next is read, as we do it.
    let (to, groups) = mpsc::sync_channel::<Vec<u8>>(1);
    let keeping = keep.map(|mut keep| {
        std::thread::spawn(move || groups.iter().try_for_each(|group| keep(&group)).map_err(|fault| fault.to_string()))
    });
    let (mut began, mut bytes, mut gathered) = (None, 0, Vec::new());
    for number in 1..=MESSAGES {
        let message = consumer.recv().await?;
        began.get_or_insert_with(Instant::now);
        bytes += message.payload_len();
        if keeping.is_some() {
            gathered.extend_from_slice(message.payload().unwrap_or_default());
        }
        if number % GROUP == 0 {
            if keeping.is_some() {
                to.send(std::mem::replace(&mut gathered, Vec::with_capacity(GROUP as usize * 1024)))?;
            }
            consumer.commit_message(&message, CommitMode::Async)?;
        }
    }
    assert_eq!(bytes as u64, MESSAGES * 1024);
    drop(to);
    if let Some(keeping) = keeping {
        keeping.join().map_err(|_| "who keeps them panicked")??;
    }
    Ok(MESSAGES as f64 / began.ok_or("nothing came")?.elapsed().as_secs_f64())
}

/// Each group is appended and synced: nobody keeps anything for less.
fn in_a_file() -> Fallible<Keep> {
    let mut file = tempfile::tempfile()?;
    Ok(Box::new(move |group| {
        file.write_all(group)?;
        Ok(file.sync_data()?)
    }))
}

/// Each group is a row of its own, and nothing else is written.
fn in_sqlite() -> Fallible<Keep> {
    let dir = tempfile::tempdir()?;
    let db = rusqlite::Connection::open(dir.path().join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    db.execute_batch("CREATE TABLE events(first INTEGER PRIMARY KEY, records BLOB NOT NULL)")?;
    Ok(Box::new(move |group| {
        // It goes with what writes into it.
        let _ = &dir;
        db.execute("INSERT INTO events(records) VALUES (?1)", [group])?;
        Ok(())
    }))
}

async fn to_a_handler(brokers: &str, topic: &str, turn: usize) -> Fallible<f64> {
    let data = tempfile::tempdir()?;
    let heard = Arc::<AtomicU64>::default();
    let handler = {
        let heard = Arc::clone(&heard);
        move |event: Event| {
            heard.fetch_add(u64::from(event.text().len() == 1024), Ordering::Relaxed);
            async {}
        }
    };
    let bot = Bot::builder().data(data.path()).sources(kafka_settings(brokers, &format!("ours{turn}")));
    let started = bot.bind(Kind::Stream, "-|-", &format!("kafka:{topic}"), handler)?.start().await?;
    // The group takes its time; what is measured begins with the first message.
    while heard.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let (began, before) = (Instant::now(), heard.load(Ordering::Relaxed));
    while heard.load(Ordering::Relaxed) < MESSAGES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = (MESSAGES - before) as f64 / began.elapsed().as_secs_f64();
    started.stop("").await;
    Ok(rate)
}
