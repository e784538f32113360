//! What is known of the network: ourselves, the channels we are in, and the people in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use masterchief_contract::CaseMap;

use super::isupport::ISupport;
use super::message::{Message, Source};
use people::{is_account, same_host};

mod people;

pub(super) use people::WHOX_FIELDS;

/// Members kept of one channel; more are hostile.
const MEMBERS_MAX: usize = 100_000;
/// Members kept of all channels together, and after how many more of one they are counted.
const ALL_MEMBERS_MAX: (usize, usize) = (1_000_000, 1024);
/// The longest nick that is kept, far beyond any server's.
const NAME_MAX: usize = 256;
/// Channels we can be in; a server that puts us in more is hostile.
const CHANNELS_MAX: usize = 1000;

/// A member of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The nick.
    pub nick: String,
    /// The user name, where known.
    pub user: String,
    /// The host, where known.
    pub host: String,
    /// The services account, where the server vouches for one.
    pub account: Option<String>,
    /// Status symbols, highest first: `@+`.
    pub status: String,
    /// Whether they are away, as far as the server tells.
    pub away: bool,
    /// Whether the network marks them as a bot.
    pub bot: bool,
    /// The real name, where known.
    pub realname: String,
}

/// A person we share a channel with.
#[derive(Clone, Debug, Default)]
struct Person {
    nick: String,
    user: String,
    host: String,
    account: Option<String>,
    cert: Option<String>,
    /// Whether the server was asked for the certificate.
    asked: bool,
    bot: bool,
    away: bool,
    realname: String,
}

/// A channel we are in.
#[derive(Clone, Debug, Default)]
pub(super) struct Channel {
    /// Its name as the server writes it.
    pub(super) name: String,
    /// The topic.
    pub(super) topic: String,
    /// When we joined, by the server's clock.
    pub(super) joined: Option<DateTime<Utc>>,
    /// Letters that are set, lists left out. Parameters are not kept: a key is a secret.
    modes: BTreeSet<char>,
    /// Status letters by folded nick.
    members: BTreeMap<String, BTreeSet<char>>,
    /// Whether NAMES is complete.
    named: bool,
}

/// The picture. All names in it are folded by the network's casemapping.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Our nick, as the server knows it.
    pub(super) nick: String,
    /// Our `user@host` as others see it, once known.
    pub(super) mask: Option<(String, String)>,
    /// What the server says about itself.
    pub(super) isupport: ISupport,
    /// Whether `isupport` is this connection's. Some servers tell it before they welcome us.
    begun: bool,
    /// When this connection was welcomed, by the server's clock.
    pub(super) welcomed: Option<DateTime<Utc>>,
    /// Whether the server tells of every login and logout. Otherwise what it told once may be long over.
    follows_accounts: bool,
    channels: BTreeMap<String, Channel>,
    people: BTreeMap<String, Person>,
}

impl State {
    /// How names are compared here.
    pub(super) fn casemap(&self) -> CaseMap {
        self.isupport.casemap()
    }

    /// A name for comparing.
    pub(super) fn fold(&self, name: &str) -> String {
        self.casemap().fold(name)
    }

    /// Whether this nick is ours.
    pub(super) fn is_own(&self, nick: &str) -> bool {
        self.casemap().eq(nick, &self.nick)
    }

    /// Whether we are in a channel.
    pub(super) fn is_in(&self, chan: &str) -> bool {
        self.channels.contains_key(&self.fold(chan))
    }

    /// A channel we are in.
    pub(super) fn channel(&self, chan: &str) -> Option<&Channel> {
        self.channels.get(&self.fold(chan))
    }

    /// Whether we are an operator in a channel, as far as its members are known.
    pub(super) fn is_operator(&self, chan: &str) -> bool {
        let letters = self.channel(chan).and_then(|channel| channel.members.get(&self.fold(&self.nick)));
        letters.is_some_and(|letters| {
            letters.iter().any(|letter| self.isupport.is_operator(*letter)) || self.isupport.statuses().is_empty()
        })
    }

    /// Whether the members of a channel are all told.
    pub(super) fn is_named(&self, chan: &str) -> bool {
        self.channel(chan).is_some_and(|channel| channel.named)
    }

