//! One post: capped, verified, understood, written, answered.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use masterchief_bindings::webhook::{Headers, Hook, RouteSettings, describe, verify};
use masterchief_contract::{Fate, Inbound, Undecodable, Value};
use regex::Regex;
use serde_json::{Map, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};
use warp::http::{HeaderMap, Response, StatusCode, header};

use super::server::Shared;
use super::source::Knock;

/// What we answer.
pub(super) type Reply = Response<Vec<u8>>;

/// Words in the names of headers that a handler never sees: they are there to prove who posts.
static HIDDEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("signature|token|secret|api-key|apikey|password|authorization|credential|cookie").ok());
/// How long a post may wait for the journal.
const FATE: Duration = Duration::from_secs(8);
/// Bytes of posts that are on their way at once, all together, until they are written: who posts is known only when a post is
/// read to its end, and a journal that hangs holds them for longer than a sender waits.
pub(super) const POSTED_MAX: usize = 256 << 20;
/// In what is counted: a little of a post takes one of them.
const PIECE: usize = 4 << 10;
/// When a sender may come again, in seconds.
pub(super) const AGAIN: &str = "5";

struct Given<'a>(&'a HeaderMap);

impl Headers for Given<'_> {
    fn header(&self, name: &str) -> &str {
        self.0.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// A JSON answer.
pub(super) fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut out = Response::new(body.to_string().into_bytes());
    *out.status_mut() = status;
    out.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    out
}

fn again(status: StatusCode, why: &str) -> Reply {
    let mut out = reply(status, &json!({"error": why}));
    out.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(AGAIN));
    out
}

/// The answer to one post too many of who may post, if it is that.
fn too_fast(shared: &Shared, route: &RouteSettings, name: &str) -> Option<Reply> {
    let early = shared.lanes.too_fast(name, route.rate?)?;
    shared.counts.busy.fetch_add(1, Ordering::Relaxed);
    let mut out = again(StatusCode::TOO_MANY_REQUESTS, "more posts than this route takes; come again more slowly");
    out.headers_mut().insert(header::RETRY_AFTER, (early.as_secs() + u64::from(early.subsec_nanos() > 0)).into());
    Some(out)
}

fn error(status: StatusCode, why: &str) -> Reply {
    reply(status, &json!({"error": why}))
}

/// Takes one post.
pub(super) async fn post<S, B>(
    shared: Arc<Shared>,
    name: String,
    peer: Option<SocketAddr>,
    headers: HeaderMap,
    body: S,
) -> Reply
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let settings = shared.settings.load_full();
    let Some(route) = settings.routes.get(&name) else {
        return error(StatusCode::NOT_FOUND, "there is no such route");
    };
    let place = shared.lanes.enter(&name, route.concurrency).zip(shared.turns.try_acquire().ok());
    let Some((_room, turn)) = place else {
        shared.counts.busy.fetch_add(1, Ordering::Relaxed);
        return again(StatusCode::TOO_MANY_REQUESTS, "too many posts at once");
    };
    if *shared.full.borrow() {
        shared.counts.full.fetch_add(1, Ordering::Relaxed);
        return again(StatusCode::SERVICE_UNAVAILABLE, "the journal is full");
    }
    let read = capped(&headers, body, route.max_body(&name), &shared.posted);
    let (body, bytes) = match tokio::time::timeout(settings.body_timeout, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(reply)) if reply.status() == StatusCode::SERVICE_UNAVAILABLE => {
            shared.counts.busy.fetch_add(1, Ordering::Relaxed);
            return reply;
        }
        Ok(Err(reply)) => return unread(&shared, &name, peer, reply),
        Err(_) => {
            return unread(&shared, &name, peer, error(StatusCode::REQUEST_TIMEOUT, "the body took too long"));
        }
    };
    let given = Given(&headers);
    if let Err(refusal) = verify(route, &name, &given, &body, shared.clock.now()) {
        shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(route = %name, ?peer, %refusal, "A webhook is refused");
        // No more than that: what is wrong is ours to know.
        return error(StatusCode::FORBIDDEN, "not accepted");
    }
    // Not before: whoever may not post takes nothing away from who may.
    if let Some(reply) = too_fast(&shared, route, &name) {
        return reply;
    }
    let (hook, as_json) = match describe(route, &name, &given, &body) {
        Ok(understood) => understood,
        // It is from whom it says, so it is kept for people to look at.
        Err(fault) => {
            let reason = format!("the body cannot be understood: {fault}");
            let bad = Undecodable { lane: shared.lanes.lane(&name), bytes: body, reason };
            return hand_over(&shared, route, &name, Err(bad), (turn, bytes)).await;
        }
    };
    if let Some(challenge) = hook.challenge {
        return reply(StatusCode::OK, &json!({"challenge": challenge}));
    }
    let fields = fields(route, &name, &hook, &headers, peer);
    let key = (route.dedupe && !hook.delivery.is_empty()).then(|| format!("{name} {}", hook.delivery).into_boxed_str());
    let event = Inbound { key, at: shared.clock.now(), text: hook.text, fields, body: as_json.unwrap_or(body) };
    hand_over(&shared, route, &name, Ok(event), (turn, bytes)).await
}

