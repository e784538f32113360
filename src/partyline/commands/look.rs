//! `.match` and `.whois`: who the bot knows.

use masterchief_contract::{CaseMap, HandlerError, wild_match};

use super::{Asked, Command, Reach};
use crate::partyline::hall::INFO_SETTING;
use crate::users::{FlagMask, Given, User};

/// Records that are listed.
const LISTED: usize = 40;

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "match",
        flags: "to|o",
        usage: "<what>",
        help: "Lists records by a mask that meets a handle, hostmask or account, or by flags as in +m",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { matching(&asked) }),
    },
    Command {
        name: "whois",
        flags: "to|o",
        usage: "<handle>",
        help: "Shows a record",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { whois(&asked) }),
    },
];

fn matching(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let what = asked.arg("what");
    let flags = what.strip_prefix('+').and_then(|flags| FlagMask::parse(flags).ok());
    let meets = |user: &User| match &flags {
        Some(flags) => flags.allows(user.flags, crate::users::FlagSet::NONE),
        None => {
            let accounts = user.accounts.iter().map(|(network, account)| format!("{network}/{account}"));
            let mut names = std::iter::once(user.handle.clone()).chain(user.hosts.iter().cloned()).chain(accounts);
            names.any(|name| wild_match(what, &name, CaseMap::Rfc1459))
        }
    };
    let all = asked.desk.book.all();
    let mut found: Vec<String> = all.iter().filter(|user| meets(user)).map(|user| brief(user)).collect();
    let count = found.len();
    if count > LISTED {
        found.truncate(LISTED);
        found.push(format!("… and {} more", count - LISTED));
    }
    found.push(format!("{count} of {} records", all.len()));
    Ok(found)
}

fn brief(user: &User) -> String {
    let accounts: Vec<String> = user.accounts.iter().map(|(network, account)| format!("{network}/{account}")).collect();
    format!("{:<16} {:<14} {} {}", user.handle, user.flags.to_string(), accounts.join(" "), user.hosts.join(" "))
        .trim_end()
        .to_owned()
}

fn whois(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let user = asked.user(asked.arg("handle"))?;
    let mut lines = vec![format!("{} has the flags {}", user.handle, user.flags)];
    lines.extend(user.channels.iter().map(|(channel, flags)| format!("  {channel}: {flags}")));
    let row = |what: &str, values: Vec<String>| (!values.is_empty()).then(|| format!("  {what}: {}", values.join(" ")));
    let accounts = user.accounts.iter().map(|(network, account)| format!("{network}/{account}")).collect();
    lines.extend(row("roles", user.roles.clone()));
    lines.extend(user.may_rise().then(|| format!("  lent by !sudo: {}", user.lent())));
    lines.extend(row("accounts", accounts));
    lines.extend(row("hosts", user.hosts.clone()));
    lines.extend(row("certificates", user.certs.clone()));
    let has = |is: bool| if is { "yes" } else { "no" };
    lines.push(format!("  password: {}, authenticator: {}", has(user.password.is_some()), has(user.totp.is_some())));
    lines.extend(user.settings.get(INFO_SETTING).map(|info| format!("  info: {info}")));
    let given = |by: &Given| match by {
        Given { bot, apart: true } => {
            format!("  came with {bot}, which calls them otherwise, or somebody else so; it adds nothing any more")
        }
        Given { bot, apart: false } => {
            format!("  came with {bot}, which may add to it; .own {} ends that", user.handle)
        }
    };
    lines.extend(user.given_by.as_ref().map(given));
    lines.extend((!user.comment.is_empty()).then(|| format!("  {}", user.comment)));
    let here =
        asked.desk.party.each(|session| session.handle.eq_ignore_ascii_case(&user.handle).then_some(session.idx));
    let here: Vec<String> = here.into_iter().flatten().map(|idx| idx.to_string()).collect();
    lines.extend(row("sessions here", here));
    Ok(lines)
}
