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
use crate::poll::{Found, Look};

/// The biggest answer, in bytes.
const ANSWER_MAX: usize = 32 << 20;
/// The longest wait a server may ask for.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is remembered over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
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
}

/// What an answer holds.
struct Body {
    json: Value,
    next: Option<Url>,
    headers: HeaderMap,
}

/// What one request gives.
enum Page {
    Same,
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
        let client =
            Client::builder().timeout(settings.timeout).redirect(policy).build().map_err(|fault| fault.to_string())?;
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
        })
    }

    async fn page(&mut self, url: &Url, before: Option<&Memory>) -> Result<Page, SourceError> {
        let lost = |fault: reqwest::Error| SourceError::Lost(fault.without_url().to_string());
        let mut tries = 0;
        loop {
            let mut request = self.client.request(self.method.clone(), url.clone());
            for (name, value) in &self.settings.headers {
                request = request.header(name, value.reveal());
            }
            if let Some(body) = &self.settings.body {
                request = request.body(body.clone());
            }
            // Whether it changed is asked of the first page only: the others hang on it.
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
                    let wait = again(&headers, Utc::now()).unwrap_or(self.settings.every * 2).min(PATIENCE);
                    self.again = Some(wait);
                    self.meter.note(format!("{status}: asked again in {} s", wait.as_secs()));
                    return Ok(Page::Same);
                }
                status => refusal(status)?,
            }
            if remaining(&headers) == Some(0) {
                let wait = again(&headers, Utc::now()).unwrap_or(self.settings.every * 2).min(PATIENCE);
                self.again = Some(wait.max(self.settings.every));
            }
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await.map_err(lost)? {
                body.extend_from_slice(&part);
                if body.len() > ANSWER_MAX {
                    return Err(SourceError::Wrong(format!(
                        "the answer has more than {ANSWER_MAX} bytes; ask for less"
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
            let next = next.filter(|next| next.origin() == url.origin());
            return Ok(Page::Body(Box::new(Body { json, next, headers })));
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
        let mut count = 0;
        while let Some(at) = url.take().filter(|_| count < self.settings.pages.max(1)) {
            match self.page(&at, Some(&before).filter(|_| count == 0)).await? {
                // Also if only a later page cannot be had now: then the first is asked for anew.
                Page::Same => return Ok((Vec::new(), before)),
                Page::Body(body) => {
                    let Body { json, next, headers } = *body;
                    if count == 0 {
                        let header = |name| headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
                        (memory.etag, memory.modified) = (header(ETAG), header(LAST_MODIFIED));
                    }
                    parts.push(self.part(json)?);
                    url = next;
                }
            }
            count += 1;
        }
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
        status if status.is_client_error() => wrong("look at url and method"),
        status if !status.is_success() => Err(SourceError::Lost(status.to_string())),
        _ => Ok(()),
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
            self.again = None;
            let (found, memory) = self.poll(memory).await?;
            let events = found.into_iter().map(|one| one.inbound("name", &self.name)).collect();
            Ok(Found { events, memory, again: self.again })
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

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

    #[test]
    fn the_next_page_is_found_in_the_header() {
        let link = "<https://a/b?page=1>; rel=\"prev\", <https://a/b?page=3>; rel=\"next\"";
        assert_eq!(linked(&headers(&[("link", link)])).as_deref(), Some("https://a/b?page=3"));
        let commas = "<https://a/b?ids=1,2&page=1>; rel=\"prev\", <https://a/b?ids=1,2&page=3>; rel=\"next\"";
        assert_eq!(linked(&headers(&[("link", commas)])).as_deref(), Some("https://a/b?ids=1,2&page=3"));
        assert_eq!(linked(&headers(&[])), None);
    }
}
