//! How many calls are running, so that shutdown can wait for the last of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A counter that can be waited on. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    none_left: Notify,
}

/// One running call; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    inner: Arc<Inner>,
}

impl InFlight {
    /// A call begins.
    pub(crate) fn begin(&self) -> Running {
        self.inner.count.fetch_add(1, Ordering::AcqRel);
        Running { inner: Arc::clone(&self.inner) }
    }

    /// How many are running now.
    pub(crate) fn count(&self) -> usize {
        self.inner.count.load(Ordering::Acquire)
    }

    /// Ready when none is running.
    pub(crate) async fn none_left(&self) {
        loop {
            let told = self.inner.none_left.notified();
            if self.count() == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.inner.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_the_last_call() {
        let calls = InFlight::default();
        let (first, second) = (calls.begin(), calls.begin());
        let waiter = tokio::spawn({
            let calls = calls.clone();
            async move { calls.none_left().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(second);
        waiter.await.unwrap();
    }
}