    /// The names of the channels we are in.
    pub(super) fn channels(&self) -> Vec<String> {
        self.channels.values().map(|channel| channel.name.clone()).collect()
    }

    /// The channels we share with somebody.
    pub(super) fn channels_of(&self, nick: &str) -> Vec<String> {
        let key = self.fold(nick);
        let shared = self.channels.values().filter(|channel| channel.members.contains_key(&key));
        shared.map(|channel| channel.name.clone()).collect()
    }

    /// The members of a channel.
    pub(super) fn members(&self, chan: &str) -> Vec<Member> {
        let Some(channel) = self.channel(chan) else {
            return Vec::new();
        };
        let statuses = self.isupport.statuses();
        let mut out = Vec::with_capacity(channel.members.len());
        for (key, letters) in &channel.members {
            let Some(person) = self.people.get(key) else { continue };
            let status = statuses.iter().filter(|(letter, _)| letters.contains(letter)).map(|(_, symbol)| symbol);
            out.push(Member {
                nick: person.nick.clone(),
                user: person.user.clone(),
                host: person.host.clone(),
                account: person.account.clone().filter(|_| self.follows_accounts),
                status: status.collect(),
                away: person.away,
                bot: person.bot,
                realname: person.realname.clone(),
            });
        }
        out
    }

    /// The connection is gone. The casemapping is kept: keys of queues and of wanted channels are folded by it.
    pub(super) fn disconnected(&mut self) {
        let isupport = std::mem::take(&mut self.isupport);
        *self = State { isupport, ..State::default() };
    }

    /// Takes a line in. `at` is its time as the server tells it.
    pub(super) fn take(&mut self, message: &Message<'_>, at: Option<DateTime<Utc>>) {
        let source = message.source.unwrap_or(Source { nick: "", user: "", host: "" });
        match message.command {
            "001" => {
                self.begin();
                self.nick = message.param(0).to_owned();
                self.welcomed = at;
                // `Welcome to X nick!user@host` is the first to tell how others see us.
                if let Some((_, mask)) = message.last().rsplit_once(' ') {
                    self.see_own_mask(&Source::parse(mask));
                }
            }
            "005" => self.take_isupport(message),
            "332" => self.set_topic(message.param(1), message.last()),
            "331" => self.set_topic(message.param(1), ""),
            "324" => self.set_modes(message.param(1), message.param(2), message.params().get(3..).unwrap_or(&[])),
            "353" => self.named(message.param(2), message.last()),
            "366" => self.names_end(message.param(1)),
            "352" => self.who(message),
            "354" => self.whox(message),
            "276" => self.certificate(message.param(1), message.last()),
            "396" => self.host_hidden(message.param(1)),
            "JOIN" => self.joined(message, &source, at),
            "PART" => self.left(message.param(0), source.nick),
            "KICK" => self.left(message.param(0), message.param(1)),
            "QUIT" => self.quit(source.nick),
            "NICK" => self.renamed(&source, message.param(0)),
            "MODE" if self.isupport.is_channel(message.param(0)) => {
                self.set_modes(message.param(0), message.param(1), message.params().get(2..).unwrap_or(&[]));
            }
            "TOPIC" => self.set_topic(message.param(0), message.param(1)),
            "ACCOUNT" => {
                let account = Some(message.param(0).to_owned()).filter(|account| is_account(account));
                self.with_person(source.nick, |person| person.account = account);
            }
            "AWAY" => self.with_person(source.nick, |person| person.away = !message.param(0).is_empty()),
            "SETNAME" => {
                let name = message.param(0).to_owned();
                self.with_person(source.nick, |person| person.realname = name);
            }
            "RENAME" => self.channel_renamed(message.param(0), message.param(1)),
            "CHGHOST" => {
                let (user, host) = (message.param(0).to_owned(), message.param(1).to_owned());
                if self.is_own(source.nick) {
                    self.mask = Some((user.clone(), host.clone()));
                }
                self.with_person(source.nick, |person| (person.user, person.host) = (user, host));
            }
            _ => {}
        }
    }

