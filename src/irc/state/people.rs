//! Who somebody is, as far as the server tells: by WHO and WHOIS, and by the tags of a line.

use masterchief_contract::Actor;

use super::{Message, Person, Source, State};

/// The query type in our WHOX requests, so that we know the answers.
const WHOX_TOKEN: &str = "152";
/// What our WHOX asks for: token, channel, user, host, nick, flags, account, real name.
pub(in crate::irc) const WHOX_FIELDS: &str = "%tcuhnfar,152";

impl State {
    /// Whether the server is to be asked for somebody's certificate now: once, and only about those we share a channel
    /// with, so that nobody can make us ask without end.
    pub(in crate::irc) fn ask_certificate(&mut self, nick: &str) -> bool {
        let key = self.fold(nick);
        let first = |person: &mut Person| !std::mem::replace(&mut person.asked, true);
        self.people.get_mut(&key).is_some_and(first)
    }

    /// Whether the server tells of changes from now on. What was known before may have changed untold, or will.
    pub(in crate::irc) fn follow_accounts(&mut self, follows: bool) {
        self.follows_accounts = follows;
        self.people.values_mut().for_each(|person| person.account = None);
    }

    /// Who sent a line, with the account the server vouches for: by the tag if `tagged`, else as it told before, if
    /// it tells of every change (`notified`).
    pub(in crate::irc) fn actor(&self, message: &Message<'_>, tagged: bool, notified: bool) -> Option<Actor> {
        let source = message.source?;
        let person = self.people.get(&self.fold(source.nick)).filter(|person| same_host(person, &source));
        // An extended JOIN tells itself.
        let extended = (message.command == "JOIN" && message.params().len() > 2).then(|| message.param(1).to_owned());
        let account = if extended.is_some() {
            extended
        } else if tagged {
            message.tags.get("account").map(|account| account.into_owned())
        } else {
            person.filter(|_| notified).and_then(|person| person.account.clone())
        };
        Some(Actor {
            nick: source.nick.to_owned(),
            user: source.user.to_owned(),
            host: source.host.to_owned(),
            account: account.filter(|account| is_account(account)),
            cert: person.and_then(|person| person.cert.clone()),
            login: None,
            bot: message.tags.get("bot").is_some() || person.is_some_and(|person| person.bot),
            own: self.is_own(source.nick),
            seen: person.is_some() || message.command == "JOIN",
        })
    }

    /// The account in the tag of somebody's words, or that there is none, is theirs from now on.
    pub(in crate::irc) fn vouched(&mut self, actor: &Actor) {
        if self.follows_accounts && actor.seen {
            self.with_person(&actor.nick, |person| person.account.clone_from(&actor.account));
        }
    }

    /// Who somebody is now: under the nick of then, or, where that is nobody's or another's, the client of the same account, user
    /// and host. Where the server does not tell who logs out, the account of then stays theirs as long as they are there.
    pub(in crate::irc) fn now(&self, then: &Actor) -> Option<Actor> {
        let source = Source { nick: &then.nick, user: &then.user, host: &then.host };
        let account = |person: &Person| then.account.is_some() && person.account == then.account;
        let same = |person: &&Person| same_host(person, &source) || account(person);
        let found = self.people.get(&self.fold(&then.nick)).filter(same);
        let renamed = || {
            let mut all = self.people.values();
            all.find(|person| account(person) && !person.host.is_empty() && same_host(person, &source))
        };
        let person = found.or_else(renamed)?;
        let known = |now: &str, then: &str| if now.is_empty() { then.to_owned() } else { now.to_owned() };
        Some(Actor {
            nick: person.nick.clone(),
            user: known(&person.user, &then.user),
            host: known(&person.host, &then.host),
            account: if self.follows_accounts { person.account.clone() } else { then.account.clone() },
            cert: person.cert.clone(),
            ..then.clone()
        })
    }

    /// 354: us, token, channel, user, host, nick, flags, account, real name.
    pub(super) fn whox(&mut self, message: &Message<'_>) {
        let [_, token, _, user, host, nick, flags, account, ..] = message.params() else {
            return;
        };
        if *token != WHOX_TOKEN {
            return;
        }
        let account = Some((*account).to_owned()).filter(|account| is_account(account));
        self.with_person(nick, |person| person.account = account);
        self.seen_in_who(nick, (user, host), flags, message.param(8));
    }

    /// 352: us, channel, user, host, server, nick, flags, hops and real name.
    pub(super) fn who(&mut self, message: &Message<'_>) {
        let [_, _, user, host, _, nick, flags, last, ..] = message.params() else {
            return;
        };
        let realname = last.split_once(' ').map_or("", |(_, name)| name);
        self.seen_in_who(nick, (user, host), flags, realname);
    }

    fn seen_in_who(&mut self, nick: &str, (user, host): (&str, &str), flags: &str, realname: &str) {
        let bot = self.isupport.bot_letter().is_some_and(|letter| flags.contains(letter));
        self.with_person(nick, |person| {
            (person.user, person.host) = (user.to_owned(), host.to_owned());
            (person.bot, person.away) = (bot, flags.starts_with('G'));
            person.realname = realname.to_owned();
        });
    }

    /// 276: `has client certificate fingerprint HEX`.
    pub(super) fn certificate(&mut self, nick: &str, text: &str) {
        let hex = text.rsplit(' ').next().unwrap_or("").replace(':', "").to_ascii_lowercase();
        if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.with_person(nick, |person| person.cert = Some(hex));
        }
    }
}

/// Whether a known person and the source of a line are the same client, as far as can be told.
pub(super) fn same_host(person: &Person, source: &Source<'_>) -> bool {
    let host = person.host.is_empty() || source.host.is_empty() || person.host == source.host;
    let user = person.user.is_empty() || source.user.is_empty() || person.user == source.user;
    host && user
}

/// `*` and `0` say that there is none.
pub(super) fn is_account(account: &str) -> bool {
    !matches!(account, "" | "*" | "0")
}
