//! The world that events come from, as the parent of the killed bots plays it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use masterchief::contract::{Kind, Secret};
use masterchief::gateway;
use masterchief_bindings::Settings;
use masterchief_bindings::database::{DatabaseSettings, FindSettings, On, QuerySettings};
use masterchief_bindings::log::{From, LogSettings};
use masterchief_bindings::stream::{Message, Publish, Publishers};
use masterchief_bindings::webhook::RouteSettings;
use mongodb::bson::{Document, doc};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use warp::Filter;

use crate::postgresql::Postgresql;
use crate::servers::{Database, RabbitMq, Redis, free_port, kafka_settings, rabbit_settings, redis_settings};

/// The sources that are proven.
#[allow(dead_code, reason = "a story names those that it wants")]
pub(crate) const SOURCES: &[&str] =
    &["log", "file", "database", "postgresql", "mariadb", "mongodb", "rest", "webhook", "redis", "rabbitmq", "kafka"];
/// Posts that are on their way at once.
const POSTS: usize = 16;
/// What the posts are signed with.
const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0";

/// What is written to.
#[expect(dead_code, reason = "servers live as long as those who talk to them")]
pub(crate) enum Outside {
    Log(PathBuf),
    File(PathBuf),
    Database(SqliteConnection),
    Postgresql(PgConnection, Postgresql),
    Maria(MySqlConnection, Database),
    Mongo(mongodb::Collection<Document>, Database),
    Rest(Items),
    Webhook(reqwest::Client, SocketAddr),
    Redis(Redis, redis::aio::MultiplexedConnection),
    Broker(Broker, Publishers, &'static str),
}

/// The list of a service: all items there ever were.
type Items = Arc<Mutex<String>>;

/// Kept until everything is heard.
#[expect(dead_code, reason = "they live as long as those who talk to them")]
pub(crate) enum Broker {
    Rabbit(RabbitMq),
    Kafka(MockCluster<'static, DefaultProducerContext>),
}

/// What a bot binds.
pub(crate) fn mask(source: &str, folder: &Path) -> (Kind, String) {
    match source {
        "log" | "abort" => (Kind::Log, folder.join("in/app.log").display().to_string()),
        "file" => (Kind::File, format!("{}/in/*.csv rows settle=10ms", folder.display())),
        "webhook" => (Kind::Webhook, "hook/*".to_owned()),
        "redis" => (Kind::Stream, "redis-stream:jobs".to_owned()),
        "rabbitmq" => (Kind::Stream, "rabbitmq:jobs".to_owned()),
        "kafka" => (Kind::Stream, "kafka:jobs".to_owned()),
        "rest" => (Kind::Rest, "rest:jobs".to_owned()),
        _ => (Kind::Database, "db:query/rows".to_owned()),
    }
}

/// Where the world told the bots to look.
fn address(folder: &Path) -> String {
    fs::read_to_string(folder.join("address")).unwrap_or_default()
}

/// How a bot reads.
pub(crate) fn settings(source: &str, folder: &Path) -> Settings {
    let port = || address(folder).parse().expect("the world says its port");
    match source {
        "redis" => redis_settings(port()),
        "rabbitmq" => rabbit_settings(port()),
        "kafka" => {
            let mut settings = kafka_settings(&address(folder), "chief");
            for kafka in settings.kafka.values_mut() {
                // Who was killed is out of the group soon.
                kafka.options.insert("session.timeout.ms".to_owned(), "4000".to_owned());
            }
            settings
        }
        "postgresql" | "mariadb" | "mongodb" => {
            let mut settings = local_settings(folder);
            for database in settings.databases.values_mut() {
                database.url = Secret::new(address(folder));
                for query in database.queries.values_mut().filter(|_| source == "mongodb") {
                    query.sql.clear();
                    query.find = Some(FindSettings { collection: "numbers".to_owned(), ..FindSettings::default() });
                }
            }
            settings
        }
        "rest" => {
            let rest = serde_json::json!({
                "url": format!("http://127.0.0.1:{}", address(folder)),
                "every": "100ms", "on": "new", "key": ["n"], "first": true,
            });
            let rest = serde_json::from_value(rest).expect("the settings are good");
            Settings { rest: [("jobs".to_owned(), rest)].into(), ..Settings::default() }
        }
        _ => local_settings(folder),
    }
}

fn local_settings(folder: &Path) -> Settings {
    let log = LogSettings {
        path: folder.join("in/app.log").display().to_string(),
        format: None,
        pattern: None,
        multi: None,
        from: From::Start,
        longest: None,
    };
    let query = QuerySettings {
        sql: "SELECT n FROM numbers WHERE n > :cursor ORDER BY n".to_owned(),
        every: Duration::from_millis(100),
        on: On::Cursor,
        key: Vec::new(),
        cursor: Some("n".to_owned()),
        start: Some((-1).into()),
        overlap: Duration::ZERO,
        first: false,
        listen: None,
        find: None,
        watch: false,
        rows: 500,
    };
    let database = DatabaseSettings {
        url: Secret::new(format!("sqlite://{}/in/rows.db", folder.display())),
        queries: [("rows".to_owned(), query)].into(),
        read_only: true,
        timeout: Duration::from_secs(10),
    };
    Settings { logs: vec![log], databases: [("default".to_owned(), database)].into(), ..Settings::default() }
}

/// Where a bot listens.
pub(crate) fn gateway(source: &str, folder: &Path) -> gateway::Settings {
    if source != "webhook" {
        return gateway::Settings::default();
    }
    let route: RouteSettings = serde_json::from_value(serde_json::json!({
        "preset": "standard",
        "secrets": [format!("whsec_{SECRET}")],
    }))
    .expect("the route is good");
    let listen = Some(address(folder).parse().expect("the world says where"));
    gateway::Settings { listen, routes: [("hook".to_owned(), route)].into(), ..gateway::Settings::default() }
}

impl Outside {
    /// Starts it, and tells the bots where to look.
    pub(crate) async fn start(source: &str, folder: &Path) -> Outside {
        let tell = |address: String| fs::write(folder.join("address"), address).expect("there is room");
        match source {
            "log" => Outside::Log(folder.join("in")),
            "file" => Outside::File(folder.join("in")),
            "rest" => {
                let items = Items::default();
                tell(serves(Arc::clone(&items)).await.to_string());
                Outside::Rest(items)
            }
            "webhook" => {
                let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
                tell(at.to_string());
                // Only this program's own; it is the first.
                let _ = rustls::crypto::ring::default_provider().install_default();
                Outside::Webhook(reqwest::Client::new(), at)
            }
            "redis" => {
                let redis = Redis::start().await;
                tell(redis.port.to_string());
                let mut connection = redis.connection().await;
                // From the beginning: the bot may come later than the first entry.
                let group: redis::RedisResult<()> = redis::cmd("XGROUP")
                    .arg(&["CREATE", "jobs", "chief", "0", "MKSTREAM"])
                    .query_async(&mut connection)
                    .await;
                group.expect("the group is new");
                Outside::Redis(redis, connection)
            }
            "rabbitmq" => {
                let rabbit = RabbitMq::start().await;
                tell(rabbit.port.to_string());
                let publishers = Publishers::new(Arc::new(rabbit_settings(rabbit.port)));
                Outside::Broker(Broker::Rabbit(rabbit), publishers, "rabbitmq:jobs")
            }
            "kafka" => {
                let cluster = MockCluster::new(3).expect("librdkafka plays a cluster");
                cluster.create_topic("jobs", 4, 3).expect("the topic is new");
                let brokers = cluster.bootstrap_servers();
                tell(brokers.clone());
                let publishers = Publishers::new(Arc::new(kafka_settings(&brokers, "chief")));
                Outside::Broker(Broker::Kafka(cluster), publishers, "kafka:jobs")
            }
            "postgresql" => {
                let server = Postgresql::start().await;
                let url = server.url("public");
                let mut db = PgConnection::connect(&url).await.expect("it has begun");
                sqlx::query(TABLE).execute(&mut db).await.expect("the table is new");
                tell(url);
                Outside::Postgresql(db, server)
            }
            "mariadb" => {
                let server = Database::maria().await;
                let url = format!("mysql://root@127.0.0.1:{}/mysql", server.port);
                let mut db = MySqlConnection::connect(&url).await.expect("it has begun");
                sqlx::query(TABLE).execute(&mut db).await.expect("the table is new");
                tell(url);
                Outside::Maria(db, server)
            }
            "mongodb" => {
                let (documents, server, url) = documents().await;
                tell(url);
                Outside::Mongo(documents, server)
            }
            _ => Outside::Database(sqlite(folder).await),
        }
    }

