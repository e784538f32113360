//! `http`: one call to a service, and `health`: asks until a service is well.
//!
//! `http: {url: "https://api.example/deploys", method: POST, headers: {X-Key: "..."}, json: {tag: v2}, expect: [200, 201],
//! body_contains: ok, timeout: 10s, follow: true, save: {id: data.id}}`. Without `expect` any status from 200 to 299 will do. What is
//! neither GET nor HEAD is sent once: where nobody can tell whether it arrived, a person is asked.
//!
//! `health: {url: "https://shop.example/health", expect: 200, contains: ok, times: 3, every: 5s, within: 2m, timeout: 5s}`: it must
//! answer well so many times in a row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::class::{Class, Failure};
use super::probe::{Answer, BODY_MAX, Probe, Silence, at, headers, url};
use super::settings::Settings;
use super::step::{End, Executor, Hands, Step};

/// How long a call may take where nothing is written.
const CALL: Duration = Duration::from_secs(30);
/// The shortest time between two questions.
const EVERY_MIN: Duration = Duration::from_millis(10);
/// More than so many good answers in a row are a mistake.
const TIMES_MAX: u32 = 1000;
/// So much of a body that is not what was wanted goes to the log.
const SHOWN: usize = 400;

/// The executor of `http`.
pub(super) fn make_call(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Call)
}

/// The executor of `health`.
pub(super) fn make_health(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Health)
}

struct Call;
struct Health;