    /// The server begins to speak of itself: what another one said is worth nothing now.
    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.isupport = ISupport::default();
        }
    }

    fn take_isupport(&mut self, message: &Message<'_>) {
        self.begin();
        let before = self.casemap();
        self.isupport.take(message.params());
        let named = message.params().iter().any(|token| token.starts_with("CASEMAPPING="));
        let value = self.isupport.get("CASEMAPPING").unwrap_or("");
        if named && CaseMap::parse(value).is_none() {
            tracing::warn!(value, "The server compares names in a way that is not known; ASCII is taken for it");
        }
        if self.casemap() != before {
            self.refold();
        }
    }

    /// A change of what the server says about itself is taken back. Gives whether names are compared otherwise now.
    pub(super) fn take_back(&mut self, token: &str, change: Option<&str>, was: Option<&str>) -> bool {
        let before = self.casemap();
        let other = self.isupport.take_back(token, change, was) && self.casemap() != before;
        if other {
            self.refold();
        }
        other
    }

    /// The keys anew, after the server changed its casemapping.
    fn refold(&mut self) {
        let casemap = self.casemap();
        let fold = |name: &str| casemap.fold(name);
        let people = std::mem::take(&mut self.people);
        self.people = people.into_values().map(|person| (fold(&person.nick), person)).collect();
        let channels = std::mem::take(&mut self.channels);
        for (_, mut channel) in channels {
            let members = std::mem::take(&mut channel.members);
            channel.members = members.into_iter().map(|(nick, letters)| (fold(&nick), letters)).collect();
            self.channels.insert(fold(&channel.name), channel);
        }
    }

    fn see_own_mask(&mut self, source: &Source<'_>) {
        if self.is_own(source.nick) && !source.host.is_empty() {
            self.mask = Some((source.user.to_owned(), source.host.to_owned()));
        }
    }

    /// 396: `host` or `user@host` as others see it now.
    fn host_hidden(&mut self, shown: &str) {
        let (user, host) = shown.rsplit_once('@').unwrap_or(("", shown));
        if let Some((old_user, old_host)) = &mut self.mask {
            *old_host = host.to_owned();
            if !user.is_empty() {
                *old_user = user.to_owned();
            }
        }
    }

    fn joined(&mut self, message: &Message<'_>, source: &Source<'_>, at: Option<DateTime<Utc>>) {
        let chan = message.param(0);
        if self.is_own(source.nick) {
            self.see_own_mask(source);
            if self.channels.len() >= CHANNELS_MAX {
                return;
            }
            let channel = Channel { name: chan.to_owned(), joined: at, ..Channel::default() };
            self.channels.insert(self.fold(chan), channel);
        }
        // Extended JOIN says the account; a plain one leaves it to a tag.
        let extended = (message.params().len() > 2).then(|| message.param(1).to_owned());
        let account = extended.or_else(|| message.tags.get("account").map(|account| account.into_owned()));
        self.add_member(chan, source, &[]);
        let realname = (message.params().len() > 2).then(|| message.param(2).to_owned());
        self.with_person(source.nick, |person| {
            if let Some(account) = account {
                person.account = Some(account).filter(|account| is_account(account));
            }
            if let Some(realname) = realname {
                person.realname = realname;
            }
        });
    }

    fn add_member(&mut self, chan: &str, source: &Source<'_>, letters: &[char]) {
        let key = self.fold(source.nick);
        let chan = self.fold(chan);
        let here = self.channels.get(&chan).map_or(0, |channel| channel.members.len());
        let (most, step) = ALL_MEMBERS_MAX;
        // Counted now and then: a sum for each of a million would take its time.
        let all = || self.channels.values().map(|channel| channel.members.len()).sum::<usize>();
        if here >= MEMBERS_MAX || source.nick.len() > NAME_MAX || here % step == step - 1 && all() >= most {
            return;
        }
        let Some(channel) = self.channels.get_mut(&chan) else {
            return;
        };
        channel.members.insert(key.clone(), letters.iter().copied().collect());
        let person = self.people.entry(key).or_default();
        if !person.nick.is_empty() && !same_host(person, source) {
            // Another person behind the same nick: nothing we knew holds.
            *person = Person::default();
        }
        person.nick = source.nick.to_owned();
        if !source.host.is_empty() {
            (person.user, person.host) = (source.user.to_owned(), source.host.to_owned());
        }
    }

    fn named(&mut self, chan: &str, names: &str) {
        let statuses = self.isupport.statuses();
        let key = self.fold(chan);
        if self.channels.get(&key).is_some_and(|channel| channel.named)
            && let Some(channel) = self.channels.get_mut(&key)
        {
            // A second NAMES replaces the first.
            channel.members.clear();
            channel.named = false;
        }
        for name in names.split(' ').filter(|name| !name.is_empty()) {
            let bare = name.trim_start_matches(|c| statuses.iter().any(|(_, symbol)| *symbol == c));
            let symbols = &name[..name.len() - bare.len()];
            let letters: Vec<char> = symbols
                .chars()
                .filter_map(|c| statuses.iter().find(|(_, symbol)| *symbol == c).map(|(letter, _)| *letter))
                .collect();
            self.add_member(chan, &Source::parse(bare), &letters);
        }
    }

    fn names_end(&mut self, chan: &str) {
        let key = self.fold(chan);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.named = true;
        }
    }

    fn channel_renamed(&mut self, old: &str, new: &str) {
        if let Some(mut channel) = self.channels.remove(&self.fold(old)) {
            channel.name = new.to_owned();
            self.channels.insert(self.fold(new), channel);
        }
    }

    fn left(&mut self, chan: &str, nick: &str) {
        let (chan, key) = (self.fold(chan), self.fold(nick));
        if self.is_own(nick) {
            self.channels.remove(&chan);
            self.forget_strangers();
        } else if let Some(channel) = self.channels.get_mut(&chan) {
            channel.members.remove(&key);
            self.forget_if_stranger(&key);
        }
    }

    fn quit(&mut self, nick: &str) {
        let key = self.fold(nick);
        for channel in self.channels.values_mut() {
            channel.members.remove(&key);
        }
        self.people.remove(&key);
    }

    fn renamed(&mut self, source: &Source<'_>, to: &str) {
        if self.is_own(source.nick) {
            self.nick = to.to_owned();
            self.see_own_mask(&Source { nick: to, ..*source });
        }
        let (old, new) = (self.fold(source.nick), self.fold(to));
        if let Some(mut person) = self.people.remove(&old) {
            person.nick = to.to_owned();
            self.people.insert(new.clone(), person);
        }
        for channel in self.channels.values_mut() {
            if let Some(letters) = channel.members.remove(&old) {
                channel.members.insert(new.clone(), letters);
            }
        }
    }

    fn set_modes(&mut self, chan: &str, letters: &str, params: &[&str]) {
        let changes = self.isupport.modes(letters, params);
        let statuses = self.isupport.statuses();
        let key = self.fold(chan);
        let casemap = self.casemap();
        let lists = self.isupport.get("CHANMODES").unwrap_or("b").split(',').next().unwrap_or("").to_owned();
        let Some(channel) = self.channels.get_mut(&key) else {
            return;
        };
        for change in changes {
            let status = statuses.iter().any(|(letter, _)| *letter == change.letter);
            if status {
                let nick = casemap.fold(change.param.as_deref().unwrap_or(""));
                if let Some(letters) = channel.members.get_mut(&nick) {
                    if change.add {
                        letters.insert(change.letter)
                    } else {
                        letters.remove(&change.letter)
                    };
                }
            } else if change.add && !lists.contains(change.letter) {
                channel.modes.insert(change.letter);
            } else {
                channel.modes.remove(&change.letter);
            }
        }
    }

    fn set_topic(&mut self, chan: &str, topic: &str) {
        let key = self.fold(chan);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.topic = topic.to_owned();
        }
    }

    fn with_person(&mut self, nick: &str, change: impl FnOnce(&mut Person)) {
        let key = self.fold(nick);
        if let Some(person) = self.people.get_mut(&key) {
            change(person);
        }
    }

    fn forget_if_stranger(&mut self, key: &str) {
        if !self.channels.values().any(|channel| channel.members.contains_key(key)) {
            self.people.remove(key);
        }
    }

    fn forget_strangers(&mut self) {
        let channels = &self.channels;
        self.people.retain(|key, _| channels.values().any(|channel| channel.members.contains_key(key)));
    }
}

