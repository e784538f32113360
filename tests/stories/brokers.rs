//! Real brokers; Kafka by librdkafka's own mock cluster, and by a broker that speaks it.

use std::sync::Arc;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::Kind;
use masterchief_bindings::Settings;
use masterchief_bindings::stream::{Message, Publish, Publishers};
use rdkafka::mocking::MockCluster;

use super::conformance::{self, Heard, World, reading};
use super::servers::{RabbitMq, Redis, Tansu, Way, kafka_settings, rabbit_settings, redis_settings};
use super::worlds::{Row, row};

struct RedisWorld(Redis);

impl World for RedisWorld {
    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn mask(&self) -> String {
        "redis-stream:jobs".to_owned()
    }

    fn settings(&self) -> Settings {
        redis_settings(self.0.port)
    }

    async fn publish(&mut self, texts: &[String]) {
        let mut connection = self.0.connection().await;
        let mut pipe = redis::pipe();
        for text in texts {
            pipe.cmd("XADD").arg("jobs").arg("*").arg("data").arg(text).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }

    async fn cut(&mut self) {
        let mut connection = self.0.connection().await;
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query_async::<()>(&mut connection).await.unwrap();
    }

    fn row(&self) -> Row {
        row("Redis stream")
    }

    async fn poison(&mut self) -> Option<String> {
        let mut connection = self.0.connection().await;
        let mut add = redis::cmd("XADD");
        add.arg("jobs").arg("*").arg("data").arg(NO_TEXT).query_async::<()>(&mut connection).await.unwrap();
        Some(no_text())
    }

    async fn stop(&mut self) {
        self.0.server = None;
    }

    async fn start(&mut self) {
        self.0.begin().await;
    }

    fn second(&self) -> Settings {
        let mut settings = redis_settings(self.0.port);
        settings.redis.get_mut("default").unwrap().consumer = "two".to_owned();
        settings
    }

    async fn long_ago(&mut self) {
        let mut connection = self.0.connection().await;
        let pending = run("XPENDING jobs chief - + 1000");
        let rows: Vec<(String, String, u64, u64)> = pending.query_async(&mut connection).await.unwrap();
        for (id, whose, ..) in rows {
            let aged = run(&format!("XCLAIM jobs chief {whose} 0 {id} IDLE 3600000 JUSTID"));
            aged.query_async::<redis::Value>(&mut connection).await.unwrap();
        }
    }
}

/// Bytes that are no text, and what is heard of them.
const NO_TEXT: &[u8] = b"no \xff text";

fn no_text() -> String {
    String::from_utf8_lossy(NO_TEXT).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_stream_passes_the_suite() {
    conformance::passes(async || RedisWorld(Redis::start().await)).await;
}

/// A channel, behind a way of its own; `said` is who speaks there.
struct ChannelWorld {
    redis: Redis,
    way: Way,
}

impl ChannelWorld {
    async fn new() -> ChannelWorld {
        let redis = Redis::start().await;
        let way = Way::to(redis.port).await;
        ChannelWorld { redis, way }
    }

    async fn say(&self, texts: &[&[u8]]) {
        let mut connection = self.redis.connection().await;
        let mut pipe = redis::pipe();
        for text in texts {
            pipe.cmd("PUBLISH").arg("news").arg(*text).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
}

impl World for ChannelWorld {
    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn mask(&self) -> String {
        "redis:news".to_owned()
    }

    fn settings(&self) -> Settings {
        redis_settings(self.way.port)
    }

    fn row(&self) -> Row {
        row("Redis channel")
    }

    async fn publish(&mut self, texts: &[String]) {
        self.say(&texts.iter().map(String::as_bytes).collect::<Vec<_>>()).await;
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    async fn poison(&mut self) -> Option<String> {
        self.say(&[NO_TEXT]).await;
        Some(no_text())
    }

    async fn stop(&mut self) {
        self.way.close();
    }

    async fn start(&mut self) {
        self.way.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_channel_passes_what_of_the_suite_has_a_meaning() {
    conformance::passes(ChannelWorld::new).await;
}

/// A command of Redis, word by word.
fn run(words: &str) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words.split(' ') {
        command.arg(word);
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_consumer_was_given_and_left_lying_is_taken_over() {
    let redis = Redis::start().await;
    let mut connection = redis.connection().await;
    run("XGROUP CREATE jobs chief 0 MKSTREAM").query_async::<()>(&mut connection).await.unwrap();
    run("XADD jobs * data lost").query_async::<()>(&mut connection).await.unwrap();
    run("XREADGROUP GROUP chief gone STREAMS jobs >").query_async::<redis::Value>(&mut connection).await.unwrap();
    // As if it had lain there for an hour.
    let id: redis::Value = run("XPENDING jobs chief - + 1").query_async(&mut connection).await.unwrap();
    let redis::Value::Array(rows) = id else { panic!("{id:?}") };
    let redis::Value::Array(row) = &rows[0] else { panic!("{rows:?}") };
    let redis::Value::BulkString(id) = &row[0] else { panic!("{row:?}") };
    let id = String::from_utf8(id.clone()).unwrap();
    run(&format!("XCLAIM jobs chief gone 0 {id} IDLE 3600000"))
        .query_async::<redis::Value>(&mut connection)
        .await
        .unwrap();
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = Bot::builder()
        .data(dir.path())
        .sources(redis_settings(redis.port))
        .bind(Kind::Stream, "-|-", "redis-stream:jobs", heard.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    heard.until(1).await;
    assert_eq!(heard.all(), ["lost"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_while_it_was_given_out_is_settled_and_counted_and_no_event() {
    let redis = Redis::start().await;
    let mut connection = redis.connection().await;
    let settings = redis_settings(redis.port);
    let consumer = settings.redis["default"].consumer.clone();
    run("XGROUP CREATE jobs chief 0 MKSTREAM").query_async::<()>(&mut connection).await.unwrap();
    run("XADD jobs 1-1 data trimmed").query_async::<()>(&mut connection).await.unwrap();
    run("XADD jobs 2-1 data kept").query_async::<()>(&mut connection).await.unwrap();
    // As if we had been given both and had died.
    let given = run(&format!("XREADGROUP GROUP chief {consumer} STREAMS jobs >"));
    given.query_async::<redis::Value>(&mut connection).await.unwrap();
    run("XDEL jobs 1-1").query_async::<()>(&mut connection).await.unwrap();
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = Bot::builder().data(dir.path()).sources(settings);
    let bot = bot.bind(Kind::Stream, "-|-", "redis-stream:jobs", heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    heard.until(1).await;
    assert_eq!(heard.all(), ["kept"]);
    for _ in 0..200 {
        let pending: (u64, redis::Value, redis::Value, redis::Value) =
            run("XPENDING jobs chief").query_async(&mut connection).await.unwrap();
        if pending.0 == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pending: (u64, redis::Value, redis::Value, redis::Value) =
        run("XPENDING jobs chief").query_async(&mut connection).await.unwrap();
    assert_eq!((pending.0, started.sources()[0].dropped), (0, 1), "{:?}", started.sources());
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_heard_and_says_that_it_keeps_nothing() {
    let redis = Redis::start().await;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = Bot::builder()
        .data(dir.path())
        .sources(redis_settings(redis.port))
        .bind(Kind::Stream, "-|-", "redis:news.*", heard.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    reading(&started).await;
    assert!(started.sources()[0].promise.starts_with("best effort"), "{:?}", started.sources());
    let heard_by =
        started.publish(Message { to: "redis:news.de".to_owned(), payload: b"hallo".into(), ..Message::default() });
    assert_eq!(heard_by.await.unwrap(), "1");
    heard.until(1).await;
    assert_eq!(heard.all(), ["hallo"]);
    let sent =
        started.publish(Message { to: "redis-stream:log".to_owned(), payload: b"x".into(), ..Message::default() });
    assert!(sent.await.unwrap().contains('-'), "an entry's id");
    started.stop("").await;
}

struct RabbitWorld {
    rabbit: Arc<tokio::sync::Mutex<RabbitMq>>,
    /// How bots get there. Who publishes has a way of their own.
    way: Way,
    queue: String,
    publishers: Publishers,
    sent: u32,
}

impl RabbitWorld {
    async fn new(rabbit: &Arc<tokio::sync::Mutex<RabbitMq>>) -> RabbitWorld {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let port = rabbit.lock().await.port;
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let publishers = Publishers::new(Arc::new(rabbit_settings(port)));
        let way = Way::to(port).await;
        RabbitWorld { rabbit: Arc::clone(rabbit), way, queue: format!("jobs{number}"), publishers, sent: 0 }
    }

    async fn send(&mut self, payload: &[u8]) {
        self.sent += 1;
        let message = Message {
            to: self.mask(),
            payload: payload.to_vec(),
            id: Some(format!("{}-{}", self.queue, self.sent)),
            ..Message::default()
        };
        let mut tries = 0;
        while let Err(fault) = self.publishers.publish(message.clone()).await {
            tries += 1;
            assert!(tries < 100, "{fault}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl World for RabbitWorld {
    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn mask(&self) -> String {
        format!("rabbitmq:{}", self.queue)
    }

    fn settings(&self) -> Settings {
        rabbit_settings(self.way.port)
    }

    fn row(&self) -> Row {
        row("RabbitMQ")
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            self.send(text.as_bytes()).await;
        }
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    async fn poison(&mut self) -> Option<String> {
        self.send(NO_TEXT).await;
        Some(no_text())
    }

    fn second(&self) -> Settings {
        self.settings()
    }

    async fn stop(&mut self) {
        self.rabbit.lock().await.server = None;
    }

    async fn start(&mut self) {
        self.rabbit.lock().await.begin().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_passes_the_suite() {
    let rabbit = Arc::new(tokio::sync::Mutex::new(RabbitMq::start().await));
    conformance::passes(async || RabbitWorld::new(&rabbit).await).await;
}

/// Who plays Kafka.
pub(crate) enum Cluster {
    /// librdkafka itself.
    Mock(Box<MockCluster<'static, rdkafka::producer::DefaultProducerContext>>),
    /// A broker of its own, and the way that it tells its clients to go.
    Tansu(#[expect(dead_code, reason = "lives as long as those who talk to it")] Arc<Tansu>, Option<Arc<Way>>),
}

pub(crate) struct KafkaWorld {
    cluster: Cluster,
    topic: String,
    pub(crate) publishers: Publishers,
    pub(crate) settings: Settings,
    partition: usize,
}

impl KafkaWorld {
    async fn new() -> KafkaWorld {
        KafkaWorld::with(1).await
    }

    pub(crate) async fn with(partitions: i32) -> KafkaWorld {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("deployments", partitions, 3).unwrap();
        let brokers = cluster.bootstrap_servers();
        KafkaWorld::on(Cluster::Mock(Box::new(cluster)), &brokers, "deployments")
    }

    pub(crate) fn on(cluster: Cluster, brokers: &str, topic: &str) -> KafkaWorld {
        let settings = kafka_settings(brokers, &format!("chief-{topic}"));
        let publishers = Publishers::new(Arc::new(settings.clone()));
        KafkaWorld { cluster, topic: topic.to_owned(), publishers, settings, partition: 0 }
    }
}

impl World for KafkaWorld {
    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn mask(&self) -> String {
        format!("kafka:{}", self.topic)
    }

    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    async fn publish(&mut self, texts: &[String]) {
        let sent = texts.iter().map(|text| {
            self.partition += 1;
            let key = Some(format!("k{}", self.partition));
            let message = Message {
                to: format!("kafka:{}", self.topic),
                payload: text.clone().into_bytes(),
                key,
                ..Message::default()
            };
            self.publishers.publish(message)
        });
        for sent in sent.collect::<Vec<_>>() {
            sent.await.unwrap();
        }
    }

    fn row(&self) -> Row {
        row(match &self.cluster {
            Cluster::Mock(_) => "Kafka (librdkafka's cluster)",
            Cluster::Tansu(..) => "Kafka (Tansu)",
        })
    }

    async fn poison(&mut self) -> Option<String> {
        let to = self.mask();
        self.publishers.publish(Message { to, payload: NO_TEXT.into(), ..Message::default() }).await.unwrap();
        Some(no_text())
    }

    async fn cut(&mut self) {
        if let Cluster::Tansu(_, way) = &self.cluster {
            return way.as_ref().unwrap().cut();
        }
        self.stop().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.start().await;
    }

    async fn stop(&mut self) {
        match &self.cluster {
            Cluster::Mock(cluster) => (1..=3).for_each(|broker| cluster.broker_down(broker).unwrap()),
            Cluster::Tansu(_, way) => way.as_ref().unwrap().close(),
        }
    }

    async fn start(&mut self) {
        match &self.cluster {
            Cluster::Mock(cluster) => (1..=3).for_each(|broker| cluster.broker_up(broker).unwrap()),
            Cluster::Tansu(_, way) => way.as_ref().unwrap().open(),
        }
    }

    fn second(&self) -> Settings {
        self.settings()
    }

    /// The topic has one partition.
    fn has_one_reader(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_passes_the_suite() {
    conformance::passes(KafkaWorld::new).await;
}

async fn world_on(tansu: &Arc<Tansu>, way: &Arc<Way>) -> KafkaWorld {
    let topic = tansu.topic(1).await;
    let address = format!("127.0.0.1:{}", way.port);
    KafkaWorld::on(Cluster::Tansu(Arc::clone(tansu), Some(Arc::clone(way))), &address, &topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_that_speaks_kafka_passes_the_suite() {
    let (tansu, way) = Tansu::behind_a_way().await;
    let (tansu, way) = (Arc::new(tansu), Arc::new(way));
    conformance::passes(async || world_on(&tansu, &way).await).await;
}
