//! A channel of PostgreSQL as a source of its own.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{Batch, Borrowed, Fate, Inbound, Meter, Positions, Promise, Source, SourceError, Value};
use sqlx::Error;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::time::{Instant, timeout, timeout_at};

use super::settings::DatabaseSettings;
use super::sql::{Address, fault_of};
use crate::gap;

/// The receipt of a batch that tells of a gap.
const GAP: u64 = 1;
/// How long a channel may be quiet before the server is asked whether it is still there: whoever listens sends nothing, and a
/// network that forgot the connection says nothing.
const QUIET: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that hears what is notified on a channel.
pub(super) struct Ear {
    listener: PgListener,
    /// When the other end was there for certain.
    alive: Instant,
    /// Whether it went without a word: since when, nobody knows.
    silent: bool,
}

impl Ear {
    pub(super) async fn open(options: &PgConnectOptions, channel: &str) -> Result<Ear, Error> {
        // One that lives as long as it can: whoever listens misses what is said between two.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let mut listener = PgListener::connect_with(&pool.connect_with(options.clone()).await?).await?;
        // Whoever uses it connects anew, and knows then that something may have been missed.
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(Ear { listener, alive: Instant::now(), silent: false })
    }

    /// The next notification. Whoever stops waiting for it misses none. A connection whose other end is gone without a word is
    /// found out.
    pub(super) async fn next(&mut self) -> Result<PgNotification, SourceError> {
        let heard = self.heard().await;
        self.silent = matches!(heard, Err((true, _)));
        heard.map_err(|(_, fault)| fault)
    }

    async fn heard(&mut self) -> Result<PgNotification, (bool, SourceError)> {
        loop {
            match timeout_at(self.alive + QUIET, self.listener.try_recv()).await {
                Ok(Ok(Some(told))) => {
                    self.alive = Instant::now();
                    return Ok(told);
                }
                Ok(Ok(None)) => return Err((false, SourceError::Lost("the connection was lost".to_owned()))),
                Ok(Err(fault)) => return Err((true, fault_of(&fault))),
                Err(_) => match timeout(ANSWER, sqlx::raw_sql("SELECT 1").execute(&mut self.listener)).await {
                    Ok(Ok(_)) => self.alive = Instant::now(),
                    Ok(Err(fault)) => return Err((true, fault_of(&fault))),
                    Err(_) => {
                        return Err((true, SourceError::Lost("the server does not answer any more".to_owned())));
                    }
                },
            }
        }
    }

    /// Until when it was heard for certain.
    fn until(&self) -> Instant {
        if self.silent { self.alive } else { Instant::now() }
    }
}

/// The source.
pub(super) struct Listen {
    options: Box<PgConnectOptions>,
    channel: String,
    meter: Arc<Meter>,
    ear: Option<Ear>,
    /// Since when nobody listens, if somebody did before.
    away: Option<Instant>,
    /// What is to be told of that.
    gap: Option<Inbound>,
    gaps: u64,
}

impl Listen {
    pub(super) fn new(settings: &DatabaseSettings, channel: &str, meter: &Arc<Meter>) -> Result<Listen, String> {
        let Address::Postgres(options, _) = Address::of(settings)? else {
            return Err("only PostgreSQL can be listened to".to_owned());
        };
        let (channel, meter) = (channel.to_owned(), Arc::clone(meter));
        Ok(Listen { options, channel, meter, ear: None, away: None, gap: None, gaps: 0 })
    }

    /// Nobody listened for a while. How much was notified then, nobody knows.
    fn tell_gap(&mut self, away: Instant) {
        self.gaps += 1;
        self.meter.drop_count(1);
        // One that was not written yet lasted until now.
        let before = self.gap.take().and_then(|gap| gap.fields.first()?.1.get("seconds")?.as_u64());
        let seconds = away.elapsed().as_secs_f64().ceil() as u64 + before.unwrap_or(0);
        let text = format!("nobody listened to {} for {seconds} s: what was notified then is lost", self.channel);
        tracing::warn!(channel = %self.channel, seconds, "A channel was not heard for a while; what was notified then is lost");
        let until = Utc::now().format("%F %T UTC");
        self.meter.note(format!("{} gaps, the last until {until}: {text}", self.gaps));
        let mut gap = gap::event(text, "seconds", seconds);
        gap.fields.push(("channel", Value::from(self.channel.as_str())));
        self.gap = Some(gap);
    }
}

impl Source for Listen {
    fn promise(&self) -> Promise {
        Promise::BestEffort(
            "PostgreSQL keeps no notification for somebody who is not connected; use a query with `listen` for what must not be lost",
        )
    }

