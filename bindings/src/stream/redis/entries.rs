//! A stream, read with a group: own pending entries first, then those that others have left lying, then new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Fields, Inbound, Meter, Part, Positions, Source, SourceError, Value,
};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::settings::{RedisSettings, Start};
use super::super::{MEASURE, words};
use super::{ANSWER, client, lost, not_open};

/// Entries that are asked for at once, at most.
const COUNT: usize = 1000;
/// How long the server keeps us waiting for new entries, in milliseconds.
const BLOCK: u64 = 2000;
/// How often entries of consumers that are gone are looked for, and how long those must have lain.
const CLAIM: Duration = Duration::from_secs(30);
const IDLE: u64 = 60_000;
/// What is noted of a server that cannot give it over.
const NO_CLAIMS: &str = "the server is older than Redis 6.2: what a consumer of another name was given and left is not taken over; read with the same `consumer`, or let XCLAIM do it";
/// What a reader that is alone in an entry is called; then it is the message.
const MESSAGE: [&str; 5] = ["data", "payload", "body", "message", "text"];

/// A stream, read with a group.
pub(in crate::stream) struct RedisStream {
    client: Client,
    settings: RedisSettings,
    key: String,
    group: String,
    meter: Arc<Meter>,
    open: Option<Open>,
    /// Whether the group was there.
    opened: bool,
    /// What was read and is not given yet.
    waiting: VecDeque<Inbound>,
    /// How many entries are asked for next: few, where they are big.
    count: usize,
    unsettled: Vec<String>,
}

struct Open {
    connection: MultiplexedConnection,
    /// Where we are in what we were given before and did not acknowledge; nothing once that is done.
    pending: Option<String>,
    /// Where we are in what others were given and left.
    cursor: String,
    claimed: Instant,
    /// Whether the server can give over what others have left: Redis can from 6.2 on.
    claims: bool,
    /// Tells how much waits, as long as this is open.
    _measures: JoinSet<()>,
}

impl RedisStream {
    pub(in crate::stream) fn new(
        settings: &RedisSettings,
        key: &str,
        group: Option<&str>,
        meter: &Arc<Meter>,
    ) -> Result<RedisStream, String> {
        Ok(RedisStream {
            client: client(settings)?,
            group: group.unwrap_or(&settings.group).to_owned(),
            settings: settings.clone(),
            key: key.to_owned(),
            meter: Arc::clone(meter),
            open: None,
            opened: false,
            waiting: VecDeque::new(),
            count: COUNT,
            unsettled: Vec::new(),
        })
    }

