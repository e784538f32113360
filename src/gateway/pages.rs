//! `GET /partyline/ws`: a client in a page, one line a frame: IRC, or records of JSON.
//!
//! <https://ircv3.net/specs/extensions/websocket>. What the lines mean is the partyline's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use masterchief_contract::{Future, Shutdown};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use warp::Reply as _;
use warp::http::{HeaderMap, StatusCode, header};
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};

use super::hooks::reply;
use super::peer::Visitor;
use crate::irc::Stream;

/// Pages at once, at most.
pub(super) const PAGES: usize = 256;
/// The longest frame that is taken.
const FRAME_MAX: usize = 16 * 1024;
/// Bytes on their way between the socket and whoever serves it.
const PIPE: usize = 64 * 1024;
/// How long one frame may take to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// The ways in which lines can be carried; the first is what is used where none is asked for.
const PROTOCOLS: [&str; 3] = ["text.ircv3.net", BINARY, DATA];
/// IRC in frames of bytes.
const BINARY: &str = "binary.ircv3.net";
/// Records of JSON, which the partyline describes.
const DATA: &str = "data.masterchief";

/// Whoever serves clients in pages.
pub trait Pages: Send + Sync + 'static {
    /// Whether scripts of this origin (`https://chat.example`) may connect.
    fn welcomes(&self, origin: &str) -> bool;
    /// Serves one client until it goes.
    fn meet(&self, stream: Stream, visitor: Visitor, speaks: Speaks) -> Future<()>;
}

/// What a client in a page speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// IRC.
    Irc,
    /// A record of JSON a line.
    Data,
}

/// What the door for pages needs.
#[derive(Clone)]
pub(super) struct Porch {
    pub(super) pages: Arc<dyn Pages>,
    pub(super) turns: Arc<Semaphore>,
}

/// Lets a page in whose origin may.
pub(super) fn open(
    porch: Option<Porch>,
    ws: Ws,
    headers: &HeaderMap,
    visitor: Option<Visitor>,
    until: Shutdown,
) -> Response {
    let told = |status, error: &str| reply(status, &json!({"error": error})).into_response();
    let (Some(porch), Some(visitor)) = (porch, visitor) else {
        return told(StatusCode::NOT_FOUND, "there is no partyline here");
    };
    if !may_come(&*porch.pages, headers) {
        return told(
            StatusCode::FORBIDDEN,
            "pages of that origin may not connect; an owner can add it to partyline.origins",
        );
    }
    let Ok(turn) = Arc::clone(&porch.turns).try_acquire_owned() else {
        return told(StatusCode::SERVICE_UNAVAILABLE, "too many pages are connected; come again later");
    };
    let protocol = protocol(headers);
    let binary = protocol == Some(BINARY);
    let speaks = if protocol == Some(DATA) { Speaks::Data } else { Speaks::Irc };
    let upgraded = ws.max_message_size(FRAME_MAX).on_upgrade(move |socket| async move {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let serving = porch.pages.meet(Box::new(theirs), visitor, speaks);
        let carrying = carry(socket, ours, binary, until);
        tokio::join!(serving, carrying);
        drop(turn);
    });
    let mut response = upgraded.into_response();
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, header::HeaderValue::from_static(protocol));
    }
    response
}

/// Whether whoever asks may come: programs have no origin, pages of this host have its name, others must be named.
fn may_come(pages: &dyn Pages, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let same = origin.split_once("://").is_some_and(|(_, from)| !host.is_empty() && from.eq_ignore_ascii_case(host));
    same || pages.welcomes(origin)
}

/// The first way that is asked for and known.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let asked = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut asked = asked.flat_map(|value| value.split(',')).map(str::trim);
    asked.find_map(|name| PROTOCOLS.into_iter().find(|known| *known == name))
}

/// Frames to lines and lines to frames, until either side ends.
async fn carry(socket: WebSocket, pipe: tokio::io::DuplexStream, binary: bool, mut until: Shutdown) {
    let (mut to, mut from) = socket.split();
    let (read, mut write) = tokio::io::split(pipe);
    let mut lines = BufReader::new(read);
    let incoming = async {
        while let Some(Ok(frame)) = from.next().await {
            if frame.is_close() {
                break;
            }
            if !frame.is_text() && !frame.is_binary() {
                continue;
            }
            // One line a frame: what follows a line end would be a second command.
            let line = frame.as_bytes().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(&[]);
            let done = write.write_all(line).await.is_ok() && write.write_all(b"\r\n").await.is_ok();
            if !done {
                break;
            }
        }
        // The other side hears that nothing more comes.
        let _ = write.shutdown().await;
    };
    let outgoing = async {
        let mut line = Vec::new();
        loop {
            line.clear();
            if !matches!(lines.read_until(b'\n', &mut line).await, Ok(count) if count > 0) {
                break;
            }
            while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                line.pop();
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            let frame = if binary { Message::binary(line.clone()) } else { Message::text(text) };
            if !matches!(tokio::time::timeout(PATIENCE, to.send(frame)).await, Ok(Ok(()))) {
                break;
            }
        }
        // The page may have gone.
        let _ = to.send(Message::close()).await;
    };
    tokio::select! {
        () = outgoing => {}
        () = async {
            incoming.await;
            // What is still said is let out.
            tokio::time::sleep(Duration::from_secs(2)).await;
        } => {}
        () = async {
            until.recv().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Only(&'static str);

    impl Pages for Only {
        fn welcomes(&self, origin: &str) -> bool {
            origin == self.0
        }

        fn meet(&self, _: Stream, _: Visitor, _: Speaks) -> Future<()> {
            Box::pin(async {})
        }
    }

    #[test]
    fn pages_of_other_hosts_must_be_named() {
        let may = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "bot.example:8080".parse().unwrap());
            origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
            may_come(&Only("https://chat.example"), &headers)
        };
        assert!(may(None) && may(Some("http://bot.example:8080")) && may(Some("https://chat.example")));
        for other in ["https://evil.example", "null", "http://bot.example", "bot.example:8080", ""] {
            assert!(!may(Some(other)), "{other}");
        }
    }

    #[test]
    fn the_first_known_protocol_is_taken() {
        let of = |asked: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, asked.parse().unwrap());
            protocol(&headers)
        };
        assert_eq!(of("x, binary.ircv3.net, text.ircv3.net"), Some("binary.ircv3.net"));
        assert_eq!(of("data.masterchief"), Some("data.masterchief"));
        assert_eq!(of("irc"), None);
    }
}
