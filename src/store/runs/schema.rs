//! The schema of the records of runs: migrations in order, each with its checksum.

use sha2::{Digest, Sha256};

use super::RunsError;
use super::db::{Db, params};

/// The text of a migration.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/", $name, ".sql"))
    };
}

/// The migrations, from the first on. One that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_runs", sql!("0001_runs")),
    ("0002_logs_keys", sql!("0002_logs_keys")),
    ("0003_records", sql!("0003_records")),
    ("0004_rollup", sql!("0004_rollup")),
    ("0005_owner", sql!("0005_owner")),
    ("0006_image", sql!("0006_image")),
    ("0007_warned", sql!("0007_warned")),
    ("0008_counter", sql!("0008_counter")),
];

/// How each but the first is taken back.
const BACK: &[&str] = &[
    sql!("down/0002_logs_keys"),
    sql!("down/0003_records"),
    sql!("down/0004_rollup"),
    sql!("down/0005_owner"),
    sql!("down/0006_image"),
    sql!("down/0007_warned"),
    sql!("down/0008_counter"),
];

/// Which migrations a database has, and which it would get: name, and whether it is there. Nothing is changed; what would be
/// refused is refused.
pub(super) fn check(db: &Db) -> Result<Vec<(&'static str, bool)>, RunsError> {
    if !db.has_table("schema_migration")? {
        return Ok(MIGRATIONS.iter().map(|(name, _)| (*name, false)).collect());
    }
    MIGRATIONS.iter().enumerate().map(|(at, migration)| Ok((migration.0, is_there(db, at, migration)?))).collect()
}

/// Whether a migration was done; one that was another then is refused.
fn is_there(db: &Db, at: usize, (name, sql): &(&str, &str)) -> Result<bool, RunsError> {
    let newest = db.number("SELECT COALESCE(MAX(version), 0) FROM schema_migration", &[])?;
    if newest > MIGRATIONS.len() as i64 {
        return Err(RunsError::Migration(format!(
            "they have version {newest}, and this program knows {}; run the newer masterchief",
            MIGRATIONS.len()
        )));
    }
    let known: Option<String> =
        db.one("SELECT checksum FROM schema_migration WHERE version = ?1", params![version(at)], |row| row.get(0))?;
    match known {
        Some(known) if known == checksum(sql) => Ok(true),
        Some(_) => Err(RunsError::Migration(format!(
            "migration {name} is not the one that made them; run the masterchief they belong to"
        ))),
        None => Ok(false),
    }
}

fn version(at: usize) -> i64 {
    at as i64 + 1
}

/// Of the text as it stands in its file, wherever it is run.
fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Brings a database up to date, whole or not at all. One that was changed by hand, or by a newer version, is refused.
pub(super) fn migrate(db: &Db) -> Result<(), RunsError> {
    // Who only starts again changes no tables, and waits for nobody who reads them.
    if db.reading(check)?.iter().all(|(_, done)| *done) {
        return Ok(());
    }
    db.altering(|db| {
        db.batch(
            "CREATE TABLE IF NOT EXISTS schema_migration (
             version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
        )?;
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            if is_there(db, at, migration)? {
                continue;
            }
            let (name, sql) = migration;
            db.batch(sql)?;
            if let Some(table) = db.orphans()? {
                return Err(RunsError::Migration(format!(
                    "migration {name} finds rows of {table} that belong to nothing; restore a copy from before"
                )));
            }
            let row = "INSERT INTO schema_migration (version, name, checksum) VALUES (?1, ?2, ?3)";
            db.execute(row, params![version(at), *name, checksum(sql)])?;
        }
        Ok(())
    })
}

/// Takes the newest migrations back, all or none; their names, the newest first. What they brought is gone.
pub(super) fn rollback(db: &Db, count: usize) -> Result<Vec<&'static str>, RunsError> {
    let there = db.reading(check)?.into_iter().filter(|(_, done)| *done).count();
    if count == 0 || count >= there.max(1) {
        let most = there.saturating_sub(1);
        return Err(RunsError::Migration(format!(
            "they have {there} migrations, and the first is what they are; name how many to take back, {most} at most"
        )));
    }
    db.altering(|db| {
        let mut gone = Vec::new();
        for at in (there - count..there).rev() {
            db.batch(BACK[at - 1])?;
            db.execute("DELETE FROM schema_migration WHERE version = ?1", params![version(at)])?;
            gone.push(MIGRATIONS[at].0);
        }
        if let Some(table) = db.orphans()? {
            return Err(RunsError::Migration(format!(
                "rows of {table} would belong to nothing; nothing was taken back"
            )));
        }
        Ok(gone)
    })
}
