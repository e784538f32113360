//! Wires between bots that can be cut, and whose bytes are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A wire that can be cut: connections to its port reach another port, or nothing.
pub(crate) struct Wire {
    pub(crate) port: u16,
    whole: watch::Sender<bool>,
    held: watch::Sender<bool>,
    bytes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(target: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, cut) = watch::channel(true);
        let (held, still) = watch::channel(false);
        let bytes = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (mut cut, still, counted) = (cut.clone(), still.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    if !*cut.borrow() {
                        return;
                    }
                    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    let there = carry(near_in, far_out, &counted, still.clone());
                    let both = async { tokio::join!(there, carry(far_in, near_out, &counted, still)) };
                    tokio::select! {
                        _ = both => {}
                        _ = cut.wait_for(|whole| !*whole) => {}
                    }
                });
            }
        });
        Wire { port, whole, held, bytes, task }
    }

    /// Bytes that have crossed it, both ways together.
    pub(crate) fn crossed(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Nothing crosses it any more, and nobody hears of that, as when a cable is pulled.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.whole.send_replace(!cut);
    }
}

/// Carries bytes one way until an end closes, and counts them.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: &AtomicU64, mut held: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut bytes).await {
        counted.fetch_add(read as u64, Ordering::Relaxed);
        let _ = held.wait_for(|held| !*held).await;
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
