//! The book of users: recognises people and tells what they may.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use masterchief_contract::{Actor, CaseMap, Who, wild_match};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::elevation::{Elevation, Sudo};
use super::flags::{FlagFault, FlagSet, Section};
use super::standing::Standing;
use super::user::{CONSOLE, User, UserFault};

/// The bot's own network, whose people have logged in to the bot itself.
pub const PARTYLINE: &str = "partyline";

/// How people are judged. A block of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Names for sets of global flags: `deployer: "D"`.
    pub roles: BTreeMap<String, String>,
    /// Flags that a hostmask alone grants. The others need somebody who can know: services, a certificate, a login.
    pub hostmask_flags: String,
    /// How people may be elevated for a while.
    pub sudo: Sudo,
}

/// The book. Cheap to clone; all clones are the same one. Reading takes no lock.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pages: Arc<ArcSwap<Pages>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The records have changed: somebody who was elevated may have none any more.
    lowered: Arc<Notify>,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    users: BTreeMap<String, Arc<User>>,
    by_account: HashMap<(String, String), Arc<User>>,
    by_cert: HashMap<String, Arc<User>>,
    with_hosts: Vec<Arc<User>>,
    roles: BTreeMap<String, FlagSet>,
    hostmask_flags: FlagSet,
    sudo: Arc<Sudo>,
    /// Whom pipelines name, by handle in lower case.
    named: Arc<BTreeSet<String>>,
    /// Who is elevated now, by handle.
    elevated: BTreeMap<String, Elevation>,
}

impl Settings {
    /// Reads the flags in it.
    pub fn check(&self) -> Result<(), (String, FlagFault)> {
        self.read().map(|_| ())
    }

    fn read(&self) -> Result<(BTreeMap<String, FlagSet>, FlagSet), (String, FlagFault)> {
        let mut roles = BTreeMap::new();
        for (role, flags) in &self.roles {
            let set = FlagSet::parse(flags).map_err(|fault| (format!("roles.{role}"), fault))?;
            roles.insert(role.clone(), set.settled(Section::Global, set));
        }
        let hostmask = FlagSet::parse(&self.hostmask_flags).map_err(|fault| ("hostmask_flags".to_owned(), fault))?;
        Ok((roles, hostmask))
    }
}

impl Book {
    /// An empty book.
    pub fn new() -> Book {
        Book::default()
    }

    /// A book of its own that begins with what is in this one: to try what would be.
    pub fn apart(&self) -> Book {
        Book { pages: Arc::new(ArcSwap::new(self.pages.load_full())), ..Book::default() }
    }

    /// The turn of who looks at a record, writes it elsewhere and then here, in which nobody else does.
    pub async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Takes settings. If they cannot be read, nothing changes.
    pub fn configure(&self, settings: &Settings) -> Result<(), (String, FlagFault)> {
        let (roles, hostmask_flags) = settings.read()?;
        let sudo = Arc::new(settings.sudo.clone());
        self.pages.rcu(|pages| Pages {
            roles: roles.clone(),
            hostmask_flags,
            sudo: Arc::clone(&sudo),
            ..Pages::clone(pages)
        });
        Ok(())
    }

    /// Replaces all users.
    pub fn fill(&self, users: Vec<User>) {
        let users: BTreeMap<_, _> = users.into_iter().map(|user| (key(&user.handle), Arc::new(user))).collect();
        self.rewrite(|pages| {
            let gone = pages.elevated.keys().filter(|handle| !users.contains_key(*handle)).cloned().collect::<Vec<_>>();
            gone.iter().for_each(|handle| pages.leave(handle));
            pages.users.clone_from(&users);
        });
    }

    /// Changes the records, in one step.
    fn rewrite(&self, change: impl Fn(&mut Pages)) {
        self.pages.rcu(|pages| {
            let mut pages = Pages::clone(pages);
            change(&mut pages);
            pages.indexed()
        });
        self.lowered.notify_one();
    }

