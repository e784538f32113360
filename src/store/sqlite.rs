//! Records in SQLite.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::{Anchor, AuditRow, BotRow, Mark, StoreError, UserRow};

/// Connections: SQLite has one writer, the others read.
const CONNECTIONS: u32 = 4;
/// How long to wait for another process to finish its write.
const BUSY: Duration = Duration::from_secs(10);

/// A database file.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    pub(super) pool: SqlitePool,
}

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Result<Sqlite, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::Folder { path: folder.display().to_string(), source })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
        sqlx::migrate!().run(&pool).await?;
        Ok(Sqlite { pool })
    }

    pub(super) async fn look(path: &Path) -> Result<Sqlite, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
        Ok(Sqlite { pool: SqlitePoolOptions::new().max_connections(1).connect_with(options).await? })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        self.some_users(None).await
    }

    pub(super) async fn user(&self, handle: &str) -> Result<Option<UserRow>, StoreError> {
        Ok(self.some_users(Some(handle)).await?.pop())
    }

    /// All, or the one of a handle in whatever case.
    async fn some_users(&self, handle: Option<&str>) -> Result<Vec<UserRow>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        // Two reads of one moment.
        let mut reading = sqlx::Connection::begin(&mut *connection).await?;
        let sql = "SELECT handle, flags, comment, password FROM users
             WHERE $1 IS NULL OR handle = $1 COLLATE NOCASE ORDER BY handle";
        let users = sqlx::query(sql).bind(handle).fetch_all(&mut *reading).await?;
        let sql = "SELECT handle, kind, scope, value FROM user_marks
             WHERE $1 IS NULL OR handle = $1 COLLATE NOCASE ORDER BY handle, kind, scope, value";
        let marks = sqlx::query(sql).bind(handle).fetch_all(&mut *reading).await?;
        reading.commit().await?;
        let mut out: Vec<UserRow> = Vec::with_capacity(users.len());
        for row in users {
            out.push(UserRow {
                handle: row.try_get(0)?,
                flags: row.try_get(1)?,
                comment: row.try_get(2)?,
                password: row.try_get(3)?,
                marks: Vec::new(),
            });
        }
        for row in marks {
            let handle: String = row.try_get(0)?;
            if let Ok(at) = out.binary_search_by(|user| user.handle.as_str().cmp(&handle)) {
                out[at].marks.push(Mark { kind: row.try_get(1)?, scope: row.try_get(2)?, value: row.try_get(3)? });
            }
        }
        Ok(out)
    }

    pub(super) async fn put_user(&self, row: &UserRow) -> Result<(), StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        write_user(&mut writing, row).await?;
        raise_users(&mut writing).await?;
        writing.commit().await?;
        Ok(())
    }

    pub(super) async fn remove_user(&self, handle: &str) -> Result<bool, StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let gone = sqlx::query("DELETE FROM users WHERE handle = $1").bind(handle).execute(&mut *writing).await?;
        raise_users(&mut writing).await?;
        writing.commit().await?;
        Ok(gone.rows_affected() > 0)
    }

    pub(super) async fn bots(&self) -> Result<Vec<BotRow>, StoreError> {
        let rows = sqlx::query("SELECT handle, settings, password, fingerprint FROM bots ORDER BY handle")
            .fetch_all(&self.pool)
            .await?;
        let row_of = |row: &SqliteRow| {
            Ok(BotRow {
                handle: row.try_get(0)?,
                settings: row.try_get(1)?,
                password: row.try_get(2)?,
                fingerprint: row.try_get(3)?,
            })
        };
        rows.iter().map(row_of).collect()
    }

    pub(super) async fn put_bot(&self, row: &BotRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO bots (handle, settings, password, fingerprint) VALUES ($1, $2, $3, $4)
             ON CONFLICT (handle) DO UPDATE SET settings = $2, password = $3, fingerprint = $4",
        )
        .bind(&row.handle)
        .bind(&row.settings)
        .bind(&row.password)
        .bind(&row.fingerprint)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn remove_bot(&self, handle: &str) -> Result<bool, StoreError> {
        let gone = sqlx::query("DELETE FROM bots WHERE handle = $1").bind(handle).execute(&self.pool).await?;
        Ok(gone.rows_affected() > 0)
    }

    pub(super) async fn users_revision(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT revision FROM revisions WHERE name = 'users'").fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    pub(super) async fn audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        write_audit(&mut *self.pool.acquire().await?, row).await
    }

    pub(super) async fn audit_recent(&self, count: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, network, actor, handle, kind, mask, action, detail FROM audit ORDER BY id DESC LIMIT $1",
        )
        .bind(count)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(audit_row).collect()
    }

    pub(super) async fn kv_get(
        &self,
        script: &str,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Value>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(kv_read(&mut connection, script, name, now).await?.map(|(value, _)| value))
    }

    pub(super) async fn kv_set(
        &self,
        script: &str,
        name: &str,
        value: &Value,
        expires: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        kv_write(&mut connection, script, name, value, expires.map(|at| at.timestamp_millis())).await
    }

    pub(super) async fn kv_cas(
        &self,
        script: &str,
        name: &str,
        old: &Value,
        new: &Value,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let there = kv_read(&mut writing, script, name, now).await?.map_or(Value::Null, |(value, _)| value);
        if there != *old {
            return Ok(false);
        }
        if new.is_null() {
            kv_remove(&mut writing, script, name).await?;
        } else {
            kv_write(&mut writing, script, name, new, None).await?;
        }
        writing.commit().await?;
        Ok(true)
    }

    pub(super) async fn kv_incr(
        &self,
        script: &str,
        name: &str,
        by: f64,
        now: DateTime<Utc>,
    ) -> Result<f64, StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let (before, expires) = match kv_read(&mut writing, script, name, now).await? {
            None => (0.0, None),
            Some((value, expires)) => (value.as_f64().ok_or_else(|| StoreError::NotANumber(name.to_owned()))?, expires),
        };
        kv_write(&mut writing, script, name, &Value::from(before + by), expires).await?;
        writing.commit().await?;
        Ok(before + by)
    }

    pub(super) async fn kv_delete(&self, script: &str, name: &str) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        kv_remove(&mut connection, script, name).await
    }

    pub(super) async fn kv_names(
        &self,
        script: &str,
        prefix: &str,
        count: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT name FROM kv WHERE script = $1 AND name >= $2 AND substr(name, 1, length($2)) = $2
             AND (expires IS NULL OR expires > $3) ORDER BY name LIMIT $4",
        )
        .bind(script)
        .bind(prefix)
        .bind(now.timestamp_millis())
        .bind(count)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn clock(&self) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
        let rows = sqlx::query("SELECT name, ran FROM clock ORDER BY name").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, time(row.try_get(1)?)?))).collect()
    }

    pub(super) async fn anchor(&self, name: &str) -> Result<Option<Anchor>, StoreError> {
        let row =
            sqlx::query("SELECT id, hash FROM anchor WHERE name = $1").bind(name).fetch_optional(&self.pool).await?;
        row.map(|row| Ok(Anchor { id: row.try_get(0)?, hash: row.try_get(1)? })).transpose()
    }

    pub(super) async fn put_anchor(&self, name: &str, anchor: &Anchor) -> Result<(), StoreError> {
        let sql = "INSERT INTO anchor (name, id, hash) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET id = excluded.id, hash = excluded.hash";
        sqlx::query(sql).bind(name).bind(anchor.id).bind(&anchor.hash).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE revisions SET revision = revision WHERE name = 'users'").execute(&mut *writing).await?;
        Ok(writing.commit().await?)
    }

    pub(super) async fn clock_ran(&self, name: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO clock (name, ran) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET ran = $2")
            .bind(name)
            .bind(at.to_rfc3339())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Which migrations a file has; one that was another then is refused.
pub(super) async fn migrations(path: &Path) -> Result<Vec<(String, bool)>, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let sql = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    let known: i64 = sqlx::query(sql).fetch_one(&pool).await?.try_get(0)?;
    let rows = match known {
        0 => Vec::new(),
        _ => sqlx::query("SELECT version, checksum FROM _sqlx_migrations ORDER BY version").fetch_all(&pool).await?,
    };
    pool.close().await;
    let own = sqlx::migrate!();
    let mut done = std::collections::BTreeMap::new();
    for row in rows {
        let (version, checksum): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        match own.iter().find(|migration| migration.version == version) {
            None => return Err(sqlx::migrate::MigrateError::VersionMissing(version).into()),
            Some(migration) if *migration.checksum != *checksum => {
                return Err(sqlx::migrate::MigrateError::VersionMismatch(version).into());
            }
            Some(_) => done.insert(version, ()),
        };
    }
    let name = |migration: &sqlx::migrate::Migration| {
        format!("{:04}_{}", migration.version, migration.description.replace(' ', "_"))
    };
    Ok(own.iter().map(|migration| (name(migration), done.contains_key(&migration.version))).collect())
}

