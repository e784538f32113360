//! Publishing: ready once the broker has acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

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
    /// Kafka's key, by which it chooses the partition. The others have none.
    pub key: Option<String>,
    /// RabbitMQ's message id: whoever reads takes a second message of the same id for the first, come again. The others
    /// have none.
    pub id: Option<String>,
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
    open: Arc<Slots>,
}

/// A place for each connection, by its name.
type Slots = StdMutex<BTreeMap<String, Arc<Mutex<Option<Open>>>>>;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a message may take to be acknowledged; Kafka's own limit is a little shorter.
const ANSWER: Duration = Duration::from_secs(35);

/// One connection.
#[derive(Clone)]
enum Open {
    #[cfg(feature = "kafka")]
    Kafka(super::kafka::Producer),
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
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Option<Open>>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: Message) -> Result<String, PublishFault> {
        let mask =
            StreamMask::parse(&message.to).map_err(|fault| PublishFault(format!("{:?}: {fault}", message.to)))?;
        let (broker, conn) = match &mask {
            StreamMask::RedisChannel { gap: true, .. } => {
                return Err(PublishFault(format!("{:?}: nothing is published to a gap", message.to)));
            }
            StreamMask::Kafka { regex: true, .. } => {
                return Err(PublishFault("a pattern is no place to publish to".to_owned()));
            }
            StreamMask::Kafka { conn, .. } => ("kafka", conn),
            StreamMask::Rabbit { conn, .. } => ("rabbitmq", conn),
            StreamMask::RedisStream { conn, .. } | StreamMask::RedisChannel { conn, .. } => ("redis", conn),
        };
        let name = format!("{broker}@{conn}");
        let slot = Arc::clone(self.slots().entry(name.clone()).or_default());
        let open = {
            // Held while it is made, so that one connection is made and not many. Others have locks of their own.
            let mut slot = slot.lock().await;
            match &*slot {
                Some(open) => open.clone(),
                None => {
                    let made = tokio::time::timeout(CONNECT, self.connect(broker, conn)).await;
                    let late = |_| format!("{name} does not answer within {} s", CONNECT.as_secs());
                    let open = made.map_err(late).and_then(|made| made).map_err(PublishFault)?;
                    slot.insert(open).clone()
                }
            }
        };
        let late = |_| Err(format!("{name} did not acknowledge it within {} s", ANSWER.as_secs()));
        let sent = tokio::time::timeout(ANSWER, send(open, &mask, message)).await.unwrap_or_else(late);
        if sent.is_err() {
            // A connection that failed is made anew next time.
            *slot.lock().await = None;
        }
        sent.map_err(PublishFault)
    }

    async fn connect(&self, broker: &str, conn: &str) -> Result<Open, String> {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        match broker {
            #[cfg(feature = "kafka")]
            "kafka" => super::kafka::Producer::new(named(&settings.kafka, broker, conn)?).map(Open::Kafka),
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
        (Open::Kafka(producer), StreamMask::Kafka { topic, partition, .. }) => {
            producer.send(topic, *partition, &message).await
        }
        #[cfg(feature = "rabbitmq")]
        (Open::Rabbit(open), StreamMask::Rabbit { queue, .. }) => {
            let mut properties = lapin::BasicProperties::default().with_delivery_mode(2);
            if let Some(id) = &message.id {
                properties = properties.with_message_id(super::rabbitmq::short(id)?);
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

#[cfg(all(test, feature = "rabbitmq", feature = "redis"))]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_broker_that_takes_connections_and_says_nothing_keeps_nobody_else_from_publishing() {
        // It listens, and never answers.
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = json!({
            "rabbitmq": {"dead": {"url": format!("amqp://a:b@{}/%2f", dead.local_addr().unwrap())}},
        });
        let publishers = Publishers::new(Arc::new(serde_json::from_value(settings).unwrap()));
        let message = |to: &str| Message { to: to.to_owned(), ..Message::default() };
        let waiting = tokio::spawn(publishers.publish(message("rabbitmq@dead:queue")));
        tokio::time::sleep(Duration::from_millis(50)).await;
        // It fails for a reason of its own; it did not wait for the other.
        let began = std::time::Instant::now();
        let other = tokio::time::timeout(CONNECT, publishers.publish(message("redis@none:news"))).await;
        assert!(other.unwrap().unwrap_err().0.contains("there is no connection none"));
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(!waiting.is_finished());
        let fault = waiting.await.unwrap().unwrap_err();
        assert!(fault.0.contains("does not answer within 10 s"), "{fault}");
    }
}
