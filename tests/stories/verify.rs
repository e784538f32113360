//! Verification of a canary against a real Prometheus, which scrapes figures that the test sets.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::servers::program as tool;
use super::steps::{Bench, until};

/// A Prometheus of our own and what it scrapes.
struct Figures {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    shown: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Drop for Figures {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Figures {
    /// Starts both; ready once the first figures can be asked for.
    async fn start(figures: &[(&str, f64)]) -> Figures {
        let shown: Arc<Mutex<BTreeMap<String, f64>>> = Arc::default();
        let exporter = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = exporter.local_addr().unwrap();
        let pages = Arc::clone(&shown);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = exporter.accept().await {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let mut asked = [0; 4096];
                    let _ = stream.read(&mut asked).await;
                    let page: String =
                        pages.lock().unwrap().iter().map(|(name, value)| format!("{name} {value}\n")).collect();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                        page.len()
                    );
                    let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 400ms, scrape_timeout: 400ms}}\nscrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = serve(&folder, port);
        let bench = Figures { child, folder, port, shown };
        figures.iter().for_each(|(name, value)| bench.show(name, *value));
        for (name, _) in figures {
            bench.until(name, |answer| answer.as_array().is_some_and(|all| !all.is_empty())).await;
        }
        bench
    }

    fn show(&self, name: &str, value: f64) {
        self.shown.lock().unwrap().insert(name.to_owned(), value);
    }

    fn hide(&self, name: &str) {
        self.shown.lock().unwrap().remove(name);
    }

    /// Waits until an expression has such a result.
    async fn until(&self, expression: &str, fits: impl Fn(&Value) -> bool) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url =
            reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url()), [("query", expression)]).unwrap();
        for _ in 0..400 {
            let answer = reqwest::get(url.clone()).await;
            if let Ok(answer) = answer
                && let Ok(answer) = answer.json::<Value>().await
                && fits(&answer["data"]["result"])
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{expression} did not become so");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn settings(&self, length: &str, checks: Value) -> Value {
        json!({"prometheus": self.url(), "for": length, "every": "250ms", "failure_limit": 1, "checks": checks})
    }
}

fn serve(folder: &tempfile::TempDir, port: u16) -> Child {
    let mut command = Command::new(tool("prometheus"));
    command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
    command.spawn().expect("install prometheus")
}

const NEW: &str = "err{v=\"new\"}";
const OLD: &str = "err{v=\"old\"}";
const CANARY: &str = "err{v='new'} < 2 * err{v='old'} + 0.001";

fn failed(end: End) -> (Class, String) {
    let End::Failed(failure) = end else { panic!("{end:?}") };
    (failure.class, failure.line)
}

#[tokio::test]
async fn a_canary_that_is_as_good_as_its_base_passes_and_people_see_how_far_it_is() {
    let figures = Figures::start(&[(NEW, 0.002), (OLD, 0.002), ("p95", 0.18)]).await;
    let bench = Bench::new(&Settings::default());
    let settings = figures
        .settings("2s", json!([CANARY, {"name": "latency", "check": "p95 < 0.3", "unit": "ms"}, "scalar(p95) > 0.1"]));
    assert_eq!(bench.executors["verify"].check(&settings), []);
    let End::Done { outputs, summary } = bench.run("verify", bench.step(settings)).await else {
        panic!("{}", bench.log())
    };
    // Three checks every quarter of a second; on a busy machine Prometheus misses some figures.
    let points = outputs["points"].as_u64().unwrap();
    assert!((12..=24).contains(&points), "{points}");
    assert_eq!(json!(outputs), json!({"points": points, "failures": 0}));
    assert_eq!(summary, format!("good for 2 s, 0 of {points} checks failed"));
    let told = bench.notes.told.lock().unwrap().clone();
    let half = told.iter().find(|line| line.ends_with(" s left")).unwrap_or_else(|| panic!("{told:#?}"));
    assert!(half.contains("latency 180 ms (< 300 ms), scalar(p95) 0.18 (> 0.1), "), "{half}");
    assert!(bench.log().contains("latency: holds, 180 ms (< 300 ms)"), "{}", bench.log());
}

