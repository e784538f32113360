//! What a row comes to: the event that those words would be, decided as the street decides. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use masterchief_contract::{Actor, CaseMap, Event, EventData, FlagScope, Kind, closest};
use tokio::time::Instant;

use super::table::{Person, Row, Table};
use crate::bot::deploys;
use crate::config::ConfigFault;
use crate::dispatch::{BindTable, Decision, Index, Policy, decide};
use crate::partyline::{DCC, NETWORK};
use crate::pipelines::{Asker, Catalog, May, is_word, permits};
use crate::users::{Book, Elevation, FlagMask, FlagSet, Presence};

/// What rows are held against.
pub(super) struct Judge<'a> {
    /// The networks there are.
    pub(super) networks: &'a [String],
    /// The binds.
    pub(super) index: &'a Index,
    /// The people.
    pub(super) book: &'a Book,
    /// The pipelines.
    pub(super) catalog: &'a Catalog,
    /// Names for several people, as approvals name them.
    pub(super) groups: BTreeMap<String, Vec<String>>,
}

/// What becomes of words.
enum Verdict {
    Done,
    /// Why not.
    Denied(String),
    /// They are no command, or it is about nothing that there is.
    Nothing(String),
}

impl Judge<'_> {
    /// The rows that do not hold, each with its place and what to do.
    pub(super) fn faults(&self, table: &Table) -> Vec<ConfigFault> {
        table.rows.iter().flat_map(|row| self.row(row)).collect()
    }

    /// The rows for people to read.
    pub(super) fn lines(&self, table: &Table) -> Vec<String> {
        let line = |row: &Row| {
            let faults = self.row(row);
            let words =
                row.words.iter().map(|(words, may)| format!("{} {words}", if *may { "may" } else { "may not" }));
            let words = words.collect::<Vec<_>>().join(", ");
            let held = if faults.is_empty() { "holds" } else { "FAILS" };
            format!("{held}  {} in {}: {words}", shown(row), place(row))
        };
        table.rows.iter().map(line).collect()
    }

    fn row(&self, row: &Row) -> Vec<ConfigFault> {
        let known = row.network == NETWORK || self.networks.contains(&row.network);
        if !known {
            let close = closest(&row.network, self.networks.iter().map(String::as_str));
            let hint = close.map(|close| format!("; did you mean {close}?")).unwrap_or_default();
            return vec![ConfigFault::at(&row.spot, format!("there is no network {}{hint}", row.network))];
        }
        if let Person::Login(handle) = &row.who
            && self.book.get(handle).is_none()
        {
            let message = format!("there is no record of {handle}; `masterchief users list` lists them");
            return vec![ConfigFault::at(&row.spot, message)];
        }
        let why = row.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let (who, place) = (shown(row), place(row));
        let fault = |(words, may): &(String, bool)| {
            let message = match (self.verdict(row, words), may) {
                (Verdict::Done, true) | (Verdict::Denied(_), false) => return None,
                (Verdict::Done, false) => format!(
                    "{who} may {words} in {place}, and should not{why}: take flags or roles away, ask for others, or change this row"
                ),
                (Verdict::Denied(reason), true) => format!(
                    "{who} may not {words} in {place}, and should{why}: {reason}; give flags or roles, or change this row"
                ),
                (Verdict::Nothing(reason), _) => {
                    format!("{words} cannot be judged: {reason}; change this row, or bring back what it is about")
                }
            };
            Some(ConfigFault::at(&row.spot, message))
        };
        row.words.iter().filter_map(fault).collect()
    }

    fn verdict(&self, row: &Row, words: &str) -> Verdict {
        let event = event(row, words);
        let mut book = self.book.clone();
        if row.elevated {
            book = self.elevated(&event);
        }
        let standing = book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let Decision { steps, denied } = decide(self.index, &event, &standing, Policy::default());
        if let Some(denied) = denied.iter().find(|denied| denied.told) {
            return Verdict::Denied(format!("it needs the flags {}", denied.bind.flags));
        }
        let word = words.split_whitespace().next().unwrap_or("");
        let step = steps.iter().find(|step| matches!(step.kind, Kind::Pub | Kind::Msg | DCC));
        let of_pipelines = match step {
            Some(step) => &*step.bind.owner == deploys::OWNER,
            // Those words are bound when the first pipeline is there.
            None => is_word(word) && !self.catalog.is_empty(),
        };
        if !of_pipelines {
            return match step {
                Some(_) => Verdict::Done,
                None => Verdict::Nothing(format!("nothing listens to {word} there")),
            };
        }
        let may = May::of(&book, &event);
        let who = standing.who.handle.as_deref().unwrap_or("*").to_owned();
        let who = Asker { handle: who, ..Asker::of(&event) };
        let text = words.strip_prefix(word).unwrap_or("").trim();
        match permits(self.catalog, &self.groups, (word, text), (&who, &may)) {
            Ok(()) => Verdict::Done,
            Err(refusal) if refusal.kind == crate::pipelines::RefusalKind::Denied => Verdict::Denied(refusal.text),
            Err(refusal) => Verdict::Nothing(refusal.text),
        }
    }

    /// The book as if they had said `!sudo`.
    fn elevated(&self, event: &Event) -> Book {
        let book = self.book.apart();
        let who = book.recognise(event.actor.as_ref(), &event.network, event.casemap).who;
        let presence = event.actor.as_ref().and_then(|actor| Presence::of(actor, &event.network));
        if let Some((handle, presence)) = who.handle.filter(|_| who.vouched).zip(presence) {
            let until = Instant::now() + std::time::Duration::from_secs(60);
            book.elevate(&Elevation { handle: handle.to_string(), presence, until, place: String::new() });
        }
        book
    }
}

