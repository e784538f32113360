//! One HTTP request of a stage, to wherever its author says, and what became of it.

use std::time::Duration;

use masterchief_contract::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde_json::Value;

use super::http::said;

/// Of a body so much is read; the rest is dropped.
pub(super) const BODY_MAX: usize = 1 << 20;
/// Redirects followed, where they are.
const REDIRECTS_MAX: usize = 5;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    pub(super) follow: bool,
    /// How long all of it may take.
    pub(super) timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the body is longer than [`BODY_MAX`].
    pub(super) cut: bool,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It was never sent: nobody could be reached.
    Unreached(String),
    /// No whole answer within the time.
    Late(String),
    /// It may have been sent.
    Broken(String),
}

impl Silence {
    /// The reason, a few words.
    pub(super) fn reason(&self) -> &str {
        let (Silence::Unreached(reason) | Silence::Late(reason) | Silence::Broken(reason)) = self;
        reason
    }
}

impl Probe {
    /// Sends it and reads the answer.
    pub(super) async fn send(&self) -> Result<Answer, Silence> {
        match tokio::time::timeout(self.timeout, self.exchange()).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Silence::Late(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn exchange(&self) -> Result<Answer, Silence> {
        // A provider may be installed already; whichever was first serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = if self.follow { same_host() } else { Policy::none() };
        let client = Client::builder().redirect(policy).user_agent("masterchief").build();
        let client = client.map_err(|fault| Silence::Unreached(said(fault).0))?;
        let mut sending = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            sending = sending.body(body.clone());
        }
        let mut answer = sending.send().await.map_err(silence)?;
        let mut read = Answer { status: answer.status().as_u16(), ..Answer::default() };
        while let Some(chunk) = answer.chunk().await.map_err(silence)? {
            let room = BODY_MAX - read.body.len();
            read.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                read.cut = true;
                break;
            }
        }
        Ok(read)
    }

    /// The URL as it may be shown: what stands behind the path may hold anything.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.to_string()
    }
}

fn silence(fault: reqwest::Error) -> Silence {
    let (connect, late) = (fault.is_connect(), fault.is_timeout());
    let whole = said(fault).0;
    // The innermost reason is what people understand.
    let reason = whole.rsplit(": ").next().unwrap_or(&whole).to_owned();
    let words = if whole.contains("Connection refused") {
        "connection refused".to_owned()
    } else if whole.contains("dns error") || whole.contains("failed to lookup") {
        "nobody knows this host".to_owned()
    } else if whole.contains("certificate") {
        format!("its certificate is not trusted ({reason})")
    } else {
        reason
    };
    match (connect, late) {
        (true, _) => Silence::Unreached(words),
        (_, true) => Silence::Late(words),
        _ => Silence::Broken(words),
    }
}

/// Reads a URL.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|fault| format!("that is no URL ({fault}); write https://HOST/PATH"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("only http:// and https:// are spoken".to_owned());
    }
    Ok(url)
}

/// Reads headers.
pub(super) fn headers<'a>(list: impl IntoIterator<Item = (&'a String, &'a Secret)>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header"))?;
        let value = HeaderValue::from_str(value.reveal());
        let mut value = value.map_err(|_| format!("the value of {name} cannot be sent; it must be one line"))?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

/// What stands at a path such as `data.items.0.id` in JSON; a `$.` before it is left out.
pub(super) fn at<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.strip_prefix('$').map_or(path, |rest| rest.strip_prefix('.').unwrap_or(rest));
    path.split('.').filter(|part| !part.is_empty()).try_fold(json, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        Value::Object(map) => map.get(part),
        _ => None,
    })
}
/// Follows redirects on the same host only: headers that prove who asks are not for others.
fn same_host() -> Policy {
    Policy::custom(|attempt| {
        let first = attempt.previous().first().and_then(|url| url.host_str().map(str::to_owned));
        if attempt.previous().len() > REDIRECTS_MAX || first.as_deref() != attempt.url().host_str() {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}
