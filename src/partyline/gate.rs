//! The gate: who may come in. Wrong passwords are few, slow and written down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Actor, CaseMap, FlagScope, Secret};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::console::HANDLE;
use super::masters::ENTRANCE;
use super::party::NETWORK;
use super::settings::Settings;
use crate::store::{AuditRow, Store, StoreError};
use crate::users::{Book, FlagMask, PasswordHash, User};

/// Passwords that are looked at together; each takes a core for some ten milliseconds.
const HASHING: usize = 2;
/// Addresses that are remembered; when there are more, the oldest are forgotten.
const ADDRESSES: usize = 10_000;

/// Under which name the codes that were used stand among what scripts keep. No script can have it.
const CODES: &str = "@codes";
/// How long: none counts longer than a minute.
const CODES_KEPT: Duration = Duration::from_secs(600);

/// Whether a name is that of a bot that may link.
pub type Bots = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Writes into the audit trail.
pub type Trail = Arc<dyn Fn(AuditRow) + Send + Sync>;

/// Judges logins. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    book: Book,
    settings: Arc<ArcSwap<Settings>>,
    trail: Trail,
    clock: masterchief_contract::Clock,
    /// Names of bots beside those in the book.
    bots: Option<Bots>,
    /// What lets people from this machine in where the bot knows nobody.
    own: Option<Secret>,
    hashing: Arc<Semaphore>,
    tries: Arc<Mutex<HashMap<IpAddr, Vec<Instant>>>>,
    /// The newest code that each record was let in with: none counts twice.
    codes: Arc<Mutex<HashMap<String, u64>>>,
    /// Where it is known after a restart, too.
    store: Option<Store>,
}

/// Where somebody is who comes from an address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// At it.
    This,
    /// Perhaps behind a proxy at it.
    Any,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Whose record it is; [`HANDLE`] for the bot's own password.
    pub handle: String,
}

/// Why somebody does not come in. The words are for them and tell no more than they know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name or the password is wrong.
    #[error("that handle and password do not fit")]
    Wrong,
    /// A code of the authenticator is wanted too.
    #[error("a code is wanted: write it behind the password, as in PASSWORD:123456")]
    Code,
    /// Too many were wrong.
    #[error("too many wrong passwords from your address; wait {0} s")]
    Later(u64),
    /// The record has no access.
    #[error("you have no access: ask an owner for the flag p")]
    NoAccess,
    /// The password would be readable on the way.
    #[error("log in over TLS: this connection can be read by others")]
    Plain,
}

