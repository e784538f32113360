//! Routes as lanes of the journal, the room that each has, and how fast it may be posted to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use masterchief_bindings::webhook::RateSettings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many posts a route takes at once, and who is in it.
type Room = (usize, Arc<Semaphore>);

/// What is known of each route, made once it is posted to.
#[derive(Default)]
pub(super) struct Lanes {
    names: Mutex<HashMap<String, Arc<str>>>,
    rooms: Mutex<HashMap<String, Room>>,
    /// When a route would be even with its rate, if nothing more were posted.
    even: Mutex<HashMap<String, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lanes {
    /// A place in the room of a route, if there is one: a route that is slow takes none from the others.
    pub(super) fn enter(&self, name: &str, places: usize) -> Option<OwnedSemaphorePermit> {
        let mut rooms = lock(&self.rooms);
        let room = match rooms.get(name) {
            // Configured anew, it is another room; who is in the old one leaves that.
            Some((known, room)) if *known == places => Arc::clone(room),
            _ => {
                let room = Arc::new(Semaphore::new(places));
                rooms.insert(name.to_owned(), (places, Arc::clone(&room)));
                room
            }
        };
        drop(rooms);
        room.try_acquire_owned().ok()
    }

    /// Counts one post of a route. If that is one too many for its rate, it does not count, and this is when the next one is not.
    pub(super) fn too_fast(&self, name: &str, rate: RateSettings) -> Option<Duration> {
        let now = Instant::now();
        let each = rate.within / rate.posts.max(1);
        let mut even = lock(&self.even);
        // It is never ahead by more than its time; by a rate that was another before it may have been, and nobody pays for that.
        let before = even.get(name).map_or(now, |even| (*even).clamp(now, now + rate.within));
        let next = before + each;
        let early = (next - now).checked_sub(rate.within).filter(|early| !early.is_zero());
        even.insert(name.to_owned(), if early.is_none() { next } else { before });
        early
    }

    pub(super) fn lane(&self, name: &str) -> Arc<str> {
        let mut names = lock(&self.names);
        if let Some(lane) = names.get(name) {
            return Arc::clone(lane);
        }
        let lane: Arc<str> = Arc::from(name);
        names.insert(name.to_owned(), Arc::clone(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_route_takes_so_many_at_once_and_then_one_at_a_time_as_its_rate_says_and_no_other_route_feels_it() {
        let (lanes, rate) = (Lanes::default(), RateSettings { posts: 4, within: Duration::from_secs(60) });
        assert!((0..4).all(|_| lanes.too_fast("ci", rate).is_none()));
        assert_eq!(lanes.too_fast("ci", rate), Some(Duration::from_secs(15)));
        assert_eq!(lanes.too_fast("other", rate), None);
        advance(Duration::from_secs(14)).await;
        assert_eq!(lanes.too_fast("ci", rate), Some(Duration::from_secs(1)), "one that was refused did not count");
        advance(Duration::from_secs(1)).await;
        assert_eq!((lanes.too_fast("ci", rate), lanes.too_fast("ci", rate).is_some()), (None, true));
        // In a minute of silence all are there again, and no more than that.
        advance(Duration::from_secs(600)).await;
        assert_eq!((0..10).filter(|_| lanes.too_fast("ci", rate).is_none()).count(), 4);
        // Configured anew, it waits for no more than the new rate says, whatever the old one was.
        let quick = RateSettings { posts: 1, within: Duration::from_secs(1) };
        assert_eq!(lanes.too_fast("ci", quick), Some(Duration::from_secs(1)));
        advance(Duration::from_secs(1)).await;
        assert_eq!(lanes.too_fast("ci", quick), None, "what was too slow by mistake is put right at once");
    }

    #[test]
    fn rooms_are_apart() {
        let lanes = Lanes::default();
        let held = lanes.enter("ci", 1);
        assert!(held.is_some() && lanes.enter("ci", 1).is_none() && lanes.enter("other", 1).is_some());
    }
}
