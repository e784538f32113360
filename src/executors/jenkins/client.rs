//! Talks to one Jenkins server: who we are there, its crumb and session, and what its refusals mean.
//!
//! An API token needs no crumb. A password needs one, and the crumb is of use only with the session cookie that came
//! with it (jenkinsci/jenkins: `hudson/security/csrf/DefaultCrumbIssuer.java`,
//! `jenkins/security/ApiCrumbExclusion.java`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use masterchief_contract::Secret;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;

use super::super::class::{Class, Failure};
use super::super::settings::Jenkins;
use super::super::step::Hands;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent within an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an answer may take that is no log.
const WHOLE: Duration = Duration::from_secs(60);
/// The longest answer that is no log.
pub(super) const BODY_MAX: usize = 4 << 20;
/// Cookies kept, and how long one may be.
const COOKIES_MAX: usize = 20;
const COOKIE_MAX: usize = 4096;
/// How often a server may say no before it is believed while a build is waited for: one that starts knows nobody.
const REFUSALS: u32 = 3;
/// The first and the longest wait while a server is not there.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(20));

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was not reached, or is not ready: nothing was done.
    Unreached(Failure),
    /// What became of the request is not known.
    Lost(Failure),
    /// What was asked for is not there, or we may not see it.
    Gone,
    /// Asking again will not help.
    Failed(Failure),
    /// The step is to end.
    Stopped,
}

/// What a server says to a POST.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status: one of 2xx, 3xx, 400 and 409.
    pub(super) status: u16,
    /// The path it points to.
    pub(super) location: Option<String>,
}

/// One Jenkins server.
pub(super) struct Server {
    http: Client,
    base: Url,
    /// Host and port, as people are told.
    pub(super) name: String,
    /// The key of its settings.
    pub(super) key: String,
    /// How long it may be away while a build is waited for.
    pub(super) patience: Duration,
    user: String,
    secret: Secret,
    by_password: bool,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    /// The header and the crumb; `Some(None)` where the server wants none.
    crumb: Option<Option<(String, String)>>,
    cookies: BTreeMap<String, String>,
}

