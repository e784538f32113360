//! One connection to PostgreSQL, MySQL or SQLite, and rows as JSON.

use std::str::FromStr;
use std::time::Duration;

use futures_util::TryStreamExt;
use masterchief_contract::{SourceError, Value};
use serde_json::{Map, Number};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Error, Row, TypeInfo, ValueRef};

use super::settings::DatabaseSettings;
use crate::faults::lost;

/// What went wrong, without what it was connected with.
pub(super) fn fault_of(fault: &Error) -> SourceError {
    match fault {
        Error::Database(told) => {
            let code = told.code().unwrap_or_default();
            let number = told.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
            let text = format!("{} ({code})", told.message());
            if is_wrong(&code, number) { SourceError::Wrong(text) } else { SourceError::Lost(text) }
        }
        // The server speaks no TLS, or a file of ours is none.
        Error::Configuration(_) | Error::Tls(_) => SourceError::Wrong(fault.to_string()),
        other => lost(other),
    }
}

/// Classes of SQLSTATE for which somebody has to change something, and a query that writes where it may only read.
const CLASSES: [&str; 7] = ["0A", "22", "28", "3D", "3F", "42", "25006"];
/// SQLite's numbers: no such query, no right to write, no such parameter, no database.
const OF_SQLITE: [&str; 4] = ["1", "8", "25", "26"];
/// What passes of MariaDB though its class does not: a user's connections, questions an hour, and everybody's statements are too many.
const CROWDED: [u16; 3] = [1203, 1226, 1461];
/// What does not pass of MariaDB though its class says nothing: a host that may not connect.
const STRANGER: u16 = 1130;

/// Whether somebody has to change something: the query, the names, the rights. The rest may pass (a server that begins, a lock).
fn is_wrong(code: &str, number: Option<u16>) -> bool {
    match number {
        Some(number) if CROWDED.contains(&number) => false,
        Some(STRANGER) => true,
        _ if code.len() == 5 => CLASSES.iter().any(|class| code.starts_with(class)),
        _ => OF_SQLITE.contains(&code),
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// And how long the server itself may work on a question.
    Postgres(Box<PgConnectOptions>, Duration),
    /// And how long the server itself may work on a question.
    Maria(Box<MySqlConnectOptions>, Duration),
    Sqlite(Box<SqliteConnectOptions>),
}

/// An open connection.
pub(super) enum Sql {
    Postgres(PgConnection),
    Maria(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl Address {
    pub(super) fn of(settings: &DatabaseSettings) -> Result<Address, String> {
        let url = settings.url.reveal();
        let wrong = |_: Error| "the url is not of the form postgres://user:password@host/database".to_owned();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // A pooler such as PgBouncer takes no more than names and a time zone with the first message; the rest is set after it.
            let options = PgConnectOptions::from_str(url).map_err(wrong)?.extra_float_digits(None);
            let options = options.application_name("masterchief").disable_statement_logging();
            return Ok(Address::Postgres(Box::new(options), settings.timeout));
        }
        if url.starts_with("mysql://") || url.starts_with("mariadb://") {
            let options = MySqlConnectOptions::from_str(url).map_err(wrong)?.disable_statement_logging();
            return Ok(Address::Maria(Box::new(options), settings.timeout));
        }
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(wrong)?.read_only(settings.read_only);
            let options = options.busy_timeout(Duration::from_secs(5)).disable_statement_logging();
            return Ok(Address::Sqlite(Box::new(options)));
        }
        Err("the url begins with postgres://, mysql:// or sqlite:".to_owned())
    }

    pub(super) async fn connect(&self, read_only: bool) -> Result<Sql, Error> {
        Ok(match self {
            Address::Postgres(options, longest) => {
                let mut connection = PgConnection::connect_with(options).await?;
                // Floats as exact as they are, as the library asks for by itself without a pooler.
                let limits = format!("SET statement_timeout = {}; SET extra_float_digits = 2", longest.as_millis());
                sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut connection).await?;
                if read_only {
                    sqlx::raw_sql("SET default_transaction_read_only = on").execute(&mut connection).await?;
                }
                Sql::Postgres(connection)
            }
            Address::Sqlite(options) => Sql::Sqlite(SqliteConnection::connect_with(options).await?),
            Address::Maria(options, longest) => {
                let mut connection = MySqlConnection::connect_with(options).await?;
                if read_only {
                    sqlx::query("SET SESSION TRANSACTION READ ONLY").execute(&mut connection).await?;
                }
                // MariaDB counts in seconds, MySQL in milliseconds and under another name; one that knows neither is
                // left to our own clock, which hangs up.
                let here = format!("SET SESSION max_statement_time = {}", longest.as_secs_f64());
                let there = format!("SET SESSION max_execution_time = {}", longest.as_millis());
                for limit in [here, there] {
                    if sqlx::query(AssertSqlSafe(limit)).execute(&mut connection).await.is_ok() {
                        break;
                    }
                }
                Sql::Maria(connection)
            }
        })
    }
}

