//! The schema of the records of runs: migrations in order, each with its checksum.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::RunsError;

/// The migrations, from the first on. One that was released is never changed.
const MIGRATIONS: &[(&str, &str)] =
    &[("0001_runs", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/0001_runs.sql")))];

/// Brings a database up to date. One that was changed by hand, or by a newer version, is refused.
pub(super) fn migrate(db: &Connection) -> Result<(), RunsError> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migration (
             version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    )?;
    let newest: i64 = db.query_row("SELECT COALESCE(MAX(version), 0) FROM schema_migration", [], |row| row.get(0))?;
    if newest > MIGRATIONS.len() as i64 {
        return Err(RunsError::Migration(format!(
            "they have version {newest}, and this program knows {}; run the newer masterchief",
            MIGRATIONS.len()
        )));
    }
    for (at, (name, sql)) in MIGRATIONS.iter().enumerate() {
        let version = at as i64 + 1;
        let checksum: String = Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let known: Option<String> = db
            .query_row("SELECT checksum FROM schema_migration WHERE version = ?1", [version], |row| row.get(0))
            .optional()?;
        match known {
            Some(known) if known == checksum => {}
            Some(_) => {
                let text =
                    format!("migration {name} is not the one that made them; run the masterchief they belong to");
                return Err(RunsError::Migration(text));
            }
            None => {
                let transaction = db.unchecked_transaction()?;
                transaction.execute_batch(sql)?;
                let sql = "INSERT INTO schema_migration (version, name, checksum) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![version, name, checksum])?;
                transaction.commit()?;
            }
        }
    }
    Ok(())
}
