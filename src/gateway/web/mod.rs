//! Pages for people: runs as they go, what is where, and a form that asks for a run.
//!
//! `GET /r`, `/r/118`, `/a`, `/a/APP`, `/a/APP/ENVIRONMENT`, `/log/L-7` are where the links in the bot's lines lead; `/deploy` and
//! `/deploy/APP` ask for a run; `/r/events` and `/r/118/events` tell what changes. `POST /login`, `/logout`, `/r/118/WORD`,
//! `/deploy/APP/plan` and `/deploy/APP`. All but the login need one (`session.rs`), and what is posted must come from our own pages.
//! Nothing here decides: what somebody asks for goes to the engine as from a channel.

mod ask;
mod assets;
mod html;
mod lists;
mod names;
mod run;
mod session;
mod stream;

use std::sync::Arc;

use masterchief_contract::Shutdown;
use tokio::sync::Semaphore;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Reply as _};

use super::hooks::Reply;
use super::looks::{Query, plain};
use super::runs::{not_found, refused, status};
use super::server::{Shared, small};
use super::verbs;
use crate::pipelines::{Pipelines, Refusal};
use html::{Frame, Html, guarded};
use session::{Sessions, Visitor};

pub use html::Hide;

/// Pages that follow what happens, at once.
const FOLLOWERS: usize = 128;
/// Plans that are worked out at once: each may ask a repository.
const PLANS: usize = 8;
/// Words that may be said to a run from its page.
const WORDS: [&str; 7] = ["yes", "approve", "reject", "retry", "rollback", "abort", "queue"];
/// Where pages are, by the first part of the address.
const PLACES: [&str; 9] = ["", "r", "a", "log", "deploy", "login", "logout", "session", "page"];

/// What pages need beside what the gateway has.
pub(super) struct Web {
    sessions: Sessions,
    hide: Hide,
    followers: Arc<Semaphore>,
    plans: Semaphore,
}

impl Web {
    pub(super) fn new(hide: Hide) -> Web {
        let (followers, plans) = (Arc::new(Semaphore::new(FOLLOWERS)), Semaphore::new(PLANS));
        Web { sessions: Sessions::default(), hide, followers, plans }
    }

    /// Takes secrets out of what is answered, on pages and elsewhere.
    pub(super) fn hide(&self) -> &Hide {
        &self.hide
    }
}

/// Somebody asks for something, logged in.
struct Asking<'a> {
    shared: &'a Shared,
    pipelines: &'a Pipelines,
    visitor: &'a Visitor,
}

impl Asking<'_> {
    fn hide(&self) -> &Hide {
        self.shared.web.hide()
    }

    fn html(&self) -> Html {
        Html::new(self.hide())
    }

    fn page(&self, title: &str, live: Option<String>, html: &Html) -> Response {
        html::page(Frame { live, ..Frame::of(title, self.visitor) }, html)
    }

    /// A page that says why there is nothing to see.
    fn refusal(&self, refusal: &Refusal) -> Response {
        let mut html = self.html();
        html.raw("<h1>Not here</h1><p class=\"bad\">").text(&refusal.text).raw("</p>");
        html::page(Frame { status: status(refusal.kind), ..Frame::of("Not here", self.visitor) }, &html)
    }
}

/// What is asked of pages.
pub(super) fn routes(
    shared: Arc<Shared>,
    until: Shutdown,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    let ours = |path: FullPath| async move {
        let first = path.as_str().trim_start_matches('/').split('/').next().unwrap_or_default();
        if PLACES.contains(&first) { Ok(path) } else { Err(warp::reject::not_found()) }
    };
    warp::path::full()
        .and_then(ours)
        .and(warp::method())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |path: FullPath, method: Method, query: String, headers: HeaderMap, body| {
            let (shared, until) = (Arc::clone(&shared), until.clone());
            async move {
                let parts: Vec<String> = path.as_str().trim_matches('/').split('/').map(plain).collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                match method {
                    Method::GET => looked(&shared, &path, &parts, &query, &headers, until).await,
                    Method::POST if !session::own(&shared, &headers) => {
                        problem(Refusal::denied("only our own pages may post here; programs use /pipelines"))
                    }
                    Method::POST => match small(body).await {
                        Some(body) => posted(&shared, &parts, &headers, &body).await,
                        None => problem(Refusal::wrong("a request is at most 64 KiB")),
                    },
                    _ => problem(Refusal::wrong("GET or POST")),
                }
            }
        })
}

/// A refusal for scripts.
fn problem(refusal: Refusal) -> Response {
    guarded(refused(refusal).into_response())
}

fn told(reply: Reply) -> Response {
    guarded(reply.into_response())
}

async fn looked(
    shared: &Arc<Shared>,
    path: &FullPath,
    parts: &[&str],
    query: &str,
    headers: &HeaderMap,
    until: Shutdown,
) -> Response {
    if let Some(asset) = assets::answer(path.as_str()) {
        return asset;
    }
    let Some(pipelines) = &shared.pipelines else { return told(not_found()) };
    let visitor = session::enter(shared, pipelines, headers);
    let Some(visitor) = &visitor else {
        return match parts {
            ["session"] | ["r", "events"] | ["r", _, "events"] => session::told(None),
            _ => session::asked(shared, Some(&wanted(path, query)), None),
        };
    };
    let asking = Asking { shared, pipelines, visitor };
    let query = Query::read(query);
    let done = match parts {
        [""] | ["login"] => Ok(session::to("/r", None)),
        ["session"] => Ok(session::told(Some(visitor))),
        ["r"] => lists::runs(&asking, &query).await,
        ["r", "events"] => Ok(stream::open(shared, pipelines, visitor, stream::What::runs(&query), until)),
        ["r", number, "events"] => match number.parse() {
            Ok(number) => Ok(stream::open(shared, pipelines, visitor, stream::What::Run(number), until)),
            Err(_) => Err(Refusal::unknown("a run has a number")),
        },
        ["r", number] => run::page(&asking, number).await,
        ["a"] => lists::apps(&asking).await,
        ["a", app] => lists::deployments(&asking, app, None, &query).await,
        ["a", app, env] => lists::deployments(&asking, app, Some(env), &query).await,
        ["log", id] => lists::incident(&asking, id).await,
        ["deploy"] => Ok(ask::choose(&asking)),
        ["deploy", app] => ask::form(&asking, app),
        _ => Err(Refusal::unknown("there is nothing here")),
    };
    done.unwrap_or_else(|refusal| asking.refusal(&refusal))
}

/// The address that somebody wanted who has to log in first.
fn wanted(path: &FullPath, query: &str) -> String {
    if query.is_empty() { path.as_str().to_owned() } else { format!("{}?{query}", path.as_str()) }
}

async fn posted(shared: &Shared, parts: &[&str], headers: &HeaderMap, body: &[u8]) -> Response {
    let Some(pipelines) = &shared.pipelines else { return told(not_found()) };
    match parts {
        ["login"] => return session::login(shared, pipelines, body),
        ["logout"] => return session::logout(shared, headers),
        _ => {}
    }
    let Some(visitor) = session::enter(shared, pipelines, headers) else { return session::told(None) };
    match parts {
        ["r", number, word] if WORDS.contains(word) => {
            told(verbs::answer(pipelines, visitor.caller, &[number, word], body).await)
        }
        ["deploy", app, "plan"] => told(ask::plan(&Asking { shared, pipelines, visitor: &visitor }, app, body).await),
        ["deploy", app] => told(ask::start(pipelines, visitor, app, body).await),
        _ => told(not_found()),
    }
}
