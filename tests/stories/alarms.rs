//! A rule over metrics in a bot that is killed (SIGKILL) while it waits to fire, while it fires, and while it waits to be over: the time
//! goes on from where it was, and each change is one event.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use warp::Filter;
use warp::http::Response;

use super::steps::eventually;

/// What is watched.
const GAUGE: &str = "queue_length";
/// How long it must hold to fire, and to be over.
const HOLD: &str = "2s";

/// Answers as Prometheus does. A real one loses sight of a series when it is late with its own asking, which begins the wait anew.
struct Gauge {
    value: Arc<Mutex<f64>>,
    url: String,
}

impl Gauge {
    async fn start(value: f64) -> Gauge {
        let value = Arc::new(Mutex::new(value));
        let now = Arc::clone(&value);
        let answer = warp::path!("api" / "v1" / "query").map(move || {
            let now = now.lock().unwrap().to_string();
            let series = json!({"metric": {"__name__": GAUGE, "host": "a"}, "value": [0, now]});
            let body = json!({"status": "success", "data": {"resultType": "vector", "result": [series]}});
            Response::builder().header("content-type", "application/json").body(body.to_string()).unwrap()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(warp::serve(answer).incoming(listener).run());
        Gauge { value, url }
    }

    fn set(&self, value: f64) {
        *self.value.lock().unwrap() = value;
    }
}

/// A bot, killed with the test.
struct Born(Child);

impl Born {
    fn on(folder: &Path) -> Born {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder).env_remove("RUST_LOG");
        Born(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        // SIGKILL; it may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the journal has of the one series: what it is, and since when. And how many events there are.
fn written(folder: &Path) -> Option<(String, String, u64)> {
    let db = Connection::open_with_flags(folder.join("data/journal.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let text: String =
        db.query_row("SELECT position FROM positions WHERE lane = 'series'", [], |row| row.get(0)).ok()?;
    let events = db.query_row("SELECT coalesce(sum(count), 0) FROM events", [], |row| row.get(0)).ok()?;
    let known: Value = serde_json::from_str(&text).unwrap();
    let series = find(&known, "phase")?;
    let word = |name: &str| series[name].as_str().unwrap().to_owned();
    Some((word("phase"), word("since"), events))
}

/// The first object that has such a field.
fn find<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    if object.contains_key(field) { Some(value) } else { object.values().find_map(|value| find(value, field)) }
}

/// Waits until the series is that; what it is until then it has been all the time, if that is known. Gives since when.
async fn until(folder: &Path, phase: &str, before: Option<(&str, &str)>) -> String {
    let mut since = String::new();
    eventually(phase, async || {
        let Some((is, at, _)) = written(folder) else { return false };
        if is == phase {
            since = at;
            return true;
        }
        if let Some(before) = before {
            assert_eq!((is.as_str(), at.as_str()), before, "it began anew");
        }
        false
    })
    .await;
    since
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_bot_that_is_killed_goes_on_waiting_from_where_it_was_and_tells_each_change_once() {
    let (gauge, dir) = (Gauge::start(90.0).await, tempfile::tempdir().unwrap());
    let folder = dir.path();
    let config = json!({
        "data": "data", "scripts": {"folder": "scripts"}, "log": {"level": "info"},
        "sources": {"prometheus": {"default": {"url": gauge.url}}},
    });
    // JSON is YAML.
    std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
    std::fs::create_dir(folder.join("scripts")).unwrap();
    let script = format!(
        "bot.bind('metric', '-|-', 'prometheus:{GAUGE}>80 for {HOLD} clear <50 for {HOLD} every 100ms', function(ev)\n  log.info('heard <' .. ev.state .. '>')\nend)\n"
    );
    std::fs::write(folder.join("scripts/alarms.lua"), script).unwrap();
    let heard =
        |state: &str| std::fs::read_to_string(folder.join("log")).unwrap().contains(&format!("heard <{state}>"));
    let bot = Born::on(folder);
    let pending = until(folder, "pending", None).await;
    drop(bot);
    let bot = Born::on(folder);
    let firing = until(folder, "firing", Some(("pending", &pending))).await;
    eventually("that it fires", async || heard("firing")).await;
    drop(bot);
    let bot = Born::on(folder);
    // Between the two thresholds it goes on as it is.
    gauge.set(60.0);
    eventually("that it is read", async || {
        let log = std::fs::read_to_string(folder.join("data/sources.json")).unwrap_or_default();
        log.contains(&format!("\"pid\": {}", bot.0.id())) && log.contains("1 firing")
    })
    .await;
    eventually("that it fired once", async || written(folder) == Some(("firing".to_owned(), firing.clone(), 1))).await;
    gauge.set(40.0);
    let clearing = until(folder, "clearing", Some(("firing", &firing))).await;
    drop(bot);
    let bot = Born::on(folder);
    eventually("that it is over", async || {
        let Some((is, at, events)) = written(folder) else { return events_of(folder) == 2 };
        assert!(is != "clearing" || at == clearing, "it began anew");
        events == 2
    })
    .await;
    eventually("that it is told", async || heard("resolved")).await;
    drop(bot);
    assert_eq!(events_of(folder), 2, "each change is one event");
}

fn events_of(folder: &Path) -> u64 {
    let db = Connection::open_with_flags(folder.join("data/journal.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.query_row("SELECT coalesce(sum(count), 0) FROM events", [], |row| row.get(0)).unwrap()
}
