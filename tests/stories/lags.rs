//! What monitors and operators are told of sources: how much waits outside, what was lost, what is wrong and since when.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::Kind;
use masterchief::{gateway, journal};
use masterchief_bindings::Settings;
use masterchief_bindings::database;
use masterchief_bindings::log::SyslogSettings;
use masterchief_bindings::metric::StatsdSettings;
use masterchief_bindings::rest::{On, RestSettings};
use masterchief_bindings::stream::{Message, Publish, Publishers};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warp::Filter;

use super::brokers::KafkaWorld;
use super::conformance::{Heard, World, noise, numbered, reading};
use super::polled::{databases, query, rest};
use super::runs::masterchief;
use super::servers::{RabbitMq, Redis, Way, free_port, rabbit_settings, redis_settings};
use super::steps::eventually;
use super::webhooks::client;

/// A list over HTTP.
#[derive(Clone, Default)]
struct List(Arc<std::sync::Mutex<Vec<String>>>);

impl List {
    async fn serve(&self) -> u16 {
        let items = self.clone();
        let things = warp::path!("things").map(move || json!(*items.0.lock().unwrap()).to_string());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(warp::serve(things).incoming(listener).run());
        port
    }

    fn grows(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn settings(port: u16) -> RestSettings {
        let url = format!("http://127.0.0.1:{port}/things");
        let usual = rest(url);
        RestSettings { on: On::New, pointer: None, transform: None, key: Vec::new(), first: true, next: None, ..usual }
    }
}

/// Something of every kind to read.
struct Outside {
    redis: Redis,
    _rabbit: RabbitMq,
    kafka: KafkaWorld,
    dir: tempfile::TempDir,
    log: fs::File,
    list: List,
    table: SqliteConnection,
    statsd: SocketAddr,
    syslog: SocketAddr,
    settings: Settings,
}

impl Outside {
    async fn new() -> Outside {
        let (redis, rabbit, kafka) = tokio::join!(Redis::start(), RabbitMq::start(), KafkaWorld::with(1));
        let (dir, list) = (tempfile::tempdir().unwrap(), List::default());
        fs::create_dir(dir.path().join("in")).unwrap();
        let log = fs::File::create(dir.path().join("app.log")).unwrap();
        let url = format!("sqlite://{}/shop.db", dir.path().display());
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let mut table = options.create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE jobs(id INTEGER PRIMARY KEY)").execute(&mut table).await.unwrap();
        let jobs = query("SELECT id FROM jobs WHERE id > :cursor ORDER BY id", database::On::Cursor);
        let [statsd, syslog] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let settings = Settings {
            redis: redis_settings(redis.port).redis,
            rabbitmq: rabbit_settings(rabbit.port).rabbitmq,
            kafka: kafka.settings.kafka.clone(),
            databases: databases(&url, &[("jobs", jobs)]).databases,
            rest: [("things".to_owned(), List::settings(list.serve().await))].into(),
            statsd: Some(StatsdSettings { udp: None, tcp: Some(statsd), window: Duration::from_millis(100) }),
            syslog: Some(SyslogSettings { udp: None, tcp: Some(syslog) }),
            ..Settings::default()
        };
        Outside { redis, _rabbit: rabbit, kafka, dir, log, list, table, statsd, syslog, settings }
    }

    /// A bot that reads all of it, with little room in its journal.
    async fn heard_by(&self, heard: &Heard) -> Started {
        let folder = self.dir.path().display().to_string();
        let gateway = gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..gateway::Settings::default() };
        let small = journal::Settings {
            max_bytes: 64 << 10,
            stream_bytes: Some(64 << 10),
            keep_bytes: 1 << 10,
            ..journal::Settings::default()
        };
        let mut bot = Bot::builder().data(&self.dir.path().join("data")).journal(small).gateway(gateway);
        bot = bot.sources(self.settings.clone());
        for (kind, mask) in [
            (Kind::Stream, "redis-stream:jobs"),
            (Kind::Stream, "redis:news"),
            (Kind::Stream, "rabbitmq:jobs"),
            (Kind::Stream, self.kafka.mask().as_str()),
            (Kind::Log, format!("{folder}/app.log").as_str()),
            (Kind::Log, "syslog"),
            (Kind::File, format!("{folder}/in/*.txt rows settle=20ms").as_str()),
            (Kind::Rest, "rest:things"),
            (Kind::Database, "db:query/jobs"),
            (Kind::Metric, "statsd:jobs>0"),
        ] {
            bot = bot.bind(kind, "-|-", mask, heard.handler()).unwrap();
        }
        let started = bot.start().await.unwrap();
        reading(&started).await;
        started
    }

