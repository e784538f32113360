//! What of somebody another bot may add: what came since it was seen last, where it is nobody else's, and never more than a record holds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::book::Book;
use super::flags::{FlagSet, Section};
use super::user::{OF_ONE, User, UserFault};

/// What was seen of somebody who can be taken over: what comes later is news, what was seen before is not, whatever became of it here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Flags that count everywhere.
    pub flags: String,
    /// Flags on channels.
    pub channels: BTreeMap<String, String>,
    /// Hostmasks.
    pub hosts: BTreeSet<String>,
    /// Accounts, `network/account`.
    pub accounts: BTreeSet<String>,
    /// Fingerprints.
    pub certs: BTreeSet<String>,
}

impl Seen {
    /// All of a record.
    pub fn of(user: &User) -> Seen {
        Seen {
            flags: user.flags.to_string(),
            channels: user.channels.iter().map(|(name, flags)| (name.clone(), flags.to_string())).collect(),
            hosts: user.hosts.iter().cloned().collect(),
            accounts: user.accounts.iter().map(|(network, account)| format!("{network}/{account}")).collect(),
            certs: user.certs.iter().cloned().collect(),
        }
    }

    /// What of this was not there before.
    #[must_use]
    pub fn since(&self, before: &Seen) -> Seen {
        let channel = |(name, flags): (&String, &String)| {
            let flags = read(flags).without(before.channels.get(name).map_or(FlagSet::NONE, |flags| read(flags)));
            (!flags.is_empty()).then(|| (name.clone(), flags.to_string()))
        };
        Seen {
            flags: read(&self.flags).without(read(&before.flags)).to_string(),
            channels: self.channels.iter().filter_map(channel).collect(),
            hosts: self.hosts.difference(&before.hosts).cloned().collect(),
            accounts: self.accounts.difference(&before.accounts).cloned().collect(),
            certs: self.certs.difference(&before.certs).cloned().collect(),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Seen::default()
            || Seen { flags: String::new(), ..self.clone() } == Seen::default() && self.flags == "-"
    }

    /// A record with this beside what it has, and what finds no place there. It loses nothing: where a letter would push out one that
    /// is held, it stays out.
    pub fn added_to(&self, user: &User) -> (User, Vec<String>) {
        let (mut after, mut left) = (user.clone(), Vec::new());
        let mut with = |held: FlagSet, more: &str, section, place: &str| {
            let all = held.union(read(more)).settled(section, FlagSet::NONE);
            let loses = !held.without(all).is_empty();
            if loses {
                left.push(format!("the flags {more}{place}, which go not with {held}"));
            }
            if loses { held } else { all }
        };
        after.flags = with(user.flags, &self.flags, Section::Global, "");
        let mut full = 0;
        for (channel, flags) in &self.channels {
            let held = user.channels.get(channel).copied().unwrap_or_default();
            if held.is_empty() && after.channels.len() >= OF_ONE {
                full += 1;
                continue;
            }
            let all = with(held, flags, Section::Channel, &format!(" in {channel}"));
            if !all.is_empty() {
                after.channels.insert(channel.clone(), all);
            }
        }
        // What is none of these here was seen as none before, too. What was given and taken away there again is still here, so it is
        // counted here.
        for host in &self.hosts {
            if after.hosts.len() < OF_ONE { drop(after.add_host(host)) } else { full += 1 }
        }
        for account in &self.accounts {
            if after.accounts.len() < OF_ONE { drop(after.add_account(account)) } else { full += 1 }
        }
        for cert in &self.certs {
            if after.certs.len() < OF_ONE { drop(after.add_cert(cert)) } else { full += 1 }
        }
        left.extend((full > 0).then(|| format!("{full} more by which somebody is known: {OF_ONE} of a sort are here")));
        (after, left)
    }

    /// In words: `+of, +o in #lab, the hostmask *!a@b`.
    pub fn words(&self) -> String {
        let flags = (!read(&self.flags).is_empty()).then(|| format!("+{}", self.flags));
        let channels = self.channels.iter().map(|(name, flags)| format!("+{flags} in {name}"));
        let named = |what: &'static str, all: &BTreeSet<String>| {
            all.iter().map(|one| format!("the {what} {one}")).collect::<Vec<_>>()
        };
        let known =
            [named("hostmask", &self.hosts), named("account", &self.accounts), named("certificate", &self.certs)];
        flags.into_iter().chain(channels).chain(known.concat()).collect::<Vec<_>>().join(", ")
    }
}

/// What cannot be read is no letter.
fn read(flags: &str) -> FlagSet {
    FlagSet::parse(flags).unwrap_or_default()
}

/// What is somebody's already: an account or a certificate is one person's only.
#[derive(Debug)]
pub struct Claims {
    book: Book,
    /// What others were given since, and who.
    taken: BTreeMap<String, String>,
}

