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
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Secret, Source, Wanted};
use regex::Regex;

use crate::Settings;
use mask::StreamMask;

pub use publish::{Message, Publish, PublishFault, Publishers};
pub use settings::{KafkaSettings, RabbitSettings, RedisSettings, Start};

/// How often a broker is asked how much waits for us.
#[allow(dead_code, reason = "each broker is optional")]
const MEASURE: Duration = Duration::from_secs(5);

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
        "gap",
    ],
    about: "a message comes from a broker; `text` is the message, `data` what it says if it is JSON; `redis:CHANNEL gap`: nobody listened for a while",
    example: "kafka:deployments",
    wants: Some(|mask| {
        StreamMask::parse(mask).map(|mask| Wanted { stream: mask.stream().into(), filter: mask.filter() })
    }),
}];

fn message(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// Why two masks would take messages away from each other, if they would: they are two streams, and read one thing as one
/// reader.
pub(crate) fn collide(settings: &Settings, one: &str, other: &str) -> Option<&'static str> {
    let (one, other) = (StreamMask::parse(one).ok()?, StreamMask::parse(other).ok()?);
    if one.stream() == other.stream() {
        // One stream, which both binds read.
        return None;
    }
    let said = match (&one, &other) {
        (
            StreamMask::Kafka { conn, topic, regex, .. },
            StreamMask::Kafka { conn: other_conn, topic: other_topic, regex: other_regex, .. },
        ) if meet((topic, *regex), (other_topic, *other_regex)) && one_group(&settings.kafka, conn, other_conn) => {
            "both read a topic with one group, so that each message goes to one of them; name a second connection with a \
             group of its own"
        }
        (
            StreamMask::RedisStream { conn, key, group },
            StreamMask::RedisStream { conn: other_conn, key: other_key, group: other_group },
        ) if key == other_key
            && group_of(settings, conn, group) == group_of(settings, other_conn, other_group)
            && one_server(conn, other_conn, |conn| Some(&settings.redis.get(conn)?.url)) =>
        {
            "both read a stream with one group, so that each entry goes to one of them; name a group of its own, as in \
             redis-stream:KEY/GROUP"
        }
        (StreamMask::Rabbit { conn, queue }, StreamMask::Rabbit { conn: other_conn, queue: other_queue })
            if queue == other_queue && one_server(conn, other_conn, |conn| Some(&settings.rabbitmq.get(conn)?.url)) =>
        {
            "both read one queue, so that each message goes to one of them; name one connection in both, or give each a \
             queue of its own"
        }
        _ => return None,
    };
    Some(said)
}

/// Whether there may be a topic that both name.
fn meet((topic, regex): (&str, bool), (other, other_regex): (&str, bool)) -> bool {
    let matches = |pattern: &str, topic: &str| Regex::new(pattern).is_ok_and(|regex| regex.is_match(topic));
    match (regex, other_regex) {
        (false, false) => topic == other,
        (true, false) => matches(topic, other),
        (false, true) => matches(other, topic),
        // What both match is not known before there are topics.
        (true, true) => true,
    }
}

/// Whether two connections are one group of one cluster.
fn one_group(all: &BTreeMap<String, KafkaSettings>, conn: &str, other: &str) -> bool {
    let group = |kafka: &KafkaSettings| kafka.options.get("group.id").cloned().unwrap_or_else(|| kafka.group.clone());
    conn == other
        || all.get(conn).zip(all.get(other)).is_some_and(|(one, other)| {
            group(one) == group(other) && one.brokers.iter().any(|broker| other.brokers.contains(broker))
        })
}

/// The group that a stream of Redis is read with.
fn group_of(settings: &Settings, conn: &str, group: &Option<String>) -> String {
    let usual = || settings.redis.get(conn).map_or_else(settings::group, |redis| redis.group.clone());
    group.clone().unwrap_or_else(usual)
}

