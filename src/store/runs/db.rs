//! One connection to the records, wherever they are. What is asked is written once, in the SQL that SQLite and PostgreSQL share; what
//! the two do not share stands here and in `postgres.rs`, and nowhere else.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use sqlx::postgres::PgRow;

use super::RunsError;
use super::postgres::Postgres;

/// A connection. Each stays on the thread that works with it.
pub(super) enum Db {
    Sqlite(Connection),
    Postgres(Box<Postgres>),
}

/// A value that is handed to a statement. What is nothing has a type all the same: PostgreSQL asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Number(Option<i64>),
    Text(Option<&'a str>),
}

/// Values for a statement: `?1` is the first.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::runs::db::Bind::cell(&$value)),*] };
}
pub(super) use params;

/// What can be handed to a statement.
pub(super) trait Bind {
    fn cell(&self) -> Cell<'_>;
}

macro_rules! bind {
    ($($of:ty: |$value:ident| $cell:expr;)*) => {
        $(impl Bind for $of {
            fn cell(&self) -> Cell<'_> {
                let $value = self;
                $cell
            }
        })*
    };
}

bind! {
    i64: |value| Cell::Number(Some(*value));
    u32: |value| Cell::Number(Some(i64::from(*value)));
    bool: |value| Cell::Number(Some(i64::from(*value)));
    Option<i64>: |value| Cell::Number(*value);
    str: |value| Cell::Text(Some(value));
    String: |value| Cell::Text(Some(value));
    Option<String>: |value| Cell::Text(value.as_deref());
}

impl<T: Bind + ?Sized> Bind for &T {
    fn cell(&self) -> Cell<'_> {
        T::cell(self)
    }
}

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Cell::Number(number) => number.to_sql(),
            Cell::Text(text) => text.to_sql(),
        }
    }
}

/// A row that was found.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a PgRow),
}

impl Row<'_> {
    /// The value in a column, from 0.
    pub(super) fn get<T: Value>(&self, at: usize) -> Result<T, RunsError> {
        T::of(self, at)
    }
}

/// What a column may hold.
pub(super) trait Value: Sized {
    fn of(row: &Row<'_>, at: usize) -> Result<Self, RunsError>;
}

macro_rules! value {
    ($($of:ty),*) => {
        $(impl Value for $of {
            fn of(row: &Row<'_>, at: usize) -> Result<$of, RunsError> {
                match row {
                    Row::Sqlite(row) => Ok(row.get(at)?),
                    Row::Postgres(row) => Ok(sqlx::Row::try_get(*row, at)?),
                }
            }
        })*
    };
}

value!(i64, Option<i64>, String, Option<String>);

/// Yes and no are numbers, as SQLite has them.
impl Value for bool {
    fn of(row: &Row<'_>, at: usize) -> Result<bool, RunsError> {
        Ok(row.get::<i64>(at)? != 0)
    }
}

impl Db {
    /// Ends the connection. What it holds for us is free then.
    pub(super) fn close(self) {
        if let Db::Postgres(db) = self {
            db.close();
        }
    }

