//! How something over HTTP is looked at. What the server says about when to come again is kept to.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jmespath::Expression;
use masterchief_contract::{Borrowed, Meter, SourceError, Value};
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LINK, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use super::settings::{On, RestSettings};
use crate::diff::{Difference, Known};
use crate::faults;
use crate::poll::{Found, Look};

/// The biggest answer, all of its pages together, in bytes. As an event it stands in the journal twice, as text and as a value.
const ANSWER_MAX: usize = 16 << 20;
/// The longest wait a server may ask for.
const PATIENCE: Duration = Duration::from_secs(3600);

/// So often in a row a server may say to come again later before it counts as not up.
const PATIENT: u32 = 3;
/// What is noted while less is read than there is.
const MORE_PAGES: &str = "there are more pages than are read; raise `pages`, or ask for more a page";
const OTHER_PAGE: &str = "the next page is on another server, and is not read; write that one's url";

/// What is remembered over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// What the server calls the answer, and when it changed; nothing where it has several pages.
    etag: Option<String>,
    modified: Option<String>,
    known: Known,
}

pub(super) struct Rest {
    name: String,
    settings: RestSettings,
    url: Url,
    method: Method,
    client: Client,
    auth: Auth,
    transform: Option<Expression<'static>>,
    meter: Arc<Meter>,
    /// When the server wants to be asked again, if it said so at this look.
    again: Option<Duration>,
    /// Looks in a row in which the server said to come again later, at whichever page.
    refused: u32,
    /// Bytes of the answer so far, all of its pages together.
    answered: usize,
}

/// What an answer holds.
struct Body {
    json: Value,
    next: Option<Url>,
    /// Whether the next page is on another server.
    elsewhere: bool,
    headers: HeaderMap,
}

/// What one request gives.
enum Page {
    Same,
    /// The server has no time for it now.
    Later,
    Body(Box<Body>),
}

impl Rest {
    pub(super) fn new(name: &str, settings: &RestSettings, meter: &Arc<Meter>) -> Result<Rest, String> {
        let wrong = |key: &str, fault: &dyn std::fmt::Display| format!("rest.{name}.{key}: {fault}");
        let url = Url::parse(&settings.url).map_err(|fault| wrong("url", &fault))?;
        let method: Method = settings.method.parse().map_err(|_| wrong("method", &"this is no method of HTTP"))?;
        let transform = settings.transform.as_deref().map(jmespath::compile).transpose();
        let transform = transform.map_err(|fault| wrong("transform", &fault))?;
        if settings.pointer.as_deref().is_some_and(|pointer| !pointer.starts_with('/')) {
            return Err(wrong("pointer", &"a JSON pointer begins with /"));
        }
        if settings.every < Duration::from_millis(100) {
            return Err(wrong("every", &"at most every 100ms"));
        }
        // A header of ours may be a secret: it goes to the server that it is for, and to no other.
        let policy = redirect::Policy::custom(|attempt| {
            let same = attempt.previous().first().is_none_or(|first| first.origin() == attempt.url().origin());
            if same && attempt.previous().len() < 10 { attempt.follow() } else { attempt.stop() }
        });
        let client = Client::builder().user_agent(crate::AGENT).timeout(settings.timeout).redirect(policy);
        let client = client.build().map_err(|fault| fault.to_string())?;
        Ok(Rest {
            name: name.to_owned(),
            url,
            method,
            client,
            auth: Auth::new(&settings.auth).map_err(|fault| format!("rest.{name}.{fault}"))?,
            transform,
            settings: settings.clone(),
            meter: Arc::clone(meter),
            again: None,
            refused: 0,
            answered: 0,
        })
    }

