//! Netsplits: who was lost in one, who came back, and one word for all of it. Pure; time is handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long somebody may take to come back and still be one who comes back: Eggdrop's `wait-split`.
const WAIT_SPLIT: Duration = Duration::from_secs(600);
/// A split is told when nobody was lost for so long.
const QUIET: Duration = Duration::from_secs(2);
/// People remembered; more are forgotten, oldest split first.
const LOST_MAX: usize = 100_000;
/// Splits remembered.
const SPLITS_MAX: usize = 64;

/// Somebody who was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    user: String,
    host: String,
    /// The folded names of the channels not come back to yet.
    channels: Vec<String>,
}

/// One split.
#[derive(Debug)]
struct Split {
    servers: String,
    last: Instant,
    told: bool,
    count: usize,
    /// By folded nick.
    lost: BTreeMap<String, Lost>,
}

/// A split to tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The two servers, as the server names them.
    pub(super) servers: String,
    /// How many people were lost that we shared a channel with.
    pub(super) lost: usize,
}

/// The splits of one network, oldest first.
#[derive(Debug, Default)]
pub(super) struct Splits {
    open: Vec<Split>,
}

impl Splits {
    /// Somebody quits because of a split. `channels` are folded.
    pub(super) fn lost(&mut self, servers: &str, nick: &str, at: (&str, &str), channels: Vec<String>, now: Instant) {
        self.forget(now);
        let found = self.open.iter().position(|split| split.servers == servers && !split.told);
        let at_split = found.unwrap_or_else(|| {
            if self.open.len() >= SPLITS_MAX {
                self.open.remove(0);
            }
            let servers = servers.to_owned();
            self.open.push(Split { servers, last: now, told: false, count: 0, lost: BTreeMap::new() });
            self.open.len() - 1
        });
        let full = self.open.iter().map(|split| split.lost.len()).sum::<usize>() >= LOST_MAX;
        let split = &mut self.open[at_split];
        split.last = now;
        split.count += 1;
        if !full {
            let (user, host) = (at.0.to_owned(), at.1.to_owned());
            split.lost.insert(nick.to_owned(), Lost { user, host, channels });
        }
    }

    /// Somebody joins: whether they were lost from this channel and are back. Nick and channel are folded. Another person behind the
    /// same nick is not back but new.
    pub(super) fn is_back(&mut self, nick: &str, at: (&str, &str), chan: &str, now: Instant) -> bool {
        self.forget(now);
        for split in &mut self.open {
            let Some(lost) = split.lost.get_mut(nick) else { continue };
            if (lost.user.as_str(), lost.host.as_str()) != at {
                split.lost.remove(nick);
                return false;
            }
            let Some(place) = lost.channels.iter().position(|name| name == chan) else { continue };
            lost.channels.swap_remove(place);
            if lost.channels.is_empty() {
                split.lost.remove(nick);
            }
            return true;
        }
        false
    }

    /// Splits that are over as far as losing goes, each told once.
    pub(super) fn ripe(&mut self, now: Instant) -> Vec<Report> {
        let ripe = self.open.iter_mut().filter(|split| !split.told && now >= split.last + QUIET);
        ripe.map(|split| {
            split.told = true;
            Report { servers: split.servers.clone(), lost: split.count }
        })
        .collect()
    }

    /// When one will be ripe.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().filter(|split| !split.told).map(|split| split.last + QUIET).min()
    }

    fn forget(&mut self, now: Instant) {
        self.open.retain(|split| now < split.last + WAIT_SPLIT);
    }
}

/// The two servers, if this is how a split is told: two names of servers with a blank between and nothing else. Servers put a word
/// in front of what people say when they quit, so that nobody can play a split.
pub(super) fn servers(reason: &str) -> Option<&str> {
    let (one, other) = reason.split_once(' ')?;
    let is_server = |name: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*');
        name.len() <= 63
            && name.contains('.')
            && name.bytes().all(inside)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
    };
    (is_server(one) && is_server(other) && one != other).then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_split_is_two_servers_and_nothing_else() {
        assert!(servers("irc.lab.test leaf.lab.test").is_some());
        assert!(servers("*.net *.split").is_some());
        for other in [
            "Quit: a.b c.d",
            "see example.com now",
            "a.b",
            "a.b a.b",
            "hello world",
            "a.b c",
            "http://a.b c.d",
            ".a. b.c",
            "a..b c.d",
        ] {
            assert!(servers(other).is_none(), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_lost_is_back_once_in_each_channel_and_only_as_the_same_person() {
        let mut splits = Splits::default();
        let now = Instant::now();
        let at = ("a", "h");
        splits.lost("a.b c.d", "alice", at, vec!["#ops".to_owned(), "#dev".to_owned()], now);
        splits.lost("a.b c.d", "bob", at, vec!["#ops".to_owned()], now);
        assert!(splits.is_back("alice", at, "#ops", now + SECOND));
        assert!(!splits.is_back("alice", at, "#ops", now + SECOND), "that is an ordinary join");
        assert!(!splits.is_back("alice", at, "#other", now + SECOND));
        assert!(splits.is_back("alice", at, "#dev", now + SECOND));
        assert!(!splits.is_back("bob", ("x", "evil"), "#ops", now + SECOND));
        assert!(!splits.is_back("bob", at, "#ops", now + SECOND), "the nick was another's meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn after_ten_minutes_nobody_comes_back_any_more() {
        let mut splits = Splits::default();
        let now = Instant::now();
        splits.lost("a.b c.d", "alice", ("a", "h"), vec!["#ops".to_owned()], now);
        assert!(!splits.is_back("alice", ("a", "h"), "#ops", now + WAIT_SPLIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_split_is_told_once_with_all_who_were_lost() {
        let mut splits = Splits::default();
        let now = Instant::now();
        for n in 0..500 {
            splits.lost("a.b c.d", &format!("n{n}"), ("a", "h"), Vec::new(), now + SECOND * (n / 250));
        }
        assert_eq!(splits.due(), Some(now + 3 * SECOND));
        assert_eq!(splits.ripe(now + 2 * SECOND), []);
        let report = Report { servers: "a.b c.d".to_owned(), lost: 500 };
        assert_eq!(splits.ripe(now + 3 * SECOND), [report]);
        assert_eq!((splits.ripe(now + 9 * SECOND), splits.due()), (Vec::new(), None));
    }
}
