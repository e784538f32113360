//! When to try again to join a channel: each reason has a rule of its own. Pure; time is handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// Pauses double with each failure up to this many times.
const DOUBLINGS: u32 = 5;
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long to wait before coming back after a kick.
const AFTER_KICK: Duration = Duration::from_secs(5);
/// Kicks that are this far apart are not one quarrel.
const QUARREL: Duration = Duration::from_secs(1800);
/// How long ChanServ may take to let us in.
const SERVICES: Duration = Duration::from_secs(5);
/// Channels that rules are kept for; more are hostile.
const CHANNELS_MAX: usize = 1000;

/// Why we are not in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// 437, 495, +J: a moment's trouble.
    Moment,
    /// 471, or sent elsewhere (470).
    Full,
    /// 473.
    Uninvited,
    /// 474.
    Banned,
    /// 475.
    Key,
    /// 477: only who is logged in.
    Login,
    /// 480, 489, 520 and what else a channel may demand of a client.
    Demand,
    /// 403, 405, 407, 476: it will not change while this connection lasts.
    Never,
}

impl Reason {
    /// What a numeric says about a channel; nothing for those that say something else.
    pub(super) fn of(numeric: &str) -> Option<Reason> {
        Some(match numeric {
            "437" | "495" | "500" | "608" => Reason::Moment,
            "470" | "471" => Reason::Full,
            "473" => Reason::Uninvited,
            "474" => Reason::Banned,
            "475" => Reason::Key,
            "477" => Reason::Login,
            "480" | "489" | "519" | "520" => Reason::Demand,
            "403" | "405" | "407" | "476" | "479" => Reason::Never,
            _ => return None,
        })
    }

    /// The first pause; `None` where trying again is in vain.
    fn pause(self) -> Option<Duration> {
        match self {
            Reason::Moment => Some(Duration::from_secs(6)),
            Reason::Full => Some(MINUTE),
            Reason::Uninvited | Reason::Banned | Reason::Key | Reason::Login => Some(2 * MINUTE),
            Reason::Demand => Some(10 * MINUTE),
            Reason::Never => None,
        }
    }

    /// What ChanServ does about it.
    pub(super) fn chanserv(self) -> Option<&'static str> {
        match self {
            Reason::Uninvited | Reason::Full => Some("INVITE"),
            Reason::Banned => Some("UNBAN"),
            Reason::Key => Some("GETKEY"),
            _ => None,
        }
    }
}

/// What is known of one channel.
#[derive(Debug, Default)]
struct Rule {
    /// Not before then; never while it is `None` and `tries` is not 0.
    not_before: Option<Instant>,
    reason: Option<Reason>,
    tries: u32,
    kicks: u32,
    kicked: Option<Instant>,
}

/// The channels we are not in, by folded name.
#[derive(Debug, Default)]
pub(super) struct Comeback {
    rules: BTreeMap<String, Rule>,
}

impl Comeback {
    /// A channel would not have us. Gives when to look again, if at all. `helped` is whether services were asked to let us in.
    pub(super) fn refused(&mut self, chan: &str, reason: Reason, helped: bool, now: Instant) -> Option<Instant> {
        let rule = self.rule(chan)?;
        rule.tries += 1;
        rule.reason = Some(reason);
        let doubled = |pause: Duration| (pause * (1 << (rule.tries - 1).min(DOUBLINGS))).min(LONGEST);
        // Help is a matter of seconds, but only once: if it did not help, it will not the next time.
        let pause = if helped && rule.tries == 1 { Some(SERVICES) } else { reason.pause().map(doubled) };
        rule.not_before = pause.map(|pause| now + pause);
        rule.not_before
    }

    /// Whether this is the first refusal since we were in, so that services are asked once.
    pub(super) fn is_first(&self, chan: &str) -> bool {
        self.rules.get(chan).is_none_or(|rule| rule.tries == 0)
    }

    /// We were kicked: when to come back. Who is kicked again and again stays away for longer each time.
    pub(super) fn kicked(&mut self, chan: &str, now: Instant) -> Option<Instant> {
        let rule = self.rule(chan)?;
        if rule.kicked.is_none_or(|before| now.duration_since(before) >= QUARREL) {
            rule.kicks = 0;
        }
        rule.kicked = Some(now);
        rule.kicks += 1;
        let pause = (AFTER_KICK * 4u32.saturating_pow((rule.kicks - 1).min(DOUBLINGS))).min(LONGEST);
        rule.not_before = Some(now + pause);
        rule.tries = rule.tries.max(1);
        rule.not_before
    }

