//! What the bot says: each line with what became of it, written in groups.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Place, Store, StoreError};

/// Lines that are remembered in memory.
const MEMORY: usize = 10_000;
/// Lines of a page at most.
const PAGE_MAX: i64 = 5_000;
const COLUMNS: &str = "id, network, target, text, how, class, state, at, until, changed, msgid, reason, page, cause";

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaidRow {
    /// Its number; later ones are higher.
    pub id: i64,
    /// The network.
    pub network: String,
    /// The channel or the nick.
    pub target: String,
    /// The words, secrets hidden.
    pub text: String,
    /// `say`, `notice` or `act`.
    pub how: String,
    /// `page`, `reply`, `progress` or `chatter`.
    pub class: String,
    /// `queued`, `sent`, `echoed`, `failed`, `expired`, `paged`, `private` or `left out`.
    pub state: String,
    /// When it was said, in Unix milliseconds, as are the other times.
    pub at: i64,
    /// Until when it is worth saying.
    pub until: i64,
    /// When it came into its state.
    pub changed: i64,
    /// The network's own id of the message.
    pub msgid: Option<String>,
    /// Why it is in its state, where there is a reason.
    pub reason: String,
    /// The page of the gateway it stands on.
    pub page: Option<String>,
    /// Why it was said, as JSON.
    pub cause: String,
}

/// What became of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaidChange {
    /// Its state.
    pub state: String,
    /// When.
    pub changed: i64,
    /// The network's own id of the message, once it is known.
    pub msgid: Option<String>,
    /// Why.
    pub reason: String,
}

/// What is written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaidGroup {
    /// New lines, by number.
    pub rows: BTreeMap<i64, SaidRow>,
    /// What became of older ones.
    pub changes: BTreeMap<i64, SaidChange>,
    /// On which networks lines may leave from now on, and on which not.
    pub networks: BTreeMap<String, bool>,
    /// Forget lines below this number that are dealt with.
    pub below: Option<i64>,
}

impl SaidGroup {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == SaidGroup::default()
    }
}

/// Which line is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaidWhich {
    /// The one of this number.
    Number(i64),
    /// The one that the network calls so.
    Msgid(String),
    /// The newest of a place (network and target), 1 for the last, 2 for the one before it.
    Last {
        /// The network.
        network: String,
        /// The channel or the nick.
        target: String,
        /// Which, from 1.
        nth: u32,
    },
}

/// Lines that end with the process.
#[derive(Debug, Default)]
pub(super) struct MemorySaid(Mutex<BTreeMap<i64, SaidRow>>);

/// Under which name a place is looked for.
fn place(network: &str, target: &str) -> String {
    format!("{network}/{}", target.to_ascii_lowercase())
}

