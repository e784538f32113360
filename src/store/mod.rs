//! What must outlive the process: people, the audit trail, what scripts keep, when schedules ran. All SQL stands here.

mod facts;
mod memory;
mod notes;
pub mod runs;
mod said;
mod sqlite;
mod told;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use memory::Memory;
use sqlite::Sqlite;

pub use facts::{FactRow, Sharing};
pub use notes::NoteRow;
pub use said::{SaidChange, SaidGroup, SaidRow, SaidWhich};
pub use told::ToldRow;

/// The longest key of [`Store::kv_set`], in bytes.
pub const KEY_MAX: usize = 512;
/// The longest value of [`Store::kv_set`], in bytes of JSON.
pub const VALUE_MAX: usize = 1 << 20;

/// What to do about records that are older than this program.
const BRING_UP: &str = "`masterchief db migrate` brings them up to date, and so does a bot that starts";

/// The records. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Sqlite(Sqlite),
    Memory(Arc<Memory>),
}

/// Why a record was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses.
    #[error("the records: {0}")]
    Database(#[from] sqlx::Error),
    /// The database was made by another version of this program.
    #[error("the records: {0}; they may be of a newer version of masterchief")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// It was made by an older version of this program, and is only looked at.
    #[error("the records: they do not have {0} yet; {BRING_UP}")]
    Older(String),
    /// A folder cannot be made.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What is stored is not what was written.
    #[error("the records are damaged: {0}")]
    Damaged(String),
    /// A key or value is too large.
    #[error("{0}")]
    TooLarge(String),
    /// A counter was asked of something that is no number.
    #[error("{0} holds no number")]
    NotANumber(String),
}

/// A user's record, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRow {
    /// The handle.
    pub handle: String,
    /// Global flags.
    pub flags: String,
    /// Words of the operators.
    pub comment: String,
    /// An argon2 hash.
    pub password: Option<String>,
    /// What there may be several of, in no order that matters.
    pub marks: Vec<Mark>,
}

/// One of the several things of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// `account`, `cert`, `channel`, `host`, `role`, and what else a record may have several of.
    pub kind: String,
    /// The network of an account, the name of a channel; else empty.
    pub scope: String,
    /// The account, the fingerprint, the channel's flags, the hostmask, the role.
    pub value: String,
}

/// A bot's record, as it is stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BotRow {
    /// Its name.
    pub handle: String,
    /// What is set of it, as JSON; nothing where the configuration says it.
    pub settings: Option<String>,
    /// The password of the link. Both sides need it as it is.
    pub password: Option<String>,
    /// The certificate that was seen first, SHA-256 in hex.
    pub fingerprint: Option<String>,
}

impl std::fmt::Debug for BotRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BotRow").field("handle", &self.handle).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// When.
    pub at: DateTime<Utc>,
    /// The network it happened on.
    pub network: String,
    /// `nick!user@host`.
    pub actor: String,
    /// The handle, if the person was known.
    pub handle: Option<String>,
    /// The kind of the bind.
    pub kind: String,
    /// Its mask.
    pub mask: String,
    /// `ran`, `denied` or `failed`.
    pub action: String,
    /// Where, and with what words.
    pub detail: String,
}

/// A line of a chain: its number and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Its number.
    pub id: i64,
    /// Its hash, which stands for all lines before it too.
    pub hash: String,
}

