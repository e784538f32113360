//! Shutdown is a value handed down; the end is waited for by whoever spawned the task.

use tokio::sync::watch;

/// Says when to stop. Every loop that waits also listens to it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    on: watch::Receiver<bool>,
}

/// The other end: stops everything that listens.
#[derive(Debug)]
pub struct Stopper {
    to: watch::Sender<bool>,
}

impl Shutdown {
    /// A pair of ends.
    pub fn new() -> (Stopper, Shutdown) {
        let (to, on) = watch::channel(false);
        (Stopper { to }, Shutdown { on })
    }

    /// Whether it is time.
    pub fn is_shutdown(&self) -> bool {
        *self.on.borrow() || self.on.has_changed().is_err()
    }

    /// Ready when it is time; also when the [`Stopper`] is gone.
    pub async fn recv(&mut self) {
        while !*self.on.borrow_and_update() {
            if self.on.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Stopper {
    /// Tells everybody.
    pub fn stop(&self) {
        self.to.send_replace(true);
    }
}
