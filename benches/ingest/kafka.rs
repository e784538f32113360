//! Messages of Kafka, from a broker with everything in memory: to a handler, and to a bare consumer.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::servers::{Tansu, kafka_settings};
use crate::{Aim, Fallible, cpu_seconds};

const MESSAGES: u64 = 100_000;

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
    let (mut ours, mut floor) = (0.0_f64, 0.0_f64);
    let mut cpu = (0.0, 0.0);
    for turn in 0..3 {
        let began = cpu_seconds();
        floor = floor.max(bare(&brokers, &topic, turn).await?);
        let between = cpu_seconds();
        ours = ours.max(to_a_handler(&brokers, &topic, turn).await?);
        cpu = (cpu.0 + between - began, cpu.1 + cpu_seconds() - between);
    }
    let cpu = (cpu.0 / 3.0 / MESSAGES as f64 * 1e6, cpu.1 / 3.0 / MESSAGES as f64 * 1e6);
    println!("kafka: {:.1} us of processors a message, the bare consumer {:.1} us", cpu.1, cpu.0);
    println!("kafka: {ours:.0} messages/s of 1 KB, durable and handled");
    println!("kafka: {:.2} of a bare consumer that throws them away: {floor:.0}/s", ours / floor);
    let disk = kept(MESSAGES)?;
    println!("kafka: {:.2} of a file to which they are appended and synced 4,000 at a time: {disk:.0}/s", ours / disk);
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

/// From the first message to the last.
async fn bare(brokers: &str, topic: &str, turn: usize) -> Fallible<f64> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("bare{turn}"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    let (mut began, mut bytes) = (None, 0);
    for number in 0..MESSAGES {
        let message = consumer.recv().await?;
        began.get_or_insert_with(Instant::now);
        bytes += message.payload_len();
        if number % 4000 == 3999 {
            consumer.commit_message(&message, CommitMode::Async)?;
        }
    }
    assert_eq!(bytes as u64, MESSAGES * 1024);
    Ok(MESSAGES as f64 / began.ok_or("nothing came")?.elapsed().as_secs_f64())
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

/// The same bytes in a file, which is as durable: what the disk lets through, without a journal.
fn kept(messages: u64) -> Fallible<f64> {
    let mut file = tempfile::tempfile()?;
    let group: String = (0..4000).map(payload).collect();
    let began = Instant::now();
    for _ in 0..messages / 4000 {
        file.write_all(group.as_bytes())?;
        file.sync_data()?;
    }
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}