impl Store {
    /// Writes a group in one transaction; ready once that is durable.
    pub async fn said(&self, group: &SaidGroup) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let mut writing = sqlite.pool.begin_with("BEGIN IMMEDIATE").await?;
                for row in group.rows.values() {
                    insert(row).execute(&mut *writing).await?;
                }
                for (id, change) in &group.changes {
                    let sql = "UPDATE said SET state = $2, changed = $3, msgid = COALESCE($4, msgid), reason = $5
                         WHERE id = $1 AND state <> 'failed' AND NOT (state = 'echoed' AND $2 = 'sent')";
                    let changing = sqlx::query(sql).bind(id).bind(&change.state).bind(change.changed);
                    changing.bind(&change.msgid).bind(&change.reason).execute(&mut *writing).await?;
                }
                for (name, sending) in &group.networks {
                    let sql = "INSERT INTO said_network (name, sending) VALUES ($1, $2)
                         ON CONFLICT (name) DO UPDATE SET sending = $2";
                    sqlx::query(sql).bind(name).bind(i64::from(*sending)).execute(&mut *writing).await?;
                }
                if let Some(below) = group.below {
                    let sql = "DELETE FROM said WHERE id < $1 AND state <> 'queued'";
                    sqlx::query(sql).bind(below).execute(&mut *writing).await?;
                }
                writing.commit().await?;
            }
            Place::Memory(memory) => {
                let mut rows = memory.said.0.lock().unwrap_or_else(PoisonError::into_inner);
                rows.extend(group.rows.iter().map(|(id, row)| (*id, row.clone())));
                for (id, change) in &group.changes {
                    let Some(row) = rows.get_mut(id) else { continue };
                    row.change(change.clone());
                }
                while rows.len() > MEMORY {
                    rows.pop_first();
                }
            }
        }
        Ok(())
    }

    /// Lines that were not dealt with when they were last written: those that wait, and pages of which nobody knows whether they arrived.
    pub async fn said_open(&self) -> Result<Vec<SaidRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = format!(
                    "SELECT {COLUMNS} FROM said WHERE state = 'queued' OR state = 'sent' AND class = 'page' AND reason = '' ORDER BY id"
                );
                let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&sqlite.pool).await?;
                rows.iter().map(row_of).collect()
            }
            // Nothing outlives a process there.
            Place::Memory(_) => Ok(Vec::new()),
        }
    }

    /// On which networks lines may have left after this was last written.
    pub async fn said_networks(&self) -> Result<BTreeMap<String, bool>, StoreError> {
        let Place::Sqlite(sqlite) = &self.place else { return Ok(BTreeMap::new()) };
        let rows = sqlx::query("SELECT name, sending FROM said_network").fetch_all(&sqlite.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? != 0))).collect()
    }

    /// The highest number of a line.
    pub async fn said_newest(&self) -> Result<i64, StoreError> {
        let Place::Sqlite(sqlite) = &self.place else { return Ok(0) };
        let row = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM said").fetch_one(&sqlite.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// One line.
    pub async fn said_line(&self, which: &SaidWhich) -> Result<Option<SaidRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let (filter, skip) = match which {
                    SaidWhich::Number(_) => ("id = $1", 0),
                    SaidWhich::Msgid(_) => ("msgid = $1", 0),
                    SaidWhich::Last { nth, .. } => ("place = $1", i64::from(nth.saturating_sub(1))),
                };
                let sql = format!("SELECT {COLUMNS} FROM said WHERE {filter} ORDER BY id DESC LIMIT 1 OFFSET {skip}");
                let query = sqlx::query(sqlx::AssertSqlSafe(sql));
                let query = match which {
                    SaidWhich::Number(id) => query.bind(*id),
                    SaidWhich::Msgid(msgid) => query.bind(msgid),
                    SaidWhich::Last { network, target, .. } => query.bind(place(network, target)),
                };
                query.fetch_optional(&sqlite.pool).await?.as_ref().map(row_of).transpose()
            }
            Place::Memory(memory) => {
                let rows = memory.said.0.lock().unwrap_or_else(PoisonError::into_inner);
                let skip = if let SaidWhich::Last { nth, .. } = which { nth.saturating_sub(1) } else { 0 };
                let mut found = rows.values().rev().filter(|row| match which {
                    SaidWhich::Number(id) => row.id == *id,
                    SaidWhich::Msgid(msgid) => row.msgid.as_ref() == Some(msgid),
                    SaidWhich::Last { network, target, .. } => {
                        place(&row.network, &row.target) == place(network, target)
                    }
                });
                Ok(found.nth(skip as usize).cloned())
            }
        }
    }

    /// The words of a page, in order.
    pub async fn said_page(&self, page: &str) -> Result<Vec<SaidRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = format!("SELECT {COLUMNS} FROM said WHERE page = $1 ORDER BY id LIMIT {PAGE_MAX}");
                let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(page).fetch_all(&sqlite.pool).await?;
                rows.iter().map(row_of).collect()
            }
            Place::Memory(memory) => {
                let rows = memory.said.0.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(rows.values().filter(|row| row.page.as_deref() == Some(page)).cloned().collect())
            }
        }
    }
}

impl SaidRow {
    /// The same line, later.
    pub fn change(&mut self, change: SaidChange) {
        if is_final(&self.state, &change.state) {
            return;
        }
        (self.state, self.changed, self.reason) = (change.state, change.changed, change.reason);
        self.msgid = change.msgid.or(self.msgid.take());
    }
}

impl SaidGroup {
    /// What became of a line that may be written before or together with that.
    pub fn changed(&mut self, line: i64, change: SaidChange) {
        if let Some(row) = self.rows.get_mut(&line) {
            return row.change(change);
        }
        let waits = self.changes.entry(line).or_default();
        if !is_final(&waits.state, &change.state) {
            let msgid = change.msgid.clone().or(waits.msgid.take());
            *waits = SaidChange { msgid, ..change };
        }
    }

    /// Gives up the oldest where there is more than this of lines or of changes; says how many.
    pub fn cut(&mut self, most: usize) -> usize {
        let before = self.rows.len() + self.changes.len();
        while self.rows.len() > most {
            self.rows.pop_first();
        }
        while self.changes.len() > most {
            self.changes.pop_first();
        }
        before - self.rows.len() - self.changes.len()
    }

    /// Takes in what was to be written before this and could not be.
    pub fn behind(&mut self, before: SaidGroup) {
        let later = std::mem::replace(self, before);
        self.rows.extend(later.rows);
        later.changes.into_iter().for_each(|(line, change)| self.changed(line, change));
        self.networks.extend(later.networks);
        self.below = later.below.or(self.below);
    }
}

/// Whether a state is not left for this one: a line that failed in one part has failed, and what the server has sent back to us is not
/// a guess any more.
fn is_final(state: &str, next: &str) -> bool {
    state == "failed" || state == "echoed" && next == "sent"
}