    /// Ready when the record of somebody who is elevated may be gone, or have another handle.
    pub async fn lowered(&self) {
        self.lowered.notified().await;
    }

    /// Whether a record could be put in, in the place of that of `before` if it had another handle until now.
    pub fn may_put(&self, user: &User, before: Option<&str>) -> Result<(), UserFault> {
        super::user::check_handle(&user.handle)?;
        let pages = self.pages.load();
        let own = |handle: &str| key(handle) == key(&user.handle) || before.is_some_and(|old| key(handle) == key(old));
        let other = |found: Option<&Arc<User>>| found.map(|user| user.handle.clone()).filter(|handle| !own(handle));
        for (network, account) in &user.accounts {
            if let Some(handle) = other(pages.by_account.get(&account_key(network, account))) {
                return Err(UserFault::Taken { what: format!("{network}/{account}"), handle });
            }
        }
        for cert in &user.certs {
            if let Some(handle) = other(pages.by_cert.get(cert)) {
                return Err(UserFault::Taken { what: cert.clone(), handle });
            }
        }
        Ok(())
    }

    /// Writes a user, replacing the one of that handle. An account or a certificate is one user's only.
    pub fn put(&self, user: User) -> Result<(), UserFault> {
        self.may_put(&user, None)?;
        self.write(None, user);
        Ok(())
    }

    /// Removes these, and writes users who may all be put in, in one step.
    pub fn exchange(&self, gone: &[String], users: &[User]) {
        self.rewrite(|pages| {
            gone.iter().for_each(|handle| pages.leave(handle));
            pages.users.extend(users.iter().map(|user| (key(&user.handle), Arc::new(user.clone()))));
        });
    }

    /// A record has another handle from now on, in one step: nobody is ever missing, or there twice.
    pub fn rename(&self, old: &str, user: User) -> Result<(), UserFault> {
        self.may_put(&user, Some(old))?;
        self.write(Some(old), user);
        Ok(())
    }

    fn write(&self, old: Option<&str>, user: User) {
        let user = Arc::new(user);
        self.rewrite(|pages| {
            if let Some(old) = old.filter(|old| !old.eq_ignore_ascii_case(&user.handle)) {
                pages.leave(old);
            }
            pages.users.insert(key(&user.handle), Arc::clone(&user));
        });
    }

    /// Removes a user; whether there was one.
    pub fn remove(&self, handle: &str) -> bool {
        let was = self.get(handle).is_some();
        self.rewrite(|pages| pages.leave(handle));
        was
    }

    /// A user, by handle without case.
    pub fn get(&self, handle: &str) -> Option<Arc<User>> {
        self.pages.load().users.get(&key(handle)).cloned()
    }

