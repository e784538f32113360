//! What the bots of a mesh tell each other of people, written together with the people it is about.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use sqlx::Row;

use super::notes::notes_follow;
use super::sqlite::{kv_write, raise_users, write_audit, write_user};
use super::{AuditRow, Place, Store, StoreError, UserRow, check_size};

/// A fact, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactRow {
    /// Of whom, in lower case.
    pub handle: String,
    /// What about.
    pub about: String,
    /// Which; empty where there is one only.
    pub name: String,
    /// What it is; nothing where it is no longer so.
    pub value: Option<String>,
    /// Since when.
    pub version: i64,
    /// The bot that said so.
    pub origin: String,
    /// Its signature, base64.
    pub signature: String,
}

/// What is written at once: facts, and what they make of people.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// Facts, each in the place of an older one of the same thing.
    pub facts: Vec<FactRow>,
    /// Handles of people who are removed, before any is written.
    pub gone: Vec<String>,
    /// Handles of people who have another from now on, each with the new one, all at once. They are among those who are written; what waits
    /// for them goes with them.
    pub moved: Vec<(String, String)>,
    /// People who are written.
    pub puts: Vec<UserRow>,
    /// What is kept beside them: among what, under which name.
    pub kept: Vec<(String, String, Value)>,
    /// Rows of the audit trail about it.
    pub audit: Vec<AuditRow>,
}

impl Sharing {
    /// Handles that are nobody's before people are written.
    fn leaving(&self) -> impl Iterator<Item = &String> {
        self.gone.iter().chain(self.moved.iter().map(|(old, _)| old))
    }
}

/// Facts that end with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryFacts(Mutex<BTreeMap<(String, String, String), FactRow>>);

impl Store {
    /// All facts.
    pub async fn facts(&self) -> Result<Vec<FactRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = "SELECT handle, about, name, value, version, origin, signature FROM fact";
                let rows = sqlx::query(sql).fetch_all(&sqlite.pool).await?;
                let row = |row: &sqlx::sqlite::SqliteRow| {
                    Ok(FactRow {
                        handle: row.try_get(0)?,
                        about: row.try_get(1)?,
                        name: row.try_get(2)?,
                        value: row.try_get(3)?,
                        version: row.try_get(4)?,
                        origin: row.try_get(5)?,
                        signature: row.try_get(6)?,
                    })
                };
                rows.iter().map(row).collect()
            }
            Place::Memory(memory) => {
                Ok(memory.facts.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
            }
        }
    }

    /// Writes facts and people in one transaction, if the people are still what they were at `revision`; gives the revision then,
    /// and nothing, with nothing written, if somebody else has changed them.
    pub async fn share(&self, revision: i64, sharing: &Sharing) -> Result<Option<i64>, StoreError> {
        for (_, name, value) in &sharing.kept {
            check_size(name, value)?;
        }
        let sqlite = match &self.place {
            Place::Sqlite(sqlite) => sqlite,
            Place::Memory(memory) => {
                let gone: Vec<String> = sharing.leaving().cloned().collect();
                let changed = memory.change_users(revision, &sharing.puts, &gone);
                if changed.is_some() {
                    memory.notes.follow(&sharing.moved);
                    let mut facts = memory.facts.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let key = |row: &FactRow| (row.handle.clone(), row.about.clone(), row.name.clone());
                    facts.extend(sharing.facts.iter().map(|row| (key(row), row.clone())));
                    for (script, name, value) in &sharing.kept {
                        memory.kv_set(script, name, value, None);
                    }
                    sharing.audit.iter().for_each(|row| memory.audit(row));
                }
                return Ok(changed);
            }
        };
        let mut writing = sqlite.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "SELECT revision FROM revisions WHERE name = 'users'";
        let now: i64 = sqlx::query(sql).fetch_one(&mut *writing).await?.try_get(0)?;
        if now != revision {
            return Ok(None);
        }
        for row in &sharing.facts {
            sqlx::query(
                "INSERT INTO fact (handle, about, name, value, version, origin, signature) VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (handle, about, name) DO UPDATE SET value = $4, version = $5, origin = $6, signature = $7",
            )
            .bind(&row.handle)
            .bind(&row.about)
            .bind(&row.name)
            .bind(&row.value)
            .bind(row.version)
            .bind(&row.origin)
            .bind(&row.signature)
            .execute(&mut *writing)
            .await?;
        }
        for handle in sharing.leaving() {
            sqlx::query("DELETE FROM users WHERE handle = $1").bind(handle).execute(&mut *writing).await?;
        }
        for row in &sharing.puts {
            write_user(&mut writing, row).await?;
        }
        for (script, name, value) in &sharing.kept {
            kv_write(&mut writing, script, name, value, None).await?;
        }
        for row in &sharing.audit {
            write_audit(&mut writing, row).await?;
        }
        notes_follow(&mut writing, &sharing.moved).await?;
        let people = !sharing.puts.is_empty() || sharing.leaving().next().is_some();
        if people {
            raise_users(&mut writing).await?;
        }
        writing.commit().await?;
        Ok(Some(now + i64::from(people)))
    }
}

