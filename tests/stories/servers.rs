//! Real servers on free ports of the loopback, each with its own data, stopped with the test that started them. The load
//! programs in `benches` use them too.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "for tests; a load program needs some of them only")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief_bindings::Settings;
use masterchief_bindings::stream::{KafkaSettings, RabbitSettings, RedisSettings, Start};
use masterchief_contract::Secret;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

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

/// A program that `./test` brought, else the one in the path.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join(name));
    let mut all = std::iter::once(PathBuf::from(tool(&format!("bin/{name}")))).chain(folders);
    all.find(|path| path.is_file()).unwrap_or_else(|| panic!("{name} is not here; ./test installs it"))
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

async fn carry(
    mut here: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    mut there: tokio::net::TcpStream,
) -> std::io::Result<()> {
    tokio::io::copy_bidirectional(&mut here, &mut there).await.map(drop)
}

/// A way to a server that can be cut, and closed. Nobody else takes its port meanwhile.
pub(crate) struct Way {
    pub(crate) port: u16,
    /// Whether it is open; each change ends what goes over it.
    open: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    pub(crate) async fn to(port: u16) -> Way {
        Way::leads(port, None).await
    }

    /// One that begins with TLS, for `localhost`. Its certificate, which it signed itself, is `own.pem` in a folder; `other.pem` is
    /// somebody else's.
    pub(crate) async fn sealed(port: u16, folder: &Path) -> Way {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (own, other) = (made(), made());
        std::fs::write(folder.join("own.pem"), own.cert.pem()).unwrap();
        std::fs::write(folder.join("other.pem"), other.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        Way::leads(port, Some(tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)))).await
    }

    async fn leads(port: u16, tls: Option<tokio_rustls::TlsAcceptor>) -> Way {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().port();
        let (open, state) = tokio::sync::watch::channel(true);
        let task = tokio::spawn(async move {
            loop {
                let Ok((here, _)) = listener.accept().await else { continue };
                let (mut state, tls) = (state.clone(), tls.clone());
                if !*state.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(there) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let carried = async move {
                        // Either end may hang up, and who does not like the certificate goes.
                        match tls {
                            None => carry(here, there).await,
                            Some(tls) => carry(tls.accept(here).await?, there).await,
                        }
                    };
                    tokio::select! {
                        _ = carried => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Way { port: at, open, task }
    }

    /// Ends what goes over it, in the middle of whatever that is.
    pub(crate) fn cut(&self) {
        self.open.send_modify(|_| {});
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

/// A server of databases with nothing in it yet.
pub(crate) struct Database {
    _server: Server,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Database {
    /// MariaDB, with `root`.
    pub(crate) async fn maria() -> Database {
        Database::mariadb(|_| String::new()).await
    }

    /// The same, which is spoken to through TLS only, for `localhost`. Its certificate, which it signed itself, is `own.pem`;
    /// `other.pem` is somebody else's.
    pub(crate) async fn sealed_maria() -> Database {
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (own, other) = (made(), made());
        Database::mariadb(|folder| {
            let texts = [own.cert.pem(), other.cert.pem(), own.signing_key.serialize_pem()];
            for (name, text) in ["own.pem", "other.pem", "key.pem"].iter().zip(texts) {
                std::fs::write(format!("{folder}/{name}"), text).unwrap();
            }
            format!(" --ssl-cert={folder}/own.pem --ssl-key={folder}/key.pem --require-secure-transport=ON")
        })
        .await
    }

    async fn mariadb(more: impl Fn(&str) -> String) -> Database {
        let port = free_port();
        let command = |folder: &str| {
            let more = more(folder);
            format!(
                "mariadb-install-db --no-defaults --datadir={folder}/db --auth-root-authentication-method=normal >/dev/null 2>&1 && exec mariadbd --no-defaults --datadir={folder}/db --port={port} --bind-address=127.0.0.1 --socket={folder}/s --pid-file={folder}/p --skip-name-resolve{more}"
            )
        };
        Database::start("mysql", port, command).await
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One that speaks MongoDB, with everything in memory.
    pub(crate) async fn mongo() -> Database {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        // Its change streams have small numbers, which it sends as 32 bits; the driver wants the 64 of the specification.
        let begin = "import itertools, nx_27017, nx_27017.changestream as streams; \
                     streams._cursor_id_counter = itertools.count(10**11); nx_27017.main()";
        let port_text = port.to_string();
        let args = ["-c", begin, "--db", "memory", "--host", "127.0.0.1", "--port", &port_text];
        let server = Server::start(&tool("bin/python"), &args, &[], dir.path());
        listens(port).await;
        Database { _server: server, dir, port }
    }

    /// As a user of less power where we are root: database servers refuse root.
    async fn start(user: &str, port: u16, command: impl Fn(&str) -> String) -> Database {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let command = command(&dir.path().display().to_string());
        let id = Command::new("id").arg("-u").output().unwrap().stdout;
        let server = if String::from_utf8_lossy(&id).trim() == "0" {
            Server::start("runuser", &["-u", user, "--", "sh", "-c", &command], &[], dir.path())
        } else {
            Server::start("sh", &["-c", &command], &[], dir.path())
        };
        listens(port).await;
        Database { _server: server, dir, port }
    }
}

/// Redis with an append-only file.
pub(crate) struct Redis {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) server: Option<Server>,
    more: &'static [&'static str],
}

impl Redis {
    pub(crate) async fn start() -> Redis {
        Redis::start_with(&[]).await
    }

    /// With more options.
    pub(crate) async fn start_with(more: &'static [&'static str]) -> Redis {
        let mut redis = Redis { dir: tempfile::tempdir().unwrap(), port: free_port(), server: None, more };
        redis.begin().await;
        redis
    }

    pub(crate) async fn begin(&mut self) {
        let port = self.port.to_string();
        let args =
            ["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let args = [&args, self.more].concat();
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

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        // Half a second, which is the usual, is little on a machine with much to do.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }
}

/// RabbitMQ with everything of its own.
pub(crate) struct RabbitMq {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    /// Erlang's port mapper, which goes into the background by itself.
    epmd: u16,
    pub(crate) server: Option<Server>,
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
    pub(crate) async fn start() -> RabbitMq {
        let (dir, port, epmd) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let mut rabbit = RabbitMq { dir, port, epmd, server: None };
        rabbit.begin().await;
        rabbit
    }

    pub(crate) async fn begin(&mut self) {
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
}

/// A broker that speaks Kafka, with everything in memory.
pub(crate) struct Tansu {
    _server: Server,
    _dir: tempfile::TempDir,
    pub(crate) address: String,
}

impl Tansu {
    pub(crate) async fn start() -> Tansu {
        Tansu::start_with(None, &[]).await
    }

    /// One that tells its clients another address, and takes more arguments.
    pub(crate) async fn start_with(advertised: Option<&str>, more: &[&str]) -> Tansu {
        Tansu::start_on(free_port(), advertised, more).await
    }

    /// One that is reached over a way that can be cut.
    pub(crate) async fn behind_a_way() -> (Tansu, Way) {
        let port = free_port();
        let way = Way::to(port).await;
        (Tansu::start_on(port, Some(&format!("127.0.0.1:{}", way.port)), &[]).await, way)
    }

    async fn start_on(port: u16, advertised: Option<&str>, more: &[&str]) -> Tansu {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{port}");
        let url = format!("tcp://{address}");
        let advertised = advertised.map_or_else(|| url.clone(), |address| format!("tcp://{address}"));
        let args = [
            "broker",
            "--listener-url",
            &url,
            "--advertised-listener-url",
            &advertised,
            "--storage-engine",
            "memory://tansu/",
        ];
        let server = Server::start(&tool("bin/tansu"), &[args.as_slice(), more].concat(), &[], dir.path());
        listens(port).await;
        Tansu { _server: server, _dir: dir, address }
    }

    /// Makes a topic with so many partitions; gives its name.
    pub(crate) async fn topic(&self, partitions: i32) -> String {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let topic = format!("jobs{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut config = rdkafka::ClientConfig::new();
        let admin: AdminClient<_> = config.set("bootstrap.servers", &self.address).create().unwrap();
        let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
        admin.create_topics(&[new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        topic
    }
}

/// Kafka by its brokers' addresses, with a group that notices soon when a member is gone.
pub(crate) fn kafka_settings(brokers: &str, group: &str) -> Settings {
    let options = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
    let kafka = KafkaSettings {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        group: group.to_owned(),
        from: Start::Start,
        username: None,
        password: None,
        mechanism: None,
        tls: false,
        options: options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    Settings { kafka: [("default".to_owned(), kafka)].into(), ..Settings::default() }
}

/// Redis on a port of ours.
pub(crate) fn redis_settings(port: u16) -> Settings {
    let redis = RedisSettings {
        url: Secret::new(format!("redis://127.0.0.1:{}/", port)),
        group: "chief".to_owned(),
        consumer: "one".to_owned(),
        from: Start::End,
    };
    Settings { redis: [("default".to_owned(), redis)].into(), ..Settings::default() }
}

/// RabbitMQ on a port of ours.
pub(crate) fn rabbit_settings(port: u16) -> Settings {
    let rabbit = RabbitSettings {
        url: Secret::new(format!("amqp://guest:guest@127.0.0.1:{}/%2f", port)),
        prefetch: 64,
        declare: true,
        arguments: [].into(),
    };
    Settings { rabbitmq: [("default".to_owned(), rabbit)].into(), ..Settings::default() }
}