impl Store {
    /// Opens the database at `path`, making it and its folder if need be, and brings it up to date.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        Ok(Store { place: Place::Sqlite(Sqlite::open(path).await?) })
    }

    /// Opens the database at `path` to look at it: nothing is changed, also no older schema, which is refused.
    pub async fn look(path: &Path) -> Result<Store, StoreError> {
        let older = Store::migrations(path).await?.into_iter().find(|(_, done)| !done);
        match older {
            Some((name, _)) => Err(StoreError::Older(name)),
            None => Ok(Store { place: Place::Sqlite(Sqlite::look(path).await?) }),
        }
    }

    /// Records that end with the process. They take no time, which paused clocks need.
    pub fn memory() -> Store {
        Store { place: Place::Memory(Arc::default()) }
    }

    /// All users, by handle.
    pub async fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.users().await,
            Place::Memory(memory) => Ok(memory.users()),
        }
    }

    /// The user of a handle, in whatever case it is written.
    pub async fn user(&self, handle: &str) -> Result<Option<UserRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.user(handle).await,
            Place::Memory(memory) => {
                Ok(memory.users().into_iter().rev().find(|row| row.handle.eq_ignore_ascii_case(handle)))
            }
        }
    }

    /// Writes a user, replacing the record of that handle.
    pub async fn put_user(&self, row: &UserRow) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.put_user(row).await,
            Place::Memory(memory) => {
                memory.put_user(row);
                Ok(())
            }
        }
    }

    /// Removes a user; whether there was one.
    pub async fn remove_user(&self, handle: &str) -> Result<bool, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.remove_user(handle).await,
            Place::Memory(memory) => Ok(memory.remove_user(handle)),
        }
    }

    /// All bots, by name.
    pub async fn bots(&self) -> Result<Vec<BotRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.bots().await,
            Place::Memory(memory) => Ok(memory.bots()),
        }
    }

    /// Writes a bot, replacing the record of that name.
    pub async fn put_bot(&self, row: &BotRow) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.put_bot(row).await,
            Place::Memory(memory) => {
                memory.put_bot(row);
                Ok(())
            }
        }
    }

    /// Removes a bot; whether there was one.
    pub async fn remove_bot(&self, handle: &str) -> Result<bool, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.remove_bot(handle).await,
            Place::Memory(memory) => Ok(memory.remove_bot(handle)),
        }
    }

    /// A number that changes with every change of the users, also by another process.
    pub async fn users_revision(&self) -> Result<i64, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.users_revision().await,
            Place::Memory(memory) => Ok(memory.users_revision()),
        }
    }

    /// Adds to the audit trail.
    pub async fn audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.audit(row).await,
            Place::Memory(memory) => {
                memory.audit(row);
                Ok(())
            }
        }
    }

    /// The newest `count` lines of the audit trail, newest first.
    pub async fn audit_recent(&self, count: u32) -> Result<Vec<AuditRow>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.audit_recent(count).await,
            Place::Memory(memory) => Ok(memory.audit_recent(count)),
        }
    }

    /// What a script keeps under a name, unless it has expired.
    pub async fn kv_get(&self, script: &str, name: &str, now: DateTime<Utc>) -> Result<Option<Value>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_get(script, name, now).await,
            Place::Memory(memory) => Ok(memory.kv_get(script, name, now)),
        }
    }

    /// Keeps a value, until `expires` if given.
    pub async fn kv_set(
        &self,
        script: &str,
        name: &str,
        value: &Value,
        expires: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        check_size(name, value)?;
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_set(script, name, value, expires).await,
            Place::Memory(memory) => {
                memory.kv_set(script, name, value, expires);
                Ok(())
            }
        }
    }

    /// Replaces `old` by `new` if `old` is what is there (`null` for nothing); whether it was. A `new` of `null`
    /// deletes.
    pub async fn kv_cas(
        &self,
        script: &str,
        name: &str,
        old: &Value,
        new: &Value,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        check_size(name, new)?;
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_cas(script, name, old, new, now).await,
            Place::Memory(memory) => Ok(memory.kv_cas(script, name, old, new, now)),
        }
    }

    /// Adds to a number, which begins at 0; gives the sum. A time to expire stays as it is.
    pub async fn kv_incr(&self, script: &str, name: &str, by: f64, now: DateTime<Utc>) -> Result<f64, StoreError> {
        check_size(name, &Value::Null)?;
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_incr(script, name, by, now).await,
            Place::Memory(memory) => memory.kv_incr(script, name, by, now),
        }
    }

    /// Forgets a value; whether there was one.
    pub async fn kv_delete(&self, script: &str, name: &str) -> Result<bool, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_delete(script, name).await,
            Place::Memory(memory) => Ok(memory.kv_delete(script, name)),
        }
    }

    /// The names a script keeps values under that begin with `prefix`, at most `count`, in order.
    pub async fn kv_names(
        &self,
        script: &str,
        prefix: &str,
        count: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.kv_names(script, prefix, count, now).await,
            Place::Memory(memory) => Ok(memory.kv_names(script, prefix, count, now)),
        }
    }

    /// When each schedule last ran.
    pub async fn clock(&self) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.clock().await,
            Place::Memory(memory) => Ok(memory.clock()),
        }
    }

    /// Remembers when a schedule ran.
    pub async fn clock_ran(&self, name: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.clock_ran(name, at).await,
            Place::Memory(memory) => {
                memory.clock_ran(name, at);
                Ok(())
            }
        }
    }

    /// What stands for the newest line of a chain that is kept elsewhere.
    pub async fn anchor(&self, name: &str) -> Result<Option<Anchor>, StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.anchor(name).await,
            Place::Memory(memory) => Ok(memory.anchor(name)),
        }
    }

    /// Remembers the newest line of a chain.
    pub async fn put_anchor(&self, name: &str, anchor: &Anchor) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.put_anchor(name, anchor).await,
            Place::Memory(memory) => {
                memory.put_anchor(name, anchor);
                Ok(())
            }
        }
    }

    /// Whether rows can be written at this moment: it is tried.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(sqlite) => sqlite.check().await,
            Place::Memory(_) => Ok(()),
        }
    }

    /// Which migrations the records at `path` have: name, and whether it is there. Nothing is changed.
    pub async fn migrations(path: &Path) -> Result<Vec<(String, bool)>, StoreError> {
        sqlite::migrations(path).await
    }

    /// Waits for what is under way and closes.
    pub async fn close(&self) {
        if let Place::Sqlite(sqlite) = &self.place {
            sqlite.close().await;
        }
    }
}

