//! Kafka, through librdkafka. What is committed is in the journal; what is in the journal and not yet committed when the
//! process dies is known by its offset when it comes again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Fields, Inbound, Meter, Part, Positions, Source, SourceError, Value,
};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::mask::StreamMask;
use super::settings::{KafkaSettings, Start};
use super::words;

/// Messages of one batch.
const COUNT: usize = 4000;
/// How long the brokers may take to answer at first.
const ANSWER: Duration = Duration::from_secs(10);
/// How often lag is told.
const STATISTICS: &str = "5000";

/// How the trouble begins that is over when a broker answers.
const AWAY: &str = "no broker answers";

/// What is said where librdkafka was built without OpenSSL.
const NO_TLS: &str = "this masterchief has neither TLS nor SCRAM for Kafka: build it with --features kafka-tls";

/// A topic and a partition.
type Place = (String, i32);

/// What the consumer's own thread tells us.
#[derive(Default)]
struct Told {
    /// Partitions that were taken away since the last look.
    revoked: Mutex<BTreeSet<Place>>,
    /// What is in the journal and not known to be committed: the next offset.
    settled: Mutex<BTreeMap<Place, i64>>,
    /// What the brokers have confirmed since the last look.
    committed: Mutex<BTreeMap<Place, i64>>,
    meter: Arc<Meter>,
}

impl Told {
    fn settled(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, i64>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, i64>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked(&self) -> std::sync::MutexGuard<'_, BTreeSet<Place>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Context(Arc<Told>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions.map(|partition| partition.consumer_lag.max(0)).sum();
        self.0.meter.lag(lag.unsigned_abs(), "messages");
        let up = statistics.brokers.values().any(|broker| broker.state == "UP");
        if up && self.0.meter.troubled().is_some_and(|why| why.starts_with(AWAY)) {
            self.0.meter.well();
        }
    }

    fn error(&self, fault: KafkaError, reason: &str) {
        tracing::warn!(%fault, reason, "Kafka");
        self.0.meter.note(reason);
    }
}

impl ConsumerContext for Context {
    /// Only what the brokers have confirmed tells a group that was set back from a process that died.
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_err() {
            return;
        }
        let mut committed = self.0.committed();
        for place in offsets.elements() {
            if let (Ok(()), Offset::Offset(next)) = (place.error(), place.offset()) {
                committed.insert((place.topic().to_owned(), place.partition()), next);
            }
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance
            && list.count() > 0
        {
            self.0.meter.well();
        }
    }

    /// Drained first: what was settled is committed while the partitions are still ours. Fenced second: what of them is
    /// still in hand is let go of.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let places: Vec<Place> =
            list.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect();
        let mut commit = TopicPartitionList::new();
        {
            let mut settled = self.0.settled();
            for place in &places {
                if let Some(next) = settled.remove(place) {
                    // The list takes any offset that is a number.
                    let _ = commit.add_partition_offset(&place.0, place.1, Offset::Offset(next));
                }
            }
        }
        if commit.count() > 0
            && let Err(fault) = consumer.commit(&commit, CommitMode::Sync)
        {
            tracing::warn!(%fault, "Offsets could not be committed before partitions were given away; some messages come twice");
        }
        self.0.revoked().extend(places);
    }
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The next offset that is not in the journal.
    next: i64,
    /// What was committed when that was written.
    committed: i64,
    /// Whether something of it was read since it was assigned.
    read: bool,
}

pub(super) struct Kafka {
    config: ClientConfig,
    topic: String,
    told: Arc<Told>,
    consumer: Option<StreamConsumer<Context>>,
    known: HashMap<Place, Known>,
    /// The next offsets of the batches that are not settled, oldest first.
    unsettled: VecDeque<Vec<(Place, i64)>>,
}

