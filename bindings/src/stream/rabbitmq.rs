//! RabbitMQ, through lapin. A message is acknowledged once it is in the journal; delivery tags die with their channel. What
//! a handler refuses is the journal's dead letter, for the queue is done with it by then. Only what the journal cannot
//! take in whole goes back, and to the queue's own dead-letter exchange.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Fields, Inbound, Meter, Part, Positions, Source, SourceError, Value,
};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::settings::RabbitSettings;
use super::{MEASURE, words};
use crate::faults;

/// What AMQP calls its refusals.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

pub(super) struct Rabbit {
    settings: RabbitSettings,
    queue: String,
    meter: Arc<Meter>,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// Tells how much waits, as long as this is open.
    _measures: JoinSet<()>,
}

impl Rabbit {
    pub(super) fn new(settings: &RabbitSettings, queue: &str, meter: &Arc<Meter>) -> Result<Rabbit, String> {
        short(queue)?;
        if settings.url.reveal().parse::<lapin::uri::AMQPUri>().is_err() {
            // The parser's own words hold the address, and the address a password.
            return Err("the url is not of the form amqp://user:password@host:5672/vhost".to_owned());
        }
        for name in settings.arguments.keys() {
            short(name)?;
        }
        Ok(Rabbit { settings: settings.clone(), queue: queue.to_owned(), meter: Arc::clone(meter), open: None })
    }

    async fn connect(&self) -> Result<Open, lapin::Error> {
        let connection = connect(&self.settings, "masterchief reads").await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.settings.prefetch, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        let mut options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        if self.settings.declare {
            options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            for (name, value) in &self.settings.arguments {
                let number = value.parse().ok().map(AMQPValue::LongLongInt);
                let value = number.unwrap_or_else(|| AMQPValue::LongString(value.as_str().into()));
                arguments.insert(name.as_str().into(), value);
            }
        }
        channel.queue_declare(self.queue.as_str().into(), options, arguments).await?;
        let mut measures = JoinSet::new();
        // On a channel of its own, which dies alone if the queue is gone.
        let asking = connection.create_channel().await?;
        measures.spawn(measure(asking, self.queue.clone(), Arc::clone(&self.meter)));
        let consumer = channel
            .basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        Ok(Open { connection, channel, consumer, _measures: measures })
    }
}

/// Tells again and again what waits in a queue: also while nobody reads, because the journal is full.
async fn measure(channel: Channel, queue: String, meter: Arc<Meter>) {
    let mut every = tokio::time::interval(MEASURE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await {
            Ok(queue) => meter.lag(u64::from(queue.message_count()), "messages"),
            Err(fault) => {
                // Whoever reads meets it as well, and is opened again.
                tracing::debug!(%fault, "How much waits in RabbitMQ cannot be told");
                return meter.lag_unknown();
            }
        }
    }
}

pub(super) async fn connect(settings: &RabbitSettings, name: &str) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect(settings.url.reveal(), properties).await
}

/// A short text of AMQP: at most 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, String> {
    if text.len() > 255 {
        return Err(format!("AMQP takes 255 bytes here at most, and this has {}", text.len()));
    }
    Ok(text.into())
}

/// What went wrong, without the address: it may hold a password.
fn lost(fault: &lapin::Error) -> SourceError {
    faults::lost(fault)
}

/// What brokers say of refusals that pass: another reads alone, there are too many connections, a node or a process of theirs is down.
const PASSING: [&str; 4] = ["in exclusive use", "is reached", "is down", "process is stopped"];

/// Why a queue cannot be read, and what to do about it.
fn refusal(fault: &lapin::Error, queue: &str) -> SourceError {
    let lapin::ErrorKind::ProtocolError(said) = fault.kind() else { return lost(fault) };
    if PASSING.iter().any(|words| said.get_message().as_str().contains(words)) {
        return lost(fault);
    }
    let next = match said.get_id() {
        NOT_FOUND => format!(
            "there is no queue {queue}; make it, or write declare: true at the connection under sources.rabbitmq; it is \
             read once it is there"
        ),
        PRECONDITION_FAILED => format!(
            "the queue {queue} was made with other arguments than those under sources.rabbitmq; put them right, or write \
             declare: false and take it as it is"
        ),
        ACCESS_REFUSED => format!(
            "the server refuses the user or the password, or the user may not read {queue}; put the url under \
             sources.rabbitmq right, or allow it"
        ),
        NOT_ALLOWED => "the server has no such vhost, or the user may not use it; put the url under sources.rabbitmq \
                        right, or allow it"
            .to_owned(),
        _ => return lost(fault),
    };
    SourceError::Wrong(format!("{next} ({})", said.get_message()))
}

fn inbound(delivery: Delivery) -> Inbound {
    let properties = &delivery.properties;
    let mut fields: Fields = vec![("routing_key", Value::from(delivery.routing_key.as_str()))];
    if !delivery.exchange.as_str().is_empty() {
        fields.push(("exchange", Value::from(delivery.exchange.as_str())));
    }
    if delivery.redelivered {
        fields.push(("redelivered", Value::Bool(true)));
    }
    if let Some(headers) = properties.headers() {
        let headers = headers.inner().iter().map(|(name, value)| (name.to_string(), value_of(value)));
        fields.push(("headers", Value::Object(headers.collect())));
    }
    let id = properties.message_id().as_ref().map(ToString::to_string).filter(|id| !id.is_empty());
    if let Some(id) = &id {
        fields.push(("id", Value::from(id.as_str())));
    }
    let at = properties.timestamp().and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    let (text, body) = words(delivery.data);
    Inbound { key: id.map(String::into_boxed_str), at: at.unwrap_or_else(Utc::now), text, fields, body }
}

