//! Publishing: ready once the broker has acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use masterchief_contract::Future;
use tokio::sync::Mutex;

use super::mask::StreamMask;
use super::named;
use crate::Settings;

/// A message to a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to, as in a mask: `kafka:audit`, `rabbitmq:queue`, `redis-stream:key`, `redis:channel`.
    pub to: String,
    /// The message.
    pub payload: Vec<u8>,
    /// Kafka's key, by which it chooses the partition; RabbitMQ's message id.
    pub key: Option<String>,
    /// Headers (Kafka, RabbitMQ).
    pub headers: BTreeMap<String, String>,
}

/// Why a message was not published, with what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PublishFault(pub String);

/// Somebody who publishes.
pub trait Publish: Send + Sync + 'static {
    /// Publishes a message; ready once the broker has acknowledged it. Gives the broker's own name for it: an offset, an
    /// entry's id, how many heard it.
    fn publish(&self, message: Message) -> Future<Result<String, PublishFault>>;
}

/// The connections to publish over, made when they are needed. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Publishers {
    settings: Arc<RwLock<Arc<Settings>>>,
    open: Arc<Mutex<BTreeMap<String, Open>>>,
}

/// One connection.
#[derive(Clone)]
enum Open {
    #[cfg(feature = "kafka")]
    Kafka(rdkafka::producer::FutureProducer),
    #[cfg(feature = "rabbitmq")]
    Rabbit(Arc<(lapin::Connection, lapin::Channel)>),
    #[cfg(feature = "redis")]
    Redis(redis::aio::ConnectionManager),
}

impl Publishers {
    /// Over the connections of a configuration.
    pub fn new(settings: Arc<Settings>) -> Publishers {
        Publishers { settings: Arc::new(RwLock::new(settings)), open: Arc::default() }
    }

    /// Takes another configuration; connections are made anew when they are needed.
    pub async fn configure(&self, settings: Arc<Settings>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.open.lock().await.clear();
    }

    async fn send(&self, message: Message) -> Result<String, PublishFault> {
        let mask =
            StreamMask::parse(&message.to).map_err(|fault| PublishFault(format!("{:?}: {fault}", message.to)))?;
        let (broker, conn) = match &mask {
            StreamMask::Kafka { regex: true, .. } => {
                return Err(PublishFault("a pattern is no place to publish to".to_owned()));
            }
            StreamMask::Kafka { conn, .. } => ("kafka", conn),
            StreamMask::Rabbit { conn, .. } => ("rabbitmq", conn),
            StreamMask::RedisStream { conn, .. } | StreamMask::RedisChannel { conn, .. } => ("redis", conn),
        };
        let name = format!("{broker}@{conn}");
        // Held while it is made, so that one connection is made and not many.
        let open = {
            let mut all = self.open.lock().await;
            match all.get(&name) {
                Some(open) => open.clone(),
                None => {
                    let open = self.connect(broker, conn).await.map_err(PublishFault)?;
                    all.insert(name.clone(), open.clone());
                    open
                }
            }
        };
        let sent = send(open, &mask, message).await;
        if sent.is_err() {
            // A connection that failed is made anew next time.
            self.open.lock().await.remove(&name);
        }
        sent.map_err(PublishFault)
    }

    async fn connect(&self, broker: &str, conn: &str) -> Result<Open, String> {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        match broker {
            #[cfg(feature = "kafka")]
            "kafka" => {
                let mut config = super::kafka::client(named(&settings.kafka, broker, conn)?)?;
                config.set("enable.idempotence", "true").set("message.timeout.ms", "30000");
                config.create().map(Open::Kafka).map_err(|fault| fault.to_string())
            }
            #[cfg(feature = "rabbitmq")]
            "rabbitmq" => {
                let rabbit = named(&settings.rabbitmq, broker, conn)?;
                if rabbit.url.reveal().parse::<lapin::uri::AMQPUri>().is_err() {
                    return Err("the url is not of the form amqp://user:password@host:5672/vhost".to_owned());
                }
                let open = async {
                    let connection = super::rabbitmq::connect(rabbit, "masterchief publishes").await?;
                    let channel = connection.create_channel().await?;
                    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await?;
                    Ok::<_, lapin::Error>((connection, channel))
                };
                open.await.map(|open| Open::Rabbit(Arc::new(open))).map_err(|fault| fault.to_string())
            }
            #[cfg(feature = "redis")]
            "redis" => super::redis::manager(named(&settings.redis, broker, conn)?).await.map(Open::Redis),
            _ => Err(format!("this masterchief was built without {broker}")),
        }
    }
}

async fn send(open: Open, mask: &StreamMask, message: Message) -> Result<String, String> {
    match (open, mask) {
        #[cfg(feature = "kafka")]
        (Open::Kafka(producer), StreamMask::Kafka { topic, .. }) => {
            use rdkafka::message::{Header, OwnedHeaders};
            let headers = message
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            let mut record =
                rdkafka::producer::FutureRecord::<str, [u8]>::to(topic).payload(&message.payload).headers(headers);
            if let Some(key) = &message.key {
                record = record.key(key);
            }
            let sent = producer.send(record, std::time::Duration::from_secs(30)).await;
            sent.map(|delivery| format!("{}/{}", delivery.partition, delivery.offset))
                .map_err(|(fault, _)| fault.to_string())
        }
        #[cfg(feature = "rabbitmq")]
        (Open::Rabbit(open), StreamMask::Rabbit { queue, .. }) => {
            let mut properties = lapin::BasicProperties::default().with_delivery_mode(2);
            if let Some(key) = &message.key {
                properties = properties.with_message_id(super::rabbitmq::short(key)?);
            }
            let mut headers = lapin::types::FieldTable::default();
            for (name, value) in &message.headers {
                headers
                    .insert(super::rabbitmq::short(name)?, lapin::types::AMQPValue::LongString(value.as_str().into()));
            }
            let options = lapin::options::BasicPublishOptions { mandatory: true, ..Default::default() };
            let queue_name = super::rabbitmq::short(queue)?;
            let sent = async {
                let properties = properties.with_headers(headers);
                open.1.basic_publish("".into(), queue_name, options, &message.payload, properties).await?.await
            };
            match sent.await.map_err(|fault| fault.to_string())? {
                lapin::Confirmation::Ack(None) => Ok(queue.clone()),
                lapin::Confirmation::Ack(Some(_)) => Err(format!("there is no queue {queue}")),
                _ => Err("the broker did not take it".to_owned()),
            }
        }
        #[cfg(feature = "redis")]
        (Open::Redis(mut connection), StreamMask::RedisStream { key, .. }) => {
            super::redis::publish(&mut connection, true, key, &message.payload).await.map_err(|fault| fault.to_string())
        }
        #[cfg(feature = "redis")]
        (Open::Redis(mut connection), StreamMask::RedisChannel { channel, .. }) => {
            super::redis::publish(&mut connection, false, channel, &message.payload)
                .await
                .map_err(|fault| fault.to_string())
        }
        #[allow(unreachable_patterns, reason = "a connection is made for its own kind of mask")]
        _ => Err("there is no such connection".to_owned()),
    }
}

impl Publish for Publishers {
    fn publish(&self, message: Message) -> Future<Result<String, PublishFault>> {
        let publishers = self.clone();
        Box::pin(async move { publishers.send(message).await })
    }
}
