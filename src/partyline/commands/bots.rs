//! `.bots`, `.bottree`, `.vbottree`, `.botinfo`, `.botmotd`, `.trace`, `.link`, `.unlink`, `.+bot`, `.-bot`, `.chaddr`, `.botattr`, `.botpass`:
//! other bots, and what is known of them.

use std::collections::BTreeMap;

use masterchief_contract::{HandlerError, Secret, user_error};

use super::{Asked, Command, Reach, sorry};
use crate::mesh::{Attribute, BotAddr, BotName, BotSettings, Encryption, Mesh, Question, Record, View, Word};

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "bots", "-", "", "Lists the bots that are linked", bots),
    row!(Anywhere, "bottree", "-", "", "Shows which bot is linked through which", bottree),
    row!(Anywhere, "vbottree", "-", "", "Shows the same, with the version of each bot", vbottree),
    row!(Here, "botinfo", "-", "", "Asks all linked bots what they are", botinfo),
    row!(Here, "botmotd", "-", "<bot>", "Asks a linked bot for its message of the day", botmotd),
    row!(Here, "trace", "t", "<bot>", "Shows the way to a bot, and how long it takes", trace),
    row!(Anywhere, "link", "t", "<bot> [other]", "Links with a bot, or lets a linked bot link with another", link),
    row!(
        Anywhere,
        "unlink",
        "t",
        "<bot> [words...]",
        "Ends a link, with a reason; .unlink BOT OTHER lets a linked bot end its link with another",
        unlink
    ),
    row!(
        Anywhere,
        "+bot",
        "t",
        "<bot> [address] [changes]",
        "Adds a bot: host:port where it listens with TLS, and attributes as in .botattr; it is kept",
        plus_bot
    ),
    row!(Anywhere, "-bot", "t", "<bot>", "Forgets a bot that was added, and ends its link", minus_bot),
    row!(Anywhere, "chaddr", "t", "<bot> <addresses...>", "Changes where a bot is called: host:port, in order", chaddr),
    row!(
        Anywhere,
        "botattr",
        "t",
        "<bot> [changes] [letters]",
        "Shows or changes what a bot is: +h hub, a alternate, l leaf, r reject, i isolate, s STARTTLS on a plain port; \
         owners also t (its word on who its people are counts; +t Dv of those who hold no more than these letters), c (in clear) \
         and f (may link once without a password)",
        botattr
    ),
    Command {
        name: "botpass",
        flags: "t",
        usage: "<bot>",
        help: "Sets the password of a link: .botpass BOT PASSWORD; without one it is forgotten, and the certificate too",
        reach: Reach::Secret(1),
        run: |asked| Box::pin(async move { botpass(&asked).await }),
    },
];

/// Attributes by Eggdrop's letters, and one of ours.
const LETTERS: &[(char, Attribute, &str)] = &[
    ('h', Attribute::Hub, "hub"),
    ('a', Attribute::Alternate, "alternate"),
    ('l', Attribute::Leaf, "leaf"),
    ('r', Attribute::Reject, "reject"),
    ('i', Attribute::Isolate, "isolate"),
    ('t', Attribute::Trust, "trust"),
];
/// Letters that make a link worth less: only owners say so.
const OWNERS: &str = "tcf";
/// Bots that are listed, at most.
const LISTED: usize = 200;

type Lines = Result<Vec<String>, HandlerError>;

fn wrong(fault: impl ToString) -> HandlerError {
    user_error(fault.to_string())
}

/// The mesh, if there is one.
pub(super) fn mesh(asked: &Asked) -> Result<Mesh, HandlerError> {
    let mesh = asked.desk.host.mesh();
    mesh.ok_or_else(|| user_error("this bot links with no others; give it a name under `mesh:` in its configuration"))
}

pub(super) fn name(text: &str) -> Result<BotName, HandlerError> {
    text.parse().map_err(|bad: crate::mesh::name::BadName| user_error(bad.to_string()))
}

/// Asks other bots. What they answer is told to the session that asks.
pub(super) async fn question(asked: &Asked, question: Question) -> Lines {
    let sock = asked.session()?;
    mesh(asked)?.question(asked.handle(), sock, question).await.map_err(wrong)?;
    Ok(Vec::new())
}