    /// All users, by handle.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.pages.load().users.values().cloned().collect()
    }

    /// The global flags of a record, with those of its roles and those it may rise to: whoever takes it over has them all. None if
    /// there is no such record.
    pub fn stands(&self, handle: &str) -> FlagSet {
        let pages = self.pages.load();
        pages
            .users
            .get(&key(handle))
            .map_or(FlagSet::NONE, |user| pages.standing(user, true).raised(&pages.roles).global)
    }

    /// The global flags of a record with those of its roles, without those it may rise to. None if there is no such record.
    pub fn holds(&self, handle: &str) -> FlagSet {
        let pages = self.pages.load();
        pages.users.get(&key(handle)).map_or(FlagSet::NONE, |user| pages.standing(user, true).global)
    }

    /// These handles, and no others, are named by pipelines from now on: whoever has one of them approves, with a record or not.
    pub fn name(&self, handles: &BTreeSet<String>) {
        let named = Arc::new(handles.iter().map(|handle| key(handle)).collect());
        self.pages.rcu(|pages| Pages { named: Arc::clone(&named), ..Pages::clone(pages) });
    }

    /// The handles that pipelines name, in lower case.
    pub fn named(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.pages.load().named)
    }

    /// Whether pipelines name this handle, so that it is a right in itself.
    pub fn is_named(&self, handle: &str) -> bool {
        self.pages.load().named.contains(&key(handle))
    }

    /// How people may be elevated.
    pub fn sudo(&self) -> Arc<Sudo> {
        Arc::clone(&self.pages.load().sudo)
    }

    /// Somebody is elevated from now on; one who was already is by this one.
    pub fn elevate(&self, elevation: &Elevation) {
        self.pages.rcu(|pages| {
            let mut pages = Pages::clone(pages);
            pages.elevated.insert(key(&elevation.handle), elevation.clone());
            pages
        });
    }

    /// Somebody is elevated no more; gives how they were. With `only`, if it is the one until then.
    pub fn lower(&self, handle: &str, only: Option<Instant>) -> Option<Elevation> {
        let mut was = None;
        self.pages.rcu(|pages| {
            let mut pages = Pages::clone(pages);
            let found = pages.elevated.get(&key(handle));
            was = found.filter(|found| only.is_none_or(|only| found.until == only)).cloned();
            if was.is_some() {
                pages.elevated.remove(&key(handle));
            }
            pages
        });
        was
    }

    /// Who is elevated.
    pub fn elevated(&self) -> Vec<Elevation> {
        let pages = self.pages.load();
        if pages.elevated.is_empty() { Vec::new() } else { pages.elevated.values().cloned().collect() }
    }

    /// Who this is: by login, then account, then certificate, then the hostmask with the most letters.
    pub fn recognise(&self, actor: Option<&Actor>, network: &str, casemap: CaseMap) -> Standing {
        let Some(actor) = actor else { return Standing::default() };
        let pages = self.pages.load();
        if let Some(handle) = &actor.login {
            // The bot itself vouches for this one. The console has no record and may do everything.
            return match pages.users.get(&key(handle)) {
                Some(user) => pages.standing_now(user, actor, network, casemap),
                None if handle == CONSOLE => Standing::console(),
                None => Standing::default(),
            };
        }
        let account = actor.account.as_deref().and_then(|account| pages.by_account.get(&account_key(network, account)));
        let cert = || actor.cert.as_deref().and_then(|cert| pages.by_cert.get(cert));
        if let Some(user) = account.or_else(cert) {
            return pages.standing_now(user, actor, network, casemap);
        }
        match pages.by_host(actor, casemap) {
            Some(user) => pages.standing(user, false),
            None => Standing::default(),
        }
    }
}

impl Pages {
    /// A handle is nobody's. Whoever has it next is not elevated by it.
    fn leave(&mut self, handle: &str) {
        let handle = key(handle);
        self.users.remove(&handle);
        if let Some(elevation) = self.elevated.get_mut(&handle) {
            elevation.until = elevation.until.min(Instant::now());
        }
    }

    fn indexed(mut self) -> Pages {
        self.by_account.clear();
        self.by_cert.clear();
        self.with_hosts.clear();
        for user in self.users.values() {
            for (network, account) in &user.accounts {
                self.by_account.insert(account_key(network, account), Arc::clone(user));
            }
            for cert in &user.certs {
                self.by_cert.insert(cert.clone(), Arc::clone(user));
            }
            if !user.hosts.is_empty() {
                self.with_hosts.push(Arc::clone(user));
            }
        }
        self
    }

    fn by_host(&self, actor: &Actor, casemap: CaseMap) -> Option<&Arc<User>> {
        if self.with_hosts.is_empty() || actor.host.is_empty() {
            return None;
        }
        let source = actor.source();
        let mut best: Option<(usize, &Arc<User>)> = None;
        for user in &self.with_hosts {
            for mask in &user.hosts {
                let letters = mask.chars().filter(|c| !matches!(c, '*' | '?' | '%' | '~')).count();
                if best.is_none_or(|(most, _)| letters > most) && wild_match(mask, &source, casemap) {
                    best = Some((letters, user));
                }
            }
        }
        best.map(|(_, user)| user)
    }

