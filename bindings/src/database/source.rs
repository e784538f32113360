//! How the rows of a query, or the documents of a collection, are looked at.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{Borrowed, Inbound, Meter, SourceError, Value};
use serde::{Deserialize, Serialize};

use super::listen::Ear;
#[cfg(feature = "mongodb")]
use super::mongo::Mongo;
use super::settings::{DatabaseSettings, On, QuerySettings};
use super::sql::{Address, Sql, fault_of};
use crate::diff::{Difference, KNOWN_MAX, Known, key_of};
use crate::poll::{Found, Look};

/// What is remembered over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    cursor: Option<Value>,
    known: Known,
    /// Where the cursor stood, and since when, in milliseconds since 1970; with `overlap` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<(i64, Value)>,
}

/// How much longer than asked for what was passed may be asked for again, as a share.
const COARSE: i64 = 16;
/// The longest overlap: the journal forgets what it has seen.
const OVERLAP_MAX: Duration = Duration::from_secs(86_400);

/// Where the cursor stood so long ago.
fn floor(marks: &[(i64, Value)], now: i64, overlap: i64) -> Option<&Value> {
    marks.iter().rev().find(|(at, _)| *at <= now - overlap).or(marks.first()).map(|(_, value)| value)
}

/// Notes where the cursor stands, if it has moved and that was not noted just now; what is older than is needed goes.
fn mark(marks: &mut Vec<(i64, Value)>, cursor: &Value, now: i64, overlap: i64) {
    if marks.last().is_some_and(|(at, last)| last == cursor || now - at < overlap / COARSE) {
        return;
    }
    let needed = marks.iter().rposition(|(at, _)| *at <= now - overlap).unwrap_or(0);
    marks.drain(..needed);
    marks.push((now, cursor.clone()));
}