/// Statuses that are good.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Expect {
    One(u16),
    Some(Vec<u16>),
    /// A number that was put in for braces.
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallWritten {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    json: Option<Value>,
    body: Option<String>,
    expect: Option<Expect>,
    body_contains: Option<String>,
    #[serde(default, with = "humantime_serde")]
    timeout: Option<Duration>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    save: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthWritten {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    expect: Option<Expect>,
    contains: Option<String>,
    #[serde(default = "thrice")]
    times: u32,
    #[serde(default = "five_seconds", with = "humantime_serde")]
    every: Duration,
    #[serde(default = "two_minutes", with = "humantime_serde")]
    within: Duration,
    #[serde(default = "five_seconds", with = "humantime_serde")]
    timeout: Duration,
    #[serde(default)]
    follow: bool,
}

fn thrice() -> u32 {
    3
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

/// What an answer must be.
#[derive(Clone, Debug)]
struct Wanted {
    statuses: Vec<u16>,
    contains: Option<String>,
}

impl Wanted {
    fn read(expect: Option<Expect>, contains: Option<String>) -> Result<Wanted, String> {
        let statuses = match expect {
            None => Vec::new(),
            Some(Expect::One(status)) => vec![status],
            Some(Expect::Some(statuses)) => statuses,
            Some(Expect::Text(text)) if text.contains('{') => Vec::new(),
            Some(Expect::Text(text)) => vec![text.trim().parse().unwrap_or(0)],
        };
        match statuses.iter().find(|status| !(100..=599).contains(*status)) {
            Some(_) => Err("a status is a number from 100 to 599, such as 200 or [200, 201]".to_owned()),
            None => Ok(Wanted { statuses, contains }),
        }
    }

    /// Why an answer is not the one wanted.
    fn fault(&self, answer: &Answer) -> Option<String> {
        let status = answer.status;
        let good =
            if self.statuses.is_empty() { (200..300).contains(&status) } else { self.statuses.contains(&status) };
        if !good {
            let statuses: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
            let wanted = if statuses.is_empty() { "200 to 299".to_owned() } else { statuses.join(" or ") };
            return Some(format!("status {status} and not {wanted}"));
        }
        let text = self.contains.as_ref()?;
        let found = String::from_utf8_lossy(&answer.body).contains(text.as_str());
        let where_ = if answer.cut { format!(" in its first {} KiB", BODY_MAX >> 10) } else { String::new() };
        (!found).then(|| format!("status {status} without {text:?}{where_}"))
    }
}

/// A call as it is to be made.
struct Order {
    probe: Probe,
    wanted: Wanted,
    save: BTreeMap<String, String>,
}

type Fault = (&'static str, String);

/// A URL, unless it waits for something to be put in.
fn address(text: &str) -> Result<reqwest::Url, Fault> {
    // While a pipeline is read only what is there already can be looked at.
    let text = if text.contains('{') { "http://unknown.invalid/" } else { text };
    url(text).map_err(|fault| ("url", fault))
}

fn read_call(settings: &Value) -> Result<Order, Fault> {
    let written: CallWritten = serde_json::from_value(settings.clone()).map_err(|fault| {
        let keys = "url, method, headers, json or body, expect, body_contains, timeout, follow, save";
        ("", format!("{fault}; write a map with {keys}"))
    })?;
    let method = written.method.as_deref().filter(|method| !method.contains('{')).unwrap_or("GET").to_uppercase();
    const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if !METHODS.contains(&method.as_str()) {
        return Err(("method", format!("{method:?} is none of {}", METHODS.join(", "))));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|fault| ("method", fault.to_string()))?;
    let mut headers = headers(&written.headers).map_err(|fault| ("headers", fault))?;
    let body = match (written.json, written.body) {
        (Some(_), Some(_)) => return Err(("body", "write json or body, not both".to_owned())),
        (Some(json), None) => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Some(json.to_string().into_bytes())
        }
        (None, body) => body.map(String::into_bytes),
    };
    let wanted = Wanted::read(written.expect, written.body_contains).map_err(|fault| ("expect", fault))?;
    let (url, timeout) = (address(&written.url)?, written.timeout.unwrap_or(CALL));
    let probe = Probe { method, url, headers, body, follow: written.follow, timeout };
    Ok(Order { probe, wanted, save: written.save })
}

fn read_health(settings: &Value) -> Result<(HealthWritten, Probe, Wanted), Fault> {
    let written: HealthWritten = serde_json::from_value(settings.clone()).map_err(|fault| {
        let keys = "url, expect, contains, times, every, within, timeout, headers, follow";
        ("", format!("{fault}; write a map with {keys}"))
    })?;
    if !(1..=TIMES_MAX).contains(&written.times) {
        return Err(("times", format!("write a number from 1 to {TIMES_MAX}")));
    }
    if written.every < EVERY_MIN {
        return Err(("every", format!("{:?} is too often; write {EVERY_MIN:?} or more", written.every)));
    }
    let least = written.every.saturating_mul(written.times - 1);
    if least >= written.within {
        let HealthWritten { times, every, within, .. } = &written;
        return Err((
            "within",
            format!("{times} answers every {every:?} take {least:?}, longer than {within:?}; write more"),
        ));
    }
    let wanted = Wanted::read(written.expect.clone(), written.contains.clone()).map_err(|fault| ("expect", fault))?;
    let headers = headers(&written.headers).map_err(|fault| ("headers", fault))?;
    let (url, timeout) = (address(&written.url)?, written.timeout);
    let probe = Probe { method: Method::GET, url, headers, body: None, follow: written.follow, timeout };
    Ok((written, probe, wanted))
}

fn faults<T>(read: Result<T, Fault>) -> Vec<(String, String)> {
    read.err().map(|(key, fault)| (key.to_owned(), fault)).into_iter().collect()
}

/// What is wrong with settings that have nothing in braces any more.
fn config(kind: &str, (key, fault): Fault, hands: &Hands) -> End {
    let line = if key.is_empty() { format!("{kind}: {fault}") } else { format!("{kind}: {key}: {fault}") };
    End::failed(Class::Config, hands.mask.hide(&line))
}

/// A URL in which something is still to be put in; unlike elsewhere a brace has no place in one.
fn unfilled(settings: &Value) -> Option<Fault> {
    let url = settings.get("url").and_then(Value::as_str).filter(|url| url.contains('{'))?;
    Some(("url", format!("nothing was put in for the braces of {url}")))
}

impl Executor for Call {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        faults(read_call(settings))
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let read = unfilled(&step.settings).map_or_else(|| read_call(&step.settings), Err);
            match read {
                Ok(order) => order.run(&step, &hands).await.unwrap_or_else(End::Failed),
                Err(fault) => config("http", fault, &hands),
            }
        })
    }

    fn works_with_files(&self) -> bool {
        false
    }
}

