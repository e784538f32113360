//! Work with files that may take long: apart from the threads that drive everything else, and not too much of it at once.

use tokio::sync::Semaphore;

/// So much is done at once; the rest waits for its turn.
const AT_ONCE: usize = 8;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Does it on a thread where nobody else is kept waiting. `None` if it fell over, or the bot is going down.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // The turns are never closed.
    let _turn = TURNS.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "it is asleep on a thread that is there to be blocked")]
    async fn much_is_done_beside_everything_else_but_not_all_at_once() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(apart(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
                now.fetch_sub(1, Ordering::SeqCst);
            }))
        };
        let all: Vec<_> = (0..40).map(|_| work()).collect();
        // This thread is the only one of this runtime, and it goes on.
        tokio::time::timeout(Duration::from_secs(5), tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
        for one in all {
            assert_eq!(one.await.unwrap(), Some(()));
        }
        assert!((2..=AT_ONCE).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    #[tokio::test]
    async fn what_falls_over_gives_nothing_and_takes_no_turn_with_it() {
        for _ in 0..2 * AT_ONCE {
            assert_eq!(apart(|| -> u8 { panic!("it fell over") }).await, None);
        }
        assert_eq!(apart(|| 7).await, Some(7));
    }
}
