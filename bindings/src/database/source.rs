//! How the rows of a query, or the documents of a collection, are looked at.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Borrowed, Meter, SourceError, Value};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;

use super::listen::listen;
#[cfg(feature = "mongodb")]
use super::mongo::Mongo;
use super::settings::{DatabaseSettings, On, QuerySettings};
use super::sql::{Address, Sql, fault_of};
use crate::diff::{Difference, Known};
use crate::poll::{Found, Look};

/// What is remembered over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    cursor: Option<Value>,
    known: Known,
}

/// Whom it asks.
enum Base {
    Sql {
        address: Address,
        open: Option<Sql>,
        listener: Option<PgListener>,
    },
    #[cfg(feature = "mongodb")]
    Mongo(Mongo),
}

pub(super) struct Rows {
    name: String,
    database: DatabaseSettings,
    query: QuerySettings,
    base: Base,
    meter: Arc<Meter>,
}

impl Rows {
    pub(super) fn new(
        name: &str,
        database: &DatabaseSettings,
        query: &QuerySettings,
        meter: &Arc<Meter>,
    ) -> Result<Rows, String> {
        let wrong = |text: &str| format!("query {name}: {text}");
        let base = if database.url.reveal().starts_with("mongodb") {
            mongo(database, query).map_err(|fault| wrong(&fault))?
        } else {
            let address = Address::of(database)?;
            check_sql(&address, query).map_err(wrong)?;
            Base::Sql { address, open: None, listener: None }
        };
        if query.on == On::Cursor && query.cursor.is_none() {
            return Err(wrong("on: cursor needs the name of what grows, under `cursor`"));
        }
        if query.rows == 0 {
            return Err(wrong("rows: at least 1"));
        }
        if query.every < Duration::from_millis(100) {
            return Err(wrong("every: at most every 100ms"));
        }
        let (database, query) = (database.clone(), query.clone());
        Ok(Rows { name: name.to_owned(), database, query, base, meter: Arc::clone(meter) })
    }

    /// The rows; those behind the cursor, if there is one, in its order.
    async fn ask(&mut self, cursor: Option<&Value>) -> Result<Vec<Value>, SourceError> {
        // One more than is taken: whether there are more.
        let (query, most) = (&self.query, self.query.rows.saturating_add(1));
        let base = &mut self.base;
        let asked = async move {
            match base {
                Base::Sql { open, .. } => {
                    let open = open.as_mut().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
                    open.ask(&query.sql, cursor, most).await.map_err(|fault| fault_of(&fault))
                }
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.ask(query.cursor.as_deref().zip(cursor), most).await,
            }
        };
        match tokio::time::timeout(self.database.timeout, asked).await {
            Ok(rows) => rows,
            Err(_) => Err(SourceError::Lost(format!("the query took longer than {:?}", self.database.timeout))),
        }
    }

    async fn behind_cursor(&mut self, mut memory: Memory) -> Result<(Vec<Difference>, Memory, bool), SourceError> {
        let cursor = memory.cursor.clone().or_else(|| self.query.start.clone()).unwrap_or(Value::Null);
        let mut rows = self.ask(Some(&cursor)).await?;
        let more = rows.len() > self.query.rows;
        let column = self.query.cursor.as_deref().unwrap_or("");
        if more {
            let whole = settled(&rows, column).ok_or_else(|| {
                SourceError::Wrong(format!(
                    "more than {} rows have one and the same {column}; raise `rows`, or use a column that tells them apart",
                    self.query.rows
                ))
            })?;
            rows.truncate(whole);
        }
        if let Some(last) = rows.last() {
            let value = last.get(column).cloned();
            memory.cursor = Some(value.ok_or_else(|| SourceError::Wrong(format!("the query gives no {column}")))?);
        }
        let key = |row: &Value| row.get(column).map(ToString::to_string).unwrap_or_default();
        let found = rows.into_iter().map(|item| Difference { event: "added", key: key(&item), item });
        Ok((found.collect(), memory, more))
    }

    /// What changed, what is to be remembered, and whether there may be more at once.
    async fn compare(&mut self, mut memory: Memory) -> Result<(Vec<Difference>, Memory, bool), SourceError> {
        match self.query.on {
            On::Cursor => self.behind_cursor(memory).await,
            On::Rows => {
                let rows = self.ask(None).await?;
                if rows.len() > self.query.rows {
                    let most = self.query.rows;
                    return Err(SourceError::Wrong(format!(
                        "there are more than {most} rows, too many to compare; raise `rows`, or use a cursor"
                    )));
                }
                let found = memory.known.list(&rows, &self.query.key, self.query.first).map_err(SourceError::Wrong)?;
                Ok((found, memory, false))
            }
            On::Hash => {
                let rows = Value::Array(self.ask(None).await?);
                let found = memory.known.whole(&rows, self.query.first);
                Ok((found.into_iter().collect(), memory, false))
            }
        }
    }
}