impl Gate {
    /// A gate. `own` lets people from this machine in as the owner of the process.
    pub fn new(
        book: Book,
        settings: Arc<ArcSwap<Settings>>,
        trail: Trail,
        clock: masterchief_contract::Clock,
        own: Option<Secret>,
    ) -> Gate {
        let hashing = Arc::new(Semaphore::new(HASHING));
        let (tries, codes) = (Arc::default(), Arc::default());
        Gate { book, settings, trail, clock, bots: None, own, hashing, tries, codes, store: None }
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The same gate that knows linked bots by this, beside those with the flag `b`.
    pub fn with_bots(mut self, bots: Bots) -> Gate {
        self.bots = Some(bots);
        self
    }

    /// The same gate that keeps here which codes were used.
    pub fn keeping(mut self, store: Store) -> Gate {
        self.store = Some(store);
        self
    }

    /// Whether this name is known, and is that of a bot. A person's name never is.
    pub fn is_bot(&self, handle: &str) -> bool {
        match self.book.get(handle) {
            Some(user) => user.flags.has('b'),
            None => self.bots.as_ref().is_some_and(|bots| bots(handle)),
        }
    }

    /// Whether this record wants a code beside its password. Nobody's wants none.
    pub fn wants_code(&self, handle: &str) -> bool {
        self.book.get(handle).is_some_and(|user| user.totp.is_some())
    }

    /// Looks at a password. `code` is what the authenticator shows; where it is missing, it may stand behind the password. Only
    /// for who is at this `machine` themselves the bot's own counts.
    pub async fn password(
        &self,
        handle: &str,
        password: &Secret,
        code: Option<&str>,
        peer: IpAddr,
        machine: Machine,
    ) -> Result<Login, Refusal> {
        self.may_try(peer)?;
        let user = self.book.get(handle).filter(|user| !user.flags.has('b'));
        let judged = self.judge(user.as_deref(), password, code, peer, machine).await;
        match &judged {
            Ok(login) => {
                self.fitted(peer);
                self.note(&login.handle, peer, "login", "password");
            }
            Err(refusal) => self.note(handle, peer, "refused", &refusal.to_string()),
        }
        judged
    }

    async fn judge(
        &self,
        user: Option<&User>,
        password: &Secret,
        code: Option<&str>,
        peer: IpAddr,
        machine: Machine,
    ) -> Result<Login, Refusal> {
        let near = machine == Machine::This && peer.to_canonical().is_loopback();
        if let Some(own) = self.own.as_ref().filter(|_| near)
            && !self.has_owner()
            && same(own.reveal(), password.reveal())
        {
            return Ok(Login { handle: HANDLE.to_owned() });
        }
        let totp = user.and_then(|user| user.totp.clone());
        let (password, code) = match (&totp, code) {
            (Some(_), None) => match password.reveal().rsplit_once(':') {
                Some((password, code)) => (Secret::new(password), Some(code.to_owned())),
                None => (password.clone(), None),
            },
            (_, code) => (password.clone(), code.map(str::to_owned)),
        };
        // A name that nobody has takes as long as one that somebody has.
        let hash = user.and_then(|user| user.password.clone());
        let fits = {
            let Ok(_turn) = self.hashing.acquire().await else { return Err(Refusal::Wrong) };
            let looking = move || hash.or_else(nobodys).is_some_and(|hash| hash.verify(&password));
            tokio::task::spawn_blocking(looking).await.unwrap_or(false)
        };
        // Somebody else may have the handle by now.
        let is_still = |user: &&User| self.book.get(&user.handle).is_some_and(|now| now.password == user.password);
        let user = user.filter(|user| fits && user.password.is_some()).filter(is_still);
        let Some(user) = user else { return Err(Refusal::Wrong) };
        if let Some(totp) = totp {
            let Some(code) = code else { return Err(Refusal::Code) };
            let step = totp.check(&code, self.clock.now().timestamp()).ok_or(Refusal::Wrong)?;
            if !self.is_unused(&user.handle.to_ascii_lowercase(), step).await {
                return Err(Refusal::Wrong);
            }
        }
        self.access(user)
    }

    /// Whether somebody has shown no code of this moment or later before, here or before a restart. From now on they have.
    async fn is_unused(&self, handle: &str, step: u64) -> bool {
        let fault = |fault: &StoreError| tracing::error!(%fault, handle, "Which codes were used cannot be kept");
        let kept = match &self.store {
            Some(store) => store.kv_get(CODES, handle, self.clock.now()).await.inspect_err(fault).ok().flatten(),
            None => None,
        };
        let kept = kept.and_then(|kept| kept.as_u64()).unwrap_or_default();
        {
            let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = codes.entry(handle.to_owned()).or_default();
            if step <= kept.max(*newest) {
                return false;
            }
            *newest = step;
        }
        if let Some(store) = &self.store {
            let until = self.clock.now() + CODES_KEPT;
            // What cannot be kept counts until a restart.
            let _ = store.kv_set(CODES, handle, &step.into(), Some(until)).await.inspect_err(fault);
        }
        true
    }

    /// Whether somebody has a password of their own who can let others in: then the bot's own counts no more.
    fn has_owner(&self) -> bool {
        self.book.all().iter().any(|user| user.password.is_some() && self.book.stands(&user.handle).has('n'))
    }

    /// Lets somebody in by the certificate of their connection.
    pub fn certificate(&self, fingerprint: &str, wanted: Option<&str>, peer: IpAddr) -> Result<Login, Refusal> {
        let actor = Actor { cert: Some(fingerprint.to_owned()), ..Actor::default() };
        let who = self.book.recognise(Some(&actor), NETWORK, CaseMap::Rfc1459).who;
        let user = who.handle.filter(|_| who.vouched).and_then(|handle| self.book.get(&handle));
        let wanted = wanted.filter(|wanted| !wanted.is_empty());
        let user = user.filter(|user| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(&user.handle)));
        let judged = match user {
            // A certificate is one thing that is held; a code asks for another.
            Some(user) if user.totp.is_some() => Err(Refusal::Code),
            Some(user) => self.access(&user),
            None => Err(Refusal::Wrong),
        };
        match &judged {
            Ok(login) => self.note(&login.handle, peer, "login", "certificate"),
            Err(refusal) => self.note(wanted.unwrap_or("*"), peer, "refused", &format!("certificate: {refusal}")),
        }
        judged
    }