impl Order {
    async fn run(&self, step: &Step, hands: &Hands) -> Result<End, Failure> {
        let (method, shown) = (&self.probe.method, hands.mask.hide(&self.probe.shown()));
        let safe = matches!(*method, Method::GET | Method::HEAD);
        if let Some(note) = &step.noted {
            if let Some(end) = noted(note) {
                return Ok(end);
            }
            if !safe {
                return Ok(unsure(method, &shown, "the bot was restarted meanwhile"));
            }
        }
        if hands.is_stopping() {
            return Ok(End::Stopped);
        }
        hands.note(json!({"did": "send"})).await?;
        hands.log.line(&format!("{method} {shown}"));
        let answer = tokio::select! {
            answer = self.probe.send() => answer,
            () = hands.stopping() => return Ok(End::Stopped),
        };
        let end = match answer {
            Ok(answer) => self.judge(&answer, &shown, hands),
            Err(Silence::Late(reason) | Silence::Broken(reason)) if !safe => unsure(method, &shown, &reason),
            Err(silence) => {
                let class = if matches!(silence, Silence::Late(_)) { Class::Timeout } else { Class::Network };
                End::failed(class, hands.mask.hide(&format!("{shown} does not answer: {}", silence.reason())))
            }
        };
        hands.log.line(match &end {
            End::Failed(failure) => &failure.line,
            End::Done { summary, .. } => summary,
            End::Unsure(line) => line,
            End::Stopped => "stopped",
        });
        hands
            .note(match &end {
                End::Done { outputs, summary } => json!({"did": "end", "outputs": outputs, "summary": summary}),
                End::Failed(failure) => json!({"did": "end", "failure": failure}),
                End::Unsure(_) | End::Stopped => json!({"did": "send"}),
            })
            .await?;
        Ok(end)
    }

    /// What an answer means.
    fn judge(&self, answer: &Answer, shown: &str, hands: &Hands) -> End {
        let status = answer.status;
        if let Some(fault) = self.wanted.fault(answer) {
            let body: String = String::from_utf8_lossy(&answer.body).chars().take(SHOWN).collect();
            hands.log.line(&format!("answer: {}", body.trim()));
            let class = match status {
                401 | 403 | 407 => Class::Auth,
                408 | 504 => Class::Timeout,
                429 => Class::Quota,
                502 | 503 => Class::Network,
                _ => Class::Unknown,
            };
            let next = match class {
                Class::Auth => "see what it wants to be shown in `headers`; its words are in the log",
                _ => "see the log for its words",
            };
            return End::failed(class, hands.mask.hide(&format!("{shown} answered with {fault}; {next}")));
        }
        let mut outputs = Map::from_iter([("status".to_owned(), json!(status))]);
        if !self.save.is_empty() {
            let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else {
                let why = if answer.cut { "is too long" } else { "is not JSON" };
                return End::failed(
                    Class::Config,
                    format!("save: what {shown} answered {why}; leave save out, or ask for JSON"),
                );
            };
            for (name, path) in &self.save {
                let Some(value) = at(&json, path) else {
                    return End::failed(
                        Class::Config,
                        format!("save: {name}: the answer of {shown} has no {path}; see what it sends"),
                    );
                };
                outputs.insert(name.clone(), value.clone());
            }
        }
        End::Done { outputs, summary: format!("{shown} answered {status}") }
    }
}

/// How a call ended, if that was noted.
fn noted(note: &Value) -> Option<End> {
    if let Some(failure) = note.get("failure") {
        return serde_json::from_value(failure.clone()).ok().map(End::Failed);
    }
    let outputs = note.get("outputs")?.as_object()?.clone();
    Some(End::Done { outputs, summary: note.get("summary").and_then(Value::as_str).unwrap_or("").to_owned() })
}

fn unsure(method: &Method, shown: &str, reason: &str) -> End {
    End::Unsure(format!(
        "{method} {shown} was sent, and whether it arrived is not known ({reason}); look there before it is sent again"
    ))
}

impl Executor for Health {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        faults(read_health(settings))
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let read = unfilled(&step.settings).map_or_else(|| read_health(&step.settings), Err);
            match read {
                Ok((written, probe, wanted)) => watch(&written, probe, &wanted, &hands).await,
                Err(fault) => config("health", fault, &hands),
            }
        })
    }

    fn works_with_files(&self) -> bool {
        false
    }

    fn repeatable(&self) -> bool {
        true
    }
}

