//! Floods: who says too much too fast, and who is ignored for it. Pure; time is handed in.
//!
//! Eggdrop counts one host at a time, so that two who take turns never trip it. Here every host, every account and every channel has
//! a bucket of its own.

use std::collections::HashMap;
use std::time::Duration;

use masterchief_contract::{CaseMap, EventData, Kind, wild_match};
use serde::Deserialize;
use tokio::time::Instant;

/// Buckets kept; those that are full again are dropped first.
const BUCKETS_MAX: usize = 16_384;
/// Ignored masks kept.
const IGNORES_MAX: usize = 4096;
/// A channel's bucket is so many times one person's.
const CHANNEL_TIMES: u32 = 6;

/// What counts as a flood. The defaults are Eggdrop's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FloodSettings {
    /// Private messages and notices.
    pub msg: Rate,
    /// Lines, notices and actions in channels.
    #[serde(rename = "pub")]
    pub public: Rate,
    /// CTCPs, in private and in channels.
    pub ctcp: Rate,
    /// Joins.
    pub join: Rate,
    /// Changes of nick.
    pub nick: Rate,
    /// How long somebody is ignored.
    #[serde(with = "humantime_serde")]
    pub ignore: Duration,
}

/// So many within such a time; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many at once.
    pub lines: u32,
    /// The time in which as many are forgotten.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

impl Default for FloodSettings {
    fn default() -> FloodSettings {
        let rate = |lines| Rate { lines, within: Duration::from_secs(60) };
        FloodSettings {
            msg: rate(5),
            public: rate(15),
            ctcp: rate(3),
            join: rate(5),
            nick: rate(5),
            ignore: Duration::from_secs(900),
        }
    }
}

/// What is to be done about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is from somebody who is ignored.
    Ignored,
    /// It is one too many, of this type, by somebody with this mask.
    Flood {
        /// `msg`, `pub`, `ctcp`, `join`, `nick`: Eggdrop's words.
        kind: &'static str,
        /// Whom to ignore.
        mask: String,
    },
    /// The channel as a whole has too many: nobody in particular is to blame, but for a while strangers command nothing there.
    Crowd,
}

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Host(String),
    Account(String),
    Channel(String),
}

/// The buckets of all networks.
#[derive(Debug, Default)]
pub struct Floods {
    /// When each will be full again, by type, network and owner.
    full_at: HashMap<(&'static str, String, Who), Instant>,
    ignores: Vec<Ignore>,
}

/// Somebody who is not listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    /// `nick!user@host`, with wildcards.
    pub mask: String,
    /// Until when; for ever without.
    pub until: Option<Instant>,
    /// Why, and by whom.
    pub reason: String,
}

impl Floods {
    /// What is to be done about an event. `exempt` people are counted nowhere, but may be ignored by hand.
    pub fn judge(&mut self, settings: &FloodSettings, event: &EventData, exempt: bool, now: Instant) -> Verdict {
        let Some(actor) = event.actor.as_ref().filter(|actor| !actor.own && actor.login.is_none()) else {
            return Verdict::Fine;
        };
        let Some((kind, rate)) = counted(settings, event) else { return Verdict::Fine };
        if self.is_ignored(&actor.source(), event.casemap, now) {
            return Verdict::Ignored;
        }
        if exempt || rate.lines == 0 || rate.within.is_zero() {
            return Verdict::Fine;
        }
        let network = event.network.to_string();
        let mut too_many = !self.take(kind, &network, Who::Host(actor.host.to_ascii_lowercase()), rate, now);
        if let Some(account) = &actor.account {
            too_many |= !self.take(kind, &network, Who::Account(account.to_ascii_lowercase()), rate, now);
        }
        if too_many {
            let host = actor.host.replace(['*', '?', '%', '~', '\\'], "?");
            return Verdict::Flood { kind, mask: format!("*!*@{host}") };
        }
        let Some(chan) = &event.chan else { return Verdict::Fine };
        let crowd = Rate { lines: rate.lines.saturating_mul(CHANNEL_TIMES), ..rate };
        let chan = event.casemap.fold(chan);
        if self.take(kind, &network, Who::Channel(chan), crowd, now) { Verdict::Fine } else { Verdict::Crowd }
    }