    fn access(&self, user: &User) -> Result<Login, Refusal> {
        let actor = Actor { login: Some(user.handle.clone()), ..Actor::default() };
        let standing = self.book.recognise(Some(&actor), NETWORK, CaseMap::Rfc1459);
        let entrance = FlagMask::parse(ENTRANCE).map_err(|_| Refusal::NoAccess)?;
        let may = standing.allows(&entrance, FlagScope::AnyChannel, NETWORK, None, CaseMap::Rfc1459);
        if may { Ok(Login { handle: user.handle.clone() }) } else { Err(Refusal::NoAccess) }
    }

    /// Takes one try of this address, if it has any left. It is given back if the password fits.
    fn may_try(&self, peer: IpAddr) -> Result<(), Refusal> {
        let settings = self.settings.load();
        let (now, window) = (Instant::now(), settings.window);
        let left = {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            if tries.len() >= ADDRESSES {
                tries.retain(|_, tried| tried.last().is_some_and(|at| now.duration_since(*at) < window));
                if tries.len() >= ADDRESSES {
                    tries.clear();
                }
            }
            let tried = tries.entry(network_of(peer)).or_default();
            tried.retain(|at| now.duration_since(*at) < window);
            if tried.len() < settings.attempts as usize {
                tried.push(now);
                return Ok(());
            }
            tried.first().map_or(Duration::ZERO, |at| window.saturating_sub(now.duration_since(*at)))
        };
        self.note("*", peer, "refused", "too many wrong passwords");
        Err(Refusal::Later(left.as_secs().max(1)))
    }

    fn fitted(&self, peer: IpAddr) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tried) = tries.get_mut(&network_of(peer)) {
            tried.pop();
        }
    }

    fn note(&self, handle: &str, peer: IpAddr, action: &str, detail: &str) {
        // What somebody typed as a name may be a password in the wrong place.
        let known = self.book.get(handle).is_some() || handle == HANDLE;
        (self.trail)(AuditRow {
            at: self.clock.now(),
            network: NETWORK.to_owned(),
            actor: peer.to_string(),
            handle: known.then(|| handle.to_owned()),
            kind: "partyline".to_owned(),
            mask: "login".to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

/// What counts as one address: all of a customer's addresses of IPv6.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let mut parts = address.segments();
            parts[4..].fill(0);
            IpAddr::V6(parts.into())
        }
        address => address,
    }
}