fn insert(row: &SaidRow) -> sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    let sql = "INSERT INTO said (id, network, target, text, how, class, state, at, until, changed, msgid, reason, page, cause, place)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (id) DO UPDATE SET state = $7, changed = $10, msgid = $11, reason = $12";
    let query = sqlx::query(sql).bind(row.id).bind(&row.network).bind(&row.target).bind(&row.text).bind(&row.how);
    let query = query.bind(&row.class).bind(&row.state).bind(row.at).bind(row.until).bind(row.changed);
    let query = query.bind(&row.msgid).bind(&row.reason).bind(&row.page).bind(&row.cause);
    query.bind(place(&row.network, &row.target))
}

fn row_of(row: &SqliteRow) -> Result<SaidRow, StoreError> {
    Ok(SaidRow {
        id: row.try_get(0)?,
        network: row.try_get(1)?,
        target: row.try_get(2)?,
        text: row.try_get(3)?,
        how: row.try_get(4)?,
        class: row.try_get(5)?,
        state: row.try_get(6)?,
        at: row.try_get(7)?,
        until: row.try_get(8)?,
        changed: row.try_get(9)?,
        msgid: row.try_get(10)?,
        reason: row.try_get(11)?,
        page: row.try_get(12)?,
        cause: row.try_get(13)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, target: &str, class: &str, state: &str) -> SaidRow {
        let (class, state) = (class.to_owned(), state.to_owned());
        SaidRow { id, network: "net".to_owned(), target: target.to_owned(), class, state, ..SaidRow::default() }
    }

    fn group(rows: &[SaidRow]) -> SaidGroup {
        SaidGroup { rows: rows.iter().map(|row| (row.id, row.clone())).collect(), ..SaidGroup::default() }
    }

    /// The same story for every place.
    async fn story(store: &Store) {
        let paged = SaidRow { page: Some("p".to_owned()), ..row(4, "#ops", "chatter", "paged") };
        let first =
            [row(1, "#Ops", "reply", "queued"), row(2, "#dev", "page", "queued"), row(3, "#ops", "reply", "queued")];
        store.said(&group(&first)).await.unwrap();
        store.said(&group(&[paged])).await.unwrap();
        let mut later = SaidGroup::default();
        let echoed = SaidChange { state: "echoed".to_owned(), msgid: Some("m".to_owned()), ..SaidChange::default() };
        later.changes.insert(1, echoed);
        later.changes.insert(2, SaidChange { state: "sent".to_owned(), ..SaidChange::default() });
        later.networks.insert("net".to_owned(), true);
        store.said(&later).await.unwrap();
        let last = |nth| SaidWhich::Last { network: "net".to_owned(), target: "#OPS".to_owned(), nth };
        let mut found = Vec::new();
        for which in [last(1), last(2), last(3), SaidWhich::Msgid("m".to_owned()), SaidWhich::Number(2), last(4)] {
            found.push(store.said_line(&which).await.unwrap().map(|row| row.id));
        }
        assert_eq!(found, [Some(4), Some(3), Some(1), Some(1), Some(2), None]);
        assert_eq!(store.said_page("p").await.unwrap().len(), 1);
        assert!(store.said_page("q").await.unwrap().is_empty());
        // What is known is not taken back by what is only guessed, and what failed in one part has failed.
        let change = |state: &str| SaidChange { state: state.to_owned(), ..SaidChange::default() };
        for (states, stands) in [
            (["echoed", "sent", "sent"], "echoed"),
            (["echoed", "failed", "echoed"], "failed"),
            (["sent", "sent", "echoed"], "echoed"),
        ] {
            let mut together = group(&[row(9, "#dev", "reply", "queued"), row(10, "#dev", "reply", "queued")]);
            store.said(&together).await.unwrap();
            together = SaidGroup::default();
            for state in states {
                together.changed(9, change(state));
                let mut alone = SaidGroup::default();
                alone.changed(10, change(state));
                store.said(&alone).await.unwrap();
            }
            store.said(&together).await.unwrap();
            for id in [9, 10] {
                assert_eq!(store.said_line(&SaidWhich::Number(id)).await.unwrap().unwrap().state, stands, "{states:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_was_said_is_found_again_by_number_place_and_id_in_memory_as_on_disk() {
        story(&Store::memory()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let store = Store::open(&path).await.unwrap();
        story(&store).await;
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        let open: Vec<i64> = store.said_open().await.unwrap().into_iter().map(|row| row.id).collect();
        assert_eq!(open, [2, 3], "what waits, and a page of which nobody knows");
        assert_eq!(store.said_newest().await.unwrap(), 10);
        assert_eq!(store.said_networks().await.unwrap().get("net"), Some(&true));
        store.said(&SaidGroup { below: Some(4), ..SaidGroup::default() }).await.unwrap();
        assert!(store.said_line(&SaidWhich::Number(1)).await.unwrap().is_none());
        assert!(store.said_line(&SaidWhich::Number(3)).await.unwrap().is_some(), "what waits is not forgotten");
        store.close().await;
    }
}
