//! Who looks at pages: whoever has shown a token of `gateway.tokens` once, and has a cookie for it since.
//!
//! Links to runs stand in channels and in their logs, so a link alone opens nothing. The cookie never leaves this host, is read by no
//! script and sent with nothing that another site asks for. What it allows is what its token allows at that moment: a token that is
//! changed or taken away ends it, and so does a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::html::{Frame, Html, page, send};
use crate::executors::unguessable;
use crate::gateway::hooks::reply;
use crate::gateway::looks::Query;
use crate::gateway::runs::{Caller, TokenSettings, caller, named};
use crate::gateway::server::Shared;
use crate::pipelines::{Millis, Pipelines};

/// Its name; browsers take one that begins so only for this very host, and over TLS or the machine's own loopback.
const COOKIE: &str = "__Host-masterchief";
/// How long a login lasts.
const LIFE: Millis = 12 * 3_600_000;
/// Logins at once; the oldest ends where there is one more.
const MOST: usize = 1024;
/// Pages of one login that follow what happens, at once.
const FOLLOWS: usize = 16;

/// Who is logged in. What is kept of a cookie is its hash.
#[derive(Default)]
pub(super) struct Sessions {
    inner: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Clone)]
struct Session {
    /// The token's name.
    name: String,
    /// The hash of the token.
    print: [u8; 32],
    until: Millis,
    follows: Arc<Semaphore>,
}

/// Somebody who is logged in.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// The hash of their cookie.
    pub(super) key: [u8; 32],
    /// How many more pages of theirs may follow.
    pub(super) follows: Arc<Semaphore>,
}

impl Visitor {
    /// What they are called.
    pub(super) fn called(&self) -> &str {
        self.caller.who.called()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new login: the cookie.
    fn begin(&self, name: &str, token: &TokenSettings, now: Millis) -> std::io::Result<String> {
        let cookie = unguessable()?;
        let print = hash(token.token.reveal());
        let session =
            Session { name: name.to_owned(), print, until: now + LIFE, follows: Arc::new(Semaphore::new(FOLLOWS)) };
        let mut all = self.lock();
        all.retain(|_, one| one.until > now);
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, one)| one.until).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        all.insert(hash(&cookie), session);
        Ok(cookie)
    }

    fn find(&self, key: &[u8; 32], now: Millis) -> Option<Session> {
        self.lock().get(key).filter(|one| one.until > now).cloned()
    }

    fn end(&self, key: &[u8; 32]) {
        self.lock().remove(key);
    }
}

/// The cookie that is shown, by its hash.
fn cookie(headers: &HeaderMap) -> Option<[u8; 32]> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut all = all.flat_map(|value| value.split(';'));
    all.find_map(|pair| Some(hash(pair.trim().strip_prefix(COOKIE)?.strip_prefix('=')?)))
}

/// Who looks, if they are logged in and may still be.
pub(super) fn enter(shared: &Shared, pipelines: &Pipelines, headers: &HeaderMap) -> Option<Visitor> {
    again(shared, pipelines, &cookie(headers)?)
}

/// The same for somebody who has been here: what they may is judged anew.
pub(super) fn again(shared: &Shared, pipelines: &Pipelines, key: &[u8; 32]) -> Option<Visitor> {
    let session = shared.web.sessions.find(key, pipelines.now())?;
    let settings = shared.settings.load();
    let token = settings.tokens.get(&session.name).filter(|token| hash(token.token.reveal()) == session.print);
    let caller = token.and_then(|token| caller(shared, pipelines, &session.name, token).ok());
    let Some(caller) = caller else {
        shared.web.sessions.end(key);
        return None;
    };
    Some(Visitor { caller, key: *key, follows: session.follows })
}