impl Sql {
    /// Asks; `:cursor` in the text is the cursor's place. At most `most` rows are taken.
    pub(super) async fn ask(&mut self, sql: &str, cursor: Option<&Value>, most: usize) -> Result<Vec<Value>, Error> {
        let sql = statement(sql);
        let text = |placeholder: &str| AssertSqlSafe(sql.replace(":cursor", placeholder));
        // The text is the operator's own, from the configuration; what comes from outside is bound.
        match self {
            Sql::Postgres(connection) => {
                // A comment at the end would go on over the bracket.
                let sql = format!(
                    "SELECT row_to_json(masterchief_row) FROM ({}\n) masterchief_row",
                    sql.replace(":cursor", "$1")
                );
                let query = sqlx::query(AssertSqlSafe(sql));
                let query = match cursor {
                    Some(Value::Number(number)) if number.is_i64() => query.bind(number.as_i64()),
                    Some(Value::Number(number)) if number.is_u64() => {
                        query.bind(number.as_u64().map(sqlx::types::Decimal::from))
                    }
                    Some(Value::Number(number)) => query.bind(number.as_f64()),
                    Some(value) => query.bind(words(value)),
                    None => query,
                };
                let rows =
                    query.fetch(connection).map_ok(|row: PgRow| row.try_get::<Value, _>(0).unwrap_or(Value::Null));
                take(rows, most).await
            }
            Sql::Maria(connection) => {
                let query = sqlx::query(text("?"));
                let query = match cursor {
                    Some(Value::Number(number)) if number.is_i64() => query.bind(number.as_i64()),
                    Some(Value::Number(number)) if number.is_u64() => query.bind(number.as_u64()),
                    Some(Value::Number(number)) => query.bind(number.as_f64()),
                    Some(value) => query.bind(words(value)),
                    None => query,
                };
                take(query.fetch(connection).map_ok(|row| of_mysql(&row)), most).await
            }
            Sql::Sqlite(connection) => {
                let query = sqlx::query(text("?1"));
                let query = match cursor {
                    Some(Value::Number(number)) if number.is_i64() => query.bind(number.as_i64()),
                    Some(Value::Number(number)) => query.bind(number.as_f64()),
                    Some(value) => query.bind(words(value)),
                    None => query,
                };
                take(query.fetch(connection).map_ok(|row| of_sqlite(&row)), most).await
            }
        }
    }

    pub(super) async fn close(self) {
        let closed = match self {
            Sql::Postgres(connection) => connection.close().await,
            Sql::Maria(connection) => connection.close().await,
            Sql::Sqlite(connection) => connection.close().await,
        };
        if let Err(fault) = closed {
            tracing::debug!(%fault, "A connection to a database did not close well");
        }
    }
}

/// One statement without the semicolon that people write behind it: PostgreSQL is asked for it in brackets.
fn statement(sql: &str) -> &str {
    sql.trim_end_matches(|letter: char| letter == ';' || letter.is_whitespace())
}

async fn take(rows: impl futures_util::Stream<Item = Result<Value, Error>>, most: usize) -> Result<Vec<Value>, Error> {
    let mut rows = std::pin::pin!(rows);
    let mut out = Vec::new();
    while let Some(row) = rows.try_next().await? {
        out.push(row);
        if out.len() >= most {
            break;
        }
    }
    Ok(out)
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn bytes(bytes: Vec<u8>) -> Value {
    Value::from(String::from_utf8(bytes).unwrap_or_else(|fault| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(fault.as_bytes())
    }))
}

fn of_sqlite(row: &SqliteRow) -> Value {
    let value = |at: usize| -> Value {
        let Ok(raw) = row.try_get_raw(at) else { return Value::Null };
        if raw.is_null() {
            return Value::Null;
        }
        // SQLite's values have types of their own, whatever the column says.
        match raw.type_info().name() {
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(at).map_or(Value::Null, Value::from),
            "REAL" => row.try_get_unchecked::<f64, _>(at).map_or(Value::Null, float),
            // It keeps whatever bytes it is given as text.
            _ => row.try_get_unchecked::<Vec<u8>, _>(at).map_or(Value::Null, bytes),
        }
    };
    object(row.columns().iter().map(|column| (column.name(), value(column.ordinal()))))
}

