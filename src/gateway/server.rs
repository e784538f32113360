//! The port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Buf;
use futures_util::{Stream, StreamExt};
use masterchief_contract::{Clock, Shutdown};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use warp::http::{HeaderMap, Method, Response, StatusCode, header};
use warp::path::FullPath;
use warp::{Filter, Reply as _};

use super::answers::Answers;
use super::hooks::{Reply, post, posted, reply};
use super::lanes::Lanes;
use super::pages::{PAGES, Pages, Porch};
use super::peer::{peer, visitor};
use super::settings::Settings;
use super::source::Door;
use super::vitals::{Check, Vitals};
use super::{live, pages, runs, web};
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::Book;

/// The longest body of a request about runs.
const BODY_MAX: usize = 64 * 1024;
/// Where the pages are that channels are sent to for more.
const SAID: &str = "/said/";
/// How long posts that are worked on may take at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the gateway does not open.
#[derive(Debug, thiserror::Error)]
#[error("gateway.listen {at}: {fault}; free that port, or name another")]
pub struct GatewayError {
    at: SocketAddr,
    #[source]
    fault: std::io::Error,
}

/// What every request needs.
pub(super) struct Shared {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) door: Door,
    pub(super) answers: Answers,
    pub(super) full: watch::Receiver<bool>,
    pub(super) turns: Semaphore,
    /// Room for the bytes of posts.
    pub(super) posted: Arc<Semaphore>,
    pub(super) clock: Clock,
    pub(super) counts: Counts,
    pub(super) lanes: Lanes,
    pub(super) pipelines: Option<Pipelines>,
    pub(super) book: Book,
    store: Option<Store>,
    /// Who may still begin to listen to runs.
    pub(super) listeners: Arc<Semaphore>,
    pub(super) web: web::Web,
    vitals: Arc<dyn Vitals>,
    /// What the last look said, and when it was.
    checked: tokio::sync::Mutex<Option<(Instant, Vec<Check>)>>,
}

/// What came of posts.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) full: AtomicU64,
    /// Bodies that were too big, broke off or took too long.
    pub(super) unread: AtomicU64,
    /// Authentic ones that could not be understood.
    pub(super) dead: AtomicU64,
}

/// What a gateway is opened with.
pub struct Opening {
    /// Where posts go.
    pub door: Door,
    /// Where handlers' answers come from.
    pub answers: Answers,
    /// Whether the journal has no room.
    pub full: watch::Receiver<bool>,
    /// Who knows how the bot is.
    pub vitals: Arc<dyn Vitals>,
    /// Pipelines, for programs with a token.
    pub pipelines: Option<Pipelines>,
    /// Who people are.
    pub book: Book,
    /// The time of day, for signatures.
    pub clock: Clock,
    /// Who serves IRC clients in pages.
    pub pages: Option<Arc<dyn Pages>>,
    /// What was said, for the pages that channels are sent to.
    pub store: Option<Store>,
    /// Takes secrets out of what pages show.
    pub hide: web::Hide,
}

/// The open port.
pub struct Gateway {
    shared: Arc<Shared>,
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Opens the port.
    pub async fn open(
        at: SocketAddr,
        settings: Settings,
        opening: Opening,
        shutdown: Shutdown,
    ) -> Result<Gateway, GatewayError> {
        let Opening { door, answers, full, vitals, pipelines, book, clock, pages, store, hide } = opening;
        let porch = pages.map(|pages| Porch { pages, turns: Arc::new(Semaphore::new(PAGES)) });
        let listener = TcpListener::bind(at).await.map_err(|fault| GatewayError { at, fault })?;
        let at = listener.local_addr().map_err(|fault| GatewayError { at, fault })?;
        let turns = Semaphore::new(settings.concurrency);
        let settings = ArcSwap::from_pointee(settings);
        let shared = Shared {
            settings,
            door,
            answers,
            full,
            turns,
            posted: posted(),
            clock,
            counts: Counts::default(),
            lanes: Lanes::default(),
            pipelines,
            book,
            store,
            listeners: Arc::new(Semaphore::new(live::LISTENERS)),
            web: web::Web::new(hide),
            vitals,
            checked: tokio::sync::Mutex::default(),
        };
        let shared = Arc::new(shared);
        let task = tokio::spawn(serve(listener, Arc::clone(&shared), porch, shutdown));
        tracing::info!(%at, "The gateway listens");
        Ok(Gateway { shared, at, task })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Takes other routes. Where it listens, and how many posts at once, stays as it is as long as the process runs; gives the names of
    /// those settings if they are others.
    pub fn configure(&self, settings: Settings) -> Vec<&'static str> {
        let now = self.shared.settings.load();
        let (listen, concurrency) = (now.listen, now.concurrency);
        let others = [
            ("gateway.listen", settings.listen != listen),
            ("gateway.concurrency", settings.concurrency != concurrency),
        ];
        self.shared.settings.store(Arc::new(Settings { listen, concurrency, ..settings }));
        others.into_iter().filter(|(_, other)| *other).map(|(name, _)| name).collect()
    }

