//! Floods: who says too much too fast, and who is ignored for it. Pure; time is handed in.
//!
//! Eggdrop counts one host at a time, so that two who take turns never trip it. Here every host, every account and every channel has
//! a bucket of its own.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use masterchief_contract::{CaseMap, EventData, Kind, wild_match};
use serde::Deserialize;
use tokio::time::Instant;

/// Buckets kept; those that are full again are dropped first.
const BUCKETS_MAX: usize = 16_384;
/// How often full buckets are looked for where there is no room left: looking at all of them for each line would be a flood's victory.
const SWEEP: Duration = Duration::from_secs(1);
/// Ignored masks kept.
const IGNORES_MAX: usize = 4096;
/// A channel's bucket is so many times one person's.
const CHANNEL_TIMES: u32 = 6;

/// What counts as a flood. The defaults are Eggdrop's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FloodSettings {
    /// Private messages and notices, and messages of nothing but tags.
    pub msg: Rate,
    /// Lines, notices, actions, reactions and invitations in channels.
    #[serde(rename = "pub")]
    pub public: Rate,
    /// CTCPs, in private and in channels.
    pub ctcp: Rate,
    /// Joins.
    pub join: Rate,
    /// Changes of nick.
    pub nick: Rate,
    /// Operators whom one person takes their status.
    pub deop: Rate,
    /// People whom one person kicks.
    pub kick: Rate,
    /// How long somebody is ignored.
    #[serde(with = "humantime_serde")]
    pub ignore: Duration,
    /// What else becomes of who floods a channel in which the bot is op.
    pub deed: Deed,
    /// Channels that differ, by `#channel` or `NETWORK/#channel`, of which the second counts.
    pub channels: BTreeMap<String, ChannelRates>,
}

/// How a channel differs. What is not said is as everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelRates {
    /// Lines, notices and actions.
    #[serde(rename = "pub")]
    pub public: Option<Rate>,
    /// CTCPs.
    pub ctcp: Option<Rate>,
    /// Joins.
    pub join: Option<Rate>,
    /// Changes of nick.
    pub nick: Option<Rate>,
    /// Operators who lose their status.
    pub deop: Option<Rate>,
    /// Kicks.
    pub kick: Option<Rate>,
    /// What else becomes of who floods there.
    pub deed: Option<Deed>,
}

/// What becomes of who floods a channel, beside not being listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Nothing.
    #[default]
    Ignore,
    /// They are kicked.
    Kick,
    /// They are kicked, and their host is banned for as long as it is ignored.
    Ban,
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
        let quick = Rate { lines: 3, within: Duration::from_secs(10) };
        FloodSettings {
            msg: rate(5),
            public: rate(15),
            ctcp: rate(3),
            join: rate(5),
            nick: rate(5),
            deop: quick,
            kick: quick,
            ignore: Duration::from_secs(900),
            deed: Deed::Ignore,
            channels: BTreeMap::new(),
        }
    }
}

