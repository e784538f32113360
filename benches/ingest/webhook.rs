//! Posts to the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::{StreamExt, TryStreamExt};
use masterchief::bot::Bot;
use masterchief::contract::Secret;
use masterchief::gateway;
use masterchief_bindings::webhook::RouteSettings;
use ring::hmac;
use serde_json::json;
use warp::Filter;

use crate::{Aim, Fallible, Texts, cpu_seconds};

const SECRET: &str = "bench";

fn signature(body: &[u8]) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body);
    format!("sha256={}", mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// What is posted.
#[derive(Clone)]
struct Posts {
    /// Each with its signature.
    bodies: Arc<[(String, String)]>,
    texts: Texts,
    /// Whether each names its delivery, as services do: then the journal keeps it as a key.
    delivery: bool,
}

impl Posts {
    fn of(texts: Texts, delivery: bool) -> Posts {
        let bodies: Vec<String> = match texts {
            // As GitHub sends it: 8,471 bytes.
            Texts::Alike => vec![include_str!("../../bindings/tests/payloads/github/push.json").to_owned()],
            Texts::Different => {
                let bodies = texts.of(8_200).into_iter();
                bodies
                    .map(|text| json!({"ref": "refs/heads/main", "head_commit": {"message": text}}).to_string())
                    .collect()
            }
        };
        let bodies = bodies.into_iter().map(|body| (signature(body.as_bytes()), body)).collect();
        Posts { bodies, texts, delivery }
    }

    fn named(&self) -> String {
        format!("{}, {} delivery id", self.texts.named(), if self.delivery { "each with a" } else { "without" })
    }
}

/// Posts of 8 KB with an HMAC: the gateway, and a bare warp server that verifies and throws away.
pub(crate) async fn posts() -> Fallible<Vec<Aim>> {
    // It is there already where another part of this run was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::tempdir()?;
    let route = RouteSettings { secrets: vec![Secret::new(SECRET)], ..RouteSettings::default() };
    let settings = gateway::Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        routes: [("github".to_owned(), route)].into(),
        ..gateway::Settings::default()
    };
    let started = Bot::builder().data(data.path()).gateway(settings).start().await?;
    let at = started.gateway_at().ok_or("the gateway does not listen")?;
    let bare = warp::post().and(warp::header::<String>("x-hub-signature-256")).and(warp::body::stream()).then(
        |given: String, stream| async move {
            let parts: Result<Vec<_>, warp::Error> = TryStreamExt::try_collect(stream).await;
            let mut bytes = Vec::new();
            for mut part in parts.unwrap_or_default() {
                let part: &mut dyn Buf = &mut part;
                bytes.extend_from_slice(&part.copy_to_bytes(part.remaining()));
            }
            if signature(&bytes) == given {
                warp::http::StatusCode::ACCEPTED
            } else {
                warp::http::StatusCode::FORBIDDEN
            }
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let floor_at = listener.local_addr()?;
    tokio::spawn(warp::serve(bare).incoming(listener).run());
    // One to warm up, and then turn by turn, so that what else runs on the machine meets both.
    let first = Posts::of(Texts::Alike, false);
    load(floor_at, &first, 500, 64).await?;
    load(at, &first, 500, 64).await?;
    let mut aims = Vec::new();
    for (texts, delivery) in [(Texts::Alike, false), (Texts::Alike, true), (Texts::Different, true)] {
        for connections in [64, 256] {
            aims.push(compare(at, floor_at, &Posts::of(texts, delivery), connections).await?);
        }
    }
    started.stop("").await;
    Ok(aims)
}

async fn compare(at: SocketAddr, floor_at: SocketAddr, posts: &Posts, connections: usize) -> Fallible<Aim> {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        floor.push(load(floor_at, posts, 20_000, connections).await?);
        ours.push(load(at, posts, 20_000, connections).await?);
    }
    let best = |of: &[Load]| {
        of.iter().copied().reduce(|best, one| if one.rate > best.rate { one } else { best }).unwrap_or_default()
    };
    let (ours, floor) = (best(&ours), best(&floor));
    println!(
        "webhook: {:.0} posts/s of 8 KB ({}) over {connections} connections, verified and durable, p99 {:.1} ms",
        ours.rate,
        posts.named(),
        ours.p99
    );
    println!(
        "webhook: {:.2} of a bare warp that verifies and throws away: {:.0} posts/s, p99 {:.1} ms",
        ours.rate / floor.rate,
        floor.rate,
        floor.p99
    );
    println!("webhook: {:.0} us of processors a post with who posts, the floor {:.0} us", ours.cpu, floor.cpu);
    let what = format!("webhook, of a bare warp ({}, {connections} connections)", posts.named());
    Ok(Aim { what, figure: ours.rate / floor.rate, least: 0.5 })
}

/// How it went.
#[derive(Clone, Copy, Default)]
struct Load {
    /// Posts a second.
    rate: f64,
    /// The 99th percentile of their times, in milliseconds.
    p99: f64,
    /// Processor time of this process, in microseconds a post.
    cpu: f64,
}

/// Posts from threads of their own, as from elsewhere: those who post do not stand in the server's queue of tasks.
async fn load(at: SocketAddr, posts: &Posts, count: usize, connections: usize) -> Fallible<Load> {
    let posts = posts.clone();
    let posting = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|fault| fault.to_string())?;
        runtime.block_on(post(at, &posts, count, connections)).map_err(|fault| fault.to_string())
    };
    Ok(tokio::task::spawn_blocking(posting).await??)
}

async fn post(at: SocketAddr, posts: &Posts, count: usize, connections: usize) -> Fallible<Load> {
    let client = reqwest::Client::new();
    let url = format!("http://{at}/hooks/github");
    // No two posts of a run are one delivery.
    static DELIVERY: AtomicU64 = AtomicU64::new(0);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let times: Vec<Duration> = futures_util::stream::iter(0..count)
        .map(|number| {
            let (signature, body) = &posts.bodies[number % posts.bodies.len()];
            let request = client.post(&url).header("X-Hub-Signature-256", signature).header("X-GitHub-Event", "push");
            let request = match posts.delivery {
                true => request.header("X-GitHub-Delivery", DELIVERY.fetch_add(1, Ordering::Relaxed)),
                false => request,
            };
            let request = request.body(body.clone());
            async move {
                let began = Instant::now();
                let answer = request.send().await?;
                assert_eq!(answer.status().as_u16(), 202);
                answer.bytes().await?;
                Ok::<_, reqwest::Error>(began.elapsed())
            }
        })
        .buffer_unordered(connections)
        .try_collect()
        .await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let mut times = times;
    times.sort();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let cpu = (cpu_seconds() - cpu) * 1e6 / count as f64;
    Ok(Load { rate, p99: p99.as_secs_f64() * 1000.0, cpu })
}
