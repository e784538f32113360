//! A connection to PostgreSQL, made when it is needed and made again when it broke. It has a small runtime of its own and stays on
//! one thread, so that the rest asks it as it asks a file.

use std::cell::{Cell as Flag, RefCell};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres as Pg};
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _};

use super::RunsError;
use super::db::Cell;
use super::server::Server;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one statement may take: a server that vanished answers nothing, ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a migration may take.
const ALTER: Duration = Duration::from_secs(3600);
/// For each connection. Who vanishes with the records as theirs gives them up within a minute; and a commit is durable, whatever the
/// server thinks is enough.
const SESSION: &str = "SELECT set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '10', false),
     set_config('tcp_keepalives_count', '4', false),
     set_config('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)";
/// The lock of who has the records, and of who changes their tables: one for each schema of a database.
const OWNER: &str = "hashtextextended('masterchief runs of ' || current_schema(), 1)";
const TABLES: &str = "hashtextextended('masterchief runs of ' || current_schema(), 2)";

/// A connection, or how to make one.
pub(super) struct Postgres {
    runtime: tokio::runtime::Runtime,
    server: Server,
    connection: RefCell<Option<PgConnection>>,
    /// Whether the records are to be ours.
    ours: Flag<bool>,
    /// Whether this connection has the lock that says so.
    held: Flag<bool>,
    patience: Flag<Duration>,
}

impl Postgres {
    pub(super) fn new(server: Server) -> Result<Postgres, RunsError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Postgres {
            runtime: runtime.map_err(|fault| RunsError::Database(fault.to_string()))?,
            server,
            connection: RefCell::new(None),
            ours: Flag::new(false),
            held: Flag::new(false),
            patience: Flag::new(PATIENCE),
        })
    }

    pub(super) fn execute(&self, sql: &str, cells: &[Cell<'_>]) -> Result<usize, RunsError> {
        let query = asked(sql, cells);
        let done = self.with(async |db| query.execute(db).await)?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    pub(super) fn all(&self, sql: &str, cells: &[Cell<'_>]) -> Result<Vec<PgRow>, RunsError> {
        let query = asked(sql, cells);
        self.with(async |db| query.fetch_all(db).await)
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), RunsError> {
        self.raw(&tables(sql)).map(drop)
    }

    pub(super) fn reading<T>(&self, look: impl FnOnce() -> Result<T, RunsError>) -> Result<T, RunsError> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let out = look();
        self.roll_back();
        out
    }

    pub(super) fn writing<T>(&self, change: impl FnOnce() -> Result<T, RunsError>) -> Result<T, RunsError> {
        let begun = self.begin("BEGIN; SELECT txid_current()")?;
        let number: i64 = begun.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        match change() {
            Ok(out) => self.commit(number).map(|()| out),
            Err(fault) => {
                self.roll_back();
                Err(fault)
            }
        }
    }

    pub(super) fn altering<T>(&self, change: impl FnOnce() -> Result<T, RunsError>) -> Result<T, RunsError> {
        self.patience.set(ALTER);
        let out = self.writing(|| {
            self.raw(&format!("SELECT pg_advisory_xact_lock({TABLES})"))?;
            change()
        });
        self.patience.set(PATIENCE);
        out
    }

    pub(super) fn alone(&self) -> Result<bool, RunsError> {
        self.begin("SELECT 1")?;
        if !self.ours.get() {
            self.held.set(self.lock()?);
            self.ours.set(self.held.get());
        }
        Ok(self.ours.get())
    }

    /// Gives the records up, if they are ours; a connection that is gone has given them up already.
    pub(super) fn release(&self) -> Result<(), RunsError> {
        self.ours.set(false);
        if self.held.replace(false) && self.connection.borrow().is_some() {
            self.raw(&format!("SELECT pg_advisory_unlock({OWNER})"))?;
        }
        Ok(())
    }

    pub(super) fn became(&self, transaction: i64) -> Result<Option<bool>, RunsError> {
        let rows = self.all("SELECT txid_status(?1)", &[Cell::Number(Some(transaction))])?;
        let status: Option<String> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(match status.as_deref() {
            Some("in progress") => None,
            status => Some(status == Some("committed")),
        })
    }

    /// Says goodbye, so that what this connection holds is free at once.
    pub(super) fn close(self) {
        if let Some(connection) = self.connection.take() {
            // It may be gone already.
            let _ = self.runtime.block_on(async { tokio::time::timeout(CONNECT, connection.close()).await });
        }
    }

    /// The first statement of a transaction: nothing has happened before it, so a connection that broke since is made anew.
    fn begin(&self, sql: &str) -> Result<Vec<PgRow>, RunsError> {
        let rows = self.opened(sql)?;
        if self.ours.get() && !self.held.get() {
            // The connection before may not have let go of it yet. Somebody else may have it by now, too; the epoch tells.
            self.held.set(self.lock()?);
        }
        Ok(rows)
    }

    fn opened(&self, sql: &str) -> Result<Vec<PgRow>, RunsError> {
        if self.connection.borrow().is_some() {
            match self.raw(sql) {
                Err(RunsError::Lost(fault)) => tracing::debug!(%fault, "The connection to PostgreSQL is made anew"),
                done => return done,
            }
        }
        self.connect()?;
        self.raw(sql)
    }

    fn commit(&self, number: i64) -> Result<(), RunsError> {
        match self.raw("COMMIT") {
            // It may be committed, or not: the server was not heard any more.
            Err(RunsError::Lost(_)) => Err(RunsError::Unsure(number)),
            done => done.map(drop),
        }
    }

    fn roll_back(&self) {
        if self.connection.borrow().is_some() && self.raw("ROLLBACK").is_err() {
            // The server forgets what was not committed when the connection ends.
            self.connection.replace(None);
        }
    }

    fn connect(&self) -> Result<(), RunsError> {
        let options = &self.server.options;
        let connection = self.runtime.block_on(async {
            tokio::time::timeout(CONNECT, async {
                let mut connection = PgConnection::connect_with(options).await?;
                connection.execute(SESSION).await?;
                Ok(connection)
            })
            .await
        });
        let lost = |fault: sqlx::Error| RunsError::Lost(format!("{}: {}", self.server, told(&fault)));
        let late = |_| RunsError::Lost(format!("{} does not answer within {} s", self.server, CONNECT.as_secs()));
        self.held.set(false);
        self.connection.replace(Some(connection.map_err(late)?.map_err(lost)?));
        Ok(())
    }

    fn lock(&self) -> Result<bool, RunsError> {
        let rows = self.raw(&format!("SELECT pg_try_advisory_lock({OWNER})::int::bigint"))?;
        Ok(rows.first().map(|row| row.try_get::<i64, _>(0)).transpose()? == Some(1))
    }

    /// Statements of our own, as they are.
    fn raw(&self, sql: &str) -> Result<Vec<PgRow>, RunsError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        self.with(async |db| sql.fetch_all(db).await)
    }

    /// Does something with the connection, if there is one.
    fn with<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>) -> Result<T, RunsError> {
        let mut place = self.connection.borrow_mut();
        let Some(connection) = place.as_mut() else {
            return Err(RunsError::Lost("the connection to PostgreSQL is gone".to_owned()));
        };
        let patience = self.patience.get();
        let done = self.runtime.block_on(async { tokio::time::timeout(patience, work(connection)).await });
        let fault = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => RunsError::from(fault),
            Err(_) => RunsError::Lost(format!("PostgreSQL does not answer within {} s", patience.as_secs())),
        };
        if matches!(fault, RunsError::Lost(_)) {
            *place = None;
        }
        Err(fault)
    }
}