fn value_of(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(yes) => Value::Bool(*yes),
        AMQPValue::ShortShortInt(number) => Value::from(*number),
        AMQPValue::ShortInt(number) => Value::from(*number),
        AMQPValue::LongInt(number) => Value::from(*number),
        AMQPValue::LongLongInt(number) => Value::from(*number),
        AMQPValue::Double(number) => Value::from(*number),
        AMQPValue::LongString(text) => Value::from(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::Timestamp(seconds) => Value::from(*seconds),
        AMQPValue::FieldTable(table) => {
            Value::Object(table.inner().iter().map(|(name, value)| (name.to_string(), value_of(value))).collect())
        }
        AMQPValue::FieldArray(list) => Value::Array(list.as_slice().iter().map(value_of).collect()),
        other => Value::from(format!("{other:?}")),
    }
}

impl Source for Rabbit {
    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.open = Some(self.connect().await.map_err(|fault| refusal(&fault, &self.queue))?);
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let open = self.open.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
            let mut events = Vec::new();
            let (mut bytes, mut receipt) = (0, 0);
            while bytes < BATCH_BYTES {
                let delivery = if events.is_empty() {
                    Some(open.consumer.next().await)
                } else {
                    open.consumer.next().now_or_never()
                };
                let delivery = match delivery {
                    None => break,
                    Some(Some(Ok(delivery))) => delivery,
                    // What was read is kept; the fault is met again with the next read.
                    Some(_) if !events.is_empty() => break,
                    Some(Some(Err(fault))) => return Err(lost(&fault)),
                    Some(None) => return Err(SourceError::Lost("the broker ended the consumer".to_owned())),
                };
                receipt = delivery.delivery_tag;
                let event = inbound(delivery);
                bytes += event.size();
                events.push(event);
            }
            let shared = vec![("broker", Value::from("rabbitmq")), ("topic", Value::from(self.queue.as_str()))];
            let part =
                Part { lane: Arc::from(self.queue.as_str()), shared: Some(Arc::new(shared)), events, position: None };
            Ok(Batch { parts: vec![part], receipt, ..Batch::default() })
        })
    }

    fn settle<'a>(&'a mut self, receipt: u64, fates: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let open = self.open.as_ref().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
            // Tags are numbers in a row, and the last one is the receipt.
            let tags = (receipt + 1).saturating_sub(fates.len() as u64)..=receipt;
            let mut taken = None;
            for (tag, fate) in tags.zip(fates) {
                if *fate != Fate::Refused {
                    taken = Some(tag);
                    continue;
                }
                let rejected = open.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await;
                rejected.map_err(|fault| lost(&fault))?;
            }
            if let Some(tag) = taken {
                let acked = open.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
                acked.map_err(|fault| lost(&fault))?;
            }
            Ok(())
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move {
            self.meter.lag_unknown();
            if let Some(open) = self.open.take()
                && let Err(fault) = open.connection.close(200, "bye".into()).await
            {
                tracing::debug!(%fault, "A connection to RabbitMQ did not close well");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn a_broker_that_is_away_or_crowded_passes_and_a_password_a_queue_or_a_right_does_not() {
        let of = |id: u16, said: &str| {
            let told = AMQPError::from_id(id, said.into()).unwrap();
            refusal(&lapin::ErrorKind::ProtocolError(told).into(), "jobs")
        };
        for (id, said) in [
            (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
            (403, "ACCESS_REFUSED - queue 'jobs' in vhost '/' in exclusive use"),
            (404, "NOT_FOUND - home node 'rabbit@b' of durable queue 'jobs' in vhost '/' is down or inaccessible"),
            (404, "NOT_FOUND - queue 'jobs' in vhost '/' process is stopped by supervisor"),
            (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'jobs' in vhost '/'"),
            (506, "RESOURCE_ERROR - out of memory"),
            (530, "NOT_ALLOWED - access to vhost '/' refused for user 'chief': connection limit (1) is reached"),
            (541, "INTERNAL_ERROR - access to vhost '/' refused for user 'chief': vhost '/' is down"),
        ] {
            assert!(matches!(of(id, said), SourceError::Lost(_)), "{said}: {}", of(id, said));
        }
        for (id, said, next) in [
            (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.", "password"),
            (404, "NOT_FOUND - no queue 'jobs' in vhost '/'", "make it"),
            (406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'jobs' in vhost '/'", "other arguments"),
            (530, "NOT_ALLOWED - vhost shop not found", "no such vhost"),
        ] {
            assert!(matches!(of(id, said), SourceError::Wrong(why) if why.contains(next)), "{said}: {}", of(id, said));
        }
        let io = |fault: std::io::Error| refusal(&fault.into(), "jobs");
        assert!(matches!(io(std::io::ErrorKind::ConnectionReset.into()), SourceError::Lost(_)));
        let stranger = io(std::io::Error::other("invalid peer certificate: UnknownIssuer"));
        assert!(matches!(stranger, SourceError::Wrong(_)), "{stranger}");
        assert!(matches!(refusal(&lapin::ErrorKind::MissingHeartbeatError.into(), "jobs"), SourceError::Lost(_)));
    }
}
