//! `verify`: watches figures in Prometheus for a while, for a canary or after a rollout.
//!
//! `verify: {prometheus: "https://prometheus.example", for: 5m, every: 15s, failure_limit: 1, min_points: 20,
//! checks: ["err{v='new'} < 2 * err{v='old'} + 0.001", {name: p95, check: "p95{v='new'} < 0.3", unit: ms, base: "p95{v='old'}"}]}`. A
//! figure is shown as `percent` of one, in `ms` where it is seconds, or with whatever unit is named; beside it `base`, else what it must
//! be. A bearer token is taken from the stage's
//! variable `PROMETHEUS_TOKEN`. Without `prometheus` the one of `executors.prometheus` is asked, with its own token. What begins with
//! `prometheus:` means what follows that.
//!
//! A check is one comparison in PromQL. Each time both of its sides are asked for, and then the comparison with `bool`, so that every
//! pair of series answers 0 or 1, all three at the same moment:
//!
//! - it **holds** if there is at least one pair and all of them answer 1;
//! - it **fails** if a pair answers 0; one bad series among good ones is not hidden;
//! - there is **no data** if a side is empty or not a number (0 of 0 requests), if no series match, or if nobody answers.
//!
//! One series on each side is a pair, whatever its labels: `err{v='new'} < 2 * err{v='old'}`; of several those with the same labels,
//! or as `on`, `ignoring`, `group_left` and `group_right` say.
//!
//! A check that fails more often than `failure_limit` fails the step at once. No data is never good: at the end each check needs
//! `min_points` answers, half of all where it is left out. `/api/v1/query` is described in Prometheus' "HTTP API".

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use masterchief_contract::{Future, Secret};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::class::{Class, Failure};
use super::http::{NetHttp, Request, Response};
use super::promql::{Answer, Check, Said, Sample, judge, samples, short, split};
use super::settings::{Prometheus, Settings};
use super::step::{End, Executor, Hands, Step};
use super::{ExecFault, Http};

/// The variable that holds a bearer token.
const TOKEN: &str = "PROMETHEUS_TOKEN";
/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The shortest time between two looks.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// The most looks of one step.
const ROUNDS_MAX: u128 = 100_000;
/// The most checks of one step.
const CHECKS_MAX: usize = 50;
/// What is later than this, and than the next look, is asked for as it was then.
const LATE: Duration = Duration::from_secs(1);
/// So many times nobody may answer at the beginning.
const UNHEARD: u32 = 3;

/// The executor.
pub(super) fn make(settings: &Settings) -> Arc<dyn Executor> {
    Arc::new(Verify { http: Arc::new(NetHttp), usual: settings.prometheus.clone() })
}

struct Verify {
    http: Arc<dyn Http>,
    /// Who is asked where a stage names nobody.
    usual: Option<Prometheus>,
}

impl Verify {
    /// The settings of a stage with an address in them; and a token, if it is the usual one.
    fn addressed(&self, settings: &Value) -> (Value, Option<Secret>) {
        let mut settings = settings.clone();
        let usual = self.usual.as_ref().filter(|_| settings.get("prometheus").is_none());
        if let (Some(usual), Value::Object(map)) = (usual, &mut settings) {
            map.insert("prometheus".to_owned(), usual.url.clone().into());
        }
        (settings, usual.and_then(|usual| usual.token.clone()))
    }
}

/// The settings as they are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Where Prometheus is, with the path it is under, if any.
    prometheus: String,
    /// How long it is watched.
    #[serde(rename = "for", with = "humantime_serde")]
    length: Duration,
    /// How often it is looked at.
    #[serde(with = "humantime_serde")]
    every: Duration,
    /// How often a check may fail.
    #[serde(default)]
    failure_limit: u32,
    /// How many answers each check needs.
    #[serde(default)]
    min_points: Option<u32>,
    checks: Vec<OneWritten>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneWritten {
    Bare(String),
    Named {
        name: String,
        check: String,
        #[serde(default)]
        unit: Option<String>,
        #[serde(default)]
        base: Option<String>,
    },
}