/// What a query in SQL has to say.
fn check_sql(address: &Address, query: &QuerySettings) -> Result<(), &'static str> {
    if query.sql.is_empty() || query.find.is_some() || query.watch {
        return Err("write the statement under `sql`; `find` and `watch` are MongoDB's");
    }
    if query.on == On::Cursor && (query.start.is_none() || !query.sql.contains(":cursor")) {
        return Err(
            "on: cursor needs the column under `cursor`, where it begins under `start`, and :cursor in the SQL",
        );
    }
    if query.on != On::Cursor && query.sql.contains(":cursor") {
        return Err("the SQL holds :cursor; say on: cursor");
    }
    if query.listen.is_some() && !matches!(address, Address::Postgres(_)) {
        return Err("only PostgreSQL can be listened to");
    }
    Ok(())
}

#[cfg(feature = "mongodb")]
fn mongo(database: &DatabaseSettings, query: &QuerySettings) -> Result<Base, String> {
    if !query.sql.is_empty() || query.listen.is_some() {
        return Err("`sql` and `listen` are not MongoDB's; write find: {collection: ..., filter: {...}}".to_owned());
    }
    let find = query.find.as_ref().ok_or("say what is looked for, as in find: {collection: orders}")?;
    Ok(Base::Mongo(Mongo::new(database, find, query.watch)?))
}

#[cfg(not(feature = "mongodb"))]
fn mongo(_: &DatabaseSettings, _: &QuerySettings) -> Result<Base, String> {
    Err("this program was built without MongoDB; build it with the feature `mongodb`".to_owned())
}

/// How many rows of a full look can be taken: a row as far as the last one may have company behind the cut, so all those
/// wait for the next look. Nothing, if that is all of them.
fn settled(rows: &[Value], column: &str) -> Option<usize> {
    let last = rows.last()?.get(column);
    let company = rows.iter().rev().take_while(|row| row.get(column) == last).count();
    Some(rows.len() - company).filter(|whole| *whole > 0)
}

impl Look for Rows {
    type Memory = Memory;

    fn every(&self) -> Duration {
        self.query.every
    }

    fn open(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async move {
            match &mut self.base {
                Base::Sql { address, open, listener } => {
                    let opened = address.connect(self.database.read_only).await;
                    *open = Some(opened.map_err(|fault| fault_of(&fault))?);
                    if let Some(channel) = &self.query.listen {
                        let heard = listen(self.database.url.reveal(), channel).await;
                        *listener = Some(heard.map_err(|fault| fault_of(&fault))?);
                    }
                }
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.open().await?,
            }
            self.meter.note(format!("every {:?}", self.query.every));
            Ok(())
        })
    }

    fn woken(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async move {
            match &mut self.base {
                // Lost and connected again is a reason to look, too: something may have been missed.
                Base::Sql { listener: Some(listener), .. } => {
                    listener.try_recv().await.map(drop).map_err(|fault| fault_of(&fault))
                }
                Base::Sql { .. } => std::future::pending().await,
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.woken().await,
            }
        })
    }

    fn look(&mut self, memory: Memory) -> Borrowed<'_, Result<Found<Memory>, SourceError>> {
        Box::pin(async move {
            let (found, memory, more) = self.compare(memory).await?;
            let events = found.into_iter().map(|one| one.inbound("query", &self.name)).collect();
            Ok(Found { events, memory, again: more.then_some(Duration::ZERO) })
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move {
            match &mut self.base {
                Base::Sql { open, listener, .. } => {
                    *listener = None;
                    if let Some(open) = open.take() {
                        open.close().await;
                    }
                }
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.close(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_that_may_have_company_behind_the_cut_wait_for_the_next_look() {
        let rows = |ids: &[i64]| ids.iter().map(|id| json!({"at": id})).collect::<Vec<_>>();
        assert_eq!(settled(&rows(&[1, 2, 3]), "at"), Some(2));
        assert_eq!(settled(&rows(&[1, 2, 2]), "at"), Some(1));
        assert_eq!(settled(&rows(&[2, 2, 2]), "at"), None);
        assert_eq!(settled(&[], "at"), None);
    }
}