    /// More happens than is read at once.
    async fn much(&mut self) {
        let mut connection = self.redis.connection().await;
        let mut pipe = redis::pipe();
        for text in numbered("entry", 0..3000) {
            pipe.cmd("XADD").arg("jobs").arg("*").arg("data").arg(text).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
        let publishers = Publishers::new(Arc::new(self.settings.clone()));
        let sent = numbered("message", 0..300).into_iter().map(|text| {
            publishers.publish(Message { to: "rabbitmq:jobs".into(), payload: text.into(), ..Message::default() })
        });
        for sent in sent.collect::<Vec<_>>() {
            sent.await.unwrap();
        }
        self.kafka.publish(&numbered("message", 0..50)).await;
        let lines: String = (0..3000).map(|number| format!("{number} {}\n", "x".repeat(1000))).collect();
        self.log.write_all(lines.as_bytes()).unwrap();
        fs::write(self.dir.path().join("part"), numbered("row", 0..5000).join("\n")).unwrap();
        fs::rename(self.dir.path().join("part"), self.dir.path().join("in/rows.txt")).unwrap();
        self.list.grows("one");
        sqlx::query("INSERT INTO jobs DEFAULT VALUES").execute(&mut self.table).await.unwrap();
        let mut statsd = TcpStream::connect(self.statsd).await.unwrap();
        statsd.write_all(b"jobs:1|g\n").await.unwrap();
    }

    /// What is said to whoever happens to listen.
    async fn said(&self) {
        let mut syslog = TcpStream::connect(self.syslog).await.unwrap();
        syslog.write_all(b"<13>Jan  1 00:00:00 host app: words\n").await.unwrap();
        let mut connection = self.redis.connection().await;
        redis::cmd("PUBLISH").arg("news").arg("words").query_async::<()>(&mut connection).await.unwrap();
    }
}

/// What `/metrics` says.
struct Told(String);

impl Told {
    async fn by(started: &Started) -> Told {
        let url = format!("http://{}/metrics", started.gateway_at().unwrap());
        Told(client().get(url).send().await.unwrap().text().await.unwrap())
    }