    /// Lets one part of the events happen. Ready once the world has them; whoever posts tries until they are taken.
    pub(crate) async fn write(&mut self, part: usize, numbers: &[usize]) {
        let lines = || numbers.iter().map(|number| format!("{number}\n")).collect::<String>();
        match self {
            Outside::Log(folder) => {
                let log = folder.join("app.log");
                if part % 10 == 9 {
                    fs::rename(&log, folder.join(format!("app.log.{part}"))).expect("it was written before");
                }
                let mut file = OpenOptions::new().create(true).append(true).open(&log).expect("the folder is there");
                file.write_all(lines().as_bytes()).expect("there is room");
            }
            Outside::File(folder) => {
                let to = folder.join(format!("{part}.part"));
                fs::write(&to, format!("n\n{}", lines())).expect("there is room");
                fs::rename(&to, folder.join(format!("{part:03}.csv"))).expect("it was just written");
            }
            Outside::Database(db) => {
                sqlx::query(insert(numbers)).execute(db).await.expect("the statement is good");
            }
            Outside::Postgresql(db, _) => {
                sqlx::query(insert(numbers)).execute(db).await.expect("the statement is good");
            }
            Outside::Maria(db, _) => {
                sqlx::query(insert(numbers)).execute(db).await.expect("the statement is good");
            }
            Outside::Mongo(documents, _) => {
                let number = |number: &usize| doc! { "_id": *number as i64, "n": *number as i64 };
                documents.insert_many(numbers.iter().map(number)).await.expect("MongoDB takes them");
            }
            Outside::Rest(items) => {
                let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
                for number in numbers {
                    let comma = if items.is_empty() { "" } else { "," };
                    items.push_str(&format!("{comma}{{\"n\":{number}}}"));
                }
            }
            Outside::Webhook(client, at) => {
                for some in numbers.chunks(POSTS) {
                    futures_util::future::join_all(some.iter().map(|number| post(client, *at, *number))).await;
                }
            }
            Outside::Redis(_, connection) => {
                let mut pipe = redis::pipe();
                for number in numbers {
                    pipe.cmd("XADD").arg("jobs").arg("*").arg("data").arg(number).ignore();
                }
                pipe.query_async::<()>(connection).await.expect("Redis takes it");
            }
            Outside::Broker(_, publishers, to) => {
                let publish = async |number: &usize| {
                    let (payload, key) = (number.to_string().into_bytes(), Some(number.to_string()));
                    let message = Message { to: (*to).to_owned(), payload, key, ..Message::default() };
                    // The first bot makes the queue.
                    while publishers.publish(message.clone()).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                futures_util::future::join_all(numbers.iter().map(publish)).await;
            }
        }
    }

    /// Lets go of what need not be kept until everything is heard.
    pub(crate) async fn done(&mut self) {
        if let Outside::Database(db) = self {
            sqlx::query("PRAGMA wal_checkpoint").execute(db).await.expect("the database is whole");
        }
    }
}

/// A file of SQLite with the table.
async fn sqlite(folder: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}/in/rows.db", folder.display());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().expect("the address is good");
    let options = options.create_if_missing(true).journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let mut db = options.connect().await.expect("the database can be made");
    sqlx::query(TABLE).execute(&mut db).await.expect("the table is new");
    db
}

/// A collection, its server, and where that is.
async fn documents() -> (mongodb::Collection<Document>, Database, String) {
    let server = Database::mongo().await;
    let url = format!("mongodb://127.0.0.1:{}/shop?directConnection=true", server.port);
    let client = mongodb::Client::with_uri_str(&url).await.expect("the address is good");
    (client.database("shop").collection("numbers"), server, url)
}

/// What is read behind a cursor.
const TABLE: &str = "CREATE TABLE numbers(n INTEGER PRIMARY KEY)";

fn insert(numbers: &[usize]) -> sqlx::AssertSqlSafe<String> {
    let values: Vec<String> = numbers.iter().map(|number| format!("({number})")).collect();
    sqlx::AssertSqlSafe(format!("INSERT INTO numbers(n) VALUES {}", values.join(",")))
}

/// Shows the list to whoever asks; the port.
async fn serves(items: Items) -> u16 {
    let shown = warp::any().map(move || {
        let items = items.lock().unwrap_or_else(PoisonError::into_inner);
        warp::reply::with_header(format!("[{items}]"), "content-type", "application/json")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(warp::serve(shown).incoming(listener).run());
    port
}

/// Posts until it is taken. The same event has the same id each time.
async fn post(client: &reqwest::Client, at: SocketAddr, number: usize) {
    let body = format!("{{\"type\":\"job.done\",\"n\":{number}}}");
    loop {
        let now = chrono::Utc::now().timestamp();
        let id = format!("msg_{number}");
        let key = base64::engine::general_purpose::STANDARD.decode(SECRET).expect("the secret is base64");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let sign = ring::hmac::sign(&key, format!("{id}.{now}.{body}").as_bytes());
        let sign = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(sign.as_ref()));
        let sent = client
            .post(format!("http://{at}/hooks/hook"))
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", sign)
            .body(body.clone())
            .timeout(Duration::from_secs(5));
        match sent.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200..=299) => return,
            Ok(status @ 400..=499) => panic!("the gateway refuses a post with {status}"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
