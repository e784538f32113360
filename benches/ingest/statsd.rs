//! Packets of StatsD over UDP: what the server counts, and what a bare socket receives.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief_bindings::Settings;
use masterchief_bindings::metric::StatsdSettings;

use crate::Fallible;
use crate::servers::free_port;

/// How long packets are sent.
const TIME: Duration = Duration::from_secs(3);

/// As many packets as a thread can send.
pub(crate) async fn packets() -> Fallible<()> {
    let (floor, sent) = bare().await?;
    println!("statsd: the floor, a socket that only receives: {floor:.0} packets/s of {sent:.0} sent");
    let (ours, sent) = counted().await?;
    println!("statsd: {ours:.0} packets/s counted of {sent:.0} sent, {:.2} of the floor", ours / floor);
    Ok(())
}

/// Sends until the time is over; how many a second.
async fn send(to: SocketAddr) -> Fallible<f64> {
    let sending = tokio::task::spawn_blocking(move || -> std::io::Result<u64> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < TIME {
            for _ in 0..64 {
                // A packet that finds no room is lost, as it would be anywhere.
                count += u64::from(socket.send(b"api.hits:1|c|#host:a,zone:eu").is_ok());
            }
        }
        Ok(count)
    });
    Ok(sending.await?? as f64 / TIME.as_secs_f64())
}

async fn bare() -> Fallible<(f64, f64)> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let at = socket.local_addr()?;
    let receiving = tokio::spawn(async move {
        let (mut buffer, mut count) = (vec![0; 65536], 0_u64);
        while tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut buffer)).await.is_ok() {
            count += 1;
        }
        count
    });
    let sent = send(at).await?;
    Ok((receiving.await? as f64 / TIME.as_secs_f64(), sent))
}

async fn counted() -> Fallible<(f64, f64)> {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let told = Arc::<Mutex<Option<f64>>>::default();
    let handler = {
        let told = Arc::clone(&told);
        move |event: Event| {
            let value = event.field("value").and_then(|value| value.as_f64());
            *told.lock().unwrap_or_else(PoisonError::into_inner) = value;
            async {}
        }
    };
    // All of it within one window.
    let statsd = StatsdSettings { udp: Some(at), tcp: None, window: TIME * 2 };
    let bot = Bot::builder().sources(Settings { statsd: Some(statsd), ..Settings::default() });
    let started = bot.bind(Kind::Metric, "-|-", "statsd:api.hits.count>0", handler)?.start().await?;
    while started.sources().iter().any(|row| row.state != "reading") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The first look comes at once and ends a window.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = send(at).await?;
    let count = loop {
        if let Some(count) = *told.lock().unwrap_or_else(PoisonError::into_inner) {
            break count;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    started.stop("").await;
    Ok((count / TIME.as_secs_f64(), sent))
}