    /// What came of posts: accepted, refused, too many at once, no room in the journal.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        let counts = &self.shared.counts;
        [
            ("accepted", counts.accepted.load(Ordering::Relaxed)),
            ("refused", counts.refused.load(Ordering::Relaxed)),
            ("busy", counts.busy.load(Ordering::Relaxed)),
            ("full", counts.full.load(Ordering::Relaxed)),
        ]
    }

    /// Waits until the last request is answered; after its shutdown.
    pub async fn closed(self) {
        if tokio::time::timeout(DRAIN, self.task).await.is_err() {
            tracing::warn!("Requests to the gateway were still open at shutdown");
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, porch: Option<Porch>, mut shutdown: Shutdown) {
    let with = {
        let shared = Arc::clone(&shared);
        warp::any().map(move || Arc::clone(&shared))
    };
    let hooks = warp::path!("hooks" / String)
        .and(warp::post())
        .and(with.clone())
        .and(warp::addr::remote())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(|name: String, shared: Arc<Shared>, at: Option<SocketAddr>, headers: HeaderMap, body| async move {
            let peer = peer(&shared.settings.load().behind, at, &headers);
            post(shared, name, peer, headers, body).await.into_response()
        });
    let web = web::routes(Arc::clone(&shared), shutdown.clone());
    let until = shutdown.clone();
    let live = warp::path!("pipelines" / "ws")
        .or(warp::path!("runs" / "ws"))
        .unify()
        .and(warp::ws())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(with.clone())
        .map(move |ws, headers, query: String, shared| live::open(shared, ws, headers, &query, until.clone()));
    let runs = warp::path!("pipelines" / ..)
        .or(warp::path!("runs" / ..))
        .unify()
        .or(warp::path!("metrics" / "dora"))
        .unify()
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(with.clone())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(
            |method: Method, path: FullPath, query: String, shared: Arc<Shared>, headers: HeaderMap, body| async move {
                let post = match method {
                    Method::POST => true,
                    Method::GET => false,
                    _ => {
                        return reply(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "GET or POST"})).into_response();
                    }
                };
                match small(body).await {
                    Some(body) => runs::answer(&shared, post, path.as_str(), &query, &headers, &body).await,
                    None => {
                        let error = json!({"error": "a request is at most 64 KiB"});
                        reply(StatusCode::PAYLOAD_TOO_LARGE, &error).into_response()
                    }
                }
            },
        );
    let asked = warp::get().and(warp::path::full()).and(with.clone()).and(warp::header::headers_cloned()).then(asked);
    let routes = hooks
        .or(chat(with, porch, shutdown.clone()))
        .unify()
        .or(live)
        .unify()
        .or(runs)
        .unify()
        .or(web)
        .unify()
        .or(asked)
        .unify()
        .recover(rejected)
        .unify();
    warp::serve(routes).incoming(listener).graceful(async move { shutdown.recv().await }).run().await;
}

/// How the bot is.
async fn asked(path: FullPath, shared: Arc<Shared>, headers: HeaderMap) -> warp::reply::Response {
    let done = match path.as_str() {
        "/health" | "/health/ready" => ready(&shared).await,
        "/health/live" => reply(StatusCode::OK, &json!({"ok": true})),
        "/metrics" if !runs::may_measure(&shared, &headers) => {
            let error = json!({"error": "show gateway.metrics_token as Authorization: Bearer"});
            reply(StatusCode::UNAUTHORIZED, &error)
        }
        "/metrics" => metrics(&shared).await,
        path if path.starts_with(SAID) => said(&shared, &path[SAID.len()..]).await,
        _ => reply(StatusCode::NOT_FOUND, &json!({"error": "there is nothing here"})),
    };
    done.into_response()
}

/// What was too much for a channel, for whoever has the address and for a time.
async fn said(shared: &Shared, page: &str) -> Reply {
    let now = shared.clock.now().timestamp_millis();
    let rows = match &shared.store {
        Some(store) => store.said_page(page).await.unwrap_or_default(),
        None => Vec::new(),
    };
    if rows.first().is_none_or(|first| first.until <= now) {
        return reply(StatusCode::NOT_FOUND, &json!({"error": "there is nothing here, or no longer"}));
    }
    let text: String = rows.iter().map(|row| format!("{}\n", row.text)).collect();
    let mut out = Response::new(text.into_bytes());
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        out.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    out
}

/// The way in for IRC clients in pages.
fn chat(
    with: impl Filter<Extract = (Arc<Shared>,), Error = Infallible> + Clone + Send + Sync + 'static,
    porch: Option<Porch>,
    until: Shutdown,
) -> impl Filter<Extract = (warp::reply::Response,), Error = warp::Rejection> + Clone {
    warp::path!("partyline" / "ws")
        .and(warp::ws())
        .and(warp::addr::remote())
        .and(warp::header::headers_cloned())
        .and(with)
        .map(move |ws, at, headers: HeaderMap, shared: Arc<Shared>| {
            let visitor = visitor(&shared.settings.load().behind, at, &headers);
            pages::open(porch.clone(), ws, &headers, visitor, until.clone())
        })
}

