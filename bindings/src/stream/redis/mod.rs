//! Redis: streams, with a group and its pending entries, and channels, which keep nothing.

mod channel;
mod entries;

use std::time::Duration;

use masterchief_contract::SourceError;
use redis::{Client, RedisError};

use super::settings::RedisSettings;

pub(super) use channel::RedisChannel;
pub(super) use entries::RedisStream;

/// How long an answer may take, what the server keeps us waiting for new entries included.
const ANSWER: Duration = Duration::from_secs(10);

fn lost(fault: &RedisError) -> SourceError {
    SourceError::Lost(fault.to_string())
}

fn not_open() -> SourceError {
    SourceError::Lost("it is not open".to_owned())
}

fn client(settings: &RedisSettings) -> Result<Client, String> {
    Client::open(settings.url.reveal())
        .map_err(|_| "the url is not of the form redis://:password@host:6379/0".to_owned())
}

/// Publishes a message and waits for the server to say that it has it.
pub(super) async fn publish(
    connection: &mut redis::aio::ConnectionManager,
    stream: bool,
    name: &str,
    payload: &[u8],
) -> Result<String, RedisError> {
    if stream {
        return redis::cmd("XADD").arg(name).arg("*").arg("data").arg(payload).query_async(connection).await;
    }
    let heard: u64 = redis::cmd("PUBLISH").arg(name).arg(payload).query_async(connection).await?;
    Ok(heard.to_string())
}

/// A connection that connects again by itself.
pub(super) async fn manager(settings: &RedisSettings) -> Result<redis::aio::ConnectionManager, String> {
    let client = client(settings)?;
    redis::aio::ConnectionManager::new(client).await.map_err(|fault| fault.to_string())
}