    /// Of somebody who is vouched for, elevated if they are.
    fn standing_now(&self, user: &Arc<User>, actor: &Actor, network: &str, casemap: CaseMap) -> Standing {
        let standing = self.standing(user, true);
        if self.elevated.is_empty() {
            return standing;
        }
        let holds = |one: &&Elevation| one.presence.is(actor, network, casemap) && Instant::now() < one.until;
        match self.elevated.get(&key(&user.handle)).filter(holds) {
            Some(_) => standing.raised(&self.roles),
            None => standing,
        }
    }

    fn standing(&self, user: &Arc<User>, vouched: bool) -> Standing {
        let counts = if vouched { FlagSet::ALL } else { self.hostmask_flags };
        let mut global = user.flags;
        let mut unknown_role = None;
        for role in &user.roles {
            match self.roles.get(role) {
                Some(flags) => global = global.union(*flags),
                None => unknown_role = Some(role.clone()),
            }
        }
        Standing {
            who: Who { handle: Some(Arc::from(user.handle.as_str())), vouched },
            user: Some(Arc::clone(user)),
            global: global.common(counts),
            counts,
            unknown_role,
            elevated: false,
            everything: false,
        }
    }
}

fn key(handle: &str) -> String {
    handle.to_ascii_lowercase()
}

