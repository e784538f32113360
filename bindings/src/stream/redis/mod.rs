//! Redis: streams, with a group and its pending entries, and channels, which keep nothing.

mod channel;
mod entries;

use std::time::Duration;

use masterchief_contract::SourceError;
use redis::{Client, ErrorKind, RedisError};

use super::settings::RedisSettings;
use crate::faults;

pub(super) use channel::RedisChannel;
pub(super) use entries::RedisStream;

/// How long an answer may take, what the server keeps us waiting for new entries included.
const ANSWER: Duration = Duration::from_secs(10);

/// What somebody has to change, by what the server says of it. The rest may pass: it loads its file, it is a replica for now, too many
/// talk to it, the group went with it.
const NEXT: [(&str, &str); 7] = [
    ("NOAUTH", PASSWORD),
    ("WRONGPASS", PASSWORD),
    ("NOPERM", "the user may not do this; allow it"),
    ("WRONGTYPE", "what has this name is no stream; name another one"),
    ("DB index is out of range", "there is no such database; put the url under sources.redis right"),
    ("refused to switch database", "there is no such database; put the url under sources.redis right"),
    ("unknown command", "the server is too old for streams; Redis has them from 5.0 on"),
];
const PASSWORD: &str = "the server refuses the user or the password; put the url under sources.redis right";

fn lost(fault: &RedisError) -> SourceError {
    let said = format!("{} {fault}", fault.code().unwrap_or_default());
    let refused = fault.kind() == ErrorKind::AuthenticationFailed;
    let next = NEXT.iter().find(|(words, _)| said.contains(words)).map(|(_, next)| *next);
    match next.or(refused.then_some(PASSWORD)) {
        Some(next) => SourceError::Wrong(format!("{next} ({fault})")),
        None => faults::lost(fault),
    }
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
    // What is not answered in time may have been taken all the same; whoever publishes again says it twice.
    let config = redis::aio::ConnectionManagerConfig::new().set_response_timeout(Some(ANSWER));
    redis::aio::ConnectionManager::new_with_config(client, config).await.map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_begins_or_changes_hands_passes_and_a_password_a_right_or_a_name_does_not() {
        let of = |said: &str| {
            let answer = redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).unwrap();
            lost(&answer.extract_error().unwrap_err())
        };
        for said in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "BUSY Redis is busy running a script.",
            "NOGROUP No such key 'jobs' or consumer group 'chief' in XREADGROUP with GROUP option",
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "ERR max number of clients reached",
        ] {
            assert!(matches!(of(said), SourceError::Lost(_)), "{said}: {}", of(said));
        }
        for (said, next) in [
            ("NOAUTH Authentication required.", "password"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "password"),
            ("NOPERM this user has no permissions to run the 'xreadgroup' command", "allow it"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "no stream"),
            ("ERR DB index is out of range", "no such database"),
            ("ERR unknown command 'XREADGROUP', with args beginning with:", "too old"),
        ] {
            assert!(matches!(of(said), SourceError::Wrong(why) if why.contains(next)), "{said}: {}", of(said));
        }
        let refused = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        assert!(matches!(lost(&refused), SourceError::Wrong(why) if why.contains("sources.redis")));
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(lost(&cut), SourceError::Lost(_)));
    }
}
