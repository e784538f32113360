//! A user's record.

use std::collections::BTreeMap;

use super::flags::{FlagFault, FlagSet, Section};
use super::password::PasswordHash;
use super::totp::Totp;

/// The handle of the console. It is nobody's record and may do everything.
pub(super) const CONSOLE: &str = "console";
/// The longest handle, as in Eggdrop.
pub const HANDLE_MAX: usize = 32;
/// How many hostmasks, accounts, certificates and channels other bots may give to one person.
pub(crate) const OF_ONE: usize = 256;
/// How much of the operators' words is told to other bots, and taken from them, in characters.
pub const COMMENT_MAX: usize = 250;
/// The longest hostmask, account and channel that is written down, in bytes.
const MARK_MAX: usize = 512;

/// A person the bot knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name of the record.
    pub handle: String,
    /// Flags that count everywhere.
    pub flags: FlagSet,
    /// Flags on one channel: `#chan` on every network, `network/#chan` on one.
    pub channels: BTreeMap<String, FlagSet>,
    /// Roles, which the configuration turns into flags.
    pub roles: Vec<String>,
    /// Global flags that count beside the others only while the person is elevated.
    pub sudo: FlagSet,
    /// Roles that do.
    pub sudo_roles: Vec<String>,
    /// Services accounts: network and account.
    pub accounts: Vec<(String, String)>,
    /// SHA-256 of client certificates, lower case hex.
    pub certs: Vec<String>,
    /// Hostmasks, `nick!user@host` with wildcards.
    pub hosts: Vec<String>,
    /// The password for the partyline.
    pub password: Option<PasswordHash>,
    /// The authenticator whose codes are asked for beside the password.
    pub totp: Option<Totp>,
    /// When somebody last changed by what the person is known, in Unix milliseconds: the handle, accounts, certificates, hostmasks, the
    /// password. Whoever could do that could be two people, so what was asked for before is not theirs to agree to.
    pub touched: Option<i64>,
    /// With which user file the record came, if it did.
    pub given_by: Option<Given>,
    /// What the person has set for the partyline, by name.
    pub settings: BTreeMap<String, String>,
    /// Words of the operators.
    pub comment: String,
}

/// The bot with whose user file a record came: what is added there is added here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub bot: String,
    /// Whether the person has another handle there, or somebody else has this one: then nothing is added any more.
    pub apart: bool,
}

impl Given {
    /// Of a bot that calls the person so, too.
    pub fn by(bot: &str) -> Given {
        Given { bot: bot.to_owned(), apart: false }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserFault {
    /// Not a handle.
    #[error(
        "{0:?} is not a handle: 1 to {HANDLE_MAX} letters, digits and -_[]{{}}^`|\\, no digit first, and not `console`"
    )]
    Handle(String),
    /// Too much of something.
    #[error("a {what} has at most {MARK_MAX} bytes")]
    Long {
        /// Of what.
        what: &'static str,
    },
    /// Flags that are none.
    #[error("flags {text:?}, {fault}")]
    Flags {
        /// As written.
        text: String,
        /// What is wrong.
        fault: FlagFault,
    },
    /// Not a channel.
    #[error("{0:?} is not a channel: write #chan, or network/#chan")]
    Channel(String),
    /// Not a hostmask.
    #[error("{0:?} is not a hostmask: write nick!user@host, with * and ?")]
    Hostmask(String),
    /// A hostmask that anybody meets.
    #[error("{0:?} meets everybody; name a user or a host")]
    Everybody(String),
    /// Not a fingerprint.
    #[error("{0:?} is not a fingerprint: SHA-256 in hex, 64 digits, colons allowed")]
    Cert(String),
    /// Not an account.
    #[error("{0:?} is not an account: write network/account")]
    Account(String),
    /// The account or certificate is somebody else's.
    #[error("{what} belongs to {handle}; take it away there first")]
    Taken {
        /// What.
        what: String,
        /// Whose.
        handle: String,
    },
}

impl User {
    /// A user without flags.
    pub fn new(handle: &str) -> Result<User, UserFault> {
        check_handle(handle)?;
        Ok(User { handle: handle.to_owned(), ..User::default() })
    }

    /// A user with an account and flags.
    pub fn with_account(handle: &str, network: &str, account: &str, flags: &str) -> Result<User, UserFault> {
        let mut user = User::new(handle)?;
        user.accounts.push((network.to_owned(), account.to_owned()));
        user.change_flags(flags)?;
        Ok(user)
    }

    /// Whether this is known by the same as another record.
    pub fn known_alike(&self, other: &User) -> bool {
        let known = |user: &User| (user.handle.clone(), user.accounts.clone(), user.certs.clone(), user.hosts.clone());
        known(self) == known(other) && self.password == other.password
    }

    /// Changes global flags: `+mo-v`.
    pub fn change_flags(&mut self, changes: &str) -> Result<(), UserFault> {
        self.flags = change(self.flags, changes, Section::Global)?;
        Ok(())
    }

    /// Changes what the person may be elevated to: `+n-D`; `=` takes the roles away too.
    pub fn change_sudo(&mut self, changes: &str) -> Result<(), UserFault> {
        self.sudo = change(self.sudo, changes, Section::Global)?;
        if changes.starts_with('=') {
            self.sudo_roles.clear();
        }
        Ok(())
    }

