//! `stream`: messages of Kafka, RabbitMQ and Redis, read and published.

#[cfg(feature = "kafka")]
mod kafka;
mod mask;
mod publish;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod settings;

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Source, Wanted};
use regex::Regex;

use crate::Settings;
use mask::StreamMask;

pub use publish::{Message, Publish, PublishFault, Publishers};
pub use settings::{KafkaSettings, RabbitSettings, RedisSettings, Start};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Stream,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: message,
    check: |mask| StreamMask::parse(mask).map(drop),
    fields: &[
        "broker",
        "topic",
        "partition",
        "offset",
        "key",
        "headers",
        "id",
        "values",
        "exchange",
        "routing_key",
        "redelivered",
        "tombstone",
    ],
    about: "a message comes from a broker; `text` is the message, `data` what it says if it is JSON",
    example: "kafka:deployments",
    wants: Some(|mask| {
        StreamMask::parse(mask).map(|mask| Wanted { stream: mask.stream().into(), filter: mask.filter() })
    }),
}];

fn message(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// Whether two masks read a topic of Kafka with one group: a pattern, and what it matches or another pattern.
pub fn collide(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (StreamMask::parse(one), StreamMask::parse(other)) else { return false };
    match (&one, &other) {
        (
            StreamMask::Kafka { conn, topic, regex, .. },
            StreamMask::Kafka { conn: other_conn, topic: other_topic, regex: other_regex, .. },
        ) if conn == other_conn && topic != other_topic => {
            let matches = |pattern: &str, topic: &str| Regex::new(pattern).is_ok_and(|regex| regex.is_match(topic));
            match (regex, other_regex) {
                (false, false) => false,
                (true, false) => matches(topic, other_topic),
                (false, true) => matches(other_topic, topic),
                // What both match is not known before there are topics.
                (true, true) => true,
            }
        }
        _ => false,
    }
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let mask = StreamMask::parse(stream).map_err(|fault| fault.to_string())?;
    match &mask {
        #[cfg(feature = "kafka")]
        StreamMask::Kafka { conn, .. } => {
            Ok(Box::new(kafka::Kafka::new(named(&settings.kafka, "kafka", conn)?, &mask, meter)?))
        }
        #[cfg(feature = "rabbitmq")]
        StreamMask::Rabbit { conn, queue } => {
            Ok(Box::new(rabbitmq::Rabbit::new(named(&settings.rabbitmq, "rabbitmq", conn)?, queue, meter)?))
        }
        #[cfg(feature = "redis")]
        StreamMask::RedisStream { conn, key, group } => {
            Ok(Box::new(redis::RedisStream::new(named(&settings.redis, "redis", conn)?, key, group.as_deref(), meter)?))
        }
        #[cfg(feature = "redis")]
        StreamMask::RedisChannel { conn, channel } => {
            Ok(Box::new(redis::RedisChannel::new(named(&settings.redis, "redis", conn)?, channel, meter)?))
        }
        #[allow(unreachable_patterns, reason = "reachable without some of the features")]
        _ => Err(format!("this masterchief was built without what {stream} needs")),
    }
}

/// The settings of a connection.
fn named<'a, T>(all: &'a std::collections::BTreeMap<String, T>, broker: &str, conn: &str) -> Result<&'a T, String> {
    all.get(conn)
        .ok_or_else(|| format!("there is no connection {conn}; add it, as in sources: {{{broker}: {{{conn}: ...}}}}"))
}

/// Bytes as the words of a message, and the bytes where they are no text.
#[allow(dead_code, reason = "used by each broker, all of which are optional")]
fn words(bytes: Vec<u8>) -> (String, Vec<u8>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, Vec::new()),
        Err(fault) => (String::from_utf8_lossy(fault.as_bytes()).into_owned(), fault.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_and_what_it_matches_would_share_a_group() {
        assert!(collide("kafka:~deploy-.*", "kafka:deploy-shop"));
        assert!(collide("kafka:deploy-shop", "kafka:~^deploy"));
        assert!(collide("kafka:~^a", "kafka:~^b"));
        assert!(!collide("kafka:~^deploy", "kafka@two:deploy-shop"));
        assert!(!collide("kafka:a", "kafka:b"));
        // One stream, which both binds read.
        assert!(!collide("kafka:a", "kafka:a"));
        assert!(!collide("kafka:~^deploy", "rabbitmq:deploy"));
    }
}