/// What a post is, for binds and their handlers.
fn fields(
    route: &RouteSettings,
    name: &str,
    hook: &Hook,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Vec<(&'static str, Value)> {
    let mut fields = Vec::with_capacity(9);
    let preset = route.preset_of(name).name();
    let provider = if preset == "generic" { name } else { preset };
    let parts = [
        ("provider", provider),
        ("route", name),
        ("event", &hook.event),
        ("action", &hook.action),
        ("repo", &hook.repo),
        ("ref", &hook.reference),
        ("delivery", &hook.delivery),
    ];
    fields.extend(
        parts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, Value::from(value))),
    );
    fields.push(("headers", shown(headers, route)));
    if let Some(peer) = peer {
        fields.push(("peer", Value::from(peer.ip().to_string())));
    }
    fields
}

/// A body that could not be read: counted, and told to operators too.
fn unread(shared: &Shared, name: &str, peer: Option<SocketAddr>, reply: Reply) -> Reply {
    shared.counts.unread.fetch_add(1, Ordering::Relaxed);
    let why = String::from_utf8_lossy(reply.body());
    tracing::warn!(route = %name, ?peer, %why, "A webhook's body cannot be read");
    reply
}

/// Writes it to the journal, and waits for the handler's answer where the route says so; others have its turn then.
async fn hand_over(
    shared: &Shared,
    route: &RouteSettings,
    name: &str,
    event: Result<Inbound, Undecodable>,
    (turn, room): (SemaphorePermit<'_>, OwnedSemaphorePermit),
) -> Reply {
    let expecting = (event.is_ok() && !route.answer.is_zero()).then(|| shared.answers.expect());
    let (settled, fate) = oneshot::channel();
    let lane = shared.lanes.lane(name);
    if !shared.door.knock(Knock { lane, event, settled, room: Some(room) }) {
        shared.counts.busy.fetch_add(1, Ordering::Relaxed);
        return again(StatusCode::SERVICE_UNAVAILABLE, "too many posts wait for the journal");
    }
    // A journal that does not answer, or a bot that goes down, keeps no sender waiting.
    let fate = tokio::time::timeout(FATE, fate).await.ok().and_then(Result::ok);
    drop(turn);
    match fate {
        None => {
            shared.counts.full.fetch_add(1, Ordering::Relaxed);
            again(StatusCode::SERVICE_UNAVAILABLE, "it could not be written")
        }
        Some(Fate::Refused) => {
            shared.counts.dead.fetch_add(1, Ordering::Relaxed);
            let why = "it cannot be understood and is kept for people to look at; the bot's owner sees it with .dlq";
            reply(StatusCode::ACCEPTED, &json!({"dead": why}))
        }
        Some(Fate::Duplicate(number)) => {
            shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
            reply(StatusCode::OK, &json!({"event": number, "duplicate": true}))
        }
        Some(Fate::Stored(number)) => {
            shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let answer = match expecting {
                Some(expecting) => expecting.wait(number, route.answer).await,
                None => None,
            };
            let Some(answer) = answer else { return reply(StatusCode::ACCEPTED, &json!({"event": number})) };
            let mut out = Response::new(answer.body);
            *out.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
            if let Ok(value) = header::HeaderValue::from_str(&answer.content_type) {
                out.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            out
        }
    }
}

/// Counts what is on its way.
pub(super) fn posted() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(POSTED_MAX / PIECE))
}