/// Whether a form or a script of our own pages sent this. A browser always tells; who does not is none.
pub(super) fn own(shared: &Shared, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let settings = shared.settings.load();
    if settings.url.as_ref().is_some_and(|url| origin_of(url) == Some(origin)) {
        return true;
    }
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| !host.is_empty() && text(header::HOST).is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

/// `https://bot.example` of an address below it.
fn origin_of(url: &str) -> Option<&str> {
    let begin = url.find("://")? + 3;
    let end = url.get(begin..)?.find('/').map_or(url.len(), |at| begin + at);
    url.get(..end)
}

/// Where somebody wanted to go, if that is here.
fn next(wanted: Option<&str>) -> &str {
    let here = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    wanted.filter(here).filter(|path| !path.starts_with("/log") || path.starts_with("/log/")).unwrap_or("/r")
}

/// The page that asks for a token.
pub(super) fn asked(shared: &Shared, wanted: Option<&str>, wrong: Option<&'static str>) -> Response {
    let mut html = Html::new(&shared.web.hide);
    html.raw("<form class=\"login\" method=\"post\" action=\"/login\"><h1>Log in</h1>");
    if let Some(wrong) = wrong {
        html.raw("<p class=\"bad\">").raw(wrong).raw("</p>");
    }
    html.raw("<label>Token <input type=\"password\" name=\"token\" autocomplete=\"current-password\" required autofocus></label><input type=\"hidden\" name=\"next\" value=\"");
    html.text(next(wanted)).raw("\"><button>Log in</button><p class=\"quiet\">One of <code>gateway.tokens</code> of the bot's configuration. It stays valid here for twelve hours.</p></form>");
    let frame = Frame { status: StatusCode::UNAUTHORIZED, title: "Log in", visitor: None, live: None };
    page(frame, &html)
}

/// Takes a token, and gives a cookie for it.
pub(super) fn login(shared: &Shared, pipelines: &Pipelines, body: &[u8]) -> Response {
    let form = String::from_utf8_lossy(body).replace('+', "%20");
    let form = Query::read(&form);
    let wanted = form.text("next");
    let Some((name, token)) = named(shared, form.text("token").unwrap_or_default()) else {
        tracing::warn!("Somebody tried to log in to the pages with a token that there is not");
        return asked(shared, wanted, Some("I do not know that token."));
    };
    if caller(shared, pipelines, &name, &token).is_err() {
        tracing::warn!(token = %name, "A token cannot log in to the pages: whose it is, is not known");
        return asked(shared, wanted, Some("Whose token that is, is not known; an owner finds its name in the log."));
    }
    let Ok(cookie) = shared.web.sessions.begin(&name, &token, pipelines.now()) else {
        return asked(shared, wanted, Some("I cannot make a cookie that nobody guesses; try again later."));
    };
    tracing::info!(token = %name, "Somebody logged in to the pages");
    to(
        next(wanted),
        Some(format!("{COOKIE}={cookie}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Strict", LIFE / 1000)),
    )
}

/// Ends a login.
pub(super) fn logout(shared: &Shared, headers: &HeaderMap) -> Response {
    if let Some(key) = cookie(headers) {
        shared.web.sessions.end(&key);
    }
    to("/login", Some(format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")))
}

/// Who somebody is, for the script of a page.
pub(super) fn told(visitor: Option<&Visitor>) -> Response {
    use warp::Reply as _;
    let answer = match visitor {
        Some(visitor) => reply(StatusCode::OK, &json!({"handle": visitor.called()})),
        None => reply(StatusCode::UNAUTHORIZED, &json!({"error": "log in first"})),
    };
    super::html::guarded(answer.into_response())
}

/// Sends somebody elsewhere.
pub(super) fn to(path: &str, cookie: Option<String>) -> Response {
    let mut out = send(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "no-store", String::new());
    let mut say = |name, value: &str| {
        // What has other letters than a header may have is not said.
        if let Ok(value) = HeaderValue::from_str(value) {
            out.headers_mut().insert(name, value);
        }
    };
    say(header::LOCATION, path);
    if let Some(cookie) = cookie {
        say(header::SET_COOKIE, &cookie);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_logs_in_goes_where_they_wanted_and_never_to_another_host() {
        for here in ["/r/118", "/a/shop/prod?below=3", "/log/L-7", "/deploy/shop"] {
            assert_eq!(next(Some(here)), here);
        }
        for there in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "",
            "r",
            "/a\r\nSet-Cookie: x",
            "/login",
            "/logout",
        ] {
            assert_eq!(next(Some(there)), "/r", "{there}");
        }
        assert_eq!(next(None), "/r");
    }

    #[test]
    fn an_origin_is_what_stands_before_the_path() {
        assert_eq!(origin_of("https://bot.example/"), Some("https://bot.example"));
        assert_eq!(origin_of("https://bot.example:8443/chief/x"), Some("https://bot.example:8443"));
        assert_eq!(origin_of("bot.example"), None);
    }

    #[test]
    fn a_login_ends_with_its_time_and_the_oldest_makes_room() {
        let token: TokenSettings = serde_json::from_value(json!({"token": "a-token-of-some-length"})).unwrap();
        let sessions = Sessions::default();
        let first = sessions.begin("ci", &token, 0).unwrap();
        assert!(sessions.find(&hash(&first), LIFE - 1).is_some() && sessions.find(&hash(&first), LIFE).is_none());
        assert!(sessions.find(&hash("something else"), 1).is_none());
        for n in 1..=MOST as i64 {
            sessions.begin("ci", &token, n).unwrap();
        }
        assert!(sessions.find(&hash(&first), MOST as i64).is_none() && sessions.lock().len() == MOST);
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {COOKIE}={first}; c=d").parse().unwrap());
        assert_eq!(cookie(&headers), Some(hash(&first)));
        headers.insert(header::COOKIE, format!("x{COOKIE}={first}").parse().unwrap());
        assert_eq!(cookie(&headers), None);
    }
}
