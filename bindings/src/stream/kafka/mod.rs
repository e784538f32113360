//! Kafka, through librdkafka. What is committed is in the journal; what is in the journal and not yet committed when the
//! process dies is known by its offset when it comes again.

mod faults;
mod group;
mod producer;
mod reading;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use masterchief_contract::{BATCH_BYTES, Batch, Borrowed, Fate, Meter, Positions, Source, SourceError};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

use super::mask::StreamMask;
use super::settings::{KafkaSettings, Start};
use faults::{NO_TLS, in_the_way, passes, refusal};
use group::{ANSWER, Context, Ours, Place, Told, Topics};
use reading::Reading;

pub(super) use producer::Producer;

/// Messages of one batch.
const COUNT: usize = 4000;
/// How often lag is told.
const STATISTICS: &str = "5000";
/// How often topics that are new are looked for, in milliseconds.
const LOOK: &str = "10000";
/// How long librdkafka may take to tell why nobody answers.
const REASONS: Duration = Duration::from_millis(500);
/// How long a consumer that goes is waited for. Where nobody answers, librdkafka itself waits as long as a session may be silent.
const GO: Duration = Duration::from_secs(3);
/// In what time a member of a group has to show itself, in milliseconds: librdkafka's own limits.
const LIMITS: [(&str, u64); 2] = [("session.timeout.ms", 45_000), ("max.poll.interval.ms", 300_000)];
/// Who it is that comes again after a restart, so that the group need not share anew.
const INSTANCE: &str = "group.instance.id";

pub(super) struct Kafka {
    config: ClientConfig,
    topic: String,
    from: Start,
    told: Arc<Told>,
    consumer: Option<StreamConsumer<Context>>,
    ours: Ours,
    /// What is paused because the journal is full.
    paused: BTreeSet<Place>,
    /// The topics that were there when it was opened first.
    there: Option<Arc<Topics>>,
}

/// Connection settings of librdkafka.
fn client(settings: &KafkaSettings) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.brokers.join(",")).set("client.id", "masterchief");
    let sasl = settings.username.is_some();
    config.set(
        "security.protocol",
        match (settings.tls, sasl) {
            (true, true) => "SASL_SSL",
            (true, false) => "SSL",
            (false, true) => "SASL_PLAINTEXT",
            (false, false) => "PLAINTEXT",
        },
    );
    if let Some(username) = &settings.username {
        config.set("sasl.mechanism", settings.mechanism.as_deref().unwrap_or("PLAIN"));
        config.set("sasl.username", username);
        config.set("sasl.password", settings.password.as_ref().map_or("", |password| password.reveal()));
    }
    if settings.tls {
        // The system's authorities, wherever they are; OpenSSL itself looks only where it was built for.
        config.set("ssl.ca.location", "probe");
    }
    for (name, value) in &settings.options {
        config.set(name, value);
    }
    let said = |name| config.get(name).unwrap_or("").to_ascii_uppercase();
    let scram = ["sasl.mechanism", "sasl.mechanisms"].iter().any(|name| said(name).starts_with("SCRAM"));
    if cfg!(not(feature = "kafka-tls")) && (scram || said("security.protocol").ends_with("SSL")) {
        return Err(NO_TLS.to_owned());
    }
    Ok(config)
}

/// What the member that reads a topic, or a pattern of topics, is called after it. Each stream is a member of its own, and no two may
/// have one name: they would put each other out of the group for ever.
fn member(topic: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if topic.chars().all(is_plain) {
        return topic.to_owned();
    }
    // What brokers take no letter for could be the same of two patterns.
    let shown: String = topic.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    let hash: String = Sha256::digest(topic).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{shown}.{hash}")
}

/// Half the time after which a member that shows nothing is taken for dead.
fn patience(config: &ClientConfig) -> Duration {
    let limit = |(name, usual)| config.get(name).and_then(|said| said.parse().ok()).unwrap_or(usual);
    Duration::from_millis(LIMITS.map(limit).into_iter().min().unwrap_or_default() / 2)
}

fn not_open() -> SourceError {
    SourceError::Lost("it is not open".to_owned())
}

/// What the brokers said, or else what librdkafka calls it.
fn lost(told: &Told, fault: &KafkaError) -> SourceError {
    let why = told.refused().or_else(|| refusal(fault, ""));
    why.map_or_else(|| SourceError::Lost(fault.to_string()), SourceError::Wrong)
}