/// Accounts are compared without the case of ASCII letters: folding more could take two accounts for one.
fn account_key(network: &str, account: &str) -> (String, String) {
    (network.to_owned(), account.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use masterchief_contract::FlagScope;

    use super::super::elevation::Presence;
    use super::super::flags::FlagMask;
    use super::*;

    fn book(users: &[User]) -> Book {
        let book = Book::new();
        for user in users {
            book.put(user.clone()).unwrap();
        }
        book
    }

    fn actor(account: Option<&str>) -> Actor {
        Actor {
            nick: "alice".to_owned(),
            user: "a".to_owned(),
            host: "host.example".to_owned(),
            account: account.map(str::to_owned),
            ..Actor::default()
        }
    }

    fn may(book: &Book, actor: &Actor, mask: &str, chan: Option<&str>) -> bool {
        let mask = FlagMask::parse(mask).unwrap();
        let scope = if chan.is_some() { FlagScope::Channel } else { FlagScope::AnyChannel };
        book.recognise(Some(actor), "net", CaseMap::Rfc1459).allows(&mask, scope, "net", chan, CaseMap::Rfc1459)
    }

    #[test]
    fn only_an_account_on_its_own_network_is_recognised() {
        let book = book(&[User::with_account("alice", "net", "Alice", "D").unwrap()]);
        assert!(may(&book, &actor(Some("alice")), "D", Some("#ops")));
        assert!(!may(&book, &actor(Some("mallory")), "D", Some("#ops")));
        assert!(!may(&book, &actor(None), "D", Some("#ops")), "a nick is nobody");
        let elsewhere = book.recognise(Some(&actor(Some("alice"))), "other", CaseMap::Rfc1459);
        assert_eq!(elsewhere.who.handle, None);
    }

    #[test]
    fn a_hostmask_alone_grants_only_the_flags_marked_as_such() {
        let mut alice = User::new("alice").unwrap();
        alice.add_host("*!a@*.example").unwrap();
        alice.change_flags("Df").unwrap();
        let book = book(&[alice]);
        assert!(!may(&book, &actor(None), "D", Some("#ops")));
        assert!(!may(&book, &actor(None), "f", Some("#ops")));
        book.configure(&Settings { hostmask_flags: "f".to_owned(), ..Settings::default() }).unwrap();
        assert!(may(&book, &actor(None), "f", Some("#ops")));
        assert!(!may(&book, &actor(None), "D", Some("#ops")));
        let standing = book.recognise(Some(&actor(None)), "net", CaseMap::Rfc1459);
        let why = standing.explain_denial("!deploy", &FlagMask::parse("D").unwrap(), &actor(None), "net");
        assert!(why.contains("log in to services"), "{why}");
    }

    #[test]
    fn the_hostmask_with_the_most_letters_wins() {
        let mut wide = User::new("wide").unwrap();
        wide.add_host("*!*@*.example").unwrap();
        let mut narrow = User::new("narrow").unwrap();
        narrow.add_host("*!a@host.example").unwrap();
        let book = book(&[narrow, wide]);
        let who = book.recognise(Some(&actor(None)), "net", CaseMap::Rfc1459).who;
        assert_eq!((who.handle.as_deref(), who.vouched), (Some("narrow"), false));
    }

    #[test]
    fn channel_flags_count_on_their_channel_and_network_and_in_private_on_any() {
        let mut alice = User::with_account("alice", "net", "alice", "").unwrap();
        alice.change_channel_flags("#Ops[1]", "+D").unwrap();
        alice.change_channel_flags("other/#dev", "+E").unwrap();
        let book = book(&[alice]);
        let alice = actor(Some("alice"));
        assert!(may(&book, &alice, "-|D", Some("#ops{1}")));
        assert!(!may(&book, &alice, "-|D", Some("#dev")));
        assert!(!may(&book, &alice, "D", Some("#ops{1}")), "not global");
        assert!(may(&book, &alice, "-|D", None));
        assert!(!may(&book, &alice, "-|E", None), "another network's");
    }

    #[test]
    fn in_private_global_flags_count_for_the_channel_section_too() {
        let book = book(&[User::with_account("alice", "net", "alice", "o").unwrap()]);
        assert!(may(&book, &actor(Some("alice")), "-|o", None));
        assert!(!may(&book, &actor(Some("alice")), "-|o", Some("#ops")));
    }

    #[test]
    fn a_role_gives_its_flags_and_an_unknown_role_denies_everything() {
        let mut alice = User::with_account("alice", "net", "alice", "v").unwrap();
        alice.roles.push("deployer".to_owned());
        let book = book(&[alice]);
        assert!(!may(&book, &actor(Some("alice")), "v", Some("#ops")));
        let roles = BTreeMap::from([("deployer".to_owned(), "D".to_owned())]);
        book.configure(&Settings { roles, ..Settings::default() }).unwrap();
        assert!(may(&book, &actor(Some("alice")), "D", Some("#ops")));
        let bad = Settings { hostmask_flags: "1".to_owned(), ..Settings::default() };
        assert_eq!(book.configure(&bad).unwrap_err().0, "hostmask_flags");
        assert!(may(&book, &actor(Some("alice")), "D", Some("#ops")), "bad settings change nothing");
    }

    #[test]
    fn an_account_or_a_certificate_is_one_users_only() {
        let book = book(&[User::with_account("alice", "net", "shared", "").unwrap()]);
        let thief = User::with_account("mallory", "net", "SHARED", "n").unwrap();
        assert!(matches!(book.put(thief), Err(UserFault::Taken { handle, .. }) if handle == "alice"));
        assert!(book.remove("ALICE") && book.get("alice").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_counts_for_one_presence_until_its_time_and_makes_a_record_stand_as_high_always() {
        let mut alice = User::with_account("alice", "net", "alice", "o").unwrap();
        alice.change_sudo("+n").unwrap();
        alice.sudo_roles.push("oncall".to_owned());
        let book = book(&[alice]);
        let roles = BTreeMap::from([("oncall".to_owned(), "D".to_owned())]);
        book.configure(&Settings { roles, ..Settings::default() }).unwrap();
        let alice = actor(Some("Alice"));
        assert!(!may(&book, &alice, "n", None) && book.stands("alice").has('n') && book.stands("alice").has('D'));
        let why = |standing: Standing| standing.explain_denial("!x", &FlagMask::parse("n").unwrap(), &alice, "net");
        let standing = || book.recognise(Some(&alice), "net", CaseMap::Rfc1459);
        assert!(why(standing()).contains("!sudo 15m WHY"));
        let until = Instant::now() + std::time::Duration::from_secs(60);
        let presence = Presence::of(&alice, "net").unwrap();
        let elevation = Elevation { handle: "alice".to_owned(), presence, until, place: "net/#ops".to_owned() };
        book.elevate(&elevation);
        assert!(may(&book, &alice, "n", None) && may(&book, &alice, "D", Some("#ops")) && standing().elevated());
        assert_eq!(standing().roles(), ["oncall"]);
        assert!(!may(&book, &actor(None), "n", None), "logged out");
        assert!(
            !may(&book, &Actor { nick: "alice2".to_owned(), ..alice.clone() }, "n", None),
            "another client of hers"
        );
        let login = Actor { login: Some("alice".to_owned()), ..alice.clone() };
        assert!(!may(&book, &login, "n", None), "elsewhere");
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert!(!may(&book, &alice, "n", None), "the time is over, whether anybody noticed or not");
        assert_eq!(book.lower("ALICE", Some(Instant::now() + std::time::Duration::from_secs(1))), None);
        assert_eq!(book.lower("ALICE", None), Some(elevation.clone()));
        assert!(book.elevated().is_empty());
        // Who has the handle after her is not elevated by it, though she looks the same.
        let until = Instant::now() + std::time::Duration::from_secs(60);
        book.elevate(&Elevation { until, ..elevation });
        assert!(standing().elevated());
        let alice = User::clone(&book.get("alice").unwrap());
        book.exchange(&["alice".to_owned()], &[User { handle: "bob".to_owned(), ..alice.clone() }]);
        book.exchange(&["bob".to_owned()], &[alice]);
        assert!(!standing().elevated() && standing().who.handle.as_deref() == Some("alice"));
        assert_eq!(book.elevated()[0].until, Instant::now(), "whoever follows it sees that it is over");
        // Nor is whoever is written down under it by another process.
        let until = Instant::now() + std::time::Duration::from_secs(60);
        book.elevate(&Elevation { until, ..book.elevated().remove(0) });
        let alice = User::clone(&book.get("alice").unwrap());
        book.fill(vec![alice.clone()]);
        assert!(standing().elevated(), "who is still there stays as she is");
        book.fill(Vec::new());
        book.lowered().await;
        book.fill(vec![alice]);
        assert!(!standing().elevated());
    }

    #[test]
    fn on_the_partyline_flags_of_the_channels_of_every_network_are_flags_of_some_channel() {
        let mut alice = User::new("alice").unwrap();
        alice.change_channel_flags("net/#ops", "+o").unwrap();
        let book = book(&[alice]);
        let login = Actor { login: Some("alice".to_owned()), ..actor(None) };
        let mask = FlagMask::parse("t|o").unwrap();
        let may = |network: &str, scope, chan| {
            book.recognise(Some(&login), network, CaseMap::Rfc1459).allows(
                &mask,
                scope,
                network,
                chan,
                CaseMap::Rfc1459,
            )
        };
        assert!(may(PARTYLINE, FlagScope::AnyChannel, None) && may("net", FlagScope::AnyChannel, None));
        assert!(!may("other", FlagScope::AnyChannel, None), "flags of one network are none on another");
        assert!(!may(PARTYLINE, FlagScope::Channel, Some("#ops")), "its own #ops is no channel of net");
    }

    #[test]
    fn a_certificate_and_a_login_vouch_and_the_console_may_everything() {
        let mut alice = User::new("alice").unwrap();
        alice.add_cert(&"ab".repeat(32)).unwrap();
        alice.change_flags("D").unwrap();
        let book = book(&[alice]);
        assert!(may(&book, &Actor { cert: Some("ab".repeat(32)), ..actor(None) }, "D", Some("#ops")));
        assert!(may(&book, &Actor { login: Some("alice".to_owned()), ..actor(None) }, "D", Some("#ops")));
        assert!(may(&book, &Actor { login: Some("console".to_owned()), ..actor(None) }, "n&n", Some("#ops")));
        assert!(!may(&book, &Actor { login: Some("deleted".to_owned()), ..actor(None) }, "D", Some("#ops")));
    }
}
