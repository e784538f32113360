//! The mask of a stream: `kafka[@CONN]:TOPIC[/PARTITION]`, `kafka:~REGEX`, `rabbitmq:QUEUE`, `redis-stream:KEY[/GROUP]`, `redis:CHANNEL[ gap]`.

use std::sync::Arc;

use masterchief_contract::{EventData, Filter, MaskFault};

use crate::gap;

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamMask {
    Kafka {
        conn: String,
        topic: String,
        regex: bool,
        /// What is wanted of the topic; the group reads all of it.
        partition: Option<i32>,
    },
    Rabbit {
        conn: String,
        queue: String,
    },
    RedisStream {
        conn: String,
        key: String,
        group: Option<String>,
    },
    /// With `*`, `?` or `[` it is a pattern.
    RedisChannel {
        conn: String,
        channel: String,
        /// Whether it wants the times in which nobody listened, and not the messages.
        gap: bool,
    },
}

/// The connection where none is named.
const USUAL: &str = "default";

impl StreamMask {
    pub(super) fn parse(mask: &str) -> Result<StreamMask, MaskFault> {
        let wrong = |at: usize, text: String| Err(MaskFault::at(mask, at, text));
        const FORM: &str =
            "write BROKER:NAME, as in kafka:deployments, rabbitmq:queue, redis-stream:key or redis:channel";
        let Some((scheme, name)) = mask.split_once(':') else { return wrong(mask.len(), FORM.to_owned()) };
        let (broker, conn) = scheme.split_once('@').unwrap_or((scheme, USUAL));
        let after = scheme.len() + 1;
        if conn.is_empty() || !conn.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
        {
            return wrong(
                broker.len() + 1,
                "name a connection of the configuration after @, as in kafka@prod:deployments".to_owned(),
            );
        }
        let said = name.strip_suffix(gap::GAP).and_then(|name| name.strip_suffix(' ')).filter(|_| broker == "redis");
        let (name, gap) = (said.unwrap_or(name), said.is_some());
        if name.is_empty() {
            return wrong(after, FORM.to_owned());
        }
        if let Some(at) = name.find(char::is_whitespace) {
            return wrong(after + at, "a stream's name has no blanks".to_owned());
        }
        let conn = conn.to_owned();
        Ok(match broker {
            "kafka" => {
                let (name, regex) = name.strip_prefix('~').map_or((name, false), |regex| (regex, true));
                let (topic, partition) = match name.split_once('/') {
                    Some((topic, number)) if !regex => {
                        let known = number.parse().ok().filter(|known| *known >= 0 && !topic.is_empty());
                        let text = "write kafka:TOPIC/PARTITION, as in kafka:deployments/3";
                        (topic, Some(known.ok_or_else(|| MaskFault::at(mask, after + topic.len() + 1, text))?))
                    }
                    _ => (name, None),
                };
                if regex {
                    // librdkafka takes a topic that begins with ^ as a regular expression.
                    regex::Regex::new(topic)
                        .map_err(|_| MaskFault::at(mask, after + 1, "this is no regular expression"))?;
                } else if let Some(at) =
                    topic.find(|letter: char| !(letter.is_ascii_alphanumeric() || "._-".contains(letter)))
                {
                    return wrong(
                        after + at,
                        "a topic has letters, digits, . _ and - only; a pattern begins with ~".to_owned(),
                    );
                }
                let anchored = if regex && !topic.starts_with('^') { format!("^{topic}") } else { topic.to_owned() };
                StreamMask::Kafka { conn, topic: anchored, regex, partition }
            }
            "rabbitmq" => StreamMask::Rabbit { conn, queue: name.to_owned() },
            "redis-stream" => match name.rsplit_once('/') {
                Some((_, "")) | Some(("", _)) => return wrong(after, "write redis-stream:KEY/GROUP".to_owned()),
                Some((key, group)) => {
                    StreamMask::RedisStream { conn, key: key.to_owned(), group: Some(group.to_owned()) }
                }
                None => StreamMask::RedisStream { conn, key: name.to_owned(), group: None },
            },
            "redis" => StreamMask::RedisChannel { conn, channel: name.to_owned(), gap },
            other => return wrong(0, format!("there is no broker {other:?}; {FORM}")),
        })
    }