    async fn connect(&self) -> Result<Open, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER)).set_connection_timeout(Some(ANSWER));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A group that was there and is gone went with its server: what came since is not to be passed by.
        let from = if self.settings.from == Start::Start || self.opened { "0" } else { "$" };
        let made: Result<(), RedisError> = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.key)
            .arg(&self.group)
            .arg(from)
            .arg("MKSTREAM")
            .query_async(&mut connection)
            .await;
        if let Err(fault) = made
            && fault.code() != Some("BUSYGROUP")
        {
            return Err(fault);
        }
        let claims = claims(&mut connection).await;
        self.meter.note(if claims { "" } else { NO_CLAIMS });
        let mut measures = JoinSet::new();
        measures.spawn(measure(connection.clone(), self.key.clone(), self.group.clone(), Arc::clone(&self.meter)));
        Ok(Open {
            connection,
            pending: Some("0".to_owned()),
            cursor: "0-0".to_owned(),
            claimed: Instant::now(),
            claims,
            _measures: measures,
        })
    }

    async fn read(&mut self) -> Result<Vec<StreamId>, RedisError> {
        loop {
            let Some(open) = &mut self.open else { return Ok(Vec::new()) };
            if open.claims && open.pending.is_none() && open.claimed.elapsed() >= CLAIM {
                let entries = claim(open, &self.key, &self.group, &self.settings.consumer, self.count).await?;
                if !entries.is_empty() {
                    return Ok(entries);
                }
            }
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(&self.group).arg(&self.settings.consumer).arg("COUNT").arg(self.count);
            if open.pending.is_none() {
                read.arg("BLOCK").arg(BLOCK);
            }
            read.arg("STREAMS").arg(&self.key).arg(open.pending.as_deref().unwrap_or(">"));
            let reply: Option<StreamReadReply> = read.query_async(&mut open.connection).await?;
            let entries: Vec<StreamId> =
                reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
            match (entries.last(), &mut open.pending) {
                (Some(last), Some(pending)) => pending.clone_from(&last.id),
                (None, pending @ Some(_)) => {
                    *pending = None;
                    continue;
                }
                _ => {}
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// Those that still are something. What was trimmed away while it was given out has no fields: it is settled, and
    /// counted among what is lost.
    async fn left(&mut self, entries: Vec<StreamId>) -> Result<Vec<StreamId>, RedisError> {
        let (gone, left): (Vec<StreamId>, Vec<StreamId>) = entries.into_iter().partition(|entry| entry.map.is_empty());
        let Some(open) = self.open.as_mut().filter(|_| !gone.is_empty()) else { return Ok(left) };
        let ids: Vec<&str> = gone.iter().map(|entry| entry.id.as_str()).collect();
        redis::cmd("XACK").arg(&self.key).arg(&self.group).arg(ids).query_async::<()>(&mut open.connection).await?;
        self.meter.drop_count(gone.len() as u64);
        self.meter.note(format!("{} entries were trimmed before they were read; let MAXLEN be longer", gone.len()));
        Ok(left)
    }
}

/// Tells again and again what waits for the group: also while nobody reads, because the journal is full.
async fn measure(mut connection: MultiplexedConnection, key: String, group: String, meter: Arc<Meter>) {
    let mut every = tokio::time::interval(MEASURE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match waiting(&mut connection, &key, &group).await {
            Ok(Some(lag)) => meter.lag(lag, "entries"),
            Ok(None) => meter.lag_unknown(),
            // Whoever reads meets it as well, and is opened again.
            Err(fault) => tracing::debug!(%fault, "How much waits in Redis cannot be told"),
        }
    }
}

/// What waits for the group, where the server can say (Redis 7, and nothing was deleted out of what waits).
async fn waiting(connection: &mut MultiplexedConnection, key: &str, group: &str) -> Result<Option<u64>, RedisError> {
    let groups: Vec<std::collections::HashMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(key).query_async(connection).await?;
    let is_ours = |row: &std::collections::HashMap<String, redis::Value>| matches!(row.get("name"), Some(redis::Value::BulkString(name)) if *name == group.as_bytes());
    let lag = groups.iter().find(|row| is_ours(row)).and_then(|row| row.get("lag"));
    Ok(lag.and_then(|lag| match lag {
        redis::Value::Int(lag) => u64::try_from(*lag).ok(),
        _ => None,
    }))
}

/// Whether the server knows how. One that does not say is believed to.
async fn claims(connection: &mut MultiplexedConnection) -> bool {
    let known: Result<Vec<redis::Value>, RedisError> =
        redis::cmd("COMMAND").arg("INFO").arg("XAUTOCLAIM").query_async(connection).await;
    !known.is_ok_and(|known| matches!(known.as_slice(), [redis::Value::Nil]))
}

/// Entries that others were given and have left lying. The cursor is carried on, so that none is passed over for ever.
async fn claim(
    open: &mut Open,
    key: &str,
    group: &str,
    consumer: &str,
    count: usize,
) -> Result<Vec<StreamId>, RedisError> {
    let reply: StreamAutoClaimReply = redis::cmd("XAUTOCLAIM")
        .arg(key)
        .arg(group)
        .arg(consumer)
        .arg(IDLE)
        .arg(&open.cursor)
        .arg("COUNT")
        .arg(count)
        .query_async(&mut open.connection)
        .await?;
    open.cursor = reply.next_stream_id;
    if open.cursor == "0-0" {
        open.claimed = Instant::now();
    }
    Ok(reply.claimed)
}

fn bytes(value: redis::Value) -> Vec<u8> {
    match value {
        redis::Value::BulkString(bytes) => bytes,
        redis::Value::SimpleString(text) => text.into_bytes(),
        redis::Value::Int(number) => number.to_string().into_bytes(),
        other => format!("{other:?}").into_bytes(),
    }
}

/// `1526919030474-0`
fn moment(id: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(id.split_once('-')?.0.parse().ok()?)
}

fn entry(entry: StreamId) -> Inbound {
    let mut values: Vec<(String, Vec<u8>)> = entry.map.into_iter().map(|(name, value)| (name, bytes(value))).collect();
    values.sort();
    let mut fields: Fields = vec![("id", Value::from(entry.id.as_str()))];
    let shown = values.iter().map(|(name, value)| (name.clone(), Value::from(String::from_utf8_lossy(value))));
    let all = Value::Object(shown.collect());
    let alone = matches!(values.as_slice(), [(name, _)] if MESSAGE.contains(&name.as_str()));
    let (text, body) = match values.pop() {
        Some((_, value)) if alone => words(value),
        _ => (all.to_string(), Vec::new()),
    };
    fields.push(("values", all));
    let at = moment(&entry.id).unwrap_or_else(Utc::now);
    Inbound { key: Some(entry.id.into_boxed_str()), at, text, fields, body }
}

/// As much of what waits as is one batch.
fn portion(waiting: &mut VecDeque<Inbound>) -> Vec<Inbound> {
    let mut bytes = 0;
    let mut events = Vec::new();
    while bytes < BATCH_BYTES
        && let Some(event) = waiting.pop_front()
    {
        bytes += event.size();
        events.push(event);
    }
    events
}

/// How many entries are asked for, where the last were like these.
fn next_count(entries: &VecDeque<Inbound>) -> usize {
    let bytes: usize = entries.iter().map(Inbound::size).sum();
    let each = bytes.checked_div(entries.len()).unwrap_or(0).max(1);
    (BATCH_BYTES / each).clamp(1, COUNT)
}

impl Source for RedisStream {
    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.unsettled.clear();
            // Ours, and not acknowledged: it is read again.
            self.waiting.clear();
            self.open = Some(self.connect().await.map_err(|fault| lost(&fault))?);
            self.opened = true;
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            if self.open.is_none() {
                return Err(not_open());
            }
            while self.waiting.is_empty() {
                let entries = self.read().await.map_err(|fault| lost(&fault))?;
                let entries = self.left(entries).await.map_err(|fault| lost(&fault))?;
                self.waiting = entries.into_iter().map(entry).collect();
                self.count = next_count(&self.waiting);
            }
            let events = portion(&mut self.waiting);
            self.unsettled = events.iter().filter_map(|event| event.key.as_deref().map(str::to_owned)).collect();
            let shared = vec![("broker", Value::from("redis-stream")), ("topic", Value::from(self.key.as_str()))];
            let part =
                Part { lane: Arc::from(self.key.as_str()), shared: Some(Arc::new(shared)), events, position: None };
            Ok(Batch { parts: vec![part], ..Batch::default() })
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let open = self.open.as_mut().ok_or_else(not_open)?;
            let ids = std::mem::take(&mut self.unsettled);
            if ids.is_empty() {
                return Ok(());
            }
            let acked: Result<(), RedisError> =
                redis::cmd("XACK").arg(&self.key).arg(&self.group).arg(ids).query_async(&mut open.connection).await;
            acked.map_err(|fault| lost(&fault))
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.open = None;
        self.meter.lag_unknown();
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &str, bytes: usize) -> StreamId {
        let map = [("data", "x".repeat(bytes)), ("more", "y".to_owned())];
        let map = map.map(|(name, text)| (name.to_owned(), redis::Value::BulkString(text.into_bytes())));
        StreamId { id: id.to_owned(), map: map.into(), ..StreamId::default() }
    }

    #[test]
    fn a_thousand_big_entries_are_many_batches_and_fewer_are_asked_for_next_time() {
        let mut waiting: VecDeque<Inbound> = (0..20).map(|at| entry(given(&format!("{at}-0"), 1 << 20))).collect();
        let ids = waiting.iter().map(|event| event.key.clone()).collect::<Vec<_>>();
        // Each stands there as text and as values.
        assert_eq!(next_count(&waiting), 1);
        let mut got = Vec::new();
        while !waiting.is_empty() {
            let events = portion(&mut waiting);
            assert_eq!(events.len(), 2);
            got.extend(events.into_iter().map(|event| event.key));
        }
        assert_eq!(got, ids);
        let small: VecDeque<Inbound> = (0..20).map(|at| entry(given(&format!("{at}-0"), 10))).collect();
        assert_eq!((next_count(&small), next_count(&VecDeque::new())), (COUNT, COUNT));
    }
}