/// Writes a user in a transaction that raises the revision of the users.
pub(super) async fn write_audit(connection: &mut SqliteConnection, row: &AuditRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit (id, at, network, actor, handle, kind, mask, action, detail)
         SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8 FROM audit",
    )
    .bind(row.at.to_rfc3339())
    .bind(&row.network)
    .bind(&row.actor)
    .bind(&row.handle)
    .bind(&row.kind)
    .bind(&row.mask)
    .bind(&row.action)
    .bind(&row.detail)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

pub(super) async fn write_user(connection: &mut SqliteConnection, row: &UserRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (handle, flags, comment, password) VALUES ($1, $2, $3, $4)
             ON CONFLICT (handle) DO UPDATE SET flags = $2, comment = $3, password = $4",
    )
    .bind(&row.handle)
    .bind(&row.flags)
    .bind(&row.comment)
    .bind(&row.password)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM user_marks WHERE handle = $1").bind(&row.handle).execute(&mut *connection).await?;
    for mark in &row.marks {
        sqlx::query("INSERT INTO user_marks (handle, kind, scope, value) VALUES ($1, $2, $3, $4)")
            .bind(&row.handle)
            .bind(&mark.kind)
            .bind(&mark.scope)
            .bind(&mark.value)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn raise_users(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE revisions SET revision = revision + 1 WHERE name = 'users'").execute(connection).await?;
    Ok(())
}

/// A value and when it expires, unless it has.
async fn kv_read(
    connection: &mut SqliteConnection,
    script: &str,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<(Value, Option<i64>)>, StoreError> {
    let row = sqlx::query(
        "SELECT value, expires FROM kv WHERE script = $1 AND name = $2 AND (expires IS NULL OR expires > $3)",
    )
    .bind(script)
    .bind(name)
    .bind(now.timestamp_millis())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get(0)?;
    let value =
        serde_json::from_str(&text).map_err(|fault| StoreError::Damaged(format!("{script}/{name}: {fault}")))?;
    Ok(Some((value, row.try_get(1)?)))
}

pub(super) async fn kv_write(
    connection: &mut SqliteConnection,
    script: &str,
    name: &str,
    value: &Value,
    expires: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO kv (script, name, value, expires) VALUES ($1, $2, $3, $4)
         ON CONFLICT (script, name) DO UPDATE SET value = $3, expires = $4",
    )
    .bind(script)
    .bind(name)
    .bind(value.to_string())
    .bind(expires)
    .execute(connection)
    .await?;
    Ok(())
}

async fn kv_remove(connection: &mut SqliteConnection, script: &str, name: &str) -> Result<bool, StoreError> {
    let gone = sqlx::query("DELETE FROM kv WHERE script = $1 AND name = $2")
        .bind(script)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(gone.rows_affected() > 0)
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        at: time(row.try_get(0)?)?,
        network: row.try_get(1)?,
        actor: row.try_get(2)?,
        handle: row.try_get(3)?,
        kind: row.try_get(4)?,
        mask: row.try_get(5)?,
        action: row.try_get(6)?,
        detail: row.try_get(7)?,
    })
}

pub(super) fn time(text: String) -> Result<DateTime<Utc>, StoreError> {
    let at = DateTime::parse_from_rfc3339(&text);
    at.map(|at| at.to_utc()).map_err(|_| StoreError::Damaged(format!("{text:?} is not a time")))
}