/// Whether a value can be kept under a name.
pub(crate) fn check_size(name: &str, value: &Value) -> Result<(), StoreError> {
    if name.is_empty() || name.len() > KEY_MAX {
        return Err(StoreError::TooLarge(format!("a key has 1 to {KEY_MAX} bytes, this one {}", name.len())));
    }
    let len = value.to_string().len();
    if len > VALUE_MAX {
        return Err(StoreError::TooLarge(format!("a value has at most {VALUE_MAX} bytes as JSON, this one {len}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn mark(kind: &str, scope: &str, value: &str) -> Mark {
        Mark { kind: kind.to_owned(), scope: scope.to_owned(), value: value.to_owned() }
    }

    /// The same story for every place.
    async fn story(store: Store) {
        let alice = UserRow {
            handle: "alice".to_owned(),
            flags: "mo".to_owned(),
            password: Some("$argon2".to_owned()),
            marks: vec![mark("account", "libera", "alice"), mark("channel", "#ops", "o")],
            ..UserRow::default()
        };
        let before = store.users_revision().await.unwrap();
        store.put_user(&alice).await.unwrap();
        let fewer = UserRow { marks: vec![mark("role", "", "deployer")], ..alice.clone() };
        store.put_user(&UserRow { handle: "bob".to_owned(), ..alice.clone() }).await.unwrap();
        store.put_user(&fewer).await.unwrap();
        assert_eq!(store.users().await.unwrap(), [fewer, UserRow { handle: "bob".to_owned(), ..alice }]);
        assert_eq!(store.user("BOB").await.unwrap().unwrap(), store.users().await.unwrap()[1]);
        assert_eq!(store.user("bo_").await.unwrap(), None);
        assert!(store.remove_user("bob").await.unwrap());
        assert!(!store.remove_user("bob").await.unwrap());
        assert_eq!(store.users().await.unwrap().len(), 1);
        assert!(store.users_revision().await.unwrap() > before);

        for n in 0..3 {
            let row = AuditRow {
                at: at(n),
                network: "libera".to_owned(),
                actor: "mallory!m@h".to_owned(),
                handle: (n == 2).then(|| "mallory".to_owned()),
                kind: "pub".to_owned(),
                mask: "!deploy".to_owned(),
                action: "denied".to_owned(),
                detail: format!("{n}"),
            };
            store.audit(&row).await.unwrap();
        }
        let newest = store.audit_recent(2).await.unwrap();
        assert_eq!(newest.iter().map(|row| row.detail.as_str()).collect::<Vec<_>>(), ["2", "1"]);
        assert_eq!((newest[0].handle.as_deref(), newest[0].at), (Some("mallory"), at(2)));

        let hub = BotRow { handle: "Hub".to_owned(), password: Some("x".to_owned()), ..BotRow::default() };
        store.put_bot(&BotRow { settings: Some("{}".to_owned()), ..hub.clone() }).await.unwrap();
        store.put_bot(&hub).await.unwrap();
        assert_eq!(store.bots().await.unwrap(), [hub]);
        assert!(store.remove_bot("Hub").await.unwrap() && !store.remove_bot("Hub").await.unwrap());
        kv_story(&store).await;
        store.clock_ran("cron x", at(60)).await.unwrap();
        store.clock_ran("cron x", at(120)).await.unwrap();
        assert_eq!(store.anchor("log").await.unwrap(), None);
        for id in [1, 2] {
            let anchor = Anchor { id, hash: format!("h{id}") };
            store.put_anchor("log", &anchor).await.unwrap();
            assert_eq!(store.anchor("log").await.unwrap(), Some(anchor));
        }
        store.check().await.unwrap();
        assert_eq!(store.clock().await.unwrap(), [("cron x".to_owned(), at(120))]);
    }

    async fn kv_story(store: &Store) {
        let now = at(1000);
        let get = async |name: &str, now| store.kv_get("a.lua", name, now).await.unwrap();
        store.kv_set("a.lua", "x", &json!({"n": [1, "two"]}), None).await.unwrap();
        store.kv_set("a.lua", "xy", &json!(true), Some(at(1010))).await.unwrap();
        store.kv_set("b.lua", "x", &json!("other"), None).await.unwrap();
        assert_eq!(get("x", now).await, Some(json!({"n": [1, "two"]})));
        assert_eq!((get("xy", at(1009)).await, get("xy", at(1010)).await), (Some(json!(true)), None));
        assert_eq!(store.kv_names("a.lua", "x", 10, now).await.unwrap(), ["x", "xy"]);
        assert_eq!(store.kv_names("a.lua", "x", 10, at(1010)).await.unwrap(), ["x"]);
        assert_eq!(store.kv_names("a.lua", "%", 10, now).await.unwrap(), [""; 0]);
        assert_eq!(store.kv_incr("a.lua", "n", 2.0, now).await.unwrap(), 2.0);
        assert_eq!(store.kv_incr("a.lua", "n", -0.5, now).await.unwrap(), 1.5);
        assert!(matches!(store.kv_incr("a.lua", "x", 1.0, now).await, Err(StoreError::NotANumber(_))));
        let cas = async |old, new| store.kv_cas("a.lua", "lock", &old, &new, now).await.unwrap();
        assert!(cas(json!(null), json!("alice")).await);
        assert!(!cas(json!(null), json!("bob")).await);
        assert!(cas(json!("alice"), json!(null)).await);
        assert_eq!(get("lock", now).await, None);
        assert!(store.kv_delete("a.lua", "x").await.unwrap());
        assert!(!store.kv_delete("a.lua", "x").await.unwrap());
        assert!(store.kv_set("a.lua", "", &json!(1), None).await.is_err());
        assert!(store.kv_set("a.lua", "big", &json!("x".repeat(VALUE_MAX)), None).await.is_err());
    }

    #[tokio::test]
    async fn records_in_memory_tell_the_story() {
        story(Store::memory()).await;
    }

    #[tokio::test]
    async fn records_on_disk_tell_the_same_story_and_are_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/masterchief.db");
        let store = Store::open(&path).await.unwrap();
        story(store.clone()).await;
        store.close().await;
        let again = Store::open(&path).await.unwrap();
        assert_eq!(again.users().await.unwrap()[0].handle, "alice");
        assert_eq!(again.audit_recent(9).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_hundred_at_once_count_to_a_hundred() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("m.db")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = store.clone();
            tasks.spawn(async move { store.kv_incr("a.lua", "n", 1.0, at(0)).await.unwrap() });
        }
        let mut sums: Vec<i64> = tasks.join_all().await.into_iter().map(|sum| sum as i64).collect();
        sums.sort_unstable();
        assert_eq!(sums, (1..=100).collect::<Vec<_>>());
    }
}