    /// Ignores a mask until then.
    pub fn ignore(&mut self, ignore: Ignore, now: Instant) {
        self.ignores.retain(|old| old.mask != ignore.mask && old.until.is_none_or(|until| until > now));
        if self.ignores.len() >= IGNORES_MAX {
            self.ignores.remove(0);
        }
        self.ignores.push(ignore);
    }

    /// Listens again; whether the mask was ignored.
    pub fn listen(&mut self, mask: &str) -> bool {
        let before = self.ignores.len();
        self.ignores.retain(|ignore| !ignore.mask.eq_ignore_ascii_case(mask));
        self.ignores.len() < before
    }

    /// Who is ignored now.
    pub fn ignored(&mut self, now: Instant) -> Vec<Ignore> {
        self.ignores.retain(|ignore| ignore.until.is_none_or(|until| until > now));
        self.ignores.clone()
    }

    fn is_ignored(&self, source: &str, casemap: CaseMap, now: Instant) -> bool {
        let holds = |ignore: &&Ignore| ignore.until.is_none_or(|until| until > now);
        self.ignores.iter().filter(holds).any(|ignore| wild_match(&ignore.mask, source, casemap))
    }

    /// Takes one from a bucket, or finds it empty.
    fn take(&mut self, kind: &'static str, network: &str, who: Who, rate: Rate, now: Instant) -> bool {
        if self.full_at.len() >= BUCKETS_MAX {
            self.full_at.retain(|_, full| *full > now);
            // So many at once is a flood of hosts; who is there already stays counted, the rest pass uncounted.
            if self.full_at.len() >= BUCKETS_MAX && !matches!(who, Who::Channel(_)) {
                return true;
            }
        }
        let one = rate.within / rate.lines;
        let full = self.full_at.entry((kind, network.to_owned(), who)).or_insert(now);
        let from = (*full).max(now);
        if from + one > now + rate.within {
            return false;
        }
        *full = from + one;
        true
    }
}

