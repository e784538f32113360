//! Metrics: a real Prometheus, a real InfluxDB, and StatsD as it is sent; and a real Alertmanager that posts what it knows.

use std::net::SocketAddr;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Kind, Secret};
use masterchief::gateway;
use masterchief_bindings::Settings;
use masterchief_bindings::metric::{InfluxSettings, PrometheusSettings, StatsdSettings};

use masterchief_bindings::webhook::RouteSettings;

use super::conformance::{Heard, reading};
use super::lab::Lab;
use super::person::Person;
use super::real::{bot_on, joined};
use super::servers::{Server, free_port, listens};
use super::webhooks::client;

async fn start(settings: Settings, mask: &str, heard: &Heard, dir: &tempfile::TempDir) -> Started {
    let started = Bot::builder()
        .data(dir.path())
        .sources(settings)
        .bind(Kind::Metric, "-|-", mask, heard.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    reading(&started).await;
    started
}

/// A Prometheus that scrapes itself every second.
pub(crate) async fn prometheus(dir: &tempfile::TempDir, more: &str) -> (Server, u16) {
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n  - job_name: self\n    static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n{more}"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let args =
        ["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", &format!("--web.listen-address=127.0.0.1:{port}")];
    let server = Server::start("prometheus", &args, &[], dir.path());
    listens(port).await;
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_prometheus_fires_once_with_its_labels_and_not_again_after_a_restart() {
    let (dir, data, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
    let (_server, port) = prometheus(&dir, "").await;
    let connection = PrometheusSettings {
        url: format!("http://127.0.0.1:{port}"),
        username: None,
        password: None,
        token: None,
        timeout: Duration::from_secs(10),
    };
    let settings = Settings { prometheus: [("default".to_owned(), connection)].into(), ..Settings::default() };
    let mask = "prometheus:up{job=\"self\"}>0 every 200ms";
    let started = start(settings.clone(), mask, &heard, &data).await;
    heard.until(1).await;
    let told = heard.all()[0].clone();
    assert_eq!(told, format!("FIRING up{{job=\"self\"}}{{instance=\"127.0.0.1:{port}\",job=\"self\"}} is 1 (> 0)"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    started.stop("").await;
    let started = start(settings, mask, &heard, &data).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(heard.all().len(), 1, "one event a transition: {:?}", heard.all());
    started.stop("").await;
}

/// An InfluxDB with nothing in it.
pub(crate) async fn influxdb(dir: &tempfile::TempDir) -> (Server, u16) {
    let (port, rpc) = (free_port(), free_port());
    let folder = dir.path().display();
    let config = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\n  dir = \"{folder}/meta\"\n[data]\n  dir = \"{folder}/data\"\n  wal-dir = \"{folder}/wal\"\n[http]\n  bind-address = \"127.0.0.1:{port}\"\n"
    );
    std::fs::write(dir.path().join("influxdb.conf"), config).unwrap();
    let server = Server::start("influxd", &["-config", "influxdb.conf"], &[], dir.path());
    listens(port).await;
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn influxdb_is_asked_with_its_own_language() {
    let (dir, data, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
    let (_server, port) = influxdb(&dir).await;
    let http = client();
    let post = async |path: &str, body: &str| {
        let answer = http.post(format!("http://127.0.0.1:{port}{path}")).body(body.to_owned()).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    };
    post("/query?q=CREATE+DATABASE+ops", "").await;
    post("/write?db=ops", "sys,host=a load=1\nsys,host=b load=9").await;
    let connection = InfluxSettings {
        url: format!("http://127.0.0.1:{port}"),
        database: "ops".to_owned(),
        username: None,
        password: None,
        timeout: Duration::from_secs(10),
    };
    let settings = Settings { influxdb: [("default".to_owned(), connection)].into(), ..Settings::default() };
    let mask = "influxdb:'SELECT last(load) FROM sys GROUP BY host'>4 every 200ms";
    let started = start(settings, mask, &heard, &data).await;
    heard.until(1).await;
    assert!(heard.all()[0].starts_with("FIRING") && heard.all()[0].contains("{host=\"b\"} is 9"), "{:?}", heard.all());
    post("/write?db=ops", "sys,host=b load=2").await;
    heard.until(2).await;
    assert!(heard.all()[1].starts_with("RESOLVED"), "{:?}", heard.all());
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statsd_is_received_and_two_rules_share_a_port() {
    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let port = free_port();
    let at = Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    let statsd = StatsdSettings { udp: at, tcp: at, window: Duration::from_millis(300) };
    let started = Bot::builder()
        .data(data.path())
        .sources(Settings { statsd: Some(statsd), ..Settings::default() })
        .bind(Kind::Metric, "-|-", "statsd:api.latency.p99{host=a}>250", heard.handler())
        .unwrap()
        .bind(Kind::Metric, "-|-", "statsd:errors>=3", heard.handler())
        .unwrap()
        .start()
        .await
        .unwrap();
    reading(&started).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..10 {
        socket
            .send_to(b"api.latency:300|ms|#host:a\napi.latency:1|ms|#host:b\nerrors:4|c", ("127.0.0.1", port))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    heard.until(2).await;
    let all = heard.all().join("\n");
    assert!(all.contains("FIRING api.latency.p99{host=a}{host=\"a\"} is 300 (> 250)"), "{all}");
    assert!(all.contains("FIRING errors is"), "{all}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alert_goes_through_a_real_alertmanager_into_a_channel_of_a_real_server() {
    let lab = Lab::start();
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    let (dir, alerts, data, scripts) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let lua =
        r##"bot.bind("webhook", "-|-", "alertmanager/firing", function(ev) return ev.text end, { to = "#ops" })"##;
    std::fs::write(scripts.path().join("alerts.lua"), lua).unwrap();
    let route = RouteSettings { secrets: vec![Secret::new("chief:sesame")], ..RouteSettings::default() };
    let settings = gateway::Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        routes: [("alertmanager".to_owned(), route)].into(),
        ..gateway::Settings::default()
    };
    let started =
        bot_on(&lab, "#ops").data(data.path()).scripts(scripts.path()).gateway(settings).start().await.unwrap();
    joined(&started, "#ops").await;
    let at = started.gateway_at().unwrap();
    let port = free_port();
    let config = format!(
        "route: {{receiver: chief, group_wait: 100ms, group_interval: 1s}}\nreceivers:\n  - name: chief\n    webhook_configs:\n      - url: http://{at}/hooks/alertmanager\n        http_config: {{basic_auth: {{username: chief, password: sesame}}}}\n"
    );
    std::fs::write(alerts.path().join("alertmanager.yml"), config).unwrap();
    let args = [
        "--config.file=alertmanager.yml",
        "--storage.path=store",
        &format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=",
    ];
    let _alertmanager = Server::start("prometheus-alertmanager", &args, &[], alerts.path());
    listens(port).await;
    let rule = "groups:\n  - name: story\n    rules:\n      - alert: Scraping\n        expr: up{job=\"self\"} == 1\n        annotations: {summary: the bot is told}\n";
    std::fs::write(dir.path().join("rules.yml"), rule).unwrap();
    let more = format!(
        "rule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}]}}\n"
    );
    let (_prometheus, _) = prometheus(&dir, &more).await;
    let heard = alice
        .waits_for(Duration::from_secs(60), |heard| {
            heard.params.iter().any(|word| word.contains("FIRING Scraping the bot is told"))
        })
        .await;
    assert!(heard.is_some(), "the channel hears nothing of the alert: {:?}", started.sources());
    started.stop("").await;
}