#[tokio::test]
async fn a_canary_that_is_worse_fails_at_once_with_its_values() {
    let figures = Figures::start(&[(NEW, 0.002), (OLD, 0.002)]).await;
    let bench = Bench::new(&Settings::default());
    let step = bench.step(figures.settings("60s", json!([{"name": "errors", "check": CANARY}])));
    let running = tokio::spawn(bench.executors["verify"].run(step, bench.hands()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    figures.show(NEW, 0.019);
    let end = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    let (class, line) = failed(end);
    assert_eq!(class, Class::AppNotReady);
    assert!(
        line.starts_with("errors 0.019, not < 0.005 (2 of ") && line.ends_with(" checks failed, limit 1)"),
        "{line}"
    );
}

#[tokio::test]
async fn one_bad_pod_is_not_hidden_by_the_good_ones() {
    let figures = Figures::start(&[("e{pod=\"a\"}", 0.0), ("e{pod=\"b\"}", 0.5)]).await;
    let bench = Bench::new(&Settings::default());
    let (class, line) = failed(bench.run("verify", bench.step(figures.settings("5s", json!(["e < 0.1"])))).await);
    assert_eq!(class, Class::AppNotReady);
    assert!(line.starts_with("e 0.5, not < 0.1 for") && line.contains("pod=b"), "{line}");
}

#[tokio::test]
async fn missing_data_is_never_good() {
    let figures = Figures::start(&[(OLD, 0.002), ("zero", 0.0)]).await;
    for check in [CANARY, "err{v='old'} < err{v='none'}", "zero / zero < 0.1"] {
        let bench = Bench::new(&Settings::default());
        let (class, line) =
            failed(bench.run("verify", bench.step(figures.settings("1s", json!(["zero == 0", check])))).await);
        assert_eq!(class, Class::AppNotReady);
        assert!(
            line.starts_with("there is not enough data on ") && line.contains(": 0 of 4 answers, 2 needed"),
            "{line}"
        );
        assert!(line.contains("has no value"), "{line}");
    }
}

#[tokio::test]
async fn figures_that_vanish_in_the_middle_leave_too_few_answers() {
    let figures = Figures::start(&[("p95", 0.1)]).await;
    let bench = Bench::new(&Settings::default());
    let mut settings = figures.settings("4s", json!(["p95 < 0.3"]));
    settings["min_points"] = json!(16);
    let running = tokio::spawn(bench.executors["verify"].run(bench.step(settings), bench.hands()));
    tokio::time::sleep(Duration::from_millis(900)).await;
    figures.hide("p95");
    let (_, line) = failed(running.await.unwrap());
    assert!(line.contains("of 16 answers, 16 needed: p95 has no value"), "{line}");
    assert!(bench.notes.told.lock().unwrap().last().unwrap().contains("times without data"));
}

#[tokio::test]
async fn a_check_that_prometheus_does_not_understand_and_one_with_ranges_are_told_at_once() {
    let figures = Figures::start(&[("p95", 0.1)]).await;
    let bench = Bench::new(&Settings::default());
    let (class, line) =
        failed(bench.run("verify", bench.step(figures.settings("60s", json!(["nonsense(p95) < 0.3"])))).await);
    assert_eq!(class, Class::Config);
    assert!(
        line.starts_with("Prometheus does not understand the check nonsense(p95): ")
            && line.contains("unknown function"),
        "{line}"
    );
    let (class, line) =
        failed(bench.run("verify", bench.step(figures.settings("60s", json!(["p95[1m] < 0.3"])))).await);
    assert_eq!(class, Class::Config, "{line}");
}

#[tokio::test]
async fn a_prometheus_that_is_not_there_is_told_soon() {
    let bench = Bench::new(&Settings::default());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut settings = json!({"prometheus": format!("http://127.0.0.1:{port}"), "for": "60s", "every": "100ms", "checks": ["up == 1"]});
    let (class, line) = failed(bench.run("verify", bench.step(settings.clone())).await);
    assert_eq!(class, Class::Network);
    assert!(line.starts_with(&format!("Prometheus at 127.0.0.1:{port} does not answer: ")), "{line}");
    // Neither is somebody else who answers there.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings["prometheus"] = json!(format!("http://{}", other.local_addr().unwrap()));
    let heard = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let size = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&asked[..size]).into_owned()
    });
    let mut step = bench.step(settings);
    step.env.push(("PROMETHEUS_TOKEN".to_owned(), Secret::new("hunter2-of-prod")));
    let (class, line) = failed(bench.run("verify", step).await);
    assert_eq!(class, Class::Auth);
    assert!(line.contains("PROMETHEUS_TOKEN") && !line.contains("hunter2"), "{line}");
    assert!(heard.await.unwrap().contains("authorization: Bearer hunter2-of-prod"));
    assert!(!bench.log().contains("hunter2"));
}

#[tokio::test]
async fn a_prometheus_that_is_away_for_a_moment_costs_answers_only() {
    let mut figures = Figures::start(&[("p95", 0.1)]).await;
    let bench = Bench::new(&Settings::default());
    let mut settings = figures.settings("8s", json!(["p95 < 0.3"]));
    settings["min_points"] = json!(2);
    let running = tokio::spawn(bench.executors["verify"].run(bench.step(settings), bench.hands()));
    tokio::time::sleep(Duration::from_millis(900)).await;
    figures.child.kill().unwrap();
    figures.child.wait().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    figures.child = serve(&figures.folder, figures.port);
    let end = running.await.unwrap();
    assert!(matches!(end, End::Done { .. }), "{end:?}\n{}", bench.log());
    assert!(bench.notes.told.lock().unwrap().last().unwrap().contains("times without data"));
}

#[tokio::test]
async fn after_a_restart_it_goes_on_where_it_was_with_what_it_had_counted() {
    let figures = Figures::start(&[("p95", 0.5)]).await;
    let bench = Bench::new(&Settings::default());
    let mut settings = figures.settings("3s", json!(["p95 < 0.3"]));
    settings["failure_limit"] = json!(7);
    let first = tokio::spawn(bench.executors["verify"].run(bench.step(settings.clone()), bench.hands()));
    let noted = || bench.notes.noted.lock().unwrap().last().cloned();
    until("three rounds", || noted().is_some_and(|counted| counted["round"].as_u64() >= Some(3))).await;
    first.abort();
    // The bot is away; the figures of that time are asked for afterwards.
    tokio::time::sleep(Duration::from_millis(4000)).await;
    figures.show("p95", 0.1);
    // Rounds that were waited for would find what is good now.
    let (_, line) = failed(bench.run("verify", bench.step(settings)).await);
    assert_eq!(line, "p95 0.5, not < 0.3 (8 of 8 checks failed, limit 7)");
}

#[tokio::test]
async fn it_stops_soon_and_has_nothing_to_undo() {
    let figures = Figures::start(&[("p95", 0.1)]).await;
    let bench = Bench::new(&Settings::default());
    let mut settings = figures.settings("1h", json!(["p95 < 0.3"]));
    settings["every"] = json!("10m");
    let running = tokio::spawn(bench.executors["verify"].run(bench.step(settings.clone()), bench.hands()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
    assert_eq!(end, End::Stopped);
    assert_eq!(bench.executors["verify"].undo(bench.step(settings), bench.hands()).await, End::done());
}