impl Server {
    /// A server by its settings; `name` is the one that stages use.
    pub(super) fn open(name: &str, settings: &Jenkins) -> Result<Server, Failure> {
        let key = format!("executors.jenkins.{name}");
        let wrong = |what: &str| Failure::new(Class::Config, format!("{key}{what}"));
        let base = Url::parse(&settings.url).map_err(|_| wrong(".url is not an address; write https://ci.example/"))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong(".url is not a web address; write https://ci.example/"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong(".url holds a user or a password; write them as user and token"));
        }
        let (secret, by_password) = match (&settings.token, &settings.password) {
            (Some(token), _) => (token.clone(), false),
            (None, Some(password)) => (password.clone(), true),
            (None, None) => return Err(wrong(" has neither a token nor a password; add an API token as token")),
        };
        // A provider may be installed already; whichever was first serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent("masterchief")
            .build()
            .map_err(|fault| wrong(&format!(": no client can be made: {}", fault.without_url())))?;
        let host = base.host_str().unwrap_or("Jenkins");
        let name = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let patience = settings.patience;
        let user = settings.user.clone();
        Ok(Server { http, base, name, key, patience, user, secret, by_password, session: Mutex::default() })
    }

    /// The address of something there, its parts unescaped.
    pub(super) fn at<'a>(&self, parts: impl IntoIterator<Item = &'a str>, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Reads JSON once.
    pub(super) async fn json(&self, url: Url) -> Result<Value, Fault> {
        let body = self.bytes(url, BODY_MAX).await?;
        serde_json::from_slice(&body).map_err(|_| {
            Fault::Failed(Failure::new(
                Class::Config,
                format!("{} does not answer as Jenkins does; check {}.url", self.name, self.key),
            ))
        })
    }

    /// Reads JSON, and bears a server that is away for a while. It breaks off when the step is to end.
    pub(super) async fn ask(&self, url: Url, hands: &Hands, patience: Duration) -> Result<Value, Fault> {
        let mut patience = Patience::new(patience);
        loop {
            match unless_stopped(hands, self.json(url.clone())).await {
                Err(fault) => patience.bear(fault, hands).await?,
                answer => return answer,
            }
        }
    }

    /// Reads a body that may be so long.
    pub(super) async fn bytes(&self, url: Url, most: usize) -> Result<Vec<u8>, Fault> {
        let reading = async {
            let mut answer = self.judged(self.send(Method::GET, url, None, None).await?)?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|fault| self.fault(&fault))? {
                if body.len() + chunk.len() > most {
                    let line = format!("{} answers with more than {} KiB", self.name, most >> 10);
                    return Err(Fault::Failed(Failure::new(Class::Unknown, line)));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        tokio::time::timeout(WHOLE, reading).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Opens a log; its body is read piece by piece with [`Server::piece`].
    pub(super) async fn open_log(&self, url: Url) -> Result<Response, Fault> {
        self.judged(self.send(Method::GET, url, None, None).await?)
    }

    /// The next piece of a log.
    pub(super) async fn piece(&self, answer: &mut Response) -> Result<Option<Vec<u8>>, Fault> {
        let piece = answer.chunk().await.map_err(|fault| self.fault(&fault))?;
        Ok(piece.map(|piece| piece.to_vec()))
    }

    /// Sends a form. [`Fault::Unreached`] means that it certainly was not taken; [`Fault::Lost`] that it may have been.
    pub(super) async fn post(&self, url: Url, form: Option<&str>) -> Result<Answer, Fault> {
        let mut refreshed = false;
        loop {
            // What is lost here is only the question for the crumb.
            let crumb = self.crumb().await.map_err(|fault| match fault {
                Fault::Lost(failure) => Fault::Unreached(failure),
                other => other,
            })?;
            let sending = self.send(Method::POST, url.clone(), form, crumb.as_ref());
            let answer = tokio::time::timeout(WHOLE, sending).await.unwrap_or_else(|_| Err(self.silent()))?;
            let status = answer.status();
            if status == StatusCode::FORBIDDEN && self.by_password && !refreshed {
                // The session may have ended, and the crumb with it.
                refreshed = true;
                self.session().crumb = None;
                continue;
            }
            let told = status.is_success() || status.is_redirection();
            if told || matches!(status.as_u16(), 400 | 409) {
                let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                return Ok(Answer { status: status.as_u16(), location: location.map(str::to_owned) });
            }
            return match self.judged(answer) {
                Err(Fault::Lost(failure)) if matches!(status.as_u16(), 429 | 503) => Err(Fault::Unreached(failure)),
                Err(Fault::Lost(failure)) if status == StatusCode::INTERNAL_SERVER_ERROR => Err(Fault::Failed(
                    Failure::new(Class::Unknown, format!("{}; look into the log of Jenkins", failure.line)),
                )),
                Err(fault) => Err(fault),
                Ok(answer) => Ok(Answer { status: answer.status().as_u16(), location: None }),
            };
        }
    }

    async fn crumb(&self) -> Result<Option<(String, String)>, Fault> {
        if !self.by_password {
            return Ok(None);
        }
        if let Some(crumb) = self.session().crumb.clone() {
            return Ok(crumb);
        }
        let crumb = match self.json(self.at(["crumbIssuer", "api", "json"], &[])).await {
            Ok(value) => match (value["crumbRequestField"].as_str(), value["crumb"].as_str()) {
                (Some(field), Some(crumb)) => Some((field.to_owned(), crumb.to_owned())),
                _ => None,
            },
            // A server without protection against forged requests issues none.
            Err(Fault::Gone) => None,
            Err(fault) => return Err(fault),
        };
        self.session().crumb = Some(crumb.clone());
        Ok(crumb)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        form: Option<&str>,
        crumb: Option<&(String, String)>,
    ) -> Result<Response, Fault> {
        let mut request = self.http.request(method, url).basic_auth(&self.user, Some(self.secret.reveal()));
        let cookies = self.session().cookies.clone();
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, pairs.join("; "));
        }
        if let Some((field, crumb)) = crumb {
            request = request.header(field.as_str(), crumb.as_str());
        }
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.to_owned());
        }
        let answer = request.send().await.map_err(|fault| self.fault(&fault))?;
        if self.by_password {
            self.keep_cookies(answer.headers());
        }
        Ok(answer)
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        let mut session = self.session();
        for value in headers.get_all(SET_COOKIE) {
            let Ok(text) = value.to_str() else { continue };
            let pair = text.split(';').next().unwrap_or("");
            let Some((name, value)) = pair.split_once('=').filter(|_| pair.len() <= COOKIE_MAX) else { continue };
            let (name, value) = (name.trim(), value.trim());
            if value.is_empty() {
                session.cookies.remove(name);
            } else if session.cookies.len() < COOKIES_MAX || session.cookies.contains_key(name) {
                session.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a status means where a good one was expected.
    fn judged(&self, answer: Response) -> Result<Response, Fault> {
        let (name, user, key) = (&self.name, &self.user, &self.key);
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(short);
        let kind = if self.by_password { "password" } else { "token" };
        let failed = |class: Class, line: String| Err(Fault::Failed(Failure::new(class, line)));
        match status.as_u16() {
            200..=299 => Ok(answer),
            404 => Err(Fault::Gone),
            401 => failed(Class::Auth, format!("{name} does not accept the {kind} of {user}; check {key}.{kind}")),
            403 => {
                let needs = header("x-required-permission");
                let needs = needs.map_or(String::new(), |needs| format!(": it needs the permission {needs} there"));
                failed(
                    Class::Auth,
                    format!("{name} does not let {user} do this{needs}; ask whoever runs it, or check {key}"),
                )
            }
            300..=399 => {
                let to = header("location").and_then(|to| Some(Url::parse(&to).ok()?.host_str()?.to_owned()));
                let to = to.map_or(String::new(), |to| format!(" to {to}"));
                failed(Class::Config, format!("{name} sends us on{to}; write its own address as {key}.url"))
            }
            408 | 429 | 500..=599 => {
                Err(Fault::Lost(Failure::new(Class::Network, format!("{name} answers {}", said(status)))))
            }
            _ => failed(Class::Unknown, format!("{name} answers {}", said(status))),
        }
    }

    fn silent(&self) -> Fault {
        let line = format!("{} does not answer within {} s", self.name, WHOLE.as_secs());
        Fault::Lost(Failure::new(Class::Network, line))
    }

    fn fault(&self, fault: &reqwest::Error) -> Fault {
        let reason = reason(fault);
        if fault.is_connect() {
            let line = format!("{} cannot be reached: {reason}; check {}.url and the network", self.name, self.key);
            return Fault::Unreached(Failure::new(Class::Network, line));
        }
        Fault::Lost(Failure::new(Class::Network, format!("{} broke off: {reason}", self.name)))
    }
}

/// Waits for what a server says, unless the step is to end. Only for what changes nothing there.
pub(super) async fn unless_stopped<T>(
    hands: &Hands,
    asking: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        answer = asking => answer,
        () = hands.stopping() => Err(Fault::Stopped),
    }
}