/// What an event counts as.
fn counted(settings: &FloodSettings, event: &EventData) -> Option<(&'static str, Rate)> {
    let private = event.chan.is_none();
    Some(match *event.kinds.first()? {
        Kind::Pubm => ("pub", settings.public),
        Kind::Msgm => ("msg", settings.msg),
        Kind::Notc if private => ("msg", settings.msg),
        Kind::Notc => ("pub", settings.public),
        // An action is words.
        Kind::Ctcp if event.field_str("keyword") == "ACTION" && !private => ("pub", settings.public),
        Kind::Ctcp => ("ctcp", settings.ctcp),
        Kind::Join => ("join", settings.join),
        Kind::Nick => ("nick", settings.nick),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use masterchief_contract::Actor;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn said(nick: &str, account: Option<&str>, chan: Option<&str>) -> EventData {
        let mut event =
            EventData::new(if chan.is_some() { &[Kind::Pubm] } else { &[Kind::Msgm] }, DateTime::UNIX_EPOCH);
        event.chan = chan.map(Arc::from);
        event.actor = Some(Actor {
            nick: nick.to_owned(),
            user: "u".to_owned(),
            host: format!("{nick}.test"),
            account: account.map(str::to_owned),
            ..Actor::default()
        });
        event
    }

    /// How many of `count` events in a row are fine, one every `every`.
    fn fine(floods: &mut Floods, events: &[EventData], count: usize, every: Duration, start: Instant) -> usize {
        let settings = FloodSettings::default();
        let judged =
            (0..count).map(|n| floods.judge(&settings, &events[n % events.len()], false, start + every * n as u32));
        judged.filter(|verdict| *verdict == Verdict::Fine).count()
    }

    #[tokio::test(start_paused = true)]
    async fn five_private_messages_are_fine_and_the_sixth_is_a_flood_until_time_has_passed() {
        let mut floods = Floods::default();
        let now = Instant::now();
        let event = said("alice", None, None);
        assert_eq!(fine(&mut floods, std::slice::from_ref(&event), 6, Duration::ZERO, now), 5);
        let verdict = floods.judge(&FloodSettings::default(), &event, false, now);
        assert_eq!(verdict, Verdict::Flood { kind: "msg", mask: "*!*@alice.test".to_owned() });
        assert_eq!(fine(&mut floods, std::slice::from_ref(&event), 9, Duration::ZERO, now + 24 * SECOND), 2);
        let mut slow = Floods::default();
        assert_eq!(fine(&mut slow, &[event], 1000, 12 * SECOND, now), 1000, "one every twelve seconds is no flood");
    }

    #[tokio::test(start_paused = true)]
    async fn two_who_take_turns_trip_it_like_one() {
        let mut floods = Floods::default();
        let pair = [said("alice", None, None), said("bob", None, None)];
        assert_eq!(fine(&mut floods, &pair, 40, Duration::ZERO, Instant::now()), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn one_account_on_many_hosts_is_one_person_and_a_crowd_is_nobodys_fault() {
        let now = Instant::now();
        let many: Vec<EventData> = (0..500).map(|n| said(&format!("n{n}"), Some("mallory"), Some("#ops"))).collect();
        assert_eq!(fine(&mut Floods::default(), &many, 500, Duration::ZERO, now), 15);
        let crowd: Vec<EventData> = (0..500).map(|n| said(&format!("n{n}"), None, Some("#ops"))).collect();
        let mut floods = Floods::default();
        assert_eq!(fine(&mut floods, &crowd, 500, Duration::ZERO, now), 90);
        assert_eq!(floods.judge(&FloodSettings::default(), &crowd[499], false, now), Verdict::Crowd);
        let elsewhere = said("n1", None, Some("#dev"));
        assert_eq!(floods.judge(&FloodSettings::default(), &elsewhere, false, now), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn friends_and_ourselves_are_not_counted_and_zero_is_no_limit() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let settings = FloodSettings::default();
        let event = said("alice", None, None);
        assert!((0..100).all(|_| floods.judge(&settings, &event, true, now) == Verdict::Fine));
        let off = FloodSettings { msg: Rate { lines: 0, within: SECOND }, ..FloodSettings::default() };
        assert!((0..100).all(|_| floods.judge(&off, &event, false, now) == Verdict::Fine));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_ignored_is_not_heard_until_the_time_is_over() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let settings = FloodSettings::default();
        let ignore = |mask: &str, until| Ignore { mask: mask.to_owned(), until, reason: "flood".to_owned() };
        floods.ignore(ignore("*!*@ALICE.test", Some(now + SECOND)), now);
        floods.ignore(ignore("*!*@bob.test", None), now);
        let judge = |floods: &mut Floods, nick, at| floods.judge(&settings, &said(nick, None, None), true, at);
        assert_eq!(judge(&mut floods, "alice", now), Verdict::Ignored, "friends too, if somebody says so");
        assert_eq!(judge(&mut floods, "alice", now + SECOND), Verdict::Fine);
        assert_eq!(judge(&mut floods, "bob", now + 9999 * SECOND), Verdict::Ignored);
        assert_eq!(floods.ignored(now + SECOND).len(), 1);
        assert!(floods.listen("*!*@Bob.test") && !floods.listen("*!*@bob.test"));
        assert_eq!(judge(&mut floods, "bob", now), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_hosts_cost_no_memory() {
        let mut floods = Floods::default();
        let now = Instant::now();
        for n in 0..100_000 {
            floods.judge(&FloodSettings::default(), &said(&format!("n{n}"), None, None), false, now);
        }
        assert!(floods.full_at.len() <= BUCKETS_MAX + 1);
    }
}
