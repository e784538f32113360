//! The mask of a stream: `kafka[@CONN]:TOPIC`, `kafka:~REGEX`, `rabbitmq:QUEUE`, `redis-stream:KEY[/GROUP]`, `redis:CHANNEL`.

use masterchief_contract::MaskFault;

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamMask {
    Kafka {
        conn: String,
        topic: String,
        regex: bool,
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
        if name.is_empty() {
            return wrong(after, FORM.to_owned());
        }
        if let Some(at) = name.find(char::is_whitespace) {
            return wrong(after + at, "a stream's name has no blanks".to_owned());
        }
        let conn = conn.to_owned();
        Ok(match broker {
            "kafka" => {
                let (topic, regex) = name.strip_prefix('~').map_or((name, false), |regex| (regex, true));
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
                StreamMask::Kafka { conn, topic: anchored, regex }
            }
            "rabbitmq" => StreamMask::Rabbit { conn, queue: name.to_owned() },
            "redis-stream" => match name.rsplit_once('/') {
                Some((_, "")) | Some(("", _)) => return wrong(after, "write redis-stream:KEY/GROUP".to_owned()),
                Some((key, group)) => {
                    StreamMask::RedisStream { conn, key: key.to_owned(), group: Some(group.to_owned()) }
                }
                None => StreamMask::RedisStream { conn, key: name.to_owned(), group: None },
            },
            "redis" => StreamMask::RedisChannel { conn, channel: name.to_owned() },
            other => return wrong(0, format!("there is no broker {other:?}; {FORM}")),
        })
    }
}

impl std::fmt::Display for StreamMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (broker, conn, name) = match self {
            StreamMask::Kafka { conn, topic, regex: false } => ("kafka", conn, topic.clone()),
            StreamMask::Kafka { conn, topic, regex: true } => ("kafka", conn, format!("~{topic}")),
            StreamMask::Rabbit { conn, queue } => ("rabbitmq", conn, queue.clone()),
            StreamMask::RedisStream { conn, key, group: None } => ("redis-stream", conn, key.clone()),
            StreamMask::RedisStream { conn, key, group: Some(group) } => {
                ("redis-stream", conn, format!("{key}/{group}"))
            }
            StreamMask::RedisChannel { conn, channel } => ("redis", conn, channel.clone()),
        };
        if conn == USUAL { write!(f, "{broker}:{name}") } else { write!(f, "{broker}@{conn}:{name}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_name_a_broker_a_connection_and_a_stream() {
        for mask in
            ["kafka:deployments", "kafka@prod:~^deploy-.+", "rabbitmq:queue", "redis:news.*", "redis-stream:jobs/chief"]
        {
            assert_eq!(StreamMask::parse(mask).unwrap().to_string(), mask);
        }
        assert_eq!(StreamMask::parse("kafka@default:a").unwrap().to_string(), "kafka:a");
        for (mask, column) in [
            ("", 1),
            ("kafka", 6),
            ("kafka:", 7),
            ("kafka@:a", 7),
            ("kafka:a b", 8),
            ("kafka:a/1", 8),
            ("kafka:~(", 8),
            ("nats:a", 1),
            ("redis-stream:/g", 14),
        ] {
            let fault = StreamMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }
}