/// The settings, checked.
#[derive(Clone, Debug)]
struct Plan {
    url: Url,
    length: Duration,
    every: Duration,
    rounds: u32,
    limit: u32,
    points: u32,
    checks: Vec<Check>,
}

/// What was seen of a check so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Tally {
    held: u32,
    failed: u32,
    silent: u32,
}

/// What is noted: all that must be known after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    began: DateTime<Utc>,
    round: u32,
    tallies: Vec<Tally>,
}

/// Why a question has no answer.
enum Unanswered {
    /// It may be answered the next time.
    Now(String),
    /// It never will.
    Ever(Failure),
}

impl Executor for Verify {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        plan(&self.addressed(settings).0).err().into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let http = Arc::clone(&self.http);
        let (settings, usual) = self.addressed(&step.settings);
        let own = step.env.iter().find(|(name, _)| name == TOKEN).map(|(_, token)| token.clone());
        Box::pin(async move {
            match plan(&settings) {
                Ok(plan) => {
                    watch(&Watch { plan, http, token: own.or(usual), step, hands }).await.unwrap_or_else(End::Failed)
                }
                Err((key, fault)) if key.is_empty() => End::failed(Class::Config, fault),
                Err((key, fault)) => End::failed(Class::Config, format!("{key}: {fault}")),
            }
        })
    }

    /// It only looked.
    fn undoes(&self) -> bool {
        true
    }

    fn undo(&self, _: Step, _: Hands) -> Future<End> {
        Box::pin(async { End::done() })
    }

    fn works_with_files(&self) -> bool {
        false
    }

    fn repeatable(&self) -> bool {
        true
    }
}

/// Reads the settings: the path of a wrong key and a sentence, if there is one.
fn plan(settings: &Value) -> Result<Plan, (String, String)> {
    let fault = |key: &str, what: String| Err((key.to_owned(), what));
    let written: Written = serde_json::from_value(settings.clone()).map_err(|what| {
        let wanted = "prometheus, for, every, checks, failure_limit, min_points";
        let usual = "a usual prometheus stands in executors.prometheus";
        (String::new(), format!("{what}; write {wanted}; {usual}"))
    })?;
    // A text that is filled in later is looked at then.
    let address = if written.prometheus.contains('{') { "http://later.example" } else { written.prometheus.as_str() };
    let mut url = match Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => url,
        _ => return fault("prometheus", "write its address, such as https://prometheus.example".to_owned()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "prometheus",
            format!("an address holds no password; put a token into the stage's variable {TOKEN}"),
        );
    }
    let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    if written.every < EVERY_MIN || written.length < written.every {
        return fault("every", format!("it must be at least {} ms, and not longer than `for`", EVERY_MIN.as_millis()));
    }
    let rounds = written.length.as_millis() / written.every.as_millis();
    let Ok(rounds) = u32::try_from(rounds.min(ROUNDS_MAX)) else { return fault("for", "it is too long".to_owned()) };
    let points = written.min_points.unwrap_or(rounds.div_ceil(2)).max(1);
    if points > rounds {
        return fault("min_points", format!("{points} answers are not to be had: it looks {rounds} times"));
    }
    if written.checks.is_empty() || written.checks.len() > CHECKS_MAX {
        return fault("checks", format!("write 1 to {CHECKS_MAX} comparisons"));
    }
    let mut checks = Vec::new();
    for (at, one) in written.checks.into_iter().enumerate() {
        let (name, text, unit, base) = match one {
            OneWritten::Bare(text) => (None, text, None, None),
            OneWritten::Named { name, check, unit, base } => (Some(name), check, unit, base),
        };
        let check = split(&text, name).map_err(|what| (format!("checks.{at}"), what))?;
        checks.push(Check { unit, base, ..check });
    }
    let (length, every, limit) = (written.length, written.every, written.failure_limit);
    Ok(Plan { url, length, every, rounds, limit, points, checks })
}

/// All that is needed to watch.
struct Watch {
    plan: Plan,
    http: Arc<dyn Http>,
    token: Option<Secret>,
    step: Step,
    hands: Hands,
}