fn of_mysql(row: &MySqlRow) -> Value {
    let value = |at: usize| -> Value {
        let Ok(raw) = row.try_get_raw(at) else { return Value::Null };
        if raw.is_null() {
            return Value::Null;
        }
        let info = raw.type_info().into_owned();
        let name = info.name();
        match name {
            "BOOLEAN" => row.try_get::<bool, _>(at).map_or(Value::Null, Value::from),
            name if name.ends_with("UNSIGNED") => row.try_get_unchecked::<u64, _>(at).map_or(Value::Null, Value::from),
            name if name.ends_with("INT") || name == "YEAR" => {
                row.try_get_unchecked::<i64, _>(at).map_or(Value::Null, Value::from)
            }
            "FLOAT" => row.try_get::<f32, _>(at).map_or(Value::Null, |number| float(f64::from(number))),
            "DOUBLE" => row.try_get::<f64, _>(at).map_or(Value::Null, float),
            // As it is written: a price is no floating point number.
            "DECIMAL" => {
                row.try_get::<sqlx::types::Decimal, _>(at).map_or(Value::Null, |number| Value::from(number.to_string()))
            }
            "DATETIME" => {
                row.try_get::<chrono::NaiveDateTime, _>(at).map_or(Value::Null, |at| Value::from(at.to_string()))
            }
            "TIMESTAMP" => row
                .try_get::<chrono::DateTime<chrono::Utc>, _>(at)
                .map_or(Value::Null, |at| Value::from(at.to_rfc3339())),
            "DATE" => row.try_get::<chrono::NaiveDate, _>(at).map_or(Value::Null, |at| Value::from(at.to_string())),
            "TIME" => row.try_get::<chrono::NaiveTime, _>(at).map_or(Value::Null, |at| Value::from(at.to_string())),
            "JSON" => row.try_get::<Value, _>(at).unwrap_or(Value::Null),
            _ => row.try_get_unchecked::<Vec<u8>, _>(at).map_or(Value::Null, bytes),
        }
    };
    object(row.columns().iter().map(|column| (column.name(), value(column.ordinal()))))
}

fn object<'a>(pairs: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(pairs.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_or_crowded_passes_and_a_query_a_name_or_a_right_does_not() {
        let passes = [
            // PostgreSQL: the line, a server that begins or ends, too many, a lock, a deadlock, a time that is over, a disk.
            "08006", "57P01", "57P02", "57P03", "53300", "53100", "55P03", "40001", "40P01", "57014", "58030", "XX000",
            // SQLite: locked, busy, not there yet, full, a disk.
            "5", "6", "14", "13", "10", "513",
        ];
        passes.iter().for_each(|code| assert!(!is_wrong(code, None), "{code}"));
        let wrong = ["28P01", "28000", "3D000", "3F000", "42601", "42P01", "42703", "42501", "22P02", "0A000", "25006"];
        let wrong = wrong.iter().chain(&OF_SQLITE);
        wrong.for_each(|code| assert!(is_wrong(code, None), "{code}"));
        for (code, number, is) in [
            ("08004", 1040, false), // too many connections
            ("42000", 1203, false),
            ("42000", 1226, false),
            ("42000", 1461, false),
            ("08S01", 1047, false), // a cluster that is not ready
            ("08S01", 1053, false), // it goes down
            ("HY000", 1205, false), // a lock
            ("40001", 1213, false),
            ("70100", 1317, false),
            ("70100", 1969, false), // max_statement_time
            ("HY000", 3024, false), // max_execution_time
            ("28000", 1045, true),
            ("42000", 1044, true),
            ("42000", 1049, true),
            ("42000", 1064, true),
            ("42S02", 1146, true),
            ("42S22", 1054, true),
            ("25006", 1792, true),
            ("HY000", 1130, true),
        ] {
            assert_eq!(is_wrong(code, Some(number)), is, "{code} {number}");
        }
        let cut = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(fault_of(&cut), SourceError::Lost(_)));
        assert!(matches!(fault_of(&Error::Tls("server does not support TLS".into())), SourceError::Wrong(_)));
    }

    #[tokio::test]
    async fn a_pooler_meets_nothing_in_the_first_message_that_it_would_refuse() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://chief@{}/shop?sslmode=disable", listener.local_addr().unwrap());
        let settings: DatabaseSettings = serde_json::from_value(serde_json::json!({"url": url})).unwrap();
        let address = Address::of(&settings).unwrap();
        let Address::Postgres(options, _) = address.clone() else { panic!("it is PostgreSQL's") };
        for listens in [false, true] {
            let connecting = async {
                match listens {
                    true => super::super::listen::Ear::open(&options, "jobs").await.map(drop),
                    false => address.connect(true).await.map(drop),
                }
            };
            let first = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut said = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4];
                stream.read_exact(&mut said).await.unwrap();
                said
            };
            let (said, _) = tokio::join!(first, tokio::time::timeout(Duration::from_secs(5), connecting));
            let words: Vec<&[u8]> = said[4..].split(|byte| *byte == 0).collect();
            let keys: Vec<_> = words.chunks(2).map(|pair| String::from_utf8_lossy(pair[0])).collect();
            let taken = ["user", "database", "client_encoding", "DateStyle", "TimeZone", "application_name", ""];
            assert!(keys.iter().all(|key| taken.contains(&&**key)), "{keys:?}");
        }
    }

    #[test]
    fn a_semicolon_at_the_end_is_no_part_of_the_statement() {
        assert_eq!(statement("SELECT ';' AS a ; \n;\n"), "SELECT ';' AS a");
        assert_eq!(statement("SELECT 1"), "SELECT 1");
    }
}