/// Whether two connections lead to one and the same server and what is named of it, whoever logs in.
fn one_server<'a>(conn: &str, other: &str, url: impl Fn(&str) -> Option<&'a Secret>) -> bool {
    let place = |conn: &str| {
        let url = reqwest::Url::parse(url(conn)?.reveal()).ok()?;
        let usual = match url.scheme() {
            "amqp" => 5672,
            "amqps" => 5671,
            _ => 6379,
        };
        let path = url.path().trim_matches('/').to_owned();
        // Of Redis the first database is meant, of RabbitMQ the vhost `/`, where none is named.
        let path = if ["0", "%2f", "%2F"].contains(&path.as_str()) { String::new() } else { path };
        Some((url.host_str()?.to_owned(), url.port().unwrap_or(usual), path))
    };
    conn == other || place(conn).zip(place(other)).is_some_and(|(one, other)| one == other)
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
        StreamMask::RedisChannel { conn, channel, .. } => {
            Ok(Box::new(redis::RedisChannel::new(named(&settings.redis, "redis", conn)?, channel, meter)?))
        }
        #[allow(unreachable_patterns, reason = "reachable without some of the features")]
        _ => Err(format!("this masterchief was built without what {stream} needs")),
    }
}

/// The settings of a connection.
fn named<'a, T>(all: &'a BTreeMap<String, T>, broker: &str, conn: &str) -> Result<&'a T, String> {
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

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_pattern_and_what_it_matches_would_share_a_group() {
        let none = Settings::default();
        let collide = |one, other| collide(&none, one, other).is_some();
        assert!(collide("kafka:~deploy-.*", "kafka:deploy-shop"));
        assert!(collide("kafka:deploy-shop", "kafka:~^deploy"));
        assert!(collide("kafka:~^a", "kafka:~^b"));
        assert!(!collide("kafka:~^deploy", "kafka@two:deploy-shop"));
        assert!(!collide("kafka:a", "kafka:b"));
        // One stream, which both binds read.
        assert!(!collide("kafka:a", "kafka:a"));
        assert!(!collide("kafka:~^deploy", "rabbitmq:deploy"));
    }

    #[test]
    fn a_second_connection_needs_a_group_of_its_own() {
        let with = |group: &str, more: serde_json::Value| {
            let two = serde_json::json!({"brokers": ["b:9092", "c:9092"], "group": group, "options": more});
            settings(serde_json::json!({"kafka": {"default": {"brokers": ["a:9092", "b:9092"]}, "two": two}}))
        };
        let collide = |settings: &Settings| collide(settings, "kafka:a", "kafka@two:a").is_some();
        assert!(collide(&with("masterchief", serde_json::json!({}))));
        assert!(collide(&with("own", serde_json::json!({"group.id": "masterchief"}))));
        assert!(!collide(&with("own", serde_json::json!({}))));
        let elsewhere = serde_json::json!({"default": {"brokers": ["a:9092"]}, "two": {"brokers": ["c:9092"]}});
        assert!(!collide(&settings(serde_json::json!({"kafka": elsewhere}))));
    }

    #[test]
    fn a_stream_of_redis_is_read_once_by_a_group_whatever_it_is_called_by() {
        let redis = serde_json::json!({
            "default": {"url": "redis://h"},
            "same": {"url": "redis://:password@h:6379/0"},
            "other": {"url": "redis://h/1"},
            "grouped": {"url": "redis://h", "group": "own"},
        });
        let settings = settings(serde_json::json!({"redis": redis}));
        let collide = |one, other| collide(&settings, one, other).is_some();
        assert!(collide("redis-stream:jobs", "redis-stream:jobs/masterchief"));
        assert!(collide("redis-stream:jobs", "redis-stream@same:jobs"));
        assert!(collide("redis-stream@grouped:jobs", "redis-stream:jobs/own"));
        assert!(!collide("redis-stream:jobs", "redis-stream@other:jobs"));
        assert!(!collide("redis-stream:jobs", "redis-stream:jobs/own"));
        assert!(!collide("redis-stream:jobs", "redis-stream:tasks/masterchief"));
        // Everybody hears a channel.
        assert!(!collide("redis:news", "redis@same:news"));
    }

    #[test]
    fn a_queue_is_read_over_one_connection() {
        let rabbitmq = serde_json::json!({
            "default": {"url": "amqp://guest:guest@h/%2f"},
            "same": {"url": "amqp://chief:p@h:5672"},
            "other": {"url": "amqp://chief:p@h/shop"},
        });
        let settings = settings(serde_json::json!({"rabbitmq": rabbitmq}));
        let collide = |one, other| collide(&settings, one, other).is_some();
        assert!(collide("rabbitmq:jobs", "rabbitmq@same:jobs"));
        assert!(!collide("rabbitmq:jobs", "rabbitmq@other:jobs"));
        assert!(!collide("rabbitmq:jobs", "rabbitmq@same:tasks"));
    }
}