    async fn page(&mut self, url: &Url, before: Option<&Memory>) -> Result<Page, SourceError> {
        let lost = |fault: reqwest::Error| faults::lost(&fault.without_url());
        let mut tries = 0;
        loop {
            let mut request = self.client.request(self.method.clone(), url.clone());
            for (name, value) in &self.settings.headers {
                request = request.header(name, value.reveal());
            }
            if let Some(body) = &self.settings.body {
                request = request.body(body.clone());
            }
            if let Some(etag) = before.and_then(|before| before.etag.as_ref()) {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(modified) = before.and_then(|before| before.modified.as_ref()) {
                request = request.header(IF_MODIFIED_SINCE, modified);
            }
            let request = self.auth.sign(&self.client, request).await?;
            let mut response = request.send().await.map_err(lost)?;
            let (status, headers) = (response.status(), response.headers().clone());
            match status {
                StatusCode::NOT_MODIFIED => return Ok(Page::Same),
                StatusCode::UNAUTHORIZED if tries == 0 && self.auth.refused() => {
                    tries += 1;
                    continue;
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    self.refused += 1;
                    let wait = self.wait(&headers, self.refused);
                    self.again = Some(wait);
                    self.meter.note(format!("{status}: asked again in {} s", wait.as_secs()));
                    if self.refused >= PATIENT {
                        self.meter.trouble(format!("{status} {} times; ask less often, with `every`", self.refused));
                    }
                    return Ok(Page::Later);
                }
                status => refusal(status)?,
            }
            if remaining(&headers) == Some(0) {
                self.again = Some(self.wait(&headers, 1));
            }
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await.map_err(lost)? {
                body.extend_from_slice(&part);
                self.answered += part.len();
                if self.answered > ANSWER_MAX {
                    return Err(SourceError::Wrong(format!(
                        "the answer has more than {ANSWER_MAX} bytes; ask for less, or for fewer pages"
                    )));
                }
            }
            let json = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned()));
            let next = match self.settings.next.as_deref() {
                None => None,
                Some("link") => linked(&headers).and_then(|link| url.join(&link).ok()),
                Some(pointer) => json.pointer(pointer).and_then(Value::as_str).and_then(|link| url.join(link).ok()),
            };
            // A token of ours goes to the server that it is for, and to no other.
            let elsewhere = next.as_ref().is_some_and(|next| next.origin() != url.origin());
            let next = next.filter(|_| !elsewhere);
            return Ok(Page::Body(Box::new(Body { json, next, elsewhere, headers })));
        }
    }

    /// How long to wait for a server that wants to be asked later: as it says, or longer each time where it does not, or where
    /// what it says is over. Never less than the usual time.
    fn wait(&self, headers: &HeaderMap, times: u32) -> Duration {
        let every = self.settings.every;
        let said = again(headers, Utc::now()).filter(|wait| !wait.is_zero());
        let grown = || every.saturating_mul(1 << times.clamp(1, 16));
        said.unwrap_or_else(grown).min(PATIENCE).max(every)
    }

    /// The server answers, and to the last page.
    fn well(&mut self) {
        if std::mem::take(&mut self.refused) > 0 {
            self.meter.well();
            self.meter.note("");
        }
    }

    /// What counts of an answer.
    fn part(&self, json: Value) -> Result<Value, SourceError> {
        let part = match self.settings.pointer.as_deref() {
            None => json,
            Some(pointer) => json.pointer(pointer).cloned().unwrap_or(Value::Null),
        };
        let Some(transform) = &self.transform else { return Ok(part) };
        let found = transform.search(part).map_err(|fault| SourceError::Wrong(format!("transform: {fault}")))?;
        serde_json::to_value(&*found).map_err(|fault| SourceError::Wrong(format!("transform: {fault}")))
    }

    /// One poll; the differences, and what is to be remembered.
    async fn poll(&mut self, mut memory: Memory) -> Result<(Vec<Difference>, Memory), SourceError> {
        let before = memory.clone();
        let mut url = Some(self.url.clone());
        let mut parts = Vec::new();
        let (mut count, mut note) = (0, "");
        while let Some(at) = url.take().filter(|_| count < self.settings.pages.max(1)) {
            match self.page(&at, Some(&before).filter(|_| count == 0)).await? {
                Page::Same => {
                    self.well();
                    return Ok((Vec::new(), before));
                }
                // Also if only a later page cannot be had now: then the first is asked for anew.
                Page::Later => return Ok((Vec::new(), before)),
                Page::Body(body) => {
                    let Body { json, next, elsewhere, headers } = *body;
                    // A first page that is the same says nothing of those behind it, nor whether there are any where a
                    // header tells that.
                    let alone = count == 0 && next.is_none() && self.settings.next.as_deref() != Some("link");
                    (memory.etag, memory.modified) = (None, None);
                    if alone {
                        let header = |name| headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
                        (memory.etag, memory.modified) = (header(ETAG), header(LAST_MODIFIED));
                    }
                    parts.push(self.part(json)?);
                    note = if elsewhere { OTHER_PAGE } else { "" };
                    url = next;
                }
            }
            count += 1;
            if count >= self.settings.pages.max(1) && url.is_some() {
                note = MORE_PAGES;
            }
        }
        self.well();
        self.meter.note(note);
        let whole = match <[Value; 1]>::try_from(parts) {
            Ok([one]) => one,
            // Lists of several pages are one list.
            Err(parts) => Value::Array(
                parts
                    .into_iter()
                    .flat_map(|part| match part {
                        Value::Array(list) => list,
                        other => vec![other],
                    })
                    .collect(),
            ),
        };
        let differences = match self.settings.on {
            On::Change => memory.known.whole(&whole, self.settings.first).into_iter().collect(),
            On::Items | On::New => {
                let Value::Array(items) = &whole else {
                    return Err(SourceError::Wrong(
                        "what counts is no list: say where it is, with pointer or transform".to_owned(),
                    ));
                };
                let mut found =
                    memory.known.list(items, &self.settings.key, self.settings.first).map_err(SourceError::Wrong)?;
                found.retain(|one| self.settings.on == On::Items || one.event == "added");
                found
            }
        };
        Ok((differences, memory))
    }
}