    /// The number of a family whose labels hold this.
    fn of(&self, family: &str, label: &str) -> Option<f64> {
        let family = format!("masterchief_source_{family}{{");
        let mut rows = self.0.lines().filter_map(|line| line.strip_prefix(&family)?.rsplit_once("} "));
        rows.find(|(labels, _)| labels.contains(label)).and_then(|(_, value)| value.parse().ok())
    }
}

/// Streams by what their labels hold, the unit their lag is told in, and how much of it there is at least.
const LAGS: [(&str, &str, f64); 9] = [
    ("redis-stream:jobs", "entries", 1000.0),
    ("rabbitmq:jobs", "messages", 100.0),
    ("kafka:", "messages", 1.0),
    ("app.log", "bytes", 1_000_000.0),
    ("kind=\"file\"", "files", 1.0),
    ("syslog", "messages", 1.0),
    ("kind=\"rest\"", "seconds", 2.0),
    ("kind=\"database\"", "seconds", 2.0),
    ("kind=\"metric\"", "seconds", 2.0),
];

#[tokio::test(flavor = "multi_thread")]
async fn how_much_waits_outside_is_told_of_every_kind_while_the_journal_is_full_and_when_it_is_not() {
    let (mut outside, heard) = (Outside::new().await, Heard::default());
    heard.stuck.store(true, Ordering::Relaxed);
    let started = outside.heard_by(&heard).await;
    let fill: String = (0..200).map(|number: u32| noise(&number.to_string(), 1000) + "\n").collect();
    outside.log.write_all(fill.as_bytes()).unwrap();
    eventually("that it is full", async || started.journal().status().await.unwrap().full).await;
    outside.much().await;
    let mut lags = LAGS.to_vec();
    eventually("all lags", async || {
        outside.said().await;
        let told = Told::by(&started).await;
        lags.retain(|(stream, _, least)| told.of("lag", stream).is_none_or(|lag| lag < *least));
        lags.is_empty() && told.of("dropped_total", "redis:news").is_some_and(|dropped| dropped > 0.0)
    })
    .await;
    // What comes while nobody reads at all.
    for number in 0..5 {
        fs::write(outside.dir.path().join("part"), "a row").unwrap();
        fs::rename(outside.dir.path().join("part"), outside.dir.path().join(format!("in/more{number}.txt"))).unwrap();
    }
    eventually("that files are counted", async || {
        Told::by(&started).await.of("lag", "kind=\"file\"").is_some_and(|lag| lag >= 6.0)
    })
    .await;
    let told = Told::by(&started).await;
    for (stream, unit, _) in LAGS {
        assert!(told.of("lag", stream).is_some(), "{stream}");
        let with_unit = told.0.lines().any(|line| line.contains(stream) && line.contains(&format!("unit=\"{unit}\"")));
        assert!(with_unit, "{stream} in {unit}: {}", told.0);
    }
    heard.stuck.store(false, Ordering::Relaxed);
    eventually("that nothing waits", async || {
        let told = Told::by(&started).await;
        LAGS.iter().all(|(stream, ..)| told.of("lag", stream).is_some_and(|lag| lag <= 1.0))
            && told.of("lag", "app.log") == Some(0.0)
    })
    .await;
    eventually("all that came", async || {
        let told = Told::by(&started).await;
        let events = |stream: &str| told.of("events_total", stream).unwrap_or_default();
        (events("redis-stream:jobs"), events("rabbitmq:jobs"), events("kafka:")) == (3000.0, 300.0, 50.0)
            && (events("app.log"), events("kind=\"file\"")) == (3200.0, 5005.0)
            && ["rest", "database", "metric"].iter().all(|kind| events(&format!("kind=\"{kind}\"")) == 1.0)
            && LAGS.iter().all(|(stream, ..)| told.of("rate", stream).is_some())
            && told.of("rate", "app.log").is_some_and(|rate| rate > 1.0)
    })
    .await;
    started.stop("").await;
}

/// A row of `masterchief sources --json`.
fn shown(project: &std::path::Path, stream: &str) -> Value {
    let (code, said) = masterchief(project, &["sources", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let all = serde_json::from_str::<Value>(&said).unwrap();
    let mut rows = all["sources"].as_array().unwrap().iter();
    rows.find(|row| row["stream"].as_str().is_some_and(|name| name.contains(stream))).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_source_has_a_time_and_an_end_and_a_path_that_is_not_there_is_told() {
    let (dir, heard, list) = (tempfile::tempdir().unwrap(), Heard::default(), List::default());
    let way = Way::to(list.serve().await).await;
    way.close();
    let settings = Settings { rest: [("things".to_owned(), List::settings(way.port))].into(), ..Settings::default() };
    let gateway = gateway::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..gateway::Settings::default() };
    let log = dir.path().join("shop.log").display().to_string();
    let files = dir.path().join("nowhere/*.csv").display().to_string();
    let bot = Bot::builder().data(&dir.path().join("data")).sources(settings).gateway(gateway);
    let bot = bot.bind(Kind::Rest, "-|-", "rest:things", heard.handler()).unwrap();
    let bot = bot.bind(Kind::Log, "-|-", &log, heard.handler()).unwrap();
    let bot = bot.bind(Kind::File, "-|-", &files, heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    for (stream, state, words) in [
        ("rest:things", "lost", "error"),
        ("shop.log", "troubled", "shop.log is not there; it is read once it is"),
        ("nowhere", "troubled", "nowhere is not there"),
    ] {
        eventually(stream, async || {
            let row = shown(dir.path(), stream);
            row["state"] == state && row["error"].as_str().is_some_and(|error| error.contains(words))
        })
        .await;
        let told = Told::by(&started).await;
        assert_eq!((told.of("up", stream), told.of("faulty", stream)), (Some(0.0), Some(1.0)), "{}", told.0);
        let since = chrono::Utc::now().timestamp() as f64 - told.of("last_error_timestamp_seconds", stream).unwrap();
        assert!((-1.0..120.0).contains(&since), "{since}");
    }
    way.open();
    list.grows("one");
    fs::write(&log, "one\n").unwrap();
    fs::create_dir(dir.path().join("nowhere")).unwrap();
    for stream in ["rest:things", "shop.log", "nowhere"] {
        eventually(stream, async || shown(dir.path(), stream)["error"].is_null()).await;
        let row = shown(dir.path(), stream);
        assert!(row["state"] == "reading" && row["last_error"].is_string(), "{row}");
        let told = Told::by(&started).await;
        assert_eq!((told.of("up", stream), told.of("faulty", stream)), (Some(1.0), Some(0.0)), "{}", told.0);
        assert!(told.of("last_error_timestamp_seconds", stream).is_some());
    }
    let (_, said) = masterchief(dir.path(), &["sources"]);
    assert!(said.contains("over: ") && said.contains("AGAIN"), "{said}");
    heard.until(1).await;
    started.stop("").await;
}