impl FloodSettings {
    /// What becomes of who floods with this event.
    pub fn deed_of(&self, event: &EventData) -> Deed {
        own_rates(self, event).and_then(|rates| rates.deed).unwrap_or(self.deed)
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
    /// It is one too many of what nobody is ignored for: `deop`, `kick`. It is told, and all else is as it was.
    Told {
        /// Of which type.
        kind: &'static str,
        /// Who it was.
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

/// What somebody is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// Nothing.
    Nothing,
    /// Being counted; they may be ignored by hand.
    Counting,
    /// Being ignored too: whoever could undo it must be heard.
    All,
}

/// As what an event counts.
struct Counted {
    kind: &'static str,
    rate: Rate,
    /// Whether every channel has a bucket of its own for it: it has a rate of its own, or one deed is told in every channel.
    apart: bool,
    /// Whether it is told and nothing more.
    told: bool,
}

/// The buckets of all networks.
#[derive(Debug, Default)]
pub struct Floods {
    /// When each will be full again, by type, network and owner.
    full_at: HashMap<(&'static str, String, Who), Instant>,
    ignores: Vec<Ignore>,
    /// When full buckets were last dropped.
    swept: Option<Instant>,
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
    /// What led to it.
    pub since: Since,
}

/// What led to somebody being ignored. The first goes first where there is no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Since {
    /// A flood. It does not bind those whose floods are not counted: somebody else on their host floods.
    Flood,
    /// Somebody said so.
    Said,
}

impl Floods {
    /// What is to be done about an event.
    pub fn judge(&mut self, settings: &FloodSettings, event: &EventData, spared: Spared, now: Instant) -> Verdict {
        let Some(actor) = event.actor.as_ref().filter(|actor| !actor.own && actor.login.is_none()) else {
            return Verdict::Fine;
        };
        let heard = spared == Spared::All || concerns_others(event);
        if !heard && self.is_ignored(&actor.source(), spared, event.casemap, now) {
            return Verdict::Ignored;
        }
        let Some(Counted { kind, rate, apart, told }) = counted(settings, event) else { return Verdict::Fine };
        // A server's own deeds have no host.
        if spared != Spared::Nothing || rate.lines == 0 || rate.within.is_zero() || told && actor.host.is_empty() {
            return Verdict::Fine;
        }
        let network = event.network.to_string();
        let chan = event.chan.as_ref().map(|chan| event.casemap.fold(chan));
        // No host and no account has a blank in it.
        let place = chan.as_ref().filter(|_| apart).map_or(String::new(), |chan| format!(" {chan}"));
        let owner = |name: &str| format!("{}{place}", name.to_ascii_lowercase());
        let mut too_many = !self.take(kind, &network, Who::Host(owner(&actor.host)), rate, now);
        if let Some(account) = &actor.account {
            too_many |= !self.take(kind, &network, Who::Account(owner(account)), rate, now);
        }
        if too_many {
            let mask = format!("*!*@{}", actor.host.replace(['*', '?', '%', '~', '\\'], "?"));
            return if told { Verdict::Told { kind, mask } } else { Verdict::Flood { kind, mask } };
        }
        let Some(chan) = chan.filter(|_| !told) else { return Verdict::Fine };
        let crowd = Rate { lines: rate.lines.saturating_mul(CHANNEL_TIMES), ..rate };
        if self.take(kind, &network, Who::Channel(chan), crowd, now) { Verdict::Fine } else { Verdict::Crowd }
    }

    /// Ignores a mask until then. Gives who is ignored no more because there is no room: of floods first, and whose time ends first.
    pub fn ignore(&mut self, ignore: Ignore, now: Instant) -> Option<Ignore> {
        let same = |old: &Ignore| old.mask.eq_ignore_ascii_case(&ignore.mask);
        self.ignores.retain(|old| !same(old) && old.until.is_none_or(|until| until > now));
        let full = self.ignores.len() >= IGNORES_MAX;
        // For ever ends last.
        let worth = |one: &Ignore| (one.since, one.until.is_none(), one.until);
        let first = self.ignores.iter().enumerate().filter(|_| full).min_by_key(|(_, one)| worth(one));
        let gone = match first.map(|(at, one)| (at, one.since)) {
            // A flood takes nobody's place who was named.
            Some((_, Since::Said)) if ignore.since == Since::Flood => return Some(ignore),
            Some((at, _)) => Some(self.ignores.remove(at)),
            None => None,
        };
        self.ignores.push(ignore);
        gone
    }

    /// Listens again; gives the mask as it was written when it was ignored, if it was.
    pub fn listen(&mut self, mask: &str) -> Option<String> {
        let at = self.ignores.iter().position(|ignore| ignore.mask.eq_ignore_ascii_case(mask))?;
        Some(self.ignores.remove(at).mask)
    }

    /// Who is ignored now.
    pub fn ignored(&mut self, now: Instant) -> Vec<Ignore> {
        self.ignores.retain(|ignore| ignore.until.is_none_or(|until| until > now));
        self.ignores.clone()
    }

    fn is_ignored(&self, source: &str, spared: Spared, casemap: CaseMap, now: Instant) -> bool {
        let binds = |ignore: &Ignore| spared == Spared::Nothing || ignore.since == Since::Said;
        let holds = |ignore: &&Ignore| binds(ignore) && ignore.until.is_none_or(|until| until > now);
        self.ignores.iter().filter(holds).any(|ignore| wild_match(&ignore.mask, source, casemap))
    }

    /// Takes one from a bucket, or finds it empty.
    fn take(&mut self, kind: &'static str, network: &str, who: Who, rate: Rate, now: Instant) -> bool {
        let key = (kind, network.to_owned(), who);
        if self.full_at.len() >= BUCKETS_MAX {
            if self.swept.is_none_or(|at| now >= at + SWEEP) {
                self.full_at.retain(|_, full| *full > now);
                self.swept = Some(now);
            }
            // So many at once is a flood of hosts; who is there already stays counted, the rest pass uncounted.
            let known = self.full_at.len() < BUCKETS_MAX || self.full_at.contains_key(&key);
            if !known && !matches!(key.2, Who::Channel(_)) {
                return true;
            }
        }
        let one = rate.within / rate.lines;
        let full = self.full_at.entry(key).or_insert(now);
        let from = (*full).max(now);
        if from + one > now + rate.within {
            return false;
        }
        *full = from + one;
        true
    }
}

/// Whether an event is heard of whoever did it: it is done to others, or is no deed of theirs.
fn concerns_others(event: &EventData) -> bool {
    matches!(event.kinds.first().copied(), Some(Kind::Mode | Kind::Kick | Kind::Monitor | Kind::Raw | Kind::Rawt))
}

/// Whether a message of nothing but tags says something by itself. That somebody types is said all the time, and a reaction is an
/// event of its own.
fn says_something(event: &EventData) -> bool {
    const QUIET: [&str; 8] =
        ["typing", "draft/typing", "react", "draft/react", "unreact", "draft/unreact", "reply", "draft/reply"];
    event.tags.iter().filter_map(|(name, _)| name.strip_prefix('+')).any(|name| !QUIET.contains(&name))
}

/// What an event counts as.
fn counted(settings: &FloodSettings, event: &EventData) -> Option<Counted> {
    let private = event.chan.is_none();
    // Of these one deed is an event in every channel, and people come back to all of theirs at once.
    let everywhere = |kind, rate| (kind, rate, true, false);
    let here = |kind, rate| (kind, rate, false, false);
    let (kind, rate, apart, told) = match *event.kinds.first()? {
        Kind::Pubm => here("pub", settings.public),
        Kind::Msgm => here("msg", settings.msg),
        Kind::Notc if private => here("msg", settings.msg),
        Kind::Notc => here("pub", settings.public),
        Kind::React | Kind::Invt => here("pub", settings.public),
        Kind::Tagmsg if !says_something(event) => return None,
        Kind::Tagmsg if private => here("msg", settings.msg),
        Kind::Tagmsg => here("pub", settings.public),
        // An action is words.
        Kind::Ctcp if event.field_str("keyword") == "ACTION" && !private => here("pub", settings.public),
        Kind::Ctcp => here("ctcp", settings.ctcp),
        Kind::Join => everywhere("join", settings.join),
        Kind::Nick => everywhere("nick", settings.nick),
        Kind::Mode if event.field_str("mode") == "-o" => ("deop", settings.deop, true, true),
        Kind::Kick => ("kick", settings.kick, true, true),
        _ => return None,
    };
    let own = own_rates(settings, event).and_then(|rates| match kind {
        "pub" => rates.public,
        "ctcp" => rates.ctcp,
        "join" => rates.join,
        "nick" => rates.nick,
        "deop" => rates.deop,
        "kick" => rates.kick,
        _ => None,
    });
    Some(Counted { kind, rate: own.unwrap_or(rate), apart: apart || own.is_some(), told })
}

/// How the event's channel differs.
fn own_rates<'a>(settings: &'a FloodSettings, event: &EventData) -> Option<&'a ChannelRates> {
    let chan = event.chan.as_deref()?;
    let of_this = |name: &str| event.casemap.eq(name, chan);
    let on_this = |name: &str| {
        let parts = name.strip_prefix(&*event.network).and_then(|rest| rest.strip_prefix('/'));
        parts.is_some_and(of_this)
    };
    let mut rows = settings.channels.iter();
    let exact = rows.clone().find(|(name, _)| on_this(name));
    exact.or_else(|| rows.find(|(name, _)| of_this(name))).map(|(_, rates)| rates)
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

