//! Publishing to Kafka: ready once the brokers have acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client;
use super::faults::refusal;
use crate::stream::publish::Message;
use crate::stream::settings::KafkaSettings;

/// How long a message may wait for a place among those that are on their way, and then for its acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who publishes. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(in crate::stream) struct Producer {
    producer: FutureProducer<Context>,
    refused: Refused,
}

/// Why the brokers will not have us, if they said so and have taken nothing since.
type Refused = Arc<Mutex<Option<String>>>;

/// What librdkafka calls.
struct Context(Refused);

impl ClientContext for Context {
    fn error(&self, fault: KafkaError, reason: &str) {
        tracing::warn!(%fault, reason, "Kafka, publishing");
        if let Some(why) = refusal(&fault, reason) {
            put(&self.0, Some(why));
        }
    }
}

fn put(refused: &Refused, why: Option<String>) {
    *refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
}

impl Producer {
    pub(in crate::stream) fn new(settings: &KafkaSettings) -> Result<Producer, String> {
        let mut config = client(settings)?;
        config.set("enable.idempotence", "true").set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let refused = Refused::default();
        let made = config.create_with_context(Context(Arc::clone(&refused)));
        made.map(|producer| Producer { producer, refused }).map_err(|fault| fault.to_string())
    }

    /// The partition and the offset that it has there. Whoever is refused is asked again until the time is over, since brokers that have
    /// just begun may not know their users yet; then the refusal is what is told, not that nobody answered.
    pub(in crate::stream) async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        message: &Message,
    ) -> Result<String, String> {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut record = FutureRecord::<str, [u8]>::to(topic).payload(&message.payload).headers(headers);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        match self.producer.send(record, PATIENCE).await {
            Ok(delivery) => {
                put(&self.refused, None);
                Ok(format!("{}/{}", delivery.partition, delivery.offset))
            }
            Err((fault, _)) => {
                let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(refused.or_else(|| refusal(&fault, "")).unwrap_or_else(|| fault.to_string()))
            }
        }
    }
}
