//! Lines about runs for other programs: posts to the hooks of the settings, signed, tried again while nobody answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use ring::hmac;
use serde_json::json;
use tokio::sync::mpsc;

use super::settings::Hook;
use crate::executors::{ExecFault, Http, Request};

/// What the name of a hook begins with where a pipeline is announced: `hook:mattermost`.
pub(super) const HOOK: &str = "hook:";
/// Posts that wait for one hook.
const DEPTH: usize = 1024;
/// How often a post is tried.
const TRIES: u32 = 8;
/// The first wait between two tries; each is twice the one before.
const FIRST: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A line for a hook.
pub(super) struct Post {
    pub(super) hook: Hook,
    /// The same however often it is tried: whoever knows it has the line already.
    pub(super) delivery: String,
    pub(super) text: String,
}

/// A task that posts the lines for one hook, one after the other. It ends when nobody hands it any.
pub(super) fn poster(name: &str, http: Arc<dyn Http>) -> mpsc::Sender<Post> {
    let (to, mut from) = mpsc::channel::<Post>(DEPTH);
    let name = name.to_owned();
    tokio::spawn(async move {
        while let Some(post) = from.recv().await {
            let mut wait = FIRST;
            for left in (0..TRIES).rev() {
                match send(&post, http.as_ref()).await {
                    Ok(()) => break,
                    Err((fault, true)) if left > 0 => {
                        tracing::info!(hook = %name, %fault, "A hook does not take a line; it is tried again");
                        tokio::time::sleep(wait).await;
                        wait *= 2;
                    }
                    Err((fault, _)) => {
                        tracing::warn!(hook = %name, delivery = %post.delivery, %fault, "A hook did not take a line; it is given up");
                        break;
                    }
                }
            }
        }
    });
    to
}

/// Posts a line; what is wrong, and whether it may be tried again.
async fn send(post: &Post, http: &dyn Http) -> Result<(), (String, bool)> {
    // The address may be a secret itself, so no fault shows it.
    let url = Url::parse(post.hook.url.reveal()).map_err(|_| ("its address is none".to_owned(), false))?;
    let host = format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(0));
    let body = json!({"text": post.text}).to_string().into_bytes();
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-masterchief-delivery".to_owned(), post.delivery.clone()),
    ];
    if let Some(secret) = &post.hook.secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let sum: String = hmac::sign(&key, &body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        headers.push(("x-masterchief-signature".to_owned(), format!("sha256={sum}")));
    }
    let request =
        Request { method: "POST".to_owned(), url: url.to_string(), headers, body: Some(body), timeout: ANSWER };
    match http.request(request, vec![host]).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err((format!("HTTP {}", answer.status), answer.status == 429 || answer.status >= 500)),
        Err(ExecFault(_)) => Err(("it does not answer".to_owned(), true)),
    }
}