impl Store {
    /// Forgets facts, by handle, what they are about, and name.
    pub async fn drop_facts(&self, things: &[(String, String, String)]) -> Result<(), StoreError> {
        let sqlite = match &self.place {
            Place::Sqlite(sqlite) => sqlite,
            Place::Memory(memory) => {
                let mut facts = memory.facts.0.lock().unwrap_or_else(PoisonError::into_inner);
                facts.retain(|thing, _| !things.contains(thing));
                return Ok(());
            }
        };
        for (handle, about, name) in things {
            let sql = "DELETE FROM fact WHERE handle = $1 AND about = $2 AND name = $3";
            sqlx::query(sql).bind(handle).bind(about).bind(name).execute(&sqlite.pool).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same story for every place.
    async fn story(store: Store) {
        let fact = |version, value: Option<&str>| FactRow {
            handle: "alice".to_owned(),
            about: "flag".to_owned(),
            name: "o".to_owned(),
            value: value.map(str::to_owned),
            version,
            origin: "one".to_owned(),
            signature: "x".to_owned(),
        };
        let alice = UserRow { handle: "alice".to_owned(), flags: "o".to_owned(), ..UserRow::default() };
        let before = store.users_revision().await.unwrap();
        let sharing = Sharing { facts: vec![fact(1, Some(""))], puts: vec![alice.clone()], ..Sharing::default() };
        let kept = |value: i64| vec![("@taken".to_owned(), "hub/alice".to_owned(), Value::from(value))];
        let sharing = Sharing { kept: kept(1), ..sharing };
        let after = store.share(before, &sharing).await.unwrap().unwrap();
        assert_eq!(after, store.users_revision().await.unwrap());
        let stale = Sharing { kept: kept(2), ..sharing };
        assert_eq!(store.share(before, &stale).await.unwrap(), None, "somebody has changed the people since");
        let value = store.kv_get("@taken", "hub/alice", chrono::Utc::now()).await.unwrap();
        assert_eq!(value, Some(Value::from(1)), "what is kept is written with the people, or not at all");
        let gone = Sharing { facts: vec![fact(2, None)], gone: vec!["alice".to_owned()], ..Sharing::default() };
        assert_eq!(store.users().await.unwrap(), [alice]);
        store.share(after, &gone).await.unwrap().unwrap();
        assert_eq!((store.facts().await.unwrap(), store.users().await.unwrap().len()), (vec![fact(2, None)], 0));
        let now = store.users_revision().await.unwrap();
        let facts = Sharing { facts: vec![fact(3, Some(""))], ..Sharing::default() };
        assert_eq!(store.share(now, &facts).await.unwrap(), Some(now), "facts alone change nobody");
        store.drop_facts(&[("alice".to_owned(), "flag".to_owned(), "v".to_owned())]).await.unwrap();
        assert_eq!(store.facts().await.unwrap().len(), 1);
        store.drop_facts(&[("alice".to_owned(), "flag".to_owned(), "o".to_owned())]).await.unwrap();
        assert_eq!(store.facts().await.unwrap(), []);
    }

    #[tokio::test]
    async fn facts_and_people_are_written_together_in_memory_as_on_disk() {
        story(Store::memory()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        story(store.clone()).await;
        store.close().await;
    }
}