    /// We are in. What was refused before is forgotten; kicks are not.
    pub(super) fn joined(&mut self, chan: &str) {
        if let Some(rule) = self.rules.get_mut(chan) {
            (rule.not_before, rule.reason, rule.tries) = (None, None, 0);
        }
    }

    /// We are logged in now, or invited: what stood in the way may be gone.
    pub(super) fn reconsider(&mut self, matters: impl Fn(&str, Reason) -> bool) {
        for (chan, rule) in &mut self.rules {
            if rule.reason.is_some_and(|reason| matters(chan, reason)) {
                (rule.not_before, rule.tries) = (None, 0);
            }
        }
    }

    /// Somebody inside invites us: whatever stood in the way, and whoever sent us away, it may be tried now.
    pub(super) fn invited(&mut self, chan: &str) {
        if let Some(rule) = self.rules.get_mut(chan) {
            (rule.not_before, rule.tries) = (None, 0);
        }
    }

    /// Whether the channel may be tried now.
    pub(super) fn may(&self, chan: &str, now: Instant) -> bool {
        self.rules.get(chan).is_none_or(|rule| rule.tries == 0 || rule.not_before.is_some_and(|at| at <= now))
    }

    /// A new connection: another server may see it differently, but a quarrel is the same.
    pub(super) fn reconnected(&mut self) {
        self.rules.retain(|_, rule| rule.kicked.is_some());
        self.rules.values_mut().for_each(|rule| (rule.not_before, rule.reason, rule.tries) = (None, None, 0));
    }

    /// The same by other names, after the casemapping changed.
    pub(super) fn refold(&mut self, fold: impl Fn(&str) -> String) {
        let rules = std::mem::take(&mut self.rules);
        self.rules = rules.into_iter().map(|(chan, rule)| (fold(&chan), rule)).collect();
    }

    fn rule(&mut self, chan: &str) -> Option<&mut Rule> {
        if self.rules.len() >= CHANNELS_MAX && !self.rules.contains_key(chan) {
            return None;
        }
        Some(self.rules.entry(chan.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses in seconds when a channel refuses again and again for the same reason.
    fn pauses(numeric: &str, helped: bool) -> Vec<Option<u64>> {
        let mut comeback = Comeback::default();
        let now = Instant::now();
        let reason = Reason::of(numeric).unwrap();
        let pause = |at: Option<Instant>| at.map(|at| (at - now).as_secs());
        (0..7).map(|_| pause(comeback.refused("#ops", reason, helped, now))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_has_its_own_pause_and_it_grows() {
        assert_eq!(pauses("437", false)[..3], [Some(6), Some(12), Some(24)]);
        assert_eq!(pauses("471", false)[5..], [Some(1920), Some(1920)]);
        assert_eq!(pauses("474", false)[0], Some(120));
        assert_eq!(pauses("474", true)[..2], [Some(5), Some(240)], "services were asked once");
        assert_eq!(pauses("520", false)[4..], [Some(3600); 3]);
        assert_eq!(pauses("403", false), [None; 7]);
        assert_eq!(Reason::of("404"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_channel_is_let_alone_until_its_time_and_a_new_connection_forgets() {
        let mut comeback = Comeback::default();
        let now = Instant::now();
        assert!(comeback.may("#ops", now));
        comeback.refused("#ops", Reason::Full, false, now);
        comeback.refused("#gone", Reason::Never, false, now);
        assert!(!comeback.may("#ops", now + MINUTE / 2) && comeback.may("#ops", now + MINUTE));
        assert!(!comeback.may("#gone", now + 100 * LONGEST));
        comeback.reconnected();
        assert!(comeback.may("#gone", now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_opens_what_asked_for_one() {
        let mut comeback = Comeback::default();
        let now = Instant::now();
        comeback.refused("#a", Reason::Login, false, now);
        comeback.refused("#b", Reason::Full, false, now);
        comeback.reconsider(|_, reason| reason == Reason::Login);
        assert!(comeback.may("#a", now) && !comeback.may("#b", now));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_kicked_again_and_again_stays_away_for_longer() {
        let mut comeback = Comeback::default();
        let now = Instant::now();
        let mut at = now;
        let mut seconds = Vec::new();
        for _ in 0..7 {
            let back = comeback.kicked("#ops", at).unwrap();
            assert!(!comeback.may("#ops", at) && comeback.may("#ops", back));
            seconds.push((back - at).as_secs());
            comeback.joined("#ops");
            at = back.min(at + QUARREL / 2);
        }
        assert_eq!(seconds, [5, 20, 80, 320, 1280, 3600, 3600]);
        assert_eq!((comeback.kicked("#ops", at + QUARREL).unwrap() - at - QUARREL).as_secs(), 5);
    }
}