async fn bots(asked: &Asked) -> Lines {
    let mut bots: Vec<String> = asked.desk.party.guests().iter().map(|guest| guest.bot.to_string()).collect();
    match asked.desk.host.mesh() {
        Some(mesh) => {
            bots.extend(mesh.view().bots.iter().map(|bot| bot.name.to_string()));
            bots.push(mesh.name().to_string());
        }
        None => bots.push(asked.desk.party.bot().to_string()),
    }
    bots.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    bots.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    Ok(vec![format!("{}: {}", bots.len(), bots.join(" "))])
}

async fn bottree(asked: &Asked) -> Lines {
    let mesh = mesh(asked)?;
    Ok(tree(mesh.name(), &mesh.view(), Versions::Hidden))
}

async fn vbottree(asked: &Asked) -> Lines {
    let mesh = mesh(asked)?;
    Ok(tree(mesh.name(), &mesh.view(), Versions::Shown))
}

/// Whether the tree shows which Eggdrop each bot is, or says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Shown,
    Hidden,
}

/// Eggdrop's number of a version as its people write it: 1080499 is 1.8.4.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 10_000 % 100, number / 100 % 100)
}

/// The tree of bots, ourselves at its root.
fn tree(me: &BotName, view: &View, versions: Versions) -> Vec<String> {
    let mut below: BTreeMap<&BotName, Vec<&BotName>> = BTreeMap::new();
    let numbers: BTreeMap<&BotName, u32> = view.bots.iter().map(|bot| (&bot.name, bot.version)).collect();
    for bot in &view.bots {
        below.entry(&bot.uplink).or_default().push(&bot.name);
    }
    let mut lines = vec![me.to_string()];
    // What stands before a bot, whether it is the last below its uplink, and the bot.
    let mut open: Vec<(String, bool, &BotName)> = Vec::new();
    let open_below = |open: &mut Vec<_>, before: &str, name: &BotName| {
        let children = below.get(name).map(Vec::as_slice).unwrap_or_default();
        for (at, child) in children.iter().enumerate().rev() {
            open.push((before.to_owned(), at + 1 == children.len(), *child));
        }
    };
    open_below(&mut open, "", me);
    while let Some((before, last, bot)) = open.pop() {
        if lines.len() > LISTED {
            lines.push(format!("… and more: {} bots in all; .bots names them", view.bots.len() + 1));
            break;
        }
        let link = view.links.iter().find(|link| link.peer.bot == *bot);
        let about = link.map(|link| {
            let clear = if link.peer.encrypted { "" } else { ", in clear" };
            format!("  ({}{clear})", link.peer.about)
        });
        let number = numbers.get(bot).filter(|_| versions == Versions::Shown);
        let number = number.map(|number| format!(" {}", version(*number))).unwrap_or_default();
        lines.push(format!("{before}{}- {bot}{number}{}", if last { '`' } else { '|' }, about.unwrap_or_default()));
        open_below(&mut open, &format!("{before}{}  ", if last { ' ' } else { '|' }), bot);
    }
    lines
}

async fn botinfo(asked: &Asked) -> Lines {
    question(asked, Question::Info).await
}

async fn botmotd(asked: &Asked) -> Lines {
    question(asked, Question::Motd(name(asked.arg("bot"))?)).await
}

async fn trace(asked: &Asked) -> Lines {
    question(asked, Question::Trace(name(asked.arg("bot"))?)).await
}

async fn link(asked: &Asked) -> Lines {
    let (mesh, bot, other) = (mesh(asked)?, name(asked.arg("bot"))?, asked.arg("other"));
    if !other.is_empty() {
        return question(asked, Question::Link { via: bot, bot: name(other)? }).await;
    }
    let who = Word::new(asked.handle()).zip(asked.idx);
    mesh.link(&bot, who).await.map_err(wrong)?;
    Ok(vec![format!("Calling {bot}.")])
}

