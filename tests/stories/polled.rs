//! What is polled: things over HTTP, and databases: SQLite, a real PostgreSQL, a real MariaDB, a server that speaks MongoDB.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Kind, Secret};
use masterchief_bindings::Settings;
use masterchief_bindings::database::{self, DatabaseSettings, FindSettings, QuerySettings};
use masterchief_bindings::rest::{AuthSettings, On, RestSettings};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};
use warp::Filter;
use warp::http::Response;

use super::conformance::{Heard, reading};
use super::postgresql::Postgresql;
use super::servers::Database;

async fn start(settings: Settings, kind: Kind, mask: &str, heard: &Heard, dir: &tempfile::TempDir) -> Started {
    let bot = Bot::builder().data(dir.path()).sources(settings).bind(kind, "-|-", mask, heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    reading(&started).await;
    started
}

pub(crate) fn rest(url: String) -> RestSettings {
    RestSettings {
        url,
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        body: None,
        auth: AuthSettings::default(),
        every: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        on: On::Items,
        pointer: Some("/items".to_owned()),
        transform: Some("[?level != 'debug'].{id: id, level: level}".to_owned()),
        key: vec!["id".to_owned()],
        first: false,
        next: Some("/next".to_owned()),
        pages: 5,
    }
}

/// A server with two pages, ETags, and tokens that it takes once only.
struct Api {
    items: Mutex<Vec<Value>>,
    tokens: AtomicU32,
    same: AtomicU32,
    busy: AtomicU32,
}

async fn api() -> (Arc<Api>, u16) {
    let api = Arc::new(Api {
        items: Mutex::default(),
        tokens: AtomicU32::new(0),
        same: AtomicU32::new(0),
        busy: AtomicU32::new(0),
    });
    let with = {
        let api = Arc::clone(&api);
        warp::any().map(move || Arc::clone(&api))
    };
    let answer = |status: u16, body: Value| Response::builder().status(status).body(body.to_string()).unwrap();
    let token = warp::path!("token").and(warp::post()).and(with.clone()).map(move |api: Arc<Api>| {
        let number = api.tokens.fetch_add(1, Ordering::Relaxed);
        answer(200, json!({"access_token": format!("t{number}"), "expires_in": 3600}))
    });
    let things = warp::path!("things")
        .and(with)
        .and(warp::header::optional::<String>("authorization"))
        .and(warp::header::optional::<String>("if-none-match"))
        .and(warp::query::<BTreeMap<String, String>>())
        .map(move |api: Arc<Api>, auth: Option<String>, tag: Option<String>, query: BTreeMap<String, String>| {
            // The first token is bad: whoever has it gets another.
            if auth.is_none_or(|auth| auth == "Bearer t0") {
                return answer(401, json!({}));
            }
            if api.busy.load(Ordering::Relaxed) > 0 {
                api.busy.fetch_sub(1, Ordering::Relaxed);
                return Response::builder().status(429).header("retry-after", "1").body(String::new()).unwrap();
            }
            let items = api.items.lock().unwrap().clone();
            let now = format!("\"{}\"", items.len());
            if tag.as_ref() == Some(&now) {
                api.same.fetch_add(1, Ordering::Relaxed);
                return Response::builder().status(304).body(String::new()).unwrap();
            }
            let second = query.contains_key("page");
            // One page where it is little: only that can be the same.
            let half = if items.len() > 2 { items.len() / 2 } else { items.len() };
            let page = if second { &items[half..] } else { &items[..half] };
            let next = if second || half == items.len() { Value::Null } else { json!("/things?page=2") };
            Response::builder().header("etag", now).body(json!({"items": page, "next": next}).to_string()).unwrap()
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(warp::serve(token.or(things)).incoming(listener).run());
    (api, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_items_of_a_paged_list_are_told_with_a_token_that_is_renewed() {
    let (api, port) = api().await;
    *api.items.lock().unwrap() = vec![json!({"id": 1, "level": "info"}), json!({"id": 2, "level": "debug"})];
    let url = format!("http://127.0.0.1:{port}");
    let settings = RestSettings {
        auth: AuthSettings {
            token_url: Some(format!("{url}/token")),
            client_id: Some("chief".to_owned()),
            client_secret: Some(Secret::new("s")),
            ..AuthSettings::default()
        },
        ..rest(format!("{url}/things"))
    };
    let settings = Settings { rest: [("things".to_owned(), settings)].into(), ..Settings::default() };
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = start(settings.clone(), Kind::Rest, "rest:things", &heard, &dir).await;
    for _ in 0..200 {
        if api.same.load(Ordering::Relaxed) >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(api.same.load(Ordering::Relaxed) >= 2, "what is the same is not sent again");
    assert!(heard.all().is_empty(), "what was there at first is no news");
    assert_eq!(api.tokens.load(Ordering::Relaxed), 2);
    api.items.lock().unwrap().push(json!({"id": 3, "level": "error", "more": 1}));
    heard.until(1).await;
    assert_eq!(heard.all(), [json!({"id": 3, "level": "error"}).to_string()]);
    started.stop("").await;
    api.items.lock().unwrap().push(json!({"id": 4, "level": "error"}));
    api.busy.store(1, Ordering::Relaxed);
    let started = start(settings, Kind::Rest, "rest:things", &heard, &dir).await;
    heard.until(2).await;
    assert_eq!(heard.all()[1], json!({"id": 4, "level": "error"}).to_string(), "also what came while the bot was down");
    started.stop("").await;
}

pub(crate) fn query(sql: &str, on: database::On) -> QuerySettings {
    QuerySettings {
        sql: sql.to_owned(),
        every: Duration::from_millis(100),
        on,
        key: vec!["id".to_owned()],
        cursor: (on == database::On::Cursor).then(|| "id".to_owned()),
        start: (on == database::On::Cursor).then(|| json!(0)),
        overlap: Duration::ZERO,
        first: false,
        listen: None,
        find: None,
        watch: false,
        rows: 1000,
    }
}

pub(crate) fn databases(url: &str, queries: &[(&str, QuerySettings)]) -> Settings {
    let settings = DatabaseSettings {
        url: Secret::new(url),
        queries: queries.iter().map(|(name, query)| ((*name).to_owned(), query.clone())).collect(),
        read_only: true,
        timeout: Duration::from_secs(10),
    };
    Settings { databases: [("default".to_owned(), settings)].into(), ..Settings::default() }
}

const CURSOR: &str = "SELECT id, app, price FROM orders WHERE id > :cursor ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_rows_behind_a_cursor_are_told_once_each_also_over_a_restart() {
    let (dir, data, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
    let url = format!("sqlite://{}/shop.db", dir.path().display());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut db = options.create_if_missing(true).connect().await.unwrap();
    sqlx::query("CREATE TABLE orders(id INTEGER PRIMARY KEY, app TEXT, price REAL)").execute(&mut db).await.unwrap();
    let insert = "INSERT INTO orders(app, price) VALUES ('shop', 1.5), (NULL, 2.5)";
    sqlx::query(insert).execute(&mut db).await.unwrap();
    let settings = databases(&url, &[("orders", query(CURSOR, database::On::Cursor))]);
    let started = start(settings.clone(), Kind::Database, "db:query/orders", &heard, &data).await;
    heard.until(2).await;
    assert_eq!(heard.all()[1], json!({"id": 2, "app": null, "price": 2.5}).to_string());
    started.stop("").await;
    sqlx::query(insert).execute(&mut db).await.unwrap();
    let started = start(settings, Kind::Database, "db:query/orders", &heard, &data).await;
    heard.until(4).await;
    assert_eq!(heard.all().len(), 4);
    started.stop("").await;
    let bad = databases(&url, &[("orders", query("DELETE FROM orders RETURNING id", database::On::Rows))]);
    let started = Bot::builder().data(data.path()).sources(bad);
    let started =
        started.bind(Kind::Database, "-|-", "db:query/orders", heard.handler()).unwrap().start().await.unwrap();
    for _ in 0..100 {
        if started.sources().iter().any(|row| row.error.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        started.sources()[0].error.as_ref().is_some_and(|error| error.contains("readonly")),
        "{:?}",
        started.sources()
    );
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_wakes_a_query_and_its_rows_are_compared() {
    let (data, heard, server) = (tempfile::tempdir().unwrap(), Heard::default(), Postgresql::start().await);
    let url = server.url("public");
    let mut db = sqlx::postgres::PgConnection::connect(&url).await.unwrap();
    let table =
        "CREATE TABLE orders(id serial PRIMARY KEY, app text, price numeric(10,2), at timestamptz DEFAULT now())";
    sqlx::query(table).execute(&mut db).await.unwrap();
    let mut orders = query(CURSOR, database::On::Cursor);
    (orders.every, orders.listen) = (Duration::from_secs(3600), Some("orders".to_owned()));
    let apps = query("SELECT app AS id, count(*) AS orders FROM orders GROUP BY app", database::On::Rows);
    let settings = databases(&url, &[("orders", orders), ("apps", apps)]);
    let apps_heard = Heard::default();
    let told = Heard::default();
    let started = Bot::builder()
        .data(data.path())
        .sources(settings)
        .bind(Kind::Database, "-|-", "db:query/orders", heard.handler())
        .unwrap()
        .bind(Kind::Database, "-|-", "db:query/apps", apps_heard.handler())
        .unwrap()
        .bind(Kind::Database, "-|-", "db:listen/orders", told.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    reading(&started).await;
    sqlx::query("INSERT INTO orders(app, price) VALUES ('shop', 1.50)").execute(&mut db).await.unwrap();
    sqlx::query("NOTIFY orders, 'a new one'").execute(&mut db).await.unwrap();
    heard.until(1).await;
    assert_eq!(heard.all(), [json!({"id": 1, "app": "shop", "price": 1.50}).to_string()], "at once, not after an hour");
    apps_heard.until(1).await;
    assert_eq!(apps_heard.all(), [json!({"id": "shop", "orders": 1}).to_string()]);
    told.until(1).await;
    assert_eq!(told.all(), ["a new one"]);
    started.stop("").await;
    let values = format!("INSERT INTO great VALUES ({}), ({}), ({})", u64::MAX - 3, u64::MAX - 2, u64::MAX - 1);
    for sql in ["CREATE TABLE great(n numeric(20) PRIMARY KEY)", &values] {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
    }
    great_numbers(&url, "great").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_read_with_all_its_types() {
    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let server = Database::maria().await;
    let url = format!("mysql://root@127.0.0.1:{}/mysql", server.port);
    let options: sqlx::mysql::MySqlConnectOptions = url.parse().unwrap();
    let mut db = options.connect().await.unwrap();
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.orders(id INT PRIMARY KEY AUTO_INCREMENT, app VARCHAR(20), price DECIMAL(10,2), n BIGINT UNSIGNED, f DOUBLE, at DATETIME, ok BOOLEAN, raw BLOB)",
        "INSERT INTO shop.orders(app, price, n, f, at, ok, raw) VALUES ('käse', 1.50, 18446744073709551615, 0.5, '2026-01-02 03:04:05', true, x'00ff')",
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let sql =
        "SELECT id, app, price, n, f, at, ok, raw, NULL AS nothing FROM shop.orders WHERE id > :cursor ORDER BY id";
    let settings = databases(&url, &[("orders", query(sql, database::On::Cursor))]);
    let started = start(settings, Kind::Database, "db:query/orders", &heard, &data).await;
    heard.until(1).await;
    let row: Value = serde_json::from_str(&heard.all()[0]).unwrap();
    assert_eq!((&row["app"], &row["price"], &row["n"]), (&json!("käse"), &json!("1.50"), &json!(u64::MAX)), "{row}");
    assert_eq!(
        (&row["f"], &row["at"], &row["nothing"]),
        (&json!(0.5), &json!("2026-01-02 03:04:05"), &Value::Null),
        "{row}"
    );
    assert_eq!(row["raw"], json!("AP8="), "{row}");
    started.stop("").await;
}

/// Rows behind a cursor that only an unsigned number holds: as a floating one it would pass over its neighbours.
async fn great_numbers(url: &str, name: &str) {
    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let sql = "SELECT n FROM great WHERE n > :cursor ORDER BY n";
    let mut great = query(sql, database::On::Cursor);
    (great.cursor, great.start) = (Some("n".to_owned()), Some(json!(u64::MAX - 3)));
    let started =
        start(databases(url, &[(name, great)]), Kind::Database, &format!("db:query/{name}"), &heard, &data).await;
    heard.until(2).await;
    let rows = [u64::MAX - 2, u64::MAX - 1].map(|n| json!({ "n": n }).to_string());
    assert_eq!(heard.all(), rows);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_stops_what_takes_too_long_and_knows_great_numbers() {
    let server = Database::maria().await;
    let url = format!("mysql://root@127.0.0.1:{}/test", server.port);
    let root = format!("mysql://root@127.0.0.1:{}/mysql", server.port);
    let mut db = root.parse::<sqlx::mysql::MySqlConnectOptions>().unwrap().connect().await.unwrap();
    let values = format!("INSERT INTO test.great VALUES ({}), ({}), ({})", u64::MAX - 3, u64::MAX - 2, u64::MAX - 1);
    let made =
        ["CREATE DATABASE IF NOT EXISTS test", "CREATE TABLE test.great(n BIGINT UNSIGNED PRIMARY KEY)", &values];
    for sql in made {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
    }
    great_numbers(&url, "great").await;
    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let mut settings = databases(&url, &[("slow", query("SELECT SLEEP(600) AS id", database::On::Rows))]);
    settings.databases.get_mut("default").unwrap().timeout = Duration::from_millis(300);
    let started = Bot::builder().data(data.path()).sources(settings);
    let started = started.bind(Kind::Database, "-|-", "db:query/slow", heard.handler()).unwrap().start().await.unwrap();
    let asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
    let sleeping =
        async |db: &mut sqlx::mysql::MySqlConnection| -> i64 { sqlx::query_scalar(asked).fetch_one(db).await.unwrap() };
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !started.sources().iter().any(|row| row.error.is_some()) || sleeping(&mut db).await > 0 {
        assert!(tokio::time::Instant::now() < end, "it goes on: {:?}", started.sources());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_mongodb_wake_a_query_and_are_compared() {
    use mongodb::bson::{Document, doc};

    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let server = Database::mongo().await;
    let url = format!("mongodb://127.0.0.1:{}/shop", server.port);
    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! { "app": "shop", "price": 1.5, "state": "failed" }).await.unwrap();
    let find = |filter: Value, fields: &[&str]| FindSettings {
        collection: "orders".to_owned(),
        filter,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    // Asked once an hour; the change stream wakes it.
    let failed = QuerySettings {
        every: Duration::from_secs(3600),
        watch: true,
        find: Some(find(json!({"state": "failed"}), &["app", "price"])),
        cursor: Some("_id".to_owned()),
        start: None,
        ..query("", database::On::Cursor)
    };
    let all = QuerySettings {
        find: Some(find(Value::Null, &[])),
        key: vec!["_id".to_owned()],
        ..query("", database::On::Rows)
    };
    let settings = databases(&url, &[("failed", failed), ("all", all)]);
    let compared = Heard::default();
    let bot = || {
        let bot = Bot::builder().data(data.path()).sources(settings.clone());
        let bot = bot.bind(Kind::Database, "-|-", "db:query/failed", heard.handler()).unwrap();
        bot.bind(Kind::Database, "-|-", "db:query/all", compared.handler()).unwrap().start()
    };
    let started = bot().await.unwrap();
    reading(&started).await;
    heard.until(1).await;
    let row = |text: &String| serde_json::from_str::<Value>(text).unwrap();
    let first = row(&heard.all()[0]);
    assert_eq!((&first["app"], &first["price"], &first["state"]), (&json!("shop"), &json!(1.5), &Value::Null));
    assert!(first["_id"]["$oid"].is_string(), "{first}");
    orders.insert_one(doc! { "app": "käse", "price": 2, "state": "fine" }).await.unwrap();
    orders.insert_one(doc! { "app": "wurst", "price": 3, "state": "failed" }).await.unwrap();
    heard.until(2).await;
    assert_eq!(row(&heard.all()[1])["app"], json!("wurst"), "at once, not after an hour");
    compared.until(2).await;
    started.stop("").await;
    orders.delete_one(doc! { "app": "käse" }).await.unwrap();
    orders.insert_one(doc! { "app": "brot", "price": 3, "state": "failed" }).await.unwrap();
    let started = bot().await.unwrap();
    heard.until(3).await;
    compared.until(4).await;
    assert_eq!(row(&heard.all()[2])["app"], json!("brot"), "what came while the bot was down, and nothing twice");
    assert_eq!(heard.all().len(), 3);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_one_and_the_same_value_are_not_cut_apart() {
    let (dir, data, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
    let url = format!("sqlite://{}/shop.db", dir.path().display());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut db = options.create_if_missing(true).connect().await.unwrap();
    sqlx::query("CREATE TABLE sales(id INTEGER PRIMARY KEY, at INTEGER)").execute(&mut db).await.unwrap();
    sqlx::query("INSERT INTO sales(at) VALUES (1), (2), (2), (3), (3), (3), (4)").execute(&mut db).await.unwrap();
    let sales = QuerySettings {
        cursor: Some("at".to_owned()),
        rows: 3,
        ..query("SELECT id, at FROM sales WHERE at > :cursor ORDER BY at, id", database::On::Cursor)
    };
    let started =
        start(databases(&url, &[("sales", sales.clone())]), Kind::Database, "db:query/sales", &heard, &data).await;
    heard.until(7).await;
    let ids: Vec<Value> =
        heard.all().iter().map(|text| serde_json::from_str::<Value>(text).unwrap()["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
    sqlx::query("INSERT INTO sales(at) VALUES (5), (5), (5), (5)").execute(&mut db).await.unwrap();
    for _ in 0..200 {
        if started.sources()[0].error.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fault = started.sources()[0].error.clone().unwrap_or_default();
    assert!(fault.contains("more than 3 rows have one and the same at"), "{fault}");
    started.stop("").await;
}
