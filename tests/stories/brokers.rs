//! Real brokers on free ports of the loopback, each with its own data; Kafka by librdkafka's own mock cluster, and by a
//! broker that speaks it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Kind, Secret};
use masterchief_bindings::Settings;
use masterchief_bindings::stream::{KafkaSettings, Message, Publish, Publishers, RabbitSettings, RedisSettings, Start};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::mocking::MockCluster;
use std::sync::Arc;

use super::conformance::{self, Heard, World, numbered, reading, some_fail};

/// How long a server may take to begin.
const BEGIN: Duration = Duration::from_secs(60);

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) async fn listens(port: u16) {
    let end = tokio::time::Instant::now() + BEGIN;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(tokio::time::Instant::now() < end, "nobody listens on {port}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server that is no package of Debian: `./test` puts it beside what is built.
pub(crate) fn tool(path: &str) -> String {
    let folder =
        std::env::var("MASTERCHIEF_TOOLS").unwrap_or_else(|_| format!("{}/target/tools", env!("CARGO_MANIFEST_DIR")));
    format!("{folder}/{path}")
}

/// A server that is killed with the test.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn start(program: &str, args: &[&str], env: &[(&str, &str)], folder: &Path) -> Server {
        let log = std::fs::File::create(folder.join("server.log")).unwrap();
        let child = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|fault| panic!("{program}: {fault}; ./test installs it"));
        Server { child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its whole group: some servers are started by a script. It may have ended by itself.
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Redis with an append-only file.
struct Redis {
    dir: tempfile::TempDir,
    port: u16,
    server: Option<Server>,
}

impl Redis {
    async fn start() -> Redis {
        let mut redis = Redis { dir: tempfile::tempdir().unwrap(), port: free_port(), server: None };
        redis.begin().await;
        redis
    }

    async fn begin(&mut self) {
        let port = self.port.to_string();
        let args =
            ["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        self.server = Some(Server::start("redis-server", &args, &[], self.dir.path()));
        listens(self.port).await;
        let mut connection = self.connection().await;
        // It listens before it has read its file.
        for _ in 0..500 {
            let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
            if pong.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("Redis does not answer");
    }

    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    fn settings(&self) -> Settings {
        let redis = RedisSettings {
            url: Secret::new(format!("redis://127.0.0.1:{}/", self.port)),
            group: "chief".to_owned(),
            consumer: "one".to_owned(),
            from: Start::End,
        };
        Settings { redis: [("default".to_owned(), redis)].into(), ..Settings::default() }
    }
}

struct RedisWorld(Redis);

impl World for RedisWorld {
    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn mask(&self) -> String {
        "redis-stream:jobs".to_owned()
    }

    fn settings(&self) -> Settings {
        self.0.settings()
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

    async fn stop(&mut self) -> bool {
        self.0.server = None;
        true
    }

    async fn start(&mut self) {
        self.0.begin().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_stream_passes_the_suite() {
    conformance::passes(async || RedisWorld(Redis::start().await)).await;
    some_fail(&mut RedisWorld(Redis::start().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_consumer_was_given_and_left_lying_is_taken_over() {
    let redis = Redis::start().await;
    let mut connection = redis.connection().await;
    let run = |words: &str| {
        let mut command = redis::Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        command
    };
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
        .sources(redis.settings())
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
async fn a_channel_is_heard_and_says_that_it_keeps_nothing() {
    let redis = Redis::start().await;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let started = Bot::builder()
        .data(dir.path())
        .sources(redis.settings())
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

/// RabbitMQ with everything of its own.
struct RabbitMq {
    dir: tempfile::TempDir,
    port: u16,
    /// Erlang's port mapper, which goes into the background by itself.
    epmd: u16,
    server: Option<Server>,
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.server = None;
        let mut command = Command::new("epmd");
        command.args(["-port", &self.epmd.to_string(), "-kill"]).env("ERL_EPMD_RELAXED_COMMAND_CHECK", "true");
        // It ends with its last node in any case.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl RabbitMq {
    async fn start() -> RabbitMq {
        let (dir, port, epmd) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let mut rabbit = RabbitMq { dir, port, epmd, server: None };
        rabbit.begin().await;
        rabbit
    }

    async fn begin(&mut self) {
        let folder = self.dir.path().display().to_string();
        let (port, dist) = (self.port.to_string(), free_port().to_string());
        let name = format!("chief{}@localhost", self.port);
        std::fs::write(
            self.dir.path().join("rabbitmq.conf"),
            format!("listeners.tcp.default = 127.0.0.1:{port}\nloopback_users.guest = true\n"),
        )
        .unwrap();
        std::fs::write(self.dir.path().join("plugins"), "[].").unwrap();
        // Its own port mapper, so that none is left running for everybody.
        let epmd = self.epmd.to_string();
        let [config, plugins, pid] = ["rabbitmq", "plugins", "pid"].map(|name| format!("{folder}/{name}"));
        let env = [
            ("HOME", folder.as_str()),
            ("RABBITMQ_NODENAME", &name),
            ("RABBITMQ_MNESIA_BASE", &folder),
            ("RABBITMQ_LOG_BASE", &folder),
            ("RABBITMQ_CONFIG_FILE", &config),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins),
            ("RABBITMQ_PID_FILE", &pid),
            ("RABBITMQ_DIST_PORT", &dist),
            ("ERL_EPMD_PORT", &epmd),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
            ("ERL_EPMD_RELAXED_COMMAND_CHECK", "true"),
        ];
        // Debian's own script changes to another user; the one behind it does not.
        let program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
        self.server = Some(Server::start(program, &[], &env, self.dir.path()));
        listens(self.port).await;
    }

    fn settings(&self) -> Settings {
        let rabbit = RabbitSettings {
            url: Secret::new(format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)),
            prefetch: 64,
            declare: true,
            arguments: [].into(),
        };
        Settings { rabbitmq: [("default".to_owned(), rabbit)].into(), ..Settings::default() }
    }
}

struct RabbitWorld {
    rabbit: Arc<tokio::sync::Mutex<RabbitMq>>,
    settings: Settings,
    queue: String,
    publishers: Publishers,
    sent: u32,
}

impl RabbitWorld {
    async fn new(rabbit: &Arc<tokio::sync::Mutex<RabbitMq>>) -> RabbitWorld {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let settings = rabbit.lock().await.settings();
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let publishers = Publishers::new(Arc::new(settings.clone()));
        RabbitWorld { rabbit: Arc::clone(rabbit), settings, queue: format!("jobs{number}"), publishers, sent: 0 }
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
        self.settings.clone()
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            self.sent += 1;
            let message = Message {
                to: self.mask(),
                payload: text.clone().into_bytes(),
                key: Some(format!("{}-{}", self.queue, self.sent)),
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

    async fn stop(&mut self) -> bool {
        self.rabbit.lock().await.server = None;
        true
    }

    async fn start(&mut self) {
        self.rabbit.lock().await.begin().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_passes_the_suite() {
    let rabbit = Arc::new(tokio::sync::Mutex::new(RabbitMq::start().await));
    conformance::passes(async || RabbitWorld::new(&rabbit).await).await;
    some_fail(&mut RabbitWorld::new(&rabbit).await).await;
}

/// Who plays Kafka.
enum Cluster {
    /// librdkafka itself.
    Mock(Box<MockCluster<'static, rdkafka::producer::DefaultProducerContext>>),
    /// A broker of its own.
    Tansu(#[expect(dead_code, reason = "lives as long as those who talk to it")] Arc<Tansu>),
}

struct KafkaWorld {
    cluster: Cluster,
    topic: String,
    publishers: Publishers,
    settings: Settings,
    partition: usize,
}

impl KafkaWorld {
    async fn new() -> KafkaWorld {
        KafkaWorld::with(1).await
    }

    async fn with(partitions: i32) -> KafkaWorld {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("deployments", partitions, 3).unwrap();
        let brokers = cluster.bootstrap_servers();
        KafkaWorld::on(Cluster::Mock(Box::new(cluster)), &brokers, "deployments")
    }

    fn on(cluster: Cluster, brokers: &str, topic: &str) -> KafkaWorld {
        let kafka = KafkaSettings {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            group: format!("chief-{topic}"),
            from: Start::Start,
            username: None,
            password: None,
            mechanism: None,
            tls: false,
            options: [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        let settings = Settings { kafka: [("default".to_owned(), kafka)].into(), ..Settings::default() };
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

    async fn cut(&mut self) {
        let Cluster::Mock(cluster) = &self.cluster else { return };
        for broker in 1..=3 {
            cluster.broker_down(broker).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for broker in 1..=3 {
            cluster.broker_up(broker).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_passes_the_suite() {
    conformance::passes(KafkaWorld::new).await;
    some_fail(&mut KafkaWorld::new().await).await;
}

/// A broker that speaks Kafka, with everything in memory.
struct Tansu {
    _server: Server,
    _dir: tempfile::TempDir,
    address: String,
}

impl Tansu {
    async fn start() -> Tansu {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let address = format!("127.0.0.1:{port}");
        let url = format!("tcp://{address}");
        let args = [
            "broker",
            "--listener-url",
            &url,
            "--advertised-listener-url",
            &url,
            "--storage-engine",
            "memory://tansu/",
        ];
        let server = Server::start(&tool("bin/tansu"), &args, &[], dir.path());
        listens(port).await;
        Tansu { _server: server, _dir: dir, address }
    }

    async fn world(self: &Arc<Tansu>) -> KafkaWorld {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let topic = format!("jobs{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut config = rdkafka::ClientConfig::new();
        let admin: AdminClient<_> = config.set("bootstrap.servers", &self.address).create().unwrap();
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        admin.create_topics(&[new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        KafkaWorld::on(Cluster::Tansu(Arc::clone(self)), &self.address, &topic)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_that_speaks_kafka_passes_the_suite() {
    let tansu = Arc::new(Tansu::start().await);
    conformance::passes(async || tansu.world().await).await;
    some_fail(&mut tansu.world().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bots_share_the_partitions_and_nothing_is_lost_when_one_comes_or_goes() {
    let mut world = KafkaWorld::with(4).await;
    let heard = Heard::default();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = async |dir: &Path, world: &mut KafkaWorld| {
        conformance::bot(world, dir, &heard, conformance::Fail::Never, Default::default()).await
    };
    let first = start(one.path(), &mut world).await;
    reading(&first).await;
    world.publish(&numbered("alone", 0..100)).await;
    heard.until(100).await;
    let second = start(two.path(), &mut world).await;
    for some in numbered("both", 0..400).chunks(20) {
        world.publish(some).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heard.until(500).await;
    first.stop("").await;
    world.publish(&numbered("other", 0..100)).await;
    heard.until(600).await;
    let twice = heard.all().len() - heard.once().len();
    assert!(twice <= 200, "{twice} of 600 came twice: a rebalance repeats a batch at most");
    second.stop("").await;
}
