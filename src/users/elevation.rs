//! Elevation: somebody holds more than usually for a while, as the one presence that was vouched for when it began.

use std::time::Duration;

use masterchief_contract::{Actor, CaseMap};
use serde::Deserialize;
use tokio::time::Instant;

/// How people may be elevated. Who may be, and to what, stands in their records.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sudo {
    /// The longest time at once.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
    /// Where it is announced beside the channel where it was asked for: `libera/#ops`.
    pub announce: Vec<String>,
}

impl Default for Sudo {
    fn default() -> Sudo {
        Sudo { max: Duration::from_secs(3600), announce: Vec::new() }
    }
}

/// Somebody where they are: a nick on a network, and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The network.
    pub network: String,
    /// The nick, as it is now.
    pub nick: String,
    voucher: Voucher,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Voucher {
    Account(String),
    Cert(String),
    Login(String),
}

/// Somebody who is elevated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elevation {
    /// Whose record it is.
    pub handle: String,
    /// As whom, and nobody else.
    pub presence: Presence,
    /// When it ends.
    pub until: Instant,
    /// Where it was asked for, `network/#channel`.
    pub place: String,
}

impl Presence {
    /// Who did something, if anything vouches for them. In the same order as people are recognised.
    pub fn of(actor: &Actor, network: &str) -> Option<Presence> {
        let voucher = match (&actor.login, &actor.account, &actor.cert) {
            (Some(login), _, _) => Voucher::Login(login.clone()),
            (None, Some(account), _) => Voucher::Account(account.to_ascii_lowercase()),
            (None, None, Some(cert)) => Voucher::Cert(cert.clone()),
            (None, None, None) => return None,
        };
        Some(Presence { network: network.to_owned(), nick: actor.nick.clone(), voucher })
    }

    /// Whether this nick of this network is the one.
    pub fn has_nick(&self, nick: &str, network: &str, casemap: CaseMap) -> bool {
        self.network == network && casemap.eq(&self.nick, nick)
    }

    /// Whether it is still vouched for by the same.
    pub fn is(&self, actor: &Actor, network: &str, casemap: CaseMap) -> bool {
        self.has_nick(&actor.nick, network, casemap)
            && Presence::of(actor, network).is_some_and(|now| now.voucher == self.voucher)
    }

    /// Whether this is vouched for by the same on the same network, under whatever nick.
    pub fn is_same(&self, actor: &Actor, network: &str) -> bool {
        self.network == network && Presence::of(actor, network).is_some_and(|now| now.voucher == self.voucher)
    }

    /// Whether it is a login of this handle.
    pub fn is_login(&self, handle: Option<&str>) -> bool {
        matches!(&self.voucher, Voucher::Login(own) if handle.is_some_and(|handle| own.eq_ignore_ascii_case(handle)))
    }

    /// Whether logging in to this account (`*` is out of any) leaves what vouches for it as it was.
    pub fn outlives(&self, account: &str) -> bool {
        match &self.voucher {
            Voucher::Account(own) => own.eq_ignore_ascii_case(account),
            // Another account comes before a certificate, and may be somebody else's.
            Voucher::Cert(_) => matches!(account, "*" | "0" | ""),
            Voucher::Login(_) => true,
        }
    }
}