/// The root of a fault of the network, in words.
fn reason(fault: &reqwest::Error) -> String {
    if fault.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut root: &dyn std::error::Error = fault;
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    let text = root.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    if text.contains("lookup") {
        return "its name is not known".to_owned();
    }
    if text.contains("certificate") {
        return format!("its certificate is not trusted ({})", short(text));
    }
    short(text).to_lowercase()
}

fn said(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_u16().to_string(), |words| format!("{} {words}", status.as_u16()))
}

/// The beginning of a text from outside, on one line.
pub(super) fn short(text: &str) -> String {
    let text: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).take(200).collect();
    text.trim().to_owned()
}

/// Bears a server that is away for a while.
pub(super) struct Patience {
    most: Duration,
    since: Option<Instant>,
    wait: Duration,
    refusals: u32,
}

impl Patience {
    /// Patience for so long.
    pub(super) fn new(most: Duration) -> Patience {
        Patience { most, since: None, wait: BACK_OFF.0, refusals: 0 }
    }

    /// It answers again.
    pub(super) fn well(&mut self) {
        *self = Patience::new(self.most);
    }

    /// Waits before the next try, or gives the fault back: it will not pass, or it lasts too long.
    pub(super) async fn bear(&mut self, fault: Fault, hands: &Hands) -> Result<(), Fault> {
        let building = self.most > super::PATIENCE_FIRST;
        let failure = match &fault {
            Fault::Unreached(failure) | Fault::Lost(failure) => failure,
            // At first contact a wrong password is sent once only: some servers lock who tries again.
            Fault::Failed(failure) if failure.class == Class::Auth && building && self.refusals + 1 < REFUSALS => {
                self.refusals += 1;
                failure
            }
            _ => return Err(fault),
        };
        let first = self.since.is_none();
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() + self.wait > self.most {
            return Err(fault);
        }
        if first && building {
            super::say(hands, &format!("{}; trying on for {} s", failure.line, self.most.as_secs()));
        }
        if hands.pause(self.wait).await {
            return Err(Fault::Stopped);
        }
        self.wait = (self.wait * 2).min(BACK_OFF.1);
        Ok(())
    }
}
