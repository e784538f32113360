//! A channel of PostgreSQL as a source of its own.

use std::sync::Arc;

use chrono::Utc;
use masterchief_contract::{Batch, Borrowed, Fate, Inbound, Meter, Positions, Promise, Source, SourceError, Value};
use sqlx::Error;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::Instant;

use super::settings::DatabaseSettings;
use super::sql::{Address, fault_of};
use crate::gap;

/// The receipt of a batch that tells of a gap.
const GAP: u64 = 1;

/// Opens a connection that hears what is notified on the channel.
pub(super) async fn listen(options: &PgConnectOptions, channel: &str) -> Result<PgListener, Error> {
    // One that lives as long as it can: whoever listens misses what is said between two.
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let mut listener = PgListener::connect_with(&pool.connect_with(options.clone()).await?).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// The source.
pub(super) struct Listen {
    options: Box<PgConnectOptions>,
    channel: String,
    meter: Arc<Meter>,
    listener: Option<PgListener>,
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
        Ok(Listen { options, channel, meter, listener: None, away: None, gap: None, gaps: 0 })
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
            let listener = listen(&self.options, &self.channel).await;
            self.listener = Some(listener.map_err(|fault| fault_of(&fault))?);
            if let Some(away) = self.away.take() {
                self.tell_gap(away);
            }
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let listener = self.listener.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
            if let Some(gap) = &self.gap {
                return Ok(Batch::one(Arc::from(self.channel.as_str()), gap.clone(), GAP));
            }
            let told = listener.try_recv().await.map_err(|fault| fault_of(&fault))?;
            let told = told.ok_or_else(|| SourceError::Lost("the connection was lost".to_owned()))?;
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
        if self.listener.take().is_some() {
            self.away = Some(Instant::now());
        }
        Box::pin(async {})
    }
}