/// What an answer that is none says.
fn refusal(status: StatusCode) -> Result<(), SourceError> {
    let wrong = |what: &str| Err(SourceError::Wrong(format!("{status}: {what}")));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => wrong("look at auth"),
        status if status.is_redirection() => wrong("it leads to another server; write that one's url"),
        status if status.is_success() => Ok(()),
        status if faults::passes(status) => Err(SourceError::Lost(status.to_string())),
        _ => wrong("look at url and method"),
    }
}

/// When the server wants to be asked again: `Retry-After` in seconds or as a date, or the end of a rate limit.
fn again(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(after) = text(RETRY_AFTER.as_str()) {
        if let Ok(seconds) = after.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = DateTime::parse_from_rfc2822(after).ok()?;
        return Some((at.to_utc() - now).to_std().unwrap_or_default());
    }
    let reset: i64 = text("x-ratelimit-reset").or_else(|| text("ratelimit-reset"))?.parse().ok()?;
    // Seconds since 1970 (GitHub), or from now (the draft).
    let seconds = if reset > 1_000_000_000 { reset - now.timestamp() } else { reset };
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Requests that are left, where the server tells.
fn remaining(headers: &HeaderMap) -> Option<u64> {
    let header = headers.get("x-ratelimit-remaining").or_else(|| headers.get("ratelimit-remaining"))?;
    header.to_str().ok()?.trim().parse().ok()
}

/// `Link: <https://…>; rel="next"`
fn linked(headers: &HeaderMap) -> Option<String> {
    for value in headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()) {
        // An address may hold commas; what follows it goes up to the next one.
        let mut rest = value;
        while let Some((_, behind)) = rest.split_once('<') {
            let Some((address, parameters)) = behind.split_once('>') else { break };
            let own = parameters.split_once('<').map_or(parameters, |(own, _)| own);
            if own.contains("rel=\"next\"") || own.contains("rel=next") {
                return Some(address.to_owned());
            }
            rest = parameters;
        }
    }
    None
}

impl Look for Rest {
    type Memory = Memory;

    fn every(&self) -> Duration {
        self.settings.every
    }

