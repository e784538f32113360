//! `.policy` and `.caps`: who may do what here, and what the servers can.

use masterchief_contract::{Actor, CaseMap, FlagScope, HandlerError, split_place};

use super::{Asked, Command, sorry};
use crate::dispatch::BindRow;
use crate::partyline::kinds::DCC;
use crate::partyline::party::NETWORK;
use crate::pipelines::Rules;
use crate::pipelines::words::wanted;
use crate::users::{FlagMask, Standing};

/// People who are named; of more it is told how many.
const NAMED: usize = 20;
/// Names in one line.
const IN_A_ROW: usize = 10;

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "policy",
        "m",
        "[what] [place]",
        "Shows who may use a word (.policy !deploy libera/#ops), what somebody may, or what the environments of an app ask for",
        policy
    ),
    row!(
        Anywhere,
        "caps",
        "m",
        "[network]",
        "Shows the capabilities that the bot and each server have agreed on",
        caps
    ),
];

type Lines = Result<Vec<String>, HandlerError>;

async fn policy(asked: &Asked) -> Lines {
    let what = asked.arg("what");
    if what.is_empty() {
        let mut lines = environments(asked, None);
        lines.push("A word, a handle or an app behind .policy shows more of it.".to_owned());
        return Ok(lines);
    }
    let word = |row: &&BindRow| {
        let dotted = row.kind == DCC && what.strip_prefix('.').is_some_and(|word| row.mask.eq_ignore_ascii_case(word));
        dotted || row.mask.eq_ignore_ascii_case(what)
    };
    let rows = asked.desk.table.rows();
    let mut lines: Vec<String> =
        rows.iter().filter(word).filter(|row| !row.shadowed).map(|row| who_may(asked, row)).collect();
    lines.extend(environments(asked, Some(what)));
    if asked.desk.book.get(what).is_some() {
        lines.extend(may_what(asked, what, &rows)?);
    }
    if lines.is_empty() {
        return sorry(format!("{what} is no word of a bind, no handle and no app; .binds and .match * list them"));
    }
    Ok(lines)
}

/// What a record allows to whoever logs in as it.
fn standing(asked: &Asked, handle: &str) -> Standing {
    let actor = Actor { nick: handle.to_owned(), login: Some(handle.to_owned()), ..Actor::default() };
    asked.desk.book.recognise(Some(&actor), NETWORK, CaseMap::Rfc1459)
}

/// One bind: what it asks for, and who has that at the place that is named.
fn who_may(asked: &Asked, row: &BindRow) -> String {
    let who = if row.flags.is_open() { "everybody".to_owned() } else { listed(&people(asked, &row.flags, row.scope)) };
    format!("{} {}: needs {}; {who} may", row.kind, row.mask, row.flags)
}

/// The handles of those who have these flags at the place that is named.
fn people(asked: &Asked, flags: &FlagMask, scope: FlagScope) -> Vec<String> {
    let (network, chan) = split_place(asked.arg("place"));
    let chan = Some(chan).filter(|chan| !chan.is_empty());
    let may = |handle: &str| standing(asked, handle).allows(flags, scope, network, chan, CaseMap::Rfc1459);
    asked.desk.book.all().iter().map(|user| user.handle.clone()).filter(|handle| may(handle)).collect()
}

fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "nobody".to_owned(),
        count if count > NAMED => format!("{} and {} more", names[..NAMED].join(", "), count - NAMED),
        _ => names.join(", "),
    }
}

/// The commands that somebody may give here.
fn may_what(asked: &Asked, handle: &str, rows: &[BindRow]) -> Lines {
    let (user, standing) = (asked.user(handle)?, standing(asked, handle));
    let may = |row: &&BindRow| standing.allows(&row.flags, FlagScope::AnyChannel, NETWORK, None, CaseMap::Rfc1459);
    let dcc = rows.iter().filter(|row| row.kind == DCC && !row.shadowed);
    let mut names: Vec<String> = dcc.filter(may).map(|row| format!(".{}", row.mask)).collect();
    names.sort_unstable();
    let roles = if user.roles.is_empty() { String::new() } else { format!(", roles {}", user.roles.join(" ")) };
    let mut lines = vec![format!(
        "{} has the flags {}{roles} and may, logged in, give {} commands:",
        user.handle,
        user.flags,
        names.len()
    )];
    lines.extend(names.chunks(IN_A_ROW).map(|row| row.join(" ")));
    Ok(lines)
}

/// What environments ask for, of one app or of all.
fn environments(asked: &Asked, app: Option<&str>) -> Vec<String> {
    let catalog = asked.desk.pipelines.catalog();
    let mut lines = Vec::new();
    for pipeline in catalog.all().filter(|pipeline| app.is_none_or(|app| pipeline.app.eq_ignore_ascii_case(app))) {
        let rules = pipeline.policy.environments.iter();
        lines.extend(rules.map(|(env, rules)| format!("{}/{env}: {}", pipeline.app, asks(asked, rules))));
    }
    lines
}

fn asks(asked: &Asked, rules: &Rules) -> String {
    let mut parts = vec![match &rules.flags {
        None => "everybody may".to_owned(),
        Some(flags) => format!("needs {flags} ({})", listed(&people(asked, flags, FlagScope::AnyChannel))),
    }];
    parts.extend(rules.confirm.then(|| "asks for a yes".to_owned()));
    parts.extend(rules.approvals.as_ref().map(wanted));
    parts.extend(rules.emergency.as_ref().map(|approvals| format!("in an emergency {}", wanted(approvals))));
    let count = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    parts.extend(count(rules.windows.len(), "windows"));
    parts.extend(count(rules.freeze.len(), "freezes"));
    parts.extend(count(rules.checks.len(), "checks"));
    parts.join("; ")
}

async fn caps(asked: &Asked) -> Lines {
    let wanted = asked.arg("network");
    let networks = asked.desk.host.networks();
    let networks = networks.iter().filter(|one| wanted.is_empty() || one.network == wanted);
    let row = |one: &crate::irc::Status| match (one.connected, one.caps.is_empty()) {
        (false, _) => format!("{}: not connected", one.network),
        (true, true) => format!("{}: none", one.network),
        (true, false) => format!("{}: {}", one.network, one.caps.join(" ")),
    };
    let lines: Vec<String> = networks.map(row).collect();
    match (lines.is_empty(), wanted) {
        (true, "") => Ok(vec!["The bot is on no network.".to_owned()]),
        (true, _) => sorry(format!("there is no network {wanted}; .channel lists them")),
        (false, _) => Ok(lines),
    }
}
