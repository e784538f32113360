//! `masterchief users import`: people and bots from the user file of an Eggdrop. Who is here already is left as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;

use super::{Common, Done, output};
use crate::bot::{change_user, touched};
use crate::config::Config;
use crate::mesh::{BotAddr, BotName, BotSettings};
use crate::store::{BotRow, Store};
use crate::users::{Book, Claims, EggBot, EggPerson, FlagSet, USERFILE_MAX, User, Userfile};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file, such as bot.user
    file: PathBuf,
    /// The network that its channels and accounts are of; without one, channels count on every network and accounts are left out
    #[arg(long)]
    network: Option<String>,
    /// Takes these letters of people's flags and no others
    #[arg(long)]
    letters: Option<String>,
    /// Only shows what would be taken
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What is taken of a file, and what is not.
#[derive(Debug, Default, Serialize)]
struct Plan {
    people: Vec<Person>,
    bots: Vec<Bot>,
    /// Who is left as they are, and why.
    alone: BTreeMap<String, String>,
    /// Lines of the file that mean nothing.
    faults: Vec<String>,
    /// Bans, ignores, exempts and invites.
    masks: usize,
    /// Other things about people and bots.
    others: BTreeMap<String, usize>,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Person {
    handle: String,
    flags: String,
    channels: BTreeMap<String, String>,
    hosts: Vec<String>,
    accounts: Vec<String>,
    not_taken: Vec<String>,
    #[serde(skip)]
    user: User,
}

#[derive(Debug, Serialize)]
struct Bot {
    name: String,
    addresses: Vec<BotAddr>,
    #[serde(skip)]
    settings: BotSettings,
}

/// Takes a file over.
pub(super) async fn run(common: &Common, config: &Config, store: &Store, book: &Book, ask: Import) -> Done {
    let file = Userfile::parse(&read(&ask.file)?).with_context(|| ask.file.display().to_string())?;
    let letters = ask.letters.as_deref().map_or(Ok(FlagSet::ALL), FlagSet::parse).context("--letters")?;
    if let Some(network) = ask.network.as_ref().filter(|network| !config.networks.contains_key(*network)) {
        output::warning(&format!(
            "there is no network {network} in the configuration yet; its flags count once there is"
        ));
    }
    let mut plan = Plan { masks: file.masks, dry_run: ask.dry_run, ..Plan::default() };
    plan.faults.extend(file.faults.iter().map(|(line, why)| format!("line {line}: {why}")));
    plan.faults.extend((file.more_faults > 0).then(|| format!("{} more lines that mean nothing", file.more_faults)));
    let linked = linked(config, store).await?;
    let mut claims = Claims::of(book.apart());
    for person in &file.people {
        plan.person(person, book, &mut claims, &linked, ask.network.as_deref(), letters);
    }
    for bot in &file.bots {
        plan.bot(bot, book, &linked);
    }
    plan.others = file.others;
    let all = |after: &Book| {
        let before = after.all().iter().map(|user| User::clone(user)).collect::<Vec<_>>();
        after.fill([before, plan.people.iter().map(|one| one.user.clone()).collect()].concat());
    };
    if let Some(refused) = super::users::refused(config, book, all).await? {
        return Ok(refused);
    }
    if !ask.dry_run {
        plan.write(store, &ask.file).await?;
    }
    if common.json {
        output::json(&plan)?
    } else {
        plan.show(&file.bot)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The file as text. What is no UTF-8 in it was somebody's other alphabet.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.take(USERFILE_MAX + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > USERFILE_MAX {
        bail!("{} is larger than {} MiB", path.display(), USERFILE_MAX >> 20);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The bots that are known, and ourselves, in lower case.
async fn linked(config: &Config, store: &Store) -> anyhow::Result<BTreeSet<String>> {
    let stored = store.bots().await?.into_iter().map(|row| row.handle);
    let configured = config.mesh.bots.keys().chain(&config.mesh.name).cloned();
    Ok(stored.chain(configured).map(|name| name.to_ascii_lowercase()).collect())
}

impl Plan {
    fn person(
        &mut self,
        person: &EggPerson,
        book: &Book,
        claims: &mut Claims,
        linked: &BTreeSet<String>,
        network: Option<&str>,
        letters: FlagSet,
    ) {
        let alone = |plan: &mut Plan, why: String| drop(plan.alone.insert(person.handle.clone(), why));
        if book.get(&person.handle).is_some() {
            return alone(self, "is here already".to_owned());
        }
        if linked.contains(&person.handle.to_ascii_lowercase()) {
            return alone(self, "is a bot here".to_owned());
        }
        let (record, mut not_taken) = match person.record(network, letters) {
            Ok(record) => record,
            Err(fault) => return alone(self, fault.to_string()),
        };
        // What is somebody's already stays theirs.
        let nobody = User { handle: record.handle.clone(), ..User::default() };
        let (user, taken) = claims.granted(&nobody, record);
        not_taken.extend(taken);
        self.people.push(Person {
            handle: user.handle.clone(),
            flags: user.flags.to_string(),
            channels: user.channels.iter().map(|(name, flags)| (name.clone(), flags.to_string())).collect(),
            hosts: user.hosts.clone(),
            accounts: user.accounts.iter().map(|(network, account)| format!("{network}/{account}")).collect(),
            not_taken,
            user,
        });
    }

    fn bot(&mut self, bot: &EggBot, book: &Book, linked: &BTreeSet<String>) {
        let alone = |plan: &mut Plan, why: String| drop(plan.alone.insert(bot.handle.clone(), why));
        if let Err(bad) = bot.handle.parse::<BotName>() {
            return alone(self, bad.to_string());
        }
        if linked.contains(&bot.handle.to_ascii_lowercase()) {
            return alone(self, "is known here already".to_owned());
        }
        if book.get(&bot.handle).is_some() {
            return alone(self, "is a person here".to_owned());
        }
        let settings = BotSettings::of_eggdrop(bot);
        self.bots.push(Bot { name: bot.handle.clone(), addresses: settings.addresses.clone(), settings });
    }

    async fn write(&mut self, store: &Store, file: &Path) -> anyhow::Result<()> {
        let now = chrono::Utc::now().timestamp_millis();
        for one in &mut self.people {
            one.user = touched(one.user.clone(), None, now);
            change_user(store, None, Some(&one.user)).await?;
            let detail = format!("imported from {} with the flags {}", file.display(), one.flags);
            super::users::note(store, &one.handle, &detail).await?;
        }
        for one in &self.bots {
            let settings = Some(serde_json::to_string(&one.settings)?);
            store.put_bot(&BotRow { handle: one.name.clone(), settings, password: None, fingerprint: None }).await?;
            super::users::note(store, &one.name, &format!("a bot, imported from {}", file.display())).await?;
        }
        Ok(())
    }

    fn show(&self, from: &str) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for one in &self.people {
            let channels: Vec<String> =
                one.channels.iter().map(|(channel, flags)| format!("{channel}:{flags}")).collect();
            let known = [one.accounts.as_slice(), &one.hosts].concat().join(" ");
            let row = [one.handle.clone(), one.flags.clone(), channels.join(" "), known, one.not_taken.join("; ")];
            rows.push(row.iter().map(|cell| output::tame(cell)).collect());
        }
        output::table(&["HANDLE", "FLAGS", "CHANNELS", "KNOWN BY", "NOT TAKEN"], &rows)?;
        let taken = if self.dry_run { "would be taken" } else { "taken" };
        let of = if from.is_empty() { String::new() } else { format!(" of {from}") };
        let (people, bots) = (self.people.len(), output::count(self.bots.len(), "bot"));
        told(&format!("{taken}{of}: {people} people and {bots}"))?;
        for one in &self.bots {
            let at: Vec<String> = one.addresses.iter().map(BotAddr::to_string).collect();
            told(&format!("bot {}: {}", one.name, if at.is_empty() { "calls us".to_owned() } else { at.join(" ") }))?;
        }
        for (handle, why) in &self.alone {
            told(&format!("left alone: {handle}: {why}"))?;
        }
        self.faults.iter().try_for_each(|fault| told(&format!("left out: {fault}")))?;
        for (name, count) in self.others.iter().filter(|(name, _)| *name != "XTRA") {
            told(&format!("left out: {count} {name}"))?;
        }
        if self.masks > 0 {
            told(&format!("left out: {}", output::count(self.masks, "ban, ignore, exempt or invite")))?;
        }
        if !self.people.is_empty() {
            told(
                "No password can be taken over: `masterchief users passwd HANDLE` sets one. By a hostmask alone nobody has more than \
                 users.hostmask_flags; `masterchief users edit HANDLE --account NETWORK/ACCOUNT` makes somebody known.",
            )?;
        }
        if !self.bots.is_empty() {
            told(
                "A running bot knows these bots after its next start, and calls none by itself: .link BOT calls one, .botattr BOT +h \
                 keeps it linked, .botpass BOT PASSWORD lets it call.",
            )?;
        }
        Ok(())
    }
}

/// A line, in which words of a file do nothing but stand there.
fn told(text: &str) -> std::io::Result<()> {
    output::line(&output::tame(text))
}