/// Asks until it was well so many times in a row, or the time is over.
async fn watch(written: &HealthWritten, probe: Probe, wanted: &Wanted, hands: &Hands) -> End {
    let (begun, shown) = (Instant::now(), hands.mask.hide(&probe.shown()));
    let HealthWritten { times, within, .. } = written;
    let (mut row, mut asked, mut last) = (0, 0_u32, "it was not asked".to_owned());
    loop {
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let line = format!(
                "{shown} is not well after {within:?}, asked {asked} times, last: {last}; see the log of the application"
            );
            return End::failed(Class::AppNotReady, line);
        }
        asked = asked.saturating_add(1);
        let sent = Instant::now();
        let clipped = left < probe.timeout;
        let probe = Probe { timeout: probe.timeout.min(left), ..probe.clone() };
        let answer = tokio::select! {
            answer = probe.send() => answer,
            () = hands.stopping() => return End::Stopped,
        };
        let fault = match &answer {
            Ok(answer) => wanted.fault(answer),
            Err(silence) => Some(silence.reason().to_owned()),
        };
        let words = match &fault {
            None => {
                row += 1;
                last = format!("{row} of {times} good answers");
                last.clone()
            }
            Some(fault) => {
                row = 0;
                // That the time was over in the middle of a question says less than the answer before it.
                let cut_short = clipped && asked > 1 && matches!(answer, Err(Silence::Late(_)));
                if !cut_short {
                    last = hands.mask.hide(fault);
                }
                format!("not yet: {last}")
            }
        };
        hands.log.line(&format!("{asked}: {words}"));
        if row >= *times {
            let status = answer.map_or(0, |answer| answer.status);
            let outputs = Map::from_iter([("status".to_owned(), json!(status)), ("asked".to_owned(), json!(asked))]);
            return End::Done { outputs, summary: format!("{shown} is well, {times} of {times}") };
        }
        hands.tell(if row > 0 { format!("{row} of {times}") } else { words });
        let rest = written.every.saturating_sub(sent.elapsed()).min(within.saturating_sub(begun.elapsed()));
        if hands.pause(rest).await {
            return End::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_refused_with_its_key() {
        let call = |settings: Value| Call.check(&settings).into_iter().next().map(|(key, _)| key);
        let good = json!({"url": "https://{environment}.shop.example/", "method": "post", "json": {"a": 1}, "expect": [200, 201],
            "headers": {"X-Key": "k"}, "timeout": "3s", "save": {"id": "data.0.id"}});
        assert_eq!(call(good), None);
        for (key, settings) in [
            ("", json!({"url": "http://a/", "hosts": []})),
            ("", json!({"url": 7})),
            ("url", json!({"url": "ftp://a/"})),
            ("url", json!({"url": "shop"})),
            ("method", json!({"url": "http://a/", "method": "BREW"})),
            ("headers", json!({"url": "http://a/", "headers": {"A B": "x"}})),
            ("headers", json!({"url": "http://a/", "headers": {"A": "x\r\nB: y"}})),
            ("body", json!({"url": "http://a/", "json": 1, "body": "x"})),
            ("expect", json!({"url": "http://a/", "expect": 2000})),
        ] {
            assert_eq!(call(settings.clone()).as_deref(), Some(key), "{settings}");
        }
        let health = |settings: Value| Health.check(&settings).into_iter().next().map(|(key, _)| key);
        assert_eq!(health(json!({"url": "http://a/", "expect": 200, "times": 3, "every": "5s"})), None);
        assert_eq!(health(json!({"url": "http://a/", "times": 0})).as_deref(), Some("times"));
        assert_eq!(health(json!({"url": "http://a/", "every": "0s"})).as_deref(), Some("every"));
        assert_eq!(health(json!({"url": "http://a/", "times": 30, "every": "5s"})).as_deref(), Some("within"));
    }

    #[test]
    fn an_answer_is_good_by_its_status_and_its_words() {
        let answer = |status: u16| Answer { status, body: b"all is well".to_vec(), cut: false };
        let fault = |expect: Option<Expect>, contains: &str, status: u16| {
            Wanted::read(expect, Some(contains.to_owned())).unwrap().fault(&answer(status))
        };
        assert_eq!((fault(None, "well", 204), fault(Some(Expect::Some(vec![200, 302])), "", 302)), (None, None));
        assert_eq!(fault(Some(Expect::Text("503".to_owned())), "", 503), None);
        assert_eq!(fault(None, "", 302).unwrap(), "status 302 and not 200 to 299");
        assert_eq!(fault(Some(Expect::One(200)), "", 503).unwrap(), "status 503 and not 200");
        assert_eq!(fault(None, "sick", 200).unwrap(), "status 200 without \"sick\"");
    }

    #[test]
    fn a_path_finds_its_value_in_json_or_nothing() {
        let json = json!({"data": {"items": [{"id": 7}, null]}, "a": "x"});
        assert_eq!(at(&json, "data.items.0.id"), Some(&json!(7)));
        assert_eq!(at(&json, "$.a"), Some(&json!("x")));
        assert_eq!((at(&json, "data.items.9"), at(&json, "a.b"), at(&json, "data.items.1.id")), (None, None, None));
    }
}
