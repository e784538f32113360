//! Redis: streams, with a group and its pending entries, and channels, which keep nothing.

use std::collections::VecDeque;
use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Fields, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::settings::{RedisSettings, Start};
use super::words;

/// Entries that are asked for at once, at most.
const COUNT: usize = 1000;
/// How long the server keeps us waiting for new entries, in milliseconds.
const BLOCK: u64 = 2000;
/// How long an answer may take, the wait above included.
const ANSWER: Duration = Duration::from_secs(10);
/// How often entries of consumers that are gone are looked for, and how long those must have lain.
const CLAIM: Duration = Duration::from_secs(30);
const IDLE: u64 = 60_000;
/// How long a channel may be quiet before the server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(30);
/// Messages of a channel that wait to be written, and their bytes, at most.
const WAITING: usize = 10_000;
const WAITING_BYTES: usize = 16 << 20;
/// Messages of a channel that are written at once.
const MESSAGES: usize = 1000;
/// What a reader that is alone in an entry is called; then it is the message.
const MESSAGE: [&str; 5] = ["data", "payload", "body", "message", "text"];

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

/// A stream, read with a group.
pub(super) struct RedisStream {
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
}

impl RedisStream {
    pub(super) fn new(
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
        let claimed = Instant::now();
        Ok(Open { connection, pending: Some("0".to_owned()), cursor: "0-0".to_owned(), claimed })
    }

    async fn read(&mut self) -> Result<Vec<StreamId>, RedisError> {
        loop {
            let Some(open) = &mut self.open else { return Ok(Vec::new()) };
            if open.pending.is_none() && open.claimed.elapsed() >= CLAIM {
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
            self.measure().await;
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

    /// What waits for the group, where the server tells (Redis 7).
    async fn measure(&mut self) {
        let Some(open) = &mut self.open else { return };
        let groups: Result<Vec<std::collections::HashMap<String, redis::Value>>, RedisError> =
            redis::cmd("XINFO").arg("GROUPS").arg(&self.key).query_async(&mut open.connection).await;
        for group in groups.unwrap_or_default() {
            let is_ours =
                matches!(group.get("name"), Some(redis::Value::BulkString(name)) if *name == self.group.as_bytes());
            if is_ours && let Some(redis::Value::Int(lag)) = group.get("lag") {
                self.meter.lag(u64::try_from(*lag).unwrap_or(0), "entries");
            }
        }
    }
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
        Box::pin(async {})
    }
}

/// A channel, or a pattern of channels.
pub(super) struct RedisChannel {
    client: Client,
    channel: String,
    meter: Arc<Meter>,
    messages: Option<Messages>,
    opened: u64,
}

/// What is heard, and where it is asked whether the server is still there.
struct Messages {
    from: mpsc::Receiver<redis::Msg>,
    held: Arc<AtomicUsize>,
    ask: PubSubSink,
}

/// Hears while somebody listens. The client would keep whatever comes; of this only so much waits, and the rest is counted.
async fn hear(
    mut from: impl Stream<Item = redis::Msg> + Unpin,
    to: mpsc::Sender<redis::Msg>,
    held: Arc<AtomicUsize>,
    meter: Arc<Meter>,
) {
    loop {
        let message = tokio::select! {
            message = from.next() => message,
            () = to.closed() => return,
        };
        let Some(message) = message else { return };
        let bytes = message.get_payload_bytes().len();
        let before = held.fetch_add(bytes, Relaxed);
        let fits = before == 0 || before + bytes <= WAITING_BYTES;
        if !fits || to.try_send(message).is_err() {
            held.fetch_sub(bytes, Relaxed);
            meter.drop_count(1);
        }
    }
}

impl Messages {
    fn new(
        from: impl Stream<Item = redis::Msg> + Unpin + Send + 'static,
        ask: PubSubSink,
        meter: &Arc<Meter>,
    ) -> Messages {
        let (to, receiver) = mpsc::channel(WAITING);
        let held = Arc::<AtomicUsize>::default();
        tokio::spawn(hear(from, to, Arc::clone(&held), Arc::clone(meter)));
        Messages { from: receiver, held, ask }
    }

    /// The next one, if it is there.
    fn here(&mut self) -> Option<redis::Msg> {
        let message = self.from.try_recv().ok()?;
        self.held.fetch_sub(message.get_payload_bytes().len(), Relaxed);
        Some(message)
    }

    /// Nobody keeps what waits, for there is no room.
    fn drop_all(&mut self, meter: &Meter) {
        while self.here().is_some() {
            meter.drop_count(1);
        }
    }

    /// The next one. A connection whose other end is gone without a word is found out.
    async fn next(&mut self) -> Result<redis::Msg, SourceError> {
        loop {
            match tokio::time::timeout(QUIET, self.from.recv()).await {
                Ok(Some(message)) => {
                    self.held.fetch_sub(message.get_payload_bytes().len(), Relaxed);
                    return Ok(message);
                }
                Ok(None) => return Err(SourceError::Lost("the server closed the connection".to_owned())),
                Err(_) => match tokio::time::timeout(ANSWER, self.ask.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(fault)) => return Err(lost(&fault)),
                    Err(_) => return Err(SourceError::Lost("the server does not answer any more".to_owned())),
                },
            }
        }
    }
}

impl RedisChannel {
    pub(super) fn new(settings: &RedisSettings, channel: &str, meter: &Arc<Meter>) -> Result<RedisChannel, String> {
        let (client, channel) = (client(settings)?, channel.to_owned());
        Ok(RedisChannel { client, channel, meter: Arc::clone(meter), messages: None, opened: 0 })
    }
}

impl Source for RedisChannel {
    fn promise(&self) -> Promise {
        Promise::BestEffort(
            "Redis keeps nothing for a channel nobody listens to; use redis-stream for what must not be lost",
        )
    }

    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let mut pubsub = self.client.get_async_pubsub().await.map_err(|fault| lost(&fault))?;
            let subscribed = if self.channel.contains(['*', '?', '[']) {
                pubsub.psubscribe(&self.channel).await
            } else {
                pubsub.subscribe(&self.channel).await
            };
            subscribed.map_err(|fault| lost(&fault))?;
            let (ask, from) = pubsub.split();
            self.messages = Some(Messages::new(from, ask, &self.meter));
            self.opened += 1;
            if self.opened > 1 {
                self.meter.note(format!("{} gaps: what was said while nobody listened is lost", self.opened - 1));
            }
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let messages = self.messages.as_mut().ok_or_else(not_open)?;
            let mut batch = Batch::default();
            let (mut count, mut bytes) = (0, 0);
            while count < MESSAGES && bytes < BATCH_BYTES {
                let message = match count {
                    0 => messages.next().await?,
                    // What ends meanwhile is met again with the next read.
                    _ => match messages.here() {
                        Some(message) => message,
                        None => break,
                    },
                };
                count += 1;
                let channel = message.get_channel_name().to_owned();
                let (text, body) = words(message.get_payload_bytes().to_vec());
                let fields = vec![("broker", Value::from("redis")), ("topic", Value::from(channel.as_str()))];
                let event = Inbound { key: None, at: Utc::now(), text, fields, body };
                bytes += event.size();
                match batch.parts.last_mut() {
                    Some(part) if *part.lane == *channel => part.events.push(event),
                    _ => batch.parts.push(Part {
                        lane: Arc::from(channel),
                        shared: None,
                        events: vec![event],
                        position: None,
                    }),
                }
            }
            Ok(batch)
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn idle<'a>(&'a mut self, _: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            // Nobody keeps what is said now; nor do we, for as long as there is no room.
            if let Some(messages) = &mut self.messages {
                messages.drop_all(&self.meter);
            }
            Ok(())
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        if let Some(mut messages) = self.messages.take() {
            messages.drop_all(&self.meter);
        }
        Box::pin(async {})
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &str, bytes: usize) -> StreamId {
        let map = [("data", "x".repeat(bytes)), ("more", "y".to_owned())];
        let map = map.map(|(name, text)| (name.to_owned(), redis::Value::BulkString(text.into_bytes())));
        StreamId { id: id.to_owned(), map: map.into(), ..StreamId::default() }
    }

