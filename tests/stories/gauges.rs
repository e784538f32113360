//! Metrics pass the suite as what is pushed does. Each text is a series of its own, which crosses its threshold once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::contract::Kind;
use masterchief_bindings::Settings;
use masterchief_bindings::metric::{InfluxSettings, PrometheusSettings, StatsdSettings};
use tokio::io::AsyncWriteExt;
use warp::Filter;
use warp::http::Response;

use super::conformance::{self, World};
use super::looks::{Places, name};
use super::metrics::{influxdb, prometheus};
use super::servers::{Server, Way, free_port};
use super::webhooks::client;
use super::worlds::{Row, row};

/// A label that any of the three takes as it is.
fn label(text: &str) -> String {
    text.replace([',', '=', '\\', '"'], "_")
}

/// What a job says of itself, for Prometheus to fetch: its series with their values.
type Exported = Arc<Mutex<BTreeMap<String, Vec<(String, f64)>>>>;

/// A Prometheus, and whom it asks.
struct Scraped {
    exported: Exported,
    /// Where the jobs are.
    target: SocketAddr,
    port: u16,
    _server: Server,
    _dir: tempfile::TempDir,
}

impl Scraped {
    async fn start() -> Scraped {
        let (exported, dir) = (Exported::default(), tempfile::tempdir().unwrap());
        let all = Arc::clone(&exported);
        let page = warp::path!("metrics").map(move || {
            let all = all.lock().unwrap();
            let lines = all.iter().flat_map(|(name, series)| {
                series.iter().map(move |(text, value)| format!("{name}{{text=\"{text}\"}} {value}\n"))
            });
            Response::builder().header("content-type", "text/plain").body(lines.collect::<String>()).unwrap()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(warp::serve(page).incoming(listener).run());
        let more = format!(
            "  - job_name: jobs\n    scrape_interval: 250ms\n    scrape_timeout: 250ms\n    static_configs: [{{targets: [\"{target}\"]}}]\n"
        );
        let (server, port) = prometheus(&dir, &more).await;
        Scraped { exported, target, port, _server: server, _dir: dir }
    }
}

/// Each text is a series of its own, which crosses its threshold once: one event. What a value was between two looks nobody
/// knows, so one series could not tell a thousand things.
struct PrometheusWorld {
    exported: Exported,
    target: SocketAddr,
    way: Way,
    name: String,
    places: Places,
}

impl PrometheusWorld {
    async fn new(scraped: &Scraped) -> PrometheusWorld {
        PrometheusWorld {
            exported: Arc::clone(&scraped.exported),
            target: scraped.target,
            way: Way::to(scraped.port).await,
            name: name(),
            places: Places::default(),
        }
    }

    fn export(&self, series: Vec<(String, f64)>) {
        self.exported.lock().unwrap().entry(self.name.clone()).or_default().extend(series);
    }
}

impl World for PrometheusWorld {
    fn kind(&self) -> Kind {
        Kind::Metric
    }

    fn mask(&self) -> String {
        // Series are in no order, unless they are asked for in one.
        format!("prometheus:sort({})>0 every 100ms", self.name)
    }

    fn settings(&self) -> Settings {
        let connection = PrometheusSettings {
            url: format!("http://127.0.0.1:{}", self.way.port),
            username: None,
            password: None,
            token: None,
            timeout: Duration::from_secs(10),
        };
        Settings { prometheus: [("default".to_owned(), connection)].into(), ..Settings::default() }
    }

    async fn publish(&mut self, texts: &[String]) {
        let series = texts.iter().map(|text| (label(text), self.places.put(text) as f64)).collect();
        self.export(series);
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    fn heard_as(&self, text: &str) -> String {
        let PrometheusWorld { target, name, places, .. } = self;
        let labels = format!("instance=\"{target}\",job=\"jobs\",text=\"{}\"", label(text));
        format!("FIRING sort({name}){{{labels}}} is {} (> 0)", places.of(text))
    }

    fn row(&self) -> Row {
        row("Prometheus")
    }

    async fn poison(&mut self) -> Option<String> {
        self.export(vec![("poison".to_owned(), f64::NAN)]);
        None
    }

    async fn stop(&mut self) {
        self.way.close();
    }

    async fn start(&mut self) {
        self.way.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_prometheus_pass_the_suite() {
    let scraped = Scraped::start().await;
    conformance::passes_at_once(async || PrometheusWorld::new(&scraped).await).await;
}

/// As with Prometheus, each text is a series of its own.
struct InfluxWorld {
    port: u16,
    way: Way,
    name: String,
    http: reqwest::Client,
}

impl InfluxWorld {
    async fn new(port: u16) -> InfluxWorld {
        let world = InfluxWorld { port, way: Way::to(port).await, name: name(), http: client() };
        world.post("/query?q=CREATE+DATABASE+ops", String::new()).await;
        world
    }

    async fn post(&self, path: &str, body: String) {
        let answer = self.http.post(format!("http://127.0.0.1:{}{path}", self.port)).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    fn query(&self) -> String {
        format!("SELECT last(v) FROM {} GROUP BY text", self.name)
    }
}

impl World for InfluxWorld {
    fn kind(&self) -> Kind {
        Kind::Metric
    }

    fn mask(&self) -> String {
        format!("influxdb:'{}'>0 every 100ms", self.query())
    }

    fn settings(&self) -> Settings {
        let connection = InfluxSettings {
            url: format!("http://127.0.0.1:{}", self.way.port),
            database: "ops".to_owned(),
            username: None,
            password: None,
            timeout: Duration::from_secs(10),
        };
        Settings { influxdb: [("default".to_owned(), connection)].into(), ..Settings::default() }
    }

    async fn publish(&mut self, texts: &[String]) {
        let line = |text: &String| format!("{},text={} v=1\n", self.name, label(text).replace(' ', "\\ "));
        self.post("/write?db=ops", texts.iter().map(line).collect()).await;
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    fn heard_as(&self, text: &str) -> String {
        format!("FIRING {}{{text=\"{}\"}} is 1 (> 0)", self.query(), label(text))
    }

    fn row(&self) -> Row {
        row("InfluxDB")
    }

    async fn stop(&mut self) {
        self.way.close();
    }

    async fn start(&mut self) {
        self.way.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_influxdb_pass_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, port) = influxdb(&dir).await;
    conformance::passes_at_once(async || InfluxWorld::new(port).await).await;
}

/// As with Prometheus, each text is a series of its own: a gauge, sent over TCP, where nothing is lost between two processes.
struct StatsdWorld {
    at: SocketAddr,
    connection: Option<tokio::net::TcpStream>,
}

impl StatsdWorld {
    fn new() -> StatsdWorld {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        StatsdWorld { at, connection: None }
    }

    async fn send(&mut self, lines: &str) {
        if self.connection.is_none() {
            self.connection = Some(tokio::net::TcpStream::connect(self.at).await.unwrap());
        }
        let connection = self.connection.as_mut().unwrap();
        connection.write_all(lines.as_bytes()).await.unwrap();
        connection.flush().await.unwrap();
    }
}

impl World for StatsdWorld {
    fn kind(&self) -> Kind {
        Kind::Metric
    }

    fn mask(&self) -> String {
        "statsd:jobs>0".to_owned()
    }

    fn settings(&self) -> Settings {
        let statsd = StatsdSettings { udp: None, tcp: Some(self.at), window: Duration::from_millis(100) };
        Settings { statsd: Some(statsd), ..Settings::default() }
    }

    async fn publish(&mut self, texts: &[String]) {
        let lines: String = texts.iter().map(|text| format!("jobs:1|g|#text:{}\n", label(text))).collect();
        self.send(&lines).await;
    }

    async fn cut(&mut self) {
        self.connection = None;
    }

    fn heard_as(&self, text: &str) -> String {
        format!("FIRING jobs{{text=\"{}\"}} is 1 (> 0)", label(text))
    }

    fn row(&self) -> Row {
        row("StatsD")
    }

    async fn poison(&mut self) -> Option<String> {
        // Nobody would look for a line of StatsD among the dead letters.
        self.send("jobs\u{0}|nonsense\n").await;
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_of_statsd_pass_what_of_the_suite_has_a_meaning() {
    conformance::passes_at_once(async || StatsdWorld::new()).await;
}