impl Claims {
    /// As this book says.
    pub fn of(book: Book) -> Claims {
        Claims { book, taken: BTreeMap::new() }
    }

    /// A record as it may be, of what it was; and what of it is somebody else's.
    pub fn granted(&mut self, before: &User, mut user: User) -> (User, Vec<String>) {
        let mut left = Vec::new();
        let accounts = std::mem::take(&mut user.accounts);
        let certs = std::mem::take(&mut user.certs);
        (user.accounts, user.certs) = (before.accounts.clone(), before.certs.clone());
        for account in accounts {
            let what = format!("{}/{}", account.0, account.1);
            let held = |user: &User| user.accounts.contains(&account);
            self.adds(&mut user, &what, &held, &|user| user.accounts.push(account.clone()), &mut left);
        }
        for cert in certs {
            let held = |user: &User| user.certs.contains(&cert);
            self.adds(&mut user, &cert, &held, &|user| user.certs.push(cert.clone()), &mut left);
        }
        user.accounts.sort();
        (user, left)
    }

    fn adds(
        &mut self,
        user: &mut User,
        what: &str,
        held: &dyn Fn(&User) -> bool,
        add: &dyn Fn(&mut User),
        left: &mut Vec<String>,
    ) {
        if held(user) {
            return;
        }
        let key = what.to_ascii_lowercase();
        let mut with = user.clone();
        add(&mut with);
        let other = self.taken.get(&key).filter(|handle| !handle.eq_ignore_ascii_case(&user.handle));
        let taken = match other {
            Some(handle) => Err(UserFault::Taken { what: what.to_owned(), handle: handle.clone() }),
            None => self.book.may_put(&with, None),
        };
        match taken {
            Ok(()) => {
                self.taken.insert(key, user.handle.clone());
                *user = with;
            }
            Err(fault) => left.push(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(flags: &str, channel: &str) -> User {
        let mut user = User::new("carol").unwrap();
        user.change_flags(flags).unwrap();
        user.change_channel_flags("#lab", channel).unwrap();
        user
    }

    #[test]
    fn only_what_came_since_is_added_and_what_is_held_is_not_pushed_out() {
        let before = Seen::of(&user("f", "v"));
        let mut now = user("fo", "vo");
        now.add_host("*!c@new.example").unwrap();
        let news = Seen::of(&now).since(&before);
        assert_eq!(news.words(), "+lo, +lo in #lab, the hostmask *!c@new.example");
        assert!(Seen::of(&now).since(&Seen::of(&now)).is_empty() && before.since(&Seen::of(&now)).is_empty());
        // Here `f` was taken away meanwhile, and stays so.
        let (after, left) = news.added_to(&user("-", "-"));
        assert_eq!((after.flags.to_string().as_str(), left.len()), ("lo", 0));
        let bad = Seen { flags: "d".to_owned(), ..Seen::default() };
        let (after, left) = bad.added_to(&user("o", "-"));
        assert_eq!((after.flags.to_string().as_str(), left.len()), ("lo", 1), "{left:?}");
    }

    #[test]
    fn an_account_is_one_persons_only() {
        let book = Book::new();
        book.put(User::with_account("alice", "libera", "alice", "o").unwrap()).unwrap();
        let mut claims = Claims::of(book);
        let of = |handle: &str, account: &str| User::with_account(handle, "libera", account, "").unwrap();
        let blank = |handle: &str| User::new(handle).unwrap();
        let (carol, left) = claims.granted(&blank("carol"), of("carol", "Alice"));
        assert!(carol.accounts.is_empty() && left[0].contains("belongs to alice"), "{left:?}");
        assert_eq!(claims.granted(&blank("carol"), of("carol", "shared")).0.accounts.len(), 1);
        let (dave, left) = claims.granted(&blank("dave"), of("dave", "SHARED"));
        assert!(dave.accounts.is_empty() && left[0].contains("belongs to carol"), "{left:?}");
        assert_eq!(claims.granted(&of("erin", "erin"), of("erin", "erin")).1.len(), 0);
    }

    #[test]
    fn what_is_given_and_taken_away_again_there_does_not_grow_here_without_end() {
        let mut carol = User::new("carol").unwrap();
        for one in 0..3 * OF_ONE {
            let hosts = BTreeSet::from([format!("*!c@host{one}")]);
            let channels = BTreeMap::from([(format!("#lab{one}"), "o".to_owned())]);
            let left;
            (carol, left) = Seen { hosts, channels, ..Seen::default() }.added_to(&carol);
            assert_eq!(left.is_empty(), one < OF_ONE, "{left:?}");
        }
        assert_eq!((carol.hosts.len(), carol.channels.len()), (OF_ONE, OF_ONE));
    }
}