    const SUBSCRIBED: &str = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";

    /// A server that lets somebody subscribe, answers so many PINGs, and then says what it is given.
    async fn server(pings: u32, more: Vec<u8>) -> RedisChannel {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut buffer, mut asked) = (vec![0; 4096], 0);
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let said = String::from_utf8_lossy(&buffer[..count]).to_uppercase();
                for command in said.split('*').skip(1) {
                    let ping = command.contains("PING");
                    asked += u32::from(ping);
                    let answer = match (ping, command.contains("SUBSCRIBE")) {
                        (true, _) if asked > pings => continue,
                        (true, _) => "*2\r\n$4\r\npong\r\n$0\r\n\r\n",
                        (_, true) => SUBSCRIBED,
                        _ => "+OK\r\n",
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer == SUBSCRIBED {
                        stream.write_all(&more).await.unwrap();
                    }
                }
            }
        });
        let settings = serde_json::from_value(serde_json::json!({"url": url})).unwrap();
        let mut channel = RedisChannel::new(&settings, "news", &Arc::default()).unwrap();
        channel.open(&Positions::new()).await.unwrap();
        channel
    }

    #[tokio::test]
    async fn a_server_that_is_gone_without_a_word_is_found_out() {
        let mut channel = server(1, Vec::new()).await;
        let began = Instant::now();
        tokio::time::pause();
        let fault = channel.next().await.unwrap_err();
        assert_eq!(fault, SourceError::Lost("the server does not answer any more".to_owned()));
        // Once more than the PING that was answered, if that was in time.
        assert!(began.elapsed() >= QUIET + ANSWER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_channel_that_says_more_than_is_read_takes_only_so_much_memory_and_the_rest_is_counted() {
        for (bytes, count, kept) in [(10, 3 * WAITING, WAITING), (1 << 20, 40, WAITING_BYTES >> 20)] {
            let message = format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${bytes}\r\n{}\r\n", "x".repeat(bytes));
            let mut channel = server(9, message.repeat(count).into_bytes()).await;
            // Nobody reads meanwhile.
            let meter = Arc::clone(&channel.meter);
            let all_here = async {
                while (meter.dropped() as usize) < count - kept {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), all_here).await.unwrap();
            let mut heard = 0;
            while heard < kept {
                heard += channel.next().await.unwrap().count();
            }
            assert_eq!((heard, meter.dropped() as usize), (kept, count - kept), "{bytes} bytes each");
        }
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
