//! Words that wait for somebody until they are on the partyline.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};

use super::sqlite::time;
use super::{Place, Store, StoreError};

/// A note that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteRow {
    /// Its number; later ones are higher.
    pub id: i64,
    /// The handle it waits for.
    pub recipient: String,
    /// Whose it is.
    pub sender: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// The words.
    pub text: String,
}

/// Notes that end with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryNotes(Mutex<Kept>);

/// The notes, and the number of the newest there ever was.
#[derive(Debug, Default)]
struct Kept {
    rows: Vec<NoteRow>,
    last: i64,
}

impl MemoryNotes {
    /// What waits for who had one handle waits for who has the other now, all at once.
    pub(super) fn follow(&self, moved: &[(String, String)]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for note in &mut kept.rows {
            if let Some((_, new)) = moved.iter().find(|(old, _)| old.eq_ignore_ascii_case(&note.recipient)) {
                note.recipient = new.to_ascii_lowercase();
            }
        }
    }
}

/// What waits for who had one handle waits for who has the other now, all at once.
pub(super) async fn notes_follow(writing: &mut SqliteConnection, moved: &[(String, String)]) -> Result<(), StoreError> {
    // Marked until all are moved, so that nothing is moved twice. No handle begins so.
    for (old, new) in moved {
        let sql = "UPDATE note SET recipient = '>' || $2 WHERE recipient = $1";
        let moving = sqlx::query(sql).bind(old.to_ascii_lowercase()).bind(new.to_ascii_lowercase());
        moving.execute(&mut *writing).await?;
    }
    if !moved.is_empty() {
        let sql = "UPDATE note SET recipient = substr(recipient, 2) WHERE recipient LIKE '>%'";
        sqlx::query(sql).execute(&mut *writing).await?;
    }
    Ok(())
}

impl Store {
    /// The notes that wait for a handle, the oldest first.
    pub async fn notes(&self, recipient: &str) -> Result<Vec<NoteRow>, StoreError> {
        let recipient = recipient.to_ascii_lowercase();
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = "SELECT id, recipient, sender, at, text FROM note WHERE recipient = $1 ORDER BY id";
                let rows = sqlx::query(sql).bind(recipient).fetch_all(&sqlite.pool).await?;
                rows.iter().map(note_row).collect()
            }
            Place::Memory(memory) => {
                let notes = memory.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(notes.rows.iter().filter(|note| note.recipient == recipient).cloned().collect())
            }
        }
    }

    /// The notes that wait for people on other bots (`handle@bot`), the oldest first.
    pub async fn notes_afar(&self) -> Result<Vec<NoteRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = "SELECT id, recipient, sender, at, text FROM note WHERE recipient LIKE '%@%' ORDER BY id";
                let rows = sqlx::query(sql).fetch_all(&sqlite.pool).await?;
                rows.iter().map(note_row).collect()
            }
            Place::Memory(memory) => {
                let notes = memory.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(notes.rows.iter().filter(|note| note.recipient.contains('@')).cloned().collect())
            }
        }
    }

    /// Keeps a note.
    pub async fn put_note(
        &self,
        recipient: &str,
        sender: &str,
        text: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let recipient = recipient.to_ascii_lowercase();
        match &self.place {
            Place::Sqlite(sqlite) => {
                let mut writing = sqlite.pool.begin_with("BEGIN IMMEDIATE").await?;
                // Counted apart, so that the number of a note that was erased is no other's: whoever erases by number means that one.
                let sql = "INSERT INTO revisions (name, revision) SELECT 'notes', COALESCE(MAX(id), 0) + 1 FROM note WHERE TRUE
                     ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1 RETURNING revision";
                let id: i64 = sqlx::query(sql).fetch_one(&mut *writing).await?.try_get(0)?;
                let sql = "INSERT INTO note (id, recipient, sender, at, text) VALUES ($1, $2, $3, $4, $5)";
                let adding = sqlx::query(sql).bind(id).bind(recipient).bind(sender).bind(at.to_rfc3339()).bind(text);
                adding.execute(&mut *writing).await?;
                writing.commit().await?;
            }
            Place::Memory(memory) => {
                let mut notes = memory.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
                notes.last += 1;
                let id = notes.last;
                notes.rows.push(NoteRow { id, recipient, sender: sender.to_owned(), at, text: text.to_owned() });
            }
        }
        Ok(())
    }

    /// Erases one note.
    pub async fn erase_note(&self, id: i64) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => {
                sqlx::query("DELETE FROM note WHERE id = $1").bind(id).execute(&sqlite.pool).await?;
            }
            Place::Memory(memory) => {
                let mut notes = memory.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
                notes.rows.retain(|note| note.id != id);
            }
        }
        Ok(())
    }

    /// Erases the notes that wait for a handle, up to a number.
    pub async fn erase_notes(&self, recipient: &str, up_to: i64) -> Result<(), StoreError> {
        let recipient = recipient.to_ascii_lowercase();
        match &self.place {
            Place::Sqlite(sqlite) => {
                let sql = "DELETE FROM note WHERE recipient = $1 AND id <= $2";
                sqlx::query(sql).bind(recipient).bind(up_to).execute(&sqlite.pool).await?;
            }
            Place::Memory(memory) => {
                let mut notes = memory.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
                notes.rows.retain(|note| note.recipient != recipient || note.id > up_to);
            }
        }
        Ok(())
    }
}

