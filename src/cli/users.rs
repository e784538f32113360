//! `masterchief users`: the people the bot knows. A running bot takes changes over within seconds.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use masterchief_contract::Secret;
use serde::Serialize;

use super::import::{self, Import};
use super::policy::broken_by;
use super::{Common, Done, output, runtime};
use crate::bot::{change_user, read_users, touched};
use crate::config::{Config, Secrets};
use crate::store::{AuditRow, Store};
use crate::users::{Book, Given, PasswordHash, User};

/// Lists and changes people.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists them
    List,
    /// Shows one
    Show {
        /// Who
        handle: String,
    },
    /// Adds one
    Add {
        /// A name for the record
        handle: String,
        /// Global flags, such as mo
        #[arg(long, default_value = "")]
        flags: String,
        #[command(flatten)]
        marks: Marks,
    },
    /// Removes one
    Del {
        /// Who
        handle: String,
    },
    /// Changes flags: +mo-v, =p; for a channel where one is given
    Chattr {
        /// Who
        handle: String,
        /// The changes
        #[arg(allow_hyphen_values = true)]
        changes: String,
        /// #chan, or network/#chan
        channel: Option<String>,
    },
    /// Changes what somebody may lend themselves for a while by `!sudo 15m WHY`: +D-n, = for nothing
    Sudo {
        /// Who
        handle: String,
        /// The changes of flags
        #[arg(allow_hyphen_values = true)]
        changes: String,
        /// A role of the configuration, lent with them
        #[arg(long)]
        role: Vec<String>,
    },
    /// Adds accounts, certificates, hostmasks and roles, or takes them away
    Edit {
        /// Who
        handle: String,
        #[command(flatten)]
        marks: Marks,
        /// Takes an account, certificate, hostmask or role away
        #[arg(long, value_name = "WHAT")]
        remove: Vec<String>,
        /// Words about the person
        #[arg(long)]
        comment: Option<String>,
        /// Makes a record ours that came with an Eggdrop's user file: that bot adds nothing to it any more
        #[arg(long)]
        own: bool,
        /// Lets somebody in without the code of an authenticator again, as where it is lost
        #[arg(long)]
        no_totp: bool,
    },
    /// Sets the password, which is read from standard input
    Passwd {
        /// Who
        handle: String,
    },
    /// Takes people and bots over from the user file of an Eggdrop; who is here already is left alone
    Import(Import),
    /// Shows the audit trail, newest first
    Audit {
        /// How many lines
        #[arg(long, default_value_t = 20)]
        last: u32,
    },
}

/// What a person may have several of.
#[derive(Debug, clap::Args)]
struct Marks {
    /// A services account, network/account
    #[arg(long, value_name = "NETWORK/ACCOUNT")]
    account: Vec<String>,
    /// SHA-256 of a client certificate
    #[arg(long, value_name = "FINGERPRINT")]
    cert: Vec<String>,
    /// A hostmask, nick!user@host
    #[arg(long, value_name = "MASK")]
    host: Vec<String>,
    /// A role of the configuration
    #[arg(long)]
    role: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    handle: String,
    flags: String,
    channels: std::collections::BTreeMap<String, String>,
    roles: Vec<String>,
    sudo: String,
    sudo_roles: Vec<String>,
    accounts: Vec<String>,
    certs: Vec<String>,
    hosts: Vec<String>,
    password: bool,
    /// The bot with whose user file the record came.
    given_by: Option<String>,
    /// Whether that bot adds nothing to it any more.
    apart: bool,
    comment: String,
}

pub(super) fn run(common: &Common, args: Args) -> Done {
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let database = config.data.join(crate::bot::PEOPLE);
    if !config.source.found && !database.is_file() {
        bail!("there is no project here; name one with --config, or make one with `masterchief new`");
    }
    runtime()?.block_on(async {
        let tries = matches!(&args.command, Command::Import(ask) if ask.dry_run);
        let looks = tries || matches!(args.command, Command::List | Command::Show { .. } | Command::Audit { .. });
        let store = match (looks, database.is_file()) {
            (true, true) => Store::look(&database).await?,
            // Nobody is known yet.
            (true, false) => Store::memory(),
            (false, _) => Store::open(&database).await?,
        };
        let done = act(common, &config, &store, args.command).await;
        store.close().await;
        done
    })
}