/// Watches until a check failed too often, or the time is over.
async fn watch(watch: &Watch) -> Result<End, Failure> {
    let Watch { plan, step, hands, .. } = watch;
    let noted = step.noted.clone().and_then(|note| serde_json::from_value::<Note>(note).ok());
    let fresh = || Note { began: Utc::now(), round: 0, tallies: vec![Tally::default(); plan.checks.len()] };
    let mut note = noted.filter(|note| note.tallies.len() == plan.checks.len()).unwrap_or_else(fresh);
    keep(hands, &note).await?;
    let mut unheard = 0;
    let mut reason = String::new();
    while note.round < plan.rounds {
        note.round += 1;
        let passed = plan.every.checked_mul(note.round).and_then(|passed| TimeDelta::from_std(passed).ok());
        let due = passed.and_then(|passed| note.began.checked_add_signed(passed)).unwrap_or(note.began);
        let wait = (due - Utc::now()).to_std().unwrap_or_default();
        // A clock that was set back must not make it wait without end.
        if hands.pause(wait.min(plan.every)).await {
            return Ok(End::Stopped);
        }
        // What was missed while the bot was away is asked for as it was then.
        let late = (Utc::now() - due).to_std().is_ok_and(|late| late > plan.every.max(LATE));
        let mut heard = false;
        let mut now = Vec::new();
        for (check, tally) in plan.checks.iter().zip(&mut note.tallies) {
            let said = tokio::select! {
                () = hands.stopping() => return Ok(End::Stopped),
                said = ask(watch, check, late.then_some(due)) => said,
            };
            let said = said.or_else(|fault| match fault {
                Unanswered::Ever(failure) => Err(failure),
                Unanswered::Now(what) => Ok((false, Said::Nothing(what))),
            })?;
            heard |= said.0;
            hands.log.line(&format!("{} {}: {}", due.format("%H:%M:%S"), check.name, said.1.words()));
            match said.1 {
                Said::Holds(values) => {
                    tally.held += 1;
                    now.push(format!("{} {values}", check.name));
                }
                Said::Nothing(what) => {
                    tally.silent += 1;
                    reason = what;
                }
                Said::Fails(values) => {
                    tally.failed += 1;
                    now.push(format!("{} {values}", check.name));
                    if tally.failed > plan.limit {
                        let asked = tally.held + tally.failed;
                        let line = format!(
                            "{} {values} ({} of {asked} checks failed, limit {})",
                            check.name, tally.failed, plan.limit
                        );
                        return Ok(End::failed(Class::AppNotReady, hands.mask.hide(&line)));
                    }
                }
            }
        }
        unheard = if heard { 0 } else { unheard + 1 };
        if unheard >= UNHEARD && note.tallies.iter().all(|tally| tally.held + tally.failed == 0) {
            return Err(unreachable(plan, &reason));
        }
        keep(hands, &note).await?;
        hands.tell(progress(plan, &note, &now));
    }
    Ok(verdict(plan, &note, &reason, unheard > 0))
}

async fn keep(hands: &Hands, note: &Note) -> Result<(), Failure> {
    hands.note(json!(note)).await
}

/// What it comes to at the end.
fn verdict(plan: &Plan, note: &Note, reason: &str, unheard: bool) -> End {
    let failures: u32 = note.tallies.iter().map(|tally| tally.failed).sum();
    for (check, tally) in plan.checks.iter().zip(&note.tallies) {
        let points = tally.held + tally.failed;
        if points == 0 && unheard {
            return End::Failed(unreachable(plan, reason));
        }
        if points < plan.points {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let line = format!(
                "there is not enough data on {}: {points} of {} answers, {} needed{why}; look whether it is scraped and has traffic",
                check.name, plan.rounds, plan.points
            );
            return End::failed(Class::AppNotReady, line);
        }
    }
    let points: u32 = note.tallies.iter().map(|tally| tally.held + tally.failed).sum();
    let outputs = Map::from_iter([("points".to_owned(), json!(points)), ("failures".to_owned(), json!(failures))]);
    let (passed, unit) = spoken(plan.length, plan.length);
    End::Done { outputs, summary: format!("good for {passed} {unit}, {failures} of {points} checks failed") }
}

