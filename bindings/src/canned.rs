//! A server for tests that says what it is told to, and remembers what it was asked.

use std::sync::{Arc, Mutex, Once};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What was asked so far: the head of each request, in small letters.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// Serves on an address of its own. `answer` gets the head of a request and gives a status, headers and a body.
pub(crate) async fn serve(
    answer: impl Fn(&str) -> (u16, Vec<(&'static str, String)>, String) + Send + 'static,
) -> (String, Asked) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
                head.extend(byte);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let (status, headers, body) = answer(&head);
            told.lock().unwrap().push(head);
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            let all =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
            let _ = stream.write_all(all.as_bytes()).await;
        }
    });
    (url, asked)
}
