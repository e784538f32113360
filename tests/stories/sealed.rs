//! What is read from servers that speak TLS only and want a password: by a bot that trusts the certificate, and by one that trusts
//! another.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{Connection, Executor};

use super::conformance::noise;
use super::postgresql::Postgresql;
use super::runs::masterchief;
use super::servers::{Database, RabbitMq, Redis, Way, rabbit_settings};
use super::steps::eventually;
use masterchief_bindings::stream::{Message, Publish, Publishers};

const SCRIPT: &str = r#"
local function heard(ev)
  log.info("heard <" .. (ev.data and ev.data.text or ev.text) .. ">")
  if ev.text == "entry" then
    stream.publish("rabbitmq:jobs", "passed on")
    log.info("heard <the broker has it>")
  end
end
bot.bind("stream", "-|-", "redis-stream:jobs", heard)
bot.bind("stream", "-|-", "rabbitmq:jobs", heard)
bot.bind("database", "-|-", "db:query/jobs", heard)
bot.bind("stream", "-|-", "rabbitmq:flood", function() time.sleep("1h") end, { timeout = "2h" })
"#;

/// A bot, killed with the test.
struct Born(Child);

impl Drop for Born {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bot that trusts what is in a file, and nobody else.
fn trusting(folder: &Path, file: &Path) -> Born {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder).env_remove("RUST_LOG");
    command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
    Born(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn configure(folder: &Path, redis: &Way, rabbit: &Way, postgresql: &str) {
    let config = json!({
        "data": "data",
        "scripts": {"folder": "scripts"},
        "log": {"level": "info"},
        "journal": {"max_bytes": 1 << 20, "keep_bytes": 1 << 16},
        "sources": {
            "redis": {"default": {"url": format!("rediss://:secret@localhost:{}/0", redis.port), "from": "start"}},
            "rabbitmq": {"default": {
                "url": format!("amqps://guest:guest@localhost:{}/%2f", rabbit.port), "declare": true, "prefetch": 64,
            }},
            "databases": {"default": {"url": postgresql, "queries": {"jobs": {
                "sql": "SELECT id, text FROM jobs WHERE id > :cursor ORDER BY id",
                "on": "cursor", "cursor": "id", "start": 0, "every": "200ms",
            }}}},
        },
    });
    // JSON is YAML.
    std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
    std::fs::create_dir_all(folder.join("scripts")).unwrap();
    std::fs::write(folder.join("scripts/jobs.lua"), SCRIPT).unwrap();
}

fn sources(folder: &Path) -> Vec<Value> {
    let (_, said) = masterchief(&folder.join("config.yaml"), &["sources", "--json"]);
    let told: Value = serde_json::from_str(&said).unwrap_or_default();
    told["sources"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_behind_tls_is_heard_by_who_trusts_the_certificate_and_by_nobody_else() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [folder, seals] = dirs.each_ref().map(|dir| dir.path());
    let (redis, rabbit, server) = tokio::join!(Redis::start(), RabbitMq::start(), Postgresql::start());
    let mut entries = redis.connection().await;
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "secret"]).query_async::<()>(&mut entries).await.unwrap();
    server.ask("public", "CREATE TABLE jobs(id bigint PRIMARY KEY, text text)").await;
    std::fs::create_dir(seals.join("rabbit")).unwrap();
    let ways = [Way::sealed(redis.port, seals).await, Way::sealed(rabbit.port, &seals.join("rabbit")).await];
    // One file of authorities for both.
    let both = |name: &str| {
        let texts = [seals.join(name), seals.join("rabbit").join(name)].map(|file| std::fs::read(file).unwrap());
        std::fs::write(seals.join(format!("all-{name}")), texts.concat()).unwrap();
    };
    ["own.pem", "other.pem"].iter().for_each(|name| both(name));

    configure(folder, &ways[0], &ways[1], &server.tls_url("other.pem"));
    let stranger = trusting(folder, &seals.join("all-other.pem"));
    eventually("that nobody is spoken to", async || {
        let rows = sources(folder);
        let told =
            |row: &Value| row["error"].as_str().is_some_and(|error| error.to_lowercase().contains("certificate"));
        rows.len() == 4 && rows.iter().all(told)
    })
    .await;
    drop(stranger);

    configure(folder, &ways[0], &ways[1], &server.tls_url("cert.pem"));
    let _friend = trusting(folder, &seals.join("all-own.pem"));
    eventually("that all are read", async || {
        let rows = sources(folder);
        rows.len() == 4 && rows.iter().all(|row| row["state"] == "reading" && row["error"].is_null())
    })
    .await;
    redis::cmd("XADD").arg(&["jobs", "*", "data", "entry"]).query_async::<()>(&mut entries).await.unwrap();
    let publishers = Publishers::new(std::sync::Arc::new(rabbit_settings(rabbit.port)));
    let publish = async |to: &str, payload: Vec<u8>| {
        publishers.publish(Message { to: to.to_owned(), payload, ..Message::default() }).await.unwrap()
    };
    publish("rabbitmq:jobs", "message".into()).await;
    server.ask("public", "INSERT INTO jobs VALUES (1, 'row')").await;
    for text in ["entry", "message", "row", "the broker has it", "passed on"] {
        eventually(text, async || {
            let log = std::fs::read_to_string(folder.join("log")).unwrap();
            log.contains(&format!("heard <{text}>"))
        })
        .await;
    }
    // How much waits in a queue is asked over TLS, too: also of one whose handler is stuck, when there is no more room for it.
    for number in 0..4000 {
        publish("rabbitmq:flood", noise(&number.to_string(), 1000).into_bytes()).await;
    }
    eventually("how much waits", async || {
        let rows = sources(folder);
        let lag = |queue: &str| {
            let row = rows.iter().find(|row| row["stream"] == format!("rabbitmq:{queue}")).cloned().unwrap_or_default();
            row["lag"].as_u64().filter(|_| row["lag_unit"] == "messages")
        };
        lag("jobs") == Some(0) && lag("flood").is_some_and(|lag| (1000..4000).contains(&lag))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_speaks_tls_only_is_read_by_who_trusts_it_and_calls_it_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let server = Database::sealed_maria().await;
    let operator = MySqlConnectOptions::new().host("127.0.0.1").port(server.port).username("root");
    let plain = MySqlConnection::connect_with(&operator.clone().ssl_mode(MySqlSslMode::Disabled)).await;
    assert!(plain.is_err(), "nobody gets in without");
    let mut operator = MySqlConnection::connect_with(&operator.ssl_mode(MySqlSslMode::Required)).await.unwrap();
    operator.execute("CREATE DATABASE shop; CREATE TABLE shop.jobs(id bigint PRIMARY KEY, text text)").await.unwrap();
    operator.execute("INSERT INTO shop.jobs VALUES (1, 'row')").await.unwrap();
    let reading = |host: &str, trusted: &str| {
        let mode = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", server.file(trusted).display());
        let config = json!({
            "data": "data",
            "scripts": {"folder": "scripts"},
            "log": {"level": "info"},
            "sources": {"databases": {"default": {
                "url": format!("mysql://root@{host}:{}/shop?{mode}", server.port),
                "queries": {"jobs": {
                    "sql": "SELECT id, text FROM jobs WHERE id > :cursor ORDER BY id",
                    "on": "cursor", "cursor": "id", "start": 0, "every": "200ms",
                }},
            }}},
        });
        std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
        // What the system trusts counts beside the file.
        trusting(folder, &server.file(trusted))
    };
    std::fs::create_dir(folder.join("scripts")).unwrap();
    let script = SCRIPT.lines().filter(|line| !line.contains("\"stream\",")).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.join("scripts/jobs.lua"), script).unwrap();
    // A certificate of somebody else, and a name that it does not bear.
    for (host, trusted) in [("localhost", "other.pem"), ("127.0.0.1", "own.pem")] {
        let _stranger = reading(host, trusted);
        eventually("that it is not spoken to", async || {
            let rows = sources(folder);
            let told =
                |row: &Value| row["error"].as_str().is_some_and(|error| error.to_lowercase().contains("certificate"));
            rows.len() == 1 && rows.iter().all(told)
        })
        .await;
        assert!(!std::fs::read_to_string(folder.join("log")).unwrap().contains("heard <"), "{host} {trusted}");
    }
    let _friend = reading("localhost", "own.pem");
    eventually("the row", async || std::fs::read_to_string(folder.join("log")).unwrap().contains("heard <row>")).await;
}