impl Kafka {
    pub(super) fn new(settings: &KafkaSettings, mask: &StreamMask, meter: &Arc<Meter>) -> Result<Kafka, String> {
        let StreamMask::Kafka { topic, .. } = mask else { return Err("this is no Kafka topic".to_owned()) };
        let mut config = client(settings)?;
        let from = if settings.from == Start::Start { "earliest" } else { "latest" };
        for (name, value) in [
            ("group.id", settings.group.as_str()),
            ("auto.offset.reset", from),
            ("statistics.interval.ms", STATISTICS),
            ("topic.metadata.refresh.interval.ms", LOOK),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        if let Some(instance) = config.get(INSTANCE) {
            let named = format!("{instance}-{}", member(topic));
            config.set(INSTANCE, named);
        }
        // These are the guarantee; nobody may configure them away.
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        Ok(Kafka {
            config,
            topic: topic.clone(),
            from: settings.from,
            told: Arc::new(Told::new(meter, false)),
            consumer: None,
            ours: Ours::default(),
            paused: BTreeSet::new(),
            there: None,
        })
    }

    /// Reads until there is nothing more at once, or the batch is full.
    async fn read(&mut self) -> Result<Batch, SourceError> {
        self.ours.confirm(&self.told);
        self.resume()?;
        let mut readings: Vec<Reading> = Vec::new();
        // Messages of a partition come many at once.
        let mut last = 0;
        let (mut count, mut bytes) = (0, 0);
        let consumer = self.consumer.as_ref().ok_or_else(not_open)?;
        // One for all of them: each is entered among those that librdkafka wakes.
        let mut messages = consumer.stream();
        loop {
            let received = if count == 0 {
                let until = self.ours.until();
                tokio::select! {
                    biased;
                    // It has no end.
                    received = messages.next() => received,
                    () = self.told.turned() => None,
                    () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => None,
                }
            } else {
                messages.next().now_or_never().flatten()
            };
            self.ours.turn(consumer, &self.told, &mut readings);
            let message = match received {
                None if count == 0 => continue,
                None => break,
                Some(Ok(message)) if self.ours.leaves(&message) => continue,
                Some(Ok(message)) => message,
                // What was read already is kept; the fault is met again with the next read.
                Some(Err(fault)) if count > 0 => {
                    tracing::debug!(%fault, "Kafka");
                    break;
                }
                Some(Err(fault)) if passes(&fault) => {
                    if let Some(why) = in_the_way(&fault, &self.topic) {
                        self.told.meter.trouble(why);
                    }
                    continue;
                }
                Some(Err(fault)) => return Err(lost(&self.told, &fault)),
            };
            if !readings.get(last).is_some_and(|reading| reading.is_of(&message)) {
                last = readings.iter().position(|reading| reading.is_of(&message)).unwrap_or_else(|| {
                    let place = (message.topic().to_owned(), message.partition());
                    let known = self.ours.known(&place);
                    readings.push(Reading::new(place, known));
                    readings.len() - 1
                });
            }
            count += 1;
            if let Some(reading) = readings.get_mut(last) {
                bytes += reading.take(&message);
            }
            if count >= COUNT || bytes >= BATCH_BYTES {
                break;
            }
        }
        self.told.meter.well();
        readings.sort_by(|one, other| one.place.cmp(&other.place));
        readings.iter_mut().for_each(Reading::end);
        self.ours.took(&readings);
        Ok(Batch { parts: readings.into_iter().map(Reading::part).collect(), ..Batch::default() })
    }

    /// Stops what is ours from coming. What is paused already stays so: to do it again would throw away what was fetched.
    fn pause(&mut self) -> Result<(), SourceError> {
        let consumer = self.consumer.as_ref().ok_or_else(not_open)?;
        let assigned = consumer.assignment().map_err(|fault| lost(&self.told, &fault))?;
        let places = assigned.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect();
        let mut new = TopicPartitionList::new();
        for (topic, partition) in BTreeSet::difference(&places, &self.paused) {
            new.add_partition(topic, *partition);
        }
        if new.count() > 0 {
            consumer.pause(&new).map_err(|fault| lost(&self.told, &fault))?;
        }
        self.paused = places;
        Ok(())
    }

    /// Lets it come again.
    fn resume(&mut self) -> Result<(), SourceError> {
        if self.paused.is_empty() {
            return Ok(());
        }
        let consumer = self.consumer.as_ref().ok_or_else(not_open)?;
        let assigned = consumer.assignment().map_err(|fault| lost(&self.told, &fault))?;
        consumer.resume(&assigned).map_err(|fault| lost(&self.told, &fault))?;
        self.paused.clear();
        Ok(())
    }

    fn let_go(&mut self) {
        self.paused.clear();
        if let Some(consumer) = self.consumer.take() {
            self.ours.go(&consumer, &self.told);
            self.told.meter.lag_unknown();
            part_from(consumer);
        }
    }
}

/// A consumer goes: its last commits are answered, its partitions given back, and the group is left; but not at any price.
fn part_from(consumer: StreamConsumer<Context>) {
    let (going, gone) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("kafka-goes".to_owned()).spawn(move || {
        drop(consumer);
        drop(going);
    });
    match thread {
        Ok(_) if gone.recv_timeout(GO) == Err(RecvTimeoutError::Timeout) => {
            tracing::warn!("Kafka does not answer somebody who goes; the group will miss them after a while");
        }
        Ok(_) => {}
        // The consumer has gone with the thread that never was.
        Err(fault) => tracing::warn!(%fault, "A consumer of Kafka could not go beside us"),
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Source for Kafka {
    fn blocking(&self) -> bool {
        true
    }

    fn reads_ahead(&self) -> bool {
        true
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.let_go();
            self.ours = Ours::new(positions, patience(&self.config));
            // A consumer that is going may still tell the one it was made with.
            self.told = Arc::new(Told::new(&self.told.meter, self.from == Start::Start));
            let wrong = |fault: KafkaError| SourceError::Wrong(fault.to_string());
            let consumer: StreamConsumer<Context> =
                self.config.create_with_context(Context(Arc::clone(&self.told))).map_err(wrong)?;
            // Whether anybody is there: a consumer of librdkafka would wait for ever without a word.
            let metadata = match consumer.fetch_metadata(None, ANSWER) {
                Ok(metadata) => metadata,
                Err(fault) => {
                    // Why they do not answer waits among what nobody has read yet: the lines of a log for each attempt.
                    let reasons = async {
                        while self.told.refused().is_none() {
                            drop(consumer.recv().await);
                            // There is always another one where they refuse us again and again.
                            tokio::task::yield_now().await;
                        }
                    };
                    // Often there is no reason: they are away.
                    let _ = tokio::time::timeout(REASONS, reasons).await;
                    return Err(lost(&self.told, &fault));
                }
            };
            let topics = metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len()));
            let there = self.there.get_or_insert_with(|| Arc::new(topics.collect()));
            self.told.there(there);
            self.told.meter.note(format!("{} brokers", metadata.brokers().len()));
            self.told.meter.well();
            consumer.subscribe(&[&self.topic]).map_err(wrong)?;
            self.consumer = Some(consumer);
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(self.read())
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let consumer = self.consumer.as_ref().ok_or_else(not_open)?;
            self.ours.settle(consumer).map_err(|fault| lost(&self.told, &fault))
        })
    }

    fn idle<'a>(&'a mut self, waiting: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            // Paused, but polled: a consumer that does not poll is taken for dead and loses its partitions.
            self.pause()?;
            let consumer = self.consumer.as_ref().ok_or_else(not_open)?;
            let received = consumer.recv().now_or_never();
            let message = matches!(received, Some(Ok(_)));
            drop(received);
            // Who is given the partitions reads what waits here: it need not wait for our journal.
            self.ours.withdraw(&self.told, waiting);
            self.ours.turn(consumer, &self.told, &mut Vec::new());
            // One came all the same: it is read again from where we are.
            if message { Err(SourceError::Lost("the journal is full".to_owned())) } else { Ok(()) }
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move { self.let_go() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: serde_json::Value) -> KafkaSettings {
        let mut settings = json!({"brokers": ["localhost:9092"], "username": "chief", "password": "p"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings_of(settings)
    }

    fn settings_of(settings: serde_json::Value) -> KafkaSettings {
        serde_json::from_value(settings).unwrap()
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_this_build_cannot_do_is_refused_with_the_feature_that_can() {
        let refused = |more: serde_json::Value| client(&settings(more)).err();
        assert_eq!(refused(json!({})), None, "PLAIN needs nothing");
        for more in [
            json!({"tls": true}),
            json!({"mechanism": "SCRAM-SHA-256"}),
            json!({"options": {"sasl.mechanisms": "SCRAM-SHA-512"}}),
            json!({"options": {"security.protocol": "sasl_ssl"}}),
        ] {
            assert_eq!(refused(more.clone()).as_deref(), Some(NO_TLS), "{more}");
        }
        let feature = NO_TLS.rsplit(' ').next().unwrap();
        let root = include_str!("../../../../Cargo.toml");
        assert!(root.contains(&format!("\n{feature} = [")), "there is such a feature");
    }

    #[tokio::test]
    async fn while_the_journal_is_full_nothing_is_fetched_again_and_afterwards_all_comes() {
        use rdkafka::producer::{FutureProducer, FutureRecord};
        // More than a batch has.
        const COUNT: usize = 4500;
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("shop", 1, 1).unwrap();
        let settings = settings_of(json!({
            "brokers": [cluster.bootstrap_servers()], "group": "chief", "from": "start",
            "options": {"statistics.interval.ms": "50", "fetch.message.max.bytes": "100000"},
        }));
        let producer: FutureProducer = client(&settings).unwrap().create().unwrap();
        // The cluster keeps 5 MiB of a partition.
        let text = "x".repeat(900);
        let sent = (0..COUNT).map(|_| producer.send(FutureRecord::<str, str>::to("shop").payload(&text), ANSWER));
        assert!(futures_util::future::join_all(sent).await.iter().all(Result::is_ok));
        let mask = StreamMask::parse("kafka:shop").unwrap();
        let mut kafka = Kafka::new(&settings, &mask, &Arc::default()).unwrap();
        kafka.open(&Positions::new()).await.unwrap();
        let mut batch = kafka.next().await.unwrap();
        let mut heard = batch.count();
        assert!(heard < COUNT, "there is more to fetch");
        for _ in 0..9 {
            kafka.idle(&mut batch).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // What was fetched ahead may all be here, but none of it twice.
        let fetched = kafka.told.fetched();
        assert!(fetched <= COUNT as i64, "{fetched} messages were fetched, and there are {COUNT}");
        while heard < COUNT {
            heard += tokio::time::timeout(Duration::from_secs(30), kafka.next()).await.unwrap().unwrap().count();
        }
        assert_eq!(heard, COUNT);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_goes_does_not_wait_for_brokers_that_are_away() {
        use rdkafka::producer::{FutureProducer, FutureRecord};
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("shop", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let settings = settings_of(json!({"brokers": [brokers], "group": "chief", "from": "start"}));
        let producer: FutureProducer = client(&settings).unwrap().create().unwrap();
        producer.send(FutureRecord::<str, str>::to("shop").payload("one"), ANSWER).await.unwrap();
        let mask = StreamMask::parse("kafka:shop").unwrap();
        let mut kafka = Kafka::new(&settings, &mask, &Arc::default()).unwrap();
        kafka.open(&Positions::new()).await.unwrap();
        assert_eq!(kafka.next().await.unwrap().count(), 1);
        cluster.broker_down(1).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        kafka.settle(0, &[Fate::Stored(1)]).await.unwrap();
        let began = Instant::now();
        kafka.close().await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "a session has 45 s: {took:?}");
        cluster.broker_up(1).unwrap();
    }

    #[test]
    fn each_stream_of_a_bot_is_a_member_of_its_own_and_waits_half_as_long_as_members_may() {
        let options = json!({"options": {"group.instance.id": "one", "max.poll.interval.ms": "9000"}});
        let kafka = |mask| {
            let mask = StreamMask::parse(mask).unwrap();
            Kafka::new(&settings(options.clone()), &mask, &Arc::default()).unwrap()
        };
        assert_eq!(kafka("kafka:shop").config.get(INSTANCE), Some("one-shop"));
        let named = kafka("kafka:~^shop\\..*").config.get(INSTANCE).unwrap().to_owned();
        assert!(named.starts_with("one-_shop_.._."), "{named}");
        let names = ["kafka:~^a+", "kafka:~^a*", "kafka:~^a?", "kafka:_a_"].map(|mask| {
            let named = kafka(mask).config.get(INSTANCE).unwrap().to_owned();
            assert!(named.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter)), "{named}");
            named
        });
        let once: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "two streams of one bot would put each other out: {names:?}");
        assert_eq!(kafka("kafka:~^a+").config.get(INSTANCE), Some(names[0].as_str()), "the same after a restart");
        assert_eq!(patience(&kafka("kafka:shop").config), Duration::from_millis(4500));
        assert_eq!(patience(&ClientConfig::new()), Duration::from_millis(22_500));
    }
}