    fn look(&mut self, memory: Memory) -> Borrowed<'_, Result<Found<Memory>, SourceError>> {
        Box::pin(async move {
            (self.again, self.answered) = (None, 0);
            let (found, memory) = self.poll(memory).await?;
            let events = found.into_iter().map(|one| one.inbound("name", &self.name)).collect();
            Ok(Found { events, memory, again: self.again, partial: self.refused > 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_the_server_says_about_coming_again_is_understood() {
        let now = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
        let after = |pairs: &[(&'static str, &str)]| again(&headers(pairs), now).map(|wait| wait.as_secs());
        assert_eq!(after(&[("retry-after", "120")]), Some(120));
        assert_eq!(after(&[("retry-after", "Thu, 01 Jan 2026 00:00:30 GMT")]), Some(30));
        assert_eq!(after(&[("x-ratelimit-reset", "1767225660")]), Some(60));
        assert_eq!(after(&[("ratelimit-reset", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", "soon")]), None);
        assert_eq!(remaining(&headers(&[("x-ratelimit-remaining", "0")])), Some(0));
    }

    fn settings(url: &str, next: Option<&str>) -> RestSettings {
        let text = json!({"url": url, "on": "items", "key": ["id"], "pointer": "/items", "next": next, "pages": 2, "first": true});
        serde_json::from_value(text).unwrap()
    }

    /// Looks once; the keys of what is told.
    async fn told(rest: &mut Rest, memory: &mut Memory) -> Vec<String> {
        let found = rest.look(memory.clone()).await.unwrap();
        *memory = found.memory;
        found.events.iter().map(|event| event.fields[2].1.as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_later_page_that_changed_is_seen_though_the_first_is_the_same() {
        let second = Arc::new(std::sync::atomic::AtomicU64::new(2));
        let now = Arc::clone(&second);
        let (url, _) = crate::canned::serve(move |head| {
            let id = now.load(std::sync::atomic::Ordering::Relaxed);
            if head.contains("page=2") {
                return (200, vec![], json!({"items": [{"id": id}]}).to_string());
            }
            let status = if head.contains("if-none-match") { 304 } else { 200 };
            let body = json!({"items": [{"id": 1}], "next": "/?page=2"}).to_string();
            (status, vec![("etag", "\"same\"".to_owned())], if status == 304 { String::new() } else { body })
        })
        .await;
        let mut rest = Rest::new("a", &settings(&url, Some("/next")), &Arc::default()).unwrap();
        let mut memory = Memory::default();
        assert_eq!(told(&mut rest, &mut memory).await, ["1", "2"]);
        second.store(3, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(told(&mut rest, &mut memory).await, ["3", "2"]);
    }

    #[tokio::test]
    async fn one_page_alone_is_asked_for_with_what_is_known_of_it_and_may_be_the_same() {
        let (url, asked) = crate::canned::serve(|head| {
            let known = head.contains("if-modified-since: sat, 01 jan 2000 00:00:00 gmt");
            let body = json!({"items": [{"id": 1}]}).to_string();
            let modified = vec![("last-modified", "Sat, 01 Jan 2000 00:00:00 GMT".to_owned())];
            if known { (304, vec![], String::new()) } else { (200, modified, body) }
        })
        .await;
        let mut memory = Memory::default();
        let mut rest = Rest::new("a", &settings(&url, None), &Arc::default()).unwrap();
        assert_eq!(told(&mut rest, &mut memory).await, ["1"]);
        assert!(told(&mut rest, &mut memory).await.is_empty());
        assert_eq!(asked.lock().unwrap().iter().filter(|head| head.contains("if-modified-since")).count(), 1);
        // With a header that tells of a next page, a first one that is the same is no proof.
        let mut rest = Rest::new("a", &settings(&url, Some("link")), &Arc::default()).unwrap();
        let mut memory = Memory::default();
        told(&mut rest, &mut memory).await;
        told(&mut rest, &mut memory).await;
        let agent = format!("\r\nuser-agent: {}\r\n", crate::AGENT);
        assert!(asked.lock().unwrap().iter().all(|head| head.contains(&agent)));
        assert_eq!(asked.lock().unwrap().iter().filter(|head| head.contains("if-modified-since")).count(), 1);
    }

    #[tokio::test]
    async fn whoever_runs_the_bot_is_told_of_pages_that_are_not_read() {
        let (url, _) = crate::canned::serve(|head| {
            let next = if head.contains("elsewhere") { "http://192.0.2.1/" } else { "/?page=2" };
            (200, vec![], json!({"items": [], "next": next}).to_string())
        })
        .await;
        let meter = Arc::new(Meter::default());
        let mut rest = Rest::new("a", &settings(&url, Some("/next")), &meter).unwrap();
        told(&mut rest, &mut Memory::default()).await;
        assert!(meter.noted().contains("raise `pages`"), "{}", meter.noted());
        let mut rest = Rest::new("a", &settings(&format!("{url}/elsewhere"), Some("/next")), &meter).unwrap();
        told(&mut rest, &mut Memory::default()).await;
        assert!(meter.noted().contains("another server"), "{}", meter.noted());
    }

    #[tokio::test]
    async fn a_server_that_has_no_time_for_long_is_told_as_not_up_until_it_answers() {
        let busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_busy = Arc::clone(&busy);
        let (url, _) = crate::canned::serve(move |_| match is_busy.load(std::sync::atomic::Ordering::Relaxed) {
            true => (503, vec![("retry-after", "7".to_owned())], String::new()),
            false => (200, vec![], json!({"items": []}).to_string()),
        })
        .await;
        let meter = Arc::new(Meter::default());
        let often = RestSettings { every: Duration::from_secs(5), ..settings(&url, None) };
        let mut rest = Rest::new("a", &often, &meter).unwrap();
        let mut memory = Memory::default();
        for _ in 0..2 {
            told(&mut rest, &mut memory).await;
            assert_eq!(meter.troubled(), None);
        }
        let found = rest.look(memory.clone()).await.unwrap();
        assert_eq!(found.again, Some(Duration::from_secs(7)), "what it asks for is kept to all the same");
        assert!(found.partial, "nobody said what there is");
        assert!(meter.troubled().unwrap().starts_with("503"), "{:?}", meter.troubled());
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        told(&mut rest, &mut memory).await;
        assert_eq!((meter.troubled(), meter.noted()), (None, String::new()));
    }

    /// After how many seconds a server is asked again that refuses so often in a row.
    async fn waits(every: u64, header: Option<(&'static str, String)>) -> Vec<u64> {
        let (url, _) = crate::canned::serve(move |_| (429, header.clone().into_iter().collect(), String::new())).await;
        let every = Duration::from_secs(every);
        let mut rest = Rest::new("a", &RestSettings { every, ..settings(&url, None) }, &Arc::default()).unwrap();
        let mut waits = Vec::new();
        for _ in 0..4 {
            waits.push(rest.look(Memory::default()).await.unwrap().again.unwrap().as_secs());
        }
        waits
    }

    #[tokio::test]
    async fn whoever_refuses_us_is_never_asked_sooner_than_usual_and_later_each_time() {
        let past = |name| Some((name, "Thu, 01 Jan 2026 00:00:30 GMT".to_owned()));
        assert_eq!(waits(10, None).await, [20, 40, 80, 160]);
        assert_eq!(waits(10, Some(("retry-after", "0".to_owned()))).await, [20, 40, 80, 160]);
        assert_eq!(waits(10, past("retry-after")).await, [20, 40, 80, 160]);
        assert_eq!(waits(10, Some(("x-ratelimit-reset", "1700000000".to_owned()))).await, [20, 40, 80, 160]);
        assert_eq!(waits(10, Some(("retry-after", "3".to_owned()))).await, [10; 4], "no sooner than `every`");
        assert_eq!(waits(10, Some(("retry-after", "30".to_owned()))).await, [30; 4]);
        assert_eq!(waits(1500, None).await, [3000, 3600, 3600, 3600]);
        assert_eq!(waits(7200, None).await, [7200; 4]);
    }

    #[tokio::test]
    async fn who_refuses_only_a_later_page_is_asked_later_each_time_too_and_told_as_not_up() {
        let busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_busy = Arc::clone(&busy);
        let (url, _) = crate::canned::serve(move |head| {
            let (second, left) = (head.contains("page=2"), vec![("x-ratelimit-remaining", "0".to_owned())]);
            match second && is_busy.load(std::sync::atomic::Ordering::Relaxed) {
                true => (429, vec![], String::new()),
                false if second => (200, left, json!({"items": [{"id": 2}]}).to_string()),
                false => (200, vec![], json!({"items": [{"id": 1}], "next": "/?page=2"}).to_string()),
            }
        })
        .await;
        let meter = Arc::new(Meter::default());
        let often = RestSettings { every: Duration::from_secs(10), ..settings(&url, Some("/next")) };
        let mut rest = Rest::new("a", &often, &meter).unwrap();
        let mut memory = Memory::default();
        for (wait, is_told) in [(20, false), (40, false), (80, true), (160, true)] {
            let found = rest.look(memory.clone()).await.unwrap();
            assert_eq!((found.again, found.events.len()), (Some(Duration::from_secs(wait)), 0));
            assert!(found.partial && meter.troubled().is_some() == is_told, "{wait}: {:?}", meter.troubled());
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(told(&mut rest, &mut memory).await, ["1", "2"]);
        assert_eq!((meter.troubled(), meter.noted()), (None, String::new()));
        assert_eq!(rest.again, Some(Duration::from_secs(20)), "what was before is forgotten");
    }

    #[tokio::test]
    async fn who_we_are_is_proven_in_the_way_that_is_configured() {
        let (url, asked) = crate::canned::serve(|_| (200, vec![], json!({"items": []}).to_string())).await;
        for (key, way, header) in [
            ("headers", json!({"X-Api-Key": "k3y"}), "x-api-key: k3y\r\n"),
            ("auth", json!({"bearer": "t0ken"}), "authorization: bearer t0ken\r\n"),
            // chief:pw, and the head is in small letters.
            ("auth", json!({"username": "chief", "password": "pw"}), "authorization: basic y2hpzwy6chc=\r\n"),
        ] {
            let settings = serde_json::from_value(json!({"url": url, key: way})).unwrap();
            let mut rest = Rest::new("a", &settings, &Arc::default()).unwrap();
            told(&mut rest, &mut Memory::default()).await;
            let asked = asked.lock().unwrap();
            assert!(asked.last().unwrap().contains(header), "{asked:?}");
        }
        let two = json!({"url": url, "auth": {"bearer": "t", "username": "u"}});
        let fault = Rest::new("a", &serde_json::from_value(two).unwrap(), &Arc::default()).err().unwrap();
        assert!(fault.contains("exclude each other"), "{fault}");
    }

    #[tokio::test]
    async fn any_change_of_what_counts_is_told_or_only_what_is_new() {
        let now = Arc::new(std::sync::Mutex::new(json!([])));
        let body = Arc::clone(&now);
        let (url, _) = crate::canned::serve(move |_| (200, vec![], body.lock().unwrap().to_string())).await;
        let look = |more: Value| {
            let mut settings = json!({"url": url});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Rest::new("a", &serde_json::from_value(settings).unwrap(), &Arc::default()).unwrap()
        };
        let mut changed = look(json!({"on": "change", "transform": "[].state"}));
        let mut new = look(json!({"on": "new", "key": ["id"]}));
        let (mut of_changed, mut of_new) = (Memory::default(), Memory::default());
        let mut tell = Vec::new();
        for items in [
            json!([{"id": 1, "state": "up"}]),
            json!([{"id": 1, "state": "down"}]),
            json!([{"id": 1, "state": "down", "more": true}]),
            json!([{"id": 2, "state": "up"}]),
        ] {
            *now.lock().unwrap() = items;
            let found = changed.look(of_changed).await.unwrap();
            of_changed = found.memory;
            tell.push((
                found.events.into_iter().map(|event| event.text).collect::<String>(),
                told(&mut new, &mut of_new).await.concat(),
            ));
        }
        let tell: Vec<_> = tell.iter().map(|(change, new)| (change.as_str(), new.as_str())).collect();
        assert_eq!(tell, [("", ""), ("[\"down\"]", ""), ("", ""), ("[\"up\"]", "2")]);
    }

    #[test]
    fn what_a_server_says_of_the_moment_is_asked_again_soon_and_what_it_says_of_us_is_not() {
        let of = |status: u16| refusal(StatusCode::from_u16(status).unwrap());
        assert_eq!([200, 204].map(of), [Ok(()), Ok(())]);
        for status in [408, 423, 425, 500, 502, 504, 520] {
            assert!(matches!(of(status), Err(SourceError::Lost(_))), "{status}");
        }
        for (status, what) in
            [(301, "url"), (400, "method"), (401, "auth"), (403, "auth"), (404, "url"), (501, "method")]
        {
            assert!(matches!(of(status), Err(SourceError::Wrong(why)) if why.contains(what)), "{status}");
        }
    }

    #[tokio::test]
    async fn who_gives_tokens_and_is_ill_is_asked_again_soon_and_who_refuses_us_is_not() {
        for (status, passes) in [(503, true), (429, true), (408, true), (400, false), (401, false)] {
            let (url, _) = crate::canned::serve(move |_| (status, vec![], "{}".to_owned())).await;
            let auth = json!({"token_url": url, "client_id": "chief", "client_secret": "s"});
            let settings = serde_json::from_value(json!({"url": url, "auth": auth})).unwrap();
            let fault =
                Rest::new("a", &settings, &Arc::default()).unwrap().look(Memory::default()).await.err().unwrap();
            assert_eq!(matches!(fault, SourceError::Lost(_)), passes, "{status}: {fault}");
        }
    }

    #[test]
    fn the_next_page_is_found_in_the_header() {
        let link = "<https://a/b?page=1>; rel=\"prev\", <https://a/b?page=3>; rel=\"next\"";
        assert_eq!(linked(&headers(&[("link", link)])).as_deref(), Some("https://a/b?page=3"));
        let commas = "<https://a/b?ids=1,2&page=1>; rel=\"prev\", <https://a/b?ids=1,2&page=3>; rel=\"next\"";
        assert_eq!(linked(&headers(&[("link", commas)])).as_deref(), Some("https://a/b?ids=1,2&page=3"));
        assert_eq!(linked(&headers(&[])), None);
    }
}
