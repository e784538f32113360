//! The sources of `database`: rows of a query, and notifications of PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    Batch, Borrowed, Fate, Inbound, Meter, Part, Positions, Promise, Source, SourceError, Value,
};
use serde::{Deserialize, Serialize};
use sqlx::Error;
use sqlx::postgres::PgListener;
use tokio::time::Instant;

use super::settings::{DatabaseSettings, On, QuerySettings};
use super::sql::{Address, Sql};
use crate::diff::{Difference, Known};

/// What is remembered over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    cursor: Option<Value>,
    known: Known,
}

/// What went wrong, without what it was connected with.
fn fault_of(fault: &Error) -> SourceError {
    match fault {
        Error::Database(told) if told.is_unique_violation() => SourceError::Wrong(told.message().to_owned()),
        Error::Database(told) => {
            SourceError::Wrong(format!("{} ({})", told.message(), told.code().unwrap_or_default()))
        }
        other => SourceError::Lost(other.to_string()),
    }
}

pub(super) struct Rows {
    name: String,
    database: DatabaseSettings,
    query: QuerySettings,
    address: Address,
    meter: Arc<Meter>,
    open: Option<Sql>,
    listener: Option<PgListener>,
    memory: Memory,
    next: Option<Memory>,
    due: Instant,
}

impl Rows {
    pub(super) fn new(
        name: &str,
        database: &DatabaseSettings,
        query: &QuerySettings,
        meter: &Arc<Meter>,
    ) -> Result<Rows, String> {
        let address = Address::of(database)?;
        let wrong = |text: &str| Err(format!("query {name}: {text}"));
        if query.on == On::Cursor && (query.cursor.is_none() || query.start.is_none() || !query.sql.contains(":cursor"))
        {
            return wrong(
                "on: cursor needs the column under `cursor`, where it begins under `start`, and :cursor in the SQL",
            );
        }
        if query.on != On::Cursor && query.sql.contains(":cursor") {
            return wrong("the SQL holds :cursor; say on: cursor");
        }
        if query.listen.is_some() && !matches!(address, Address::Postgres(_)) {
            return wrong("only PostgreSQL can be listened to");
        }
        if query.rows == 0 {
            return wrong("rows: at least 1");
        }
        if query.every < Duration::from_millis(100) {
            return wrong("every: at most every 100ms");
        }
        Ok(Rows {
            name: name.to_owned(),
            database: database.clone(),
            query: query.clone(),
            address,
            meter: Arc::clone(meter),
            open: None,
            listener: None,
            memory: Memory::default(),
            next: None,
            due: Instant::now(),
        })
    }

    /// Waits for the time, or for a notification.
    async fn wait(&mut self) -> Result<(), SourceError> {
        let due = self.due;
        let Some(listener) = &mut self.listener else {
            tokio::time::sleep_until(due).await;
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => Ok(()),
            // Lost and connected again is a reason to look, too: something may have been missed.
            told = listener.try_recv() => told.map(drop).map_err(|fault| fault_of(&fault)),
        }
    }

    async fn ask(&mut self, cursor: Option<&Value>) -> Result<Vec<Value>, SourceError> {
        let open = self.open.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
        let asked = open.ask(&self.query.sql, cursor, self.query.rows.max(1));
        match tokio::time::timeout(self.database.timeout, asked).await {
            Ok(rows) => rows.map_err(|fault| fault_of(&fault)),
            Err(_) => Err(SourceError::Lost(format!("the query took longer than {:?}", self.database.timeout))),
        }
    }

    /// What changed, and what is to be remembered.
    async fn poll(&mut self) -> Result<(Vec<Difference>, Memory), SourceError> {
        let mut memory = self.memory.clone();
        match self.query.on {
            On::Cursor => {
                let cursor = memory.cursor.clone().or_else(|| self.query.start.clone()).unwrap_or(Value::Null);
                let rows = self.ask(Some(&cursor)).await?;
                let column = self.query.cursor.as_deref().unwrap_or("");
                if let Some(last) = rows.last() {
                    let value = last.get(column).cloned();
                    memory.cursor =
                        Some(value.ok_or_else(|| SourceError::Wrong(format!("the query gives no column {column}")))?);
                }
                // There may be more behind the last row that was taken.
                if rows.len() >= self.query.rows {
                    self.due = Instant::now();
                }
                let key = |row: &Value| row.get(column).map(ToString::to_string).unwrap_or_default();
                let found = rows.into_iter().map(|item| Difference { event: "added", key: key(&item), item });
                Ok((found.collect(), memory))
            }
            On::Rows => {
                let rows = self.ask(None).await?;
                if rows.len() >= self.query.rows {
                    let most = self.query.rows;
                    return Err(SourceError::Wrong(format!(
                        "there are {most} rows or more, too many to compare; raise `rows`, or use a cursor"
                    )));
                }
                let found = memory.known.list(&rows, &self.query.key, self.query.first).map_err(SourceError::Wrong)?;
                Ok((found, memory))
            }
            On::Hash => {
                let rows = Value::Array(self.ask(None).await?);
                let found = memory.known.whole(&rows, self.query.first);
                Ok((found.into_iter().collect(), memory))
            }
        }
    }
}

fn inbound(name: &str, one: Difference) -> Inbound {
    let text = if one.item.is_null() { one.key.clone() } else { one.item.to_string() };
    let mut fields =
        vec![("query", Value::from(name)), ("event", Value::from(one.event)), ("key", Value::from(one.key))];
    if !one.item.is_null() {
        fields.push(("data", one.item));
    }
    Inbound { key: None, at: Utc::now(), text, fields, body: Vec::new() }
}

impl Source for Rows {
    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.memory = positions.get("").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            self.next = None;
            self.due = Instant::now();
            self.open = Some(self.address.connect(self.database.read_only).await.map_err(|fault| fault_of(&fault))?);
            if let Some(channel) = &self.query.listen {
                self.listener =
                    Some(listen(self.database.url.reveal(), channel).await.map_err(|fault| fault_of(&fault))?);
            }
            self.meter.note(format!("every {:?}", self.query.every));
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            loop {
                self.wait().await?;
                self.due = Instant::now() + self.query.every;
                let (found, memory) = self.poll().await?;
                if found.is_empty() && memory == self.memory {
                    continue;
                }
                let position = serde_json::to_string(&memory).unwrap_or_default();
                let events = found.into_iter().map(|one| inbound(&self.name, one)).collect();
                self.next = Some(memory);
                let part = Part { lane: Arc::from(""), shared: None, events, position: Some(position) };
                return Ok(Batch { parts: vec![part], ..Batch::default() });
            }
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        if let Some(memory) = self.next.take() {
            self.memory = memory;
        }
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move {
            self.listener = None;
            if let Some(open) = self.open.take() {
                open.close().await;
            }
        })
    }
}

async fn listen(url: &str, channel: &str) -> Result<PgListener, Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// A channel of PostgreSQL as a source of its own.
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
