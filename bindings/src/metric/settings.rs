//! What can be configured about metrics.

use std::net::SocketAddr;
use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;

/// A Prometheus, or anything that answers `/api/v1/query` as it does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// `http://host:9090`
    pub url: String,
    /// A user, for basic authentication.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Secret>,
    /// A bearer token instead.
    pub token: Option<Secret>,
    /// How long an answer may take.
    #[serde(default = "ten_seconds", with = "humantime_serde")]
    pub timeout: Duration,
}

/// An InfluxDB 1.x.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfluxSettings {
    /// `http://host:8086`
    pub url: String,
    /// The database.
    pub database: String,
    /// A user.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Secret>,
    /// How long an answer may take.
    #[serde(default = "ten_seconds", with = "humantime_serde")]
    pub timeout: Duration,
}

/// Where StatsD is received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsdSettings {
    /// UDP: best effort by nature.
    pub udp: Option<SocketAddr>,
    /// TCP, a line a metric.
    pub tcp: Option<SocketAddr>,
    /// What statistics are over, and how often rules are looked at.
    #[serde(default = "ten_seconds", with = "humantime_serde")]
    pub window: Duration,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
