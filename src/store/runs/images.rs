//! What was pushed to registries.

use super::RunsError;
use super::db::{Db, Row, params};
use super::writer::Runs;

/// A tag that was pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRow {
    /// The repository, with the host of its registry.
    pub repo: String,
    /// The tag.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Its size in bytes, where that is known.
    pub size: Option<i64>,
    /// When it was pushed, in Unix milliseconds.
    pub pushed: i64,
    /// The run that did it, if one of ours did.
    pub run: Option<i64>,
}

impl ImageRow {
    const SELECT: &str = "SELECT repo, tag, digest, size, pushed, run FROM image";

    fn of(row: &Row<'_>) -> Result<ImageRow, RunsError> {
        Ok(ImageRow {
            repo: row.get(0)?,
            tag: row.get(1)?,
            digest: row.get(2)?,
            size: row.get(3)?,
            pushed: row.get(4)?,
            run: row.get(5)?,
        })
    }

    /// Who tells of the same push again adds what the first one did not know.
    pub(super) fn put(&self, db: &Db) -> Result<usize, RunsError> {
        const SQL: &str = "INSERT INTO image (repo, tag, digest, size, pushed, run) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (repo, tag, digest) DO UPDATE SET size = COALESCE(excluded.size, image.size),
             pushed = excluded.pushed, run = COALESCE(excluded.run, image.run)";
        db.execute(SQL, params![self.repo, self.tag, self.digest, self.size, self.pushed, self.run])
    }
}

impl Runs {
    /// What was pushed, the newest first: to one repository, or to all.
    pub async fn images(&self, repo: Option<&str>, limit: u32) -> Result<Vec<ImageRow>, RunsError> {
        let repo = repo.map(str::to_owned);
        self.read(move |db| match repo {
            Some(repo) => {
                let sql = format!("{} WHERE repo = ?1 ORDER BY pushed DESC, tag LIMIT ?2", ImageRow::SELECT);
                db.all(&sql, params![repo, limit], ImageRow::of)
            }
            None => {
                let sql = format!("{} ORDER BY pushed DESC, tag LIMIT ?1", ImageRow::SELECT);
                db.all(&sql, params![limit], ImageRow::of)
            }
        })
        .await
    }
}