/// A body of at most 64 KiB.
pub(super) async fn small<S, B, E>(body: S) -> Option<Vec<u8>>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut body = std::pin::pin!(body);
    let mut out = Vec::new();
    while let Some(part) = body.next().await {
        let mut part = part.ok()?;
        while part.has_remaining() {
            let chunk = part.chunk();
            out.extend_from_slice(chunk);
            let read = chunk.len();
            part.advance(read);
        }
        if out.len() > BODY_MAX {
            return None;
        }
    }
    Some(out)
}

async fn rejected(rejection: warp::Rejection) -> Result<warp::reply::Response, Infallible> {
    let status = if rejection.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
    Ok(reply(status, &json!({"error": "post to /hooks/ROUTE, or get /health or /metrics"})).into_response())
}

async fn ready(shared: &Shared) -> Reply {
    // One looks for all who ask meanwhile: looking writes.
    let asked = Instant::now();
    let mut known = shared.checked.lock().await;
    let checks = match known.take() {
        Some((at, checks)) if at > asked => (at, checks),
        _ => (Instant::now(), shared.vitals.checks().await),
    };
    let checks = known.insert(checks).1.clone();
    drop(known);
    let ok = checks.iter().all(|check| check.ok);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply(status, &json!({"ok": ok, "checks": checks}))
}

async fn metrics(shared: &Shared) -> Reply {
    let mut metrics = shared.vitals.metrics().await;
    let counts = &shared.counts;
    let rows = [
        ("accepted", &counts.accepted),
        ("refused", &counts.refused),
        ("busy", &counts.busy),
        ("full", &counts.full),
        ("unread", &counts.unread),
        ("dead", &counts.dead),
    ];
    let rows = rows.map(|(name, count)| (vec![("outcome", name)], count.load(Ordering::Relaxed) as f64));
    metrics.family("masterchief_gateway_posts_total", "Webhooks posted, by what came of them", "counter", rows);
    let mut out = Response::new(metrics.text().into_bytes());
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    out.headers_mut().insert(header::CONTENT_TYPE, kind);
    out
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use futures_util::stream;
    use masterchief_contract::{Fate, Future, Meter, Stopper};

    use super::super::hooks::AGAIN;
    use super::super::vitals::Metrics;
    use super::*;

    struct Well;

    impl Vitals for Well {
        fn checks(&self) -> Future<Vec<Check>> {
            Box::pin(async { Vec::new() })
        }

        fn metrics(&self) -> Future<Metrics> {
            Box::pin(async { Metrics::default() })
        }
    }

    /// A gateway whose posts go through this door, and that takes whatever anybody posts to /hooks/open.
    async fn gateway(door: &Door) -> (Gateway, Stopper) {
        let routes = serde_json::from_value(json!({"open": {"preset": "generic", "insecure": true}})).unwrap();
        let settings = Settings { routes, ..Settings::default() };
        let (_full, full) = watch::channel(false);
        let opening = Opening {
            door: door.clone(),
            answers: Answers::default(),
            full,
            vitals: Arc::new(Well),
            pipelines: None,
            book: Book::new(),
            clock: Clock::starting(Utc::now()),
            pages: None,
            store: None,
            hide: Arc::new(str::to_owned),
        };
        let (stopper, shutdown) = Shutdown::new();
        (Gateway::open(([127, 0, 0, 1], 0).into(), settings, opening, shutdown).await.unwrap(), stopper)
    }

    /// A post of so many bytes, without a line to it: what it is answered.
    async fn posted_to(gateway: &Gateway, bytes: usize) -> Reply {
        let body = stream::iter([Ok::<_, warp::Error>(bytes::Bytes::from(format!("{:>bytes$}", "{}")))]);
        post(Arc::clone(&gateway.shared), "open".to_owned(), None, HeaderMap::new(), body).await
    }

    #[tokio::test(start_paused = true)]
    async fn room_for_bytes_is_free_again_when_they_are_written_and_not_when_the_sender_is_sent_away() {
        let door = Door::default();
        let (gateway, _stopper) = gateway(&door).await;
        let posted = Arc::clone(&gateway.shared.posted);
        let all = posted.available_permits();
        // Nobody reads, as where a disk hangs: who posts is told to come again, and what was posted is still held.
        for posts in 1..=2 {
            let answer = posted_to(&gateway, 8192).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()[header::RETRY_AFTER], AGAIN);
            assert_eq!(posted.available_permits(), all - posts * 2);
        }
        let mut source = door.source(&Arc::<Meter>::default());
        assert_eq!(source.next().await.unwrap().count(), 2);
        assert_eq!(posted.available_permits(), all - 4, "they are being written");
        source.settle(0, &[Fate::Stored(1), Fate::Stored(2)]).await.unwrap();
        assert_eq!(posted.available_permits(), all);
        // What is sent away is not held any more.
        posted_to(&gateway, 8192).await;
        assert_eq!(source.next().await.unwrap().count(), 1);
        source.close().await;
        assert_eq!(posted.available_permits(), all);
    }
}