impl Channel {
    /// Whether a mode is set.
    pub(super) fn has_mode(&self, letter: char) -> bool {
        self.modes.contains(&letter)
    }

    /// The modes as in `+ntk`.
    pub(super) fn modes(&self) -> String {
        if self.modes.is_empty() { String::new() } else { format!("+{}", self.modes.iter().collect::<String>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: &[&str]) -> State {
        let mut state = State::default();
        state.follow_accounts(true);
        take(&mut state, &[":s 001 chief :Welcome to TestNet chief!chief@host.test"]);
        take(
            &mut state,
            &[":s 005 chief CASEMAPPING=rfc1459 PREFIX=(ov)@+ CHANMODES=b,k,l,imnpst BOT=B :are supported"],
        );
        take(&mut state, &[":chief!chief@host.test JOIN #ops * :bot"]);
        take(&mut state, lines);
        state
    }

    fn take(state: &mut State, lines: &[&str]) {
        for line in lines {
            state.take(&Message::parse(line).unwrap(), None);
        }
    }

    fn members(state: &State) -> Vec<String> {
        let show = |member: Member| format!("{}{}={}", member.status, member.nick, member.account.unwrap_or_default());
        state.members("#ops").into_iter().map(show).collect()
    }

    fn account(state: &State, line: &str, tagged: bool) -> Option<String> {
        state.actor(&Message::parse(line).unwrap(), tagged, true).unwrap().account
    }

    #[test]
    fn names_joins_modes_and_renames_make_the_members() {
        let mut state = state(&[
            ":s 353 chief = #ops :chief @+alice!a@h bob!b@h",
            ":s 366 chief #ops :End",
            ":carol!c@h JOIN #OPS carol :Carol",
            ":alice!a@h MODE #ops -o+vb alice bob *!*@x",
            ":bob!b@h NICK Robert",
        ]);
        assert_eq!(members(&state), ["+alice=", "carol=carol", "chief=", "+Robert="]);
        take(&mut state, &[":alice!a@h PART #ops", ":s KICK #ops carol :out", ":robert!b@h QUIT :bye"]);
        assert_eq!(members(&state), ["chief="]);
        assert!(state.people.keys().eq(["chief"]));
    }

    #[test]
    fn names_are_folded_as_the_network_does() {
        let mut state = state(&[":nick[a]!a@h JOIN #ops acct :x"]);
        take(&mut state, &[":NICK{A}!a@h ACCOUNT other"]);
        assert_eq!(members(&state), ["chief=", "nick[a]=other"]);
        assert!(state.is_in("#OPS"));
    }

    #[test]
    fn an_account_is_believed_only_while_the_server_vouches_for_it() {
        let mut state = state(&[":alice!a@h JOIN #ops alice :Alice"]);
        assert_eq!(account(&state, ":alice!a@h PRIVMSG #ops :hi", false).as_deref(), Some("alice"));
        assert_eq!(account(&state, ":alice!a@h PRIVMSG #ops :hi", true), None, "the tag is missing: logged out");
        assert_eq!(account(&state, ":alice!evil@h2 PRIVMSG #ops :hi", false), None, "another person with the nick");
        take(&mut state, &[":alice!a@h ACCOUNT *"]);
        assert_eq!(account(&state, ":alice!a@h PRIVMSG #ops :hi", false), None);
        take(&mut state, &[":alice!a@h ACCOUNT alice", ":alice!a@h PART #ops"]);
        assert_eq!(account(&state, ":alice!a@h PRIVMSG chief :hi", false), None, "no shared channel, no news of her");
    }

    #[test]
    fn where_nobody_tells_of_a_logout_nobody_is_taken_for_logged_in() {
        let mut state = state(&[":alice!a@h JOIN #ops alice :Alice"]);
        assert_eq!(members(&state), ["alice=alice", "chief="]);
        state.follow_accounts(false);
        take(&mut state, &[":bob!b@h JOIN #ops bob :Bob"]);
        assert_eq!(members(&state), ["alice=", "bob=", "chief="]);
        state.follow_accounts(true);
        assert_eq!(members(&state), ["alice=", "bob=", "chief="], "what was told before may be over");
    }

    #[test]
    fn a_join_tells_the_account_itself() {
        let state = state(&[]);
        assert_eq!(account(&state, ":alice!a@h JOIN #ops alice :Alice", false).as_deref(), Some("alice"));
        assert_eq!(account(&state, ":alice!a@h JOIN #ops * :Alice", true), None);
    }

    #[test]
    fn who_and_whois_tell_of_accounts_bots_and_certificates() {
        let mut state = state(&[":s 353 chief = #ops :chief bob robo", ":s 366 chief #ops :End"]);
        let fingerprint = "AB".repeat(32);
        take(
            &mut state,
            &[
                ":s 354 chief 152 #ops b h bob G bobby :Bob B.",
                ":s 354 chief 152 #ops r h robo HB 0",
                ":s 354 chief 999 #ops x h bob H mallory",
                &format!(":s 276 chief bob :has client certificate fingerprint {fingerprint}"),
            ],
        );
        assert_eq!(members(&state), ["bob=bobby", "chief=", "robo="]);
        let bob = state.actor(&Message::parse(":bob!b@h PRIVMSG #ops :x").unwrap(), false, true).unwrap();
        assert_eq!(bob.cert, Some(fingerprint.to_lowercase()));
        let robo = state.actor(&Message::parse(":robo!r@h PRIVMSG #ops :x").unwrap(), false, true).unwrap();
        assert!(robo.bot && robo.account.is_none());
        let away: Vec<_> = state.members("#ops").into_iter().map(|member| (member.away, member.realname)).collect();
        assert_eq!(away[0], (true, "Bob B.".to_owned()));
        take(&mut state, &[":bob!b@h AWAY", ":bob!b@h SETNAME :Robert", ":s 352 chief #ops r h irc robo G@ :0 Robo T"]);
        let members = state.members("#ops");
        assert_eq!((members[0].away, members[0].realname.as_str()), (false, "Robert"));
        assert_eq!((members[2].away, members[2].realname.as_str()), (true, "Robo T"));
    }

    #[test]
    fn what_a_server_says_of_itself_before_its_welcome_holds_and_another_servers_does_not() {
        let mut state = state(&[]);
        assert_eq!(state.isupport.bot_letter(), Some('B'));
        state.disconnected();
        assert_eq!(state.isupport.bot_letter(), Some('B'), "kept while nobody else speaks");
        take(&mut state, &[":s 005 * CASEMAPPING=ascii :x", ":s 001 chief :hi"]);
        assert_eq!((state.isupport.bot_letter(), state.casemap()), (None, CaseMap::Ascii));
    }

    #[test]
    fn a_channel_that_is_renamed_keeps_its_people() {
        let mut state = state(&[":alice!a@h JOIN #ops", ":alice!a@h RENAME #ops #Operations :clearer"]);
        assert!(!state.is_in("#ops") && state.is_in("#operations"));
        assert_eq!(state.members("#operations").len(), 2);
        take(&mut state, &[":alice!a@h PART #operations"]);
        assert_eq!(state.members("#operations").len(), 1);
    }

    #[test]
    fn our_own_nick_and_host_are_followed() {
        let mut state = state(&[":chief!chief@host.test NICK boss", ":boss!chief@host.test CHGHOST c cloak.test"]);
        assert_eq!((state.nick.as_str(), state.mask.clone().unwrap().1.as_str()), ("boss", "cloak.test"));
        take(&mut state, &[":s 396 boss other.test :is now your displayed host"]);
        assert_eq!(state.mask.unwrap(), ("c".to_owned(), "other.test".to_owned()));
    }

    #[test]
    fn a_topic_and_modes_are_kept_without_their_secrets() {
        let state = state(&[":s 332 chief #ops :be kind", ":s MODE #ops +kntl hunter2 5"]);
        let channel = state.channel("#ops").unwrap();
        assert_eq!((channel.topic.as_str(), channel.modes().as_str()), ("be kind", "+klnt"));
    }
}