async fn unlink(asked: &Asked) -> Lines {
    let (mesh, bot, words) = (mesh(asked)?, name(asked.arg("bot"))?, asked.arg("words"));
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    let view = mesh.view();
    let linked = |other: &BotName| view.bots.iter().any(|row| row.name == *other);
    if let Some(other) = first.parse().ok().filter(linked) {
        return question(asked, Question::Unlink { via: bot, bot: other, reason: rest.to_owned() }).await;
    }
    let reason = if words.is_empty() { format!("{} asked for it", asked.handle()) } else { words.to_owned() };
    if !mesh.unlink(&bot, &reason).await.map_err(wrong)? {
        return sorry(format!("{bot} is not linked with us; .bottree shows who is linked with whom"));
    }
    let mut lines = vec![format!("The link with {bot} is ended.")];
    let stays = record(&mesh, &bot).is_some_and(|record| record.settings.attrs().hub);
    lines.extend(stays.then(|| format!("It is a hub and will be called again; .botattr {bot} -h keeps it away.")));
    Ok(lines)
}

fn record(mesh: &Mesh, bot: &BotName) -> Option<Record> {
    mesh.view().records.iter().find(|record| record.name == *bot).cloned()
}

/// A record that is here, and may be the configuration's.
fn known(mesh: &Mesh, bot: &BotName) -> Result<Record, HandlerError> {
    record(mesh, bot).ok_or_else(|| user_error(format!("there is no bot {bot} here; .+bot {bot} adds it")))
}

async fn plus_bot(asked: &Asked) -> Lines {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    if bot == *mesh.name() {
        return sorry(format!("{bot} is this bot itself"));
    }
    if asked.desk.book.get(bot.as_str()).is_some() {
        return sorry(format!("{bot} is a person here; a bot needs another name"));
    }
    if record(&mesh, &bot).is_some() {
        return sorry(format!("there is a record of {bot}; .botattr and .chaddr change it"));
    }
    let mut settings = BotSettings::default();
    // Attributes may stand where an address could.
    let (address, changes) = match asked.arg("address") {
        changes if changes.starts_with(['+', '-']) => ("", changes),
        address => (address, asked.arg("changes")),
    };
    settings.addresses = addresses(address)?;
    change(asked, &mut settings, changes)?;
    let calls = settings.addresses.is_empty();
    mesh.put_bot(&bot, settings).await.map_err(wrong)?;
    Ok(vec![if calls {
        format!(
            "{bot} may call once it has a password: .botpass {bot} PASSWORD, or .botattr {bot} +f for the first link."
        )
    } else {
        format!("{bot} is known; .link {bot} calls it, .botattr {bot} +h keeps it linked.")
    }])
}

async fn minus_bot(asked: &Asked) -> Lines {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    mesh.remove_bot(&bot).await.map_err(wrong)?;
    asked.desk.host.forget_key(bot.as_str()).await.map_err(user_error)?;
    let linked = mesh.unlink(&bot, "it is not known here any more").await.map_err(wrong)?;
    Ok(vec![if linked { format!("{bot} is forgotten, and its link ended.") } else { format!("{bot} is forgotten.") }])
}

async fn chaddr(asked: &Asked) -> Lines {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    let mut settings = known(&mesh, &bot)?.settings;
    settings.addresses = addresses(asked.arg("addresses"))?;
    let shown: Vec<String> = settings.addresses.iter().map(BotAddr::to_string).collect();
    mesh.put_bot(&bot, settings).await.map_err(wrong)?;
    Ok(vec![format!("{bot} is called at {}.", shown.join(", then "))])
}

/// Addresses, parted by commas or blanks. Eggdrop's `+` before a port that speaks TLS may stand there.
fn addresses(text: &str) -> Result<Vec<BotAddr>, HandlerError> {
    let all = text.split([',', ' ']).filter(|one| !one.is_empty());
    all.map(|one| one.replacen(":+", ":", 1).parse().map_err(|fault: String| user_error(fault))).collect()
}

async fn botattr(asked: &Asked) -> Lines {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    let mut record = known(&mesh, &bot)?;
    let changes = asked.arg("changes");
    if !changes.is_empty() {
        change(asked, &mut record.settings, changes)?;
        let letters = asked.arg("letters");
        if !letters.is_empty() {
            if !record.settings.attributes.remove(&Attribute::Trust) {
                return sorry(format!("letters go with +t: .botattr {bot} +t {letters}"));
            }
            record.settings.trust = Some(letters.to_owned());
        }
        mesh.put_bot(&bot, record.settings.clone()).await.map_err(wrong)?;
    }
    Ok(vec![shown(&record)])
}