impl From<sqlx::Error> for RunsError {
    fn from(fault: sqlx::Error) -> RunsError {
        match &fault {
            // What it says as it goes down or comes up is not about what it was asked.
            sqlx::Error::Database(said) if !said.code().is_some_and(|code| gone(&code)) => {
                RunsError::Database(told(&fault))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => RunsError::Database(fault.to_string()),
            _ => RunsError::Lost(told(&fault)),
        }
    }
}

/// Whether a connection is of no use after this: a broken one, a server that goes down or is not up yet, one that became a copy.
fn gone(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || code == "25006"
}

fn told(fault: &sqlx::Error) -> String {
    match fault {
        sqlx::Error::Database(said) => format!("{} ({})", said.message(), said.code().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A statement as PostgreSQL writes it, with its values.
fn asked<'q>(sql: &str, cells: &[Cell<'_>]) -> sqlx::query::Query<'q, Pg, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql.replace('?', "$")));
    for cell in cells {
        query = match cell {
            Cell::Number(number) => query.bind(*number),
            // Its texts know every letter but this one, and a run must not wait for ever because a program said it.
            Cell::Text(text) => query.bind(text.map(|text| text.replace('\0', "\u{fffd}"))),
        };
    }
    query
}

/// A migration as PostgreSQL writes it. Texts are in order by their bytes, as in SQLite, whatever the database's own order is.
pub(super) fn tables(sql: &str) -> String {
    sql.replace(" WITHOUT ROWID", "")
        .replace("instr(", "strpos(")
        .replace(" freeze ", " \"freeze\" ")
        .replace(" TEXT", " TEXT COLLATE \"C\"")
}