    /// Does what a statement says; how many rows it changed.
    pub(super) fn execute(&self, sql: &str, cells: &[Cell<'_>]) -> Result<usize, RunsError> {
        match self {
            Db::Sqlite(db) => Ok(db.prepare_cached(sql)?.execute(rusqlite::params_from_iter(cells))?),
            Db::Postgres(db) => db.execute(sql, cells),
        }
    }

    /// All rows that a question finds.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        cells: &[Cell<'_>],
        mut of: impl FnMut(&Row<'_>) -> Result<T, RunsError>,
    ) -> Result<Vec<T>, RunsError> {
        match self {
            Db::Sqlite(db) => {
                let mut statement = db.prepare_cached(sql)?;
                let mut rows = statement.query(rusqlite::params_from_iter(cells))?;
                let mut out = Vec::new();
                while let Some(row) = rows.next()? {
                    out.push(of(&Row::Sqlite(row))?);
                }
                Ok(out)
            }
            Db::Postgres(db) => db.all(sql, cells)?.iter().map(|row| of(&Row::Postgres(row))).collect(),
        }
    }

    /// The first row that a question finds.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        cells: &[Cell<'_>],
        of: impl FnMut(&Row<'_>) -> Result<T, RunsError>,
    ) -> Result<Option<T>, RunsError> {
        Ok(self.all(sql, cells, of)?.into_iter().next())
    }

    /// The number that a question always finds.
    pub(super) fn number(&self, sql: &str, cells: &[Cell<'_>]) -> Result<i64, RunsError> {
        let found = self.one(sql, cells, |row| row.get(0))?;
        found.ok_or_else(|| RunsError::Database(format!("there is no answer to {sql}")))
    }

    /// Looks at one moment: what is committed meanwhile is not seen.
    pub(super) fn reading<T>(&self, look: impl FnOnce(&Db) -> Result<T, RunsError>) -> Result<T, RunsError> {
        match self {
            Db::Sqlite(db) => {
                let _moment = db.unchecked_transaction()?;
                look(self)
            }
            Db::Postgres(db) => db.reading(|| look(self)),
        }
    }

    /// Changes all of it or nothing, durable once this is over.
    pub(super) fn writing<T>(&self, change: impl FnOnce(&Db) -> Result<T, RunsError>) -> Result<T, RunsError> {
        match self {
            Db::Sqlite(db) => {
                let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
                let out = change(self)?;
                transaction.commit()?;
                Ok(out)
            }
            Db::Postgres(db) => db.writing(|| change(self)),
        }
    }

    /// Changes tables, all of it or nothing, and nobody else meanwhile. Keys are not looked at until [`Db::orphans`] is asked: SQLite
    /// makes tables anew where PostgreSQL alters them.
    pub(super) fn altering<T>(&self, change: impl FnOnce(&Db) -> Result<T, RunsError>) -> Result<T, RunsError> {
        match self {
            Db::Sqlite(db) => {
                db.pragma_update(None, "foreign_keys", false)?;
                let out = self.writing(change);
                db.pragma_update(None, "foreign_keys", true)?;
                out
            }
            Db::Postgres(db) => db.altering(|| change(self)),
        }
    }

    /// Several statements that make or change tables, within [`Db::altering`].
    pub(super) fn batch(&self, sql: &str) -> Result<(), RunsError> {
        match self {
            Db::Sqlite(db) => Ok(db.execute_batch(sql)?),
            Db::Postgres(db) => db.batch(sql),
        }
    }

    /// A table with rows that belong to nothing, if there is one. PostgreSQL has none at any time.
    pub(super) fn orphans(&self) -> Result<Option<String>, RunsError> {
        match self {
            Db::Sqlite(db) => Ok(db.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()?),
            Db::Postgres(_) => Ok(None),
        }
    }

    /// Whether there is such a table.
    pub(super) fn has_table(&self, name: &str) -> Result<bool, RunsError> {
        let sql = match self {
            Db::Sqlite(_) => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?1",
            Db::Postgres(_) => "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?1",
        };
        Ok(self.number(sql, params![name])? > 0)
    }

    /// Asks for a row that is to stay as it is until this transaction is over. In SQLite nobody else writes meanwhile anyway.
    pub(super) fn held<T>(
        &self,
        sql: &str,
        of: impl FnMut(&Row<'_>) -> Result<T, RunsError>,
    ) -> Result<Option<T>, RunsError> {
        match self {
            Db::Sqlite(_) => self.one(sql, &[], of),
            Db::Postgres(_) => self.one(&format!("{sql} FOR SHARE"), &[], of),
        }
    }

    /// Whether nobody else has these records as theirs; they are ours then, until this connection ends. SQLite's are kept by a lock
    /// on their folder.
    pub(super) fn alone(&self) -> Result<bool, RunsError> {
        match self {
            Db::Sqlite(_) => Ok(true),
            Db::Postgres(db) => db.alone(),
        }
    }

    /// Gives up what [`Db::alone`] took.
    pub(super) fn release(&self) -> Result<(), RunsError> {
        match self {
            Db::Sqlite(_) => Ok(()),
            Db::Postgres(db) => db.release(),
        }
    }

    /// Where the database sees us come from; nothing for a file.
    pub(super) fn seen_from(&self) -> Result<Option<String>, RunsError> {
        match self {
            Db::Sqlite(_) => Ok(None),
            Db::Postgres(_) => self.one("SELECT host(inet_client_addr())", &[], |row| row.get(0)).map(Option::flatten),
        }
    }

    /// What became of a transaction that ended in [`RunsError::Unsure`], once that can be told.
    pub(super) fn became(&self, transaction: i64) -> Result<Option<bool>, RunsError> {
        match self {
            Db::Sqlite(_) => Ok(Some(false)),
            Db::Postgres(db) => db.became(transaction),
        }
    }
}