/// The body, if it is not too big, however it is sent, and its room among all that are on their way.
async fn capped<S, B>(
    headers: &HeaderMap,
    body: S,
    most: usize,
    posted: &Arc<Semaphore>,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), Reply>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let too_big = || error(StatusCode::PAYLOAD_TOO_LARGE, &format!("at most {most} bytes are taken"));
    let too_many = || again(StatusCode::SERVICE_UNAVAILABLE, "too many bytes are posted at once");
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_big());
    }
    // What is announced need not come: room is taken as it does. If there is none already, nobody need send it.
    if length.unwrap_or(0).div_ceil(PIECE) > posted.available_permits() {
        return Err(too_many());
    }
    let take = |pieces: u32| Arc::clone(posted).try_acquire_many_owned(pieces);
    let mut room = take(0).map_err(|_| too_many())?;
    let mut out = Vec::with_capacity(length.unwrap_or(0));
    let mut body = std::pin::pin!(body);
    while let Some(part) = body.next().await {
        let mut part = part.map_err(|_| error(StatusCode::BAD_REQUEST, "the body broke off"))?;
        let size = out.len() + part.remaining();
        if size > most {
            return Err(too_big());
        }
        let more = size.div_ceil(PIECE).saturating_sub(room.num_permits());
        let more = u32::try_from(more).map_err(|_| too_many())?;
        room.merge(take(more).map_err(|_| too_many())?);
        while part.has_remaining() {
            let bytes = part.chunk();
            out.extend_from_slice(bytes);
            let length = bytes.len();
            part.advance(length);
        }
    }
    Ok((out, room))
}

/// The headers without what proves who posts.
fn shown(headers: &HeaderMap, route: &RouteSettings) -> Value {
    let hidden = HIDDEN.as_ref();
    let secret = |name: &str| {
        // Without the pattern everything is hidden.
        hidden.is_none_or(|hidden| hidden.is_match(name)) || route.signature.header.eq_ignore_ascii_case(name)
    };
    let mut shown: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .filter(|(name, _)| !secret(name))
        .collect();
    // Of several with one name the last is shown.
    shown.sort_by_key(|(name, _)| *name);
    Value::Object(shown.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A post of so many bytes, with its length or in pieces; how it is answered, and the room it holds.
    async fn read(bytes: usize, told: bool, posted: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Reply> {
        let mut headers = HeaderMap::new();
        if told {
            headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        let body = vec![b'x'; bytes];
        let body = stream::iter(body.chunks(PIECE).map(Ok::<_, warp::Error>));
        let (read, room) = capped(&headers, body, 10 * PIECE, posted).await?;
        assert_eq!(read.len(), bytes);
        Ok(room)
    }

    #[tokio::test]
    async fn bytes_of_posts_that_nobody_knows_yet_are_bounded_all_together_and_room_comes_back() {
        let posted = Arc::new(Semaphore::new(8));
        let first = read(5 * PIECE - 1, true, &posted).await.unwrap();
        assert_eq!(posted.available_permits(), 3);
        for told in [true, false] {
            let refused = read(4 * PIECE, told, &posted).await.err().unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.headers()[header::RETRY_AFTER], AGAIN);
            assert_eq!(posted.available_permits(), 3, "what was taken of it is given back");
        }
        let second = read(3 * PIECE, false, &posted).await.unwrap();
        assert!(read(0, true, &posted).await.is_ok(), "an empty one takes nothing");
        drop((first, second));
        let refused = read(10 * PIECE + 1, true, &posted).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(posted.available_permits(), 8);
    }
}