async fn act(common: &Common, config: &Config, store: &Store, command: Command) -> Done {
    let book = Book::new();
    book.fill(read_users(store).await?);
    let find = |handle: &str| {
        let user = book.get(handle).map(|user| User::clone(&user));
        user.with_context(|| format!("there is no user {handle}; `masterchief users list` lists them"))
    };
    let (mut there, mut lent, mut done) = (None, false, None);
    let changed = match command {
        Command::List => return list(common, &book),
        Command::Show { handle } => return show(&find(&handle)?),
        Command::Audit { last } => return audit(common, store, last).await,
        Command::Import(ask) => return import::run(common, config, store, &book, ask).await,
        Command::Del { handle } => return remove(config, store, &book, &find(&handle)?).await,
        Command::Add { handle, flags, marks } => {
            if book.get(&handle).is_some() {
                bail!("there is a user {handle} already; use `masterchief users edit {handle}`");
            }
            let mut user = User::new(&handle)?;
            user.change_flags(&flags)?;
            add(&mut user, marks, config)?;
            user
        }
        Command::Chattr { handle, changes, channel } => {
            let mut user = find(&handle)?;
            match channel {
                None => user.change_flags(&changes)?,
                Some(channel) => {
                    user.change_channel_flags(&channel, &changes)?;
                    there = Some(channel);
                }
            }
            user
        }
        Command::Sudo { handle, changes, role } => {
            lent = true;
            lend(find(&handle)?, &changes, role, config)?
        }
        Command::Edit { handle, marks, remove, comment, own, no_totp } => {
            let mut user = find(&handle)?;
            done = own.then(|| own_up(&mut user)).transpose()?;
            if no_totp {
                done = Some(joined(done, without_code(&mut user)?));
            }
            for what in remove {
                take_away(&mut user, &what)?;
            }
            add(&mut user, marks, config)?;
            user.comment = comment.unwrap_or(user.comment);
            user
        }
        Command::Passwd { handle } => {
            done = Some(format!("{handle} has a new password"));
            with_password(find(&handle)?)?
        }
    };
    let before = book.get(&changed.handle);
    let changed = touched(changed, before.as_deref(), chrono::Utc::now().timestamp_millis());
    // What cannot be written is refused below.
    if let Some(refused) = refused(config, &book, |after| _ = after.put(changed.clone())).await? {
        return Ok(refused);
    }
    book.put(changed.clone())?;
    change_user(store, before.as_deref(), Some(&changed)).await?;
    let summary = joined(done, summary(&changed, there.as_deref(), lent));
    note(store, &changed.handle, &summary).await?;
    if common.json { show(&changed) } else { said(&summary) }
}

/// What was done, behind what was done before it.
fn joined(before: Option<String>, then: String) -> String {
    before.into_iter().chain([then]).collect::<Vec<_>>().join("; ")
}

async fn remove(config: &Config, store: &Store, book: &Book, user: &User) -> Done {
    let handle = user.handle.as_str();
    if let Some(refused) = refused(config, book, |after| _ = after.remove(handle)).await? {
        return Ok(refused);
    }
    change_user(store, Some(user), None).await?;
    note(store, handle, "removed").await?;
    said(&format!("{handle} is removed"))
}

/// Makes a record ours that came with a bot; the words about it.
fn own_up(user: &mut User) -> anyhow::Result<String> {
    let Some(Given { bot, .. }) = user.given_by.take() else {
        bail!("{} came with no bot, so nobody adds to it from elsewhere", user.handle);
    };
    Ok(format!("{} is ours now; {bot} adds nothing to it any more", user.handle))
}

/// Gives somebody the password that stands on standard input.
fn with_password(mut user: User) -> anyhow::Result<User> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password)?;
    user.password = Some(PasswordHash::new(&Secret::new(password.trim_end_matches(['\r', '\n'])))?);
    Ok(user)
}

/// Takes the code away that somebody's logins want; the words about it.
fn without_code(user: &mut User) -> anyhow::Result<String> {
    if user.totp.take().is_none() {
        bail!("logins of {} want no code", user.handle);
    }
    Ok(format!("logins of {} want no code any more", user.handle))
}

/// Says what a change would break of the policy, if it would; then it is not made.
pub(super) async fn refused(
    config: &Config,
    book: &Book,
    change: impl FnOnce(&Book),
) -> anyhow::Result<Option<ExitCode>> {
    let people = |book: &Book| book.all().iter().map(|user| User::clone(user)).collect::<Vec<_>>();
    let after = book.apart();
    change(&after);
    let faults = broken_by(config, people(book), people(&after)).await?;
    if faults.is_empty() {
        return Ok(None);
    }
    output::fault("the policy would not hold, so nothing is changed; change the table first, if that is meant:");
    faults.iter().for_each(|fault| output::fault(fault));
    Ok(Some(ExitCode::FAILURE))
}

/// What somebody has now, as far as it was changed.
fn summary(changed: &User, there: Option<&str>, lent: bool) -> String {
    match there {
        None if lent && changed.may_rise() => format!("{} may lend themselves {}", changed.handle, changed.lent()),
        None if lent => format!("{} may lend themselves nothing", changed.handle),
        None => format!("{} has the flags {}", changed.handle, changed.flags),
        Some(channel) => {
            let flags = changed.channels.get(channel).copied().unwrap_or_default();
            format!("{} has the flags {flags} in {channel}", changed.handle)
        }
    }
}

