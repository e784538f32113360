//! Lines of the incident logs of other bots, each with the hashes of its chain and the signature of the bot whose it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row;

use super::runs::IncidentRow;
use super::{Anchor, Place, Store, StoreError};

/// What a line takes beside its words: numbers, hashes, a signature.
const ROW: usize = 300;
const COLUMNS: &str = "origin, id, at, handle, app, env, run, amends, text, prev, hash, signature";

/// A line of another bot's incident log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldRow {
    /// The bot, in lower case.
    pub origin: String,
    /// The line, as it stands there.
    pub row: IncidentRow,
    /// That bot's signature over the hash, base64.
    pub signature: String,
}

/// Lines that end with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryTold(Mutex<BTreeMap<(String, i64), ToldRow>>);

impl ToldRow {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let row = &self.row;
        ROW + self.origin.len() + row.handle.len() + row.app.len() + row.env.len() + row.text.len()
    }

    fn of(row: &sqlx::sqlite::SqliteRow) -> Result<ToldRow, StoreError> {
        Ok(ToldRow {
            origin: row.try_get(0)?,
            row: IncidentRow {
                id: row.try_get(1)?,
                at: row.try_get(2)?,
                handle: row.try_get(3)?,
                app: row.try_get(4)?,
                env: row.try_get(5)?,
                run: row.try_get(6)?,
                amends: row.try_get(7)?,
                text: row.try_get(8)?,
                prev: row.try_get(9)?,
                hash: row.try_get(10)?,
            },
            signature: row.try_get(11)?,
        })
    }
}

impl Store {
    /// The newest line of each bot that is known here.
    pub async fn told_heads(&self) -> Result<BTreeMap<String, Anchor>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = "SELECT told.origin, told.id, told.hash FROM told
                     JOIN (SELECT origin, MAX(id) AS id FROM told GROUP BY origin) AS newest
                     ON newest.origin = told.origin AND newest.id = told.id";
                let rows = sqlx::query(sql).fetch_all(&sqlite.pool).await?;
                let head = |row: &sqlx::sqlite::SqliteRow| {
                    Ok((row.try_get(0)?, Anchor { id: row.try_get(1)?, hash: row.try_get(2)? }))
                };
                rows.iter().map(head).collect()
            }
            Place::Memory(memory) => {
                let rows = memory.told.rows();
                let heads = rows.values().map(|told| (told.origin.clone(), told.anchor()));
                // In order, so that the last one of a bot stays.
                Ok(heads.collect())
            }
        }
    }

    /// Lines of a bot from a number on, in order.
    pub async fn told_from(&self, origin: &str, id: i64, limit: u32) -> Result<Vec<ToldRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = format!("SELECT {COLUMNS} FROM told WHERE origin = $1 AND id >= $2 ORDER BY id LIMIT $3");
                let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(origin).bind(id).bind(i64::from(limit));
                rows.fetch_all(&sqlite.pool).await?.iter().map(ToldRow::of).collect()
            }
            Place::Memory(memory) => {
                let rows = memory.told.rows();
                let of_bot = rows.values().filter(|told| told.origin == origin && told.row.id >= id);
                Ok(of_bot.take(limit as usize).cloned().collect())
            }
        }
    }

    /// Lines of all other bots since then, the newest first; of one app if it is named.
    pub async fn told_since(&self, app: Option<&str>, since: i64, limit: u32) -> Result<Vec<ToldRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = format!(
                    "SELECT {COLUMNS} FROM told WHERE ($1 IS NULL OR app = $1) AND at >= $2 ORDER BY at DESC, id DESC LIMIT $3"
                );
                let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(app).bind(since).bind(i64::from(limit));
                rows.fetch_all(&sqlite.pool).await?.iter().map(ToldRow::of).collect()
            }
            Place::Memory(memory) => {
                let rows = memory.told.rows();
                let wanted = |told: &&ToldRow| told.row.at >= since && app.is_none_or(|app| told.row.app == app);
                let mut rows: Vec<ToldRow> = rows.values().filter(wanted).cloned().collect();
                rows.sort_by_key(|told| std::cmp::Reverse((told.row.at, told.row.id)));
                rows.truncate(limit as usize);
                Ok(rows)
            }
        }
    }

    /// Writes lines at once. Of each bot the newest are kept that together take no more than `keep` bytes.
    pub async fn put_told(&self, rows: &[ToldRow], keep: usize) -> Result<(), StoreError> {
        let sqlite = match &self.place {
            Place::Sqlite(sqlite) => sqlite,
            Place::Memory(memory) => {
                memory.told.put(rows, keep);
                return Ok(());
            }
        };
        let mut writing = sqlite.pool.begin_with("BEGIN IMMEDIATE").await?;
        for told in rows {
            let row = &told.row;
            let sql = format!(
                "INSERT INTO told ({COLUMNS}, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 ON CONFLICT (origin, id) DO NOTHING"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&told.origin)
                .bind(row.id)
                .bind(row.at)
                .bind(&row.handle)
                .bind(&row.app)
                .bind(&row.env)
                .bind(row.run)
                .bind(row.amends)
                .bind(&row.text)
                .bind(&row.prev)
                .bind(&row.hash)
                .bind(&told.signature)
                .bind(i64::try_from(told.bytes()).unwrap_or(i64::MAX))
                .execute(&mut *writing)
                .await?;
        }
        let origins: std::collections::BTreeSet<&String> = rows.iter().map(|told| &told.origin).collect();
        for origin in origins {
            let sql = "DELETE FROM told WHERE origin = $1 AND id <= (SELECT MAX(id) FROM
                     (SELECT id, SUM(bytes) OVER (ORDER BY id DESC) AS taken FROM told WHERE origin = $1) AS older WHERE taken > $2)";
            let keep = i64::try_from(keep).unwrap_or(i64::MAX);
            sqlx::query(sql).bind(origin).bind(keep).execute(&mut *writing).await?;
        }
        Ok(writing.commit().await?)
    }

    /// Forgets what a bot told; whether there was anything.
    pub async fn forget_told(&self, origin: &str) -> Result<bool, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let done = sqlx::query("DELETE FROM told WHERE origin = $1").bind(origin).execute(&sqlite.pool).await?;
                Ok(done.rows_affected() > 0)
            }
            Place::Memory(memory) => {
                let mut rows = memory.told.rows();
                let before = rows.len();
                rows.retain(|(bot, _), _| bot != origin);
                Ok(rows.len() < before)
            }
        }
    }
}

