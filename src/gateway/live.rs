//! `GET /pipelines/ws`: what changes in runs, as it happens, as JSON over a WebSocket.
//!
//! `?app=` and `?run=` say which runs are meant. Who has a token may listen; one that is taken away is closed (4401). A listener that
//! falls behind is told how much it missed, one that takes nothing is let go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use masterchief_contract::Shutdown;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use warp::Reply as _;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};

use super::hooks::reply;
use super::looks::Query;
use super::runs::{known, not_found, without_secrets};
use super::server::Shared;
use crate::pipelines::{News, Pipelines};

/// Listeners at once, at most.
pub(super) const LISTENERS: usize = 256;
/// Messages of a listener that are longer end it: nothing is asked here.
const MESSAGE_MAX: usize = 1024;
/// How long one line may take to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a listener is asked whether it is still there.
const BEAT: Duration = Duration::from_secs(30);
/// The token is not known any more.
const UNKNOWN: u16 = 4401;
/// The bot is going down.
const GOING: u16 = 1001;

/// Who listens, to what.
struct Listener {
    shared: Arc<Shared>,
    pipelines: Pipelines,
    headers: HeaderMap,
    query: Query,
    _turn: OwnedSemaphorePermit,
}

/// Lets somebody listen who has shown a token.
pub(super) fn open(shared: Arc<Shared>, ws: Ws, headers: HeaderMap, query: &str, shutdown: Shutdown) -> Response {
    let Some(pipelines) = shared.pipelines.clone() else { return not_found().into_response() };
    if let Err(refused) = known(&shared, &pipelines, &headers) {
        return refused.into_response();
    }
    let Ok(turn) = Arc::clone(&shared.listeners).try_acquire_owned() else {
        let error = json!({"error": format!("{LISTENERS} listen already; come again later")});
        return reply(StatusCode::SERVICE_UNAVAILABLE, &error).into_response();
    };
    let listener = Listener { shared, pipelines, headers, query: Query::read(query), _turn: turn };
    ws.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| listener.follow(socket, shutdown)).into_response()
}

impl Listener {
    async fn follow(self, socket: WebSocket, mut shutdown: Shutdown) {
        let mut news = self.pipelines.news();
        let (mut to, mut from) = socket.split();
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let message = tokio::select! {
                one = news.recv() => match one {
                    Ok(one) if !self.means(&one) => continue,
                    Ok(_) if known(&self.shared, &self.pipelines, &self.headers).is_err() => {
                        Message::close_with(UNKNOWN, "this token is not known any more")
                    }
                    Ok(one) => Message::text(without_secrets(self.shared.web.hide(), json!(*one)).to_string()),
                    Err(RecvError::Lagged(missed)) => Message::text(json!({"missed": missed}).to_string()),
                    Err(RecvError::Closed) => return,
                },
                heard = from.next() => match heard {
                    // Nothing is asked here; answers to pings come by themselves.
                    Some(Ok(heard)) if !heard.is_close() => continue,
                    _ => return,
                },
                _ = beat.tick() => Message::ping(Vec::new()),
                () = shutdown.recv() => Message::close_with(GOING, "the bot is going down"),
            };
            let last = message.is_close();
            let sent = tokio::time::timeout(PATIENCE, to.send(message)).await;
            if last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn means(&self, news: &News) -> bool {
        let run = self.query.text("run").is_none_or(|run| run == news.run.to_string());
        run && self.query.text("app").is_none_or(|app| app == news.app)
    }
}