fn same(one: &str, other: &str) -> bool {
    use subtle::ConstantTimeEq;
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// What is kept of a password that nobody knows.
fn nobodys() -> Option<PasswordHash> {
    static NOBODYS: LazyLock<Option<PasswordHash>> = LazyLock::new(|| {
        let mut noise = [0; 16];
        getrandom::fill(&mut noise).ok()?;
        PasswordHash::new(&Secret::new(format!("{noise:?}"))).ok()
    });
    NOBODYS.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(own: Option<&str>) -> (Gate, Arc<Mutex<Vec<AuditRow>>>) {
        let book = Book::new();
        let mut alice = User::new("alice").unwrap();
        alice.change_flags("p").unwrap();
        alice.password = Some(PasswordHash::new(&Secret::new("correct horse")).unwrap());
        alice.add_cert(&"ab".repeat(32)).unwrap();
        let mut carol = alice.clone();
        (carol.handle, carol.flags) = ("carol".to_owned(), crate::users::FlagSet::NONE);
        carol.certs.clear();
        book.put(alice).unwrap();
        book.put(carol).unwrap();
        let rows = Arc::<Mutex<Vec<AuditRow>>>::default();
        let trail = Arc::clone(&rows);
        let settings = Arc::new(ArcSwap::from_pointee(Settings::default()));
        let trail: Trail = Arc::new(move |row| trail.lock().unwrap().push(row));
        (Gate::new(book, settings, trail, masterchief_contract::Clock::system(), own.map(Secret::new)), rows)
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[tokio::test]
    async fn a_password_lets_in_who_has_access_and_wrong_ones_are_few_and_written_down() {
        let (gate, rows) = gate(None);
        let asks = async |handle: &str, password: &str, from| {
            gate.password(handle, &Secret::new(password), None, from, Machine::This).await
        };
        assert_eq!(asks("ALICE", "correct horse", AWAY).await.unwrap().handle, "alice");
        assert_eq!(asks("carol", "correct horse", AWAY).await, Err(Refusal::NoAccess));
        assert_eq!(asks("mallory", "x", AWAY).await, Err(Refusal::Wrong));
        for _ in 0..3 {
            assert_eq!(asks("alice", "wrong", AWAY).await, Err(Refusal::Wrong));
        }
        assert!(matches!(asks("alice", "correct horse", AWAY).await, Err(Refusal::Later(_))), "not even the right one");
        assert!(asks("alice", "correct horse", HOME).await.is_ok(), "others are not kept out");
        let rows = rows.lock().unwrap();
        assert!(
            rows.iter().any(|row| row.action == "refused" && row.handle.is_none()),
            "a name that is none is not kept"
        );
        assert!(rows.iter().any(|row| row.action == "login" && row.handle.as_deref() == Some("alice")));
    }

    #[tokio::test]
    async fn whoever_has_the_handle_by_the_time_a_password_is_judged_did_not_show_it() {
        let (gate, _) = gate(None);
        let (password, before) = (Secret::new("correct horse"), User::clone(&gate.book.get("alice").unwrap()));
        let other = Some(PasswordHash::new(&Secret::new("battery staple")).unwrap());
        let asks = || gate.password("alice", &password, None, AWAY, Machine::This);
        let (login, ()) = tokio::join!(asks(), async {
            gate.book.put(User { password: other, ..before.clone() }).unwrap();
        });
        assert_eq!(login, Err(Refusal::Wrong));
        gate.book.put(before).unwrap();
        assert!(asks().await.is_ok());
    }

    #[tokio::test]
    async fn the_bots_own_password_counts_on_this_machine_only() {
        let (gate, _) = gate(Some("own own own"));
        let own = Secret::new("own own own");
        assert_eq!(gate.password("anybody", &own, None, HOME, Machine::This).await.unwrap().handle, HANDLE);
        assert_eq!(gate.password("anybody", &own, None, HOME, Machine::Any).await, Err(Refusal::Wrong), "a proxy");
        assert_eq!(gate.password("anybody", &own, None, AWAY, Machine::This).await, Err(Refusal::Wrong));
    }

    #[tokio::test]
    async fn a_code_that_was_used_is_used_after_a_restart_too() {
        let store = Store::memory();
        let totp = crate::users::Totp::new().unwrap();
        let code = totp.code(masterchief_contract::Clock::system().now().timestamp());
        let asks = async || {
            let gate = gate(None).0.keeping(store.clone());
            let mut alice = User::clone(&gate.book.get("alice").unwrap());
            alice.totp = Some(totp.clone());
            gate.book.put(alice).unwrap();
            gate.password("alice", &Secret::new("correct horse"), Some(&code), AWAY, Machine::This).await
        };
        assert!(asks().await.is_ok());
        assert_eq!(asks().await, Err(Refusal::Wrong));
    }

    #[test]
    fn a_certificate_is_its_owners() {
        let (gate, _) = gate(None);
        let cert = "ab".repeat(32);
        assert_eq!(gate.certificate(&cert, None, AWAY).unwrap().handle, "alice");
        assert_eq!(gate.certificate(&cert, Some("carol"), AWAY), Err(Refusal::Wrong));
        assert_eq!(gate.certificate(&"cd".repeat(32), None, AWAY), Err(Refusal::Wrong));
    }
}