    /// What an elevation lends, in words: `+n, the role oncall`.
    pub fn lent(&self) -> String {
        let flags = (!self.sudo.is_empty()).then(|| format!("+{}", self.sudo));
        let roles = self.sudo_roles.iter().map(|role| format!("the role {role}"));
        flags.into_iter().chain(roles).collect::<Vec<_>>().join(", ")
    }

    /// Whether there is anything to be elevated to.
    pub fn may_rise(&self) -> bool {
        !self.sudo.is_empty() || !self.sudo_roles.is_empty()
    }

    /// Changes the flags on a channel.
    pub fn change_channel_flags(&mut self, channel: &str, changes: &str) -> Result<(), UserFault> {
        is_short("channel", channel)?;
        let name = channel.rsplit('/').next().unwrap_or("");
        if !name.starts_with(|c: char| c.is_ascii_punctuation()) || channel.contains([' ', ',']) {
            return Err(UserFault::Channel(channel.to_owned()));
        }
        let before = self.channels.get(channel).copied().unwrap_or_default();
        let after = change(before, changes, Section::Channel)?;
        if after.is_empty() {
            self.channels.remove(channel);
        } else {
            self.channels.insert(channel.to_owned(), after);
        }
        Ok(())
    }

    /// Adds an account, written `network/account`.
    pub fn add_account(&mut self, text: &str) -> Result<(), UserFault> {
        is_short("name of an account", text)?;
        let parts = text.split_once('/').filter(|(network, account)| !network.is_empty() && !account.is_empty());
        let Some((network, account)) = parts.filter(|_| !text.contains(char::is_whitespace)) else {
            return Err(UserFault::Account(text.to_owned()));
        };
        self.accounts.push((network.to_owned(), account.to_owned()));
        self.accounts.sort();
        self.accounts.dedup();
        Ok(())
    }

    /// Adds a certificate's fingerprint.
    pub fn add_cert(&mut self, text: &str) -> Result<(), UserFault> {
        let hex = text.replace(':', "").to_ascii_lowercase();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(UserFault::Cert(text.to_owned()));
        }
        if !self.certs.contains(&hex) {
            self.certs.push(hex);
        }
        Ok(())
    }

    /// Adds a hostmask.
    pub fn add_host(&mut self, mask: &str) -> Result<(), UserFault> {
        is_short("hostmask", mask)?;
        let fault = || UserFault::Hostmask(mask.to_owned());
        let (nick, rest) = mask.split_once('!').ok_or_else(fault)?;
        let (user, host) = rest.split_once('@').ok_or_else(fault)?;
        if nick.is_empty() || user.is_empty() || host.is_empty() || mask.contains(char::is_whitespace) {
            return Err(fault());
        }
        if ![user, host].iter().any(|part| part.contains(|c: char| c.is_alphanumeric())) {
            return Err(UserFault::Everybody(mask.to_owned()));
        }
        if !self.hosts.iter().any(|host| host == mask) {
            self.hosts.push(mask.to_owned());
        }
        Ok(())
    }
}

/// Whether this can be a handle.
pub(super) fn check_handle(handle: &str) -> Result<(), UserFault> {
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_[]{}^`|\\".contains(c);
    let good = !handle.is_empty()
        && handle.len() <= HANDLE_MAX
        && handle.chars().all(letters)
        && !handle.eq_ignore_ascii_case(CONSOLE)
        && !handle.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    // Whoever brings a long one is not quoted at length.
    if good { Ok(()) } else { Err(UserFault::Handle(handle.chars().take(HANDLE_MAX + 1).collect())) }
}

/// Whether a mark can be written down: records are looked through with every event.
pub(super) fn is_short(what: &'static str, text: &str) -> Result<(), UserFault> {
    if text.len() <= MARK_MAX { Ok(()) } else { Err(UserFault::Long { what }) }
}

fn change(set: FlagSet, changes: &str, section: Section) -> Result<FlagSet, UserFault> {
    set.change(changes, section).map_err(|fault| UserFault::Flags { text: changes.to_owned(), fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_refuses_what_can_never_be_met_or_meets_everybody() {
        let mut user = User::new("alice").unwrap();
        assert!(user.add_host("*!*@*").is_err());
        assert!(user.add_host("alice@host").is_err());
        user.add_host("*!alice@*.example.net").unwrap();
        assert!(user.add_account("alice").is_err());
        user.add_account("libera/alice").unwrap();
        assert!(user.add_cert("abc").is_err());
        user.add_cert(&"AB:".repeat(32)).unwrap();
        assert_eq!(user.certs, ["ab".repeat(32)]);
        assert!(user.change_channel_flags("ops", "+o").is_err());
        user.change_channel_flags("libera/#ops", "+o").unwrap();
        user.change_channel_flags("libera/#ops", "-ol").unwrap();
        assert!(user.channels.is_empty());
        for bad in ["", "1st", "a b", "-x", "é", "Console", &"x".repeat(33)] {
            assert!(User::new(bad).is_err(), "{bad}");
        }
    }
}