    fn ignored(mask: &str, until: Option<Instant>, since: Since) -> Ignore {
        Ignore { mask: mask.to_owned(), until, reason: "a story".to_owned(), since }
    }

    /// How many of `count` events in a row are fine, one every `every`.
    fn fine(floods: &mut Floods, events: &[EventData], count: usize, every: Duration, start: Instant) -> usize {
        let settings = FloodSettings::default();
        let judged = (0..count)
            .map(|n| floods.judge(&settings, &events[n % events.len()], Spared::Nothing, start + every * n as u32));
        judged.filter(|verdict| *verdict == Verdict::Fine).count()
    }

    #[tokio::test(start_paused = true)]
    async fn five_private_messages_are_fine_and_the_sixth_is_a_flood_until_time_has_passed() {
        let mut floods = Floods::default();
        let now = Instant::now();
        let event = said("alice", None, None);
        assert_eq!(fine(&mut floods, std::slice::from_ref(&event), 6, Duration::ZERO, now), 5);
        let verdict = floods.judge(&FloodSettings::default(), &event, Spared::Nothing, now);
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
        assert_eq!(floods.judge(&FloodSettings::default(), &crowd[499], Spared::Nothing, now), Verdict::Crowd);
        let elsewhere = said("n1", None, Some("#dev"));
        assert_eq!(floods.judge(&FloodSettings::default(), &elsewhere, Spared::Nothing, now), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn friends_and_ourselves_are_not_counted_and_zero_is_no_limit() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let settings = FloodSettings::default();
        let event = said("alice", None, None);
        assert!((0..100).all(|_| floods.judge(&settings, &event, Spared::Counting, now) == Verdict::Fine));
        let off = FloodSettings { msg: Rate { lines: 0, within: SECOND }, ..FloodSettings::default() };
        assert!((0..100).all(|_| floods.judge(&off, &event, Spared::Nothing, now) == Verdict::Fine));
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_may_have_rates_of_its_own_and_one_network_differ_from_the_others() {
        let rates =
            |lines| ChannelRates { public: Some(Rate { lines, within: 60 * SECOND }), ..ChannelRates::default() };
        let channels =
            [("#Ops".to_owned(), rates(2)), ("net/#ops".to_owned(), rates(3)), ("#quiet".to_owned(), rates(0))];
        let settings = FloodSettings { channels: BTreeMap::from(channels), ..FloodSettings::default() };
        let mut floods = Floods::default();
        let now = Instant::now();
        let mut fine = |chan: &str, network: &str| {
            let mut event = said("alice", None, Some(chan));
            event.network = Arc::from(network);
            (0..20).filter(|_| floods.judge(&settings, &event, Spared::Nothing, now) == Verdict::Fine).count()
        };
        assert_eq!((fine("#ops", "net"), fine("#OPS", "other"), fine("#dev", "net")), (3, 2, 15));
        assert_eq!(fine("#quiet", "net"), 20, "0 is no limit there");
    }

    #[tokio::test(start_paused = true)]
    async fn one_deed_that_is_told_in_many_channels_is_one_deed() {
        let mut floods = Floods::default();
        let now = Instant::now();
        let mut renames = |kind: &'static [Kind]| {
            let in_channel = |chan: &str| EventData { kinds: kind, ..said("alice", None, Some(chan)) };
            let events: Vec<EventData> = (0..9).map(|n| in_channel(&format!("#c{n}"))).collect();
            (0..6).map(|_| fine(&mut floods, &events, 9, Duration::ZERO, now)).collect::<Vec<_>>()
        };
        assert_eq!(renames(&[Kind::Nick]), [9, 9, 9, 9, 9, 0]);
        assert_eq!(renames(&[Kind::Join]), [9, 9, 9, 9, 9, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_kicks_or_deops_many_at_once_is_told_of_and_not_ignored() {
        let mut floods = Floods::default();
        let now = Instant::now();
        let settings = FloodSettings::default();
        let mut deop = said("alice", None, Some("#ops"));
        deop.kinds = &[Kind::Mode];
        deop.fields = vec![("mode", "-o".into())];
        let kick = EventData { kinds: &[Kind::Kick], ..deop.clone() };
        for (event, kind) in [(&deop, "deop"), (&kick, "kick")] {
            let judged: Vec<Verdict> = (0..4).map(|_| floods.judge(&settings, event, Spared::Nothing, now)).collect();
            assert_eq!(judged[..3], [Verdict::Fine, Verdict::Fine, Verdict::Fine]);
            assert_eq!(judged[3], Verdict::Told { kind, mask: "*!*@alice.test".to_owned() });
        }
        deop.fields = vec![("mode", "+o".into())];
        assert_eq!(floods.judge(&settings, &deop, Spared::Nothing, now), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_ignored_is_not_heard_until_the_time_is_over() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let settings = FloodSettings::default();
        let ignore = |mask: &str, until| ignored(mask, until, Since::Said);
        floods.ignore(ignore("*!*@ALICE.test", Some(now + SECOND)), now);
        floods.ignore(ignore("*!*@bob.test", None), now);
        let judge =
            |floods: &mut Floods, nick, at| floods.judge(&settings, &said(nick, None, None), Spared::Counting, at);
        assert_eq!(judge(&mut floods, "alice", now), Verdict::Ignored, "friends too, if somebody says so");
        assert_eq!(judge(&mut floods, "alice", now + SECOND), Verdict::Fine);
        assert_eq!(judge(&mut floods, "bob", now + 9999 * SECOND), Verdict::Ignored);
        assert_eq!(floods.ignored(now + SECOND).len(), 1);
        let owner = said("bob", None, None);
        assert_eq!(floods.judge(&settings, &owner, Spared::All, now), Verdict::Fine, "who could undo it is heard");
        floods.ignore(ignore("*!*@BOB.test", None), now);
        assert_eq!(floods.listen("*!*@Bob.test").as_deref(), Some("*!*@BOB.test"), "as it was written last, and once");
        assert_eq!(floods.listen("*!*@bob.test"), None);
        assert_eq!(judge(&mut floods, "bob", now), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_spared_is_not_ignored_for_the_flood_of_somebody_else_on_the_host() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let settings = FloodSettings::default();
        let event = said("gateway", None, Some("#ops"));
        floods.ignore(ignored("*!*@gateway.test", None, Since::Flood), now);
        assert_eq!(floods.judge(&settings, &event, Spared::Nothing, now), Verdict::Ignored);
        assert_eq!(floods.judge(&settings, &event, Spared::Counting, now), Verdict::Fine);
        floods.ignore(ignored("*!*@gateway.test", None, Since::Said), now);
        assert_eq!(floods.judge(&settings, &event, Spared::Counting, now), Verdict::Ignored, "somebody said so");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_many_hosts_throws_out_nobody_who_was_named() {
        let now = Instant::now();
        let mut floods = Floods::default();
        let until = |seconds: usize| Some(now + SECOND * u32::try_from(seconds).unwrap());
        assert_eq!(floods.ignore(ignored("named!*@*", until(60), Since::Said), now), None);
        for n in 1..IGNORES_MAX {
            // The one whose time ends first is neither the oldest nor the newest.
            let seconds = if n == 7 { 600 } else { 900 + n };
            assert_eq!(floods.ignore(ignored(&format!("*!*@h{n}"), until(seconds), Since::Flood), now), None);
        }
        let gone = |gone: Option<Ignore>| gone.map(|gone| gone.mask);
        let mut flood = |mask: &str| gone(floods.ignore(ignored(mask, until(9999), Since::Flood), now));
        assert_eq!(flood("*!*@more").as_deref(), Some("*!*@h7"));
        assert_eq!(flood("*!*@most").as_deref(), Some("*!*@h1"));
        assert!(floods.ignored(now).iter().any(|one| one.mask == "named!*@*"));

        let mut floods = Floods::default();
        for n in 0..IGNORES_MAX {
            floods.ignore(ignored(&format!("n{n}!*@*"), until(900 + n), Since::Said), now);
        }
        let late = floods.ignore(ignored("*!*@more", None, Since::Flood), now);
        assert_eq!(gone(late).as_deref(), Some("*!*@more"), "all the others were named");
        let named = floods.ignore(ignored("more!*@*", until(5), Since::Said), now);
        assert_eq!(gone(named).as_deref(), Some("n0!*@*"), "who names somebody is believed");
        assert_eq!(floods.ignored(now).len(), IGNORES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_ignored_is_not_heard_in_another_way() {
        let now = Instant::now();
        let mut floods = Floods::default();
        floods.ignore(ignored("*!*@mallory.test", None, Since::Flood), now);
        let mut judge = |kinds: &'static [Kind]| {
            let event = EventData { kinds, ..said("mallory", None, Some("#ops")) };
            floods.judge(&FloodSettings::default(), &event, Spared::Nothing, now)
        };
        for kinds in [
            &[Kind::React],
            &[Kind::Tagmsg],
            &[Kind::Redact],
            &[Kind::Invt],
            &[Kind::Topc],
            &[Kind::Part],
            &[Kind::Sign],
            &[Kind::Ircaway],
            &[Kind::Hist],
        ] {
            assert_eq!(judge(kinds), Verdict::Ignored, "{kinds:?}");
        }
        for kinds in [&[Kind::Mode], &[Kind::Kick], &[Kind::Monitor], &[Kind::Rawt]] {
            assert_eq!(judge(kinds), Verdict::Fine, "{kinds:?}: what is done to others is heard");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reactions_and_invitations_count_as_words_and_typing_does_not() {
        let now = Instant::now();
        let of = |kinds: &'static [Kind], tag: &str| {
            let tags = vec![(tag.to_owned(), "x".to_owned())];
            EventData { kinds, tags, ..said("alice", None, Some("#ops")) }
        };
        for (event, most) in [
            (of(&[Kind::React], "+draft/react"), 15),
            (of(&[Kind::Invt], ""), 15),
            (of(&[Kind::Tagmsg], "+example/wave"), 15),
            (of(&[Kind::Tagmsg], "+typing"), 99),
            (of(&[Kind::Tagmsg], "+draft/react"), 99),
        ] {
            assert_eq!(fine(&mut Floods::default(), &[event], 99, Duration::ZERO, now), most);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_hosts_cost_no_memory() {
        let mut floods = Floods::default();
        let now = Instant::now();
        for n in 0..100_000 {
            floods.judge(&FloodSettings::default(), &said(&format!("n{n}"), None, None), Spared::Nothing, now);
        }
        assert!(floods.full_at.len() <= BUCKETS_MAX + 1);
        let first = said("n0", None, None);
        assert_eq!(fine(&mut floods, &[first], 9, Duration::ZERO, now), 4, "who is known is counted on");
    }
}