/// Changes what somebody may lend themselves.
fn lend(mut user: User, changes: &str, roles: Vec<String>, config: &Config) -> anyhow::Result<User> {
    user.change_sudo(changes)?;
    for role in roles {
        known_role(config, &role)?;
        if !user.sudo_roles.contains(&role) {
            user.sudo_roles.push(role);
        }
    }
    Ok(user)
}

/// Who changed whom stands in the audit trail too.
pub(super) async fn note(store: &Store, handle: &str, detail: &str) -> anyhow::Result<()> {
    let by = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let row = AuditRow {
        at: chrono::Utc::now(),
        network: String::new(),
        actor: format!("{by} on the command line"),
        handle: None,
        kind: "users".to_owned(),
        mask: handle.to_owned(),
        action: "changed".to_owned(),
        detail: detail.to_owned(),
    };
    Ok(store.audit(&row).await?)
}

fn said(text: &str) -> Done {
    output::line(text)?;
    Ok(ExitCode::SUCCESS)
}

fn show(user: &User) -> Done {
    output::json(&shown(user))?;
    Ok(ExitCode::SUCCESS)
}

fn add(user: &mut User, marks: Marks, config: &Config) -> anyhow::Result<()> {
    for account in &marks.account {
        user.add_account(account)?;
        let network = account.split('/').next().unwrap_or("");
        if !config.networks.contains_key(network) {
            output::warning(&format!(
                "there is no network {network} in the configuration yet; the account counts once there is"
            ));
        }
    }
    for cert in &marks.cert {
        user.add_cert(cert)?;
    }
    for host in &marks.host {
        user.add_host(host)?;
    }
    for role in marks.role {
        known_role(config, &role)?;
        if !user.roles.contains(&role) {
            user.roles.push(role);
        }
    }
    Ok(())
}

fn known_role(config: &Config, role: &str) -> anyhow::Result<()> {
    if !config.users.roles.contains_key(role) {
        bail!("there is no role {role}; add it under users.roles in the configuration first");
    }
    Ok(())
}

fn take_away(user: &mut User, what: &str) -> anyhow::Result<()> {
    let before = (user.accounts.len(), user.certs.len(), user.hosts.len(), user.roles.len());
    user.accounts.retain(|(network, account)| format!("{network}/{account}") != what);
    user.certs.retain(|cert| *cert != what.replace(':', "").to_ascii_lowercase());
    user.hosts.retain(|host| host != what);
    user.roles.retain(|role| role != what);
    if before == (user.accounts.len(), user.certs.len(), user.hosts.len(), user.roles.len()) {
        bail!("{} has no {what}; `masterchief users show {}` shows what there is", user.handle, user.handle);
    }
    Ok(())
}

fn list(common: &Common, book: &Book) -> Done {
    let users: Vec<Shown> = book.all().iter().map(|user| shown(user)).collect();
    if common.json {
        output::json(&users)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for user in users {
        let channels: Vec<String> = user.channels.iter().map(|(channel, flags)| format!("{channel}:{flags}")).collect();
        let known: Vec<String> = user.accounts.into_iter().chain(user.hosts).collect();
        rows.push(vec![user.handle, user.flags, channels.join(" "), user.roles.join(" "), known.join(" ")]);
    }
    output::table(&["HANDLE", "FLAGS", "CHANNELS", "ROLES", "KNOWN BY"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn audit(common: &Common, store: &Store, last: u32) -> Done {
    let rows = store.audit_recent(last).await?;
    if common.json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = Vec::new();
    for row in rows {
        let who = row.handle.unwrap_or_else(|| "-".to_owned());
        let what = format!("{} {}", row.kind, row.mask);
        shown.push(vec![row.at.to_rfc3339(), row.action, who, row.actor, row.network, what, row.detail]);
    }
    output::table(&["AT", "WHAT", "HANDLE", "WHO", "NETWORK", "BIND", "DETAIL"], &shown)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(user: &User) -> Shown {
    Shown {
        handle: user.handle.clone(),
        flags: user.flags.to_string(),
        channels: user.channels.iter().map(|(channel, flags)| (channel.clone(), flags.to_string())).collect(),
        roles: user.roles.clone(),
        sudo: user.sudo.to_string(),
        sudo_roles: user.sudo_roles.clone(),
        accounts: user.accounts.iter().map(|(network, account)| format!("{network}/{account}")).collect(),
        certs: user.certs.clone(),
        hosts: user.hosts.clone(),
        password: user.password.is_some(),
        given_by: user.given_by.as_ref().map(|by| by.bot.clone()),
        apart: user.given_by.as_ref().is_some_and(|by| by.apart),
        comment: user.comment.clone(),
    }
}