/// `errors 0.2% (base 0.2%), p95 181 ms (base 178 ms), 2 min left`.
fn progress(plan: &Plan, note: &Note, now: &[String]) -> String {
    let gone = plan.every * note.round;
    let (left, unit) = spoken(plan.length.saturating_sub(gone), plan.length);
    let failures: u32 = note.tallies.iter().map(|tally| tally.failed).sum();
    let silent = note.tallies.iter().map(|tally| tally.silent).max().unwrap_or(0);
    let failed = match failures {
        0 => String::new(),
        1 => ", 1 failure".to_owned(),
        more => format!(", {more} failures"),
    };
    let missing = if silent > 0 { format!(", {silent} times without data") } else { String::new() };
    let named = if now.is_empty() { String::new() } else { format!("{}, ", now.join(", ")) };
    format!("{named}{left} {unit} left{failed}{missing}")
}

/// A time in the unit that fits a whole.
fn spoken(time: Duration, whole: Duration) -> (String, &'static str) {
    if whole >= Duration::from_secs(120) {
        return (short((time.as_secs_f64() / 6.0).floor() / 10.0), "min");
    }
    (short((time.as_secs_f64() * 10.0).floor() / 10.0), "s")
}

fn unreachable(plan: &Plan, reason: &str) -> Failure {
    let line =
        format!("Prometheus at {} does not answer: {reason}; look at its address and whether it runs", host(&plan.url));
    Failure::new(Class::Network, line)
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Asks for a check, as it is now or as it was at a time; and whether somebody answered.
async fn ask(watch: &Watch, check: &Check, when: Option<DateTime<Utc>>) -> Result<(bool, Said), Unanswered> {
    let nothing = |why: String| Ok((true, Said::Nothing(why)));
    let when = when.map(|when| format!("{:.3}", when.timestamp_millis() as f64 / 1000.0));
    let (left, moment) = query(watch, check, &check.left, when.as_deref()).await?;
    if !left.iter().any(|(_, value)| !value.is_nan()) {
        return nothing(format!("{} has no value", check.left));
    }
    // All three are asked for the same moment.
    let (right, _) = query(watch, check, &check.right, moment.as_deref()).await?;
    if !right.iter().any(|(_, value)| !value.is_nan()) {
        return nothing(format!("{} has no value", check.right));
    }
    let Check { left: one, sign, matching, right: other, .. } = check;
    let comparison = |matching: &str| format!("({one}) {sign} bool {matching} ({other})");
    let (mut pairs, _) = query(watch, check, &comparison(matching), moment.as_deref()).await?;
    if pairs.is_empty() && matching.is_empty() && left.len() == 1 && right.len() == 1 {
        pairs = query(watch, check, &comparison("on()"), moment.as_deref()).await?.0;
    }
    let base = match &check.base {
        Some(base) => query(watch, check, base, moment.as_deref()).await?.0.first().map(|(_, value)| *value),
        None => None,
    };
    Ok((true, judge(check, &left, &right, &pairs, base)))
}

/// Asks for an expression: its samples, and the moment they are of, as Prometheus wrote it.
async fn query(
    watch: &Watch,
    check: &Check,
    text: &str,
    when: Option<&str>,
) -> Result<(Vec<Sample>, Option<String>), Unanswered> {
    let url = &watch.plan.url;
    let mut form = url.clone();
    form.query_pairs_mut().append_pair("query", text).append_pair("timeout", "8s");
    if let Some(when) = when {
        form.query_pairs_mut().append_pair("time", when);
    }
    let mut headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    if let Some(token) = &watch.token {
        headers.push(("authorization".to_owned(), format!("Bearer {}", token.reveal())));
    }
    let body = form.query().map(|query| query.as_bytes().to_vec());
    let request = Request { method: "POST".to_owned(), url: url.to_string(), headers, body, timeout: ANSWER };
    let answered = watch.http.request(
        request,
        vec![format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(0))],
    );
    let response = answered.await.map_err(|ExecFault(what)| Unanswered::Now(watch.hands.mask.hide(&what)))?;
    let answer = answer(&response, &watch.plan, check)?;
    samples(&answer.data).ok_or_else(|| {
        let line = format!("the check {} is not about single values; it gives a {:.20}", check.name, answer.data.kind);
        Unanswered::Ever(Failure::new(Class::Config, line))
    })
}