/// Whom it asks.
enum Base {
    Sql {
        address: Address,
        open: Option<Sql>,
        ear: Option<Ear>,
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
    /// With `overlap`: where this pass over what is asked for again has come to, what it gave, and what the one before
    /// gave.
    pass: Option<Value>,
    given: BTreeSet<String>,
    before: BTreeSet<String>,
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
            Base::Sql { address, open: None, ear: None }
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
        if !query.overlap.is_zero() && query.on != On::Cursor {
            return Err(wrong("overlap is for on: cursor; the others compare all there is"));
        }
        if query.overlap > OVERLAP_MAX {
            return Err(wrong("overlap: at most 1day"));
        }
        let (database, query) = (database.clone(), query.clone());
        let (pass, given, before) = (None, BTreeSet::new(), BTreeSet::new());
        Ok(Rows { name: name.to_owned(), database, query, base, meter: Arc::clone(meter), pass, given, before })
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

    /// The rows behind a place, as many as are taken at once; whether there are more; and the place behind them.
    async fn rows_behind(&mut self, cursor: &Value) -> Result<(Vec<Value>, bool, Option<Value>), SourceError> {
        let mut rows = self.ask(Some(cursor)).await?;
        let column = self.query.cursor.as_deref().unwrap_or("");
        // The last row is where we are: rows in another order would be passed over, or told again for ever.
        let number = |row: &Value| row.get(column).and_then(Value::as_f64);
        if !rows.is_sorted_by(|one, next| number(one).zip(number(next)).is_none_or(|(one, next)| one <= next)) {
            let text = format!("the rows are not in the order of {column}; write ORDER BY {column} in the query");
            return Err(SourceError::Wrong(text));
        }
        let more = rows.len() > self.query.rows;
        if more {
            let whole = settled(&rows, column).ok_or_else(|| {
                SourceError::Wrong(format!(
                    "more than {} rows have one and the same {column}; raise `rows`, or use a column that tells them apart",
                    self.query.rows
                ))
            })?;
            rows.truncate(whole);
        }
        let missing = || SourceError::Wrong(format!("the query gives no {column}"));
        let place = rows.last().map(|last| last.get(column).cloned().ok_or_else(missing)).transpose()?;
        Ok((rows, more, place))
    }

    async fn behind_cursor(&mut self, mut memory: Memory) -> Result<(Vec<Difference>, Memory, bool), SourceError> {
        let cursor = memory.cursor.clone().or_else(|| self.query.start.clone()).unwrap_or(Value::Null);
        let overlap = i64::try_from(self.query.overlap.as_millis()).unwrap_or(i64::MAX);
        let (rows, more) = if overlap == 0 {
            let (rows, more, place) = self.rows_behind(&cursor).await?;
            memory.cursor = place.or(memory.cursor);
            (rows, more)
        } else {
            self.again(cursor, overlap, &mut memory).await?
        };
        let column = self.query.cursor.as_deref().unwrap_or("");
        let key = |row: &Value| row.get(column).map(ToString::to_string).unwrap_or_default();
        let found = rows.into_iter().map(|item| Difference { event: "added", key: key(&item), item });
        Ok((found.collect(), memory, more))
    }

    /// Rows behind where the cursor stood a while ago, without those of the pass before. What is remembered moves when a
    /// pass is over: who dies in one begins it anew, and the journal knows what it has.
    async fn again(
        &mut self,
        cursor: Value,
        overlap: i64,
        memory: &mut Memory,
    ) -> Result<(Vec<Value>, bool), SourceError> {
        let now = Utc::now().timestamp_millis();
        let from = self.pass.clone().unwrap_or_else(|| floor(&memory.marks, now, overlap).unwrap_or(&cursor).clone());
        let (mut rows, more, place) = self.rows_behind(&from).await?;
        rows.retain(|row| {
            let key = self.event_key(row);
            let new = !self.before.contains(&key) && !self.given.contains(&key);
            if self.given.len() < KNOWN_MAX {
                self.given.insert(key);
            }
            new
        });
        if more {
            self.pass = place;
            return Ok((rows, true));
        }
        let last = place.or(self.pass.take()).or_else(|| memory.cursor.clone());
        (self.pass, self.before) = (None, std::mem::take(&mut self.given));
        if memory.marks.is_empty() {
            memory.marks.push((0, cursor));
        }
        if let Some(last) = last {
            mark(&mut memory.marks, &last, now, overlap);
            memory.cursor = Some(last);
        }
        Ok((rows, false))
    }

    /// What the journal knows a row by, where it may be read again.
    fn event_key(&self, row: &Value) -> String {
        let cursor = self.query.cursor.as_deref().and_then(|column| row.get(column)).unwrap_or(&Value::Null);
        format!("{}/{cursor}/{}", self.name, key_of(row, &self.query.key))
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
    if query.listen.is_some() && !matches!(address, Address::Postgres(..)) {
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
                Base::Sql { address, open, ear } => {
                    let opened = address.connect(self.database.read_only).await;
                    *open = Some(opened.map_err(|fault| fault_of(&fault))?);
                    if let (Some(channel), Address::Postgres(options, _)) = (&self.query.listen, &*address) {
                        let heard = Ear::open(options, channel).await;
                        *ear = Some(heard.map_err(|fault| fault_of(&fault))?);
                    }
                }
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.open().await?,
            }
            // What was given and is not in the journal is found again.
            self.pass = None;
            self.given.clear();
            self.before.clear();
            self.meter.note(format!("every {:?}", self.query.every));
            Ok(())
        })
    }

    fn woken(&mut self) -> Borrowed<'_, Result<(), SourceError>> {
        Box::pin(async move {
            match &mut self.base {
                // One that is lost is opened anew, and then it is looked at once: something may have been missed.
                Base::Sql { ear: Some(ear), .. } => ear.next().await.map(drop),
                Base::Sql { .. } => std::future::pending().await,
                #[cfg(feature = "mongodb")]
                Base::Mongo(mongo) => mongo.woken().await,
            }
        })
    }

    fn look(&mut self, memory: Memory) -> Borrowed<'_, Result<Found<Memory>, SourceError>> {
        Box::pin(async move {
            let (found, memory, more) = self.compare(memory).await?;
            let again = !self.query.overlap.is_zero();
            let event = |one: Difference| {
                let key = again.then(|| self.event_key(&one.item).into_boxed_str());
                Inbound { key, ..one.inbound("query", &self.name) }
            };
            let events = found.into_iter().map(event).collect();
            Ok(Found { events, memory, again: more.then_some(Duration::ZERO), partial: more })
        })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async move {
            match &mut self.base {
                Base::Sql { open, ear, .. } => {
                    *ear = None;
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

    #[test]
    fn where_the_cursor_stood_a_while_ago_is_known_and_what_is_older_is_forgotten() {
        let at = |marks: &[(i64, Value)], now| floor(marks, now, 160).cloned();
        let mut marks = vec![(0, json!(0))];
        mark(&mut marks, &json!(5), 1000, 160);
        assert_eq!((at(&marks, 1100), at(&marks, 1160)), (Some(json!(0)), Some(json!(5))));
        mark(&mut marks, &json!(6), 1005, 160);
        mark(&mut marks, &json!(6), 1020, 160);
        assert_eq!(marks, [(0, json!(0)), (1000, json!(5)), (1020, json!(6))], "so often, and no more");
        mark(&mut marks, &json!(7), 1200, 160);
        assert_eq!(marks, [(1020, json!(6)), (1200, json!(7))]);
        mark(&mut marks, &json!(7), 9999, 160);
        assert_eq!(marks.len(), 2, "what rests is noted once");
    }

    #[tokio::test]
    async fn rows_in_another_order_than_the_cursors_are_refused_with_what_to_write() {
        let (_dir, mut db, mut rows) = orders("0s").await;
        rows.query.sql = "SELECT id FROM orders WHERE id > :cursor ORDER BY id DESC".to_owned();
        insert(&mut db, 9).await;
        assert_eq!(told(&mut rows, &mut Memory::default()).await.len(), 1, "one is in any order");
        insert(&mut db, 10).await;
        let fault = rows.look(Memory::default()).await.err().unwrap().to_string();
        assert!(fault.contains("write ORDER BY id in the query"), "{fault}");
    }

    async fn orders(overlap: &str) -> (tempfile::TempDir, sqlx::SqliteConnection, Rows) {
        use sqlx::ConnectOptions;
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/shop.db", dir.path().display());
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let mut db = options.create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE orders(id INTEGER PRIMARY KEY)").execute(&mut db).await.unwrap();
        let database = serde_json::from_value(json!({"url": url})).unwrap();
        let query = serde_json::from_value(json!({
            "sql": "SELECT id FROM orders WHERE id > :cursor ORDER BY id",
            "on": "cursor", "cursor": "id", "start": 0, "rows": 3, "overlap": overlap,
        }));
        let mut rows = Rows::new("orders", &database, &query.unwrap(), &Arc::default()).unwrap();
        rows.open().await.unwrap();
        (dir, db, rows)
    }

    async fn insert(db: &mut sqlx::SqliteConnection, id: i64) {
        sqlx::query("INSERT INTO orders VALUES (?)").bind(id).execute(db).await.unwrap();
    }

    /// Looks until there is nothing more at once; the keys of what is told.
    async fn told(rows: &mut Rows, memory: &mut Memory) -> Vec<(String, Option<Box<str>>)> {
        let mut out = Vec::new();
        loop {
            let found = rows.look(memory.clone()).await.unwrap();
            *memory = found.memory;
            out.extend(found.events.into_iter().map(|event| (event.text, event.key)));
            if found.again.is_none() {
                return out;
            }
        }
    }

    #[tokio::test]
    async fn any_change_of_a_result_is_one_event_with_all_of_it_where_it_is_compared_as_a_whole() {
        let (_dir, mut db, rows) = orders("0s").await;
        let query = json!({"sql": "SELECT count(*) AS n, max(id) AS last FROM orders", "on": "hash"});
        let (database, query) = (rows.database.clone(), serde_json::from_value(query).unwrap());
        let mut rows = Rows::new("figures", &database, &query, &Arc::default()).unwrap();
        rows.open().await.unwrap();
        let mut memory = Memory::default();
        insert(&mut db, 3).await;
        assert!(told(&mut rows, &mut memory).await.is_empty(), "the first look is quiet");
        assert!(told(&mut rows, &mut memory).await.is_empty(), "it is the same");
        insert(&mut db, 5).await;
        let found = told(&mut rows, &mut memory).await;
        assert_eq!(found, [(json!([{"n": 2, "last": 5}]).to_string(), None)]);
        // Also over a restart.
        memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        assert!(told(&mut rows, &mut memory).await.is_empty());
    }

    #[tokio::test]
    async fn a_row_that_is_committed_late_is_found_and_no_other_is_told_twice() {
        let (_dir, mut db, mut rows) = orders("1h").await;
        for id in [1, 2, 3, 4, 5, 6, 8, 9] {
            insert(&mut db, id).await;
        }
        let mut memory = Memory::default();
        let first = told(&mut rows, &mut memory).await;
        assert_eq!(first.len(), 8);
        assert!(told(&mut rows, &mut memory).await.is_empty());
        insert(&mut db, 7).await;
        let late = told(&mut rows, &mut memory).await;
        assert_eq!(late[0].0, json!({"id": 7}).to_string());
        assert_eq!(late.len(), 1);
        // After a restart what is asked for again has the keys that the journal knows.
        memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        rows.open().await.unwrap();
        let again: BTreeSet<_> = told(&mut rows, &mut memory).await.into_iter().collect();
        assert_eq!(again, first.into_iter().chain(late).collect());
        assert!(again.iter().all(|(_, key)| key.is_some()));
    }

    #[tokio::test]
    async fn without_an_overlap_what_is_committed_late_is_passed_over_as_the_documents_say() {
        let (_dir, mut db, mut rows) = orders("0s").await;
        let mut memory = Memory::default();
        insert(&mut db, 2).await;
        assert_eq!(told(&mut rows, &mut memory).await.len(), 1);
        insert(&mut db, 1).await;
        assert!(told(&mut rows, &mut memory).await.is_empty());
    }
}
