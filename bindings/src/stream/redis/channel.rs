//! A channel, or a pattern of channels: Redis keeps nothing of it, and of what we hear only so much waits.

use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};
use std::time::Duration;

use chrono::Utc;
use futures_util::{Stream, StreamExt};
use masterchief_contract::{
    BATCH_BYTES, Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use redis::Client;
use redis::aio::PubSubSink;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::settings::RedisSettings;
use super::super::words;
use super::{ANSWER, client, lost, not_open};
use crate::gap;

/// How long a channel may be quiet before the server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(30);
/// Messages of a channel that wait to be written, and their bytes, at most.
const WAITING: usize = 10_000;
const WAITING_BYTES: usize = 16 << 20;
/// Messages of a channel that are written at once.
const MESSAGES: usize = 1000;
/// The receipt of a batch that tells of a gap.
const GAP: u64 = 1;

/// A channel, or a pattern of channels.
pub(in crate::stream) struct RedisChannel {
    client: Client,
    channel: String,
    meter: Arc<Meter>,
    messages: Option<Messages>,
    /// Since when nobody listens, if somebody did before.
    away: Option<Instant>,
    /// What is to be told of that.
    gap: Option<Inbound>,
    gaps: u64,
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

    /// Tells how many wait here.
    fn measure(&self, meter: &Meter) {
        meter.lag(self.from.len() as u64, "messages");
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
    pub(in crate::stream) fn new(
        settings: &RedisSettings,
        channel: &str,
        meter: &Arc<Meter>,
    ) -> Result<RedisChannel, String> {
        let (client, channel) = (client(settings)?, channel.to_owned());
        Ok(RedisChannel { client, channel, meter: Arc::clone(meter), messages: None, away: None, gap: None, gaps: 0 })
    }

    /// Nobody listened for a while. How much was said then, nobody knows.
    fn tell_gap(&mut self, away: Duration) {
        self.gaps += 1;
        self.meter.drop_count(1);
        // One that was not written yet lasted until now.
        let before = self.gap.take().and_then(|gap| gap.fields.first()?.1.get("seconds")?.as_u64());
        let seconds = away.as_secs_f64().ceil() as u64 + before.unwrap_or(0);
        let text = format!("nobody listened to {} for {seconds} s: what was said then is lost", self.channel);
        tracing::warn!(channel = %self.channel, seconds, "A channel was not heard for a while; what was said then is lost");
        let until = Utc::now().format("%F %T UTC");
        self.meter.note(format!("{} gaps, the last until {until}: {text}", self.gaps));
        let mut gap = gap::event(text, "seconds", seconds);
        gap.fields.extend([("broker", Value::from("redis")), ("topic", Value::from(self.channel.as_str()))]);
        self.gap = Some(gap);
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
            if let Some(away) = self.away.take() {
                self.tell_gap(away.elapsed());
            }
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let messages = self.messages.as_mut().ok_or_else(not_open)?;
            if let Some(gap) = &self.gap {
                return Ok(Batch::one(Arc::from(self.channel.as_str()), gap.clone(), GAP));
            }
            messages.measure(&self.meter);
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
            messages.measure(&self.meter);
            Ok(batch)
        })
    }

    fn settle<'a>(&'a mut self, receipt: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        if receipt == GAP {
            self.gap = None;
        }
        Box::pin(async { Ok(()) })
    }

    fn idle<'a>(&'a mut self, _: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            // Nobody keeps what is said now; nor do we, for as long as there is no room.
            if let Some(messages) = &mut self.messages {
                messages.drop_all(&self.meter);
                messages.measure(&self.meter);
            }
            Ok(())
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        if let Some(mut messages) = self.messages.take() {
            messages.drop_all(&self.meter);
            self.away = Some(Instant::now());
        }
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIBED: &str = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";

    async fn answer(mut stream: tokio::net::TcpStream, pings: u32, more: Vec<u8>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
                // Whoever asked may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer == SUBSCRIBED {
                    let _ = stream.write_all(&more).await;
                }
            }
        }
    }

    /// A server that lets somebody subscribe, answers so many PINGs, and then says what it is given.
    async fn server(pings: u32, more: Vec<u8>) -> RedisChannel {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, pings, more.clone()));
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
    async fn a_time_in_which_nobody_listened_counts_as_lost_and_is_an_event_until_it_is_written() {
        let said = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nwords\r\n";
        let mut channel = server(9, said.to_vec()).await;
        assert_eq!(channel.meter.dropped(), 0);
        assert_eq!(channel.next().await.unwrap().parts[0].events[0].text, "words");
        for gaps in 1..3 {
            channel.close().await;
            channel.open(&Positions::new()).await.unwrap();
            assert_eq!(channel.meter.dropped(), gaps);
            assert!(channel.meter.noted().starts_with(&format!("{gaps} gaps")), "{}", channel.meter.noted());
        }
        for _ in 0..2 {
            // Until it is written it comes again, and the second has the first in it.
            let batch = channel.next().await.unwrap();
            let [gap] = &batch.parts[0].events[..] else { panic!("{batch:?}") };
            let seconds = gap.fields[0].1["seconds"].as_u64().unwrap();
            assert!(gap.fields[0].0 == "gap" && seconds >= 2, "{gap:?}");
            assert_eq!(gap.text, format!("nobody listened to news for {seconds} s: what was said then is lost"));
            assert!(gap.fields.contains(&("topic", Value::from("news"))), "{gap:?}");
        }
        channel.settle(GAP, &[]).await.unwrap();
        assert_eq!(channel.next().await.unwrap().parts[0].events[0].text, "words");
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
}
