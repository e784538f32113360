//! Lines about runs for other programs: a chat that is no IRC hears the same.

use std::sync::{Arc, Mutex};

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::contract::Secret;
use masterchief::pipelines::{Hook, Settings};
use ring::hmac;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::acted::Acted;
use super::deploys::builder;
use super::steps::until;

#[tokio::test]
async fn a_hook_hears_what_the_channel_hears_signed_and_each_line_once_however_often_it_is_tried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/secret-part", listener.local_addr().unwrap());
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        for at in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 65536];
            let mut read = 0;
            // Head and body may come apart.
            while !String::from_utf8_lossy(&buffer[..read]).ends_with("\"}") {
                read += stream.read(&mut buffer[read..]).await.unwrap();
            }
            kept.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            let status = if at == 0 { "503 busy" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let acted = Acted::default();
    let hook = Hook { url: Secret::new(url), secret: Some(Secret::new("hunter2")) };
    let settings = Settings { hooks: [("team".to_owned(), hook)].into(), ..Settings::default() };
    let test = TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    let text = "app: shop\nannounce: {channels: [\"hook:team\", {name: \"hook:lost\"}]}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages: {a: {acted: {}}}\n";
    test.started().put_pipeline("shop", text).await.unwrap();
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    until("both lines, the first twice", || heard.lock().unwrap().len() == 3).await;
    let heard = heard.lock().unwrap().clone();
    let body = |at: usize| heard[at].split("\r\n\r\n").nth(1).unwrap().to_owned();
    let header = |at: usize, name: &str| {
        let line = heard[at].lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
        line.unwrap().trim_start_matches(": ").to_owned()
    };
    assert_eq!(body(0), json!({"text": "[1] shop v1 -> dev started by kim."}).to_string());
    assert_eq!((body(0), header(0, "x-masterchief-delivery")), (body(1), header(1, "x-masterchief-delivery")));
    assert!(
        body(2).contains("[1] shop v1 is live on dev")
            && header(2, "x-masterchief-delivery") != header(1, "x-masterchief-delivery")
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"hunter2");
    let sum: String = hmac::sign(&key, body(2).as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header(2, "x-masterchief-signature"), format!("sha256={sum}"));
    test.stop().await;
}