    fn open<'a>(&'a mut self, _: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let ear = Ear::open(&self.options, &self.channel).await;
            self.ear = Some(ear.map_err(|fault| fault_of(&fault))?);
            if let Some(away) = self.away.take() {
                self.tell_gap(away);
            }
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let ear = self.ear.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
            if let Some(gap) = &self.gap {
                return Ok(Batch::one(Arc::from(self.channel.as_str()), gap.clone(), GAP));
            }
            let told = ear.next().await?;
            let fields = vec![("channel", Value::from(told.channel()))];
            let event =
                Inbound { key: None, at: Utc::now(), text: told.payload().to_owned(), fields, body: Vec::new() };
            Ok(Batch::one(Arc::from(self.channel.as_str()), event, 0))
        })
    }

    fn settle<'a>(&'a mut self, receipt: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        if receipt == GAP {
            self.gap = None;
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        if let Some(ear) = self.ear.take() {
            self.away = Some(ear.until());
        }
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::settings::QuerySettings;
    use super::super::source::Rows;
    use super::*;
    use crate::poll::Look;

    /// One message of the server.
    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], content].concat()
    }

    /// Lets somebody in, does as it is told, notifies whoever begins to listen, and is gone without a word when it was asked
    /// whether it is there so often.
    async fn answer(mut stream: TcpStream, left: Arc<AtomicUsize>) -> std::io::Result<()> {
        let ready = message(b'Z', b"I");
        let hello = stream.read_u32().await? as usize - 4;
        stream.read_exact(&mut vec![0; hello]).await?;
        stream.write_all(&[message(b'R', &[0; 4]), message(b'K', &[7; 8]), ready.clone()].concat()).await?;
        loop {
            let kind = stream.read_u8().await?;
            let mut said = vec![0; stream.read_u32().await? as usize - 4];
            stream.read_exact(&mut said).await?;
            let said = String::from_utf8_lossy(&said);
            let mut out = if kind == b'Q' { message(b'C', b"SET\0") } else { Vec::new() };
            out.extend(&ready);
            if said.starts_with("LISTEN") {
                out.extend(message(b'A', b"\0\0\0\x07jobs\0words\0"));
            }
            let asks = said.starts_with("SELECT 1");
            if asks && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                // All that comes is taken, as by a network in between.
                return tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop);
            }
            stream.write_all(&out).await?;
        }
    }

    /// Such a server.
    async fn server(answers: usize) -> DatabaseSettings {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://chief@{}/shop?sslmode=disable", listener.local_addr().unwrap());
        let left = Arc::new(AtomicUsize::new(answers));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&left)));
            }
        });
        serde_json::from_value(json!({"url": url})).unwrap()
    }

    /// Much longer than it may take to find out; without it, waiting on a clock that stands still never ends.
    const LATE: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_server_that_is_gone_without_a_word_is_found_out_and_the_gap_begins_when_it_was_last_heard() {
        let mut channel = Listen::new(&server(1).await, "jobs", &Arc::default()).unwrap();
        channel.open(&Positions::new()).await.unwrap();
        let batch = channel.next().await.unwrap();
        assert_eq!(batch.parts[0].events[0].text, "words");
        tokio::time::pause();
        let fault = timeout(LATE, channel.next()).await.expect("it is found out").unwrap_err();
        assert_eq!(fault, SourceError::Lost("the server does not answer any more".to_owned()));
        tokio::time::resume();
        channel.close().await;
        channel.open(&Positions::new()).await.unwrap();
        let batch = channel.next().await.unwrap();
        let gap = &batch.parts[0].events[0];
        let seconds = gap.fields[0].1["seconds"].as_u64().unwrap();
        assert!(seconds >= (QUIET + ANSWER).as_secs(), "{gap:?}");
        assert_eq!(gap.text, format!("nobody listened to jobs for {seconds} s: what was notified then is lost"));
        channel.settle(GAP, &[]).await.unwrap();
        assert_eq!(channel.next().await.unwrap().parts[0].events[0].text, "words");
        assert_eq!(channel.meter.dropped(), 1);
    }

    #[tokio::test]
    async fn a_quiet_channel_is_no_lost_one_and_what_is_notified_while_it_is_asked_is_heard() {
        let mut channel = Listen::new(&server(usize::MAX).await, "jobs", &Arc::default()).unwrap();
        channel.open(&Positions::new()).await.unwrap();
        let ear = channel.ear.as_mut().unwrap();
        // It is asked before anything is read.
        ear.alive -= QUIET;
        sqlx::raw_sql("SELECT 1").execute(&mut ear.listener).await.unwrap();
        assert_eq!(channel.next().await.unwrap().parts[0].events[0].text, "words");
        // Nothing is notified: whoever waits only goes on waiting.
        for _ in 0..3 {
            let ear = channel.ear.as_mut().unwrap();
            ear.alive -= QUIET;
            let answered = ear.alive + QUIET;
            let asked = async {
                while channel.ear.as_ref().unwrap().alive <= answered {
                    // Whoever waits may stop at any moment, and ask again.
                    let waited = timeout(Duration::from_millis(20), channel.next()).await;
                    assert!(waited.is_err(), "{waited:?}");
                }
            };
            timeout(Duration::from_secs(60), asked).await.expect("it answers");
        }
    }

    #[tokio::test]
    async fn a_query_that_is_woken_finds_it_out_too() {
        let settings = server(0).await;
        let query = json!({"sql": "SELECT 2", "listen": "jobs", "on": "rows", "every": "1h"});
        let query: QuerySettings = serde_json::from_value(query).unwrap();
        let mut rows = Rows::new("orders", &settings, &query, &Arc::default()).unwrap();
        Look::open(&mut rows).await.unwrap();
        rows.woken().await.unwrap();
        tokio::time::pause();
        let fault = timeout(LATE, rows.woken()).await.expect("it is found out").unwrap_err();
        assert_eq!(fault, SourceError::Lost("the server does not answer any more".to_owned()));
    }
}
