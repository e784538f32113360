//! Calls and health checks against a small server of the test's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::steps::{Bench, failed};

/// A server that gives each connection the next answer, the last one again and again; an empty one is silence.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<String>) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = asked.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            for at in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 65536];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                kept.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                let answer = answers.get(at).or(answers.last()).unwrap();
                if answer.is_empty() {
                    held.push(stream);
                } else {
                    let _ = stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await;
                }
            }
        });
        Server { port, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn outputs(end: End) -> Value {
    let End::Done { outputs, .. } = end else { panic!("{end:?}") };
    json!(outputs)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_call_sends_what_is_written_and_saves_what_is_answered() {
    let server = Server::start(vec![answer(201, r#"{"data": {"items": [{"id": 7}]}, "note": null}"#)]).await;
    let mut bench = Bench::new(&Settings::default());
    bench.secrets.push(Secret::new("hunter2-of-api"));
    let settings = json!({"url": server.url("/deploys?key=hunter2-of-api"), "method": "post", "json": {"tag": "v2"},
        "headers": {"X-Key": "hunter2-of-api"}, "expect": [200, 201], "body_contains": "items",
        "save": {"id": "data.items.0.id", "note": "note"}});
    let end = bench.run("http", bench.step(settings)).await;
    assert_eq!(outputs(end), json!({"status": 201, "id": 7, "note": null}));
    let asked = server.asked.lock().unwrap()[0].clone();
    assert!(asked.starts_with("POST /deploys?key=hunter2-of-api HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("x-key: hunter2-of-api") && asked.contains("content-type: application/json"), "{asked}");
    assert!(asked.ends_with(r#"{"tag":"v2"}"#), "{asked}");
    assert!(bench.log().contains("POST http://127.0.0.1") && !bench.log().contains("hunter2"), "{}", bench.log());
    let notes = bench.notes.noted.lock().unwrap().clone();
    assert_eq!(notes[0], json!({"did": "send"}));
    assert!(!json!(notes).to_string().contains("hunter2"));
}

#[tokio::test]
async fn an_answer_that_is_not_the_one_wanted_fails_with_its_class() {
    for (status, class) in
        [(401, Class::Auth), (429, Class::Quota), (503, Class::Network), (500, Class::Unknown), (302, Class::Unknown)]
    {
        let server = Server::start(vec![answer(status, "the reason")]).await;
        let bench = Bench::new(&Settings::default());
        let failure = failed(bench.run("http", bench.step(json!({"url": server.url("/a")}))).await);
        assert_eq!(failure.class, class, "{status}");
        assert!(
            failure.line.contains(&format!("answered with status {status} and not 200 to 299")),
            "{}",
            failure.line
        );
        assert!(bench.log().contains("the reason"));
    }
    let server = Server::start(vec![answer(200, "no json")]).await;
    for settings in
        [json!({"url": server.url("/"), "body_contains": "yes"}), json!({"url": server.url("/"), "save": {"a": "b"}})]
    {
        let bench = Bench::new(&Settings::default());
        assert!(!failed(bench.run("http", bench.step(settings)).await).line.is_empty());
    }
}

#[tokio::test]
async fn a_redirect_is_followed_only_on_wish() {
    let elsewhere =
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:PORT/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_owned();
    let server = Server::start(vec![elsewhere.clone(), elsewhere, answer(200, "there")]).await;
    let bench = Bench::new(&Settings::default());
    assert!(failed(bench.run("http", bench.step(json!({"url": server.url("/a")}))).await).line.contains("status 302"));
    let bench = Bench::new(&Settings::default());
    let end =
        bench.run("http", bench.step(json!({"url": server.url("/a"), "follow": true, "body_contains": "there"}))).await;
    assert_eq!(outputs(end), json!({"status": 200}));
}

#[tokio::test]
async fn of_a_body_without_end_only_the_first_mebibyte_is_read() {
    let body = format!("first {} last", "x".repeat(3 << 20));
    let server = Server::start(vec![answer(200, &body)]).await;
    let settings = |text: &str| json!({"url": server.url("/"), "body_contains": text, "timeout": "20s"});
    let bench = Bench::new(&Settings::default());
    assert_eq!(outputs(bench.run("http", bench.step(settings("first"))).await), json!({"status": 200}));
    let bench = Bench::new(&Settings::default());
    assert!(failed(bench.run("http", bench.step(settings("last"))).await).line.contains("in its first 1024 KiB"));
}

#[tokio::test]
async fn nobody_there_is_the_network_and_silence_is_a_timeout() {
    let bench = Bench::new(&Settings::default());
    let url = format!("http://127.0.0.1:{}/", free_port());
    let failure = failed(bench.run("http", bench.step(json!({"url": url, "method": "POST"}))).await);
    assert!(
        failure.class == Class::Network && failure.line.ends_with("does not answer: connection refused"),
        "{}",
        failure.line
    );
    let server = Server::start(vec![String::new()]).await;
    let bench = Bench::new(&Settings::default());
    let failure = failed(bench.run("http", bench.step(json!({"url": server.url("/"), "timeout": "200ms"}))).await);
    assert!(failure.class == Class::Timeout && failure.line.contains("no answer within 200ms"), "{}", failure.line);
}

#[tokio::test]
async fn what_may_have_arrived_is_never_sent_twice() {
    let server = Server::start(vec![String::new(), answer(200, "")]).await;
    let bench = Bench::new(&Settings::default());
    let post = json!({"url": server.url("/"), "method": "POST", "timeout": "200ms"});
    let End::Unsure(line) = bench.run("http", bench.step(post.clone())).await else { panic!() };
    assert!(line.starts_with("POST http://127.0.0.1") && line.contains("no answer within"), "{line}");
    // After a restart the note is there, and nothing is sent.
    let End::Unsure(line) = bench.run("http", bench.step(post)).await else { panic!() };
    assert!(line.contains("restarted"), "{line}");
    assert_eq!(server.count(), 1);
    // A question may be asked again.
    let get = json!({"url": server.url("/")});
    assert_eq!(outputs(bench.run("http", bench.step(get.clone())).await), json!({"status": 200}));
    assert_eq!(server.count(), 2);
    // What ended before a restart is only told again.
    assert_eq!(outputs(bench.run("http", bench.step(get)).await), json!({"status": 200}));
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_service_is_well_once_it_answered_well_three_times_in_a_row() {
    let answers = [(503, "starting"), (200, "ok"), (200, "ok"), (500, "oops"), (200, "ok"), (200, "sick"), (200, "ok")];
    let server = Server::start(answers.iter().map(|(status, body)| answer(*status, body)).collect()).await;
    let bench = Bench::new(&Settings::default());
    let settings = json!({"url": server.url("/health"), "expect": 200, "contains": "ok", "times": 3, "every": "20ms", "within": "20s"});
    let end = bench.run("health", bench.step(settings)).await;
    let End::Done { summary, .. } = &end else { panic!("{end:?}") };
    assert!(summary.ends_with("/health is well, 3 of 3"), "{summary}");
    assert_eq!(outputs(end), json!({"status": 200, "asked": 9}));
    let told = bench.notes.told.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "not yet: status 503 and not 200",
            "1 of 3",
            "2 of 3",
            "not yet: status 500 and not 200",
            "1 of 3",
            "not yet: status 200 without \"ok\"",
            "1 of 3",
            "2 of 3"
        ]
    );
}

#[tokio::test]
async fn a_service_that_does_not_become_well_fails_with_its_last_answer() {
    let server = Server::start(vec![answer(503, "starting")]).await;
    let bench = Bench::new(&Settings::default());
    let settings = |url: String| json!({"url": url, "times": 2, "every": "30ms", "within": "1s"});
    let failure = failed(bench.run("health", bench.step(settings(server.url("/health")))).await);
    assert_eq!(failure.class, Class::AppNotReady);
    assert!(failure.line.contains("last: status 503 and not 200 to 299") && server.count() > 1, "{}", failure.line);
    let bench = Bench::new(&Settings::default());
    let failure = failed(bench.run("health", bench.step(settings(format!("http://127.0.0.1:{}/", free_port())))).await);
    assert!(
        failure.class == Class::AppNotReady && failure.line.contains("last: connection refused"),
        "{}",
        failure.line
    );
    // A service that only holds the line is not waited for longer than the time there is.
    let silent = Server::start(vec![String::new()]).await;
    let bench = Bench::new(&Settings::default());
    let begun = std::time::Instant::now();
    let failure = failed(bench.run("health", bench.step(settings(silent.url("/")))).await);
    assert!(failure.line.contains("no answer within") && begun.elapsed() < Duration::from_secs(4), "{}", failure.line);
}

#[tokio::test]
async fn stopping_ends_a_wait_at_once() {
    let silent = Server::start(vec![String::new()]).await;
    let sick = Server::start(vec![answer(500, "")]).await;
    for (executor, url) in [("http", silent.url("/")), ("health", silent.url("/")), ("health", sick.url("/"))] {
        let bench = Bench::new(&Settings::default());
        let running = tokio::spawn(bench.executors[executor].run(bench.step(json!({"url": url})), bench.hands()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.stop.send_replace(true);
        let end = tokio::time::timeout(Duration::from_secs(2), running).await.unwrap().unwrap();
        assert_eq!(end, End::Stopped, "{executor}");
    }
}

#[tokio::test]
async fn a_url_with_nothing_put_in_is_a_fault_of_the_pipeline() {
    let bench = Bench::new(&Settings::default());
    for executor in ["http", "health"] {
        let failure =
            failed(bench.run(executor, bench.step(json!({"url": "http://{environment}.shop.example/"}))).await);
        assert!(failure.class == Class::Config && failure.line.contains("nothing was put in"), "{}", failure.line);
    }
}