impl ToldRow {
    /// What stands for it.
    pub fn anchor(&self) -> Anchor {
        Anchor { id: self.row.id, hash: self.row.hash.clone() }
    }
}

impl MemoryTold {
    fn rows(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, i64), ToldRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, new: &[ToldRow], keep: usize) {
        let mut rows = self.rows();
        for told in new {
            rows.entry((told.origin.clone(), told.row.id)).or_insert_with(|| told.clone());
        }
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let mut gone = Vec::new();
        for (key, told) in rows.iter().rev() {
            let taken = taken.entry(key.0.clone()).or_default();
            *taken += told.bytes();
            if *taken > keep {
                gone.push(key.clone());
            }
        }
        gone.iter().for_each(|key| drop(rows.remove(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(origin: &str, id: i64, app: &str) -> ToldRow {
        let hash = format!("{origin}{id}");
        let row = IncidentRow { id, at: id * 10, app: app.to_owned(), hash, ..IncidentRow::default() };
        ToldRow { origin: origin.to_owned(), row, signature: "s".to_owned() }
    }

    /// The same story for every place.
    async fn story(store: Store) {
        let rows = [told("one", 1, "shop"), told("one", 2, "web"), told("two", 7, "shop")];
        let keep = rows[0].bytes() * 3;
        store.put_told(&rows, keep).await.unwrap();
        let changed = ToldRow { signature: "other".to_owned(), ..told("one", 1, "shop") };
        store.put_told(&[changed], keep).await.unwrap();
        assert_eq!(store.told_from("one", 1, 9).await.unwrap(), rows[..2], "what is written is never written over");
        let heads = store.told_heads().await.unwrap();
        let heads: Vec<(&str, i64)> = heads.iter().map(|(origin, head)| (origin.as_str(), head.id)).collect();
        assert_eq!(heads, [("one", 2), ("two", 7)]);
        assert_eq!(store.told_since(Some("shop"), 0, 9).await.unwrap(), [rows[2].clone(), rows[0].clone()]);
        assert_eq!(store.told_since(None, 20, 1).await.unwrap(), [rows[2].clone()]);
        let more: Vec<ToldRow> = (3..6).map(|id| told("one", id, "shop")).collect();
        store.put_told(&more, keep).await.unwrap();
        let kept: Vec<i64> = store.told_from("one", 0, 9).await.unwrap().iter().map(|told| told.row.id).collect();
        assert_eq!(kept, [3, 4, 5], "the oldest go, and no other bot's");
        assert!(store.forget_told("one").await.unwrap() && !store.forget_told("one").await.unwrap());
        assert_eq!(store.told_heads().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn lines_of_other_bots_are_kept_and_bounded_in_memory_as_on_disk() {
        story(Store::memory()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        story(store.clone()).await;
        store.close().await;
    }
}
