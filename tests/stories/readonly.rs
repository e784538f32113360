//! Queries only read, unless the configuration says otherwise: the databases themselves see to that.

use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::Kind;
use masterchief_bindings::Settings;
use masterchief_bindings::database::On;
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::conformance::Heard;
use super::polled::{databases, query};
use super::postgresql::Postgresql;
use super::servers::Database;
use super::steps::eventually;

/// A query that writes where it may.
fn writing(url: &str, sql: &str, read_only: bool) -> masterchief_bindings::database::DatabaseSettings {
    let mut write = query(sql, On::Hash);
    (write.first, write.every) = (true, Duration::from_secs(3600));
    let mut database = databases(url, &[("write", write)]).databases.remove("default").unwrap();
    database.read_only = read_only;
    database
}

/// Each with what its database says of who writes and may not.
const REFUSALS: [(&str, &str); 3] =
    [("postgres", "read-only transaction"), ("maria", "READ ONLY transaction"), ("sqlite", "readonly database")];

async fn asks(settings: Settings, heard: &Heard, dir: &tempfile::TempDir) -> Started {
    let mut bot = Bot::builder().data(dir.path()).sources(settings);
    for (name, _) in REFUSALS {
        bot = bot.bind(Kind::Database, "-|-", &format!("db@{name}:query/write"), heard.handler()).unwrap();
    }
    bot.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_writes_is_refused_by_its_database_unless_it_may() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (server, maria) = tokio::join!(Postgresql::start(), Database::maria());
    let sqlite = format!("sqlite://{}/shop.db", dirs[2].path().display());
    server.ask("public", "CREATE SEQUENCE numbers").await;
    let mut my = MySqlConnection::connect(&format!("mysql://root@127.0.0.1:{}/mysql", maria.port)).await.unwrap();
    let options: SqliteConnectOptions = sqlite.parse().unwrap();
    let mut lite: SqliteConnection = options.create_if_missing(true).connect().await.unwrap();
    sqlx::query("CREATE DATABASE shop").execute(&mut my).await.unwrap();
    sqlx::query("CREATE TABLE shop.numbers(n int)").execute(&mut my).await.unwrap();
    sqlx::query("CREATE TABLE numbers(n int)").execute(&mut lite).await.unwrap();
    let settings = |read_only| {
        let insert = "INSERT INTO numbers VALUES (1) RETURNING n AS id";
        let url = format!("mysql://root@127.0.0.1:{}/shop", maria.port);
        let all = [
            ("postgres", writing(&server.url("public"), "SELECT nextval('numbers') AS id", read_only)),
            ("maria", writing(&url, insert, read_only)),
            ("sqlite", writing(&sqlite, insert, read_only)),
        ];
        let databases = all.into_iter().map(|(name, settings)| (name.to_owned(), settings)).collect();
        Settings { databases, ..Settings::default() }
    };
    let heard = Heard::default();
    let started = asks(settings(true), &heard, &dirs[0]).await;
    for (name, words) in REFUSALS {
        eventually(name, async || {
            let rows = started.sources();
            let row = rows.iter().find(|row| row.stream.contains(name)).unwrap();
            row.error.as_ref().is_some_and(|error| error.contains(words))
        })
        .await;
    }
    started.stop("").await;
    let count = "SELECT count(*) FROM numbers";
    let of_maria = async |my: &mut MySqlConnection| -> i64 {
        sqlx::query(AssertSqlSafe(count.replace("numbers", "shop.numbers"))).fetch_one(my).await.unwrap().get(0)
    };
    let of_sqlite = async |lite: &mut SqliteConnection| -> i64 {
        sqlx::query(AssertSqlSafe(count.to_owned())).fetch_one(lite).await.unwrap().get(0)
    };
    assert_eq!(
        (of_maria(&mut my).await, of_sqlite(&mut lite).await, heard.all().len()),
        (0, 0, 0),
        "nothing is written"
    );
    let started = asks(settings(false), &heard, &dirs[1]).await;
    heard.until(1).await;
    eventually("that all may", async || heard.all().len() == 3).await;
    assert!(of_maria(&mut my).await > 0 && of_sqlite(&mut lite).await > 0);
    started.stop("").await;
}