/// Changes as in `+h-a`. What makes a link worth less is for owners.
fn change(asked: &Asked, settings: &mut BotSettings, changes: &str) -> Result<(), HandlerError> {
    let mut add = true;
    if changes.contains('t') {
        settings.trust = None;
    }
    for letter in changes.chars() {
        if add && OWNERS.contains(letter) && !asked.may("n", None) {
            return sorry(format!("only owners give +{letter}"));
        }
        match letter {
            '+' => add = true,
            '-' => add = false,
            's' | 'c' => {
                settings.tls = match (letter, add) {
                    (_, false) => Encryption::Port,
                    ('s', true) => Encryption::Starttls,
                    (_, true) => Encryption::None,
                };
                settings.insecure = letter == 'c' && add;
            }
            'f' => settings.first_link = add,
            _ => match LETTERS.iter().find(|(known, ..)| *known == letter) {
                Some((_, attribute, _)) if add => drop(settings.attributes.insert(*attribute)),
                Some((_, attribute, _)) => drop(settings.attributes.remove(attribute)),
                None => return sorry(format!("{letter:?} is no attribute of bots; there are h a l r i s t c f")),
            },
        }
    }
    Ok(())
}

/// A record in one line, without its secrets.
fn shown(record: &Record) -> String {
    let settings = &record.settings;
    let mut parts: Vec<String> = LETTERS
        .iter()
        .filter(|(_, attribute, _)| settings.attributes.contains(attribute))
        .map(|(letter, _, word)| format!("{word} (+{letter})"))
        .collect();
    parts.extend(settings.trust.iter().map(|letters| format!("trust of people up to {letters} (+t {letters})")));
    let at: Vec<String> = settings.addresses.iter().map(BotAddr::to_string).collect();
    parts.push(if at.is_empty() { "calls us".to_owned() } else { format!("at {}", at.join(", ")) });
    parts.push(
        match settings.tls {
            Encryption::Port => "TLS",
            Encryption::Starttls => "STARTTLS (+s)",
            Encryption::After => "TLS after the login",
            Encryption::None => "in clear (+c)",
        }
        .to_owned(),
    );
    parts.extend(settings.first_link.then(|| "may link once without a password (+f)".to_owned()));
    let has = |is: bool| if is { "known" } else { "none" };
    parts.push(format!("password {}", has(record.link_password().is_some())));
    parts.push(format!("certificate {}", has(!record.pins().is_empty())));
    parts.extend(record.configured.then(|| "stands in the configuration".to_owned()));
    format!("{}: {}", record.name, parts.join("; "))
}

async fn botpass(asked: &Asked) -> Lines {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    let mut settings = known(&mesh, &bot)?.settings;
    let password = asked.secret();
    if password.is_empty() {
        mesh.forget(&bot).await.map_err(wrong)?;
        asked.desk.host.forget_key(bot.as_str()).await.map_err(user_error)?;
        return Ok(vec![format!(
            "The password and the certificate of {bot} are forgotten, and the key with which it signs what it tells."
        )]);
    }
    settings.password = Some(Secret::new(password));
    mesh.put_bot(&bot, settings).await.map_err(wrong)?;
    Ok(vec![format!("{bot} has a new password; it has to know it too.")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Bot;

    #[test]
    fn the_tree_shows_each_bot_below_its_uplink() {
        let me = name("Chief").unwrap();
        let bot = |name_of: &str, uplink: &str| Bot {
            name: name(name_of).unwrap(),
            via: 1,
            uplink: name(uplink).unwrap(),
            version: 1_080_400,
            share: '-',
        };
        let bots = vec![bot("One", "Chief"), bot("Three", "One"), bot("Four", "One"), bot("Two", "Chief")];
        let view = View { bots, ..View::default() };
        assert_eq!(tree(&me, &view, Versions::Shown)[..2], ["Chief", "|- One 1.8.4"]);
        assert_eq!(tree(&me, &view, Versions::Hidden), ["Chief", "|- One", "|  |- Three", "|  `- Four", "`- Two"]);
    }

    #[test]
    fn addresses_may_be_several_and_written_as_eggdrop_writes_tls() {
        let all = addresses("hub.example:+3334, [::1]:3333").unwrap();
        let all: Vec<String> = all.iter().map(BotAddr::to_string).collect();
        assert_eq!(all, ["hub.example:3334", "[::1]:3333"]);
        assert!(addresses("hub.example").is_err() && addresses("").unwrap().is_empty());
    }
}
