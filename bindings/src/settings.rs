//! What can be configured about sources.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "sql")]
use crate::database::DatabaseSettings;
use crate::log::{LogSettings, MultilineSettings, SyslogSettings};
use crate::metric::{InfluxSettings, PrometheusSettings, StatsdSettings};
use crate::rest::RestSettings;
use crate::stream::{KafkaSettings, RabbitSettings, RedisSettings};

/// The `sources` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How logs are read, where a mask does not say so.
    pub logs: Vec<LogSettings>,
    /// How lines belong together, by a name for `multi=`.
    pub multiline: BTreeMap<String, MultilineSettings>,
    /// Where syslog is received.
    pub syslog: Option<SyslogSettings>,
    /// Prometheus servers, by a name for masks: `prometheus@NAME:query>1`; `default` where a mask names none.
    pub prometheus: BTreeMap<String, PrometheusSettings>,
    /// InfluxDB 1.x servers.
    pub influxdb: BTreeMap<String, InfluxSettings>,
    /// Where StatsD is received.
    pub statsd: Option<StatsdSettings>,
    /// What is polled over HTTP, by the name in masks: `rest:NAME`.
    pub rest: BTreeMap<String, RestSettings>,
    /// Databases, by a name for masks: `db@NAME:query/orders`; `default` where a mask names none.
    #[cfg(feature = "sql")]
    pub databases: BTreeMap<String, DatabaseSettings>,
    /// Kafka clusters, by a name for masks: `kafka@NAME:topic`; `default` where a mask names none.
    pub kafka: BTreeMap<String, KafkaSettings>,
    /// RabbitMQ servers.
    pub rabbitmq: BTreeMap<String, RabbitSettings>,
    /// Redis servers.
    pub redis: BTreeMap<String, RedisSettings>,
}