/// The event that a row's words would be.
fn event(row: &Row, words: &str) -> Event {
    let command = row.network == NETWORK && row.channel.is_none();
    let (kinds, text): (&'static [Kind], &str) = match words.strip_prefix('.') {
        Some(rest) if command => (&[DCC], rest),
        _ if row.channel.is_some() => (&[Kind::Pubm, Kind::Pub], words),
        _ => (&[Kind::Msgm, Kind::Msg], words),
    };
    let mut data = EventData::new(kinds, DateTime::UNIX_EPOCH);
    data.network = Arc::from(row.network.as_str());
    data.chan = row.channel.as_deref().map(Arc::from);
    data.casemap = CaseMap::Rfc1459;
    text.clone_into(&mut data.text);
    let actor = |nick: &str, user: &str, host: &str| Actor {
        nick: nick.to_owned(),
        user: user.to_owned(),
        host: host.to_owned(),
        ..Actor::default()
    };
    data.actor = Some(match &row.who {
        Person::Stranger => actor("stranger", "stranger", ""),
        Person::Account(account) => Actor { account: Some(account.clone()), ..actor(account, account, "") },
        Person::Login(handle) => Actor { login: Some(handle.clone()), ..actor(handle, handle, NETWORK) },
        Person::Host(nick, user, host) => actor(nick, user, host),
    });
    Event::new(data)
}

fn shown(row: &Row) -> String {
    let who = match &row.who {
        Person::Stranger => "a stranger".to_owned(),
        Person::Account(account) => format!("{}/{account}", row.network),
        Person::Login(handle) => format!("login:{handle}"),
        Person::Host(nick, user, host) => format!("host:{nick}!{user}@{host}"),
    };
    if row.elevated { format!("{who}, elevated,") } else { who }
}

fn place(row: &Row) -> String {
    row.channel.as_ref().map_or_else(|| row.network.clone(), |channel| format!("{}/{channel}", row.network))
}

/// Everybody, with the flags they hold and those they may rise to.
struct People(Vec<(String, FlagSet, FlagSet)>);

impl People {
    fn of(book: &Book) -> People {
        let of = |handle: &str| (handle.to_owned(), book.holds(handle), book.stands(handle));
        People(book.all().iter().map(|user| of(&user.handle)).collect())
    }

    /// Who has these flags everywhere, or will once they have said `!sudo`.
    fn who(&self, mask: &FlagMask) -> String {
        let may = self.0.iter().filter_map(|(handle, holds, stands)| {
            match (mask.allows(*holds, FlagSet::NONE), mask.allows(*stands, FlagSet::NONE)) {
                (true, _) => Some(handle.clone()),
                (false, true) => Some(format!("{handle} (by !sudo)")),
                (false, false) => None,
            }
        });
        let may: Vec<String> = may.collect();
        if may.is_empty() { "nobody".to_owned() } else { may.join(" ") }
    }
}

/// What needs flags, and who has them everywhere.
pub(super) fn commands(binds: &BindTable, book: &Book) -> Vec<String> {
    let people = People::of(book);
    let rows = binds.rows();
    let asks = rows.iter().filter(|row| !row.flags.is_open() && !row.shadowed && row.scope != FlagScope::Nobody);
    let line = |row: &crate::dispatch::BindRow| {
        let who = people.who(&row.flags);
        format!("{:<5} {:<14} {:<7} {who}", row.kind.name(), row.mask, row.flags.to_string())
    };
    let mut lines: Vec<String> = asks.map(line).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The places of pipelines: what they ask of people, and who has it everywhere.
pub(super) fn places(catalog: &Catalog, book: &Book) -> Vec<String> {
    let (people, mut lines) = (People::of(book), Vec::new());
    for pipeline in catalog.all() {
        for (env, rules) in &pipeline.policy.environments {
            let flags = rules.flags.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            let who = rules.flags.as_ref().map_or_else(|| "everybody".to_owned(), |mask| people.who(mask));
            let agree = rules.approvals.as_ref().map(|asked| {
                let from = if asked.from.is_empty() { String::new() } else { format!(" of {}", asked.from.join(" ")) };
                format!("; {} agree{from}", asked.count)
            });
            lines.push(format!("{}/{env} {flags} {who}{}", pipeline.app, agree.unwrap_or_default()));
        }
    }
    lines
}
