//! How soon again: per person, per channel, per bind.

use std::collections::HashMap;
use std::time::Duration;

use masterchief_contract::{BindId, Cooldown};
use tokio::time::Instant;

/// Entries after which those that no longer matter are dropped.
const SWEEP_AT: usize = 4096;

/// When what was last called.
#[derive(Debug, Default)]
pub struct Cooldowns {
    until: HashMap<(BindId, Scope), Instant>,
    sweep_at: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Person(String),
    Channel(String),
    All,
}

impl Cooldowns {
    /// Takes note of a call, or tells how long it has to wait. A refused call does not lengthen the wait.
    pub fn check(
        &mut self,
        bind: BindId,
        cooldown: &Cooldown,
        person: &str,
        chan: Option<&str>,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut limits = Vec::with_capacity(3);
        limits.extend(cooldown.user.map(|time| (Scope::Person(person.to_owned()), time)));
        limits.extend(cooldown.channel.zip(chan).map(|(time, chan)| (Scope::Channel(chan.to_owned()), time)));
        limits.extend(cooldown.global.map(|time| (Scope::All, time)));
        let left = limits.iter().filter_map(|(scope, _)| self.until.get(&(bind, scope.clone())));
        if let Some(wait) =
            left.filter_map(|until| until.checked_duration_since(now)).filter(|wait| !wait.is_zero()).max()
        {
            return Err(wait);
        }
        for (scope, time) in limits {
            self.until.insert((bind, scope), now + time);
        }
        if self.until.len() > self.sweep_at.max(SWEEP_AT) {
            self.until.retain(|_, until| *until > now);
            self.sweep_at = self.until.len() * 2;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_person_a_channel_and_a_bind_each_have_their_own_wait() {
        let mut cooldowns = Cooldowns::default();
        let limits = Cooldown { user: Some(10 * SECOND), channel: Some(2 * SECOND), global: None };
        let mut call = |person: &str, chan: &str, at: Instant| {
            cooldowns.check(BindId(1), &limits, person, Some(chan), at).map_err(|wait| wait.as_secs())
        };
        let start = Instant::now();
        assert_eq!(call("alice", "#ops", start), Ok(()));
        assert_eq!(call("alice", "#dev", start), Err(10));
        assert_eq!(call("bob", "#ops", start), Err(2));
        assert_eq!(call("bob", "#dev", start), Ok(()));
        assert_eq!(call("carol", "#ops", start + 2 * SECOND), Ok(()));
        assert_eq!(call("alice", "#qa", start + 9 * SECOND), Err(1), "asking again does not lengthen it");
        assert_eq!(call("alice", "#qa", start + 10 * SECOND), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let mut cooldowns = Cooldowns::default();
        let limits = Cooldown { user: Some(SECOND), ..Cooldown::default() };
        let start = Instant::now();
        for n in 0..100_000u32 {
            let now = start + SECOND * (n / 100);
            cooldowns.check(BindId(1), &limits, &n.to_string(), None, now).unwrap();
        }
        assert!(cooldowns.until.len() <= 2 * SWEEP_AT);
    }
}
