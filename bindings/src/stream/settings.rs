//! What can be configured about brokers.

use std::collections::BTreeMap;

use masterchief_contract::Secret;
use serde::Deserialize;

/// Where a group that is new begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what comes from now on.
    #[default]
    End,
    /// With the oldest there is.
    Start,
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// The consumer group. Several bots of one group share the partitions.
    #[serde(default = "group")]
    pub group: String,
    /// Where a new group begins.
    #[serde(default)]
    pub from: Start,
    /// A user, for SASL.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Secret>,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`; PLAIN where a username is given. SCRAM needs the feature `kafka-tls`.
    pub mechanism: Option<String>,
    /// Whether the connection is encrypted. Needs a masterchief with the feature `kafka-tls`.
    #[serde(default)]
    pub tls: bool,
    /// Anything else that librdkafka takes, by its own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A RabbitMQ server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitSettings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://`.
    pub url: Secret,
    /// Messages that are taken before one is acknowledged.
    #[serde(default = "prefetch")]
    pub prefetch: u16,
    /// Whether queues are made where they are missing. Otherwise a queue must be there.
    #[serde(default)]
    pub declare: bool,
    /// The arguments of queues that are made, such as `x-dead-letter-exchange`.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://:password@host:6379/0`, or `rediss://`.
    pub url: Secret,
    /// The consumer group of streams, where a mask names none.
    #[serde(default = "group")]
    pub group: String,
    /// Our name in the group; no two bots may share one, hence the host's where none is named. It should stay the same over
    /// restarts: what it was given is given to it again at once, and to another name after a minute.
    #[serde(default = "consumer")]
    pub consumer: String,
    /// Where a new group begins.
    #[serde(default)]
    pub from: Start,
}

pub(super) fn group() -> String {
    "masterchief".to_owned()
}

fn consumer() -> String {
    let host =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    if host.trim().is_empty() { group() } else { format!("{}-{}", group(), host.trim()) }
}

fn prefetch() -> u16 {
    512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hosts_are_two_consumers_of_a_group() {
        let settings: RedisSettings = serde_json::from_value(serde_json::json!({"url": "redis://a"})).unwrap();
        assert_eq!(settings.group, "masterchief");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        assert!(settings.consumer.ends_with(host.trim()) && settings.consumer.starts_with("masterchief"));
    }
}
