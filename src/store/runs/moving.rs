//! Takes records from a file along to a server, once.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::db::{Cell, Db};
use super::open::{At, file};
use super::writer::Runs;
use super::{RunsError, schema};

/// What is taken along, each after what it belongs to. Whose the records are is not.
const TABLES: [&str; 19] = [
    "app",
    "environment",
    "pipeline",
    "run",
    "stage",
    "attempt",
    "log_segment",
    "event",
    "outbox",
    "deployment",
    "approval",
    "env_lock",
    "freeze",
    "incident",
    "artifact",
    "booking",
    "rollup",
    "image",
    "counter",
];

impl Runs {
    /// Writes all that is in the file at `from` to records that have nothing yet, whole or not at all; how many rows. The file is
    /// brought up to date for it, and stays.
    pub async fn take_along(from: &Path, to: &At) -> Result<usize, RunsError> {
        let from = file(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::migrate(&from)?;
        let runs = Runs::begin(to).await?;
        runs.alone(Duration::ZERO).await?;
        let there = to.to_string();
        let done = runs.alter(move |db| {
            db.writing(|db| {
                if db.number("SELECT COUNT(*) FROM app", &[])? > 0 {
                    return Err(RunsError::Migration(format!("there are runs in {there} already; name an empty one")));
                }
                let Db::Sqlite(from) = &from else { return Err(RunsError::Closed) };
                TABLES.iter().map(|table| copied(from, db, table)).sum()
            })
        });
        let done = done.await;
        runs.release().await;
        done
    }
}

/// Copies one table; how many rows.
fn copied(from: &Connection, to: &Db, table: &str) -> Result<usize, RunsError> {
    let mut types = from.prepare("SELECT type FROM pragma_table_info(?1) ORDER BY cid")?;
    let texts: Vec<bool> =
        types.query_map([table], |row| Ok(row.get::<_, String>(0)? == "TEXT"))?.collect::<rusqlite::Result<_>>()?;
    // Lines of the incident log point to earlier ones.
    let mut statement = from.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1"))?;
    let names: Vec<String> = statement.column_names().iter().map(|name| format!("\"{name}\"")).collect();
    let places: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let sql = format!("INSERT INTO \"{table}\" ({}) VALUES ({})", names.join(", "), places.join(", "));
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let mut cells = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            cells.push(match row.get_ref(at)? {
                ValueRef::Null if *text => Cell::Text(None),
                ValueRef::Null => Cell::Number(None),
                ValueRef::Integer(number) => Cell::Number(Some(number)),
                other => Cell::Text(Some(other.as_str().map_err(rusqlite::Error::from)?)),
            });
        }
        count += to.execute(&sql, &cells)?;
    }
    Ok(count)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::store::runs::tests::postgresql::Postgresql;
    use crate::store::runs::tests::{Ground, story};

    pub(in crate::store::runs) async fn what_is_in_a_file_is_taken_along_once(server: &Arc<Postgresql>) {
        let (old, new) = (Ground::file(), Ground::schema(server).await);
        story::everything_that_is_asked_can_be_asked(&old).await;
        let At::File(path) = &old.at else { panic!("{old:?} is no file", old = old.at) };
        let count = Runs::take_along(path, &new.at).await.unwrap();
        // PostgreSQL has another letter for the one it does not know, and a table of hashes has no order.
        let loaded = async |ground: &Ground| {
            let mut loaded = ground.open().await.load(0).await.unwrap();
            let events: BTreeMap<i64, i64> = loaded.events.drain().collect();
            format!("{loaded:#?} {events:?}").replace("\\0", "\u{fffd}")
        };
        assert_eq!(loaded(&new).await, loaded(&old).await);
        assert!(count > 30, "{count}");
        let again = Runs::take_along(path, &new.at).await.unwrap_err().to_string();
        assert!(again.contains("there are runs in PostgreSQL's database postgres on 127.0.0.1 already"), "{again}");
        // Nothing is forgotten when a table is added.
        let tables = |db: &Db| {
            let sql = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
            db.all(sql, &[], |row| row.get::<String>(0))
        };
        let mut known: Vec<&str> = TABLES.iter().copied().chain(["owner", "schema_migration"]).collect();
        known.sort_unstable();
        assert_eq!(old.open().await.read(tables).await.unwrap(), known);
    }
}
