//! Who somebody is at this moment, and what that allows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::{Actor, CaseMap, EventData, FlagScope, Who};

use super::book::PARTYLINE;
use super::flags::{FlagMask, FlagSet};
use super::user::{CONSOLE, User};

/// Who somebody is to the bot at this moment, and what that allows.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The handle, and whether it is vouched for.
    pub who: Who,
    pub(super) user: Option<Arc<User>>,
    /// Global flags, those of roles included, as far as they count now.
    pub(super) global: FlagSet,
    /// Which letters count at all.
    pub(super) counts: FlagSet,
    /// A role that the configuration does not know: then nothing is allowed.
    pub(super) unknown_role: Option<String>,
    /// Whether what counts only while somebody is elevated counts.
    pub(super) elevated: bool,
    /// The console.
    pub(super) everything: bool,
}

impl Standing {
    pub(super) fn console() -> Standing {
        Standing {
            who: Who { handle: Some(Arc::from(CONSOLE)), vouched: true },
            everything: true,
            ..Standing::default()
        }
    }

    /// The same with what counts only while somebody is elevated.
    pub(super) fn raised(mut self, roles: &BTreeMap<String, FlagSet>) -> Standing {
        let Some(user) = self.user.clone() else { return self };
        self.elevated = true;
        self.global = self.global.union(user.sudo);
        for role in &user.sudo_roles {
            match roles.get(role) {
                Some(flags) => self.global = self.global.union(*flags),
                None => self.unknown_role = Some(role.clone()),
            }
        }
        self
    }

    /// Whether they may lend themselves anything.
    pub fn may_rise(&self) -> bool {
        self.who.vouched && self.user.as_ref().is_some_and(|user| user.may_rise())
    }

    /// Whether they are elevated now.
    pub fn elevated(&self) -> bool {
        self.elevated
    }

    /// Whether Eggdrop's `allow-dk-cmds 0` keeps them from commands that are for everybody: who has the flag `d` or `k`, everywhere or
    /// where the event counts, and no `p`. A hostmask is enough to be kept out.
    pub fn is_kept_out(&self, event: &EventData, scope: FlagScope) -> bool {
        let Some(user) = self.user.as_ref().filter(|_| !self.everything && !self.global.has('p')) else { return false };
        let doubted = Standing { counts: FlagSet::ALL, ..self.clone() };
        let here = match (scope, event.chan.as_deref()) {
            (FlagScope::Channel, Some(chan)) => doubted.channel_flags(&event.network, chan, event.casemap),
            _ => doubted.any_channel_flags(&event.network),
        };
        let flags = user.flags.union(self.global).union(here);
        flags.has('d') || flags.has('k')
    }

    /// Whether a bind with this mask may run for this person here. What is in doubt is denied.
    pub fn allows(
        &self,
        mask: &FlagMask,
        scope: FlagScope,
        network: &str,
        chan: Option<&str>,
        casemap: CaseMap,
    ) -> bool {
        if mask.is_open() || self.everything {
            return true;
        }
        if self.user.is_none() || self.unknown_role.is_some() {
            return false;
        }
        let channel = match scope {
            FlagScope::Channel => chan.map_or(FlagSet::NONE, |chan| self.channel_flags(network, chan, casemap)),
            FlagScope::AnyChannel => self.any_channel_flags(network).union(self.global),
            FlagScope::Global => FlagSet::NONE,
            FlagScope::Nobody => return false,
        };
        mask.allows(self.global, channel)
    }

    /// The roles of the record, if somebody who can know vouches for the person.
    pub fn roles(&self) -> Vec<String> {
        let Some(user) = self.user.as_ref().filter(|_| self.who.vouched && self.unknown_role.is_none()) else {
            return Vec::new();
        };
        let more = if self.elevated { user.sudo_roles.as_slice() } else { &[] };
        user.roles.iter().chain(more).cloned().collect()
    }

    /// When it was last changed by what the person is known, in Unix milliseconds.
    pub fn touched(&self) -> Option<i64> {
        self.user.as_ref()?.touched
    }

    /// The flags that count now: everywhere, and on this channel.
    pub fn flags(&self, network: &str, chan: Option<&str>, casemap: CaseMap) -> (FlagSet, FlagSet) {
        if self.everything {
            return (FlagSet::ALL, FlagSet::ALL);
        }
        (self.global, chan.map_or(FlagSet::NONE, |chan| self.channel_flags(network, chan, casemap)))
    }

    fn channel_flags(&self, network: &str, chan: &str, casemap: CaseMap) -> FlagSet {
        self.on_channels(|home, name| home.is_none_or(|home| home == network) && casemap.eq(name, chan))
    }

    fn any_channel_flags(&self, network: &str) -> FlagSet {
        // The partyline has no channels that flags are held on: whoever holds them anywhere holds them there.
        self.on_channels(|home, _| network == PARTYLINE || home.is_none_or(|home| home == network))
    }

    fn on_channels(&self, counts: impl Fn(Option<&str>, &str) -> bool) -> FlagSet {
        let Some(user) = &self.user else { return FlagSet::NONE };
        let mut flags = FlagSet::NONE;
        for (key, set) in &user.channels {
            let (home, name) = match key.rsplit_once('/') {
                Some((home, name)) => (Some(home), name),
                None => (None, key.as_str()),
            };
            if counts(home, name) {
                flags = flags.union(*set);
            }
        }
        flags.common(self.counts)
    }

    /// One sentence for a person who was denied: what is missing and what to do next.
    pub fn explain_denial(&self, word: &str, mask: &FlagMask, actor: &Actor, network: &str) -> String {
        if let Some(role) = &self.unknown_role {
            return format!(
                "{word} is denied: your role {role} is not configured. Ask an owner to add it under users.roles."
            );
        }
        let Some(handle) = &self.who.handle else {
            return match &actor.account {
                Some(account) => format!(
                    "{word} needs the flags {mask}, and I do not know the account {account}. Ask an owner: masterchief users add NAME --account {network}/{account}"
                ),
                None => format!(
                    "{word} needs the flags {mask}, and I do not know you. Log in to services, and ask an owner for a record with your account."
                ),
            };
        };
        if !self.who.vouched {
            return format!(
                "{word} needs the flags {mask}. I take you for {handle} by your hostmask, which is not enough: log in to services."
            );
        }
        if let Some(user) = self.user.as_ref().filter(|user| user.may_rise() && !self.elevated) {
            return format!(
                "{word} needs the flags {mask}, which {handle} does not have here now. !sudo 15m WHY lends you {}.",
                user.lent()
            );
        }
        format!(
            "{word} needs the flags {mask}, which {handle} does not have here. Ask an owner: masterchief users chattr {handle} FLAGS"
        )
    }
}