/// Connection settings of librdkafka.
pub(super) fn client(settings: &KafkaSettings) -> Result<ClientConfig, String> {
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

impl Kafka {
    pub(super) fn new(settings: &KafkaSettings, mask: &StreamMask, meter: &Arc<Meter>) -> Result<Kafka, String> {
        let StreamMask::Kafka { topic, .. } = mask else { return Err("this is no Kafka topic".to_owned()) };
        let mut config = client(settings)?;
        let from = if settings.from == Start::Start { "earliest" } else { "latest" };
        for (name, value) in [
            ("group.id", settings.group.as_str()),
            ("auto.offset.reset", from),
            ("statistics.interval.ms", STATISTICS),
            ("topic.metadata.refresh.interval.ms", "10000"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        // These are the guarantee; nobody may configure them away.
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        let told = Arc::new(Told { meter: Arc::clone(meter), ..Told::default() });
        Ok(Kafka {
            config,
            topic: topic.clone(),
            told,
            consumer: None,
            known: HashMap::new(),
            unsettled: VecDeque::new(),
        })
    }

    fn consumer(&self) -> Result<&StreamConsumer<Context>, SourceError> {
        self.consumer.as_ref().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))
    }

    /// Reads until there is nothing more at once, or the batch is full.
    async fn read(&mut self) -> Result<Batch, SourceError> {
        for (place, offset) in std::mem::take(&mut *self.told.committed()) {
            if let Some(known) = self.known.get_mut(&place) {
                known.committed = known.committed.max(offset);
            }
        }
        let mut readings: Vec<Reading> = Vec::new();
        // Messages of a partition come many at once.
        let mut last = 0;
        let (mut count, mut bytes) = (0, 0);
        let consumer = self.consumer.as_ref().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
        loop {
            let received = if count == 0 { Some(consumer.recv().await) } else { consumer.recv().now_or_never() };
            for place in std::mem::take(&mut *self.told.revoked()) {
                // What is being written of it is not ours to commit any more.
                for batch in &mut self.unsettled {
                    batch.retain(|(of, _)| *of != place);
                }
                // Not ours any more, or ours again from what is committed: what is in hand of it comes again. What was
                // received just now came after that.
                if let Some(known) = self.known.get_mut(&place) {
                    // What is in the journal stays known; where the group is, the first message tells.
                    known.read = false;
                }
                readings.retain(|reading| reading.place != place);
            }
            let message = match received {
                None => break,
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
                Some(Err(fault)) => return Err(SourceError::Lost(fault.to_string())),
            };
            if !readings.get(last).is_some_and(|reading| reading.is_of(&message)) {
                last = readings.iter().position(|reading| reading.is_of(&message)).unwrap_or_else(|| {
                    let place = (message.topic().to_owned(), message.partition());
                    let known = self.known.get(&place).copied().unwrap_or_default();
                    readings.push(Reading { place, known, next: 0, events: Vec::new() });
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
        Ok(self.batch(readings))
    }

    /// What was read, partition by partition, and from now on known.
    fn batch(&mut self, mut readings: Vec<Reading>) -> Batch {
        let mut batch = Batch::default();
        let mut unsettled = Vec::with_capacity(readings.len());
        readings.sort_by(|one, other| one.place.cmp(&other.place));
        for Reading { place, mut known, next, events } in readings {
            // What came again moves nothing back.
            known.next = known.next.max(next);
            let position = format!("{}:{}", known.next, known.committed);
            self.known.insert(place.clone(), known);
            let lane = Arc::from(format!("{}/{}", place.0, place.1));
            batch.parts.push(Part { lane, shared: Some(shared(&place)), events, position: Some(position) });
            unsettled.push((place, next));
        }
        self.unsettled.push_back(unsettled);
        batch
    }
}

/// What was read of a partition.
struct Reading {
    place: Place,
    known: Known,
    /// The next offset.
    next: i64,
    events: Vec<Inbound>,
}

impl Reading {
    fn is_of(&self, message: &BorrowedMessage<'_>) -> bool {
        self.place.1 == message.partition() && self.place.0 == message.topic()
    }

    /// How many bytes it brought.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let offset = message.offset();
        let again = offset < self.known.next && offset >= self.known.committed;
        if !self.known.read && offset < self.known.committed {
            // Somebody set the group back: what comes again is wanted again.
            self.known.next = offset;
        }
        self.known.read = true;
        self.next = offset + 1;
        if again {
            return 0;
        }
        let event = inbound(message);
        let bytes = event.size();
        self.events.push(event);
        bytes
    }
}

/// Faults that librdkafka gets over by itself.
fn passes(fault: &KafkaError) -> bool {
    let code = match fault {
        KafkaError::MessageConsumption(code) => code,
        KafkaError::PartitionEOF(_) => return true,
        _ => return false,
    };
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
    )
}

/// Why nothing can come while such a fault lasts; nothing for what is over in a moment.
fn in_the_way(fault: &KafkaError, topic: &str) -> Option<String> {
    match fault {
        KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown) => Some(format!("{AWAY}: {fault}")),
        KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Some(format!("there is no topic {topic}; it is read once somebody makes it"))
        }
        _ => None,
    }
}

fn shared(place: &Place) -> Arc<Fields> {
    Arc::new(vec![
        ("broker", Value::from("kafka")),
        ("topic", Value::from(place.0.as_str())),
        ("partition", Value::from(place.1)),
    ])
}

fn inbound(message: &BorrowedMessage<'_>) -> Inbound {
    let mut fields = Fields::with_capacity(2);
    fields.push(("offset", Value::from(message.offset())));
    if let Some(key) = message.key() {
        fields.push(("key", Value::from(String::from_utf8_lossy(key))));
    }
    if let Some(headers) = message.headers() {
        let headers = headers.iter().map(|header| {
            let value = header.value.map_or(Value::Null, |value| Value::from(String::from_utf8_lossy(value)));
            (header.key.to_owned(), value)
        });
        fields.push(("headers", Value::Object(headers.collect())));
    }
    if message.payload().is_none() {
        fields.push(("tombstone", Value::Bool(true)));
    }
    let at = message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis).unwrap_or_else(Utc::now);
    let (text, body) = words(message.payload().unwrap_or_default().to_vec());
    Inbound { key: None, at, text, fields, body }
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
            self.unsettled.clear();
            // A consumer that is going may still tell the one it was made with.
            self.told = Arc::new(Told { meter: Arc::clone(&self.told.meter), ..Told::default() });
            self.known = positions
                .iter()
                .filter_map(|(lane, text)| {
                    let (topic, partition) = lane.rsplit_once('/')?;
                    let (next, committed) = text.split_once(':')?;
                    let known = Known { next: next.parse().ok()?, committed: committed.parse().ok()?, read: false };
                    Some(((topic.to_owned(), partition.parse().ok()?), known))
                })
                .collect();
            let wrong = |fault: KafkaError| SourceError::Wrong(fault.to_string());
            let consumer: StreamConsumer<Context> =
                self.config.create_with_context(Context(Arc::clone(&self.told))).map_err(wrong)?;
            // Whether anybody is there: a consumer of librdkafka would wait for ever without a word.
            let metadata =
                consumer.fetch_metadata(None, ANSWER).map_err(|fault| SourceError::Lost(fault.to_string()))?;
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
            let mut commit = TopicPartitionList::new();
            let gone = self.told.revoked().clone();
            for (place, next) in self.unsettled.pop_front().unwrap_or_default() {
                if gone.contains(&place) {
                    continue;
                }
                // The list takes any offset that is a number.
                let _ = commit.add_partition_offset(&place.0, place.1, Offset::Offset(next));
                self.told.settled().insert(place, next);
            }
            if commit.count() == 0 {
                return Ok(());
            }
            // In order and without waiting: librdkafka sends commits one after the other, and a lost one is made good by
            // the next, by the one before a rebalance, or by what is known of offsets.
            match self.consumer()?.commit(&commit, CommitMode::Async) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
                Err(fault) => Err(SourceError::Lost(fault.to_string())),
            }
        })
    }

    fn idle(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async move {
            // Paused, but polled: a consumer that does not poll is taken for dead and loses its partitions.
            let consumer = self.consumer()?;
            let lost = |fault: KafkaError| SourceError::Lost(fault.to_string());
            let assigned = consumer.assignment().map_err(lost)?;
            consumer.pause(&assigned).map_err(lost)?;
            let received = consumer.recv().now_or_never();
            let message = matches!(received, Some(Ok(_)));
            drop(received);
            consumer.resume(&assigned).map_err(lost)?;
            // One came all the same: it is read again from where we are.
            if message { Err(SourceError::Lost("the journal is full".to_owned())) } else { Ok(()) }
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move {
            self.unsettled.clear();
            let Some(consumer) = self.consumer.take() else { return };
            let settled = std::mem::take(&mut *self.told.settled());
            let mut commit = TopicPartitionList::new();
            for ((topic, partition), next) in settled {
                // The list takes any offset that is a number.
                let _ = commit.add_partition_offset(&topic, partition, Offset::Offset(next));
            }
            if commit.count() > 0
                && let Err(fault) = consumer.commit(&commit, CommitMode::Sync)
            {
                tracing::debug!(%fault, "Offsets could not be committed at the end; what is known of them does");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_topic_that_is_not_there_and_brokers_that_are_away_are_trouble_and_a_slow_answer_is_none() {
        let why = |code| in_the_way(&KafkaError::MessageConsumption(code), "deploys");
        assert!(why(RDKafkaErrorCode::UnknownTopicOrPartition).unwrap().contains("there is no topic deploys"));
        assert!(why(RDKafkaErrorCode::AllBrokersDown).unwrap().starts_with(AWAY));
        assert_eq!(why(RDKafkaErrorCode::OperationTimedOut), None);
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_this_build_cannot_do_is_refused_with_the_feature_that_can() {
        let refused = |more: serde_json::Value| {
            let mut settings = json!({"brokers": ["localhost:9092"], "username": "chief", "password": "p"});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            client(&serde_json::from_value(settings).unwrap()).err()
        };
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
        let root = include_str!("../../../Cargo.toml");
        assert!(root.contains(&format!("\n{feature} = [")), "there is such a feature");
    }
}
