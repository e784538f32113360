//! IRC over WebSocket: a line is a frame. <https://ircv3.net/specs/extensions/websocket>

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Stream;
use crate::irc::settings::{ServerAddr, WebPath};

/// What the way of speaking is called, in the order we ask: the specification's names, those of InspIRCd before 3.18, none.
pub(super) const NAMES: &[&[&str]] =
    &[&["text.ircv3.net", "binary.ircv3.net"], &["text.inspircd.org", "binary.inspircd.org"], &[]];

/// How long the server may take to agree.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest frame we take: the longest line with all its tags, and as much again.
const FRAME_MAX: usize = 32 * 1024;
/// Bytes between the connection and its frames.
const PIPE: usize = 64 * 1024;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebFault {
    #[error("the server knows none of the names we have for IRC over WebSocket")]
    OtherName,
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
    #[error("{0}")]
    Refused(Box<WsError>),
}

/// How lines are framed.
#[derive(Clone, Copy)]
enum Frames {
    Text,
    Binary,
}

/// Makes a WebSocket of a stream; what comes out has lines again, each with CRLF.
pub(super) async fn upgrade(
    stream: Stream,
    server: &ServerAddr,
    web: &WebPath,
    names: &[&str],
) -> Result<Stream, WebFault> {
    let refused = |fault| WebFault::Refused(Box::new(fault));
    let mut request = server.to_string().into_client_request().map_err(refused)?;
    if !names.is_empty() {
        let value = HeaderValue::from_str(&names.join(", ")).map_err(|bad| refused(bad.into()))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", value);
    }
    // InspIRCd refuses whoever does not say from where; a page of the server's own is what its operator allows.
    let scheme = if web.secure { "https" } else { "http" };
    let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    let origin = HeaderValue::from_str(&format!("{scheme}://{host}")).map_err(|bad| refused(bad.into()))?;
    request.headers_mut().insert("Origin", origin);
    tracing::debug!(path = %web.path, ?names, "Asking for a WebSocket");
    let config = WebSocketConfig::default().max_message_size(Some(FRAME_MAX)).max_frame_size(Some(FRAME_MAX));
    let asked = tokio::time::timeout(PATIENCE, client_async_with_config(request, stream, Some(config)));
    let (socket, answer) = match asked.await {
        Ok(Ok(agreed)) => agreed,
        Ok(Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol | SubProtocolError::InvalidSubProtocol,
        )))) => return Err(WebFault::OtherName),
        Ok(Err(fault)) => return Err(refused(fault)),
        Err(_elapsed) => return Err(WebFault::Late),
    };
    let named = answer.headers().get("Sec-WebSocket-Protocol").and_then(|name| name.to_str().ok()).unwrap_or("");
    let frames = if named.starts_with("binary.") { Frames::Binary } else { Frames::Text };
    let (ours, theirs) = duplex(PIPE);
    // It ends with either side, and nothing waits for what it still has: like a kernel's socket.
    tokio::spawn(pump(theirs, socket, frames));
    Ok(Box::new(ours))
}

/// Carries lines between a pipe and a WebSocket until one of them ends.
async fn pump(mut pipe: DuplexStream, mut socket: WebSocketStream<Stream>, frames: Frames) {
    let mut buffer = vec![0; 4096];
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = pipe.read(&mut buffer) => {
                let Ok(bytes @ 1..) = read else { break };
                for byte in &buffer[..bytes] {
                    match byte {
                        b'\n' => {
                            let frame = frame(std::mem::take(&mut line), frames);
                            if socket.send(frame).await.is_err() {
                                return;
                            }
                        }
                        b'\r' => {}
                        byte => line.push(*byte),
                    }
                }
            }
            frame = socket.next() => {
                let bytes = match frame {
                    Some(Ok(Message::Text(text))) => Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    // A ping is answered by the library.
                    Some(Ok(_)) => continue,
                };
                let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\r\n" };
                if pipe.write_all(&bytes).await.is_err() || pipe.write_all(end).await.is_err() {
                    break;
                }
            }
        }
    }
    // Whoever is gone does not hear it.
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
}

fn frame(line: Vec<u8>, frames: Frames) -> Message {
    match frames {
        Frames::Text => Message::text(String::from_utf8_lossy(&line).into_owned()),
        Frames::Binary => Message::binary(line),
    }
}
