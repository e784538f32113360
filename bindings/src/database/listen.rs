//! A channel of PostgreSQL as a source of its own.

use std::sync::Arc;

use chrono::Utc;
use masterchief_contract::{Batch, Borrowed, Fate, Inbound, Positions, Promise, Source, SourceError, Value};
use sqlx::Error;
use sqlx::postgres::PgListener;

use super::settings::DatabaseSettings;
use super::sql::{Address, fault_of};

/// Opens a connection that hears what is notified on the channel.
pub(super) async fn listen(url: &str, channel: &str) -> Result<PgListener, Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// The source.
pub(super) struct Listen {
    settings: DatabaseSettings,
    channel: String,
    listener: Option<PgListener>,
}

impl Listen {
    pub(super) fn new(settings: &DatabaseSettings, channel: &str) -> Result<Listen, String> {
        match Address::of(settings)? {
            Address::Postgres(_) => {
                Ok(Listen { settings: settings.clone(), channel: channel.to_owned(), listener: None })
            }
            _ => Err("only PostgreSQL can be listened to".to_owned()),
        }
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
            let listener = listen(self.settings.url.reveal(), &self.channel).await;
            self.listener = Some(listener.map_err(|fault| fault_of(&fault))?);
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            let listener = self.listener.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
            let told = listener.try_recv().await.map_err(|fault| fault_of(&fault))?;
            let told = told.ok_or_else(|| SourceError::Lost("the connection was lost".to_owned()))?;
            let fields = vec![("channel", Value::from(told.channel()))];
            let event =
                Inbound { key: None, at: Utc::now(), text: told.payload().to_owned(), fields, body: Vec::new() };
            Ok(Batch::one(Arc::from(self.channel.as_str()), event, 0))
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        self.listener = None;
        Box::pin(async {})
    }
}