/// The answer in a response, or why there is none.
fn answer(response: &Response, plan: &Plan, check: &Check) -> Result<Answer, Unanswered> {
    let ever = |class, line: String| Err(Unanswered::Ever(Failure::new(class, line)));
    let host = host(&plan.url);
    match (response.status, serde_json::from_slice::<Answer>(&response.body)) {
        (200, Ok(answer)) if answer.status == "success" => Ok(answer),
        (401 | 403, _) => {
            ever(Class::Auth, format!("Prometheus at {host} refuses us; put a valid token into the variable {TOKEN}"))
        }
        (400 | 422, Ok(answer)) if answer.status == "error" => {
            let said: String = answer.error.chars().filter(|letter| !letter.is_control()).take(120).collect();
            ever(Class::Config, format!("Prometheus does not understand the check {}: {said}", check.name))
        }
        (500.. | 429, _) => Err(Unanswered::Now(format!("HTTP {}", response.status))),
        (status, _) => ever(
            Class::Config,
            format!("what answers at {host} is not Prometheus (HTTP {status}); correct its address"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn settings() -> Value {
        json!({"prometheus": "http://localhost:9090", "for": "5m", "every": "15s", "failure_limit": 1, "min_points": 20, "checks": ["up == 1"]})
    }

    #[test]
    fn the_usual_prometheus_is_asked_where_a_stage_names_none_and_only_it_sees_the_usual_token() {
        let usual = Prometheus { url: "https://prom.example/p".to_owned(), token: Some(Secret::new("abc")) };
        let verify = Verify { http: Arc::new(NetHttp), usual: Some(usual) };
        let mut written = settings();
        let (own, token) = verify.addressed(&written);
        assert_eq!((own["prometheus"].as_str(), token), (Some("http://localhost:9090"), None));
        written.as_object_mut().unwrap().remove("prometheus");
        let (filled, token) = verify.addressed(&written);
        assert_eq!(plan(&filled).unwrap().url.as_str(), "https://prom.example/p/api/v1/query");
        assert_eq!(token.unwrap().reveal(), "abc");
        let nobody = Verify { http: Arc::new(NetHttp), usual: None };
        assert!(nobody.check(&written)[0].1.contains("executors.prometheus"));
    }

    #[test]
    fn settings_that_can_never_work_are_refused_with_the_key() {
        assert!(plan(&settings()).is_ok());
        let fault = |key: &str, value: Value| {
            let mut settings = settings();
            settings[key] = value;
            plan(&settings).unwrap_err()
        };
        assert_eq!(fault("prometheus", json!("localhost")).0, "prometheus");
        assert!(fault("prometheus", json!("http://a:b@localhost")).1.contains("PROMETHEUS_TOKEN"));
        assert_eq!(fault("every", json!("6m")).0, "every");
        assert_eq!(fault("every", json!("1ms")).0, "every");
        assert!(fault("min_points", json!(21)).1.contains("looks 20 times"));
        assert_eq!(fault("checks", json!([])).0, "checks");
        assert_eq!(fault("checks", json!(["up == 1", {"name": "x", "check": "up"}])).0, "checks.1");
        assert!(fault("weather", json!(1)).1.contains("weather"));
        assert!(fault("for", json!("soon")).1.contains("write prometheus, for, every"));
    }

    #[test]
    fn half_of_the_looks_must_have_answers_if_nothing_else_is_said() {
        let mut settings = settings();
        settings["min_points"] = Value::Null;
        settings["prometheus"] = json!("https://p.example/prom/?x=y");
        let plan = plan(&settings).unwrap();
        assert_eq!((plan.rounds, plan.points), (20, 10));
        assert_eq!(plan.url.as_str(), "https://p.example/prom/api/v1/query");
    }

    fn sample(pod: &str, value: f64) -> Sample {
        (BTreeMap::from([("pod".to_owned(), pod.to_owned())]), value)
    }

    #[test]
    fn one_bad_series_among_good_ones_fails_and_one_without_a_number_is_never_good() {
        let check = split("err < 0.01", None).unwrap();
        let right = [(BTreeMap::new(), 0.01)];
        let left = [sample("a", 0.001), sample("b", 0.05)];
        let said = judge(&check, &left, &right, &[sample("a", 1.0), sample("b", 0.0)], None);
        assert_eq!(said, Said::Fails("0.05, not < 0.01 for pod=b".to_owned()));
        let said = judge(&check, &left, &right, &[sample("a", 1.0)], None);
        assert_eq!(said, Said::Holds("0.001 (< 0.01)".to_owned()));
        let shown = Check { unit: Some("percent".to_owned()), ..check.clone() };
        let said = judge(&shown, &left, &right, &[sample("a", 1.0)], Some(0.002));
        assert_eq!(said, Said::Holds("0.1% (base 0.2%)".to_owned()));
        let said = judge(&shown, &left[1..], &right, &[sample("b", 0.0)], Some(0.002));
        assert_eq!(said, Said::Fails("5% vs base 0.2%".to_owned()));
        let shown = Check { unit: Some("ms".to_owned()), ..check.clone() };
        let said = judge(&shown, &left[..1], &right, &[sample("a", 1.0)], Some(f64::NAN));
        assert_eq!(said, Said::Holds("1 ms (< 10 ms)".to_owned()));
        let left = [sample("a", 0.001), sample("b", f64::NAN)];
        assert!(matches!(judge(&check, &left, &right, &[sample("a", 1.0), sample("b", 0.0)], None), Said::Nothing(_)));
        assert!(matches!(judge(&check, &left, &right, &[], None), Said::Nothing(_)));
    }

    #[test]
    fn answers_of_any_shape_are_read_or_named() {
        let (plan, check) = (plan(&settings()).unwrap(), split("up == 1", None).unwrap());
        let read = |status, body: &str| {
            answer(&Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() }, &plan, &check)
        };
        let class = |status, body: &str| match read(status, body) {
            Err(Unanswered::Ever(failure)) => Some(failure.class),
            _ => None,
        };
        assert_eq!(class(401, ""), Some(Class::Auth));
        assert_eq!(class(200, "<html>"), Some(Class::Config));
        assert_eq!(class(404, "{}"), Some(Class::Config));
        assert_eq!(class(400, r#"{"status": "error", "error": "parse error"}"#), Some(Class::Config));
        assert!(matches!(read(503, "busy"), Err(Unanswered::Now(_))));
        for data in [
            r#"{"resultType": "matrix", "result": []}"#,
            r#"{"resultType": "scalar", "result": null}"#,
            r#"{"resultType": "vector", "result": [{}]}"#,
            "{}",
        ] {
            let body = format!(r#"{{"status": "success", "data": {data}}}"#);
            assert!(samples(&read(200, &body).ok().unwrap().data).is_none(), "{data}");
        }
        let body = r#"{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {"v": "new"}, "value": [1.5, "NaN"]}]}}"#;
        let (all, moment) = samples(&read(200, body).ok().unwrap().data).unwrap();
        assert!(all[0].1.is_nan());
        assert_eq!((all[0].0["v"].as_str(), moment.as_deref()), ("new", Some("1.5")));
    }

    #[test]
    fn numbers_and_times_are_short() {
        let said = [0.019, 0.0051239, 1234.5678, 12.0, 0.0, -0.5, 1e-9, f64::NAN, 3e20].map(short);
        assert_eq!(said, ["0.019", "0.005124", "1235", "12", "0", "-0.5", "1.000e-9", "NaN", "3.000e20"]);
        let plan = plan(&settings()).unwrap();
        let mut note = Note { began: Utc::now(), round: 12, tallies: vec![Tally::default()] };
        assert_eq!(progress(&plan, &note, &[]), "2 min left");
        note.tallies[0] = Tally { held: 9, failed: 1, silent: 2 };
        let now = ["errors 0.2% (base 0.2%)".to_owned(), "p95 181 ms (base 178 ms)".to_owned()];
        assert_eq!(
            progress(&plan, &note, &now),
            "errors 0.2% (base 0.2%), p95 181 ms (base 178 ms), 2 min left, 1 failure, 2 times without data"
        );
    }
}