fn note_row(row: &sqlx::sqlite::SqliteRow) -> Result<NoteRow, StoreError> {
    Ok(NoteRow {
        id: row.try_get(0)?,
        recipient: row.try_get(1)?,
        sender: row.try_get(2)?,
        at: time(row.try_get(3)?)?,
        text: row.try_get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Sharing, UserRow};

    /// The same story for every place.
    async fn story(store: Store) {
        let at = DateTime::from_timestamp(60, 0).unwrap();
        for text in ["one", "two"] {
            store.put_note("Alice", "bob", text, at).await.unwrap();
        }
        store.put_note("carol", "bob", "other", at).await.unwrap();
        let waiting = store.notes("alice").await.unwrap();
        let texts: Vec<&str> = waiting.iter().map(|note| note.text.as_str()).collect();
        assert_eq!((texts, waiting[0].at, waiting[0].sender.as_str()), (vec!["one", "two"], at, "bob"));
        let renames = async |old: &str, new: &str| {
            let puts = vec![UserRow { handle: new.to_owned(), ..UserRow::default() }];
            let sharing = Sharing { moved: vec![(old.to_owned(), new.to_owned())], puts, ..Sharing::default() };
            let revision = store.users_revision().await.unwrap();
            store.share(revision, &sharing).await.unwrap().unwrap();
        };
        renames("alice", "Alicia").await;
        let with_her = store.notes("alicia").await.unwrap();
        assert!(with_her.len() == 2 && with_her[1].text == "two", "{with_her:?}");
        assert!(store.notes("alice").await.unwrap().is_empty());
        renames("Alicia", "alice").await;
        assert_eq!(store.users().await.unwrap().len(), 1);
        store.erase_notes("ALICE", waiting[0].id).await.unwrap();
        assert_eq!(store.notes("alice").await.unwrap().len(), 1);
        assert_eq!(store.notes("carol").await.unwrap().len(), 1);
        store.put_note("dave@HubBot", "bob", "afar", at).await.unwrap();
        let afar = store.notes_afar().await.unwrap();
        assert_eq!((afar.len(), afar[0].recipient.as_str()), (1, "dave@hubbot"));
        store.erase_note(afar[0].id).await.unwrap();
        assert!(store.notes_afar().await.unwrap().is_empty() && store.notes("carol").await.unwrap().len() == 1);
        store.put_note("dave@HubBot", "bob", "later", at).await.unwrap();
        let later = store.notes_afar().await.unwrap()[0].id;
        assert!(later > afar[0].id, "a number is given once, also where the newest note is gone");
    }

    #[tokio::test]
    async fn notes_wait_in_memory_as_on_disk() {
        story(Store::memory()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        story(store.clone()).await;
        store.close().await;
    }
}