    /// The stream that is read for it.
    pub(super) fn stream(&self) -> String {
        match self {
            StreamMask::Kafka { conn, topic, regex, .. } => {
                StreamMask::Kafka { conn: conn.clone(), topic: topic.clone(), regex: *regex, partition: None }
                    .to_string()
            }
            StreamMask::RedisChannel { conn, channel, .. } => {
                StreamMask::RedisChannel { conn: conn.clone(), channel: channel.clone(), gap: false }.to_string()
            }
            other => other.to_string(),
        }
    }

    /// What of the stream is wanted; all where there is nothing.
    pub(super) fn filter(&self) -> Option<Filter> {
        match *self {
            StreamMask::Kafka { partition: Some(partition), .. } => Some(Arc::new(move |event: &EventData| {
                event.field("partition").and_then(|value| value.as_i64()) == Some(i64::from(partition))
            })),
            StreamMask::RedisChannel { gap, .. } => Some(Arc::new(move |event: &EventData| gap::is_of(event) == gap)),
            _ => None,
        }
    }
}

impl std::fmt::Display for StreamMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (broker, conn, name) = match self {
            StreamMask::Kafka { conn, topic, regex: true, .. } => ("kafka", conn, format!("~{topic}")),
            StreamMask::Kafka { conn, topic, partition: Some(number), .. } => {
                ("kafka", conn, format!("{topic}/{number}"))
            }
            StreamMask::Kafka { conn, topic, .. } => ("kafka", conn, topic.clone()),
            StreamMask::Rabbit { conn, queue } => ("rabbitmq", conn, queue.clone()),
            StreamMask::RedisStream { conn, key, group: None } => ("redis-stream", conn, key.clone()),
            StreamMask::RedisStream { conn, key, group: Some(group) } => {
                ("redis-stream", conn, format!("{key}/{group}"))
            }
            StreamMask::RedisChannel { conn, channel, gap: true } => ("redis", conn, format!("{channel} {}", gap::GAP)),
            StreamMask::RedisChannel { conn, channel, .. } => ("redis", conn, channel.clone()),
        };
        if conn == USUAL { write!(f, "{broker}:{name}") } else { write!(f, "{broker}@{conn}:{name}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_name_a_broker_a_connection_and_a_stream() {
        for mask in [
            "kafka:deployments",
            "kafka:deployments/3",
            "kafka@prod:~^deploy-.+",
            "rabbitmq:queue",
            "redis:news.*",
            "redis@two:news gap",
            "redis-stream:jobs/chief",
        ] {
            assert_eq!(StreamMask::parse(mask).unwrap().to_string(), mask);
        }
        assert_eq!(StreamMask::parse("kafka@default:a").unwrap().to_string(), "kafka:a");
        for (mask, column) in [
            ("", 1),
            ("kafka", 6),
            ("kafka:", 7),
            ("kafka@:a", 7),
            ("kafka:a b", 8),
            ("kafka:a/x", 9),
            ("kafka:a/-1", 9),
            ("kafka:/1", 8),
            ("kafka:~(", 8),
            ("nats:a", 1),
            ("redis-stream:/g", 14),
            ("redis-stream:jobs gap", 18),
            ("redis:news gone", 11),
            ("redis: gap", 7),
        ] {
            let fault = StreamMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }

    #[test]
    fn a_time_in_which_nobody_listened_is_no_message_of_the_channel() {
        let [messages, lost] = ["redis:news", "redis:news gap"].map(|mask| StreamMask::parse(mask).unwrap());
        assert_eq!(lost.stream(), messages.stream(), "one connection brings both");
        let [messages, lost] = [messages, lost].map(|mask| mask.filter().unwrap());
        let mut event = EventData::new(&[], chrono::Utc::now());
        assert!(messages(&event) && !lost(&event));
        event.fields.push(("gap", serde_json::json!({"seconds": 7})));
        assert!(!messages(&event) && lost(&event));
    }

    #[test]
    fn a_partition_is_a_part_of_what_the_topic_brings() {
        let mask = StreamMask::parse("kafka@prod:deployments/3").unwrap();
        assert_eq!(mask.stream(), "kafka@prod:deployments");
        let filter = mask.filter().unwrap();
        let of = |partition: i64| {
            let mut event = EventData::new(&[], chrono::Utc::now());
            event.fields.push(("partition", serde_json::Value::from(partition)));
            event
        };
        assert!(filter(&of(3)) && !filter(&of(4)) && !filter(&EventData::new(&[], chrono::Utc::now())));
        assert!(StreamMask::parse("kafka:deployments").unwrap().filter().is_none());
    }
}
